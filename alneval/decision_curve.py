"""Decision curves: net benefit of a model, of treating all and of treating none, with intervals.

Of the first score of the units, a probability. Cut-offs chosen from data live in `thresholds`; figures in `figures`.
"""

from __future__ import annotations

from math import nan

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from alneval.estimate import Statistic, once
from alneval.score_interval import weighted_difference_interval
from alneval.units import Units

THRESHOLDS = np.arange(1, 100) / 100


def net_benefit(thresholds: ArrayLike, prevalence: float | None = None) -> Statistic:
    """Net benefit (b, t) of treating where the probability is at least a threshold, in net true positives per patient.

    thresholds: (t,) probabilities in [0, 1). prevalence replaces the observed share of positives when cases and controls
    were sampled apart, and then needs both classes: nan without. Sensitivity x prevalence - (1 - specificity) x
    (1 - prevalence) x odds(threshold): Vickers & Elkin 2006, Med Decis Making 26:565. Raises ValueError on thresholds
    outside [0, 1) and a prevalence outside (0, 1).
    """
    cuts, odds = np.atleast_1d(np.asarray(thresholds, dtype=float)), odds_of(thresholds)
    if prevalence is not None and not 0 < prevalence < 1:
        raise ValueError(f"prevalence must lie between 0 and 1, not {prevalence}")

    def statistic(units: Units, weights: np.ndarray) -> np.ndarray:
        positive = units.positive
        treated = (units.probability[:, None] >= cuts[None, :]).astype(float)
        true_counts, false_counts = (weights[:, members] @ treated[members] for members in (positive, ~positive))
        if prevalence is None:
            total = weights.sum(axis=1, keepdims=True)
            return true_counts / total - false_counts / total * odds
        of_class = (weights[:, members].sum(axis=1, keepdims=True) for members in (positive, ~positive))
        with np.errstate(invalid="ignore"):  # a class is missing
            n_positive, n_negative = of_class
            return prevalence * true_counts / n_positive - (1 - prevalence) * false_counts / n_negative * odds

    return statistic


def treat_all(thresholds: ArrayLike, prevalence: float | None = None) -> Statistic:
    """Net benefit (b, t) of treating all: prevalence - (1 - prevalence) x odds(threshold). Treating none gives 0."""
    odds = odds_of(thresholds)

    def statistic(units: Units, weights: np.ndarray) -> np.ndarray:
        share = (weights @ units.positive / weights.sum(axis=1))[:, None]
        share = share if prevalence is None else np.full_like(share, prevalence)
        return share - (1 - share) * odds

    return statistic


def gain(thresholds: ArrayLike, prevalence: float | None = None) -> Statistic:
    """Net benefit (b, t) of the model less that of the better of treating all and treating none."""
    model, everybody = net_benefit(thresholds, prevalence), treat_all(thresholds, prevalence)
    return lambda units, weights: model(units, weights) - np.maximum(everybody(units, weights), 0.0)


def decision_curve(
    units: Units, thresholds: ArrayLike = THRESHOLDS, *, prevalence: float | None = None, intervals: bool = False
) -> pd.DataFrame:
    """Decision curve of one model: a row per threshold.

    Columns: threshold; net_benefit, treat_all, treat_none; gain (model minus the better of treat-all and treat-none);
    interventions_avoided_per_100 (against treat-all; nan at threshold 0); standardized_net_benefit (divided by prevalence,
    at most 1; Kerr 2016, J Clin Oncol 34:2534). intervals: net_benefit, treat_all, gain and interventions_avoided_per_100
    get `_low` and `_high`, by patient, at the prevalence of the units: `weighted_difference_interval`, which covers where
    few are treated and percentile limits do not (benchmarks/coverage.csv); gain, the smaller of two differences, ends where
    the smaller of their limits do.

    >>> from alneval import example
    >>> curve = decision_curve(Units.of_rows(example().query("model == 'image'")), [0.2, 0.4])
    >>> curve[["threshold", "net_benefit", "treat_all"]].round(3).to_numpy().tolist()
    [[0.2, 0.271, 0.208], [0.4, 0.283, -0.056]]
    """
    cuts, odds = np.atleast_1d(np.asarray(thresholds, dtype=float)), odds_of(thresholds)
    model, everybody, gained = (once(of(cuts, prevalence), units) for of in (net_benefit, treat_all, gain))
    share = units.positive.mean() if prevalence is None else prevalence
    per_treatment = np.divide(100.0, odds, out=np.full(odds.shape, nan), where=odds > 0)
    columns = {"threshold": cuts, "net_benefit": model, "treat_all": everybody, "treat_none": np.zeros(cuts.size)}
    columns |= {"gain": gained, "interventions_avoided_per_100": (model - everybody) * per_treatment}
    columns["standardized_net_benefit"] = model / share if share > 0 else np.full(cuts.size, nan)
    if intervals:
        for name, (low, high) in _score_limits(units, cuts).items():
            columns |= {f"{name}_low": low, f"{name}_high": high}
    return pd.DataFrame(columns)


def odds_of(thresholds: ArrayLike) -> np.ndarray:
    """Odds (t,) of threshold probabilities. Raises ValueError on thresholds outside [0, 1)."""
    values = np.atleast_1d(np.asarray(thresholds, dtype=float))
    if not ((values >= 0) & (values < 1)).all():
        raise ValueError("thresholds are probabilities in [0, 1)")
    return values / (1 - values)


def _score_limits(units: Units, thresholds: np.ndarray) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """95 % score limits, (t,) and (t,), by column of a decision curve."""
    odds = odds_of(thresholds)
    some = odds > 0  # at threshold 0 all are treated, by the model too
    treated = units.probability[:, None] >= thresholds[None, :]
    case, spared = units.positive[:, None], ~treated[:, some]
    # the model against treat-none, and against treat-all: it gains the spared negatives and loses the spared positives
    gained = np.hstack([case, treated & case, spared & ~case])
    lost = np.hstack([np.zeros_like(case), treated & ~case, spared & case])
    weights = np.concatenate([[0.0], odds, 1 / odds[some]])
    limits = np.array(
        weighted_difference_interval(gained, lost, weights, patient=units.patient if units.clustered else None)
    )
    prevalence, model, avoided = np.split(limits, [1, 1 + odds.size], axis=1)
    per_100, against_all = np.full((2, odds.size), nan), np.zeros((2, odds.size))
    per_100[:, some] = 100 * avoided
    against_all[:, some] = avoided * odds[some]
    return {
        "net_benefit": tuple(model),
        "treat_all": tuple(prevalence * (1 + odds) - odds),
        "gain": tuple(np.minimum(model, against_all)),
        "interventions_avoided_per_100": tuple(per_100),
    }
