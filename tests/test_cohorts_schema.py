"""The cohort dataclasses and the text forms of boxes and spacings. Truth: the data contract of docs/your_cohort.md."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from alnlib.cohorts.schema import (
    Cohort,
    Endpoint,
    empty_readers,
    format_box,
    images_table,
    is_label,
    is_number,
    parse_box,
    parse_pixel_spacing,
)


def small_cohort() -> Cohort:
    patients = pd.DataFrame({"patient_id": ["a", "b", "c"], "center": "H", "y": pd.array([0, 1, None], dtype="Int64")})
    endpoints = {"y": Endpoint("Y", "yes", "no")}
    return Cohort(
        "toy", "Toy", "simulated", endpoints, "y", ("H",), (), {}, {}, "none", "none", "here",
        patients, images_table({}), empty_readers(), Path("."),
    )  # fmt: skip


def test_a_cohort_prints_its_counts_and_says_that_it_is_simulated():
    cohort = small_cohort()
    assert cohort.is_simulated
    assert str(cohort) == "toy (simulated): 3 patients, 0 images, 0 reader scores; y 1/2 positive"


def test_known_leaves_out_patients_without_the_endpoint():
    known = small_cohort().known()
    assert known["patient_id"].tolist() == ["a", "b"]
    assert known["y"].tolist() == [0, 1]
    assert known["y"].dtype == "int64"
    with pytest.raises(ValueError, match="unknown endpoint 'z'"):
        small_cohort().known("z")


@given(st.lists(st.tuples(st.integers(0, 900), st.integers(1, 99)), min_size=2, max_size=3))
def test_a_box_survives_its_text_form(edges):
    box = (*[low for low, _ in edges], *[low + size for low, size in edges])
    assert parse_box(format_box(box)) == box


@pytest.mark.parametrize("empty", ["", "  ", None, float("nan"), pd.NA])
def test_an_empty_cell_is_no_box_and_no_spacing(empty):
    assert parse_box(empty) is None
    assert parse_pixel_spacing(empty) is None


@pytest.mark.parametrize(
    "text",
    [
        "1 2 3",
        "1 2 3 4 5",
        "1,2,3,4",
        "1.5 2 3 4",
        "-1 2 3 4",
        "5 5 2 9",
        "5 5 9 5",
        "1 1 1 4 4 1",
        "nan 1 2 3",
        "²1 2 3 4",
    ],
)
def test_a_malformed_or_inverted_box_is_refused(text):
    with pytest.raises(ValueError, match="box"):
        parse_box(text)


def test_pixel_spacing_is_row_then_column_in_mm():
    assert parse_pixel_spacing("0.1 0.2") == (0.1, 0.2)
    for text in ("0.1", "0.1 0", "0.1 -1", "0.1 nan", "0,1 0,2", "1 1 1"):
        with pytest.raises(ValueError, match="pixel spacing"):
            parse_pixel_spacing(text)


def test_only_an_empty_cell_is_missing():
    assert all(is_label(text) for text in ("", "0", "1", "0.0", "1.0"))
    assert not any(is_label(text) for text in ("NA", "nan", "2", "0.5", "yes", "-1", "01", "true"))
    assert all(is_number(text) for text in ("", "1", "-2.5", "1e3"))
    assert not any(is_number(text) for text in ("NA", "nan", "inf", "3,5", "12 mm", "1_000"))
