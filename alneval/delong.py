"""AUC with DeLong's variance, of units or, where a patient has several, of patients (Obuchowski): one road for both.

Resampled intervals live in `estimate`, the curves themselves in `curves`.
"""

from __future__ import annotations

from math import inf, isnan, log, nan, sqrt

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats
from scipy.optimize import brentq
from scipy.special import expit, gammaln, logit

from alneval.estimate import Estimate
from alneval.units import Units

STUDENT, NORMAL = "Student's t", "normal"
"""Distributions that a statistic is referred to, as a method names them."""


def auc(y_true: ArrayLike, score: ArrayLike) -> float:
    """Area under the empirical ROC curve: the chance that a positive outranks a negative, ties counting one half.

    y_true: (n,) 0/1; score: (n,), any monotone scale, higher for positive. No direction is guessed: a value below 0.5
    stays below 0.5. Raises ValueError if a class is missing. O(n log n).
    """
    return float(placements(Units.of(y_true, score))[1][0])


def placements(units: Units) -> tuple[np.ndarray, np.ndarray]:
    """Placement values (n, m) and AUCs (m,): for a positive the share of negatives that it outranks, for a negative the
    share of positives that outrank it, ties one half. Each class averages to the AUC. Raises ValueError if a class is
    missing. DeLong et al. 1988, Biometrics 44:837, equations 6 and 7; by one sort."""
    units.require_both_classes()
    columns = [_placed(units.positive, score) for score in units.scores.T]
    return np.column_stack([placed for placed, _ in columns]), np.array([area for _, area in columns])


def covariance(units: Units) -> tuple[np.ndarray, np.ndarray]:
    """AUCs (m,) and their covariance (m, m); nan where fewer than two patients hold a class.

    Obuchowski 1997 (Biometrics 53:567), which is DeLong's (Sun & Xu 2014, IEEE Signal Process Lett 21:1389) where every
    patient has one unit: no patient then holds both classes, and the sums over patients are the placements themselves.
    """
    placed, areas = placements(units)
    return areas, _between(placed - areas, units)


def auc_interval(units: Units, *, confidence: float = 0.95, interval: str = "logit_t") -> Estimate:
    """AUC of the first score with DeLong's standard error and interval.

    interval "logit_t" is symmetric in log odds, never leaves (0, 1), and takes Student's quantile with one degree of
    freedom fewer than patients hold the smaller class; "logit" takes the normal quantile; "wald" is symmetric and clipped
    to [0, 1], as R `pROC::ci.auc`. With ten positives the first covers 95 %, "wald" as little as 84 %
    (benchmarks/coverage.csv). Perfect separation has zero variance: "wald" and "logit" shrink to the point 1 and say
    nothing about uncertainty, "logit_t" ends at the AUC under which as many patients separate with a chance of
    (1 - confidence) / 2, by the less favorable of Lehmann's alternatives (1953, Ann Math Stat 24:23). With one patient in
    a class the standard error and interval are nan. Raises ValueError if a class is missing.

    >>> from alneval import example
    >>> print(auc_interval(Units.of_rows(example().query("model == 'image'"))))
    0.935 (0.818 to 0.979)
    """
    if interval not in ("logit_t", "logit", "wald"):
        raise ValueError(f"interval must be 'logit_t', 'logit' or 'wald', not {interval!r}")
    areas, cov = covariance(units)
    area, error, tail = float(areas[0]), _root(cov[0, 0]), 0.5 + _level(confidence) / 2
    sizes = units.holders()
    quantile = stats.t.ppf(tail, min(sizes) - 1) if interval == "logit_t" else stats.norm.ppf(tail)
    if isnan(error):
        low = high = nan
    elif interval == "wald":
        low, high = np.clip([area - quantile * error, area + quantile * error], 0, 1)
    elif area in (0.0, 1.0):
        limit = _separated_limit(sizes, 1 - tail) if interval == "logit_t" else 1.0
        low, high = (0.0, 1 - limit) if area == 0 else (limit, 1.0)
    else:
        half = quantile * error / (area * (1 - area))
        low, high = expit(logit(area) - half), expit(logit(area) + half)
    counts = {"n": len(units), "n_positive": units.n_positive, "n_patients": units.n_patients}
    way = "Wald" if interval == "wald" else "log odds"
    method = f"{_name(units)}, {way}, {STUDENT if interval == 'logit_t' else NORMAL}"
    if interval == "logit_t" and area in (0.0, 1.0):
        method = "perfect separation, Lehmann's alternatives"
    return Estimate(area, float(low), float(high), error, **counts, method=method)


def auc_difference(units: Units, *, confidence: float = 0.95, reference: str = "t") -> Estimate:
    """AUC of the first score less that of the second on the same units: DeLong's paired test, by patient.

    reference "t" takes the patients of the smaller class less one as degrees of freedom, "normal" is R `pROC::roc.test`.
    Identical rankings give p = 1; a difference without variance (one score separates perfectly, the other is constant)
    an infinite statistic and p 0, as pROC does. Raises ValueError if a class is missing.

    >>> from alneval import example
    >>> rows = example()
    >>> print(auc_difference(Units.of_rows(rows.query("model == 'image'"), rows.query("model == 'clinical'"))))
    0.355 (0.177 to 0.534), p < 0.001
    """
    if reference not in ("t", "normal"):
        raise ValueError(f"reference must be 't' or 'normal', not {reference!r}")
    placed, (a, b) = placements(units)
    # exactly zero for scores that rank alike, which var_a + var_b - 2 cov is only up to rounding
    centered = ((placed[:, 0] - placed[:, 1]) - (a - b))[:, None]
    degrees = inf if reference == "normal" else max(min(units.holders()) - 1, 1)
    error = _root(_between(centered, units)[0, 0])
    value = float(a - b)
    method = f"{_name(units)}, paired, {NORMAL if reference == 'normal' else STUDENT}"
    kept = {"n": len(units), "n_positive": units.n_positive, "values": (float(a), float(b)), "method": method}
    if isnan(error):
        return Estimate(value, p=nan, statistic=nan, degrees_of_freedom=float(degrees), **kept)
    statistic = value / error if error > 0 else (0.0 if value == 0 else float(np.copysign(inf, value)))
    distribution = stats.norm if degrees == inf else stats.t(degrees)
    half = float(distribution.ppf(0.5 + _level(confidence) / 2)) * error
    p = float(2 * distribution.sf(abs(statistic)))
    return Estimate(value, value - half, value + half, error, p, statistic, float(degrees), **kept)


def _name(units: Units) -> str:
    return "DeLong, clustered by patient" if units.clustered else "DeLong"


def _level(confidence: float) -> float:
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must lie between 0 and 1, not {confidence}")
    return confidence


def _placed(positive: np.ndarray, score: np.ndarray) -> tuple[np.ndarray, float]:
    order = np.argsort(score)
    ordered, ordered_positive = score[order], positive[order]
    group = np.concatenate(([0], np.cumsum(ordered[1:] != ordered[:-1])))
    size = np.bincount(group)
    positives = np.bincount(group, weights=ordered_positive)
    negatives = size - positives
    n_positive, n_negative = positives.sum(), negatives.sum()
    outranked = np.cumsum(negatives) - negatives / 2
    outranking = n_positive - np.cumsum(positives) + positives / 2
    placed = np.empty(score.size)
    placed[order] = np.where(ordered_positive, (outranked / n_negative)[group], (outranking / n_positive)[group])
    return placed, float(positives @ outranked / (n_positive * n_negative))


def _between(centered: np.ndarray, units: Units) -> np.ndarray:
    """Covariance (m, m) between patients, from placements less AUC (n, m)."""
    n_patients, sums = units.n_patients, []
    result = np.zeros((centered.shape[1],) * 2)
    for members, holding in zip((units.positive, ~units.positive), units.holders(), strict=True):
        if holding < 2:
            return np.full_like(result, nan)
        columns = [np.bincount(units.patient[members], weights=c, minlength=n_patients) for c in centered[members].T]
        share = np.column_stack(columns) / np.count_nonzero(members)
        result += holding / (holding - 1) * (share.T @ share)
        sums.append(share)
    cross = n_patients / (n_patients - 1) * (sums[0].T @ sums[1])
    return result + cross + cross.T


def _root(variance: float) -> float:
    """Square root; nan for nan. Only rounding gives a negative variance, as k / (k - 1) >= n / (n - 1)."""
    return nan if isnan(variance) else sqrt(max(variance, 0.0))


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
