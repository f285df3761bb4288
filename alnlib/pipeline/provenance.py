"""What a run was made with: commit, versions, device, times. All of it changes from run to run and is git-ignored.

What a stage's result depends on is hashed in `alnlib.pipeline.cache`.
"""

from __future__ import annotations

import csv
import json
import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from alnlib.files import write_json

RECORDED_PACKAGES = (
    "numpy", "pandas", "scipy", "scikit-learn", "statsmodels", "torch", "torchvision", "monai", "pyradiomics", "pydicom",
    "papermill", "matplotlib", "seaborn", "xgboost", "lightgbm",
)  # fmt: skip

LOG_COLUMNS = (
    "started", "notebook", "status", "seconds", "parameters", "inputs_sha256", "outputs_sha256", "commit", "device", "python",
    "torch",
)  # fmt: skip


def commit_of(root: Path) -> str:
    """Commit of the checkout, with "+changes" if files differ from it; "no git" outside a checkout."""

    def git(*command: str) -> str:
        return subprocess.run(["git", *command], cwd=root, capture_output=True, text=True, check=True).stdout.strip()

    try:
        return git("rev-parse", "HEAD") + ("+changes" * bool(git("status", "--porcelain", "--untracked-files=no")))
    except (OSError, subprocess.CalledProcessError):
        return "no git"


def versions() -> dict[str, str]:
    """Installed versions of the packages that results depend on."""
    found = {"python": platform.python_version()}
    for name in RECORDED_PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "absent"
    return found


def accelerator() -> str:
    """Name of the first NVIDIA GPU as its driver tells it, or "cpu"; asked without importing torch."""
    try:
        command = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
        told = subprocess.run(command, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return "cpu"
    return told.stdout.strip().splitlines()[0] if told.returncode == 0 and told.stdout.strip() else "cpu"


def now() -> str:
    """Time of day in UTC, to the second."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def append_log(path: Path, row: Mapping[str, Any]) -> None:
    """Add a line to run_log.csv; the columns are LOG_COLUMNS, mappings are stored as JSON."""
    fresh = not path.exists()
    with open(path, "a", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, LOG_COLUMNS, lineterminator="\n")
        if fresh:
            writer.writeheader()
        cells = {
            name: json.dumps(value, sort_keys=True) if isinstance(value, Mapping) else value
            for name, value in row.items()
        }
        writer.writerow(cells)


def write_provenance(path: Path, root: Path, command: list[str], settings: Mapping[str, Any]) -> None:
    """Write provenance.json: the command, its settings, commit, versions and machine."""
    machine = {"system": platform.platform(), "processor": platform.machine(), "cores": os.cpu_count()}
    content = {"written": now(), "command": command, "settings": dict(settings), "commit": commit_of(root)}
    content |= {"versions": versions(), "machine": machine | {"accelerator": accelerator()}}
    write_json(content | {"executable": sys.executable}, path)
