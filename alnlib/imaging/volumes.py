"""Three-dimensional images and masks with their place in the patient: NIfTI read and written, DICOM, NRRD, MATLAB read.

Nothing is resampled, windowed or cropped here. Arrays are (z, y, x): slice, row, column. Positions are in mm in the
LPS system of DICOM and ITK (x to the patient's left, y to the back, z to the head); NIfTI's RAS is converted on the way.
"""

from __future__ import annotations

import gzip
import struct
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

import nibabel
import numpy as np
import scipy.io
import SimpleITK
from pydicom.dataset import Dataset

from alnlib.errors import InputError
from alnlib.imaging.read import (
    decoded,
    dicom_pixels,
    dicom_spacing,
    frame_count,
    frame_item,
    is_dicom,
    read_dicom,
)

NIFTI_SUFFIXES = (".nii", ".nii.gz")
NRRD_SUFFIXES = (".nrrd", ".nhdr", ".mha", ".mhd")
MM_PER_UNIT = {"meter": 1000.0, "mm": 1.0, "micron": 0.001, "unknown": 1.0}
GZIP_MAGIC = b"\x1f\x8b"
HEADER_BYTES = {348: nibabel.Nifti1Image, 540: nibabel.Nifti2Image}
RAS_FROM_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
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

    def __repr__(self) -> str:
        size = " x ".join(str(n) for n in self.shape)
        low, high = float(self.values.min()), float(self.values.max())
        return f"Volume({self.path.name}: {size} voxels of {self.geometry}, {low:g} to {high:g})"


def read_volume(
    path: str | Path, spacing_mm: tuple[float, float, float] | None = None, *, reversed_axes: bool = False
) -> Volume:
    """Read a NIfTI, NRRD, MATLAB or enhanced multi-frame DICOM file, or a folder that holds one DICOM series, as float32.

    NIfTI, compressed or not whatever its suffix: scale factors applied; sform before qform; trailing axes of length 1
    dropped. DICOM: slices or frames sorted by their position along the normal, rescale and padding as for
    `read.read_image`; one series, evenly spaced, at any angle. MATLAB (before version 7.3): the only array of three
    axes, (row, column, slice); it knows no place, so spacing_mm must be given; origin and directions are those of an
    unturned axial scan.
    spacing_mm: (z, y, x) of the returned array; overrides the file's (some public masks say 1 x 1 x 1). reversed_axes:
    the voxels were saved from a (z, y, x) array without turning it round (the same masks), while the header is meant
    for (x, y, z). Raises InputError, naming the file and the remedy, for a missing, truncated, four-dimensional or
    sheared file, another format, or values that are not numbers.
    """
    path = Path(path)
    if spacing_mm is not None:
        spacing_mm = checked_spacing(spacing_mm)
    if path.is_dir():
        values, geometry = _read_series(path, spacing_mm)
    elif path.name.lower().endswith(NIFTI_SUFFIXES):
        values, geometry = _read_nifti(path)
    elif path.suffix.lower() in NRRD_SUFFIXES:
        values, geometry = _read_nrrd(path)
    elif path.suffix.lower() == ".mat":
        values, geometry = _read_matlab(path, spacing_mm)
    elif is_dicom(path):
        if frame_count(read_dicom(path)) < 2:
            raise InputError(f"{path}: is one DICOM file; name the folder that holds the whole series")
        values, geometry = _read_series(path, spacing_mm)
    else:
        raise InputError(
            f"{path}: is not a volume ({path.suffix or 'no suffix'}); give .nii, .nii.gz, .nrrd, .mat or a folder of DICOM slices"
        )
    if reversed_axes:
        values = np.ascontiguousarray(values.transpose())
    if spacing_mm is not None:
        geometry = replace(geometry, spacing_mm=spacing_mm)
    wrong = int(values.size - np.isfinite(values).sum())
    if wrong:
        raise InputError(
            f"{path}: {wrong} of {values.size} voxels are not numbers (NaN or infinite); "
            "export the volume again with a finite background value"
        )
    return Volume(values, geometry, path)


def read_volume_mask(
    path: str | Path,
    image: Volume | None = None,
    spacing_mm: tuple[float, float, float] | None = None,
    *,
    reversed_axes: bool = False,
) -> np.ndarray:
    """(z, y, x) bool: any non-zero voxel. An empty mask is returned as it is (a lesion may be gone after therapy).

    image: the volume it belongs to; raises InputError, naming both, if the voxels do not coincide: another shape, or a
    corner farther away than a tenth of the smallest voxel edge. spacing_mm, reversed_axes: as for `read_volume`, for
    a mask whose header is known to be wrong; its origin and directions are then not looked at either.
    """
    mask = read_volume(path, spacing_mm, reversed_axes=reversed_axes)
    if image is not None:
        _check_same_voxels(mask, image, wrong_header=spacing_mm is not None or reversed_axes)
    return mask.values != 0


def checked_spacing(spacing_mm: tuple[float, float, float]) -> tuple[float, float, float]:
    steps = tuple(float(step) for step in spacing_mm)
    if len(steps) != 3 or not np.isfinite(steps).all() or min(steps) <= 0:
        raise InputError(f"voxel spacing {spacing_mm} is not three positive numbers in mm; give (z, y, x)")
    return steps


def _read_nifti(path: Path) -> tuple[np.ndarray, VolumeGeometry]:
    def decode() -> tuple[np.ndarray, np.ndarray, str]:
        content = path.read_bytes()
        if content[:2] == GZIP_MAGIC:
            content = gzip.decompress(content)  # to the end, so that a damaged tail is noticed
        sizes = {struct.unpack(order + "i", content[:4])[0] for order in "<>"}
        kind = next((HEADER_BYTES[size] for size in sizes if size in HEADER_BYTES), None)
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
        return values, image.affine, image.header.get_xyzt_units()[0]

    _check_file(path)
    values, affine, unit = decoded(path, "the NIfTI volume", decode)
    lps = RAS_FROM_LPS @ affine
    lps[:3] *= MM_PER_UNIT[unit]
    return np.ascontiguousarray(values.transpose()), _geometry(path, lps[:3, :3], lps[:3, 3])


def _read_nrrd(path: Path) -> tuple[np.ndarray, VolumeGeometry]:
    def decode() -> SimpleITK.Image:
        try:
            return SimpleITK.ReadImage(str(path))
        except RuntimeError as error:
            raise ValueError(
                str(error).strip().splitlines()[-1]
            ) from error  # what stands before is ITK's own call stack

    _check_file(path)
    image = decoded(path, "the volume", decode)
    if image.GetDimension() != 3 or image.GetNumberOfComponentsPerPixel() != 1:
        raise InputError(
            f"{path}: has {image.GetDimension()} axes and {image.GetNumberOfComponentsPerPixel()} values per voxel "
            "where one gray volume is expected; save each volume as a file of its own"
        )
    steps = np.reshape(image.GetDirection(), (3, 3)) * image.GetSpacing()
    values = SimpleITK.GetArrayFromImage(image).astype(np.float32)
    return values, _geometry(path, steps, np.array(image.GetOrigin()))


def _read_matlab(path: Path, spacing_mm: tuple[float, float, float] | None) -> tuple[np.ndarray, VolumeGeometry]:
    _check_file(path)
    variables = decoded(path, "the MATLAB file", lambda: scipy.io.loadmat(path))
    volumes = [value for value in variables.values() if isinstance(value, np.ndarray) and value.ndim == 3]
    if len(volumes) != 1 or volumes[0].dtype.kind not in "iufb":
        names = ", ".join(name for name in variables if not name.startswith("__")) or "nothing"
        raise InputError(
            f"{path}: holds {len(volumes)} arrays of three axes ({names}) where one of real numbers is expected; "
            "save each volume as a file of its own"
        )
    if spacing_mm is None:
        raise InputError(f"{path}: a MATLAB file says no voxel spacing; give spacing_mm=(z, y, x)")
    values = np.ascontiguousarray(np.moveaxis(volumes[0], 2, 0), dtype=np.float32)
    return values, VolumeGeometry(spacing_mm)


def _check_file(path: Path) -> None:
    if not path.exists():
        raise InputError(f"{path}: no such file; correct the path in images.csv or put the file there")
    if not path.is_file() or path.stat().st_size == 0:
        raise InputError(f"{path}: the file is empty; fetch or export it again")


def _geometry(path: Path, steps: np.ndarray, origin: np.ndarray) -> VolumeGeometry:
    """steps: (3, 3), column k is the LPS vector in mm from a voxel to the next along index axis k (x, y, z)."""
    spacing = np.linalg.norm(steps, axis=0)
    if not (np.isfinite(spacing).all() and spacing.min() > 0):
        raise InputError(f"{path}: the header gives a voxel no size along an axis; correct the header (spacing)")
    try:
        return VolumeGeometry(spacing[::-1], origin, steps / spacing)
    except ValueError as error:
        raise InputError(f"{path}: {error}; resample it to a rectangular grid first") from error


@dataclass(frozen=True)
class _Slice:
    dataset: Dataset
    path: Path
    frame: int | None  # of a multi-frame object
    position: np.ndarray
    orientation: np.ndarray

    @property
    def name(self) -> str:
        return self.path.name if self.frame is None else f"frame {self.frame + 1} of {self.path.name}"

    @property
    def spacing_mm(self) -> tuple[float, float] | None:
        return dicom_spacing(self.dataset, self.frame or 0)


def _read_series(folder: Path, spacing_mm: tuple[float, float, float] | None) -> tuple[np.ndarray, VolumeGeometry]:
    files = [folder] if folder.is_file() else [file for file in sorted(folder.iterdir()) if _is_slice(file)]
    if not files:
        raise InputError(f"{folder}: holds no DICOM files; name the folder in which the slices lie")
    slices = [one for file in files for one in _slices(file)]
    _check_one_series(folder, slices)
    along_row, along_column = slices[0].orientation[:3], slices[0].orientation[3:]
    normal = np.cross(along_row, along_column)
    slices.sort(key=lambda one: float(one.position @ normal))
    step = _slice_step(folder, slices, normal, spacing_mm)
    in_plane = slices[0].spacing_mm or (spacing_mm[1:] if spacing_mm else None)
    if in_plane is None:
        raise InputError(f"{slices[0].path}: says no pixel spacing; give spacing_mm=(z, y, x)")
    row_mm, column_mm = in_plane
    steps = np.stack([along_row * column_mm, along_column * row_mm, normal * step], axis=1)
    values = np.stack([dicom_pixels(one.dataset, one.path, one.frame) for one in slices])
    return values, _geometry(folder, steps, slices[0].position)


def _is_slice(path: Path) -> bool:
    """A DICOM file that is not the directory of a medium."""
    return path.is_file() and path.name != "DICOMDIR" and path.stat().st_size > 0 and is_dicom(path)


def _slices(path: Path) -> list[_Slice]:
    """One of a single image, one per frame of an enhanced multi-frame object."""
    dataset = read_dicom(path)
    count = frame_count(dataset)
    return [_slice(dataset, path, frame if count > 1 else None) for frame in range(count)]


def _slice(dataset: Dataset, path: Path, frame: int | None) -> _Slice:
    place, plane = (
        frame_item(dataset, frame or 0, f"Plane{what}Sequence") or (dataset if frame is None else Dataset())
        for what in ("Position", "Orientation")
    )
    try:
        position = np.array([float(value) for value in place.ImagePositionPatient])
        orientation = np.array([float(value) for value in plane.ImageOrientationPatient])
    except (AttributeError, TypeError, ValueError) as error:
        raise InputError(
            f"{path}: says no Image Position and Orientation (Patient), so its place among the slices is unknown; "
            "leave only the slices of one volume in the folder"
        ) from error
    if position.shape != (3,) or orientation.shape != (6,):
        raise InputError(f"{path}: Image Position or Orientation (Patient) is incomplete; export the series again")
    return _Slice(dataset, path, frame, position, orientation)


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


def _slice_step(
    folder: Path, slices: list[_Slice], normal: np.ndarray, spacing_mm: tuple[float, float, float] | None
) -> float:
    """mm from slice to slice along the normal; of a single slice its spacing or thickness."""
    if len(slices) == 1:
        measures = frame_item(slices[0].dataset, 0, "PixelMeasuresSequence") or slices[0].dataset
        thickness = measures.get("SpacingBetweenSlices") or measures.get("SliceThickness") or 0.0
        step = spacing_mm[0] if spacing_mm else decoded(slices[0].path, "the thickness", lambda: float(thickness))
        if step <= 0:
            raise InputError(f"{slices[0].path}: is a single slice without thickness; give spacing_mm=(z, y, x)")
        return step
    places = np.array([one.position @ normal for one in slices])
    steps = np.diff(places)
    mean = float(steps.mean())
    worst = int(np.abs(steps - mean).argmax())
    pair = f"{slices[worst].name} and {slices[worst + 1].name}"
    if steps.min() < ORTHOGONAL_WITHIN:
        twins = int(steps.argmin())
        pair = f"{slices[twins].name} and {slices[twins + 1].name}"
        raise InputError(f"{folder}: {pair} lie at the same place (several time points?); keep one volume per folder")
    if abs(steps[worst] - mean) > UNEVEN_SLICES * mean:
        raise InputError(
            f"{folder}: {pair} are {steps[worst]:.3g} mm apart where the mean is {mean:.3g} mm; a slice is missing or foreign"
            ": fetch the series again"
        )
    shift = slices[-1].position - slices[0].position
    aside = float(np.linalg.norm(shift - (shift @ normal) * normal))
    if aside > UNEVEN_SLICES * mean * len(steps):
        raise InputError(
            f"{folder}: the slices are shifted sideways by {aside:.3g} mm (gantry tilt); resample it first"
        )
    return mean


def _check_same_voxels(mask: Volume, image: Volume, *, wrong_header: bool) -> None:
    if mask.shape != image.shape:
        raise InputError(
            f"{mask.path}: the mask has {' x '.join(map(str, mask.shape))} voxels (z, y, x), its image {image.path} "
            f"{' x '.join(map(str, image.shape))}; export the mask on the grid of the image"
        )
    placed = replace(image.geometry, spacing_mm=mask.geometry.spacing_mm) if wrong_header else mask.geometry
    corners = np.array(list(product(*((0, n - 1) for n in mask.shape))))
    apart = np.linalg.norm(placed.position_mm(corners) - image.geometry.position_mm(corners), axis=1).max()
    if apart > MISPLACED_VOXELS * min(image.geometry.spacing_mm):
        raise InputError(
            f"{mask.path}: the mask lies at {mask.geometry}, its image {image.path} at {image.geometry}; corners are "
            f"{apart:.3g} mm apart: export the mask on the grid of the image, or give its true spacing_mm"
        )
