"""Cut-offs and operating points. Truth: pROC 1.18.0 (coords), brute force over all cuts, hand counts."""

import json
from math import isnan
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alneval.intervals import wilson_interval
from alneval.thresholds import operating_point, threshold_at_specificity, youden_threshold
from alneval.units import Units
from tests.strategies import labeled_scores

REFERENCES = Path(__file__).parent / "references" / "evaluation"
EXPECTED = json.loads((REFERENCES / "expected.json").read_text())


def rates(y, score, threshold):
    called = score >= threshold
    return called[y == 1].mean(), (~called)[y == 0].mean()


def test_youden_threshold_agrees_with_proc(paired):
    reference = EXPECTED["youden"]
    threshold = youden_threshold(units := Units.of(paired["y"], paired["b"]))
    point = operating_point(units, threshold)
    assert threshold == pytest.approx(reference["threshold"], abs=1e-12)
    assert point.sensitivity.value == pytest.approx(reference["sensitivity"], abs=1e-12)
    assert point.specificity.value == pytest.approx(reference["specificity"], abs=1e-12)


@settings(max_examples=60, deadline=None)
@given(labeled_scores(), st.sampled_from([0.0, 0.3, 0.5, 0.9, 1.0]))
def test_chosen_thresholds_are_the_best_of_all_cuts(data, wanted):
    y, score = data
    cuts = [rates(y, score, threshold) for threshold in [*np.unique(score), score.max() + 1]]
    best = max(sum(cut) for cut in cuts)
    sensitivity, specificity = rates(y, score, youden_threshold(Units.of(y, score)))
    assert sensitivity + specificity == pytest.approx(best)
    assert sensitivity == pytest.approx(max(cut[0] for cut in cuts if sum(cut) > best - 1e-9))

    reached = rates(y, score, threshold_at_specificity(Units.of(y, score), wanted))
    assert reached[1] >= wanted - 1e-12
    assert reached[0] == max(cut[0] for cut in cuts if cut[1] >= wanted - 1e-12)


def test_wanted_shares_are_not_missed_by_rounding():
    """0.56 x 25 is 14.000000000000002 in floating point; 14 of 25 must do."""
    assert 0.56 * 25 > 14
    units = Units.of(np.repeat([0, 1], 25), np.tile(np.arange(25.0), 2))
    assert operating_point(units, threshold_at_specificity(units, 0.56)).true_negatives == 14


def test_threshold_survives_scores_written_with_eight_digits(paired):
    probability = 1 / (1 + np.exp(-paired["b"] + np.linspace(0, 1e-3, len(paired))))
    threshold = youden_threshold(Units.of(paired["y"], probability))
    rounded = pd.Series([float(f"{value:.8g}") for value in probability])
    assert ((rounded >= float(f"{threshold:.8g}")) == (probability >= threshold)).all()


def test_thresholds_are_finite_even_when_nobody_may_be_called_positive():
    units = Units.of([1, 1, 0], [0.2, 0.3, 1.0])
    threshold = threshold_at_specificity(units, 1.0)
    assert np.isfinite(threshold) and operating_point(units, threshold).false_positives == 0
    assert youden_threshold(Units.of([0, 1], [0.5, 0.5])) == 0.5


def test_operating_point_counts_by_hand():
    point = operating_point(
        Units.of([1, 1, 1, 0, 0, 0, 0], [0.9, 0.5, 0.2, 0.5, 0.4, 0.1, 0.1]), 0.5
    )  # a score of 0.5 is positive
    counts = (point.true_positives, point.false_positives, point.true_negatives, point.false_negatives)
    assert counts == (2, 1, 3, 1)
    assert point.sensitivity == wilson_interval(2, 3)
    assert point.specificity == wilson_interval(3, 4)
    assert point.ppv == wilson_interval(2, 3)
    assert point.npv == wilson_interval(3, 4)
    assert point.accuracy == wilson_interval(5, 7)
    assert str(point).startswith("sensitivity 0.667 (")


def test_missing_class_gives_nan_not_a_crash():
    point = operating_point(Units.of([1, 1], [0.2, 0.9]), 0.5)
    assert isnan(point.specificity.value) and point.sensitivity.value == 0.5
    rng = np.random.default_rng(0)
    clustered = operating_point(Units.of([1, 1], [0.2, 0.9], patient=["p1", "p1"]), 0.5, rng=rng, n_bootstrap=20)
    assert isnan(clustered.specificity.low)


def test_intervals_over_patients_do_not_shrink_when_rows_are_repeated():
    """Every patient's row five times is no new information: patients give the same width, rows would not."""
    rng = np.random.default_rng(3)
    y = rng.integers(0, 2, 80)
    score = np.round(rng.normal(size=80) + y, 1)
    repeated = np.repeat(np.arange(80), 5)
    once = operating_point(Units.of(y, score), 0.5)
    by_row = operating_point(Units.of(y[repeated], score[repeated]), 0.5)
    by_patient = operating_point(Units.of(y[repeated], score[repeated], patient=repeated), 0.5, rng=rng)
    width = {name: p.sensitivity.high - p.sensitivity.low for name, p in
             (("once", once), ("row", by_row), ("patient", by_patient))}  # fmt: skip
    assert width["patient"] == pytest.approx(width["once"], rel=0.15)
    assert width["row"] < 0.6 * width["patient"]


def test_agreement_of_all_units_falls_back_to_the_number_of_patients():
    y, score, patients = [1] * 6 + [0] * 3, [0.9] * 6 + [0.1] * 3, ["a", "a", "a", "b", "b", "c", "c", "d", "e"]
    point = operating_point(Units.of(y, score, patient=patients), 0.5, rng=np.random.default_rng(0), n_bootstrap=50)
    assert point.sensitivity.low == wilson_interval(3, 3).low and point.sensitivity.high == 1.0
    assert (point.sensitivity.n_positive, point.sensitivity.n) == (6, 6)
    none = operating_point(Units.of(y, score, patient=patients), 2.0, rng=np.random.default_rng(0), n_bootstrap=50)
    assert (none.sensitivity.low, none.sensitivity.high) == (0.0, wilson_interval(0, 3).high)


def test_wrong_arguments_are_refused():
    with pytest.raises(ValueError, match="finite"):
        operating_point(Units.of([0, 1], [0.1, 0.2]), np.inf)
    with pytest.raises(ValueError, match="rng"):
        operating_point(Units.of([0, 1], [0.1, 0.2], patient=[1, 1]), 0.1)
    with pytest.raises(ValueError, match="specificity"):
        threshold_at_specificity(Units.of([0, 1], [0.1, 0.2]), 90)
    with pytest.raises(ValueError, match="both classes"):
        youden_threshold(Units.of([1, 1], [0.1, 0.2]))
