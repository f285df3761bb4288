"""Synthetic scores that the R script and the tests read; run once: python tests/references/evaluation/make_inputs.py.

Nothing here comes from a patient. Scores are rounded, so that ties occur and the text holds them exactly.
"""

from pathlib import Path

import numpy as np
import pandas as pd

FOLDER = Path(__file__).parent


def main() -> None:
    rng = np.random.default_rng(20250131)

    n = 150
    y = rng.binomial(1, 0.35, n)
    shared = rng.normal(size=n)
    paired = pd.DataFrame(
        {
            "y": y,
            "a": np.round(shared + rng.normal(size=n) + 1.6 * y, 1),
            "b": np.round(shared + rng.normal(size=n) + 0.9 * y, 2),
            "reader": np.clip(np.round(2.6 + 0.5 * shared + 0.6 * rng.normal(size=n) + 0.9 * y), 1, 5).astype(int),
        }
    )
    write(paired, "paired.csv")

    for name, size, shift in (("unpaired_a.csv", 144, 2.0), ("unpaired_b.csv", 110, 1.3)):
        y = rng.binomial(1, 0.4, size)
        write(pd.DataFrame({"y": y, "score": np.round(rng.normal(size=size) + shift * y, 1)}), name)

    rows = []
    for patient in range(80):
        burden, level = rng.random(), rng.normal()
        for node in range(1 + rng.poisson(1.2)):
            y = int(rng.random() < burden)
            level_a, level_b = level + rng.normal(size=2)
            rows.append((f"{patient:03d}", node, y, np.round(level_a + 1.5 * y, 1), np.round(level_b + y, 1)))
    write(pd.DataFrame(rows, columns=["patient", "node", "y", "a", "b"]), "clustered.csv")

    n = 220
    log_odds = rng.normal(-0.6, 1.4, n)
    p = 1 / (1 + np.exp(-log_odds))
    y = rng.binomial(1, 1 / (1 + np.exp(-(0.3 + 0.7 * log_odds))))
    table = {"y": y, "p": np.round(p, 4), "p_tied": np.clip(np.round(p, 1), 0.05, 0.95)}
    # three risk groups, one of them with four patients in five: a local neighbourhood without width
    table["p_groups"] = np.select([p > 0.9, p > 0.75], [0.9, 0.6], 0.3)
    write(pd.DataFrame(table), "calibration.csv")


def write(frame: pd.DataFrame, name: str) -> None:
    frame.to_csv(FOLDER / name, index=False, float_format="%.10g", lineterminator="\n")


if __name__ == "__main__":
    main()
