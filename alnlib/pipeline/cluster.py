"""Stages on the workers of an existing Dask cluster: who may take part, and what a lost worker or scheduler leaves.

Which stage runs, and what becomes of its files, is the runner's; a worker runs it as `alnlib.pipeline.execute` does here.
"""

from __future__ import annotations

import platform
import re
import secrets
from collections.abc import Iterator
from concurrent.futures import CancelledError, Executor, Future
from contextlib import contextmanager
from pathlib import Path

from alnlib.errors import InputError
from alnlib.memo import versions
from alnlib.pipeline.execute import Outcome, StageRun, run_in_process

CONNECT_SECONDS = 10
TOKEN = ".cluster"
"""File in a run's folder by which a worker proves that it sees the same one."""

LOCKED = re.compile(r"^([A-Za-z0-9_.-]+)==", re.MULTILINE)


@contextmanager
def cluster_executor(address: str, root: Path, folder: Path) -> Iterator[Executor]:
    """The workers of the Dask scheduler at tcp://HOST:PORT as an executor of `run_on_worker`.

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
            said = client.run(environment, str(root), str(token), on_error="return")
            own = environment(str(root), str(token))
            told = [f"{worker}: {how}" for worker, other in sorted(said.items()) if (how := difference(own, other))]
            if told:
                shown = "; ".join(told[:5])
                raise InputError(
                    f"--cluster {address}: {len(told)} of {len(said)} workers would give other results or none ({shown}); "
                    "start workers in the repository's folder with its .venv/bin/dask, on machines that see all folders under "
                    "the same paths"
                )
            yield client.get_executor(pure=False, retries=0)
        finally:
            token.unlink(missing_ok=True)


def environment(root: str, token: str) -> dict[str, str]:
    """What the results of a stage depend on where this runs: Python, the packages of the lock, and the token that it sees."""
    lock = Path(root, "requirements.lock")
    packages = versions(*LOCKED.findall(lock.read_text(encoding="utf-8"))) if lock.is_file() else {}
    seen = Path(token).read_text(encoding="utf-8") if Path(token).is_file() else ""
    return {"Python": platform.python_version(), "folder": seen} | packages


def difference(own: dict[str, str], other: dict[str, str] | BaseException) -> str:
    """In words how a worker's `environment` differs, for a message; empty where it does not."""
    if isinstance(other, BaseException):
        return f"{type(other).__name__}: {other}"
    if own["folder"] != other["folder"]:
        return "does not see the folder of results"
    names = [name for name in own | other if own.get(name) != other.get(name)]
    return ", ".join(f"{name} {other.get(name, 'missing')} for {own.get(name, 'none')}" for name in names[:3])


def run_on_worker(spec: StageRun, own: dict[str, str], hours: float) -> Outcome:
    """`run_in_process` by a worker, which may have joined later than the others were looked at. own: `environment` of the run
    less its token."""
    here = environment(spec.root, "")
    how = difference(own | {"folder": ""}, here)
    if how:
        return Outcome(
            0.0, {"name": "OtherWorker", "message": f"a worker that joined later differs: {how}", "cell": None}
        )
    return run_in_process(spec, hours=hours)


def outcome_of(future: Future) -> Outcome:
    """What a stage came to; a worker that died each time or a scheduler that is gone is an error of the stage."""
    try:
        return future.result()
    except CancelledError:
        message = "the Dask scheduler is gone; start it again, or leave out --cluster, and run again: what had ended well is kept"
    except Exception as error:
        message = f"its workers were lost ({type(error).__name__}); look at their logs, most likely memory ran out"
    return Outcome(0.0, {"name": "Lost", "message": message, "cell": None})
