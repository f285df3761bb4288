"""Figures of the evaluation in one style: every function takes `ax`, draws, and returns it. The caller saves.

Nothing is estimated here; estimates come from the modules beside this one. A figure names its n, its unit and its interval.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike

from alneval.calibration import CalibrationCurve
from alneval.curves import RECALLS, SPECIFICITIES, precision_recall_curve, roc_curve
from alneval.estimate import Estimate
from alneval.style import GUIDE, INK, PALE, PALETTE, WARNING, head, headline, legend_below, model_words, sentence
from alneval.style import SPLIT_NAMES as SPLIT_NAMES
from alneval.style import model_colors as model_colors
from alneval.style import use_style as use_style
from alneval.units import Units

WIDEST_GAP = 0.15
"""Between neighboring predictions; across a wider gap a calibration curve is only joined up."""

LINE_WIDTHS = {True: 2.3, False: 1.3}
"""Of the lead model, which alone has a band, and of the others."""


def panels(n: int, width: float = 4.4, height: float = 4.2, columns: int = 3) -> tuple[Figure, list[Axes]]:
    """A figure of n panels in rows of at most `columns`; sizes in inches per panel."""
    columns = min(n, columns)
    rows = -(-n // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(columns * width, rows * height), squeeze=False)
    flat = list(axes.flat)
    for unused in flat[n:]:
        unused.set_axis_off()
    return figure, flat[:n]


def plot_roc(
    units: Units,
    estimate: Estimate | str,
    name: str,
    ax: Axes,
    color: object = None,
    dash: object = "-",
    band: Estimate | None = None,
) -> Axes:
    """Add one model's ROC curve; the legend carries its AUC, an estimate or its text.

    band: at SPECIFICITIES, given for the lead model alone, whose line is the thick one: several bands turn gray.
    """
    false_rate, true_rate, _ = roc_curve(units)
    if band is not None:
        ax.fill_between(1 - SPECIFICITIES, band.low, band.high, color=color, alpha=0.15, lw=0, zorder=1)
    style = {"color": color, "ls": dash, "lw": LINE_WIDTHS[band is not None]}
    ax.plot(false_rate, true_rate, label=f"{name}: {estimate}", zorder=3 if band is not None else 2, **style)
    return ax


def finish_roc(ax: Axes, title: str, n: int, n_positive: int, unit: str = "") -> Axes:
    """Diagonal, square axes, labels, the legend below, and a title that says how many units stand behind the curves.

    unit: what is counted where it is not patients, such as "nodes of 43 patients".
    """
    ax.plot([0, 1], [0, 1], color=GUIDE, lw=0.9, ls="--", zorder=0)
    ax.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), xlabel="1 - specificity", ylabel="Sensitivity")
    ax.set_aspect("equal", anchor="N")
    head(ax, title, _counted(n, n_positive, unit))
    return legend_below(ax, _banded(ax, "AUC (95 % interval)"))


def plot_precision_recall(
    units: Units,
    estimate: Estimate | str,
    name: str,
    ax: Axes,
    color: object = None,
    dash: object = "-",
    band: Estimate | None = None,
) -> Axes:
    """Add one model's precision-recall curve as the steps that average precision adds up; band at RECALLS, as in `plot_roc`."""
    precision, recall, _ = precision_recall_curve(units)
    if band is not None:
        ax.fill_between(RECALLS, band.low, band.high, color=color, alpha=0.15, lw=0, zorder=1)
    steps = {"where": "pre", "color": color, "ls": dash, "lw": LINE_WIDTHS[band is not None]}
    steps["zorder"] = 3 if band is not None else 2
    ax.step(np.r_[0, recall], np.r_[precision[:1], precision], label=f"{name}: {estimate}", **steps)
    return ax


def finish_precision_recall(ax: Axes, title: str, n: int, n_positive: int, unit: str = "") -> Axes:
    """The level of a useless score, axes, labels and title; arguments as `finish_roc`."""
    ax.axhline(n_positive / n, color=GUIDE, lw=0.9, ls="--", zorder=0)
    ax.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), xlabel="Recall (sensitivity)", ylabel="Precision (ppv)")
    head(ax, title, _counted(n, n_positive, unit))
    return legend_below(ax, _banded(ax, "Average precision (95 % interval)"))


def _counted(n: int, n_positive: int, unit: str) -> str:
    return f"{n} {unit}, {n_positive} positive" if unit else f"n = {n}, {n_positive} positive"


def _banded(ax: Axes, title: str) -> str:
    """A legend's title that says whose the band is, where there is one."""
    return ", ".join(part for part in (title, "band: the thick line's" if ax.collections else "") if part)


def plot_reader(sensitivity: float, specificity: float, name: str, ax: Axes, marker: str = "D") -> Axes:
    """Mark a human reader's operating point on a ROC plot."""
    ax.plot(1 - specificity, sensitivity, marker, color=INK, ms=7, mec="white", label=name, zorder=5)
    return ax


def plot_calibration(
    curve: CalibrationCurve, y_prob: ArrayLike, y_true: ArrayLike, ax: Axes, color: object = None, text: str = ""
) -> Axes:
    """Flexible calibration curve with its band, the diagonal, where the predictions lie by outcome, and `text` below the axis.

    The curve is cut to [0, 1]; the spikes point up for patients with the outcome and down for those without. Where no
    prediction lies for WIDEST_GAP or more, the curve is a dotted line without a band: nobody was there to learn it from.
    """
    probabilities, outcome = np.asarray(y_prob, float), np.asarray(y_true)
    ax.plot([0, 1], [0, 1], color=GUIDE, lw=1, ls="--", zorder=0)
    predicted, observed = np.asarray(curve.predicted, float), np.clip(curve.observed, 0, 1)
    low, high = np.clip(curve.low, 0, 1), np.clip(curve.high, 0, 1)
    empty = _empty_steps(predicted, probabilities)
    for part in np.split(np.arange(predicted.size), empty + 1):
        alone = part.size == 1
        ax.plot(predicted[part], observed[part], "o" if alone else "-", ms=3.5, color=color, lw=1.8)
        if alone:
            ax.vlines(predicted[part], low[part], high[part], color=color, alpha=0.3, lw=3)
        else:
            ax.fill_between(predicted[part], low[part], high[part], color=color, alpha=0.2, lw=0)
    for step in empty:
        ax.plot(predicted[step : step + 2], observed[step : step + 2], ":", color=color, lw=1.2)
    edges = np.linspace(0, 1, 51)
    centers = (edges[:-1] + edges[1:]) / 2
    for value, direction in ((1, 1), (0, -1)):
        counts = np.histogram(probabilities[outcome == value], edges)[0]
        heights = 0.06 * counts / max(counts.max(), 1)
        ax.vlines(centers, -0.1, -0.1 + direction * heights, color=INK, lw=1.4)
    ax.axhline(-0.1, color=INK, lw=0.5)
    for height, words, side in ((-0.092, "with", "bottom"), (-0.108, "without", "top")):
        ax.text(1.015, height, words, ha="left", va=side, fontsize=6.5, color=INK)
    ax.set(xlim=(-0.01, 1.01), ylim=(-0.18, 1.01), xlabel="Predicted probability", ylabel="Observed proportion")
    ax.set_yticks(np.linspace(0, 1, 6))
    if text:
        below = {"xycoords": "axes fraction", "textcoords": "offset points", "annotation_clip": False}
        ax.annotate(text, (0, 0), (0, -38), va="top", fontsize=7.5, color=INK, linespacing=1.4, **below)
    return ax


def _empty_steps(grid: np.ndarray, predictions: np.ndarray) -> np.ndarray:
    """Steps i of an ascending grid, from i to i + 1, that lie between two neighboring predictions far apart."""
    values = np.unique(predictions)
    if values.size < 2:
        return np.array([], dtype=int)
    above = np.searchsorted(values, (grid[:-1] + grid[1:]) / 2).clip(1, values.size - 1)
    return np.flatnonzero(values[above] - values[above - 1] >= WIDEST_GAP)


def plot_decision_curves(
    tables: Mapping[str, pd.DataFrame],
    ax: Axes,
    colors: Mapping[str, object],
    limits: tuple[float, float] = (0.0, 0.8),
    dashes: Mapping[str, object] | None = None,
    lead: str = "",
) -> Axes:
    """Net benefit against threshold probability for several models, with treat-all and treat-none.

    tables: {model: frame of `decision_curve`}; lead: the model whose band is drawn, if its frame has one.
    """
    dashes = dict.fromkeys(tables, "-") if dashes is None else dashes
    first = next(iter(tables.values()))
    ax.axhline(0, color=INK, lw=1, label="treat none")
    ax.plot(first["threshold"], first["treat_all"], color=PALE, lw=1.2, ls="--", label="treat all")
    top = 0.0
    for model, table in tables.items():
        led = model == lead and "net_benefit_low" in table
        if led:
            band = table["net_benefit_low"], table["net_benefit_high"]
            ax.fill_between(table["threshold"], *band, color=colors[model], alpha=0.15, lw=0)
            top = max(top, table["net_benefit_high"].max())
        style = {"color": colors[model], "ls": dashes[model], "lw": LINE_WIDTHS[led]}
        ax.plot(table["threshold"], table["net_benefit"], label=model_words(model), **style)
        top = max(top, table["net_benefit"].max())
    ax.set(xlim=limits, ylim=(-0.15 * top, 1.08 * top))
    ax.set(xlabel="Threshold probability", ylabel="Net benefit per patient")
    return legend_below(ax, _banded(ax, ""))


def plot_forest(
    table: pd.DataFrame,
    ax: Axes,
    label: str,
    estimate: str,
    low: str,
    high: str,
    reference: float = 1.0,
    log: bool = True,
    color: object = None,
) -> Axes:
    """Estimates with intervals, one row each from the top; rows without an estimate say so.

    label, estimate, low, high: columns of `table`. An interval that leaves the axis ends in an arrow.
    """
    rows = np.arange(len(table))[::-1]
    limits = _forest_limits(table[[low, high]].to_numpy(float), reference, log)
    ax.axvline(reference, color=GUIDE, lw=1, ls="--", zorder=0)
    for row, values in zip(rows, table[[estimate, low, high]].to_numpy(float), strict=True):
        if not np.isfinite(values).all():
            ax.text(reference, row, "  not estimable", va="center", fontsize=7.5, color=INK)
            continue
        _forest_row(ax, row, values, limits, color or INK)
    return _forest_axes(ax, rows, table[label], limits, log)


def plot_paired_forest(
    table: pd.DataFrame, ax: Axes, label: str, estimate: str, groups: Mapping[str, str], reference: float = 1.0
) -> Axes:
    """Ratios of two groups with intervals, two lines per row, on a log axis.

    groups: {name in the legend: suffix}; columns are `estimate`, "low" and "high" with the suffix. Every row needs both.
    """
    rows = np.arange(len(table))[::-1]
    columns = {name: [f"{column}{suffix}" for column in (estimate, "low", "high")] for name, suffix in groups.items()}
    limits = _forest_limits(np.stack([table[names[1:]] for names in columns.values()]), reference, log=True)
    ax.axvline(reference, color=GUIDE, lw=1, ls="--", zorder=0)
    colors = model_colors(columns)
    for shift, (name, names) in zip(np.linspace(0.24, -0.24, len(columns)), columns.items(), strict=True):
        for row, values in zip(rows, table[names].to_numpy(float), strict=True):
            _forest_row(ax, row + shift, values, limits, colors[name])
        ax.plot([], [], "s-", color=colors[name], ms=5, lw=1.4, label=name)
    legend_below(ax)
    return _forest_axes(ax, rows, table[label], limits, log=True)


def _forest_limits(intervals: np.ndarray, reference: float, log: bool) -> tuple[float, float]:
    finite = intervals[np.isfinite(intervals) & ((intervals > 0) | (not log))]
    edges = (min(finite.min(initial=reference), reference), max(finite.max(initial=reference), reference))
    return (max(edges[0] / 1.15, 0.02), min(edges[1] * 1.15, 50)) if log else edges


def _forest_row(ax: Axes, row: float, values: np.ndarray, limits: tuple[float, float], color: object) -> None:
    center, start, end = values
    ax.plot(np.clip([start, end], *limits), [row, row], color=color, lw=1.4, solid_capstyle="butt")
    ax.plot(np.clip(center, *limits), row, "s", color=color, ms=5)
    for beyond, edge, marker in ((start < limits[0], limits[0], "<"), (end > limits[1], limits[1], ">")):
        if beyond:
            ax.plot(edge, row, marker, color=color, ms=5)


def _forest_axes(ax: Axes, rows: np.ndarray, labels: pd.Series, limits: tuple[float, float], log: bool) -> Axes:
    if log:
        ax.set_xscale("log")
        wide = limits[1] / limits[0] > 200
        steps = (0.02, 0.1, 0.5, 1, 2, 10, 50) if wide else (0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50)
        ticks = [tick for tick in steps if limits[0] <= tick <= limits[1]]
        ax.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        ax.minorticks_off()
    ax.set(xlim=limits if log else None, ylim=(-0.7, len(rows) - 0.3))
    ax.set_yticks(rows, labels)
    ax.tick_params(axis="y", length=0)
    ax.spines["left"].set_visible(False)
    return ax


def plot_training(history: pd.DataFrame, ax: Axes, colors: dict[str, object]) -> Axes:
    """Training loss by epoch, a line per seed; history: model, seed, epoch, train_loss."""
    for (model, _), rows in history.groupby(["model", "seed"], sort=False):
        ax.plot(rows["epoch"], rows["train_loss"], color=colors[model], lw=1.4, label=model_words(model))
    ax.set(xlabel="Epoch", ylabel="Cross-entropy of the training crops")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    named = dict(zip(*reversed(ax.get_legend_handles_labels()), strict=True))
    ax.legend(named.values(), named.keys(), loc="upper left", bbox_to_anchor=(1, 1), title="one line per seed")
    return ax


def plot_heat(
    image: np.ndarray, heat: np.ndarray, ax: Axes, outline: np.ndarray | None = None, strongest: float = 0.6
) -> Axes:
    """A gray image (rows, columns) under its heat in [0, 1], transparent where there is none; the outline of a mask in white.

    Heat is drawn as it is given: put all images of a figure on one scale first (`scaled_heat`).
    """
    ax.imshow(image, cmap="gray")
    ax.imshow(heat, cmap="inferno", vmin=0, vmax=1, alpha=strongest * np.clip(heat, 0, 1), interpolation="nearest")
    if outline is not None and outline.any():
        ax.contour(outline.astype(float), [0.5], colors="white", linewidths=0.8)
    ax.set(xticks=[], yticks=[])
    ax.spines[:].set_visible(False)
    return ax


def plot_paired_intervals(
    table: pd.DataFrame, ax: Axes, label: str, group: str, estimate: str, places: Mapping[str, int]
) -> Axes:
    """Estimates with intervals of several groups side by side, one row per label from the top; the caller adds the legend.

    label, group, estimate: columns of `table`; the interval is in `estimate`_low and _high. places: {group: its place in the
    palette}. The first group is drawn with squares, the next with circles.
    """
    labels = list(dict.fromkeys(table[label]))
    shifts = dict(zip(places, np.linspace(0.15, -0.15, len(places)), strict=True))
    marks = dict(zip(places, "soD^", strict=False))
    for row in table.to_dict("records"):
        name = row[group]
        height = len(labels) - 1 - labels.index(row[label]) + shifts[name]
        style = {"color": PALETTE[places[name]]}
        ax.plot([row[f"{estimate}_low"], row[f"{estimate}_high"]], [height] * 2, lw=1.6, **style)
        ax.plot(row[estimate], height, marks[name], ms=5, **style)
    for name, place in places.items():
        ax.plot([], [], f"{marks[name]}-", color=PALETTE[place], ms=5, lw=1.6, label=name)
    ax.set_yticks(range(len(labels)), labels[::-1])
    ax.set(ylim=(-0.6, len(labels) - 0.4))
    ax.tick_params(axis="y", length=0)
    return ax


def plot_split_designs(
    claimed: pd.DataFrame, models: Sequence[str], ax: Axes, extra: Mapping[str, Sequence[float]] | None = None
) -> Axes:
    """AUC and interval of each model under two ways to split (column split_made), one row per model from the top.

    extra: {way to split: (auc, low, high)} of a first row, of who remembers patients and sees no pixel.
    """
    blind = ["patients remembered,\nno pixel seen"] if extra else []
    names = [*blind, *(model_words(model) for model in models)]
    heights = np.arange(len(names))[::-1]
    styles = {"by patient": ("o", INK, 0.14), "by image": ("s", WARNING, -0.14)}
    for design, (marker, color, shift) in styles.items():
        of_design = claimed[claimed["split_made"] == design].set_index("model").loc[list(models)]
        intervals = of_design[["auc", "auc_low", "auc_high"]].to_numpy()
        center, low, high = (np.vstack([extra[design], intervals]) if extra else intervals).T
        bars = [center - low, high - center]
        ax.errorbar(center, heights + shift, xerr=bars, fmt=marker, color=color, ms=5, lw=1.4, label=f"split {design}")
    ax.axvline(0.5, color=GUIDE, lw=1, ls="--", zorder=0)
    ax.set_yticks(heights, names)
    ax.set(ylim=(-0.6, len(names) - 0.5), xlabel="AUC (95 % interval, by patient)")
    ax.tick_params(axis="y", length=0)
    return ax


def split_designs_figure(
    claimed: pd.DataFrame, models: Sequence[str], extra: Mapping[str, Sequence[float]] | None = None
) -> Figure:
    """`plot_split_designs` of every tested split side by side, the row of `extra` in that of the internal test.

    claimed: split, model, split_made, n (units), auc, auc_low, auc_high. The title says what a split by image lets a score
    without pixels claim, which is what leaks, and by how much the models themselves moved.
    """
    tested = list(dict.fromkeys(claimed["split"]))
    figure, axes = panels(len(tested), width=5.2, height=3.3)
    for ax, split in zip(axes, tested, strict=True):
        own = claimed[claimed["split"] == split]
        plot_split_designs(own, models, ax, extra if split == "test" else None)
        ax.set_xlim(min(0.4, claimed["auc_low"].min()), 1.01)
        head(ax, sentence(SPLIT_NAMES[split]), f"{own['n'].iloc[0]} nodes")
    moved = claimed.pivot_table(index=["split", "model"], columns="split_made", values="auc")
    largest = (moved["by image"] - moved["by patient"]).loc[lambda gap: gap.index.get_level_values(0) == "test"]
    said = f"AUCs of these models change by {largest.min():+.2f} to {largest.max():+.2f}" if len(largest) else ""
    known = f"Split by image: memory of patients alone reaches {extra['by image'][0]:.2f}" if extra else ""
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower left", ncols=2)
    return headline(figure, "; ".join(part for part in (known, said) if part) or "Two ways to split")
