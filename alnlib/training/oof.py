"""Candidate models of one data set: scored out of fold, chosen by it, and fitted to all of the patients.

A recipe makes a model from the units at some positions and gives what scores the others; `networks` fits networks,
`linear_heads` the heads of frozen features. Folds of patients are those of `alneval.folds`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.special import expit

from alneval.folds import POPULATION, patient_level_folds, possible_folds
from alneval.resplit import auc_within_folds
from alneval.rows import seed_rows
from alneval.units import Units
from alnlib.errors import DoesNotApply
from alnlib.models.frozen import LinearHead
from alnlib.tasks import ordered
from alnlib.training.data import CropDataset
from alnlib.training.fit import FitSpec, fit_seeds, predict_logits

Recipe = Callable[[np.ndarray], Callable[[np.ndarray], np.ndarray]]
"""recipe(known)(others) gives logits (n_others, n_seeds): known, others are masks or positions; the model is their mean."""


def networks(spec: FitSpec, n_seeds: int, data: CropDataset, folder: str | Path | None = None) -> Recipe:
    """The recipe of `fit_seeds` on units of `data`; checkpoints are kept in `folder`."""

    def fit(known: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
        fitted = fit_seeds(spec, n_seeds, data.subset(known), folder)
        return lambda others: np.column_stack([predict_logits(each, data.subset(others)) for each in fitted])

    return fit


def linear_heads(
    features: np.ndarray, y: np.ndarray, patient_ids: np.ndarray, n_seeds: int, seed: int, patients_equal: bool = False
) -> Recipe:
    """The recipe of `fit_heads` on rows of features (n, F)."""

    def fit(known: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
        heads = fit_heads(features[known], y[known], patient_ids[known], n_seeds, seed, patients_equal)
        return lambda others: np.column_stack([head.decision_function(features[others]) for head in heads])

    return fit


def fit_heads(
    features: np.ndarray, y: np.ndarray, patient_ids: np.ndarray, n_seeds: int, seed: int, patients_equal: bool = False
) -> list[LinearHead]:
    """Heads that differ in the folds that chose their strength; features: (n, F), y: (n,) 0/1, patient_ids: (n,).

    patients_equal: as in `LinearHead`, for rows that are images of a patient.
    """
    rows = pd.DataFrame(features, index=np.asarray(patient_ids))
    return [LinearHead(seed=seed + k, patients_equal=patients_equal).fit(rows, y) for k in range(n_seeds)]


def out_of_fold_logits(
    recipe: Recipe,
    y: np.ndarray,
    patient_ids: np.ndarray,
    n_folds: int,
    seed: int,
    among: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Logits (n, n_seeds) of every unit by a model made without its patient, and the fold (n,) of each.

    Folds are stratified and those of `seed`, the same for every recipe; they are fewer than n_folds where a class has fewer
    patients. among: (n,) bool, the units that take part; None: all. The others have NaN and fold -1. Raises ValueError for
    fewer than two folds, DoesNotApply, which ends a stage, where a class has fewer than three patients.
    """
    among = np.ones(len(y), bool) if among is None else among
    fold = np.full(len(y), -1)
    if possible_folds(y[among], patient_ids[among], 3) < 3:
        raise DoesNotApply(
            "training and validation patients together are fewer than three of one class: cross-validation holds one out, "
            "and a penalty is chosen on two; add patients with images, or choose an endpoint that is less rare"
        )
    n_folds = possible_folds(y[among], patient_ids[among], n_folds)
    fold[among] = patient_level_folds(y[among], patient_ids[among], n_folds, np.random.default_rng(seed))
    parts = ordered(_held_out, [(among & (fold != k), fold == k) for k in range(n_folds)], (recipe,))
    logits = np.full((len(y), parts[0].shape[1]), np.nan)
    for k, part in enumerate(parts):
        logits[fold == k] = part
    return logits, fold


def _held_out(known_and_others: tuple[np.ndarray, np.ndarray], recipe: Recipe) -> np.ndarray:
    known, others = known_and_others
    return recipe(known)(others)


def held_out_logits(
    recipe: Recipe, y: np.ndarray, patient_ids: np.ndarray, n_folds: int, seed: int, among: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """`out_of_fold_logits` among the units (n,) bool, and of the others the logits of one more model, made from all of them.

    So every unit is scored by a model made without its patient, if no patient is on both sides of `among`.
    """
    logits, fold = out_of_fold_logits(recipe, y, patient_ids, n_folds, seed, among)
    if not among.all():
        logits[~among] = recipe(among)(~among)
    return logits, fold


def mean_of_images(logits: np.ndarray, patient_ids: np.ndarray) -> np.ndarray:
    """Logits (n_patients, n_fits) of patients: of each, the mean of those of the images.

    logits: (n, n_fits) of images; patient_ids: (n,). Patients come in the order of their first image. One image: its logits,
    to the last bit.
    """
    return np.ascontiguousarray(pd.DataFrame(logits).groupby(np.asarray(patient_ids), sort=False).mean())


def patient_and_image_rows(
    study: str, model: str, images: pd.DataFrame, endpoint: str, logits: np.ndarray, split: str = "", role: str = "main"
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Rows of predictions, one per patient by `mean_of_images` (`seed_rows`), and beside them the score of every image.

    images: (n,) patient_id, image_id, split and the endpoint, a patient's rows alike in the last two; logits: (n, n_fits);
    split: in place of theirs. The second table has patient_id, image_id, split, model, y_score; the population is not in it.
    """
    images = images.assign(split=split) if split else images
    patients = images.drop_duplicates("patient_id")
    whose = patients["split"], patients["patient_id"], patients[endpoint]
    predictions = seed_rows(study, model, *whose, mean_of_images(logits, images["patient_id"]), role=role)
    scores = images[["patient_id", "image_id", "split"]].assign(model=model, y_score=expit(logits.mean(axis=1)))
    return predictions, scores[scores["split"] != POPULATION]


def mean_of_models(*logits: np.ndarray) -> np.ndarray:
    """Logits (n, n_fits) of the models together, whose mean is the mean of each model's mean; fits are joined in turn.

    logits: (n, n_seeds) of each model; n_fits is the least common multiple of the n_seeds.
    """
    n_fits = np.lcm.reduce([each.shape[1] for each in logits])
    return np.mean([np.tile(each, n_fits // each.shape[1]) for each in logits], axis=0)


def choice_table(logits: Mapping[str, np.ndarray], fold: np.ndarray, y: np.ndarray) -> pd.DataFrame:
    """model, out_of_fold_auc, seed_sd, n_seeds, chosen; the best first, a tie goes to the first given.

    logits: {model: (n, n_seeds) out of fold}. The AUC is that of the mean logit from pairs of one fold, as different folds
    are scored by different fits; seed_sd the standard deviation of the single fits' AUCs, NaN of one. Units of fold -1 take
    no part.
    """
    rows, held = [], fold >= 0
    for model, columns in logits.items():
        of_mean, *single = (
            auc_within_folds(Units.of(y[held], column[held]), fold[held])
            for column in (columns.mean(axis=1), *columns.T)
        )
        spread = np.std(single, ddof=1) if len(single) > 1 else np.nan
        rows.append({"model": model, "out_of_fold_auc": of_mean, "seed_sd": spread, "n_seeds": len(single)})
    table = pd.DataFrame(rows).sort_values("out_of_fold_auc", ascending=False, kind="stable", ignore_index=True)
    return table.assign(chosen=table.index == 0)
