"""What a cohort offers to stages, read from the cohort as stage 11 wrote it.

Which stage asks for what stands in stages.yaml.
"""

from __future__ import annotations

import csv
from functools import lru_cache
from pathlib import Path

import yaml


def read_offer(folder: Path) -> frozenset[str] | None:
    """What the cohort in a run's cohort/ offers, in words; None before stage 11. Files are read again only if they changed.

    Such as "CT images", "CT images with a mask or box of the lesion", "endpoint apcr", "clinical variables".
    """
    files = folder / "images.csv", folder / "cohort.yaml"
    try:
        found = [path.stat() for path in files]
    except FileNotFoundError:
        return None
    return _read(*files, tuple((s.st_size, s.st_mtime_ns, s.st_ctime_ns, s.st_ino) for s in found))


@lru_cache(maxsize=4)
def _read(images: Path, described: Path, stamp: tuple) -> frozenset[str]:
    """stamp: size, times and inode of both files, so that a changed one is not taken for the one remembered."""
    cohort = yaml.safe_load(described.read_text(encoding="utf-8"))
    offer = {f"endpoint {name}" for name in cohort.get("endpoints", {})}
    if cohort.get("clinical"):
        offer.add("clinical variables")
    with open(images, encoding="utf-8", newline="") as stream:
        for row in csv.DictReader(stream):
            offer.add(f"{row['modality']} images")
            if row.get("mask_path") or row.get("box"):
                offer.add(f"{row['modality']} images with a mask or box of the lesion")
    return frozenset(offer)
