"""Kept models: read back they give the same scores, and new patients are scored as the stages score theirs.

Truth: the fitted models themselves, a risk computed by hand, and the rule that nobody who trained a model tests it.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from scipy.special import expit

from alnlib.cohorts.folder import read_cohort, write_cohort
from alnlib.cohorts.schema import ClinicalVariable, Cohort, Endpoint, empty_readers, images_table
from alnlib.errors import InputError
from alnlib.files import write_json
from alnlib.imaging.spec import CropSpec
from alnlib.models import cards
from alnlib.models.clinical import clinical_pipeline, penalized_clinical_pipeline
from alnlib.models.frozen import FrozenSpec, LinearHead, frozen_features
from alnlib.pipeline.apply import apply_model, find_model, kept_models, write_applied
from alnlib.training import fit
from alnlib.training.data import CropDataset
from alnlib.training.keeping import PARAMETERS, KeptNetwork, read_kept

CLINICAL = {
    "age": ClinicalVariable("Age", "continuous", "years"),
    "stage": ClinicalVariable("T stage", "ordinal", None, ("T1", "T2", "T3")),
}
N = 60


def cohort_of(folder: Path, name: str, seed: int, n: int = N) -> Cohort:
    """Patients whose outcome goes with age and stage, one or two small stills of each, of which one in ten has no box."""
    rng = np.random.default_rng(seed)
    (folder / "us").mkdir(parents=True)
    age, stage = rng.normal(55, 10, n), rng.choice(["T1", "T2", "T3"], n)
    y = (rng.random(n) < expit((age - 55) / 8 + (stage == "T3") - 0.3)).astype(int)
    ids = [f"p{k:02d}" for k in range(n)]
    patients = pd.DataFrame(
        {"patient_id": ids, "center": "N", "sick": pd.array(y, "Int64"), "age": age, "stage": stage}
    )
    rows = []
    for k, patient in enumerate(ids):
        for number in range(1 + k % 2):
            pixels = rng.integers(0, 200, (48, 48)) + 50 * y[k]
            Image.fromarray(pixels.astype(np.uint8)).save(folder / f"us/{patient}-{number}.png")
            box = "" if k % 10 == 9 else "8 8 40 40"
            rows.append((f"{patient}-{number}", patient, "US", f"us/{patient}-{number}.png", box or None))
    columns = ["image_id", "patient_id", "modality", "path", "box"]
    cohort = Cohort(
        name=name,
        title=f"Cohort {name}",
        provenance="simulated",
        endpoints={"sick": Endpoint("Sick", "yes", "no")},
        primary_endpoint="sick",
        centers=("N",),
        external_centers=(),
        clinical=CLINICAL,
        readers_described={},
        license="none",
        citation="none",
        source="tests",
        patients=patients,
        images=images_table(dict(zip(columns, zip(*rows, strict=True), strict=True))),
        readers=empty_readers(),
        root=folder,
    )
    write_cohort(cohort, folder)
    return read_cohort(folder)


@pytest.fixture(scope="module")
def cohorts(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cohorts")
    return cohort_of(folder / "here", "here", 0), cohort_of(folder / "there", "there", 1)


def keep(folder: Path, cohort: Cohort, further: dict, ids: list[str]) -> Path:
    trained = cohort.patients[cohort.patients["patient_id"].isin(ids)].assign(split="train")
    unseen = pd.DataFrame({"y_true": [0, 0, 1, 1], "y_score": [0.2, 0.3, 0.4, 0.9]})
    card = cards.model_card(cohort, "sick", trained, unseen, model="M", study="tang")
    write_json(card | further, folder / cards.CARD)
    return folder


# ------------------------------------------------------------------------------------------------------ risk equations


@pytest.mark.parametrize("make", [clinical_pipeline, penalized_clinical_pipeline])
def test_a_risk_equation_scores_as_the_pipeline_does(cohorts, tmp_path, make):
    here, there = cohorts
    gone = here.patients.copy()
    gone.loc[::7, "age"], gone.loc[::9, "stage"] = np.nan, np.nan
    fitted = make(CLINICAL).fit(gone, gone["sick"].to_numpy(int))
    model = keep(tmp_path, here, cards.equation_card(fitted, CLINICAL), [])
    new = there.patients.copy()
    new.loc[::5, "age"], new.loc[::6, "stage"] = np.nan, np.nan
    asked = Cohort(**{**vars(there), "patients": new})
    made = apply_model(model, asked)
    expected = fitted.predict_proba(new)[:, 1]
    np.testing.assert_allclose(made.scores["y_score"], expected, rtol=1e-12)
    assert made.predictions["y_true"].tolist() == there.patients["sick"].tolist()
    assert set(made.predictions["split"]) == {"external"}


def test_a_risk_is_what_one_computes_by_hand(cohorts, tmp_path):
    terms = [
        {"feature": "(intercept)", "coefficient": -3.0},
        {"feature": "Age", "coefficient": 0.05, "column": "age", "level": "per unit (years)", "missing_as": 50.0},
        {"feature": "T stage: T3", "coefficient": 0.8, "column": "stage", "level": "T3", "missing_as": 0.0},
    ]
    variables = {"age": {"label": "Age", "kind": "continuous", "unit": "years", "levels": []}}
    variables["stage"] = {"label": "T stage", "kind": "ordinal", "unit": None, "levels": ["T1", "T2", "T3"]}
    here, there = cohorts
    model = keep(tmp_path, here, {"kind": cards.EQUATION, "terms": terms, "variables": variables}, [])
    first = there.patients.iloc[0]
    by_hand = expit(-3 + 0.05 * first["age"] + 0.8 * (first["stage"] == "T3"))
    assert apply_model(model, there).scores["y_score"].iloc[0] == pytest.approx(by_hand, rel=1e-12)


def test_what_a_cohort_lacks_is_named_all_at_once(cohorts, tmp_path):
    here, there = cohorts
    fitted = penalized_clinical_pipeline(CLINICAL).fit(here.patients, here.patients["sick"].to_numpy(int))
    model = keep(tmp_path, here, cards.equation_card(fitted, CLINICAL), [])
    other = {"age": ClinicalVariable("Age", "continuous", "months")}
    other["stage"] = ClinicalVariable("T stage", "ordinal", None, ("T1", "T2", "T3", "T4"))
    patients = there.patients.assign(stage=["T4", "T4", *there.patients["stage"][2:]])
    with pytest.raises(InputError) as raised:
        apply_model(model, Cohort(**{**vars(there), "clinical": other, "patients": patients}))
    said = str(raised.value)
    assert "another unit" in said and "'months'" in said
    assert "p00" in said and "'T4'" in said
    with pytest.raises(InputError, match="asks for T stage"):
        apply_model(model, Cohort(**{**vars(there), "clinical": {"age": CLINICAL["age"]}}))


# ------------------------------------------------------------------------------------------------------------ networks


def frozen_network(cohort: Cohort) -> tuple[KeptNetwork, np.ndarray]:
    crop = CropSpec("US", 32)
    bare = KeptNetwork((crop,), FrozenSpec(weights="none", depths=(0, 1)), [])
    rows = bare.usable(cohort.images)
    y = rows["patient_id"].map(cohort.patients.set_index("patient_id")["sick"]).to_numpy(int)
    features = frozen_features(
        np.stack([np.asarray(Image.open(cohort.root / path).resize((32, 32))) for path in rows["path"]]), bare.frozen
    )
    heads = [LinearHead(seed=k).fit(pd.DataFrame(features, index=rows["patient_id"]), y) for k in range(2)]
    return KeptNetwork((crop,), FrozenSpec(weights="packaged", depths=(0, 1)), heads), y


def fine_tuned_network(cohort: Cohort) -> KeptNetwork:
    crop = CropSpec("US", 32)
    rng = np.random.default_rng(0)
    data = CropDataset(
        rng.integers(0, 256, (24, 32, 32)).astype(np.uint8), np.arange(24) % 2, [f"u{k}" for k in range(24)]
    )
    spec = fit.FitSpec("efficientnet_lite0", 32, weights="none", epochs=1, batch_size=8, device="cpu")
    return KeptNetwork((crop,), None, [fit.fit_classifier(spec, data)])


@pytest.mark.parametrize("kind", ["frozen", "fine-tuned"])
def test_a_network_read_back_gives_the_same_scores_to_the_bit(cohorts, tmp_path, kind):
    here, there = cohorts
    network = frozen_network(here)[0] if kind == "frozen" else fine_tuned_network(here)
    model = keep(tmp_path, here, network.save(tmp_path), here.patients["patient_id"].tolist())
    units, logits = network.logits(there.images, there.root)
    again, read = read_kept(model, cards.read_card(model)).logits(there.images, there.root)
    assert np.array_equal(logits, read)
    assert again["image_id"].tolist() == units["image_id"].tolist()
    made = apply_model(model, there)
    of_patient = pd.Series(logits.mean(axis=1), units["patient_id"].to_numpy()).groupby(level=0).mean()
    np.testing.assert_allclose(made.scores.set_index("patient_id")["y_score"], expit(of_patient), rtol=1e-12)
    assert len(made.images) == len(units) > len(made.scores)
    assert made.left_out["reason"].value_counts().to_dict() == {"no image that the model can read": N // 10}


def test_whoever_trained_a_model_does_not_test_it(cohorts, tmp_path):
    here, there = cohorts
    taught = here.patients["patient_id"].tolist()[:45]
    model = keep(tmp_path, here, frozen_network(here)[0].save(tmp_path), taught)
    made = apply_model(model, here)
    assert not set(made.scores["patient_id"]) & set(taught)
    assert set(made.left_out.query("reason == 'trained this model'")["patient_id"]) == set(taught)
    assert len(apply_model(model, there).scores) == N - N // 10, "other people may have the same ids"
    everybody = keep(
        tmp_path,
        here,
        {k: v for k, v in cards.read_card(model).items() if k in ("kind", "crops", "frozen", "parameters")},
        here.patients["patient_id"].tolist(),
    )
    with pytest.raises(InputError, match="trained this model"):
        apply_model(everybody, here)


def test_a_changed_byte_is_never_used(cohorts, tmp_path):
    here, there = cohorts
    model = keep(tmp_path, here, frozen_network(here)[0].save(tmp_path), [])
    content = bytearray((model / PARAMETERS).read_bytes())
    content[len(content) // 2] ^= 1
    (model / PARAMETERS).write_bytes(content)
    with pytest.raises(InputError, match="damaged or another model"):
        apply_model(model, there)
    (model / PARAMETERS).unlink()
    with pytest.raises(InputError, match="missing"):
        apply_model(model, there)


def test_parameters_are_tensors_and_plain_values_alone(cohorts, tmp_path):
    frozen_network(cohorts[0])[0].save(tmp_path)
    members = torch.load(tmp_path / PARAMETERS, weights_only=True)["members"]
    assert {type(value).__name__ for value in members[0].values()} == {"Tensor", "float"}


# ------------------------------------------------------------------------------------------------------------- folders


def test_scores_card_and_evaluation_are_written_and_nothing_is_overwritten(cohorts, tmp_path):
    here, there = cohorts
    fitted = penalized_clinical_pipeline(CLINICAL).fit(here.patients, here.patients["sick"].to_numpy(int))
    model = keep(tmp_path / "model", here, cards.equation_card(fitted, CLINICAL), here.patients["patient_id"].tolist())
    made, out = apply_model(model, there), tmp_path / "out"
    said = "\n".join(write_applied(made, model, out, "simulated"))
    assert "nothing was fitted here" in said and f"{N} patients scored" in said and "AUC 0." in said
    written = {path.name for path in out.iterdir()}
    assert written == {"scores.csv", "predictions.csv", "left_out.csv", "card.json", "evaluation"}
    table = pd.read_csv(out / "evaluation/discrimination.csv")
    assert table["threshold"].tolist() == [0.35], "the middle between the scores that Youden's index parts"
    with pytest.raises(InputError, match="not empty"):
        write_applied(made, model, out, "simulated")
    blank = Cohort(**{**vars(there), "patients": there.patients.assign(sick=pd.array([pd.NA] * N, "Int64"))})
    said = "\n".join(write_applied(apply_model(model, blank), model, tmp_path / "blank", "simulated"))
    assert "Not evaluated" in said
    assert len(pd.read_csv(tmp_path / "blank/scores.csv")) == N


def test_kept_models_are_found_by_name_and_others_named(cohorts, tmp_path, monkeypatch):
    monkeypatch.setenv("ALN_RESULTS", str(tmp_path / "results"))
    here, _ = cohorts
    fitted = penalized_clinical_pipeline(CLINICAL).fit(here.patients, here.patients["sick"].to_numpy(int))
    keep(tmp_path / "results/run/models/clinical", here, cards.equation_card(fitted, CLINICAL), [])
    assert list(kept_models()) == ["run/clinical"]
    assert find_model("run/clinical") == tmp_path / "results/run/models/clinical"
    with pytest.raises(InputError, match="there are run/clinical"):
        find_model("run/other")
    (tmp_path / "results/run/models/clinical/card.json").write_text(json.dumps({"model": "M"}), encoding="utf-8")
    with pytest.raises(InputError, match="no card of a model"):
        cards.read_card(find_model("run/clinical"))
