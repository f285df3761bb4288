"""How long a simulated cohort takes: `python benchmarks/simulation_speed.py [demo] [full]`, on two processes.

Writes simulation_speed.csv: wall seconds of the whole, and processor milliseconds per patient of each modality, measured
in one process on a sample. The full cohort needs 5 GB below the temporary folder.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from pathlib import Path

import pandas as pd

from alnlib.cohorts.folder import read_cohort
from alnsim import SimulationSpec, simulate_cohort
from alnsim.build import draw_people
from alnsim.images import WRITERS, Exam

SAMPLE = 12
SEED = 2026


def whole(profile: str, folder: Path) -> dict[str, object]:
    """Wall seconds of a complete cohort on two processes."""
    spec = getattr(SimulationSpec, profile)()
    start = time.perf_counter()
    cohort = read_cohort(simulate_cohort(spec, folder / profile, SEED, n_jobs=2))
    seconds = time.perf_counter() - start
    size = sum(path.stat().st_size for path in (folder / profile).rglob("*") if path.is_file())
    row = {"profile": profile, "what": "whole cohort, two processes", "patients": len(cohort.patients)}
    return row | {"images": len(cohort.images), "wall_seconds": round(seconds, 1), "megabytes": round(size / 1e6)}


def by_modality(profile: str, folder: Path) -> list[dict[str, object]]:
    """Processor time per patient of each modality, averaged over a few."""
    spec = getattr(SimulationSpec, profile)()
    for name in ("images", "masks"):
        (folder / name).mkdir(exist_ok=True)
    people = draw_people(spec, SEED)
    rows = []
    for name, (flag, writer) in WRITERS.items():
        some = [person for person in people if flag is None or person.latent[flag]]
        some = [person for person in some if (person.latent["group"] == "neoadjuvant") == (name == "MRI, two visits")][
            :SAMPLE
        ]
        start, images = time.process_time(), 0
        for person in some:
            images += len(list(writer(Exam(person, spec, folder, SEED))))
        spent = 1000.0 * (time.process_time() - start) / len(some)
        row = {"profile": profile, "what": name, "patients": len(some), "images": images}
        rows.append(row | {"milliseconds_per_patient": round(spent)})
    return rows


def main() -> int:
    """Measure the profiles named, demo alone if none is."""
    profiles = sys.argv[1:] or ["demo"]
    if set(profiles) - {"demo", "full"}:
        print("usage: python benchmarks/simulation_speed.py [demo] [full]", file=sys.stderr)
        return 2
    rows = []
    for profile in profiles:
        with tempfile.TemporaryDirectory() as folder:
            rows += by_modality(profile, Path(folder))
            rows.append(whole(profile, Path(folder)))
    table = pd.DataFrame(rows).astype({"patients": "Int64", "images": "Int64"})
    table.to_csv(Path(__file__).with_suffix(".csv"), index=False)
    print(f"{os.cpu_count()} processors", table.to_string(index=False), sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
