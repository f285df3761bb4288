"""Crops of MRI round a lesion: three slices of one sequence (2.5-D), or a box in mm of several sequences and visits.

Volumes and masks are read in `volumes`; `lesions.crop` is the door for every modality.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import ndimage

from alnlib.errors import InputError
from alnlib.imaging.crop import Box3D, box_from_mask, check_box, check_content, fixed_size_crop, square_as_bytes
from alnlib.imaging.rows import is_given, of_patient, of_patients, read_scan, row_box, scan_mask, within_box
from alnlib.imaging.spec import Channel, CropSpec
from alnlib.imaging.volumes import (
    CORNERS,
    Volume,
    VolumeGeometry,
    axial_axes,
    check_same_voxels,
    largest_slice,
    turned,
    turned_edges,
)


class Lesion(NamedTuple):
    """Where a lesion lies in one volume. box: half open, in the volume's own indices. mask: (z, y, x) bool, or None."""

    box: Box3D
    mask: np.ndarray | None


def mri_rows(
    images: pd.DataFrame, timepoint: str | None, sequence: str, patient_ids: Sequence[str] | None = None
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
            f"patient {twice.iloc[0]}: several images are {which} ({twice.nunique()} such patients); keep one of them in "
            "images.csv, or choose a timepoint"
        )
    return rows.reset_index(drop=True) if patient_ids is None else of_patients(rows, patient_ids, which)


def channel_before_therapy(images: pd.DataFrame, sequence: str, subtract: str = "") -> str:
    """A sequence as `CropSpec.channels` names it, of timepoint "pre" where the table says so, less another where anybody has it.

    Raises InputError if nobody has the sequence.
    """
    named = images.loc[images["modality"] == "MRI", ["sequence_or_view", "timepoint"]]
    own = named[named["sequence_or_view"] == sequence]
    if own.empty:
        known = sorted(set(named["sequence_or_view"].dropna()))
        raise InputError(f"nobody has {sequence}; set sequence to one of {', '.join(known) or 'none: there is no MRI'}")
    timepoint = "pre" if (own["timepoint"] == "pre").any() else ""
    has_base = subtract != "" and (named["sequence_or_view"] == subtract).any()
    return f"{timepoint}/{sequence}" + (f"-{subtract}" if has_base else "")


def crop_volumes(images: pd.DataFrame, root: Path, spec: CropSpec, patient_ids: Sequence[str] | None) -> np.ndarray:
    """(n, *spec.shape) uint8 of the n patients of `mri_rows` with the first channel; box and mask come from its row.

    Without depth, (n, 3, side_px, side_px): slice below, largest slice, slice above. The largest is that with most voxels of
    the mask (of equals, the one nearest to the middle), without a mask the middle of the box. The adjustable square is the
    longer edge of the box in mm plus the margin. An oblique volume is taken along its nearest axes, not resampled. At the end
    of the volume the last slice repeats.
    With depth, (n, channels, depth, side_px, side_px): a box centered on the lesion (mask, else box) of the first channel; its
    side in the plane is size_mm, or for the adjustable square that of this lesion as above, and it is depth_mm, else its side,
    across slices. All other channels, later visits too, are read at the same scanner coordinates, along the scanner's axes.
    Values are interpolated linearly, and along an axis along which the box is sampled more coarsely than the file averaged
    before.
    Either way slices run towards the head, rows to the back and columns to the patient's left, whatever the file's order.
    At a later timepoint the mask of a lesion that has gone is empty: the crop is then cut where it was in the same patient's
    images of timepoint "pre", by scanner coordinates, so the visits must be registered.
    """
    channels = spec.read_channels()
    patients = mri_rows(images, channels[0].timepoint, channels[0].sequence, patient_ids)["patient_id"].tolist()
    crops = np.zeros((len(patients), *spec.shape), np.uint8)
    places: list[tuple[np.ndarray, float]] = []
    for place, channel in enumerate(channels):
        rows = mri_rows(images, channel.timepoint, channel.sequence, patients)
        for patient, (_, row) in enumerate(rows.iterrows()):
            with of_patient(row):
                volume = read_scan(row, root)
                values = spec.scaled(_values(channel, row, volume, images, root))
                if place == 0:
                    lesion = _lesion(row, volume, images, root)
                    places.append((_center_mm(lesion, volume), _side_mm(lesion, volume.geometry, spec)))
                if spec.depth is None:
                    crops[patient] = made = _three_slices(values, volume.geometry, lesion, spec)
                else:
                    crops[patient, place] = made = _box(values, volume, *places[patient], spec)
                check_content(made, str(volume.path))
    return crops


def _values(channel: Channel, row: pd.Series, volume: Volume, images: pd.DataFrame, root: Path) -> np.ndarray:
    """Of a volume, less those of the sequence that the channel subtracts. Raises InputError unless their voxels are the same."""
    if channel.subtract is None:
        return volume.values
    bases = mri_rows(images, channel.timepoint, channel.subtract, [row["patient_id"]])
    base = read_scan(bases.iloc[0], root)
    check_same_voxels(
        base, volume, (channel.subtract, channel.sequence), "resample one to the other before subtracting"
    )
    return volume.values - base.values


def _lesion(row: pd.Series, volume: Volume, images: pd.DataFrame, root: Path) -> Lesion:
    drawn = _drawn_lesion(row, volume, root)
    if drawn is not None:
        return drawn
    before = images[
        (images["modality"] == "MRI") & (images["patient_id"] == row["patient_id"]) & (images["timepoint"] == "pre")
    ]
    if row["timepoint"] == "pre" or not is_given(row["mask_path"]) or before.empty:
        raise InputError(
            f"{row['path']} has neither a box nor a mask that is not empty, so the lesion's place is unknown; give one in "
            "images.csv, or leave the patient out"
        )
    # The same sequence if there is one: all of a visit share the mask.
    same = before[before["sequence_or_view"] == row["sequence_or_view"]]
    earlier = (same if len(same) else before).iloc[0]
    old = read_scan(earlier, root)
    drawn = _drawn_lesion(earlier, old, root)
    if drawn is None:
        raise InputError(f"{earlier['path']} has neither box nor mask either; give one in images.csv")
    return Lesion(_moved_box(drawn.box, old, volume), None)


def _drawn_lesion(row: pd.Series, volume: Volume, root: Path) -> Lesion | None:
    box, mask = row_box(row, 6), scan_mask(row, root, volume)
    if mask is not None and not mask.any():
        mask = None
    if box is None and mask is not None:
        box = box_from_mask(mask)
    if box is None:
        return None
    check_box(box, volume.shape, f"the volume {volume.path}")
    return Lesion(box, None if mask is None else within_box(mask, box, str(volume.path)))


def _moved_box(box: Box3D, old: Volume, new: Volume) -> Box3D:
    """The box at the same scanner coordinates in another volume, clipped to it."""
    corners = np.where(CORNERS, box[3:], box[:3]) - 0.5
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


def _three_slices(values: np.ndarray, geometry: VolumeGeometry, lesion: Lesion, spec: CropSpec) -> np.ndarray:
    order, flips = axial_axes(geometry)
    values = turned(values, order, flips)
    spacing = [geometry.spacing_mm[axis] for axis in order]
    low, high = turned_edges(lesion.box, values.shape, order, flips)
    drawn = None if lesion.mask is None else turned(lesion.mask, order, flips)
    largest = largest_slice(drawn, low[0], high[0])
    center_mm = tuple(0.5 * (low[axis] + high[axis]) * spacing[axis] for axis in (1, 2))
    size_mm = spec.size_mm
    if spec.kind == "adjustable_square":
        size_mm = max((high[axis] - low[axis]) * spacing[axis] for axis in (1, 2)) * (1.0 + spec.margin_fraction)
    chosen = np.clip([largest - 1, largest, largest + 1], 0, len(values) - 1)
    squares = [fixed_size_crop(values[z], center_mm, size_mm, spacing[1:]) for z in chosen]
    return np.stack([square_as_bytes(square, spec.side_px) for square in squares])


def _center_mm(lesion: Lesion, volume: Volume) -> np.ndarray:
    """(3,) LPS (x, y, z): the center of gravity of the mask, else the middle of the box."""
    middle = (np.reshape(lesion.box, (2, 3)).sum(axis=0) - 1) / 2
    index = middle if lesion.mask is None else ndimage.center_of_mass(lesion.mask)
    return volume.geometry.position_mm(index)


def _side_mm(lesion: Lesion, geometry: VolumeGeometry, spec: CropSpec) -> float:
    """Side of the square: given, or the longer edge in the plane of the lesion's box, and the margin."""
    if spec.kind == "fixed_size":
        return spec.size_mm
    order, _ = axial_axes(geometry)
    edges_mm = np.diff(np.reshape(lesion.box, (2, 3)), axis=0)[0] * geometry.spacing_mm
    return float(max(edges_mm[list(order[1:])])) * (1.0 + spec.margin_fraction)


def _box(values: np.ndarray, volume: Volume, center_mm: np.ndarray, side_mm: float, spec: CropSpec) -> np.ndarray:
    """(depth, side_px, side_px) uint8 round center_mm, LPS (x, y, z)."""
    deep_mm = side_mm if spec.depth_mm is None else spec.depth_mm
    step_mm = np.array([deep_mm / spec.depth, side_mm / spec.side_px, side_mm / spec.side_px])
    offsets = [(np.arange(n) - (n - 1) / 2) * gap for n, gap in zip(spec.shape[1:], step_mm, strict=True)]
    places_mm = center_mm + np.stack(np.meshgrid(*offsets, indexing="ij"), axis=-1)[..., ::-1]
    axes = np.abs(np.array(volume.geometry.direction))[:, ::-1]  # rows: x, y, z; columns: file axes z, y, x
    finest = axes.T @ step_mm[::-1]  # step along every axis of the file, exact where they are the scanner's
    sigma = np.maximum(finest / np.array(volume.geometry.spacing_mm) - 1, 0) / 2
    smooth = ndimage.gaussian_filter(values, sigma, mode="nearest") if sigma.any() else values
    inverse = np.linalg.inv(volume.geometry.affine)
    index = (places_mm @ inverse[:3, :3].T + inverse[:3, 3])[..., ::-1]
    sampled = ndimage.map_coordinates(smooth, np.moveaxis(index, -1, 0), order=1, mode="constant", cval=0.0)
    return np.round(255 * np.clip(sampled, 0, 1)).astype(np.uint8)
