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
    max_parameters,
    net_benefit_validation_size,
    normal_linear_predictor,
    observed_expected_validation_size,
    slope_validation_size,
    validation_sample_size,
)

REFERENCES = Path(__file__).parent / "references" / "sample_size"
PUBLISHED = json.loads((REFERENCES / "published.json").read_text())
EXPECTED = json.loads((REFERENCES / "expected.json").read_text())


@pytest.mark.parametrize("case", PUBLISHED["development"]["cases"])
def test_development_sizes_agree_with_pmsampsize(case):
    size = development_sample_size(case["parameters"], case["prevalence"], r2_cox_snell=case["r2"])
    assert [size.n_shrinkage, size.n_optimism, size.n_risk, size.n] == case["n"]
    assert round(size.events_per_parameter, 2) == case["epp"]


def test_criteria_agree_with_the_figures_of_riley_2020():
    figures = PUBLISHED["bmj"]
    assert development_sample_size(10, 0.5, r2_cox_snell=0.2).n_risk == np.ceil(figures["figure_1_mean_risk"]["n"])
    figure = figures["figure_2_individual_risks"]
    size = development_sample_size(
        figure["parameters"], figure["prevalence"], r2_cox_snell=0.3, mean_absolute_error=figure["mean_absolute_error"]
    )
    assert size.n_error == size.n == np.ceil(figure["n"])  # the largest when much is explained by few parameters
    for name in ("figure_3_shrinkage", "figure_5_optimism"):  # one formula, once with the wanted and once a derived S
        figure = figures[name]
        size = development_sample_size(
            figure["parameters"], 0.5, r2_cox_snell=figure["r2"], shrinkage=figure["shrinkage"]
        )
        assert size.n_shrinkage == pytest.approx(figure["n"], abs=1)


def test_largest_r2_of_even_odds_is_three_quarters():
    """Riley 2020, supplement 5: 50 events in 100 patients, 1 - exp(2 x -69.315 / 100) = 0.75."""
    assert max_cox_snell_r2(0.5) == pytest.approx(0.75, abs=1e-12)
    assert max_cox_snell_r2(0.05) == pytest.approx(0.33, abs=0.005)
    size = development_sample_size(5, 0.3, r2_cox_snell=0.1)
    assert size.r2_nagelkerke == pytest.approx(0.1 / max_cox_snell_r2(0.3))


@pytest.mark.parametrize("case", EXPECTED["cox_snell"])
def test_r2_from_auc_agrees_with_a_million_simulated_patients(case):
    assert cox_snell_r2_from_auc(case["auc"], case["prevalence"]) == pytest.approx(case["r2"], abs=0.002)
    by_auc = development_sample_size(12, case["prevalence"], auc=case["auc"])
    by_r2 = development_sample_size(
        12, case["prevalence"], r2_cox_snell=cox_snell_r2_from_auc(case["auc"], case["prevalence"])
    )
    assert by_auc == by_r2


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 60), st.floats(0.02, 0.6), st.floats(0.65, 0.98))
def test_shrinkage_and_size_invert_each_other(parameters, r2, shrinkage):
    size = development_sample_size(parameters, 0.5, r2_cox_snell=r2, shrinkage=shrinkage)
    assert expected_shrinkage(size.n_shrinkage, parameters, r2) >= shrinkage - 1e-9
    if size.n_shrinkage > 1:
        assert expected_shrinkage(size.n_shrinkage - 1, parameters, r2) < shrinkage + 1e-9
        assert max_parameters(size.n_shrinkage - 1, r2, shrinkage=shrinkage) < parameters
    assert max_parameters(size.n_shrinkage, r2, shrinkage=shrinkage) >= parameters


def test_shrinkage_gets_worse_with_parameters_and_better_with_patients():
    by_parameters = [expected_shrinkage(200, parameters, 0.2) for parameters in (1, 10, 50, 400)]
    assert by_parameters == sorted(by_parameters, reverse=True) and by_parameters[-1] > 0.2
    by_patients = [expected_shrinkage(n, 20, 0.2) for n in (5, 50, 500, 50_000)]
    assert by_patients == sorted(by_patients) and by_patients[-1] > 0.998
    assert max_parameters(5, 0.05) == 0


def test_validation_sizes_agree_with_pmvalsampsize():
    published = PUBLISHED["validation"]
    size = validation_sample_size(
        published["prevalence"],
        published["auc"],
        lp_mean=published["lp_mean"],
        lp_sd=published["lp_sd"],
        ratio_width=published["ratio_width"],
    )
    ratio, slope, auc = published["n"]
    assert ratio <= size.n_observed_expected <= ratio + 1  # its standard error is rounded up to 0.0001
    assert size.n_slope == pytest.approx(slope, rel=0.005)  # theirs is simulated
    assert size.n_auc == auc
    assert size.n == max(size.n_slope, size.n_auc) and size.events == size.n * 0.018


@pytest.mark.parametrize("case", EXPECTED["slope"])
def test_slope_size_agrees_with_adaptive_integration(case):
    assert slope_validation_size(case["mean"], case["sd"], case["width"]) == np.ceil(case["n"])


@pytest.mark.parametrize("case", EXPECTED["auc"])
def test_auc_size_is_the_first_n_that_is_narrow_enough(case):
    assert auc_validation_size(case["prevalence"], case["auc"], case["width"]) == case["n"]


def test_binormal_auc_size_agrees_with_sampsizeval():
    published = PUBLISHED["pavlou"]
    widths = [2 * 1.96 * published[name] for name in ("se_auc", "se_slope")]
    size = auc_validation_size(published["prevalence"], published["auc"], widths[0], method="binormal")
    assert size == published["n_auc"]
    predictor = normal_linear_predictor(published["prevalence"], published["auc"])
    assert slope_validation_size(*predictor, widths[1]) == pytest.approx(published["n_slope"], rel=0.03)


@pytest.mark.parametrize("case", EXPECTED["normal"])
def test_normal_linear_predictor_finds_what_was_simulated(case):
    mean, sd = normal_linear_predictor(case["prevalence"], case["auc"])
    assert mean == pytest.approx(case["mean"], abs=0.03 * abs(case["mean"]))
    assert sd == pytest.approx(case["sd"], rel=0.02)


def test_net_benefit_size_gives_the_wanted_width_in_simulated_cohorts():
    prevalence, sensitivity, specificity, threshold, width = 0.3, 0.85, 0.6, 0.15, 0.2
    n = net_benefit_validation_size(prevalence, sensitivity, specificity, threshold, width)
    rng = np.random.default_rng(5)
    positives = rng.binomial(n, prevalence, 20_000)
    true_positives = rng.binomial(positives, sensitivity)
    false_positives = rng.binomial(n - positives, 1 - specificity)
    standardized = (true_positives - false_positives * threshold / (1 - threshold)) / positives
    assert 2 * 1.96 * standardized.std() == pytest.approx(width, rel=0.05)
    whole = validation_sample_size(
        prevalence, 0.8, sensitivity=sensitivity, specificity=specificity, threshold=threshold, net_benefit_width=width
    )
    assert whole.n_net_benefit == n and f"net benefit {n}" in str(whole)


def test_observed_expected_size_gives_the_wanted_width_in_simulated_cohorts():
    n = observed_expected_validation_size(0.3, 0.2)
    observed = np.random.default_rng(6).binomial(n, 0.3, 40_000) / (n * 0.3)
    assert np.ptp(np.quantile(observed, [0.025, 0.975])) == pytest.approx(0.2, rel=0.05)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: development_sample_size(10, 0.1, r2_cox_snell=0.6), "above 0.478"),
        (lambda: development_sample_size(10, 0.1), "not both"),
        (lambda: development_sample_size(10, 0.1, r2_cox_snell=0.2, auc=0.8), "not both"),
        (lambda: development_sample_size(0, 0.1, auc=0.8), "whole number"),
        (lambda: development_sample_size(10, 10, auc=0.8), "prevalence must lie"),
        (lambda: development_sample_size(10, 0.1, auc=0.5), "auc must lie"),
        (lambda: development_sample_size(10, 0.1, r2_cox_snell=0.2, shrinkage=0.1), "shrinkage must lie"),
        (lambda: development_sample_size(31, 0.1, auc=0.8, mean_absolute_error=0.05), "at most 30"),
        (lambda: expected_shrinkage(0, 3, 0.2), "at least 1"),
        (lambda: normal_linear_predictor(0.3, 0.995), "at most 0.99"),
        (lambda: auc_validation_size(0.3, 0.8, 0.1, method="exact"), "newcombe"),
        (lambda: auc_validation_size(0.3, 0.8, 0), "width must be positive"),
        (lambda: slope_validation_size(0, 0, 0.2), "positive sd"),
        (lambda: observed_expected_validation_size(0.3, 0.2, ratio=0), "ratio must be positive"),
        (lambda: net_benefit_validation_size(0.3, 1.2, 0.5, 0.1, 0.2), "sensitivity must lie"),
        (lambda: validation_sample_size(0.3, 0.8, lp_mean=-1), "both lp_mean and lp_sd"),
        (lambda: validation_sample_size(0.3, 0.8, threshold=0.1), "together"),
    ],
)
def test_impossible_arguments_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_summaries_name_every_criterion():
    text = str(development_sample_size(24, 0.174, r2_cox_snell=0.288))
    assert text.startswith("662 patients with 116 events (4.8 per parameter)") and "shrinkage 623" in text
    assert "individual risks" in str(development_sample_size(10, 0.3, r2_cox_snell=0.3, mean_absolute_error=0.05))


def test_thousands_of_features_on_few_patients_leave_the_least_shrinkage_there_is():
    """The equation's limit: as P/n grows S falls to R2, and goes there without a jump."""
    found = [expected_shrinkage(100, count, 0.2) for count in (100, 500, 1500, 2000, 2637, 50_000)]
    assert all(0 <= later <= earlier for earlier, later in zip(found, found[1:], strict=False))
    assert found[-1] == pytest.approx(0.2, abs=1e-12) and found[3] == pytest.approx(0.2, abs=1e-8)
