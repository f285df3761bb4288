"""Three-dimensional crops of MRI: a box in mm around the lesion, several sequences and visits as channels of one grid.

Volumes and masks are read in `volumes`; crops of three slices are in `slices25d`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import ndimage

from alnlib.errors import InputError
from alnlib.imaging.sampling import of_patient
from alnlib.imaging.slices25d import PERCENTILES, Lesion, _lesion, _same_grid, _scaled, mri_rows
from alnlib.imaging.volumes import Volume, read_volume

CHANNEL = "<timepoint>/<sequence> or <timepoint>/<sequence>-<sequence to subtract>"


def crop_volumes(
    images: pd.DataFrame,
    root: str | Path,
    channels: Sequence[str],
    *,
    depth: int,
    side_px: int,
    size_mm: tuple[float, float] = (40.0, 50.0),
    patient_ids: Sequence[str] | None = None,
    percentiles: tuple[float, float] = PERCENTILES,
) -> np.ndarray:
    """(n, channels, depth, side_px, side_px) uint8: the same box in mm of every channel, for n patients in their order.

    channels: "pre/DCE_early-DCE_pre" is DCE_early of timepoint pre less DCE_pre of the same visit, "pre/T2" a sequence as
    it is; "/T2" where the table says no timepoint. The box is centered on the lesion (mask, else box) of the first channel;
    all others, later visits too, are read at the same scanner coordinates, so they must be registered. size_mm: of the box,
    (across slices, in the plane). Axes are those of the scanner: slices towards the head, rows to the back, columns to the
    patient's left; values are interpolated linearly, and along an axis along which the box is sampled more coarsely than the
    file averaged before. Gray values: percentiles of each whole volume to black and white. Black beyond the volume.
    patient_ids: None: all patients of the first channel. Raises InputError naming patient and file as `crop_mri` does, and for a
    channel that cannot be read.
    """
    wanted = [_parsed(channel) for channel in channels]
    if not wanted:
        raise InputError(f"no channel was asked for; give at least one, as {CHANNEL}")
    root = Path(root)
    first = mri_rows(images, wanted[0][0], wanted[0][1], patient_ids)
    patients = list(first["patient_id"])
    crops = np.zeros((len(patients), len(wanted), depth, side_px, side_px), np.uint8)
    step = np.array([size_mm[0] / depth, size_mm[1] / side_px, size_mm[1] / side_px])
    offsets = [(np.arange(n) - (n - 1) / 2) * gap for n, gap in zip((depth, side_px, side_px), step, strict=True)]
    around = np.stack(np.meshgrid(*offsets, indexing="ij"), axis=-1)[..., ::-1]  # LPS (x, y, z)
    centers: dict[str, np.ndarray] = {}
    for c, (timepoint, sequence, subtract) in enumerate(wanted):
        for at, (_, row) in enumerate(mri_rows(images, timepoint, sequence, patients).iterrows()):
            with of_patient(row):
                volume = read_volume(root / row["path"])
                values = volume.values
                if subtract:
                    values = values - _same_grid(
                        mri_rows(images, timepoint, subtract, [row["patient_id"]]), volume, root
                    )
                if c == 0:
                    centers[row["patient_id"]] = _center_mm(_lesion(row, volume, images, root), volume)
                places = centers[row["patient_id"]] + around
                crops[at, c] = _sampled(_scaled(values, percentiles, None), volume, places, step)
    return crops


def _parsed(channel: str) -> tuple[str | None, str, str | None]:
    timepoint, slash, rest = channel.partition("/")
    sequence, _, subtract = rest.partition("-")
    if not slash or not sequence:
        raise InputError(f"channel {channel!r} cannot be read; give {CHANNEL}")
    return timepoint or None, sequence, subtract or None


def _center_mm(lesion: Lesion, volume: Volume) -> np.ndarray:
    """(3,) LPS (x, y, z): the center of gravity of the mask, else the middle of the box."""
    if lesion.mask is not None:
        index = np.array(ndimage.center_of_mass(lesion.mask))
    else:
        index = (np.array(lesion.box[:3]) + np.array(lesion.box[3:]) - 1) / 2
    return volume.geometry.position_mm(index)


def _sampled(values: np.ndarray, volume: Volume, places_mm: np.ndarray, step_mm: np.ndarray) -> np.ndarray:
    """uint8 values at places_mm (..., 3) LPS; step_mm: (z, y, x), between places along the scanner's axes."""
    axes = np.abs(np.array(volume.geometry.direction))[:, ::-1]  # rows: x, y, z; columns: file axes z, y, x
    finest = axes.T @ step_mm[::-1]  # step along every axis of the file, exact where they are the scanner's
    sigma = np.maximum(finest / np.array(volume.geometry.spacing_mm) - 1, 0) / 2
    smooth = ndimage.gaussian_filter(values, sigma, mode="nearest") if sigma.any() else values
    inverse = np.linalg.inv(volume.geometry.affine)
    index = (places_mm @ inverse[:3, :3].T + inverse[:3, 3])[..., ::-1]
    found = ndimage.map_coordinates(smooth, np.moveaxis(index, -1, 0), order=1, mode="constant", cval=0.0)
    return np.round(255 * np.clip(found, 0, 1)).astype(np.uint8)
