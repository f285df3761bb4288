"""AUC and DeLong. Truth: R 4.2.2 with pROC 1.18.0; Obuchowski's sums pair by pair in R; properties."""

import json
from dataclasses import replace
from math import inf, isnan, sqrt
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from scipy import stats
from sklearn.metrics import roc_auc_score

from alneval.delong import auc, auc_difference, auc_interval, covariance, placements
from alneval.units import Units
from tests.strategies import labeled_scores

EXPECTED = json.loads((Path(__file__).parent / "references" / "evaluation" / "expected.json").read_text())


def units_of(frame, *columns, patient=None):
    return Units.of(frame["y"], *(frame[column] for column in columns), patient=patient and frame[patient])


@pytest.mark.parametrize("column", ["a", "b", "reader"])
def test_auc_variance_and_interval_agree_with_proc(paired, column):
    reference = EXPECTED[f"paired_{column}"]
    estimate = auc_interval(units_of(paired, column), interval="wald")
    assert estimate.value == pytest.approx(reference["auc"], abs=1e-10)
    assert estimate.standard_error**2 == pytest.approx(reference["variance"], abs=1e-10)
    assert [estimate.low, estimate.high] == pytest.approx([reference["low"], reference["high"]], abs=1e-10)
    assert (estimate.n, estimate.n_positive) == (150, int(paired["y"].sum()))


def test_confidence_level_and_direction_agree_with_proc(paired):
    estimate = auc_interval(units_of(paired, "a"), confidence=0.90, interval="wald")
    assert estimate.low == pytest.approx(EXPECTED["paired_a_level_90"]["low"], abs=1e-10)
    assert auc(paired["y"], -paired["a"]) == pytest.approx(EXPECTED["reversed"]["auc"], abs=1e-10)


def test_paired_test_agrees_with_proc(paired):
    reference = EXPECTED["paired_test"]
    result = auc_difference(units_of(paired, "a", "b"), reference="normal")
    assert result.statistic == pytest.approx(reference["statistic"], abs=1e-8)
    assert result.p == pytest.approx(reference["p"], abs=1e-8)
    assert [result.low, result.high] == pytest.approx([reference["low"], reference["high"]], abs=1e-8)
    _, between = covariance(units_of(paired, "a", "b"))
    assert between[0, 1] == pytest.approx(reference["covariance"], abs=1e-10)
    assert result.standard_error**2 == pytest.approx(between[0, 0] + between[1, 1] - 2 * between[0, 1])


def test_clustered_variance_agrees_with_obuchowski_sums_in_r(nodes):
    units = units_of(nodes, "a", "b", patient="patient")
    aucs, between = covariance(units)
    np.testing.assert_allclose(aucs, EXPECTED["clustered"]["auc"], atol=1e-10)
    np.testing.assert_allclose(between, EXPECTED["clustered"]["covariance"], atol=1e-10)
    result = auc_difference(units)
    assert result.standard_error == pytest.approx(sqrt(np.array([1, -1]) @ between @ np.array([1, -1])), abs=1e-10)
    assert result.method == "DeLong, clustered by patient, paired, Student's t"
    estimate = auc_interval(units)
    assert estimate.n_patients == 80 and estimate.n == len(nodes)
    assert estimate.standard_error > auc_interval(units_of(nodes, "a")).standard_error  # nodes of a patient are alike


@settings(max_examples=40, deadline=None)
@given(labeled_scores())
def test_a_patient_with_one_unit_is_the_unit(data):
    """Truth: DeLong's variance, the placements' variances over the sizes of the classes."""
    y, score = data
    placed, areas = placements(Units.of(y, score))
    if min(y.sum(), (1 - y).sum()) > 1:
        delong = sum(placed[y == k, 0].var(ddof=1) / (y == k).sum() for k in (0, 1))
        found = covariance(Units.of(y, score, patient=np.arange(y.size)[::-1]))[1][0, 0]
        assert found == pytest.approx(delong, abs=1e-14)
    assert [placed[y == k, 0].mean() for k in (0, 1)] == pytest.approx([areas[0]] * 2, abs=1e-12)


@settings(max_examples=60, deadline=None)
@given(labeled_scores())
def test_auc_is_the_pairwise_win_rate_and_survives_monotone_rescaling(data):
    y, score = data
    wins = [(p > n) + 0.5 * (p == n) for p in score[y == 1] for n in score[y == 0]]
    assert auc(y, score) == pytest.approx(np.mean(wins), abs=1e-12)
    assert auc(y, np.exp(score / 3) - 100) == auc(y, score)
    assert auc(1 - y, score) == pytest.approx(1 - auc(y, score), abs=1e-12)
    assert auc(y, score) == pytest.approx(roc_auc_score(y, score), abs=1e-12)


def test_row_order_does_not_matter(nodes):
    shuffled = nodes.sample(frac=1, random_state=np.random.default_rng(3))
    one, other = (auc_difference(units_of(frame, "a", "b", patient="patient")) for frame in (nodes, shuffled))
    assert (one.value, one.p) == pytest.approx((other.value, other.p), abs=1e-12)


@pytest.mark.parametrize("rescaled", [False, True])
@pytest.mark.parametrize("patient", [None, "patient"])
def test_scores_that_rank_alike_do_not_differ(nodes, patient, rescaled):
    other = 3 * nodes["a"] - 7 if rescaled else nodes["a"]
    result = auc_difference(Units.of(nodes["y"], nodes["a"], other, patient=patient and nodes[patient]))
    assert (result.value, result.low, result.high, result.statistic, result.p) == (0, 0, 0, 0, 1)


def test_perfect_separation_has_no_variance_as_in_proc():
    units = Units.of([0, 0, 0, 1, 1], [1, 2, 3, 4, 5], [0] * 5)
    for interval in ("wald", "logit"):
        estimate = auc_interval(units, interval=interval)
        assert (estimate.value, estimate.low, estimate.high, estimate.standard_error) == (1, 1, 1, 0)
    assert EXPECTED["perfect"] == {"auc": 1, "low": 1, "high": 1, "variance": 0}
    against_constant = auc_difference(units)
    assert (against_constant.value, against_constant.statistic, against_constant.p) == (0.5, inf, 0)


def test_separated_classes_have_an_interval_that_separation_just_allows():
    """Truth: drawn from Lehmann's two alternatives with the AUC of the lower limit, classes separate in 1 of 40 draws."""
    y, score = np.repeat([0, 1], [15, 5]), np.arange(20.0)
    estimate = auc_interval(Units.of(y, score))
    assert estimate.value == estimate.high == 1 and estimate.standard_error == 0
    assert auc_interval(Units.of(y, -score)).high == pytest.approx(1 - estimate.low)
    power, rng = estimate.low / (1 - estimate.low), np.random.default_rng(8)
    positives, negatives = rng.random((100_000, 5)), rng.random((100_000, 15))
    drawn = ((positives ** (1 / power), negatives), (positives, 1 - negatives ** (1 / power)))
    shares = [np.mean(above.min(axis=1) > below.max(axis=1)) for above, below in drawn]
    assert max(shares) == pytest.approx(0.025, abs=0.002)


def test_logit_interval_stays_inside_where_wald_is_clipped():
    score = np.arange(20.0)
    score[9], score[10] = 11, 9
    units = Units.of(np.repeat([0, 1], 10), score)
    wald, logit, student = (auc_interval(units, interval=name) for name in ("wald", "logit", "logit_t"))
    assert wald.high == 1.0
    assert 0 < logit.low < wald.value < logit.high < 1
    assert 0 < student.low < logit.low and logit.high < student.high < 1
    with pytest.raises(ValueError, match="wald"):
        auc_interval(units, interval="exact")


def test_student_quantiles_have_the_degrees_of_the_smaller_class(paired, nodes):
    """Limits put together from pROC's variance, in log odds, and Student's quantile."""
    reference, n_positive = EXPECTED["paired_a"], int(paired["y"].sum())
    smaller = min(n_positive, len(paired) - n_positive)
    area = reference["auc"]
    half = stats.t.ppf(0.975, smaller - 1) * sqrt(reference["variance"]) / (area * (1 - area))
    estimate = auc_interval(units_of(paired, "a"))
    limits = np.array([estimate.low, estimate.high])
    np.testing.assert_allclose(np.log(limits / (1 - limits)), np.log(area / (1 - area)) + [-half, half], atol=1e-9)

    units = units_of(paired, "a", "b")
    test = auc_difference(units)
    assert test.degrees_of_freedom == smaller - 1
    assert test.statistic == pytest.approx(EXPECTED["paired_test"]["statistic"], abs=1e-8)
    assert test.p == pytest.approx(2 * stats.t.sf(abs(test.statistic), smaller - 1))
    limits = auc_difference(units, confidence=1 - test.p)
    assert limits.low == pytest.approx(0, abs=1e-12)  # p is the level whose interval ends at 0
    holding = nodes.groupby("y")["patient"].nunique().min()
    assert auc_difference(units_of(nodes, "a", "b", patient="patient")).degrees_of_freedom == holding - 1
    with pytest.raises(ValueError, match="reference"):
        auc_difference(units, reference="z")


def test_one_patient_in_a_class_has_an_auc_but_no_interval():
    estimate = auc_interval(Units.of([0, 0, 1], [0.1, 0.4, 0.3]))
    assert estimate.value == 0.5 and isnan(estimate.low) and isnan(estimate.standard_error)
    assert isnan(auc_difference(Units.of([0, 0, 1], [0.1, 0.4, 0.3], [0.3, 0.2, 0.1])).p)
    assert isnan(auc_interval(Units.of([0, 0, 1, 1], [1, 3, 2, 4], patient=["p1", "p2", "p3", "p3"])).low)


@pytest.mark.parametrize(
    ("y", "score", "message"),
    [
        ([1, 1, 1], [0.1, 0.2, 0.3], "both classes"),
        ([0, 1, 2], [0.1, 0.2, 0.3], "0 and 1 only"),
        ([0, 1, np.nan], [0.1, 0.2, 0.3], "0 and 1 only"),
        ([0, 1, 1], [0.1, 0.2], "3 values like y_true"),
        ([0, 1, 1], [0.1, 0.2, np.nan], "not finite"),
        ([], [], "non-empty"),
    ],
)
def test_unusable_arrays_are_refused(y, score, message):
    with pytest.raises(ValueError, match=message):
        auc(y, score)


def test_missing_patient_ids_are_refused():
    with pytest.raises(ValueError, match="name a patient"):
        Units.of([0, 1, 1], [1, 2, 3], patient=["p1", None, "p2"])


def test_results_print_as_prose(paired):
    assert str(auc_interval(units_of(paired, "a"), interval="wald")) == "0.815 (0.746 to 0.883)"
    difference = auc_difference(units_of(paired, "a", "b"), reference="normal")
    assert str(difference) == "0.088 (0.011 to 0.166), p = 0.025"
    assert f"{replace(difference, p=None):2}" == "0.09 (0.01 to 0.17)"
    assert str(replace(difference, value=float("nan"))).startswith("not estimable")
    assert difference.named("delta") == {
        "delta": difference.value,
        "delta_low": difference.low,
        "delta_high": difference.high,
    }
