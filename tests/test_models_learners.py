"""The learners: same budget, same folds, nothing of the test patients in tuning, choice or preparation."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from sklearn.base import BaseEstimator, TransformerMixin, clone
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

from alneval.delong import auc
from alneval.folds import patient_level_folds
from alnlib.errors import InputError
from alnlib.models.learners import (
    WINNER,
    Learner,
    learner_table,
    nested_cross_validation,
    tune_learners,
)
from alnlib.models.signatures import Signatures
from alnlib.radiomics.select import MannWhitneySelector, selection_pipeline

NAMES = [
    "logistic regression",
    "support vector machine",
    "k-nearest neighbors",
    "decision tree",
    "random forest",
    "extra trees",
    "XGBoost",
    "LightGBM",
    "multilayer perceptron",
]
FAST = ("logistic regression", "k-nearest neighbors", "decision tree")


def cohort(n: int, p: int, seed: int, effect: float = 0.0) -> tuple[pd.DataFrame, np.ndarray]:
    """Noise features, the first three moved by `effect` SD in patients with the outcome (one in three)."""
    rng = np.random.default_rng(seed)
    y = rng.permutation(np.arange(n) < n // 3).astype(int)
    X = pd.DataFrame(rng.normal(size=(n, p)), columns=[f"MRI_pre__[{k}]<log>" for k in range(p)])
    X.iloc[:, :3] += effect * y[:, None]
    return X, y


def fast(*names: str) -> dict[str, Learner]:
    table = learner_table(0, n_trees=20)
    return {name: table[name] for name in names or FAST}


def fold_auc(scores: pd.DataFrame) -> float:
    return float(np.mean([auc(part["y_true"], part["y_score"]) for _, part in scores.groupby("fold")]))


class Recorder(TransformerMixin, BaseEstimator):
    """Passes everything on and remembers which patients it was fitted on."""

    fits: list[tuple[int, ...]] = []

    def fit(self, X, y=None):
        Recorder.fits.append(tuple(X["patient"]))
        return self

    def transform(self, X):
        return X.drop(columns="patient")


def test_all_nine_learners_find_a_planted_signal_within_one_budget():
    """Three features moved by 1.2 SD: the best possible AUC is Phi(1.2 sqrt(3 / 2)) = 0.93."""
    X, y = cohort(120, 8, seed=0, effect=1.2)
    new, truth = cohort(400, 8, seed=1, effect=1.2)
    tuned = tune_learners(learner_table(0, n_trees=30), X, y, np.random.default_rng(0), n_folds=3, n_candidates=4)
    assert list(tuned.fitted) == NAMES
    assert tuned.candidates.groupby("learner", sort=False).size().to_dict() == dict.fromkeys(NAMES, 4)
    scores = tuned.scores(new)
    assert list(scores.columns) == NAMES and scores.index.equals(new.index)
    assert scores.ge(0).all(axis=None) and scores.le(1).all(axis=None)
    found = scores.apply(lambda column: auc(truth, column))
    assert found.drop("decision tree").min() > 0.8 and found["decision tree"] > 0.68 and found.max() < 0.96
    assert tuned.winner in str(tuned)


def test_every_learner_runs_on_one_thread_and_repeats_itself():
    X, y = cohort(90, 6, seed=2, effect=0.5)
    X.iloc[::7, 0] = np.nan
    for name, learner in learner_table(7, n_trees=15).items():
        assert list(learner.pipeline.named_steps) == ["impute", "scale", "model"]
        threads = {key: value for key, value in learner.pipeline.get_params().items() if key.endswith("n_jobs")}
        assert set(threads.values()) <= {1, None}, name
        parameters = {key: values[0] for key, values in learner.search_space.items() if isinstance(values, list)}
        first, second = (
            clone(learner_table(7, n_trees=15)[name].pipeline).set_params(**parameters).fit(X, y).predict_proba(X)
            for _ in range(2)
        )
        np.testing.assert_array_equal(first, second)


def test_every_parameter_of_a_search_space_exists_and_gives_the_full_budget():
    rng = np.random.default_rng(0)
    for name, learner in learner_table(0).items():
        known = learner.pipeline.get_params()
        assert set(learner.search_space) <= set(known), name
    narrow = Learner(Pipeline([("scale", StandardScaler()), ("model", LogisticRegression())]), {"model__C": [1, 2]})
    with (
        pytest.warns(UserWarning, match="smaller than n_iter"),
        pytest.raises(ValueError, match="only 2 candidates, fewer than the budget of 3"),
    ):
        tune_learners({"narrow": narrow}, *cohort(60, 3, seed=0), rng, n_candidates=3)


def test_inner_auc_is_that_of_scikit_learn():
    """sklearn.model_selection.cross_val_score of the chosen candidate on the same folds."""
    X, y = cohort(90, 5, seed=3, effect=0.6)
    tuned = tune_learners(fast(), X, y, np.random.default_rng(5), n_folds=4, n_candidates=5)
    fold = patient_level_folds(y, [str(k) for k in range(90)], 4, np.random.default_rng(5))
    splits = [(np.flatnonzero(fold != k), np.flatnonzero(fold == k)) for k in range(4)]
    for row in tuned.candidates[tuned.candidates["chosen"]].itertuples():
        learner = fast()[row.learner].pipeline
        parameters = {f"model__{key}": value for key, value in json.loads(row.parameters).items()}
        expected = cross_val_score(clone(learner).set_params(**parameters), X, y, cv=splits, scoring="roc_auc")
        assert row.inner_auc == pytest.approx(expected.mean()) and row.inner_auc_sd == pytest.approx(
            expected.std(ddof=1)
        )
        own = tuned.candidates[tuned.candidates["learner"] == row.learner]
        assert own["inner_auc"].max() == row.inner_auc and own["chosen"].sum() == 1
        out_of_fold = tuned.out_of_fold[tuned.out_of_fold["learner"] == row.learner]
        np.testing.assert_array_equal(out_of_fold["fold"], fold)
        assert (
            np.mean([auc(y[fold == k], out_of_fold["y_score"].to_numpy()[fold == k]) for k in range(4)])
            == row.inner_auc
        )
    best = tuned.candidates.loc[tuned.candidates["inner_auc"].idxmax(), "learner"]
    assert tuned.winner == best


def test_shared_preparation_equals_a_pipeline_of_preparation_and_learner():
    """The same steps fitted as one scikit-learn Pipeline on the same training patients."""
    X, y = cohort(100, 30, seed=4, effect=0.8)
    new, _ = cohort(20, 30, seed=5)
    preparation = MannWhitneySelector(0.2).set_output(transform="pandas")
    tuned = tune_learners(
        fast("logistic regression"), X, y, np.random.default_rng(0), preparation=preparation, n_candidates=3
    )
    chosen = json.loads(tuned.candidates.loc[tuned.candidates["chosen"], "parameters"].item())
    learner = fast("logistic regression")["logistic regression"].pipeline
    whole = Pipeline([("select", clone(preparation)), *clone(learner).set_params(model__C=chosen["C"]).steps]).fit(X, y)
    np.testing.assert_allclose(
        tuned.scores(new)["logistic regression"], whole.predict_proba(new)[:, 1], rtol=0, atol=0.6e-6
    )
    fitted = tuned.fitted["logistic regression"]
    assert list(fitted["impute"].feature_names_in_) == list(whole["select"].get_feature_names_out())


def test_nothing_is_fitted_on_patients_that_it_is_tested_on():
    """Every fit of the preparation is recorded: per outer fold one on its training patients, three on parts of them."""
    X, y = cohort(75, 4, seed=6)
    X.index = [f"P{k:02d}" for k in range(75)]
    X.insert(0, "patient", X.index)
    Recorder.fits.clear()
    result = nested_cross_validation(
        fast("decision tree"),
        X,
        y,
        np.random.default_rng(0),
        preparation=Recorder(),
        n_outer=3,
        n_folds=3,
        n_candidates=2,
    )
    scores = result.scores[result.scores["learner"] == "decision tree"]
    assert len(Recorder.fits) == 3 * 4
    for k in range(3):
        outside = set(X["patient"]) - set(scores.loc[scores["fold"] == k, "patient_id"])
        fits = [set(patients) for patients in Recorder.fits[4 * k : 4 * k + 4]]
        assert [patients == outside for patients in fits] == [False, False, False, True]
        assert all(patients < outside for patients in fits[:3])
        for a in range(3):
            assert outside - fits[a] and not (outside - fits[a]) & (outside - fits[(a + 1) % 3])


def test_choice_does_not_change_when_the_test_fold_changes():
    """The features of the first outer fold are replaced by noise: parameters, inner AUCs and winner must stay."""
    X, y = cohort(90, 4, seed=7, effect=0.5)
    held = patient_level_folds(y, [str(k) for k in range(90)], 3, np.random.default_rng(1)) == 0
    other = X.copy()
    other.loc[held] = np.random.default_rng(2).normal(size=(held.sum(), 4))
    first, second = (
        nested_cross_validation(fast(), features, y, np.random.default_rng(1), n_outer=3, n_folds=3, n_candidates=3)
        for features in (X, other)
    )
    a, b = (table[table["fold"] == 0] for table in (first.choices, second.choices))
    pd.testing.assert_frame_equal(a.drop(columns="outer_auc"), b.drop(columns="outer_auc"))
    assert (a["outer_auc"] != b["outer_auc"]).all()


def test_tables_are_tidy_whole_and_repeatable():
    X, y = cohort(80, 5, seed=8, effect=1.0)
    X.index = [f"P{k // 2:02d}" for k in np.argsort(np.argsort(y, kind="stable"), kind="stable")]
    options = {"n_outer": 4, "n_folds": 3, "n_candidates": 3}
    result = nested_cross_validation(fast(), X, y, np.random.default_rng(3), **options)
    assert len(result.choices) == 4 * 3
    assert (result.choices.groupby("fold")["winner"].sum() == 1).all()
    assert (result.scores.groupby("learner").size() == 80).all()
    assert set(result.scores["learner"]) == {*FAST, WINNER}
    assert (result.scores.groupby("patient_id")["fold"].nunique() == 1).all()
    for row in result.choices.itertuples():
        part = result.scores.query("fold == @row.fold and learner == @row.learner")
        assert auc(part["y_true"], part["y_score"]) == pytest.approx(row.outer_auc)
        same = result.choices.query("fold == @row.fold")
        assert row.winner == (row.Index == same["inner_auc"].round(12).idxmax())
        if row.winner:
            own = result.scores.query("fold == @row.fold and learner == @WINNER")
            np.testing.assert_array_equal(own["y_score"], part["y_score"])
    assert result.choices.loc[result.choices["winner"], "learner"].nunique() > 1
    summary = result.summary().set_index("learner")
    assert list(summary.index) == [*FAST, WINNER] and summary.loc[list(FAST), "times_chosen"].sum() == 4
    assert summary.loc[WINNER, "outer_auc"] == pytest.approx(
        fold_auc(result.scores[result.scores["learner"] == WINNER])
    )
    again = nested_cross_validation(fast(), X, y, np.random.default_rng(3), **options)
    pd.testing.assert_frame_equal(result.scores, again.scores)
    pd.testing.assert_frame_equal(result.choices, again.choices)


def test_permuted_labels_give_half_with_selection_inside_even_for_the_winner():
    """Labels without relation to 300 features; the inner AUC of the winner is optimistic, the outer one is not.

    Four cohorts of 90 patients: the standard error of the mean outer AUC is about 0.035.
    """
    inner, outer = [], []
    for seed in range(4):
        X, y = cohort(90, 300, seed=20 + seed)
        result = nested_cross_validation(
            fast(),
            X,
            y,
            np.random.default_rng(seed),
            preparation=selection_pipeline(seed, n_folds=5),
            n_outer=4,
            n_folds=3,
            n_candidates=4,
        )
        inner.append(result.choices.loc[result.choices["winner"], "inner_auc"].mean())
        outer.append(fold_auc(result.scores[result.scores["learner"] == WINNER]))
    assert abs(np.mean(outer) - 0.5) < 0.1
    assert np.mean(inner) > np.mean(outer) + 0.03


def test_signatures_of_noise_promise_nothing():
    """Training rows get signatures out of fold: in sample they would separate any labels, and inner AUCs would be near 1."""
    X, y = cohort(90, 300, seed=12)
    X.index = [f"P{k:02d}" for k in range(90)]
    chosen = fast("logistic regression"), X, y, np.random.default_rng(0)
    tuned = tune_learners(*chosen, preparation=Signatures({"noise": "MRI"}), n_candidates=2)
    assert abs(fold_auc(tuned.out_of_fold) - 0.5) < 0.2
    head = tuned.fitted["logistic regression"]["preparation"].transform(X)["noise"]
    assert auc(y, head) > 0.9


def test_mistakes():
    X, y = cohort(40, 3, seed=9)
    rng = np.random.default_rng(0)
    with pytest.raises(InputError, match="smallest training fold has 26 rows"):
        tune_learners(fast(), X, y, rng, n_folds=3)
    with pytest.raises(ValueError, match="each 0 or 1"):
        tune_learners(fast(), X, y + 1, rng)
    with pytest.raises(TypeError, match="DataFrame"):
        tune_learners(fast(), X.to_numpy(), y, rng)


def test_a_model_that_says_the_same_of_everybody_is_not_ranked_by_its_rounding_errors():
    """Probabilities that differ in the twelfth decimal are one probability: AUC 0.5 in every fold, and never the better one."""

    class Collapsed(LogisticRegression):
        def predict_proba(self, X):
            noise = 1e-12 * np.asarray(X, dtype=float)[:, 0]
            return np.column_stack([0.6 - noise, 0.4 + noise])

    rng = np.random.default_rng(0)
    X = pd.DataFrame(rng.normal(size=(60, 2)), columns=["a", "b"])
    y = (X["a"] + 0.1 * rng.normal(size=60) > 0).astype(int)  # the rounding errors alone would have an AUC near 1
    learner = Learner(Pipeline([("scale", StandardScaler()), ("model", Collapsed())]), {"model__C": [0.1, 1.0, 10.0]})
    tuned = tune_learners({"collapsed": learner}, X, y, np.random.default_rng(1), n_folds=3, n_candidates=3)
    assert (tuned.candidates["inner_auc"] == 0.5).all()
    assert (tuned.out_of_fold["y_score"] == 0.4).all() and (tuned.scores(X)["collapsed"] == 0.4).all()
