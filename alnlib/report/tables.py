"""Rows and tables in the contract's columns, and the words in which tables name things.

What stands in the cells is computed in `alnlib.models` and `alneval`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from alneval.calibration import CalibrationSummary
from alneval.multireader import compare_model_with_readers
from alneval.readers import ReaderComparison, compare_model_with_reader
from alneval.roc import AucEstimate, clustered_delong_test, delong_auc, delong_test
from alneval.tables import PREDICTION_COLUMNS
from alneval.thresholds import youden_threshold
from alnlib.cohorts.schema import ClinicalVariable


def prediction_rows(
    study: str,
    model: str,
    split: str | pd.Series,
    patient_id: pd.Series,
    y_true: Sequence[int],
    y_score: Sequence[float],
    unit_id: pd.Series | None = None,
) -> pd.DataFrame:
    """Rows of a predictions file, (n, 7) in the contract's order; the unit is the patient unless unit_id is given."""
    rows = {
        "study": study,
        "model": model,
        "split": np.asarray(split) if not isinstance(split, str) else split,
        "patient_id": np.asarray(patient_id),
        "unit_id": np.asarray(patient_id if unit_id is None else unit_id),
        "y_true": np.asarray(y_true, dtype=int),
        "y_score": np.asarray(y_score, dtype=float),
    }
    return pd.DataFrame(rows)[list(PREDICTION_COLUMNS)]


def odds_ratio_rows(table: pd.DataFrame, clinical: Mapping[str, ClinicalVariable]) -> pd.DataFrame:
    """The rows of `univariable_table` for a forest plot, named "T stage: T2 vs T1" or "Age (per year)", without references."""
    rows = table[table["odds_ratio"].ne(1.0) | table["low"].notna()].copy()
    by_label = {variable.label: variable for variable in clinical.values()}
    rows["name"] = [_odds_ratio_name(by_label[row.variable], row.level) for row in rows.itertuples()]
    return rows.reset_index(drop=True)


def _odds_ratio_name(variable: ClinicalVariable, level: Any) -> str:
    if variable.kind == "continuous":
        return f"{variable.label} (per {variable.unit.removesuffix('s')})" if variable.unit else variable.label
    return f"{variable.label}: {level} vs {variable.levels[0]}"


def reader_row(reader: str, cut: float, auc: AucEstimate, compared: ReaderComparison, model: str) -> dict[str, Any]:
    """One reader, called positive from the score `cut`: sensitivity, specificity, and a model held to that specificity."""
    point = compared.reader
    row: dict[str, Any] = {"reader": reader, "n": point.n, "n_positive": point.n_positive, "cut": cut}
    row |= {"auc": auc.auc, "auc_low": auc.low, "auc_high": auc.high}
    row |= {"true_positives": point.true_positives, "true_negatives": point.true_negatives}
    for name in ("sensitivity", "specificity"):
        share = getattr(point, name)
        row |= {name: share.value, f"{name}_low": share.low, f"{name}_high": share.high}
    row |= {"model": model, "model_sensitivity": compared.model.sensitivity.value}
    row |= {"model_minus_reader": compared.delta, "model_minus_reader_low": compared.low}
    return row | {"model_minus_reader_high": compared.high, "p_mcnemar": compared.p}


READER_COLUMNS = ("study", "split", "reader", "n", "n_positive", "cut", "auc", "sensitivity", "specificity", "model")


def reader_cuts(scores: pd.DataFrame, outcome: pd.Series) -> dict[str, float]:
    """{reader: the score from which a reading is positive}, with the largest Youden index on the patients of `outcome`.

    scores: index patient_id, a column per reader, empty where a reader did not read; outcome: 0/1, index patient_id, of
    patients on whom nothing is tested. The cut of graded scores is a grade. A reader of one class only has no cut.
    """
    cuts = {}
    for reader in scores:
        read = scores.loc[scores.index.isin(outcome.index), reader].dropna()
        if outcome.loc[read.index].nunique() == 2:
            cut = youden_threshold(outcome.loc[read.index], read)
            graded = (read == read.round()).all()
            cuts[reader] = float(np.ceil(cut)) if graded else cut
    return cuts


def readers_beside_model(
    rows: pd.DataFrame,
    scores: pd.DataFrame,
    cuts: Mapping[str, float],
    *,
    rng: np.random.Generator,
    n_bootstrap: int = 2000,
) -> pd.DataFrame:
    """One row per reader: study and split, then `reader_row`, on the patients whom reader and model both scored.

    rows: predictions of one model on one split, one row per patient; scores: index patient_id, a column per reader, empty
    where a reader did not read; cuts: {reader: score from which a reading is positive}, fixed on other patients. A reader
    whose patients are of one class only is left out. Without any, an empty table that has READER_COLUMNS.
    """
    found = []
    for reader, cut in cuts.items():
        given = scores[reader].dropna()
        both = rows[rows["patient_id"].isin(given.index)]
        if both["y_true"].nunique() < 2:
            continue
        reading = given.loc[both["patient_id"]].to_numpy(float)
        compared = compare_model_with_reader(
            both["y_true"], both["y_score"], reading, cut, rng=rng, n_bootstrap=n_bootstrap
        )
        where = {"study": both["study"].iloc[0], "split": both["split"].iloc[0]}
        model = both["model"].iloc[0]
        found.append(where | reader_row(reader, cut, delong_auc(both["y_true"], reading), compared, model))
    return pd.DataFrame(found) if found else pd.DataFrame(columns=list(READER_COLUMNS))


READ_MODALITIES = ("ultrasound", "MRI", "CT", "mammography")
MODEL_READER_COLUMNS = (
    *("study", "model", "split", "readers", "n_readers", "n", "n_positive", "model_auc", "readers_auc"),
    *("delta", "delta_low", "delta_high", "degrees_of_freedom", "p"),
    *("delta_fixed", "delta_fixed_low", "delta_fixed_high", "p_fixed"),
)


def reader_groups(described: Mapping[str, str], present: Sequence[str]) -> dict[str, list[str]]:
    """{what they read: reader ids} of the readers in `present`, by the first of READ_MODALITIES that a description names.

    described: {reader: description}, as cohort.yaml gives it; readers without such a word are grouped as "unspecified".
    """
    groups: dict[str, list[str]] = {}
    for reader in (reader for reader in described if reader in present):
        words = re.findall(r"\w+", described[reader].lower())
        read = next((name for name in READ_MODALITIES if name.lower() in words), "unspecified")
        groups.setdefault(read, []).append(reader)
    return groups


def models_against_readers(
    predictions: pd.DataFrame, scores: pd.DataFrame, groups: Mapping[str, Sequence[str]]
) -> pd.DataFrame:
    """Every model and split against the mean AUC of each group of readers on the same patients: MODEL_READER_COLUMNS.

    predictions: rows of the contract, one per patient; models with several rows per patient are left out, since readers
    scored patients. scores: index patient_id, a column per reader. Patients whom the whole group read. delta: model less
    readers with the interval and p of `compare_model_with_readers` for random readers (nan for one reader); the columns
    with "fixed" are about these very readers.
    """
    rows = []
    for (study, model, split), part in predictions.groupby(["study", "model", "split"], sort=False):
        if part["patient_id"].duplicated().any():
            continue
        for name, readers in groups.items():
            read = scores[list(readers)].dropna()
            both = part[part["patient_id"].isin(read.index)]
            if both["y_true"].nunique() < 2:
                continue
            arrays = both["y_true"], both["y_score"], read.loc[both["patient_id"]].to_numpy(float)
            fixed = compare_model_with_readers(*arrays, readers="fixed")
            row: dict[str, Any] = {"study": study, "model": model, "split": split, "readers": name}
            row |= {"n_readers": len(readers), "n": fixed.n, "n_positive": fixed.n_positive}
            row |= {"model_auc": fixed.model_auc, "readers_auc": fixed.readers_auc, "delta": fixed.delta}
            if len(readers) > 1:
                drawn = compare_model_with_readers(*arrays)
                row |= {"delta_low": drawn.low, "delta_high": drawn.high, "p": drawn.p}
                row |= {"degrees_of_freedom": drawn.degrees_of_freedom}
            row |= {"delta_fixed": fixed.delta, "delta_fixed_low": fixed.low, "delta_fixed_high": fixed.high}
            rows.append(row | {"p_fixed": fixed.p})
    return pd.DataFrame(rows, columns=list(MODEL_READER_COLUMNS))


def number_of(row: Mapping[str, Any], name: str) -> dict[str, float]:
    """{"value", "low", "high", "n"} of a quantity of a table's row, as `RunFolder.save_numbers` takes it."""
    number = {"value": row[name], "low": row[f"{name}_low"], "high": row[f"{name}_high"]}
    return number | ({"n": int(row["n"])} if "n" in row else {})


def estimate_text(row: Mapping[str, Any], name: str, digits: int = 2) -> str:
    """A quantity of a table's row with its interval, such as "0.82 (0.73 to 0.90)"; "-" where it does not exist."""
    value, low, high = (row[column] for column in (name, f"{name}_low", f"{name}_high"))
    if pd.isna(value):
        return "-"
    return f"{value:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def calibration_row(study: str, model: str, split: str, summary: CalibrationSummary) -> dict[str, Any]:
    """One row of evaluation/calibration.csv: every estimate with `_low` and `_high`."""
    row: dict[str, Any] = {"study": study, "model": model, "split": split}
    row |= {"n": summary.n, "n_positive": summary.n_positive, "n_clipped": summary.n_clipped}
    for name in ("intercept", "slope", "expected_observed", "brier", "scaled_brier", "ici"):
        estimate = getattr(summary, name)
        value = estimate.estimate if hasattr(estimate, "estimate") else estimate.value
        row |= {name: value, f"{name}_low": estimate.low, f"{name}_high": estimate.high}
    row |= {"e50": summary.errors.e50, "e90": summary.errors.e90, "emax": summary.errors.emax}
    fit = summary.hosmer_lemeshow
    row |= {"chi_squared_hosmer_lemeshow": fit.chi_squared, "df_hosmer_lemeshow": fit.degrees_of_freedom}
    return row | {"p_hosmer_lemeshow": fit.p}


def recovered_share(
    predictions: pd.DataFrame,
    truth: pd.DataFrame,
    oracle: pd.DataFrame,
    modality_of: Mapping[str | tuple[str, str], str],
) -> pd.DataFrame:
    """How much of what could be known each model recovered, on each tested split: one row per study, model and split.

    truth: modality, center, attainable_auc; oracle: patient_id, unit_id, modality, probability; modality_of: {model, or
    (study, model) which goes before: modality}. attainable_auc is the generative model's (the external center's for the
    external split); oracle_auc that of its own probabilities on the very same units, which takes the luck of the draw out.
    recovered_share is (auc - 0.5) / (attainable_auc - 0.5); behind_oracle the oracle's AUC minus the model's with DeLong's
    paired interval (Obuchowski's where a patient has several units). No truth, no rows. Raises ValueError for a unit that
    the oracle does not know.
    """
    columns = ["study", "model", "split", "n", "auc", "attainable_auc", "recovered_share", "oracle_auc"]
    columns += ["behind_oracle", "behind_oracle_low", "behind_oracle_high"]
    best = {(row.modality, row.center): row.attainable_auc for row in truth.itertuples()}
    rows = []
    for (study, model, split), part in predictions.groupby(["study", "model", "split"], sort=False):
        modality = modality_of.get((study, model), modality_of.get(model))
        attainable = best.get((modality, "external" if split == "external" else "primary"))
        if attainable is None or split not in ("cross_validation", "test", "external") or part["y_true"].nunique() < 2:
            continue
        known = part.merge(oracle[oracle["modality"] == modality], on=["patient_id", "unit_id"], how="left")
        if known["probability"].isna().any() or len(known) != len(part):
            raise ValueError(f"the oracle of {modality} does not cover the units of {model} one by one")
        scores = (known["y_true"], known["probability"], known["y_score"])
        clustered = known["patient_id"].duplicated().any()
        compared = clustered_delong_test(*scores, known["patient_id"]) if clustered else delong_test(*scores)
        share = (compared.auc_b - 0.5) / (attainable - 0.5) if attainable > 0.5 else np.nan
        estimates = (study, model, split, len(part), compared.auc_b, attainable, share, compared.auc_a)
        rows.append((*estimates, compared.delta, compared.low, compared.high))
    return pd.DataFrame(rows, columns=columns)
