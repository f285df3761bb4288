"""Sample size of prediction models for a binary outcome: development (Riley 2019, 2020), external validation (2021).

Closed forms and numerical integration, no simulation. They presume unpenalized regression with predictors fixed in
advance: with feature selection every candidate feature is a parameter, and deep networks lie outside their scope.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import asinh, ceil, exp, log, sqrt

import numpy as np
from scipy import optimize, stats
from scipy.special import expit, log_expit, logit

Z = 1.96
"""Normal quantile of 95 % intervals, rounded as in the papers and in pmsampsize, so that counts agree exactly."""

NODES = 20_001
"""Points of the grid on which linear predictors are integrated."""

SHRINKAGE, OPTIMISM, MARGIN = 0.9, 0.05, 0.05
"""Wanted shrinkage factor, allowed difference of apparent and adjusted Nagelkerke R2, half width of the interval of the
mean risk: the values of Riley et al. 2020 (BMJ 368:m441) and of pmsampsize."""

RATIO_WIDTH, SLOPE_WIDTH, AUC_WIDTH = 0.2, 0.2, 0.1
"""Widths of the 95 % intervals of observed / expected, calibration slope and AUC, as in pmvalsampsize."""


@dataclass(frozen=True)
class DevelopmentSampleSize:
    """Patients needed to develop a model, by criterion and in all: n, the largest of them.

    n_shrinkage: predictor effects shrink by no more than 1 - SHRINKAGE; n_optimism: apparent and adjusted Nagelkerke R2
    differ by no more than OPTIMISM; n_risk: the mean risk is known to within MARGIN.
    """

    n: int
    n_shrinkage: int
    n_optimism: int
    n_risk: int


@dataclass(frozen=True)
class ValidationSampleSize:
    """Patients needed to validate a model externally, by criterion and in all: n, the largest of them."""

    n: int
    n_observed_expected: int
    n_slope: int
    n_auc: int


def max_cox_snell_r2(prevalence: float) -> float:
    """The largest Cox-Snell R2 that an outcome with this prevalence allows, 1 - exp(2 lnL_null / n).

    Riley et al. 2019, Stat Med 38:1276, equation 23. ValueError unless 0 < prevalence < 1.
    """
    share = _inside(prevalence, "prevalence")
    return 1 - exp(2 * _null_log_likelihood(share))


def cox_snell_r2_from_auc(auc: float, prevalence: float) -> float:
    """Cox-Snell R2 of a model with this AUC, if its linear predictor is normal with equal variances in either class.

    auc in (0.5, 1), prevalence in (0, 1). Riley, Van Calster & Collins 2021, Stat Med 40:859, who simulate a million
    patients; here the same expectation is integrated. pmsampsize does this when `cstatistic` is given.
    """
    share = _inside(prevalence, "prevalence")
    shift = sqrt(2) * stats.norm.ppf(_auc(auc))
    grid = np.linspace(-10, 10, NODES)
    density = stats.norm.pdf(grid)
    density /= density.sum()
    # log odds given the linear predictor x: x ~ N(0, 1) in non-events, N(shift, 1) in events
    of_events = log_expit(logit(share) + shift * (grid + shift) - shift**2 / 2) @ density
    of_non_events = log_expit(-(logit(share) + shift * grid - shift**2 / 2)) @ density
    gain = share * of_events + (1 - share) * of_non_events - _null_log_likelihood(share)
    return float(1 - exp(-2 * gain))


def expected_shrinkage(n: int, parameters: int, r2_cox_snell: float) -> float:
    """Shrinkage factor to expect when `parameters` are fitted on `n` patients: 1 is none, below 0.9 marks overfitting.

    r2_cox_snell: adjusted (honest) Cox-Snell R2 expected of the model. Solves n = P / ((S - 1) ln(1 - R2 / S)) of Riley
    et al. 2019, Stat Med 38:1276, for S. Raises ValueError for arguments out of range.
    """
    r2 = _inside(r2_cox_snell, "r2_cox_snell")
    if n < 1:
        raise ValueError(f"n must be at least 1, not {n}")

    def excess(t: float) -> float:
        """Log of the size that shrinkage S(t) asks for over n. The product falls from infinity at S = R2 to 0 at S = 1."""
        return log(_shrinkage_size(parameters, r2, r2 + (1 - r2) * expit(t)) / n)

    if excess(-30.0) >= 0:  # some twenty parameters per patient: S is R2 to the last digits
        return r2
    log_ratio = optimize.brentq(excess, -30.0, 30.0, xtol=1e-12)
    return float(r2 + (1 - r2) * expit(log_ratio))


def shrinkage_size(parameters: int, r2_cox_snell: float, shrinkage: float = SHRINKAGE) -> int:
    """Patients on whom `parameters` shrink by this factor: n = P / ((S - 1) ln(1 - R2 / S)) (Riley et al. 2019)."""
    if int(parameters) != parameters or parameters < 1:
        raise ValueError(f"parameters must be a whole number of at least 1, not {parameters}")
    if not _inside(r2_cox_snell, "r2_cox_snell") < shrinkage < 1:
        raise ValueError(f"shrinkage must lie between the expected R2 ({r2_cox_snell:.3f}) and 1, not {shrinkage}")
    return _up(_shrinkage_size(parameters, r2_cox_snell, shrinkage))


def development_sample_size(parameters: int, prevalence: float, r2_cox_snell: float) -> DevelopmentSampleSize:
    """Least number of patients to develop a model of a binary outcome, the largest over three criteria.

    parameters: candidate parameters, those that selection drops included. prevalence in (0, 1). r2_cox_snell: the
    performance to expect, adjusted for optimism (`cox_snell_r2_from_auc`). Riley et al. 2019, Stat Med 38:1276; 2020,
    BMJ 368:m441; R `pmsampsize(type = "b")`, from version 1.1.1 on. Raises ValueError for arguments out of range, also
    an R2 above what the prevalence allows.
    """
    largest = max_cox_snell_r2(prevalence)
    if r2_cox_snell > largest:
        raise ValueError(
            f"r2_cox_snell {r2_cox_snell:.3f} is above {largest:.3f}, the most that prevalence {prevalence:g} allows"
        )
    sizes = {
        "n_shrinkage": shrinkage_size(parameters, r2_cox_snell),
        "n_optimism": shrinkage_size(parameters, r2_cox_snell, r2_cox_snell / (r2_cox_snell + OPTIMISM * largest)),
        "n_risk": _up((Z / MARGIN) ** 2 * prevalence * (1 - prevalence)),
    }
    return DevelopmentSampleSize(n=max(sizes.values()), **sizes)


def normal_linear_predictor(prevalence: float, auc: float) -> tuple[float, float]:
    """Mean and standard deviation of the normal log odds whose calibrated risks have this mean and this AUC.

    prevalence in (0, 1), auc in (0.5, 0.99]. Solved by numerical integration, as Pavlou et al. 2021 (Stat Methods Med
    Res 30:2187) do to within 0.0025 of the AUC.
    """
    share, wanted = _inside(prevalence, "prevalence"), _auc(auc)
    if wanted > 0.99:
        raise ValueError(f"auc must be at most 0.99 here, not {wanted}")
    spread = optimize.brentq(lambda sd: _auc_of_normal(_mean_for(share, sd), sd) - wanted, 1e-3, 30.0, xtol=1e-10)
    return _mean_for(share, spread), float(spread)


def auc_variance(n: float, prevalence: float, auc: float) -> float:
    """Variance of the AUC of n patients (Newcombe 2006, Stat Med 25:559, method 4), for a true AUC and a prevalence."""
    share, area = _inside(prevalence, "prevalence"), _auc(auc)
    growth = (1 - area) / (2 - area) + area / (1 + area)
    return area * (1 - area) * (1 + (n / 2 - 1) * growth) / (n**2 * share * (1 - share))


def auc_validation_size(prevalence: float, auc: float, width: float = AUC_WIDTH) -> int:
    """Patients for a 95 % interval of the AUC no wider than `width`.

    Variance of Newcombe 2006 (Stat Med 25:559), as Riley et al. 2021 (Stat Med 40:4230, criterion 3), `pmvalsampsize`.
    """
    share, area = _inside(prevalence, "prevalence"), _auc(auc)
    variance = (_width(width) / (2 * Z)) ** 2
    # variance(n) = a (1 - a) (1 + (n / 2 - 1) b) / (n^2 p (1 - p)) = wanted, a quadratic in n
    growth = (1 - area) / (2 - area) + area / (1 + area)
    scale = area * (1 - area) / (share * (1 - share) * variance)
    half = scale * growth / 4
    return _up(half + sqrt(half**2 + scale * (1 - growth)))


def slope_validation_size(lp_mean: float, lp_sd: float, width: float = SLOPE_WIDTH) -> int:
    """Patients for a 95 % interval of the calibration slope no wider than `width`, if the model is calibrated.

    lp_mean, lp_sd: mean and standard deviation of the model's log odds among the patients, taken as normal. Riley et
    al. 2021, Stat Med 40:4230, criterion 2 (integrated, where R `pmvalsampsize` simulates).
    """
    error = _width(width) / (2 * Z)
    grid, density = _normal_grid(lp_mean, lp_sd)
    information = expit(grid) * expit(-grid) * density
    zeroth, first, second = information.sum(), information @ grid, information @ grid**2
    return _up(zeroth / (error**2 * (zeroth * second - first**2)))


def observed_expected_validation_size(prevalence: float, width: float = RATIO_WIDTH) -> int:
    """Patients for a 95 % interval (on the log scale) of observed / expected = 1 no wider than `width`.

    Riley et al. 2021, Stat Med 40:4230, criterion 1: n = (1 - p) / (p SE^2) with width = 2 sinh(1.96 SE). R
    `pmvalsampsize` rounds SE up to 0.0001, which can ask for slightly fewer.
    """
    share = _inside(prevalence, "prevalence")
    error = asinh(_width(width) / 2) / Z
    return _up((1 - share) / (share * error**2))


def validation_sample_size(prevalence: float, auc: float) -> ValidationSampleSize:
    """Least number of patients to validate a model externally, the largest over O/E, slope and AUC.

    prevalence and auc: expected among the new patients; their log odds are taken as normal (`normal_linear_predictor`).
    Riley et al. 2021, Stat Med 40:4230. Raises ValueError for arguments out of range.
    """
    sizes = {
        "n_observed_expected": observed_expected_validation_size(prevalence),
        "n_slope": slope_validation_size(*normal_linear_predictor(prevalence, auc)),
        "n_auc": auc_validation_size(prevalence, auc),
    }
    return ValidationSampleSize(n=max(sizes.values()), **sizes)


def _inside(value: float, name: str) -> float:
    if not 0 < value < 1:
        raise ValueError(f"{name} must lie strictly between 0 and 1, not {value}")
    return float(value)


def _auc(value: float) -> float:
    if not 0.5 < value < 1:
        raise ValueError(f"auc must lie strictly between 0.5 and 1, not {value}")
    return float(value)


def _width(value: float) -> float:
    if not value > 0:
        raise ValueError(f"width must be positive, not {value}")
    return float(value)


def _up(size: float) -> int:
    """The next whole number; rounding errors do not cost a patient."""
    return ceil(size - 1e-9)


def _null_log_likelihood(share: float) -> float:
    """Log likelihood per patient of a model that gives everybody the prevalence."""
    return share * log(share) + (1 - share) * log(1 - share)


def _shrinkage_size(parameters: int, r2: float, factor: float) -> float:
    return parameters / ((factor - 1) * np.log1p(-r2 / factor))


def _normal_grid(mean: float, sd: float) -> tuple[np.ndarray, np.ndarray]:
    if not (np.isfinite(mean) and sd > 0):
        raise ValueError(f"the linear predictor needs a finite mean and a positive sd, not {mean}, {sd}")
    standard = np.linspace(-10, 10, NODES)
    density = stats.norm.pdf(standard)
    return mean + sd * standard, density / density.sum()


def _mean_for(share: float, sd: float) -> float:
    """Mean of normal log odds with this sd whose risks average to `share`."""
    reach = abs(logit(share)) * (1 + sd**2) + 1

    def excess(mean: float) -> float:
        grid, density = _normal_grid(mean, sd)
        return float(expit(grid) @ density) - share

    return float(optimize.brentq(excess, -reach, reach, xtol=1e-12))


def _auc_of_normal(mean: float, sd: float) -> float:
    """AUC of calibrated risks whose log odds are normal."""
    grid, density = _normal_grid(mean, sd)
    of_events, of_non_events = expit(grid) * density, expit(-grid) * density
    below = np.cumsum(of_non_events) - of_non_events / 2
    return float(of_events @ below / (of_events.sum() * of_non_events.sum()))
