"""ROC curve and AUC with DeLong variance: one model, two models, two cohorts, several units per patient.

Resampled intervals live in `bootstrap`, cut-offs in `thresholds`.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf, isnan, log, nan, sqrt

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats
from scipy.optimize import brentq
from scipy.special import expit, gammaln, logit
from sklearn import metrics

from alneval.inputs import as_cluster_codes, as_confidence, as_labels, as_scores
from alneval.intervals import format_interval, format_p


@dataclass(frozen=True)
class AucEstimate:
    """An AUC with its interval. n counts units (patients; nodes when clustered); n_clusters is None unclustered."""

    auc: float
    low: float
    high: float
    standard_error: float
    n: int
    n_positive: int
    n_clusters: int | None = None

    def __str__(self) -> str:
        return format_interval(self.auc, self.low, self.high)


@dataclass(frozen=True)
class DelongResult:
    """Comparison of two AUCs; delta = auc_a - auc_b. statistic is t with `degrees_of_freedom`, z where they are inf."""

    auc_a: float
    auc_b: float
    delta: float
    low: float
    high: float
    standard_error: float
    statistic: float
    p: float
    method: str
    degrees_of_freedom: float = inf

    def __str__(self) -> str:
        return f"difference {format_interval(self.delta, self.low, self.high)}, {format_p(self.p)}"


def roc_curve(y_true: ArrayLike, score: ArrayLike) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """False positive rate, true positive rate and threshold of every point of the empirical ROC curve.

    y_true: (n,) 0/1; score: (n,). Three arrays of equal length, from (0, 0) at threshold infinity to (1, 1); a unit is
    called positive when its score is at least the threshold. Raises ValueError if a class is missing.
    """
    positive = as_labels(y_true, both_classes=True)
    return metrics.roc_curve(positive, as_scores(score, positive.size), drop_intermediate=False)


def auc(y_true: ArrayLike, score: ArrayLike) -> float:
    """Area under the empirical ROC curve: the chance that a positive outranks a negative, ties counting one half.

    y_true: (n,) 0/1; score: (n,), any monotone scale, higher for positive. No direction is guessed: a value below 0.5
    stays below 0.5. Raises ValueError if a class is missing. O(n log n).
    """
    positive = as_labels(y_true, both_classes=True)
    return _placements(positive, as_scores(score, positive.size))[1]


def placement_values(y_true: ArrayLike, score: ArrayLike) -> np.ndarray:
    """Placement value of every unit (n,): for a positive the share of negatives that it outranks, for a negative the
    share of positives that outrank it; ties count one half. Each class averages to the AUC.

    y_true: (n,) 0/1; score: (n,). Raises ValueError if a class is missing. DeLong et al. 1988, equations 6 and 7.
    """
    positive = as_labels(y_true, both_classes=True)
    return _placements(positive, as_scores(score, positive.size))[0]


def delong_covariance(y_true: ArrayLike, scores: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """AUCs of m scores measured on the same units, and their covariance matrix.

    y_true: (n,) 0/1; scores: (n, m) or (n,). Returns aucs (m,) and covariance (m, m), nan where a class has one unit
    only. Raises ValueError if a class is missing. DeLong et al. 1988, Biometrics 44:837, through midranks as in Sun &
    Xu 2014, IEEE Signal Process Lett 21:1389: O(m n log n).
    """
    positive = as_labels(y_true, both_classes=True)
    placements, aucs = _placement_columns(positive, scores)
    return aucs, _delong_covariance(placements - aucs, positive)


def clustered_delong_covariance(
    y_true: ArrayLike, scores: ArrayLike, cluster: ArrayLike
) -> tuple[np.ndarray, np.ndarray]:
    """AUCs of m scores and their covariance when units (nodes, images) come in clusters (patients).

    y_true: (n,) 0/1; scores: (n, m) or (n,); cluster: (n,) patient ids. A cluster may hold both classes. Returns aucs
    (m,) and covariance (m, m), nan where fewer than two clusters hold a class. Obuchowski 1997, Biometrics 53:567. With
    one unit per cluster it equals `delong_covariance` with factor 1.
    """
    positive = as_labels(y_true, both_classes=True)
    codes = as_cluster_codes(cluster, positive.size)
    placements, aucs = _placement_columns(positive, scores)
    return aucs, _obuchowski_covariance(placements - aucs, positive, codes)


def delong_auc(
    y_true: ArrayLike, score: ArrayLike, *, confidence: float = 0.95, interval: str = "logit_t"
) -> AucEstimate:
    """AUC with DeLong standard error and interval.

    y_true: (n,) 0/1; score: (n,) any monotone scale. interval "logit_t" is symmetric in log odds, never leaves (0, 1),
    and takes Student's quantile with one degree of freedom fewer than the smaller class has units; "logit" takes the
    normal quantile; "wald" is symmetric and clipped to [0, 1], as R `pROC::ci.auc`. With ten positives the first covers
    95 %, "wald" as little as 84 % (benchmarks/coverage.csv). Perfect separation has zero DeLong variance: "wald" and
    "logit" shrink to the point 1 and say nothing about uncertainty, "logit_t" ends at the AUC under which as many units
    separate with a chance of (1 - confidence) / 2, by the less favorable of Lehmann's alternatives (1953, Ann Math
    Stat 24:23). With one unit in a class the standard error and interval are nan. Raises ValueError if a class is
    missing.
    """
    positive = as_labels(y_true, both_classes=True)
    aucs, covariance = delong_covariance(positive, score)
    return _auc_estimate(aucs[0], covariance[0, 0], positive, None, confidence, interval)


def clustered_delong_auc(
    y_true: ArrayLike, score: ArrayLike, cluster: ArrayLike, *, confidence: float = 0.95, interval: str = "logit_t"
) -> AucEstimate:
    """AUC over units with a standard error that allows for units of one patient being alike (Obuchowski 1997).

    Arguments as `delong_auc`, where patients that hold a class take the place of its units; cluster: (n,) patient ids.
    Nan interval where fewer than two patients hold a class.
    """
    positive = as_labels(y_true, both_classes=True)
    codes = as_cluster_codes(cluster, positive.size)
    aucs, covariance = clustered_delong_covariance(positive, score, codes)
    return _auc_estimate(aucs[0], covariance[0, 0], positive, codes, confidence, interval)


def delong_test(
    y_true: ArrayLike, score_a: ArrayLike, score_b: ArrayLike, *, confidence: float = 0.95, reference: str = "t"
) -> DelongResult:
    """Compare two correlated AUCs measured on the same units.

    y_true: (n,) 0/1; score_a, score_b: (n,) any monotone scale. delta over its standard error is referred to Student's
    t with one degree of freedom fewer than the smaller class has units, for p and interval alike; reference "normal" is
    R `pROC::roc.test(method = "delong", paired = TRUE)`, whose 95 % interval covers 92 % with ten positives
    (benchmarks/coverage.csv). Scores that rank alike give delta 0, statistic 0, p 1. A difference without variance (one
    score separates perfectly, the other is constant) gives an infinite statistic and p 0, as pROC does. Raises
    ValueError if a class is missing. DeLong et al. 1988, Biometrics 44:837. O(n log n).
    """
    positive = as_labels(y_true, both_classes=True)
    return _paired_comparison(positive, score_a, score_b, None, confidence, reference)


def clustered_delong_test(
    y_true: ArrayLike,
    score_a: ArrayLike,
    score_b: ArrayLike,
    cluster: ArrayLike,
    *,
    confidence: float = 0.95,
    reference: str = "t",
) -> DelongResult:
    """Compare two correlated AUCs when a patient contributes several units (Obuchowski 1997).

    Arguments as `delong_test`, where patients that hold a class take the place of its units; cluster: (n,) patient ids.
    Equals `delong_test` with one unit per patient.
    """
    positive = as_labels(y_true, both_classes=True)
    codes = as_cluster_codes(cluster, positive.size)
    return _paired_comparison(positive, score_a, score_b, codes, confidence, reference)


def delong_test_unpaired(
    y_a: ArrayLike, score_a: ArrayLike, y_b: ArrayLike, score_b: ArrayLike, *, confidence: float = 0.95
) -> DelongResult:
    """Compare two AUCs measured on different patients.

    y_a, score_a: (n_a,); y_b, score_b: (n_b,). The statistic D = delta / sqrt(var_a + var_b) is referred to a t
    distribution with Welch-Satterthwaite degrees of freedom (var_a + var_b)^2 / (var_a^2 / (n_a - 1) + var_b^2 /
    (n_b - 1)), where n counts all units of a cohort: exactly R `pROC::roc.test(method = "delong", paired = FALSE)`.
    The interval of delta uses the same t quantile. Raises ValueError if a class is missing in either cohort.
    """
    confidence = as_confidence(confidence)
    auc_a, covariance_a = delong_covariance(y_a, score_a)
    auc_b, covariance_b = delong_covariance(y_b, score_b)
    variance_a, variance_b = covariance_a[0, 0], covariance_b[0, 0]
    total = variance_a + variance_b
    denominator = variance_a**2 / (len(np.asarray(y_a)) - 1) + variance_b**2 / (len(np.asarray(y_b)) - 1)
    degrees = total**2 / denominator if denominator > 0 else (nan if isnan(total) else inf)
    return _comparison(float(auc_a[0]), float(auc_b[0]), total, degrees, "DeLong, unpaired", confidence)


def _placements(positive: np.ndarray, score: np.ndarray) -> tuple[np.ndarray, float]:
    """Placement value of every unit, and the AUC, from one sort."""
    order = np.argsort(score)
    ordered_score, ordered_positive = score[order], positive[order]
    group = np.concatenate(([0], np.cumsum(ordered_score[1:] != ordered_score[:-1])))
    size = np.bincount(group)
    positives = np.bincount(group, weights=ordered_positive)
    negatives = size - positives
    n_positive, n_negative = positives.sum(), negatives.sum()
    outranked = np.cumsum(negatives) - negatives / 2
    outranking = n_positive - np.cumsum(positives) + positives / 2
    placements = np.empty(score.size)
    placements[order] = np.where(ordered_positive, (outranked / n_negative)[group], (outranking / n_positive)[group])
    return placements, float(positives @ outranked / (n_positive * n_negative))


def _placement_columns(positive: np.ndarray, scores: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    columns = np.asarray(scores, dtype=float)
    columns = columns[:, None] if columns.ndim == 1 else columns
    if columns.ndim != 2:
        raise ValueError(f"scores must be (n,) or (n, m), not shape {columns.shape}")
    results = [_placements(positive, as_scores(column, positive.size, "scores")) for column in columns.T]
    return np.column_stack([placements for placements, _ in results]), np.array([area for _, area in results])


def _delong_covariance(centered: np.ndarray, positive: np.ndarray) -> np.ndarray:
    """Covariance (m, m) from placements minus AUC (n, m)."""
    covariance = np.zeros((centered.shape[1],) * 2)
    for members in (positive, ~positive):
        count = np.count_nonzero(members)
        if count < 2:
            return np.full_like(covariance, nan)
        covariance += centered[members].T @ centered[members] / (count * (count - 1))
    return covariance


def _obuchowski_covariance(centered: np.ndarray, positive: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """Covariance (m, m) from placements minus AUC (n, m) and cluster codes (n,)."""
    n_clusters = int(codes.max()) + 1
    covariance = np.zeros((centered.shape[1],) * 2)
    sums = []
    for members in (positive, ~positive):
        count = np.count_nonzero(members)
        holding = np.unique(codes[members]).size
        if holding < 2:
            return np.full_like(covariance, nan)
        total = np.column_stack(
            [np.bincount(codes[members], weights=column[members], minlength=n_clusters) for column in centered.T]
        )
        covariance += holding / (holding - 1) * (total.T @ total) / count**2
        sums.append(total / count)
    cross = n_clusters / (n_clusters - 1) * (sums[0].T @ sums[1])
    return covariance + cross + cross.T


def _standard_error(variance: float) -> float:
    """Square root; nan for nan. Only rounding gives a negative variance, as I10 / (I10 - 1) >= I / (I - 1)."""
    return nan if isnan(variance) else sqrt(max(variance, 0.0))


def _class_sizes(positive: np.ndarray, codes: np.ndarray | None) -> tuple[int, int]:
    """Positives and negatives; patients that hold one when units come in clusters."""
    if codes is None:
        return np.count_nonzero(positive), np.count_nonzero(~positive)
    return np.unique(codes[positive]).size, np.unique(codes[~positive]).size


def _separated_limit(sizes: tuple[int, int], tail: float) -> float:
    """Smallest AUC at which classes of these sizes separate perfectly with probability `tail`.

    If the distribution function of one class (of b) is the other's (of a) to the power d, the AUC is d / (1 + d) and
    the probability of separation 1 / choose(b / d + a, a); the other way round a and b change places.
    """
    limits = []
    for a, b in (sizes, sizes[::-1]):
        ratio = brentq(lambda r, a=a: gammaln(r + a + 1) - gammaln(r + 1) - gammaln(a + 1) + log(tail), 0, 1 / tail)
        limits.append(b / (b + ratio))
    return min(limits)


def _auc_estimate(
    area: float, variance: float, positive: np.ndarray, codes: np.ndarray | None, confidence: float, interval: str
) -> AucEstimate:
    if interval not in ("logit_t", "logit", "wald"):
        raise ValueError(f"interval must be 'logit_t', 'logit' or 'wald', not {interval!r}")
    upper_tail = 0.5 + as_confidence(confidence) / 2
    standard_error = _standard_error(variance)
    sizes = _class_sizes(positive, codes)
    quantile = stats.t.ppf(upper_tail, min(sizes) - 1) if interval == "logit_t" else stats.norm.ppf(upper_tail)
    if isnan(standard_error):
        low = high = nan
    elif interval == "wald":
        low, high = np.clip([area - quantile * standard_error, area + quantile * standard_error], 0, 1)
    elif area in (0.0, 1.0):
        limit = _separated_limit(sizes, 1 - upper_tail) if interval == "logit_t" else 1.0
        low, high = (0.0, 1 - limit) if area == 0 else (limit, 1.0)
    else:
        half = quantile * standard_error / (area * (1 - area))
        low, high = expit(logit(area) - half), expit(logit(area) + half)
    return AucEstimate(
        float(area),
        float(low),
        float(high),
        standard_error,
        positive.size,
        int(positive.sum()),
        None if codes is None else int(codes.max()) + 1,
    )


def _paired_comparison(
    positive: np.ndarray,
    score_a: ArrayLike,
    score_b: ArrayLike,
    codes: np.ndarray | None,
    confidence: float,
    reference: str,
) -> DelongResult:
    if reference not in ("t", "normal"):
        raise ValueError(f"reference must be 't' or 'normal', not {reference!r}")
    confidence = as_confidence(confidence)
    placements_a, auc_a = _placements(positive, as_scores(score_a, positive.size, "score_a"))
    placements_b, auc_b = _placements(positive, as_scores(score_b, positive.size, "score_b"))
    # exactly zero for scores that rank alike, which var_a + var_b - 2 cov is only up to rounding
    centered = ((placements_a - placements_b) - (auc_a - auc_b))[:, None]
    if codes is None:
        variance, method = _delong_covariance(centered, positive)[0, 0], "DeLong"
    else:
        variance, method = _obuchowski_covariance(centered, positive, codes)[0, 0], "DeLong, clustered by patient"
    degrees = inf if reference == "normal" else max(min(_class_sizes(positive, codes)) - 1, 1)
    return _comparison(auc_a, auc_b, variance, degrees, method, confidence)


def _comparison(
    auc_a: float, auc_b: float, variance: float, degrees: float, method: str, confidence: float
) -> DelongResult:
    delta = auc_a - auc_b
    standard_error = _standard_error(variance)
    if isnan(standard_error):
        return DelongResult(auc_a, auc_b, delta, nan, nan, nan, nan, nan, method, degrees)
    without_variance = 0.0 if delta == 0 else float(np.copysign(inf, delta))
    statistic = delta / standard_error if standard_error > 0 else without_variance
    reference = stats.norm if degrees == inf else stats.t(degrees)
    half = float(reference.ppf(0.5 + confidence / 2)) * standard_error
    p = float(2 * reference.sf(abs(statistic)))
    return DelongResult(
        auc_a, auc_b, delta, delta - half, delta + half, standard_error, statistic, p, method, float(degrees)
    )
