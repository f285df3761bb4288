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
from pydicom.dataset import Dataset
from scipy.spatial.transform import Rotation

from alnsim import ct, dicom, mammography, mri, traits, ultrasound, video
from alnsim import patients as model
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
    """One simulated patient. block, index: with the cohort's seed, the address of every random stream.

    latent: the row of latent.csv; nodes: rows of latent_nodes.csv, one per node imaged on CT. marked: whether images
    carry the center mark.
    """

    patient_id: str
    block: str
    index: int
    laterality: str
    marked: bool
    latent: dict[str, Any]
    nodes: tuple[dict[str, Any], ...]

    @property
    def center(self) -> str:
        """Center whose machines make the images."""
        return model.GROUP_CENTER[self.latent["group"]]

    def stream(self, seed: int, name: str) -> np.random.Generator:
        """The random generator of one kind of draw for this patient."""
        return random_stream(seed, self.block, self.index, name)


def random_stream(seed: int, block: str, index: int, name: str) -> np.random.Generator:
    """A generator that depends on nothing but the cohort's seed, the patient's place in its block and the kind of draw."""
    return np.random.default_rng([seed, model.GROUP_CODES[block], index, STREAMS[name]])


@dataclass(frozen=True)
class Exam:
    """One patient in front of the machines: whose images are written below `folder`, as the recipe and the seed say."""

    person: Person
    spec: SimulationSpec
    folder: Path
    seed: int

    @property
    def identity(self) -> dicom.Identity:
        """Whose name and number every file bears."""
        person = self.person
        return dicom.Identity(person.patient_id, int(person.latent["age"]), person.center, self.seed, person.laterality)

    def stream(self, name: str) -> np.random.Generator:
        """The random generator of one kind of draw for this patient."""
        return self.person.stream(self.seed, name)

    def shown(self, *models: traits.TraitModel) -> np.ndarray:
        """The patient's traits as pixels show them."""
        return np.concatenate([traits.rendered(model, self.person.latent, self.spec) for model in models])

    def row(self, modality: str, name: str, view: str, **more: Any) -> dict[str, Any]:
        """A row of images.csv."""
        row = {"image_id": f"{self.person.patient_id}-{name}", "patient_id": self.person.patient_id}
        return {**row, "modality": modality, "sequence_or_view": view, "laterality": self.person.laterality, **more}

    def write(
        self, dataset: Dataset, mask: np.ndarray, modality: str, name: str, view: str, **more: Any
    ) -> dict[str, Any]:
        """Write a DICOM image, and its mask as PNG; their row of images.csv."""
        image_id = f"{self.person.patient_id}-{name}"
        paths = {"path": f"images/{image_id}.dcm", "mask_path": f"masks/{image_id}.png"}
        Image.fromarray(mask.astype(np.uint8) * 255).save(self.folder / paths["mask_path"])
        if self.person.marked:
            dataset.BurnedInAnnotation = "YES"
        dataset.save_as(self.folder / paths["path"], enforce_file_format=True)
        return self.row(modality, name, view, **paths, box=_box(mask), **more)

    def marked(self, pixels: np.ndarray, bright: int) -> np.ndarray:
        """A bright cross, 9 pixels wide, in the upper left corner of every frame, as a caliper or a vendor's symbol would
        be burned in; the pixels themselves where the patient carries no mark."""
        if not self.person.marked:
            return pixels
        marked = pixels.copy()
        first, last = MARK_PLACE
        marked[..., (first + last) // 2, first:last] = bright
        marked[..., first:last, (first + last) // 2] = bright
        return marked


def write_images(person: Person, spec: SimulationSpec, folder: Path, seed: int) -> list[dict[str, Any]]:
    """Write every image and mask of a patient below `folder`; return their rows of images.csv."""
    exam = Exam(person, spec, folder, seed)
    therapy = person.latent["group"] == "neoadjuvant"
    writers = [
        writer
        for name, (flag, writer) in WRITERS.items()
        if (name == "MRI, two visits") == therapy and (flag is None or person.latent[flag])
    ]
    return [row for writer in writers for row in writer(exam)]


def _still_appearance(exam: Exam) -> ultrasound.LesionAppearance:
    return ultrasound.appearance_from_traits(exam.shown(traits.ULTRASOUND))


def _write_still(exam: Exam) -> Iterator[dict[str, Any]]:
    size = exam.spec.image_rows, exam.spec.image_columns
    scanner = ultrasound.SCANNERS[exam.person.center]
    still = ultrasound.simulate_bmode(_still_appearance(exam), scanner, *size, exam.stream("ultrasound_pixels"))
    dataset = dicom.ultrasound_dataset(exam.marked(still.pixels, 255), still.spacing_mm, exam.identity)
    yield exam.write(dataset, still.mask, "US", "US", "B-mode")


def _write_sweep(exam: Exam) -> Iterator[dict[str, Any]]:
    appearance = video.sweep_appearance_from_traits(exam.shown(traits.KEY_FRAME, traits.MOTION))
    size = *exam.spec.sampling.video_pixels, exam.spec.sampling.video_frames
    scanner = ultrasound.SCANNERS[exam.person.center]
    sweep = video.simulate_sweep(_still_appearance(exam), appearance, scanner, *size, exam.stream("video_pixels"))
    frames = exam.marked(sweep.frames, 255)
    dataset = dicom.ultrasound_sweep_dataset(
        frames, sweep.spacing_mm, sweep.frame_time_ms, sweep.key_frame, exam.identity
    )
    yield exam.write(dataset, sweep.masks[sweep.key_frame], "USV", "USV", "B-mode sweep")


def _write_nodes(exam: Exam) -> Iterator[dict[str, Any]]:
    person, sampling, rng = exam.person, exam.spec.sampling, exam.stream("ct_pixels")
    scanner, spacing = ct.SCANNERS[person.center], sampling.ct_spacing_mm
    rows, columns = sampling.ct_pixels
    habitus = ct.draw_habitus(rng)
    side = AXILLA_MM if person.laterality == "L" else -AXILLA_MM
    height = 0.0
    for number, node in enumerate(person.nodes, start=1):
        shown = traits.rendered(traits.NODE, node, exam.spec, traits.MALIGNANT_NODES)
        field = (rows, columns, spacing, habitus, rng.spawn(1)[0], person.laterality)
        image = ct.simulate_node_slice(ct.appearance_from_traits(shown), scanner, *field)
        height -= scanner.slice_thickness_mm * float(rng.integers(3, 9))
        corner = (side - 0.5 * (columns - 1) * spacing, -0.5 * (rows - 1) * spacing, round(height, 1))
        pixels = exam.marked(image.hounsfield, 1500)
        place = image.spacing_mm, scanner.slice_thickness_mm, corner
        dataset = dicom.ct_dataset(pixels, *place, exam.identity, number, scanner.kvp, scanner.kernel)
        label = int(node["malignant"])
        yield exam.write(dataset, image.mask, "CT", f"CT-{number}", "axial node", unit_label=label)


def _write_mammograms(exam: Exam) -> Iterator[dict[str, Any]]:
    appearance = mammography.appearance_from_traits(exam.shown(traits.MAMMOGRAPHY))
    scanner, size = mammography.SCANNERS[exam.person.center], exam.spec.sampling.mammography_pixels
    rng = exam.stream("mammography_pixels")
    for name, view in mammography.simulate_views(appearance, scanner, *size, exam.person.laterality, rng).items():
        pixels = exam.marked(view.pixels, 4095)
        dataset = dicom.mammography_dataset(pixels, view.spacing_mm, exam.identity, name, view.compressed_thickness_mm)
        yield exam.write(dataset, view.mask, "MG", f"MG-{name}", name)


def _write_mri(exam: Exam) -> Iterator[dict[str, Any]]:
    appearance = mri.appearance_from_traits(exam.shown(traits.MRI))
    rng, grid, scanner = exam.stream("mri_pixels"), _grid(exam.spec), mri.SCANNERS[exam.person.center]
    breast = mri.draw_breast(grid, rng, laterality=exam.person.laterality)
    session = mri.simulate_session(appearance, breast, scanner, rng)
    yield from _write_session(exam, session, "pre", _oblique(grid, exam.person, rng))


def _write_two_visits(exam: Exam) -> Iterator[dict[str, Any]]:
    before = mri.appearance_from_traits(exam.shown(traits.BEFORE_THERAPY))
    after = mri.after_therapy(before, exam.shown(traits.CHANGE))
    rng, grid, scanner = exam.stream("mri_pixels"), _grid(exam.spec), mri.SCANNERS[exam.person.center]
    breast = mri.draw_breast(grid, rng, laterality=exam.person.laterality)
    breast = replace(breast, vascularity=mri.vascularity(exam.person.latent["mri_vascularity"]))
    first = mri.simulate_session(before, breast, scanner, rng)
    second = mri.simulate_session(after, breast, scanner, rng, before=before)
    geometry = _oblique(grid, exam.person, rng)
    yield from _write_session(exam, first, "pre", geometry)
    yield from _write_session(exam, second, "post", geometry)


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
    exam: Exam, session: mri.MRISession, timepoint: str, geometry: Placement
) -> Iterator[dict[str, Any]]:
    visit = f"{exam.person.patient_id}-MRI-{timepoint}"
    mask_path = f"masks/{visit}.nii.gz"
    write_volume(exam.folder / mask_path, session.mask, geometry)
    box = _box(session.mask) if session.mask.any() else None
    for sequence, values in session.volumes.items():
        path = f"images/{visit}-{sequence}.nii"
        write_volume(exam.folder / path, values, geometry)
        paths = {"path": path, "mask_path": mask_path, "box": box, "timepoint": timepoint}
        yield exam.row("MRI", f"MRI-{timepoint}-{sequence}", sequence, **paths)


def _box(mask: np.ndarray) -> str:
    """Smallest half-open box that holds the mask, as images.csv writes it: first edges, then last ones, in index order."""
    inside = np.argwhere(mask)
    return " ".join(str(int(edge)) for edge in (*inside.min(axis=0), *(inside.max(axis=0) + 1)))


WRITERS = {
    "ultrasound still": (None, _write_still),
    "MRI": ("has_mri", _write_mri),
    "ultrasound sweep": ("has_video", _write_sweep),
    "CT nodes": ("has_ct", _write_nodes),
    "mammograms": ("has_mammography", _write_mammograms),
    "MRI, two visits": (None, _write_two_visits),
}
"""{name: (column of latent.csv that says who has it, writer)}; two visits are for patients treated first, and all they have."""
