"""Which frames of a sweep, and which square of them, a network sees: segment sampling and crops round the lesion.

Files are read in `clips`, squares are cut in `crop`, stills in `stills`; random changes of crops live in `alnlib.training`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from alnlib.cohorts.schema import parse_box, parse_pixel_spacing
from alnlib.errors import InputError
from alnlib.imaging.clips import Clip, read_clip
from alnlib.imaging.crop import (
    Box,
    _checked_box,
    adjustable_square_crop,
    box_center_mm,
    box_from_mask,
    fixed_size_crop,
    resample_to_square,
)
from alnlib.imaging.normalize import percentile_scale
from alnlib.imaging.read import read_mask
from alnlib.imaging.stills import CROPS, _given


def segment_indices(n_frames: int, n_segments: int, rng: np.random.Generator | None = None) -> np.ndarray:
    """(n_segments,) int64 frame numbers in order, one of each of n_segments stretches as equal as whole frames allow.

    With rng (training): a random frame of each stretch, all alike probable. Without (scoring): its middle frame, the
    earlier of two. Frames repeat only where the clip is shorter than n_segments. Raises ValueError for numbers below 1.
    Temporal segment networks, Wang et al. 2016, ECCV, LNCS 9912:20.
    """
    if n_frames < 1 or n_segments < 1:
        raise ValueError(f"{n_frames} frames in {n_segments} segments: expected at least 1 of each")
    edges = np.arange(n_segments + 1) * n_frames // n_segments
    first, last = edges[:-1], np.maximum(edges[1:] - 1, edges[:-1])
    if rng is None:
        return (first + last) // 2
    return rng.integers(first, last, endpoint=True)


def key_frame(clip: Clip) -> int:
    """The frame that the file calls representative; where it names none, the middle one (the earlier of two)."""
    return int(segment_indices(len(clip.frames), 1)[0]) if clip.key_frame is None else clip.key_frame


def key_frames(images: pd.DataFrame, root: str | Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For each row of modality USV in an images table its `key_frame` (n,), its number of frames (n,), and whether the file
    names the key frame (n,) bool, as only DICOM can; of the others it is the middle frame.
    """
    found = [(key_frame(clip), len(clip.frames), clip.key_frame is not None) for _, clip, _ in _sweeps(images, root)]
    frames, lengths, named = np.array(found, dtype=np.int64).reshape(-1, 3).T
    return frames, lengths, named.astype(bool)


def clip_crop(
    clip: Clip,
    box: Box | None,
    *,
    kind: str = "adjustable_square",
    side_px: int,
    size_mm: float = 38.0,
    margin_fraction: float = 0.2,
) -> np.ndarray:
    """(T, side_px, side_px) uint8: the same square of every frame, round the lesion's box in the key frame.

    Gray values are scaled by the 1st and 99th percentile of the whole clip, so that frames keep their brightness
    against each other; black beyond the border. kind: "adjustable_square", the box plus margin_fraction of its longer
    edge; "fixed_size", size_mm wide (needs a spacing). Without a box the fixed size is cut round the middle of the frames.
    Raises InputError, naming file and remedy, where a spacing or a box is needed and missing.
    """
    frames = percentile_scale(clip.frames)
    return np.stack(
        [
            _as_bytes(
                _square(
                    frame,
                    box,
                    clip.spacing_mm,
                    kind=kind,
                    size_mm=size_mm,
                    margin_fraction=margin_fraction,
                    fill=0.0,
                    name=str(clip.path),
                ),
                side_px,
            )
            for frame in frames
        ]
    )


def crop_sweeps(
    images: pd.DataFrame,
    root: str | Path,
    *,
    kind: str = "adjustable_square",
    side_px: int,
    n_frames: int | None = None,
    size_mm: float = 38.0,
    margin_fraction: float = 0.2,
) -> np.ndarray:
    """(n, T, side_px, side_px) uint8 crops of the n rows of modality USV in an images table, in their order.

    n_frames: T, the middle frames of as many segments of each sweep; None: all frames, if every sweep has the same
    number. The box is the row's, else that of its mask (both of the key frame). Other arguments as for `clip_crop`.
    Raises InputError, naming patient and file, for what cannot be read or cropped.
    """
    sweeps, names = [], []
    for row, clip, box in _sweeps(images, root):
        with of_patient(row):
            chosen = slice(None) if n_frames is None else segment_indices(len(clip.frames), n_frames)
            # The whole clip is scaled before frames are chosen, so that their number does not change gray values.
            crop = clip_crop(clip, box, kind=kind, side_px=side_px, size_mm=size_mm, margin_fraction=margin_fraction)[
                chosen
            ]
            if sweeps and len(crop) != len(sweeps[0]):
                raise InputError(
                    f"{clip.path} has {len(crop)} frames, {names[0]} {len(sweeps[0])}; say how many to take of each (n_frames)"
                )
        sweeps.append(crop)
        names.append(clip.path.name)
    return np.stack(sweeps) if sweeps else np.empty((0, n_frames or 0, side_px, side_px), np.uint8)


def key_frame_crops(
    images: pd.DataFrame,
    root: str | Path,
    *,
    kind: str = "adjustable_square",
    side_px: int,
    size_mm: float = 38.0,
    margin_fraction: float = 0.2,
) -> np.ndarray:
    """(n, side_px, side_px) uint8 crops of the key frame of the same rows, for a static baseline on the same patients.

    Gray values are scaled by the key frame's own percentiles: nothing of another frame enters, as in an archived still.
    Key frame as in `key_frame`; arguments and errors as for `crop_sweeps`.
    """
    crops = []
    for row, clip, box in _sweeps(images, root):
        with of_patient(row):
            still = replace(clip, frames=clip.frames[[key_frame(clip)]], key_frame=0)
            crops.append(
                clip_crop(still, box, kind=kind, side_px=side_px, size_mm=size_mm, margin_fraction=margin_fraction)[0]
            )
    return np.stack(crops) if crops else np.empty((0, side_px, side_px), np.uint8)


@contextmanager
def of_patient(row: pd.Series) -> Iterator[None]:
    """Say whose image it was: an InputError raised within begins with patient and image of this row of an images table."""
    try:
        yield
    except InputError as error:
        prefix = f"patient {row['patient_id']}: "
        if str(error).startswith(prefix):
            raise
        raise InputError(f"{prefix}image {row['image_id']}: {error}") from error


def row_box(row: pd.Series, numbers: int = 4) -> tuple[int, ...] | None:
    """The box of a row of an images table with 4 or 6 numbers, None where the cell is empty. Raises InputError otherwise."""
    try:
        box = parse_box(row["box"])
    except ValueError as error:
        raise InputError(f"{error}; correct it in images.csv") from error
    if box is not None and len(box) != numbers:
        meant = "row0 col0 row1 col1" if numbers == 4 else "z0 row0 col0 z1 row1 col1"
        raise InputError(
            f"box {row['box']!r} has {len(box)} numbers where {meant} is expected; correct it in images.csv"
        )
    return box


def row_spacing(row: pd.Series) -> tuple[float, float] | None:
    """(row, column) spacing in mm of a row of an images table, None where the cell is empty. Raises InputError otherwise."""
    try:
        return parse_pixel_spacing(row["pixel_spacing_mm"])
    except ValueError as error:
        raise InputError(f"{error}; correct it in images.csv") from error


def _sweeps(images: pd.DataFrame, root: str | Path) -> Iterator[tuple[pd.Series, Clip, Box | None]]:
    root = Path(root)
    for _, row in images[images["modality"] == "USV"].iterrows():
        with of_patient(row):
            clip = read_clip(root / row["path"], row_spacing(row))
            box = row_box(row)
            if box is None and _given(row["mask_path"]):
                box = box_from_mask(read_mask(root / row["mask_path"], clip.shape[1:]), row["mask_path"])
        yield row, clip, box


def _square(
    image: np.ndarray,
    box: Box | None,
    spacing_mm: tuple[float, float] | None,
    *,
    kind: str,
    size_mm: float,
    margin_fraction: float,
    fill: float,
    name: str,
) -> np.ndarray:
    """One of `stills.CROPS` round a box; without a box, the fixed size round the middle. name: of the file, for errors."""
    if kind not in CROPS:
        raise InputError(f"crop is {kind!r}; choose one of {', '.join(CROPS)}")
    if box is not None:
        box = _checked_box(box, image)
    if kind == "adjustable_square":
        if box is None:
            raise InputError(
                f"{name} has neither box nor mask for an adjustable crop; give one in images.csv, or choose crop fixed_size"
            )
        return adjustable_square_crop(image, box, margin_fraction, padding="constant", fill=fill)
    if spacing_mm is None:
        raise InputError(
            f"{name} has no pixel spacing for a crop in mm; give pixel_spacing_mm in images.csv, or choose crop "
            "adjustable_square"
        )
    center = box_center_mm(box or (0, 0, *image.shape), spacing_mm)
    return fixed_size_crop(image, center, size_mm, spacing_mm, padding="constant", fill=fill)


def _as_bytes(fractions: np.ndarray, side_px: int) -> np.ndarray:
    """(side_px, side_px) uint8 of a square with values in [0, 1]."""
    return np.round(255 * resample_to_square(fractions, side_px)).astype(np.uint8)
