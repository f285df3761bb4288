"""Plates of a cohort, one per modality: images with the outcome above images without it, for a reader's eye.

One panel is drawn by `montage`; reading is in `read`, `clips` and `volumes`; which file to save is the caller's business.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import compress, zip_longest

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from alneval.style import headline
from alnlib.cohorts.schema import Cohort
from alnlib.errors import InputError
from alnlib.imaging.montage import Panel, plot_panel
from alnlib.imaging.rows import is_given, read_scan, read_still, read_sweep, scan_mask, sweep_mask
from alnlib.imaging.spec import SOFT_TISSUE_HU
from alnlib.imaging.volumes import Volume

MODALITIES = {
    "US": "Ultrasound stills",
    "USV": "Ultrasound sweeps: frames in their order",
    "MRI": "MRI: the slice in which the lesion is largest",
    "CT": "CT of axillary nodes, window 400 HU wide at 40 HU",
    "MG": "Mammograms",
}

SEQUENCE_ORDER = ("T2", "DWI_b800", "ADC", "DCE_pre", "DCE_early", "DCE_late")
PANEL_INCHES = 2.1
TALLEST = 1.6
"""Height of the tallest panel, in widths."""


def plate_rows(cohort: Cohort, modality: str, columns: int, rng: np.random.Generator) -> list[list[Panel]]:
    """Panels of randomly drawn patients, row by row, those with the outcome first; no patient is chosen for its looks.

    US, CT and MG: two rows of `columns` images, with the outcome (CT: malignant node) and without; MG shows every view of
    half as many patients. USV and MRI: a patient per row, two with the outcome and two without; `columns` frames with the
    key frame in the middle, or a panel for each sequence. A cohort without such images gives no rows. Raises InputError
    for an unknown modality, or naming a file that cannot be read.
    """
    if modality not in MODALITIES:
        raise InputError(f"there is no modality {modality!r}; known are {', '.join(MODALITIES)}")
    images = _labeled(cohort, cohort.primary_endpoint).query("modality == @modality")
    if modality == "CT":
        images = images.assign(outcome=images["unit_label"].where(images["unit_label"].notna(), images["outcome"]))
    if modality == "MRI":
        images = images[images["timepoint"].fillna("pre") == "pre"]
    drawn = _draw(images, {"US": columns, "CT": columns, "MG": max(columns // 2, 1)}.get(modality, 2), rng)
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
    images = _labeled(cohort, endpoint).query("modality == 'MRI'")
    images = images[images.groupby("patient_id")["timepoint"].transform("nunique") == 2]
    rows = []
    for _, row in _draw(images, 1, rng).iterrows():
        own = images[images["patient_id"] == row["patient_id"]]
        height = _middle_of_lesion(own[own["timepoint"] == "pre"].iloc[0], cohort)
        for timepoint in ("pre", "post"):
            rows.append(_visit_panels(own[own["timepoint"] == timepoint], row["patient_id"], cohort, height))
    return rows


def _labeled(cohort: Cohort, endpoint: str) -> pd.DataFrame:
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
    clip, _ = read_sweep(row, cohort.root)
    key = clip.key_frame if clip.key_frame is not None else len(clip.frames) // 2
    before = np.linspace(0, key, columns // 2 + 1) if columns > 1 else np.array([key])
    after = np.linspace(key, len(clip.frames) - 1, columns - columns // 2) if columns > 2 else before
    panels = []
    for frame in np.unique(np.concatenate([before, after]).round().astype(int)):
        pixels = np.asarray(clip.frames[frame], dtype=np.float32)
        drawn = frame == key and is_given(row["mask_path"])
        mask = sweep_mask(row, cohort.root, clip) if drawn else None
        name = f"frame {frame + 1}" + (" (key)" if frame == key else "")
        title = f"{_title(row)}: {name}" if not panels else name
        panels.append(Panel(pixels, title, mask=mask, spacing_mm=clip.spacing_mm, limits=(0.0, 255.0)))
    return panels


def _visit_panels(images: pd.DataFrame, patient_id: str, cohort: Cohort, height: np.ndarray | None) -> list[Panel]:
    """One slice of every sequence of a visit, in the order T2, diffusion, contrast phases; others after them.

    height: (x, y, z) in mm of a point in the slice to show; None: where the lesion is largest. Each sequence shows its own
    slice nearest to that point, with the mask of its own row, so grids may differ.
    """
    own = (
        images[images["patient_id"] == patient_id]
        .drop_duplicates("sequence_or_view")
        .set_index("sequence_or_view", drop=False)
    )
    known = [name for name in SEQUENCE_ORDER if name in own.index]
    order = known + [name for name in own.index if name not in known]
    height = height if height is not None else _middle_of_lesion(own.iloc[0], cohort)
    visit = own["timepoint"].iloc[0]
    first = f"{_title(own.iloc[0])}{f', {visit}' if isinstance(visit, str) else ''}: "
    panels: list[Panel] = []
    for name in order:
        volume, mask = _read(own.loc[name], cohort)
        affine = volume.geometry.affine
        z = np.linalg.solve(affine[:3, :3], height - affine[:3, 3])[2]
        level = int(np.clip(np.rint(z), 0, len(volume.values) - 1))  # the point may lie outside
        values, drawn = volume.values[level], None if mask is None else mask[level]
        limits = (0.0, max(float(np.percentile(values, 99.7)), 1.0))
        panels.append(Panel(values, name if panels else first + name, drawn, volume.geometry.spacing_mm[1:], limits))
    contrast = [name.startswith("DCE") for name in order]  # whose phases share their gray scale
    shared = max((panel.limits for panel in compress(panels, contrast)), default=None)
    return [replace(panel, limits=shared) if dce else panel for panel, dce in zip(panels, contrast, strict=True)]


def _read(row: pd.Series, cohort: Cohort) -> tuple[Volume, np.ndarray | None]:
    volume = read_scan(row, cohort.root)
    return volume, scan_mask(row, cohort.root, volume)


def _middle_of_lesion(row: pd.Series, cohort: Cohort) -> np.ndarray:
    """(x, y, z) in mm of the middle of the slice in which the lesion is largest; of the volume where there is none."""
    volume, mask = _read(row, cohort)
    middle = np.array(volume.shape) // 2
    if mask is not None and mask.any():
        middle[0] = mask.sum(axis=(1, 2)).argmax()
    return volume.geometry.position_mm(middle)


def draw_rows(rows: Sequence[Sequence[Panel]], title: str = "") -> Figure:
    """A figure of rows of panels at their true aspect, `title` above them at the left; a shorter row ends early."""
    columns, heights = max(map(len, rows)), []
    for row in rows:
        shapes = [panel.pixels.shape for panel in row]
        steps = [panel.spacing_mm or (1.0, 1.0) for panel in row]
        heights.append(max(r * dy / (c * dx) for (r, c), (dy, dx) in zip(shapes, steps, strict=True)))
    height = PANEL_INCHES * sum(min(height, TALLEST) for height in heights) + 0.2 * len(rows) + 0.3
    size = {"figsize": (PANEL_INCHES * columns, height), "squeeze": False, "layout": "constrained"}
    fig, axes = plt.subplots(len(rows), columns, **size)
    for panels, row_axes in zip(rows, axes, strict=True):
        for panel, ax in zip_longest(panels, row_axes):
            if panel is None:
                ax.set_axis_off()
            else:
                plot_panel(ax, panel)
    return headline(fig, title) if title else fig
