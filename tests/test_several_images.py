"""Patients with several stills and sweeps, through stages 22 and 23: all are scored, and the patient by their mean logit."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.special import logit

from alnlib.cohorts.folder import read_cohort, write_cohort
from alnlib.training.oof import linear_heads, mean_of_images, out_of_fold_logits
from alnsim import SimulationSpec, simulate_cohort
from tests.real_data import real_data
from tests.test_cli import run_all

QUICK = {"22.fine_tuned": "[]", "22.n_heads": 2, "23.n_heads": 2, "23.epochs": 1, "23.n_bootstrap": 20}
QUICK |= {"23.frames_kept": 8, "23.segments": 4, "22.image_size": 48, "23.image_size": 48}


def run_to_23(cohort: Path, results: Path) -> tuple[Path, str]:
    """Results of the first stages on a cohort, and what stage 23 printed."""
    settings = [word for name, value in QUICK.items() for word in ("--set", f"{name}={value}")]
    done = run_all("--cohort", cohort, "--run", "several", "--to", "23", *settings, results=results)
    assert done.returncode == 0, done.stdout + done.stderr
    return results / "several", (results / "several" / "notebooks" / "23_ultrasound_video.ipynb").read_text()


def check_scores(run: Path, of_images: str, of_patients: str, images: pd.DataFrame, left_out: dict[str, str]) -> None:
    """Every image is scored once by every main model or left out with its reason; a patient's logit is the mean of theirs."""
    scores = pd.read_csv(run / of_images, dtype={"patient_id": str, "image_id": str})
    unused = scores[scores["model"].isna()]
    assert unused.set_index("image_id")["left_out"].to_dict() == left_out and unused["y_score"].isna().all()
    scores = scores[scores["model"].notna()]
    assert not scores.duplicated(["model", "image_id"]).any()
    predictions = pd.read_csv(run / of_patients, dtype={"patient_id": str, "unit_id": str}).query("role == 'main'")
    assert not predictions.duplicated(["model", "patient_id"]).any(), "one row per patient"
    assert (scores.groupby("patient_id")["split"].nunique() <= 2).all(), "out of fold, or held out"
    expected = images[~images["image_id"].isin(left_out)].set_index("image_id")["patient_id"].to_dict()
    for model, rows in scores.groupby("model"):
        known = predictions[predictions["model"] == model].set_index("patient_id")
        assert set(rows["image_id"]) == {image for image, patient in expected.items() if patient in known.index}, model
        means = logit(rows["y_score"]).groupby(rows["patient_id"]).mean()
        np.testing.assert_allclose(logit(known.loc[means.index, "y_score"]), means, atol=1e-5)
        assert (rows.set_index("patient_id")["split"] == known["split"].loc[rows["patient_id"]]).all()


@pytest.fixture(scope="module")
def cohort(tmp_path_factory) -> Path:
    """24 simulated patients; every third has a second still and sweep (the box shifted), one each that cannot be used, and one
    still is truncated, which must not end the run."""
    folder = tmp_path_factory.mktemp("cohorts") / "several"
    few = {"n_mri": 0, "n_video_external": 0, "n_external": 0, "n_ct": 0, "n_mammography": 0, "n_neoadjuvant": 0}
    spec = SimulationSpec(n_primary=24, n_video_primary=24, image_rows=96, image_columns=96, **few)
    drawn = read_cohort(simulate_cohort(spec, folder, seed=3, truth_patients=2_000))
    again = drawn.images[drawn.images["patient_id"].isin(drawn.patients["patient_id"][::3])]
    again = again.assign(image_id=again["image_id"] + "-2", mask_path=None, box="30 30 60 70")
    first = drawn.images.groupby("modality").head(1)
    nowhere = first.assign(image_id=first["image_id"] + "-nowhere", mask_path=None, box=None)
    after = first.assign(image_id=first["image_id"] + "-after", timepoint="post")
    whole = first[first["modality"] == "US"]
    (folder / "images/broken.dcm").write_bytes((folder / whole["path"].iloc[0]).read_bytes()[:2000])
    broken = whole.assign(
        image_id=whole["image_id"] + "-broken", path="images/broken.dcm", mask_path=None, box="30 30 60 70"
    )
    images = pd.concat([drawn.images, again, nowhere, after, broken], ignore_index=True)
    patients = drawn.patients.astype({"aln_metastasis": "Int64"})
    patients.loc[patients["patient_id"] == patients["patient_id"].max(), "aln_metastasis"] = pd.NA
    write_cohort(replace(drawn, images=images, patients=patients), folder)
    return folder


def test_every_image_of_a_patient_is_scored_and_those_left_out_are_named(cohort, tmp_path):
    run, _ = run_to_23(cohort, tmp_path)
    images = read_cohort(cohort).images
    aside = pd.read_csv(run / "sources/set_aside.csv")
    assert aside["image_id"].str.endswith("-broken").tolist() == [True] and "broken.dcm" in aside["file"].iloc[0]
    assert "truncated" in aside["reason"].iloc[0] + aside["remedy"].iloc[0]
    images = images[~images["image_id"].isin(aside["image_id"])]
    for modality, of_images, of_patients in (
        ("US", "ultrasound/images.csv", "predictions/ultrasound.csv"),
        ("USV", "video/clips.csv", "predictions/video.csv"),
    ):
        rows = images[images["modality"] == modality]
        reasons = {"-nowhere": "neither box nor mask", "-after": "after therapy"}
        left_out = {name: why for end, why in reasons.items() for name in rows["image_id"] if name.endswith(end)}
        unknown = rows.loc[rows["patient_id"] == max(rows["patient_id"]), "image_id"]
        check_scores(
            run, of_images, of_patients, rows, left_out | dict.fromkeys(unknown, "outcome of the patient not known")
        )


def test_an_image_that_is_there_twice_changes_no_score(rng):
    """Frozen features: folds, scaling, penalty and regression are of patients, however many images tell of each."""
    y, ids = np.arange(30) % 2, np.arange(30).astype(str)
    features = rng.normal(size=(30, 8)) + y[:, None]
    rows = np.concatenate([np.arange(30), np.repeat(np.arange(5), 4)])
    scores = []
    for chosen in (np.arange(30), rows):
        recipe = linear_heads(features[chosen], y[chosen], ids[chosen], 2, 0, patients_equal=True)
        logits, _ = out_of_fold_logits(recipe, y[chosen], ids[chosen], 3, 0)
        scores.append(mean_of_images(logits, ids[chosen]))
    np.testing.assert_allclose(*scores, atol=1e-6)


def test_all_real_sweeps_are_used_and_the_reader_is_compared(tmp_path):
    """Wiedemann 2025: 103 clips of 20 patients, 10 of them positive; the reader's modality is not said in cohort.yaml."""
    cohort = real_data("covid_blues", "cohort.yaml").parent
    run, notebook = run_to_23(cohort, tmp_path)
    assert "103 of 103 sweeps used; left out: none" in notebook and "unspecified" in notebook
    check_scores(run, "video/clips.csv", "predictions/video.csv", read_cohort(cohort).images, {})
    predictions = pd.read_csv(run / "predictions" / "video.csv").query("model == 'TIN'")
    assert predictions["split"].value_counts().to_dict() == {"cross_validation": 14, "test": 6}
    assert pd.read_csv(run / "video" / "readers.csv")["reader"].tolist() == ["max-severity"]
    assert re.search(r"6 +3 +\d\.\d\d \(\d\.\d\d to \d\.\d\d\)", notebook), "intervals of 6 patients, not of 34 sweeps"
