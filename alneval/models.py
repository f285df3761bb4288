"""Everything that predictions alone allow, model by model: tables as notebooks 41 to 43 write them.

The statistics live in the modules that this one calls, figures in `panels`, the folder of a stranger's evaluation in `folder`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

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
from alneval.estimate import Estimate, interval, mean_interval, once
from alneval.methods import USUAL, Methods
from alneval.prevalence import prevalence_table
from alneval.readers import (
    MODEL_READER_COLUMNS,
    READER_COLUMNS,
    models_against_readers,
    reader_cuts,
    readers_beside_model,
)
from alneval.recalibration import IsotonicRecalibration, PlattRecalibration
from alneval.rows import KEYS, Key, judged_rows, probability_rows
from alneval.seeds import models_only
from alneval.subgroups import subgroup_table
from alneval.tables import (
    GIVEN,
    call_comparison_table,
    comparison_table,
    curve_table,
    discrimination_table,
    locked_thresholds,
    reclassification_comparisons,
)
from alneval.thresholds import QUANTITIES
from alneval.units import Units
from alneval.warnings import evaluation_warnings, uncut_readers
from alnlib.errors import InputError, Problem

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
    subgroups: pd.DataFrame
    readers: pd.DataFrame
    models_against_readers: pd.DataFrame
    calibration: pd.DataFrame
    calibration_curves: Mapping[Key, CalibrationCurve]
    recalibration: pd.DataFrame
    decision_curves: Mapping[Key, pd.DataFrame]
    net_benefit: pd.DataFrame
    prevalence: pd.DataFrame
    warnings: tuple[str, ...]
    seed: int
    n_bootstrap: int
    methods: Methods

    def __str__(self) -> str:
        counts = (self.predictions["study"].nunique(), self.predictions.groupby(["study", "model"]).ngroups)
        words = ("study" if counts[0] == 1 else "studies", "model" if counts[1] == 1 else "models")
        return f"{counts[0]} {words[0]}, {counts[1]} {words[1]}, {len(self.predictions)} predictions"


def evaluate_predictions(
    predictions: pd.DataFrame,
    *,
    seed: int = 2026,
    n_bootstrap: int = 2000,
    methods: Methods = USUAL,
    subgroups: Sequence[str] = (),
    readers: Sequence[str] = (),
) -> Evaluation:
    """Everything in notebooks 41 to 43 that predictions alone allow, of a frame of the predictions contract.

    predictions: as `read_predictions` returns it; single fits of a model are in no table of their own, and give the spread
    over seeds of `discrimination`. A model whose scores leave [0, 1] has what ranks allow. n_bootstrap: resamples of patients;
    calibration takes n_bootstrap / 4. subgroups, readers: further columns of levels, and of reads (0 and 1, or grades).
    Equal predictions and seed give equal numbers. Raises ValueError for fewer than 4 resamples, InputError for columns that
    hold no levels or no reads.
    """
    if n_bootstrap < CALIBRATION_SHARE:
        raise ValueError(f"n_bootstrap must be at least {CALIBRATION_SHARE}, not {n_bootstrap}")
    few = n_bootstrap // CALIBRATION_SHARE
    levels, reads = level_columns(predictions, subgroups), read_columns(predictions, readers)
    discrimination = locked_discrimination_table(predictions, seed=seed, n_bootstrap=n_bootstrap, methods=methods)
    predictions = models_only(predictions).reset_index(drop=True)
    judged = judged_rows(predictions)
    probable = judged[judged.index.isin(probability_rows(predictions).index)]
    calibration, calibration_curves = calibration_tables(probable, seed=seed, n_bootstrap=few)
    curves = decision_curves(probable)
    beside, against = reader_tables(predictions, judged, reads, seed=seed, n_bootstrap=n_bootstrap, methods=methods)
    return Evaluation(
        predictions=predictions,
        judged=judged,
        discrimination=discrimination,
        curves=curve_table(judged, rng=np.random.default_rng(seed), n_bootstrap=n_bootstrap),
        bands=curve_bands(judged, seed=seed, n_bootstrap=n_bootstrap),
        comparisons=paired_table(predictions, judged, methods),
        subgroups=subgroup_tables(judged, levels, methods),
        readers=beside,
        models_against_readers=against,
        reclassification=reclassification_comparisons(
            probable, old_models(judged), rng=np.random.default_rng(seed), n_bootstrap=n_bootstrap
        ),
        calibration=calibration,
        calibration_curves=calibration_curves,
        recalibration=recalibration_table(predictions, probable, seed=seed, n_bootstrap=n_bootstrap),
        decision_curves=curves,
        net_benefit=net_benefit_table(curves),
        prevalence=prevalence_tables(predictions, judged, seed=seed, n_bootstrap=n_bootstrap, methods=methods),
        warnings=(*evaluation_warnings(predictions, discrimination, calibration), *uncut_readers(readers, beside)),
        seed=seed,
        n_bootstrap=n_bootstrap,
        methods=methods,
    )


def locked_discrimination_table(
    predictions: pd.DataFrame, *, seed: int, n_bootstrap: int = 2000, methods: Methods = USUAL
) -> pd.DataFrame:
    """`discrimination_table` without thresholds and operating points on cross-validated rows.

    The patients of those rows include the ones that a threshold is chosen on, unless it was fixed beforehand.
    """
    rng = np.random.default_rng(seed)
    table = discrimination_table(predictions, rng=rng, n_bootstrap=n_bootstrap, methods=methods)
    operating = [name for name in table if name.startswith(("threshold", *QUANTITIES))]
    table.loc[(table["split"] == "cross_validation") & (table["threshold_from"] != GIVEN), operating] = None
    return table


def curve_bands(
    judged: pd.DataFrame, *, seed: int, n_bootstrap: int = 1000, named: Collection[str] = ()
) -> dict[Key, CurveBands]:
    """Bands of the ROC and precision-recall curves of the lead model of every study, where its rows have both classes.

    The lead is that in `named`, else the last of the study, which as a rule takes most in. One band is read, four turn gray.
    """
    leads = judged["model"].isin(named) | (judged["model"] == judged.groupby("study")["model"].transform("last"))
    leads &= judged["model"].isin(named) | ~judged["model"].isin(named).groupby(judged["study"]).transform("any")
    found = {}
    for key, part in judged[leads].groupby(KEYS, sort=False):
        units = Units.of_rows(part)
        if units.has_both_classes:
            curves = sensitivity_at(SPECIFICITIES), precision_at(RECALLS)
            found[key] = CurveBands(*(interval(c, units, np.random.default_rng(seed), n=n_bootstrap) for c in curves))
    return found


def paired_table(predictions: pd.DataFrame, judged: pd.DataFrame, methods: Methods = USUAL) -> pd.DataFrame:
    """`comparison_table` of judged rows with `call_comparison_table` beside it, empty where no threshold was locked.

    predictions: all rows of these models; the threshold is locked on those of `THRESHOLD_SOURCES`. Cross-validated rows
    are not called: their patients include those that a threshold is chosen on, unless it was fixed beforehand.
    """
    fixed = pd.MultiIndex.from_frame(judged[KEYS[:2]]).isin(list(methods.thresholds))
    callable_rows = judged[(judged["split"] != "cross_validation") | fixed]
    called = call_comparison_table(callable_rows, locked_thresholds(predictions, methods))
    return comparison_table(judged, methods=methods).merge(
        called, on=["study", "split", "model_a", "model_b"], how="left"
    )


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
    rows: list[dict[str, Any]] = []
    curves = {}
    for key, part in judged.groupby(KEYS, sort=False):
        units = Units.of_rows(part)
        summary = calibration_summary(units, np.random.default_rng(seed), n_bootstrap=n_bootstrap)
        rows.append(calibration_row(*key, summary))
        if units.has_both_classes:
            curves[key] = summary.curve
    return pd.DataFrame(rows, columns=None if rows else list(CALIBRATION_COLUMNS)), curves


CALIBRATION_COLUMNS = (*KEYS, "n", "n_positive", "n_clipped", "intercept", "slope", "slope_low", "slope_high")
"""Columns that a table of calibration without a row has, because others read them."""


def calibration_row(study: str, model: str, split: str, summary: CalibrationSummary) -> dict[str, Any]:
    """One row of evaluation/calibration.csv: every estimate with `_low` and `_high`; ici to emax by loess, then by lowess."""
    row: dict[str, Any] = {"study": study, "model": model, "split": split}
    row |= {"n": summary.n, "n_positive": summary.n_positive, "n_clipped": summary.n_clipped}
    for name in ("intercept", "slope", "observed_expected", "brier", "scaled_brier", "ici"):
        row |= getattr(summary, name).named(name)
    row |= {"e50": summary.errors.e50, "e90": summary.errors.e90, "emax": summary.errors.emax}
    row |= {f"{name}_lowess": value for name, value in vars(summary.lowess_errors).items()}
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
                    row |= _brier_change(part, after, seed, n_bootstrap)
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


def _brier_change(part: pd.DataFrame, after: np.ndarray, seed: int, n_bootstrap: int) -> dict[str, float]:
    change = (after - part["y_true"]) ** 2 - (part["y_score"] - part["y_true"]) ** 2
    rng = np.random.default_rng(seed)
    return mean_interval(change, part["patient_id"], rng, n_bootstrap).named("brier_change")


def decision_curves(judged: pd.DataFrame) -> dict[Key, pd.DataFrame]:
    """`decision_curve` with intervals of every study, model and split, by patient where several rows share one."""
    by_key = judged.groupby(KEYS, sort=False)
    return {key: decision_curve(Units.of_rows(part), intervals=True) for key, part in by_key}


def net_benefit_table(curves: Mapping[Key, pd.DataFrame], thresholds: Sequence[float] | None = None) -> pd.DataFrame:
    """Decision curves under each other, with study, model and split first; at these thresholds, or at all."""
    if not curves:
        return pd.DataFrame(columns=[*KEYS, "threshold", "net_benefit"])
    table = pd.concat(
        [curve.assign(**dict(zip(KEYS, key, strict=True))) for key, curve in curves.items()], ignore_index=True
    )
    if thresholds is not None:
        table = table[np.isclose(table["threshold"].to_numpy()[:, None], thresholds).any(axis=1)]
    ordered = [*KEYS, *[name for name in table if name not in (*KEYS, "treat_none")]]
    return table[ordered].reset_index(drop=True)


def prevalence_tables(
    predictions: pd.DataFrame,
    judged: pd.DataFrame,
    *,
    seed: int,
    prevalences: Sequence[float] = PREVALENCES,
    threshold_probability: float = THRESHOLD_PROBABILITY,
    n_bootstrap: int = 1000,
    methods: Methods = USUAL,
) -> pd.DataFrame:
    """`prevalence_table` of every judged study, model and split, with study, model, split, prevalence_here, prevalence_fitted.

    prevalence_fitted: share of positives in the model's training rows, else validation, else cross-validated rows, from
    which probabilities are shifted; without any of them they stay as they are. Predictive values need a locked
    threshold, and cross-validated rows have none but one fixed beforehand.
    """
    thresholds, tables = locked_thresholds(predictions, methods), []
    by_model = dict(iter(predictions.groupby(KEYS[:2], sort=False)))
    probable = set(probability_rows(predictions)[KEYS[:2]].itertuples(index=False, name=None))
    for (study, model, split), part in judged.groupby(KEYS, sort=False):
        if part["y_true"].nunique() < 2:
            continue
        fitted = _fitted_prevalence(by_model[study, model])
        pooled = split == "cross_validation" and (study, model) not in methods.thresholds
        cutoff = np.nan if pooled else thresholds.get((study, model), np.nan)
        found = prevalence_table(
            Units.of_rows(part),
            cutoff,
            prevalences,
            prevalence_from=fitted,
            threshold_probability=threshold_probability if (study, model) in probable else None,
            rng=np.random.default_rng(seed),
            n_bootstrap=n_bootstrap,
        )
        where = {"study": study, "model": model, "split": split, "prevalence_here": part["y_true"].mean()}
        tables.append(found.assign(**where, prevalence_fitted=np.nan if fitted is None else fitted))
    if not tables:
        return pd.DataFrame(columns=[*KEYS])
    table = pd.concat(tables, ignore_index=True)
    first = [*KEYS, "prevalence_here", "prevalence_fitted"]
    return table[[*first, *[name for name in table if name not in first]]]


def _fitted_prevalence(of_model: pd.DataFrame) -> float | None:
    for split in ("train", "validation", "cross_validation"):
        found = of_model.loc[of_model["split"] == split, "y_true"]
        if found.nunique() == 2:
            return float(found.mean())
    return None


MOST_LEVELS = 10
"""Different values of a subgroup's column above which they are no groups."""


def level_columns(predictions: pd.DataFrame, columns: Sequence[str]) -> pd.DataFrame:
    """Levels by patient, index (study, patient_id), nan where empty. Raises InputError for more than MOST_LEVELS of them."""
    levels = predictions.drop_duplicates(KEYS[:1] + ["patient_id"]).set_index(["study", "patient_id"])[list(columns)]
    levels = levels.apply(lambda column: column.astype(str).str.strip()).replace("", np.nan)
    problems = [
        Problem(
            "predictions",
            None,
            name,
            None,
            f"{number} different values",
            "give groups, such as 'below 50', not numbers",
        )
        for name, number in levels.nunique().items()
        if number > MOST_LEVELS
    ]
    if problems:
        raise InputError("these columns hold no subgroups:", problems)
    return levels


def subgroup_tables(judged: pd.DataFrame, levels: pd.DataFrame, methods: Methods = USUAL) -> pd.DataFrame:
    """`subgroup_table` of every judged study, model and split; levels: of `level_columns`."""
    tables = []
    for key, part in judged.groupby(KEYS, sort=False):
        found = subgroup_table(part, levels.loc[key[0]], interval=methods.interval)
        tables.append(found.assign(**dict(zip(KEYS, key, strict=True)))[[*KEYS, *found]])
    return pd.concat(tables, ignore_index=True)


def read_columns(predictions: pd.DataFrame, columns: Sequence[str]) -> pd.DataFrame:
    """Reads by patient, index (study, patient_id), nan where empty. Raises InputError for what is no number."""
    text = predictions.drop_duplicates(KEYS[:1] + ["patient_id"]).set_index(["study", "patient_id"])[list(columns)]
    text = text.apply(lambda column: column.astype(str).str.strip())
    reads = text.apply(pd.to_numeric, errors="coerce")
    odd = {name: text.loc[reads[name].isna() & (text[name] != ""), name].unique() for name in text}
    remedy = "give 0 or 1, or a grade that rises with suspicion, or nothing"
    problems = [
        Problem("predictions", None, name, None, f"no numbers: {', '.join(map(repr, sorted(values)[:8]))}", remedy)
        for name, values in odd.items()
        if len(values)
    ]
    if problems:
        raise InputError("these reads are no numbers:", problems)
    return reads


def reader_tables(
    predictions: pd.DataFrame,
    judged: pd.DataFrame,
    reads: pd.DataFrame,
    *,
    seed: int,
    n_bootstrap: int = 2000,
    methods: Methods = USUAL,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """`readers_beside_model` and `models_against_readers` of every judged study, model and split with one row per patient.

    reads: of `read_columns`. A read of 0 and 1 is positive at 1; the cut of a grade is chosen on validation or training rows, and
    a reader without such rows has no sensitivity, but an AUC among `models_against_readers`.
    """
    beside, against = [], []
    for study, of_study in judged.groupby("study", sort=False) if len(reads.columns) else ():
        scores = reads.loc[study].dropna(axis=1, how="all")
        known = predictions[(predictions["study"] == study) & predictions["split"].isin(("validation", "train"))]
        outcome = known.drop_duplicates("patient_id").set_index("patient_id")["y_true"]
        called = [name for name in scores if scores[name].dropna().isin((0, 1)).all()]
        cuts = dict.fromkeys(called, 1.0) | reader_cuts(scores.drop(columns=called), outcome)
        against.append(
            models_against_readers(of_study, scores, {"all readers": list(scores)} if len(scores.columns) else {})
        )
        for _, part in of_study.groupby(KEYS, sort=False):
            if part["patient_id"].is_unique:
                rng = np.random.default_rng(seed)
                settings = {"rng": rng, "n_bootstrap": n_bootstrap, "interval": methods.interval}
                beside.append(readers_beside_model(part, scores, cuts, **settings))
    empty = pd.DataFrame(columns=list(READER_COLUMNS)), pd.DataFrame(columns=list(MODEL_READER_COLUMNS))
    return tuple(
        pd.concat(filled, ignore_index=True) if (filled := [table for table in tables if len(table)]) else nothing
        for tables, nothing in zip((beside, against), empty, strict=True)
    )
