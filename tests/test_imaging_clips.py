"""Clips: truth is what the test wrote; every frame must be what the reader of single images gives for it.

Videos are written by FFmpeg through PyAV: with a lossless codec what is read back is equal, with a lossy one near.
"""

from __future__ import annotations

import io
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    MPEG2MPML,
    MPEG4HP41,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    RLELossless,
    UltrasoundMultiFrameImageStorage,
)

from alnlib.errors import InputError
from alnlib.imaging.clips import read_clip
from alnlib.imaging.read import dicom_pixels, read_dicom

GRAY = np.random.default_rng(0).integers(0, 256, (5, 7, 9), dtype=np.uint8)
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


def test_gray_frames_stay_bytes(tmp_path):
    clip = read_clip(write_clip(tmp_path / "a.dcm", GRAY))
    np.testing.assert_array_equal(clip.frames, GRAY)
    assert clip.frames.dtype == np.uint8 and clip.frames.shape == (5, 7, 9)
    assert clip.spacing_mm is None and clip.frame_time_ms is None and clip.key_frame is None


@pytest.mark.parametrize("frames", [GRAY, COLOR, GRAY.astype(np.uint16) * 200], ids=["gray", "color", "16 bits"])
@pytest.mark.parametrize(
    "attributes", [{}, {"RescaleSlope": "0.5", "RescaleIntercept": "-10"}, {"PhotometricInterpretation": "MONOCHROME1"}]
)
def test_each_frame_is_what_the_image_reader_gives(frames, attributes, tmp_path):
    if frames.ndim == 4 and attributes:
        attributes = {"PhotometricInterpretation": "YBR_FULL"}
    path = write_clip(tmp_path / "a.dcm", frames, **attributes)
    clip = read_clip(path)
    for index, frame in enumerate(clip.frames):
        np.testing.assert_array_equal(frame, dicom_pixels(read_dicom(path), path, index))


def test_equal_channels_collapse_to_bytes_and_color_turns_to_luma(tmp_path):
    equal = np.repeat(GRAY[..., None], 3, axis=3)
    clip = read_clip(write_clip(tmp_path / "a.dcm", equal))
    np.testing.assert_array_equal(clip.frames, GRAY)
    assert clip.frames.dtype == np.uint8
    clip = read_clip(write_clip(tmp_path / "b.dcm", COLOR))
    np.testing.assert_allclose(clip.frames, COLOR @ [0.299, 0.587, 0.114], atol=1e-4)
    assert clip.frames.dtype == np.float32


@pytest.mark.parametrize(("syntax", "plugin"), [(RLELossless, "pydicom"), (JPEG2000Lossless, "pylibjpeg")])
def test_compressed_clips_are_decoded(syntax, plugin, tmp_path):
    frames = np.tile(GRAY, (1, 8, 8))
    dataset = pydicom.dcmread(write_clip(tmp_path / "a.dcm", frames))
    dataset.compress(syntax, encoding_plugin=plugin, generate_instance_uid=False)
    dataset.save_as(tmp_path / "compressed.dcm", enforce_file_format=True)
    np.testing.assert_array_equal(read_clip(tmp_path / "compressed.dcm").frames, frames)


def test_jpeg_color_clips_as_ultrasound_machines_store_them(tmp_path):
    """Smooth gray frames as YBR_FULL_422 JPEG: lossy, so only near to what went in."""
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
    assert clip.frames.shape == (3, 48, 64)
    assert np.abs(clip.frames.astype(float) - np.stack(frames)[..., 0]).max() < 4


@pytest.mark.parametrize(
    ("syntax", "name", "codec"), [(MPEG4HP41, "a.mp4", "libx264"), (MPEG2MPML, "a.mpg", "mpeg2video")]
)
def test_a_video_stream_inside_a_dicom_file(syntax, name, codec, tmp_path):
    """PS3.5 8.2.5 to 8.2.8: one stream for all frames. Timing and spacing are those of the header."""
    frames = smooth(25)
    stream = write_video(tmp_path / name, frames, codec, "yuv420p").read_bytes()
    for cut in (None, len(stream) // 2):
        dataset = pydicom.dcmread(write_clip(tmp_path / "a.dcm", frames, FrameTime="50", PixelSpacing=["0.2", "0.3"]))
        dataset.file_meta.TransferSyntaxUID = syntax
        dataset.PhotometricInterpretation, dataset.SamplesPerPixel = "YBR_PARTIAL_420", 3
        dataset.PlanarConfiguration = 0
        dataset.PixelData = encapsulate([stream[:cut]], fragments_per_frame=1)
        dataset["PixelData"].is_undefined_length = True
        dataset.save_as(tmp_path / "a.dcm", enforce_file_format=True)
        if cut is None:
            clip = read_clip(tmp_path / "a.dcm")
            assert clip.frames.shape == frames.shape and np.abs(clip.frames.astype(float) - frames).mean() < 2.5
            assert clip.frame_time_ms == 50 and clip.spacing_mm == (0.2, 0.3)
    with pytest.raises(InputError, match=r"a\.dcm.*(truncated|damaged).*again"):
        read_clip(tmp_path / "a.dcm")


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
    assert read_clip(write_clip(tmp_path / "a.dcm", GRAY, **attributes)).frame_time_ms == expected


@pytest.mark.parametrize(("number", "expected"), [(1, 0), (5, 4), (6, None), (0, None)])
def test_the_key_frame_is_counted_from_zero(number, expected, tmp_path):
    clip = read_clip(write_clip(tmp_path / "a.dcm", GRAY, RepresentativeFrameNumber=number))
    assert clip.key_frame == expected


def test_spacing_of_the_file_and_given_spacing(tmp_path):
    region = Dataset()
    region.PhysicalUnitsXDirection = region.PhysicalUnitsYDirection = 3
    region.PhysicalDeltaX, region.PhysicalDeltaY = 0.02, 0.01
    region.RegionLocationMaxX1, region.RegionLocationMaxY1 = 8, 6
    path = write_clip(tmp_path / "a.dcm", GRAY, SequenceOfUltrasoundRegions=[region])
    assert read_clip(path).spacing_mm == pytest.approx((0.1, 0.2))
    assert read_clip(path, (0.3, 0.4)).spacing_mm == (0.3, 0.4)


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ("missing", "no such file"),
        ("empty", "empty"),
        ("picture", "is no clip; export it as multi-frame DICOM"),
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
        Image.fromarray(GRAY[0]).save(path)
    elif how == "one frame":
        write_clip(path, GRAY[:1])
    elif how == "truncated":
        write_clip(path, GRAY, NumberOfFrames=6)
    elif how == "header only":
        dataset = pydicom.dcmread(write_clip(path, GRAY))
        del dataset.PixelData
        dataset.save_as(path, enforce_file_format=True)
    with pytest.raises(InputError, match=reason) as caught:
        read_clip(path)
    assert str(path) in str(caught.value)


def smooth(frames: int, rows: int = 46, columns: int = 64) -> np.ndarray:
    """(T, rows, columns) uint8: a bright spot that wanders over a ramp, which lossy codecs keep well."""
    y, x = np.mgrid[:rows, :columns]
    spots = [120 * np.exp(-((y - rows / 2) ** 2 + (x - 10 - 2 * t) ** 2) / 80) for t in range(frames)]
    return (40 + x + np.stack(spots)).astype(np.uint8)


def write_video(path: Path, frames: np.ndarray, codec: str, pixel_format: str, rate: int = 25) -> Path:
    """frames: (T, rows, columns) or (T, rows, columns, 3) uint8."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = pixel_format
        stream.bit_rate = 8_000_000
        for frame in frames:
            picture = av.VideoFrame.from_ndarray(frame, format="gray" if frame.ndim == 2 else "rgb24")
            container.mux(stream.encode(picture.reformat(format=pixel_format)))
        container.mux(stream.encode())
    return path


@pytest.mark.parametrize("count", [2, 7, 31])
@pytest.mark.parametrize(("name", "codec"), [("a.avi", "ffv1"), ("a.mkv", "ffv1"), ("a.avi", "rawvideo")])
def test_lossless_gray_video_comes_back_equal(name, codec, count, tmp_path):
    """Frame counts and sizes may be odd: 31 frames of 47 x 63."""
    frames = np.random.default_rng(count).integers(0, 256, (count, 47, 63), dtype=np.uint8)
    clip = read_clip(write_video(tmp_path / name, frames, codec, "gray"))
    np.testing.assert_array_equal(clip.frames, frames)
    assert clip.frames.dtype == np.uint8
    assert clip.frame_time_ms == 40.0
    assert clip.spacing_mm is None and clip.key_frame is None


def test_lossless_color_video_turns_to_luma_in_whole_numbers(tmp_path):
    frames = np.random.default_rng(3).integers(0, 256, (5, 46, 64, 3), dtype=np.uint8)
    clip = read_clip(write_video(tmp_path / "a.avi", frames, "rawvideo", "bgr24"), (0.1, 0.2))
    np.testing.assert_allclose(clip.frames, frames @ [0.299, 0.587, 0.114], atol=0.5001)
    assert clip.frames.dtype == np.uint8 and clip.spacing_mm == (0.1, 0.2)


@pytest.mark.parametrize(
    ("name", "codec", "pixel_format"),
    [
        ("a.mp4", "mpeg4", "yuv420p"),
        ("a.avi", "mpeg4", "yuv420p"),
        ("a.mov", "mjpeg", "yuvj420p"),
        ("a.MKV", "mjpeg", "yuvj420p"),
        ("a.m4v", "mpeg4", "yuv420p"),
        ("a.wmv", "msmpeg4v2", "yuv420p"),
    ],
)
def test_lossy_video_comes_back_near_in_order_and_in_its_full_range(name, codec, pixel_format, tmp_path):
    """Video range (16 to 235) must be undone: the mean is right to one gray level, where it would be 8 off."""
    frames = smooth(9)
    clip = read_clip(write_video(tmp_path / name, frames, codec, pixel_format, rate=20))
    assert clip.frames.shape == frames.shape and clip.frame_time_ms == 50.0
    difference = clip.frames.astype(float) - frames
    assert np.abs(difference).mean() < 2.5 and abs(difference.mean()) < 1
    nearest = [np.abs(frames.astype(float) - frame).mean(axis=(1, 2)).argmin() for frame in clip.frames]
    assert nearest == list(range(9))


@pytest.mark.parametrize(
    ("name", "codec", "pixel_format"),
    [
        ("a.mkv", "ffv1", "gray"),
        ("a.avi", "huffyuv", "bgra"),
        ("a.avi", "mpeg4", "yuv420p"),
        ("a.mp4", "mpeg4", "yuv420p"),
    ],
)
@pytest.mark.parametrize("share", [0.5, 0.85])
def test_a_truncated_video_is_an_error(name, codec, pixel_format, share, tmp_path):
    path = write_video(tmp_path / name, smooth(31), codec, pixel_format)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(InputError, match="truncated") as caught:
        read_clip(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ("nonsense", "cannot be read"),
        ("empty", "the file is empty"),
        ("one frame", "holds 1 frame where a clip is expected"),
        ("sound", "holds no moving picture"),
    ],
)
def test_what_is_no_video_is_named_with_the_remedy(how, reason, tmp_path):
    path = tmp_path / "a.mkv"
    if how == "one frame":
        write_video(path, smooth(1), "ffv1", "gray")
    elif how == "sound":
        with av.open(str(path), "w") as container:
            stream = container.add_stream("pcm_s16le", rate=8000)
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
            frame.sample_rate = 8000
            container.mux(stream.encode(frame))
            container.mux(stream.encode())
    else:
        path.write_bytes(b"" if how == "empty" else b"no video at all" * 50)
    with pytest.raises(InputError, match=reason) as caught:
        read_clip(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("name", "codec", "pixel_format"),
    [
        ("a.avi", "rawvideo", "yuv420p"),
        ("a.avi", "mpeg4", "yuv420p"),
        ("a.mp4", "mpeg4", "yuv420p"),
        ("a.mp4", "libx264", "yuv444p"),
        ("a.mkv", "libx264", "yuv444p"),
        ("a.mkv", "libvpx-vp9", "yuv420p"),
        ("a.mov", "mjpeg", "yuvj420p"),
        ("a.mov", "png", "rgb24"),
        ("a.wmv", "msmpeg4v2", "yuv420p"),
    ],
)
def test_odd_numbers_of_frames_rows_and_columns(name, codec, pixel_format, tmp_path):
    """11 frames of 47 x 63: half a chroma sample at the edge costs no row or column of gray."""
    frames = smooth(11, 47, 63)
    clip = read_clip(write_video(tmp_path / name, frames, codec, pixel_format))
    assert clip.frames.shape == (11, 47, 63)
    difference = clip.frames.astype(float) - frames
    assert np.abs(difference).mean() < 2.5 and abs(difference.mean()) < 1
    assert np.abs(difference[:, -1]).mean() < 4 and np.abs(difference[:, :, -1]).mean() < 4


def test_gray_video_of_more_than_eight_bits_keeps_them(tmp_path):
    frames = GRAY.astype(np.uint16) * 257
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.height, stream.width, stream.pix_fmt = 7, 9, "gray16le"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="gray16le")))
        container.mux(stream.encode())
    clip = read_clip(path)
    np.testing.assert_array_equal(clip.frames, frames)
    assert clip.frames.dtype == np.float32


def test_gray_video_marked_as_video_range_is_stretched(tmp_path):
    """ITU-R BT.601: 16 is black, 235 is white; values beyond are clipped."""
    stored = np.tile(np.array([0, 16, 126, 235, 250], np.uint8), (3, 4, 1))
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.height, stream.width, stream.pix_fmt = 4, 5, "gray"
        stream.codec_context.color_range = 1  # MPEG
        for frame in stored:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="gray")))
        container.mux(stream.encode())
    frames = read_clip(path).frames
    assert frames[0, 0].tolist() == [0, 0, round(110 * 255 / 219), 255, 255] and frames.dtype == np.uint8


STEADY_MS = [0, 33, 67, 100, 133, 167, 200, 233, 267, 300, 333]


@pytest.mark.parametrize(
    ("times_ms", "expected"),
    [(STEADY_MS, 1000 / 30), ([0, 40, 80, 160, 200, 400, 440, 480, 900, 940, 980], 40.0)],
)
@pytest.mark.parametrize(("name", "codec", "pixel_format"), [("a.mkv", "ffv1", "gray"), ("a.mp4", "mpeg4", "yuv420p")])
def test_variable_frame_rate_gives_every_stored_frame_and_the_usual_step(
    name, codec, pixel_format, times_ms, expected, tmp_path
):
    """Time stamps rounded to ms are steady; a clip with pauses keeps its 11 frames and names the median step."""
    frames = smooth(11)
    path = tmp_path / name
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=30)
        stream.height, stream.width = frames.shape[1:]
        stream.pix_fmt, stream.bit_rate = pixel_format, 8_000_000
        stream.codec_context.time_base = Fraction(1, 1000)
        for frame, time in zip(frames, times_ms, strict=True):
            picture = av.VideoFrame.from_ndarray(frame, format="gray").reformat(format=pixel_format)
            picture.pts, picture.time_base = time, Fraction(1, 1000)
            container.mux(stream.encode(picture))
        container.mux(stream.encode())
    clip = read_clip(path)
    assert clip.frames.shape == frames.shape and clip.frame_time_ms == pytest.approx(expected, abs=0.5)
    assert np.abs(clip.frames.astype(float) - frames).mean() < 2.5


@pytest.mark.parametrize(
    ("name", "codec", "pixel_format"),
    [
        ("a.mp4", "mpeg4", "yuv420p"),
        ("a.mp4", "libx264", "yuv444p"),
        ("a.mkv", "libx264", "yuv444p"),
        ("a.mkv", "ffv1", "gray"),
        ("a.wmv", "msmpeg4v2", "yuv420p"),
    ],
)
def test_a_video_damaged_in_the_middle_is_an_error(name, codec, pixel_format, tmp_path):
    path = write_video(tmp_path / name, smooth(31), codec, pixel_format)
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 400] = np.random.default_rng(0).bytes(400)
    path.write_bytes(content)
    with pytest.raises(InputError, match="damaged|cannot be read|truncated") as caught:
        read_clip(path)
    assert str(path) in str(caught.value) and "again" in str(caught.value)


def test_frames_numbered_9_10_11_are_in_that_order(tmp_path):
    clip = read_clip(write_frames(tmp_path / "sweep", TWELVE[:3], ["10.png", "9.png", "11.png"]))
    np.testing.assert_array_equal(clip.frames, TWELVE[[1, 0, 2]])


def write_frames(folder: Path, frames: np.ndarray, names: list[str]) -> Path:
    folder.mkdir(exist_ok=True)
    for frame, name in zip(frames, names, strict=True):
        Image.fromarray(frame).save(folder / name)
    return folder


TWELVE = np.random.default_rng(4).integers(0, 256, (12, 7, 9), dtype=np.uint8)


@pytest.mark.parametrize("suffix", ["png", "tif"])
@pytest.mark.parametrize("name", ["frame_{}", "f{:04d}", "{}", "P017 sweep 2 ({})"])
def test_a_folder_of_numbered_pictures_is_read_in_natural_order(name, suffix, tmp_path):
    """frame_2 before frame_10; steps of 5 are as good as steps of 1; notes and hidden files are ignored."""
    names = [f"{name.format(5 * number)}.{suffix}" for number in range(1, 13)]
    folder = write_frames(tmp_path / "sweep", TWELVE, names)
    (folder / "notes.txt").write_text("left breast")
    (folder / ".DS_Store").write_bytes(b"x")
    clip = read_clip(folder)
    np.testing.assert_array_equal(clip.frames, TWELVE)
    assert clip.frames.dtype == np.uint8 and clip.path == folder
    assert clip.spacing_mm is None and clip.frame_time_ms is None and clip.key_frame is None
    assert read_clip(folder, (0.1, 0.2)).spacing_mm == (0.1, 0.2)


def test_a_folder_of_jpegs_comes_back_near(tmp_path):
    frames = smooth(5)
    clip = read_clip(write_frames(tmp_path / "sweep", frames, [f"{number}.jpg" for number in range(5)]))
    assert np.abs(clip.frames.astype(float) - frames).max() < 8


def test_a_folder_of_dicom_frames_keeps_spacing_and_timing(tmp_path):
    folder = tmp_path / "sweep"
    folder.mkdir()
    for number, frame in enumerate(TWELVE):
        write_clip(folder / f"IM{number}", frame[None], PixelSpacing=["0.2", "0.3"], FrameTime="40")
    clip = read_clip(folder)
    np.testing.assert_array_equal(clip.frames, TWELVE)
    assert clip.spacing_mm == (0.2, 0.3) and clip.frame_time_ms == 40.0 and clip.key_frame is None
    write_clip(folder / "IM5", TWELVE[5:6], PixelSpacing=["0.2", "0.4"])
    with pytest.raises(InputError, match="IM5 has another pixel spacing than IM0"):
        read_clip(folder)
    write_clip(folder / "IM5", TWELVE)
    with pytest.raises(InputError, match=r"IM5: holds 12 frames where one image is expected"):
        read_clip(folder)


@pytest.mark.parametrize(
    ("names", "reason"),
    [
        ([], "holds no frames where a clip is expected"),
        (["1.png"], "holds 1 frame where a clip is expected"),
        (["1.png", "2.png", "4.png", "5.png"], "jump between 2.png and 4.png"),
        (["1.png", "2.png", "2_mask.png"], "differ in more than a number"),
        (["left.png", "right.png"], "differ in more than a number"),
        (["a1_1.png", "a1_2.png", "a2_1.png"], "differ in 2 numbers"),
        (["1.png", "2.jpg"], "differ in more than a number"),
    ],
)
def test_a_folder_that_is_no_clip_is_named_with_the_remedy(names, reason, tmp_path):
    folder = write_frames(tmp_path / "sweep", TWELVE[: len(names)], names)
    with pytest.raises(InputError, match=reason) as caught:
        read_clip(folder)
    assert str(folder) in str(caught.value)


def test_frames_of_another_size_kind_or_content_are_errors(tmp_path):
    folder = write_frames(tmp_path / "sweep", TWELVE[:3], ["1.png", "2.png", "3.png"])
    Image.fromarray(np.zeros((8, 9), np.uint8)).save(folder / "3.png")
    with pytest.raises(InputError, match="3.png has 8 x 9 pixels, 1.png 7 x 9"):
        read_clip(folder)
    (folder / "3.png").write_bytes(b"")
    with pytest.raises(InputError, match=r"3.png: the file is empty"):
        read_clip(folder)
    Image.fromarray(TWELVE[2]).save(folder / "3.png")
    write_clip(folder / "IM4", TWELVE[3:4])
    with pytest.raises(InputError, match="holds DICOM files and pictures"):
        read_clip(folder)
