"""Write realism.csv, how like real images the simulated ones are: `python tools/realism.py FOLDER [--plate FILE.png]`.

FOLDER holds public images, which stay there: breast_lesions_usg (BrEaST, Pawlowska 2024, CC BY 4.0, doi 10.7937/9WKK-Q141),
ct_deeplesion50 (fifty slices of DeepLesion, Yan 2018, J Med Imaging 5:036501) and mammo_gmic (the example exam of Shen 2021,
Med Image Anal 68:101908). Only aggregates are written. The plate shows real beside simulated images; it may not be
redistributed.

The spacings of the CT slices and mammograms are not with these files; 0.8 mm and 0.1 mm are assumed, as usual for both.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from scipy.ndimage import binary_erosion, distance_transform_cdt, gaussian_filter, zoom

from alnlib.cohorts.breast_lesions_usg import read_breast_lesions_usg
from alnlib.cohorts.schema import parse_pixel_spacing
from alnlib.imaging.read import Image2D, read_image
from alnsim import ct, mammography
from alnsim.realism import REALISM, REALISM_COLUMNS, simulate_stills
from alnsim.statistics import compare_images, compare_statistics, compare_stills, image_statistics

SEED = 2026
SCANNER_NAMES = ("primary", "external")
N_STILLS, N_SLICES, N_BREASTS = 100, 60, 30
SIGNIFICANT_DIGITS = 4

CT_PIXEL_MM, CT_SIDE = 0.8, 160
CT_LOW, CT_STEP = -1024.0, 4095.0 / 255.0
"""DeepLesion's 8-bit pictures: [-1024, 3071] HU in 256 steps of 16 HU, which the simulated slices are rounded to as well."""

CT_SCALE = (-200.0, 300.0)
CT_BAND_CYCLES_PER_MM = (0.05, 0.35)
CT_TISSUES_HU = {"fat": (-150.0, -40.0), "muscle": (20.0, 110.0)}

MG_REAL_PIXEL_MM, MG_PIXEL_MM, MG_SIDE_MM = 0.1, 0.22, 30.0
MG_ROWS, MG_COLUMNS = 1024, 800
MG_BAND_CYCLES_PER_MM = (0.12, 1.0)
MG_VIEWS = ("L-CC", "L-MLO", "R-CC", "R-MLO")


def read_stills(folder: Path) -> list[Image2D]:
    """All images of BrEaST, with the pixel size of its sheet."""
    cohort = read_breast_lesions_usg(folder / "breast_lesions_usg")
    return [
        read_image(cohort.root / row.path, spacing_mm=parse_pixel_spacing(row.pixel_spacing_mm))
        for row in cohort.images.itertuples()
    ]


def ultrasound_table(stills: list[Image2D]) -> pd.DataFrame:
    """BrEaST against stills of both scanners."""
    tables = []
    for scanner in SCANNER_NAMES:
        table = compare_stills(stills, simulate_stills(N_STILLS, np.random.default_rng(SEED), scanner))
        table.insert(1, "scanner", scanner)
        tables.append(table)
    return pd.concat(tables, ignore_index=True)


def read_body_walls(folder: Path) -> list[np.ndarray]:
    """From each CT slice the square of 128 mm that starts 8 mm outside the body at its middle row: skin, fat, muscle, ribs."""
    files = sorted((folder / "ct_deeplesion50").rglob("*.jpg"))
    walls = []
    for path in files:
        hounsfield = read_image(path).pixels.astype(float) * CT_STEP + CT_LOW
        body = hounsfield > -300.0
        row = int(np.argwhere(body)[:, 0].mean())
        left = max(0, int(np.flatnonzero(body[row])[0]) - 10)
        top = int(np.clip(row - CT_SIDE // 2, 0, hounsfield.shape[0] - CT_SIDE))
        walls.append(hounsfield[top : top + CT_SIDE, left : left + CT_SIDE])
    return walls


def simulated_slices(scanner: str) -> list[np.ndarray]:
    """Axillary slices, one per patient, in the steps of the real ones."""
    rng = np.random.default_rng(SEED)
    slices = []
    for _ in range(N_SLICES):
        appearance = ct.appearance_from_traits(rng.standard_normal(len(ct.TRAITS)))
        habitus = ct.draw_habitus(rng)
        drawn = ct.simulate_node_slice(
            appearance, ct.SCANNERS[scanner], CT_SIDE, CT_SIDE, CT_PIXEL_MM, habitus, rng
        ).hounsfield
        slices.append(np.rint((drawn.astype(float) - CT_LOW) / CT_STEP) * CT_STEP + CT_LOW)
    return slices


def slice_statistics(hounsfield: np.ndarray) -> dict[str, float]:
    """`image_statistics` between -200 and 300 HU, and of pure fat and pure muscle the typical HU and noise.

    Pure: a Gaussian-smoothed slice (sigma 1.6 mm) stays in the tissue's range for 3 mm around. Noise: what is left after
    subtracting a Gaussian of 2.4 mm, by the median absolute deviation, in HU. NaN for fewer than 50 such pixels.
    """
    spacing = (CT_PIXEL_MM, CT_PIXEL_MM)
    found = image_statistics(np.clip(hounsfield, *CT_SCALE), spacing, CT_SCALE, CT_BAND_CYCLES_PER_MM)
    smooth = gaussian_filter(hounsfield, 2.0)
    residual = hounsfield - gaussian_filter(hounsfield, 3.0)
    for tissue, (low, high) in CT_TISSUES_HU.items():
        pure = binary_erosion((smooth > low) & (smooth < high), iterations=4)
        enough = pure.sum() >= 50
        found[f"{tissue}_hu"] = float(np.median(smooth[pure])) if enough else np.nan
        spread = np.abs(residual[pure] - np.median(residual[pure])) if enough else np.array([np.nan])
        found[f"{tissue}_noise_hu"] = float(1.4826 * np.median(spread))
    return found


def ct_table(walls: list[np.ndarray]) -> pd.DataFrame:
    """DeepLesion's body walls against axillary slices of both scanners."""
    real = pd.DataFrame([slice_statistics(wall) for wall in walls])
    tables = [
        compare_statistics(real, pd.DataFrame([slice_statistics(image) for image in simulated_slices(scanner)]))
        for scanner in SCANNER_NAMES
    ]
    return _labeled("CT", tables)


def read_mammogram_patches(folder: Path) -> list[np.ndarray]:
    """The middle 30 mm of each view, on 0 to 1, at the spacing of the simulated ones."""
    factor = MG_REAL_PIXEL_MM / MG_PIXEL_MM
    patches = []
    for view in MG_VIEWS:
        gray = read_image(folder / "mammo_gmic" / "cropped" / f"0_{view}.png").pixels.astype(float) / 65535.0
        gray = zoom(gaussian_filter(gray, 0.4 * (1.0 / factor - 1.0)), factor, order=1, mode="nearest", grid_mode=True)
        patches.append(_breast_patch(gray))
    return [patch for patch in patches if patch is not None]


def simulated_patches(scanner: str) -> list[np.ndarray]:
    """The middle 30 mm of both views of each breast, on 0 to 1."""
    rng = np.random.default_rng(SEED)
    patches = []
    for number in range(N_BREASTS):
        appearance = mammography.appearance_from_traits(rng.standard_normal(len(mammography.TRAITS)))
        side = "LR"[number % 2]
        views = mammography.simulate_views(
            appearance, mammography.SCANNERS[scanner], MG_ROWS, MG_COLUMNS, side, rng
        ).values()
        for view in views:
            factor = view.spacing_mm[0] / MG_PIXEL_MM
            gray = view.pixels / 4095.0
            patches.append(_breast_patch(zoom(gray, factor, order=1, mode="nearest", grid_mode=True)))
    return [patch for patch in patches if patch is not None]


def _breast_patch(gray: np.ndarray) -> np.ndarray | None:
    """The square of 30 mm that lies 3 mm or more inside the breast, nearest its center of area; None if none fits."""
    side = int(MG_SIDE_MM / MG_PIXEL_MM)
    breast = gray > 0.02
    depth = distance_transform_cdt(np.pad(breast, 1), "chessboard")[1:-1, 1:-1]
    possible = np.argwhere(depth > side // 2 + int(3.0 / MG_PIXEL_MM))
    if not len(possible):
        return None
    center = np.argwhere(breast).mean(axis=0)
    row, column = possible[np.argmin(((possible - center) ** 2).sum(axis=1))] - side // 2
    return gray[row : row + side, column : column + side]


def mammography_table(patches: list[np.ndarray]) -> pd.DataFrame:
    """The four real views against both views of breasts on both scanners."""
    tables = []
    for scanner in SCANNER_NAMES:
        drawn = simulated_patches(scanner)
        spacings = [[(MG_PIXEL_MM, MG_PIXEL_MM)] * len(group) for group in (patches, drawn)]
        tables.append(compare_images(patches, drawn, *spacings, (0.0, 1.0), MG_BAND_CYCLES_PER_MM))
    return _labeled("MG", tables)


def _labeled(modality: str, tables: Iterable[pd.DataFrame]) -> pd.DataFrame:
    """One table of both scanners', with their labels in front."""
    table = pd.concat(dict(zip(SCANNER_NAMES, tables, strict=True)), names=["scanner"]).reset_index("scanner")
    table.insert(0, "modality", modality)
    return table.reset_index(drop=True)


def rounded(table: pd.DataFrame) -> pd.DataFrame:
    """Every fraction to four significant digits; counts and names as they are."""
    fractions = table.select_dtypes("float").columns
    short = table[fractions].map(lambda value: float(f"{value:.{SIGNIFICANT_DIGITS}g}"))
    return table.assign(**short)[list(REALISM_COLUMNS)]


def write_plate(stills: list[Image2D], walls: list[np.ndarray], patches: list[np.ndarray], path: Path) -> None:
    """Six columns; for each modality a row of real images, then one row per scanner. Each modality has its own gray scale."""
    rows: list[tuple[str, list[np.ndarray], tuple[float, float]]] = []
    rows.append(("US real", [_deep(still) for still in stills[3:123:20]], (0.0, 255.0)))
    for scanner in SCANNER_NAMES:
        drawn = simulate_stills(6, np.random.default_rng(SEED), scanner)
        rows.append((f"US {scanner}", [_deep(still) for still in drawn], (0.0, 255.0)))
    rows.append(("CT real", walls[:48:8], CT_SCALE))
    rows += [(f"CT {scanner}", simulated_slices(scanner)[:6], CT_SCALE) for scanner in SCANNER_NAMES]
    rows.append(("MG real", patches, (0.0, 1.0)))
    rows += [(f"MG {scanner}", simulated_patches(scanner)[:6], (0.0, 1.0)) for scanner in SCANNER_NAMES]
    figure = Figure(figsize=(15.0, 2.5 * len(rows)), layout="constrained")
    for axes, (name, images, (low, high)) in zip(figure.subplots(len(rows), 6), rows, strict=True):
        axes[0].set_title(name, loc="left")
        for ax in axes:
            ax.set_axis_off()
        for ax, image in zip(axes, images, strict=False):
            ax.imshow(image, cmap="gray", vmin=low, vmax=high, interpolation="lanczos")
    figure.savefig(path, dpi=110)


def _deep(still: Image2D) -> np.ndarray:
    """The upper 34 mm of the still, as wide in its middle, at its own sampling."""
    side = int(34.0 / still.spacing_mm[0])
    left = max(0, (still.pixels.shape[1] - side) // 2)
    return still.pixels[:side, left : left + side]


def main(arguments: list[str] | None = None) -> int:
    """Write the file, and the plate if asked."""
    parser = argparse.ArgumentParser(description="Compare real with simulated images and write realism.csv.")
    parser.add_argument("folder", type=Path, help="holds breast_lesions_usg, ct_deeplesion50 and mammo_gmic")
    parser.add_argument("--plate", type=Path, help="PNG of real beside simulated images; not to be redistributed")
    options = parser.parse_args(arguments)
    stills, walls = read_stills(options.folder), read_body_walls(options.folder)
    patches = read_mammogram_patches(options.folder)
    table = rounded(
        pd.concat([ultrasound_table(stills), ct_table(walls), mammography_table(patches)], ignore_index=True)
    )
    table.to_csv(REALISM, index=False, lineterminator="\n")
    print(f"{REALISM.name}: {len(table)} rows")
    if options.plate:
        write_plate(stills, walls, patches, options.plate)
        print(f"{options.plate}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
