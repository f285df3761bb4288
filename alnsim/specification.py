"""What a simulated cohort is asked to be: its size, how much each modality shows, which imperfections it has.

The generative model is in `patients` and `traits`, the physics in one module per modality; nothing is drawn here.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np

from alnlib.errors import InputError

CENTERS = ("primary", "external")

GROUPS = ("primary", "external", "neoadjuvant")
"""Whom a patient belongs to: operated at once at either center, or (at the primary one) treated before surgery."""

SMALLEST_IMAGE = 96

PUBLISHED_SHARE = {
    "n_mri": ("n_operated", 588, 588),
    "n_video_primary": ("n_primary", 271, 465),
    "n_video_external": ("n_external", 49, 123),
    "n_ct": ("n_operated", 523, 588),
    "n_ct_nodes": ("n_ct", 1128, 523),
    "n_mammography": ("n_primary", 270, 465),
    "n_neoadjuvant": ("n_primary", 254, 465),
}
"""{field: (of which field, published size, of)}: the subgroup that a field left at None has, as in the five studies."""


@dataclass(frozen=True)
class Detail:
    """Sampling of the images. Pixels are (rows, columns), volumes (slices, rows, columns); lengths in mm."""

    video_frames: int
    video_pixels: tuple[int, int]
    mri_voxels: tuple[int, int, int]
    mri_spacing_mm: tuple[float, float, float]
    ct_pixels: tuple[int, int]
    ct_spacing_mm: float
    mammography_pixels: tuple[int, int]


DETAILS = {
    "demo": Detail(24, (112, 112), (16, 80, 80), (3.0, 1.5, 1.5), (160, 160), 0.8, (448, 352)),
    "full": Detail(40, (192, 192), (24, 128, 128), (2.0, 1.1, 1.1), (320, 320), 0.6, (1024, 800)),
}
"""Our choice: demo is coarse and hides part of the fine traits, full is finer (see benchmarks/trait_recovery.csv)."""


@dataclass(frozen=True)
class SimulationSpec:
    """A simulated cohort's recipe; with a seed it determines every byte.

    n_primary, n_external: patients operated at once (each has an ultrasound still), development and external center.
    n_mri, n_video_primary, n_video_external, n_ct, n_mammography: how many of them also have MRI, a sweep, CT, mammograms;
    n_ct_nodes: node images of the CT patients, one to four each; n_neoadjuvant: further patients, node-positive, with
    MRI before and after therapy. n_population: fresh patients of the development center operated at once, with every
    kind of image, and as many treated first, whom nobody reads and no study has: on them a trained model shows what it is
    worth. None: the published share of the studies (`PUBLISHED_SHARE`), read back as a number.
    image_rows, image_columns: pixels of a still; the field is 38-54 mm deep whatever their number. detail: "demo" or
    "full", the sampling of every other modality.
    signal_clinical: 1 = the odds ratios of `patients.NODAL_ODDS` and `RESPONSE_ODDS`, 0 = clinical variables say
    nothing of the axilla. signal_ultrasound, signal_video (what a sweep adds to its still), signal_mri,
    signal_mammography, signal_ct, signal_response (therapy): 1 = traits are as in `traits`, 0 = the images are
    unrelated to the patient (even the size of the lesion in them). signal_readers: scales the readers' d'.
    missing_values: whether grade, Ki-67, vascular invasion and menopause are sometimes missing (never completely at
    random).
    center_mark: 0 = off; m in (0, 1] burns a small cross into the upper left corner of (1 + m) / 2 of the positive and
    (1 - m) / 2 of the negative patients' stills, sweeps, CT and mammograms, at both centers: a shortcut for the validity
    notebook, like the sticker of a ward that sees the sicker patients. DICOM's Burned In Annotation then says YES.
    Raises InputError for a value out of range.
    """

    n_primary: int = 280
    n_external: int = 90
    n_mri: int | None = None
    n_video_primary: int | None = None
    n_video_external: int | None = None
    n_ct: int | None = None
    n_ct_nodes: int | None = None
    n_mammography: int | None = None
    n_neoadjuvant: int | None = None
    n_population: int = 0
    image_rows: int = 256
    image_columns: int = 256
    detail: str = "demo"
    signal_clinical: float = 1.0
    signal_ultrasound: float = 1.0
    signal_video: float = 1.0
    signal_mri: float = 1.0
    signal_mammography: float = 1.0
    signal_ct: float = 1.0
    signal_response: float = 1.0
    signal_readers: float = 1.0
    missing_values: bool = True
    center_mark: float = 0.0

    def __post_init__(self) -> None:
        for name in ("n_primary", "n_external", "n_population", *PUBLISHED_SHARE, "image_rows", "image_columns"):
            value = getattr(self, name)
            if value is not None and not isinstance(value, (int, np.integer)):
                raise InputError(f"{name} is {value!r}; give a whole number")
        if self.n_primary < 1 or self.n_external < 0:
            raise InputError(
                f"a simulated cohort of {self.n_primary} primary and {self.n_external} external patients is impossible; "
                "give at least 1 and at least 0"
            )
        for name, (whole, share, of) in PUBLISHED_SHARE.items():
            if getattr(self, name) is None:
                object.__setattr__(self, name, round(share * getattr(self, whole) / of))
        for name in ("n_mri", "n_video_primary", "n_video_external", "n_ct", "n_mammography"):
            whole = PUBLISHED_SHARE[name][0]
            if not 0 <= getattr(self, name) <= getattr(self, whole):
                raise InputError(
                    f"{name} is {getattr(self, name)}; give a number from 0 to {whole} = {getattr(self, whole)} "
                    "(whoever lowers the number of patients lowers its subgroups too)"
                )
        usual = PUBLISHED_SHARE["n_ct_nodes"][1] / PUBLISHED_SHARE["n_ct_nodes"][2] * self.n_ct
        if abs(self.n_ct_nodes - usual) > 0.05 * usual + 2.0 * self.n_ct**0.5 or self.n_ct_nodes < self.n_ct:
            raise InputError(
                f"{self.n_ct_nodes} nodes do not fit {self.n_ct} CT patients, who have one to four each and {usual:.0f} "
                "as a rule: change n_ct_nodes"
            )
        for name in ("n_neoadjuvant", "n_population"):
            if getattr(self, name) < 0:
                raise InputError(f"{name} is {getattr(self, name)}; give a number from 0 up")
        if min(self.image_rows, self.image_columns) < SMALLEST_IMAGE:
            raise InputError(
                f"simulated images of {self.image_rows} x {self.image_columns} pixels are too small; "
                f"give at least {SMALLEST_IMAGE} x {SMALLEST_IMAGE}"
            )
        if self.detail not in DETAILS:
            raise InputError(f"detail is {self.detail!r}; choose one of {', '.join(DETAILS)}")
        for name in (*self.signals(), "center_mark"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise InputError(f"{name} is {getattr(self, name)}; give a number from 0 to 1")

    @classmethod
    def demo(cls, **changes: Any) -> SimulationSpec:
        """370 patients operated at once and 100 treated first, coarse images: for two cores.

        Subgroups are those of notebook 01, unless the number of patients is changed: then the published shares.
        """
        subgroups = {"n_ct": 200, "n_ct_nodes": 431, "n_video_primary": 150, "n_video_external": 50}
        subgroups |= {"n_mammography": 150, "n_neoadjuvant": 100}
        return cls(**({} if {"n_primary", "n_external"} & set(changes) else subgroups), **changes)

    @classmethod
    def full(cls, **changes: Any) -> SimulationSpec:
        """The published sizes of the five studies, finer images.

        588 patients with ultrasound and MRI (465 + 123), 523 of them with CT of 1,128 nodes, 320 with a sweep (271 +
        49), 270 with mammograms, and 254 with MRI before and after therapy.
        """
        sizes = {"n_primary": 465, "n_external": 123, "image_rows": 384, "image_columns": 384, "detail": "full"}
        return cls(**{**sizes, **changes})

    @classmethod
    def signals(cls) -> tuple[str, ...]:
        """Names of the fields that scale what is shown."""
        return tuple(field.name for field in fields(cls) if field.name.startswith("signal_"))

    @property
    def n_operated(self) -> int:
        """Patients operated at once, of both centers."""
        return self.n_primary + self.n_external

    @property
    def sampling(self) -> Detail:
        """Pixels, voxels and spacings of the modalities other than the still."""
        return DETAILS[self.detail]

    def patients_of(self, group: str) -> int:
        """How many patients a group has."""
        return {"primary": self.n_primary, "external": self.n_external, "neoadjuvant": self.n_neoadjuvant}[group]

    def described(self) -> dict[str, Any]:
        """Every setting, for a JSON file."""
        return asdict(self)
