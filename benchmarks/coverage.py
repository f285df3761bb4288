"""Coverage of the 95 % intervals where the truth is known: `python benchmarks/coverage.py`, about twelve minutes on one core.

Arguments: `--repetitions` samples per cell (2,500: a coverage of 95 % is known to 0.44 %), `--jobs` processes, `--seed`.
Writes coverage.csv beside itself. Every cell has its own random stream, so that neither jobs nor order change a number.

Patients are drawn from one population and not by outcome: n is fixed, the number of events is not. Scores are normal with
variance 1 in both classes, their means apart so that the AUC is `auc`; a second model with an AUC 0.05 lower has errors
correlated 0.5 with the first one's. Log odds of the first are then linear in its score, so its probabilities are
calibrated: intercept 0, slope 1 (another slope would divide estimate and limits alike). Net benefit follows from the normal
distribution function. With two nodes per patient, n counts patients; latent variables behind the labels, and errors, of
the two nodes are correlated 0.5.

A row is one quantity, method and cell. `default` says that the method is what the function does unless told otherwise.
failures: samples without an interval (one class only, classes separated); they are not in the other columns. coverage_se is
its Monte Carlo standard error; below and above: share of intervals that lie wholly below or above the truth.

A net benefit or gain that few patients decide takes few values, and its coverage jumps with the truth, whatever the
interval. `expected` counts them: positives above the threshold, or, against treating all, nodes below it. Defaults with
fewer than 5 expected are listed and not judged. attainable: coverage of the test with at most 2.5 % in either tail that
knows the exact distribution (one node per patient), so what is left to any interval that keeps its word in both tails.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import product, repeat
from math import nan, sqrt
from multiprocessing import get_context
from pathlib import Path
from time import perf_counter

import numpy as np
import pandas as pd
from scipy import stats
from scipy.optimize import brentq
from scipy.special import expit, logit

from alneval.calibration import calibration_intercept, calibration_slope
from alneval.curves import weighted_auc
from alneval.decision_curve import decision_curve, gain, net_benefit
from alneval.delong import auc_difference, auc_interval
from alneval.estimate import Estimate, interval
from alneval.units import Units

SIZES = (100, 300, 1000)
PREVALENCES = (0.1, 0.35)
AUCS = {1: (0.65, 0.8, 0.9), 2: (0.8, 0.9)}
"""By nodes per patient."""

THRESHOLDS = (0.1, 0.3)
LESS_AUC = 0.05
CORRELATION = 0.5
RESAMPLES = 500
SLOW_SHARE = 3
"""Bootstrap and profile likelihood are there to be compared with: few resamples, and one in three samples of a cell."""

COMPARED_AUC = {"resampled": 0.8, "formula": 0.9}
"""Methods that are not the default are tried at one AUC: resampling is slow, and formulas differ most at the highest."""

FEW = 5
"""Expected nodes that a net benefit rests on below which it takes too few values for its coverage to be judged."""

RANGE = (0.93, 0.97)


@dataclass(frozen=True)
class Cell:
    n: int
    prevalence: float
    auc: float
    nodes_per_patient: int

    @property
    def separation(self) -> float:
        return separation(self.auc)

    def true_positives(self, threshold: float) -> float:
        """Share of all units that are positive and at or above a threshold of probability."""
        return self.prevalence * stats.norm.sf(self._cut(threshold) - self.separation)

    def false_positives(self, threshold: float) -> float:
        return (1 - self.prevalence) * stats.norm.sf(self._cut(threshold))

    def net_benefit(self, threshold: float) -> float:
        return self.true_positives(threshold) - self.false_positives(threshold) * threshold / (1 - threshold)

    def gain(self, threshold: float) -> float:
        treat_all = self.prevalence - (1 - self.prevalence) * threshold / (1 - threshold)
        return self.net_benefit(threshold) - max(treat_all, 0.0)

    def _cut(self, threshold: float) -> float:
        """Score at which the probability is the threshold."""
        return (logit(threshold) - logit(self.prevalence)) / self.separation + self.separation / 2


@dataclass(frozen=True)
class Sample:
    """y, score, other (n,); probability (n,), calibrated, of score; patient (n,) or None."""

    y: np.ndarray
    score: np.ndarray
    other: np.ndarray
    probability: np.ndarray
    patient: np.ndarray | None


Limits = Callable[[Sample, np.random.Generator], list[tuple[float, float]]]


@dataclass(frozen=True)
class Method:
    """limits(sample, rng) gives (low, high) of each of `quantities`, or raises ValueError where a class is missing.

    Only the first of `share` parts of a cell's samples is tried.
    """

    name: str
    default: bool
    quantities: tuple[str, ...]
    truths: tuple[float, ...]
    limits: Limits
    share: int = 1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repetitions", type=int, default=2500)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--seed", type=int, default=2026)
    arguments = parser.parse_args()
    start = perf_counter()
    table = coverage_table(cells(), arguments.repetitions, arguments.seed, arguments.jobs)
    table.to_csv(Path(__file__).with_suffix(".csv"), index=False, lineterminator="\n")
    print(f"{len(table)} rows in {perf_counter() - start:.0f} s")
    defaults = table[table["default"]]
    for name, part in (("judged", defaults[defaults["judged"]]), ("decided by few", defaults[~defaults["judged"]])):
        outside = part[~part["coverage"].between(*RANGE)]
        print(f"defaults, {name}: {len(part)}, of these outside {RANGE}: {len(outside)}")
        if len(outside):
            shown = ["quantity", "n", "prevalence", "auc", "nodes_per_patient", "expected", "coverage", "attainable"]
            print(outside[shown].to_string(index=False))


def cells() -> list[Cell]:
    return [
        Cell(n, prevalence, auc, nodes)
        for nodes, aucs in AUCS.items()
        for auc, n, prevalence in product(aucs, SIZES, PREVALENCES)
    ]


def coverage_table(chosen: list[Cell], repetitions: int, seed: int, jobs: int = 1) -> pd.DataFrame:
    """Rows of `coverage.csv` for these cells, by quantity."""
    arguments = (chosen, repeat(repetitions), repeat(seed))
    if jobs == 1:
        parts = list(map(cell_rows, *arguments))
    else:
        with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as workers:
            parts = list(workers.map(cell_rows, *arguments))
    table = pd.DataFrame([row for part in parts for row in part])
    keys = ["nodes_per_patient", "quantity", "default", "method", "auc", "n", "prevalence"]
    ascending = [name != "default" for name in keys]
    return table.sort_values(keys, ascending=ascending, kind="stable", ignore_index=True)


def cell_rows(cell: Cell, repetitions: int, seed: int) -> list[dict[str, object]]:
    """One row per method and quantity: the samples of a cell are the same for all its methods."""
    rng = np.random.default_rng(
        [seed, cell.n, round(1000 * cell.prevalence), round(1000 * cell.auc), cell.nodes_per_patient]
    )
    resampling = np.random.default_rng(rng.integers(2**63))
    tried = list(methods(cell))
    found = [np.full((repetitions // method.share, len(method.quantities), 2), nan) for method in tried]
    for repetition in range(repetitions):
        sample = draw(cell, rng)
        for method, limits in zip(tried, found, strict=True):
            if repetition >= len(limits):
                continue
            try:
                limits[repetition] = method.limits(sample, resampling)
            except ValueError as error:
                if "both classes" not in str(error):
                    raise
    return [
        summary_row(cell, method, quantity, truth, limits[:, position], seed)
        for method, limits in zip(tried, found, strict=True)
        for position, (quantity, truth) in enumerate(zip(method.quantities, method.truths, strict=True))
    ]


def summary_row(
    cell: Cell, method: Method, quantity: str, truth: float, limits: np.ndarray, seed: int
) -> dict[str, object]:
    known = limits[np.isfinite(limits).all(axis=1)]
    # a limit that touches the truth up to rounding (AUC 1, net benefit at threshold 0) covers it
    below, above = np.mean(known[:, 1] < truth - 1e-12), np.mean(known[:, 0] > truth + 1e-12)
    coverage = 1 - below - above
    expected = deciding(cell, quantity)
    return {
        "quantity": quantity,
        "method": method.name,
        "default": method.default,
        "judged": method.default and not expected < FEW,
        "n": cell.n,
        "prevalence": cell.prevalence,
        "auc": cell.auc,
        "truth": round(truth, 5),
        "repetitions": len(limits),
        "failures": len(limits) - len(known),
        "coverage": round(coverage, 4),
        "coverage_se": round(sqrt(coverage * (1 - coverage) / len(known)), 4),
        "below": round(below, 4),
        "above": round(above, 4),
        "mean_width": round(float(np.mean(known[:, 1] - known[:, 0])), 4),
        "nodes_per_patient": cell.nodes_per_patient,
        "expected": round(expected, 1),
        "attainable": round(attainable(cell, quantity), 4),
        "seed": seed,
    }


def deciding(cell: Cell, quantity: str) -> float:
    """Expected nodes that a net benefit or gain rests on, at the threshold in its name; nan for other quantities.

    Positives above the threshold; for the gain over treating all, where that is better than treating none, the nodes below
    it if these are fewer, as all others are treated alike.
    """
    name, _, threshold = quantity.partition(" at ")
    if not threshold:
        return nan
    cut, nodes = float(threshold), cell.n * cell.nodes_per_patient
    positives, negatives = cell.true_positives(cut), cell.false_positives(cut)
    if name == "gain" and against_all(cell, cut):
        return nodes * min(positives, 1 - positives - negatives)
    return nodes * positives


def against_all(cell: Cell, threshold: float) -> bool:
    """Whether treating all is better than treating none, and so what the gain is against."""
    return cell.gain(threshold) < cell.net_benefit(threshold)


def attainable(cell: Cell, quantity: str) -> float:
    """1 less what of the estimate's exact distribution can be cut off in tails of at most 2.5 % each; nan if unknown.

    The estimate is a weighted difference of two counts of a multinomial distribution, with one node per patient.
    """
    name, _, threshold = quantity.partition(" at ")
    if not threshold or cell.nodes_per_patient > 1:
        return nan
    cut = float(threshold)
    gained, lost = cell.true_positives(cut), cell.false_positives(cut)
    weight = cut / (1 - cut)
    if name == "gain" and against_all(cell, cut):
        # spared negatives are won, spared positives lost; in units of the latter
        gained, lost = 1 - cell.prevalence - lost, cell.prevalence - gained
        weight = 1 / weight
    counts = [np.arange(int(stats.binom.ppf(1e-12, cell.n, share)), cell.n + 1) for share in (gained, lost)]
    left, right = np.meshgrid(*counts, indexing="ij")
    rest = cell.n - left - right
    possible = rest >= 0
    chance = np.zeros(left.shape)
    cells = np.stack([left, right, rest], axis=-1)[possible]
    chance[possible] = stats.multinomial.pmf(cells, cell.n, [gained, lost, 1 - gained - lost])
    values, place = np.unique((left - weight * right).round(9), return_inverse=True)
    chance = np.bincount(place.ravel(), chance.ravel(), minlength=len(values))
    tails = (np.cumsum(chance), np.cumsum(chance[::-1]))
    return 1 - sum(tail[tail <= 0.025].max(initial=0) for tail in tails)


# --- samples --------------------------------------------------------------------------------------------------------


def separation(auc: float) -> float:
    """Distance of the means of two normal distributions of variance 1 that gives this AUC."""
    return sqrt(2) * stats.norm.ppf(auc)


def draw(cell: Cell, rng: np.random.Generator) -> Sample:
    y = correlated(cell, rng) < stats.norm.ppf(cell.prevalence)
    error = correlated(cell, rng)
    score = error + cell.separation * y
    shared = CORRELATION * error + sqrt(1 - CORRELATION**2) * correlated(cell, rng)
    other = shared + separation(cell.auc - LESS_AUC) * y
    log_odds = logit(cell.prevalence) + cell.separation * (score - cell.separation / 2)
    nodes = cell.nodes_per_patient
    patient = np.repeat(np.arange(cell.n), nodes) if nodes > 1 else None
    return Sample(y, score, other, expit(log_odds), patient)


def correlated(cell: Cell, rng: np.random.Generator) -> np.ndarray:
    """Standard normal values of all nodes (n x nodes_per_patient,), correlated within a patient."""
    if cell.nodes_per_patient == 1:
        return rng.normal(size=cell.n)
    own = rng.normal(size=(cell.n, cell.nodes_per_patient))
    return (sqrt(CORRELATION) * rng.normal(size=(cell.n, 1)) + sqrt(1 - CORRELATION) * own).ravel()


# --- methods --------------------------------------------------------------------------------------------------------


def methods(cell: Cell) -> Iterator[Method]:
    """The defaults, and in some cells what they are compared with."""
    clustered = cell.nodes_per_patient > 1
    by_patient = ", by patient" if clustered else ""
    formulas, resampled = (cell.auc == COMPARED_AUC[name] for name in ("formula", "resampled"))

    def area(name: str) -> Limits:
        def limits(sample: Sample, _: np.random.Generator) -> list[tuple[float, float]]:
            return ends(auc_interval(Units.of(sample.y, sample.score, patient=sample.patient), interval=name))

        return limits

    def difference(reference: str) -> Limits:
        def limits(sample: Sample, _: np.random.Generator) -> list[tuple[float, float]]:
            units = Units.of(sample.y, sample.score, sample.other, patient=sample.patient)
            return ends(auc_difference(units, reference=reference))

        return limits

    def percentile_auc(sample: Sample, rng: np.random.Generator) -> list[tuple[float, float]]:
        return ends(interval(weighted_auc, Units.of(sample.y, sample.score, patient=sample.patient), rng, n=RESAMPLES))

    def calibration(know_patients: bool) -> Limits:
        def limits(sample: Sample, _: np.random.Generator) -> list[tuple[float, float]]:
            units = Units.of(sample.y, sample.probability, patient=sample.patient if know_patients else None)
            return [limit for fit in fits for limit in ends(fit(units))]

        fits = (calibration_intercept, calibration_slope)
        return limits

    def score_utility(sample: Sample, _: np.random.Generator) -> list[tuple[float, float]]:
        units = Units.of(sample.y, sample.probability, patient=sample.patient)
        table, names = decision_curve(units, THRESHOLDS, intervals=True), ("net_benefit", "gain")
        return [limit for name in names for limit in zip(table[f"{name}_low"], table[f"{name}_high"], strict=True)]

    def percentile_utility(sample: Sample, rng: np.random.Generator) -> list[tuple[float, float]]:
        units = Units.of(sample.y, sample.probability, patient=sample.patient)
        estimate = interval(both_utilities, units, rng, n=RESAMPLES, stratified=False)
        return list(zip(estimate.low, estimate.high, strict=True))

    yield Method(f"DeLong, log odds and t{by_patient}", True, ("AUC",), (cell.auc,), area("logit_t"))
    yield Method(f"DeLong, t{by_patient}", True, ("AUC difference",), (LESS_AUC,), difference("t"))
    if formulas:
        yield Method(f"DeLong, Wald{by_patient}", False, ("AUC",), (cell.auc,), area("wald"))
        yield Method(f"DeLong, log odds{by_patient}", False, ("AUC",), (cell.auc,), area("logit"))
        yield Method(f"DeLong, normal{by_patient}", False, ("AUC difference",), (LESS_AUC,), difference("normal"))
    if resampled:
        yield Method(f"bootstrap, percentile{by_patient}", False, ("AUC",), (cell.auc,), percentile_auc, SLOW_SHARE)
    coefficients = ("calibration intercept", "calibration slope")
    yield Method(f"Wald{by_patient}", True, coefficients, (0.0, 1.0), calibration(True))
    if formulas and not clustered:
        yield Method("profile likelihood", False, ("calibration slope",), (1.0,), profile_slope, SLOW_SHARE)
    if clustered and formulas:
        yield Method("Wald, patients ignored", False, coefficients, (0.0, 1.0), calibration(False))
    quantities = tuple(f"{name} at {t}" for name in ("net benefit", "gain") for t in THRESHOLDS)
    truths = tuple(truth(t) for truth in (cell.net_benefit, cell.gain) for t in THRESHOLDS)
    yield Method(f"score{by_patient}", True, quantities, truths, score_utility)
    if resampled:
        yield Method(f"bootstrap, percentile{by_patient}", False, quantities, truths, percentile_utility, SLOW_SHARE)


def both_utilities(units: Units, weights: np.ndarray) -> np.ndarray:
    return np.hstack([of(THRESHOLDS)(units, weights) for of in (net_benefit, gain)])


def profile_slope(sample: Sample, _: np.random.Generator) -> list[tuple[float, float]]:
    """Slopes that a likelihood ratio test does not reject, the intercept fitted anew to each; nan where there is none."""
    log_odds, estimate = logit(sample.probability), calibration_slope(Units.of(sample.y, sample.probability))
    if not np.isfinite(estimate.value):
        return [(nan, nan)]
    share = logit(sample.y.mean())

    def log_likelihood(slope: float) -> float:
        offset = slope * log_odds
        intercept = brentq(
            lambda a: float(np.sum(expit(a + offset) - sample.y)),
            share - offset.max() - 1e-9,
            share - offset.min() + 1e-9,
        )
        return float(np.sum(sample.y * (intercept + offset) - np.logaddexp(0, intercept + offset)))

    highest, allowed = log_likelihood(estimate.value), stats.chi2.ppf(0.95, 1)

    def excess(slope: float) -> float:
        return 2 * (highest - log_likelihood(slope)) - allowed

    limits = []
    for step in (-2 * estimate.standard_error, 2 * estimate.standard_error):
        end = estimate.value + step
        while excess(end) < 0:
            end += step
        limits.append(brentq(excess, *sorted((estimate.value, end)), xtol=1e-6))
    return [tuple(limits)]


def ends(estimate: Estimate) -> list[tuple[float, float]]:
    return [(estimate.low, estimate.high)]


if __name__ == "__main__":
    main()
