"""Out-of-fold scores of networks, so that a later model is stacked on scores of patients the network never saw.

One fit lives in `alnlib.training.fit`; folds of patients are those of `alnlib.models.clinical`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from alnlib.cohorts.splits import patient_level_folds
from alnlib.errors import InputError
from alnlib.training.data import CropDataset
from alnlib.training.fit import FitSpec, fit_classifier, predict_proba


def out_of_fold_scores(
    spec: FitSpec,
    data: CropDataset,
    rng: np.random.Generator,
    n_folds: int = 5,
    checkpoint_dir: str | Path | None = None,
    progress: Callable[[int, dict[str, float]], None] | None = None,
    tta: bool = False,
    keep: str = "best",
) -> pd.DataFrame:
    """Score every unit by a network fitted without its patient: patient_id, unit_id, fold, y_true, y_score, in data order.

    Patient-level stratified folds. keep: "best", the network that scores fold k chooses its epoch on fold k + 1 and trains on
    the rest; "last", it trains on all other folds and keeps its last epoch, so that few patients are used better. Either
    way the scored patients have no say in it. progress: called with fold and history row. Raises InputError for too few
    folds (3 for "best", 2 for "last"), or if a fold holds one class.
    """
    if keep not in ("best", "last"):
        raise ValueError(f"keep is {keep!r}; expected 'best' or 'last'")
    if n_folds < (3 if keep == "best" else 2):
        raise InputError(
            f"n_folds is {n_folds}; give at least 3 where one fold scores, one chooses the epoch and the rest trains, and at "
            "least 2 where the last epoch is kept."
        )
    if keep == "last":
        spec = replace(spec, choose_from=(spec.epochs - 0.5) / spec.epochs, patience=0)
    fold = patient_level_folds(data.y, data.patient_ids, n_folds, rng)
    score = np.empty(len(data))
    for k in range(n_folds):
        held_out = fold == k
        # With the last epoch kept, the scored fold is looked at for the history and decides nothing.
        watched = held_out if keep == "last" else fold == (k + 1) % n_folds
        report = None if progress is None else _with_fold(progress, k)
        fitted = fit_classifier(spec, data.subset(~held_out & ~watched), data.subset(watched), checkpoint_dir, report)
        score[held_out] = predict_proba(fitted, data.subset(held_out), tta=tta)
    return pd.DataFrame(
        {"patient_id": data.patient_ids, "unit_id": data.unit_ids, "fold": fold, "y_true": data.y, "y_score": score}
    )


def _with_fold(progress: Callable[[int, dict[str, float]], None], fold: int) -> Callable[[dict[str, float]], None]:
    return lambda row: progress(fold, row)
