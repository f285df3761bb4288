"""Readers and modalities. Truth: the worked example of D. P. Chakraborty's online book on ROC analysis (chapter "OR
applications", R with RJafroc, dataset02: Van Dyke 1993); three-way analysis of variance of jackknife pseudovalues,
which is the other, algebraically equal route; DeLong's test for one reader; simulation under no difference."""

from __future__ import annotations

from itertools import product
from math import inf, sqrt

import numpy as np
import pytest

from alneval.multireader import (
    compare_modalities,
    compare_model_with_readers,
    obuchowski_rockette,
    reader_components,
    reader_covariance,
)
from alneval.roc import auc, clustered_delong_test, delong_test


def reading_study(rng, n=60, modalities=2, readers=4, graded=False):
    """y (n,) and scores (n, m, r): cases, readers and their interaction all vary; no modality is better."""
    y = np.repeat([0, 1], [n // 2, n - n // 2])
    skill = 1.2 + 0.3 * rng.normal(size=(1, 1, readers)) + 0.2 * rng.normal(size=(1, modalities, readers))
    case = 0.6 * rng.normal(size=(n, 1, 1)) + 0.4 * rng.normal(size=(n, modalities, 1))
    scores = skill * y[:, None, None] + case + 0.7 * rng.normal(size=(n, modalities, readers))
    return y, np.clip(np.round(2 * scores), -2, 4) if graded else scores


def pseudovalues(y, scores):
    """n theta - (n - 1) theta without the case, (m, r, n), case by case."""
    n, m, r = scores.shape
    values = np.empty((m, r, n))
    for i, j in product(range(m), range(r)):
        whole = auc(y, scores[:, i, j])
        for k in range(n):
            kept = np.arange(n) != k
            values[i, j, k] = n * whole - (n - 1) * auc(y[kept], scores[kept, i, j])
    return values


# the example's AUCs (to four digits, hence the tolerances) and covariances as printed; readers 0 to 4
PRINTED_AUCS = [[0.9196, 0.8588, 0.9039, 0.9731, 0.8298], [0.9478, 0.9053, 0.9217, 0.9994, 0.9300]]
COV1, COV3 = 3.4661371e-4, 2.3902837e-4
VARIANCES, COV2S = (0.0010141, 0.0005905), (0.0004840, 0.0002042)


def printed_covariance():
    matrix = np.empty((2, 5, 2, 5))
    for i, j, k, h in product(range(2), range(5), range(2), range(5)):
        if i == k:
            matrix[i, j, k, h] = VARIANCES[i] if j == h else COV2S[i]
        else:
            matrix[i, j, k, h] = COV1 if j == h else COV3
    return matrix.reshape(10, 10)


def test_components_of_the_worked_example():
    parts = reader_components(PRINTED_AUCS, printed_covariance())
    assert parts.ms_modality == pytest.approx(0.0047962, rel=1e-3)
    assert parts.ms_reader == pytest.approx(0.003836, rel=1e-3)
    assert parts.ms_interaction == pytest.approx(5.5103062e-4, rel=2e-3)
    assert parts.variance == pytest.approx(8.0228827e-4, rel=1e-4)
    assert parts.cov2 == pytest.approx(3.4407483e-4, rel=1e-3)
    assert (parts.cov1, parts.cov3) == pytest.approx((COV1, COV3))


def test_random_readers_of_the_worked_example():
    """Printed: F 4.456 on 1 and 15.26, p 0.05167, interval -0.0879595 to 0.0003589; means with 12.74 and 12.71 degrees."""
    result = obuchowski_rockette(PRINTED_AUCS, printed_covariance(), names=["trt0", "trt1"])
    assert result.statistic == pytest.approx(4.456, abs=0.005)
    assert result.degrees == (1, pytest.approx(15.26, abs=0.02))
    assert result.p == pytest.approx(0.05167, abs=2e-4)
    pair = result.differences.iloc[0]
    assert (pair["delta"], pair["low"], pair["high"]) == pytest.approx((-0.0438, -0.08796, 0.00036), abs=1e-4)
    assert pair["p"] == pytest.approx(result.p, rel=1e-9), "with two modalities t^2 is F"
    means = result.means
    assert means["auc"].tolist() == pytest.approx([0.8970, 0.9408], abs=1e-4)
    assert means["standard_error"].tolist() == pytest.approx([0.03317, 0.02157], abs=2e-5)
    assert means["degrees_of_freedom"].tolist() == pytest.approx([12.74, 12.71], abs=0.02)
    assert means["low"].tolist() == pytest.approx([0.8252, 0.8941], abs=2e-4)
    assert means["high"].tolist() == pytest.approx([0.9689, 0.9875], abs=2e-4)


def test_fixed_readers_of_the_worked_example():
    """Printed: chi-squared 5.476, p 0.01928, interval -0.08049 to -0.007115; standard errors 0.02429 and 0.01678."""
    result = obuchowski_rockette(PRINTED_AUCS, printed_covariance(), readers="fixed")
    assert result.statistic == pytest.approx(5.476, abs=0.005)
    assert result.p == pytest.approx(0.01928, abs=1e-4)
    pair = result.differences.iloc[0]
    assert (pair["low"], pair["high"]) == pytest.approx((-0.08049, -0.007115), abs=1e-4)
    assert result.means["standard_error"].tolist() == pytest.approx([0.02429, 0.01678], abs=1e-5)


@pytest.mark.parametrize("modalities", [2, 3])
def test_with_jackknife_covariances_it_is_the_analysis_of_variance_of_pseudovalues(modalities):
    """Dorfman, Berbaum & Metz 1992 as amended by Hillis: F = MS(T) / [MS(TR) + max(MS(TC) - MS(TRC), 0)]."""
    y, scores = reading_study(np.random.default_rng(4), n=24, modalities=modalities, readers=3, graded=True)
    n, m, r = scores.shape
    values = pseudovalues(y, scores)
    flat = values.reshape(m * r, n)
    covariance = np.cov(flat) / n  # jackknife covariance of the AUCs
    # the mean of the pseudovalues is the AUC only up to the jackknife's bias, which is zero for AUCs of two classes
    aucs = values.mean(axis=2)
    result = obuchowski_rockette(aucs, covariance)

    def centered(*kept):
        return values.mean(axis=tuple(axis for axis in range(3) if axis not in kept), keepdims=True)

    grand = values.mean()
    ms_t = n * r * ((centered(0) - grand) ** 2).sum() / (m - 1)
    tr = centered(0, 1) - centered(0) - centered(1) + grand
    ms_tr = n * (tr**2).sum() / ((m - 1) * (r - 1))
    tc = centered(0, 2) - centered(0) - centered(2) + grand
    ms_tc = r * (tc**2).sum() / ((m - 1) * (n - 1))
    trc = values - centered(0, 1) - centered(0, 2) - centered(1, 2) + centered(0) + centered(1) + centered(2) - grand
    ms_trc = (trc**2).sum() / ((m - 1) * (r - 1) * (n - 1))
    error = ms_tr + max(ms_tc - ms_trc, 0)
    assert result.statistic == pytest.approx(ms_t / error, rel=1e-10)
    assert result.degrees[1] == pytest.approx(error**2 / (ms_tr**2 / ((m - 1) * (r - 1))), rel=1e-10)
    assert result.differences["standard_error"].iloc[0] == pytest.approx(sqrt(2 * error / (r * n)), rel=1e-10)


def test_delong_covariances_are_near_those_of_the_jackknife():
    y, scores = reading_study(np.random.default_rng(5), n=80, readers=2, graded=True)
    n = len(y)
    aucs, covariance = reader_covariance(y, scores)
    values = pseudovalues(y, scores).reshape(4, n)
    np.testing.assert_allclose(aucs.ravel(), [auc(y, scores[:, i, j]) for i, j in product(range(2), range(2))])
    jackknife = np.cov(values) / n
    np.testing.assert_allclose(covariance, jackknife, atol=0.06 * np.diag(jackknife).max())


def test_one_fixed_reader_is_delongs_test():
    y, scores = reading_study(np.random.default_rng(6), readers=1)
    expected = delong_test(y, scores[:, 0, 0], scores[:, 1, 0], reference="normal")
    pair = compare_modalities(y, scores, readers="fixed").differences.iloc[0]
    model = compare_model_with_readers(y, scores[:, 0, 0], scores[:, 1], readers="fixed")
    for found in (pair, vars(model)):
        for name in ("delta", "low", "high", "standard_error", "statistic", "p"):
            assert found[name] == pytest.approx(getattr(expected, name), abs=1e-12), name
    patients = np.arange(len(y)) // 3
    clustered = clustered_delong_test(y, scores[:, 0, 0], scores[:, 1, 0], patients, reference="normal")
    by_patient = compare_model_with_readers(y, scores[:, 0, 0], scores[:, 1], readers="fixed", cluster=patients)
    assert by_patient.p == pytest.approx(clustered.p, abs=1e-12)


def test_fixed_readers_are_the_contrast_of_the_whole_covariance():
    y, scores = reading_study(np.random.default_rng(7), readers=3)
    _, covariance = reader_covariance(y, scores)
    contrast = np.repeat([1, -1], 3) / 3
    pair = compare_modalities(y, scores, readers="fixed").differences.iloc[0]
    assert pair["standard_error"] == pytest.approx(sqrt(contrast @ covariance @ contrast), rel=1e-10)


def test_a_model_against_random_readers_is_the_one_modality_model_of_the_differences():
    """Hillis et al. 2005, equation 23, written out: MS of the differences, and the three covariances between them."""
    y, scores = reading_study(np.random.default_rng(8), readers=3, graded=True)
    result = compare_model_with_readers(y, scores[:, 0, 0], scores[:, 1])
    aucs, covariance = reader_covariance(y, np.column_stack([scores[:, 0, 0], scores[:, 1]]))
    deltas = aucs[0, 0] - aucs[0, 1:]
    between = [
        covariance[0, 0] - covariance[0, a] - covariance[0, b] + covariance[a, b] for a, b in ((1, 2), (1, 3), (2, 3))
    ]
    error = np.var(deltas, ddof=1) + 3 * max(np.mean(between), 0)
    assert result.delta == pytest.approx(deltas.mean(), abs=1e-12)
    assert result.standard_error == pytest.approx(sqrt(error / 3), rel=1e-10)
    assert result.degrees_of_freedom == pytest.approx(2 * error**2 / np.var(deltas, ddof=1) ** 2, rel=1e-10)
    assert result.low < result.delta < result.high
    assert result.readers_auc == pytest.approx(np.mean(result.reader_aucs))


def test_alike_modalities_do_not_differ_and_a_better_one_is_found():
    y, scores = reading_study(np.random.default_rng(9), n=200, readers=5)
    same = compare_modalities(y, np.repeat(scores[:, :1], 2, axis=1))
    assert (same.statistic, same.p, same.differences["delta"].iloc[0]) == (0, 1, 0)
    better = scores.copy()
    better[:, 1] += 1.5 * y[:, None]
    assert compare_modalities(y, better).p < 0.01
    model = compare_model_with_readers(y, y + 0.01 * np.arange(len(y)) / len(y), scores[:, 0])
    assert model.model_auc == 1 and model.p < 0.05


def test_readers_who_agree_entirely_have_infinite_degrees_of_freedom():
    y, scores = reading_study(np.random.default_rng(10), readers=1)
    twins = np.repeat(scores, 2, axis=2)
    result = compare_model_with_readers(y, scores[:, 0, 0], twins[:, 1])
    assert result.degrees_of_freedom == inf
    assert result.p == pytest.approx(delong_test(y, scores[:, 0, 0], scores[:, 1, 0], reference="normal").p, abs=1e-9)


def test_what_cannot_be_analyzed_is_refused():
    y, scores = reading_study(np.random.default_rng(11), readers=1)
    with pytest.raises(ValueError, match="fixed"):
        compare_modalities(y, scores)
    with pytest.raises(ValueError, match="two or more modalities"):
        compare_modalities(y, scores[:, :1], readers="fixed")
    with pytest.raises(ValueError, match="random, fixed"):
        compare_model_with_readers(y, scores[:, 0, 0], scores[:, 1], readers="both")
    with pytest.raises(ValueError, match="not finite"):
        reader_covariance(y, np.where(np.arange(len(y))[:, None] == 3, np.nan, scores[:, 0]))
    with pytest.raises(ValueError, match="covariance"):
        obuchowski_rockette([[0.7, 0.8], [0.7, 0.8]], np.eye(3))


def test_a_true_null_is_rejected_in_about_one_of_twenty_studies():
    """400 studies of 5 readers and 100 cases without a difference; between 2 and 8 % of 400 is 3 standard errors about 5 %."""
    rng = np.random.default_rng(12)
    rejected = np.zeros(2)
    for _ in range(400):
        y, scores = reading_study(rng, n=100, readers=5)
        rejected[0] += compare_modalities(y, scores).p < 0.05
        # the "model" is drawn as one more reader's score with the readers' mean skill, about which readers vary
        case = 0.6 * rng.normal(size=100) + 0.4 * rng.normal(size=100)
        skills = 1.2 + 0.36 * rng.normal(size=5)
        spread = 0.7
        readers = skills * y[:, None] + case[:, None] + spread * rng.normal(size=(100, 5))
        model = compare_model_with_readers(y, 1.17 * y + case + spread * rng.normal(size=100), readers)
        rejected[1] += model.p < 0.05
    assert (np.abs(rejected / 400 - 0.05) < 0.033).all(), rejected
