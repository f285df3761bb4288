"""Heavy loops: tasks that need nothing of each other, on processes of this machine or on the workers of a Dask cluster.

A stage of a run with --cluster finds the scheduler's address in `CLUSTER`; each task of its loops is then one of the cluster.
A worker computes it in a process of its own with the settings of the stage, so what comes out does not depend on where.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import platform
import re
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import BrokenExecutor, CancelledError
from functools import cache
from pathlib import Path
from typing import Any

from alnlib.arithmetic import arithmetic, reference_arithmetic
from alnlib.errors import InputError
from alnlib.memo import versions
from alnlib.paths import repository_root

CLUSTER = "ALN_CLUSTER"
"""Environment variable: tcp://HOST:PORT of the scheduler whose workers compute the tasks of this process."""

ARITHMETIC = ("ATEN_", "MKL_CBWR", "NPY_", "ONEDNN_", "OPENBLAS_CORETYPE")
SENT = ("ALN_", "CUBLAS_", "MALLOC_", "MKL_", "OMP_", "OPENBLAS_", "PYTHONHASHSEED", "PYTHONPATH", *ARITHMETIC)
"""How the variables begin that a task on a worker sees as the stage does; the reference arithmetic is that of its processor."""

LOCKED = re.compile(r"^([A-Za-z0-9_.-]+)==", re.MULTILINE)

LOST = "the Dask scheduler is gone; start it again, or leave out --cluster, and run again: what had ended well is kept"

Work = Callable[..., Any]


def unordered(
    work: Work,
    tasks: Sequence[Any],
    shared: tuple = (),
    *,
    n_jobs: int = 1,
    settings: Mapping[str, str] | None = None,
    batch_size: int | str = "auto",
) -> Iterator[tuple[int, Any]]:
    """(number, work(task, *shared)) of every task, each as soon as it is there.

    All of it must be picklable. n_jobs: processes of this machine (1: this one); of a cluster all workers take part. settings:
    environment variables of these processes. batch_size: as joblib's. An error of a task is raised here; InputError where the
    cluster is lost or a worker would give other results.
    """
    address = os.environ.get(CLUSTER, "")
    if address and len(tasks) > 1:
        yield from _on_cluster(address, work, tasks, shared, dict(settings or {}))
    elif n_jobs == 1 or len(tasks) < 2:
        for number, task in enumerate(tasks):
            yield number, work(task, *shared)
    elif settings:
        from concurrent.futures import as_completed

        from joblib.externals.loky import get_reusable_executor

        with get_reusable_executor(max_workers=n_jobs, env=dict(settings)) as processes:
            numbers = {processes.submit(work, task, *shared): number for number, task in enumerate(tasks)}
            for done in as_completed(numbers):
                yield numbers.pop(done), done.result()
    else:
        from joblib import Parallel, delayed

        jobs = Parallel(n_jobs=n_jobs, return_as="generator_unordered", batch_size=batch_size)
        yield from jobs(delayed(_numbered)(work, number, task, shared) for number, task in enumerate(tasks))


def ordered(work: Work, tasks: Sequence[Any], shared: tuple = (), **options: Any) -> list[Any]:
    """What `unordered` gives, in the order of the tasks."""
    found = dict(unordered(work, tasks, shared, **options))
    return [found[number] for number in range(len(tasks))]


def _numbered(work: Work, number: int, task: Any, shared: tuple) -> tuple[int, Any]:
    return number, work(task, *shared)


# The side of the stage


@cache
def _client(address: str) -> Any:
    from distributed import Client

    logging.getLogger("distributed").setLevel(logging.CRITICAL)  # a lost worker is no output of a notebook
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a worker of other versions is refused when it gets a task
            return Client(address, set_as_default=False)
    except (OSError, TimeoutError) as error:
        raise InputError(f"--cluster {address}: {LOST}") from error


def _on_cluster(
    address: str, work: Work, tasks: Sequence[Any], shared: tuple, settings: dict[str, str]
) -> Iterator[tuple[int, Any]]:
    from distributed import as_completed

    client = _client(address)
    sent = {name: value for name, value in os.environ.items() if name.startswith(SENT) and name != CLUSTER}
    root = str(repository_root())
    about = (root, environment(root), sent, settings, arithmetic())
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Sending large graph")
        # a task of its own, so that the workers hand it on, and make it again where the one that held it is lost
        common = client.submit(_pair, work, shared, pure=False)
        numbers = {client.submit(_there, common, task, about, pure=False): number for number, task in enumerate(tasks)}
    try:
        for future in as_completed(list(numbers), loop=client.loop):
            yield numbers.pop(future), future.result()
    except CancelledError as error:
        raise InputError(f"--cluster {address}: {LOST}") from error
    finally:  # futures that nobody holds are dropped by the scheduler
        numbers.clear()


def _pair(work: Work, shared: tuple) -> tuple[Work, tuple]:
    return work, shared


# The side of a worker


def environment(root: str) -> dict[str, str]:
    """What results depend on where this runs: Python and the packages of the lock of the repository at `root`."""
    return {"Python": platform.python_version()} | _packages(Path(root, "requirements.lock"))


@cache
def _packages(lock: Path) -> dict[str, str]:
    return versions(*LOCKED.findall(lock.read_text(encoding="utf-8"))) if lock.is_file() else {}


def difference(own: Mapping[str, str], other: Mapping[str, str]) -> str:
    """In words how another `environment` differs, for a message; empty where it does not."""
    names = [name for name in own | other if own.get(name) != other.get(name)]
    return ", ".join(f"{name} {other.get(name, 'missing')} for {own.get(name, 'none')}" for name in names[:3])


def _there(common: tuple[Work, tuple], task: Any, about: tuple[str, dict, dict, dict, str]) -> Any:
    from distributed import get_worker

    root, own, sent, settings, computed = about
    worker = get_worker()
    if how := difference(own, environment(root)):
        raise InputError(
            f"worker {worker.address} would give other results ({how}); start it with the run's environment"
        )
    if computed == "reference":
        sent = {name: value for name, value in sent.items() if not name.startswith(ARITHMETIC)} | reference_arithmetic()
    processes = _processes(worker.state.nthreads, frozenset((sent | {CLUSTER: ""} | settings).items()))
    work, shared = common
    try:
        return processes.submit(_computed, work, task, shared, None if settings else computed).result()
    except BrokenExecutor:
        _processes.cache_clear()  # of which one has died, most likely of memory
        raise


@cache
def _processes(n: int, settings: frozenset[tuple[str, str]]) -> Any:
    from joblib.externals.loky import ProcessPoolExecutor

    multiprocessing.current_process().daemon = False  # of a nanny's worker, it may have none; `_end_with` ends them
    return ProcessPoolExecutor(n, env=dict(settings), initializer=_end_with, initargs=(os.getpid(),))


def _end_with(parent: int) -> None:
    """End this process a second after the worker that started it, even if that was killed."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _computed(work: Work, task: Any, shared: tuple, computed: str | None) -> Any:
    if computed not in (None, arithmetic()):
        raise InputError(f"this worker computes otherwise than the run ({arithmetic()} for {computed}); leave it out")
    return work(task, *shared)
