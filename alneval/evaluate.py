"""Predictions evaluated for notebooks 41 to 43 and for anybody: tables, figures, and a summary in one folder.

The statistics live in `alneval`, single plots in `alneval.figures`; the verb in `alnlib.pipeline.cli`.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from alneval.bootstrap import percentile_limits, resample_weights
from alneval.calibration import (
    CalibrationCurve,
    CalibrationSummary,
    calibration_errors,
    calibration_intercept,
    calibration_slope,
    calibration_summary,
    scaled_brier,
)
from alneval.curves import RECALLS, SPECIFICITIES, brier, precision_at, sensitivity_at
from alneval.decision_curve import decision_curve
from alneval.estimate import Estimate, interval, once
from alneval.figures import (
    MOST_BANDS,
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
    use_style,
)
from alneval.prevalence import prevalence_table
from alneval.recalibration import IsotonicRecalibration, PlattRecalibration
from alneval.rows import TESTED_SPLITS, estimate_text, judged_rows
from alneval.tables import (
    ONE_SCORE,
    SEPARATED,
    call_comparison_table,
    comparison_table,
    curve_table,
    discrimination_table,
    locked_thresholds,
    read_predictions,
    reclassification_comparisons,
)
from alneval.thresholds import QUANTITIES
from alneval.units import Units
from alnlib.errors import InputError
from alnlib.files import atomic_path, palette_png, sha256_file, write_csv, write_json, write_text

PROVENANCES = ("real", "simulated", "not stated")
FEW_EVENTS = 100
"""Patients with, or without, the outcome below which a validation is small: Vergouwe 2005, J Clin Epidemiol 58:475."""

CALIBRATION_SHARE = 4
"""Calibration is resampled n_bootstrap / 4 times: each resample is a local regression, the rest are matrix products."""

PREVALENCES = (0.1, 0.2, 0.3, 0.4, 0.5)
"""Shares of positives for which predictive values and net benefit are given when nobody says which are of interest."""

THRESHOLD_PROBABILITY = 0.2
"""Of the net benefit at those prevalences: four needless interventions are accepted for one needed."""

TABLES = (
    *("discrimination", "curves", "comparisons", "reclassification"),
    *("calibration", "recalibration", "net_benefit", "prevalence"),
)
"""Tables of an evaluation, each a CSV file of that name."""

READER_MARKERS = "DosP^v"

RECORD = "evaluation.json"
FIGURE_DPI = 110
MAX_PIXELS = 60_000
"""A side of a figure: PNG writers stop at 65,536."""

Key = tuple[str, str, str]
"""study, model, split"""
KEYS = ["study", "model", "split"]


@dataclass(frozen=True)
class CurveBands:
    """The bands of one model on one split: sensitivity at SPECIFICITIES, precision at RECALLS."""

    roc: Estimate
    precision_recall: Estimate


@dataclass(frozen=True)
class Evaluation:
    """Everything computed from one set of predictions; tables as notebooks 41 to 43 write them.

    judged: the rows of `judged_rows`; bands, calibration_curves, decision_curves: by (study, model, split); warnings: what
    a reader must know, a sentence each.
    """

    predictions: pd.DataFrame
    judged: pd.DataFrame
    discrimination: pd.DataFrame
    curves: pd.DataFrame
    bands: Mapping[Key, CurveBands]
    comparisons: pd.DataFrame
    reclassification: pd.DataFrame
    calibration: pd.DataFrame
    calibration_curves: Mapping[Key, CalibrationCurve]
    recalibration: pd.DataFrame
    decision_curves: Mapping[Key, pd.DataFrame]
    net_benefit: pd.DataFrame
    prevalence: pd.DataFrame
    warnings: tuple[str, ...]
    seed: int
    n_bootstrap: int

    def __str__(self) -> str:
        counts = (self.predictions["study"].nunique(), self.predictions.groupby(["study", "model"]).ngroups)
        words = ("study" if counts[0] == 1 else "studies", "model" if counts[1] == 1 else "models")
        return f"{counts[0]} {words[0]}, {counts[1]} {words[1]}, {len(self.predictions)} predictions"


# --- the tables ---------------------------------------------------------------------------------------------------


def clusters(rows: pd.DataFrame) -> pd.Series | None:
    """The patient of each row; None where every patient has one row."""
    return rows["patient_id"] if rows["patient_id"].duplicated().any() else None


def locked_discrimination_table(predictions: pd.DataFrame, *, seed: int, n_bootstrap: int = 2000) -> pd.DataFrame:
    """`discrimination_table` without thresholds and operating points on cross-validated rows.

    The patients of those rows include the ones that a threshold is chosen on.
    """
    table = discrimination_table(predictions, rng=np.random.default_rng(seed), n_bootstrap=n_bootstrap)
    operating = [name for name in table if name.startswith(("threshold", *QUANTITIES))]
    table.loc[table["split"] == "cross_validation", operating] = None
    return table


def curve_bands(
    judged: pd.DataFrame, *, seed: int, n_bootstrap: int = 1000, named: Collection[str] = ()
) -> dict[Key, CurveBands]:
    """Bands of the ROC and precision-recall curves of rows with both classes.

    Where a study and split have more models than MOST_BANDS, only those of the models in `named`.
    """
    few = judged.groupby(["study", "split"])["model"].transform("nunique") <= MOST_BANDS
    found = {}
    for key, part in judged[few | judged["model"].isin(named)].groupby(KEYS, sort=False):
        units = Units.of_rows(part)
        if units.has_both_classes:
            curves = sensitivity_at(SPECIFICITIES), precision_at(RECALLS)
            found[key] = CurveBands(*(interval(c, units, np.random.default_rng(seed), n=n_bootstrap) for c in curves))
    return found


def paired_table(predictions: pd.DataFrame, judged: pd.DataFrame) -> pd.DataFrame:
    """`comparison_table` of judged rows with `call_comparison_table` beside it, empty where no threshold was locked.

    predictions: all rows of these models; the threshold is locked on those of `THRESHOLD_SOURCES`. Cross-validated rows
    are not called: their patients include those that a threshold is chosen on.
    """
    called = call_comparison_table(judged[judged["split"] != "cross_validation"], locked_thresholds(predictions))
    return comparison_table(judged).merge(called, on=["study", "split", "model_a", "model_b"], how="left")


def old_models(judged: pd.DataFrame) -> dict[str, str]:
    """{study: model that others are held to}: "clinical" where there is one, else the first of a study with several."""
    models = {study: list(dict.fromkeys(rows["model"])) for study, rows in judged.groupby("study", sort=False)}
    return {study: "clinical" if "clinical" in of else of[0] for study, of in models.items() if len(of) > 1}


def calibration_tables(
    judged: pd.DataFrame, *, seed: int, n_bootstrap: int = 500
) -> tuple[pd.DataFrame, dict[Key, CalibrationCurve]]:
    """`calibration_row` of every study, model and split, and its flexible curve with band where both classes are there.

    By patient where several rows share one. Every row starts from the same seed, so that models of the same patients meet
    the same resamples.
    """
    rows, curves = [], {}
    for key, part in judged.groupby(KEYS, sort=False):
        units = Units.of_rows(part)
        summary = calibration_summary(units, np.random.default_rng(seed), n_bootstrap=n_bootstrap)
        rows.append(calibration_row(*key, summary))
        if units.has_both_classes:
            curves[key] = summary.curve
    return pd.DataFrame(rows), curves


def calibration_row(study: str, model: str, split: str, summary: CalibrationSummary) -> dict[str, Any]:
    """One row of evaluation/calibration.csv: every estimate with `_low` and `_high`."""
    row: dict[str, Any] = {"study": study, "model": model, "split": split}
    row |= {"n": summary.n, "n_positive": summary.n_positive, "n_clipped": summary.n_clipped}
    for name in ("intercept", "slope", "expected_observed", "brier", "scaled_brier", "ici"):
        row |= getattr(summary, name).named(name)
    row |= {"e50": summary.errors.e50, "e90": summary.errors.e90, "emax": summary.errors.emax}
    fit = summary.hosmer_lemeshow
    row |= {"chi_squared_hosmer_lemeshow": fit.statistic, "df_hosmer_lemeshow": fit.degrees_of_freedom}
    return row | {"p_hosmer_lemeshow": fit.p}


RECALIBRATIONS = {"as predicted": None, "Platt": PlattRecalibration, "isotonic": IsotonicRecalibration}
RECALIBRATION_COLUMNS = (
    *(*KEYS, "method", "fitted_on", "n_fitted", "n_fitted_positive", "n"),
    *("intercept", "slope", "ici", "e50", "e90", "brier", "scaled_brier"),
    *("brier_change", "brier_change_low", "brier_change_high"),
)


def recalibration_table(
    predictions: pd.DataFrame, judged: pd.DataFrame, *, seed: int, n_bootstrap: int = 1000
) -> pd.DataFrame:
    """Calibration on test and external rows before and after recalibration on other patients: RECALIBRATION_COLUMNS.

    Fitted on a model's validation rows, else on cross-validated rows of patients who are not judged; without either, or
    with one class there, no rows. brier_change: after less before, percentile interval over resampled patients; below 0
    is better. A method without a finite fit is left out.
    """
    rows = []
    for (study, model), of_model in judged[judged["split"].isin(("test", "external"))].groupby(KEYS[:2], sort=False):
        known = predictions[(predictions["study"] == study) & (predictions["model"] == model)]
        source, fitted_on = _recalibration_rows(known, of_model)
        if source is None:
            continue
        for split, part in of_model.groupby("split", sort=False):
            where = {"study": study, "model": model, "split": split}
            for method, kind in RECALIBRATIONS.items():
                try:
                    fit = None if kind is None else kind().fit(source["y_score"], source["y_true"])
                except InputError:
                    continue
                after = part["y_score"] if fit is None else fit.predict(part["y_score"])
                row = where | {"method": method, "fitted_on": "" if fit is None else fitted_on}
                if fit is not None:
                    row |= {"n_fitted": len(source), "n_fitted_positive": int(source["y_true"].sum())}
                    row |= _brier_change(part, after, np.random.default_rng(seed), n_bootstrap)
                rows.append(row | _calibration_values(part["y_true"], after))
    table = pd.DataFrame(rows, columns=list(RECALIBRATION_COLUMNS))
    return table.astype({"n_fitted": "Int64", "n_fitted_positive": "Int64"})


def _recalibration_rows(known: pd.DataFrame, judged: pd.DataFrame) -> tuple[pd.DataFrame | None, str]:
    for split in ("validation", "cross_validation"):
        found = known[known["split"] == split]
        apart = not found["patient_id"].isin(judged["patient_id"]).any()
        if found["y_true"].nunique() == 2 and apart:
            return found, split
    return None, ""


def _calibration_values(y_true: pd.Series, y_prob: np.ndarray | pd.Series) -> dict[str, float]:
    units = Units.of(y_true, y_prob)
    errors = calibration_errors(units)
    values = {"n": len(units), "intercept": calibration_intercept(units).value, "slope": calibration_slope(units).value}
    values |= {"ici": errors.ici, "e50": errors.e50, "e90": errors.e90}
    return values | {"brier": once(brier, units), "scaled_brier": once(scaled_brier, units)}


def _brier_change(
    part: pd.DataFrame, after: np.ndarray, rng: np.random.Generator, n_bootstrap: int
) -> dict[str, float]:
    change = ((after - part["y_true"]) ** 2 - (part["y_score"] - part["y_true"]) ** 2).to_numpy()
    drawn = resample_weights(len(part), n_bootstrap, rng, cluster=clusters(part))
    low, high = percentile_limits(np.concatenate([weights @ change / weights.sum(axis=1) for weights in drawn]))
    return {"brier_change": change.mean(), "brier_change_low": float(low), "brier_change_high": float(high)}


def decision_curves(judged: pd.DataFrame) -> dict[Key, pd.DataFrame]:
    """`decision_curve` with intervals of every study, model and split, by patient where several rows share one."""
    by_key = judged.groupby(KEYS, sort=False)
    return {key: decision_curve(Units.of_rows(part), intervals=True) for key, part in by_key}


def net_benefit_table(
    curves: Mapping[Key, pd.DataFrame], thresholds: Sequence[float] | None = None, decimals: int = 4
) -> pd.DataFrame:
    """Decision curves under each other, with study, model and split first, rounded; at these thresholds, or at all."""
    table = pd.concat(
        [curve.assign(**dict(zip(KEYS, key, strict=True))) for key, curve in curves.items()], ignore_index=True
    )
    if thresholds is not None:
        table = table[np.isclose(table["threshold"].to_numpy()[:, None], thresholds).any(axis=1)]
    ordered = [*KEYS, *[name for name in table if name not in (*KEYS, "treat_none")]]
    return table[ordered].round(decimals).reset_index(drop=True)


def prevalence_tables(
    predictions: pd.DataFrame,
    judged: pd.DataFrame,
    *,
    seed: int,
    prevalences: Sequence[float] = PREVALENCES,
    threshold_probability: float = THRESHOLD_PROBABILITY,
    n_bootstrap: int = 1000,
) -> pd.DataFrame:
    """`prevalence_table` of every judged study, model and split, with study, model, split, prevalence_here, prevalence_fitted.

    prevalence_fitted: share of positives in the model's training rows, else validation, else cross-validated rows, from
    which probabilities are shifted; without any of them they stay as they are. Predictive values need a locked
    threshold, and cross-validated rows have none.
    """
    thresholds, tables = locked_thresholds(predictions), []
    by_model = dict(iter(predictions.groupby(KEYS[:2], sort=False)))
    for (study, model, split), part in judged.groupby(KEYS, sort=False):
        if part["y_true"].nunique() < 2:
            continue
        fitted = _fitted_prevalence(by_model[study, model])
        cutoff = np.nan if split == "cross_validation" else thresholds.get((study, model), np.nan)
        found = prevalence_table(
            Units.of_rows(part),
            cutoff,
            prevalences,
            prevalence_from=fitted,
            threshold_probability=threshold_probability,
            rng=np.random.default_rng(seed),
            n_bootstrap=n_bootstrap,
        )
        where = {"study": study, "model": model, "split": split, "prevalence_here": part["y_true"].mean()}
        tables.append(found.assign(**where, prevalence_fitted=np.nan if fitted is None else fitted))
    if not tables:
        return pd.DataFrame(columns=[*KEYS])
    table = pd.concat(tables, ignore_index=True)
    first = [*KEYS, "prevalence_here", "prevalence_fitted"]
    return table[[*first, *[name for name in table if name not in first]]].round(4)


def _fitted_prevalence(of_model: pd.DataFrame) -> float | None:
    for split in ("train", "validation", "cross_validation"):
        found = of_model.loc[of_model["split"] == split, "y_true"]
        if found.nunique() == 2:
            return float(found.mean())
    return None


def evaluate_predictions(predictions: pd.DataFrame, *, seed: int = 2026, n_bootstrap: int = 2000) -> Evaluation:
    """Everything in notebooks 41 to 43 that predictions alone allow, of a frame of the predictions contract.

    predictions: as `read_predictions` returns it. n_bootstrap: resamples of patients; calibration takes n_bootstrap / 4.
    Equal predictions and seed give equal numbers. Raises ValueError for fewer than 4 resamples.
    """
    if n_bootstrap < CALIBRATION_SHARE:
        raise ValueError(f"n_bootstrap must be at least {CALIBRATION_SHARE}, not {n_bootstrap}")
    predictions = predictions.reset_index(drop=True)
    judged = judged_rows(predictions)
    few = n_bootstrap // CALIBRATION_SHARE
    discrimination = locked_discrimination_table(predictions, seed=seed, n_bootstrap=n_bootstrap)
    calibration, calibration_curves = calibration_tables(judged, seed=seed, n_bootstrap=few)
    curves = decision_curves(judged)
    return Evaluation(
        predictions=predictions,
        judged=judged,
        discrimination=discrimination,
        curves=curve_table(judged, rng=np.random.default_rng(seed), n_bootstrap=n_bootstrap),
        bands=curve_bands(judged, seed=seed, n_bootstrap=n_bootstrap),
        comparisons=paired_table(predictions, judged),
        reclassification=reclassification_comparisons(
            judged, old_models(judged), rng=np.random.default_rng(seed), n_bootstrap=n_bootstrap
        ),
        calibration=calibration,
        calibration_curves=calibration_curves,
        recalibration=recalibration_table(predictions, judged, seed=seed, n_bootstrap=n_bootstrap),
        decision_curves=curves,
        net_benefit=net_benefit_table(curves),
        prevalence=prevalence_tables(predictions, judged, seed=seed, n_bootstrap=n_bootstrap),
        warnings=tuple(evaluation_warnings(predictions, discrimination, calibration)),
        seed=seed,
        n_bootstrap=n_bootstrap,
    )


# --- what a reader must know --------------------------------------------------------------------------------------


def evaluation_warnings(
    predictions: pd.DataFrame, discrimination: pd.DataFrame, calibration: pd.DataFrame
) -> list[str]:
    """Sentences about what limits the numbers: classes, events, thresholds, clusters, unequal patients, certainty.

    predictions: all rows; discrimination, calibration: tables made from them. Few events means fewer than FEW_EVENTS
    patients with or without the outcome.
    """
    found = []
    judged = judged_rows(predictions)
    for study, rows in judged.groupby("study", sort=False):
        if not rows["split"].isin(TESTED_SPLITS).any():
            split = SPLIT_NAMES[rows["split"].iloc[0]]
            found.append(
                f"{study}: there are no test, external or cross-validated rows, so models are judged on {split}; nothing "
                "here speaks for new patients."
            )
    for (study, split), rows in judged.groupby(["study", "split"], sort=False):
        found += _split_warnings(f"{study}, {SPLIT_NAMES[split]}", rows)
    found += _threshold_warnings(predictions, discrimination)
    found += _table_warnings(discrimination, calibration)
    return found


def _split_warnings(place: str, rows: pd.DataFrame) -> list[str]:
    found = []
    single, few = [], {}
    for model, part in rows.groupby("model", sort=False):
        if part["y_true"].nunique() < 2:
            single.append(model)
            continue
        holding = part.groupby("y_true")["patient_id"].nunique()
        if holding.min() < FEW_EVENTS:
            few.setdefault((holding[1], holding[0]), []).append(model)
    if single:
        found.append(f"{place}: one class only ({_listed(single)}); no AUC, no comparison, no figure.")
    for (with_it, without), models in few.items():
        found.append(
            f"{place}: few events, {with_it} patients with and {without} without the outcome ({_listed(models)}); below "
            f"{FEW_EVENTS} of either, calibration above all is uncertain."
        )
    units = rows.groupby("model", sort=False)[["patient_id", "unit_id"]].apply(
        lambda part: frozenset(part.agg(tuple, 1))
    )
    if units.nunique() > 1:
        sizes = _listed([f"{model} {len(held)}" for model, held in units.items()])
        found.append(
            f"{place}: the models did not score the same rows ({sizes}); only `comparisons.csv` sets them side by side on "
            "the rows that both scored."
        )
    if clusters(rows.drop_duplicates(["patient_id", "unit_id"])) is not None:
        n_units, n_patients = len(rows.drop_duplicates(["patient_id", "unit_id"])), rows["patient_id"].nunique()
        found.append(f"{place}: {n_units} rows of {n_patients} patients; intervals and tests are by patient.")
    return found


def _threshold_warnings(predictions: pd.DataFrame, discrimination: pd.DataFrame) -> list[str]:
    found = []
    held = discrimination[discrimination["split"] != "cross_validation"]
    for (study, split), rows in held[held["threshold_from"] == held["split"]].groupby(["study", "split"], sort=False):
        found.append(
            f"{study}, {SPLIT_NAMES[split]}: the threshold was chosen on these same rows ({_listed(rows['model'])}); "
            "sensitivity and its companions flatter there."
        )
    for study, rows in held[held["threshold"].isna()].groupby("study", sort=False):
        found.append(
            f"{study}: no threshold, hence no sensitivity, for {_listed(rows['model'])}: a threshold is chosen on "
            "validation, cross_validation or train rows with both classes, never on test rows."
        )
    pooled = held[held["threshold_from"] == "cross_validation"]
    for (study, split), rows in pooled.groupby(["study", "split"], sort=False):
        known = predictions[(predictions["study"] == study) & predictions["model"].isin(rows["model"])]
        folds = known[known["split"] == "cross_validation"][["model", "patient_id"]].drop_duplicates()
        twice = known[known["split"] == split][["model", "patient_id"]].drop_duplicates().merge(folds)
        if len(twice):
            found.append(
                f"{study}, {SPLIT_NAMES[split]}: the threshold was chosen on cross-validated rows that hold the same patients "
                f"({_listed(twice['model'].unique())}); sensitivity and its companions flatter there."
            )
    return found


def _table_warnings(discrimination: pd.DataFrame, calibration: pd.DataFrame) -> list[str]:
    found = []
    for row in discrimination[discrimination["auc_high"] < 0.5].itertuples():
        found.append(
            f"{row.study}, {SPLIT_NAMES[row.split]}: the AUC of {row.model} is below one half throughout its interval; is "
            "y_score the probability of y_true = 1?"
        )
    for row in discrimination[discrimination["note"].str.contains(ONE_SCORE, regex=False)].itertuples():
        found.append(
            f"{row.study}, {SPLIT_NAMES[row.split]}: {row.model} has one score for all; is y_score the right column, or a class "
            "instead of a probability?"
        )
    for row in discrimination[discrimination["note"].str.contains(SEPARATED, regex=False)].itertuples():
        found.append(
            f"{row.study}, {SPLIT_NAMES[row.split]}: {row.model} separates the classes entirely (DeLong's variance is zero), "
            "which is no certainty; is the outcome among what it was shown?"
        )
    for row in calibration[calibration["n_clipped"] > 0].itertuples():
        found.append(
            f"{row.study}, {SPLIT_NAMES[row.split]}: {row.n_clipped} probabilities of {row.model} are 0 or 1 (nearer than 1e-6) "
            "and were moved off for intercept and slope."
        )
    undefined = calibration["slope"].isna() & calibration["intercept"].notna()
    for row in calibration[undefined].itertuples():
        found.append(
            f"{row.study}, {SPLIT_NAMES[row.split]}: {row.model} has no calibration slope; its predictions are constant or "
            "separate the classes."
        )
    return found


def _listed(names: Sequence[str]) -> str:
    """Names once each, the first eight written out."""
    names = list(dict.fromkeys(names))
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")


# --- figures ------------------------------------------------------------------------------------------------------


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


def auc_forest_figure(table: pd.DataFrame) -> Figure:
    """AUCs with intervals, a panel per study. table: rows of the discrimination table."""
    rows = table.assign(name=table["model"].map(shown_name) + ", " + table["split"].map(SPLIT_NAMES))
    counts = rows["study"].value_counts(sort=False)
    lowest = min(0.4, rows["auc_low"].min() - 0.02)
    figure, axes = plt.subplots(
        len(counts), 1, figsize=(6.5, 1 + len(counts) * 0.3 + 0.3 * len(rows)), height_ratios=counts + 1, squeeze=False
    )
    for ax, (study, part) in zip(axes.flat, rows.groupby("study", sort=False), strict=True):
        plot_forest(part, ax, "name", "auc", "auc_low", "auc_high", reference=0.5, log=False)
        ax.set(xlim=(lowest, 1.0), title=shown_name(study))
    axes[-1, 0].set_xlabel("AUC (95 % interval)")
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
        names |= {"brier": ("Brier", 3), "scaled_brier": ("scaled Brier", 3)}
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


def _by_split(rows: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """{split: rows}, in the order of figures, of the splits that have both classes."""
    parts = {split: rows[rows["split"] == split] for split in SPLIT_NAMES}
    return {split: part for split, part in parts.items() if part["y_true"].nunique() == 2}


def _titled(figure: Figure, title: str) -> Figure:
    figure.suptitle(shown_name(title), x=0.01, ha="left", fontsize=9)
    return figure


def _number(value: float, digits: int) -> str:
    return f"{value:.{digits}f}" if isfinite(value) else "not estimable"


def _figures(evaluation: Evaluation, label: str) -> dict[str, bytes]:
    """{path in the folder: PNG}, drawn and closed one by one."""
    made = {}

    def keep(figure: Figure | None, name: str) -> None:
        if figure is not None:
            made[f"figures/{name}.png"] = _png(figure, label)

    judged, discrimination = evaluation.judged, evaluation.discrimination
    by_study = dict(iter(judged.groupby("study", sort=False)))
    for name, (study, rows) in zip(file_names(by_study), by_study.items(), strict=True):
        keep(roc_figure(rows, discrimination, study, evaluation.bands), f"roc_{name}")
        keep(precision_recall_figure(rows, evaluation.curves, study, evaluation.bands), f"precision_recall_{name}")
        keep(
            calibration_figure(rows, evaluation.calibration, evaluation.calibration_curves, study),
            f"calibration_{name}",
        )
        keep(decision_curve_figure(rows, evaluation.decision_curves, study), f"decision_curves_{name}")
    keep(auc_forest_figure(discrimination.merge(judged[KEYS].drop_duplicates())), "auc_by_model")
    return made


def _png(figure: Figure, label: str) -> bytes:
    figure.text(0.995, -0.01, shown_name(label), ha="right", va="top", fontsize=7.5, color="0.35")
    dpi = min(FIGURE_DPI, MAX_PIXELS / max(figure.get_size_inches()))
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=dpi, bbox_inches="tight")
    plt.close(figure)
    return palette_png(stream.getvalue())


def file_names(names: Sequence[str]) -> list[str]:
    """A file name per name: letters, digits and ._+- only, at most 60, unlike each other on every file system."""
    taken: list[str] = []
    for name in names:
        plain = re.sub(r"[^A-Za-z0-9._+-]+", "_", name)[:60].strip("._") or "study"
        number = 1
        while (candidate := plain if number == 1 else f"{plain}_{number}").lower() in map(str.lower, taken):
            number += 1
        taken.append(candidate)
    return taken


# --- the folder ---------------------------------------------------------------------------------------------------


def default_folder(paths: Sequence[str | Path]) -> Path:
    """evaluation-of-NAME in the working directory, after the first file, with the number of the others."""
    stem = Path(paths[0]).stem or "predictions"
    return Path(f"evaluation-of-{stem}" + (f"-and-{len(paths) - 1}-more" if len(paths) > 1 else ""))


def write_evaluation(
    paths: Sequence[str | Path],
    folder: str | Path,
    *,
    seed: int = 2026,
    n_bootstrap: int = 2000,
    provenance: str = "not stated",
    force: bool = False,
) -> tuple[Evaluation, list[str]]:
    """Evaluate predictions files into a folder; returns the evaluation and the names of the files written below it.

    provenance: one of PROVENANCES; it goes into every table, under every figure, and into the summary. force: write into
    a folder that is not empty; files of an earlier evaluation that are not written again are removed if they are
    unchanged, others stay. Nothing is written before everything is computed. Equal files and options give equal bytes.
    Raises InputError for predictions at fault (every problem at once) and a folder that may not be written.
    """
    paths, folder = [Path(path) for path in paths], Path(folder)
    if provenance not in PROVENANCES:
        raise InputError(f"provenance {provenance!r}: choose one of {', '.join(PROVENANCES)}")
    _check_folder(folder, force)
    evaluation = evaluate_predictions(read_predictions(paths), seed=seed, n_bootstrap=n_bootstrap)
    inputs = [{"file": path.name, "sha256": sha256_file(path)} for path in paths]
    files: dict[str, pd.DataFrame | bytes | str] = {
        f"{name}.csv": getattr(evaluation, name).assign(provenance=provenance) for name in TABLES
    }
    words = "provenance not stated" if provenance == "not stated" else f"{provenance} patients"
    with plt.rc_context():
        use_style()
        files |= _figures(evaluation, f"{_listed([entry['file'] for entry in inputs])} ({words})")
    files["summary.md"] = summary_text(evaluation, inputs, provenance, [*files, RECORD])
    overwritten = [path for path in paths if path.resolve() in {(folder / name).resolve() for name in files}]
    if overwritten:
        raise InputError(
            f"{overwritten[0]} would be overwritten by its own evaluation; choose another folder with --out"
        )
    try:
        _write(files, folder, {"inputs": inputs, "provenance": provenance, "seed": seed, "n_bootstrap": n_bootstrap})
    except OSError as error:
        raise InputError(f"{folder} cannot be written ({error}); choose another folder with --out") from error
    return evaluation, [*files, RECORD]


def _check_folder(folder: Path, force: bool) -> None:
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is a file; choose a folder with --out")
    if folder.is_dir() and not force and any(folder.iterdir()):
        raise InputError(f"{folder} exists and is not empty; choose another with --out, or write into it with --force")


def _write(files: Mapping[str, pd.DataFrame | bytes | str], folder: Path, record: dict[str, object]) -> None:
    for name, content in files.items():
        path = folder / name
        if isinstance(content, bytes):
            with atomic_path(path) as temporary:
                temporary.write_bytes(content)
        elif isinstance(content, str):
            write_text(content, path)
        else:
            write_csv(content, path)
    _remove_earlier(folder, keep=files)
    write_json(record | {"files": {name: sha256_file(folder / name) for name in files}}, folder / RECORD)


def _remove_earlier(folder: Path, keep: Mapping[str, object]) -> None:
    """Remove what an earlier evaluation wrote here and nobody changed since: a study of old beside new ones misleads."""
    try:
        earlier = dict(json.loads((folder / RECORD).read_text(encoding="utf-8"))["files"])
    except (OSError, ValueError, KeyError, TypeError):
        return
    for name, digest in earlier.items():
        path = folder / name
        inside = not PurePosixPath(name).is_absolute() and ".." not in PurePosixPath(name).parts
        if inside and name not in keep and path.is_file() and sha256_file(path) == digest:
            path.unlink()


# --- the summary --------------------------------------------------------------------------------------------------

METHODS = (
    "**AUC**: empirical, variance and paired test after DeLong 1988 (Biometrics 44:837) in the form of Sun & Xu 2014 (IEEE "
    "Signal Process Lett 21:1389); where a patient has several rows, by patient after Obuchowski 1997 (Biometrics 53:567). "
    "Intervals are on the log odds, and like the tests take Student's t with one degree of freedom fewer than the smaller "
    "class has. "
    "Cross-validated AUCs pool out-of-fold scores, and their intervals do not know that the folds were fitted anew.",
    "**Curves**: bands are percentiles over resampled patients, sensitivity at every specificity (vertical averaging) and "
    "precision at every recall, each point by itself. Partial AUC over specificities from 0.8, standardized after McClish "
    "1989 (Med Decis Making 9:190); sensitivity at 90 % specificity finds its cut-off anew in every resample; average "
    "precision without interpolation, of which a useless score has the share of positives.",
    "**Comparisons**: every pair of models of a study and split, on the rows that both scored; p corrected over these pairs "
    "after Holm 1979 (Scand J Stat 6:65). Beside them McNemar's tests (1947, Psychometrika 12:153) of the calls at the "
    "locked thresholds, among positives and among negatives, not corrected.",
    "**Reclassification**: category-free NRI in its two parts (Pencina 2011, Stat Med 30:11) and IDI (Pencina 2008, Stat Med "
    "27:157) against the clinical model, else the first one. Both can be positive for a useless marker when a model is "
    "miscalibrated (Hilden & Gerds 2014, Stat Med 33:3405): believe the difference in AUC and the net benefit first.",
    "**Operating points**: a row is called positive from the threshold on. The threshold has the largest Youden index (Youden "
    "1950, Cancer 3:32) on validation rows, else cross-validated, else training rows, and is applied to the others as it "
    "is. Intervals after Wilson 1927 (J Am Stat Assoc 22:209), or percentiles over resampled patients where a patient has "
    "several rows. Predictive values hold at the prevalence of these rows.",
    "**Calibration**: intercept (slope held at 1) and slope on the log odds with Wald intervals (Cox 1958, Biometrika 45:562; "
    "Steyerberg 2019, Clinical Prediction Models, 15.3), by patient with the sandwich variance (Liang & Zeger 1986, "
    "Biometrika 73:13); Brier score (Brier 1950, Mon Weather Rev 78:1), its scaled form, "
    "expected/observed and ICI (Austin & Steyerberg 2019, Stat Med 38:4051) with percentile intervals over resampled "
    "patients; Hosmer-Lemeshow with as many degrees of freedom as groups. Curves are lowess of the outcome.",
    "**Recalibration**: logistic (Platt) and isotonic, fitted on validation rows, else on cross-validated rows of other "
    "patients, and judged on test and external rows.",
    "**Net benefit**: Vickers & Elkin 2006 (Med Decis Making 26:565), standardized after Kerr 2016 (J Clin Oncol 34:2534), "
    "with score intervals, at the prevalence of these rows.",
    "**Other prevalences**: predictive values at the locked threshold by Bayes' rule with logit intervals (Mercaldo 2007, Stat "
    "Med 26:2170); net benefit with patients weighted to the prevalence and probabilities shifted to it from that of the "
    "training rows (King & Zeng 2001, Polit Anal 9:137). They assume that positives, and negatives, are alike there.",
)


def summary_text(
    evaluation: Evaluation, inputs: Sequence[Mapping[str, str]], provenance: str, files: Sequence[str]
) -> str:
    """The summary in Markdown: inputs, n, thresholds, main results, warnings, methods, files. It claims no compliance."""
    few = evaluation.n_bootstrap // CALIBRATION_SHARE
    warnings = [f"- {_plain(text)}" for text in evaluation.warnings] or ["None of those that are looked for was found."]
    parts = [
        "# Evaluation of predictions",
        "\n".join(f"- `{entry['file']}`, sha256 {entry['sha256']}" for entry in inputs),
        f"Provenance of the patients: **{provenance}**. {evaluation}. Intervals are 95 %; {evaluation.n_bootstrap} resamples, "
        f"{few} for calibration; seed {evaluation.seed}.",
        "These are calculations on the scores as given. How they were made, whether a patient was learned from under another "
        "name, and whether a reporting guideline is met, is not examined.",
        "## Rows and patients",
        _markdown(_counts(evaluation.predictions)),
        "## Thresholds",
        _markdown(_thresholds(evaluation.discrimination)),
        "## Results",
        _markdown(_results(evaluation)),
        "## Warnings",
        "\n".join(warnings),
        "## Methods",
        "\n".join(f"- {method}" for method in METHODS),
        "## Files",
        "\n".join(f"- `{name}`" for name in files),
    ]
    return "\n\n".join(parts) + "\n"


def _counts(predictions: pd.DataFrame) -> pd.DataFrame:
    rows = []
    for (study, split), part in predictions.groupby(["study", "split"], sort=False):
        units = part.drop_duplicates(["patient_id", "unit_id"])
        row = {"study": study, "split": SPLIT_NAMES[split], "models": part["model"].nunique()}
        row |= {"different rows": len(units), "patients": units["patient_id"].nunique()}
        rows.append(row | {"positive rows": int(units["y_true"].sum()), "share": f"{units['y_true'].mean():.2f}"})
    return pd.DataFrame(rows)


def _thresholds(discrimination: pd.DataFrame) -> pd.DataFrame:
    rows = []
    for (study, model), part in discrimination.groupby(["study", "model"], sort=False):
        known = part[part["threshold"].notna()]
        origin = SPLIT_NAMES[known["threshold_from"].iloc[0]] if len(known) else "none: nothing to choose it on"
        if not len(known) and (part["split"] == "cross_validation").all():
            origin = "none: cross-validated rows only"
        value = f"{known['threshold'].iloc[0]:.4g}" if len(known) else "-"
        rows.append({"study": study, "model": model, "threshold": value, "chosen on": origin})
    return pd.DataFrame(rows)


def _results(evaluation: Evaluation) -> pd.DataFrame:
    joined = evaluation.calibration[[*KEYS, "slope", "slope_low", "slope_high"]].merge(
        evaluation.discrimination, on=KEYS
    )
    rows = [
        {name: row[name] for name in ("study", "model")}
        | {"split": SPLIT_NAMES[row["split"]], "n": row["n"], "positive": row["n_positive"]}
        | {"AUC": estimate_text(row, "auc", 3)}
        | {name: estimate_text(row, name) for name in ("sensitivity", "specificity")}
        | {"calibration slope": estimate_text(row, "slope"), "Brier": estimate_text(row, "brier", 3)}
        for row in joined.to_dict("records")
    ]
    return pd.DataFrame(rows)


def _markdown(table: pd.DataFrame) -> str:
    lines = [list(table), ["---"] * table.shape[1], *table.astype(str).to_numpy().tolist()]
    return "\n".join("| " + " | ".join(_plain(cell) for cell in line) + " |" for line in lines)


def _plain(text: str) -> str:
    """Text that breaks neither a table nor a line of Markdown."""
    return " ".join(text.split()).replace("|", r"\|")
