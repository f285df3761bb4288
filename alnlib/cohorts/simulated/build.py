"""A simulated cohort on disk: draws every patient with a generator of its own, writes images and tables, whole or not at all.

The model is in `patients` and `ultrasound`, the attainable AUC in `truth`.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from joblib import Parallel, delayed
from PIL import Image

from alnlib.cohorts.folder import write_cohort
from alnlib.cohorts.schema import Cohort, Endpoint, empty_images, format_box
from alnlib.cohorts.simulated import patients as model
from alnlib.cohorts.simulated import truth
from alnlib.cohorts.simulated.dicom import ultrasound_dataset
from alnlib.cohorts.simulated.specification import CENTRES, SimulationSpec
from alnlib.cohorts.simulated.ultrasound import SCANNERS, TRAITS, appearance_from_traits, simulate_bmode
from alnlib.errors import InputError
from alnlib.files import write_csv, write_json

STREAMS = {"patient": 0, "missing": 1, "readers": 2, "ultrasound_traits": 3, "ultrasound_pixels": 4, "centre_mark": 5}
"""Last word of each patient's random seed: a new modality takes a new number and leaves the others' draws as they were."""

TRUTH_STREAM = 1000
RECIPE = "simulation.json"
LATENT_ORDER = ("patient_id", "centre", "aln_metastasis")


def simulate_cohort(
    spec: SimulationSpec,
    folder: str | Path,
    seed: int,
    n_jobs: int = 1,
    truth_patients: int = truth.MONTE_CARLO_PATIENTS,
) -> Cohort:
    """Write a complete cohort folder and return the cohort; the same spec and seed give the same bytes for any n_jobs.

    Besides the contract's files: truth.json ({modality or reader: attainable_auc, monte_carlo_se, and the same at the
    external centre}), latent.csv (simulation truth; never an input of a model: hidden state, complete clinical values,
    traits, oracle probabilities) and simulation.json (the recipe). seed: non-negative. An earlier simulated cohort in
    `folder` is replaced; a folder with anything else in it raises InputError and is left alone.
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
        cohort = _write(spec, part, seed, n_jobs, truth_patients)
        _replace_folder(part, folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return replace(cohort, root=folder)


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


def _write(spec: SimulationSpec, part: Path, seed: int, n_jobs: int, truth_patients: int) -> Cohort:
    intercept = model.nodal_intercept(spec)
    who = [(centre, index) for centre in CENTRES for index in range(spec.patients_of(centre))]
    tasks = [
        (spec, part, seed, intercept, f"SIM-{number:04d}", centre, index)
        for number, (centre, index) in enumerate(who, start=1)
    ]
    if n_jobs == 1:
        made = [_make_patient(*task) for task in tasks]
    else:
        made = Parallel(n_jobs=n_jobs, batch_size=8)(delayed(_make_patient)(*task) for task in tasks)
    latent = pd.DataFrame([row for row, _, _ in made])
    for modality in truth.MODALITIES:
        latent[f"oracle_{modality}"] = truth.oracle_score(latent, modality, spec)
    cohort = _cohort(spec, part, latent, [image for _, image, _ in made], [scores for _, _, scores in made])
    write_cohort(cohort, part)
    ordered = [*LATENT_ORDER, *(column for column in latent.columns if column not in LATENT_ORDER)]
    write_csv(latent[ordered], part / "latent.csv")
    found = truth.attainable_auc(spec, np.random.default_rng([seed, TRUTH_STREAM]), truth_patients)
    write_json(truth.truth_table(found), part / truth.TRUTH_FILE)
    recipe = {
        "specification": spec.described(),
        "seed": seed,
        "nodal_intercept": round(intercept, 10),
        "nodal_odds_ratios": {odds.term: round(odds.odds_ratio**spec.signal_clinical, 6) for odds in model.NODAL_ODDS},
        "note": "latent.csv and truth.json are simulation truth; never an input of a model.",
    }
    write_json(recipe, part / RECIPE)
    return cohort


def _make_patient(
    spec: SimulationSpec, part: Path, seed: int, intercept: float, patient_id: str, centre: str, index: int
) -> tuple[dict[str, Any], dict[str, Any], dict[str, int]]:
    """Draw one patient and write the image and mask; return its rows of latent.csv, images.csv and its readers' grades."""

    def stream(name: str) -> np.random.Generator:
        return np.random.default_rng([seed, model.CENTRE_CODES[centre], index, STREAMS[name]])

    rng = stream("patient")
    clinical = model.draw_clinical(1, centre, rng)
    axilla = model.draw_axilla(clinical, intercept, spec, rng)
    laterality = "L" if rng.random() < 0.5 else "R"
    missing = model.draw_missing(clinical, centre, spec, stream("missing"))
    traits = model.draw_ultrasound_traits(clinical, axilla, spec, stream("ultrasound_traits"))
    grades = model.draw_readers(axilla, spec, stream("readers"))
    appearance = appearance_from_traits(np.array([traits[f"us_{trait}"][0] for trait in TRAITS]))
    still = simulate_bmode(
        appearance, SCANNERS[centre], spec.image_rows, spec.image_columns, stream("ultrasound_pixels")
    )
    marked = _is_marked(bool(axilla["aln_metastasis"][0]), spec, stream("centre_mark"))
    pixels = _with_mark(still.pixels) if marked else still.pixels
    image_id = f"{patient_id}-US"
    dataset = ultrasound_dataset(
        pixels,
        still.spacing_mm,
        patient_id=patient_id,
        patient_name=f"Simulated^{patient_id.removeprefix('SIM-')}",
        age_years=int(clinical["age"][0]),
        laterality=laterality,
        centre=centre,
        seed=seed,
    )
    dataset.save_as(part / "images" / f"{image_id}.dcm", enforce_file_format=True)
    Image.fromarray(still.mask.astype(np.uint8) * 255).save(part / "masks" / f"{image_id}.png")
    drawn = {**clinical, **axilla, **missing, **traits}
    latent = {"patient_id": patient_id, "centre": centre, **{name: values[0] for name, values in drawn.items()}}
    image = {
        "image_id": image_id,
        "patient_id": patient_id,
        "modality": "US",
        "sequence_or_view": "B-mode",
        "laterality": laterality,
        "path": f"images/{image_id}.dcm",
        "mask_path": f"masks/{image_id}.png",
        "box": format_box(_box(still.mask)),
    }
    return {**latent, "centre_marked": marked}, image, {reader: int(values[0]) for reader, values in grades.items()}


def _box(mask: np.ndarray) -> tuple[int, int, int, int]:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1


def _is_marked(positive: bool, spec: SimulationSpec, rng: np.random.Generator) -> bool:
    share = 0.5 * (1.0 + spec.centre_mark) if positive else 0.5 * (1.0 - spec.centre_mark)
    return bool(spec.centre_mark > 0.0 and rng.random() < share)


def _with_mark(pixels: np.ndarray) -> np.ndarray:
    """A bright cross, 9 pixels wide, in the upper left corner, as a caliper or a vendor's symbol would be burned in."""
    marked = pixels.copy()
    marked[10, 6:15] = 255
    marked[6:15, 10] = 255
    return marked


def _cohort(
    spec: SimulationSpec, root: Path, latent: pd.DataFrame, images: list[dict], grades: list[dict[str, int]]
) -> Cohort:
    table = pd.DataFrame(images).reindex(columns=empty_images().columns)
    table = table.astype({column: "Int64" if column == "unit_label" else "str" for column in table.columns})
    scores = pd.DataFrame(
        [
            {"patient_id": patient_id, "reader_id": reader, "score": float(grade)}
            for patient_id, row in zip(latent["patient_id"], grades, strict=True)
            for reader, grade in row.items()
        ]
    )
    described = {
        reader: f"Simulated reader of axillary ultrasound, suspicion 1-5; AUC {skill:.2f} before grading at signal 1"
        for reader, skill in model.READER_SKILL.items()
    }
    centres = tuple(centre for centre in CENTRES if spec.patients_of(centre))
    return Cohort(
        name="simulated",
        title="Simulated breast cancer patients with B-mode ultrasound",
        provenance="simulated",
        endpoints={"aln_metastasis": Endpoint("Axillary lymph node metastasis", "pN+", "pN0")},
        primary_endpoint="aln_metastasis",
        centres=centres,
        external_centres=tuple(centre for centre in centres if centre != CENTRES[0]),
        clinical=dict(model.CLINICAL),
        readers_described=described,
        licence="CC-BY-4.0",
        citation="ALN compendium: simulated cohort; no real person is described",
        source="alnlib.cohorts.simulated",
        patients=model.recorded_patients(latent),
        images=table,
        readers=scores,
        root=root,
    )
