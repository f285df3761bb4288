"""Figures of one study, a panel per split; single plots live in `figures`. The caller saves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import isfinite

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from alneval.calibration import CalibrationCurve, calibration_summary
from alneval.decision_curve import decision_curve
from alneval.figures import (
    SPLIT_NAMES,
    finish_precision_recall,
    finish_roc,
    model_colors,
    model_dashes,
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
    figure, axes = panels(len(parts), height=5.25 + 0.18 * (len(colors) + marked))  # the legend grows below
    for ax, (split, of_split) in zip(axes, parts.items(), strict=True):
        units = of_split.drop_duplicates(["patient_id", "unit_id"])
        for key, model, name, part in _drawn(of_split, len(units)):
            estimate, band = estimate_text(known.loc[key], "auc"), bands.get(key)
            style = {"color": colors[model], "dash": dashes[model], "band": band and band.roc}
            plot_roc(Units.of_rows(part), estimate, name, ax, **style)
        here = () if readers is None else readers[readers["split"] == split].itertuples()
        for reader, marker in zip(here, READER_MARKERS, strict=False):
            plot_reader(reader.sensitivity, reader.specificity, f"{reader.reader}, n = {reader.n}", ax, marker)
        finish_roc(ax, *_counts_of(split, units))
    return _titled(figure, title)


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
    return _titled(figure, title)


def auc_forest_figure(table: pd.DataFrame, titles: Mapping[str, str] | None = None) -> Figure:
    """AUCs with intervals, a panel per study, and marks of what was attainable and what was published.

    table: rows of the discrimination table; attainable_auc and published_auc are columns it may have, NaN where there is
    none. titles: {study: title}, the study's own name where it has none.
    """
    rows = table.assign(name=table["model"].map(shown_name) + ", " + table["split"].map(SPLIT_NAMES))
    counts = rows["study"].value_counts(sort=False)
    size = {"figsize": (6.5, 1 + len(counts) * 0.3 + 0.27 * len(rows)), "height_ratios": counts + 1}
    figure, axes = plt.subplots(len(counts), 1, squeeze=False, sharex=True, **size)
    marks = {
        "published_auc": {"label": "published (other patients)", "marker": "D", "mfc": "none", "mec": "0.4"},
        "attainable_auc": {"label": "attainable (simulation)", "marker": "|", "color": "crimson", "ms": 11, "mew": 2},
    }
    marks = {name: style | {"ls": ""} for name, style in marks.items() if name in rows and rows[name].notna().any()}
    for ax, (study, of_study) in zip(axes.flat, rows.groupby("study", sort=False), strict=True):
        plot_forest(of_study, ax, "name", "auc", "auc_low", "auc_high", reference=0.5, log=False)
        for name, style in marks.items():
            ax.plot(of_study[name].to_numpy(float), np.arange(len(of_study))[::-1], **style)
        ax.set(title=shown_name((titles or {}).get(study, study)))
    axes[-1, 0].set(xlabel="AUC (95 % interval)", xlim=(min(0.4, rows["auc_low"].min() - 0.02), 1.0))
    if marks:
        figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower left", ncols=2)
    return figure


def calibration_figure(
    rows: pd.DataFrame, table: pd.DataFrame, curves: Mapping[Key, CalibrationCurve], title: str
) -> Figure | None:
    """Calibration curves of one study, a row per model and a column per split (three models a row for one split).

    None where there is no curve.
    """
    study = rows["study"].iloc[0]
    drawn = [key for key in curves if key[0] == study]
    if not drawn:
        return None
    splits = [split for split in SPLIT_NAMES if any(key[2] == split for key in drawn)]
    models = list(dict.fromkeys(key[1] for key in drawn))
    colors = model_colors(rows["model"])
    columns = len(splits) if len(splits) > 1 else 3
    figure, axes = panels(len(models) * len(splits), width=3.7, height=3.9, columns=columns)
    for ax, key in zip(axes, [(study, model, split) for model in models for split in splits], strict=True):
        if key not in curves:
            ax.set_axis_off()
            continue
        known = table[(table[KEYS] == list(key)).all(axis=1)].iloc[0]
        part = rows[(rows[KEYS] == list(key)).all(axis=1)]
        names = {"intercept": ("intercept", 2), "slope": ("slope", 2), "ici": ("ICI", 3), "e90": ("E90", 3)}
        names |= {"observed_expected": ("O:E", 2), "brier": ("Brier", 3), "scaled_brier": ("scaled Brier", 3)}
        text = "\n".join(f"{name} {_number(known[column], digits)}" for column, (name, digits) in names.items())
        plot_calibration(curves[key], part["y_score"], part["y_true"], ax, colors[key[1]], text)
        ax.set_title(f"{shown_name(key[1])}, {SPLIT_NAMES[key[2]]} (n = {len(part)})")
    return _titled(figure, title)


def decision_curve_figure(rows: pd.DataFrame, curves: Mapping[Key, pd.DataFrame], title: str) -> Figure | None:
    """Decision curves of one study, a panel per split; None where no split has both classes."""
    parts = _by_split(rows)
    if not parts:
        return None
    colors = {shown_name(model): color for model, color in model_colors(rows["model"]).items()}
    dashes = {shown_name(model): dash for model, dash in model_dashes(rows["model"]).items()}
    figure, axes = panels(len(parts), width=4.4, height=3.8)
    for ax, (split, of_split) in zip(axes, parts.items(), strict=True):
        models = of_split["model"].unique()
        shown = {shown_name(model): curves[(of_split["study"].iloc[0], model, split)] for model in models}
        plot_decision_curves(shown, ax, colors, dashes=dashes)
        units = of_split.drop_duplicates(["patient_id", "unit_id"])
        ax.set_title(f"{SPLIT_NAMES[split].capitalize()} (n = {len(units)})")
    return _titled(figure, title)


def shown_name(name: str) -> str:
    """A stranger's name as matplotlib shows it: dollars are no mathematics, and a leading underscore hides no legend."""
    escaped = name.replace("$", r"\$")
    return f" {escaped}" if escaped.startswith("_") else escaped


def _drawn(of_split: pd.DataFrame, n_units: int) -> Iterator[tuple[Key, str, str, pd.DataFrame]]:
    """Key, model, name in the legend (with n where a model did not score all units) and rows of what has both classes."""
    for key, part in of_split.groupby(KEYS, sort=False):
        if part["y_true"].nunique() == 2:
            yield key, key[1], shown_name(key[1]) + ("" if len(part) == n_units else f" (n = {len(part)})"), part


def _counts_of(split: str, units: pd.DataFrame) -> tuple[str, int, int, str]:
    """Title, n, positives and unit of a panel; units: one row each."""
    n_patients = units["patient_id"].nunique()
    unit = f"units of {n_patients} patients" if n_patients < len(units) else ""
    return SPLIT_NAMES[split].capitalize(), len(units), int(units["y_true"].sum()), unit


def _by_split(rows: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """{split: rows}, in the order of figures, of the splits that have both classes."""
    parts = {split: rows[rows["split"] == split] for split in SPLIT_NAMES}
    return {split: part for split, part in parts.items() if part["y_true"].nunique() == 2}


def _titled(figure: Figure, title: str) -> Figure:
    figure.suptitle(shown_name(title), x=0.01, ha="left", fontsize=9)
    return figure


def _number(value: float, digits: int) -> str:
    return f"{value:.{digits}f}" if isfinite(value) else "not estimable"


def readers_figure(forest: pd.DataFrame) -> Figure:
    """AUCs of models less those of the readers of the same patients, a panel per group of readers.

    forest: rows of `models_against_readers` of one split; the wider interval where readers are a sample.
    """
    forest = forest.assign(name=forest["model"] + " (n = " + forest["n"].astype(str) + ")")
    counts = forest["readers"].value_counts(sort=False)
    size = {"figsize": (6.5, 1 + 0.4 * len(counts) + 0.25 * len(forest)), "height_ratios": counts + 1}
    figure, axes = plt.subplots(len(counts), 1, squeeze=False, sharex=True, **size)
    for ax, (name, of_group) in zip(axes.flat, forest.groupby("readers", sort=False), strict=True):
        which = "delta_fixed" if of_group["delta_low"].isna().all() else "delta"
        plot_forest(of_group, ax, "name", "delta", f"{which}_low", f"{which}_high", reference=0.0, log=False)
        most = of_group["n_readers"].max()
        kind = "this reader" if most == 1 else f"the mean of {most} readers"
        what = "" if name == "unspecified" else f" of {name}"
        ax.set(title=f"{SPLIT_NAMES[of_group['split'].iloc[0]].capitalize()}: against {kind}{what}")
    ends = forest[["delta_low", "delta_high", "delta_fixed_low", "delta_fixed_high"]].to_numpy(float)
    axes[-1, 0].set(xlabel="AUC of the model less that of the readers (95 % interval)")
    axes[-1, 0].set_xlim(np.nanmin(ends) - 0.02, np.nanmax(ends) + 0.02)
    return figure


def prevalence_figure(
    drawn: pd.DataFrame, judged: pd.DataFrame, titles: Mapping[str, str], acting_from: float
) -> Figure:
    """Net benefit above the simple policies at other prevalences, a panel per study.

    drawn: rows of `prevalence_tables` of one split; judged: rows whose models keep their colors; titles: {study: title}.
    """
    by_study = dict(iter(drawn.groupby("study", sort=False)))
    figure, axes = panels(len(by_study), width=4, height=3.1)
    for ax, (study, rows) in zip(axes, by_study.items(), strict=True):
        models = judged.loc[judged["study"] == study, "model"]
        colors, dashes = model_colors(models), model_dashes(models)
        for model, of_model in rows.groupby("model", sort=False):
            style = {"color": colors[model], "ls": dashes[model], "marker": "o", "ms": 3, "lw": 1.6}
            ax.plot(of_model["prevalence"], of_model["gain"], label=model, **style)
        ax.plot(rows["prevalence_here"], [0] * len(rows), "k|", ms=14)
        ax.axhline(0, color="0.7", lw=0.9, ls="--", zorder=0)
        ax.set(xlabel="Share of patients with the outcome", ylabel=f"Gain at {acting_from:.0%}")
        ax.set_title(titles[study], fontsize="small")
        ax.legend(loc="best")
    where = SPLIT_NAMES[drawn["split"].iloc[0]]
    simple = "the better of treat all and treat none"
    return _titled(figure, f"Net benefit above {simple}, {where}, without intervals; mark: the share there")


def calibration_and_benefit_figure(rows: pd.DataFrame, seed: int) -> Figure:
    """Calibration curve of every model in rows of one split, then the decision curves of all in one panel."""
    colors = model_colors(rows["model"])
    figure, axes = panels(len(colors) + 1, width=3.1, height=3.4, columns=5)
    curves = {}
    for ax, (model, own) in zip(axes, rows.groupby("model", sort=False), strict=False):
        units = Units.of_rows(own)
        curve = calibration_summary(units, np.random.default_rng(seed), n_bootstrap=200).curve
        plot_calibration(curve, own["y_score"], own["y_true"], ax, colors[model])
        ax.set_title(f"{model} (n = {len(own)})")
        curves[model] = decision_curve(units)
    plot_decision_curves(curves, axes[-1], colors)
    axes[-1].set_title("Decision curves")
    return figure
