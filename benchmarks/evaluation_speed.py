"""Speed of the evaluation core against the plain way, in one run: `python benchmarks/evaluation_speed.py`.

Asserts that both ways agree, prints a line per task and writes evaluation_speed.csv beside itself. Ratios are medians over
rounds in which both ways take turns, so that other work on the machine meets both; seconds, the shortest, depend on the
machine. `evaluate` is the whole command in a process of its own: imports, tables, figures and files. Limits are those of
this project: a ratio of at least 50 for the bootstrap, at most 5 s for DeLong and 15 s for `evaluate`. Run it with one
thread per process (OMP_NUM_THREADS=1) on a quiet machine.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from time import perf_counter

import numpy as np
import pandas as pd
from scipy.special import expit
from scipy.stats import rankdata
from sklearn.metrics import roc_auc_score

from alneval.curves import weighted_auc
from alneval.delong import covariance
from alneval.estimate import resamples
from alneval.tables import PREDICTION_COLUMNS
from alneval.units import Units

RESAMPLES = 2000
ROUNDS = 5
LIMITS = {"bootstrap": ("ratio", 50.0), "DeLong": ("seconds", 5.0), "evaluate": ("seconds", 15.0)}


def main() -> None:
    rng = np.random.default_rng(0)
    rows = [*bootstrap_rows(rng), *delong_rows(rng), *evaluate_rows(rng)]
    table = pd.DataFrame(rows)
    table["cores"] = os.cpu_count()
    table.to_csv(Path(__file__).with_suffix(".csv"), index=False, lineterminator="\n")
    print(table.to_string(index=False))


def bootstrap_rows(rng: np.random.Generator) -> list[dict[str, object]]:
    y, score = simulated_scores(rng, 254, 1)
    indices = stratified_indices(np.random.default_rng(1), y)

    def plain() -> np.ndarray:
        return np.array([roc_auc_score(y[row], score[row, 0]) for row in indices])

    def ours() -> np.ndarray:
        units = Units.of(y, score)
        drawn = resamples(units, RESAMPLES, np.random.default_rng(2))
        return np.concatenate([weighted_auc(units, weights) for weights in drawn])

    assert abs(plain().std() / ours().std() - 1) < 0.1
    return [row("bootstrap", f"{RESAMPLES} resampled AUCs, n = 254", "scikit-learn in a loop", ours, plain)]


def delong_rows(rng: np.random.Generator) -> list[dict[str, object]]:
    y, scores = simulated_scores(rng, 100_000, 20)

    def ours() -> np.ndarray:
        return covariance(Units.of(y, scores))[1]

    def plain() -> np.ndarray:
        return delong_by_three_rankings(y, scores)

    def areas() -> list[float]:
        return [roc_auc_score(y, column) for column in scores.T]

    np.testing.assert_allclose(ours(), plain(), rtol=1e-9)
    task = "covariance of 20 AUCs, n = 100,000"
    return [
        row("DeLong", task, "three scipy rankings per model", ours, plain),
        row("DeLong", task, "scikit-learn, AUCs without variance", ours, areas),
    ]


def evaluate_rows(rng: np.random.Generator) -> list[dict[str, object]]:
    """A validation and a test split of 300 patients each, five models."""
    n, models = 600, 5
    y = rng.random(n) < 0.35
    split = np.where(np.arange(n) < n // 2, "validation", "test")
    tables = []
    for model in range(models):
        probability = expit(rng.normal(size=n) + (0.8 + 0.2 * model) * y - 0.7)
        ids = [f"{patient:04d}" for patient in range(n)]
        values = ("benchmark", f"model {model + 1}", "main", split, ids, ids, y.astype(int), probability.round(6))
        tables.append(pd.DataFrame(dict(zip(PREDICTION_COLUMNS, values, strict=True))))
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "predictions.csv"
        pd.concat(tables).to_csv(file, index=False)
        command = [sys.executable, str(Path(__file__).parents[1] / "run_all.py"), "evaluate", str(file), "--force"]

        def ours() -> None:
            subprocess.run([*command, "--out", str(Path(folder) / "out")], check=True, stdout=subprocess.DEVNULL)

        return [row("evaluate", f"{models} models x {n} patients, the whole command", "", ours, rounds=2)]


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


def row(
    what: str,
    task: str,
    compared_with: str,
    ours: Callable[[], object],
    plain: Callable[[], object] | None = None,
    rounds: int = ROUNDS,
) -> dict[str, object]:
    """Time both ways in turns; the limit is asked of the shortest time or of the median ratio."""
    times = np.array([[seconds(ours), seconds(plain) if plain else np.nan] for _ in range(rounds)])
    ratio = float(np.median(times[:, 1] / times[:, 0]))
    fastest, plainest = times.min(axis=0)
    kind, limit = LIMITS[what]
    met = ratio >= limit if kind == "ratio" else fastest <= limit
    return {
        "what": what,
        "task": task,
        "seconds": round(fastest, 4),
        "compared_with": compared_with,
        "compared_seconds": round(plainest, 3),
        "times_faster": round(ratio, 1),
        "limit": f"{'at least' if kind == 'ratio' else 'at most'} {limit:g} {'times' if kind == 'ratio' else 's'}",
        "met": bool(met),
        "rounds": rounds,
    }


def seconds(call: Callable[[], object]) -> float:
    """Wall time of one call."""
    start = perf_counter()
    call()
    return perf_counter() - start


if __name__ == "__main__":
    main()
