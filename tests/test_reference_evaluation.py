"""The evaluation against R. Truth: R 4.2.2, pROC 1.18.0, and counts patient by patient in R
(references/complete/make_references.R)."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from alneval.decision_curve import decision_curve, net_benefit
from alneval.estimate import once
from alneval.multireader import obuchowski_rockette, reader_components, reader_covariance
from alneval.partial_auc import average_precision, roc_band
from alneval.prevalence import predictive_values, prior_shift
from alneval.roc import delong_test_unpaired
from alneval.units import Units

REFERENCES = Path(__file__).parent / "references"
EXPECTED = json.loads((REFERENCES / "complete" / "expected.json").read_text())
WITHIN = 1e-9


def read(name: str) -> pd.DataFrame:
    return pd.read_csv(REFERENCES / "evaluation" / name)


def test_interval_of_an_unpaired_difference():
    """pROC's variances, difference and degrees of freedom; Student's interval from them."""
    first, second = read("unpaired_a.csv"), read("unpaired_b.csv")
    result = delong_test_unpaired(first["y"], first["score"], second["y"], second["score"])
    expected = EXPECTED["unpaired"]
    found = (result.delta, result.low, result.high)
    assert found == pytest.approx((expected["delta"], expected["low"], expected["high"]), abs=WITHIN)


def test_decision_curve_counted_in_r():
    data, thresholds = read("calibration.csv"), EXPECTED["thresholds"]
    curve = decision_curve(Units.of(data["y"], data["p"]), thresholds)
    for column, name in (
        ("net_benefit", "net_benefit"),
        ("treat_all", "treat_all"),
        ("standardized_net_benefit", "standardized"),
        ("interventions_avoided_per_100", "avoided_per_100"),
    ):
        np.testing.assert_allclose(curve[column], EXPECTED[name], atol=WITHIN, err_msg=name)
    tied = once(net_benefit(thresholds), Units.of(data["y"], data["p_tied"]))
    np.testing.assert_allclose(tied, EXPECTED["net_benefit_tied"], atol=WITHIN)


def test_decision_curve_at_another_prevalence_counted_in_r():
    data, thresholds = read("calibration.csv"), EXPECTED["thresholds"]
    curve = decision_curve(prior_shift(Units.of(data["y"], data["p"]), 0.4, 0.1), thresholds, prevalence=0.1)
    np.testing.assert_allclose(curve["net_benefit"], EXPECTED["net_benefit_at_10_percent"], atol=WITHIN)


def test_predictive_values_with_logit_intervals():
    data, expected = read("calibration.csv"), EXPECTED["predictive"]
    for name, value in zip(("ppv", "npv"), predictive_values(Units.of(data["y"], data["p"]), 0.4, 0.15), strict=True):
        assert value.value == pytest.approx(expected[name], abs=WITHIN)
        assert [value.low, value.high] == pytest.approx(expected[f"{name}_limits"], abs=WITHIN)


@pytest.mark.parametrize("column", ["a", "reader"])
def test_average_precision_by_its_definition(column):
    data = read("paired.csv")
    assert average_precision(data["y"], data[column]) == pytest.approx(
        EXPECTED["average_precision"][column], abs=WITHIN
    )


def test_band_meets_that_of_proc_within_its_monte_carlo_error():
    """Estimates exactly; limits of 4,000 random resamples on either side move by some hundredths, on steps of 1/55."""
    data, expected = read("paired.csv"), EXPECTED["band"]
    options = {"specificity": expected["specificity"], "rng": np.random.default_rng(0), "n_bootstrap": 4000}
    band = roc_band(data["y"], data["b"], **options)
    np.testing.assert_allclose(band.sensitivity, EXPECTED["sensitivity"], atol=WITHIN)
    np.testing.assert_allclose(band.low, expected["low"], atol=0.03)
    np.testing.assert_allclose(band.high, expected["high"], atol=0.03)


def test_readers_and_modalities_against_analysis_of_variance_in_r():
    """Dorfman-Berbaum-Metz with Hillis' denominator by aov of pseudovalues; our DeLong covariances are near theirs."""
    data, expected = read("paired.csv"), EXPECTED["readers"]
    row = np.arange(1, len(data) + 1)
    first = [data["a"], data["reader"], data["a"] + np.sin(row)]
    second = [data["b"], data["b"] + 0.5 * data["a"], data["reader"] + np.cos(3 * row)]
    scores = np.stack([np.column_stack(first), np.column_stack(second)], axis=1)
    aucs, covariance = reader_covariance(data["y"], scores)
    jackknife = np.array([expected["covariance"][name] for name in range(6)], dtype=float)
    np.testing.assert_allclose(aucs.ravel(), expected["auc"], atol=1e-9)
    np.testing.assert_allclose(covariance, jackknife, atol=0.03 * np.diag(jackknife).max())
    exact = obuchowski_rockette(aucs, jackknife)
    assert exact.statistic == pytest.approx(expected["f"], rel=1e-9)
    assert exact.degrees[1] == pytest.approx(expected["df"], rel=1e-9)
    assert exact.p == pytest.approx(expected["p"], rel=1e-9)
    parts = reader_components(aucs, jackknife)
    squares = expected["mean_squares"]
    assert (parts.ms_modality, parts.ms_reader, parts.ms_interaction) == pytest.approx(
        (squares["t"], squares["r"], squares["tr"]), rel=1e-9
    )
