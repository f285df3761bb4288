"""How long radiomics takes: `python benchmarks/radiomics_speed.py [PATIENTS]`, 24 simulated patients unless said otherwise.

Writes radiomics_speed.csv. All ratios are of one run, to pyradiomics called in a plain loop on whole images with the same
settings; one ITK thread each. Grid "image" gives pyradiomics' own results; "lesion", the grid that the stages use, those of
voxels laid from the lesion. Simulated: MRI of the demo and the full cohort (one early DCE per patient, the
3-D settings of this project, and their original and LoG features alone), on one and on two processes, starting processes
included. Real: the cases of pyradiomics in
shared/data where they are there, and a case of breast size made from one of them by repeating it.
"""

from __future__ import annotations

import logging
import os
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import SimpleITK
from joblib.externals.loky import get_reusable_executor
from radiomics.featureextractor import RadiomicsFeatureExtractor

from alnlib.cohorts.folder import read_cohort
from alnlib.imaging.volumes import Volume, read_volume, read_volume_mask
from alnlib.radiomics.extract import Settings, extract_cohort, extract_features, settings_for
from alnsim import SimulationSpec, simulate_cohort

SEED = 2026
REAL = Path(os.environ.get("ALN_REAL_DATA", Path(__file__).parents[2] / "shared" / "data")) / "pyradiomics"
WHOLE = 10_000
"""padDistance in voxels: resampling cuts nothing off, as without resampling."""


def extractor(settings: Settings) -> RadiomicsFeatureExtractor:
    """pyradiomics itself."""
    parameters = settings.parameters()
    parameters["setting"]["padDistance"] = WHOLE
    return RadiomicsFeatureExtractor(parameters)


def itk(values: np.ndarray, image: Volume) -> SimpleITK.Image:
    """On the grid of an image."""
    made = SimpleITK.GetImageFromArray(values)
    made.SetSpacing(image.geometry.spacing_mm[::-1])
    made.SetOrigin(image.geometry.origin_mm)
    made.SetDirection(np.ravel(image.geometry.direction).tolist())
    return made


def seconds(call: Callable[[], object]) -> float:
    """Wall time of one call."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def simulated(profile: str, patients: int, folder: Path, settings: Settings) -> dict[str, object]:
    """Plain loop, one process and two, over one image of each patient."""
    counts = {"n_primary": patients, "n_external": 0, "n_neoadjuvant": 0, "n_mri": patients}
    counts |= {"n_video_primary": 0, "n_video_external": 0, "n_mammography": 0, "n_ct": 0, "n_ct_nodes": 0}
    cohort = read_cohort(simulate_cohort(getattr(SimulationSpec, profile)(**counts), folder, SEED, truth_patients=1000))
    rows = cohort.images.query("modality == 'MRI' and sequence_or_view == 'DCE_early'")

    def plain() -> None:
        one = extractor(settings)
        for _, row in rows.iterrows():
            one.execute(str(folder / row["path"]), str(folder / row["mask_path"]))

    plain_s = seconds(plain)
    one_s = seconds(lambda: extract_cohort(rows, folder, {"MRI": settings}))
    two_s = seconds(lambda: extract_cohort(rows, folder, {"MRI": settings}, n_jobs=2))
    warm_s = seconds(lambda: extract_cohort(rows, folder, {"MRI": settings}, n_jobs=2))
    get_reusable_executor().shutdown()
    shape = " x ".join(map(str, read_volume(folder / rows["path"].iloc[0]).shape))
    return {
        "what": f"simulated {profile} MRI, {settings.name}",
        "grid": settings.grid,
        "images": len(rows),
        "voxels_zyx": shape,
    } | {
        "plain_s": plain_s,
        "one_process_s": one_s,
        "two_processes_s": two_s,
        "two_processes_warm_s": warm_s,
    }


def real(case: str, settings: Settings, copies: tuple[int, int, int] = (1, 1, 1)) -> dict[str, object]:
    """One image, whole and cropped, in one process. copies: mirrored repeats along (z, y, x), the mask drawn once."""
    image = read_volume(REAL / f"{case}_image.nrrd")
    mask = read_volume_mask(REAL / f"{case}_label.nrrd", image)
    values = np.pad(
        image.values, [(0, (n - 1) * size) for n, size in zip(copies, image.shape, strict=True)], mode="symmetric"
    )
    image = replace(image, values=values)
    drawn = np.zeros(values.shape, dtype=bool)
    drawn[tuple(slice(size) for size in mask.shape)] = mask
    one, pair = extractor(settings), (itk(values, image), itk(drawn.astype(np.uint8), image))
    plain_s = seconds(lambda: one.execute(*pair))
    found: dict[str, float] = {}
    one_s = seconds(lambda: found.update(extract_features(image, drawn, settings)))
    name = f"{case}{'' if copies == (1, 1, 1) else ', repeated'}, {settings.name}"
    return {"what": name, "grid": settings.grid, "images": 1, "voxels_zyx": " x ".join(map(str, values.shape))} | {
        "plain_s": plain_s,
        "one_process_s": one_s,
    }


def main() -> int:
    """Measure, write the table, print it."""
    if len(sys.argv) > 2 or not all(argument.isdecimal() for argument in sys.argv[1:]):
        print("usage: python benchmarks/radiomics_speed.py [PATIENTS]", file=sys.stderr)
        return 2
    patients = int(sys.argv[1]) if len(sys.argv) == 2 else 24
    logging.getLogger("radiomics").setLevel(logging.CRITICAL)
    SimpleITK.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    mri = settings_for("MRI")
    native = {name: value for name, value in mri.setting.items() if name != "resampledPixelSpacing"}
    native_mri = replace(mri, name="mri, not resampled", setting=native)
    without_wavelets = replace(mri.only("Original", "LoG"), name="mri, original and LoG")
    variants = [mri, native_mri, without_wavelets, replace(without_wavelets, grid="image")]
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for profile in ("demo", "full"):
            for settings in variants:
                rows.append(simulated(profile, patients, Path(folder) / profile, settings))
    if REAL.is_dir():
        for case, copies in (("brain1", 1), ("brain2", 1), ("breast1", 1), ("brain2", 3)):
            rows += [real(case, settings, (copies, 1, 1)) for settings in variants]
    table = pd.DataFrame(rows)
    for name in ("one_process", "two_processes", "two_processes_warm"):
        table[f"{name}_times_faster"] = (table["plain_s"] / table[f"{name}_s"]).round(2)
    table = table.round({name: 2 for name in table.columns if name.endswith("_s")})
    table.to_csv(Path(__file__).with_suffix(".csv"), index=False)
    print(f"{os.cpu_count()} processors", table.to_string(index=False), sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
