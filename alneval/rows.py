"""Rows of predictions: made, and chosen by what a model is; how much of what could be known a model recovered.

Statistics of them live in `tables` and the modules that it uses.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from alneval.delong import auc_difference
from alneval.estimate import format_interval
from alneval.tables import PREDICTION_COLUMNS
from alneval.units import Units

TESTED_SPLITS = ("cross_validation", "test", "external")
"""Splits on which models are compared, and their calibration and net benefit judged."""


def prediction_rows(
    study: str,
    model: str,
    split: str | pd.Series,
    patient_id: pd.Series,
    y_true: Sequence[int],
    y_score: Sequence[float],
    unit_id: pd.Series | None = None,
    role: str = "main",


def main_rows(predictions: pd.DataFrame) -> pd.DataFrame:
    """Rows of the models that stand for their study, and of those that stand beside one: no candidates."""
    return predictions[predictions["role"] != "candidate"]


def judged_rows(predictions: pd.DataFrame) -> pd.DataFrame:
    """The rows on which models are compared and judged: cross-validation, test and external of every study.

    A study without any of them is judged on validation, or else on training.
    """
    kept = pd.Series(False, index=predictions.index)
    for _, rows in predictions.groupby("study", sort=False):
        choices = (TESTED_SPLITS, ("validation",), ("train",))
        of_study = next(found for splits in choices if (found := rows["split"].isin(splits)).any())
        kept[rows.index] = of_study
    return predictions[kept]


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
