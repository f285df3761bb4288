"""Ultrasound sweeps and other moving images: a multi-frame DICOM file as grey frames with spacing, timing and key frame.

Nothing is sampled, resized or normalized here; single images are read in `read`. Other containers than DICOM are not read yet.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset

from alnlib.errors import InputError
from alnlib.imaging.read import _checked_spacing, _dicom_pixels, _dicom_spacing, _is_dicom, _read_dicom


@dataclass(frozen=True)
class Clip:
    """A grey clip. frames: (T, rows, columns), T at least 2; uint8 if all are whole numbers from 0 to 255, else float32.

    spacing_mm: (row, column). frame_time_ms: from frame to frame. key_frame: from 0, the frame that the file itself
    calls representative. Each is None where the file does not say.
    """

    frames: np.ndarray
    spacing_mm: tuple[float, float] | None
    frame_time_ms: float | None
    key_frame: int | None
    path: Path

    @property
    def shape(self) -> tuple[int, int, int]:
        """(T, rows, columns)."""
        return self.frames.shape

    def __repr__(self) -> str:
        spacing = "unknown spacing" if self.spacing_mm is None else "{:.4g} x {:.4g} mm".format(*self.spacing_mm)
        pace = "unknown timing" if self.frame_time_ms is None else f"{self.frame_time_ms:.4g} ms per frame"
        key = "no key frame" if self.key_frame is None else f"key frame {self.key_frame}"
        frames, rows, columns = self.shape
        return f"Clip({self.path.name}: {frames} frames of {rows} x {columns}, {spacing}, {pace}, {key})"


def read_clip(path: str | Path, spacing_mm: tuple[float, float] | None = None) -> Clip:
    """Read a multi-frame DICOM file, every frame as `read.read_image` would: rescaled, bright is echogenic, color turned to grey.

    Compressed and color (RGB, YBR, palette) frames are decoded by pydicom and its plugins. Timing from Frame Time, else
    the median of Frame Time Vector, else Cine Rate or Recommended Display Frame Rate. spacing_mm: (row, column);
    overrides the file's. Raises InputError, naming the file and the remedy, for a missing or truncated file, a single
    image or another format.
    """
    path = Path(path)
    if spacing_mm is not None:
        spacing_mm = _checked_spacing(spacing_mm)
    if not _is_dicom(path):
        raise InputError(f"{path}: is not a DICOM file; export the clip as multi-frame DICOM")
    dataset = _read_dicom(path)
    count = int(_number(dataset.get("NumberOfFrames")) or 1)
    if count < 2:
        raise InputError(
            f"{path}: holds a single image where a clip is expected; name the multi-frame file of the sweep"
        )
    frames = _in_8_bits([_dicom_pixels(dataset, path, frame) for frame in range(count)])
    return Clip(
        frames, spacing_mm or _dicom_spacing(dataset), _frame_time_ms(dataset), _key_frame(dataset, count), path
    )


def _in_8_bits(frames: list[np.ndarray]) -> np.ndarray:
    stacked = np.stack(frames)
    whole = stacked.min() >= 0 and stacked.max() <= 255 and np.array_equal(stacked, np.rint(stacked))
    return stacked.astype(np.uint8) if whole else stacked


def _frame_time_ms(dataset: Dataset) -> float | None:
    time = _number(dataset.get("FrameTime"))
    if time:
        return time
    steps = [_number(step) for step in np.atleast_1d(dataset.get("FrameTimeVector") or [])]
    steps = [step for step in steps if step]  # without the 0 of the first frame
    if steps:
        return float(np.median(steps))
    rate = _number(dataset.get("CineRate")) or _number(dataset.get("RecommendedDisplayFrameRate"))
    return 1000.0 / rate if rate else None


def _key_frame(dataset: Dataset, count: int) -> int | None:
    number = _number(dataset.get("RepresentativeFrameNumber"))
    return int(number) - 1 if number and number <= count else None


def _number(value: object) -> float | None:
    """A positive finite number, or None for whatever else a header may hold."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if np.isfinite(number) and number > 0 else None
