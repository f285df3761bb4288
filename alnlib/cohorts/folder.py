"""A cohort folder (cohort.yaml, patients.csv, images.csv, readers.csv): read, written and checked, all problems at once.

Pixels are not opened here; the public sources are turned into a cohort by their own modules.
"""

from __future__ import annotations

import csv
import difflib
import io
from dataclasses import dataclass, field
from pathlib import Path, PureWindowsPath
from typing import Any

import pandas as pd
import yaml

from alnlib.cohorts.schema import (
    GIVEN_SPLITS,
    IMAGE_COLUMNS,
    IMAGE_REQUIRED_COLUMNS,
    PATIENT_ID_COLUMNS,
    PROVENANCES,
    READER_COLUMNS,
    VARIABLE_KINDS,
    ClinicalVariable,
    Cohort,
    Endpoint,
    empty_readers,
    images_schema,
    is_label,
    patients_schema,
    readers_schema,
)
from alnlib.errors import InputError, Problem
from alnlib.files import write_csv, write_text

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
OPTIONAL_KEYS = ("external_centers", "clinical", "readers")
ENDPOINT_KEYS = ("label", "positive", "negative")
VARIABLE_KEYS = ("label", "kind", "unit", "levels")


OLDER_NAMES = {"centre": "center", "centres": "centers", "external_centres": "external_centers", "licence": "license"}
"""What columns and keys were called in cohort folders before they were spelled the American way; still read."""


def write_cohort(cohort: Cohort, folder: str | Path) -> list[Path]:
    """Write cohort.yaml, patients.csv, images.csv and readers.csv (the last without rows if there are no scores); return them.

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
    written.append(write_csv(images, folder / "images.csv"))
    written.append(write_csv(cohort.readers[list(READER_COLUMNS)], folder / "readers.csv"))
    return written


def _describe(cohort: Cohort) -> str:
    described: dict[str, Any] = {
        "name": cohort.name,
        "title": cohort.title,
        "provenance": cohort.provenance,
        "primary_endpoint": cohort.primary_endpoint,
        "endpoints": {
            column: {"label": endpoint.label, "positive": endpoint.positive, "negative": endpoint.negative}
            for column, endpoint in cohort.endpoints.items()
        },
        "centers": list(cohort.centers),
        "external_centers": list(cohort.external_centers),
        "clinical": {column: _describe_variable(variable) for column, variable in cohort.clinical.items()},
        "readers": dict(cohort.readers_described),
        "license": cohort.license,
        "citation": cohort.citation,
        "source": cohort.source,
    }
    return yaml.safe_dump(described, sort_keys=False, allow_unicode=True, width=120)


def _describe_variable(variable: ClinicalVariable) -> dict[str, Any]:
    described: dict[str, Any] = {"label": variable.label, "kind": variable.kind}
    if variable.unit:
        described["unit"] = variable.unit
    if variable.levels:
        described["levels"] = list(variable.levels)
    return described


def read_cohort(folder: str | Path, root: str | Path | None = None, *, check_images: bool = True) -> Cohort:
    """Read and check a cohort folder.

    root: the folder that image paths are relative to; the cohort folder itself unless given. check_images: whether the
    files must be there; a stage that reads only tables can do without them.
    Raises InputError that holds every problem found, each with file, row, value and remedy.
    """
    folder = Path(folder)
    draft = _examine(folder, folder if root is None else Path(root), check_images)
    if draft.problems:
        count = len(draft.problems)
        raise InputError(f"{folder}: {count} problem{'s' if count > 1 else ''} in this cohort folder", draft.problems)
    return draft.cohort()


def validate_cohort_folder(folder: str | Path, root: str | Path | None = None) -> list[Problem]:
    """Every problem of a cohort folder, in file order; an empty list if it can be used."""
    folder = Path(folder)
    return _examine(folder, folder if root is None else Path(root)).problems


@dataclass
class _Draft:
    """What could be read of a cohort folder, and what is wrong with it."""

    root: Path
    problems: list[Problem] = field(default_factory=list)
    described: dict[str, Any] = field(default_factory=dict)
    endpoints: dict[str, Endpoint] = field(default_factory=dict)
    clinical: dict[str, ClinicalVariable] = field(default_factory=dict)
    patients: pd.DataFrame | None = None
    images: pd.DataFrame | None = None
    readers: pd.DataFrame | None = None

    def cohort(self) -> Cohort:
        described = self.described
        return Cohort(
            name=described["name"],
            title=described["title"],
            provenance=described["provenance"],
            endpoints=self.endpoints,
            primary_endpoint=described["primary_endpoint"],
            centers=tuple(described["centers"]),
            external_centers=tuple(described["external_centers"]),
            clinical=self.clinical,
            readers_described=described["readers"],
            license=described["license"],
            citation=described["citation"],
            source=described["source"],
            patients=_typed_patients(self.patients, self.endpoints, self.clinical),
            images=_typed_images(self.images),
            readers=_typed_readers(self.readers),
            root=self.root,
        )


def _examine(folder: Path, root: Path, check_images: bool = True) -> _Draft:
    draft = _Draft(root=root)
    if not folder.is_dir():
        draft.problems.append(
            Problem(
                str(folder),
                None,
                None,
                None,
                "no such cohort folder",
                "give the path of a folder that holds cohort.yaml",
            )
        )
        return draft
    _examine_description(folder / "cohort.yaml", draft)
    _examine_patients(folder / "patients.csv", draft)
    patient_ids = frozenset(draft.patients["patient_id"]) if draft.patients is not None else None
    _examine_images(folder / "images.csv", draft, patient_ids, check_images)
    _examine_readers(folder / "readers.csv", draft, patient_ids)
    return draft


# ---------------------------------------------------------------------------------------------------------------- yaml


def _examine_description(path: Path, draft: _Draft) -> None:
    def problem(message: str, remedy: str, key: str | None = None, value: Any = None, row: int | None = None) -> None:
        line = lines.get(key.split(".")[0]) if key and row is None else row
        draft.problems.append(Problem(str(path), line, key, None if value is None else str(value), message, remedy))

    lines: dict[str, int] = {}
    if not path.is_file():
        problem("file is missing", "write it; README (Your own cohort) lists its keys")
        return
    try:
        text = path.read_bytes().decode("utf-8-sig")
        described, lines, repeated = _load_yaml(text)
    except UnicodeDecodeError as error:
        problem("not UTF-8 text", "save the file as UTF-8", row=_line_of_byte(path.read_bytes(), error.start))
        return
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        reason = " ".join(str(getattr(error, "problem", None) or error).split())
        problem(
            f"not valid YAML: {reason}",
            "mend the line (indentation, colons, quotes)",
            row=mark.line + 1 if mark else None,
        )
        return
    if not isinstance(described, dict):
        problem("not a mapping of keys to values", "start from the cohort.yaml of a simulated cohort")
        return
    for key, line in repeated:
        problem("key appears twice", "keep one of the two", key=key, row=line)

    for key in described:
        if key not in (*REQUIRED_KEYS, *OPTIONAL_KEYS):
            near = difflib.get_close_matches(str(key), [*REQUIRED_KEYS, *OPTIONAL_KEYS], 1)
            hint = f"did you mean {near[0]}?" if near else f"known keys: {', '.join((*REQUIRED_KEYS, *OPTIONAL_KEYS))}"
            problem("unknown key", hint, key=str(key))
    for key in REQUIRED_KEYS:
        if key not in described or described[key] in (None, "", [], {}):
            problem("key is missing or empty", f"add {key}: {KEY_MEANING[key]}", key=key)

    known: dict[str, Any] = draft.described
    for key in ("name", "title", "provenance", "primary_endpoint", "license", "citation", "source"):
        value = described.get(key)
        if value is None or value == "":
            continue
        text_value = _as_text(value)
        if text_value is None:
            problem("not a piece of text", f"write {key} as one line of text, in quotes", key=key, value=value)
        else:
            known[key] = text_value.strip()
    if known.get("provenance", "real") not in PROVENANCES:
        problem("unknown provenance", f"use {' or '.join(PROVENANCES)}", key="provenance", value=known["provenance"])

    for key in ("centers", "external_centers"):
        names = described.get(key) or []
        texts = [_as_text(name) for name in names] if isinstance(names, list) else [None]
        if None in texts:
            problem(
                "not a list of names",
                f"write {key} as a list, for example [Hospital A, Hospital B]",
                key=key,
                value=names,
            )
            texts = []
        if len(set(texts)) < len(texts):
            problem("a center is listed twice", "list every center once", key=key, value=names)
        known[key] = [str(name) for name in texts]
    if known["centers"] and known["centers"][0] in known["external_centers"]:
        problem(
            "the primary center (the first) is also external",
            "list the development center first and take it out of external_centers",
            key="external_centers",
            value=known["centers"][0],
        )

    known["readers"] = {}
    readers = described.get("readers") or {}
    if not isinstance(readers, dict):
        problem("not a mapping", "write readers as reader_id: description", key="readers", value=readers)
    else:
        known["readers"] = {str(reader): str(description) for reader, description in readers.items()}

    _examine_endpoints(described.get("endpoints"), draft, problem)
    _examine_clinical(described.get("clinical"), draft, problem)
    if known.get("primary_endpoint") and draft.endpoints and known["primary_endpoint"] not in draft.endpoints:
        problem(
            "primary endpoint is not among the endpoints",
            f"use one of {', '.join(draft.endpoints)}",
            key="primary_endpoint",
            value=known["primary_endpoint"],
        )
    reserved = {"patient_id", "center", "split"}
    for column in (*draft.endpoints, *draft.clinical):
        if column in reserved or (column in draft.endpoints and column in draft.clinical):
            problem(
                "column name is used twice",
                f"choose another name; {', '.join(sorted(reserved))} are reserved and endpoints are no predictors",
                key=f"{'clinical' if column in draft.clinical else 'endpoints'}.{column}",
            )


def _examine_endpoints(described: Any, draft: _Draft, problem) -> None:
    if described in (None, "", [], {}):
        return
    if not isinstance(described, dict):
        problem(
            "not a mapping", "write endpoints as column: {label: ..., positive: ..., negative: ...}", key="endpoints"
        )
        return
    for column, entry in described.items():
        key = f"endpoints.{column}"
        entry = entry if isinstance(entry, dict) else {}
        for name in entry:
            if name not in ENDPOINT_KEYS:
                problem("unknown key", f"an endpoint has {', '.join(ENDPOINT_KEYS)}", key=f"{key}.{name}")
        texts = {}
        for name in ENDPOINT_KEYS:
            texts[name] = _as_text(entry.get(name))
            if not texts[name]:
                problem(
                    "missing, or not text",
                    f'write {name}: in words, in quotes if it is yes, no, on or off, e.g. positive: "node-positive"',
                    key=f"{key}.{name}",
                    value=entry.get(name),
                )
        draft.endpoints[str(column)] = Endpoint(**{name: texts[name] or "" for name in ENDPOINT_KEYS})


def _examine_clinical(described: Any, draft: _Draft, problem) -> None:
    if described in (None, "", [], {}):
        return
    if not isinstance(described, dict):
        problem("not a mapping", "write clinical as column: {label: ..., kind: ...}", key="clinical")
        return
    for column, entry in described.items():
        key = f"clinical.{column}"
        if not isinstance(entry, dict):
            problem("not a mapping", "write label, kind, and unit or levels", key=key, value=entry)
            continue
        for name in entry:
            if name not in VARIABLE_KEYS:
                problem("unknown key", f"a clinical variable has {', '.join(VARIABLE_KEYS)}", key=f"{key}.{name}")
        kind = entry.get("kind")
        if kind not in VARIABLE_KINDS:
            problem("unknown kind", f"use {', '.join(VARIABLE_KINDS)}", key=f"{key}.kind", value=kind)
            kind = None
        levels = entry.get("levels") or []
        texts = [_as_text(level) for level in levels] if isinstance(levels, list) else [None]
        if any(not level for level in texts):
            problem(
                "levels are not a list of names",
                'list the level names, in quotes where they are yes, no, on or off: ["no", "yes"]',
                key=f"{key}.levels",
                value=levels,
            )
            kind = None
        elif len(set(texts)) < len(texts):
            problem("a level is listed twice", "list every level once", key=f"{key}.levels", value=levels)
        elif kind in ("ordinal", "nominal") and len(texts) < 2:
            problem(
                "fewer than two levels",
                "list the levels in order, the reference first",
                key=f"{key}.levels",
                value=levels,
            )
            kind = None
        elif kind == "continuous" and texts:
            problem(
                "a continuous variable has levels", "remove them or call it ordinal", key=f"{key}.levels", value=levels
            )
            texts = []
        if kind is not None:
            unit = _as_text(entry.get("unit"))
            label = _as_text(entry.get("label")) or str(column)
            draft.clinical[str(column)] = ClinicalVariable(label, kind, unit, tuple(texts))
        else:
            # still known as a column, so that patients.csv is not blamed for it
            draft.clinical[str(column)] = ClinicalVariable(str(column), "undecided")


def _load_yaml(text: str) -> tuple[Any, dict[str, int], list[tuple[str, int]]]:
    """The document, the line of each top-level key, and the keys given twice at any level."""
    node = yaml.compose(text, Loader=yaml.SafeLoader)
    lines: dict[str, int] = {}
    repeated: list[tuple[str, int]] = []

    def visit(mapping: yaml.Node, prefix: str) -> None:
        seen = set()
        for key_node, value_node in mapping.value:
            if not prefix:
                key_node.value = OLDER_NAMES.get(key_node.value, key_node.value)
            key, line = f"{prefix}{key_node.value}", key_node.start_mark.line + 1
            if key in seen:
                repeated.append((key, line))
            seen.add(key)
            if not prefix:
                lines.setdefault(key, line)
            if isinstance(value_node, yaml.MappingNode):
                visit(value_node, f"{key}.")

    if isinstance(node, yaml.MappingNode):
        visit(node, "")
    return None if node is None else yaml.SafeLoader("").construct_document(node), lines, repeated


def _as_text(value: Any) -> str | None:
    """Text of a scalar; None for what YAML made a boolean, a date or a list, since the writer meant something else."""
    if isinstance(value, str):
        return value
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return str(value)
    return None


# -------------------------------------------------------------------------------------------------------------- tables


def _read_table(path: Path, problems: list[Problem]) -> pd.DataFrame | None:
    """A CSV file as stripped text, indexed by line number; None, with the problems noted, where it cannot be read."""

    def problem(message: str, remedy: str, row: int | None = None, value: str | None = None, column: str | None = None):
        problems.append(Problem(str(path), row, column, value, message, remedy))

    if not path.is_file():
        problem("file is missing", "every cohort folder holds cohort.yaml, patients.csv and images.csv")
        return None
    raw = path.read_bytes()
    if raw[:2] in (b"\xff\xfe", b"\xfe\xff") or b"\0" in raw:
        problem("not UTF-8 text (UTF-16 or binary)", 'save it as "CSV UTF-8 (comma delimited)"')
        return None
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = _line_of_byte(raw, error.start)
        problem(
            "not UTF-8 text", 'save it as "CSV UTF-8 (comma delimited)"', line, repr(raw[error.start : error.start + 1])
        )
        return None
    first_line = text.split("\n", 1)[0].rstrip("\r")
    if "," not in first_line:
        for separator, name in ((";", "semicolons"), ("\t", "tabs")):
            if separator in first_line:
                problem(
                    f"columns are separated by {name}, as Excel writes CSV in many countries",
                    'save it with commas ("CSV UTF-8 (comma delimited)"), and numbers with decimal points',
                    1,
                    first_line[:60],
                )
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
            previous_line = reader.line_num
    except csv.Error as error:
        problem(
            f"broken quoting ({error})",
            "close the quotation mark, or double it inside a quoted cell",
            previous_line + 1,
        )
        return None
    if not rows:
        problem("file is empty", "write at least the header line")
        return None
    header = [OLDER_NAMES.get(column, column) for column in rows[0]]
    for position, column in enumerate(header, start=1):
        if column == "":
            problem(f"column {position} has no name", "name it, or remove the trailing comma", line_numbers[0])
        elif column in header[: position - 1]:
            problem("column appears twice", "keep one of the two", line_numbers[0], column=column)
    complete: list[list[str]] = []
    complete_lines: list[int] = []
    for cells, line in zip(rows[1:], line_numbers[1:], strict=True):
        if len(cells) == len(header):
            complete.append(cells)
            complete_lines.append(line)
        else:
            problem(
                f"line has {len(cells)} cells where the header has {len(header)}",
                "give every line the same number of cells, and put cells that hold a comma in quotes",
                line,
                ",".join(cells)[:60],
            )
    frame = pd.DataFrame(complete, columns=header, index=pd.Index(complete_lines, dtype="int64"), dtype="str")
    return frame.loc[:, ~pd.Index(header).duplicated()]


def _line_of_byte(raw: bytes, position: int) -> int:
    return raw[:position].count(b"\n") + 1


def _check_columns(
    path: Path,
    table: pd.DataFrame,
    required: tuple[str, ...],
    known: tuple[str, ...],
    problems: list[Problem],
    remedy: str,
) -> bool:
    """Note missing and unknown columns; return whether all required ones are there."""
    for column in required:
        if column not in table.columns:
            near = difflib.get_close_matches(column, [name for name in table.columns if name not in known], 1)
            hint = f"rename {near[0]!r}" if near else "add it"
            problems.append(Problem(str(path), 1, column, None, "column is missing", f"{hint}; {remedy}"))
    for column in table.columns:
        if column and column not in known:
            near = difflib.get_close_matches(column, known, 1)
            hint = f"did you mean {near[0]!r}? Otherwise " if near else ""
            problems.append(Problem(str(path), 1, column, None, "unknown column", f"{hint}remove it; {remedy}"))
    return all(column in table.columns for column in required)


def _check_cells(path: Path, table: pd.DataFrame, schema, problems: list[Problem]) -> None:
    """Validate lazily with pandera and note every failing cell, in line order."""
    import pandera.errors  # see alnlib.cohorts.schema.patients_schema

    absent = [name for name, column in schema.columns.items() if name not in table.columns and column.required]
    schema = schema.remove_columns(absent) if absent else schema
    try:
        schema.validate(table, lazy=True)
    except pandera.errors.SchemaErrors as errors:
        found = []
        for error in errors.schema_errors:
            for row, value in zip(error.failure_cases["index"], error.failure_cases["failure_case"], strict=True):
                column = error.schema.name
                order = (int(row), list(table.columns).index(column))
                shown = str(value) or None
                found.append(
                    (order, Problem(str(path), int(row), column, shown, error.check.title, error.check.description))
                )
        problems.extend(problem for _, problem in sorted(found, key=lambda item: item[0]))


def _check_unique(
    path: Path, table: pd.DataFrame, keys: list[str], problems: list[Problem], message: str, remedy: str
) -> None:
    named = table[(table[keys] != "").all(axis=1)]
    for value, rows in named.groupby(named[keys].agg(" ".join, axis=1), sort=False).groups.items():
        for row in rows[1:]:
            problems.append(
                Problem(str(path), int(row), keys[-1], value, f"{message} (first at row {rows[0]})", remedy)
            )


def _examine_patients(path: Path, draft: _Draft) -> None:
    problems = draft.problems
    table = _read_table(path, problems)
    if table is None:
        return
    declared = (*draft.endpoints, *draft.clinical)
    required = ("patient_id", "center", *declared)
    known = (*required, "split")
    if draft.endpoints or draft.clinical:
        _check_columns(
            path, table, required, known, problems, "cohort.yaml declares the endpoints and the clinical variables"
        )
    else:  # cohort.yaml could not be read: which columns it declares is not known
        _check_columns(
            path,
            table,
            PATIENT_ID_COLUMNS,
            tuple({*table.columns, *PATIENT_ID_COLUMNS}),
            problems,
            "see README, Your own cohort",
        )
    if not len(table):
        problems.append(Problem(str(path), None, None, None, "no patient in this cohort", "add one line per patient"))
    decided = {column: variable for column, variable in draft.clinical.items() if variable.kind in VARIABLE_KINDS}
    external = tuple(draft.described.get("external_centers", ()))
    centers = tuple(dict.fromkeys((*draft.described.get("centers", ()), *external)))
    _check_cells(path, table, patients_schema(draft.endpoints, decided, centers), problems)
    if "patient_id" not in table.columns:
        return
    draft.patients = table
    _check_repeated_patients(path, table, problems)
    _check_given_splits(path, table, external, problems)
    _check_both_classes(path, table, draft)


def _check_repeated_patients(path: Path, table: pd.DataFrame, problems: list[Problem]) -> None:
    for patient, rows in table[table["patient_id"] != ""].groupby("patient_id", sort=False).groups.items():
        if len(rows) == 1:
            continue
        splits = table.loc[rows, "split"] if "split" in table.columns else pd.Series("", index=rows)
        for row in rows[1:]:
            if splits[row] != splits[rows[0]]:
                message = f"patient is in two splits ({splits[rows[0]]} at row {rows[0]}, {splits[row]} at row {row})"
                remedy = "keep each patient in one split, on one line"
            else:
                message, remedy = (
                    f"patient appears more than once (first at row {rows[0]})",
                    "keep one line per patient",
                )
            problems.append(Problem(str(path), int(row), "patient_id", patient, message, remedy))


def _check_given_splits(path: Path, table: pd.DataFrame, external: tuple[str, ...], problems: list[Problem]) -> None:
    if "split" not in table.columns or (table["split"] == "").all():
        return
    for row, split in table["split"].items():
        if split == "":
            remedy = "give every patient a split, or leave the whole column out and let the compendium split"
            problems.append(
                Problem(str(path), int(row), "split", None, "split is empty, though other patients have one", remedy)
            )
        elif "center" in table.columns and split in GIVEN_SPLITS:
            from_external = table.at[row, "center"] in external
            if from_external != (split == "external"):
                message = f"split disagrees with the center, which is {'external' if from_external else 'not external'}"
                remedy = 'patients of external_centers, and only they, are in the split "external"'
                problems.append(Problem(str(path), int(row), "split", split, message, remedy))


def _check_both_classes(path: Path, table: pd.DataFrame, draft: _Draft) -> None:
    """Only for the primary endpoint: another endpoint may be unusable without making the cohort so."""
    endpoint = draft.described.get("primary_endpoint")
    if endpoint not in draft.endpoints or endpoint not in table.columns or not len(table):
        return
    labels = table[endpoint].map({"0": 0, "0.0": 0, "1": 1, "1.0": 1})
    if not table[endpoint].map(is_label).all():
        return  # the malformed labels are reported; they may hold the missing class
    for label in (0, 1):
        if not (labels == label).any():
            draft.problems.append(
                Problem(
                    str(path),
                    None,
                    endpoint,
                    None,
                    f"primary endpoint has no patient with label {label}",
                    "both classes are needed; check the coding, or choose another primary_endpoint",
                )
            )


def _examine_images(path: Path, draft: _Draft, patient_ids: frozenset[str] | None, check_images: bool) -> None:
    problems = draft.problems
    table = _read_table(path, problems)
    if table is None:
        return
    _check_columns(
        path, table, IMAGE_REQUIRED_COLUMNS, IMAGE_COLUMNS, problems, f"images.csv has {', '.join(IMAGE_COLUMNS)}"
    )
    schema = images_schema(patient_ids or frozenset())
    _check_cells(path, table, schema if patient_ids is not None else schema.remove_columns(["patient_id"]), problems)
    if "image_id" in table.columns:
        _check_unique(
            path, table, ["image_id"], problems, "image_id appears more than once", "give every image an id of its own"
        )
    if check_images and draft.root.is_dir():
        top = draft.root.resolve()
        for column in ("path", "mask_path"):
            if column in table.columns:
                for row, text in table.loc[table[column] != "", column].items():
                    fault = _path_fault(text, draft.root, top)
                    if fault:
                        problems.append(Problem(str(path), int(row), column, text, *fault))
    elif check_images:
        remedy = "give the folder that image paths are relative to"
        problems.append(Problem(str(draft.root), None, None, None, "no such folder of images", remedy))
    draft.images = table


def _path_fault(text: str, root: Path, top: Path) -> tuple[str, str] | None:
    """What is wrong with a relative path and the remedy, or None. `top` is `root` resolved."""
    if "\\" in text:
        return ("path holds a backslash", 'write paths with "/", relative to the cohort folder')
    if text.startswith(("/", "~")) or PureWindowsPath(text).drive:
        return ("path is absolute", "put the file into the cohort folder and give its path relative to it")
    if ".." in Path(text).parts:
        return ("path leaves the cohort folder", 'put the file into the folder; ".." is not allowed')
    place = (root / text).resolve()
    if not place.is_relative_to(top):
        return ("path leaves the cohort folder through a link", "put the file itself into the folder")
    if not place.exists():
        return "file is missing", "put it there, or correct the path (capitals count)"
    return None


def _examine_readers(path: Path, draft: _Draft, patient_ids: frozenset[str] | None) -> None:
    if not path.exists():
        return
    problems = draft.problems
    table = _read_table(path, problems)
    if table is None:
        return
    complete = _check_columns(
        path, table, READER_COLUMNS, READER_COLUMNS, problems, "readers.csv has patient_id, reader_id, score"
    )
    schema = readers_schema(patient_ids or frozenset(), tuple(draft.described.get("readers", {})))
    if patient_ids is None:
        schema = schema.remove_columns(["patient_id"])
    if not draft.described:  # cohort.yaml could not be read: which readers it describes is not known
        schema = schema.remove_columns(["reader_id"])
    _check_cells(path, table, schema, problems)
    if complete and len(table):
        keys = ["patient_id", "reader_id"]
        _check_unique(path, table, keys, problems, "reader scored this patient more than once", "keep one score")
    draft.readers = table


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


def _typed_images(table: pd.DataFrame) -> pd.DataFrame:
    absent = {column: "" for column in IMAGE_COLUMNS if column not in table.columns}
    typed = table.reset_index(drop=True).assign(**absent)[list(IMAGE_COLUMNS)].astype("str")
    typed["unit_label"] = _typed_labels(typed["unit_label"])
    texts = [column for column in IMAGE_COLUMNS if column != "unit_label"]
    typed[texts] = typed[texts].where(typed[texts] != "")
    return typed


def _typed_readers(table: pd.DataFrame | None) -> pd.DataFrame:
    if table is None or not len(table):
        return empty_readers()
    return table.reset_index(drop=True)[list(READER_COLUMNS)].astype({"score": "float64"})
