"""What the studies recover over simulated cohorts of other seeds: `python benchmarks/recovered_shares.py [SEED ...]`.

One cohort is one draw. So the stages that train run, as they are in the demo, on cohorts of other seeds (default 101 to 105),
each in a run folder of its own (results/seed-N, data/seed-N; both may be deleted afterwards). For every main model the AUC of
all test and external patients together is the mean of the two AUCs weighed by their pairs; its recovered share is (AUC - 0.5)
/ (attainable - 0.5). Writes recovered_shares.csv beside itself: mean over cohorts, standard deviation, and each cohort's. All
numbers are of simulated patients. About the demo's time for each seed; what is done is kept, so a stopped run goes on.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd

from alneval.delong import auc
from alnlib.files import write_csv
from alnlib.paths import repository_root, results_folder
from alnlib.studies import shown_to

TESTED = ["test", "external"]
LAST = "31"


def shares(folder: Path) -> pd.Series:
    """Recovered share of every main model of a run, by study and model."""
    rows = pd.concat(pd.read_csv(path) for path in sorted((folder / "predictions").glob("*.csv")))
    rows = rows[rows["role"].eq("main") & rows["split"].isin(TESTED)]
    truth = pd.read_csv(folder / "sources/truth.csv").query("center == 'primary'").set_index("modality")
    found = {}
    for (study, model), members in rows.groupby(["study", "model"], sort=False):
        modality = shown_to(study, model)
        parts = [part for _, part in members.groupby("split") if part["y_true"].nunique() == 2]
        pairs = [int(part["y_true"].sum() * (1 - part["y_true"]).sum()) for part in parts]
        pooled = np.average([auc(part["y_true"], part["y_score"]) for part in parts], weights=pairs)
        found[study, model] = (pooled - 0.5) / (truth.loc[modality, "attainable_auc"] - 0.5)
    return pd.Series(found)


def main() -> None:
    """Run the stages on every cohort and write the table."""
    seeds = [int(text) for text in sys.argv[1:]] or list(range(101, 106))
    columns = {}
    for seed in seeds:
        name = f"seed-{seed}"
        command = [sys.executable, "run_all.py", "--run", name, "--seed", str(seed), "--to", LAST]
        subprocess.run(command, cwd=repository_root(), check=True)
        columns[f"seed_{seed}"] = shares(results_folder() / name)
    by_seed = pd.DataFrame(columns)
    table = pd.DataFrame({"cohorts": len(seeds), "mean_share": by_seed.mean(axis=1), "sd": by_seed.std(axis=1)})
    table = table.join(by_seed).round(3).rename_axis(["study", "model"]).reset_index()
    write_csv(table.assign(provenance="simulated"), Path(__file__).with_suffix(".csv"))
    print(table.to_string(index=False))


if __name__ == "__main__":
    main()
