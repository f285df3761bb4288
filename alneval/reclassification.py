"""Net reclassification improvement (NRI) and integrated discrimination improvement (IDI) of a new over an old model.

Both are reported because readers ask for them; neither should decide. They can be positive for a useless marker when a
model is miscalibrated or fitted on the data that judge it: Pepe et al. 2014 (Stat Biosci 7:282), Hilden & Gerds 2014
(Stat Med 33:3405), Kerr et al. 2014 (Epidemiology 25:114). Look at the difference in AUC (`roc.delong_test`), at
calibration and at net benefit (`decision_curve`) first.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import copysign, inf, isnan, nan, sqrt

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy import stats

from alneval.bootstrap import resample_weights, summarize_resamples
from alneval.inputs import as_cluster_codes, as_confidence, as_labels, as_probabilities
from alneval.intervals import format_interval, format_p


@dataclass(frozen=True)
class ReclassificationEstimate:
    """One part of an NRI or IDI. standard_error is nan where a closed form would ignore clusters or lacks patients."""

    value: float
    low: float
    high: float
    standard_error: float

    def __str__(self) -> str:
        return format_interval(self.value, self.low, self.high)


@dataclass(frozen=True)
class NetReclassification:
    """NRI = events + non_events, each in [-1, 1]: the share moved the right way less the share moved the wrong way.

    The four counts are units whose category (category-free: probability) went up or down. statistic and p test NRI = 0
    (Pencina 2008) and are nan with clusters. interval names how low and high were made.
    """

    nri: ReclassificationEstimate
    events: ReclassificationEstimate
    non_events: ReclassificationEstimate
    n_events: int
    n_non_events: int
    events_up: int
    events_down: int
    non_events_up: int
    non_events_down: int
    statistic: float
    p: float
    cutoffs: tuple[float, ...] | None
    interval: str
    n_undefined: int = 0

    def __str__(self) -> str:
        kind = "category-free NRI" if self.cutoffs is None else "NRI"
        return (
            f"{kind} {self.nri}, {format_p(self.p)} (events {self.events}, non-events {self.non_events}); "
            "can be positive for a useless marker"
        )


@dataclass(frozen=True)
class IntegratedDiscrimination:
    """IDI = events + non_events: mean rise of the probability in events plus its mean fall in non-events.

    statistic and p test IDI = 0 (Pencina 2008) and are nan with clusters. interval names how low and high were made.
    """

    idi: ReclassificationEstimate
    events: ReclassificationEstimate
    non_events: ReclassificationEstimate
    n_events: int
    n_non_events: int
    statistic: float
    p: float
    interval: str
    n_undefined: int = 0

    def __str__(self) -> str:
        return (
            f"IDI {self.idi}, {format_p(self.p)} (events {self.events}, non-events {self.non_events}); "
            "can be positive for a useless marker"
        )


def net_reclassification_improvement(
    y_true: ArrayLike,
    prob_old: ArrayLike,
    prob_new: ArrayLike,
    *,
    cutoffs: ArrayLike | None = None,
    rng: np.random.Generator | None = None,
    n_bootstrap: int = 2000,
    stratified: bool = True,
    cluster: ArrayLike | None = None,
    confidence: float = 0.95,
) -> NetReclassification:
    """NRI of prob_new over prob_old on the same units, with its event and non-event parts.

    y_true: (n,) 0/1; prob_old, prob_new: (n,) in [0, 1]. cutoffs: increasing probabilities inside (0, 1) that part the
    risk categories (a probability at a cut-off belongs to the higher one); without cutoffs the category-free NRI, in
    which any change counts, however small: its size says little, and 0.6 is not "60 %" of anything.
    Intervals: Wald without `rng`, with variance [(up + down) - (up - down)^2] / n of each part (Pencina et al. 2011,
    Stat Med 30:11); with `rng` percentile over resampled units, or patients when cluster, (n,) ids, is given. p: z with
    the variance under no change, (up + down) / n of each part (Pencina et al. 2008, Stat Med 27:157).
    R `Hmisc::improveProb` gives the category-free value and standard errors.
    Known weaknesses, see the module: positive for useless markers under miscalibration or on the training data; the
    total weighs parts as if half the patients had events, so always report both; its p is not a substitute for
    `roc.delong_test`, and for nested models it is not valid. Raises ValueError if a class is missing, for cutoffs that
    are not increasing inside (0, 1), or for cluster without rng.
    """
    positive, old, new = _inputs(y_true, prob_old, prob_new)
    limits = _cutoffs(cutoffs)
    change = np.sign(new - old) if limits is None else np.sign(np.digitize(new, limits) - np.digitize(old, limits))
    counts = [np.count_nonzero(change[members] == way) for members in (positive, ~positive) for way in (1, -1)]
    events_up, events_down, non_events_up, non_events_down = (int(count) for count in counts)
    n_events = int(positive.sum())
    n_non_events = positive.size - n_events
    variances = (
        _share_variance(events_up, events_down, n_events),
        _share_variance(non_events_up, non_events_down, n_non_events),
    )
    under_null = (events_up + events_down) / n_events**2 + (non_events_up + non_events_down) / n_non_events**2
    parts, interval, n_undefined = _parts(
        positive, change, variances, rng, n_bootstrap, stratified, cluster, confidence
    )
    statistic, p = _test(parts[0].value, sqrt(under_null)) if cluster is None else (nan, nan)
    return NetReclassification(
        *parts,
        n_events=n_events,
        n_non_events=n_non_events,
        events_up=events_up,
        events_down=events_down,
        non_events_up=non_events_up,
        non_events_down=non_events_down,
        statistic=statistic,
        p=p,
        cutoffs=None if limits is None else tuple(float(limit) for limit in limits),
        interval=interval,
        n_undefined=n_undefined,
    )


def integrated_discrimination_improvement(
    y_true: ArrayLike,
    prob_old: ArrayLike,
    prob_new: ArrayLike,
    *,
    rng: np.random.Generator | None = None,
    n_bootstrap: int = 2000,
    stratified: bool = True,
    cluster: ArrayLike | None = None,
    confidence: float = 0.95,
) -> IntegratedDiscrimination:
    """IDI of prob_new over prob_old on the same units: change in mean probability of events less that of non-events.

    y_true: (n,) 0/1; prob_old, prob_new: (n,) in [0, 1]. It equals the difference of the discrimination slopes.
    Intervals: Wald without `rng`, from the variances of the paired changes in either class (Pencina et al. 2008, Stat
    Med 27:157; R `Hmisc::improveProb`); with `rng` percentile over resampled units, or patients when
    cluster, (n,) ids, is given.
    Known weaknesses, see the module: more extreme probabilities raise it without ranking anybody better, so a
    miscalibrated model can win; for nested models the z test is not valid (Kerr et al. 2011, Am J Epidemiol 174:364).
    Raises ValueError if a class is missing or for cluster without rng.
    """
    positive, old, new = _inputs(y_true, prob_old, prob_new)
    change = new - old
    variances = tuple(
        float(change[members].var(ddof=1)) / members.sum() if members.sum() > 1 else nan
        for members in (positive, ~positive)
    )
    parts, interval, n_undefined = _parts(
        positive, change, variances, rng, n_bootstrap, stratified, cluster, confidence
    )
    statistic, p = _test(parts[0].value, sqrt(sum(variances))) if cluster is None else (nan, nan)
    n_events = int(positive.sum())
    return IntegratedDiscrimination(
        *parts,
        n_events=n_events,
        n_non_events=positive.size - n_events,
        statistic=statistic,
        p=p,
        interval=interval,
        n_undefined=n_undefined,
    )


def reclassification_table(
    y_true: ArrayLike, prob_old: ArrayLike, prob_new: ArrayLike, cutoffs: ArrayLike
) -> pd.DataFrame:
    """Number of units by outcome, category under the old model and category under the new one.

    Arguments as `net_reclassification_improvement`. Rows: outcome ("event", "non-event") and old category; columns: new
    category; every category is shown, also empty ones. A table like this is what an NRI should never travel without.
    """
    positive, old, new = _inputs(y_true, prob_old, prob_new)
    limits = _cutoffs(cutoffs)
    if limits is None:
        raise ValueError("a reclassification table needs cutoffs")
    edges = [0.0, *limits, 1.0]
    names = [f"{low:g} to {high:g}" for low, high in zip(edges[:-1], edges[1:], strict=True)]
    counts = np.zeros((2, len(names), len(names)), dtype=int)
    np.add.at(counts, ((~positive).astype(int), np.digitize(old, limits), np.digitize(new, limits)), 1)
    rows = pd.MultiIndex.from_product([["event", "non-event"], names], names=["outcome", "old"])
    return pd.DataFrame(counts.reshape(-1, len(names)), index=rows, columns=pd.Index(names, name="new"))


def _inputs(y_true: ArrayLike, prob_old: ArrayLike, prob_new: ArrayLike) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    positive = as_labels(y_true, both_classes=True)
    old = as_probabilities(prob_old, positive.size, "prob_old")
    return positive, old, as_probabilities(prob_new, positive.size, "prob_new")


def _cutoffs(cutoffs: ArrayLike | None) -> np.ndarray | None:
    if cutoffs is None:
        return None
    limits = np.atleast_1d(np.asarray(cutoffs, dtype=float))
    inside = limits.ndim == 1 and limits.size > 0 and ((limits > 0) & (limits < 1)).all()
    if not inside or not (np.diff(limits) > 0).all():
        raise ValueError(f"cutoffs must be increasing probabilities strictly between 0 and 1, not {cutoffs}")
    return limits


def _share_variance(up: int, down: int, n: int) -> float:
    """Variance of (up - down) / n for three-way counts, on n."""
    return (up + down) / n**2 - (up - down) ** 2 / n**3


def _parts(
    positive: np.ndarray,
    change: np.ndarray,
    variances: tuple[float, ...],
    rng: np.random.Generator | None,
    n_bootstrap: int,
    stratified: bool,
    cluster: ArrayLike | None,
    confidence: float,
) -> tuple[list[ReclassificationEstimate], str, int]:
    """Total, event and non-event part of the mean change (n,), how the intervals were made, resamples left out."""
    confidence = as_confidence(confidence)
    values = [float(change[positive].mean()), -float(change[~positive].mean())]
    values = [sum(values), *values]
    errors = [sqrt(variance) if variance >= 0 else nan for variance in (sum(variances), *variances)]
    if cluster is not None:
        as_cluster_codes(cluster, positive.size)
        if rng is None:
            raise ValueError("intervals over patients are resampled: pass rng")
        errors = [nan] * 3
    if rng is None:
        half = stats.norm.ppf(0.5 + confidence / 2)
        estimates = [
            ReclassificationEstimate(value, value - half * error, value + half * error, error)
            for value, error in zip(values, errors, strict=True)
        ]
        return estimates, "Wald", 0
    sums = np.column_stack([change * positive, positive, change * ~positive, ~positive]).astype(float)
    strata = positive if stratified else None
    totals = np.concatenate(
        [
            weights @ sums
            for weights in resample_weights(positive.size, n_bootstrap, rng, strata=strata, cluster=cluster)
        ]
    )
    with np.errstate(divide="ignore", invalid="ignore"):  # resamples with one class: not finite, left out and counted
        of_events, of_non_events = totals[:, 0] / totals[:, 1], -totals[:, 2] / totals[:, 3]
    summaries = [
        summarize_resamples(value, resampled, confidence=confidence)
        for value, resampled in zip(values, (of_events + of_non_events, of_events, of_non_events), strict=True)
    ]
    estimates = [
        ReclassificationEstimate(value, summary.low, summary.high, error)
        for value, summary, error in zip(values, summaries, errors, strict=True)
    ]
    name = "bootstrap" if cluster is None else "bootstrap, clustered by patient"
    return estimates, name, summaries[0].n_undefined


def _test(value: float, standard_error: float) -> tuple[float, float]:
    """z and two-sided p of value = 0."""
    if isnan(standard_error):
        return nan, nan
    if standard_error == 0:
        return (0.0, 1.0) if value == 0 else (copysign(inf, value), 0.0)
    statistic = value / standard_error
    return statistic, float(2 * stats.norm.sf(abs(statistic)))
