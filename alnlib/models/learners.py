"""Nine learners on a table of features, tuned with one budget and compared by nested cross-validation.

Selection (`alnlib.radiomics`) comes in as a `preparation`, fitted inside every fold; the evaluation of the
resulting scores lives in `alneval`.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from lightgbm import LGBMClassifier
from numpy.typing import ArrayLike
from scipy import stats
from scipy.special import logit
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import ExtraTreesClassifier, RandomForestClassifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import ParameterSampler, StratifiedKFold
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier
from xgboost import XGBClassifier

from alneval.delong import auc, auc_interval
from alneval.folds import patient_level_folds
from alneval.units import Units
from alnlib.errors import InputError

CANDIDATE_COLUMNS = ("learner", "candidate", "parameters", "inner_auc", "inner_auc_sd", "chosen")
CHOICE_COLUMNS = ("fold", "learner", "parameters", "inner_auc", "outer_auc", "n_features", "winner")

WINNER = "winner"
"""Name under which the learner that the inner folds preferred stands in the scores, a new choice in every fold."""

SCORE_DIGITS = 6
"""Decimals of probabilities: a model whose weights went to zero gives everybody the same but for rounding errors, whose order
means nothing and must not choose a candidate."""

_CLIP = 10.0**-SCORE_DIGITS

SMALLEST_TRAINING_FOLD = 32
"""Rows that the smallest inner training fold needs: k-nearest neighbors looks at up to 25 of them."""


class Learner(NamedTuple):
    """A pipeline (impute, scale, model) and its search space: {parameter: scipy distribution or list}."""

    pipeline: Pipeline
    search_space: dict[str, Any]


def learner_table(random_state: int, n_trees: int = 200) -> dict[str, Learner]:
    """The nine learners of the field, from simple to flexible, each on median-imputed and z-scored features.

    Every one gives probabilities, runs on one thread and gives the same scores for the same random_state. n_trees: trees of
    the two forests, rounds of the two boosted ones. The support vector machine gets its probabilities from a sigmoid on
    cross-validated decision values (Platt 1999). No class weights: they would spoil calibration.
    """
    uniform, log_uniform, integer = stats.uniform, stats.loguniform, stats.randint
    fixed, one_thread = {"random_state": random_state}, {"n_jobs": 1, "random_state": random_state}
    forest = {"max_depth": [2, 3, 4, 6, None], "min_samples_leaf": integer(1, 16), "max_features": uniform(0.05, 0.6)}
    boosting = {"learning_rate": log_uniform(0.01, 0.3), "subsample": uniform(0.5, 0.5)}
    boosting |= {"colsample_bytree": uniform(0.3, 0.7), "reg_lambda": log_uniform(0.1, 100)}
    same_bytes = {"deterministic": True, "force_col_wise": True, "subsample_freq": 1, "verbose": -1}
    thirds = StratifiedKFold(3, shuffle=True, random_state=random_state)
    table: dict[str, tuple[BaseEstimator, dict[str, Any]]] = {
        "logistic regression": (LogisticRegression(max_iter=5000, **fixed), {"C": log_uniform(1e-4, 1e2)}),
        "support vector machine": (
            CalibratedClassifierCV(SVC(**fixed), ensemble=False, cv=thirds, n_jobs=1),
            {"estimator__C": log_uniform(1e-2, 1e2), "estimator__gamma": log_uniform(1e-4, 1e-1)}
            | {"estimator__kernel": ["linear", "rbf"]},
        ),
        "k-nearest neighbors": (
            KNeighborsClassifier(n_jobs=1),
            {"n_neighbors": integer(3, 26), "weights": ["uniform", "distance"], "p": [1, 2]},
        ),
        "decision tree": (
            DecisionTreeClassifier(**fixed),
            {"max_depth": [1, 2, 3, 4, 5], "min_samples_leaf": integer(2, 21), "criterion": ["gini", "entropy"]},
        ),
        "random forest": (RandomForestClassifier(n_trees, **one_thread), forest),
        "extra trees": (ExtraTreesClassifier(n_trees, **one_thread), forest),
        "XGBoost": (
            XGBClassifier(n_estimators=n_trees, tree_method="hist", verbosity=0, **one_thread),
            boosting | {"max_depth": [1, 2, 3, 4], "min_child_weight": log_uniform(0.5, 10)},
        ),
        "LightGBM": (
            LGBMClassifier(n_estimators=n_trees, **same_bytes, **one_thread),
            boosting | {"num_leaves": [2, 4, 8, 12], "min_child_samples": integer(3, 21)},
        ),
        "multilayer perceptron": (
            # the limit of iterations is early stopping, meant; on so few patients L-BFGS beats stochastic descent;
            # below an alpha of 1 it learns so few patients by heart, from about 30 on all weights go to zero
            MLPClassifier(solver="lbfgs", max_iter=150, **fixed),
            {"hidden_layer_sizes": [(8,), (16,), (32,), (16, 8)], "alpha": log_uniform(1, 1e1)}
            | {"activation": ["relu", "tanh"]},
        ),
    }
    learners = {}
    for name, (model, space) in table.items():
        steps = [("impute", SimpleImputer(strategy="median")), ("scale", StandardScaler()), ("model", model)]
        learners[name] = Learner(Pipeline(steps), {f"model__{setting}": values for setting, values in space.items()})
    return learners


@dataclass(frozen=True)
class TunedLearners:
    """Every learner at its best candidate, and which of them the folds preferred.

    candidates: `CANDIDATE_COLUMNS`, the learners in the order of their table; parameters as JSON, inner_auc the mean over the
    folds, sd between them. fitted: {learner: pipeline on all training patients, preparation included}. out_of_fold: learner,
    patient_id, fold, y_true, y_score of the chosen candidate on patients that its fit never saw, for thresholds and stacking
    (slightly optimistic, because the candidate was chosen on the same folds). winner: the learner with the highest inner AUC.
    """

    candidates: pd.DataFrame
    fitted: Mapping[str, Pipeline]
    out_of_fold: pd.DataFrame
    winner: str

    def __str__(self) -> str:
        best = self.candidates.loc[self.candidates["chosen"]].set_index("learner")["inner_auc"]
        return f"{self.winner} (inner AUC {best[self.winner]:.3f}) of {len(best)} learners"

    def scores(self, X: pd.DataFrame) -> pd.DataFrame:
        """Probabilities of new patients, to `SCORE_DIGITS`: one row per row of X (its index), one column per learner."""
        return pd.DataFrame({name: _probability(model, X) for name, model in self.fitted.items()}, index=X.index)


def signature(probability: np.ndarray, prevalence: float | np.ndarray) -> np.ndarray:
    """Probabilities (n,) as logits less that of the prevalence in the patients that the model was fitted to, () or (n,).

    That is how one model enters another. Of out-of-fold scores each row has the prevalence of its own fit: a fold with more
    positives leaves fewer to the fit that scores it, so that plain logits of a weak model run against the outcome.
    Probabilities are cut where `SCORE_DIGITS` end.
    """
    return logit(np.clip(probability, _CLIP, 1 - _CLIP)) - logit(prevalence)


@dataclass(frozen=True)
class NestedScores:
    """What nested cross-validation found.

    choices: `CHOICE_COLUMNS`, a row per outer fold and learner: the parameters (JSON) that the inner folds chose, their
    inner AUC, the AUC of the untouched outer fold, how many features the preparation left, and whether the inner folds
    preferred this learner to all others. scores: fold, learner, patient_id, y_true, y_score, a row per learner and patient,
    plus the learner "winner".
    """

    choices: pd.DataFrame
    scores: pd.DataFrame

    def summary(self) -> pd.DataFrame:
        """Per learner and for the winner: learner, inner_auc and outer_auc (means over folds), times_chosen."""
        by_learner = self.choices.groupby("learner", sort=False)
        table = pd.DataFrame(
            {
                "inner_auc": by_learner["inner_auc"].mean(),
                "outer_auc": by_learner["outer_auc"].mean(),
                "times_chosen": by_learner["winner"].sum(),
            }
        )
        won = self.choices[self.choices["winner"]]
        table.loc[WINNER] = [won["inner_auc"].mean(), won["outer_auc"].mean(), len(won)]
        return table.astype({"times_chosen": int}).rename_axis("learner").reset_index()


def tune_learners(
    learners: Mapping[str, Learner],
    X: pd.DataFrame,
    y: ArrayLike,
    rng: np.random.Generator,
    *,
    preparation: BaseEstimator | None = None,
    n_folds: int = 5,
    n_candidates: int = 10,
) -> TunedLearners:
    """Tune every learner on the same patient-level folds with the same number of random candidates, then refit on all rows.

    X: (n, columns) frame, its index the patients, who may have several rows; y: (n,) 0/1. preparation: an unfitted
    transformer (such as a selection) that gets X, with the patients as text in its index, and y; it is fitted once on
    every training fold (`fit_transform`) and shared by all learners and candidates, which gives what a pipeline of
    preparation and learner would, without fitting it a hundred times.
    Among equal inner AUCs the earlier candidate, and the earlier learner, wins. Same rng state, same result.
    Raises InputError for folds that would be too small (`SMALLEST_TRAINING_FOLD`).
    """
    X, labels = _by_patient(X), np.asarray(y)
    fold = patient_level_folds(labels, X.index, n_folds, rng)
    smallest = len(labels) - int(np.bincount(fold).max())
    if smallest < SMALLEST_TRAINING_FOLD:
        raise InputError(
            f"the smallest training fold has {smallest} rows, at least {SMALLEST_TRAINING_FOLD} are needed to tune these "
            "learners; add patients or use fewer folds"
        )
    held_out = [fold == k for k in range(n_folds)]
    prepared = [_Prepared.of(preparation, X, labels, held) for held in held_out]
    everything = _Prepared.of(preparation, X, labels, np.zeros(len(labels), dtype=bool))
    candidates, fitted, out_of_fold = [], {}, []
    for (name, learner), child in zip(learners.items(), rng.spawn(len(learners)), strict=True):
        drawn = _draw_candidates(learner.search_space, n_candidates, child)
        scores = np.empty((len(drawn), len(labels)))
        for at, parameters in enumerate(drawn):
            for held, fold_data in zip(held_out, prepared, strict=True):
                model = _fit(learner.pipeline, parameters, fold_data.training, labels[~held])
                scores[at, held] = _probability(model, fold_data.held_out)
        aucs = np.array([[auc(labels[held], score[held]) for held in held_out] for score in scores])
        best = int(np.argmax(aucs.mean(axis=1).round(12)))
        for at, parameters in enumerate(drawn):
            candidates.append((name, at, _as_json(parameters), aucs[at].mean(), aucs[at].std(ddof=1), at == best))
        model = _fit(learner.pipeline, drawn[best], everything.training, labels)
        fitted[name] = Pipeline([("preparation", everything.fitted), *model.steps])
        out_of_fold.append(_score_rows(name, X.index, labels, scores[best]).assign(fold=fold))
    table = pd.DataFrame(candidates, columns=list(CANDIDATE_COLUMNS))
    chosen = table[table["chosen"]]
    winner = str(chosen["learner"].iloc[int(np.argmax(chosen["inner_auc"].round(12)))])
    return TunedLearners(table, fitted, pd.concat(out_of_fold, ignore_index=True), winner)


def nested_cross_validation(
    learners: Mapping[str, Learner],
    X: pd.DataFrame,
    y: ArrayLike,
    rng: np.random.Generator,
    *,
    n_outer: int = 5,
    **tuning: Any,
) -> NestedScores:
    """Scores of patients by learners whose features, parameters and choice never saw them.

    Every outer fold is scored by `tune_learners` on the others: inner folds, candidates and preparation all anew, and the winner
    is named before the outer fold is opened. Folds are by patient and stratified by y. tuning: options of `tune_learners`.
    Same rng state, same result.
    """
    X, labels = _by_patient(X), np.asarray(y)
    fold = patient_level_folds(labels, X.index, n_outer, rng)
    choices, scores = [], []
    for k, child in enumerate(rng.spawn(n_outer)):
        held = fold == k
        tuned = tune_learners(learners, X.loc[~held], labels[~held], child, **tuning)
        predicted = tuned.scores(X.loc[held])
        for row in tuned.candidates[tuned.candidates["chosen"]].itertuples(index=False):
            outer_auc = auc(labels[held], predicted[row.learner].to_numpy())
            n_features = int(tuned.fitted[row.learner]["impute"].n_features_in_)
            is_winner = row.learner == tuned.winner
            choices.append((k, row.learner, row.parameters, row.inner_auc, outer_auc, n_features, is_winner))
        predicted[WINNER] = predicted[tuned.winner]
        for name, score in predicted.items():
            scores.append(_score_rows(name, X.index[held], labels[held], score.to_numpy()).assign(fold=k))
    return NestedScores(pd.DataFrame(choices, columns=list(CHOICE_COLUMNS)), pd.concat(scores, ignore_index=True))


def learner_aucs(
    tuned: Mapping[str, TunedLearners], scores: Mapping[str, pd.DataFrame], y: ArrayLike, split: Sequence[str]
) -> pd.DataFrame:
    """What every learner reached on every set of features: a row per set and column of its scores.

    tuned, scores: by name of the set; scores: (n, learners) of held-out patients, who may include `WINNER`; y, split: (n,)
    their labels and splits. Columns: features, learner, inner_auc, parameters; for test and external with both classes
    `_auc`, `_auc_low`, `_auc_high` (DeLong, 95 %); winner, whether the inner folds preferred this learner.
    """
    labels, split = np.asarray(y), np.asarray(split)
    tests = {name: split == name for name in ("test", "external") if len(set(labels[split == name])) == 2}
    rows = []
    for features, model in tuned.items():
        chosen = model.candidates[model.candidates["chosen"]].set_index("learner")
        for learner, score in scores[features].items():
            inner = chosen.loc[model.winner if learner == WINNER else learner, ["inner_auc", "parameters"]]
            row = {"features": features, "learner": learner, **inner}
            for name, members in tests.items():
                row |= auc_interval(Units.of(labels[members], score.to_numpy()[members])).named(f"{name}_auc")
            rows.append(row | {"winner": learner == model.winner})
    return pd.DataFrame(rows)


class _Prepared(NamedTuple):
    """Training rows and held-out rows (None without any) as the learners see them, and what made them so."""

    training: pd.DataFrame
    held_out: pd.DataFrame | None
    fitted: BaseEstimator | str

    @classmethod
    def of(cls, preparation: BaseEstimator | None, X: pd.DataFrame, labels: np.ndarray, held: np.ndarray) -> _Prepared:
        if preparation is None:
            return cls(X.loc[~held], X.loc[held], "passthrough")
        fitted = clone(preparation)
        training = fitted.fit_transform(X.loc[~held], labels[~held])
        return cls(training, fitted.transform(X.loc[held]) if held.any() else None, fitted)


def _by_patient(X: pd.DataFrame) -> pd.DataFrame:
    if not isinstance(X, pd.DataFrame):
        raise TypeError("X must be a DataFrame, whose column names say what was selected")
    return X.set_axis(np.asarray(X.index).astype(str))


def _score_rows(learner: str, patients: pd.Index, labels: np.ndarray, score: np.ndarray) -> pd.DataFrame:
    return pd.DataFrame({"learner": learner, "patient_id": patients, "y_true": labels, "y_score": score})


def _fit(pipeline: Pipeline, parameters: Mapping[str, Any], X: object, labels: np.ndarray) -> Pipeline:
    with warnings.catch_warnings():
        # the perceptron's limit of iterations is deliberate
        warnings.simplefilter("ignore", ConvergenceWarning)
        return clone(pipeline).set_params(**parameters).fit(X, labels)


def _probability(model: ClassifierMixin, X: object) -> np.ndarray:
    return model.predict_proba(X)[:, 1].astype(np.float64).round(SCORE_DIGITS)


def _draw_candidates(space: Mapping[str, Any], n_candidates: int, rng: np.random.Generator) -> list[dict[str, Any]]:
    drawn = list(ParameterSampler(space, n_candidates, random_state=int(rng.integers(2**31))))
    if len(drawn) != n_candidates:
        raise ValueError(f"the search space has only {len(drawn)} candidates, fewer than the budget of {n_candidates}")
    return drawn


def _as_json(parameters: Mapping[str, Any]) -> str:
    """Without the prefixes of the pipeline's steps, numpy's numbers as plain ones."""
    named = {key.removeprefix("model__").removeprefix("estimator__"): value for key, value in parameters.items()}
    return json.dumps(named, sort_keys=True, default=lambda value: value.item())
