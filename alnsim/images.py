"""The images of one simulated patient as files of a hospital archive: DICOM for ultrasound, CT and mammography, NIfTI for MRI.

Traits are drawn in `traits`, pixels in one module per modality, headers in `dicom`; here each patient's images are
rendered from the traits, written with their masks, and described as rows of images.csv.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from scipy.spatial.transform import Rotation

from alnsim import ct, mammography, mri, traits, ultrasound, video
from alnsim import patients as model
from alnsim.dicom import (
    Identity,
    ct_dataset,
    mammography_dataset,
    ultrasound_dataset,
    ultrasound_sweep_dataset,
)
from alnsim.nifti import Placement, write_volume
from alnsim.specification import SimulationSpec

STREAMS = {
    "patient": 0,
    "missing": 1,
    "readers": 2,
    "ultrasound_traits": 3,
    "ultrasound_pixels": 4,
    "center_mark": 5,
    "response": 6,
    "mri_readers": 7,
    "allotment": 8,
    "key_frame_traits": 10,
    "motion_traits": 11,
    "video_pixels": 12,
    "mri_traits": 13,
    "mri_pixels": 14,
    "change_traits": 15,
    "mammography_traits": 16,
    "mammography_pixels": 17,
    "node_count": 18,
    "node_traits": 19,
    "ct_pixels": 20,
    "vascularity": 21,
}
"""Last word of each patient's random seed: a new draw takes a new number and leaves the others as they were."""

AXILLA_MM = 140.0
"""From the midline to the middle of a CT image of one axilla."""

MARK_PLACE = (6, 15)
"""Rows and columns, from and to, of the center mark in the upper left corner."""


@dataclass(frozen=True)
class Person:
    """One simulated patient. group, index: with the cohort's seed, the address of every random stream.

    latent: the row of latent.csv; nodes: rows of latent_nodes.csv, one per node imaged on CT. marked: whether images
    carry the center mark.
    """

    patient_id: str
    group: str
    index: int
    laterality: str
    marked: bool
    latent: dict[str, Any]
    nodes: tuple[dict[str, Any], ...]

    @property
    def center(self) -> str:
        """Center whose machines make the images."""
        return model.GROUP_CENTER[self.group]

    def stream(self, seed: int, name: str) -> np.random.Generator:
        """The random generator of one kind of draw for this patient."""
        return random_stream(seed, self.group, self.index, name)


def random_stream(seed: int, group: str, index: int, name: str) -> np.random.Generator:
    """A generator that depends on nothing but the cohort's seed, the patient's place in its group and the kind of draw."""
    return np.random.default_rng([seed, model.GROUP_CODES[group], index, STREAMS[name]])


def write_images(person: Person, spec: SimulationSpec, folder: Path, seed: int) -> list[dict[str, Any]]:
    """Write every image and mask of a patient below `folder`; return their rows of images.csv."""
    identity = Identity(person.patient_id, int(person.latent["age"]), person.center, seed, person.laterality)
    therapy = person.group == "neoadjuvant"
    writers = [
        writer
        for name, (flag, writer) in WRITERS.items()
        if (name == "MRI, two visits") == therapy and (flag is None or person.latent[flag])
    ]
    return [row for writer in writers for row in writer(person, spec, folder, seed, identity)]


def _row(person: Person, modality: str, name: str, view: str, **more: Any) -> dict[str, Any]:
    row = {"image_id": f"{person.patient_id}-{name}", "patient_id": person.patient_id, "modality": modality}
    return {**row, "sequence_or_view": view, "laterality": person.laterality, **more}


def _two_dimensional(
    person: Person, modality: str, name: str, view: str, mask: np.ndarray, folder: Path, **more: Any
) -> dict[str, Any]:
    """Write the mask as PNG; the row of a DICOM image with that mask and its box."""
    image_id = f"{person.patient_id}-{name}"
    Image.fromarray(mask.astype(np.uint8) * 255).save(folder / "masks" / f"{image_id}.png")
    paths = {"path": f"images/{image_id}.dcm", "mask_path": f"masks/{image_id}.png"}
    return _row(person, modality, name, view, **paths, box=_box(mask), **more)


def _still_appearance(person: Person, spec: SimulationSpec) -> ultrasound.LesionAppearance:
    return ultrasound.appearance_from_traits(traits.rendered(traits.ULTRASOUND, person.latent, spec))


def _write_still(
    person: Person, spec: SimulationSpec, folder: Path, seed: int, identity: Identity
) -> Iterator[dict[str, Any]]:
    still = ultrasound.simulate_bmode(
        _still_appearance(person, spec),
        ultrasound.SCANNERS[person.center],
        spec.image_rows,
        spec.image_columns,
        person.stream(seed, "ultrasound_pixels"),
    )
    row = _two_dimensional(person, "US", "US", "B-mode", still.mask, folder)
    dataset = ultrasound_dataset(_marked(still.pixels, person, 255), still.spacing_mm, identity)
    _save(dataset, person, folder / row["path"])
    yield row


def _write_sweep(
    person: Person, spec: SimulationSpec, folder: Path, seed: int, identity: Identity
) -> Iterator[dict[str, Any]]:
    shown = [traits.rendered(trait_model, person.latent, spec) for trait_model in (traits.KEY_FRAME, traits.MOTION)]
    sweep = video.simulate_sweep(
        _still_appearance(person, spec),
        video.sweep_appearance_from_traits(np.concatenate(shown)),
        ultrasound.SCANNERS[person.center],
        *spec.sampling.video_pixels,
        spec.sampling.video_frames,
        person.stream(seed, "video_pixels"),
    )
    row = _two_dimensional(person, "USV", "USV", "B-mode sweep", sweep.masks[sweep.key_frame], folder)
    frames = _marked(sweep.frames, person, 255)
    dataset = ultrasound_sweep_dataset(frames, sweep.spacing_mm, sweep.frame_time_ms, sweep.key_frame, identity)
    _save(dataset, person, folder / row["path"])
    yield row


def _write_nodes(
    person: Person, spec: SimulationSpec, folder: Path, seed: int, identity: Identity
) -> Iterator[dict[str, Any]]:
    rng = person.stream(seed, "ct_pixels")
    scanner = ct.SCANNERS[person.center]
    rows, columns = spec.sampling.ct_pixels
    spacing = spec.sampling.ct_spacing_mm
    habitus = ct.draw_habitus(rng)
    side = AXILLA_MM if person.laterality == "L" else -AXILLA_MM
    height = 0.0
    for number, node in enumerate(person.nodes, start=1):
        appearance = ct.appearance_from_traits(traits.rendered(traits.NODE, node, spec, traits.MALIGNANT_NODES))
        image = ct.simulate_node_slice(
            appearance, scanner, rows, columns, spacing, habitus, rng.spawn(1)[0], person.laterality
        )
        row = _two_dimensional(
            person, "CT", f"CT-{number}", "axial node", image.mask, folder, unit_label=int(node["malignant"])
        )
        height -= scanner.slice_thickness_mm * float(rng.integers(3, 9))
        corner = (side - 0.5 * (columns - 1) * spacing, -0.5 * (rows - 1) * spacing, round(height, 1))
        dataset = ct_dataset(
            _marked(image.hounsfield, person, 1500),
            image.spacing_mm,
            scanner.slice_thickness_mm,
            corner,
            identity,
            instance_number=number,
            kvp=scanner.kvp,
            kernel=scanner.kernel,
        )
        _save(dataset, person, folder / row["path"])
        yield row


def _write_mammograms(
    person: Person, spec: SimulationSpec, folder: Path, seed: int, identity: Identity
) -> Iterator[dict[str, Any]]:
    appearance = mammography.appearance_from_traits(traits.rendered(traits.MAMMOGRAPHY, person.latent, spec))
    views = mammography.simulate_views(
        appearance,
        mammography.SCANNERS[person.center],
        *spec.sampling.mammography_pixels,
        person.laterality,
        person.stream(seed, "mammography_pixels"),
    )
    for name, view in views.items():
        row = _two_dimensional(person, "MG", f"MG-{name}", name, view.mask, folder)
        pixels = _marked(view.pixels, person, 4095)
        dataset = mammography_dataset(pixels, view.spacing_mm, identity, name, view.compressed_thickness_mm)
        _save(dataset, person, folder / row["path"])
        yield row


def _write_mri(
    person: Person, spec: SimulationSpec, folder: Path, seed: int, identity: Identity
) -> Iterator[dict[str, Any]]:
    appearance = mri.appearance_from_traits(traits.rendered(traits.MRI, person.latent, spec))
    rng = person.stream(seed, "mri_pixels")
    grid = _grid(spec)
    breast = mri.draw_breast(grid, rng, laterality=person.laterality)
    session = mri.simulate_session(appearance, breast, mri.SCANNERS[person.center], rng)
    yield from _write_session(person, session, "pre", _oblique(grid, person, rng), folder)


def _write_two_visits(
    person: Person, spec: SimulationSpec, folder: Path, seed: int, identity: Identity
) -> Iterator[dict[str, Any]]:
    before = mri.appearance_from_traits(traits.rendered(traits.BEFORE_THERAPY, person.latent, spec))
    change = traits.rendered(traits.CHANGE, person.latent, spec)
    after = mri.after_therapy(before, change)
    rng = person.stream(seed, "mri_pixels")
    grid = _grid(spec)
    breast = mri.draw_breast(grid, rng, laterality=person.laterality)
    breast = replace(breast, vascularity=mri.vascularity(person.latent["mri_vascularity"]))
    scanner = mri.SCANNERS[person.center]
    first = mri.simulate_session(before, breast, scanner, rng)
    second = mri.simulate_session(after, breast, scanner, rng, before=before)
    geometry = _oblique(grid, person, rng)
    yield from _write_session(person, first, "pre", geometry, folder)
    yield from _write_session(person, second, "post", geometry, folder)


def _grid(spec: SimulationSpec) -> mri.VolumeGrid:
    return mri.VolumeGrid(spec.sampling.mri_voxels, spec.sampling.mri_spacing_mm)


def _oblique(grid: mri.VolumeGrid, person: Person, rng: np.random.Generator) -> Placement:
    """Axial slices turned by a few degrees, as a technologist aligns them with the chest wall; mm, LPS."""
    turn = Rotation.from_euler("xyz", rng.uniform(-6.0, 6.0, 3), degrees=True)
    side = 70.0 if person.laterality == "L" else -70.0
    middle = np.array([side, -60.0, -30.0]) + rng.normal(0.0, 8.0, 3)
    half = 0.5 * (np.array(grid.shape[::-1]) - 1) * np.array(grid.spacing_mm[::-1])
    direction = turn.as_matrix()
    origin = middle - direction @ half
    return Placement(grid.spacing_mm, origin.round(4), direction)


def _write_session(
    person: Person, session: mri.MRISession, timepoint: str, geometry: Placement, folder: Path
) -> Iterator[dict[str, Any]]:
    visit = f"{person.patient_id}-MRI-{timepoint}"
    mask_path = f"masks/{visit}.nii.gz"
    write_volume(folder / mask_path, session.mask, geometry)
    box = _box(session.mask) if session.mask.any() else None
    for sequence, values in session.volumes.items():
        path = f"images/{visit}-{sequence}.nii.gz"
        write_volume(folder / path, values, geometry)
        paths = {"path": path, "mask_path": mask_path, "box": box, "timepoint": timepoint}
        yield _row(person, "MRI", f"MRI-{timepoint}-{sequence}", sequence, **paths)


def _box(mask: np.ndarray) -> str:
    """Smallest half-open box that holds the mask, as images.csv writes it: first edges, then last ones, in index order."""
    inside = np.argwhere(mask)
    return " ".join(str(int(edge)) for edge in (*inside.min(axis=0), *(inside.max(axis=0) + 1)))


def _marked(pixels: np.ndarray, person: Person, bright: int) -> np.ndarray:
    """A bright cross, 9 pixels wide, in the upper left corner of every frame, as a caliper or a vendor's symbol would be
    burned in; the pixels themselves where the patient carries no mark."""
    if not person.marked:
        return pixels
    marked = pixels.copy()
    first, last = MARK_PLACE
    marked[..., (first + last) // 2, first:last] = bright
    marked[..., first:last, (first + last) // 2] = bright
    return marked


def _save(dataset: Any, person: Person, path: Path) -> None:
    if person.marked:
        dataset.BurnedInAnnotation = "YES"
    dataset.save_as(path, enforce_file_format=True)


WRITERS = {
    "ultrasound still": (None, _write_still),
    "MRI": ("has_mri", _write_mri),
    "ultrasound sweep": ("has_video", _write_sweep),
    "CT nodes": ("has_ct", _write_nodes),
    "mammograms": ("has_mammography", _write_mammograms),
    "MRI, two visits": (None, _write_two_visits),
}
"""{name: (column of latent.csv that says who has it, writer)}; two visits are for patients treated first, and all they have."""
