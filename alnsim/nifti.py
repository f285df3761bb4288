"""Volumes as NIfTI files, with the place of every voxel in the room."""

from __future__ import annotations

import gzip
from dataclasses import dataclass
from pathlib import Path

import nibabel
import numpy as np

from alnlib.files import atomic_path

WRITTEN_KINDS = ("uint8", "int16", "float32")
RAS_FROM_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


@dataclass(frozen=True)
class Placement:
    """Where voxels lie, in mm (LPS). spacing_mm: (z, y, x); origin_mm: (3,) of voxel [0, 0, 0]; direction: (3, 3), its
    columns the directions in which the column (x), row (y) and slice (z) index grow."""

    spacing_mm: tuple[float, float, float]
    origin_mm: np.ndarray
    direction: np.ndarray

    @property
    def affine(self) -> np.ndarray:
        """(4, 4): position in mm of index (x, y, z, 1)."""
        affine = np.eye(4)
        affine[:3, :3] = self.direction * self.spacing_mm[::-1]
        affine[:3, 3] = self.origin_mm
        return affine


def write_volume(path: str | Path, values: np.ndarray, geometry: Placement) -> Path:
    """Write (z, y, x) values of type uint8, int16 or float32 as NIfTI-1, whole or not at all; return the path.

    geometry: a `Placement`, or anything with such an `affine`.
    bool is written as uint8. sform and qform are both set and agree (code 1, scanner coordinates). The same values give
    the same bytes: gzip at level 1 without time or file name. Suffix .nii or .nii.gz. Raises ValueError for another
    type, shape, suffix, or values that are not finite.
    """
    path = Path(path)
    values = np.asarray(values)
    if values.dtype == bool:
        values = values.astype(np.uint8)
    if values.ndim != 3 or values.dtype.name not in WRITTEN_KINDS or values.size == 0:
        raise ValueError(f"values are {values.dtype} with shape {values.shape}; expected (z, y, x) of {WRITTEN_KINDS}")
    if not np.isfinite(values).all():
        raise ValueError("values are not all finite; a volume without numbers cannot be analyzed")
    if not path.name.endswith((".nii", ".nii.gz")):
        raise ValueError(f"{path.name} does not end in .nii or .nii.gz")
    affine = RAS_FROM_LPS @ geometry.affine
    header = nibabel.Nifti1Header(endianness="<")
    header.set_data_dtype(values.dtype.newbyteorder("<"))
    header.set_xyzt_units("mm")
    image = nibabel.Nifti1Image(values.transpose(), affine, header)
    image.set_sform(affine, code=1)
    image.set_qform(affine, code=1)
    content = image.to_bytes()
    with atomic_path(path) as temporary:
        if path.name.endswith(".gz"):
            with temporary.open("wb") as stream, gzip.GzipFile("", "wb", 1, stream, mtime=0) as packed:
                packed.write(content)
        else:
            temporary.write_bytes(content)
    return path
