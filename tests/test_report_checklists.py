"""Reporting checklists: their items, the facts that fill them one by one, and the page.

Truth: numbers of the official checklists (TRIPOD+AI 27 items in 52 parts, CLAIM 2024 44, CLEAR 58, METRICS 30 and five
conditions), and a small run folder whose content is written here.
"""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
import yaml

from alnlib.errors import InputError
from alnlib.pipeline.results import RunFolder
from alnlib.pipeline.stages import STAGES, Stage
from alnlib.report import checklists, facts
from alnlib.report.checklists import (
    CHECKLISTS,
    DISCLAIMER,
    STATUSES,
    TABLE_COLUMNS,
    Checklist,
    Item,
    checklist_page,
    filled_checklist,
    read_checklist,
    status_counts,
)
from alnlib.report.facts import FACTS, Fact, read_facts

COHORT = {
    "name": "toy",
    "title": "Toy cohort",
    "provenance": "simulated",
    "endpoints": {"aln": {"label": "Axillary metastasis", "positive": "pN+", "negative": "pN0"}},
    "centers": ["here", "there"],
    "external_centers": ["there"],
    "clinical": {
        "age": {"label": "Age", "kind": "continuous", "unit": "years"},
        "er": {"label": "ER", "kind": "nominal", "levels": ["negative", "positive"]},
    },
    "license": "CC-BY-4.0",
    "citation": "Nobody 2000",
}


def log_row(notebook: str, status: str = "done", **parameters: object) -> dict[str, str]:
    return {"notebook": notebook, "status": status, "parameters": json.dumps(parameters)}


def tables() -> dict[str, pd.DataFrame]:
    """{file of the run: table}; four patients on training, three on test, two on external, half of them positive."""
    ids = [f"p{i}" for i in range(9)]
    splits = ["train"] * 4 + ["test"] * 3 + ["external"] * 2
    rows = pd.DataFrame({"patient_id": ids, "split": splits, "y_true": [0, 1, 0, 1, 0, 1, 1, 0, 1]})
    rows = rows.assign(study="tang", unit_id=ids, y_score=0.5)
    roles = {"clinical": "main", "clinical+reader_a": "companion", "clinical/seed 0": "member"}
    predictions = pd.concat([rows.assign(model=name, role=role) for name, role in roles.items()])
    networks = dict.fromkeys(("CT_FSC", "CT_ASC", "CT_FSC+ASC"), "main") | {"CT_FSC/r": "candidate"}
    nodes = pd.concat([rows.assign(study="park", model=name, role=role) for name, role in networks.items()])
    columns = ["study", "model", "role", "split", "patient_id", "unit_id", "y_true", "y_score"]
    judged = pd.DataFrame({"study": "tang", "model": "clinical", "split": ["train", "test", "external"]})
    return {
        "cohort/patients.csv": pd.DataFrame({"patient_id": ids, "center": ["here"] * 7 + ["there"] * 2}),
        "cohort/splits.csv": rows[["patient_id", "split"]],
        "cohort/flow.csv": pd.DataFrame(
            {
                "description": ["in the source", "endpoint known"],
                "remaining": [12, 9],
                "remaining_positive": [5, 5],
                "remaining_negative": [4, 4],
            }
        ),
        "cohort/images.csv": pd.DataFrame(
            {
                "patient_id": ["p0", "p0", "p1"],
                "modality": ["MRI", "MRI", "CT"],
                "sequence_or_view": ["T2", "DCE", "axial"],
                "mask_path": ["m.nii", None, "m.png"],
            }
        ),
        "cohort/table_one.csv": pd.DataFrame(
            {
                "variable": ["age", "age", "er", "er"],
                "label": ["Age", "Age", "ER", "ER"],
                "group": ["overall", "0", "overall", "overall"],
                "n_group": [9, 4, 9, 9],
                "missing": [0, 0, 2, 2],
            }
        ),
        "predictions/clinical.csv": predictions[columns],
        "predictions/ct.csv": nodes[columns],
        "clinical/univariable.csv": pd.DataFrame({"variable": ["Age", "ER", "ER"]}),
        "clinical/model.csv": pd.DataFrame(
            {"variable": ["(Intercept)", "ER"], "feature": ["(Intercept)", "ER: positive"], "odds_ratio": [None, 0.5]}
        ),
        "clinical/nomogram.csv": pd.DataFrame({"axis": ["Total points"]}),
        "ct/choice.csv": pd.DataFrame(
            {
                "crop": ["FSC", "FSC", "ASC"],
                "model": ["frozen", "fine-tuned densenet121", "frozen"],
                "architecture": ["resnet18", "densenet121", "resnet18"],
                "weights": ["imagenet"] * 3,
                "out_of_fold_auc": [0.81, 0.86, 0.79],
                "chosen": [False, True, True],
            }
        ),
        "ct/training_history.csv": pd.DataFrame({"epoch": [1, 2, 8]}),
        "evaluation/discrimination.csv": judged.assign(
            auc=[0.9, 0.7, 0.6],
            auc_low=[0.8, 0.5, np.nan],
            sensitivity_low=[0.5, 0.4, np.nan],
            threshold_from=["validation", "validation", None],
        ),
        "evaluation/calibration.csv": judged.iloc[1:],
        "evaluation/net_benefit.csv": judged.iloc[[1, 1, 2, 2]].assign(threshold=[0.01, 0.99, 0.01, 0.99]),
        "evaluation/comparisons.csv": pd.DataFrame({"method": ["DeLong", "not estimable: one class only"]}),
        "run_log.csv": pd.DataFrame(
            [
                log_row("11_cohort", test_fraction=0.3, validation_fraction=0.2, seed=7),
                log_row("25_ct_nodes", epochs=3, seed=7, weights="imagenet"),
                log_row("25_ct_nodes", "failed", epochs=99, seed=7, weights="none"),
                log_row("41_discrimination", n_bootstrap=2000, seed=7),
            ]
        ),
        "explanations/ct_faithfulness.csv": pd.DataFrame({"mode": ["deletion"]}),
        "mammography_mri/selection.csv": pd.DataFrame({"feature": ["a"]}),
        "mammography_mri/stability.csv": pd.DataFrame({"feature": ["a"]}),
        "mammography_mri/learners.csv": pd.DataFrame({"learner": ["LR"]}),
        "validity/audit.csv": pd.DataFrame({"audit": ["overlap", "threshold"], "result": ["passed", "failed"]}),
        "evaluation/recalibration.csv": pd.DataFrame(
            {
                "study": "tang",
                "model": "clinical",
                "method": ["none", "logistic", "isotonic"],
                "n_fitted": [None, 39, 39],
            }
        ),
        "evaluation/models_against_readers.csv": judged.iloc[1:],
        "report/claims.csv": pd.DataFrame(
            {"verdict": ["inconclusive", "inconclusive", "supported"], "provenance": "simulated"}
        ),
    }


@pytest.fixture
def run(tmp_path, monkeypatch) -> RunFolder:
    """A run folder with one small file of every kind that a fact reads."""
    monkeypatch.setenv("ALN_RESULTS", str(tmp_path))
    monkeypatch.delenv("ALN_STAGING", raising=False)
    folder = tmp_path / "toy"
    for name, table in tables().items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        table.to_csv(folder / name, index=False)
    (folder / "cohort/cohort.yaml").write_text(yaml.safe_dump(COHORT))
    (folder / "cohort/study.json").write_text(json.dumps({"endpoint": "aln", "digest": "0"}))
    (folder / "networks").mkdir()
    (folder / "networks/ct_fsc.pt").write_bytes(b"weights")
    provenance = {
        "versions": {"python": "3.11.7", "torch": "2.11.0", "monai": "absent"},
        "commit": "0123456789abcdef+changes",
    }
    (folder / "provenance.json").write_text(json.dumps(provenance))
    (folder / "features").mkdir()
    features = pd.DataFrame({"patient_id": ["p0", "p1"], "MRI_pre_T2__a": [1.0, 2.0], "MRI_pre_T2__b": [1.0, 2.0]})
    features.to_parquet(folder / "features/mammography_mri.parquet")
    audit = Stage("45_luck", "the audit", makes=("validity/audit.csv",))
    monkeypatch.setattr(facts, "find_stage", lambda number: audit if number == "45" else by_number.get(number))
    by_number = {stage.number: stage for stage in STAGES}
    return RunFolder("toy")


# --- the items ----------------------------------------------------------------------------------------------------


def test_numbers_are_those_of_the_checklists():
    numbers = {key: [item.number for item in read_checklist(key).items] for key in CHECKLISTS}
    assert numbers["claim"] == [str(i) for i in range(1, 45)]
    assert numbers["clear"] == [str(i) for i in range(1, 59)]
    metrics = [number for number in numbers["metrics"] if not number.startswith("Condition")]
    assert metrics == [str(i) for i in range(1, 31)]
    assert [n for n in numbers["metrics"] if n not in metrics] == [f"Condition {i}" for i in range(1, 6)]
    tripod = numbers["tripod_ai"]
    assert len(tripod) == 52 and list(dict.fromkeys(int(re.match(r"\d+", n)[0]) for n in tripod)) == list(range(1, 28))
    letters = {"12": "abcdefg", "18": "abcdef", "20": "abc", "27": "abc", "3": "abc", "23": "ab"}
    for number, parts in letters.items():
        assert "".join(n[-1] for n in tripod if re.fullmatch(rf"{number}[a-z]", n)) == parts


@pytest.mark.parametrize("key", CHECKLISTS)
def test_every_file_says_where_its_items_come_from_and_fills_none_by_a_promise(key):
    text = (checklists.ITEMS / f"{key}.yaml").read_text(encoding="utf-8")
    head = text.split("key:")[0]
    assert "compared with" in head and "own short words" in head and "copied" in head
    checklist = read_checklist(key)
    assert checklist.doi.startswith("10.") and checklist.citation and checklist.about
    for item in checklist.items:
        assert item.section and item.topic and len(item.topic.split()) <= 16, "short"


def test_every_fact_is_asked_for_by_some_item():
    asked = {fact for key in CHECKLISTS for item in read_checklist(key).items for fact in item.facts}
    assert asked == set(FACTS)


@pytest.mark.parametrize(
    ("item", "words"),
    [
        ({"facts": ["weather"]}, "nobody knows"),
        ({"fact": ["models"], "author": "x"}, "nobody knows"),
        ({}, "not_done alone"),
        ({"author": "x", "not_done": "y"}, "not_done alone"),
    ],
)
def test_an_item_that_says_nothing_or_too_much_is_refused(tmp_path, monkeypatch, item, words):
    content = dict.fromkeys(("key", "title", "about", "version", "citation", "doi"), "x")
    entry = {"number": "1", "section": "s", "topic": "t"} | item
    (tmp_path / "bad.yaml").write_text(yaml.safe_dump(content | {"items": [entry]}))
    monkeypatch.setattr(checklists, "ITEMS", tmp_path)
    with pytest.raises(ValueError, match=words):
        read_checklist("bad")
    twice = {"number": "1", "section": "s", "topic": "t", "author": "x"}
    (tmp_path / "bad.yaml").write_text(yaml.safe_dump(content | {"items": [twice, twice]}))
    with pytest.raises(ValueError, match="twice"):
        read_checklist("bad")


# --- the facts, one by one ----------------------------------------------------------------------------------------

EXPECTED = {
    "cohort_source": "Toy cohort, simulated patients; license CC-BY-4.0; cite Nobody 2000",
    "centers": "patients per center: here 7, there 2 (external)",
    "inclusion_flow": "in the source: 12, endpoint known: 9; 5 with and 4 without the outcome",
    "endpoint": "Axillary metastasis: pN+ against pN0",
    "split_sizes": "patients: training 4, internal test 3, external test 2",
    "split_method": "test share 0.3, validation share 0.2 of the rest, seed 7; ",
    "patient_disjoint": "by patient; 0 patients in several splits, none in several splits of the predictions of 6 models",
    "missing_values": "missing: ER 2 of 9",
    "table_one": "2 variables, overall and by outcome",
    "class_balance": "5 with, 4 without the outcome (share 0.56)",
    "clinical_predictors": "Age (years); ER (negative, positive)",
    "univariable_selection": "2 clinical candidates tested one by one; in the model: ER",
    "image_inventory": "MRI: 2 images of 1 patient (T2, DCE); CT: 1 image of 1 patient (axial)",
    "masks": "images with a mask: MRI 1, CT 1",
    "models": "tang: clinical, clinical+reader_a; park: CT_FSC, CT_ASC, CT_FSC+ASC and 1 candidate",
    "ensembles": "models that join others: CT_FSC+ASC",
    "published_studies": "rebuilt after: Tang 2025, Academic Radiology; Park 2024, Current Oncology 31:2278",
    "networks_chosen": "fine-tuned densenet121 (imagenet) of 2, AUC 0.86; ct ASC: frozen resnet18 (imagenet) of 1, AUC 0.79",
    "training_history": "loss by epoch kept (last epoch: ct 8)",
    "stage_parameters": "25: seed 7, epochs 3, weights imagenet",
    "initial_weights": "initial weights by stage: 25 imagenet",
    "software": "python 3.11.7, torch 2.11.0",
    "code_version": "commit of the code recorded",
    "discrimination_measures": "2 AUCs with 95 % intervals",
    "operating_points": "on tested splits (1 model by split)",
    "thresholds": "locked on: validation 1 (tested rows)",
    "calibration_measures": "of 2 models by split",
    "utility_measures": "net benefit of 2 models by split at thresholds 0.01 to 0.99",
    "model_comparisons": "2 comparisons of two models (DeLong), Holm's correction",
    "interval_methods": "2000 resamples of patients",
    "internal_performance": "1 model on internal test patients (simulated), AUC 0.70 to 0.70",
    "external_performance": "1 model on external test patients (simulated), AUC 0.60 to 0.60",
    "analysis_sizes": "tang: training 4 (2), internal test 3 (2), external test 2 (1); park: training 4 (2)",
    "clinical_model_terms": "clinical model: ER: positive OR 0.50; nomogram",
    "saved_networks": "1 trained network saved",
    "validity_audit": "leakage and resampling audit: 1 table; audits: 1 passed, 1 failed",
    "recalibration": "1 model recalibrated (logistic, isotonic) on other patients",
    "reader_comparisons": "2 comparisons of a model with readers",
    "explanations": "1 table",
    "radiomics_settings": "bin width",
    "feature_counts": "mammography_mri: 2 features of 2 patients",
    "feature_selection": "selected features listed",
    "feature_stability": "ICC under perturbed masks listed",
    "learners": "learners compared",
    "claim_verdicts": "3 published claims on simulated patients: 2 inconclusive, 1 supported",
}


def test_every_fact_has_an_expected_text():
    assert set(EXPECTED) == set(FACTS)


@pytest.mark.parametrize("name", FACTS)
def test_a_fact_says_what_its_files_hold_and_names_them(run, name):
    fact = FACTS[name](run)
    assert EXPECTED[name] in fact.text
    assert fact.files
    for file in fact.files:
        assert run.has(file) or file.startswith("alnlib/radiomics/settings/"), file


@pytest.mark.parametrize("name", FACTS)
def test_without_its_file_a_fact_is_an_error_with_a_remedy(run, name):
    fact = FACTS[name](run)
    inside = [file for file in fact.files if run.has(file)] or ["features/mammography_mri.parquet"]
    for file in inside:
        (run.folder / file).unlink()
    with pytest.raises(InputError, match=r"run|give|cite|names|list"):
        FACTS[name](run)


def test_an_empty_run_gives_remedies_and_no_fact(tmp_path, monkeypatch):
    monkeypatch.setenv("ALN_RESULTS", str(tmp_path))
    told = read_facts(RunFolder("empty"))
    assert all(isinstance(fact, str) and fact for fact in told.values())
    assert "python3 run_all.py --only 41" in told["discrimination_measures"]
    assert "26 or 27" in told["feature_counts"]


def test_patients_in_two_splits_are_not_hidden(run):
    path = run.folder / "cohort/splits.csv"
    table = pd.read_csv(path)
    pd.concat([table, table.iloc[:1].assign(split="test")]).to_csv(path, index=False)
    assert "by patient; 1 patient in several splits" in FACTS["patient_disjoint"](run).text
    path = run.folder / "predictions/clinical.csv"
    table = pd.read_csv(path)
    table.loc[(table["model"] == "clinical") & (table["patient_id"] == "p8"), "patient_id"] = "p0"
    table.to_csv(path, index=False)
    remedy = read_facts(run)["patient_disjoint"]
    assert "in two splits of the same model" in remedy and str(run.folder) not in remedy


def test_the_last_run_that_ended_well_gives_the_parameters(run):
    assert "99" not in FACTS["stage_parameters"](run).text, "that run failed"


def test_a_cohort_with_one_center_has_no_external_performance(run):
    path = run.folder / "evaluation/discrimination.csv"
    pd.read_csv(path).query("split != 'external'").to_csv(path, index=False)
    with pytest.raises(InputError, match="external test patients; this cohort has none"):
        FACTS["external_performance"](run)


# --- filling ------------------------------------------------------------------------------------------------------

SMALL = Checklist(
    *("small", "SMALL", "tests", "2000", "Nobody 2000", "10.1/x"),
    items=(
        Item("1", "s", "all in files", facts=("models",)),
        Item("2", "s", "half in files", facts=("models", "software"), author="say <why>"),
        Item("3", "s", "file is missing", facts=("models", "software")),
        Item("4", "s", "authors alone", author="say it"),
        Item("5", "s", "nothing is made", not_done="no analysis"),
    ),
)
HALF = {"models": Fact("three models", ("a.csv", "b.csv")), "software": "provenance.json is missing; run a stage"}


def test_statuses_follow_from_what_is_there():
    table = filled_checklist(SMALL, HALF)
    assert tuple(table.columns) == TABLE_COLUMNS
    assert list(table["status"]) == ["auto", "needs author", "not done", "needs author", "not done"]
    assert list(table["files"]) == ["a.csv, b.csv"] * 3 + ["", ""]
    assert table["remaining"][0] == "" and table["remaining"][4] == "no analysis"
    assert table["remaining"][1] == "say <why>; provenance.json is missing; run a stage"
    assert (table.loc[table["status"] != "auto", "remaining"] != "").all(), "a remedy or a task"
    counts = status_counts(table).iloc[0]
    assert (counts["auto"], counts["needs author"], counts["not done"], counts["items"]) == (1, 2, 2, 5)


def test_a_radiomics_checklist_counts_nothing_as_filled_before_features_exist(run):
    with_features = filled_checklist(read_checklist("metrics"), read_facts(run))
    (run.folder / "features/mammography_mri.parquet").unlink()
    without = filled_checklist(read_checklist("metrics"), read_facts(run))
    assert (with_features["status"] == "auto").sum() > 5
    assert (without["status"] == "auto").sum() == 0
    center = without[without["number"] == "4"].iloc[0]
    assert center["found"] and "presumes" in center["remaining"]


def test_every_auto_item_has_a_value_and_a_file(run):
    told = read_facts(run)
    for key in CHECKLISTS:
        table = filled_checklist(read_checklist(key), told)
        filled = table[table["status"] == "auto"]
        assert len(filled) and (filled["found"] != "").all() and (filled["files"] != "").all()
        assert set(table["status"]) <= set(STATUSES)


# --- the page -----------------------------------------------------------------------------------------------------


class Outline(HTMLParser):
    """Open tags, ids, links, and everything that is loaded from elsewhere; unbalanced tags raise AssertionError."""

    def __init__(self) -> None:
        super().__init__()
        self.open, self.ids, self.links, self.loaded, self.words = [], [], [], [], []

    def handle_starttag(self, tag, attributes):
        known = dict(attributes)
        if tag not in ("meta", "br", "col", "link", "img"):
            self.open.append(tag)
        self.ids += [known["id"]] if "id" in known else []
        self.links += [known["href"]] if tag == "a" else []
        self.loaded += [tag] if tag in ("script", "link", "img", "iframe") else []

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


def test_the_page_is_whole_alone_and_claims_nothing(run):
    every = [read_checklist(key) for key in CHECKLISTS]
    table = pd.concat([filled_checklist(one, read_facts(run)) for one in every], ignore_index=True)
    page = checklist_page(every, table, run.label)
    outline = Outline()
    outline.feed(page)
    assert outline.open == [] and outline.loaded == []
    assert outline.ids == list(CHECKLISTS)
    assert [link for link in outline.links if link.startswith("#")] == [f"#{key}" for key in CHECKLISTS]
    assert all(link.startswith(("#", "https://doi.org/10.")) for link in outline.links)
    words = " ".join(outline.words)
    assert DISCLAIMER in words and "Toy cohort (simulated patients)" in words
    for status, meaning in STATUSES.items():
        assert words.count(status) >= 2 and meaning in words
    assert not re.search(r"\b(complies|compliant|complying)\b", words.replace(DISCLAIMER, "").lower())
    assert not re.search(r"(?m)^\s*\.status", page), (
        "a rule for badges alone: a column has that class too, and would be moved"
    )
    assert "@media print" in page and page.count('<td class="number">') == len(table)


def test_the_page_escapes_what_it_shows():
    page = checklist_page([SMALL], filled_checklist(SMALL, HALF), "Patients <b> & others")
    assert "say &lt;why&gt;" in page and "say <why>" not in page
    assert "Patients &lt;b&gt; &amp; others" in page
