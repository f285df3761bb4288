"""2.5-D MRI: the axial slice in which the lesion is largest and its two neighbors, cropped as three channels.

Volumes and masks are read in `volumes`; three-dimensional crops and radiomics are elsewhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations
from pathlib import Path

import numpy as np
import pandas as pd

from alnlib.errors import InputError
from alnlib.imaging.crop import fixed_size_crop
from alnlib.imaging.normalize import percentile_scale
from alnlib.imaging.sampling import _as_bytes, of_patient, row_box
from alnlib.imaging.stills import CROPS, _given
from alnlib.imaging.volumes import MISPLACED_VOXELS, Volume, VolumeGeometry, read_volume, read_volume_mask

Box3D = tuple[int, int, int, int, int, int]
"""z0, row0, col0, z1, row1, col1, half open."""

PERCENTILES = (1.0, 99.99)
"""Of a whole volume, to black and to white. In crops of simulated DCE peaks 20 % of pixels are white with 99.5, 3 % with
99.9 and 0.1 % with 99.99: an enhancing lesion is small, and a lower percentile lies within it. Our choice."""


@dataclass(frozen=True)
class Lesion:
    """Where a lesion lies in one volume. box: half open, in the volume's own indices. mask: (z, y, x) bool, or None."""

    box: Box3D
    mask: np.ndarray | None


def mri_rows(
    images: pd.DataFrame,
    timepoint: str | None = "pre",
    sequence: str = "DCE_early",
    patient_ids: Sequence[str] | None = None,
) -> pd.DataFrame:
    """The one row per patient of an images table with this sequence, indexed from 0.

    timepoint: None takes every row, for tables that do not say. patient_ids: whose, in this order; None: all, in the order
    of the table. Raises InputError for a patient who has it twice, or who was asked for and lacks it.
    """
    rows = images[(images["modality"] == "MRI") & (images["sequence_or_view"] == sequence)]
    if timepoint is not None:
        rows = rows[rows["timepoint"] == timepoint]
    which = f"MRI {sequence}" + ("" if timepoint is None else f" at timepoint {timepoint}")
    twice = rows.loc[rows["patient_id"].duplicated(), "patient_id"]
    if len(twice):
        raise InputError(
            f"patient {twice.iloc[0]}: several images are {which}; keep one of them in images.csv, or choose a timepoint"
        )
    if patient_ids is None:
        return rows.reset_index(drop=True)
    lacking = [patient for patient in patient_ids if patient not in set(rows["patient_id"])]
    if lacking:
        raise InputError(
            f"patient {lacking[0]}: images.csv has no {which} ({len(lacking)} such patients); leave them out, or choose "
            "another sequence"
        )
    return rows.set_index("patient_id", drop=False).loc[list(patient_ids)].reset_index(drop=True)


def crop_mri(
    images: pd.DataFrame,
    root: str | Path,
    timepoint: str | None = "pre",
    sequence: str = "DCE_early",
    *,
    side_px: int,
    patient_ids: Sequence[str] | None = None,
    subtract: str | None = None,
    kind: str = "adjustable_square",
    size_mm: float = 60.0,
    margin_fraction: float = 0.2,
    neighbor_mm: float | None = None,
    percentiles: tuple[float, float] = PERCENTILES,
    value_range: tuple[float, float] | None = None,
) -> np.ndarray:
    """(n, 3, side_px, side_px) uint8: slice below, largest slice, slice above, of the n patients of `mri_rows`.

    images: the whole table, since other rows may be needed. subtract: a sequence taken from this one voxel by voxel
    (DCE_pre from DCE_early: enhancement). The largest slice is that with most voxels of the mask (of equals, the one
    nearest to the middle), without a mask the middle of the box; box and mask come from the row. kind:
    "adjustable_square", the longer edge of the box in mm plus margin_fraction; "fixed_size", size_mm. Rows run to the
    back and columns to the patient's left, whatever the file's order; an oblique volume is taken along its nearest
    axes, not resampled. neighbor_mm: distance of the neighbors, to the nearest slice; None: next in the file. At the
    end of the volume the last slice repeats. Gray values: value_range from black to white (ADC 0 to 3000, whose
    numbers mean something), or percentiles of the whole volume (MRI units are arbitrary). Black beyond the border.
    At a later timepoint the mask of a lesion that has gone is empty: the crop is then cut where it was in the same patient's
    images of timepoint "pre", by scanner coordinates, so the visits must be registered.
    Raises InputError, naming patient, file and remedy, for a lesion without box and mask, a box outside the volume,
    volumes that do not coincide, or what cannot be read.
    """
    if kind not in CROPS:
        raise InputError(f"crop is {kind!r}; choose one of {', '.join(CROPS)}")
    root = Path(root)
    crops = []
    for _, row in mri_rows(images, timepoint, sequence, patient_ids).iterrows():
        with of_patient(row):
            volume = read_volume(root / row["path"])
            lesion = _lesion(row, volume, images, root)
            values = volume.values
            if subtract is not None:
                values = values - _same_grid(mri_rows(images, timepoint, subtract, [row["patient_id"]]), volume, root)
            scaled = _scaled(values, percentiles, value_range)
            crops.append(
                _three_slices(scaled, volume.geometry, lesion, side_px, kind, size_mm, margin_fraction, neighbor_mm)
            )
    return np.stack(crops) if crops else np.empty((0, 3, side_px, side_px), np.uint8)


def _scaled(
    values: np.ndarray, percentiles: tuple[float, float], value_range: tuple[float, float] | None
) -> np.ndarray:
    if value_range is None:
        return percentile_scale(values, *percentiles)
    black, white = value_range
    if not black < white:
        raise ValueError(f"value_range {value_range}: expected black below white")
    return np.clip((values - np.float32(black)) / np.float32(white - black), 0.0, 1.0)


def _same_grid(rows: pd.DataFrame, volume: Volume, root: Path) -> np.ndarray:
    other = read_volume(root / rows["path"].iloc[0])
    last = np.array(volume.shape) - 1
    corners = last * np.array(list(np.ndindex(2, 2, 2)))
    if other.shape == volume.shape:
        apart = np.linalg.norm(other.geometry.position_mm(corners) - volume.geometry.position_mm(corners), axis=1).max()
        if apart <= MISPLACED_VOXELS * min(volume.geometry.spacing_mm):
            return other.values
    raise InputError(
        f"{volume.path} ({volume.shape}, {volume.geometry}) and {other.path} ({other.shape}, {other.geometry}) do not have the "
        "same voxels; resample one to the other before subtracting"
    )


def _lesion(row: pd.Series, volume: Volume, images: pd.DataFrame, root: Path) -> Lesion:
    found = _drawn_lesion(row, volume, root)
    if found is not None:
        return found
    before = images[
        (images["modality"] == "MRI") & (images["patient_id"] == row["patient_id"]) & (images["timepoint"] == "pre")
    ]
    if row["timepoint"] == "pre" or not _given(row["mask_path"]) or before.empty:
        raise InputError(
            f"{row['path']} has neither a box nor a mask that is not empty, so the lesion's place is unknown; give one in "
            "images.csv, or leave the patient out"
        )
    # The same sequence if there is one: all of a visit share the mask.
    same = before[before["sequence_or_view"] == row["sequence_or_view"]]
    earlier = (same if len(same) else before).iloc[0]
    old = read_volume(root / earlier["path"])
    drawn = _drawn_lesion(earlier, old, root)
    if drawn is None:
        raise InputError(f"{earlier['path']} has neither box nor mask either; give one in images.csv")
    return Lesion(_moved_box(drawn.box, old, volume), None)


def _drawn_lesion(row: pd.Series, volume: Volume, root: Path) -> Lesion | None:
    box, mask = row_box(row, 6), None
    if _given(row["mask_path"]):
        mask = read_volume_mask(root / row["mask_path"], volume)
        if not mask.any():
            mask = None
    if box is None and mask is not None:
        ranges = [np.flatnonzero(mask.any(axis=tuple({0, 1, 2} - {axis}))) for axis in range(3)]
        box = (*(int(found[0]) for found in ranges), *(int(found[-1]) + 1 for found in ranges))
    if box is None:
        return None
    if any(high > size for high, size in zip(box[3:], volume.shape, strict=True)):
        raise InputError(
            f"box {box} reaches outside the volume of {' x '.join(map(str, volume.shape))} voxels (z, y, x), {volume.path}; "
            "boxes are z0 row0 col0 z1 row1 col1, upper edges exclusive: correct it in images.csv"
        )
    return Lesion(box, mask)


def _moved_box(box: Box3D, old: Volume, new: Volume) -> Box3D:
    """The box at the same scanner coordinates in another volume, clipped to it."""
    corners = np.where(np.array(list(np.ndindex(2, 2, 2))), box[3:], box[:3]) - 0.5
    place = np.linalg.inv(new.geometry.affine) @ np.c_[old.geometry.position_mm(corners), np.ones(8)].T
    index = place[2::-1].T + 0.5
    low = np.clip(np.rint(index.min(axis=0)), 0, None).astype(int)
    high = np.clip(np.rint(index.max(axis=0)), None, new.shape).astype(int)
    if (low >= high).any():
        raise InputError(
            f"the lesion has gone, and its place in {old.path} lies outside {new.path}; register the visits, or give a box in "
            "images.csv"
        )
    return (*low.tolist(), *high.tolist())


def _three_slices(
    values: np.ndarray,
    geometry: VolumeGeometry,
    lesion: Lesion,
    side_px: int,
    kind: str,
    size_mm: float,
    margin_fraction: float,
    neighbor_mm: float | None,
) -> np.ndarray:
    order, flips = _axial(geometry)
    values = _turned(values, order, flips)
    spacing = tuple(geometry.spacing_mm[axis] for axis in order)
    box = _turned_box(lesion.box, order, flips, values.shape)
    middle = _largest_slice(None if lesion.mask is None else _turned(lesion.mask, order, flips), box)
    step = 1 if neighbor_mm is None else max(1, round(neighbor_mm / spacing[0]))
    edges_mm = [(box[axis + 3] - box[axis]) * spacing[axis] for axis in (1, 2)]
    center_mm = tuple(0.5 * (box[axis] + box[axis + 3]) * spacing[axis] for axis in (1, 2))
    if kind == "adjustable_square":
        size_mm = max(edges_mm) * (1.0 + margin_fraction)
    chosen = np.clip([middle - step, middle, middle + step], 0, len(values) - 1)
    return np.stack(
        [
            _as_bytes(fixed_size_crop(values[z], center_mm, size_mm, spacing[1:], padding="constant"), side_px)
            for z in chosen
        ]
    )


def _axial(geometry: VolumeGeometry) -> tuple[tuple[int, int, int], tuple[bool, bool, bool]]:
    """Array axes that run nearest to head, back and left, in this order, and whether each must be turned round."""
    along = np.array(geometry.direction).T[::-1, ::-1]  # [array axis, (head, back, left)]
    order = max(permutations(range(3)), key=lambda axes: sum(abs(along[axis, k]) for k, axis in enumerate(axes)))
    return order, tuple(bool(along[axis, k] < 0) for k, axis in enumerate(order))


def _turned(values: np.ndarray, order: tuple[int, int, int], flips: tuple[bool, bool, bool]) -> np.ndarray:
    return np.flip(values.transpose(order), [k for k in range(3) if flips[k]])


def _turned_box(
    box: Box3D, order: tuple[int, int, int], flips: tuple[bool, bool, bool], shape: tuple[int, ...]
) -> Box3D:
    """shape: of the turned volume."""
    low, high = [box[axis] for axis in order], [box[axis + 3] for axis in order]
    for k in range(3):
        if flips[k]:
            low[k], high[k] = shape[k] - high[k], shape[k] - low[k]
    return (*low, *high)


def _largest_slice(mask: np.ndarray | None, box: Box3D) -> int:
    middle = 0.5 * (box[0] + box[3] - 1)
    if mask is None:
        return int(middle)
    area = mask.sum(axis=(1, 2))
    largest = np.flatnonzero(area == area.max())
    return int(largest[np.abs(largest - middle).argmin()])
