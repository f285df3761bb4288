"""What the best possible classifier would reach: exact posteriors under the generative model, and their AUC by Monte Carlo.

The model itself is in `patients`. An attainable AUC is an upper bound on the population: pixels lose a little of the
traits they are drawn from (speckle, clipping), and a classifier trained on few patients loses more.

Posteriors of metastasis, each the likelihood-ratio optimum for what it sees (Neyman & Pearson 1933):

    clinical              what patients.csv records, missing values integrated out (missing at random, so ignorable)
    ultrasound            the seven traits of the still; the clinical variables integrated over their population
    clinical_ultrasound   both

Given Gaussian traits Z is Gaussian; E[sigmoid(l + zeta Z)] is one smooth function of l, tabulated by quadrature.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.interpolate import RegularGridInterpolator
from scipy.special import expit, ndtr
from scipy.stats import rankdata

from alnlib.cohorts.simulated import patients as model
from alnlib.cohorts.simulated.specification import CENTRES, SimulationSpec
from alnlib.cohorts.simulated.ultrasound import TRAITS
from alnlib.errors import InputError

MODALITIES = ("clinical", "ultrasound", "clinical_ultrasound")
MONTE_CARLO_PATIENTS = 200_000
TRUTH_FILE = "truth.json"


@dataclass(frozen=True)
class Attainable:
    """The best possible AUC of a modality, and the standard error of its Monte Carlo estimate."""

    auc: float
    monte_carlo_se: float

    def __str__(self) -> str:
        return f"{self.auc:.4f} (Monte Carlo SE {self.monte_carlo_se:.4f})"


def draw_population(
    n: int, centre: str, intercept: float, spec: SimulationSpec, rng: np.random.Generator
) -> dict[str, np.ndarray]:
    """n patients of one centre with everything hidden and shown, one array per column of latent.csv (apart from identifiers)."""
    clinical = model.draw_clinical(n, centre, rng)
    axilla = model.draw_axilla(clinical, intercept, spec, rng)
    missing = model.draw_missing(clinical, centre, spec, rng)
    traits = model.draw_ultrasound_traits(clinical, axilla, spec, rng)
    return {**clinical, **axilla, **missing, **traits}


def attainable_auc(
    spec: SimulationSpec, rng: np.random.Generator, n_patients: int = MONTE_CARLO_PATIENTS
) -> dict[str, dict[str, Attainable]]:
    """{modality or reader: {centre: Attainable}} from n_patients simulated patients per centre.

    Readers are exact (binormal, five grades), so their Monte Carlo error is 0.
    """
    found: dict[str, dict[str, Attainable]] = {modality: {} for modality in MODALITIES}
    intercept = model.nodal_intercept(spec)
    for centre in CENTRES:
        drawn = draw_population(n_patients, centre, intercept, spec, rng)
        oracle = Oracle(spec, centre, intercept, rng)
        for modality in MODALITIES:
            scores = oracle.probability(drawn, modality)
            found[modality][centre] = _auc_with_error(drawn["aln_metastasis"], scores)
    for reader, skill in model.READER_SKILL.items():
        exact = Attainable(graded_reader_auc(skill, spec), 0.0)
        found[reader] = dict.fromkeys(CENTRES, exact)
    return found


def truth_table(found: dict[str, dict[str, Attainable]]) -> dict[str, dict[str, float]]:
    """What truth.json holds: per modality attainable_auc and monte_carlo_se, and both again at the external centre."""
    return {
        name: {
            "attainable_auc": round(centres["primary"].auc, 6),
            "monte_carlo_se": round(centres["primary"].monte_carlo_se, 6),
            "attainable_auc_external": round(centres["external"].auc, 6),
            "monte_carlo_se_external": round(centres["external"].monte_carlo_se, 6),
        }
        for name, centres in found.items()
    }


def read_truth(folder: str | Path) -> pd.DataFrame:
    """truth.json of a simulated cohort folder as a long table: modality, centre, attainable_auc, monte_carlo_se.

    Raises InputError if the folder has none, as no real cohort has.
    """
    path = Path(folder) / TRUTH_FILE
    if not path.is_file():
        raise InputError(f"{path}: no such file; only a simulated cohort has a known truth, simulate it again")
    rows = []
    for modality, known in json.loads(path.read_text(encoding="utf-8")).items():
        for centre, suffix in (("primary", ""), ("external", "_external")):
            rows.append((modality, centre, known[f"attainable_auc{suffix}"], known[f"monte_carlo_se{suffix}"]))
    return pd.DataFrame(rows, columns=["modality", "centre", "attainable_auc", "monte_carlo_se"])


def oracle_score(latent: pd.DataFrame, modality: str, spec: SimulationSpec) -> np.ndarray:
    """(n,) exact posterior probability of metastasis of each row of latent.csv, given what `modality` shows.

    modality: "clinical", "ultrasound" or "clinical_ultrasound". Rows of both centres may be mixed. spec: the one that
    made the cohort. Raises ValueError for another modality.
    """
    if modality not in MODALITIES:
        raise ValueError(f"modality is {modality!r}; expected one of {', '.join(MODALITIES)}")
    intercept = model.nodal_intercept(spec)
    scores = np.full(len(latent), np.nan)
    for centre in CENTRES:
        rows = np.flatnonzero(latent["centre"] == centre)
        if rows.size:
            columns = latent.drop(columns=["patient_id", "centre"]).iloc[rows]
            drawn = {name: column.to_numpy() for name, column in columns.items()}
            oracle = Oracle(spec, centre, intercept, np.random.default_rng([20250101, 11]))
            scores[rows] = oracle.probability(drawn, modality)
    return scores


class Oracle:
    """The Bayes classifier of one centre.

    rng draws the 200,000 clinical profiles over which the ultrasound posterior averages.
    """

    def __init__(self, spec: SimulationSpec, centre: str, intercept: float, rng: np.random.Generator) -> None:
        self.spec, self.centre, self.intercept = spec, centre, intercept
        loadings = spec.signal_ultrasound * np.array([model.ULTRASOUND_LOADINGS[trait] for trait in TRAITS])
        shows_size = np.array(TRAITS) == "size"
        self._size_loading = float(loadings[shows_size][0])
        self._traits = [f"us_{trait}" for trait in TRAITS if trait != "size"]
        self._weights = loadings[~shows_size] / (1.0 - loadings[~shows_size] ** 2)
        precision = 1.0 + float((loadings[~shows_size] * self._weights).sum())
        self._z_variance = 1.0 / precision
        self._rng = rng
        self._table: RegularGridInterpolator | None = None

    def probability(self, drawn: dict[str, np.ndarray], modality: str) -> np.ndarray:
        """(n,) posterior of metastasis given what the modality shows; drawn as from `draw_population`.

        Rounded to 12 decimals, so that a modality without signal gives one tied value and not its rounding errors.
        """
        return np.round(self._posterior(drawn, modality), 12)

    def _posterior(self, drawn: dict[str, np.ndarray], modality: str) -> np.ndarray:
        if modality == "clinical":
            return self._given_clinical(drawn, np.zeros(drawn["age"].size), 1.0)
        z_mean = self._z_variance * sum(
            weight * drawn[trait] for weight, trait in zip(self._weights, self._traits, strict=True)
        )
        if modality == "clinical_ultrasound":
            return self._given_clinical(drawn, z_mean, self._z_variance)
        return self._given_ultrasound(z_mean, drawn["us_size"])

    def _given_clinical(self, drawn: dict[str, np.ndarray], z_mean: np.ndarray, z_variance: float) -> np.ndarray:
        known = {**drawn}
        gaps = [drawn[f"{name}_missing"].astype(bool) for name in ("grade", "ki67", "lvi")]
        for name, gap, neutral in zip(("grade", "ki67", "lvi"), gaps, (2, model.KI67_MEDIAN, 0), strict=True):
            known[name] = np.where(gap, neutral, drawn[name])
        log_odds = self.intercept + model.nodal_log_odds(known, self.spec) + model.INVASIVENESS_LOG_ODDS * z_mean
        marginal = _MarginalSigmoid(z_variance)
        scores = marginal(log_odds)
        for no_grade in (False, True):
            for no_ki67 in (False, True):
                for no_lvi in (False, True):
                    if not (no_grade or no_ki67 or no_lvi):
                        continue
                    rows = np.flatnonzero((gaps[0] == no_grade) & (gaps[1] == no_ki67) & (gaps[2] == no_lvi))
                    for chunk in np.array_split(rows, max(1, rows.size // 2000)):
                        part = {name: values[chunk] for name, values in known.items()}
                        scores[chunk] = self._integrated(
                            part, log_odds[chunk], marginal, no_grade=no_grade, no_ki67=no_ki67, no_lvi=no_lvi
                        )
        return scores

    def _integrated(
        self,
        known: dict[str, np.ndarray],
        log_odds: np.ndarray,
        marginal: _MarginalSigmoid,
        *,
        no_grade: bool,
        no_ki67: bool,
        no_lvi: bool,
    ) -> np.ndarray:
        """Average over the missing values given the recorded ones; they depend on each other through proliferation alone."""
        nodes = np.linspace(-4.5, 4.5, 31)
        weight = self._proliferation_weights(known, nodes, no_grade=no_grade, no_ki67=no_ki67, no_lvi=no_lvi)
        size_score = model.standardized_log_size(known["size_mm"])
        slope = model.nodal_coefficients(self.spec)
        grades = [(0.0, None)]
        if no_grade:
            chances = model.grade_probabilities(nodes)
            grades = [(slope["grade"] * (grade - 2.0), chances[:, grade - 1]) for grade in (1, 2, 3)]
        invasions = [(0.0, None)]
        if no_lvi:
            present = model.lvi_probability(nodes[None, :], size_score[:, None])
            invasions = [(0.0, 1.0 - present), (slope["lvi"], present)]
        total = np.zeros(log_odds.size)
        for grade_shift, grade_chance in grades:
            for lvi_shift, lvi_chance in invasions:
                joint = weight if grade_chance is None else weight * grade_chance
                joint = joint if lvi_chance is None else joint * lvi_chance
                shifted = log_odds + grade_shift + lvi_shift
                if not no_ki67:
                    total += joint.sum(axis=1) * marginal(shifted)
                    continue
                mean, sd = model.log_ki67_given_proliferation(nodes)
                points, point_weights = np.polynomial.hermite_e.hermegauss(7)
                for point, point_weight in zip(points, point_weights / point_weights.sum(), strict=True):
                    ki67 = np.clip(np.exp(mean + sd * point), *model.KI67_RANGE)
                    shift = slope["log2_ki67"] * np.log2(ki67 / model.KI67_MEDIAN)
                    total += point_weight * (joint * marginal(shifted[:, None] + shift)).sum(axis=1)
        return total

    def _proliferation_weights(
        self, known: dict[str, np.ndarray], nodes: np.ndarray, *, no_grade: bool, no_ki67: bool, no_lvi: bool
    ) -> np.ndarray:
        """(n, nodes) posterior of proliferation given everything recorded; a rounded value counts as its interval."""
        likelihood = np.exp(-0.5 * nodes**2)[None, :] * np.ones((known["age"].size, 1))
        mean, sd = model.log_size_given_proliferation(nodes, self.centre)
        likelihood *= _rounded_likelihood(known["size_mm"], mean, sd, model.SIZE_RANGE_MM)
        column = {name: np.asarray(known[name])[:, None] for name in ("age", "er", "pr", "her2", "histology", "lvi")}
        likelihood *= _bernoulli(column["er"], model.er_probability(nodes, column["age"]))
        likelihood *= _bernoulli(column["pr"], model.pr_probability(nodes, column["er"]))
        likelihood *= _bernoulli(column["her2"], model.her2_probability(nodes))
        likelihood *= _bernoulli((column["histology"] == 1).astype(int), model.lobular_probability(nodes))
        if not no_grade:
            likelihood *= model.grade_probabilities(nodes).T[np.asarray(known["grade"], dtype=int) - 1]
        if not no_ki67:
            mean, sd = model.log_ki67_given_proliferation(nodes)
            likelihood *= _rounded_likelihood(known["ki67"], mean, sd, model.KI67_RANGE)
        if not no_lvi:
            size_score = model.standardized_log_size(known["size_mm"])[:, None]
            likelihood *= _bernoulli(column["lvi"], model.lvi_probability(nodes, size_score))
        return likelihood / likelihood.sum(axis=1, keepdims=True)

    def _given_ultrasound(self, z_mean: np.ndarray, shown_size: np.ndarray) -> np.ndarray:
        if self._table is None:
            self._table = self._tabulate_ultrasound()
        points = np.column_stack([np.clip(shown_size, -6.0, 6.0), np.clip(z_mean, -6.0, 6.0)])
        return self._table(points)

    def _tabulate_ultrasound(self) -> RegularGridInterpolator:
        """Posterior on a grid of shown size and mean of Z, averaged over clinical profiles by their chance of that size."""
        profiles = model.draw_clinical(MONTE_CARLO_PATIENTS, self.centre, self._rng)
        log_odds = self.intercept + model.nodal_log_odds(profiles, self.spec)
        size_score = model.standardized_log_size(profiles["size_mm"])
        counts, size_edges, odds_edges = np.histogram2d(size_score, log_odds, bins=(80, 240))
        sizes, odds = (0.5 * (edges[:-1] + edges[1:]) for edges in (size_edges, odds_edges))
        shown, z_mean = np.linspace(-6.0, 6.0, 97), np.linspace(-6.0, 6.0, 121)
        variance = 1.0 - self._size_loading**2
        squared = (shown[:, None] - self._size_loading * sizes[None, :]) ** 2 / variance
        closeness = np.exp(-0.5 * (squared - squared.min(axis=1, keepdims=True)))
        chance = closeness @ counts
        chance /= chance.sum(axis=1, keepdims=True)
        marginal = _MarginalSigmoid(self._z_variance)
        given = marginal(odds[:, None] + model.INVASIVENESS_LOG_ODDS * z_mean[None, :])
        return RegularGridInterpolator((shown, z_mean), chance @ given)


class _MarginalSigmoid:
    """E[sigmoid(l + zeta sqrt(variance) N)] as a function of l, interpolated from 31-point Gauss-Hermite quadrature."""

    def __init__(self, z_variance: float) -> None:
        points, weights = np.polynomial.hermite_e.hermegauss(31)
        shift = model.INVASIVENESS_LOG_ODDS * np.sqrt(z_variance) * points
        self._grid = np.linspace(-20.0, 20.0, 4001)
        self._values = expit(self._grid[:, None] + shift[None, :]) @ (weights / weights.sum())

    def __call__(self, log_odds: np.ndarray) -> np.ndarray:
        return np.interp(log_odds, self._grid, self._values)


def _bernoulli(outcome: np.ndarray, probability: np.ndarray) -> np.ndarray:
    return np.where(outcome == 1, probability, 1.0 - probability)


def _rounded_likelihood(value: np.ndarray, mean: np.ndarray, sd: float, limits: tuple[int, int]) -> np.ndarray:
    """(n, nodes) chance that a log-normal value rounds, and is clipped, to `value`."""
    value = np.asarray(value, dtype=float)
    low = np.where(value <= limits[0], -np.inf, np.log(value - 0.5))
    high = np.where(value >= limits[1], np.inf, np.log(value + 0.5))
    return ndtr((high[:, None] - mean) / sd) - ndtr((low[:, None] - mean) / sd)


def graded_reader_auc(skill: float, spec: SimulationSpec) -> float:
    """AUC of a five-grade score whose ungraded impression has AUC `skill`: P(higher) + P(tie) / 2."""
    cuts = np.array(model.READER_CUTS)
    below = np.concatenate([[0.0], ndtr(cuts), [1.0]])
    below_positive = np.concatenate([[0.0], ndtr(cuts - model.reader_separation(skill, spec)), [1.0]])
    negative, positive = np.diff(below), np.diff(below_positive)
    return float((positive * (below[:-1] + 0.5 * negative)).sum())


def _auc_with_error(status: np.ndarray, score: np.ndarray) -> Attainable:
    """AUC and its DeLong standard error by midranks (Sun & Xu 2014). `evaluation` is not imported: cohorts come before it."""
    positive, negative = score[status == 1], score[status == 0]
    ranks = rankdata(np.concatenate([positive, negative]))
    above = (ranks[: positive.size] - rankdata(positive)) / negative.size
    below = 1.0 - (ranks[positive.size :] - rankdata(negative)) / positive.size
    error = np.sqrt(above.var(ddof=1) / positive.size + below.var(ddof=1) / negative.size)
    return Attainable(float(above.mean()), float(error))
