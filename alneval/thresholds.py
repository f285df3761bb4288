"""Cut-offs: how one is chosen on validation data, and what it gives on other data.

A unit is called positive when its score is at least the threshold. The curve itself lives in `curves`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import nan

import numpy as np

from alneval.estimate import Estimate, percentile_limits, resamples
from alneval.intervals import wilson_interval
from alneval.units import Units

ROUNDING = 1e-9
"""Slack on "at least this many", so that a wanted specificity of 0.56 over 25 negatives asks for 14, not 15."""

QUANTITIES = ("sensitivity", "specificity", "ppv", "npv", "accuracy")


@dataclass(frozen=True)
class OperatingPoint:
    """What a threshold gives, with intervals; ppv and npv hold at the prevalence of these data."""

    threshold: float
    n: int
    n_positive: int
    true_positives: int
    false_positives: int
    true_negatives: int
    false_negatives: int
    sensitivity: Estimate
    specificity: Estimate
    ppv: Estimate
    npv: Estimate
    accuracy: Estimate

    def __str__(self) -> str:
        return f"sensitivity {self.sensitivity}; specificity {self.specificity}; at threshold {self.threshold:.4g}"


def youden_threshold(units: Units) -> float:
    """The threshold with the largest sensitivity + specificity - 1; among equals the one with the highest sensitivity.

    Thresholds lie halfway between neighboring scores, as in R `pROC::coords(x = "best")`, so that rounding scores in a
    file does not move a unit across; the one that calls every unit positive is the lowest score. Always finite. Youden
    1950, Cancer 3:32. Raises ValueError if a class is missing.
    """
    thresholds, true_positives, false_positives, n_positive, n_negative = _cut_points(units)
    index = true_positives * n_negative - false_positives * n_positive  # whole numbers: ties are exact
    return float(thresholds[np.flatnonzero(index == index.max())[0]])


def threshold_at_specificity(units: Units, specificity: float) -> float:
    """The lowest threshold (best sensitivity) whose specificity is at least `specificity` in [0, 1].

    Halfway between scores; just above the highest score if only that reaches it. ValueError if a class is missing.
    """
    if not 0 <= specificity <= 1:
        raise ValueError(f"specificity must lie in [0, 1], not {specificity}")
    thresholds, _, false_positives, _, n_negative = _cut_points(units)
    enough = n_negative - false_positives >= specificity * n_negative - ROUNDING
    return float(thresholds[np.flatnonzero(enough)[0]])


def threshold_at_sensitivity(units: Units, sensitivity: float) -> float:
    """The highest threshold (best specificity) whose sensitivity is at least `sensitivity` in [0, 1].

    Halfway between scores; the lowest score if only all called positive reach it. ValueError if a class is missing.
    """
    if not 0 <= sensitivity <= 1:
        raise ValueError(f"sensitivity must lie in [0, 1], not {sensitivity}")
    thresholds, true_positives, _, n_positive, _ = _cut_points(units)
    return float(thresholds[np.flatnonzero(true_positives >= sensitivity * n_positive - ROUNDING)[-1]])


def operating_point(
    units: Units,
    threshold: float,
    *,
    rng: np.random.Generator | None = None,
    n_bootstrap: int = 2000,
    confidence: float = 0.95,
) -> OperatingPoint:
    """Sensitivity, specificity, predictive values and accuracy of "score >= threshold", with intervals.

    Wilson's where every unit is its own patient. Else percentile intervals over resampled patients, which need `rng`;
    where every unit agrees (0 % or 100 %) resampling says nothing, and Wilson's interval with the number of patients as n
    is given instead. A class may be missing: its proportions are then nan. Raises ValueError for a threshold that is not
    finite, or several units of a patient without rng.
    """
    return operating_points(units, [threshold], rng=rng, n_bootstrap=n_bootstrap, confidence=confidence)[0]


def operating_points(
    units: Units,
    thresholds: Sequence[float],
    *,
    rng: np.random.Generator | None = None,
    n_bootstrap: int = 2000,
    confidence: float = 0.95,
) -> list[OperatingPoint]:
    """`operating_point` at several thresholds, all on the same resamples: each as if it had been asked for alone."""
    if not np.isfinite(thresholds).all():
        raise ValueError(f"threshold must be finite, not {list(thresholds)}")
    if units.clustered and rng is None:
        raise ValueError("intervals over patients are resampled: pass rng")
    marks = [_marks(units, threshold) for threshold in thresholds]
    shares = []
    for hits, bases in marks:
        sizes = zip((hits & bases).sum(axis=0), bases.sum(axis=0), strict=True)
        shares += [wilson_interval(count, size, confidence) for count, size in sizes]
    if units.clustered:
        tops, bottoms = (np.hstack([each[side] for each in marks]) for side in (0, 1))
        shares = _over_patients(units, shares, tops & bottoms, bottoms, rng, n_bootstrap, confidence)
    points = []
    for number, threshold in enumerate(thresholds):
        called, positive = units.score >= threshold, units.positive
        true_positives, false_positives = int((called & positive).sum()), int((called & ~positive).sum())
        rest = len(units) - units.n_positive - false_positives, units.n_positive - true_positives
        counts = len(units), units.n_positive, true_positives, false_positives, *rest
        own = shares[number * len(QUANTITIES) : (number + 1) * len(QUANTITIES)]
        points.append(OperatingPoint(float(threshold), *counts, *own))
    return points


def _marks(units: Units, threshold: float) -> tuple[np.ndarray, np.ndarray]:
    """Which units count as hits, and which belong to the base, (n, 5) each, of QUANTITIES."""
    positive, called = units.positive, units.score >= threshold
    hits = np.column_stack([called, ~called, positive, ~positive, positive == called])
    return hits, np.column_stack([positive, ~positive, called, ~called, np.ones_like(positive)])


def _cut_points(units: Units) -> tuple[np.ndarray, np.ndarray, np.ndarray, int, int]:
    """Every way to cut, from "all positive" to "none": thresholds, true and false positives, class sizes."""
    values, group = np.unique(units.require_both_classes().score, return_inverse=True)
    positives = np.bincount(group, weights=units.positive).astype(np.int64)
    negatives = np.bincount(group) - positives
    true_positives = positives.sum() - np.concatenate(([0], np.cumsum(positives)))
    false_positives = negatives.sum() - np.concatenate(([0], np.cumsum(negatives)))
    halfway = values[:-1] + (values[1:] - values[:-1]) / 2
    halfway = np.where(halfway > values[:-1], halfway, values[1:])  # neighbors one float apart
    above_all = values[-1] + max(1e-6, 1e-6 * abs(values[-1]))  # survives being written with eight digits
    thresholds = np.concatenate((values[:1], halfway, [above_all]))
    return thresholds, true_positives, false_positives, units.n_positive, len(units) - units.n_positive


def _over_patients(
    units: Units,
    shares: list[Estimate],
    tops: np.ndarray,
    bottoms: np.ndarray,
    rng: np.random.Generator,
    n_bootstrap: int,
    confidence: float,
) -> list[Estimate]:
    """The shares with intervals over resampled patients. tops, bottoms: (n, k) bool, members of numerator, denominator."""
    drawn = []
    for weights in resamples(units, n_bootstrap, rng, stratified=False):
        top, bottom = weights @ tops.astype(float), weights @ bottoms.astype(float)
        drawn.append(np.divide(top, bottom, out=np.full(top.shape, nan), where=bottom > 0))
    low, high = percentile_limits(np.concatenate(drawn), confidence)
    found = []
    for column, share in enumerate(shares):
        if share.n and share.n_positive in (0, share.n):
            patients = np.unique(units.patient[bottoms[:, column]]).size
            agreed = wilson_interval(patients if share.n_positive else 0, patients, confidence)
            found.append(replace(share, low=agreed.low, high=agreed.high))
        else:
            found.append(replace(share, low=float(low[column]), high=float(high[column])))
    return found
