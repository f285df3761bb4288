"""The runner on toy notebooks in a table of three stages.

Whatever concerns papermill and kernels is seen with real ones; what the runner makes of stages, with `toy.forked_stage`.
"""

from __future__ import annotations

import csv
import json
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pandas as pd
import pytest
import yaml

from alnlib.errors import InputError
from alnlib.pipeline import offer
from alnlib.pipeline.runner import Runner, RunOptions, make_plan
from alnlib.pipeline.stages import STAGES, Stage, check_table
from tests.toy import PARAMETERS, TOY_CELLS, TOY_STAGES, kinds, run_toys, without_kernels, write_toy_notebook


def surveyed_toys() -> list[tuple[str, str, str]]:
    statuses = Runner(make_plan(RunOptions(), TOY_STAGES)).survey()
    return [(status.stage.notebook, status.kind, status.detail) for status in statuses]


def test_the_compendium_table_is_sound():
    check_table(STAGES)


@pytest.mark.parametrize(
    ("stages", "complaint"),
    [
        ((Stage("02_b", ""), Stage("01_a", "")), "ascending"),
        ((Stage("01_a", "", makes=("x",)), Stage("01_b", "")), "unique"),
        ((Stage("01_a", "", needs=("x",)),), "no earlier stage makes"),
        ((Stage("01_a", "", makes=("x",)), Stage("02_b", "", makes=("x",))), "made by both"),
        ((Stage("01_a", "", needs=("x",)), Stage("02_b", "", makes=("x",))), "no earlier stage makes"),
        ((Stage("01_a", "", about=("US image",)),), "no cohort offers"),
    ],
)
def test_an_unsound_table_is_refused(stages, complaint):
    with pytest.raises(ValueError, match=complaint):
        check_table(stages)


def test_run_rerun_change_and_repair(toy_repository, monkeypatch):
    """One story, because each step needs the last: all run; all fresh; what changed reruns, what depends on it too."""
    runner = run_toys()
    folder = toy_repository / "results" / "simulated-demo"
    assert runner.good
    assert kinds(runner) == ["done", "done", "done"]
    assert pd.read_csv(folder / "b.csv")["x"].tolist() == [3, 6]  # the profile's factor 3, not the default 2
    assert json.loads((folder / "report/numbers.json").read_text())["toy_sum"]["provenance"] == "simulated"
    assert not list(folder.rglob("*.part*"))

    executed = json.loads((folder / "notebooks/02_second.ipynb").read_text())
    text = json.dumps(executed)
    assert "papermill" not in json.dumps(executed["metadata"])
    assert "iopub" not in text
    assert str(toy_repository) not in text
    first_bytes = {path: path.read_bytes() for path in folder.rglob("*.csv") if path.name != "run_log.csv"}
    notebook_bytes = (folder / "notebooks/02_second.ipynb").read_bytes()

    begun = time.monotonic()
    assert kinds(run_toys()) == ["fresh", "fresh", "fresh"]
    assert (
        time.monotonic() - begun < 3
    )  # the design's promise for a rerun of nothing, with room to spare on three stages

    said = json.loads((folder / "provenance.json").read_text())
    assert json.loads((folder / "report/arithmetic.json").read_text()) == {
        "arithmetic": said["arithmetic"],
        "processor": said["machine"]["processor"],
        "accelerator": said["machine"]["accelerator"],
    }
    with monkeypatch.context() as other:
        other.setenv("ATEN_CPU_CAPABILITY", "default")
        assert surveyed_toys()[0] == ("01_first", "stale", "arithmetic changed")

    assert kinds(run_toys(only="02", force=True)) == ["skipped", "done", "skipped"]
    assert (folder / "notebooks/02_second.ipynb").read_bytes() == notebook_bytes
    assert {path: path.read_bytes() for path in first_bytes} == first_bytes

    without_kernels(monkeypatch)
    write_toy_notebook(toy_repository, "02_second", [*TOY_CELLS["02_second"], "print('one more')"])
    listed = {name: (kind, detail) for name, kind, detail in surveyed_toys()}
    assert listed["02_second"] == ("stale", "notebook changed")
    assert listed["03_aside"][0] == "fresh"
    assert kinds(run_toys()) == ["fresh", "done", "fresh"]

    (folder / "c.csv").write_text("edited\n")
    repaired = run_toys()
    assert repaired.statuses["03_aside"].detail == "output edited: c.csv"
    assert pd.read_csv(folder / "c.csv")["x"].tolist() == [2, 3]

    assert kinds(run_toys(seed=5)) == ["done", "done", "done"]
    (toy_repository / "data/simulated-demo/file.txt").write_text("two")
    assert kinds(run_toys(seed=5)) == ["done", "fresh", "fresh"]  # the first makes the same, so the others stand
    log = list(csv.DictReader((folder / "run_log.csv").read_text().splitlines()))
    assert {row["notebook"] for row in log} == set(TOY_CELLS)
    assert json.loads(log[0]["outputs_sha256"])["a.csv"]


def test_a_failed_stage_leaves_earlier_results_and_its_notebook(toy_repository, monkeypatch):
    with monkeypatch.context() as earlier:
        without_kernels(earlier)
        run_toys()
    folder = toy_repository / "results" / "simulated-demo"
    before = (folder / "b.csv").read_bytes()
    broken = [
        "results = None",
        "from alnlib.errors import InputError",
        "raise InputError('patients.csv, row 3: mend it')",
    ]
    good_first = TOY_CELLS["02_second"][:2] + ["results.save_table(table * 100, 'b.csv')"]
    write_toy_notebook(toy_repository, "02_second", good_first + broken[1:])
    runner = run_toys(seed=9)
    assert not runner.good
    assert kinds(runner) == ["done", "failed", "done"]
    assert runner.statuses["02_second"].error["name"] == "InputError"
    assert runner.statuses["02_second"].detail == "patients.csv, row 3: mend it"
    assert (folder / "b.csv").read_bytes() == before
    failed = json.loads((folder / "failed/02_second.ipynb").read_text())
    assert any(output["output_type"] == "error" for cell in failed["cells"] for output in cell.get("outputs", []))
    without_kernels(monkeypatch)
    write_toy_notebook(toy_repository, "02_second", TOY_CELLS["02_second"])
    assert kinds(run_toys(seed=9)) == ["fresh", "done", "fresh"]
    assert not (folder / "failed/02_second.ipynb").exists()


def test_a_stage_that_no_longer_applies_leaves_nothing_behind_and_comes_back(toy_repository, monkeypatch):
    """The cohort loses its ultrasound images and gets them back: the stage goes and returns, each within one run."""
    without_kernels(monkeypatch)
    cells = [*TOY_CELLS["01_first"], "images = results.data.joinpath('file.txt').read_text()"]
    cells.append("results.output('cohort/images.csv').write_text('modality\\n' + images + '\\n')")
    write_toy_notebook(
        toy_repository, "01_first", [cell.replace("run)", "run, 'data/simulated-demo')") for cell in cells]
    )
    stages = (
        Stage("01_first", "", makes=(*TOY_STAGES[0].makes, "cohort/images.csv"), reads_data=True),
        Stage("02_second", "", needs=("a.csv", "cohort/images.csv"), makes=TOY_STAGES[1].makes, about=("US images",)),
        TOY_STAGES[2],
    )

    def run_with(modality: str) -> list[str]:
        (toy_repository / "data/simulated-demo/file.txt").write_text(modality)
        runner = Runner(make_plan(RunOptions(), stages))
        assert runner.run()
        return kinds(runner)

    made = toy_repository / "results/simulated-demo/b.csv"
    assert run_with("US") == ["done", "done", "done"]
    assert made.exists()
    assert run_with("CT") == ["done", "absent", "fresh"]
    assert not made.exists()
    assert run_with("US") == ["done", "done", "fresh"]
    assert made.exists()


def test_a_stage_may_find_that_it_does_not_apply(toy_repository, monkeypatch):
    """It leaves nothing, those behind it go on without its files, and it is asked again when what it depends on changes."""
    stages = (
        *TOY_STAGES[:2],
        Stage("03_aside", "", needs=("a.csv", "b.csv"), makes=("c.csv",)),
    )

    def run_now(**options) -> Runner:
        runner = Runner(make_plan(RunOptions(**options), stages))
        assert runner.run()
        return runner

    folder = toy_repository / "results/simulated-demo"
    with monkeypatch.context() as earlier:
        without_kernels(earlier)
        assert kinds(run_now()) == ["done", "done", "done"]
    assert (folder / "b.csv").exists()

    too_few = (
        "from alnlib.errors import DoesNotApply\nif seed < 9:\n    raise DoesNotApply('3 patients; 48 are needed')"
    )
    write_toy_notebook(toy_repository, "02_second", [*TOY_CELLS["02_second"][:2], too_few, TOY_CELLS["02_second"][2]])
    runner = run_now()
    assert kinds(runner) == ["fresh", "absent", "done"]
    assert runner.statuses["02_second"].detail == "3 patients; 48 are needed"
    assert not (folder / "b.csv").exists()
    assert not (folder / "failed/02_second.ipynb").exists()
    assert not (folder / "report/numbers.json").exists()  # only the second stage had one

    without_kernels(monkeypatch)
    again = run_now()
    assert kinds(again) == ["fresh", "absent", "fresh"]
    assert again.statuses["02_second"].seconds is None  # not executed once more
    survey = Runner(make_plan(RunOptions(), stages)).survey()
    assert [(status.kind, status.detail) for status in survey[1:]] == [
        ("absent", "3 patients; 48 are needed"),
        ("fresh", ""),
    ]
    assert kinds(run_now(only="03")) == ["skipped", "absent", "fresh"]

    assert kinds(run_now(seed=9)) == ["done", "done", "done"]
    assert (folder / "b.csv").exists()


def test_a_model_that_fails_in_a_first_run_does_not_hold_up_the_others(toy_repository, monkeypatch):
    """The evaluation goes on with the other model; once a model has files, its failure holds up what reads them."""
    without_kernels(monkeypatch)
    cells = [*TOY_CELLS["01_first"], "results.output('cohort/images.csv').write_text('modality\\nUS\\nCT\\n')"]
    write_toy_notebook(toy_repository, "01_first", cells)
    opening = TOY_CELLS["03_aside"][0]
    (toy_repository / "notebooks/profiles/demo.yaml").write_text("")
    fails = [opening, "raise ValueError('no such crop')"]
    works = [opening, "results.save_table(results.read_table('a.csv'), 'ct.csv')"]
    judges = [opening, "names = [name for name in ('us.csv', 'ct.csv') if results.has(name)]"]
    judges.append("import pandas as pd\nresults.save_table(pd.DataFrame({'read': names}), 'd.csv')")
    explains = [opening, "results.save_table(results.read_table('ct.csv'), 'e.csv')"]
    reports = [opening, "results.save_table(results.read_table('d.csv'), 'f.csv')"]
    written = {"02_us": works, "03_ct": fails, "04_judge": judges, "05_explain": explains, "06_report": reports}
    for name, cells in written.items():
        cells = [cell.replace("'ct.csv'", "'us.csv'", 1) if name == "02_us" else cell for cell in cells]
        write_toy_notebook(toy_repository, name, cells)
    stages = (
        Stage("01_first", "", makes=(*TOY_STAGES[0].makes, "cohort/images.csv"), reads_data=True),
        Stage("02_us", "", ("a.csv",), ("us.csv",), about=("US images",)),
        Stage("03_ct", "", ("a.csv",), ("ct.csv",), about=("CT images",)),
        Stage("04_judge", "", ("us.csv", "ct.csv"), ("d.csv",)),
        Stage("05_explain", "", ("ct.csv",), ("e.csv",)),
        Stage("06_report", "", ("d.csv", "e.csv"), ("f.csv",)),
    )

    def run_now(**options) -> Runner:
        runner = Runner(make_plan(RunOptions(**options), stages))
        runner.good = runner.run()
        return runner

    folder = toy_repository / "results/simulated-demo"
    first = run_now()
    assert not first.good
    assert kinds(first) == ["done", "done", "failed", "done", "absent", "done"]
    assert first.statuses["05_explain"].detail == "stage 03 failed"
    assert pd.read_csv(folder / "f.csv")["read"].tolist() == ["us.csv"]
    assert kinds(run_now())[:2] == ["fresh", "fresh"]

    write_toy_notebook(toy_repository, "03_ct", works)
    assert kinds(run_now()) == ["fresh", "fresh", "done", "done", "done", "done"]
    assert pd.read_csv(folder / "f.csv")["read"].tolist() == ["us.csv", "ct.csv"]
    write_toy_notebook(toy_repository, "03_ct", fails)
    assert kinds(run_now()) == ["fresh", "fresh", "failed", "blocked", "blocked", "blocked"]


def test_the_models_of_a_users_cohort_are_filed_under_its_name(toy_repository):
    """Those that any cohort may have; a protocol of one modality keeps its key. --set comes last."""
    folder = toy_repository / "Ward 7"
    folder.mkdir()
    described = dict.fromkeys(("title", "license", "citation", "source"), "x") | {"name": "St. Mary's"}
    described |= {"provenance": "real", "primary_endpoint": "aln", "centers": ["A"]}
    described["endpoints"] = {"aln": {"label": "ALN", "positive": "N+", "negative": "N0"}}
    (folder / "cohort.yaml").write_text(yaml.safe_dump(described))
    (folder / "patients.csv").write_text("patient_id,center,aln\n1,A,0\n2,A,1\n")
    for name, study in (("02_second", "tang"), ("03_aside", "park")):
        write_toy_notebook(toy_repository, name, TOY_CELLS[name], f'{PARAMETERS}\nstudy = "{study}"')

    def studies(**options) -> list[str | None]:
        plan = make_plan(RunOptions(**options), TOY_STAGES)
        return [values.get("study") for values in plan.parameters.values()]

    assert studies() == [None, "tang", "park"]
    assert studies(cohort=str(folder)) == [None, "st-mary-s", "park"]
    assert studies(cohort=str(folder), settings=("02.study=mine",)) == [None, "mine", "park"]
    (folder / "cohort.yaml").write_text(yaml.safe_dump(described | {"name": "Tang"}))
    assert studies(cohort=str(folder)) == [None, "tang-cohort", "park"]


def test_a_rerun_of_nothing_reads_what_the_cohort_offers_once(toy_repository, monkeypatch):
    """Every stage asks several times what the cohort offers; a table of images may be long."""
    without_kernels(monkeypatch)
    cells = [*TOY_CELLS["01_first"], "results.output('cohort/images.csv').write_text('modality\\nUS\\n')"]
    write_toy_notebook(toy_repository, "01_first", cells)
    stages = (
        Stage("01_first", "", makes=(*TOY_STAGES[0].makes, "cohort/images.csv"), reads_data=True),
        Stage("02_second", "", needs=("a.csv", "cohort/images.csv"), makes=TOY_STAGES[1].makes, about=("US images",)),
        TOY_STAGES[2],
    )
    assert Runner(make_plan(RunOptions(), stages)).run()
    offer._read.cache_clear()
    again = Runner(make_plan(RunOptions(), stages))
    assert again.run() and kinds(again) == ["fresh"] * 3
    assert offer._read.cache_info().misses == 1


def test_two_stages_of_one_notebook(toy_repository, monkeypatch):
    """Each has its own parameters, files, executed notebook and --set; a change of the notebook makes both stale."""
    without_kernels(monkeypatch)
    cells = [*TOY_CELLS["03_aside"][:1], "results.save_table(results.read_table('a.csv') * factor, f'{name}.csv')"]
    parameters = f'{PARAMETERS}\nname = "b"  # of the table'
    write_toy_notebook(toy_repository, "02_tables", cells, parameters)
    stages = (
        TOY_STAGES[0],
        Stage("02_second", "", ("a.csv",), ("b.csv",), source="02_tables"),
        Stage("03_aside", "", ("a.csv",), ("c.csv",), source="02_tables", preset={"name": "c", "factor": 5}),
    )

    def run_now(*settings: str) -> list[str]:
        runner = Runner(make_plan(RunOptions(settings=settings), stages))
        assert runner.run()
        return kinds(runner)

    folder = toy_repository / "results/simulated-demo"
    assert run_now() == ["done", "done", "done"]
    assert pd.read_csv(folder / "b.csv")["x"].tolist() == [3, 6]
    assert pd.read_csv(folder / "c.csv")["x"].tolist() == [5, 10]
    assert {path.stem for path in (folder / "notebooks").glob("*")} == {stage.notebook for stage in stages}
    assert run_now() == ["fresh", "fresh", "fresh"]
    assert run_now("03.factor=7") == ["fresh", "fresh", "done"]
    assert pd.read_csv(folder / "c.csv")["x"].tolist() == [7, 14]
    write_toy_notebook(toy_repository, "02_tables", [*cells, "print(name)"], parameters)
    assert run_now("03.factor=7") == ["fresh", "done", "done"]
    wrong = (*stages[:2], Stage("03_aside", "", source="02_tables", preset={"nam": "c"}))
    with pytest.raises(InputError, match=r"03_aside has no parameter 'nam' \(the stage table\)"):
        make_plan(RunOptions(), wrong)


def test_a_stage_that_waits_for_its_turn_is_not_shown_as_running(toy_repository, monkeypatch):
    """One job: of two stages that are ready, one runs and the other waits."""
    without_kernels(monkeypatch)
    seen = set()
    runner = Runner(make_plan(RunOptions(jobs=1), TOY_STAGES), lambda r: seen.add(tuple(kinds(r))))
    assert runner.run()
    assert not [state for state in seen if state.count("running") > 1]
    assert ("done", "running", "waiting") in seen


def test_a_stage_that_breaks_its_contract_fails(toy_repository, monkeypatch):
    without_kernels(monkeypatch)
    write_toy_notebook(toy_repository, "03_aside", TOY_CELLS["03_aside"][:1])
    runner = run_toys()
    assert runner.statuses["03_aside"].detail == "Contract: the notebook did not write c.csv"
    extra = [*TOY_CELLS["03_aside"], "results.save_table(results.read_table('a.csv'), 'b.csv')"]
    write_toy_notebook(toy_repository, "03_aside", extra)
    assert "also written by 02_second" in run_toys().statuses["03_aside"].detail


def test_only_without_its_input_says_which_stage_to_run(toy_repository, monkeypatch):
    without_kernels(monkeypatch)
    runner = run_toys(only="02")
    assert not runner.good
    assert "run --from 01" in runner.statuses["02_second"].detail


def test_two_runs_do_not_share_a_folder(toy_repository):
    folder = toy_repository / "results" / "simulated-demo"
    folder.mkdir(parents=True)
    holder = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import fcntl,os,sys,time; f=open(sys.argv[1],'w'); f.write(str(os.getpid())); f.flush(); "
            "fcntl.flock(f, fcntl.LOCK_EX); print('held', flush=True); time.sleep(60)",
            str(folder / ".lock"),
        ],
        stdout=subprocess.PIPE,
    )
    try:
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(
            InputError, match=f"another run .process {holder.pid}. is working in results/simulated-demo"
        ):
            run_toys()
    finally:
        holder.kill()
        holder.wait()


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"settings": ("02.factr=3",)}, "02_second has no parameter 'factr'"),
        ({"settings": ("factr=3",)}, "no notebook has this parameter"),
        ({"settings": ("99.factor=3",)}, "there is no notebook '99'"),
        ({"settings": ("02.factor",)}, "write NN.parameter=value"),
        ({"settings": ("02.factor=[5",)}, "is no YAML value"),
        ({"settings": ("run=elsewhere",)}, "run is set by --cohort, --data and --profile"),
        ({"settings": ("02.factor=big",)}, "must be float, like the default 2.0, not 'big'"),
        ({"profile": "huge"}, "there is no profile 'huge'; choose one of demo"),
        ({"only": "77"}, "--only 77: no such stage; there are 01, 02, 03"),
        ({"cohort": "nowhere"}, "neither a known cohort"),
        ({"cohort": "duke", "data": "/nonexistent/duke"}, "no such folder; --data DIR names"),
    ],
)
def test_a_wrong_request_is_refused_before_anything_runs(toy_repository, options, complaint):
    with pytest.raises(InputError, match=complaint):
        make_plan(RunOptions(**options), TOY_STAGES)
    assert not (toy_repository / "results").exists()


def test_an_unknown_name_in_the_profile_is_an_error(toy_repository):
    (toy_repository / "notebooks/profiles/demo.yaml").write_text("02_second:\n  factr: 3\n")
    with pytest.raises(InputError, match=r"02_second has no parameter 'factr' \(profile"):
        make_plan(RunOptions(), TOY_STAGES)


def processes_of(root) -> list[int]:
    """Stages and kernels of the runs in a repository."""
    found = []
    for environment in Path("/proc").glob("[0-9]*/environ"):
        with suppress(OSError):  # of another user, or gone meanwhile
            if f"ALN_ROOT={root}\0".encode() in environment.read_bytes():
                found.append(int(environment.parent.name))
    return found


def test_a_killed_run_goes_on_where_it_was(toy_repository, monkeypatch):
    """Kill the runner while the second stage sleeps; the first stays, nothing half-written is visible, no process of it goes on
    by itself, and the next run does the rest."""
    waits = ["import time, pathlib, os", "pathlib.Path(os.environ['ALN_ROOT'], 'asleep').touch()", "time.sleep(120)"]
    write_toy_notebook(toy_repository, "02_second", TOY_CELLS["02_second"] + waits)
    program = (
        "from alnlib.pipeline.runner import *; from tests.toy import TOY_STAGES; "
        "Runner(make_plan(RunOptions(jobs=1), TOY_STAGES)).run()"
    )
    process = subprocess.Popen([sys.executable, "-c", program])
    deadline = time.monotonic() + 60
    while not (toy_repository / "asleep").exists():
        assert time.monotonic() < deadline, "the second stage never started"
        assert process.poll() is None
        time.sleep(0.1)
    assert processes_of(toy_repository), "the stage and its kernel"
    process.kill()
    process.wait()
    deadline = time.monotonic() + 5
    while left := processes_of(toy_repository):
        assert time.monotonic() < deadline, f"processes {left} go on without the run"
        time.sleep(0.1)
    folder = toy_repository / "results" / "simulated-demo"
    assert (folder / "a.csv").exists()
    assert not (folder / "b.csv").exists()
    without_kernels(monkeypatch)
    write_toy_notebook(toy_repository, "02_second", TOY_CELLS["02_second"])
    assert kinds(run_toys())[:2] == ["fresh", "done"]


def test_a_run_of_its_own_name_and_end_touches_no_other(toy_repository):
    plan = make_plan(RunOptions(run="try", end="02"), TOY_STAGES)
    assert plan.folder.name == "try" and plan.data.name == "try"
    assert [stage.number for stage in plan.chosen] == [stage.number for stage in TOY_STAGES if stage.number <= "02"]
    assert {values["run"] for values in plan.parameters.values() if "run" in values} <= {"try"}
    for name in ("../simulated-demo", "", "a b"):
        with pytest.raises(InputError, match="--run"):
            make_plan(RunOptions(run=name), TOY_STAGES)
    with pytest.raises(InputError, match="--to 77: no such stage"):
        make_plan(RunOptions(end="77"), TOY_STAGES)
