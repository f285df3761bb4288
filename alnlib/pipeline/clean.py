"""What may go of a run: caches, leftovers of runs that ended early, and of a scratch run all of it.

Nothing here is a result that cannot be made again by `run_all.py`.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from alnlib.errors import InputError
from alnlib.paths import data_root, results_folder
from alnlib.pipeline.runner import is_reference, one_run

CACHES = {
    "checkpoints": "fits and repeats are then made again",
    "crops": "images are then cut, and features measured, again",
    "failed": "notebooks of stages that failed",
    ".staging": "left by a run that was killed",
    ".site": "left by a report that was not finished",
}
"""{folder of a run: what its loss means}."""

RECIPE = "simulation.json"
"""A data folder with this file is a simulated cohort, which stage 01 makes again."""


@dataclass(frozen=True)
class Removable:
    """Something that may go. size: bytes."""

    path: Path
    size: int
    loss: str

    def __str__(self) -> str:
        place = "/".join(self.path.parts[-2 if self.path.parent.name in ("results", "data") else -3 :])
        return f"{self.size / 1e6:9.1f} MB  {place} ({self.loss})"


def removable(run: str | None, whole: bool = False) -> list[Removable]:
    """What may go of a run, or of all that are here, the largest first.

    whole: the run's folder, and the simulated cohort of its name. Raises InputError for a run that is not there, and for a
    reference run as a whole.
    """
    if whole and (run is None or is_reference(run)):
        named = f"results/{run} is a reference run" if run else "name the run that is to go"
        raise InputError(f"clean --whole: {named}; only runs of your own, as `--run NAME` makes them, go as a whole")
    folders = [results_folder() / run] if run else sorted(path for path in results_folder().glob("*") if path.is_dir())
    if run and ("/" in run or not folders[0].is_dir()):
        here = ", ".join(sorted(path.name for path in results_folder().glob("*") if path.is_dir()))
        raise InputError(f"clean {run}: there is no such run below {results_folder()}; there are {here or 'none'}")
    paths = [(folder / name, loss) for folder in folders for name, loss in CACHES.items()]
    if whole:
        paths = [(folders[0], "the run")]
        data = data_root() / "data" / run
        paths += [(data, "its simulated patients")] * (data / RECIPE).is_file()
    found = [Removable(path, _size(path), loss) for path, loss in paths if path.is_dir() and not path.is_symlink()]
    return sorted((one for one in found if one.size), key=lambda one: -one.size)


def remove(things: Sequence[Removable]) -> None:
    """Remove them; InputError for those of a run that is under way."""
    for thing in things:
        run = next((path for path in (thing.path, thing.path.parent) if path.parent == results_folder()), None)
        if run is None:
            shutil.rmtree(thing.path)
            thing.path.with_name(f".{thing.path.name}.made").unlink(missing_ok=True)  # of `alnlib.cohorts.sources`
            continue
        with one_run(run):
            shutil.rmtree(thing.path)


def _size(folder: Path) -> int:
    files = (path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    return sum(path.stat().st_size for path in files)
