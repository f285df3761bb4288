"""Square crops round a lesion or node, in pixels or in millimeters, and their resampling to a network's input.

Boxes are half-open pixel indices (row0, col0, row1, col1); every pair is (row, column). What lies beyond the border of an
image becomes `fill`. Values are not changed, except by resampling.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from PIL import Image
from scipy import ndimage

from alnlib.errors import InputError

Box = tuple[int, int, int, int]
Box3D = tuple[int, int, int, int, int, int]

EDGES = {4: "row0 col0 row1 col1", 6: "z0 row0 col0 z1 row1 col1"}
"""What the numbers of a box in images.csv mean; upper edges are exclusive."""


def box_from_mask(mask: np.ndarray, name: str = "mask") -> Box | Box3D:
    """Smallest box that holds every non-zero pixel of a (rows, columns) or (z, y, x) mask. name: for the error.

    Raises InputError for an empty mask.
    """
    found = ndimage.find_objects((np.asarray(mask) != 0).astype(np.uint8))
    if not found:
        raise InputError(f"{name}: the mask is empty; draw the lesion, give a box, or leave the image out")
    return (*(int(edge.start) for edge in found[0]), *(int(edge.stop) for edge in found[0]))


def check_box(box: Box | Box3D, shape: tuple[int, ...], what: str) -> None:
    """Raise InputError for a box that reaches outside an image or volume of this shape. what: its name in the error."""
    if min(box) < 0 or any(edge > size for edge, size in zip(box[len(shape) :], shape, strict=True)):
        raise InputError(
            f"box {box} reaches outside {what} of {' x '.join(map(str, shape))}; boxes are {EDGES[len(box)]}, upper edges "
            "exclusive: correct it in images.csv"
        )


def check_content(crop: np.ndarray, name: str) -> None:
    """Raise InputError for a crop, (..., rows, columns) uint8, of one gray value, in which there is nothing to see. name: of the
    image in the error."""
    value = crop.flat[0]
    if (crop == value).all():
        said = "black" if value == 0 else "white" if value == 255 else "of one gray value"
        raise InputError(
            f"{name}: the crop round the lesion is all {said}; the image is empty there, or mask or box lie elsewhere: look at "
            "it, correct mask or box in images.csv, or leave the image out"
        )


def box_center_mm(box: Box, spacing_mm: tuple[float, float]) -> tuple[float, float]:
    """(row, column) center of a box in mm from the outer upper left corner of the image."""
    row0, col0, row1, col1 = box
    return 0.5 * (row0 + row1) * spacing_mm[0], 0.5 * (col0 + col1) * spacing_mm[1]


def adjustable_square_crop(image: np.ndarray, box: Box, margin_fraction: float, fill: float = 0.0) -> np.ndarray:
    """Square round a box, as large as the lesion needs: ASC, the crop that normalizes scale away (Park 2024).

    image: (rows, columns). The side is the longer box edge times (1 + margin_fraction), in pixels, rounded up, so the
    margin is shared by both sides. The shape never changes at the border.
    """
    row0, col0, row1, col1 = box
    side = math.ceil(max(row1 - row0, col1 - col0) * (1.0 + margin_fraction) - 1e-9)
    return _window(image, (0.5 * (row0 + row1), 0.5 * (col0 + col1)), (side, side), fill)


def fixed_size_crop(
    image: np.ndarray,
    center_mm: tuple[float, float],
    size_mm: float,
    spacing_mm: tuple[float, float],
    fill: float = 0.0,
) -> np.ndarray:
    """The same square in mm round every center: FSC, the crop that keeps absolute size and surroundings (Park 2024).

    image: (rows, columns); center_mm: as `box_center_mm` gives. Returns round(size / spacing) rows and columns, at least 1,
    whatever the border.
    """
    center = [millimeters / step for millimeters, step in zip(center_mm, spacing_mm, strict=True)]
    return _window(image, center, [max(1, round(size_mm / step)) for step in spacing_mm], fill)


def resample_to_square(image: np.ndarray, size_px: int) -> np.ndarray:
    """(size_px, size_px) float32 by linear interpolation, antialiased: the triangle filter widens as the image shrinks.

    A crop that is not square in pixels is stretched, which is right for one that is square in mm.
    """
    picture = Image.fromarray(np.ascontiguousarray(image, dtype=np.float32))
    return np.array(picture.resize((size_px, size_px), Image.Resampling.BILINEAR))


def square_as_bytes(fractions: np.ndarray, side_px: int) -> np.ndarray:
    """(side_px, side_px) uint8 of a square with values in [0, 1]."""
    return np.round(255 * resample_to_square(fractions, side_px)).astype(np.uint8)


def _window(image: np.ndarray, center_px: Sequence[float], extent: Sequence[int], fill: float) -> np.ndarray:
    """A half pixel goes down, whatever the parity, so that neighbors are treated alike."""
    first = [math.floor(middle - count / 2.0 + 1e-9) for middle, count in zip(center_px, extent, strict=True)]
    wanted = [np.arange(start, start + count) for start, count in zip(first, extent, strict=True)]
    inside = [np.clip(index, 0, size - 1) for index, size in zip(wanted, image.shape, strict=True)]
    window = image[np.ix_(*inside)]
    window[wanted[0] != inside[0], :] = fill
    window[:, wanted[1] != inside[1]] = fill
    return window
