"""Checks of the arrays that every statistic here receives: labels, scores, probabilities, patients.

Checks of files, with rows and remedies, live in `alneval.tables`.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike


def as_labels(y_true: ArrayLike, *, both_classes: bool = False) -> np.ndarray:
    """Labels as a boolean array (n,), True for the positive class.

    Raises ValueError if a label is not 0 or 1, if there are none, or, with `both_classes`, if a class is missing.
    """
    labels = np.asarray(y_true)
    if labels.ndim != 1 or labels.size == 0:
        raise ValueError(f"y_true must be a non-empty one-dimensional array, not shape {labels.shape}")
    if labels.dtype != bool:
        labels = labels.astype(float)
        if not np.isin(labels, (0.0, 1.0)).all():
            raise ValueError("y_true must hold 0 and 1 only")
        labels = labels == 1.0
    if both_classes and (labels.all() or not labels.any()):
        present = "positive" if labels.all() else "negative"
        raise ValueError(f"both classes are needed, but all {labels.size} labels are {present}")
    return labels


def as_scores(scores: ArrayLike, n: int, name: str = "score") -> np.ndarray:
    """Scores as floats (n,). Raises ValueError if the length differs from `n` or a value is not finite."""
    values = np.asarray(scores, dtype=float)
    if values.shape != (n,):
        raise ValueError(f"{name} must have shape ({n},) like y_true, not {values.shape}")
    if not np.isfinite(values).all():
        raise ValueError(f"{name} holds {np.count_nonzero(~np.isfinite(values))} values that are not finite")
    return values


def as_probabilities(probabilities: ArrayLike, n: int, name: str = "y_prob") -> np.ndarray:
    """Probabilities as floats (n,) in [0, 1]. Raises ValueError otherwise."""
    values = as_scores(probabilities, n, name)
    if ((values < 0) | (values > 1)).any():
        raise ValueError(f"{name} must lie in [0, 1]; turn scores or logits into probabilities first")
    return values


def as_cluster_codes(cluster: ArrayLike, n: int) -> np.ndarray:
    """Cluster (patient) of each unit as integer codes 0 .. k-1 in sorted order of the ids.

    Raises ValueError if the length differs from `n` or an id is missing.
    """
    ids = np.asarray(cluster)
    if ids.shape != (n,):
        raise ValueError(f"cluster must have shape ({n},) like y_true, not {ids.shape}")
    codes, _ = pd.factorize(ids, sort=True)
    if (codes < 0).any():
        raise ValueError("cluster holds missing ids")
    return codes.astype(np.intp)


def as_confidence(confidence: float) -> float:
    """A confidence level strictly between 0 and 1; ValueError otherwise (95 means 0.95)."""
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must lie between 0 and 1, not {confidence}")
    return float(confidence)
