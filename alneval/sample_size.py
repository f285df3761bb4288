"""Sample size of prediction models for a binary outcome: development (Riley 2019, 2020), external validation (2021).

Closed forms and numerical integration, no simulation. They presume unpenalized regression with predictors fixed in
advance: with feature selection every candidate feature is a parameter, and deep networks lie outside their scope.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import asinh, ceil, exp, floor, log, nan, sqrt

import numpy as np
from scipy import optimize, stats
from scipy.special import expit, log_expit, logit, owens_t

Z = 1.96
"""Normal quantile of 95 % intervals, rounded as in the papers and in pmsampsize, so that counts agree exactly."""

NODES = 20_001
"""Points of the grid on which linear predictors are integrated."""


@dataclass(frozen=True)
class DevelopmentSampleSize:
    """Patients needed to develop a model, by criterion and in all: n, the largest of them.

    n_shrinkage: predictor effects shrink by no more than 1 - shrinkage; n_optimism: apparent and adjusted Nagelkerke R2
    differ by no more than `optimism`; n_risk: the mean risk is known to within `margin`; n_error: individual risks have
    the wanted mean absolute error (None unless asked). events = n x prevalence.
    """

    n: int
    events: float
    events_per_parameter: float
    n_shrinkage: int
    n_optimism: int
    n_risk: int
    n_error: int | None
    parameters: int
    prevalence: float
    r2_cox_snell: float
    r2_nagelkerke: float
    shrinkage: float

    def __str__(self) -> str:
        return (
            f"{self.n} patients with {ceil(self.events)} events ({self.events_per_parameter:.1f} per parameter) for "
            f"{self.parameters} parameters: shrinkage {self.n_shrinkage}, optimism {self.n_optimism}, "
            f"mean risk {self.n_risk}" + ("" if self.n_error is None else f", individual risks {self.n_error}")
        )


@dataclass(frozen=True)
class ValidationSampleSize:
    """Patients needed to validate a model externally, by criterion and in all (n, the largest of them).

    n_observed_expected, n_slope, n_auc, n_net_benefit (None unless asked): for a 95 % interval of the wanted width.
    lp_mean, lp_sd: the normal linear predictor (log odds) that n_slope presumes.
    """

    n: int
    events: float
    n_observed_expected: int
    n_slope: int
    n_auc: int
    n_net_benefit: int | None
    prevalence: float
    auc: float
    lp_mean: float
    lp_sd: float

    def __str__(self) -> str:
        return (
            f"{self.n} patients with {ceil(self.events)} events: O/E {self.n_observed_expected}, slope {self.n_slope}, "
            f"AUC {self.n_auc}" + ("" if self.n_net_benefit is None else f", net benefit {self.n_net_benefit}")
        )


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
    count = _parameters(parameters)
    r2 = _inside(r2_cox_snell, "r2_cox_snell")
    if n < 1:
        raise ValueError(f"n must be at least 1, not {n}")

    def excess(t: float) -> float:
        """Log of the size that shrinkage S(t) asks for over n. The product falls from infinity at S = R2 to 0 at S = 1."""
        return log(_shrinkage_size(count, r2, r2 + (1 - r2) * expit(t)) / n)

    if excess(-30.0) >= 0:  # some twenty parameters per patient: S is R2 to the last digits
        return r2
    log_ratio = optimize.brentq(excess, -30.0, 30.0, xtol=1e-12)
    return float(r2 + (1 - r2) * expit(log_ratio))


def max_parameters(n: int, r2_cox_snell: float, *, shrinkage: float = 0.9) -> int:
    """The most candidate parameters that `n` patients carry at this shrinkage; 0 if not even one.

    The inverse of n_shrinkage of `development_sample_size`; arguments as there.
    """
    r2, factor = _inside(r2_cox_snell, "r2_cox_snell"), _shrinkage(shrinkage, r2_cox_snell)
    return floor(n / _shrinkage_size(1, r2, factor) + 1e-9)


def development_sample_size(
    parameters: int,
    prevalence: float,
    *,
    r2_cox_snell: float | None = None,
    auc: float | None = None,
    shrinkage: float = 0.9,
    optimism: float = 0.05,
    margin: float = 0.05,
    mean_absolute_error: float | None = None,
) -> DevelopmentSampleSize:
    """Least number of patients to develop a model of a binary outcome, the largest over three or four criteria.

    parameters: candidate parameters, those that selection drops included. prevalence in (0, 1). Give the performance
    to expect, as r2_cox_snell (adjusted for optimism) or as auc (see `cox_snell_r2_from_auc`). shrinkage: wanted
    factor; optimism: allowed difference of apparent and adjusted Nagelkerke R2; margin: half width of the 95 % interval
    of the mean risk; mean_absolute_error: if given, also the allowed mean error of individual risks (van Smeden et al.
    2019, Stat Methods Med Res 28:2455; fitted for at most 30 parameters).
    Riley et al. 2019, Stat Med 38:1276; 2020, BMJ 368:m441; R `pmsampsize(type = "b")`, from version 1.1.1 on. Raises
    ValueError for arguments out of range, also an R2 above what the prevalence allows.
    """
    count = _parameters(parameters)
    share = _inside(prevalence, "prevalence")
    if (r2_cox_snell is None) == (auc is None):
        raise ValueError("give the performance to expect, as r2_cox_snell or as auc, not both")
    r2 = cox_snell_r2_from_auc(auc, share) if r2_cox_snell is None else _inside(r2_cox_snell, "r2_cox_snell")
    largest = max_cox_snell_r2(share)
    if r2 > largest:
        raise ValueError(f"r2_cox_snell {r2:.3f} is above {largest:.3f}, the most that prevalence {share:g} allows")
    factor = _shrinkage(shrinkage, r2)
    of_optimism = r2 / (r2 + _inside(optimism, "optimism") * largest)
    n_error = None
    if mean_absolute_error is not None:
        n_error = _error_size(count, share, _inside(mean_absolute_error, "mean_absolute_error"))
    n_shrinkage = _up(_shrinkage_size(count, r2, factor))
    n_optimism = _up(_shrinkage_size(count, r2, of_optimism))
    n_risk = _up((Z / _inside(margin, "margin")) ** 2 * share * (1 - share))
    n = max(n_shrinkage, n_optimism, n_risk, n_error or 0)
    return DevelopmentSampleSize(
        n=n,
        events=n * share,
        events_per_parameter=n * share / count,
        n_shrinkage=n_shrinkage,
        n_optimism=n_optimism,
        n_risk=n_risk,
        n_error=n_error,
        parameters=count,
        prevalence=share,
        r2_cox_snell=r2,
        r2_nagelkerke=r2 / largest,
        shrinkage=factor,
    )


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


def auc_validation_size(prevalence: float, auc: float, width: float, *, method: str = "newcombe") -> int:
    """Patients for a 95 % interval of the AUC no wider than `width`.

    method "newcombe": variance of Newcombe 2006 (Stat Med 25:559), as Riley et al. 2021 (Stat Med 40:4230, criterion 3)
    and R `pmvalsampsize`; "binormal": Pavlou et al. 2021 (Stat Methods Med Res 30:2187), R `sampsizeval::size_c_app`.
    """
    share, area, interval = _inside(prevalence, "prevalence"), _auc(auc), _width(width)
    variance = (interval / (2 * Z)) ** 2
    if method == "binormal":
        spread = area - 2 * owens_t(stats.norm.ppf(area), 1 / sqrt(3)) - area**2
        return _up(spread / (share * (1 - share) * variance))
    if method != "newcombe":
        raise ValueError(f"method must be 'newcombe' or 'binormal', not {method!r}")
    # variance(n) = a (1 - a) (1 + (n / 2 - 1) b) / (n^2 p (1 - p)) = wanted, a quadratic in n
    growth = (1 - area) / (2 - area) + area / (1 + area)
    scale = area * (1 - area) / (share * (1 - share) * variance)
    half = scale * growth / 4
    return _up(half + sqrt(half**2 + scale * (1 - growth)))


def slope_validation_size(lp_mean: float, lp_sd: float, width: float) -> int:
    """Patients for a 95 % interval of the calibration slope no wider than `width`, if the model is calibrated.

    lp_mean, lp_sd: mean and standard deviation of the model's log odds among the patients, taken as normal. Riley et
    al. 2021, Stat Med 40:4230, criterion 2 (integrated, where R `pmvalsampsize` simulates).
    """
    error = _width(width) / (2 * Z)
    grid, density = _normal_grid(lp_mean, lp_sd)
    information = expit(grid) * expit(-grid) * density
    zeroth, first, second = information.sum(), information @ grid, information @ grid**2
    return _up(zeroth / (error**2 * (zeroth * second - first**2)))


def observed_expected_validation_size(prevalence: float, width: float, *, ratio: float = 1.0) -> int:
    """Patients for a 95 % interval (on the log scale) of observed / expected = `ratio` no wider than `width`.

    Riley et al. 2021, Stat Med 40:4230, criterion 1: n = (1 - p) / (p SE^2) with width = 2 ratio sinh(1.96 SE). R
    `pmvalsampsize` rounds SE up to 0.0001, which can ask for slightly fewer.
    """
    share = _inside(prevalence, "prevalence")
    if not ratio > 0:
        raise ValueError(f"ratio must be positive, not {ratio}")
    error = asinh(_width(width) / (2 * ratio)) / Z
    return _up((1 - share) / (share * error**2))


def net_benefit_validation_size(
    prevalence: float, sensitivity: float, specificity: float, threshold: float, width: float
) -> int:
    """Patients for a 95 % interval of the standardized net benefit at `threshold` no wider than `width`.

    sensitivity, specificity in [0, 1]: expected at the threshold probability. Riley et al. 2021, Stat Med 40:4230,
    criterion 4, after Marsh et al. 2020 (Biometrics 76:843). R `pmvalsampsize` rounds the standard error to 3 digits.
    """
    share, cut = _inside(prevalence, "prevalence"), _inside(threshold, "threshold")
    for value, name in ((sensitivity, "sensitivity"), (specificity, "specificity")):
        if not 0 <= value <= 1:
            raise ValueError(f"{name} must lie in [0, 1], not {value}")
    error = _width(width) / (2 * Z)
    weight = (1 - share) / share * cut / (1 - cut)
    variance = (
        sensitivity * (1 - sensitivity) / share
        + weight**2 * specificity * (1 - specificity) / (1 - share)
        + weight**2 * (1 - specificity) ** 2 / (share * (1 - share))
    )
    return _up(variance / error**2)


def validation_sample_size(
    prevalence: float,
    auc: float,
    *,
    lp_mean: float = nan,
    lp_sd: float = nan,
    ratio_width: float = 0.2,
    slope_width: float = 0.2,
    auc_width: float = 0.1,
    sensitivity: float | None = None,
    specificity: float | None = None,
    threshold: float | None = None,
    net_benefit_width: float = 0.2,
) -> ValidationSampleSize:
    """Least number of patients to validate a model externally, the largest over O/E, slope, AUC and net benefit.

    prevalence and auc: expected among the new patients. lp_mean, lp_sd: mean and standard deviation of the model's log
    odds among them; without both the normal distribution that fits prevalence and auc (`normal_linear_predictor`).
    Widths are those of 95 % intervals, defaults as R `pmvalsampsize`. Net benefit counts if sensitivity, specificity
    and threshold are given. Riley et al. 2021, Stat Med 40:4230. Raises ValueError for arguments out of range.
    """
    share, area = _inside(prevalence, "prevalence"), _auc(auc)
    if np.isnan(lp_mean) != np.isnan(lp_sd):
        raise ValueError("give both lp_mean and lp_sd, or neither")
    if np.isnan(lp_mean):
        lp_mean, lp_sd = normal_linear_predictor(share, area)
    given = [value is not None for value in (sensitivity, specificity, threshold)]
    if any(given) and not all(given):
        raise ValueError("net benefit needs sensitivity, specificity and threshold together")
    sizes = {
        "n_observed_expected": observed_expected_validation_size(share, ratio_width),
        "n_slope": slope_validation_size(lp_mean, lp_sd, slope_width),
        "n_auc": auc_validation_size(share, area, auc_width),
    }
    n_net_benefit = None
    if all(given):
        n_net_benefit = net_benefit_validation_size(share, sensitivity, specificity, threshold, net_benefit_width)
    n = max(*sizes.values(), n_net_benefit or 0)
    return ValidationSampleSize(
        n=n,
        events=n * share,
        **sizes,
        n_net_benefit=n_net_benefit,
        prevalence=share,
        auc=area,
        lp_mean=float(lp_mean),
        lp_sd=float(lp_sd),
    )


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


def _parameters(value: int) -> int:
    if int(value) != value or value < 1:
        raise ValueError(f"parameters must be a whole number of at least 1, not {value}")
    return int(value)


def _shrinkage(value: float, r2: float) -> float:
    if not r2 < value < 1:
        raise ValueError(f"shrinkage must lie between the expected R2 ({r2:.3f}) and 1, not {value}")
    return float(value)


def _up(size: float) -> int:
    """The next whole number; rounding errors do not cost a patient."""
    return ceil(size - 1e-9)


def _null_log_likelihood(share: float) -> float:
    """Log likelihood per patient of a model that gives everybody the prevalence."""
    return share * log(share) + (1 - share) * log(1 - share)


def _shrinkage_size(parameters: int, r2: float, factor: float) -> float:
    return parameters / ((factor - 1) * np.log1p(-r2 / factor))


def _error_size(parameters: int, share: float, error: float) -> int:
    if parameters > 30:
        raise ValueError(f"the mean absolute error criterion was fitted for at most 30 parameters, not {parameters}")
    rarer = min(share, 1 - share)
    return _up(exp((-0.508 + 0.259 * log(rarer) + 0.504 * log(parameters) - log(error)) / 0.544))


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
