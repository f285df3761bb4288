"""Reading single images: truth is what the test itself wrote, and for the public files their documentation (data/README.md)."""

from __future__ import annotations

import io
import subprocess
import sys
import warnings
from pathlib import Path

import gdcm
import numpy as np
import pydicom
import pytest
import SimpleITK
import tifffile
from PIL import Image
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    RLELossless,
    generate_uid,
)

from alnlib.errors import InputError
from alnlib.imaging.read import read_image, read_mask
from tests.real_data import real_data

RAMP = np.arange(12, dtype=np.uint16).reshape(3, 4)


def write_dicom(path: Path, stored: np.ndarray, syntax: UID = ExplicitVRLittleEndian, **attributes: object) -> Path:
    """stored: (rows, columns), (frames, rows, columns) or (..., 3); PlanarConfiguration=1 is written plane by plane."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = syntax
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
    if color and dataset.PlanarConfiguration:
        stored = np.moveaxis(stored, -1, -3)
    raw = stored.astype(stored.dtype.newbyteorder("<" if syntax.is_little_endian else ">")).tobytes()
    dataset.PixelData = raw + b"\0" * (len(raw) % 2)
    dataset["PixelData"].VR = "OW" if bits == 16 else "OB"
    dataset.save_as(path, enforce_file_format=True)
    return path


def test_dicom_rescale_gives_hounsfield_units(tmp_path):
    path = write_dicom(tmp_path / "ct.dcm", RAMP, RescaleSlope="2", RescaleIntercept="-1024", Modality="CT")
    image = read_image(path)
    np.testing.assert_array_equal(image.pixels, 2.0 * RAMP - 1024)
    assert image.pixels.dtype == np.float32 and image.modality == "CT" and image.pixels.shape == (3, 4)


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
    gray = RAMP.astype(np.uint8)
    np.testing.assert_array_equal(read_image(write_dicom(tmp_path / "a.dcm", np.dstack([gray] * 3))).pixels, gray)
    red = np.dstack([gray * 20, gray * 0, gray * 0])
    np.testing.assert_allclose(read_image(write_dicom(tmp_path / "b.dcm", red)).pixels, 0.299 * 20 * gray, rtol=1e-6)


def test_color_dicom_stored_as_ybr_is_converted_first(tmp_path):
    """Neutral chroma (128) is gray, whatever the luma."""
    stored = np.dstack([RAMP.astype(np.uint8) * 10, np.full_like(RAMP, 128), np.full_like(RAMP, 128)]).astype(np.uint8)
    path = write_dicom(tmp_path / "a.dcm", stored, PhotometricInterpretation="YBR_FULL")
    np.testing.assert_allclose(read_image(path).pixels, RAMP * 10.0, atol=1)


def test_several_frames_are_no_single_image(tmp_path):
    path = write_dicom(tmp_path / "video.dcm", np.stack([RAMP, RAMP + 100]), NumberOfFrames=2)
    with pytest.raises(InputError, match="2 frames"):
        read_image(path)


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


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_eight_and_sixteen_bit_pictures_keep_their_values(tmp_path, suffix):
    for stored in (RAMP.astype(np.uint8), RAMP * 5000):
        path = tmp_path / f"a.{suffix}"
        Image.fromarray(stored).save(path)
        image = read_image(path)
        np.testing.assert_array_equal(image.pixels, stored)
        assert image.spacing_mm is None and image.modality is None


def test_alpha_is_ignored_and_palettes_are_resolved(tmp_path):
    gray = RAMP.astype(np.uint8) * 20
    alpha = np.zeros_like(gray)
    Image.fromarray(np.dstack([gray, gray, gray, alpha])).save(tmp_path / "rgba.png")
    np.testing.assert_array_equal(read_image(tmp_path / "rgba.png").pixels, gray)
    Image.fromarray(np.dstack([gray, gray, gray])).quantize(16).save(tmp_path / "palette.png")
    np.testing.assert_array_equal(read_image(tmp_path / "palette.png").pixels, gray)


def test_mask_is_any_nonzero_color_but_not_alpha(tmp_path):
    marked = np.zeros((3, 4, 4), np.uint8)
    marked[..., 3] = 255
    marked[1, 2, 0] = 1
    Image.fromarray(marked).save(tmp_path / "mask.png")
    mask = read_mask(tmp_path / "mask.png", (3, 4))
    assert mask.dtype == bool and mask.sum() == 1 and mask[1, 2]
    with pytest.raises(InputError, match="3 x 4 pixels, its image 4 x 3"):
        read_mask(tmp_path / "mask.png", (4, 3))


LARGE = np.add.outer(37 * np.arange(32), 11 * np.arange(48))
BYTES = (LARGE % 256).astype(np.uint8)
TWELVE = {"BitsStored": 12, "HighBit": 11}
GRAYS = {
    "8 bits": (BYTES, {}),
    "8 bits signed": ((BYTES.astype(int) - 128).astype(np.int8), {}),
    "12 bits": ((2 * LARGE).astype(np.uint16), TWELVE),
    "12 bits signed": ((2 * LARGE - 1500).astype(np.int16), TWELVE),
    "16 bits": ((30 * LARGE).astype(np.uint16), {}),
    "16 bits signed": ((10 * LARGE - 9000).astype(np.int16), {}),
}
COLOR = np.stack([BYTES, BYTES[::-1], 255 - BYTES], axis=-1)
LUMA = COLOR @ [0.299, 0.587, 0.114]
NATIVE = [ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian]
GDCM = {
    "JPEG lossless": gdcm.TransferSyntax.JPEGLosslessProcess14,
    "JPEG lossless SV1": gdcm.TransferSyntax.JPEGLosslessProcess14_1,
    "JPEG-LS": gdcm.TransferSyntax.JPEGLSLossless,
    "JPEG 2000": gdcm.TransferSyntax.JPEG2000Lossless,
}


def rewritten_by_gdcm(path: Path, syntax: int) -> Path:
    """Compressed by another library than the one that reads the header."""
    reader = gdcm.ImageReader()
    reader.SetFileName(str(path))
    assert reader.Read()
    change = gdcm.ImageChangeTransferSyntax()
    change.SetTransferSyntax(gdcm.TransferSyntax(syntax))
    change.SetInput(reader.GetImage())
    assert change.Change()
    writer = gdcm.ImageWriter()
    writer.SetFile(reader.GetFile())
    writer.SetImage(change.GetOutput())
    writer.SetFileName(str(path))
    assert writer.Write()
    return path


def rewritten_by_pydicom(path: Path, syntax: UID, plugin: str, **attributes: object) -> Path:
    dataset = pydicom.dcmread(path)
    for name, value in attributes.items():
        setattr(dataset, name, value)
    dataset.compress(syntax, encoding_plugin=plugin)
    dataset.save_as(path, enforce_file_format=True)
    return path


def compressed(path: Path, how: str) -> Path:
    if how == "RLE":
        return rewritten_by_pydicom(path, RLELossless, "pydicom")
    return rewritten_by_gdcm(path, GDCM[how])


@pytest.mark.parametrize("bits", GRAYS)
@pytest.mark.parametrize("syntax", NATIVE, ids=lambda uid: uid.name)
def test_gray_of_any_depth_and_byte_order_is_what_was_stored(bits, syntax, tmp_path):
    stored, attributes = GRAYS[bits]
    pixels = read_image(write_dicom(tmp_path / "a.dcm", stored, syntax, **attributes)).pixels
    np.testing.assert_array_equal(pixels, stored)


@pytest.mark.parametrize("bits", GRAYS)
@pytest.mark.parametrize("how", ["RLE", *GDCM])
def test_lossless_compression_of_gray_returns_what_was_stored(how, bits, tmp_path):
    stored, attributes = GRAYS[bits]
    path = compressed(write_dicom(tmp_path / "a.dcm", stored, **attributes), how)
    np.testing.assert_array_equal(read_image(path).pixels, stored)


@pytest.mark.parametrize(
    ("how", "planes"), [("RLE", 0), *((how, planes) for how in ("not", *GDCM) for planes in (0, 1))]
)
def test_color_is_read_pixel_by_pixel_and_plane_by_plane(how, planes, tmp_path):
    """RLE is written as planes whatever the input."""
    path = write_dicom(tmp_path / "a.dcm", COLOR, PlanarConfiguration=planes)
    path = path if how == "not" else compressed(path, how)
    np.testing.assert_allclose(read_image(path).pixels, LUMA, atol=1e-4)


def test_sixteen_bit_color_and_reversible_jpeg_2000_color(tmp_path):
    path = write_dicom(tmp_path / "a.dcm", COLOR.astype(np.uint16) * 257)
    np.testing.assert_allclose(read_image(path).pixels, 257 * LUMA, rtol=1e-5)
    path = write_dicom(tmp_path / "b.dcm", COLOR)
    rewritten_by_pydicom(path, JPEG2000Lossless, "pylibjpeg", PhotometricInterpretation="YBR_RCT")
    np.testing.assert_allclose(read_image(path).pixels, LUMA, atol=1e-4)


SMOOTH = np.stack([60 + LARGE // 16, 60 + LARGE // 20, 200 - LARGE // 16], axis=-1).astype(np.uint8)


def ybr_full(color: np.ndarray) -> np.ndarray:
    """DICOM PS3.3 C.7.6.3.1.2."""
    matrix = [[0.299, 0.587, 0.114], [-0.1687, -0.3313, 0.5], [0.5, -0.4187, -0.0813]]
    return np.rint(color @ np.transpose(matrix) + [0, 128, 128]).astype(np.uint8)


@pytest.mark.parametrize("planes", [0, 1])
def test_uncompressed_ybr_turns_to_the_same_gray_as_its_rgb(planes, tmp_path):
    attributes = {"PhotometricInterpretation": "YBR_FULL", "PlanarConfiguration": planes}
    path = write_dicom(tmp_path / "a.dcm", ybr_full(SMOOTH), **attributes)
    np.testing.assert_allclose(read_image(path).pixels, SMOOTH @ [0.299, 0.587, 0.114], atol=1.5)


def test_uncompressed_ybr_with_half_the_chroma(tmp_path):
    """YBR_FULL_422 is stored Y Y Cb Cr for each pair of pixels of a row."""
    y, blue, red = np.moveaxis(ybr_full(SMOOTH), -1, 0)
    path = write_dicom(tmp_path / "a.dcm", SMOOTH, PhotometricInterpretation="YBR_FULL_422")
    dataset = pydicom.dcmread(path)
    dataset.PixelData = np.stack([y[:, ::2], y[:, 1::2], blue[:, ::2], red[:, ::2]], axis=-1).tobytes()
    dataset.save_as(path)
    np.testing.assert_allclose(read_image(path).pixels, SMOOTH @ [0.299, 0.587, 0.114], atol=2.5)


def with_jpeg(path: Path, encoded: bytes, **attributes: object) -> Path:
    dataset = pydicom.dcmread(path)
    dataset.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
    for name, value in attributes.items():
        setattr(dataset, name, value)
    dataset.PixelData = encapsulate([encoded])
    dataset["PixelData"].is_undefined_length = True
    dataset.save_as(path, enforce_file_format=True)
    return path


def jpeg(pixels: np.ndarray, **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=98, **options)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("photometric", "subsampling"),
    [("YBR_FULL_422", "4:2:2"), ("YBR_FULL", "4:4:4"), ("YBR_FULL", "4:2:0"), ("RGB", "4:2:2")],
)
def test_baseline_jpeg_color_even_where_its_header_calls_it_rgb(photometric, subsampling, tmp_path):
    path = write_dicom(tmp_path / "a.dcm", SMOOTH)
    with_jpeg(path, jpeg(SMOOTH, subsampling=subsampling), PhotometricInterpretation=photometric)
    np.testing.assert_allclose(read_image(path).pixels, SMOOTH @ [0.299, 0.587, 0.114], atol=5)


@pytest.mark.parametrize(("photometric", "expected"), [("MONOCHROME2", 1), ("MONOCHROME1", -1)])
def test_baseline_jpeg_gray(photometric, expected, tmp_path):
    gray = SMOOTH[..., 0]
    path = with_jpeg(write_dicom(tmp_path / "a.dcm", gray), jpeg(gray), PhotometricInterpretation=photometric)
    np.testing.assert_allclose(read_image(path).pixels, gray if expected == 1 else 255.0 - gray, atol=4)


def test_extended_jpeg_of_twelve_bits(tmp_path):
    """GDCM writes it; and two files of pydicom with the pixel values of its own tests (pixels_reference.py, JPGE)."""
    gray = (600 + 2 * LARGE).astype(np.uint16)
    path = rewritten_by_gdcm(
        write_dicom(tmp_path / "a.dcm", gray, **TWELVE), gdcm.TransferSyntax.JPEGExtendedProcess2_4
    )
    np.testing.assert_allclose(read_image(path).pixels, gray, atol=16)
    for name in ("JPGExtended.dcm", "JPEG-lossy.dcm"):
        pixels = read_image(get_testdata_file(name)).pixels
        assert pixels.shape == (1024, 256) and (pixels[420, 140], pixels[230, 120]) == (244, 95)


@pytest.mark.parametrize("photometric", ["YBR_PARTIAL_420", "YBR_RCT", "HSV", "CMYK"])
def test_colors_that_would_be_read_wrongly_are_refused(photometric, tmp_path):
    path = write_dicom(tmp_path / "a.dcm", COLOR, PhotometricInterpretation=photometric)
    with pytest.raises(InputError, match=rf"a\.dcm: its colors are {photometric} .*convert it to RGB"):
        read_image(path)


@pytest.mark.parametrize(("entries", "bits"), [(256, 16), (257, 16), (1, 8)])
def test_palettes_of_eight_bit_colors_give_eight_bits(entries, bits, tmp_path):
    """The palette turns the picture over: stored 0 is white."""
    table = ((255 - np.arange(256)) * entries).astype(np.uint16 if bits == 16 else np.uint8).tobytes()
    attributes = {"PhotometricInterpretation": "PALETTE COLOR"}
    for color in ("Red", "Green", "Blue"):
        attributes[f"{color}PaletteColorLookupTableDescriptor"] = [256, 0, bits]
        attributes[f"{color}PaletteColorLookupTableData"] = table
    np.testing.assert_array_equal(
        read_image(write_dicom(tmp_path / "a.dcm", BYTES, **attributes)).pixels, 255.0 - BYTES
    )


def test_overlays_in_unused_bits_are_left_out(tmp_path):
    stored, attributes = GRAYS["12 bits"]
    marked = stored | np.where(LARGE % 3 == 0, 0x8000, 0).astype(np.uint16)
    np.testing.assert_array_equal(read_image(write_dicom(tmp_path / "a.dcm", marked, **attributes)).pixels, stored)
    path = write_dicom(tmp_path / "b.dcm", stored, BitsStored=12, HighBit=15)
    with pytest.raises(InputError, match="12 bits end at bit 15"):
        read_image(path)


def test_a_lookup_table_stands_in_for_the_rescale(tmp_path):
    item = Dataset()
    item.LUTDescriptor, item.LUTData, item.ModalityLUTType = [256, 0, 16], (np.arange(256) ** 2).tolist(), "US"
    item["LUTDescriptor"].VR, item["LUTData"].VR = "US", "US"
    path = write_dicom(tmp_path / "a.dcm", BYTES, ModalityLUTSequence=[item])
    np.testing.assert_array_equal(read_image(path).pixels, BYTES.astype(float) ** 2)


@pytest.mark.parametrize(("padding", "limit"), [(-2000, None), (63536, None), (-2000, -1900), (-1900, -2000)])
def test_padding_around_a_ct_becomes_air(padding, limit, tmp_path):
    """63536 is -2000 written as an unsigned number, a common mistake. Values under -1024 HU are padding, declared or not."""
    hu = np.clip(2 * LARGE - 1000, -1000, 3000).astype(np.int16)
    expected = hu.copy()
    hu[:4], hu[4:6] = -2000, -1950
    expected[:6] = -1024
    attributes = {"PixelPaddingValue": padding, "RescaleSlope": 1, "RescaleIntercept": 0, "Modality": "CT"}
    path = write_dicom(tmp_path / "a.dcm", hu)
    dataset = pydicom.dcmread(path)
    for name, value in attributes.items():
        if name == "PixelPaddingValue":
            dataset.add_new("PixelPaddingValue", "US" if value > 0 else "SS", value)
        else:
            setattr(dataset, name, value)
    if limit is not None:
        dataset.add_new("PixelPaddingRangeLimit", "SS", limit)
    dataset.save_as(path)
    np.testing.assert_array_equal(read_image(path).pixels, expected)


def test_padding_elsewhere_becomes_the_darkest_value_even_turned_over(tmp_path):
    """A mammogram with white = 0: padding 4095 is black already; with padding 0 it would be the brightest of all."""
    stored = np.clip(GRAYS["12 bits"][0], 100, 3000)
    stored[:5] = 0
    attributes = {**TWELVE, "Modality": "MG", "PhotometricInterpretation": "MONOCHROME1", "PixelPaddingValue": 0}
    path = write_dicom(tmp_path / "a.dcm", stored, **attributes)
    pixels = read_image(path).pixels
    np.testing.assert_array_equal(pixels[5:], 4095.0 - stored[5:])
    assert (pixels[:5] == pixels[5:].min()).all()
    mask = write_dicom(tmp_path / "mask.dcm", (BYTES > 200).astype(np.uint8), PixelPaddingValue=0)
    np.testing.assert_array_equal(read_mask(mask), BYTES > 200)


@pytest.mark.parametrize("syntax", NATIVE[:3], ids=lambda uid: uid.name)
@pytest.mark.parametrize("name", ["a.dcm", "IM0001", "slice.bin"])
def test_a_file_without_preamble_is_known_by_its_first_element(name, syntax, tmp_path):
    stored = GRAYS["16 bits"][0]
    dataset = pydicom.dcmread(write_dicom(tmp_path / "whole", stored, syntax, Modality="MR"))
    buffer = DicomBytesIO()
    buffer.is_little_endian, buffer.is_implicit_VR = syntax.is_little_endian, syntax.is_implicit_VR
    write_dataset(buffer, dataset)
    (tmp_path / name).write_bytes(buffer.getvalue())
    image = read_image(tmp_path / name)
    np.testing.assert_array_equal(image.pixels, stored)
    assert image.modality == "MR"


def test_a_file_that_states_no_transfer_syntax(tmp_path):
    dataset = pydicom.dcmread(write_dicom(tmp_path / "a.dcm", RAMP))
    del dataset.file_meta.TransferSyntaxUID
    dataset.save_as(tmp_path / "a.dcm", implicit_vr=False, little_endian=True, enforce_file_format=False)
    np.testing.assert_array_equal(read_image(tmp_path / "a.dcm").pixels, RAMP)


def test_floating_point_pixels(tmp_path):
    """ADC maps: Float Pixel Data. A hole in them is an error."""
    values = (RAMP / 7).astype(np.float32)
    for at, value in ((None, 0), ((1, 2), np.nan)):
        dataset = pydicom.dcmread(write_dicom(tmp_path / "a.dcm", RAMP))
        del dataset.PixelData
        if at:
            values[at] = value
        dataset.FloatPixelData, dataset.BitsAllocated = values.tobytes(), 32
        dataset.save_as(tmp_path / "a.dcm")
        if at is None:
            np.testing.assert_array_equal(read_image(tmp_path / "a.dcm").pixels, values)
    with pytest.raises(InputError, match="1 of 12 pixels are not numbers"):
        read_image(tmp_path / "a.dcm")


@pytest.mark.parametrize("how", ["not", "RLE", *GDCM])
def test_a_file_cut_off_in_its_pixels_is_an_error(how, tmp_path):
    noise = np.random.default_rng(0).integers(0, 4096, (64, 64), dtype=np.uint16)
    path = write_dicom(tmp_path / "a.dcm", noise, **TWELVE)
    if how != "not":
        compressed(path, how)
    path.write_bytes(path.read_bytes()[:-3000])
    with pytest.raises(InputError, match=r"a\.dcm.*truncated.*fetch or export it again"):
        read_image(path)


@pytest.mark.parametrize("how", ["RLE", "JPEG baseline", "JPEG extended", *GDCM])
def test_a_code_stream_cut_off_inside_a_whole_file_is_an_error(how, tmp_path):
    """As an interrupted transfer to the archive leaves it: the DICOM elements are complete, the frame is not."""
    noise = np.random.default_rng(0).integers(0, 256, (64, 64)).astype(np.uint16)
    if how == "JPEG baseline":
        path = write_dicom(tmp_path / "a.dcm", noise.astype(np.uint8))
        with_jpeg(path, jpeg(noise.astype(np.uint8)))
    else:
        path = write_dicom(tmp_path / "a.dcm", noise, **TWELVE)
        syntax = gdcm.TransferSyntax.JPEGExtendedProcess2_4
        path = rewritten_by_gdcm(path, syntax) if how == "JPEG extended" else compressed(path, how)
    dataset = pydicom.dcmread(path)
    frame = pydicom.encaps.get_frame(dataset.PixelData, 0, number_of_frames=1)
    dataset.PixelData = encapsulate([frame[: len(frame) // 4 * 2]])
    dataset.save_as(path)
    with pytest.raises(InputError, match=r"a\.dcm.*truncated.*fetch or export it again"):
        read_image(path)


def test_a_damaged_header_value_is_named(tmp_path):
    """pydicom's public badVR.dcm has `1A` as its number of frames; its warning, which quotes values, is not heard."""
    path = get_testdata_file("badVR.dcm")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(InputError, match="badVR.dcm: the DICOM header"):
            read_image(path)


@pytest.mark.parametrize("element", ["BitsStored", "PhotometricInterpretation", "Rows"])
def test_a_missing_header_element_is_named(element, tmp_path):
    dataset = pydicom.dcmread(write_dicom(tmp_path / "a.dcm", RAMP))
    del dataset[element]
    dataset.save_as(tmp_path / "a.dcm")
    with pytest.raises(InputError, match=r"a\.dcm: the DICOM image .*cannot be read"):
        read_image(tmp_path / "a.dcm")


def test_damaged_streams_that_would_end_the_process_are_errors(tmp_path):
    """Found by changing bytes at random: a color transform 100 aborts GDCM, a damaged segment panics pylibjpeg-rle."""
    for name, at, new in (("SC_rgb_jpeg_gdcm.dcm", 17, b"d"), ("MR_small_RLE.dcm", 100, bytes([129]) * 400)):
        dataset = pydicom.dcmread(get_testdata_file(name))
        frame = bytearray(pydicom.encaps.get_frame(dataset.PixelData, 0, number_of_frames=1))
        frame[at : at + len(new)] = new  # 17: after SOI, marker, length and the name Adobe with its flags
        dataset.PixelData = encapsulate([bytes(frame)])
        dataset.save_as(tmp_path / name)
        with pytest.raises(InputError, match=rf"{name}: the DICOM image .*cannot be read"):
            read_image(tmp_path / name)


SIXTEEN = (LARGE * 30).astype(np.uint16)
SIXTEEN_COLOR = np.stack([SIXTEEN, SIXTEEN[::-1], 65535 - SIXTEEN], axis=-1)


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_sixteen_bits_in_each_of_three_channels_are_kept(suffix, tmp_path):
    """Mammograms saved as color by viewers. Written by SimpleITK; Pillow alone would keep the upper 8 bits."""
    for channels, expected in (
        (np.dstack([SIXTEEN] * 3), SIXTEEN),
        (SIXTEEN_COLOR, SIXTEEN_COLOR @ [0.299, 0.587, 0.114]),
    ):
        SimpleITK.WriteImage(SimpleITK.GetImageFromArray(channels, isVector=True), str(tmp_path / f"a.{suffix}"))
        np.testing.assert_allclose(read_image(tmp_path / f"a.{suffix}").pixels, expected, rtol=1e-6)
    path = tmp_path / f"a.{suffix}"
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    with pytest.raises(InputError, match=rf"a\.{suffix}.*truncated"):
        read_image(path)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("kind", [np.uint8, np.int8, np.uint16, np.int16, np.int32, np.float32])
def test_tiff_of_any_number_type_and_byte_order(kind, order, tmp_path):
    stored = (LARGE / 13 - (20 if np.dtype(kind).kind != "u" else 0)).astype(kind)
    tifffile.imwrite(tmp_path / "a.tif", stored, byteorder=order)
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif").pixels, stored)


@pytest.mark.parametrize("stored", [BYTES, SIXTEEN], ids=["8 bits", "16 bits"])
def test_tiff_in_which_zero_is_white_is_turned_over(stored, tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", stored, photometric="miniswhite")
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif").pixels, float(np.iinfo(stored.dtype).max) - stored)


@pytest.mark.parametrize(
    ("values", "options", "reason"),
    [
        (SIXTEEN.astype(float), {}, "8 or 16 bits"),
        (np.moveaxis(SIXTEEN_COLOR, -1, 0), {"photometric": "rgb", "planarconfig": "separate"}, "plane by plane"),
        (np.full((4, 4), np.nan, np.float32), {}, "16 of 16 pixels are not numbers"),
        (np.stack([BYTES, BYTES]), {}, "holds 2 frames"),
    ],
)
def test_tiff_that_is_not_read_says_what_to_do(values, options, reason, tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", values, **options)
    with pytest.raises(InputError, match=rf"a\.tif.*{reason}"):
        read_image(tmp_path / "a.tif")


def test_color_doppler_keeps_its_gray_surroundings(tmp_path):
    """Only the pixels under the color box change; their luma lies between the darkest and the brightest channel."""
    doppler = np.dstack([BYTES] * 3)
    doppler[8:16, 10:20] = (200, 40, 0)
    pixels = read_image(write_dicom(tmp_path / "a.dcm", doppler)).pixels
    box = np.zeros(BYTES.shape, bool)
    box[8:16, 10:20] = True
    np.testing.assert_allclose(pixels[~box], BYTES[~box], atol=1e-4)
    np.testing.assert_allclose(pixels[box], 0.299 * 200 + 0.587 * 40, rtol=1e-6)


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
    assert len(images) == 3 and all(image.pixels.shape == (512, 512) and image.modality == "MR" for image in images)
    assert all(image.spacing_mm == pytest.approx((0.5859, 0.5859)) for image in images)


def test_real_breast_ultrasound_with_masks():
    folder = real_data("breast_lesions_usg") / "BrEaST-Lesions_USG-images_and_masks"
    for number in (1, 5, 100):
        image = read_image(folder / f"case{number:03d}.png")
        mask = read_mask(folder / f"case{number:03d}_tumor.png", image.pixels.shape)
        assert 0 < mask.mean() < 0.5 and 0 <= image.pixels.min() < image.pixels.max() <= 255


def test_real_ct_and_mammography_pictures():
    ct = read_image(next(iter(sorted(real_data("ct_deeplesion50").glob("test/*.jpg")))))
    assert ct.pixels.shape == (512, 512) and ct.pixels.max() <= 255
    mammogram = read_image(real_data("mammo_gmic") / "cropped/0_L-CC.png")
    assert mammogram.pixels.shape == (2944, 1920) and mammogram.pixels.max() == 65535


def test_a_png_can_be_written_after_an_image_was_read(tmp_path):
    """GDCM brings a zlib of its own; served to Pillow, it ended the process (double free)."""
    code = "from alnlib.imaging.read import read_image; from PIL import Image; import numpy, sys; "
    code += "Image.fromarray(numpy.arange(280_000, dtype='uint8').reshape(350, 800)).save(sys.argv[1])"
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "a.png")], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
