"""Fixtures shared by the tests."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

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
