"""Three-dimensional images and masks with their place in the patient, from NIfTI, NRRD or DICOM.

Nothing is resampled, windowed or cropped here. Arrays are (z, y, x): slice, row, column. Positions are in mm in the
LPS system of DICOM and ITK (x to the patient's left, y to the back, z to the head); NIfTI's RAS is converted on the way.
"""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import nibabel
import numpy as np
import SimpleITK
from pydicom.dataset import Dataset

from alnlib.errors import InputError
from alnlib.imaging import read

NIFTI_SUFFIXES = (".nii", ".nii.gz")
NRRD_SUFFIXES = (".nrrd", ".nhdr", ".mha", ".mhd")
MM_PER_UNIT = {"meter": 1000.0, "mm": 1.0, "micron": 0.001, "unknown": 1.0}
GZIP_MAGIC = b"\x1f\x8b"
RAS_FROM_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
CORNERS = np.array(list(np.ndindex(2, 2, 2)))
"""Of a box, as multiples of its edges (z, y, x)."""

ORTHOGONAL_WITHIN = 1e-3
"""Largest cosine between two axes, and change of length, that rounding explains."""

UNEVEN_SLICES = 0.05
"""Largest deviation of a slice step from the mean step, as a share of it. Our choice."""

MISPLACED_VOXELS = 0.1
"""Largest distance between the corners of mask and image, in smallest voxel edges. Our choice."""


@dataclass(frozen=True)
class VolumeGeometry:
    """Where voxels lie, in mm (LPS).

    spacing_mm: (z, y, x). origin_mm: (x, y, z) of the center of voxel [0, 0, 0]. direction: 3 x 3, orthonormal; its
    columns are the directions in which the column (x), row (y) and slice (z) index grow, as in ITK; any array-like.
    Raises ValueError for spacing that is not positive or axes that are not perpendicular.
    """

    spacing_mm: tuple[float, float, float]
    origin_mm: tuple[float, float, float] = (0.0, 0.0, 0.0)
    direction: tuple[tuple[float, float, float], ...] = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))

    def __post_init__(self) -> None:
        for name, shape in (("spacing_mm", (3,)), ("origin_mm", (3,)), ("direction", (3, 3))):
            values = np.asarray(getattr(self, name), dtype=float)
            if values.shape != shape or not np.isfinite(values).all():
                raise ValueError(f"{name} is {getattr(self, name)}; expected finite numbers of shape {shape}")
            plain = tuple(tuple(row) for row in values.tolist()) if values.ndim == 2 else tuple(values.tolist())
            object.__setattr__(self, name, plain)
        if min(self.spacing_mm) <= 0:
            raise ValueError(f"spacing_mm is {self.spacing_mm}; expected positive (z, y, x)")
        axes = np.array(self.direction)
        if np.abs(axes.T @ axes - np.eye(3)).max() > ORTHOGONAL_WITHIN:
            raise ValueError(
                "the axes of the volume are not perpendicular unit vectors (a sheared or gantry-tilted scan)"
            )

    @property
    def affine(self) -> np.ndarray:
        """(4, 4): LPS position in mm of index (x, y, z, 1), that is column, row, slice."""
        affine = np.eye(4)
        affine[:3, :3] = np.array(self.direction) * self.spacing_mm[::-1]
        affine[:3, 3] = self.origin_mm
        return affine

    def position_mm(self, index: Sequence[float] | np.ndarray) -> np.ndarray:
        """(..., 3) LPS (x, y, z) of the centers of voxels at `index`, (..., 3) in the order (z, y, x), fractions allowed."""
        affine = self.affine
        return np.asarray(index, dtype=float)[..., ::-1] @ affine[:3, :3].T + affine[:3, 3]

    def __str__(self) -> str:
        spacing = " x ".join(f"{step:.4g}" for step in self.spacing_mm)
        origin = ", ".join(f"{place:.4g}" for place in self.origin_mm)
        across = " ".join(f"{cosine:.3g}" for cosine in np.ravel(self.direction))
        return f"{spacing} mm (z, y, x) from ({origin}) mm along [{across}]"


@dataclass(frozen=True)
class Volume:
    """A three-dimensional image. values: (z, y, x) float32 in the file's own units (rescale applied)."""

    values: np.ndarray
    geometry: VolumeGeometry
    path: Path

    @property
    def shape(self) -> tuple[int, int, int]:
        """(z, y, x)."""
        return self.values.shape


def read_volume(path: str | Path) -> Volume:
    """Read a NIfTI, NRRD or enhanced multi-frame DICOM file, or a folder that holds one DICOM series, as float32.

    NIfTI, compressed or not whatever its suffix: scale factors applied; sform before qform; trailing axes of length 1
    dropped. DICOM: slices or frames sorted by their position along the normal, rescale and padding as for
    `read.read_image`; one series, evenly spaced, at any angle. Raises InputError, naming the file and the remedy, for a
    missing, truncated, four-dimensional or sheared file, another format, or values that are not numbers.
    """
    path = Path(path)
    if not path.is_dir():
        read.first_bytes(path)
    if path.is_dir():
        values, geometry = read_series(path, [file for file in sorted(path.iterdir()) if read.is_dicom_image(file)])
    elif path.name.lower().endswith(NIFTI_SUFFIXES):
        values, geometry = _read_nifti(path)
    elif path.suffix.lower() in NRRD_SUFFIXES:
        values, geometry = _read_nrrd(path)
    elif not read.is_dicom(path):
        raise InputError(
            f"{path}: is not a volume ({path.suffix or 'no suffix'}); give .nii, .nii.gz, .nrrd or a folder of DICOM slices"
        )
    elif read.frame_count(read.read_dicom(path)) < 2:
        raise InputError(f"{path}: is one DICOM file; name the folder that holds the whole series")
    else:
        values, geometry = read_series(path, [path])
    read.check_finite(values, path)
    return Volume(values, geometry, path)


def read_volume_mask(path: str | Path, image: Volume | None = None) -> np.ndarray:
    """(z, y, x) bool: any non-zero voxel. An empty mask is returned as it is (a lesion may be gone after therapy).

    image: the volume it belongs to, for `check_same_voxels`.
    """
    mask = read_volume(path)
    if image is not None:
        check_same_voxels(mask, image)
    return mask.values != 0


def check_same_voxels(
    one: Volume,
    other: Volume,
    names: tuple[str, str] = ("the mask", "its image"),
    remedy: str = "export the mask on the grid of the image",
) -> None:
    """Raise InputError, naming both, for another shape, or corners farther apart than a tenth of the smallest voxel edge."""
    if one.shape != other.shape:
        raise InputError(
            f"{one.path}: {names[0]} has {' x '.join(map(str, one.shape))} voxels (z, y, x), {names[1]} {other.path} "
            f"{' x '.join(map(str, other.shape))}; {remedy}"
        )
    corners = (np.array(one.shape) - 1) * CORNERS
    apart = np.linalg.norm(one.geometry.position_mm(corners) - other.geometry.position_mm(corners), axis=1).max()
    if apart > MISPLACED_VOXELS * min(other.geometry.spacing_mm):
        raise InputError(
            f"{one.path}: {names[0]} lies at {one.geometry}, {names[1]} {other.path} at {other.geometry}; corners are "
            f"{apart:.3g} mm apart: {remedy}"
        )


def _read_nifti(path: Path) -> tuple[np.ndarray, VolumeGeometry]:
    with read.decoding(path, "the NIfTI volume"):
        content = path.read_bytes()
        if content[:2] == GZIP_MAGIC:
            content = gzip.decompress(content)  # to the end, so that a damaged tail is noticed
        kinds = nibabel.Nifti1Image, nibabel.Nifti2Image
        kind = next((kind for kind in kinds if kind.header_class.may_contain_header(content)), None)
        if kind is None:
            raise ValueError("no NIfTI header")
        image = kind.from_bytes(content)
        shape = image.shape
        while len(shape) > 3 and shape[-1] == 1:
            shape = shape[:-1]
        if len(shape) != 3 or 0 in shape:
            raise InputError(
                f"{path}: has shape {' x '.join(map(str, image.shape))} (x, y, z, ...) where one volume with three axes "
                "is expected; save each time point or b-value as a file of its own"
            )
        if image.get_data_dtype().kind not in "iuf":
            raise InputError(f"{path}: holds {image.get_data_dtype()} voxels; export real numbers")
        values = np.asarray(image.dataobj, dtype=np.float32).reshape(shape)
        lps = RAS_FROM_LPS @ image.affine
        lps[:3] *= MM_PER_UNIT[image.header.get_xyzt_units()[0]]
    return np.ascontiguousarray(values.transpose()), _geometry(path, lps[:3, :3], lps[:3, 3])


def _read_nrrd(path: Path) -> tuple[np.ndarray, VolumeGeometry]:
    with read.decoding(path, "the volume"):
        try:
            image = SimpleITK.ReadImage(str(path))
        except RuntimeError as error:
            last_line = str(error).strip().splitlines()[-1]  # what stands before is ITK's own call stack
            raise ValueError(last_line) from error
    if image.GetDimension() != 3 or image.GetNumberOfComponentsPerPixel() != 1:
        raise InputError(
            f"{path}: has {image.GetDimension()} axes and {image.GetNumberOfComponentsPerPixel()} values per voxel "
            "where one gray volume is expected; save each volume as a file of its own"
        )
    steps = np.reshape(image.GetDirection(), (3, 3)) * image.GetSpacing()
    values = SimpleITK.GetArrayFromImage(image).astype(np.float32)
    return values, _geometry(path, steps, np.array(image.GetOrigin()))


def _geometry(path: Path, steps: np.ndarray, origin: np.ndarray) -> VolumeGeometry:
    """steps: (3, 3), column k is the LPS vector in mm from a voxel to the next along index axis k (x, y, z)."""
    spacing = np.linalg.norm(steps, axis=0)
    if not (np.isfinite(spacing).all() and spacing.min() > 0):
        raise InputError(f"{path}: the header gives a voxel no size along an axis; correct the header (spacing)")
    try:
        return VolumeGeometry(spacing[::-1], origin, steps / spacing)
    except ValueError as error:
        raise InputError(f"{path}: {error}; resample it to a rectangular grid first") from error


class _Slice(NamedTuple):
    """One image, or one frame of a multi-frame object. position, orientation, spacing_mm: as DICOM has them, in mm."""

    name: str
    dataset: Dataset
    path: Path
    frame: int | None
    position: np.ndarray
    orientation: np.ndarray
    spacing_mm: tuple[float, float] | None


def read_series(path: Path, files: list[Path]) -> tuple[np.ndarray, VolumeGeometry]:
    """(z, y, x) float32 and place of the DICOM slices in these files, as `read_volume` reads a folder; path: named in errors."""
    if not files:
        raise InputError(f"{path}: holds no DICOM files; name the folder in which the slices lie")
    slices = [one for file in files for one in _slices(file)]
    _check_one_series(path, slices)
    along_row, along_column = slices[0].orientation[:3], slices[0].orientation[3:]
    normal = np.cross(along_row, along_column)
    slices.sort(key=lambda one: float(one.position @ normal))
    step = _slice_step(path, slices, normal)
    if slices[0].spacing_mm is None:
        raise InputError(f"{slices[0].path}: says no pixel spacing; export the series again with it")
    row_mm, column_mm = slices[0].spacing_mm
    steps = np.stack([along_row * column_mm, along_column * row_mm, normal * step], axis=1)
    values = np.stack([read.dicom_pixels(one.dataset, one.path, one.frame) for one in slices])
    return values, _geometry(path, steps, slices[0].position)


def _slices(path: Path) -> list[_Slice]:
    dataset = read.read_dicom(path)
    count = read.frame_count(dataset)
    if count == 1:
        return [_slice(path.name, dataset, path, None)]
    return [_slice(f"frame {frame + 1} of {path.name}", dataset, path, frame) for frame in range(count)]


def _slice(name: str, dataset: Dataset, path: Path, frame: int | None) -> _Slice:
    place, plane = (
        read.frame_item(dataset, frame or 0, f"Plane{what}Sequence") or (dataset if frame is None else Dataset())
        for what in ("Position", "Orientation")
    )
    try:
        position = np.array(place.ImagePositionPatient, dtype=float).reshape(3)
        orientation = np.array(plane.ImageOrientationPatient, dtype=float).reshape(6)
    except (AttributeError, TypeError, ValueError) as error:
        raise InputError(
            f"{path}: says no complete Image Position and Orientation (Patient), so its place among the slices is unknown; "
            "leave only the slices of one volume in the folder, or export the series again"
        ) from error
    return _Slice(name, dataset, path, frame, position, orientation, read.dicom_spacing(dataset, frame or 0))


def _check_one_series(folder: Path, slices: list[_Slice]) -> None:
    series = sorted({str(one.dataset.get("SeriesInstanceUID", "")) for one in slices})
    if len(series) > 1:
        raise InputError(
            f"{folder}: holds {len(series)} series ({', '.join(series[:3])}); put each in a folder of its own"
        )
    first = slices[0]
    for one in slices[1:]:
        size, expected = ((each.dataset.get("Rows"), each.dataset.get("Columns")) for each in (one, first))
        spacing, first_spacing = (each.spacing_mm or (0.0, 0.0) for each in (one, first))
        turned = np.abs(one.orientation - first.orientation).max() > ORTHOGONAL_WITHIN
        if size != expected or turned or not np.allclose(spacing, first_spacing, rtol=1e-3):
            raise InputError(
                f"{folder}: {one.name} has another size, pixel spacing or orientation than {first.name} "
                "(a localizer?); leave only the slices of one volume in the folder"
            )


def _slice_step(folder: Path, slices: list[_Slice], normal: np.ndarray) -> float:
    """mm from slice to slice along the normal; of a single slice its spacing or thickness."""
    if len(slices) == 1:
        measures = read.frame_item(slices[0].dataset, 0, "PixelMeasuresSequence") or slices[0].dataset
        thickness = measures.get("SpacingBetweenSlices") or measures.get("SliceThickness") or 0.0
        with read.decoding(slices[0].path, "the thickness"):
            step = float(thickness)
        if step <= 0:
            raise InputError(
                f"{slices[0].path}: is a single slice without thickness; name the folder of the whole series"
            )
        return step
    steps = np.diff([one.position @ normal for one in slices])
    mean = float(steps.mean())
    closest, oddest = int(steps.argmin()), int(np.abs(steps - mean).argmax())
    names = [one.name for one in slices]
    if steps[closest] < ORTHOGONAL_WITHIN:
        raise InputError(
            f"{folder}: {names[closest]} and {names[closest + 1]} lie at the same place (several time points?); keep one "
            "volume per folder"
        )
    if abs(steps[oddest] - mean) > UNEVEN_SLICES * mean:
        raise InputError(
            f"{folder}: {names[oddest]} and {names[oddest + 1]} are {steps[oddest]:.3g} mm apart where the mean is {mean:.3g} "
            "mm; a slice is missing or foreign: fetch the series again"
        )
    shift = slices[-1].position - slices[0].position
    aside = float(np.linalg.norm(shift - (shift @ normal) * normal))
    if aside > UNEVEN_SLICES * mean * len(steps):
        raise InputError(
            f"{folder}: the slices are shifted sideways by {aside:.3g} mm (gantry tilt); resample it first"
        )
    return mean
