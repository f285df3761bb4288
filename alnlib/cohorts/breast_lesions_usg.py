"""BrEaST-Lesions-USG (Pawlowska 2024): real breast ultrasound images with tumor masks and BI-RADS as a cohort.

The endpoint is malignancy of the lesion, not axillary metastasis; pixels are read in `alnlib.imaging`.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd

from alnlib.cohorts.schema import IMAGE_COLUMNS, ClinicalVariable, Cohort, Endpoint
from alnlib.errors import InputError, Problem

SHEET_PATTERN = "BrEaST-Lesions-USG-clinical-data*.xlsx"
DOI = "10.7937/9WKK-Q141"
READER_ID = "birads"
BIRADS_SCORES = {"1": 1, "2": 2, "3": 3, "4a": 4, "4b": 5, "4c": 6, "5": 7}
"""BI-RADS categories in order of suspicion; the numbers carry no more than the order."""

NOT_GIVEN = ("", "not available", "not applicable")
MM_PER_CM = 10.0

CASE = "CaseID"
IMAGE = "Image_filename"
MASK = "Mask_tumor_filename"
PIXEL_SIZE = "Pixel_size"
CLASS = "Classification"
_CLASSES = {"benign": 0, "malignant": 1, "normal": pd.NA}

_NO_YES = ("no", "yes")

# A cell can hold several findings joined by "&". One-of-many descriptors become one nominal column each; lists of findings
# become one yes/no column per finding, "yes" if it is in the list.
_SINGLE = {
    "shape": ("Shape", "Shape", ("oval", "round", "irregular")),
    "echogenicity": (
        "Echogenicity",
        "Echogenicity",
        ("hypoechoic", "isoechoic", "hyperechoic", "anechoic", "heterogeneous", "complex cystic/solid"),
    ),
    "posterior_features": ("Posterior_features", "Posterior features", ("no", "enhancement", "shadowing", "combined")),
    "halo": ("Halo", "Echogenic halo", _NO_YES),
    "skin_thickening": ("Skin_thickening", "Skin thickening", _NO_YES),
}
_FINDINGS = {
    "palpable": ("Signs", "Palpable lesion", ("palpable",)),
    "skin_or_nipple_sign": (
        "Signs",
        "Skin or nipple sign (retraction, redness, warmth, peau d'orange)",
        ("skin retraction", "nipple retraction", "redness", "warmth", "peau d`orange"),
    ),
    "breast_scar": ("Signs", "Breast scar", ("breast scar",)),
    "nipple_discharge": ("Symptoms", "Nipple discharge", ("nipple discharge",)),
    "family_history": (
        "Symptoms",
        "Family history of breast or ovarian cancer",
        ("family history of breast/ovarian cancer",),
    ),
    "hormone_use": ("Symptoms", "Hormone replacement or contraception", ("HRT/hormonal contraception",)),
}
_OTHER_FINDINGS = {"Symptoms": ("personal history of breast cancer", "breast injury")}
"""Known findings without a column of their own: three and one patients."""

_MARGINS = ("circumscribed", "indistinct", "angular", "microlobulated", "spiculated")
_TISSUE = {
    "homogeneous: fat": "fat",
    "heterogeneous: predominantly fat": "predominantly fat",
    "heterogeneous: predominantly fibroglandular": "predominantly fibroglandular",
    "homogeneous: fibroglandular": "fibroglandular",
}
_CALCIFICATIONS = {
    "no": "no",
    "in a mass": "in a mass",
    "intraductal": "elsewhere or indefinable",  # two patients each
    "indefinable": "elsewhere or indefinable",
}


def read_breast_lesions_usg(data: str | Path) -> Cohort:
    """The 256 cases (one patient, one image each) below `data`, the folder with the workbook and the images (any depth).

    Endpoint `malignant`: benign 0 (154), malignant 1 (98), unknown for the 4 images of normal breasts, which show no
    lesion. Images: modality US, mask of the tumor, pixel size in mm (the workbook has cm). Masks of other lesions
    (Mask_other_filename, 14 files) are not used. Reader `birads`: the BI-RADS category as an ordered score.

    Clinical variables: age, signs, symptoms and the radiologist's BI-RADS descriptors, all known at the examination.
    Of several margin findings the most suspicious counts (design choice: spiculated, microlobulated, angular,
    indistinct); the mark "lactating" beside a tissue composition (7 cases) is dropped; "not available" and "not
    applicable" are missing. Left out because they hold the answer: Interpretation, Verification, Diagnosis.

    Raises InputError if the workbook or an image is missing, a column is missing, or a word is unknown.
    """
    data = Path(data)
    path = _find_workbook(data)
    sheet = _read_sheet(path)
    problems: list[Problem] = []

    def decode(heading: str, understand) -> pd.Series:
        return _decode(sheet, heading, understand, path, problems)

    patients = pd.DataFrame({"patient_id": [f"case{int(case):03d}" for case in sheet[CASE]], "center": "BrEaST"})
    labels = [_CLASSES.get(_text(cell)) for cell in sheet[CLASS]]
    for at, label in enumerate(labels):
        if label is None:
            remedy = f"expected {', '.join(_CLASSES)}"
            problems.append(Problem(str(path), at + 2, CLASS, _text(sheet.at[at, CLASS]), "unknown class", remedy))
    patients["malignant"] = pd.array([pd.NA if label is None else label for label in labels], dtype="Int64")
    patients["age_years"] = decode("Age", _number).astype("float64")
    patients["tissue_composition"] = decode("Tissue_composition", _tissue).astype("str")
    patients["margin"] = decode("Margin", _worst_margin).astype("str")
    patients["calcifications"] = decode("Calcifications", _CALCIFICATIONS.__getitem__).astype("str")
    for column, (heading, _, levels) in _SINGLE.items():
        patients[column] = decode(heading, dict(zip(levels, levels, strict=True)).__getitem__).astype("str")
    for column, (heading, _, findings) in _FINDINGS.items():
        patients[column] = decode(heading, _has_finding(heading, findings)).astype("str")
    scores = decode("BIRADS", BIRADS_SCORES.__getitem__).astype("float64")
    spacing_mm = decode(PIXEL_SIZE, _number).astype("float64") * MM_PER_CM
    images = _images(sheet, patients["patient_id"], spacing_mm, data, path, problems)
    if problems:
        problems = list(dict.fromkeys(problems))
        raise InputError(
            f"{path}: {len(problems)} problems in the data set", sorted(problems, key=lambda p: p.row or 0)
        )

    clinical = {
        "age_years": ClinicalVariable("Age", "continuous", "years"),
        "tissue_composition": ClinicalVariable("Tissue composition", "ordinal", None, tuple(_TISSUE.values())),
        "margin": ClinicalVariable("Margin (most suspicious)", "nominal", None, _MARGINS),
        "calcifications": ClinicalVariable(
            "Calcifications", "nominal", None, tuple(dict.fromkeys(_CALCIFICATIONS.values()))
        ),
    }
    clinical |= {name: ClinicalVariable(label, "nominal", None, levels) for name, (_, label, levels) in _SINGLE.items()}
    clinical |= {name: ClinicalVariable(label, "nominal", None, _NO_YES) for name, (_, label, _) in _FINDINGS.items()}
    readers = pd.DataFrame({"patient_id": patients["patient_id"], "reader_id": READER_ID, "score": scores})
    return Cohort(
        name="breast-lesions-usg",
        title="BrEaST-Lesions-USG",
        provenance="real",
        endpoints={"malignant": Endpoint("Malignancy of the breast lesion", "malignant", "benign")},
        primary_endpoint="malignant",
        centers=("BrEaST",),
        external_centers=(),
        clinical=clinical,
        readers_described={READER_ID: "BI-RADS category in order of suspicion: 1, 2, 3, 4a = 4, 4b = 5, 4c = 6, 5 = 7"},
        license="CC BY 4.0",
        citation=f"Pawlowska A, et al. Scientific Data 2024, doi 10.1038/s41597-024-02984-z; data doi {DOI}",
        source=f"The Cancer Imaging Archive, doi {DOI}",
        patients=patients[["patient_id", "center", "malignant", *clinical]],
        images=images,
        readers=readers[readers["score"].notna()].reset_index(drop=True),
        root=data,
    )


def _find_workbook(data: Path) -> Path:
    found = sorted([*data.glob(SHEET_PATTERN), *data.glob(f"*/{SHEET_PATTERN}"), *data.glob(f"*/*/{SHEET_PATTERN}")])
    if not found:
        raise InputError(
            f"{data}: no workbook {SHEET_PATTERN} there or below; get it with "
            f"'python3 run_all.py download breast-lesions-usg --data {data}', or from The Cancer Imaging Archive, doi {DOI}"
        )
    return found[-1]


def _read_sheet(path: Path) -> pd.DataFrame:
    try:
        sheet = pd.read_excel(path, dtype=object, keep_default_na=False, na_values=[""])
    except Exception as error:  # zipfile, openpyxl and pandas each have their own for a broken workbook
        raise InputError(f"{path}: cannot be read as an Excel workbook ({error}); download it again") from error
    headings = {heading for heading, *_ in (*_SINGLE.values(), *_FINDINGS.values())}
    needed = [CASE, IMAGE, MASK, PIXEL_SIZE, CLASS, "Age", "BIRADS", "Tissue_composition", "Margin", "Calcifications"]
    missing = [
        Problem(str(path), 1, heading, None, "column is missing", f"use the workbook of doi {DOI} unchanged")
        for heading in [*needed, *sorted(headings)]
        if heading not in sheet.columns
    ]
    if missing:
        raise InputError(f"{path}: not the BrEaST-Lesions-USG workbook, or an edited one", missing)
    cases = pd.to_numeric(sheet[CASE], errors="coerce")
    wrong = [
        Problem(
            str(path),
            at + 2,
            CASE,
            _text(sheet.at[at, CASE]),
            "case number missing or repeated",
            "keep one row per case",
        )
        for at in sheet.index[cases.isna() | cases.duplicated()]
    ]
    if wrong:
        raise InputError(f"{path}: case numbers are missing or repeated", wrong)
    return sheet


def _images(
    sheet: pd.DataFrame, patient_ids: pd.Series, spacing_mm: pd.Series, data: Path, path: Path, problems: list[Problem]
) -> pd.DataFrame:
    places = {place.name: place.relative_to(data).as_posix() for place in sorted(data.rglob("*.png"))}

    def place_of(heading: str, at: int) -> str | float:
        name = _text(sheet.at[at, heading])
        if name in NOT_GIVEN:
            if heading == IMAGE:
                problems.append(
                    Problem(str(path), at + 2, heading, None, "no image named", "use the workbook unchanged")
                )
            return np.nan
        if name not in places:
            remedy = f"put it below {data}, or run 'python3 run_all.py download breast-lesions-usg'"
            problems.append(Problem(str(path), at + 2, heading, name, "file is missing", remedy))
        return places.get(name, np.nan)

    texts = pd.DataFrame(
        {
            "image_id": patient_ids + "_us",
            "patient_id": patient_ids,
            "modality": "US",
            "sequence_or_view": "B-mode",
            "path": [place_of(IMAGE, at) for at in sheet.index],
            "mask_path": [place_of(MASK, at) for at in sheet.index],
            "pixel_spacing_mm": [np.nan if np.isnan(mm) else f"{mm:.8g} {mm:.8g}" for mm in spacing_mm],
        }
    ).reindex(columns=list(IMAGE_COLUMNS))
    return texts.astype("str").where(texts.notna()).astype({"unit_label": "Int64"})


def _decode(sheet: pd.DataFrame, heading: str, understand, path: Path, problems: list[Problem]) -> pd.Series:
    """Apply `understand` to every given cell; KeyError and ValueError become problems with the row."""
    decoded = []
    for at, cell in sheet[heading].items():
        text = _text(cell)
        value: object = np.nan
        if text not in NOT_GIVEN:
            try:
                value = understand(text)
            except (KeyError, ValueError):
                remedy = f"case {sheet.at[at, CASE]}: use the workbook of doi {DOI} unchanged"
                problems.append(Problem(str(path), int(at) + 2, heading, text, "unknown entry", remedy))
        decoded.append(value)
    return pd.Series(decoded, index=sheet.index, dtype=object)


def _text(cell: object) -> str:
    return "" if cell is None or (isinstance(cell, float) and np.isnan(cell)) else str(cell).strip()


def _number(text: str) -> float:
    number = float(text)
    if not np.isfinite(number) or number <= 0:
        raise ValueError(text)
    return number


def _worst_margin(text: str) -> str:
    """The most suspicious of the margin findings, "not circumscribed - angular&indistinct" being angular."""
    findings = set(re.sub(r"^not circumscribed\s*-\s*", "", text).split("&"))
    if not findings <= set(_MARGINS):
        raise ValueError(text)
    return max(findings, key=_MARGINS.index)


def _tissue(text: str) -> str | float:
    parts = [part for part in text.split("&") if part != "lactating"]
    if not parts:
        return np.nan
    (part,) = parts
    return _TISSUE[part]


def _has_finding(heading: str, findings: tuple[str, ...]):
    known = {"no", *_OTHER_FINDINGS.get(heading, ())}
    for other, _, names in _FINDINGS.values():
        if other == heading:
            known.update(names)

    def understand(text: str) -> str:
        listed = set(text.split("&"))
        if not listed <= known:
            raise ValueError(text)
        return "yes" if listed & set(findings) else "no"

    return understand
