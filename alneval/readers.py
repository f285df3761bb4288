"""Human readers: a model held to a reader's specificity, and the tables of readers. Several at once live in `multireader`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import nan
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from alneval.delong import auc_interval
from alneval.estimate import Estimate, format_interval, format_p, percentile_limits, resamples, two_sided_p
from alneval.mcnemar import EXACT_BELOW, mcnemar_p
from alneval.multireader import compare_model_with_readers
from alneval.thresholds import OperatingPoint, operating_point, threshold_at_specificity, youden_threshold
from alneval.units import Units


@dataclass(frozen=True)
class ReaderComparison:
    """A model at a reader's specificity; difference: model sensitivity - reader sensitivity, with p and method.

    model_only and reader_only count positives found by one of the two.
    """

    reader: OperatingPoint
    model: OperatingPoint
    difference: Estimate
    model_only: int
    reader_only: int

    def __str__(self) -> str:
        found, interval = (
            self.difference,
            format_interval(self.difference.value, self.difference.low, self.difference.high),
        )
        return (
            f"sensitivity of model {self.model.sensitivity.value:.3f}, of reader {self.reader.sensitivity.value:.3f}, "
            f"at specificity {self.reader.specificity.value:.3f}: difference {interval}, {format_p(found.p)} ({found.method})"
        )


def compare_model_with_reader(
    units: Units,
    reader_score: ArrayLike,
    positive_from: float = 1,
    *,
    rng: np.random.Generator,
    n_bootstrap: int = 2000,
    confidence: float = 0.95,
) -> ReaderComparison:
    """Sensitivity of a model at the reader's specificity, against the reader's own, on the same patients.

    units: with the model's score; reader_score: (n,) a call as 0/1 or an ordinal category, positive from `positive_from`.
    The model's threshold is the lowest with specificity at least the reader's on these patients (its specificity can be
    higher, never lower). p: McNemar on the positives, threshold taken as given; where a patient has several units, a
    two-sided bootstrap p over patients. The interval is the percentile interval over resamples in which reader specificity
    and model threshold are found anew. Raises ValueError if a class is missing.
    """
    units.require_both_classes()
    calls = Units.of(units.positive, np.asarray(reader_score, dtype=float) >= positive_from, patient=units.patient)
    options = {"rng": rng, "n_bootstrap": n_bootstrap, "confidence": confidence}
    reader = operating_point(calls, 1, **options)
    threshold = threshold_at_specificity(units, reader.specificity.value)
    model = operating_point(units, threshold, **options)
    model_calls, reader_calls = units.score >= threshold, calls.score == 1
    model_only = int((model_calls & ~reader_calls & units.positive).sum())
    reader_only = int((~model_calls & reader_calls & units.positive).sum())
    drawn = np.concatenate(
        [_sensitivity_differences(units, reader_calls, w) for w in resamples(units, n_bootstrap, rng)]
    )
    low, high = percentile_limits(drawn, confidence)
    if units.clustered:
        p, method = two_sided_p(drawn), "bootstrap over patients"
    else:
        exact = model_only + reader_only < EXACT_BELOW
        p, method = mcnemar_p(model_only, reader_only), "McNemar, exact" if exact else "McNemar, chi-squared"
    value = model.sensitivity.value - reader.sensitivity.value
    undefined = int(np.isnan(drawn).sum())
    difference = Estimate(value, float(low), float(high), p=p, method=method, n_undefined=undefined)
    return ReaderComparison(reader, model, difference, model_only, reader_only)


def _sensitivity_differences(units: Units, reader_calls: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Model minus reader sensitivity of each row of weights (b, n), the model cut anew at the reader's specificity."""
    positive, score = units.positive, units.score
    order = np.argsort(-score)
    ordered = score[order]
    last_of_tie = np.concatenate((ordered[1:] != ordered[:-1], [True]))
    sorted_weights = weights[:, order]
    # prefix k of the sorted scores = "the k highest are called positive"; a cut may not split equal scores
    true_counts = np.cumsum(sorted_weights * positive[order], axis=1)[:, last_of_tie]
    false_counts = np.cumsum(sorted_weights * ~positive[order], axis=1)[:, last_of_tie]
    n_positive, n_negative = weights @ positive, weights @ ~positive
    allowed = weights @ (reader_calls & ~positive)
    reader_found = weights @ (reader_calls & positive)
    found = np.where(false_counts <= allowed[:, None], true_counts, 0.0).max(axis=1)
    defined = (n_positive > 0) & (n_negative > 0)
    return np.divide(found - reader_found, n_positive, out=np.full(n_positive.shape, nan), where=defined)


def reader_row(reader: str, cut: float, auc: Estimate, compared: ReaderComparison, model: str) -> dict[str, Any]:
    """One reader, called positive from the score `cut`: sensitivity, specificity, and a model held to that specificity."""
    point = compared.reader
    row: dict[str, Any] = {"reader": reader, "n": point.n, "n_positive": point.n_positive, "cut": cut}
    row |= auc.named("auc")
    row |= {"true_positives": point.true_positives, "true_negatives": point.true_negatives}
    row |= point.sensitivity.named("sensitivity") | point.specificity.named("specificity")
    row |= {"model": model, "model_sensitivity": compared.model.sensitivity.value}
    return row | compared.difference.named("model_minus_reader") | {"p_mcnemar": compared.difference.p}


READER_COLUMNS = ("study", "split", "reader", "n", "n_positive", "cut", "auc", "sensitivity", "specificity", "model")


def reader_cuts(scores: pd.DataFrame, outcome: pd.Series) -> dict[str, float]:
    """{reader: the score from which a reading is positive}, with the largest Youden index on the patients of `outcome`.

    scores: index patient_id, a column per reader, empty where a reader did not read; outcome: 0/1, index patient_id, of
    patients on whom nothing is tested. The cut of graded scores is a grade. A reader of one class only has no cut.
    """
    cuts = {}
    for reader in scores:
        read = scores.loc[scores.index.isin(outcome.index), reader].dropna()
        if outcome.loc[read.index].nunique() == 2:
            cut = youden_threshold(Units.of(outcome.loc[read.index], read))
            graded = (read == read.round()).all()
            cuts[reader] = float(np.ceil(cut)) if graded else cut
    return cuts


def readers_beside_model(
    rows: pd.DataFrame,
    scores: pd.DataFrame,
    cuts: Mapping[str, float],
    *,
    rng: np.random.Generator,
    n_bootstrap: int = 2000,
    interval: str = "logit_t",
) -> pd.DataFrame:
    """One row per reader: study and split, then `reader_row`, on the patients whom reader and model both scored.

    rows: predictions of one model on one split, one row per patient; scores: index patient_id, a column per reader, empty
    where a reader did not read; cuts: {reader: score from which a reading is positive}, fixed on other patients. A reader
    whose patients are of one class only is left out. interval: of the reader's AUC. Without any, an empty table that has
    READER_COLUMNS.
    """
    found = []
    for reader, cut in cuts.items():
        given = scores[reader].dropna()
        both = rows[rows["patient_id"].isin(given.index)]
        if both["y_true"].nunique() < 2:
            continue
        reading = given.loc[both["patient_id"]].to_numpy(float)
        units = Units.of_rows(both)
        compared = compare_model_with_reader(units, reading, cut, rng=rng, n_bootstrap=n_bootstrap)
        where = {"study": both["study"].iloc[0], "split": both["split"].iloc[0]}
        model = both["model"].iloc[0]
        area = auc_interval(Units.of(units.positive, reading), interval=interval)
        found.append(where | reader_row(reader, cut, area, compared, model))
    return pd.DataFrame(found) if found else pd.DataFrame(columns=list(READER_COLUMNS))


MODEL_READER_COLUMNS = (
    *("study", "model", "split", "readers", "n_readers", "n", "n_positive", "model_auc", "readers_auc"),
    *("delta", "delta_low", "delta_high", "degrees_of_freedom", "p"),
    *("delta_fixed", "delta_fixed_low", "delta_fixed_high", "p_fixed"),
)


def models_against_readers(
    predictions: pd.DataFrame, scores: pd.DataFrame, groups: Mapping[str, Sequence[str]]
) -> pd.DataFrame:
    """Every model and split against the mean AUC of each group of readers on the same patients: MODEL_READER_COLUMNS.

    predictions: rows of the contract, one per patient; models with several rows per patient are left out, since readers
    scored patients. scores: index patient_id, a column per reader. Patients whom the whole group read. delta: model less
    readers with the interval and p of `compare_model_with_readers` for random readers (nan for one reader); the columns
    with "fixed" are about these very readers.
    """
    rows = []
    for (study, model, split), part in predictions.groupby(["study", "model", "split"], sort=False):
        if part["patient_id"].duplicated().any():
            continue
        for name, readers in groups.items():
            read = scores[list(readers)].dropna()
            both = part[part["patient_id"].isin(read.index)]
            if both["y_true"].nunique() < 2:
                continue
            scored = both["y_true"], both["y_score"], read.loc[both["patient_id"]].to_numpy(float)
            fixed = compare_model_with_readers(units := Units.of(*scored), readers="fixed")
            row: dict[str, Any] = {"study": study, "model": model, "split": split, "readers": name}
            row |= {"n_readers": len(readers), "n": fixed.n, "n_positive": fixed.n_positive}
            row |= {"model_auc": fixed.values[0], "readers_auc": fixed.values[1], "delta": fixed.value}
            if len(readers) > 1:
                drawn = compare_model_with_readers(units)
                row |= {"delta_low": drawn.low, "delta_high": drawn.high, "p": drawn.p}
                row |= {"degrees_of_freedom": drawn.degrees_of_freedom}
            row |= fixed.named("delta_fixed")
            rows.append(row | {"p_fixed": fixed.p})
    return pd.DataFrame(rows, columns=list(MODEL_READER_COLUMNS))
