"""The grid on which a lesion is measured when it is resampled: where its voxels lie, which of them are lesion, gray values there.

pyradiomics lays its grid from the corner of the scan and takes the mask by nearest neighbor: a row cut off the scan then
moves most features. Here the grid is laid from the lesion's own box, and the mask keeps the volume that was drawn.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import SimpleITK
from scipy import ndimage, sparse

COVERED_DIGITS = 9
"""Coverage is compared to this many digits, so that the order of voxels does not hang on the last bits of a sum."""

VALUE_DIGITS = 7
"""Digits kept of gray values, counted from the largest of the image: what should lie on the edge of a bin then does, whatever
the last bits of its sum, and always falls in the same one."""


def lay_grid(
    roi: SimpleITK.Image, spacing_mm: Sequence[float], pad: int, shift: Sequence[float] = (0.0, 0.0, 0.0)
) -> SimpleITK.Image:
    """The mask of a ROI on a grid laid from its box, as an image of 0 and 1.

    roi: 0 and 1, not empty. spacing_mm: (x, y, z); 0 keeps the axis, and a single plane is kept. The box is covered by the
    nearest whole number of voxels along each axis, around its own center; `pad` voxels are added on every side, as far as the
    image goes. shift: (x, y, z) of the grid in its own voxels, along axes that are resampled.
    The mask has as many voxels as the drawn volume holds (at least one), those of which most is drawn: IBSI asks for a mask
    of partial volumes cut at one half (Zwanenburg 2020, Radiology 295:328), which loses or adds volume in small lesions.
    """
    mask = SimpleITK.GetArrayViewFromImage(roi)
    box = ndimage.find_objects(mask)[0][::-1]
    old, size = np.array(roi.GetSpacing()), np.array(roi.GetSize())
    asked = np.array(spacing_mm, dtype=float)
    kept = (asked == 0) | (size == 1)
    new = np.where(kept, old, asked)
    places, covered = [], mask[box[::-1]].astype(np.float64)
    for axis, (own, step) in enumerate(zip(box, new / old, strict=True)):
        drawn = own.stop - own.start
        n = max(round(drawn / step), 1)
        around = min(pad, int(size[axis] / step) + 1)
        place = np.arange(-around, n + around) - (n - 1) / 2 + (0.0 if kept[axis] else shift[axis])
        place = (own.start + own.stop - 1) / 2 + place * step
        places.append(place[(place >= -0.5) & (place <= size[axis] - 0.5)])
        covered = _along_last(covered, _overlap(places[axis], step, np.arange(own.start, own.stop)))
    voxels = max(round(float(mask.sum()) / float(np.prod(new / old))), 1)
    share = covered.round(COVERED_DIGITS)
    touched = np.flatnonzero(share)
    laid = np.zeros(share.shape, np.uint8)
    laid.flat[touched[np.argsort(-share.flat[touched], kind="stable")][:voxels]] = 1
    grid = SimpleITK.GetImageFromArray(laid)
    grid.SetSpacing(new.tolist())
    grid.SetDirection(roi.GetDirection())
    grid.SetOrigin(roi.TransformContinuousIndexToPhysicalPoint([float(place[0]) for place in places]))
    return grid


def splined(image: SimpleITK.Image, grid: SimpleITK.Image, digits: int | None = None) -> SimpleITK.Image:
    """An image by cubic B-splines on a grid of the same directions, 0 beyond its border: `sitkBSpline`, by axis, of floats.

    The same values but for the last bits; ITK sums 64 products per voxel where three sums of four will do. Whole numbers become
    floats: ITK would give whole numbers again, and cut what stands after the point. digits: kept, from the image's largest value.
    """
    given = SimpleITK.GetArrayViewFromImage(image)
    values = ndimage.spline_filter(given, order=3, output=np.float64, mode="mirror")
    start = image.TransformPhysicalPointToContinuousIndex(grid.GetOrigin())
    for axis in range(3):  # x, y, z, from the last axis of the array to the first
        place = start[axis] + np.arange(grid.GetSize()[axis]) * grid.GetSpacing()[axis] / image.GetSpacing()[axis]
        values = _along_last(values, _spline_weights(place, values.shape[-1]))
    if digits is not None:
        values = values.round(digits - math.ceil(math.log10(max(float(np.abs(given).max()), 1e-300))))
    floats = given.dtype if given.dtype.kind == "f" else np.float32
    made = SimpleITK.GetImageFromArray(values.astype(floats))
    made.CopyInformation(grid)
    return made


def _along_last(values: np.ndarray, weights: sparse.csr_array) -> np.ndarray:
    """weights (n, last axis) applied to the last axis, which becomes the first; three times gives (z, y, x) again."""
    values = np.moveaxis(values, -1, 0)
    return (weights @ values.reshape(len(values), -1)).reshape(-1, *values.shape[1:])


def _overlap(place: np.ndarray, width: float, old: np.ndarray) -> sparse.csr_array:
    """(n, len(old)) share of a voxel of `width` around each place that each old voxel (of width 1) covers."""
    low = np.maximum(place[:, None] - width / 2, old - 0.5)
    high = np.minimum(place[:, None] + width / 2, old + 0.5)
    return sparse.csr_array(np.maximum(high - low, 0.0) / width)


def _spline_weights(place: np.ndarray, size: int) -> sparse.csr_array:
    """(n, size) weight of every coefficient at each place (in voxels); coefficients are mirrored at the first and last voxel."""
    taps = np.floor(place).astype(int)[:, None] + np.arange(-1, 3)
    away = np.abs(place[:, None] - taps)
    weights = np.where(away < 1.0, 2.0 / 3.0 - away**2 + 0.5 * away**3, np.maximum(2.0 - away, 0.0) ** 3 / 6.0)
    weights[(place < -0.5) | (place > size - 0.5)] = 0.0
    period = max(2 * size - 2, 1)
    index = np.abs(taps) % period
    index = np.minimum(index, period - index) if size > 1 else np.zeros_like(taps)
    rows = np.repeat(np.arange(len(place)), 4)
    return sparse.csr_array((weights.ravel(), (rows, index.ravel())), shape=(len(place), size))
