"""Reading single images: truth is what the test itself wrote, and for the public files their documentation (data/README.md)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from alnlib.errors import InputError
from alnlib.imaging.read import read_image, read_mask
from tests.real_data import real_data

RAMP = np.arange(12, dtype=np.uint16).reshape(3, 4)


def write_dicom(path: Path, stored: np.ndarray, **attributes: object) -> Path:
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = pydicom.uid.SecondaryCaptureImageStorage
    dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID
    dataset.Modality = "OT"
    color = stored.shape[-1] == 3
    dataset.SamplesPerPixel = 3 if color else 1
    if color:
        dataset.PlanarConfiguration = 0
    dataset.PhotometricInterpretation = "RGB" if color else "MONOCHROME2"
    dataset.Rows, dataset.Columns = stored.shape[-3:-1] if color else stored.shape[-2:]
    bits = 8 * stored.dtype.itemsize
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = bits, bits, bits - 1
    dataset.PixelRepresentation = int(stored.dtype.kind == "i")
    for name, value in attributes.items():
        setattr(dataset, name, value)
    raw = stored.tobytes()
    dataset.PixelData = raw + b"\0" * (len(raw) % 2)
    dataset["PixelData"].VR = "OW" if bits == 16 else "OB"
    dataset.save_as(path, enforce_file_format=True)
    return path


def test_dicom_rescale_gives_hounsfield_units(tmp_path):
    path = write_dicom(tmp_path / "ct.dcm", RAMP, RescaleSlope="2", RescaleIntercept="-1024", Modality="CT")
    image = read_image(path)
    np.testing.assert_array_equal(image.pixels, 2.0 * RAMP - 1024)
    assert image.pixels.dtype == np.float32 and image.modality == "CT" and image.shape == (3, 4)


def test_negative_stored_values_survive(tmp_path):
    np.testing.assert_array_equal(
        read_image(write_dicom(tmp_path / "a.dcm", RAMP.astype(np.int16) - 5)).pixels, RAMP - 5.0
    )


@pytest.mark.parametrize(("kind", "offset"), [(np.uint16, 0), (np.int16, 7)])
def test_monochrome1_is_turned_over_within_its_stored_bits(tmp_path, kind, offset):
    stored = RAMP.astype(kind) - kind(offset)
    attributes = {"PhotometricInterpretation": "MONOCHROME1", "BitsStored": 12, "HighBit": 11}
    pixels = read_image(write_dicom(tmp_path / "a.dcm", stored, **attributes)).pixels
    top_plus_bottom = 4095 if kind is np.uint16 else -1
    np.testing.assert_array_equal(pixels, top_plus_bottom - stored.astype(float))


def test_color_dicom_becomes_luma_and_equal_channels_collapse(tmp_path):
    grey = RAMP.astype(np.uint8)
    np.testing.assert_array_equal(read_image(write_dicom(tmp_path / "a.dcm", np.dstack([grey] * 3))).pixels, grey)
    red = np.dstack([grey * 20, grey * 0, grey * 0])
    np.testing.assert_allclose(read_image(write_dicom(tmp_path / "b.dcm", red)).pixels, 0.299 * 20 * grey, rtol=1e-6)


def test_color_dicom_stored_as_ybr_is_converted_first(tmp_path):
    """Neutral chroma (128) is grey, whatever the luma."""
    stored = np.dstack([RAMP.astype(np.uint8) * 10, np.full_like(RAMP, 128), np.full_like(RAMP, 128)]).astype(np.uint8)
    path = write_dicom(tmp_path / "a.dcm", stored, PhotometricInterpretation="YBR_FULL")
    np.testing.assert_allclose(read_image(path).pixels, RAMP * 10.0, atol=1)


def test_one_frame_of_several_must_be_asked_for(tmp_path):
    path = write_dicom(tmp_path / "video.dcm", np.stack([RAMP, RAMP + 100]), NumberOfFrames=2)
    with pytest.raises(InputError, match="2 frames"):
        read_image(path)
    np.testing.assert_array_equal(read_image(path, frame=0).pixels, RAMP)
    np.testing.assert_array_equal(read_image(path, frame=1).pixels, RAMP + 100.0)
    with pytest.raises(InputError, match="no frame 2"):
        read_image(path, frame=2)


def region(delta_x: float, delta_y: float, units: int = 3, width: int = 4) -> Dataset:
    item = Dataset()
    item.PhysicalUnitsXDirection = item.PhysicalUnitsYDirection = units
    item.PhysicalDeltaX, item.PhysicalDeltaY = delta_x, delta_y
    item.RegionLocationMinX0 = item.RegionLocationMinY0 = 0
    item.RegionLocationMaxX1, item.RegionLocationMaxY1 = width, 3
    return item


def test_spacing_comes_from_the_best_source_and_an_argument_overrides_it(tmp_path):
    regions = [region(9, 9, units=4), region(0.5, 0.5, width=2), region(0.02, 0.01)]
    path = write_dicom(tmp_path / "us.dcm", RAMP, SequenceOfUltrasoundRegions=regions, ImagerPixelSpacing=[3, 3])
    assert read_image(path).spacing_mm == pytest.approx((0.1, 0.2)), "the largest region in cm; row is y"
    path = write_dicom(tmp_path / "ct.dcm", RAMP, PixelSpacing=[0.6, 0.7], SequenceOfUltrasoundRegions=regions)
    assert read_image(path).spacing_mm == pytest.approx((0.6, 0.7))
    assert read_image(path, spacing_mm=(2, 1)).spacing_mm == (2.0, 1.0)
    path = write_dicom(tmp_path / "mg.dcm", RAMP, ImagerPixelSpacing=[0.07, 0.08])
    assert read_image(path).spacing_mm == pytest.approx((0.07, 0.08))
    assert read_image(write_dicom(tmp_path / "zero.dcm", RAMP, PixelSpacing=[0, 0])).spacing_mm is None
    with pytest.raises(InputError, match="two positive numbers"):
        read_image(path, spacing_mm=(0, 1))


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_eight_and_sixteen_bit_pictures_keep_their_values(tmp_path, suffix):
    for stored in (RAMP.astype(np.uint8), RAMP * 5000):
        path = tmp_path / f"a.{suffix}"
        Image.fromarray(stored).save(path)
        image = read_image(path)
        np.testing.assert_array_equal(image.pixels, stored)
        assert image.spacing_mm is None and image.modality is None


def test_alpha_is_ignored_and_palettes_are_resolved(tmp_path):
    grey = RAMP.astype(np.uint8) * 20
    alpha = np.zeros_like(grey)
    Image.fromarray(np.dstack([grey, grey, grey, alpha])).save(tmp_path / "rgba.png")
    np.testing.assert_array_equal(read_image(tmp_path / "rgba.png").pixels, grey)
    Image.fromarray(np.dstack([grey, grey, grey])).quantize(16).save(tmp_path / "palette.png")
    np.testing.assert_array_equal(read_image(tmp_path / "palette.png").pixels, grey)


def test_mask_is_any_nonzero_color_but_not_alpha(tmp_path):
    marked = np.zeros((3, 4, 4), np.uint8)
    marked[..., 3] = 255
    marked[1, 2, 0] = 1
    Image.fromarray(marked).save(tmp_path / "mask.png")
    mask = read_mask(tmp_path / "mask.png", (3, 4))
    assert mask.dtype == bool and mask.sum() == 1 and mask[1, 2]
    with pytest.raises(InputError, match="3 x 4 pixels, its image 4 x 3"):
        read_mask(tmp_path / "mask.png", (4, 3))


def damaged(tmp_path: Path, kind: str) -> Path:
    path = tmp_path / f"bad.{'dcm' if 'dicom' in kind else 'png'}"
    if kind == "folder":
        path.mkdir()
    elif kind == "empty":
        path.touch()
    elif kind == "text":
        path.write_text("not an image")
    elif kind == "text dicom":
        path.write_text("not an image either, but long enough to hold the place of a preamble" * 5)
    elif kind == "truncated":
        noise = np.random.default_rng(0).integers(0, 255, (64, 64), dtype=np.uint8)
        Image.fromarray(noise).save(path)
        path.write_bytes(path.read_bytes()[:1000])
    elif kind == "truncated dicom":
        write_dicom(path, RAMP)
        path.write_bytes(path.read_bytes()[:-8])
    elif kind == "dicom without pixels":
        write_dicom(path, RAMP)
        dataset = pydicom.dcmread(path)
        del dataset.PixelData
        dataset.save_as(path)
    return path


@pytest.mark.parametrize(
    "kind",
    ["missing", "folder", "empty", "text", "text dicom", "truncated", "truncated dicom", "dicom without pixels"],
)
def test_a_bad_file_is_named_with_a_remedy(tmp_path, kind):
    path = damaged(tmp_path, kind)
    with pytest.raises(InputError) as caught:
        read_image(path)
    assert str(path) in str(caught.value)
    assert any(word in str(caught.value) for word in ("again", "correct", "name", "export"))


def test_real_mri_slices_of_duke():
    files = sorted(real_data("duke", "dicom_sample").glob("*.dcm"))
    images = [read_image(path) for path in files]
    assert len(images) == 3 and all(image.shape == (512, 512) and image.modality == "MR" for image in images)
    assert all(image.spacing_mm == pytest.approx((0.5859, 0.5859)) for image in images)


def test_real_breast_ultrasound_with_masks():
    folder = real_data("breast_lesions_usg") / "BrEaST-Lesions_USG-images_and_masks"
    for number in (1, 5, 100):
        image = read_image(folder / f"case{number:03d}.png")
        mask = read_mask(folder / f"case{number:03d}_tumor.png", image.shape)
        assert 0 < mask.mean() < 0.5 and 0 <= image.pixels.min() < image.pixels.max() <= 255


def test_real_ct_and_mammography_pictures():
    ct = read_image(next(iter(sorted(real_data("ct_deeplesion50").glob("test/*.jpg")))))
    assert ct.shape == (512, 512) and ct.pixels.max() <= 255
    mammogram = read_image(real_data("mammo_gmic") / "cropped/0_L-CC.png")
    assert mammogram.shape == (2944, 1920) and mammogram.pixels.max() == 65535
