"""Calibration of probabilities: intercept, slope, Brier, expected/observed, Hosmer-Lemeshow, flexible curve.

Of the first score of the units, a probability. Ranking lives in `delong`; figures live in `alneval.figures`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import nan

import numpy as np
from scipy import stats
from scipy.special import logit
from statsmodels.genmod.families import Binomial
from statsmodels.genmod.generalized_linear_model import GLM
from statsmodels.nonparametric.smoothers_lowess import lowess
from statsmodels.tools.tools import add_constant

from alneval.curves import brier
from alneval.estimate import Estimate, once, percentile_limits, resamples, summarize
from alneval.units import Units

CLIP = 1e-6
"""Probabilities nearer to 0 or 1 than this are moved here before their log odds are taken, and counted."""

FRACTION = 2 / 3
"""Share of units in each local fit of the flexible curve, R's default."""


@dataclass(frozen=True)
class CalibrationErrors:
    """Distance of the flexible curve from the diagonal over the units: mean, median, 90th centile, maximum."""

    ici: float
    e50: float
    e90: float
    emax: float


@dataclass(frozen=True)
class CalibrationCurve:
    """Observed proportion against predicted probability with a pointwise band, each (k,)."""

    predicted: np.ndarray
    observed: np.ndarray
    low: np.ndarray
    high: np.ndarray


@dataclass(frozen=True)
class CalibrationSummary:
    """Everything that describes the calibration of one model on one cohort; n_clipped probabilities were moved off 0 or 1."""

    n: int
    n_positive: int
    n_clipped: int
    intercept: Estimate
    slope: Estimate
    expected_observed: Estimate
    brier: Estimate
    scaled_brier: Estimate
    ici: Estimate
    errors: CalibrationErrors
    hosmer_lemeshow: Estimate
    curve: CalibrationCurve


def calibration_intercept(units: Units) -> Estimate:
    """Calibration-in-the-large: intercept of a logistic model with the log odds of the probability as offset (slope 1).

    0 is ideal, negative means predicted risks are too high. 95 % Wald interval. Where a patient has several units the
    variance is the sandwich between patients times k / (k - 1), as R `sandwich::vcovCL(type = "HC0")` (Liang & Zeger 1986,
    Biometrika 73:13), nan for one patient. With one class only: nan. R `glm(y ~ 1, offset = qlogis(p), family = binomial)`;
    Steyerberg 2019, Clinical Prediction Models, 15.3.
    """
    if not units.has_both_classes:
        return Estimate(nan)
    return _logistic(units, np.ones((len(units), 1)), offset=log_odds(units.probability))[0]


def calibration_slope(units: Units) -> Estimate:
    """Slope of a logistic model on the log odds of the probability: 1 is ideal, below 1 means predictions too extreme.

    Interval as `calibration_intercept`. Nan where no finite slope exists (`no_slope`). R `glm(y ~ qlogis(p), family =
    binomial)`; Cox 1958, Biometrika 45:562.
    """
    return joint_calibration(units)[1]


def joint_calibration(units: Units) -> tuple[Estimate, Estimate]:
    """Intercept and slope fitted together, as "Intercept" and "Slope" of R `rms::val.prob`; nan where no slope exists.

    This intercept is not calibration-in-the-large: see `calibration_intercept`. val.prob drops probabilities of 0
    and 1, here they are clipped.
    """
    if no_slope(units):
        return Estimate(nan), Estimate(nan)
    intercept, slope = _logistic(units, add_constant(log_odds(units.probability)))
    return intercept, slope


def log_odds(probability: np.ndarray) -> np.ndarray:
    """Log odds (n,) of probabilities (n,), those nearer than CLIP to 0 or 1 moved there."""
    return logit(np.clip(probability, CLIP, 1 - CLIP))


def no_slope(units: Units) -> str:
    """Why a logistic slope does not exist, or an empty string."""
    if not units.has_both_classes:
        return "one class only"
    values = log_odds(units.probability)
    if np.ptp(values) == 0:
        return "constant predictions"
    cases, controls = values[units.positive], values[~units.positive]
    if cases.min() >= controls.max() or cases.max() <= controls.min():
        return "classes are separated"
    return ""


def scaled_brier(units: Units, weights: np.ndarray) -> np.ndarray:
    """1 - Brier / Brier of predicting the prevalence, (b,): 1 perfect, 0 no better than that; not finite with one class."""
    n, observed = weights.sum(axis=1), weights @ units.positive
    with np.errstate(divide="ignore", invalid="ignore"):
        return 1 - brier(units, weights) * n / (observed * (1 - observed / n))


def expected_observed_ratio(units: Units, weights: np.ndarray) -> np.ndarray:
    """Sum of probabilities over positives, (b,): above 1 means predicted risks are too high; not finite without positives."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return (weights @ units.probability) / (weights @ units.positive)


def hosmer_lemeshow(units: Units) -> Estimate:
    """Hosmer-Lemeshow test over ten quantile groups of predicted risk: statistic (chi-squared), degrees of freedom, p.

    Groups end at type-7 quantiles, right-closed, as R `ResourceSelection::hoslem.test`; ties can leave fewer groups.
    Degrees of freedom: the number of groups, for a model fitted elsewhere (Hosmer & Lemeshow 2013, 5.2.5).
    """
    probability = units.probability
    edges = np.unique(np.quantile(probability, np.linspace(0, 1, 11)))
    group = np.clip(np.searchsorted(edges, probability, side="left") - 1, 0, None)
    _, group = np.unique(group, return_inverse=True)
    size = np.bincount(group)
    observed = np.bincount(group, weights=units.positive)
    expected = np.bincount(group, weights=probability)
    squared = (observed - expected) ** 2
    # a group of certain predictions costs nothing when right and infinity when wrong
    with np.errstate(divide="ignore", invalid="ignore"):
        parts = np.where(squared == 0, 0.0, squared / expected + squared / (size - expected))
    chi_squared = float(parts.sum())
    p = float(stats.chi2.sf(chi_squared, size.size))
    return Estimate(chi_squared, statistic=chi_squared, degrees_of_freedom=size.size, p=p)


def flexible_curve(units: Units, at: np.ndarray) -> np.ndarray:
    """Lowess curve of outcome on probability, without robustness steps, as in R `rms::val.prob`, read at probabilities `at`.

    Nan outside the range of the probabilities; points closer than 1 % of the range are interpolated, as R's default. The
    curve is not forced into [0, 1].
    """
    return _lowess_at(units.positive, units.probability, at)


def calibration_errors(units: Units) -> CalibrationErrors:
    """ICI, E50, E90 and Emax: distance between flexible curve and diagonal at the units' probabilities.

    ICI, E90 and Emax are Eavg, E90 and Emax of R `rms::val.prob`; Austin & Steyerberg 2019, Stat Med 38:4051. For constant
    predictions the distance to the prevalence.
    """
    distance = np.abs(flexible_curve(units, units.probability) - units.probability)
    e50, e90 = np.quantile(distance, [0.5, 0.9])
    return CalibrationErrors(float(distance.mean()), float(e50), float(e90), float(distance.max()))


def calibration_summary(units: Units, rng: np.random.Generator, *, n_bootstrap: int = 1000) -> CalibrationSummary:
    """Intercept, slope, E/O, Brier, ICI, Hosmer-Lemeshow and flexible curve of one model on one cohort.

    Intercept and slope have Wald intervals, the others percentile intervals over resampled patients; a resample speaks for
    its own range of the curve only, and costs one local regression. A constant prediction or a missing class gives nan
    where a quantity does not exist, never an exception.

    >>> from alneval import example
    >>> units = Units.of_rows(example().query("model == 'image'"))
    >>> print(calibration_summary(units, np.random.default_rng(2026), n_bootstrap=40).slope)
    2.189 (1.112 to 3.266)
    """
    positive, probability = units.positive, units.probability
    grid, place = np.unique(probability, return_inverse=True)
    statistics = {"expected_observed": expected_observed_ratio, "brier": brier, "scaled_brier": scaled_brier}
    drawn: dict[str, list[np.ndarray]] = {name: [] for name in statistics}
    icis, curves = [], []
    for weights in resamples(units, n_bootstrap, rng, stratified=False):
        for name, statistic in statistics.items():
            drawn[name].append(statistic(units, weights))
        for index in _indices(weights):
            curves.append(_lowess_at(positive[index], probability[index], grid))
            icis.append(np.abs(curves[-1][place[index]] - probability[index]).mean())
    errors = calibration_errors(units)
    resampled = {name: summarize(once(of, units), np.concatenate(drawn[name])) for name, of in statistics.items()}
    return CalibrationSummary(
        n=len(units),
        n_positive=int(positive.sum()),
        n_clipped=int(np.count_nonzero((probability < CLIP) | (probability > 1 - CLIP))),
        intercept=calibration_intercept(units),
        slope=calibration_slope(units),
        **resampled,
        ici=summarize(errors.ici, np.array(icis)),
        errors=errors,
        hosmer_lemeshow=hosmer_lemeshow(units),
        curve=CalibrationCurve(grid, flexible_curve(units, grid), *percentile_limits(np.array(curves), 0.95)),
    )


def _logistic(units: Units, design: np.ndarray, offset: np.ndarray | None = None) -> list[Estimate]:
    """Maximum likelihood coefficients with Wald intervals, from a sandwich between patients where one has several units."""
    model = GLM(units.positive.astype(float), design, family=Binomial(), offset=offset)
    with np.errstate(over="ignore"):  # log odds beyond 700 on the way, where a probability is 0 all the same
        fitted = model.fit(maxiter=200, tol_criterion="params", tol=1e-10)
    errors = fitted.bse
    if units.n_patients < 2:
        errors = np.full(errors.shape, nan)
    elif units.clustered:
        totals = np.zeros((units.n_patients, design.shape[1]))
        np.add.at(totals, units.patient, design * (units.positive - fitted.fittedvalues)[:, None])
        bread = fitted.cov_params()
        sandwich = units.n_patients / (units.n_patients - 1) * bread @ (totals.T @ totals) @ bread
        errors = np.sqrt(np.diag(sandwich))
    halves = stats.norm.ppf(0.975) * errors
    return [
        Estimate(float(b), float(b - h), float(b + h), float(e))
        for b, h, e in zip(fitted.params, halves, errors, strict=True)
    ]


def _lowess_at(positive: np.ndarray, probabilities: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Lowess fit read off at probabilities `at`; nan outside the observed range."""
    values, first, ties = np.unique(probabilities, return_index=True, return_counts=True)
    outcome = positive.astype(float)
    if values.size == 1:
        return np.where(at == values[0], outcome.mean(), nan)
    with np.errstate(invalid="ignore"):  # a neighborhood without width, mended below
        # delta is R's default; without it a fit costs n local regressions
        delta = 0.01 * np.ptp(probabilities)
        fitted = lowess(outcome, probabilities, frac=FRACTION, it=0, delta=delta, return_sorted=False)
    fitted = fitted[first]
    # where equal probabilities fill a whole neighborhood, statsmodels gives nan and R the mean outcome of the tie
    alone = ties >= int(FRACTION * outcome.size + 1e-10)
    for value in np.flatnonzero(alone):
        fitted[value] = outcome[probabilities == values[value]].mean()
    known = np.isfinite(fitted)
    return np.interp(at, values[known], fitted[known], left=nan, right=nan)


def _indices(weights: np.ndarray) -> Iterator[np.ndarray]:
    """Row indices of each resample, from how often each row is in it (b, n)."""
    for row in weights.astype(int):
        yield np.repeat(np.arange(row.size), row)
