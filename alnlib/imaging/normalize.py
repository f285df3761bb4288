"""Gray values to a fixed range before a network sees them: percentiles for ultrasound, a window for CT.

Statistics of a training set (mean, standard deviation over patients) belong to training, not here.
"""

from __future__ import annotations

import numpy as np


def percentile_scale(
    image: np.ndarray, low: float = 1.0, high: float = 99.0, reference: np.ndarray | None = None
) -> np.ndarray:
    """float32 in [0, 1]: the `low` percentile becomes 0, the `high` one 1, values beyond are clipped.

    reference: pixels that give the percentiles, e.g. the whole still when a crop is scaled (default: the image
    itself). A constant image becomes 0.5 everywhere. Takes out gain and most of the dynamic range; keeps the order of
    gray values. Raises ValueError unless 0 <= low < high <= 100, or for values that are not finite.
    """
    if not 0.0 <= low < high <= 100.0:
        raise ValueError(f"percentiles {low} and {high}: expected 0 <= low < high <= 100")
    image = np.asarray(image, dtype=np.float32)
    pixels = image if reference is None else np.asarray(reference, dtype=np.float32)
    if not (np.isfinite(image).all() and np.isfinite(pixels).all()):
        raise ValueError("the image holds values that are not finite")
    bottom, top = (float(edge) for edge in np.percentile(pixels, (low, high)))
    if top <= bottom:
        bottom, top = float(pixels.min()), float(pixels.max())
    if top <= bottom:
        return np.full(image.shape, 0.5, dtype=np.float32)
    return np.clip((image - np.float32(bottom)) / np.float32(top - bottom), 0.0, 1.0)


def ct_window(hounsfield: np.ndarray, level: float = 40.0, width: float = 400.0) -> np.ndarray:
    """float32 in [0, 1]: HU level - width / 2 becomes 0 and level + width / 2 becomes 1, clipped beyond. Default: soft tissue."""
    if width <= 0:
        raise ValueError(f"width is {width}; expected a positive number of HU")
    low = np.float32(level - width / 2.0)
    return np.clip((np.asarray(hounsfield, dtype=np.float32) - low) / np.float32(width), 0.0, 1.0)
