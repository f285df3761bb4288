"""Data that hypothesis draws for several tests."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st


@st.composite
def labeled_scores(draw):
    """Labels with both classes and scores with many ties."""
    n = draw(st.integers(4, 30))
    y = draw(st.lists(st.booleans(), min_size=n, max_size=n).filter(lambda v: 0 < sum(v) < len(v)))
    score = draw(st.lists(st.integers(-5, 5), min_size=n, max_size=n))
    return np.array(y, dtype=int), np.array(score, dtype=float)
