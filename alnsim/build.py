"""A simulated cohort on disk: draws every patient with generators of its own, writes images and tables, whole or not at all.

The model is in `patients` and `traits`, one patient's images in `images`, the attainable AUC in `truth`.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from alnlib.errors import InputError
from alnlib.files import write_csv, write_json, write_text
from alnlib.tasks import ordered
from alnsim import patients as model
from alnsim import traits, truth
from alnsim.images import Person, random_stream, write_images
from alnsim.specification import CENTERS, GROUPS, SimulationSpec

COHORT_STREAM = 999
TRUTH_STREAM = 1000
RECIPE = "simulation.json"
LATENT_ORDER = ("patient_id", "center", "group", "aln_metastasis", "apcr")
NODE_ORDER = ("image_id", "patient_id", "node", "malignant")
IMAGE_COLUMNS = [
    *("image_id", "patient_id", "modality", "timepoint", "sequence_or_view", "laterality"),
    *("path", "mask_path", "box", "pixel_spacing_mm", "unit_label"),
]
ENDPOINTS = {
    "aln_metastasis": {"label": "Axillary lymph node metastasis", "positive": "pN+", "negative": "pN0"},
    "apcr": {"label": "Axillary pathological complete response", "positive": "ypN0", "negative": "ypN+"},
}
POPULATION = "population"
"""The split of patients whom no study has."""

BATCH = 8
"""Patients per parallel task."""

WORKER = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "NPY_DISABLE_CPU_FEATURES": ""}
"""Environment of a process that draws images: one thread, and every instruction that numpy knows here, whatever arithmetic the
caller keeps to, for pixels are the same under any (tests/test_simulated_exact.py)."""


def simulate_cohort(
    spec: SimulationSpec,
    folder: str | Path,
    seed: int,
    n_jobs: int = 1,
    truth_patients: int = truth.MONTE_CARLO_PATIENTS,
) -> Path:
    """Write a complete cohort folder and return its path; the same spec and seed give the same bytes for any n_jobs.

    Besides the contract's files: truth.json ({modality, pair or reader: attainable_auc, monte_carlo_se, and the same at
    the external center}), latent.csv and latent_nodes.csv (simulation truth; never an input of a model: hidden state,
    complete clinical values, traits, oracle probabilities) and simulation.json (the recipe). seed: non-negative. An
    earlier simulated cohort in `folder` is replaced; a folder with anything else in it raises InputError and is left
    alone.
    """
    folder = Path(folder)
    _refuse_foreign_folder(folder)
    if seed < 0:
        raise InputError(f"the seed is {seed}; give a whole number from 0 up")
    part = folder.with_name(f".{folder.name}.{os.getpid()}.part")
    shutil.rmtree(part, ignore_errors=True)
    try:
        (part / "images").mkdir(parents=True)
        (part / "masks").mkdir()
        _write(spec, part, seed, n_jobs, truth_patients)
        _replace_folder(part, folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return folder


def _refuse_foreign_folder(folder: Path) -> None:
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is a file; name a folder for the simulated cohort")
    if folder.is_dir() and any(folder.iterdir()) and not (folder / RECIPE).is_file():
        raise InputError(
            f"{folder} holds files that are not a simulated cohort (no {RECIPE}); "
            "it was left as it is: name an empty or new folder"
        )


def _replace_folder(part: Path, folder: Path) -> None:
    if not folder.exists():
        os.replace(part, folder)
        return
    old = folder.with_name(f".{folder.name}.{os.getpid()}.old")
    os.replace(folder, old)
    try:
        os.replace(part, folder)
    except OSError:
        os.replace(old, folder)
        raise
    shutil.rmtree(old)


def _write(spec: SimulationSpec, part: Path, seed: int, n_jobs: int, truth_patients: int) -> None:
    people = draw_people(spec, seed)
    batches = [people[first : first + BATCH] for first in range(0, len(people), BATCH)]
    made = ordered(_write_batch, batches, (spec, part, seed), n_jobs=n_jobs, settings=WORKER)
    images = [row for batch in made for row in batch]
    latent = pd.DataFrame([{"patient_id": p.patient_id, "center": p.center, **p.latent} for p in people])
    latent = latent.join(truth.oracle_scores(latent, truth.KEPT_ORACLES, spec).add_prefix("oracle_"))
    _write_tables(spec, part, latent, images)
    columns = [*LATENT_ORDER, *(column for column in latent.columns if column not in LATENT_ORDER)]
    write_csv(latent[columns], part / "latent.csv")
    nodes = pd.DataFrame(
        [node for person in people for node in person.nodes], columns=[*NODE_ORDER, *traits.NODE.columns()]
    )
    for crop in truth.NODES:
        nodes[f"oracle_{crop}"] = truth.node_oracle_score(nodes, crop, spec)
    write_csv(nodes, part / "latent_nodes.csv")
    found = truth.attainable_auc(spec, np.random.default_rng([seed, TRUTH_STREAM]), truth_patients, n_jobs)
    write_json(truth.truth_table(found), part / truth.TRUTH_FILE)
    write_json(_recipe(spec, seed), part / RECIPE)


def _write_batch(people: list[Person], spec: SimulationSpec, part: Path, seed: int) -> list[dict[str, Any]]:
    return [row for person in people for row in write_images(person, spec, part, seed)]


def draw_people(spec: SimulationSpec, seed: int) -> list[Person]:
    """Every patient with hidden state, clinical values, traits and nodes, in the order of patients.csv; no pixels.

    What a patient is depends on the seed and its place in its block alone. Which patients have a sweep, CT or
    mammograms depends on a number drawn with each: the smallest are chosen. Nodes on CT are drawn per patient; the few
    that lack or exceed the asked total are added or taken away in random patients.
    """
    intercept = model.nodal_intercept(spec)
    treated = model.response_intercept(spec, intercept) if spec.n_neoadjuvant else None
    sizes = {group: spec.patients_of(group) for group in GROUPS}
    sizes |= {block: spec.n_population for block, group in model.DRAWN_AS.items() if sizes[group]}
    who = [(block, index) for block, size in sizes.items() for index in range(size)]
    rows = [_draw_patient(spec, seed, intercept, treated, block, index) for block, index in who]
    _allot(rows, spec)
    _adjust_node_counts(rows, spec, np.random.default_rng([seed, COHORT_STREAM]))
    people = []
    for number, ((block, index), row) in enumerate(zip(who, rows, strict=True), start=1):
        patient_id = f"SIM-{number:04d}"
        nodes = _draw_nodes(patient_id, row, spec, random_stream(seed, block, index, "node_traits"))
        share = 0.5 * (1.0 + spec.center_mark if row["aln_metastasis"] else 1.0 - spec.center_mark)
        coin = random_stream(seed, block, index, "center_mark")
        marked = row["group"] != "neoadjuvant" and bool(spec.center_mark > 0.0 and coin.random() < share)
        latent = {name: value for name, value in row.items() if name not in ("allotment", "laterality")}
        latent["center_marked"] = marked
        latent["ct_log_likelihood_ratio"] = _node_ratio(nodes, spec)
        people.append(Person(patient_id, block, index, row["laterality"], marked, latent, tuple(nodes)))
    return people


def _draw_patient(
    spec: SimulationSpec, seed: int, intercept: float, response_intercept: float | None, block: str, index: int
) -> dict[str, Any]:
    """One patient's row: everything but pixels, nodes and the allotment of images."""

    def stream(name: str) -> np.random.Generator:
        return random_stream(seed, block, index, name)

    rng, group = stream("patient"), model.DRAWN_AS.get(block, block)
    center = model.GROUP_CENTER[group]
    if group == "neoadjuvant":
        clinical, axilla = model.draw_neoadjuvant(1, intercept, spec, rng)
        response = model.draw_response(clinical, response_intercept, spec, stream("response"))
        hidden = {**clinical, **axilla, **response}
        shown = traits.draw_traits(traits.BEFORE_THERAPY, hidden, spec, stream("mri_traits"))
        shown |= traits.draw_traits(traits.VASCULARITY, hidden, spec, stream("vascularity"))
        shown |= traits.draw_traits(traits.CHANGE, hidden, spec, stream("change_traits"))
        readers: dict[str, np.ndarray] = {}
    else:
        clinical = model.draw_clinical(1, center, rng)
        axilla = model.draw_axilla(clinical, intercept, spec, rng)
        hidden = {**clinical, **axilla}
        response = {"chemosensitivity": np.array([np.nan]), "apcr": np.array([np.nan])}
        shown = {}
        for name, trait_model in traits.IMAGES.items():
            shown |= traits.draw_traits(trait_model, hidden, spec, stream(f"{name}_traits"))
        readers = model.draw_readers(axilla, spec, stream("readers"))
        readers |= model.draw_readers(axilla, spec, stream("mri_readers"), model.MRI_READER_SKILL)
    laterality = "L" if rng.random() < 0.5 else "R"
    missing = model.draw_missing(clinical, center, spec, stream("missing"))
    drawn = {**clinical, **axilla, **response, **missing, **shown}
    row = {name: values[0] for name, values in drawn.items()}
    row |= {f"grade_by_{reader}": int(values[0]) for reader, values in readers.items()}
    counts = traits.draw_node_counts(np.array([int(row["aln_metastasis"])]), spec, stream("node_count"))
    row |= {"group": group, "laterality": laterality, "nodes_on_ct": int(counts[0])}
    row |= {"split": POPULATION} if block in model.DRAWN_AS else {}
    return row | {"allotment": stream("allotment").random(4)}


def _allot(rows: list[dict[str, Any]], spec: SimulationSpec) -> None:
    """Say who has a sweep, CT and mammograms: of the eligible, those with the smallest number drawn for it.

    Of the population everybody operated at once has everything.
    """
    operated = [row for row in rows if row["group"] in CENTERS and "split" not in row]
    primary = [row for row in operated if row["group"] == "primary"]
    external = [row for row in operated if row["group"] == "external"]
    for row in rows:
        row |= {"has_mri": row["group"] == "neoadjuvant", "has_video": False, "has_ct": False, "has_mammography": False}
    chosen = (
        ("has_video", 0, primary, spec.n_video_primary),
        ("has_video", 0, external, spec.n_video_external),
        ("has_ct", 1, operated, spec.n_ct),
        ("has_mammography", 2, primary, spec.n_mammography),
        ("has_mri", 3, operated, spec.n_mri),
    )
    for flag, key, eligible, wanted in chosen:
        for row in sorted(eligible, key=lambda row, key=key: row["allotment"][key])[:wanted]:
            row[flag] = True
    for row in rows:
        if row.get("split") == POPULATION and row["group"] in CENTERS:
            row |= dict.fromkeys(("has_mri", "has_video", "has_ct", "has_mammography"), True)
        row["nodes_on_ct"] *= row["has_ct"]


def _adjust_node_counts(rows: list[dict[str, Any]], spec: SimulationSpec, rng: np.random.Generator) -> None:
    imaged = [row for row in rows if row["has_ct"] and "split" not in row]
    excess = sum(row["nodes_on_ct"] for row in imaged) - spec.n_ct_nodes
    step = -1 if excess > 0 else 1
    while excess:
        row = imaged[int(rng.integers(len(imaged)))]
        if 1 <= row["nodes_on_ct"] + step <= 4:
            row["nodes_on_ct"] += step
            excess += step


def _draw_nodes(
    patient_id: str, row: dict[str, Any], spec: SimulationSpec, rng: np.random.Generator
) -> list[dict[str, Any]]:
    if not row["has_ct"]:
        return []
    labels = traits.draw_node_labels(int(row["aln_metastasis"]), row["nodes_on_ct"], rng)
    shown = traits.draw_node_traits(labels, spec, rng)
    nodes = []
    for number, label in enumerate(labels):
        node = {"image_id": f"{patient_id}-CT-{number + 1}", "patient_id": patient_id, "node": number + 1}
        shown_here = {column: float(values[number]) for column, values in shown.items()}
        nodes.append(node | {"malignant": int(label)} | shown_here)
    return nodes


def _node_ratio(nodes: list[dict[str, Any]], spec: SimulationSpec) -> float:
    """The patient's log-likelihood ratio from all nodes; NaN without CT."""
    if not nodes:
        return float("nan")
    columns = {column: np.array([[node[column] for node in nodes]]) for column in traits.NODE.columns()}
    return float(truth.nodes_log_likelihood_ratio(truth.node_evidence(columns, spec), spec)[0])


def _recipe(spec: SimulationSpec, seed: int) -> dict[str, Any]:
    intercept = model.nodal_intercept(spec)
    return {
        "specification": spec.described(),
        "seed": seed,
        "nodal_intercept": round(intercept, 10),
        "nodal_odds_ratios": {odds.term: odds.odds_ratio for odds in model.NODAL_ODDS},
        "nodal_odds_ratios_given_hidden": _exponentials(model.nodal_coefficients(spec)),
        "response_odds_ratios": {odds.term: odds.odds_ratio for odds in model.RESPONSE_ODDS},
        "response_odds_ratios_given_hidden": _exponentials(model.response_coefficients(spec)),
        "note": "latent.csv, latent_nodes.csv and truth.json are simulation truth; never an input of a model.",
    }


def read_specification(folder: str | Path) -> SimulationSpec:
    """The recipe of a simulated cohort folder. Raises InputError if it has none."""
    path = Path(folder) / RECIPE
    if not path.is_file():
        raise InputError(f"{path}: no such file; only a simulated cohort has a recipe, simulate it again")
    return SimulationSpec(**json.loads(path.read_text(encoding="utf-8"))["specification"])


def _exponentials(coefficients: dict[str, float]) -> dict[str, float]:
    return {term: round(float(np.exp(value)), 6) for term, value in coefficients.items()}


def _write_tables(spec: SimulationSpec, folder: Path, latent: pd.DataFrame, images: list[dict[str, Any]]) -> None:
    """The four files of the cohort contract."""
    patients = model.recorded_patients(latent)
    if not spec.n_neoadjuvant:
        patients = patients.drop(columns="apcr")
    endpoints = {name: words for name, words in ENDPOINTS.items() if name in patients}
    centers = [center for center in CENTERS if spec.patients_of(center)]
    told = "Simulated reader of the axilla on {}, suspicion 1-5; AUC {:.2f} before grading at signal 1"
    readers = {
        reader: {"description": told.format(words, skill), "modality": modality}
        for modality, words, skills in (
            ("US", "ultrasound", model.READER_SKILL),
            ("MRI", "MRI", model.MRI_READER_SKILL),
        )
        for reader, skill in skills.items()
    }
    described = {
        "name": "simulated",
        "title": "Simulated breast cancer patients, every modality",
        "provenance": "simulated",
        "primary_endpoint": "aln_metastasis",
        "endpoints": endpoints,
        "centers": centers,
        "external_centers": [center for center in centers if center != CENTERS[0]],
        "clinical": {column: variable.described() for column, variable in model.CLINICAL.items()},
        "readers": readers,
        "license": "CC-BY-4.0",
        "citation": "ALN compendium: simulated cohort; no real person is described",
        "source": "alnsim",
    }
    write_text(yaml.safe_dump(described, sort_keys=False, allow_unicode=True, width=120), folder / "cohort.yaml")
    columns = ["patient_id", "center", *endpoints, *model.CLINICAL]
    if "split" in latent:
        patients["split"] = latent["split"].fillna("")
        columns.insert(2, "split")
    write_csv(patients[columns].astype(dict.fromkeys(endpoints, "Int64")), folder / "patients.csv")
    write_csv(
        pd.DataFrame(images).reindex(columns=IMAGE_COLUMNS).astype({"unit_label": "Int64"}), folder / "images.csv"
    )
    scores = [
        (row["patient_id"], reader, float(row[f"grade_by_{reader}"]))
        for row in latent.to_dict("records")
        for reader in readers
        if not pd.isna(row[f"grade_by_{reader}"]) and row.get("split") != POPULATION
    ]
    write_csv(pd.DataFrame(scores, columns=["patient_id", "reader_id", "score"]), folder / "readers.csv")
