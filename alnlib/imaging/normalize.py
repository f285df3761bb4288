"""Gray values to a fixed range before a network sees them: by percentiles, or from one value to another.

Statistics of a training set (mean, standard deviation over patients) belong to training, not here.
"""

from __future__ import annotations

import numpy as np


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
