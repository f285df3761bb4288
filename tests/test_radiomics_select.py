"""Selection: R and scipy reference values, planted features, and what selection outside the fold does to noise."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn.base import clone
from sklearn.linear_model import Lasso, LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator

from alneval.delong import auc
from alnlib.errors import InputError
from alnlib.models.clinical import cross_validated_scores
from alnlib.radiomics import select
from alnlib.radiomics.select import (
    LassoSelector,
    MannWhitneySelector,
    SpearmanRedundancyFilter,
    selection_counts,
    selection_frequency,
    selection_pipeline,
)

REFERENCES = Path(__file__).parent / "references" / "selection"


@pytest.fixture(scope="module")
def reference() -> tuple[pd.DataFrame, np.ndarray]:
    """60 made-up patients, twelve features, x07 and x08 tied, x11 constant: tests/references/selection/make_inputs.py."""
    table = pd.read_csv(REFERENCES / "patients.csv")
    return table.drop(columns=["y", "fold"]), table["y"].to_numpy()


def noise(n: int, p: int, seed: int, n_positive: int | None = None) -> tuple[pd.DataFrame, np.ndarray]:
    rng = np.random.default_rng(seed)
    X = pd.DataFrame(rng.normal(size=(n, p)), columns=[f"feature_{k:04d}" for k in range(p)])
    return X, rng.permutation(np.arange(n) < (n_positive or n // 2)).astype(int)


@pytest.mark.parametrize("selector", [MannWhitneySelector(), SpearmanRedundancyFilter(), LassoSelector(random_state=0)])
def test_scikit_learn_accepts_the_selectors(selector):
    """scikit-learn's own checks of an estimator: cloning, names, dtypes, read-only input, pickling, errors."""
    results = check_estimator(selector, on_skip=None)
    assert {result["check_name"] for result in results if result["status"] != "passed"} <= {"check_array_api_input"}


@pytest.mark.parametrize(
    "selector", [MannWhitneySelector(0.5), SpearmanRedundancyFilter(), LassoSelector(random_state=0)]
)
def test_names_survive_selection(selector, reference):
    X, y = reference
    kept = clone(selector).set_output(transform="pandas").fit_transform(X, y)
    assert list(kept.columns) == list(clone(selector).fit(X, y).get_feature_names_out())
    assert 0 < kept.shape[1] < X.shape[1] and "x11" not in kept
    pd.testing.assert_frame_equal(kept, X[kept.columns])


class TestMannWhitney:
    def test_p_values_are_those_of_r(self, reference):
        """R 4.2.2: wilcox.test(exact = FALSE, correct = TRUE) on 24 + 36 patients."""
        X, y = reference
        expected = pd.read_csv(REFERENCES / "mann_whitney.csv")
        fitted = MannWhitneySelector().fit(X, y)
        np.testing.assert_allclose(fitted.p_values_[:11], expected["p"], rtol=1e-12)
        assert fitted.p_values_[11] == 1 and not fitted.support_[11]
        np.testing.assert_array_equal(fitted.support_[:11], expected["p"] < 0.05)

    def test_few_patients_are_exact_unless_tied(self, reference):
        """R 4.2.2: wilcox.test on 5 + 7 patients, exact where nothing is tied; both kinds side by side in one table."""
        X, y = reference
        few = [*range(5), *range(24, 31)]
        fitted = MannWhitneySelector().fit(X.iloc[few], y[few])
        np.testing.assert_allclose(
            fitted.p_values_[:11], pd.read_csv(REFERENCES / "mann_whitney.csv")["p_small"], rtol=1e-12
        )

    def test_hand_value(self):
        """Three against three without overlap: 2 of the 20 orders are as extreme, p = 0.1."""
        fitted = MannWhitneySelector().fit(np.array([[4.0, 5, 6, 1, 2, 3]]).T, [1, 1, 1, 0, 0, 0])
        assert fitted.p_values_[0] == pytest.approx(0.1)

    def test_without_survivors_the_best_are_kept_and_it_says_so(self):
        X, y = noise(30, 12, seed=0)
        X["flat"] = 1.0
        fitted = MannWhitneySelector(p_below=1e-9, n_fallback=4).fit(X, y)
        assert fitted.fell_back_
        assert set(np.flatnonzero(fitted.support_)) == set(np.argsort(fitted.p_values_)[:4])
        survivors = MannWhitneySelector(p_below=0.9, n_fallback=4).fit(X, y)
        assert not survivors.fell_back_
        only_one_varies = MannWhitneySelector(p_below=1e-9, n_fallback=4).fit(X[["flat", "feature_0003"]], y)
        assert list(only_one_varies.get_feature_names_out()) == ["feature_0003"]

    def test_mistakes(self):
        X, y = noise(20, 3, seed=0)
        with pytest.raises(InputError, match="no feature varies"):
            MannWhitneySelector().fit(np.ones((20, 3)), y)
        with pytest.raises(ValueError, match="two classes"):
            MannWhitneySelector().fit(X, np.zeros(20))
        for selector in (MannWhitneySelector(), SpearmanRedundancyFilter(), LassoSelector()):
            with pytest.raises(ValueError, match="NaN"):
                selector.fit(X.mask(X > 1), y)


class TestSpearman:
    def test_the_bridge_goes_and_both_ends_stay(self):
        """By construction: rho(a, bridge) and rho(bridge, b) exceed 0.8, rho(a, b) does not."""
        rng = np.random.default_rng(0)
        a, b = rng.normal(size=(2, 400))
        b += 0.6 * a
        X = pd.DataFrame({"a": a, "bridge": a / a.std() + b / b.std(), "b": b})
        rho = X.corr("spearman")
        assert rho.loc["a", "bridge"] > 0.8 and rho.loc["b", "bridge"] > 0.8 > rho.loc["a", "b"]
        fitted = SpearmanRedundancyFilter(0.8).fit(X)
        assert list(fitted.get_feature_names_out()) == ["a", "b"]

    @pytest.mark.parametrize("nearer", ["a", "b"])
    def test_of_a_pair_the_one_nearer_to_the_others_goes(self, nearer):
        """By construction: a and b are the only pair above 0.9; the third feature resembles one of them more."""
        rng = np.random.default_rng(3)
        signal, noises = rng.normal(size=300), rng.normal(size=(3, 300))
        X = pd.DataFrame({"a": signal + 0.25 * noises[0], "b": signal + 0.25 * noises[1]})
        X["third"] = X[nearer] + 0.8 * noises[2]
        rho = X.corr("spearman")
        assert rho.loc["a", "b"] > 0.9 > rho.loc["third", nearer] > rho["third"].drop(["third", nearer]).item()
        kept = SpearmanRedundancyFilter().fit(X).get_feature_names_out()
        assert list(kept) == [name for name in X if name != nearer]

    def test_means_are_over_the_features_still_there(self):
        """By hand: the hub (0) goes first; its likeness to `a` (2) no longer counts when `a` or `b` (1) must go."""
        rho = np.eye(6)
        for i, j, value in [(0, 3, 0.95), (0, 4, 0.95), (0, 5, 0.95), (1, 2, 0.95), (0, 2, 0.8), (1, 3, 0.5)]:
            rho[i, j] = rho[j, i] = value
        np.testing.assert_array_equal(select._greedy_without_pairs(rho, 0.9), [False, False, True, True, True, True])

    def test_threshold_uses_r_correlations(self, reference):
        """R 4.2.2: cor(method = "spearman"), ties included; a threshold just below and above the largest |rho|."""
        X, _ = reference
        rho = np.abs(pd.read_csv(REFERENCES / "spearman.csv").to_numpy())
        largest = np.max(rho - np.eye(11))
        above = SpearmanRedundancyFilter(largest + 1e-6).fit(X)
        below = SpearmanRedundancyFilter(largest - 1e-6).fit(X)
        assert above.support_[:11].all() and not above.support_[11] and below.support_[:11].sum() == 10

    def test_kept_features_have_no_pair_above_the_threshold_in_any_order_of_columns(self):
        rng = np.random.default_rng(1)
        X = pd.DataFrame(rng.normal(size=(60, 12)) @ rng.normal(size=(12, 80)) + 0.4 * rng.normal(size=(60, 80)))
        X.columns = [f"f{k:02d}" for k in range(80)]
        X["f00_copy"], X["f01_cubed"], X["f02_minus"] = X["f00"], X["f01"] ** 3, -X["f02"]
        kept = SpearmanRedundancyFilter(0.7).fit(X).get_feature_names_out()
        rho = stats.spearmanr(X[kept]).statistic
        assert np.abs(rho - np.eye(len(kept))).max() <= 0.7 and 12 < len(kept) < 80
        for _ in range(5):
            shuffled = X[rng.permutation(X.columns)]
            assert set(SpearmanRedundancyFilter(0.7).fit(shuffled).get_feature_names_out()) == set(kept)

    def test_one_feature_of_every_block_is_left_of_three_thousand(self):
        """600 independent signals, each measured five times with little noise, 150 patients."""
        rng = np.random.default_rng(2)
        block = rng.permutation(np.repeat(np.arange(600), 5))
        X = rng.normal(size=(150, 600))[:, block] + 0.05 * rng.normal(size=(150, 3000))
        support = SpearmanRedundancyFilter().fit(X).support_
        assert sorted(block[support]) == list(range(600))


class TestLasso:
    def test_path_and_cross_validation_are_those_of_glmnet(self, reference):
        """R 4.2.2, glmnet 4.1-6: cv.glmnet(lambda, foldid, thresh = 1e-14)."""
        X, y = reference
        path, errors = pd.read_csv(REFERENCES / "lasso_path.csv"), pd.read_csv(REFERENCES / "lasso_errors.csv")
        fitted = LassoSelector(n_alphas=30, alpha_ratio=1e-3, random_state=0).fit(X, y)
        np.testing.assert_allclose(fitted.alphas_, errors["lambda"], rtol=1e-12)
        np.testing.assert_allclose(fitted.cv_error_, errors["error"], atol=1e-7)
        assert fitted.alpha_ == pytest.approx(errors.loc[errors["is_min"], "lambda"].item())
        for at, expected in path.groupby("at"):
            np.testing.assert_allclose(fitted.coef_path_[:11, at - 1], expected["coefficient"], atol=1e-7)
        assert (fitted.coef_path_[11] == 0).all()

    def test_support_is_that_of_scikit_learn_at_the_chosen_penalty(self, reference):
        """sklearn.linear_model.Lasso on z-scores."""
        X, y = reference
        fitted = LassoSelector(random_state=3).fit(X, y)
        model = Lasso(fitted.alpha_, tol=1e-10, max_iter=100_000).fit(StandardScaler().fit_transform(X), y)
        np.testing.assert_allclose(fitted.coef_, model.coef_, atol=1e-6)
        np.testing.assert_array_equal(fitted.support_, model.coef_ != 0)

    def test_planted_features_are_found(self):
        X, y = noise(150, 60, seed=4)
        X.iloc[:, :3] += 1.2 * y[:, None]
        fitted = LassoSelector(random_state=0).fit(X, y)
        assert set(X.columns[:3]) <= set(fitted.get_feature_names_out()) and fitted.support_.sum() < 12

    def test_an_empty_model_falls_back_to_the_first_on_the_path(self):
        X, y = noise(80, 30, seed=7)
        fitted = LassoSelector(random_state=0).fit(X, y)
        assert fitted.fell_back_ and fitted.support_.sum() == 1
        correlation = np.abs(np.corrcoef(X.T, y)[-1, :-1])
        assert fitted.support_[np.argmax(correlation)]

    def test_folds_are_few_where_patients_are_few_and_repeat_with_the_seed(self):
        X, y = noise(60, 10, seed=6, n_positive=6)
        assert LassoSelector(random_state=0).fit(X, y).n_folds_ == 6
        errors = [LassoSelector(random_state=seed).fit(X, y).cv_error_ for seed in (1, 1, 2)]
        np.testing.assert_array_equal(errors[0], errors[1])
        assert not np.array_equal(errors[0], errors[2])

    def test_mistakes(self):
        X, y = noise(30, 4, seed=0)
        with pytest.raises(InputError, match="fewer than two patients"):
            LassoSelector().fit(X, np.arange(30) == 0)
        with pytest.raises(InputError, match="no feature varies"):
            LassoSelector().fit(np.ones((30, 2)), y)


def test_pipeline_counts_and_missing_features():
    X, y = noise(90, 200, seed=7)
    X.iloc[:, :4] += 1.5 * y[:, None]
    X["twin"], X["flat"] = X["feature_0000"] * 3 + 1, 2.0
    X.loc[::9, "feature_0001"] = np.nan
    fitted = selection_pipeline(0).fit(X, y)
    counts = selection_counts(fitted).set_index("step")
    assert list(counts.index) == ["impute", "scale", "mann_whitney", "spearman", "lasso"]
    assert counts.loc["mann_whitney", "n_in"] == 202 and (counts["n_out"] <= counts["n_in"]).all()
    assert counts.loc["spearman", "n_out"] < counts.loc["spearman", "n_in"] and not counts["fell_back"].any()
    kept = fitted.transform(X)
    assert list(kept.columns) == list(fitted.get_feature_names_out()) and kept.index.equals(X.index)
    assert {"feature_0001", "feature_0002", "feature_0003"} <= set(kept) and "flat" not in kept
    assert ("twin" in kept) != ("feature_0000" in kept)


def test_selection_outside_the_fold_finds_what_is_not_there():
    """Labels are drawn without regard to 1,000 features of 50 patients: the truth is 0.5.

    The mean of five honest AUCs of 50 patients has a standard error near 0.04. Ambroise & McLachlan 2002, PNAS 99:6562.
    """
    classifier = make_pipeline(StandardScaler(), LogisticRegression())
    inside, outside = [], []
    for seed in range(5):
        X, y = noise(50, 1000, seed)
        selection = selection_pipeline(seed, n_folds=5)
        chosen = clone(selection).fit(X, y).transform(X)
        for scores, features, model in (
            (outside, chosen, classifier),
            (inside, X, Pipeline([*selection.steps, ("model", classifier)])),
        ):
            found = cross_validated_scores(
                model, features, y, np.random.default_rng(seed), n_repeats=1, patient_ids=X.index
            )
            scores.append(np.mean([auc(y[fold.index], fold["y_score"]) for _, fold in found.groupby("fold")]))
    assert np.mean(outside) > 0.9
    assert abs(np.mean(inside) - 0.5) < 0.12


class TestSelectionFrequency:
    def test_planted_features_lead_the_table(self):
        X, y = noise(120, 40, seed=8)
        X.iloc[:, 10:12] += 1.3 * y[:, None]
        pipeline = make_pipeline(StandardScaler(), MannWhitneySelector(0.01)).set_output(transform="pandas")
        table = selection_frequency(pipeline, X, y, np.random.default_rng(0), n_resamples=30)
        assert set(table["feature"][:2]) == {"feature_0010", "feature_0011"} and (table["frequency"][:2] == 1).all()
        assert len(table) == 40 and table["feature"].is_unique and table["frequency"][2:].max() < 0.7
        assert table["frequency"].is_monotonic_decreasing
        assert (table["frequency_low"] <= table["frequency"]).all() and (
            table["frequency"] <= table["frequency_high"]
        ).all()
        assert table["n_selected"].equals((table["frequency"] * 30).round().astype(table["n_selected"].dtype))
        again = selection_frequency(pipeline, X, y, np.random.default_rng(0), n_resamples=30)
        pd.testing.assert_frame_equal(table, again)

    def test_subsamples_keep_classes_in_proportion(self):
        """60 patients, 20 with the outcome; 63.2 % of 20 and 40 are 13 and 25."""
        seen = []

        class Spy(SpearmanRedundancyFilter):
            def fit(self, X, y=None):
                seen.append((X, y))
                return super().fit(X, y)

        X, y = noise(60, 3, seed=9, n_positive=20)
        selection_frequency(Spy(), X, y, np.random.default_rng(0), n_resamples=3)
        for rows, labels in seen:
            assert len(rows) == 13 + 25 and rows.index.is_unique and labels.sum() == 13
            np.testing.assert_array_equal(labels, y[rows.index])
