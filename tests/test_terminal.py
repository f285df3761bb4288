"""What a user sees and types: help without an installation, completion, 80 columns, time left, scratch runs, cleaning."""

from __future__ import annotations

import fcntl
import html
import io
import os
import re
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import typer
from rich.console import Console

from alnlib.errors import InputError
from alnlib.paths import repository_root
from alnlib.pipeline import usage
from alnlib.pipeline.clean import removable, remove
from alnlib.pipeline.cli import VERBS, app, main
from alnlib.pipeline.progress import Progress, clock, expected_seconds, seconds_left, stage_table
from alnlib.pipeline.runner import Runner, RunOptions, StageStatus, make_plan, refuse_reference
from alnlib.pipeline.stages import STAGES
from tests.toy import TOY_STAGES

ROOT = repository_root()
COMMANDS = typer.main.get_command(app).commands


def words(*command: str, **environment: str) -> str:
    """What a command prints, run with the system's own Python, which has none of our packages (-S -I)."""
    done = subprocess.run(command, capture_output=True, text=True, env={"PATH": os.environ["PATH"], **environment})
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("verb", VERBS)
def test_help_needs_no_installation_and_names_every_option_with_an_example(verb):
    """Truth: the options that Typer takes."""
    said = words(sys.executable, "-S", "run_all.py", verb, "--help", PYTHONPATH="", PYTHONNOUSERSITE="1")
    listed = {line.split()[0] for line in said.splitlines() if line.startswith("  --")}
    assert listed == {parameter.opts[0] for parameter in COMMANDS[verb].params if parameter.opts[0].startswith("--")}
    assert f"Example: python3 run_all.py {verb if verb != 'run' else '--run try'}" in said or verb == "completion"
    assert "Example: " in said and max(map(len, said.splitlines())) <= usage.WIDTH + 10


@pytest.mark.parametrize("verb", VERBS)
def test_help_marks_what_is_required_and_what_may_be_given_several_times(verb):
    """Truth: what Typer asks for, and what it makes a list of."""
    usage_line, _, told = usage.help_of(verb).partition("\n\n")
    rows = {row.split()[0]: " ".join(row.split()) for row in re.split(r"\n  (?=--|Example)", told)[1:]}
    assert ("..." in usage_line) == any(parameter.nargs == -1 for parameter in COMMANDS[verb].params)
    for parameter in COMMANDS[verb].params:
        if parameter.param_type_name == "argument":
            continue
        name = parameter.opts[0]
        assert (f" {name} " in usage_line) == ("(required)" in rows[name]) == parameter.required, name
        assert ("may be repeated" in rows[name]) == parameter.multiple, name


def test_every_verb_is_known_to_help_and_the_first_page_names_it():
    assert set(usage.verbs()) == set(COMMANDS) == set(VERBS)
    page = words(sys.executable, "-S", "run_all.py", "--help")
    assert [verb for verb in VERBS if verb not in page] == []
    assert words(sys.executable, "-S", "run_all.py", "--version").startswith("ALN compendium ")
    assert words(sys.executable, "-S", "run_all.py", "completion", "bash") == usage.completion("bash") + "\n"


def completed(line: str) -> list[str]:
    """What bash offers for the last word of a line."""
    typed = line.split(" ")
    script = f"""{usage.completion("bash")}
COMP_WORDS=({" ".join(f"'{word}'" for word in typed)}); COMP_CWORD={len(typed) - 1}
_run_all; printf '%s\\n' "${{COMPREPLY[@]}}" """
    return subprocess.run(["bash", "-c", script], capture_output=True, text=True, cwd=ROOT, check=True).stdout.split()


@pytest.mark.skipif(not shutil.which("bash"), reason="bash is not installed")
@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("./run_all.py ver", ["verify"]),
        ("./run_all.py evaluate --thr", ["--threshold"]),
        ("./run_all.py --prof", ["--profile"]),
        ("./run_all.py run --profile p", ["published"]),
        ("./run_all.py --only 2", [stage.number for stage in STAGES if stage.number.startswith("2")]),
        ("./run_all.py verify simulated-d", ["simulated-demo"]),
        ("./run_all.py report simulated-d", ["simulated-demo"]),
        ("./run_all.py clean --", ["--yes", "--whole"]),
        ("./run_all.py validate READ", ["README.md"]),
    ],
)
def test_bash_completes_verbs_options_stages_profiles_runs_and_files(line, offered):
    assert completed(line) == offered


def test_completion_is_for_three_shells():
    assert "bashcompinit" in usage.completion("zsh") and "complete -c run_all.py" in usage.completion("fish")
    assert main(["completion", "csh"]) == 2


# --- the table ---------------------------------------------------------------------------------------------------


@pytest.fixture
def runner(toy_repository) -> Runner:
    """Three stages: one through, one under way for 30 s, one that waits; two side by side."""
    runner = Runner(make_plan(RunOptions(jobs=2), TOY_STAGES))
    kinds = (("done", "never run here"), ("running", "inputs changed: a.csv"), ("waiting", "never run here"))
    for stage, (kind, detail) in zip(TOY_STAGES, kinds, strict=True):
        runner.statuses[stage.notebook] = StageStatus(stage, kind, detail, begun=time.monotonic() - 30)
    runner.statuses["01_first"].seconds = 114.2
    return runner


def drawn(shown: object, columns: int) -> list[str]:
    console = Console(width=columns, record=True, file=io.StringIO())
    console.print(shown)
    return [line.rstrip() for line in console.export_text().splitlines()]


@pytest.mark.parametrize("long", [False, True])
@pytest.mark.parametrize("columns", ["80", "160"])
def test_state_and_reason_are_whole_at_80_columns(columns, long, monkeypatch):
    """Of the compendium's longest names, in every state; of a table that is drawn again and again a long reason alone is cut."""
    monkeypatch.setenv("COLUMNS", columns)
    kinds = ("fresh", "stale", "waiting", "running", "done", "failed", "blocked", "skipped", "absent")
    why = "parameters changed: factor"
    named = [(replace(STAGES[n], notebook="29_feature_table_response"), kind) for n, kind in enumerate(kinds)]
    told = why + " and a long list of other reasons that no line of any terminal has room for, whatever one does" * long
    begun = time.monotonic() - 1234
    statuses = [StageStatus(stage, kind, told, 1234.0, begun=begun) for stage, kind in named]
    lines = drawn(stage_table(statuses, one_line=long), int(columns))
    assert len(lines) == 1 + len(kinds) and max(map(len, lines)) <= int(columns)
    for line, word in zip(lines[1:], (*kinds[:2], "waits", *kinds[3:-1], "does not apply"), strict=True):
        assert line.startswith("29_feature_table_response ") and f" {word} " in line and why in line
        assert line.endswith(" 1234") and ("…" in line.partition(why)[2]) == long
    assert (named[0][0].title[:20] in "".join(lines)) == (columns == "160")


def test_a_run_says_how_many_are_through_how_long_it_takes_and_what_is_left(runner):
    """50 s of the second are left of 80, and the third, which needs only the first, takes 200 beside it."""
    progress = Progress(runner)
    assert "left" not in progress.line(runner), "nothing is known of these stages"
    log = runner.plan.folder / "run_log.csv"
    log.parent.mkdir(parents=True)
    rows = ["02_second,failed,5", "02_second,done,80", "03_aside,done,200", "03_aside,done,cut", "x"]
    log.write_text("notebook,status,seconds\n" + "\n".join(rows) + "\n")
    progress = Progress(runner)
    assert progress.line(runner) == "1 of 3 stages, 0:00 elapsed, about 3:20 left"
    runner.jobs = 1
    assert progress.line(runner).endswith("about 4:10 left")
    runner.statuses["03_aside"].detail = ""  # it was fresh
    assert progress.line(runner).endswith("about 0:50 left")
    runner.statuses["02_second"].begun -= 170
    assert seconds_left(runner, progress.expected) == pytest.approx(20, abs=1), "a tenth of what it took beyond 80 s"
    assert clock(3725) == "1:02:05" and clock(59.6) == "1:00"


def test_before_a_first_run_the_benchmark_says_how_long(tmp_path, monkeypatch):
    monkeypatch.setenv("ALN_RESULTS", str(tmp_path))
    runner = Runner(make_plan(RunOptions()))
    runner.survey()
    expected = Progress(runner).expected
    assert len(expected) > 15 and 60 < seconds_left(runner, expected) < 3600


def test_a_stage_that_never_ran_in_a_folder_is_expected_to_take_as_long_as_the_benchmark(tmp_path):
    measured = expected_seconds(tmp_path, "demo")
    (tmp_path / "run_log.csv").write_text("notebook,status,seconds\n01_sources,done,7\n")
    assert measured["01_sources"] != 7 and expected_seconds(tmp_path, "demo") == measured | {"01_sources": 7}


@pytest.mark.parametrize("name", ["run.svg", "list.svg"])
def test_pictures_of_the_terminal_are_small_private_and_of_the_stages_that_there_are(name):
    """Made by `python tools/screenshots.py`; a new stage asks for new ones."""
    text = (ROOT / "docs" / name).read_text(encoding="utf-8")
    lines = re.findall(r"<text [^>]*clip-path[^>]*>(.*?)</text>", text)
    shown = html.unescape("\n".join(lines))
    listed = [stage.notebook for stage in STAGES if name == "list.svg" or stage.number <= "22"]
    assert re.findall(r"\b\d\d_\w+", shown) == listed
    assert len(text) < 60_000 and not re.search(r"@font-face|<image|<script|/home/|/root/|/tmp/", text)


def test_a_low_terminal_shows_what_runs_and_what_waits(runner, monkeypatch):
    monkeypatch.setenv("LINES", "6")
    monkeypatch.setenv("COLUMNS", "80")
    lines = drawn(Progress(runner).table(runner), 80)
    assert lines[0].startswith("results/simulated-demo: 1 of 3 stages")
    assert [line.split()[0] for line in lines[2:]] == ["02_second", "03_aside"]


# --- scratch runs and cleaning -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "typed"),
    [
        ({"settings": ("02.factor=5",), "only": "02"}, "--run try --set 02.factor=5 --only 02"),
        ({"seed": 7}, "--seed 7 --run try"),
        ({"settings": ("02.factor=5",), "run": "simulated-demo"}, "--run try --set 02.factor=5"),
    ],
)
def test_other_parameters_never_change_a_reference_run_and_what_to_type_is_said(toy_repository, options, typed):
    with pytest.raises(InputError) as refused:
        refuse_reference(make_plan(RunOptions(**options), TOY_STAGES))
    assert f"python3 run_all.py {typed}\n" in str(refused.value)
    assert "verify try simulated-demo" in str(refused.value)
    refuse_reference(make_plan(RunOptions(**options | {"run": "try"}), TOY_STAGES))
    refuse_reference(make_plan(RunOptions(), TOY_STAGES))


def test_the_command_line_refuses_before_anything_is_written(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("ALN_RESULTS", str(tmp_path))
    assert main(["--only", "22", "--set", "22.seed=3"]) == 2
    assert "--run try" in capsys.readouterr().err and not list(tmp_path.iterdir())
    assert main(["--only", "22", "--set", "22.seed=3", "--list"]) == 0, "to look is no harm"


@pytest.fixture
def runs(tmp_path, monkeypatch) -> Path:
    """A reference run and a scratch run, with caches and results."""
    monkeypatch.setenv("ALN_RESULTS", str(tmp_path / "results"))
    monkeypatch.setenv("ALN_DATA_ROOT", str(tmp_path))
    for run in ("simulated-demo", "try"):
        for name, size in (("checkpoints/a.pt", 2_000_000), ("crops/b.npy", 500_000), ("evaluation/c.csv", 1_000)):
            path = tmp_path / "results" / run / name
            path.parent.mkdir(parents=True)
            path.write_bytes(bytes(size))
        (tmp_path / "data" / run).mkdir(parents=True)
        (tmp_path / "data" / run / "simulation.json").write_text("{}")
        (tmp_path / "data" / f".{run}.made").touch()
    return tmp_path


def test_clean_lists_sizes_and_removes_caches_when_told_to(runs, capsys, monkeypatch):
    assert main(["clean", "try"]) == 0
    said = capsys.readouterr().out
    assert "2.0 MB  results/try/checkpoints" in said and "2.5 MB  together" in said and "--yes" in said
    assert (runs / "results/try/checkpoints").exists(), "nobody was asked, so nothing goes"
    assert main(["clean", "--yes"]) == 0
    made = [".simulated-demo.made", ".try.made"]
    left = sorted(path.name for path in runs.rglob("*") if path.is_file())
    assert left == [".lock", ".lock", *made, "c.csv", "c.csv", "simulation.json", "simulation.json"]
    assert main(["clean", "--yes"]) == 0 and "Nothing may go" in capsys.readouterr().out


def test_a_scratch_run_may_go_as_a_whole_and_a_reference_run_may_not(runs):
    for run, words in (
        ("simulated-demo", "is a reference run"),
        (None, "name the run"),
        ("nowhere", "there are .*try"),
    ):
        with pytest.raises(InputError, match=words):
            removable(run, whole=True)
    with pytest.raises(InputError, match="no such run"):
        removable("../data")
    remove(removable("try", whole=True))
    assert sorted(path.name for path in runs.glob("*/*")) == [
        ".simulated-demo.made",
        "simulated-demo",
        "simulated-demo",
    ]
    assert (runs / "results/simulated-demo/checkpoints/a.pt").exists()


def test_a_run_under_way_is_not_cleaned(runs):
    with open(runs / "results/try/.lock", "w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(InputError, match="is working in results/try"):
            remove(removable("try"))
