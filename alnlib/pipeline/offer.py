"""What a cohort offers to stages, read from a cohort folder: a user's own, or the one that stage 11 wrote.

Which stage asks for what stands in stages.yaml.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path

import yaml

from alnlib.pipeline.stages import STAGES, Stage, makers_of

PLACED = "with a mask or box of the lesion"
INCLUDED = "known endpoint"


def read_offer(folder: Path) -> Mapping[str, frozenset[str]] | None:
    """{what the cohort in a folder offers, in words: its patients}; None before stage 11. Files are read again if they changed.

    Such as "CT images", "CT images with a mask or box of the lesion", "mask or box of the lesion on every CT image", "endpoint
    apcr with both classes", "clinical variables", "feature table", and INCLUDED, the patients whose endpoint is known (the
    run's, else the primary one); of images and features, theirs.
    """
    files = tuple(folder / name for name in ("cohort.yaml", "patients.csv", "images.csv", "features.csv", "study.json"))
    if not files[0].exists():
        return None
    found = [path.stat() if path.exists() else None for path in files]
    return _read(files, tuple(s and (s.st_size, s.st_mtime_ns, s.st_ctime_ns, s.st_ino) for s in found))


@lru_cache(maxsize=4)
def _read(files: Sequence[Path], stamp: tuple) -> Mapping[str, frozenset[str]]:
    """stamp: size, times and inode of the files, so that a changed one is not taken for the one remembered."""
    described, patients, images, features, study = files
    cohort = yaml.safe_load(described.read_text(encoding="utf-8-sig"))
    labels: dict[str, dict[str, float]] = {name: {} for name in cohort.get("endpoints", {})}
    for row in _rows(patients):
        for name in (name for name in labels if row.get(name)):
            labels[name][row["patient_id"]] = float(row[name])
    chosen = (
        json.loads(study.read_text(encoding="utf-8"))["endpoint"] if study.exists() else cohort.get("primary_endpoint")
    )
    included = frozenset(labels.get(chosen, ()))
    offer = {
        f"endpoint {name} with both classes": set(known) for name, known in labels.items() if len({*known.values()}) > 1
    }
    if cohort.get("clinical"):
        offer["clinical variables"] = set(included)
    if measured := {row.get("patient_id", "") for row in _rows(features)}:
        offer["feature table"] = measured & included if included else measured
    unplaced = set()
    for row in _rows(images):
        patient, kind = row.get("patient_id", ""), f"{row['modality']} images"
        if patient in included or not included:
            words = [kind, f"mask or box of the lesion on every {row['modality']} image"]
            if row.get("mask_path") or row.get("box"):
                words.append(f"{kind} {PLACED}")
            else:
                unplaced.add(words[1])
            for each in words:
                offer.setdefault(each, set()).add(patient)
    offer = {words: frozenset(whose) for words, whose in offer.items() if words not in unplaced}
    return offer | {INCLUDED: included}


def _rows(path: Path) -> Iterator[dict[str, str]]:
    """The rows of a CSV file as stripped text; none if there is no file."""
    if not path.exists():
        return
    with open(path, encoding="utf-8-sig", newline="") as stream:
        for row in csv.DictReader(stream):
            yield {(name or "").strip(): value.strip() for name, value in row.items() if isinstance(value, str)}


def named_files(folder: Path) -> list[str]:
    """The images and masks that images.csv of a cohort folder names, as it names them; none without such a table."""
    cells = (row.get(column, "") for row in _rows(folder / "images.csv") for column in ("path", "mask_path"))
    return [name.strip() for cell in cells for name in cell.split(";") if name.strip()]


def applicable_stages(offer: Mapping[str, frozenset[str]], stages: Sequence[Stage] = STAGES) -> list[tuple[Stage, str]]:
    """Every stage that is about something, and those behind it, with how many patients it has, or what the cohort lacks.

    For a user who asks before a run; whether so many are enough, each stage finds out itself.
    """
    told, absent = [], set()
    for stage in stages:
        behind = [maker for maker in makers_of(stage, stages) if maker.about]
        if missing := stage.lacks(offer):
            absent.add(stage.notebook)
            modality = re.search(r"\w+(?= images?)", missing)
            imaged = len(offer.get(f"{modality.group()} images", ())) if modality else 0
            have = f", though {imaged} patients have such images" if imaged else ""
            told.append((stage, f"does not apply: the cohort has no {missing}{have}"))
        elif stage.about:
            whose = frozenset.intersection(*(offer[need] for need in stage.about))
            left = len(offer[INCLUDED] - whose) if whose <= offer[INCLUDED] else 0
            asked = " or no ".join(need for need in stage.about if " on every " not in need)
            without = f"; {left} others have no {asked}" if left else ""
            told.append((stage, f"{len(whose)} patients{without}"))
        elif behind and all(maker.notebook in absent for maker in behind):
            absent.add(stage.notebook)
            told.append((stage, "does not apply: no model before it does"))
        elif behind:
            read = ", ".join(maker.number for maker in behind if maker.notebook not in absent)
            told.append((stage, f"reads what {read} made"))
    return told
