"""Build the environment on the first run and continue inside it, with the standard library alone.

Nothing here may import a package that has to be installed, nor use syntax that an older Python cannot read:
a wrong Python has to reach the message that says so.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import textwrap
import time
from importlib.util import find_spec
from pathlib import Path

from alnlib.pipeline.usage import answer

ROOT = Path(__file__).resolve().parent.parent.parent
PYTHON = (3, 11)
DISK_GIB = 9
"""Free space in GiB that the environment needs while it is built (6.7 installed on Linux, most of it CUDA)."""

BUILD_PACKAGES = ("numpy", "cython", "setuptools", "versioneer", "wheel", "packaging")
"""Installed first: pyradiomics 3.0.1 is compiled against them, without build isolation."""

GPU_ONLY = (
    "triton",
    "cuda-bindings",
    "cuda-pathfinder",
    "nvidia-nccl-cu12",
    "nvidia-cuda-nvrtc",
    "nvidia-cusolver",
    "nvidia-nvtx",
)
"""Left out where ALN_GPU=no: on a CPU torch and xgboost start and compute without them, to the same bits. The other CUDA
libraries stay, because torch loads them when it is imported."""

PROBES = ("numpy", "pandas", "torch", "torchvision", "monai", "papermill", "nbval", "sklearn", "radiomics", "seaborn")
"""Modules whose presence says that an environment which we did not build is the compendium's."""

NO_NETWORK = (
    r"NewConnectionError|Failed to establish a new connection|name resolution|Name or service not known|Connection refused"
    r"|ProxyError|Max retries exceeded|ReadTimeoutError|ConnectTimeoutError|Network is unreachable|Could not fetch URL"
    r"|No matching distribution found"
)
NOT_COMPILED = r"(?s)(?=.*(pyradiomics|_cshape|_cmatrices)).*(error: command|Failed building wheel)"

PIP_FAULTS = {
    "DO NOT MATCH THE HASHES": (
        "a downloaded package does not have the checksum that requirements.lock asks for. A proxy or a mirror has changed "
        "it, or the download was cut: run again, with --no-cache-dir in PIP_NO_CACHE_DIR=1 if it persists"
    ),
    "No space left on device": (
        f"the disk is full. Make room (about {DISK_GIB} GiB; TMPDIR names the folder for temporary files) and run again"
    ),
    NO_NETWORK: (
        "the package index cannot be reached. Connect to the network, or set HTTPS_PROXY for a proxy, PIP_INDEX_URL for a "
        "mirror, or PIP_FIND_LINKS and PIP_NO_INDEX=1 for a folder of wheels, and run again; what was downloaded is kept"
    ),
    NOT_COMPILED: (
        "pyradiomics could not be compiled. On Debian or Ubuntu: `apt-get install build-essential python3.11-dev`; with "
        "conda: cxx-compiler, which environment.yml brings; then run again"
    ),
}
"""{what stands in pip's output: what it means and what to do}, of which the first that fits is told."""

PIP_STEP = r"\s*(Collecting|Downloading|Using cached|Building wheel for|Installing collected packages)\s*(\w*)"


class EnvironmentFault(Exception):
    """Something about this machine that the user can mend; the message is one paragraph with the remedy."""


def ensure_environment(arguments: list, usage: str = "", root: Path = ROOT) -> None:
    """Return if this interpreter is the compendium's environment; else build .venv where needed and re-execute inside it.

    arguments: the command line after run_all.py, of which `--version` and `--help` are answered at once. Ends the process with
    status 2 and one paragraph if the environment cannot be had. ALN_ENVIRONMENT=current takes the present interpreter as it is;
    ALN_GPU=no builds without `GPU_ONLY`.
    """
    venv, prefix = root / ".venv", Path(sys.prefix)
    inside = prefix.resolve() == venv.resolve()
    conda = (prefix / "conda-meta").is_dir() and prefix.name not in ("base", "miniconda3", "anaconda3")
    said = answer(arguments, usage)
    if said:
        print(said)
        sys.exit(0)
    if inside and _is_ready(venv, root):
        return
    try:
        if os.environ.get("ALN_ENVIRONMENT") == "current" or (conda and not inside):
            _check_given_environment()
            return
        if not _is_ready(venv, root):
            _ensure_right_python(root)
            _build(venv, root)
    except EnvironmentFault as fault:
        print("\n" + textwrap.fill(str(fault), 100, break_long_words=False, break_on_hyphens=False), file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("\nInterrupted; the next run goes on from here.", file=sys.stderr)
        sys.exit(130)
    _execute(_python_of(venv), [str(root / "run_all.py"), *arguments])


def _execute(python: Path, arguments: list) -> None:
    """Replace this process by another interpreter (Windows has no true exec: wait for the child and pass its status on)."""
    sys.stdout.flush()
    if os.name == "nt":
        sys.exit(subprocess.call([str(python), *arguments]))
    os.execv(str(python), [str(python), *arguments])


def _python_of(venv: Path) -> Path:
    return venv / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def _check_given_environment() -> None:
    """An environment made by the user (conda, a container): complete, or an error that names what is missing."""
    missing = [name for name in PROBES if find_spec(name) is None]
    if missing or sys.version_info[:2] != PYTHON:
        wrong = "missing: " + ", ".join(missing) if missing else "Python {}.{}".format(*sys.version_info[:2])
        raise EnvironmentFault(
            f"The environment at {sys.prefix} is not the compendium's ({wrong}). Update it with `PIP_NO_BUILD_ISOLATION=0 "
            "conda env update -n NAME -f environment.yml`, or leave it (conda deactivate, unset ALN_ENVIRONMENT) and run "
            "python3 run_all.py again: it then builds its own .venv."
        )


def _ensure_right_python(root: Path) -> None:
    """Go on under python3.11 if this interpreter is another one and a python3.11 is on the PATH."""
    if sys.version_info[:2] == PYTHON:
        return
    other = shutil.which("python3.11")
    works = other and subprocess.run([other, "-c", "import venv"], capture_output=True).returncode == 0
    if works and Path(other).resolve() != Path(sys.executable).resolve():
        _execute(Path(other), [str(root / "run_all.py"), *sys.argv[1:]])
    raise EnvironmentFault(
        "This is Python {}.{}; the compendium needs Python 3.11 (pyradiomics 3.0.1 does not build on 3.12 and later, and the "
        "locked numpy and pandas need at least 3.11). Install it and start again with it: on Debian 12 `apt-get install "
        "python3.11 python3.11-venv python3.11-dev`, with conda `PIP_NO_BUILD_ISOLATION=0 conda env create -f "
        "environment.yml`, with pyenv `pyenv install 3.11`; then `python3.11 run_all.py`.".format(*sys.version_info[:2])
    )


def _wanted(root: Path) -> str:
    """What the environment must have been built from: the lock, and where the repository stands (the editable install)."""
    return hashlib.sha256((root / "requirements.lock").read_bytes() + str(root).encode()).hexdigest()


def _is_ready(venv: Path, root: Path) -> bool:
    with contextlib.suppress(OSError, ValueError, KeyError):
        stamp = json.loads((venv / "aln-ready.json").read_text(encoding="utf-8"))
        return stamp["built_from"] == _wanted(root) and _python_of(venv).exists()
    return False


def _build(venv: Path, root: Path) -> None:
    """Make .venv whole: from nothing, from what an interrupted build left, or from an older lock."""
    with _one_builder(root / ".venv.lock"):
        if _is_ready(venv, root):  # another process built it while we waited
            return
        unfinished, ready = venv / "aln-building", venv / "aln-ready.json"
        if venv.exists() and not ready.exists() and not unfinished.exists():
            raise EnvironmentFault(
                f"{venv} exists but was not built by run_all.py, so it is left alone. Move it away and run again, or set "
                "ALN_ENVIRONMENT=current and start run_all.py with its own python if it holds what requirements.lock lists."
            )
        _check_machine(root)
        started = time.monotonic()
        if unfinished.exists() or (venv.exists() and not _python_of(venv).exists()):
            print("An earlier installation was interrupted, or its Python has gone; .venv is built anew.")
            shutil.rmtree(venv)
        fresh = not venv.exists()
        print(
            f"{'Building' if fresh else 'Updating'} .venv from requirements.lock (once; about two minutes).", flush=True
        )
        venv.mkdir(exist_ok=True)
        unfinished.touch()
        if fresh:
            _create(venv)
        ready.unlink(missing_ok=True)
        log, first, lock = venv / "install.log", venv / "build.lock", root / "requirements.lock"
        log.write_text("", encoding="utf-8")
        pins = _pins(lock)
        if os.environ.get("ALN_GPU") == "no":
            pins = {name: block for name, block in pins.items() if name not in GPU_ONLY}
            lock = venv / "without-gpu.lock"
            lock.write_text("\n".join(pins.values()) + "\n", encoding="utf-8")
        first.write_text("\n".join(pins[name] for name in BUILD_PACKAGES if name in pins) + "\n", encoding="utf-8")
        _pip(venv, log, "build tools", ["--require-hashes", "-r", str(first)])
        _pip(venv, log, "packages", ["--require-hashes", "--no-build-isolation", "-r", str(lock)], len(pins))
        _pip(venv, log, "alnlib", ["--no-build-isolation", "--editable", str(root)])
        ready.write_text(json.dumps({"built_from": _wanted(root)}), encoding="utf-8")
        unfinished.unlink()
        print(f".venv is ready ({time.monotonic() - started:.0f} s).", flush=True)


@contextlib.contextmanager
def _one_builder(lock: Path):
    """Let one process build at a time; another waits (without fcntl, as on Windows, there is no waiting)."""
    try:
        import fcntl
    except ImportError:
        yield
        return
    with open(lock, "w") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            print("Another run_all.py is building .venv; waiting for it.", flush=True)
            fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def _check_machine(root: Path) -> None:
    """A compiler, Python's headers and room on the disk, before anything is downloaded."""
    compiled = any(shutil.which(name) for name in os.environ.get("CC", "").split()[:1] or ("cc", "gcc", "clang"))
    header = Path(sysconfig.get_paths()["include"]) / "Python.h"
    if os.name != "nt" and not (compiled and header.exists()):
        lacking = f"Python's C headers ({header})" if compiled else "a C compiler"
        raise EnvironmentFault(
            f"pyradiomics 3.0.1 is compiled on installation and this machine lacks {lacking}. On Debian or Ubuntu: `apt-get "
            "install build-essential python3.11-dev`; on Fedora: `dnf install gcc python3.11-devel`; on macOS: "
            "`xcode-select --install`; with conda: environment.yml brings cxx-compiler. Then run again."
        )
    free = shutil.disk_usage(root).free / 2**30
    if free < DISK_GIB and not (root / ".venv").exists():
        raise EnvironmentFault(
            f"The environment needs about {DISK_GIB} GiB while it is built and {root} has {free:.1f} GiB left. Make room, "
            "or clone the repository to a larger disk."
        )


def _create(venv: Path) -> None:
    command = [getattr(sys, "_base_executable", sys.executable), "-m", "venv", str(venv)]
    made = subprocess.run(command, capture_output=True, text=True)
    if made.returncode:
        shutil.rmtree(venv, ignore_errors=True)
        reason = (made.stdout + made.stderr).strip().splitlines()[-1:] or ["no reason given"]
        raise EnvironmentFault(
            f"Python's venv module could not make .venv ({reason[0]}). On Debian or Ubuntu it is a package of its own: "
            "`apt-get install python3.11-venv`; then run again."
        )


def _pins(lock: Path) -> dict:
    """{package: the lines that pin it, hashes included} of what the lock has for every platform or for this one."""
    blocks = re.split(r"\n(?=\w)", lock.read_text(encoding="utf-8").rstrip())
    others = re.compile(f"#|.*sys_platform == '(?!{sys.platform}')")
    return {block.split("==")[0].lower(): block for block in blocks if not others.match(block)}


def _pip(venv: Path, log: Path, what: str, options: list, total: int = 0) -> None:
    """Run pip install, show a line of progress, keep its output in `log`; explain a failure."""
    command = [str(_python_of(venv)), "-m", "pip", "install", "--disable-pip-version-check", "--no-input"]
    command += ["--progress-bar", "off", "--no-deps", *options]
    progress = _Progress(what, total)
    said = []
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, encoding="utf-8", errors="replace"
    )
    try:
        with open(log, "a", encoding="utf-8") as stream:
            for line in process.stdout:
                stream.write(line)
                said.append(line)
                progress.see(line)
    except BaseException:
        process.terminate()
        process.wait()
        raise
    if process.wait():
        raise EnvironmentFault(_why_pip_failed("".join(said), what, log))
    progress.show("installed", last=True)


def _why_pip_failed(output: str, what: str, log: Path) -> str:
    last = ["nothing", *(line.strip() for line in output.splitlines() if line.strip())][-1]
    reason = next((told for pattern, told in PIP_FAULTS.items() if re.search(pattern, output)), f"pip says: {last}")
    return f"Installing the {what} failed: {reason}. The whole of pip's output is in {log}."


class _Progress:
    """One line that is rewritten on a terminal; elsewhere a line every fifteen seconds."""

    def __init__(self, what: str, total: int) -> None:
        self.what, self.total, self.seen, self.last = what, total, 0, time.monotonic()

    def see(self, line: str) -> None:
        step, size = re.match(PIP_STEP, line), re.search(r"\([\d.]+ [kMG]B\)", line)
        if step:
            self.seen += step[1] == "Collecting"
            self.show("{} {} {}".format(step[1].lower(), step[2], size[0] if size else ""))

    def show(self, doing: str, last: bool = False) -> None:
        counted = f" {self.total if last else min(self.seen, self.total)}/{self.total}" if self.total else ""
        text = f"  {self.what}{counted}: {doing}"
        if sys.stdout.isatty():
            print("\r" + text[:78].ljust(78), end="\n" if last else "", flush=True)
        elif last or time.monotonic() - self.last > 15:
            self.last = time.monotonic()
            print(text, flush=True)
