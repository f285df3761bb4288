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
from numpy.typing import ArrayLike
from scipy import stats
from sklearn.base import BaseEstimator, clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.feature_selection import SelectorMixin
from sklearn.impute import SimpleImputer
from sklearn.linear_model import lars_path
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

MAX_ITER = 10_000
"""Steps of the LASSO's path, more than there are in it."""

_CORRELATION_DIGITS = 9


class FeatureSelector(SelectorMixin, BaseEstimator):
    """What selectors share: `support_` (features,) bool is what they learn; names come from the fitted frame."""

    def _get_support_mask(self) -> np.ndarray:
        check_is_fitted(self, "support_")
        return self.support_


class _BinarySelector(FeatureSelector):
    """A selector that looks at the outcome."""

    def _checked(self, X: ArrayLike, y: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
        """(n, features) float and (n,) bool, True for the larger of the two labels."""
        X, y = validate_data(self, X, y, dtype=np.float64, ensure_min_samples=2)
        check_classification_targets(y)
        self.classes_ = np.unique(y)
        if len(self.classes_) != 2:
            number = "1 class" if len(self.classes_) == 1 else f"{len(self.classes_)} classes"
            raise ValueError(f"y must hold two classes, found {number}: only binary outcomes are supported")
        return X, y == self.classes_[1]

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
    inside the fold. A constant feature has p = 1.
    If no feature passes, those with the `n_fallback` smallest p are kept, so that a fold without survivors still gives a
    model; `fell_back_` says so.

    Fitted: `p_values_` (features,), `support_` (features,) bool, `fell_back_`. Mann & Whitney 1947, Ann Math Stat 18:50.
    """

    p_below: float = 0.05
    n_fallback: int = 5

    def fit(self, X: ArrayLike, y: ArrayLike) -> MannWhitneySelector:
        """X: (n, features); y: (n,) two labels. Raises ValueError for a missing class or value, InputError if no feature
        varies."""
        X, positive = self._checked(X, y)
        varies = _some_vary(X)
        ordered = np.sort(X, axis=0)
        tied = (ordered[1:] == ordered[:-1]).any(axis=0)
        self.p_values_ = np.ones(X.shape[1])
        # scipy's "auto" looks for ties in the whole array, so that one tied feature would change the p of the others
        for group in (tied, ~tied):
            if group.any():
                self.p_values_[group] = stats.mannwhitneyu(X[positive][:, group], X[~positive][:, group]).pvalue
        self.p_values_[~varies] = 1.0
        self.support_ = self.p_values_ < self.p_below
        self.fell_back_ = not self.support_.any()
        if self.fell_back_:
            # a constant feature also has p = 1, but must not stand in
            order = np.argsort(np.where(varies, self.p_values_, np.inf), kind="stable")
            self.support_[order[: min(self.n_fallback, varies.sum())]] = True
        return self


@dataclass(eq=False, repr=False)
class SpearmanRedundancyFilter(FeatureSelector):
    """Of features that say the same (|Spearman rho| > threshold), keep a subset without such a pair; the outcome is not used.

    Greedy: as long as a pair is above the threshold, drop the feature with the most partners above it; among equals the one
    with the larger mean |rho| to all features still there, then the later name. So the kept set of a frame does not depend on
    the order of its columns. |rho| counts to nine decimals. A constant feature has no rho and is dropped.
    Time and memory O(features^2): 3,000 features need about 0.2 GB. Fitted: `support_` (features,) bool.
    """

    threshold: float = 0.9

    def fit(self, X: ArrayLike, y: object = None) -> SpearmanRedundancyFilter:
        """X: (n, features); y is ignored. Raises ValueError for a missing value, InputError if no feature varies."""
        X = validate_data(self, X, dtype=np.float64, ensure_min_samples=2)
        varies = np.flatnonzero(_some_vary(X))
        names = getattr(self, "feature_names_in_", np.arange(X.shape[1]))
        by_name = varies[np.argsort(names[varies].astype(str), kind="stable")]
        ranks = stats.rankdata(X[:, by_name], axis=0)
        ranks -= ranks.mean(axis=0)
        ranks /= np.linalg.norm(ranks, axis=0)
        self.support_ = np.zeros(X.shape[1], dtype=bool)
        self.support_[by_name[_greedy_without_pairs(np.abs(ranks.T @ ranks), self.threshold)]] = True
        return self


@dataclass(eq=False, repr=False)
class LassoSelector(_BinarySelector):
    """Keep the features with a coefficient in the LASSO whose penalty cross-validation chose.

    LASSO regression on the outcome as 0/1, the field's template (Tibshirani 1996, J R Stat Soc B 58:267), at the penalty with
    the smallest mean error over `n_folds` folds; error = squared error, which on 0/1 is the Brier score.
    Penalties: `n_alphas` on a log scale from the smallest one that empties the model down to `alpha_ratio` of it (None: 0.01
    where there are at least as many features as patients, else 0.0001, as glmnet). Features are z-scored inside every fold; the
    intercept is free. Every row is a patient; folds are stratified; if a class has fewer patients than folds, there are as
    many folds as it has patients (`n_folds_`). A constant feature gets no coefficient.
    If the chosen model is empty, the first features to enter the path are kept (`fell_back_`).

    After a screening step on the same patients (Mann-Whitney) the folds in here are not blind to the outcome, so that too many
    features are kept rather than too few; scores are honest only when the whole pipeline is cross-validated.

    Fitted: `alphas_` (alphas,) descending, `cv_error_` (alphas,) mean over folds weighted by size, as glmnet's (Friedman et al.
    2010, J Stat Softw 33:1), `coef_path_` (features, alphas) per standard deviation, `alpha_` and `coef_` (features,) at the
    alpha kept, `support_`, `n_folds_`, `fell_back_`.
    """

    n_folds: int = 10
    n_alphas: int = 100
    alpha_ratio: float | None = None
    random_state: int | None = None

    def fit(self, X: ArrayLike, y: ArrayLike) -> LassoSelector:
        """X: (n, features) without missing values; y: (n,) two labels.

        Raises ValueError for a missing class or value, InputError if no feature varies or a class has a single patient.
        """
        X, positive = self._checked(X, y)
        _some_vary(X)
        positive = positive.astype(float)
        self.n_folds_ = int(min(self.n_folds, positive.sum(), (1 - positive).sum()))
        if self.n_folds_ < 2:
            raise InputError(
                f"LASSO: one class has fewer than two patients, or n_folds ({self.n_folds}) is below 2, too few to "
                "cross-validate; add patients or folds"
            )
        patients = np.arange(len(positive)).astype(str)
        fold = patient_level_folds(positive, patients, self.n_folds_, np.random.default_rng(self.random_state))

        z, _, _ = _standardized(X)
        largest = np.abs(z.T @ (positive - positive.mean())).max() / len(X)
        if not largest > 0:
            raise InputError("every feature has the same mean in both classes; LASSO has nothing to order them by")
        ratio = self.alpha_ratio or (1e-2 if len(X) <= X.shape[1] else 1e-4)
        self.alphas_ = np.geomspace(largest, largest * ratio, self.n_alphas)
        self.cv_error_ = np.bincount(fold) / len(fold) @ self._fold_errors(X, positive, fold)

        self.coef_path_ = self._path(z, positive)
        filled = (self.coef_path_ != 0).any(axis=0)
        at = int(np.argmin(self.cv_error_))  # the first of equals, which is the largest penalty
        self.fell_back_ = not filled[at]
        if self.fell_back_:
            at = int(np.argmax(filled))
        self.alpha_, self.coef_ = self.alphas_[at], self.coef_path_[:, at]
        self.support_ = self.coef_ != 0
        return self

    def _fold_errors(self, X: np.ndarray, positive: np.ndarray, fold: np.ndarray) -> np.ndarray:
        """(folds, alphas) mean squared errors."""
        errors = np.empty((self.n_folds_, self.n_alphas))
        for k in range(self.n_folds_):
            held = fold == k
            z, mean, scale = _standardized(X[~held])
            linear = (X[held] - mean) / scale @ self._path(z, positive[~held]) + positive[~held].mean()
            errors[k] = ((positive[held, None] - linear) ** 2).mean(axis=0)
        return errors

    def _path(self, z: np.ndarray, positive: np.ndarray) -> np.ndarray:
        """Coefficients (features, alphas) on z-scored features (n, features)."""
        # The exact path: straight between its knots (Efron et al. 2004, Ann Stat 32:407), in a hundredth of the time that
        # coordinate descent needs where features are correlated and penalties small.
        with warnings.catch_warnings(action="ignore", category=ConvergenceWarning):
            knots, _, path = lars_path(
                z, positive - positive.mean(), method="lasso", alpha_min=self.alphas_[-1], max_iter=MAX_ITER
            )
        return np.array([np.interp(self.alphas_, knots[::-1], each[::-1]) for each in path])


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
    selector: BaseEstimator, X: pd.DataFrame, y: ArrayLike, rng: np.random.Generator, *, n_resamples: int = 100
) -> pd.DataFrame:
    """How often each feature is kept when the selection is fitted anew on resampled patients: `FREQUENCY_COLUMNS`.

    selector: a selector, or a pipeline of such; cloned. X: (n, features) frame, a row per patient, its index; y: (n,) 0/1.
    `SUBSAMPLE` of the patients of each class are drawn without replacement: repeated patients in a bootstrap sample favor
    complex models, and fall on both sides of the folds inside LASSO (De Bin et al. 2016, Biometrics 72:272). One row per
    column of X, most frequent first (then in column order); the interval is Wilson's 95 % for the number of resamples, not
    for new patients.
    """
    labels, by_patient = np.asarray(y), np.argsort(np.asarray(X.index).astype(str), kind="stable")
    classes = [by_patient[labels[by_patient] == label] for label in (0, 1)]
    sizes = [max(1, round(SUBSAMPLE * len(members))) for members in classes]
    counts = pd.Series(0, index=X.columns)
    for child in rng.spawn(n_resamples):
        drawn = [child.choice(members, size, replace=False) for members, size in zip(classes, sizes, strict=True)]
        rows = np.concatenate(drawn)
        counts[list(clone(selector).fit(X.iloc[rows], labels[rows]).get_feature_names_out())] += 1
    wilson = [wilson_interval(int(count), n_resamples) for count in counts]
    table = pd.DataFrame({"feature": counts.index, "n_selected": counts.to_numpy(), "n_resamples": n_resamples})
    table["frequency"] = table["n_selected"] / n_resamples
    table["frequency_low"] = [interval.low for interval in wilson]
    table["frequency_high"] = [interval.high for interval in wilson]
    return table.sort_values("n_selected", ascending=False, kind="stable", ignore_index=True)


def _varying(X: np.ndarray) -> np.ndarray:
    """(features,) bool: at least two different values; rounding is no variation."""
    low, high = X.min(axis=0), X.max(axis=0)
    return high - low > 10 * np.finfo(float).eps * np.maximum(np.abs(low), np.abs(high))


def _some_vary(X: np.ndarray) -> np.ndarray:
    varies = _varying(X)
    if not varies.any():
        raise InputError(
            "no feature varies among the training patients; check the extraction, or leave this modality out"
        )
    return varies


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
    mean, varies = X.mean(axis=0), _varying(X)
    scale = np.where(varies, X.std(axis=0), 1.0)
    return np.asfortranarray(np.where(varies, (X - mean) / scale, 0.0)), mean, scale
