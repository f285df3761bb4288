"""Send stages to an existing Dask cluster. Its workers must see the repository, the data and the results under the same paths.

Local runs need none of this.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Executor
from contextlib import contextmanager

from alnlib.errors import InputError

CONNECT_SECONDS = 15


@contextmanager
def cluster_executor(address: str) -> Iterator[Executor]:
    """A concurrent.futures executor on the scheduler at `address` (tcp://HOST:PORT); InputError if none answers."""
    from distributed import Client

    try:
        client = Client(address, timeout=CONNECT_SECONDS, set_as_default=False)
    except (OSError, TimeoutError, ValueError) as error:
        raise InputError(
            f"--cluster {address}: no Dask scheduler answers there ({type(error).__name__}); start one with `dask scheduler`, "
            "workers with `dask worker tcp://HOST:PORT`, and give its tcp:// address"
        ) from None
    try:
        if not client.scheduler_info()["workers"]:
            raise InputError(
                f"--cluster {address}: the scheduler has no workers; start `dask worker {address}` on a machine"
            )
        yield client.get_executor(pure=False, retries=0)
    finally:
        client.close()
