"""Statistics of ROC and precision-recall curves, each a function of (units, weights) for `estimate.interval`; the curves.

Of the first score of the units; nan where a class has no weight. A useless score gives 0.5 for `weighted_auc` and a standardized
`partial_auc`, and the share of positives for precision.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import wraps

import numpy as np
from numpy.typing import ArrayLike
from sklearn import metrics

from alneval.estimate import CHUNK_ELEMENTS, Statistic
from alneval.units import Units

KERNEL_ELEMENTS = 250_000
"""Positives x negatives up to which one matrix product beats sorting (measured on two CPU cores)."""
ROUNDING = 1e-12
SPECIFICITIES = np.arange(101) / 100
"""Where the band of a ROC curve is read."""

RECALLS = np.arange(1, 101) / 100
"""Where that of a precision-recall curve is."""


def weighted_auc(units: Units, weights: np.ndarray) -> np.ndarray:
    """AUC (b,), ties one half: one product with the matrix of pairwise wins, or a cumulative sum over sorted scores."""
    positive, score = units.positive, units.scores[:, 0]
    if np.count_nonzero(positive) * np.count_nonzero(~positive) > KERNEL_ELEMENTS:
        return _auc_by_sorting(units, weights)
    higher, lower = score[positive][:, None], score[~positive][None]
    of_positives, of_negatives = weights[:, positive], weights[:, ~positive]
    wins = np.einsum("bn,bn->b", of_positives @ ((higher > lower) + 0.5 * (higher == lower)), of_negatives)
    pairs = of_positives.sum(axis=1) * of_negatives.sum(axis=1)
    return np.divide(wins, pairs, out=np.full(wins.shape, np.nan), where=pairs > 0)


def auc_within(groups: ArrayLike) -> Statistic:
    """AUC (b,) from pairs of units of one group only, groups (n,); a group counts by its number of such pairs."""
    names = np.asarray(groups)

    def statistic(units: Units, weights: np.ndarray) -> np.ndarray:
        wins, pairs = np.zeros(len(weights)), np.zeros(len(weights))
        for name in np.unique(names):
            members = names == name
            group, of_group = units.where(members), weights[:, members]
            counts = of_group[:, group.positive].sum(axis=1) * of_group[:, ~group.positive].sum(axis=1)
            wins += counts * np.nan_to_num(weighted_auc(group, of_group))
            pairs += counts
        return wins / np.where(pairs > 0, pairs, np.nan)

    return statistic


def partial_auc(low: float, high: float, along: str = "specificity", standardized: bool = False) -> Statistic:
    """Area where specificity (or "sensitivity") lies in [low, high]; standardized after McClish 1989: 0.5 useless, 1
    perfect. R `pROC::auc(partial.auc = , partial.auc.focus = , partial.auc.correct = )`."""
    if not 0 <= low < high <= 1:
        raise ValueError(f"the range must be two different values in [0, 1], not ({low}, {high})")

    @_of_rates
    def statistic(true_rate: np.ndarray, false_rate: np.ndarray, *_) -> np.ndarray:
        if along == "sensitivity":
            area = _area_between(true_rate, 1 - false_rate, low, high)
        else:
            area = _area_between(false_rate, true_rate, 1 - high, 1 - low)
        width = high - low
        useless = width * (2 - low - high) / 2
        return (1 + (area - useless) / (width - useless)) / 2 if standardized else area

    return statistic


def sensitivity_at(specificity: float | np.ndarray) -> Statistic:
    """Sensitivity of the curve at one specificity, (b,), or at several, (b, k), between points on the straight line; every
    resample places its own cut-off. R `pROC::coords`, `pROC::ci.se`."""
    wanted = 1 - np.atleast_1d(np.asarray(specificity, dtype=float))

    @_of_rates
    def statistic(true_rate: np.ndarray, false_rate: np.ndarray, *_) -> np.ndarray:
        rows = np.arange(len(true_rate))[:, None]
        left = np.stack([(false_rate <= at + ROUNDING).sum(axis=1) - 1 for at in wanted], axis=1)
        right = np.minimum(left + 1, true_rate.shape[1] - 1)
        run = false_rate[rows, right] - false_rate[rows, left]
        along = np.divide(wanted - false_rate[rows, left], run, out=np.zeros(run.shape), where=run > 0)
        found = true_rate[rows, left] + np.clip(along, 0, 1) * (true_rate[rows, right] - true_rate[rows, left])
        return found[:, 0] if np.ndim(specificity) == 0 else found

    return statistic


def average_precision(units: Units, weights: np.ndarray) -> np.ndarray:
    """Precision at every distinct score, weighted by the recall gained there, without interpolation. sklearn's."""
    return _average_precision(units, weights)


def precision_at(recall: np.ndarray) -> Statistic:
    """Precision (b, k) at the highest cut-off whose recall is at least that."""
    wanted = np.asarray(recall, dtype=float)

    @_of_rates
    def statistic(true_rate: np.ndarray, _, precision: np.ndarray) -> np.ndarray:
        first = np.stack([(true_rate[:, 1:] < at - ROUNDING).sum(axis=1) for at in wanted], axis=1)
        return np.take_along_axis(precision, np.minimum(first, precision.shape[1] - 1), axis=1)

    return statistic


def brier(units: Units, weights: np.ndarray) -> np.ndarray:
    """Mean squared distance of probability and outcome."""
    return weights @ (units.scores[:, 0] - units.positive) ** 2 / weights.sum(axis=1)


def roc_curve(units: Units) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """False and true positive rates and thresholds of the first score, three (k,), from (0, 0) at threshold infinity to
    (1, 1); a unit is called positive when its score is at least the threshold. Raises ValueError if a class is missing."""
    return metrics.roc_curve(units.require_both_classes().positive, units.score, drop_intermediate=False)


def precision_recall_curve(units: Units) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Precision, recall and thresholds of the first score, three (k,), from the highest cut-off down. There is no invented
    point at recall 0. Precision holds at the prevalence of these data only. Raises ValueError if a class is missing."""
    units.require_both_classes()
    of_positives, of_negatives = next(_cumulative(units, np.ones((1, len(units)))))
    hits, alarms = of_positives[0, 1:], (of_positives + of_negatives)[0, 1:]
    return hits / alarms, hits / hits[-1], np.unique(units.score)[::-1]


def _of_rates(make: Callable[..., np.ndarray]) -> Statistic:
    """A statistic of true and false positive rates and precision at every cut-off, from the highest score down."""

    @wraps(make)
    def statistic(units: Units, weights: np.ndarray) -> np.ndarray:
        parts = []
        for of_positives, of_negatives in _cumulative(units, weights):
            totals = of_positives[:, -1:], of_negatives[:, -1:]
            with np.errstate(divide="ignore", invalid="ignore"):
                rates = of_positives / totals[0], of_negatives / totals[1]
                precision = of_positives[:, 1:] / (of_positives + of_negatives)[:, 1:]
                made = make(*rates, np.nan_to_num(precision))
            empty = (totals[0] * totals[1] == 0).ravel()
            made[empty] = np.nan
            parts.append(made)
        return np.concatenate(parts)

    return statistic


@_of_rates
def _average_precision(true_rate: np.ndarray, _, precision: np.ndarray) -> np.ndarray:
    return (np.diff(true_rate, axis=1) * precision).sum(axis=1)


def _cumulative(units: Units, weights: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Weight of positives and negatives called positive at every distinct score, from none to all; chunks bound the memory."""
    order = np.argsort(-units.scores[:, 0], kind="stable")
    ordered = units.scores[order, 0]
    starts = np.flatnonzero(np.concatenate(([True], ordered[1:] != ordered[:-1])))
    rows = max(1, CHUNK_ELEMENTS // len(units))
    for start in range(0, len(weights), rows):
        part = weights[start : start + rows][:, order]
        of_positives = np.add.reduceat(part * units.positive[order], starts, axis=1)
        of_negatives = np.add.reduceat(part, starts, axis=1) - of_positives
        yield tuple(np.pad(np.cumsum(each, axis=1), ((0, 0), (1, 0))) for each in (of_positives, of_negatives))


def _auc_by_sorting(units: Units, weights: np.ndarray) -> np.ndarray:
    parts = []
    for of_positives, of_negatives in _cumulative(units, weights):
        wins = (np.diff(of_negatives, axis=1) * (of_positives[:, :-1] + np.diff(of_positives, axis=1) / 2)).sum(axis=1)
        pairs = of_positives[:, -1] * of_negatives[:, -1]
        parts.append(np.divide(wins, pairs, out=np.full(wins.shape, np.nan), where=pairs > 0))
    return np.concatenate(parts)


def _area_between(x: np.ndarray, y: np.ndarray, low: float, high: float) -> np.ndarray:
    """Area (b,) under straight lines through (x, y), each (b, g) with x increasing, for x from low to high."""
    left, right = np.clip(x[:, :-1], low, high), np.clip(x[:, 1:], low, high)
    run = np.diff(x, axis=1)
    steepness = np.divide(np.diff(y, axis=1), run, out=np.zeros(run.shape), where=run > 0)
    middle = y[:, :-1] + steepness * ((left + right) / 2 - x[:, :-1])
    return ((right - left) * middle).sum(axis=1)
