"""Crops decoded and resampled once: arrays on disk, memory-mapped, found again by the content they were made from.

What is cropped, and how, is the business of `stills`, `sampling`, `nodes` and `slices25d`.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
import pandas as pd

from alnlib.cohorts import schema
from alnlib.errors import InputError
from alnlib.files import atomic_path, sha256_file, write_json
from alnlib.imaging import lesion_volumes, nodes, sampling, slices25d, stills

FORMAT = 1

LIBRARIES = (
    "numpy",
    "pillow",
    "pydicom",
    "pylibjpeg",
    "pylibjpeg-openjpeg",
    "pylibjpeg-rle",
    "python-gdcm",
    "av",
    "nibabel",
    "simpleitk",
)
"""What decodes and resamples: another version may give other gray values."""

PIXEL_COLUMNS = tuple(column for column in schema.IMAGE_COLUMNS if column != "unit_label")
"""Columns of an images table on which a crop may depend. Labels are none of them."""

UNSETTLED_S = 2.0
"""A file changed this recently is read again the next time: a second change could leave size and times as they are.
File systems keep times to 2 s or better (FAT is the coarsest)."""

MEMORY = "file-hashes.json"

_MODALITY = {
    stills.crop_stills: None,
    sampling.crop_sweeps: "USV",
    sampling.key_frame_crops: "USV",
    nodes.crop_nodes: "CT",
    slices25d.crop_mri: "MRI",
    lesion_volumes.crop_volumes: "MRI",
}
_DETACHED = (".nhdr", ".mhd")
_WRITING = threading.Lock()


def cached_crops(
    make: Callable[..., np.ndarray],
    images: pd.DataFrame,
    root: str | Path,
    folder: str | Path,
    *,
    limit_gb: float = 8.0,
    **options: object,
) -> np.ndarray:
    """The crops of make(images, root, **options), read-only and memory-mapped from `folder`; made if they are not there.

    make: crop_stills, crop_sweeps, key_frame_crops, crop_nodes, crop_mri or crop_volumes; options and errors
    are its own. Shape and type are those of `make`. Crops are stored under the SHA-256 of everything they depend on: function
    and options, the code of this package, versions of the decoding libraries, the rows used (`PIXEL_COLUMNS`, of the
    right modality; of MRI all of the patients asked for) and the content of every file those rows name, folders of
    frames or slices included. Neither `root` nor labels enter, so a cohort may move.

    Files are not read again while their size, time of change and (on Linux and macOS) the time at which the system last
    noted a change of any kind stay the same; the latter cannot be set by hand. Stored crops are checked against their own
    SHA-256: damaged ones are made again. Processes may share a folder: a race costs time, never a wrong crop. When an
    array is added, others beyond limit_gb (10^9 bytes) are removed, those used longest ago first. A table without rows
    gives the empty array of `make`, which is not stored.

    Raises ValueError for another function, TypeError for options it does not have, InputError if nothing can be written.
    """
    if make not in _MODALITY:
        raise ValueError(f"{make!r} is none of {', '.join(known.__name__ for known in _MODALITY)}")
    folder, root = Path(folder), Path(root)
    bound = inspect.signature(make).bind(images, root, **options)
    bound.apply_defaults()
    settings = {name: _plain(value) for name, value in bound.arguments.items() if name not in ("images", "root")}
    rows = _rows_used(make, images, settings.get("patient_ids"))
    parts = {
        "format": FORMAT,
        "function": f"{make.__module__}.{make.__qualname__}",
        "options": settings,
        "code": _code(),
        "libraries": _versions(),
        "columns": list(rows.columns),
        "rows": [[None if pd.isna(cell) else str(cell) for cell in row] for row in rows.itertuples(index=False)],
        "files": _contents(rows, root, folder / MEMORY),
    }
    key = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
    path = folder / f"{make.__name__}-{key[:16]}.npy"
    crops = _read(path, key)
    if crops is None:
        # Only what is in the key: what a crop does not depend on cannot change it.
        made = make(rows, root, **options)
        if made.size == 0:
            return made
        described = {name: parts[name] for name in ("function", "options", "libraries")}
        _write(path, made, {"key": key, "rows": len(rows), **described})
        _keep_within(folder, limit_gb * 1e9, path)
        crops = _read(path, key)
        if crops is None:  # removed by another process that keeps to its own limit
            made.flags.writeable = False
            return made
    return crops


def _rows_used(
    make: Callable[..., np.ndarray], images: pd.DataFrame, patient_ids: Sequence[str] | None
) -> pd.DataFrame:
    """Rows and columns that `make` gets to see; of MRI every row of a patient, for masks are taken from other visits."""
    rows = images
    if _MODALITY[make] is not None:
        rows = rows[rows["modality"] == _MODALITY[make]]
    if patient_ids is not None:
        rows = rows[rows["patient_id"].isin(patient_ids)]
    return rows[[column for column in PIXEL_COLUMNS if column in rows]]


def _plain(value: object) -> object:
    """An option as JSON can hold it. Raises ValueError for what has no fixed written form."""
    if isinstance(value, (np.ndarray, pd.Series, pd.Index)):
        value = value.tolist()
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, (list, tuple)):
        return [_plain(part) for part in value]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise ValueError(f"option {value!r} is no number, text or list of these; crops made with it cannot be found again")


@cache
def _code() -> dict[str, str]:
    """Once per process, because the code that runs is the code that was there when it was imported."""
    package = sorted(Path(__file__).parent.glob("*.py"))
    return {path.name: sha256_file(path) for path in [*package, Path(schema.__file__)]}


@cache
def _versions() -> dict[str, str]:
    found = {}
    for name in LIBRARIES:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def _contents(rows: pd.DataFrame, root: Path, memory: Path) -> dict[str, object]:
    """Digest of each file that the rows name, by its name there; None where it is missing, which `make` will report."""
    named = {name for column in ("path", "mask_path") if column in rows for name in rows[column] if stills._given(name)}
    hashes = _FileHashes(memory)
    contents = {}
    for name in sorted(named):
        path = root / name
        if path.suffix.lower() in _DETACHED:  # the voxels are in another file of the folder
            path = path.parent
        contents[name] = hashes.of_folder(path) if path.is_dir() else hashes.of_file(path)
    hashes.save()
    return contents


class _FileHashes:
    """SHA-256 of files, remembered as long as what the file system says of them stays the same."""

    def __init__(self, memory: Path) -> None:
        self.memory = memory
        self.learned: dict[str, list] = {}
        self.known = self._stored()

    def of_file(self, path: Path) -> str | None:
        try:
            status = path.stat()
        except OSError:
            return None
        name = os.path.abspath(path)
        # The time of change of the entry (ctime) also moves where a tool puts the time of change of the content back.
        stamp = [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino]
        entry = self.known.get(name)
        if isinstance(entry, list) and entry[:-1] == stamp:
            return entry[-1]
        digest = sha256_file(path)
        if time.time() - max(status.st_mtime, status.st_ctime) > UNSETTLED_S:
            self.learned[name] = [*stamp, digest]
        return digest

    def of_folder(self, folder: Path) -> dict[str, str | None]:
        """Of the files directly in a folder, as readers look at them."""
        return {path.name: self.of_file(path) for path in sorted(folder.iterdir()) if path.is_file()}

    def save(self) -> None:
        if self.learned:
            with _WRITING, suppress(OSError):  # a convenience, not a result
                # Read again, so that what other processes learned meanwhile is kept, as far as it can be.
                write_json({**self._stored(), **self.learned}, self.memory)

    def _stored(self) -> dict[str, list]:
        try:
            content = json.loads(self.memory.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return content if isinstance(content, dict) else {}


def _read(path: Path, key: str) -> np.ndarray | None:
    """The array, noted as used now; None if it is missing, damaged or of another key."""
    try:
        described = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        if described["key"] != key or described["sha256"] != sha256_file(path):
            return None
        crops = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, KeyError, TypeError):  # no such file, or whatever a damaged description may hold
        return None
    with suppress(OSError):
        os.utime(path)
    return crops


def _write(path: Path, crops: np.ndarray, described: Mapping[str, object]) -> None:
    described = {**described, "shape": list(crops.shape), "dtype": str(crops.dtype)}
    with _WRITING:
        try:
            with atomic_path(path) as temporary:
                np.save(temporary, np.ascontiguousarray(crops), allow_pickle=False)
                described["sha256"] = sha256_file(temporary)
            write_json(described, path.with_suffix(".json"))
        except OSError as error:
            raise InputError(
                f"{path}: crops cannot be kept there ({error}); free space or name another folder"
            ) from error


def _keep_within(folder: Path, limit_bytes: float, asked_for: Path) -> None:
    used = []
    for path in folder.glob("*-" + "[0-9a-f]" * 16 + ".npy"):
        with suppress(OSError):  # another process was faster
            status = path.stat()
            used.append((path != asked_for, -status.st_mtime_ns, status.st_size, path))
    total = 0
    for removable, _, size, path in sorted(used):
        total += size
        if removable and total > limit_bytes:
            with suppress(OSError):  # Windows keeps a file that is mapped
                path.unlink()
                path.with_suffix(".json").unlink()
