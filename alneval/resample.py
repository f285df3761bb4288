"""Resampling of patients: one interval for any statistic of weighted units, and for differences of it.

A statistic is a function of (units, weights (b, n)) that gives (b,) or (b, k): weights say how often a unit is in each
resample, so that a thousand resamples are one product and no loop.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from scipy import stats

from alneval.units import Units

Statistic = Callable[[Units, np.ndarray], np.ndarray]
CHUNK_ELEMENTS = 2_000_000
"""Weights held at once: 16 MB of float64."""


@dataclass(frozen=True)
class Resampled:
    """value, low, high, standard_error: numbers, or (k,) for a statistic of k values; p: of a difference, else None.
    n_undefined resamples (a class missing, a value not finite) are left out."""

    value: float | np.ndarray
    low: float | np.ndarray
    high: float | np.ndarray
    standard_error: float | np.ndarray
    n_undefined: int
    p: float | None = None


def interval(
    statistic: Statistic,
    units: Units,
    rng: np.random.Generator,
    *,
    n: int = 2000,
    stratified: bool = True,
    confidence: float = 0.95,
    method: str = "percentile",
) -> Resampled:
    """The statistic with its interval over resampled patients; stratified keeps the numbers with and without a positive
    unit. method "percentile"; "logit": normal on the log odds, for shares that are biased in resamples too."""
    drawn = np.concatenate([statistic(units, weights) for weights in resamples(units, n, rng, stratified)])
    return _summary(once(statistic, units), drawn, confidence, method)


def difference(
    statistic: Statistic,
    first: Units,
    second: Units,
    rng: np.random.Generator,
    *,
    n: int = 2000,
    stratified: bool = True,
    confidence: float = 0.95,
) -> Resampled:
    """first less second, with p. Two scores of the same units (`Units.model`) are read in the same resamples, two cohorts
    are resampled apart. p: twice the smaller share of resamples beyond zero (Davison & Hinkley 1997, 4.2)."""
    value = once(statistic, first) - once(statistic, second)
    if first.positive is second.positive:
        pairs = ((statistic(first, w), statistic(second, w)) for w in resamples(first, n, rng, stratified))
        drawn = np.concatenate([a - b for a, b in pairs])
    else:
        sides = [[statistic(u, w) for w in resamples(u, n, rng, stratified)] for u in (first, second)]
        drawn = np.concatenate(sides[0]) - np.concatenate(sides[1])
    found = _summary(value, drawn, confidence, "percentile")
    known = drawn[np.isfinite(drawn)]
    beyond = min(np.count_nonzero(known <= 0), np.count_nonzero(known >= 0))
    return Resampled(**{**vars(found), "p": min(1.0, 2 * (1 + beyond) / (known.size + 1)) if known.size else np.nan})


def once(statistic: Statistic, units: Units) -> float | np.ndarray:
    """The statistic of the units as they are."""
    return statistic(units, np.ones((1, len(units))))[0]


def resamples(units: Units, n: int, rng: np.random.Generator, stratified: bool = True) -> Iterator[np.ndarray]:
    """Chunks (b, n units) of how often each unit is in each resample; whole patients are drawn."""
    k = units.n_patients
    stratum = np.zeros(k, dtype=int)
    if stratified:
        np.maximum.at(stratum, units.patient, units.positive.astype(int))
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


def percentile_limits(drawn: np.ndarray, confidence: float) -> tuple[np.ndarray, np.ndarray]:
    """Limits along the first axis, resamples that are nan left out; nan where all are."""
    tail = (1 - confidence) / 2
    nowhere = np.isnan(drawn).all(axis=0)
    low, high = np.nanquantile(np.where(nowhere, 0.0, drawn), [tail, 1 - tail], axis=0)
    return np.where(nowhere, np.nan, low)[()], np.where(nowhere, np.nan, high)[()]


def _summary(value, drawn: np.ndarray, confidence: float, method: str) -> Resampled:
    undefined = int((~np.isfinite(drawn)).reshape(len(drawn), -1).any(axis=1).sum())
    known = np.where(np.isfinite(drawn), drawn, np.nan)
    error = np.nanstd(known, axis=0, ddof=1)
    low, high = percentile_limits(known, confidence)
    if method == "logit" and value < 1:
        half = stats.norm.ppf(0.5 + confidence / 2) * error / (value * (1 - value))
        low, high = (1 / (1 + np.exp(-(np.log(value / (1 - value)) + sign * half))) for sign in (-1, 1))
    return Resampled(value, low, high, error, undefined)
