"""What a reader must know of an evaluation, a sentence each."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from alneval.rows import TESTED_SPLITS, judged_rows
from alneval.style import SPLIT_NAMES
from alneval.tables import ONE_SCORE, RANKS_ONLY, SEPARATED

FEW_EVENTS = 100
"""Patients with, or without, the outcome below which a validation is small: Vergouwe 2005, J Clin Epidemiol 58:475."""


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
    found += _scale_warnings(predictions, discrimination)
    found += _table_warnings(discrimination, calibration)
    return found


def listed(names: Sequence[str]) -> str:
    """Names once each, the first eight written out."""
    names = list(dict.fromkeys(names))
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")


def uncut_readers(readers: Sequence[str], beside: pd.DataFrame) -> list[str]:
    """A sentence on the readers who are in no row of the table beside a model."""
    uncut = [name for name in readers if name not in set(beside["reader"])]
    if not uncut:
        return []
    return [
        f"no sensitivity for the reads of {listed(uncut)}: a grade needs validation or train rows on which its cut is chosen, "
        "and every reader a model with one row per patient and patients of both classes."
    ]


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
        found.append(f"{place}: one class only ({listed(single)}); no AUC, no comparison, no figure.")
    for (with_it, without), models in few.items():
        found.append(
            f"{place}: few events, {with_it} patients with and {without} without the outcome ({listed(models)}); below "
            f"{FEW_EVENTS} of either, calibration above all is uncertain."
        )
    units = rows.groupby("model", sort=False)[["patient_id", "unit_id"]].apply(
        lambda part: frozenset(part.agg(tuple, 1))
    )
    if units.nunique() > 1:
        sizes = listed([f"{model} {len(held)}" for model, held in units.items()])
        found.append(
            f"{place}: the models did not score the same rows ({sizes}); only `comparisons.csv` sets them side by side on "
            "the rows that both scored."
        )
    n_units, n_patients = len(rows.drop_duplicates(["patient_id", "unit_id"])), rows["patient_id"].nunique()
    if n_patients < n_units:
        found.append(f"{place}: {n_units} rows of {n_patients} patients; intervals and tests are by patient.")
    return found


def _threshold_warnings(predictions: pd.DataFrame, discrimination: pd.DataFrame) -> list[str]:
    found = []
    held = discrimination[discrimination["split"] != "cross_validation"]
    for (study, split), rows in held[held["threshold_from"] == held["split"]].groupby(["study", "split"], sort=False):
        found.append(
            f"{study}, {SPLIT_NAMES[split]}: the threshold was chosen on these same rows ({listed(rows['model'])}); "
            "sensitivity and its companions flatter there."
        )
    for study, rows in held[held["threshold"].isna()].groupby("study", sort=False):
        found.append(
            f"{study}: no threshold, hence no sensitivity, for {listed(rows['model'])}: a threshold is chosen on "
            "validation, cross_validation or train rows with both classes, never on test rows; one fixed beforehand is given as "
            "--threshold."
        )
    pooled = held[held["threshold_from"] == "cross_validation"]
    for (study, split), rows in pooled.groupby(["study", "split"], sort=False):
        known = predictions[(predictions["study"] == study) & predictions["model"].isin(rows["model"])]
        folds = known[known["split"] == "cross_validation"][["model", "patient_id"]].drop_duplicates()
        twice = known[known["split"] == split][["model", "patient_id"]].drop_duplicates().merge(folds)
        if len(twice):
            found.append(
                f"{study}, {SPLIT_NAMES[split]}: the threshold was chosen on cross-validated rows that hold the same patients "
                f"({listed(twice['model'].unique())}); sensitivity and its companions flatter there."
            )
    return found


def _scale_warnings(predictions: pd.DataFrame, discrimination: pd.DataFrame) -> list[str]:
    found = []
    ranked = discrimination[discrimination["note"].str.contains(RANKS_ONLY, regex=False)]
    for study, rows in ranked.groupby("study", sort=False):
        places = []
        for model in rows["model"].unique():
            score = predictions.loc[(predictions["study"] == study) & (predictions["model"] == model), "y_score"]
            places.append(
                f"{model}: {(~score.between(0, 1)).sum()} of {len(score)}, {score.min():g} to {score.max():g}"
            )
        found.append(
            f"{study}: scores leave 0 to 1 and are no probabilities ({listed(places)}): AUC, curves, comparisons, operating "
            "points and predictive values are given; Brier score, calibration, recalibration, net benefit, NRI and IDI are "
            "not, and need the probability of y_true = 1."
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
    hard = calibration["n_clipped"] == calibration["n"]
    for row in calibration[hard & calibration["n_positive"].between(1, calibration["n"] - 1)].itertuples():
        found.append(
            f"{row.study}, {SPLIT_NAMES[row.split]}: {row.model} predicts 0 or 1 for all, which has no log odds: calibration "
            "intercept and slope are not estimable; give the probability that was cut."
        )
    for row in calibration[~hard & (calibration["n_clipped"] > 0)].itertuples():
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
