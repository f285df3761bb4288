"""Fixtures shared by the tests."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from alnlib.cohorts.folder import read_cohort
from alnsim import SimulationSpec, simulate_cohort
from tests.toy import write_toy_repository


@pytest.fixture
def toy_repository(tmp_path, monkeypatch):
    """A small repository of its own, with ALN_ROOT pointing at it."""
    monkeypatch.setenv("ALN_ROOT", str(tmp_path))
    monkeypatch.delenv("ALN_RESULTS", raising=False)
    monkeypatch.delenv("ALN_STAGING", raising=False)
    assert os.environ["ALN_ROOT"] == str(tmp_path)
    return write_toy_repository(tmp_path)


@pytest.fixture(scope="session")
def paired():
    """150 patients with three scores; R's values for them are in references/evaluation/expected.json."""
    return pd.read_csv(Path(__file__).parent / "references" / "evaluation" / "paired.csv")


@pytest.fixture(scope="session")
def nodes():
    """Nodes of 80 patients with two scores."""
    return pd.read_csv(Path(__file__).parent / "references" / "evaluation" / "clustered.csv", dtype={"patient": "str"})


@pytest.fixture
def rng():
    return np.random.default_rng(11)


@pytest.fixture(scope="session")
def small_cohort(tmp_path_factory):
    """Every modality of a few simulated patients, with and without the outcome in each (seed 7). Not to be written to."""
    patients = {"n_primary": 8, "n_external": 3, "n_mammography": 4, "n_neoadjuvant": 3, "n_ct": 4, "n_ct_nodes": 8}
    spec = SimulationSpec(**patients, n_video_primary=3, n_video_external=1, image_rows=96, image_columns=96)
    return read_cohort(simulate_cohort(spec, tmp_path_factory.mktemp("small") / "cohort", seed=7, truth_patients=2_000))
