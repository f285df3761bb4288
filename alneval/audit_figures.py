"""Figures of audits and of luck: permuted twins, resplits, learning curves, subgroups.

What they show is made in `resplit`, `audit` and `subgroups`; plots of one model in `figures`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from alneval.estimate import Estimate
from alneval.figures import panels, plot_forest
from alneval.resplit import PermutedTwin

CRIMSON, DARK = "crimson", "0.25"


class Mark(NamedTuple):
    """An AUC to be marked: value (None: nothing is drawn, the name is written), name, color, style of the line."""

    value: float | None
    name: str
    color: str
    dash: str


def twins_figure(twins: Mapping[str, PermutedTwin], leaks: pd.DataFrame) -> Figure:
    """Permuted-label twins as a forest, and a panel per pipeline of what selection inside and outside claims.

    leaks: columns pipeline, labels ("true", "permuted"), inside, outside, a row per resplit.
    """
    pipelines = list(leaks["pipeline"].unique())
    widths = [2.2, *[1.0] * len(pipelines)]
    size = (4.6 + 2.4 * len(pipelines), 1.6 + 0.34 * max(len(twins), 5))
    figure, axes = plt.subplots(1, len(widths), figsize=size, width_ratios=widths, squeeze=False)
    _plot_twins(twins, axes[0, 0])
    for ax, name in zip(axes[0, 1:], pipelines, strict=True):
        _plot_selection(leaks[leaks["pipeline"] == name], ax)
        ax.set_title(name)
    return figure


def resplits_figure(
    resplits: pd.DataFrame, means: Mapping[str, Estimate], marks: Mapping[str, Sequence[Mark]]
) -> Figure:
    """Histogram of the AUCs of single splits, a panel per pipeline, with its mean and other marks.

    resplits: columns pipeline, auc; means, marks: by pipeline.
    """
    figure, axes = panels(max(len(means), 1), width=3.6, height=2.9)
    for ax, (name, mean) in zip(axes, means.items(), strict=False):
        values = resplits.loc[resplits["pipeline"] == name, "auc"]
        ax.hist(values, bins=np.arange(0.2, 1.025, 0.025), color="0.75")
        for mark in (Mark(mean.value, "mean", "0.2", "-"), *marks[name]):
            if mark.value is not None:
                label = f"{mark.name} {mark.value:.2f}"
                ax.axvline(mark.value, color=mark.color, lw=1.5, ls=mark.dash, label=label)
        title = f"{name}, {len(values)} resplits"
        ax.set(xlabel="Test AUC", ylabel="Resplits", title=title, ylim=(0, 1.45 * ax.get_ylim()[1]))
        for mark in marks[name]:
            if mark.value is None:
                ax.plot([], [], " ", label=mark.name)
        ax.legend(loc="upper left", fontsize=7, frameon=True, framealpha=1, edgecolor="none")
    return figure


def learning_curves_figure(curves: pd.DataFrame, n_resplits: int) -> Figure:
    """Mean test AUC with its middle half against training patients. curves: `resplit.CURVE_COLUMNS` and pipeline."""
    figure, ax = plt.subplots(figsize=(5.4, 3.2))
    for place, (name, points) in enumerate(curves.groupby("pipeline", sort=False)):
        ax.plot(points["n_train"], points["auc"], "o-", ms=4, color=f"C{place}", label=name)
        ax.fill_between(points["n_train"], points["auc_q25"], points["auc_q75"], color=f"C{place}", alpha=0.2, lw=0)
    ax.axhline(0.5, color="0.6", ls="--", lw=1)
    ax.set(xlabel="Training patients", ylabel="Test AUC (mean, middle half)")
    ax.set_title(f"Learning curves, {n_resplits} resplits")
    ax.legend(loc="upper left", bbox_to_anchor=(1, 1))
    return figure


def subgroups_figure(table: pd.DataFrame, model: str) -> Figure:
    """AUCs of one model in subgroups. table: `subgroups.SUBGROUP_COLUMNS`."""
    counts = " (" + table["n_positive"].astype(str) + "/" + table["n"].astype(str) + ")"
    rows = table.assign(name=table["variable"] + ": " + table["level"] + counts)
    figure, ax = plt.subplots(figsize=(6.4, 1.0 + 0.21 * len(rows)))
    plot_forest(rows, ax, "name", "auc", "auc_low", "auc_high", reference=0.5, log=False)
    ax.set(xlim=(0.2, 1), xlabel="AUC (95 % interval)", title=f"{model}, held-out patients (positive/all)")
    return figure


def _plot_twins(twins: Mapping[str, PermutedTwin], ax: Axes) -> None:
    means = [(name, twin.mean.value, twin.mean.low, twin.mean.high) for name, twin in twins.items()]
    plot_forest(
        pd.DataFrame(means, columns=["name", "auc", "low", "high"]), ax, "name", "auc", "low", "high", 0.5, False
    )
    places = np.arange(len(twins))[::-1]
    ax.plot([twin.real_auc for twin in twins.values()], places, "D", color=CRIMSON, ms=5, label="true labels")
    ax.plot([], [], "s-", color=DARK, ms=5, label="permuted, 99 % interval of the mean")
    ax.set(xlim=(0.35, 1), xlabel="Cross-validated AUC", title="Permuted-label twins")
    ax.legend(loc="upper center", bbox_to_anchor=(0.4, -0.2), ncols=2)


def _plot_selection(leaks: pd.DataFrame, ax: Axes) -> None:
    combinations = [(labels, where) for labels in ("true", "permuted") for where in ("inside", "outside")]
    for place, (labels, where) in enumerate(combinations):
        values = leaks.loc[leaks["labels"] == labels, where]
        color = DARK if where == "inside" else CRIMSON
        ax.plot(np.full(len(values), place), values, "o", ms=3, color=color, alpha=0.6)
        ax.hlines(values.mean(), place - 0.35, place + 0.35, color=color, lw=2)
    ax.axhline(0.5, color="0.6", ls="--", lw=1)
    ax.set(ylim=(0.2, 1.02), ylabel="Test AUC")
    ax.set_xticks(range(4), ["inside\ntrue", "outside\ntrue", "inside\nperm.", "outside\nperm."], fontsize=7)
