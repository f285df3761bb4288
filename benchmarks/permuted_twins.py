"""Notebooks 26 and 27 as they stand, on shuffled outcomes: extraction, redrawn contours, selection, signatures, learners, fusion.

    python benchmarks/permuted_twins.py [SEEDS]

Writes benchmarks/permuted_twins.csv: a row per notebook, shuffle, model and split. Every shuffle draws new outcomes for all
patients, training and test, and runs the whole notebook; only the features of the images, which know no outcome, are kept.
The run results/simulated-demo must be there. About two to three minutes per shuffle and notebook on one core. What is done is
kept, so a stopped run goes on.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats

from alneval.delong import auc
from alnlib.paths import repository_root

NOTEBOOKS = {"26_mammography_mri": "mammography_mri", "27_longitudinal_mri": "longitudinal_mri"}
SPLITS = ("cross_validation", "test")
TABLE = Path(__file__).with_suffix(".csv")


def twin(notebook: str, seed: int) -> pd.DataFrame:
    """AUC of every main model of one notebook under one shuffle: notebook, shuffle, model, split, n, n_positive, auc."""
    root = repository_root()
    with tempfile.TemporaryDirectory() as folder:
        environment = os.environ | {"ALN_STAGING": folder, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
        command = [
            sys.executable,
            "-m",
            "papermill",
            "--no-progress-bar",
            "--cwd",
            str(root / "notebooks"),
            "-k",
            "python3",
        ]
        source, executed = root / "notebooks" / f"{notebook}.ipynb", Path(folder) / "executed.ipynb"
        subprocess.run(
            [*command, "-p", "permute_labels", str(seed), str(source), str(executed)],
            env=environment,
            check=True,
            capture_output=True,
        )
        predictions = pd.read_csv(Path(folder) / "predictions" / f"{NOTEBOOKS[notebook]}.csv")
    main = predictions[~predictions["model"].str.contains("/") & predictions["split"].isin(SPLITS)]
    rows = []
    for (model, split), part in main.groupby(["model", "split"], sort=False):
        counts = {"n": len(part), "n_positive": int(part["y_true"].sum())}
        found = auc(part["y_true"], part["y_score"])
        rows.append({"notebook": notebook, "shuffle": seed, "model": model, "split": split} | counts | {"auc": found})
    return pd.DataFrame(rows)


def main() -> None:
    """Run what is missing and print means with 95 % intervals over shuffles."""
    seeds = range(1, 1 + int(sys.argv[1] if len(sys.argv) > 1 else 4))
    done = pd.read_csv(TABLE) if TABLE.exists() else pd.DataFrame(columns=["notebook", "shuffle"])
    for seed in seeds:
        for notebook in NOTEBOOKS:
            if ((done["notebook"] == notebook) & (done["shuffle"] == seed)).any():
                continue
            found = twin(notebook, seed)
            done = pd.concat([done, found], ignore_index=True) if len(done) else found
            done.sort_values(["notebook", "shuffle"], kind="stable").to_csv(TABLE, index=False, float_format="%.5g")
            print(f"{notebook}, shuffle {seed}: {found['auc'].mean():.3f}", flush=True)
    for (notebook, model, split), part in done.groupby(["notebook", "model", "split"], sort=False):
        half = stats.t.ppf(0.975, len(part) - 1) * part["auc"].std() / np.sqrt(len(part)) if len(part) > 1 else np.nan
        print(f"{notebook:22} {model:16} {split:18} {part['auc'].mean():.3f} +- {half:.3f} ({len(part)} shuffles)")


if __name__ == "__main__":
    main()
