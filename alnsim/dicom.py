"""Simulated pixels as DICOM objects of a hospital archive: ultrasound still and sweep, CT slice, mammogram; identity synthetic.

Details and sources: MODEL.md in this folder.
"""

from __future__ import annotations

import hashlib
import uuid
from dataclasses import dataclass

import numpy as np
from pydicom import uid as storage
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.tag import Tag
from pydicom.uid import UID, ExplicitVRLittleEndian

SYNTHETIC_DATE = "20000101"
SYNTHETIC_TIME = "000000"
PATIENT_PREFIX = "SIM-"
CENTIMETER = 3
TWO_DIMENSIONAL = 1
TISSUE = 1
FRAME_TIME = Tag(0x0018, 0x1063)
HOUNSFIELD_OFFSET = -1024
TWELVE_BITS = 12
AXIAL = (1, 0, 0, 0, 1, 0)

BREAST = ("76752008", "SCT", "Breast")
AXILLA = ("91470000", "SCT", "Axilla")
VIEWS = {"CC": ("399162004", "SCT", "cranio-caudal"), "MLO": ("399368009", "SCT", "medio-lateral oblique")}
"""PS3.16 CID 4014, View for Mammography."""

VIEW_ORIENTATION = {
    ("CC", "L"): ("A", "R"),
    ("CC", "R"): ("P", "L"),
    ("MLO", "L"): ("A", "FR"),
    ("MLO", "R"): ("P", "FL"),
}
"""Where rows (to the right) and columns (downward) lead: the chest wall is the left edge of a left breast, or else the right."""


@dataclass(frozen=True)
class Identity:
    """Who a file is of: name, UIDs and study follow from it. Raises ValueError for values that no file may carry.

    patient_id: as in patients.csv. age_years: 0-999. center: machine's home. seed: of the cohort. laterality: side of
    the finding, "L" or "R".
    """

    patient_id: str
    age_years: int
    center: str
    seed: int
    laterality: str

    def __post_init__(self) -> None:
        if not self.patient_id or len(self.patient_id) > 64 or set(self.patient_id) & set("\\^="):
            raise ValueError(
                f"patient_id is {self.patient_id!r}; expected 1 to 64 characters without backslash, ^ and ="
            )
        if not 0 <= self.age_years <= 999:
            raise ValueError(f"age_years is {self.age_years}; DICOM writes 0 to 999")
        if self.laterality not in ("L", "R"):
            raise ValueError(f"laterality is {self.laterality!r}; expected L or R")

    @property
    def patient_name(self) -> str:
        """A name that nobody bears."""
        return f"Simulated^{self.patient_id.removeprefix(PATIENT_PREFIX)}"

    def uid(self, *parts: object) -> UID:
        """The UID of one of this patient's entities."""
        return synthetic_uid(self.seed, self.patient_id, *parts)


def synthetic_uid(*parts: object) -> UID:
    """A UID under the UUID root 2.25 (DICOM PS3.5 B.2), the same for the same parts."""
    digest = hashlib.sha256("/".join(str(part) for part in parts).encode()).digest()
    return UID(f"2.25.{uuid.UUID(bytes=digest[:16], version=5).int}")


IMPLEMENTATION_CLASS_UID = synthetic_uid("ALN compendium", "simulated cohort", 1)
IMPLEMENTATION_VERSION_NAME = "ALN_SIMULATED_1"


def ultrasound_dataset(pixels: np.ndarray, spacing_mm: tuple[float, float], identity: Identity) -> Dataset:
    """A US Image Storage object (PS3.3 A.6) of one still.

    pixels: (rows, columns) uint8. spacing_mm: (row, column), written as Pixel Spacing, which is not of this object but
    which most readers look for, and as an ultrasound region in cm, which is. Raises ValueError for pixels of another type.
    """
    _check(pixels, np.uint8, "rows, columns")
    dataset = _ultrasound(
        pixels.shape, spacing_mm, identity, storage.UltrasoundImageStorage, "instance", "series", "stills", 1
    )
    _put_pixels(dataset, pixels, bits_stored=8)
    return dataset


def ultrasound_sweep_dataset(
    frames: np.ndarray,
    spacing_mm: tuple[float, float],
    frame_time_ms: float,
    key_frame: int,
    identity: Identity,
) -> Dataset:
    """A US Multi-frame Image Storage object (PS3.3 A.7) of one sweep.

    frames: (T, rows, columns) uint8. spacing_mm: (row, column). frame_time_ms: from frame to frame. key_frame: from 0;
    the file counts Representative Frame Number from 1. Raises ValueError for another type or an impossible frame.
    """
    _check(frames, np.uint8, "frames, rows, columns")
    if not 0 <= key_frame < len(frames):
        raise ValueError(f"key_frame is {key_frame} of {len(frames)} frames; count from 0")
    if not frame_time_ms > 0:
        raise ValueError(f"frame_time_ms is {frame_time_ms}; expected a positive duration")
    names = "sweep instance", "sweep series", "sweep"
    dataset = _ultrasound(frames.shape[1:], spacing_mm, identity, storage.UltrasoundMultiFrameImageStorage, *names, 2)
    dataset.NumberOfFrames = len(frames)
    dataset.FrameIncrementPointer = FRAME_TIME
    dataset.FrameTime = _decimal(frame_time_ms)
    dataset.CineRate = max(1, round(1000.0 / frame_time_ms))
    dataset.RepresentativeFrameNumber = key_frame + 1
    _put_pixels(dataset, frames, bits_stored=8)
    return dataset


def ct_dataset(
    hounsfield: np.ndarray,
    spacing_mm: tuple[float, float],
    slice_thickness_mm: float,
    position_mm: tuple[float, float, float],
    identity: Identity,
    instance_number: int,
    kvp: float,
    kernel: str,
) -> Dataset:
    """A CT Image Storage object (PS3.3 A.3) of one axial slice of the axilla after intravenous contrast.

    hounsfield: (rows, columns) HU, rounded and, as a 12-bit scanner does, clipped to [-1024, 3071]. spacing_mm: (row,
    column). position_mm: (x, y, z) LPS of the first pixel's center; rows run to the patient's left, columns to the
    back. instance_number: from 1, one per slice of the patient; all slices are one series in one frame of reference.
    kernel: convolution kernel's name. Raises ValueError for another shape or values that are not finite.
    """
    if hounsfield.ndim != 2 or not np.isfinite(hounsfield).all():
        raise ValueError(f"hounsfield has shape {hounsfield.shape}; expected two dimensions and finite values")
    if instance_number < 1:
        raise ValueError(f"instance_number is {instance_number}; count slices from 1")
    stored = np.clip(np.rint(hounsfield) - HOUNSFIELD_OFFSET, 0, 2**TWELVE_BITS - 1).astype(np.uint16)
    uids = storage.CTImageStorage, identity.uid("CT", "instance", instance_number), identity.uid("CT", "series")
    dataset = _dataset(identity, *uids, "CT", "Simulated contrast-enhanced chest CT", instance_number=instance_number)
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    dataset.SeriesDescription = "Axilla, portal venous"
    dataset.BodyPartExamined = "AXILLA"
    dataset.AnatomicRegionSequence = Sequence([_code(AXILLA)])
    dataset.PatientPosition = "HFS"
    dataset.ContrastBolusAgent = "Simulated iodinated contrast"
    dataset.ContrastBolusRoute = "IV"
    dataset.KVP = _decimal(kvp)
    dataset.ConvolutionKernel = kernel
    dataset.AcquisitionNumber = 1
    dataset.FrameOfReferenceUID = identity.uid("CT", "frame of reference")
    dataset.PositionReferenceIndicator = ""
    dataset.ImagePositionPatient = [_decimal(coordinate) for coordinate in position_mm]
    dataset.ImageOrientationPatient = list(AXIAL)
    dataset.PixelSpacing = [_decimal(step) for step in spacing_mm]
    dataset.SliceThickness = _decimal(slice_thickness_mm)
    dataset.SliceLocation = _decimal(position_mm[2])
    dataset.RescaleIntercept = HOUNSFIELD_OFFSET
    dataset.RescaleSlope = 1
    dataset.RescaleType = "HU"
    dataset.WindowCenter = 45
    dataset.WindowWidth = 400
    dataset.WindowCenterWidthExplanation = "soft tissue"
    _put_pixels(dataset, stored, bits_stored=TWELVE_BITS)
    return dataset


def mammography_dataset(
    pixels: np.ndarray,
    spacing_mm: tuple[float, float],
    identity: Identity,
    view: str,
    compressed_thickness_mm: float,
) -> Dataset:
    """A Digital Mammography X-Ray Image Storage - For Presentation object (PS3.3 A.27) of one view.

    pixels: (rows, columns) uint16 of 12 bits, bright is dense (MONOCHROME2, logarithmic); chest wall at the left edge
    of a left breast, at the right edge of a right one. spacing_mm: (row, column) at the detector. view: "CC" or "MLO".
    Raises ValueError for another type, view or range.
    """
    _check(pixels, np.uint16, "rows, columns")
    if view not in VIEWS:
        raise ValueError(f"view is {view!r}; expected one of {', '.join(VIEWS)}")
    if pixels.max() >= 2**TWELVE_BITS:
        raise ValueError(f"pixels reach {pixels.max()}; expected at most {2**TWELVE_BITS - 1} (12 bits)")
    number = 1 + list(VIEWS).index(view)
    instance, series = identity.uid("MG", "instance", identity.laterality, view), identity.uid("MG", "series")
    uids = storage.DigitalMammographyXRayImageStorageForPresentation, instance, series
    dataset = _dataset(identity, *uids, "MG", "Simulated mammography", instance_number=number)
    dataset.ImageType = ["ORIGINAL", "PRIMARY", ""]
    dataset.SeriesDescription = "Diagnostic mammography, one breast"
    dataset.PresentationIntentType = "FOR PRESENTATION"
    dataset.BodyPartExamined = "BREAST"
    dataset.AnatomicRegionSequence = Sequence([_code(BREAST)])
    seen_from = _code(VIEWS[view])
    seen_from.ViewModifierCodeSequence = Sequence([])
    dataset.ViewCodeSequence = Sequence([seen_from])
    dataset.ViewPosition = view
    dataset.PatientOrientation = list(VIEW_ORIENTATION[view, identity.laterality])
    dataset.PositionerType = "MAMMOGRAPHIC"
    dataset.OrganExposed = "BREAST"
    dataset.BreastImplantPresent = "NO"
    dataset.PartialView = "NO"
    dataset.BodyPartThickness = _decimal(compressed_thickness_mm)
    dataset.DetectorType = ""
    dataset.ImagerPixelSpacing = [_decimal(step) for step in spacing_mm]
    dataset.AcquisitionContextSequence = Sequence([])
    dataset.PixelIntensityRelationship = "LOG"
    dataset.PixelIntensityRelationshipSign = -1
    dataset.RescaleIntercept = 0
    dataset.RescaleSlope = 1
    dataset.RescaleType = "US"
    dataset.PresentationLUTShape = "IDENTITY"
    dataset.WindowCenter = 2 ** (TWELVE_BITS - 1)
    dataset.WindowWidth = 2**TWELVE_BITS
    _put_pixels(dataset, pixels, bits_stored=TWELVE_BITS)
    return dataset


def _ultrasound(
    shape: tuple[int, int],
    spacing_mm: tuple[float, float],
    identity: Identity,
    sop_class: UID,
    instance: str,
    series: str,
    description: str,
    series_number: int,
) -> Dataset:
    """All of an ultrasound object but its pixels and its timing."""
    uids = sop_class, identity.uid("US", instance), identity.uid("US", series)
    dataset = _dataset(identity, *uids, "US", "Simulated breast ultrasound", series_number=series_number)
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "BREAST", "0001"]
    dataset.SeriesDescription = f"B-mode {description}"
    dataset.BodyPartExamined = "BREAST"
    dataset.AnatomicRegionSequence = Sequence([_code(BREAST)])
    dataset.PixelSpacing = [_decimal(step) for step in spacing_mm]

    rows, columns = shape
    region = Dataset()
    region.RegionSpatialFormat, region.RegionDataType, region.RegionFlags = TWO_DIMENSIONAL, TISSUE, 0
    region.RegionLocationMinX0, region.RegionLocationMinY0 = 0, 0
    region.RegionLocationMaxX1, region.RegionLocationMaxY1 = columns - 1, rows - 1
    region.PhysicalUnitsXDirection = region.PhysicalUnitsYDirection = CENTIMETER
    region.PhysicalDeltaX, region.PhysicalDeltaY = spacing_mm[1] / 10.0, spacing_mm[0] / 10.0
    dataset.SequenceOfUltrasoundRegions = Sequence([region])
    return dataset


def _dataset(
    identity: Identity,
    sop_class: UID,
    instance: UID,
    series: UID,
    modality: str,
    study: str,
    series_number: int = 1,
    instance_number: int = 1,
) -> Dataset:
    """What every object shares: file meta information, patient, study, series, equipment and general image attributes."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.MediaStorageSOPClassUID = sop_class
    dataset.file_meta.MediaStorageSOPInstanceUID = instance
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.ImplementationClassUID = IMPLEMENTATION_CLASS_UID
    dataset.file_meta.ImplementationVersionName = IMPLEMENTATION_VERSION_NAME

    dataset.SpecificCharacterSet = "ISO_IR 192"
    dataset.SOPClassUID = sop_class
    dataset.SOPInstanceUID = instance

    dataset.PatientName = identity.patient_name
    dataset.PatientID = identity.patient_id
    dataset.PatientSex = "F"
    dataset.PatientAge = f"{identity.age_years:03d}Y"
    dataset.PatientComments = "Simulated; no real person."

    dataset.StudyInstanceUID = identity.uid(modality, "study")
    dataset.StudyID = "1"
    dataset.StudyDescription = study
    for keyword in ("PatientBirthDate", "AccessionNumber", "ReferringPhysicianName", "PatientOrientation"):
        setattr(dataset, keyword, "")
    for event in ("Study", "Content", "Acquisition"):
        setattr(dataset, f"{event}Date", SYNTHETIC_DATE)
        setattr(dataset, f"{event}Time", SYNTHETIC_TIME)

    dataset.Modality = modality
    dataset.SeriesInstanceUID = series
    dataset.SeriesNumber = series_number
    dataset.Manufacturer = "ALN compendium (simulation)"
    dataset.ManufacturerModelName = f"simulated scanner, {identity.center} center"
    dataset.DeviceSerialNumber = f"{modality}-{identity.center}"
    dataset.SoftwareVersions = IMPLEMENTATION_VERSION_NAME

    dataset.InstanceNumber = instance_number
    dataset.ImageLaterality = identity.laterality
    dataset.BurnedInAnnotation = "NO"
    dataset.LossyImageCompression = "00"
    return dataset


def _put_pixels(dataset: Dataset, stored: np.ndarray, bits_stored: int) -> None:
    """Gray pixels, (rows, columns) or (frames, rows, columns), unsigned, bright is high."""
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.Rows, dataset.Columns = stored.shape[-2:]
    dataset.BitsAllocated = 8 * stored.dtype.itemsize
    dataset.BitsStored = bits_stored
    dataset.HighBit = bits_stored - 1
    dataset.PixelRepresentation = 0
    little_endian = np.ascontiguousarray(stored, dtype=stored.dtype.newbyteorder("<"))
    dataset.PixelData = little_endian.tobytes() + b"\0" * (little_endian.nbytes % 2)
    dataset["PixelData"].VR = "OB" if stored.dtype.itemsize == 1 else "OW"


def _check(pixels: np.ndarray, kind: type, axes: str) -> None:
    if pixels.dtype != kind or pixels.ndim != len(axes.split(", ")) or pixels.size == 0:
        raise ValueError(f"pixels are {pixels.dtype} with shape {pixels.shape}; expected {np.dtype(kind)} ({axes})")


def _code(code: tuple[str, str, str]) -> Dataset:
    """One coded concept: value, scheme, meaning."""
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = code
    return item


def _decimal(value: float) -> str:
    """A decimal string within DICOM's 16 characters."""
    return f"{value:.10g}"
