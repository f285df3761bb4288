"""Stages 28 and 29 on a cohort folder whose features were measured elsewhere: run as a user runs them.

Truth: the signal that the tables were made with, and its absence.
"""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest
import yaml

from tests.test_cli import run_all

SMALL = {"n_trees": 5, "n_candidates": 1, "n_inner": 3, "n_outer": 3, "n_nested": 3, "n_resamples": 4}
N, N_TREATED = 180, 130


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    """Patients whose response shows in the change of one of six features, and the nodes in nothing but the read."""
    folder, rng = tmp_path_factory.mktemp("features") / "measured", np.random.default_rng(1)
    folder.mkdir()
    ids = [f"{number:03d}" for number in range(N)]
    nodes, response = rng.integers(0, 2, N), rng.integers(0, 2, N).astype(float)
    response[N_TREATED:] = np.nan
    endpoints = {
        "aln_metastasis": {"label": "ALN metastasis", "positive": "N+", "negative": "N0"},
        "apcr": {"label": "Axillary response", "positive": "ypN0", "negative": "ypN+"},
    }
    described = {"name": "measured", "title": "Measured elsewhere", "provenance": "simulated", "endpoints": endpoints}
    described |= {"primary_endpoint": "aln_metastasis", "centers": ["North"], "license": "none", "citation": "none"}
    described |= {"source": "tests", "readers": {"r1": {"description": "a radiologist", "modality": "MRI"}}}
    described["clinical"] = {"age": {"label": "Age", "kind": "continuous", "unit": "years"}}
    (folder / "cohort.yaml").write_text(yaml.safe_dump(described, sort_keys=False), encoding="utf-8")
    patients = pd.DataFrame({"patient_id": ids, "center": "North", "aln_metastasis": nodes, "apcr": response})
    patients.assign(age=rng.normal(55, 9, N).round(1)).to_csv(folder / "patients.csv", index=False)
    read = pd.DataFrame({"patient_id": ids, "reader_id": "r1", "score": (nodes + rng.normal(0, 0.9, N)).round(2)})
    read.to_csv(folder / "readers.csv", index=False)
    before = rng.lognormal(1, 0.3, (N, 6))
    after = before * np.exp(rng.normal(0, 0.3, (N, 6)))
    after[:, 0] *= np.exp(-0.5 * np.nan_to_num(response))
    visits = [
        pd.DataFrame(values.round(4), columns=list("abcdef")).assign(patient_id=ids, timepoint=visit, modality="MRI")
        for visit, values in (("pre", before), ("post", after))
    ]
    pd.concat(visits).to_csv(folder / "features.csv", index=False)
    return folder


@pytest.fixture(scope="module")
def finished(cohort, tmp_path_factory):
    results = tmp_path_factory.mktemp("results")
    settings = [f"--set={stage}.{name}={value}" for stage in (28, 29) for name, value in SMALL.items()]
    done = run_all("--cohort", cohort, "--to", "29", *settings, results=results)
    assert done.returncode == 0, done.stdout + done.stderr
    for stage in ("28_feature_table", "29_feature_table_response"):
        assert re.search(rf"^{stage} +done ", done.stdout, re.MULTILINE), done.stdout
    return results / "measured-demo"


def test_validate_says_which_stages_have_how_many_patients(cohort, tmp_path):
    said = run_all("validate", cohort, results=tmp_path).stdout
    assert "12 features" in said
    assert re.search(rf"28_feature_table +{N} patients", said), said
    assert re.search(rf"29_feature_table_response +{N_TREATED} patients", said), said


def test_each_source_finds_what_it_holds_and_nothing_else(finished):
    nodes = pd.read_csv(finished / "feature_table/crossed.csv").set_index("model")
    response = pd.read_csv(finished / "feature_table_response/crossed.csv").set_index("model")
    assert list(nodes["n"].unique()) == [N] and list(response["n"].unique()) == [N_TREATED]
    assert nodes.at["Reader r1", "auc_low"] > 0.6 and nodes.at["radiomics + clinical + readers", "auc_low"] > 0.6
    assert response.at["radiomics change", "auc_low"] > 0.6
    for table, name in (
        (nodes, "radiomics"),
        (nodes, "clinical"),
        (response, "Reader r1"),
        (response, "radiomics before"),
    ):
        assert table.at[name, "auc_low"] < 0.55, name


def test_no_patient_is_in_two_splits_and_every_model_scores_the_same_ones(finished):
    for file in ("feature_table", "feature_table_response"):
        rows = pd.read_csv(finished / f"predictions/{file}.csv", dtype={"patient_id": str})
        placed = rows[rows["split"] != "cross_validation"].drop_duplicates(["patient_id", "split"])
        assert placed["patient_id"].is_unique
        scored = rows.groupby(["split", "model"])["patient_id"].agg(frozenset).groupby("split").nunique()
        assert (scored == 1).all()
    assert set(rows["study"]) == {"feature-table-apcr"}
