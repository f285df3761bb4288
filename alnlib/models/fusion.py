"""Fusion of networks' scores with each other and with clinical variables, for patients who lack some of them too.

Everything is fitted on tables: out-of-fold probabilities and patients.csv. The networks and their out-of-fold scores are
made in `alnlib.training`, the clinical coding and selection in `alnlib.models.clinical`, AUCs in `alneval`.

Who is fitted on whom. A fusion is fitted on out-of-fold scores of the development patients (training and validation),
because networks know their own training patients by heart. Its validation rows would be fitted ones, so it has none: its
threshold is locked on `cross_validation` rows, the fusion being fitted anew without each fold. What stays shared is that
the networks behind other patients' out-of-fold scores saw a held-out patient's label; it can reach the held-out score only
through the few coefficients of the fusion. Test patients are scored by the same recipe fitted to all development patients;
`logit_scale_table` shows whether both kinds of score spread alike.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import ArrayLike
from scipy.special import expit, logit
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils.validation import check_is_fitted

from alneval.delong import auc
from alneval.figures import panels, plot_paired_intervals
from alneval.folds import patient_level_folds
from alneval.seeds import single_fits
from alneval.style import GUIDE, SPLIT_NAMES, head, headline, model_words, sentence
from alnlib.cohorts.schema import ClinicalVariable
from alnlib.errors import InputError
from alnlib.models.clinical import (
    ClinicalEncoder,
    UnivariableThenMultivariableLogistic,
    clinical_pipeline,
    out_of_fold_probabilities,
    penalized_clinical_pipeline,
)

CLIP = 1e-6
"""Probabilities closer to 0 or 1 are taken as this far away, so that every logit is finite (within 13.8)."""

CLINICAL = "clinical"
"""Name of the clinical variables taken together, where a pattern says what is there or a vote says whose it is."""

NOTHING = "nothing"
"""Name of the pattern of patients of whom nothing is known."""

_EVERYTHING_ENTERS = 2.0
"""p_enter of a model that makes no selection: every p is below it."""


def fused_name(scores: Sequence[str], clinical: bool) -> str:
    """The published way to name a fusion: ["DL_US", "DL_MRI"] and clinical give "DL_MRI+US+Clinical"."""
    if not scores:
        raise ValueError("a fusion needs at least one score")
    name = "DL_" + "+".join(sorted(score.removeprefix("DL_") for score in scores))
    return f"{name}+Clinical" if clinical else name


def score_table(predictions: pd.DataFrame, scores: Sequence[str], *splits: str) -> pd.DataFrame:
    """Probabilities of these splits side by side: index patient_id, a column per score, NaN where a patient has none.

    predictions: the predictions contract, one study. splits: "cross_validation" gives out-of-fold scores, the others the
    final network's. Raises ValueError where a patient has two rows of a score, as nodes do.
    """
    rows = predictions[predictions["model"].isin(scores) & predictions["split"].isin(splits)]
    doubled = rows.duplicated(["model", "patient_id"])
    if doubled.any():
        raise ValueError(f"{rows.loc[doubled, 'patient_id'].iloc[0]} has several rows of a score; fuse one per patient")
    table = rows.pivot(index="patient_id", columns="model", values="y_score").reindex(columns=list(scores))
    return table.rename_axis(columns=None)


def by_seed(
    predictions: pd.DataFrame, scores: Sequence[str], *patients: pd.DataFrame
) -> dict[str, tuple[pd.DataFrame, ...]]:
    """{"seed 0": patients with the scores of every network's fit 0 in the columns `scores`, ...}, of seeds that all have.

    predictions: with rows of single fits, `score/seed k` of role member. patients: frames with patient_id and the scores.
    """
    fits, found = single_fits(predictions), {}
    for seed, rows in fits[fits["model"].isin(scores)].groupby("seed"):
        if set(rows["model"]) == set(scores):
            table = score_table(rows, scores, "cross_validation", "test", "external")
            found[f"seed {seed}"] = tuple(
                frame.drop(columns=list(scores)).join(table, on="patient_id") for frame in patients
            )
    return found


def logits(probability: ArrayLike) -> np.ndarray:
    """ln(p / (1 - p)) with p kept `CLIP` away from 0 and 1; NaN stays NaN. Raises ValueError outside [0, 1]."""
    values = np.asarray(probability, dtype=float)
    if ((values < 0) | (values > 1)).any():
        raise ValueError("a probability lies outside [0, 1]; logits are taken here, not before")
    return logit(np.clip(values, CLIP, 1 - CLIP))


def withhold(X: pd.DataFrame, columns: Sequence[str]) -> pd.DataFrame:
    """The same patients as if these columns had never been measured."""
    return X.assign(**dict.fromkeys(columns, np.nan))


def logit_scale_table(predictions: pd.DataFrame, scores: Sequence[str]) -> pd.DataFrame:
    """Where the logits of scores lie: model, split, n, mean, sd, a row per score and split but training's.

    An sd on test patients far from that of the out-of-fold scores says that a coefficient fitted on these is wrong there.
    """
    splits = ["cross_validation", "validation", "test", "external"]
    chosen = predictions[predictions["model"].isin(scores) & predictions["split"].isin(splits)]
    values = chosen.assign(logit=logits(chosen["y_score"])).groupby(["model", "split"], sort=False)["logit"]
    return values.agg(n="size", mean="mean", sd="std").reset_index()


@dataclass(eq=False, repr=False)
class ScoreFusion(ClassifierMixin, BaseEstimator):
    """Logistic regression on the logits of scores plus the clinical variables that pass a univariable test.

    scores: columns of X with probabilities, always in the model; clinical: {column: ClinicalVariable}, coded, imputed and
    selected (likelihood-ratio p < p_enter) inside every fit. missing_scores: "error", or "mean", which puts the training
    mean of the logit. Unpenalized; Firth's likelihood under separation, as `UnivariableThenMultivariableLogistic` does.
    Without clinical variables it is R's glm on logits; without scores it is `clinical_pipeline`.

    Fitted: `selected_variables_` (clinical), `odds_ratios_` (variable, feature, odds_ratio, low, high,
    p_wald; per unit of logit for a score), `model_`, `note_`. The intervals take the scores as given: they do not know that
    networks were fitted, nor that variables were selected.
    """

    scores: Sequence[str]
    clinical: Mapping[str, ClinicalVariable] | None = None
    p_enter: float = 0.05
    missing_scores: str = "error"

    def fit(self, X: pd.DataFrame, y: object) -> ScoreFusion:
        """X: (n, columns) frame, one row per patient; y: (n,) 0/1. Raises InputError for a missing score (unless "mean")."""
        return self._fit(X, y, None)

    def _fit(self, X: pd.DataFrame, y: object, chosen: tuple | None) -> ScoreFusion:
        """chosen: what `_select` gave for the very same patients, so that submodels who share them select once."""
        if self.missing_scores not in ("error", "mean"):
            raise ValueError("missing_scores must be 'error' or 'mean'")
        y = np.asarray(y)
        known = X[list(self.scores)].notna()
        empty = [score for score in self.scores if not known[score].any()]
        if empty:
            raise InputError(f"nobody has {', '.join(empty)}; leave it out of the fusion.")
        self.fill_ = pd.Series({score: logits(X[score].dropna()).mean() for score in self.scores}, dtype=float)
        self.clinical_, self.encoder_, self.selection_ = self._select(X, y) if chosen is None else chosen
        design, groups, self.features_ = self._logits(X), {}, []
        if self.clinical_:
            coded, groups, kept = self.encoder_.transform(X), self.selection_.groups, self.selected_variables_
            self.features_ = [name for name in coded if groups[name] in kept]
            design = pd.concat([design, coded[self.features_]], axis=1)
        self.model_ = UnivariableThenMultivariableLogistic(p_enter=_EVERYTHING_ENTERS, groups=groups).fit(design, y)
        self.odds_ratios_, self.note_ = self.model_.odds_ratios_, self.model_.note_
        self.classes_ = np.array([0, 1])
        self.n_features_in_ = X.shape[1]
        self.feature_names_in_ = X.columns.to_numpy(dtype=object)
        return self

    def _select(self, X: pd.DataFrame, y: np.ndarray) -> tuple:
        """Clinical variables that can be coded, their encoder, and the fitted selection among them."""
        # A variable that none of these patients has cannot be coded; it is left out.
        coded = {name: variable for name, variable in (self.clinical or {}).items() if X[name].notna().any()}
        if not coded:
            return {}, None, None
        encoder = ClinicalEncoder(coded).fit(X)
        groups = dict(encoder.design_[["feature", "variable"]].itertuples(index=False, name=None))
        selection = UnivariableThenMultivariableLogistic(p_enter=self.p_enter, groups=groups)
        return coded, encoder, selection.fit(encoder.transform(X), y)

    @property
    def selected_variables_(self) -> tuple[str, ...]:
        """Labels of the clinical variables in the model."""
        return () if self.selection_ is None else self.selection_.selected_variables_

    def _logits(self, X: pd.DataFrame) -> pd.DataFrame:
        taken = {f"logit {score}": logits(X[score]) for score in self.scores}
        frame = pd.DataFrame(taken, index=X.index, dtype=float)
        if self.missing_scores == "mean":
            return frame.fillna({f"logit {score}": value for score, value in self.fill_.items()})
        lacking = frame.isna().any(axis=1)
        if lacking.any():
            first = X.loc[lacking, "patient_id"].iloc[0] if "patient_id" in X else X.index[lacking][0]
            absent = ", ".join(score for score in self.scores if pd.isna(X.loc[lacking, score].iloc[0]))
            raise InputError(f"patient {first} lacks {absent} ({lacking.sum()} such patients); use PatternSubmodels.")
        return frame

    def decision_function(self, X: pd.DataFrame) -> np.ndarray:
        """Linear predictor (n,), in logits."""
        check_is_fitted(self, "model_")
        design = self._logits(X)
        if self.clinical_:
            design = pd.concat([design, self.encoder_.transform(X)[self.features_]], axis=1)
        return self.model_.decision_function(design)

    def predict_proba(self, X: pd.DataFrame) -> np.ndarray:
        """Probabilities (n, 2) of classes 0 and 1."""
        return _two_columns(expit(self.decision_function(X)))

    def predict(self, X: pd.DataFrame) -> np.ndarray:
        """Classes (n,) at probability 0.5."""
        return (self.decision_function(X) > 0).astype(int)


@dataclass(eq=False, repr=False)
class PatternSubmodels(ClassifierMixin, BaseEstimator):
    """A `ScoreFusion` for every pattern of what a patient may have, so that nobody is without a prediction.

    Parts are the scores and, if variables are given, the clinical ones together (there, if one of them is known; the rest
    are imputed). fit_on: "available" fits the model of a pattern on all training patients who have at least its parts
    (complete-case submodels), "pattern" on those who have exactly them (pattern submodels, Fletcher Mercaldo & Blume 2020,
    Biostatistics 21:236), or on the available ones if these are too few. "pattern" stays right where being missing says
    something about the outcome, and has far fewer patients; "available" also covers patterns that training never showed.
    Too few: less than min_events of either class. A pattern that cannot be fitted is answered by the fitted one with the
    most of its parts (then the most patients). A patient of whom nothing is known gets the training prevalence, which
    ranks nobody.

    Fitted: `submodels_` {pattern: ScoreFusion}, `prevalence_`, `patterns_` (pattern, n_with_pattern, n_fitted_on,
    n_positive, fitted_on, answered_by).
    """

    scores: Sequence[str]
    clinical: Mapping[str, ClinicalVariable] | None = None
    p_enter: float = 0.05
    fit_on: str = "available"
    min_events: int = 10

    def fit(self, X: pd.DataFrame, y: object) -> PatternSubmodels:
        """X: (n, columns) frame, scores as probabilities, NaN where there is none; y: (n,) 0/1, both classes."""
        if self.fit_on not in ("available", "pattern"):
            raise ValueError("fit_on must be 'available' or 'pattern'")
        y = np.asarray(y)
        if y.shape != (len(X),) or set(np.unique(y)) != {0, 1}:
            raise ValueError(f"y must be {len(X)} labels, 0 and 1 both")
        self.classes_ = np.array([0, 1])
        self.prevalence_ = float(y.mean())
        has, exactly = self._has(X), self.pattern_of(X).to_numpy()
        self.submodels_: dict[str, ScoreFusion] = {}
        parts_of = {"+".join(parts): parts for parts in _subsets(has.columns)}
        rows, chosen = [], {}
        for name, parts in parts_of.items():
            available, own = has[list(parts)].all(axis=1).to_numpy(), exactly == name
            source = "pattern" if self.fit_on == "pattern" and self._enough(y[own]) else "available"
            used = own if source == "pattern" else available
            fitted = self._enough(y[used])
            if fitted:
                scores = [score for score in self.scores if score in parts]
                clinical = self.clinical if CLINICAL in parts else None
                model, key = ScoreFusion(scores, clinical, self.p_enter), (clinical is None, used.tobytes())
                if key not in chosen:
                    chosen[key] = model._select(X.loc[used], y[used])
                self.submodels_[name] = model._fit(X.loc[used], y[used], chosen[key])
            counts = (int(used.sum()), int(y[used].sum())) if fitted else (0, 0)
            rows.append((name, int(own.sum()), *counts, source if fitted else "", name if fitted else ""))
        rows.append((NOTHING, int((exactly == NOTHING).sum()), len(y), int(y.sum()), "prevalence", NOTHING))
        columns = ["pattern", "n_with_pattern", "n_fitted_on", "n_positive", "fitted_on", "answered_by"]
        table = pd.DataFrame(rows, columns=columns)
        fitted_on = table.set_index("pattern")["n_fitted_on"]
        for place in table.index[table["answered_by"] == ""]:
            wanted = set(parts_of[table.loc[place, "pattern"]])
            inside = [name for name in self.submodels_ if set(parts_of[name]) <= wanted]
            best = max(inside, key=lambda name: (len(parts_of[name]), fitted_on[name]), default=NOTHING)
            table.loc[place, "answered_by"] = best
        self.patterns_ = table
        self._answer = dict(zip(table["pattern"], table["answered_by"], strict=True))
        return self

    def _has(self, X: pd.DataFrame) -> pd.DataFrame:
        has = {score: X[score].notna() for score in self.scores}
        if self.clinical:
            has[CLINICAL] = X[list(self.clinical)].notna().any(axis=1)
        return pd.DataFrame(has, index=X.index)

    def _enough(self, labels: np.ndarray) -> bool:
        return min(labels.sum(), (1 - labels).sum()) >= max(1, self.min_events)

    def pattern_of(self, X: pd.DataFrame) -> pd.Series:
        """What each patient has, such as "DL_US+clinical"; "nothing" for those of whom nothing is known. Index of X."""
        has = self._has(X)
        names = ["+".join(has.columns[row]) or NOTHING for row in has.to_numpy(bool)]
        return pd.Series(names, index=X.index, dtype=object)

    def predict_proba(self, X: pd.DataFrame) -> np.ndarray:
        """Probabilities (n, 2) of classes 0 and 1, for every row."""
        check_is_fitted(self, "patterns_")
        answered = self.pattern_of(X).map(self._answer).to_numpy()
        positive = np.full(len(X), self.prevalence_)
        for name in set(answered) - {NOTHING}:
            asked = answered == name
            positive[asked] = self.submodels_[name].predict_proba(X.loc[asked])[:, 1]
        return _two_columns(positive)

    def predict(self, X: pd.DataFrame) -> np.ndarray:
        """Classes (n,) at probability 0.5."""
        return (self.predict_proba(X)[:, 1] > 0.5).astype(int)


@dataclass(eq=False, repr=False)
class WeightedVoting(ClassifierMixin, BaseEstimator):
    """Soft voting: the weighted mean of probabilities, of scores and, if variables are given, of a clinical model.

    weights: "equal"; or "auc", in proportion to max(AUC - 0.5, 0) on the patients of the fit, whose scores must be out of
    fold (all at 0.5 or below: equal). Members are the scores and "clinical". The clinical model's
    AUC is that of n_folds inner folds by patient_id, drawn from seed. A patient who lacks a member gets the mean of the
    others (weights rescaled), and the training prevalence without any. The mean of probabilities that networks learned
    with class weights is no calibrated risk: vote to rank.

    Fitted: `weights_` (Series by member, sum 1), `aucs_` (Series, NaN where not needed), `clinical_model_`.
    """

    scores: Sequence[str]
    clinical: Mapping[str, ClinicalVariable] | None = None
    weights: str = "auc"
    p_enter: float = 0.05
    n_folds: int = 5
    seed: int = 0

    def fit(self, X: pd.DataFrame, y: object) -> WeightedVoting:
        """X: (n, columns) frame with patient_id where clinical variables vote; y: (n,) 0/1, both classes."""
        y = np.asarray(y)
        members = [*self.scores, *([CLINICAL] if self.clinical else [])]
        self.classes_ = np.array([0, 1])
        self.prevalence_ = float(y.mean())
        votes = X[list(self.scores)].astype(float)
        if self.clinical:
            model = clinical_pipeline(self.clinical, p_enter=self.p_enter)
            if self.weights == "auc":
                fold = patient_level_folds(y, X["patient_id"], self.n_folds, np.random.default_rng(self.seed))
                votes = votes.assign(**{CLINICAL: out_of_fold_probabilities(model, X, y, fold)})
            self.clinical_model_ = clone(model).fit(X, y)
        self.aucs_ = pd.Series(np.nan, index=members)
        raw = pd.Series(1.0, index=members)
        if self.weights == "auc":
            for member in members:
                there = votes[member].notna().to_numpy()
                if len(np.unique(y[there])) == 2:
                    self.aucs_[member] = auc(y[there], votes.loc[there, member])
            raw = (self.aucs_ - 0.5).clip(lower=0).fillna(0)
        elif self.weights != "equal":
            raise ValueError("weights must be 'equal' or 'auc'")
        self.weights_ = raw / raw.sum() if raw.sum() > 0 else pd.Series(1 / len(members), index=members)
        return self

    def predict_proba(self, X: pd.DataFrame) -> np.ndarray:
        """Weighted mean votes (n, 2) for classes 0 and 1."""
        check_is_fitted(self, "weights_")
        votes = X[list(self.scores)].astype(float)
        if self.clinical:
            known = X[list(self.clinical)].notna().any(axis=1)
            votes = votes.assign(**{CLINICAL: np.nan})
            if known.any():
                votes.loc[known, CLINICAL] = self.clinical_model_.predict_proba(X.loc[known])[:, 1]
        values, weights = votes[self.weights_.index].to_numpy(), self.weights_.to_numpy()
        given = np.where(np.isnan(values), 0.0, weights)
        # Where only members without weight voted, their plain mean is the best there is.
        given = np.where(given.sum(axis=1, keepdims=True) > 0, given, (~np.isnan(values)).astype(float))
        total = given.sum(axis=1)
        mean = (given * np.nan_to_num(values)).sum(axis=1) / np.where(total > 0, total, 1)
        return _two_columns(np.where(total > 0, mean, self.prevalence_))

    def predict(self, X: pd.DataFrame) -> np.ndarray:
        """Classes (n,) at a mean vote of 0.5."""
        return (self.predict_proba(X)[:, 1] > 0.5).astype(int)


def _with_logits(X: pd.DataFrame, scores: Sequence[str]) -> pd.DataFrame:
    return X.assign(**{score: logits(X[score]) for score in scores})


def ridge_fusion(
    scores: Sequence[str], clinical: Mapping[str, ClinicalVariable] | None = None, n_folds: int = 5, seed: int = 0
) -> Pipeline:
    """One ridge model on standardized logits and all clinical variables together, nothing selected; penalty by log loss.

    The nearest to feature-level fusion that tables of scores allow: the networks' own features are not in them, so it is
    not called that. Missing values, scores included, get the training median or most frequent level. The inner folds
    depend on the order of rows; sort patients first. Steps: logit, encode, scale, model.
    """
    as_variables = {score: ClinicalVariable(f"logit {score}", "continuous", "logit") for score in scores}
    ridge = penalized_clinical_pipeline(as_variables | dict(clinical or {}), n_folds=n_folds, seed=seed)
    return Pipeline([("logit", FunctionTransformer(_with_logits, kw_args={"scores": scores})), *ridge.steps])


def _subsets(parts: Sequence[str]) -> list[tuple[str, ...]]:
    """All subsets but the empty one, the largest first."""
    return [subset for size in range(len(parts), 0, -1) for subset in combinations(parts, size)]


def _two_columns(positive: np.ndarray) -> np.ndarray:
    return np.column_stack([1 - positive, positive])


METHOD_WORDS = {
    "submodel": "the model fitted without what is withheld",
    "mean imputed": "the full model, scores withheld set to their training mean",
}
"""How a patient is scored from whom something is withheld, as the table and as the figure name it."""


def withheld_figure(table: pd.DataFrame, model: str) -> Figure:
    """AUC of a model with everything and with modalities withheld from the same patients, by method, a panel per split.

    table: split, shown, method (of METHOD_WORDS), n, auc, auc_low, auc_high.
    """
    by_split = list(table.assign(method=table["method"].replace(METHOD_WORDS)).groupby("split", sort=False))
    fig, axes = panels(len(by_split), width=5.2, height=3.8)
    for ax, (split, rows) in zip(axes, by_split, strict=True):
        plot_paired_intervals(rows, ax, "shown", "method", "auc", dict(zip(METHOD_WORDS.values(), (0, 1), strict=True)))
        ax.axvline(0.5, color=GUIDE, ls="--", lw=1, zorder=0)
        head(ax, sentence(SPLIT_NAMES[split]), f"n = {rows['n'].iloc[0]}")
        ax.set(xlabel="AUC (95 % interval)", xlim=(0.35, 1.0))
    keys = axes[0].get_legend_handles_labels()
    fig.legend(*keys, loc="outside lower left", title="scored by", title_fontsize="small", alignment="left")
    return headline(fig, f"{model_words(model)}: modalities withheld from the same patients")
