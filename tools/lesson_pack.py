"""Write notebooks/lessons/pack/, the small files on which the lessons run: `python tools/lesson_pack.py`, after `run_all.py`.

Everything is taken from the run simulated-demo and its simulated patients (seed 2026), nothing is drawn here: scores of five
models, traits behind the ultrasound image, radiomics (every second feature), small crops of CT nodes and four frames of every
internal sweep. docs/lessons.md describes the files; together they stay below 1 MB.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from alneval.rows import main_rows
from alnlib.files import write_csv
from alnlib.imaging import lesions
from alnlib.imaging.spec import CropSpec
from alnlib.paths import notebooks_folder
from alnlib.pipeline.results import RunFolder

PACK = notebooks_folder() / "lessons" / "pack"
MODELS = ["clinical", "DL_US", "DL_MRI", "DL_MRI+US", "DL_MRI+US+Clinical"]
SIDE_PX = 24
FRAMES = [7, 10, 13, 16]
"""Of the 24 of a sweep; the key frame lies among them."""
CLINICAL = ["center", "age", "size_mm", "grade", "er", "her2", "ki67_percent"]


def write_pack(results: RunFolder, folder: Path = PACK) -> list[Path]:
    """The files of the pack, from a run whose data folder is given. Raises InputError where the run lacks a stage."""
    folder.mkdir(parents=True, exist_ok=True)
    study = results.read_study()
    endpoint, placed = study.endpoint, study.patients[["patient_id", "split", study.endpoint]]

    predictions = main_rows(results.read_predictions()).query(
        "study == 'tang' and model in @MODELS and split != 'train'"
    )
    write_csv(predictions.round({"y_score": 4}), folder / "predictions.csv")

    latent = pd.read_csv(results.data / "latent.csv", dtype={"patient_id": str})
    traits = study.patients[["patient_id", endpoint, *CLINICAL]].merge(
        latent[["patient_id", *(name for name in latent if name.startswith("us_"))]], on="patient_id"
    )
    write_csv(traits.round(3), folder / "traits.csv")

    radiomics = pd.read_parquet(results.path("features/mammography_mri.parquet"))
    measured = radiomics.set_index("patient_id").iloc[:, ::2].reset_index()
    measured.insert(1, endpoint, measured["patient_id"].map(placed.set_index("patient_id")[endpoint]).astype(int))
    written = {"method": "gzip", "mtime": 1}  # no date, so that the same table is the same file
    measured.to_csv(folder / "radiomics.csv.gz", index=False, float_format="%.4g", compression=written)

    images = study.cohort.images.merge(placed, on="patient_id", validate="many_to_one")
    nodes = images.query("modality == 'CT'").reset_index(drop=True)
    nodes["y"] = nodes["unit_label"].fillna(nodes[endpoint]).astype(int)
    sweeps = images.query("modality == 'USV' and split != 'external'").reset_index(drop=True)
    seen = CropSpec.read(results.path("ct/crops.json"), "FSC"), CropSpec.read(results.path("video/crops.json"), "video")
    crops, clips = (
        lesions.crop(rows, results.data, replace(spec, side_px=SIDE_PX))
        for rows, spec in zip((nodes, sweeps), seen, strict=True)
    )
    frames = sweeps.loc[sweeps.index.repeat(len(FRAMES)), ["patient_id", "split", "image_id", endpoint]]
    frames["image_id"] += [f"-{number}" for _ in range(len(sweeps)) for number in FRAMES]
    write_csv(nodes[["patient_id", "split", "image_id", "y"]], folder / "nodes.csv")
    write_csv(frames.rename(columns={endpoint: "y"}).astype({"y": int}), folder / "frames.csv")
    pixels = clips[:, FRAMES].reshape(-1, SIDE_PX, SIDE_PX)
    np.savez_compressed(folder / "images.npz", nodes=crops, frames=pixels)
    return sorted(folder.iterdir())


if __name__ == "__main__":
    written = write_pack(RunFolder("simulated-demo", "data/simulated-demo"))
    print("\n".join(f"{path.name}: {path.stat().st_size / 1e3:.0f} kB" for path in written))
