"""Write alneval/example.csv, simulated predictions that every docstring of a statistic can show: `python tools/example.py`."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy.special import expit

from alneval import EXAMPLE
from alneval.rows import prediction_rows
from alnlib.files import write_csv

MODELS = {"clinical": 1.0, "image": 1.8}
"""Difference in means of the two classes, on the log odds."""


def example_table(seed: int = 2026, n: int = 60) -> pd.DataFrame:
    """n simulated patients per split, 40 % with the outcome on average, scored by MODELS."""
    rng = np.random.default_rng(seed)
    tables = []
    for split in ("validation", "test", "external"):
        patients = pd.Series([f"simulated-{split}-{number:02d}" for number in range(n)])
        outcome = (rng.random(n) < 0.4).astype(int)
        for model, apart in MODELS.items():
            score = expit(apart * (outcome - 0.5) + rng.normal(size=n)).round(3)
            tables.append(prediction_rows("simulated example", model, split, patients, outcome, score))
    return pd.concat(tables, ignore_index=True)


if __name__ == "__main__":
    write_csv(example_table(), EXAMPLE)
