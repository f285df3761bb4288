"""Rubin's rules and pooled AUC. Truth: R 4.2.2, mice 3.15.0 and mitml 0.4.4 (references/imputation), and limits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from scipy.special import expit

from alneval.delong import auc_interval
from alneval.imputed import imputed_auc, pool, pooled_chi_square_p, pooled_likelihood_ratio_p
from alneval.units import Units
from alnlib.models.imputation import fit_logistic

REFERENCES = Path(__file__).parent / "references" / "imputation"


def reference(kind: str) -> pd.DataFrame:
    """mice's values of one kind: name by key."""
    rows = pd.read_csv(REFERENCES / "pooled.csv").query("kind == @kind")
    return rows.pivot(index="name", columns="key", values="value")


def test_one_quantity_is_pooled_as_mice_does():
    """mice::pool.scalar, and Barnard-Rubin degrees of freedom with 60 in complete data."""
    expected = reference("scalar").iloc[0]
    found = pool(np.array([[0.9], [1.1], [1.3]]), np.array([[0.04], [0.05], [0.06]]), 60)
    assert found.value[0] == pytest.approx(expected["estimate"], rel=1e-9)
    assert found.standard_error[0] == pytest.approx(expected["standard_error"], rel=1e-9)
    assert found.degrees_of_freedom[0] == pytest.approx(expected["degrees"], rel=1e-9)
    assert found.missing_information[0] == pytest.approx(expected["missing"], rel=1e-9)


def test_chi_square_statistics_are_pooled_as_mitml_does():
    """testModels(method = "D2", use = "likelihood"): Li et al. 1991."""
    imputed = pd.read_csv(REFERENCES / "imputed.csv")
    y = imputed.query("`.imp` == 1")["node"].to_numpy()
    null = len(y) * (y.mean() * np.log(y.mean()) + (1 - y.mean()) * np.log(1 - y.mean()))
    coded = {"age": [imputed["age"]], "er": [imputed["er"] == "positive"]}
    coded["stage"] = [imputed["stage"] == "T2", imputed["stage"] == "T3"]
    for name, row in reference("D2").iterrows():
        X = np.stack(coded[name], axis=1).astype(float).reshape(5, len(y), -1)
        ratios = 2 * (fit_logistic(X, y).log_likelihoods - null)
        assert pooled_chi_square_p(ratios, X.shape[2]) == pytest.approx(row["p"], rel=1e-6)


def test_tests_without_anything_missing_are_the_likelihood_ratio_test():
    for k in (1, 2, 4):
        expected = stats.chi2.sf(7.0, k)
        assert pooled_likelihood_ratio_p(np.full(5, 7.0), 7.0, k) == pytest.approx(expected, rel=1e-9)
        assert pooled_chi_square_p(np.full(5, 7.0), k) == pytest.approx(expected, rel=1e-9)
        assert pooled_chi_square_p(np.zeros(5), k) == pooled_likelihood_ratio_p(np.zeros(5), 0.0, k) == 1


def test_the_same_scores_in_all_imputations_are_one_auc():
    rng = np.random.default_rng(3)
    y, score = np.arange(80) % 3 == 0, rng.normal(size=80)
    found, missing = imputed_auc(Units.of(y, np.tile(score[:, None], 7)))
    assert missing == 0 and found == auc_interval(Units.of(y, score))


def test_an_imputed_auc_is_wider_and_says_how_much_is_missing():
    rng = np.random.default_rng(3)
    y = np.arange(120) % 3 == 0
    score = y + rng.normal(size=120)
    parts = {}
    for spread in (0.3, 2.0):
        scores = score[:, None] + rng.normal(scale=spread, size=(120, 20))
        each = [auc_interval(Units.of(y, column)) for column in scores.T]
        parts[spread] = imputed_auc(Units.of(y, expit(scores)))
        found = parts[spread][0]
        assert min(e.value for e in each) < found.value < max(e.value for e in each)
        assert found.high - found.low > np.mean([e.high - e.low for e in each])
    assert 0 < parts[0.3][1] < parts[2.0][1] < 1


def test_an_auc_that_cannot_be_pooled_has_no_interval():
    """Perfect separation in one imputation, and a class of one patient."""
    y = np.arange(12) % 2
    scores = np.column_stack([y + 0.01 * np.arange(12), np.arange(12.0)])
    found, missing = imputed_auc(Units.of(y, scores))
    assert 0.5 < found.value < 1 and np.isnan([found.low, found.high, missing]).all()
    found, missing = imputed_auc(Units.of(np.arange(12) == 5, np.column_stack([np.arange(12.0), -np.arange(12.0)])))
    assert np.isnan([found.low, found.high, missing]).all()
