"""ComBat harmonization of features across centres as a scikit-learn transformer, fitted on training patients only.

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

SMALLEST_CENTRE = 3
"""Fewer patients of one centre say nothing about its spread."""

_CONVERGED = 1e-8
_MAX_ITERATIONS = 1000


class ComBatHarmoniser(TransformerMixin, BaseEstimator):
    """Remove each centre's shift and scale from every feature by parametric empirical Bayes: frame in, frame out.

    Johnson et al. 2007, Biostatistics 8:118, as sva and neuroCombat compute it (Fortin et al. 2018, NeuroImage 167:104), with
    the difference that everything is learned in `fit` and only applied in `transform`, so that test patients never shape it.

    centre_column: the column of X that names the centre. covariates: numeric columns of X whose effect is to be kept (age,
    field strength), needed again in `transform`; never the outcome, which is unknown for a new patient. Both kinds of columns
    are left out of the result. A missing value stays missing and is left out of the estimates. A feature that is constant
    within a centre, or known in fewer than `SMALLEST_CENTRE` patients of one, passes unchanged (`harmonised_`).
    unseen: what to do with a centre that was not in `fit`: "error" (default) or "pass" (its rows stay as they are, the
    best that can be done without looking at the test centre's patients).

    Where the outcome is more frequent at one centre than at another, ComBat removes a part of the outcome's own effect with
    the centre's; an external hospital cannot be harmonized at all.

    Fitted: `centres_` (centres,), `counts_` (Series), `features_`, `harmonised_` (features,) bool, `grand_mean_`,
    `pooled_sd_` (features,), `covariate_effects_` (covariates, features) per unit, `shift_` and `scale_` (centres, features)
    in pooled standard deviations: the empirical Bayes gamma* and the square root of delta*.
    """

    def __init__(
        self,
        centre_column: str = "centre",
        covariates: Sequence[str] = (),
        unseen: str = "error",
    ):
        self.centre_column = centre_column
        self.covariates = covariates
        self.unseen = unseen

    def fit(self, X: pd.DataFrame, y: object = None) -> ComBatHarmoniser:
        """X: (n, columns) frame with the centre, the covariates and the features (numbers); y is ignored.

        Raises InputError for fewer than two centres, a centre of fewer than `SMALLEST_CENTRE` patients, a missing centre or
        covariate, text among features, or covariates that cannot be told from the centres.
        """
        if self.unseen not in ("error", "pass"):
            raise ValueError("unseen must be 'error' or 'pass'")
        if not isinstance(X, pd.DataFrame):
            raise TypeError(f"X must be a DataFrame with a column {self.centre_column!r}")
        self.feature_names_in_ = X.columns.to_numpy(dtype=object)
        self.n_features_in_ = X.shape[1]
        aside = {self.centre_column, *self.covariates}
        self.features_ = np.asarray([column for column in X.columns if column not in aside], dtype=object)
        centre, covariates, values = self._parts(X)
        self.centres_, code = np.unique(centre, return_inverse=True)
        self.counts_ = pd.Series(np.bincount(code), index=self.centres_, name="patients")
        if len(self.centres_) < 2:
            raise InputError(
                f"ComBat: all training patients are from {self.centres_[0]}; nothing to harmonize, leave this step out"
            )
        small = self.counts_[self.counts_ < SMALLEST_CENTRE]
        if len(small):
            raise InputError(
                f"ComBat: centre {small.index[0]} has {small.iloc[0]} training patients, at least {SMALLEST_CENTRE} are needed; "
                "merge it with another centre, or leave it out"
            )
        one_hot = (code[:, None] == np.arange(len(self.centres_))).astype(float)
        self._standardise_training(values, one_hot, covariates)
        z = self._standardised(values, covariates)
        self.shift_ = np.zeros((len(self.centres_), values.shape[1]))
        self.scale_ = np.ones_like(self.shift_)
        for at in range(len(self.centres_)):
            shift, variance = _empirical_bayes(z[np.ix_(code == at, self.harmonised_)])
            self.shift_[at, self.harmonised_], self.scale_[at, self.harmonised_] = shift, np.sqrt(variance)
        return self

    def transform(self, X: pd.DataFrame) -> pd.DataFrame:
        """Harmonized features (n, features) float64 with the index of X.

        Raises InputError for an unseen centre (unless `unseen` is "pass"), a missing column, centre or covariate.
        """
        check_is_fitted(self, "shift_")
        centre, covariates, values = self._parts(X)
        known = np.isin(centre, self.centres_)
        if self.unseen == "error" and not known.all():
            raise InputError(
                f"ComBat: centre {centre[~known][0]} was not among the training centres ({', '.join(self.centres_)}), so its "
                "shift is unknown; train with patients of it, leave harmonization out, or set unseen='pass' to use its values as "
                "they are"
            )
        code = np.searchsorted(self.centres_, centre[known])
        z = self._standardised(values, covariates)[known]
        adjusted = (z - self.shift_[code]) / self.scale_[code]
        result = values.copy()
        # as a difference, so that a feature with shift 0 and scale 1 keeps its exact value
        result[known] += (adjusted - z) * self.pooled_sd_
        return pd.DataFrame(result, index=X.index, columns=self.features_)

    def get_feature_names_out(self, input_features: object = None) -> np.ndarray:
        """Names of the features: the columns of X but the centre and the covariates."""
        check_is_fitted(self, "features_")
        return self.features_.copy()

    def _parts(self, X: pd.DataFrame) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Centres (n,) text, covariates (n, covariates) and features (n, features) float64."""
        absent = [
            column for column in (self.centre_column, *self.covariates, *self.features_) if column not in X.columns
        ]
        if absent:
            raise InputError(f"ComBat: column {absent[0]} is missing; give the centre, the covariates and all features")
        if X[self.centre_column].isna().any():
            row = X.index[X[self.centre_column].isna()][0]
            raise InputError(f"ComBat: row {row} has no {self.centre_column}; fill it in or leave the patient out")
        try:
            covariates = X[list(self.covariates)].to_numpy(np.float64)
            values = X[list(self.features_)].to_numpy(np.float64)
        except (ValueError, TypeError) as error:
            raise InputError(
                f"ComBat: a feature or covariate is not a number ({error}); leave that column out"
            ) from error
        if np.isinf(values).any() or not np.isfinite(covariates).all():
            raise InputError("ComBat: infinite features or missing covariates; repair or impute them before this step")
        return X[self.centre_column].to_numpy(dtype=object).astype(str), covariates, values

    def _standardise_training(self, values: np.ndarray, one_hot: np.ndarray, covariates: np.ndarray) -> None:
        """Least squares on centre and covariates, over each feature's known values; grand means and pooled spread."""
        n_centres, n_features = one_hot.shape[1], values.shape[1]
        design = np.hstack([one_hot, covariates])
        if np.linalg.matrix_rank(design) < design.shape[1]:
            raise InputError(
                "ComBat: the covariates are constant or tied to the centres, so neither effect is known; use fewer covariates"
            )
        known = ~np.isnan(values)
        self.grand_mean_, self.pooled_sd_ = np.zeros(n_features), np.ones(n_features)
        self.covariate_effects_ = np.zeros((covariates.shape[1], n_features))
        self.harmonised_ = (one_hot.T @ known >= SMALLEST_CENTRE).all(axis=0)
        for of_centre in one_hot.T.astype(bool):
            self.harmonised_ &= varying_features(values[of_centre])
        # features with the same gaps share one least-squares problem
        patterns, which = np.unique(known, axis=1, return_inverse=True)
        for at, rows in enumerate(patterns.T):
            columns = np.flatnonzero((which.ravel() == at) & self.harmonised_)
            if not len(columns):
                continue
            observed = values[np.ix_(rows, columns)]
            effects = np.linalg.lstsq(design[rows], observed, rcond=None)[0]
            self.grand_mean_[columns] = one_hot[rows].mean(axis=0) @ effects[:n_centres]
            self.covariate_effects_[:, columns] = effects[n_centres:]
            self.pooled_sd_[columns] = np.sqrt(((observed - design[rows] @ effects) ** 2).mean(axis=0))

    def _standardised(self, values: np.ndarray, covariates: np.ndarray) -> np.ndarray:
        return (values - self.grand_mean_ - covariates @ self.covariate_effects_) / self.pooled_sd_


def _empirical_bayes(z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Shift gamma* and variance delta* (features,) of one centre's standardized features z (n, features), NaN for missing.

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
