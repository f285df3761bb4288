"""Many features of one source as one column, its signature: the logit of a linear head fitted to the same patients.

What a signature is made of comes from `alnlib.radiomics` and `frozen`; what reads it is in `learners` and `clinical`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.impute import SimpleImputer
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted

from alneval.folds import patient_level_folds
from alnlib.models.frozen import LinearHead


class Signatures(TransformerMixin, BaseEstimator):
    """Frame in, frame out: the columns of each source become one, the logit of a ridge logistic regression on them, less its
    intercept, which says how many of the patients fitted on are positive and nothing of the patient.

    sources: {name of the new column: regular expression that its columns match from their start}; other columns pass as they
    are, before the signatures. strength: of a source of p columns, C is strength / p, so that it does not depend on how many
    there are. X: (n, features) frame without missing values, its index the patients, who may have several rows; y: (n,) 0/1.
    `fit_transform` gives the patients fitted on out-of-fold signatures, by heads that never saw them, as in stacking: what
    learns from signatures of patients whom the head knows would trust it too much. `transform` takes the head of all of them.

    Fitted: `heads_` {source: LinearHead}, `columns_` {source: names}. Raises ValueError for a source without columns.
    """

    def __init__(self, sources: Mapping[str, str], strength: float = 2.0, n_folds: int = 5, seed: int = 0) -> None:
        self.sources = sources
        self.strength = strength
        self.n_folds = n_folds
        self.seed = seed

    def fit(self, X: pd.DataFrame, y: np.ndarray) -> Signatures:
        """Heads of all the rows given."""
        self.feature_names_in_ = X.columns.to_numpy(dtype=object)
        self.n_features_in_ = X.shape[1]
        self.columns_ = {name: X.columns[X.columns.str.match(pattern)] for name, pattern in self.sources.items()}
        empty = [name for name, columns in self.columns_.items() if columns.empty]
        if empty:
            raise ValueError(f"no column matches the source {empty[0]} ({self.sources[empty[0]]})")
        self.heads_ = self._heads(X, np.asarray(y))
        return self

    def fit_transform(self, X: pd.DataFrame, y: np.ndarray) -> pd.DataFrame:
        """As `transform`, but signatures of these rows come from heads fitted without their patients."""
        self.fit(X, y)
        labels, patients = np.asarray(y).astype(int), np.asarray(X.index).astype(str)
        positive = pd.Series(labels).groupby(patients).max()
        n_folds = min(self.n_folds, *np.bincount(positive, minlength=2))
        fold = patient_level_folds(labels, patients, n_folds, np.random.default_rng(self.seed))
        logits = np.empty((len(X), len(self.heads_)))
        for k in range(n_folds):
            heads = self._heads(X.loc[fold != k], labels[fold != k])
            logits[fold == k] = self._logits(heads, X.loc[fold == k])
        return self._frame(X, logits)

    def transform(self, X: pd.DataFrame) -> pd.DataFrame:
        """(n, other columns + sources), the index of X."""
        check_is_fitted(self, "heads_")
        return self._frame(X, self._logits(self.heads_, X))

    def get_feature_names_out(self, input_features: object = None) -> np.ndarray:
        """Names of the other columns, then of the sources."""
        return np.array([*self._others, *self.sources], dtype=object)

    def set_output(self, *, transform: str | None = None) -> Signatures:
        """It gives frames, whatever is asked for."""
        return self

    @property
    def _others(self) -> list[str]:
        taken = set().union(*self.columns_.values())
        return [name for name in self.feature_names_in_ if name not in taken]

    def _heads(self, X: pd.DataFrame, labels: np.ndarray) -> dict[str, LinearHead]:
        strengths = {name: (self.strength / len(columns),) for name, columns in self.columns_.items()}
        return {
            name: LinearHead(strengths=strengths[name]).fit(X[columns], labels)
            for name, columns in self.columns_.items()
        }

    def _logits(self, heads: Mapping[str, LinearHead], X: pd.DataFrame) -> np.ndarray:
        parts = [head.decision_function(X[self.columns_[name]]) - head.intercept_ for name, head in heads.items()]
        return np.column_stack(parts)

    def _frame(self, X: pd.DataFrame, logits: np.ndarray) -> pd.DataFrame:
        values = np.column_stack([X[self._others].to_numpy(dtype=np.float64), logits])
        return pd.DataFrame(values, index=X.index, columns=self.get_feature_names_out())


def signature_pipeline(sources: Mapping[str, str], seed: int, before: Sequence[tuple[str, object]] = ()) -> Pipeline:
    """Medians for what is missing, then the signatures of `sources`; before: steps that go first, as of `selection_pipeline`."""
    fill = SimpleImputer(strategy="median").set_output(transform="pandas")
    return Pipeline([*before, ("impute", fill), ("signatures", Signatures(sources, seed=seed))])
