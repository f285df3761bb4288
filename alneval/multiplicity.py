"""Correction of p values for the number of comparisons.

The comparisons themselves live in `delong`, `estimate` and `readers`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike


def holm(p: ArrayLike) -> np.ndarray:
    """Holm's step-down adjusted p values (n,), as R `p.adjust(method = "holm")`.

    p: (n,); nan marks a comparison that could not be made: it stays nan and does not count. Raises ValueError outside
    [0, 1]. Written out, as statsmodels' multipletests collects the garbage of the whole process in each call.
    """
    values = np.asarray(p, dtype=float)
    known = np.flatnonzero(~np.isnan(values))
    if ((values[known] < 0) | (values[known] > 1)).any():
        raise ValueError("p values must lie in [0, 1]")
    rising = known[np.argsort(values[known])]
    adjusted = np.full(values.shape, np.nan)
    adjusted[rising] = np.minimum(np.maximum.accumulate(values[rising] * np.arange(rising.size, 0, -1)), 1)
    return adjusted
