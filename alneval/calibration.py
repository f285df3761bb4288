"""Calibration of probabilities: intercept, slope, Brier, observed/expected, Hosmer-Lemeshow, flexible curve.

Of the first score of the units, a probability. Ranking lives in `delong`; figures live in `alneval.figures`.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import nan

import numpy as np
from scipy import stats
from scipy.interpolate import CubicHermiteSpline
from scipy.special import expit, logit
from statsmodels.nonparametric.smoothers_lowess import lowess

from alneval.curves import brier
from alneval.estimate import CHUNK_ELEMENTS, Estimate, once, percentile_limits, resamples, summarize
from alneval.units import Units

CLIP = 1e-6
"""Probabilities nearer to 0 or 1 than this are moved here before their log odds are taken, and counted."""

SPAN = 0.75
"""Share of units in each local fit of loess, R's default and that of Austin & Steyerberg 2019."""

FRACTION = 2 / 3
"""Share of units in each local fit of lowess, R's default."""

VERTICES = 1000
"""Loess is fitted at as many probabilities at equal ranks and as many at equal distances, or at all of them if fewer; from one to
the next leads a cubic by value and slope, as R interpolates (Cleveland & Grosse 1991, Stat Comput 1:47). With 4,000 and
10,000 patients it moved the ICI by less than 1e-7."""

RESAMPLED_VERTICES = 64
"""The same in a resample. In 220 simulated cohorts of 100 to 10,000 patients it moved the ICI by at most 6e-5 and the curve by
at most 0.0042."""

ILL_CONDITIONED = 1e-8
"""Smallest eigenvalue of scaled normal equations below which a local fit is solved by singular values instead."""


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
    observed_expected: Estimate
    brier: Estimate
    scaled_brier: Estimate
    ici: Estimate
    errors: CalibrationErrors
    lowess_errors: CalibrationErrors
    hosmer_lemeshow: Estimate
    curve: CalibrationCurve


def calibration_intercept(units: Units) -> Estimate:
    """Calibration-in-the-large: intercept of a logistic model with the log odds of the probability as offset (slope 1).

    0 is ideal, negative means predicted risks are too high. 95 % Wald interval. Where a patient has several units the
    variance is the sandwich between patients times k / (k - 1), as R `sandwich::vcovCL(type = "HC0")` (Liang & Zeger 1986,
    Biometrika 73:13), nan for one patient. With one class only, or where every probability is 0 or 1 and the answer would be
    that of CLIP: nan. R `glm(y ~ 1, offset = qlogis(p), family = binomial)`; Steyerberg 2019, Clinical Prediction Models, 15.3.
    """
    if not units.has_both_classes or is_certain(units.probability).all():
        return Estimate(nan)
    return _logistic(units, np.ones((len(units), 1)), offset=log_odds(units.probability))[0]


def calibration_slope(units: Units) -> Estimate:
    """Slope of a logistic model on the log odds of the probability: 1 is ideal, below 1 means predictions too extreme.

    Interval as `calibration_intercept`. Nan where no finite slope exists (`no_slope`), and where every probability is 0 or 1. R
    `glm(y ~ qlogis(p), family = binomial)`; Cox 1958, Biometrika 45:562.
    """
    return Estimate(nan) if is_certain(units.probability).all() else joint_calibration(units)[1]


def joint_calibration(units: Units) -> tuple[Estimate, Estimate]:
    """Intercept and slope fitted together, as "Intercept" and "Slope" of R `rms::val.prob`; nan where no slope exists.

    This intercept is not calibration-in-the-large: see `calibration_intercept`. val.prob drops probabilities of 0
    and 1, here they are clipped; where all are, the two together say what share of either call is positive.
    """
    if no_slope(units):
        return Estimate(nan), Estimate(nan)
    intercept, slope = _logistic(units, np.vander(log_odds(units.probability), 2, increasing=True))
    return intercept, slope


def log_odds(probability: np.ndarray) -> np.ndarray:
    """Log odds (n,) of probabilities (n,), those nearer than CLIP to 0 or 1 moved there."""
    return logit(np.clip(probability, CLIP, 1 - CLIP))


def is_certain(probability: np.ndarray) -> np.ndarray:
    """Which probabilities (n,) are 0 or 1, or nearer to them than CLIP, and have no log odds of their own."""
    return (probability < CLIP) | (probability > 1 - CLIP)


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


def observed_expected_ratio(units: Units, weights: np.ndarray) -> np.ndarray:
    """O:E, positives over the sum of probabilities, (b,): below 1 means predicted risks are too high; not finite if all are 0."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return (weights @ units.positive) / (weights @ units.probability)


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


def flexible_curve(units: Units, at: np.ndarray, smoother: str = "loess") -> np.ndarray:
    """Smooth curve of outcome on probability, read at probabilities `at`; nan outside the range of the probabilities.

    smoother "loess": local regression of degree 2 over SPAN of the units, as R `loess(y ~ p, control = loess.control(surface =
    "direct"))` at the units' probabilities, straight lines between (Cleveland & Devlin 1988, J Am Stat Assoc 83:596). Where equal
    probabilities fill a whole neighborhood, their mean outcome; R warns there and gives 0. "lowess": of degree 1 without
    robustness steps, as in R `rms::val.prob`; points closer than 1 % of the range are interpolated. Neither is forced into
    [0, 1]. Raises ValueError for another smoother.
    """
    if smoother == "lowess":
        return _lowess_at(units.positive, units.probability, at)
    if smoother != "loess":
        raise ValueError(f"smoother must be 'loess' or 'lowess', not {smoother!r}")
    values, place = np.unique(units.probability, return_inverse=True)
    curve = loess_curve(values, np.bincount(place), np.bincount(place, weights=units.positive))
    return np.interp(at, values, curve, left=nan, right=nan)


def calibration_errors(units: Units, smoother: str = "loess") -> CalibrationErrors:
    """ICI, E50, E90 and Emax: distance between flexible curve and diagonal at the units' probabilities.

    smoother: of `flexible_curve`. By "loess" they are those of Austin & Steyerberg 2019 (Stat Med 38:4051) and Van Calster
    2025 (Lancet Digit Health 7:100916), by "lowess" Eavg, E90 and Emax of R `rms::val.prob`. For constant predictions the
    distance to the prevalence.
    """
    return _errors(units, flexible_curve(units, units.probability, smoother))


def calibration_summary(units: Units, rng: np.random.Generator, *, n_bootstrap: int = 1000) -> CalibrationSummary:
    """Intercept, slope, O:E, Brier, ICI, Hosmer-Lemeshow and flexible curve (loess) of one model on one cohort.

    Intercept and slope have Wald intervals, the others percentile intervals over resampled patients; a resample speaks for
    its own range of the curve only, and is smoothed between RESAMPLED_VERTICES. A constant prediction or a missing class gives
    nan where a quantity does not exist, never an exception.

    >>> from alneval import example
    >>> units = Units.of_rows(example().query("model == 'image'"))
    >>> print(calibration_summary(units, np.random.default_rng(2026), n_bootstrap=40).slope)
    2.189 (1.112 to 3.266)
    """
    positive, probability = units.positive, units.probability
    grid, place = np.unique(probability, return_inverse=True)
    statistics = {"observed_expected": observed_expected_ratio, "brier": brier, "scaled_brier": scaled_brier}
    drawn: dict[str, list[np.ndarray]] = {name: [] for name in statistics}
    icis, curves = [], []
    for weights in resamples(units, n_bootstrap, rng, stratified=False):
        for name, statistic in statistics.items():
            drawn[name].append(statistic(units, weights))
        for row in weights:
            counts, positives = np.bincount(place, weights=row), np.bincount(place, weights=row * positive)
            curves.append(loess_curve(grid, counts, positives, RESAMPLED_VERTICES))
            icis.append(np.average(np.abs(curves[-1] - grid)[counts > 0], weights=counts[counts > 0]))
    curve = flexible_curve(units, grid)
    errors = _errors(units, curve[place])
    resampled = {name: summarize(once(of, units), np.concatenate(drawn[name])) for name, of in statistics.items()}
    return CalibrationSummary(
        n=len(units),
        n_positive=int(positive.sum()),
        n_clipped=int(np.count_nonzero(is_certain(probability))),
        intercept=calibration_intercept(units),
        slope=calibration_slope(units),
        **resampled,
        ici=summarize(errors.ici, np.array(icis)),
        errors=errors,
        lowess_errors=calibration_errors(units, "lowess"),
        hosmer_lemeshow=hosmer_lemeshow(units),
        curve=CalibrationCurve(grid, curve, *percentile_limits(np.array(curves), 0.95)),
    )


def _errors(units: Units, curve: np.ndarray) -> CalibrationErrors:
    distance = np.abs(curve - units.probability)
    e50, e90 = np.quantile(distance, [0.5, 0.9])
    return CalibrationErrors(float(distance.mean()), float(e50), float(e90), float(distance.max()))


def loess_curve(grid: np.ndarray, counts: np.ndarray, positives: np.ndarray, vertices: int = VERTICES) -> np.ndarray:
    """Loess curve (k,) at distinct sorted probabilities `grid` (k,), of which counts (k,) units have each, positives (k,) of
    them positive; nan outside the range of those that have any."""
    held = counts > 0
    values, counts, positives = grid[held], counts[held].astype(int), positives[held]
    if values.size <= 2 * vertices:
        return np.interp(grid, values, _local_fits(values, counts, positives, values)[0], left=nan, right=nan)
    by_rank = np.linspace(0, values.size - 1, vertices).astype(int)
    by_value = np.searchsorted(values, np.linspace(values[0], values[-1], vertices))
    at = values[np.union1d(by_rank, by_value)]
    return CubicHermiteSpline(at, *_local_fits(values, counts, positives, at), extrapolate=False)(grid)


def _local_fits(
    values: np.ndarray, counts: np.ndarray, positives: np.ndarray, at: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Value and slope, each (k,), of the local quadratic at probabilities `at` (k,), which are among `values`.

    values: (m,) distinct and sorted; counts, positives: (m,) units there, and the positive ones. Tricube weights reach to the
    nearest floor(n SPAN + 1e-5) units, as in R.
    """
    width = _neighborhood(np.repeat(values, counts), at)
    outcomes = np.column_stack([counts, positives])
    level, slope = np.empty(at.size), np.empty(at.size)
    rows = max(1, CHUNK_ELEMENTS // values.size)
    alone = width <= np.finfo(float).tiny  # one score, or scores that no division can tell apart
    width = np.where(alone, 1.0, width)
    for chunk in (slice(start, start + rows) for start in range(0, at.size, rows)):
        distance = (values - at[chunk, None]) / width[chunk][:, None]
        weights = np.clip(1 - np.abs(distance) * distance * distance, 0, None)
        weights = weights * weights * weights  # powers by name take ten times as long
        coefficients = _quadratics(distance, weights, outcomes)
        level[chunk], slope[chunk] = coefficients[:, 0], coefficients[:, 1] / width[chunk]
    level[alone], slope[alone] = (positives / counts)[np.searchsorted(values, at[alone])], 0.0
    return level, slope


def _neighborhood(ordered: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Distance (k,) of probabilities `at` (k,) to the farthest of the nearest floor(n SPAN + 1e-5) of `ordered` (n,)."""
    q = max(1, int(ordered.size * SPAN + 1e-5))
    first, last = ordered[: ordered.size - q + 1], ordered[q - 1 :]
    # the nearest q lie side by side: the first window that reaches farther up than down, or the one before it
    window = np.searchsorted(first + last, 2 * at)
    up = np.where(window < first.size, last[np.minimum(window, first.size - 1)] - at, np.inf)
    down = np.where(window > 0, at - first[np.maximum(window - 1, 0)], np.inf)
    return np.maximum(np.minimum(up, down), 0.0)


def _quadratics(distance: np.ndarray, weights: np.ndarray, outcomes: np.ndarray) -> np.ndarray:
    """Coefficients (k, 3) of weighted quadratics in `distance` (k, m); outcomes: (m, 2) units and positive units."""
    power, moments = weights, []
    for _ in range(5):
        moments.append(power @ outcomes)
        power = power * distance
    sums = np.array(moments)  # (5, k, 2)
    gram = np.stack([sums[i : i + 3, :, 0] for i in range(3)]).transpose(2, 0, 1)
    scale = np.sqrt(np.einsum("kii->ki", gram))
    scale[scale == 0] = 1
    gram = gram / (scale[:, :, None] * scale[:, None, :])
    ill = np.linalg.eigvalsh(gram)[:, 0] < ILL_CONDITIONED
    gram[ill] = np.eye(3)
    coefficients = np.linalg.solve(gram, (sums[:3, :, 1].T / scale)[:, :, None])[:, :, 0] / scale
    for row in np.flatnonzero(ill):  # two distinct probabilities, or hardly more: the shortest solution, as R's
        root = np.sqrt(weights[row] * outcomes[:, 0])
        design = root[:, None] * np.vander(distance[row], 3, increasing=True) / scale[row]
        response = root * outcomes[:, 1] / outcomes[:, 0]
        coefficients[row] = np.linalg.lstsq(design, response, rcond=100 * np.finfo(float).eps)[0] / scale[row]
    return coefficients


def _logistic(units: Units, design: np.ndarray, offset: np.ndarray | float = 0.0) -> list[Estimate]:
    """Maximum likelihood coefficients with Wald intervals, from a sandwich between patients where one has several units.

    Newton's steps, halved until the likelihood rises: whole ones, as `glm` takes, run away where log odds are far out.
    """

    def log_likelihood(coefficients: np.ndarray) -> float:
        log_odds = offset + design @ coefficients
        return float(log_odds[units.positive].sum() - np.logaddexp(0, log_odds).sum())

    found = np.zeros(design.shape[1])
    reached = log_likelihood(found)
    for _ in range(200):
        fitted = expit(offset + design @ found)
        spread = np.linalg.inv((design * (fitted * (1 - fitted))[:, None]).T @ design)
        step = spread @ (design.T @ (units.positive - fitted))
        while (higher := log_likelihood(found + step)) < reached and np.abs(step).max() > 1e-10:
            step = step / 2
        if np.abs(step).max() <= 1e-10:
            break
        found, reached = found + step, higher
    errors = np.sqrt(np.diag(spread))
    if units.n_patients < 2:
        errors = np.full(errors.shape, nan)
    elif units.clustered:
        totals = np.zeros((units.n_patients, design.shape[1]))
        np.add.at(totals, units.patient, design * (units.positive - fitted)[:, None])
        sandwich = units.n_patients / (units.n_patients - 1) * spread @ (totals.T @ totals) @ spread
        errors = np.sqrt(np.diag(sandwich))
    halves = stats.norm.ppf(0.975) * errors
    return [
        Estimate(float(b), float(b - h), float(b + h), float(e)) for b, h, e in zip(found, halves, errors, strict=True)
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
