"""Tabular pipelines: which there are, on whom, and with how many candidates."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pandas as pd

from alneval.rows import prediction_rows
from alnlib.cohorts.schema import ClinicalVariable
from alnlib.models.clinical import design_columns
from alnlib.models.tabular import tabular_pipelines

IDS = [f"p{number}" for number in range(12)]


def test_each_study_has_a_pipeline_as_far_as_there_are_data():
    rng = np.random.default_rng(0)
    patients = pd.DataFrame({"patient_id": IDS, "center": ["N"] * 10 + ["S"] * 2, "aln_metastasis": [0, 1] * 6})
    patients["age"] = rng.normal(55, 8, 12)
    clinical = {"age": ClinicalVariable("Age", "continuous", "years")}
    cohort = SimpleNamespace(patients=patients, clinical=clinical, external_centers=("S",))
    rows = pd.Series(IDS[:8]), patients["aln_metastasis"][:8], rng.random(8)
    crossed = [prediction_rows("tang", model, "cross_validation", *rows) for model in ("DL_US", "DL_MRI")]
    features = {
        "guo": pd.DataFrame({"patient_id": IDS[::2], "a": 1.0, "b": 2.0}),
        "li_nat": pd.DataFrame({"patient_id": IDS}),
    }
    options = {"seed": 1, "n_folds": 3, "endpoints": dict.fromkeys(features, "aln_metastasis")}
    made = tabular_pipelines(cohort, patients, "aln_metastasis", pd.concat(crossed), features, **options)
    assert {name: len(each.X) for name, each in made.items()} == {
        "tang: clinical": 10,
        "tang: fusion": 8,
        "guo: radiomics": 5,
    }
    n_clinical = len(design_columns(clinical))
    counts = [each.n_parameters for each in made.values()]
    assert counts == [n_clinical, n_clinical + 2, 2]
    without = tabular_pipelines(cohort, patients, "aln_metastasis", crossed[0], {}, **options)
    assert list(without) == ["tang: clinical"]
    own = pd.concat(crossed).assign(study="my-hospital")
    assert list(tabular_pipelines(cohort, patients, "aln_metastasis", own, {}, **options)) == [
        "my-hospital: clinical",
        "my-hospital: fusion",
    ]
