"""One row of an images table as its reader needs it: picture, sweep or volume, mask, box and spacing, and whose they are.

Single files are read in `read`, `clips` and `volumes`; crops are cut in `lesions`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from alnlib.cohorts.schema import mask_files, parse_box, parse_pixel_spacing, parse_whole
from alnlib.errors import InputError
from alnlib.imaging.clips import Clip, clip_spacing, key_frame, read_clip
from alnlib.imaging.crop import EDGES, Box, box_from_mask, check_box
from alnlib.imaging.masks import joined
from alnlib.imaging.read import Image2D, chosen_frame, read_image, read_mask
from alnlib.imaging.volumes import (
    Volume,
    axial_axes,
    is_volume,
    largest_slice,
    read_volume,
    read_volume_mask,
    turned,
    turned_edges,
)

ADC = "ADC"
"""The `sequence_or_view` of maps of the apparent diffusion coefficient."""

ADC_FACTORS = ((600.0, 1e4, 1.0), (0.6, 10.0, 1e3), (6e-4, 0.01, 1e6))
"""Lowest and highest value of water in a map in 10^-6, 10^-3 and mm2/s, and what makes it 10^-6 mm2/s. Water at body temperature
has 3,000 of these, tissue 500 to 2,000; powers of ten between these units are none of them."""


@dataclass(frozen=True)
class Still:
    """One image with what is known of its lesion. box: row0, col0, row1, col1, half open, from the table or the mask."""

    image: Image2D
    mask: np.ndarray | None
    box: Box | None


def read_still(row: pd.Series, root: str | Path) -> Still:
    """Read the image of one row of an images table, its mask if it has one, and its box.

    Columns of the table: `frame` names one of a file of several, `mask_label` the value of the lesion in the mask, and a
    `pixel_spacing_mm` overrides the file's. Of a mask of two lesions the box names one. Of CT as a volume or a series of slices
    the slice is taken in which the mask is largest, or the middle one of a box of six numbers, with the patient's back at the
    bottom and left at the right. Raises InputError naming the file for what cannot be read.
    """
    path = Path(root, row["path"])
    if row["modality"] == "CT" and is_volume(path):
        return _slice_of_volume(row, root)
    spacing_mm, box, mask = parse_pixel_spacing(row.get("pixel_spacing_mm")), row_box(row), None
    image = read_image(path, spacing_mm, row_frame(row), None if box is None else _middle(box))
    if is_given(row.get("mask_path")):
        mask = _flat_mask(row, root, image.pixels.shape)
        if box is None:
            box = box_from_mask(mask, row.get("mask_path"))
            image = read_image(path, spacing_mm, row_frame(row), _middle(box)) if image.several_regions else image
        else:
            check_box(box, mask.shape, "the image")
            mask = within_box(mask, box, str(path))
    return Still(image, mask, box)


def read_sweep(row: pd.Series, root: str | Path) -> tuple[Clip, Box | None]:
    """Read the sweep of one row, and the box of its key frame, from the table or the mask. Raises InputError as `read_still`.

    `frame` names the key frame, which of files only DICOM can.
    """
    path, spacing_mm, box = Path(root, row["path"]), parse_pixel_spacing(row.get("pixel_spacing_mm")), row_box(row)
    clip, frame = read_clip(path, spacing_mm, None if box is None else _middle(box)), row_frame(row)
    if frame is not None:
        clip = replace(clip, key_frame=chosen_frame(path, len(clip.frames), frame))
    if box is None and is_given(row.get("mask_path")):
        box = box_from_mask(_flat_mask(row, root, clip.frames.shape[1:]), row.get("mask_path"))
        clip = replace(clip, spacing_mm=clip_spacing(path, _middle(box))) if clip.several_regions else clip
    return clip, box


def sweep_mask(row: pd.Series, root: str | Path, clip: Clip) -> np.ndarray | None:
    """(rows, columns) bool of the key frame, of two lesions that of the row's box; None where the row has no mask."""
    if not is_given(row.get("mask_path")):
        return None
    mask, box = _flat_mask(row, root, clip.frames.shape[1:]), row_box(row)
    return mask if box is None else within_box(mask, box, str(Path(root, row["path"])))


def read_scan(row: pd.Series, root: str | Path) -> Volume:
    """Read the volume of one row of an images table; columns as in `read_still`, `frame` being a time point.

    ADC maps are turned to 10^-6 mm2/s, whatever of `ADC_FACTORS` they are in. Raises InputError for another unit.
    """
    volume = read_volume(Path(root, row["path"]), row_frame(row))
    if row["modality"] == "MRI" and str(row.get("sequence_or_view")).upper() == ADC:
        factor = _adc_factor(volume)
        volume = volume if factor == 1.0 else replace(volume, values=volume.values * np.float32(factor))
    return volume.with_pixels(parse_pixel_spacing(row.get("pixel_spacing_mm")))


def scan_mask(row: pd.Series, root: str | Path, volume: Volume) -> np.ndarray | None:
    """(z, y, x) bool of the row's mask on the voxels of its volume as `read_scan` gives it; None where it has none."""
    if not is_given(row.get("mask_path")):
        return None
    spacing_mm, label = parse_pixel_spacing(row.get("pixel_spacing_mm")), row_label(row)
    of_file = volume if spacing_mm is None else read_volume(Path(root, row["path"]), row_frame(row))
    return joined(
        [
            read_volume_mask(Path(root, name), of_file, label, row_frame(row))
            for name in mask_files(row.get("mask_path"))
        ]
    )


def within_box(mask: np.ndarray, box: tuple[int, ...], name: str) -> np.ndarray:
    """What of a (rows, columns) or (z, y, x) mask lies in a box, which names one lesion of several. Raises InputError if nothing
    does."""
    inside = np.zeros_like(mask)
    place = tuple(slice(low, high) for low, high in zip(box[: mask.ndim], box[mask.ndim :], strict=True))
    inside[place] = mask[place]
    if mask.any() and not inside.any():
        raise InputError(f"{name}: box and mask of the image name different places; correct one of them in images.csv")
    return inside


def _flat_mask(row: pd.Series, root: str | Path, shape: tuple[int, int]) -> np.ndarray:
    label, frame = row_label(row), None if row["modality"] == "USV" else row_frame(row)
    return joined([read_mask(Path(root, name), shape, label, frame) for name in mask_files(row.get("mask_path"))])


def _slice_of_volume(row: pd.Series, root: str | Path) -> Still:
    volume, given = read_scan(row, root), parse_box(row.get("box"))
    drawn = scan_mask(row, root, volume)
    box = (
        row_box(row, 6) if given is not None else None if drawn is None else box_from_mask(drawn, row.get("mask_path"))
    )
    if box is None:
        raise InputError(
            f"{volume.path} has neither box nor mask, so the slice of the lesion is unknown; give one in images.csv, or leave "
            "the image out"
        )
    check_box(box, volume.shape, f"the volume {volume.path}")
    drawn = None if drawn is None else within_box(drawn, box, str(volume.path))
    order, flips = axial_axes(volume.geometry)
    low, high = turned_edges(box, np.array(volume.shape)[list(order)], order, flips)
    mask = None if drawn is None else turned(drawn, order, flips)
    z = largest_slice(mask, low[0], high[0])
    spacing_mm = tuple(volume.geometry.spacing_mm[axis] for axis in order[1:])
    image = Image2D(turned(volume.values, order, flips)[z], spacing_mm, row["modality"], volume.path, volume.in_hu)
    flat = None if mask is None else mask[z]
    if given is None:
        return Still(image, flat, box_from_mask(flat, row.get("mask_path")))
    return Still(image, flat, (*low[1:].tolist(), *high[1:].tolist()))


def _adc_factor(volume: Volume) -> float:
    positive = volume.values[volume.values > 0]
    water = float(np.percentile(positive, 99)) if positive.size else 0.0
    for lowest, highest, factor in ADC_FACTORS:
        if lowest <= water < highest:
            return factor
    raise InputError(
        f"{volume.path}: an ADC map whose high values are {water:.3g}, in none of the units 10^-6, 10^-3 and mm2/s; convert it "
        "to 10^-6 mm2/s, or call the sequence otherwise"
    )


def _middle(box: Box) -> tuple[float, float]:
    row0, col0, row1, col1 = box
    return 0.5 * (row0 + row1 - 1), 0.5 * (col0 + col1 - 1)


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
    box = parse_box(row.get("box"))
    if box is not None and len(box) != numbers:
        raise InputError(
            f"box {row['box']!r} has {len(box)} numbers where {EDGES[numbers]} is expected; correct it in images.csv"
        )
    return box


def row_frame(row: pd.Series) -> int | None:
    """Which frame, page or time point of its file a row of an images table names, from 0; None where it names none."""
    return parse_whole(row.get("frame"))


def row_label(row: pd.Series) -> int | None:
    """The value of the lesion in the mask of a row of an images table; None where it names none."""
    return parse_whole(row.get("mask_label"))


def is_given(cell: object) -> bool:
    """Whether a cell of text is not empty."""
    return isinstance(cell, str) and cell.strip() != ""
