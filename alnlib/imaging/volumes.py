"""Three-dimensional images and masks with their place in the patient, from NIfTI, NRRD or DICOM.

Nothing is resampled, windowed or cropped here. Arrays are (z, y, x): slice, row, column. Positions are in mm in the
LPS system of DICOM and ITK (x to the patient's left, y to the back, z to the head); NIfTI's RAS is converted on the way.
"""

from __future__ import annotations

import gzip
import io
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import permutations
from pathlib import Path, PureWindowsPath
from typing import NamedTuple

import nibabel
import numpy as np
import SimpleITK
from pydicom.dataset import Dataset

from alnlib.errors import InputError
from alnlib.imaging import read
from alnlib.imaging.masks import drawn_lesion, refuse_background, without_specks
from alnlib.imaging.structures import STRUCTURES, structure_mask

NIFTI_SUFFIXES = (".nii", ".nii.gz")
NIFTI_KINDS = nibabel.Nifti1Image, nibabel.Nifti2Image
NRRD_SUFFIXES = (".nrrd", ".nhdr", ".mha", ".mhd")
DATA_FILE = re.compile(r"^(?:data ?file *:=?|ElementDataFile *=) *(.*)", re.MULTILINE | re.IGNORECASE)
"""Where a header names another file that holds its voxels (NRRD format 5; MetaIO)."""
HEADER_BYTES = 2**16
LARGEST_VALUE = 16
"""Bytes of a voxel of NIfTI's largest kinds (complex128, float128)."""

MM_PER_UNIT = {"meter": 1000.0, "mm": 1.0, "micron": 0.001, "unknown": 1.0}
GZIP_MAGIC = b"\x1f\x8b"
RAS_FROM_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
CORNERS = np.array(list(np.ndindex(2, 2, 2)))
"""Of a box, as multiples of its edges (z, y, x)."""

ORTHOGONAL_WITHIN = 1e-3
"""Largest cosine between two axes, and change of length, that rounding explains."""

UNEVEN_SLICES = 0.05
"""Largest deviation of a slice step from the mean step, as a share of it. Our choice."""

PHASE_ORDER = (
    "TemporalPositionIdentifier",
    "TemporalPositionIndex",
    "TriggerTime",
    "AcquisitionNumber",
    "FrameAcquisitionDateTime",
    "FrameReferenceDateTime",
    "AcquisitionDateTime",
    "AcquisitionTime",
    "ContentTime",
)
"""What tells time points of one series apart, the first of these that does."""

SLICE_AXIS = 1.5
"""A step so many times longer than the others is from slice to slice. Our choice."""

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
    """A three-dimensional image. values: (z, y, x) float32 in the file's own units (rescale applied). in_hu: whether these can
    be Hounsfield units: by the header of DICOM, elsewhere because there is air."""

    values: np.ndarray
    geometry: VolumeGeometry
    path: Path
    in_hu: bool = False

    @property
    def shape(self) -> tuple[int, int, int]:
        """(z, y, x)."""
        return self.values.shape

    def in_order_of(self, other: Volume) -> Volume:
        """The same voxels with array axes in the order and direction of another volume's, as converters exchange them."""
        mine, theirs = axial_axes(self.geometry), axial_axes(other.geometry)
        if mine == theirs:
            return self
        back = np.argsort(theirs[0])
        order = tuple(mine[0][place] for place in back)
        flips = tuple(mine[1][place] != theirs[1][place] for place in back)
        values = np.ascontiguousarray(turned(self.values, order, flips))
        axes = np.array(self.geometry.direction)[:, ::-1][:, list(order)] * np.where(flips, -1, 1)
        spacing = np.array(self.geometry.spacing_mm)[list(order)]
        first = np.zeros(3)
        for place, axis in enumerate(order):
            first[axis] = self.shape[axis] - 1 if flips[place] else 0
        geometry = VolumeGeometry(spacing, self.geometry.position_mm(first), axes[:, ::-1])
        return replace(self, values=values, geometry=geometry)

    def with_pixels(self, spacing_mm: tuple[float, float] | None) -> Volume:
        """With another size of pixels (row, column) in the plane, if one is given: what a table knows better than the header.

        Raises InputError where the slices do not lie along the first axis, so that rows and columns are others.
        """
        if spacing_mm is None:
            return self
        across, *in_plane = self.geometry.spacing_mm
        if max(in_plane) > SLICE_AXIS * across and max(in_plane) > SLICE_AXIS * min(in_plane):
            raise InputError(
                f"{self.path}: its slices seem to lie along another axis than the first ({self.geometry}), so that rows and "
                "columns of pixel_spacing_mm are not certain; leave that empty and correct the header"
            )
        return replace(self, geometry=replace(self.geometry, spacing_mm=(self.geometry.spacing_mm[0], *spacing_mm)))


def read_volume(path: str | Path, frame: int | None = None, *, stored: bool = False) -> Volume:
    """Read a NIfTI, NRRD or enhanced multi-frame DICOM file, or a folder that holds one DICOM series, as float32.

    NIfTI, compressed or not whatever its suffix: scale factors applied; sform before qform; trailing axes of length 1
    dropped. DICOM: slices or frames sorted by their position along the normal, rescale and padding as for
    `read.read_image`; one series, evenly spaced, at any angle; a slice that is there twice counts once.
    stored: values of DICOM as they are stored, which is what a mask means.
    frame: which time point, from 0, of a NIfTI file with four axes or a series with several images of every slice (in the order
    of `PHASE_ORDER`). Raises InputError, naming the file and the remedy, for a missing, truncated or sheared file, several time
    points of which none is named, another format, or values that are not numbers.
    """
    path = Path(path)
    if not path.is_dir():
        read.first_bytes(path)
    if path.is_dir():
        volume = read_series(
            path, [file for file in sorted(path.iterdir()) if read.is_dicom_image(file)], frame, stored=stored
        )
    elif path.name.lower().endswith(NIFTI_SUFFIXES):
        volume = _read_nifti(path, frame)
    elif path.suffix.lower() in NRRD_SUFFIXES:
        volume = _read_nrrd(path)
    elif not read.is_dicom(path):
        raise InputError(
            f"{path}: is not a volume ({path.suffix or 'no suffix'}); give .nii, .nii.gz, .nrrd or a folder of DICOM slices"
        )
    else:
        dataset = read.read_dicom(path)
        if read.frame_count(dataset) < 2:
            raise InputError(
                f"{path}: is one DICOM file ({read.shown(dataset.get('Modality'), read.MODALITIES)}); name the folder that "
                "holds the whole series"
            )
        volume = read_series(path, [path], frame, stored=stored)
    read.check_finite(volume.values, path)
    return volume


def read_volume_mask(
    path: str | Path, image: Volume | None = None, label: int | None = None, frame: int | None = None
) -> np.ndarray:
    """(z, y, x) bool from NIfTI, NRRD, a DICOM series, SEG or RTSTRUCT: the lesion, without specks (`drawn_lesion`).

    image: the volume it belongs to, on whose voxels it must lie, in whatever order its axes are stored; SEG and RTSTRUCT need it,
    and label is there the number of the segment or structure. frame: which time point, of a mask that has several. DICOM counts
    as it is stored. An empty mask is returned as it is (a lesion may be gone after therapy).
    """
    path = Path(path)
    if path.is_file() and read.is_dicom(path):
        dataset = read.read_dicom(path)
        if dataset.get("Modality") in STRUCTURES:
            if image is None:
                raise InputError(
                    f"{path}: is a {dataset.Modality} object, whose voxels are those of its image; name that too"
                )
            lesion = structure_mask(path, image, label)
            if label is None:
                refuse_background(lesion, path, f"a {dataset.Modality} object")
            return without_specks(lesion)
    mask = _mask_volume(path, frame)
    if image is not None:
        mask = mask.in_order_of(image)
        check_same_voxels(mask, image)
    return without_specks(drawn_lesion(mask.values, path, label))


def _mask_volume(path: Path, frame: int | None) -> Volume:
    """Of a mask that has one time point, whatever frame of its image is meant."""
    if frame is None:
        return read_volume(path, stored=True)
    try:
        return read_volume(path, stored=True)
    except InputError:
        return read_volume(path, frame, stored=True)


def is_volume(path: Path) -> bool:
    """Whether a path can only be a volume: a folder, or a file of a format that has three axes."""
    return path.is_dir() or path.name.lower().endswith((*NIFTI_SUFFIXES, *NRRD_SUFFIXES))


def axial_axes(geometry: VolumeGeometry) -> tuple[tuple[int, int, int], tuple[bool, bool, bool]]:
    """Array axes that run nearest to head, back and left, in this order, and whether each must be turned round."""
    along = np.array(geometry.direction).T[::-1, ::-1]  # [array axis, (head, back, left)]
    order = max(permutations(range(3)), key=lambda axes: sum(abs(along[axis, k]) for k, axis in enumerate(axes)))
    return order, tuple(bool(along[axis, k] < 0) for k, axis in enumerate(order))


def turned(values: np.ndarray, order: tuple[int, int, int], flips: tuple[bool, bool, bool]) -> np.ndarray:
    """(z, y, x) values with axes as `axial_axes` says."""
    return np.flip(values.transpose(order), tuple(np.flatnonzero(flips)))


def turned_edges(
    box: Sequence[int], shape: Sequence[int], order: tuple[int, int, int], flips: tuple[bool, bool, bool]
) -> tuple[np.ndarray, np.ndarray]:
    """Lower and upper edges (3,) of a half-open box in a volume whose `turned` shape is `shape`."""
    edges = np.reshape(box, (2, 3))[:, order]
    low, high = np.where(flips, np.array(shape) - edges[::-1], edges)
    return low, high


def largest_slice(mask: np.ndarray | None, low: int, high: int) -> int:
    """That with most voxels of a mask (of equals the one nearest to the middle); without a mask the middle of low to high."""
    middle = 0.5 * (low + high - 1)
    if mask is None:
        return int(middle)
    area = mask.sum(axis=(1, 2))
    equals = np.flatnonzero(area == area.max())
    return int(equals[np.abs(equals - middle).argmin()])


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


def _read_nifti(path: Path, frame: int | None) -> Volume:
    with read.decoding(path, "the NIfTI volume"):
        content = path.read_bytes()
        if content[:2] == GZIP_MAGIC:
            content = _unpacked(content, path)
        image = _nifti_kind(content).from_bytes(content)
        shape = image.shape
        read.check_declared(path, *shape)
        while len(shape) > 3 and shape[-1] == 1:
            shape = shape[:-1]
        if len(shape) not in (3, 4) or 0 in shape or (len(shape) == 4 and frame is None):
            raise InputError(
                f"{path}: has shape {' x '.join(map(str, image.shape))} (x, y, z, ...) where one volume with three axes "
                "is expected; save each time point or b-value as a file of its own, or name one of a fourth axis in a column "
                "frame of images.csv (0 is the first)"
            )
        if image.get_data_dtype().kind not in "iuf":
            raise InputError(f"{path}: holds {image.get_data_dtype()} voxels; export real numbers")
        values = np.asarray(image.dataobj, dtype=np.float32).reshape(shape)
        if len(shape) == 4:
            values = values[..., read.chosen_frame(path, shape[3], frame)]
        lps = RAS_FROM_LPS @ image.affine
        lps[:3] *= MM_PER_UNIT[image.header.get_xyzt_units()[0]]
    values = np.ascontiguousarray(values.transpose())
    return Volume(values, _geometry(path, lps[:3, :3], lps[:3, 3]), path, read.holds_air(values))


def _unpacked(content: bytes, path: Path) -> bytes:
    """Of gzip, to the end, so that a damaged tail is noticed, and not more than the header announces."""
    with gzip.GzipFile(fileobj=io.BytesIO(content)) as packed:
        head = packed.read(HEADER_BYTES)
        header = _nifti_kind(head).header_class.from_fileobj(io.BytesIO(head), check=False)
        read.check_declared(path, *header.get_data_shape())
        rest = packed.read(
            HEADER_BYTES + int(header.get_data_offset()) + LARGEST_VALUE * math.prod(header.get_data_shape())
        )
        if packed.read(1):
            raise ValueError("it unpacks to more than its header announces")
    return head + rest


def _nifti_kind(content: bytes) -> type[nibabel.Nifti1Image] | type[nibabel.Nifti2Image]:
    kind = next((kind for kind in NIFTI_KINDS if kind.header_class.may_contain_header(content)), None)
    if kind is None:
        raise ValueError("no NIfTI header")
    return kind


def _read_nrrd(path: Path) -> Volume:
    _check_detached(path)
    with read.decoding(path, "the volume"):
        try:
            reader = SimpleITK.ImageFileReader()
            reader.SetFileName(str(path))
            reader.ReadImageInformation()
            read.check_declared(path, *reader.GetSize(), reader.GetNumberOfComponents())
            image = reader.Execute()
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
    return Volume(values, _geometry(path, steps, np.array(image.GetOrigin())), path, read.holds_air(values))


def _check_detached(path: Path) -> None:
    """Raise InputError for a header (NRRD, MetaIO) whose voxels are said to lie outside of its own folder."""
    header = re.split(r"\r?\n\r?\n", read.first_bytes(path, HEADER_BYTES).decode("latin-1"), maxsplit=1)[0]
    named = DATA_FILE.search(header)
    names = (
        [] if named is None else header[named.start(1) :].splitlines() if named[1].startswith("LIST") else [named[1]]
    )
    for name in (name.strip() for name in names):
        place = path.parent / name
        if PureWindowsPath(name).is_absolute() or not place.resolve().is_relative_to(path.parent.resolve()):
            raise InputError(
                f"{path}: its voxels are said to be in {name}, outside of its folder; put both files into one folder, or save "
                "the volume as one file (.nrrd, .mha)"
            )


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


def read_series(path: Path, files: list[Path], frame: int | None = None, *, stored: bool = False) -> Volume:
    """The DICOM slices in these files, as `read_volume` reads a folder; path: named in errors.

    Padding becomes the smallest other value of all slices, so that the background is the same in each.
    """
    if not files:
        raise InputError(f"{path}: holds no DICOM files; name the folder in which the slices lie")
    slices = [one for file in files for one in _slices(file)]
    _check_one_series(path, slices)
    along_row, along_column = slices[0].orientation[:3], slices[0].orientation[3:]
    normal = np.cross(along_row, along_column)
    normal = normal / np.linalg.norm(normal)
    slices.sort(key=lambda one: float(one.position @ normal))
    slices = _one_phase(path, _without_copies(slices), normal, frame)
    step = _slice_step(path, slices, normal)
    if slices[0].spacing_mm is None:
        raise InputError(f"{slices[0].path}: says no pixel spacing; export the series again with it")
    row_mm, column_mm = slices[0].spacing_mm
    steps = np.stack([along_row * column_mm, along_column * row_mm, normal * step], axis=1)
    if stored:
        planes = [read.stored_pixels(one.dataset, one.path, one.frame) for one in slices]
        values = np.stack(planes).astype(np.float32)
    else:
        values = np.stack([read.dicom_pixels(one.dataset, one.path, one.frame, np.nan) for one in slices])
        padded = [read.is_padded(one.dataset) for one in slices]
        if any(padded):
            lowest = 0.0 if np.isnan(values).all() else float(np.nanmin(values))
            values[padded] = np.nan_to_num(values[padded], nan=lowest)
    in_hu = read.in_hounsfield(slices[0].dataset, slices[0].frame or 0, read.holds_air(values))
    return Volume(values, _geometry(path, steps, slices[0].position), path, in_hu)


def _without_copies(slices: list[_Slice]) -> list[_Slice]:
    """A slice that was exported twice is there once: the same object, or the same frame of it, at the same place."""
    seen: dict[tuple, _Slice] = {}
    for one in slices:
        uid = str(one.dataset.get("SOPInstanceUID") or one.path)
        seen.setdefault((uid, one.frame, *one.position.round(3)), one)
    return list(seen.values())


def _one_phase(path: Path, slices: list[_Slice], normal: np.ndarray, frame: int | None) -> list[_Slice]:
    """The slices, sorted by place, of the time point that is asked for; all of a volume with one image at each place."""
    heights = np.array([one.position @ normal for one in slices])
    places = np.r_[0, np.flatnonzero(np.diff(heights) > ORTHOGONAL_WITHIN) + 1]
    counts = np.diff(np.r_[places, len(slices)])
    if counts.max() == 1 or counts.min() != counts.max():
        read.chosen_frame(path, 1, frame)
        return slices  # `_slice_step` tells of a slice that is missing or foreign
    n_phases = int(counts[0])
    at_place = [slices[start : start + n_phases] for start in places]
    by = next((name for name in PHASE_ORDER if all(_tell_apart(group, name) for group in at_place)), None)
    if frame is None or by is None:
        how = f"which differ in {by}" if by else "which no time in their headers tells apart"
        remedy = "name one in a column frame of images.csv (0 is the first), or " if by else ""
        raise InputError(
            f"{path}: holds {n_phases} images of every slice (several time points?), {how}; {remedy}keep one volume per folder"
        )
    phase = read.chosen_frame(path, n_phases, frame)
    return [sorted(group, key=lambda one: _phase_value(one, by))[phase] for group in at_place]


def _tell_apart(group: list[_Slice], name: str) -> bool:
    values = [_phase_value(one, name) for one in group]
    return None not in values and len(set(values)) == len(values)


def _phase_value(one: _Slice, name: str) -> float | None:
    content = read.frame_item(one.dataset, one.frame or 0, "FrameContentSequence") if one.frame is not None else None
    value = (content if content is not None and name in content else one.dataset).get(name)
    if value is None or name.endswith("DateTime"):
        return None if value is None else read.dicom_time(value, None)
    if name.endswith("Time") and name != "TriggerTime":
        day = one.dataset.get(name.replace("Time", "Date")) or one.dataset.get("StudyDate")
        return read.dicom_time(day, value)
    try:
        return float(value)
    except (TypeError, ValueError):
        return None


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
        orientation = np.array(plane.ImageOrientationPatient, dtype=float).reshape(2, 3)
        orientation = (orientation / np.linalg.norm(orientation, axis=1)[:, None]).ravel()  # rounded by some exporters
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
    shifts = np.array([one.position - slices[0].position for one in slices])
    sideways = np.linalg.norm(shifts - (shifts @ normal)[:, None] * normal, axis=1)
    aside = float(sideways.max())
    if aside > UNEVEN_SLICES * mean * len(steps):
        raise InputError(
            f"{folder}: the slices are shifted sideways by {aside:.3g} mm (gantry tilt); resample it first"
        )
    return mean
