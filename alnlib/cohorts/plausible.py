"""Values that could be true and hardly are: a size of 4,200 mm, an age of 102, more positive nodes than were examined.

They are warned of, by row, and never changed; what cannot be read at all is a problem of `alnlib.cohorts.folder`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from alnlib.cohorts.schema import ClinicalVariable, is_number
from alnlib.errors import Problem

RANGES = {"years": (0.0, 100.0), "mm": (0.0, 200.0), "cm": (0.0, 20.0), "%": (0.0, 100.0)}
"""Lowest and highest plausible value by unit, where cohort.yaml gives no range. Our choice."""

ADULT_YEARS = 18.0
"""Lowest plausible age of a patient with breast cancer."""

SMALL_MM = 8.0
"""Tumor sizes of which three quarters are below this are rather in cm. Our choice."""


def implausible_values(path: Path, table: pd.DataFrame, clinical: Mapping[str, ClinicalVariable]) -> list[Problem]:
    """A warning for every cell of patients.csv outside the plausible range of its variable, and for columns in another unit.

    table: text, indexed by line number. The range is the variable's own, else that of its unit; a count of positive nodes is
    held to that of examined ones, which `at_most` names, or the names of the two columns.
    """
    numbers = {
        name: pd.to_numeric(table[name].where(table[name].map(is_number).astype(bool) & (table[name] != "")))
        for name, variable in clinical.items()
        if variable.kind == "continuous" and name in table
    }
    found = []
    for name, values in numbers.items():
        variable, known = clinical[name], values.dropna()
        low, high = variable.range or _usual_range(name, variable.unit)
        remedy = f"check it against the source, or give {name} another range in cohort.yaml"
        for row in known.index[(known < low) | (known > high)]:
            message = f"outside the plausible range, {low:g} to {high:g}{f' {variable.unit}' if variable.unit else ''}"
            found.append(Problem.of(path, message, remedy, row, name, table.at[row, name]))
        if variable.unit == "mm" and variable.range is None and "size" in name and known.quantile(0.75) < SMALL_MM:
            message = f"three quarters of the sizes are below {SMALL_MM:g} mm, as if they were in cm"
            remedy = "write mm, set unit: cm in cohort.yaml, or give the column a range there if it is right"
            found.append(Problem.of(path, message, remedy, column=name, value=f"median {known.median():g}"))
        most = variable.at_most or _examined_beside(name, numbers)
        if most in numbers:
            for row in values.index[values > numbers[most]]:
                message = f"more than {most} (which is {table.at[row, most]})"
                found.append(Problem.of(path, message, "check both counts", row, name, table.at[row, name]))
    return found


def _usual_range(name: str, unit: str | None) -> tuple[float, float]:
    low, high = RANGES.get(unit or "", (float("-inf"), float("inf")))
    return (ADULT_YEARS if unit == "years" and name.split("_")[0] == "age" else low), high


def _examined_beside(name: str, columns: Mapping[str, object]) -> str | None:
    """The one column of examined nodes, where `name` is a count of positive ones."""
    if not {"nodes", "positive"} <= set(name.split("_")):
        return None
    examined = [other for other in columns if {"nodes", "examined"} <= set(other.split("_"))]
    return examined[0] if len(examined) == 1 else None
