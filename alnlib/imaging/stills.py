"""Stills of a cohort's images table: read with mask and box, cropped to one size for a network or shown as a plate.

Single images and crops are in `read` and `crop`; networks are in `alnlib.models`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from alnlib.cohorts.schema import parse_box, parse_pixel_spacing
from alnlib.errors import InputError
from alnlib.imaging.crop import (
    Box,
    adjustable_square_crop,
    box_center_mm,
    box_from_mask,
    fixed_size_crop,
    resample_to_square,
)
from alnlib.imaging.montage import Panel
from alnlib.imaging.normalize import percentile_scale
from alnlib.imaging.read import Image2D, read_image, read_mask

CROPS = ("fixed_size", "adjustable_square")


@dataclass(frozen=True)
class Still:
    """One image with what is known of its lesion. box: row0, col0, row1, col1, half open, from the table or the mask."""

    image_id: str
    patient_id: str
    image: Image2D
    mask: np.ndarray | None
    box: Box | None


def read_still(row: pd.Series, root: str | Path) -> Still:
    """Read the image of one row of an images table, its mask if it has one, and its box.

    A spacing in the table overrides the file's. Raises InputError naming the file for what cannot be read.
    """
    root = Path(root)
    image = read_image(root / row["path"], spacing_mm=parse_pixel_spacing(row["pixel_spacing_mm"]))
    mask = read_mask(root / row["mask_path"], image.pixels.shape) if _given(row["mask_path"]) else None
    box = parse_box(row["box"])
    if box is None and mask is not None:
        box = box_from_mask(mask, f"patient {row['patient_id']}: {row['mask_path']}")
    return Still(row["image_id"], row["patient_id"], image, mask, box)


def crop_still(
    still: Still,
    kind: str,
    side_px: int,
    size_mm: float,
    margin_fraction: float,
    percentiles: tuple[float, float] = (1.0, 99.0),
) -> np.ndarray:
    """(side_px, side_px) uint8 crop round the lesion; gray values scaled by percentiles of the still itself, black beyond
    its border.

    kind: "fixed_size", size_mm wide (needs a spacing); "adjustable_square", the box plus margin_fraction of its longer
    edge. A still without a box is cropped round its middle. Raises InputError, naming patient and remedy, where a spacing or
    a box is needed and missing.
    """
    if kind not in CROPS:
        raise InputError(f"crop is {kind!r}; choose one of {', '.join(CROPS)}")
    pixels = percentile_scale(still.image.pixels, *percentiles)
    rows, columns = pixels.shape
    box = still.box or (0, 0, rows, columns)
    if kind == "adjustable_square":
        if still.box is None:
            raise InputError(
                f"patient {still.patient_id}: image {still.image_id} has neither box nor mask for an adjustable crop; "
                "give one in images.csv, or choose crop fixed_size"
            )
        crop = adjustable_square_crop(pixels, box, margin_fraction, padding="constant")
    else:
        spacing = still.image.spacing_mm
        if spacing is None:
            raise InputError(
                f"patient {still.patient_id}: image {still.image_id} has no pixel spacing for a crop in mm; give "
                "pixel_spacing_mm in images.csv, or choose crop adjustable_square"
            )
        crop = fixed_size_crop(pixels, box_center_mm(box, spacing), size_mm, spacing, padding="constant")
    return np.round(255 * resample_to_square(crop, side_px)).astype(np.uint8)


def crop_stills(
    images: pd.DataFrame,
    root: str | Path,
    *,
    kind: str = "fixed_size",
    side_px: int,
    size_mm: float = 38.0,
    margin_fraction: float = 0.2,
    percentiles: tuple[float, float] = (1.0, 99.0),
) -> np.ndarray:
    """(n, side_px, side_px) uint8 crops of the n rows of an images table, in their order; arguments as `crop_still`.

    percentiles: to black and to white. Where a lesion is among the brightest tissue, as in mammograms, 99 lies within it.
    """
    given = kind, side_px, size_mm, margin_fraction, percentiles
    crops = [crop_still(read_still(row, root), *given) for _, row in images.iterrows()]
    return np.stack(crops) if crops else np.empty((0, side_px, side_px), np.uint8)


def still_panels(images: pd.DataFrame, root: str | Path) -> Iterable[Panel]:
    """Panels for `montage.plot_plate`, one per row of an images table: the whole still with the outline of its mask."""
    for _, row in images.iterrows():
        still = read_still(row, root)
        yield Panel(still.image.pixels, title=still.patient_id, mask=still.mask, spacing_mm=still.image.spacing_mm)


def _given(cell: object) -> bool:
    return isinstance(cell, str) and cell.strip() != ""
