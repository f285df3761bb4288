"""I-SPY 2 imaging cohort 1 (Li 2020): MRI measurements at four visits during neoadjuvant therapy as a cohort without images."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from alnlib.cohorts.schema import ClinicalVariable, Cohort, Endpoint, empty_readers, images_table
from alnlib.cohorts.workbook import Workbook, cell_text

CLINICAL_SHEET = "ISPY2-Imaging-Cohort-1-Clinical-Data.xlsx"
FEATURES_SHEET = "Multi-feature-MRI-NACT-Data.xlsx"
DOI = "10.7937/TCIA.D8Z0-9T85"

PATIENT, SUBJECT = "Patient_ID", "CLINICAL-TRIAL-SUBJECT-ID"
VISITS = {"pre": "T0", "week3": "T1", "week12": "T2", "post": "T3"}
"""Visits: before therapy, after three weeks, between the two regimens (at about twelve), and before surgery."""

MEASURED = {
    "functional_tumor_volume_cc": dict(zip(VISITS, (f"VOLUME_TUM_BLU_V{k}0" for k in range(1, 5)), strict=True)),
    "sphericity": {visit: f"SPHERICITY_{code}" for visit, code in VISITS.items()},
    "longest_diameter_cm": {visit: f"LD_{code}" for visit, code in VISITS.items()},
    "background_parenchymal_enhancement_pct": {visit: f"BPE_5slice_mean_{code}" for visit, code in VISITS.items()},
}
"""{feature: {visit: heading}}. The workbook's per cent changes follow from these and are not read."""

_YES_NO = {"0": "negative", "1": "positive"}
_CODES = {
    "hr": ("HR", "Hormone receptor", _YES_NO),
    "her2": ("HER2", "HER2", _YES_NO),
    "mammaprint": ("MP", "MammaPrint class, as coded", {"0": "0", "1": "1"}),
}
_MENOPAUSE = {
    "Premenopausal": "premenopausal",
    "Perimenopausal": "perimenopausal",
    "Postmenopausal": "postmenopausal",
    "Above categories not applicable AND Age < 50": "not applicable, below 50",
    "Above categories not applicable AND Age > 50": "not applicable, above 50",
}


def read_ispy2(data: str | Path) -> Cohort:
    """The 384 patients of I-SPY 2 with MRI at all four visits, from `data`, the folder of the two workbooks (at any depth).

    Endpoint: `pcr`, no invasive tumor in breast and nodes after therapy (113 patients); it is not the axilla's response alone.
    Features: `MEASURED` of contrast-enhanced MRI at each of `VISITS`. Predictors are known before therapy: age, menopausal
    status, hormone receptor, HER2, MammaPrint class. Left out: the arm of treatment (thirteen, partly chosen by receptor),
    race and ethnicity, as in `duke`. The clinical workbook has 601 further patients without such measurements.
    Raises InputError if a workbook or a column is missing, or a cell holds an unknown entry.
    """
    data = Path(data)
    clinical_headings = [
        PATIENT,
        "pCR",
        "Age_at_Screening",
        "menopausal_status",
        *(code[0] for code in _CODES.values()),
    ]
    book = Workbook(data, CLINICAL_SHEET, "ispy2", DOI, clinical_headings, ("NA", "NULL"))
    measured = Workbook(
        data, FEATURES_SHEET, "ispy2", DOI, [SUBJECT, *(h for each in MEASURED.values() for h in each.values())]
    )
    features = _features(measured)
    ids = book.sheet[PATIENT].map(cell_text)
    with_mri = ids.isin(set(features["patient_id"]))
    for at in measured.sheet.index[~measured.sheet[SUBJECT].map(cell_text).isin(set(ids))]:
        who = cell_text(measured.sheet.at[at, SUBJECT])
        measured.note(at, SUBJECT, f"patient is not in {CLINICAL_SHEET}", measured.unchanged, who)
    measured.raise_problems()
    patients = pd.DataFrame({"patient_id": ids, "center": "I-SPY 2"})
    patients["pcr"] = book.decode("pCR", {"0": 0, "1": 1}.__getitem__).astype("Int64")
    patients["age_years"] = book.numbers("Age_at_Screening")
    status = book.decode("menopausal_status", lambda text: _MENOPAUSE[text.split("(")[0].strip()])
    patients["menopausal_status"] = status.astype("str").where(status.notna())
    for column, (heading, _, codes) in _CODES.items():
        names = book.decode(heading, codes.__getitem__)
        patients[column] = names.astype("str").where(names.notna())
    book.raise_problems()
    clinical = {"age_years": ClinicalVariable("Age at screening", "continuous", "years")}
    clinical["menopausal_status"] = ClinicalVariable("Menopausal status", "nominal", None, tuple(_MENOPAUSE.values()))
    for column, (_, label, codes) in _CODES.items():
        clinical[column] = ClinicalVariable(label, "nominal", None, tuple(codes.values()))
    return Cohort(
        name="ispy2",
        title="I-SPY 2 imaging cohort 1",
        provenance="real",
        endpoints={"pcr": Endpoint("Pathological complete response of breast and nodes", "pCR", "residual disease")},
        primary_endpoint="pcr",
        centers=("I-SPY 2",),
        external_centers=(),
        clinical=clinical,
        readers_described={},
        license="CC BY 4.0",
        citation=f"Li W, Newitt DC, Gibbs J, et al. npj Breast Cancer 2020;6:63; data doi {DOI}",
        source=f"The Cancer Imaging Archive, doi {DOI}",
        patients=patients[with_mri].reset_index(drop=True),
        images=images_table({}),
        readers=empty_readers(),
        root=data,
        features=features,
    )


def _features(book: Workbook) -> pd.DataFrame:
    """features.csv of the workbook, four rows per patient."""
    ids = book.sheet[SUBJECT].map(cell_text)
    for at in ids.index[ids.duplicated()]:
        book.note(at, SUBJECT, "patient appears twice", "keep one row", ids[at])
    visits = [
        pd.DataFrame(
            {"patient_id": ids, "timepoint": visit, "modality": "MRI", "sequence_or_view": "DCE"}
            | {name: book.numbers(headings[visit]) for name, headings in MEASURED.items()}
        )
        for visit in VISITS
    ]
    book.raise_problems()
    return pd.concat(visits, ignore_index=True)
