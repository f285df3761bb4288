"""Patient-level splits and folds: made once, stratified, frozen to splits.csv and checked when read.

Resampling for the evaluation (bootstrap, repeated resplits) lives in `alneval`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from alnlib.errors import InputError, Problem
from alnlib.files import write_csv

GIVEN_SPLITS = ("train", "validation", "test", "external", "population")
"""Those that a cohort may give and a patient has one of; predictions also know cross_validation."""

POPULATION = "population"
"""Patients who train nothing and whom no study has: many, to see what a trained model is worth."""

SPLIT_COLUMNS = ("patient_id", "split")
DEVELOPMENT_SPLITS = ("train", "validation", "test")


def patient_level_splits(
    patients: pd.DataFrame,
    endpoint: str,
    *,
    rng: np.random.Generator,
    test_fraction: float = 0.30,
    validation_fraction_of_rest: float = 0.20,
    external_centers: Sequence[str] = (),
) -> pd.DataFrame:
    """Assign every patient to a split of GIVEN_SPLITS; return patient_id and split, sorted by patient_id.

    patients: one row per patient, the endpoint known for all (`Cohort.known`). Patients of `external_centers` are
    external. Of the others, round(test_fraction n) are tested and round(validation_fraction_of_rest (n - test)) validate,
    exactly; the same holds within each class up to one patient, each class being in each split. The result depends on `rng`
    and on the set of patients, not on the order of rows.

    A `split` column that comes with the patients is kept; only where it names no validation patients are they drawn from
    its training patients, by the same rule. Where it names the population alone, the other patients are split as above.

    Raises ValueError for an unknown endpoint value or a repeated patient, InputError where a class is too small for three
    splits or a given split is incomplete.
    """
    frame = _sorted_patients(patients, endpoint)
    for fraction, name in (
        (test_fraction, "test_fraction"),
        (validation_fraction_of_rest, "validation_fraction_of_rest"),
    ):
        if not 0 < fraction < 1:
            raise ValueError(f"{name} must be between 0 and 1, not {fraction}")
    given = frame["split"] if "split" in frame else pd.Series("", index=frame.index)
    given = given.mask(given == "")
    if given.dropna().ne(POPULATION).any():
        split = _given_splits(frame)
    else:
        split = given.fillna("train").astype("str")
        split[frame["center"].isin(list(external_centers)) & split.ne(POPULATION)] = "external"
        rest = frame[split == "train"]
        _require_patients(rest, endpoint, 3)
        split[_draw(rest, endpoint, test_fraction, rng)] = "test"
    if not (split == "validation").any():
        rest = frame[split == "train"]
        _require_patients(rest, endpoint, 2)
        split[_draw(rest, endpoint, validation_fraction_of_rest, rng)] = "validation"
    return pd.DataFrame({"patient_id": frame["patient_id"], "split": split.astype("str")})


def patient_level_folds(
    y: np.ndarray, patient_ids: Sequence[str], n_folds: int, rng: np.random.Generator
) -> np.ndarray:
    """Cross-validation fold (n,) 0 .. n_folds - 1 of every row; a patient's rows share one.

    y: (n,) 0/1; a patient counts as positive if any row is. Fold sizes, and the numbers of each class in them, differ by
    at most one patient; independent of the order of rows. Raises ValueError for other labels, InputError where a class
    has fewer patients than there are folds.
    """
    if n_folds < 2:
        raise ValueError(f"n_folds must be at least 2, not {n_folds}")
    labels = np.asarray(y)
    if labels.shape != (len(patient_ids),) or not np.isin(labels, (0, 1)).all():
        raise ValueError(f"y must be {len(patient_ids)} labels, each 0 or 1")
    frame = pd.DataFrame({"patient_id": [str(patient) for patient in patient_ids], "y": labels.astype(int)})
    by_patient = frame.groupby("patient_id", as_index=False)["y"].max()
    _require_patients(by_patient, "y", n_folds)
    # the second class goes on dealing where the first stopped, so that fold sizes differ by at most one
    order = np.concatenate([rng.permutation(by_patient.index[by_patient["y"] == label]) for label in (1, 0)])
    fold_of = dict(zip(by_patient["patient_id"].iloc[order], np.arange(len(order)) % n_folds, strict=True))
    return frame["patient_id"].map(fold_of).to_numpy(np.int64)


def possible_folds(y: np.ndarray, patient_ids: Sequence[str], n_folds: int) -> int:
    """n_folds, or the number of patients of the smaller class where that is less; no less than 2.

    y: (n,) 0/1; a patient counts as positive if any row is. More `patient_level_folds` cannot make.
    """
    by_patient = pd.Series(np.asarray(y, dtype=int)).groupby(np.asarray(patient_ids).astype(str)).max()
    return min(n_folds, max(2, min(np.bincount(by_patient, minlength=2))))


def patient_shares(patient_ids: Sequence[str]) -> np.ndarray | None:
    """Weight (n,) of each row, 1 / number of its patient's rows, so that every patient counts as one.

    None where each has one row: plain sums then stay plain, to the last bit.
    """
    _, place, counts = np.unique(np.asarray(patient_ids).astype(str), return_inverse=True, return_counts=True)
    return None if (counts == 1).all() else 1 / counts[place]


def attach_splits(patients: pd.DataFrame, splits: pd.DataFrame) -> pd.DataFrame:
    """Patients with their frozen split; raises InputError naming the patients that the splits do not cover."""
    known = dict(zip(splits["patient_id"], splits["split"], strict=True))
    absent = [patient for patient in patients["patient_id"] if patient not in known]
    if absent:
        shown = ", ".join(absent[:5]) + (f" and {len(absent) - 5} more" if len(absent) > 5 else "")
        raise InputError(
            f"splits.csv has no split for {len(absent)} patients of this cohort ({shown}): the cohort changed since the splits "
            "were frozen; run the cohort stage again with --force"
        )
    return patients.assign(split=patients["patient_id"].map(known).astype("str"))


def splits_digest(splits: pd.DataFrame) -> str:
    """SHA-256 of the assignment itself, whatever the order of rows; recorded with every result that rests on it."""
    lines = sorted(
        f"{patient}\t{split}\n" for patient, split in zip(splits["patient_id"], splits["split"], strict=True)
    )
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def write_splits(splits: pd.DataFrame, path: str | Path) -> Path:
    """Freeze splits to a file, sorted by patient. Raises ValueError if a patient has two or a split is unknown."""
    if splits["patient_id"].duplicated().any():
        raise ValueError("a patient has two splits")
    unknown = set(splits["split"]) - set(GIVEN_SPLITS)
    if unknown:
        raise ValueError(f"unknown splits {sorted(unknown)}")
    return write_csv(splits[list(SPLIT_COLUMNS)].sort_values("patient_id"), path)


def read_splits(path: str | Path, digest: str | None = None) -> pd.DataFrame:
    """Read frozen splits: patient_id and split, both text.

    Raises InputError for a missing file, a missing column, an unknown split, a patient in two splits or given twice, and,
    where `digest` is given, for an assignment other than the one it was taken from (`splits_digest`).
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no frozen splits there; run the cohort stage (11_cohort) first")
    try:
        table = pd.read_csv(path, dtype="str", keep_default_na=False, encoding="utf-8-sig")
    except (UnicodeDecodeError, pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise InputError(f"{path}: not a CSV table ({error}); delete it and run the cohort stage again") from error
    missing = [column for column in SPLIT_COLUMNS if column not in table.columns]
    if missing:
        raise InputError(f"{path}: column {' and '.join(missing)} missing; a splits file has patient_id and split")
    problems = []
    first = dict(zip(table["patient_id"][::-1], table.index[::-1], strict=True))
    for at, patient, split in table[list(SPLIT_COLUMNS)].itertuples():
        place, before = (str(path), at + 2), first[patient]
        if split not in GIVEN_SPLITS:
            remedy = f"use {', '.join(GIVEN_SPLITS)}"
            problems.append(Problem(*place, "split", split, f"unknown split of patient {patient}", remedy))
        if before < at:
            other = table["split"][before]
            message = f"patient appears more than once (first at row {before + 2})"
            if other != split:
                message = f"patient is in two splits ({other} at row {before + 2}, {split} at row {at + 2})"
            remedy = "keep each patient in one split, on one line"
            problems.append(Problem(*place, "patient_id", patient, message, remedy))
    if problems:
        raise InputError(f"{path}: the splits are not usable", problems)
    splits = table[list(SPLIT_COLUMNS)]
    if digest is not None and splits_digest(splits) != digest:
        raise InputError(
            f"{path}: these are not the splits that were frozen (sha256 differs); restore the file or run again with --force"
        )
    return splits


def _sorted_patients(patients: pd.DataFrame, endpoint: str) -> pd.DataFrame:
    if endpoint not in patients.columns:
        raise ValueError(f"no endpoint column {endpoint!r}")
    if patients["patient_id"].duplicated().any():
        raise ValueError("patient_id is repeated; splits are made from one row per patient")
    if not patients[endpoint].isin([0, 1]).all():
        raise ValueError(f"{endpoint} is not 0 or 1 for every patient; take Cohort.known({endpoint!r})")
    return patients.sort_values("patient_id", ignore_index=True)


def _given_splits(frame: pd.DataFrame) -> pd.Series:
    split = frame["split"]
    if not split.isin(GIVEN_SPLITS).all():
        patient = frame.loc[~split.isin(GIVEN_SPLITS), "patient_id"].iat[0]
        raise InputError(
            f"patient {patient}: no split, or an unknown one, in a cohort that gives splits; use {', '.join(GIVEN_SPLITS)}, "
            "or remove the split column from patients.csv"
        )
    for needed in ("train", "test"):
        if not (split == needed).any():
            raise InputError(
                f"the split column of patients.csv names no {needed} patients; name some, or remove the column"
            )
    return split.copy()


def _require_patients(frame: pd.DataFrame, endpoint: str, at_least: int) -> None:
    for label in (0, 1):
        count = int((frame[endpoint] == label).sum())
        if count < at_least:
            raise InputError(
                f"{endpoint}: {count} development patients with label {label}, at least {at_least} are needed to split them; "
                "add patients or choose another endpoint"
            )


def _draw(frame: pd.DataFrame, endpoint: str, fraction: float, rng: np.random.Generator) -> pd.Index:
    """Index of round(fraction n) patients, shared out over the classes by largest remainder."""
    members = [frame.index[frame[endpoint] == label] for label in (0, 1)]
    sizes = np.array([len(of_class) for of_class in members])
    total = int(np.floor(fraction * len(frame) + 0.5))
    # every class in every split, at the price of the exact total only in cohorts of a handful of patients
    quotas = np.clip(_share_out(total, sizes), 1, sizes - 1)
    drawn = [rng.permutation(of_class)[:quota] for of_class, quota in zip(members, quotas, strict=True)]
    return pd.Index(np.concatenate(drawn))


def _share_out(total: int, sizes: np.ndarray) -> np.ndarray:
    """Whole numbers in proportion to `sizes` that sum to `total` (largest remainder; ties go to the earlier)."""
    exact = total * sizes / sizes.sum()
    shares = np.floor(exact).astype(int)
    order = np.argsort(-(exact - shares), kind="stable")
    shares[order[: total - shares.sum()]] += 1
    return shares
