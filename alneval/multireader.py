"""Several readers on the same cases: modalities compared over readers, and one model against the mean of its readers.

Obuchowski and Rockette's analysis of AUCs with DeLong's covariances. A single reader's operating point lives in
`readers`; two models, which have no readers, in `roc`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from math import copysign, inf, nan, sqrt

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy import stats

from alneval.inputs import as_confidence, as_labels
from alneval.intervals import format_interval, format_p
from alneval.roc import clustered_delong_covariance, delong_covariance

READERS = ("random", "fixed")
"""random: the result is about readers like these; fixed: about these readers only. Cases are random in either."""


@dataclass(frozen=True)
class ReaderComponents:
    """Mean squares of the AUCs (m modalities, r readers) and their mean covariances from the cases.

    variance: of one AUC; cov1: one reader, two modalities; cov2: two readers, one modality; cov3: two readers, two
    modalities. What needs a second modality or a second reader is nan without one.
    """

    ms_modality: float
    ms_reader: float
    ms_interaction: float
    variance: float
    cov1: float
    cov2: float
    cov3: float


@dataclass(frozen=True)
class ModalityComparison:
    """Modalities read by the same readers on the same cases.

    means: a row per modality: modality, auc (mean over readers), low, high, standard_error, degrees_of_freedom.
    differences: a row per pair: modality_a, modality_b, delta, low, high, standard_error, statistic (t, or z with fixed
    readers), degrees_of_freedom, p. statistic, degrees (numerator, denominator) and p test "all modalities alike": F
    with random readers, chi-squared (denominator inf) with fixed ones.
    """

    readers: str
    n_readers: int
    components: ReaderComponents
    means: pd.DataFrame
    differences: pd.DataFrame
    statistic: float
    degrees: tuple[float, float]
    p: float

    def __str__(self) -> str:
        name = "F" if self.readers == "random" else "chi-squared"
        return f"{name} = {self.statistic:.2f}, {format_p(self.p)}; {self.n_readers} readers, {self.readers}"


@dataclass(frozen=True)
class ModelAgainstReaders:
    """A model's AUC less the mean AUC of readers of the same cases; reader_aucs in the order of the columns given."""

    model_auc: float
    readers_auc: float
    reader_aucs: tuple[float, ...]
    delta: float
    low: float
    high: float
    standard_error: float
    statistic: float
    degrees_of_freedom: float
    p: float
    readers: str
    n: int
    n_positive: int

    def __str__(self) -> str:
        interval = format_interval(self.delta, self.low, self.high)
        return f"model minus {len(self.reader_aucs)} {self.readers} readers: {interval}, {format_p(self.p)}"


def reader_covariance(
    y_true: ArrayLike, scores: ArrayLike, *, cluster: ArrayLike | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """AUCs (m, r) of m modalities and r readers on the same cases, and their covariance (m r, m r), modality by modality.

    y_true: (n,) 0/1; scores: (n, m, r), or (n, r) for one modality, any monotone scale; cluster: (n,) patient ids where
    a patient has several units. DeLong's covariance, Obuchowski's (1997) with clusters. Raises ValueError for a missing
    class or a missing score: the analysis is for readers who read every case in every modality.
    """
    values = np.asarray(scores, dtype=float)
    values = values[:, None, :] if values.ndim == 2 else values
    if values.ndim != 3:
        raise ValueError(f"scores must be (n, m, r) or (n, r), not shape {values.shape}")
    columns = values.reshape(len(values), -1)
    if cluster is None:
        aucs, covariance = delong_covariance(y_true, columns)
    else:
        aucs, covariance = clustered_delong_covariance(y_true, columns, cluster)
    return aucs.reshape(values.shape[1:]), covariance


def reader_components(aucs: ArrayLike, covariance: ArrayLike) -> ReaderComponents:
    """Mean squares and mean covariances of the Obuchowski-Rockette model.

    aucs: (m, r) of m modalities and r readers; covariance: (m r, m r) in the order of aucs.ravel(). Obuchowski &
    Rockette 1995, Commun Stat Simul Comput 24:285; Hillis 2014, Stat Med 33:330.
    """
    aucs, blocks = _checked(aucs, covariance)
    m, r = aucs.shape
    of_modality, of_reader = aucs.mean(axis=1), aucs.mean(axis=0)
    rest = aucs - of_modality[:, None] - of_reader[None, :] + aucs.mean()
    same_modality, same_reader = np.eye(m, dtype=bool)[:, None, :, None], np.eye(r, dtype=bool)[None, :, None, :]
    return ReaderComponents(
        ms_modality=r * float(of_modality.var(ddof=1)) if m > 1 else nan,
        ms_reader=m * float(of_reader.var(ddof=1)) if r > 1 else nan,
        ms_interaction=float((rest**2).sum()) / ((m - 1) * (r - 1)) if m > 1 and r > 1 else nan,
        variance=_mean_where(blocks, same_modality & same_reader),
        cov1=_mean_where(blocks, ~same_modality & same_reader),
        cov2=_mean_where(blocks, same_modality & ~same_reader),
        cov3=_mean_where(blocks, ~same_modality & ~same_reader),
    )


def obuchowski_rockette(
    aucs: ArrayLike,
    covariance: ArrayLike,
    *,
    readers: str = "random",
    names: Sequence[str] | None = None,
    confidence: float = 0.95,
) -> ModalityComparison:
    """Compare modalities from the readers' AUCs (m, r) and their covariance (m r, m r) in the order of aucs.ravel().

    readers "random" (two or more): F = MS(modality) / [MS(interaction) + r max(cov2 - cov3, 0)] with m - 1 and Hillis'
    degrees of freedom, the square of that denominator over MS(interaction)^2 / ((m - 1)(r - 1)): Hillis 2007, Stat Med
    26:596. Means of a modality from its own readers: Hillis et al. 2005, Stat Med 24:1579. "fixed": chi-squared with
    denominator variance - cov1 + (r - 1) max(cov2 - cov3, 0), normal intervals; one reader and two modalities are then
    DeLong's test. names: of the modalities. With jackknife covariances this is Dorfman-Berbaum-Metz. Raises ValueError
    for one modality, one random reader, or shapes that do not fit.
    """
    aucs, blocks = _checked(aucs, covariance)
    m, r = aucs.shape
    confidence = as_confidence(confidence)
    _check_readers(readers, r)
    if m < 2:
        raise ValueError("a comparison needs two or more modalities")
    names = [f"modality {i + 1}" for i in range(m)] if names is None else list(names)
    parts = reader_components(aucs, covariance)
    beyond_own = max(parts.cov2 - parts.cov3, 0.0) if r > 1 else 0.0
    if readers == "random":
        error = parts.ms_interaction + r * beyond_own
        degrees = _hillis_degrees(error, parts.ms_interaction, (m - 1) * (r - 1))
        statistic = _ratio(parts.ms_modality, error)
        p = float(stats.f.sf(statistic, m - 1, degrees)) if degrees < inf else _chi_squared_p(statistic, m - 1)
    else:
        error, degrees = parts.variance - parts.cov1 + (r - 1) * beyond_own, inf
        statistic = _ratio((m - 1) * parts.ms_modality, error)
        p = float(stats.chi2.sf(statistic, m - 1))
    rows = [
        {"modality_a": names[a], "modality_b": names[b]}
        | _contrast(float(aucs[a].mean() - aucs[b].mean()), 2 * error / r, degrees, confidence)
        for a, b in combinations(range(m), 2)
    ]
    means = []
    for index, name in enumerate(names):
        mean, variance, own = _mean_of_readers(aucs[index], blocks[index, :, index, :], readers)
        estimate = _contrast(mean, variance, own, confidence)
        kept = ("low", "high", "standard_error", "degrees_of_freedom")
        means.append({"modality": name, "auc": mean} | {key: estimate[key] for key in kept})
    return ModalityComparison(
        readers, r, parts, pd.DataFrame(means), pd.DataFrame(rows), statistic, (float(m - 1), degrees), p
    )


def compare_modalities(
    y_true: ArrayLike,
    scores: ArrayLike,
    *,
    readers: str = "random",
    names: Sequence[str] | None = None,
    cluster: ArrayLike | None = None,
    confidence: float = 0.95,
) -> ModalityComparison:
    """`obuchowski_rockette` of scores (n, m, r): m modalities, such as without and with a model, and r readers.

    y_true, cluster: as `reader_covariance`; readers, names: as `obuchowski_rockette`.
    """
    aucs, covariance = reader_covariance(y_true, scores, cluster=cluster)
    return obuchowski_rockette(aucs, covariance, readers=readers, names=names, confidence=confidence)


def compare_model_with_readers(
    y_true: ArrayLike,
    model_score: ArrayLike,
    reader_scores: ArrayLike,
    *,
    readers: str = "random",
    cluster: ArrayLike | None = None,
    confidence: float = 0.95,
) -> ModelAgainstReaders:
    """A stand-alone model against the mean of readers who read the same cases.

    y_true: (n,) 0/1; model_score: (n,); reader_scores: (n, r), any monotone scales; cluster: (n,) patient ids. The r
    differences model minus reader are one modality of the Obuchowski-Rockette model: their mean has variance
    [MS(reader) + r max(cov2, 0)] / r with random readers and Hillis' degrees of freedom (Hillis et al. 2005, Stat Med
    24:1579, equation 23; R `RJafroc::StSignificanceTestingCadVsRad(method = "1T-RRRC")`), and exactly their mean
    covariance with fixed ones, where one reader gives DeLong's test. With few readers the random interval says more
    about the number of readers than about the model. Raises ValueError for one random reader, a missing class or score.
    """
    confidence = as_confidence(confidence)
    positive = as_labels(y_true, both_classes=True)
    columns = np.asarray(reader_scores, dtype=float)
    columns = columns[:, None] if columns.ndim == 1 else columns
    r = columns.shape[1]
    _check_readers(readers, r)
    aucs, covariance = reader_covariance(positive, np.column_stack([model_score, columns]), cluster=cluster)
    aucs = aucs[0]
    contrasts = np.column_stack([np.ones(r), -np.eye(r)])
    deltas = contrasts @ aucs
    mean, variance, degrees = _mean_of_readers(deltas, contrasts @ covariance @ contrasts.T, readers)
    estimate = _contrast(mean, variance, degrees, confidence)
    return ModelAgainstReaders(
        model_auc=float(aucs[0]),
        readers_auc=float(aucs[1:].mean()),
        reader_aucs=tuple(float(value) for value in aucs[1:]),
        readers=readers,
        n=positive.size,
        n_positive=int(positive.sum()),
        **estimate,
    )


def _checked(aucs: ArrayLike, covariance: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """AUCs (m, r) and their covariance as (m, r, m, r)."""
    values, matrix = np.asarray(aucs, dtype=float), np.asarray(covariance, dtype=float)
    if values.ndim != 2 or values.size == 0:
        raise ValueError(f"aucs must be (modalities, readers), not shape {values.shape}")
    if matrix.shape != (values.size, values.size):
        raise ValueError(
            f"covariance must be ({values.size}, {values.size}) for {values.size} AUCs, not {matrix.shape}"
        )
    return values, matrix.reshape(*values.shape, *values.shape)


def _check_readers(readers: str, r: int) -> None:
    if readers not in READERS:
        raise ValueError(f"readers must be one of {', '.join(READERS)}, not {readers!r}")
    if readers == "random" and r < 2:
        raise ValueError("one reader says nothing about readers at large: use readers='fixed'")


def _mean_where(blocks: np.ndarray, members: np.ndarray) -> float:
    chosen = blocks[np.broadcast_to(members, blocks.shape)]
    return float(chosen.mean()) if chosen.size else nan


def _mean_of_readers(values: np.ndarray, covariance: np.ndarray, readers: str) -> tuple[float, float, float]:
    """Mean over readers of values (r,) with covariance (r, r) from the cases; its variance and degrees of freedom."""
    r = values.size
    mean = float(values.mean())
    if readers == "fixed":
        return mean, float(covariance.mean()), inf
    between = float(values.var(ddof=1))
    cov2 = float((covariance.sum() - np.trace(covariance)) / (r * (r - 1)))
    error = between + r * max(cov2, 0.0)
    return mean, error / r, _hillis_degrees(error, between, r - 1)


def _hillis_degrees(error: float, mean_square: float, degrees: float) -> float:
    """Satterthwaite's degrees of freedom of error = mean_square + a covariance that is taken as known."""
    return error**2 / (mean_square**2 / degrees) if mean_square > 0 else inf


def _ratio(top: float, bottom: float) -> float:
    return top / bottom if bottom > 0 else (0.0 if top == 0 else inf)


def _chi_squared_p(statistic: float, degrees: int) -> float:
    return float(stats.chi2.sf(statistic * degrees, degrees))


def _contrast(delta: float, variance: float, degrees: float, confidence: float) -> dict[str, float]:
    """Interval and two-sided p of delta = 0, t with finite degrees of freedom, else normal."""
    error = sqrt(max(variance, 0.0)) if np.isfinite(variance) else nan
    reference = stats.norm if degrees == inf else stats.t(degrees)
    half = float(reference.ppf(0.5 + confidence / 2)) * error
    without_variance = 0.0 if delta == 0 else copysign(inf, delta)
    statistic = delta / error if error > 0 else (nan if np.isnan(error) else without_variance)
    return {
        "delta": delta,
        "low": delta - half,
        "high": delta + half,
        "standard_error": error,
        "statistic": statistic,
        "degrees_of_freedom": degrees,
        "p": float(2 * reference.sf(abs(statistic))),
    }
