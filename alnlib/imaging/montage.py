"""Images for a reader's eye: one panel with outline and scale bar, and crops side by side.

The caller makes the figure, chooses the images and saves.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes

OUTLINE_COLOR = "#f2c14e"
LONGEST_BAR_MM = 10.0
"""Of the scale bar, which is halved until a panel holds it."""


@dataclass(frozen=True)
class Panel:
    """One image of a plate.

    pixels: (rows, columns); mask: same shape, its outline is drawn; spacing_mm: (row, column), gives the true aspect and a scale
    bar; title: patient, endpoint, provenance; limits: gray values of black and white (default: the extremes).
    """

    pixels: np.ndarray
    title: str
    mask: np.ndarray | None = None
    spacing_mm: tuple[float, float] | None = None
    limits: tuple[float, float] | None = None


def plot_panel(ax: Axes, panel: Panel) -> Axes:
    """Draw one panel on `ax` and return it; rows run down, without ticks."""
    low, high = panel.limits if panel.limits else (float(panel.pixels.min()), float(panel.pixels.max()))
    aspect = panel.spacing_mm[0] / panel.spacing_mm[1] if panel.spacing_mm else 1.0
    ax.imshow(panel.pixels, cmap="gray", vmin=low, vmax=high, aspect=aspect, interpolation="nearest")
    if panel.mask is not None and panel.mask.any() and not panel.mask.all():
        ax.contour(np.asarray(panel.mask, dtype=float), levels=[0.5], colors=OUTLINE_COLOR, linewidths=0.8)
    if panel.spacing_mm:
        rows, columns = panel.pixels.shape
        bar_mm = LONGEST_BAR_MM
        while bar_mm / panel.spacing_mm[1] > 0.9 * columns:
            bar_mm /= 2
        length = bar_mm / panel.spacing_mm[1]
        right, bottom = 0.96 * columns, 0.95 * rows
        ax.plot([right - length, right], [bottom, bottom], color="white", linewidth=2, solid_capstyle="butt")
        ax.text(right, bottom - 0.02 * rows, f"{bar_mm:g} mm", color="white", ha="right", va="bottom", fontsize=6)
    ax.set_title(panel.title, fontsize=8)
    ax.set_xticks([])
    ax.set_yticks([])
    return ax


def plot_crops(axes: Iterable[Axes], crops: Iterable[np.ndarray], titles: Iterable[str]) -> None:
    """Draw uint8 crops (rows, columns) as a network sees them, one on each of the axes, which are all switched off."""
    axes = list(axes)
    for ax, crop, title in zip(axes, crops, titles, strict=False):
        ax.imshow(crop, cmap="gray", vmin=0, vmax=255)
        ax.set_title(title, fontsize=7, fontweight="normal", loc="center")
    for ax in axes:
        ax.set_axis_off()
