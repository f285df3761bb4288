"""Crops decoded and resampled once: arrays on disk, memory-mapped, found again by the content they were made from.

What is cropped, and how, is the business of `lesions`.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
import pandas as pd

from alnlib.cohorts import schema
from alnlib.imaging.lesions import crop
from alnlib.imaging.rows import is_given
from alnlib.imaging.spec import CropSpec
from alnlib.memo import MEMORY, FileDigests, code_of, keep_within, key_of, sealed_length, versions, write_sealed

FORMAT = 3

LIBRARIES = [
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
]
"""What decodes and resamples: another version may give other gray values."""

PIXEL_COLUMNS = tuple(column for column in schema.IMAGE_COLUMNS if column != "unit_label")
"""Columns of an images table on which a crop may depend. Labels are none of them."""


def cached_crops(
    images: pd.DataFrame,
    root: str | Path,
    folder: str | Path,
    spec: CropSpec,
    patient_ids: Sequence[str] | None = None,
    *,
    limit_gb: float = 8.0,
) -> np.ndarray:
    """`lesions.crop`, read-only and memory-mapped from `folder`; made if it is not there.

    Crops are stored under the SHA-256 of everything they depend on: the specification, the code that crops, versions of the
    decoding libraries, the rows used (`PIXEL_COLUMNS`, of the right modality and patients; of MRI all of theirs) and the
    content of every file those rows name, folders of frames or slices included. Neither `root` nor labels enter, so a cohort
    may move.

    Damaged files are made again. Processes may share a folder: a race costs time, never a wrong crop. Other arrays beyond
    limit_gb (10^9 bytes) are removed, those used longest ago first. A table without rows gives an empty array, which is not
    stored. Raises InputError as `crop`, and if nothing can be written.
    """
    folder, root = Path(folder), Path(root)
    rows = images[images["modality"] == spec.modality]
    rows = rows[[column for column in PIXEL_COLUMNS if column in rows]]
    if patient_ids is not None:
        patient_ids = [str(patient) for patient in patient_ids]
        rows = rows[rows["patient_id"].isin(patient_ids)]
    about = {"crop": spec.to_json(), "libraries": versions(*LIBRARIES)}
    key = key_of(
        format=FORMAT,
        code=code_of("alnlib.imaging.lesions"),
        columns=list(rows.columns),
        rows=[[None if pd.isna(cell) else str(cell) for cell in row] for row in rows.itertuples(index=False)],
        patients=patient_ids,
        files=_contents(rows, root, folder / MEMORY),
        **about,
    )
    path = folder / f"{spec.modality}-{key[:16]}.npy"
    if (crops := _read(path, key)) is None:
        # Only what is in the key: what a crop does not depend on cannot change it.
        made = crop(rows, root, spec, patient_ids)
        if made.size == 0:
            return made
        write_sealed(path, key, lambda temporary: np.save(temporary, made, allow_pickle=False), **about)
        keep_within(folder, "*-" + "[0-9a-f]" * 16 + ".npy", limit_gb, spare=path)
        if (crops := _read(path, key)) is None:  # removed by another process that keeps to its own limit
            made.flags.writeable = False
            return made
    return crops


def _contents(rows: pd.DataFrame, root: Path, memory: Path) -> dict[str, object]:
    """Digest of each file that the rows name, by its name there; None where it is missing, which `crop` will report."""
    named = {name for name in rows["path"] if is_given(name)}
    named |= {name for cell in rows.get("mask_path", ()) if is_given(cell) for name in schema.mask_files(cell)}
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
