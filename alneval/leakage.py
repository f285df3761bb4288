"""What a split by image claims when patients have several images: the split itself, how much it leaks, and what that gains.

Splits by patient, the only ones a result may rest on, live in `alneval.folds`; training in `alnlib.training`.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from alneval.curves import weighted_auc
from alneval.estimate import Estimate, once, resamples, summarize, two_sided_p
from alneval.folds import DEVELOPMENT_SPLITS
from alneval.intervals import wilson_interval
from alneval.units import Units


def image_level_splits(split: ArrayLike, y: ArrayLike, image_ids: ArrayLike, *, rng: np.random.Generator) -> np.ndarray:
    """A split drawn over images as if they were patients: (n,) train, validation or test, other splits as they were.

    split: (n,) the split of each image's patient; y: (n,) 0/1; image_ids: (n,) unique names. The images of train,
    validation and test are shuffled among these splits within their class, so that every split keeps its numbers of
    positive and negative images and nothing but who shares a patient with whom changes. For showing what leakage
    claims; nothing else may rest on it. The result depends on `rng` and the set of images, not on the order of rows.
    Raises ValueError for repeated images.
    """
    drawn, positive = np.asarray(split, dtype=object).copy(), Units.of(y).positive
    names = np.asarray(image_ids).astype(str)
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
    frame = pd.DataFrame(
        {"split": np.asarray(split, dtype=object), "patient_id": patient_ids, "y": Units.of(y).positive}
    )
    seen = frame[frame["split"] == learned]
    if seen.empty:
        raise ValueError(f"no image in split {learned!r}")
    return frame["patient_id"].map(seen.groupby("patient_id")["y"].mean()).fillna(seen["y"].mean()).to_numpy(float)


def auc_difference_of_test_sets(
    units: Units, in_first: np.ndarray, rng: np.random.Generator, *, n_bootstrap: int = 2000
) -> Estimate:
    """AUC on one test set minus AUC on another, for test sets of different images that may share patients, with p.

    units: those of both sets; in_first: (n,) bool. Patients of either set are drawn with replacement, each with all the
    images it has in both: where the sets share patients, their AUCs are drawn together; where they share none, this is
    the bootstrap of two cohorts apart. Patients with and without a positive image keep their numbers. Images are not
    paired, so case mix is part of the difference.
    """
    first, second = units.where(in_first), units.where(~in_first)

    a, b = float(once(weighted_auc, first)), float(once(weighted_auc, second))
    drawn = np.concatenate(
        [
            weighted_auc(first, weights[:, in_first]) - weighted_auc(second, weights[:, ~in_first])
            for weights in resamples(units, n_bootstrap, rng)
        ]
    )
    method = "bootstrap over patients, drawn once for both test sets"
    return replace(summarize(a - b, drawn), p=two_sided_p(drawn), values=(a, b), method=method)
