"""Human readers: their operating points, and a model held to a reader's specificity.

Comparisons between models live in `roc` and `bootstrap`.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import nan

import numpy as np
from numpy.typing import ArrayLike
from statsmodels.stats.contingency_tables import mcnemar

from alneval.bootstrap import percentile_limits, resample_weights, two_sided_bootstrap_p
from alneval.inputs import as_confidence, as_labels, as_scores
from alneval.intervals import format_interval, format_p
from alneval.thresholds import OperatingPoint, operating_point, threshold_at_specificity

EXACT_BELOW = 25
"""Fewer discordant pairs than this: exact binomial McNemar; otherwise chi-squared with continuity correction."""


@dataclass(frozen=True)
class ReaderComparison:
    """A model at a reader's specificity. delta = model sensitivity - reader sensitivity.

    model_only and reader_only count positives found by one of the two; p is McNemar's (bootstrap when clustered).
    """

    reader: OperatingPoint
    model: OperatingPoint
    delta: float
    low: float
    high: float
    model_only: int
    reader_only: int
    p: float
    method: str
    n_undefined: int

    def __str__(self) -> str:
        return (
            f"sensitivity of model {self.model.sensitivity.value:.3f}, of reader {self.reader.sensitivity.value:.3f}, "
            f"at specificity {self.reader.specificity.value:.3f}: "
            f"difference {format_interval(self.delta, self.low, self.high)}, {format_p(self.p)} ({self.method})"
        )


def reader_operating_point(
    y_true: ArrayLike,
    score: ArrayLike,
    positive_from: float = 1,
    *,
    cluster: ArrayLike | None = None,
    rng: np.random.Generator | None = None,
    confidence: float = 0.95,
) -> OperatingPoint:
    """Sensitivity and specificity of one reader, with intervals.

    y_true: (n,) 0/1; score: (n,) a yes/no call as 0/1, or an ordinal category; a category of at least `positive_from`
    is a positive call (the default 1 suits 0/1; BI-RADS 4 and above would be 4). cluster and rng as
    `thresholds.operating_point`.
    """
    return operating_point(y_true, score, positive_from, cluster=cluster, rng=rng, confidence=confidence)


def reader_operating_points(y_true: ArrayLike, score: ArrayLike, *, confidence: float = 0.95) -> list[OperatingPoint]:
    """Operating points of an ordinal reader at every category but the lowest, from the lowest threshold up.

    y_true: (n,) 0/1; score: (n,) ordinal category. For the reader's AUC use `roc.delong_auc` on the categories.
    """
    return [
        operating_point(y_true, score, category, confidence=confidence)
        for category in np.unique(np.asarray(score, dtype=float))[1:]
    ]


def compare_model_with_reader(
    y_true: ArrayLike,
    model_score: ArrayLike,
    reader_score: ArrayLike,
    positive_from: float = 1,
    *,
    rng: np.random.Generator,
    n_bootstrap: int = 2000,
    cluster: ArrayLike | None = None,
    confidence: float = 0.95,
) -> ReaderComparison:
    """Sensitivity of a model at the reader's specificity, against the reader's own, on the same patients.

    y_true: (n,) 0/1; model_score: (n,); reader_score: (n,), positive from `positive_from`. The model's threshold is the
    lowest with specificity at least the reader's on these patients (its specificity can be higher, never lower). p:
    McNemar on the positives, threshold taken as given; with cluster, (n,) patient ids, a two-sided bootstrap p over
    patients. The interval of delta is the percentile interval over resamples in which reader specificity and model
    threshold are found anew. Raises ValueError if a class is missing.
    """
    positive = as_labels(y_true, both_classes=True)
    model_score = as_scores(model_score, positive.size, "model_score")
    reader_calls = as_scores(reader_score, positive.size, "reader_score") >= positive_from
    options = {"cluster": cluster, "rng": rng, "n_bootstrap": n_bootstrap, "confidence": as_confidence(confidence)}
    reader = operating_point(positive, reader_calls, 1, **options)
    threshold = threshold_at_specificity(positive, model_score, reader.specificity.value)
    model = operating_point(positive, model_score, threshold, **options)

    model_calls = model_score >= threshold
    model_only = int((model_calls & ~reader_calls & positive).sum())
    reader_only = int((~model_calls & reader_calls & positive).sum())
    deltas = np.concatenate(
        [
            _sensitivity_differences(positive, model_score, reader_calls, weights)
            for weights in resample_weights(positive.size, n_bootstrap, rng, strata=positive, cluster=cluster)
        ]
    )
    low, high = percentile_limits(deltas, confidence)
    if cluster is None:
        discordant = model_only + reader_only
        exact = discordant < EXACT_BELOW
        both_wrong_or_right = int(positive.sum()) - discordant
        table = [[both_wrong_or_right, model_only], [reader_only, 0]]
        p = float(mcnemar(table, exact=exact, correction=True).pvalue) if discordant else 1.0
        method = "McNemar, exact" if exact else "McNemar, chi-squared"
    else:
        p, method = two_sided_bootstrap_p(deltas), "bootstrap over patients"
    return ReaderComparison(
        reader,
        model,
        model.sensitivity.value - reader.sensitivity.value,
        float(low),
        float(high),
        model_only,
        reader_only,
        p,
        method,
        int(np.isnan(deltas).sum()),
    )


def _sensitivity_differences(
    positive: np.ndarray, score: np.ndarray, reader_calls: np.ndarray, weights: np.ndarray
) -> np.ndarray:
    """Model minus reader sensitivity of each row of weights (b, n), the model cut anew at the reader's specificity."""
    order = np.argsort(-score)
    ordered = score[order]
    last_of_tie = np.concatenate((ordered[1:] != ordered[:-1], [True]))
    sorted_weights = weights[:, order]
    # prefix k of the sorted scores = "the k highest are called positive"; a cut may not split equal scores
    true_counts = np.cumsum(sorted_weights * positive[order], axis=1)[:, last_of_tie]
    false_counts = np.cumsum(sorted_weights * ~positive[order], axis=1)[:, last_of_tie]
    n_positive = weights @ positive
    n_negative = weights @ ~positive
    allowed = weights @ (reader_calls & ~positive)
    reader_found = weights @ (reader_calls & positive)
    found = np.where(false_counts <= allowed[:, None], true_counts, 0.0).max(axis=1)
    defined = (n_positive > 0) & (n_negative > 0)
    return np.divide(found - reader_found, n_positive, out=np.full(n_positive.shape, nan), where=defined)
