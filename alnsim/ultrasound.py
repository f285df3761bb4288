"""B-mode ultrasound stills of a breast lesion: traits to echo amplitudes to an 8-bit image, with its lesion mask.

Which patient has which traits is decided in `patients`; files are written by `build`.

The physics in words, with sources and what is unlike reality: MODEL.md in this folder.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter, gaussian_filter1d

from alnsim.shapes import PixelGrid, white_noise
from alnsim.traits import trait_scores

FWHM_PER_SIGMA = 2.3548
BEAM_BROADENING = 1.5
"""Gaussian sigma, in units of the focal beam's, that is added to the lateral beam at the ends of the field (our choice)."""

REFERENCE_MHZ = 12.0
"""Frequency at which `LesionAppearance.excess_attenuation_db_per_cm` holds."""


@dataclass(frozen=True)
class Scanner:
    """One center's machine. Lengths in mm, levels in dB, frequency in MHz."""

    center: str
    depth_mm: float
    deep_depth_mm: float
    axial_fwhm_mm: float
    lateral_fwhm_mm: float
    looks: int
    frequency_mhz: float
    dynamic_range_db: float
    gain_db: float
    gain_sd_db: float
    noise_db: float
    edge_smoothing_mm: float


SCANNERS = {
    "primary": Scanner("primary", 38.0, 50.0, 0.22, 0.50, 3, 12.0, 62.0, 0.0, 1.5, -46.0, 0.03),
    "external": Scanner("external", 42.0, 54.0, 0.26, 0.60, 3, 9.0, 56.0, 2.0, 2.0, -38.0, 0.04),
}
"""Our choice: the external machine is older (lower frequency, wider beam, narrower range, more gain and noise). Axial and
lateral widths and edge smoothing as they bring grain and noise nearest to BrEaST's stills (`tools/realism.py`)."""


@dataclass(frozen=True)
class LesionAppearance:
    """What the still shows of one lesion: lengths in mm, levels in dB against the gland, attenuation both ways at 12 MHz.

    lobulation: standard deviation of the relative radius; spiculation_mm: mean length of the spikes.
    """

    diameter_mm: float
    height_to_width: float
    lobulation: float
    spiculation_mm: float
    contrast_db: float
    heterogeneity_db: float
    excess_attenuation_db_per_cm: float
    halo_mm: float


BLACK_BELOW_GLAND = 0.38
"""Black lies this share of the dynamic range below the root mean square echo of gland (set by eye and gray-level histogram)."""

TRAITS = ("irregularity", "shadowing", "hypoechogenicity", "halo", "heterogeneity", "orientation", "size")
"""Standard normal scores of the image, in the order of `appearance_from_traits`; higher looks more malignant (size: larger)."""


def appearance_from_traits(traits: np.ndarray) -> LesionAppearance:
    """Physical appearance from seven standard normal trait scores, in the order of `TRAITS`.

    Every map is strictly increasing over +-2.5 standard deviations, so nothing but the outermost 1 % is lost.
    Lesion diameters have median 14.5 mm and 95 % between about 8 and 26 mm (our choice, near T1-T2 disease).
    """
    irregularity, shadowing, dark, halo, uneven, orientation, size = np.array(trait_scores(traits, TRAITS))
    return LesionAppearance(
        diameter_mm=14.5 * np.exp(0.30 * size),
        height_to_width=0.76 * np.exp(0.17 * orientation),
        lobulation=0.085 * np.exp(0.45 * irregularity),
        spiculation_mm=1.1 * np.exp(0.60 * irregularity),
        contrast_db=-10.0 - 2.8 * dark,
        heterogeneity_db=2.6 * np.exp(0.35 * uneven),
        excess_attenuation_db_per_cm=3.0 + 3.8 * shadowing,
        halo_mm=1.1 * np.exp(0.45 * halo),
    )


@dataclass(frozen=True)
class BModeImage:
    """pixels: (rows, columns) uint8, row 0 at the skin; mask: (rows, columns) bool, the lesion; spacing_mm: (row, column)."""

    pixels: np.ndarray
    mask: np.ndarray
    spacing_mm: tuple[float, float]


def simulate_bmode(
    appearance: LesionAppearance, scanner: Scanner, rows: int, columns: int, rng: np.random.Generator
) -> BModeImage:
    """One still of the lesion's largest plane; rows, columns: as for `Grid.of`."""
    grid = Grid.of(appearance, scanner, rows, columns)
    pixel_mm = grid.pixel_mm
    anatomy = tissue(grid, rng)
    lesion = _lesion(grid, appearance, anatomy, rng)
    level_db = anatomy.level_db.copy()
    inside = lesion.inside
    outer = np.clip(lesion.distance_mm / max(appearance.halo_mm, 0.2), 0.0, None)
    rim = np.exp(-(outer**2)) * (1.0 - inside)
    level_db += rim * (4.5 - 0.6 * np.minimum(level_db, 0.0))
    lesion_db = appearance.contrast_db + appearance.heterogeneity_db * lesion.texture
    level_db = (1.0 - inside) * level_db + inside * lesion_db
    specular_db = anatomy.specular_db - 45.0 * inside - 8.0 * rim
    harder = scanner.frequency_mhz / REFERENCE_MHZ
    excess = inside * harder * appearance.excess_attenuation_db_per_cm + anatomy.excess_db_per_cm * (1.0 - inside)
    loss_db = np.cumsum(excess, axis=0) * (pixel_mm / 10.0)
    spread = grid.pixels(scanner.lateral_fwhm_mm * 0.8)
    loss_db = gaussian_filter1d(loss_db, spread, axis=1, mode="nearest")
    amplitude = decibel(level_db - loss_db)
    specular = decibel(specular_db - loss_db)
    envelope = _envelope(amplitude, specular, scanner, grid, rng)
    image_db = 20.0 * np.log10(np.maximum(envelope, 1e-6))
    gain_db = scanner.gain_db + scanner.gain_sd_db * rng.standard_normal()
    image_db += gain_db + compensation_residual(grid, rng)
    gray = 255.0 * (image_db + BLACK_BELOW_GLAND * scanner.dynamic_range_db) / scanner.dynamic_range_db
    gray = gaussian_filter(gray, grid.pixels(scanner.edge_smoothing_mm))
    pixels = np.clip(np.rint(gray), 0, 255).astype(np.uint8)
    return BModeImage(pixels, lesion.inside > 0.5, (pixel_mm, pixel_mm))


class Grid(PixelGrid):
    """Depth down, lateral position across, and random fields on them."""

    @classmethod
    def of(cls, appearance: LesionAppearance, scanner: Scanner, rows: int, columns: int) -> Grid:
        """The depth of the field follows the size of the lesion, as a sonographer sets it, and pixels are square. Raises
        ValueError for fewer than 96 rows or columns."""
        if min(rows, columns) < 96:
            raise ValueError(f"the grid is {rows} x {columns}; at least 96 x 96 pixels are needed")
        depth_mm = scanner.deep_depth_mm if appearance.diameter_mm > 20.0 else scanner.depth_mm
        return cls(rows, columns, depth_mm / rows)

    @property
    def depth_mm(self) -> np.ndarray:
        """(rows, 1) depth of the rows."""
        return self.down_mm

    def field(self, axial_mm: float, lateral_mm: float, rng: np.random.Generator) -> np.ndarray:
        """(rows, columns) smooth random field, mean 0 and variance 1, correlation lengths (Gaussian sigma) in mm.

        Drawn on a coarser grid and interpolated when the lengths allow: the same field, several times faster.
        """
        steps = [max(1, int(length / self.pixel_mm / 2.0)) for length in (axial_mm, lateral_mm)]
        sigma = [self.pixels(length) / step for length, step in zip((axial_mm, lateral_mm), steps, strict=True)]
        shape = [extent // step + 3 for extent, step in zip((self.rows, self.columns), steps, strict=True)]
        coarse = gaussian_filter(white_noise(shape, rng), sigma, mode="wrap")
        coarse *= np.sqrt(4.0 * np.pi * sigma[0] * sigma[1])
        wide = np.ascontiguousarray(_stretched(coarse.T, steps[1], self.columns).T)
        return _stretched(wide, steps[0], self.rows)

    def curve(self, lateral_mm: float, rng: np.random.Generator) -> np.ndarray:
        """(1, columns) smooth random curve, mean 0 and variance about 1."""
        sigma = self.pixels(lateral_mm)
        margin = int(3 * sigma)
        noise = rng.standard_normal(self.columns + 2 * margin)
        smooth = gaussian_filter1d(noise, sigma) * np.sqrt(2.0 * np.sqrt(np.pi) * sigma)
        return smooth[None, margin : margin + self.columns]


def _stretched(values: np.ndarray, step: int, length: int) -> np.ndarray:
    """The first axis interpolated linearly to `step` times as many samples, cut to `length`."""
    if step == 1:
        return values[:length]
    position = np.arange(length) / step
    below = position.astype(int)
    part = (position - below)[:, None]
    low, high = values[below], values[below + 1]
    high -= low
    high *= part
    low += high
    return low


def decibel(level_db: np.ndarray) -> np.ndarray:
    return np.exp(level_db * (np.log(10.0) / 20.0))


def step(distance_mm: np.ndarray, width_mm: float) -> np.ndarray:
    return 0.5 * (1.0 + np.tanh(distance_mm / width_mm))


def line(distance_mm: np.ndarray, width_mm: float) -> np.ndarray:
    return np.exp(-0.5 * (distance_mm / width_mm) ** 2)


@dataclass(frozen=True)
class Anatomy:
    level_db: np.ndarray
    specular_db: np.ndarray
    excess_db_per_cm: np.ndarray
    gland_top_mm: float
    fascia_mm: float


def _interfaces(field: np.ndarray, pixel_mm: float, width_mm: float) -> np.ndarray:
    """(rows, columns) 0..1: bright along the field's zero lines, most where they lie across the beam."""
    down, across = np.gradient(field, pixel_mm)
    down *= down
    slope_squared = down + across * across + 1e-18
    return np.exp(field * field / slope_squared * (-0.5 / width_mm**2)) * (down / slope_squared)


def tissue(grid: Grid, rng: np.random.Generator) -> Anatomy:
    depth = grid.depth_mm
    full = grid.rows * grid.pixel_mm
    skin = rng.uniform(1.4, 2.2) + 0.10 * grid.curve(8.0, rng)
    gland_top_mm = rng.uniform(0.14, 0.30) * full
    gland_top = gland_top_mm + 1.6 * grid.curve(5.0, rng)
    fascia_mm = rng.uniform(0.66, 0.88) * full
    tilt = rng.normal(0.0, 0.05) * (grid.across_mm - grid.across_mm.mean())
    fascia = fascia_mm + 1.3 * grid.curve(8.0, rng) + tilt
    in_skin = step(skin - depth, 0.12)
    below_fat = step(depth - gland_top, 0.6)
    below_fascia = step(depth - fascia, 0.35)
    in_fat = (1.0 - in_skin) * (1.0 - below_fat)
    in_gland = below_fat * (1.0 - below_fascia)
    mottle = grid.field(0.8, 2.2, rng)
    patches = grid.field(1.8, 4.5, rng)
    fibers = grid.field(0.26, 3.2, rng)
    fattiness = rng.normal(0.0, 0.5)
    islands = step(patches - 0.5 + fattiness, 0.30)
    gland_db = -1.5 + 2.4 * mottle + 3.0 * fibers - 8.0 * islands
    fat_db = -11.0 + 2.2 * mottle + 1.6 * fibers + 3.0 * islands
    muscle_db = -8.0 + 3.6 * fibers + 2.0 * patches
    level = in_fat * fat_db + in_gland * gland_db + below_fascia * muscle_db
    septa = _interfaces(grid.field(1.3, 3.6, rng), grid.pixel_mm, 0.13)
    bundles = _interfaces(grid.field(0.5, 2.6, rng), grid.pixel_mm, 0.10)
    borders = _interfaces(patches - 0.5 + fattiness, grid.pixel_mm, 0.14)
    patchy = np.exp(1.0 * grid.field(1.0, 2.4, rng) - 0.3)
    level = level + 6.0 * septa * (in_fat + in_gland) + 4.0 * bundles * (in_gland + below_fascia)
    bright = 1.6 * septa * in_fat + (1.2 * septa + 1.3 * bundles + 1.7 * borders) * in_gland
    bright = (bright + 1.0 * bundles * below_fascia) * patchy
    bright = bright + 2.2 * line(depth - 0.25, 0.16) + 1.3 * line(depth - skin, 0.13)
    bright = bright + 2.2 * line(depth - fascia, 0.20) * np.exp(0.6 * grid.curve(3.0, rng))
    specular_db = 20.0 * np.log10(np.maximum(bright, 1e-3)) + 3.0
    shadows = np.clip(grid.curve(1.3, rng) - 0.8, 0.0, None)
    excess = 3.0 * shadows * step(depth - gland_top, 1.0) + 2.5 * below_fascia
    return Anatomy(level, specular_db, excess, float(gland_top_mm), float(fascia_mm))


@dataclass(frozen=True)
class _Lesion:
    inside: np.ndarray
    distance_mm: np.ndarray
    texture: np.ndarray


def place_lesion(
    grid: Grid, appearance: LesionAppearance, anatomy: Anatomy, margin_mm: float, rng: np.random.Generator
) -> tuple[float, float, float, float, float]:
    """Width, height, row and column of the middle (mm), and turn (rad): between fat and fascia, wholly inside the field."""
    width = appearance.diameter_mm / max(1.0, appearance.height_to_width)
    height = width * appearance.height_to_width
    field_mm, span_mm = grid.rows * grid.pixel_mm, grid.columns * grid.pixel_mm
    middle = 0.5 * (anatomy.gland_top_mm + anatomy.fascia_mm) + rng.normal(0.0, 1.2)
    row = np.clip(middle, height / 2 + 2.6, max(field_mm - height / 2 - 3.0, height / 2 + 2.6))
    free = max(span_mm / 2 - width / 2 - margin_mm, 0.0)
    column = span_mm / 2 + np.clip(rng.normal(0.0, 2.5), -free, free)
    return width, height, row, column, rng.normal(0.0, 0.18)


def _lesion(grid: Grid, appearance: LesionAppearance, anatomy: Anatomy, rng: np.random.Generator) -> _Lesion:
    """Smooth membership 0..1, distance outside the outline in mm (0 inside; radial, approximate), and internal texture."""
    width, height, row_mm, column_mm, turn = place_lesion(grid, appearance, anatomy, 3.0, rng)
    down = grid.depth_mm - row_mm
    across = grid.across_mm - column_mm
    along, over = np.cos(turn) * across + np.sin(turn) * down, -np.sin(turn) * across + np.cos(turn) * down
    radius = np.sqrt(along**2 + over**2) + 1e-6
    angle = np.arctan2(over, along)
    ellipse = 0.5 * width * height * radius / np.sqrt((height * along) ** 2 + (width * over) ** 2 + 1e-12)
    ring = np.linspace(-np.pi, np.pi, 721)
    outline = np.interp(angle, ring, draw_outline(ring, appearance, rng))
    spikes = np.interp(angle, ring, draw_spikes(ring, appearance, rng))
    edge = ellipse * outline + spikes
    distance = radius - edge
    blur_mm = 0.20 + 0.16 * appearance.halo_mm
    texture = grid.field(0.8, 1.0, rng)
    return _Lesion(step(-distance, blur_mm), np.clip(distance, 0.0, None), texture)


def draw_outline(ring: np.ndarray, appearance: LesionAppearance, rng: np.random.Generator) -> np.ndarray:
    """Relative radius along the angle: harmonics 2-7 with total standard deviation `lobulation`."""
    orders = np.arange(2, 8)
    weight = 1.0 / orders**0.5
    weight *= np.sqrt(2.0) * appearance.lobulation / np.sqrt((weight**2).sum())
    phase = rng.uniform(0.0, 2.0 * np.pi, orders.size)
    wave = (weight[:, None] * np.cos(orders[:, None] * ring[None, :] + phase[:, None])).sum(axis=0)
    return np.clip(1.0 + wave, 0.45, 1.6)


def draw_spikes(ring: np.ndarray, appearance: LesionAppearance, rng: np.random.Generator) -> np.ndarray:
    """Extra radius in mm along the angle: 9 narrow spikes of mean length `spiculation_mm`."""
    centers = rng.uniform(-np.pi, np.pi, 9)
    lengths = appearance.spiculation_mm * rng.gamma(1.5, 1.0 / 1.5, centers.size)
    widths = rng.uniform(0.06, 0.16, centers.size)
    gap = np.abs(np.angle(np.exp(1j * (ring[None, :] - centers[:, None]))))
    return (lengths[:, None] * np.exp(-gap / widths[:, None])).max(axis=0)


def _envelope(
    amplitude: np.ndarray, specular: np.ndarray, scanner: Scanner, grid: Grid, rng: np.random.Generator
) -> np.ndarray:
    """Mean envelope of the compounded looks, with receiver noise; 1.0 is the root mean square of gland at 0 dB."""
    depth = grid.depth_mm
    focus = 0.45 * grid.rows * grid.pixel_mm
    away = np.clip(np.abs(depth - focus) / focus, 0.0, 1.0) ** 2
    axial = grid.pixels(scanner.axial_fwhm_mm / FWHM_PER_SIGMA)
    narrow = grid.pixels(scanner.lateral_fwhm_mm / FWHM_PER_SIGMA)
    noise_level = decibel(scanner.noise_db + 14.0 * depth / depth.max())
    coherent = gaussian_filter(specular, (axial, 2.0 * narrow))
    noise = white_noise((2, *amplitude.shape), rng) * (noise_level * np.sqrt(0.5))
    total = np.zeros_like(amplitude)
    for look in range(scanner.looks):
        total += _look(amplitude, coherent, away, np.roll(noise, 37 * look, axis=2), axial, narrow, rng)
    return total / scanner.looks


def _look(
    amplitude: np.ndarray,
    coherent: np.ndarray,
    away: np.ndarray,
    noise: np.ndarray,
    axial: float,
    narrow: float,
    rng: np.random.Generator,
) -> np.ndarray:
    """Envelope of one look: scatterers through the point-spread function (sigmas in pixels), echoes of interfaces, noise."""
    scatterers = white_noise((2, *amplitude.shape), rng) * amplitude
    near = gaussian_filter1d(scatterers, axial, axis=1, truncate=3.0)
    near = gaussian_filter1d(near, narrow, axis=2, truncate=3.0)
    near *= np.sqrt(2.0 * np.pi * axial * narrow)
    wide = gaussian_filter1d(near, BEAM_BROADENING * narrow, axis=2, truncate=3.0)
    wide *= (1.0 + BEAM_BROADENING**2) ** 0.25
    wide -= near
    wide *= away
    near += wide
    near += noise
    near[0] += coherent
    near *= near
    return np.sqrt(near[0] + near[1])


def compensation_residual(grid: Grid, rng: np.random.Generator) -> np.ndarray:
    """(rows, 1) dB: what the sonographer's time-gain sliders leave over, a slow wave and a fall in the far field."""
    depth = grid.depth_mm / grid.depth_mm.max()
    return 1.2 * np.sin(2.0 * np.pi * (depth + rng.uniform())) - rng.uniform(4.0, 16.0) * np.clip(
        depth - 0.5, 0.0, None
    )
