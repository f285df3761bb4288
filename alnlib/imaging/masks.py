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

EDGE_PX, JPEG_EDGE_PX = 3, 16
"""How far from its half-way contour a mask that was resampled or smoothed may have values between, and one saved as JPEG, whose
blocks ring over 8 pixels, those of color over 16."""

LEVEL_SHARE = 0.7
"""Fewest of all values that are those of lesion and background; of noise cut half-way, all lie at a contour."""

EDGE_SHARE = 0.99
"""Share of the values between lesion and background that must lie at the contour."""

FLAT_SHARE, FLAT_PLACES = 0.02, 2
"""A value between two levels with equal neighbors, up to this share of their difference, is a level of its own; so many places
are no chance."""

LEVEL_BINS = 64


def drawn_lesion(values: np.ndarray, path: Path, label: int | None = None, edge_px: int = EDGE_PX) -> np.ndarray:
    """bool of the shape of values: which of them are the lesion.

    label: those of this value, half-way to the other level where values between tell of an edge. Without it: of two values the
    higher; of values with an edge between two levels, as interpolation, smoothing or lossy compression leaves it, those from
    half-way up; all zero: none. edge_px: how wide such an edge may be on either side. Raises InputError, naming the values, for
    one value everywhere, several labels, gray values all over (the image itself, or a contour drawn into it), an outline that is
    not filled, and for a lesion that covers more than half of the image, which is rather the background.
    """
    found, counts = np.unique(values, return_counts=True)
    if len(found) == 1 and (label is None or label != found[0] or found[0] == 0):
        if found[0] == 0 and label != 0:
            return np.zeros(values.shape, bool)
        raise InputError(
            f"{path}: the whole mask has the value {found[0]:g}, so no lesion is drawn; export the mask again, or give a box"
        )
    whole = np.array_equal(found, np.rint(found))
    few = whole and len(found) <= MAX_LABELS
    if label is not None:
        return values == label if few and label in found else _side_of(label, values, path, edge_px, found, counts)
    if len(found) == 2:
        lesion = values == found[1]
    elif few and max(abs(found[0]), found[-1]) <= MAX_LABELS:
        raise _several(path, found, counts)
    else:
        lesion, _ = _half_way(values, path, edge_px, found, counts)
    refuse_background(lesion, path, _listed(found, counts))
    if _is_outline(lesion):
        raise InputError(f"{path}: the mask is a line round a place, and not the place; fill it and export it again")
    return lesion


def refuse_background(lesion: np.ndarray, path: Path, values: str) -> None:
    """Raise InputError for a lesion that covers more of the image than `MOST_OF_IMAGE`. values: what the mask holds, in words."""
    if lesion.mean() > MOST_OF_IMAGE:
        raise InputError(
            f"{path}: the mask covers {100 * lesion.mean():.0f} % of the image, so lesion and background may be exchanged; "
            f"name the value of the lesion in a column mask_label of images.csv ({values}), or export it again"
        )


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


def _half_way(
    values: np.ndarray, path: Path, edge_px: int, found: np.ndarray, counts: np.ndarray
) -> tuple[np.ndarray, tuple[float, float]]:
    """Values from half-way between the two levels that most have, and these levels. Raises InputError if others lie elsewhere
    than at the edge between, or are a level of their own."""
    lowest, highest = float(found[0]), float(found[-1])
    numbers, edges = np.histogram(values, LEVEL_BINS, (lowest, highest))
    middles, half = 0.5 * (edges[:-1] + edges[1:]), LEVEL_BINS // 2
    background, drawn = float(middles[numbers[:half].argmax()]), float(middles[half + numbers[half:].argmax()])
    apart = drawn - background
    lesion = values >= 0.5 * (background + drawn)
    between = np.minimum(np.abs(values - background), np.abs(values - drawn)) > 0.1 * apart
    change = ndimage.maximum_filter(values, 3) - ndimage.minimum_filter(values, 3)
    is_level = (between & (change <= FLAT_SHARE * apart)).sum() >= FLAT_PLACES
    if is_level and len(found) <= MAX_LABELS:
        raise _several(path, found, counts)
    around = np.ones((3,) * values.ndim)
    edge = ndimage.binary_dilation(lesion, around, edge_px) & ~ndimage.binary_erosion(lesion, around, edge_px)
    if between.mean() > 1 - LEVEL_SHARE or (between & edge).sum() < EDGE_SHARE * between.sum():
        raise InputError(
            f"{path}: is no mask: it has gray values from {lowest:.4g} to {highest:.4g} all over (the image itself, a contour "
            "drawn into it, or probabilities?); export the lesion as one value on a background of another"
        )
    if is_level:
        raise _several(path, found, counts)
    return lesion, (background, drawn)


def _side_of(
    label: int, values: np.ndarray, path: Path, edge_px: int, found: np.ndarray, counts: np.ndarray
) -> np.ndarray:
    """The side of a mask with an edge on which a label lies. Raises InputError if it is neither of the two levels."""
    if len(found) > MAX_LABELS or not np.array_equal(found, np.rint(found)):
        upper, levels = _half_way(values, path, edge_px, found, counts)
        near = [abs(label - level) <= 0.1 * (levels[1] - levels[0]) for level in levels]
        if any(near):
            return upper if near[1] else ~upper
    raise InputError(f"{path}: nothing in the mask has the value {label}; it holds {_listed(found, counts)}")


def _is_outline(lesion: np.ndarray) -> bool:
    """Whether most slices hold a thin closed line that goes round much more than it covers."""
    slices = [plane for plane in (lesion if lesion.ndim == 3 else lesion[None]) if plane.any()]
    lines = 0
    for plane in slices:
        thin = not ndimage.binary_erosion(plane, np.ones((3, 3))).any()
        lines += thin and ndimage.binary_fill_holes(plane).sum() > 2 * plane.sum()
    return bool(slices) and lines > len(slices) / 2


def _several(path: Path, found: np.ndarray, counts: np.ndarray) -> InputError:
    return InputError(
        f"{path}: the mask holds several labels, {_listed(found, counts)}; name that of the lesion in a column mask_label of "
        "images.csv"
    )


def _listed(found: np.ndarray, counts: np.ndarray, first: int = 5) -> str:
    order = np.argsort(-counts, kind="stable")[:first]
    told = ", ".join(f"{found[k]:g} ({counts[k]} times)" for k in sorted(order))
    return told + (f" and {len(found) - first} more" if len(found) > first else "")


def joined(masks: Sequence[np.ndarray]) -> np.ndarray:
    """The union of masks of one image."""
    return np.logical_or.reduce(masks)
