"""How much of each simulated trait can be read back from the pixels, in one run: python benchmarks/trait_recovery.py.

The attainable AUC in truth.json is that of someone who knows the traits. Here each trait is regressed from statistics of
the image round the lesion, first knowing only the bounding box of its mask, as a crop for a network has it, then the
outline too, as a reader or a segmentation has it.
Traits are independent standard normal, anatomy, place and noise vary freely, sampling is that of the demo cohort, the
machine the primary center's. Prints and writes trait_recovery.csv: the correlation r of read and true score in test
cases, with a standard error of (1 - r^2) / 12. A better method may read more; a network that has to find a trait without
being told what to look for may read less.

Features are generic: mean, spread and band-passed texture in the box's ellipse and in shells round it, in quadrants and
along rings, and the steepest edge; with the outline, its moments and shells at a distance from it; for mammograms bright
points that lie on no line; for sweeps the slide of what surrounds the lesion against it, and dark spots off the key
plane. Of a ridge regression and a forest the one that cross-validates better within the training cases is used.
The outline, the points and a sharper measure of spots were added after a first run had read halo, orientation,
microcalcifications and satellites poorly, so for these the test cases had been looked at before.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import numpy as np
import pandas as pd
from joblib import Parallel, delayed
from scipy.ndimage import distance_transform_edt, gaussian_filter, map_coordinates, maximum_filter
from sklearn.base import clone
from sklearn.ensemble import ExtraTreesRegressor
from sklearn.linear_model import RidgeCV
from sklearn.model_selection import KFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from alnsim import ct, mammography, mri, ultrasound, video
from alnsim.specification import DETAILS

SEED = 2026
N_TRAIN, N_TEST = 300, 150
JOBS = 2
DETAIL = DETAILS["demo"]
STILL_PIXELS = 256
SHELLS_MM = (0.0, 2.0, 5.0, 9.0, 14.0, 20.0)
FINE_SHELLS_MM = (0.0, 0.5, 1.0, 2.0, 3.5, 6.0, 10.0, 15.0)
RINGS_MM = (1.0, 2.5, 5.0, 8.0, 12.0)
BANDS_MM = ((0.4, 1.0), (1.0, 2.5), (2.5, 6.0))
ANGLES = np.linspace(0.0, 2.0 * np.pi, 144, endpoint=False)
RELATIVE_RADII = np.linspace(0.4, 1.6, 37)


@dataclass(frozen=True)
class Modality:
    """name: in the table; traits: in the order of the scores; features: (scores, rng) -> of one rendered case what the
    box tells (p,), and what the outline adds (q,)."""

    name: str
    traits: tuple[str, ...]
    features: Callable[[np.ndarray, np.random.Generator], tuple[np.ndarray, np.ndarray]]


def main() -> None:
    rows = []
    for number, modality in enumerate(MODALITIES):
        start = perf_counter()
        scores, from_box, from_outline = rendered_cases(number, modality)
        known = {"box": from_box, "outline": np.hstack([from_box, from_outline])}
        for position, trait in enumerate(modality.traits):
            for name, features in known.items():
                method, r = recovered(features, scores[:, position])
                rows.append((modality.name, trait, N_TRAIN, N_TEST, f"{name} {method}", round(r, 2)))
        print(f"{modality.name}: {known['outline'].shape[1]} features, {perf_counter() - start:.0f} s", flush=True)
    table = pd.DataFrame(rows, columns=["modality", "trait", "n_train", "n_test", "method", "r"])
    table.to_csv(Path(__file__).with_suffix(".csv"), index=False, lineterminator="\n")
    print(table.to_string(index=False))


def rendered_cases(number: int, modality: Modality) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(n, traits) standard normal scores, and (n, p) and (n, q) features of the cases rendered from them."""
    streams = [np.random.default_rng([SEED, number, case]) for case in range(N_TRAIN + N_TEST)]
    scores = [stream.standard_normal(len(modality.traits)) for stream in streams]
    features = Parallel(n_jobs=JOBS)(
        delayed(modality.features)(own, stream) for own, stream in zip(scores, streams, strict=True)
    )
    return np.array(scores), *(np.array(part) for part in zip(*features, strict=True))


def recovered(features: np.ndarray, score: np.ndarray) -> tuple[str, float]:
    """The method that cross-validates better in the training cases, and its correlation with the score in test cases."""
    train, test = slice(0, N_TRAIN), slice(N_TRAIN, None)
    methods = {
        "ridge": make_pipeline(StandardScaler(), RidgeCV(np.logspace(0.0, 5.0, 21))),
        "forest": ExtraTreesRegressor(100, max_features=0.3, min_samples_leaf=3, random_state=SEED, n_jobs=JOBS),
    }
    folds = KFold(5, shuffle=True, random_state=SEED)
    within = {
        name: correlation(cross_val_predict(clone(method), features[train], score[train], cv=folds), score[train])
        for name, method in methods.items()
    }
    chosen = max(within, key=within.get)
    read = methods[chosen].fit(features[train], score[train]).predict(features[test])
    return chosen, correlation(read, score[test])


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.corrcoef(a, b)[0, 1])


def still_features(scores: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    appearance = ultrasound.appearance_from_traits(scores)
    still = ultrasound.simulate_bmode(appearance, ultrasound.SCANNERS["primary"], STILL_PIXELS, STILL_PIXELS, rng)
    return plane_features(still.pixels, still.mask, still.spacing_mm)


def node_features(scores: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    image = ct.simulate_node_slice(
        ct.appearance_from_traits(scores),
        ct.SCANNERS["primary"],
        *DETAIL.ct_pixels,
        DETAIL.ct_spacing_mm,
        ct.draw_habitus(rng),
        rng,
    )
    return plane_features(image.hounsfield.clip(-160, 240), image.mask, image.spacing_mm)


def mammogram_features(scores: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    appearance = mammography.appearance_from_traits(scores)
    scanner = mammography.SCANNERS["primary"]
    views = mammography.simulate_views(appearance, scanner, *DETAIL.mammography_pixels, "L", rng)
    found = [plane_features(view.pixels, view.mask, view.spacing_mm) for view in views.values()]
    points = [point_features(view.pixels, bounding_box(view.mask), view.spacing_mm[0]) for view in views.values()]
    from_box, from_outline = zip(*found, strict=True)
    return np.concatenate([*from_box, *points]), np.concatenate(from_outline)


def session_features(scores: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Ratios between phases and of T2 and DWI to the volume's own median, ADC as it is; 3-D shells, and the middle slice."""
    breast = mri.draw_breast(mri.VolumeGrid(DETAIL.mri_voxels, DETAIL.mri_spacing_mm), rng)
    session = mri.simulate_session(mri.appearance_from_traits(scores), breast, mri.SCANNERS["primary"], rng)
    volumes = {name: values.astype(np.float32) for name, values in session.volumes.items()}
    early, late = volumes["DCE_early"] - volumes["DCE_pre"], volumes["DCE_late"] - volumes["DCE_pre"]
    bright = np.percentile(volumes["DCE_pre"], 90.0)
    images = {
        "T2": volumes["T2"] / np.percentile(volumes["T2"], 90.0),
        "DWI": volumes["DWI_b800"] / np.percentile(volumes["DWI_b800"], 90.0),
        "ADC": volumes["ADC"] / 1000.0,
        "early": early / bright,
        "late": late / bright,
        "washout": (late - early) / np.maximum(early, 0.1 * bright).clip(0.05 * bright),
    }
    box = bounding_box(session.mask)
    middle = (box[0][0] + box[0][1]) // 2
    found = [np.log(box_sides_mm(box, session.spacing_mm))]
    for values in images.values():
        found.append(region_features(values, box, session.spacing_mm))
        found.append(ring_features(values[middle], box[1:], session.spacing_mm[1:]))
    shells = [shell_features(values, session.mask > 0, session.spacing_mm) for values in images.values()]
    return np.concatenate(found), np.concatenate([moment_features(session.mask > 0, session.spacing_mm), *shells])


def sweep_features(scores: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    still, sweep = scores[: len(ultrasound.TRAITS)], scores[len(ultrasound.TRAITS) :]
    recorded = video.simulate_sweep(
        ultrasound.appearance_from_traits(still),
        video.sweep_appearance_from_traits(sweep),
        ultrasound.SCANNERS["primary"],
        *DETAIL.video_pixels,
        DETAIL.video_frames,
        rng,
    )
    key = recorded.key_frame
    mask = recorded.masks[key]
    from_box, from_outline = plane_features(recorded.frames[key], mask, recorded.spacing_mm)
    slide = slide_features(recorded.frames, bounding_box(mask), recorded.spacing_mm)
    spots = spot_features(recorded.frames, bounding_box(mask), key, recorded.spacing_mm)
    return np.concatenate([from_box, slide, spots]), from_outline


def plane_features(
    pixels: np.ndarray, mask: np.ndarray, spacing_mm: tuple[float, float]
) -> tuple[np.ndarray, np.ndarray]:
    """Everything of one plane: from the bounding box of the mask alone, and what its outline adds."""
    image = pixels.astype(np.float32)
    box = bounding_box(mask)
    sides = np.log(box_sides_mm(box, spacing_mm))
    parts = [sides, [sides[0] - sides[1]], region_features(image, box, spacing_mm)]
    parts += [quadrant_features(image, box, spacing_mm), ring_features(image, box, spacing_mm)]
    outline = [moment_features(mask, spacing_mm), shell_features(image, mask, spacing_mm)]
    return np.concatenate(parts), np.concatenate(outline)


def moment_features(mask: np.ndarray, spacing_mm: tuple[float, ...]) -> np.ndarray:
    """Size, axes, upright shape and roughness of an outline."""
    inside = np.argwhere(mask) * np.array(spacing_mm)
    covariance = np.cov(inside.T) + 1e-3 * np.eye(mask.ndim)
    size = np.log(len(inside) * np.prod(spacing_mm)) / mask.ndim
    axes = 0.5 * np.log(np.linalg.eigvalsh(covariance))
    upright = 0.5 * np.log(np.diag(covariance))
    depth = distance_transform_edt(mask, spacing_mm)[mask]
    departure = inside - inside.mean(axis=0)
    reach = np.sqrt(np.einsum("ij,jk,ik->i", departure, np.linalg.inv(covariance), departure))
    ratios = [axes[0] - axes[-1], upright[-2] - upright[-1]]
    rough = [np.log(depth.mean()) - size, np.log(depth.max()) - size, reach.max()]
    return np.array([size, *axes, *upright, *ratios, *rough])


def shell_features(image: np.ndarray, mask: np.ndarray, spacing_mm: tuple[float, ...]) -> np.ndarray:
    """Gray values in depths of the lesion relative to its deepest point, and in thin shells round it; a shadow left out."""
    depth, beyond = distance_transform_edt(mask, spacing_mm), distance_transform_edt(~mask, spacing_mm)
    relative = depth / depth.max()
    regions = [(relative > low) & (relative <= high) for low, high in ((0, 0.2), (0.2, 0.4), (0.4, 0.7), (0.7, 1.0))]
    row = np.indices(mask.shape)[-2]
    lowest = row <= np.percentile(row[mask], 70)
    regions += [
        (beyond > low) & (beyond <= high) & lowest
        for low, high in zip(FINE_SHELLS_MM, FINE_SHELLS_MM[1:], strict=False)
    ]
    found = []
    for region in regions:
        values = image[region] if region.any() else image[mask]
        found += [values.mean(), values.std(), *np.percentile(values, (10, 25, 50, 75, 90))]
    return np.array(found)


def point_features(pixels: np.ndarray, box: list[tuple[int, int]], pixel_mm: float) -> np.ndarray:
    """Bright points within 15 mm of the middle of the box: how bright and how many, and how bright farther away.

    Each pixel less its brightest pair of opposite neighbors, so that lines vanish; on the logit scale, which undoes the
    sigmoid lookup table of a mammogram.
    """
    share = np.clip(pixels / 4095.0, 0.005, 0.995)
    level = np.log(share / (1.0 - share))
    step = max(1, round(0.5 / pixel_mm))
    around = []
    for down, over in ((0, 1), (1, 0), (1, 1), (1, -1)):
        for far in (step, 2 * step):
            shifted = [np.roll(level, (sign * far * down, sign * far * over), (0, 1)) for sign in (1, -1)]
            around.append(0.5 * (shifted[0] + shifted[1]))
    raised = level - np.maximum.reduce(around)
    peak = raised == maximum_filter(raised, 3)
    row, column = np.indices(raised.shape)
    (top, bottom), (left, right) = box
    distance = np.hypot(row - 0.5 * (top + bottom), column - 0.5 * (left + right)) * pixel_mm
    near = raised[peak & (distance < 15.0)]
    usual = np.percentile(raised[peak & (distance > 22.0) & (distance < 45.0)], (50, 90, 99))
    highest = np.sort(np.concatenate([near, np.zeros(41)]))[::-1]
    found = [*highest[[0, 1, 2, 3, 5, 7, 10, 14, 20, 28, 40]], *usual]
    found += [np.log1p((near > bound).sum()) for bound in (0.1, 0.2, 0.3, 0.5, 0.8, 1.2)]
    found += [np.log1p((near > factor * usual[2]).sum()) for factor in (0.7, 1.0, 1.5, 2.0, 3.0)]
    return np.array(found)


def bounding_box(mask: np.ndarray) -> list[tuple[int, int]]:
    """Half-open range of the mask along each axis."""
    ranges = [
        np.flatnonzero(mask.any(axis=tuple(a for a in range(mask.ndim) if a != axis))) for axis in range(mask.ndim)
    ]
    return [(int(found[0]), int(found[-1]) + 1) for found in ranges]


def box_sides_mm(box: list[tuple[int, int]], spacing_mm: tuple[float, ...]) -> np.ndarray:
    return np.array([(last - first) * step for (first, last), step in zip(box, spacing_mm, strict=True)])


def ellipse_coordinates(
    shape: tuple[int, ...], box: list[tuple[int, int]], spacing_mm: tuple[float, ...]
) -> tuple[np.ndarray, np.ndarray, list[np.ndarray]]:
    """Radius relative to the ellipse in the box, mm beyond it, and mm from its center along each axis."""
    axes = []
    for axis, (extent, (first, last), step) in enumerate(zip(shape, box, spacing_mm, strict=True)):
        along = (np.arange(extent) + 0.5 - 0.5 * (first + last)) * step
        axes.append(along.reshape([-1 if a == axis else 1 for a in range(len(shape))]))
    halves = 0.5 * box_sides_mm(box, spacing_mm)
    relative = np.sqrt(sum((along / half) ** 2 for along, half in zip(axes, halves, strict=True))) + 1e-6
    distance = np.sqrt(sum(along**2 for along in axes))
    return relative, distance * (1.0 - 1.0 / relative), axes


def region_features(image: np.ndarray, box: list[tuple[int, int]], spacing_mm: tuple[float, ...]) -> np.ndarray:
    """Mean, spread and texture in three parts of the ellipse and in shells round it."""
    relative, beyond, _ = ellipse_coordinates(image.shape, box, spacing_mm)
    regions = [relative < 0.45, (relative >= 0.45) & (relative < 0.8), (relative >= 0.8) & (relative < 1.0)]
    regions += [(beyond >= low) & (beyond < high) for low, high in zip(SHELLS_MM, SHELLS_MM[1:], strict=False)]
    textures = [band(image, *limits, spacing_mm) for limits in BANDS_MM]
    found = []
    for region in regions:
        values = image[region]
        if values.size < 3:
            found += [0.0] * (4 + 4 * len(textures))
            continue
        found += [values.mean(), values.std(), *np.percentile(values, (10, 90))]
        for texture in textures:
            found += [np.log(texture[region].std() + 1e-6), *np.percentile(texture[region], (2, 98, 99.8))]
    return np.array(found)


def band(image: np.ndarray, fine_mm: float, coarse_mm: float, spacing_mm: tuple[float, ...]) -> np.ndarray:
    """Difference of two Gaussians, sigma in mm."""
    fine, coarse = ([mm / step for step in spacing_mm] for mm in (fine_mm, coarse_mm))
    return gaussian_filter(image, fine) - gaussian_filter(image, coarse)


def quadrant_features(image: np.ndarray, box: list[tuple[int, int]], spacing_mm: tuple[float, float]) -> np.ndarray:
    """Means above, below and to the sides of the ellipse, near and far, less the mean of both sides; a shadow lies below."""
    _, beyond, (down, across) = ellipse_coordinates(image.shape, box, spacing_mm)
    down, across = np.broadcast_arrays(down, across)
    quadrants = {
        "above": -down > np.abs(across),
        "below": down > np.abs(across),
        "aside": np.abs(across) > np.abs(down),
    }
    found = []
    for low, high in ((0.5, 4.0), (4.0, 10.0), (10.0, 18.0)):
        shell = (beyond > low) & (beyond < high)
        means = {
            name: image[shell & quadrant].mean() if (shell & quadrant).any() else image.mean()
            for name, quadrant in quadrants.items()
        }
        found += [means["above"] - means["aside"], means["below"] - means["aside"], means["aside"]]
    return np.array(found)


def ring_features(image: np.ndarray, box: list[tuple[int, int]], spacing_mm: tuple[float, float]) -> np.ndarray:
    """Where the steepest edge lies along each ray and how steep it is, and how uneven rings beyond the ellipse are."""
    center = np.array([0.5 * (first + last) - 0.5 for first, last in box])
    halves = 0.5 * np.array([last - first for first, last in box])
    ray = np.array([np.sin(ANGLES), np.cos(ANGLES)])
    smooth = gaussian_filter(image, [0.5 / step for step in spacing_mm])

    def sampled(radius_px: np.ndarray) -> np.ndarray:
        """radius_px: (2, radii, angles) along each axis."""
        return map_coordinates(smooth, center[:, None, None] + radius_px * ray[:, None], order=1, mode="nearest")

    rays = sampled(halves[:, None, None] * RELATIVE_RADII[None, :, None])
    reach = np.hypot(*(halves[:, None] * ray * np.array(spacing_mm)[:, None]))
    steep = np.abs(np.gradient(rays, RELATIVE_RADII, axis=0)) / reach
    edge = RELATIVE_RADII[steep.argmax(axis=0)]
    found = [edge.mean(), edge.std(), np.abs(np.diff(edge, append=edge[:1])).mean()]
    found += [steep.max(axis=0).mean(), steep.mean(), steep.mean(axis=1).max()]
    on_rings = np.array([sampled((halves + mm / np.array(spacing_mm))[:, None, None])[0] for mm in (0.0, *RINGS_MM)])
    spectrum = np.abs(np.fft.rfft(on_rings, axis=1)) ** 2
    for low, high in ((1, 3), (3, 7), (7, 14), (14, 30)):
        found += list(np.log(spectrum[:, low:high].mean(axis=1) + 1e-6))
    return np.array(found)


def slide_features(frames: np.ndarray, box: list[tuple[int, int]], spacing_mm: tuple[float, float]) -> np.ndarray:
    """How unevenly tissue beside the lesion and the lesion itself move along the columns from frame to frame, in mm."""
    fine = frames.astype(np.float32) - gaussian_filter(frames.astype(np.float32), (0, 6, 6))
    (top, bottom), (left, right) = box
    pad = round(3.0 / spacing_mm[1])
    inner = fine[:, top:bottom, max(left, 0) : right]
    beside = np.concatenate(
        [fine[:, :, : max(left - pad, 24)], fine[:, :, min(right + pad, fine.shape[2] - 24) :]], axis=2
    )
    above = fine[:, : max(top - pad // 2, 16)]
    below = fine[:, min(bottom + pad // 2, fine.shape[1] - 16) :]
    steps = [shifts(part) * spacing_mm[1] for part in (inner, beside, above, below)]
    found = []
    for step in steps:
        found += [step.std(), np.abs(step).mean(), np.cumsum(step - np.median(step)).std()]
    for step in steps[1:]:
        against = step - steps[0]
        found += [against.std(), np.abs(against).mean(), np.cumsum(against).std()]
    return np.array(found)


def shifts(frames: np.ndarray, most: int = 6) -> np.ndarray:
    """(T - 1,) shift along the columns, in pixels, that makes each frame most like the one before."""
    found = []
    for before, after in zip(frames, frames[1:], strict=False):
        width = before.shape[1]
        reach = min(most, width // 3)
        tried = np.arange(-reach, reach + 1)
        alike = np.array(
            [
                (before[:, max(0, -s) : width - max(0, s)] * after[:, max(0, s) : width - max(0, -s)]).mean()
                for s in tried
            ]
        )
        best = int(alike.argmax())
        shift = float(tried[best])
        if 0 < best < len(tried) - 1:
            left, middle, right = alike[best - 1 : best + 2]
            shift += 0.5 * (left - right) / (left - 2.0 * middle + right - 1e-12)
        found.append(shift)
    return np.array(found)


def spot_features(
    frames: np.ndarray, box: list[tuple[int, int]], key: int, spacing_mm: tuple[float, float]
) -> np.ndarray:
    """Dark spots of about 4 mm beside the lesion's column, in frames off the key plane: how dark, how many, how often.

    A spot is darker than its surroundings 3 mm away in all eight directions, so that shadows and layers are none.
    """
    smooth = gaussian_filter(frames.astype(np.float32), (0.5, 0.8 / spacing_mm[0], 0.8 / spacing_mm[1]))
    step = round(3.0 / spacing_mm[0])
    ways = [(down, over) for down in (-1, 0, 1) for over in (-1, 0, 1) if down or over]
    lengths = [step / np.hypot(*way) for way in ways]
    around = [
        np.roll(smooth, (round(length * down), round(length * over)), (1, 2))
        for (down, over), length in zip(ways, lengths, strict=True)
    ]
    darker = np.minimum.reduce(around) - smooth
    peak = darker == maximum_filter(darker, (5, 9, 9))
    (top, bottom), (left, right) = box
    reach = round(9.0 / spacing_mm[1])
    near = np.zeros(frames.shape, bool)
    near[:, max(top - reach // 3, step) : bottom + reach // 3, max(left - reach, step) : right + reach] = True
    away = np.abs(np.arange(len(frames)) - key)[:, None, None]
    found = []
    for first in (2, 5, 8):
        region = near & (away >= first)
        heights = np.sort(np.concatenate([darker[region & peak], np.zeros(8)]))[::-1]
        found += [*heights[:6], *((heights > bound).sum() for bound in (6.0, 10.0, 14.0, 20.0, 26.0))]
        found += [np.sqrt((darker[region] > bound).sum()) for bound in (5.0, 10.0, 15.0, 20.0)]
    return np.array(found)


MODALITIES = (
    Modality("ultrasound still", ultrasound.TRAITS, still_features),
    Modality("MRI session", mri.TRAITS, session_features),
    Modality("CT node", ct.TRAITS, node_features),
    Modality("mammographic views", mammography.TRAITS, mammogram_features),
    Modality("ultrasound sweep", (*ultrasound.TRAITS, *video.SWEEP_TRAITS), sweep_features),
)


if __name__ == "__main__":
    main()
