"""One row of an images table as its reader needs it: picture or sweep, mask, box and spacing, and whose they are.

Single files are read in `read`, `clips` and `volumes`; crops are cut in `lesions`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from alnlib.cohorts.schema import parse_box, parse_pixel_spacing
from alnlib.errors import InputError
from alnlib.imaging.clips import Clip, key_frame, read_clip
from alnlib.imaging.crop import EDGES, Box, box_from_mask
from alnlib.imaging.read import Image2D, read_image, read_mask


@dataclass(frozen=True)
class Still:
    """One image with what is known of its lesion. box: row0, col0, row1, col1, half open, from the table or the mask."""

    image: Image2D
    mask: np.ndarray | None
    box: Box | None


def read_still(row: pd.Series, root: str | Path) -> Still:
    """Read the image of one row of an images table, its mask if it has one, and its box.

    A spacing in the table overrides the file's. Raises InputError naming the file for what cannot be read.
    """
    image = read_image(Path(root, row["path"]), spacing_mm=parse_pixel_spacing(row["pixel_spacing_mm"]))
    box, mask = row_box(row), None
    if is_given(row["mask_path"]):
        mask = read_mask(Path(root, row["mask_path"]), image.pixels.shape)
        box = box or box_from_mask(mask, row["mask_path"])
    return Still(image, mask, box)


def read_sweep(row: pd.Series, root: str | Path) -> tuple[Clip, Box | None]:
    """Read the sweep of one row, and the box of its key frame, from the table or the mask. Raises InputError as `read_still`."""
    clip, box = read_clip(Path(root, row["path"]), parse_pixel_spacing(row["pixel_spacing_mm"])), row_box(row)
    if box is None and is_given(row["mask_path"]):
        box = box_from_mask(read_mask(Path(root, row["mask_path"]), clip.frames.shape[1:]), row["mask_path"])
    return clip, box


def key_frames(images: pd.DataFrame, root: str | Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For each row of modality USV in an images table its `key_frame` (n,), its number of frames (n,), and whether the file
    names the key frame (n,) bool, as only DICOM can; of the others it is the middle frame.
    """
    described = []
    for _, row in images[images["modality"] == "USV"].iterrows():
        with of_patient(row):
            clip, _ = read_sweep(row, root)
        described.append((key_frame(clip), len(clip.frames), clip.key_frame is not None))
    frames, lengths, named = np.array(described, dtype=np.int64).reshape(-1, 3).T
    return frames, lengths, named.astype(bool)


def of_patients(rows: pd.DataFrame, patient_ids: Sequence[str], what: str) -> pd.DataFrame:
    """The rows of each of these patients, in this order, indexed from 0. Raises InputError for one who has none."""
    lacking = [patient for patient in patient_ids if patient not in set(rows["patient_id"])]
    if lacking:
        raise InputError(
            f"patient {lacking[0]}: images.csv has no {what} ({len(lacking)} such patients); leave them out, or choose "
            "other images"
        )
    return rows.set_index("patient_id", drop=False).loc[list(patient_ids)].reset_index(drop=True)


@contextmanager
def of_patient(row: pd.Series) -> Iterator[None]:
    """Say whose image it was: an InputError raised within begins with patient and image of this row of an images table."""
    try:
        yield
    except InputError as error:
        prefix = f"patient {row['patient_id']}: "
        if str(error).startswith(prefix):
            raise
        raise InputError(f"{prefix}image {row['image_id']}: {error}") from error


def row_box(row: pd.Series, numbers: int = 4) -> tuple[int, ...] | None:
    """The box of a row of an images table with 4 or 6 numbers, None where the cell is empty. Raises InputError otherwise."""
    box = parse_box(row["box"])
    if box is not None and len(box) != numbers:
        raise InputError(
            f"box {row['box']!r} has {len(box)} numbers where {EDGES[numbers]} is expected; correct it in images.csv"
        )
    return box


def is_given(cell: object) -> bool:
    """Whether a cell of text is not empty."""
    return isinstance(cell, str) and cell.strip() != ""
