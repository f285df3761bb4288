"""Another prevalence. Truth: Bayes' rule by hand, a population drawn with that prevalence, R's offset model by algebra."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit, logit

from alneval.bootstrap import weighted_auc
from alneval.calibration import calibration_intercept, calibration_slope
from alneval.decision_curve import net_benefit, net_benefit_treat_all
from alneval.prevalence import (
    PREVALENCE_COLUMNS,
    class_weights,
    decision_curve_at_prevalence,
    predictive_values,
    prevalence_table,
    prior_shift,
)
from alneval.roc import auc

# 100 with the outcome, 80 called; 100 without, 30 called
Y = np.repeat([1, 0], 100)
CALLED = np.r_[np.ones(80), np.zeros(20), np.ones(30), np.zeros(70)]


def sample(rng, n, prevalence):
    """Scores that are N(1.2, 1) with and N(0, 1) without the outcome, and the exact probability at that prevalence."""
    y = (rng.random(n) < prevalence).astype(int)
    x = rng.normal(1.2 * y, 1)
    return y, x, expit(logit(prevalence) + 1.2 * x - 0.72)


def test_bayes_by_hand():
    """At 20 %: of 1,000 patients 160 true and 240 false calls, 560 true and 40 false all-clears."""
    found = predictive_values(Y, CALLED, 0.5, 0.2)
    assert (found.ppv, found.npv) == pytest.approx((160 / 400, 560 / 600))
    own = predictive_values(Y, CALLED, 0.5, 0.5)
    assert (own.ppv, own.npv) == pytest.approx((80 / 110, 70 / 90)), "at the sample's own share the plain proportions"
    # Mercaldo, Lau & Zhou 2007, equations of the logit intervals, in numbers
    error = np.sqrt(0.2 / 0.8 / 100 + 0.7 / 0.3 / 100)
    assert (found.ppv_low, found.ppv_high) == pytest.approx(expit(logit(0.4) + 1.959964 * error * np.array([-1, 1])))
    error = np.sqrt(0.8 / 0.2 / 100 + 0.3 / 0.7 / 100)
    assert (found.npv_low, found.npv_high) == pytest.approx(
        expit(logit(560 / 600) + 1.959964 * error * np.array([-1, 1]))
    )
    assert "at 20%" in str(found)


def test_predictive_values_where_all_or_nobody_is_called():
    nobody = predictive_values(Y, CALLED, 2, 0.3)
    assert np.isnan(nobody.ppv) and np.isnan(nobody.ppv_low) and nobody.npv == pytest.approx(0.7)
    perfect = predictive_values(Y, Y, 1, 0.3)
    assert (perfect.ppv, perfect.npv) == (1, 1)
    assert perfect.ppv_low < 1 and perfect.npv_low < 1, "a hundred right answers are no certainty"
    with pytest.raises(ValueError, match="both classes"):
        predictive_values(np.ones(4), np.ones(4), 1, 0.3)
    with pytest.raises(ValueError, match="strictly between"):
        predictive_values(Y, CALLED, 0.5, 30)


def test_patients_widen_the_interval_of_repeated_rows():
    rows = np.repeat(np.arange(200), 5)
    alone = predictive_values(Y[rows], CALLED[rows], 0.5, 0.2)
    by_patient = predictive_values(
        Y[rows], CALLED[rows], 0.5, 0.2, cluster=rows, rng=np.random.default_rng(0), n_bootstrap=800
    )
    once = predictive_values(Y, CALLED, 0.5, 0.2)
    assert by_patient.ppv == alone.ppv == once.ppv
    assert by_patient.ppv_high - by_patient.ppv_low > 1.8 * (alone.ppv_high - alone.ppv_low)  # sqrt(5) in theory
    assert by_patient.ppv_high - by_patient.ppv_low == pytest.approx(once.ppv_high - once.ppv_low, rel=0.15)
    with pytest.raises(ValueError, match="rng"):
        predictive_values(Y, CALLED, 0.5, 0.2, cluster=np.arange(200))


def test_interval_of_the_positive_predictive_value_covers():
    """Simulated: the true value at 20 % lies in 93 to 97 % of 1,500 intervals."""
    rng = np.random.default_rng(1)
    truth, inside = 0.8 * 0.2 / (0.8 * 0.2 + 0.25 * 0.8), 0
    for _ in range(1500):
        called = np.r_[rng.random(60) < 0.8, rng.random(140) < 0.25]
        found = predictive_values(np.repeat([1, 0], [60, 140]), called, 1, 0.2)
        inside += found.ppv_low <= truth <= found.ppv_high
    assert 0.93 <= inside / 1500 <= 0.97


def test_shift_agrees_with_elkans_theorem_and_back_again():
    """Elkan 2001, theorem 2: p' = b' (p - p b) / (b - p b + b' p - b b')."""
    p, b, target = np.array([0.02, 0.3, 0.5, 0.97]), 0.5, 0.12
    expected = target * (p - p * b) / (b - p * b + target * p - b * target)
    np.testing.assert_allclose(prior_shift(p, b, target), expected, rtol=1e-12)
    np.testing.assert_allclose(prior_shift(prior_shift(p, b, target), target, b), p, rtol=1e-12)
    np.testing.assert_allclose(prior_shift([0.0, 1.0], 0.4, 0.1), [0, 1])
    y = [0, 1, 0, 1]
    assert auc(y, prior_shift(p, b, target)) == auc(y, p)


def test_probabilities_of_a_balanced_sample_are_calibrated_in_the_population_after_the_shift():
    """Exact probabilities at 50 %, judged on patients drawn at 10 %."""
    rng = np.random.default_rng(2)
    y, x, exact = sample(rng, 20_000, 0.1)
    balanced = expit(1.2 * x - 0.72)
    np.testing.assert_allclose(prior_shift(balanced, 0.5, 0.1), exact, rtol=1e-10)
    assert calibration_intercept(y, balanced).high < -1.9
    moved = prior_shift(balanced, 0.5, 0.1)
    assert calibration_intercept(y, moved).low < 0 < calibration_intercept(y, moved).high
    assert calibration_slope(y, moved).value == pytest.approx(1, abs=0.06)


def test_weights_turn_a_balanced_sample_into_the_population():
    rng = np.random.default_rng(3)
    y, x, p = sample(rng, 4000, 0.5)
    weights = class_weights(y, 0.1)
    assert weights.mean() == pytest.approx(1)
    assert np.average(y, weights=weights) == pytest.approx(0.1)
    assert weighted_auc(y, x, weights[None, :])[0] == pytest.approx(auc(y, x)), "the AUC has no prevalence"
    moved = prior_shift(p, 0.5, 0.1)
    population_y, _, population_p = sample(rng, 200_000, 0.1)
    brier = np.average((moved - y) ** 2, weights=weights)
    assert brier == pytest.approx(np.mean((population_p - population_y) ** 2), abs=0.004)


def test_decision_curve_at_a_prevalence_is_that_of_patients_drawn_there():
    rng = np.random.default_rng(4)
    y, _, p = sample(rng, 20_000, 0.5)
    population_y, _, population_p = sample(rng, 200_000, 0.1)
    thresholds = [0.05, 0.1, 0.2, 0.4]
    curve = decision_curve_at_prevalence(y, p, 0.1, prevalence_from=0.5, thresholds=thresholds)
    np.testing.assert_allclose(curve["net_benefit"], net_benefit(population_y, population_p, thresholds), atol=0.003)
    np.testing.assert_allclose(curve["treat_all"], net_benefit_treat_all(0.1, thresholds))
    weights, moved = class_weights(y, 0.1), prior_shift(p, 0.5, 0.1)
    by_weight = [
        np.average((moved >= t) & (y == 1), weights=weights)
        - np.average((moved >= t) & (y == 0), weights=weights) * t / (1 - t)
        for t in thresholds
    ]
    np.testing.assert_allclose(curve["net_benefit"], by_weight, atol=1e-12)
    uncorrected = decision_curve_at_prevalence(y, p, 0.1, thresholds=thresholds)
    assert (uncorrected["net_benefit"] < curve["net_benefit"] - 0.01).iloc[:3].all(), "risks five times too high"


def test_table_has_a_row_per_prevalence_and_nothing_where_no_cut_off_was_locked():
    rng = np.random.default_rng(5)
    y, _, p = sample(rng, 400, 0.5)
    table = prevalence_table(y, p, 0.4, [0.1, 0.3], prevalence_from=0.5, threshold_probability=0.2)
    assert tuple(table) == PREVALENCE_COLUMNS and table["prevalence"].tolist() == [0.1, 0.3]
    assert table["ppv"].iloc[0] < table["ppv"].iloc[1] and table["npv"].iloc[0] > table["npv"].iloc[1]
    expected = decision_curve_at_prevalence(y, p, 0.1, prevalence_from=0.5, thresholds=[0.2])
    assert table["net_benefit"].iloc[0] == expected["net_benefit"].iloc[0]
    empty = prevalence_table(y, p, np.nan, [0.1], prevalence_from=None, threshold_probability=0.2)
    assert empty["ppv"].isna().all() and (empty["net_benefit"] == empty["net_benefit_uncorrected"]).all()
