"""Ultrasound sweeps and other moving images as gray frames with spacing, timing and key frame.

Multi-frame DICOM, AVI, MP4, MOV, MKV, WMV, WebM and MPEG video, TIFF of several pages, and folders of numbered frames.
Nothing is sampled, resized or normalized here; single images are read in `read`, crops cut in `lesions`.
"""

from __future__ import annotations

import io
import re
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
from av.video.reformatter import ColorRange
from pydicom.dataset import Dataset
from pydicom.encaps import get_frame

from alnlib.errors import InputError
from alnlib.imaging import read

VIDEO_SYNTAXES = re.compile(r"1\.2\.840\.10008\.1\.2\.4\.10\d(\.1)?")
"""DICOM transfer syntaxes whose pixel data is one MPEG-2, H.264 or HEVC stream (PS3.6 A-1)."""

VIDEO_SUFFIXES = (".avi", ".mp4", ".m4v", ".mov", ".mkv", ".wmv", ".webm", ".mpg", ".mpeg")
TIFF_SUFFIXES = (".tif", ".tiff")
PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", *TIFF_SUFFIXES)

STAMP_ROUNDING_MS = 1.5
"""Time stamps of Matroska and WMV are whole milliseconds; steps that differ more from the frame rate vary."""

LOST_FRAMES = 1.5
"""A video that ends more than this many frames before the duration it states is truncated. Our choice, for rounding."""


@dataclass(frozen=True)
class Clip:
    """A gray clip. frames: (T, rows, columns), T at least 2; uint8 if all are whole numbers from 0 to 255, else float32.

    spacing_mm: (row, column). frame_time_ms: from frame to frame. key_frame: from 0, the frame that the file itself
    calls representative. Each is None where the file does not say. several_regions: as of `read.Image2D`.
    """

    frames: np.ndarray
    spacing_mm: tuple[float, float] | None
    frame_time_ms: float | None
    key_frame: int | None
    path: Path
    several_regions: bool = False


def read_clip(
    path: str | Path, spacing_mm: tuple[float, float] | None = None, near: tuple[float, float] | None = None
) -> Clip:
    """Read a multi-frame DICOM file, a video, a TIFF of several pages, or a folder of frames.

    DICOM: every frame as `read.read_image` would; MPEG-2, H.264 and HEVC are decoded by FFmpeg. Timing from Frame Time, else
    the median of Frame Time Vector, else Cine Rate or Recommended Display Frame Rate. Video (`VIDEO_SUFFIXES`): color turned
    to gray by BT.601 luma and rounded to whole numbers, timing from the stream's frame rate, or, where that varies, the
    median step; frames stay as they were stored, however long each is shown, but are turned as a player turns them (only by
    quarters); lossy codecs have changed the speckle. Folder: PNG, JPEG, TIFF or single-frame DICOM files, one per frame, in
    natural order (frame_2 before frame_10); numbers of pictures must rise in equal steps; other files are ignored. Video and
    pictures know neither spacing nor key frame.
    spacing_mm: (row, column); overrides the file's. near: as in `read.read_image`. Raises InputError, naming the file and the
    remedy, for a missing, empty, truncated or damaged file, a single image, frames of different size, a gap in the numbers or
    another format.
    """
    path = Path(path)
    if path.is_dir():
        return _read_folder(path, spacing_mm)
    if read.is_dicom(path):
        return _read_multiframe(path, spacing_mm, near)
    if path.suffix.lower() in VIDEO_SUFFIXES:
        with read.decoding(path, "the video"):
            _check_riff(path)
            frames, frame_time_ms = _video_frames(path, str(path))
        return Clip(_stacked(path, frames), spacing_mm, frame_time_ms, None, path)
    if path.suffix.lower() in TIFF_SUFFIXES:
        pages = [_compact(picture) for picture in read.picture_pages(path)]
        if len(pages) > 1:
            return Clip(_stacked(path, pages), spacing_mm, None, None, path)
    raise InputError(
        f"{path}: is no clip; export it as multi-frame DICOM or as a video ({', '.join(VIDEO_SUFFIXES)}), or name the "
        "folder that holds its numbered frames"
    )


def segment_indices(n_frames: int, n_segments: int) -> np.ndarray:
    """(n_segments,) int64 frame numbers in order: the middle (the earlier of two) of stretches as equal as whole frames allow.

    Frames repeat only where the clip is shorter than n_segments. Raises ValueError for numbers below 1.
    Temporal segment networks, Wang et al. 2016, ECCV, LNCS 9912:20.
    """
    if n_frames < 1 or n_segments < 1:
        raise ValueError(f"{n_frames} frames in {n_segments} segments: expected at least 1 of each")
    edges = np.arange(n_segments + 1) * n_frames // n_segments
    return (edges[:-1] + np.maximum(edges[1:] - 1, edges[:-1])) // 2


def segment_triples(n_frames: int, n_segments: int) -> np.ndarray:
    """(n_segments, 3) frame numbers: the frame that `segment_indices` gives between its neighbors, the end ones repeated."""
    middle = segment_indices(n_frames, n_segments)
    return np.clip(middle[:, None] + [-1, 0, 1], 0, n_frames - 1)


def key_frame(clip: Clip) -> int:
    """The frame that the file calls representative; where it names none, the middle one (the earlier of two)."""
    return int(segment_indices(len(clip.frames), 1)[0]) if clip.key_frame is None else clip.key_frame


def clip_spacing(path: Path, near: tuple[float, float]) -> tuple[float, float] | None:
    """(row, column) in mm of a multi-frame DICOM file at a point, without reading its frames."""
    return read.dicom_spacing(read.read_dicom(path), 0, near)


def _read_multiframe(path: Path, spacing_mm: tuple[float, float] | None, near: tuple[float, float] | None) -> Clip:
    dataset = read.read_dicom(path)
    count = int(_number(dataset.get("NumberOfFrames")) or 1)
    if count < 2:
        raise InputError(
            f"{path}: holds a single image where a clip is expected; name the multi-frame file of the sweep"
        )
    if VIDEO_SYNTAXES.fullmatch(dataset.file_meta.TransferSyntaxUID):
        with read.decoding(path, "the video in the DICOM file"):
            stream = io.BytesIO(get_frame(dataset.PixelData, 0, number_of_frames=1))  # one stream for all frames
            frames, _ = _video_frames(path, stream)
        if count - len(frames) > LOST_FRAMES:
            raise InputError(
                f"{path}: states {count} frames and holds {len(frames)}; it is truncated: fetch or export it again"
            )
    else:
        frames = [_compact(read.dicom_pixels(dataset, path, frame)) for frame in range(count)]
    number = _number(dataset.get("RepresentativeFrameNumber"))
    key = int(number) - 1 if number and number <= count else None
    several = spacing_mm is None and read.has_several_spacings(dataset)
    spacing_mm = spacing_mm or read.dicom_spacing(dataset, 0, near)
    return Clip(_stacked(path, frames), spacing_mm, _frame_time_ms(dataset), key, path, several)


def _video_frames(path: Path, source: str | io.BytesIO) -> tuple[list[np.ndarray], float | None]:
    """Gray frames and ms from frame to frame. Raises InputError for what is no clip, whatever FFmpeg raises otherwise."""
    with av.open(source) as container:
        if not container.streams.video:
            raise InputError(f"{path}: holds no moving picture; name the video file of the sweep")
        video = container.streams.video[0]
        rate = _number(video.average_rate)
        frames, times_s, end_s, packets = [], [], 0.0, 0
        for packet in container.demux(video):
            packets += packet.size > 0  # an empty one repeats the frame before it
            for frame in packet.decode():
                if frame.is_corrupt:
                    raise InputError(f"{path}: frame {len(frames)} is damaged; fetch or export the video again")
                read.check_declared(path, len(frames) + 1, frame.height, frame.width)
                frames.append(_compact(_as_shown(path, _video_gray(frame), frame.rotation)))
                times_s.append(frame.time)
                lasts_s = float(frame.duration * frame.time_base) if frame.duration and frame.time_base else 0.0
                end_s = max(end_s, (frame.time or 0.0) + max(lasts_s, 1.0 / rate if rate else 0.0))
        stated_s = _stated_duration_s(container, video)
        one_by_one = video.codec_context.codec.intra_only
    if len(frames) < 2:
        raise InputError(
            f"{path}: holds {len(frames)} frame{'s' * (len(frames) != 1)} where a clip is expected; it may be truncated: "
            "fetch or export it again, or name the video of the sweep"
        )
    if rate and stated_s and (stated_s - end_s) * rate > LOST_FRAMES:
        raise InputError(
            f"{path}: the video states {stated_s:.3g} s and ends after {end_s:.3g} s ({len(frames)} frames); it is "
            "truncated: fetch or export it again"
        )
    if packets - len(frames) > (0 if one_by_one else LOST_FRAMES):
        raise InputError(
            f"{path}: only {len(frames)} of {packets} frames can be decoded; it is damaged: fetch or export the video again"
        )
    return frames, _video_frame_time_ms(times_s, rate)


def _video_frame_time_ms(times_s: list[float | None], rate: float | None) -> float | None:
    """1 / rate, or the median step between time stamps where they do not follow that rate."""
    steps_ms = 1000.0 * np.diff([time for time in times_s if time is not None])
    steady_ms = 1000.0 / rate if rate else None
    if steady_ms is not None and (not steps_ms.size or np.abs(steps_ms - steady_ms).max() < STAMP_ROUNDING_MS):
        return steady_ms
    return _number(np.median(steps_ms)) if steps_ms.size else None


def _check_riff(path: Path) -> None:
    """AVI states its own size; FFmpeg reads a cut one as a shorter video without a word."""
    head = read.first_bytes(path, 12)
    stated = 8 + int.from_bytes(head[4:8], "little")
    if head[:4] == b"RIFF" and head[8:] == b"AVI " and path.stat().st_size < stated < 2**32:
        raise InputError(
            f"{path}: the video states {stated} bytes and has {path.stat().st_size}; it is truncated: fetch or export it again"
        )


def _video_gray(frame: av.VideoFrame) -> np.ndarray:
    """(rows, columns) float32 whole numbers, the video range (16 to 235) undone; gray formats in their own bits."""
    if frame.format.name.startswith("gray"):
        values = frame.to_ndarray().astype(np.float32)
        if frame.color_range == ColorRange.MPEG:
            scale = 2.0 ** (frame.format.components[0].bits - 8)
            values = np.rint(np.clip((values - 16 * scale) * (255 / 219), 0, 256 * scale - 1))
        return values
    return np.rint(read.to_gray(frame.to_ndarray(format="rgb24")))


def _as_shown(path: Path, values: np.ndarray, degrees: int) -> np.ndarray:
    """Turned counterclockwise, as the display matrix of the container asks for. Raises InputError unless by quarters."""
    if degrees % 90:
        raise InputError(f"{path}: is to be shown turned by {degrees} degrees; export it upright")
    return np.rot90(values, degrees // 90) if degrees else values


def _stated_duration_s(container: av.container.InputContainer, stream: av.VideoStream) -> float | None:
    """From the first frame's start, which may lie after 0, to the end; None where the container does not say."""
    if stream.duration and stream.time_base:
        return float((stream.duration + (stream.start_time or 0)) * stream.time_base)
    tag = re.fullmatch(r"(\d+):(\d+):([\d.]+)", stream.metadata.get("DURATION", ""))
    if tag:  # Matroska
        return 3600 * int(tag[1]) + 60 * int(tag[2]) + float(tag[3])
    if container.duration and len(container.streams) == 1:
        return container.duration / av.time_base
    return None


def _read_folder(folder: Path, spacing_mm: tuple[float, float] | None) -> Clip:
    files = [file for file in folder.iterdir() if file.is_file() and not file.name.startswith(".")]
    pictures = [file for file in files if file.suffix.lower() in PICTURE_SUFFIXES]
    dicoms = [file for file in files if file not in pictures and read.is_dicom_image(file)]
    if pictures and dicoms:
        raise InputError(
            f"{folder}: holds DICOM files and pictures ({dicoms[0].name}, {pictures[0].name}); keep one clip per folder"
        )
    chosen = _in_order(dicoms) if dicoms else sorted(pictures, key=lambda file: _natural(file.name))
    if len(chosen) < 2:
        raise InputError(
            f"{folder}: holds {len(chosen) or 'no'} frame{'s' * (len(chosen) != 1)} where a clip is expected; put its frames "
            "there as numbered PNG, JPEG, TIFF or DICOM files"
        )
    if pictures:
        _check_numbers(folder, chosen)
    images = [read.read_image(file) for file in chosen]
    frames = _stacked(folder, [_compact(image.pixels) for image in images], [file.name for file in chosen])
    if spacing_mm is None:
        spacing_mm = images[0].spacing_mm
        if other := next((image for image in images if image.spacing_mm != spacing_mm), None):
            raise InputError(
                f"{folder}: {other.path.name} has another pixel spacing than {images[0].path.name}; keep one clip per folder"
            )
    frame_time_ms = None if pictures else _frame_time_ms(read.read_dicom(chosen[0]))
    return Clip(frames, spacing_mm, frame_time_ms, None, folder)


def _natural(name: str) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """What is between the numbers, and the numbers: (("frame_", ".png"), (10,)) for frame_10.png."""
    parts = re.split(r"(\d+)", name.lower())
    return tuple(parts[::2]), tuple(int(part) for part in parts[1::2])


def _check_numbers(folder: Path, files: list[Path]) -> None:
    """Names that differ in nothing but one number, which rises in equal steps."""
    keys = [_natural(file.name) for file in files]
    for file, key in zip(files, keys, strict=True):
        if key[0] != keys[0][0] or not key[1]:
            raise InputError(
                f"{folder}: {files[0].name} and {file.name} differ in more than a number; keep the frames of one clip, and "
                "no masks, in a folder, and number them"
            )
    numbers = np.array([key[1] for key in keys])
    varying = np.flatnonzero((numbers != numbers[0]).any(axis=0))
    if len(varying) != 1:
        raise InputError(
            f"{folder}: {files[0].name} to {files[-1].name} differ in {len(varying)} numbers, so their order is unknown; "
            "keep one clip per folder, its frames numbered by one number"
        )
    steps = np.diff(numbers[:, varying[0]])
    wrong = np.flatnonzero(steps != np.median(steps))
    if wrong.size:
        first, second = files[wrong[0]].name, files[wrong[0] + 1].name
        raise InputError(
            f"{folder}: the numbers jump between {first} and {second}; put the missing frame there or number the frames evenly"
        )


def _in_order(files: list[Path]) -> list[Path]:
    """DICOM frames by Instance Number where each has its own, since archives name files by UID; else by name."""
    numbers = [_number(read.read_dicom(file).get("InstanceNumber")) for file in files]
    named = sorted(files, key=lambda file: _natural(file.name))
    if None in numbers or len(set(numbers)) < len(numbers):
        return named
    number_of = dict(zip(files, numbers, strict=True))
    return sorted(named, key=number_of.__getitem__)


def _compact(frame: np.ndarray) -> np.ndarray:
    """uint8 if that loses nothing: a sweep of hundreds of frames must not fill the memory."""
    whole = frame.min() >= 0 and frame.max() <= 255 and np.array_equal(frame, np.rint(frame))
    return frame.astype(np.uint8) if whole else frame


def _stacked(path: Path, frames: list[np.ndarray], names: list[str] | None = None) -> np.ndarray:
    """uint8 if every frame is, else float32. Raises InputError for frames of different size."""
    odd = next((at for at, frame in enumerate(frames) if frame.shape != frames[0].shape), None)
    if odd is not None:
        names = names or [f"frame {at}" for at in range(len(frames))]
        sizes = [" x ".join(map(str, frames[at].shape)) for at in (odd, 0)]
        raise InputError(
            f"{path}: {names[odd]} has {sizes[0]} pixels, {names[0]} {sizes[1]}; keep the frames of one clip together, "
            "exported at one size"
        )
    kind = np.uint8 if all(frame.dtype == np.uint8 for frame in frames) else np.float32
    return np.stack([frame.astype(kind, copy=False) for frame in frames])


def _frame_time_ms(dataset: Dataset) -> float | None:
    steps = [_number(step) for step in np.atleast_1d(dataset.get("FrameTimeVector") or [])]
    steps = [step for step in steps if step]  # without the 0 of the first frame
    rate = _number(dataset.get("CineRate")) or _number(dataset.get("RecommendedDisplayFrameRate"))
    stated = _number(dataset.get("FrameTime")) or (float(np.median(steps)) if steps else None)
    return stated or (1000.0 / rate if rate else None)


def _number(value: object) -> float | None:
    """A positive finite number, or None for whatever else a header may hold."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if np.isfinite(number) and number > 0 else None
