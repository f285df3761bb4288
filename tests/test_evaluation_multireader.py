"""A model against readers. Truth: Hillis et al. 2005 written out, DeLong's test for one reader, simulation without difference."""

from __future__ import annotations

from math import inf, sqrt

import numpy as np
import pytest

from alneval.delong import auc_difference, covariance
from alneval.multireader import compare_model_with_readers
from alneval.units import Units


def reading_study(rng, n=60, readers=4, graded=False):
    """y (n,), a model's score (n,), and scores of readers (n, r): cases, readers and their interaction all vary."""
    y = np.repeat([0, 1], [n // 2, n - n // 2])
    skill = 1.2 + 0.3 * rng.normal(size=(1, readers + 1)) + 0.2 * rng.normal(size=(1, readers + 1))
    case = 0.6 * rng.normal(size=(n, 1)) + 0.4 * rng.normal(size=(n, 1))
    scores = skill * y[:, None] + case + 0.7 * rng.normal(size=(n, readers + 1))
    scores = np.clip(np.round(2 * scores), -2, 4) if graded else scores
    return y, scores[:, 0], scores[:, 1:]


@pytest.mark.parametrize("patients", [None, np.arange(60) // 3])
def test_one_fixed_reader_is_delongs_test(patients):
    units = Units.of(*reading_study(np.random.default_rng(6), readers=1), patient=patients)
    expected, found = auc_difference(units, reference="normal"), compare_model_with_readers(units, readers="fixed")
    for name in ("value", "low", "high", "standard_error", "statistic", "p", "values"):
        assert getattr(found, name) == pytest.approx(getattr(expected, name), abs=1e-12), name


def test_random_readers_are_the_one_modality_model_of_the_differences():
    """Hillis et al. 2005, equation 23, written out: MS of the differences, and the three covariances between them."""
    units = Units.of(*reading_study(np.random.default_rng(8), readers=3, graded=True))
    result = compare_model_with_readers(units)
    aucs, cov = covariance(units)
    deltas = aucs[0] - aucs[1:]
    between = [cov[0, 0] - cov[0, a] - cov[0, b] + cov[a, b] for a, b in ((1, 2), (1, 3), (2, 3))]
    error = np.var(deltas, ddof=1) + 3 * max(np.mean(between), 0)
    assert result.value == pytest.approx(deltas.mean(), abs=1e-12)
    assert result.standard_error == pytest.approx(sqrt(error / 3), rel=1e-10)
    assert result.degrees_of_freedom == pytest.approx(2 * error**2 / np.var(deltas, ddof=1) ** 2, rel=1e-10)
    assert result.low < result.value < result.high and result.values[1] == pytest.approx(aucs[1:].mean())


def test_readers_who_agree_entirely_have_infinite_degrees_of_freedom():
    y, model, reader = reading_study(np.random.default_rng(10), readers=1)
    result = compare_model_with_readers(Units.of(y, model, reader, reader))
    assert result.degrees_of_freedom == inf
    assert result.p == pytest.approx(auc_difference(Units.of(y, model, reader), reference="normal").p, abs=1e-9)


@pytest.mark.parametrize(("readers", "message"), [("random", "fixed"), ("both", "random, fixed")])
def test_what_cannot_be_analyzed_is_refused(readers, message):
    with pytest.raises(ValueError, match=message):
        compare_model_with_readers(Units.of(*reading_study(np.random.default_rng(11), readers=1)), readers=readers)


def test_a_true_null_is_rejected_in_about_one_of_twenty_studies_and_a_better_model_found():
    """400 studies of 5 readers and 100 cases without a difference; between 2 and 8 % of 400 is 3 standard errors about 5 %."""
    rng, rejected = np.random.default_rng(12), 0
    for _ in range(400):
        y = np.repeat([0, 1], 50)
        case = 0.6 * rng.normal(size=100) + 0.4 * rng.normal(size=100)
        readers = (1.2 + 0.36 * rng.normal(size=5)) * y[:, None] + case[:, None] + 0.7 * rng.normal(size=(100, 5))
        # the "model" is drawn as one more reader's score with the readers' mean skill, about which readers vary
        rejected += (
            compare_model_with_readers(Units.of(y, 1.17 * y + case + 0.7 * rng.normal(size=100), readers)).p < 0.05
        )
    assert abs(rejected / 400 - 0.05) < 0.033, rejected
    best = compare_model_with_readers(Units.of(y, y + 0.01 * np.arange(100) / 100, readers))
    assert best.values[0] == 1 and best.p < 0.05
