"""What the studies recover over simulated cohorts of other seeds: `python benchmarks/recovered_shares.py [SEED ...]`.

One cohort is one draw. So the stages that train run, as they are in the demo, on cohorts of other seeds (default 101 to 105),
each in a run folder of its own (results/seed-N, data/seed-N; both may be deleted afterwards). For every main model the AUC of
all test and external patients together is the mean of the two AUCs weighed by their pairs; its recovered share is (AUC - 0.5)
/ (attainable - 0.5), and its share of the oracle the same with the AUC that the oracle reaches on the very same patients, which
takes the luck of the draw out. Writes recovered_shares.csv beside itself: means over cohorts, standard deviations, and each
cohort's share. All numbers are of simulated patients. About the demo's time for each seed; what is done is kept, so a stopped
run goes on.
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


def shares(folder: Path) -> pd.DataFrame:
    """By study and main model of a run: share, of what is attainable, and share_of_oracle, of its AUC on the same units."""
    as_text = {"patient_id": str, "unit_id": str}
    rows = pd.concat(pd.read_csv(path, dtype=as_text) for path in sorted((folder / "predictions").glob("*.csv")))
    rows = rows[rows["role"].eq("main") & rows["split"].isin(TESTED)]
    oracle = pd.read_csv(folder / "sources/oracle.csv", dtype=as_text)
    truth = pd.read_csv(folder / "sources/truth.csv").query("center == 'primary'").set_index("modality")
    found = {}
    for (study, model), members in rows.groupby(["study", "model"], sort=False):
        modality = shown_to(study, model)
        known = members.merge(oracle[oracle["modality"] == modality], on=list(as_text), validate="one_to_one")
        parts = [part for _, part in known.groupby("split") if part["y_true"].nunique() == 2]
        pairs = [int(part["y_true"].sum() * (1 - part["y_true"]).sum()) for part in parts]
        reached, best = (
            np.average([auc(part["y_true"], part[score]) for part in parts], weights=pairs)
            for score in ("y_score", "probability")
        )
        attainable = truth.loc[modality, "attainable_auc"]
        found[study, model] = {
            "share": (reached - 0.5) / (attainable - 0.5),
            "share_of_oracle": (reached - 0.5) / (best - 0.5),
        }
    return pd.DataFrame(found).T


def head_commit() -> str:
    """Of this checkout, shortened."""
    command = ["git", "rev-parse", "--short=7", "HEAD"]
    return subprocess.run(command, cwd=repository_root(), check=True, capture_output=True, text=True).stdout.strip()


def main() -> None:
    """Run the stages on every cohort and write the table."""
    seeds = [int(text) for text in sys.argv[1:]] or list(range(101, 106))
    tables = {}
    for seed in seeds:
        name = f"seed-{seed}"
        command = [sys.executable, "run_all.py", "--run", name, "--seed", str(seed), "--to", LAST]
        subprocess.run(command, cwd=repository_root(), check=True)
        tables[f"seed_{seed}"] = shares(results_folder() / name)
    by_seed = pd.concat(tables, axis=1).swaplevel(axis=1)
    columns = {"cohorts": len(seeds)}
    for name in ("share", "share_of_oracle"):
        columns |= {f"mean_{name}": by_seed[name].mean(axis=1), f"sd_of_{name}": by_seed[name].std(axis=1)}
    columns["commit"] = head_commit()
    table = pd.DataFrame(columns).join(by_seed["share"]).round(3).rename_axis(["study", "model"]).reset_index()
    write_csv(table.assign(provenance="simulated"), Path(__file__).with_suffix(".csv"))
    print(table.to_string(index=False))


if __name__ == "__main__":
    main()
