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
from alneval.style import GUIDE, INK, PALETTE, WARNING, head, legend_below, model_words, pipeline_words


class Mark(NamedTuple):
    """An AUC to be marked: value (None: nothing is drawn, the name is written), name, color, style of the line."""

    value: float | None
    name: str
    color: str
    dash: str


def twins_figure(
    twins: Mapping[str, PermutedTwin], leaks: pd.DataFrame, studies: Mapping[str, str] | None = None
) -> Figure:
    """Permuted-label twins as a forest, and a panel per pipeline of what selection inside and outside claims.

    leaks: columns pipeline, labels ("true", "permuted"), inside, outside, a row per resplit. studies: {study: its short name}.
    """
    pipelines, called = list(leaks["pipeline"].unique()), dict(studies or {})
    widths = [2.0, *[1.0] * len(pipelines)]
    size = (5.0 + 3.0 * len(pipelines), 2.0 + 0.34 * max(len(twins), 5))
    figure, axes = plt.subplots(1, len(widths), figsize=size, width_ratios=widths, squeeze=False)
    _plot_twins({pipeline_words(name, called): twin for name, twin in twins.items()}, axes[0, 0])
    for ax, name in zip(axes[0, 1:], pipelines, strict=True):
        _plot_selection(leaks[leaks["pipeline"] == name], ax)
        head(
            ax, pipeline_words(name, called), f"{leaks[leaks['pipeline'] == name]['labels'].eq('true').sum()} resplits"
        )
    return figure


def resplits_figure(
    resplits: pd.DataFrame,
    means: Mapping[str, Estimate],
    marks: Mapping[str, Sequence[Mark]],
    studies: Mapping[str, str] | None = None,
) -> Figure:
    """Histogram of the AUCs of single splits, a panel per pipeline, with its mean and other marks.

    resplits: columns pipeline, auc and, where known, n_test; means, marks: by pipeline. studies: {study: its short name}.
    """
    figure, axes = panels(max(len(means), 1), width=3.8, height=3.6)
    for ax, (name, mean) in zip(axes, means.items(), strict=False):
        own = resplits[resplits["pipeline"] == name]
        ax.hist(own["auc"], bins=np.arange(0.2, 1.025, 0.025), color="0.75", zorder=1)
        for mark in (Mark(mean.value, "mean", INK, "-"), *marks[name]):
            if mark.value is not None:
                label = f"{model_words(mark.name)} {mark.value:.2f}"
                ax.axvline(mark.value, color=mark.color, lw=1.5, ls=mark.dash, label=label)
        ax.set(xlabel="Test AUC", ylabel="Resplits")
        tested = f" of {own['n_test'].iloc[0]} test patients" if "n_test" in own else ""
        head(ax, pipeline_words(name, dict(studies or {})), f"{len(own)} resplits{tested}")
        for mark in marks[name]:
            if mark.value is None:
                ax.plot([], [], " ", label=mark.name)
        legend_below(ax)
    return figure


def learning_curves_figure(curves: pd.DataFrame, n_resplits: int, studies: Mapping[str, str] | None = None) -> Figure:
    """Mean test AUC against training patients, with the middle half of the resplits as a bar.

    curves: `resplit.CURVE_COLUMNS` and pipeline. studies: {study: its short name}.
    """
    figure, ax = plt.subplots(figsize=(6.6, 3.6))
    for place, (name, points) in enumerate(curves.groupby("pipeline", sort=False)):
        x, color = points["n_train"] * (1 + 0.015 * (place - 1)), PALETTE[place % len(PALETTE)]
        ax.vlines(x, points["auc_q25"], points["auc_q75"], color=color, lw=1.4)
        words = pipeline_words(name, dict(studies or {}))
        ax.plot(x, points["auc"], "soD^vP"[place % 6] + "-", ms=5, lw=1.2, color=color, label=words)
    ax.axhline(0.5, color=GUIDE, ls="--", lw=1, zorder=0)
    ax.set(xlabel="Training patients", ylabel="Test AUC (mean; bar: middle half)")
    head(
        ax,
        "Learning curves",
        f"{n_resplits} resplits; test patients stay the same while the training part is shortened",
    )
    ax.legend(loc="upper left", bbox_to_anchor=(1, 1))
    return figure


def subgroups_figure(table: pd.DataFrame, model: str) -> Figure:
    """AUCs of one model in subgroups. table: `subgroups.SUBGROUP_COLUMNS`."""
    counts = " (" + table["n_positive"].astype(str) + "/" + table["n"].astype(str) + ")"
    rows = table.assign(name=table["variable"] + ": " + table["level"] + counts)
    figure, ax = plt.subplots(figsize=(7.2, 1.3 + 0.24 * len(rows)))
    plot_forest(rows, ax, "name", "auc", "auc_low", "auc_high", reference=0.5, log=False)
    ax.set(xlim=(0.2, 1), xlabel="AUC (95 % interval)")
    head(ax, model_words(model), "held-out patients (positive/all)")
    return figure


def _plot_twins(twins: Mapping[str, PermutedTwin], ax: Axes) -> None:
    means = [(name, twin.mean.value, twin.mean.low, twin.mean.high) for name, twin in twins.items()]
    plot_forest(
        pd.DataFrame(means, columns=["name", "auc", "low", "high"]), ax, "name", "auc", "low", "high", 0.5, False
    )
    places = np.arange(len(twins))[::-1]
    ax.plot([twin.real_auc for twin in twins.values()], places, "o", color=WARNING, ms=6, label="true labels")
    ax.plot([], [], "s-", color=INK, ms=5, label="permuted labels, 99 % interval of the mean")
    ax.set(xlim=(0.35, 1), xlabel="Cross-validated AUC")
    head(ax, "Permuted-label twins", "the whole pipeline, fitted on shuffled labels")
    legend_below(ax)


def _plot_selection(leaks: pd.DataFrame, ax: Axes) -> None:
    styles = {"inside": (INK, "s", "inside the fold"), "outside": (WARNING, "o", "outside, on all patients")}
    for group, labels in enumerate(("true", "permuted")):
        for shift, (where, (color, marker, _)) in zip((-0.2, 0.2), styles.items(), strict=True):
            values = leaks.loc[leaks["labels"] == labels, where]
            ax.plot(np.full(len(values), group + shift), values, marker, ms=4, mfc="none", color=color)
            ax.hlines(values.mean(), group + shift - 0.16, group + shift + 0.16, color=color, lw=2.2)
    for color, marker, words in styles.values():
        ax.plot([], [], marker, mfc="none", color=color, ms=4, label=words)
    ax.axhline(0.5, color=GUIDE, ls="--", lw=1, zorder=0)
    ax.set(xlim=(-0.6, 1.6), ylim=(0.2, 1.02), ylabel="Test AUC")
    ax.set_xticks((0, 1), ["true\nlabels", "permuted\nlabels"])
    legend_below(ax, "features selected", 38)
