"""What a cohort offers, and what a stage asks of it: images, outlined lesions, an endpoint, clinical variables.

Read from the cohort as stage 11 wrote it; which stage asks for what stands in `alnlib.pipeline.stages`.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Protocol

import yaml


@dataclass(frozen=True)
class Offer:
    """What a cohort has. images, lesions: modalities with images, and with a mask or box in one of them."""

    images: frozenset[str] = frozenset()
    lesions: frozenset[str] = frozenset()
    endpoints: frozenset[str] = frozenset()
    clinical: bool = False


class Need(Protocol):
    """Something that a stage is about."""

    def missing_in(self, offer: Offer) -> str | None:
        """What the cohort lacks, in a few words; None if it has it."""


@dataclass(frozen=True)
class Images:
    """Images of a modality ("US", "MRI", ...); lesion: with a mask or box of it."""

    modality: str
    lesion: bool = False

    def missing_in(self, offer: Offer) -> str | None:
        if self.modality in (offer.lesions if self.lesion else offer.images):
            return None
        return f"{self.modality} images" + (" with a mask or box of the lesion" if self.lesion else "")


@dataclass(frozen=True)
class Endpoint:
    """A column of outcomes, such as "apcr"."""

    name: str

    def missing_in(self, offer: Offer) -> str | None:
        return None if self.name in offer.endpoints else f"endpoint {self.name}"


@dataclass(frozen=True)
class Clinical:
    """Clinical variables."""

    def missing_in(self, offer: Offer) -> str | None:
        return None if offer.clinical else "clinical variables"


def read_offer(folder: Path) -> Offer | None:
    """What the cohort in a run's cohort/ offers; None before stage 11. The files are read again only if they changed."""
    files = folder / "images.csv", folder / "cohort.yaml"
    try:
        found = [path.stat() for path in files]
    except FileNotFoundError:
        return None
    return _read(*files, tuple((s.st_size, s.st_mtime_ns, s.st_ctime_ns, s.st_ino) for s in found))


@lru_cache(maxsize=4)
def _read(images: Path, described: Path, stamp: tuple) -> Offer:
    """stamp: size, times and inode of both files, so that a changed one is not taken for the one remembered."""
    with open(images, encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    cohort = yaml.safe_load(described.read_text(encoding="utf-8"))
    return Offer(
        frozenset(row["modality"] for row in rows),
        frozenset(row["modality"] for row in rows if row.get("mask_path") or row.get("box")),
        frozenset(cohort.get("endpoints", {})),
        bool(cohort.get("clinical")),
    )
