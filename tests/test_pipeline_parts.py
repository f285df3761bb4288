"""Parts of the pipeline that need no kernel: parameters, cache keys, cleaning, files, numbers."""

from __future__ import annotations

import json
import re

import pandas as pd
import pytest
import yaml

from alnlib.errors import InputError, Problem
from alnlib.files import atomic_path, write_csv, write_json
from alnlib.memo import FileDigests
from alnlib.pipeline.cache import why_stale
from alnlib.pipeline.execute import DIED_AT_START, STARTS, StageRun, clean_executed, execute
from alnlib.pipeline.offer import applicable_stages, read_offer
from alnlib.pipeline.parameters import declared_parameters, parse_setting
from alnlib.pipeline.results import RunFolder, number_text
from alnlib.pipeline.stages import find_stage


def notebook_with(source: str, tags=("parameters",)) -> dict:
    return {"cells": [{"cell_type": "code", "source": source, "metadata": {"tags": list(tags)}}]}


def test_parameters_are_read_as_literals():
    source = 'run = "x"  # folder\nepochs = 3\nsizes = [64, 96]\nlimit = None'
    assert declared_parameters(notebook_with(source), "n") == {
        "run": "x",
        "epochs": 3,
        "sizes": [64, 96],
        "limit": None,
    }


@pytest.mark.parametrize("source", ["a = 1 + len('x')", "import os", "a: int = 1", "a = b"])
def test_anything_but_literals_is_refused(source):
    with pytest.raises(ValueError):
        declared_parameters(notebook_with(source), "n")


def test_settings_of_the_command_line():
    assert parse_setting("22.epochs=5") == ("22", "epochs", 5)
    assert parse_setting("seed=7") == ("all", "seed", 7)
    assert parse_setting("22.sizes=[1, 2]") == ("22", "sizes", [1, 2])


def test_why_stale_names_what_changed(tmp_path):
    (tmp_path / "out.csv").write_text("x\n")
    hashes = FileDigests(tmp_path / "memory.json")
    digest = hashes.of(tmp_path / "out.csv")
    stored = {"components": {"notebook": "a", "inputs": {"p": "1", "q": "2"}}, "outputs": {"out.csv": digest}}
    same = {"notebook": "a", "inputs": {"p": "1", "q": "2"}}
    assert why_stale(stored, same, hashes, tmp_path) is None
    assert why_stale(stored, same | {"notebook": "b"}, hashes, tmp_path) == "notebook changed"
    assert (
        why_stale(stored, same | {"inputs": {"p": "9", "r": "2"}}, hashes, tmp_path) == "inputs changed: p and 2 more"
    )
    (tmp_path / "out.csv").unlink()
    assert why_stale(stored, same, hashes, tmp_path) == "output missing: out.csv"
    new_need = same | {"inputs": {**same["inputs"], "s": None}}  # a file that the table names and nobody has made yet
    assert why_stale(stored, new_need, hashes, tmp_path) == "inputs changed: s"


def test_atomic_path_leaves_nothing_after_a_failure(tmp_path):
    target = tmp_path / "deep" / "t.csv"
    target.parent.mkdir()
    target.write_text("old")
    with pytest.raises(RuntimeError), atomic_path(target) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert target.read_text() == "old"
    assert [path.name for path in target.parent.iterdir()] == ["t.csv"]


def test_csv_and_json_are_stable(tmp_path):
    write_csv(pd.DataFrame({"a": [1 / 3, float("nan")], "b": ["x", "y"]}), tmp_path / "t.csv")
    assert (tmp_path / "t.csv").read_bytes() == b"a,b\n0.33333333,x\n,y\n"
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json({"a": float("nan")}, tmp_path / "t.json")
    assert not (tmp_path / "t.json").exists()


def test_cleaning_removes_times_and_joins_streams():
    outputs = [{"output_type": "stream", "name": "stdout", "text": part} for part in ("a\n", "b\n")]
    cell = {"cell_type": "code", "id": "r4nd0m", "source": "", "outputs": outputs}
    cell["metadata"] = {
        "tags": ["nbval-check-output"],
        "papermill": {"start_time": "now"},
        "execution": {"iopub": "now"},
    }
    cleaned = clean_executed(
        {"cells": [cell], "metadata": {"papermill": {"duration": 3}, "language_info": {"version": "3.11.7"}}}
    )
    assert cleaned["cells"][0]["metadata"] == {"tags": ["nbval-check-output"]}
    assert cleaned["cells"][0]["outputs"] == [{"output_type": "stream", "name": "stdout", "text": ["a\n", "b\n"]}]
    assert "now" not in json.dumps(cleaned)
    assert "3.11.7" not in json.dumps(cleaned)


@pytest.mark.parametrize(("deaths", "starts", "said"), [(STARTS - 1, STARTS, None), (STARTS, STARTS, DIED_AT_START)])
def test_a_kernel_that_dies_at_its_start_is_started_again(deaths, starts, said, tmp_path, monkeypatch):
    """As where another program takes one of its ports first."""
    import papermill

    tries = []

    def start(source, target, **how):
        tries.append(how["parameters"])
        if len(tries) <= deaths:
            raise RuntimeError(DIED_AT_START)

    monkeypatch.setattr(papermill, "execute_notebook", start)
    spec = StageRun("11_cohort", str(tmp_path / "11.ipynb"), str(tmp_path), {"seed": 1}, str(tmp_path), str(tmp_path))
    error = execute(spec)
    assert tries == [{"seed": 1}] * starts
    assert (error and error["message"]) == said


def test_numbers_are_written_as_prose_shows_them():
    assert number_text(0.8191, 0.7342, 0.9029) == "0.819 (0.734 to 0.903)"
    assert number_text(370) == "370"
    assert number_text(None) == "not available"


def test_a_missing_input_names_the_stage_that_makes_it(tmp_path, monkeypatch):
    monkeypatch.setenv("ALN_RESULTS", str(tmp_path))
    monkeypatch.delenv("ALN_STAGING", raising=False)
    with pytest.raises(InputError, match="run_all.py --only 21"):
        RunFolder("some-run").path("predictions/clinical.csv")


def test_an_input_error_shows_place_and_remedy_and_survives_pickling():
    import pickle

    problem = Problem("patients.csv", 7, "aln_metastasis", "2", "not 0, 1 or empty", "write 0 or 1")
    error = pickle.loads(pickle.dumps(InputError("the cohort is not valid:", [problem])))
    assert str(error) == (
        "the cohort is not valid:\n  patients.csv, row 7, column aln_metastasis: not 0, 1 or empty (found '2'); write 0 or 1"
    )


def test_a_predictions_file_without_rows_is_none(tmp_path, monkeypatch):
    """A stage that had nothing to do writes the header alone; the evaluation must not stumble over it."""
    monkeypatch.setenv("ALN_RESULTS", str(tmp_path))
    results = RunFolder("r")
    folder = tmp_path / "r" / "predictions"
    folder.mkdir(parents=True)
    (folder / "fusion.csv").write_text("study,model,split,patient_id,unit_id,y_true,y_score\n")
    with pytest.raises(InputError, match="holds no table"):
        results.predictions()
    (folder / "clinical.csv").write_text("study,model,split,patient_id,unit_id,y_true,y_score\na,b,test,1,1,0,0.5\n")
    assert [path.name for path in results.predictions()] == ["clinical.csv"]


def test_features_are_written_whole_and_counted(tmp_path, monkeypatch):
    monkeypatch.setenv("ALN_RESULTS", str(tmp_path))
    results = RunFolder("r")
    features = pd.DataFrame({"patient_id": ["01", "02"], "MRI_pre_T2__original_firstorder_Mean": [1.5, float("nan")]})
    results.save_features(features, "features/f.parquet")
    pd.testing.assert_frame_equal(pd.read_parquet(results.path("features/f.parquet")), features)
    assert results.written().iloc[0].to_dict() | {"kB": 0} == {"file": "features/f.parquet", "rows": 2, "kB": 0}
    assert results.kept("radiomics").parent.name == "crops"


def test_a_stage_may_need_several_things_of_a_cohort():
    """Mammograms without MRI are not enough for study D; an endpoint is something a cohort offers, like a modality."""
    both, response = find_stage("26"), find_stage("27")
    outlined = {f"{modality} images with a mask or box of the lesion" for modality in ("MG", "MRI")}
    assert both.lacks({"US images", *outlined}) is None
    assert both.lacks({"MRI images", min(outlined)}) == "MRI images with a mask or box of the lesion"
    assert response.lacks({"endpoint apcr with both classes"}) is None
    assert response.lacks(outlined) == "endpoint apcr with both classes"
    assert find_stage("21").lacks(()) == "clinical variables" and find_stage("41").lacks(()) is None


COHORT = {"primary_endpoint": "aln", "endpoints": {"aln": {}, "apcr": {}}, "clinical": {"age": {}}}
PATIENTS = "patient_id,aln,apcr,age\n1,0,1,50\n2,1,1,50\n3,1,,50\n4,,1,50\n"
"""Whose node status is known: 1, 2 and 3. Response is of one class."""


@pytest.mark.parametrize(
    ("images", "stage", "expected"),
    [
        (None, "21", "3 patients"),
        (None, "22", "does not apply: the cohort has no US images with a mask or box of the lesion"),
        (None, "27", "does not apply: the cohort has no endpoint apcr with both classes"),
        (None, "41", "reads what 21 made"),
        (None, "51", "does not apply: no model before it does"),
        ("1,US,,\n2,US,,\n", "22", "does not apply: .* of the lesion, though 2 patients have such images"),
        ("1,US,m.png,\n2,US,,1 1 2 2\n3,US,,\n", "22", "2 patients; 1 others have no US images with a mask or box"),
        ("1,US,m.png,\n", "41", "reads what 21, 22 made"),
        ("1,CT,,1 1 2 2\n1,CT,,\n", "25", "does not apply: .* on every CT image, though 1 patients have such"),
        ("1,CT,,1 1 2 2\n4,CT,,\n", "25", "1 patients; 2 others have no CT images"),
        ("1,MG,m.png,\n2,MG,m.png,\n2,MRI,m.nii,\n", "26", "1 patients; 2 others have no MG images"),
        ("4,US,m.png,\n", "22", "does not apply"),
    ],
)
def test_before_a_run_each_stage_says_how_many_patients_it_has_or_what_is_lacking(tmp_path, images, stage, expected):
    (tmp_path / "cohort.yaml").write_text(yaml.safe_dump(COHORT))
    (tmp_path / "patients.csv").write_text(PATIENTS)
    if images is not None:
        (tmp_path / "images.csv").write_text("patient_id,modality,mask_path,box\n" + images)
    told = {each.number: words for each, words in applicable_stages(read_offer(tmp_path))}
    assert re.match(expected, told[stage]), told[stage]


def test_a_run_counts_the_patients_of_its_own_endpoint(tmp_path):
    (tmp_path / "cohort.yaml").write_text(yaml.safe_dump(COHORT))
    (tmp_path / "patients.csv").write_text(PATIENTS)
    (tmp_path / "study.json").write_text('{"endpoint": "apcr"}')
    assert read_offer(tmp_path)["clinical variables"] == {"1", "2", "4"}
    assert read_offer(tmp_path / "nowhere") is None
