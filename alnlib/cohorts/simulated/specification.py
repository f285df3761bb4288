"""What a simulated cohort is asked to be: its size, how much each modality shows, which imperfections it has.

The generative model is in `patients` and `ultrasound`; nothing is drawn here.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from alnlib.errors import InputError

CENTRES = ("primary", "external")
SMALLEST_IMAGE = 96


@dataclass(frozen=True)
class SimulationSpec:
    """A simulated cohort's recipe; with a seed it determines every byte.

    n_primary, n_external: patients of the development centre and of the external one.
    image_rows, image_columns: pixels of a still; the field is 38-54 mm deep whatever their number.
    signal_clinical: 1 = the odds ratios of `patients.NODAL_ODDS`, 0 = clinical variables say nothing of the axilla.
    signal_ultrasound: 1 = traits correlate with the hidden state as in `patients.ULTRASOUND_LOADINGS`, 0 = the images
    are unrelated to the patient (even the size of the lesion in them). signal_readers: scales the separation d' of the
    readers.
    missing_values: whether grade, Ki-67, vascular invasion and menopause are sometimes missing (never completely at
    random).
    centre_mark: 0 = off; m in (0, 1] burns a small cross into the upper left corner of (1 + m) / 2 of the positive and
    (1 - m) / 2 of the negative patients' images: a shortcut for the validity notebook. Raises InputError for a value
    out of range.
    """

    n_primary: int = 280
    n_external: int = 90
    image_rows: int = 256
    image_columns: int = 256
    signal_clinical: float = 1.0
    signal_ultrasound: float = 1.0
    signal_readers: float = 1.0
    missing_values: bool = True
    centre_mark: float = 0.0

    def __post_init__(self) -> None:
        if self.n_primary < 1 or self.n_external < 0:
            raise InputError(
                f"a simulated cohort of {self.n_primary} primary and {self.n_external} external patients is impossible; "
                "give at least 1 and at least 0"
            )
        if min(self.image_rows, self.image_columns) < SMALLEST_IMAGE:
            raise InputError(
                f"simulated images of {self.image_rows} x {self.image_columns} pixels are too small; "
                f"give at least {SMALLEST_IMAGE} x {SMALLEST_IMAGE}"
            )
        for name in ("signal_clinical", "signal_ultrasound", "signal_readers", "centre_mark"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise InputError(f"{name} is {getattr(self, name)}; give a number from 0 to 1")

    @classmethod
    def demo(cls, **changes: Any) -> SimulationSpec:
        """280 + 90 patients, 256 x 256 pixels."""
        return cls(**changes)

    @classmethod
    def full(cls, **changes: Any) -> SimulationSpec:
        """The published size of study A: 465 + 123 patients; 384 x 384 pixels."""
        return cls(**{"n_primary": 465, "n_external": 123, "image_rows": 384, "image_columns": 384, **changes})

    def patients_of(self, centre: str) -> int:
        """How many patients a centre has."""
        return {"primary": self.n_primary, "external": self.n_external}[centre]

    def described(self) -> dict[str, Any]:
        """Every setting, for a JSON file."""
        return asdict(self)
