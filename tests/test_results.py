"""What is committed under results/ and shown in README.md: whole, labelled, small, and free of what changes by itself."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import pandas as pd
import pytest

from alnlib.paths import repository_root
from alnlib.pipeline.results import LABELLED
from alnlib.pipeline.stages import STAGES
from alnlib.report.readme import filled_readme, readme_blocks

ROOT = repository_root()
COMMITTED = ROOT / "results" / "simulated-demo"
LIMIT_MB = 8


def committed_files() -> list:
    listed = subprocess.run(["git", "ls-files", "results"], cwd=ROOT, capture_output=True, text=True, check=True)
    return [ROOT / name for name in listed.stdout.splitlines()]


def test_every_stage_left_what_the_table_says():
    for stage in STAGES:
        for made in (*stage.makes, f"notebooks/{stage.notebook}.ipynb"):
            assert (COMMITTED / made).is_file(), f"{stage.notebook}: {made}"


def test_the_committed_results_are_small_and_hold_no_diary():
    files = committed_files()
    assert files
    assert sum(path.stat().st_size for path in files) < LIMIT_MB * 1e6
    assert not {"run_log.csv", "provenance.json"} & {path.name for path in files}


def test_nothing_in_them_names_a_machine_a_time_or_an_address_in_memory():
    suspicious = re.compile(r"/home/|/root/|/tmp/|/work/|0x[0-9a-f]{8}|\b20\d\d-\d\d-\d\dT\d\d:\d\d")
    for path in committed_files():
        if path.suffix in (".csv", ".json", ".yaml", ".ipynb"):
            text = re.sub(r'"image/png": "[^"]*"', "", path.read_text(encoding="utf-8"))
            found = suspicious.search(text)
            assert found is None, f"{path.relative_to(ROOT)}: {found[0]}"


def test_every_table_and_number_says_simulated():
    tables = [path for path in COMMITTED.rglob("*.csv") if path.relative_to(COMMITTED).as_posix().startswith(LABELLED)]
    assert tables
    for path in tables:
        table = pd.read_csv(path)
        assert set(table["provenance"]) <= {"simulated"}, path
    numbers = json.loads((COMMITTED / "report/numbers.json").read_text())
    assert {number["provenance"] for number in numbers.values()} == {"simulated"}


def test_executed_notebooks_are_those_of_the_committed_sources():
    """A notebook that was changed after its last run would show here."""
    from alnlib.pipeline.parameters import cell_source, read_notebook

    for stage in STAGES:
        source = [cell_source(c) for c in read_notebook(ROOT / "notebooks" / f"{stage.notebook}.ipynb")["cells"]]
        executed = read_notebook(COMMITTED / "notebooks" / f"{stage.notebook}.ipynb")["cells"]
        kept = [cell_source(c) for c in executed if "injected-parameters" not in c["metadata"].get("tags", [])]
        assert kept == source, stage.notebook
        assert not any(o["output_type"] == "error" for c in executed for o in c.get("outputs", []))


def test_executed_notebooks_warn_of_nothing():
    for path in sorted((COMMITTED / "notebooks").glob("*.ipynb")):
        for cell in json.loads(path.read_text())["cells"]:
            for output in cell.get("outputs", []):
                assert output.get("name") != "stderr", f"{path.name}: {''.join(output['text'])[:500]}"


def test_readme_shows_the_numbers_that_the_runs_wrote():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert filled_readme(text, readme_blocks(ROOT)) == text, "run `python -m alnlib.report.readme`"


def test_readme_names_every_notebook_and_no_other():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert set(re.findall(r"notebooks/(\w+)\.ipynb", text)) == {stage.notebook for stage in STAGES}


def test_a_block_that_nobody_fills_is_an_error():
    with pytest.raises(ValueError, match="README asks for"):
        filled_readme("<!-- numbers: nothing -->\n<!-- end -->", {})


def test_style():
    """ruff, as pyproject.toml sets it, on code and notebooks."""
    for command in (["check"], ["format", "--check"]):
        done = subprocess.run([sys.executable, "-m", "ruff", *command, "."], cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout
