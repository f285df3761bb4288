"""Part of the ROC curve, one point of it, its band, and the precision-recall curve, with bootstrap intervals.

The whole curve lives in `roc`, cut-offs and what they give in `thresholds`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from math import nan

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats
from scipy.special import expit, logit

from alneval.bootstrap import (
    CHUNK_ELEMENTS,
    BootstrapInterval,
    percentile_limits,
    resample_weights,
    summarize_resamples,
)
from alneval.inputs import as_labels, as_scores

ROUNDING = 1e-9
"""Slack on "at least this share", so that a recall of 0.56 over 25 positives asks for 14, not 15."""


@dataclass(frozen=True)
class RocBand:
    """Sensitivity at given specificities, each (k,), with its pointwise interval."""

    specificity: np.ndarray
    sensitivity: np.ndarray
    low: np.ndarray
    high: np.ndarray


@dataclass(frozen=True)
class PrecisionRecallBand:
    """Precision at given recalls, each (k,), with its pointwise interval; a useless score gives `prevalence`."""

    recall: np.ndarray
    precision: np.ndarray
    low: np.ndarray
    high: np.ndarray
    prevalence: float


def partial_auc(
    y_true: ArrayLike,
    score: ArrayLike,
    *,
    specificity: tuple[float, float] | None = None,
    sensitivity: tuple[float, float] | None = None,
    corrected: bool = False,
) -> float:
    """Area under the part of the ROC curve in which specificity, or sensitivity, lies in a range.

    y_true: (n,) 0/1; score: (n,). Give one range (low, high) within [0, 1]: specificity integrates sensitivity over it,
    sensitivity integrates specificity. Raw values lie between 0 and high - low. corrected (McClish 1989, Med Decis
    Making 9:190): 0.5 is the diagonal and 1 perfect, whatever the range; a curve below the diagonal gives less than
    0.5 (pROC gives NA unless `allow.invalid.partial.auc.correct`). Points of the curve are joined by straight lines.
    R `pROC::auc(partial.auc = , partial.auc.focus = , partial.auc.correct = )`. Raises ValueError if a class is
    missing, or unless there is exactly one range.
    """
    positive = as_labels(y_true, both_classes=True)
    weights = np.ones((1, positive.size))
    return float(
        weighted_partial_auc(
            positive, score, weights, specificity=specificity, sensitivity=sensitivity, corrected=corrected
        )[0]
    )


def weighted_partial_auc(
    y_true: ArrayLike,
    score: ArrayLike,
    weights: ArrayLike,
    *,
    specificity: tuple[float, float] | None = None,
    sensitivity: tuple[float, float] | None = None,
    corrected: bool = False,
) -> np.ndarray:
    """Partial AUC (b,) of every row of weights (b, n), how often each unit counts; nan where a class has no weight.

    Other arguments as `partial_auc`.
    """
    low, high, along_sensitivity = _range(specificity, sensitivity)

    def area(of_positives: np.ndarray, of_negatives: np.ndarray) -> np.ndarray:
        true_rate, false_rate = _shares(of_positives), _shares(of_negatives)
        if along_sensitivity:
            return _area_between(true_rate, 1 - false_rate, low, high)
        return _area_between(false_rate, true_rate, 1 - high, 1 - low)

    raw = _over_rows(y_true, score, weights, area)
    if not corrected:
        return raw
    width = high - low
    of_diagonal = width * (2 - low - high) / 2
    return (1 + (raw - of_diagonal) / (width - of_diagonal)) / 2


def partial_auc_interval(
    y_true: ArrayLike,
    score: ArrayLike,
    *,
    specificity: tuple[float, float] | None = None,
    sensitivity: tuple[float, float] | None = None,
    corrected: bool = False,
    rng: np.random.Generator,
    n_bootstrap: int = 2000,
    stratified: bool = True,
    cluster: ArrayLike | None = None,
    confidence: float = 0.95,
) -> BootstrapInterval:
    """Percentile bootstrap interval of `partial_auc`, over units, or patients when cluster, (n,) ids, is given.

    stratified keeps the numbers of positives and negatives (of patients with and without a positive unit). R
    `pROC::ci.auc(method = "bootstrap")`, whose estimate is the same and whose limits differ by the random draws.
    """
    options = {"specificity": specificity, "sensitivity": sensitivity, "corrected": corrected}
    return _interval(
        lambda positive, values, weights: weighted_partial_auc(positive, values, weights, **options),
        y_true,
        score,
        rng=rng,
        n_bootstrap=n_bootstrap,
        stratified=stratified,
        cluster=cluster,
        confidence=confidence,
    )


def weighted_sensitivity_at_specificity(
    y_true: ArrayLike, score: ArrayLike, weights: ArrayLike, specificity: float
) -> np.ndarray:
    """Sensitivity (b,) at `specificity` in [0, 1] for every row of weights (b, n); nan where a class has no weight.

    Between two points of the ROC curve on the straight line that joins them; where several sensitivities share the
    specificity, the highest. R `pROC::coords(x = , input = "specificity", ret = "sensitivity")`.
    """
    if not 0 <= specificity <= 1:
        raise ValueError(f"specificity must lie in [0, 1], not {specificity}")
    wanted = 1 - specificity

    def height(of_positives: np.ndarray, of_negatives: np.ndarray) -> np.ndarray:
        true_rate, false_rate = _shares(of_positives), _shares(of_negatives)
        rows = np.arange(len(true_rate))
        left = (false_rate <= wanted + ROUNDING).sum(axis=1) - 1
        right = np.minimum(left + 1, true_rate.shape[1] - 1)
        run = false_rate[rows, right] - false_rate[rows, left]
        along = np.divide(wanted - false_rate[rows, left], run, out=np.zeros(run.shape), where=run > 0)
        rise = true_rate[rows, right] - true_rate[rows, left]
        return true_rate[rows, left] + np.clip(along, 0, 1) * rise

    return _over_rows(y_true, score, weights, height)


def sensitivity_at_specificity_interval(
    y_true: ArrayLike,
    score: ArrayLike,
    specificity: float,
    *,
    rng: np.random.Generator,
    n_bootstrap: int = 2000,
    stratified: bool = True,
    cluster: ArrayLike | None = None,
    confidence: float = 0.95,
) -> BootstrapInterval:
    """Sensitivity where the ROC curve has this specificity, with an interval that lets the cut-off vary.

    Every resample of units (of patients when cluster, (n,) ids, is given) places its own cut-off, so the interval is
    wider than the binomial one of `thresholds.sensitivity_at_specificity`, which takes the cut-off as given. The
    estimate is interpolated along the curve, see `weighted_sensitivity_at_specificity`; it describes the curve of these
    data, not a cut-off to use on others. R `pROC::ci.se`. Raises ValueError if a class is missing.
    """
    return _interval(
        lambda positive, values, weights: weighted_sensitivity_at_specificity(positive, values, weights, specificity),
        y_true,
        score,
        rng=rng,
        n_bootstrap=n_bootstrap,
        stratified=stratified,
        cluster=cluster,
        confidence=confidence,
    )


def roc_band(
    y_true: ArrayLike,
    score: ArrayLike,
    *,
    rng: np.random.Generator,
    specificity: ArrayLike | None = None,
    n_bootstrap: int = 2000,
    stratified: bool = True,
    cluster: ArrayLike | None = None,
    confidence: float = 0.95,
) -> RocBand:
    """Band about a ROC curve: sensitivity at given specificities (vertical averaging) over resampled units or patients.

    specificity: (k,) in [0, 1] (default 0, 0.01 ... 1); at each, what `weighted_sensitivity_at_specificity` gives, with
    pointwise percentile limits: 95 % of such bands hold the true curve at a given specificity, not along its whole
    length. Other arguments as `partial_auc_interval`. R `pROC::ci.se`. Raises ValueError if a class is missing.
    """
    positive = as_labels(y_true, both_classes=True)
    values = as_scores(score, positive.size)
    wanted = np.arange(101) / 100 if specificity is None else np.asarray(specificity, dtype=float)
    if wanted.ndim != 1 or wanted.size == 0 or not ((wanted >= 0) & (wanted <= 1)).all():
        raise ValueError("specificity must be a one-dimensional array of values in [0, 1]")
    strata = positive if stratified else None
    resampled = [
        _sensitivity_at(of_positives, of_negatives, wanted)
        for weights in resample_weights(positive.size, n_bootstrap, rng, strata=strata, cluster=cluster)
        for of_positives, of_negatives in _cumulative(positive, values, weights)
    ]
    low, high = percentile_limits(np.concatenate(resampled), confidence)
    here = _sensitivity_at(*next(_cumulative(positive, values, np.ones((1, positive.size)))), wanted)[0]
    return RocBand(wanted, here, low, high)


def precision_recall_curve(y_true: ArrayLike, score: ArrayLike) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Precision (ppv), recall (sensitivity) and threshold at every distinct score, from the highest score down.

    y_true: (n,) 0/1; score: (n,). Three arrays of equal length; a unit is called positive when its score is at least
    the threshold. There is no invented point at recall 0. Precision holds at the prevalence of these data only: cohorts
    with other shares of positives cannot be compared by it. Raises ValueError if a class is missing.
    """
    positive = as_labels(y_true, both_classes=True)
    values = as_scores(score, positive.size)
    of_positives, of_negatives = next(_cumulative(positive, values, np.ones((1, positive.size))))
    hits, alarms = of_positives[0, 1:], (of_positives + of_negatives)[0, 1:]
    return hits / alarms, hits / hits[-1], np.unique(values)[::-1]


def average_precision(y_true: ArrayLike, score: ArrayLike) -> float:
    """Average precision: precision at every distinct score, weighted by the recall gained there (a step function).

    y_true: (n,) 0/1; score: (n,). A useless score gives about the prevalence, not 0.5. No linear interpolation, which
    is too favorable (Davis & Goadrich 2006, ICML). sklearn `average_precision_score`. ValueError if a class is
    missing.
    """
    positive = as_labels(y_true, both_classes=True)
    return float(weighted_average_precision(positive, score, np.ones((1, positive.size)))[0])


def weighted_average_precision(y_true: ArrayLike, score: ArrayLike, weights: ArrayLike) -> np.ndarray:
    """Average precision (b,) of every row of weights (b, n), how often each unit counts; nan where a class has none."""

    def area(of_positives: np.ndarray, of_negatives: np.ndarray) -> np.ndarray:
        gained = np.diff(_shares(of_positives), axis=1)
        return (gained * _precision(of_positives, of_negatives)).sum(axis=1)

    return _over_rows(y_true, score, weights, area)


def average_precision_interval(
    y_true: ArrayLike,
    score: ArrayLike,
    *,
    rng: np.random.Generator,
    n_bootstrap: int = 2000,
    stratified: bool = True,
    cluster: ArrayLike | None = None,
    method: str = "logit",
    confidence: float = 0.95,
) -> BootstrapInterval:
    """Bootstrap interval of `average_precision`, over units, or patients when cluster, (n,) ids, is given.

    method "logit": normal on the log odds, with the standard error of the resamples; "percentile": their percentiles,
    which miss the truth too often when positives are few, because average precision is then too high on average, in
    these data and again in resamples of them. With 10 to 30 positives neither is wide enough (a 95 % interval "logit"
    covered 91 to 92 % in binormal simulation). Precision 1 everywhere gives the point 1. stratified holds the
    prevalence, on which average precision depends, at that of these data. Boyd et al. 2013, ECML PKDD, compare
    intervals. Raises ValueError if a class is missing.
    """
    if method not in ("logit", "percentile"):
        raise ValueError(f"method must be 'logit' or 'percentile', not {method!r}")
    summary = _interval(
        weighted_average_precision,
        y_true,
        score,
        rng=rng,
        n_bootstrap=n_bootstrap,
        stratified=stratified,
        cluster=cluster,
        confidence=confidence,
    )
    value = summary.estimate
    if method == "percentile":
        return summary
    if value >= 1:
        return replace(summary, low=1.0, high=1.0, method="logit")
    half = stats.norm.ppf(0.5 + confidence / 2) * summary.standard_error / (value * (1 - value))
    low, high = expit([logit(value) - half, logit(value) + half])
    return replace(summary, low=float(low), high=float(high), method="logit")


def precision_recall_band(
    y_true: ArrayLike,
    score: ArrayLike,
    *,
    rng: np.random.Generator,
    recall: ArrayLike | None = None,
    n_bootstrap: int = 2000,
    stratified: bool = True,
    cluster: ArrayLike | None = None,
    confidence: float = 0.95,
) -> PrecisionRecallBand:
    """Precision at given recalls with a pointwise percentile band over resampled units, or patients with `cluster`.

    recall: (k,) in (0, 1] (default 0.01, 0.02 ... 1); precision is read at the highest cut-off whose recall is at least
    that. Other arguments as `partial_auc_interval`.
    """
    positive = as_labels(y_true, both_classes=True)
    values = as_scores(score, positive.size)
    recalls = np.arange(1, 101) / 100 if recall is None else np.asarray(recall, dtype=float)
    if recalls.ndim != 1 or recalls.size == 0 or not ((recalls > 0) & (recalls <= 1)).all():
        raise ValueError("recall must be a one-dimensional array of values in (0, 1]")
    strata = positive if stratified else None
    resampled = [
        _precision_at(of_positives, of_negatives, recalls)
        for weights in resample_weights(positive.size, n_bootstrap, rng, strata=strata, cluster=cluster)
        for of_positives, of_negatives in _cumulative(positive, values, weights)
    ]
    low, high = percentile_limits(np.concatenate(resampled), confidence)
    here = _precision_at(*next(_cumulative(positive, values, np.ones((1, positive.size)))), recalls)[0]
    return PrecisionRecallBand(recalls, here, low, high, float(positive.mean()))


def _range(
    specificity: tuple[float, float] | None, sensitivity: tuple[float, float] | None
) -> tuple[float, float, bool]:
    """Lower and upper end, and whether they are sensitivities."""
    if (specificity is None) == (sensitivity is None):
        raise ValueError("give one range: specificity=(low, high) or sensitivity=(low, high)")
    low, high = sorted(specificity if sensitivity is None else sensitivity)
    if not 0 <= low < high <= 1:
        raise ValueError(f"the range must be two different values in [0, 1], not ({low}, {high})")
    return float(low), float(high), sensitivity is not None


def _interval(
    statistic: Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray],
    y_true: ArrayLike,
    score: ArrayLike,
    *,
    rng: np.random.Generator,
    n_bootstrap: int,
    stratified: bool,
    cluster: ArrayLike | None,
    confidence: float,
) -> BootstrapInterval:
    positive = as_labels(y_true, both_classes=True)
    values = as_scores(score, positive.size)
    estimate = float(statistic(positive, values, np.ones((1, positive.size)))[0])
    strata = positive if stratified else None
    chunks = resample_weights(positive.size, n_bootstrap, rng, strata=strata, cluster=cluster)
    resampled = np.concatenate([statistic(positive, values, weights) for weights in chunks])
    return summarize_resamples(estimate, resampled, confidence=confidence)


def _over_rows(
    y_true: ArrayLike,
    score: ArrayLike,
    weights: ArrayLike,
    statistic: Callable[[np.ndarray, np.ndarray], np.ndarray],
) -> np.ndarray:
    """A statistic of cumulative counts for each row of weights, nan where a class has no weight."""
    positive = as_labels(y_true, both_classes=True)
    values = as_scores(score, positive.size)
    weights = np.atleast_2d(np.asarray(weights, dtype=float))
    if weights.shape[1] != positive.size:
        raise ValueError(f"weights must be (b, {positive.size}), not {weights.shape}")
    parts = []
    for of_positives, of_negatives in _cumulative(positive, values, weights):
        both = (of_positives[:, -1] > 0) & (of_negatives[:, -1] > 0)
        part = np.full(len(both), nan)
        part[both] = statistic(of_positives[both], of_negatives[both])
        parts.append(part)
    return np.concatenate(parts)


def _cumulative(
    positive: np.ndarray, score: np.ndarray, weights: np.ndarray
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Weight of positives and of negatives at or above each distinct score, highest first: chunks (b, g + 1) from 0."""
    order = np.argsort(-score, kind="stable")
    ordered = score[order]
    starts = np.flatnonzero(np.concatenate(([True], ordered[1:] != ordered[:-1])))
    rows = max(1, CHUNK_ELEMENTS // score.size)
    for start in range(0, len(weights), rows):
        here = weights[start : start + rows][:, order]
        of_positives = np.add.reduceat(here * positive[order], starts, axis=1)
        of_negatives = np.add.reduceat(here, starts, axis=1) - of_positives
        nothing = np.zeros((len(here), 1))
        yield (
            np.hstack([nothing, np.cumsum(of_positives, axis=1)]),
            np.hstack([nothing, np.cumsum(of_negatives, axis=1)]),
        )


def _shares(cumulative: np.ndarray) -> np.ndarray:
    return cumulative / cumulative[:, -1:]


def _precision(of_positives: np.ndarray, of_negatives: np.ndarray) -> np.ndarray:
    """Precision at each distinct score (b, g); 0 above the first unit that has weight."""
    hits, alarms = of_positives[:, 1:], (of_positives + of_negatives)[:, 1:]
    return np.divide(hits, alarms, out=np.zeros(hits.shape), where=alarms > 0)


def _sensitivity_at(of_positives: np.ndarray, of_negatives: np.ndarray, specificities: np.ndarray) -> np.ndarray:
    """Sensitivity (b, k) on the straight lines of the curve, the highest where several share a specificity; nan where a
    class has no weight."""
    values = np.full((len(of_positives), specificities.size), nan)
    both = np.flatnonzero((of_positives[:, -1] > 0) & (of_negatives[:, -1] > 0))
    true_rates, false_rates = _shares(of_positives[both]), _shares(of_negatives[both])
    wanted = np.minimum(1 - specificities + ROUNDING, 1)
    for row, true_rate, false_rate in zip(both, true_rates, false_rates, strict=True):
        values[row] = np.interp(
            wanted, false_rate, true_rate
        )  # of points above each other it takes the last, the highest
    return values


def _precision_at(of_positives: np.ndarray, of_negatives: np.ndarray, recalls: np.ndarray) -> np.ndarray:
    """Precision (b, k) at the highest cut-off whose recall is at least each of `recalls`; nan without positives."""
    total = of_positives[:, -1:]
    precision = _precision(of_positives, of_negatives)
    reached = np.stack(
        [(of_positives[:, 1:] < wanted * total - ROUNDING).sum(axis=1) for wanted in recalls], axis=1
    )  # of the sorted cut-offs, how many fall short
    values = np.take_along_axis(precision, np.minimum(reached, precision.shape[1] - 1), axis=1)
    return np.where(total > 0, values, nan)


def _area_between(x: np.ndarray, y: np.ndarray, low: float, high: float) -> np.ndarray:
    """Area (b,) under straight lines through (x, y), each (b, g) with x increasing, for x from low to high."""
    left, right = np.clip(x[:, :-1], low, high), np.clip(x[:, 1:], low, high)
    run = np.diff(x, axis=1)
    steepness = np.divide(np.diff(y, axis=1), run, out=np.zeros(run.shape), where=run > 0)
    middle = y[:, :-1] + steepness * ((left + right) / 2 - x[:, :-1])
    return ((right - left) * middle).sum(axis=1)
