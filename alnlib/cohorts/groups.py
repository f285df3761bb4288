"""Groups of patients by center and clinical variables, in which models are judged apart (`alneval.subgroups`)."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd

from alnlib.cohorts.schema import ClinicalVariable, Cohort

MOST_LEVELS = 6
OLD_AGE = 50
"""Years at which patients are parted; other numbers are parted at their median."""


def patient_groups(cohort: Cohort, columns: Iterable[str]) -> pd.DataFrame:
    """A column per variable, named by its label, with its level for every patient (index patient_id), "Center" first.

    columns: clinical ones, where the cohort has them; nominal and ordinal ones of more than MOST_LEVELS levels are left out.
    """
    patients = cohort.patients.set_index("patient_id")
    groups = pd.DataFrame({"Center": patients["center"]})
    for column in columns:
        variable = cohort.clinical.get(column)
        if variable is not None and (variable.kind == "continuous" or len(variable.levels) <= MOST_LEVELS):
            groups[variable.label] = _levels(patients[column], variable)
    return groups.dropna(axis="columns", how="all")


def _levels(values: pd.Series, variable: ClinicalVariable) -> pd.Series:
    if variable.kind != "continuous" or values.isna().all():
        return values
    cut = OLD_AGE if values.name == "age" else float(values.median())
    level = pd.Series(np.where(values < cut, f"below {cut:g}", f"{cut:g} or more"), index=values.index)
    return level.where(values.notna())
