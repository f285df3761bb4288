"""Volumes: truth is what the test wrote, nibabel and SimpleITK reading the same file, and for public files their own tables."""

from __future__ import annotations

import gzip
from ast import literal_eval
from pathlib import Path

import nibabel
import numpy as np
import pandas as pd
import pydicom
import pytest
import SimpleITK
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import EnhancedMRImageStorage, ExplicitVRLittleEndian, MRImageStorage
from scipy.spatial.transform import Rotation

from alnlib.errors import InputError
from alnlib.imaging.volumes import VolumeGeometry, read_volume, read_volume_mask
from alnsim.nifti import write_volume
from tests.real_data import real_data

SHAPE = (4, 5, 6)
VALUES = np.arange(120, dtype=np.float32).reshape(SHAPE) - 60.25
AXIAL = VolumeGeometry((3.0, 0.7, 0.6), (-101.5, 20.25, 7.125))
OBLIQUE = VolumeGeometry(
    (3.0, 0.7, 0.6), (-101.5, 20.25, 7.125), Rotation.from_euler("zyx", [30, -20, 50], True).as_matrix()
)
LEFT_HANDED = VolumeGeometry((2.0, 1.1, 1.2), (1, 2, 3), np.diag([-1.0, 1.0, 1.0]))
SAGITTAL = VolumeGeometry((2.0, 1.1, 1.2), (1, 2, 3), [[0, 0, 1], [1, 0, 0], [0, -1, 0]])
GEOMETRIES = pytest.mark.parametrize(
    "geometry", [AXIAL, OBLIQUE, LEFT_HANDED, SAGITTAL], ids=["axial", "oblique", "left-handed", "sagittal"]
)


def corners(shape: tuple[int, ...]) -> np.ndarray:
    """(8, 3) indices (z, y, x)."""
    return np.array([[z, y, x] for z in (0, shape[0] - 1) for y in (0, shape[1] - 1) for x in (0, shape[2] - 1)])


def nibabel_positions_lps(path: Path, indices: np.ndarray, affine: np.ndarray) -> np.ndarray:
    return nibabel.affines.apply_affine(affine, indices[:, ::-1]) * (-1, -1, 1)


@GEOMETRIES
@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
def test_a_written_volume_lies_where_it_did_for_every_reader(geometry, name, tmp_path):
    path = write_volume(tmp_path / name, VALUES, geometry)
    at = corners(SHAPE)
    expected = geometry.position_mm(at)
    volume = read_volume(path)
    np.testing.assert_array_equal(volume.values, VALUES)
    assert volume.values.dtype == np.float32 and volume.values.flags.c_contiguous and volume.shape == SHAPE
    np.testing.assert_allclose(volume.geometry.position_mm(at), expected, atol=0.001)
    np.testing.assert_allclose(volume.geometry.direction, geometry.direction, atol=1e-5)
    seen = nibabel.load(path)
    np.testing.assert_array_equal(np.asarray(seen.dataobj).T, VALUES)
    for affine in (seen.get_sform(), seen.get_qform()):
        np.testing.assert_allclose(nibabel_positions_lps(path, at, affine), expected, atol=0.001)
    assert (seen.header["sform_code"], seen.header["qform_code"]) == (1, 1)
    assert seen.header.get_xyzt_units()[0] == "mm"
    image = SimpleITK.ReadImage(str(path))
    np.testing.assert_array_equal(SimpleITK.GetArrayFromImage(image), VALUES)
    places = [image.TransformIndexToPhysicalPoint([int(index) for index in zyx[::-1]]) for zyx in at]
    np.testing.assert_allclose(places, expected, atol=0.001)
    assert image.GetSpacing() == pytest.approx(geometry.spacing_mm[::-1], abs=1e-6)


def test_positions_by_hand():
    """Origin plus index times spacing along each axis; a sagittal stack goes to the left with the slice, back with the column."""
    assert AXIAL.position_mm((2, 1, 3)) == pytest.approx((-101.5 + 1.8, 20.25 + 0.7, 7.125 + 6.0))
    assert SAGITTAL.position_mm((2, 1, 3)) == pytest.approx((1 + 2 * 2.0, 2 + 3 * 1.2, 3 - 1 * 1.1))
    assert np.prod(AXIAL.spacing_mm) == pytest.approx(3.0 * 0.7 * 0.6)
    np.testing.assert_allclose(AXIAL.affine @ (3, 1, 2, 1), (*AXIAL.position_mm((2, 1, 3)), 1.0))


@GEOMETRIES
def test_a_file_of_simpleitk_reads_as_simpleitk_places_it(geometry, tmp_path):
    image = SimpleITK.GetImageFromArray(VALUES)
    image.SetSpacing(geometry.spacing_mm[::-1])
    image.SetOrigin(geometry.origin_mm)
    image.SetDirection(np.ravel(geometry.direction).tolist())
    for name in ("a.nii.gz", "a.nrrd"):
        SimpleITK.WriteImage(image, str(tmp_path / name))
        volume = read_volume(tmp_path / name)
        np.testing.assert_array_equal(volume.values, VALUES)
        np.testing.assert_allclose(
            volume.geometry.position_mm(corners(SHAPE)), geometry.position_mm(corners(SHAPE)), atol=0.001
        )


@pytest.mark.parametrize("kind", [np.uint8, np.int16, np.float32, bool])
def test_each_type_is_kept_and_a_bool_mask_becomes_bytes(kind, tmp_path):
    values = (np.arange(120).reshape(SHAPE) % 3).astype(kind)
    path = write_volume(tmp_path / "a.nii.gz", values, AXIAL)
    stored = nibabel.load(path)
    assert stored.get_data_dtype() == (np.uint8 if kind is bool else kind)
    np.testing.assert_array_equal(read_volume(path).values, values.astype(np.float32))
    np.testing.assert_array_equal(read_volume_mask(path, label=1), values == 1)


def test_the_same_values_give_the_same_bytes_under_any_name(tmp_path):
    first = write_volume(tmp_path / "a.nii.gz", VALUES, OBLIQUE).read_bytes()
    again = write_volume(tmp_path / "sub" / "other.nii.gz", np.asfortranarray(VALUES), OBLIQUE).read_bytes()
    assert first == again
    assert first[3] == 0 and first[4:8] == b"\0\0\0\0"  # RFC 1952: no file name, no time
    assert gzip.decompress(first) == write_volume(tmp_path / "a.nii", VALUES, OBLIQUE).read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.nii", "a.nii.gz", "sub"]


def test_scale_factors_units_and_trailing_axes(tmp_path):
    stored = np.arange(120, dtype=np.int16).reshape(SHAPE) - np.int16(60)
    image = nibabel.Nifti1Image(stored.T[..., None], np.diag([0.001, 0.002, 0.003, 1]))
    image.header.set_xyzt_units("meter")
    image.header.set_slope_inter(0.25, 3.0)
    nibabel.save(image, tmp_path / "a.nii")
    volume = read_volume(tmp_path / "a.nii")
    np.testing.assert_array_equal(volume.values, 0.25 * stored + 3.0)
    assert volume.geometry.spacing_mm == pytest.approx((3.0, 2.0, 1.0))


def test_nifti_2_and_big_endian_files(tmp_path):
    for image in (
        nibabel.Nifti2Image(VALUES.T, np.eye(4)),
        nibabel.Nifti1Image(VALUES.T, np.eye(4), nibabel.Nifti1Header(endianness=">")),
    ):
        nibabel.save(image, tmp_path / "a.nii")
        np.testing.assert_array_equal(read_volume(tmp_path / "a.nii").values, VALUES)


def test_a_mask_must_share_the_voxels_of_its_image(tmp_path):
    image = read_volume(write_volume(tmp_path / "image.nii.gz", VALUES, OBLIQUE))
    path = write_volume(tmp_path / "mask.nii.gz", VALUES > 0, OBLIQUE)
    np.testing.assert_array_equal(read_volume_mask(path, image), VALUES > 0)
    shifted = VolumeGeometry(OBLIQUE.spacing_mm, np.add(OBLIQUE.origin_mm, (0, 0.5, 0)), OBLIQUE.direction)
    resized = VolumeGeometry((1, 1, 1), OBLIQUE.origin_mm, OBLIQUE.direction)
    for wrong in (shifted, resized, AXIAL):
        write_volume(path, VALUES > 0, wrong)
        with pytest.raises(InputError, match=r"mask\.nii\.gz: the mask lies at .*, its image .*image\.nii\.gz at "):
            read_volume_mask(path, image)
    write_volume(path, VALUES[1:] > 0, OBLIQUE)
    with pytest.raises(InputError, match=r"3 x 5 x 6 voxels.*image\.nii\.gz 4 x 5 x 6"):
        read_volume_mask(path, image)


def test_rounding_of_a_header_is_no_mismatch_and_an_empty_mask_passes(tmp_path):
    image = read_volume(write_volume(tmp_path / "image.nii.gz", VALUES, OBLIQUE))
    rounded = VolumeGeometry(OBLIQUE.spacing_mm, np.round(OBLIQUE.origin_mm, 2), np.round(OBLIQUE.direction, 4))
    path = write_volume(tmp_path / "mask.nii.gz", np.zeros(SHAPE, np.uint8), rounded)
    assert not read_volume_mask(path, image).any()


def damaged(tmp_path: Path, how: str) -> Path:
    path = write_volume(tmp_path / "a.nii.gz", VALUES, AXIAL)
    content = path.read_bytes()
    if how == "truncated":
        path.write_bytes(content[:-40])
    elif how == "without its last bytes":
        path.write_bytes(content[:-6])
    elif how == "flipped bit":
        path.write_bytes(content[:-12] + bytes([content[-12] ^ 4]) + content[-11:])
    elif how == "short but whole gzip":
        path.write_bytes(gzip.compress(gzip.decompress(content)[:-100]))
    elif how == "text":
        path.write_bytes(gzip.compress(b"patient_id,center\n"))
    elif how == "not gzip":
        path.write_bytes(b"patient_id,center\n")
    elif how == "empty":
        path.write_bytes(b"")
    elif how == "missing":
        path.unlink()
    elif how == "4-D":
        nibabel.save(nibabel.Nifti1Image(np.zeros((3, 4, 5, 2), np.float32), np.eye(4)), path)
    elif how == "NaN":
        holed = VALUES.copy()
        holed[1, 2, 3] = np.nan
        nibabel.save(nibabel.Nifti1Image(holed.T, np.eye(4)), path)
    elif how == "sheared":
        affine = np.eye(4)
        affine[0, 2] = 0.3
        nibabel.save(nibabel.Nifti1Image(VALUES.T, affine), path)
    elif how == "complex":
        nibabel.save(nibabel.Nifti1Image(VALUES.T.astype(np.complex64), np.eye(4)), path)
    return path


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ("truncated", "truncated"),
        ("without its last bytes", "truncated"),
        ("flipped bit", "cannot be read"),
        ("short but whole gzip", "cannot be read"),
        ("text", "cannot be read"),
        ("not gzip", "cannot be read"),
        ("empty", "empty"),
        ("missing", "no such file"),
        ("4-D", "3 x 4 x 5 x 2 .*file of its own"),
        ("NaN", "1 of 120 voxels are not numbers"),
        ("sheared", "perpendicular.*resample"),
        ("complex", "real numbers"),
    ],
)
def test_a_bad_file_is_named_with_the_remedy(how, reason, tmp_path):
    path = damaged(tmp_path, how)
    with pytest.raises(InputError, match=reason) as caught:
        read_volume(path)
    assert str(path) in str(caught.value)


def test_a_truncated_nrrd_file_and_a_color_one_are_refused(tmp_path):
    path = tmp_path / "a.nrrd"
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(VALUES), str(path), True)
    path.write_bytes(path.read_bytes()[:-60])
    with pytest.raises(InputError, match=r"a\.nrrd: the volume cannot be read .*truncated"):
        read_volume(path)
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(VALUES, isVector=True), str(path))
    with pytest.raises(InputError, match="one gray volume"):
        read_volume(path)


def test_other_formats_say_what_is_read(tmp_path):
    (tmp_path / "a.png").write_bytes(b"\x89PNG")
    with pytest.raises(InputError, match=r"not a volume \(\.png\); give \.nii"):
        read_volume(tmp_path / "a.png")
    with pytest.raises(InputError, match="no such file"):
        read_volume(tmp_path / "nowhere")
    with pytest.raises(InputError, match="no DICOM files"):
        read_volume(tmp_path)


@pytest.mark.parametrize(
    ("values", "name"),
    [
        (VALUES.astype(np.float64), "a.nii"),
        (VALUES[0], "a.nii"),
        (VALUES * np.float32(np.nan), "a.nii"),
        (VALUES, "a.mha"),
        (VALUES[:0], "a.nii"),
    ],
)
def test_what_cannot_be_written_is_refused(values, name, tmp_path):
    with pytest.raises(ValueError, match="expected|finite|end in"):
        write_volume(tmp_path / name, values, AXIAL)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"spacing_mm": (1, 0, 1)},
        {"spacing_mm": (1, 1)},
        {"origin_mm": (np.nan, 0, 0)},
        {"direction": np.eye(3) * 2},
        {"direction": [[1, 0.1, 0], [0, 1, 0], [0, 0, 1]]},
    ],
)
def test_an_impossible_geometry_is_refused(wrong):
    with pytest.raises(ValueError, match="expected|perpendicular"):
        VolumeGeometry(**{"spacing_mm": (1, 1, 1), **wrong})


def write_series(folder: Path, places_mm: list[float], **attributes: object) -> Path:
    """Coronal slices from front to back, in files whose names say nothing of their order."""
    folder.mkdir(exist_ok=True)
    for number, place in enumerate(places_mm):
        dataset = Dataset()
        dataset.file_meta = FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = MRImageStorage
        dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID = f"2.25.{100 + number}"
        dataset.SeriesInstanceUID = "2.25.7"
        dataset.Modality = "MR"
        dataset.ImagePositionPatient = [-20.0, place, 30.0]
        dataset.ImageOrientationPatient = [1, 0, 0, 0, 0, -1]
        dataset.PixelSpacing = [0.8, 0.5]
        dataset.SliceThickness = 9
        dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
        dataset.Rows, dataset.Columns, dataset.PixelRepresentation = 3, 4, 0
        dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 16, 15
        dataset.RescaleSlope, dataset.RescaleIntercept = number + 1, -5
        for name, value in attributes.items():
            setattr(dataset, name, value)
        dataset.PixelData = np.full((3, 4), 10, np.uint16).tobytes()
        dataset["PixelData"].VR = "OW"
        dataset.save_as(folder / f"{number}", enforce_file_format=True)
    return folder


def change(path: Path, **attributes: object) -> None:
    dataset = pydicom.dcmread(path)
    for name, value in attributes.items():
        setattr(dataset, name, value)
    dataset.save_as(path, enforce_file_format=True)


def test_a_series_is_sorted_by_position_along_its_normal_and_rescaled_slice_by_slice(tmp_path):
    folder = write_series(tmp_path / "s", [4.0, 0.0, 2.0])
    (folder / "notes.txt").write_text("not a slice")
    volume = read_volume(folder)
    np.testing.assert_array_equal(volume.values[:, 0, 0], [15, 25, 5])  # the files at 0, 2 and 4 mm
    assert volume.geometry.spacing_mm == pytest.approx((2.0, 0.8, 0.5)), "the step, not the slice thickness"
    assert volume.geometry.position_mm((2, 1, 3)) == pytest.approx((-18.5, 4.0, 29.2))
    names = SimpleITK.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder))
    image = SimpleITK.ReadImage(names)
    assert image.GetOrigin() == pytest.approx(volume.geometry.origin_mm)
    assert image.GetDirection() == pytest.approx(np.ravel(volume.geometry.direction))


def test_a_single_slice_takes_its_thickness(tmp_path):
    folder = write_series(tmp_path / "s", [4.0])
    assert read_volume(folder).geometry.spacing_mm == pytest.approx((9.0, 0.8, 0.5))
    change(folder / "0", SliceThickness=None)
    with pytest.raises(InputError, match="without thickness"):
        read_volume(folder)


@pytest.mark.parametrize(
    ("attributes", "reason"),
    [
        ({"ImagePositionPatient": [-20.0, 7.0, 30.0]}, "slice is missing"),
        ({"ImagePositionPatient": [-20.0, 2.0, 30.0]}, "same place"),
        ({"ImagePositionPatient": [-10.0, 4.0, 30.0]}, "sideways"),
        ({"ImagePositionPatient": None}, "leave only the slices"),
        ({"SeriesInstanceUID": "2.25.8"}, "holds 2 series"),
        ({"ImageOrientationPatient": [1, 0, 0, 0, 1, 0]}, "another size, pixel spacing or orientation"),
        ({"PixelSpacing": [1, 1]}, "another size, pixel spacing or orientation"),
        ({"PixelData": b"\0\0"}, "truncated"),
    ],
)
def test_a_series_with_a_foreign_slice_is_refused(attributes, reason, tmp_path):
    folder = write_series(tmp_path / "s", [0.0, 2.0, 4.0])
    change(folder / "2", **attributes)
    with pytest.raises(InputError, match=reason) as caught:
        read_volume(folder)
    assert str(folder) in str(caught.value)


def test_one_file_of_a_series_points_to_its_folder(tmp_path):
    folder = write_series(tmp_path / "s", [0.0])
    with pytest.raises(InputError, match="name the folder"):
        read_volume(folder / "0")


def test_an_oblique_series_lies_where_simpleitk_places_it(tmp_path):
    """Turned about three axes, as breast MRI planned along the chest wall; file names say nothing of the order."""
    axes = np.array(OBLIQUE.direction)
    folder = write_series(tmp_path / "s", [0.0] * 4)
    for number, place in enumerate((2, 0, 3, 1)):
        change(
            folder / f"{number}",
            ImageOrientationPatient=[f"{cosine:.12f}" for cosine in (*axes[:, 0], *axes[:, 1])],
            ImagePositionPatient=[f"{at:.9f}" for at in (12.5, -30.0, 41.0) + place * 2.5 * axes[:, 2]],
        )
    volume = read_volume(folder)
    np.testing.assert_array_equal(volume.values[:, 0, 0], [15, 35, 5, 25])
    assert volume.geometry.spacing_mm == pytest.approx((2.5, 0.8, 0.5))
    np.testing.assert_allclose(volume.geometry.direction, axes, atol=1e-9)
    image = SimpleITK.ReadImage(SimpleITK.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder)))
    for zyx in corners(volume.shape):
        place = image.TransformIndexToPhysicalPoint([int(index) for index in zyx[::-1]])
        assert volume.geometry.position_mm(zyx) == pytest.approx(place, abs=1e-4)


def write_enhanced(path: Path, places_mm: list[float], **attributes: object) -> Path:
    """One enhanced multi-frame object: frame k holds k + 1, is rescaled by 2 x - 1 and lies at places_mm[k] along z."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = EnhancedMRImageStorage
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID = "2.25.300"
    dataset.SeriesInstanceUID, dataset.Modality = "2.25.9", "MR"
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation, dataset.PixelRepresentation = 1, "MONOCHROME2", 0
    dataset.NumberOfFrames, dataset.Rows, dataset.Columns = len(places_mm), 3, 4
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 16, 15
    frames = np.arange(1, len(places_mm) + 1, dtype=np.uint16)[:, None, None] * np.ones((1, 3, 4), np.uint16)
    dataset.PixelData = frames.tobytes()
    dataset["PixelData"].VR = "OW"
    shared, measures, plane, rescale = (Dataset() for _ in range(4))
    measures.PixelSpacing, measures.SliceThickness = [0.8, 0.5], 9
    plane.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    rescale.RescaleSlope, rescale.RescaleIntercept = 2, -1
    shared.PixelMeasuresSequence, shared.PlaneOrientationSequence = [measures], [plane]
    shared.PixelValueTransformationSequence = [rescale]
    dataset.SharedFunctionalGroupsSequence = [shared]
    groups = []
    for place in places_mm:
        group, position = Dataset(), Dataset()
        position.ImagePositionPatient = [-20.0, 30.0, place]
        group.PlanePositionSequence = [position]
        groups.append(group)
    dataset.PerFrameFunctionalGroupsSequence = groups
    for name, value in attributes.items():
        setattr(dataset, name, value)
    path.parent.mkdir(exist_ok=True)
    dataset.save_as(path, enforce_file_format=True)
    return path


def test_an_enhanced_multi_frame_object_is_a_volume(tmp_path):
    """DICOM PS3.3 C.7.6.16: place, spacing and rescale lie in the functional groups, per frame or shared."""
    path = write_enhanced(tmp_path / "s" / "a.dcm", [4.0, 0.0, 2.0])
    for given in (path, path.parent):
        volume = read_volume(given)
        np.testing.assert_array_equal(volume.values[:, 0, 0], [3, 5, 1])
        assert volume.geometry == VolumeGeometry((2.0, 0.8, 0.5), (-20.0, 30.0, 0.0))
    write_enhanced(path, [4.0, 0.0, 4.0])
    with pytest.raises(InputError, match=r"frame \d of a\.dcm and frame \d of a\.dcm lie at the same place"):
        read_volume(path)
    write_enhanced(path, [4.0, 0.0, 2.0], PerFrameFunctionalGroupsSequence=[])
    with pytest.raises(InputError, match="its place among the slices is unknown"):
        read_volume(path)


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
def test_the_content_and_not_the_suffix_says_whether_it_is_compressed(name, tmp_path):
    other = {"a.nii": "b.nii.gz", "a.nii.gz": "b.nii"}[name]
    write_volume(tmp_path / other, VALUES, OBLIQUE).rename(tmp_path / name)
    np.testing.assert_array_equal(read_volume(tmp_path / name).values, VALUES)


def test_real_duke_slices_are_sorted_by_position(tmp_path):
    """Saha 2018: three axial T1 slices 3 mm apart; file 1 is the highest. SimpleITK reads the same series the same way."""
    folder = real_data("duke", "dicom_sample")
    volume = read_volume(folder)
    assert volume.shape == (3, 512, 512) and volume.geometry.spacing_mm == pytest.approx((3.0, 0.5859, 0.5859))
    highest = pydicom.dcmread(folder / "1-01.dcm")
    np.testing.assert_array_equal(volume.values[2], highest.pixel_array)
    np.testing.assert_allclose(volume.geometry.position_mm((2, 0, 0)), highest.ImagePositionPatient, atol=1e-3)
    image = SimpleITK.ReadImage(SimpleITK.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder)))
    np.testing.assert_array_equal(SimpleITK.GetArrayFromImage(image), volume.values)
    assert image.GetOrigin() == pytest.approx(volume.geometry.origin_mm)
    assert image.GetDirection() == pytest.approx(np.ravel(volume.geometry.direction))
    back = read_volume(write_volume(tmp_path / "a.nii.gz", volume.values.astype(np.int16), volume.geometry))
    at = corners(volume.shape)
    np.testing.assert_allclose(back.geometry.position_mm(at), volume.geometry.position_mm(at), atol=0.01)


@pytest.mark.parametrize("case", ["brain1", "brain2", "breast1"])
def test_real_nrrd_of_pyradiomics_with_its_published_place(case):
    """pyradiomics, baseline_shape.csv: voxel count and center of mass in LPS mm of the mask, mean of the image."""
    baseline = pd.read_csv(real_data("pyradiomics", "baseline", "baseline_shape.csv"), index_col="featureName")
    baseline = baseline[f"{case}_resampling"]  # diagnostics of the original image are complete only there
    image = read_volume(real_data("pyradiomics", f"{case}_image.nrrd"))
    mask = read_volume_mask(real_data("pyradiomics", f"{case}_label.nrrd"), image)
    assert mask.sum() == int(baseline["diagnostics_Mask-original_VoxelNum"])
    assert image.values.mean(dtype=float) == pytest.approx(float(baseline["diagnostics_Image-original_Mean"]))
    center = image.geometry.position_mm(np.argwhere(mask)).mean(axis=0)
    assert center == pytest.approx(literal_eval(baseline["diagnostics_Mask-original_CenterOfMass"]), abs=1e-6)
    spacing = literal_eval(baseline["diagnostics_Image-original_Spacing"])
    assert image.geometry.spacing_mm == pytest.approx(spacing[::-1])
