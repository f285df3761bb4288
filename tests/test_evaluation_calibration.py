"""Calibration. Truth: R 4.2.2 (glm, lowess), rms 6.5.0 (val.prob), sandwich, and cases with a known answer."""

import json
from math import inf, isnan
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from alneval.bootstrap import resample_weights
from alneval.calibration import (
    brier_score,
    calibration_errors,
    calibration_intercept,
    calibration_slope,
    calibration_summary,
    calibration_summary_and_curve,
    expected_observed_ratio,
    flexible_calibration_curve,
    hosmer_lemeshow,
    joint_calibration,
    scaled_brier_score,
)

REFERENCES = Path(__file__).parent / "references" / "evaluation"
EXPECTED = json.loads((REFERENCES / "expected.json").read_text())


@pytest.fixture(scope="module")
def data():
    return pd.read_csv(REFERENCES / "calibration.csv")


@pytest.mark.parametrize("column", ["p", "p_tied", "p_groups"])
def test_logistic_calibration_agrees_with_glm_and_val_prob(data, column):
    reference = EXPECTED[f"calibration_{column}"]
    intercept, slope = calibration_intercept(data["y"], data[column]), calibration_slope(data["y"], data[column])
    assert intercept.value == pytest.approx(reference["intercept"], abs=1e-8)
    assert intercept.standard_error == pytest.approx(reference["intercept_se"], abs=1e-8)
    assert [intercept.low, intercept.high] == pytest.approx(reference["intercept_limits"], abs=1e-6)
    assert slope.value == pytest.approx(reference["slope"], abs=1e-8)
    assert slope.standard_error == pytest.approx(reference["slope_se"], abs=1e-8)
    assert [slope.low, slope.high] == pytest.approx(reference["slope_limits"], abs=1e-6)
    joint = joint_calibration(data["y"], data[column])
    assert joint == pytest.approx((reference["joint_intercept"], reference["slope"]), abs=1e-8)
    # lrm.fit inside val.prob stops earlier than glm
    assert joint == pytest.approx((reference["val_prob"]["Intercept"], reference["val_prob"]["Slope"]), abs=1e-5)
    assert brier_score(data["y"], data[column]) == pytest.approx(reference["val_prob"]["Brier"], abs=1e-10)


def test_variance_between_patients_agrees_with_sandwich():
    """R 4.2.2, sandwich: vcovCL(glm(...), cluster, type = "HC0"), on nodes whose log odds are a / 4."""
    nodes = pd.read_csv(REFERENCES / "clustered.csv", dtype={"patient": "str"})
    p = 1 / (1 + np.exp(-nodes["a"] / 4))
    for function, name in ((calibration_intercept, "intercept"), (calibration_slope, "slope")):
        reference = EXPECTED["calibration_by_patient"][name]
        estimate = function(nodes["y"], p, cluster=nodes["patient"])
        assert estimate.value == pytest.approx(reference["value"], abs=1e-8)
        assert estimate.standard_error == pytest.approx(reference["se"], abs=1e-8)
        assert estimate.high - estimate.low == pytest.approx(2 * 1.959964 * reference["se"], abs=1e-5)
        assert estimate.value == function(nodes["y"], p).value
        shuffled = nodes.sample(frac=1, random_state=np.random.default_rng(2)).index
        again = function(nodes["y"][shuffled], p[shuffled], cluster=nodes["patient"][shuffled])
        assert again.standard_error == pytest.approx(estimate.standard_error, abs=1e-8)
    summary = calibration_summary(
        nodes["y"], p, rng=np.random.default_rng(0), n_bootstrap=5, cluster=nodes["patient"].to_numpy()
    )
    assert summary.slope == calibration_slope(nodes["y"], p, cluster=nodes["patient"])
    one_patient = calibration_slope(nodes["y"], p, cluster=np.zeros(len(nodes)))
    assert one_patient.value == estimate.value and isnan(one_patient.low) and isnan(one_patient.standard_error)


@pytest.mark.parametrize("column", ["p", "p_tied", "p_groups"])
def test_flexible_curve_and_its_errors_agree_with_val_prob(data, column):
    """p_groups has 199 of 220 patients at one probability: a neighborhood of the local fit without any width."""
    reference = EXPECTED[f"calibration_{column}"]
    curve = flexible_calibration_curve(data["y"], data[column], grid=data[column])
    np.testing.assert_allclose(curve.observed, reference["smooth"], atol=1e-6)
    errors = calibration_errors(data["y"], data[column])
    expected = (reference["val_prob"]["Eavg"], reference["e50"], reference["val_prob"]["E90"])
    assert (errors.ici, errors.e50, errors.e90) == pytest.approx(expected, abs=1e-6)
    assert errors.emax == pytest.approx(reference["val_prob"]["Emax"], abs=1e-6)


@pytest.mark.parametrize("column", ["p", "p_tied"])
def test_hosmer_lemeshow_agrees_with_r(data, column):
    reference = EXPECTED[f"hosmer_{column}"]
    external = hosmer_lemeshow(data["y"], data[column])
    assert external.chi_squared == pytest.approx(reference["chi_squared"], abs=1e-8)
    assert (external.n_groups, external.degrees_of_freedom) == (reference["groups"], reference["groups"])
    assert external.p == pytest.approx(reference["p_external"], abs=1e-8)
    internal = hosmer_lemeshow(data["y"], data[column], fitted_on_these_data=True)
    assert internal.degrees_of_freedom == reference["groups"] - 2
    assert internal.p == pytest.approx(reference["p_internal"], abs=1e-8)


def test_planted_miscalibration_is_found():
    """Outcomes drawn from log odds 0.5 + 0.6 x prediction: slope 0.6; halved odds move the intercept by log 2."""
    rng = np.random.default_rng(4)
    log_odds = rng.normal(size=40_000)
    y = rng.random(log_odds.size) < 1 / (1 + np.exp(-(0.5 + 0.6 * log_odds)))
    intercept, slope = joint_calibration(y, 1 / (1 + np.exp(-log_odds)))
    assert (intercept, slope) == pytest.approx((0.5, 0.6), abs=0.05)
    calibrated = 1 / (1 + np.exp(-(0.5 + 0.6 * log_odds)))
    assert calibration_errors(y, calibrated).ici < 0.01
    halved = 1 / (1 + 2 * np.exp(-(0.5 + 0.6 * log_odds)))
    shift = calibration_intercept(y, halved).value - calibration_intercept(y, calibrated).value
    assert shift == pytest.approx(np.log(2), abs=1e-6)


def test_scaled_brier_and_ratio_at_their_anchors():
    y = np.array([1, 0, 0, 1, 0])
    assert scaled_brier_score(y, y) == 1
    assert scaled_brier_score(y, np.full(5, 0.4)) == pytest.approx(0)
    assert brier_score(y, np.full(5, 0.4)) == pytest.approx(0.24)
    assert expected_observed_ratio(y, np.full(5, 0.6)) == pytest.approx(1.5)
    assert isnan(scaled_brier_score([1, 1], [0.2, 0.4])) and isnan(expected_observed_ratio([0, 0], [0.2, 0.4]))


def test_certain_predictions_are_clipped_and_counted():
    y, p = [0, 1, 0, 1, 1, 0], [0.0, 1.0, 0.3, 0.2, 0.7, 0.9]
    slope = calibration_slope(y, p)
    assert slope.n_clipped == 2 and np.isfinite(slope.value)
    clipped = [1e-6, 1 - 1e-6, 0.3, 0.2, 0.7, 0.9]
    assert slope.value == calibration_slope(y, clipped).value
    assert calibration_slope(y, clipped).n_clipped == 0
    with pytest.raises(ValueError, match="clip"):
        calibration_slope(y, p, clip=0)


def test_wrong_certainty_costs_infinity_in_hosmer_lemeshow():
    assert hosmer_lemeshow([0, 0, 1, 1], [0, 0, 1, 1]).chi_squared == 0
    wrong = hosmer_lemeshow([1, 0, 1, 1], [0, 0, 1, 1])
    assert (wrong.chi_squared, wrong.p) == (inf, 0)


def test_degenerate_predictions_give_nan_with_a_reason():
    y = np.array([0, 1, 0, 1, 1])
    assert "constant" in calibration_slope(y, np.full(5, 0.4)).note
    assert isnan(calibration_slope(y, np.full(5, 0.4)).value)
    assert "separated" in calibration_slope(y, 0.1 + 0.8 * y).note
    assert "one class" in calibration_intercept(np.ones(5), np.linspace(0.1, 0.9, 5)).note
    assert str(calibration_slope(y, np.full(5, 0.4))) == "not estimable [constant predictions]"
    constant = calibration_errors(y, np.full(5, 0.4))
    assert constant.ici == pytest.approx(0.2) and constant.emax == pytest.approx(0.2)
    assert isnan(hosmer_lemeshow(y, np.full(5, 0.4), fitted_on_these_data=True).p)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("y", "p"),
    [
        ([0, 1, 0, 1, 1], [0.4] * 5),
        ([1, 1, 1], [0.2, 0.5, 0.9]),
        ([0, 0, 0], [0.0, 0.5, 1.0]),
        ([0, 1], [0.0, 1.0]),
        ([1], [0.3]),
        ([0, 0, 1, 1, 1, 0], [0.1, 0.1, 0.1, 0.1, 0.1, 0.8]),
    ],
)
def test_summary_never_crashes_on_degenerate_cohorts(y, p):
    summary = calibration_summary(y, p, rng=np.random.default_rng(0), n_bootstrap=20)
    assert summary.n == len(y) and 0 <= summary.brier.low <= summary.brier.estimate <= 1
    assert "Brier" in str(summary)


def test_summary_puts_the_parts_together(data):
    summary = calibration_summary(data["y"], data["p"], rng=np.random.default_rng(0), n_bootstrap=200)
    reference = EXPECTED["calibration_p"]
    assert summary.slope.value == pytest.approx(reference["slope"], abs=1e-8)
    assert summary.joint_intercept == pytest.approx(reference["joint_intercept"], abs=1e-8)
    assert summary.ici.estimate == summary.errors.ici == pytest.approx(reference["val_prob"]["Eavg"], abs=1e-6)
    for interval in (summary.brier, summary.scaled_brier, summary.expected_observed, summary.ici):
        assert interval.low < interval.estimate < interval.high and interval.n_undefined == 0
    squared = (data["p"] - data["y"]) ** 2
    assert summary.brier.standard_error == pytest.approx(squared.std() / np.sqrt(len(data)), rel=0.15)
    again = calibration_summary(data["y"], data["p"], rng=np.random.default_rng(0), n_bootstrap=200)
    assert again == summary


def test_band_surrounds_the_curve_and_patients_widen_it(data):
    grid = np.array([0.01, 0.2, 0.4, 0.6, 0.99])
    five = np.repeat(np.arange(len(data)), 3)
    y, p = data["y"].to_numpy()[five], data["p"].to_numpy()[five]
    options = {"grid": grid, "n_bootstrap": 60}
    by_row = flexible_calibration_curve(y, p, rng=np.random.default_rng(0), **options)
    by_patient = flexible_calibration_curve(y, p, rng=np.random.default_rng(0), cluster=five, **options)
    inner = slice(1, 4)
    assert (by_patient.low[inner] < by_patient.observed[inner]).all()
    assert (by_patient.high[inner] > by_patient.observed[inner]).all()
    assert ((by_patient.high - by_patient.low)[inner] > (by_row.high - by_row.low)[inner]).all()
    assert isnan(by_row.observed[4]) and isnan(by_row.high[4])  # beyond the largest probability nothing is claimed
    with pytest.raises(ValueError, match="rng"):
        flexible_calibration_curve(y, p, n_bootstrap=10)


def test_scores_that_are_no_probabilities_are_refused():
    for function in (brier_score, calibration_slope, calibration_errors, hosmer_lemeshow):
        with pytest.raises(ValueError, match="probabilities"):
            function([0, 1], [0.2, 1.7])


@pytest.mark.parametrize("rows_per_patient", [1, 3])
def test_summary_and_curve_together_are_those_made_apart(rows_per_patient):
    """The same seed draws the same resamples; probabilities with ties, as a stranger rounds them."""
    rng = np.random.default_rng(20)
    p = np.round(rng.random(90), 2)
    y = (rng.random(90) < p**1.5).astype(int)
    cluster = np.repeat(np.arange(90 // rows_per_patient), rows_per_patient) if rows_per_patient > 1 else None
    summary, curve = calibration_summary_and_curve(y, p, rng=np.random.default_rng(1), n_bootstrap=40, cluster=cluster)
    apart = flexible_calibration_curve(y, p, rng=np.random.default_rng(1), n_bootstrap=40, cluster=cluster)
    for name in ("predicted", "observed", "low", "high"):
        np.testing.assert_allclose(getattr(curve, name), getattr(apart, name), rtol=1e-12)
    weights = np.concatenate(list(resample_weights(90, 40, np.random.default_rng(1), cluster=cluster))).astype(int)
    rows = [np.repeat(np.arange(90), counts) for counts in weights]
    icis = [calibration_errors(y[index], p[index]).ici for index in rows]
    assert (summary.ici.low, summary.ici.high) == pytest.approx(tuple(np.quantile(icis, [0.025, 0.975])), rel=1e-12)
