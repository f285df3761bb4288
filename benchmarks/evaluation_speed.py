"""Speed of the evaluation core against the plain way, in one run: python benchmarks/evaluation_speed.py.

Prints seconds and ratios; asserts that both ways agree. Seconds depend on the machine, ratios hardly.
"""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter
from typing import Any

import numpy as np
from scipy.stats import rankdata
from sklearn.metrics import roc_auc_score

from alnlib.evaluation.bootstrap import bootstrap_aucs
from alnlib.evaluation.roc import delong_covariance

RESAMPLES = 2000


def main() -> None:
    rng = np.random.default_rng(0)

    y, score = simulated_scores(rng, 254, 1)
    indices = stratified_indices(np.random.default_rng(1), y)
    loop, slow = timed(lambda: np.array([roc_auc_score(y[row], score[row, 0]) for row in indices]))
    ours, fast = timed(lambda: bootstrap_aucs(y, score, rng=np.random.default_rng(2), n_bootstrap=RESAMPLES), repeats=5)
    assert abs(loop.std() / ours.std() - 1) < 0.1
    report(f"{RESAMPLES} bootstrapped AUCs, n = 254", "scikit-learn loop", slow, fast)

    y, scores = simulated_scores(rng, 100_000, 20)
    plain, slow = timed(lambda: delong_by_three_rankings(y, scores))
    (_, ours), fast = timed(lambda: delong_covariance(y, scores))
    np.testing.assert_allclose(ours, plain, rtol=1e-9)
    report("DeLong covariance of 20 models, n = 100,000", "three scipy rankings each", slow, fast)

    _, slow = timed(lambda: [roc_auc_score(y, column) for column in scores.T])
    report("the same, with variances, against AUCs alone", "scikit-learn", slow, fast)


def simulated_scores(rng: np.random.Generator, n: int, models: int) -> tuple[np.ndarray, np.ndarray]:
    y = (rng.random(n) < 0.35).astype(int)
    return y, np.round(rng.normal(size=(n, models)) + y[:, None], 3)


def stratified_indices(rng: np.random.Generator, y: np.ndarray) -> np.ndarray:
    classes = [np.flatnonzero(y == value) for value in (0, 1)]
    return np.hstack([rng.choice(members, (RESAMPLES, members.size)) for members in classes])


def delong_by_three_rankings(y: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """The midrank form of Sun & Xu 2014, rank by rank."""
    positive, negative = scores[y == 1], scores[y == 0]
    m, n = len(positive), len(negative)
    ranks = rankdata(np.vstack([positive, negative]), axis=0)
    v10 = (ranks[:m] - rankdata(positive, axis=0)) / n
    v01 = 1 - (ranks[m:] - rankdata(negative, axis=0)) / m
    return np.cov(v10.T) / m + np.cov(v01.T) / n


def timed(function: Callable[[], Any], repeats: int = 1) -> tuple[Any, float]:
    """Value of a function and the shortest time it took, in seconds."""
    best = np.inf
    for _ in range(repeats):
        start = perf_counter()
        value = function()
        best = min(best, perf_counter() - start)
    return value, best


def report(task: str, other: str, slow: float, fast: float) -> None:
    print(f"{task}: {fast:.4f} s; {other} {slow:.3f} s; {slow / fast:.1f} times as long")


if __name__ == "__main__":
    main()
