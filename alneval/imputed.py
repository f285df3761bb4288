"""Rubin's rules: one answer from the analyses of several imputations of the same patients, and the AUC under them.

How missing values are drawn lives with the models whose variables they are; nothing here knows of variables.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import inf, nan

import numpy as np
from scipy import stats
from scipy.special import expit, logit

from alneval.delong import auc_interval
from alneval.estimate import Estimate
from alneval.units import Units

_LEAST_SHARE = 1e-4
"""Least share of the variance that is between imputations, so that degrees of freedom are finite; as R's mice has it."""


@dataclass(frozen=True)
class Pooled:
    """Pooled estimates (k,) with standard error, degrees of freedom of Student's t, and the fraction of information that is
    missing for want of the true values."""

    value: np.ndarray
    standard_error: np.ndarray
    degrees_of_freedom: np.ndarray
    missing_information: np.ndarray


def pool(values: np.ndarray, variances: np.ndarray, complete_degrees: float = inf) -> Pooled:
    """Rubin's rules. values, variances: (m, k), a row per imputation, m at least 2.

    complete_degrees: degrees of freedom that complete data would have, residual ones of a regression. Rubin 1987, Multiple
    Imputation for Nonresponse in Surveys, 3.1; degrees of freedom of Barnard & Rubin 1999, Biometrika 86:948. R: mice::pool.

    >>> found = pool(np.array([[0.9], [1.1], [1.3]]), np.array([[0.04], [0.05], [0.06]]), complete_degrees=100)
    >>> [round(float(each[0]), 4) for each in (found.value, found.standard_error, found.degrees_of_freedom)]
    [1.1, 0.3215, 6.4821]
    """
    m = len(values)
    within, between = variances.mean(axis=0), values.var(axis=0, ddof=1) * (1 + 1 / m)
    share = np.maximum(between / (within + between), _LEAST_SHARE)
    degrees = (m - 1) / share**2
    if complete_degrees < inf:
        observed = (complete_degrees + 1) / (complete_degrees + 3) * complete_degrees * (1 - share)
        degrees = degrees * observed / (degrees + observed)
    increase = between / within
    return Pooled(
        values.mean(axis=0),
        np.sqrt(within + between),
        degrees,
        (increase + 2 / (degrees + 3)) / (increase + 1),
    )


def pooled_likelihood_ratio_p(ratios: np.ndarray, at_pooled: float, k: int) -> float:
    """p of k coefficients together, their likelihood-ratio statistics in each imputation being `ratios` (m,).

    at_pooled: mean of the statistics at the pooled coefficients of both models. D3 of Meng & Rubin 1992, Biometrika 79:103;
    R: mice::D3, but for the intercept, which mice fits anew. A relative increase of variance below 0, as rounding and chance
    can give, counts as 0.
    """
    m = len(ratios)
    increase = max(0.0, (m + 1) / (k * (m - 1)) * (ratios.mean() - at_pooled))
    statistic, v = at_pooled / (k * (1 + increase)), k * (m - 1)
    with np.errstate(divide="ignore"):
        inverse = np.divide(1.0, increase)
    degrees = 4 + (v - 4) * (1 + (1 - 2 / v) * inverse) ** 2 if v > 4 else v * (1 + 1 / k) * (1 + inverse) ** 2 / 2
    return float(_f_tail(statistic, k, degrees))


def pooled_chi_square_p(ratios: np.ndarray, k: int) -> float:
    """p from the chi-square statistics (m,) of k degrees of freedom alone, where there are no coefficients to pool.

    D2 of Li, Meng, Raghunathan & Rubin 1991, Stat Sin 1:65; less powerful than `pooled_likelihood_ratio_p`. R: mice::D2.
    """
    m = len(ratios)
    increase = (1 + 1 / m) * np.sqrt(ratios).var(ddof=1)
    statistic = (ratios.mean() / k - (m + 1) / (m - 1) * increase) / (1 + increase)
    with np.errstate(divide="ignore"):
        degrees = k ** (-3 / m) * (m - 1) * (1 + np.divide(1.0, increase)) ** 2
    return float(_f_tail(statistic, k, degrees))


def _f_tail(statistic: float, k: int, degrees: float) -> float:
    """Upper tail of F; of chi-square over k where the denominator knows no bound."""
    statistic = max(float(statistic), 0.0)
    return stats.f.sf(statistic, k, degrees) if np.isfinite(degrees) else stats.chi2.sf(k * statistic, k)


def imputed_auc(units: Units, *, confidence: float = 0.95) -> tuple[Estimate, float]:
    """AUC of patients whose scores (n, m) differ by imputation, and the fraction of missing information.

    DeLong's variance in each imputation, pooled by Rubin's rules on the log odds, with the degrees of freedom of
    `auc_interval`'s t. Scores that are the same in all imputations give `auc_interval` and 0; where an imputation separates
    the classes perfectly, or a class has one patient, there is no interval. Raises ValueError if a class is missing.

    >>> from alneval import example
    >>> rows = example().query("model == 'image'")
    >>> drawn = np.random.default_rng(2026).normal(rows["y_score"], 0.1, (5, len(rows))).T
    >>> auc, missing = imputed_auc(Units.of(rows["y_true"], drawn))
    >>> print(auc, round(missing, 2))
    0.923 (0.737 to 0.981) 0.49
    """
    first = auc_interval(units.model(0), confidence=confidence)
    if (units.scores == units.scores[:, :1]).all():
        return first, 0.0
    each = [first, *(auc_interval(units.model(k), confidence=confidence) for k in range(1, units.scores.shape[1]))]
    areas, errors = (np.array([getattr(auc, name) for auc in each]) for name in ("value", "standard_error"))
    method = f"{first.method.split(',')[0]}, {areas.size} imputations, log odds"
    if not ((areas > 0) & (areas < 1) & (errors > 0)).all():
        return replace(first, value=float(areas.mean()), low=nan, high=nan, standard_error=nan, method=method), nan
    slope = areas * (1 - areas)
    found = pool(logit(areas)[:, None], ((errors / slope) ** 2)[:, None], min(units.holders()) - 1)
    center, error = found.value[0], found.standard_error[0]
    half = stats.t.ppf(0.5 + confidence / 2, found.degrees_of_freedom[0]) * error
    value, low, high = (float(end) for end in expit([center, center - half, center + half]))
    pooled = replace(first, value=value, low=low, high=high, standard_error=float(error * value * (1 - value)))
    return replace(pooled, method=method), float(found.missing_information[0])
