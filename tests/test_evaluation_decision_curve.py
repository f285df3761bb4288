"""Net benefit. Truth: a table worked by hand and a brute-force loop over patients."""

import numpy as np
import pytest

from alneval.decision_curve import decision_curve, gain, net_benefit, treat_all
from alneval.estimate import interval, once
from alneval.units import Units

# ten patients, four positive
Y = np.array([1, 1, 1, 1, 0, 0, 0, 0, 0, 0])
P = np.array([0.9, 0.8, 0.5, 0.2, 0.6, 0.5, 0.3, 0.2, 0.1, 0.1])
UNITS = Units.of(Y, P)


def brute_force(y, p, threshold):
    true = sum(1 for yi, pi in zip(y, p, strict=True) if pi >= threshold and yi == 1)
    false = sum(1 for yi, pi in zip(y, p, strict=True) if pi >= threshold and yi == 0)
    return true / len(y) - false / len(y) * threshold / (1 - threshold)


def test_table_by_hand():
    """At 0.2: 4 true, 4 false, odds 1/4; at 0.5: 3 true, 2 false, odds 1; at 0.75: 2 true, 0 false, odds 3."""
    table = decision_curve(UNITS, [0.2, 0.5, 0.75])
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
    benefit, everybody = net_benefit(thresholds), treat_all(thresholds)
    expected = [brute_force(y, p, threshold) for threshold in thresholds]
    np.testing.assert_allclose(once(benefit, Units.of(y, p)), expected, atol=1e-12)
    np.testing.assert_allclose(once(benefit, Units.of(y, np.ones(120))), once(everybody, Units.of(y, p)))
    np.testing.assert_allclose(once(benefit, Units.of(y, np.zeros(120)))[1:], 0)


def test_prevalence_replaces_that_of_a_case_control_sample():
    """Negatives doubled, prevalence set back to the true 0.4: the same curve."""
    thresholds = [0.1, 0.3, 0.5]
    more_negatives = np.concatenate([np.arange(10), np.arange(4, 10)])
    sampled, expected = Units.of(Y[more_negatives], P[more_negatives]), once(net_benefit(thresholds), UNITS)
    np.testing.assert_allclose(once(net_benefit(thresholds, 0.4), sampled), expected, atol=1e-12)
    assert not np.allclose(once(net_benefit(thresholds), sampled), expected)
    table = decision_curve(UNITS, thresholds, prevalence=0.1)
    np.testing.assert_allclose(table["treat_all"], [0.1 - 0.9 * t / (1 - t) for t in thresholds])
    assert np.isnan(once(net_benefit(thresholds, 0.3), Units.of([1, 1], [0.2, 0.4]))).all()


def test_resampled_intervals_agree_with_a_naive_loop_over_the_same_resamples():
    thresholds = (0.25, 0.5)
    estimate = interval(net_benefit(thresholds), UNITS, np.random.default_rng(5), n=400, stratified=False)
    rows = np.random.default_rng(5).integers(0, 10, (400, 10))
    naive = np.array([[brute_force(Y[row], P[row], threshold) for threshold in thresholds] for row in rows])
    np.testing.assert_allclose([estimate.low, estimate.high], np.quantile(naive, [0.025, 0.975], axis=0), atol=1e-12)
    gained = interval(gain([0.5]), UNITS, np.random.default_rng(5), n=400, stratified=False)
    expected = naive[:, 1] - np.maximum(Y[rows].mean(axis=1) * 2 - 1, 0)
    assert gained.low[0] == pytest.approx(np.quantile(expected, 0.025), abs=1e-12)


def test_a_model_against_itself_gains_nothing_and_against_noise_something():
    rng = np.random.default_rng(6)
    y = rng.integers(0, 2, 400)
    good = np.clip(0.5 + 0.35 * (2 * y - 1) + 0.1 * rng.normal(size=400), 0, 1)
    units, benefit = Units.of(y, good, rng.random(400)), net_benefit([0.3, 0.5])

    def gained(weights, other):
        return benefit(units, weights) - benefit(units.model(other), weights)

    same, better = (interval(lambda _, w, other=other: gained(w, other), units, rng, n=200) for other in (0, 1))
    assert not np.any([same.value, same.low, same.high])
    assert (better.low > 0).all()


def test_patients_widen_the_interval_of_repeated_rows():
    repeated = np.repeat(np.arange(10), 6)
    widths = []
    for patient in (None, repeated):
        table = decision_curve(Units.of(Y[repeated], P[repeated], patient=patient), [0.3], intervals=True)
        widths.append((table["net_benefit_high"] - table["net_benefit_low"]).iloc[0])
    assert widths[1] > 1.8 * widths[0]  # sqrt(6) = 2.4 in theory


def test_default_grid_and_wrong_arguments():
    table = decision_curve(UNITS)
    assert len(table) == 99 and table["threshold"].iloc[[0, -1]].tolist() == [0.01, 0.99]
    assert list(table.columns[:4]) == ["threshold", "net_benefit", "treat_all", "treat_none"]
    assert np.isnan(decision_curve(UNITS, [0.0])["interventions_avoided_per_100"].iloc[0])
    for thresholds in ([1.0], [-0.1], [50]):
        with pytest.raises(ValueError, match="thresholds"):
            net_benefit(thresholds)
    with pytest.raises(ValueError, match="prevalence"):
        net_benefit([0.5], 40)
    with pytest.raises(ValueError, match="probabilities"):
        decision_curve(Units.of(Y, 10 * P), [0.5])
