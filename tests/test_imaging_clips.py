"""Clips: truth is what the test wrote; every frame must be what the reader of single images gives for it."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    RLELossless,
    UltrasoundMultiFrameImageStorage,
)

from alnlib.errors import InputError
from alnlib.imaging.clips import read_clip
from alnlib.imaging.read import read_image

GREY = np.random.default_rng(0).integers(0, 256, (5, 7, 9), dtype=np.uint8)
COLOR = np.random.default_rng(1).integers(0, 256, (5, 7, 9, 3), dtype=np.uint8)


def write_clip(path: Path, frames: np.ndarray, **attributes: object) -> Path:
    """frames: (T, rows, columns) or (T, rows, columns, 3)."""
    color = frames.ndim == 4
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = UltrasoundMultiFrameImageStorage
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID = "2.25.1"
    dataset.Modality = "US"
    dataset.SamplesPerPixel = 3 if color else 1
    if color:
        dataset.PlanarConfiguration = 0
    dataset.PhotometricInterpretation = "RGB" if color else "MONOCHROME2"
    dataset.NumberOfFrames, dataset.Rows, dataset.Columns = frames.shape[:3]
    bits = 8 * frames.dtype.itemsize
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = bits, bits, bits - 1, 0
    raw = frames.tobytes()
    dataset.PixelData = raw + b"\0" * (len(raw) % 2)
    dataset["PixelData"].VR = "OW" if bits == 16 else "OB"
    for name, value in attributes.items():
        setattr(dataset, name, value)
    dataset.save_as(path, enforce_file_format=True)
    return path


def test_grey_frames_stay_bytes(tmp_path):
    clip = read_clip(write_clip(tmp_path / "a.dcm", GREY))
    np.testing.assert_array_equal(clip.frames, GREY)
    assert clip.frames.dtype == np.uint8 and clip.shape == (5, 7, 9)
    assert clip.spacing_mm is None and clip.frame_time_ms is None and clip.key_frame is None
    assert repr(clip) == "Clip(a.dcm: 5 frames of 7 x 9, unknown spacing, unknown timing, no key frame)"


@pytest.mark.parametrize("frames", [GREY, COLOR, GREY.astype(np.uint16) * 200], ids=["grey", "color", "16 bits"])
@pytest.mark.parametrize(
    "attributes", [{}, {"RescaleSlope": "0.5", "RescaleIntercept": "-10"}, {"PhotometricInterpretation": "MONOCHROME1"}]
)
def test_each_frame_is_what_the_image_reader_gives(frames, attributes, tmp_path):
    if frames.ndim == 4 and attributes:
        attributes = {"PhotometricInterpretation": "YBR_FULL"}
    path = write_clip(tmp_path / "a.dcm", frames, **attributes)
    clip = read_clip(path)
    for index, frame in enumerate(clip.frames):
        np.testing.assert_array_equal(frame, read_image(path, frame=index).pixels)


def test_equal_channels_collapse_to_bytes_and_color_turns_to_luma(tmp_path):
    equal = np.repeat(GREY[..., None], 3, axis=3)
    clip = read_clip(write_clip(tmp_path / "a.dcm", equal))
    np.testing.assert_array_equal(clip.frames, GREY)
    assert clip.frames.dtype == np.uint8
    clip = read_clip(write_clip(tmp_path / "b.dcm", COLOR))
    np.testing.assert_allclose(clip.frames, COLOR @ [0.299, 0.587, 0.114], atol=1e-4)
    assert clip.frames.dtype == np.float32


@pytest.mark.parametrize(("syntax", "plugin"), [(RLELossless, "pydicom"), (JPEG2000Lossless, "pylibjpeg")])
def test_compressed_clips_are_decoded(syntax, plugin, tmp_path):
    frames = np.tile(GREY, (1, 8, 8))
    dataset = pydicom.dcmread(write_clip(tmp_path / "a.dcm", frames))
    dataset.compress(syntax, encoding_plugin=plugin, generate_instance_uid=False)
    dataset.save_as(tmp_path / "compressed.dcm", enforce_file_format=True)
    np.testing.assert_array_equal(read_clip(tmp_path / "compressed.dcm").frames, frames)


def test_jpeg_color_clips_as_ultrasound_machines_store_them(tmp_path):
    """Smooth grey frames as YBR_FULL_422 JPEG: lossy, so only near to what went in."""
    ramp = np.linspace(30, 200, 64)[None, :] * np.ones((48, 1))
    frames = [np.repeat((ramp + 10 * index).astype(np.uint8)[..., None], 3, axis=2) for index in range(3)]
    encoded = []
    for frame in frames:
        buffer = io.BytesIO()
        Image.fromarray(frame).save(buffer, "JPEG", quality=95, subsampling="4:2:2")
        encoded.append(buffer.getvalue())
    dataset = pydicom.dcmread(write_clip(tmp_path / "a.dcm", np.stack(frames)))
    dataset.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
    dataset.PhotometricInterpretation = "YBR_FULL_422"
    dataset.PixelData = encapsulate(encoded)
    dataset["PixelData"].is_undefined_length = True
    dataset.save_as(tmp_path / "jpeg.dcm", enforce_file_format=True)
    clip = read_clip(tmp_path / "jpeg.dcm")
    assert clip.shape == (3, 48, 64)
    assert np.abs(clip.frames.astype(float) - np.stack(frames)[..., 0]).max() < 4


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        ({"FrameTime": "40"}, 40.0),
        ({"FrameTimeVector": ["0", "30", "33", "90"]}, 33.0),
        ({"CineRate": 25}, 40.0),
        ({"RecommendedDisplayFrameRate": 20}, 50.0),
        ({"FrameTime": "0", "CineRate": 10}, 100.0),
        ({"FrameTime": "50", "CineRate": 10}, 50.0),
        ({"FrameTimeVector": ["0"]}, None),
        ({"FrameTime": None}, None),
    ],
)
def test_time_from_frame_to_frame(attributes, expected, tmp_path):
    assert read_clip(write_clip(tmp_path / "a.dcm", GREY, **attributes)).frame_time_ms == expected


@pytest.mark.parametrize(("number", "expected"), [(1, 0), (5, 4), (6, None), (0, None)])
def test_the_key_frame_is_counted_from_zero(number, expected, tmp_path):
    clip = read_clip(write_clip(tmp_path / "a.dcm", GREY, RepresentativeFrameNumber=number))
    assert clip.key_frame == expected


def test_spacing_of_the_file_and_given_spacing(tmp_path):
    region = Dataset()
    region.PhysicalUnitsXDirection = region.PhysicalUnitsYDirection = 3
    region.PhysicalDeltaX, region.PhysicalDeltaY = 0.02, 0.01
    region.RegionLocationMaxX1, region.RegionLocationMaxY1 = 8, 6
    path = write_clip(tmp_path / "a.dcm", GREY, SequenceOfUltrasoundRegions=[region])
    assert read_clip(path).spacing_mm == pytest.approx((0.1, 0.2))
    assert read_clip(path, (0.3, 0.4)).spacing_mm == (0.3, 0.4)
    with pytest.raises(InputError, match="two positive numbers"):
        read_clip(path, (0.3, -0.4))


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ("missing", "no such file"),
        ("empty", "empty"),
        ("picture", "multi-frame DICOM"),
        ("one frame", "single image"),
        ("truncated", "truncated"),
        ("header only", "holds no pixels"),
    ],
)
def test_a_bad_file_is_named_with_the_remedy(how, reason, tmp_path):
    path = tmp_path / "a.dcm"
    if how == "empty":
        path.write_bytes(b"")
    elif how == "picture":
        path = tmp_path / "a.png"
        Image.fromarray(GREY[0]).save(path)
    elif how == "one frame":
        write_clip(path, GREY[:1])
    elif how == "truncated":
        write_clip(path, GREY, NumberOfFrames=6)
    elif how == "header only":
        dataset = pydicom.dcmread(write_clip(path, GREY))
        del dataset.PixelData
        dataset.save_as(path, enforce_file_format=True)
    with pytest.raises(InputError, match=reason) as caught:
        read_clip(path)
    assert str(path) in str(caught.value)
