"""Runs that are killed, hang, find the disk full or unwritable, the memory too small, or their own files broken.

Most stages here are functions of a few lines in place of notebooks, so that a run takes a tenth of a second.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pandas as pd
import pytest

from alnlib.files import write_csv, write_json, write_text
from alnlib.memo import NOTES
from alnlib.pipeline import cli, runner
from alnlib.pipeline.execute import Outcome, StageRun
from alnlib.pipeline.runner import Runner, RunOptions, make_plan
from alnlib.pipeline.stages import STALE, Stage
from tests.test_pipeline_runner import processes_of
from tests.toy import TOY_CELLS, TOY_STAGES, kinds, without_kernels, write_toy_notebook

STAGES = (*TOY_STAGES[:2], Stage("03_aside", "reads both", needs=("a.csv", "b.csv"), makes=("c.csv",)))
WRITE_REPORT = cli._report
DIARY = ("run_log.csv", "provenance.json", ".lock", "files.json")


def plain_stage(spec: StageRun, started: list | None = None, hours: float = 1.0) -> Outcome:
    """A stage in this process: what the toy notebooks do, and an executed notebook."""
    staging, given = Path(spec.staging), spec.parameters
    folder = Path(spec.results) / given["run"]
    if spec.notebook == "01_first":
        write_text("title: Toy\nprovenance: simulated\n", staging / "cohort/cohort.yaml")
        write_csv(pd.DataFrame({"x": [given["seed"], given["seed"] + 1]}), staging / "a.csv")
    elif spec.notebook == "02_second":
        table = pd.read_csv(folder / "a.csv")
        write_csv(table * given["factor"], staging / "b.csv")
        write_json({"toy_sum": {"value": int(table["x"].sum())}}, staging / "numbers/02_second.json")
    else:
        write_csv(pd.read_csv(folder / "a.csv") + pd.read_csv(folder / "b.csv"), staging / "c.csv")
    write_json({"cells": [spec.notebook, given["seed"]]}, staging / f"notebooks/{spec.notebook}.ipynb")
    return Outcome(0.01)


@pytest.fixture
def quick(toy_repository, monkeypatch) -> Path:
    """The run folder of a repository whose stages are `plain_stage`; the command line knows of these three alone."""
    monkeypatch.setattr(runner, "run_in_process", plain_stage)
    monkeypatch.setattr(runner.provenance, "commit_of", lambda root: "a commit")
    monkeypatch.setattr(cli, "make_plan", partial(make_plan, stages=STAGES))
    monkeypatch.setattr(cli, "_report", lambda *run, **how: None)  # its pages have tests of their own
    return toy_repository / "results" / "try"


def run_now(**options) -> Runner:
    made = Runner(make_plan(RunOptions(run="try", **options), STAGES))
    made.good = made.run()
    return made


def contents(folder: Path) -> dict[str, str]:
    """{file: digest} of all that a run makes, less what tells the time; what stages depended on is among them."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.name not in DIARY)
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def in_child(work: Callable[[], object]) -> int:
    """Do something in a copy of this process and give its exit status; negative: the signal that ended it."""
    pid = os.fork()
    if not pid:
        status = 3
        try:
            work()
            status = 0
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


class Counted:
    """Every change of a file or folder that a process makes, counted; at `deadly` it is killed, before or after it."""

    def __init__(self, deadly: int | None = None, after: bool = False) -> None:
        self.deadly, self.after, self.count = deadly, after, 0
        for name in ("replace", "unlink", "mkdir", "rmdir"):
            setattr(os, name, self._counting(getattr(os, name)))

    def _counting(self, change: Callable) -> Callable:
        def counted(*arguments, **named):
            self.count += 1
            if self.count == self.deadly and not self.after:
                os.kill(os.getpid(), signal.SIGKILL)
            result = change(*arguments, **named)
            if self.count == self.deadly:
                os.kill(os.getpid(), signal.SIGKILL)
            return result

        return counted


def test_killed_at_any_change_of_a_file_a_rerun_gives_the_same_bytes(quick, tmp_path):
    """A run with another seed over finished results is killed before or after each of its changes to the disk in turn.

    What is seen then is whole, old or new, and STALE.txt tells wherever both are there; the next run gives what a run gives
    that nobody killed. Truth: such a run.
    """
    run_now()
    before, old = Path(shutil.copytree(quick, tmp_path / "before")), contents(quick)
    total = tmp_path / "total"

    def count() -> None:
        counted = Counted()
        run_now(seed=5)
        total.write_text(str(counted.count))

    assert in_child(count) == 0
    new = contents(quick)
    changes = int(total.read_text())
    deaths = [(number, after) for number in range(1, changes + 1) for after in (False, True)][:: max(1, changes // 20)]
    assert len(deaths) >= 30
    made = {name for name in new if not name.startswith((".state", "report/"))}
    for number, after in deaths:
        shutil.rmtree(quick)
        shutil.copytree(before, quick)

        def killed(number: int = number, after: bool = after) -> None:
            Counted(number, after)
            run_now(seed=5)

        assert in_child(killed) == -signal.SIGKILL
        seen = {
            name: digest for name, digest in contents(quick).items() if ".staging" not in name and ".part" not in name
        }
        assert {name for name in made & seen.keys() if seen[name] not in (old[name], new[name])} == set()
        of = {name: {"old": old[name], "new": new[name]} for name in made if old[name] != new[name]}
        if len({which for name, both in of.items() for which in both if seen.get(name) == both[which]}) > 1:
            assert (quick / STALE).exists(), f"killed at {number}: old beside new without a word"
        assert run_now(seed=5).good
        assert contents(quick) == new, f"killed at {number}"


def test_a_stage_run_alone_with_other_parameters_says_what_is_now_stale(quick, capsys):
    """`--only 02 --set` leaves 03 as it was: STALE.txt and the terminal say so, until all are made anew."""
    assert cli.main(["--run", "try"]) == 0 and not (quick / STALE).exists()
    capsys.readouterr()
    changed = ["--run", "try", "--set", "02.factor=7"]
    assert cli.main([*changed, "--only", "02"]) == 0
    assert pd.read_csv(quick / "b.csv")["x"].tolist() == [7, 14]
    said = (quick / STALE).read_text()
    assert "03_aside" in said and "inputs changed: b.csv" in said and "01_first" not in said
    assert "python3 run_all.py --run try --set 02.factor=7" in said
    assert STALE in capsys.readouterr().err
    assert cli.main(changed) == 0 and not (quick / STALE).exists()
    assert pd.read_csv(quick / "c.csv")["x"].tolist() == [8, 16]


@pytest.mark.parametrize("damage", ["flipped", "truncated"])
def test_an_input_that_was_damaged_is_named_and_never_used(quick, damage):
    """By a stage that is run alone; a whole run makes it anew."""
    run_now()
    before = contents(quick)
    content = (quick / "a.csv").read_bytes()
    (quick / "a.csv").write_bytes(content[:-2] if damage == "truncated" else content.replace(b"1", b"3"))
    alone = run_now(only="02", force=True)
    assert not alone.good
    assert alone.statuses["02_second"].detail == "results/try/a.csv is not as stage 01 wrote it; run --from 01 instead"
    assert contents(quick)["b.csv"] == before["b.csv"]
    assert run_now().good and contents(quick) == before


def test_a_note_of_a_stage_is_shown_when_the_run_ends(quick, monkeypatch, capsys):
    """Once, however often its processes said it."""

    def noting(spec: StageRun, **how) -> Outcome:
        made = plain_stage(spec)
        if spec.notebook == "02_second":
            (Path(spec.staging) / NOTES).write_text("crops/a.npy is damaged\n" * 3)
        return made

    monkeypatch.setattr(runner, "run_in_process", noting)
    assert cli.main(["--run", "try"]) == 0
    assert capsys.readouterr().err.count("note: 02_second: crops/a.npy is damaged") == 1
    assert not list(quick.rglob(NOTES))


# --- bookkeeping -------------------------------------------------------------------------------------------------

BROKEN = {
    "empty": b"",
    "no text": b"\xff\xfe\x00",
    "no JSON": b"components: [",
    "a list": b'["components", "outputs"]',
    "wrong kinds": b'{"components": 3, "outputs": [], "endpoints": 4}',
}


@pytest.mark.parametrize("content", BROKEN)
@pytest.mark.parametrize(
    "file",
    [".state/files.json", ".state/01_first.json", ".state/02_second.json", "cohort/cohort.yaml", "run_log.csv", STALE]
    + ["provenance.json", ".lock", "report/numbers.json", "report/arithmetic.json"],
)
def test_broken_bookkeeping_costs_a_stage_and_no_result(quick, file, content):
    run_now()
    before = contents(quick)
    (quick / file).write_bytes(BROKEN[content])
    assert cli.main(["--run", "try", "--list"]) == 0
    assert cli.main(["--run", "try"]) == 0
    assert contents(quick) == before


@pytest.mark.parametrize("file", [".lock", ".state/02_second.json", "b.csv", "run_log.csv"])
def test_a_folder_in_the_place_of_a_file_is_named(quick, file, capsys):
    run_now()
    (quick / file).unlink()
    (quick / file).mkdir()
    (quick / file / "x").touch()
    assert cli.main(["--run", "try", "--force"]) != 0
    assert file.rpartition("/")[2] in (said := capsys.readouterr().err) and "Traceback" not in said


def test_a_clock_set_back_makes_no_file_old(quick, monkeypatch):
    """Everything is of ten years from now; a change that is older than the run is noticed, what did not change stands."""
    run_now()
    for path in (*quick.rglob("*"), *(quick.parents[1] / "data").rglob("*")):
        os.utime(path, (time.time() + 3e8,) * 2)
    assert kinds(run_now()) == ["fresh"] * 3
    now = time.time
    monkeypatch.setattr(time, "time", lambda: now() - 3e8)
    (quick / "b.csv").write_text("x\n1\n2\n")
    os.utime(quick / "b.csv", (1e9, 1e9))
    changed = run_now()
    assert kinds(changed) == ["fresh", "done", "fresh"]
    assert changed.statuses["02_second"].detail == "output edited: b.csv"


def test_a_report_that_cannot_be_written_hides_no_failure(quick, monkeypatch, capsys):
    """The executed notebooks of `plain_stage` are none, and a stage failed."""
    monkeypatch.setattr(cli, "_report", WRITE_REPORT)

    def failing(spec: StageRun, **how) -> Outcome:
        error = {"name": "ValueError", "message": "no such crop", "cell": 3}
        return Outcome(0.01, error) if spec.notebook == "03_aside" else plain_stage(spec)

    monkeypatch.setattr(runner, "run_in_process", failing)
    assert cli.main(["--run", "try"]) == 1
    said = capsys.readouterr()
    assert "03_aside failed. ValueError, cell 3: no such crop" in said.err
    assert "report: not written, as a file of the run cannot be read" in said.out


# --- what a stage reads of a cohort --------------------------------------------------------------------------------


@pytest.fixture
def own(quick) -> Path:
    """A cohort folder with an image in a hidden folder and one behind a link, run once."""
    folder = quick.parents[1] / "ward"
    shutil.copytree(quick.parents[1] / "data/simulated-demo", folder)
    elsewhere = quick.parents[1] / "elsewhere"
    elsewhere.mkdir()
    (folder / "linked").symlink_to(elsewhere)
    for name in (".hidden/1.png", "linked/2.png"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"pixels")
    (folder / "images.csv").write_text("path,mask_path\n.hidden/1.png,\nlinked/2.png,\n")
    (folder / "patients.csv").write_text("patient_id,aln\n1,0\n2,1\n")
    assert run_now(data=str(folder)).good
    return folder


@pytest.mark.parametrize("file", [".hidden/1.png", "linked/2.png", "patients.csv"])
def test_a_change_of_labels_or_of_a_hidden_or_linked_image_is_noticed(own, file, monkeypatch):
    """Of the same size, with times and inode as they were, as a clock that was set back or a tool makes it."""
    status = (own / file).stat()
    content = (own / file).read_bytes()
    (own / file).write_bytes(content.replace(b"2,1", b"2,0").replace(b"pix", b"tix"))
    os.utime(own / file, ns=(status.st_atime_ns, status.st_mtime_ns))
    if file == "patients.csv":  # not even the time at which the system noted the change
        monkeypatch.setattr("alnlib.memo._stamp", lambda status: [status.st_size, status.st_mtime_ns, status.st_ino])
    assert run_now(data=str(own)).statuses["01_first"].detail == "data changed"


def test_a_file_of_the_cohort_that_cannot_be_read_is_named(own, capsys, monkeypatch):
    """EIO of a bad sector, which no permission brings about."""

    def bad(path):
        raise OSError(errno.EIO, "Input/output error", str(path))

    monkeypatch.setattr("alnlib.memo.sha256_file", bad)
    (own / "linked/2.png").write_bytes(b"others")
    assert cli.main(["--run", "try", "--data", str(own)]) == 2
    assert "cannot be read (Input/output error)" in capsys.readouterr().err


# --- the machine ---------------------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(toy_repository, monkeypatch) -> Iterator[Path]:
    """A results folder on a disk of 1 MB."""
    folder = toy_repository / "results"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)], capture_output=True)
    if mounted.returncode:
        pytest.skip("no file system can be mounted here, which takes root")
    monkeypatch.setattr(cli, "make_plan", partial(make_plan, stages=TOY_STAGES[:2]))
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_disk_that_a_stage_fills_is_said_and_with_room_the_run_goes_on(small_disk, toy_repository, capsys):
    large = "from pathlib import Path\nimport os"
    large += "\nPath(os.environ['ALN_STAGING'], 'large.bin').write_bytes(bytes(3_000_000))"
    write_toy_notebook(toy_repository, "02_second", [*TOY_CELLS["02_second"], large])
    assert cli.main(["--run", "try"]) == 1
    said = capsys.readouterr()
    assert "the disk is full: free space" in said.err and "Traceback" not in said.err + said.out
    assert (small_disk / "try/a.csv").exists() and not (small_disk / "try/b.csv").exists()
    subprocess.run(["mount", "-o", "remount,size=20m", str(small_disk)], check=True)
    assert cli.main(["--run", "try"]) == 0
    assert pd.read_csv(small_disk / "try/b.csv")["x"].tolist() == [3, 6]


def test_a_disk_that_is_full_before_the_run_is_said(small_disk, capsys):
    with pytest.raises(OSError, match="No space"), open(small_disk / "full", "wb") as stream:
        for _ in range(2_000):
            stream.write(bytes(1_000))
            stream.flush()
    assert cli.main(["--run", "try"]) == 2
    said = capsys.readouterr().err
    assert "the disk is full: free space" in said and "Traceback" not in said


def test_a_limit_on_the_size_of_files_is_said(toy_repository, monkeypatch, capsys):
    """As a quota does: RLIMIT_FSIZE, set by the stage itself."""
    limited = "import resource\nresource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))"
    limited += "\nresults.output('large.bin').write_bytes(bytes(200_000))"
    write_toy_notebook(toy_repository, "01_first", [*TOY_CELLS["01_first"], limited])
    (toy_repository / "notebooks/profiles/demo.yaml").write_text("")
    monkeypatch.setattr(cli, "make_plan", partial(make_plan, stages=TOY_STAGES[:1]))
    assert cli.main(["--run", "try"]) == 1
    assert "File too large; the disk is full" in capsys.readouterr().err


@pytest.fixture
def unwritable(request, toy_repository) -> Path:
    """A results folder in which nothing can be written, with an empty run: by permissions, for root by its file system."""
    if os.geteuid():
        folder = toy_repository / "results"
        (folder / "try").mkdir(parents=True)
        for each in (folder / "try", folder):
            each.chmod(0o555)
        request.addfinalizer(lambda: [each.chmod(0o755) for each in (folder, folder / "try")])
        return folder
    folder = request.getfixturevalue("small_disk")
    (folder / "try").mkdir()
    subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True)
    return folder


def test_results_that_cannot_be_written_are_said(unwritable, capsys):
    for run in ("try", "other"):
        assert cli.main(["--run", run]) == 2
        said = capsys.readouterr().err
        assert "ermissions" in said and run in said and "Traceback" not in said


def test_a_notebook_that_hangs_is_ended_with_all_that_it_started(toy_repository, monkeypatch, capsys):
    """It ignores every polite signal and started another process; the results of before stand."""
    monkeypatch.setattr(cli, "make_plan", partial(make_plan, stages=TOY_STAGES[:2]))
    with monkeypatch.context() as earlier:
        without_kernels(earlier)
        assert cli.main(["--run", "try"]) == 0
    hangs = "import signal, subprocess, sys, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)"
    hangs += "\nsubprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\ntime.sleep(600)"
    write_toy_notebook(toy_repository, "02_second", [*TOY_CELLS["02_second"], hangs])
    assert cli.main(["--run", "try", "--only", "02", "--time-limit", "0.003"]) == 1
    said = capsys.readouterr().err
    assert "02_second failed. TimeLimit" in said and "give more with --time-limit HOURS" in said
    assert processes_of(toy_repository) == []
    assert pd.read_csv(toy_repository / "results/try/b.csv")["x"].tolist() == [3, 6]
    assert cli.main(["--time-limit", "0"]) == 2


@pytest.mark.parametrize(
    "cell",
    ["import os, signal\nos.kill(os.getpid(), signal.SIGKILL)", "x = bytearray(10**16)"],
    ids=["killed by the system", "refused by the system"],
)
def test_a_stage_without_enough_memory_is_said_to_be_one(toy_repository, monkeypatch, cell, capsys):
    write_toy_notebook(toy_repository, "01_first", [*TOY_CELLS["01_first"], cell])
    (toy_repository / "notebooks/profiles/demo.yaml").write_text("")
    monkeypatch.setattr(cli, "make_plan", partial(make_plan, stages=TOY_STAGES[:1]))
    assert cli.main(["--run", "try"]) == 1
    said = capsys.readouterr().err
    assert "memory ran out, most likely: close other programs, run with --jobs 1" in said


def test_too_little_memory_to_start_a_stage_is_said(quick, monkeypatch, capsys):
    """What fork gives where the system grants no memory."""

    def starved(spec: StageRun, **how) -> Outcome:
        raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))

    monkeypatch.setattr(runner, "run_in_process", starved)
    assert cli.main(["--run", "try"]) == 2
    said = capsys.readouterr().err
    assert "memory ran out" in said and "What had ended well is kept" in said


def test_an_interrupt_keeps_what_ended_well(quick, monkeypatch, capsys):
    def stage(spec: StageRun, **how) -> Outcome:
        if spec.notebook == "02_second":
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(1)
        return plain_stage(spec)

    monkeypatch.setattr(runner, "run_in_process", stage)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
    try:
        assert cli.main(["--run", "try"]) == 130
    finally:
        signal.signal(signal.SIGINT, before)
    assert "What had ended well is kept" in capsys.readouterr().err
    assert json.loads((quick / ".state/01_first.json").read_text())["outputs"]
    monkeypatch.setattr(runner, "run_in_process", plain_stage)
    assert kinds(run_now()) == ["fresh", "done", "done"]
