"""Bootstrap. Truth: a naive scikit-learn loop over the same resamples, DeLong, scipy, planted cases."""

from math import isnan
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import roc_auc_score

from alneval import bootstrap
from alneval.bootstrap import (
    bootstrap_auc_difference,
    bootstrap_auc_difference_unpaired,
    bootstrap_auc_interval,
    bootstrap_aucs,
    bootstrap_interval,
    clustered_mean,
    percentile_limits,
    resample_weights,
    summarize_resamples,
    two_sided_bootstrap_p,
    weighted_auc,
)
from alneval.roc import auc, clustered_delong_auc, delong_auc, delong_test, delong_test_unpaired

REFERENCES = Path(__file__).parent / "references" / "evaluation"


@pytest.fixture(scope="module")
def paired():
    return pd.read_csv(REFERENCES / "paired.csv")


@pytest.fixture(scope="module")
def nodes():
    return pd.read_csv(REFERENCES / "clustered.csv", dtype={"patient": "str"})


@pytest.fixture
def rng():
    return np.random.default_rng(11)


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
            patch.setattr(bootstrap, "KERNEL_ELEMENTS", 0)
        fast = weighted_auc(y, score, weights)
    np.testing.assert_allclose(fast, naive, atol=1e-12)


def test_product_and_sorting_give_the_same_bits(paired, rng, monkeypatch):
    weights = next(resample_weights(len(paired), 300, rng))
    product = weighted_auc(paired["y"], paired["a"], weights)
    monkeypatch.setattr(bootstrap, "KERNEL_ELEMENTS", 0)
    monkeypatch.setattr(bootstrap, "CHUNK_ELEMENTS", 1000)
    np.testing.assert_array_equal(weighted_auc(paired["y"], paired["a"], weights), product)


def test_chunks_bound_the_memory_and_add_up(rng, monkeypatch):
    monkeypatch.setattr(bootstrap, "CHUNK_ELEMENTS", 100)
    chunks = list(resample_weights(30, 10, rng))
    assert [len(chunk) for chunk in chunks] == [3, 3, 3, 1]
    assert (np.concatenate(chunks).sum(axis=1) == 30).all()


def test_strata_keep_their_size_and_patients_stay_whole(nodes, rng):
    y = nodes["y"].to_numpy()
    weights = next(resample_weights(y.size, 50, rng, strata=y))
    assert (weights[:, y == 1].sum(axis=1) == y.sum()).all()
    weights = next(resample_weights(y.size, 50, rng, strata=y, cluster=nodes["patient"]))
    patients, codes = np.unique(nodes["patient"], return_inverse=True)
    first = np.unique(codes, return_index=True)[1]
    np.testing.assert_array_equal(weights, weights[:, first][:, codes])
    with_positive = nodes.groupby("patient")["y"].max().to_numpy() == 1
    assert (weights[:, first][:, with_positive].sum(axis=1) == with_positive.sum()).all()
    assert patients.size == weights[0, first].sum()


def test_standard_errors_agree_with_delong(paired, nodes, rng):
    """Both estimate the same thing: 10 % is far outside the Monte Carlo error of 4,000 resamples (about 1 %)."""
    plain = bootstrap_auc_interval(paired["y"], paired["a"], rng=rng, n_bootstrap=4000)
    assert plain.standard_error == pytest.approx(delong_auc(paired["y"], paired["a"]).standard_error, rel=0.10)
    clustered = bootstrap_auc_interval(nodes["y"], nodes["a"], rng=rng, n_bootstrap=4000, cluster=nodes["patient"])
    reference = clustered_delong_auc(nodes["y"], nodes["a"], nodes["patient"])
    assert clustered.standard_error == pytest.approx(reference.standard_error, rel=0.10)
    difference = bootstrap_auc_difference(paired["y"], paired["a"], paired["b"], rng=rng, n_bootstrap=4000)
    test = delong_test(paired["y"], paired["a"], paired["b"])
    assert difference.delta == pytest.approx(test.delta, abs=1e-12)
    assert difference.standard_error == pytest.approx(test.standard_error, rel=0.10)
    assert difference.p == pytest.approx(test.p, abs=0.02)
    first, second = pd.read_csv(REFERENCES / "unpaired_a.csv"), pd.read_csv(REFERENCES / "unpaired_b.csv")
    arrays = (first["y"], first["score"], second["y"], second["score"])
    unpaired = bootstrap_auc_difference_unpaired(*arrays, rng=rng, n_bootstrap=4000)
    reference = delong_test_unpaired(*arrays)
    assert unpaired.standard_error == pytest.approx(reference.standard_error, rel=0.10)
    assert unpaired.p == pytest.approx(reference.p, abs=0.06)
    assert (unpaired.p < 0.05) == (not unpaired.low < 0 < unpaired.high)


def test_bca_limits_agree_with_scipy(rng):
    """scipy.stats.bootstrap(method="BCa") for the mean: exactly on its resamples, to Monte Carlo error on ours."""
    values = rng.lognormal(size=40)
    theirs = stats.bootstrap((values,), np.mean, n_resamples=9999, method="BCa", rng=rng)
    limits = list(theirs.confidence_interval)
    left_out = np.array([np.delete(values, index).mean() for index in range(40)])
    influence = left_out.mean() - left_out
    acceleration = (influence**3).sum() / (6 * (influence**2).sum() ** 1.5)
    same = summarize_resamples(values.mean(), theirs.bootstrap_distribution, method="bca", acceleration=acceleration)
    assert [same.low, same.high] == pytest.approx(limits, abs=1e-10)
    # the 99th centile of 9,999 resamples is known to about 0.04 standard errors, a difference of two to 0.05
    ours = bootstrap_interval(np.mean, values, rng=rng, n_bootstrap=9999, method="bca")
    assert [ours.low, ours.high] == pytest.approx(limits, abs=0.25 * ours.standard_error)


@pytest.mark.parametrize("cluster", [None, "patient"])
def test_fast_auc_interval_equals_the_generic_one(nodes, cluster):
    """Same seed, same resamples: closed-form jackknife and weights against sklearn on the rows themselves."""
    cluster = None if cluster is None else nodes[cluster]
    options = {"n_bootstrap": 100, "method": "bca", "cluster": cluster}
    fast = bootstrap_auc_interval(nodes["y"], nodes["a"], rng=np.random.default_rng(5), **options)
    generic = bootstrap_interval(
        lambda frame: roc_auc_score(frame["y"], frame["a"]),
        nodes,
        rng=np.random.default_rng(5),
        strata=nodes["y"],
        **options,
    )
    assert (fast.estimate, fast.low, fast.high) == pytest.approx(
        (generic.estimate, generic.low, generic.high), abs=1e-10
    )


def test_same_seed_same_interval_and_other_seed_another(paired):
    intervals = [
        bootstrap_auc_interval(paired["y"], paired["a"], rng=np.random.default_rng(seed)) for seed in (1, 1, 2)
    ]
    assert intervals[0] == intervals[1] != intervals[2]


def test_all_scores_are_read_in_the_same_resamples(paired, rng):
    resampled = bootstrap_aucs(paired["y"], paired[["a", "a", "b"]], rng=rng, n_bootstrap=50)
    np.testing.assert_array_equal(resampled[:, 0], resampled[:, 1])
    assert (resampled[:, 0] != resampled[:, 2]).any()


def test_resamples_without_a_class_are_left_out_and_counted(rng):
    y, score = [1, 0, 0, 0], [0.9, 0.1, 0.95, 0.3]
    plain = bootstrap_auc_interval(y, score, rng=rng, stratified=False, n_bootstrap=1000)
    # P(no positive) = 0.75^4 = 0.316, P(no negative) = 0.25^4
    assert 250 < plain.n_undefined < 390
    assert 0 <= plain.low <= plain.high <= 1
    assert bootstrap_auc_interval(y, score, rng=rng).n_undefined == 0


def test_perfect_separation_gives_a_point(rng):
    for method in ("percentile", "bca"):
        interval = bootstrap_auc_interval([0, 0, 1, 1], [1, 2, 3, 4], rng=rng, method=method, n_bootstrap=100)
        assert (interval.low, interval.high) == (1, 1)


def test_two_sided_p_counts_the_smaller_side():
    assert two_sided_bootstrap_p([-1, 1, 2, 3, 4, 5, 6, 7, 8]) == pytest.approx(2 * 2 / 10)
    assert two_sided_bootstrap_p(np.ones(999)) == pytest.approx(0.002)
    assert two_sided_bootstrap_p([0, 0, 0]) == 1
    assert isnan(two_sided_bootstrap_p([np.nan]))


def test_identical_scores_do_not_differ(paired, rng):
    result = bootstrap_auc_difference(paired["y"], paired["a"], paired["a"], rng=rng, n_bootstrap=100)
    assert (result.delta, result.low, result.high, result.p) == (0, 0, 0, 1)


def test_a_mean_over_patients_has_the_width_that_theory_gives(rng):
    """200 patients of 3 equal values: the standard error is that of 200 values, not of 600."""
    values = np.repeat(rng.normal(size=200), 3)
    found = clustered_mean(values, np.repeat(np.arange(200), 3), rng, 4000)
    assert found["mean"] == pytest.approx(values.mean())
    width = (found["mean_high"] - found["mean_low"]) / (2 * 1.96)
    assert width == pytest.approx(values.std() / np.sqrt(200), rel=0.06)
    assert np.isnan(clustered_mean([], [], rng)["mean"])
    with pytest.raises(ValueError, match="finite"):
        clustered_mean([1.0, np.nan], [0, 1], rng)


def test_percentile_limits_leave_out_missing_resamples():
    values = np.column_stack([np.arange(101.0), np.full(101, np.nan), np.arange(101.0)])
    values[0, 2] = np.nan
    low, high = percentile_limits(values, confidence=0.8)
    np.testing.assert_allclose(low, [10, np.nan, np.quantile(np.arange(1, 101), 0.1)])
    np.testing.assert_allclose(high, [90, np.nan, np.quantile(np.arange(1, 101), 0.9)])


def test_wrong_arguments_are_refused(paired, rng):
    with pytest.raises(ValueError, match="percentile"):
        bootstrap_auc_interval(paired["y"], paired["a"], rng=rng, method="basic", n_bootstrap=10)
    with pytest.raises(ValueError, match="both classes"):
        bootstrap_auc_interval([1, 1], [0.2, 0.3], rng=rng)
    with pytest.raises(ValueError, match="same number of rows"):
        bootstrap_interval(np.mean, [1, 2], [1, 2, 3], rng=rng)
    with pytest.raises(ValueError, match="at least 1"):
        bootstrap_auc_interval(paired["y"], paired["a"], rng=rng, n_bootstrap=0)


def test_large_samples_are_chunked(rng):
    y = rng.integers(0, 2, 60_000)
    score = np.round(rng.normal(size=y.size) + y, 2)
    interval = bootstrap_auc_interval(y, score, rng=rng, n_bootstrap=40, method="bca")
    assert interval.low < auc(y, score) < interval.high
    assert interval.standard_error == pytest.approx(delong_auc(y, score).standard_error, rel=0.4)
