"""Where things are: the repository, its notebooks, data and results folders.

File formats and what is written where live in `alnlib.pipeline`, not here.
"""

from __future__ import annotations

import os
from pathlib import Path


def repository_root() -> Path:
    """Folder that holds run_all.py and notebooks/; the environment variable ALN_ROOT overrides it."""
    override = os.environ.get("ALN_ROOT")
    return Path(override).resolve() if override else Path(__file__).resolve().parent.parent


def notebooks_folder() -> Path:
    """Folder of the numbered notebooks."""
    return repository_root() / "notebooks"


def results_folder() -> Path:
    """Folder that holds one folder per run; the environment variable ALN_RESULTS overrides it."""
    override = os.environ.get("ALN_RESULTS")
    return Path(override).resolve() if override else repository_root() / "results"


def data_root() -> Path:
    """Folder that relative data folders count from: the repository, or the environment variable ALN_DATA_ROOT."""
    override = os.environ.get("ALN_DATA_ROOT")
    return Path(override).resolve() if override else repository_root()


def resolve_data(data: str | Path) -> Path:
    """An absolute data folder; a relative one counts from `data_root`."""
    path = Path(data).expanduser()
    return path if path.is_absolute() else (data_root() / path).resolve()
