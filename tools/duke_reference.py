"""Write duke_reference.csv, what the simulated patients are compared with: `python tools/duke_reference.py FOLDER`.

FOLDER holds the Duke clinical workbook (Saha 2018, Br J Cancer 119:508; CC BY-NC 4.0, doi 10.7937/TCIA.e3sv-re93), which stays
there. Only aggregates are written, and none from fewer than five patients; columns as in `reference_table`.
"""

from __future__ import annotations

import sys

import pandas as pd

from alnlib.cohorts.duke import read_duke
from alnlib.cohorts.schema import Cohort
from alnlib.models.reference import REFERENCE, reference_table

_TWO_LEVELS = {"er": "er", "pr": "pr", "her2": "her2", "menopause": "menopausal_status"}
_T_STAGES = {"T1": "T1", "T2": "T2", "T3": "T3-T4", "T4": "T3-T4"}
_STEPS = {"T1": 1.0, "T2": 2.0, "T3": 3.0, "T4": 3.0, "low": 1.0, "intermediate": 2.0, "high": 3.0}
_SUBTYPES = {
    "luminal-like": "HR+/HER2-",
    "ER/PR positive, HER2 positive": "HR+/HER2+",
    "HER2-enriched": "HR-/HER2+",
    "triple negative": "triple-negative",
}


def reference_patients(cohort: Cohort) -> pd.DataFrame:
    """The sheet's variables as the simulation has them: decades of age, T3 with T4, grade as a step, HR/HER2 subtypes.

    Histology other than ductal or lobular counts as missing: too few patients for a level of its own.
    """
    patients = cohort.patients
    grade = patients["nottingham_grade"]
    return pd.DataFrame(
        {
            "patient_id": patients["patient_id"],
            "aln_metastasis": patients["aln_metastasis"],
            "apcr": patients["apcr"],
            "age_decade": patients["age_years"] / 10.0,
            **{name: patients[column] for name, column in _TWO_LEVELS.items()},
            "ct": patients["t_stage"].map(_T_STAGES),
            "ct_step": patients["t_stage"].map(_STEPS),
            "grade": grade.map({"low": "G1", "intermediate": "G2", "high": "G3"}),
            "grade_step": grade.map(_STEPS),
            "histology": patients["histologic_type"].where(patients["histologic_type"].isin(("ductal", "lobular"))),
            "subtype": patients["molecular_subtype"].map(_SUBTYPES),
        }
    )


def main() -> int:
    """Write the file."""
    if len(sys.argv) != 2:
        print("usage: python tools/duke_reference.py FOLDER_OF_THE_DUKE_WORKBOOK", file=sys.stderr)
        return 2
    table = reference_table(reference_patients(read_duke(sys.argv[1])))
    table.to_csv(REFERENCE, index=False, lineterminator="\n")
    print(f"{REFERENCE.name}: {len(table)} rows")
    return 0


if __name__ == "__main__":
    sys.exit(main())
