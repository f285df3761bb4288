"""Net benefit. Truth: a table worked by hand and a brute-force loop over patients."""

import numpy as np
import pytest

from alneval.decision_curve import (
    decision_curve,
    net_benefit,
    net_benefit_difference,
    net_benefit_treat_all,
)

# ten patients, four positive
Y = np.array([1, 1, 1, 1, 0, 0, 0, 0, 0, 0])
P = np.array([0.9, 0.8, 0.5, 0.2, 0.6, 0.5, 0.3, 0.2, 0.1, 0.1])


def brute_force(y, p, threshold):
    true = sum(1 for yi, pi in zip(y, p, strict=True) if pi >= threshold and yi == 1)
    false = sum(1 for yi, pi in zip(y, p, strict=True) if pi >= threshold and yi == 0)
    return true / len(y) - false / len(y) * threshold / (1 - threshold)


def test_table_by_hand():
    """At 0.2: 4 true, 4 false, odds 1/4; at 0.5: 3 true, 2 false, odds 1; at 0.75: 2 true, 0 false, odds 3."""
    table = decision_curve(Y, P, [0.2, 0.5, 0.75])
    np.testing.assert_allclose(table["net_benefit"], [0.4 - 0.4 / 4, 0.3 - 0.2, 0.2])
    np.testing.assert_allclose(table["treat_all"], [0.4 - 0.6 / 4, 0.4 - 0.6, 0.4 - 0.6 * 3])
    np.testing.assert_allclose(table["treat_none"], 0)
    np.testing.assert_allclose(table["standardized_net_benefit"], [0.3 / 0.4, 0.1 / 0.4, 0.2 / 0.4])
    np.testing.assert_allclose(table["gain"], [0.05, 0.1, 0.2])
    # at 0.2 two of ten are left untreated, none of them positive: (0.30 - 0.25) x 4 x 100 = 20 of 100 spared
    np.testing.assert_allclose(table["interventions_avoided_per_100"], [20, 30, 160 / 3])


def test_agrees_with_brute_force_on_random_ties():
    rng = np.random.default_rng(2)
    y, p = rng.integers(0, 2, 120), np.round(rng.random(120), 2)
    thresholds = np.arange(0, 100) / 100
    expected = [brute_force(y, p, threshold) for threshold in thresholds]
    np.testing.assert_allclose(net_benefit(y, p, thresholds), expected, atol=1e-12)
    np.testing.assert_allclose(net_benefit(y, np.ones(120), thresholds), net_benefit_treat_all(y.mean(), thresholds))
    np.testing.assert_allclose(net_benefit(y, np.zeros(120), thresholds[1:]), 0)


def test_prevalence_replaces_that_of_a_case_control_sample():
    """Negatives doubled, prevalence set back to the true 0.4: the same curve."""
    thresholds = [0.1, 0.3, 0.5]
    more_negatives = np.concatenate([np.arange(10), np.arange(4, 10)])
    expected = net_benefit(Y, P, thresholds)
    np.testing.assert_allclose(
        net_benefit(Y[more_negatives], P[more_negatives], thresholds, prevalence=0.4), expected, atol=1e-12
    )
    assert not np.allclose(net_benefit(Y[more_negatives], P[more_negatives], thresholds), expected)
    table = decision_curve(Y, P, thresholds, prevalence=0.1, rng=np.random.default_rng(0), n_bootstrap=50)
    np.testing.assert_allclose(table["treat_all"], net_benefit_treat_all(0.1, thresholds))
    np.testing.assert_allclose(table["treat_all_low"], table["treat_all_high"])
    with pytest.raises(ValueError, match="both classes"):
        net_benefit([1, 1], [0.2, 0.4], thresholds, prevalence=0.3)


def test_intervals_agree_with_a_naive_loop_over_the_same_resamples():
    seed, size = 5, 400
    options = {"rng": np.random.default_rng(seed), "n_bootstrap": size, "interval": "percentile"}
    table = decision_curve(Y, P, [0.25, 0.5], **options)
    indices = np.random.default_rng(seed).integers(0, 10, (size, 10))
    naive = np.array([[brute_force(Y[row], P[row], threshold) for threshold in (0.25, 0.5)] for row in indices])
    np.testing.assert_allclose(table["net_benefit_low"], np.quantile(naive, 0.025, axis=0), atol=1e-12)
    np.testing.assert_allclose(table["net_benefit_high"], np.quantile(naive, 0.975, axis=0), atol=1e-12)
    shares = Y[indices].mean(axis=1)
    gain = naive[:, 1] - np.maximum(net_benefit_treat_all(shares, [0.5] * size), 0)
    assert table["gain_low"].iloc[1] == pytest.approx(np.quantile(gain, 0.025), abs=1e-12)


def test_a_model_against_itself_gains_nothing_and_against_noise_something():
    rng = np.random.default_rng(6)
    y = rng.integers(0, 2, 400)
    good = np.clip(0.5 + 0.35 * (2 * y - 1) + 0.1 * rng.normal(size=400), 0, 1)
    noise = rng.random(400)
    same = net_benefit_difference(y, good, good, [0.3, 0.5], rng=rng, n_bootstrap=50)
    assert (same[["delta", "delta_low", "delta_high"]] == 0).all().all()
    better = net_benefit_difference(y, good, noise, [0.3, 0.5], rng=rng, n_bootstrap=200)
    expected = net_benefit(y, good, [0.3, 0.5]) - net_benefit(y, noise, [0.3, 0.5])
    np.testing.assert_allclose(better["delta"], expected, atol=1e-12)
    assert (better["delta_low"] > 0).all()


def test_patients_widen_the_interval_of_repeated_rows():
    repeated = np.repeat(np.arange(10), 6)
    widths = []
    for cluster in (None, repeated):
        table = decision_curve(
            Y[repeated], P[repeated], [0.3], rng=np.random.default_rng(1), n_bootstrap=400, cluster=cluster
        )
        widths.append((table["net_benefit_high"] - table["net_benefit_low"]).iloc[0])
    assert widths[1] > 1.8 * widths[0]  # sqrt(6) = 2.4 in theory


def test_default_grid_and_wrong_arguments():
    table = decision_curve(Y, P)
    assert len(table) == 99 and table["threshold"].iloc[[0, -1]].tolist() == [0.01, 0.99]
    assert list(table.columns[:4]) == ["threshold", "net_benefit", "treat_all", "treat_none"]
    assert np.isnan(decision_curve(Y, P, [0.0])["interventions_avoided_per_100"].iloc[0])
    for thresholds in ([1.0], [-0.1], [50]):
        with pytest.raises(ValueError, match="thresholds"):
            net_benefit(Y, P, thresholds)
    with pytest.raises(ValueError, match="rng"):
        decision_curve(Y, P, [0.5], n_bootstrap=10)
    with pytest.raises(ValueError, match="probabilities"):
        net_benefit(Y, 10 * P, [0.5])
