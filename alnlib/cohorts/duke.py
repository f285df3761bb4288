"""Duke-Breast-Cancer-MRI (Saha 2018): the real clinical sheet, tumor boxes and downloaded MRI series as a cohort.

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
from alnlib.cohorts.schema import IMAGE_COLUMNS, ClinicalVariable, Cohort, Endpoint, empty_images, format_box
from alnlib.errors import InputError, Problem

CLINICAL_SHEET = "Clinical_and_Other_Features.xlsx"
BOXES_SHEET = "Annotation_Boxes.xlsx"
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
DAYS_TO_MRI = "Days to MRI (From the Date of Diagnosis)"
DAYS_TO_SURGERY = "Days to Surgery (from the date of diagnosis)"

DAYS_PER_YEAR = 365.25
NOT_GIVEN = ("", "NA", "NC", "NP", "x")
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

_MANUFACTURERS = {0: "GE", 1: "MPTronic", 2: "Siemens"}
_FIELD_STRENGTHS_T = {0: 1.494, 1: 1.5, 2: 2.8936, 3: 3.0}


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
    Nine MRI are dated after surgery; `read_duke_acquisition` gives the dates for a sensitivity analysis.

    Images: one row per MRI series found below `data` (see `find_duke_series`); the tumor box, drawn on the dynamic
    series, only for those. Raises InputError if the workbook is missing, lacks a column, or holds an unknown code.
    """
    data = Path(data)
    path = _find_workbook(data, CLINICAL_SHEET)
    sheet, rows = _read_sheet(path)
    problems: list[Problem] = []
    patients = pd.DataFrame({"patient_id": sheet[PATIENT], "center": "Duke"})
    node_stage = _decode_integers(sheet, NODE_STAGE, {-1, 0, 1, 2, 3}, path, rows, problems)
    stage_after = _decode_integers(sheet, NODE_STAGE_AFTER_THERAPY, {-1, 0, 1, 2, 3}, path, rows, problems)
    suspicious = _decode_integers(sheet, SUSPICIOUS_NODES, {0, 1}, path, rows, problems)
    node_positive = node_stage > 0
    patients["aln_metastasis"] = node_positive.astype("Int64").where(node_stage >= 0)
    patients["apcr"] = (stage_after == 0).astype("Int64").where((stage_after >= 0) & node_positive)
    patients["age_years"] = _age_years(sheet, path, rows, problems)
    for column, coded in _CODED.items():
        codes = _decode_integers(sheet, coded.heading, set(coded.codes), path, rows, problems)
        patients[column] = codes.map(coded.codes).astype("str").where(codes.map(coded.codes).notna())
    patients["tumor_side"] = _tumor_side(sheet)
    if problems:
        raise InputError(f"{path}: {len(problems)} cells could not be understood", problems)

    clinical = {"age_years": ClinicalVariable("Age at diagnosis", "continuous", "years")}
    clinical |= {column: coded.variable() for column, coded in _CODED.items()}
    clinical["tumor_side"] = ClinicalVariable("Tumor side", "nominal", None, ("left", "right"))
    readers = pd.DataFrame(
        {"patient_id": sheet[PATIENT], "reader_id": READER_ID, "score": suspicious.astype("float64")}
    )
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
        license="CC BY-NC 4.0",
        citation="Saha A, Harowicz MR, Grimm LJ, et al. Br J Cancer 2018;119:508-516; data doi 10.7937/TCIA.e3sv-re93",
        source=f"The Cancer Imaging Archive, doi {DOI}",
        patients=patients[["patient_id", "center", "aln_metastasis", "apcr", *clinical]],
        images=_images(data, set(patients["patient_id"]), patients.set_index("patient_id")["tumor_side"]),
        readers=readers[readers["score"].notna()].reset_index(drop=True),
        root=data,
    )


def read_duke_acquisition(data: str | Path) -> pd.DataFrame:
    """How and when each MRI was made: patient_id, manufacturer, field_strength_t (tesla), days_to_mri and days_to_surgery.

    Days count from diagnosis. These describe the acquisition (a possible confounder); they are not predictors.
    """
    path = _find_workbook(Path(data), CLINICAL_SHEET)
    sheet, rows = _read_sheet(path, extra=("Manufacturer", "Field Strength (Tesla)", DAYS_TO_MRI, DAYS_TO_SURGERY))
    problems: list[Problem] = []
    manufacturer = _decode_integers(sheet, "Manufacturer", set(_MANUFACTURERS), path, rows, problems)
    strength = _decode_integers(sheet, "Field Strength (Tesla)", set(_FIELD_STRENGTHS_T), path, rows, problems)
    if problems:
        raise InputError(f"{path}: {len(problems)} cells could not be understood", problems)
    return pd.DataFrame(
        {
            "patient_id": sheet[PATIENT],
            "manufacturer": manufacturer.map(_MANUFACTURERS),
            "field_strength_t": strength.map(_FIELD_STRENGTHS_T),
            "days_to_mri": pd.to_numeric(sheet[DAYS_TO_MRI], errors="coerce"),
            "days_to_surgery": pd.to_numeric(sheet[DAYS_TO_SURGERY], errors="coerce"),
        }
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


def _find_workbook(data: Path, name: str) -> Path:
    path = _find_optional(data, name)
    if path is None:
        raise InputError(
            f"{data}: no {name} there or below; get it with 'python3 run_all.py download duke --data {data}', "
            f"or from The Cancer Imaging Archive, doi {DOI}, and give its folder as --data"
        )
    return path


def _find_optional(data: Path, name: str) -> Path | None:
    if (data / name).is_file():
        return data / name
    # the workbook lies at most two levels down; deeper lie hundreds of thousands of DICOM files
    return next(iter(sorted([*data.glob(f"*/{name}"), *data.glob(f"*/*/{name}")])), None)


def _read_workbook(path: Path) -> pd.DataFrame:
    try:
        return pd.read_excel(path, dtype=object, keep_default_na=False, na_values=[""])
    except Exception as error:  # zipfile, openpyxl and pandas each have their own for a broken workbook
        raise InputError(f"{path}: cannot be read as an Excel workbook ({error}); download it again") from error


def _read_sheet(path: Path, extra: tuple[str, ...] = ()) -> tuple[pd.DataFrame, pd.Series]:
    """The clinical sheet with ids as text, and the line of each row in the workbook."""
    sheet = _read_workbook(path)
    headings = [coded.heading for coded in _CODED.values()]
    needed = [PATIENT, NODE_STAGE, NODE_STAGE_AFTER_THERAPY, SUSPICIOUS_NODES, BIRTH, SIDE, POSITION, *headings, *extra]
    missing = [
        Problem(str(path), 1, heading, None, "column is missing", f"use the workbook of doi {DOI} unchanged")
        for heading in needed
        if heading not in sheet.columns
    ]
    if missing:
        raise InputError(f"{path}: not the Duke clinical workbook, or an edited one", missing)
    sheet = sheet[sheet[PATIENT].notna()]
    rows = pd.Series(sheet.index + 2, index=range(len(sheet)))
    sheet = sheet.reset_index(drop=True)
    sheet[PATIENT] = sheet[PATIENT].astype(str).str.strip()
    repeated = sheet[PATIENT].duplicated()
    if repeated.any():
        problems = [
            Problem(str(path), int(rows[at]), PATIENT, sheet.at[at, PATIENT], "patient appears twice", "keep one row")
            for at in sheet.index[repeated]
        ]
        raise InputError(f"{path}: duplicated patients", problems)
    return sheet, rows


def _decode_integers(
    sheet: pd.DataFrame, heading: str, accepted: set[int], path: Path, rows: pd.Series, problems: list[Problem]
) -> pd.Series:
    """A coded column as Int64, <NA> where not given; every cell that is not an accepted code becomes a problem."""
    decoded = []
    for at, cell in sheet[heading].items():
        code = _integer(cell)
        if code is None and not _is_given(cell):
            decoded.append(pd.NA)
        elif code in accepted:
            decoded.append(code)
        else:
            decoded.append(pd.NA)
            shown = ", ".join(str(code) for code in sorted(accepted))
            remedy = f"patient {sheet.at[at, PATIENT]}: the data dictionary has the codes {shown}"
            problems.append(Problem(str(path), int(rows[at]), heading.strip(), str(cell), "unknown code", remedy))
    return pd.Series(decoded, index=sheet.index, dtype="Int64")


def _is_given(cell: object) -> bool:
    return not (cell is None or (isinstance(cell, float) and np.isnan(cell)) or str(cell).strip() in NOT_GIVEN)


def _integer(cell: object) -> int | None:
    try:
        number = float(cell)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return None
    return int(number) if number.is_integer() else None


def _age_years(sheet: pd.DataFrame, path: Path, rows: pd.Series, problems: list[Problem]) -> pd.Series:
    """Age at diagnosis: the sheet has the birth date in days counted from diagnosis, hence negative."""
    ages = []
    for at, cell in sheet[BIRTH].items():
        days = _integer(cell)
        if days is not None and -130 * DAYS_PER_YEAR < days < 0:
            ages.append(-days / DAYS_PER_YEAR)
            continue
        ages.append(np.nan)
        if _is_given(cell):
            remedy = f"patient {sheet.at[at, PATIENT]}: expected a negative whole number of days before diagnosis"
            problems.append(Problem(str(path), int(rows[at]), BIRTH, str(cell), "not a date of birth", remedy))
    return pd.Series(ages, index=sheet.index, dtype="float64")


def _tumor_side(sheet: pd.DataFrame) -> pd.Series:
    """Side of the tumor; where the column was not collected, the side of the biopsied positions if it is one side."""
    sides = []
    for given, position in zip(sheet[SIDE], sheet[POSITION], strict=True):
        letters = {given.strip()} if isinstance(given, str) else set()
        if not letters <= set(_SIDES) or not letters:
            letters = set(re.findall(r"(?<![A-Za-z])[LR](?![A-Za-z])", str(position)))
        sides.append(_SIDES[letters.pop()] if len(letters) == 1 else np.nan)
    return pd.Series(sides, index=sheet.index, dtype="str")


# -------------------------------------------------------------------------------------------------------------- images


def _images(data: Path, patient_ids: set[str], sides: pd.Series) -> pd.DataFrame:
    series = find_duke_series(data)
    series = series[series["patient_id"].isin(patient_ids)].reset_index(drop=True)
    if not len(series):
        return empty_images()
    boxes_path = _find_optional(data, BOXES_SHEET)
    boxes = _read_boxes(boxes_path) if boxes_path else {}
    names = series["patient_id"] + "_" + series["sequence"]
    repeat = names.groupby(names).cumcount()
    images = pd.DataFrame(
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
    typed = images.reindex(columns=list(IMAGE_COLUMNS)).astype("str")
    typed = typed.where(images.reindex(columns=list(IMAGE_COLUMNS)).notna())
    return typed.astype({"unit_label": "Int64"})


def _read_boxes(path: Path) -> dict[str, tuple[int, ...]]:
    """Tumor boxes as published: start row, end row, start column, end column, start slice, end slice; 1-based, inclusive."""
    sheet = _read_workbook(path)
    headings = ["Start Row", "End Row", "Start Column", "End Column", "Start Slice", "End Slice"]
    missing = [
        Problem(str(path), 1, heading, None, "column is missing", f"use the workbook of doi {DOI} unchanged")
        for heading in [PATIENT, *headings]
        if heading not in sheet.columns
    ]
    if missing:
        raise InputError(f"{path}: not the Duke box workbook, or an edited one", missing)
    return {str(row[0]).strip(): tuple(int(edge) for edge in row[1:]) for row in sheet[[PATIENT, *headings]].to_numpy()}


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

    tags = [
        "PatientID",
        "Modality",
        "SeriesDescription",
        "SeriesNumber",
        "SeriesInstanceUID",
        "InstanceNumber",
        "ImagePositionPatient",
    ]
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
