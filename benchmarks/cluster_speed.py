"""Heavy loops on a Dask cluster of this machine: `python benchmarks/cluster_speed.py`.

Writes cluster_speed.csv: seconds of each kind of loop that a stage has in this process alone, on two processes as without
--cluster, on one worker and on two, started beforehand and given one loop to import what it needs; and the ratios. The work
is the same in each, and what comes out is compared. Two workers on two cores cannot be faster than two processes: what is
measured is what sending tasks costs, and that a second worker takes half of them.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from alnlib.arithmetic import use_reference_arithmetic

use_reference_arithmetic()

import numpy as np  # noqa: E402
import pandas as pd  # noqa: E402
from distributed import LocalCluster  # noqa: E402
from sklearn.ensemble import RandomForestClassifier  # noqa: E402

from alneval.resplit import Loop, resplit_aucs  # noqa: E402
from alnlib.cohorts.folder import read_cohort  # noqa: E402
from alnlib.files import write_csv  # noqa: E402
from alnlib.radiomics.extract import extract_cohort, settings_for  # noqa: E402
from alnlib.tasks import CLUSTER  # noqa: E402
from alnlib.training.data import CropDataset  # noqa: E402
from alnlib.training.fit import FitSpec  # noqa: E402
from alnlib.training.oof import networks, out_of_fold_logits  # noqa: E402
from alnsim import SimulationSpec, simulate_cohort  # noqa: E402

SEED = 2026
PATIENTS = 32
NONE = dict.fromkeys(("n_external", "n_video_external", "n_mammography", "n_neoadjuvant", "n_ct", "n_ct_nodes"), 0)
SPEC = SimulationSpec.demo(n_primary=PATIENTS, n_mri=PATIENTS, n_video_primary=4, **NONE)


def cohort(folder: Path, n_jobs: int) -> object:
    """Simulated patients: the bytes of a table that all of them are in."""
    return (simulate_cohort(SPEC, folder / "made", SEED, n_jobs, truth_patients=1_000) / "latent.csv").read_bytes()


def radiomics(folder: Path, n_jobs: int) -> object:
    images = read_cohort(folder / "patients").images
    rows = images[(images["modality"] == "MRI") & (images["sequence_or_view"] == "DCE_early")]
    return extract_cohort(rows, folder / "patients", {"MRI": settings_for("MRI")}, n_jobs=n_jobs).features.to_csv()


def repeats(folder: Path, n_jobs: int) -> object:
    rng = np.random.default_rng(SEED)
    y = np.arange(200) % 2
    X = pd.DataFrame(rng.normal(size=(200, 30)) + 0.3 * y[:, None]).rename(columns=str)
    X.index = [f"p{i}" for i in range(200)]
    forest = RandomForestClassifier(100, random_state=SEED, n_jobs=1)
    return resplit_aucs(forest, X, y, rng, n_resplits=16, loop=Loop(n_jobs)).to_csv()


def fits(folder: Path, n_jobs: int) -> object:
    """Networks of five folds; without a cluster one after another, each on both cores."""
    rng = np.random.default_rng(SEED)
    crops = rng.integers(0, 256, (60, 48, 48), dtype=np.uint8)
    ids = tuple(f"p{i}" for i in range(60))
    data = CropDataset(crops, np.arange(60) % 2, ids)
    spec = FitSpec("resnet18", 48, epochs=2, batch_size=16, learning_rate=1e-3, threads=1)
    return out_of_fold_logits(networks(spec, 1, data), data.y, np.array(ids), 5, SEED)[0].tobytes()


LOOPS: dict[str, Callable[[Path, int], object]] = {
    "simulated patients": cohort,
    "radiomics of MRI": radiomics,
    "resplits of a forest": repeats,
    "networks of five folds": fits,
}


def timed(loop: Callable[[Path, int], object], folder: Path, n_jobs: int) -> tuple[float, object]:
    """Seconds of the second of two calls, and what it gave."""
    loop(folder, n_jobs)
    begun = time.perf_counter()
    found = loop(folder, n_jobs)
    return time.perf_counter() - begun, found


def main() -> None:
    rows = {name: {"loop": name} for name in LOOPS}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        simulate_cohort(SPEC, folder / "patients", SEED, 2, truth_patients=1_000)
        expected = {}
        for column, n_jobs in (("one_process_s", 1), ("two_processes_s", 2)):
            for name, loop in LOOPS.items():
                rows[name][column], expected[name] = timed(loop, folder, n_jobs)
        for column, workers in (("one_worker_s", 1), ("two_workers_s", 2)):
            with LocalCluster(n_workers=workers, threads_per_worker=1, dashboard_address=None) as cluster:
                os.environ[CLUSTER] = cluster.scheduler_address
                for name, loop in LOOPS.items():
                    rows[name][column], found = timed(loop, folder, 2)
                    assert found == expected[name], f"{name} on {workers} workers gave something else"
                del os.environ[CLUSTER]
    table = pd.DataFrame(rows.values())
    table["two_workers_times_faster_than_one"] = table["one_worker_s"] / table["two_workers_s"]
    table["two_workers_times_faster_than_one_process"] = table["one_process_s"] / table["two_workers_s"]
    write_csv(table.round(2), Path(__file__).parent / "cluster_speed.csv")
    print(table.round(2).to_string(index=False))


if __name__ == "__main__":
    main()
