"""New identities, and files that hold pixels and a few typed numbers: nothing of an old header, name or picture is copied.

By DICOM PS3.15 Annex E as a list of what stays, not of what goes: private elements, sequences, overlays, comments inside
compressed streams and unknown elements have no way through. (A list of what goes, as in dicognito 0.19, let planted names in
comments, descriptions, private elements and overlays pass.) Text burnt into pixels is only found, in `imaging.burned_in`.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
from PIL import Image
from pydicom import uid
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence

from alnlib.files import atomic_path
from alnsim.dicom import synthetic_uid
from alnsim.nifti import write_volume

SHIFT_DAYS = (-3650, -365)
"""Dates of a patient move back by a number of days in this range. Our choice: no date stays within a year of the truth."""

DICOM_CODES = {"US": "US", "USV": "US", "CT": "CT", "MG": "MG"}
STORAGE = {
    "US": uid.UltrasoundImageStorage,
    "USV": uid.UltrasoundMultiFrameImageStorage,
    "CT": uid.CTImageStorage,
    "MG": uid.DigitalMammographyXRayImageStorageForPresentation,
}
PROFILES = {
    "113100": "Basic Application Confidentiality Profile",
    "113107": "Retain Longitudinal Temporal Information Modified Dates Option",
}
"""PS3.16 CID 7050, as far as it applies here."""

EMPTY = (
    "PatientName",
    "PatientBirthDate",
    "PatientSex",
    "StudyTime",
    "StudyID",
    "AccessionNumber",
    "ReferringPhysicianName",
)
"""Elements of every image object that may be empty (type 2) and here are."""


class Pseudonyms:
    """New patient ids, UIDs and dates. All but those of a key come from a secret that is drawn here and written nowhere.

    ids, days: of each old id the new one (P-0001, ...; their order tells nothing) and the days that its dates move.
    known: (new id, days) of old ids, from the key of an earlier intake.
    """

    def __init__(self, patients: Iterable[str], known: Mapping[str, tuple[str, int]] | None = None) -> None:
        self._secret = secrets.token_hex(16)
        known = known or {}
        self.ids = {old: new for old, (new, _) in known.items()}
        self.days = {old: days for old, (_, days) in known.items()}
        fresh = (f"P-{number:04d}" for number in range(1, 10**6))
        taken = set(self.ids.values())
        for old in sorted(set(patients) - set(known), key=lambda old: self._number("order", old)):
            self.ids[old] = next(new for new in fresh if new not in taken)
            self.days[old] = SHIFT_DAYS[0] + self._number("days", old) % (SHIFT_DAYS[1] - SHIFT_DAYS[0] + 1)

    def uid(self, *parts: object) -> uid.UID:
        """A new UID, the same for the same parts within one intake, so that a study stays one study."""
        return synthetic_uid(self._secret, *parts)

    def date(self, patient: str, date: str) -> str:
        """A DICOM date (YYYYMMDD) moved as all of this patient's, so that intervals stay; "" for what is no date."""
        try:
            moved = datetime.strptime(date, "%Y%m%d") + timedelta(days=self.days[patient])
        except (ValueError, OverflowError):
            return ""
        return moved.strftime("%Y%m%d")

    def _number(self, *parts: str) -> int:
        return int.from_bytes(hashlib.sha256("/".join((self._secret, *parts)).encode()).digest()[:8], "big")


@dataclass(frozen=True)
class Header:
    """All that a new DICOM object says beside its pixels.

    modality: US, USV, CT or MG. spacing_mm: (row, column) or None. laterality: L, R or "". view: CC, MLO or "".
    frame_time_ms, key_frame (from 0): of a sweep, or None. in_hu: whether the values are Hounsfield units.
    """

    patient_id: str
    modality: str
    study: uid.UID
    series: uid.UID
    instance: uid.UID
    study_date: str = ""
    spacing_mm: tuple[float, float] | None = None
    laterality: str = ""
    view: str = ""
    frame_time_ms: float | None = None
    key_frame: int | None = None
    in_hu: bool = False


def plain_dataset(pixels: np.ndarray, header: Header) -> Dataset:
    """A DICOM object of gray values, (rows, columns) or (frames, rows, columns), that `imaging` reads as the same values.

    Whole numbers are stored in 8 or 16 bits, others as float32; the values are final: nothing is left to rescale, which CT in
    HU says by a slope of 1.
    """
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = STORAGE[header.modality]
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID = header.instance
    dataset.file_meta.TransferSyntaxUID = uid.ExplicitVRLittleEndian
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = header.study, header.series
    dataset.Modality = DICOM_CODES[header.modality]
    dataset.PatientID = header.patient_id
    dataset.StudyDate = header.study_date
    for keyword in EMPTY:
        setattr(dataset, keyword, "")
    if header.laterality:
        dataset.ImageLaterality = header.laterality
    if header.view:
        dataset.ViewPosition = header.view
    if header.spacing_mm is not None:
        dataset.PixelSpacing = [f"{step:.10g}" for step in header.spacing_mm]
    if pixels.ndim == 3:
        dataset.NumberOfFrames = len(pixels)
    if header.frame_time_ms is not None:
        dataset.FrameTime = f"{header.frame_time_ms:.10g}"
    if header.key_frame is not None:
        dataset.RepresentativeFrameNumber = header.key_frame + 1
    dataset.PatientIdentityRemoved = "YES"
    dataset.LongitudinalTemporalInformationModified = "MODIFIED"
    dataset.DeidentificationMethodCodeSequence = Sequence([_code(*profile) for profile in PROFILES.items()])
    stored = smallest_kind(pixels, (np.int16,)) if header.in_hu else smallest_kind(pixels)
    if header.in_hu:
        dataset.RescaleIntercept, dataset.RescaleSlope, dataset.RescaleType = 0, 1, "HU"
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.Rows, dataset.Columns = pixels.shape[-2:]
    dataset.BitsAllocated = 8 * stored.dtype.itemsize
    content = np.ascontiguousarray(stored, stored.dtype.newbyteorder("<")).tobytes()
    if stored.dtype.kind == "f":
        dataset.FloatPixelData = content
        return dataset
    dataset.BitsStored, dataset.HighBit = dataset.BitsAllocated, dataset.BitsAllocated - 1
    dataset.PixelRepresentation = int(stored.dtype.kind == "i")
    dataset.PixelData = content + b"\0" * (len(content) % 2)
    dataset["PixelData"].VR = "OB" if stored.dtype.itemsize == 1 else "OW"
    return dataset


def smallest_kind(values: np.ndarray, kinds: tuple[type, ...] = (np.uint8, np.uint16, np.int16)) -> np.ndarray:
    """The values in the first of these kinds that holds them all exactly, else as float32."""
    if np.array_equal(values, np.rint(values)):
        for kind in kinds:
            if np.iinfo(kind).min <= values.min() and values.max() <= np.iinfo(kind).max:
                return values.astype(kind)
    return values.astype(np.float32)


def write_dicom(pixels: np.ndarray, header: Header, stem: Path) -> Path:
    """Write `plain_dataset` as STEM.dcm, whole or not at all."""
    path = stem.with_name(f"{stem.name}.dcm")
    with atomic_path(path) as temporary:
        plain_dataset(pixels, header).save_as(temporary, enforce_file_format=True)
    return path


def write_picture(pixels: np.ndarray, stem: Path) -> Path:
    """Write gray values (rows, columns) as STEM.png, or as STEM.tif in float32 where PNG would change them; no metadata."""
    stored = smallest_kind(pixels, (np.uint8, np.uint16))
    path = stem.with_name(f"{stem.name}{'.tif' if stored.dtype.kind == 'f' else '.png'}")
    with atomic_path(path) as temporary:
        Image.fromarray(stored).save(temporary)
    return path


def write_nifti(values: np.ndarray, geometry: object, stem: Path) -> Path:
    """Write (z, y, x) values, of a mask bool, as STEM.nii in the smallest kind that changes none. geometry: has `affine`."""
    return write_volume(stem.with_name(f"{stem.name}.nii"), smallest_kind(values, (np.uint8, np.int16)), geometry)


def _code(value: str, meaning: str) -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, "DCM", meaning
    return item
