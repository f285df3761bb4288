"""The notebooks: how they are written, and that the committed executed ones come out the same when they are run again.

The run happens in a results and a data folder of its own and is compared with the working tree's, so that both are of this
machine once run_all.py has run here. Tables that no network had a hand in must be equal to the last byte or but for rounding;
what a network trained may differ on another processor, and with it what a selection makes of it.
"""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from alnlib.paths import repository_root
from alnlib.pipeline.execute import DIED_AT_START, STARTS, kernel_environment
from alnlib.pipeline.offer import read_offer
from alnlib.pipeline.parameters import cell_source, declared_parameters, read_notebook
from alnlib.pipeline.stages import STAGES, Stage, makers_of
from alnlib.pipeline.verify import class_of, compare_file

ROOT = repository_root()
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
WRITTEN = NOTEBOOKS + sorted((ROOT / "notebooks" / "lessons").glob("*.ipynb"))
"""Lessons are written by the same rules; what they say and that they run is in tests/test_lessons.py."""
COMMITTED = ROOT / "results" / "simulated-demo"
NETWORK_AUC_TOLERANCE = 0.1
"""How far an AUC on about 90 patients may move when a network trained on another processor rounds otherwise."""

LONGEST_CELL, MEDIAN_CELL = 15, 8


def test_there_is_a_notebook_for_every_stage_and_no_other():
    assert [path.stem for path in NOTEBOOKS] == sorted({stage.source_notebook for stage in STAGES})


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_opens_with_its_contract_and_closes_with_what_it_shows(path):
    cells = read_notebook(path)["cells"]
    contract = cell_source(cells[0])
    numbers = " and ".join(stage.number for stage in STAGES if stage.source_notebook == path.stem)
    assert contract.startswith(f"# {numbers} · ")
    for part in ("**Question.**", "*Reads*", "*Writes*", "*Claim tested*"):
        assert part in contract
    closing = cell_source(cells[-1])
    assert "**What this shows.**" in closing
    assert "**What it does not show" in closing


@pytest.mark.parametrize("path", WRITTEN, ids=lambda path: path.stem)
def test_a_notebook_reads_like_a_methods_paragraph(path):
    code = [cell for cell in read_notebook(path)["cells"] if cell["cell_type"] == "code"]
    assert all(not cell["outputs"] and cell["execution_count"] is None for cell in code), "committed without outputs"
    parameters = next(place for place, c in enumerate(code) if "parameters" in c["metadata"].get("tags", []))
    assert all("import" in cell_source(cell) for cell in code[:parameters]), "imports stand before the parameters"
    for cell in code[parameters:]:
        tree = ast.parse(cell_source(cell))
        assert not any(isinstance(node, ast.Import | ast.ImportFrom) for node in ast.walk(tree)), "imports come first"
    for cell in code:
        tree = ast.parse(cell_source(cell))
        assert not any(isinstance(node, ast.FunctionDef | ast.ClassDef) for node in ast.walk(tree)), "no functions here"


@pytest.mark.parametrize("path", WRITTEN, ids=lambda path: path.stem)
def test_cells_are_short_and_prose_goes_before_them(path):
    """Half of the cells have at most 8 lines, none more than 15; parameters stand one a line, however many they are."""
    cells = read_notebook(path)["cells"]
    steps = [c for c in cells if c["cell_type"] == "code" and "parameters" not in c["metadata"].get("tags", [])]
    lines = [len(cell_source(cell).splitlines()) for cell in steps]
    assert max(lines) <= LONGEST_CELL, cell_source(steps[lines.index(max(lines))])
    assert statistics.median(lines) <= MEDIAN_CELL
    prose = sum(cell["cell_type"] == "markdown" for cell in cells)
    assert prose >= len(steps) / 4, "prose goes before code"


@pytest.mark.parametrize("path", WRITTEN, ids=lambda path: path.stem)
def test_parameters_are_literals_each_with_a_comment(path):
    notebook = read_notebook(path)
    declared = declared_parameters(notebook, path.stem)
    tagged = next(c for c in notebook["cells"] if "parameters" in c["metadata"].get("tags", []))
    lines = cell_source(tagged).splitlines()
    assert len(lines) == len(declared), "one parameter a line"
    assert all(re.search(r"  # \w", line) for line in lines)
    assert path not in NOTEBOOKS or declared["run"] == "simulated-demo"


def simulated_stages() -> list[Stage]:
    """Those that apply to simulated patients, who have no feature table."""
    offer = read_offer(COMMITTED / "cohort")
    return [stage for stage in STAGES if stage.lacks(offer) is None]


def by_makers() -> dict[str, list[str]]:
    """{notebook: those that make what it needs}, the one with the longest chain of notebooks behind it first."""
    stages = simulated_stages()
    applies = {stage.notebook for stage in stages}
    makers = {stage.notebook: [m.notebook for m in makers_of(stage) if m.notebook in applies] for stage in stages}
    seconds = pd.read_csv(ROOT / "benchmarks" / "stage_times.csv").set_index("stage")["seconds"]
    chain: dict[str, float] = {}
    for name in reversed(makers):
        behind = [chain[other] for other in chain if name in makers[other]]
        chain[name] = seconds.get(name, 0) + max(behind, default=0)
    return {name: makers[name] for name in sorted(makers, key=lambda name: -chain[name])}


@pytest.fixture(scope="module")
def rerun(tmp_path_factory) -> tuple[Path, dict[str, str]]:
    """Run nbval on copies of the committed executed notebooks in a fresh folder, two at a time as the pipeline does.

    Each starts once its makers are done. The folder, and by notebook what pytest said.
    """
    folder = tmp_path_factory.mktemp("rerun")
    notebooks = folder / "results" / "simulated-demo" / "notebooks"
    shutil.copytree(COMMITTED / "notebooks", notebooks)
    environment = kernel_environment() | {"ALN_RESULTS": str(folder / "results"), "ALN_DATA_ROOT": str(folder)}
    environment.pop("ALN_STAGING", None)
    # jsonschema's grammar of a format that no notebook has would take as long to compile as all else at the start
    program = "import sys; sys.modules['rfc3987_syntax'] = None; import pytest; sys.exit(pytest.main())"
    command = [sys.executable, "-c", program, "--nbval-lax", "--nbval-current-env", "--nbval-cell-timeout=1800"]
    command += ["-q", "-p", "no:cacheprovider", "--rootdir", str(folder), "-c", os.devnull]

    def check(name: str) -> tuple[str, str]:
        path = str(notebooks / f"{name}.ipynb")
        for _ in range(STARTS):
            done = subprocess.run([*command, path], cwd=folder, env=environment, capture_output=True, text=True)
            if DIED_AT_START not in done.stdout:
                break
        return name, done.stdout + done.stderr

    said: dict[str, str] = {}
    waiting, running = by_makers(), set()
    with ThreadPoolExecutor(max_workers=2) as side_by_side:
        while waiting or running:
            ready = [name for name, makers in waiting.items() if said.keys() >= set(makers)]
            for name in ready[: 2 - len(running)]:
                running.add(side_by_side.submit(check, name))
                del waiting[name]
            done, running = wait(running, return_when=FIRST_COMPLETED)
            said |= dict(future.result() for future in done)
    return folder / "results" / "simulated-demo", said


def test_tagged_cells_are_regenerated(rerun):
    """`pytest --nbval-lax` on the committed executed notebooks; every tagged cell is compared."""
    _, said = rerun
    assert sorted(said) == [stage.notebook for stage in simulated_stages()], "every stage"
    for stage in simulated_stages():
        words = said[stage.notebook]
        passed = re.search(r"(\d+) passed", words)
        assert passed, words[-6000:]
        assert "failed" not in words.splitlines()[-1], words[-6000:]
        code = [
            c
            for c in read_notebook(COMMITTED / "notebooks" / f"{stage.notebook}.ipynb")["cells"]
            if c["cell_type"] == "code"
        ]
        assert int(passed[1]) >= len(code)
        assert any("nbval-check-output" in c["metadata"].get("tags", []) for c in code), stage.notebook


def test_nbval_would_notice_a_changed_number(rerun, tmp_path):
    """Plant another number in a tagged output of a committed notebook: nbval must fail."""
    results, _ = rerun
    notebook = json.loads((COMMITTED / "notebooks" / "42_calibration.ipynb").read_text())
    tagged = next(c for c in notebook["cells"] if "nbval-check-output" in c["metadata"].get("tags", []))
    tagged["outputs"][0]["text"] = ["another output\n"]
    planted = tmp_path / "42_calibration.ipynb"
    planted.write_text(json.dumps(notebook))
    environment = kernel_environment() | {"ALN_RESULTS": str(results.parent)}
    command = [sys.executable, "-m", "pytest", "--nbval-lax", "--nbval-current-env", "-q", "-p", "no:cacheprovider"]
    command += ["--rootdir", str(tmp_path), "-c", os.devnull, str(planted)]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 1
    assert "1 failed" in done.stdout


NO_NETWORK = sorted(path.relative_to(COMMITTED).as_posix() for path in COMMITTED.glob("*/*"))
NO_NETWORK = [name for name in NO_NETWORK if class_of(name) in ("exact", "close")]


@pytest.mark.parametrize("name", NO_NETWORK)
def test_what_no_network_touched_is_the_same(name, rerun):
    """To the last byte, or but for rounding, as tolerances.yaml says of the file."""
    results, _ = rerun
    compared = compare_file(name, (COMMITTED / name).read_bytes(), (results / name).read_bytes())
    assert compared.state != "changed", str(compared)


def test_what_a_network_trained_is_the_same_within_its_tolerance(rerun):
    results, _ = rerun
    committed, again = (
        pd.read_csv(folder / "evaluation/discrimination.csv").set_index(["model", "split"])
        for folder in (COMMITTED, results)
    )
    assert list(again.index) == list(committed.index)
    assert again[["n", "n_positive"]].equals(committed[["n", "n_positive"]])
    clinical = committed.index.get_level_values("model").str.startswith("clinical")
    np.testing.assert_allclose(again.loc[clinical, "auc"], committed.loc[clinical, "auc"], atol=1e-6)
    moved = (again.loc[~clinical, "auc"] - committed.loc[~clinical, "auc"]).abs()
    tested = moved[moved.index.get_level_values("split").isin(["test", "external"])]
    assert tested.max() <= NETWORK_AUC_TOLERANCE, tested
