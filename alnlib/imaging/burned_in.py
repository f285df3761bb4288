"""Text burnt into pixels, found by its shape: rows of small bright marks on an even dark ground.

Only found: what it says is not read, and nothing is blanked.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from alnlib.imaging.crop import Box

DARK, BRIGHT = 0.08, 0.3
"""Share of the range of gray values up to which the ground is dark, and from which a mark is bright. Our choice."""

LETTER_PX = (5, 40)
"""Height of a letter."""

LETTERS = 4
"""Marks in a row that make a text."""


def text_boxes(pixels: np.ndarray) -> list[Box]:
    """Boxes (row0, col0, row1, col1), half open, of what looks like lines of text in a gray image (rows, columns).

    A letter is a connected mark of `LETTER_PX` height, at most twice as wide, with two dark rows above and below; a text is
    `LETTERS` of them side by side, alike in height. Text on tissue, in color alone or written by hand is not found. Of a
    sweep give the smallest value of each pixel over its frames: tissue moves, text stays.
    """
    low, high = float(pixels.min()), float(pixels.max())
    if high <= low:
        return []
    shares = (pixels - low) / (high - low)
    dark = np.pad(shares <= DARK, 2, constant_values=True)
    labels, _ = ndimage.label(shares >= BRIGHT, np.ones((3, 3)))
    letters = []
    for rows, columns in ndimage.find_objects(labels):
        height, width = rows.stop - rows.start, columns.stop - columns.start
        if not LETTER_PX[0] <= height <= LETTER_PX[1] or width > 2 * height:
            continue
        across = slice(columns.start + 2, columns.stop + 2)
        if dark[rows.start : rows.start + 2, across].all() and dark[rows.stop + 2 : rows.stop + 4, across].all():
            letters.append((rows.start, columns.start, rows.stop, columns.stop))
    return [box for box, count in _lines(letters) if count >= LETTERS]


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
