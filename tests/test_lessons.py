"""The lessons: each asks, shows, sets two exercises, is answered beside it, and runs on the pack that comes with them.

Truth: the assertions of the lessons themselves, and for the pack the committed cohort of simulated patients. How their cells
are written is tested with the numbered notebooks in tests/test_notebooks.py.
"""

from __future__ import annotations

import os
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from unittest import mock

import nbformat
import numpy as np
import pandas as pd
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

from alneval.tables import read_predictions
from alnlib.paths import repository_root
from alnlib.pipeline.execute import kernel_environment
from alnlib.pipeline.parameters import cell_source, read_notebook

LESSONS = repository_root() / "notebooks" / "lessons"
PACK = LESSONS / "pack"
TAUGHT = sorted(path for path in LESSONS.glob("*.ipynb") if not path.stem.endswith("_answers"))
COHORT = repository_root() / "results" / "simulated-demo" / "cohort"
SECONDS_OF_A_CELL = 180


@pytest.mark.parametrize("path", TAUGHT, ids=lambda path: path.stem)
def test_a_lesson_asks_sets_two_exercises_and_says_what_it_does_not_show(path):
    texts = [cell_source(cell) for cell in read_notebook(path)["cells"] if cell["cell_type"] == "markdown"]
    assert texts[0].startswith(f"# Lesson {int(path.stem[:2])} · ")
    for part in ("**Question.**", "*Reads*", "*Time*", "*In the compendium*", "**simulated**"):
        assert part in texts[0]
    exercises = next(text for text in texts if "## Exercises" in text).partition("## Exercises")[2]
    assert re.findall(r"^(\d)\. ", exercises, flags=re.MULTILINE) == ["1", "2"]
    assert f"]({path.stem}_answers.ipynb)" in exercises
    assert "**What this shows.**" in texts[-1] and "**What it does not show:**" in texts[-1]


@pytest.mark.parametrize("path", TAUGHT, ids=lambda path: path.stem)
def test_both_exercises_are_answered_beside_the_lesson(path):
    cells = read_notebook(path.with_name(f"{path.stem}_answers.ipynb"))["cells"]
    texts = [cell_source(cell) for cell in cells if cell["cell_type"] == "markdown"]
    assert f"]({path.name})" in texts[0] and "**simulated**" in texts[0]
    assert [text[:5] for text in texts if text.startswith("## ")] == ["## 1.", "## 2."]


def test_the_page_of_lessons_names_each_of_them():
    page = (repository_root() / "docs" / "lessons.md").read_text(encoding="utf-8")
    assert re.findall(r"lessons/(\w+)\.ipynb", page) == [path.stem for path in TAUGHT]


@pytest.fixture(scope="module")
def outcomes() -> dict[str, str | nbformat.NotebookNode]:
    """Each lesson and each answer executed, or what stopped it; two at a time, as a person runs them in their folder."""

    def run(path: Path) -> tuple[str, str | nbformat.NotebookNode]:
        place = {"metadata": {"path": str(LESSONS)}}
        try:
            return path.stem, NotebookClient(
                nbformat.read(path, 4), timeout=SECONDS_OF_A_CELL, resources=place
            ).execute()
        except CellExecutionError as error:
            return path.stem, str(error)

    with mock.patch.dict(os.environ, kernel_environment()), ThreadPoolExecutor(max_workers=2) as side_by_side:
        return dict(side_by_side.map(run, sorted(LESSONS.glob("*.ipynb"))))


@pytest.mark.parametrize("name", sorted(path.stem for path in LESSONS.glob("*.ipynb")))
def test_a_lesson_runs_and_finds_what_it_says(name, outcomes):
    assert not isinstance(outcomes[name], str), outcomes[name][-4000:]


def beside_slider(executed: nbformat.NotebookNode) -> tuple[str, str]:
    """What stands under the one slider of a lesson before anybody moved it, and what its other cells show."""
    kept = executed.metadata["widgets"]["application/vnd.jupyter.widget-state+json"]["state"].values()
    assert [each["model_name"] for each in kept].count("FloatSliderModel") == 1
    under = "".join(output["text"] for each in kept for output in each["state"].get("outputs", []))
    outputs = [output for cell in executed.cells for output in cell.get("outputs", [])]
    return under, "\n".join(output.get("text") or output["data"].get("text/html", "") for output in outputs)


def test_the_slider_of_the_threshold_begins_with_the_locked_one_that_is_printed_too(outcomes):
    """So a reader without a kernel misses nothing."""
    under, printed = beside_slider(outcomes["02_threshold_on_test"])
    locked = re.search(r"^locked: (.+)$", printed, flags=re.MULTILINE)[1]
    assert f"test: {locked}" in under.splitlines()


def test_the_slider_of_the_prevalence_begins_with_a_row_of_the_table(outcomes):
    under, printed = beside_slider(outcomes["05_calibration_and_prevalence"])
    cells = re.search(r"<th>10%</th>\s*<td>(\d+)</td>\s*<td>(\d+)</td>", printed).groups()
    ppv, npv = (float(value) for value in re.findall(r"PV ([\d.]+)", under))
    assert (round(100 * ppv), round(100 * (1 - npv))) == tuple(map(int, cells))


def test_the_pack_is_small_and_of_the_committed_patients():
    """Another cohort wants another pack: `python tools/lesson_pack.py`."""
    assert sum(path.stat().st_size for path in PACK.iterdir()) < 1e6
    patients = pd.read_csv(COHORT / "patients.csv", dtype={"patient_id": str}).set_index("patient_id")
    splits = pd.read_csv(COHORT / "splits.csv", dtype=str).set_index("patient_id")["split"]
    labels = {name: pd.read_csv(PACK / name) for name in ("traits.csv", "radiomics.csv.gz")}
    for table in labels.values():
        assert table["aln_metastasis"].tolist() == patients.loc[table["patient_id"], "aln_metastasis"].tolist()
    shown = ["age", "size_mm", "ki67_percent"]
    pd.testing.assert_frame_equal(
        labels["traits.csv"][shown], patients.loc[labels["traits.csv"]["patient_id"], shown].reset_index(drop=True)
    )
    images = np.load(PACK / "images.npz")
    for name in ("nodes", "frames"):
        table = pd.read_csv(PACK / f"{name}.csv")
        assert len(images[name]) == len(table) and images[name].dtype == np.uint8
        assert table["split"].tolist() == splits.loc[table["patient_id"]].tolist()


def test_the_scores_of_the_pack_are_predictions_of_the_committed_patients():
    scores = read_predictions(PACK / "predictions.csv")
    patients = pd.read_csv(COHORT / "patients.csv", dtype={"patient_id": str}).set_index("patient_id")
    assert scores["y_true"].tolist() == patients.loc[scores["patient_id"], "aln_metastasis"].tolist()
    assert scores.groupby("model")["split"].apply(set).map({"cross_validation", "test", "external"}.issubset).all()
