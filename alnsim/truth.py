"""What the best possible classifier would reach: the attainable AUC of every modality, pair and of all together, by Monte Carlo.

The generative model is in `patients` and `traits`, the classifiers in `oracle`; what an attainable AUC means: MODEL.md.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.special import expit, logit, ndtr
from scipy.stats import rankdata

from alnlib.errors import InputError
from alnlib.tasks import ordered
from alnsim import patients as model
from alnsim import traits
from alnsim.oracle import (
    VISITS,
    MetastasisOracle,
    ResponseOracle,
    node_evidence,
    node_separation,
    nodes_log_likelihood_ratio,
)
from alnsim.specification import GROUPS, SimulationSpec

SHOWN = {
    "clinical": ("clinical",),
    "ultrasound": ("ultrasound",),
    "video": ("ultrasound", "key_frame", "motion"),
    "mri": ("mri",),
    "mammography": ("mammography",),
    "ct": ("ct",),
}
"""What each modality shows, in the words of `oracle.MetastasisOracle`; a sweep is of the lesion of the still."""


def _together(*names: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(part for name in names for part in SHOWN[name]))


METASTASIS = {
    **SHOWN,
    "video_key_frame": ("ultrasound", "key_frame"),
    **{f"{a}_{b}": _together(a, b) for a, b in combinations(SHOWN, 2) if (a, b) != ("ultrasound", "video")},
    "clinical_ultrasound_mri": _together("clinical", "ultrasound", "mri"),
    "all": _together(*SHOWN),
}
"""Every set of modalities whose attainable AUC for aln_metastasis is known; readers are in none. A sweep holds its still."""

RESPONSE = {
    "response_clinical": ("clinical",),
    "response_mri_pre": ("pre",),
    "response_mri_post": ("post",),
    "response_mri_longitudinal": ("pre", "post"),
    "response_clinical_mri_longitudinal": ("clinical", "pre", "post"),
}
"""The same for apcr, in patients treated before surgery."""

NODES = {
    "ct_nodes": (),
    "ct_nodes_fixed_size": (),
    "ct_nodes_adjustable_square": traits.LOST_BY_ADJUSTABLE_SQUARE,
}
"""Node images: the traits that each crop loses. A square of fixed width in mm round the node loses none."""

KEPT_ORACLES = (
    *(*SHOWN, "video_key_frame", "clinical_ultrasound", "ultrasound_mri", "clinical_ultrasound_mri"),
    *("mri_mammography", "all", *RESPONSE),
)
"""Oracles whose probability is written for every patient of the cohort that has the images."""

MONTE_CARLO_PATIENTS = 100_000
TRUTH_FILE = "truth.json"


@dataclass(frozen=True)
class Attainable:
    """The best possible AUC of a modality, and the standard error of its Monte Carlo estimate (0: exact)."""

    auc: float
    monte_carlo_se: float

    def __str__(self) -> str:
        return f"{self.auc:.4f} (Monte Carlo SE {self.monte_carlo_se:.4f})"


def draw_population(
    n: int, center: str, intercept: float, spec: SimulationSpec, rng: np.random.Generator
) -> dict[str, np.ndarray]:
    """n patients of one center operated at once, with everything hidden and shown: one array per column of latent.csv."""
    clinical = model.draw_clinical(n, center, rng)
    axilla = model.draw_axilla(clinical, intercept, spec, rng)
    drawn = {**clinical, **axilla, **model.draw_missing(clinical, center, spec, rng)}
    shown = {}
    for trait_model in traits.IMAGES.values():
        shown |= traits.draw_traits(trait_model, drawn, spec, rng)
    return {**drawn, **shown, "ct_log_likelihood_ratio": _draw_node_ratio(axilla["aln_metastasis"], spec, rng)}


def _draw_node_ratio(status: np.ndarray, spec: SimulationSpec, rng: np.random.Generator) -> np.ndarray:
    """(n,) log-likelihood ratio of nodes drawn for every patient.

    What the seven traits say of a node is one normal number, whose mean depends on its label (see `node_evidence`).
    """
    counts = traits.draw_node_counts(status, spec, rng)
    apart = node_separation(spec)
    ratio = np.zeros(status.size)
    for count in range(1, 5):
        rows = np.flatnonzero(counts == count)
        labels = np.array([traits.draw_node_labels(outcome, count, rng) for outcome in status[rows]], dtype=float)
        labels = labels.reshape(rows.size, count)
        common, own = rng.standard_normal((rows.size, 1)), rng.standard_normal((rows.size, count))
        noise = np.sqrt(traits.NODE_ALIKE) * common + np.sqrt(1.0 - traits.NODE_ALIKE) * own
        ratio[rows] = nodes_log_likelihood_ratio(apart**2 * (labels - 0.5) + apart * noise, spec)
    return ratio


def draw_response_population(
    n: int, nodal_intercept: float, intercept: float, spec: SimulationSpec, rng: np.random.Generator
) -> dict[str, np.ndarray]:
    """n patients treated before surgery, with everything hidden and shown at both visits."""
    clinical, axilla = model.draw_neoadjuvant(n, nodal_intercept, spec, rng)
    drawn = {**clinical, **axilla, **model.draw_response(clinical, intercept, spec, rng)}
    shown = [traits.draw_traits(trait_model, drawn, spec, rng) for trait_model in VISITS]
    return drawn | {column: values for part in shown for column, values in part.items()}


def attainable_auc(
    spec: SimulationSpec, rng: np.random.Generator, n_patients: int = MONTE_CARLO_PATIENTS, n_jobs: int = 1
) -> dict[str, dict[str, Attainable]]:
    """{modality, pair or reader: {center: Attainable}} from n_patients simulated patients per center.

    Groups without patients are left out; response to therapy is of the primary center alone. Single CT nodes, their
    number, and readers are exact, so their Monte Carlo error is 0. The same rng gives the same values for any n_jobs.
    """
    intercept = model.nodal_intercept(spec)
    streams = dict(zip(GROUPS, rng.spawn(len(GROUPS)), strict=True))
    groups = [group for group in GROUPS if spec.patients_of(group)]
    tasks = [(group, streams[group]) for group in groups]
    found = ordered(_attainable_in, tasks, (spec, intercept, n_patients), n_jobs=n_jobs)
    by_group = dict(zip(groups, found, strict=True))
    response = by_group.pop("neoadjuvant", {})
    found = {name: {center: known[name] for center, known in by_group.items()} for name in METASTASIS}
    exact = {name: float(ndtr(node_separation(spec, lost) / np.sqrt(2.0))) for name, lost in NODES.items()}
    exact["ct_node_count"] = node_count_auc(spec)
    skills = {**model.READER_SKILL, **model.MRI_READER_SKILL}
    exact |= {reader: graded_reader_auc(skill, spec) for reader, skill in skills.items()}
    found |= {name: dict.fromkeys(by_group, Attainable(auc, 0.0)) for name, auc in exact.items()}
    return found | {name: {"primary": known} for name, known in response.items()}


def _attainable_in(
    task: tuple[str, np.random.Generator], spec: SimulationSpec, intercept: float, n_patients: int
) -> dict[str, Attainable]:
    group, rng = task
    if group == "neoadjuvant":
        return _response(spec, intercept, n_patients // 2, rng)
    return _metastasis_at(spec, group, intercept, n_patients, rng)


def _metastasis_at(
    spec: SimulationSpec, center: str, intercept: float, n_patients: int, rng: np.random.Generator
) -> dict[str, Attainable]:
    drawn = draw_population(n_patients, center, intercept, spec, rng)
    oracle = MetastasisOracle(spec, center, intercept, rng)
    return {
        name: _auc_with_error(drawn["aln_metastasis"], oracle.probability(drawn, seen))
        for name, seen in METASTASIS.items()
    }


def _response(
    spec: SimulationSpec, nodal_intercept: float, n_patients: int, rng: np.random.Generator
) -> dict[str, Attainable]:
    intercept = model.response_intercept(spec, nodal_intercept)
    drawn = draw_response_population(n_patients, nodal_intercept, intercept, spec, rng)
    oracle = ResponseOracle(spec, nodal_intercept, intercept, rng)
    return {name: _auc_with_error(drawn["apcr"], oracle.probability(drawn, seen)) for name, seen in RESPONSE.items()}


def endpoint_and_unit(name: str) -> tuple[str, str]:
    """Endpoint and unit of analysis ("patient" or "node") of an entry of truth.json."""
    if name in RESPONSE:
        return "apcr", "patient"
    return "aln_metastasis", "node" if name in NODES else "patient"


def truth_table(found: dict[str, dict[str, Attainable]]) -> dict[str, dict[str, float | str]]:
    """What truth.json holds: per entry its endpoint and unit, attainable_auc and monte_carlo_se, and both again at the
    external center where there are such patients."""
    table: dict[str, dict[str, float | str]] = {}
    for name, centers in found.items():
        endpoint, unit = endpoint_and_unit(name)
        table[name] = {"endpoint": endpoint, "unit": unit}
        for center, suffix in (("primary", ""), ("external", "_external")):
            if center in centers:
                table[name][f"attainable_auc{suffix}"] = round(centers[center].auc, 6)
                table[name][f"monte_carlo_se{suffix}"] = round(centers[center].monte_carlo_se, 6)
    return table


def read_truth(folder: str | Path) -> pd.DataFrame:
    """truth.json of a simulated cohort folder as a long table: modality, endpoint, unit, center, attainable_auc,
    monte_carlo_se. Raises InputError if the folder has none, as no real cohort has."""
    path = Path(folder) / TRUTH_FILE
    if not path.is_file():
        raise InputError(f"{path}: no such file; only a simulated cohort has a known truth, simulate it again")
    rows = []
    for modality, known in json.loads(path.read_text(encoding="utf-8")).items():
        for center, suffix in (("primary", ""), ("external", "_external")):
            if f"attainable_auc{suffix}" in known:
                values = known[f"attainable_auc{suffix}"], known[f"monte_carlo_se{suffix}"]
                rows.append((modality, known["endpoint"], known["unit"], center, *values))
    return pd.DataFrame(rows, columns=TRUTH_COLUMNS)


TRUTH_COLUMNS = ["modality", "endpoint", "unit", "center", "attainable_auc", "monte_carlo_se"]


def read_oracle(folder: str | Path) -> pd.DataFrame:
    """The simulation's own posterior probabilities, the best that a model could say: `ORACLE_COLUMNS`.

    unit_id: the patient, or the image for a single CT node. Patients who lack a modality have no row for it.
    """
    parts = []
    for table, unit in (("latent.csv", "patient_id"), ("latent_nodes.csv", "image_id")):
        latent = pd.read_csv(Path(folder) / table, dtype={"patient_id": str, "image_id": str, "center": str})
        known = [column for column in latent if column.startswith("oracle_")]
        long = latent.assign(unit_id=latent[unit]).melt(["patient_id", "unit_id"], known, "modality", "probability")
        parts.append(long.dropna(subset="probability"))
    joined = pd.concat([part for part in parts if len(part)], ignore_index=True)
    return joined.assign(modality=joined["modality"].str.removeprefix("oracle_"))[ORACLE_COLUMNS]


ORACLE_COLUMNS = ["patient_id", "unit_id", "modality", "probability"]


def oracle_scores(latent: pd.DataFrame, modalities: Sequence[str], spec: SimulationSpec) -> pd.DataFrame:
    """Exact posterior probability of each row of latent.csv given what each modality shows, one column each.

    modalities: keys of `METASTASIS` or `RESPONSE`, else ValueError. NaN for patients who lack one of its images, or whose
    endpoint is the other one. spec: the one that made the cohort.
    """
    unknown = [name for name in modalities if name not in METASTASIS and name not in RESPONSE]
    if unknown:
        raise ValueError(f"modality is {unknown[0]!r}; expected one of {', '.join((*METASTASIS, *RESPONSE))}")
    intercept = model.nodal_intercept(spec)
    scores = pd.DataFrame(np.nan, index=latent.index, columns=list(modalities))
    for number, group in enumerate(GROUPS):
        member = (latent["group"] == group).to_numpy()
        known = RESPONSE if group == "neoadjuvant" else METASTASIS
        wanted = [name for name in modalities if name in known]
        if not member.any() or not wanted:
            continue
        rng = np.random.default_rng([20250101, 11, number])
        if group == "neoadjuvant":
            oracle = ResponseOracle(spec, intercept, model.response_intercept(spec, intercept), rng)
        else:
            oracle = MetastasisOracle(spec, group, intercept, rng)
        for name in wanted:
            flags = [latent[IMAGED[part]].to_numpy(bool) for part in known[name] if part in IMAGED]
            rows = np.flatnonzero(np.logical_and.reduce([member, *flags]))
            if rows.size:
                scores.iloc[rows, scores.columns.get_loc(name)] = oracle.probability(
                    _columns(latent, rows), known[name]
                )
    return scores


IMAGED = {part: f"has_{part}" for part in ("mri", "mammography", "ct")} | dict.fromkeys(
    ("key_frame", "motion"), "has_video"
)
"""Column of latent.csv that says who has the images in which something shows."""


def node_oracle_score(node_traits: pd.DataFrame, crop: str, spec: SimulationSpec) -> np.ndarray:
    """(n,) posterior that a node is malignant given its own image alone. crop: a key of `NODES`."""
    columns = {column: node_traits[column].to_numpy(float) for column in traits.NODE.columns()}
    return np.round(expit(logit(traits.MALIGNANT_NODES) + node_evidence(columns, spec, NODES[crop])), 12)


def _columns(latent: pd.DataFrame, rows: np.ndarray) -> dict[str, np.ndarray]:
    table = latent.drop(columns=["patient_id", "center", "group"]).iloc[rows]
    return {name: column.to_numpy() for name, column in table.items()}


def node_count_auc(spec: SimulationSpec) -> float:
    """AUC of the number of nodes on CT alone: P(more) + P(as many) / 2."""
    negative, positive = (traits.node_count_chance(status, spec) for status in (0, 1))
    below = np.concatenate([[0.0], np.cumsum(negative)[:-1]])
    return float((positive * (below + 0.5 * negative)).sum())


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
