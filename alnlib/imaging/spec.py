"""How an image becomes what a network sees: one specification of a crop, for every modality.

Cropping itself is in `lesions`; a stage writes the specification it used, and whoever explains or audits its networks reads it.
Statistics of a training set (mean, standard deviation over patients) belong to training.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from alnlib.errors import InputError

KINDS = ("fixed_size", "adjustable_square")
"""FSC, size_mm round the middle of the box, keeps absolute size and surroundings; ASC, the box and a margin, scales size away
(Park et al. 2024, Curr Oncol 31:2278)."""

MODALITIES = ("US", "MG", "USV", "CT", "MRI")

PERCENTILES = {"MRI": (1.0, 99.99)}
"""To black and to white, of a whole image, clip or volume; else 1 and 99. In crops of simulated DCE peaks 20 % of pixels are
white with 99.5, 3 % with 99.9 and 0.1 % with 99.99: an enhancing lesion is small, and a lower percentile lies within it.
Our choice."""

SOFT_TISSUE_HU = (-160.0, 240.0)
"""Black and white of CT: a window 400 HU wide at 40 HU."""

KEY = "key"
CHANNEL = "<timepoint>/<sequence> or <timepoint>/<sequence>-<sequence to subtract>"


def percentile_scale(image: np.ndarray, low: float = 1.0, high: float = 99.0) -> np.ndarray:
    """float32 in [0, 1]: the `low` percentile becomes 0, the `high` one 1, values beyond are clipped.

    A constant image becomes 0.5 everywhere. Takes out gain and most of the dynamic range; keeps the order of
    gray values. Raises ValueError unless 0 <= low < high <= 100, or for values that are not finite.
    """
    if not 0.0 <= low < high <= 100.0:
        raise ValueError(f"percentiles {low} and {high}: expected 0 <= low < high <= 100")
    image = np.asarray(image, dtype=np.float32)
    if not np.isfinite(image).all():
        raise ValueError("the image holds values that are not finite")
    bottom, top = (float(edge) for edge in np.percentile(image, (low, high)))
    if top <= bottom:
        bottom, top = float(image.min()), float(image.max())
    return range_scale(image, bottom, top) if bottom < top else np.full(image.shape, 0.5, dtype=np.float32)


def range_scale(values: np.ndarray | float, black: float, white: float) -> np.ndarray:
    """float32 in [0, 1]: the value `black` becomes 0 and `white` 1, clipped beyond; a window of CT, or a range of ADC."""
    if not black < white:
        raise ValueError(f"value range {black} to {white}: expected black below white")
    return np.clip((np.asarray(values, dtype=np.float32) - np.float32(black)) / np.float32(white - black), 0.0, 1.0)


class Channel(NamedTuple):
    """A sequence of MRI. timepoint: None where the table names none; subtract: taken from it voxel by voxel, or None."""

    timepoint: str | None
    sequence: str
    subtract: str | None


@dataclass(frozen=True)
class CropSpec:
    """Every setting of a crop. Raises InputError for a setting out of its range, and for what a modality needs and lacks."""

    modality: str  # one of MODALITIES
    side_px: int  # rows and columns of a crop
    kind: str = "adjustable_square"  # of KINDS
    size_mm: float | None = None  # side of the fixed size, in mm
    margin_fraction: float = 0.2  # of the longer edge of the box, shared by both sides of the adjustable square
    percentiles: tuple[float, float] | None = None  # to black and to white; None: PERCENTILES
    value_range: tuple[float, float] | None = None  # values that become black and white instead; CT: HU, SOFT_TISSUE_HU
    picture_rescale: tuple[float, float] | None = None  # CT as a picture: slope and intercept from gray values to HU
    frames: int | str | None = None  # USV: so many, the middle of equal segments; None: all; KEY: the key frame alone
    channels: tuple[str, ...] = ()  # MRI: as CHANNEL
    depth: int | None = None  # MRI: slices of a box; None: the largest slice of one channel and its two neighbors
    depth_mm: float | None = None  # MRI: extent of that box across slices; None: as its side

    def __post_init__(self) -> None:
        for name in ("percentiles", "value_range", "picture_rescale", "channels"):
            value = getattr(self, name)
            object.__setattr__(self, name, None if value is None else tuple(value))
        self._check()
        if self.modality == "CT" and self.value_range is None:
            object.__setattr__(self, "value_range", SOFT_TISSUE_HU)
        if self.value_range is None and self.percentiles is None:
            object.__setattr__(self, "percentiles", PERCENTILES.get(self.modality, (1.0, 99.0)))

    def _check(self) -> None:
        is_mri, has_depth, modalities = self.modality == "MRI", self.depth is not None, ", ".join(MODALITIES)
        lacks_size = self.size_mm is None and self.kind == "fixed_size"
        problems = {
            f"there is no crop of modality {self.modality!r}; choose one of {modalities}": self.modality
            not in MODALITIES,
            f"crop is {self.kind!r}; choose one of {', '.join(KINDS)}": self.kind not in KINDS,
            "the size of a crop of fixed size is not given; say how many mm (size_mm)": lacks_size,
            f"size_mm is {self.size_mm}; give a positive number of mm": self.size_mm is not None and self.size_mm <= 0,
            f"margin_fraction is {self.margin_fraction}; it cannot be negative": self.margin_fraction < 0,
            "depth_mm is given without depth": self.depth_mm is not None and not has_depth,
            f"no channel was asked for; give at least one, as {CHANNEL}": is_mri and not self.channels,
            "three slices are cut from one channel; give one, or a depth for a crop in three dimensions": (
                is_mri and not has_depth and len(self.channels) > 1
            ),
        }
        for problem, found in problems.items():
            if found:
                raise InputError(problem)
        self.read_channels()

    def read_channels(self) -> list[Channel]:
        """The channels, as "pre/T2", "/T2" or "pre/DCE_early-DCE_pre", in parts. Raises InputError for anything else."""
        channels = []
        for text in self.channels:
            timepoint, slash, rest = text.partition("/")
            sequence, _, subtract = rest.partition("-")
            if not slash or not sequence:
                raise InputError(f"channel {text!r} cannot be read; give {CHANNEL}")
            channels.append(Channel(timepoint or None, sequence, subtract or None))
        return channels

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one crop: (rows, columns), after frames, three slices, or channels and depth; 0 frames if all are taken."""
        square = self.side_px, self.side_px
        if self.modality == "USV" and self.frames != KEY:
            return self.frames or 0, *square
        if self.modality == "MRI":
            return (3, *square) if self.depth is None else (len(self.channels), self.depth, *square)
        return square

    def scaled(self, values: np.ndarray) -> np.ndarray:
        """Values of a whole image, clip or volume as float32 from black (0) to white (1), clipped beyond."""
        if self.value_range is None:
            return percentile_scale(values, *self.percentiles)
        return range_scale(values, *self.value_range)

    def to_json(self) -> dict[str, Any]:
        """Every setting by its name; `read` reads it back."""
        return asdict(self)

    @classmethod
    def read(cls, path: str | Path, name: str | None = None) -> CropSpec:
        """From a JSON file that a stage wrote. name: which, in a file of several. Raises InputError naming the file."""
        settings = json.loads(Path(path).read_text(encoding="utf-8"))
        try:
            return cls(**(settings if name is None else settings[name]))
        except (KeyError, TypeError, InputError) as error:
            raise InputError(f"{path}: {error}; run the stage that makes it again") from error
