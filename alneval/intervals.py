"""Intervals for a proportion, and how an estimate with its interval is written.

Intervals of AUCs, of resampled statistics and of calibration live with those statistics.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import isnan, nan

from statsmodels.stats.proportion import proportion_confint

from alneval.inputs import as_confidence


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


@dataclass(frozen=True)
class Proportion:
    """count of n with its interval; value, low and high are nan when n is 0."""

    count: int
    n: int
    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{format_interval(self.value, self.low, self.high)}, {self.count}/{self.n}"


def wilson_interval(count: int, n: int, confidence: float = 0.95) -> Proportion:
    """Wilson score interval of count/n, without continuity correction; nan when n is 0.

    Wilson 1927, J Am Stat Assoc 22:209; R `prop.test(correct = FALSE)`. At count 0 and n one end is exactly 0 or 1.
    Raises ValueError unless 0 <= count <= n.
    """
    return _proportion(count, n, "wilson", confidence)


def clopper_pearson_interval(count: int, n: int, confidence: float = 0.95) -> Proportion:
    """Exact (Clopper-Pearson 1934) interval of count/n, as R `binom.test`; nan when n is 0.

    Raises ValueError unless 0 <= count <= n.
    """
    return _proportion(count, n, "beta", confidence)


def _proportion(count: int, n: int, method: str, confidence: float) -> Proportion:
    confidence = as_confidence(confidence)
    if int(count) != count or int(n) != n or not 0 <= count <= n:
        raise ValueError(f"need whole numbers with 0 <= count <= n, not count={count}, n={n}")
    count, n = int(count), int(n)
    if n == 0:
        return Proportion(0, 0, nan, nan, nan)
    low, high = proportion_confint(count, n, alpha=1 - confidence, method=method)
    # the formulas give 0 and 1 at the ends only up to rounding
    low = 0.0 if count == 0 else float(low)
    high = 1.0 if count == n else float(high)
    return Proportion(count, n, count / n, low, high)
