"""duke_reference.csv. Truth: the Duke workbook where it is (else skipped), the counts of issue 2, and 2 x 2 arithmetic."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from alnlib.cohorts.duke import CLINICAL_SHEET, read_duke
from alnlib.models.reference import COLUMNS, REFERENCE, SMALLEST_CELL, reference_table
from tests.real_data import real_data
from tools.duke_reference import reference_patients


@pytest.fixture(scope="module")
def reference() -> pd.DataFrame:
    return pd.read_csv(REFERENCE)


def row(table: pd.DataFrame, endpoint: str, variable: str, level: str) -> pd.Series:
    found = table.query("endpoint == @endpoint and variable == @variable and level_or_unit == @level")
    assert len(found) == 1
    return found.iloc[0]


def test_file_is_what_the_workbook_gives(reference):
    """The real workbook, recomputed; odds ratios may move in the last printed digit with the processor."""
    again = reference_table(reference_patients(read_duke(real_data("duke", CLINICAL_SHEET).parent)))
    names = ["endpoint", "variable", "level_or_unit"]
    pd.testing.assert_frame_equal(reference[names], again[names], check_dtype=False)
    for column in COLUMNS[3:]:
        stored, computed = (table[column].astype(float).to_numpy() for table in (reference, again))
        np.testing.assert_allclose(stored, computed, rtol=1e-3, atol=1.1e-3, err_msg=column)


def test_endpoints_have_the_stated_counts(reference):
    """Data README: 369 of 898 node-positive; 50 of 149 ypN0."""
    nodal, response = (row(reference, endpoint, "prevalence", "positive") for endpoint in ("aln_metastasis", "apcr"))
    assert (nodal["n_level"], nodal["n"]) == (369, 898)
    assert (response["n_level"], response["n"]) == (50, 149)


def test_binary_odds_ratio_is_the_cross_product_with_woolf_interval(reference):
    """HER2 against N in the workbook: 82 of 159 positive and 287 of 739 negative; Woolf 1955, Ann Hum Genet 19:251."""
    a, b, c, d = 82, 159 - 82, 287, 739 - 287
    found = row(reference, "aln_metastasis", "HER2", "positive")
    assert (found["n_level"], found["share"]) == (159, pytest.approx(159 / 898, abs=5e-4))
    middle, error = np.log(a * d / (b * c)), np.sqrt(1 / a + 1 / b + 1 / c + 1 / d)
    expected = np.exp(middle + 1.959964 * error * np.array([0, -1, 1]))
    np.testing.assert_allclose(found[["or_univariable", "low", "high"]].astype(float), expected, atol=6e-4)


def test_nothing_rests_on_fewer_than_five_patients(reference):
    assert list(reference.columns) == list(COLUMNS)
    assert (reference["n_level"].dropna() >= SMALLEST_CELL).all()
    assert not reference["variable"].str.contains("patient", case=False).any()
    small = row(reference, "apcr", "Subtype", "HR-/HER2+")  # one of its cells is below five
    assert np.isnan(small["or_univariable"])


def test_shares_add_up_and_intervals_hold_their_odds_ratio(reference):
    levels = reference[
        reference["n_level"].notna() & ~reference["variable"].isin(["prevalence", "multivariable model"])
    ]
    groups = levels.groupby(["endpoint", "variable"])
    assert len(groups) == 15
    assert (groups["n_level"].sum() == groups["n"].first()).all()
    assert np.allclose(groups["share"].sum(), 1.0, atol=2e-3)
    for middle, low, high in (("or_univariable", "low", "high"), ("or_multivariable", "low_m", "high_m")):
        known = reference[reference[low].notna()]
        assert len(known) >= 10
        assert ((known[low] < known[middle]) & (known[middle] < known[high])).all()
