"""How the demo's settings of notebooks 22 and 24 do on fresh simulated patients: `python benchmarks/training_choices.py`.

Settings must not be chosen on the patients that a run reports. So cohorts of other seeds are simulated here, each with as many
training and validation patients as the demo and more test patients than it could afford; every variant changes one setting
of the starting point (first row of a notebook) and is fitted with the same network to the same patients of every cohort. The
table training_choices.csv, beside this script, gives the mean over cohorts of the test AUC, and of the difference to the first
row with its standard error over cohorts. All numbers are of simulated patients.

What was kept of it on 2026-11-21 (4 cohorts): any epoch may be kept (choose_from 0, better in 22 and in 24), enhancement in 24,
48 pixels in both (no worse and half the time). The crop of fixed width and the learning rate were not told apart from
chance in 22, and the adjustable crop of 24 was better.

`--seeds` how many cohorts, `--network` which network; `--data` a folder for the cohorts, which are kept.
"""

from __future__ import annotations

import argparse
import os
import sys
from dataclasses import dataclass, field, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from alneval.delong import auc
from alnlib.imaging.cache import cached_crops
from alnlib.imaging.spec import CropSpec
from alnlib.training.data import CropDataset
from alnlib.training.fit import FitSpec, fit_classifier, predict_proba
from alnsim import SimulationSpec, simulate_cohort

TRAIN, VALIDATION, TEST = 157, 39, 250
FIRST_SEED = 7001


@dataclass(frozen=True)
class Variant:
    """One setting: what is cropped how, and how it is fitted."""

    notebook: str
    name: str
    crop: CropSpec
    fit: dict[str, Any] = field(default_factory=dict)


def variants() -> list[Variant]:
    """The notebooks' settings first, then one change at a time."""
    still = CropSpec("US", 64, size_mm=38.0)
    volume = CropSpec("MRI", 48, size_mm=60.0, channels=["pre/DCE_early"])
    return [
        Variant("22", "starting point", still),
        Variant("22", "crop of fixed width", replace(still, kind="fixed_size")),
        Variant("22", "any epoch may be kept", still, {"choose_from": 0.0}),
        Variant("22", "learning rate 0.0003", still, {"learning_rate": 3e-4}),
        Variant("22", "48 pixels", replace(still, side_px=48)),
        Variant("24", "starting point", volume),
        Variant("24", "crop of fixed width", replace(volume, kind="fixed_size")),
        Variant("24", "any epoch may be kept", volume, {"choose_from": 0.0}),
        Variant("24", "learning rate 0.0003", volume, {"learning_rate": 3e-4}),
        Variant("24", "64 pixels", replace(volume, side_px=64)),
        Variant("24", "enhancement: DCE_early less DCE_pre", replace(volume, channels=["pre/DCE_early-DCE_pre"])),
        Variant("24", "ADC", replace(volume, channels=["pre/ADC"])),
    ]


def measure(task: tuple[int, Variant, str, Path]) -> dict[str, Any]:
    """Test AUC of one variant on the cohort of one seed."""
    seed, variant, network, data = task
    folder = data / f"seed-{seed}"
    images = pd.read_csv(folder / "images.csv", dtype=str).astype(object)
    images = images.where(images.notna(), None)
    outcome = pd.read_csv(folder / "patients.csv", dtype={"patient_id": str}).set_index("patient_id")["aln_metastasis"]
    ids = list(outcome.index)
    crops = cached_crops(images, folder, data / "crops", variant.crop, ids)
    everyone = CropDataset(crops, outcome.to_numpy(int), ids)
    order = np.random.default_rng(seed).permutation(len(ids))
    train, validation, test = np.split(order, [TRAIN, TRAIN + VALIDATION])
    common = {"architecture": network, "image_size": crops.shape[-1], "epochs": 12, "choose_from": 0.5, "seed": seed}
    spec = FitSpec(**(common | variant.fit))
    fitted = fit_classifier(spec, everyone.subset(train), everyone.subset(validation))
    tested = everyone.subset(test)
    found = {"notebook": variant.notebook, "variant": variant.name, "seed": seed}
    return found | {"test_auc": auc(tested.y, predict_proba(fitted, tested)), "kept_epoch": fitted.best_epoch}


def main() -> int:
    """Simulate, fit every variant on every cohort, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--network", default="resnet18")
    parser.add_argument("--data", type=Path, default=Path("data/training-choices"))
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".csv"))
    chosen = parser.parse_args()
    os.environ |= {"OMP_WAIT_POLICY": "PASSIVE", "OMP_NUM_THREADS": "1"}
    spec = SimulationSpec(
        n_primary=TRAIN + VALIDATION + TEST,
        n_external=0,
        n_video_primary=0,
        n_video_external=0,
        n_ct=0,
        n_ct_nodes=0,
        n_mammography=0,
        n_neoadjuvant=0,
    )
    seeds = range(FIRST_SEED, FIRST_SEED + chosen.seeds)
    for seed in seeds:
        if not (chosen.data / f"seed-{seed}").exists():
            simulate_cohort(spec, chosen.data / f"seed-{seed}", seed=seed, n_jobs=2, truth_patients=2000)
    tasks = [(seed, variant, chosen.network, chosen.data) for variant in variants() for seed in seeds]
    with get_context("spawn").Pool(2) as pool:
        results = pd.DataFrame(pool.imap(measure, tasks))
    by_seed = results.pivot(index=["notebook", "variant"], columns="seed", values="test_auc")
    rows = []
    for (notebook, variant), of_variant in by_seed.iterrows():
        gain = of_variant - by_seed.loc[(notebook, "starting point")]
        row = {"notebook": notebook, "variant": variant, "network": chosen.network, "cohorts": len(seeds)}
        row |= {"test_auc": of_variant.mean(), "gain": gain.mean(), "gain_se": gain.std() / np.sqrt(len(seeds))}
        rows.append(row | {f"seed_{seed}": of_variant[seed] for seed in seeds})
    order = {(variant.notebook, variant.name): place for place, variant in enumerate(variants())}
    table = pd.DataFrame(rows).sort_values(["notebook", "variant"], key=None)
    table = table.iloc[np.argsort([order[key] for key in zip(table["notebook"], table["variant"], strict=True)])]
    table = table.assign(train=TRAIN, validation=VALIDATION, test=TEST, provenance="simulated").round(4)
    table.to_csv(chosen.out, index=False)
    print(table.to_string(index=False))
    return 0


if __name__ == "__main__":
    sys.exit(main())
