"""Predictions files: reading with every problem named, and the discrimination and comparison tables made from them.

The statistics live in the neighbouring modules; nothing here opens an image or a model.
"""

from __future__ import annotations

import csv
import zlib
from collections.abc import Iterable, Mapping
from itertools import combinations
from math import nan
from pathlib import Path

import numpy as np
import pandas as pd

from alnlib.errors import InputError, Problem
from alnlib.evaluation.bootstrap import percentile_limits, resample_weights
from alnlib.evaluation.inputs import as_labels
from alnlib.evaluation.multiplicity import holm
from alnlib.evaluation.roc import clustered_delong_auc, clustered_delong_test, delong_auc, delong_test
from alnlib.evaluation.thresholds import operating_point, youden_threshold

PREDICTION_COLUMNS = ("study", "model", "split", "patient_id", "unit_id", "y_true", "y_score")
SPLITS = ("train", "validation", "cross_validation", "test", "external")
THRESHOLD_SOURCES = ("validation", "cross_validation", "train")
OPERATING_QUANTITIES = ("sensitivity", "specificity", "ppv", "npv", "accuracy")
DISCRIMINATION_COLUMNS = (
    "study",
    "model",
    "split",
    "n",
    "n_positive",
    "auc",
    "auc_low",
    "auc_high",
    "threshold",
    *(f"{name}{end}" for name in OPERATING_QUANTITIES for end in ("", "_low", "_high")),
    "brier",
    "brier_low",
    "brier_high",
    "threshold_from",
    "note",
)
COMPARISON_COLUMNS = (
    "study",
    "split",
    "model_a",
    "model_b",
    "n",
    "auc_a",
    "auc_b",
    "delta",
    "delta_low",
    "delta_high",
    "method",
    "statistic",
    "p",
    "p_holm",
)

_TEXT_COLUMNS = ("study", "model", "split", "patient_id", "unit_id")


def read_predictions(paths: str | Path | Iterable[str | Path]) -> pd.DataFrame:
    """Read one or more predictions files into one frame with exactly the contract's columns, in file order.

    Identifiers stay text ("007"), y_true becomes int, y_score float; other columns are dropped. The rules of
    `validate_predictions` hold across all files together. Raises InputError with every problem of every file.
    """
    paths = [paths] if isinstance(paths, str | Path) else list(paths)
    if not paths:
        raise InputError("no predictions file was given")
    problems: list[Problem] = []
    tables = []
    for path in paths:
        table, found = _read_raw(Path(path))
        problems += found
        if table is not None:
            tables.append(table)
    if tables:
        raw = pd.concat(tables, ignore_index=True)
        problems += _content_problems(raw)
    if problems:
        files = ", ".join(str(path) for path in paths)
        raise InputError(f"the predictions cannot be evaluated ({files}):", problems)
    predictions = raw.loc[:, list(PREDICTION_COLUMNS)]
    return predictions.assign(
        y_true=pd.to_numeric(predictions["y_true"]).astype("int64"), y_score=predictions["y_score"].astype("float64")
    )


def validate_predictions(frame: pd.DataFrame, file: str = "predictions") -> list[Problem]:
    """Every problem of a predictions frame, by row (the first row of the frame is row 2, below the header).

    Checked: columns present; no empty name; split known; y_true 0 or 1; y_score a finite number in [0, 1]; a unit once
    per study, model and split; no patient in two splits of a model (cross_validation aside); one y_true per unit
    throughout a study. A unit is a pair of patient_id and unit_id, so "node 1" may occur in every patient.
    """
    missing = _missing_columns(frame.columns, file)
    if missing:
        return missing
    if frame.empty:
        return [_no_rows(file)]
    raw = frame.reset_index(drop=True).assign(_file=file, _row=np.arange(len(frame)) + 2)
    for column in _TEXT_COLUMNS:
        raw[column] = raw[column].astype("str").where(raw[column].notna(), "")
    return _content_problems(raw)


def clusters(rows: pd.DataFrame) -> pd.Series | None:
    """The patient of each row, for intervals that know which units share one; None where every patient has one row."""
    return rows["patient_id"] if rows["patient_id"].duplicated().any() else None


def discrimination_table(
    predictions: pd.DataFrame,
    thresholds: Mapping[tuple[str, str], float] | None = None,
    *,
    rng: np.random.Generator,
    n_bootstrap: int = 2000,
    confidence: float = 0.95,
) -> pd.DataFrame:
    """Discrimination of every study, model and split: one row each, columns DISCRIMINATION_COLUMNS.

    predictions: frame of the predictions contract. thresholds: {(study, model): threshold} fixed elsewhere; for the
    others Youden's threshold on the first of validation, cross_validation and train that has both classes, then applied
    to all splits. threshold_from says which ("given" if yours); without any, threshold and operating columns are nan.
    AUC intervals are DeLong's, sensitivity to accuracy Wilson's, Brier's resampled; where a patient has several rows
    they are Obuchowski's and bootstraps over patients. One class only: AUC nan. note says what a reader must know of a
    row, or is empty. Every row has its own random stream, named by study, model and split: adding a model or
    reordering rows changes no number.
    """
    thresholds = {} if thresholds is None else dict(thresholds)
    models = set(predictions[["study", "model"]].itertuples(index=False, name=None))
    unknown = sorted(set(thresholds) - models)
    if unknown:
        raise ValueError(f"thresholds name models without predictions: {unknown}")
    root = int(rng.integers(2**63))
    rows = []
    for (study, model), of_model in predictions.groupby(["study", "model"], sort=False):
        threshold, source = _locked_threshold(of_model, thresholds.get((study, model)))
        for split in _splits_of(of_model):
            row = {"study": study, "model": model, "split": split}
            stream = np.random.default_rng([root, *(zlib.crc32(name.encode()) for name in (study, model, split))])
            of_split = of_model[of_model["split"] == split]
            rows.append(row | _discrimination_row(of_split, threshold, source, stream, n_bootstrap, confidence))
    return pd.DataFrame(rows, columns=list(DISCRIMINATION_COLUMNS))


def comparison_table(
    predictions: pd.DataFrame, pairs: Iterable[tuple[str, str]] | None = None, *, confidence: float = 0.95
) -> pd.DataFrame:
    """Paired comparison of AUCs of models of one study in one split: columns COMPARISON_COLUMNS.

    pairs: (model_a, model_b), looked up in every study that has both; default: every pair, in order of appearance. Only
    units that both models predicted count, n of them. DeLong's paired test, Obuchowski's where a patient has several
    units. p_holm is corrected over the pairs of a study and split. What cannot be compared is nan, and method says why.
    Raises ValueError if a named model is in no study, or if two models disagree on a label.
    """
    if pairs is not None:
        pairs = list(pairs)
        unknown = sorted({model for pair in pairs for model in pair} - set(predictions["model"]))
        if unknown:
            raise ValueError(f"pairs name models without predictions: {unknown}")
    rows = []
    for study, of_study in predictions.groupby("study", sort=False):
        for split in _splits_of(of_study):
            of_split = of_study[of_study["split"] == split]
            by_model = dict(iter(of_split.groupby("model", sort=False)))
            wanted = combinations(by_model, 2) if pairs is None else pairs
            compared = [
                {"study": study, "split": split, "model_a": a, "model_b": b}
                | _comparison_row(by_model[a], by_model[b], confidence)
                for a, b in wanted
                if a in by_model and b in by_model
            ]
            adjusted = holm([row["p"] for row in compared])
            rows += [row | {"p_holm": p} for row, p in zip(compared, adjusted, strict=True)]
    return pd.DataFrame(rows, columns=list(COMPARISON_COLUMNS))


def _splits_of(predictions: pd.DataFrame) -> list[str]:
    present = set(predictions["split"])
    return [split for split in SPLITS if split in present] + sorted(present - set(SPLITS))


def _locked_threshold(of_model: pd.DataFrame, given: float | None) -> tuple[float, str]:
    if given is not None:
        return float(given), "given"
    for source in THRESHOLD_SOURCES:
        chosen_on = of_model[of_model["split"] == source]
        if chosen_on["y_true"].nunique() == 2:
            return youden_threshold(chosen_on["y_true"], chosen_on["y_score"]), source
    return nan, ""


def _discrimination_row(
    of_split: pd.DataFrame,
    threshold: float,
    source: str,
    rng: np.random.Generator,
    n_bootstrap: int,
    confidence: float,
) -> dict[str, object]:
    # resamples draw positions, and the order of rows must not matter
    of_split = of_split.sort_values(["patient_id", "unit_id"])
    positive = as_labels(of_split["y_true"])
    score = of_split["y_score"].to_numpy(dtype=float)
    patients = of_split["patient_id"].to_numpy()
    clustered = pd.Series(patients).duplicated().any()
    cluster = patients if clustered else None
    row: dict[str, object] = {"n": positive.size, "n_positive": int(positive.sum()), "threshold": threshold}
    notes = []
    if positive.all() or not positive.any():
        row |= {"auc": nan, "auc_low": nan, "auc_high": nan}
        notes.append("one class only")
    else:
        if clustered:
            area = clustered_delong_auc(positive, score, cluster, confidence=confidence)
            notes.append(f"intervals by patient ({area.n_clusters} patients)")
        else:
            area = delong_auc(positive, score, confidence=confidence)
        row |= {"auc": area.auc, "auc_low": area.low, "auc_high": area.high}
        if area.standard_error == 0:
            notes.append("AUC interval has no width: zero DeLong variance")
    if np.isfinite(threshold):
        point = operating_point(
            positive, score, threshold, cluster=cluster, rng=rng, n_bootstrap=n_bootstrap, confidence=confidence
        )
        for name in OPERATING_QUANTITIES:
            share = getattr(point, name)
            row |= {name: share.value, f"{name}_low": share.low, f"{name}_high": share.high}
        if source == of_split["split"].iloc[0]:
            notes.append("threshold chosen on these rows")
    else:
        row |= {f"{name}{end}": nan for name in OPERATING_QUANTITIES for end in ("", "_low", "_high")}
        notes.append("no split to choose a threshold on")
    squared_error = (score - positive) ** 2
    # Brier is one number per unit: all resamples are one product with the weights
    resampled = np.concatenate(
        [
            weights @ squared_error / weights.sum(axis=1)
            for weights in resample_weights(positive.size, n_bootstrap, rng, cluster=cluster)
        ]
    )
    low, high = percentile_limits(resampled, confidence)
    row |= {"brier": float(squared_error.mean()), "brier_low": float(low), "brier_high": float(high)}
    return row | {"threshold_from": source, "note": "; ".join(notes)}


def _comparison_row(rows_a: pd.DataFrame, rows_b: pd.DataFrame, confidence: float) -> dict[str, object]:
    unit = ["patient_id", "unit_id"]
    common = rows_a.merge(rows_b, on=unit, suffixes=("_a", "_b"), validate="one_to_one")
    disagreeing = common.loc[common["y_true_a"] != common["y_true_b"], "unit_id"]
    if len(disagreeing):
        raise ValueError(f"models disagree on y_true of units {list(disagreeing[:5])}")
    row: dict[str, object] = {"n": len(common)}
    row |= dict.fromkeys(("auc_a", "auc_b", "delta", "delta_low", "delta_high", "statistic", "p"), nan)
    if common.empty:
        return row | {"method": "not estimable: no unit in common"}
    if common["y_true_a"].nunique() < 2:
        return row | {"method": "not estimable: one class only"}
    arrays = (common["y_true_a"], common["y_score_a"], common["y_score_b"])
    if common["patient_id"].duplicated().any():
        result = clustered_delong_test(*arrays, common["patient_id"], confidence=confidence)
    else:
        result = delong_test(*arrays, confidence=confidence)
    return row | {
        "auc_a": result.auc_a,
        "auc_b": result.auc_b,
        "delta": result.delta,
        "delta_low": result.low,
        "delta_high": result.high,
        "method": result.method,
        "statistic": result.statistic,
        "p": result.p,
    }


def _read_raw(path: Path) -> tuple[pd.DataFrame | None, list[Problem]]:
    """One file as text, with its name and line numbers, or None; and the problems that its shape has."""
    file = str(path)
    rows, lines, problems = [], [], []
    try:
        # the csv module, unlike pandas, counts the lines that an editor shows and says which row is ragged
        with open(path, newline="", encoding="utf-8-sig") as stream:
            reader = csv.reader(stream)
            header = [name.strip() for name in next(reader, [])]
            for fields in reader:
                if not any(field.strip() for field in fields):
                    continue
                if len(fields) < len(header) or any(fields[len(header) :]):
                    message = f"{len(fields)} fields under a header of {len(header)}"
                    remedy = "give every row one field per column; quote a field that holds a comma"
                    problems.append(Problem(file, reader.line_num, None, ",".join(fields)[:80], message, remedy))
                    continue
                rows.append(fields[: len(header)])
                lines.append(reader.line_num)
    except FileNotFoundError:
        return None, [Problem(file, None, None, None, "the file does not exist", "check the path")]
    except IsADirectoryError:
        return None, [Problem(file, None, None, None, "this is a folder", "name the .csv files in it")]
    except UnicodeDecodeError:
        return None, [Problem(file, None, None, None, "the file is not UTF-8 text", "save it as CSV in UTF-8")]
    except (OSError, csv.Error) as error:
        return None, [Problem(file, None, None, None, f"the file cannot be read: {error}", "save it as plain CSV")]
    missing = _missing_columns(header, file) if header else []
    repeated = sorted({name for name in PREDICTION_COLUMNS if header.count(name) > 1})
    missing += [Problem(file, 1, name, None, "the column is there twice", "keep one of them") for name in repeated]
    if missing:
        return None, missing
    if not rows:
        return None, problems or [_no_rows(file)]
    table = pd.DataFrame(rows, columns=header, dtype="str")
    return table[list(PREDICTION_COLUMNS)].assign(_file=file, _row=lines), problems


def _missing_columns(columns: Iterable[object], file: str) -> list[Problem]:
    present = [str(column) for column in columns]
    remedy = f"add it; the columns are {', '.join(PREDICTION_COLUMNS)}, separated by commas"
    return [
        Problem(file, 1, column, ", ".join(present)[:200], "the column is missing", remedy)
        for column in PREDICTION_COLUMNS
        if column not in present
    ]


def _no_rows(file: str) -> Problem:
    return Problem(file, None, None, None, "there are no predictions in it", "write one row per unit, model and split")


def _content_problems(raw: pd.DataFrame) -> list[Problem]:
    """Problems of rows that have all columns, _file and _row; in file and row order."""
    label = pd.to_numeric(raw["y_true"], errors="coerce")
    score = pd.to_numeric(raw["y_score"], errors="coerce")
    found: list[tuple[int, Problem]] = []

    def report(bad: pd.Series, column: str, message: str, remedy: str, value: pd.Series | None = None) -> None:
        shown = raw[column] if value is None else value
        places = zip(np.flatnonzero(bad), raw.loc[bad, "_file"], raw.loc[bad, "_row"], shown[bad], strict=True)
        for position, file, row, text in places:
            found.append((position, Problem(file, int(row), column, str(text), message, remedy)))

    for column in _TEXT_COLUMNS:
        report(raw[column].str.strip() == "", column, "empty", "every row needs a value here")
    unknown = ~raw["split"].isin(SPLITS) & (raw["split"].str.strip() != "")
    report(unknown, "split", "unknown split", f"use one of {', '.join(SPLITS)}")
    labelled = label.isin((0, 1))
    report(~labelled, "y_true", "not 0 or 1", "1 is the positive class; leave out units without a known outcome")
    finite = pd.Series(np.isfinite(score.to_numpy(dtype=float)), index=raw.index)
    report(~finite, "y_score", "not a finite number", "give a probability, or leave the row out")
    outside = finite & ~score.between(0, 1)
    report(
        outside, "y_score", "not in [0, 1]", "give the probability of the positive class, not a logit or a percentage"
    )

    unit = ["study", "patient_id", "unit_id"]
    in_split = [*unit, "model", "split"]
    first = _first_place(raw, in_split)
    report(
        raw.duplicated(in_split),
        "unit_id",
        "predicted twice by the same model in the same split",
        "keep one row per unit (average repeated predictions)",
        raw["unit_id"] + first.radd("; first in "),
    )
    fixed = raw["split"] != "cross_validation"
    of_patient = ["study", "model", "patient_id"]
    home = raw["split"].where(fixed).groupby([raw[name] for name in of_patient]).transform("first")
    report(
        fixed & raw["split"].isin(SPLITS) & (raw["split"] != home),
        "patient_id",
        "the patient is in two splits of the same model",
        "split by patient, so that nobody is both learned from and tested on",
        raw["patient_id"] + home.fillna("").radd(": ") + raw["split"].radd(" and "),
    )
    known = label.where(labelled)
    usual = known.groupby([raw[name] for name in unit]).transform("first")
    report(
        labelled & (known != usual),
        "y_true",
        "the same unit has another y_true elsewhere in the study",
        "one unit has one outcome: correct the wrong row, or give the other endpoint its own study name",
        raw["unit_id"] + raw["y_true"].astype("str").radd(": "),
    )
    return [problem for _, problem in sorted(found, key=lambda item: item[0])]


def _first_place(raw: pd.DataFrame, keys: list[str]) -> pd.Series:
    """ "file, row n" of the first row with the same keys."""
    groups = raw.groupby(keys, sort=False, dropna=False)
    return groups["_file"].transform("first") + groups["_row"].transform("first").astype("str").radd(", row ")
