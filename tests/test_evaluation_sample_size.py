"""Sample size. Truth: pmsampsize, pmvalsampsize, sampsizeval and the BMJ figures (published.json); simulation and
adaptive integration in R 4.2.2 (expected.json); properties."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alneval.sample_size import (
    auc_validation_size,
    cox_snell_r2_from_auc,
    development_sample_size,
    expected_shrinkage,
    max_cox_snell_r2,
    normal_linear_predictor,
    observed_expected_validation_size,
    shrinkage_size,
    slope_validation_size,
    validation_sample_size,
)

REFERENCES = Path(__file__).parent / "references" / "sample_size"
PUBLISHED = json.loads((REFERENCES / "published.json").read_text())
EXPECTED = json.loads((REFERENCES / "expected.json").read_text())


@pytest.mark.parametrize("case", PUBLISHED["development"]["cases"])
def test_development_sizes_agree_with_pmsampsize(case):
    size = development_sample_size(case["parameters"], case["prevalence"], case["r2"])
    assert [size.n_shrinkage, size.n_optimism, size.n_risk, size.n] == case["n"]


def test_criteria_agree_with_the_figures_of_riley_2020():
    figures = PUBLISHED["bmj"]
    assert development_sample_size(10, 0.5, 0.2).n_risk == np.ceil(figures["figure_1_mean_risk"]["n"])
    for name in ("figure_3_shrinkage", "figure_5_optimism"):  # one formula, once with the wanted and once a derived S
        figure = figures[name]
        size = shrinkage_size(figure["parameters"], figure["r2"], figure["shrinkage"])
        assert size == pytest.approx(figure["n"], abs=1)


def test_largest_r2_of_even_odds_is_three_quarters():
    """Riley 2020, supplement 5: 50 events in 100 patients, 1 - exp(2 x -69.315 / 100) = 0.75."""
    assert max_cox_snell_r2(0.5) == pytest.approx(0.75, abs=1e-12)
    assert max_cox_snell_r2(0.05) == pytest.approx(0.33, abs=0.005)


@pytest.mark.parametrize("case", EXPECTED["cox_snell"])
def test_r2_from_auc_agrees_with_a_million_simulated_patients(case):
    assert cox_snell_r2_from_auc(case["auc"], case["prevalence"]) == pytest.approx(case["r2"], abs=0.002)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 60), st.floats(0.02, 0.6), st.floats(0.65, 0.98))
def test_shrinkage_and_size_invert_each_other(parameters, r2, shrinkage):
    size = shrinkage_size(parameters, r2, shrinkage)
    assert expected_shrinkage(size, parameters, r2) >= shrinkage - 1e-9
    if size > 1:
        assert expected_shrinkage(size - 1, parameters, r2) < shrinkage + 1e-9


def test_shrinkage_gets_worse_with_parameters_and_better_with_patients():
    by_parameters = [expected_shrinkage(200, parameters, 0.2) for parameters in (1, 10, 50, 400)]
    assert by_parameters == sorted(by_parameters, reverse=True) and by_parameters[-1] > 0.2
    by_patients = [expected_shrinkage(n, 20, 0.2) for n in (5, 50, 500, 50_000)]
    assert by_patients == sorted(by_patients) and by_patients[-1] > 0.998


def test_thousands_of_features_on_few_patients_leave_the_least_shrinkage_there_is():
    """The equation's limit: as P/n grows S falls to R2, and goes there without a jump."""
    shrinkages = [expected_shrinkage(100, count, 0.2) for count in (100, 500, 1500, 2000, 2637, 50_000)]
    assert all(0 <= later <= earlier for earlier, later in zip(shrinkages, shrinkages[1:], strict=False))
    assert shrinkages[-1] == pytest.approx(0.2, abs=1e-12) and shrinkages[3] == pytest.approx(0.2, abs=1e-8)


def test_validation_sizes_agree_with_pmvalsampsize():
    published = PUBLISHED["validation"]
    ratio, slope, auc = published["n"]
    # their standard error of the ratio is rounded up to 0.0001, their slope is simulated
    assert observed_expected_validation_size(published["prevalence"], published["ratio_width"]) - ratio in (0, 1)
    assert slope_validation_size(published["lp_mean"], published["lp_sd"]) == pytest.approx(slope, rel=0.005)
    assert auc_validation_size(published["prevalence"], published["auc"]) == auc


def test_the_largest_criterion_decides():
    size = validation_sample_size(0.3, 0.8)
    assert size.n_slope == slope_validation_size(*normal_linear_predictor(0.3, 0.8))
    assert size.n == max(size.n_observed_expected, size.n_slope, size.n_auc)


@pytest.mark.parametrize("case", EXPECTED["slope"])
def test_slope_size_agrees_with_adaptive_integration(case):
    assert slope_validation_size(case["mean"], case["sd"], case["width"]) == np.ceil(case["n"])


@pytest.mark.parametrize("case", EXPECTED["auc"])
def test_auc_size_is_the_first_n_that_is_narrow_enough(case):
    assert auc_validation_size(case["prevalence"], case["auc"], case["width"]) == case["n"]


def test_slope_size_of_the_normal_predictor_agrees_with_sampsizeval():
    published = PUBLISHED["pavlou"]
    predictor = normal_linear_predictor(published["prevalence"], published["auc"])
    size = slope_validation_size(*predictor, 2 * 1.96 * published["se_slope"])
    assert size == pytest.approx(published["n_slope"], rel=0.03)


@pytest.mark.parametrize("case", EXPECTED["normal"])
def test_normal_linear_predictor_finds_what_was_simulated(case):
    mean, sd = normal_linear_predictor(case["prevalence"], case["auc"])
    assert mean == pytest.approx(case["mean"], abs=0.03 * abs(case["mean"]))
    assert sd == pytest.approx(case["sd"], rel=0.02)


def test_observed_expected_size_gives_the_wanted_width_in_simulated_cohorts():
    n = observed_expected_validation_size(0.3)
    observed = np.random.default_rng(6).binomial(n, 0.3, 40_000) / (n * 0.3)
    assert np.ptp(np.quantile(observed, [0.025, 0.975])) == pytest.approx(0.2, rel=0.05)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: development_sample_size(10, 0.1, 0.6), "above 0.478"),
        (lambda: development_sample_size(0, 0.1, 0.1), "whole number"),
        (lambda: development_sample_size(10, 10, 0.1), "prevalence must lie"),
        (lambda: cox_snell_r2_from_auc(0.5, 0.1), "auc must lie"),
        (lambda: shrinkage_size(10, 0.2, 0.1), "shrinkage must lie"),
        (lambda: expected_shrinkage(0, 3, 0.2), "at least 1"),
        (lambda: normal_linear_predictor(0.3, 0.995), "at most 0.99"),
        (lambda: auc_validation_size(0.3, 0.8, 0), "width must be positive"),
        (lambda: slope_validation_size(0, 0), "positive sd"),
    ],
)
def test_impossible_arguments_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
