"""How like real images the simulated ones are: stills to compare with a reader's own, and the numbers measured so far.

The statistics are in `alnsim.statistics`; `tools/realism.py` measures realism.csv, from public images that are not
part of this project.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from alnsim.statistics import COMPARISON_COLUMNS, Still
from alnsim.ultrasound import SCANNERS, TRAITS, appearance_from_traits, simulate_bmode

REALISM = Path(__file__).with_name("realism.csv")
REALISM_COLUMNS = ("modality", "scanner", *COMPARISON_COLUMNS)

STILL_PIXELS = 256


def simulate_stills(n: int, rng: np.random.Generator, scanner: str = "primary") -> list[Still]:
    """n ultrasound stills of 256 x 256 pixels, one of each of n patients without any other data.

    Traits are independent standard normal scores; in a cohort they are as a rule correlated with each other and with nodal
    status. scanner: a key of `ultrasound.SCANNERS`. Paths are names only, simulated-001 and so on. Raises ValueError for a
    negative n.
    """
    if n < 0:
        raise ValueError(f"{n} stills")
    return [_still(f"simulated-{number:03d}", scanner, rng) for number in range(1, n + 1)]


def _still(name: str, scanner: str, rng: np.random.Generator) -> Still:
    appearance = appearance_from_traits(rng.standard_normal(len(TRAITS)))
    drawn = simulate_bmode(appearance, SCANNERS[scanner], STILL_PIXELS, STILL_PIXELS, rng)
    return Still(drawn.pixels.astype(np.float32), drawn.spacing_mm, Path(name))


def read_realism() -> pd.DataFrame:
    """`REALISM_COLUMNS`, one row per modality ("US", "CT", "MG"), scanner and statistic, as `tools/realism.py` measured them.

    Real images: BrEaST ultrasound stills, DeepLesion CT slices (of the trunk, not the axilla), the four mammograms of one
    patient; so the real columns of CT and MG say little about how images vary between patients, and an AUC of four images
    even less. Grain is that of speckle in US, but of anatomy as well in CT and MG. The ultrasound machines' beams and gray
    levels were set by trial on the same BrEaST stills, so those rows show how well that went, not how it would elsewhere.
    """
    return pd.read_csv(REALISM)
