"""Fixtures shared by the tests."""

from __future__ import annotations

import os

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
