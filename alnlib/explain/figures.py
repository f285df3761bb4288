"""Figures of explanations: heat on nodes and frames, and whether it can be trusted. Each draws on axes that it is given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from alneval.figures import plot_heat
from alneval.style import GUIDE, INK, PALE, head, legend_below
from alnlib.explain.faithfulness import map_similarity

HEAT_PERCENTILE = 99.0


def scaled_heat(maps: np.ndarray) -> np.ndarray:
    """Maps in [0, 1], float32, divided by one scale for all patients and clipped: equal colors mean equal evidence.

    The scale is the 99th percentile of the positive heat of all maps. Divided each by its own maximum, as is common, every
    map reaches red: that of a patient in whom the network found nothing is noise stretched to look like a finding, and no
    two maps can be compared. Zeros are left out of the percentile, or a cohort with little heat would have the scale 0.
    Without any heat everything is 0. Raises ValueError for negative or infinite heat.
    """
    if not np.isfinite(maps).all() or (maps < 0).any():
        raise ValueError("maps hold negative or infinite heat; give them as `grad_cam` returns them")
    positive = maps[maps > 0]
    scale = np.percentile(positive, HEAT_PERCENTILE) if positive.size else 1.0
    return np.clip(np.asarray(maps, np.float32) / np.float32(scale), 0.0, 1.0)


def plot_heat_row(
    axes: Sequence[Axes],
    images: Sequence[np.ndarray],
    heat: Sequence[np.ndarray],
    name: str,
    titles: Sequence[str] = (),
    outlines: Sequence[np.ndarray | None] = (),
) -> None:
    """Images side by side under their heat, which is on one scale already; `name` stands at the left."""
    outlines = list(outlines) or [None] * len(images)
    titles = list(titles) or [""] * len(images)
    for ax, image, warm, title, outline in zip(axes, images, heat, titles, outlines, strict=False):
        plot_heat(image, warm, ax, outline=outline)
        ax.set_title(title, fontsize=7, fontweight="normal", loc="center")
    axes[0].set_ylabel(name, fontsize=8)


def plot_cascades(
    cascades: pd.DataFrame, maps: Mapping[str, np.ndarray], ax: Axes, colors: Mapping[str, object]
) -> None:
    """Similarity to the fitted network's maps as stages are randomized (columns crop, step, ssim, spearman).

    maps: by crop, (n, rows, columns) of different images, whose own similarity is dashed.
    """
    for crop, cascade in cascades.groupby("crop", sort=False):
        ax.plot(cascade["step"], cascade["ssim"], color=colors[crop], lw=1.8, label=f"{crop}: structural similarity")
        label = f"{crop}: rank correlation"
        ax.plot(cascade["step"], cascade["spearman"], color=colors[crop], lw=1.2, ls=":", label=label)
    for crop, of_crop in maps.items():
        others = map_similarity(of_crop, np.roll(of_crop, 1, axis=0))["ssim"].mean()
        ax.axhline(others, color=colors[crop], lw=0.9, ls="--", zorder=1)
    ax.set(xlabel="Stages randomized, from the output down", ylabel="Similarity to the fitted map")
    ax.set_ylim(-0.4, 1.05)
    ax.plot([], [], color=PALE, lw=0.9, ls="--", label="of two different nodes, structural")
    ax.legend(loc="upper left", bbox_to_anchor=(1, 1))


def plot_drop(drop: np.ndarray, ax: Axes, strongest: float) -> None:
    """Fall of the score (rows, columns) when a square is blurred, from -strongest to strongest."""
    ax.imshow(drop, cmap="RdBu_r", vmin=-strongest, vmax=strongest)
    ax.set(xticks=[], yticks=[])
    ax.set_title("fall of the score", fontsize=7, fontweight="normal")


def plot_frame_profile(
    offset: np.ndarray, heat: np.ndarray, positive: np.ndarray, names: Mapping[int, str], width: int, ax: Axes
) -> None:
    """Mean heat along sweeps, as a share of the hottest frame, with and without the outcome.

    offset: (sweeps, frames) from the key frame; heat: the same, any scale; positive: (sweeps,) bool; width: frames per bin.
    """
    bins, share = np.round(offset / width).astype(int), heat / heat.max(axis=1, keepdims=True)
    for label, color, marker in ((1, INK, "o"), (0, PALE, "s")):
        of_label = positive == bool(label)
        places = np.unique(bins[of_label])
        means = [share[of_label][bins[of_label] == place].mean() for place in places]
        ax.plot(places * width, means, f"{marker}-", color=color, ms=4, label=f"{names[label]} (n = {of_label.sum()})")
    ax.axvline(0, color=GUIDE, lw=0.9, ls="--", zorder=0)
    ax.set(xlabel="Frames before (-) and after (+) the key frame", ylabel="Heat, share of the hottest")
    ax.set_ylim(0, 1.05)
    head(ax, "Where along the sweep the heat lies", f"mean over sweeps, n = {len(positive)}")
    legend_below(ax)
