"""Lymph nodes on axial CT, cropped for a network: the fixed square in mm (FSC) and the adjustable square (ASC).

Windowing and the crops themselves are in `normalize` and `crop`; networks are in `alnlib.models`.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from alnlib.errors import InputError
from alnlib.imaging.crop import box_from_mask, resample_mask_to_square
from alnlib.imaging.normalize import ct_window
from alnlib.imaging.read import Image2D, read_image, read_mask
from alnlib.imaging.sampling import _as_bytes, _square, of_patient, row_box, row_spacing
from alnlib.imaging.stills import _given

AIR_HU = -1000.0


def crop_nodes(
    images: pd.DataFrame,
    root: str | Path,
    kind: str,
    side_px: int,
    *,
    size_mm: float = 45.0,
    margin_fraction: float = 0.15,
    level: float = 40.0,
    width: float = 400.0,
    picture_rescale: tuple[float, float] | None = None,
) -> np.ndarray:
    """(n, side_px, side_px) uint8 crops of the n rows of modality CT in an images table, in their order.

    kind: "fixed_size" (FSC), size_mm round the middle of the box, which keeps absolute size and surroundings and needs
    a spacing; "adjustable_square" (ASC), the longer edge of the box plus margin_fraction, which scales size away. The
    box is the row's, else that of its mask. HU are windowed (level, width) and then resampled; beyond the border lies
    air. Kinds, window and sizes after Park et al. 2024, Curr Oncol 31:2278; the numbers are our choice.
    picture_rescale: (slope, intercept) from gray values to HU for PNG, JPEG or TIFF slices, which do not say; e.g.
    (4095 / 255, -1024) for 8 bits over [-1024, 3071].
    Raises InputError, naming patient, file and remedy, for an image that cannot be read, is not CT or has unknown
    units, a row with neither box nor mask, a box outside the image, or a missing spacing.
    """
    root = Path(root)
    crops = []
    for _, row in images[images["modality"] == "CT"].iterrows():
        with of_patient(row):
            image = read_image(root / row["path"], spacing_mm=row_spacing(row))
            box = row_box(row)
            if box is None and _given(row["mask_path"]):
                box = box_from_mask(read_mask(root / row["mask_path"], image.shape), row["mask_path"])
            if box is None:
                raise InputError(
                    f"{image.path} has neither box nor mask, so the node's place is unknown; give one in images.csv, or "
                    "leave the image out"
                )
            square = _square(
                ct_window(_hounsfield(image, picture_rescale), level, width),
                box,
                image.spacing_mm,
                kind=kind,
                size_mm=size_mm,
                margin_fraction=margin_fraction,
                fill=float(ct_window(AIR_HU, level, width)),
                name=str(image.path),
            )
        crops.append(_as_bytes(square, side_px))
    return np.stack(crops) if crops else np.empty((0, side_px, side_px), np.uint8)


def crop_node_masks(
    images: pd.DataFrame,
    root: str | Path,
    kind: str,
    side_px: int,
    *,
    size_mm: float = 45.0,
    margin_fraction: float = 0.15,
) -> tuple[np.ndarray, np.ndarray]:
    """(n, side_px, side_px) bool outlines of the nodes on the grid of `crop_nodes`, and (n, 2) row and column spacing in mm.

    For the same rows and sizes. A row without a mask, or whose node covers less than half of every pixel of the crop, is
    all false. The spacing is that of the crop's pixels, nan where the image has none. Raises InputError as `crop_nodes`.
    """
    root = Path(root)
    masks, spacings = [], []
    for _, row in images[images["modality"] == "CT"].iterrows():
        with of_patient(row):
            image = read_image(root / row["path"], spacing_mm=row_spacing(row))
            if not _given(row["mask_path"]):
                masks.append(np.zeros((side_px, side_px), bool))
                spacings.append((np.nan, np.nan))
                continue
            mask = read_mask(root / row["mask_path"], image.shape)
            square = _square(
                mask.astype(np.float32),
                row_box(row) or box_from_mask(mask, row["mask_path"]),
                image.spacing_mm,
                kind=kind,
                size_mm=size_mm,
                margin_fraction=margin_fraction,
                fill=0.0,
                name=str(image.path),
            )
        masks.append(resample_mask_to_square(square, side_px))
        known = image.spacing_mm or (np.nan, np.nan)
        spacings.append(tuple(step * edge / side_px for step, edge in zip(known, square.shape, strict=True)))
    return np.array(masks).reshape(-1, side_px, side_px), np.array(spacings).reshape(-1, 2)


def _hounsfield(image: Image2D, picture_rescale: tuple[float, float] | None) -> np.ndarray:
    if image.modality == "CT":
        return image.pixels
    if image.modality is not None:
        raise InputError(f"{image.path} is {image.modality}, not CT; correct path or modality in images.csv")
    if picture_rescale is None:
        raise InputError(
            f"{image.path} is a picture whose gray values are in unknown units; export the slice as DICOM, or give its "
            "slope and intercept to HU (picture_rescale)"
        )
    slope, intercept = picture_rescale
    return np.float32(slope) * image.pixels + np.float32(intercept)
