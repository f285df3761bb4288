"""Text burnt into pixels, found by its shape: rows of small bright marks on even ground.

Only found: what it says is not read, and nothing is blanked.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from alnlib.imaging.crop import Box

LEVELS = (0.3, 0.6)
"""Shares of the range of gray values from which a mark is bright: the lower for text on black, the higher for text on a bar."""

EVEN, DARKER = 0.08, 0.1
"""Largest range of the ground above and below a letter, and how far below the level it lies, in the same shares. Our choice."""

LETTER_PX = (5, 40)
"""Height of a letter."""

LETTERS = 4
"""Marks in a row that make a text."""


def text_boxes(pixels: np.ndarray) -> list[Box]:
    """Boxes (row0, col0, row1, col1), half open, of what looks like lines of text in a gray image (rows, columns).

    A letter is a connected mark of `LETTER_PX` height, at most twice as wide, with two rows of even ground above and below
    (a row between may be blurred); a text is `LETTERS` of them side by side, alike in height. Text on tissue, in color alone
    or written by hand is not found. Of a sweep give the smallest value of each pixel over its frames: tissue moves, text stays.
    """
    low, high = float(pixels.min()), float(pixels.max())
    if high <= low:
        return []
    shares = (pixels - low) / (high - low)
    texts: list[Box] = []
    for level in LEVELS:
        lines = [box for box, count in _lines(_letters(shares, level)) if count >= LETTERS]
        texts += [box for box in lines if not any(_overlap(box, text) for text in texts)]
    return texts


def _letters(shares: np.ndarray, level: float) -> list[Box]:
    padded = np.pad(shares, ((3, 3), (0, 0)), mode="edge")
    labels, _ = ndimage.label(shares >= level, np.ones((3, 3)))
    letters = []
    for rows, columns in ndimage.find_objects(labels):
        height, width = rows.stop - rows.start, columns.stop - columns.start
        if LETTER_PX[0] <= height <= LETTER_PX[1] and width <= 2 * height:
            around = (padded[rows.start : rows.start + 2, columns], padded[rows.stop + 4 : rows.stop + 6, columns])
            if all(np.ptp(ground) <= EVEN and ground.max() <= level - DARKER for ground in around):
                letters.append((rows.start, columns.start, rows.stop, columns.stop))
    return letters


def _overlap(one: Box, other: Box) -> bool:
    return all(one[axis] < other[axis + 2] and other[axis] < one[axis + 2] for axis in (0, 1))


def _lines(letters: list[Box]) -> list[tuple[Box, int]]:
    """Letters, from left to right, joined to the line that they continue: its box and how many they are."""
    lines: list[tuple[list[int], int]] = []
    for top, left, bottom, right in sorted(letters, key=lambda box: box[1]):
        height = bottom - top
        for at, (line, count) in enumerate(lines):
            tall = line[2] - line[0]
            overlap = min(bottom, line[2]) - max(top, line[0])
            alike = 0.5 <= height / tall <= 2.0 and overlap >= 0.6 * min(height, tall)
            if alike and left - line[3] <= 1.5 * tall:
                joined = [min(line[0], top), line[1], max(line[2], bottom), max(line[3], right)]
                lines[at] = (joined, count + 1)
                break
        else:
            lines.append(([top, left, bottom, right], 1))
    return [(tuple(line), count) for line, count in lines]
