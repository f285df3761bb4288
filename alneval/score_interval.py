"""Score intervals of a weighted difference of two shares of the same patients, such as a net benefit.

Resampled intervals live in `estimate`, Wilson's interval of one share in `intervals`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

BISECTIONS = 40
"""Halvings of a range of at most 1 + weight: limits to 1e-12 of it."""


def weighted_difference_interval(
    gained: ArrayLike,
    lost: ArrayLike,
    weight: ArrayLike,
    *,
    patient: np.ndarray | None = None,
    confidence: float = 0.95,
) -> tuple[np.ndarray, np.ndarray]:
    """Score limits (t,) and (t,) of mean(gained) - weight x mean(lost), for t pairs of marks on the same n units.

    gained, lost: (n, t) 0/1, never both 1 (true and false positives at t thresholds, say); weight: (t,), not negative.
    The limits are the values that a score test does not reject: the distance to the estimate is measured by the
    multinomial variance under that value, as Wilson does for one share (weight 0 is Wilson's interval) and Tango 1998
    (Stat Med 17:891) for a difference of paired shares (weight 1). So an interval has width where nobody is marked.

    patient: (n,) codes, as of `Units`. Counts are divided by the design effect, the variance of the estimate between patients
    over that of as many unrelated units, as Rao & Scott 1992 (Biometrics 48:577) do for one share; it is not taken to
    be below 1, and where nobody is marked a patient counts as one unit. Raises ValueError on shapes that do not fit.
    """
    gained, lost = np.asarray(gained, dtype=float), np.asarray(lost, dtype=float)
    weight = np.asarray(weight, dtype=float)
    if gained.ndim != 2 or gained.shape != lost.shape or weight.shape != gained.shape[1:]:
        raise ValueError(f"need (n, t), (n, t) and (t,), not {gained.shape}, {lost.shape} and {weight.shape}")
    if (weight < 0).any() or (gained * lost).any():
        raise ValueError("weights must not be negative, and no unit may be both gained and lost")
    size = np.full(weight.shape, float(len(gained)))
    if patient is not None:
        size /= _design_effects(gained - weight * lost, patient)
    return _score_limits(gained.mean(axis=0), lost.mean(axis=0), size, weight, confidence)


def _design_effects(values: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """Variance (t,) of the means of values (n, t) over clusters, against the variance over units."""
    centered = values - values.mean(axis=0)
    n, n_clusters = len(values), int(codes.max()) + 1
    if n_clusters < 2:
        return np.full(values.shape[1], float(n))
    totals = np.zeros((n_clusters, values.shape[1]))
    np.add.at(totals, codes, centered)
    between = n_clusters / (n_clusters - 1) * (totals**2).sum(axis=0)
    within = (centered**2).sum(axis=0)
    unmarked = within <= 1e-12 * n
    return np.where(unmarked, n / n_clusters, np.maximum(between / np.where(unmarked, 1.0, within), 1.0))


def _score_limits(
    gained: np.ndarray, lost: np.ndarray, size: np.ndarray, weight: np.ndarray, confidence: float
) -> tuple[np.ndarray, np.ndarray]:
    """Limits (t,), (t,) from shares (t,) of `size` (t,) units."""
    allowed = stats.norm.ppf(0.5 + confidence / 2) ** 2
    estimate = gained - weight * lost

    inside, outside = np.stack([estimate, estimate]), np.stack([-weight, np.ones(weight.shape)])
    for _ in range(BISECTIONS):
        middle = (inside + outside) / 2
        variance = _restricted_variance(gained, lost, weight, middle) / size
        rejected = (estimate - middle) ** 2 > allowed * variance
        inside, outside = np.where(rejected, inside, middle), np.where(rejected, middle, outside)
    low, high = (inside + outside) / 2
    return low, high


def _restricted_variance(gained: np.ndarray, lost: np.ndarray, weight: np.ndarray, value: np.ndarray) -> np.ndarray:
    """Variance (2, t) of one unit's contribution when shares are those of greatest likelihood with difference `value`.

    With q the share lost, the share gained is value + weight q; the derivative of the log likelihood of q is zero at
    the larger root of a quadratic.
    """
    leading = weight * (1 + weight)
    linear = (gained + lost) * weight * (1 - value) - (1 - gained) * (1 + weight) * value
    constant = lost * value * (1 - value)
    root = np.sqrt(np.maximum(linear**2 + 4 * leading * constant, 0))
    # weight times the share lost: without weight it does not matter
    weighted = np.maximum((linear + root) / (2 * (1 + weight)), np.maximum(-value, 0))
    return np.maximum(value + (1 + weight) * weighted - value**2, 0)
