"""A table that somebody sends, as text with the numbers of its lines: CSV with comma, semicolon or tab, or an Excel workbook.

What its columns must hold is checked in `tables`.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from alnlib.errors import Problem
from alnlib.files import MOST_ROWS, too_large

DELIMITERS = (",", ";", "\t")
WORKBOOKS = (".xlsx", ".xlsm")


@dataclass(frozen=True, eq=False)
class Sheet:
    """cells: text, "" where empty, a column per heading; lines: the line of each row; decimal_comma: whether 0,5 is a half."""

    file: str
    cells: pd.DataFrame
    lines: list[int]
    decimal_comma: bool


def read_sheet(path: Path) -> tuple[Sheet | None, list[Problem]]:
    """The table of a file, or None, and the problems that its shape has.

    Text is UTF-8; its delimiter is the one of DELIMITERS that parts the heading most often, or that of a first line
    `sep=;` as Excel writes it. Of a workbook the only sheet that is not empty; whole numbers lose their .0, TRUE is 1.
    """
    file = str(path)
    if path.suffix.lower() == ".xls":
        return None, [Problem(file, None, None, None, "an Excel file of the old kind", "save it as .xlsx or as CSV")]
    if large := too_large(path):
        return None, [Problem(file, None, None, None, large, "give the predictions of one study")]
    try:
        if path.suffix.lower() in WORKBOOKS:
            return _read_workbook(path)
        # the csv module, unlike pandas, counts the lines that an editor shows and says which row is ragged
        with open(path, newline="", encoding="utf-8-sig") as stream:
            return _read_text(file, stream.readlines())
    except FileNotFoundError:
        return None, [Problem(file, None, None, None, "the file does not exist", "check the path")]
    except IsADirectoryError:
        return None, [Problem(file, None, None, None, "this is a folder", "name the files in it")]
    except UnicodeDecodeError:
        remedy = "save it as CSV in UTF-8, or as .xlsx"
        return None, [Problem(file, None, None, None, "the file is not UTF-8 text", remedy)]
    except (OSError, csv.Error) as error:
        return None, [Problem(file, None, None, None, f"the file cannot be read: {error}", "save it as plain CSV")]


def _read_text(file: str, text: list[str]) -> tuple[Sheet, list[Problem]]:
    told = text[0].strip().lower() if text else ""
    skipped = 1 if told.startswith("sep=") else 0
    first = next((line for line in text[skipped:] if line.strip()), "")
    delimiter = max(DELIMITERS, key=lambda mark: len(next(csv.reader([first], delimiter=mark), [])))
    if skipped and len(told) == 5:
        delimiter = told[-1]
    reader = csv.reader(text[skipped:], delimiter=delimiter)
    header, rows, lines, problems = None, [], [], []
    for fields in reader:
        if not any(field.strip() for field in fields):
            continue
        line = reader.line_num + skipped
        if header is None:
            header = [name.strip() for name in fields]
        elif len(fields) < len(header) or any(fields[len(header) :]):
            message = f"{len(fields)} fields under a header of {len(header)}"
            remedy = f"give every row one field per column; quote a field that holds {delimiter!r}"
            problems.append(Problem(file, line, None, delimiter.join(fields)[:80], message, remedy))
        else:
            rows.append(fields[: len(header)])
            lines.append(line)
        if len(rows) > MOST_ROWS:
            problem = Problem(
                file, None, None, None, f"more than {MOST_ROWS:,} rows", "give the predictions of one study"
            )
            return Sheet(file, pd.DataFrame(columns=header, dtype="str"), [], delimiter != ","), [problem]
    return Sheet(file, pd.DataFrame(rows, columns=header or [], dtype="str"), lines, delimiter != ","), problems


def _read_workbook(path: Path) -> tuple[Sheet | None, list[Problem]]:
    file = str(path)
    try:
        sheets = pd.read_excel(path, sheet_name=None, header=None, dtype=object, keep_default_na=False, na_values=[""])
    except FileNotFoundError:
        raise
    except Exception as error:  # zipfile, openpyxl and pandas each have their own for a broken workbook
        return None, [
            Problem(file, None, None, None, f"no Excel workbook: {error}", "save it again as .xlsx or as CSV")
        ]
    held = {name: cells.dropna(how="all") for name, cells in sheets.items() if cells.notna().any(axis=None)}
    if len(held) > 1:
        message = f"{len(held)} sheets hold something: {', '.join(map(str, held))}"
        return None, [Problem(file, None, None, None, message, "keep the sheet of predictions alone")]
    if not held:
        return Sheet(file, pd.DataFrame(), [], False), []
    cells = next(iter(held.values())).map(_cell_text)
    header = [name.strip() for name in cells.iloc[0]]
    named = [bool(name) or cells.iloc[1:, place].ne("").any() for place, name in enumerate(header)]
    table = cells.iloc[1:].set_axis(header, axis=1).loc[:, named].reset_index(drop=True)
    return Sheet(file, table, [int(line) + 1 for line in cells.index[1:]], False), []


def _cell_text(cell: object) -> str:
    if isinstance(cell, bool):
        return str(int(cell))
    if isinstance(cell, float):
        return "" if cell != cell else str(int(cell)) if cell.is_integer() else repr(cell)
    return "" if cell is None else str(cell).strip()
