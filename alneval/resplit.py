"""The same pipeline on many splits: resplits, learning curves, selection inside and outside, permuted-label twins.

Everything runs in parallel and, where a memory is given, resumes. What the numbers mean for a result is judged in
`alneval.audit`; splits that a result may rest on are in
`alneval.folds`.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, MutableMapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import pandas as pd
from joblib import Parallel, delayed
from numpy.typing import ArrayLike
from scipy import stats
from sklearn.base import BaseEstimator, clone
from sklearn.exceptions import ConvergenceWarning

from alneval.folds import patient_level_folds, patient_level_splits
from alneval.inputs import as_confidence, as_labels
from alneval.intervals import format_interval
from alneval.roc import auc

RESPLIT_COLUMNS = ("repeat", "n_train", "n_test", "auc")
CURVE_COLUMNS = ("n_train", "n_repeats", "auc", "auc_low", "auc_high", "auc_q25", "auc_q75")


class Memory(Protocol):
    """What keeps repeats between runs, such as `alnlib.memo.LoopMemory`: gives value by number of task for this very loop.

    A value that is set is kept at once. The loop is known by its function, its tasks and its data.
    """

    def __call__(self, work: Callable[..., Any], tasks: Sequence[Any], context: tuple) -> MutableMapping[int, Any]: ...


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


@dataclass(frozen=True)
class SelectedOutside:
    """The error itself: `selector` is fitted on all patients and their labels, then `model` is cross-validated; a `Scorer`.

    For showing what selection outside the fold claims. Nothing else may rest on it.
    """

    selector: BaseEstimator
    model: BaseEstimator
    n_folds: int = 5

    def __call__(
        self, X: pd.DataFrame, y: np.ndarray, patient_ids: np.ndarray, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """(score, fold); folds by patient, stratified by y."""
        with _quiet():
            selected = clone(self.selector).fit(X, y).transform(X)
        return CrossValidated(self.model, self.n_folds)(selected, y, patient_ids, rng)


@dataclass(frozen=True)
class CorrectedMean:
    """Mean AUC over resplits with the corrected resampled t interval; low and high are clipped to [0, 1]."""

    mean: float
    low: float
    high: float
    standard_error: float
    sd: float
    n_resplits: int

    def __str__(self) -> str:
        return f"{format_interval(self.mean, self.low, self.high)} over {self.n_resplits} resplits"


@dataclass(frozen=True, eq=False)
class PermutedTwin:
    """Cross-validated AUCs of a pipeline on permuted labels, one permutation per seed.

    aucs: (n_permutations,) within folds. low, high: t interval of their mean, which is exactly 0.5 for a pipeline that learns
    from nothing but its training folds. real_auc: the same pipeline on the true labels; p: share of permutations that reach
    it, (1 + count) / (1 + n) (Ojala & Garriga 2010, J Mach Learn Res 11:1833).
    """

    aucs: np.ndarray
    mean: float
    low: float
    high: float
    confidence: float
    real_auc: float
    p: float

    @property
    def covers_chance(self) -> bool:
        """Whether the interval of the mean holds 0.5."""
        return self.low <= 0.5 <= self.high

    @property
    def claims_too_much(self) -> bool:
        """Whether the interval lies above 0.5: the pipeline finds something where there is nothing."""
        return self.low > 0.5

    def __str__(self) -> str:
        return (
            f"permuted labels {format_interval(self.mean, self.low, self.high)} over {len(self.aucs)}, "
            f"true labels {self.real_auc:.3f}"
        )


def auc_within_folds(y: ArrayLike, score: ArrayLike, fold: ArrayLike) -> float:
    """AUC from pairs of one fold only: (n,) labels, scores and folds; folds count by their number of such pairs.

    Scores of different folds come from different fits; pooling them pulls the AUC of a useless model below 0.5, because a
    fold with more positives was scored by a fit that saw fewer (Airola et al. 2011, Comput Stat Data Anal 55:1828). Folds of
    one class say nothing. Raises ValueError if no fold has both classes.
    """
    positive, scores, folds = as_labels(y, both_classes=True), np.asarray(score, dtype=float), np.asarray(fold)
    total, wins = 0, 0.0
    for k in np.unique(folds):
        members = folds == k
        pairs = int(positive[members].sum()) * int((~positive[members]).sum())
        if pairs:
            total += pairs
            wins += pairs * auc(positive[members], scores[members])
    if not total:
        raise ValueError("no fold holds both classes")
    return wins / total


def corrected_resampled_interval(
    aucs: ArrayLike, n_train: float, n_test: float, *, confidence: float = 0.95
) -> CorrectedMean:
    """Mean over resplits whose interval knows that the resplits share patients.

    aucs: (J,), one per resplit of n_train and n_test patients. The variance s^2 / J of independent draws becomes
    s^2 (1 / J + n_test / n_train), t with J - 1 degrees of freedom: Nadeau & Bengio 2003, Mach Learn 52:239, section 4.
    A correction by rule of thumb, conservative or not by case; it never shrinks to nothing with more resplits, as the naive
    one does. Raises ValueError for fewer than two values.
    """
    values = np.asarray(aucs, dtype=float)
    if values.ndim != 1 or len(values) < 2 or not np.isfinite(values).all():
        raise ValueError("at least two finite AUCs are needed")
    sd = float(values.std(ddof=1))
    error = sd * np.sqrt(1 / len(values) + n_test / n_train)
    reach = float(stats.t.ppf((1 + as_confidence(confidence)) / 2, len(values) - 1)) * error
    mean = float(values.mean())
    return CorrectedMean(mean, max(mean - reach, 0.0), min(mean + reach, 1.0), float(error), sd, len(values))


def resplit_aucs(
    pipeline: BaseEstimator,
    X: pd.DataFrame,
    y: ArrayLike,
    rng: np.random.Generator,
    *,
    n_resplits: int = 100,
    test_fraction: float = 0.3,
    patient_ids: Sequence[str] | None = None,
    n_jobs: int = 1,
    memory: Memory | None = None,
    on_repeat: Callable[[int, int], None] | None = None,
) -> pd.DataFrame:
    """AUC of a pipeline on the test part of many random splits, all of it fitted anew on each training part.

    X: (n, columns) frame; y: (n,) 0/1; patient_ids: (n,), every row its own patient if None. Splits are by patient and
    stratified by y (`patient_level_splits` without a validation part). Returns RESPLIT_COLUMNS, in order of repeats, whatever
    n_jobs (processes). memory: keeps finished repeats; a killed loop called again goes on. on_repeat(done, total).
    Same rng state, same table.
    """
    X, labels, patients = _checked(X, y, patient_ids)
    seeds = _seeds(rng, n_resplits)
    rows = _loop(_one_resplit, seeds, (pipeline, X, labels, patients, test_fraction), n_jobs, memory, on_repeat)
    return pd.DataFrame(rows, columns=["n_train", "n_test", "auc"]).rename_axis("repeat").reset_index()


def learning_curve(
    pipeline: BaseEstimator,
    X: pd.DataFrame,
    y: ArrayLike,
    rng: np.random.Generator,
    *,
    fractions: Sequence[float] = (0.25, 0.4, 0.6, 0.8, 1.0),
    n_repeats: int = 20,
    test_fraction: float = 0.3,
    patient_ids: Sequence[str] | None = None,
    n_jobs: int = 1,
    memory: Memory | None = None,
    on_repeat: Callable[[int, int], None] | None = None,
) -> pd.DataFrame:
    """AUC on the test part of resplits against the number of training patients: columns repeat, fraction, n_train, n_test, auc.

    Each repeat draws one test part; its training part is shortened, stratified and nested, so that sizes are compared on the
    same test patients. Other arguments as in `resplit_aucs`. Summarize with `learning_curve_bands`.
    """
    if not fractions or not all(0 < fraction <= 1 for fraction in fractions):
        raise ValueError("fractions must lie in (0, 1]")
    X, labels, patients = _checked(X, y, patient_ids)
    seeds = _seeds(rng, n_repeats)
    context = (pipeline, X, labels, patients, test_fraction, tuple(fractions))
    rows = _loop(_one_curve, seeds, context, n_jobs, memory, on_repeat)
    points = [(repeat, *point) for repeat, curve in enumerate(rows) for point in curve]
    return pd.DataFrame(points, columns=["repeat", "fraction", "n_train", "n_test", "auc"])


def learning_curve_bands(points: pd.DataFrame, *, confidence: float = 0.95) -> pd.DataFrame:
    """One row per training size: CURVE_COLUMNS. auc is the mean; low and high the corrected resampled interval; q25 and q75
    hold the middle half of the resplits."""
    rows = []
    for _, part in points.groupby("fraction", sort=True):
        n_train = round(part["n_train"].mean())
        whole = corrected_resampled_interval(part["auc"], n_train, part["n_test"].mean(), confidence=confidence)
        quartiles = part["auc"].quantile([0.25, 0.75])
        rows.append((n_train, len(part), whole.mean, whole.low, whole.high, *quartiles))
    return pd.DataFrame(rows, columns=list(CURVE_COLUMNS))


def selection_inside_and_outside(
    selector: BaseEstimator,
    model: BaseEstimator,
    X: pd.DataFrame,
    y: ArrayLike,
    rng: np.random.Generator,
    *,
    permuted: bool = False,
    n_resplits: int = 20,
    test_fraction: float = 0.3,
    patient_ids: Sequence[str] | None = None,
    n_jobs: int = 1,
    memory: Memory | None = None,
    on_repeat: Callable[[int, int], None] | None = None,
) -> pd.DataFrame:
    """Columns repeat, n_train, n_test, inside, outside: test AUCs of one model on the same splits.

    inside: `selector` is fitted on the training part; outside: on all patients, test labels included, which is the error
    that is to be shown. permuted: labels are shuffled among patients before each repeat, so that every AUC above 0.5 is made
    up; without it the split alone is new. Other arguments as in `resplit_aucs`.
    """
    X, labels, patients = _checked(X, y, patient_ids)
    seeds = _seeds(rng, n_resplits)
    context = (selector, model, X, labels, patients, test_fraction, permuted)
    rows = _loop(_one_selection, seeds, context, n_jobs, memory, on_repeat)
    table = pd.DataFrame(rows, columns=["n_train", "n_test", "inside", "outside"])
    return table.rename_axis("repeat").reset_index()


def permuted_label_twin(
    scorer: Scorer,
    X: Any,
    y: ArrayLike,
    rng: np.random.Generator,
    *,
    n_permutations: int = 20,
    n_confirm: int = 0,
    patient_ids: Sequence[str] | None = None,
    confidence: float = 0.95,
    n_jobs: int = 1,
    memory: Memory | None = None,
    on_repeat: Callable[[int, int], None] | None = None,
) -> PermutedTwin:
    """The whole of a pipeline on shuffled labels: what it claims where nothing is to be found.

    scorer: called with (X, shuffled y, patient_ids, rng) per permutation, and once with the true labels. It must be
    picklable where n_jobs > 1, and describe itself fully in its state where `memory` is given, under whose hash results are
    kept. Labels move between patients, with all rows of a patient together (`permuted_labels`). n_confirm: if the interval of
    the first n_permutations lies above 0.5, so many fresh ones are drawn and decide alone: few permutations suffice for a clear
    case, and chance in a small twin is not taken for a leak. Same rng state, same twin.
    """
    labels = as_labels(y, both_classes=True).astype(int)
    patients = np.arange(len(labels)).astype(str) if patient_ids is None else np.asarray(patient_ids).astype(str)
    if n_permutations < 2:
        raise ValueError("n_permutations must be at least 2")
    seeds = _seeds(rng, n_permutations + 1 + n_confirm)
    context = (scorer, X, labels, patients)
    first, fresh = seeds[: n_permutations + 1], seeds[n_permutations + 1 :]
    tasks = [(seed, at > 0) for at, seed in enumerate(first)]
    values = _loop(_one_permutation, tasks, context, n_jobs, memory, on_repeat)
    twin = summarize_twin(values[0], values[1:], confidence=confidence)
    if twin.claims_too_much and n_confirm:
        aucs = _loop(_one_permutation, [(seed, True) for seed in fresh], context, n_jobs, memory, on_repeat)
        twin = summarize_twin(values[0], aucs, confidence=confidence)
    return twin


def summarize_twin(real_auc: float, aucs: ArrayLike, *, confidence: float = 0.95) -> PermutedTwin:
    """The twin of a pipeline that was run elsewhere: its AUC on true labels, and (n,) AUCs on permuted ones, at least two."""
    values = np.asarray(aucs, dtype=float)
    if values.ndim != 1 or len(values) < 2:
        raise ValueError("at least two AUCs on permuted labels are needed")
    error = values.std(ddof=1) / np.sqrt(len(values))
    reach = float(stats.t.ppf((1 + as_confidence(confidence)) / 2, len(values) - 1) * error)
    mean = float(values.mean())
    p = (1 + int((values >= real_auc).sum())) / (1 + len(values))
    return PermutedTwin(values, mean, mean - reach, mean + reach, confidence, float(real_auc), p)


def permuted_labels(y: ArrayLike, patient_ids: ArrayLike, rng: np.random.Generator) -> np.ndarray:
    """Labels (n,) shuffled among patients: the rows of a patient take over, in order, those of another with as many rows.

    Who shares a patient with whom, and how labels hang together within patients, stays as it was; only what ties them to the
    features is cut. A patient whose number of rows is unique keeps its labels.
    """
    labels = np.asarray(y).copy()
    rows = pd.Series(np.arange(len(labels))).groupby(np.asarray(patient_ids).astype(str)).apply(np.asarray)
    for _, alike in rows.groupby(rows.map(len)):
        taken = [alike.iloc[at] for at in rng.permutation(len(alike))]
        labels[np.concatenate(list(alike))] = np.asarray(y)[np.concatenate(taken)]
    return labels


def _one_resplit(seed: int, context: tuple) -> list:
    pipeline, X, labels, patients, test_fraction = context
    rng = np.random.default_rng(seed)
    train, test = _split(labels, patients, test_fraction, rng)
    score = _fit_and_score(pipeline, X.loc[train], labels[train], X.loc[test])
    return [int(train.sum()), int(test.sum()), auc(labels[test], score)]


def _one_curve(seed: int, context: tuple) -> list:
    pipeline, X, labels, patients, test_fraction, fractions = context
    rng = np.random.default_rng(seed)
    train, test = _split(labels, patients, test_fraction, rng)
    outcome = pd.Series(labels[train]).groupby(patients[train]).max()
    place = pd.Series(0.0, index=outcome.index)
    for label in (0, 1):
        members = outcome.index[outcome == label]
        # a place in line within the class, so that the first part of the line is stratified and nested
        place[members] = (rng.permutation(len(members)) + 0.5) / len(members)
    points = []
    for fraction in fractions:
        short = train & np.isin(patients, place.index[place <= fraction])
        score = _fit_and_score(pipeline, X.loc[short], labels[short], X.loc[test])
        points.append([fraction, int(short.sum()), int(test.sum()), auc(labels[test], score)])
    return points


def _one_selection(seed: int, context: tuple) -> list:
    selector, model, X, labels, patients, test_fraction, permuted = context
    rng = np.random.default_rng(seed)
    if permuted:
        labels = permuted_labels(labels, patients, rng)
    train, test = _split(labels, patients, test_fraction, rng)
    aucs = []
    for learned in (train, np.ones(len(labels), dtype=bool)):
        with _quiet():
            fitted = clone(selector).fit(X.loc[learned], labels[learned])
            kept = fitted.transform(X)
        score = _fit_and_score(model, kept.loc[train], labels[train], kept.loc[test])
        aucs.append(auc(labels[test], score))
    return [int(train.sum()), int(test.sum()), *aucs]


def _one_permutation(task: tuple[int, bool], context: tuple) -> float:
    seed, shuffle = task
    scorer, X, labels, patients = context
    rng = np.random.default_rng(seed)
    if shuffle:
        labels = permuted_labels(labels, patients, rng)
    score, fold = scorer(X, labels, patients, rng)
    return auc_within_folds(labels, score, fold)


def _split(
    labels: np.ndarray, patients: np.ndarray, test_fraction: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Masks (n,) of the training and the test part. The other part of three, validation, joins the training part."""
    outcome = pd.Series(labels).groupby(patients).max()
    frame = pd.DataFrame({"patient_id": outcome.index, "y": outcome.to_numpy(), "center": ""})
    splits = patient_level_splits(frame, "y", rng=rng, test_fraction=test_fraction)
    tested = set(splits.loc[splits["split"] == "test", "patient_id"])
    test = np.isin(patients, list(tested))
    return ~test, test


def _fit_and_score(pipeline: BaseEstimator, X: pd.DataFrame, y: np.ndarray, X_new: pd.DataFrame) -> np.ndarray:
    with _quiet():
        return clone(pipeline).fit(X, y).predict_proba(X_new)[:, 1]


@contextmanager
def _quiet() -> Iterator[None]:
    # hundreds of fits on shuffled labels: that some do not converge is expected and harmless
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        yield


def _checked(
    X: pd.DataFrame, y: ArrayLike, patient_ids: Sequence[str] | None
) -> tuple[pd.DataFrame, np.ndarray, np.ndarray]:
    if not isinstance(X, pd.DataFrame):
        raise TypeError("X must be a DataFrame")
    labels = as_labels(y, both_classes=True).astype(int)
    patients = np.arange(len(X)).astype(str) if patient_ids is None else np.asarray(patient_ids).astype(str)
    if not len(X) == len(labels) == len(patients):
        raise ValueError(f"{len(X)} rows, {len(labels)} labels and {len(patients)} patient_ids: not the same")
    return X.reset_index(drop=True), labels, patients


def _seeds(rng: np.random.Generator, n: int) -> list[int]:
    return [int(seed) for seed in rng.integers(2**63, size=n)]


def _loop(
    work: Callable[[Any, tuple], Any],
    tasks: Sequence[Any],
    context: tuple,
    n_jobs: int,
    memory: Memory | None,
    on_repeat: Callable[[int, int], None] | None,
) -> list[Any]:
    """work(task, context) of every task, in order; those that the memory knows are not done again."""
    done = {} if memory is None else memory(work, tasks, context)
    missing = [at for at in range(len(tasks)) if at not in done]
    parallel = Parallel(
        n_jobs=min(n_jobs, max(len(missing), 1)) if n_jobs > 0 else n_jobs, return_as="generator_unordered"
    )
    for at, value in parallel(delayed(_numbered)(work, at, tasks[at], context) for at in missing):
        done[at] = value
        if on_repeat is not None:
            on_repeat(len(done), len(tasks))
    return [done[at] for at in range(len(tasks))]


def _numbered(work: Callable[[Any, tuple], Any], at: int, task: Any, context: tuple) -> tuple[int, Any]:
    return at, work(task, context)
