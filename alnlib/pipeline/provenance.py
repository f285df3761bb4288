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
from pathlib import Path
from typing import Any

from alnlib import memo
from alnlib.arithmetic import arithmetic, processor
from alnlib.files import write_json

RECORDED_PACKAGES = (
    "numpy", "pandas", "scipy", "scikit-learn", "statsmodels", "torch", "torchvision", "monai", "pyradiomics", "pydicom",
    "papermill", "matplotlib", "seaborn", "xgboost", "lightgbm",
)  # fmt: skip


def now() -> str:
    """Time of day in UTC, to the second."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _told_by(*command: str, folder: Path | None = None) -> str | None:
    """What a command prints; None if it is not there or fails."""
    try:
        told = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return told.stdout.strip()


def commit_of(root: Path) -> str:
    """Commit of the checkout, with "+changes" if files differ from it; "no git" outside a checkout."""
    commit = _told_by("git", "rev-parse", "HEAD", folder=root)
    changes = _told_by("git", "status", "--porcelain", "--untracked-files=no", folder=root)
    return "no git" if commit is None or changes is None else commit + "+changes" * bool(changes)


def accelerator() -> str:
    """Name of this machine's first GPU, asked of its driver without importing torch; "cpu" if there is none."""
    gpus = _told_by("nvidia-smi", "--query-gpu=name", "--format=csv,noheader")
    return gpus.splitlines()[0] if gpus else "cpu"


def write_diary(
    folder: Path, root: Path, stage: Mapping[str, Any], uses_gpu: bool, settings: Mapping[str, Any]
) -> None:
    """Add a stage to the run folder's run_log.csv, mappings as JSON, and write provenance.json anew.

    stage: the first columns of the log; settings: what the run was asked for.
    """
    gpu, commit = accelerator(), commit_of(root)
    versions = {"python": platform.python_version(), **dict.fromkeys(RECORDED_PACKAGES, "absent")}
    versions |= memo.versions(*RECORDED_PACKAGES)

    row = {**stage, "commit": commit, "device": gpu if uses_gpu else "cpu"}
    row |= {name: versions[name] for name in ("python", "torch")}
    log = folder / "run_log.csv"
    fresh = not log.exists()
    with open(log, "a", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        if fresh:
            writer.writerow(row)
        cells = row.values()
        writer.writerow(json.dumps(cell, sort_keys=True) if isinstance(cell, Mapping) else cell for cell in cells)

    machine = {"system": platform.platform(), "processor": processor(), "cores": os.cpu_count()}
    content = {"written": now(), "command": sys.argv, "executable": sys.executable, "settings": dict(settings)}
    content |= {"commit": commit, "versions": versions, "machine": machine | {"accelerator": gpu}}
    content |= {"arithmetic": arithmetic()}
    write_json(content, folder / "provenance.json")
