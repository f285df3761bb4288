"""Cut-offs: how one is chosen on validation data, and what it gives on other data.

A unit is called positive when its score is at least the threshold. The curve itself lives in `roc`.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import nan

import numpy as np
from numpy.typing import ArrayLike

from alneval.bootstrap import percentile_limits, resample_weights
from alneval.inputs import as_cluster_codes, as_confidence, as_labels, as_scores
from alneval.intervals import Proportion, wilson_interval

ROUNDING = 1e-9
"""Slack on "at least this many", so that a wanted sensitivity of 0.56 over 25 positives asks for 14, not 15."""


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
    sensitivity: Proportion
    specificity: Proportion
    ppv: Proportion
    npv: Proportion
    accuracy: Proportion

    def __str__(self) -> str:
        return f"sensitivity {self.sensitivity}; specificity {self.specificity}; at threshold {self.threshold:.4g}"


def youden_threshold(y_true: ArrayLike, score: ArrayLike) -> float:
    """The threshold with the largest sensitivity + specificity - 1; among equals the one with the highest sensitivity.

    y_true: (n,) 0/1; score: (n,). Thresholds lie halfway between neighboring scores, as in R `pROC::coords(x =
    "best")`, so that rounding scores in a file does not move a unit across; the one that calls every unit positive is
    the lowest score. Always finite. Youden 1950, Cancer 3:32. Raises ValueError if a class is missing.
    """
    thresholds, true_positives, false_positives, n_positive, n_negative = _cut_points(y_true, score)
    index = true_positives * n_negative - false_positives * n_positive  # whole numbers: ties are exact
    return float(thresholds[np.flatnonzero(index == index.max())[0]])


def threshold_at_sensitivity(y_true: ArrayLike, score: ArrayLike, sensitivity: float) -> float:
    """The highest threshold (best specificity) whose sensitivity is at least `sensitivity` in [0, 1].

    y_true: (n,) 0/1; score: (n,). Halfway between scores, see `youden_threshold`. ValueError if a class is missing.
    """
    wanted = _share(sensitivity, "sensitivity")
    thresholds, true_positives, _, n_positive, _ = _cut_points(y_true, score)
    return float(thresholds[np.flatnonzero(true_positives >= wanted * n_positive - ROUNDING)[-1]])


def threshold_at_specificity(y_true: ArrayLike, score: ArrayLike, specificity: float) -> float:
    """The lowest threshold (best sensitivity) whose specificity is at least `specificity` in [0, 1].

    y_true: (n,) 0/1; score: (n,). Halfway between scores; just above the highest score if only that reaches it.
    Raises ValueError if a class is missing.
    """
    wanted = _share(specificity, "specificity")
    thresholds, _, false_positives, _, n_negative = _cut_points(y_true, score)
    return float(thresholds[np.flatnonzero(n_negative - false_positives >= wanted * n_negative - ROUNDING)[0]])


def sensitivity_at_specificity(
    y_true: ArrayLike, score: ArrayLike, specificity: float, *, confidence: float = 0.95
) -> Proportion:
    """Sensitivity, with Wilson interval, where the ROC curve of these data first reaches `specificity`.

    The threshold is chosen on the data that it is judged on, and the interval takes it as given; for an honest value
    choose it on other data with `threshold_at_specificity`. Raises ValueError if a class is missing.
    """
    threshold = threshold_at_specificity(y_true, score, specificity)
    return operating_point(y_true, score, threshold, confidence=confidence).sensitivity


def operating_point(
    y_true: ArrayLike,
    score: ArrayLike,
    threshold: float,
    *,
    cluster: ArrayLike | None = None,
    rng: np.random.Generator | None = None,
    n_bootstrap: int = 2000,
    confidence: float = 0.95,
) -> OperatingPoint:
    """Sensitivity, specificity, predictive values and accuracy of "score >= threshold", with intervals.

    y_true: (n,) 0/1; score: (n,). Without `cluster` the intervals are Wilson's. With cluster, (n,) patient ids, they
    are percentile intervals over resampled patients and need `rng`; where every unit agrees (0 % or 100 %) resampling
    says nothing, and Wilson's interval with the number of patients as n is given instead. A class may be missing: its
    proportions are then nan. Raises ValueError for a threshold that is not finite, or a cluster without rng.
    """
    positive = as_labels(y_true)
    score = as_scores(score, positive.size)
    if not np.isfinite(threshold):
        raise ValueError(f"threshold must be finite, not {threshold}")
    called = score >= threshold
    hits, bases = _hits_and_bases(positive, called)
    counts = [int((hit & base).sum()) for hit, base in zip(hits, bases, strict=True)]
    sizes = [int(base.sum()) for base in bases]
    if cluster is None:
        proportions = [wilson_interval(count, size, confidence) for count, size in zip(counts, sizes, strict=True)]
    else:
        if rng is None:
            raise ValueError("intervals over patients are resampled: pass rng")
        proportions = _clustered_proportions(hits, bases, cluster, rng, n_bootstrap, confidence)
    true_positives = int((called & positive).sum())
    false_positives = int((called & ~positive).sum())
    n_positive = int(positive.sum())
    return OperatingPoint(
        float(threshold),
        positive.size,
        n_positive,
        true_positives,
        false_positives,
        positive.size - n_positive - false_positives,
        n_positive - true_positives,
        *proportions,
    )


def _share(value: float, name: str) -> float:
    if not 0 <= value <= 1:
        raise ValueError(f"{name} must lie in [0, 1], not {value}")
    return float(value)


def _cut_points(y_true: ArrayLike, score: ArrayLike) -> tuple[np.ndarray, np.ndarray, np.ndarray, int, int]:
    """Every way to cut, from "all positive" to "none": thresholds, true and false positives, class sizes."""
    positive = as_labels(y_true, both_classes=True)
    score = as_scores(score, positive.size)
    values, group = np.unique(score, return_inverse=True)
    positives = np.bincount(group, weights=positive).astype(np.int64)
    negatives = np.bincount(group) - positives
    true_positives = positives.sum() - np.concatenate(([0], np.cumsum(positives)))
    false_positives = negatives.sum() - np.concatenate(([0], np.cumsum(negatives)))
    halfway = values[:-1] + (values[1:] - values[:-1]) / 2
    halfway = np.where(halfway > values[:-1], halfway, values[1:])  # neighbors one float apart
    above_all = values[-1] + max(1e-6, 1e-6 * abs(values[-1]))  # survives being written with eight digits
    thresholds = np.concatenate((values[:1], halfway, [above_all]))
    n_positive = int(positives.sum())
    return thresholds, true_positives, false_positives, n_positive, positive.size - n_positive


def _hits_and_bases(positive: np.ndarray, called: np.ndarray) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Numerator and denominator memberships of sensitivity, specificity, ppv, npv, accuracy, in that order."""
    everyone = np.ones_like(positive)
    return [called, ~called, positive, ~positive, positive == called], [positive, ~positive, called, ~called, everyone]


def _clustered_proportions(
    hits: list[np.ndarray],
    bases: list[np.ndarray],
    cluster: ArrayLike,
    rng: np.random.Generator,
    n_bootstrap: int,
    confidence: float,
) -> list[Proportion]:
    n = hits[0].size
    codes = as_cluster_codes(cluster, n)
    confidence = as_confidence(confidence)
    tops = np.column_stack([hit & base for hit, base in zip(hits, bases, strict=True)]).astype(float)
    bottoms = np.column_stack(bases).astype(float)
    shares = []
    for weights in resample_weights(n, n_bootstrap, rng, cluster=cluster):
        top, bottom = weights @ tops, weights @ bottoms
        shares.append(np.divide(top, bottom, out=np.full(top.shape, nan), where=bottom > 0))
    low, high = percentile_limits(np.concatenate(shares), confidence)
    proportions = []
    for index, base in enumerate(bases):
        count, size = int(tops[:, index].sum()), int(base.sum())
        if size and count in (0, size):
            patients = np.unique(codes[base]).size
            by_patient = wilson_interval(patients if count else 0, patients, confidence)
            proportions.append(Proportion(count, size, count / size, by_patient.low, by_patient.high))
        else:
            value = count / size if size else nan
            proportions.append(Proportion(count, size, value, float(low[index]), float(high[index])))
    return proportions
