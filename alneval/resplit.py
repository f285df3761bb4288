"""The same pipeline on many splits: resplits, learning curves, selection inside and outside, permuted-label twins.

Tables have one row per patient. A `Loop` makes the repeats, in parallel and, given a memory, none of them twice. What the
numbers mean for a result is judged in `alneval.audit`; splits that a result may rest on are in `alneval.folds`.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, MutableMapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy import stats
from sklearn.base import BaseEstimator, clone
from sklearn.exceptions import ConvergenceWarning

from alneval.curves import auc_within
from alneval.delong import auc
from alneval.estimate import Estimate, once
from alneval.folds import patient_level_folds, patient_level_splits
from alneval.units import Units
from alnlib.tasks import unordered

CURVE_COLUMNS = ("n_train", "n_repeats", "auc", "auc_low", "auc_high", "auc_q25", "auc_q75")

Work = Callable[[Any, tuple], Any]


@dataclass(frozen=True)
class Loop:
    """Makes the repeats of a function of this module.

    n_jobs: processes (`alnlib.tasks`). memory: called with (work, tasks, context), gives the finished repeats, {number: value},
    and keeps those that are added (`alnlib.memo.LoopMemory`).
    """

    n_jobs: int = 1
    memory: Callable[[Work, Sequence[Any], tuple], MutableMapping[int, Any]] | None = None

    def __call__(self, work: Work, tasks: Sequence[Any], context: tuple) -> list[Any]:
        """work(task, context) of every task, in order."""
        finished = {} if self.memory is None else self.memory(work, tasks, context)
        missing = [number for number in range(len(tasks)) if number not in finished]
        for place, value in unordered(work, [tasks[at] for at in missing], (context,), n_jobs=self.n_jobs):
            finished[missing[place]] = value
        return [finished[number] for number in range(len(tasks))]


ONE_AFTER_ANOTHER = Loop()


class Scorer(Protocol):
    """Scores of all patients by a pipeline that is fitted anew: the thing that a permuted-label twin repeats.

    Called with X (n, features), y (n,) 0/1, the patients' ids (n,) and a random generator; gives (score, fold), both (n,).
    Scores are compared within a fold only: between folds they come from different fits. One fold is all 0.
    """

    def __call__(
        self, X: Any, y: np.ndarray, patient_ids: np.ndarray, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]: ...


@dataclass(frozen=True)
class CrossValidated:
    """Out-of-fold scores of a scikit-learn classifier pipeline, all of it fitted inside the fold; a `Scorer`."""

    pipeline: BaseEstimator
    n_folds: int = 5

    def __call__(
        self, X: pd.DataFrame, y: np.ndarray, patient_ids: np.ndarray, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """(score, fold); folds by patient, stratified by y."""
        fold = patient_level_folds(y, patient_ids, self.n_folds, rng)
        score = np.empty(len(y))
        for k in range(self.n_folds):
            held_out = fold == k
            score[held_out] = _fit_and_score(self.pipeline, X.loc[~held_out], y[~held_out], X.loc[held_out])
        return score, fold


@dataclass(frozen=True, eq=False)
class PermutedTwin:
    """Cross-validated AUCs of a pipeline on permuted labels, one permutation per seed, and its AUC on the true ones.

    aucs: (n_permutations,) within folds; mean: with a t interval, exactly 0.5 for a pipeline that learns from nothing but
    its training folds.
    """

    aucs: np.ndarray
    mean: Estimate
    real_auc: float

    @property
    def claims_too_much(self) -> bool:
        """Whether the interval lies above 0.5: the pipeline finds something where there is nothing."""
        return self.mean.low > 0.5

    def __str__(self) -> str:
        return f"permuted labels {self.mean} over {len(self.aucs)}, true labels {self.real_auc:.3f}"


def auc_within_folds(units: Units, fold: ArrayLike) -> float:
    """AUC of the first score from pairs of one fold only, (n,); folds count by their number of such pairs.

    Scores of different folds come from different fits; pooling them pulls the AUC of a useless model below 0.5, because a
    fold with more positives was scored by a fit that saw fewer (Airola et al. 2011, Comput Stat Data Anal 55:1828). Folds
    of one class say nothing. Raises ValueError if no fold has both classes.
    """
    area = once(auc_within(fold), units)
    if np.isnan(area):
        raise ValueError("no fold holds both classes")
    return float(area)


def corrected_resampled_interval(aucs: ArrayLike, n_train: float, n_test: float) -> Estimate:
    """Mean over resplits whose 95 % interval, clipped to [0, 1], knows that the resplits share patients.

    aucs: (J,), one per resplit of n_train and n_test patients. The variance s^2 / J of independent draws becomes
    s^2 (1 / J + n_test / n_train), t with J - 1 degrees of freedom: Nadeau & Bengio 2003, Mach Learn 52:239, section 4.
    A correction by rule of thumb, conservative or not by case; it never shrinks to nothing with more resplits, as the naive
    one does. Raises ValueError for fewer than two values.
    """
    mean = _mean(aucs, 0.95, n_test / n_train)
    return Estimate(mean.value, max(mean.low, 0.0), min(mean.high, 1.0), mean.standard_error, n=mean.n)


def resplit_aucs(
    pipeline: BaseEstimator,
    X: pd.DataFrame,
    y: ArrayLike,
    rng: np.random.Generator,
    *,
    n_resplits: int,
    test_fraction: float = 0.3,
    loop: Loop = ONE_AFTER_ANOTHER,
) -> pd.DataFrame:
    """AUC of a pipeline on the test part of many random splits, all of it fitted anew on each training part.

    X: (n, columns) frame; y: (n,) 0/1. Splits are stratified by y (`patient_level_splits` without a validation part).
    Columns repeat, n_train, n_test, auc. Same rng state, same table.
    """
    repeats = loop(_one_resplit, _seeds(rng, n_resplits), (pipeline, *_checked(X, y), test_fraction))
    return pd.DataFrame(repeats, columns=["n_train", "n_test", "auc"]).rename_axis("repeat").reset_index()


def learning_curve(
    pipeline: BaseEstimator,
    X: pd.DataFrame,
    y: ArrayLike,
    rng: np.random.Generator,
    *,
    fractions: Sequence[float],
    n_repeats: int,
    test_fraction: float = 0.3,
    loop: Loop = ONE_AFTER_ANOTHER,
) -> pd.DataFrame:
    """AUC on the test part of resplits against the number of training patients: columns repeat, fraction, n_train, n_test, auc.

    Each repeat draws one test part; its training part is shortened, stratified and nested, so that sizes are compared on the
    same test patients. Other arguments as in `resplit_aucs`. Summarize with `learning_curve_bands`.
    """
    if not fractions or not all(0 < fraction <= 1 for fraction in fractions):
        raise ValueError("fractions must lie in (0, 1]")
    repeats = loop(_one_curve, _seeds(rng, n_repeats), (pipeline, *_checked(X, y), test_fraction, tuple(fractions)))
    points = [(repeat, *point) for repeat, curve in enumerate(repeats) for point in curve]
    return pd.DataFrame(points, columns=["repeat", "fraction", "n_train", "n_test", "auc"])


def learning_curve_bands(points: pd.DataFrame) -> pd.DataFrame:
    """One row per training size: CURVE_COLUMNS. auc is the mean; low and high the corrected resampled interval; q25 and q75
    hold the middle half of the resplits."""
    bands = []
    for _, of_size in points.groupby("fraction", sort=True):
        n_train = round(of_size["n_train"].mean())
        mean = corrected_resampled_interval(of_size["auc"], n_train, of_size["n_test"].mean())
        quartiles = of_size["auc"].quantile([0.25, 0.75])
        bands.append((n_train, len(of_size), mean.value, mean.low, mean.high, *quartiles))
    return pd.DataFrame(bands, columns=list(CURVE_COLUMNS))


def selection_inside_and_outside(
    selector: BaseEstimator,
    model: BaseEstimator,
    X: pd.DataFrame,
    y: ArrayLike,
    rng: np.random.Generator,
    *,
    n_resplits: int,
    permuted: bool = False,
    test_fraction: float = 0.3,
    loop: Loop = ONE_AFTER_ANOTHER,
) -> pd.DataFrame:
    """Columns repeat, n_train, n_test, inside, outside: test AUCs of one model on the same splits.

    inside: `selector` is fitted on the training part; outside: on all patients, test labels included, which is the error
    that is to be shown. permuted: labels are shuffled among patients before each repeat, so that every AUC above 0.5 is made
    up; without it the split alone is new. Other arguments as in `resplit_aucs`.
    """
    context = (selector, model, *_checked(X, y), test_fraction, permuted)
    repeats = loop(_one_selection, _seeds(rng, n_resplits), context)
    table = pd.DataFrame(repeats, columns=["n_train", "n_test", "inside", "outside"])
    return table.rename_axis("repeat").reset_index()


def permuted_label_twin(
    scorer: Scorer,
    X: Any,
    y: ArrayLike,
    rng: np.random.Generator,
    *,
    n_permutations: int,
    patient_ids: ArrayLike | None = None,
    n_confirm: int = 0,
    confidence: float = 0.95,
    loop: Loop = ONE_AFTER_ANOTHER,
) -> PermutedTwin:
    """The whole of a pipeline on shuffled labels: what it claims where nothing is to be found.

    scorer: called with (X, shuffled y, patient ids, rng) per permutation, and once with the true labels. patient_ids: (n,)
    where a patient has several rows (`permuted_labels`); None: each row is one. n_confirm: if the interval of the first
    n_permutations lies above 0.5, so many fresh ones are drawn and decide alone: few permutations suffice for a clear case,
    and chance in a small twin is not taken for a leak. Same rng state, same twin.
    """
    if n_permutations < 2:
        raise ValueError("n_permutations must be at least 2")
    labels = Units.of(y).positive.astype(int)
    tasks = [(seed, at > 0) for at, seed in enumerate(_seeds(rng, n_permutations + 1 + n_confirm))]
    whose = _each_a_patient(labels) if patient_ids is None else np.asarray(patient_ids).astype(str)
    context = (scorer, X, labels, whose)
    real_auc, *aucs = loop(_one_permutation, tasks[: n_permutations + 1], context)
    twin = summarize_twin(real_auc, aucs, confidence)
    if twin.claims_too_much and n_confirm:
        fresh = loop(_one_permutation, tasks[n_permutations + 1 :], context)
        twin = summarize_twin(real_auc, fresh, confidence)
    return twin


def summarize_twin(real_auc: float, aucs: ArrayLike, confidence: float = 0.95) -> PermutedTwin:
    """The twin of a pipeline that was run elsewhere: its AUC on true labels, and (n,) AUCs on permuted ones, at least two."""
    return PermutedTwin(np.asarray(aucs, dtype=float), _mean(aucs, confidence), float(real_auc))


def permuted_labels(y: ArrayLike, patient_ids: ArrayLike, rng: np.random.Generator) -> np.ndarray:
    """Labels (n,) shuffled among patients: the rows of a patient take over, in order, those of another, cut or begun again
    where that one has more or fewer.

    So labels hang together within patients as before, and nothing ties them to the features, the number of a patient's rows
    included. Were labels exchanged only among patients with as many rows, that number would go on telling them where it
    tells them at first (more nodes are imaged where there is disease), and any feature that knows of it would seem to leak.
    """
    labels = np.asarray(y)
    rows = pd.Series(np.arange(len(labels))).groupby(np.asarray(patient_ids).astype(str)).apply(np.asarray)
    shuffled = labels.copy()
    for own, other in zip(rows, rng.permutation(len(rows)), strict=True):
        shuffled[own] = np.resize(labels[rows.iloc[other]], len(own))
    return shuffled


def _mean(aucs: ArrayLike, confidence: float, shared: float = 0.0) -> Estimate:
    """Mean with a t interval; shared: what sharing patients adds to the variance of one draw."""
    values = np.asarray(aucs, dtype=float)
    if values.ndim != 1 or len(values) < 2 or not np.isfinite(values).all():
        raise ValueError("at least two finite AUCs are needed")
    error = float(values.std(ddof=1)) * np.sqrt(1 / len(values) + shared)
    reach = float(stats.t.ppf((1 + confidence) / 2, len(values) - 1)) * error
    mean = float(values.mean())
    return Estimate(mean, float(mean - reach), float(mean + reach), float(error), n=len(values))


def _one_resplit(seed: int, context: tuple) -> list:
    pipeline, X, labels, test_fraction = context
    train, test = _split(labels, test_fraction, np.random.default_rng(seed))
    return [int(train.sum()), int(test.sum()), _test_auc(pipeline, X, labels, train, test)]


def _one_curve(seed: int, context: tuple) -> list:
    pipeline, X, labels, test_fraction, fractions = context
    rng = np.random.default_rng(seed)
    train, test = _split(labels, test_fraction, rng)
    outcome = pd.Series(labels[train], index=_each_a_patient(labels)[train]).sort_index()
    place = pd.Series(0.0, index=outcome.index)
    for label in (0, 1):
        members = outcome.index[outcome == label]
        # a place in line within the class, so that the first part of the line is stratified and nested
        place[members] = (rng.permutation(len(members)) + 0.5) / len(members)
    points = []
    for fraction in fractions:
        short = train & np.isin(_each_a_patient(labels), place.index[place <= fraction])
        points.append([fraction, int(short.sum()), int(test.sum()), _test_auc(pipeline, X, labels, short, test)])
    return points


def _one_selection(seed: int, context: tuple) -> list:
    selector, model, X, labels, test_fraction, permuted = context
    rng = np.random.default_rng(seed)
    if permuted:
        labels = permuted_labels(labels, _each_a_patient(labels), rng)
    train, test = _split(labels, test_fraction, rng)
    aucs = []
    for learned in (train, np.ones(len(labels), dtype=bool)):
        with _quiet():
            kept = clone(selector).fit(X.loc[learned], labels[learned]).transform(X)
        aucs.append(_test_auc(model, kept, labels, train, test))
    return [int(train.sum()), int(test.sum()), *aucs]


def _one_permutation(task: tuple[int, bool], context: tuple) -> float:
    (seed, shuffle), (scorer, X, labels, patients) = task, context
    rng = np.random.default_rng(seed)
    if shuffle:
        labels = permuted_labels(labels, patients, rng)
    score, fold = scorer(X, labels, patients, rng)
    return auc_within_folds(Units.of(labels, score), fold)


def _split(labels: np.ndarray, test_fraction: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Masks (n,) of the training and the test part. The other part of three, validation, joins the training part."""
    frame = pd.DataFrame({"patient_id": _each_a_patient(labels), "y": labels, "center": ""})
    splits = patient_level_splits(frame, "y", rng=rng, test_fraction=test_fraction)
    test = np.isin(frame["patient_id"], splits.loc[splits["split"] == "test", "patient_id"])
    return ~test, test


def _test_auc(
    pipeline: BaseEstimator, X: pd.DataFrame, labels: np.ndarray, train: np.ndarray, test: np.ndarray
) -> float:
    score = _fit_and_score(pipeline, X.loc[train], labels[train], X.loc[test])
    return auc(labels[test], score)


def _fit_and_score(pipeline: BaseEstimator, X: pd.DataFrame, y: np.ndarray, X_new: pd.DataFrame) -> np.ndarray:
    with _quiet():
        return clone(pipeline).fit(X, y).predict_proba(X_new)[:, 1]


@contextmanager
def _quiet() -> Iterator[None]:
    # hundreds of fits on shuffled labels: that some do not converge is expected and harmless
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        yield


def _checked(X: pd.DataFrame, y: ArrayLike) -> tuple[pd.DataFrame, np.ndarray]:
    if len(X) != len(y):
        raise ValueError(f"{len(X)} rows and {len(y)} labels: not the same")
    return X.reset_index(drop=True), Units.of(y).positive.astype(int)


def _each_a_patient(labels: np.ndarray) -> np.ndarray:
    """Ids (n,), text: in the order of text are the draws of the splits made."""
    return np.arange(len(labels)).astype(str)


def _seeds(rng: np.random.Generator, n: int) -> list[int]:
    return [int(seed) for seed in rng.integers(2**63, size=n)]
