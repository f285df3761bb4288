"""NRI and IDI. Truth: 12 patients worked by hand; Hmisc 4.8.0 in R 4.2.2; properties."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit, logit

from alneval.delong import auc_difference
from alneval.estimate import interval, once
from alneval.reclassification import reclassification
from alneval.units import Units

REFERENCES = Path(__file__).parent / "references"
EXPECTED = json.loads((REFERENCES / "reclassification" / "expected.json").read_text())

# 4 events and 8 non-events
Y = np.array([1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0])
OLD = np.array([0.10, 0.30, 0.40, 0.60, 0.10, 0.15, 0.30, 0.30, 0.40, 0.60, 0.05, 0.20])
NEW = np.array([0.30, 0.60, 0.45, 0.40, 0.05, 0.25, 0.10, 0.15, 0.30, 0.30, 0.05, 0.10])


@pytest.fixture(scope="module")
def models():
    """Units with the old and new probabilities of make_references.R."""
    table = pd.read_csv(REFERENCES / "evaluation" / "calibration.csv")
    row = np.arange(len(table))
    new = np.where(row % 5 == 0, table["p"], expit(logit(table["p"]) + 0.5 * table["y"] - 0.2 + 0.6 * np.sin(row)))
    return Units.of(table["y"], table["p"], new)


def test_worked_by_hand():
    """Events: 3 up, 1 down. Non-events: 1 up, 6 down, 1 equal. Mean change of events 0.35 / 4, of others -0.8 / 8."""
    assert once(reclassification, Units.of(Y, OLD, NEW)) == pytest.approx([2 / 4, 5 / 8, 0.35 / 4 + 0.8 / 8])


def test_agrees_with_hmisc(models):
    reference = EXPECTED["free"]
    expected = [reference["nri.ev"], reference["nri.ne"], reference["idi"]]
    assert once(reclassification, models) == pytest.approx(expected, abs=1e-10)


def test_resampled_errors_agree_with_those_of_hmisc(models):
    estimate = interval(reclassification, models, np.random.default_rng(8), n=4000)
    expected = [EXPECTED["free"][name] for name in ("se.nri.ev", "se.nri.ne", "se.idi")]
    assert estimate.standard_error == pytest.approx(expected, rel=0.05)


def test_idi_is_the_difference_of_discrimination_slopes(models):
    old, new = (p[models.positive].mean() - p[~models.positive].mean() for p in models.scores.T)
    assert once(reclassification, models)[2] == pytest.approx(new - old)


def test_swapping_models_turns_the_sign_and_identical_models_change_nothing(models):
    swapped = Units.of(models.positive, models.scores[:, ::-1])
    assert once(reclassification, swapped) == pytest.approx(-once(reclassification, models))
    same = interval(
        reclassification, Units.of(models.positive, models.scores[:, [0, 0]]), np.random.default_rng(0), n=20
    )
    assert not same.value.any() and not same.low.any() and not same.high.any()


def test_doubled_units_of_a_patient_add_nothing_when_patients_are_resampled(models):
    patients = np.tile(np.arange(len(models)), 2)
    twice = Units.of(np.tile(models.positive, 2), np.tile(models.scores, (2, 1)), patient=patients)
    single, double = (interval(reclassification, u, np.random.default_rng(2), n=300) for u in (models, twice))
    np.testing.assert_allclose([double.low, double.high], [single.low, single.high])


def test_known_weakness_exaggerated_probabilities_win_without_ranking_better():
    """Hilden & Gerds 2014: a monotone, miscalibrated transform has the same AUC, but IDI and NRI praise it."""
    rng = np.random.default_rng(12)
    log_odds = rng.normal(0, 1, 1000)
    units = Units.of(rng.binomial(1, expit(log_odds)), expit(log_odds), expit(3 * log_odds))
    assert auc_difference(units).p == 1
    assert (interval(reclassification, units, rng, n=200).low > 0).all()


def test_resamples_without_a_class_are_left_out_and_counted():
    estimate = interval(reclassification, Units.of(Y, OLD, NEW), np.random.default_rng(3), n=500, stratified=False)
    assert 0 < estimate.n_undefined < 100 and np.isfinite([estimate.low, estimate.high]).all()
