"""Partial AUC, sensitivity at a specificity, precision-recall. Truth: pROC 1.18.0 in R 4.2.2, sklearn, properties."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score

from alneval.bootstrap import percentile_limits, resample_weights, summarize_resamples
from alneval.partial_auc import (
    average_precision,
    average_precision_interval,
    partial_auc,
    partial_auc_interval,
    precision_recall_band,
    precision_recall_curve,
    roc_band,
    sensitivity_at_specificity_interval,
    weighted_average_precision,
    weighted_partial_auc,
    weighted_sensitivity_at_specificity,
)
from alneval.roc import auc
from alneval.thresholds import sensitivity_at_specificity

REFERENCES = Path(__file__).parent / "references"
EXPECTED = json.loads((REFERENCES / "partial_auc" / "expected.json").read_text())


@pytest.fixture(scope="module")
def paired():
    table = pd.read_csv(REFERENCES / "evaluation" / "paired.csv")
    return table.assign(reversed=-table["a"])


@pytest.fixture(scope="module")
def shared_resamples(paired):
    """How often each unit is in the 200 resamples that make_references.R draws by the same formula."""
    n = len(paired)
    unit = np.arange(n)
    rows = [(31 * unit**2 + 7919 * unit * (r + 1) + 104729 * r) % n for r in range(200)]
    return np.array([np.bincount(row, minlength=n) for row in rows])


@pytest.fixture
def rng():
    return np.random.default_rng(17)


@st.composite
def labeled_scores(draw):
    """Labels with both classes and scores with many ties."""
    n = draw(st.integers(4, 30))
    y = draw(st.lists(st.booleans(), min_size=n, max_size=n).filter(lambda v: 0 < sum(v) < len(v)))
    score = draw(st.lists(st.integers(-4, 4), min_size=n, max_size=n))
    return np.array(y, dtype=int), np.array(score, dtype=float)


def test_partial_aucs_agree_with_proc(paired):
    """auc(partial.auc = , partial.auc.focus = , partial.auc.correct = ), six ranges, four scores, both directions."""
    assert len(EXPECTED["partial"]) == 48
    for case in EXPECTED["partial"]:
        score, where = paired[case["column"]], {case["focus"]: (case["low"], case["high"])}
        assert partial_auc(paired["y"], score, **where) == pytest.approx(case["raw"], abs=1e-10), case
        found = partial_auc(paired["y"], score, **where, corrected=True)
        assert found == pytest.approx(case["corrected"], abs=1e-10), case


@pytest.mark.parametrize("column", ["a", "b", "reader"])
def test_sensitivity_at_a_specificity_agrees_with_proc(paired, column):
    everyone = np.ones(len(paired))
    found = [
        weighted_sensitivity_at_specificity(paired["y"], paired[column], everyone, specificity)[0]
        for specificity in EXPECTED["specificities"]
    ]
    assert found == pytest.approx(EXPECTED["sensitivity"][column], abs=1e-10)


@pytest.mark.parametrize(
    ("name", "statistic"),
    [
        ("specific", lambda *data: weighted_partial_auc(*data, specificity=(0.8, 1), corrected=True)),
        ("sensitive", lambda *data: weighted_partial_auc(*data, sensitivity=(0.8, 1))),
        ("point", lambda *data: weighted_sensitivity_at_specificity(*data, 0.9)),
    ],
)
def test_the_same_resamples_give_the_values_and_limits_of_proc(paired, shared_resamples, name, statistic):
    reference = EXPECTED["resampled"]
    values = statistic(paired["y"], paired["a"], shared_resamples)
    np.testing.assert_allclose(values, reference[name], atol=1e-10)
    summary = summarize_resamples(0.5, values)
    assert [summary.low, summary.high] == pytest.approx(reference[f"{name}_limits"], abs=1e-10)


def test_random_intervals_agree_with_proc_within_their_monte_carlo_error(paired, rng):
    """ci.auc(method = "bootstrap") and ci.se with 4,000 resamples."""
    area = partial_auc_interval(
        paired["y"], paired["a"], specificity=(0.8, 1), corrected=True, rng=rng, n_bootstrap=4000
    )
    low, _, high = EXPECTED["ci_auc"]  # between them the median of pROC's resamples
    assert [area.low, area.high] == pytest.approx([low, high], abs=0.008)
    point = sensitivity_at_specificity_interval(paired["y"], paired["a"], 0.9, rng=rng, n_bootstrap=4000)
    assert [point.low, point.high] == pytest.approx(EXPECTED["ci_se"], abs=0.02)


def test_precision_recall_curve_agrees_with_proc(paired):
    """coords(roc, "all", ret = c("precision", "recall")), which lists them from the lowest threshold up."""
    precision, recall, threshold = precision_recall_curve(paired["y"], paired["a"])
    np.testing.assert_allclose(precision[::-1], EXPECTED["precision_recall"]["precision"], atol=1e-12)
    np.testing.assert_allclose(recall[::-1], EXPECTED["precision_recall"]["recall"], atol=1e-12)
    called = paired["a"].to_numpy() >= threshold[10]
    assert precision[10] == paired["y"][called].mean()
    assert recall[-1] == 1 and precision[-1] == paired["y"].mean()


@settings(max_examples=60, deadline=None)
@given(labeled_scores(), st.floats(0.01, 0.99))
def test_partial_areas_add_up_to_the_auc(data, cut):
    y, score = data
    whole = auc(y, score)
    for focus in ("specificity", "sensitivity"):
        parts = [partial_auc(y, score, **{focus: ends}) for ends in ((0, cut), (cut, 1))]
        assert sum(parts) == pytest.approx(whole, abs=1e-12)
        assert partial_auc(y, score, **{focus: (0, 1)}, corrected=True) == pytest.approx(whole, abs=1e-12)
    assert partial_auc(y, np.exp(score), specificity=(cut, 1)) == partial_auc(y, score, specificity=(cut, 1))


def test_corrected_value_is_one_half_for_a_constant_and_one_for_a_perfect_score():
    y = np.repeat([0, 1], 10)
    for where in ({"specificity": (0.7, 0.9)}, {"sensitivity": (0.8, 1)}):
        assert partial_auc(y, np.zeros(20), **where, corrected=True) == pytest.approx(0.5)
        assert partial_auc(y, np.arange(20), **where, corrected=True) == pytest.approx(1)
        assert partial_auc(y, -np.arange(20), **where, corrected=True) < 0.5


@settings(max_examples=40, deadline=None)
@given(labeled_scores(), st.integers(0, 2**32 - 1))
def test_weighted_statistics_equal_those_of_the_repeated_units(data, seed):
    y, score = data
    weights = np.random.default_rng(seed).integers(0, 4, (6, y.size))
    areas = weighted_partial_auc(y, score, weights, specificity=(0.6, 0.95))
    points = weighted_sensitivity_at_specificity(y, score, weights, 0.7)
    precisions = weighted_average_precision(y, score, weights)
    for row, area, point, precision in zip(weights, areas, points, precisions, strict=True):
        repeated_y, repeated_score = np.repeat(y, row), np.repeat(score, row)
        if not 0 < repeated_y.sum() < repeated_y.size:
            assert np.isnan([area, point, precision]).all()
            continue
        assert area == pytest.approx(partial_auc(repeated_y, repeated_score, specificity=(0.6, 0.95)), abs=1e-12)
        everyone = np.ones(repeated_y.size)
        alone = weighted_sensitivity_at_specificity(repeated_y, repeated_score, everyone, 0.7)[0]
        assert point == pytest.approx(alone, abs=1e-12)
        assert precision == pytest.approx(average_precision_score(repeated_y, repeated_score), abs=1e-12)


@settings(max_examples=60, deadline=None)
@given(labeled_scores())
def test_average_precision_agrees_with_sklearn(data):
    assert average_precision(*data) == pytest.approx(average_precision_score(*data), abs=1e-12)


def test_interpolated_sensitivity_is_never_below_the_step(paired):
    for specificity in (0.6, 0.8, 90 / 95, 0.95):
        step = sensitivity_at_specificity(paired["y"], paired["a"], specificity).value
        everyone = np.ones(len(paired))
        found = weighted_sensitivity_at_specificity(paired["y"], paired["a"], everyone, specificity)[0]
        assert found >= step - 1e-12
        if specificity == 90 / 95:  # a specificity that the curve has
            assert found == pytest.approx(step)


def test_interval_with_a_free_cutoff_is_wider_than_the_binomial_one(paired, rng):
    fixed = sensitivity_at_specificity(paired["y"], paired["a"], 0.9)
    free = sensitivity_at_specificity_interval(paired["y"], paired["a"], 0.9, rng=rng)
    assert free.high - free.low > fixed.high - fixed.low


def test_average_precision_interval_and_band_are_those_of_a_plain_loop(paired):
    y, score = paired["y"].to_numpy(), paired["b"].to_numpy()
    chunk = np.concatenate(list(resample_weights(y.size, 300, np.random.default_rng(9), strata=y)))
    rows = [np.repeat(np.arange(y.size), weights.astype(int)) for weights in chunk]
    slow = [average_precision_score(y[row], score[row]) for row in rows]
    options = {"n_bootstrap": 300, "method": "percentile"}
    fast = average_precision_interval(y, score, rng=np.random.default_rng(9), **options)
    assert (fast.low, fast.high) == pytest.approx(tuple(np.quantile(slow, [0.025, 0.975])), abs=1e-12)
    assert fast.standard_error == pytest.approx(np.std(slow, ddof=1), abs=1e-12)

    def precision_at(row, wanted):
        precision, recall, _ = precision_recall_curve(y[row], score[row])
        return precision[np.flatnonzero(recall >= wanted - 1e-12)[0]]

    band = precision_recall_band(y, score, rng=np.random.default_rng(9), recall=[0.3, 0.8], n_bootstrap=300)
    loop = np.array([[precision_at(row, wanted) for wanted in (0.3, 0.8)] for row in rows])
    low, high = percentile_limits(loop)
    np.testing.assert_allclose(band.low, low, atol=1e-12)
    np.testing.assert_allclose(band.high, high, atol=1e-12)
    assert band.precision == pytest.approx([precision_at(np.arange(y.size), wanted) for wanted in (0.3, 0.8)])
    assert band.prevalence == pytest.approx(55 / 150)


@pytest.mark.parametrize(
    "function",
    [
        lambda *data, **options: partial_auc_interval(*data, specificity=(0.8, 1), **options),
        lambda *data, **options: sensitivity_at_specificity_interval(*data, 0.9, **options),
        average_precision_interval,
    ],
)
def test_doubled_units_of_a_patient_add_nothing_when_patients_are_resampled(paired, function):
    y, score = paired["y"].to_numpy(), paired["a"].to_numpy()
    single = function(y, score, rng=np.random.default_rng(2), n_bootstrap=200)
    double = function(
        np.tile(y, 2), np.tile(score, 2), rng=np.random.default_rng(2), n_bootstrap=200, cluster=np.tile(range(150), 2)
    )
    assert (double.estimate, double.low, double.high) == pytest.approx((single.estimate, single.low, single.high))


def test_average_precision_interval_on_the_log_odds(paired):
    """Half width 1.96 x standard error / (value (1 - value)), the delta method; never beyond 0 and 1."""
    found = average_precision_interval(paired["y"], paired["a"], rng=np.random.default_rng(9), n_bootstrap=300)
    odds = [np.log(value / (1 - value)) for value in (found.low, found.estimate, found.high)]
    half = 1.959963984540054 * found.standard_error / (found.estimate * (1 - found.estimate))
    assert odds[1] - odds[0] == pytest.approx(half) and odds[2] - odds[1] == pytest.approx(half)
    assert found.method == "logit" and 0 < found.low < found.estimate < found.high < 1
    perfect = average_precision_interval([0, 0, 1, 1], [1, 2, 3, 4], rng=np.random.default_rng(9), n_bootstrap=50)
    assert (perfect.low, perfect.estimate, perfect.high) == (1, 1, 1)


def test_unstratified_resamples_without_a_class_are_counted(rng):
    found = average_precision_interval([1, 0, 0, 1, 0], [5, 4, 3, 2, 1], rng=rng, n_bootstrap=400, stratified=False)
    assert 0 < found.n_undefined < 200
    band = precision_recall_band([1, 0, 0, 1, 0], [5, 4, 3, 2, 1], rng=rng, n_bootstrap=400, stratified=False)
    assert np.isfinite(band.low).all() and band.recall.size == 100


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: partial_auc([0, 1], [0, 1]), "one range"),
        (lambda: partial_auc([0, 1], [0, 1], specificity=(0.5, 1), sensitivity=(0.5, 1)), "one range"),
        (lambda: partial_auc([0, 1], [0, 1], specificity=(0.5, 0.5)), "two different values"),
        (lambda: partial_auc([0, 1], [0, 1], specificity=(50, 100)), "two different values"),
        (lambda: partial_auc([1, 1], [0, 1], specificity=(0.5, 1)), "both classes"),
        (lambda: weighted_partial_auc([0, 1], [0, 1], np.ones((1, 3)), specificity=(0, 1)), "weights must be"),
        (lambda: weighted_sensitivity_at_specificity([0, 1], [0, 1], np.ones((1, 2)), 90), "specificity must lie"),
        (lambda: average_precision_interval([0, 1], [0, 1], rng=None, method="bca"), "'logit' or 'percentile'"),
        (lambda: precision_recall_band([0, 1], [0, 1], rng=np.random.default_rng(0), recall=[0.0]), "recall must be"),
    ],
)
def test_impossible_arguments_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_roc_band_reads_the_curve_at_every_specificity_and_holds_it():
    rng = np.random.default_rng(30)
    y = rng.integers(0, 2, 80)
    score = np.round(y + rng.normal(size=80), 1)  # ties
    band = roc_band(y, score, rng=np.random.default_rng(1), n_bootstrap=300)
    ones = np.ones((1, 80))
    expected = [weighted_sensitivity_at_specificity(y, score, ones, value)[0] for value in band.specificity]
    np.testing.assert_allclose(band.sensitivity, expected, atol=1e-8)  # its slack on "this specificity"
    assert (band.low <= band.sensitivity + 1e-12).all() and (band.sensitivity <= band.high + 1e-12).all()
    weights = np.concatenate(list(resample_weights(80, 300, np.random.default_rng(1), strata=y)))
    at = weighted_sensitivity_at_specificity(y, score, weights, 0.9)
    place = int(np.flatnonzero(np.isclose(band.specificity, 0.9))[0])
    assert (band.low[place], band.high[place]) == pytest.approx(tuple(np.quantile(at, [0.025, 0.975])), abs=1e-9)
    by_patient = roc_band(
        np.repeat(y, 4), np.repeat(score, 4), rng=rng, n_bootstrap=300, cluster=np.repeat(np.arange(80), 4)
    )
    alone = roc_band(np.repeat(y, 4), np.repeat(score, 4), rng=rng, n_bootstrap=300)
    assert (by_patient.high - by_patient.low).mean() > 1.5 * (alone.high - alone.low).mean()
    with pytest.raises(ValueError, match="specificity"):
        roc_band(y, score, rng=rng, specificity=[80])
