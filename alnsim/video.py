"""Ultrasound sweeps: the probe travels across a breast lesion while its surroundings slide, as 8-bit frames with masks.

The physics in words, with sources and what is unlike reality: MODEL.md in this folder.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.ndimage import gaussian_filter, gaussian_filter1d

from alnsim import ultrasound as still
from alnsim.shapes import white_noise
from alnsim.traits import trait_scores
from alnsim.ultrasound import Anatomy, Grid, LesionAppearance, Scanner, decibel, step

SWEEP_TRAITS = ("lymphatics", "tethering", "satellites")
"""Standard normal scores of the sweep, in the order of `sweep_appearance_from_traits`; higher is more suspicious."""

ELEVATIONAL_TO_LATERAL_BEAM = 3.0
"""Width of the beam across the plane over its width within: a linear array has one fixed lens there (our choice)."""

SWEEP_MS = 3000.0
"""Duration of every sweep, whatever the number of frames kept of it (our choice)."""

MARGIN_MM = 8.0
"""How far beside the image tissue is drawn: more than the largest slide and drift together."""

MAX_SATELLITES = 6
LYMPHATIC_REACH_MM = 5.0
SATELLITE_DB = -17.0
"""Echo of a satellite against gland: as dark as a clearly hypoechoic lesion."""

SATELLITE_BLUR_MM = 0.5
RING = 721
"""Directions at which a lesion's outline is tabulated."""

NODE_SPACING = 1.5
"""Distance of the random numbers behind a smooth field, in units of its Gaussian sigma."""


@dataclass(frozen=True)
class SweepAppearance:
    """What only the sweep shows of one lesion, or shows beyond its archived still.

    lymphatic_db: how much darker than the tissue the channels round the lesion are; slip_mm: largest sideways slide of
    the surroundings against the lesion, to either side; satellites: foci off the key plane, the last one faint by the
    fraction (2.4: two clear ones and one at 40 % of their contrast), at most 6.
    """

    lymphatic_db: float
    slip_mm: float
    satellites: float


def sweep_appearance_from_traits(traits: np.ndarray) -> SweepAppearance:
    """Physical appearance from three standard normal scores, in the order of `SWEEP_TRAITS`.

    Strictly increasing over +-2.5 in lymphatics and satellites, strictly decreasing in tethering: the tethered lesion
    slides less. Raises ValueError for another shape. The ranges are our choice.
    """
    lymphatics, tethering, satellites = trait_scores(traits, SWEEP_TRAITS)
    return SweepAppearance(9.0 + 3.5 * lymphatics, 1.90 - 0.72 * tethering, 3.0 + 1.15 * satellites)


@dataclass(frozen=True)
class Sweep:
    """One sweep through a lesion, in the order it was recorded.

    frames: (T, rows, columns) uint8, row 0 at the skin; masks: (T, rows, columns) bool, the lesion, empty where the
    plane misses it; key_frame: frame of the largest mask; spacing_mm: (row, column); elevation_mm: (T,) position of the
    plane, 0 in the lesion's middle; slip_mm: (T,) how far the surroundings lie to the right of where they rest against
    the lesion.
    """

    frames: np.ndarray
    masks: np.ndarray
    key_frame: int
    spacing_mm: tuple[float, float]
    frame_time_ms: float
    elevation_mm: np.ndarray
    slip_mm: np.ndarray


def simulate_sweep(
    appearance: LesionAppearance,
    sweep: SweepAppearance,
    scanner: Scanner,
    rows: int,
    columns: int,
    frames: int,
    rng: np.random.Generator,
) -> Sweep:
    """One sweep of the probe through the lesion and out of it.

    rows, columns: as for `ultrasound.Grid.of`; frames: 8-256 (16-64 are usual), else ValueError. With the same
    generator, sweeps that differ in one quantity of `sweep` share all else: path, tissue, lesion and noise.
    """
    if not 8 <= frames <= 256:
        raise ValueError(f"{frames} frames; 8-256 can be simulated")
    grid = Grid.of(appearance, scanner, rows, columns)
    tissue_seed, lesion_seed, texture_seed, channel_seed, satellite_seed, speckle_seed = rng.integers(2**62, size=6)
    half_length_mm = 0.5 * appearance.diameter_mm * rng.uniform(0.90, 1.20)
    path = _probe_path(frames, half_length_mm, sweep.slip_mm, rng)
    half_width_mm = 0.5 * columns * grid.pixel_mm
    span_mm = float(np.abs(path.elevation_mm).max() + np.abs(path.yaw).max() * half_width_mm)
    planes = [_lesion_plane(grid, path, frame, span_mm) for frame in range(frames)]
    same_tissue = _Replay(np.random.default_rng(tissue_seed))
    tissues = [
        still.tissue(plane.displaced(slip), same_tissue.again())
        for plane, slip in zip(planes, path.slip_mm, strict=True)
    ]
    lesion_rng = np.random.default_rng(lesion_seed)
    lesion = _draw_lesion(grid, appearance, half_length_mm, tissues[0], lesion_rng)
    satellites = _draw_satellites(grid, lesion, sweep.satellites, tissues[0], np.random.default_rng(satellite_seed))
    same_texture = _Replay(np.random.default_rng(texture_seed))
    same_channels = _Replay(np.random.default_rng(channel_seed))
    beam = _Beam.of(scanner, grid)
    scatterers = _Scatterers.draw(beam, grid, scanner.looks, span_mm, np.random.default_rng(speckle_seed))
    lesion_excess = scanner.frequency_mhz / still.REFERENCE_MHZ * appearance.excess_attenuation_db_per_cm
    gain_db = scanner.gain_db + scanner.gain_sd_db * rng.standard_normal() + still.compensation_residual(grid, rng)
    pixels = np.empty((frames, rows, columns), np.uint8)
    masks = np.empty((frames, rows, columns), bool)
    for frame, (plane, tissue) in enumerate(zip(planes, tissues, strict=True)):
        section = lesion.section(plane, beam.elevational_mm, appearance.halo_mm)
        masks[frame] = section.distance_mm < 0.0
        texture = plane.field(0.8, 1.0, same_texture.again())
        swollen, channel = _lymphatics(plane, tissue, section, same_channels.again())
        wet_db = sweep.lymphatic_db * swollen
        level_db = tissue.level_db + wet_db * (0.35 - 1.35 * channel)
        specular_db = tissue.specular_db - 2.0 * wet_db * channel
        level_db, specular_db = _with_lesion(level_db, specular_db, section, appearance, texture)
        for satellite in satellites:
            level_db, specular_db = satellite.added(plane, level_db, specular_db)
        excess = section.inside * lesion_excess + tissue.excess_db_per_cm * (1.0 - section.inside)
        loss_db = np.cumsum(excess, axis=0) * (grid.pixel_mm / 10.0)
        loss_db = gaussian_filter1d(loss_db, grid.pixels(scanner.lateral_fwhm_mm * 0.8), axis=1, mode="nearest")
        own = section.distance_mm < 0.5 * appearance.halo_mm
        moved = scatterers.at(plane, float(path.slip_mm[frame]), own)
        noise = white_noise((2, rows, columns), rng)
        envelope = beam.envelope(decibel(level_db - loss_db), decibel(specular_db - loss_db), moved, noise)
        image_db = 20.0 * np.log10(np.maximum(envelope, 1e-6)) + gain_db
        gray = 255.0 * (image_db / scanner.dynamic_range_db + still.BLACK_BELOW_GLAND)
        gray = gaussian_filter(gray, grid.pixels(scanner.edge_smoothing_mm))
        pixels[frame] = np.clip(np.rint(gray), 0, 255).astype(np.uint8)
    key_frame, spacing_mm = int(masks.sum(axis=(1, 2)).argmax()), (grid.pixel_mm, grid.pixel_mm)
    return Sweep(pixels, masks, key_frame, spacing_mm, SWEEP_MS / frames, path.elevation_mm, path.slip_mm)


@dataclass(frozen=True)
class _Path:
    """(T,) each: the plane's elevation and yaw (rad), the strain in depth, the common drift and the slide, both in mm."""

    elevation_mm: np.ndarray
    yaw: np.ndarray
    strain: np.ndarray
    drift_mm: np.ndarray
    slip_mm: np.ndarray


def _probe_path(frames: int, half_length_mm: float, slip_mm: float, rng: np.random.Generator) -> _Path:
    """A hand's sweep, in either direction. What is drawn does not depend on `slip_mm`, which only scales the slide."""
    time = (np.arange(frames) + 0.5) / frames

    def wave(slow: float, fast: float) -> np.ndarray:
        """Two sines of random phase and `slow` to `fast` cycles in the sweep, variance 1 together."""
        cycles = rng.uniform(slow, fast, 2)
        phase = rng.uniform(0.0, 2.0 * np.pi, 2)
        return np.sin(2.0 * np.pi * (cycles * time[:, None] + phase)).sum(axis=1)

    traveled = np.cumsum(np.exp(0.18 * wave(0.6, 1.6)))
    traveled = (traveled - traveled[0]) / (traveled[-1] - traveled[0])
    before, behind = half_length_mm + rng.uniform(3.5, 5.5, 2)
    elevation = traveled * (before + behind) - before + 0.08 * rng.standard_normal(frames)
    direction = 1.0 if rng.uniform() < 0.5 else -1.0
    yaw = 0.035 * wave(0.5, 1.2)
    strain = 0.012 * wave(0.8, 2.2)
    drift = 0.5 * wave(0.6, 1.8)
    rocking = np.sin(2.0 * np.pi * (rng.uniform(1.6, 2.4) * time + rng.uniform()))
    return _Path(direction * elevation, yaw, strain, drift, slip_mm * rocking)


class _Replay:
    """A generator that can repeat what it drew, so that each frame meets the same random numbers at no cost."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._rng = rng
        self._drawn: list[Any] = []
        self._next = 0

    def again(self) -> _Replay:
        self._next = 0
        return self

    def uniform(self, low: float, high: float) -> float:
        return self._draw(lambda: self._rng.uniform(low, high))

    def normal(self, mean: float, sd: float) -> float:
        return self._draw(lambda: self._rng.normal(mean, sd))

    def standard_normal(self, shape: tuple[int, ...]) -> np.ndarray:
        return self._draw(lambda: self._rng.standard_normal(shape))

    def _draw(self, fresh: Callable[[], Any]) -> Any:
        if self._next == len(self._drawn):
            self._drawn.append(fresh())
        self._next += 1
        return self._drawn[self._next - 1]


@dataclass(frozen=True)
class _Plane(Grid):
    """One frame's plane through the tissue. Its fields and curves are cuts of fields with a third dimension.

    With a generator that repeats its draws, every frame cuts the same field. elevation_mm: (1, columns);
    displacement_mm: of the tissue to the right; span_mm: largest elevation of any column in any frame.
    """

    elevation_mm: np.ndarray
    displacement_mm: float
    strain: float
    span_mm: float

    def displaced(self, slip_mm: float) -> _Plane:
        """The same plane through tissue that lies `slip_mm` further to the right."""
        return replace(self, displacement_mm=self.displacement_mm + float(slip_mm))

    @property
    def depth_mm(self) -> np.ndarray:
        """(rows, 1) depth the tissue shown would have at rest."""
        return super().depth_mm * (1.0 + self.strain)

    def field(self, axial_mm: float, lateral_mm: float, rng: np.random.Generator) -> np.ndarray:
        """(rows, columns) cut, mean 0 and variance 1 everywhere, correlation lengths (Gaussian sigma) in mm."""
        nodes = int(self.rows * self.pixel_mm * 1.1 / (NODE_SPACING * axial_mm)) + 5
        coarse = np.ascontiguousarray(self._columns(lateral_mm, nodes, rng).T)
        return _weighted(coarse, *_taps(self.depth_mm[:, 0], axial_mm))

    def curve(self, lateral_mm: float, rng: np.random.Generator) -> np.ndarray:
        """(1, columns) cut of a random surface, mean 0 and variance 1."""
        return self._columns(lateral_mm, 1, rng).T

    def _columns(self, lateral_mm: float, nodes: int, rng: np.random.Generator) -> np.ndarray:
        """(columns, nodes) values at the coarse depths, cut at this plane's elevation and displacement."""
        elevational_mm = max(lateral_mm, 3.0)
        step_mm = NODE_SPACING * lateral_mm
        reach_mm = self.span_mm + 1.0
        along = int((self.columns * self.pixel_mm + 2.0 * MARGIN_MM) / step_mm) + 5
        across = int(2.0 * reach_mm / (NODE_SPACING * elevational_mm)) + 5
        values = rng.standard_normal((along, across, nodes))
        origin_mm = self.displacement_mm - MARGIN_MM
        place_mm = origin_mm + step_mm * (np.arange(along) - 1.0)
        elevation_mm = np.interp(place_mm, self.across_mm[0], self.elevation_mm[0])
        nodes_across, weights = _taps(elevation_mm + reach_mm, elevational_mm)
        plane = (values[np.arange(along), nodes_across] * weights[:, :, None]).sum(axis=0)
        return _weighted(plane, *_taps(self.across_mm[0] - origin_mm, lateral_mm))


def _taps(position_mm: np.ndarray, sigma_mm: float) -> tuple[np.ndarray, np.ndarray]:
    """(4, n) nodes round each position (n,) >= 0 and their Gaussian weights, of unit norm: variance 1 everywhere."""
    place = position_mm / (NODE_SPACING * sigma_mm)
    first = place.astype(np.intp)
    weights = place - first - np.arange(-1, 3)[:, None]
    weights *= weights
    weights *= -0.5 * NODE_SPACING**2
    np.exp(weights, out=weights)
    weights /= np.sqrt(np.einsum("kn,kn->n", weights, weights))
    return first + np.arange(4)[:, None], weights


def _weighted(nodes: np.ndarray, taps: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """(n, m) sums over the taps of rows of nodes (k, m); taps, weights: (4, n)."""
    total = nodes.take(taps[0], axis=0)
    total *= weights[0, :, None]
    part = np.empty_like(total)
    for tap, weight in zip(taps[1:], weights[1:], strict=True):
        nodes.take(tap, axis=0, out=part, mode="clip")
        part *= weight[:, None]
        total += part
    return total


def _lesion_plane(grid: Grid, path: _Path, frame: int, span_mm: float) -> _Plane:
    """The plane as the lesion sees it: displaced by the common drift only."""
    sideways = grid.across_mm - 0.5 * grid.columns * grid.pixel_mm
    elevation = path.elevation_mm[frame] + path.yaw[frame] * sideways
    drift, strain = float(path.drift_mm[frame]), float(path.strain[frame])
    return _Plane(grid.rows, grid.columns, grid.pixel_mm, elevation, drift, strain, span_mm)


@dataclass(frozen=True)
class _Section:
    """(rows, columns) each: membership 0..1 and distance to the outline in mm (negative inside; radial, approximate)."""

    inside: np.ndarray
    distance_mm: np.ndarray


@dataclass(frozen=True)
class _Lesion:
    """Lengths in mm. waves: (2, ring) relative deviations of the radius; spikes: (3, ring) mm, middle and either side."""

    row_mm: float
    column_mm: float
    width_mm: float
    height_mm: float
    half_length_mm: float
    turn: float
    waves: np.ndarray
    spikes: np.ndarray

    def section(self, plane: _Plane, elevational_mm: float, halo_mm: float) -> _Section:
        """The lesion in this plane. elevational_mm: sigma of the beam across the plane."""
        along_length = plane.elevation_mm / self.half_length_mm
        middle = float(along_length.mean())
        share = np.sqrt(np.clip(1.0 - along_length**2, 0.0, None))
        beyond = np.clip(np.abs(along_length) - 1.0, 0.0, None) * self.half_length_mm
        turn = middle * np.pi / 3.0
        outline = np.clip(1.0 + np.cos(turn) * self.waves[0] + np.sin(turn) * self.waves[1], 0.45, 1.6)
        window = np.exp(-8.0 * (middle - np.array([0.0, -0.7, 0.7])) ** 2)
        spikes = (window[:, None] * self.spikes).max(axis=0)
        ellipse = self._ellipse()
        down = plane.depth_mm - self.row_mm
        across = plane.across_mm - (self.column_mm + plane.displacement_mm)
        cosine, sine = np.cos(self.turn), np.sin(self.turn)
        along, over = cosine * across + sine * down, cosine * down - sine * across
        radius = np.sqrt(along * along + over * over)
        place = np.rint((np.arctan2(over, along) + np.pi) * ((RING - 1) / (2.0 * np.pi)))
        place = place.astype(np.intp)
        edge = (ellipse * outline)[place] * share
        edge += spikes[place] * np.minimum(share * 2.0, 1.0)
        distance = radius - edge + beyond
        steep = 0.5 * self.width_mm * np.abs(along_length) / self.half_length_mm / np.maximum(share, 0.1)
        blur = np.sqrt((0.20 + 0.16 * halo_mm) ** 2 + np.minimum(elevational_mm * steep, 1.2) ** 2)
        return _Section(step(-distance, blur), distance)

    def _ellipse(self) -> np.ndarray:
        angle = _ring()
        oblique = np.sqrt((self.height_mm * np.cos(angle)) ** 2 + (self.width_mm * np.sin(angle)) ** 2)
        return 0.5 * self.width_mm * self.height_mm / oblique


def _ring() -> np.ndarray:
    return np.linspace(-np.pi, np.pi, RING)


def _draw_lesion(
    grid: Grid, appearance: LesionAppearance, half_length_mm: float, anatomy: Anatomy, rng: np.random.Generator
) -> _Lesion:
    """Placed as in a still, wholly inside the field in every frame."""
    width, height, row, column, turn = still.place_lesion(grid, appearance, anatomy, 4.0, rng)
    waves = np.stack([still.draw_outline(_ring(), appearance, rng) - 1.0 for _ in range(2)])
    spikes = np.stack([still.draw_spikes(_ring(), appearance, rng) for _ in range(3)])
    return _Lesion(float(row), float(column), width, height, half_length_mm, float(turn), waves, spikes)


@dataclass(frozen=True)
class _Satellite:
    """A small dark sphere that moves with the lesion. conspicuity: 0..1 of its full contrast."""

    elevation_mm: float
    row_mm: float
    column_mm: float
    radius_mm: float
    conspicuity: float

    def added(self, plane: _Plane, level_db: np.ndarray, specular_db: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Echo levels with the focus in them; the very same arrays where the plane misses it."""
        across = plane.elevation_mm - self.elevation_mm
        if self.conspicuity <= 0.0 or np.abs(across).min() > self.radius_mm + 2.0 * SATELLITE_BLUR_MM:
            return level_db, specular_db
        down = plane.depth_mm - self.row_mm
        aside = plane.across_mm - (self.column_mm + plane.displacement_mm)
        outside = np.sqrt(0.8 * aside**2 + 1.2 * down**2 + across**2) - self.radius_mm
        inside = self.conspicuity * step(-outside, 0.5 * SATELLITE_BLUR_MM)
        inside *= outside < 2.0 * SATELLITE_BLUR_MM
        return level_db + inside * (SATELLITE_DB - level_db), specular_db - 40.0 * inside


def _draw_satellites(
    grid: Grid, lesion: _Lesion, load: float, tissue: Anatomy, rng: np.random.Generator
) -> list[_Satellite]:
    """All places are drawn, whatever the load; those beyond it have no contrast. Ends alternate, the first by chance."""
    length = lesion.half_length_mm
    drawn = []
    first = 1.0 if rng.uniform() < 0.5 else -1.0
    for i in range(MAX_SATELLITES):
        radius = rng.uniform(1.5, 2.2)
        nearest = 0.5 * length + radius + 2.0 * SATELLITE_BLUR_MM + 1.5
        elevation = rng.uniform(nearest, max(length + 3.0, nearest + 1.0))
        share = np.sqrt(max(1.0 - (elevation / length) ** 2, 0.0))
        side = 1.0 if rng.uniform() < 0.5 else -1.0
        gap = rng.uniform(1.0, 5.0)
        aside = side * (0.5 * lesion.width_mm * share + radius + gap)
        edge = radius + 3.0
        column = np.clip(lesion.column_mm + aside, edge, grid.columns * grid.pixel_mm - edge)
        top, bottom = tissue.gland_top_mm + radius, min(tissue.fascia_mm, grid.rows * grid.pixel_mm - 4.0) - radius
        row = np.clip(lesion.row_mm + rng.normal(0.0, 0.25 * lesion.height_mm), top, max(bottom, top))
        conspicuity = float(np.clip(load - i, 0.0, 1.0))
        elevation *= first * (-1.0) ** i
        drawn.append(_Satellite(float(elevation), float(row), float(column), float(radius), conspicuity))
    return drawn


def _with_lesion(
    level_db: np.ndarray, specular_db: np.ndarray, section: _Section, appearance: LesionAppearance, texture: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Echo levels of scatterers and of interfaces, (rows, columns) dB each, with the lesion and its halo in them."""
    inside = section.inside
    outer = np.clip(section.distance_mm, 0.0, None) / max(appearance.halo_mm, 0.2)
    rim = np.exp(-(outer**2)) * (1.0 - inside)
    level_db = level_db + rim * (4.5 - 0.6 * np.minimum(level_db, 0.0))
    lesion_db = appearance.contrast_db + appearance.heterogeneity_db * texture
    level_db += inside * (lesion_db - level_db)
    return level_db, specular_db - 45.0 * inside - 8.0 * rim


def _lymphatics(plane: _Plane, tissue: Anatomy, section: _Section, rng: _Replay) -> tuple[np.ndarray, np.ndarray]:
    """(rows, columns) each, 0..1: how swollen the tissue can be here, and whether it is channel.

    Channels keep clear of the lesion's border, of skin and of muscle.
    """
    field = plane.field(0.75, 1.9, rng)
    down, across = np.gradient(field, plane.pixel_mm)
    slope = np.sqrt(down * down + across * across) + 0.12
    channel = still.line(field / slope, 0.30)
    depth = plane.depth_mm
    room = step(depth - 3.0, 0.4) * step(tissue.fascia_mm - 0.8 - depth, 0.4)
    outer = np.clip(section.distance_mm, 0.0, None)
    near = np.exp(-((outer / LYMPHATIC_REACH_MM) ** 4))
    return near * step(outer - 0.7, 0.3) * room, channel


@dataclass(frozen=True)
class _Scatterers:
    """Scatterers on planes one behind the other. values: (planes, looks * 2, rows, columns), standard normal."""

    values: np.ndarray
    sigma_mm: float
    reach_mm: float

    @classmethod
    def draw(cls, beam: _Beam, grid: Grid, looks: int, span_mm: float, rng: np.random.Generator) -> _Scatterers:
        planes = int(2.0 * span_mm / (NODE_SPACING * beam.elevational_mm)) + 5
        values = white_noise((planes, 2 * looks, grid.rows, grid.columns), rng)
        return cls(values, beam.elevational_mm, span_mm)

    def at(self, plane: _Plane, slip_mm: float, own: np.ndarray) -> np.ndarray:
        """(looks * 2, rows, columns) scatterers of the slice at this plane, displaced by whole pixels, variance 1/2.

        own: (rows, columns) bool, where they move with the lesion and not with its surroundings. Those come from half
        an image away: were they of one piece, a slide of one pixel would show the same scatterer on both sides of the
        border, which makes a brighter rim in the single frame.
        """
        middle = plane.elevation_mm[:, plane.columns // 2] + self.reach_mm
        nodes, weights = _taps(middle, self.sigma_mm)
        first = nodes[0, 0]
        cut = np.tensordot(weights[:, 0] * np.sqrt(0.5), self.values[first : first + 4], axes=1)
        row = np.rint(plane.depth_mm[:, 0] / plane.pixel_mm - 0.5).astype(np.intp)
        cut = cut.take(row, axis=1, mode="clip")
        drift = round(plane.pixels(plane.displacement_mm))
        slid = round(plane.pixels(plane.displacement_mm + slip_mm))
        moved = np.roll(cut, slid, axis=2)
        np.copyto(moved, np.roll(cut, drift + plane.columns // 2, axis=2), where=own)
        return moved


@dataclass(frozen=True)
class _Beam:
    """Beam and receiver of one scanner on one grid. axial: (taps,), lateral: (taps, rows, 1) weights from the middle outwards.

    elevational_mm: sigma across the plane; smear: sigmas in pixels for coherent echoes; noise_level: (rows, 1).
    """

    axial: np.ndarray
    lateral: np.ndarray
    elevational_mm: float
    smear: tuple[float, float]
    noise_level: np.ndarray

    @classmethod
    def of(cls, scanner: Scanner, grid: Grid) -> _Beam:
        """The lateral beam widens away from the focus, to the widths of `ultrasound` in the focus and at the ends."""
        depth = grid.depth_mm[:, 0]
        focus = 0.45 * grid.rows * grid.pixel_mm
        away = np.clip(np.abs(depth - focus) / focus, 0.0, 1.0) ** 2
        axial = grid.pixels(scanner.axial_fwhm_mm / still.FWHM_PER_SIGMA)
        narrow = grid.pixels(scanner.lateral_fwhm_mm / still.FWHM_PER_SIGMA)
        lateral = narrow * np.sqrt(1.0 + (still.BEAM_BROADENING * away) ** 2)
        level = decibel(scanner.noise_db + 14.0 * depth / depth.max())
        return cls(
            axial=_weights(np.array([axial]))[:, 0],
            lateral=_weights(lateral)[:, :, None],
            elevational_mm=ELEVATIONAL_TO_LATERAL_BEAM * scanner.lateral_fwhm_mm / still.FWHM_PER_SIGMA,
            smear=(axial, 2.0 * narrow),
            noise_level=level[:, None] * np.sqrt(0.5),
        )

    def envelope(
        self, amplitude: np.ndarray, specular: np.ndarray, scatterers: np.ndarray, noise: np.ndarray
    ) -> np.ndarray:
        """(rows, columns) mean envelope of the looks; 1.0 is the root mean square of gland at 0 dB.

        amplitude, specular: (rows, columns); scatterers: (looks * 2, rows, columns); noise: (2, rows, columns), unit.
        """
        coherent = gaussian_filter(specular, self.smear, truncate=3.0)
        noise = noise * self.noise_level
        looks = scatterers.shape[0] // 2
        total = np.zeros_like(amplitude)
        for look in range(looks):
            echoes = scatterers[2 * look : 2 * look + 2] * amplitude
            echoes = _spread(_spread(echoes, self.axial, 1), self.lateral, 2)
            echoes += np.roll(noise, 37 * look, axis=2)
            echoes[0] += coherent
            echoes *= echoes
            total += np.sqrt(echoes[0] + echoes[1])
        return total / looks


def _weights(sigma: np.ndarray) -> np.ndarray:
    """(taps, n) Gaussian weights at 0, 1, 2 ... pixels; white noise spread by both sides of them keeps variance 1."""
    away = np.arange(int(3.0 * sigma.max() + 0.5) + 1)[:, None]
    weight = np.exp(-0.5 * (away / sigma) ** 2)
    norm = np.sqrt(weight[0] ** 2 + 2.0 * (weight[1:] ** 2).sum(axis=0))
    return weight / norm


def _spread(values: np.ndarray, weights: np.ndarray, axis: int) -> np.ndarray:
    """Each value of (n, rows, columns) spread to both sides along the axis, 1 or 2; the border reflects.

    weights: from the middle outwards along the first axis, each broadcastable to (rows, columns).
    """
    reach = len(weights) - 1
    size = values.shape[axis]
    place = np.abs(np.arange(-reach, size + reach) + 0.5) - 0.5
    place = np.where(place < size, place, 2 * size - 1 - place).astype(np.intp)
    wide = values.take(place, axis=axis)
    total = values * weights[0]
    pair = np.empty_like(values)
    for away in range(1, reach + 1):
        ends = [
            wide[:, start : start + size] if axis == 1 else wide[:, :, start : start + size]
            for start in (reach - away, reach + away)
        ]
        np.add(*ends, out=pair)
        pair *= weights[away]
        total += pair
    return total
