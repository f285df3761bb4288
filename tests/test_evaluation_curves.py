"""Partial AUC, sensitivity at a specificity, precision-recall. Truth: pROC 1.18.0 in R 4.2.2, sklearn, properties."""

import json
from math import inf
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score

from alneval.curves import (
    SPECIFICITIES,
    average_precision,
    partial_auc,
    precision_at,
    precision_recall_curve,
    roc_curve,
    sensitivity_at,
)
from alneval.delong import auc
from alneval.estimate import interval, once, percentile_limits, resamples, summarize
from alneval.thresholds import operating_point, threshold_at_specificity
from alneval.units import Units
from tests.strategies import labeled_scores

EXPECTED = json.loads((Path(__file__).parent / "references" / "partial_auc" / "expected.json").read_text())
SPECIFIC, SENSITIVE = partial_auc(0.8, 1, standardized=True), partial_auc(0.8, 1, along="sensitivity")


@pytest.fixture
def shared_resamples(paired):
    """How often each unit is in the 200 resamples that make_references.R draws by the same formula."""
    n = len(paired)
    unit = np.arange(n)
    rows = [(31 * unit**2 + 7919 * unit * (r + 1) + 104729 * r) % n for r in range(200)]
    return np.array([np.bincount(row, minlength=n) for row in rows]).astype(float)


def units_of(paired, column):
    return Units.of(paired["y"], -paired["a"] if column == "reversed" else paired[column])


def test_partial_aucs_agree_with_proc(paired):
    """auc(partial.auc = , partial.auc.focus = , partial.auc.correct = ), six ranges, four scores, both directions."""
    assert len(EXPECTED["partial"]) == 48
    for case in EXPECTED["partial"]:
        units, ends = units_of(paired, case["column"]), (case["low"], case["high"])
        assert once(partial_auc(*ends, along=case["focus"]), units) == pytest.approx(case["raw"], abs=1e-10), case
        found = once(partial_auc(*ends, along=case["focus"], standardized=True), units)
        assert found == pytest.approx(case["corrected"], abs=1e-10), case


@pytest.mark.parametrize("column", ["a", "b", "reader"])
def test_sensitivity_at_a_specificity_agrees_with_proc(paired, column):
    units, wanted = units_of(paired, column), EXPECTED["specificities"]
    assert [once(sensitivity_at(s), units) for s in wanted] == pytest.approx(EXPECTED["sensitivity"][column], abs=1e-10)
    assert once(sensitivity_at(np.array(wanted)), units) == pytest.approx(EXPECTED["sensitivity"][column], abs=1e-10)


@pytest.mark.parametrize(
    ("name", "statistic"), [("specific", SPECIFIC), ("sensitive", SENSITIVE), ("point", sensitivity_at(0.9))]
)
def test_the_same_resamples_give_the_values_and_limits_of_proc(paired, shared_resamples, name, statistic):
    values = statistic(units_of(paired, "a"), shared_resamples)
    np.testing.assert_allclose(values, EXPECTED["resampled"][name], atol=1e-10)
    found = summarize(0.5, values)
    assert [found.low, found.high] == pytest.approx(EXPECTED["resampled"][f"{name}_limits"], abs=1e-10)


def test_random_intervals_agree_with_proc_within_their_monte_carlo_error(paired, rng):
    """ci.auc(method = "bootstrap") and ci.se with 4,000 resamples."""
    area = interval(SPECIFIC, units_of(paired, "a"), rng, n=4000)
    low, _, high = EXPECTED["ci_auc"]  # between them the median of pROC's resamples
    assert [area.low, area.high] == pytest.approx([low, high], abs=0.008)
    point = interval(sensitivity_at(0.9), units_of(paired, "a"), rng, n=4000)
    assert [point.low, point.high] == pytest.approx(EXPECTED["ci_se"], abs=0.02)


def test_precision_recall_curve_agrees_with_proc(paired):
    """coords(roc, "all", ret = c("precision", "recall")), which lists them from the lowest threshold up."""
    precision, recall, threshold = precision_recall_curve(units_of(paired, "a"))
    np.testing.assert_allclose(precision[::-1], EXPECTED["precision_recall"]["precision"], atol=1e-12)
    np.testing.assert_allclose(recall[::-1], EXPECTED["precision_recall"]["recall"], atol=1e-12)
    called = paired["a"].to_numpy() >= threshold[10]
    assert precision[10] == paired["y"][called].mean()
    assert recall[-1] == 1 and precision[-1] == paired["y"].mean()


def test_curve_starts_at_infinity_and_its_area_is_the_auc(paired):
    fpr, tpr, thresholds = roc_curve(units_of(paired, "a"))
    assert (fpr[0], tpr[0], thresholds[0], fpr[-1], tpr[-1]) == (0, 0, inf, 1, 1)
    assert np.trapezoid(tpr, fpr) == pytest.approx(auc(paired["y"], paired["a"]), abs=1e-12)


@settings(max_examples=60, deadline=None)
@given(labeled_scores(), st.floats(0.01, 0.99))
def test_partial_areas_add_up_to_the_auc(data, cut):
    y, score = data
    units, whole = Units.of(y, score), auc(y, score)
    for along in ("specificity", "sensitivity"):
        parts = [once(partial_auc(*ends, along=along), units) for ends in ((0, cut), (cut, 1))]
        assert sum(parts) == pytest.approx(whole, abs=1e-12)
        assert once(partial_auc(0, 1, along=along, standardized=True), units) == pytest.approx(whole, abs=1e-12)
    assert once(partial_auc(cut, 1), Units.of(y, np.exp(score))) == once(partial_auc(cut, 1), units)


def test_standardized_value_is_one_half_for_a_constant_and_one_for_a_perfect_score():
    y = np.repeat([0, 1], 10)
    for where in (partial_auc(0.7, 0.9, standardized=True), partial_auc(0.8, 1, "sensitivity", standardized=True)):
        assert once(where, Units.of(y, np.zeros(20))) == pytest.approx(0.5)
        assert once(where, Units.of(y, np.arange(20))) == pytest.approx(1)
        assert once(where, Units.of(y, -np.arange(20))) < 0.5


@settings(max_examples=40, deadline=None)
@given(labeled_scores(), st.integers(0, 2**32 - 1))
def test_weighted_statistics_equal_those_of_the_repeated_units(data, seed):
    y, score = data
    weights = np.random.default_rng(seed).integers(0, 4, (6, y.size))
    statistics = partial_auc(0.6, 0.95), sensitivity_at(0.7), average_precision
    columns = [statistic(Units.of(y, score), weights.astype(float)) for statistic in statistics]
    for row, *values in zip(weights, *columns, strict=True):
        repeated_y, repeated_score = np.repeat(y, row), np.repeat(score, row)
        if not 0 < repeated_y.sum() < repeated_y.size:
            assert np.isnan(values).all()
            continue
        alone = [once(statistic, Units.of(repeated_y, repeated_score)) for statistic in statistics]
        assert values == pytest.approx(alone, abs=1e-12)
        assert values[2] == pytest.approx(average_precision_score(repeated_y, repeated_score), abs=1e-12)


def test_interpolated_sensitivity_is_never_below_the_step_and_its_interval_wider(paired, rng):
    units = units_of(paired, "a")
    for specificity in (0.6, 0.8, 0.9, 90 / 95, 0.95):
        step = operating_point(units, threshold_at_specificity(units, specificity)).sensitivity
        found = once(sensitivity_at(specificity), units)
        assert found >= step.value - 1e-12
        if specificity == 90 / 95:  # a specificity that the curve has
            assert found == pytest.approx(step.value)
        if specificity == 0.9:  # the cut-off is found anew in every resample
            free = interval(sensitivity_at(0.9), units, rng)
            assert free.high - free.low > step.high - step.low


def test_average_precision_interval_and_band_are_those_of_a_plain_loop(paired):
    y, score = paired["y"].to_numpy(), paired["b"].to_numpy()
    units = Units.of(y, score)
    chunk = np.concatenate(list(resamples(units, 300, np.random.default_rng(9))))
    rows = [np.repeat(np.arange(y.size), weights.astype(int)) for weights in chunk]
    slow = [average_precision_score(y[row], score[row]) for row in rows]
    fast = interval(average_precision, units, np.random.default_rng(9), n=300)
    assert (fast.low, fast.high) == pytest.approx(tuple(np.quantile(slow, [0.025, 0.975])), abs=1e-12)
    assert fast.standard_error == pytest.approx(np.std(slow, ddof=1), abs=1e-12)

    def at(row, wanted):
        precision, recall, _ = precision_recall_curve(Units.of(y[row], score[row]))
        return precision[np.flatnonzero(recall >= wanted - 1e-12)[0]]

    band = interval(precision_at(np.array([0.3, 0.8])), units, np.random.default_rng(9), n=300)
    low, high = percentile_limits(np.array([[at(row, wanted) for wanted in (0.3, 0.8)] for row in rows]))
    np.testing.assert_allclose(band.low, low, atol=1e-12)
    np.testing.assert_allclose(band.high, high, atol=1e-12)
    assert band.value == pytest.approx([at(np.arange(y.size), wanted) for wanted in (0.3, 0.8)])


@pytest.mark.parametrize("statistic", [SPECIFIC, sensitivity_at(0.9), average_precision])
def test_doubled_units_of_a_patient_add_nothing_when_patients_are_resampled(paired, statistic):
    y, score = paired["y"].to_numpy(), paired["a"].to_numpy()
    doubled = Units.of(np.tile(y, 2), np.tile(score, 2), patient=np.tile(np.arange(150), 2))
    single, double = (interval(statistic, u, np.random.default_rng(2), n=200) for u in (Units.of(y, score), doubled))
    assert (double.value, double.low, double.high) == pytest.approx((single.value, single.low, single.high))


def test_average_precision_interval_on_the_log_odds(paired):
    """Half width 1.96 x standard error / (value (1 - value)), the delta method; never beyond 0 and 1."""
    found = interval(average_precision, units_of(paired, "a"), np.random.default_rng(9), n=300, method="logit")
    odds = [np.log(value / (1 - value)) for value in (found.low, found.value, found.high)]
    half = 1.959963984540054 * found.standard_error / (found.value * (1 - found.value))
    assert odds[1] - odds[0] == pytest.approx(half) and odds[2] - odds[1] == pytest.approx(half)
    perfect = Units.of([0, 0, 1, 1], [1, 2, 3, 4])
    found = interval(average_precision, perfect, np.random.default_rng(9), n=50, method="logit")
    assert (found.low, found.value, found.high) == (1, 1, 1)


@pytest.mark.parametrize("ends", [(0.5, 0.5), (50, 100)])
def test_impossible_ranges_are_refused(ends):
    with pytest.raises(ValueError, match="two different values"):
        partial_auc(*ends)


def test_roc_band_holds_the_curve_and_is_wider_over_patients():
    rng = np.random.default_rng(30)
    y = rng.integers(0, 2, 80)
    score = np.round(y + rng.normal(size=80), 1)  # ties
    statistic, units = sensitivity_at(SPECIFICITIES), Units.of(y, score)
    band = interval(statistic, units, np.random.default_rng(1), n=300)
    assert (band.low <= band.value + 1e-12).all() and (band.value <= band.high + 1e-12).all()
    weights = np.concatenate(list(resamples(units, 300, np.random.default_rng(1))))
    place = int(np.flatnonzero(np.isclose(SPECIFICITIES, 0.9))[0])
    ends = tuple(np.quantile(sensitivity_at(0.9)(units, weights), [0.025, 0.975]))
    assert (band.low[place], band.high[place]) == pytest.approx(ends, abs=1e-9)
    repeated = np.repeat(y, 4), np.repeat(score, 4)
    by_patient = interval(statistic, Units.of(*repeated, patient=np.repeat(np.arange(80), 4)), rng, n=300)
    alone = interval(statistic, Units.of(*repeated), rng, n=300)
    assert (by_patient.high - by_patient.low).mean() > 1.5 * (alone.high - alone.low).mean()
