"""Images side by side for a reader's eye: one panel with outline and scale bar, and a plate of several.

The caller makes the figure, chooses the images and saves.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes


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


def plot_panel(ax: Axes, panel: Panel, *, outline_color: str = "#f2c14e", bar_mm: float = 10.0) -> Axes:
    """Draw one panel on `ax` and return it; rows run down, without ticks."""
    low, high = panel.limits if panel.limits else (float(panel.pixels.min()), float(panel.pixels.max()))
    aspect = panel.spacing_mm[0] / panel.spacing_mm[1] if panel.spacing_mm else 1.0
    ax.imshow(panel.pixels, cmap="gray", vmin=low, vmax=high, aspect=aspect, interpolation="nearest")
    if panel.mask is not None and panel.mask.any() and not panel.mask.all():
        ax.contour(np.asarray(panel.mask, dtype=float), levels=[0.5], colors=outline_color, linewidths=0.8)
    if panel.spacing_mm:
        rows, columns = panel.pixels.shape
        length = bar_mm / panel.spacing_mm[1]
        while length > 0.9 * columns:  # a panel narrower than the bar
            bar_mm, length = bar_mm / 2, length / 2
        right, bottom = 0.96 * columns, 0.95 * rows
        ax.plot([right - length, right], [bottom, bottom], color="white", linewidth=2, solid_capstyle="butt")
        ax.text(
            right,
            bottom - 0.02 * rows,
            f"{bar_mm:g} mm",
            color="white",
            ha="right",
            va="bottom",
            fontsize=6,
        )
    ax.set_title(panel.title, fontsize=8)
    ax.set_xticks([])
    ax.set_yticks([])
    return ax


def plot_plate(axes: Axes | Iterable[Axes], panels: Sequence[Panel], **options: object) -> np.ndarray:
    """Draw panels on an array of axes, row by row, and return the axes; axes left over are switched off.

    options: as for `plot_panel`. Raises ValueError if there are more panels than axes.
    """
    axes = np.atleast_1d(np.asarray(axes, dtype=object))
    if len(panels) > axes.size:
        raise ValueError(f"{len(panels)} panels do not fit on {axes.size} axes")
    for ax, panel in zip(axes.flat, panels, strict=False):
        plot_panel(ax, panel, **options)
    for ax in list(axes.flat)[len(panels) :]:
        ax.set_axis_off()
    return axes


def plot_rows(axes: np.ndarray, rows: Sequence[Sequence[Panel]], **options: object) -> np.ndarray:
    """Draw rows of panels on a (rows, columns) array of axes; a shorter row leaves its last axes off.

    options: as for `plot_panel`. Raises ValueError if a row has more panels than there are columns.
    """
    axes = np.atleast_2d(np.asarray(axes, dtype=object))
    if len(rows) > len(axes):
        raise ValueError(f"{len(rows)} rows do not fit on {len(axes)}")
    for row, panels in enumerate(rows):
        plot_plate(axes[row], panels, **options)
    for ax in axes[len(rows) :].flat:
        ax.set_axis_off()
    return axes


def plot_crops(axes: Iterable[Axes], crops: Iterable[np.ndarray], titles: Iterable[str]) -> None:
    """Draw uint8 crops (rows, columns) as a network sees them, one on each of the axes, which are all switched off."""
    axes = list(axes)
    for ax, crop, title in zip(axes, crops, titles, strict=False):
        ax.imshow(crop, cmap="gray", vmin=0, vmax=255)
        ax.set_title(title, fontsize=7, fontweight="normal", loc="center")
    for ax in axes:
        ax.set_axis_off()
