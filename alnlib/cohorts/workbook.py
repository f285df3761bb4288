"""The Excel workbook of a public cohort: found, read with its headings checked, its cells decoded and every odd one named."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from alnlib.errors import InputError, Problem, counted


def find_workbook(data: Path, pattern: str) -> Path | None:
    """The last workbook of this name in `data` or at most two levels below; deeper lie hundreds of thousands of images."""
    found = sorted(path for depth in ("", "*/", "*/*/") for path in data.glob(depth + pattern))
    return found[-1] if found else None


class Workbook:
    """The first sheet of a workbook.

    path: the file. sheet: its rows, cells as Excel has them, indexed so that row i is line i + 2. problems: what was found
    wrong with cells so far, for `raise_problems`. not_given: the words for an empty cell.
    """

    def __init__(
        self, data: Path, pattern: str, cohort: str, doi: str, headings: Sequence[str], not_given: Sequence[str] = ()
    ) -> None:
        """Raises InputError if no such workbook is below `data`, it cannot be read, or it lacks one of `headings`.

        The first of `headings` is the column that names a row.
        """
        path = find_workbook(data, pattern)
        if path is None:
            raise InputError(
                f"{data}: no {pattern} there or below; get it with 'python3 run_all.py download {cohort} --data {data}', "
                f"or from The Cancer Imaging Archive, doi {doi}, and give its folder as --data"
            )
        self.path, self.problems, self.not_given = path, [], ("", *not_given)
        self.id_heading = headings[0]
        self.unchanged = f"use the workbook of doi {doi} unchanged"
        try:
            self.sheet = pd.read_excel(path, dtype=object, keep_default_na=False, na_values=[""])
        except Exception as error:  # zipfile, openpyxl and pandas each have their own for a broken workbook
            raise InputError(f"{path}: cannot be read as an Excel workbook ({error}); download it again") from error
        absent = [heading for heading in headings if heading not in self.sheet.columns]
        missing = [Problem.of(path, "column is missing", self.unchanged, 1, heading) for heading in absent]
        if missing:
            raise InputError(f"{path}: not the workbook of {cohort}, or an edited one", missing)

    def note(self, at: int, heading: str, message: str, remedy: str, value: object = None) -> None:
        """Remember what is wrong with the cell of row `at` under `heading`."""
        self.problems.append(Problem.of(self.path, message, remedy, at + 2, heading.strip(), value))

    def decode(self, heading: str, understand: Callable, message: str = "unknown entry", remedy: str = "") -> pd.Series:
        """`understand` of the text of every given cell of a column (object), NaN where the cell is empty or `not_given`.

        KeyError and ValueError become problems with their row; remedy: without one, to leave the workbook unchanged.
        """
        decoded: list[object] = []
        for at, cell in self.sheet[heading].items():
            value: object = np.nan
            if cell_text(cell) not in self.not_given:
                try:
                    value = understand(cell_text(cell))
                except (KeyError, ValueError):
                    kind = self.id_heading.removesuffix("ID").strip(" _-").lower()  # Patient ID, CaseID
                    who = f"{kind} {self.sheet.at[at, self.id_heading]}"
                    self.note(at, heading, f"{message} ({who})", remedy or self.unchanged, cell_text(cell))
            decoded.append(value)
        return pd.Series(decoded, index=self.sheet.index, dtype=object)

    def numbers(self, heading: str) -> pd.Series:
        """A column as float64, NaN where the cell is empty or `not_given`; every other cell that is no finite number becomes a
        problem."""

        def finite(text: str) -> float:
            value = float(text)
            if not np.isfinite(value):
                raise ValueError(text)
            return value

        return self.decode(heading, finite, "not a number").astype("float64")

    def raise_problems(self) -> None:
        """Raise InputError with the problems noted so far, if there are any, in the order of their lines."""
        if self.problems:
            found = sorted(dict.fromkeys(self.problems), key=lambda problem: problem.row or 0)
            raise InputError(f"{self.path}: {counted(found)} in this workbook", found)


def cell_text(cell: object) -> str:
    """A cell as stripped text; "" for an empty one."""
    return "" if cell is None or (isinstance(cell, float) and np.isnan(cell)) else str(cell).strip()
