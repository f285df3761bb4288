"""Proportion intervals and Holm. Truth: R 4.2.2 (prop.test, binom.test, p.adjust), tests/references/evaluation."""

import json
from math import isnan, nan
from pathlib import Path

import numpy as np
import pytest

from alneval.intervals import wilson_interval
from alneval.multiplicity import holm

EXPECTED = json.loads((Path(__file__).parent / "references/evaluation/expected.json").read_text())


@pytest.mark.parametrize("reference", EXPECTED["proportions"], ids=lambda r: f"{r['count']}/{r['n']}")
def test_intervals_agree_with_r(reference):
    wilson = wilson_interval(reference["count"], reference["n"])
    assert [wilson.low, wilson.high] == pytest.approx(reference["wilson"], abs=1e-8)
    assert wilson.value == reference["count"] / reference["n"]


def test_ends_are_exact_and_nothing_observed_is_nan():
    assert wilson_interval(0, 7).low == 0.0
    assert wilson_interval(7, 7).high == 1.0
    nothing = wilson_interval(0, 0)
    assert nothing.n == 0 and isnan(nothing.value) and isnan(nothing.low) and isnan(nothing.high)


@pytest.mark.parametrize(("count", "n", "confidence"), [(5, 4, 0.95), (-1, 4, 0.95), (1.5, 4, 0.95), (1, 4, 95)])
def test_impossible_counts_and_levels_are_refused(count, n, confidence):
    with pytest.raises(ValueError):
        wilson_interval(count, n, confidence)


def test_holm_agrees_with_r_and_leaves_missing_comparisons_out():
    reference = EXPECTED["holm"]
    assert holm(reference["p"]) == pytest.approx(reference["adjusted"], abs=1e-12)
    with_gap = holm([nan, *reference["p"]])
    assert isnan(with_gap[0])
    np.testing.assert_allclose(with_gap[1:], reference["adjusted"], atol=1e-12)
    assert holm([]).size == 0
    assert isnan(holm([nan])[0])
    with pytest.raises(ValueError):
        holm([0.2, 1.2])
