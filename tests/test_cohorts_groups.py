"""Groups of patients: levels by hand."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pandas as pd

from alnlib.cohorts.groups import patient_groups
from alnlib.cohorts.schema import ClinicalVariable


def test_numbers_are_parted_at_their_median_age_at_fifty_and_levels_kept():
    patients = pd.DataFrame(
        {
            "patient_id": ["a", "b", "c", "d"],
            "center": ["N", "N", "S", "S"],
            "age": [49, 50, 70, np.nan],
            "size_mm": [10.0, 20.0, 30.0, 40.0],
            "er": ["negative", "positive", None, "positive"],
            "birads": list("1234"),
            "ki67": [np.nan] * 4,
        }
    )
    clinical = {
        "age": ClinicalVariable("Age", "continuous", "years"),
        "size_mm": ClinicalVariable("Size", "continuous", "mm"),
        "er": ClinicalVariable("ER", "nominal", levels=("negative", "positive")),
        "birads": ClinicalVariable("BI-RADS", "ordinal", levels=tuple("1234567")),
        "ki67": ClinicalVariable("Ki-67", "continuous", "%"),
    }
    groups = patient_groups(SimpleNamespace(patients=patients, clinical=clinical), [*clinical, "unknown"])
    assert list(groups) == ["Center", "Age", "Size", "ER"], "many levels, no values and unknown columns are left out"
    assert groups["Age"].fillna("").tolist() == ["below 50", "50 or more", "50 or more", ""]
    assert groups["Size"].tolist() == ["below 25", "below 25", "25 or more", "25 or more"]
    assert groups["ER"].isna().tolist() == [False, False, True, False]
