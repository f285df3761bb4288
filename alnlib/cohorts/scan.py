"""What lies in a hospital's folder: images, sweeps, volumes and outlines, with what header and name propose about each.

Only headers are looked at; patients are joined and files written in `intake`.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pydicom
from pydicom.dataset import Dataset
from pydicom.valuerep import PersonName

from alnlib.errors import InputError
from alnlib.imaging import read
from alnlib.imaging.clips import PICTURE_SUFFIXES, VIDEO_SUFFIXES
from alnlib.imaging.structures import referenced_series
from alnlib.imaging.volumes import NIFTI_SUFFIXES, NRRD_SUFFIXES

OF_DICOM = {"US": "US", "MR": "MRI", "CT": "CT", "MG": "MG"}
OUTLINES = ("SEG", "RTSTRUCT")

WORDS = {
    "modality": {
        "US": "us usg ultrasound sono sonography bmode",
        "MRI": "mr mri",
        "CT": "ct",
        "MG": "mg mammo mammography mammogram mammograms",
    },
    "timepoint": {
        "pre": "pre baseline before pretreatment prenac pretherapy",
        "post": "post after posttreatment postnac posttherapy presurgery presurgical",
    },
    "laterality": {"L": "l left lt", "R": "r right rt"},
    "view": {"CC": "cc lcc rcc", "MLO": "mlo lmlo rmlo"},
}
"""Words of names, folders and descriptions, in lower case, that propose a value of images.csv."""

SEQUENCES = (
    ("ADC", r"\badc\b|apparent diffusion"),
    ("DWI", r"dwi|(?<![a-z])diff|ep2d|\bb\d{2,4}\b"),
    ("DCE", r"dce|(?<![a-z])dyn|vibrant|perfusion|contrast|\bgad|gd\b|\+c\b|\bph\d"),
    ("T2", r"(?<![a-z\d])t2|stir|tirm"),
    ("T1", r"(?<![a-z\d])t1"),
)
"""Sequences of MRI by what their descriptions hold; the first that fits."""

DCE_PHASE = re.compile(r"dce[_ -]?(pre|early|late)")
"""Of contrast, not of therapy, that "pre"."""

MASK_WORD = re.compile(
    r"(?:^|(?<=[^a-z]))(?:masks?|segmentations?|seg|labels?|roi|tumou?r|lesion|gt|contour)\d*(?=[^a-z]|$)"
)
SURE_MASK = re.compile(r"mask|seg")

IDENTITIES = ("PatientName", "PatientID", "OtherPatientIDs", "PatientBirthName", "AccessionNumber", "InstitutionName")
IDENTITIES += ("ReferringPhysicianName", "PerformingPhysicianName", "OperatorsName", "NameOfPhysiciansReadingStudy")
SHORTEST_IDENTITY = 4
"""Characters below which a text of a header is no name to look for in the table: initials fit everywhere."""


@dataclass(frozen=True)
class Found:
    """One image, sweep, volume or outline.

    files: one, or the slices of a series. name: its place below the folder, to tell it apart. modality: as images.csv has it,
    SEG, RTSTRUCT, or "" where nothing tells. patient: as the header says, or "". series, study: UIDs; of an outline the series
    that it was drawn on. date: of the study, YYYYMMDD. mask: the outline that belongs to it.
    """

    files: tuple[Path, ...]
    name: str
    modality: str
    patient: str = ""
    series: str = ""
    study: str = ""
    instance: str = ""
    date: str = ""
    timepoint: str = ""
    view: str = ""
    laterality: str = ""
    phase: str = ""
    is_dicom: bool = False
    mask: Found | None = None


@dataclass
class Scan:
    """images, outlines: what was found. left_out: name and reason of other files. identities: texts of DICOM headers that name
    people or places, in lower case."""

    images: list[Found] = field(default_factory=list)
    outlines: list[Found] = field(default_factory=list)
    left_out: list[tuple[str, str]] = field(default_factory=list)
    identities: set[str] = field(default_factory=set)


def scan_folder(folder: str | Path, modality: str = "", masks: Iterable[str] = ()) -> Scan:
    """Look at every file in a folder and below; hidden ones are passed over.

    modality: of pictures and volumes whose name and folders do not tell theirs. masks: names of pictures that a table calls
    masks. Raises InputError if there is no such folder.
    """
    folder, scan = Path(folder), Scan()
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder of images; give it as --dicom")
    named_masks, seen = {Path(name).name.lower() for name in masks}, set()
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if not path.is_file() or any(part.startswith(".") for part in Path(name).parts):
            continue
        try:
            found = _found(path, name, modality, scan.identities)
        except InputError as error:
            scan.left_out.append((name, str(error)))
            continue
        unique = (found.patient, found.instance)
        if found.instance and unique in seen:
            scan.left_out.append((name, "a file with the same patient and SOP Instance UID was taken already"))
            continue
        seen.add(unique)
        outline = found.modality in OUTLINES or path.name.lower() in named_masks
        (scan.outlines if outline else scan.images).append(found)
    _separate_named_masks(scan)
    drawn_flat = {
        mask_base(path) for one in scan.outlines for path in one.files if path.suffix.lower() in PICTURE_SUFFIXES
    }
    scan.images = list(_series(scan.images, drawn_flat))
    return scan


def _found(path: Path, name: str, modality: str, identities: set[str]) -> Found:
    if path.name == "DICOMDIR":
        raise InputError("a directory of a medium, not an image")
    suffix = path.suffix.lower()
    if path.name.lower().endswith((*NIFTI_SUFFIXES, *NRRD_SUFFIXES, *PICTURE_SUFFIXES, *VIDEO_SUFFIXES)):
        read.first_bytes(path)
        told = proposed("modality", name) or modality
        if suffix in VIDEO_SUFFIXES:
            told = "USV"
        elif told in ("US", "USV", "MG") and not suffix.endswith(PICTURE_SUFFIXES):
            raise InputError(f"a volume, but of modality {told}; give --modality MRI or CT, or name it so")
        elif told in ("MRI", "USV") and suffix.endswith(PICTURE_SUFFIXES):
            raise InputError(f"a picture, but of modality {told}; export it as DICOM, NIfTI or video")
        stem = re.sub(r"\.\w+", "", path.name)
        view = sequence(stem) if told == "MRI" else proposed("view", name) if told == "MG" else ""
        sides = {key: proposed(key, name) for key in ("timepoint", "laterality")}
        return Found((path,), name, told, view="B-mode" if told == "US" else view, **sides)
    if not read.is_dicom(path):
        raise InputError("neither DICOM, a picture, a volume nor a video that is read")
    return _of_header(read.read_dicom(path), path, name, identities)


def _of_header(dataset: Dataset, path: Path, name: str, identities: set[str]) -> Found:
    with read.decoding(path, "the DICOM header"):
        identities.update(header_identities(dataset))
        code = str(dataset.get("Modality") or "")
        if code in OUTLINES:
            patient, instance = str(dataset.get("PatientID") or ""), str(dataset.get("SOPInstanceUID") or "")
            return Found((path,), name, code, patient, referenced_series(dataset), instance=instance, is_dicom=True)
        if code not in OF_DICOM:
            raise InputError(
                f"its modality ({read.shown(code, read.MODALITIES)}) is none that is read: {', '.join(OF_DICOM)}"
            )
        modality = "USV" if code == "US" and read.frame_count(dataset) > 1 else OF_DICOM[code]
        words = [str(dataset.get(f"{what}Description") or "") for what in ("Study", "Series")]
        words.append(str(dataset.get("ProtocolName") or ""))
        side = str(dataset.get("ImageLaterality") or dataset.get("Laterality") or "")
        told = str(dataset.get("ViewPosition") or "")
        view = {"US": "B-mode", "MRI": sequence(" ".join(words[1:]))}.get(modality, "")
        if modality == "MG":
            view = told if told in WORDS["view"] else proposed("view", *words, name)
        return Found(
            (path,),
            name,
            modality,
            *(
                str(dataset.get(k) or "")
                for k in ("PatientID", "SeriesInstanceUID", "StudyInstanceUID", "SOPInstanceUID")
            ),
            date=str(dataset.get("StudyDate") or ""),
            timepoint=proposed("timepoint", *words, name),
            view=view,
            laterality=side if side in ("L", "R") else proposed("laterality", *words, name),
            phase=str(dataset.get("TemporalPositionIdentifier") or ""),
            is_dicom=True,
        )


def header_identities(dataset: Dataset) -> Iterator[str]:
    """Texts that name people or places, or number them, in lower case; names in their parts."""
    for keyword in IDENTITIES:
        value = dataset.get(keyword)
        for one in value if isinstance(value, pydicom.multival.MultiValue) else [value]:
            text = str(one or "").lower()
            parts = re.split(r"[\^= ,]+", text) if isinstance(one, PersonName) else [text]
            yield from (part for part in parts if len(part) >= SHORTEST_IDENTITY)


def proposed(column: str, *texts: str) -> str:
    """The value of a column of images.csv that words of these texts propose; "" where none does, or several."""
    words = {word for text in texts for word in re.findall(r"[a-z]+", DCE_PHASE.sub("", text.lower()))}
    fitting = [value for value, known in WORDS[column].items() if words & set(known.split())]
    return fitting[0] if len(fitting) == 1 else ""


def sequence(description: str) -> str:
    """The sequence of MRI that a description means, "" where it tells none."""
    plain = description.lower().replace("_", " ")
    if phase := DCE_PHASE.search(plain):
        return f"DCE_{phase[1]}"
    return next((name for name, pattern in SEQUENCES if re.search(pattern, plain)), "")


def _separate_named_masks(scan: Scan) -> None:
    """Move pictures and volumes that are called masks to the outlines: surely so, or beside the image that they belong to."""
    stems = {(path.parent, _stem(path)) for found in scan.images for path in found.files}
    images = []
    for found in scan.images:
        (path,) = found.files
        base = mask_base(path)
        is_mask = not found.is_dicom and base is not None
        if is_mask and not SURE_MASK.search(path.relative_to(path.parents[1]).as_posix().lower()):
            is_mask = base != "" and any(stem == base for _, stem in stems)
        (scan.outlines if is_mask else images).append(found)
    scan.images = images


def mask_base(path: Path) -> str | None:
    """The stem of the image that a file called a mask belongs to, "" if its name tells none; None for other files."""
    stem = _stem(path)
    word = MASK_WORD.search(stem)
    if word:
        return (stem[: word.start()].rstrip("_-. ") + stem[word.end() :]).strip("_-. ")
    return stem if MASK_WORD.fullmatch(path.parent.name.lower()) else None


def _stem(path: Path) -> str:
    return re.sub(r"(\.nii)?\.\w+$", "", path.name.lower())


def _series(images: list[Found], drawn_flat: set[str | None]) -> Iterator[Found]:
    """Slices of one series, and of one phase in it, as one volume; phases of a dynamic series by their order.

    drawn_flat: stems of files with an outline of their own that is a picture; those stay apart.
    """
    grouped: defaultdict[tuple[str, ...], list[Found]] = defaultdict(list)
    for found in images:
        sliced = found.is_dicom and found.modality in ("MRI", "CT") and found.series
        sliced = sliced and _stem(found.files[0]) not in drawn_flat
        grouped[(found.patient, found.series, found.phase) if sliced else (found.name,)].append(found)
    phases: defaultdict[tuple[str, ...], list[str]] = defaultdict(list)
    for key, slices in grouped.items():
        if len(key) == 3 and slices[0].modality == "MRI":
            phases[key[:2]].append(slices[0].phase)
    for key, slices in grouped.items():
        files, first = tuple(path for one in slices for path in one.files), slices[0]
        order = sorted(phases.get(key[:2], []), key=lambda phase: (len(phase), phase))
        names = {"DCE_pre": 0, "DCE_early": 1, "DCE_late": len(order) - 1}
        at = order.index(first.phase) if len(order) > 2 else -1
        view = next((name for name, place in names.items() if place == at), f"DCE_{at + 1}") if at >= 0 else first.view
        yield replace(first, files=files, view=view)


def with_masks(images: list[Found], outlines: list[Found], named: dict[str, str]) -> tuple[list[Found], list[Found]]:
    """The images with the outline that belongs to each, and the outlines that belong to none or to one that has one already.

    named: image (its place below the folder) of outlines whose table says it; of several of one image the first counts.
    Other SEG and RTSTRUCT go to the series that they refer to; other files to the image of the same stem, of volumes also to
    those whose stem goes on from there, beside them or in the folder beside theirs; if their own name tells none, to every
    volume of their folder.
    """
    masked: dict[str, Found] = {}
    spare = []
    rank = {name: at for at, name in enumerate(named)}
    for outline in sorted(outlines, key=lambda outline: rank.get(outline.name, len(rank))):
        takers = [image.name for image in images if _belongs(outline, image, named)]
        free = [name for name in takers if name not in masked]
        masked |= dict.fromkeys(free, outline)
        if not free:
            spare.append(outline)
    return [replace(image, mask=masked.get(image.name)) for image in images], spare


def _belongs(outline: Found, image: Found, named: dict[str, str]) -> bool:
    if outline.name in named:
        return named[outline.name] == image.name
    if outline.modality in OUTLINES:
        return outline.series != "" and outline.series == image.series
    mine, theirs = outline.files[0], image.files[0]
    if image.is_dicom and len(image.files) > 1:
        return mask_base(mine) in ("", theirs.parent.name.lower()) and mine.parent in (theirs.parent, theirs.parents[1])
    base = mask_base(mine)
    near = mine.parent == theirs.parent or mine.parents[1] == theirs.parents[1]
    flat = theirs.name.lower().endswith(PICTURE_SUFFIXES) or image.is_dicom
    alike = mine.name.lower().endswith(PICTURE_SUFFIXES) == flat or image.modality == "USV"
    if flat or not base:
        return near and alike and (_stem(theirs) == base if base else not flat and mine.parent == theirs.parent)
    return near and alike and re.match(rf"{re.escape(base)}(?![a-z\d])", _stem(theirs)) is not None
