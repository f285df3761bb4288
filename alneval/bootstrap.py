"""Bootstrap: resampling of units or patients, fast AUC resamples, percentile and BCa intervals, differences.

Closed-form variances live in `roc`; statistics that are resampled (calibration, net benefit) live in their own modules.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import nan
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy import stats

from alneval.inputs import as_cluster_codes, as_confidence, as_labels, as_scores
from alneval.intervals import format_interval, format_p
from alneval.roc import auc, placement_values

CHUNK_ELEMENTS = 2_000_000
"""Weights held at once: 16 MB of float64. Changing it changes the random draws of stratified resamples."""

KERNEL_ELEMENTS = 250_000
"""Positives x negatives up to which one matrix product beats sorting (measured on two CPU cores)."""


@dataclass(frozen=True)
class BootstrapInterval:
    """A resampled statistic. The interval leaves out n_undefined resamples: a class missing, a value not finite."""

    estimate: float
    low: float
    high: float
    standard_error: float
    n_bootstrap: int
    n_undefined: int
    method: str

    def __str__(self) -> str:
        return format_interval(self.estimate, self.low, self.high)


@dataclass(frozen=True)
class BootstrapDifference:
    """Resampled difference of two AUCs, delta = auc_a - auc_b; p is two-sided."""

    auc_a: float
    auc_b: float
    delta: float
    low: float
    high: float
    standard_error: float
    p: float
    n_bootstrap: int
    n_undefined: int
    method: str

    def __str__(self) -> str:
        return f"difference {format_interval(self.delta, self.low, self.high)}, {format_p(self.p)}"


def resample_weights(
    n: int,
    n_bootstrap: int,
    rng: np.random.Generator,
    *,
    strata: ArrayLike | None = None,
    cluster: ArrayLike | None = None,
) -> Iterator[np.ndarray]:
    """Yield chunks (b, n) that say how often each unit is in each of `n_bootstrap` resamples; chunks bound the memory.

    strata: (n,) labels; each stratum keeps its size. cluster: (n,) patient ids; whole patients are drawn, and patients
    are stratified by the highest stratum label among their units (with 0/1 labels: "has a positive unit"), so that the
    number of units varies from resample to resample. Raises ValueError on lengths that differ from `n`.
    """
    if n_bootstrap < 1:
        raise ValueError(f"n_bootstrap must be at least 1, not {n_bootstrap}")
    codes = None if cluster is None else as_cluster_codes(cluster, n)
    n_drawn = n if codes is None else int(codes.max()) + 1
    groups = _drawing_groups(n, n_drawn, strata, codes)
    rows = max(1, CHUNK_ELEMENTS // max(n, n_drawn))
    for start in range(0, n_bootstrap, rows):
        count = min(rows, n_bootstrap - start)
        weights = np.zeros((count, n_drawn))
        for members in groups:
            weights[:, members] = _draw_counts(count, members.size, rng)
        yield weights if codes is None else weights[:, codes]


def weighted_auc(y_true: ArrayLike, score: ArrayLike, weights: ArrayLike) -> np.ndarray:
    """AUC of every row of weights (b, n), exact for ties; nan where a class has no weight.

    y_true: (n,) 0/1; score: (n,); weights: (b, n), how often each unit counts. For moderate n this is one product with
    the matrix of pairwise wins, for large n a cumulative sum over sorted scores; whole-number weights give the same
    bits either way, because every sum is a multiple of one half.
    """
    positive = as_labels(y_true, both_classes=True)
    score = as_scores(score, positive.size)
    weights = np.atleast_2d(np.asarray(weights, dtype=float))
    if weights.shape[1] != positive.size:
        raise ValueError(f"weights must be (b, {positive.size}), not {weights.shape}")
    n_positive = np.count_nonzero(positive)
    if n_positive * (positive.size - n_positive) <= KERNEL_ELEMENTS:
        wins, pairs = _wins_by_product(positive, score, weights)
    else:
        wins, pairs = _wins_by_sorting(positive, score, weights)
    return np.divide(wins, pairs, out=np.full(wins.shape, nan), where=pairs > 0)


def bootstrap_aucs(
    y_true: ArrayLike,
    scores: ArrayLike,
    *,
    rng: np.random.Generator,
    n_bootstrap: int = 2000,
    stratified: bool = True,
    cluster: ArrayLike | None = None,
) -> np.ndarray:
    """AUC of m scores in the same resamples: (n_bootstrap, m), nan where a class is missing.

    y_true: (n,); scores: (n, m) or (n,). stratified keeps the numbers of positives and negatives (of patients with and
    without a positive unit when `cluster`, (n,) patient ids, is given). Raises ValueError if a class is missing.
    """
    positive = as_labels(y_true, both_classes=True)
    columns = np.asarray(scores, dtype=float)
    columns = columns[:, None] if columns.ndim == 1 else columns
    strata = positive if stratified else None
    chunks = resample_weights(positive.size, n_bootstrap, rng, strata=strata, cluster=cluster)
    return np.concatenate(
        [np.column_stack([weighted_auc(positive, column, weights) for column in columns.T]) for weights in chunks]
    )


def bootstrap_auc_interval(
    y_true: ArrayLike,
    score: ArrayLike,
    *,
    rng: np.random.Generator,
    n_bootstrap: int = 2000,
    stratified: bool = True,
    cluster: ArrayLike | None = None,
    method: str = "percentile",
    confidence: float = 0.95,
) -> BootstrapInterval:
    """Bootstrap interval of one AUC, "percentile" or "bca".

    Arguments as `bootstrap_aucs`. BCa after Efron 1987 (J Am Stat Assoc 82:171) with a leave-one-unit (or one-patient)
    jackknife, each stratum in its own scale. Perfect separation gives the point 1. Raises ValueError if a class is
    missing.
    """
    positive = as_labels(y_true, both_classes=True)
    score = as_scores(score, positive.size)
    estimate = auc(positive, score)
    resampled = bootstrap_aucs(
        positive, score, rng=rng, n_bootstrap=n_bootstrap, stratified=stratified, cluster=cluster
    )[:, 0]
    acceleration = 0.0
    if method == "bca":
        codes = np.arange(positive.size) if cluster is None else as_cluster_codes(cluster, positive.size)
        groups = _drawing_groups(
            positive.size, int(codes.max()) + 1, positive if stratified else None, None if cluster is None else codes
        )
        acceleration = _acceleration(_jackknife_auc(positive, score, codes), groups)
    return summarize_resamples(estimate, resampled, method=method, acceleration=acceleration, confidence=confidence)


def bootstrap_auc_difference(
    y_true: ArrayLike,
    score_a: ArrayLike,
    score_b: ArrayLike,
    *,
    rng: np.random.Generator,
    n_bootstrap: int = 2000,
    stratified: bool = True,
    cluster: ArrayLike | None = None,
    confidence: float = 0.95,
) -> BootstrapDifference:
    """Difference of two AUCs measured on the same units: both scores are read in the same resamples.

    Percentile interval. The two-sided p inverts it: twice the smaller share of resamples on either side of zero,
    with one added to count and total so that it is never 0 (Davison & Hinkley 1997, 4.2), at most 1.
    """
    positive = as_labels(y_true, both_classes=True)
    columns = np.column_stack([as_scores(score_a, positive.size, "a"), as_scores(score_b, positive.size, "b")])
    resampled = bootstrap_aucs(
        positive, columns, rng=rng, n_bootstrap=n_bootstrap, stratified=stratified, cluster=cluster
    )
    auc_a, auc_b = auc(positive, columns[:, 0]), auc(positive, columns[:, 1])
    return _difference(auc_a, auc_b, resampled[:, 0] - resampled[:, 1], "bootstrap, paired", confidence)


def bootstrap_auc_difference_unpaired(
    y_a: ArrayLike,
    score_a: ArrayLike,
    y_b: ArrayLike,
    score_b: ArrayLike,
    *,
    rng: np.random.Generator,
    n_bootstrap: int = 2000,
    stratified: bool = True,
    cluster_a: ArrayLike | None = None,
    cluster_b: ArrayLike | None = None,
    confidence: float = 0.95,
) -> BootstrapDifference:
    """Difference of two AUCs measured on different patients, such as training and validation: cohorts resampled apart.

    y_a, score_a: (n_a,); y_b, score_b: (n_b,). Interval and p as `bootstrap_auc_difference`.
    """
    options = {"rng": rng, "n_bootstrap": n_bootstrap, "stratified": stratified}
    resampled_a = bootstrap_aucs(y_a, score_a, cluster=cluster_a, **options)[:, 0]
    resampled_b = bootstrap_aucs(y_b, score_b, cluster=cluster_b, **options)[:, 0]
    return _difference(
        auc(y_a, score_a), auc(y_b, score_b), resampled_a - resampled_b, "bootstrap, unpaired", confidence
    )


def bootstrap_interval(
    statistic: Callable[..., float],
    *data: ArrayLike | pd.DataFrame | pd.Series,
    rng: np.random.Generator,
    n_bootstrap: int = 2000,
    strata: ArrayLike | None = None,
    cluster: ArrayLike | None = None,
    method: str = "percentile",
    confidence: float = 0.95,
) -> BootstrapInterval:
    """Bootstrap interval of any statistic of rows: statistic(*data) is called on each resample.

    data: arrays, Series or frames with the same number of rows, resampled together; strata, cluster: (n,) as in
    `resample_weights`. The statistic must not depend on the order of rows. A resample on which it is not finite is left
    out and counted; an exception it raises is not caught. method "percentile" or "bca".
    """
    tables = [table if isinstance(table, pd.DataFrame | pd.Series) else np.asarray(table) for table in data]
    if not tables or len({len(table) for table in tables}) != 1:
        raise ValueError("data must be one or more tables with the same number of rows")
    n = len(tables[0])
    resampled = [
        float(statistic(*_take(tables, np.repeat(np.arange(n), row.astype(int)))))
        for weights in resample_weights(n, n_bootstrap, rng, strata=strata, cluster=cluster)
        for row in weights
    ]
    acceleration = 0.0
    if method == "bca":
        codes = np.arange(n) if cluster is None else as_cluster_codes(cluster, n)
        n_drawn = int(codes.max()) + 1
        left_out = [float(statistic(*_take(tables, np.flatnonzero(codes != code)))) for code in range(n_drawn)]
        groups = _drawing_groups(n, n_drawn, strata, None if cluster is None else codes)
        acceleration = _acceleration(np.array(left_out), groups)
    return summarize_resamples(
        float(statistic(*tables)), np.array(resampled), method=method, acceleration=acceleration, confidence=confidence
    )


def clustered_mean(
    values: ArrayLike, cluster: ArrayLike, rng: np.random.Generator, n_bootstrap: int = 2000, confidence: float = 0.95
) -> dict[str, float]:
    """{"mean", "mean_low", "mean_high"} of values (n,), percentile interval over resampled clusters (n,), such as patients.

    Without any value all three are nan. Raises ValueError for values that are not finite.
    """
    numbers = np.asarray(values, dtype=float)
    if not np.isfinite(numbers).all():
        raise ValueError("values hold numbers that are not finite; leave them out and say how many")
    if numbers.size == 0:
        return {"mean": nan, "mean_low": nan, "mean_high": nan}
    resampled = np.concatenate(
        [
            weights @ numbers / weights.sum(axis=1)
            for weights in resample_weights(numbers.size, n_bootstrap, rng, cluster=cluster)
        ]
    )
    low, high = percentile_limits(resampled, confidence)
    return {"mean": float(numbers.mean()), "mean_low": float(low), "mean_high": float(high)}


def summarize_resamples(
    estimate: float,
    resampled: np.ndarray,
    *,
    method: str = "percentile",
    acceleration: float = 0.0,
    confidence: float = 0.95,
) -> BootstrapInterval:
    """Interval from an estimate and its values (b,) on resamples; values that are not finite are left out and counted.

    method "percentile", or "bca" with the acceleration of a jackknife (Efron 1987, J Am Stat Assoc 82:171).
    """
    if method not in ("percentile", "bca"):
        raise ValueError(f"method must be 'percentile' or 'bca', not {method!r}")
    finite = resampled[np.isfinite(resampled)]
    n_undefined = resampled.size - finite.size
    tail = (1 - as_confidence(confidence)) / 2
    if finite.size == 0:
        return BootstrapInterval(estimate, nan, nan, nan, resampled.size, n_undefined, method)
    tails = np.array([tail, 1 - tail])
    if method == "bca":
        below = np.mean(finite < estimate) + np.mean(finite == estimate) / 2
        # an estimate outside all resamples would send the bias correction to infinity
        below = np.clip(below, 0.5 / finite.size, 1 - 0.5 / finite.size)
        bias = stats.norm.ppf(below)
        shifted = bias + stats.norm.ppf(tails)
        tails = stats.norm.cdf(bias + shifted / (1 - acceleration * shifted))
    low, high = np.quantile(finite, tails)
    spread = float(finite.std(ddof=1)) if finite.size > 1 else nan
    return BootstrapInterval(estimate, float(low), float(high), spread, resampled.size, n_undefined, method)


def two_sided_bootstrap_p(resampled: ArrayLike) -> float:
    """Two-sided p of "the difference is zero" from resampled differences (b,): the level whose interval ends at 0.

    min(1, 2 (1 + min(#{<= 0}, #{>= 0})) / (b + 1)), Davison & Hinkley 1997, 4.2; nan values are left out.
    """
    values = np.asarray(resampled, dtype=float)
    values = values[np.isfinite(values)]
    if values.size == 0:
        return nan
    fewer = min(np.count_nonzero(values <= 0), np.count_nonzero(values >= 0))
    return min(1.0, 2 * (1 + fewer) / (values.size + 1))


def percentile_limits(resampled: np.ndarray, confidence: float = 0.95, axis: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Lower and upper percentile limits along `axis`, leaving out resamples that are nan; nan where all are."""
    tail = (1 - as_confidence(confidence)) / 2
    resampled = np.asarray(resampled, dtype=float)
    undefined = np.isnan(resampled)
    if not undefined.any():
        low, high = np.quantile(resampled, [tail, 1 - tail], axis=axis)
        return low, high
    nowhere = undefined.all(axis=axis, keepdims=True)
    low, high = np.nanquantile(np.where(nowhere, 0.0, resampled), [tail, 1 - tail], axis=axis)
    nowhere = np.squeeze(nowhere, axis=axis)
    return np.where(nowhere, nan, low), np.where(nowhere, nan, high)


def _drawing_groups(n: int, n_drawn: int, strata: ArrayLike | None, codes: np.ndarray | None) -> list[np.ndarray]:
    """Indices of the drawn things (units, or clusters when `codes` is given) of each stratum."""
    if strata is None:
        return [np.arange(n_drawn)]
    labels = np.asarray(strata)
    if labels.shape != (n,):
        raise ValueError(f"strata must have shape ({n},), not {labels.shape}")
    stratum, _ = pd.factorize(labels, sort=True)
    if codes is not None:
        of_cluster = np.zeros(n_drawn, dtype=int)
        np.maximum.at(of_cluster, codes, stratum)
        stratum = of_cluster
    return [np.flatnonzero(stratum == value) for value in np.unique(stratum)]


def _draw_counts(n_rows: int, n: int, rng: np.random.Generator) -> np.ndarray:
    """Multinomial counts (n_rows, n) of n draws with replacement."""
    drawn = rng.integers(0, n, size=(n_rows, n))
    drawn += n * np.arange(n_rows)[:, None]
    return np.bincount(drawn.ravel(), minlength=n_rows * n).reshape(n_rows, n)


def _wins_by_product(positive: np.ndarray, score: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    higher, lower = score[positive][:, None], score[~positive][None, :]
    kernel = (higher > lower) + 0.5 * (higher == lower)
    of_positives, of_negatives = weights[:, positive], weights[:, ~positive]
    wins = np.einsum("bn,bn->b", of_positives @ kernel, of_negatives)
    return wins, of_positives.sum(axis=1) * of_negatives.sum(axis=1)


def _wins_by_sorting(positive: np.ndarray, score: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    order = np.argsort(score)
    ordered = score[order]
    starts = np.flatnonzero(np.concatenate(([True], ordered[1:] != ordered[:-1])))
    rows = max(1, CHUNK_ELEMENTS // score.size)
    wins, pairs = np.empty(len(weights)), np.empty(len(weights))
    for start in range(0, len(weights), rows):
        part = slice(start, start + rows)
        sorted_weights = weights[part][:, order]
        of_positives = np.add.reduceat(sorted_weights * positive[order], starts, axis=1)
        of_negatives = np.add.reduceat(sorted_weights, starts, axis=1) - of_positives
        outranked = np.cumsum(of_negatives, axis=1) - of_negatives / 2
        wins[part] = np.einsum("bg,bg->b", of_positives, outranked)
        pairs[part] = of_positives.sum(axis=1) * of_negatives.sum(axis=1)
    return wins, pairs


def _jackknife_auc(positive: np.ndarray, score: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """AUC without each cluster (k,), from the wins that it takes with it; nan where a class disappears."""
    n_clusters = int(codes.max()) + 1
    n_positive = np.count_nonzero(positive)
    n_negative = positive.size - n_positive
    wins = placement_values(positive, score) * np.where(positive, n_negative, n_positive)
    lost = np.bincount(codes, weights=wins, minlength=n_clusters)
    positives = np.bincount(codes, weights=positive, minlength=n_clusters)
    negatives = np.bincount(codes, minlength=n_clusters) - positives
    for code in np.flatnonzero((positives > 0) & (negatives > 0)):  # pairs within a patient were subtracted twice
        members = codes == code
        higher, lower = score[members & positive][:, None], score[members & ~positive][None, :]
        lost[code] -= ((higher > lower) + 0.5 * (higher == lower)).sum()
    pairs = (n_positive - positives) * (n_negative - negatives)
    remaining = wins[positive].sum() - lost
    return np.divide(remaining, pairs, out=np.full(n_clusters, nan), where=pairs > 0)


def _take(tables: list, index: np.ndarray) -> list[Any]:
    return [table.iloc[index] if isinstance(table, pd.DataFrame | pd.Series) else table[index] for table in tables]


def _acceleration(left_out: np.ndarray, groups: list[np.ndarray]) -> float:
    """BCa acceleration from leave-one-out values: sum(l^3 / n^3) / (6 sum(l^2 / n^2)^1.5), l centered in its stratum."""
    cubes = squares = 0.0
    for members in groups:
        values = left_out[members]
        values = values[np.isfinite(values)]
        if values.size < 2:
            continue
        influence = (values.size - 1) * (values.mean() - values) / values.size
        cubes += float((influence**3).sum())
        squares += float((influence**2).sum())
    return cubes / (6 * squares**1.5) if squares > 0 else 0.0


def _difference(
    auc_a: float, auc_b: float, resampled: np.ndarray, method: str, confidence: float
) -> BootstrapDifference:
    summary = summarize_resamples(auc_a - auc_b, resampled, confidence=confidence)
    p = two_sided_bootstrap_p(resampled)
    return BootstrapDifference(
        auc_a,
        auc_b,
        summary.estimate,
        summary.low,
        summary.high,
        summary.standard_error,
        p,
        resampled.size,
        summary.n_undefined,
        method,
    )
