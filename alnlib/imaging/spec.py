"""How an image becomes what a network sees: one specification of a crop, for every modality.

Cropping itself is in `lesions`; a stage writes the specification it used, and whoever explains or audits its networks reads it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from alnlib.errors import InputError
from alnlib.imaging.normalize import percentile_scale, range_scale

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


class Channel(NamedTuple):
    """A sequence of MRI. timepoint: None where the table names none; subtract: taken from it voxel by voxel, or None."""

    timepoint: str | None
    sequence: str
    subtract: str | None

    @classmethod
    def parse(cls, text: str) -> Channel:
        """Read "pre/T2", "/T2" or "pre/DCE_early-DCE_pre". Raises InputError for anything else."""
        timepoint, slash, rest = text.partition("/")
        sequence, _, subtract = rest.partition("-")
        if not slash or not sequence:
            raise InputError(f"channel {text!r} cannot be read; give {CHANNEL}")
        return cls(timepoint or None, sequence, subtract or None)


@dataclass(frozen=True)
class CropSpec:
    """Every setting of a crop. Raises InputError for an unknown modality or kind, and for what a modality needs and lacks."""

    modality: str  # one of MODALITIES
    side_px: int  # rows and columns of a crop
    kind: str = "adjustable_square"  # of KINDS; a crop with depth_mm is always a box in mm
    size_mm: float | None = None  # side of the fixed size, in mm
    margin_fraction: float = 0.2  # of the longer edge of the box, shared by both sides of the adjustable square
    percentiles: tuple[float, float] | None = None  # to black and to white; None: PERCENTILES
    value_range: tuple[float, float] | None = None  # values that become black and white instead; CT: HU, SOFT_TISSUE_HU
    picture_rescale: tuple[float, float] | None = (
        None  # CT as PNG, JPEG or TIFF: slope and intercept from gray values to HU
    )
    frames: int | str | None = None  # USV: so many, the middle of equal segments; None: all; KEY: the key frame alone
    channels: tuple[str, ...] = ()  # MRI: as CHANNEL
    depth: int | None = (
        None  # MRI: slices of a box in mm; None: the largest slice and its two neighbors, of one channel
    )
    depth_mm: float | None = None  # MRI: extent of that box across slices

    def __post_init__(self) -> None:
        for name in ("percentiles", "value_range", "picture_rescale", "channels"):
            value = getattr(self, name)
            object.__setattr__(self, name, None if value is None else tuple(value))
        if self.modality not in MODALITIES:
            raise InputError(f"there is no crop of modality {self.modality!r}; choose one of {', '.join(MODALITIES)}")
        if self.kind not in KINDS:
            raise InputError(f"crop is {self.kind!r}; choose one of {', '.join(KINDS)}")
        if self.size_mm is None and (self.kind == "fixed_size" or self.depth is not None):
            raise InputError("the size of a crop of fixed size is not given; say how many mm (size_mm)")
        if (self.depth is None) != (self.depth_mm is None):
            raise InputError("a crop in three dimensions needs depth and depth_mm, in slices and in mm")
        if self.modality == "MRI" and not self.channels:
            raise InputError(f"no channel was asked for; give at least one, as {CHANNEL}")
        if self.modality == "MRI" and self.depth is None and len(self.channels) > 1:
            raise InputError(
                "three slices are cut from one channel; give one, or a depth for a crop in three dimensions"
            )
        if self.modality == "CT" and self.value_range is None:
            object.__setattr__(self, "value_range", SOFT_TISSUE_HU)
        if self.value_range is None and self.percentiles is None:
            object.__setattr__(self, "percentiles", PERCENTILES.get(self.modality, (1.0, 99.0)))
        self.read_channels()

    def read_channels(self) -> list[Channel]:
        """The channels in parts. Raises InputError for one that cannot be read."""
        return [Channel.parse(text) for text in self.channels]

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
        """Every setting by its name, as JSON holds it; `from_json` reads it back."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}

    @classmethod
    def from_json(cls, settings: Mapping[str, Any]) -> CropSpec:
        """The specification of `to_json`. Raises InputError for settings that no crop has."""
        unknown = sorted(set(settings) - set(cls.__dataclass_fields__))
        if unknown or "modality" not in settings:
            raise InputError(
                f"{', '.join(unknown) or 'without a modality'}: is no specification of a crop; make it again"
            )
        return cls(**settings)

    @classmethod
    def read(cls, path: str | Path, name: str | None = None) -> CropSpec:
        """From a JSON file that a stage wrote. name: which, in a file of several. Raises InputError naming the file."""
        settings = json.loads(Path(path).read_text(encoding="utf-8"))
        try:
            return cls.from_json(settings if name is None else settings[name])
        except (KeyError, InputError) as error:
            raise InputError(f"{path}: {error}; run the stage that makes it again") from error
