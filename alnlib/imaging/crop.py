"""Square crops round a lesion or node, in pixels or in millimeters, and their resampling to a network's input.

Everything is (row, column); boxes are half-open pixel indices (row0, col0, row1, col1). Values are not changed, except
by resampling.
"""

from __future__ import annotations

import math

import numpy as np
from PIL import Image

from alnlib.errors import InputError

Box = tuple[int, int, int, int]


def box_from_mask(mask: np.ndarray, name: str = "mask") -> Box:
    """Smallest half-open box (row0, col0, row1, col1) that holds every non-zero pixel of a (rows, columns) mask.

    name: what to call the mask in the error. Raises InputError for an empty mask.
    """
    mask = np.asarray(mask) != 0
    if mask.ndim != 2:
        raise ValueError(f"mask has shape {mask.shape}; expected (rows, columns)")
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if rows.size == 0:
        raise InputError(f"{name}: the mask is empty; draw the lesion, give a box, or leave the image out")
    return int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1


def box_center_mm(box: Box, spacing_mm: tuple[float, float]) -> tuple[float, float]:
    """(row, column) center of a box in mm from the outer upper left corner of the image."""
    row0, col0, row1, col1 = box
    return 0.5 * (row0 + row1) * spacing_mm[0], 0.5 * (col0 + col1) * spacing_mm[1]


def adjustable_square_crop(
    image: np.ndarray,
    box: Box,
    margin_fraction: float = 0.15,
    *,
    padding: str = "edge",
    fill: float = 0.0,
) -> np.ndarray:
    """Square round a box, as large as the lesion needs: ASC, the crop that normalizes scale away (Park 2024).

    image: (rows, columns). The side is the longer box edge times (1 + margin_fraction), in pixels, rounded up, so the
    margin is shared by both sides. Beyond the border: padding "edge" repeats the last pixel, "constant" puts `fill`;
    the shape never changes. Raises InputError for a box outside the image, ValueError for a negative margin or an
    inverted box.
    """
    if margin_fraction < 0:
        raise ValueError(f"margin_fraction is {margin_fraction}; it cannot be negative")
    check_box(box, image)
    row0, col0, row1, col1 = box
    side = math.ceil(max(row1 - row0, col1 - col0) * (1.0 + margin_fraction) - 1e-9)
    first = _start(0.5 * (row0 + row1), side), _start(0.5 * (col0 + col1), side)
    return _window(image, first, (side, side), padding, fill)


def fixed_size_crop(
    image: np.ndarray,
    center_mm: tuple[float, float],
    size_mm: float,
    spacing_mm: tuple[float, float],
    *,
    padding: str = "edge",
    fill: float = 0.0,
) -> np.ndarray:
    """The same square in mm round every center: FSC, the crop that keeps absolute size and surroundings (Park 2024).

    image: (rows, columns); center_mm: (row, column) from the image's outer upper left corner, as `box_center_mm` gives;
    spacing_mm: (row, column). Returns round(size / spacing) rows and columns, at least 1, whatever the border; padding
    as in `adjustable_square_crop`. Raises InputError for a center outside the image.
    """
    if size_mm <= 0 or min(spacing_mm) <= 0:
        raise ValueError(f"size_mm ({size_mm}) and spacing_mm ({spacing_mm}) must be positive")
    center = [millimeters / step for millimeters, step in zip(center_mm, spacing_mm, strict=True)]
    if not all(0 <= position <= extent for position, extent in zip(center, image.shape, strict=True)):
        raise InputError(
            f"the crop's center, {center_mm[0]:g} x {center_mm[1]:g} mm, lies outside the image "
            f"({image.shape[0] * spacing_mm[0]:g} x {image.shape[1] * spacing_mm[1]:g} mm); correct the box or the pixel spacing"
        )
    extent = tuple(max(1, round(size_mm / step)) for step in spacing_mm)
    first = _start(center[0], extent[0]), _start(center[1], extent[1])
    return _window(image, first, extent, padding, fill)


def resample_to_square(image: np.ndarray, size_px: int) -> np.ndarray:
    """(size_px, size_px) float32 by linear interpolation, antialiased: the triangle filter widens as the image shrinks.

    A crop that is not square in pixels is stretched, which is right for one that is square in mm.
    """
    if size_px < 1:
        raise ValueError(f"size_px is {size_px}; expected at least 1")
    picture = Image.fromarray(np.ascontiguousarray(image, dtype=np.float32))
    return np.array(picture.resize((size_px, size_px), Image.Resampling.BILINEAR))


def square_as_bytes(fractions: np.ndarray, side_px: int) -> np.ndarray:
    """(side_px, side_px) uint8 of a square with values in [0, 1]."""
    return np.round(255 * resample_to_square(fractions, side_px)).astype(np.uint8)


def resample_mask_to_square(mask: np.ndarray, size_px: int) -> np.ndarray:
    """(size_px, size_px) bool: pixels at least half covered by the mask."""
    return resample_to_square(np.asarray(mask) != 0, size_px) >= 0.5


def check_box(box: Box, image: np.ndarray) -> None:
    """Raise InputError for a box that reaches outside the image, ValueError for an inverted one."""
    row0, col0, row1, col1 = box
    if row0 >= row1 or col0 >= col1:
        raise ValueError(f"box {box} is empty or inverted; expected row0 < row1 and col0 < col1")
    if row0 < 0 or col0 < 0 or row1 > image.shape[0] or col1 > image.shape[1]:
        raise InputError(
            f"box {box} reaches outside the image of {image.shape[0]} x {image.shape[1]} pixels; "
            "boxes are row0 col0 row1 col1, upper edges exclusive: correct it in images.csv"
        )


def _start(center: float, extent: int) -> int:
    """First index of a window; a half pixel goes down, whatever the parity, so that neighbors are treated alike."""
    return math.floor(center - extent / 2.0 + 1e-9)


def _window(
    image: np.ndarray, first: tuple[int, int], extent: tuple[int, int], padding: str, fill: float
) -> np.ndarray:
    if image.ndim != 2:
        raise ValueError(f"image has shape {image.shape}; expected (rows, columns)")
    if padding not in ("edge", "constant"):
        raise ValueError(f"padding is {padding!r}; expected 'edge' or 'constant'")
    wanted = [np.arange(start, start + count) for start, count in zip(first, extent, strict=True)]
    inside = [np.clip(index, 0, size - 1) for index, size in zip(wanted, image.shape, strict=True)]
    window = image[np.ix_(*inside)]
    if padding == "constant":
        beyond = [index != clipped for index, clipped in zip(wanted, inside, strict=True)]
        window[beyond[0], :] = fill
        window[:, beyond[1]] = fill
    return window
