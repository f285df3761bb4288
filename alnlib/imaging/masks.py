"""Where a lesion was drawn: the rules by which masks of every format and modality are read.

A mask must say which pixels are the lesion. What could mean two things is an error that names the file and the remedy; nothing
is guessed from the look of an image. Files are opened in `read` and `volumes`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from scipy import ndimage

from alnlib.errors import InputError

MOST_OF_IMAGE = 0.5
"""Largest share of an image that a lesion has, unless `mask_label` says what it is. Our choice."""

SPECK = 0.01
"""Parts smaller than this share of the largest, and farther from its box than that is long, are strays of the drawing tool and
left out; small ones nearby may be satellites of the lesion. Our choice."""

MAX_LABELS = 20
"""Whole numbers up to this, more than two of them, are labels of several structures; beyond, grays of an edge. Our choice."""

EDGE_PX = 3
"""How far from its half-way contour a mask that was resampled, smoothed or compressed may have values between."""

LEVEL_SHARE = 0.7
"""Fewest of all values that are those of lesion and background; of noise cut half-way, all lie at a contour."""

EDGE_SHARE = 0.99
"""Share of the values between lesion and background that must lie at the contour."""

LEVEL_BINS = 64


def drawn_lesion(values: np.ndarray, path: Path, label: int | None = None) -> np.ndarray:
    """bool of the shape of values: which of them are the lesion.

    label: those of this value. Without it: of two values the higher; of values with an edge between two levels, as
    interpolation, smoothing or lossy compression leaves it, those from half-way up; all zero: none. Raises InputError, naming
    the values, for one value everywhere, several labels, gray values all over (the image itself, or a contour drawn into it),
    and for a lesion that covers more than half of the image, which is rather the background.
    """
    found, counts = np.unique(values, return_counts=True)
    if label is not None:
        if label not in found and found.any():
            raise InputError(f"{path}: nothing in the mask has the value {label}; it holds {_listed(found, counts)}")
        return values == label
    if len(found) == 1:
        if found[0] == 0:
            return np.zeros(values.shape, bool)
        raise InputError(
            f"{path}: the whole mask has the value {found[0]:g}, so no lesion is drawn; export the mask again, or give a box"
        )
    whole = np.array_equal(found, np.rint(found))
    if len(found) == 2:
        lesion = values == found[1]
    elif whole and max(abs(found[0]), found[-1]) <= MAX_LABELS:
        raise InputError(
            f"{path}: the mask holds several labels, {_listed(found, counts)}; name that of the lesion in a column mask_label "
            "of images.csv"
        )
    else:
        lesion = _half_way(values, path)
    if lesion.mean() > MOST_OF_IMAGE:
        raise InputError(
            f"{path}: the mask covers {100 * lesion.mean():.0f} % of the image, so lesion and background may be exchanged; "
            f"name the value of the lesion in a column mask_label of images.csv ({_listed(found, counts)}), or export it again"
        )
    return lesion


def without_specks(mask: np.ndarray) -> np.ndarray:
    """The mask without the strays that `SPECK` tells of: one pixel would stretch the box of a lesion, and with it every crop."""
    parts, count = ndimage.label(mask, np.ones((3,) * mask.ndim))
    if count < 2:
        return mask
    sizes, boxes = np.bincount(parts.ravel())[1:], ndimage.find_objects(parts)
    largest = boxes[int(sizes.argmax())]
    kept = np.r_[False, sizes >= SPECK * sizes.max()]
    for number, box in enumerate(boxes, start=1):
        gaps = [max(own.start - axis.stop, axis.start - own.stop) for own, axis in zip(largest, box, strict=True)]
        near = all(gap <= axis.stop - axis.start for gap, axis in zip(gaps, largest, strict=True))
        kept[number] |= near
    return kept[parts]


def _half_way(values: np.ndarray, path: Path) -> np.ndarray:
    """Values from half-way between the two levels that most have. Raises InputError if others lie elsewhere than between."""
    lowest, highest = float(values.min()), float(values.max())
    counts, edges = np.histogram(values, LEVEL_BINS, (lowest, highest))
    middles, half = 0.5 * (edges[:-1] + edges[1:]), LEVEL_BINS // 2
    background, drawn = middles[counts[:half].argmax()], middles[half + counts[half:].argmax()]
    lesion = values >= 0.5 * (background + drawn)
    between = np.minimum(np.abs(values - background), np.abs(values - drawn)) > 0.1 * (drawn - background)
    around = np.ones((3,) * values.ndim)
    edge = ndimage.binary_dilation(lesion, around, EDGE_PX) & ~ndimage.binary_erosion(lesion, around, EDGE_PX)
    if between.mean() > 1 - LEVEL_SHARE or (between & edge).sum() < EDGE_SHARE * between.sum():
        raise InputError(
            f"{path}: is no mask: it has gray values from {lowest:.4g} to {highest:.4g} all over (the image itself, a contour "
            "drawn into it, or probabilities?); export the lesion as one value on a background of another"
        )
    return lesion


def _listed(found: np.ndarray, counts: np.ndarray, first: int = 5) -> str:
    order = np.argsort(-counts, kind="stable")[:first]
    told = ", ".join(f"{found[k]:g} ({counts[k]} times)" for k in sorted(order))
    return told + (f" and {len(found) - first} more" if len(found) > first else "")


def joined(masks: Sequence[np.ndarray]) -> np.ndarray:
    """The union of masks of one image."""
    return np.logical_or.reduce(masks)
