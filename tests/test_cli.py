"""The command line as a user types it: a small cohort from end to end, and every kind of bad input."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from alnlib.paths import repository_root
from alnlib.pipeline.cli import main
from alnlib.report.site import FIRST_PAGE
from alnsim import SimulationSpec, simulate_cohort
from tests.pages import faults
from tests.real_data import real_data

SMALL = (
    "--set",
    "22.epochs=1",
    "--set",
    "22.fine_tuned=[]",
    "--set",
    "21.n_repeats=1",
    "--set",
    "21.n_folds=3",
)
SMALL += ("--set", "42.n_bootstrap=20", "--set", "43.n_bootstrap=20", "--set", "41.n_bootstrap=50")


def run_all(*arguments: str, results: Path) -> subprocess.CompletedProcess:
    """python run_all.py ARGUMENTS with its results in a folder of its own."""
    environment = os.environ | {"ALN_RESULTS": str(results)}
    environment.pop("ALN_STAGING", None)
    command = [sys.executable, "run_all.py", *map(str, arguments)]
    return subprocess.run(command, cwd=repository_root(), env=environment, capture_output=True, text=True)


def digests(folder: Path) -> dict[str, str]:
    """{file: digest} of what a run made, less its diary and what it says of stale files."""
    diary = ("run_log.csv", "provenance.json", "STALE.txt")
    files = (path for path in folder.rglob("*") if path.is_file() and path.name not in diary)
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files
        if not any(
            part.startswith(".") or part in ("failed", "checkpoints", "crops", "site")
            for part in path.relative_to(folder).parts
        )
    }


@pytest.fixture(scope="module")
def good(tmp_path_factory) -> Path:
    """A cohort folder that is right: 70 + 30 simulated patients, 96-pixel stills, no other image."""
    folder = tmp_path_factory.mktemp("cohorts") / "my-cohort"
    few = {"n_mri": 0, "n_video_primary": 0, "n_video_external": 0, "n_ct": 0, "n_mammography": 0, "n_neoadjuvant": 0}
    spec = SimulationSpec(n_primary=70, n_external=30, image_rows=96, image_columns=96, **few)
    simulate_cohort(spec, folder, seed=5, truth_patients=2000)
    return folder


@pytest.fixture(scope="module")
def ran(good, tmp_path_factory) -> Path:
    """The results folder after a good run on that cohort."""
    results = tmp_path_factory.mktemp("results")
    done = run_all("--cohort", good, *SMALL, results=results)
    assert done.returncode == 0, done.stdout + done.stderr
    return results


@pytest.fixture
def copy(good, tmp_path) -> Path:
    """A copy of the good cohort to spoil; the same name, so that it writes to the same run folder."""
    return Path(shutil.copytree(good, tmp_path / "my-cohort"))


def spoil(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def test_a_folder_of_ones_own_runs_from_end_to_end(ran):
    folder = ran / "my-cohort-demo"
    table = pd.read_csv(folder / "evaluation/discrimination.csv")
    assert set(table["split"]) == {"train", "validation", "test", "external", "cross_validation"}
    assert {"clinical", "DL_US"} <= set(table["model"])
    assert set(table["provenance"]) == {"simulated"}
    assert set(table["study"]) == {"simulated"}, "the cohort's name, and no published study"
    assert (folder / "figures/roc_simulated.png").stat().st_size > 5000
    assert pd.read_csv(folder / "report/claims.csv").empty
    numbers = json.loads((folder / "report/numbers.json").read_text())
    assert numbers["simulated_DL_US_test_auc"]["provenance"] == "simulated"
    assert faults((folder / FIRST_PAGE).parent) == [], "the report, with which a run ends"


def test_nothing_changed_runs_nothing(ran, good):
    before = digests(ran)
    done = run_all("--cohort", good, *SMALL, results=ran)
    assert done.returncode == 0
    assert "0 stages run, 15 fresh" in done.stdout
    assert done.stdout.startswith(("Reference arithmetic", "Warning: "))
    assert digests(ran) == before


def test_a_forced_rerun_gives_the_same_bytes(ran, good):
    before = digests(ran)
    done = run_all("--cohort", good, *SMALL, "--force", results=ran)
    assert done.returncode == 0, done.stderr
    assert "15 stages run" in done.stdout
    after = digests(ran)
    assert {name for name in before if after.get(name) != before[name]} == set()


def test_list_says_what_is_stale_and_why(ran, good):
    done = run_all("--cohort", good, *SMALL, "--set", "42.seed=9", "--list", results=ran)
    assert done.returncode == 0
    lines = {line.split()[0]: line for line in done.stdout.splitlines() if line[:2].isdigit()}
    assert "fresh" in lines["41_discrimination"]
    assert "stale" in lines["42_calibration"]
    assert "parameters changed: seed" in lines["42_calibration"]


BAD_COHORTS = {
    "missing file": (lambda f: (f / "images" / "SIM-0003-US.dcm").unlink(), ("images.csv, row 4", "file is missing")),
    "duplicated patient": (
        lambda f: (f / "patients.csv").write_text((t := (f / "patients.csv").read_text()) + t.splitlines()[1] + "\n"),
        ("patients.csv, row 102", "SIM-0001"),
    ),
    "label not 0 or 1": (
        lambda f: _relabel(f / "patients.csv", 2, "2"),
        ("patients.csv, row 4", "aln_metastasis", "0, 1 or empty"),
    ),
    "patient in two splits": (lambda f: _two_splits(f / "patients.csv"), ("SIM-0001", "split")),
}


def _relabel(path: Path, row: int, value: str) -> None:
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    table.loc[row, "aln_metastasis"] = value
    table.to_csv(path, index=False)


def _two_splits(path: Path) -> None:
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    split = ["train", "validation", "test"] * len(table)
    table.insert(
        2, "split", ["external" if c == "external" else s for c, s in zip(table["center"], split, strict=False)]
    )
    pd.concat([table, table.head(1).assign(split="test")]).to_csv(path, index=False)


@pytest.mark.parametrize("fault", BAD_COHORTS)
def test_a_bad_cohort_is_one_message_and_leaves_earlier_results(fault, ran, copy):
    before = digests(ran)
    harm, expected = BAD_COHORTS[fault]
    harm(copy)
    for command in (("--cohort", copy, *SMALL), ("validate", copy)):
        done = run_all(*command, results=ran)
        assert done.returncode == 2, done.stdout + done.stderr
        assert "Traceback" not in done.stdout + done.stderr
        for words in expected:
            assert words in done.stderr
    assert digests(ran) == before


def test_an_unreadable_image_stops_its_stage_with_the_files_name(ran, good):
    before = digests(ran)
    image = good / "images" / "SIM-0003-US.dcm"
    whole = image.read_bytes()
    image.write_bytes(whole[:700])
    try:
        done = run_all("--cohort", good, *SMALL, "--only", "22", results=ran)
    finally:
        image.write_bytes(whole)
    assert done.returncode == 2, done.stdout + done.stderr
    assert "SIM-0003-US.dcm" in done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert (ran / "my-cohort-demo" / "failed" / "22_ultrasound.ipynb").exists()
    assert digests(ran) == before


def test_another_cohort_folder_of_the_same_name_is_refused(ran, copy):
    before = digests(ran)
    done = run_all("--cohort", copy, *SMALL, results=ran)
    assert done.returncode == 2
    assert "another cohort folder of the same name" in done.stderr
    assert digests(ran) == before


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--set", "22.epoch=3"), "22_ultrasound has no parameter 'epoch'"),
        (("--set", "22.epochs=many"), "must be int"),
        (("--profile", "huge"), "choose one of demo, full"),
        (("--cohort", "no-such-cohort"), "neither a known cohort"),
        (("--device", "abacus"), "choose auto, cpu or cuda"),
        (("--only", "30"), "--only 30: no such stage"),
        (("--no-such-option",), "No such option"),
        (("download", "no-such-cohort"), "no-such-cohort"),
        (("validate", "no-such-folder"), "no-such-folder"),
    ],
)
def test_a_wrong_request_is_one_message_with_status_2(arguments, words, tmp_path):
    done = run_all(*arguments, results=tmp_path)
    assert done.returncode == 2, done.stdout + done.stderr
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir())


def test_a_missing_sheet_of_a_public_cohort_names_its_source(tmp_path):
    (tmp_path / "empty").mkdir()
    done = run_all("--cohort", "duke", "--data", tmp_path / "empty", results=tmp_path / "results")
    assert done.returncode == 2
    assert "Clinical_and_Other_Features.xlsx" in done.stderr
    assert "10.7937/TCIA.e3sv-re93" in done.stderr


def test_a_wrong_checksum_of_a_public_cohort_is_told(tmp_path):
    sheet = real_data("duke", "Clinical_and_Other_Features.xlsx")
    (tmp_path / "duke").mkdir()
    changed = tmp_path / "duke" / sheet.name
    changed.write_bytes(sheet.read_bytes() + b"\0")
    done = run_all("--cohort", "duke", "--data", tmp_path / "duke", results=tmp_path / "results")
    assert done.returncode == 2
    assert "Clinical_and_Other_Features.xlsx" in done.stderr
    assert "checksum" in done.stderr or "sha256" in done.stderr.lower()
    assert not (tmp_path / "results" / "duke-demo" / "cohort").exists()


def test_validate_says_that_a_good_cohort_is_good(good, tmp_path):
    done = run_all("validate", good, results=tmp_path)
    assert done.returncode == 0
    assert "100 patients, 100 images" in done.stdout
    assert "22_ultrasound          100 patients" in done.stdout
    assert "25_ct_nodes            does not apply: the cohort has no CT images" in done.stdout


def test_validate_warns_of_what_is_hardly_true_and_so_does_a_run(copy, tmp_path):
    table = pd.read_csv(copy / "patients.csv", dtype=str, keep_default_na=False)
    table.loc[[3, 5], "age"] = "102"
    table.to_csv(copy / "patients.csv", index=False)
    for command in (("validate", copy), ("--cohort", copy, "--only", "94")):
        said = run_all(*command, results=tmp_path / "results").stderr
        assert "2 warnings of 1 kind" in said
        assert "patients.csv, rows 5, 7, column age: outside the plausible range, 18 to 100 years, 2 times" in said


def test_download_dry_run_works_offline(tmp_path):
    done = run_all(
        "download", "duke", "--dry-run", "--data", tmp_path / "d", "--patients", "Breast_MRI_001", results=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert "5 series, 800 instances" in done.stdout
    assert "CC BY-NC 4.0" in done.stdout


def test_an_interrupt_says_that_what_ended_well_is_kept_and_nohup_outlives_a_logout(monkeypatch, capsys):
    def interrupted(*arguments, **options):
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup starts a command
    monkeypatch.setattr("alnlib.pipeline.cli.make_plan", interrupted)
    try:
        assert main([]) == 130
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)
    assert "What had ended well is kept; the same command goes on from there" in capsys.readouterr().err
