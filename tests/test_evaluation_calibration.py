"""Calibration. Truth: R 4.2.2 (glm, loess, lowess), rms 6.5.0 (val.prob), sandwich, and cases with a known answer."""

import json
import tracemalloc
from math import inf, isnan
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from alneval.calibration import (
    RESAMPLED_VERTICES,
    calibration_errors,
    calibration_intercept,
    calibration_slope,
    calibration_summary,
    flexible_curve,
    hosmer_lemeshow,
    joint_calibration,
    loess_curve,
    log_odds,
    no_slope,
    observed_expected_ratio,
    scaled_brier,
)
from alneval.curves import brier
from alneval.estimate import once, resamples
from alneval.units import Units

REFERENCES = Path(__file__).parent / "references" / "evaluation"
EXPECTED = json.loads((REFERENCES / "expected.json").read_text())
LOESS = json.loads((REFERENCES.parent / "loess" / "expected.json").read_text())


def units_of(column: str) -> Units:
    table = pd.read_csv(REFERENCES / "calibration.csv")
    return Units.of(table["y"], table[column])


def summary_of(units: Units, n_bootstrap: int, seed: int = 0):
    return calibration_summary(units, np.random.default_rng(seed), n_bootstrap=n_bootstrap)


@pytest.mark.parametrize("column", ["p", "p_tied", "p_groups"])
def test_logistic_calibration_agrees_with_glm_and_val_prob(column):
    reference, units = EXPECTED[f"calibration_{column}"], units_of(column)
    for name, estimate in (("intercept", calibration_intercept(units)), ("slope", calibration_slope(units))):
        assert estimate.value == pytest.approx(reference[name], abs=1e-8)
        assert estimate.standard_error == pytest.approx(reference[f"{name}_se"], abs=1e-8)
        assert [estimate.low, estimate.high] == pytest.approx(reference[f"{name}_limits"], abs=1e-6)
    joint = [estimate.value for estimate in joint_calibration(units)]
    assert joint == pytest.approx([reference["joint_intercept"], reference["slope"]], abs=1e-8)
    # lrm.fit inside val.prob stops earlier than glm
    assert joint == pytest.approx([reference["val_prob"]["Intercept"], reference["val_prob"]["Slope"]], abs=1e-5)
    assert once(brier, units) == pytest.approx(reference["val_prob"]["Brier"], abs=1e-10)


def test_variance_between_patients_agrees_with_sandwich():
    """R 4.2.2, sandwich: vcovCL(glm(...), cluster, type = "HC0"), on nodes whose log odds are a / 4."""
    nodes = pd.read_csv(REFERENCES / "clustered.csv", dtype={"patient": "str"})
    nodes["p"] = 1 / (1 + np.exp(-nodes["a"] / 4))
    units = Units.of(nodes["y"], nodes["p"], patient=nodes["patient"])
    shuffled = nodes.sample(frac=1, random_state=np.random.default_rng(2))
    for function, name in ((calibration_intercept, "intercept"), (calibration_slope, "slope")):
        reference, estimate = EXPECTED["calibration_by_patient"][name], function(units)
        assert estimate.value == pytest.approx(reference["value"], abs=1e-8)
        assert estimate.standard_error == pytest.approx(reference["se"], abs=1e-8)
        assert estimate.high - estimate.low == pytest.approx(2 * 1.959964 * reference["se"], abs=1e-5)
        assert estimate.value == function(Units.of(nodes["y"], nodes["p"])).value
        again = function(Units.of(shuffled["y"], shuffled["p"], patient=shuffled["patient"]))
        assert again.standard_error == pytest.approx(estimate.standard_error, abs=1e-8)
    assert summary_of(units, 5).slope == calibration_slope(units)
    one_patient = calibration_slope(Units.of(nodes["y"], nodes["p"], patient=np.zeros(len(nodes))))
    assert one_patient.value == estimate.value and isnan(one_patient.low) and isnan(one_patient.standard_error)


@pytest.mark.parametrize("column", ["p", "p_tied", "p_groups"])
def test_lowess_curve_and_its_errors_agree_with_val_prob(column):
    """p_groups has 199 of 220 patients at one probability: a neighborhood of the local fit without any width."""
    reference, units = EXPECTED[f"calibration_{column}"], units_of(column)
    np.testing.assert_allclose(flexible_curve(units, units.probability, "lowess"), reference["smooth"], atol=1e-6)
    errors = calibration_errors(units, "lowess")
    expected = (reference["val_prob"]["Eavg"], reference["e50"], reference["val_prob"]["E90"])
    assert (errors.ici, errors.e50, errors.e90) == pytest.approx(expected, abs=1e-6)
    assert errors.emax == pytest.approx(reference["val_prob"]["Emax"], abs=1e-6)
    assert vars(summary_of(units, 5).lowess_errors) == vars(errors)


def loess_units(name: str) -> Units:
    data, nodes = (pd.read_csv(REFERENCES / f"{table}.csv") for table in ("calibration", "clustered"))
    i = np.arange(1, 2001)
    skewed = ((i - 0.5) / 2000) ** 4
    return {
        "p": lambda: Units.of(data["y"], data["p"]),
        "p_tied": lambda: Units.of(data["y"], data["p_tied"]),
        "groups_of_three": lambda: Units.of(data["y"], np.select([data["p"] > 0.6, data["p"] > 0.3], [0.8, 0.4], 0.1)),
        "two_values": lambda: Units.of(data["y"], np.where(data["p"] > 0.3, 0.6, 0.2)),
        "by_patient": lambda: Units.of(nodes["y"], 1 / (1 + np.exp(-nodes["a"] / 4)), patient=nodes["patient"]),
        "skewed": lambda: Units.of((i * 7919) % 101 / 101 < skewed**0.7, skewed),
        "few": lambda: Units.of([0, 1, 0, 1], [0.1, 0.2, 0.3, 0.7]),
    }[name]()


@pytest.mark.parametrize("name", [name for name in LOESS if name != "R"])
def test_ici_is_that_of_loess_as_cited(name):
    """R 4.2.2, loess(y ~ p, span = 0.75, degree = 2, surface = "direct"), ties and few distinct probabilities included."""
    reference, units = LOESS[name], loess_units(name)
    np.testing.assert_allclose(flexible_curve(units, units.probability), reference["smooth"], atol=1e-6)
    errors = calibration_errors(units)
    assert vars(errors) == pytest.approx({key: reference[key] for key in ("ici", "e50", "e90", "emax")}, abs=1e-6)
    assert summary_of(units, 5).errors == errors


def test_a_neighborhood_without_width_has_the_outcome_of_its_tie():
    """199 of 220 patients at one probability, where R warns and gives 0; the others' neighborhood reaches only that one."""
    units = units_of("p_groups")
    means = [units.positive[units.probability == value].mean() for value in (0.3, 0.6, 0.9)]
    np.testing.assert_allclose(flexible_curve(units, np.array([0.3, 0.6, 0.9])), means, atol=1e-9)


def test_loess_of_a_resample_is_that_of_all_probabilities_within_1e4():
    """Among 128 distinct probabilities or fewer exactly; else a cubic between vertices."""
    rng = np.random.default_rng(12)
    p = rng.beta(0.6, 2, 600)
    units = Units.of(rng.random(600) < p**1.4, p)
    values, place = np.unique(p, return_inverse=True)
    counts, positives = np.bincount(place), np.bincount(place, weights=units.positive)
    curve = loess_curve(values, counts, positives, RESAMPLED_VERTICES)
    assert abs(np.abs(curve[place] - p).mean() - calibration_errors(units).ici) < 1e-4
    np.testing.assert_allclose(curve, flexible_curve(units, values), atol=5e-3)


def test_ten_thousand_patients_are_smoothed_in_pieces():
    """A local fit of each of 10,000 probabilities on 10,000: 800 MB at once, 16 MB in pieces."""
    p = (np.arange(10_000) + 0.5) / 10_000
    y = np.random.default_rng(5).random(p.size) < p
    tracemalloc.start()
    assert calibration_errors(Units.of(y, p)).ici < 0.02
    assert tracemalloc.get_traced_memory()[1] < 2e8
    tracemalloc.stop()


HARD = [1] * 58 + [0] * 65, [1] * 50 + [0] * 8 + [1] * 5 + [0] * 60


def test_predictions_of_0_and_1_alone_have_no_calibration_intercept_or_slope():
    """Log odds of plus and minus infinity: an intercept would be that of the clipping, and `glm` would not converge."""
    calls, y = HARD
    units = Units.of(y, calls)
    assert str(calibration_intercept(units)) == str(calibration_slope(units)) == "not estimable"
    assert summary_of(units, 5).n_clipped == len(y)
    intercept, slope = joint_calibration(units)  # recalibration: the share of positives of either call
    after = 1 / (1 + np.exp(-(intercept.value + slope.value * log_odds(np.array([0.0, 1.0])))))
    np.testing.assert_allclose(after, [5 / 65, 50 / 58], atol=1e-9)


def test_intercept_is_found_where_most_predictions_are_0_or_1():
    """The root of observed = expected, which Newton's whole steps overshoot without end."""
    calls, y = HARD
    mostly = np.array(calls, dtype=float)
    mostly[[0, 60]] = 0.8, 0.3
    units = Units.of(y, mostly)
    found = calibration_intercept(units)
    assert np.sum(1 / (1 + np.exp(-(found.value + log_odds(units.probability))))) == pytest.approx(sum(y), abs=1e-6)
    assert found.low < found.value < found.high and np.isfinite(calibration_slope(units).value)


@pytest.mark.parametrize("column", ["p", "p_tied"])
def test_hosmer_lemeshow_agrees_with_r(column):
    reference, test = EXPECTED[f"hosmer_{column}"], hosmer_lemeshow(units_of(column))
    assert test.statistic == pytest.approx(reference["chi_squared"], abs=1e-8)
    assert test.degrees_of_freedom == reference["groups"]
    assert test.p == pytest.approx(reference["p_external"], abs=1e-8)


def test_planted_miscalibration_is_found():
    """Outcomes drawn from log odds 0.5 + 0.6 x prediction: slope 0.6; halved odds move the intercept by log 2."""
    rng = np.random.default_rng(4)
    log_odds = rng.normal(size=40_000)
    y = rng.random(log_odds.size) < 1 / (1 + np.exp(-(0.5 + 0.6 * log_odds)))
    joint = joint_calibration(Units.of(y, 1 / (1 + np.exp(-log_odds))))
    assert [estimate.value for estimate in joint] == pytest.approx([0.5, 0.6], abs=0.05)
    calibrated, halved = (Units.of(y, 1 / (1 + odds * np.exp(-(0.5 + 0.6 * log_odds)))) for odds in (1, 2))
    assert calibration_errors(calibrated).ici < 0.01
    shift = calibration_intercept(halved).value - calibration_intercept(calibrated).value
    assert shift == pytest.approx(np.log(2), abs=1e-6)


def test_scaled_brier_and_ratio_at_their_anchors():
    y = np.array([1, 0, 0, 1, 0])
    assert once(scaled_brier, Units.of(y, y)) == 1
    assert once(scaled_brier, Units.of(y, np.full(5, 0.4))) == pytest.approx(0)
    assert once(brier, Units.of(y, np.full(5, 0.4))) == pytest.approx(0.24)
    assert once(observed_expected_ratio, Units.of(y, np.full(5, 0.6))) == pytest.approx(2 / 3)
    assert not np.isfinite(once(scaled_brier, Units.of([1, 1], [0.2, 0.4])))
    assert once(observed_expected_ratio, Units.of([0, 0], [0.2, 0.4])) == 0
    assert not np.isfinite(once(observed_expected_ratio, Units.of([0, 1], [0, 0])))


def test_certain_predictions_are_clipped_and_counted():
    y = [0, 1, 0, 1, 1, 0]
    certain, clipped = (Units.of(y, [low, 1 - low, 0.3, 0.2, 0.7, 0.9]) for low in (0.0, 1e-6))
    assert calibration_slope(certain).value == calibration_slope(clipped).value
    assert (summary_of(certain, 5).n_clipped, summary_of(clipped, 5).n_clipped) == (2, 0)


def test_wrong_certainty_costs_infinity_in_hosmer_lemeshow():
    assert hosmer_lemeshow(Units.of([0, 0, 1, 1], [0, 0, 1, 1])).statistic == 0
    wrong = hosmer_lemeshow(Units.of([1, 0, 1, 1], [0, 0, 1, 1]))
    assert (wrong.statistic, wrong.p) == (inf, 0)


def test_degenerate_predictions_have_no_slope_for_a_reason():
    y = np.array([0, 1, 0, 1, 1])
    constant = Units.of(y, np.full(5, 0.4))
    for units, reason in (
        (constant, "constant"),
        (Units.of(y, 0.1 + 0.8 * y), "separated"),
        (Units.of(np.ones(5), np.linspace(0.1, 0.9, 5)), "one class"),
    ):
        assert reason in no_slope(units)
        assert str(calibration_slope(units)) == "not estimable"
    assert isnan(calibration_intercept(units).value)
    errors = calibration_errors(constant)
    assert errors.ici == pytest.approx(0.2) and errors.emax == pytest.approx(0.2)


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
    summary = summary_of(Units.of(y, p), 20)
    assert summary.n == len(y) and 0 <= summary.brier.low <= summary.brier.value <= 1


def test_summary_puts_the_parts_together():
    units, reference = units_of("p"), EXPECTED["calibration_p"]
    summary = summary_of(units, 200)
    assert summary.slope.value == pytest.approx(reference["slope"], abs=1e-8)
    assert summary.ici.value == summary.errors.ici == pytest.approx(LOESS["p"]["ici"], abs=1e-6)
    for estimate in (summary.brier, summary.scaled_brier, summary.observed_expected, summary.ici):
        assert estimate.low < estimate.value < estimate.high and estimate.n_undefined == 0
    squared = (units.probability - units.positive) ** 2
    assert summary.brier.standard_error == pytest.approx(squared.std() / np.sqrt(len(units)), rel=0.15)
    assert summary_of(units, 200).brier == summary.brier


def test_patients_widen_the_band_of_the_curve():
    units = units_of("p")
    rows = np.repeat(np.arange(len(units)), 3)
    arrays = units.positive[rows], units.probability[rows]
    by_row, by_patient = (summary_of(Units.of(*arrays, patient=ids), 60).curve for ids in (None, rows))
    inner = slice(*np.searchsorted(by_row.predicted, [0.15, 0.65]))
    assert (by_patient.low[inner] < by_patient.observed[inner]).all()
    assert (by_patient.high[inner] > by_patient.observed[inner]).all()
    assert np.mean((by_patient.high - by_patient.low)[inner] > (by_row.high - by_row.low)[inner]) > 0.9
    beyond = flexible_curve(units, np.array([0.001, 0.999]))
    assert np.isnan(beyond).any()  # beyond the range of the probabilities nothing is claimed


def test_scores_that_are_no_probabilities_are_refused():
    for function in (calibration_slope, calibration_errors, hosmer_lemeshow):
        with pytest.raises(ValueError, match="probabilities"):
            function(Units.of([0, 1], [0.2, 1.7]))
    with pytest.raises(ValueError, match="'loess' or 'lowess'"):
        calibration_errors(Units.of([0, 1], [0.2, 0.7]), "spline")


@pytest.mark.parametrize("rows_per_patient", [1, 3])
def test_curve_and_ici_come_from_the_same_resamples_of_patients(rows_per_patient):
    """Probabilities with ties, as a stranger rounds them."""
    rng = np.random.default_rng(20)
    p = np.round(rng.random(90), 2)
    y = (rng.random(90) < p**1.5).astype(int)
    units = Units.of(y, p, patient=np.repeat(np.arange(90 // rows_per_patient), rows_per_patient))
    summary = summary_of(units, 40, seed=1)
    weights = np.concatenate(list(resamples(units, 40, np.random.default_rng(1), stratified=False))).astype(int)
    drawn = [Units.of(y[index], p[index]) for index in (np.repeat(np.arange(90), counts) for counts in weights)]
    icis = [calibration_errors(units).ici for units in drawn]
    assert (summary.ici.low, summary.ici.high) == pytest.approx(tuple(np.quantile(icis, [0.025, 0.975])), rel=1e-12)
    curves = [flexible_curve(units, summary.curve.predicted) for units in drawn]
    low, high = np.nanquantile(curves, [0.025, 0.975], axis=0)
    np.testing.assert_allclose(summary.curve.low, low, rtol=1e-12)
    np.testing.assert_allclose(summary.curve.high, high, rtol=1e-12)
