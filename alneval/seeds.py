"""Single fits of a model: which they are, and how far a result moves from one fit to the next.

A model that depends on a seed may be the mean logit of several fits. Its file may hold these beside it, as rows of role
"member" of a model named "<model>/seed <k>". They are no models: nothing ranks, compares or audits them; they only say how
much of a result is the seed's. An interval over patients says how much is theirs, and lives in `delong` and `estimate`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from alneval.delong import auc

MEMBER = "member"
SPREAD_COLUMNS = ("study", "model", "split", "auc_seed_sd", "n_seeds")
_NAME = r"^(?P<model>.+)/seed (?P<seed>0|[1-9]\d*)$"


def models_only(predictions: pd.DataFrame) -> pd.DataFrame:
    """The rows of models, without those of single fits; a frame without roles holds models only."""
    return predictions[predictions["role"] != MEMBER] if "role" in predictions else predictions


def fits_of(names: pd.Series) -> pd.DataFrame:
    """The model and the seed (text) that each name of a single fit holds; both missing where it holds none. Index of names."""
    return names.astype("str").str.extract(_NAME)


def single_fits(predictions: pd.DataFrame) -> pd.DataFrame:
    """The rows of single fits, with the model that they are fits of in `model` and an integer `seed` beside it."""
    rows = predictions[predictions["role"] == MEMBER] if "role" in predictions else predictions[:0]
    named = fits_of(rows["model"])
    return rows.assign(model=named["model"], seed=named["seed"].astype(int))


def seed_spread(predictions: pd.DataFrame) -> pd.DataFrame:
    """Sample SD (n - 1) of the AUC over the single fits of each study, model and split that has some: SPREAD_COLUMNS.

    n_seeds: how many. One fit, or one class, has no SD (nan). It is that of single fits: their mean, which stands for the
    model, moves less.
    """
    rows = []
    for key, part in single_fits(predictions).groupby(["study", "model", "split"], sort=False):
        areas = [_area(fit) for _, fit in part.groupby("seed")]
        rows.append((*key, _sd(areas), len(areas)))
    return pd.DataFrame(rows, columns=list(SPREAD_COLUMNS)).astype({"auc_seed_sd": float, "n_seeds": "Int64"})


def contrast_seed_sd(of_study: pd.DataFrame, sides: Sequence[tuple[str, str]]) -> float:
    """Sample SD over seeds of the AUC of the first side, or of that less the AUC of the second.

    of_study: rows of one study; sides: one or two (model, split); two of one split on the units that both scored. Seed k of
    one side goes with seed k of the other. A side without single fits stays as it is, so that the spread is too small
    where it learned from the other. nan with fewer than two seeds.
    """
    fits = single_fits(of_study)
    fitted = [dict(iter(_of(fits, *side).groupby("seed"))) for side in sides]
    known = [set(by_seed) for by_seed in fitted if by_seed]
    shared = sorted(set.intersection(*known)) if known else []
    whole = [_of(of_study, *side) for side in sides]
    drawn = [[by_seed.get(seed, rows) for by_seed, rows in zip(fitted, whole, strict=True)] for seed in shared]
    paired = len({split for _, split in sides}) == 1
    return _sd([_contrast(rows, paired) for rows in drawn])


def _of(rows: pd.DataFrame, model: str, split: str) -> pd.DataFrame:
    return rows[(rows["model"] == model) & (rows["split"] == split)]


def _contrast(sides: Sequence[pd.DataFrame], paired: bool) -> float:
    unit = ["patient_id", "unit_id"]
    if paired:
        shared = sides[0][unit].merge(sides[-1][unit])
        sides = [rows.merge(shared) for rows in sides]
    first, *others = (_area(rows) for rows in sides)
    return first - sum(others)


def _area(rows: pd.DataFrame) -> float:
    return auc(rows["y_true"], rows["y_score"]) if rows["y_true"].nunique() == 2 else np.nan


def _sd(values: Sequence[float]) -> float:
    return float(pd.Series(values, dtype=float).std(ddof=1))
