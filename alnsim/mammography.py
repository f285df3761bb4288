"""Digital mammography of one breast with a mass: traits to attenuation to 12-bit CC and MLO views, and masks.

Which patient has which traits is decided in `patients`; outlines come from `shapes`; files are written by `build`.

The physics in words, with sources and what is unlike reality: MODEL.md in this folder.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import exp

import numpy as np
from scipy.fft import irfft2, irfftn
from scipy.interpolate import RectBivariateSpline
from scipy.ndimage import affine_transform, gaussian_filter, map_coordinates

from alnsim.shapes import Lesion, LesionShape, PixelGrid, draw_lesion, smooth_field, white_noise
from alnsim.traits import trait_scores

FAT_PER_CM = 0.456
GLAND_PER_CM = 0.802
CARCINOMA_PER_CM = 0.844
CALCIUM_PER_CM = 12.0
"""Linear attenuation at 20 keV; sources in MODEL.md."""

SKIN_MM = 1.5
SPECTRAL_EXPONENT = 3.0
"""Power of spatial frequency in the spectrum of the parenchyma (Burgess 2001)."""

CROSSOVER_MM = 10.0
"""Wavelength at which the projected three-dimensional gland hands over to the two-dimensional texture (our choice)."""

AIR_MM = 9.0
"""How far beyond the breast's depth its outline and nipple can reach, blur included; further out all is black air."""

VOXEL_MM = 4.0
GLAND_WITHIN_LOBES = 0.55
"""Share of fibroglandular tissue inside glandular lobes, the rest being fat (our choice). Whole breasts then hold 5 to
26 % (80 % of them), median 11 %; measured with skin, the mean of women is 19 % (Yaffe et al. 2009, PMC2787062)."""

MOST_GRAINS = 64
SPICULES = 36
RADIATING_LINES = 30
SPICULE_MM2 = 2.2
"""Cross-section of spicules at the root (our choice). As many lines and grains are drawn whatever the traits are, so
that a trait changes nothing else under the same seed."""

VIEWS = ("CC", "MLO")

TRAITS = ("size", "irregularity", "density", "distortion", "microcalcifications")
"""Standard normal scores, in the order of `appearance_from_traits`; higher is larger or more suspicious."""


@dataclass(frozen=True)
class Scanner:
    """One center's machine.

    field_mm: height of the field, so pixels are `field_mm / rows`. blur_mm: Gaussian sigma of the detector's blur.
    quanta_per_mm2: counted behind an average breast. scatter_to_primary: behind the grid. equalization: share of the
    edge's missing thickness that processing restores. local_gain: extra contrast of detail finer than `local_mm`, edge_gain
    of detail finer than `EDGE_MM`.
    window: width of the lookup table in units of the normal tissue's range. level: its center in the same units.
    """

    center: str
    field_mm: float
    blur_mm: float
    quanta_per_mm2: float
    scatter_to_primary: float
    equalization: float
    local_gain: float
    local_mm: float
    edge_gain: float
    window: float
    level: float


EDGE_MM = 0.12
"""Gaussian sigma below which processing sharpens (unsharp masking), as vendors' processing for presentation does."""

SCANNERS = {
    "primary": Scanner("primary", 224.0, 0.08, 1.25e5, 0.15, 0.97, 0.50, 7.0, 1.5, 1.60, 0.80),
    "external": Scanner("external", 236.0, 0.13, 0.45e5, 0.30, 0.90, 0.25, 10.0, 1.5, 2.00, 0.95),
}
"""Our choice: the external machine reads plates (more blur, fewer quanta, more scatter) and shows a flatter image."""


@dataclass(frozen=True)
class MassAppearance:
    """What the views show of one lesion.

    diameter_mm: of the sphere with the mass's volume. lobulation: standard deviation of the relative radius.
    spiculation_mm: mean length of the spicules. attenuation_per_cm: of the mass at 20 keV. distortion_mm: mean reach of
    the radiating lines beyond the mass; line_mm2: their cross-section. pull: largest relative displacement of tissue
    toward the mass. grains: number of clustered microcalcifications (a fraction is one smaller grain); grain_mm: their
    median diameter.
    """

    diameter_mm: float
    lobulation: float
    spiculation_mm: float
    attenuation_per_cm: float
    distortion_mm: float
    line_mm2: float
    pull: float
    grains: float
    grain_mm: float


def appearance_from_traits(traits: np.ndarray) -> MassAppearance:
    """Physical appearance from five standard normal trait scores, in the order of `TRAITS`.

    Every map is strictly increasing over +-2.5 standard deviations and constant beyond. Diameters have median 15 mm and
    95 % between about 8 and 27 mm (our choice, near T1-T2 disease); an average mass attenuates as carcinoma does.
    """
    size, irregularity, density, distortion, calcium = trait_scores(traits, TRAITS)
    return MassAppearance(
        diameter_mm=15.0 * exp(0.30 * size),
        lobulation=0.085 * exp(0.50 * irregularity),
        spiculation_mm=2.6 * exp(0.70 * irregularity),
        attenuation_per_cm=CARCINOMA_PER_CM + 0.09 * density,
        distortion_mm=9.0 * exp(0.42 * distortion),
        line_mm2=1.3 * exp(0.35 * distortion),
        pull=0.30 + 0.11 * distortion,
        grains=9.0 * exp(0.70 * calcium),
        grain_mm=0.50 * exp(0.10 * calcium),
    )


@dataclass(frozen=True)
class View:
    """pixels: (rows, columns) uint16, 0..4095, bright is dense, air 0; mask: (rows, columns) bool, the mass without its
    spicules; spacing_mm: (row, column); compressed_thickness_mm: between the paddles."""

    pixels: np.ndarray
    mask: np.ndarray
    spacing_mm: tuple[float, float]
    compressed_thickness_mm: float


def simulate_views(
    appearance: MassAppearance, scanner: Scanner, rows: int, columns: int, laterality: str, rng: np.random.Generator
) -> dict[str, View]:
    """Both standard views of one breast, keys "CC" and "MLO".

    rows, columns: at least 224 rows, and columns between 0.7 and 1.2 times the rows. laterality: "L" lies against the
    left edge, "R" against the right one; lateral (CC) and the axilla (MLO) are up. Raises ValueError for anything else.
    """
    if rows < 224 or not 0.7 <= columns / rows <= 1.2:
        raise ValueError(
            f"the grid is {rows} x {columns}; at least 224 rows and 0.7-1.2 times as many columns are needed"
        )
    if laterality not in ("L", "R"):
        raise ValueError(f"laterality is {laterality!r}; expected 'L' or 'R'")
    grid = _Grid(rows, columns, scanner.field_mm / rows)
    breast = _breast(grid, rng)
    lesion = _lesion(appearance, breast, rng)
    imaged = replace(grid, columns=min(columns, int(grid.pixels(breast.depth_mm + AIR_MM)) + 1))
    views = {name: _view(name, imaged, breast, lesion, appearance, scanner, rng) for name in VIEWS}
    return {name: _on_film(view, columns, laterality) for name, view in views.items()}


def _on_film(view: View, columns: int, laterality: str) -> View:
    """The view with air added to its right up to the film's width, or its mirror image for a right breast."""
    air = [(0, 0), (0, columns - view.pixels.shape[1])]
    pixels, mask = (np.pad(values, air) for values in (view.pixels, view.mask))
    if laterality == "R":
        pixels, mask = (np.ascontiguousarray(values[:, ::-1]) for values in (pixels, mask))
    return replace(view, pixels=pixels, mask=mask)


class _Grid(PixelGrid):
    """x from the chest wall across, and random fields."""

    @property
    def shape(self) -> tuple[int, int]:
        return self.rows, self.columns

    @property
    def x_mm(self) -> np.ndarray:
        return self.across_mm

    def field(self, sigma_mm: float, rng: np.random.Generator) -> np.ndarray:
        return smooth_field(self.shape, self.pixels(sigma_mm), rng)

    def curve(self, sigma_mm: float, rng: np.random.Generator) -> np.ndarray:
        """(rows, 1) smooth random curve, mean 0 and variance 1."""
        return smooth_field((self.rows,), self.pixels(sigma_mm), rng)[:, None]


@dataclass(frozen=True)
class _Breast:
    """Lengths in mm. gland: (x, y, z) share of fibroglandular tissue on voxels of `VOXEL_MM`, y and z centered;
    strands: (lines, points, 3) x, y, z of ligaments and vessels, caliber: (lines,) their cross-section in mm^2;
    scattered: (n, 3) benign calcifications, and their volumes in mm^3."""

    depth_mm: float
    half_width_mm: float
    thickness_mm: float
    fattiness: float
    gland: np.ndarray
    strands: np.ndarray
    caliber: np.ndarray
    scattered: np.ndarray
    scattered_mm3: np.ndarray


@dataclass(frozen=True)
class _LesionIn3D:
    """center_mm: x, y, z. Lines: (lines, points, 3) mm from the center in x, y, z. grains: (n, 3), and their mm^3."""

    center_mm: np.ndarray
    mass: Lesion
    spicules: np.ndarray
    radiating: np.ndarray
    grains: np.ndarray
    grain_volume_mm3: np.ndarray


def _step(distance_mm: np.ndarray, width_mm: float) -> np.ndarray:
    """Smooth step from 0 to 1, cubic, over +-width_mm."""
    part = np.clip(0.5 + distance_mm * (0.5 / width_mm), 0.0, 1.0)
    return part * part * (3.0 - 2.0 * part)


def _breast(grid: _Grid, rng: np.random.Generator) -> _Breast:
    """Normal anatomy of one patient: size, density class, gland, ligaments. Nothing here depends on traits."""
    widest = 0.70 * grid.columns * grid.pixel_mm
    depth = float(np.clip(rng.normal(95.0, 13.0), 74.0, widest))
    half_width = float(np.clip(depth * rng.uniform(0.86, 1.05), 70.0, 0.44 * grid.rows * grid.pixel_mm))
    thickness = float(np.clip(rng.normal(56.0, 8.0), 38.0, 76.0))
    fattiness = float(np.clip(rng.normal(0.0, 1.0), -1.8, 1.8))
    gland, strands = _gland(depth, half_width, fattiness, rng), _strands(depth, half_width, rng)
    grains = _benign_calcifications(depth, half_width, rng)
    return _Breast(depth, half_width, thickness, fattiness, gland, *strands, *grains)


def _gland(depth: float, half_width: float, fattiness: float, rng: np.random.Generator) -> np.ndarray:
    """(x, y, z) share of fibroglandular tissue, 0..1, on voxels of `VOXEL_MM`."""
    along = int(np.ceil(depth / VOXEL_MM)) + 1
    across = 2 * int(np.ceil(half_width / VOXEL_MM)) + 1
    shape = (along, across, across)
    field = _power_law_3d(shape, rng)
    x = (np.arange(along) * VOXEL_MM)[:, None, None]
    side = (np.arange(across) - across // 2) * VOXEL_MM
    y, z = side[None, :, None], side[None, None, :]
    section = half_width * np.sqrt(np.clip(1.0 - (x / depth) ** 2.2, 0.01, 1.0))
    off_y, off_z = rng.normal(0.10, 0.05), rng.normal(0.05, 0.05)
    outward = np.sqrt((y / section - off_y) ** 2 + (z / section - off_z) ** 2)
    retro = rng.uniform(0.08, 0.22) * depth
    behind = np.clip((retro - x) / 14.0, 0.0, 2.0)
    extent = rng.uniform(0.50, 0.70) - 0.05 * fattiness
    lobes = smooth_field(shape, 9.0 / VOXEL_MM, rng)
    score = -0.30 - 0.65 * fattiness + 0.9 * field + 0.9 * lobes
    score = score - 9.0 * np.clip(outward - extent, 0.0, 1.0) - 1.9 * behind
    score = score - 2.5 * np.clip((x - depth + 9.0) / 8.0, 0.0, None)
    return GLAND_WITHIN_LOBES * (0.5 + 0.5 * np.tanh(1.6 * score))


def _power_law_3d(shape: tuple[int, int, int], rng: np.random.Generator) -> np.ndarray:
    """Gaussian field, mean 0 and variance 1, spectrum 1 / f^3, twice as long along the first axis as across it."""
    even = tuple(extent + extent % 2 for extent in shape)
    fx = np.fft.fftfreq(even[0])[:, None, None] * 2.0
    fy = np.fft.fftfreq(even[1])[None, :, None]
    fz = np.fft.rfftfreq(even[2])[None, None, :]
    floor = VOXEL_MM / 90.0
    gain = (fx * fx + fy * fy + fz * fz + floor**2) ** (-SPECTRAL_EXPONENT / 4.0)
    gain[0, 0, 0] = 0.0
    noise = white_noise((2, *gain.shape), rng)
    spectrum = (noise[0] + 1j * noise[1]) * gain
    field = irfftn(spectrum, even)
    field /= field.std()
    return field[tuple(slice(extent) for extent in shape)]


def _power_law_2d(grid: _Grid, rng: np.random.Generator) -> np.ndarray:
    """Gaussian field, variance 1, spectrum 1 / f^3 for wavelengths below `CROSSOVER_MM` and flat above."""
    even = tuple(extent + extent % 2 for extent in grid.shape)
    fy = np.fft.fftfreq(even[0], grid.pixel_mm)[:, None]
    fx = np.fft.rfftfreq(even[1], grid.pixel_mm)[None, :]
    squared = (fx * fx + fy * fy) * CROSSOVER_MM**2
    gain = (1.0 + squared) ** (-SPECTRAL_EXPONENT / 4.0)
    noise = white_noise((2, *gain.shape), rng)
    spectrum = np.empty(gain.shape, dtype=complex)
    spectrum.real = noise[0] * gain
    spectrum.imag = noise[1] * gain
    field = irfft2(spectrum, even)
    # Variance of the field expected from the gain, so that amplitude does not follow the draw.
    field *= even[0] * even[1] / np.sqrt(4.0 * (gain**2).sum())
    return field[: grid.rows, : grid.columns]


def _strands(depth: float, half_width: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Ligaments and vessels: gently bent lines that run toward the nipple, more the closer they are to it."""
    lines, points = 210, 90
    angle = rng.uniform(0.0, 2.0 * np.pi, lines)
    outward = np.sqrt(rng.uniform(0.02, 0.95, lines))
    start_x = depth * rng.uniform(0.0, 0.85, lines)
    section = half_width * np.sqrt(1.0 - (start_x / depth) ** 2.2)
    start = np.stack([start_x, outward * section * np.cos(angle), outward * section * np.sin(angle)], axis=1)
    toward = np.array([depth, 0.0, 0.0]) - start
    toward /= np.linalg.norm(toward, axis=1, keepdims=True)
    heading = toward + 0.45 * rng.standard_normal((lines, 3))
    heading /= np.linalg.norm(heading, axis=1, keepdims=True)
    length = rng.gamma(4.0, 9.0, lines)
    part = np.linspace(0.0, 1.0, points)[None, :, None]
    path = start[:, None, :] + heading[:, None, :] * length[:, None, None] * part
    bend = rng.standard_normal((2, lines, 1, 3)) * (0.045 * length)[None, :, None, None]
    path = path + bend[0] * np.sin(np.pi * part) + 0.5 * bend[1] * np.sin(2.0 * np.pi * part)
    caliber = 0.40 * rng.lognormal(0.0, 0.8, lines)
    return path, caliber


def _benign_calcifications(depth: float, half_width: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Single coarse grains anywhere, 0 to about 8 in a breast, which say nothing about the lesion."""
    count = min(int(rng.poisson(1.5)), 8)
    place = rng.uniform([0.10, -0.55, -0.55], [0.85, 0.55, 0.55], (8, 3)) * [depth, half_width, half_width]
    diameter = rng.uniform(0.5, 1.3, 8)
    return place[:count], (np.pi / 6.0 * diameter**3)[:count]


def _lesion(appearance: MassAppearance, breast: _Breast, rng: np.random.Generator) -> _LesionIn3D:
    """The lesion in breast coordinates. The numbers drawn do not depend on the appearance."""
    reach = 0.30 * breast.half_width_mm
    x = breast.depth_mm * rng.uniform(0.40, 0.60)
    center = np.array([x, *(np.clip(rng.normal(mean, 0.55), -1.0, 1.0) * reach for mean in (0.25, 0.10))])
    axes = tuple(float(value) for value in np.exp(rng.uniform(-0.12, 0.12, 3)))
    mass = draw_lesion(LesionShape(appearance.diameter_mm, axes, appearance.lobulation), rng)
    spicules = _radial_lines(mass, SPICULES, appearance.spiculation_mm, 0.10, rng)
    radiating = _radial_lines(mass, RADIATING_LINES, appearance.distortion_mm, 0.05, rng)
    shift = rng.normal(0.0, 4.0, 3)
    grains = shift + rng.standard_normal((MOST_GRAINS, 3)) * rng.uniform(3.5, 6.0, (1, 3))
    grain_diameter = appearance.grain_mm * rng.lognormal(0.0, 0.22, MOST_GRAINS)
    share = np.clip(appearance.grains - np.arange(MOST_GRAINS), 0.0, 1.0)
    return _LesionIn3D(center, mass, spicules, radiating, grains, share * np.pi / 6.0 * grain_diameter**3)


def _radial_lines(mass: Lesion, count: int, mean_mm: float, bend: float, rng: np.random.Generator) -> np.ndarray:
    """(count, points, 3) nearly straight lines outward from the mass's surface, x, y, z in mm from its center."""
    direction = rng.standard_normal((count, 3))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    sideways = rng.standard_normal((count, 3))
    sideways -= (sideways * direction).sum(axis=1, keepdims=True) * direction
    length = mean_mm * rng.gamma(3.0, 1.0 / 3.0, count)[:, None, None]
    x, y, z = direction.T
    surface = -mass.distance_mm(1e-3 * z, 1e-3 * y, 1e-3 * x)[:, None, None]
    part = np.linspace(0.0, 1.0, 120)[None, :, None]
    outward = 0.9 * surface + part * (length + 0.1 * surface)
    return direction[:, None, :] * outward + bend * length * part**2 * sideways[:, None, :]


def _view(
    name: str,
    grid: _Grid,
    breast: _Breast,
    lesion: _LesionIn3D,
    appearance: MassAppearance,
    scanner: Scanner,
    rng: np.random.Generator,
) -> View:
    oblique = name == "MLO"
    turn = np.deg2rad(rng.uniform(40.0, 60.0)) if oblique else 0.0
    thickness = breast.thickness_mm * rng.uniform(0.96, 1.06)
    nipple_mm = grid.rows * grid.pixel_mm * (rng.uniform(0.57, 0.63) if oblique else rng.uniform(0.47, 0.53))
    across, along = np.array([np.cos(turn), np.sin(turn)]), np.array([-np.sin(turn), np.cos(turn)])

    def on_image(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Rows and columns (floating) of points (..., 3) in breast coordinates."""
        up = points[..., 1] * across[0] + points[..., 2] * across[1]
        return grid.pixels(nipple_mm - up) - 0.5, grid.pixels(points[..., 0]) - 0.5

    depth_mm = _skin_distance(grid, breast, nipple_mm, oblique, rng)
    path_mm, skin_mm = _thickness(depth_mm, thickness)
    share = _projected_gland(grid, breast, nipple_mm, turn)
    gland_mm = _parenchyma(grid, share, depth_mm, thickness, rng)
    muscle_mm = _muscle(grid, nipple_mm, thickness, oblique, rng)
    window_mm = _normal_range_mm(gland_mm, depth_mm, muscle_mm)

    center = tuple(float(value) for value in on_image(lesion.center_mm))
    reach_mm = 0.5 * appearance.diameter_mm + appearance.distortion_mm
    gland_mm = _drawn_inward(gland_mm, grid, center, reach_mm, appearance.pull)
    lines = [
        (breast.strands, breast.caliber, 0.2),
        (lesion.center_mm + lesion.spicules, SPICULE_MM2, 0.2),
        (lesion.center_mm + lesion.radiating, appearance.line_mm2, 0.6),
    ]
    rows_and_columns = [np.concatenate([on_image(path)[axis].ravel() for path, _, _ in lines]) for axis in range(2)]
    volumes = np.concatenate([_line_volume(*line).ravel() for line in lines])
    thin = gaussian_filter(_splat(grid, *rows_and_columns, volumes), grid.pixels(0.22), truncate=3.0)
    gland_mm = np.clip(gland_mm + thin * _step(depth_mm - 2.5, 2.0), 0.0, 1.2 * thickness)
    chord_mm, mask = _mass_projection(grid, lesion.mass, center, across, along)
    calcium_mm = _splat(grid, *on_image(lesion.center_mm + lesion.grains), lesion.grain_volume_mm3)
    calcium_mm += _splat(grid, *on_image(breast.scattered), breast.scattered_mm3)
    calcium_mm *= depth_mm > 3.0

    extra_gland = (GLAND_PER_CM - FAT_PER_CM) / 10.0
    behind = np.clip(chord_mm / thickness, 0.0, 1.0)
    dense_mm = (gland_mm + muscle_mm) * (path_mm / thickness) * (1.0 - behind) + skin_mm
    above_fat = extra_gland * dense_mm + (appearance.attenuation_per_cm - FAT_PER_CM) / 10.0 * chord_mm
    above_fat += (CALCIUM_PER_CM - FAT_PER_CM) / 10.0 * calcium_mm
    fat_path = (FAT_PER_CM / 10.0) * path_mm
    line_integral = above_fat + fat_path
    line_integral = _detected(line_integral, grid, scanner, thickness, rng)
    pixels = _presented(line_integral, fat_path, depth_mm, extra_gland * window_mm, grid, scanner)
    return View(pixels, mask, (grid.pixel_mm, grid.pixel_mm), float(thickness))


def _skin_distance(
    grid: _Grid, breast: _Breast, nipple_mm: float, oblique: bool, rng: np.random.Generator
) -> np.ndarray:
    """(rows, columns) mm inside the outline, negative in air: a superellipse, the nipple, and the axilla in MLO."""
    power = 2.2
    upper = breast.half_width_mm * (1.40 if oblique else rng.uniform(0.97, 1.03))
    lower = breast.half_width_mm * (0.86 if oblique else rng.uniform(0.97, 1.03))
    down = grid.down_mm - nipple_mm
    wobble = 1.0 + 0.006 * grid.curve(9.0, rng)
    height = np.where(down < 0.0, upper, lower) * wobble
    tall = (np.abs(down) + 1e-3) / height
    behind = 0.25 * breast.depth_mm
    x = grid.x_mm + behind
    far = x / (breast.depth_mm + behind)
    rise, run = tall**power, far**power
    total = rise + run
    slope = np.sqrt((run / x) ** 2 + (rise / (tall * height)) ** 2)
    relative = total ** (1.0 / power)
    inside = (1.0 - relative) * total / (relative * slope)
    if oblique:
        reach = breast.depth_mm * rng.uniform(0.55, 0.76)
        lean = rng.uniform(-0.05, 0.12)
        axilla = (reach + lean * down - grid.x_mm) / np.sqrt(1.0 + lean**2)
        axilla = np.minimum(axilla, -down)
        blend = 22.0
        part = np.clip(0.5 + 0.5 * (axilla - inside) / blend, 0.0, 1.0)
        inside = inside + (axilla - inside) * part + blend * part * (1.0 - part)
    size = rng.uniform(3.5, 5.5)
    nipple = size - np.sqrt((grid.x_mm - (breast.depth_mm - 0.3 * size)) ** 2 + down * down)
    part = np.clip(0.5 + 0.5 * (nipple - inside) / 6.0, 0.0, 1.0)
    return inside + (nipple - inside) * part + 6.0 * part * (1.0 - part)


def _thickness(depth_mm: np.ndarray, thickness_mm: float) -> tuple[np.ndarray, np.ndarray]:
    """Path through the breast, and the part of it in skin, mm: an edge of semicircular cross-section, then flat."""
    half = 0.5 * thickness_mm

    def chord(depth: np.ndarray, radius: float) -> np.ndarray:
        past = np.clip(1.0 - np.clip(depth, 0.0, None) / radius, 0.0, 1.0)
        return 2.0 * radius * np.sqrt(1.0 - past * past)

    path = chord(depth_mm, half)
    return path, path - chord(depth_mm - SKIN_MM, half - SKIN_MM)


def _projected_gland(grid: _Grid, breast: _Breast, nipple_mm: float, turn: float) -> np.ndarray:
    """(rows, columns) mean share of gland along the rays, from the voxels turned by `turn` radians about x."""
    gland = breast.gland
    if turn:
        cosine, sine = np.cos(turn), np.sin(turn)
        matrix = np.array([[1.0, 0.0, 0.0], [0.0, cosine, -sine], [0.0, sine, cosine]])
        middle = (np.array(gland.shape) - 1) / 2.0
        gland = affine_transform(gland, matrix, middle - matrix @ middle, order=1, mode="constant")
    x = np.arange(gland.shape[0]) * VOXEL_MM
    up = (np.arange(gland.shape[1]) - gland.shape[1] // 2) * VOXEL_MM
    section = breast.half_width_mm * np.sqrt(np.clip(1.0 - (x / breast.depth_mm) ** 2.2, 0.02, 1.0))
    ray = 2.0 * np.sqrt(np.clip(section[:, None] ** 2 - up[None, :] ** 2, (4.0 * VOXEL_MM) ** 2, None))
    share = gland.sum(axis=2) * VOXEL_MM / ray
    rows_up = nipple_mm - grid.down_mm[:, 0]
    columns = np.clip(grid.x_mm[0], x[0], x[-1])
    smooth = RectBivariateSpline(up, x, share.T, kx=3, ky=3)(np.clip(rows_up, up[0], up[-1])[::-1], columns)[::-1]
    edge = _step(0.88 * breast.half_width_mm - np.abs(rows_up), 14.0)[:, None]
    return np.clip(smooth, 0.0, 1.0) * edge


def _parenchyma(
    grid: _Grid, share: np.ndarray, depth_mm: np.ndarray, thickness_mm: float, rng: np.random.Generator
) -> np.ndarray:
    """(rows, columns) mm of fibroglandular tissue along the rays through the flat part, with texture down to pixels.

    Gland gets the 1 / f^3 texture; fat gets a weaker one; both get ligament sheets, the zero lines of smooth fields.
    """
    texture = _power_law_2d(grid, rng)
    sheets = _sheets(grid, 3.2, 0.10, rng) + 0.8 * _sheets(grid, 1.5, 0.16, rng)
    clumps = np.exp(0.15 * texture - 0.01)
    share = share * (0.90 + 0.10 * sheets) * clumps + 0.016 * sheets + 0.005 * texture
    subcutaneous = _step(depth_mm - 8.0, 5.0)
    share *= 0.35 + 0.65 * subcutaneous
    return np.clip(share, 0.0, 1.0) * thickness_mm


def _sheets(grid: _Grid, sigma_mm: float, width: float, rng: np.random.Generator) -> np.ndarray:
    """(rows, columns) 0..1: a net of curved lines of uneven width and strength."""
    field, strength = grid.field(sigma_mm, rng), grid.field(2.5 * sigma_mm, rng)
    return np.exp(-((field / width) ** 2)) * np.clip(0.5 + 0.5 * strength, 0.0, 1.5)


def _muscle(grid: _Grid, nipple_mm: float, thickness_mm: float, oblique: bool, rng: np.random.Generator) -> np.ndarray:
    """(rows, columns) mm of pectoral muscle: a wedge with a convex front in MLO, at times a sliver in CC."""
    width = grid.rows * grid.pixel_mm * rng.uniform(0.16, 0.25)
    low = nipple_mm * rng.uniform(0.80, 1.02)
    bulge = rng.uniform(0.0, 7.0)
    sliver = rng.uniform(-9.0, 7.0)
    fibers = grid.curve(1.8, rng)
    bend = grid.curve(25.0, rng)
    if not oblique:
        front = (sliver - 0.004 * (grid.down_mm - nipple_mm) ** 2 + 1.5 * bend - grid.x_mm) * 0.9
        return (0.20 * thickness_mm) * _step(front, 2.0)
    along = np.clip(grid.down_mm / low, 0.0, 1.2)
    front = width * (1.0 - along) + bulge * np.sin(np.pi * np.clip(along, 0.0, 1.0)) + 1.2 * bend - grid.x_mm
    front = front / np.hypot(1.0, width / low)
    deeper = 0.17 + 0.12 * np.clip(front / 35.0, 0.0, 1.0)
    # Fibers run along the muscle's front: the curve over rows is read at a sheared row.
    row = grid.pixels(1.0) * (front * 2.0 + 30.0)
    striped = np.interp(row, np.arange(grid.rows), fibers[:, 0])
    return thickness_mm * deeper * _step(front - 0.5, 2.0) * (1.0 + 0.02 * striped)


def _normal_range_mm(gland_mm: np.ndarray, depth_mm: np.ndarray, muscle_mm: np.ndarray) -> float:
    """Thickness of gland that the lookup table must show: 95th percentile of the tissue without its lesion."""
    normal = (gland_mm + muscle_mm)[::6, ::6][depth_mm[::6, ::6] > 6.0]
    return float(max(np.percentile(normal, 95.0), 13.0))


def _drawn_inward(
    gland_mm: np.ndarray, grid: _Grid, center: tuple[float, float], reach_mm: float, pull: float
) -> np.ndarray:
    """Texture displaced toward the lesion: at r it shows what lay at r (1 + pull exp(-(r / reach)^2))."""
    extent = grid.pixels(2.2 * reach_mm)
    top, left = (max(0, int(middle - extent)) for middle in center)
    bottom, right = (min(size, int(middle + extent) + 1) for middle, size in zip(center, grid.shape, strict=True))
    down = np.arange(top, bottom)[:, None] - center[0]
    over = np.arange(left, right)[None, :] - center[1]
    scale = grid.pixel_mm / reach_mm
    stretch = 1.0 + pull * np.exp(-(down * down + over * over) * scale**2)
    coordinates = np.stack([down * stretch + center[0], over * stretch + center[1]])
    drawn = gland_mm.copy()
    drawn[top:bottom, left:right] = map_coordinates(gland_mm, coordinates, order=1, mode="nearest")
    return drawn


def _mass_projection(
    grid: _Grid, mass: Lesion, center: tuple[float, float], across: np.ndarray, along: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """(rows, columns) mm of mass along each ray, and the silhouette as bool; sampled every 0.5 mm, then interpolated.

    The surface is soft over 1.2 mm to either side; rays are sampled every 1 mm.
    """
    step = 0.5
    half = int(np.ceil((mass.reach_mm + 1.5) / step))
    side = np.arange(-half, half + 1) * step
    up, deep, x = side[::-1][:, None, None], side[None, None, ::2], side[None, :, None]
    y, z = (up * across[i] + deep * along[i] for i in range(2))
    distance = mass.distance_mm(z, y, x)
    coarse = _step(-distance, 1.2).sum(axis=2) * (2.0 * step), distance.min(axis=2)
    first = [max(0, int(np.ceil(middle - grid.pixels(half * step)))) for middle in center]
    past = [min(n, int(middle + grid.pixels(half * step)) + 1) for middle, n in zip(center, grid.shape, strict=True)]
    place = [
        (np.arange(start, stop) - middle) * grid.pixel_mm
        for start, stop, middle in zip(first, past, center, strict=True)
    ]
    window = slice(first[0], past[0]), slice(first[1], past[1])
    chord = np.zeros(grid.shape)
    chord[window] = RectBivariateSpline(side, side, coarse[0], kx=1, ky=1)(*place)
    silhouette = np.zeros(grid.shape, dtype=bool)
    silhouette[window] = RectBivariateSpline(side, side, coarse[1], kx=1, ky=1)(*place) < 0.0
    return chord, silhouette


def _line_volume(lines: np.ndarray, section_mm2: np.ndarray | float, end: float) -> np.ndarray:
    """(lines, points) mm^3 of each point; cross-sections fall from `section_mm2` to the share `end` of it."""
    points = lines.shape[1]
    length = np.linalg.norm(np.diff(lines, axis=1), axis=2).sum(axis=1)
    taper = np.linspace(1.0, end, points)[None, :]
    return np.broadcast_to(section_mm2, length.shape)[:, None] * (length / points)[:, None] * taper


def _splat(grid: _Grid, row: np.ndarray, column: np.ndarray, volume_mm3: np.ndarray) -> np.ndarray:
    """(rows, columns) mm along the ray of material whose points have these volumes, shared among four pixels each."""
    row, column, volume = (np.ravel(values) for values in (row, column, volume_mm3))
    kept = (row >= 0) & (column >= 0) & (row < grid.rows - 1) & (column < grid.columns - 1) & (volume > 0.0)
    row, column, volume = row[kept], column[kept], volume[kept] / grid.pixel_mm**2
    first_row, first_column = row.astype(int), column.astype(int)
    down, over = row - first_row, column - first_column
    index = first_row * grid.columns + first_column
    places = np.concatenate([index, index + 1, index + grid.columns, index + grid.columns + 1])
    shares = np.concatenate([(1 - down) * (1 - over), (1 - down) * over, down * (1 - over), down * over])
    path = np.bincount(places, shares * np.tile(volume, 4), minlength=grid.rows * grid.columns)
    return path.reshape(grid.shape)


def _detected(
    line_integral: np.ndarray, grid: _Grid, scanner: Scanner, thickness_mm: float, rng: np.random.Generator
) -> np.ndarray:
    """Line integral as measured: scatter (Gaussian, 12 mm), blur, and quantum noise of the counted quanta."""
    primary = np.exp(-line_integral)
    blur = grid.pixels(scanner.blur_mm)
    if blur > 0.15:
        primary = gaussian_filter(primary, blur, truncate=3.0)
    average = np.exp(-0.06 * thickness_mm)
    primary = primary / average
    scatter = scanner.scatter_to_primary * _slow(np.minimum(primary, 2.0), grid.pixels(12.0))
    signal = primary + scatter
    quanta = scanner.quanta_per_mm2 * grid.pixel_mm**2
    signal += white_noise(signal.shape, rng) * np.sqrt(signal / quanta)
    return -np.log(np.maximum(signal, 1e-3) * average)


def _presented(
    line_integral: np.ndarray,
    fat_path: np.ndarray,
    depth_mm: np.ndarray,
    window: float,
    grid: _Grid,
    scanner: Scanner,
) -> np.ndarray:
    """(rows, columns) uint16: edge equalized, local contrast raised, sigmoid lookup table, air black."""
    inside = _step(depth_mm - 0.3, 1.0)
    flat = line_integral - scanner.equalization * fat_path
    flat -= (1.0 - scanner.equalization) * fat_path.max()
    weight = _slow(inside, grid.pixels(scanner.local_mm))
    local = _slow(flat * inside, grid.pixels(scanner.local_mm)) / np.maximum(weight, 0.05)
    flat += scanner.local_gain * (flat - local)
    smooth = gaussian_filter(flat * inside, grid.pixels(EDGE_MM), truncate=3.0)
    smooth /= np.maximum(gaussian_filter(inside, grid.pixels(EDGE_MM), truncate=3.0), 0.05)
    flat += scanner.edge_gain * inside * (flat - smooth)
    relative = (flat / window - scanner.level) / scanner.window
    gray = 4095.0 * inside / (1.0 + np.exp(-4.0 * relative))
    return np.rint(gray).astype(np.uint16)


def _slow(image: np.ndarray, sigma_px: float) -> np.ndarray:
    """Wide Gaussian blur: means over blocks, blurred, interpolated linearly."""
    step = max(1, int(sigma_px / 2.5))
    if step == 1:
        return gaussian_filter(image, sigma_px, truncate=3.0, mode="nearest")
    padded = np.pad(image, [(0, -extent % step) for extent in image.shape], mode="edge")
    rows, columns = (extent // step for extent in padded.shape)
    coarse = padded.reshape(rows, step, columns, step).mean(axis=(1, 3))
    coarse = gaussian_filter(coarse, sigma_px / step, truncate=3.0, mode="nearest")
    for axis, extent in enumerate(image.shape):
        position = np.clip((np.arange(extent) + 0.5) / step - 0.5, 0.0, coarse.shape[axis] - 1.0)
        below = np.minimum(position.astype(int), coarse.shape[axis] - 2)
        part = position - below
        part = part[:, None] if axis == 0 else part[None, :]
        low, high = np.take(coarse, below, axis), np.take(coarse, below + 1, axis)
        coarse = low + part * (high - low)
    return coarse
