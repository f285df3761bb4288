"""Contrast-enhanced axial CT slices of axillary lymph nodes in Hounsfield units: traits to tissues to pixels and mask.

Which patient has which nodes and traits is decided in `patients`; node outlines are drawn in `shapes`; files are written
by `build`. Nothing but pixels lives here.

The physics in words, with sources and what is unlike reality: MODEL.md in this folder.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.fft import irfft2, next_fast_len, rfft2
from scipy.ndimage import gaussian_filter

from alnsim.shapes import Node, NodeShape, draw_node, smooth_field, white_noise
from alnsim.statistics import half_plane_weight
from alnsim.traits import trait_scores

AIR_HU, FAT_HU, LUNG_HU, SKIN_HU = -1000.0, -108.0, -860.0, 35.0
CORTICAL_BONE_HU, MARROW_HU = 900.0, 120.0
UNENHANCED_NODE_HU = 40.0
NECROSIS_HU = 15.0
HILUM_HU = -88.0
LOWEST_HU, HIGHEST_HU = -1024, 3071

STRANDING_FREE_MARGIN = 0.17
"""Strands begin this share of the half side beyond the smallest axis-parallel square round the node (plus 0.8 mm)."""


@dataclass(frozen=True)
class Scanner:
    """One center's machine and protocol.

    psf_sigma_mm: Gaussian sigma in the plane; noise_hu: standard deviation in a patient of mean size; iodine_gain:
    enhancement against 120 kV; streak: 0..0.9, share by which the noise power varies with direction.
    """

    center: str
    kvp: float
    kernel: str
    slice_thickness_mm: float
    psf_sigma_mm: float
    noise_hu: float
    iodine_gain: float
    streak: float


SCANNERS = {
    "primary": Scanner("primary", 120.0, "SOFT", 3.0, 0.52, 10.0, 1.00, 0.30),
    "external": Scanner("external", 100.0, "MEDIUM", 5.0, 0.42, 15.0, 1.16, 0.50),
}
"""Our choice: the external center has thicker slices, a sharper and noisier kernel, and a lower tube voltage."""

TRAITS = ("size", "roundness", "hilum_loss", "cortical_enhancement", "necrosis", "margin", "stranding")
"""Standard normal scores of one node, in the order of `appearance_from_traits`; higher looks more suspicious (size: larger)."""


@dataclass(frozen=True)
class NodeAppearance:
    """What the slice shows of one node.

    short_to_long: ratio of the axes. hilum_fraction: size of the fatty hilum along each axis, relative to the node, 0 is
    none. enhancement_hu: of the cortex at 120 kV over its unenhanced 40 HU. necrosis: 0..1, share of the way from the
    cortex to 15 HU in the core. margin_irregularity: standard deviation of the relative radius. margin_blur_mm: half width of
    the capsule's transition. stranding: strength of strands and haze, 1 is marked.
    """

    short_axis_mm: float
    short_to_long: float
    hilum_fraction: float
    enhancement_hu: float
    necrosis: float
    margin_irregularity: float
    margin_blur_mm: float
    stranding: float

    @property
    def long_axis_mm(self) -> float:
        return self.short_axis_mm / self.short_to_long


def appearance_from_traits(traits: np.ndarray) -> NodeAppearance:
    """Physical appearance from seven standard normal trait scores, in the order of `TRAITS`.

    Every map is strictly monotone over +-2.5 standard deviations and constant beyond. Short axes have median 8.5 mm and
    95 % between 4.4 and 16.6 mm (our choice: from normal nodes to bulky ones). Raises ValueError for another shape.
    """
    size, roundness, hilum_loss, enhancement, necrosis, margin, stranding = trait_scores(traits, TRAITS)
    return NodeAppearance(
        short_axis_mm=8.5 * float(np.exp(0.34 * size)),
        short_to_long=0.68 + 0.10 * roundness,
        hilum_fraction=0.36 - 0.144 * hilum_loss,
        enhancement_hu=46.0 * float(np.exp(0.36 * enhancement)),
        necrosis=0.26 * float(np.exp(0.50 * necrosis)),
        margin_irregularity=0.055 * float(np.exp(0.52 * margin)),
        margin_blur_mm=0.50 * float(np.exp(0.48 * margin)),
        stranding=0.45 * float(np.exp(0.60 * stranding)),
    )


@dataclass(frozen=True)
class Habitus:
    """What the slices of one patient share; nothing in it knows of any trait.

    skin_mm: from the middle of the axilla to the skin; wall_mm: chest wall, ribs included; chest_mm: to the lung edge;
    muscularity: relative size of the muscles; glandularity: density of the outer breast; noise_factor: of the body's size.
    """

    skin_mm: float
    chest_mm: float
    wall_mm: float
    muscularity: float
    muscle_hu: float
    fat_hu: float
    artery_hu: float
    vein_hu: float
    artery_mm: tuple[float, float]
    vein_mm: tuple[float, float]
    glandularity: float
    noise_factor: float


def draw_habitus(rng: np.random.Generator) -> Habitus:
    """One patient's body: fat and muscle, blood after contrast, where the vessels run. Ranges are our choice."""
    fat, muscle = np.clip(rng.standard_normal(2), -2.2, 2.2)
    vessels = (rng.uniform(7.0, 15.0), rng.uniform(2.0, 10.0))
    artery_hu = rng.uniform(135.0, 180.0)
    return Habitus(
        skin_mm=float(50.0 * np.exp(0.20 * fat)),
        chest_mm=float(32.0 * np.exp(0.08 * fat) + rng.normal(0.0, 1.5)),
        wall_mm=float(12.0 + 1.5 * muscle),
        muscularity=float(np.exp(0.10 * muscle)),
        muscle_hu=float(62.0 + 3.0 * rng.standard_normal() + 2.0 * muscle),
        fat_hu=float(FAT_HU + 3.0 * rng.standard_normal()),
        artery_hu=float(artery_hu),
        vein_hu=float(artery_hu - rng.uniform(0.0, 18.0)),
        artery_mm=vessels,
        vein_mm=(vessels[0] - rng.uniform(5.0, 9.0), vessels[1] + rng.uniform(-2.0, 6.0)),
        glandularity=float(rng.uniform(0.0, 1.0)),
        noise_factor=float(np.exp(0.18 * fat)),
    )


@dataclass(frozen=True)
class NodeSlice:
    """One slice, front of the patient up and the patient's right on the left of the image.

    hounsfield: (rows, columns) int16; mask: (rows, columns) bool, the index node with its hilum; spacing_mm: (row, column).
    """

    hounsfield: np.ndarray
    mask: np.ndarray
    spacing_mm: tuple[float, float]


def simulate_node_slice(
    appearance: NodeAppearance,
    scanner: Scanner,
    rows: int,
    columns: int,
    pixel_mm: float,
    habitus: Habitus,
    rng: np.random.Generator,
    laterality: str = "R",
) -> NodeSlice:
    """The axial slice through the largest plane of one node; call it again with the same habitus for the patient's next.

    rows, columns, pixel_mm: the field must reach at least 100 mm both ways, and pixels lie between 0.3 and 1.5 mm.
    laterality: "R" or "L", the axilla's side. The numbers drawn from `rng` do not depend on `appearance`. Raises ValueError.
    """
    if laterality not in ("R", "L"):
        raise ValueError(f"laterality is {laterality!r}; expected 'R' or 'L'")
    if not 0.3 <= pixel_mm <= 1.5 or min(rows, columns) * pixel_mm < 100.0:
        raise ValueError(
            f"{rows} x {columns} pixels of {pixel_mm} mm: pixels must measure 0.3-1.5 mm and the field at least 100 mm"
        )
    grid = _Grid(rows, columns, pixel_mm, *rng.normal(0.0, 3.0, 2).clip(-6.0, 6.0))
    body = _draw_body(habitus, rng)
    shape = NodeShape(
        appearance.long_axis_mm,
        appearance.short_axis_mm,
        max(appearance.hilum_fraction, 0.0),
        appearance.margin_irregularity,
    )
    turn = float(np.pi / 2 + rng.normal(0.0, 0.5))
    node = draw_node(shape, rng, turn=turn)
    center = _node_center(body, shape, turn, rng)
    cut = _Cut(grid, body, scanner, center, shape, rng)
    tissue, fat = _tissues(cut)
    mask = np.zeros((rows, columns), dtype=bool)
    near = _window(grid, center, 0.75 * appearance.long_axis_mm + 8.0)
    mask[near] = node.distance_mm(0.0, grid.y[near[0]] - center[0], grid.x[:, near[1]] - center[1]) < 0.0
    _add_strands(tissue, fat, mask, appearance.stranding, cut)
    _add_node(tissue, node, appearance, cut)
    image = gaussian_filter(tissue, scanner.psf_sigma_mm / pixel_mm, mode="nearest", truncate=3.5)
    sd = scanner.noise_hu * habitus.noise_factor
    image += sd * band_limited_noise((rows, columns), pixel_mm, scanner.psf_sigma_mm, rng, streak=scanner.streak)
    hounsfield = np.clip(np.rint(image), LOWEST_HU, HIGHEST_HU).astype(np.int16)
    if laterality == "L":
        hounsfield, mask = hounsfield[:, ::-1].copy(), mask[:, ::-1].copy()
    return NodeSlice(hounsfield, mask, (float(pixel_mm), float(pixel_mm)))


def band_limited_noise(
    shape: tuple[int, int], pixel_mm: float, sigma_mm: float, rng: np.random.Generator, *, streak: float = 0.0
) -> np.ndarray:
    """(rows, columns) Gaussian noise of mean 0 and variance 1 with the spectrum f exp(-4 pi^2 sigma^2 f^2).

    f: spatial frequency in 1/mm; sigma_mm: of the reconstruction's smoothing. streak: 0..1, how much more power lies in
    structures that run along the columns axis (left to right) than across.
    """
    rows, columns = (next_fast_len(extent, real=True) for extent in shape)
    down = np.fft.fftfreq(rows, pixel_mm)[:, None]
    across = np.fft.rfftfreq(columns, pixel_mm)[None, :]
    squared = down * down + across * across
    power = np.sqrt(squared) * np.exp(-4.0 * np.pi**2 * sigma_mm**2 * squared)
    power *= 1.0 + streak * (down * down - across * across) / np.maximum(squared, 1e-12)
    power /= (power * half_plane_weight(columns)).sum() / (rows * columns)
    white = white_noise((rows, columns), rng)
    noise = irfft2(rfft2(white) * np.sqrt(power), s=(rows, columns))
    return noise[: shape[0], : shape[1]]


@dataclass(frozen=True)
class _Grid:
    """Pixels in mm from the middle of the axilla, which lies (shift_y, shift_x) mm off the middle of the image."""

    rows: int
    columns: int
    pixel_mm: float
    shift_y: float
    shift_x: float

    @property
    def y(self) -> np.ndarray:
        return self._axis(self.rows, self.shift_y)[:, None]

    @property
    def x(self) -> np.ndarray:
        return self._axis(self.columns, self.shift_x)[None, :]

    def _axis(self, extent: int, shift: float) -> np.ndarray:
        return (np.arange(extent) - 0.5 * (extent - 1)) * self.pixel_mm - shift

    def field(self, down_mm: float, across_mm: float, rng: np.random.Generator) -> np.ndarray:
        """Smooth random field over the pixels, mean 0 and variance 1; lengths are Gaussian sigmas in mm."""
        return smooth_field((self.rows, self.columns), (down_mm / self.pixel_mm, across_mm / self.pixel_mm), rng)


@dataclass(frozen=True)
class _Cut:
    """One slice in the making: pixels, anatomy, machine, where the index node lies (y, x) and what is asked of it."""

    grid: _Grid
    body: _Body
    scanner: Scanner
    center: tuple[float, float]
    shape: NodeShape
    rng: np.random.Generator


def _inside(distance_mm: np.ndarray, width_mm: float = 0.35) -> np.ndarray:
    """Membership 1..0 across a surface at distance 0; `width_mm` is the half width of the transition."""
    return 0.5 - 0.5 * np.tanh(distance_mm * (1.0 / width_mm))


def _ellipse_distance(y, x, ellipse: tuple[float, float, float, float, float]) -> np.ndarray:
    """Signed distance to an ellipse (y, x, semi y, semi x, turn), to first order; negative inside."""
    middle_y, middle_x, semi_y, semi_x, turn = ellipse
    cosine, sine = np.cos(turn), np.sin(turn)
    over = (cosine * (y - middle_y) - sine * (x - middle_x)) / semi_y
    along = (sine * (y - middle_y) + cosine * (x - middle_x)) / semi_x
    relative = np.sqrt(over * over + along * along) + 1e-4
    slope = np.sqrt((over / semi_y) ** 2 + (along / semi_x) ** 2) + 1e-6
    return (relative - 1.0) * relative / slope


def _blend(image: np.ndarray, value, weight: np.ndarray) -> None:
    """image + weight (value - image), in place."""
    image += weight * (value - image)


@dataclass(frozen=True)
class _Body:
    """One slice's anatomy: ellipses are (y, x, semi y, semi x, turn) in mm and radians."""

    habitus: Habitus
    lung: tuple[float, float, float, float, float]
    lobes: tuple[tuple[float, float, float, float, float], ...]
    scapula: tuple[float, float, float, float, float]
    blade_end: tuple[float, float]
    pectoral_tip_mm: float
    pectoral_mm: float
    pectoral_lift_mm: float
    minor_mm: float
    rib_phase_mm: float
    vessels: tuple[tuple[float, float, float, float, float], ...]
    skin_bulge_mm: float
    fold: tuple[float, float, float]

    def chest(self, y, x) -> tuple[np.ndarray, np.ndarray]:
        """Distance from the lung edge, and the arc length along the wall in mm (0 lateral, toward the front positive)."""
        distance = _ellipse_distance(y, x, self.lung)
        return distance, 85.0 * np.arctan2(self.lung[0] - y, self.lung[1] - x)

    def skin(self, y) -> np.ndarray:
        """x of the skin surface at each y."""
        depth, place, width = self.fold
        bulge = (y + 5.0) ** 2 / (2.0 * self.skin_bulge_mm)
        return bulge - self.habitus.skin_mm + depth * np.exp(-(((y - place) / width) ** 2))

    def pectorals(self, chest: np.ndarray, arc: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Signed distances to pectoralis major and minor."""
        past = np.maximum(arc - self.pectoral_tip_mm, 0.0)
        wall = self.habitus.wall_mm
        middle = (arc - (self.pectoral_tip_mm + 20.0)) / 26.0
        minor = self.minor_mm * np.sqrt(np.maximum(1.0 - middle * middle, 0.0))
        minor_distance = np.abs(chest - wall - 1.5 - 0.5 * minor) - 0.5 * minor
        thick = self.pectoral_mm * np.sqrt(1.0 - np.exp(-past / 12.0))
        base = wall + 3.5 + minor + self.pectoral_lift_mm * np.exp(-past / 18.0)
        return np.abs(chest - base - 0.5 * thick) - 0.5 * thick, minor_distance

    def clearance_mm(self, y, x) -> np.ndarray:
        """Distance of points from everything that is not fat; negative in it."""
        chest, arc = self.chest(y, x)
        distances = [_ellipse_distance(y, x, lobe) for lobe in (*self.lobes, *self.vessels)]
        distances += [chest - (self.habitus.wall_mm + 1.0), x - self.skin(y) - 6.0]
        return np.minimum.reduce([*distances, *self.pectorals(chest, arc)])


def _draw_body(habitus: Habitus, rng: np.random.Generator) -> _Body:
    """The patient's anatomy at the level of one node; levels of one patient differ by a few mm."""
    size = habitus.muscularity
    wobble = rng.normal(0.0, 1.0, (6, 4))

    def lobe(index: int, y: float, x: float, semi_y: float, semi_x: float, turn: float):
        a, b, c, d = wobble[index]
        scale = size * np.exp(0.06 * d)
        return y + 1.5 * a, x + 1.5 * b, semi_y * scale, semi_x * scale, turn + 0.12 * c

    lobes = (
        lobe(0, 47.0, 10.0, 24.0, 19.0, 0.35),
        lobe(1, 39.0, -21.0, 16.0, 18.0, -0.35),
        lobe(2, 62.0, -33.0, 21.0, 13.0, 0.20),
        lobe(3, 84.0, -8.0, 22.0, 30.0, -0.30),
        lobe(4, 76.0, 26.0, 30.0, 10.0, -0.70),
    )
    high = rng.uniform()
    artery, vein = (
        (y + a, x + b)
        for (y, x), (a, b) in zip((habitus.artery_mm, habitus.vein_mm), wobble[5].reshape(2, 2), strict=True)
    )
    stretch = rng.uniform(1.0, 1.8, 2)
    turns = rng.uniform(0.0, np.pi, 2)
    radius = 1.7 + 1.2 * high, 2.3 + 2.0 * high
    vessels = tuple((y, x, r, r * s, t) for (y, x), r, s, t in zip((artery, vein), radius, stretch, turns, strict=True))
    lung_x = habitus.chest_mm + 72.0
    return _Body(
        habitus=habitus,
        lung=(12.0 + rng.normal(0.0, 5.0), lung_x, 96.0, 72.0, rng.normal(0.08, 0.05)),
        lobes=lobes,
        scapula=(58.0 + rng.normal(0.0, 2.0), -4.0 + rng.normal(0.0, 2.0), 3.6, 6.0, 0.3 + rng.normal(0.0, 0.2)),
        blade_end=(100.0 + rng.normal(0.0, 4.0), 42.0 + rng.normal(0.0, 4.0)),
        pectoral_tip_mm=44.0 + rng.normal(0.0, 4.0),
        pectoral_mm=11.0 * size**2 * float(np.exp(rng.normal(0.0, 0.12))),
        pectoral_lift_mm=rng.uniform(2.0, 9.0),
        minor_mm=7.0 * size * (0.4 + 0.8 * high),
        rib_phase_mm=rng.uniform(0.0, 36.0),
        vessels=vessels,
        skin_bulge_mm=rng.uniform(95.0, 150.0),
        fold=(rng.uniform(0.0, 9.0), rng.uniform(-25.0, 15.0), rng.uniform(14.0, 24.0)),
    )


def _node_center(body: _Body, shape: NodeShape, turn: float, rng: np.random.Generator) -> tuple[float, float]:
    """(y, x) of a place in the fat, moved off the chest wall by as much as the node is thick there."""
    y, x = rng.normal(0.0, 1.0, (2, 24)) * np.array([[9.0], [9.0]]) + np.array([[-5.0], [-8.0]])
    clearance = body.clearance_mm(y, x)
    roomy = np.flatnonzero(clearance > 8.0)
    chosen = int(roomy[0]) if roomy.size else int(clearance.argmax())
    y, x = float(y[chosen]), float(x[chosen])
    reach = np.hypot(0.5 * shape.long_axis_mm * np.cos(turn), 0.5 * shape.short_axis_mm * np.sin(turn))
    wall = float(body.chest(y, x)[0]) - body.habitus.wall_mm
    return y, x - max(0.0, float(reach) + 2.0 - wall)


def _tissues(cut: _Cut) -> tuple[np.ndarray, np.ndarray]:
    """(rows, columns) Hounsfield units without the index node, and the share of fat in each pixel, 0..1."""
    grid, body, rng, habitus = cut.grid, cut.body, cut.rng, cut.body.habitus
    y, x = grid.y, grid.x
    slow, middling = grid.field(9.0, 9.0, rng), grid.field(3.0, 3.0, rng)
    image = habitus.fat_hu + 3.0 * slow
    breast = _inside(y + 38.0, 6.0) * habitus.glandularity
    _blend(image, 30.0, 0.75 * breast * _inside(0.9 - middling - 0.5 * slow, 0.5))
    septa = _web(grid.field(5.0, 5.0, rng), grid.pixel_mm, 0.35)
    _blend(image, 20.0, septa * (0.16 + 0.16 * np.clip(slow, 0.0, 2.0)))
    _add_fine_vessels(image, grid, cut.scanner.iodine_gain, rng)
    pushed_y, pushed_x = _pushed(y, x, cut.center, cut.shape)
    chest, arc = body.chest(y, x)
    soft = np.zeros_like(image)
    fibers = grid.field(2.5, 0.8, rng)
    muscle_hu = habitus.muscle_hu + 4.0 * middling - 18.0 * np.clip(fibers - 0.9, 0.0, None)
    uneven = 1.1 * middling
    for distance in body.pectorals(chest + 0.4 * uneven, arc):
        soft = np.maximum(soft, _inside(distance))
    nearest, second = np.full_like(image, np.inf), np.full_like(image, np.inf)
    for lobe in body.lobes:
        distance = _ellipse_distance(pushed_y, pushed_x, lobe) + uneven
        second = np.minimum(second, np.maximum(nearest, distance))
        nearest = np.minimum(nearest, distance)
    planes = np.exp(-(((second - nearest) / 0.8) ** 2)) * np.clip(0.55 + 0.4 * slow, 0.0, 1.0)
    soft = np.maximum(soft, _inside(nearest) * (1.0 - planes))
    skin = x - body.skin(y)
    soft *= _inside(6.0 - skin, 0.6)
    wall = habitus.wall_mm
    layer = np.exp(-(((chest - 0.68 * wall - 0.5 * slow) / 0.9) ** 2)) * np.clip(0.5 + 0.5 * middling, 0.0, 1.0)
    soft = np.maximum(soft, _inside(chest - wall - 0.8 * slow) * (1.0 - layer))
    _blend(image, muscle_hu, soft)
    _add_bones(image, body, chest, arc, grid)
    gain = cut.scanner.iodine_gain
    filled = np.zeros_like(image)
    for vessel, blood in zip(body.vessels, (habitus.artery_hu, habitus.vein_hu), strict=True):
        place = _inside(_ellipse_distance(pushed_y, pushed_x, vessel))
        _blend(image, 45.0 + gain * (blood - 45.0), place)
        filled = np.maximum(filled, place)
    fat = (1.0 - soft) * (1.0 - filled)
    fat *= _add_neighbor(image, fat, cut)
    _blend(image, SKIN_HU, _inside(np.abs(skin - 0.9) - 0.9))
    fat *= _inside(2.0 - skin)
    _blend(image, AIR_HU, _inside(skin))
    lung = _inside(chest)
    vessels = np.clip(smooth_field(image.shape, 1.1 / grid.pixel_mm, rng) - 2.0, 0.0, 0.65) * _inside(chest + 9.0, 4.0)
    _blend(image, LUNG_HU + 1400.0 * vessels, lung)
    return image, fat


def _web(field: np.ndarray, pixel_mm: float, width_mm: float) -> np.ndarray:
    """(rows, columns) 0..1: thin lines where the field is zero, at least as wide as the pixels can show."""
    down, across = np.gradient(field, pixel_mm)
    steep = np.sqrt(down * down + across * across) + 1e-6
    width = max(width_mm, 0.5 * pixel_mm)
    return width_mm / width * np.exp(-0.5 * (field / steep / width) ** 2)


def _pushed(y, x, center: tuple[float, float], shape: NodeShape) -> tuple[np.ndarray, np.ndarray]:
    """Where the tissue now at (y, x) lay before the node grew there: radial, fading over 18 mm."""
    down, across = y - center[0], x - center[1]
    radius = np.sqrt(down * down + across * across) + 1e-3
    node = 0.25 * (shape.long_axis_mm + shape.short_axis_mm)
    back = max(node - 4.0, 0.0) * np.exp(-np.maximum(radius - node, 0.0) / 18.0)
    back /= radius
    return y - down * back, x - across * back


def _add_fine_vessels(image: np.ndarray, grid: _Grid, gain: float, rng: np.random.Generator) -> None:
    """Fourteen dots and short oblique cuts of vessels, 1-2.5 mm thick, in the fat."""
    y, x = rng.uniform(-40.0, 30.0, 14), rng.uniform(-40.0, 22.0, 14)
    thick = rng.uniform(0.45, 1.25, 14)
    stretch = 1.0 + rng.exponential(0.9, 14)
    turn = rng.uniform(0.0, np.pi, 14)
    blood = rng.uniform(60.0, 135.0, 14)
    for place in range(14):
        rows, columns = _window(grid, (y[place], x[place]), 12.0)
        ellipse = (y[place], x[place], thick[place], thick[place] * stretch[place], turn[place])
        inside = _inside(_ellipse_distance(grid.y[rows], grid.x[:, columns], ellipse))
        _blend(image[rows, columns], 45.0 + gain * (blood[place] - 45.0), inside)


def _window(grid: _Grid, center: tuple[float, float], reach_mm: float) -> tuple[slice, slice]:
    """Rows and columns within `reach_mm` of a place, cut to the image (possibly empty)."""
    slices = []
    for place, shift, extent in zip(center, (grid.shift_y, grid.shift_x), (grid.rows, grid.columns), strict=True):
        middle = (place + shift) / grid.pixel_mm + 0.5 * (extent - 1)
        reach = reach_mm / grid.pixel_mm
        start = min(max(int(np.floor(middle - reach)), 0), extent)
        slices.append(slice(start, min(max(int(np.ceil(middle + reach)) + 1, start), extent)))
    return slices[0], slices[1]


def _add_bones(image: np.ndarray, body: _Body, chest: np.ndarray, arc: np.ndarray, grid: _Grid) -> None:
    """Ribs in the chest wall, cut obliquely, and the scapula with its blade: marrow within a bright cortex."""
    period = 36.0
    along = np.mod(arc - body.rib_phase_mm + period / 2, period) - period / 2
    over = (chest - 0.38 * body.habitus.wall_mm) - 0.06 * along
    bones = [
        _ellipse_distance(over, along, (0.0, 0.0, 3.3, 11.0, 0.0)),
        _ellipse_distance(grid.y, grid.x, body.scapula),
    ]
    (y0, x0), (y1, x1) = body.scapula[:2], body.blade_end
    length = np.hypot(y1 - y0, x1 - x0)
    down, across = (y1 - y0) / length, (x1 - x0) / length
    forward = (grid.y - y0) * down + (grid.x - x0) * across
    aside = (grid.x - x0) * down - (grid.y - y0) * across
    part = np.clip(forward / length, 0.0, 1.0)
    bend = 5.0 * np.sin(np.pi * part)
    bones.append(np.hypot(aside - bend, forward - part * length) - (2.8 - 1.3 * np.sqrt(part)))
    for bone in bones:
        _blend(image, CORTICAL_BONE_HU, _inside(bone))
        _blend(image, MARROW_HU, _inside(bone + 1.2, 0.5))


def _add_neighbor(image: np.ndarray, fat: np.ndarray, cut: _Cut) -> np.ndarray:
    """In four slices of ten, a small ordinary node with a hilum beside the index node. Returns the share not taken by it."""
    grid, center, rng = cut.grid, cut.center, cut.rng
    here = rng.uniform() < 0.4
    short, ratio, hilum = rng.uniform(3.0, 5.5), rng.uniform(0.5, 0.75), rng.uniform(0.4, 0.65)
    direction, gap, enhancement = rng.uniform(0.0, 2.0 * np.pi), rng.uniform(6.0, 16.0), rng.uniform(38.0, 58.0)
    free = np.ones_like(image)
    if not here:
        return free
    node = draw_node(NodeShape(short / ratio, short, hilum, 0.03), rng)
    away = 0.5 * cut.shape.long_axis_mm + gap
    place = (center[0] + away * np.sin(direction), center[1] + away * np.cos(direction))
    rows, columns = _window(grid, place, short / ratio)
    y, x = grid.y[rows] - place[0], grid.x[:, columns] - place[1]
    if not (y.size and x.size):
        return free
    inside = _inside(node.distance_mm(0.0, y, x)) * fat[rows, columns]
    hilar = _inside(node.hilum_distance_mm(0.0, y, x))
    cortex = UNENHANCED_NODE_HU + cut.scanner.iodine_gain * enhancement
    _blend(image[rows, columns], cortex + hilar * (HILUM_HU - cortex), inside)
    free[rows, columns] = 1.0 - inside
    return free


def _add_strands(image: np.ndarray, fat: np.ndarray, mask: np.ndarray, stranding: float, cut: _Cut) -> None:
    """Edema in the fat 3-15 mm from the node: a web of strands and haze, outside the square that holds the node.

    Distance from the square is measured with the 4-norm, whose balls are squares with round corners; where the edema begins
    varies outward only, so that the ring shows neither corners nor a sharp inner border.
    """
    grid, rng = cut.grid, cut.rng
    coarse, fine = grid.field(2.2, 2.2, rng), grid.field(1.3, 1.3, rng)
    patches = grid.field(5.0, 5.0, rng)
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not rows.size:
        return
    half = 0.5 * grid.pixel_mm * (max(np.ptp(rows), np.ptp(columns)) + 1)
    y = grid.y - grid.y[rows[[0, -1]]].mean()
    x = grid.x - grid.x[:, columns[[0, -1]]].mean()
    distance = (
        np.sqrt(np.sqrt(y**4 + x**4))
        - ((1.0 + STRANDING_FREE_MARGIN) * half + 0.8)
        - 2.2 * np.clip(0.5 - 1.0 * patches, 0.0, 1.6)
    )
    ring = np.clip(distance / 4.0, 0.0, 1.0) * np.exp(-((np.maximum(distance - 5.0, 0.0) / 6.5) ** 2))
    ring *= fat * np.clip(1.05 + 0.75 * patches, 0.12, 2.2)
    web = np.maximum(_web(coarse, grid.pixel_mm, 0.50), 0.7 * _web(fine, grid.pixel_mm, 0.40))
    weight = 1.0 - np.exp(-stranding * ring * (0.95 * web + 0.22))
    _blend(image, 25.0, weight)


def _add_node(image: np.ndarray, node: Node, appearance: NodeAppearance, cut: _Cut) -> None:
    """The index node over everything, averaged over three planes of the slice, with a thin layer of fat round it."""
    grid, center, scanner = cut.grid, cut.center, cut.scanner
    blotches = grid.field(1.1, 1.1, cut.rng)
    rows, columns = _window(grid, center, 0.75 * appearance.long_axis_mm + 8.0)
    y, x = grid.y[rows] - center[0], grid.x[:, columns] - center[1]
    patch = image[rows, columns]
    blotches = blotches[rows, columns]
    cortex = UNENHANCED_NODE_HU + scanner.iodine_gain * appearance.enhancement_hu
    semi = node.shape.semi_axes_mm[1]
    averaged = np.zeros_like(patch)
    offsets = scanner.slice_thickness_mm * np.array([-1.0, 0.0, 1.0]) / 3.0
    for offset in offsets:
        distance = node.distance_mm(offset, y, x)
        plane = patch.copy()
        _blend(plane, cut.body.habitus.fat_hu, 0.8 * _inside(distance - 1.0, 0.6))
        depth = np.clip(-distance / semi, 0.0, 1.0)
        core = np.clip((depth - 0.18 + 0.10 * blotches) / 0.3, 0.0, 1.0)
        core *= np.clip(1.0 + 0.35 * blotches, 0.2, 1.6)
        dead = appearance.necrosis * core
        content = cortex - np.clip(dead, 0.0, 1.0) * (cortex - NECROSIS_HU)
        hilar = _inside(node.hilum_distance_mm(offset, y, x), 0.4)
        _blend(content, HILUM_HU, hilar)
        _blend(plane, content, _inside(distance, appearance.margin_blur_mm))
        averaged += plane
    image[rows, columns] = averaged / len(offsets)
