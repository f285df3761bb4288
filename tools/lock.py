"""Write requirements.lock, requirements-evaluate.lock and environment.yml from pyproject.toml: `python tools/lock.py [--upgrade]`
(needs uv; see CONTRIBUTING.md).

requirements.lock pins every package with hashes and holds no index address; requirements-evaluate.lock is the part of it that
predictions, lessons and committed results need; environment.yml names the same versions for conda.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LOCK = ROOT / "requirements.lock"
SMALL_LOCK = ROOT / "requirements-evaluate.lock"
ENVIRONMENT = ROOT / "environment.yml"

HEADER = """\
# Every package of the compendium, pinned with hashes, for Python 3.11 on Linux, macOS and Windows.
# Written by tools/lock.py from pyproject.toml; do not edit. run_all.py installs it into .venv.
"""
SMALL_HEADER = """\
# The part of requirements.lock, line for line, that is needed to evaluate predictions, to take the lessons and to read the
# committed results: no torch, no reader of images. Written by tools/lock.py; do not edit. docs/ways_in.md tells its use.
"""
ENVIRONMENT_HEADER = """\
# The same versions as requirements.lock, for conda. Written by tools/lock.py; tests/test_environment.py compares the two.
#
#     PIP_NO_BUILD_ISOLATION=0 conda env create -f environment.yml
#     conda activate aln-compendium
#     python run_all.py
#
# PIP_NO_BUILD_ISOLATION=0 is pip's spelling of "no build isolation": pyradiomics 3.0.1 is compiled against the numpy
# that conda installs first. Inside this environment run_all.py installs nothing.
"""
COMPILED_AGAINST = ("numpy", "cython", "setuptools", "versioneer", "wheel")
"""Packages that conda installs before pip starts, because pyradiomics is compiled against them."""

PIN = re.compile(r"^(?P<name>[A-Za-z0-9_.-]+)==(?P<version>[^\s;\\]+)\s*(?:;\s*(?P<marker>[^\\]+?))?\s*\\?$")


def normalized(name: str) -> str:
    """Package name as PEP 503 compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def blocks_of(text: str) -> dict[str, str]:
    """{normalized name: its lines, hashes included} of a lock's text."""
    blocks = re.findall(r"^[A-Za-z0-9].*\n(?:    .*\n?)*", text, flags=re.MULTILINE)
    return {normalized(re.match(r"[A-Za-z0-9_.-]+", block)[0]): block for block in blocks}


def read_pins(lock: Path = LOCK) -> dict[str, tuple[str, str]]:
    """{normalized name: (version, environment marker or "")} in the order of the lock."""
    pins = {}
    for line in lock.read_text(encoding="utf-8").splitlines():
        if found := PIN.match(line):
            pins[normalized(found["name"])] = (found["version"], (found["marker"] or "").strip())
    return pins


def direct_dependencies(extra: str = "full") -> list[str]:
    """Normalized names of the packages that the extra of pyproject.toml asks for, in its order."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    declared = project["optional-dependencies"][extra]
    return [normalized(re.match(r"[A-Za-z0-9_.-]+", requirement)[0]) for requirement in declared]


def compile_lock(upgrade: bool) -> str:
    """The text of requirements.lock, resolved by uv for every platform at once; versions that it holds stay unless `upgrade`."""
    command = ["uv", "pip", "compile", "pyproject.toml", "--universal", "--python-version", "3.11", "--generate-hashes"]
    command += ["--extra", "full", "--no-emit-index-url", "--no-header", "--no-annotate", "--quiet"]
    command += ["--fork-strategy", "fewest"]  # one version of a package for all of 3.11, Debian's 3.11.2 included
    command += ["--upgrade"] if upgrade else ["--output-file", str(LOCK)]  # a lock that is there says what to keep
    text = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    text = text if upgrade else LOCK.read_text(encoding="utf-8")
    # [tool.uv] limits the lock to these, so that the marker is true of every line and only clutters it
    everywhere = "python_full_version < '3.12' and sys_platform != 'emscripten'"
    text = re.sub(rf" ; {re.escape(everywhere)}( and )?", lambda found: " ; " if found[1] else "", text)
    return HEADER + text.replace("python_full_version < '3.12' and ", "").replace(
        " and sys_platform != 'emscripten'", ""
    )


def small_lock_text() -> str:
    """The text of requirements-evaluate.lock: what uv says that the extras need, as requirements.lock pins it."""
    command = ["uv", "pip", "compile", "pyproject.toml", "--universal", "--python-version", "3.11", "--quiet"]
    command += ["--extra", "evaluate", "--extra", "read", "--constraint", str(LOCK), "--fork-strategy", "fewest"]
    needed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    names = {normalized(found["name"]) for line in needed.splitlines() if (found := PIN.match(line))}
    return SMALL_HEADER + "".join(
        block for name, block in blocks_of(LOCK.read_text(encoding="utf-8")).items() if name in names
    )


def environment_text(pins: dict[str, tuple[str, str]]) -> str:
    """The text of environment.yml: Python and the build requirements from conda, everything else at the locked version by pip."""
    direct = [name for name in direct_dependencies() if name not in COMPILED_AGAINST]
    lines = [ENVIRONMENT_HEADER, "name: aln-compendium", "channels: [conda-forge, nodefaults]", "dependencies:"]
    lines += ["  - python=3.11", "  - pip", "  - cxx-compiler"]
    lines += [f"  - {name}={pins[name][0]}" for name in COMPILED_AGAINST]
    lines += ["  - pip:", "      # what the compendium asks for"]
    lines += [_pip_line(name, pins) for name in direct]
    lines += ["      # what those need"]
    lines += [_pip_line(name, pins) for name in pins if name not in direct and name not in COMPILED_AGAINST]
    lines += ["      # the compendium's own library", "      - --editable .", ""]
    return "\n".join(lines)


def _pip_line(name: str, pins: dict[str, tuple[str, str]]) -> str:
    version, marker = pins[name]
    requirement = f"{name}=={version}" + (f" ; {marker}" if marker else "")
    return f'      - "{requirement}"' if marker else f"      - {requirement}"


def main() -> int:
    """Write the files; with --environment-only keep the locks as they are, with --upgrade take the newest versions."""
    if "--environment-only" not in sys.argv[1:]:
        LOCK.write_text(compile_lock("--upgrade" in sys.argv[1:]), encoding="utf-8", newline="\n")
        SMALL_LOCK.write_text(small_lock_text(), encoding="utf-8", newline="\n")
    ENVIRONMENT.write_text(environment_text(read_pins()), encoding="utf-8", newline="\n")
    counts = [f"{lock.name}: {len(read_pins(lock))} packages" for lock in (LOCK, SMALL_LOCK)]
    print(f"{'; '.join(counts)}; {ENVIRONMENT.name} written")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
