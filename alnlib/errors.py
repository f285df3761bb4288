"""The exception for a user's mistake, the record of a single problem in an input, and the word of a stage without work.

Programming errors are ValueError or TypeError and are not defined here.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

EXIT_INPUT_ERROR = 2
"""Exit status of the command line when an input, an option or the environment is at fault."""

MAX_PROBLEMS_SHOWN = 30


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
        shown = [f"  {problem}" for problem in self.problems[:MAX_PROBLEMS_SHOWN]]
        if len(self.problems) > len(shown):
            shown.append(f"  ... and {len(self.problems) - len(shown)} more")
        return "\n".join([self.message, *shown])


class DoesNotApply(InputError):
    """Raised by a notebook that finds, once it has read the cohort, that it has nothing to work on.

    The stage is then left out, as one whose images the cohort lacks is, and later stages go on without its files.
    message: what is missing, and which parameter would ask for less.
    """
