"""Plates of a cohort, one per modality: images with the outcome above images without it, for a reader's eye.

Drawing is in `montage`, reading in `read`, `clips` and `volumes`; which file to save is the caller's business.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd

from alnlib.cohorts.schema import Cohort, parse_pixel_spacing
from alnlib.errors import InputError
from alnlib.imaging.clips import read_clip
from alnlib.imaging.montage import Panel
from alnlib.imaging.read import read_mask
from alnlib.imaging.stills import read_still
from alnlib.imaging.volumes import Volume, read_volume, read_volume_mask

MODALITIES = {
    "US": "Ultrasound stills",
    "USV": "Ultrasound sweeps: frames in their order",
    "MRI": "MRI: the slice in which the lesion is largest",
    "CT": "CT of axillary nodes, window 400 HU wide at 40 HU",
    "MG": "Mammograms",
}

SOFT_TISSUE_HU = (-160.0, 240.0)
"""Black and white of CT panels: a window 400 HU wide at 40 HU."""

SEQUENCE_ORDER = ("T2", "DWI_b800", "ADC", "DCE_pre", "DCE_early", "DCE_late")


def plate_rows(cohort: Cohort, modality: str, columns: int, rng: np.random.Generator) -> list[list[Panel]]:
    """Panels of randomly drawn patients, row by row, those with the outcome first; no patient is chosen for its looks.

    US, CT and MG: two rows of `columns` images, with the outcome (CT: malignant node) and without; MG shows every view of
    half as many patients. USV: one patient per row, its key frame in the middle of `columns` frames. MRI: one patient per
    row, a panel for each sequence. A cohort without such images gives no rows. Raises InputError for an unknown modality,
    or naming a file that cannot be read.
    """
    if modality not in MODALITIES:
        raise InputError(f"there is no modality {modality!r}; known are {', '.join(MODALITIES)}")
    images = _labelled(cohort, cohort.primary_endpoint).query("modality == @modality")
    if modality == "CT":
        images = images.assign(outcome=images["unit_label"].where(images["unit_label"].notna(), images["outcome"]))
    if modality == "MRI":
        images = images[images["timepoint"].fillna("pre") == "pre"]
    drawn = _draw(images, {"US": columns, "CT": columns, "MG": max(columns // 2, 1)}.get(modality, 1), rng)
    if modality == "USV":
        return [_sweep_panels(row, cohort, columns) for _, row in drawn.iterrows()]
    if modality == "MRI":
        return [_visit_panels(images, row["patient_id"], cohort, None) for _, row in drawn.iterrows()]
    if modality == "MG":
        order = {patient: place for place, patient in enumerate(drawn["patient_id"])}
        views = images[images["patient_id"].isin(order)]
        drawn = views.sort_values("patient_id", key=lambda ids: ids.map(order), kind="stable")
    halves = [drawn[drawn["outcome"] == outcome].head(columns) for outcome in (1, 0)]
    return [[_still_panel(row, cohort, modality) for _, row in half.iterrows()] for half in halves if len(half)]


def visit_rows(cohort: Cohort, endpoint: str, rng: np.random.Generator) -> list[list[Panel]]:
    """MRI before and after therapy, two rows per patient: one patient with the outcome, one without; [] if there is none.

    The slice is that in which the lesion was largest before therapy, at both visits.
    """
    images = _labelled(cohort, endpoint).query("modality == 'MRI'")
    twice = images.groupby("patient_id")["timepoint"].transform("nunique") == 2
    images = images[twice]
    rows = []
    for _, row in _draw(images, 1, rng).iterrows():
        own = images[images["patient_id"] == row["patient_id"]]
        level = _level_of(own[own["timepoint"] == "pre"].iloc[0], cohort)
        for timepoint in ("pre", "post"):
            visit = own[own["timepoint"] == timepoint]
            rows.append(_visit_panels(visit, row["patient_id"], cohort, level))
    return rows


def _labelled(cohort: Cohort, endpoint: str) -> pd.DataFrame:
    """The images of patients whose endpoint is known, with it as `outcome`."""
    known = cohort.known(endpoint)[["patient_id", endpoint]].rename(columns={endpoint: "outcome"})
    return cohort.images.merge(known, on="patient_id")


def _draw(images: pd.DataFrame, per_outcome: int, rng: np.random.Generator) -> pd.DataFrame:
    """One image of `per_outcome` patients with and without the outcome, in random order, outcome first."""
    first = images.drop_duplicates(["patient_id", "outcome"])
    shuffled = first.iloc[rng.permutation(len(first))]
    return shuffled.groupby("outcome").head(per_outcome).sort_values("outcome", ascending=False, kind="stable")


def _title(row: pd.Series) -> str:
    return f"{row['patient_id']}, {'+' if row['outcome'] else '-'}"


def _still_panel(row: pd.Series, cohort: Cohort, modality: str) -> Panel:
    still = read_still(row, cohort.root)
    title = _title(row) if modality != "MG" else f"{_title(row)} {row['sequence_or_view']}"
    limits = SOFT_TISSUE_HU if modality == "CT" else None
    return Panel(still.image.pixels, title, mask=still.mask, spacing_mm=still.image.spacing_mm, limits=limits)


def _sweep_panels(row: pd.Series, cohort: Cohort, columns: int) -> list[Panel]:
    """Frames from first to last with the key frame among them, its mask drawn."""
    clip = read_clip(Path(cohort.root) / row["path"], parse_pixel_spacing(row["pixel_spacing_mm"]))
    key = clip.key_frame if clip.key_frame is not None else len(clip.frames) // 2
    before = np.linspace(0, key, columns // 2 + 1)
    after = np.linspace(key, len(clip.frames) - 1, columns - columns // 2)
    panels = []
    for frame in np.unique(np.concatenate([before, after]).round().astype(int)):
        pixels = np.asarray(clip.frames[frame], dtype=np.float32)
        mask = read_mask(Path(cohort.root) / row["mask_path"], pixels.shape) if frame == key else None
        name = f"frame {frame + 1}" + (" (key)" if frame == key else "")
        title = f"{_title(row)}: {name}" if not panels else name
        panels.append(Panel(pixels, title, mask=mask, spacing_mm=clip.spacing_mm, limits=(0.0, 255.0)))
    return panels


def _visit_panels(images: pd.DataFrame, patient_id: str, cohort: Cohort, level: int | None) -> list[Panel]:
    """One slice of every sequence of a visit, in the order T2, diffusion, contrast phases; others after them."""
    own = images[images["patient_id"] == patient_id]
    known = [name for name in SEQUENCE_ORDER if name in set(own["sequence_or_view"])]
    order = known + [name for name in own["sequence_or_view"] if name not in known]
    volumes = {row["sequence_or_view"]: _read(row, cohort) for _, row in own.iterrows()}
    level = level if level is not None else _level_of(own.iloc[0], cohort)
    mask = _mask_of(own.iloc[0], cohort, volumes[order[0]])
    contrast = [volumes[name].values[level] for name in order if name.startswith("DCE")]
    brightest = float(max((np.percentile(values, 99.7) for values in contrast), default=0.0))
    panels = []
    for name in order:
        values = volumes[name].values[level]
        top = brightest if name.startswith("DCE") else float(np.percentile(values, 99.7))
        visit = own["timepoint"].iloc[0]
        title = name if panels else f"{_title(own.iloc[0])}{f', {visit}' if isinstance(visit, str) else ''}: {name}"
        outline = mask[level] if mask is not None else None
        spacing = volumes[name].geometry.spacing_mm[1:]
        panels.append(Panel(values, title, mask=outline, spacing_mm=spacing, limits=(0.0, max(top, 1.0))))
    return panels


def _read(row: pd.Series, cohort: Cohort) -> Volume:
    return read_volume(Path(cohort.root) / row["path"])


def _mask_of(row: pd.Series, cohort: Cohort, volume: Volume) -> np.ndarray | None:
    if not isinstance(row["mask_path"], str):
        return None
    return read_volume_mask(Path(cohort.root) / row["mask_path"], volume)


def _level_of(row: pd.Series, cohort: Cohort) -> int:
    """Slice in which the lesion is largest; the middle one where there is none."""
    volume = _read(row, cohort)
    mask = _mask_of(row, cohort, volume)
    if mask is None or not mask.any():
        return volume.values.shape[0] // 2
    return int(mask.sum(axis=(1, 2)).argmax())


def plate_size(rows: Iterable[list[Panel]], panel_inches: float = 2.1) -> tuple[float, float]:
    """(width, height) in inches of a figure that holds the rows at their true aspect."""
    rows = list(rows)
    widest = max(len(row) for row in rows)
    heights = []
    for row in rows:
        shapes = [panel.pixels.shape for panel in row]
        steps = [panel.spacing_mm or (1.0, 1.0) for panel in row]
        heights.append(max(r * dy / (c * dx) for (r, c), (dy, dx) in zip(shapes, steps, strict=True)))
    return panel_inches * widest, panel_inches * sum(min(height, 1.6) for height in heights) + 0.2 * len(rows) + 0.3
