"""The Bayes classifiers of the simulation: exact posterior probabilities given what any set of modalities shows.

The generative model is in `patients` and `traits`; how well these classifiers do over a population is in `truth`. They see
traits, clinical variables and nodes on CT, not what readers said.

The model in words, with sources and what is unlike reality: MODEL.md in this folder.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from scipy.interpolate import RegularGridInterpolator
from scipy.special import expit, logit, logsumexp, ndtr

from alnsim import mri, traits
from alnsim import patients as model
from alnsim.specification import SimulationSpec
from alnsim.traits import TraitModel

PROFILES = 200_000
"""Clinical profiles over which a posterior averages that does not see them."""


@dataclass(frozen=True)
class Evidence:
    """Traits x = on_hidden * hidden + on_size * u + N(0, covariance); u: standardized log tumor size.

    mixing: (seen, traits): what is seen is mixing @ x, for traits that are not seen one by one.
    """

    columns: tuple[str, ...]
    on_hidden: np.ndarray
    on_size: np.ndarray
    covariance: np.ndarray
    mixing: np.ndarray

    @classmethod
    def of(cls, models: Sequence[TraitModel], spec: SimulationSpec, mixing: np.ndarray | None = None) -> Evidence:
        """The Gaussian traits of some modalities; those driven by the status are not among them.

        mixing: (seen, traits), default: each trait by itself.
        """
        linear = [
            (column, driver.source, trait_model.strength(driver, spec))
            for trait_model in models
            for column, driver in zip(trait_model.columns(), trait_model.drivers, strict=True)
            if driver.source != "status"
        ]
        on_size = np.array([strength * (source == "size") for _, source, strength in linear])
        on_hidden = np.array([strength * (source != "size") for _, source, strength in linear])
        covariance = np.diag(1.0 - on_size**2 - on_hidden**2) if linear else np.zeros((0, 0))
        mixing = np.eye(len(linear)) if mixing is None else mixing
        return cls(
            tuple(column for column, _, _ in linear),
            mixing @ on_hidden,
            mixing @ on_size,
            mixing @ covariance @ mixing.T,
            mixing,
        )

    def __post_init__(self) -> None:
        inverse = np.linalg.inv(self.covariance)
        variance = 1.0 / (1.0 + self.on_hidden @ inverse @ self.on_hidden)
        weights = variance * self.on_hidden @ inverse
        marginal = np.linalg.inv(self.covariance + np.outer(self.on_hidden, self.on_hidden))
        object.__setattr__(self, "hidden_variance", float(variance))
        object.__setattr__(self, "hidden_per_size", -float(weights @ self.on_size))
        object.__setattr__(self, "size_precision", float(self.on_size @ marginal @ self.on_size))
        object.__setattr__(self, "_hidden_weights", weights)
        object.__setattr__(self, "_size_weights", self.on_size @ marginal)

    def hidden_mean(self, drawn: dict[str, np.ndarray]) -> np.ndarray:
        """(n,) mean of the hidden variable given the traits and u = 0; add `hidden_per_size` * u."""
        return self._seen(drawn) @ self._hidden_weights

    def size_estimate(self, drawn: dict[str, np.ndarray]) -> np.ndarray:
        """(n,) maximum-likelihood u given the traits, its precision is `size_precision`; 0 where they say nothing."""
        return self._seen(drawn) @ self._size_weights / (self.size_precision or 1.0)

    def _seen(self, drawn: dict[str, np.ndarray]) -> np.ndarray:
        n = np.size(next(iter(drawn.values())))
        stacked = np.stack([drawn[column] for column in self.columns], axis=-1) if self.columns else np.zeros((n, 0))
        return stacked @ self.mixing.T


def status_log_likelihood_ratio(
    drawn: dict[str, np.ndarray], models: Sequence[TraitModel], spec: SimulationSpec
) -> np.ndarray | float:
    """(n,) log p(status traits | positive) - log p(status traits | negative)."""
    total: np.ndarray | float = 0.0
    for trait_model in models:
        for column, driver in zip(trait_model.columns(), trait_model.drivers, strict=True):
            if driver.source == "status":
                apart = trait_model.strength(driver, spec)
                total = total + apart * drawn[column] - 0.5 * apart**2
    return total


def node_evidence(node_traits: dict[str, np.ndarray], spec: SimulationSpec, lost: Sequence[str] = ()) -> np.ndarray:
    """log p(traits | malignant) - log p(traits | benign) of nodes seen one at a time; any shape.

    lost: traits that the image does not show, as `traits.LOST_BY_ADJUSTABLE_SQUARE`.
    """
    total = np.zeros_like(next(iter(node_traits.values())))
    for column, driver in zip(traits.NODE.columns(), traits.NODE.drivers, strict=True):
        if driver.trait not in lost:
            apart = traits.NODE.strength(driver, spec)
            total = total + apart * node_traits[column] - 0.5 * apart**2
    return total


def node_separation(spec: SimulationSpec, lost: Sequence[str] = ()) -> float:
    """d' between malignant and benign nodes of all traits together; the attainable AUC is ndtr(d' / sqrt(2))."""
    apart = [traits.NODE.strength(driver, spec) for driver in traits.NODE.drivers if driver.trait not in lost]
    return float(np.sqrt(np.square(apart).sum()))


def nodes_log_likelihood_ratio(evidence: np.ndarray, spec: SimulationSpec) -> np.ndarray:
    """(n,) log p(nodes | positive patient) - log p(nodes | negative patient), from their number and their traits.

    evidence: (n, nodes) of `node_evidence`, patients with the same number of nodes. Traits of a patient's nodes share
    a part, so their precision matrix is that of compound symmetry; labels are summed over every combination.
    """
    count = evidence.shape[1]
    squared = node_separation(spec) ** 2
    projected = evidence + 0.5 * squared
    alike = traits.NODE_ALIKE
    precision = (np.eye(count) - alike / (1.0 + (count - 1) * alike)) / (1.0 - alike)
    share = traits.MALIGNANT_SHARE
    terms = []
    for labels in product((0, 1), repeat=count):
        if not any(labels):
            continue
        config = np.array(labels, dtype=float)
        chance = share ** config.sum() * (1.0 - share) ** (count - config.sum()) / (1.0 - (1.0 - share) ** count)
        fit = projected @ precision @ config - 0.5 * squared * config @ precision @ config
        terms.append(np.log(chance) + fit)
    by_count = [traits.node_count_chance(status, spec)[count - 1] for status in (0, 1)]
    return logsumexp(terms, axis=0) + np.log(by_count[1] / by_count[0])


class MetastasisOracle:
    """Posterior of aln_metastasis at one center, for patients operated at once.

    rng draws the clinical profiles over which a posterior averages that does not see the clinical variables.
    """

    def __init__(self, spec: SimulationSpec, center: str, intercept: float, rng: np.random.Generator) -> None:
        self.spec, self.center, self.intercept = spec, center, intercept
        profiles = model.draw_clinical(PROFILES, center, rng)
        self._profiles = (
            model.standardized_log_size(profiles["size_mm"]),
            intercept + model.nodal_log_odds(profiles, spec),
        )

    def probability(self, drawn: dict[str, np.ndarray], seen: Sequence[str]) -> np.ndarray:
        """(n,) posterior given what `seen` shows: any of "clinical", "ct", and the keys of `traits.IMAGES`.

        drawn: as from `truth.draw_population`. Rounded to 12 decimals, so that a modality without signal gives one
        tied value and not its rounding errors.
        """
        models = [traits.IMAGES[name] for name in seen if name in traits.IMAGES]
        evidence = Evidence.of(models, self.spec)
        if "clinical" in seen:
            base = self._given_clinical(drawn, evidence.hidden_mean(drawn), evidence.hidden_variance)
        else:
            base = _given_traits(evidence, drawn, self._profiles, model.INVASIVENESS_LOG_ODDS)
        ratio = status_log_likelihood_ratio(drawn, models, self.spec)
        if "ct" in seen:
            ratio = ratio + drawn["ct_log_likelihood_ratio"]
        return np.round(expit(logit(base) + ratio), 12)

    def _given_clinical(self, drawn: dict[str, np.ndarray], z_mean: np.ndarray, z_variance: float) -> np.ndarray:
        known = {**drawn}
        gaps = [drawn[f"{name}_missing"].astype(bool) for name in ("grade", "ki67", "lvi")]
        for name, gap, neutral in zip(("grade", "ki67", "lvi"), gaps, (2, model.KI67_MEDIAN, 0), strict=True):
            known[name] = np.where(gap, neutral, drawn[name])
        log_odds = self.intercept + model.nodal_log_odds(known, self.spec) + model.INVASIVENESS_LOG_ODDS * z_mean
        marginal = _MarginalSigmoid(z_variance, model.INVASIVENESS_LOG_ODDS)
        scores = marginal(log_odds)
        for missing in product((False, True), repeat=3):
            if any(missing):
                rows = np.flatnonzero(np.all([gap == lacks for gap, lacks in zip(gaps, missing, strict=True)], axis=0))
                for chunk in np.array_split(rows, max(1, rows.size // 2000)):
                    part = {name: values[chunk] for name, values in known.items()}
                    scores[chunk] = self._integrated(part, log_odds[chunk], marginal, missing)
        return scores

    def _integrated(
        self,
        known: dict[str, np.ndarray],
        log_odds: np.ndarray,
        marginal: _MarginalSigmoid,
        missing: tuple[bool, bool, bool],
    ) -> np.ndarray:
        """Average over the missing values (grade, Ki-67, vascular invasion) given the recorded ones; they depend on each
        other through proliferation alone."""
        no_grade, no_ki67, no_lvi = missing
        nodes = np.linspace(-4.5, 4.5, 31)
        weight = self._proliferation_weights(known, nodes, missing)
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
        self, known: dict[str, np.ndarray], nodes: np.ndarray, missing: tuple[bool, bool, bool]
    ) -> np.ndarray:
        """(n, nodes) posterior of proliferation given everything recorded; a rounded value counts as its interval."""
        no_grade, no_ki67, no_lvi = missing
        likelihood = np.exp(-0.5 * nodes**2)[None, :] * np.ones((known["age"].size, 1))
        mean, sd = model.log_size_given_proliferation(nodes, self.center)
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


class ResponseOracle:
    """Posterior of apcr, for patients treated before surgery. rng: as of `MetastasisOracle`."""

    def __init__(
        self, spec: SimulationSpec, nodal_intercept: float, intercept: float, rng: np.random.Generator
    ) -> None:
        self.spec, self.intercept = spec, intercept
        profiles, _ = model.draw_neoadjuvant(PROFILES // 4, nodal_intercept, spec, rng)
        self._profiles = (
            model.standardized_log_size(profiles["size_mm"]),
            intercept + model.response_log_odds(profiles, spec),
        )

    def probability(self, drawn: dict[str, np.ndarray], seen: Sequence[str]) -> np.ndarray:
        """(n,) posterior given what `seen` shows: any of "clinical", "pre", "post"; rounded as for metastasis."""
        evidence = self._evidence("pre" in seen, "post" in seen)
        if "clinical" not in seen:
            return np.round(_given_traits(evidence, drawn, self._profiles, model.CHEMOSENSITIVITY_LOG_ODDS), 12)
        size_score = model.standardized_log_size(drawn["size_mm"])
        mean = evidence.hidden_mean(drawn) + evidence.hidden_per_size * size_score
        log_odds = self.intercept + model.response_log_odds(drawn, self.spec)
        marginal = _MarginalSigmoid(evidence.hidden_variance, model.CHEMOSENSITIVITY_LOG_ODDS)
        return np.round(marginal(log_odds + model.CHEMOSENSITIVITY_LOG_ODDS * mean), 12)

    def _evidence(self, before: bool, after: bool) -> Evidence:
        if not after:
            return Evidence.of([traits.BEFORE_THERAPY] if before else [], self.spec)
        return Evidence.of(VISITS, self.spec, None if before else after_therapy_mixing())


VISITS = (traits.BEFORE_THERAPY, traits.VASCULARITY, traits.CHANGE)
"""Traits of patients treated first, in the order of the columns of `after_therapy_mixing`."""


def after_therapy_mixing() -> np.ndarray:
    """(seen, traits of `VISITS`): what MRI after therapy alone shows of the traits before and of their changes.

    One row per trait before therapy, as it is afterwards, and one for enhancement: its drop, less how strongly the tumor
    enhanced to begin with. The gains are those of the maps in `mri.after_therapy`.
    """
    names = [driver.trait for trait_model in VISITS for driver in trait_model.drivers]
    seen = [driver.trait for driver in traits.BEFORE_THERAPY.drivers]
    mixing = np.zeros((len(seen) + 1, len(names)))
    mixing[np.arange(len(seen)), [names.index(trait) for trait in seen]] = 1.0
    for trait, (response, gain) in mri.GAINS.items():
        mixing[seen.index(trait), names.index(response)] = gain
    mixing[-1, names.index("enhancement_drop")] = 1.0
    mixing[-1, names.index("vascularity")] = -mri.VASCULARITY_SD / mri.ENHANCEMENT_DROP_PER_SD
    return mixing


def _given_traits(
    evidence: Evidence, drawn: dict[str, np.ndarray], profiles: tuple[np.ndarray, np.ndarray], hidden_log_odds: float
) -> np.ndarray:
    """(n,) posterior given traits alone, averaged over clinical profiles (size score, log odds) by their fit to the size.

    Tabulated on a grid of the size that the traits suggest and the mean of the hidden variable.
    """
    size_score, log_odds = profiles
    log_odds = log_odds + hidden_log_odds * evidence.hidden_per_size * size_score
    counts, size_edges, odds_edges = np.histogram2d(size_score, log_odds, bins=(80, 240))
    sizes, odds = (0.5 * (edges[:-1] + edges[1:]) for edges in (size_edges, odds_edges))
    grid_size, grid_mean = np.linspace(-7.0, 7.0, 113), np.linspace(-7.0, 7.0, 141)
    squared = evidence.size_precision * (grid_size[:, None] - sizes[None, :]) ** 2
    closeness = np.exp(-0.5 * (squared - squared.min(axis=1, keepdims=True)))
    chance = closeness @ counts
    chance /= chance.sum(axis=1, keepdims=True)
    marginal = _MarginalSigmoid(evidence.hidden_variance, hidden_log_odds)
    table = RegularGridInterpolator(
        (grid_size, grid_mean), chance @ marginal(odds[:, None] + hidden_log_odds * grid_mean[None, :])
    )
    points = np.column_stack([evidence.size_estimate(drawn), evidence.hidden_mean(drawn)])
    return table(np.clip(points, -7.0, 7.0))


class _MarginalSigmoid:
    """E[sigmoid(l + h sqrt(variance) N)] as a function of l, interpolated from 31-point Gauss-Hermite quadrature."""

    def __init__(self, variance: float, hidden_log_odds: float) -> None:
        points, weights = np.polynomial.hermite_e.hermegauss(31)
        shift = hidden_log_odds * np.sqrt(variance) * points
        grid = np.linspace(-20.0, 20.0, 4001)
        self._values = expit(grid[:, None] + shift[None, :]) @ (weights / weights.sum())
        self._steps = np.diff(self._values, append=self._values[-1])

    def __call__(self, log_odds: np.ndarray) -> np.ndarray:
        place = np.clip((log_odds + 20.0) * 100.0, 0.0, 4000.0)
        below = place.astype(np.intp)
        return self._values[below] + (place - below) * self._steps[below]


def _bernoulli(outcome: np.ndarray, probability: np.ndarray) -> np.ndarray:
    return np.where(outcome == 1, probability, 1.0 - probability)


def _rounded_likelihood(value: np.ndarray, mean: np.ndarray, sd: float, limits: tuple[int, int]) -> np.ndarray:
    """(n, nodes) chance that a log-normal value rounds, and is clipped, to `value`."""
    value = np.asarray(value, dtype=float)
    low = np.where(value <= limits[0], -np.inf, np.log(value - 0.5))
    high = np.where(value >= limits[1], np.inf, np.log(value + 0.5))
    return ndtr((high[:, None] - mean) / sd) - ndtr((low[:, None] - mean) / sd)
