"""Readers. Truth: R 4.2.2 (binom.test, mcnemar.test), the published Duke counts, brute force over resamples."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from alneval.bootstrap import resample_weights
from alneval.readers import compare_model_with_reader, reader_operating_point, reader_operating_points
from alneval.thresholds import operating_point, threshold_at_specificity

REFERENCES = Path(__file__).parent / "references" / "evaluation"
EXPECTED = json.loads((REFERENCES / "expected.json").read_text())


@pytest.fixture(scope="module")
def paired():
    return pd.read_csv(REFERENCES / "paired.csv")


def test_binary_reader_has_the_counts_of_the_duke_sheet():
    """shared/data/README.md: the MRI read against N+ has sensitivity 217/369 and specificity 464/529."""
    y = np.repeat([1, 1, 0, 0], [217, 369 - 217, 529 - 464, 464])
    point = reader_operating_point(y, np.repeat([1, 0, 1, 0], [217, 369 - 217, 529 - 464, 464]))
    assert str(point.sensitivity) == "0.588 (0.537 to 0.637), 217/369"
    assert str(point.specificity).startswith("0.877 (") and point.specificity.count == 464


def test_ordinal_reader_has_a_point_per_category_boundary(paired):
    points = reader_operating_points(paired["y"], paired["reader"])
    assert [point.threshold for point in points] == [2, 3, 4, 5]
    sensitivities = [point.sensitivity.value for point in points]
    assert sensitivities == sorted(sensitivities, reverse=True)
    assert points[2] == reader_operating_point(paired["y"], paired["reader"], positive_from=4)


@pytest.mark.parametrize(
    ("model_only", "reader_only", "reference", "method"),
    [(9, 2, "exact_9_2", "McNemar, exact"), (30, 14, "chi_30_14", "McNemar, chi-squared")],
)
def test_mcnemar_agrees_with_r(model_only, reader_only, reference, method):
    """Model and reader share specificity 1; positives are found by both, by one or by none as planted."""
    both, neither, negatives = 50, 60, 40
    blocks = [both, model_only, reader_only, neither, negatives]
    y = np.repeat([1, 1, 1, 1, 0], blocks)
    model = np.repeat([0.9, 0.8, 0.1, 0.1, 0.2], blocks)
    reader = np.repeat([1, 0, 1, 0, 0], blocks)
    result = compare_model_with_reader(y, model, reader, rng=np.random.default_rng(0), n_bootstrap=100)
    assert (result.model_only, result.reader_only, result.method) == (model_only, reader_only, method)
    assert result.p == pytest.approx(EXPECTED["mcnemar"][reference], abs=1e-8)
    assert result.delta == pytest.approx((model_only - reader_only) / (both + model_only + reader_only + neither))
    assert "sensitivity of model" in str(result) and method in str(result)


def test_model_is_never_less_specific_than_the_reader(paired):
    result = compare_model_with_reader(
        paired["y"], paired["a"], paired["reader"], 4, rng=np.random.default_rng(0), n_bootstrap=50
    )
    assert result.model.specificity.value >= result.reader.specificity.value
    assert result.delta == pytest.approx(result.model.sensitivity.value - result.reader.sensitivity.value)
    assert result.low <= result.delta <= result.high


@pytest.mark.parametrize("clustered", [False, True])
def test_interval_agrees_with_brute_force_over_the_same_resamples(paired, clustered):
    """Each resample is written out, the reader's specificity and the model's threshold found anew in it."""
    y, model, reader = paired["y"].to_numpy(), paired["a"].to_numpy(), (paired["reader"] >= 4).to_numpy()
    cluster = np.arange(len(y)) // 2 if clustered else None
    result = compare_model_with_reader(y, model, reader, rng=np.random.default_rng(7), n_bootstrap=60, cluster=cluster)
    rng = np.random.default_rng(7)
    if clustered:  # the intervals of the two operating points draw first
        for _ in range(2):
            list(resample_weights(len(y), 60, rng, cluster=cluster))
    deltas = []
    for row in np.concatenate(list(resample_weights(len(y), 60, rng, strata=y, cluster=cluster))).astype(int):
        index = np.repeat(np.arange(len(y)), row)
        of_reader = operating_point(y[index], reader[index], 1)
        threshold = threshold_at_specificity(y[index], model[index], of_reader.specificity.value)
        of_model = operating_point(y[index], model[index], threshold)
        deltas.append(of_model.sensitivity.value - of_reader.sensitivity.value)
    assert [result.low, result.high] == pytest.approx(list(np.quantile(deltas, [0.025, 0.975])), abs=1e-12)
    assert result.method == ("bootstrap over patients" if clustered else result.method)


def test_a_reader_against_itself_does_not_differ(paired):
    result = compare_model_with_reader(
        paired["y"], paired["reader"], paired["reader"], 4, rng=np.random.default_rng(0), n_bootstrap=50
    )
    assert (result.delta, result.low, result.high, result.p) == (0, 0, 0, 1)


def test_missing_class_is_refused():
    with pytest.raises(ValueError, match="both classes"):
        compare_model_with_reader([1, 1], [0.1, 0.2], [0, 1], rng=np.random.default_rng(0))
