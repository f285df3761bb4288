"""Another prevalence than that of the data: probabilities, predictive values and net benefit moved to it.

For samples whose share of positives was chosen (cases and controls, balanced node images) and for clinics that see
others. All of it assumes that positives look like positives and negatives like negatives in either population; what a
sample without that share cannot tell is not corrected. Net benefit itself lives in `decision_curve`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import nan

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy import stats
from scipy.special import expit, logit

from alneval.bootstrap import percentile_limits, resample_weights
from alneval.decision_curve import decision_curve
from alneval.inputs import as_confidence, as_labels, as_probabilities, as_scores
from alneval.intervals import format_interval


@dataclass(frozen=True)
class PredictiveValues:
    """ppv and npv at `prevalence`, with intervals; nan where nobody would be called positive, or negative."""

    prevalence: float
    ppv: float
    ppv_low: float
    ppv_high: float
    npv: float
    npv_low: float
    npv_high: float

    def __str__(self) -> str:
        ppv = format_interval(self.ppv, self.ppv_low, self.ppv_high)
        return f"ppv {ppv}, npv {format_interval(self.npv, self.npv_low, self.npv_high)} at {self.prevalence:.0%}"


def prior_shift(y_prob: ArrayLike, prevalence_from: float, prevalence_to: float) -> np.ndarray:
    """Probabilities (n,) for a population with another prevalence: log odds moved by the difference of its log odds.

    y_prob: (n,) in [0, 1]; prevalence_from: of the patients whom the probabilities were fitted to (not of those they
    are judged on), in (0, 1); prevalence_to: of the population wanted. 0 and 1 stay; ranks, and so the AUC, stay. King
    & Zeng 2001, Polit Anal 9:137 (prior correction of the intercept); Elkan 2001, IJCAI, theorem 2, is the same in
    probabilities.
    """
    values = np.asarray(y_prob, dtype=float)
    values = as_probabilities(values, values.size)
    return expit(logit(values) + logit(_share(prevalence_to)) - logit(_share(prevalence_from)))


def class_weights(y_true: ArrayLike, prevalence: float) -> np.ndarray:
    """Weights (n,), of mean 1, under which a share `prevalence` of the weight is positive. ValueError if a class is missing.

    For any weighted statistic at a target prevalence, such as `bootstrap.weighted_auc` or a weighted mean of squared
    errors; King & Zeng 2001 (weighting).
    """
    positive = as_labels(y_true, both_classes=True)
    share, observed = _share(prevalence), positive.mean()
    return np.where(positive, share / observed, (1 - share) / (1 - observed))


def predictive_values(
    y_true: ArrayLike,
    score: ArrayLike,
    threshold: float,
    prevalence: float,
    *,
    cluster: ArrayLike | None = None,
    rng: np.random.Generator | None = None,
    n_bootstrap: int = 2000,
    confidence: float = 0.95,
) -> PredictiveValues:
    """Predictive values of "score >= threshold" where a share `prevalence` is positive, by Bayes' rule.

    y_true: (n,) 0/1; score: (n,); threshold fixed on other data. Intervals on the log odds with the variances of
    sensitivity and specificity (Mercaldo, Lau & Zhou 2007, Stat Med 26:2170); where a class is called all alike its
    four counts get half a unit more, in the interval only. With cluster, (n,) patient ids, percentile intervals over
    resampled patients, which need rng. Raises ValueError if a class is missing.
    """
    positive = as_labels(y_true, both_classes=True)
    called = as_scores(score, positive.size) >= threshold
    share, confidence = _share(prevalence), as_confidence(confidence)
    counts = np.array([(called & positive).sum(), positive.sum(), (called & ~positive).sum(), (~positive).sum()], float)
    ppv, npv = (float(value) for value in _bayes(*counts, share))
    if cluster is not None:
        if rng is None:
            raise ValueError("intervals over patients are resampled: pass rng")
        sums = np.column_stack([called & positive, positive, called & ~positive, ~positive]).astype(float)
        drawn = resample_weights(positive.size, n_bootstrap, rng, strata=positive, cluster=cluster)
        resampled = np.concatenate([weights @ sums for weights in drawn])
        low, high = percentile_limits(np.column_stack(_bayes(*resampled.T, share)), confidence)
        limits = [float(low[0]), float(high[0]), float(low[1]), float(high[1])]
    else:
        limits = _logit_limits(*counts, share, confidence)
    if np.isnan(ppv):
        limits[:2] = [nan, nan]
    if np.isnan(npv):
        limits[2:] = [nan, nan]
    return PredictiveValues(share, ppv, limits[0], limits[1], npv, limits[2], limits[3])


def decision_curve_at_prevalence(
    y_true: ArrayLike,
    y_prob: ArrayLike,
    prevalence_to: float,
    *,
    prevalence_from: float | None = None,
    thresholds: ArrayLike | None = None,
    rng: np.random.Generator | None = None,
    n_bootstrap: int = 0,
    cluster: ArrayLike | None = None,
    confidence: float = 0.95,
) -> pd.DataFrame:
    """`decision_curve` in a population with another prevalence: patients weighted to it, probabilities shifted to it.

    prevalence_from: of the patients whom the probabilities were fitted to; None leaves the probabilities as they are,
    which shows what the model does there uncorrected. Other arguments and columns as `decision_curve`.
    """
    values = np.asarray(y_prob, dtype=float)
    moved = values if prevalence_from is None else prior_shift(values, prevalence_from, prevalence_to)
    return decision_curve(
        y_true,
        moved,
        thresholds,
        prevalence=_share(prevalence_to),
        rng=rng,
        n_bootstrap=n_bootstrap,
        cluster=cluster,
        confidence=confidence,
    )


PREVALENCE_COLUMNS = (
    "prevalence",
    *(f"{name}{end}" for name in ("ppv", "npv") for end in ("", "_low", "_high")),
    "threshold_probability",
    "net_benefit_uncorrected",
    "net_benefit",
    "gain",
)


def prevalence_table(
    y_true: ArrayLike,
    y_prob: ArrayLike,
    cutoff: float,
    prevalences: Sequence[float],
    *,
    prevalence_from: float | None,
    threshold_probability: float,
    cluster: ArrayLike | None = None,
    rng: np.random.Generator | None = None,
    n_bootstrap: int = 2000,
) -> pd.DataFrame:
    """A row per prevalence, columns PREVALENCE_COLUMNS: predictive values at a locked cut-off, and net benefit.

    cutoff: on y_prob as it is, nan for none; net benefit is of treating from `threshold_probability` on, with y_prob as
    it is (uncorrected) and shifted from prevalence_from; gain is the latter above the better of treating all and none.
    """
    rows = []
    for share in prevalences:
        row: dict[str, float] = dict.fromkeys(PREVALENCE_COLUMNS, nan) | {"prevalence": share}
        if np.isfinite(cutoff):
            found = predictive_values(y_true, y_prob, cutoff, share, cluster=cluster, rng=rng, n_bootstrap=n_bootstrap)
            row |= vars(found)
        raw = decision_curve_at_prevalence(y_true, y_prob, share, thresholds=[threshold_probability]).iloc[0]
        moved = decision_curve_at_prevalence(
            y_true, y_prob, share, prevalence_from=prevalence_from, thresholds=[threshold_probability]
        ).iloc[0]
        row |= {"threshold_probability": threshold_probability, "net_benefit_uncorrected": raw["net_benefit"]}
        rows.append(row | {"net_benefit": moved["net_benefit"], "gain": moved["gain"]})
    return pd.DataFrame(rows, columns=list(PREVALENCE_COLUMNS))


def _share(prevalence: float) -> float:
    if not 0 < prevalence < 1:
        raise ValueError(f"a prevalence must lie strictly between 0 and 1, not {prevalence}")
    return float(prevalence)


def _bayes(
    true_positives: ArrayLike, positives: ArrayLike, false_positives: ArrayLike, negatives: ArrayLike, share: float
) -> tuple[np.ndarray, np.ndarray]:
    """Predictive values from counts; nan where nothing is called, or a class is absent."""
    with np.errstate(divide="ignore", invalid="ignore"):
        sensitivity, false_rate = np.divide(true_positives, positives), np.divide(false_positives, negatives)
        called, spared = sensitivity * share, (1 - false_rate) * (1 - share)
        ppv = called / (called + false_rate * (1 - share))
        npv = spared / (spared + (1 - sensitivity) * share)
    return ppv, npv


def _logit_limits(
    true_positives: float, positives: float, false_positives: float, negatives: float, share: float, confidence: float
) -> list[float]:
    """Low and high of ppv, then of npv, symmetric on the log odds."""
    all_alike = true_positives in (0, positives) or false_positives in (0, negatives)
    extra = 0.5 if all_alike else 0.0
    n_positive, n_negative = positives + 2 * extra, negatives + 2 * extra
    sensitivity, false_rate = (true_positives + extra) / n_positive, (false_positives + extra) / n_negative
    odds = share / (1 - share)
    quantile = stats.norm.ppf(0.5 + confidence / 2)
    of_ppv = np.log(sensitivity / false_rate * odds)
    error_ppv = np.sqrt((1 - sensitivity) / sensitivity / n_positive + (1 - false_rate) / false_rate / n_negative)
    of_npv = np.log((1 - false_rate) / (1 - sensitivity) / odds)
    error_npv = np.sqrt(sensitivity / (1 - sensitivity) / n_positive + false_rate / (1 - false_rate) / n_negative)
    centers, halves = np.array([of_ppv, of_npv]), quantile * np.array([error_ppv, error_npv])
    low, high = expit(centers - halves), expit(centers + halves)
    return [float(low[0]), float(high[0]), float(low[1]), float(high[1])]
