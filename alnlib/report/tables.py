"""Rows and tables in the contract's columns, and the words in which tables name things.

What stands in the cells is computed in `alnlib.models` and `alnlib.evaluation`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from alnlib.cohorts.schema import ClinicalVariable
from alnlib.evaluation.calibration import CalibrationSummary
from alnlib.evaluation.readers import ReaderComparison
from alnlib.evaluation.roc import AucEstimate, delong_test
from alnlib.evaluation.tables import PREDICTION_COLUMNS


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
    predictions: pd.DataFrame, truth: pd.DataFrame, oracle: pd.DataFrame, modality_of: Mapping[str, str]
) -> pd.DataFrame:
    """How much of what could be known each model recovered, on each tested split: one row per model and split.

    truth: modality, centre, attainable_auc; oracle: patient_id, modality, probability; modality_of: {model: modality}.
    attainable_auc is the generative model's (the external centre's for the external split); oracle_auc that of its own
    probabilities on the very same patients, which takes the luck of the draw out. recovered_share is (auc - 0.5) /
    (attainable_auc - 0.5); behind_oracle the oracle's AUC minus the model's with DeLong's paired interval. No truth, no rows.
    """
    columns = ["model", "split", "n", "auc", "attainable_auc", "recovered_share", "oracle_auc"]
    columns += ["behind_oracle", "behind_oracle_low", "behind_oracle_high"]
    best = {(row.modality, row.centre): row.attainable_auc for row in truth.itertuples()}
    rows = []
    for (model, split), part in predictions.groupby(["model", "split"], sort=False):
        attainable = best.get((modality_of.get(model), "external" if split == "external" else "primary"))
        if attainable is None or split not in ("cross_validation", "test", "external"):
            continue
        known = oracle[oracle["modality"] == modality_of[model]].set_index("patient_id")["probability"]
        compared = delong_test(part["y_true"], known.loc[part["patient_id"]], part["y_score"])
        share = (compared.auc_b - 0.5) / (attainable - 0.5) if attainable > 0.5 else np.nan
        estimates = (model, split, len(part), compared.auc_b, attainable, share, compared.auc_a)
        rows.append((*estimates, compared.delta, compared.low, compared.high))
    return pd.DataFrame(rows, columns=columns)
