"""The exception for a user's mistake, the record of a single problem in an input, and the word of a stage without work.

Programming errors are ValueError or TypeError and are not defined here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

EXIT_INPUT_ERROR = 2
"""Exit status of the command line when an input, an option or the environment is at fault."""

MAX_KINDS_SHOWN = 30
"""Kinds of problem up to which each has a line of its own."""

FIRST_SHOWN = 5
"""Rows, values, columns and files that are named of a problem which is there many times."""


@dataclass(frozen=True)
class Problem:
    """One thing wrong with an input.

    file: path as the user knows it; row: line number in that file, the header being line 1, or None;
    column, value: where and what, or None; message: what is wrong; remedy: what to do about it.
    """

    file: str
    row: int | None
    column: str | None
    value: str | None
    message: str
    remedy: str

    @classmethod
    def of(
        cls, file: object, message: str, remedy: str, row: Any = None, column: str | None = None, value: object = None
    ) -> Problem:
        """A problem in the order in which one tells it; `file` and `value` as text, an empty value left out."""
        shown = None if value is None or str(value) == "" else str(value)
        return cls(str(file), None if row is None else int(row), column, shown, message, remedy)

    def __str__(self) -> str:
        row = "" if self.row is None else f", row {self.row}"
        column = f", column {self.column}" if self.column else ""
        found = "" if self.value is None else f" (found {self.value!r})"
        return f"{self.file}{row}{column}: {self.message}{found}; {self.remedy}"


class InputError(Exception):
    """An input that the user can mend: a file, a row, an option, the environment.

    message: one sentence, or the heading of a list of problems. problems: every problem found, in file order.
    """

    def __init__(self, message: str, problems: Iterable[Problem] = ()) -> None:
        self.message = message
        self.problems = tuple(problems)
        super().__init__(message)

    def __reduce__(self):
        return type(self), (self.message, self.problems)

    def __str__(self) -> str:
        return "\n".join([self.message, *(f"  {line}" for line in grouped(self.problems))])


def grouped(problems: Sequence[Problem]) -> list[str]:
    """A line for every kind of problem, in the order of the first of each: how often it is there, and the first rows.

    Of one kind are those of one file and column with the same message and remedy; what a message has in parentheses, such as
    the row of a first entry, may differ. No kind is left out: where there are more than MAX_KINDS_SHOWN, the same message of
    several columns and files shares a line.
    """
    kinds = _kinds(problems)
    return [_told(kind) for kind in (kinds if len(kinds) <= MAX_KINDS_SHOWN else _kinds(problems, by_place=False))]


def counted(problems: Sequence[Problem], what: str = "problem") -> str:
    """ "1 problem", "2 problems" or, where some are alike, "60 problems of 2 kinds"."""
    kinds = len(_kinds(problems))
    alike = f" of {kinds} kind{'s' if kinds > 1 else ''}" if kinds < len(problems) else ""
    return f"{len(problems)} {what}{'s' if len(problems) != 1 else ''}{alike}"


def _kinds(problems: Sequence[Problem], by_place: bool = True) -> list[list[Problem]]:
    kinds: dict[tuple, list[Problem]] = {}
    for problem in problems:
        place = (problem.file, problem.column, problem.remedy) if by_place else ()
        kinds.setdefault((_without_case(problem.message), *place), []).append(problem)
    return list(kinds.values())


def _without_case(message: str) -> str:
    return re.sub(r" \([^()]*\)", "", message)


def _told(kind: Sequence[Problem]) -> str:
    first = kind[0]
    if len(kind) == 1:
        return str(first)
    files = _first_of([problem.file for problem in kind])
    rows = _first_of([str(problem.row) for problem in kind if problem.row is not None]) if files == first.file else ""
    columns = _first_of([problem.column for problem in kind if problem.column])
    values = _first_of([repr(problem.value) for problem in kind if problem.value is not None])
    where = (f", row{'s' * (' ' in rows)} {rows}" if rows else "") + (f", column {columns}" if columns else "")
    same = len({problem.message for problem in kind}) == 1
    message = first.message if same else _without_case(first.message)
    return f"{files}{where}: {message}, {len(kind)} times{f' (found {values})' if values else ''}; {first.remedy}"


def _first_of(texts: Sequence[str]) -> str:
    """The first different ones, and how many more there are."""
    different = list(dict.fromkeys(texts))
    left = len(different) - FIRST_SHOWN
    return ", ".join(different[:FIRST_SHOWN]) + (f" and {left} more" if left > 0 else "")


class DoesNotApply(InputError):
    """Raised by a notebook that finds, once it has read the cohort, that it has nothing to work on.

    The stage is then left out, as one whose images the cohort lacks is, and later stages go on without its files.
    message: what is missing, and which parameter would ask for less.
    """
