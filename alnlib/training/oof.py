"""Out-of-fold scores of networks, so that a later model is stacked on scores of patients the network never saw.

One fit lives in `alnlib.training.fit`; folds of patients are those of `alnlib.models.clinical`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from alnlib.cohorts.splits import patient_level_folds
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
) -> pd.DataFrame:
    """Score every unit by a network fitted without its patient: patient_id, unit_id, fold, y_true, y_score, in data order.

    Patient-level stratified folds. The network that scores fold k chooses its epoch on fold k + 1 and trains on the rest, so
    the scored patients have no say in it. At least three folds. progress: called with fold and history row.
    """
    if n_folds < 3:
        raise ValueError("n_folds must be at least 3: one fold to score, one to choose the epoch, the rest to train")
    fold = patient_level_folds(data.y, data.patient_ids, n_folds, rng)
    score = np.empty(len(data))
    for k in range(n_folds):
        chooses = fold == (k + 1) % n_folds
        held_out = fold == k
        report = None if progress is None else _with_fold(progress, k)
        fitted = fit_classifier(spec, data.subset(~held_out & ~chooses), data.subset(chooses), checkpoint_dir, report)
        score[held_out] = predict_proba(fitted, data.subset(held_out), tta=tta)
    return pd.DataFrame(
        {"patient_id": data.patient_ids, "unit_id": data.unit_ids, "fold": fold, "y_true": data.y, "y_score": score}
    )


def _with_fold(progress: Callable[[int, dict[str, float]], None], fold: int) -> Callable[[dict[str, float]], None]:
    return lambda row: progress(fold, row)
