"""Calibration of probabilities: intercept, slope, Brier, expected/observed, Hosmer-Lemeshow, flexible curve.

Ranking lives in `roc`; figures live in `alnlib.report`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import nan

import numpy as np
import statsmodels.api as sm
from numpy.typing import ArrayLike
from scipy import stats
from scipy.special import logit
from statsmodels.nonparametric.smoothers_lowess import lowess

from alneval.bootstrap import (
    BootstrapInterval,
    percentile_limits,
    resample_weights,
    summarize_resamples,
)
from alneval.inputs import as_cluster_codes, as_confidence, as_labels, as_probabilities
from alneval.intervals import format_interval, format_p

CLIP = 1e-6
"""Probabilities nearer to 0 or 1 than this are moved here before their log odds are taken, and counted."""


@dataclass(frozen=True)
class CalibrationEstimate:
    """A coefficient with its Wald interval. n_clipped probabilities were moved off 0 or 1; note says why it is nan."""

    value: float
    low: float
    high: float
    standard_error: float
    n_clipped: int
    note: str = ""

    def __str__(self) -> str:
        return format_interval(self.value, self.low, self.high) + (f" [{self.note}]" if self.note else "")


@dataclass(frozen=True)
class HosmerLemeshow:
    """Chi-squared statistic over groups of predicted risk, its degrees of freedom, and p."""

    chi_squared: float
    degrees_of_freedom: int
    p: float
    n_groups: int

    def __str__(self) -> str:
        return f"chi-squared {self.chi_squared:.2f} on {self.degrees_of_freedom} df, {format_p(self.p)}"


@dataclass(frozen=True)
class CalibrationErrors:
    """Distance of the flexible curve from the diagonal over the patients: mean, median, 90th centile, maximum."""

    ici: float
    e50: float
    e90: float
    emax: float

    def __str__(self) -> str:
        return f"ICI {self.ici:.3f}, E50 {self.e50:.3f}, E90 {self.e90:.3f}, Emax {self.emax:.3f}"


@dataclass(frozen=True)
class CalibrationCurve:
    """Observed proportion against predicted probability, each (k,); low and high are nan without a bootstrap."""

    predicted: np.ndarray
    observed: np.ndarray
    low: np.ndarray
    high: np.ndarray


@dataclass(frozen=True)
class CalibrationSummary:
    """Everything that describes the calibration of one model on one cohort."""

    n: int
    n_positive: int
    n_clipped: int
    intercept: CalibrationEstimate
    slope: CalibrationEstimate
    joint_intercept: float
    expected_observed: BootstrapInterval
    brier: BootstrapInterval
    scaled_brier: BootstrapInterval
    ici: BootstrapInterval
    errors: CalibrationErrors
    hosmer_lemeshow: HosmerLemeshow

    def __str__(self) -> str:
        return (
            f"intercept {self.intercept}, slope {self.slope}, E/O {self.expected_observed}, "
            f"Brier {self.brier}, ICI {self.ici}"
        )


def calibration_intercept(
    y_true: ArrayLike,
    y_prob: ArrayLike,
    *,
    cluster: ArrayLike | None = None,
    confidence: float = 0.95,
    clip: float = CLIP,
) -> CalibrationEstimate:
    """Calibration-in-the-large: intercept of a logistic model with the log odds of y_prob as offset (slope held at 1).

    y_true: (n,) 0/1; y_prob: (n,) in [0, 1]. 0 is ideal, negative means predicted risks are too high. Wald interval.
    cluster: (n,) patient ids, when a patient has several units: the variance is then the sandwich between patients
    times k / (k - 1), as R `sandwich::vcovCL(type = "HC0")` (Liang & Zeger 1986, Biometrika 73:13), nan for one patient.
    Probabilities within `clip` of 0 or 1 are moved to it and counted. With one class only: nan and a note.
    R `glm(y ~ 1, offset = qlogis(p), family = binomial)`; Steyerberg 2019, Clinical Prediction Models, 15.3.
    """
    positive, log_odds, n_clipped = _log_odds(y_true, y_prob, clip)
    if positive.all() or not positive.any():
        return CalibrationEstimate(nan, nan, nan, nan, n_clipped, "one class only")
    coefficients, errors = _logistic(positive, np.ones((positive.size, 1)), log_odds, cluster=cluster)
    return _wald(coefficients[0], errors[0], confidence, n_clipped)


def calibration_slope(
    y_true: ArrayLike,
    y_prob: ArrayLike,
    *,
    cluster: ArrayLike | None = None,
    confidence: float = 0.95,
    clip: float = CLIP,
) -> CalibrationEstimate:
    """Slope of a logistic model on the log odds of y_prob: 1 is ideal, below 1 means predictions too extreme.

    Arguments as `calibration_intercept`. Nan with a note where no finite slope exists: constant predictions, one class,
    or classes that the predictions separate. R `glm(y ~ qlogis(p), family = binomial)`; Cox 1958, Biometrika 45:562.
    """
    positive, log_odds, n_clipped = _log_odds(y_true, y_prob, clip)
    reason = _no_slope(positive, log_odds)
    if reason:
        return CalibrationEstimate(nan, nan, nan, nan, n_clipped, reason)
    coefficients, errors = _logistic(positive, sm.add_constant(log_odds), cluster=cluster)
    return _wald(coefficients[1], errors[1], confidence, n_clipped)


def joint_calibration(y_true: ArrayLike, y_prob: ArrayLike, *, clip: float = CLIP) -> tuple[float, float]:
    """Intercept and slope fitted together, as "Intercept" and "Slope" of R `rms::val.prob`; nan where no slope exists.

    This intercept is not calibration-in-the-large: see `calibration_intercept`. val.prob drops probabilities of 0
    and 1, here they are clipped.
    """
    positive, log_odds, _ = _log_odds(y_true, y_prob, clip)
    if _no_slope(positive, log_odds):
        return nan, nan
    coefficients, _ = _logistic(positive, sm.add_constant(log_odds))
    return float(coefficients[0]), float(coefficients[1])


def brier_score(y_true: ArrayLike, y_prob: ArrayLike) -> float:
    """Mean squared difference of probability and outcome. y_true: (n,) 0/1; y_prob: (n,). Brier 1950."""
    positive = as_labels(y_true)
    return float(np.mean((as_probabilities(y_prob, positive.size) - positive) ** 2))


def scaled_brier_score(y_true: ArrayLike, y_prob: ArrayLike) -> float:
    """1 - Brier / Brier of predicting the prevalence: 1 perfect, 0 no better than that; nan with one class."""
    prevalence = float(as_labels(y_true).mean())
    reference = prevalence * (1 - prevalence)
    return 1 - brier_score(y_true, y_prob) / reference if reference > 0 else nan


def expected_observed_ratio(y_true: ArrayLike, y_prob: ArrayLike) -> float:
    """Sum of probabilities over positives: above 1 means predicted risks are too high; nan without positives."""
    positive = as_labels(y_true)
    expected = as_probabilities(y_prob, positive.size).sum()
    return float(expected / positive.sum()) if positive.any() else nan


def hosmer_lemeshow(
    y_true: ArrayLike, y_prob: ArrayLike, *, n_groups: int = 10, fitted_on_these_data: bool = False
) -> HosmerLemeshow:
    """Hosmer-Lemeshow test over quantile groups of predicted risk.

    y_true: (n,) 0/1; y_prob: (n,). Groups end at type-7 quantiles, right-closed, as R `ResourceSelection::hoslem.test`;
    ties can leave fewer groups. Degrees of freedom: the number of groups for a model fitted elsewhere (Hosmer &
    Lemeshow 2013, 5.2.5), two fewer if `fitted_on_these_data`. Nan p when no degree of freedom is left.
    """
    positive = as_labels(y_true)
    probabilities = as_probabilities(y_prob, positive.size)
    edges = np.unique(np.quantile(probabilities, np.linspace(0, 1, n_groups + 1)))
    group = np.clip(np.searchsorted(edges, probabilities, side="left") - 1, 0, None)
    _, group = np.unique(group, return_inverse=True)
    size = np.bincount(group)
    observed = np.bincount(group, weights=positive)
    expected = np.bincount(group, weights=probabilities)
    squared = (observed - expected) ** 2
    # a group of certain predictions costs nothing when right and infinity when wrong
    with np.errstate(divide="ignore", invalid="ignore"):
        parts = np.where(squared == 0, 0.0, squared / expected + squared / (size - expected))
    degrees = size.size - (2 if fitted_on_these_data else 0)
    chi_squared = float(parts.sum())
    p = float(stats.chi2.sf(chi_squared, degrees)) if degrees > 0 else nan
    return HosmerLemeshow(chi_squared, degrees, p, size.size)


def flexible_calibration_curve(
    y_true: ArrayLike,
    y_prob: ArrayLike,
    *,
    grid: ArrayLike | None = None,
    frac: float = 2 / 3,
    rng: np.random.Generator | None = None,
    n_bootstrap: int = 0,
    cluster: ArrayLike | None = None,
    confidence: float = 0.95,
) -> CalibrationCurve:
    """Lowess curve of outcome on probability, without robustness steps, as in R `rms::val.prob`.

    y_true: (n,) 0/1; y_prob: (n,). grid: probabilities at which to give the curve (default: the distinct y_prob); nan
    outside the range of y_prob. frac: share of patients in each local fit; points closer than 1 % of the range are
    interpolated, as R's default. With n_bootstrap > 0 (needs rng) a pointwise percentile band over resampled units, or
    patients when `cluster` is given; a resample speaks only for its own range. The curve is not forced into [0, 1].
    """
    positive = as_labels(y_true)
    probabilities = as_probabilities(y_prob, positive.size)
    grid = np.unique(probabilities) if grid is None else np.asarray(grid, dtype=float)
    observed = _lowess_at(positive, probabilities, grid, frac)
    low = high = np.full(grid.shape, nan)
    if n_bootstrap > 0:
        if rng is None:
            raise ValueError("a bootstrap band needs rng")
        curves = [
            _lowess_at(positive[index], probabilities[index], grid, frac)
            for weights in resample_weights(positive.size, n_bootstrap, rng, cluster=cluster)
            for index in _indices(weights)
        ]
        low, high = percentile_limits(np.array(curves), confidence)
    return CalibrationCurve(grid, observed, low, high)


def calibration_errors(y_true: ArrayLike, y_prob: ArrayLike, *, frac: float = 2 / 3) -> CalibrationErrors:
    """ICI, E50, E90 and Emax: distance between flexible curve and diagonal at the patients' probabilities.

    y_true: (n,) 0/1; y_prob: (n,). ICI, E90 and Emax are Eavg, E90 and Emax of R `rms::val.prob`; Austin & Steyerberg
    2019, Stat Med 38:4051. For constant predictions the distance to the prevalence.
    """
    positive = as_labels(y_true)
    probabilities = as_probabilities(y_prob, positive.size)
    distance = np.abs(_lowess_at(positive, probabilities, probabilities, frac) - probabilities)
    e50, e90 = np.quantile(distance, [0.5, 0.9])
    return CalibrationErrors(float(distance.mean()), float(e50), float(e90), float(distance.max()))


def calibration_summary(
    y_true: ArrayLike,
    y_prob: ArrayLike,
    *,
    rng: np.random.Generator,
    n_bootstrap: int = 1000,
    cluster: ArrayLike | None = None,
    fitted_on_these_data: bool = False,
    confidence: float = 0.95,
    clip: float = CLIP,
) -> CalibrationSummary:
    """Intercept, slope, E/O, Brier, ICI and Hosmer-Lemeshow of one model on one cohort.

    y_true: (n,) 0/1; y_prob: (n,) in [0, 1]. Intercept and slope have Wald intervals, with a sandwich variance when
    cluster, (n,) patient ids, is given; the others percentile intervals over resampled units, or patients. A constant
    prediction or a missing class gives nan where a quantity does not exist, never an exception.
    """
    return calibration_summary_and_curve(
        y_true,
        y_prob,
        rng=rng,
        n_bootstrap=n_bootstrap,
        cluster=cluster,
        fitted_on_these_data=fitted_on_these_data,
        confidence=confidence,
        clip=clip,
    )[0]


def calibration_summary_and_curve(
    y_true: ArrayLike,
    y_prob: ArrayLike,
    *,
    rng: np.random.Generator,
    n_bootstrap: int = 1000,
    cluster: ArrayLike | None = None,
    fitted_on_these_data: bool = False,
    confidence: float = 0.95,
    clip: float = CLIP,
) -> tuple[CalibrationSummary, CalibrationCurve]:
    """`calibration_summary` and `flexible_calibration_curve` from the same resamples, in half the time.

    Arguments as `calibration_summary`. Every resample costs one local regression, which gives its curve and its ICI.
    """
    positive = as_labels(y_true)
    probabilities = as_probabilities(y_prob, positive.size)
    grid, place = np.unique(probabilities, return_inverse=True)
    # expected, observed and squared error are sums over patients: all resamples at once
    sums = np.column_stack([probabilities, positive, (probabilities - positive) ** 2, np.ones(positive.size)])
    icis, totals, curves = [], [], []
    for weights in resample_weights(positive.size, n_bootstrap, rng, cluster=cluster):
        totals.append(weights @ sums)
        for index in _indices(weights):
            curves.append(_lowess_at(positive[index], probabilities[index], grid, 2 / 3))
            icis.append(np.abs(curves[-1][place[index]] - probabilities[index]).mean())
    expected, observed, squared, n = np.concatenate(totals).T
    with np.errstate(divide="ignore", invalid="ignore"):  # resamples with one class: not finite, left out and counted
        ratios, scaled = expected / observed, 1 - squared / (observed * (1 - observed / n))
    errors = calibration_errors(positive, probabilities)
    low, high = percentile_limits(np.array(curves), confidence)
    curve = CalibrationCurve(grid, _lowess_at(positive, probabilities, grid, 2 / 3), low, high)

    def interval(estimate: float, resampled: np.ndarray) -> BootstrapInterval:
        return summarize_resamples(estimate, np.asarray(resampled), confidence=confidence)

    options = {"cluster": cluster, "confidence": confidence, "clip": clip}
    intercept = calibration_intercept(positive, probabilities, **options)
    summary = CalibrationSummary(
        n=positive.size,
        n_positive=int(positive.sum()),
        n_clipped=intercept.n_clipped,
        intercept=intercept,
        slope=calibration_slope(positive, probabilities, **options),
        joint_intercept=joint_calibration(positive, probabilities, clip=clip)[0],
        expected_observed=interval(expected_observed_ratio(positive, probabilities), ratios),
        brier=interval(brier_score(positive, probabilities), squared / n),
        scaled_brier=interval(scaled_brier_score(positive, probabilities), scaled),
        ici=interval(errors.ici, icis),
        errors=errors,
        hosmer_lemeshow=hosmer_lemeshow(positive, probabilities, fitted_on_these_data=fitted_on_these_data),
    )
    return summary, curve


def _log_odds(y_true: ArrayLike, y_prob: ArrayLike, clip: float) -> tuple[np.ndarray, np.ndarray, int]:
    if not 0 < clip < 0.5:
        raise ValueError(f"clip must lie between 0 and 0.5, not {clip}")
    positive = as_labels(y_true)
    probabilities = as_probabilities(y_prob, positive.size)
    inside = np.clip(probabilities, clip, 1 - clip)
    return positive, logit(inside), int(np.count_nonzero(inside != probabilities))


def _no_slope(positive: np.ndarray, log_odds: np.ndarray) -> str:
    """Why a logistic slope does not exist, or an empty string."""
    if positive.all() or not positive.any():
        return "one class only"
    if np.ptp(log_odds) == 0:
        return "constant predictions"
    cases, controls = log_odds[positive], log_odds[~positive]
    if cases.min() >= controls.max() or cases.max() <= controls.min():
        return "classes are separated"
    return ""


def _logistic(
    positive: np.ndarray,
    design: np.ndarray,
    offset: np.ndarray | None = None,
    *,
    cluster: ArrayLike | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Maximum likelihood coefficients and standard errors, the latter from a sandwich between clusters where given."""
    model = sm.GLM(positive.astype(float), design, family=sm.families.Binomial(), offset=offset)
    with np.errstate(over="ignore"):  # log odds beyond 700 on the way, where a probability is 0 all the same
        fitted = model.fit(maxiter=200, tol_criterion="params", tol=1e-10)
    if cluster is None:
        return fitted.params, fitted.bse
    codes = as_cluster_codes(cluster, positive.size)
    n_clusters = int(codes.max()) + 1
    if n_clusters < 2:
        return fitted.params, np.full(fitted.bse.shape, nan)
    totals = np.zeros((n_clusters, design.shape[1]))
    np.add.at(totals, codes, design * (positive - fitted.fittedvalues)[:, None])
    bread = fitted.cov_params()
    sandwich = n_clusters / (n_clusters - 1) * bread @ (totals.T @ totals) @ bread
    return fitted.params, np.sqrt(np.diag(sandwich))


def _wald(value: float, standard_error: float, confidence: float, n_clipped: int) -> CalibrationEstimate:
    half = stats.norm.ppf(0.5 + as_confidence(confidence) / 2) * standard_error
    return CalibrationEstimate(float(value), float(value - half), float(value + half), float(standard_error), n_clipped)


def _lowess_at(positive: np.ndarray, probabilities: np.ndarray, at: np.ndarray, frac: float) -> np.ndarray:
    """Lowess fit read off at probabilities `at`; nan outside the observed range."""
    values, first, ties = np.unique(probabilities, return_index=True, return_counts=True)
    outcome = positive.astype(float)
    if values.size == 1:
        return np.where(at == values[0], outcome.mean(), nan)
    with np.errstate(invalid="ignore"):  # a neighborhood without width, mended below
        # delta is R's default; without it a fit costs n local regressions
        fitted = lowess(
            outcome, probabilities, frac=frac, it=0, delta=0.01 * np.ptp(probabilities), return_sorted=False
        )
    fitted = fitted[first]
    # where equal probabilities fill a whole neighborhood, statsmodels gives nan and R the mean outcome of the tie
    alone = ties >= int(frac * outcome.size + 1e-10)
    for value in np.flatnonzero(alone):
        fitted[value] = outcome[probabilities == values[value]].mean()
    known = np.isfinite(fitted)
    return np.interp(at, values[known], fitted[known], left=nan, right=nan)


def _indices(weights: np.ndarray) -> Iterator[np.ndarray]:
    """Row indices of each resample, from how often each row is in it (b, n)."""
    for row in weights.astype(int):
        yield np.repeat(np.arange(row.size), row)
