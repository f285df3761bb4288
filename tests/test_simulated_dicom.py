"""Simulated DICOM objects: truth is what the test put in, the attribute types of PS3.3, and dciodvfy of dicom3tools."""

from __future__ import annotations

import shutil
import subprocess

import numpy as np
import pydicom
import pytest
import SimpleITK

from alnlib.imaging.clips import read_clip
from alnlib.imaging.read import read_image
from alnlib.imaging.volumes import read_volume
from alnsim.dicom import (
    Identity,
    ct_dataset,
    mammography_dataset,
    synthetic_uid,
    ultrasound_dataset,
    ultrasound_sweep_dataset,
)

LEFT = Identity("SIM-0007", 54, "external", 3, "L")
RIGHT = Identity("SIM-0008", 101, "primary", 3, "R")
US_SPACING, CT_SPACING, MG_SPACING = (0.123456789, 0.2), (0.8, 0.81), (0.1, 0.11)
CT_POSITION = (-10.5, 22.123456789, -100.25)
RNG = np.random.default_rng(5)
STILL = RNG.integers(0, 256, (101, 91), dtype=np.uint8)  # odd by odd: an odd number of bytes
SWEEP = RNG.integers(0, 256, (5, 21, 31), dtype=np.uint8)
HOUNSFIELD = np.rint(RNG.uniform(-1024, 3071, (40, 50))).astype(np.float32)
VIEW = RNG.integers(0, 4096, (60, 50), dtype=np.uint16)

OBJECTS = {
    "still": lambda: ultrasound_dataset(STILL, US_SPACING, LEFT),
    "sweep": lambda: ultrasound_sweep_dataset(SWEEP, US_SPACING, 1000 / 30, 2, LEFT),
    "ct": lambda: ct_dataset(HOUNSFIELD, CT_SPACING, 2.5, CT_POSITION, LEFT, 2, 120.0, "B30f"),
    "cc": lambda: mammography_dataset(VIEW, MG_SPACING, LEFT, "CC", 55.3),
    "mlo": lambda: mammography_dataset(VIEW, MG_SPACING, RIGHT, "MLO", 48.0),
}

EVERY_TYPE_1 = """SOPClassUID SOPInstanceUID StudyInstanceUID SeriesInstanceUID Modality SamplesPerPixel Rows Columns
    PhotometricInterpretation BitsAllocated BitsStored HighBit PixelRepresentation PixelData ImageType"""
EVERY_TYPE_2 = """PatientName PatientID PatientBirthDate PatientSex StudyDate StudyTime StudyID AccessionNumber
    ReferringPhysicianName SeriesNumber Manufacturer InstanceNumber PatientOrientation"""
PER_OBJECT = {
    "still": ("SequenceOfUltrasoundRegions LossyImageCompression", ""),
    "sweep": (
        "SequenceOfUltrasoundRegions NumberOfFrames FrameIncrementPointer FrameTime RepresentativeFrameNumber",
        "",
    ),
    "ct": (
        """PixelSpacing ImageOrientationPatient ImagePositionPatient FrameOfReferenceUID RescaleIntercept RescaleSlope
        RescaleType PatientPosition""",
        "SliceThickness KVP AcquisitionNumber PositionReferenceIndicator ContrastBolusAgent",
    ),
    "mg": (
        """PresentationIntentType PixelIntensityRelationship PixelIntensityRelationshipSign RescaleIntercept
        RescaleSlope RescaleType PresentationLUTShape LossyImageCompression BurnedInAnnotation ImagerPixelSpacing
        ImageLaterality OrganExposed PositionerType ViewCodeSequence AnatomicRegionSequence WindowCenter WindowWidth""",
        "DetectorType AcquisitionContextSequence",
    ),
}
"""Attributes of type 1 (or 1C, its condition met) and 2 beyond the common ones: PS3.3 C.8.5.6, C.7.6.5, C.8.2.1, C.8.11.1-7."""

ALLOWED_WARNINGS = (
    "(0x0028,0x0030) DS Pixel Spacing",
    "this is a Standard Extended SOP Class",
    "attribute <View Position>",
)
"""Both attributes are kept, because most readers look there: in-plane spacing of ultrasound, and CC or MLO by name."""


@pytest.fixture(params=OBJECTS)
def written(request, tmp_path):
    """Each kind of object: its name, path, and the dataset as written."""
    dataset = OBJECTS[request.param]()
    path = tmp_path / f"{request.param}.dcm"
    dataset.save_as(path, enforce_file_format=True)
    return request.param, path, dataset


def test_dciodvfy_finds_no_error(written):
    """David Clunie's validator of information object definitions, dicom3tools."""
    if shutil.which("dciodvfy") is None:
        pytest.skip("dciodvfy is not on PATH (Debian package dicom3tools)")
    _, path, _ = written
    done = subprocess.run(["dciodvfy", str(path)], capture_output=True, text=True, check=False)
    said = (done.stdout + done.stderr).splitlines()
    assert done.returncode == 0 and said, said
    assert [line for line in said if line.startswith("Error")] == []
    warnings = [line for line in said if line.startswith("Warning")]
    assert [line for line in warnings if not any(allowed in line for allowed in ALLOWED_WARNINGS)] == []


def test_dciodvfy_would_find_an_error(tmp_path):
    if shutil.which("dciodvfy") is None:
        pytest.skip("dciodvfy is not on PATH (Debian package dicom3tools)")
    dataset = OBJECTS["ct"]()
    del dataset.ImagePositionPatient
    dataset.save_as(tmp_path / "ct.dcm", enforce_file_format=True)
    done = subprocess.run(["dciodvfy", str(tmp_path / "ct.dcm")], capture_output=True, text=True, check=False)
    assert "Error" in done.stdout + done.stderr


def test_dcentvfy_finds_one_patient_and_consistent_studies(tmp_path):
    """dicom3tools' check across files: what belongs to a patient, study, series or frame of reference agrees in all of them."""
    if shutil.which("dcentvfy") is None:
        pytest.skip("dcentvfy is not on PATH (Debian package dicom3tools)")
    objects = [OBJECTS[name]() for name in ("still", "sweep", "ct", "cc")]
    objects.append(ct_dataset(HOUNSFIELD, CT_SPACING, 2.5, (0.0, 0.0, 5.0), LEFT, 1, 120.0, "B30f"))
    objects.append(mammography_dataset(VIEW, MG_SPACING, LEFT, "MLO", 48.0))

    def said() -> str:
        files = [str(tmp_path / f"{number}.dcm") for number in range(len(objects))]
        for file, dataset in zip(files, objects, strict=True):
            dataset.save_as(file, enforce_file_format=True)
        done = subprocess.run(["dcentvfy", *files], capture_output=True, text=True, check=False)
        return done.stdout + done.stderr

    assert said() == ""
    objects[1].StudyDescription = "another"
    assert "StudyDescription" in said(), "the check would notice"


def test_attributes_of_type_1_have_a_value_and_those_of_type_2_are_there(written, monkeypatch):
    monkeypatch.setattr(pydicom.config.settings, "reading_validation_mode", pydicom.config.RAISE)
    name, path, _ = written
    filled, present = PER_OBJECT.get(name, PER_OBJECT["mg"])
    dataset = pydicom.dcmread(path)
    for attribute in (EVERY_TYPE_1 + " " + filled).split():
        assert dataset[attribute].value not in (None, "", []), attribute
    assert [attribute for attribute in (EVERY_TYPE_2 + " " + present).split() if attribute not in dataset] == []
    assert len(list(dataset.iterall())) > 50  # every element is decoded, so every value is checked
    assert dataset.file_meta.MediaStorageSOPClassUID == dataset.SOPClassUID
    assert dataset.file_meta.MediaStorageSOPInstanceUID == dataset.SOPInstanceUID


def test_values_of_10_significant_digits_keep_within_decimal_strings(monkeypatch):
    monkeypatch.setattr(pydicom.config.settings, "writing_validation_mode", pydicom.config.RAISE)
    tiny = ct_dataset(HOUNSFIELD, (1 / 3e5, 2 / 3), 1 / 7, (-1 / 3e6, -1e5 / 3, -1 / 3), LEFT, 1, 120.0, "B30f")
    assert float(tiny.ImagePositionPatient[0]) == pytest.approx(-1 / 3e6, rel=1e-9)


def test_the_same_arguments_give_the_same_bytes(written, tmp_path):
    name, path, _ = written
    OBJECTS[name]().save_as(tmp_path / "again.dcm", enforce_file_format=True)
    assert (tmp_path / "again.dcm").read_bytes() == path.read_bytes()


def test_nothing_looks_like_a_real_identity(written):
    _, path, _ = written
    dataset = pydicom.dcmread(path)
    assert str(dataset.PatientName) == f"Simulated^{dataset.PatientID[4:]}"
    assert dataset.PatientBirthDate == "" and dataset.ReferringPhysicianName == "" and "InstitutionName" not in dataset
    dates = {str(element.value) for element in dataset.iterall() if element.VR in ("DA", "TM") and element.value}
    assert dates == {"20000101", "000000"}
    uids = [element.value for element in dataset.iterall() if element.VR == "UI" and element.keyword[:3] != "SOP"]
    assert len(uids) >= 2 and all(uid.is_valid and uid.startswith("2.25.") for uid in uids)


def test_uids_tell_instances_series_studies_and_patients_apart():
    assert synthetic_uid(1, "a") == synthetic_uid(1, "a") != synthetic_uid(2, "a")
    slices = [ct_dataset(HOUNSFIELD, CT_SPACING, 2.5, CT_POSITION, LEFT, k, 120.0, "B30f") for k in (1, 2)]
    objects = [*slices, *(OBJECTS[name]() for name in ("still", "sweep", "cc", "mlo"))]
    objects.append(mammography_dataset(VIEW, MG_SPACING, LEFT, "MLO", 55.3))
    assert len({one.SOPInstanceUID for one in objects}) == len(objects)
    assert slices[0].SeriesInstanceUID == slices[1].SeriesInstanceUID
    assert slices[0].FrameOfReferenceUID == slices[1].FrameOfReferenceUID
    still, sweep, cc_left, mlo_right, mlo_left = objects[2:]
    assert still.StudyInstanceUID == sweep.StudyInstanceUID and still.SeriesInstanceUID != sweep.SeriesInstanceUID
    assert len({one.StudyInstanceUID for one in (slices[0], still, cc_left)}) == 3
    assert cc_left.SeriesInstanceUID == mlo_left.SeriesInstanceUID != mlo_right.SeriesInstanceUID


def test_simpleitk_sees_the_same_pixels_and_spacing(written):
    name, path, dataset = written
    volume = SimpleITK.ReadImage(str(path))
    row_mm, column_mm = {"still": US_SPACING, "sweep": US_SPACING, "ct": CT_SPACING}.get(name, MG_SPACING)
    assert volume.GetSpacing()[:2] == pytest.approx((column_mm, row_mm), abs=1e-8)
    values = SimpleITK.GetArrayFromImage(volume).squeeze()
    np.testing.assert_array_equal(values, HOUNSFIELD if name == "ct" else dataset.pixel_array)


def test_a_still_comes_back_from_the_projects_reader(tmp_path):
    OBJECTS["still"]().save_as(tmp_path / "a.dcm", enforce_file_format=True)
    image = read_image(tmp_path / "a.dcm")
    np.testing.assert_array_equal(image.pixels, STILL)
    assert image.spacing_mm == pytest.approx(US_SPACING) and image.modality == "US"
    dataset = OBJECTS["still"]()
    del dataset.PixelSpacing
    dataset.save_as(tmp_path / "region.dcm", enforce_file_format=True)
    assert read_image(tmp_path / "region.dcm").spacing_mm == pytest.approx(US_SPACING)


def test_a_sweep_comes_back_with_its_timing_and_key_frame(tmp_path):
    OBJECTS["sweep"]().save_as(tmp_path / "a.dcm", enforce_file_format=True)
    dataset = pydicom.dcmread(tmp_path / "a.dcm")
    assert dataset.NumberOfFrames == 5 and dataset.RepresentativeFrameNumber == 3  # counted from 1
    assert dataset[dataset.FrameIncrementPointer].keyword == "FrameTime" and dataset.CineRate == 30
    clip = read_clip(tmp_path / "a.dcm")
    np.testing.assert_array_equal(clip.frames, SWEEP)
    assert clip.frames.dtype == np.uint8 and clip.key_frame == 2
    assert clip.frame_time_ms == pytest.approx(1000 / 30, abs=1e-7) and clip.spacing_mm == pytest.approx(US_SPACING)


def test_hounsfield_units_come_back_and_are_clipped_as_12_bits_are(tmp_path):
    OBJECTS["ct"]().save_as(tmp_path / "a.dcm", enforce_file_format=True)
    image = read_image(tmp_path / "a.dcm")
    np.testing.assert_array_equal(image.pixels, HOUNSFIELD)
    assert image.spacing_mm == pytest.approx(CT_SPACING) and image.modality == "CT"
    beyond = np.array([[-3000.0, 0.4], [70.6, 9000.0]], dtype=np.float32)
    dataset = ct_dataset(beyond, CT_SPACING, 2.5, CT_POSITION, LEFT, 1, 120.0, "B30f")
    np.testing.assert_array_equal(dataset.pixel_array - 1024.0, [[-1024, 0], [71, 3071]])


def test_slices_of_one_patient_form_a_volume(tmp_path):
    for number, z in ((1, 12.5), (2, 10.0), (3, 7.5)):
        place = (*CT_POSITION[:2], z)
        dataset = ct_dataset(HOUNSFIELD + number, CT_SPACING, 2.5, place, LEFT, number, 120.0, "B30f")
        dataset.save_as(tmp_path / f"{number}.dcm", enforce_file_format=True)
    volume = read_volume(tmp_path)
    np.testing.assert_array_equal(volume.values[0], np.clip(HOUNSFIELD + 3, -1024, 3071))
    assert volume.geometry.spacing_mm == pytest.approx((2.5, *CT_SPACING))
    assert volume.geometry.origin_mm == pytest.approx((*CT_POSITION[:2], 7.5))


@pytest.mark.parametrize(
    ("view", "identity", "orientation"),
    [
        ("CC", LEFT, ["A", "R"]),
        ("CC", RIGHT, ["P", "L"]),
        ("MLO", LEFT, ["A", "FR"]),
        ("MLO", RIGHT, ["P", "FL"]),
    ],
)
def test_a_mammogram_says_how_it_hangs(view, identity, orientation, tmp_path):
    """PS3.3 C.7.6.1.1.1: rows run from a left breast's chest wall to the nipple, columns of a CC view from lateral to medial."""
    mammography_dataset(VIEW, MG_SPACING, identity, view, 50.0).save_as(tmp_path / "a.dcm", enforce_file_format=True)
    dataset = pydicom.dcmread(tmp_path / "a.dcm")
    assert list(dataset.PatientOrientation) == orientation
    assert dataset.ImageLaterality == identity.laterality and dataset.ViewPosition == view
    meaning = {"CC": "cranio-caudal", "MLO": "medio-lateral oblique"}[view]
    assert dataset.ViewCodeSequence[0].CodeMeaning == meaning
    assert dataset.PixelIntensityRelationshipSign == -1  # a higher value is less X-ray
    image = read_image(tmp_path / "a.dcm")
    np.testing.assert_array_equal(image.pixels, VIEW)
    assert image.spacing_mm == pytest.approx(MG_SPACING) and image.modality == "MG"


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: ultrasound_dataset(STILL.astype(np.float32), US_SPACING, LEFT), "expected uint8"),
        (lambda: ultrasound_dataset(SWEEP, US_SPACING, LEFT), "rows, columns"),
        (lambda: ultrasound_sweep_dataset(STILL, US_SPACING, 33.0, 0, LEFT), "frames, rows, columns"),
        (lambda: ultrasound_sweep_dataset(SWEEP, US_SPACING, 33.0, 5, LEFT), "count from 0"),
        (lambda: ultrasound_sweep_dataset(SWEEP, US_SPACING, 0.0, 0, LEFT), "positive duration"),
        (lambda: ct_dataset(HOUNSFIELD * np.nan, CT_SPACING, 2.5, CT_POSITION, LEFT, 1, 120.0, "B"), "finite"),
        (lambda: ct_dataset(HOUNSFIELD, CT_SPACING, 2.5, CT_POSITION, LEFT, 0, 120.0, "B"), "from 1"),
        (lambda: mammography_dataset(VIEW, MG_SPACING, LEFT, "ML", 50.0), "CC, MLO"),
        (lambda: mammography_dataset(VIEW + np.uint16(4095), MG_SPACING, LEFT, "CC", 50.0), "12 bits"),
        (lambda: Identity("SIM-1", 54, "primary", 1, "left"), "L or R"),
        (lambda: Identity("SIM\\1", 54, "primary", 1, "L"), "backslash"),
        (lambda: Identity("SIM-1", 1000, "primary", 1, "L"), "0 to 999"),
    ],
)
def test_what_an_object_cannot_hold_is_refused(make, reason):
    with pytest.raises(ValueError, match=reason):
        make()
