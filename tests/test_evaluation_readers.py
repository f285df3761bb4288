"""Readers. Truth: R 4.2.2 (binom.test, mcnemar.test), the published Duke counts, brute force over resamples."""

import json
from pathlib import Path

import numpy as np
import pytest

from alneval.estimate import resamples
from alneval.readers import compare_model_with_reader
from alneval.thresholds import operating_point, threshold_at_specificity
from alneval.units import Units

REFERENCES = Path(__file__).parent / "references" / "evaluation"
EXPECTED = json.loads((REFERENCES / "expected.json").read_text())


def test_binary_reader_has_the_counts_of_the_duke_sheet():
    """shared/data/README.md: the MRI read against N+ has sensitivity 217/369 and specificity 464/529."""
    y = np.repeat([1, 1, 0, 0], [217, 369 - 217, 529 - 464, 464])
    point = operating_point(Units.of(y, np.repeat([1, 0, 1, 0], [217, 369 - 217, 529 - 464, 464])), 1)
    assert str(point.sensitivity) == "0.588 (0.537 to 0.637)"
    assert str(point.specificity).startswith("0.877 (") and point.specificity.n_positive == 464


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
    result = compare_model_with_reader(Units.of(y, model), reader, rng=np.random.default_rng(0), n_bootstrap=100)
    assert (result.model_only, result.reader_only, result.difference.method) == (model_only, reader_only, method)
    assert result.difference.p == pytest.approx(EXPECTED["mcnemar"][reference], abs=1e-8)
    assert result.difference.value == pytest.approx(
        (model_only - reader_only) / (both + model_only + reader_only + neither)
    )
    assert "sensitivity of model" in str(result) and method in str(result)


def test_model_is_never_less_specific_than_the_reader(paired):
    units = Units.of(paired["y"], paired["a"])
    result = compare_model_with_reader(units, paired["reader"], 4, rng=np.random.default_rng(0), n_bootstrap=50)
    assert result.model.specificity.value >= result.reader.specificity.value
    assert result.difference.value == pytest.approx(result.model.sensitivity.value - result.reader.sensitivity.value)
    assert result.difference.low <= result.difference.value <= result.difference.high


@pytest.mark.parametrize("clustered", [False, True])
def test_interval_agrees_with_brute_force_over_the_same_resamples(paired, clustered):
    """Each resample is written out, the reader's specificity and the model's threshold found anew in it."""
    y, model, reader = paired["y"].to_numpy(), paired["a"].to_numpy(), (paired["reader"] >= 4).to_numpy()
    units = Units.of(y, model, patient=np.arange(len(y)) // 2 if clustered else None)
    result = compare_model_with_reader(units, reader, rng=np.random.default_rng(7), n_bootstrap=60)
    rng = np.random.default_rng(7)
    if clustered:  # the intervals of the two operating points draw first
        for _ in range(2):
            list(resamples(units, 60, rng, stratified=False))
    deltas = []
    for row in np.concatenate(list(resamples(units, 60, rng))).astype(int):
        index = np.repeat(np.arange(len(y)), row)
        of_reader = operating_point(Units.of(y[index], reader[index]), 1)
        threshold = threshold_at_specificity(drawn := Units.of(y[index], model[index]), of_reader.specificity.value)
        of_model = operating_point(drawn, threshold)
        deltas.append(of_model.sensitivity.value - of_reader.sensitivity.value)
    assert [result.difference.low, result.difference.high] == pytest.approx(
        list(np.quantile(deltas, [0.025, 0.975])), abs=1e-12
    )
    assert result.difference.method == ("bootstrap over patients" if clustered else result.difference.method)


def test_a_reader_against_itself_does_not_differ(paired):
    units = Units.of(paired["y"], paired["reader"])
    result = compare_model_with_reader(units, paired["reader"], 4, rng=np.random.default_rng(0), n_bootstrap=50)
    assert (result.difference.value, result.difference.low, result.difference.high, result.difference.p) == (0, 0, 0, 1)


def test_missing_class_is_refused():
    with pytest.raises(ValueError, match="both classes"):
        compare_model_with_reader(Units.of([1, 1], [0.1, 0.2]), [0, 1], rng=np.random.default_rng(0))
