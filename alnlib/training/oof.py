"""Out-of-fold scores and features of networks, so that a later model learns from patients the network never saw.

One fit lives in `alnlib.training.fit`; folds of patients are those of `alneval.folds`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from alneval.folds import patient_level_folds
from alneval.resplit import PermutedTwin, auc_within_folds, permuted_labels, summarize_twin
from alneval.units import Units
from alnlib.errors import InputError
from alnlib.training.data import CropDataset
from alnlib.training.fit import FitSpec, FittedClassifier, fit_classifier, predict_features, predict_proba


def out_of_fold_scores(
    spec: FitSpec,
    data: CropDataset,
    rng: np.random.Generator,
    n_folds: int = 5,
    checkpoint_dir: str | Path | None = None,
    keep: str = "best",
) -> pd.DataFrame:
    """Score every unit by a network fitted without its patient: patient_id, unit_id, fold, y_true, y_score, in data order.

    Patient-level stratified folds. keep: "best", the network that scores fold k chooses its epoch on fold k + 1 and trains on
    the rest; "last", it trains on all other folds and keeps its last epoch, so that few patients are used better. Either
    way the scored patients have no say in it. Raises InputError for too few folds (3 for "best", 2 for "last"), or if a
    fold holds one class.
    """
    if keep not in ("best", "last"):
        raise ValueError(f"keep is {keep!r}; expected 'best' or 'last'")
    if n_folds < (3 if keep == "best" else 2):
        raise InputError(
            f"n_folds is {n_folds}; give at least 3 where one fold scores, one chooses the epoch and the rest trains, and at "
            "least 2 where the last epoch is kept."
        )
    if keep == "last":
        spec = _last_epoch(spec)
    fold = patient_level_folds(data.y, data.patient_ids, n_folds, rng)
    score = np.empty(len(data))
    for k in range(n_folds):
        held_out = fold == k
        # With the last epoch kept, the scored fold is looked at for the history and decides nothing.
        watched = held_out if keep == "last" else fold == (k + 1) % n_folds
        fitted = fit_classifier(spec, data.subset(~held_out & ~watched), data.subset(watched), checkpoint_dir)
        score[held_out] = predict_proba(fitted, data.subset(held_out))
    return pd.DataFrame(
        {"patient_id": data.patient_ids, "unit_id": data.unit_ids, "fold": fold, "y_true": data.y, "y_score": score}
    )


def permuted_network_twin(
    spec: FitSpec,
    data: CropDataset,
    rng: np.random.Generator,
    *,
    n_permutations: int,
    confidence: float,
    checkpoint_dir: str | Path | None = None,
) -> PermutedTwin:
    """What a network claims on labels shuffled among patients, in two folds, beside what it finds on the true ones.

    Fits follow one another: worker processes that hold networks are taken for leaking memory.
    """
    shuffled = (permuted_labels(data.y, data.patient_ids, rng) for _ in range(n_permutations))
    sets = [data, *(replace(data, y=labels) for labels in shuffled)]
    aucs = []
    for labeled, child in zip(sets, rng.spawn(len(sets)), strict=True):
        scored = out_of_fold_scores(spec, labeled, child, n_folds=2, checkpoint_dir=checkpoint_dir, keep="last")
        aucs.append(auc_within_folds(Units.of(scored["y_true"], scored["y_score"]), scored["fold"]))
    return summarize_twin(aucs[0], aucs[1:], confidence)


@dataclass(frozen=True)
class OutOfFoldFeatures:
    """Pooled features of every unit by the network that was fitted without its patient.

    features: (n, F) float32 in the order of the data; fold: (n,), the network of each.
    networks: one per fold; mean, sd: (n_folds, F) of the features that each network gives its own fold, by which all its
    features are z-scored. A feature that does not vary there is 0.
    """

    features: np.ndarray
    fold: np.ndarray
    networks: tuple[FittedClassifier, ...]
    mean: np.ndarray
    sd: np.ndarray

    def of(self, images: np.ndarray | CropDataset) -> np.ndarray:
        """(n_folds, n, F) features of patients that no network was fitted to, z-scored as the out-of-fold ones.

        A model fitted to `features` scores each of the n_folds versions, and the scores are averaged: averaged features
        would vary less than those that it was fitted to.
        """
        return np.stack([self._scaled(predict_features(fit, images), k) for k, fit in enumerate(self.networks)])

    def _scaled(self, found: np.ndarray, k: int) -> np.ndarray:
        return np.where(self.sd[k] > 0, (found - self.mean[k]) / np.where(self.sd[k] > 0, self.sd[k], 1), 0)


def out_of_fold_features(
    spec: FitSpec,
    data: CropDataset,
    rng: np.random.Generator,
    n_folds: int = 3,
    checkpoint_dir: str | Path | None = None,
) -> OutOfFoldFeatures:
    """Fit one network without each fold, to its last epoch, and take the pooled features of the fold that it has not seen.

    All networks start from the same weights and see batches in an order from the same seed, which is why an axis of one has
    something to do with the same axis of another; `axis_agreement` measures how much. A feature whose axis wanders is
    noise to a model fitted across folds: it costs performance, it never leaks. Folds by patient, stratified. Raises
    InputError for fewer than two folds, and as `fit_classifier`.
    """
    if n_folds < 2:
        raise InputError(f"n_folds is {n_folds}; give at least 2, so that every patient has a network without it.")
    spec = _last_epoch(spec)
    fold = patient_level_folds(data.y, data.patient_ids, n_folds, rng)
    networks, parts = [], []
    for k in range(n_folds):
        held_out = data.subset(fold == k)
        networks.append(fit_classifier(spec, data.subset(fold != k), held_out, checkpoint_dir))
        parts.append(predict_features(networks[-1], held_out))
    mean = np.stack([part.mean(axis=0) for part in parts])
    sd = np.stack([part.std(axis=0) for part in parts])
    features = np.empty((len(data), parts[0].shape[1]), np.float32)
    made = OutOfFoldFeatures(features, fold, tuple(networks), mean, sd)
    for k, part in enumerate(parts):
        made.features[fold == k] = made._scaled(part, k)
    return made


@dataclass(frozen=True)
class DeepFeatures:
    """Features of patients by networks that never saw them, units of a patient averaged.

    training: (n_training, F), out of fold; others: (n_folds, n_others, F), a version per network; agreement: median over
    the features of `axis_agreement` on the others.
    """

    training: np.ndarray
    others: np.ndarray
    agreement: float

    @property
    def n_features(self) -> int:
        return self.training.shape[1]


def deep_features(
    spec: FitSpec,
    data: CropDataset,
    training: np.ndarray,
    rng: np.random.Generator,
    n_folds: int,
    checkpoint_dir: str | Path | None = None,
) -> DeepFeatures:
    """`out_of_fold_features` of the training patients, and of the others by all networks.

    data: every patient's units one after the other, the same number for each; training: (patients,) bool, in their order.
    """
    repeats = len(data) // len(training)
    known = training.repeat(repeats)
    networks = out_of_fold_features(spec, data.subset(known), rng, n_folds, checkpoint_dir)
    versions = networks.of(data.subset(~known))
    return DeepFeatures(
        networks.features.reshape(training.sum(), repeats, -1).mean(axis=1),
        versions.reshape(n_folds, (~training).sum(), repeats, -1).mean(axis=2),
        float(np.nanmedian(axis_agreement(versions))),
    )


def axis_agreement(versions: np.ndarray) -> np.ndarray:
    """(F,) mean Pearson correlation of the same feature between networks, over patients that none was fitted to.

    versions: (n_folds, n, F) of `OutOfFoldFeatures.of`. 1: all networks measure the same on that axis; 0: nothing in
    common. NaN where a feature does not vary in some network.
    """
    centered = versions.astype(float) - versions.mean(axis=1, keepdims=True, dtype=float)
    length = np.sqrt((centered**2).sum(axis=1, keepdims=True))
    unit = np.divide(centered, length, out=np.full_like(centered, np.nan), where=length > 1e-12)
    count = len(versions)
    together = (unit.sum(axis=0) ** 2).sum(axis=0)  # the diagonal, count, and every pair twice
    return (together - count) / (count * (count - 1))


def _last_epoch(spec: FitSpec) -> FitSpec:
    return replace(spec, choose_from=(spec.epochs - 0.5) / spec.epochs)
