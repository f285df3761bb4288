"""Simulated CT slices: Hounsfield units of tissues, noise with its spectrum, masks as asked, traits that can be measured.

Truth comes from the formulas stated in the module (power spectrum, transfer function, tissue values) and from the asked
appearance; images that differ in one trait only are drawn from the same seed, so that their difference is that trait.
"""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest

from alnlib.imaging.crop import adjustable_square_crop, fixed_size_crop
from alnsim.ct import (
    CORTICAL_BONE_HU,
    HIGHEST_HU,
    LOWEST_HU,
    SCANNERS,
    TRAITS,
    appearance_from_traits,
    band_limited_noise,
    draw_habitus,
    simulate_node_slice,
)

PIXEL_MM = 0.8
QUIET = replace(SCANNERS["primary"], noise_hu=0.0)
SEEDS = 1, 2, 3, 4


def traits(**scores: float) -> np.ndarray:
    return np.array([scores.get(name, 0.0) for name in TRAITS])


def slice_of(seed: int, scanner=QUIET, laterality: str = "R", pixels: int = 160, pixel_mm: float = PIXEL_MM, **scores):
    rng = np.random.default_rng(seed)
    habitus = draw_habitus(rng)
    appearance = appearance_from_traits(traits(**scores))
    return simulate_node_slice(appearance, scanner, pixels, pixels, pixel_mm, habitus, rng, laterality)


def box(mask: np.ndarray) -> tuple[int, int, int, int]:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1


def center_mm(mask: np.ndarray) -> tuple[float, float]:
    row0, col0, row1, col1 = box(mask)
    return 0.5 * (row0 + row1) * PIXEL_MM, 0.5 * (col0 + col1) * PIXEL_MM


def test_every_physical_quantity_is_strictly_monotone_in_its_own_trait_alone_and_constant_beyond_two_and_a_half():
    at_zero = appearance_from_traits(traits())
    owners = {"short_axis_mm": "size", "short_to_long": "roundness", "hilum_fraction": "hilum_loss"}
    owners |= {"enhancement_hu": "cortical_enhancement", "necrosis": "necrosis", "stranding": "stranding"}
    owners |= {"margin_irregularity": "margin", "margin_blur_mm": "margin"}
    for field in fields(at_zero):
        for name in TRAITS:
            values = [
                getattr(appearance_from_traits(traits(**{name: score})), field.name)
                for score in np.linspace(-2.5, 2.5, 21)
            ]
            steps = np.diff(values)
            if owners[field.name] == name:
                assert (steps > 0).all() or (steps < 0).all(), (field.name, name)
                beyond = appearance_from_traits(traits(**{name: 4.0}))
                assert getattr(beyond, field.name) == values[-1]
            else:
                assert not steps.any(), (field.name, name)
    assert appearance_from_traits(traits(hilum_loss=2.5)).hilum_fraction == pytest.approx(0.0, abs=1e-12)
    sizes = [appearance_from_traits(traits(size=score)).short_axis_mm for score in (-2.5, 2.5)]
    assert 3.5 < sizes[0] < 4.0 and 19.0 < sizes[1] < 20.5


@pytest.mark.parametrize("bad", [np.zeros(6), np.zeros((1, 7)), np.full(7, np.nan)])
def test_scores_that_are_no_seven_numbers_are_refused(bad):
    with pytest.raises(ValueError, match="7 finite scores"):
        appearance_from_traits(bad)


@pytest.mark.parametrize(
    "change", [{"laterality": "B"}, {"pixels": 96}, {"pixel_mm": 2.0}, {"pixel_mm": 0.2, "pixels": 640}]
)
def test_impossible_grids_and_sides_are_refused(change):
    with pytest.raises(ValueError, match="laterality|pixels"):
        slice_of(1, **change)


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others():
    first, again, other = (slice_of(seed, SCANNERS["external"], size=1.0) for seed in (5, 5, 6))
    assert first.hounsfield.tobytes() == again.hounsfield.tobytes() and first.mask.tobytes() == again.mask.tobytes()
    assert first.hounsfield.tobytes() != other.hounsfield.tobytes()


def test_a_slice_is_twelve_bit_hounsfield_units_with_the_spacing_asked_and_a_left_one_is_the_mirror_of_a_right_one():
    right, left = (slice_of(3, SCANNERS["primary"], side) for side in "RL")
    assert right.hounsfield.dtype == np.int16 and right.mask.dtype == bool
    assert right.hounsfield.shape == right.mask.shape == (160, 160) and right.spacing_mm == (0.8, 0.8)
    assert LOWEST_HU <= right.hounsfield.min() < -950 and 300 < right.hounsfield.max() <= HIGHEST_HU
    np.testing.assert_array_equal(left.hounsfield, right.hounsfield[:, ::-1])
    np.testing.assert_array_equal(left.mask, right.mask[:, ::-1])


@pytest.mark.parametrize("scanner", SCANNERS.values(), ids=SCANNERS)
def test_fat_muscle_air_lung_and_bone_have_their_hounsfield_units(scanner):
    """Peaks of the histogram; public DeepLesion slices have them at -104 (fat) and 24 to 58 (muscle, contrast or none)."""
    values = np.concatenate([slice_of(seed, scanner, pixels=200).hounsfield.ravel() for seed in SEEDS])
    counts, edges = np.histogram(values, bins=np.arange(-1024, 1600, 8))
    middle = edges[:-1] + 4

    def peak(low: float, high: float) -> float:
        band = (middle > low) & (middle < high)
        return float(middle[band][counts[band].argmax()])

    assert peak(-180, -50) == pytest.approx(-104, abs=8)
    assert peak(20, 120) == pytest.approx(62, abs=10)
    assert peak(-950, -700) == pytest.approx(-860, abs=12)
    assert peak(-1024, -950) == pytest.approx(-1000, abs=16)
    assert 450 < values.max() < CORTICAL_BONE_HU + 100


def test_noise_has_unit_variance_mean_zero_and_the_spectrum_of_filtered_back_projection():
    """Radial power against f exp(-4 pi^2 sigma^2 f^2), normalized to the same sum; variance 1 by construction."""
    sigma, pixel = 0.5, 0.7
    rng = np.random.default_rng(0)
    noises = np.stack([band_limited_noise((128, 128), pixel, sigma, rng) for _ in range(24)])
    assert noises.dtype == np.float64 and noises.std() == pytest.approx(1.0, abs=0.02) and abs(noises.mean()) < 1e-3
    frequency = np.hypot(np.fft.fftfreq(128, pixel)[:, None], np.fft.fftfreq(128, pixel)[None, :])
    power = (np.abs(np.fft.fft2(noises)) ** 2).mean(axis=0)
    expected = frequency * np.exp(-4 * np.pi**2 * sigma**2 * frequency**2)
    rings = np.digitize(frequency, np.linspace(0.0, 0.7, 15))
    for ring in range(1, 15):
        where = rings == ring
        assert power[where].sum() / power.sum() == pytest.approx(expected[where].sum() / expected.sum(), abs=0.006)
    rings = np.digitize(frequency, np.linspace(0.0, 0.6, 25))
    profile = [power[rings == ring].mean() for ring in range(1, 25)]
    assert (np.argmax(profile) + 0.5) * 0.025 == pytest.approx(1 / (2 * np.sqrt(2) * np.pi * sigma), abs=0.04)


def test_streaks_run_from_left_to_right():
    noise = band_limited_noise((256, 256), 0.8, 0.5, np.random.default_rng(1), streak=0.6)
    even = band_limited_noise((256, 256), 0.8, 0.5, np.random.default_rng(1))

    def anisotropy(values: np.ndarray) -> float:
        return float(np.var(np.diff(values, axis=0)) / np.var(np.diff(values, axis=1)))

    assert anisotropy(noise) > 1.3 and anisotropy(even) == pytest.approx(1.0, abs=0.05)


def test_noise_in_fat_is_the_scanners_and_grows_with_the_body():
    for name, scanner in SCANNERS.items():
        for seed in SEEDS:
            habitus = draw_habitus(np.random.default_rng(seed))
            noisy, quiet = slice_of(seed, scanner), slice_of(seed, replace(scanner, noise_hu=0.0))
            difference = noisy.hounsfield.astype(float) - quiet.hounsfield
            fat = (quiet.hounsfield > -125) & (quiet.hounsfield < -85)
            assert difference[fat].std() == pytest.approx(scanner.noise_hu * habitus.noise_factor, rel=0.06), name
    assert SCANNERS["external"].noise_hu > SCANNERS["primary"].noise_hu


def test_the_mask_has_the_area_and_the_axes_asked():
    """Area of an ellipse; axes from the second moments (semi-axis = 2 sqrt of the eigenvalue)."""
    for size, roundness in ((-1.5, 0.0), (0.0, -2.0), (1.0, 1.5), (2.2, 0.5)):
        asked = appearance_from_traits(traits(size=size, roundness=roundness, margin=-2.5))
        for seed in SEEDS:
            mask = slice_of(seed, size=size, roundness=roundness, margin=-2.5).mask
            area = np.pi / 4 * asked.short_axis_mm * asked.long_axis_mm
            assert mask.sum() * PIXEL_MM**2 == pytest.approx(area, rel=0.08 if size > -1 else 0.2)
            moments = np.cov(np.array(np.nonzero(mask)) * PIXEL_MM) - np.eye(2) * PIXEL_MM**2 / 12
            axes = 4 * np.sqrt(np.maximum(np.linalg.eigvalsh(moments), 0.0))
            np.testing.assert_allclose(axes, (asked.short_axis_mm, asked.long_axis_mm), rtol=0.10, atol=0.5)


def test_the_node_lies_in_the_field_clear_of_the_chest_wall_at_every_size():
    for seed in range(10):
        for size in (-2.5, 0.0, 2.5):
            image = slice_of(seed, size=size, roundness=0.5)
            row0, col0, row1, col1 = box(image.mask)
            assert min(row0, col0, 160 - row1, 160 - col1) * PIXEL_MM > 15
            inside = image.hounsfield[image.mask]
            assert inside.max() < 250 and inside.min() > -200  # neither rib nor lung nor air


def cortex_hu(image) -> float:
    return float(np.percentile(image.hounsfield[image.mask], 90))


def core_hu(image) -> float:
    """Middle of a node without hilum."""
    rows, columns = np.nonzero(image.mask)
    away = np.hypot(rows - rows.mean(), columns - columns.mean())
    reach = np.sqrt(image.mask.sum() / np.pi)
    values = image.hounsfield[image.mask]
    return float(np.mean(values[away < 0.4 * reach]))


def fat_inside(image) -> float:
    return float(np.mean(image.hounsfield[image.mask] < 0))


def edge_steepness(image) -> float:
    """Steepest gradients along the capsule, HU per mm."""
    down, across = np.gradient(image.hounsfield.astype(float), PIXEL_MM)
    slope = np.hypot(down, across)
    inner = image.mask & np.roll(image.mask, 1, 0) & np.roll(image.mask, -1, 0)
    inner &= np.roll(image.mask, 1, 1) & np.roll(image.mask, -1, 1)
    return float(np.median(slope[image.mask & ~inner]))


def strands(image) -> float:
    """Mean HU of the fixed 45 mm crop between -110 and 40 HU, the node left out."""
    where = fixed_size_crop(image.hounsfield, center_mm(image.mask), 45.0, image.spacing_mm).astype(float)
    node = fixed_size_crop(image.mask.astype(float), center_mm(image.mask), 45.0, image.spacing_mm)
    return float(np.clip(where, -110, 40)[node < 0.5].mean())


MEASURES = [
    ("size", lambda image: float(image.mask.sum()), {}, 1),
    ("roundness", lambda image: -float(np.linalg.cond(np.cov(np.array(np.nonzero(image.mask))))), {"size": 0.8}, 1),
    ("hilum_loss", fat_inside, {"size": 0.8}, -1),
    ("cortical_enhancement", cortex_hu, {"size": 0.8}, 1),
    ("necrosis", core_hu, {"size": 1.2, "hilum_loss": 2.5, "roundness": 1.0}, -1),
    ("margin", edge_steepness, {"size": 0.8, "hilum_loss": 2.5}, -1),
    ("stranding", strands, {}, 1),
]


@pytest.mark.parametrize(("name", "measure", "others", "sign"), MEASURES, ids=TRAITS)
def test_raising_a_trait_moves_what_it_stands_for_with_noise_and_everything_else_the_same(name, measure, others, sign):
    for seed in SEEDS:
        values = [
            measure(slice_of(seed, SCANNERS["primary"], **{**others, name: score})) for score in (-2, -0.7, 0.7, 2)
        ]
        assert (sign * np.diff(values) >= 0).all() and sign * (values[-1] - values[0]) > 0, values


def test_stranding_shows_in_the_fixed_crop_but_hardly_in_the_square_that_fits_the_node():
    """The pair differs in stranding only, and has no noise: the difference is the strands."""
    tight, square, fixed = [], [], []
    for seed in range(8):
        few, many = slice_of(seed, stranding=-2.0), slice_of(seed, stranding=2.0)
        np.testing.assert_array_equal(few.mask, many.mask)
        difference = np.abs(many.hounsfield.astype(float) - few.hounsfield)
        row0, col0, row1, col1 = box(few.mask)
        tight.append(difference[row0:row1, col0:col1].max())
        square.append((adjustable_square_crop(difference, box(few.mask), 0.15) ** 2).sum())
        fixed.append((fixed_size_crop(difference, center_mm(few.mask), 45.0, few.spacing_mm) ** 2).sum())
    assert max(tight) <= 1.0  # rounding
    assert sum(square) < 0.002 * sum(fixed)
    assert min(fixed) / (45 / PIXEL_MM) ** 2 > 100  # mean squared HU; the noise of the primary scanner has 100


def test_no_trait_changes_the_picture_far_from_the_node():
    for name in TRAITS[2:]:
        low, high = slice_of(2, SCANNERS["primary"], **{name: -2.0}), slice_of(2, SCANNERS["primary"], **{name: 2.0})
        rows, columns = np.indices(low.mask.shape) * PIXEL_MM
        y, x = center_mm(low.mask)
        far = np.hypot(rows - y, columns - x) > 36
        np.testing.assert_allclose(low.hounsfield[far], high.hounsfield[far], rtol=0, atol=1, err_msg=name)


def test_slices_of_one_patient_share_the_body_and_patients_differ():
    rng = np.random.default_rng(4)
    first, second = draw_habitus(rng), draw_habitus(rng)
    assert first != second and draw_habitus(np.random.default_rng(4)) == first

    def muscle_and_fat(habitus, seed: int) -> np.ndarray:
        image = simulate_node_slice(
            appearance_from_traits(traits()), QUIET, 160, 160, PIXEL_MM, habitus, np.random.default_rng(seed)
        )
        return np.array(
            [
                np.median(image.hounsfield[(image.hounsfield > low) & (image.hounsfield < low + 60)])
                for low in (30, -135)
            ]
        )

    lean = replace(first, muscle_hu=55.0, fat_hu=-112.0)
    dense = replace(first, muscle_hu=70.0, fat_hu=-98.0)
    assert (muscle_and_fat(dense, 9) - muscle_and_fat(lean, 9) > 8).all()
    assert np.abs(muscle_and_fat(first, 1) - muscle_and_fat(first, 2)).max() < 5


def test_the_external_scanner_enhances_more_and_is_the_sharper():
    primary, external = (
        replace(SCANNERS[name], noise_hu=0.0, slice_thickness_mm=1.0) for name in ("primary", "external")
    )
    for seed in SEEDS:
        low, high = (
            slice_of(seed, scanner, size=1.0, hilum_loss=2.0, necrosis=-2.5) for scanner in (primary, external)
        )
        ratio = (cortex_hu(high) - 40.0) / (cortex_hu(low) - 40.0)
        assert ratio == pytest.approx(SCANNERS["external"].iodine_gain, abs=0.06)
        assert edge_steepness(high) > edge_steepness(low)
