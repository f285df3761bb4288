"""Crops round lesions and nodes, for a network: the images of a table, cut as one `CropSpec` says, whatever the modality.

Squares of arrays are in `crop`, volumes of MRI in `mri`, networks in `alnlib.models`; random changes belong to training.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from alnlib.errors import InputError
from alnlib.imaging.clips import Clip, key_frame, segment_indices
from alnlib.imaging.crop import (
    Box,
    adjustable_square_crop,
    box_center_mm,
    check_box,
    check_content,
    fixed_size_crop,
    resample_to_square,
    square_as_bytes,
)
from alnlib.imaging.mri import crop_volumes, mri_rows
from alnlib.imaging.read import Image2D
from alnlib.imaging.rows import is_given, of_patient, of_patients, read_still, read_sweep
from alnlib.imaging.spec import KEY, CropSpec

AIR_HU = -1000.0

AFTER_THERAPY = "after therapy"
NOT_PLACED = "neither box nor mask"
NOT_INCLUDED = "outcome of the patient not known"
"""Why an image is left out where crops of patients are asked for."""


def crop(
    images: pd.DataFrame, root: str | Path, spec: CropSpec, patient_ids: Sequence[str] | None = None
) -> np.ndarray:
    """(n, *spec.shape) uint8: the n images of the specification's modality in an images table, in their order.

    The box is the row's, else that of its mask. Gray values are scaled over the whole image, clip or volume before anything
    is cut; beyond the border lies black (CT: air). US, MG: (n, rows, columns). CT: the same, in a window of HU. USV: (n,
    frames, rows, columns), the same square of every frame, round the box in the key frame; only the key frame (spec.frames =
    KEY) is scaled by itself, as in an archived still. MRI: one per patient, (n, 3, rows, columns) slices or (n, channels,
    depth, rows, columns), as in `alnlib.imaging.mri`; images is then the whole table, since other rows may be needed.
    patient_ids: all images of each of these patients, in this order and then that of the table, that `usable_images` has.
    Raises InputError, naming patient, file and remedy, for an image that cannot be read, without box and mask, or with a box
    outside, for a spacing that is needed and missing, values in unknown units, or a crop in which there is nothing to see.
    """
    root = Path(root)
    if spec.modality == "MRI":
        return crop_volumes(images, root, spec, patient_ids)
    rows = images[images["modality"] == spec.modality]
    if patient_ids is not None:
        what = f"image of modality {spec.modality} with a box or mask"
        rows = of_patients(usable_images(images, spec), patient_ids, what)
    cut = _sweep if spec.modality == "USV" else _still
    crops: list[np.ndarray] = []
    for _, row in rows.iterrows():
        with of_patient(row):
            crops.append(cut(row, root, spec))
            check_content(crops[-1], str(root / row["path"]))
            if crops[-1].shape != crops[0].shape:
                raise InputError(
                    f"{root / row['path']} has {len(crops[-1])} frames, {rows['path'].iloc[0]} {len(crops[0])}; say how many "
                    "to take of each (frames)"
                )
    return np.stack(crops) if crops else np.empty((0, *spec.shape), np.uint8)


def usable_images(images: pd.DataFrame, spec: CropSpec) -> pd.DataFrame:
    """The rows from which crops are cut if patients are asked for: all of the modality that have a box or a mask and are not
    after therapy.

    Of MRI, whose sequences are channels, that of the first channel, one per patient; InputError if a patient has it twice.
    """
    if spec.modality == "MRI":
        channel = spec.read_channels()[0]
        rows = mri_rows(images, channel.timepoint, channel.sequence)
        return rows[placed(rows)]
    rows = images[images["modality"] == spec.modality]
    return rows[_why_left_out(rows) == ""]


def left_out_images(images: pd.DataFrame, spec: CropSpec, patient_ids: Sequence[str]) -> pd.DataFrame:
    """patient_id, image_id and left_out, the reason, of the images of a modality that no crop of these patients is cut from:
    those that `usable_images` lacks, and those of other patients. None of MRI, whose sequences are channels."""
    rows = images[(images["modality"] == spec.modality) & (spec.modality != "MRI")]
    reason = _why_left_out(rows)
    reason = reason.mask((reason == "") & ~rows["patient_id"].isin(patient_ids), NOT_INCLUDED)
    return rows.assign(left_out=reason).loc[reason != "", ["patient_id", "image_id", "left_out"]].reset_index(drop=True)


def placed(rows: pd.DataFrame) -> pd.Series:
    """Whether a box or a mask says where the lesion is, a bool for each row of an images table."""
    return rows["box"].map(is_given).astype(bool) | rows["mask_path"].map(is_given).astype(bool)


def _why_left_out(rows: pd.DataFrame) -> pd.Series:
    reasons = np.select([rows["timepoint"].eq("post"), ~placed(rows)], [AFTER_THERAPY, NOT_PLACED], "")
    return pd.Series(reasons, rows.index, dtype="str")


def crop_outlines(images: pd.DataFrame, root: str | Path, spec: CropSpec) -> tuple[np.ndarray, np.ndarray]:
    """(n, rows, columns) bool outlines of lesions on the grid of `crop`, and (n, 2) row and column spacing in mm.

    For the same rows of US, MG or CT. A row without a mask, or whose lesion covers less than half of every pixel of the crop,
    is all false. The spacing is that of the crop's pixels, nan where the image has none or there is no mask. Raises InputError
    as `crop`.
    """
    masks, spacings = [], []
    for _, row in images[images["modality"] == spec.modality].iterrows():
        with of_patient(row):
            still = read_still(row, root)
            mask, spacing = np.zeros(spec.shape, bool), (np.nan, np.nan)
            if still.mask is not None:
                square = _square(still.mask.astype(np.float32), still.box, still.image, spec)
                mask = resample_to_square(square, spec.side_px) >= 0.5
                known = still.image.spacing_mm or spacing
                spacing = tuple(step * edge / spec.side_px for step, edge in zip(known, square.shape, strict=True))
        masks.append(mask)
        spacings.append(spacing)
    return np.array(masks, bool).reshape(-1, *spec.shape), np.array(spacings).reshape(-1, 2)


def _still(row: pd.Series, root: Path, spec: CropSpec) -> np.ndarray:
    still = read_still(row, root)
    pixels, fill = still.image.pixels, 0.0
    if spec.modality == "CT":
        pixels, fill = _hounsfield(still.image, spec.picture_rescale), float(spec.scaled(AIR_HU))
    return square_as_bytes(_square(spec.scaled(pixels), still.box, still.image, spec, fill), spec.side_px)


def _sweep(row: pd.Series, root: Path, spec: CropSpec) -> np.ndarray:
    """(frames, rows, columns), or (rows, columns) of the key frame. A clip is scaled before frames are chosen."""
    clip, box = read_sweep(row, root)
    key, frames = key_frame(clip), clip.frames
    if spec.frames == KEY:
        scaled = spec.scaled(frames[[key]])
    else:
        scaled = spec.scaled(frames)[slice(None) if spec.frames is None else segment_indices(len(frames), spec.frames)]
    squares = [square_as_bytes(_square(frame, box, clip, spec), spec.side_px) for frame in scaled]
    return squares[0] if spec.frames == KEY else np.stack(squares)


def _square(values: np.ndarray, box: Box | None, of: Image2D | Clip, spec: CropSpec, fill: float = 0.0) -> np.ndarray:
    """The square of a kind round a box. of: whence the values are."""
    if box is None:
        raise InputError(
            f"{of.path} has neither box nor mask, so the lesion's place is unknown; give one in images.csv, or leave the "
            "image out"
        )
    check_box(box, values.shape, "the image")
    if spec.kind == "adjustable_square":
        return adjustable_square_crop(values, box, spec.margin_fraction, fill)
    if of.spacing_mm is None:
        raise InputError(
            f"{of.path} has no pixel spacing for a crop in mm; give pixel_spacing_mm in images.csv, or choose crop "
            "adjustable_square"
        )
    return fixed_size_crop(values, box_center_mm(box, of.spacing_mm), spec.size_mm, of.spacing_mm, fill)


def _hounsfield(image: Image2D, picture_rescale: tuple[float, float] | None) -> np.ndarray:
    if image.in_hu:
        return image.pixels
    if image.modality not in (None, "CT"):
        raise InputError(f"{image.path} is {image.modality}, not CT; correct path or modality in images.csv")
    if picture_rescale is None:
        what = (
            "a picture"
            if image.modality is None
            else "a CT without rescale to HU (a windowed copy or a screen capture?)"
        )
        raise InputError(
            f"{image.path} is {what}, so its gray values are in unknown units; export the slice as DICOM with its rescale, or "
            "give slope and intercept to HU (picture_rescale)"
        )
    slope, intercept = picture_rescale
    return np.float32(slope) * image.pixels + np.float32(intercept)
