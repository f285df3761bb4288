"""How far repeated measurements of the same subjects agree."""

from __future__ import annotations

import numpy as np
from scipy import stats

_ROUNDING = 1e-12
_NO_RESIDUAL = 1e-24


def intraclass_correlation(values: np.ndarray, confidence: float = 0.95) -> np.ndarray:
    """(3, ...) ICC(2,1), low and high end of its interval, of values (n subjects, k repeats, ...) without gaps.

    Absolute agreement, repeats random: a contour that shifts a feature for everybody counts against it. Two-way layout,
    single measurement: Shrout & Fleiss 1979, Psychol Bull 86:420; interval by Satterthwaite's degrees of freedom as there.
    NaN where subjects and repeats do not differ at all. Raises ValueError for fewer than two subjects or repeats, or values
    that are not finite.
    """
    values = np.asarray(values, dtype=float)
    if values.ndim < 2 or values.shape[0] < 2 or values.shape[1] < 2:
        raise ValueError(f"values have shape {values.shape}; expected two or more subjects and repeats")
    if not np.isfinite(values).all():
        raise ValueError("values are not all finite; leave out subjects with gaps")
    n, k = values.shape[:2]
    center = values.mean(axis=(0, 1))  # sums of squares of large numbers cancel
    values = values - center
    scale = np.abs(values).max(axis=(0, 1))
    varies = scale > _ROUNDING * np.abs(center)
    values = np.where(varies, values / np.where(varies, scale, 1.0), 0.0)
    subject, repeat = values.mean(axis=1), values.mean(axis=0)
    between = k * (subject**2).sum(axis=0) / (n - 1)
    repeats = n * (repeat**2).sum(axis=0) / (k - 1)
    rest = values - subject[:, None] - repeat[None]
    error = (rest**2).sum(axis=(0, 1)) / ((n - 1) * (k - 1))
    error = np.maximum(error, _NO_RESIDUAL * between)  # the interval goes on smoothly to where there is none
    tail = 0.5 + 0.5 * confidence
    with np.errstate(divide="ignore", invalid="ignore"):
        icc = (between - error) / (between + (k - 1) * error + k * (repeats - error) / n)
        ratio = repeats / error
        agreed = k * icc * ratio + n * (1 + (k - 1) * icc) - k * icc
        spread = (n - 1) * k**2 * icc**2 * ratio**2 + (n * (1 + (k - 1) * icc) - k * icc) ** 2
        freedom = (k - 1) * (n - 1) * agreed**2 / spread
        upper, lower = stats.f.ppf(tail, n - 1, freedom), stats.f.ppf(tail, freedom, n - 1)
        rest_of = k * repeats + (k * n - k - n) * error
        low = n * (between - upper * error) / (upper * rest_of + n * between)
        high = n * (lower * between - error) / (rest_of + n * lower * between)
        return np.stack([icc, low, high])
