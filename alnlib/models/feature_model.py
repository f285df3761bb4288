"""Features that were measured elsewhere as one model, alone or beside clinical variables: a single estimator to fit and repeat.

The steps are those of the studies on radiomics (`alnlib.radiomics.select`, `alnlib.models.learners`, `clinical`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.validation import check_is_fitted

from alnlib.cohorts.schema import ClinicalVariable
from alnlib.models.clinical import clinical_pipeline
from alnlib.models.learners import learner_table, signature, tune_learners
from alnlib.radiomics.select import selection_pipeline

KEPT = "logistic regression"
"""The learner that the studies kept."""

SIGNATURE = ClinicalVariable("Radiomics signature", "continuous", "SD")


class FeatureModel(ClassifierMixin, BaseEstimator):
    """Selected features in a ridge logistic regression, whose strength inner folds choose; with `clinical`, a joint model.

    columns: the features in X; clinical: {column of X: variable} that stand beside the signature of the features, which is the
    logit of their model out of fold, less that of the prevalence fitted to, in its standard deviations; a variable enters by
    its univariable p, the signature always, unless its coefficient would be negative. None: the model of the features alone.
    n_imputations: of clinical variables, as `clinical.clinical_pipeline`. n_folds: inner folds, at most the patients of the
    rarer class; n_candidates: strengths drawn.

    Fitted: `tuned_` (`learners.TunedLearners`), `joint_` (`clinical.clinical_pipeline`, or None), `classes_`.
    """

    def __init__(
        self,
        columns: Sequence[str],
        clinical: Mapping[str, ClinicalVariable] | None = None,
        p_enter: float = 0.05,
        n_imputations: int = 1,
        n_folds: int = 5,
        n_candidates: int = 10,
        seed: int = 0,
    ) -> None:
        self.columns = columns
        self.clinical = clinical
        self.p_enter = p_enter
        self.n_imputations = n_imputations
        self.n_folds = n_folds
        self.n_candidates = n_candidates
        self.seed = seed

    def fit(self, X: pd.DataFrame, y: np.ndarray) -> FeatureModel:
        """X: (n, ...) with a row per patient_id; y: (n,) 0/1. Raises InputError for too few patients."""
        labels = np.asarray(y).astype(int)
        self.classes_ = np.array([0, 1])
        n_folds = int(min(self.n_folds, *np.bincount(labels, minlength=2)))
        self.tuned_ = tune_learners(
            {KEPT: learner_table(self.seed)[KEPT]},
            self._features(X),
            labels,
            np.random.default_rng(self.seed),
            preparation=selection_pipeline(self.seed),
            n_folds=n_folds,
            n_candidates=self.n_candidates,
        )
        self.joint_ = None
        if self.clinical is not None:
            unseen = self.tuned_.out_of_fold
            fold = unseen["fold"].to_numpy()
            prevalence = np.array([labels[fold != own].mean() for own in fold])
            entering = {**self.clinical, "signature": SIGNATURE}
            drawn = {"n_imputations": self.n_imputations, "seed": self.seed}
            joint = clinical_pipeline(entering, self.p_enter, [SIGNATURE.label], **drawn)
            logits = signature(unseen["y_score"].to_numpy(), prevalence)
            self.prevalence_, self.spread_ = labels.mean(), np.std(logits, ddof=1) or 1.0
            self.joint_ = joint.fit(X.assign(signature=logits / self.spread_), labels)
        return self

    def predict_proba(self, X: pd.DataFrame) -> np.ndarray:
        """Probabilities (n, 2) of classes 0 and 1."""
        check_is_fitted(self, "tuned_")
        positive = self.tuned_.scores(self._features(X))[KEPT].to_numpy()
        if self.joint_ is not None:
            return self.joint_.predict_proba(X.assign(signature=signature(positive, self.prevalence_) / self.spread_))
        return np.column_stack([1 - positive, positive])

    def predict(self, X: pd.DataFrame) -> np.ndarray:
        """Classes (n,) at probability 0.5."""
        return self.classes_[(self.predict_proba(X)[:, 1] > 0.5).astype(int)]

    def _features(self, X: pd.DataFrame) -> pd.DataFrame:
        return X[list(self.columns)].set_axis(X["patient_id"].astype(str).to_numpy())
