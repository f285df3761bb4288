"""Recalibration. Truth: R glm (references/evaluation), statsmodels GLM, the min-max formula of isotonic regression."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit, logit
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.isotonic import IsotonicRegression

from alneval.calibration import calibration_intercept, calibration_slope, joint_calibration
from alneval.curves import brier
from alneval.delong import auc
from alneval.estimate import once
from alneval.recalibration import IsotonicRecalibration, PlattRecalibration
from alneval.units import Units
from alnlib.errors import InputError

REFERENCES = Path(__file__).parent / "references" / "evaluation"
EXPECTED = json.loads((REFERENCES / "expected.json").read_text())
ALL = [PlattRecalibration(), IsotonicRecalibration()]


@pytest.fixture(scope="module")
def table():
    return pd.read_csv(REFERENCES / "calibration.csv")


def isotonic_by_formula(probabilities, outcome):
    """max over i' <= i of min over i'' >= i of the mean outcome between them, over distinct probabilities."""
    values, group = np.unique(probabilities, return_inverse=True)
    totals, sizes = np.bincount(group, weights=outcome), np.bincount(group)
    k = values.size
    fitted = [
        max(min(totals[a : b + 1].sum() / sizes[a : b + 1].sum() for b in range(i, k)) for a in range(i + 1))
        for i in range(k)
    ]
    return values, np.array(fitted)


@pytest.mark.parametrize("column", ["p", "p_tied", "p_groups"])
def test_platt_agrees_with_r_glm_and_statsmodels(table, column):
    """R 4.2.2: glm(y ~ qlogis(p))."""
    reference = EXPECTED[f"calibration_{column}"]
    fitted = PlattRecalibration().fit(table[column], table["y"])
    assert fitted.intercept_ == pytest.approx(reference["joint_intercept"], abs=1e-8)
    assert fitted.slope_ == pytest.approx(reference["slope"], abs=1e-8)
    design = sm.add_constant(logit(table[column].to_numpy()))
    glm = sm.GLM(table["y"], design, family=sm.families.Binomial()).fit()
    np.testing.assert_allclose(fitted.predict(table[column]), glm.predict(design), atol=1e-6)


def test_platt_on_its_own_data_is_perfect_which_is_why_it_is_not_judged_there(table):
    recalibrated = PlattRecalibration().fit(table["p"], table["y"]).predict(table["p"])
    joint = joint_calibration(Units.of(table["y"], recalibrated))
    assert [estimate.value for estimate in joint] == pytest.approx([0, 1], abs=1e-6)


def test_a_planted_miscalibration_is_undone_on_other_patients():
    rng = np.random.default_rng(4)
    true_log_odds = rng.normal(-0.6, 1.2, 8000)
    y = rng.binomial(1, expit(true_log_odds))
    stated = expit(1.8 * true_log_odds + 0.9)
    fit_on, judge = slice(0, 4000), slice(4000, None)
    platt = PlattRecalibration().fit(stated[fit_on], y[fit_on])
    assert platt.slope_ == pytest.approx(1 / 1.8, abs=0.05)
    assert platt.intercept_ == pytest.approx(-0.9 / 1.8, abs=0.1)
    before, after = (Units.of(y[judge], p) for p in (stated[judge], platt.predict(stated[judge])))
    assert calibration_slope(before).high < 0.7
    assert calibration_slope(after).value == pytest.approx(1, abs=0.08)
    assert calibration_intercept(after).value == pytest.approx(0, abs=0.1)
    for method in ALL:
        changed = Units.of(y[judge], clone(method).fit(stated[fit_on], y[fit_on]).predict(stated[judge]))
        assert once(brier, changed) < once(brier, before) - 0.005
    assert auc(y[judge], after.score) == auc(y[judge], before.score)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 8), st.booleans()), min_size=2, max_size=18))
def test_isotonic_is_the_min_max_formula_also_with_ties_and_certain_probabilities(pairs):
    probabilities, y = np.array([pair[0] for pair in pairs]) / 8, np.array([pair[1] for pair in pairs])
    if y.all() or not y.any():
        return
    fitted = IsotonicRecalibration().fit(probabilities, y)
    values, expected = isotonic_by_formula(probabilities, y.astype(float))
    np.testing.assert_allclose(fitted.predict(values), expected, atol=1e-12)


def test_isotonic_agrees_with_sklearn_between_and_beyond_the_fitted_probabilities(table):
    grid = np.linspace(0, 1, 501)
    curve = IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip").fit(table["p_tied"], table["y"])
    recalibrated = IsotonicRecalibration().fit(table["p_tied"], table["y"]).predict(grid)
    np.testing.assert_allclose(recalibrated, curve.predict(grid), atol=1e-12)
    assert (np.diff(recalibrated) >= 0).all()


@pytest.mark.parametrize("method", ALL)
def test_probabilities_of_zero_and_one_are_taken_and_order_is_kept(table, method):
    stated = table["p"].to_numpy().copy()
    stated[:2], stated[2:4] = 0.0, 1.0
    fitted = clone(method).fit(stated, table["y"])
    recalibrated = fitted.predict([0.0, 1e-9, 0.2, 0.2, 0.7, 1.0])
    assert np.isfinite(recalibrated).all() and ((recalibrated >= 0) & (recalibrated <= 1)).all()
    assert (np.diff(recalibrated) >= 0).all() and recalibrated[2] == recalibrated[3]
    if isinstance(method, PlattRecalibration):
        assert 0 < recalibrated[0] < recalibrated[-1] < 1


def test_platt_shows_a_score_that_ranks_the_wrong_way(table):
    assert PlattRecalibration().fit(1 - table["p"], table["y"]).slope_ < 0


@pytest.mark.parametrize("method", ALL)
@pytest.mark.parametrize("label", [0, 1])
def test_one_class_is_the_users_error(method, label):
    with pytest.raises(InputError, match="needs both classes among the validation patients, but all 3"):
        clone(method).fit([0.1, 0.5, 0.9], [label] * 3)


def test_slope_that_does_not_exist_is_the_users_error():
    for stated, y in (([0.3] * 4, [0, 1, 0, 1]), ([0.1, 0.2, 0.8, 0.9], [0, 0, 1, 1])):
        with pytest.raises(InputError, match="no finite recalibration slope"):
            PlattRecalibration().fit(stated, y)
    np.testing.assert_allclose(IsotonicRecalibration().fit([0.3] * 4, [0, 1, 0, 0]).predict([0.0, 0.3, 1.0]), 0.25)


@pytest.mark.parametrize("method", ALL)
def test_misuse_is_refused(method):
    with pytest.raises(NotFittedError):
        clone(method).predict([0.5])
    with pytest.raises(ValueError, match="lie in"):
        clone(method).fit([0.1, 1.5], [0, 1])
    fitted = clone(method).fit([0.1, 0.5, 0.2, 0.9], [0, 1, 1, 0])
    with pytest.raises(ValueError, match="one-dimensional"):
        fitted.predict([[0.5]])
    with pytest.raises(ValueError, match="lie in"):
        fitted.predict([np.nan])
