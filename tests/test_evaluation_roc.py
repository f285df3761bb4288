"""AUC and DeLong. Truth: R 4.2.2 with pROC 1.18.0; Obuchowski's sums pair by pair in R; properties."""

import json
from math import inf, isnan, sqrt
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import roc_auc_score

from alneval.roc import (
    auc,
    clustered_delong_auc,
    clustered_delong_covariance,
    clustered_delong_test,
    delong_auc,
    delong_covariance,
    delong_test,
    delong_test_unpaired,
    placement_values,
    roc_curve,
)

REFERENCES = Path(__file__).parent / "references" / "evaluation"
EXPECTED = json.loads((REFERENCES / "expected.json").read_text())


@pytest.fixture(scope="module")
def paired():
    return pd.read_csv(REFERENCES / "paired.csv")


@pytest.fixture(scope="module")
def nodes():
    return pd.read_csv(REFERENCES / "clustered.csv", dtype={"patient": "str"})


@st.composite
def labeled_scores(draw):
    """Labels with both classes and scores with many ties."""
    n = draw(st.integers(4, 30))
    y = draw(st.lists(st.booleans(), min_size=n, max_size=n).filter(lambda v: 0 < sum(v) < len(v)))
    score = draw(st.lists(st.integers(-6, 6), min_size=n, max_size=n))
    return np.array(y, dtype=int), np.array(score, dtype=float)


@pytest.mark.parametrize("column", ["a", "b", "reader"])
def test_auc_variance_and_interval_agree_with_proc(paired, column):
    reference = EXPECTED[f"paired_{column}"]
    estimate = delong_auc(paired["y"], paired[column], interval="wald")
    assert estimate.auc == pytest.approx(reference["auc"], abs=1e-10)
    assert estimate.standard_error**2 == pytest.approx(reference["variance"], abs=1e-10)
    assert [estimate.low, estimate.high] == pytest.approx([reference["low"], reference["high"]], abs=1e-10)
    assert (estimate.n, estimate.n_positive) == (150, int(paired["y"].sum()))


def test_confidence_level_and_direction_agree_with_proc(paired):
    reference = EXPECTED["paired_a_level_90"]
    estimate = delong_auc(paired["y"], paired["a"], confidence=0.90, interval="wald")
    assert estimate.low == pytest.approx(reference["low"], abs=1e-10)
    assert delong_auc(paired["y"], -paired["a"]).auc == pytest.approx(EXPECTED["reversed"]["auc"], abs=1e-10)


def test_paired_test_agrees_with_proc(paired):
    reference = EXPECTED["paired_test"]
    result = delong_test(paired["y"], paired["a"], paired["b"], reference="normal")
    assert result.statistic == pytest.approx(reference["statistic"], abs=1e-8)
    assert result.p == pytest.approx(reference["p"], abs=1e-8)
    assert [result.low, result.high] == pytest.approx([reference["low"], reference["high"]], abs=1e-8)
    _, covariance = delong_covariance(paired["y"], paired[["a", "b"]])
    assert covariance[0, 1] == pytest.approx(reference["covariance"], abs=1e-10)
    assert result.standard_error**2 == pytest.approx(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1])


def test_unpaired_test_agrees_with_proc_including_its_degrees_of_freedom():
    first, second = pd.read_csv(REFERENCES / "unpaired_a.csv"), pd.read_csv(REFERENCES / "unpaired_b.csv")
    reference = EXPECTED["unpaired_test"]
    result = delong_test_unpaired(first["y"], first["score"], second["y"], second["score"])
    assert result.auc_a == pytest.approx(reference["auc_a"], abs=1e-10)
    assert result.auc_b == pytest.approx(reference["auc_b"], abs=1e-10)
    assert result.statistic == pytest.approx(reference["statistic"], abs=1e-8)
    assert result.degrees_of_freedom == pytest.approx(reference["df"], abs=1e-6)
    assert result.p == pytest.approx(reference["p"], abs=1e-8)
    assert result.low < 0 < result.high  # p > 0.05 and the interval must agree


def test_clustered_variance_agrees_with_obuchowski_sums_in_r(nodes):
    aucs, covariance = clustered_delong_covariance(nodes["y"], nodes[["a", "b"]], nodes["patient"])
    np.testing.assert_allclose(aucs, EXPECTED["clustered"]["auc"], atol=1e-10)
    np.testing.assert_allclose(covariance, EXPECTED["clustered"]["covariance"], atol=1e-10)
    result = clustered_delong_test(nodes["y"], nodes["a"], nodes["b"], nodes["patient"])
    assert result.standard_error == pytest.approx(sqrt(np.array([1, -1]) @ covariance @ np.array([1, -1])), abs=1e-10)
    estimate = clustered_delong_auc(nodes["y"], nodes["a"], nodes["patient"])
    assert estimate.n_clusters == 80 and estimate.n == len(nodes)
    assert estimate.standard_error > delong_auc(nodes["y"], nodes["a"]).standard_error  # nodes of a patient are alike


@settings(max_examples=40, deadline=None)
@given(labeled_scores())
def test_singleton_clusters_give_the_delong_variance(data):
    y, score = data
    _, unclustered = delong_covariance(y, np.column_stack([score, score**2]))
    _, clustered = clustered_delong_covariance(y, np.column_stack([score, score**2]), np.arange(y.size)[::-1])
    np.testing.assert_allclose(clustered, unclustered, atol=1e-14)


@settings(max_examples=60, deadline=None)
@given(labeled_scores())
def test_auc_is_the_pairwise_win_rate_and_survives_monotone_rescaling(data):
    y, score = data
    wins = [(p > n) + 0.5 * (p == n) for p in score[y == 1] for n in score[y == 0]]
    assert auc(y, score) == pytest.approx(np.mean(wins), abs=1e-12)
    assert auc(y, np.exp(score / 3) - 100) == auc(y, score)
    assert auc(1 - y, score) == pytest.approx(1 - auc(y, score), abs=1e-12)
    assert auc(y, score) == pytest.approx(roc_auc_score(y, score), abs=1e-12)
    values = placement_values(y, score)
    assert values[y == 1].mean() == pytest.approx(auc(y, score), abs=1e-12)
    assert values[y == 0].mean() == pytest.approx(auc(y, score), abs=1e-12)


def test_row_order_does_not_matter(paired, nodes):
    shuffled = nodes.sample(frac=1, random_state=np.random.default_rng(3))
    one = clustered_delong_test(nodes["y"], nodes["a"], nodes["b"], nodes["patient"])
    other = clustered_delong_test(shuffled["y"], shuffled["a"], shuffled["b"], shuffled["patient"])
    assert (one.delta, one.p) == pytest.approx((other.delta, other.p), abs=1e-12)


def test_curve_starts_at_infinity_and_its_area_is_the_auc(paired):
    fpr, tpr, thresholds = roc_curve(paired["y"], paired["a"])
    assert (fpr[0], tpr[0], thresholds[0], fpr[-1], tpr[-1]) == (0, 0, inf, 1, 1)
    assert np.trapezoid(tpr, fpr) == pytest.approx(auc(paired["y"], paired["a"]), abs=1e-12)


@pytest.mark.parametrize("score_b", ["a", "a rescaled"])
def test_scores_that_rank_alike_do_not_differ(paired, nodes, score_b):
    for frame, options in ((paired, ()), (nodes, (nodes["patient"],))):
        other = frame["a"] if score_b == "a" else 3 * frame["a"] - 7
        test = clustered_delong_test if options else delong_test
        result = test(frame["y"], frame["a"], other, *options)
        assert (result.delta, result.low, result.high, result.statistic, result.p) == (0, 0, 0, 0, 1)


def test_perfect_separation_has_no_variance_as_in_proc():
    y, score = [0, 0, 0, 1, 1], [1, 2, 3, 4, 5]
    for interval in ("wald", "logit"):
        estimate = delong_auc(y, score, interval=interval)
        assert (estimate.auc, estimate.low, estimate.high, estimate.standard_error) == (1, 1, 1, 0)
    assert EXPECTED["perfect"] == {"auc": 1, "low": 1, "high": 1, "variance": 0}
    against_constant = delong_test(y, score, [0] * 5)
    assert (against_constant.delta, against_constant.statistic, against_constant.p) == (0.5, inf, 0)


def test_separated_classes_have_an_interval_that_separation_just_allows():
    """Truth: drawn from Lehmann's two alternatives with the AUC of the lower limit, classes separate in 1 of 40 draws."""
    y, score = np.repeat([0, 1], [15, 5]), np.arange(20.0)
    estimate = delong_auc(y, score)
    assert estimate.auc == estimate.high == 1 and estimate.standard_error == 0
    assert delong_auc(y, -score).high == pytest.approx(1 - estimate.low)
    assert clustered_delong_auc(y, score, np.arange(20)).low == estimate.low
    power, rng = estimate.low / (1 - estimate.low), np.random.default_rng(8)
    positives, negatives = rng.random((100_000, 5)), rng.random((100_000, 15))
    drawn = ((positives ** (1 / power), negatives), (positives, 1 - negatives ** (1 / power)))
    shares = [np.mean(above.min(axis=1) > below.max(axis=1)) for above, below in drawn]
    assert max(shares) == pytest.approx(0.025, abs=0.002)


def test_logit_interval_stays_inside_where_wald_is_clipped():
    y = np.array([0] * 10 + [1] * 10)
    score = np.arange(20.0)
    score[9], score[10] = 11, 9
    wald, logit = delong_auc(y, score, interval="wald"), delong_auc(y, score, interval="logit")
    assert wald.high == 1.0
    assert 0 < logit.low < wald.auc < logit.high < 1
    student = delong_auc(y, score)
    assert 0 < student.low < logit.low and logit.high < student.high < 1
    with pytest.raises(ValueError, match="wald"):
        delong_auc(y, score, interval="exact")


def test_student_quantiles_have_the_degrees_of_the_smaller_class(paired, nodes):
    """Limits put together from pROC's variance, in log odds, and Student's quantile."""
    reference, n_positive = EXPECTED["paired_a"], int(paired["y"].sum())
    smaller = min(n_positive, len(paired) - n_positive)
    area = reference["auc"]
    half = stats.t.ppf(0.975, smaller - 1) * sqrt(reference["variance"]) / (area * (1 - area))
    estimate = delong_auc(paired["y"], paired["a"])
    limits = np.array([estimate.low, estimate.high])
    np.testing.assert_allclose(np.log(limits / (1 - limits)), np.log(area / (1 - area)) + [-half, half], atol=1e-9)

    test = delong_test(paired["y"], paired["a"], paired["b"])
    assert test.degrees_of_freedom == smaller - 1
    assert test.statistic == pytest.approx(EXPECTED["paired_test"]["statistic"], abs=1e-8)
    assert test.p == pytest.approx(2 * stats.t.sf(abs(test.statistic), smaller - 1))
    limits = delong_test(paired["y"], paired["a"], paired["b"], confidence=1 - test.p)
    assert limits.low == pytest.approx(0, abs=1e-12)  # p is the level whose interval ends at 0

    holding = nodes.groupby("y")["patient"].nunique().min()
    assert clustered_delong_test(nodes["y"], nodes["a"], nodes["b"], nodes["patient"]).degrees_of_freedom == holding - 1
    with pytest.raises(ValueError, match="reference"):
        delong_test(paired["y"], paired["a"], paired["b"], reference="z")


def test_one_unit_in_a_class_has_an_auc_but_no_interval():
    estimate = delong_auc([0, 0, 1], [0.1, 0.4, 0.3])
    assert estimate.auc == 0.5 and isnan(estimate.low) and isnan(estimate.standard_error)
    assert isnan(delong_test([0, 0, 1], [0.1, 0.4, 0.3], [0.3, 0.2, 0.1]).p)
    assert isnan(delong_test_unpaired([0, 0, 1], [1, 3, 2], [0, 1, 0, 1], [1, 2, 3, 4]).p)
    one_patient = clustered_delong_auc([0, 0, 1, 1], [1, 3, 2, 4], ["p1", "p2", "p3", "p3"])
    assert isnan(one_patient.low)


@pytest.mark.parametrize(
    ("y", "score", "message"),
    [
        ([1, 1, 1], [0.1, 0.2, 0.3], "both classes"),
        ([0, 1, 2], [0.1, 0.2, 0.3], "0 and 1 only"),
        ([0, 1, np.nan], [0.1, 0.2, 0.3], "0 and 1 only"),
        ([0, 1, 1], [0.1, 0.2], "shape"),
        ([0, 1, 1], [0.1, 0.2, np.nan], "not finite"),
        ([], [], "non-empty"),
    ],
)
def test_unusable_arrays_are_refused(y, score, message):
    with pytest.raises(ValueError, match=message):
        delong_auc(y, score)


def test_missing_patient_ids_are_refused():
    with pytest.raises(ValueError, match="missing ids"):
        clustered_delong_auc([0, 1, 1], [1, 2, 3], ["p1", None, "p2"])


def test_results_print_as_prose(paired):
    assert str(delong_auc(paired["y"], paired["a"], interval="wald")) == "0.815 (0.746 to 0.883)"
    text = str(delong_test(paired["y"], paired["a"], paired["b"], reference="normal"))
    assert text == "difference 0.088 (0.011 to 0.166), p = 0.025"
