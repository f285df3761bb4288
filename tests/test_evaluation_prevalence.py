"""Another prevalence. Truth: Bayes' rule by hand, a population drawn with that prevalence, R's offset model by algebra."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit, logit

from alneval.calibration import calibration_intercept, calibration_slope
from alneval.decision_curve import decision_curve, net_benefit
from alneval.delong import auc
from alneval.estimate import once
from alneval.prevalence import PREVALENCE_COLUMNS, predictive_values, prevalence_table, prior_shift
from alneval.units import Units

# 100 with the outcome, 80 called; 100 without, 30 called
Y = np.repeat([1, 0], 100)
CALLED = np.r_[np.ones(80), np.zeros(20), np.ones(30), np.zeros(70)]
UNITS = Units.of(Y, CALLED)


def sample(rng, n, prevalence):
    """Scores that are N(1.2, 1) with and N(0, 1) without the outcome, and the exact probability at that prevalence."""
    y = (rng.random(n) < prevalence).astype(int)
    x = rng.normal(1.2 * y, 1)
    return y, x, expit(logit(prevalence) + 1.2 * x - 0.72)


def test_bayes_by_hand():
    """At 20 %: of 1,000 patients 160 true and 240 false calls, 560 true and 40 false all-clears."""
    ppv, npv = predictive_values(UNITS, 0.5, 0.2)
    assert (ppv.value, npv.value) == pytest.approx((160 / 400, 560 / 600))
    own = [estimate.value for estimate in predictive_values(UNITS, 0.5, 0.5)]
    assert own == pytest.approx([80 / 110, 70 / 90]), "at the sample's own share the plain proportions"
    # Mercaldo, Lau & Zhou 2007, equations of the logit intervals, in numbers
    reach = 1.959964 * np.array([-1, 1])
    error = np.sqrt(0.2 / 0.8 / 100 + 0.7 / 0.3 / 100)
    assert (ppv.low, ppv.high) == pytest.approx(expit(logit(0.4) + error * reach))
    error = np.sqrt(0.8 / 0.2 / 100 + 0.3 / 0.7 / 100)
    assert (npv.low, npv.high) == pytest.approx(expit(logit(560 / 600) + error * reach))


def test_predictive_values_where_all_or_nobody_is_called():
    ppv, npv = predictive_values(UNITS, 2, 0.3)
    assert np.isnan(ppv.value) and np.isnan(ppv.low) and npv.value == pytest.approx(0.7)
    for perfect in predictive_values(Units.of(Y, Y), 1, 0.3):
        assert perfect.low < perfect.value == 1, "a hundred right answers are no certainty"
    with pytest.raises(ValueError, match="both classes"):
        predictive_values(Units.of(np.ones(4), np.ones(4)), 1, 0.3)
    with pytest.raises(ValueError, match="strictly between"):
        predictive_values(UNITS, 0.5, 30)


def test_patients_widen_the_interval_of_repeated_rows():
    rows = np.repeat(np.arange(200), 5)
    repeated, of_patients = (Units.of(Y[rows], CALLED[rows], patient=patient) for patient in (None, rows))
    alone, once = (predictive_values(units, 0.5, 0.2)[0] for units in (repeated, UNITS))
    by_patient = predictive_values(of_patients, 0.5, 0.2, rng=np.random.default_rng(0), n_bootstrap=800)[0]
    assert by_patient.value == alone.value == once.value
    assert by_patient.high - by_patient.low > 1.8 * (alone.high - alone.low)  # sqrt(5) in theory
    assert by_patient.high - by_patient.low == pytest.approx(once.high - once.low, rel=0.15)
    with pytest.raises(ValueError, match="rng"):
        predictive_values(of_patients, 0.5, 0.2)


def test_interval_of_the_positive_predictive_value_covers():
    """Simulated: the true value at 20 % lies in 93 to 97 % of 1,500 intervals."""
    rng = np.random.default_rng(1)
    truth, inside = 0.8 * 0.2 / (0.8 * 0.2 + 0.25 * 0.8), 0
    for _ in range(1500):
        called = np.r_[rng.random(60) < 0.8, rng.random(140) < 0.25]
        ppv, _ = predictive_values(Units.of(np.repeat([1, 0], [60, 140]), called), 1, 0.2)
        inside += ppv.low <= truth <= ppv.high
    assert 0.93 <= inside / 1500 <= 0.97


def test_shift_agrees_with_elkans_theorem_and_back_again():
    """Elkan 2001, theorem 2: p' = b' (p - p b) / (b - p b + b' p - b b')."""
    p, b, target = np.array([0.02, 0.3, 0.5, 0.97]), 0.5, 0.12
    units = Units.of([0, 1, 0, 1], p)
    moved = prior_shift(units, b, target)
    expected = target * (p - p * b) / (b - p * b + target * p - b * target)
    np.testing.assert_allclose(moved.score, expected, rtol=1e-12)
    np.testing.assert_allclose(prior_shift(moved, target, b).score, p, rtol=1e-12)
    np.testing.assert_allclose(prior_shift(Units.of([0, 1], [0.0, 1.0]), 0.4, 0.1).score, [0, 1])
    assert auc(moved.positive, moved.score) == auc(units.positive, p)


def test_probabilities_of_a_balanced_sample_are_calibrated_in_the_population_after_the_shift():
    """Exact probabilities at 50 %, judged on patients drawn at 10 %."""
    y, x, exact = sample(np.random.default_rng(2), 20_000, 0.1)
    balanced = Units.of(y, expit(1.2 * x - 0.72))
    moved = prior_shift(balanced, 0.5, 0.1)
    np.testing.assert_allclose(moved.score, exact, rtol=1e-10)
    assert calibration_intercept(balanced).high < -1.9
    assert calibration_intercept(moved).low < 0 < calibration_intercept(moved).high
    assert calibration_slope(moved).value == pytest.approx(1, abs=0.06)


def test_net_benefit_at_a_prevalence_is_that_of_patients_drawn_there():
    rng = np.random.default_rng(4)
    y, _, p = sample(rng, 20_000, 0.5)
    population_y, _, population_p = sample(rng, 200_000, 0.1)
    for threshold in (0.05, 0.1, 0.2):
        options = {"prevalence_from": 0.5, "threshold_probability": threshold}
        row = prevalence_table(Units.of(y, p), np.nan, [0.1], **options).iloc[0]
        expected = once(net_benefit([threshold]), Units.of(population_y, population_p))[0]
        assert row["net_benefit"] == pytest.approx(expected, abs=0.003)
        assert row["net_benefit_uncorrected"] < row["net_benefit"] - 0.01, "risks five times too high"


def test_table_has_a_row_per_prevalence_and_nothing_where_no_cut_off_was_locked():
    y, _, p = sample(np.random.default_rng(5), 400, 0.5)
    units = Units.of(y, p)
    table = prevalence_table(units, 0.4, [0.1, 0.3], prevalence_from=0.5, threshold_probability=0.2)
    assert tuple(table) == PREVALENCE_COLUMNS and table["prevalence"].tolist() == [0.1, 0.3]
    assert table["ppv"].iloc[0] < table["ppv"].iloc[1] and table["npv"].iloc[0] > table["npv"].iloc[1]
    expected = decision_curve(prior_shift(units, 0.5, 0.1), [0.2], prevalence=0.1)
    assert table["net_benefit"].iloc[0] == expected["net_benefit"].iloc[0]
    empty = prevalence_table(units, np.nan, [0.1], prevalence_from=None, threshold_probability=0.2)
    assert empty["ppv"].isna().all() and (empty["net_benefit"] == empty["net_benefit_uncorrected"]).all()
