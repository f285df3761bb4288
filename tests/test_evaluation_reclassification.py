"""NRI and IDI. Truth: 12 patients worked by hand; Pencina 2008's published z; Hmisc 4.8.0 in R 4.2.2; properties."""

import json
from math import isnan, sqrt
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit, logit

from alneval.reclassification import (
    integrated_discrimination_improvement,
    net_reclassification_improvement,
    reclassification_table,
)
from alneval.roc import auc, delong_test

REFERENCES = Path(__file__).parent / "references"
EXPECTED = json.loads((REFERENCES / "reclassification" / "expected.json").read_text())

# 4 events and 8 non-events, categories below 0.2, 0.2 to 0.5, 0.5 and above
Y = np.array([1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0])
OLD = np.array([0.10, 0.30, 0.40, 0.60, 0.10, 0.15, 0.30, 0.30, 0.40, 0.60, 0.05, 0.20])
NEW = np.array([0.30, 0.60, 0.45, 0.40, 0.05, 0.25, 0.10, 0.15, 0.30, 0.30, 0.05, 0.10])


@pytest.fixture(scope="module")
def models():
    """Labels, old and new probabilities of make_references.R."""
    table = pd.read_csv(REFERENCES / "evaluation" / "calibration.csv")
    row = np.arange(len(table))
    new = np.where(row % 5 == 0, table["p"], expit(logit(table["p"]) + 0.5 * table["y"] - 0.2 + 0.6 * np.sin(row)))
    return table["y"].to_numpy(), table["p"].to_numpy(), new


@pytest.fixture
def rng():
    return np.random.default_rng(3)


def test_categorical_nri_worked_by_hand():
    """Events: 2 up, 1 stays, 1 down: (2 - 1) / 4. Non-events: 1 up, 4 down, 3 stay: (4 - 1) / 8. NRI 0.25 + 0.375."""
    result = net_reclassification_improvement(Y, OLD, NEW, cutoffs=[0.2, 0.5])
    assert (result.events_up, result.events_down) == (2, 1)
    assert (result.non_events_up, result.non_events_down) == (1, 4)
    assert (result.n_events, result.n_non_events) == (4, 8)
    assert result.events.value == pytest.approx(0.25)
    assert result.non_events.value == pytest.approx(0.375)
    assert result.nri.value == pytest.approx(0.625)
    # 2008: sqrt(3 / 4^2 + 5 / 8^2); 2011: sqrt(3/16 - 1/64 + 5/64 - 9/512)
    assert result.statistic == pytest.approx(0.625 / sqrt(3 / 16 + 5 / 64))
    assert result.nri.standard_error == pytest.approx(sqrt(3 / 16 - 1 / 64 + 5 / 64 - 9 / 512))
    half = 1.959963984540054 * result.nri.standard_error
    assert (result.nri.low, result.nri.high) == pytest.approx((0.625 - half, 0.625 + half))


def test_category_free_nri_and_idi_worked_by_hand():
    """Events: 3 up, 1 down. Non-events: 1 up, 6 down, 1 equal. Mean change of events 0.35 / 4, of others -0.8 / 8."""
    free = net_reclassification_improvement(Y, OLD, NEW)
    assert (free.events_up, free.events_down, free.non_events_up, free.non_events_down) == (3, 1, 1, 6)
    assert free.nri.value == pytest.approx(2 / 4 + 5 / 8) and free.cutoffs is None
    idi = integrated_discrimination_improvement(Y, OLD, NEW)
    assert idi.events.value == pytest.approx(0.35 / 4)
    assert idi.non_events.value == pytest.approx(0.8 / 8)
    assert idi.idi.value == pytest.approx(0.1875)


def test_table_worked_by_hand_and_counts_at_a_cutoff_go_up():
    table = reclassification_table(Y, OLD, NEW, [0.2, 0.5])
    assert table.to_numpy().tolist() == [[0, 1, 0], [0, 1, 1], [0, 1, 0], [2, 1, 0], [3, 1, 0], [0, 1, 0]]
    assert list(table.columns) == ["0 to 0.2", "0.2 to 0.5", "0.5 to 1"]
    assert table.loc["event"].to_numpy().sum() == 4


def test_z_of_pencina_2008():
    """Stat Med 27:157, HDL in Framingham: 183 events, 29 up and 7 down; 3,081 others, 173 up and 174 down.

    Published: NRI 12.1 %, z = 3.616.
    """
    y = np.repeat([1, 0], [183, 3081])
    old = np.full(y.size, 0.1)
    new = np.concatenate([np.repeat([0.3, 0.01, 0.1], [29, 7, 147]), np.repeat([0.3, 0.01, 0.1], [173, 174, 2734])])
    result = net_reclassification_improvement(y, old, new, cutoffs=[0.06, 0.2])
    assert round(result.nri.value, 3) == 0.121 and round(result.statistic, 3) == 3.616


def test_category_free_nri_and_idi_agree_with_hmisc(models):
    reference = EXPECTED["free"]
    free = net_reclassification_improvement(*models)
    for part, name in ((free.nri, "nri"), (free.events, "nri.ev"), (free.non_events, "nri.ne")):
        assert part.value == pytest.approx(reference[name], abs=1e-10)
        assert part.standard_error == pytest.approx(reference[f"se.{name}"], abs=1e-10)
    idi = integrated_discrimination_improvement(*models)
    assert idi.idi.value == pytest.approx(reference["idi"], abs=1e-10)
    assert idi.idi.standard_error == pytest.approx(reference["se.idi"], abs=1e-10)
    assert idi.statistic == pytest.approx(reference["z.idi"], abs=1e-8)
    assert idi.events.value == pytest.approx(reference["improveSens"], abs=1e-10)
    assert idi.non_events.value == pytest.approx(reference["improveSpec"], abs=1e-10)


def test_categorical_nri_agrees_with_hmisc(models):
    reference = EXPECTED["categories"]
    result = net_reclassification_improvement(*models, cutoffs=[0.2, 0.5])
    for part, name in ((result.nri, "nri"), (result.events, "nri.ev"), (result.non_events, "nri.ne")):
        assert part.value == pytest.approx(reference[name], abs=1e-10)
        assert part.standard_error == pytest.approx(reference[f"se.{name}"], abs=1e-10)


def test_idi_is_the_difference_of_discrimination_slopes(models):
    y, old, new = models
    slopes = [prob[y == 1].mean() - prob[y == 0].mean() for prob in (old, new)]
    assert integrated_discrimination_improvement(y, old, new).idi.value == pytest.approx(slopes[1] - slopes[0])


@pytest.mark.parametrize("cutoffs", [None, [0.2, 0.5]])
def test_swapping_models_turns_the_sign(models, cutoffs):
    y, old, new = models
    there = net_reclassification_improvement(y, old, new, cutoffs=cutoffs)
    back = net_reclassification_improvement(y, new, old, cutoffs=cutoffs)
    assert there.nri.value == pytest.approx(-back.nri.value) and there.p == pytest.approx(back.p)
    assert there.nri.low == pytest.approx(-back.nri.high)


def test_identical_models_change_nothing(models):
    y, old, _ = models
    for result, total in (
        (net_reclassification_improvement(y, old, old), "nri"),
        (integrated_discrimination_improvement(y, old, old), "idi"),
    ):
        part = getattr(result, total)
        assert (part.value, part.low, part.high, result.statistic, result.p) == (0, 0, 0, 0, 1)


def test_bootstrap_agrees_with_the_closed_form_when_patients_are_many():
    rng = np.random.default_rng(8)
    y = rng.binomial(1, 0.35, 3000)
    old = expit(rng.normal(-1 + y, 1))
    new = expit(logit(old) + rng.normal(0.2 * y - 0.05, 0.5))
    for function, total in (
        (net_reclassification_improvement, "nri"),
        (integrated_discrimination_improvement, "idi"),
    ):
        wald, resampled = function(y, old, new), function(y, old, new, rng=rng)
        for part in (total, "events", "non_events"):
            expected, found = getattr(wald, part), getattr(resampled, part)
            assert found.value == expected.value
            assert found.high - found.low == pytest.approx(expected.high - expected.low, rel=0.08)
            assert found.low == pytest.approx(expected.low, abs=0.2 * expected.standard_error)
        assert (wald.interval, resampled.interval) == ("Wald", "bootstrap")


def test_doubled_units_of_a_patient_add_nothing_when_patients_are_resampled(models):
    y, old, new = models
    single = net_reclassification_improvement(y, old, new, rng=np.random.default_rng(2), n_bootstrap=300)
    twice = [np.concatenate([values, values]) for values in (y, old, new)]
    patients = np.tile(np.arange(y.size), 2)
    double = net_reclassification_improvement(*twice, rng=np.random.default_rng(2), n_bootstrap=300, cluster=patients)
    assert (double.nri.low, double.nri.high) == pytest.approx((single.nri.low, single.nri.high))
    assert isnan(double.p) and isnan(double.nri.standard_error)  # closed forms would halve the variance
    assert double.interval == "bootstrap, clustered by patient"
    naive = net_reclassification_improvement(*twice)
    assert naive.nri.high - naive.nri.low < 0.8 * (double.nri.high - double.nri.low)


def test_known_weakness_exaggerated_probabilities_win_without_ranking_better():
    """Hilden & Gerds 2014: a monotone, miscalibrated transform has the same AUC, but IDI and NRI praise it."""
    rng = np.random.default_rng(12)
    log_odds = rng.normal(0, 1, 1000)
    y = rng.binomial(1, expit(log_odds))
    old, new = expit(log_odds), expit(3 * log_odds)
    assert auc(y, old) == auc(y, new) and delong_test(y, old, new).p == 1
    assert integrated_discrimination_improvement(y, old, new).p < 1e-6
    result = net_reclassification_improvement(y, old, new)
    assert result.nri.low > 0 and "useless marker" in str(result)


def test_resamples_without_a_class_are_left_out_and_counted(rng):
    result = net_reclassification_improvement(Y, OLD, NEW, rng=rng, n_bootstrap=500, stratified=False)
    assert 0 < result.n_undefined < 100 and np.isfinite([result.nri.low, result.nri.high]).all()


def test_one_event_has_no_idi_variance():
    result = integrated_discrimination_improvement([1, 0, 0], [0.2, 0.1, 0.3], [0.4, 0.1, 0.2])
    assert isnan(result.idi.standard_error) and isnan(result.p) and "no interval" in str(result)


@pytest.mark.parametrize("cutoffs", [[0.5, 0.2], [0.0, 0.5], [0.5, 1.0], [], [0.2, 0.2]])
def test_cutoffs_must_increase_inside_the_unit_interval(cutoffs):
    with pytest.raises(ValueError, match="cutoffs"):
        net_reclassification_improvement(Y, OLD, NEW, cutoffs=cutoffs)


def test_misuse_is_refused():
    with pytest.raises(ValueError, match="pass rng"):
        net_reclassification_improvement(Y, OLD, NEW, cluster=np.arange(12))
    with pytest.raises(ValueError, match="both classes"):
        integrated_discrimination_improvement(np.ones(12), OLD, NEW)
    with pytest.raises(ValueError, match="prob_new must lie"):
        net_reclassification_improvement(Y, OLD, NEW + 1)
    with pytest.raises(ValueError, match="needs cutoffs"):
        reclassification_table(Y, OLD, NEW, None)
