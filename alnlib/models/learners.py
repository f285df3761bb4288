"""Nine learners on a table of features, tuned with one budget and compared by nested cross-validation.

Selection and harmonization (`alnlib.radiomics`) come in as a `preparation`, fitted inside every fold; the evaluation of the
resulting scores lives in `alneval`.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from lightgbm import LGBMClassifier
from numpy.typing import ArrayLike
from scipy import stats
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

from alneval.delong import auc
from alneval.folds import patient_level_folds
from alnlib.errors import InputError

CANDIDATE_COLUMNS = ("learner", "candidate", "parameters", "inner_auc", "inner_auc_sd", "chosen")
CHOICE_COLUMNS = ("repeat", "fold", "learner", "parameters", "inner_auc", "outer_auc", "n_features", "winner")
SCORE_COLUMNS = ("repeat", "fold", "learner", "patient_id", "y_true", "y_score")

WINNER = "winner"
"""Name under which the learner that the inner folds preferred stands in the scores, a new choice in every fold."""

SCORE_DIGITS = 6
"""Decimals of probabilities: a model whose weights went to zero gives everybody the same but for rounding errors, whose order
means nothing and must not choose a candidate."""

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
    forest = {
        "model__max_depth": [2, 3, 4, 6, None],
        "model__min_samples_leaf": integer(1, 16),
        "model__max_features": uniform(0.05, 0.6),
    }
    boosting = {
        "model__learning_rate": log_uniform(0.01, 0.3),
        "model__subsample": uniform(0.5, 0.5),
        "model__colsample_bytree": uniform(0.3, 0.7),
        "model__reg_lambda": log_uniform(0.1, 100),
    }
    table: dict[str, tuple[BaseEstimator, dict[str, Any]]] = {
        "logistic regression": (
            LogisticRegression(max_iter=5000, random_state=random_state),
            {"model__C": log_uniform(1e-4, 1e2)},
        ),
        "support vector machine": (
            CalibratedClassifierCV(
                SVC(random_state=random_state),
                ensemble=False,
                cv=StratifiedKFold(3, shuffle=True, random_state=random_state),
                n_jobs=1,
            ),
            {
                "model__estimator__C": log_uniform(1e-2, 1e2),
                "model__estimator__gamma": log_uniform(1e-4, 1e-1),
                "model__estimator__kernel": ["linear", "rbf"],
            },
        ),
        "k-nearest neighbors": (
            KNeighborsClassifier(n_jobs=1),
            {
                "model__n_neighbors": integer(3, 26),
                "model__weights": ["uniform", "distance"],
                "model__p": [1, 2],
            },
        ),
        "decision tree": (
            DecisionTreeClassifier(random_state=random_state),
            {
                "model__max_depth": [1, 2, 3, 4, 5],
                "model__min_samples_leaf": integer(2, 21),
                "model__criterion": ["gini", "entropy"],
            },
        ),
        "random forest": (RandomForestClassifier(n_trees, n_jobs=1, random_state=random_state), forest),
        "extra trees": (ExtraTreesClassifier(n_trees, n_jobs=1, random_state=random_state), forest),
        "XGBoost": (
            XGBClassifier(n_estimators=n_trees, tree_method="hist", n_jobs=1, verbosity=0, random_state=random_state),
            boosting | {"model__max_depth": [1, 2, 3, 4], "model__min_child_weight": log_uniform(0.5, 10)},
        ),
        "LightGBM": (
            LGBMClassifier(
                n_estimators=n_trees,
                subsample_freq=1,
                deterministic=True,
                force_col_wise=True,
                n_jobs=1,
                verbose=-1,
                random_state=random_state,
            ),
            boosting | {"model__num_leaves": [2, 4, 8, 12], "model__min_child_samples": integer(3, 21)},
        ),
        "multilayer perceptron": (
            # the limit of iterations is early stopping, meant; on so few patients L-BFGS beats stochastic descent
            MLPClassifier(solver="lbfgs", max_iter=150, random_state=random_state),
            {
                "model__hidden_layer_sizes": [(8,), (16,), (32,), (16, 8)],
                "model__alpha": log_uniform(1e-2, 1e1),  # from about 30 on, all weights of so few patients go to zero
                "model__activation": ["relu", "tanh"],
            },
        ),
    }
    return {
        name: Learner(
            Pipeline([("impute", SimpleImputer(strategy="median")), ("scale", StandardScaler()), ("model", model)]),
            space,
        )
        for name, (model, space) in table.items()
    }


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
        return pd.DataFrame(
            {name: _probability(model, X) for name, model in self.fitted.items()}, index=getattr(X, "index", None)
        )


@dataclass(frozen=True)
class NestedScores:
    """What nested cross-validation found.

    choices: `CHOICE_COLUMNS`, a row per repeat, outer fold and learner: the parameters (JSON) that the inner folds chose, their
    inner AUC, the AUC of the untouched outer fold, how many features the preparation left, and whether the inner folds
    preferred this learner to all others. scores: `SCORE_COLUMNS`, a row per repeat, learner and patient, plus the learner
    "winner". candidates: repeat, fold and `CANDIDATE_COLUMNS`, everything tried.
    """

    choices: pd.DataFrame
    scores: pd.DataFrame
    candidates: pd.DataFrame

    def summary(self) -> pd.DataFrame:
        """Per learner and for the winner: learner, inner_auc and outer_auc (means over folds and repeats), times_chosen."""
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
    patient_ids: Sequence[str] | None = None,
) -> TunedLearners:
    """Tune every learner on the same patient-level folds with the same number of random candidates, then refit on all rows.

    X: (n, columns) frame; y: (n,) 0/1; patient_ids: (n,), every row its own patient if None. preparation: an unfitted
    transformer (selection, harmonization) that gets X, with the patient ids as its index, and y; it is fitted once on every
    training fold and shared by all learners and candidates, which gives what a pipeline of preparation and learner would,
    without fitting it a hundred times.
    Among equal inner AUCs the earlier candidate, and the earlier learner, wins. Same rng state, same result.
    Raises InputError for folds that would be too small (`SMALLEST_TRAINING_FOLD`).
    """
    X, labels, patients = _checked(X, y, patient_ids)
    fold = patient_level_folds(labels, patients, n_folds, rng)
    _require_size(len(labels) - int(np.bincount(fold).max()))
    prepared = [_prepare(preparation, X, labels, fold != k, fold == k) for k in range(n_folds)]
    everything = _prepare(preparation, X, labels, np.ones(len(labels), dtype=bool), np.zeros(len(labels), dtype=bool))
    candidates, fitted, out_of_fold = [], {}, []
    for (name, learner), child in zip(learners.items(), rng.spawn(len(learners)), strict=True):
        drawn = _draw_candidates(learner.search_space, n_candidates, child)
        scores = np.empty((len(drawn), len(labels)))
        for at, parameters in enumerate(drawn):
            for k, part in enumerate(prepared):
                model = _fit(learner.pipeline, parameters, part.training, labels[fold != k])
                scores[at, fold == k] = _probability(model, part.held_out)
        aucs = np.array([[auc(labels[fold == k], row[fold == k]) for k in range(n_folds)] for row in scores])
        best = int(np.argmax(aucs.mean(axis=1).round(12)))
        for at, parameters in enumerate(drawn):
            candidates.append((name, at, _as_json(parameters), aucs[at].mean(), aucs[at].std(ddof=1), at == best))
        model = _fit(learner.pipeline, drawn[best], everything.training, labels)
        fitted[name] = Pipeline([("preparation", everything.fitted), *model.steps])
        out_of_fold.append(
            pd.DataFrame(
                {"learner": name, "patient_id": patients, "fold": fold, "y_true": labels, "y_score": scores[best]}
            )
        )
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
    preparation: BaseEstimator | None = None,
    n_outer: int = 5,
    n_inner: int = 5,
    n_candidates: int = 10,
    n_repeats: int = 1,
    patient_ids: Sequence[str] | None = None,
    on_fold: Callable[[int, int], None] | None = None,
) -> NestedScores:
    """Scores of patients by learners whose features, parameters and choice never saw them.

    Every outer fold is scored by `tune_learners` on the others: inner folds, candidates and preparation all anew, and the winner
    is named before the outer fold is opened. Folds are by patient and stratified by y. on_fold(done, total) is called after
    every outer fold. Arguments as in `tune_learners`. Same rng state, same result.
    """
    X, labels, patients = _checked(X, y, patient_ids)
    choices, scores, candidates = [], [], []
    for repeat in range(n_repeats):
        fold = patient_level_folds(labels, patients, n_outer, rng)
        for k, child in enumerate(rng.spawn(n_outer)):
            held = fold == k
            tuned = tune_learners(
                learners,
                X.loc[~held],
                labels[~held],
                child,
                preparation=preparation,
                n_folds=n_inner,
                n_candidates=n_candidates,
                patient_ids=patients[~held],
            )
            predicted = tuned.scores(X.loc[held])
            for row in tuned.candidates[tuned.candidates["chosen"]].itertuples(index=False):
                outer_auc = auc(labels[held], predicted[row.learner].to_numpy())
                n_features = int(tuned.fitted[row.learner]["impute"].n_features_in_)
                is_winner = row.learner == tuned.winner
                choices.append(
                    (repeat, k, row.learner, row.parameters, row.inner_auc, outer_auc, n_features, is_winner)
                )
            predicted[WINNER] = predicted[tuned.winner]
            for name in predicted.columns:
                scores.append(
                    pd.DataFrame(
                        {
                            "repeat": repeat,
                            "fold": k,
                            "learner": name,
                            "patient_id": patients[held],
                            "y_true": labels[held],
                            "y_score": predicted[name].to_numpy(),
                        }
                    )
                )
            candidates.append(tuned.candidates.assign(repeat=repeat, fold=k))
            if on_fold is not None:
                on_fold(repeat * n_outer + k + 1, n_repeats * n_outer)
    tried = pd.concat(candidates, ignore_index=True)[["repeat", "fold", *CANDIDATE_COLUMNS]]
    return NestedScores(
        pd.DataFrame(choices, columns=list(CHOICE_COLUMNS)), pd.concat(scores, ignore_index=True), tried
    )


class _Prepared(NamedTuple):
    training: pd.DataFrame | np.ndarray
    held_out: pd.DataFrame | np.ndarray | None
    fitted: BaseEstimator | str


def _prepare(
    preparation: BaseEstimator | None, X: pd.DataFrame, labels: np.ndarray, training: np.ndarray, held: np.ndarray
) -> _Prepared:
    if preparation is None:
        return _Prepared(X.loc[training], X.loc[held], "passthrough")
    fitted = clone(preparation).fit(X.loc[training], labels[training])
    held_out = fitted.transform(X.loc[held]) if held.any() else None
    return _Prepared(fitted.transform(X.loc[training]), held_out, fitted)


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
    plain = {
        key.removeprefix("model__").removeprefix("estimator__"): value.item()
        if isinstance(value, np.generic)
        else value
        for key, value in parameters.items()
    }
    return json.dumps(plain, sort_keys=True)


def _checked(
    X: pd.DataFrame, y: ArrayLike, patient_ids: Sequence[str] | None
) -> tuple[pd.DataFrame, np.ndarray, np.ndarray]:
    if not isinstance(X, pd.DataFrame):
        raise TypeError("X must be a DataFrame, whose column names say what was selected")
    labels = np.asarray(y)
    if labels.shape != (len(X),) or not np.isin(labels, (0, 1)).all():
        raise ValueError(f"y must be {len(X)} labels, each 0 or 1")
    patients = np.arange(len(X)).astype(str) if patient_ids is None else np.asarray(patient_ids).astype(str)
    if len(patients) != len(X):
        raise ValueError(f"{len(patients)} patient_ids for {len(X)} rows")
    return X.set_axis(patients), labels.astype(int), patients


def _require_size(smallest: int) -> None:
    if smallest < SMALLEST_TRAINING_FOLD:
        raise InputError(
            f"the smallest training fold has {smallest} rows, at least {SMALLEST_TRAINING_FOLD} are needed to tune these "
            "learners; add patients or use fewer folds"
        )
