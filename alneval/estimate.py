"""One result type for every statistic, how it is written, and its interval over resampled patients.

A statistic is a function of (units, weights (b, n)) that gives (b,) or (b, k): weights say how often a unit is in each
resample, so that a thousand resamples are one product and no loop. Closed-form intervals of an AUC live in `delong`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from math import isnan, nan

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy import stats
from scipy.special import expit, logit

from alneval.units import Units

Statistic = Callable[[Units, np.ndarray], np.ndarray]

CHUNK_ELEMENTS = 2_000_000
"""Weights held at once: 16 MB of float64. Changing it changes the random draws of stratified resamples."""


@dataclass(frozen=True)
class Estimate:
    """A value with its interval: numbers, or arrays (k,) of a statistic of k values; nan where it does not exist.

    p, statistic, degrees_of_freedom: of a test, if it is one; values: the two whose difference `value` is; method: how it was
    compared; n_undefined: resamples left out because a class was missing or the value not finite.
    """

    value: float | np.ndarray
    low: float | np.ndarray = nan
    high: float | np.ndarray = nan
    standard_error: float | np.ndarray = nan
    p: float | None = None
    statistic: float | None = None
    degrees_of_freedom: float | None = None
    n: int | None = None
    n_positive: int | None = None
    n_patients: int | None = None
    n_undefined: int = 0
    values: tuple[float, ...] = ()
    method: str = ""

    def __format__(self, digits: str) -> str:
        text = format_interval(self.value, self.low, self.high, int(digits or 3))
        return text if self.p is None else f"{text}, {format_p(self.p)}"

    def __str__(self) -> str:
        return format(self)

    def named(self, name: str) -> dict[str, float]:
        """{name, name_low, name_high}, as tables hold it."""
        return {name: self.value, f"{name}_low": self.low, f"{name}_high": self.high}


def format_interval(value: float, low: float, high: float, digits: int = 3) -> str:
    """Write an estimate as "0.819 (0.734 to 0.903)"; "not estimable" where there is none."""
    if isnan(value):
        return "not estimable"
    if isnan(low) or isnan(high):
        return f"{value:.{digits}f} (no interval)"
    return f"{value:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def format_p(p: float) -> str:
    """Write a p value as "p = 0.043", "p < 0.001" or, for nan, "no p"."""
    if isnan(p):
        return "no p"
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


def resamples(
    units: Units, n: int, rng: np.random.Generator, *, stratified: bool = True, strata: ArrayLike | None = None
) -> Iterator[np.ndarray]:
    """Chunks (b, n units) of how often each unit is in each of n resamples; whole patients are drawn.

    stratified keeps the numbers of patients with and without a positive unit; strata: (n units,) other labels to keep,
    of which the highest of a patient's units counts. Raises ValueError for n below 1.
    """
    if n < 1:
        raise ValueError(f"the number of resamples must be at least 1, not {n}")
    k = units.n_patients
    stratum = np.zeros(k, dtype=int)
    if stratified:
        np.maximum.at(stratum, units.patient, pd.factorize(_labels(units, strata), sort=True)[0])
    groups = [np.flatnonzero(stratum == value) for value in np.unique(stratum)]
    rows = max(1, CHUNK_ELEMENTS // max(len(units), k))
    for start in range(0, n, rows):
        count = min(rows, n - start)
        weights = np.zeros((count, k))
        for members in groups:
            drawn = rng.integers(0, members.size, size=(count, members.size))
            drawn += members.size * np.arange(count)[:, None]
            weights[:, members] = np.bincount(drawn.ravel(), minlength=count * members.size).reshape(count, -1)
        yield weights[:, units.patient] if units.clustered else weights


def interval(
    statistic: Statistic,
    units: Units,
    rng: np.random.Generator,
    *,
    n: int = 2000,
    stratified: bool = True,
    strata: ArrayLike | None = None,
    confidence: float = 0.95,
    method: str = "percentile",
) -> Estimate:
    """The statistic with its interval over resampled patients (`resamples`).

    method "percentile"; "logit": normal on the log odds, for shares that are too high in resamples too, such as average
    precision.

    >>> from alneval import curves, example
    >>> units = Units.of_rows(example().query("model == 'image'"))
    >>> print(interval(curves.brier, units, np.random.default_rng(2026)))
    0.118 (0.087 to 0.154)
    """
    if method not in ("percentile", "logit"):
        raise ValueError(f"method must be 'percentile' or 'logit', not {method!r}")
    chunks = resamples(units, n, rng, stratified=stratified, strata=strata)
    drawn = np.concatenate([statistic(units, weights) for weights in chunks])
    value = once(statistic, units)
    found = summarize(value, drawn, confidence)
    if method == "logit" and not value < 1:
        return replace(found, low=1.0, high=1.0)
    if method == "logit":
        half = stats.norm.ppf(0.5 + confidence / 2) * found.standard_error / (value * (1 - value))
        low, high = expit([logit(value) - half, logit(value) + half])
        return replace(found, low=float(low), high=float(high))
    return found


def difference(
    statistic: Statistic,
    first: Units,
    second: Units,
    rng: np.random.Generator,
    *,
    n: int = 2000,
    stratified: bool = True,
    confidence: float = 0.95,
) -> Estimate:
    """first less second, with p. Two scores of the same units (`Units.model`) are read in the same resamples, two cohorts
    are resampled apart."""
    a, b = once(statistic, first), once(statistic, second)
    if first.positive is second.positive:
        pairs = ((statistic(first, w), statistic(second, w)) for w in resamples(first, n, rng, stratified=stratified))
        drawn, method = np.concatenate([x - y for x, y in pairs]), "bootstrap, paired"
    else:
        sides = [
            np.concatenate([statistic(units, weights) for weights in resamples(units, n, rng, stratified=stratified)])
            for units in (first, second)
        ]
        drawn, method = sides[0] - sides[1], "bootstrap, unpaired"
    found = summarize(a - b, drawn, confidence)
    return replace(found, p=two_sided_p(drawn), values=(float(a), float(b)), method=method)


def mean_interval(
    values: ArrayLike, patient: ArrayLike, rng: np.random.Generator, n: int = 2000, confidence: float = 0.95
) -> Estimate:
    """Mean of values (n,) with its percentile interval over resampled patients (n,); nan without any value.

    Raises ValueError for values that are not finite.
    """
    numbers = np.asarray(values, dtype=float)
    if numbers.size == 0:
        return Estimate(nan)
    units = Units.of(np.zeros(numbers.size), numbers, patient=patient)
    return interval(mean, units, rng, n=n, stratified=False, confidence=confidence)


def mean(units: Units, weights: np.ndarray) -> np.ndarray:
    """Mean (b,) of the first score."""
    return weights @ units.score / weights.sum(axis=1)


def once(statistic: Statistic, units: Units) -> float | np.ndarray:
    """The statistic of the units as they are."""
    return statistic(units, np.ones((1, len(units))))[0]


def summarize(value: float | np.ndarray, drawn: np.ndarray, confidence: float = 0.95) -> Estimate:
    """Percentile interval from a value and its resamples (b,) or (b, k); what is not finite is left out and counted."""
    drawn = np.asarray(drawn, dtype=float)
    undefined = int((~np.isfinite(drawn)).reshape(len(drawn), -1).any(axis=1).sum())
    known = np.where(np.isfinite(drawn), drawn, nan)
    low, high = percentile_limits(known, confidence)
    error = pd.DataFrame(known).std(ddof=1).to_numpy().reshape(known.shape[1:])[()]
    return Estimate(value, low, high, error, n_undefined=undefined)


def two_sided_p(drawn: ArrayLike) -> float:
    """Two-sided p of "the difference is zero" from resampled differences (b,): the level whose interval ends at 0.

    min(1, 2 (1 + min(#{<= 0}, #{>= 0})) / (b + 1)), Davison & Hinkley 1997, 4.2; what is not finite is left out.
    """
    values = np.asarray(drawn, dtype=float)
    values = values[np.isfinite(values)]
    if values.size == 0:
        return nan
    return min(1.0, 2 * (1 + min(np.count_nonzero(values <= 0), np.count_nonzero(values >= 0))) / (values.size + 1))


def percentile_limits(drawn: np.ndarray, confidence: float = 0.95, axis: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Lower and upper percentile limits along `axis`, resamples that are nan left out; nan where all are. Raises ValueError
    for a confidence that is not between 0 and 1."""
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must lie between 0 and 1, not {confidence}")
    tails = [(1 - confidence) / 2, 1 - (1 - confidence) / 2]
    nowhere = np.isnan(drawn).all(axis=axis, keepdims=True)
    quantile = np.nanquantile if np.isnan(drawn).any() else np.quantile
    low, high = quantile(np.where(nowhere, 0.0, drawn), tails, axis=axis)
    nowhere = np.squeeze(nowhere, axis=axis)
    return np.where(nowhere, nan, low)[()], np.where(nowhere, nan, high)[()]


def _labels(units: Units, strata: ArrayLike | None) -> np.ndarray:
    labels = units.positive if strata is None else np.asarray(strata)
    if labels.shape != (len(units),):
        raise ValueError(f"strata must have shape ({len(units)},), not {labels.shape}")
    return labels
