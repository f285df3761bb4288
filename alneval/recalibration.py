"""Recalibration of probabilities: fitted on validation patients, applied to others. Platt (logistic) and isotonic.

Whether probabilities need it is measured in `calibration`. A recalibration judged on the patients that it was fitted on
looks perfect whatever it does: fit on validation, apply to test and external patients, never on what it is judged on.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import expit
from sklearn.base import BaseEstimator
from sklearn.isotonic import IsotonicRegression
from sklearn.utils.validation import check_is_fitted

from alneval.calibration import joint_calibration, log_odds
from alneval.units import Units, as_probabilities
from alnlib.errors import InputError


class PlattRecalibration(BaseEstimator):
    """Logistic recalibration: log odds of the new probability = intercept + slope x log odds of the old one.

    Ranks, and so the AUC, stay as they are unless the fitted slope is negative (scores that rank the validation patients
    the wrong way round: read `slope_`). Platt 1999, without its smoothed targets, on log odds as in Steyerberg 2004 (Stat
    Med 23:2567); R `glm(y ~ qlogis(p), family = binomial)`. Fitted: intercept_, slope_.
    """

    def fit(self, y_prob: ArrayLike, y_true: ArrayLike) -> PlattRecalibration:
        """Fit on validation patients, who must not be among those on whom the result is judged.

        y_prob: (n,) in [0, 1]; y_true: (n,) 0/1. Raises InputError where no finite fit exists: one class only, constant
        probabilities, classes that the probabilities separate; ValueError for values out of range.
        """
        units = _validation_units(y_prob, y_true)
        intercept, slope = joint_calibration(units)
        if not np.isfinite(slope.value):
            raise InputError(
                f"no finite recalibration slope exists for these {len(units)} validation patients: their probabilities are "
                "constant or separate the classes; use more patients"
            )
        self.intercept_, self.slope_ = intercept.value, slope.value
        return self

    def predict(self, y_prob: ArrayLike) -> np.ndarray:
        """Recalibrated probabilities (n,) of other patients, y_prob: (n,) in [0, 1]; strictly between 0 and 1."""
        check_is_fitted(self, "slope_")
        return expit(self.intercept_ + self.slope_ * log_odds(as_probabilities(y_prob)))


class IsotonicRecalibration(BaseEstimator):
    """Isotonic recalibration: the non-decreasing steps nearest to the outcomes, joined by straight lines.

    It follows any monotone miscalibration but needs patients, hundreds with 100 events or so; with fewer, Platt. Steps
    make ties, so the AUC can change, and the ends are often exactly 0 and 1, where a log likelihood is infinite.
    Probabilities outside the range of the validation patients get the value at its end. Zadrozny & Elkan 2002, KDD;
    `sklearn.isotonic.IsotonicRegression`, with ties replaced by their mean; R `isoreg` when there are no ties.
    """

    def fit(self, y_prob: ArrayLike, y_true: ArrayLike) -> IsotonicRecalibration:
        """Fit on validation patients, who must not be among those on whom the result is judged.

        y_prob: (n,) in [0, 1]; y_true: (n,) 0/1. Constant probabilities give the prevalence everywhere. Raises
        InputError with one class only, ValueError for values out of range.
        """
        units = _validation_units(y_prob, y_true)
        self.curve_ = IsotonicRegression(y_min=0.0, y_max=1.0, increasing=True, out_of_bounds="clip")
        self.curve_.fit(units.probability, units.positive.astype(float))
        return self

    def predict(self, y_prob: ArrayLike) -> np.ndarray:
        """Recalibrated probabilities (n,) in [0, 1] of other patients, y_prob: (n,) in [0, 1]."""
        check_is_fitted(self, "curve_")
        return np.interp(as_probabilities(y_prob), self.curve_.X_thresholds_, self.curve_.y_thresholds_)


def _validation_units(y_prob: ArrayLike, y_true: ArrayLike) -> Units:
    units = Units.of(y_true, y_prob)
    if not units.has_both_classes:
        present = "positive" if units.positive.all() else "negative"
        raise InputError(
            f"recalibration needs both classes among the validation patients, but all {len(units)} are {present}; pool "
            "validation folds or leave the probabilities as they are"
        )
    return units
