"""`run_all.py verify`: small changes planted in a copy of the committed run, each seen for what it is."""

from __future__ import annotations

import io
import json
import re
import shutil
import subprocess
from collections.abc import Callable
from fnmatch import fnmatch
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from alnlib.errors import InputError
from alnlib.paths import repository_root
from alnlib.pipeline.cli import main
from alnlib.pipeline.committed import committed_files
from alnlib.pipeline.stages import ARITHMETIC, STALE
from alnlib.pipeline.verify import (
    class_of,
    classes,
    compare_file,
    compare_folders,
    compare_runs,
    key_columns,
    tolerances,
)
from alnlib.report.readme import number_blocks

ROOT = repository_root()
RUN = "results/simulated-demo"
FILES = (
    "cohort/cohort.yaml", "cohort/splits.csv", "sources/realism.csv", "predictions/clinical.csv", "predictions/ultrasound.csv",
    "evaluation/discrimination.csv", "evaluation/net_benefit.csv", "report/claims.csv", "report/numbers.json",
    "figures/claims.png", "notebooks/11_cohort.ipynb",
)  # fmt: skip
ULTRASOUND, DISCRIMINATION, CLAIMS = "predictions/ultrasound.csv", "evaluation/discrimination.csv", "report/claims.csv"


@pytest.fixture(scope="module")
def repository(tmp_path_factory) -> Path:
    """A git repository with some of the run's files, committed, and what README is made of."""
    root = tmp_path_factory.mktemp("repository")
    for name in FILES:
        (root / RUN / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / RUN / name, root / RUN / name)
    machine = {"arithmetic": "reference", "processor": "Committed CPU", "accelerator": "cpu"}
    (root / RUN / ARITHMETIC).write_text(json.dumps(machine))
    (root / ".gitignore").write_text("results/*\n!results/simulated-demo\n")
    try:
        for command in (["init"], ["add", "."], ["commit", "-m", "run"]):
            who = ["-c", "user.name=tests", "-c", "user.email=tests@example.org", "-c", "commit.gpgsign=false"]
            subprocess.run(["git", *who, *command], cwd=root, check=True, capture_output=True)
    except OSError:
        pytest.skip("git is not installed")
    return root


@pytest.fixture
def tested() -> int:
    """Row of the committed discrimination table with the AUC of a network's test patients."""
    table = pd.read_csv(ROOT / RUN / DISCRIMINATION)
    return table.query("split == 'test' and model != 'clinical' and auc > 0.2").index[0]


@pytest.fixture
def run(repository, tmp_path, monkeypatch) -> Path:
    """A run of one's own, byte for byte as the committed one."""
    monkeypatch.setenv("ALN_ROOT", str(repository))
    monkeypatch.setenv("ALN_RESULTS", str(tmp_path / "results"))
    return Path(shutil.copytree(repository / RUN, tmp_path / RUN))


def plant(path: Path, change: Callable[[pd.DataFrame], object]) -> None:
    """Change a table in place; every cell that is not touched stays the same text."""
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    changed = change(table)
    (table if changed is None else changed).to_csv(path, index=False, lineterminator="\n")


def add(column: str, amount: float, rows: object = slice(None)) -> Callable[[pd.DataFrame], None]:
    def change(table: pd.DataFrame) -> None:
        numbers = pd.to_numeric(table.loc[rows, column]) + amount
        table.loc[rows, column] = [np.format_float_positional(number, 8, trim="-") for number in numbers]

    return change


def states() -> dict[str, str]:
    """{file: state} of what is not identical."""
    files = compare_runs("simulated-demo", "simulated-demo").files
    return {compared.file: compared.state for compared in files if compared.state != "identical"}


def verified(capsys, *options: str) -> tuple[int, str]:
    status = main(["verify", *options])
    return status, capsys.readouterr().out


def test_a_run_that_came_out_the_same(run, capsys):
    status, said = verified(capsys)
    assert (status, states()) == (0, {})
    assert "exact files: 3 identical" in said and f"{len(pd.read_csv(run / CLAIMS))} the same, 0 moved" in said
    assert "largest 0.0000" in said and said.endswith("The same result.\n")
    assert "this run: Reference arithmetic (AVX2) on Committed CPU" in said


def test_a_changed_number_is_shown_with_its_row_and_column(run, tested, capsys):
    table = pd.read_csv(run / DISCRIMINATION)
    plant(run / DISCRIMINATION, add("auc", -0.1, [tested]))
    status, said = verified(capsys)
    assert status == 1 and states() == {DISCRIMINATION: "changed"}
    name = " / ".join(table.loc[tested, ["study", "model", "split"]])
    line = re.search(rf"{re.escape(name)} / auc: (\S+) -> (\S+), by 0.1 \(allowed 0.02\)", said)
    assert float(line[1]) == table.loc[tested, "auc"] == pytest.approx(float(line[2]) + 0.1)
    count = table[table["split"].isin(["test", "external"])]["auc"].notna().sum()
    assert f"mean |difference| {0.1 / count:.4f}, largest 0.1000 ({name})" in said


def test_a_drift_within_tolerance_is_the_same_result(run, capsys):
    plant(run / ULTRASOUND, add("y_score", 0.01))
    plant(run / DISCRIMINATION, add("auc", -0.019))
    assert states() == dict.fromkeys([ULTRASOUND, DISCRIMINATION], "within tolerance")
    status, said = verified(capsys)
    assert status == 0 and "0 beyond tolerance" in said


def test_a_moved_verdict_is_named(run, capsys):
    first = pd.read_csv(run / CLAIMS).iloc[0]
    plant(run / CLAIMS, lambda table: table.__setitem__("verdict", ["another", *table["verdict"][1:]]))
    status, said = verified(capsys)
    assert status == 1 and f"{len(pd.read_csv(run / CLAIMS)) - 1} the same, 1 moved" in said
    assert f"{first['claim']} / {first['split']}: {first['verdict']} -> another" in said


def test_a_missing_file_is_a_change(run, capsys):
    (run / ULTRASOUND).unlink()
    status, said = verified(capsys)
    assert status == 1 and f"{ULTRASOUND} (learned): missing in this run" in said


@pytest.mark.parametrize(
    "change", [add("y_score", 1e-8, [5]), lambda table: table.sample(frac=1, random_state=1), lambda table: table[:-1]]
)
def test_an_exact_file_is_the_same_to_the_last_byte_or_changed(change, run):
    plant(run / "predictions/clinical.csv", change)
    assert states() == {"predictions/clinical.csv": "changed"}


def test_text_of_an_exact_file_counts(run):
    path = run / "cohort/cohort.yaml"
    path.write_text(path.read_text() + "# a remark\n")
    plant(run / "cohort/splits.csv", lambda table: table.replace({"split": {"validation": "test"}}))
    assert states() == dict.fromkeys(["cohort/cohort.yaml", "cohort/splits.csv"], "changed")


@pytest.mark.parametrize(("amount", "state"), [(0.0001, "within tolerance"), (0.001, "changed")])
def test_a_close_file_may_round_otherwise_and_no_more(amount, state, run):
    plant(run / "sources/realism.csv", add("auc", amount, [3]))
    assert states() == {"sources/realism.csv": state}


def test_rows_are_known_by_what_they_are_called_and_not_by_their_place(run, capsys):
    for name in (ULTRASOUND, "evaluation/net_benefit.csv"):
        plant(run / name, lambda table: table.sort_values(["model", "split"], kind="stable", ascending=False))
    plant(run / ULTRASOUND, add("y_score", 0.2, [0]))
    assert states() == {ULTRASOUND: "changed", "evaluation/net_benefit.csv": "within tolerance"}
    _, said = verified(capsys)
    assert "1 of " in said and "the values are the same, the order of rows" in said


@pytest.mark.parametrize(
    "change",
    [
        lambda table: table.drop(index=7),
        lambda table: pd.concat([table, table[:1].assign(patient_id="SIM-9999")]),
        lambda table: table.drop(columns="y_true"),
        lambda table: table.assign(another="1"),
        lambda table: table.assign(role="candidate"),
    ],
)
def test_a_row_a_column_or_a_word_more_or_less_is_a_change(change, run):
    plant(run / ULTRASOUND, change)
    assert states() == {ULTRASOUND: "changed"}


def test_a_count_may_not_move_even_where_five_percent_would(run):
    plant(run / DISCRIMINATION, add("n", 1, [0]))
    assert states() == {DISCRIMINATION: "changed"}


@pytest.mark.parametrize(
    ("here", "state"),
    [
        ("0.73 (0.6 to 0.83)", "within tolerance"),
        ("0.81 (0.6 to 0.83)", "changed"),
        ("0.72 (0.6 bis 0.83)", "changed"),
        ("not available", "changed"),
    ],
)
def test_numbers_inside_of_text_have_the_tolerance_of_what_they_stand_for(here, state):
    before, after = (json.dumps({"us_auc": {"text": text}}).encode() for text in ("0.72 (0.6 to 0.83)", here))
    assert compare_file("report/numbers.json", before, after).state == state


def test_a_number_that_is_gone_or_new_is_a_change(run):
    path = run / "report/numbers.json"
    numbers = json.loads(path.read_text())
    path.write_text(json.dumps(numbers))
    assert states() == {"report/numbers.json": "within tolerance"}, "only spelled otherwise"
    path.write_text(json.dumps({name: number for name, number in numbers.items() if name != "apcr_known"}))
    assert states() == {"report/numbers.json": "changed"}


def test_figures_notebooks_and_the_machine_are_not_compared_and_it_is_said(run, capsys):
    for name in ("figures/claims.png", "notebooks/11_cohort.ipynb"):
        (run / name).write_bytes(b"another")
    (run / ARITHMETIC).write_text(
        json.dumps({"arithmetic": "own", "processor": "Other CPU", "accelerator": "Some GPU"})
    )
    status, said = verified(capsys)
    assert status == 0 and "not compared, though committed: figures, executed notebooks" in said
    assert "this run: Warning: networks run on a GPU (Some GPU)" in said


def test_files_of_the_run_that_are_not_committed_are_named(run, capsys):
    (run / "evaluation/curves.csv").write_text("study\n")
    status, said = verified(capsys)
    assert status == 0 and "not committed, so not compared: evaluation/curves.csv" in said


def test_a_scratch_run_is_compared_with_a_committed_one_that_is_named(run, capsys):
    run.rename(run.with_name("scratch"))
    assert verified(capsys, "scratch", "--against", "simulated-demo")[0] == 0
    for names, words in (
        (("scratch", "scratch"), "results/scratch is not committed; .*--against simulated-demo"),
        (("nowhere", "simulated-demo"), "nowhere is not there; make it with"),
    ):
        with pytest.raises(InputError, match=words):
            compare_runs(*names)


def test_two_runs_side_by_side_say_what_moved(run, tested, capsys):
    """A scratch run with one AUC lower and one verdict turned, beside the reference as it stands, without git."""
    scratch = Path(shutil.copytree(run, run.with_name("try")))
    assert verified(capsys, "try", "simulated-demo")[0] == 0
    plant(scratch / DISCRIMINATION, add("auc", -0.1, [tested]))
    turned = pd.read_csv(scratch / CLAIMS)["verdict"].iloc[0]
    plant(scratch / CLAIMS, lambda table: table.assign(verdict=["turned", *table["verdict"][1:]]))
    (scratch / STALE).write_text("42_calibration")
    (scratch / ULTRASOUND).unlink()
    status, said = verified(capsys, "try", "simulated-demo")
    row = pd.read_csv(run / DISCRIMINATION).loc[tested]
    assert status == 1 and f"{turned} -> turned" in said and ", 1 moved" in said
    assert re.search(rf"{re.escape(row['model'])} .*: {row['auc']:.3f} -> {row['auc'] - 0.1:.3f}", said)
    assert "results/try holds files that do not belong together" in said
    assert "missing in RUN: 1 files (predictions 1)" in said and ULTRASOUND not in said
    with pytest.raises(InputError, match="nowhere is not there"):
        compare_folders("try", "nowhere")


def test_without_git_it_is_said(run, tmp_path, monkeypatch):
    monkeypatch.setenv("ALN_ROOT", str(tmp_path))
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    with pytest.raises(InputError, match="no git checkout.*clone the repository"):
        compare_runs("simulated-demo", "simulated-demo")


def test_the_table_says_it_of_every_file_and_readme_shows_it(run, tested, tmp_path, capsys):
    plant(run / DISCRIMINATION, add("auc", -0.1, [tested]))
    (run / ARITHMETIC).write_text(
        json.dumps({"arithmetic": "reference", "processor": "Other CPU", "accelerator": "cpu"})
    )
    for folder in ("benchmarks", "tests/references/runs", "results/simulated-published/report"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    path = tmp_path / "benchmarks/arithmetic.csv"
    path.unlink(missing_ok=True)
    without = number_blocks(tmp_path)["arithmetic"]
    assert "CPU" not in without and "AUC by 0.02" in without
    assert verified(capsys, "--table", str(path))[0] == 1
    table = pd.read_csv(path).set_index("what")
    assert table.loc[DISCRIMINATION, ["state", "differing", "beyond"]].tolist() == ["changed", 1, 1]
    assert table.loc[DISCRIMINATION, "largest_difference"] == pytest.approx(0.1)
    assert set(table["committed_processor"] + table["processor"]) == {"Committed CPUOther CPU"}
    shown = number_blocks(tmp_path)["arithmetic"]
    assert "reference arithmetic on Committed CPU. The other: Other CPU, reference." in shown
    assert "| learned | 4 | 0 | 1 |" in shown
    assert f"| verdicts on published claims | {len(pd.read_csv(run / CLAIMS))} | | 0 |" in shown


def test_keys_are_text_before_whole_numbers_and_no_more_than_it_takes():
    table = "hottest,score,patient,epoch,note\n3,0.5,a,1,x\n3,0.5,a,2,x\n7,0.25,b,1,y\n"
    assert key_columns(pd.read_csv(io.StringIO(table), dtype=str).to_dict("records")) == ["patient", "epoch"]
    assert key_columns([]) == [] and key_columns([{"a": "x"}]) == []


def test_every_committed_file_has_one_class_and_every_word_of_the_table_a_file():
    committed = committed_files(ROOT, RUN)
    if committed is None:
        pytest.skip("no git checkout")
    names = [name.removeprefix(f"{RUN}/") for name in committed]
    assert list(classes())[-1] == "learned" and classes()["learned"]["files"] == "*"
    words = {kind: entry["files"].split() for kind, entry in classes().items() if kind != "learned"}
    for name in names:
        fits = [kind for kind, patterns in words.items() if any(fnmatch(name, pattern) for pattern in patterns)]
        assert [class_of(name)] == (fits or ["learned"]), name
    compared = [pattern for kind, patterns in words.items() if tolerances(kind) for pattern in patterns]
    assert [pattern for pattern in compared if not any(fnmatch(name, pattern) for name in names)] == []
