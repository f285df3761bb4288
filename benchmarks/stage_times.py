"""How long the demo takes from nothing, stage by stage: `python benchmarks/stage_times.py [COMMIT]`.

Clones this commit, and the other one if it is given, into a temporary folder each and runs `run_all.py` there, one after the
other, with the installed environment: nothing is cached but what the system keeps of files. Writes stage_times.csv beside this
file: wall seconds of each stage, of which two run side by side, and of the whole run, for each commit, the newest first.

`python benchmarks/stage_times.py published` runs nothing: it writes published_times.csv from the log of the run that lies in
results/simulated-published.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pandas as pd

from alnlib.files import write_csv
from alnlib.paths import repository_root, results_folder

WHOLE = "whole run"


def run_from_nothing(commit: str, folder: Path) -> Path:
    """The run folder of a commit, cloned into `folder` and run there."""
    subprocess.run(["git", "clone", "--quiet", str(repository_root()), str(folder)], check=True)
    subprocess.run(["git", "-C", str(folder), "checkout", "--quiet", commit], check=True)
    alone = os.environ | {"ALN_ENVIRONMENT": "current", "PYTHONPATH": str(folder)}
    subprocess.run([sys.executable, "run_all.py"], cwd=folder, env=alone, check=True)
    return folder / "results/simulated-demo"


def stage_times(run: Path) -> pd.DataFrame:
    """Rows of stage_times.csv of a run folder that one run made whole."""
    rows = pd.read_csv(run / "run_log.csv")
    provenance = json.loads((run / "provenance.json").read_text(encoding="utf-8"))
    began = pd.to_datetime(rows["started"]).min()
    table = rows.sort_values("notebook")[["notebook", "seconds"]].set_axis(["stage", "seconds"], axis="columns")
    whole = (pd.Timestamp(provenance["written"]) - began).total_seconds()
    table = pd.concat([table, pd.DataFrame({"stage": [WHOLE], "seconds": [whole]})])
    machine = {name: provenance["machine"][name] for name in ("cores", "accelerator")}
    return table.assign(**machine, date=began.date().isoformat(), commit=rows["commit"].iloc[0][:7])


def main() -> None:
    """Run the commits and write the table."""
    if sys.argv[1:] == ["published"]:
        write_csv(
            stage_times(results_folder() / "simulated-published"), Path(__file__).with_name("published_times.csv")
        )
        return
    tables = []
    for commit in ["HEAD", *sys.argv[1:2]]:
        with tempfile.TemporaryDirectory() as folder:
            tables.append(stage_times(run_from_nothing(commit, Path(folder) / "clone")))
    table = pd.concat(tables)
    write_csv(table, Path(__file__).with_suffix(".csv"))
    print(table.pivot_table("seconds", "stage", "commit", sort=False).to_string())


if __name__ == "__main__":
    main()
