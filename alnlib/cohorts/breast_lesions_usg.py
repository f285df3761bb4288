"""BrEaST-Lesions-USG (Pawlowska 2024): real breast ultrasound images with tumor masks and BI-RADS as a cohort.

The endpoint is malignancy of the lesion, not axillary metastasis; pixels are read in `alnlib.imaging`.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd

from alnlib.cohorts.schema import ClinicalVariable, Cohort, Endpoint, images_table
from alnlib.cohorts.workbook import Workbook, cell_text

SHEET_PATTERN = "BrEaST-Lesions-USG-clinical-data*.xlsx"
DOI = "10.7937/9WKK-Q141"
READER_ID = "birads"
BIRADS_SCORES = {"1": 1, "2": 2, "3": 3, "4a": 4, "4b": 5, "4c": 6, "5": 7}
"""BI-RADS categories in order of suspicion; the numbers carry no more than the order."""

NOT_GIVEN = ("not available", "not applicable")
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
    book = _read_sheet(data)
    remedy = f"{book.unchanged}, or write {', '.join(_CLASSES)}"
    patients = pd.DataFrame({"patient_id": [f"case{int(case):03d}" for case in book.sheet[CASE]], "center": "BrEaST"})
    patients["malignant"] = book.decode(CLASS, _CLASSES.__getitem__, "unknown class", remedy).astype("Int64")
    patients["age_years"] = book.decode("Age", _number).astype("float64")
    patients["tissue_composition"] = book.decode("Tissue_composition", _tissue).astype("str")
    patients["margin"] = book.decode("Margin", _worst_margin).astype("str")
    patients["calcifications"] = book.decode("Calcifications", _CALCIFICATIONS.__getitem__).astype("str")
    for column, (heading, _, levels) in _SINGLE.items():
        patients[column] = book.decode(heading, dict(zip(levels, levels, strict=True)).__getitem__).astype("str")
    for column, (heading, _, findings) in _FINDINGS.items():
        patients[column] = book.decode(heading, _has_finding(heading, findings)).astype("str")
    scores = book.decode("BIRADS", BIRADS_SCORES.__getitem__).astype("float64")
    images = _images(book, patients["patient_id"], data)
    book.raise_problems()

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
    scores = {"patient_id": patients["patient_id"], "reader_id": READER_ID, "score": scores}
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
        reader_modality={READER_ID: "US"},
        license="CC BY 4.0",
        citation=f"Pawlowska A, et al. Scientific Data 2024, doi 10.1038/s41597-024-02984-z; data doi {DOI}",
        source=f"The Cancer Imaging Archive, doi {DOI}",
        patients=patients[["patient_id", "center", "malignant", *clinical]],
        images=images,
        readers=pd.DataFrame(scores).dropna(subset="score").reset_index(drop=True),
        root=data,
    )


def _read_sheet(data: Path) -> Workbook:
    headings = [CASE, IMAGE, MASK, PIXEL_SIZE, CLASS, "Age", "BIRADS", "Tissue_composition", "Margin", "Calcifications"]
    headings += sorted({heading for heading, *_ in (*_SINGLE.values(), *_FINDINGS.values())})
    book = Workbook(data, SHEET_PATTERN, "breast-lesions-usg", DOI, headings, NOT_GIVEN)
    cases = pd.to_numeric(book.sheet[CASE], errors="coerce")
    for at in book.sheet.index[cases.isna() | cases.duplicated()]:
        case = cell_text(book.sheet.at[at, CASE])
        book.note(at, CASE, "case number missing or repeated", "keep one row per case", case)
    book.raise_problems()
    return book


def _images(book: Workbook, patient_ids: pd.Series, data: Path) -> pd.DataFrame:
    places = {place.name: place.relative_to(data).as_posix() for place in sorted(data.rglob("*.png"))}
    remedy = f"put it below {data}, or run 'python3 run_all.py download breast-lesions-usg'"
    paths, masks = (book.decode(heading, places.__getitem__, "file is missing", remedy) for heading in (IMAGE, MASK))
    for at in book.sheet.index:
        if cell_text(book.sheet.at[at, IMAGE]) in book.not_given:
            book.note(at, IMAGE, "no image named", book.unchanged)
    sizes = book.decode(PIXEL_SIZE, _number).astype("float64") * MM_PER_CM
    return images_table(
        {
            "image_id": patient_ids + "_us",
            "patient_id": patient_ids,
            "modality": "US",
            "sequence_or_view": "B-mode",
            "path": paths,
            "mask_path": masks,
            "pixel_spacing_mm": [np.nan if np.isnan(mm) else f"{mm:.8g} {mm:.8g}" for mm in sizes],
        }
    )


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
