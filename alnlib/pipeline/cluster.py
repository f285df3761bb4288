"""Stages on the workers of an existing Dask cluster: who may take part, and what a lost worker or scheduler leaves.

Which stage runs, and what becomes of its files, is the runner's; a worker runs it as `alnlib.pipeline.execute` does here.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from concurrent.futures import CancelledError, Executor, Future
from contextlib import contextmanager
from pathlib import Path

from alnlib.errors import InputError
from alnlib.pipeline.execute import Outcome, StageRun, run_in_process
from alnlib.tasks import CLUSTER, LOST, difference, environment

CONNECT_SECONDS = 10
TOKEN = ".cluster"
"""File in a run's folder by which a worker proves that it sees the same one."""


@contextmanager
def cluster_executor(address: str, root: Path, folder: Path) -> Iterator[tuple[Executor, int]]:
    """The workers of the Dask scheduler at tcp://HOST:PORT as an executor of `run_on_worker`, and how many threads they have.

    root: the repository; folder: the run's. Every worker must see both under the same paths and have this environment. Raises
    InputError if nobody answers, there is no worker, or one is different; it names worker and difference.
    """
    from distributed import Client

    try:
        client = Client(address, timeout=CONNECT_SECONDS, set_as_default=False)
    except (OSError, TimeoutError, ValueError) as error:
        raise InputError(
            f"--cluster {address}: no Dask scheduler answers there ({type(error).__name__}); start one with `dask scheduler`, "
            "workers with `dask worker tcp://HOST:PORT`, and give its tcp:// address"
        ) from None
    token = folder / TOKEN
    with client:
        if not client.scheduler_info(n_workers=-1)["workers"]:
            raise InputError(
                f"--cluster {address}: the scheduler has no workers; start `dask worker {address}` on a machine"
            )
        token.write_text(secrets.token_hex(8), encoding="utf-8")
        try:
            said = client.run(_seen, str(root), str(token), on_error="return")
            own = _seen(str(root), str(token))
            told = [f"{worker}: {how}" for worker, other in sorted(said.items()) if (how := how_other(own, other))]
            if told:
                shown = "; ".join(told[:5])
                raise InputError(
                    f"--cluster {address}: {len(told)} of {len(said)} workers would give other results or none ({shown}); "
                    "start workers in the repository's folder with its .venv/bin/dask, on machines that see all folders under "
                    "the same paths"
                )
            yield client.get_executor(pure=False, retries=0), sum(client.nthreads().values())
        finally:
            token.unlink(missing_ok=True)


def _seen(root: str, token: str) -> tuple[dict[str, str], str]:
    """`environment` here, and what the token says that this machine sees."""
    return environment(root), Path(token).read_text(encoding="utf-8") if Path(token).is_file() else ""


def how_other(own: tuple[dict[str, str], str], other: tuple[dict[str, str], str] | BaseException) -> str:
    """In words how a worker is another than this machine, by the (environment, token) of both; empty where it is not."""
    if isinstance(other, BaseException):
        return f"{type(other).__name__}: {other}"
    return difference(own[0], other[0]) if own[1] == other[1] else "does not see the folder of results"


def run_on_worker(spec: StageRun, own: dict[str, str], hours: float) -> Outcome:
    """`run_in_process` by a worker, which may have joined later than the others were looked at. own: `environment` of the run.

    While the stage waits for the tasks of its loops (`alnlib.tasks`), the worker takes others.
    """
    from distributed import get_worker, secede

    how = difference(own, environment(spec.root))
    if how:
        return Outcome(
            0.0, {"name": "OtherWorker", "message": f"a worker that joined later differs: {how}", "cell": None}
        )
    scheduler = get_worker().scheduler.address
    secede()
    return run_in_process(spec, hours=hours, more={CLUSTER: scheduler})


def outcome_of(future: Future) -> Outcome:
    """What a stage came to; a worker that died each time or a scheduler that is gone is an error of the stage."""
    try:
        return future.result()
    except CancelledError:
        message = LOST
    except Exception as error:
        message = f"its workers were lost ({type(error).__name__}); look at their logs, most likely memory ran out"
    return Outcome(0.0, {"name": "Lost", "message": message, "cell": None})
