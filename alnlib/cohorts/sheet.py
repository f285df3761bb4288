"""A hospital's table of patients, Excel or CSV of any kind, and which of its columns may become clinical variables.

Images are found in `scan`; the cohort is written in `intake`.
"""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from alnlib.cohorts.schema import ClinicalVariable
from alnlib.cohorts.workbook import cell_text
from alnlib.errors import InputError, Problem
from alnlib.files import FORMULA, MOST_ROWS, too_large

SEPARATORS = ",;\t|"
MISSING = ("", "-", "--", "?", ".", "na", "n/a", "n.a.", "nan", "nd", "null", "unknown", "missing", "not available")
MISSING += ("not applicable", "not known", "not done")
"""Words for an empty cell, in lower case."""

MOST_LEVELS = 8
LONGEST_LEVEL = 40
FEWEST_OF_LEVEL = 2
"""A column of words has at most so many levels, each of at most so many characters and in at least so many patients; else it is
free text, or its rare level tells who somebody is. Our choice."""

OLDEST_YEARS = 90
"""Ages above 89 count as 90 (HIPAA Safe Harbor, 45 CFR 164.514(b)(2)(i)(C))."""

IDENTIFYING = re.compile(
    r"(?<![a-z])(?:(?:sur|fore|first|last|family|given|full|patient|nach|vor)?[ _]?names?|initials?|mrn|ssn|nhs|ids?|"
    r"identifiers?|accession|address|street|city|town|zip|post(?:al)?[ _]?code|phone|mobile|fax|e?[ _-]?mail|insurance|"
    r"physicians?|doctors?|surgeons?|radiologists?|sonographers?|operators?|readers?|referr\w*|hospitals?|institutions?|"
    r"dob|births?|birth[ _]?(?:day|date|place)|dates?|comments?|notes?|remarks?|reports?|text|file(?:s|name)?|path|"
    r"case|patient|nr|geburts?\w*|datum|arzt|klinik|befund|bemerkung\w*)(?![a-z])",
    re.IGNORECASE,
)
"""Words in the heading of a column that is left out, whatever its cells look like."""

NUMBER = re.compile(r"[+-]?(\d+([.,]\d*)?|[.,]\d+)([eE][+-]?\d+)?")
THOUSANDS = re.compile(r"[+-]?[1-9]\d{0,2}(,\d{3})+")
STEP = re.compile(
    r"(?P<scale>(?:[cpy]{0,2}[TN]|G|BI-?RADS|grade|stage)?\s*)(?P<number>\d)(?P<letter>[a-d]?)", re.IGNORECASE
)
"""A level of an ordered scale: T2, pN1, G3, BI-RADS 4a, or 4a alone."""

DATE = re.compile(r"\d{1,4}([-/.])\d{1,2}\1\d{2,4}([ T]\d{1,2}:\d{2}.*)?|(19|20)\d{2}[01]\d[0-3]\d")


@dataclass(frozen=True)
class Sheet:
    """path: the file. cells: every cell as stripped text, "" where empty or a word for it, indexed by line. decimal_comma:
    whether it is CSV separated by something else than commas, so that a comma in a number is a decimal one."""

    path: Path
    cells: pd.DataFrame
    decimal_comma: bool

    def column(self, heading: str, option: str) -> pd.Series:
        """The cells under a heading. Raises InputError that names the headings and the option that gave it."""
        if heading not in self.cells:
            known = ", ".join(map(repr, self.cells.columns))
            raise InputError(f"{self.path}: no column {heading!r} for {option}; its columns are {known}")
        return self.cells[heading]


def read_sheet(path: str | Path) -> Sheet:
    """Read the first sheet of an Excel workbook (.xlsx, .xlsm), or a CSV file.

    CSV: columns separated by commas, semicolons, tabs or bars, whichever the first line has most of; UTF-8, UTF-16 with its
    mark, else Windows-1252. The first line with content is the heading. Raises InputError, with every problem, for another
    kind of file, one without rows, a heading given twice, or lines of another length.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such table; give the sheet of patients as --table")
    if large := too_large(path):
        raise InputError(f"{path}: {large}; give the sheet of patients alone")
    decimal_comma = False
    if path.suffix.lower() in (".xlsx", ".xlsm"):
        rows = _excel_rows(path)
    elif path.read_bytes()[:4] in (b"\xd0\xcf\x11\xe0", b"PK\x03\x04") or path.suffix.lower() in (".xls", ".ods"):
        raise InputError(f"{path}: is a workbook of a kind that is not read; save it as .xlsx or as CSV")
    else:
        rows, decimal_comma = _csv_rows(path)
    rows = [(line, cells) for line, cells in rows if any(cells)]
    if len(rows) < 2:
        raise InputError(f"{path}: has no line of a patient below its heading; give the sheet that has")
    (first, heading), *others = rows
    names = [name or f"column {at}" for at, name in enumerate(heading, 1)]
    problems = [
        Problem.of(path, "heading appears twice", "rename one of the two", first, name)
        for name, count in Counter(names).items()
        if count > 1
    ]
    for line, cells in others:
        if any(cells[len(names) :]):
            message = f"line has {len(cells)} cells where the heading has {len(names)}"
            problems.append(Problem.of(path, message, "put cells that hold a separator in quotes", line))
    if problems:
        raise InputError(f"{path}: {len(problems)} problem{'s' if len(problems) > 1 else ''} in this table", problems)
    filled = [(cells + [""] * len(names))[: len(names)] for _, cells in others]
    table = pd.DataFrame(filled, columns=names, index=[line for line, _ in others], dtype="str")
    return Sheet(path, table.apply(_without_words_for_missing), decimal_comma)


def _without_words_for_missing(cells: pd.Series) -> pd.Series:
    """In a column of + and - a minus is no gap."""
    words = set(MISSING) - ({"-"} if (cells == "+").any() else set())
    return cells.where(~cells.str.lower().isin(words), "")


def _excel_rows(path: Path) -> list[tuple[int, list[str]]]:
    try:
        table = pd.read_excel(path, header=None, dtype=object, keep_default_na=False, na_values=[""])
    except Exception as error:  # zipfile, openpyxl and pandas each have their own for a broken workbook
        raise InputError(f"{path}: cannot be read as an Excel workbook ({error}); save it again, or as CSV") from error
    return [(at + 1, [_excel_text(cell) for cell in cells]) for at, cells in enumerate(table.to_numpy(dtype=object))]


def _excel_text(cell: object) -> str:
    if isinstance(cell, float) and cell.is_integer():
        return str(int(cell))
    return "" if cell is pd.NaT else cell_text(cell)


def _csv_rows(path: Path) -> tuple[list[tuple[int, list[str]]], bool]:
    raw = path.read_bytes()
    encodings = ("utf-16",) if raw[:2] in (b"\xff\xfe", b"\xfe\xff") else ("utf-8-sig", "cp1252", "latin-1")
    for encoding in encodings:
        try:
            text = raw.decode(encoding)
            break
        except UnicodeDecodeError:
            continue
    else:
        raise InputError(f"{path}: is no text in UTF-8, UTF-16 or Windows-1252; save it as CSV UTF-8")
    if "\0" in text:
        raise InputError(f"{path}: is no table of text; give .xlsx or CSV")
    first = next((line for line in text.splitlines() if line.strip()), "")
    separator = max(SEPARATORS, key=first.count)
    reader, rows, before = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True), [], 0
    try:
        for cells in reader:
            rows.append((before + 1, [cell.strip() for cell in cells]))
            if len(rows) > MOST_ROWS:
                raise InputError(f"{path}: more than {MOST_ROWS:,} rows; give the sheet of patients alone")
            before = reader.line_num
    except csv.Error as error:
        message = f"{path}: row {before + 1}: broken quoting ({error})"
        raise InputError(f"{message}; close the quotation mark, or double it inside a quoted cell") from error
    return rows, separator != ","


def numbers(cells: pd.Series, decimal_comma: bool) -> pd.Series:
    """A column as float64, NaN where empty; decimal commas are understood.

    decimal_comma: as in `Sheet`. Raises ValueError, saying why, if a cell is no number, or if a comma may mean thousands.
    """
    given = cells[cells != ""]
    if not given.map(lambda text: NUMBER.fullmatch(text) or THOUSANDS.fullmatch(text)).astype(bool).all():
        raise ValueError("not all cells are numbers")
    with_comma = given[given.str.contains(",")]
    like_thousands = with_comma.map(lambda text: bool(THOUSANDS.fullmatch(text)))
    unsure = like_thousands.all() and not decimal_comma
    if len(with_comma) and (unsure or given.str.contains(".", regex=False).any()):
        raise ValueError(f"{with_comma.iloc[0]!r} may mean two numbers; write decimal points and no thousands")
    return pd.to_numeric(cells.where(cells != "").str.replace(",", ".")).astype("float64")


def judged(
    heading: str, cells: pd.Series, decimal_comma: bool, identities: Sequence[str]
) -> tuple[ClinicalVariable, pd.Series]:
    """The clinical variable that a column of one cell per patient can be, and its values: float64, or level names.

    identities: texts that name people or places, in lower case; a column that holds one is left out. Ages, and numbers with more
    than `MOST_LEVELS` values or fractions, are continuous; levels of a scale (STEP)
    are ordinal, the lowest first; other columns nominal, the commonest level first. Raises ValueError
    with the reason if the column is better left out: it looks like an identifier, a date or free text, or tells nothing.
    """
    given = cells[cells != ""]
    counts = given.value_counts()
    if IDENTIFYING.search(re.sub(r"(?<=[a-z])(?=[A-Z])", " ", heading).replace("_", " ")):
        raise ValueError("its heading names a person, a place, a date, a file or a remark")
    if len(counts) < 2:
        raise ValueError("it has fewer than two different values")
    folded = given.str.lower()
    if any(folded.str.contains(text, regex=False).any() for text in identities):
        raise ValueError("it holds a name or number from the headers of the images")
    if given.map(lambda text: bool(FORMULA.match(text))).any():
        raise ValueError("it holds a cell that a spreadsheet would compute")
    if given.map(lambda text: bool(DATE.fullmatch(text))).mean() > 0.5:
        raise ValueError("it looks like dates")
    if given.str.contains(r"\d").all() and given.map(lambda text: bool(NUMBER.fullmatch(text))).all():
        values = numbers(cells, decimal_comma)
        whole = bool((values.dropna() % 1 == 0).all())
        counted = np.ptp(values.dropna()) == len(given) - 1
        if whole and len(counts) == len(given) and (counted or values.abs().max() >= 10_000):
            raise ValueError("it looks like an identifier: whole numbers, all different")
        if re.search(r"(?<![a-z])(?:age|alter)(?![a-z])", heading.replace("_", " "), re.IGNORECASE):
            return ClinicalVariable(heading, "continuous"), values.clip(upper=OLDEST_YEARS)
        if not whole or len(counts) > MOST_LEVELS:
            return ClinicalVariable(heading, "continuous"), values
    if len(counts) > MOST_LEVELS or given.str.len().max() > LONGEST_LEVEL:
        raise ValueError(
            f"it looks like free text: more than {MOST_LEVELS} levels, or longer ones than {LONGEST_LEVEL} characters"
        )
    if counts.min() < FEWEST_OF_LEVEL:
        raise ValueError(
            f"{counts.index[-1]!r} stands in one patient only; merge rare levels, or empty the cell, to keep it"
        )
    if steps := _in_steps(counts.index):
        return ClinicalVariable(heading, "ordinal", None, steps), cells.where(cells != "", np.nan)
    levels = tuple(counts.sort_index().sort_values(ascending=False, kind="stable").index)
    return ClinicalVariable(heading, "nominal", None, levels), cells.where(cells != "", np.nan)


def _in_steps(levels: Sequence[str]) -> tuple[str, ...]:
    """The levels of a scale from the lowest on, such as BI-RADS 2, 3, 4a, 4b; () where they are of none, or bare numbers."""
    found = [STEP.fullmatch(level) for level in levels]
    scales = {step and step["scale"].strip().lower() for step in found}
    if None in scales or len(scales) > 1 or not (scales != {""} or any(step["letter"] for step in found)):
        return ()
    return tuple(
        sorted(levels, key=lambda level: (int((step := STEP.fullmatch(level))["number"]), step["letter"].lower()))
    )


def column_names(headings: Sequence[str], taken: Sequence[str]) -> dict[str, str]:
    """For each heading a name of a column: lower case, underscores, none of `taken` nor twice."""
    names: dict[str, str] = {}
    for heading in headings:
        plain = re.sub(r"\W+", "_", heading.lower()).strip("_") or "variable"
        name, number = plain, 2
        while name in (*taken, *names.values()):
            name, number = f"{plain}_{number}", number + 1
        names[heading] = name
    return names
