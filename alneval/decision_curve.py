"""Decision curves: net benefit of a model, of treating all and of treating none, with intervals.

Cut-offs chosen from data live in `thresholds`; figures live in `alnlib.report`.
"""

from __future__ import annotations

from math import nan

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from alneval.bootstrap import percentile_limits, resample_weights
from alneval.inputs import as_labels, as_probabilities
from alneval.score_interval import weighted_difference_interval


def net_benefit(
    y_true: ArrayLike, y_prob: ArrayLike, thresholds: ArrayLike, *, prevalence: float | None = None
) -> np.ndarray:
    """Net benefit (t,) of treating where y_prob >= threshold, in net true positives per patient.

    y_true: (n,) 0/1; y_prob: (n,); thresholds: (t,) probabilities in [0, 1). prevalence replaces the observed share of
    positives when cases and controls were sampled apart, and then needs both classes. Sensitivity x prevalence -
    (1 - specificity) x (1 - prevalence) x odds(threshold): Vickers & Elkin 2006, Med Decis Making 26:565. Raises
    ValueError on thresholds outside [0, 1).
    """
    positive, probabilities, thresholds = _checked(y_true, y_prob, thresholds)
    true_rate, false_rate = _treated_rates(positive, probabilities, thresholds, np.ones((1, positive.size)), prevalence)
    return (true_rate - false_rate * _odds(thresholds))[0]


def net_benefit_treat_all(prevalence: float, thresholds: ArrayLike) -> np.ndarray:
    """Net benefit (t,) of treating all: prevalence - (1 - prevalence) x odds(threshold). Treating none gives 0."""
    return prevalence - (1 - prevalence) * _odds(_as_thresholds(thresholds))


def decision_curve(
    y_true: ArrayLike,
    y_prob: ArrayLike,
    thresholds: ArrayLike | None = None,
    *,
    prevalence: float | None = None,
    rng: np.random.Generator | None = None,
    n_bootstrap: int = 0,
    cluster: ArrayLike | None = None,
    confidence: float = 0.95,
    interval: str = "score",
) -> pd.DataFrame:
    """Decision curve of one model: a row per threshold (default 0.01 to 0.99).

    Columns: threshold; net_benefit, treat_all, treat_none; standardized_net_benefit (divided by prevalence, at most 1;
    Kerr 2016, J Clin Oncol 34:2534); gain (model minus the better of treat-all and treat-none);
    interventions_avoided_per_100 (against treat-all; nan at threshold 0). With n_bootstrap > 0 (needs rng)
    net_benefit, treat_all, gain and interventions_avoided_per_100 get `_low` and `_high`. interval "score" is
    `weighted_difference_interval`, which covers where few are treated and percentile limits do not
    (benchmarks/coverage.csv); gain, the smaller of two differences, ends where the smaller of their limits do.
    "percentile", and always with a given prevalence (each class keeps its size, treat_all does not vary), is over
    resampled units. Both are by patient when cluster, (n,), is given.
    """
    if interval not in ("score", "percentile"):
        raise ValueError(f"interval must be 'score' or 'percentile', not {interval!r}")
    thresholds = np.arange(1, 100) / 100 if thresholds is None else thresholds
    positive, probabilities, thresholds = _checked(y_true, y_prob, thresholds)

    def strategies(weights: np.ndarray) -> dict[str, np.ndarray]:
        odds = _odds(thresholds)
        true_rate, false_rate = _treated_rates(positive, probabilities, thresholds, weights, prevalence)
        model = true_rate - false_rate * odds
        share = (weights @ positive / weights.sum(axis=1))[:, None]
        share = share if prevalence is None else np.full_like(share, prevalence)
        treat_all = share - (1 - share) * odds
        per_treatment = np.divide(100.0, odds, out=np.full(odds.shape, nan), where=odds > 0)
        return {
            "net_benefit": model,
            "treat_all": treat_all,
            "gain": model - np.maximum(treat_all, 0.0),
            "interventions_avoided_per_100": (model - treat_all) * per_treatment,
            "standardized_net_benefit": np.divide(model, share, out=np.full(model.shape, nan), where=share > 0),
        }

    observed = strategies(np.ones((1, positive.size)))
    columns = {name: values[0] for name, values in observed.items()}
    first = {"threshold": thresholds, "net_benefit": columns["net_benefit"], "treat_all": columns["treat_all"]}
    columns = first | {"treat_none": np.zeros(thresholds.size)} | columns
    if n_bootstrap > 0:
        if rng is None:
            raise ValueError("bootstrap intervals need rng")
        if interval == "score" and prevalence is None:
            limits = _score_limits(positive, probabilities, thresholds, cluster, confidence)
        else:
            strata = None if prevalence is None else positive
            drawn = resample_weights(positive.size, n_bootstrap, rng, strata=strata, cluster=cluster)
            chunks = [strategies(weights) for weights in drawn]
            limits = {
                name: percentile_limits(np.concatenate([chunk[name] for chunk in chunks]), confidence)
                for name in ("net_benefit", "treat_all", "gain", "interventions_avoided_per_100")
            }
        for name, (low, high) in limits.items():
            columns |= {f"{name}_low": low, f"{name}_high": high}
    return pd.DataFrame(columns)


def net_benefit_difference(
    y_true: ArrayLike,
    prob_a: ArrayLike,
    prob_b: ArrayLike,
    thresholds: ArrayLike,
    *,
    rng: np.random.Generator,
    n_bootstrap: int = 2000,
    prevalence: float | None = None,
    cluster: ArrayLike | None = None,
    confidence: float = 0.95,
) -> pd.DataFrame:
    """Net benefit of model a minus model b on the same patients: columns threshold, delta, delta_low, delta_high.

    Arguments as `decision_curve`; both models are read in the same resamples.
    """
    positive, prob_a, thresholds = _checked(y_true, prob_a, thresholds)
    prob_b = as_probabilities(prob_b, positive.size, "prob_b")
    strata = None if prevalence is None else positive

    def delta(weights: np.ndarray) -> np.ndarray:
        true_a, false_a = _treated_rates(positive, prob_a, thresholds, weights, prevalence)
        true_b, false_b = _treated_rates(positive, prob_b, thresholds, weights, prevalence)
        return true_a - true_b - (false_a - false_b) * _odds(thresholds)

    chunks = resample_weights(positive.size, n_bootstrap, rng, strata=strata, cluster=cluster)
    low, high = percentile_limits(np.concatenate([delta(weights) for weights in chunks]), confidence)
    observed = delta(np.ones((1, positive.size)))[0]
    return pd.DataFrame({"threshold": thresholds, "delta": observed, "delta_low": low, "delta_high": high})


def _score_limits(
    positive: np.ndarray,
    probabilities: np.ndarray,
    thresholds: np.ndarray,
    cluster: ArrayLike | None,
    confidence: float,
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Score limits, (t,) and (t,), by column of a decision curve."""
    odds = _odds(thresholds)
    some = odds > 0  # at threshold 0 all are treated, by the model too
    treated = probabilities[:, None] >= thresholds[None, :]
    case, spared = positive[:, None], ~treated[:, some]
    # the model against treat-none, and against treat-all: it gains the spared negatives and loses the spared positives
    gained = np.hstack([case, treated & case, spared & ~case])
    lost = np.hstack([np.zeros_like(case), treated & ~case, spared & case])
    weights = np.concatenate([[0.0], odds, 1 / odds[some]])
    limits = np.array(
        weighted_difference_interval(
            gained,
            lost,
            weights,
            patient=None if cluster is None else np.unique(cluster, return_inverse=True)[1],
            confidence=confidence,
        )
    )
    prevalence, model, avoided = np.split(limits, [1, 1 + odds.size], axis=1)
    per_100, against_all = np.full((2, odds.size), nan), np.zeros((2, odds.size))
    per_100[:, some] = 100 * avoided
    against_all[:, some] = avoided * odds[some]
    low, high = np.minimum(model, against_all)
    return {
        "net_benefit": (model[0], model[1]),
        "treat_all": (prevalence[0] * (1 + odds) - odds, prevalence[1] * (1 + odds) - odds),
        "gain": (low, high),
        "interventions_avoided_per_100": (per_100[0], per_100[1]),
    }


def _as_thresholds(thresholds: ArrayLike) -> np.ndarray:
    values = np.atleast_1d(np.asarray(thresholds, dtype=float))
    if values.ndim != 1 or not ((values >= 0) & (values < 1)).all():
        raise ValueError("thresholds are probabilities in [0, 1)")
    return values


def _odds(thresholds: np.ndarray) -> np.ndarray:
    return thresholds / (1 - thresholds)


def _checked(y_true: ArrayLike, y_prob: ArrayLike, thresholds: ArrayLike) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    positive = as_labels(y_true)
    return positive, as_probabilities(y_prob, positive.size), _as_thresholds(thresholds)


def _treated_rates(
    positive: np.ndarray,
    probabilities: np.ndarray,
    thresholds: np.ndarray,
    weights: np.ndarray,
    prevalence: float | None,
) -> tuple[np.ndarray, np.ndarray]:
    """Treated true and false positives per patient (b, t), for weights (b, n)."""
    treated = (probabilities[:, None] >= thresholds[None, :]).astype(float)
    true_counts = weights[:, positive] @ treated[positive]
    false_counts = weights[:, ~positive] @ treated[~positive]
    if prevalence is None:
        total = weights.sum(axis=1, keepdims=True)
        return true_counts / total, false_counts / total
    if not 0 < prevalence < 1:
        raise ValueError(f"prevalence must lie between 0 and 1, not {prevalence}")
    if positive.all() or not positive.any():
        raise ValueError("a given prevalence needs both classes, to know sensitivity and specificity")
    n_positive = weights[:, positive].sum(axis=1, keepdims=True)
    n_negative = weights[:, ~positive].sum(axis=1, keepdims=True)
    with np.errstate(invalid="ignore"):  # a resample of patients without one of the classes: nan, left out
        return prevalence * true_counts / n_positive, (1 - prevalence) * false_counts / n_negative
