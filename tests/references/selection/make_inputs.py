"""Inputs of the R references: 60 made-up patients, twelve features (two tied, one constant), the folds of LassoSelector.

.venv/bin/python -m tests.references.selection.make_inputs     (from the repository's root), then make_references.R
"""

from pathlib import Path

import numpy as np
import pandas as pd

from alneval.folds import patient_level_folds

FOLDER = Path(__file__).parent


def main() -> None:
    rng = np.random.default_rng(5)
    y = np.repeat([1, 0], [24, 36])
    latent = rng.normal(size=(60, 4))
    values = latent[:, np.arange(12) % 4] * 0.8 + rng.normal(size=(60, 12)) + 0.9 * y[:, None] * (np.arange(12) < 3)
    values *= np.geomspace(0.01, 1000, 12)
    frame = pd.DataFrame(values.round(8), columns=[f"x{k:02d}" for k in range(12)])
    frame["x07"] = (frame["x07"] / frame["x07"].std()).round(0)
    frame["x08"] = (frame["x08"] > 0).astype(float)
    frame["x11"] = 3.0
    frame.insert(0, "y", y)
    folds = patient_level_folds(y, [str(k) for k in range(60)], 10, np.random.default_rng(0))
    frame.insert(1, "fold", folds + 1)
    frame.to_csv(FOLDER / "patients.csv", index=False)


if __name__ == "__main__":
    main()
