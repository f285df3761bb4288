"""Three-dimensional outlines of lesions and lymph nodes in mm, and smooth random fields. How they look is decided elsewhere.

The physics in words, with sources and what is unlike reality: MODEL.md in this folder.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from scipy.ndimage import gaussian_filter1d
from scipy.special import ndtri

POLAR_STEPS = 91
AZIMUTH_STEPS = 181
"""Table of directions, 2 degrees apart: finer than the narrowest spike (0.07 rad) by a factor of two."""

QUANTILES = 2**16

SPIKE_COSINE = 0.4
"""Of the angle from its axis where a spike ends: even the widest has thinned to a thousandth of its length there."""

WAVE_DEGREES = 2, 3, 4, 5
"""Degrees of the waves on the sphere; weights fall as 1 / degree (our choice)."""


def white_noise(shape: Sequence[int], rng: np.random.Generator) -> np.ndarray:
    """Independent standard normal numbers, each one of 65,536 equally likely quantiles (up to +-4.3, variance 1).

    Several times as fast as `rng.standard_normal`.
    """
    return _quantiles()[rng.integers(QUANTILES, size=shape, dtype=np.uint16).astype(np.intp)]


@cache
def _quantiles() -> np.ndarray:
    values = ndtri((np.arange(QUANTILES) + 0.5) / QUANTILES)
    return values / values.std()


def smooth_field(shape: Sequence[int], sigma_px: float | Sequence[float], rng: np.random.Generator) -> np.ndarray:
    """Smooth Gaussian random field of any dimension, mean 0 and variance 1.

    shape: pixels along each axis; sigma_px: Gaussian sigma of the smoothing in pixels, one number or one per axis, not
    negative (0 leaves an axis white). White noise through a Gaussian of sigma s has the correlation exp(-d^2 / (4 s^2)).
    Long sigmas are drawn on a coarser grid and interpolated linearly, which is many times faster and looks the same.
    """
    shape = tuple(int(extent) for extent in shape)
    sigmas = np.broadcast_to(np.asarray(sigma_px, dtype=float), (len(shape),))
    if not shape or min(shape) < 1 or not np.isfinite(sigmas).all() or sigmas.min() < 0.0:
        raise ValueError(f"a field of shape {shape} with sigma {sigma_px}: extents must be positive, sigmas at least 0")
    steps = [max(1, int(sigma / 1.8)) for sigma in sigmas]
    coarse = [sigma / step for sigma, step in zip(sigmas, steps, strict=True)]
    margins = [int(np.ceil(3.0 * sigma)) for sigma in coarse]
    nodes = [extent if step == 1 else (extent - 1) // step + 2 for extent, step in zip(shape, steps, strict=True)]
    field = white_noise([n + 2 * m for n, m in zip(nodes, margins, strict=True)], rng)
    for axis, (sigma, margin, count) in enumerate(zip(coarse, margins, nodes, strict=True)):
        if sigma > 0.0:
            field = gaussian_filter1d(field, sigma, axis=axis, truncate=3.0)
            field = field[(slice(None),) * axis + (slice(margin, margin + count),)]
    scale = 1.0
    for axis, (sigma, step, extent) in enumerate(zip(coarse, steps, shape, strict=True)):
        scale *= _gain_of_smoothing(sigma, step)
        if step > 1:
            field = _stretched(field, step, extent, axis)
    return scale * field


@dataclass(frozen=True)
class PixelGrid:
    """Square pixels whose first ones touch the upper left corner; positions in mm."""

    rows: int
    columns: int
    pixel_mm: float

    def pixels(self, millimeters: float) -> float:
        """A length in pixels."""
        return millimeters / self.pixel_mm

    @property
    def down_mm(self) -> np.ndarray:
        """(rows, 1) centers of the rows."""
        return (np.arange(self.rows) + 0.5)[:, None] * self.pixel_mm

    @property
    def across_mm(self) -> np.ndarray:
        """(1, columns) centers of the columns."""
        return (np.arange(self.columns) + 0.5)[None, :] * self.pixel_mm


def _gain_of_smoothing(sigma: float, step: int) -> float:
    """Factor that restores unit variance after a Gaussian of `sigma` nodes and linear interpolation at `step` per node."""
    if sigma <= 0.0:
        return 1.0
    offsets = np.arange(-int(3.0 * sigma + 0.5), int(3.0 * sigma + 0.5) + 1)
    kernel = np.exp(-0.5 * (offsets / sigma) ** 2)
    kernel /= kernel.sum()
    variance = (kernel**2).sum()
    if step > 1:
        neighbors = (kernel[1:] * kernel[:-1]).sum()
        part = np.arange(step) / step
        variance = np.mean((part**2 + (1.0 - part) ** 2) * variance + 2.0 * part * (1.0 - part) * neighbors)
    return float(1.0 / np.sqrt(variance))


def _stretched(values: np.ndarray, step: int, length: int, axis: int) -> np.ndarray:
    """One axis interpolated linearly to `step` times as many samples, cut to `length`."""
    position = np.arange(length) / step
    below = position.astype(int)
    part = (position - below).reshape((-1,) + (1,) * (values.ndim - 1 - axis))
    low = np.take(values, below, axis=axis)
    high = np.take(values, below + 1, axis=axis)
    high -= low
    high *= part
    low += high
    return low


@dataclass(frozen=True)
class LesionShape:
    """What is asked of a lesion's outline.

    diameter_mm: of the sphere of the same volume, spikes included. axes: relative semi-axes (z, y, x), only
    their ratios count. lobulation: standard deviation of the relative radius over directions. spiculation_mm: mean
    length of the spikes; spikes: how many.
    """

    diameter_mm: float
    axes: tuple[float, float, float] = (1.0, 1.0, 1.0)
    lobulation: float = 0.0
    spiculation_mm: float = 0.0
    spikes: int = 24

    def __post_init__(self) -> None:
        if not self.diameter_mm > 0.0 or min(self.axes) <= 0.0 or len(self.axes) != 3:
            raise ValueError(f"diameter_mm is {self.diameter_mm} and axes are {self.axes}; all must be positive")
        if min(self.lobulation, self.spiculation_mm, self.spikes) < 0:
            raise ValueError("lobulation, spiculation_mm and spikes must not be negative")


@dataclass(frozen=True)
class Lesion:
    """A drawn lesion. radius_mm: (POLAR_STEPS, AZIMUTH_STEPS), over the angle from +z and the angle from +x to +y."""

    shape: LesionShape
    radius_mm: np.ndarray

    def distance_mm(self, z: np.ndarray, y: np.ndarray, x: np.ndarray) -> np.ndarray:
        """Signed distance along the ray from the center: negative inside, 0 on the surface.

        z, y, x: mm from the center, any shapes that broadcast together. Exact at the surface; elsewhere at least the
        true distance in size, and longer than it where the surface is oblique to the ray.
        """
        z, y, x = (np.asarray(values, dtype=float) for values in (z, y, x))
        radius = np.sqrt(z * z + y * y + x * x)
        return radius - _looked_up(self.radius_mm, z, y, x, radius)

    @property
    def reach_mm(self) -> float:
        """Largest distance of the surface, spikes included, from the center."""
        return float(self.radius_mm.max())

    @property
    def half_extent_mm(self) -> tuple[float, float, float]:
        """Largest distance of the surface from the center along z, y and x."""
        return tuple(float(extent) for extent in np.abs(self.radius_mm[..., None] * _directions()).max(axis=(0, 1)))


def draw_lesion(shape: LesionShape, rng: np.random.Generator) -> Lesion:
    """One lesion of the asked shape. The numbers drawn depend on `spikes` only, so the same seed gives the same family."""
    directions = _directions()
    waves = _waves_on_sphere(directions, rng)
    spikes = _spikes(directions, shape.spikes, rng)
    axes = np.asarray(shape.axes, dtype=float)
    axes = axes / np.prod(axes) ** (1.0 / 3.0)
    ellipsoid = 1.0 / np.sqrt(((directions / axes) ** 2).sum(axis=-1))
    body = ellipsoid * np.clip(1.0 + shape.lobulation * waves, 0.4, 1.8)
    return Lesion(shape, _of_volume(body, shape.spiculation_mm * spikes, 0.5 * shape.diameter_mm))


def _of_volume(body: np.ndarray, spikes_mm: np.ndarray, radius_mm: float) -> np.ndarray:
    """body scaled so that with the spikes it has the volume of a sphere of this radius; spikes are shortened to fit."""
    spikes_mm = spikes_mm * min(1.0, 0.7 * radius_mm / max(np.cbrt(_mean_over_sphere(spikes_mm**3)), 1e-9))
    scale = radius_mm / np.cbrt(_mean_over_sphere(body**3))
    for _ in range(8):
        edge = scale * body + spikes_mm
        excess = _mean_over_sphere(edge**3) - radius_mm**3
        scale -= excess / _mean_over_sphere(3.0 * edge**2 * body)
    return scale * body + spikes_mm


@dataclass(frozen=True)
class NodeShape:
    """What is asked of a lymph node: axes in mm, in the plane z = 0.

    hilum_fraction: size of the fatty hilum relative to the node, along every axis, from 0 (none) to 0.85.
    margin_irregularity: standard deviation of the relative radius. depth_mm: extent along z; None is the geometric mean
    of the two axes.
    """

    long_axis_mm: float
    short_axis_mm: float
    hilum_fraction: float = 0.5
    margin_irregularity: float = 0.0
    depth_mm: float | None = None

    def __post_init__(self) -> None:
        if not 0.0 < self.short_axis_mm <= self.long_axis_mm or (self.depth_mm is not None and self.depth_mm <= 0.0):
            raise ValueError(f"short axis {self.short_axis_mm} mm and long axis {self.long_axis_mm} mm are no node")
        if not 0.0 <= self.hilum_fraction <= 0.85 or self.margin_irregularity < 0.0:
            raise ValueError("hilum_fraction must lie in 0..0.85 and margin_irregularity must not be negative")

    @property
    def semi_axes_mm(self) -> tuple[float, float, float]:
        """Half extents along z, the short axis and the long axis."""
        depth = self.depth_mm if self.depth_mm is not None else float(np.sqrt(self.long_axis_mm * self.short_axis_mm))
        return 0.5 * depth, 0.5 * self.short_axis_mm, 0.5 * self.long_axis_mm


@dataclass(frozen=True)
class Node:
    """A drawn node. turn: angle in radians from +x to the long axis, toward +y; the hilum lies on the short axis, at
    `hilum_shift_mm` (signed) from the center and `hilum_along_mm` along the long axis; relief: relative radius over
    directions of the node's own axes, laid out like `Lesion.radius_mm`."""

    shape: NodeShape
    turn: float
    hilum_shift_mm: float
    hilum_along_mm: float
    relief: np.ndarray

    def distance_mm(self, z: np.ndarray, y: np.ndarray, x: np.ndarray) -> np.ndarray:
        """Signed distance to the capsule, negative inside; first-order exact near the surface.

        z, y, x: mm from the center, any shapes that broadcast together.
        """
        z, short, long = self._own_axes(z, y, x)
        semi = np.array(self.shape.semi_axes_mm)
        radius = np.sqrt(z * z + short * short + long * long)
        relief = _looked_up(self.relief, z, short, long, radius)
        return _ellipsoid_distance(z / relief, short / relief, long / relief, semi) * relief

    def hilum_distance_mm(self, z: np.ndarray, y: np.ndarray, x: np.ndarray) -> np.ndarray:
        """Signed distance to the fatty hilum, negative in it; +1000 everywhere when there is none.

        The hilum reaches through the capsule: fat of the hilum is where both this and `distance_mm` are negative.
        """
        z, short, long = self._own_axes(z, y, x)
        if self.shape.hilum_fraction <= 0.0:
            return np.full(np.broadcast_shapes(z.shape, short.shape, long.shape), 1000.0)
        semi = np.array(self.shape.semi_axes_mm) * self.shape.hilum_fraction
        shift, along = self.hilum_shift_mm, self.hilum_along_mm
        return _ellipsoid_distance(z, short - shift, long - along, semi)

    def _own_axes(self, z, y, x) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        z, y, x = (np.asarray(values, dtype=float) for values in (z, y, x))
        cosine, sine = np.cos(self.turn), np.sin(self.turn)
        return z, cosine * y - sine * x, sine * y + cosine * x


def draw_node(shape: NodeShape, rng: np.random.Generator, *, turn: float | None = None) -> Node:
    """One node; `turn` fixes the direction of the long axis in radians (random when None, with the same numbers drawn).

    The hilum's center lies on one broad side, so deep that the hilum opens to the surface at every size: its near pole
    always lies outside the capsule.
    """
    drawn_turn = rng.uniform(0.0, np.pi)
    side = 1.0 if rng.uniform() < 0.5 else -1.0
    along = rng.uniform(-0.25, 0.25)
    waves = _waves_on_sphere(_directions(), rng)
    _, short, long = shape.semi_axes_mm
    relief = np.clip(1.0 + shape.margin_irregularity * waves, 0.5, 1.6)
    return Node(
        shape,
        float(drawn_turn if turn is None else turn),
        side * short * (1.0 - 0.55 * shape.hilum_fraction),
        along * long * (1.0 - shape.hilum_fraction),
        relief,
    )


def _ellipsoid_distance(z: np.ndarray, y: np.ndarray, x: np.ndarray, semi: np.ndarray) -> np.ndarray:
    """Signed distance to an axis-aligned ellipsoid, f / |grad f| with f = k (k - 1), k the relative radius."""
    a, b, c = (z / semi[0]) ** 2, (y / semi[1]) ** 2, (x / semi[2]) ** 2
    relative = np.sqrt(a + b + c)
    gradient = np.sqrt(a / semi[0] ** 2 + b / semi[1] ** 2 + c / semi[2] ** 2)
    local = np.where(gradient > 1e-6, relative / np.maximum(gradient, 1e-6), semi.min())
    return local * (relative - 1.0)


def _directions() -> np.ndarray:
    """(POLAR_STEPS, AZIMUTH_STEPS, 3) unit vectors (z, y, x) of the table."""
    polar = np.linspace(0.0, np.pi, POLAR_STEPS)[:, None]
    azimuth = np.linspace(-np.pi, np.pi, AZIMUTH_STEPS)[None, :]
    flat = np.zeros_like(azimuth)
    return np.stack([np.cos(polar) + flat, np.sin(polar) * np.sin(azimuth), np.sin(polar) * np.cos(azimuth)], axis=-1)


def _mean_over_sphere(table: np.ndarray) -> float:
    """Mean of a table over the solid angle (the last azimuth repeats the first)."""
    weight = np.sin(np.linspace(0.0, np.pi, POLAR_STEPS))[:, None]
    return float((table[:, :-1] * weight).sum() / (weight.sum() * (AZIMUTH_STEPS - 1)))


def _waves_on_sphere(directions: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Random function of direction, mean 0 and variance 1 over the sphere: Legendre waves round random poles.

    A Legendre polynomial of degree l round a random pole is a spherical harmonic of that degree (addition theorem), so
    three of them per degree make a random one without tables of coefficients.
    """
    total = np.zeros(directions.shape[:-1])
    for degree in WAVE_DEGREES:
        for pole, weight in zip(_unit_vectors(3, rng), rng.standard_normal(3), strict=True):
            coefficients = np.zeros(degree + 1)
            coefficients[degree] = weight * np.sqrt(2.0 * degree + 1.0) / degree
            total += np.polynomial.legendre.legval(directions @ pole, coefficients)
    total -= _mean_over_sphere(total)
    return total / np.sqrt(_mean_over_sphere(total**2))


def _spikes(directions: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Extra radius over directions, in units of the mean spike length: cones that thin out away from their axis."""
    flat = directions.reshape(-1, 3)
    total = np.zeros(len(flat))
    centers = _unit_vectors(count, rng)
    lengths = rng.gamma(1.5, 1.0 / 1.5, count)
    widths = rng.uniform(0.07, 0.16, count)
    for center, length, width in zip(centers, lengths, widths, strict=True):
        cosine = flat @ center
        near = np.flatnonzero(cosine > SPIKE_COSINE)
        gap = np.sqrt(np.maximum(2.0 - 2.0 * cosine[near], 0.0))
        total[near] = np.maximum(total[near], length * np.exp(-gap / width))
    return total.reshape(directions.shape[:-1])


def _unit_vectors(count: int, rng: np.random.Generator) -> np.ndarray:
    vectors = rng.standard_normal((count, 3))
    return vectors / np.sqrt((vectors**2).sum(axis=1, keepdims=True))


def _looked_up(table: np.ndarray, z: np.ndarray, y: np.ndarray, x: np.ndarray, radius: np.ndarray) -> np.ndarray:
    """The table at the direction of each point, bilinear in the two angles."""
    cosine = np.divide(z, radius, out=np.ones_like(radius), where=radius > 0.0)
    polar = np.arccos(np.clip(cosine, -1.0, 1.0)) * ((POLAR_STEPS - 1) / np.pi)
    azimuth = (np.arctan2(y, x) + np.pi) * ((AZIMUTH_STEPS - 1) / (2.0 * np.pi))
    row = np.minimum(polar.astype(np.int32), POLAR_STEPS - 2)
    column = np.clip(azimuth.astype(np.int32), 0, AZIMUTH_STEPS - 2)
    down, across = polar - row, azimuth - column
    first = row * AZIMUTH_STEPS + column
    flat = table.ravel()
    near = flat[first] + across * (flat[first + 1] - flat[first])
    first += AZIMUTH_STEPS
    far = flat[first] + across * (flat[first + 1] - flat[first])
    return near + down * (far - near)
