"""What is committed under results/: whole, labeled, small, and free of what changes by itself."""

from __future__ import annotations

import base64
import copy
import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import matplotlib

matplotlib.use("Agg")

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt
from PIL import Image

from alnlib.files import palette_png
from alnlib.paths import repository_root
from alnlib.pipeline.committed import committed_files as committed_files_of_head
from alnlib.pipeline.execute import clean_executed
from alnlib.pipeline.offer import read_offer
from alnlib.pipeline.results import UNLABELED, RunFolder
from alnlib.pipeline.stages import NOT_COMMITTED, STAGES

ROOT = repository_root()
COMMITTED = ROOT / "results" / "simulated-demo"
PUBLISHED = ROOT / "results" / "simulated-published"
LIMITS_MB = {"results/simulated-demo": 11, "results/simulated-published": 8}
"""Of the second run no rows of patients are committed, nor most pictures."""


def committed_files() -> list[Path]:
    """As they stand in the working tree."""
    listed = subprocess.run(["git", "ls-files", "results"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("no git checkout, so it is not known which files are committed")
    return [ROOT / name for name in listed.stdout.splitlines()]


def test_every_stage_left_what_the_table_says():
    """But those of feature tables, which simulated patients have not; tests/test_feature_table.py runs these."""
    offer = read_offer(COMMITTED / "cohort")
    left_out = [stage.notebook for stage in STAGES if stage.lacks(offer)]
    assert left_out == ["28_feature_table", "29_feature_table_response"]
    for stage in (stage for stage in STAGES if stage.notebook not in left_out):
        committed = [made for made in stage.makes if not made.startswith(NOT_COMMITTED)]
        for made in (*committed, f"notebooks/{stage.notebook}.ipynb"):
            assert (COMMITTED / made).is_file(), f"{stage.notebook}: {made}"


def test_the_committed_results_are_small_and_hold_no_diary():
    """As git has them: figures of a run on another machine may take a little more."""
    for folder, limit in LIMITS_MB.items():
        files = committed_files_of_head(ROOT, folder)
        if files is None:
            pytest.skip("no git checkout, so it is not known which files are committed")
        assert files and sum(map(len, files.values())) < limit * 1e6, folder
        assert not {"run_log.csv", "provenance.json"} & {Path(name).name for name in files}
    assert set(committed_files_of_head(ROOT, "results")) <= {
        name for folder in LIMITS_MB for name in committed_files_of_head(ROOT, folder)
    }


def test_nothing_in_them_names_a_machine_a_time_or_an_address_in_memory():
    suspicious = re.compile(r"/home/|/root/|/tmp/|/work/|0x[0-9a-f]{8}|\b20\d\d-\d\d-\d\dT\d\d:\d\d")
    for path in committed_files():
        if path.suffix in (".csv", ".json", ".yaml", ".ipynb"):
            text = re.sub(r'"image/png": "[^"]*"', "", path.read_text(encoding="utf-8"))
            found = suspicious.search(text)
            assert found is None, f"{path.relative_to(ROOT)}: {found[0]}"


def test_every_table_and_number_says_simulated_or_if_of_the_field_published():
    for run in (COMMITTED, PUBLISHED):
        tables = [path for path in run.glob("*/*.csv") if path.parent.name not in UNLABELED]
        assert tables
        for path in tables:
            table = pd.read_csv(path)
            assert set(table["provenance"]) <= {"published" if path.name.startswith("field_") else "simulated"}, path
        numbers = json.loads((run / "report/numbers.json").read_text())
        for key, number in numbers.items():
            assert number["provenance"] == ("published" if key.startswith("field_") else "simulated"), key


def test_executed_notebooks_are_those_of_the_committed_sources():
    """A notebook that was changed after its last run would show here."""
    from alnlib.pipeline.parameters import cell_source, read_notebook

    made = [(run / f"notebooks/{stage.notebook}.ipynb", stage) for run in (COMMITTED, PUBLISHED) for stage in STAGES]
    made = [(path, stage) for path, stage in made if path.exists()]
    assert len(made) > 1.5 * len(STAGES), "of the second run all but those that are pictures"
    for path, stage in made:
        source = [cell_source(c) for c in read_notebook(ROOT / "notebooks" / f"{stage.source_notebook}.ipynb")["cells"]]
        executed = read_notebook(path)["cells"]
        kept = [cell_source(c) for c in executed if "injected-parameters" not in c["metadata"].get("tags", [])]
        assert kept == source, stage.notebook
        assert not any(o["output_type"] == "error" for c in executed for o in c.get("outputs", []))


def test_executed_notebooks_warn_of_nothing():
    for path in sorted((COMMITTED / "notebooks").glob("*.ipynb")):
        for cell in json.loads(path.read_text())["cells"]:
            for output in cell.get("outputs", []):
                assert output.get("name") != "stderr", f"{path.name}: {''.join(output['text'])[:500]}"


def figures_in(notebook: dict) -> list[bytes]:
    outputs = [output for cell in notebook["cells"] for output in cell.get("outputs", [])]
    found = [output.get("data", {}).get("image/png") for output in outputs]
    return [base64.b64decode("".join(figure)) for figure in found if figure]


def test_committed_figures_have_a_palette_and_no_metadata():
    """Also those inside the executed notebooks: half the size, and no version or time in them."""
    files = {path.name: [path.read_bytes()] for path in (COMMITTED / "figures").glob("*.png")}
    executed = sorted((COMMITTED / "notebooks").glob("*.ipynb"))
    files |= {path.name: figures_in(json.loads(path.read_text(encoding="utf-8"))) for path in executed}
    assert sum(map(len, files.values())) > 10
    for name, contents in files.items():
        for content in contents:
            with Image.open(io.BytesIO(content)) as figure:
                assert figure.mode == "P" and not figure.info, f"{name}: {figure.mode}, {figure.info}"


@pytest.fixture
def figure():
    """Lines in the colors of a map: some hundred colors with their blends at the edges."""
    drawn, ax = plt.subplots(figsize=(3, 2))
    ax.imshow(np.random.default_rng(0).normal(size=(20, 30)), cmap="viridis", aspect="auto")
    ax.plot(np.arange(30), np.arange(30) / 2)
    yield drawn
    plt.close(drawn)


def png_of(figure) -> bytes:
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=80)
    return stream.getvalue()


def executed_with(*outputs: dict) -> dict:
    cell = {"cell_type": "code", "id": "r4nd0m", "source": "", "metadata": {}, "outputs": list(outputs)}
    return {"cells": [cell, {"cell_type": "markdown", "id": "x", "source": "", "metadata": {}}], "metadata": {}}


@pytest.mark.parametrize("in_pieces", [False, True])
def test_cleaning_gives_the_figures_of_a_notebook_a_palette_and_touches_nothing_else(in_pieces, figure):
    """nbformat allows a string in one piece and in lines."""
    content = png_of(figure)
    text = base64.encodebytes(content).decode("ascii")
    data = {"image/png": text.splitlines(keepends=True) if in_pieces else text, "text/plain": ["<Figure size 240x160>"]}
    shown = {"output_type": "display_data", "data": data, "metadata": {"needs_background": "light"}}
    said = {"output_type": "stream", "name": "stdout", "text": "n = 3\n"}
    table = {"output_type": "execute_result", "data": {"text/html": ["<table>"]}, "metadata": {}, "execution_count": 2}
    given = executed_with(said, shown, said, table)
    untouched = copy.deepcopy(shown)
    cleaned = clean_executed(given)
    first, second, third, fourth = cleaned["cells"][0]["outputs"]
    assert base64.b64decode(second["data"]["image/png"]) == palette_png(content)
    assert "\n" not in second["data"]["image/png"]
    assert second["data"]["text/plain"] == ["<Figure size 240x160>"]
    assert second["metadata"] == {"needs_background": "light"}
    assert (first["text"], third["text"]) == (["n = 3\n"], ["n = 3\n"]), "a figure stands between them"
    assert fourth == table
    assert shown == untouched, "the output that was given is left as it was"
    assert "outputs" not in cleaned["cells"][1]


def test_cleaning_again_changes_no_pixel(figure):
    data = {"image/png": base64.b64encode(png_of(figure)).decode("ascii")}
    once = clean_executed(executed_with({"output_type": "display_data", "data": data, "metadata": {}}))
    (before,) = figures_in(once)
    (after,) = figures_in(clean_executed(copy.deepcopy(once)))
    with Image.open(io.BytesIO(before)) as first, Image.open(io.BytesIO(after)) as second:
        np.testing.assert_array_equal(np.asarray(first.convert("RGB")), np.asarray(second.convert("RGB")))


def test_a_saved_figure_has_a_palette_says_whose_patients_and_comes_out_the_same_twice(figure, tmp_path, monkeypatch):
    monkeypatch.setenv("ALN_RESULTS", str(tmp_path))
    monkeypatch.delenv("ALN_STAGING", raising=False)
    results = RunFolder("a-run")
    results.about(SimpleNamespace(title="Patients", provenance="simulated"))
    results.save_figure(figure, "one.png")
    assert figure.texts[-1].get_text() == "Patients (simulated patients)"
    figure.texts[-1].remove()
    results.save_figure(figure, "two.png")
    one, two = ((tmp_path / "a-run" / "figures" / name).read_bytes() for name in ("one.png", "two.png"))
    assert one == two
    with Image.open(io.BytesIO(one)) as picture:
        assert picture.mode == "P" and len(picture.getcolors(256)) <= 256 and not picture.info


def test_style():
    """ruff, as pyproject.toml sets it, on code and notebooks."""
    for command in (["check"], ["format", "--check"]):
        done = subprocess.run([sys.executable, "-m", "ruff", *command, "."], cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout


def test_old_checkpoints_are_removed_beyond_the_limit(tmp_path, monkeypatch):
    monkeypatch.setenv("ALN_RESULTS", str(tmp_path))
    results = RunFolder("a-run")
    folder = results.checkpoints()
    folder.mkdir(parents=True)
    for age, name in enumerate(("newest", "middle", "oldest")):
        (folder / f"{name}.pt").write_bytes(b"0" * 1000)
        os.utime(folder / f"{name}.pt", (1e9 - age, 1e9 - age))
    assert results.checkpoints(limit_gb=2.5e-6) == folder
    assert sorted(path.name for path in folder.iterdir()) == ["middle.pt", "newest.pt"]
