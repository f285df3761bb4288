"""CONTRIBUTING's recipe for a new modality, followed with thermograms in a copy of the library: four files, and it is judged.

Property: where thermograms of the positive are brighter, the stage for them is run, labeled, listed and evaluated.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image

from alnlib.files import sha256_file
from tests.toy import write_toy_notebook

COHORT = {"name": "toy", "title": "A toy cohort", "provenance": "simulated", "license": "none", "citation": "none"}
COHORT |= {"endpoints": {"aln_metastasis": {"label": "ALN metastasis", "positive": "N+", "negative": "N0"}}}
COHORT |= {"primary_endpoint": "aln_metastasis", "centers": ["North"], "external_centers": [], "source": "tests"}

MODULE = '''\
"""Thermograms: the skin's temperature as gray values. Nothing here reads other pictures."""

import numpy as np

from alnlib.imaging.read import read_image


def warmth(images, root):
    """(n,) mean gray value of the n thermograms below `root`, divided by 255."""
    return np.array([read_image(root / path).pixels.mean() for path in images["path"]]) / 255
'''

STAGE = """\
  - notebook: 30_thermography
    title: How warm the breast is
    about: [TH images]
    needs: cohort
    makes: predictions/thermography.csv thermography/warmth.csv
    reads_data: true

"""

NOTEBOOK = [
    "import pandas as pd\nfrom alnlib.imaging.thermograms import warmth\nfrom alnlib.pipeline.results import RunFolder",
    "results = RunFolder(run, 'data/simulated-demo')\nstudy_data = results.read_study()",
    "images = study_data.cohort.images.query(\"modality == 'TH'\")\n"
    "patients = study_data.patients.merge(images, on='patient_id')",
    "rows = patients[['split', 'patient_id']].assign(unit_id=patients['patient_id'], y_true=patients['aln_metastasis'])\n"
    "rows = rows.assign(study='mine', model='warmth', role='main', y_score=warmth(patients, results.data))",
    "results.save_table(rows, 'predictions/thermography.csv')\n"
    "results.save_table(rows[['patient_id', 'y_score']], 'thermography/warmth.csv')\n"
    "results.save_numbers({'thermograms': len(rows)}, '30_thermography')",
]

COHORT_NOTEBOOK = [
    "from alneval.folds import splits_digest, write_splits\nfrom alnlib.cohorts.folder import read_cohort, write_cohort\n"
    "from alnlib.pipeline.results import RunFolder",
    "results = RunFolder(run, 'data/simulated-demo')\ncohort = read_cohort(results.data)",
    "written = write_cohort(cohort, results.output('cohort/cohort.yaml').parent)",
    "splits = cohort.patients[['patient_id', 'split']]\nwrite_splits(splits, results.output('cohort/splits.csv'))",
    "study = {'endpoint': 'aln_metastasis', 'digest': splits_digest(splits)}\n"
    "results.save_json(study, 'cohort/study.json')",
]

EVALUATION_NOTEBOOK = [
    "from alnlib.pipeline.results import RunFolder",
    "results = RunFolder(run)\nrows = results.read_predictions()",
    "means = rows.groupby(['model', 'y_true'])['y_score'].mean().reset_index()",
    "results.save_table(means, 'evaluation/discrimination.csv')",
]

PROGRAM = """\
from dataclasses import replace
from alnlib.pipeline.runner import Runner, RunOptions, make_plan
from alnlib.pipeline.stages import STAGES, check_table, find_stage
check_table()
added, evaluation = find_stage("30"), find_stage("41")
judging = [stage for stage in STAGES if "predictions/clinical.csv" in stage.needs and stage.number > "40"]
assert len(judging) > 4 and all(set(added.predictions) <= set(stage.needs) for stage in judging)
assert added.lacks(()) == "TH images"
table = (
    replace(find_stage("11"), needs=(), makes=added.needs),
    added,
    replace(evaluation, needs=(*added.needs, *added.predictions), makes=("evaluation/discrimination.csv",)),
)
runner = Runner(make_plan(RunOptions(), table))
assert runner.run(), [(status.stage.notebook, status.detail) for status in runner.statuses.values()]
"""


@pytest.fixture
def copy(toy_repository) -> Path:
    """The library in a repository of its own, with a cohort that has thermograms: brighter ones where nodes are positive."""
    for package in ("alnlib", "alneval", "alnsim"):
        shutil.copytree(Path(__file__).resolve().parent.parent / package, toy_repository / package)
    data = toy_repository / "data/simulated-demo"
    patients = pd.DataFrame({"patient_id": [f"p{i:02d}" for i in range(12)], "center": "North"})
    patients = patients.assign(split=["train", "test"] * 6, aln_metastasis=[0, 0, 1, 1] * 3)
    patients.to_csv(data / "patients.csv", index=False)
    (data / "cohort.yaml").write_text(yaml.safe_dump(COHORT))
    rng = np.random.default_rng(0)
    for row in patients.itertuples():
        gray = rng.integers(80, 120, (8, 8)) + 60 * row.aln_metastasis
        Image.fromarray(gray.astype(np.uint8)).save(data / f"{row.patient_id}.png")
    images = pd.DataFrame({"image_id": patients["patient_id"], "patient_id": patients["patient_id"], "modality": "TH"})
    images.assign(path=patients["patient_id"] + ".png").to_csv(data / "images.csv", index=False)
    write_toy_notebook(toy_repository, "11_cohort", COHORT_NOTEBOOK)
    write_toy_notebook(toy_repository, "41_discrimination", EVALUATION_NOTEBOOK)
    (toy_repository / "notebooks/profiles/demo.yaml").write_text("")
    return toy_repository


def digests(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {path.relative_to(folder).as_posix(): sha256_file(path) for path in files}


def insert(path: Path, before: str, text: str) -> None:
    content = path.read_text(encoding="utf-8")
    assert content.count(before) == 1
    path.write_text(content.replace(before, text + before), encoding="utf-8")


def test_a_new_modality_touches_four_files_and_is_judged_with_the_others(copy):
    before = digests(copy)
    (copy / "alnlib/imaging/thermograms.py").write_text(MODULE)
    write_toy_notebook(copy, "30_thermography", NOTEBOOK)
    insert(copy / "alnlib/pipeline/stages.yaml", "  - notebook: 31_fusion", STAGE)
    insert(copy / "alnlib/cohorts/schema.py", ', "MG")', ', "TH"')
    after = digests(copy)
    assert {name for name in after if after[name] != before.get(name)} == {
        "alnlib/imaging/thermograms.py",
        "alnlib/pipeline/stages.yaml",
        "alnlib/cohorts/schema.py",
        "notebooks/30_thermography.ipynb",
    }
    environment = os.environ | {"PYTHONPATH": str(copy)}
    done = subprocess.run([sys.executable, "-c", PROGRAM], cwd=copy, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    results = copy / "results/simulated-demo"
    judged = pd.read_csv(results / "evaluation/discrimination.csv")
    assert list(judged["model"].unique()) == ["warmth"]
    assert judged.set_index("y_true")["y_score"].is_monotonic_increasing
    assert set(pd.read_csv(results / "thermography/warmth.csv")["provenance"]) == {"simulated"}
