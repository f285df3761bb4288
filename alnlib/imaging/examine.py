"""Every image of a cohort opened once before anything is computed: what cannot be read or cut, and what headers say otherwise.

`examine_images` cuts each image as a stage would; `header_contradictions` compares headers with images.csv, and `acquisition`
tells how images were made. Of identities in headers, what is told is whether they agree.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import SimpleITK
from joblib import Parallel, delayed
from PIL import Image
from pydicom import dcmread
from pydicom.dataset import Dataset

from alnlib.cohorts.scan import IDENTITIES, header_identities
from alnlib.cohorts.schema import Cohort, mask_files, parse_box, parse_pixel_spacing
from alnlib.errors import InputError, Problem, counted
from alnlib.imaging import read
from alnlib.imaging.lesions import crop
from alnlib.imaging.rows import is_given, of_patient, read_scan, read_still, read_sweep, row_frame
from alnlib.imaging.spec import CropSpec
from alnlib.imaging.volumes import VolumeGeometry, is_volume, read_volume

SIDE_PX = 64
"""Of the crops that are cut to see whether they can be."""

SET_ASIDE_COLUMNS = ("patient_id", "image_id", "modality", "file", "reason", "remedy")
CONTRADICTION_COLUMNS = ("patient_id", "image_id", "file", "what", "header", "table")

DICOM_MODALITY = {"US": "US", "USV": "US", "MRI": "MR", "CT": "CT", "MG": "MG"}
TURNED_SUFFIXES = (".jpg", ".jpeg", ".tif", ".tiff", ".png")

KNOWN_MODALITIES = ("US", "MR", "CT", "MG", "PT", "NM", "XA", "IVUS", "OPT", "ES", "SEG", "RTSTRUCT", "SR")
"""DICOM codes that say what made the image; others (OT, SC, DX, CR) can be any."""

PLAUSIBLE_MM = {"US": (0.01, 1.0), "USV": (0.01, 1.0), "MG": (0.01, 1.0), "CT": (0.1, 2.0), "MRI": (0.1, 5.0)}
"""Smallest and largest pixel by modality. Our choice, with room for pictures that were reduced."""

SAME_SPACING = 0.05
"""Largest relative difference between the spacing of table and header that rounding explains."""

PHASES = ("pre", "early", "late")
"""Ends of `sequence_or_view` of contrast phases, in the order in which they are acquired."""

BOTH_BREASTS_MM = 250.0
"""From this width on MRI shows both breasts, so that its middle lies between them. One breast, and its coil, is narrower."""

MIDLINE_MM = 10.0
"""A box whose center is this near to the middle is on neither side. Our choice."""

ACQUISITION_COLUMNS = ("spacing_mm", "pixels", "maker", "strength")

NOBODY = re.compile(r"anon|unknown|test|none|^0*$", re.IGNORECASE)
"""Patient IDs that name nobody."""

IDENTITY = "identity"

INTENTS = ("FOR PROCESSING", "FOR PRESENTATION")


def examine_images(cohort: Cohort, n_jobs: int = 1, told: Callable[[int, int], None] | None = None) -> pd.DataFrame:
    """`SET_ASIDE_COLUMNS`: the images that cannot be read or cut, in the order of the table, with reason and remedy.

    Each is opened with its mask, and where a mask or box says where the lesion is, cut round it. n_jobs: processes (joblib's);
    told: called with how many images are done, and of how many.
    """
    images, root = cohort.images, cohort.root
    of_patient_rows = dict(list(images[images["modality"] == "MRI"].groupby("patient_id")))
    tasks = [
        (at, row, of_patient_rows.get(row["patient_id"], images.head(0)) if row["modality"] == "MRI" else None)
        for at, (_, row) in enumerate(images.iterrows())
    ]
    jobs = Parallel(n_jobs=n_jobs, return_as="generator_unordered", batch_size="auto")
    found: dict[int, tuple[str, str]] = {}
    for done, (at, fault) in enumerate(jobs(delayed(_fault)(*task, root) for task in tasks), start=1):
        if fault is not None:
            found[at] = fault
        if told is not None:
            told(done, len(tasks))
    rows = [(*images.iloc[at][["patient_id", "image_id", "modality", "path"]], *found[at]) for at in sorted(found)]
    return pd.DataFrame(rows, columns=list(SET_ASIDE_COLUMNS))


def set_aside(cohort: Cohort, found: pd.DataFrame, most: float = 1.0) -> Cohort:
    """The cohort without the images of `examine_images`. Raises InputError, with all of them, if they are more than the share
    `most` of the table."""
    images = cohort.images
    if len(found) > most * len(images):
        raise InputError(
            f"{len(found)} of {len(images)} images cannot be used, more than the share of {most:g} that a run sets aside "
            f"({counted(image_problems(cohort, found))})",
            image_problems(cohort, found),
        )
    kept = images[~images["image_id"].isin(found["image_id"])].reset_index(drop=True)
    return cohort if found.empty else replace(cohort, images=kept)


def image_problems(cohort: Cohort, found: pd.DataFrame) -> list[Problem]:
    """A problem for each row of `examine_images`, with its row in images.csv; alike ones share a line when they are told."""
    row_of = {image: at + 2 for at, image in enumerate(cohort.images["image_id"])}
    return [
        Problem.of(
            "images.csv",
            f"{row.reason} (patient {row.patient_id}, {row.file})",
            row.remedy,
            row_of[row.image_id],
            "path",
        )
        for row in found.itertuples()
    ]


def header_contradictions(cohort: Cohort, n_jobs: int = 1) -> pd.DataFrame:
    """`CONTRADICTION_COLUMNS`: where headers say otherwise than images.csv, and what they say.

    Compared are modality, side, size of pixels (`SAME_SPACING`, `PLAUSIBLE_MM`), whether images of one patient name one and
    those of two patients two, whether path or image_id tell a name or number of the header, whether a box on MRI of both breasts
    lies on the row's side, whether a visit `post` was after `pre`, contrast phases were acquired in the order of `PHASES`, and
    whether all mammograms are for presentation or all for processing. Files that are no DICOM tell of the box alone.
    """
    images = cohort.images
    heads = Parallel(n_jobs=n_jobs)(delayed(_header)(row, cohort.root) for _, row in images.iterrows())
    said = images.assign(**{name: [head.get(name, "") for head in heads] for name in _HEADER})
    parts = [
        _of_each_image(said),
        _turns(said, cohort.root),
        _identities(said),
        [
            (at, IDENTITY, "a name or number of a person or place", "the same")
            for at in said.index[said["dicom_named"] == "yes"]
        ],
        _visits(said),
        _phases(said),
        _intents(said),
    ]
    rows = [(*said.loc[at, ["patient_id", "image_id", "path"]], *one) for part in parts for at, *one in part]
    return pd.DataFrame(rows, columns=list(CONTRADICTION_COLUMNS))


def acquisition(images: pd.DataFrame, root: str | Path, n_jobs: int = 1) -> pd.DataFrame:
    """`ACQUISITION_COLUMNS` of each row of an images table, on its index: how an image was made, by its header.

    spacing_mm: edge of a pixel in the plane (geometric mean), that of the table if it names one; pixels: of the plane; maker:
    manufacturer and model; strength: tesla of MRI, kV of CT and mammograms. Missing where the file does not say; a picture says
    its pixels alone. What cannot be read says nothing.
    """
    jobs = Parallel(n_jobs=n_jobs)
    made = jobs(delayed(_acquired)(row, Path(root)) for _, row in images.iterrows())
    table = pd.DataFrame(made, index=images.index, columns=list(ACQUISITION_COLUMNS))
    return table.astype(dict.fromkeys(("spacing_mm", "pixels", "strength"), float))


def contradiction_problems(cohort: Cohort, found: pd.DataFrame) -> list[Problem]:
    """A warning for each row of `header_contradictions`."""
    row_of = {image: at + 2 for at, image in enumerate(cohort.images["image_id"])}
    problems = []
    for row in found.itertuples():
        message = (
            f"the header says another {row.what} ({row.header} for {row.table}; patient {row.patient_id}, {row.file})"
        )
        remedy, column = "look at the file; correct images.csv, or note why the header is wrong", row.what
        if row.what == IDENTITY:
            message = "path or image_id tells a name or number of the header, and goes into results as it is"
            remedy, column = "rename the file, or make the folder with run_all.py new-cohort", "path"
        problems.append(Problem.of("images.csv", message, remedy, row_of[row.image_id], column))
    return problems


# One image


def _fault(at: int, row: pd.Series, of_patient_rows: pd.DataFrame | None, root: Path) -> tuple[int, tuple | None]:
    """(at, None) or (at, (reason, remedy))."""
    try:
        with of_patient(row):
            _cut(row, of_patient_rows, root)
    except InputError as error:
        return at, _told(str(error), row, root)
    except (ValueError, TypeError, AttributeError, RuntimeError, ArithmeticError, LookupError, MemoryError) as error:
        said = (str(error).strip() or "no message").splitlines()[-1]
        return at, (f"{type(error).__name__}: {said}", "look at image and mask, or leave the image out")
    return at, None


def _cut(row: pd.Series, of_patient_rows: pd.DataFrame | None, root: Path) -> None:
    modality, placed = row["modality"], is_given(row["box"]) or is_given(row["mask_path"])
    if not placed:
        {"USV": read_sweep, "MRI": read_scan}.get(modality, read_still)(row, root)
    elif modality == "MRI":
        timepoint = row["timepoint"] if is_given(row["timepoint"]) else ""
        channels = [f"{timepoint}/{row['sequence_or_view']}"] if is_given(row["sequence_or_view"]) else None
        if channels is None:
            raise InputError("the sequence of the MRI is not named; fill sequence_or_view in images.csv")
        crop(of_patient_rows, root, CropSpec("MRI", SIDE_PX, channels=channels), [row["patient_id"]])
    else:
        crop(pd.DataFrame([row]), root, CropSpec(modality, SIDE_PX))


def _told(message: str, row: pd.Series, root: Path) -> tuple[str, str]:
    """Reason and remedy of a message, without the names that stand in columns of their own."""
    message = message.removeprefix(f"patient {row['patient_id']}: ").removeprefix(f"image {row['image_id']}: ")
    message = message.replace(f"{root}/", "")
    for name in (row["path"], *(mask_files(row["mask_path"]) if is_given(row["mask_path"]) else ())):
        message = message.removeprefix(f"{name}: ")
    reason, *remedy = re.split(r"[;:] (?!.*[;:] )", message, maxsplit=1, flags=re.DOTALL)
    return reason, "".join(remedy) or "look at the file, or leave the image out"


# Headers

_TAGS = (
    "Modality", "ImageLaterality", "Laterality", "PatientID", "StudyDate", "AcquisitionDate", "AcquisitionTime",
    "ContentTime", "PresentationIntentType", "PixelSpacing", "ImagerPixelSpacing", "SequenceOfUltrasoundRegions",
)  # fmt: skip
_HEADER = (
    "dicom_modality", "dicom_side", "dicom_patient", "dicom_date", "dicom_time", "dicom_intent", "dicom_spacing", "dicom_named",
    "box_side",
)  # fmt: skip
_MADE_BY = (
    "Rows", "Columns", "Manufacturer", "ManufacturerModelName", "MagneticFieldStrength", "KVP", *_TAGS[-3:],
    "NominalScannedPixelSpacing", "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence",
)  # fmt: skip


def _header(row: pd.Series, root: Path) -> Mapping[str, Any]:
    """What the header of a DICOM file, or of the first of a folder, says, by `_HEADER`; of other files the side of the box alone.
    The patient as a digest, and of names and numbers only whether path or image_id tell one; no size of pixels where that depends
    on the place and the table names none."""
    box_side, path = {"box_side": _box_side(row, root)}, Path(root, row["path"])
    try:
        dataset = _dataset(row, root, (*_TAGS, *IDENTITIES))
        if dataset is None:
            return box_side
        with read.decoding(path, "the DICOM header"):
            own, told = str(row["patient_id"]).lower(), f"{row['path']} {row['image_id']}".lower()
            named = any(text in told and text not in own for text in header_identities(dataset))
            return box_side | _said(dataset, parse_box(row["box"])) | {"dicom_named": "yes" if named else ""}
    except InputError:
        return box_side  # `examine_images`, which reads the same header, tells of it


def _dataset(row: pd.Series, root: Path, tags: tuple[str, ...]) -> Dataset | None:
    """Elements of a DICOM file, or of the first of a folder; None of other files. Raises InputError if they cannot be read."""
    path = Path(root, row["path"])
    if path.is_dir():
        path = next((file for file in sorted(path.iterdir()) if read.is_dicom_image(file)), path)
    if not path.is_file() or not read.is_dicom(path):
        return None
    with read.decoding(path, "the DICOM header"):
        return dcmread(path, stop_before_pixels=True, specific_tags=list(tags), force=True)


def _box_side(row: pd.Series, root: Path) -> str:
    """L or R: the breast in which the row's box lies on MRI of both; empty where that is not known."""
    box = parse_box(row["box"])
    if row["modality"] != "MRI" or row["laterality"] not in ("L", "R") or box is None or len(box) != 6:
        return ""
    placed = _geometry(Path(root, row["path"]), row_frame(row))
    if placed is None:
        return ""
    geometry, shape = placed
    across = np.abs(np.array(geometry.direction)[0, ::-1]) * geometry.spacing_mm
    middle, center = (np.array(shape) - 1) / 2, (np.add(box[:3], box[3:]) - 1) / 2
    to_left = float(geometry.position_mm(center)[0] - geometry.position_mm(middle)[0])
    if across @ shape < BOTH_BREASTS_MM or abs(to_left) < MIDLINE_MM:
        return ""
    return "L" if to_left > 0 else "R"


def _geometry(path: Path, frame: int | None) -> tuple[VolumeGeometry, tuple[int, int, int]] | None:
    """Of a volume, from its header where it is one file; None of what is no volume or cannot be read."""
    try:
        if path.is_dir():
            volume = read_volume(path, frame)
            return volume.geometry, volume.shape
        if not is_volume(path):
            return None
        header = SimpleITK.ImageFileReader()
        header.SetFileName(str(path))
        header.ReadImageInformation()
        direction = np.reshape(header.GetDirection(), (header.GetDimension(),) * 2)[:3, :3]
        spacing, size = header.GetSpacing()[:3], header.GetSize()[:3]
        return VolumeGeometry(spacing[::-1], header.GetOrigin()[:3], direction), size[::-1]
    except (InputError, RuntimeError, ValueError):
        return None  # `examine_images` tells of it


def _acquired(row: pd.Series, root: Path) -> tuple[float | None, float | None, str | None, float | None]:
    path, given = Path(root, row["path"]), parse_pixel_spacing(row["pixel_spacing_mm"])
    spacing, pixels, maker, strength = given, None, None, None
    try:
        dataset = _dataset(row, root, _MADE_BY)
        with read.decoding(path, "the header"):
            if dataset is not None:
                spacing = given or read.dicom_spacing(dataset)
                pixels = int(dataset.get("Rows") or 0) * int(dataset.get("Columns") or 0) or None
                names = (str(dataset.get(name) or "").strip() for name in ("Manufacturer", "ManufacturerModelName"))
                maker = " ".join(filter(None, names)) or None
                strength = float(dataset.get("MagneticFieldStrength") or dataset.get("KVP") or 0) or None
            elif is_volume(path) and (placed := _geometry(path, row_frame(row))):
                spacing, pixels = given or placed[0].spacing_mm[1:], placed[1][1] * placed[1][2]
            elif path.suffix.lower() in TURNED_SUFFIXES:
                with Image.open(path) as picture:
                    pixels = picture.width * picture.height
    except InputError:
        pass  # `examine_images` tells of it
    return None if spacing is None else float(np.sqrt(np.prod(spacing))), pixels, maker, strength


def _said(dataset: Dataset, box: tuple[int, ...] | None) -> Mapping[str, Any]:
    side = str(dataset.get("ImageLaterality") or dataset.get("Laterality") or "").upper()
    patient = str(dataset.get("PatientID") or "").strip()
    patient = "" if NOBODY.search(patient) else patient
    time = dataset.get("AcquisitionTime") or dataset.get("ContentTime")
    day = dataset.get("AcquisitionDate") or dataset.get("StudyDate")
    near = None if box is None or len(box) != 4 else (0.5 * (box[0] + box[2]), 0.5 * (box[1] + box[3]))
    unclear = near is None and read.has_several_spacings(dataset)
    return {
        "dicom_modality": str(dataset.get("Modality") or ""),
        "dicom_side": side if side in ("L", "R") else "",
        "dicom_patient": hashlib.sha256(patient.encode()).hexdigest() if patient else "",
        "dicom_date": str(dataset.get("StudyDate") or ""),
        "dicom_time": read.dicom_time(day, time),
        "dicom_intent": str(dataset.get("PresentationIntentType") or "").upper(),
        "dicom_spacing": "" if unclear else read.dicom_spacing(dataset, 0, near),
    }


def _of_each_image(said: pd.DataFrame) -> list[tuple]:
    found = []
    for at, row in said.iterrows():
        made_by, side = row["dicom_modality"], row["dicom_side"]
        if made_by in KNOWN_MODALITIES and made_by != DICOM_MODALITY[row["modality"]]:
            found.append((at, "modality", made_by, row["modality"]))
        if side and row["laterality"] in ("L", "R") and side != row["laterality"]:
            found.append((at, "laterality", side, row["laterality"]))
        if row["box_side"] and row["box_side"] != row["laterality"]:
            found.append((at, "laterality", f"the box in breast {row['box_side']}", row["laterality"]))
        given = parse_pixel_spacing(row["pixel_spacing_mm"])
        header = row["dicom_spacing"] if isinstance(row["dicom_spacing"], tuple) else None
        if given and header and not np.allclose(given, header, rtol=SAME_SPACING):
            found.append((at, "pixel_spacing_mm", _steps(header), _steps(given)))
        lowest, highest = PLAUSIBLE_MM[row["modality"]]
        if (known := given or header) and not all(lowest <= step <= highest for step in known):
            found.append((at, "pixel_spacing_mm", _steps(known), f"{lowest:g} to {highest:g} are usual"))
    return found


def _turns(said: pd.DataFrame, root: Path) -> list[tuple]:
    """A picture that viewers turn, whose mask was drawn by a tool that does not."""
    found = []
    for at, row in said.iterrows():
        if not is_given(row["mask_path"]) or not str(row["path"]).lower().endswith(TURNED_SUFFIXES):
            continue
        own, *others = (read.orientation(Path(root, name)) for name in (row["path"], *mask_files(row["mask_path"])))
        if any(other != own for other in others):
            found.append((at, "orientation", f"{own} of the picture", f"{others[0]} of its mask"))
    return found


def _identities(said: pd.DataFrame) -> list[tuple]:
    """An identity that three patients share, as after a careless anonymization, is none."""
    named = said[said["dicom_patient"] != ""]
    shared = named.groupby("dicom_patient")["patient_id"].nunique()
    anonymous = shared[shared > 2].index
    named = named[~named["dicom_patient"].isin(anonymous)]
    found = []
    for _, own in named.groupby("patient_id", sort=False):
        others = own.index[own["dicom_patient"] != own["dicom_patient"].mode().iloc[0]]
        found += [(at, "patient_id", "another patient than other images", "the same") for at in others]
    for _, own in named.groupby("dicom_patient", sort=False):
        usual = own["patient_id"].mode().iloc[0]
        others = own.index[own["patient_id"] != usual]
        found += [(at, "patient_id", f"the same patient as images of {usual}", "another") for at in others]
    return found


def _visits(said: pd.DataFrame) -> list[tuple]:
    found = []
    dated = said[said["timepoint"].isin(["pre", "post"]) & (said["dicom_date"] != "")]
    for _, own in dated.groupby("patient_id", sort=False):
        days = pd.to_datetime(own["dicom_date"], format="%Y%m%d", errors="coerce")
        before = days[own["timepoint"] == "pre"].max()
        for at in own.index[(own["timepoint"] == "post") & (days < before)]:
            found.append((at, "timepoint", f"{(before - days[at]).days} days before the visit pre", "post"))
    return found


def _phases(said: pd.DataFrame) -> list[tuple]:
    found = []
    times = pd.to_numeric(said["dicom_time"], errors="coerce")
    timed = said.assign(dicom_time=times)[(said["modality"] == "MRI") & times.notna()]
    phase = timed["sequence_or_view"].fillna("").str.extract(rf"^(.*)_({'|'.join(PHASES)})$")
    timed = timed.assign(family=phase[0], phase=phase[1].map(PHASES.index, na_action="ignore")).dropna(subset=["phase"])
    for _, own in timed.groupby(["patient_id", timed["timepoint"].fillna(""), "family"], sort=False):
        own = own.sort_values("phase")
        late = own.index[own["dicom_time"].diff() < 0]
        told = "acquired before the phase before it"
        found += [(at, "sequence_or_view", told, said.loc[at, "sequence_or_view"]) for at in late]
    return found


def _intents(said: pd.DataFrame) -> list[tuple]:
    """Raw and processed mammograms have other gray values; those of the rarer kind are named."""
    known = said[said["dicom_intent"].isin(INTENTS) & (said["modality"] == "MG")]
    counts = known["dicom_intent"].value_counts()
    if len(counts) < 2:
        return []
    rarer, usual = (counts.index[place].lower() for place in (-1, 0))
    others = known.index[known["dicom_intent"] == counts.index[-1]]
    return [(at, "intent", rarer, f"{counts.iloc[0]} others are {usual}") for at in others]


def _steps(spacing: tuple[float, float]) -> str:
    return " ".join(f"{step:.4g}" for step in spacing)
