"""Crops, clips and volumes in memory: what a network is trained on, decoded and cropped beforehand.

Reading images and cropping them live in `alnlib.imaging`; random changes of crops in `alnlib.training.augment`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike

from alneval.folds import DEVELOPMENT_SPLITS
from alnlib.errors import DoesNotApply, InputError

KINDS = ("stills", "clips", "volumes")
_MAXIMUM = {np.dtype(np.uint8): 255.0, np.dtype(np.uint16): 65535.0, np.dtype(np.float32): 1.0}


@dataclass(frozen=True, eq=False)
class CropDataset:
    """Square crops of the same size, clips of as many frames or volumes of as many slices, with their labels.

    crops: (n, channels, height, width), (n, channels, frames, height, width) or (n, channels, z, y, x), uint8, uint16 or
    float32; (n, height, width) gains one channel. Integers are read as fractions of their type's maximum, floats as they
    are. y: (n,) 0/1. unit_ids: (n,) unique names of the units scored (patients, images or nodes). patient_ids: (n,) the
    patient of each unit; the units themselves if not given. kind: "stills", "clips" or "volumes"; if not given, four axes
    are stills and five are clips, for time and depth look alike: say so for volumes. Raises InputError for no crops at
    all, ValueError for wrong shapes, types, labels, doubled units or values that are not finite.
    """

    crops: np.ndarray
    y: np.ndarray
    unit_ids: tuple[str, ...]
    patient_ids: tuple[str, ...] = ()
    kind: str = ""

    def __post_init__(self) -> None:
        crops = as_crops(self.crops)
        kind = self.kind or ("stills" if crops.ndim == 4 else "clips")
        if kind not in KINDS or (kind == "stills") != (crops.ndim == 4):
            raise ValueError(f"kind {kind!r} does not fit {crops.ndim} axes; stills have 4, clips and volumes 5")
        y = np.asarray(self.y)
        if y.shape != (len(crops),) or not np.isin(y, (0, 1)).all():
            raise ValueError(f"y must be {len(crops)} labels, each 0 or 1")
        unit_ids = tuple(str(unit) for unit in self.unit_ids)
        patient_ids = tuple(str(patient) for patient in self.patient_ids) or unit_ids
        if len(unit_ids) != len(crops) or len(patient_ids) != len(crops):
            raise ValueError(
                f"{len(crops)} crops, {len(unit_ids)} unit_ids and {len(patient_ids)} patient_ids: not the same"
            )
        if len(set(unit_ids)) != len(unit_ids):
            raise ValueError("unit_ids must be unique")
        object.__setattr__(self, "crops", crops)
        object.__setattr__(self, "y", y.astype(np.int64))
        object.__setattr__(self, "unit_ids", unit_ids)
        object.__setattr__(self, "patient_ids", patient_ids)
        object.__setattr__(self, "kind", kind)

    def __len__(self) -> int:
        return len(self.crops)

    def __repr__(self) -> str:
        n, *shape = self.crops.shape
        kind = "crops" if self.kind == "stills" else self.kind
        return (
            f"CropDataset: {n} {kind} of {' x '.join(map(str, shape))} ({self.crops.dtype}), "
            f"{int(self.y.sum())} positive, {len(set(self.patient_ids))} patients"
        )

    def subset(self, chosen: Sequence[int] | np.ndarray) -> CropDataset:
        """The crops at these positions, or where a mask of length n is true."""
        chosen = np.asarray(chosen)
        positions = np.flatnonzero(chosen) if chosen.dtype == bool else chosen.astype(np.int64)
        return CropDataset(
            self.crops[positions],
            self.y[positions],
            tuple(self.unit_ids[i] for i in positions),
            tuple(self.patient_ids[i] for i in positions),
            self.kind,
        )

    def tensors(self, device: str | torch.device = "cpu") -> tuple[torch.Tensor, torch.Tensor]:
        """Crops, clips or volumes, uint8 or float32, and labels (n,) float32, on `device`."""
        return crops_to_tensor(self.crops).to(device), torch.from_numpy(self.y.astype(np.float32)).to(device)

    def fingerprint(self) -> str:
        """Hexadecimal SHA-256 of kind, pixels, labels, units and patients: equal for equal data, whatever made it."""
        digest = hashlib.sha256(f"{self.kind} {self.crops.dtype} {self.crops.shape}".encode())
        digest.update(self.crops)
        digest.update(self.y.tobytes())
        digest.update("\n".join(self.unit_ids + self.patient_ids).encode())
        return digest.hexdigest()


def require_both_classes(split: ArrayLike, y: ArrayLike, of_each: int = 1) -> None:
    """Raise DoesNotApply, which ends a stage, unless train, validation and test hold at least `of_each` units of either class.

    split: (n,) names of splits; y: (n,) 0/1. Other splits, such as external, may be missing or hold one class.
    """
    splits, positive = np.asarray(split, dtype=object), np.asarray(y, dtype=float) == 1
    for name in DEVELOPMENT_SPLITS:
        of_split = positive[splits == name]
        n_positive = int(of_split.sum())
        if min(n_positive, of_split.size - n_positive) < of_each:
            raise DoesNotApply(
                f"the {name} split holds {n_positive} positive and {of_split.size - n_positive} negative units, at least "
                f"{of_each} of each are needed; add patients with images, or split again (11_cohort, another seed or fraction)"
            )


def as_crops(images: np.ndarray) -> np.ndarray:
    """Images as a C-ordered array (n, channels, height, width), clips (n, channels, frames, height, width) or volumes
    (n, channels, z, y, x), of uint8, uint16 or float32.

    Raises InputError for none at all, ValueError for other shapes or types, and for values that are not finite.
    """
    crops = np.asarray(images)
    if crops.ndim == 3:
        crops = crops[:, None]
    if crops.ndim not in (4, 5):
        raise ValueError(f"crops must be (n, channels, [frames or z,] height, width), not {crops.shape}")
    if len(crops) == 0:
        raise InputError(
            "there are no crops in this set; check that patients with images are in every part of the split."
        )
    if crops.dtype == np.float64:
        crops = crops.astype(np.float32)
    if crops.dtype not in _MAXIMUM:
        raise ValueError(f"crops must be uint8, uint16 or float32, not {crops.dtype}")
    if crops.dtype == np.float32 and not np.isfinite(crops).all():
        raise ValueError("crops hold values that are not finite")
    # numpy calls an axis of length one contiguous whatever its stride; torch chooses kernels by it, and so last bits
    return np.ascontiguousarray(crops).reshape(-1).reshape(crops.shape)


def intensity_statistics(crops: np.ndarray) -> tuple[float, float]:
    """Mean and standard deviation of all pixels, as fractions of the type's maximum; a constant set has deviation 1."""
    scale = _MAXIMUM[crops.dtype]
    mean = float(crops.mean(dtype=np.float64)) / scale
    sd = float(crops.std(dtype=np.float64)) / scale
    return mean, sd if sd > 1e-8 else 1.0


def crops_to_tensor(crops: np.ndarray) -> torch.Tensor:
    """Crops, clips or volumes as a tensor: uint8 stays (a quarter of the memory), uint16 becomes fractions, as torch cannot
    index it."""
    if crops.dtype == np.uint16:
        return torch.from_numpy(crops.astype(np.float32) / np.float32(65535))
    return torch.from_dlpack(crops)  # which, unlike from_numpy, takes a read-only map without a copy


def send(values: torch.Tensor, device: torch.device) -> torch.Tensor:
    """A CPU tensor on `device`; a GPU is not waited for, so that it never runs out of work between steps."""
    return values.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else values


def standardize(batch: torch.Tensor, mean: float, sd: float) -> torch.Tensor:
    """A uint8 or float32 batch as float32, less `mean`, over `sd` (both as fractions of the type's maximum)."""
    scale = 255.0 if batch.dtype == torch.uint8 else 1.0
    return (batch.to(torch.float32) / scale - mean) / sd


def sample_frames(clips: torch.Tensor, frames: int, generator: torch.Generator | None = None) -> torch.Tensor:
    """(n, channels, frames, height, width): one frame from each of `frames` equal segments of clips (n, channels, T, ...).

    generator: draws a frame of each segment, anew for every clip; without it the middle one is taken (temporal segments,
    Wang et al. 2016, ECCV). Clips shorter than `frames` repeat some. The generator's draws do not depend on the device.
    """
    n, total = len(clips), clips.shape[2]
    edges = torch.arange(frames + 1) * total // frames
    first = edges[:-1].clamp(max=total - 1)
    length = (edges[1:] - edges[:-1]).clamp(min=1)
    if generator is None:
        chosen = (first + (length - 1) // 2).expand(n, frames)
    else:
        chosen = first + (torch.rand(n, frames, generator=generator) * length).long()
    rows = torch.arange(n, device=clips.device)[:, None]
    return clips[rows, :, send(chosen, clips.device)].transpose(1, 2)
