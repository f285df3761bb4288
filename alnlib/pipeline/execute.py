"""Run one stage's notebook by papermill in a process of its own: `python -m alnlib.pipeline.execute SPEC.json`.

Which stage to run, and what to do with its files, the runner decides; this can run on any machine that sees the folders.
"""

from __future__ import annotations

import base64
import ctypes
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from alnlib.arithmetic import reference_arithmetic
from alnlib.files import palette_png, write_json, write_text

THREADS = 2
"""Threads of every numerical library in a stage, whatever the machine: sums split otherwise round otherwise."""

FIXED_SETTINGS = {
    "OMP_NUM_THREADS": str(THREADS),
    "OPENBLAS_NUM_THREADS": "1",  # numpy's products are small here, and its threads wait by spinning
    "MKL_NUM_THREADS": str(THREADS),
    "OMP_WAIT_POLICY": "PASSIVE",  # threads that wait by spinning made training 14 times slower beside another busy process
    "MALLOC_MMAP_THRESHOLD_": str(2**25),  # glibc: arrays up to 32 MiB are reused,
    "MALLOC_TRIM_THRESHOLD_": str(2**30),  # and not given back to the system and zeroed again by it, each time
    "CUBLAS_WORKSPACE_CONFIG": ":4096:8",  # read when torch is imported; without it cuBLAS may differ from run to run
    "PYTHONHASHSEED": "0",
    "MPLBACKEND": "module://matplotlib_inline.backend_inline",
    "TQDM_DISABLE": "1",
    "PYDEVD_DISABLE_FILE_VALIDATION": "1",
}
"""Environment of every kernel, set before anything is imported there."""

STARTS = 3
"""Of a kernel at most: its ports are chosen, freed and given to it, and it dies where another program was quicker to take one."""

PR_SET_PDEATHSIG = 1
"""Of Linux' prctl: the signal that a process gets when the thread that started it ends."""

DIED_AT_START = "Kernel died before replying to kernel_info"
"""As jupyter_client 8.10 says it."""

HOURS = 24.0
"""A stage may take, unless the user says otherwise; the longest of the published sizes takes about one on two cores."""

REMEDIES = {
    r"DeadKernel|Kernel died|(Terminated|Killed)Worker|MemoryError|nable to allocate|t allocate memory|out of memory|status -9": (
        "memory ran out, most likely: close other programs, run with --jobs 1, or ask for less (a smaller profile, or --set "
        "with --run)"
    ),
    r"No space left|quota exceeded|File too large": (
        "the disk is full: free space (`python3 run_all.py clean` lists what may go) and run again"
    ),
    r"Read-only file system|Permission denied|Operation not permitted": (
        "nothing can be written there: mend the permissions, or name another folder for results in ALN_RESULTS"
    ),
    r"Is a directory|Not a directory|Directory not empty": "something else stands in the place of a file: move it away",
}
"""{what stands in the error that ended a stage: what it means and what to do}."""


@dataclass(frozen=True)
class StageRun:
    """Everything that a process needs to run one stage; plain values, so that it travels as JSON."""

    notebook: str
    source: str
    staging: str
    parameters: dict[str, Any]
    root: str
    results: str


@dataclass(frozen=True)
class Outcome:
    """How a stage's process ended. error: {"name", "message", "cell"} of the exception, or None."""

    seconds: float
    error: dict[str, Any] | None = None
    trail: tuple[str, ...] = ()


def remedy_of(error: str) -> str:
    """What to do about an error of the machine, as words to follow its message; empty for any other."""
    told = next((remedy for pattern, remedy in REMEDIES.items() if re.search(pattern, error)), "")
    return told and f"; {told}"


def kernel_environment() -> dict[str, str]:
    """Environment of every kernel: the reference arithmetic where the user has not set another, and FIXED_SETTINGS."""
    return reference_arithmetic() | os.environ | FIXED_SETTINGS


def run_in_process(
    spec: StageRun,
    started: list[subprocess.Popen] | None = None,
    hours: float = HOURS,
    more: Mapping[str, str] | None = None,
) -> Outcome:
    """Run a stage in a fresh interpreter and wait for it, at most `hours`: then it is ended with all that it started.

    started: the process is appended, so that a caller can end it. more: environment variables of it.
    """
    staging = Path(spec.staging)
    shutil.rmtree(staging, ignore_errors=True)  # of a worker that was lost in the middle
    staging.mkdir(parents=True, exist_ok=True)
    spec_file = write_json(asdict(spec), staging / ".spec.json")
    environment = kernel_environment()
    environment |= {"ALN_ROOT": spec.root, "ALN_RESULTS": spec.results, "ALN_STAGING": spec.staging}
    environment |= more or {}
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [spec.root, os.environ.get("PYTHONPATH")]))
    begun = time.monotonic()
    command = [sys.executable, "-m", "alnlib.pipeline.execute", str(spec_file)]
    with open(staging / ".log", "w", encoding="utf-8") as log:
        process = subprocess.Popen(
            command, cwd=spec.root, env=environment, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
        if started is not None:
            started.append(process)
        try:
            status = process.wait(hours * 3600)
        except subprocess.TimeoutExpired:
            _end(process)
            return Outcome(time.monotonic() - begun, _over_time(staging, hours))
    seconds = time.monotonic() - begun
    with suppress(OSError, ValueError, KeyError):
        return Outcome(seconds, json.loads((staging / ".outcome.json").read_text(encoding="utf-8"))["error"])
    trail = tuple((staging / ".log").read_text(encoding="utf-8", errors="replace").splitlines()[-15:])
    full = ": No space left on device" if shutil.disk_usage(staging).free < 2**20 else ""
    return Outcome(
        seconds, {"name": "Died", "message": f"the process ended with status {status}{full}", "cell": None}, trail
    )


def _over_time(staging: Path, hours: float) -> dict[str, Any]:
    limit = f"{hours:g} h" if hours >= 1 else f"{hours * 3600:.3g} s"
    message = (
        f"still running after {limit}, so it was stopped; if it only needs longer, give more with --time-limit HOURS"
    )
    cell = ""
    with suppress(OSError):
        cell = (staging / ".progress").read_text(encoding="utf-8").partition("/")[0]
    return {"name": "TimeLimit", "message": message, "cell": int(cell) if cell.isdigit() else None}


def _end(process: subprocess.Popen) -> None:
    """Kill a stage's process, its kernel, which has a session of its own, and what that started."""
    family = _descendants(process.pid)
    process.kill()
    for pid in family:
        with suppress(OSError):
            os.kill(pid, signal.SIGTERM if os.name == "nt" else signal.SIGKILL)
    process.wait()


def _descendants(pid: int) -> list[int]:
    """Processes that a process started, and those that they did, as Linux lists them; elsewhere kernels end by themselves."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it has ended meanwhile
            # the name of a program, in parentheses, may hold anything
            parents[int(stat.parent.name)] = int(stat.read_text(errors="replace").rpartition(")")[2].split()[1])
    found = [pid]
    for parent in found:
        found += [child for child, of in parents.items() if of == parent]
    return found[1:]


def execute(spec: StageRun) -> dict[str, Any] | None:
    """Execute the notebook into staging/notebooks/. Returns the error that stopped it, or None. Progress goes to .progress."""
    # jsonschema would compile the grammar of a format that no notebook has: two seconds, as long as all the rest
    sys.modules.setdefault("rfc3987_syntax", None)  # type: ignore[arg-type]
    import papermill
    from papermill.engines import NBClientEngine, papermill_engines

    staging = Path(spec.staging)

    class ReportingEngine(NBClientEngine):
        """papermill's own engine; it also says which cell is running."""

        @classmethod
        def execute_managed_notebook(cls, nb_man, kernel_name, **options):
            total = len(nb_man.nb.cells)
            begin = nb_man.cell_start

            def cell_start(cell, cell_index=None, **more):
                write_text(f"{(cell_index or 0) + 1}/{total}", staging / ".progress")
                return begin(cell, cell_index, **more)

            nb_man.cell_start = cell_start
            return super().execute_managed_notebook(nb_man, kernel_name, **options)

    papermill_engines.register("aln", ReportingEngine)
    target = staging / "notebooks" / f"{spec.notebook}.ipynb"
    target.parent.mkdir(parents=True, exist_ok=True)
    how = {"engine_name": "aln", "kernel_name": "python3", "cwd": str(Path(spec.source).parent)}
    how |= {"progress_bar": False, "log_output": False}
    for left in reversed(range(STARTS)):
        error = None
        try:
            papermill.execute_notebook(spec.source, str(target), parameters=spec.parameters, **how)
        except Exception as failure:  # of a cell, or a full disk: the runner stops what depends on this stage
            if left and DIED_AT_START in str(failure):
                continue
            error = {"name": getattr(failure, "ename", type(failure).__name__)}
            error |= {"message": getattr(failure, "evalue", str(failure)), "cell": getattr(failure, "exec_count", None)}
        break
    if target.exists():
        notebook = clean_executed(json.loads(target.read_text(encoding="utf-8")))
        write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n", target)
    return error


def clean_executed(notebook: dict) -> dict:
    """An executed notebook without what changes from run to run: times, versions, host, random cell ids, split streams.

    Figures are stored with a palette of 256 colors, to keep committed notebooks small.
    """
    kernelspec = {"display_name": "Python 3", "language": "python", "name": "python3"}
    notebook["metadata"] = {"kernelspec": kernelspec, "language_info": {"name": "python"}}
    for number, cell in enumerate(notebook["cells"]):
        tags = cell["metadata"].get("tags")
        cell["metadata"] = {"tags": tags} if tags else {}
        cell["id"] = f"cell-{number:02d}"
        if cell["cell_type"] == "code":
            cell["outputs"] = _settled(cell["outputs"])
    return notebook


def _settled(outputs: list[dict]) -> list[dict]:
    """Neighboring pieces of one stream as one output, as where a stream is cut depends on timing; figures with a palette."""
    settled: list[dict] = []
    for (kind, _), group in groupby(outputs, lambda output: (output["output_type"], output.get("name"))):
        pieces = [dict(output) for output in group]
        if kind == "stream":
            text = "".join("".join(piece["text"]) for piece in pieces)
            pieces = [pieces[0] | {"text": text.splitlines(keepends=True)}]
        settled += pieces
    for output in settled:
        figure = output.get("data", {}).get("image/png")
        if figure:
            content = base64.b64decode("".join(figure))
            output["data"] = output["data"] | {"image/png": base64.b64encode(palette_png(content)).decode("ascii")}
    return settled


def main() -> int:
    """Read the specification named on the command line, execute, write .outcome.json beside it.

    On Linux the process ends with the run that started it, even if that was killed, and its kernel a second later, by itself.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    spec = StageRun(**json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))
    try:
        error = execute(spec)
        write_json({"error": error}, Path(spec.staging) / ".outcome.json")
    except OSError as failure:  # a full disk, of which nothing more can be written down
        print(failure, file=sys.stderr)
        return 1
    return 1 if error else 0


if __name__ == "__main__":
    raise SystemExit(main())
