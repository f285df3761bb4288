"""Feature selection as scikit-learn transformers that keep feature names: Mann-Whitney, Spearman redundancy, LASSO.

All of it learns from the outcome or from the patients at hand, so it belongs inside the fold. Stability of features under
redrawn masks (ICC) and their extraction live in the modules beside this one.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from joblib import Parallel, delayed
from numpy.typing import ArrayLike
from scipy import stats
from sklearn.base import BaseEstimator, clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.feature_selection import SelectorMixin
from sklearn.impute import SimpleImputer
from sklearn.linear_model import lasso_path
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import ClassifierTags
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from alneval.folds import patient_level_folds
from alneval.intervals import wilson_interval
from alnlib.errors import InputError

FREQUENCY_COLUMNS = ("feature", "n_selected", "n_resamples", "frequency", "frequency_low", "frequency_high")

SUBSAMPLE = 0.632
"""Share of the patients of each class in a subsample: as many different ones as a bootstrap sample holds on average."""

_CORRELATION_DIGITS = 9
_NO_VARIATION = "no feature varies among the training patients; check the extraction, or leave this modality out"


class FeatureSelector(SelectorMixin, BaseEstimator):
    """What selectors share: `support_` (features,) bool is what they learn; names come from the fitted frame."""

    _allows_missing = True

    def _get_support_mask(self) -> np.ndarray:
        check_is_fitted(self, "support_")
        return self.support_

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = self._allows_missing
        return tags


class _BinarySelector(FeatureSelector):
    """A selector that looks at the outcome."""

    def _checked_outcome(self, y: ArrayLike) -> np.ndarray:
        """(n,) bool, True for the larger of the two labels."""
        check_classification_targets(y)
        self.classes_ = np.unique(y)
        if len(self.classes_) != 2:
            number = "1 class" if len(self.classes_) == 1 else f"{len(self.classes_)} classes"
            raise ValueError(f"y must hold two classes, found {number}: only binary outcomes are supported")
        return y == self.classes_[1]

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        tags.classifier_tags = ClassifierTags(multi_class=False)
        return tags


@dataclass(eq=False, repr=False)
class MannWhitneySelector(_BinarySelector):
    """Keep the features whose two-sided Mann-Whitney U test between the classes has p below `p_below`.

    Every feature by itself is tested exactly where a class has at most eight patients and nothing is tied, else by the
    normal approximation with continuity and tie correction (scipy's rule; R's wilcox.test is exact below 50 patients per
    class). No correction for multiplicity: this is the field's screening step, and its honesty comes from being fitted
    inside the fold. A missing value is left out of its own feature's test and passed on; a feature that is constant, or
    known in one class only, has p = 1.
    If no feature passes, those with the `n_fallback` smallest p are kept, so that a fold without survivors still gives a
    model; `fell_back_` and `note_` say so.

    Fitted: `p_values_` (features,), `statistics_` (features,) U of the larger label, `support_` (features,) bool,
    `fell_back_`, `note_`. Mann & Whitney 1947, Ann Math Stat 18:50.
    """

    p_below: float = 0.05
    n_fallback: int = 5

    def fit(self, X: ArrayLike, y: ArrayLike) -> MannWhitneySelector:
        """X: (n, features) numbers, NaN for missing; y: (n,) two labels.

        Raises ValueError for a missing class or a bad option, InputError if no feature varies.
        """
        if not 0 < self.p_below <= 1 or self.n_fallback < 1:
            raise ValueError("p_below must be in (0, 1] and n_fallback at least 1")
        X, y = validate_data(self, X, y, dtype=np.float64, ensure_all_finite="allow-nan")
        positive = self._checked_outcome(y)
        self.statistics_, self.p_values_ = _mann_whitney(X[positive], X[~positive])
        varies = varying_features(X)
        if not varies.any():
            raise InputError(_NO_VARIATION)
        self.support_ = self.p_values_ < self.p_below
        self.fell_back_ = not self.support_.any()
        self.note_ = ""
        if self.fell_back_:
            # a constant feature also has p = 1, but must not stand in
            order = np.lexsort((np.arange(len(varies)), np.where(varies, self.p_values_, np.inf)))
            kept = order[: min(self.n_fallback, int(varies.sum()))]
            self.support_[kept] = True
            smallest = self.p_values_[kept[0]]
            self.note_ = f"no feature has p < {self.p_below:g}; kept the {len(kept)} smallest (from {smallest:.3g})"
        return self


@dataclass(eq=False, repr=False)
class SpearmanRedundancyFilter(FeatureSelector):
    """Of features that say the same (|Spearman rho| > threshold), keep a subset without such a pair; the outcome is not used.

    Greedy: as long as a pair is above the threshold, drop the feature with the most partners above it; among equals the one
    with the larger mean |rho| to all features still there, then the later name (of a nameless array: the lexicographically
    larger column). So the kept set does not depend on the order of columns. |rho| counts to nine decimals.
    A constant feature has no rho and is dropped. A missing value takes its feature's median rank for the correlation and is
    passed on, which pulls |rho| slightly towards 0. Time and memory O(features^2): 3,000 features need about 0.2 GB.

    Fitted: `support_` (features,) bool; `removed_for_` (features,) int, for a dropped feature the index of the kept feature
    with the largest |rho| to it, -1 for a kept or constant one; `constant_` (features,) bool.
    """

    threshold: float = 0.9

    def fit(self, X: ArrayLike, y: object = None) -> SpearmanRedundancyFilter:
        """X: (n, features) numbers, NaN for missing; y is ignored. Raises InputError if no feature varies."""
        if not 0 <= self.threshold <= 1:
            raise ValueError("threshold must be in [0, 1]")
        X = validate_data(self, X, dtype=np.float64, ensure_all_finite="allow-nan", ensure_min_samples=2)
        varies = np.flatnonzero(varying_features(X))
        if not len(varies):
            raise InputError(_NO_VARIATION)
        names = getattr(self, "feature_names_in_", None)
        # np.lexsort reads its last key first; the first row is the leading one
        keys = [names[varies].astype(str)] if names is not None else list(X[::-1, varies])
        canonical = varies[np.lexsort(keys)]
        rho = np.abs(_spearman(X[:, canonical]))
        alive = _greedy_without_pairs(rho, self.threshold)

        self.support_ = np.zeros(X.shape[1], dtype=bool)
        self.support_[canonical[alive]] = True
        self.removed_for_ = np.full(X.shape[1], -1)
        self.removed_for_[canonical[~alive]] = canonical[alive][np.argmax(rho[np.ix_(alive, ~alive)], axis=0)]
        self.constant_ = np.ones(X.shape[1], dtype=bool)
        self.constant_[varies] = False
        return self


@dataclass(eq=False, repr=False)
class LassoSelector(_BinarySelector):
    """Keep the features with a coefficient in the LASSO whose penalty cross-validation chose.

    LASSO regression on the outcome as 0/1, the field's template (Tibshirani 1996, J R Stat Soc B 58:267); error = squared
    error, which on 0/1 is the Brier score. rule: "min" takes the penalty with the smallest mean error over `n_folds` folds,
    "1se" the largest penalty within one standard error of it (Breiman et al. 1984; sparser).
    Penalties: `n_alphas` on a log scale from the smallest one that empties the model down to `alpha_ratio` of it (None: 0.01
    where there are at least as many features as patients, else 0.0001, as glmnet). Features are z-scored inside every fold; the
    intercept is free. Every row is a patient; folds are stratified; if a class has fewer patients than folds, there are as
    many folds as it has patients (`n_folds_`). A constant feature gets no coefficient.
    If the chosen model is empty, the first features to enter the path are kept, at least `n_fallback` (`fell_back_`, `note_`).

    After a screening step on the same patients (Mann-Whitney) the folds in here are not blind to the outcome, so that "min"
    keeps too many features rather than too few; scores are honest only when the whole pipeline is cross-validated.

    Fitted: `alphas_` (alphas,) descending, `cv_error_` and `cv_error_se_` (alphas,), `alpha_`, `alpha_min_`, `alpha_1se_`,
    `coef_path_` (features, alphas) and `coef_` (features,) per standard deviation, at the alpha kept, `intercept_` (the linear
    predictor at the mean of every feature), `support_`, `n_folds_`, `n_iter_`, `fell_back_`, `note_`.
    Means and standard errors weight folds by size, as glmnet does (Friedman et al. 2010, J Stat Softw 33:1).
    """

    _allows_missing = False

    rule: str = "min"
    n_folds: int = 10
    n_alphas: int = 100
    alpha_ratio: float | None = None
    n_fallback: int = 1
    tol: float = 1e-4
    max_iter: int = 10_000
    random_state: int | None = None

    def fit(self, X: ArrayLike, y: ArrayLike) -> LassoSelector:
        """X: (n, features) without missing values; y: (n,) two labels.

        Raises ValueError for a missing class or value, InputError if no feature varies or a class has a single patient.
        """
        if self.rule not in ("min", "1se"):
            raise ValueError("rule must be 'min' or '1se'")
        if self.n_alphas < 2 or self.n_folds < 2 or self.n_fallback < 1:
            raise ValueError("n_alphas and n_folds must be at least 2, n_fallback at least 1")
        X, y = validate_data(self, X, y, dtype=np.float64, ensure_min_samples=2)
        positive = self._checked_outcome(y).astype(float)
        if not varying_features(X).any():
            raise InputError(_NO_VARIATION)
        self.n_folds_ = int(min(self.n_folds, positive.sum(), (1 - positive).sum()))
        if self.n_folds_ < 2:
            raise InputError("LASSO: one class has fewer than two patients, too few to cross-validate; add patients")
        patients = np.arange(len(positive)).astype(str)
        fold = patient_level_folds(positive, patients, self.n_folds_, np.random.default_rng(self.random_state))

        z, _, _ = _standardized(X)
        largest = np.abs(z.T @ (positive - positive.mean())).max() / len(X)
        if not largest > 0:
            raise InputError("every feature has the same mean in both classes; LASSO has nothing to order them by")
        ratio = self.alpha_ratio or (1e-2 if len(X) <= X.shape[1] else 1e-4)
        self.alphas_ = np.geomspace(largest, largest * ratio, self.n_alphas)
        self._cross_validate(X, positive, fold)

        self.coef_path_, self.n_iter_ = self._path(z, positive)
        at = int(np.flatnonzero(self.alphas_ == (self.alpha_min_ if self.rule == "min" else self.alpha_1se_))[0])
        counts = (self.coef_path_ != 0).sum(axis=0)
        self.fell_back_ = bool(counts[at] == 0)
        self.note_ = ""
        if self.fell_back_:
            enough = np.flatnonzero(counts >= min(self.n_fallback, counts.max()))
            at = int(enough[0])
            self.note_ = f"the chosen LASSO is empty; kept the first {counts[at]} on the path"
        self.alpha_, self.coef_, self.intercept_ = self.alphas_[at], self.coef_path_[:, at], float(positive.mean())
        self.support_ = self.coef_ != 0
        return self

    def _cross_validate(self, X: np.ndarray, positive: np.ndarray, fold: np.ndarray) -> None:
        errors = np.empty((self.n_folds_, self.n_alphas))
        for k in range(self.n_folds_):
            held = fold == k
            z, mean, scale = _standardized(X[~held])
            coefficients, _ = self._path(z, positive[~held])
            linear = (X[held] - mean) / scale @ coefficients + positive[~held].mean()
            errors[k] = ((positive[held, None] - linear) ** 2).mean(axis=0)
        weights = np.bincount(fold, minlength=self.n_folds_) / len(fold)
        self.cv_error_ = weights @ errors
        self.cv_error_se_ = np.sqrt(weights @ (errors - self.cv_error_) ** 2 / (self.n_folds_ - 1))
        # argmin takes the first of equals, which is the largest penalty
        best = int(np.argmin(self.cv_error_))
        self.alpha_min_ = self.alphas_[best]
        within = self.cv_error_ <= self.cv_error_[best] + self.cv_error_se_[best]
        self.alpha_1se_ = self.alphas_[int(np.argmax(within))]

    def _path(self, z: np.ndarray, positive: np.ndarray) -> tuple[np.ndarray, int]:
        """Coefficients (features, alphas) on z-scored features (n, features), and the most iterations."""
        with warnings.catch_warnings():
            # at the smallest penalties of wide data the path is flat: the iteration limit there is meant
            warnings.simplefilter("ignore", ConvergenceWarning)
            _, coefficients, _, n_iter = lasso_path(
                z,
                positive - positive.mean(),
                alphas=self.alphas_,
                precompute=z.shape[1] <= 4 * len(z),  # of the products of features: twice as fast, the same path
                tol=self.tol,
                max_iter=self.max_iter,
                return_n_iter=True,
            )
        return coefficients, int(max(n_iter))


def varying_features(X: np.ndarray) -> np.ndarray:
    """(features,) bool: at least two different known values. X: (n, features), NaN for missing; rounding is no variation."""
    known = ~np.isnan(X)
    low = np.min(X, axis=0, initial=np.inf, where=known)
    high = np.max(X, axis=0, initial=-np.inf, where=known)
    some = known.any(axis=0)
    low, high = np.where(some, low, 0.0), np.where(some, high, 0.0)
    return high - low > 10 * np.finfo(float).eps * np.maximum(np.abs(low), np.abs(high))


def selection_pipeline(
    random_state: int | None = None, *, before: Sequence[tuple[str, BaseEstimator]] = (), n_folds: int = 10
) -> Pipeline:
    """The widely used template, frame in, frame out: median imputation, z-score, Mann-Whitney, Spearman, LASSO.

    before: named steps that come first, such as a stability filter. n_folds: of the LASSO. Then the steps
    impute, scale, mann_whitney, spearman, lasso. A feature without any value is dropped by the imputer.
    """
    steps = [
        *before,
        ("impute", SimpleImputer(strategy="median")),
        ("scale", StandardScaler()),
        ("mann_whitney", MannWhitneySelector()),
        ("spearman", SpearmanRedundancyFilter()),
        ("lasso", LassoSelector(n_folds=n_folds, random_state=random_state)),
    ]
    return Pipeline(steps).set_output(transform="pandas")


def selection_counts(pipeline: Pipeline) -> pd.DataFrame:
    """How many features entered and left each step of a fitted pipeline: step, n_in, n_out, fell_back."""
    rows = []
    for name, step in pipeline.steps:
        if hasattr(step, "get_feature_names_out") and hasattr(step, "n_features_in_"):
            n_out = len(step.get_feature_names_out())
            rows.append((name, int(step.n_features_in_), n_out, bool(getattr(step, "fell_back_", False))))
    return pd.DataFrame(rows, columns=["step", "n_in", "n_out", "fell_back"])


def selection_frequency(
    selector: BaseEstimator,
    X: pd.DataFrame,
    y: ArrayLike,
    rng: np.random.Generator,
    *,
    n_resamples: int = 100,
    n_jobs: int = 1,
) -> pd.DataFrame:
    """How often each feature is kept when the selection is fitted anew on resampled patients: `FREQUENCY_COLUMNS`.

    selector: a selector, or a pipeline of such; cloned. X: (n, features) frame, its index
    the patients, who may have several rows; y: (n,) 0/1. `SUBSAMPLE` of the patients of each class are drawn without
    replacement: repeated patients in a bootstrap sample favor complex models, and fall on both sides of the folds inside
    LASSO (De Bin et al. 2016, Biometrics 72:272). One row per column of X, most frequent first (then in column order); the
    interval is Wilson's 95 % for the number of resamples, not for new patients. Same rng state, same table, whatever n_jobs
    (processes).
    """
    if n_resamples < 1:
        raise ValueError("n_resamples must be at least 1")
    labels, patients = np.asarray(y), np.asarray(X.index).astype(str)
    rows = [_subsampled_rows(labels, patients, child) for child in rng.spawn(n_resamples)]
    kept = Parallel(n_jobs=n_jobs)(delayed(_selected_names)(selector, X.iloc[row], labels[row]) for row in rows)
    counts = pd.Series(0, index=X.columns)
    for names in kept:
        counts[list(names)] += 1
    wilson = [wilson_interval(int(count), n_resamples) for count in counts]
    table = pd.DataFrame(
        {
            "feature": counts.index,
            "n_selected": counts.to_numpy(),
            "n_resamples": n_resamples,
            "frequency": counts.to_numpy() / n_resamples,
            "frequency_low": [interval.low for interval in wilson],
            "frequency_high": [interval.high for interval in wilson],
        }
    )
    return table.sort_values("n_selected", ascending=False, kind="stable", ignore_index=True)


def _mann_whitney(positive: np.ndarray, negative: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """U of the positive class and two-sided p, both (features,); NaN left out feature by feature."""
    both = np.vstack([positive, negative])
    complete = ~np.isnan(both).any(axis=0)
    ordered = np.sort(both, axis=0)
    tied = (ordered[1:] == ordered[:-1]).any(axis=0)
    statistic, p = np.full(both.shape[1], np.nan), np.ones(both.shape[1])
    # scipy's "auto" looks for ties in the whole array, so that one tied feature would change the p of the others
    for group in (complete & tied, complete & ~tied):
        if group.any():
            result = stats.mannwhitneyu(positive[:, group], negative[:, group])
            statistic[group], p[group] = result.statistic, result.pvalue
    for j in np.flatnonzero(~complete):
        a, b = positive[~np.isnan(positive[:, j]), j], negative[~np.isnan(negative[:, j]), j]
        if len(a) and len(b):
            result = stats.mannwhitneyu(a, b)
            statistic[j], p[j] = result.statistic, result.pvalue
    p[~varying_features(both)] = 1.0
    return statistic, np.where(np.isnan(p), 1.0, p)


def _spearman(X: np.ndarray) -> np.ndarray:
    """Spearman correlation (features, features), a missing value at its feature's median rank; no constant columns."""
    ranks = stats.rankdata(X, axis=0, nan_policy="omit")
    ranks -= np.nanmean(ranks, axis=0)
    ranks[np.isnan(ranks)] = 0.0
    ranks /= np.linalg.norm(ranks, axis=0)
    return ranks.T @ ranks


def _greedy_without_pairs(rho: np.ndarray, threshold: float) -> np.ndarray:
    """(features,) bool of the features kept; among equals the later one goes. rho: |rho| (features, features)."""
    # whole numbers in float64 add without rounding, so that ties stay ties in any order
    scaled = np.rint(rho * 10.0**_CORRELATION_DIGITS)
    above = scaled > np.rint(threshold * 10.0**_CORRELATION_DIGITS)
    np.fill_diagonal(above, False)
    partners, total = above.sum(axis=1), scaled.sum(axis=1)
    alive = np.ones(len(rho), dtype=bool)
    while partners.max() > 0:
        worst = np.flatnonzero(partners == partners.max())
        worst = worst[total[worst] == total[worst].max()][-1]
        alive[worst] = False
        partners -= above[worst]
        partners[worst] = 0
        above[:, worst] = False
        total -= scaled[worst]
    return alive


def _standardized(X: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """z-scores with the 1/n standard deviation, the means and the scales; a constant column becomes 0."""
    mean, varies = X.mean(axis=0), varying_features(X)
    scale = np.where(varies, X.std(axis=0), 1.0)
    return np.asfortranarray(np.where(varies, (X - mean) / scale, 0.0)), mean, scale


def _subsampled_rows(labels: np.ndarray, patients: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Rows of the drawn patients, drawn within each class; a patient is positive if any row is."""
    outcome = pd.Series(labels).groupby(patients).max()
    rows_of = pd.Series(np.arange(len(labels))).groupby(patients).apply(list)
    drawn = []
    for label in (0, 1):
        members = outcome.index[outcome == label].to_numpy()
        drawn.extend(rng.choice(members, max(1, round(SUBSAMPLE * len(members))), replace=False))
    return np.concatenate([rows_of[patient] for patient in drawn])


def _selected_names(selector: BaseEstimator, X: pd.DataFrame, labels: np.ndarray) -> np.ndarray:
    return clone(selector).fit(X, labels).get_feature_names_out()
