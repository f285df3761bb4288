"""A model of features that were measured elsewhere. Truth: planted signal and its absence, and the steps done by hand."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone

from alneval.delong import auc
from alnlib.cohorts.schema import ClinicalVariable
from alnlib.errors import InputError
from alnlib.models.clinical import cross_validated_scores
from alnlib.models.feature_model import SIGNATURE, FeatureModel
from alnlib.models.learners import signature

NAMES = [f"MRI_pre_DCE__{k}" for k in range(30)]
CLINICAL = {"size": ClinicalVariable("Size", "continuous", "mm")}


def patients(n: int, rng: np.random.Generator) -> tuple[pd.DataFrame, np.ndarray]:
    """Two of thirty features carry signal, and the size carries other signal."""
    values, size = rng.normal(size=(n, len(NAMES))), rng.normal(size=n)
    y = (rng.random(n) < 1 / (1 + np.exp(-values[:, 0] + values[:, 1] - size))).astype(int)
    frame = pd.DataFrame(values, columns=NAMES).assign(size=20 + 5 * size, patient_id=[f"p{k}" for k in range(n)])
    frame.iloc[::7, 3] = np.nan
    return frame, y


def test_signal_is_found_and_the_joint_model_holds_both_sources():
    train, y = patients(300, np.random.default_rng(0))
    new, truth = patients(2000, np.random.default_rng(1))
    alone = FeatureModel(NAMES, n_candidates=4).fit(train, y)
    joint = FeatureModel(NAMES, CLINICAL, n_candidates=4).fit(train, y)
    assert auc(truth, alone.predict_proba(new)[:, 1]) > 0.72
    assert auc(truth, joint.predict_proba(new)[:, 1]) > auc(truth, alone.predict_proba(new)[:, 1]) + 0.03
    assert joint.joint_["model"].selected_variables_ == ("Size", SIGNATURE.label)


def test_the_joint_model_learns_from_signatures_of_patients_that_their_fit_never_saw():
    train, y = patients(120, np.random.default_rng(2))
    joint = FeatureModel(NAMES, CLINICAL, n_candidates=2).fit(train, y)
    unseen = joint.tuned_.out_of_fold
    fold = unseen["fold"].to_numpy()
    prevalence = np.array([y[fold != own].mean() for own in fold])
    logits = signature(unseen["y_score"].to_numpy(), prevalence)
    again = clone(joint.joint_).fit(train.assign(signature=logits / logits.std(ddof=1)), y)
    pd.testing.assert_frame_equal(again["model"].odds_ratios_, joint.joint_["model"].odds_ratios_)


def test_nothing_is_found_where_there_is_nothing():
    """Over ten labelings the mean out-of-fold AUC covers one half; a selection outside the fold would reach above 0.7."""
    rng, aucs = np.random.default_rng(3), []
    for _ in range(10):
        frame, _ = patients(100, rng)
        y = rng.permutation(np.repeat([0, 1], 50))
        scored = cross_validated_scores(FeatureModel(NAMES, CLINICAL, n_candidates=2), frame, y, rng, 5, 1)
        aucs.append(auc(y, scored["y_score"].to_numpy()))
    assert abs(np.mean(aucs) - 0.5) < 3 * np.std(aucs, ddof=1) / np.sqrt(10) + 0.01


def test_order_of_patients_and_of_columns_do_not_matter_to_a_prediction():
    train, y = patients(150, np.random.default_rng(4))
    new, _ = patients(40, np.random.default_rng(5))
    model = FeatureModel(NAMES, CLINICAL, n_candidates=2).fit(train, y)
    turned = new.iloc[::-1][list(reversed(new.columns))]
    np.testing.assert_array_equal(model.predict_proba(turned)[::-1], model.predict_proba(new))


def test_too_few_patients_are_refused():
    train, y = patients(30, np.random.default_rng(6))
    with pytest.raises(InputError, match="add patients"):
        FeatureModel(NAMES).fit(train, y)
