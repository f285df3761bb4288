"""Faults of real files, by kind: the right value, or an error that names file and remedy, and a remedy that works when followed.

Truth: the values that were written. docs/real_files.md says of each kind what becomes of it.
"""

from __future__ import annotations

import io
import os
import re
import shutil
import struct
from pathlib import Path

import av
import nibabel
import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from pydicom import dcmread
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import ExplicitVRLittleEndian, JPEGBaseline8Bit, generate_uid
from scipy import ndimage

from alnlib.cohorts.schema import IMAGE_COLUMNS
from alnlib.errors import InputError
from alnlib.imaging.clips import read_clip
from alnlib.imaging.lesions import crop
from alnlib.imaging.read import read_image, read_mask
from alnlib.imaging.rows import read_scan, read_still, read_sweep, scan_mask
from alnlib.imaging.spec import CropSpec
from alnlib.imaging.volumes import read_volume, read_volume_mask
from alnlib.radiomics.extract import extract_cohort, settings_for

LESION = np.zeros((60, 80), np.uint8)
LESION[20:30, 30:50] = 1
BOX = (20, 30, 30, 50)

SHAPE = (16, 48, 48)
BODY = np.zeros(SHAPE, np.uint8)
BODY[4:12, 16:32, 14:34] = 1
SPACING = (3.0, 1.5, 1.5)

EXAMPLES = 2000 if os.environ.get("ALN_LONG") else 100


def dicom(path: Path, stored: np.ndarray, modality: str, **elements: object) -> Path:
    """stored: (rows, columns), (frames, rows, columns) with NumberOfFrames among the elements, or (rows, columns, 3)."""
    made = Dataset()
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made.SOPClassUID = made.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.7"
    made.SOPInstanceUID = made.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    color = stored.ndim == 3 and "NumberOfFrames" not in elements
    made.Modality, made.SeriesInstanceUID = modality, "1.2.3"
    made.SamplesPerPixel, made.PhotometricInterpretation = (3, "RGB") if color else (1, "MONOCHROME2")
    if color:
        made.PlanarConfiguration = 0
    made.Rows, made.Columns = stored.shape[:2] if color else stored.shape[-2:]
    made.BitsAllocated = made.BitsStored = 8 * stored.dtype.itemsize
    made.HighBit, made.PixelRepresentation = made.BitsStored - 1, int(stored.dtype.kind == "i")
    made.PixelData = stored.tobytes() + b"\0" * (stored.nbytes % 2)
    for name, value in elements.items():
        setattr(made, name, value)
    made.save_as(path, enforce_file_format=True)
    return path


def series(folder: Path, volume: np.ndarray, modality: str = "MR", step: float = 2.0, **elements: object) -> Path:
    folder.mkdir()
    for k, plane in enumerate(volume):
        place = {"ImagePositionPatient": [0, 0, step * k], "ImageOrientationPatient": [1, 0, 0, 0, 1, 0]}
        dicom(
            folder / f"{k:03d}.dcm",
            plane,
            modality,
            **place | {"PixelSpacing": [1, 1], "SliceThickness": step} | elements,
        )
    return folder


def nifti(path: Path, values: np.ndarray, spacing: tuple[float, ...] = SPACING, shift_mm: float = 0.0) -> Path:
    affine = np.diag([-spacing[2], -spacing[1], spacing[0], 1.0])
    affine[2, 3] = shift_mm
    nibabel.save(nibabel.Nifti1Image(np.asarray(values).transpose(*range(values.ndim)[::-1]), affine), path)
    return path


def table(**cells: object) -> pd.DataFrame:
    return pd.DataFrame([dict.fromkeys(IMAGE_COLUMNS, np.nan) | {"image_id": "i1", "patient_id": "p1"} | cells])


def speckle(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(5, 200, shape).astype(np.uint8)


# ----------------------------------------------------------------------------------------------------------------- masks


@pytest.mark.parametrize("how", ["linear", "spline", "background below zero", "JPEG"])
def test_a_mask_with_an_edge_is_cut_half_way(how, tmp_path):
    if how == "JPEG":
        Image.fromarray(255 * LESION).save(tmp_path / "m.jpg", quality=60)
        assert abs(int(read_mask(tmp_path / "m.jpg").sum()) - 200) <= 4
        return
    linear = ndimage.zoom(
        ndimage.zoom(BODY.astype(float), 0.5, order=1), 2, order=1, grid_mode=True, mode="grid-constant"
    )
    spline = ndimage.shift(BODY.astype(float), (0.2, 0.3, 0.4), order=3)
    values = {"linear": linear, "spline": spline, "background below zero": 2.0 * BODY - 1}[how]
    mask = read_volume_mask(nifti(tmp_path / "m.nii.gz", values.astype(np.float32)))
    expected = values > (0.5 if how != "background below zero" else 0)
    assert abs(int(mask.sum()) - int(expected.sum())) <= 0.01 * expected.sum()


def test_of_several_labels_that_of_the_lesion_is_asked_for_and_taken(tmp_path):
    nifti(tmp_path / "m.nii.gz", (BODY + 1).astype(np.float32) * (ndimage.binary_dilation(BODY, iterations=2) > 0))
    cells = {"modality": "MRI", "sequence_or_view": "T2", "path": "m.nii.gz", "mask_path": "m.nii.gz"}
    row = table(**cells).iloc[0]
    with pytest.raises(InputError, match=r"several labels, 0 .*, 1 .*, 2 .*column mask_label of images.csv"):
        scan_mask(row, tmp_path, read_scan(row, tmp_path))
    row = table(**cells, mask_label="2").iloc[0]
    np.testing.assert_array_equal(scan_mask(row, tmp_path, read_scan(row, tmp_path)), BODY == 1)
    with pytest.raises(InputError, match="nothing in the mask has the value 3"):
        read_volume_mask(tmp_path / "m.nii.gz", label=3)


def test_background_and_lesion_are_never_exchanged_without_a_word(tmp_path):
    Image.fromarray(255 - 255 * LESION).save(tmp_path / "inverted.png")
    with pytest.raises(InputError, match="covers 96 % of the image.*mask_label"):
        read_mask(tmp_path / "inverted.png")
    np.testing.assert_array_equal(read_mask(tmp_path / "inverted.png", label=0), LESION == 1)
    palette = Image.fromarray(LESION, "P")
    palette.putpalette([255, 255, 255, 255, 0, 0] + [0] * 750)
    palette.save(tmp_path / "palette.png")
    Image.fromarray(np.where(LESION, 255, 1).astype(np.uint8)).save(tmp_path / "one.png")
    for name in ("palette.png", "one.png"):
        np.testing.assert_array_equal(read_mask(tmp_path / name), LESION == 1)


@pytest.mark.parametrize("levels", [(128, 255), (60, 255), (1000, 2000)])
def test_labels_are_labels_whatever_their_numbers(levels, tmp_path):
    """Two small lesions apart, and a small one on the edge of a large one."""
    rows, columns = np.mgrid[:80, :80]
    for second, radius in (((60, 60), 4), ((40, 53), 12)):
        drawn = np.zeros((80, 80), np.uint16 if levels[1] > 255 else np.uint8)
        drawn[np.hypot(rows - second[0], columns - 40) < radius] = levels[1]
        drawn[np.hypot(rows - second[0], columns - second[1]) < 4] = levels[0]
        Image.fromarray(drawn).save(tmp_path / "m.png")
        with pytest.raises(InputError, match="several labels"):
            read_mask(tmp_path / "m.png")
        np.testing.assert_array_equal(read_mask(tmp_path / "m.png", label=levels[0]), drawn == levels[0])


def test_a_label_of_a_mask_with_an_edge_is_cut_half_way_too(tmp_path):
    linear = ndimage.shift(BODY.astype(float), (0, 0.5, 0.5), order=1)
    path = nifti(tmp_path / "m.nii.gz", linear.astype(np.float32))
    np.testing.assert_array_equal(read_volume_mask(path, label=1), linear >= 0.5)
    np.testing.assert_array_equal(read_volume_mask(path, label=0), linear < 0.5)
    with pytest.raises(InputError, match="nothing in the mask has the value 3"):
        read_volume_mask(path, label=3)
    with pytest.raises(InputError, match="nothing in the mask has the value 1"):
        read_volume_mask(nifti(tmp_path / "e.nii.gz", 2 * BODY), label=1)
    gone = nifti(tmp_path / "gone.nii.gz", 0 * BODY)
    assert not read_volume_mask(gone, label=1).any(), "a lesion that has gone after therapy"
    with pytest.raises(InputError, match="the whole mask has the value 0"):
        read_volume_mask(gone, label=0)


def test_colors_with_a_soft_edge_are_cut_by_their_brightness(tmp_path):
    """Indices of such a palette have no order."""
    inside = ndimage.gaussian_filter((np.hypot(*np.mgrid[-60:60, -80:80]) < 30).astype(float), 1.5)
    red = np.zeros((120, 160, 3), np.uint8)
    red[..., 0] = np.rint(255 * inside)
    Image.fromarray(red).quantize(64, method=1).save(tmp_path / "m.png")
    expected = int((inside >= 0.5).sum())
    assert abs(int(read_mask(tmp_path / "m.png").sum()) - expected) < 0.02 * expected
    Image.fromarray(red).save(tmp_path / "m.jpg", quality=75)
    assert abs(int(read_mask(tmp_path / "m.jpg").sum()) - expected) < 0.02 * expected


@pytest.mark.parametrize("quality", [40, 60, 75, 95])
@pytest.mark.parametrize("radius", [8, 40, 90])
def test_a_mask_saved_as_jpeg_is_read_at_any_size_and_quality(radius, quality, tmp_path):
    disk = np.hypot(*np.mgrid[-240:240, -320:320]) < radius
    Image.fromarray(255 * disk.astype(np.uint8)).save(tmp_path / "m.jpg", quality=quality)
    assert abs(int(read_mask(tmp_path / "m.jpg").sum()) - int(disk.sum())) <= max(3, 0.01 * disk.sum())


def test_a_picture_is_no_mask(tmp_path):
    overlay = np.stack([speckle(LESION.shape)] * 3, axis=-1)
    Image.fromarray(overlay).save(tmp_path / "image.png")
    overlay[LESION > 0] = [255, 0, 0]
    Image.fromarray(overlay).save(tmp_path / "overlay.png")
    Image.fromarray(np.full((6, 6), 9, np.uint8)).save(tmp_path / "full.png")
    for name in ("image.png", "overlay.png"):
        with pytest.raises(InputError, match=f"{name}: is no mask: it has gray values from"):
            read_mask(tmp_path / name)
    with pytest.raises(InputError, match="the whole mask has the value 9"):
        read_mask(tmp_path / "full.png")
    ring = np.abs(np.hypot(*np.mgrid[-40:40, -40:40]) - 20) < 0.6
    Image.fromarray(255 * ring.astype(np.uint8)).save(tmp_path / "ring.png")
    with pytest.raises(InputError, match="a line round a place, and not the place; fill it"):
        read_mask(tmp_path / "ring.png")
    values = np.full((8, 8), np.nan, np.float32)
    values[2:4, 2:4] = 1
    Image.fromarray(values).save(tmp_path / "nan.tif")
    with pytest.raises(InputError, match="not numbers"):
        read_mask(tmp_path / "nan.tif")


def test_a_stray_pixel_does_not_stretch_the_box_and_a_satellite_does(tmp_path):
    Image.fromarray(speckle(LESION.shape)).save(tmp_path / "i.png")
    for stray, box in [((0, 0), BOX), ((33, 52), (20, 30, 34, 53))]:
        drawn = 255 * LESION
        drawn[stray] = 255
        Image.fromarray(drawn).save(tmp_path / "m.png")
        row = table(modality="US", path="i.png", mask_path="m.png").iloc[0]
        assert read_still(row, tmp_path).box == box


def test_several_masks_of_one_image_are_united(tmp_path):
    Image.fromarray(speckle(LESION.shape)).save(tmp_path / "i.png")
    other = np.roll(LESION, 15, axis=0)
    for name, drawn in {"a.png": LESION, "b.png": other}.items():
        Image.fromarray(255 * drawn).save(tmp_path / name)
    row = table(modality="US", path="i.png", mask_path="a.png; b.png").iloc[0]
    np.testing.assert_array_equal(read_still(row, tmp_path).mask, (LESION | other) == 1)


def test_a_dicom_mask_is_read_as_stored(tmp_path):
    """Neither display (MONOCHROME1) nor a rescale turns background into lesion."""
    path = dicom(
        tmp_path / "m.dcm", LESION, "US", PhotometricInterpretation="MONOCHROME1", RescaleSlope=2, RescaleIntercept=5
    )
    np.testing.assert_array_equal(read_mask(path), LESION == 1)
    body = series(tmp_path / "s", BODY.astype(np.uint16), PixelPaddingValue=0, RescaleSlope=2, RescaleIntercept=5)
    np.testing.assert_array_equal(read_volume_mask(body), BODY == 1)


def test_padding_of_a_series_is_the_same_in_every_slice(tmp_path):
    stored = np.stack([np.full((6, 6), 10 * (k + 1), np.int16) for k in range(4)])
    stored[:, :2], stored[3] = 0, 0
    values = read_volume(series(tmp_path / "s", stored, PixelPaddingValue=0)).values
    assert np.unique(values[:, :2]).tolist() == [10.0] and np.unique(values[3]).tolist() == [10.0]


def test_a_mask_with_its_axes_stored_in_another_order_is_laid_on_its_image(tmp_path):
    image = read_volume(series(tmp_path / "s", np.zeros((6, 8, 10), np.uint16)))
    drawn = np.zeros((6, 8, 10), np.uint8)
    drawn[2, 1:4, 2:7] = 1
    affine = np.diag([-1.0, -1.0, 1.0, 1.0]) @ image.geometry.affine  # NIfTI's axes point to the right, front and head
    whole = nibabel.Nifti1Image(drawn.transpose(), affine)
    for axes in ("LPS", "RAS", "LAS", "PSR", "IAL"):
        nibabel.save(nibabel.as_closest_canonical(whole).as_reoriented(_turn_to(axes)), tmp_path / "m.nii.gz")
        np.testing.assert_array_equal(read_volume_mask(tmp_path / "m.nii.gz", image), drawn == 1, err_msg=axes)


def _turn_to(axes: str) -> np.ndarray:
    return nibabel.orientations.ornt_transform(
        nibabel.orientations.axcodes2ornt("RAS"), nibabel.orientations.axcodes2ornt(tuple(axes))
    )


def segmentation(path: Path, slices: list[int], segments: list[int], names: dict[int, str] | None = None) -> Path:
    def item(**elements: object) -> Dataset:
        made = Dataset()
        for name, value in elements.items():
            setattr(made, name, value)
        return made

    plane = np.zeros((8, 10), np.uint8)
    plane[2:5, 3:7] = 1
    pixels = np.stack([plane] * len(slices))
    measures = item(PixelSpacing=[1, 1], SliceThickness=2, SpacingBetweenSlices=2)
    shared = item(
        PixelMeasuresSequence=[measures], PlaneOrientationSequence=[item(ImageOrientationPatient=[1, 0, 0, 0, 1, 0])]
    )
    frames = [
        item(
            PlanePositionSequence=[item(ImagePositionPatient=[0, 0, 2.0 * z])],
            SegmentIdentificationSequence=[item(ReferencedSegmentNumber=number)],
        )
        for z, number in zip(slices, segments, strict=True)
    ]
    packed = np.packbits(pixels.ravel(), bitorder="little").tobytes()
    bits = {"BitsAllocated": 1, "BitsStored": 1, "HighBit": 0, "PixelData": packed + b"\0" * (len(packed) % 2)}
    functional = {"SharedFunctionalGroupsSequence": [shared], "PerFrameFunctionalGroupsSequence": frames}
    functional["SegmentSequence"] = [item(SegmentNumber=n, SegmentLabel=name) for n, name in (names or {}).items()]
    return dicom(path, pixels, "SEG", NumberOfFrames=len(slices), **bits, **functional)


def test_segmentations_and_structure_sets_are_masks(tmp_path):
    image = read_volume(series(tmp_path / "image", np.stack([np.full((8, 10), 100 * k, np.uint16) for k in range(6)])))
    for slices in ([2, 3], [2]):
        mask = read_volume_mask(segmentation(tmp_path / "s.dcm", slices, [1] * len(slices)), image)
        assert np.flatnonzero(mask.any(axis=(1, 2))).tolist() == slices and mask.sum() == 12 * len(slices)
    two = segmentation(tmp_path / "two.dcm", [1, 4], [1, 2], {1: "Breast", 2: "Tumor"})
    assert np.flatnonzero(read_volume_mask(two, image).any(axis=(1, 2))).tolist() == [4], "called like a lesion"
    unnamed = segmentation(tmp_path / "unnamed.dcm", [1, 4], [1, 2], {1: "Breast", 2: "Skin"})
    with pytest.raises(InputError, match=r"of its 2 segments none is called like a lesion \(1 Breast, 2 Skin\)"):
        read_volume_mask(unnamed, image)
    assert np.flatnonzero(read_volume_mask(two, image, label=2).any(axis=(1, 2))).tolist() == [4]
    with pytest.raises(InputError, match="is a SEG object, whose voxels are those of its image"):
        read_volume_mask(two)
    empty = dicom(tmp_path / "rt.dcm", np.zeros((2, 2), np.uint8), "RTSTRUCT")
    with pytest.raises(InputError, match="is an RTSTRUCT object; of its 0 structures none can be the lesion"):
        read_volume_mask(empty, image)
    with pytest.raises(InputError, match=r"rt.dcm: is one DICOM file \(RTSTRUCT\)"):
        read_volume(empty)


def structure_set(path: Path, heights: list[float], radius: float = 3.0) -> Path:
    """A tumor drawn as a circle at these heights in mm."""
    angles = np.linspace(0, 2 * np.pi, 60, endpoint=False)
    contours = []
    for height in heights:
        contour = Dataset()
        points = np.c_[5 + radius * np.cos(angles), 4 + radius * np.sin(angles), np.full(60, height)]
        contour.ContourGeometricType, contour.NumberOfContourPoints = "CLOSED_PLANAR", 60
        contour.ContourData = points.round(4).ravel().tolist()
        contours.append(contour)
    roi, named = Dataset(), Dataset()
    roi.ReferencedROINumber, roi.ContourSequence = 1, contours
    named.ROINumber, named.ROIName = 1, "GTV"
    elements = {"ROIContourSequence": [roi], "StructureSetROISequence": [named]}
    return dicom(path, np.zeros((2, 2), np.uint8), "RTSTRUCT", **elements)


def test_contours_between_slices_or_on_every_other_one_are_errors(tmp_path):
    image = read_volume(series(tmp_path / "image", np.zeros((9, 9, 11), np.uint16)))
    whole = read_volume_mask(structure_set(tmp_path / "a.dcm", [2.0 * k for k in range(2, 7)]), image)
    assert whole.any(axis=(1, 2)).tolist() == [False] * 2 + [True] * 5 + [False] * 2
    with pytest.raises(InputError, match="a contour lies in no slice"):
        read_volume_mask(structure_set(tmp_path / "b.dcm", [4.0, 5.25, 6.5, 7.75]), image)
    with pytest.raises(InputError, match="only every other slice.*interpolate them"):
        read_volume_mask(structure_set(tmp_path / "c.dcm", [4.0, 8.0, 12.0]), image)


def test_fractions_of_a_segmentation_are_cut_half_way(tmp_path):
    image = read_volume(series(tmp_path / "image", np.stack([np.full((8, 10), 100 * k, np.uint16) for k in range(6)])))
    path = segmentation(tmp_path / "s.dcm", [2], [1])
    dataset = dcmread(path)
    values = np.zeros((8, 10), np.uint8)
    values[2:5, 3:7], values[1, 3:7] = 255, 100
    dataset.BitsAllocated = dataset.BitsStored = 8
    dataset.HighBit, dataset.SegmentationType, dataset.MaximumFractionalValue = 7, "FRACTIONAL", 255
    dataset.PixelData = values.tobytes()
    dataset.save_as(path, enforce_file_format=True)
    np.testing.assert_array_equal(read_volume_mask(path, image)[2], values == 255)


def test_a_segmentation_that_is_a_map_of_labels_is_read_by_them(tmp_path):
    image = read_volume(series(tmp_path / "image", np.stack([np.full((8, 10), 100 * k, np.uint16) for k in range(6)])))
    path = segmentation(tmp_path / "s.dcm", [2], [1], {1: "Breast", 2: "Tumor"})
    dataset = dcmread(path)
    values = np.ones((8, 10), np.uint8)
    values[2:5, 3:7] = 2
    dataset.BitsAllocated = dataset.BitsStored = 8
    dataset.HighBit, dataset.SegmentationType, dataset.PixelData = 7, "LABELMAP", values.tobytes()
    dataset.save_as(path, enforce_file_format=True)
    for label in (None, 2):
        np.testing.assert_array_equal(read_volume_mask(path, image, label=label)[2], values == 2)


# ----------------------------------------------------------------------------------------------------------------- units


@pytest.mark.parametrize(
    ("stored", "elements"),
    [
        (np.full((64, 64), 1064, np.uint16), {}),
        (np.full((64, 64), 128, np.uint8), {}),
        (np.full((64, 64), 128, np.uint8), {"RescaleSlope": 1, "RescaleIntercept": 0}),
        (np.full((64, 64), 1064, np.uint16), {"RescaleSlope": 1, "RescaleIntercept": 0}),
        (np.full((64, 64), 1064, np.uint16), {"RescaleSlope": 1, "RescaleIntercept": -1024, "RescaleType": "US"}),
        (np.full((64, 64, 3), 128, np.uint8), {}),
    ],
)
def test_ct_that_is_not_in_hounsfield_units_is_refused(stored, elements, tmp_path):
    dicom(tmp_path / "a.dcm", stored, "CT", PixelSpacing=[0.7, 0.7], **elements)
    row = table(modality="CT", path="a.dcm", box="20 20 40 40")
    with pytest.raises(InputError, match="patient p1: .*a CT without rescale to HU.*unknown units; export the slice"):
        crop(row, tmp_path, CropSpec("CT", 16))


def test_ct_counts_from_the_stored_values_whatever_the_display(tmp_path):
    stored = np.array([[24, 1024, 1064, 1424]], np.uint16)
    elements = {"PhotometricInterpretation": "MONOCHROME1", "RescaleSlope": 1, "RescaleIntercept": -1024}
    pixels = read_image(dicom(tmp_path / "a.dcm", stored, "CT", **elements)).pixels
    assert pixels.tolist() == [[-1000, 0, 40, 400]]


def test_a_slope_alone_counts_and_a_slope_of_zero_is_an_error(tmp_path):
    stored = np.full((4, 4), 100, np.uint16)
    assert read_image(dicom(tmp_path / "a.dcm", stored, "MR", RescaleSlope=2)).pixels[0, 0] == 200
    assert read_image(dicom(tmp_path / "b.dcm", stored, "MR", RescaleIntercept=7)).pixels[0, 0] == 107
    with pytest.raises(InputError, match=r"Rescale Slope is 0.*remove the element \(0028,1053\)"):
        read_image(dicom(tmp_path / "c.dcm", stored, "MR", RescaleSlope=0, RescaleIntercept=0))


def test_maps_of_diffusion_are_the_same_in_every_unit(tmp_path):
    noise = ndimage.gaussian_filter(np.random.default_rng(0).normal(size=SHAPE), 1.5)
    adc = 1200 + 250 * (noise - noise.mean()) / noise.std()
    nifti(tmp_path / "m.nii.gz", BODY)
    cells = {"modality": "MRI", "timepoint": "pre", "sequence_or_view": "ADC", "mask_path": "m.nii.gz"}
    made = []
    for k, factor in enumerate((1, 1e-3, 1e-6)):
        nifti(tmp_path / f"{k}.nii.gz", (adc * factor).astype(np.float32))
        row = table(path=f"{k}.nii.gz", **cells)
        found = extract_cohort(row, tmp_path, {"MRI/ADC": settings_for("MRI", "ADC").only("Original")})
        cut = crop(row, tmp_path, CropSpec("MRI", 32, channels=["pre/ADC"], value_range=(0, 3000)))
        made.append((found.features.iloc[0, 1:].to_numpy(float), cut))
    for features, cut in made[1:]:
        np.testing.assert_allclose(features, made[0][0], rtol=1e-3)
        assert np.abs(cut.astype(int) - made[0][1]).max() <= 1
    for power in (-9, -4, -1, 1):
        nifti(tmp_path / "x.nii.gz", (adc * 10.0**power).astype(np.float32))
        with pytest.raises(InputError, match="in none of the units"):
            read_scan(table(path="x.nii.gz", **cells).iloc[0], tmp_path)


def test_the_size_of_pixels_in_the_table_counts_for_volumes_too(tmp_path):
    nifti(tmp_path / "i.nii.gz", np.random.default_rng(0).normal(100, 10, SHAPE).astype(np.float32), (1, 1, 1))
    nifti(tmp_path / "m.nii.gz", BODY, (1, 1, 1))
    cells = {
        "modality": "MRI",
        "timepoint": "pre",
        "sequence_or_view": "T2",
        "path": "i.nii.gz",
        "mask_path": "m.nii.gz",
    }
    row = table(**cells, pixel_spacing_mm="0.5 0.25").iloc[0]
    volume = read_scan(row, tmp_path)
    assert volume.geometry.spacing_mm == (1.0, 0.5, 0.25)
    assert scan_mask(row, tmp_path, volume).sum() == BODY.sum()
    nifti(tmp_path / "i.nii.gz", np.zeros(SHAPE, np.float32), (0.5, 0.5, 3.0))
    with pytest.raises(InputError, match="slices seem to lie along another axis.*leave that empty"):
        read_scan(row, tmp_path)


def test_direction_cosines_that_were_rounded_do_not_change_the_size(tmp_path):
    tilted = {"ImageOrientationPatient": [0.999, 0, 0, 0, 0.999, 0], "PixelSpacing": [0.8, 0.6]}
    volume = read_volume(series(tmp_path / "s", np.zeros((3, 4, 5), np.uint16), **tilted))
    assert volume.geometry.spacing_mm == pytest.approx((2.0, 0.8, 0.6), rel=1e-12)


def region(left: int, right: int, cm: float) -> Dataset:
    made = Dataset()
    made.RegionSpatialFormat, made.RegionDataType, made.RegionFlags = 1, 1, 0
    made.RegionLocationMinX0, made.RegionLocationMaxX1 = left, right
    made.RegionLocationMinY0, made.RegionLocationMaxY1 = 0, 299
    made.PhysicalUnitsXDirection = made.PhysicalUnitsYDirection = 3
    made.PhysicalDeltaX = made.PhysicalDeltaY = cm
    return made


@pytest.mark.parametrize("by", ["box", "mask"])
def test_of_a_split_screen_the_half_with_the_lesion_tells_the_size(by, tmp_path):
    halves = [region(0, 299, 0.01), region(300, 499, 0.005)]
    dicom(tmp_path / "a.dcm", speckle((300, 500)), "US", SequenceOfUltrasoundRegions=halves)
    for place, spacing in {"100 350 160 410": 0.05, "100 50 160 110": 0.1}.items():
        row0, col0, row1, col1 = map(int, place.split())
        drawn = np.zeros((300, 500), np.uint8)
        drawn[row0:row1, col0:col1] = 255
        Image.fromarray(drawn).save(tmp_path / "m.png")
        where = {"box": place} if by == "box" else {"mask_path": "m.png"}
        still = read_still(table(modality="US", path="a.dcm", **where).iloc[0], tmp_path)
        assert still.image.spacing_mm == pytest.approx((spacing, spacing))
    sweep = np.stack([speckle((300, 500), k) for k in range(3)])
    dicom(tmp_path / "b.dcm", sweep, "US", NumberOfFrames=3, SequenceOfUltrasoundRegions=halves)
    assert read_clip(tmp_path / "b.dcm", near=(130, 380)).spacing_mm == pytest.approx((0.05, 0.05))
    inset = [region(0, 499, 0.01), region(300, 499, 0.005)]
    dicom(tmp_path / "c.dcm", speckle((300, 500)), "US", SequenceOfUltrasoundRegions=inset, PixelSpacing=None)
    still = read_still(table(modality="US", path="c.dcm", box="100 350 160 410").iloc[0], tmp_path)
    assert still.image.spacing_mm == pytest.approx((0.05, 0.05)), "what is drawn over the other"


# --------------------------------------------------------------------------------------------------- color and orientation


@pytest.mark.parametrize("label", ["RGB", "YBR_FULL_422"])
def test_luma_and_chroma_called_rgb_are_noticed(label, tmp_path):
    ramp = np.tile(np.linspace(0, 255, 64).astype(np.uint8), (64, 1))
    stream = io.BytesIO()
    Image.fromarray(np.stack([ramp] * 3, -1)).save(stream, "JPEG", quality=95)
    content = stream.getvalue()
    marker = content.find(b"\xff\xe0")  # as encoders of DICOM leave it out
    content = content[:marker] + content[marker + 2 + int.from_bytes(content[marker + 2 : marker + 4], "big") :]
    path = dicom(tmp_path / "a.dcm", np.stack([ramp] * 3, -1), "US", PhotometricInterpretation=label)
    dataset = dcmread(path)
    dataset.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
    dataset.PixelData = encapsulate([content])
    dataset["PixelData"].VR, dataset["PixelData"].is_undefined_length = "OB", True
    dataset.save_as(path, enforce_file_format=True)
    assert np.abs(read_image(path).pixels - ramp).max() <= 1


def test_true_rgb_streams_stay_rgb(tmp_path):
    """A photograph in red: neither chroma lies round 128, and components are called R, G, B."""
    red = np.zeros((32, 32, 3), np.uint8)
    red[..., 0], red[..., 1] = 200, 40
    stream = io.BytesIO()
    Image.fromarray(red).save(stream, "JPEG", quality=95, keep_rgb=True)
    path = dicom(tmp_path / "a.dcm", red, "US")
    dataset = dcmread(path)
    dataset.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
    dataset.PixelData = encapsulate([stream.getvalue()])
    dataset["PixelData"].VR, dataset["PixelData"].is_undefined_length = "OB", True
    dataset.save_as(path, enforce_file_format=True)
    assert np.abs(read_image(path).pixels - (0.299 * 200 + 0.587 * 40)).max() <= 3


@pytest.mark.parametrize(("orientation", "corner"), [(1, (10, 10)), (3, (80, 150)), (6, (10, 80)), (8, (150, 10))])
def test_a_picture_is_turned_as_viewers_turn_it_with_its_mask(orientation, corner, tmp_path):
    picture = np.zeros((120, 200), np.uint8)
    picture[10:40, 10:50] = 200
    tags = Image.Exif()
    tags[274] = orientation
    for name, kind in (("a.jpg", {"quality": 95}), ("a.png", {}), ("a.tif", {"compression": "tiff_lzw"})):
        Image.fromarray(picture).save(tmp_path / name, exif=tags, **kind)
        values = read_image(tmp_path / name).pixels
        assert tuple(np.argwhere(values > 100).min(axis=0)) == pytest.approx(corner, abs=1), name
        assert read_mask(tmp_path / name).shape == values.shape
    Image.fromarray(picture).save(tmp_path / "raw.tif", exif=tags)
    if orientation in (6, 8):  # see findings/pillow_turned_tiff.sh
        with pytest.raises(InputError, match="uncompressed TIFF to be shown turned by a quarter"):
            read_image(tmp_path / "raw.tif")
    else:
        np.testing.assert_array_equal(read_image(tmp_path / "raw.tif").pixels, values)


def test_a_video_is_turned_as_players_turn_it(tmp_path):
    frames = np.zeros((12, 64, 96), np.uint8)
    frames[:, 4:20, 6:30] = 220
    with av.open(str(tmp_path / "a.mp4"), "w") as out:
        stream = out.add_stream("libx264", rate=25)
        stream.height, stream.width, stream.pix_fmt = 64, 96, "yuv420p"
        for frame in frames:
            for packet in stream.encode(av.VideoFrame.from_ndarray(np.stack([frame] * 3, -1), format="rgb24")):
                out.mux(packet)
        for packet in stream.encode():
            out.mux(packet)
    content, one = (tmp_path / "a.mp4").read_bytes(), 0x10000
    at = content.find(b"tkhd") + 44
    matrices = {"half": (-one, 0, 0, 0, -one, 0, 96 * one, 64 * one, 0x40000000)}
    matrices["quarter"] = (0, one, 0, -one, 0, 0, 64 * one, 0, 0x40000000)
    found = {}
    for name, matrix in matrices.items():
        (tmp_path / f"{name}.mp4").write_bytes(content[:at] + struct.pack(">9i", *matrix) + content[at + 36 :])
        clip = read_clip(tmp_path / f"{name}.mp4").frames
        found[name] = clip.shape, tuple(np.argwhere(clip[0] > 150).min(axis=0).tolist())
    assert found["half"] == ((12, 64, 96), (44, 66))
    assert found["quarter"] == ((12, 96, 64), (6, 44))  # clockwise: the upper left corner comes to the upper right


@pytest.mark.parametrize(("suffix", "codec"), [(".webm", "libvpx"), (".mpg", "mpeg1video")])
def test_further_videos_and_pages_are_sweeps(suffix, codec, tmp_path):
    path = tmp_path / f"a{suffix}"
    with av.open(str(path), "w") as out:
        stream = out.add_stream(codec, rate=25)
        stream.height, stream.width, stream.pix_fmt = 64, 96, "yuv420p"
        for k in range(10):
            shade = np.full((64, 96, 3), 40 + 15 * k, np.uint8)
            for packet in stream.encode(av.VideoFrame.from_ndarray(shade, format="rgb24")):
                out.mux(packet)
        for packet in stream.encode():
            out.mux(packet)
    clip = read_clip(path)
    assert clip.frames.shape[1:] == (64, 96) and len(clip.frames) >= 9
    assert np.abs(clip.frames[:9].mean(axis=(1, 2)) - (40 + 15 * np.arange(9))).max() < 6
    pages = [Image.fromarray(np.full((8, 9), 10 * k, np.uint8)) for k in range(4)]
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:])
    assert read_clip(tmp_path / "a.tif").frames[:, 0, 0].tolist() == [0, 10, 20, 30]


# --------------------------------------------------------------------------------------------------------- crops, objects


def test_a_crop_in_which_there_is_nothing_is_an_error(tmp_path):
    image = np.random.default_rng(0).normal(100, 10, SHAPE).astype(np.float32)
    nifti(tmp_path / "zero.nii.gz", 0 * image)
    nifti(tmp_path / "m.nii.gz", BODY)
    nifti(tmp_path / "pre.nii.gz", image)
    nifti(tmp_path / "post.nii.gz", image, shift_mm=-200.0)
    nifti(tmp_path / "gone.nii.gz", 0 * BODY, shift_mm=-200.0)
    cells = {"modality": "MRI", "sequence_or_view": "T2", "timepoint": "pre", "mask_path": "m.nii.gz"}
    flat = CropSpec("MRI", 32, channels=["pre/T2"])
    with pytest.raises(
        InputError, match=r"patient p1: .*zero.nii.gz: the crop round the lesion is all of one gray value"
    ):
        crop(table(**cells, path="zero.nii.gz"), tmp_path, flat)
    later = cells | {"timepoint": "post", "mask_path": "gone.nii.gz", "path": "post.nii.gz", "image_id": "i2"}
    both = pd.concat([table(**cells, path="pre.nii.gz"), table(**later)])
    with pytest.raises(InputError, match=r"patient p1: .*post.nii.gz: the crop round the lesion is all black"):
        crop(both, tmp_path, CropSpec("MRI", 16, channels=["pre/T2", "post/T2"], depth=8))
    Image.fromarray(np.zeros((60, 80), np.uint8)).save(tmp_path / "black.png")
    with pytest.raises(InputError, match=r"patient p1: .*black.png: the crop round the lesion is all"):
        crop(table(modality="US", path="black.png", box="20 30 30 50"), tmp_path, CropSpec("US", 16))


@pytest.mark.parametrize("form", ["NIfTI", "series"])
@pytest.mark.parametrize("by", ["box", "mask"])
def test_a_node_in_a_volume_of_ct_is_cut_from_its_slice(form, by, tmp_path):
    """In both forms the patient's back is below, whatever the order of rows in the file."""
    body = np.full((8, 64, 64), -100)
    body[:, 40:, :] = -1000  # air behind the back
    body[3, 20:30, 24:40] = 80
    drawn = np.zeros(body.shape, np.uint8)
    drawn[3, 20:30, 24:40] = 1
    if form == "NIfTI":
        nifti(tmp_path / "ct.nii.gz", body.astype(np.float32), (3.0, 0.7, 0.7))
        nifti(tmp_path / "m.nii.gz", drawn, (3.0, 0.7, 0.7))
        path = "ct.nii.gz"
    else:
        elements = {"RescaleSlope": 1, "RescaleIntercept": -1024, "PixelSpacing": [0.7, 0.7]}
        series(tmp_path / "ct", (body + 1024).astype(np.uint16), "CT", 3.0, **elements)
        nifti(tmp_path / "m.nii.gz", drawn, (3.0, 0.7, 0.7))
        path = "ct"
    where = {"box": "3 20 24 4 30 40"} if by == "box" else {"mask_path": "m.nii.gz"}
    still = read_still(table(modality="CT", path=path, **where).iloc[0], tmp_path)
    assert still.box == (20, 24, 30, 40) and still.image.spacing_mm == pytest.approx((0.7, 0.7))
    assert still.image.pixels[25, 30] == 80 and still.image.pixels[50, 30] == -1000
    assert crop(table(modality="CT", path=path, **where), tmp_path, CropSpec("CT", 32)).shape == (1, 32, 32)
    drawn[6, 5:45, 5:45] = 1  # another, larger node in the same mask
    nifti(tmp_path / "m.nii.gz", drawn, (3.0, 0.7, 0.7))
    both = {"box": "3 20 24 4 30 40", "mask_path": "m.nii.gz"}
    still = read_still(table(modality="CT", path=path, **both).iloc[0], tmp_path)
    assert still.image.pixels[25, 30] == 80 and still.mask.sum() == 160, "the box says which"


def test_one_frame_of_several_is_named_in_the_table(tmp_path):
    stored = np.random.default_rng(0).integers(0, 4000, (4, 40, 60)).astype(np.uint16)
    dicom(tmp_path / "a.dcm", stored, "MG", NumberOfFrames=4, BitsStored=12, HighBit=11)
    cells = {"modality": "MG", "path": "a.dcm", "box": "10 10 30 30"}
    with pytest.raises(InputError, match=r"patient p1: .*holds 4 frames.*column frame of images.csv"):
        crop(table(**cells), tmp_path, CropSpec("MG", 16))
    still = read_still(table(**cells, frame="2").iloc[0], tmp_path)
    np.testing.assert_array_equal(still.image.pixels, stored[2])
    with pytest.raises(InputError, match="asks for frame 4"):
        read_still(table(**cells, frame="4").iloc[0], tmp_path)


def test_time_points_of_a_series_are_told_apart_and_one_is_chosen(tmp_path):
    folder = tmp_path / "dce"
    folder.mkdir()
    for phase in range(3):
        for k in range(4):
            place = {"ImagePositionPatient": [0, 0, 2.0 * k], "ImageOrientationPatient": [1, 0, 0, 0, 1, 0]}
            when = {"AcquisitionTime": f"1000{10 * (2 - phase):02d}", "PixelSpacing": [1, 1], "SliceThickness": 2}
            dicom(folder / f"{phase}{k}.dcm", np.full((4, 5), 10 * phase + k, np.uint16), "MR", **place, **when)
    with pytest.raises(
        InputError, match=r"3 images of every slice.*differ in AcquisitionTime; name one in a column frame"
    ):
        read_volume(folder)
    assert read_volume(folder, frame=0).values[:, 0, 0].tolist() == [20, 21, 22, 23], "in the order of time"
    assert read_volume(folder, frame=2).values[:, 0, 0].tolist() == [0, 1, 2, 3]
    nifti(tmp_path / "4d.nii.gz", np.stack([np.full(SHAPE, k, np.float32) for k in range(3)]))
    with pytest.raises(InputError, match="column frame"):
        read_volume(tmp_path / "4d.nii.gz")
    assert read_volume(tmp_path / "4d.nii.gz", frame=1).values.max() == 1


def test_time_points_round_midnight_and_shortened_times_keep_their_order(tmp_path):
    folder = tmp_path / "dce"
    folder.mkdir()
    for number, (day, time) in enumerate([("20200102", "000100"), ("20200101", "2359"), ("20200102", "00:03:00.5")]):
        for k in range(2):
            place = {"ImagePositionPatient": [0, 0, 2.0 * k], "ImageOrientationPatient": [1, 0, 0, 0, 1, 0]}
            when = {"AcquisitionDate": day, "AcquisitionTime": time, "PixelSpacing": [1, 1], "SliceThickness": 2}
            dicom(folder / f"{number}{k}.dcm", np.full((4, 5), number, np.uint16), "MR", **place, **when)
    assert [read_volume(folder, frame=phase).values.max() for phase in range(3)] == [1, 0, 2]


def test_frames_of_a_folder_follow_their_instance_numbers_and_a_sweep_its_named_key_frame(tmp_path):
    folder = tmp_path / "sweep"
    folder.mkdir()
    for number in range(5):
        dicom(folder / f"{(7 * number + 3) % 5}.dcm", speckle((20, 20)) // 2 + number, "US", InstanceNumber=number + 1)
    (folder / "._0.dcm").write_bytes((folder / "0.dcm").read_bytes())  # as macOS leaves them
    clip, _ = read_sweep(table(modality="USV", path="sweep", box="2 2 18 18", frame="3").iloc[0], tmp_path)
    assert np.diff(clip.frames.mean(axis=(1, 2))).tolist() == [1, 1, 1, 1] and clip.key_frame == 3


def test_a_slice_that_was_exported_twice_counts_once(tmp_path):
    folder = series(tmp_path / "s", np.stack([np.full((8, 10), 100 * k, np.uint16) for k in range(6)]))
    shutil.copy(folder / "002.dcm", folder / "002 (1).dcm")
    assert read_volume(folder).values[:, 0, 0].tolist() == [0, 100, 200, 300, 400, 500]
    same = series(
        tmp_path / "t", np.stack([np.full((8, 10), 100 * k, np.uint16) for k in range(6)]), SOPInstanceUID="1.2"
    )
    assert read_volume(same).shape == (6, 8, 10), "an identifier that all share is none"


# --------------------------------------------------------------------------------------------------------------- anything


@st.composite
def headers(draw):
    """Elements of a gray image as scanners, converters and slips of both write them, and which of them count."""
    modality = draw(st.sampled_from(["CT", "MR", "US", "MG"]))
    signed = draw(st.booleans())
    bits = draw(st.sampled_from([8, 12, 16]))
    elements = {"BitsStored": bits, "HighBit": bits - 1}
    elements["PhotometricInterpretation"] = draw(st.sampled_from(["MONOCHROME1", "MONOCHROME2"]))
    for name, values in {
        "RescaleSlope": [None, 0, 1, 2.5, -1],
        "RescaleIntercept": [None, 0, -1024, 12.5],
        "RescaleType": [None, "HU", "US"],
        "PixelSpacing": [None, [0.5, 0.25], [0, 0], [-0.5, 0.25]],
        "PixelPaddingValue": [None, 0],
        "ImagerPixelSpacing": [None, [0.1, 0.1]],
    }.items():
        value = draw(st.sampled_from(values))
        if value is not None:
            elements[name] = value
    return modality, signed, bits, elements


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(headers(), st.integers(0, 2**16))
def test_a_still_with_any_header_gives_its_values_or_an_error(tmp_path, header, seed):
    """Invariant: slope x stored + intercept, turned over within the stored bits where white is low and it is no CT, padding
    aside; CT is called HU only below zero and rescaled; spacing is positive or not there."""
    modality, signed, bits, elements = header
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1)) if signed else (0, 2**bits)
    stored = np.random.default_rng(seed).integers(low, high, (6, 7))
    kind = (np.int8 if signed else np.uint8) if bits == 8 else np.int16 if signed else np.uint16
    path = dicom(tmp_path / "a.dcm", stored.astype(kind), modality, **elements)
    slope, intercept = elements.get("RescaleSlope"), elements.get("RescaleIntercept")
    if slope == 0:
        with pytest.raises(InputError, match="Rescale Slope is 0"):
            read_image(path)
        return
    image = read_image(path)
    values = stored
    if elements["PhotometricInterpretation"] == "MONOCHROME1" and modality != "CT":
        values = (-1 if signed else 2**bits - 1) - stored
    expected = values * float(1 if slope is None else slope) + float(intercept or 0)
    rescaled = slope is not None or intercept is not None
    if modality == "CT" and rescaled:
        expected = np.maximum(expected, -1024)
    there = stored != 0 if "PixelPaddingValue" in elements else np.full(stored.shape, True)
    there = there if there.any() else np.full(stored.shape, True)
    np.testing.assert_allclose(image.pixels[there], expected[there].astype(np.float32))
    assert image.spacing_mm is None or min(image.spacing_mm) > 0
    if image.in_hu:
        assert modality == "CT" and rescaled and elements.get("RescaleType") != "US"
        assert (low * (slope or 1) + (intercept or 0) < 0) or signed


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.permutations(range(4)),
    st.sampled_from([1.0, 0.999, 0.5]),
    st.sampled_from([(1.0, 1.0), (0.6, 0.8)]),
    st.sampled_from([2.0, 3.5]),
    st.sampled_from([None, 1, 2.5]),
    st.sampled_from([None, "twice", "missing", "shifted"]),
    st.sampled_from([(1, 0, 0, 0, 1, 0), (0, 1, 0, 0, 0, -1), (0.8, 0.6, 0, -0.6, 0.8, 0)]),
)
def test_a_series_with_any_header_gives_its_voxels_or_an_error(
    tmp_path, order, length, spacing, step, slope, fault, axes
):
    """Invariant: whatever the names of the files, slices are in the order of their places, at the distance of these, with the
    size of pixels that is written; what is missing, foreign or aside is an error that says so."""
    folder = tmp_path / "s"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    rows, columns = np.array(axes[:3], float), np.array(axes[3:], float)
    normal = np.cross(rows, columns)
    for name, k in enumerate(order):
        if fault == "missing" and k == 1:
            continue
        place = normal * step * k + (rows * 5.0 if fault == "shifted" and k == 3 else 0)
        elements = {"ImagePositionPatient": list(place), "ImageOrientationPatient": list(length * np.array(axes))}
        elements |= {"PixelSpacing": list(spacing), "SliceThickness": step} | (
            {} if slope is None else {"RescaleSlope": slope}
        )
        path = dicom(folder / f"{name}.dcm", np.full((4, 5), k, np.uint16), "MR", **elements)
        if fault == "twice" and k == 2:
            shutil.copy(path, folder / "copy.dcm")
    if fault in ("missing", "shifted"):
        with pytest.raises(InputError, match="is missing or foreign|shifted sideways"):
            read_volume(folder)
        return
    volume = read_volume(folder)
    assert volume.values[:, 0, 0].tolist() == [k * (slope or 1) for k in range(4)]
    assert volume.geometry.spacing_mm == pytest.approx((step, *spacing), rel=1e-6)
    for k in range(4):
        np.testing.assert_allclose(volume.geometry.position_mm((k, 0, 0)), normal * step * k, atol=1e-6)


def test_the_table_of_faults_names_tests_that_are_there():
    """docs/real_files.md, whose third column names a test for every kind."""
    here = Path(__file__).parent
    page = (here.parent / "docs" / "real_files.md").read_text(encoding="utf-8")
    named = re.findall(r"\| `(test_\w+)` \|$", page, re.MULTILINE)
    files = [here / f"test_{name}.py" for name in ("imaging_faults", "imaging_examine", "radiomics_grid")]
    code = "".join(file.read_text(encoding="utf-8") for file in files)
    assert len(named) == len(set(named)) >= 30
    assert all(f"def {name}(" in code for name in named)
