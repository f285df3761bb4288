"""Outlines that radiology and radiotherapy write as DICOM objects, as masks on the voxels of the volume they were drawn on.

Segmentations (SEG, PS3.3 A.51) and structure sets (RTSTRUCT, PS3.3 A.19); masks that are images are read in `volumes`.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from pydicom.dataset import Dataset
from pydicom.pixels import pixel_array
from skimage.draw import polygon2mask

from alnlib.errors import InputError
from alnlib.imaging import read

if TYPE_CHECKING:
    from alnlib.imaging.volumes import Volume

STRUCTURES = ("SEG", "RTSTRUCT")

OFF_SLICE, OFF_CONTOUR = 0.5, 0.1
"""Largest distance between a segmentation and the voxels of its image, in voxels of any axis, and between a contour and its
slice, in slices. Our choice."""

LESION = re.compile(r"tumou?r|lesion|mass|gtv|node|cancer", re.IGNORECASE)
"""What a structure is called if it is the one to take among several."""

EMPTY_REMEDY = "export the outline of one lesion on this series"


def referenced_series(dataset: Dataset) -> str:
    """The Series Instance UID that a SEG or RTSTRUCT object says it was drawn on, "" if it does not say."""
    for series in dataset.get("ReferencedSeriesSequence") or ():
        return str(series.get("SeriesInstanceUID", ""))
    for frame in dataset.get("ReferencedFrameOfReferenceSequence") or ():
        for study in frame.get("RTReferencedStudySequence") or ():
            for series in study.get("RTReferencedSeriesSequence") or ():
                return str(series.get("SeriesInstanceUID", ""))
    return ""


def structure_mask(path: Path, volume: Volume, label: int | None = None) -> np.ndarray:
    """(z, y, x) bool: the voxels of `volume` inside a SEG or RTSTRUCT object.

    label: the number of the segment or structure. Without one, of several those called like a lesion are taken: segments are
    joined, of structures there must be one. Fractions are cut at one half. Contours of one slice are combined by the even-odd
    rule, so that an inner one is a hole; a voxel is inside if its center is. Raises InputError for outlines on other voxels or on
    every other slice, none, or several of which it is not clear which is the lesion.
    """
    dataset = read.read_dicom(path)
    with read.decoding(path, "the outline"):
        drawn = _segments if dataset.Modality == "SEG" else _contours
        mask = drawn(dataset, path, volume, label)
    if not mask.any():
        raise InputError(f"{path}: holds no outline within {volume.path}; {EMPTY_REMEDY}")
    return mask


def _segments(dataset: Dataset, path: Path, volume: Volume, label: int | None) -> np.ndarray:
    frames = np.reshape(pixel_array(dataset), (-1, int(dataset.Rows), int(dataset.Columns)))
    kind = str(dataset.get("SegmentationType") or "BINARY")
    labels = {int(item.SegmentNumber): _called(item) for item in dataset.get("SegmentSequence") or ()}
    if kind == "LABELMAP":
        wanted = _chosen_segments(labels, label, path)
        frames = np.isin(frames, list(wanted)) if wanted else frames > 0
    else:
        frames = frames > (0 if kind != "FRACTIONAL" else 0.5 * int(dataset.get("MaximumFractionalValue") or 255) - 0.5)
    if frames.shape[1:] != volume.shape[1:]:
        sizes = [" x ".join(map(str, size)) for size in (frames.shape[1:], volume.shape[1:])]
        raise InputError(f"{path}: the segmentation has {sizes[0]} pixels, its image {sizes[1]}; {EMPTY_REMEDY}")
    mask = np.zeros(volume.shape, bool)
    segments = [read.frame_item(dataset, index, "SegmentIdentificationSequence") for index in range(len(frames))]
    numbers = [None if one is None else int(one.ReferencedSegmentNumber) for one in segments]
    there = {number: labels.get(number, "") for number in numbers if number is not None}
    wanted = set() if kind == "LABELMAP" else _chosen_segments(there, label, path)
    for index, frame in enumerate(frames):
        if wanted and numbers[index] not in wanted:
            continue
        place = read.frame_item(dataset, index, "PlanePositionSequence")
        plane = read.frame_item(dataset, index, "PlaneOrientationSequence")
        if place is None or plane is None:
            raise InputError(f"{path}: frame {index + 1} says no position or orientation; {EMPTY_REMEDY}")
        axes = np.reshape(np.array(plane.ImageOrientationPatient, dtype=float), (2, 3))
        measures = read.frame_item(dataset, index, "PixelMeasuresSequence")
        stated = None if measures is None else measures.get("PixelSpacing")
        row_mm, column_mm = (float(step) for step in stated or volume.geometry.spacing_mm[1:])
        first = np.array(place.ImagePositionPatient, dtype=float)
        last = first + axes[0] * column_mm * (frame.shape[1] - 1) + axes[1] * row_mm * (frame.shape[0] - 1)
        column, row, z = _indices(first[None], volume)[0]
        far = _indices(last[None], volume)[0] - [frame.shape[1] - 1, frame.shape[0] - 1, round(z)]
        apart = max(abs(column), abs(row), abs(z - round(z)), *np.abs(far))
        turned = np.abs(axes - np.array(volume.geometry.direction)[:, :2].T).max()
        if apart > OFF_SLICE or turned > OFF_SLICE or not 0 <= round(z) < len(mask):
            raise InputError(f"{path}: frame {index + 1} lies on other voxels than {volume.path}; {EMPTY_REMEDY}")
        mask[round(z)] |= frame
    return mask


def _contours(dataset: Dataset, path: Path, volume: Volume, label: int | None) -> np.ndarray:
    names = {item.ROINumber: str(item.get("ROIName", "")) for item in dataset.get("StructureSetROISequence") or ()}
    drawn = {}
    for item in dataset.get("ROIContourSequence") or ():
        closed = [c for c in item.get("ContourSequence") or () if c.get("ContourGeometricType") == "CLOSED_PLANAR"]
        if closed:
            drawn[item.ReferencedROINumber] = closed
    if label is not None:
        drawn = {number: closed for number, closed in drawn.items() if number == label}
    elif len(drawn) > 1:
        drawn = {number: closed for number, closed in drawn.items() if LESION.search(names.get(number, ""))}
    if len(drawn) != 1:
        raise InputError(
            f"{path}: is an RTSTRUCT object; of its {len(names)} structures {len(drawn) or 'none'} can be the lesion; export "
            "that of the lesion alone, call it tumor and no other, or name its number in a column mask_label of images.csv "
            f"({', '.join(f'{number} {name}' for number, name in names.items()) or 'there is none'})"
        )
    mask = np.zeros(volume.shape, bool)
    for contour in next(iter(drawn.values())):
        points = _indices(np.reshape(np.array(contour.ContourData, dtype=float), (-1, 3)), volume)
        heights = points[:, 2]
        z = round(float(heights.mean()))
        if np.abs(heights - z).max() > OFF_CONTOUR or not 0 <= z < len(mask):
            raise InputError(f"{path}: a contour lies in no slice of {volume.path}; {EMPTY_REMEDY}")
        mask[z] ^= polygon2mask(mask.shape[1:], points[:, 1::-1])
    slices = np.flatnonzero(mask.any(axis=(1, 2)))
    alone = [z for z in slices if not {z - 1, z + 1} & set(slices)]
    if len(slices) > 2 and len(alone) > len(slices) / 2:
        raise InputError(
            f"{path}: only every other slice of {volume.path} has a contour; have the tool interpolate them, then export again"
        )
    return mask


def _called(segment: Dataset) -> str:
    """Label and type of a segment."""
    kinds = [str(item.get("CodeMeaning", "")) for item in segment.get("SegmentedPropertyTypeCodeSequence") or ()]
    return " ".join([str(segment.get("SegmentLabel") or ""), *kinds]).strip()


def _chosen_segments(labels: dict[int, str], label: int | None, path: Path) -> set[int]:
    """The numbers that are meant, none if there is no choice. Raises InputError where it is not clear which."""
    told = ", ".join(f"{number} {name}" for number, name in sorted(labels.items()))
    if label is not None:
        if label not in labels:
            raise InputError(
                f"{path}: has no segment {label} ({told or 'none is numbered'}); correct mask_label in images.csv"
            )
        return {label}
    lesions = {number for number, name in labels.items() if LESION.search(name)}
    if len(labels) > 1 and not lesions:
        raise InputError(
            f"{path}: of its {len(labels)} segments none is called like a lesion ({told}); name one in a column mask_label of "
            "images.csv"
        )
    return lesions if len(labels) > 1 else set()


def _indices(positions_mm: np.ndarray, volume: Volume) -> np.ndarray:
    """(n, 3) column, row and slice, with fractions, of LPS positions."""
    homogeneous = np.c_[positions_mm, np.ones(len(positions_mm))]
    return (homogeneous @ np.linalg.inv(volume.geometry.affine).T)[:, :3]
