"""How long a newcomer waits: `python benchmarks/newcomer.py` walks the commands of docs/newcomer.md from nothing.

Clones this commit into a temporary folder, lets run_all.py build its .venv there with an empty cache of packages (which needs
the network and 10 GB of disk), and runs every command after it in that environment. Writes newcomer.csv beside this file: wall
seconds of each. Reading is not measured.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from datetime import date
from pathlib import Path

import pandas as pd

from alnlib.arithmetic import processor
from alnlib.files import write_csv
from alnlib.paths import repository_root

LESSON = "notebooks/lessons/01_split_by_image.ipynb"
STEPS = {
    "install": "python3 run_all.py --list",
    "run": "python3 run_all.py",
    "report": "python3 run_all.py report",
    "lesson": f".venv/bin/python -m jupyter nbconvert --to notebook --execute --output-dir executed {LESSON}",
    "change": "python3 run_all.py --run mine --set 22.crop=fixed_size --to 22",
    "compare": "python3 run_all.py verify mine simulated-demo",
    "evaluate": "python3 run_all.py evaluate alneval/example.csv --provenance simulated",
}
"""{step: what is typed}, in the order of the page."""

MOVED = 1
"""Exit status of `verify` for two runs that differ, as these do."""


def walk(clone: Path, packages: Path) -> pd.DataFrame:
    """step, command, seconds of every command, in a fresh clone. CalledProcessError if one fails."""
    ours = ("ALN_ENVIRONMENT", "PYTHONPATH", "VIRTUAL_ENV")
    environment = {name: value for name, value in os.environ.items() if name not in ours}
    environment |= {"PIP_CACHE_DIR": str(packages), "JUPYTER_PREFER_ENV_PATH": "1"}
    rows = []
    for step, command in STEPS.items():
        words = [sys.executable if word == "python3" else word for word in command.split()]
        begun = time.monotonic()
        status = subprocess.run(words, cwd=clone, env=environment).returncode
        rows.append({"step": step, "command": command, "seconds": round(time.monotonic() - begun, 1)})
        if status not in ({0, MOVED} if step == "compare" else {0}):
            raise subprocess.CalledProcessError(status, command)
        shutil.rmtree(packages, ignore_errors=True)
    return pd.DataFrame(rows)


def main() -> None:
    """Walk the path and write the table."""
    with tempfile.TemporaryDirectory() as folder:
        clone, root = Path(folder) / "clone", str(repository_root())
        subprocess.run(["git", "clone", "--quiet", root, str(clone)], check=True)
        head = ["git", "-C", str(clone), "rev-parse", "--short=7", "HEAD"]
        commit = subprocess.run(head, check=True, capture_output=True, text=True).stdout.strip()
        table = walk(clone, Path(folder) / "packages")
    about = {"cores": os.cpu_count(), "date": date.today().isoformat(), "commit": commit, "processor": processor()}
    write_csv(table.assign(**about), Path(__file__).with_suffix(".csv"))


if __name__ == "__main__":
    main()
