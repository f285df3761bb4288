"""Figures of one study, a panel per split; single plots live in `figures`. The caller saves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import isfinite

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from alneval.calibration import CalibrationCurve, calibration_summary
from alneval.decision_curve import decision_curve
from alneval.figures import (
    finish_precision_recall,
    finish_roc,
    panels,
    plot_calibration,
    plot_decision_curves,
    plot_forest,
    plot_precision_recall,
    plot_reader,
    plot_roc,
)
from alneval.models import CurveBands
from alneval.rows import KEYS, Key, estimate_text
from alneval.style import (
    ATTAINABLE_MARK,
    GUIDE,
    INK,
    PUBLISHED_MARK,
    SPLIT_COLORS,
    SPLIT_MARKS,
    SPLIT_NAMES,
    beside,
    folded,
    head,
    headline,
    legend_below,
    model_colors,
    model_dashes,
    model_words,
    sentence,
)
from alneval.units import Units

READER_MARKERS = "DosP^v"


def roc_figure(
    rows: pd.DataFrame,
    discrimination: pd.DataFrame,
    title: str,
    bands: Mapping[Key, CurveBands] | None = None,
    readers: pd.DataFrame | None = None,
) -> Figure | None:
    """ROC curves of one study, a panel per split; None where no split has both classes.

    rows: judged rows of the study; discrimination: the table that holds their AUCs; bands: of `curve_bands`; readers: a row
    per reader and split, with split, reader, n, sensitivity and specificity, to be marked.
    """
    parts = _by_split(rows)
    if not parts:
        return None
    known, bands = discrimination.set_index(KEYS), bands or {}
    colors, dashes = model_colors(rows["model"]), model_dashes(rows["model"])
    marked = 0 if readers is None or readers.empty else readers.groupby("split").size().max()
    figure, axes = panels(len(parts), height=5.3 + 0.18 * (len(colors) + marked))  # the legend grows below
    for ax, (split, of_split) in zip(axes, parts.items(), strict=True):
        units = of_split.drop_duplicates(["patient_id", "unit_id"])
        for key, model, name, part in _drawn(of_split, len(units)):
            estimate, band = estimate_text(known.loc[key], "auc"), bands.get(key)
            style = {"color": colors[model], "dash": dashes[model], "band": band and band.roc}
            plot_roc(Units.of_rows(part), estimate, name, ax, **style)
        here = () if readers is None else readers[readers["split"] == split].itertuples()
        for reader, marker in zip(here, READER_MARKERS, strict=False):
            name = f"{model_words(reader.reader)} (n = {reader.n})"
            plot_reader(reader.sensitivity, reader.specificity, name, ax, marker)
        finish_roc(ax, *_counts_of(split, units))
    return headline(figure, title)


def precision_recall_figure(
    rows: pd.DataFrame, curves: pd.DataFrame, title: str, bands: Mapping[Key, CurveBands] | None = None
) -> Figure | None:
    """Precision-recall curves of one study, a panel per split; None where no split has both classes.

    curves: the table of `curve_table` that holds their average precision; other arguments as `roc_figure`.
    """
    parts = _by_split(rows)
    if not parts:
        return None
    known, bands = curves.set_index(KEYS), bands or {}
    colors, dashes = model_colors(rows["model"]), model_dashes(rows["model"])
    figure, axes = panels(len(parts), height=3.4 + 0.22 * len(colors))
    for ax, (split, of_split) in zip(axes, parts.items(), strict=True):
        units = of_split.drop_duplicates(["patient_id", "unit_id"])
        for key, model, name, part in _drawn(of_split, len(units)):
            estimate, band = estimate_text(known.loc[key], "average_precision"), bands.get(key)
            style = {"color": colors[model], "dash": dashes[model], "band": band and band.precision_recall}
            plot_precision_recall(Units.of_rows(part), estimate, name, ax, **style)
        finish_precision_recall(ax, *_counts_of(split, units))
    return headline(figure, title)


def auc_forest_figure(table: pd.DataFrame, titles: Mapping[str, str] | None = None) -> Figure:
    """AUCs with intervals, a panel per study and a row per model, its splits one below the other, each with its n.

    table: rows of the discrimination table; attainable_auc and published_auc are columns it may have, NaN where there is
    none. titles: {study: title}, the study's own name where it has none.
    """
    parts = dict(iter(table.groupby("study", sort=False)))
    lines = [sum(_rows_of(model, of) + 0.8 for model, of in rows.groupby("model")) for rows in parts.values()]
    size = {"figsize": (8.0, 1.1 + 0.62 * len(parts) + 0.132 * sum(lines)), "height_ratios": lines}
    figure, axes = plt.subplots(len(parts), 1, squeeze=False, **size)
    left = min(0.4, table[["auc", "auc_low"]].min(axis=None) - 0.02)
    for ax, (study, rows) in zip(axes.flat, parts.items(), strict=True):
        _plot_models(rows, ax)
        ax.set(xlim=(left, 1.0))
        head(ax, folded(model_words((titles or {}).get(study, study)), 63))
    axes[-1, 0].set(xlabel="AUC (95 % interval)")
    drawn = [split for split in SPLIT_NAMES if table["split"].eq(split).any()]
    handles = [_split_handle(split, axes[0, 0]) for split in drawn] + _known_handles(table, axes[0, 0])
    figure.legend(handles=handles, loc="outside upper left", ncols=3)
    return figure


def _plot_models(rows: pd.DataFrame, ax: Axes) -> None:
    """AUCs of one study from the top down, the splits of a model close together in the order of SPLIT_NAMES."""
    ranks = {split: rank for rank, split in enumerate(SPLIT_NAMES)}
    places, names, place = [], [], 0.0
    for model, of_model in rows.groupby("model", sort=False):
        ordered = of_model.sort_values("split", key=lambda splits: splits.map(ranks), kind="stable")
        height = _rows_of(model, of_model)
        steps = place - (height - len(ordered)) / 2 - np.arange(len(ordered))
        names.append((steps.mean(), folded(model_words(model), LONGEST_LABEL)))
        places += list(zip(steps, ordered.to_dict("records"), strict=True))
        place -= height + 0.8
    ax.axvline(0.5, color=GUIDE, lw=1, ls="--", zorder=0)
    for height, row in places:
        color = SPLIT_COLORS.get(row["split"], INK)
        ax.plot([row["auc_low"], row["auc_high"]], [height, height], color=color, lw=1.4, solid_capstyle="butt")
        ax.plot(row["auc"], height, SPLIT_MARKS[row["split"]], color=color, ms=5)
        ax.plot(row.get("published_auc", np.nan), height, **PUBLISHED_MARK)
        ax.plot(row.get("attainable_auc", np.nan), height, **ATTAINABLE_MARK)
        beside(ax, height, f"n = {row['n']:.0f}", 6, fontsize=7)
    ax.set_yticks(*zip(*names, strict=True))
    ax.set(ylim=(place + 0.8, 1.0))
    ax.tick_params(axis="y", length=0)
    ax.grid(axis="x", color="0.93", zorder=0)
    ax.set_axisbelow(True)
    ax.spines["left"].set_visible(False)


LONGEST_LABEL = 34
"""Characters on one line of a model's name at the left of a forest."""


def _rows_of(model: str, rows: pd.DataFrame) -> float:
    """How many lines a model takes: one per split, or what its name needs."""
    return max(len(rows), 1.3 * (folded(model_words(model), LONGEST_LABEL).count("\n") + 1))


def _split_handle(split: str, ax: Axes) -> Line2D:
    style = {"color": SPLIT_COLORS.get(split, INK), "ms": 5, "lw": 1.4, "label": SPLIT_NAMES[split]}
    return ax.plot([], [], f"{SPLIT_MARKS[split]}-", **style)[0]


def _known_handles(table: pd.DataFrame, ax: Axes) -> list[Line2D]:
    """Keys of what was published and of what was attainable, where the table has any."""
    styles = {
        "published_auc": PUBLISHED_MARK | {"label": "published (other patients)"},
        "attainable_auc": ATTAINABLE_MARK | {"label": "attainable (simulation)"},
    }
    return [ax.plot([], [], **of)[0] for name, of in styles.items() if name in table and table[name].notna().any()]


def calibration_figure(
    rows: pd.DataFrame, table: pd.DataFrame, curves: Mapping[Key, CalibrationCurve], title: str
) -> Figure | None:
    """Calibration curves of one study, a row per model and a column per split (three models a row for one split).

    None where there is no curve.
    """
    study = rows["study"].iloc[0]
    ranks = {split: rank for rank, split in enumerate(SPLIT_NAMES)}
    drawn = sorted((key for key in curves if key[0] == study), key=lambda key: ranks[key[2]])
    if not drawn:
        return None
    colors = model_colors(rows["model"])
    figure, axes = panels(len(drawn), width=3.3, height=4.3, columns=4)
    for ax, key in zip(axes, drawn, strict=True):
        known = table[(table[KEYS] == list(key)).all(axis=1)].iloc[0]
        part = rows[(rows[KEYS] == list(key)).all(axis=1)]
        names = {"intercept": ("intercept", 2), "slope": ("slope", 2), "observed_expected": ("O:E", 2)}
        names |= {"ici": ("ICI", 3), "e90": ("E90", 3), "brier": ("Brier", 3), "scaled_brier": ("scaled Brier", 3)}
        said = [f"{name} {_number(known[column], digits)}" for column, (name, digits) in names.items()]
        text = "\n".join((", ".join(said[:2]), ", ".join(said[2:5]), ", ".join(said[5:])))
        plot_calibration(curves[key], part["y_score"], part["y_true"], ax, colors[key[1]], text)
        counts = f"{SPLIT_NAMES[key[2]]}, n = {len(part)}, {int(part['y_true'].sum())} positive"
        head(ax, folded(model_words(key[1]), 30), counts)
    return headline(figure, title)


def decision_curve_figure(rows: pd.DataFrame, curves: Mapping[Key, pd.DataFrame], title: str) -> Figure | None:
    """Decision curves of one study, a panel per split; None where no split has both classes. The last model leads."""
    parts = _by_split(rows)
    if not parts:
        return None
    colors, dashes = model_colors(rows["model"]), model_dashes(rows["model"])
    figure, axes = panels(len(parts), width=4.4, height=4.1 + 0.18 * len(colors))
    for ax, (split, of_split) in zip(axes, parts.items(), strict=True):
        models = list(of_split["model"].unique())
        shown = {model: curves[(of_split["study"].iloc[0], model, split)] for model in models}
        plot_decision_curves(shown, ax, colors, dashes=dashes, lead=models[-1])
        units = of_split.drop_duplicates(["patient_id", "unit_id"])
        title_here, n, n_positive, unit = _counts_of(split, units)
        head(ax, title_here, f"n = {n} {unit}, {n_positive} positive".replace(" ,", ","))
    return headline(figure, title)


def _drawn(of_split: pd.DataFrame, n_units: int) -> Iterator[tuple[Key, str, str, pd.DataFrame]]:
    """Key, model, name in the legend (with n where a model did not score all units) and rows of what has both classes."""
    for key, part in of_split.groupby(KEYS, sort=False):
        if part["y_true"].nunique() == 2:
            yield key, key[1], model_words(key[1]) + ("" if len(part) == n_units else f" (n = {len(part)})"), part


def _counts_of(split: str, units: pd.DataFrame) -> tuple[str, int, int, str]:
    """Title, n, positives and unit of a panel; units: one row each."""
    n_patients = units["patient_id"].nunique()
    unit = f"units of {n_patients} patients" if n_patients < len(units) else ""
    return sentence(SPLIT_NAMES[split]), len(units), int(units["y_true"].sum()), unit


def _by_split(rows: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """{split: rows}, in the order of figures, of the splits that have both classes."""
    parts = {split: rows[rows["split"] == split] for split in SPLIT_NAMES}
    return {split: part for split, part in parts.items() if part["y_true"].nunique() == 2}


def _number(value: float, digits: int) -> str:
    return f"{value:.{digits}f}" if isfinite(value) else "not estimable"


def readers_figure(forest: pd.DataFrame, studies: Mapping[str, str] | None = None) -> Figure:
    """AUCs of models less those of the readers of the same patients, a panel per group of readers.

    forest: rows of `models_against_readers` of one split; the wider interval where readers are a sample. studies: {study: its
    short name}, the study's own where it has none.
    """
    forest = forest.sort_values("study", key=lambda keys: keys.map(list(dict.fromkeys(keys)).index), kind="stable")
    counts = forest["readers"].value_counts(sort=False)
    size = {"figsize": (8.2, 1 + 0.75 * len(counts) + 0.25 * len(forest)), "height_ratios": counts + 1}
    figure, axes = plt.subplots(len(counts), 1, squeeze=False, sharex=True, **size)
    where = SPLIT_NAMES[forest["split"].iloc[0]]
    for ax, (name, of_group) in zip(axes.flat, forest.groupby("readers", sort=False), strict=True):
        named = [
            f"{(studies or {}).get(row.study, row.study)}: {model_words(row.model)}" for row in of_group.itertuples()
        ]
        rows = of_group.assign(name=named)
        which = "delta_fixed" if of_group["delta_low"].isna().all() else "delta"
        plot_forest(rows, ax, "name", "delta", f"{which}_low", f"{which}_high", reference=0.0, log=False)
        for place, n in zip(np.arange(len(rows))[::-1], rows["n"], strict=True):
            beside(ax, place, f"n = {n}", 6)
        most = of_group["n_readers"].max()
        kind = "this reader" if most == 1 else f"the mean of {most} readers"
        head(
            ax,
            f"Against {kind}{'' if name == 'unspecified' else f' of {name}'}",
            f"{where} patients whom all of them read",
        )
        ax.tick_params(labelbottom=True)
    ends = forest[["delta_low", "delta_high", "delta_fixed_low", "delta_fixed_high"]].to_numpy(float)
    axes[-1, 0].set(xlabel="AUC of the model less that of the readers (95 % interval)")
    axes[-1, 0].set_xlim(np.nanmin(ends) - 0.02, np.nanmax(ends) + 0.02)
    return figure


def prevalence_figure(
    drawn: pd.DataFrame, judged: pd.DataFrame, titles: Mapping[str, str], acting_from: float
) -> Figure:
    """Net benefit above the simple policies at the prevalences that were asked for, a panel per study, on one scale.

    drawn: rows of `prevalence_tables` of one split; judged: rows whose models keep their colors; titles: {study: title}.
    Nothing is drawn between the prevalences; models of one prevalence stand side by side.
    """
    by_study = dict(iter(drawn.groupby("study", sort=False)))
    figure, axes = panels(len(by_study), width=4.2, height=4.6)
    step = np.diff(np.unique(drawn["prevalence"])).min(initial=0.1)
    margin = 0.06 * max(np.ptp(drawn["gain"]), 0.01)
    for ax, (study, rows) in zip(axes, by_study.items(), strict=True):
        of_study = judged[judged["study"] == study]
        colors = model_colors(of_study["model"])
        shifts = np.linspace(-0.3, 0.3, rows["model"].nunique()) * step
        for shift, (model, of_model) in zip(shifts, rows.groupby("model", sort=False), strict=True):
            style = {"color": colors[model], "ls": "", "marker": "o", "ms": 5, "label": model_words(model)}
            ax.vlines(of_model["prevalence"] + shift, 0, of_model["gain"], color=colors[model], lw=1)
            ax.plot(of_model["prevalence"] + shift, of_model["gain"], **style)
        ax.axvline(rows["prevalence_here"].iloc[0], color=INK, lw=1, ls=":", zorder=0, label="share in these patients")
        ax.axhline(0, color=GUIDE, lw=0.9, ls="--", zorder=0)
        ax.set(xlabel="Share of patients with the outcome", ylabel=f"Gain in net benefit at {acting_from:.0%}")
        ax.set(ylim=(drawn["gain"].min() - margin, drawn["gain"].max() + margin))
        ax.set_xticks(np.unique(drawn["prevalence"]))
        here = of_study[of_study["split"] == drawn["split"].iloc[0]].drop_duplicates(["patient_id", "unit_id"])
        head(ax, folded(titles[study], 42), f"n = {len(here)}, {int(here['y_true'].sum())} positive")
        legend_below(ax)
    where = SPLIT_NAMES[drawn["split"].iloc[0]]
    simple = "the better of treat all and treat none"
    return headline(figure, f"Net benefit above {simple} at other prevalences, {where}, without intervals")


def calibration_and_benefit_figure(rows: pd.DataFrame, seed: int) -> Figure:
    """Calibration curve of every model in rows of one split, then the decision curves of all in one panel."""
    colors = model_colors(rows["model"])
    figure, axes = panels(len(colors) + 1, width=3.3, height=4.2, columns=3)
    where, curves = SPLIT_NAMES[rows["split"].iloc[0]], {}
    for ax, (model, own) in zip(axes, rows.groupby("model", sort=False), strict=False):
        units = Units.of_rows(own)
        curve = calibration_summary(units, np.random.default_rng(seed), n_bootstrap=200).curve
        plot_calibration(curve, own["y_score"], own["y_true"], ax, colors[model])
        counts = f"{where}, n = {len(own)}, {int(own['y_true'].sum())} positive"
        head(ax, folded(model_words(model), 30), counts)
        curves[model] = decision_curve(units)
    plot_decision_curves(curves, axes[-1], colors)
    head(axes[-1], "Decision curves", f"{where}, n = {rows['patient_id'].nunique()}")
    return figure
