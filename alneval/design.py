"""What a study of a given size could have known: power, width of intervals, and errors of sign and size, by simulated studies.

Two models score the same patients; their scores are normal in either class, shifted so that the AUCs are those given, with one
correlation within the classes. Each simulated study is tested as a real one is, by DeLong's test (`alneval.delong`), or
Obuchowski's where patients have several units, such as nodes.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, sqrt

import numpy as np
from scipy import stats

from alneval.delong import auc_difference
from alneval.units import Units


@dataclass(frozen=True)
class Design:
    """A comparison of two models: patients of either class, their true AUCs, the correlation of their scores within a class.

    Raises ValueError for fewer than 2 patients in a class, an AUC outside (0, 1) or a correlation outside (-1, 1).
    """

    n_positive: int
    n_negative: int
    auc: float
    auc_of_other: float
    correlation: float

    def __post_init__(self) -> None:
        if min(self.n_positive, self.n_negative) < 2:
            raise ValueError(
                f"{self.n_positive} positive and {self.n_negative} negative patients; give at least 2 of each"
            )
        if not (0 < self.auc < 1 and 0 < self.auc_of_other < 1 and -1 < self.correlation < 1):
            raise ValueError("AUCs must lie between 0 and 1, the correlation between -1 and 1")

    @property
    def difference(self) -> float:
        """Of the true AUCs."""
        return self.auc - self.auc_of_other


@dataclass(frozen=True, eq=False)
class NodeDesign:
    """The same where patients have several units: n_patients are drawn from `patterns` (k, 2), of each of which the positive and
    negative units are counted. alike: correlation of a model's scores between two units of a patient and class.

    Raises ValueError as `Design`, for fewer than 2 patients that hold a class, or an `alike` outside [0, 1].
    """

    n_patients: int
    patterns: np.ndarray
    auc: float
    auc_of_other: float
    correlation: float
    alike: float

    def __post_init__(self) -> None:
        holding = (np.asarray(self.patterns) > 0).mean(axis=0) * self.n_patients
        Design(*(int(count) for count in holding), self.auc, self.auc_of_other, self.correlation)
        if not 0 <= self.alike <= 1:
            raise ValueError(f"units of a patient correlate by 0 to 1, not {self.alike}")

    @property
    def difference(self) -> float:
        """Of the true AUCs, over units of different patients."""
        return self.auc - self.auc_of_other

    def study(self, rng: np.random.Generator) -> Units:
        """One study: units of its patients with both scores. Patients are drawn anew until two hold either class."""
        while True:
            counts = self.patterns[rng.integers(len(self.patterns), size=self.n_patients)]
            if (np.count_nonzero(counts, axis=0) >= 2).all():
                break
        patient = np.repeat(np.arange(self.n_patients), counts.sum(axis=1))
        y = np.concatenate([np.repeat([1, 0], own) for own in counts])
        root = np.linalg.cholesky([[1, self.correlation], [self.correlation, 1]])
        common, own = rng.normal(size=(self.n_patients, 2)), rng.normal(size=(len(y), 2))
        noise = (sqrt(self.alike) * common[patient] + sqrt(1 - self.alike) * own) @ root.T
        shift = sqrt(2) * stats.norm.ppf([self.auc, self.auc_of_other])
        return Units.of(y, *(noise + y[:, None] * shift).T, patient=patient)


@dataclass(frozen=True)
class Knowable:
    """What studies of a design find: share that is significant, mean width of the 95 % interval, and of the significant ones the
    share with the wrong sign (type S) and the mean size of the difference over the true one (type M).

    Gelman & Carlin 2014, Perspect Psychol Sci 9:641. nan where no study was significant, or no difference is true. n_80: patients
    at which 80 % of studies would be significant, from `exact_error`, which falls with the root of n.
    """

    power: float
    width: float
    type_s: float
    type_m: float
    n_80: float


def simulated_aucs(
    n_positive: int, n_negative: int, aucs: np.ndarray, correlation: float, n_studies: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """AUCs (n_studies, m) of m models on the same patients, study by study, and the placements of positive
    (n_studies, n_positive, m) and of negative patients, whose means they are. aucs: (m,), the true ones."""
    shift = sqrt(2) * stats.norm.ppf(np.asarray(aucs, float))
    within = np.full((len(shift), len(shift)), correlation) + (1 - correlation) * np.eye(len(shift))
    root = np.linalg.cholesky(within)
    positive = rng.normal(size=(n_studies, n_positive, len(shift))) @ root.T + shift
    negative = rng.normal(size=(n_studies, n_negative, len(shift))) @ root.T
    everyone = _ranks(np.concatenate([positive, negative], axis=1))
    of_positive = (everyone[:, :n_positive] - _ranks(positive)) / n_negative
    of_negative = 1 - (everyone[:, n_positive:] - _ranks(negative)) / n_positive
    return of_positive.mean(axis=1), of_positive, of_negative


def _ranks(scores: np.ndarray) -> np.ndarray:
    """From 0, along the second axis; normal scores have no ties."""
    return scores.argsort(axis=1).argsort(axis=1)


def what_could_be_known(design: Design, rng: np.random.Generator, n_studies: int = 2000) -> Knowable:
    """Simulate `n_studies` studies and test each by DeLong's paired test, referred to t as `delong.auc_difference` is."""
    true = np.array([design.auc, design.auc_of_other])
    sizes = design.n_positive, design.n_negative
    areas, of_positive, of_negative = simulated_aucs(*sizes, true, design.correlation, n_studies, rng)
    found = areas[:, 0] - areas[:, 1]
    variance = sum(
        (placed[..., 0] - placed[..., 1]).var(axis=1, ddof=1) / placed.shape[1] for placed in (of_positive, of_negative)
    )
    reach = stats.t.ppf(0.975, min(sizes) - 1) * np.sqrt(variance)
    return _knowable(design.difference, found, reach, sum(sizes), exact_error(design))


def what_nodes_could_tell(design: NodeDesign, rng: np.random.Generator, n_studies: int = 2000) -> Knowable:
    """The same of units of patients, by Obuchowski's test; n_80 counts patients, by the spread that the studies have."""
    tested = [auc_difference(design.study(rng)) for _ in range(n_studies)]
    found = np.array([one.value for one in tested])
    reach = np.array([one.high for one in tested]) - found
    return _knowable(design.difference, found, reach, design.n_patients, float(found.std(ddof=1)))


def _knowable(true: float, found: np.ndarray, reach: np.ndarray, n: int, error: float) -> Knowable:
    """From differences (n_studies,) and half their intervals; n, error: patients of a study, and its true standard error."""
    significant = np.abs(found) > reach
    width, power = 2 * reach.mean(), significant.mean()
    if true == 0 or not significant.any():
        return Knowable(power, width, np.nan, np.nan, np.nan)
    wrong = np.sign(found[significant]) != np.sign(true)
    exaggeration = np.abs(found[significant]).mean() / abs(true)
    needed = (stats.norm.ppf(0.975) + stats.norm.ppf(0.8)) * error / true
    return Knowable(power, width, wrong.mean(), exaggeration, ceil(n * needed**2))


def exact_error(design: Design) -> float:
    """Standard deviation of the difference of the two AUCs over such studies, in closed form.

    An AUC is a mean over pairs of a positive and a negative patient; two pairs that share one patient or both are related as two
    normal variables whose chance to be positive together is an orthant probability (Bamber 1975, J Math Psychol 12:387).
    """
    reach = stats.norm.ppf([design.auc, design.auc_of_other])
    n_positive, n_negative, r = design.n_positive, design.n_negative, design.correlation

    def covariance(i: int, j: int, both: float) -> float:
        """Of AUCs i and j; both: correlation of their scores in one patient."""
        product = stats.norm.cdf(reach[i]) * stats.norm.cdf(reach[j])
        same_pair, shared_patient = (_both_positive(reach[[i, j]], c) - product for c in (both, both / 2))
        return (same_pair + (n_positive + n_negative - 2) * shared_patient) / (n_positive * n_negative)

    return sqrt(covariance(0, 0, 1.0) + covariance(1, 1, 1.0) - 2 * covariance(0, 1, r))


def _both_positive(means: np.ndarray, correlation: float) -> float:
    if correlation == 1:
        return float(stats.norm.cdf(means.min()))
    return float(stats.multivariate_normal.cdf(means, cov=[[1, correlation], [correlation, 1]]))


def spread_and_optimism(
    n_positive: int,
    n_negative: int,
    auc: float,
    rng: np.random.Generator,
    k: int,
    correlation: float,
    n_studies: int = 2000,
) -> dict[str, float]:
    """Where 95 % of AUCs lie on test sets of that size, and how much the best of k equally good models, chosen on the test set
    itself, looks better than it is. correlation: of any two models' scores within a class."""
    areas, _, _ = simulated_aucs(n_positive, n_negative, np.full(k, auc), correlation, n_studies, rng)
    low, high = np.quantile(areas[:, 0], [0.025, 0.975])
    return {"low": float(low), "high": float(high), "optimism": float(areas.max(axis=1).mean() - auc)}
