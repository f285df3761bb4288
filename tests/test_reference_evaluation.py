"""The evaluation against R. Truth: R 4.2.2, pROC 1.18.0, and counts patient by patient in R
(references/complete/make_references.R)."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from alneval.curves import average_precision, sensitivity_at
from alneval.decision_curve import decision_curve, net_benefit
from alneval.estimate import interval, once
from alneval.prevalence import predictive_values, prior_shift
from alneval.units import Units

REFERENCES = Path(__file__).parent / "references"
EXPECTED = json.loads((REFERENCES / "complete" / "expected.json").read_text())
WITHIN = 1e-9


def read(name: str) -> pd.DataFrame:
    return pd.read_csv(REFERENCES / "evaluation" / name)


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
    assert once(average_precision, Units.of(data["y"], data[column])) == pytest.approx(
        EXPECTED["average_precision"][column], abs=WITHIN
    )


def test_band_meets_that_of_proc_within_its_monte_carlo_error():
    """Estimates exactly; limits of 4,000 random resamples on either side move by some hundredths, on steps of 1/55."""
    data, expected = read("paired.csv"), EXPECTED["band"]
    statistic = sensitivity_at(np.array(expected["specificity"]))
    band = interval(statistic, Units.of(data["y"], data["b"]), np.random.default_rng(0), n=4000)
    np.testing.assert_allclose(band.value, EXPECTED["sensitivity"], atol=WITHIN)
    np.testing.assert_allclose(band.low, expected["low"], atol=0.03)
    np.testing.assert_allclose(band.high, expected["high"], atol=0.03)
