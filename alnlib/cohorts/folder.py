"""A cohort folder (cohort.yaml, patients.csv; images.csv, readers.csv, features.csv if any): read, written, checked, all
problems at once.

Pixels are not opened here; the public sources are turned into a cohort by their own modules.
"""

from __future__ import annotations

import csv
import difflib
import io
from dataclasses import asdict, dataclass, field
from pathlib import Path, PureWindowsPath
from typing import Any

import numpy as np
import pandas as pd
import yaml

from alnlib.cohorts.plausible import implausible_values
from alnlib.cohorts.schema import (
    FEATURE_COLUMNS,
    GIVEN_SPLITS,
    IMAGE_COLUMNS,
    IMAGE_REQUIRED_COLUMNS,
    MEANT,
    MODALITIES,
    PATIENT_ID_COLUMNS,
    POPULATION,
    PROVENANCES,
    RARE_IMAGE_COLUMNS,
    READER_COLUMNS,
    VARIABLE_KINDS,
    WHAT_IS_READ,
    ClinicalVariable,
    Cohort,
    Endpoint,
    empty_features,
    empty_readers,
    features_schema,
    images_schema,
    images_table,
    is_label,
    mask_files,
    patients_schema,
    readers_schema,
    with_suggestion,
)
from alnlib.errors import InputError, Problem, counted
from alnlib.files import FORMULA, MOST_ROWS, too_large, write_csv, write_text
from alnlib.yaml_text import key_text, yaml_node, yaml_value

KEY_MEANING = {
    "name": "a short identifier, for example my-hospital",
    "title": "one line for readers",
    "provenance": "real or simulated",
    "endpoints": "column: {label, positive, negative} for each endpoint",
    "primary_endpoint": "the endpoint that analyses use by default",
    "centers": "a list of centers, the primary one first",
    "license": "who may use the data and how",
    "citation": "how to cite the data",
    "source": "where the data come from",
}
REQUIRED_KEYS = tuple(KEY_MEANING)
TEXT_KEYS = ("name", "title", "provenance", "primary_endpoint", "license", "citation", "source")
OPTIONAL_KEYS = ("external_centers", "clinical", "readers")
ENDPOINT_KEYS = ("label", "positive", "negative")
VARIABLE_KEYS = ("label", "kind", "unit", "levels", "range", "at_most")
READER_KEYS = ("description", "modality")

TABLE_SUFFIXES = (".csv", ".tsv", ".txt", ".xls", ".xlsx")
READER_FORM = "reader_id: {description: ..., modality: one of " + ", ".join(MODALITIES) + "}"

SPLIT_REMEDY = "keep the rows and columns of one study, or make several cohort folders"

OLDER_KEYS = {"centres": "centers", "external_centres": "external_centers", "licence": "license"}
OLDER_COLUMNS = {"centre": "center"}
"""What keys and columns were called in cohort folders before they were spelled the American way; still read."""


def write_cohort(cohort: Cohort, folder: str | Path) -> list[Path]:
    """Write cohort.yaml and patients.csv, images.csv, readers.csv and features.csv (without rows where there are none); return
    them.

    Images are not copied: their paths stay relative to `cohort.root`, so a folder that is to be read without `root=` is
    written into that root.
    """
    folder = Path(folder)
    written = [write_text(_describe(cohort), folder / "cohort.yaml")]
    split = ["split"] if "split" in cohort.patients.columns else []
    columns = [*PATIENT_ID_COLUMNS, *split, *cohort.endpoints, *cohort.clinical]
    patients = cohort.patients[columns].astype(dict.fromkeys(cohort.endpoints, "Int64"))
    written.append(write_csv(patients, folder / "patients.csv"))
    images = cohort.images.reindex(columns=list(IMAGE_COLUMNS)).astype({"unit_label": "Int64"})
    images = images.drop(columns=[name for name in RARE_IMAGE_COLUMNS if images[name].isna().all()])
    written.append(write_csv(images, folder / "images.csv"))
    written.append(write_csv(cohort.readers[list(READER_COLUMNS)], folder / "readers.csv"))
    written.append(write_csv(cohort.features, folder / "features.csv"))
    return written


def _describe(cohort: Cohort) -> str:
    described = {key: getattr(cohort, key) for key in ("name", "title", "provenance", "primary_endpoint")}
    described["endpoints"] = {column: asdict(endpoint) for column, endpoint in cohort.endpoints.items()}
    described |= {"centers": list(cohort.centers), "external_centers": list(cohort.external_centers), "clinical": {}}
    for column, variable in cohort.clinical.items():
        given = asdict(variable) | {"levels": list(variable.levels), "range": list(variable.range or ())}
        described["clinical"][column] = {key: value for key, value in given.items() if value}
    described["readers"] = {
        reader: {"description": text, "modality": cohort.reader_modality[reader]}
        if reader in cohort.reader_modality
        else text
        for reader, text in cohort.readers_described.items()
    }
    described |= {key: getattr(cohort, key) for key in ("license", "citation", "source")}
    return yaml.safe_dump(described, sort_keys=False, allow_unicode=True, width=120)


def read_cohort(
    folder: str | Path,
    root: str | Path | None = None,
    *,
    check_images: bool = True,
    features: bool = True,
    to_fit: bool = True,
) -> Cohort:
    """Read and check a cohort folder.

    root: the folder that image paths are relative to; the cohort folder itself unless given. check_images: whether the
    files must be there; a stage that reads only tables can do without them. features: whether to read features.csv, which
    may be large. to_fit: whether the primary endpoint must have both classes; patients whom a kept model scores need no outcome.
    Raises InputError that holds every problem found, each with file, row, value and remedy.
    """
    folder = Path(folder)
    draft = _Draft(root=folder if root is None else Path(root))
    if not folder.is_dir():
        raise InputError(f"{folder}: no such cohort folder; give the path of a folder that holds cohort.yaml")
    _examine_description(folder / "cohort.yaml", draft)
    _examine_patients(folder / "patients.csv", draft)
    if to_fit and draft.patients is not None:
        _check_both_classes(folder / "patients.csv", draft.patients, draft)
    patient_ids = frozenset(draft.patients["patient_id"]) if draft.patients is not None else None
    _examine_images(folder / "images.csv", draft, patient_ids, check_images)
    _examine_readers(folder / "readers.csv", draft, patient_ids)
    if features:
        _examine_features(folder / "features.csv", draft, patient_ids)
    if draft.problems:
        raise InputError(f"{folder}: {counted(draft.problems)} in this cohort folder", draft.problems)
    return draft.cohort()


@dataclass
class _Draft:
    """What could be read of a cohort folder, and what is wrong with it."""

    root: Path
    problems: list[Problem] = field(default_factory=list)
    warnings: list[Problem] = field(default_factory=list)
    described: dict[str, Any] = field(default_factory=dict)
    endpoints: dict[str, Endpoint] = field(default_factory=dict)
    clinical: dict[str, ClinicalVariable] = field(default_factory=dict)
    patients: pd.DataFrame | None = None
    images: pd.DataFrame | None = None
    readers: pd.DataFrame | None = None
    features: pd.DataFrame | None = None

    def note(
        self,
        file: Path,
        message: str,
        remedy: str,
        row: int | None = None,
        column: str | None = None,
        value: object = None,
    ) -> None:
        self.problems.append(Problem.of(file, message, remedy, row, column, value))

    def cohort(self) -> Cohort:
        described = self.described
        texts = {key: described[key] for key in TEXT_KEYS}
        return Cohort(
            **texts,
            endpoints=self.endpoints,
            centers=tuple(described["centers"]),
            external_centers=tuple(described["external_centers"]),
            clinical=self.clinical,
            readers_described=described["readers"],
            reader_modality=described["reader_modality"],
            warnings=tuple(self.warnings),
            patients=_typed_patients(self.patients, self.endpoints, self.clinical),
            images=_typed_images(self.images),
            readers=_typed_readers(self.readers),
            features=empty_features() if self.features is None else self.features,
            root=self.root,
        )


# ---------------------------------------------------------------------------------------------------------------- yaml


def _examine_description(path: Path, draft: _Draft) -> None:
    lines: dict[str, int] = {}
    if not path.is_file():
        draft.note(path, "file is missing", "write it; docs/your_cohort.md lists its keys")
        return
    try:
        described, lines, repeated = _load_yaml(path.read_bytes().decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        draft.note(path, "not UTF-8 text", "save the file as UTF-8", _line_of_byte(path.read_bytes(), error.start))
        return
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        reason = " ".join(str(getattr(error, "problem", None) or error).split())
        remedy = "mend the line (indentation, colons, quotes)"
        draft.note(path, f"not valid YAML: {reason}", remedy, mark.line + 1 if mark else None)
        return
    if not isinstance(described, dict):
        draft.note(path, "not a mapping of keys to values", "start from the cohort.yaml of a simulated cohort")
        return
    for key, line, message in repeated:
        draft.note(path, message, "keep one of the two", line, key)

    def problem(key: str, message: str, remedy: str, value: object = None) -> None:
        draft.note(path, message, remedy, lines.get(key.split(".")[0]), key, value)

    all_keys = (*REQUIRED_KEYS, *OPTIONAL_KEYS)
    for key in described:
        if key not in all_keys:
            near = difflib.get_close_matches(str(key), all_keys, 1)
            problem(
                str(key), "unknown key", f"did you mean {near[0]}?" if near else f"known keys: {', '.join(all_keys)}"
            )
    for key in REQUIRED_KEYS:
        if described.get(key) in (None, "", [], {}):
            problem(key, "key is missing or empty", f"add {key}: {KEY_MEANING[key]}")
    _examine_texts(described, draft.described, problem)
    _examine_endpoints(
        _mapping(described, "endpoints", "column: {label: ..., positive: ..., negative: ...}", problem), draft, problem
    )
    _examine_clinical(_mapping(described, "clinical", "column: {label: ..., kind: ...}", problem), draft, problem)
    primary = draft.described.get("primary_endpoint")
    if primary and draft.endpoints and primary not in draft.endpoints:
        remedy = f"use one of {', '.join(draft.endpoints)}"
        problem("primary_endpoint", "primary endpoint is not among the endpoints", remedy, primary)
    reserved = ("center", "patient_id", "split")
    for column in (*draft.endpoints, *draft.clinical):
        if column in reserved or (column in draft.endpoints and column in draft.clinical):
            remedy = f"choose another name; {', '.join(reserved)} are reserved and endpoints are no predictors"
            group = "clinical" if column in draft.clinical else "endpoints"
            problem(f"{group}.{column}", "column name is used twice", remedy)


def _mapping(described: dict, key: str, form: str, problem) -> dict:
    """What stands under `key`, an empty mapping if that is nothing or, noted, no mapping."""
    value = described.get(key) or {}
    if isinstance(value, dict):
        return value
    problem(key, "not a mapping", f"write {key} as {form}", value)
    return {}


def _examine_texts(described: dict, known: dict[str, Any], problem) -> None:
    """The keys that hold a text or a list of them, into `known`."""
    for key in TEXT_KEYS:
        value = described.get(key)
        text = _as_text(value)
        if text:
            known[key] = text.strip()
        elif value not in (None, ""):
            problem(key, "not a piece of text", f"write {key} as one line of text, in quotes", value)
    if known.get("provenance", "real") not in PROVENANCES:
        remedy = f"use {' or '.join(PROVENANCES)}"
        remedy = with_suggestion(remedy, known["provenance"], PROVENANCES, MEANT["provenance"])
        problem("provenance", "unknown provenance", remedy, known["provenance"])
    for key in ("centers", "external_centers"):
        names = described.get(key) or []
        texts = _as_texts(names)
        if texts is None:
            problem(key, "not a list of names", f"write {key} as a list, for example [Hospital A, Hospital B]", names)
        elif len(set(texts)) < len(texts):
            problem(key, "a center is listed twice", "list every center once", names)
        known[key] = texts or []
    if known["centers"] and known["centers"][0] in known["external_centers"]:
        remedy = "list the development center first and take it out of external_centers"
        problem("external_centers", "the primary center (the first) is also external", remedy, known["centers"][0])
    _examine_reader_descriptions(_mapping(described, "readers", READER_FORM, problem), known, problem)


def _examine_reader_descriptions(described: dict, known: dict[str, Any], problem) -> None:
    """Descriptions and modalities of readers, into `known`; a description alone is a text, and names what was read."""
    known["readers"], known["reader_modality"] = {}, {}
    for reader, entry in described.items():
        key, entry = f"readers.{reader}", entry if isinstance(entry, dict) else {"description": entry}
        for name in set(entry) - set(READER_KEYS):
            near = difflib.get_close_matches(str(name), READER_KEYS, 1)
            hint = f"did you mean {near[0]}?" if near else f"a reader has {', '.join(READER_KEYS)}"
            problem(f"{key}.{name}", "unknown key", hint)
        modality = _as_text(entry.get("modality"))
        if modality in MODALITIES:
            known["reader_modality"][str(reader)] = modality
        elif entry.get("modality") is not None:
            remedy = f"use one of {', '.join(MODALITIES)}, or leave it out"
            remedy = with_suggestion(remedy, modality, MODALITIES, MEANT["modality"])
            problem(f"{key}.modality", "unknown modality", remedy, entry["modality"])
        text, read = _as_text(entry.get("description")) or str(reader), WHAT_IS_READ.get(modality, "")
        known["readers"][str(reader)] = text if read.casefold() in text.casefold() else f"{text} ({read})"


def _examine_endpoints(described: dict, draft: _Draft, problem) -> None:
    for column, entry in described.items():
        entry = entry if isinstance(entry, dict) else {}
        for name in set(entry) - set(ENDPOINT_KEYS):
            problem(f"endpoints.{column}.{name}", "unknown key", f"an endpoint has {', '.join(ENDPOINT_KEYS)}")
        texts = {name: _as_text(entry.get(name)) or "" for name in ENDPOINT_KEYS}
        for name in (name for name in ENDPOINT_KEYS if not texts[name]):
            remedy = f'write {name}: in words, in quotes if it is yes, no, on or off, e.g. positive: "node-positive"'
            problem(f"endpoints.{column}.{name}", "missing, or not text", remedy, entry.get(name))
        draft.endpoints[str(column)] = Endpoint(**texts)


def _examine_clinical(described: dict, draft: _Draft, problem) -> None:
    """A variable that cannot be understood stays known as a column, so that patients.csv is not blamed for it."""
    for column, entry in described.items():
        key = f"clinical.{column}"
        draft.clinical[str(column)] = ClinicalVariable(str(column), "undecided")
        if not isinstance(entry, dict):
            problem(key, "not a mapping", "write label, kind, and unit or levels", entry)
            continue
        for name in set(entry) - set(VARIABLE_KEYS):
            problem(f"{key}.{name}", "unknown key", f"a clinical variable has {', '.join(VARIABLE_KEYS)}")
        kind, levels = entry.get("kind"), entry.get("levels") or []
        texts = _as_texts(levels)
        faults = []
        if kind not in VARIABLE_KINDS:
            remedy = with_suggestion(f"use {', '.join(VARIABLE_KINDS)}", kind, VARIABLE_KINDS, MEANT["kind"])
            problem(f"{key}.kind", "unknown kind", remedy, kind)
        if texts is None or not all(texts):
            faults = ["levels are not a list of names"]
            faults += ['list the level names, in quotes where they are yes, no, on or off: ["no", "yes"]']
        elif len(set(texts)) < len(texts):
            faults = ["a level is listed twice", "list every level once"]
        elif kind in ("ordinal", "nominal") and len(texts) < 2:
            faults = ["fewer than two levels", "list the levels in order, the reference first"]
        elif kind == "continuous" and texts:
            faults = ["a continuous variable has levels", "remove them or call it ordinal"]
        if faults:
            problem(f"{key}.levels", *faults, levels)
        elif kind in VARIABLE_KINDS:
            label = _as_text(entry.get("label")) or str(column)
            unit, limits = _as_text(entry.get("unit")), _plausible(entry, key, kind, described, problem)
            draft.clinical[str(column)] = ClinicalVariable(label, kind, unit, tuple(texts), *limits)


def _plausible(
    entry: dict, key: str, kind: str, described: dict, problem
) -> tuple[tuple[float, float] | None, str | None]:
    """`range` and `at_most` of a clinical variable, None each where not given or, noted, not understood."""
    given, most = entry.get("range"), entry.get("at_most")
    for name in (name for name in ("range", "at_most") if entry.get(name) is not None and kind != "continuous"):
        problem(f"{key}.{name}", f"{kind} variables have levels, not {name}", "remove it, or call it continuous")
    limits = given if isinstance(given, list) and len(given) == 2 else [None, None]
    numbers = [float(edge) for edge in limits if isinstance(edge, (int, float)) and not isinstance(edge, bool)]
    in_order = len(numbers) == 2 and numbers[0] < numbers[1]
    if given is not None and not in_order:
        problem(f"{key}.range", "not two numbers, the lower first", "write range: [lowest, highest]", given)
    other = described.get(most) if isinstance(most, str) else None
    if most is not None and not (isinstance(other, dict) and other.get("kind") == "continuous"):
        names = [
            str(name) for name, one in described.items() if isinstance(one, dict) and one.get("kind") == "continuous"
        ]
        remedy = with_suggestion("name another continuous variable", most, names, {})
        problem(f"{key}.at_most", "not a continuous variable of this cohort", remedy, most)
    return (tuple(numbers) if in_order else None), (str(most) if most is not None else None)


def _load_yaml(text: str) -> tuple[Any, dict[str, int], list[tuple[str, int, str]]]:
    """The document, the line of each top-level key, and the keys given twice at any level: key, line, what is wrong.

    Older names of top-level keys are read as today's.
    """
    node = yaml_node(text)
    lines: dict[str, int] = {}
    repeated: list[tuple[str, int, str]] = []

    def visit(mapping: yaml.Node, prefix: str) -> None:
        seen: dict[str, str] = {}
        for key_node, value_node in mapping.value:
            written = key_text(key_node)
            if not prefix and written in OLDER_KEYS:
                key_node.value = OLDER_KEYS[written]
            key, line = f"{prefix}{key_text(key_node)}", key_node.start_mark.line + 1
            if key in seen:
                repeated.append((key, line, _twice("key", seen[key], written)))
            seen.setdefault(key, written)
            if not prefix:
                lines.setdefault(key, line)
            if isinstance(value_node, yaml.MappingNode):
                visit(value_node, f"{key}.")

    if isinstance(node, yaml.MappingNode):
        visit(node, "")
    return yaml_value(node), lines, repeated


def _twice(what: str, first: str, second: str) -> str:
    return f"{what} appears twice" + (f", as {first} and as {second}" if first != second else "")


def _as_text(value: Any) -> str | None:
    """Text of a scalar; None for what YAML made a boolean, a date or a list, since the writer meant something else."""
    if isinstance(value, str):
        return value
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return str(value)
    return None


def _as_texts(values: Any) -> list[str] | None:
    """The texts of a list of scalars; None for what is no list, or holds what is no text."""
    texts = [_as_text(value) for value in values] if isinstance(values, list) else [None]
    return None if None in texts else texts


# -------------------------------------------------------------------------------------------------------------- tables


def _read_table(path: Path, draft: _Draft) -> pd.DataFrame | None:
    """A CSV file as stripped text, indexed by line number; None, with the problems noted, where it cannot be read."""
    if not path.is_file():
        draft.note(path, "file is missing", "every cohort folder holds cohort.yaml and patients.csv")
        return None
    if large := too_large(path):
        draft.note(path, large, SPLIT_REMEDY)
        return None
    raw = path.read_bytes()
    as_utf8 = 'save it as "CSV UTF-8 (comma delimited)"'
    if raw[:2] in (b"\xff\xfe", b"\xfe\xff") or b"\0" in raw:
        draft.note(path, "not UTF-8 text (UTF-16 or binary)", as_utf8)
        return None
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        value = repr(raw[error.start : error.start + 1])
        draft.note(path, "not UTF-8 text", as_utf8, _line_of_byte(raw, error.start), value=value)
        return None
    first_line = text.split("\n", 1)[0].rstrip("\r")
    for separator, name in ((";", "semicolons"), ("\t", "tabs")):
        if "," not in first_line and separator in first_line:
            message = f"columns are separated by {name}, as Excel writes CSV in many countries"
            remedy = 'save it with commas ("CSV UTF-8 (comma delimited)"), and numbers with decimal points'
            draft.note(path, message, remedy, 1, value=first_line[:60])
            return None

    rows: list[list[str]] = []
    line_numbers: list[int] = []
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    previous_line = 0
    try:
        for cells in reader:
            if any(cell.strip() for cell in cells):
                rows.append([cell.strip() for cell in cells])
                line_numbers.append(previous_line + 1)
            if len(rows) > MOST_ROWS + 1:
                draft.note(path, f"more than {MOST_ROWS:,} rows", SPLIT_REMEDY)
                return None
            previous_line = reader.line_num
    except csv.Error as error:
        remedy = "close the quotation mark, or double it inside a quoted cell"
        draft.note(path, f"broken quoting ({error})", remedy, previous_line + 1)
        return None
    if not rows:
        draft.note(path, "file is empty", "write at least the header line")
        return None
    header = [OLDER_COLUMNS.get(column, column) for column in rows[0]]
    for position, column in enumerate(header, start=1):
        if column == "":
            remedy = "name it, or remove the trailing comma"
            draft.note(path, f"column {position} has no name", remedy, line_numbers[0])
        elif column in header[: position - 1]:
            message = _twice("column", rows[0][header.index(column)], rows[0][position - 1])
            draft.note(path, message, "keep one of the two", line_numbers[0], column)
    complete = {}
    for cells, line in zip(rows[1:], line_numbers[1:], strict=True):
        if len(cells) == len(header):
            complete[line] = cells
            continue
        message = f"line has {len(cells)} cells where the header has {len(header)}"
        remedy = "give every line the same number of cells, and put cells that hold a comma in quotes"
        draft.note(path, message, remedy, line, value=",".join(cells)[:60])
    for line, cells in [(line_numbers[0], header), *complete.items()]:
        for column, cell in zip(header, cells, strict=True):
            if FORMULA.match(cell):
                remedy = "write it so that it begins with a letter or a digit"
                draft.note(path, "a spreadsheet would compute this cell", remedy, line, column, cell[:60])
    lines = pd.Index(list(complete), dtype="int64")
    frame = pd.DataFrame(list(complete.values()), columns=header, index=lines, dtype="str")
    return frame.loc[:, ~pd.Index(header).duplicated()]


def _is_left_out(path: Path, draft: _Draft) -> bool:
    """Whether a table that a cohort may do without is not there; a file of almost its name is noted."""
    if path.exists():
        return False
    tables = (place for place in path.parent.iterdir() if place.suffix.lower() in TABLE_SUFFIXES and place.is_file())
    named = {place.stem.casefold(): place.name for place in tables}
    for near in difflib.get_close_matches(path.stem, named, 1, 0.8):
        draft.note(path, f"file is missing, and {named[near]} is there", f"save it as {path.name}, or move it away")
    return True


def _line_of_byte(raw: bytes, position: int) -> int:
    return raw[:position].count(b"\n") + 1


def _check_columns(
    path: Path, table: pd.DataFrame, required: tuple, known: tuple, draft: _Draft, remedy: str, *, more: bool = False
) -> None:
    """Note missing and, unless there may be more, unknown columns."""
    for column in (name for name in required if name not in table.columns):
        near = difflib.get_close_matches(column, [name for name in table.columns if name not in known], 1)
        hint = f"rename {near[0]!r}" if near else "add it"
        draft.note(path, "column is missing", f"{hint}; {remedy}", 1, column)
    for column in (name for name in table.columns if name and name not in known and not more):
        near = difflib.get_close_matches(column, known, 1)
        hint = f"did you mean {near[0]!r}? Otherwise " if near else ""
        draft.note(path, "unknown column", f"{hint}remove it; {remedy}", 1, column)


def _check_cells(path: Path, table: pd.DataFrame, schema, draft: _Draft) -> None:
    """Validate lazily with pandera and note every failing cell, in line order."""
    import pandera.errors  # see alnlib.cohorts.schema

    absent = [name for name, column in schema.columns.items() if name not in table.columns and column.required]
    schema = schema.remove_columns(absent) if absent else schema
    try:
        schema.validate(table, lazy=True)
    except pandera.errors.SchemaErrors as errors:
        found = [
            (row, list(table.columns).index(error.schema.name), error.check, value)
            for error in errors.schema_errors
            for row, value in zip(error.failure_cases["index"], error.failure_cases["failure_case"], strict=True)
        ]
        for row, column, check, value in sorted(found, key=lambda cell: cell[:2]):
            remedy = with_suggestion(check.description, value, **check.statistics)
            draft.note(path, check.title, remedy, row, table.columns[column], value)


def _check_unique(path: Path, table: pd.DataFrame, keys: list[str], draft: _Draft, message: str, remedy: str) -> None:
    if not len(table) or not set(keys) <= set(table.columns):
        return
    named = table[(table[keys] != "").all(axis=1)]
    for _, same in named[named.duplicated(keys, keep=False)].groupby(keys, sort=False):
        first, *others = same.index
        for row in others:
            draft.note(path, f"{message} (first at row {first})", remedy, row, keys[-1], " ".join(named.loc[row, keys]))


def _examine_patients(path: Path, draft: _Draft) -> None:
    table = _read_table(path, draft)
    if table is None:
        return
    declared = (*PATIENT_ID_COLUMNS, *draft.endpoints, *draft.clinical)
    remedy = "cohort.yaml declares the endpoints and the clinical variables"
    # where cohort.yaml could not be read, which columns it declares is not known
    known = (*declared, "split") if draft.endpoints or draft.clinical else (*declared, *table.columns)
    _check_columns(path, table, declared, known, draft, remedy)
    if not len(table):
        draft.note(path, "no patient in this cohort", "add one line per patient")
    decided = {column: variable for column, variable in draft.clinical.items() if variable.kind in VARIABLE_KINDS}
    external = tuple(draft.described.get("external_centers", ()))
    centers = tuple(dict.fromkeys((*draft.described.get("centers", ()), *external)))
    _check_cells(path, table, patients_schema(draft.endpoints, decided, centers), draft)
    draft.warnings += implausible_values(path, table, decided)
    if "patient_id" not in table.columns:
        return
    draft.patients = table
    _check_repeated_patients(path, table, draft)
    _check_given_splits(path, table, external, draft)


def _check_repeated_patients(path: Path, table: pd.DataFrame, draft: _Draft) -> None:
    for patient, rows in table[table["patient_id"] != ""].groupby("patient_id", sort=False).groups.items():
        splits = table.loc[rows, "split"] if "split" in table.columns else pd.Series("", index=rows)
        for row in rows[1:]:
            message = f"patient appears more than once (first at row {rows[0]})"
            remedy = "keep one line per patient"
            if splits[row] != splits[rows[0]]:
                message = f"patient is in two splits ({splits[rows[0]]} at row {rows[0]}, {splits[row]} at row {row})"
                remedy = "keep each patient in one split, on one line"
            draft.note(path, message, remedy, row, "patient_id", patient)


def _check_given_splits(path: Path, table: pd.DataFrame, external: tuple[str, ...], draft: _Draft) -> None:
    if "split" not in table.columns or table["split"].isin(["", POPULATION]).all():
        return
    for row, split in table["split"].items():
        if split == "":
            remedy = "give every patient a split, or none but the population one, and let the compendium split"
            draft.note(path, "split is empty, though other patients have one", remedy, row, "split")
        elif "center" in table.columns and split in GIVEN_SPLITS and split != POPULATION:
            from_external = table.at[row, "center"] in external
            if from_external != (split == "external"):
                message = f"split disagrees with the center, which is {'external' if from_external else 'not external'}"
                remedy = 'patients of external_centers, and only they, are in the split "external"'
                draft.note(path, message, remedy, row, "split", split)


def _check_both_classes(path: Path, table: pd.DataFrame, draft: _Draft) -> None:
    """Only for the primary endpoint: another endpoint may be unusable without making the cohort so."""
    endpoint = draft.described.get("primary_endpoint")
    if endpoint not in draft.endpoints or endpoint not in table.columns or not len(table):
        return
    if not table[endpoint].map(is_label).all():
        return  # the malformed labels are reported; they may hold the missing class
    labels = _typed_labels(table[endpoint])
    for label in (0, 1):
        if not (labels == label).any():
            message = f"primary endpoint has no patient with label {label}"
            remedy = "both classes are needed; check the coding, or choose another primary_endpoint"
            draft.note(path, message, remedy, column=endpoint)


def _examine_images(path: Path, draft: _Draft, patient_ids: frozenset[str] | None, check_images: bool) -> None:
    if _is_left_out(path, draft):
        return
    table = _read_table(path, draft)
    if table is None:
        return
    remedy = f"images.csv has {', '.join(IMAGE_COLUMNS)}"
    _check_columns(path, table, IMAGE_REQUIRED_COLUMNS, IMAGE_COLUMNS, draft, remedy)
    schema = images_schema(patient_ids or frozenset())
    _check_cells(path, table, schema if patient_ids is not None else schema.remove_columns(["patient_id"]), draft)
    remedy = "give every image an id of its own"
    _check_unique(path, table, ["image_id"], draft, "image_id appears more than once", remedy)
    if check_images and draft.root.is_dir():
        inside = _Inside(draft.root)
        for column in (name for name in ("path", "mask_path") if name in table.columns):
            for row, text in table.loc[table[column] != "", column].items():
                for name in mask_files(text) if column == "mask_path" else (text,):
                    fault = _path_fault(name, inside)
                    if fault:
                        draft.note(path, *fault, row, column, name)
    elif check_images:
        draft.note(draft.root, "no such folder of images", "give the folder that image paths are relative to")
    draft.images = table


class _Inside:
    """Whether places below `root` stay there when links are followed; each folder is followed once."""

    def __init__(self, root: Path) -> None:
        self.root, self.top = root, root.resolve()
        self.folders: dict[Path, bool] = {}

    def __contains__(self, place: Path) -> bool:
        folder = place.parent
        if folder not in self.folders:
            self.folders[folder] = folder.resolve().is_relative_to(self.top)
        return place.resolve().is_relative_to(self.top) if place.is_symlink() else self.folders[folder]


def _path_fault(text: str, inside: _Inside) -> tuple[str, str] | None:
    """What is wrong with a relative path and the remedy, or None."""
    if "\\" in text:
        return ("path holds a backslash", 'write paths with "/", relative to the cohort folder')
    if text.startswith(("/", "~")) or PureWindowsPath(text).drive:
        return ("path is absolute", "put the file into the cohort folder and give its path relative to it")
    if ".." in Path(text).parts:
        return ("path leaves the cohort folder", 'put the file into the folder; ".." is not allowed')
    place = inside.root / text
    if place not in inside:
        return ("path leaves the cohort folder through a link", "put the file itself into the folder")
    if not place.exists():
        return "file is missing", "put it there, or correct the path (capitals count)"
    if place.is_dir() and any(file.is_symlink() and file not in inside for file in place.iterdir()):
        return ("a file of this folder leaves the cohort folder through a link", "put the file itself there")
    return None


def _examine_readers(path: Path, draft: _Draft, patient_ids: frozenset[str] | None) -> None:
    if _is_left_out(path, draft):
        return
    table = _read_table(path, draft)
    if table is None:
        return
    remedy = "readers.csv has patient_id, reader_id, score"
    _check_columns(path, table, READER_COLUMNS, READER_COLUMNS, draft, remedy)
    schema = readers_schema(patient_ids or frozenset(), tuple(draft.described.get("readers", {})))
    if patient_ids is None:
        schema = schema.remove_columns(["patient_id"])
    if not draft.described:  # cohort.yaml could not be read: which readers it describes is not known
        schema = schema.remove_columns(["reader_id"])
    _check_cells(path, table, schema, draft)
    keys = ["patient_id", "reader_id"]
    _check_unique(path, table, keys, draft, "reader scored this patient more than once", "keep one score")
    described, scored = draft.described.get("readers", {}), table.get("reader_id", pd.Series(dtype="str")).unique()
    for reader in (name for name in described if name in scored and name not in draft.described["reader_modality"]):
        message = "what this reader read is not said, so the reader is compared as one of unspecified modality"
        remedy = f"write {READER_FORM.replace('reader_id', reader)} under readers in cohort.yaml"
        draft.warnings.append(Problem.of(path, message, remedy, column="reader_id", value=reader))
    draft.readers = table


def _examine_features(path: Path, draft: _Draft, patient_ids: frozenset[str] | None) -> None:
    """Columns of features without a single number are warned of and left out."""
    if _is_left_out(path, draft):
        return
    table = _read_table(path, draft)
    if table is None:
        return
    remedy = f"features.csv has {', '.join(FEATURE_COLUMNS)}, then one column per feature"
    _check_columns(path, table, ("patient_id", "modality"), FEATURE_COLUMNS, draft, remedy, more=True)
    schema = features_schema(patient_ids or frozenset())
    _check_cells(path, table, schema if patient_ids is not None else schema.remove_columns(["patient_id"]), draft)
    named = table.reindex(columns=list(FEATURE_COLUMNS), fill_value="")
    named = named.assign(timepoint=named["timepoint"].replace("", "pre"))
    named = named.assign(sequence_or_view=named["sequence_or_view"].replace("", "all"))
    remedy = "keep one row per patient, timepoint, modality and sequence or view"
    _check_unique(path, named, list(FEATURE_COLUMNS), draft, "measured more than once", remedy)
    values = table.drop(columns=[name for name in FEATURE_COLUMNS if name in table.columns])
    if len(table) and not values.shape[1]:
        draft.note(path, "no column of features", "add one column per feature", 1)
    numbers = values.apply(pd.to_numeric, errors="coerce").astype("float64")
    remedy = "write a number with a decimal point, or leave the cell empty where it could not be measured"
    for row, column in zip(*np.nonzero((values != "") & ~np.isfinite(numbers)), strict=True):
        draft.note(path, "not a number", remedy, table.index[row], values.columns[column], values.iat[row, column])
    for column in numbers.columns[numbers.isna().all()]:
        message = "feature without a single number"
        draft.warnings.append(Problem.of(path, message, "remove the column; it is left out", column=column))
    numbers = numbers.dropna(axis="columns", how="all")
    draft.features = pd.concat([named, numbers], axis="columns").reset_index(drop=True)


def _typed_patients(
    table: pd.DataFrame, endpoints: dict[str, Endpoint], clinical: dict[str, ClinicalVariable]
) -> pd.DataFrame:
    columns = ["patient_id", "center"]
    if "split" in table.columns and (table["split"] != "").any():
        columns.append("split")
    typed = table[[*columns, *endpoints, *clinical]].reset_index(drop=True)
    typed = typed.assign(**{column: _typed_labels(typed[column]) for column in endpoints})
    for column, variable in clinical.items():
        filled = typed[column].where(typed[column] != "")
        typed[column] = filled.astype("float64") if variable.kind == "continuous" else filled
    return typed


def _typed_labels(column: pd.Series) -> pd.Series:
    return column.where(column != "").astype("float64").astype("Int64")


def _typed_images(table: pd.DataFrame | None) -> pd.DataFrame:
    if table is None:
        return images_table({})
    filled = table.where(table != "")
    return images_table(
        filled.assign(unit_label=_typed_labels(table["unit_label"])) if "unit_label" in table else filled
    )


def _typed_readers(table: pd.DataFrame | None) -> pd.DataFrame:
    if table is None or not len(table):
        return empty_readers()
    return table.reset_index(drop=True)[list(READER_COLUMNS)].astype({"score": "float64"})
