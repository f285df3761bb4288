"""Interval of a proportion. Intervals of AUCs live in `delong`, resampled ones in `estimate`."""

from __future__ import annotations

from math import nan

from statsmodels.stats.proportion import proportion_confint

from alneval.estimate import Estimate


def wilson_interval(count: int, n: int, confidence: float = 0.95) -> Estimate:
    """Wilson score interval of count/n, without continuity correction; nan when n is 0. `n` and `n_positive` hold n and count.

    Wilson 1927, J Am Stat Assoc 22:209; R `prop.test(correct = FALSE)`. At count 0 and n one end is exactly 0 or 1.
    Raises ValueError unless 0 <= count <= n.
    """
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must lie between 0 and 1, not {confidence}")
    if int(count) != count or int(n) != n or not 0 <= count <= n:
        raise ValueError(f"need whole numbers with 0 <= count <= n, not count={count}, n={n}")
    count, n = int(count), int(n)
    if n == 0:
        return Estimate(nan, n=0, n_positive=0)
    low, high = proportion_confint(count, n, alpha=1 - confidence, method="wilson")
    # the formula gives 0 and 1 at the ends only up to rounding
    low, high = 0.0 if count == 0 else float(low), 1.0 if count == n else float(high)
    return Estimate(count / n, low, high, n=n, n_positive=count)
