"""Resampled intervals. Truth: a naive scikit-learn loop over the same resamples, DeLong, planted cases."""

from math import isnan
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from alneval import curves, estimate
from alneval.curves import weighted_auc
from alneval.delong import auc_difference, auc_interval
from alneval.estimate import (
    difference,
    format_interval,
    format_p,
    interval,
    mean_interval,
    percentile_limits,
    resamples,
    two_sided_p,
)
from alneval.units import Units

REFERENCES = Path(__file__).parent / "references" / "evaluation"


@pytest.fixture
def units(paired):
    return Units.of(paired["y"], paired["a"], paired["b"])


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(4, 40), st.booleans())
def test_weighted_auc_equals_sklearn_on_the_same_resample_indices(seed, n, by_sorting):
    rng = np.random.default_rng(seed)
    y = np.concatenate(([0, 1], rng.integers(0, 2, n - 2)))
    score = rng.integers(0, 6, n) / 5  # many ties
    indices = rng.integers(0, n, (20, n))
    weights = np.array([np.bincount(row, minlength=n) for row in indices])
    naive = [roc_auc_score(y[row], score[row]) if len(set(y[row])) == 2 else np.nan for row in indices]
    with pytest.MonkeyPatch.context() as patch:
        if by_sorting:
            patch.setattr(curves, "KERNEL_ELEMENTS", 0)
        fast = weighted_auc(Units.of(y, score), weights.astype(float))
    np.testing.assert_allclose(fast, naive, atol=1e-12)


def test_product_and_sorting_give_the_same_bits(units, rng, monkeypatch):
    weights = next(resamples(units, 300, rng))
    product = weighted_auc(units, weights)
    monkeypatch.setattr(curves, "KERNEL_ELEMENTS", 0)
    monkeypatch.setattr(curves, "CHUNK_ELEMENTS", 1000)
    np.testing.assert_array_equal(weighted_auc(units, weights), product)


def test_chunks_bound_the_memory_and_add_up(units, rng, monkeypatch):
    monkeypatch.setattr(estimate, "CHUNK_ELEMENTS", 500)
    chunks = list(resamples(units, 10, rng))
    assert [len(chunk) for chunk in chunks] == [3, 3, 3, 1]
    assert (np.concatenate(chunks).sum(axis=1) == len(units)).all()


def test_strata_keep_their_size_and_patients_stay_whole(nodes, rng):
    y = nodes["y"].to_numpy()
    weights = next(resamples(Units.of(y, nodes["a"]), 50, rng))
    assert (weights[:, y == 1].sum(axis=1) == y.sum()).all()
    by_patient = Units.of(y, nodes["a"], patient=nodes["patient"])
    weights = next(resamples(by_patient, 50, rng))
    first = np.unique(by_patient.patient, return_index=True)[1]
    np.testing.assert_array_equal(weights, weights[:, first][:, by_patient.patient])
    with_positive = nodes.groupby("patient")["y"].max().to_numpy() == 1
    assert (weights[:, first][:, with_positive].sum(axis=1) == with_positive.sum()).all()
    assert weights[0, first].sum() == by_patient.n_patients
    own = np.arange(y.size) % 3
    kept = next(resamples(Units.of(y, nodes["a"]), 50, rng, strata=own))
    assert all((kept[:, own == k].sum(axis=1) == (own == k).sum()).all() for k in range(3))
    with pytest.raises(ValueError, match="strata"):
        next(resamples(by_patient, 5, rng, strata=own[:-1]))


def test_standard_errors_agree_with_delong(units, nodes, rng):
    """Both estimate the same thing: 10 % is far outside the Monte Carlo error of 4,000 resamples (about 1 %)."""
    by_patient = Units.of(nodes["y"], nodes["a"], patient=nodes["patient"])
    for data in (units.model(0), by_patient):
        found = interval(weighted_auc, data, rng, n=4000)
        assert found.standard_error == pytest.approx(auc_interval(data).standard_error, rel=0.10)
    paired_difference, test = (
        difference(weighted_auc, units.model(0), units.model(1), rng, n=4000),
        auc_difference(units),
    )
    assert paired_difference.value == pytest.approx(test.value, abs=1e-12)
    assert paired_difference.standard_error == pytest.approx(test.standard_error, rel=0.10)
    assert paired_difference.p == pytest.approx(test.p, abs=0.02)


def test_two_cohorts_are_resampled_apart(rng):
    """Truth: pROC's unpaired test, whose variance is the sum of both."""
    tables = [pd.read_csv(REFERENCES / f"unpaired_{name}.csv") for name in "ab"]
    first, second = (Units.of(table["y"], table["score"]) for table in tables)
    found = difference(weighted_auc, first, second, rng, n=4000)
    errors = [auc_interval(data).standard_error for data in (first, second)]
    assert found.standard_error == pytest.approx(np.hypot(*errors), rel=0.10)
    assert (found.p < 0.05) == (not found.low < 0 < found.high)


def test_same_seed_same_interval_and_other_seed_another(units):
    found = [interval(weighted_auc, units, np.random.default_rng(seed)) for seed in (1, 1, 2)]
    assert found[0] == found[1] != found[2]


def test_resamples_without_a_class_are_left_out_and_counted(rng):
    few = Units.of([1, 0, 0, 0], [0.9, 0.1, 0.95, 0.3])
    plain = interval(weighted_auc, few, rng, stratified=False, n=1000)
    # P(no positive) = 0.75^4 = 0.316, P(no negative) = 0.25^4
    assert 250 < plain.n_undefined < 390
    assert 0 <= plain.low <= plain.high <= 1
    assert interval(weighted_auc, few, rng).n_undefined == 0


def test_perfect_separation_gives_a_point_and_identical_scores_no_difference(units, rng):
    found = interval(weighted_auc, Units.of([0, 0, 1, 1], [1, 2, 3, 4]), rng, n=100)
    assert (found.low, found.high) == (1, 1)
    result = difference(weighted_auc, units.model(0), units.model(0), rng, n=100)
    assert (result.value, result.low, result.high, result.p) == (0, 0, 0, 1)


def test_two_sided_p_counts_the_smaller_side():
    assert two_sided_p([-1, 1, 2, 3, 4, 5, 6, 7, 8]) == pytest.approx(2 * 2 / 10)
    assert two_sided_p(np.ones(999)) == pytest.approx(0.002)
    assert two_sided_p([0, 0, 0]) == 1
    assert isnan(two_sided_p([np.nan]))


def test_a_mean_over_patients_has_the_width_that_theory_gives(rng):
    """200 patients of 3 equal values: the standard error is that of 200 values, not of 600."""
    values = np.repeat(rng.normal(size=200), 3)
    found = mean_interval(values, np.repeat(np.arange(200), 3), rng, 4000)
    assert found.value == pytest.approx(values.mean())
    assert (found.high - found.low) / (2 * 1.96) == pytest.approx(values.std() / np.sqrt(200), rel=0.06)
    assert np.isnan(mean_interval([], [], rng).value)
    with pytest.raises(ValueError, match="finite"):
        mean_interval([1.0, np.nan], [0, 1], rng)


def test_percentile_limits_leave_out_missing_resamples():
    values = np.column_stack([np.arange(101.0), np.full(101, np.nan), np.arange(101.0)])
    values[0, 2] = np.nan
    low, high = percentile_limits(values, confidence=0.8)
    np.testing.assert_allclose(low, [10, np.nan, np.quantile(np.arange(1, 101), 0.1)])
    np.testing.assert_allclose(high, [90, np.nan, np.quantile(np.arange(1, 101), 0.9)])


@pytest.mark.parametrize(
    ("options", "message"),
    [({"method": "basic"}, "percentile"), ({"n": 0}, "at least 1"), ({"confidence": 95}, "between 0 and 1")],
)
def test_wrong_arguments_are_refused(units, rng, options, message):
    with pytest.raises(ValueError, match=message):
        interval(weighted_auc, units, rng, **({"n": 10} | options))


def test_large_samples_are_chunked(rng):
    y = rng.integers(0, 2, 60_000)
    units = Units.of(y, np.round(rng.normal(size=y.size) + y, 2))
    found = interval(weighted_auc, units, rng, n=40)
    assert found.low < auc_interval(units).value < found.high
    assert found.standard_error == pytest.approx(auc_interval(units).standard_error, rel=0.4)


def test_an_estimate_is_written_one_way():
    assert format_interval(0.819, 0.734, 0.903) == "0.819 (0.734 to 0.903)"
    assert format_interval(0.819, 0.734, 0.903, 2) == "0.82 (0.73 to 0.90)"
    assert format_interval(np.nan, 0, 1) == "not estimable"
    assert format_interval(0.5, np.nan, np.nan) == "0.500 (no interval)"
    assert [format_p(p) for p in (0.0434, 0.0004, np.nan)] == ["p = 0.043", "p < 0.001", "no p"]
