"""ComBat harmonization of features across centers as a scikit-learn transformer, fitted on training patients only.

Intensity normalization of the pixels themselves lives in `alnlib.imaging.normalize`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from alnlib.errors import InputError
from alnlib.radiomics.select import varying_features

SMALLEST_CENTER = 3
"""Fewer patients of one center say nothing about its spread."""

_CONVERGED = 1e-8
_MAX_ITERATIONS = 1000


class ComBatHarmonizer(TransformerMixin, BaseEstimator):
    """Remove each center's shift and scale from every feature by parametric empirical Bayes: frame in, frame out.

    Johnson et al. 2007, Biostatistics 8:118, as sva and neuroCombat compute it (Fortin et al. 2018, NeuroImage 167:104), with
    the difference that everything is learned in `fit` and only applied in `transform`, so that test patients never shape it.

    center_column: the column of X that names the center. covariates: numeric columns of X whose effect is to be kept (age,
    field strength), needed again in `transform`; never the outcome, which is unknown for a new patient. Both kinds of columns
    are left out of the result. A missing value stays missing and is left out of the estimates. A feature that is constant
    within a center, or known in fewer than `SMALLEST_CENTER` patients of one, passes unchanged (`harmonized_`).
    unseen: what to do with a center that was not in `fit`: "error" (default) or "pass" (its rows stay as they are, the
    best that can be done without looking at the test center's patients).

    Where the outcome is more frequent at one center than at another, ComBat removes a part of the outcome's own effect with
    the center's; an external hospital cannot be harmonized at all.

    Fitted: `centers_` (centers,), `counts_` (Series), `features_`, `harmonized_` (features,) bool, `grand_mean_`,
    `pooled_sd_` (features,), `covariate_effects_` (covariates, features) per unit, `shift_` and `scale_` (centers, features)
    in pooled standard deviations: the empirical Bayes gamma* and the square root of delta*.
    """

    def __init__(
        self,
        center_column: str = "center",
        covariates: Sequence[str] = (),
        unseen: str = "error",
    ):
        self.center_column = center_column
        self.covariates = covariates
        self.unseen = unseen

    def fit(self, X: pd.DataFrame, y: object = None) -> ComBatHarmonizer:
        """X: (n, columns) frame with the center, the covariates and the features (numbers); y is ignored.

        Raises InputError for fewer than two centers, a center of fewer than `SMALLEST_CENTER` patients, a missing center or
        covariate, text among features, or covariates that cannot be told from the centers.
        """
        if self.unseen not in ("error", "pass"):
            raise ValueError("unseen must be 'error' or 'pass'")
        if not isinstance(X, pd.DataFrame):
            raise TypeError(f"X must be a DataFrame with a column {self.center_column!r}")
        self.feature_names_in_ = X.columns.to_numpy(dtype=object)
        self.n_features_in_ = X.shape[1]
        aside = {self.center_column, *self.covariates}
        self.features_ = np.asarray([column for column in X.columns if column not in aside], dtype=object)
        center, covariates, values = self._parts(X)
        self.centers_, code = np.unique(center, return_inverse=True)
        self.counts_ = pd.Series(np.bincount(code), index=self.centers_, name="patients")
        if len(self.centers_) < 2:
            raise InputError(
                f"ComBat: all training patients are from {self.centers_[0]}; nothing to harmonize, leave this step out"
            )
        small = self.counts_[self.counts_ < SMALLEST_CENTER]
        if len(small):
            raise InputError(
                f"ComBat: center {small.index[0]} has {small.iloc[0]} training patients, at least {SMALLEST_CENTER} are needed; "
                "merge it with another center, or leave it out"
            )
        one_hot = (code[:, None] == np.arange(len(self.centers_))).astype(float)
        self._standardize_training(values, one_hot, covariates)
        z = self._standardized(values, covariates)
        self.shift_ = np.zeros((len(self.centers_), values.shape[1]))
        self.scale_ = np.ones_like(self.shift_)
        for at in range(len(self.centers_)):
            shift, variance = _empirical_bayes(z[np.ix_(code == at, self.harmonized_)])
            self.shift_[at, self.harmonized_], self.scale_[at, self.harmonized_] = shift, np.sqrt(variance)
        return self

    def transform(self, X: pd.DataFrame) -> pd.DataFrame:
        """Harmonized features (n, features) float64 with the index of X.

        Raises InputError for an unseen center (unless `unseen` is "pass"), a missing column, center or covariate.
        """
        check_is_fitted(self, "shift_")
        center, covariates, values = self._parts(X)
        known = np.isin(center, self.centers_)
        if self.unseen == "error" and not known.all():
            raise InputError(
                f"ComBat: center {center[~known][0]} was not among the training centers ({', '.join(self.centers_)}), so its "
                "shift is unknown; train with patients of it, leave harmonization out, or set unseen='pass' to use its values as "
                "they are"
            )
        code = np.searchsorted(self.centers_, center[known])
        z = self._standardized(values, covariates)[known]
        adjusted = (z - self.shift_[code]) / self.scale_[code]
        result = values.copy()
        # as a difference, so that a feature with shift 0 and scale 1 keeps its exact value
        result[known] += (adjusted - z) * self.pooled_sd_
        return pd.DataFrame(result, index=X.index, columns=self.features_)

    def get_feature_names_out(self, input_features: object = None) -> np.ndarray:
        """Names of the features: the columns of X but the center and the covariates."""
        check_is_fitted(self, "features_")
        return self.features_.copy()

    def _parts(self, X: pd.DataFrame) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Centers (n,) text, covariates (n, covariates) and features (n, features) float64."""
        absent = [
            column for column in (self.center_column, *self.covariates, *self.features_) if column not in X.columns
        ]
        if absent:
            raise InputError(f"ComBat: column {absent[0]} is missing; give the center, the covariates and all features")
        if X[self.center_column].isna().any():
            row = X.index[X[self.center_column].isna()][0]
            raise InputError(f"ComBat: row {row} has no {self.center_column}; fill it in or leave the patient out")
        try:
            covariates = X[list(self.covariates)].to_numpy(np.float64)
            values = X[list(self.features_)].to_numpy(np.float64)
        except (ValueError, TypeError) as error:
            raise InputError(
                f"ComBat: a feature or covariate is not a number ({error}); leave that column out"
            ) from error
        if np.isinf(values).any() or not np.isfinite(covariates).all():
            raise InputError("ComBat: infinite features or missing covariates; repair or impute them before this step")
        return X[self.center_column].to_numpy(dtype=object).astype(str), covariates, values

    def _standardize_training(self, values: np.ndarray, one_hot: np.ndarray, covariates: np.ndarray) -> None:
        """Least squares on center and covariates, over each feature's known values; grand means and pooled spread."""
        n_centers, n_features = one_hot.shape[1], values.shape[1]
        design = np.hstack([one_hot, covariates])
        if np.linalg.matrix_rank(design) < design.shape[1]:
            raise InputError(
                "ComBat: the covariates are constant or tied to the centers, so neither effect is known; use fewer covariates"
            )
        known = ~np.isnan(values)
        self.grand_mean_, self.pooled_sd_ = np.zeros(n_features), np.ones(n_features)
        self.covariate_effects_ = np.zeros((covariates.shape[1], n_features))
        self.harmonized_ = (one_hot.T @ known >= SMALLEST_CENTER).all(axis=0)
        for of_center in one_hot.T.astype(bool):
            self.harmonized_ &= varying_features(values[of_center])
        # features with the same gaps share one least-squares problem
        patterns, which = np.unique(known, axis=1, return_inverse=True)
        for at, rows in enumerate(patterns.T):
            columns = np.flatnonzero((which.ravel() == at) & self.harmonized_)
            if not len(columns):
                continue
            observed = values[np.ix_(rows, columns)]
            effects = np.linalg.lstsq(design[rows], observed, rcond=None)[0]
            self.grand_mean_[columns] = one_hot[rows].mean(axis=0) @ effects[:n_centers]
            self.covariate_effects_[:, columns] = effects[n_centers:]
            self.pooled_sd_[columns] = np.sqrt(((observed - design[rows] @ effects) ** 2).mean(axis=0))

    def _standardized(self, values: np.ndarray, covariates: np.ndarray) -> np.ndarray:
        return (values - self.grand_mean_ - covariates @ self.covariate_effects_) / self.pooled_sd_


def _empirical_bayes(z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Shift gamma* and variance delta* (features,) of one center's standardized features z (n, features), NaN for missing.

    Priors across features by moments: normal for the shift, inverse gamma for the variance. With fewer than two features
    there is nothing to borrow, and the plain estimates are returned.
    """
    if z.shape[1] == 0:
        return np.zeros(0), np.ones(0)
    n = (~np.isnan(z)).sum(axis=0)
    shift, variance = np.nanmean(z, axis=0), np.nanvar(z, axis=0, ddof=1)
    mean, spread = variance.mean(), variance.var(ddof=1) if z.shape[1] > 1 else 0.0
    if not spread > 0:
        return shift, variance
    prior_mean, prior_variance = shift.mean(), shift.var(ddof=1)
    shape, rate = mean**2 / spread + 2, mean * (mean**2 / spread + 1)
    sum_of_squares = np.nansum((z - shift) ** 2, axis=0)
    gamma, delta = shift, variance
    for _ in range(_MAX_ITERATIONS):
        new_gamma = _posterior_mean(shift, prior_mean, n, delta, prior_variance)
        # squares about another center: those about the mean plus n times the squared distance
        new_delta = (0.5 * (sum_of_squares + n * (shift - new_gamma) ** 2) + rate) / (n / 2 + shape - 1)
        change = max(np.abs(new_gamma - gamma).max(), (np.abs(new_delta - delta) / delta).max())
        gamma, delta = new_gamma, new_delta
        if change < _CONVERGED:
            return gamma, delta
    raise RuntimeError(f"ComBat did not converge in {_MAX_ITERATIONS} iterations")


def _posterior_mean(
    shift: np.ndarray, prior_mean: float, n: np.ndarray, variance: np.ndarray, prior_variance: float
) -> np.ndarray:
    return (n * prior_variance * shift + variance * prior_mean) / (n * prior_variance + variance)
