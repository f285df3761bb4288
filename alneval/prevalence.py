"""Another prevalence than that of the data: probabilities, predictive values and net benefit moved to it.

For samples whose share of positives was chosen (cases and controls, balanced node images) and for clinics that see
others. All of it assumes that positives look like positives and negatives like negatives in either population; what a
sample without that share cannot tell is not corrected. Net benefit itself lives in `decision_curve`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import nan

import numpy as np
import pandas as pd
from scipy import stats
from scipy.special import expit, logit

from alneval.decision_curve import decision_curve
from alneval.estimate import Estimate, interval, once
from alneval.units import Units

PREVALENCE_COLUMNS = (
    "prevalence",
    *(f"{name}{end}" for name in ("ppv", "npv") for end in ("", "_low", "_high")),
    "threshold_probability",
    "net_benefit_uncorrected",
    "net_benefit",
    "gain",
)


def prior_shift(units: Units, prevalence_from: float, prevalence_to: float) -> Units:
    """Units whose probabilities are those for a population with another prevalence: log odds moved by the difference of
    its log odds.

    prevalence_from: of the patients whom the probabilities were fitted to (not of those they are judged on), in (0, 1);
    prevalence_to: of the population wanted. 0 and 1 stay; ranks, and so the AUC, stay. King & Zeng 2001, Polit Anal 9:137
    (prior correction of the intercept); Elkan 2001, IJCAI, theorem 2, is the same in probabilities.
    """
    moved = logit(units.probability) + logit(_share(prevalence_to)) - logit(_share(prevalence_from))
    return replace(units, scores=expit(moved)[:, None])


def predictive_values(
    units: Units,
    threshold: float,
    prevalence: float,
    *,
    rng: np.random.Generator | None = None,
    n_bootstrap: int = 2000,
) -> tuple[Estimate, Estimate]:
    """PPV and NPV of "score >= threshold" where a share `prevalence` is positive, by Bayes' rule; nan without such calls.

    threshold: fixed on other data. 95 % intervals on the log odds with the variances of sensitivity and specificity
    (Mercaldo, Lau & Zhou 2007, Stat Med 26:2170); where a class is called all alike its four counts get half a unit more,
    in the interval only. Where a patient has several units, percentile intervals over resampled patients, which need rng.
    Raises ValueError if a class is missing.
    """
    units.require_both_classes()
    share = _share(prevalence)

    def statistic(units: Units, weights: np.ndarray) -> np.ndarray:
        return np.column_stack(_bayes(*_counts(units, threshold, weights), share))

    if units.clustered:
        if rng is None:
            raise ValueError("intervals over patients are resampled: pass rng")
        resampled = interval(statistic, units, rng, n=n_bootstrap)
        limits = np.array([resampled.low, resampled.high]).T
    else:
        limits = _logit_limits(*(count[0] for count in _counts(units, threshold, np.ones((1, len(units))))), share)
    values = once(statistic, units)
    return tuple(
        Estimate(nan) if np.isnan(value) else Estimate(float(value), float(low), float(high))
        for value, (low, high) in zip(values, limits, strict=True)
    )


def prevalence_table(
    units: Units,
    cutoff: float,
    prevalences: Sequence[float],
    *,
    prevalence_from: float | None,
    threshold_probability: float | None,
    rng: np.random.Generator | None = None,
    n_bootstrap: int = 2000,
) -> pd.DataFrame:
    """A row per prevalence, columns PREVALENCE_COLUMNS: predictive values at a locked cut-off, and net benefit.

    cutoff: on the probabilities as they are, nan for none; net benefit is of treating from `threshold_probability` on, of
    patients weighted to the prevalence, with the probabilities as they are (uncorrected) and shifted from prevalence_from
    (of the patients whom they were fitted to; None leaves them); gain is the latter above the better of treating all and
    none. Without threshold_probability, as for scores that are no probabilities: predictive values alone.
    """
    rows = []
    for share in prevalences:
        row: dict[str, float] = dict.fromkeys(PREVALENCE_COLUMNS, nan) | {"prevalence": share}
        if np.isfinite(cutoff):
            both = predictive_values(units, cutoff, share, rng=rng, n_bootstrap=n_bootstrap)
            for name, value in zip(("ppv", "npv"), both, strict=True):
                row |= {name: value.value, f"{name}_low": value.low, f"{name}_high": value.high}
        if threshold_probability is None:
            rows.append(row)
            continue
        shifted = units if prevalence_from is None else prior_shift(units, prevalence_from, share)
        raw, moved = (
            decision_curve(each, [threshold_probability], prevalence=share).iloc[0] for each in (units, shifted)
        )
        row |= {"threshold_probability": threshold_probability, "net_benefit_uncorrected": raw["net_benefit"]}
        rows.append(row | {"net_benefit": moved["net_benefit"], "gain": moved["gain"]})
    return pd.DataFrame(rows, columns=list(PREVALENCE_COLUMNS))


def _share(prevalence: float) -> float:
    if not 0 < prevalence < 1:
        raise ValueError(f"a prevalence must lie strictly between 0 and 1, not {prevalence}")
    return float(prevalence)


def _counts(units: Units, threshold: float, weights: np.ndarray) -> np.ndarray:
    """True positives, positives, false positives and negatives (4, b)."""
    called, positive = units.score >= threshold, units.positive
    sums = np.column_stack([called & positive, positive, called & ~positive, ~positive]).astype(float)
    return (weights @ sums).T


def _bayes(
    true_positives: np.ndarray, positives: np.ndarray, false_positives: np.ndarray, negatives: np.ndarray, share: float
) -> tuple[np.ndarray, np.ndarray]:
    """Predictive values from counts; nan where nothing is called, or a class is absent."""
    with np.errstate(divide="ignore", invalid="ignore"):
        sensitivity, false_rate = true_positives / positives, false_positives / negatives
        called, spared = sensitivity * share, (1 - false_rate) * (1 - share)
        ppv = called / (called + false_rate * (1 - share))
        npv = spared / (spared + (1 - sensitivity) * share)
    return ppv, npv


def _logit_limits(
    true_positives: float, positives: float, false_positives: float, negatives: float, share: float
) -> np.ndarray:
    """Low and high of ppv, then of npv (2, 2), symmetric on the log odds."""
    all_alike = true_positives in (0, positives) or false_positives in (0, negatives)
    extra = 0.5 if all_alike else 0.0
    n_positive, n_negative = positives + 2 * extra, negatives + 2 * extra
    sensitivity, false_rate = (true_positives + extra) / n_positive, (false_positives + extra) / n_negative
    odds = share / (1 - share)
    of_ppv = np.log(sensitivity / false_rate * odds)
    error_ppv = np.sqrt((1 - sensitivity) / sensitivity / n_positive + (1 - false_rate) / false_rate / n_negative)
    of_npv = np.log((1 - false_rate) / (1 - sensitivity) / odds)
    error_npv = np.sqrt(sensitivity / (1 - sensitivity) / n_positive + false_rate / (1 - false_rate) / n_negative)
    centers, halves = np.array([of_ppv, of_npv]), stats.norm.ppf(0.975) * np.array([error_ppv, error_npv])
    return np.column_stack([expit(centers - halves), expit(centers + halves)])
