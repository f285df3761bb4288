"""Kept models: read back they give the scores of the run to the last digit, and what does not fit a cohort is told.

Property: `apply` on the run's own test patients writes the text that the run wrote, and fits nothing.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.special import expit

from alneval.rows import prediction_rows, seed_rows
from alnlib.cohorts.folder import read_cohort, write_cohort
from alnlib.cohorts.schema import Cohort
from alnlib.errors import InputError
from alnlib.files import sha256_file, write_csv
from alnlib.imaging.lesions import crop
from alnlib.imaging.spec import CropSpec
from alnlib.kept.apply import apply_model, told
from alnlib.kept.card import CARD, KNOWN, find_model, keep_model, kept_models, read_model, sealed
from alnlib.kept.equation import Equation
from alnlib.kept.features import Columns, Deep, FeatureModel, Handcrafted, Steps
from alnlib.kept.fusion import Fusion
from alnlib.kept.network import Member, Network
from alnlib.models.clinical import clinical_pipeline, penalized_clinical_pipeline, risk_equation
from alnlib.models.frozen import FrozenSpec, frozen_features
from alnlib.models.fusion import PatternSubmodels, withhold
from alnlib.models.learners import learner_table, signature, tune_learners
from alnlib.models.signatures import signature_pipeline
from alnlib.pipeline.cli import main
from alnlib.pipeline.results import RunFolder, StudyCohort
from alnlib.radiomics.select import selection_pipeline
from alnlib.training.data import CropDataset
from alnlib.training.fit import FitSpec, fit_seeds, predict_logits
from alnlib.training.oof import fit_heads
from alnsim import SimulationSpec, simulate_cohort

SPEC = FrozenSpec(depths=(3, 5))
VIEW = CropSpec("US", 48)
RUN = "a-run"


def fitted_to(cohort: Cohort, results: RunFolder) -> SimpleNamespace:
    """A clinical model, its ridge, a frozen and a fine-tuned network of a cohort, kept, and what a run writes of them."""
    patients = cohort.known("aln_metastasis")
    patients["split"] = np.where(patients["center"].isin(cohort.external_centers), "external", "train")
    patients.loc[patients.index[40:56], "split"] = "test"
    data = StudyCohort(cohort, "aln_metastasis", patients)
    train = (patients["split"] == "train").to_numpy()
    y, ids = patients["aln_metastasis"].to_numpy(), patients["patient_id"].to_numpy()
    whose = patients["split"], patients["patient_id"], y
    pipelines = {"clinical": clinical_pipeline(cohort.clinical, p_enter=0.5)}
    pipelines["clinical (ridge)"] = penalized_clinical_pipeline(cohort.clinical, n_folds=3)
    clinical = []
    for name, pipeline in pipelines.items():
        score = pipeline.fit(patients[train], y[train]).predict_proba(patients)[:, 1]
        role = "main" if name == "clinical" else "companion"
        clinical.append(prediction_rows("tang", name, *whose, score, role=role))
    clinical = pd.concat(clinical)
    for name, pipeline in pipelines.items():
        equation = Equation(risk_equation(pipeline), cohort.clinical)
        keep_model(results, "clinical", name, equation, data, patients[train], clinical)

    pixels = crop(cohort.images, cohort.root, VIEW, ids)
    features = frozen_features(pixels, SPEC)
    heads = fit_heads(features[train], y[train], ids[train], 2, 0)
    frozen = np.column_stack([head.decision_function(features) for head in heads])
    seen = CropDataset(pixels, y, ids)
    networks = fit_seeds(FitSpec("resnet18", 48, epochs=1, stem="small"), 2, seen.subset(train))
    tuned = np.empty((len(y), 2))
    for those in (train, ~train):
        tuned[those] = np.column_stack([predict_logits(each, seen.subset(those)) for each in networks])
    stills = [seed_rows("tang", "DL_US", *whose, frozen), seed_rows("tang", "tuned", *whose, tuned, role="companion")]
    stills.append(prediction_rows("tang", "a perceptron", *whose, expit(frozen[:, 0]), role="companion"))
    stills = pd.concat(stills)
    for name, member in {"DL_US": Member({"DL_US": VIEW}, heads, SPEC), "tuned": Member({"t": VIEW}, networks)}.items():
        keep_model(results, "ultrasound", name, Network.of(member), data, patients[train], stills)
    for topic, table in {"clinical": clinical, "ultrasound": stills}.items():
        write_csv(table, results.output(f"predictions/{topic}.csv"))
    return SimpleNamespace(cohort=cohort, data=data, patients=patients, train=train, results=results)


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Iterator[SimpleNamespace]:
    """56 + 14 simulated patients with stills, and a run that kept its models. Not to be written to."""
    folder = tmp_path_factory.mktemp("kept")
    few = {"n_mri": 0, "n_video_primary": 0, "n_video_external": 0, "n_ct": 0, "n_mammography": 0, "n_neoadjuvant": 0}
    spec = SimulationSpec(n_primary=56, n_external=14, image_rows=96, image_columns=96, **few)
    cohort = read_cohort(simulate_cohort(spec, folder / "cohort", seed=5, truth_patients=2_000))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ALN_RESULTS", str(folder / "results"))
        patch.delenv("ALN_STAGING", raising=False)
        yield fitted_to(cohort, RunFolder(RUN))


@pytest.fixture
def unjudged(monkeypatch):
    """The evaluation has tests of its own, and takes longer than all else."""
    monkeypatch.setattr("alnlib.kept.apply.write_evaluation", lambda *paths, **options: None)


@pytest.fixture
def elsewhere(run, tmp_path):
    """The run's models where a test may change them; `find_model` finds these."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ALN_RESULTS", str(tmp_path / "results"))
        shutil.copytree(run.results.folder, tmp_path / "results" / RUN)
        yield tmp_path / "results" / RUN / "models"


def another(cohort: Cohort, folder: Path, **changed: object) -> Path:
    """A copy of a cohort in a folder of its own, of another name unless one is given, with what is changed."""
    for name in ("images", "masks"):
        shutil.copytree(cohort.root / name, folder / name)
    write_cohort(replace(cohort, root=folder, **{"name": "elsewhere"} | changed), folder)
    return folder


def as_text(path: Path) -> pd.DataFrame:
    return pd.read_csv(path, dtype=str, keep_default_na=False)


@pytest.mark.parametrize(
    ("name", "topic"),
    [("clinical", "clinical"), ("clinical (ridge)", "clinical"), ("DL_US", "ultrasound"), ("tuned", "ultrasound")],
)
def test_a_model_read_back_gives_the_scores_of_its_run_to_the_last_digit(run, name, topic, tmp_path, unjudged):
    applied = apply_model(f"{RUN}/{name}", str(run.cohort.root), out=tmp_path / "out")
    wrote, made = as_text(run.results.folder / f"predictions/{topic}.csv"), as_text(tmp_path / "out" / "scores.csv")
    made = made.set_index("patient_id")
    wrote = wrote[wrote["model"] == name].set_index("patient_id")
    assert len(wrote) == len(made) == 70
    assert (made.loc[wrote.index, "y_score"] == wrote["y_score"]).all()
    assert (made.loc[wrote.index, "split"] == wrote["split"]).all(), "train, test, external as in the run"
    assert applied.evaluated and "40 patients trained the model" in "\n".join(told(applied))


def test_it_is_judged_at_its_own_threshold_and_apart_from_its_training_patients(run, tmp_path):
    apply_model(f"{RUN}/DL_US", str(run.cohort.root), out=tmp_path / "out")
    judged = pd.read_csv(tmp_path / "out" / "evaluation" / "discrimination.csv").set_index("split")
    assert set(judged.index) == {"train", "test", "external"}
    card = json.loads((tmp_path / "out" / CARD).read_text())
    assert (
        judged["threshold"].iloc[0] == pytest.approx(card["threshold"]) and judged["threshold_from"].iloc[0] == "given"
    )


def test_parameters_hold_nothing_that_runs_and_cards_no_patient(run):
    for folder in sorted(run.results.folder.glob("models/*/*")):
        card = read_model(folder).card
        assert {path.name for path in folder.iterdir()} == {CARD, KNOWN, card["parameters"]["file"]}
        assert card["trained_on"]["patients"] == 40 and card["cohort"]["provenance"] == "simulated"
        assert any("simulated patients" in limit for limit in card["limits"]) and "medical" in card["notice"]
        if card["parameters"]["file"].endswith(".pt"):
            torch.load(folder / "parameters.pt", weights_only=True)
        for name in (CARD, KNOWN):
            assert "SIM-" not in (folder / name).read_text()


def test_another_cohort_is_external_and_patients_who_trained_under_another_name_are_told(run, tmp_path, unjudged):
    folder = another(run.cohort, tmp_path / "cohort")
    applied = apply_model(f"{RUN}/ultrasound/DL_US", str(folder), out=tmp_path / "out")
    assert set(applied.scores["split"]) == {"external"}
    assert any("40 patient ids are also ids of training patients" in note for note in applied.notes)
    fresh = {patient: f"Q-{place}" for place, patient in enumerate(run.cohort.patients["patient_id"])}
    tables = {
        name: getattr(run.cohort, name).assign(patient_id=lambda t: t["patient_id"].map(fresh))
        for name in ("patients", "images", "readers")
    }
    folder = another(run.cohort, tmp_path / "fresh", **tables)
    assert apply_model(f"{RUN}/DL_US", str(folder), out=tmp_path / "two").notes == ()


def test_images_of_a_patient_are_averaged_and_the_order_of_rows_decides_nothing(run, tmp_path, unjudged):
    first, second = run.cohort.images["patient_id"].iloc[:2]
    images = run.cohort.images.sort_values("image_id", ascending=False)
    again = images[images["patient_id"] == second].assign(image_id="again", patient_id=first)
    lost = images["patient_id"].ne(second)
    folder = another(run.cohort, tmp_path / "cohort", images=pd.concat([images[lost], again]))
    alone = apply_model(f"{RUN}/DL_US", str(run.cohort.root), out=tmp_path / "one").scores.set_index("patient_id")
    both = apply_model(f"{RUN}/DL_US", str(folder), out=tmp_path / "two")
    mean = expit(np.log(alone["y_score"] / (1 - alone["y_score"])).loc[[first, second]].mean())
    scores = both.scores.set_index("patient_id")["y_score"]
    assert scores[first] == pytest.approx(mean, abs=1e-6)
    assert both.not_scored == {second: "no US image"}
    others = scores.drop(first)
    np.testing.assert_allclose(others, alone["y_score"][others.index], atol=1e-6)


def test_where_the_outcome_is_not_known_there_are_scores_and_no_evaluation(run, tmp_path):
    unknown = run.cohort.patients.assign(aln_metastasis=pd.array([pd.NA] * 70, "Int64"))
    folder = another(run.cohort, tmp_path / "cohort", patients=unknown)
    with pytest.raises(InputError, match="both classes are needed"):
        read_cohort(folder)  # to fit models to
    out = tmp_path / "out"
    apply_model(f"{RUN}/DL_US", str(run.cohort.root), out=out)
    with pytest.raises(InputError, match="is not empty"):
        apply_model(f"{RUN}/DL_US", str(folder), out=out)
    applied = apply_model(f"{RUN}/DL_US", str(folder), out=out, force=True)
    assert set(as_text(out / "scores.csv")["y_true"]) == {""} and len(applied.scores) == 70
    assert not applied.evaluated and "nothing is evaluated" in applied.notes[-1]
    assert sorted(path.name for path in out.iterdir()) == [CARD, "not_scored.csv", "scores.csv"], (
        "nothing of the first call"
    )


def test_another_endpoint_is_told_and_one_that_is_none_is_an_error(run, tmp_path, unjudged):
    endpoints = {"pn": replace(run.cohort.endpoints["aln_metastasis"], positive="pN+")}
    patients = run.cohort.patients.rename(columns={"aln_metastasis": "pn"})
    changed = {"endpoints": endpoints, "primary_endpoint": "pn", "patients": patients}
    folder = another(run.cohort, tmp_path / "cohort", **changed)
    given = f"{RUN}/clinical/clinical", str(folder)
    assert not apply_model(*given, out=tmp_path / "one").evaluated, "the model's endpoint is not in this cohort"
    applied = apply_model(*given, endpoint="pn", out=tmp_path / "two")
    assert applied.evaluated and any("is judged by pn (pN+ against" in note for note in applied.notes)
    with pytest.raises(InputError, match="'apcr' is none of this cohort's: pn"):
        apply_model(*given, endpoint="apcr", out=tmp_path / "three")


# what a cohort lacks


def test_variables_that_are_absent_of_another_unit_or_level_are_listed_at_once(run, tmp_path):
    equation = read_model(run.results.folder / "models/clinical/clinical_ridge").model
    numbers = [name for name, each in equation.variables.items() if each.kind == "continuous"]
    levels = next(name for name, each in equation.variables.items() if each.kind != "continuous")
    clinical = {name: each for name, each in run.cohort.clinical.items() if name != numbers[0]}
    clinical[numbers[1]] = replace(clinical[numbers[1]], unit="inch", range=None)
    clinical[levels] = replace(clinical[levels], levels=(*clinical[levels].levels, "a new one"))
    patients = run.cohort.patients.copy()
    patients.loc[patients.index[:3], levels] = "a new one"
    folder = another(run.cohort, tmp_path / "cohort", clinical=clinical, patients=patients)
    with pytest.raises(InputError) as raised:
        apply_model(f"{RUN}/clinical (ridge)", str(folder), out=tmp_path / "out")
    text = str(raised.value)
    assert f"cohort.yaml, column clinical.{numbers[0]}: the model asks for" in text
    assert f"cohort.yaml, column clinical.{numbers[1]}: the model was fitted to" in text and "inch" in text
    assert f"patients.csv, rows 2, 3, 4, column {levels}: the model knows" in text and "3 times" in text
    assert not (tmp_path / "out").exists()


def test_an_unknown_value_counts_as_the_equation_says_and_a_patient_without_any_is_told(run, tmp_path, unjudged):
    equation = read_model(run.results.folder / "models/clinical/clinical_ridge").model
    patients = run.cohort.patients.copy()
    patients.loc[0, list(equation.variables)] = np.nan
    number = next(name for name, each in equation.variables.items() if each.kind == "continuous")
    term = equation.terms.set_index("variable").loc[equation.variables[number].label]
    patients.loc[[1, 2], number] = [np.nan, term["missing_as"]]
    rest = [name for name in equation.variables if name != number]
    patients.loc[1, rest] = patients.loc[2, rest]
    folder = another(run.cohort, tmp_path / "cohort", patients=patients)
    applied = apply_model(f"{RUN}/clinical (ridge)", str(folder), out=tmp_path / "out")
    scores = applied.scores.set_index("patient_id")["y_score"][patients["patient_id"]].to_numpy()
    known = equation.terms["missing_as"].fillna(1) @ equation.terms["coefficient"]
    assert scores[0] == pytest.approx(expit(known)) and scores[1] == scores[2]
    assert any("of them lack all that it reads" in note for note in applied.notes)


def test_patients_without_an_image_or_its_place_are_grouped_and_nobody_at_all_is_an_error(run, tmp_path, unjudged):
    images = run.cohort.images.iloc[7:].copy()
    images.loc[images.index[:6], ["mask_path", "box"]] = np.nan
    folder = another(run.cohort, tmp_path / "cohort", images=images)
    lines = told(apply_model(f"{RUN}/DL_US", str(folder), out=tmp_path / "out"))
    assert lines[0] == "57 patients scored (57 external), 13 not:"
    assert lines[1].startswith("  7 with no US image: SIM-0001, SIM-0002") and lines[1].endswith("and 2 more")
    assert lines[2].startswith("  6 with no mask or box on US image: ")
    without = run.cohort.images.assign(mask_path=np.nan, box=np.nan)
    folder = another(run.cohort, tmp_path / "placeless", images=without)
    with pytest.raises(InputError, match=r"can score nobody of elsewhere:\n  70 with no mask or box on US image"):
        apply_model(f"{RUN}/DL_US", str(folder))
    folder = another(run.cohort, tmp_path / "sweeps", images=run.cohort.images.assign(modality="USV"))
    with pytest.raises(InputError, match="no image of modality US .it has USV."):
        apply_model(f"{RUN}/DL_US", str(folder))


# the folder of a model


def test_an_unknown_name_lists_what_is_kept_and_what_is_not(run, capsys):
    assert main(["apply", f"{RUN}/DL_MRI", "--cohort", str(run.cohort.root)]) == 2
    said = capsys.readouterr().err
    assert f"{RUN}/DL_MRI: no kept model is called so" in said
    assert f"  {RUN}/ultrasound/DL_US: DL_US for aln_metastasis, 40 training patients" in said
    assert f"  {RUN} does not keep a perceptron" in said and "no plain form" in said
    assert find_model(str(run.results.folder / "models/ultrasound/DL_US")).name == "DL_US"


def test_without_a_run_the_listing_says_so_and_a_name_of_two_models_is_refused(elsewhere, tmp_path, monkeypatch):
    shutil.copytree(elsewhere / "ultrasound/DL_US", elsewhere / "again/DL_US")
    with pytest.raises(InputError, match="2 kept models are called so"):
        find_model(f"{RUN}/DL_US")
    assert find_model(f"{RUN}/again/DL_US") == elsewhere / "again/DL_US"
    monkeypatch.setenv("ALN_RESULTS", str(tmp_path / "empty"))
    with pytest.raises(InputError, match="none in .*run a stage of models"):
        find_model("DL_US")
    assert kept_models(tmp_path / "empty") == []


@pytest.mark.parametrize("damage", ["truncated", "another digit", "gone"])
@pytest.mark.parametrize("file", ["parameters.pt", CARD, KNOWN])
def test_a_folder_that_is_damaged_is_an_error_that_names_it(elsewhere, file, damage):
    """A digit of a card may be the threshold's, one of the digests that of a patient whom the model knows."""
    folder = elsewhere / "ultrasound/DL_US"
    content = (folder / file).read_bytes()
    at = max(content.rfind(digit) for digit in (b"1", b"2", b"3"))
    other = content[:at] + b"7" + content[at + 1 :]
    (folder / file).write_bytes(other if damage == "another digit" else content[: len(content) // 2])
    if damage == "gone":
        (folder / file).unlink()
    with pytest.raises(InputError, match="run the stage that makes it again, or copy the whole folder"):
        read_model(folder)


@pytest.mark.parametrize(
    ("topic", "content"), [("ultrasound/DL_US", {"members": 3}), ("clinical/clinical", {"terms": []})]
)
def test_parameters_of_another_form_are_an_error(elsewhere, topic, content):
    folder = elsewhere / topic
    card = json.loads((folder / CARD).read_text())
    path = folder / card["parameters"]["file"]
    torch.save(content, path) if path.suffix == ".pt" else path.write_text(json.dumps(content))
    card["parameters"]["sha256"] = sha256_file(path)
    (folder / CARD).write_text(json.dumps(sealed(card)))
    with pytest.raises(InputError, match="run the stage that makes it again"):
        read_model(folder)
    (folder / CARD).write_text(json.dumps(card | {"format": 99}))
    with pytest.raises(InputError, match="of another format"):
        read_model(folder)


def test_weights_that_were_a_file_must_still_be_that_file(run, tmp_path):
    weights = tmp_path / "weights.pt"
    weights.write_bytes(b"one")
    heads = read_model(run.results.folder / "models/ultrasound/DL_US").model.members[0].fits
    Network.of(Member({"a": VIEW}, heads, replace(SPEC, weights=str(weights)))).save(tmp_path / "parameters.pt")
    Network.read(tmp_path / "parameters.pt")
    weights.write_bytes(b"two")
    with pytest.raises(InputError, match="are not there or another file"):
        Network.read(tmp_path / "parameters.pt")


# ensembles and fusions


def test_an_ensemble_by_image_scores_each_image_by_the_mean_of_its_members(run):
    members = [
        read_model(run.results.folder / f"models/ultrasound/{name}").model.members[0] for name in ("DL_US", "tuned")
    ]
    ids = list(run.patients["patient_id"])
    both = Network.of(*members, by="image").score(run.cohort, ids, run.train, "cpu")
    single = [Network.of(member).score(run.cohort, ids, run.train, "cpu")["y_score"] for member in members]
    expected = expit(np.mean([np.log(score / (1 - score)) for score in single], axis=0))
    np.testing.assert_allclose(both["y_score"], expected, rtol=1e-12)
    assert set(both["unit_id"]) == set(run.cohort.images["image_id"])


def test_a_fusion_answers_for_every_pattern_as_its_submodels_do_and_knows_its_networks(
    run, elsewhere, tmp_path, unjudged
):
    """Of two scores that are not in alphabetical order, with patients who lack images."""
    patients, names = run.patients, ["tuned", "DL_US"]
    for name in names:
        apply_model(f"{RUN}/{name}", str(run.cohort.root), out=tmp_path / name)
        table = as_text(tmp_path / name / "scores.csv").set_index("patient_id")["y_score"].astype(float)
        patients = patients.assign(**{name: patients["patient_id"].map(table)})
    fitted = PatternSubmodels(names, run.cohort.clinical, 0.5, min_events=5)
    fitted.fit(patients[run.train], patients.loc[run.train, "aln_metastasis"])
    assert "tuned+DL_US+clinical" in fitted.submodels_
    whose = patients["split"], patients["patient_id"], patients["aln_metastasis"]
    rows = prediction_rows("tang", "a fusion", *whose, fitted.predict_proba(patients)[:, 1])
    model = Fusion.of(fitted, {name: f"ultrasound/{name}" for name in names}, elsewhere)
    keep_model(RunFolder(RUN), "fusion", "a fusion", model, run.data, patients[run.train], rows)
    apply_model(f"{RUN}/a fusion", str(run.cohort.root), out=tmp_path / "out")
    write_csv(rows, tmp_path / "rows.csv")
    assert list(as_text(tmp_path / "out/scores.csv")["y_score"]) == list(as_text(tmp_path / "rows.csv")["y_score"])

    nothing = run.cohort.patients.copy()
    nothing.loc[0, list(run.cohort.clinical)] = np.nan
    folder = another(run.cohort, tmp_path / "cohort", images=run.cohort.images.iloc[20:], patients=nothing)
    applied = apply_model(f"{RUN}/a fusion", str(folder), out=tmp_path / "two")
    assert applied.not_scored == {"SIM-0001": "nothing that the model reads"}
    withheld = fitted.predict_proba(withhold(patients.iloc[1:20], names))[:, 1]
    np.testing.assert_allclose(applied.scores["y_score"].iloc[:19], withheld, rtol=1e-7)

    part = elsewhere / "ultrasound/DL_US"
    shutil.copytree(elsewhere / "ultrasound/tuned", part, dirs_exist_ok=True)
    with pytest.raises(InputError, match="was fitted again after the fusion"):
        read_model(elsewhere / "fusion/a_fusion")
    shutil.rmtree(part)
    with pytest.raises(InputError, match="copy models/ as a whole"):
        read_model(elsewhere / "fusion/a_fusion")


# radiomics and signatures


@pytest.mark.parametrize("prepared", ["selection", "signatures"])
def test_numbers_alone_do_what_the_fitted_pipeline_does(prepared, rng):
    """Missing values, features never selected and a constant one included; a perceptron has no plain form."""
    y = np.repeat([0, 1], 40)
    X = pd.DataFrame(rng.normal(size=(80, 12)) + y[:, None], columns=[f"{'ab'[k % 2]}_{k}" for k in range(12)])
    X = X.mask(rng.random(X.shape) < 0.05).assign(a_constant=1.0)
    preparation = (
        selection_pipeline(0, n_folds=4) if prepared == "selection" else signature_pipeline({"a": "a_", "b": "b_"}, 0)
    )
    learners = {name: learner_table(0)[name] for name in ("logistic regression", "multilayer perceptron")}
    tuned = tune_learners(learners, X, y, rng, preparation=preparation, n_folds=2, n_candidates=2)
    fitted = tuned.fitted["logistic regression"]
    new = X.sample(frac=1, random_state=1) + 0.1
    steps = Steps.of(fitted)
    np.testing.assert_array_equal(steps.probability(new), tuned.scores(new)["logistic regression"])
    with pytest.raises(ValueError, match="no plain form"):
        Steps.of(tuned.fitted["multilayer perceptron"])


def test_a_joint_model_measures_both_visits_and_says_who_lacks_one(small_cohort, tmp_path):
    """The equation of the signature and clinical variables, on features that the stage would measure."""
    patients = small_cohort.known("apcr")
    sequences, channels = ("ADC",), ("pre/ADC", "post/ADC")
    how, deep = Handcrafted(sequences, (), ("pre", "post")), Deep(CropSpec("MRI", 48, channels=channels, depth=3), SPEC)
    ids = list(patients["patient_id"])
    features = how.measured(small_cohort, ids).join(deep.measured(small_cohort, ids))
    names = ("MRI_delta_ADC__lesion_original_firstorder_Mean", "MRI_delta_ADC__deep_03_mean_0001")
    assert set(names) <= set(features.columns), features.columns[:5]
    part = Columns(names, np.zeros(2), np.zeros(2), np.ones(2), np.array([0.5, -0.5]))
    steps = Steps([part], np.zeros(1), np.ones(1), np.ones(1), 0.1)
    age = small_cohort.clinical["age"]
    terms = [("(Intercept)", "(Intercept)", -1.0, np.nan), (age.label, age.label, 0.02, 50.0), ("S", "S", 0.7, np.nan)]
    terms = pd.DataFrame(terms, columns=["variable", "feature", "coefficient", "missing_as"])
    joint = Equation(terms, {"age": age, "signature": replace(age, label="S", unit="logit", range=None)})
    FeatureModel(steps, how, deep, joint, 0.4).save(tmp_path / "parameters.pt")
    model = FeatureModel.read(tmp_path / "parameters.pt")
    model.check(small_cohort)
    lacking = model.lacking(small_cohort)
    assert set(small_cohort.patients["patient_id"]) - set(lacking) == set(ids)
    assert set(lacking.values()) <= {"no MRI pre ADC", "no MRI post ADC"}
    score = model.score(small_cohort, ids, [False] * len(ids), "cpu")["y_score"]
    ages = patients["age"].astype(float).fillna(50.0)
    expected = expit(-1 + 0.02 * ages + 0.7 * signature(steps.probability(features), 0.4))
    np.testing.assert_allclose(score, expected, rtol=1e-12)
    with pytest.raises(InputError, match="nobody in the cohort has MRI post ADC"):
        model.check(replace(small_cohort, images=small_cohort.images.query("timepoint != 'post'")))
