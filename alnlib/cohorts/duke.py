"""Duke-Breast-Cancer-MRI (Saha 2018): the real clinical sheet, MRI features, tumor boxes and downloaded series as a cohort.

Downloading is in `alnlib.cohorts.download`; DICOM pixels are read in `alnlib.imaging`, only headers are looked at here.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from alnlib.cohorts.download import dce_phases
from alnlib.cohorts.schema import ClinicalVariable, Cohort, Endpoint, empty_features, format_box, images_table
from alnlib.cohorts.workbook import Workbook, cell_text, find_workbook
from alnlib.errors import InputError

CLINICAL_SHEET = "Clinical_and_Other_Features.xlsx"
BOXES_SHEET = "Annotation_Boxes.xlsx"
FEATURES_SHEET = "Imaging_Features.xlsx"
DOI = "10.7937/TCIA.e3sv-re93"
READER_ID = "radiologist_mri"

PATIENT = "Patient ID"
NODE_STAGE = "Staging(Nodes)#(Nx replaced by -1)[N]"
NODE_STAGE_AFTER_THERAPY = (
    "Pathologic response to Neoadjuvant therapy:  Pathologic stage (N) following neoadjuvant therapy"
)
SUSPICIOUS_NODES = "Lymphadenopathy or Suspicious Nodes"
BIRTH = "Date of Birth (Days)"
SIDE = "Tumor Location"
POSITION = "Position"

DAYS_PER_YEAR = 365.25
NOT_GIVEN = ("NA", "NC", "NP", "x")
"""The sheet's legend: NA not available, NC not collected, NP not pertinent, x information not available."""

_NEGATIVE_POSITIVE = {0: "negative", 1: "positive"}
_NO_YES = {0: "no", 1: "yes"}
_GRADE = {1: "low", 2: "intermediate", 3: "high"}
_SCORE = {1: "1", 2: "2", 3: "3"}


@dataclass(frozen=True)
class _Coded:
    """A column of the sheet with the meaning of its codes; None marks a code that stands for "not available"."""

    heading: str
    label: str
    kind: str
    codes: dict[int, str | None]

    def variable(self) -> ClinicalVariable:
        levels = tuple(dict.fromkeys(name for name in self.codes.values() if name is not None))
        return ClinicalVariable(self.label, self.kind, None, levels)


# The codes are those of the workbook's own sheet "Column Explanations". HER2 = 2 (borderline) is declared there and not
# used; "Tumor Grade" is explained there as the tubule score; T stage has no codes but the AJCC numbers.
_CODED = {
    "menopausal_status": _Coded(
        "Menopause (at diagnosis)", "Menopausal status", "nominal", {0: "premenopausal", 1: "postmenopausal", 2: None}
    ),
    "t_stage": _Coded("Staging(Tumor Size)# [T]", "T stage", "ordinal", {1: "T1", 2: "T2", 3: "T3", 4: "T4"}),
    "er": _Coded("ER", "Estrogen receptor", "nominal", _NEGATIVE_POSITIVE),
    "pr": _Coded("PR", "Progesterone receptor", "nominal", _NEGATIVE_POSITIVE),
    "her2": _Coded("HER2", "HER2", "nominal", _NEGATIVE_POSITIVE),
    "molecular_subtype": _Coded(
        "Mol Subtype",
        "Molecular subtype",
        "nominal",
        {0: "luminal-like", 1: "ER/PR positive, HER2 positive", 2: "HER2-enriched", 3: "triple negative"},
    ),
    "histologic_type": _Coded(
        "Histologic type",
        "Histologic type",
        "nominal",
        # the other types have at most four patients each, too few for a level of their own
        {1: "ductal", 2: "lobular"} | dict.fromkeys((0, 3, 4, 5, 6, 7, 8, 9, 10), "other"),
    ),
    "nottingham_grade": _Coded("Nottingham grade", "Nottingham grade", "ordinal", _GRADE),
    "tubule_score": _Coded("Tumor Grade", "Tubule score", "ordinal", _SCORE),
    "nuclear_score": _Coded("Tumor Grade(N)\n(Nuclear)", "Nuclear score", "ordinal", _SCORE),
    "mitotic_score": _Coded("Tumor Grade(M)\n(Mitotic)", "Mitotic score", "ordinal", _SCORE),
    "multifocal": _Coded("Multicentric/Multifocal", "Multicentric or multifocal on MRI", "nominal", _NO_YES),
    "contralateral_involvement": _Coded(
        "Contralateral Breast Involvement", "Contralateral breast involved on MRI", "nominal", _NO_YES
    ),
    "skin_nipple_involvement": _Coded("Skin/Nipple Invovlement", "Skin or nipple involved on MRI", "nominal", _NO_YES),
    "pectoral_chest_involvement": _Coded(
        "Pec/Chest Involvement", "Pectoral muscle or chest wall involved on MRI", "nominal", _NO_YES
    ),
}

_SIDES = {"L": "left", "R": "right"}


def read_duke(data: str | Path) -> Cohort:
    """The Duke cohort from `data`, the folder that holds the clinical workbook (at any depth) and, if downloaded, MRI.

    Endpoints: `aln_metastasis`, N stage above 0 (known for 898 of 922 patients: 529 N0, 369 N+; the sheet's N stage mixes
    clinical and pathological staging); `apcr`, ypN0 after neoadjuvant therapy among N+ with ypN known (149 patients, 50
    ypN0; ypNX is unknown). Reader `radiologist_mri`: 1 where the MRI report has lymphadenopathy or suspicious nodes.

    Predictors are known before axillary surgery and before therapy, so they serve both endpoints: age, menopausal status,
    T stage, side, receptors, subtype, biopsy histology and grade, and the MRI report's findings other than nodes. One
    caution: the sheet's T stage is "combined pathologic and clinic", so for patients operated on first it may be pT.

    Left out because they are known later or would leak the outcome: everything on surgery, adjuvant and neoadjuvant
    therapy, response, ypT/ypN/ypM, recurrence and follow-up; Oncotype (ordered mostly for node-negative patients); M stage
    and metastasis at presentation (a consequence of spread that also decides on surgery). Left out for other reasons: race
    and ethnicity (no biological predictor, and categories too small); the clock position (a quarter name only the side,
    the rest is free text); mammography and ultrasound descriptors (collected for 273 patients); the other breast's tumor.
    Nine MRI are dated after surgery.

    Features: the 529 of FEATURES_SHEET, if it is there: computed from the MRI before therapy by the authors' own program.

    Images: one row per MRI series found below `data` (see `find_duke_series`); the tumor box, drawn on the dynamic
    series, only for those. Raises InputError if the workbook is missing, lacks a column, or holds an unknown code.
    """
    data = Path(data)
    book = _read_sheet(data)
    stages = {-1, 0, 1, 2, 3}
    node_stage = _decode_integers(book, NODE_STAGE, stages)
    stage_after = _decode_integers(book, NODE_STAGE_AFTER_THERAPY, stages)
    suspicious = _decode_integers(book, SUSPICIOUS_NODES, {0, 1})
    patients = pd.DataFrame({"patient_id": book.sheet[PATIENT], "center": "Duke"})
    patients["aln_metastasis"] = (node_stage > 0).astype("Int64").where(node_stage >= 0)
    patients["apcr"] = (stage_after == 0).astype("Int64").where((stage_after >= 0) & (node_stage > 0))
    remedy = "expected a negative whole number of days before diagnosis"
    patients["age_years"] = book.decode(BIRTH, _age_years, "not a date of birth", remedy).astype("float64")
    for column, coded in _CODED.items():
        names = _decode_integers(book, coded.heading, set(coded.codes)).map(coded.codes)
        patients[column] = names.astype("str").where(names.notna())
    patients["tumor_side"] = _tumor_side(book.sheet)
    book.raise_problems()

    clinical = {"age_years": ClinicalVariable("Age at diagnosis", "continuous", "years")}
    clinical |= {column: coded.variable() for column, coded in _CODED.items()}
    clinical["tumor_side"] = ClinicalVariable("Tumor side", "nominal", None, ("left", "right"))
    scores = {"patient_id": patients["patient_id"], "reader_id": READER_ID, "score": suspicious.astype("float64")}
    return Cohort(
        name="duke",
        title="Duke-Breast-Cancer-MRI",
        provenance="real",
        endpoints={
            "aln_metastasis": Endpoint("Axillary lymph node metastasis", "N1-N3", "N0"),
            "apcr": Endpoint("Axillary pathological complete response", "ypN0", "ypN1-ypN3"),
        },
        primary_endpoint="aln_metastasis",
        centers=("Duke",),
        external_centers=(),
        clinical=clinical,
        readers_described={READER_ID: "Radiologist's MRI report: lymphadenopathy or suspicious nodes (0 no, 1 yes)"},
        reader_modality={READER_ID: "MRI"},
        license="CC BY-NC 4.0",
        citation="Saha A, Harowicz MR, Grimm LJ, et al. Br J Cancer 2018;119:508-516; data doi 10.7937/TCIA.e3sv-re93",
        source=f"The Cancer Imaging Archive, doi {DOI}",
        patients=patients[["patient_id", "center", "aln_metastasis", "apcr", *clinical]].reset_index(drop=True),
        images=_images(data, set(patients["patient_id"]), patients.set_index("patient_id")["tumor_side"]),
        readers=pd.DataFrame(scores).dropna(subset="score").reset_index(drop=True),
        features=_features(data, patients["patient_id"]),
        root=data,
    )


def find_duke_series(data: str | Path) -> pd.DataFrame:
    """MRI series below `data`, one folder each, as idc-index or the TCIA downloader lays them out (any depth).

    Columns: patient_id, sequence (t1, t1_post, dce_pre, dce_post1, ... by `download.dce_phases`, or the description's words),
    description, series_number, series_uid, path (relative to `data`), slices (files in the folder) and `ascending`
    (whether InstanceNumber rises towards the head; <NA> for a single slice). Segmentations (modality SEG) are passed over.
    Two headers per folder are read. Raises InputError for a file that is no DICOM, or a folder that mixes series.
    """
    data = Path(data)
    rows = []
    for folder, names in _dicom_folders(data):
        first, last = _header(folder / names[0]), _header(folder / names[-1])
        if first.get("Modality") != "MR":
            continue
        if first.get("SeriesInstanceUID") != last.get("SeriesInstanceUID"):
            raise InputError(f"{folder}: holds more than one DICOM series; keep each series in a folder of its own")
        rows.append(
            {
                "patient_id": str(first.get("PatientID", "")),
                "description": str(first.get("SeriesDescription", "")).strip(),
                "series_number": int(first.get("SeriesNumber") or 0),
                "series_uid": str(first.get("SeriesInstanceUID", "")),
                "path": folder.relative_to(data).as_posix(),
                "slices": len(names),
                "ascending": _rises_to_head(first, last),
            }
        )
    columns = ["patient_id", "sequence", "description", "series_number", "series_uid", "path", "slices", "ascending"]
    if not rows:
        return pd.DataFrame(columns=columns)
    series = pd.DataFrame(rows).sort_values(["patient_id", "series_number", "path"], ignore_index=True)
    series["sequence"] = _sequence_names(series)
    return series[columns]


# ------------------------------------------------------------------------------------------------------------ workbook


def _read_sheet(data: Path) -> Workbook:
    """The clinical workbook, its sheet without lines that name no patient, ids as text."""
    headings = [PATIENT, NODE_STAGE, NODE_STAGE_AFTER_THERAPY, SUSPICIOUS_NODES, BIRTH, SIDE, POSITION]
    book = Workbook(
        data, CLINICAL_SHEET, "duke", DOI, [*headings, *(coded.heading for coded in _CODED.values())], NOT_GIVEN
    )
    book.sheet = book.sheet[book.sheet[PATIENT].notna()].copy()
    book.sheet[PATIENT] = book.sheet[PATIENT].astype(str).str.strip()
    for at in book.sheet.index[book.sheet[PATIENT].duplicated()]:
        book.note(at, PATIENT, "patient appears twice", "keep one row", book.sheet.at[at, PATIENT])
    book.raise_problems()
    return book


def _decode_integers(book: Workbook, heading: str, accepted: set[int]) -> pd.Series:
    """A coded column as Int64, <NA> where not given; every cell that is not an accepted code becomes a problem."""
    codes = ", ".join(str(code) for code in sorted(accepted))
    understand = {float(code): code for code in accepted}
    remedy = f"the data dictionary has the codes {codes}"
    decoded = book.decode(heading, lambda text: understand[float(text)], "unknown code", remedy)
    return decoded.astype("Int64")


def _age_years(text: str) -> float:
    """Age at diagnosis: the sheet has the birth date in days counted from diagnosis, hence negative."""
    days = float(text)
    if not (days.is_integer() and -130 * DAYS_PER_YEAR < days < 0):
        raise ValueError(text)
    return -days / DAYS_PER_YEAR


def _tumor_side(sheet: pd.DataFrame) -> pd.Series:
    """Side of the tumor; where the column was not collected, the side of the biopsied positions if it is one side."""
    sides = []
    for given, position in zip(sheet[SIDE], sheet[POSITION], strict=True):
        letters = {given.strip()} if isinstance(given, str) else set()
        if not letters <= set(_SIDES) or not letters:
            letters = set(re.findall(r"(?<![A-Za-z])[LR](?![A-Za-z])", str(position)))
        sides.append(_SIDES[letters.pop()] if len(letters) == 1 else np.nan)
    return pd.Series(sides, index=sheet.index, dtype="str")


def _features(data: Path, patients: pd.Series) -> pd.DataFrame:
    """features.csv of the workbook of MRI features; a copy may number patients 1, 2, ..., and hold ER, which is no feature."""
    if find_workbook(data, FEATURES_SHEET) is None:
        return empty_features()
    book = Workbook(data, FEATURES_SHEET, "duke", DOI, [PATIENT])
    written = book.sheet[PATIENT].map(cell_text)
    ids = written.where(~written.str.fullmatch(r"\d+"), "Breast_MRI_" + written.str.zfill(3))
    known = ids.isin(set(patients)) & ~ids.duplicated()
    for at in ids.index[~known]:
        book.note(at, PATIENT, "patient is not in the clinical sheet, or here twice", book.unchanged, written[at])
    named = {"patient_id": ids, "timepoint": "pre", "modality": "MRI", "sequence_or_view": "DCE"}
    values = {name: book.numbers(name) for name in book.sheet.columns.drop([PATIENT, "ER"], errors="ignore")}
    book.raise_problems()
    return pd.DataFrame(named | values).reset_index(drop=True)


# -------------------------------------------------------------------------------------------------------------- images


def _images(data: Path, patient_ids: set[str], sides: pd.Series) -> pd.DataFrame:
    series = find_duke_series(data)
    series = series[series["patient_id"].isin(patient_ids)].reset_index(drop=True)
    if not len(series):
        return images_table({})
    boxes = _read_boxes(data) if find_workbook(data, BOXES_SHEET) else {}
    names = series["patient_id"] + "_" + series["sequence"]
    repeat = names.groupby(names).cumcount()
    return images_table(
        {
            "image_id": names.where(repeat == 0, names + "_" + (repeat + 1).astype(str)),
            "patient_id": series["patient_id"],
            "modality": "MRI",
            "timepoint": "pre",
            "sequence_or_view": series["sequence"],
            "laterality": series["patient_id"].map(sides).map({"left": "L", "right": "R"}),
            "path": series["path"],
            "box": [_series_box(row, boxes.get(row.patient_id)) for row in series.itertuples()],
        }
    )


def _read_boxes(data: Path) -> dict[str, tuple[int, ...]]:
    """Tumor boxes as published: start row, end row, start column, end column, start slice, end slice; 1-based, inclusive."""
    headings = [PATIENT, *(f"{edge} {axis}" for axis in ("Row", "Column", "Slice") for edge in ("Start", "End"))]
    book = Workbook(data, BOXES_SHEET, "duke", DOI, headings)
    return {str(row[0]).strip(): tuple(int(edge) for edge in row[1:]) for row in book.sheet[headings].to_numpy()}


def _series_box(row, box: tuple[int, ...] | None) -> str | float:
    """The box of a dynamic series as half-open (z, row, col) indices with z rising towards the head; NaN where none applies.

    The published slice numbers count in InstanceNumber order, which runs from head to foot in part of the series; image
    readers order slices by position, so those are turned round here.
    """
    if box is None or not row.sequence.startswith("dce_"):
        return np.nan
    row0, row1, col0, col1, slice0, slice1 = box
    if slice1 > row.slices or pd.isna(row.ascending):  # an incomplete download: the box would point elsewhere
        return np.nan
    low, high = (slice0 - 1, slice1) if row.ascending else (row.slices - slice1, row.slices - slice0 + 1)
    return format_box((low, row0 - 1, col0 - 1, high, row1, col1))


def _dicom_folders(data: Path):
    """Folders that hold .dcm files, with their sorted names."""
    for folder, subfolders, names in os.walk(data):
        subfolders.sort()
        dicoms = sorted(name for name in names if name.lower().endswith(".dcm"))
        if dicoms:
            yield Path(folder), dicoms


def _header(path: Path):
    import pydicom  # only a cohort with downloaded series needs it
    from pydicom.errors import InvalidDicomError

    tags = ["PatientID", "Modality", "SeriesDescription", "SeriesNumber", "SeriesInstanceUID"]
    tags += ["InstanceNumber", "ImagePositionPatient"]
    try:
        return pydicom.dcmread(path, stop_before_pixels=True, specific_tags=tags)
    except (InvalidDicomError, OSError, EOFError) as error:
        raise InputError(f"{path}: not a readable DICOM file ({error}); download the series again") from error


def _rises_to_head(first, last) -> bool | None:
    """Whether z (patient axis, towards the head) rises with InstanceNumber, from two headers of an axial series."""
    if not all(header.get("ImagePositionPatient") and header.get("InstanceNumber") for header in (first, last)):
        return None
    step = int(last.InstanceNumber) - int(first.InstanceNumber)
    rise = float(last.ImagePositionPatient[2]) - float(first.ImagePositionPatient[2])
    return None if step == 0 or rise == 0 else bool(step * rise > 0)


def _sequence_names(series: pd.DataFrame) -> list[str]:
    patients = series.groupby("patient_id", group_keys=False)
    phases = pd.concat([dce_phases(one["description"], one["series_number"]) for _, one in patients])
    names = []
    for description, phase in zip(series["description"].str.lower(), phases[series.index], strict=True):
        if pd.notna(phase):
            names.append("dce_pre" if phase == 0 else f"dce_post{phase}")
        elif "t1" in description:
            names.append("t1_post" if "+c" in description else "t1")
        else:
            names.append(re.sub(r"[^a-z0-9]+", "_", description).strip("_") or "mr")
    return names
