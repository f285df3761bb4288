"""Predictions files: reading with every problem named, and the tables of discrimination and comparison made from them.

The statistics live in the neighboring modules; nothing here opens an image or a model.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import combinations
from math import nan
from pathlib import Path

import numpy as np
import pandas as pd

from alneval.curves import average_precision, brier, partial_auc, sensitivity_at
from alneval.delong import auc_difference, auc_interval
from alneval.estimate import Estimate, interval, once, percentile_limits, resamples
from alneval.mcnemar import clustered_mcnemar_p, mcnemar_p
from alneval.methods import USUAL, Methods
from alneval.multiplicity import holm
from alneval.reclassification import reclassification
from alneval.seeds import MEMBER, SPREAD_COLUMNS, fits_of, models_only, seed_spread
from alneval.sheets import read_sheet
from alneval.thresholds import QUANTITIES, operating_point
from alneval.units import Units
from alnlib.errors import InputError, Problem

PREDICTION_COLUMNS = ("study", "model", "role", "split", "patient_id", "unit_id", "y_true", "y_score")
ROLES = ("main", "candidate", "companion", MEMBER)
"""What a model is: main stands for its study; a candidate is what another choice would have given; a companion stands
beside a main model, such as one that also has a reader's read; a member is one of the fits, "<main model>/seed <k>", whose
mean logit a main model is (see `seeds`). A file without the column holds main models."""

SPLITS = ("train", "validation", "cross_validation", "test", "external", "population")
THRESHOLD_SOURCES = ("validation", "cross_validation", "train")
MOST_ALIKE = 5
"""Problems of a kind in a column of a file that are listed with their rows; of the others the number is told."""

GIVEN = "given"
"""Where a threshold comes from that was fixed beforehand."""

ONE_SCORE = "one score for all: an AUC of 0.5 that says nothing"
SEPARATED = "zero DeLong variance"
RANKS_ONLY = "scores outside 0 to 1: ranks only"
"""Notes of a discrimination table."""

DISCRIMINATION_COLUMNS = (
    *("study", "model", "split", "n", "n_positive", "auc", "auc_low", "auc_high", "auc_method"),
    *("auc_seed_sd", "n_seeds", "threshold"),
    *(f"{name}{end}" for name in (*QUANTITIES, "brier") for end in ("", "_low", "_high")),
    *("threshold_from", "note"),
)
COMPARISON_COLUMNS = (
    *("study", "split", "model_a", "model_b", "n", "auc_a", "auc_b", "delta", "delta_low", "delta_high"),
    *("method", "statistic", "degrees_of_freedom", "p", "p_holm"),
)

CALL_COLUMNS = (
    *("study", "split", "model_a", "model_b", "positives_a_only", "positives_b_only", "p_mcnemar_positives"),
    *("negatives_a_only", "negatives_b_only", "p_mcnemar_negatives", "method_mcnemar"),
)
CURVE_QUANTITIES = ("partial_auc", "sensitivity_at_specificity", "average_precision")
CURVE_COLUMNS = (
    *("study", "model", "split", "n", "n_positive"),
    *(f"{name}{end}" for name in CURVE_QUANTITIES for end in ("", "_low", "_high")),
)
RECLASSIFICATION_QUANTITIES = ("nri_events", "nri_non_events", "idi")
RECLASSIFICATION_COLUMNS = (
    *("study", "split", "model_old", "model_new", "n", "n_positive"),
    *(f"{name}{end}" for name in RECLASSIFICATION_QUANTITIES for end in ("", "_low", "_high")),
)

_TEXT_COLUMNS = ("study", "model", "role", "split", "patient_id", "unit_id")
_REQUIRED = tuple(column for column in PREDICTION_COLUMNS if column != "role")
_NEEDED = ("patient_id", "y_true")
"""Of a file; the others have defaults."""


def read_predictions(
    paths: str | Path | Iterable[str | Path],
    *,
    any_scale: bool = False,
    scores: Sequence[str] = (),
    extra: Sequence[str] = (),
) -> pd.DataFrame:
    """Read one or more predictions files (`sheets.read_sheet`) into one frame with the contract's columns, in file order.

    Long, a row per model and unit, or wide, a column of scores per model: those named in `scores`, else every further column
    with numbers, an empty cell where a model did not score. Without study, split, model or unit_id: "study", test, the name of
    the file, the patient. Identifiers stay text ("007"), y_true becomes int, y_score float; other columns are dropped but
    those in `extra`, which stay text and are one per patient. any_scale: scores may leave
    [0, 1]. The rules of `validate_predictions` hold across all files together. Raises InputError with every problem of
    every file.
    """
    paths = [paths] if isinstance(paths, str | Path) else list(paths)
    if not paths:
        raise InputError("no predictions file was given")
    problems: list[Problem] = []
    tables = []
    for path in paths:
        table, found = _read_raw(Path(path), scores, extra)
        problems += found
        if table is not None:
            tables.append(table)
    if tables:
        raw = pd.concat(tables, ignore_index=True)
        problems += _content_problems(raw, any_scale, extra)
    if problems:
        files = ", ".join(str(path) for path in paths)
        raise InputError(f"the predictions cannot be evaluated ({files}):", problems)
    predictions = raw.loc[:, [*PREDICTION_COLUMNS, *extra]]
    return predictions.assign(
        y_true=pd.to_numeric(predictions["y_true"]).astype("int64"), y_score=predictions["y_score"].astype("float64")
    )


def validate_predictions(frame: pd.DataFrame, file: str = "predictions") -> list[Problem]:
    """Every problem of a predictions frame, by row (the first row of the frame is row 2, below the header).

    Checked: columns present (`role` may be missing: every model is then main); no empty name; role and split known, one role
    per model; a member named after a main model of its study, and scoring no other units than that one; y_true 0 or 1;
    y_score a finite number in [0, 1]; a unit once per study, model and split; no patient in two splits of a model
    (cross_validation aside); one y_true per unit throughout a study. A unit is a pair of patient_id and unit_id, so
    "node 1" may occur in every patient.
    """
    missing = _missing_columns(frame.columns, file)
    if missing:
        return missing
    if frame.empty:
        return [_no_rows(file)]
    frame = frame if "role" in frame else frame.assign(role="main")
    raw = frame.reset_index(drop=True).assign(_file=file, _row=np.arange(len(frame)) + 2, _column="y_score")
    for column in _TEXT_COLUMNS:
        raw[column] = raw[column].astype("str").where(raw[column].notna(), "")
    return _content_problems(raw)


def discrimination_table(
    predictions: pd.DataFrame,
    *,
    rng: np.random.Generator,
    n_bootstrap: int = 2000,
    confidence: float = 0.95,
    methods: Methods = USUAL,
) -> pd.DataFrame:
    """Discrimination of every study, model and split: one row each, columns DISCRIMINATION_COLUMNS.

    predictions: frame of the predictions contract; single fits get no row but give their model's auc_seed_sd and n_seeds
    (`seed_spread`), empty where there are none. The threshold is that of `methods`: fixed beforehand, or chosen on the first of
    validation, cross_validation and train that has both classes, then applied to all splits. threshold_from says which
    ("given" if fixed); without any, threshold and operating columns are nan. AUC intervals are DeLong's, as auc_method says
    in full, sensitivity to accuracy Wilson's, Brier's resampled and nan for a model whose scores leave [0, 1]; where a
    patient has several rows they are Obuchowski's and bootstraps over patients. One class only: AUC nan. note says what a
    reader must know of a row, or is empty. Every row has its own random stream, named by study, model and split: adding a
    model or reordering rows changes no number.
    """
    spread, predictions = seed_spread(predictions), models_only(predictions)
    models = set(predictions[["study", "model"]].itertuples(index=False, name=None))
    unknown = sorted(set(methods.thresholds) - models)
    if unknown:
        raise ValueError(f"thresholds name models without predictions: {unknown}")
    root = int(rng.integers(2**63))
    rows = []
    for (study, model), of_model in predictions.groupby(["study", "model"], sort=False):
        threshold, source = _locked_threshold(of_model, methods)
        is_probability = bool(of_model["y_score"].between(0, 1).all())
        for split in _splits_of(of_model):
            row = {"study": study, "model": model, "split": split}
            stream = _stream(root, (study, model, split))
            of_split = of_model[of_model["split"] == split]
            settings = (threshold, source, is_probability, stream, n_bootstrap, confidence, methods.interval)
            rows.append(row | _discrimination_row(of_split, *settings))
    table = pd.DataFrame(rows, columns=[name for name in DISCRIMINATION_COLUMNS if name not in SPREAD_COLUMNS[3:]])
    return table.merge(spread, how="left")[list(DISCRIMINATION_COLUMNS)]


def comparison_table(
    predictions: pd.DataFrame,
    pairs: Iterable[tuple[str, str]] | None = None,
    *,
    confidence: float = 0.95,
    methods: Methods = USUAL,
) -> pd.DataFrame:
    """Paired comparison of AUCs of models of one study in one split: columns COMPARISON_COLUMNS.

    pairs: (model_a, model_b), looked up in every study that has both; default: every pair, in order of appearance. Only
    units that both models predicted count, n of them. DeLong's paired test, Obuchowski's where a patient has several
    units; methods says whether Student's t or the normal is referred to (without degrees_of_freedom). p_holm is corrected
    over the pairs of a study and split. What cannot be compared is nan, and method says why.
    Raises ValueError if a named model is in no study, or if two models disagree on a label.
    """
    if pairs is not None:
        pairs = list(pairs)
        unknown = sorted({model for pair in pairs for model in pair} - set(predictions["model"]))
        if unknown:
            raise ValueError(f"pairs name models without predictions: {unknown}")
    rows = []
    for study, split, by_model in _by_split(predictions):
        wanted = combinations(by_model, 2) if pairs is None else pairs
        compared = [
            {"study": study, "split": split, "model_a": a, "model_b": b}
            | _comparison_row(by_model[a], by_model[b], confidence, methods.reference)
            for a, b in wanted
            if a in by_model and b in by_model
        ]
        adjusted = holm([row["p"] for row in compared])
        rows += [row | {"p_holm": p} for row, p in zip(compared, adjusted, strict=True)]
    return pd.DataFrame(rows, columns=list(COMPARISON_COLUMNS))


def locked_thresholds(predictions: pd.DataFrame, methods: Methods = USUAL) -> dict[tuple[str, str], float]:
    """{(study, model): threshold} as `discrimination_table` chooses it; a model without a split to choose it on is left out."""
    chosen = {
        key: _locked_threshold(rows, methods)[0] for key, rows in predictions.groupby(["study", "model"], sort=False)
    }
    return {key: value for key, value in chosen.items() if np.isfinite(value)}


def call_comparison_table(predictions: pd.DataFrame, thresholds: Mapping[tuple[str, str], float]) -> pd.DataFrame:
    """McNemar's test of the calls of every pair of models at their locked thresholds: columns CALL_COLUMNS.

    predictions: rows of the contract on which the thresholds were not chosen; thresholds: {(study, model): threshold}, of
    `locked_thresholds`; pairs lacking one are left out. positives_a_only: positives that only model a calls positive
    (sensitivity); negatives_a_only: negatives that only a calls negative (specificity); p is of either difference, exact
    below EXACT_BELOW discordant units, else chi-squared with continuity correction, and not corrected for the number of
    pairs. `clustered_mcnemar_p` where a patient has several units.
    """
    rows = []
    for study, split, by_model in _by_split(predictions):
        for a, b in combinations(by_model, 2):
            if {(study, a), (study, b)} <= set(thresholds):
                row = {"study": study, "split": split, "model_a": a, "model_b": b}
                cuts = thresholds[study, a], thresholds[study, b]
                rows.append(row | _call_row(Units.of_rows(by_model[a], by_model[b]), *cuts))
    return pd.DataFrame(rows, columns=list(CALL_COLUMNS))


def curve_table(
    predictions: pd.DataFrame,
    *,
    rng: np.random.Generator,
    n_bootstrap: int = 2000,
    specificity: float = 0.9,
    region: tuple[float, float] = (0.8, 1.0),
    confidence: float = 0.95,
) -> pd.DataFrame:
    """Parts of the curves of every study, model and split: columns CURVE_COLUMNS, nan with one class.

    partial_auc: area where specificity lies in `region`, standardized so that 0.5 is useless and 1 perfect (McClish
    1989); sensitivity_at_specificity: of the curve at `specificity`, the cut-off found anew in every resample;
    average_precision: of which a useless score has about n_positive / n. Percentile intervals over resamples that keep the
    number of positives, of patients where one has several rows (see `partial_auc` for what they can do with few
    positives). Every row has its own random stream, as in `discrimination_table`.
    """
    root = int(rng.integers(2**63))
    statistics = partial_auc(*region, standardized=True), sensitivity_at(specificity), average_precision
    rows = []
    for key, part in predictions.groupby(["study", "model", "split"], sort=False):
        units = Units.of_rows(part.sort_values(["patient_id", "unit_id"]))
        row: dict[str, object] = dict(zip(CURVE_COLUMNS, (*key, len(units), units.n_positive), strict=False))
        if units.has_both_classes:
            drawn = resamples(units, n_bootstrap, _stream(root, key))
            chunks = [np.column_stack([statistic(units, weights) for statistic in statistics]) for weights in drawn]
            low, high = percentile_limits(np.concatenate(chunks), confidence)
            for name, statistic, *ends in zip(CURVE_QUANTITIES, statistics, low, high, strict=True):
                values = float(once(statistic, units)), *map(float, ends)
                row |= {f"{name}{end}": value for end, value in zip(("", "_low", "_high"), values, strict=True)}
        rows.append(row)
    return pd.DataFrame(rows, columns=list(CURVE_COLUMNS))


def reclassification_comparisons(
    predictions: pd.DataFrame, old: Mapping[str, str], *, rng: np.random.Generator, n_bootstrap: int = 2000
) -> pd.DataFrame:
    """Category-free NRI, in its two parts, and IDI of every model over an old one: columns RECLASSIFICATION_COLUMNS.

    old: {study: model}; other studies are left out. Units that both models scored; bootstrap intervals, over patients
    where one has several units. Every row starts from the same resamples. See `reclassification` before believing them.
    """
    root = int(rng.integers(2**63))
    rows = []
    for study, split, by_model in _by_split(predictions):
        before = by_model.pop(old.get(study), None)
        for model, after in by_model.items() if before is not None else ():
            units = Units.of_rows(before.sort_values(["patient_id", "unit_id"]), after)
            if units.has_both_classes:
                row = {"study": study, "split": split, "model_old": old[study], "model_new": model}
                rows.append(row | _reclassification_row(units, root, n_bootstrap))
    return pd.DataFrame(rows, columns=list(RECLASSIFICATION_COLUMNS))


def _splits_of(predictions: pd.DataFrame) -> list[str]:
    present = set(predictions["split"])
    return [split for split in SPLITS if split in present] + sorted(present - set(SPLITS))


def _by_split(predictions: pd.DataFrame) -> Iterator[tuple[str, str, dict[str, pd.DataFrame]]]:
    """Study, split, and {model: rows} in order of appearance."""
    for study, of_study in predictions.groupby("study", sort=False):
        for split in _splits_of(of_study):
            yield study, split, dict(iter(of_study[of_study["split"] == split].groupby("model", sort=False)))


def row_stream(seed: int, names: Iterable[str]) -> np.random.Generator:
    """The random stream with which `discrimination_table` resamples the row of these names (study, model, split)."""
    return _stream(int(np.random.default_rng(seed).integers(2**63)), names)


def _stream(root: int, names: Iterable[str]) -> np.random.Generator:
    """A random stream of one row's own, by its names."""
    return np.random.default_rng([root, *(zlib.crc32(name.encode()) for name in names)])


def _locked_threshold(of_model: pd.DataFrame, methods: Methods) -> tuple[float, str]:
    given = methods.thresholds.get((of_model["study"].iloc[0], of_model["model"].iloc[0]))
    if given is not None:
        return float(given), GIVEN
    for source in THRESHOLD_SOURCES:
        chosen_on = of_model[of_model["split"] == source]
        if chosen_on["y_true"].nunique() == 2:
            return methods.threshold(Units.of_rows(chosen_on)), source
    return nan, ""


def _discrimination_row(
    of_split: pd.DataFrame,
    threshold: float,
    source: str,
    is_probability: bool,
    rng: np.random.Generator,
    n_bootstrap: int,
    confidence: float,
    auc_interval_of: str,
) -> dict[str, object]:
    # resamples draw positions, and the order of rows must not matter
    units = Units.of_rows(of_split.sort_values(["patient_id", "unit_id"]))
    row: dict[str, object] = {"n": len(units), "n_positive": units.n_positive, "threshold": threshold}
    notes = []
    if units.has_both_classes:
        area = auc_interval(units, confidence=confidence, interval=auc_interval_of)
        row |= area.named("auc") | {"auc_method": area.method}
        if units.clustered:
            notes.append(f"intervals by patient ({area.n_patients} patients)")
        if np.ptp(units.score) == 0:
            notes.append(ONE_SCORE)
        elif area.standard_error == 0:
            point = "an AUC interval that is a point says nothing"
            of_size = "AUC interval from the size of the smaller class"
            notes.append(f"{SEPARATED}: {of_size if auc_interval_of == 'logit_t' else point}")
    else:
        notes.append("one class only")
    if np.isfinite(threshold):
        point = operating_point(units, threshold, rng=rng, n_bootstrap=n_bootstrap, confidence=confidence)
        for name in QUANTITIES:
            row |= getattr(point, name).named(name)
        if source == of_split["split"].iloc[0]:
            notes.append("threshold chosen on these rows")
    else:
        notes.append("no split to choose a threshold on")
    if is_probability:
        row |= interval(brier, units, rng, n=n_bootstrap, stratified=False, confidence=confidence).named("brier")
    else:
        notes.append(RANKS_ONLY)
    return row | {"threshold_from": source, "note": "; ".join(notes)}


def _call_row(units: Units, cut_a: float, cut_b: float) -> dict[str, object]:
    """McNemar's counts and p of the units that both models scored."""
    called_a, called_b = units.scores[:, 0] >= cut_a, units.scores[:, 1] >= cut_b
    row: dict[str, object] = {}
    for name, members, right_a, right_b in (
        ("positives", units.positive, called_a, called_b),
        ("negatives", ~units.positive, ~called_a, ~called_b),
    ):
        a_only, b_only = members & right_a & ~right_b, members & right_b & ~right_a
        row |= {f"{name}_a_only": int(a_only.sum()), f"{name}_b_only": int(b_only.sum())}
        if units.clustered:
            p = clustered_mcnemar_p(np.bincount(units.patient, a_only.astype(int) - b_only.astype(int)))
        else:
            p = mcnemar_p(int(a_only.sum()), int(b_only.sum()))
        row[f"p_mcnemar_{name}"] = p if members.any() else nan
    return row | {"method_mcnemar": "McNemar, clustered by patient" if units.clustered else "McNemar"}


def _reclassification_row(units: Units, root: int, n_bootstrap: int) -> dict[str, object]:
    row: dict[str, object] = {"n": len(units), "n_positive": units.n_positive}
    both = interval(reclassification, units, np.random.default_rng(root), n=n_bootstrap)
    for name, *values in zip(RECLASSIFICATION_QUANTITIES, both.value, both.low, both.high, strict=True):
        row |= Estimate(*values).named(name)
    return row


def _comparison_row(rows_a: pd.DataFrame, rows_b: pd.DataFrame, confidence: float, reference: str) -> dict[str, object]:
    unit = ["patient_id", "unit_id"]
    n = len(rows_a[unit].merge(rows_b[unit]))
    if n == 0:
        return {"n": 0, "p": nan, "method": "not estimable: no unit in common"}
    units = Units.of_rows(rows_a, rows_b)
    if not units.has_both_classes:
        return {"n": n, "p": nan, "method": "not estimable: one class only"}
    found = auc_difference(units, confidence=confidence, reference=reference)
    row = {"n": n, "auc_a": found.values[0], "auc_b": found.values[1]} | found.named("delta")
    row |= {"method": found.method, "statistic": found.statistic, "p": found.p}
    return row | {"degrees_of_freedom": found.degrees_of_freedom if np.isfinite(found.degrees_of_freedom) else nan}


def _read_raw(
    path: Path, scores: Sequence[str] = (), extra: Sequence[str] = ()
) -> tuple[pd.DataFrame | None, list[Problem]]:
    """One file as rows of the contract in text, with _file, _row and _column, the heading of its score; and its problems."""
    sheet, problems = read_sheet(path)
    if sheet is None:
        return None, problems
    header = list(sheet.cells)
    free = [name for name in header if name and name not in (*PREDICTION_COLUMNS, *extra)]
    wide = bool(scores) or ("y_score" not in header and "model" not in header and bool(free))
    columns = list(scores or free) if wide else ["y_score"]
    missing = _missing_columns(header, sheet.file, [*_NEEDED, *columns, *extra]) if header else []
    repeated = sorted({name for name in (*PREDICTION_COLUMNS, *columns, *extra) if header.count(name) > 1})
    missing += [
        Problem(sheet.file, 1, name, None, "the column is there twice", "keep one of them") for name in repeated
    ]
    if missing:
        return None, missing
    if not sheet.lines:
        return None, problems or [_no_rows(sheet.file)]
    cells = sheet.cells.assign(_file=sheet.file, _row=sheet.lines)
    numbers = ["y_true", *columns, *extra]
    if sheet.decimal_comma:
        cells[numbers] = cells[numbers].replace(r"^\s*([+-]?\d*),(\d+)\s*$", r"\1.\2", regex=True)
    if wide and not scores:
        columns, doubtful = _score_columns(cells, columns)
        if doubtful or not columns:
            return None, problems + (doubtful or _missing_columns(header, sheet.file, ["y_score"]))
    unscored = [name for name in columns if wide and cells[name].str.strip().eq("").all()]
    if unscored:
        remedy = "fill it, or leave the column out"
        return None, problems + [Problem(sheet.file, 1, name, None, "no score in it", remedy) for name in unscored]
    defaults = {"study": "study", "role": "main", "split": "test", "model": path.stem, "unit_id": cells["patient_id"]}
    cells = cells.assign(**{name: value for name, value in defaults.items() if name not in header})
    if wide:
        parts = [cells.assign(model=name, y_score=cells[name], _column=name) for name in columns]
        cells = pd.concat(parts, ignore_index=True)
        # a model need not have scored everybody
        cells = cells[cells["y_score"].str.strip() != ""].reset_index(drop=True)
    else:
        cells = cells.assign(_column="y_score")
    return cells[[*PREDICTION_COLUMNS, *extra, "_file", "_row", "_column"]], problems


def _score_columns(cells: pd.DataFrame, columns: Sequence[str]) -> tuple[list[str], list[Problem]]:
    """Of a wide file's free columns those with a number in them, and the ones that nobody called a score and hardly are."""
    found, problems = [], []
    for name in columns:
        values = pd.to_numeric(cells[name], errors="coerce")
        if values.notna().any():
            found.append(name)
            if not values.dropna().between(0, 1).all():
                message, remedy = "a score or not? it leaves [0, 1]", "name the columns of scores, each with --score"
                problems.append(Problem(cells["_file"].iloc[0], 1, name, None, message, remedy))
    return found, problems


def _missing_columns(columns: Iterable[object], file: str, needed: Iterable[str] = _REQUIRED) -> list[Problem]:
    present = [str(column) for column in columns]
    remedy = f"add it, or rename the one that it is; the columns are {', '.join(_REQUIRED)}"
    return [
        Problem(file, 1, column, ", ".join(present)[:200], "the column is missing", remedy)
        for column in dict.fromkeys(needed)
        if column not in present
    ]


def _no_rows(file: str) -> Problem:
    return Problem(file, None, None, None, "there are no predictions in it", "write one row per unit, model and split")


def _content_problems(raw: pd.DataFrame, any_scale: bool = False, extra: Sequence[str] = ()) -> list[Problem]:
    """Problems of rows that have all columns, _file, _row and _column; in file and row order, alike ones grouped."""
    label = pd.to_numeric(raw["y_true"], errors="coerce")
    score = pd.to_numeric(raw["y_score"], errors="coerce")
    found: list[tuple[int, Problem]] = []

    def report(bad: pd.Series, column: str, message: str, remedy: str, value: pd.Series | None = None) -> None:
        shown = raw[column] if value is None else value
        names = raw.loc[bad, "_column"] if column == "y_score" else [column] * int(bad.sum())
        places = zip(np.flatnonzero(bad), raw.loc[bad, "_file"], raw.loc[bad, "_row"], names, shown[bad], strict=True)
        alike: dict[tuple[str, str], dict[Problem, int]] = {}
        for position, file, row, name, text in places:
            alike.setdefault((file, name), {}).setdefault(
                Problem(file, int(row), name, str(text), message, remedy), position
            )
        for (file, name), problems in alike.items():
            found.extend((position, problem) for problem, position in list(problems.items())[:MOST_ALIKE])
            if more := list(problems.values())[MOST_ALIKE:]:
                words = f"{len(more)} more row{'s' if len(more) > 1 else ''} of the same: {message}"
                found.append((more[0], Problem(file, None, name, None, words, remedy)))

    for column in _TEXT_COLUMNS:
        report(raw[column].str.strip() == "", column, "empty", "every row needs a value here")
    for column, allowed in (("split", SPLITS), ("role", ROLES)):
        unknown = ~raw[column].isin(allowed) & (raw[column].str.strip() != "")
        report(unknown, column, f"unknown {column}", f"use one of {', '.join(allowed)}")
    changed = raw["role"] != raw.groupby(["study", "model"])["role"].transform("first")
    report(changed, "role", "the model has another role elsewhere in the study", "give each model one role")
    _report_members(raw, report)
    labeled = label.isin((0, 1))
    report(~labeled, "y_true", "not 0 or 1", "1 is the positive class; leave out units without a known outcome")
    finite = pd.Series(np.isfinite(score.to_numpy(dtype=float)), index=raw.index)
    report(~finite, "y_score", "not a finite number", "give a probability, or leave the row out")
    outside = finite & ~score.between(0, 1) & (not any_scale)
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
        "keep one row per unit (average repeated predictions), or tell a patient's units apart in the column unit_id",
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
    known = label.where(labeled)
    usual = known.groupby([raw[name] for name in unit]).transform("first")
    report(
        labeled & (known != usual),
        "y_true",
        "the same unit has another y_true elsewhere in the study",
        "one unit has one outcome: correct the wrong row, or give the other endpoint its own study name",
        raw["unit_id"] + raw["y_true"].astype("str").radd(": "),
    )
    for column in extra:
        held = raw.groupby(["study", "patient_id"])[column].transform("first")
        report(raw[column] != held, column, "the patient has another value elsewhere", "give each patient one value")
    return [problem for _, problem in sorted(found, key=lambda item: item[0])]


def _report_members(raw: pd.DataFrame, report: Callable[..., None]) -> None:
    """Single fits that belong to no main model of their study, once each, and units that only a fit has scored."""
    is_member, named = raw["role"] == MEMBER, fits_of(raw["model"])
    if not is_member.any():
        return
    once = is_member & ~raw.duplicated(["study", "model"])
    unnamed = once & named["model"].isna()
    report(
        unnamed, "model", "a member whose name holds no model and seed", "name it <main model>/seed <k>, k = 0, 1, ..."
    )
    parents = pd.MultiIndex.from_frame(raw.loc[raw["role"] == "main", ["study", "model"]])
    has_parent = pd.MultiIndex.from_arrays([raw["study"], named["model"]]).isin(parents)
    remedy = "add the main model, the mean logit of its members, to the same study, or leave the members out"
    report(once & named["model"].notna() & ~has_parent, "model", "a member of no main model of the study", remedy)
    place = ["study", "model", "split", "patient_id", "unit_id"]
    scored = pd.MultiIndex.from_frame(raw.loc[raw["role"] == "main", place])
    own = pd.MultiIndex.from_frame(raw.assign(model=named["model"])[place]).isin(scored)
    remedy = "a member scores units of its main model, in the same splits"
    report(is_member & has_parent & ~own, "unit_id", "scored by a member and not by its main model", remedy)


def _first_place(raw: pd.DataFrame, keys: list[str]) -> pd.Series:
    """ "file, row n" of the first row with the same keys."""
    groups = raw.groupby(keys, sort=False, dropna=False)
    return groups["_file"].transform("first") + groups["_row"].transform("first").astype("str").radd(", row ")
