"""Crops decoded and resampled once: arrays on disk, memory-mapped, found again by the content they were made from.

What is cropped, and how, is the business of `stills`, `sampling`, `nodes` and `slices25d`.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
import pandas as pd

from alnlib.cohorts import schema
from alnlib.imaging import lesion_volumes, nodes, sampling, slices25d, stills
from alnlib.memo import MEMORY, FileDigests, code_of, keep_within, key_of, sealed_length, versions, write_sealed

FORMAT = 2

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

_MODALITY = {
    stills.crop_stills: None,
    sampling.crop_sweeps: "USV",
    sampling.key_frame_crops: "USV",
    nodes.crop_nodes: "CT",
    slices25d.crop_mri: "MRI",
    lesion_volumes.crop_volumes: "MRI",
}


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
    and options, the code it imports, versions of the decoding libraries, the rows used (`PIXEL_COLUMNS`, of the
    right modality; of MRI all of the patients asked for) and the content of every file those rows name, folders of
    frames or slices included. Neither `root` nor labels enter, so a cohort may move.

    Damaged files are made again (`alnlib.memo`). Processes may share a folder: a race costs time, never a wrong crop. When
    an array is added, others beyond limit_gb (10^9 bytes) are removed, those used longest ago first. A table without rows
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
        "code": code_of(make.__module__),
        "libraries": versions(*LIBRARIES),
        "columns": list(rows.columns),
        "rows": [[None if pd.isna(cell) else str(cell) for cell in row] for row in rows.itertuples(index=False)],
        "files": _contents(rows, root, folder / MEMORY),
    }
    key = key_of(**parts)
    path = folder / f"{make.__name__}-{key[:16]}.npy"
    crops = _read(path, key)
    if crops is None:
        # Only what is in the key: what a crop does not depend on cannot change it.
        made = make(rows, root, **options)
        if made.size == 0:
            return made
        described = {name: parts[name] for name in ("function", "options", "libraries")}
        array = np.ascontiguousarray(made)
        write_sealed(path, key, lambda temporary: np.save(temporary, array, allow_pickle=False), **described)
        keep_within(folder, "*-" + "[0-9a-f]" * 16 + ".npy", limit_gb, spare=path)
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


def _contents(rows: pd.DataFrame, root: Path, memory: Path) -> dict[str, object]:
    """Digest of each file that the rows name, by its name there; None where it is missing, which `make` will report."""
    named = {name for column in ("path", "mask_path") if column in rows for name in rows[column] if stills._given(name)}
    digests = FileDigests(memory)
    contents = {name: digests.of_image(root / name) for name in sorted(named)}
    digests.save()
    return contents


def _read(path: Path, key: str) -> np.ndarray | None:
    """The array, noted as used now; None if it is missing, damaged or of another key."""
    if sealed_length(path, key) is None:
        return None
    try:
        crops = np.load(path, mmap_mode="r", allow_pickle=False)
    except OSError:  # removed by another process meanwhile
        return None
    with suppress(OSError):
        os.utime(path)
    return crops
