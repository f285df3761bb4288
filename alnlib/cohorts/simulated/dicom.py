"""Simulated pixels as DICOM objects of a hospital archive, with synthetic identity, dates and UIDs.

Nothing is simulated here, and nothing of the host (name, user, clock) enters a file.
"""

from __future__ import annotations

import hashlib
import uuid

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import UID, ExplicitVRLittleEndian, UltrasoundImageStorage

SYNTHETIC_DATE = "20000101"
SYNTHETIC_TIME = "000000"
CENTIMETRE = 3
TWO_DIMENSIONAL = 1
TISSUE = 1


def synthetic_uid(*parts: object) -> UID:
    """A UID under the UUID root 2.25 (DICOM PS3.5 B.2), the same for the same parts."""
    digest = hashlib.sha256("/".join(str(part) for part in parts).encode()).digest()
    return UID(f"2.25.{uuid.UUID(bytes=digest[:16], version=5).int}")


IMPLEMENTATION_CLASS_UID = synthetic_uid("ALN compendium", "simulated cohort", 1)
IMPLEMENTATION_VERSION_NAME = "ALN_SIMULATED_1"


def ultrasound_dataset(
    pixels: np.ndarray,
    spacing_mm: tuple[float, float],
    *,
    patient_id: str,
    patient_name: str,
    age_years: int,
    laterality: str,
    centre: str,
    seed: int,
) -> Dataset:
    """A US Image Storage object (DICOM PS3.3 A.6) of one still, ready for `Dataset.save_as(path, enforce_file_format=True)`.

    pixels: (rows, columns) uint8. spacing_mm: (row, column), written both as Pixel Spacing and as an ultrasound region
    in cm. UIDs follow from seed and patient_id. Raises ValueError for pixels of another type.
    """
    if pixels.dtype != np.uint8 or pixels.ndim != 2:
        raise ValueError(f"pixels are {pixels.dtype} with shape {pixels.shape}; expected two-dimensional uint8")
    rows, columns = pixels.shape
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.MediaStorageSOPClassUID = UltrasoundImageStorage
    dataset.file_meta.MediaStorageSOPInstanceUID = synthetic_uid(seed, patient_id, "US", "instance")
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.ImplementationClassUID = IMPLEMENTATION_CLASS_UID
    dataset.file_meta.ImplementationVersionName = IMPLEMENTATION_VERSION_NAME

    dataset.SpecificCharacterSet = "ISO_IR 192"
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "BREAST", "0001"]
    dataset.SOPClassUID = UltrasoundImageStorage
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID
    dataset.StudyDate = SYNTHETIC_DATE
    dataset.ContentDate = SYNTHETIC_DATE
    dataset.StudyTime = SYNTHETIC_TIME
    dataset.ContentTime = SYNTHETIC_TIME
    dataset.AccessionNumber = ""
    dataset.Modality = "US"
    dataset.Manufacturer = "ALN compendium (simulation)"
    dataset.ManufacturerModelName = f"simulated scanner, {centre} centre"
    dataset.ReferringPhysicianName = ""
    dataset.StudyDescription = "Simulated breast ultrasound"

    dataset.PatientName = patient_name
    dataset.PatientID = patient_id
    dataset.PatientBirthDate = ""
    dataset.PatientSex = "F"
    dataset.PatientAge = f"{age_years:03d}Y"
    dataset.PatientComments = "Simulated; no real person."

    dataset.BodyPartExamined = "BREAST"
    dataset.StudyInstanceUID = synthetic_uid(seed, patient_id, "study")
    dataset.SeriesInstanceUID = synthetic_uid(seed, patient_id, "US", "series")
    dataset.StudyID = "1"
    dataset.SeriesNumber = 1
    dataset.InstanceNumber = 1
    dataset.PatientOrientation = ""
    dataset.ImageLaterality = laterality

    region = Dataset()
    region.RegionSpatialFormat = TWO_DIMENSIONAL
    region.RegionDataType = TISSUE
    region.RegionFlags = 0
    region.RegionLocationMinX0 = 0
    region.RegionLocationMinY0 = 0
    region.RegionLocationMaxX1 = columns - 1
    region.RegionLocationMaxY1 = rows - 1
    region.PhysicalUnitsXDirection = CENTIMETRE
    region.PhysicalUnitsYDirection = CENTIMETRE
    region.PhysicalDeltaX = spacing_mm[1] / 10.0
    region.PhysicalDeltaY = spacing_mm[0] / 10.0
    dataset.SequenceOfUltrasoundRegions = Sequence([region])

    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.Rows = rows
    dataset.Columns = columns
    dataset.PixelSpacing = [f"{step:.10g}" for step in spacing_mm]
    dataset.BitsAllocated = 8
    dataset.BitsStored = 8
    dataset.HighBit = 7
    dataset.PixelRepresentation = 0
    dataset.BurnedInAnnotation = "NO"
    dataset.LossyImageCompression = "00"
    dataset.PixelData = _even(np.ascontiguousarray(pixels).tobytes())
    dataset["PixelData"].VR = "OB"
    return dataset


def _even(stored: bytes) -> bytes:
    return stored if len(stored) % 2 == 0 else stored + b"\0"
