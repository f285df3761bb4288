"""What a split by image claims when patients have several images: the split itself, how much it leaks, and what that gains.

Splits by patient, the only ones a result may rest on, live in `alneval.folds`; training in `alnlib.training`.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from alneval.bootstrap import (
    BootstrapDifference,
    resample_weights,
    summarize_resamples,
    two_sided_bootstrap_p,
    weighted_auc,
)
from alneval.estimate import Estimate
from alneval.folds import DEVELOPMENT_SPLITS
from alneval.inputs import as_labels, as_scores
from alneval.intervals import wilson_interval
from alneval.roc import auc


def image_level_splits(split: ArrayLike, y: ArrayLike, image_ids: ArrayLike, *, rng: np.random.Generator) -> np.ndarray:
    """A split drawn over images as if they were patients: (n,) train, validation or test, other splits as they were.

    split: (n,) the split of each image's patient; y: (n,) 0/1; image_ids: (n,) unique names. The images of train,
    validation and test are shuffled among these splits within their class, so that every split keeps its numbers of
    positive and negative images and nothing but who shares a patient with whom changes. For showing what leakage
    claims; nothing else may rest on it. The result depends on `rng` and the set of images, not on the order of rows.
    Raises ValueError for repeated images.
    """
    drawn = np.asarray(split, dtype=object).copy()
    positive, names = as_labels(y), np.asarray(image_ids).astype(str)
    if drawn.shape != positive.shape or names.shape != positive.shape:
        raise ValueError(f"{drawn.shape} splits, {positive.shape} labels and {names.shape} image_ids: not the same")
    if np.unique(names).size != names.size:
        raise ValueError("image_ids must be unique")
    by_name = np.argsort(names)
    development = np.isin(drawn, DEVELOPMENT_SPLITS)
    for label in (True, False):
        members = by_name[(development & (positive == label))[by_name]]
        drawn[members] = rng.permutation(np.sort(drawn[members]))
    return drawn


def shared_patient_share(
    split: ArrayLike, patient_ids: ArrayLike, tested: str = "test", learned: str = "train"
) -> Estimate:
    """Share of the images of split `tested` whose patient also has an image in split `learned`, with Wilson's interval.

    split, patient_ids: (n,). It is 0 under every split by patient. The interval counts images as independent.
    """
    splits, patients = np.asarray(split, dtype=object), np.asarray(patient_ids)
    shared = np.isin(patients[splits == tested], patients[splits == learned])
    return wilson_interval(int(shared.sum()), shared.size)


def remembered_label_score(
    split: ArrayLike, patient_ids: ArrayLike, y: ArrayLike, learned: str = "train"
) -> np.ndarray:
    """Score (n,) of a reader who sees no pixel and recognizes patients: the mean label of the patient's `learned` images.

    A patient without such images gets the mean label of all of them, so that under a split by patient every tested
    image scores the same (AUC 0.5). Under a split by image its AUC is what recognizing patients alone would claim.
    split, patient_ids, y: (n,). Raises ValueError if `learned` is empty.
    """
    frame = pd.DataFrame({"split": np.asarray(split, dtype=object), "patient_id": patient_ids, "y": as_labels(y)})
    seen = frame[frame["split"] == learned]
    if seen.empty:
        raise ValueError(f"no image in split {learned!r}")
    return frame["patient_id"].map(seen.groupby("patient_id")["y"].mean()).fillna(seen["y"].mean()).to_numpy(float)


def auc_difference_of_test_sets(
    y_a: ArrayLike,
    score_a: ArrayLike,
    patients_a: ArrayLike,
    y_b: ArrayLike,
    score_b: ArrayLike,
    patients_b: ArrayLike,
    *,
    rng: np.random.Generator,
    n_bootstrap: int = 2000,
    confidence: float = 0.95,
) -> BootstrapDifference:
    """AUC on test set a minus AUC on test set b, for test sets of different images that may share patients.

    y, score, patients: (n_a,) and (n_b,), one row per image. Patients of either set are drawn with replacement, each with
    all the images it has in both: where the sets share patients, their AUCs are drawn together; where they share none,
    this is the bootstrap of two cohorts apart. Patients with and without a positive image keep their numbers. Images
    are not paired, so case mix is part of the difference. Raises ValueError if a class is missing in a set.
    """
    positive_a, positive_b = as_labels(y_a, both_classes=True), as_labels(y_b, both_classes=True)
    scores_a, scores_b = as_scores(score_a, positive_a.size), as_scores(score_b, positive_b.size)
    cluster = np.concatenate([np.asarray(patients_a).astype(str), np.asarray(patients_b).astype(str)])
    positive = np.concatenate([positive_a, positive_b])
    resampled = np.concatenate(
        [
            weighted_auc(positive_a, scores_a, weights[:, : positive_a.size])
            - weighted_auc(positive_b, scores_b, weights[:, positive_a.size :])
            for weights in resample_weights(positive.size, n_bootstrap, rng, strata=positive, cluster=cluster)
        ]
    )
    auc_a, auc_b = auc(positive_a, scores_a), auc(positive_b, scores_b)
    summary = summarize_resamples(auc_a - auc_b, resampled, confidence=confidence)
    return BootstrapDifference(
        auc_a,
        auc_b,
        summary.estimate,
        summary.low,
        summary.high,
        summary.standard_error,
        two_sided_bootstrap_p(resampled),
        resampled.size,
        summary.n_undefined,
        "bootstrap over patients, drawn once for both test sets",
    )
