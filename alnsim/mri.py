"""Multiparametric breast MRI before and after therapy: traits to tissue properties to T2, DWI, ADC and DCE volumes, with masks.

Which patient has which traits is decided elsewhere, and so is every file. Volumes are (z, y, x): axial slices of one
breast, row 0 in front (air and nipple), the chest wall at the last rows.

The physics in words, with sources and what is unlike reality: MODEL.md in this folder.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy.ndimage import gaussian_filter1d
from scipy.special import ndtri

from alnsim.shapes import Lesion, LesionShape, draw_lesion, smooth_field, white_noise
from alnsim.traits import LARGEST_SCORE, trait_scores

TRAITS = ("size", "irregularity", "rim_enhancement", "washout", "low_adc", "heterogeneity", "edema")
"""Standard normal scores of the image, in the order of `appearance_from_traits`; higher looks more malignant."""

RESPONSE_TRAITS = ("shrinkage", "adc_rise", "enhancement_drop", "edema_resolution")
"""Standard normal scores of the change under therapy, in the order of `after_therapy`; higher is the better response."""

SEQUENCES = ("T2", "DWI_b800", "ADC", "DCE_pre", "DCE_early", "DCE_late")

COMPLETE_RESPONSE_SCORE = float(ndtri(0.88))
"""Above this score of "shrinkage" (1.175) the lesion is gone: 12 % of a standard normal population."""

SIZE_PER_SD, SHRINKAGE_PER_SD = 0.24, 0.32
ADC_PER_SD, ADC_RISE_PER_SD = 0.13, 0.13
EDEMA_PER_SD, EDEMA_RESOLUTION_PER_SD = 0.38, 0.25
ENHANCEMENT_DROP_PER_SD, VASCULARITY_SD = 0.28, 0.25
"""Change of the logarithm of diameter, ADC, edema (extent and water) and enhancement per standard deviation of a trait."""

GAINS = {
    "size": ("shrinkage", -SHRINKAGE_PER_SD / SIZE_PER_SD),
    "low_adc": ("adc_rise", -ADC_RISE_PER_SD / ADC_PER_SD),
    "edema": ("edema_resolution", -EDEMA_RESOLUTION_PER_SD / EDEMA_PER_SD),
}
"""{trait before therapy: (response trait, g)}: after therapy it looks like a trait of t + g r, up to a constant."""

EARLY_MIN, LATE_MIN = 1.5, 6.0
LOW_B, HIGH_B = 0.05, 0.8
"""b in ms/um2: 50 and 800 s/mm2."""

RELAXIVITY = 4.5
"""Liters per mmol and s, an extracellular gadolinium agent near 1.5-3 tesla (our choice, within the published range)."""

PLASMA_MMOL = (0.1 * 3.99, 0.1 * 4.78)
PLASMA_PER_MIN = (0.144, 0.0111)
"""Tofts & Kermode 1991: C_p(t) = D (3.99 exp(-0.144 t) + 4.78 exp(-0.0111 t)) mmol/l, D = 0.1 mmol/kg, t in min."""


@dataclass(frozen=True)
class Tissue:
    """density: relative protons; t1_ms, t2_ms: at 1.5 and 3 tesla; adc: um2/ms."""

    density: float
    t1_ms: tuple[float, float]
    t2_ms: tuple[float, float]
    adc: float


GLAND = Tissue(0.85, (1266.0, 1445.0), (57.5, 54.4), 1.90)
FAT = Tissue(1.00, (296.0, 367.0), (53.3, 53.0), 0.05)
MUSCLE = Tissue(0.80, (1008.0, 1412.0), (44.0, 40.0), 1.50)
SKIN = Tissue(0.60, (900.0, 1050.0), (38.0, 35.0), 1.20)
TUMOR = Tissue(0.86, (1250.0, 1450.0), (82.0, 76.0), 1.00)
FLUID = Tissue(1.00, (1900.0, 2200.0), (160.0, 150.0), 2.30)
SCAR = Tissue(0.80, (1150.0, 1300.0), (66.0, 62.0), 1.60)
BLOOD = Tissue(0.90, (1440.0, 1650.0), (60.0, 50.0), 1.70)


@dataclass(frozen=True)
class Scanner:
    """One center's machine and protocol. Times in ms, lengths in mm; noise as a share of gland's signal in the sequence.

    fat_residue: share of fat's signal that suppression leaves on T2 and DWI, and on DCE. bias_sd: of the logarithm of the
    coil's sensitivity. gain: stored value of gland on T2 at the mean sensitivity.
    """

    center: str
    tesla: float
    t2_tr_ms: float
    t2_te_ms: float
    dwi_te_ms: float
    dce_tr_ms: float
    flip_degrees: float
    blur_mm: float
    dwi_blur_mm: float
    t2_noise: float
    dwi_noise: float
    dce_noise: float
    fat_residue: tuple[float, float]
    bias_sd: float
    gain: float

    def of(self, pair: tuple[float, float]) -> float:
        """The entry of a (1.5 tesla, 3 tesla) pair."""
        return pair[1] if self.tesla > 2.0 else pair[0]


SCANNERS = {
    "primary": Scanner(
        "primary", 3.0, 4600.0, 82.0, 62.0, 5.0, 12.0, 0.55, 1.1, 0.045, 0.022, 0.045, (0.10, 0.20), 0.16, 400.0
    ),
    "external": Scanner(
        "external", 1.5, 5200.0, 92.0, 78.0, 6.2, 15.0, 0.85, 1.5, 0.075, 0.035, 0.075, (0.18, 0.23), 0.11, 260.0
    ),
}
"""Our choice: the external machine is an older 1.5 tesla (more blur and noise, poorer fat suppression, weaker bias)."""


@dataclass(frozen=True)
class MRIAppearance:
    """What the volumes show of one lesion.

    diameter_mm: of the sphere of the lesion's volume, 0 when it is gone. lobulation: sd of the relative radius;
    spiculation_mm: mean length of spikes. rim_contrast: 0 even, 1 core without enhancement. early_mmol: mean concentration of
    agent (mmol/l) 1.5 min after injection; kep_per_min: efflux rate. adc_um2_per_ms: mean diffusion coefficient.
    heterogeneity: sd of the logarithm of enhancement within the lesion (half of it for ADC and T2).
    edema_extent_mm, edema_water: how far fluid reaches round the lesion, and its share of the tissue at the margin.
    """

    diameter_mm: float
    lobulation: float
    spiculation_mm: float
    rim_contrast: float
    early_mmol: float
    kep_per_min: float
    adc_um2_per_ms: float
    heterogeneity: float
    edema_extent_mm: float
    edema_water: float


def appearance_from_traits(traits: np.ndarray) -> MRIAppearance:
    """Physical appearance from seven standard normal trait scores, in the order of `TRAITS`.

    Every map is strictly monotone over +-2.5 standard deviations and constant beyond. Diameters have median 17.5 mm and
    95 % between about 11 and 28 mm; ADC falls from 1.38 to 0.72 um2/ms (our choice, the range of invasive cancers).
    """
    size, irregularity, rim, washout, low_adc, uneven, edema = trait_scores(traits, TRAITS)
    return MRIAppearance(
        diameter_mm=17.5 * np.exp(SIZE_PER_SD * size),
        lobulation=0.062 * np.exp(0.44 * irregularity),
        spiculation_mm=1.2 * np.exp(0.45 * irregularity),
        rim_contrast=0.45 + 0.178 * rim,
        early_mmol=0.36,
        kep_per_min=0.55 * np.exp(0.60 * washout),
        adc_um2_per_ms=1.0 * np.exp(-ADC_PER_SD * low_adc),
        heterogeneity=0.24 * np.exp(0.40 * uneven),
        edema_extent_mm=4.5 * np.exp(EDEMA_PER_SD * edema),
        edema_water=0.24 * np.exp(EDEMA_PER_SD * edema),
    )


def after_therapy(before: MRIAppearance, response: np.ndarray) -> MRIAppearance:
    """The same lesion after therapy, from four standard normal scores in the order of `RESPONSE_TRAITS`.

    The diameter falls to 0.52 of what it was at a median score (1.16 at -2.5, 0.36 at `COMPLETE_RESPONSE_SCORE`) and to 0
    above that score; at median scores ADC rises by a quarter, and early enhancement and edema fall to 0.60. kep falls by
    a quarter. Logarithms are linear in the scores, so that `GAINS` holds.
    """
    shrinkage, adc_rise, drop, resolution = trait_scores(response, RESPONSE_TRAITS)
    ratio = 0.0 if shrinkage > COMPLETE_RESPONSE_SCORE else 0.52 * np.exp(-SHRINKAGE_PER_SD * shrinkage)
    return replace(
        before,
        diameter_mm=before.diameter_mm * ratio,
        early_mmol=before.early_mmol * 0.60 * np.exp(-ENHANCEMENT_DROP_PER_SD * drop),
        kep_per_min=before.kep_per_min * 0.75,
        adc_um2_per_ms=before.adc_um2_per_ms * 1.25 * np.exp(ADC_RISE_PER_SD * adc_rise),
        edema_extent_mm=before.edema_extent_mm * 0.75 * np.exp(-EDEMA_RESOLUTION_PER_SD * resolution),
        edema_water=before.edema_water * 0.60 * np.exp(-EDEMA_RESOLUTION_PER_SD * resolution),
    )


@dataclass(frozen=True)
class VolumeGrid:
    """shape: (slices, rows, columns); spacing_mm: (z, y, x). The field must be at least 44 x 110 x 110 mm."""

    shape: tuple[int, int, int]
    spacing_mm: tuple[float, float, float]

    def __post_init__(self) -> None:
        if len(self.shape) != 3 or len(self.spacing_mm) != 3 or min(self.shape) < 2 or min(self.spacing_mm) <= 0.0:
            raise ValueError(f"a grid of {self.shape} voxels at {self.spacing_mm} mm is no volume")
        if self.extent_mm[0] < 44.0 or min(self.extent_mm[1:]) < 110.0:
            raise ValueError(f"the field is {self.extent_mm} mm (z, y, x); at least 44 x 110 x 110 mm are needed")

    @property
    def extent_mm(self) -> tuple[float, float, float]:
        return tuple(float(n * step) for n, step in zip(self.shape, self.spacing_mm, strict=True))

    def pixels(self, millimeters: float) -> tuple[float, float, float]:
        """A length in voxels along each axis."""
        return tuple(millimeters / step for step in self.spacing_mm)

    def field(self, sigma_mm: tuple[float, float, float], rng: np.random.Generator) -> np.ndarray:
        """Smooth random field of variance 1, Gaussian sigma in mm along (z, y, x)."""
        return smooth_field(self.shape, [mm / step for mm, step in zip(sigma_mm, self.spacing_mm, strict=True)], rng)


@dataclass(frozen=True)
class Breast:
    """One patient's breast, shared by all visits. Lengths in mm; x and z from the middle of the field, y from its front.

    lateral: +1 when lateral is toward the last column (left breast), -1 otherwise. nipple: (z, y, x). wall_mm: depth of
    the pectoral muscle behind the nipple, pectoral_mm: its thickness. half_width_mm, half_height_mm: of the breast's
    base; base_mm: fat on the chest beside it. fullness: exponent of its outline; droop: how much wider one side is.
    lobes, fine: (z, y, x) random fields of gland and of ligaments. density: shift of the gland's threshold; gland_t2:
    factor on its T2; enhancing_gland: mmol/l early. vascularity: factor on the lesion's enhancement. vessels: (n, 8), see
    `_vessels`. lesion_place: three numbers in -1..1, where in the room that the lesion has; lesion_seed: of its shape
    and texture.
    """

    grid: VolumeGrid
    lateral: float
    nipple: tuple[float, float, float]
    wall_mm: float
    half_width_mm: float
    half_height_mm: float
    base_mm: float
    pectoral_mm: float
    fullness: float
    droop: float
    lobes: np.ndarray
    fine: np.ndarray
    density: float
    gland_t2: float
    enhancing_gland: float
    vascularity: float
    vessels: np.ndarray
    lesion_place: tuple[float, float, float]
    lesion_seed: int


def vascularity(score: float) -> float:
    """Factor on the enhancement of a patient's lesion at every visit, from a standard normal score."""
    return float(np.exp(VASCULARITY_SD * np.clip(score, -LARGEST_SCORE, LARGEST_SCORE)))


def draw_breast(grid: VolumeGrid, rng: np.random.Generator, *, laterality: str = "L") -> Breast:
    """Anatomy of one patient, unrelated to any trait. laterality: "L" or "R", else ValueError."""
    if laterality not in ("L", "R"):
        raise ValueError(f'laterality is {laterality!r}; expected "L" or "R"')
    _, depth, width = grid.extent_mm
    wall = rng.uniform(0.71, 0.79) * depth
    nipple = (rng.normal(0.0, 4.0), wall - min(rng.uniform(0.58, 0.68) * depth, 88.0), rng.normal(0.0, 3.0))
    return Breast(
        grid=grid,
        lateral=1.0 if laterality == "L" else -1.0,
        nipple=tuple(float(value) for value in nipple),
        wall_mm=float(wall),
        half_width_mm=float(rng.uniform(0.38, 0.45) * width),
        half_height_mm=float(rng.uniform(62.0, 85.0)),
        base_mm=float(rng.uniform(7.0, 14.0)),
        pectoral_mm=float(rng.uniform(8.0, 14.0)),
        fullness=float(rng.uniform(1.9, 2.7)),
        droop=float(np.clip(rng.normal(0.0, 0.10), -0.2, 0.2)),
        lobes=_lobes(grid, nipple, rng),
        fine=grid.field((2.2, 2.0, 2.0), rng),
        density=float(np.clip(rng.normal(0.0, 0.55), -1.2, 1.2)),
        gland_t2=float(np.exp(rng.normal(0.0, 0.10))),
        enhancing_gland=float(np.clip(0.045 * np.exp(rng.normal(0.0, 0.55)), 0.0, 0.11)),
        vascularity=vascularity(float(rng.normal())),
        vessels=_vessels(grid, wall, rng),
        lesion_place=tuple(float(value) for value in rng.uniform(-1.0, 1.0, 3)),
        lesion_seed=int(rng.integers(2**62)),
    )


def _lobes(grid: VolumeGrid, nipple: tuple[float, float, float], rng: np.random.Generator) -> np.ndarray:
    """(z, y, x) field of variance 1 whose streaks point at the nipple: drawn over slice, angle and distance from a point
    30 mm in front of it, so that streaks have a finite width at the nipple too."""
    _, y, x = _coordinates(grid)
    down, across = y[:, None] - (nipple[1] - 30.0), x[None, :] - nipple[2]
    angle = np.clip(np.arctan2(across, np.maximum(down, 1.0)), -1.25, 1.25)
    distance = np.clip(np.hypot(across, down), 0.0, 190.0)
    angles, distances = 126, 96
    polar = smooth_field((grid.shape[0], angles, distances), (4.0 / grid.spacing_mm[0], 2.0, 4.5), rng)
    row = (angle + 1.25) * ((angles - 1) / 2.5)
    column = distance * ((distances - 1) / 190.0)
    low_row = np.minimum(row.astype(int), angles - 2)
    low_column = np.minimum(column.astype(int), distances - 2)
    down, across = row - low_row, column - low_column
    flat = polar.reshape(grid.shape[0], -1)
    first = low_row * distances + low_column
    corners = [flat.take(first + step, axis=1) for step in (0, 1, distances, distances + 1)]
    near = corners[0] * (1 - across) + corners[1] * across
    far = corners[2] * (1 - across) + corners[3] * across
    return near + down * (far - near)


def _vessels(grid: VolumeGrid, wall_mm: float, rng: np.random.Generator) -> np.ndarray:
    """(5, 8): place in x and z (mm), waviness in x and z (mm), phase, wavelength, radius (mm), where it ends in front (mm)."""
    count = 5
    half_z, _, half_x = (0.5 * extent for extent in grid.extent_mm)
    ranges = [
        (-0.55, 0.55),
        (-0.9, 0.9),
        (2.0, 8.0),
        (2.0, 9.0),
        (0.0, 2.0 * np.pi),
        (28.0, 70.0),
        (0.7, 1.3),
        (0.35, 0.8),
    ]
    scale = (half_x, half_z, 1.0, 1.0, 1.0, 1.0, 1.0, wall_mm)
    return np.column_stack([rng.uniform(*limits, count) * by for limits, by in zip(ranges, scale, strict=True)])


def _coordinates(grid: VolumeGrid) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Voxel centers in mm along z, y, x; z and x from the middle of the field, y from its front edge."""
    z, y, x = ((np.arange(n) + 0.5) * step for n, step in zip(grid.shape, grid.spacing_mm, strict=True))
    z, x = z - 0.5 * grid.extent_mm[0], x - 0.5 * grid.extent_mm[2]
    return z, y, x


@dataclass(frozen=True)
class MRISession:
    """One visit. volumes: {name in `SEQUENCES`: (z, y, x) int16}, ADC in 1e-6 mm2/s, the others in arbitrary units; mask,
    bed: (z, y, x) uint8, 1 = lesion now (empty after a complete response), 1 = lesion before therapy (at the first visit the
    same), both on the grid of the first visit; center_mm: of the lesion, as `Breast` counts; spacing_mm: (z, y, x)."""

    volumes: dict[str, np.ndarray]
    mask: np.ndarray
    bed: np.ndarray
    center_mm: tuple[float, float, float]
    spacing_mm: tuple[float, float, float]


def simulate_session(
    appearance: MRIAppearance,
    breast: Breast,
    scanner: Scanner,
    rng: np.random.Generator,
    *,
    before: MRIAppearance | None = None,
) -> MRISession:
    """One visit of a patient: all sequences on the grid of the breast.

    before: None at the first visit; at a follow-up the appearance at the first one, which places the lesion and its bed.
    The first visit defines the grid exactly; a follow-up is off by a shift (sd 0.55 mm per axis) and stretch (sd 0.6 %),
    and its masks lie where the tissue lies then. rng gives noise, coil sensitivity and misregistration only.
    """
    first = appearance if before is None else before
    if first.diameter_mm <= 0.0:
        raise ValueError("the lesion has no size at the first visit; pass the appearance before therapy as `before`")
    grid = breast.grid
    shift, stretch = rng.normal(0.0, 0.55, 3), rng.normal(0.0, 0.006, 3)
    if before is None:
        shift, stretch = np.zeros(3), np.zeros(3)
    middle = (0.0, breast.wall_mm - 40.0, 0.0)
    axes = [
        axis + (axis - about) * by + off
        for axis, about, by, off in zip(_coordinates(grid), middle, stretch, shift, strict=True)
    ]
    tissue = _tissue(breast, axes, is_moved=before is not None)
    lesion = _lesion(appearance, first, breast, axes)
    bias = _sensitivity(grid, scanner, rng)
    gain = scanner.gain * np.exp(rng.normal(0.0, 0.08))
    volumes = {"T2": _t2_weighted(tissue, lesion, breast, scanner, bias, gain, rng)}
    volumes["DWI_b800"], volumes["ADC"] = _diffusion(tissue, lesion, breast, scanner, bias, gain, rng)
    phases = _contrast_enhanced(tissue, lesion, breast, scanner, bias, gain, rng)
    volumes |= dict(zip(("DCE_pre", "DCE_early", "DCE_late"), phases, strict=True))
    return MRISession(volumes, lesion.mask, lesion.bed, lesion.center_mm, grid.spacing_mm)


@dataclass(frozen=True)
class _Tissues:
    """Shares of the voxel (z, y, x), lesion not yet put in; what is missing to 1 is air, lung or bone."""

    skin: np.ndarray
    fat: np.ndarray
    gland: np.ndarray
    muscle: np.ndarray
    blood: np.ndarray
    pattern: np.ndarray


def _step(distance_mm: np.ndarray, width_mm: float) -> np.ndarray:
    """0..1 across a surface, half at 0; a clipped ramp smoothed by its cubic, 2.5 width_mm on either side."""
    part = np.clip(distance_mm * (0.2 / width_mm) + 0.5, 0.0, 1.0)
    return part * part * (3.0 - 2.0 * part)


def _surfaces(breast: Breast, axes: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Depths in mm (z, 1, x) of the skin's surface and of the pectoral muscle."""
    z, _, x = axes
    across = x[None, None, :] - breast.nipple[2]
    along = z[:, None, None] - breast.nipple[0]
    outward = across * breast.lateral + 12.0
    wall = breast.wall_mm + 0.0045 * outward**2 + 0.0012 * along**2 + 0.05 * across * breast.lateral
    side = breast.half_width_mm * (1.0 + breast.droop * np.tanh(across / 25.0))
    dome = 1.0 - np.abs(across / side) ** breast.fullness - (along / breast.half_height_mm) ** 2
    height = breast.wall_mm - breast.nipple[1] - breast.base_mm
    dome = 0.5 * (dome + np.sqrt(dome**2 + 0.02))
    rise = height * dome**0.52
    rise += 5.0 * np.exp(-0.5 * (across**2 + along**2) / 3.5**2)
    return wall - breast.base_mm - rise, wall


def _tissue(breast: Breast, axes: list[np.ndarray], *, is_moved: bool) -> _Tissues:
    grid = breast.grid
    z, y, x = axes
    depth = y[None, :, None]
    surface, wall = _surfaces(breast, axes)
    step_z, _, step_x = grid.spacing_mm
    slope_z, slope_x = np.gradient(surface[:, 0, :], step_z, step_x)
    steep = np.maximum(1.0 / np.sqrt(1.0 + slope_z**2 + slope_x**2), 0.3)[:, None, :]
    under_surface = (depth - surface) * steep
    body = _step(under_surface, 0.35)
    under_skin = _step(under_surface - 2.0, 0.4)
    behind_wall = _step(depth - wall, 0.5)
    behind_muscle = _step(depth - wall - breast.pectoral_mm, 0.6)
    ribs = _step(depth - wall - breast.pectoral_mm - 12.0, 0.8)
    lobes, fine = breast.lobes, breast.fine
    if is_moved:
        lobes, fine = _resampled(lobes, breast.grid, axes), _resampled(fine, breast.grid, axes)
    across = ((x - breast.nipple[2]) / (0.62 * breast.half_width_mm))[None, None, :] ** 2
    along = ((z - breast.nipple[0]) / 34.0)[:, None, None] ** 2
    reach = -0.10 - 0.85 * (across + along) + breast.density
    near_edge = np.clip(np.minimum(under_surface - 9.0, 0.6 * (wall - depth) - 3.0), -12.0, 2.0)
    beside = [np.exp(-0.5 * ((axis - at) / 5.0) ** 2) for axis, at in ((x, breast.nipple[2]), (z, breast.nipple[0]))]
    nipple = beside[0][None, :] * beside[1][:, None]
    ducts = nipple[:, None, :] * np.clip((depth - breast.nipple[1]) * 0.1, 0.0, 1.0)
    raw = 1.15 * lobes + 0.45 * fine + reach + 0.32 * near_edge
    raw = raw + 1.6 * ducts
    gland = _step(raw, 0.22)
    ligament = np.clip(1.0 - np.abs(fine + 0.4 * lobes) * 5.5, 0.0, 1.0) * 0.42
    gland = np.maximum(gland, ligament)
    inner = under_skin * (1.0 - behind_wall)
    gland *= inner
    muscle = behind_wall * (1.0 - behind_muscle) * (0.88 + 0.06 * fine)
    bones = behind_muscle * (1.0 - ribs) * _step(lobes + 0.2, 0.3)
    skin = body - under_skin
    fat = inner - gland + 0.10 * behind_wall * (1.0 - behind_muscle) + 0.6 * bones
    muscle = (muscle + 0.3 * behind_muscle * (1.0 - ribs)) * body
    blood = _blood(breast, axes) * inner
    keep = 1.0 - blood
    return _Tissues(skin, fat * keep, gland * keep, muscle, blood, fine)


def _blood(breast: Breast, axes: list[np.ndarray]) -> np.ndarray:
    """(z, y, x) share of vessel, from curves that run from the chest wall forward; Gaussian cross sections.

    Each vessel's profile in x times its profile in z; vessels thinner than a voxel keep their blood by dilution.
    """
    z, y, x = axes
    step_z, _, step_x = breast.grid.spacing_mm
    total = np.zeros(breast.grid.shape)
    for place_x, place_z, wave_x, wave_z, phase, wavelength, radius, front in breast.vessels:
        angle = 2.0 * np.pi * y / wavelength + phase
        line_x = place_x * (0.6 + 0.4 * y / breast.wall_mm) + wave_x * np.sin(angle)
        line_z = place_z + wave_z * np.cos(0.8 * angle)
        wide_x, wide_z = np.hypot(radius, 0.45 * step_x), np.hypot(radius, 0.45 * step_z)
        across = np.exp(-0.5 * ((x[None, :] - line_x[:, None]) / wide_x) ** 2) * _step(y - front, 3.0)[:, None]
        along = np.exp(-0.5 * ((z[:, None] - line_z[None, :]) / wide_z) ** 2) * (radius**2 / (wide_x * wide_z))
        total += along[:, :, None] * across[None]
    return np.minimum(total, 0.95)


def _resampled(values: np.ndarray, grid: VolumeGrid, axes: list[np.ndarray]) -> np.ndarray:
    """The volume at displaced coordinates, one axis after the other, linear, ends repeated."""
    for axis, (wanted, own, step) in enumerate(zip(axes, _coordinates(grid), grid.spacing_mm, strict=True)):
        position = np.clip((wanted - own[0]) / step, 0.0, own.size - 1.001)
        below = position.astype(int)
        part = (position - below).reshape((-1,) + (1,) * (2 - axis))
        low, high = np.take(values, below, axis=axis), np.take(values, below + 1, axis=axis)
        values = low + part * (high - low)
    return values


@dataclass(frozen=True)
class _LesionMaps:
    """Shares and properties in `window`, the box of the volume that holds everything the lesion changes.

    inside, scar, fluid: shares of the voxel; early_mmol, adc (um2/ms): of the mass; t2: factor on its mean T2; scar_mmol,
    scar_adc: of the scar.
    """

    window: tuple[slice, slice, slice]
    inside: np.ndarray
    scar: np.ndarray
    fluid: np.ndarray
    early_mmol: np.ndarray
    kep_per_min: float
    scar_mmol: float
    adc: np.ndarray
    scar_adc: float
    t2: np.ndarray
    mask: np.ndarray
    bed: np.ndarray
    center_mm: tuple[float, float, float]


TEXTURE_SIGMA_MM = 2.4
TEXTURE_REACH_MM = 30.0
"""Gaussian sigma of the lesion's texture, and how far from its center it is drawn: more than the largest lesion reaches."""

LESION_AXES = (0.86, 1.0, 1.16)
"""Relative semi-axes (z, y, x): a little flat in z, so that the largest lesions fit into the field (our choice)."""


def _drawn(appearance: MRIAppearance, breast: Breast) -> Lesion:
    """The lesion; spikes and lobes that would leave the field through its first or last slice end before it."""
    shape = LesionShape(appearance.diameter_mm, LESION_AXES, appearance.lobulation, appearance.spiculation_mm)
    lesion = draw_lesion(shape, np.random.default_rng(breast.lesion_seed))
    cosine = np.abs(np.cos(np.linspace(0.0, np.pi, lesion.radius_mm.shape[0])))[:, None]
    limit = _free_half_height(breast.grid) / np.maximum(cosine, 1e-3)
    return replace(lesion, radius_mm=np.minimum(lesion.radius_mm, limit))


def _free_half_height(grid: VolumeGrid) -> float:
    """Half the field along z without its first and last slice."""
    return 0.5 * grid.extent_mm[0] - 1.1 * grid.spacing_mm[0]


def _lesion_center(first: Lesion, breast: Breast) -> tuple[float, float, float]:
    """Where the lesion of the first visit lies: as free as its size allows, inside the breast."""
    reach_z, reach_y, reach_x = first.half_extent_mm
    z = breast.lesion_place[0] * max(_free_half_height(breast.grid) - reach_z, 0.0)
    free = max(0.62 * breast.half_width_mm - 0.6 * reach_x, 0.0)
    x = breast.nipple[2] + breast.lesion_place[2] * free
    surface, wall = _surfaces(breast, [np.array([z]), None, np.array([x])])
    front, back = float(surface[0, 0, 0]) + 4.0 + reach_y, float(wall[0, 0, 0]) - 3.0 - reach_y
    middle, half = 0.5 * (front + back), max(0.5 * (back - front), 0.0)
    return float(z), float(middle + 0.8 * breast.lesion_place[1] * half), float(x)


def _lesion(appearance: MRIAppearance, first: MRIAppearance, breast: Breast, axes: list[np.ndarray]) -> _LesionMaps:
    grid = breast.grid
    original = _drawn(first, breast)
    center = _lesion_center(original, breast)
    halo = 2.2 * max(appearance.edema_extent_mm, 1.0)
    reach = max(original.reach_mm, 0.5 * appearance.diameter_mm * 1.8) + halo
    window = []
    for axis, middle in zip(axes, center, strict=True):
        low, high = np.searchsorted(axis, [middle - reach, middle + reach])
        window.append(slice(max(int(low) - 1, 0), int(high) + 1))
    window = tuple(window)
    z, y, x = (axis[part] - middle for axis, part, middle in zip(axes, window, center, strict=True))
    z, y, x = z[:, None, None], y[None, :, None], x[None, None, :]
    bed_mm = original.distance_mm(z, y, x)
    edge_mm = 0.22 * (grid.spacing_mm[1] + 0.6)
    is_gone = appearance.diameter_mm <= 0.0
    if is_gone:
        distance = np.sqrt(z * z + y * y + x * x)
        inside = np.zeros_like(bed_mm)
    else:
        distance = bed_mm if appearance == first else _drawn(appearance, breast).distance_mm(z, y, x)
        inside = _step(-distance, edge_mm)
    texture_rng = np.random.default_rng([breast.lesion_seed, 1])
    texture = [_lesion_texture(grid, axes, center, window, texture_rng) for _ in range(2)]
    scar = np.zeros_like(bed_mm)
    if appearance != first:
        scar = (0.45 + 0.15 * texture[1]) * _step(-bed_mm, 2.0 * edge_mm) * (1.0 - inside)
        scar = np.clip(scar, 0.0, 0.8)
    radius = max(0.5 * appearance.diameter_mm, 1.0)
    enhancement = _rim_profile(np.clip(-distance / radius, 0.0, 1.0), appearance.rim_contrast)
    enhancement *= np.exp(appearance.heterogeneity * texture[0])
    diffusion = np.exp(0.5 * appearance.heterogeneity * texture[1])
    t2 = np.exp(0.5 * appearance.heterogeneity * (0.6 * texture[1] - 0.8 * texture[0]))
    enhancement, diffusion, t2 = (_mean_one(values, inside) for values in (enhancement, diffusion, t2))
    outside = np.clip(distance if not is_gone else bed_mm, 0.0, None)
    streaks = np.clip(1.0 + 0.5 * breast.fine[window], 0.0, 2.0)
    fluid = np.exp(-((outside / appearance.edema_extent_mm) ** 2)) * streaks
    fluid = np.clip(appearance.edema_water * fluid, 0.0, 0.95) * (1.0 - inside)
    mask, bed = np.zeros(grid.shape, np.uint8), np.zeros(grid.shape, np.uint8)
    bed[window] = bed_mm < 0.0
    if not is_gone:
        mask[window] = distance < 0.0
        if not mask.any():
            mask[tuple(int(np.argmin(np.abs(axis - at))) for axis, at in zip(axes, center, strict=True))] = 1
    early = appearance.early_mmol * breast.vascularity * enhancement
    scar_mmol, scar_adc = (
        0.45 * appearance.early_mmol * breast.vascularity,
        0.5 * (appearance.adc_um2_per_ms + SCAR.adc),
    )
    adc = appearance.adc_um2_per_ms * diffusion
    shares, of_mass = (window, inside, scar, fluid), (early, appearance.kep_per_min)
    return _LesionMaps(*shares, *of_mass, scar_mmol, adc, scar_adc, t2, mask, bed, center)


def _lesion_texture(
    grid: VolumeGrid,
    axes: list[np.ndarray],
    center: tuple[float, float, float],
    window: tuple[slice, slice, slice],
    rng: np.random.Generator,
) -> np.ndarray:
    """Smooth random field of variance 1 in the window, drawn round the lesion's center; its edge repeats beyond reach."""
    reach = [round(TEXTURE_REACH_MM / step) for step in grid.spacing_mm]
    sigmas = [TEXTURE_SIGMA_MM / step for step in grid.spacing_mm]
    field = smooth_field([2 * extent + 1 for extent in reach], sigmas, rng)
    middles = [int(np.searchsorted(axis, at)) for axis, at in zip(axes, center, strict=True)]
    places = zip(grid.shape, window, middles, reach, strict=True)
    index = [np.clip(np.arange(n)[part] - middle + extent, 0, 2 * extent) for n, part, middle, extent in places]
    return field[np.ix_(*index)]


def _rim_profile(depth: np.ndarray, contrast: float) -> np.ndarray:
    """Relative enhancement over the relative depth (0 surface, 1 center): a bright rim round a core of 1 - contrast."""
    rim = np.exp(-(((depth - 0.10) / 0.23) ** 2))
    return 1.0 - contrast + 1.3 * contrast * rim


def _mean_one(values: np.ndarray, weight: np.ndarray) -> np.ndarray:
    total = float(weight.sum())
    if total <= 0.0:
        return values
    return values * (total / float((values * weight).sum()))


def tofts_unit_response(minutes: float, kep_per_min: float) -> float:
    """Tissue concentration (mmol/l) at a time after injection for Ktrans = 1 per min: the Tofts model in closed form.

    Integral over 0..t of C_p(u) exp(-kep (t - u)) du with the plasma curve of Tofts & Kermode 1991.
    """
    plasma = zip(PLASMA_MMOL, PLASMA_PER_MIN, strict=True)
    return sum(amount * _decayed(rate, kep_per_min, minutes) for amount, rate in plasma)


def _decayed(rate: float, kep: float, minutes: float) -> float:
    if abs(kep - rate) < 1e-6:
        return minutes * float(np.exp(-rate * minutes))
    return float((np.exp(-rate * minutes) - np.exp(-kep * minutes)) / (kep - rate))


def spoiled_gradient_echo(
    t1_ms: float, concentration_mmol: np.ndarray | float, tr_ms: float, flip_degrees: float
) -> np.ndarray:
    """Signal per unit of proton density: sin(a)(1 - E1) / (1 - cos(a) E1), E1 = exp(-TR (1/T1 + r1 C)); T2* left out."""
    rate = 1.0 / t1_ms + np.asarray(concentration_mmol) * (RELAXIVITY / 1000.0)
    e1 = np.exp(-tr_ms * rate)
    flip = np.deg2rad(flip_degrees)
    return np.sin(flip) * (1.0 - e1) / (1.0 - np.cos(flip) * e1)


def _spin_echo(tissue: Tissue, scanner: Scanner, te_ms: float) -> float:
    t1, t2 = scanner.of(tissue.t1_ms), scanner.of(tissue.t2_ms)
    return tissue.density * float((1.0 - np.exp(-scanner.t2_tr_ms / t1)) * np.exp(-te_ms / t2))


def _sensitivity(grid: VolumeGrid, scanner: Scanner, rng: np.random.Generator) -> np.ndarray:
    """(z, y, x) relative sensitivity of the coil: slow waves, and a fall toward the chest, away from the coil."""
    waves = grid.field((60.0, 38.0, 38.0), rng)
    depth = np.linspace(0.5, -0.5, grid.shape[1])[None, :, None]
    return np.exp(scanner.bias_sd * (waves + 1.8 * depth))


def rician(signal: np.ndarray, sigma: float, rng: np.random.Generator) -> np.ndarray:
    """Magnitude of signal plus complex Gaussian noise of sd `sigma` in each part (Gudbjartsson & Patz 1995)."""
    real = white_noise(signal.shape, rng)
    real *= sigma
    real += signal
    imaginary = white_noise(signal.shape, rng)
    imaginary *= sigma
    real *= real
    imaginary *= imaginary
    real += imaginary
    return np.sqrt(real, out=real)


def _acquired(
    signal: np.ndarray, blur_mm: float, grid: VolumeGrid, bias: np.ndarray, sigma: float, rng: np.random.Generator
) -> np.ndarray:
    """Magnitude image: in-plane blur, coil sensitivity, Rician noise."""
    for axis, step in ((1, grid.spacing_mm[1]), (2, grid.spacing_mm[2])):
        signal = gaussian_filter1d(signal, blur_mm / step, axis=axis, mode="nearest", truncate=2.5)
    signal *= bias
    return rician(signal, sigma, rng)


def _stored(values: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(values), 0, 32767).astype(np.int16)


def _with_lesion(signal: np.ndarray, lesion: _LesionMaps, mass: np.ndarray, scar: float, fluid: float) -> np.ndarray:
    """The lesion, its scar and its fluid take the place of what was there, each by its share of the voxel."""
    part = signal[lesion.window]
    part += lesion.fluid * (fluid - part)
    part += lesion.scar * (scar - part)
    part += lesion.inside * (mass - part)
    return signal


def _t2_weighted(tissue, lesion, breast, scanner, bias, gain, rng) -> np.ndarray:
    te = scanner.t2_te_ms
    gland = _spin_echo(GLAND, scanner, te / breast.gland_t2)
    fat = _spin_echo(FAT, scanner, te) * scanner.fat_residue[0]
    signal = tissue.gland * (gland * (1.0 + 0.10 * tissue.pattern)) + tissue.fat * fat
    signal += tissue.skin * (0.7 * _spin_echo(SKIN, scanner, te))
    signal += tissue.muscle * _spin_echo(MUSCLE, scanner, te)
    signal += tissue.blood * (0.5 * _spin_echo(BLOOD, scanner, te))
    mass = TUMOR.density * np.exp(-te / scanner.of(TUMOR.t2_ms) / lesion.t2)
    signal = _with_lesion(signal, lesion, mass, _spin_echo(SCAR, scanner, te), _spin_echo(FLUID, scanner, te))
    scale = gain / _spin_echo(GLAND, scanner, te)
    signal *= scale
    return _stored(_acquired(signal, scanner.blur_mm, breast.grid, bias, scanner.t2_noise * gain, rng))


def _diffusion(tissue, lesion, breast, scanner, bias, gain, rng) -> tuple[np.ndarray, np.ndarray]:
    """b = 800 s/mm2 and ADC in 1e-6 mm2/s."""
    te = scanner.dwi_te_ms
    gain = 1.4 * gain
    scale = gain / _spin_echo(GLAND, scanner, te)
    sigma = scanner.dwi_noise * gain
    magnitude = []
    for b in (LOW_B, HIGH_B):

        def level(kind: Tissue, b: float = b) -> float:
            return scale * _spin_echo(kind, scanner, te) * np.exp(-b * kind.adc)

        signal = tissue.gland * level(GLAND) + tissue.fat * (level(FAT) * (0.4 * scanner.fat_residue[0]))
        signal += tissue.skin * (level(SKIN) * 0.5) + tissue.muscle * level(MUSCLE)
        signal += tissue.blood * (level(BLOOD) * 0.2)
        mass = scale * _spin_echo(TUMOR, scanner, te) * np.exp(-b * lesion.adc)
        scar = scale * _spin_echo(SCAR, scanner, te) * np.exp(-b * lesion.scar_adc)
        signal = _with_lesion(signal, lesion, mass, float(scar), float(level(FLUID)))
        magnitude.append(_acquired(signal, scanner.dwi_blur_mm, breast.grid, bias, sigma, rng))
    low, high = magnitude
    adc = np.log(np.maximum(low, 1e-3) / np.maximum(high, 1e-3)) * (1000.0 / (HIGH_B - LOW_B))
    adc[low < 4.0 * sigma] = 0.0
    return _stored(high), _stored(np.minimum(adc, 4000.0))


def _contrast_enhanced(tissue, lesion, breast, scanner, bias, gain, rng) -> list[np.ndarray]:
    """Before, early and late, with one gain and one sensitivity."""
    tr, flip = scanner.dce_tr_ms, scanner.flip_degrees

    def echo(kind: Tissue, concentration: np.ndarray | float) -> np.ndarray:
        return kind.density * spoiled_gradient_echo(scanner.of(kind.t1_ms), concentration, tr, flip)

    scale = gain / echo(GLAND, 0.0)
    sigma = scanner.dce_noise * gain
    patchy = np.clip(1.0 + 0.7 * breast.lobes, 0.15, 3.0) * breast.enhancing_gland
    fat = tissue.fat * (scale * scanner.fat_residue[1] * echo(FAT, 0.0))
    phases = []
    for minutes in (0.0, EARLY_MIN, LATE_MIN):
        wash = tofts_unit_response(minutes, lesion.kep_per_min) / tofts_unit_response(EARLY_MIN, lesion.kep_per_min)
        slow = tofts_unit_response(minutes, 0.15) / tofts_unit_response(EARLY_MIN, 0.15)
        faster = tofts_unit_response(minutes, 0.30) / tofts_unit_response(EARLY_MIN, 0.30)
        plasma = sum(a * np.exp(-m * minutes) for a, m in zip(PLASMA_MMOL, PLASMA_PER_MIN, strict=True))
        blood = 0.55 * plasma * (minutes > 0.0)
        signal = tissue.gland * (echo(GLAND, patchy * slow if minutes > 0.0 else 0.0) * scale)
        signal += fat
        signal += tissue.skin * (scale * echo(SKIN, 0.05 * slow))
        signal += tissue.muscle * (scale * echo(MUSCLE, 0.06 * faster))
        signal += tissue.blood * (scale * echo(BLOOD, blood))
        mass = scale * echo(TUMOR, lesion.early_mmol * wash)
        scar = float(scale * echo(SCAR, lesion.scar_mmol * slow * 0.8))
        fluid = float(scale * echo(FLUID, 0.03 * slow))
        signal = _with_lesion(signal, lesion, mass, scar, fluid)
        phases.append(_stored(_acquired(signal, scanner.blur_mm, breast.grid, bias, sigma, rng)))
    return phases
