"""Rows of predictions: made, and chosen by what a model is; how much of what could be known a model recovered.

Statistics of them live in `tables` and the modules that it uses.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import expit

from alneval.delong import auc_difference
from alneval.estimate import format_interval
from alneval.folds import POPULATION
from alneval.tables import PREDICTION_COLUMNS
from alneval.units import Units

TESTED_SPLITS = ("cross_validation", "test", "external")
"""Splits on which models are compared, and their calibration and net benefit judged."""

JUDGED_ROLES = ("main", "companion")
"""Models that stand for their study, and those that stand beside one."""

Key = tuple[str, str, str]
"""study, model, split"""
KEYS = ["study", "model", "split"]


def prediction_rows(
    study: str,
    model: str,
    split: str | pd.Series,
    patient_id: pd.Series,
    y_true: Sequence[int],
    y_score: Sequence[float],
    unit_id: pd.Series | None = None,
    role: str = "main",
) -> pd.DataFrame:
    """Rows of a predictions file, (n, 8) in the contract's order; the unit is the patient unless unit_id is given, and
    role says what the model is (`tables.ROLES`).

    Of the population only a main model and its companions are asked: rows of others are left out.
    """
    rows = {
        "study": study,
        "model": model,
        "role": role,
        "split": np.asarray(split) if not isinstance(split, str) else split,
        "patient_id": np.asarray(patient_id),
        "unit_id": np.asarray(patient_id if unit_id is None else unit_id),
        "y_true": np.asarray(y_true, dtype=int),
        "y_score": np.asarray(y_score, dtype=float),
    }
    made = pd.DataFrame(rows)[list(PREDICTION_COLUMNS)]
    return made if role in JUDGED_ROLES else made[made["split"] != POPULATION].reset_index(drop=True)


def seed_rows(
    study: str,
    model: str,
    split: str | pd.Series,
    patient_id: pd.Series,
    y_true: Sequence[int],
    logits: np.ndarray,
    unit_id: pd.Series | None = None,
    role: str = "main",
) -> pd.DataFrame:
    """`prediction_rows` of a model whose score is the mean of its fits' logits (n, n_seeds), and of a main one those of each
    fit, `model/seed k` with role member, from which the spread over seeds is measured."""
    shared = split, patient_id, y_true
    made = [prediction_rows(study, model, *shared, expit(logits.mean(axis=1)), unit_id, role)]
    if role == "main" and logits.shape[1] > 1:
        made += [
            prediction_rows(study, f"{model}/seed {k}", *shared, expit(column), unit_id, "member")
            for k, column in enumerate(logits.T)
        ]
    return pd.concat(made, ignore_index=True)


def main_rows(predictions: pd.DataFrame) -> pd.DataFrame:
    """Rows of the models that stand for their study, and of those that stand beside one: no candidates, no single fits."""
    return predictions[predictions["role"].isin(JUDGED_ROLES)]


def judged_rows(predictions: pd.DataFrame) -> pd.DataFrame:
    """The rows on which models are compared and judged: cross-validation, test and external of every study.

    A study without any of them is judged on validation, or else on training, or else on its population.
    """
    kept = pd.Series(False, index=predictions.index)
    for _, rows in predictions.groupby("study", sort=False):
        choices = (TESTED_SPLITS, ("validation",), ("train",), (POPULATION,))
        of_study = next(found for splits in choices if (found := rows["split"].isin(splits)).any())
        kept[rows.index] = of_study
    return predictions[kept]


def probability_rows(predictions: pd.DataFrame) -> pd.DataFrame:
    """Rows of the models whose scores all lie in [0, 1], in every split: those that can be probabilities."""
    inside = predictions["y_score"].between(0, 1)
    return predictions[inside.groupby([predictions[name] for name in KEYS[:2]]).transform("all").astype(bool)]


def number_of(row: Mapping[str, Any], name: str) -> dict[str, float]:
    """{"value", "low", "high", "n"} of a quantity of a table's row, as `RunFolder.save_numbers` takes it."""
    number = {"value": row[name], "low": row[f"{name}_low"], "high": row[f"{name}_high"]}
    return number | ({"n": int(row["n"])} if "n" in row else {})


def estimate_text(row: Mapping[str, Any], name: str, digits: int = 2) -> str:
    """A quantity of a table's row with its interval, such as "0.82 (0.73 to 0.90)"; "-" where it does not exist."""
    value, low, high = (row[column] for column in (name, f"{name}_low", f"{name}_high"))
    return "-" if pd.isna(value) else format_interval(value, low, high, digits)


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
        if attainable is None or split not in TESTED_SPLITS or part["y_true"].nunique() < 2:
            continue
        known = part.merge(oracle[oracle["modality"] == modality], on=["patient_id", "unit_id"], how="left")
        if known["probability"].isna().any() or len(known) != len(part):
            raise ValueError(f"the oracle of {modality} does not cover the units of {model} one by one")
        scores = (known["y_true"], known["probability"], known["y_score"])
        compared = auc_difference(Units.of(*scores, patient=known["patient_id"]))
        best_auc, own_auc = compared.values
        share = (own_auc - 0.5) / (attainable - 0.5) if attainable > 0.5 else np.nan
        estimates = (study, model, split, len(part), own_auc, attainable, share, best_auc)
        rows.append((*estimates, compared.value, compared.low, compared.high))
    return pd.DataFrame(rows, columns=columns)
