"""Recalibration of probabilities: fitted on validation patients, applied to others. Platt (logistic) and isotonic.

Whether probabilities need it is measured in `calibration`. A recalibration judged on the patients that it was fitted on
looks perfect whatever it does: fit on validation, apply to test and external patients, never on what it is judged on.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import expit, logit
from sklearn.base import BaseEstimator
from sklearn.isotonic import IsotonicRegression
from sklearn.utils.validation import check_is_fitted

from alneval.calibration import CLIP, calibration_intercept, joint_calibration
from alneval.inputs import as_labels, as_probabilities
from alnlib.errors import InputError


class PlattRecalibration(BaseEstimator):
    """Logistic recalibration: log odds of the new probability = intercept + slope x log odds of the old one.

    intercept_only: keep the slope at 1 and move the mean risk only (recalibration-in-the-large), the choice when
    validation patients are few or only the prevalence differs. clip: probabilities nearer to 0 or 1 are moved here
    before their log odds are taken. Ranks, and so the AUC, stay as they are unless the fitted slope is negative (scores
    that rank the validation patients the wrong way round: read `slope_`). Platt 1999, without its smoothed targets,
    on log odds as in Steyerberg 2004 (Stat Med 23:2567); R `glm(y ~ qlogis(p), family = binomial)`, intercept only
    `glm(y ~ offset(qlogis(p)), family = binomial)`.

    Fitted: intercept_, slope_, n_, n_positive_, n_clipped_ (probabilities that were moved off 0 or 1).
    """

    def __init__(self, *, intercept_only: bool = False, clip: float = CLIP) -> None:
        self.intercept_only = intercept_only
        self.clip = clip

    def fit(self, y_prob: ArrayLike, y_true: ArrayLike) -> PlattRecalibration:
        """Fit on validation patients, who must not be among those on whom the result is judged.

        y_prob: (n,) in [0, 1]; y_true: (n,) 0/1. Raises InputError where no finite fit exists: one class only, constant
        probabilities, classes that the probabilities separate; ValueError for values out of range.
        """
        positive = _validation_labels(y_true)
        probabilities = as_probabilities(y_prob, positive.size)
        large = calibration_intercept(positive, probabilities, clip=self.clip)
        if self.intercept_only:
            intercept, slope = large.value, 1.0
        else:
            intercept, slope = joint_calibration(positive, probabilities, clip=self.clip)
            if not np.isfinite(slope):
                raise InputError(
                    f"no finite recalibration slope exists for these {positive.size} validation patients: their "
                    "probabilities are constant or separate the classes; use intercept_only=True or more patients"
                )
        self.intercept_, self.slope_ = float(intercept), float(slope)
        self.n_, self.n_positive_ = positive.size, int(positive.sum())
        self.n_clipped_ = large.n_clipped
        return self

    def predict(self, y_prob: ArrayLike) -> np.ndarray:
        """Recalibrated probabilities (n,) of other patients, y_prob: (n,) in [0, 1]; strictly between 0 and 1."""
        check_is_fitted(self, "slope_")
        probabilities = _probabilities(y_prob)
        inside = np.clip(probabilities, self.clip, 1 - self.clip)
        return expit(self.intercept_ + self.slope_ * logit(inside))


class IsotonicRecalibration(BaseEstimator):
    """Isotonic recalibration: the non-decreasing steps nearest to the outcomes, joined by straight lines.

    It follows any monotone miscalibration but needs patients, hundreds with 100 events or so; with fewer, Platt. Steps
    make ties, so the AUC can change, and the ends are often exactly 0 and 1, where a log likelihood is infinite.
    Probabilities outside the range of the validation patients get the value at its end. Zadrozny & Elkan 2002, KDD;
    `sklearn.isotonic.IsotonicRegression`, with ties replaced by their mean; R `isoreg` when there are no ties.

    Fitted: thresholds_ and values_ (k,), the corners of the curve, n_, n_positive_.
    """

    def fit(self, y_prob: ArrayLike, y_true: ArrayLike) -> IsotonicRecalibration:
        """Fit on validation patients, who must not be among those on whom the result is judged.

        y_prob: (n,) in [0, 1]; y_true: (n,) 0/1. Constant probabilities give the prevalence everywhere. Raises
        InputError with one class only, ValueError for values out of range.
        """
        positive = _validation_labels(y_true)
        probabilities = as_probabilities(y_prob, positive.size)
        curve = IsotonicRegression(y_min=0.0, y_max=1.0, increasing=True, out_of_bounds="clip")
        curve.fit(probabilities, positive.astype(float))
        self.thresholds_, self.values_ = curve.X_thresholds_, curve.y_thresholds_
        self.n_, self.n_positive_ = positive.size, int(positive.sum())
        return self

    def predict(self, y_prob: ArrayLike) -> np.ndarray:
        """Recalibrated probabilities (n,) in [0, 1] of other patients, y_prob: (n,) in [0, 1]."""
        check_is_fitted(self, "values_")
        return np.interp(_probabilities(y_prob), self.thresholds_, self.values_)


def _validation_labels(y_true: ArrayLike) -> np.ndarray:
    positive = as_labels(y_true)
    if positive.all() or not positive.any():
        present = "positive" if positive.all() else "negative"
        raise InputError(
            f"recalibration needs both classes among the validation patients, but all {positive.size} are {present}; "
            "pool validation folds or leave the probabilities as they are"
        )
    return positive


def _probabilities(y_prob: ArrayLike) -> np.ndarray:
    values = np.asarray(y_prob, dtype=float)
    if values.ndim != 1:
        raise ValueError(f"y_prob must be one-dimensional, not shape {values.shape}")
    return as_probabilities(values, values.size)
