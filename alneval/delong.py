"""AUC with DeLong's variance, of units or, where a patient has several, of patients (Obuchowski): one road for both.

Resampled intervals live in `resample`.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf, isnan, log, nan, sqrt

import numpy as np
from scipy import stats
from scipy.optimize import brentq
from scipy.special import expit, gammaln, logit

from alneval.units import Units


@dataclass(frozen=True)
class Auc:
    """An AUC with its interval; n counts units, n_patients those they are of."""

    value: float
    low: float
    high: float
    standard_error: float
    n: int
    n_positive: int
    n_patients: int


@dataclass(frozen=True)
class AucDifference:
    """value = a - b. statistic is t with `degrees_of_freedom`, z where they are inf."""

    a: float
    b: float
    value: float
    low: float
    high: float
    standard_error: float
    statistic: float
    p: float
    degrees_of_freedom: float


def placements(units: Units) -> tuple[np.ndarray, np.ndarray]:
    """Placement values (n, m) and AUCs (m,): for a positive the share of negatives that it outranks, for a negative the
    share of positives that outrank it, ties one half. DeLong 1988 (Biometrics 44:837), O(n log n) by one sort."""
    columns = [_placed(units.positive, score) for score in units.scores.T]
    return np.column_stack([placed for placed, _ in columns]), np.array([area for _, area in columns])


def covariance(units: Units) -> tuple[np.ndarray, np.ndarray]:
    """AUCs (m,) and their covariance (m, m); nan where fewer than two patients hold a class.

    Obuchowski 1997 (Biometrics 53:567), which is DeLong's where every patient has one unit: no patient then holds both
    classes, and the sums over patients are the placements themselves.
    """
    placed, areas = placements(units)
    return areas, _between(placed - areas, units)


def auc_interval(units: Units, *, confidence: float = 0.95, interval: str = "logit_t") -> Auc:
    """AUC of the first score with its interval: "logit_t" (log odds, t with the patients of the smaller class less one),
    "logit", or "wald" as R `pROC::ci.auc`. With ten positives the first covers 95 %, the last as little as 84 %.
    Under perfect separation "logit_t" ends where as many patients separate with a chance of (1 - confidence) / 2."""
    if interval not in ("logit_t", "logit", "wald"):
        raise ValueError(f"interval must be 'logit_t', 'logit' or 'wald', not {interval!r}")
    areas, cov = covariance(units)
    area, error, tail = float(areas[0]), _root(cov[0, 0]), 0.5 + confidence / 2
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
    return Auc(area, float(low), float(high), error, len(units), int(units.positive.sum()), units.n_patients)


def auc_difference(units: Units, *, confidence: float = 0.95, reference: str = "t") -> AucDifference:
    """AUC of the first score less that of the second on the same units: DeLong's paired test, by patient.

    reference "t" takes the patients of the smaller class less one as degrees of freedom, "normal" is R `pROC::roc.test`.
    """
    placed, (a, b) = placements(units)
    # exactly zero for scores that rank alike, which var_a + var_b - 2 cov is only up to rounding
    centred = ((placed[:, 0] - placed[:, 1]) - (a - b))[:, None]
    degrees = inf if reference == "normal" else max(min(units.holders()) - 1, 1)
    return _difference(a, b, _between(centred, units)[0, 0], degrees, confidence)


def auc_difference_of_cohorts(first: Units, second: Units, *, confidence: float = 0.95) -> AucDifference:
    """AUCs of two cohorts: t with Welch-Satterthwaite degrees of freedom, R `pROC::roc.test(paired = FALSE)`."""
    (a, cov_a), (b, cov_b) = covariance(first), covariance(second)
    var_a, var_b = cov_a[0, 0], cov_b[0, 0]
    rest = var_a**2 / (len(first) - 1) + var_b**2 / (len(second) - 1)
    degrees = (var_a + var_b) ** 2 / rest if rest > 0 else (nan if isnan(var_a + var_b) else inf)
    return _difference(float(a[0]), float(b[0]), var_a + var_b, degrees, confidence)


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


def _between(centred: np.ndarray, units: Units) -> np.ndarray:
    n_patients, sums = units.n_patients, []
    result = np.zeros((centred.shape[1],) * 2)
    for members, holding in zip((units.positive, ~units.positive), units.holders(), strict=True):
        if holding < 2:
            return np.full_like(result, nan)
        columns = [np.bincount(units.patient[members], weights=c, minlength=n_patients) for c in centred[members].T]
        share = np.column_stack(columns) / np.count_nonzero(members)
        result += holding / (holding - 1) * (share.T @ share)
        sums.append(share)
    cross = n_patients / (n_patients - 1) * (sums[0].T @ sums[1])
    return result + cross + cross.T


def _root(variance: float) -> float:
    return nan if isnan(variance) else sqrt(max(variance, 0.0))


def _separated_limit(sizes: tuple[int, int], tail: float) -> float:
    """Smallest AUC at which classes of these sizes separate perfectly with probability `tail` (Lehmann 1953)."""
    limits = []
    for a, b in (sizes, sizes[::-1]):
        ratio = brentq(lambda r, a=a: gammaln(r + a + 1) - gammaln(r + 1) - gammaln(a + 1) + log(tail), 0, 1 / tail)
        limits.append(b / (b + ratio))
    return min(limits)


def _difference(a: float, b: float, variance: float, degrees: float, confidence: float) -> AucDifference:
    value, error = float(a - b), _root(variance)
    if isnan(error):
        return AucDifference(a, b, value, nan, nan, nan, nan, nan, degrees)
    statistic = value / error if error > 0 else (0.0 if value == 0 else float(np.copysign(inf, value)))
    reference = stats.norm if degrees == inf else stats.t(degrees)
    half = float(reference.ppf(0.5 + confidence / 2)) * error
    p = float(2 * reference.sf(abs(statistic)))
    return AucDifference(float(a), float(b), value, value - half, value + half, error, statistic, p, float(degrees))
