"""Make clinical_reference.csv: 240 synthetic patients, no real person. Run once; the file is committed beside it."""

from pathlib import Path

import numpy as np
import pandas as pd

rng = np.random.default_rng(20240501)
n = 240
age = np.round(rng.normal(55, 11, n).clip(24, 88))
size_cm = np.round(np.exp(rng.normal(0.7, 0.5, n)), 1)
er = rng.choice(["negative", "positive"], n, p=[0.3, 0.7])
stage = rng.choice(["T1", "T2", "T3"], n, p=[0.45, 0.42, 0.13])
subtype = rng.choice(["luminal", "HER2", "triple negative"], n, p=[0.6, 0.18, 0.22])
logit = (
    -1.2
    - 0.02 * (age - 55)
    + 0.45 * (size_cm - 2)
    + 0.5 * (er == "positive")
    + 0.7 * (stage == "T2")
    + 1.5 * (stage == "T3")
)
node = rng.binomial(1, 1 / (1 + np.exp(-logit)))
frame = pd.DataFrame(
    {
        "patient_id": [f"{i:03d}" for i in range(n)],
        "age": age,
        "size_cm": size_cm,
        "er": er,
        "stage": stage,
        "subtype": subtype,
        "node": node,
    }
)
frame.loc[rng.choice(n, 12, replace=False), "age"] = np.nan
frame.loc[rng.choice(n, 15, replace=False), "er"] = np.nan
frame.loc[rng.choice(n, 9, replace=False), "stage"] = np.nan
frame.to_csv(Path(__file__).parent / "clinical_reference.csv", index=False, lineterminator="\n")
