"""How long a run took, stage by stage: `python benchmarks/stage_times.py [RUN_FOLDER]`, after a first run of the demo.

Reads run_log.csv and provenance.json of the run folder (results/simulated-demo), which must be of one run of every stage,
and writes stage_times.csv beside this file: wall seconds of each stage, of which two run side by side, and of the whole.
Caches make a second run shorter, so take a fresh clone.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pandas as pd

from alnlib.files import write_csv
from alnlib.paths import results_folder
from alnlib.pipeline.stages import STAGES

WHOLE = "whole run"


def stage_times(log: pd.DataFrame, provenance: dict) -> pd.DataFrame:
    """Rows of stage_times.csv from a run log, in which each stage stands once, and the provenance beside it."""
    names = [stage.notebook for stage in STAGES]
    if sorted(log["notebook"]) != names or (log["status"] != "done").any():
        raise SystemExit("the log is not that of one run of every stage; run the demo in a fresh clone, once")
    rows = log.set_index("notebook").loc[names]
    began = pd.to_datetime(rows["started"])
    table = pd.DataFrame({"stage": names, "seconds": rows["seconds"].to_numpy()})
    ended = (pd.Timestamp(provenance["written"]) - began.min()).total_seconds()
    table.loc[len(table)] = [WHOLE, ended]
    machine = provenance["machine"]
    return table.assign(
        cores=machine["cores"],
        accelerator=machine["accelerator"],
        date=began.min().date().isoformat(),
        commit=rows["commit"].iloc[0][:7],
    )


def main() -> None:
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else results_folder() / "simulated-demo"
    provenance = json.loads((folder / "provenance.json").read_text(encoding="utf-8"))
    table = stage_times(pd.read_csv(folder / "run_log.csv"), provenance)
    write_csv(table, Path(__file__).with_suffix(".csv"))
    print(table[["stage", "seconds"]].to_string(index=False))


if __name__ == "__main__":
    main()
