"""Image statistics. Truth: synthetic images whose statistics are known in closed form (Rayleigh speckle, power-law fields)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.ndimage import gaussian_filter

from alnlib.errors import InputError
from alnlib.imaging.read import Image2D
from alnsim.statistics import (
    COMPARISON_COLUMNS,
    compare_images,
    compare_statistics,
    compare_stills,
    grain_width_mm,
    gray_histogram,
    histogram_distance,
    image_statistics,
    line_coherence,
    noise_sd,
    radial_power_spectrum,
    speckle_snr,
    spectral_slope,
)


def rayleigh_gray(rng, shape=(240, 240), looks=1, range_db=60.0, top_db=45.0) -> np.ndarray:
    """Log-compressed 8-bit speckle: the mean envelope of `looks` looks, at `top_db` above black, not clipped above."""
    looks_drawn = rng.standard_normal((looks, 2, *shape))
    envelope = np.hypot(looks_drawn[:, 0], looks_drawn[:, 1]).mean(axis=0)
    gray = (20.0 * np.log10(envelope) + top_db) * 255.0 / range_db
    return np.clip(np.rint(gray), 0, 255).astype(np.uint8)


def power_law(beta, rng, shape=(256, 256), spacing_mm=0.1) -> np.ndarray:
    """A Gaussian field whose power spectrum is 1/f^beta."""
    noise = np.fft.rfft2(rng.standard_normal(shape))
    frequency = np.hypot(np.fft.fftfreq(shape[0])[:, None], np.fft.rfftfreq(shape[1])[None, :]) / spacing_mm
    frequency[0, 0] = np.inf
    return np.fft.irfft2(noise * frequency ** (-beta / 2.0), shape)


# ------------------------------------------------------------------------------------------------------------- speckle


def test_rayleigh_speckle_has_the_theoretical_ratio():
    """Burckhardt 1978: mean/sd of a Rayleigh envelope is sqrt(pi / (4 - pi)) = 1.913, whatever the gain."""
    rng = np.random.default_rng(1)
    theory = np.sqrt(np.pi / (4.0 - np.pi))
    for top_db in (36.0, 45.0):
        found = speckle_snr(rayleigh_gray(rng, top_db=top_db), 5, dynamic_range_db=60.0)
        assert found.windows > 10_000
        # small windows: median of the ratio lies slightly above the ratio of the whole
        assert found.envelope == pytest.approx(theory, rel=0.06)


def test_averaged_looks_raise_the_ratio_by_their_root():
    rng = np.random.default_rng(2)
    found = speckle_snr(rayleigh_gray(rng, looks=3), 21)
    assert found.envelope == pytest.approx(np.sqrt(3 * np.pi / (4.0 - np.pi)), rel=0.03)


def test_wrong_dynamic_range_shows():
    """Too wide a range stretches the envelope: more spread, lower ratio. The gray ratio does not depend on it."""
    pixels = rayleigh_gray(np.random.default_rng(3), looks=3)
    narrow, right, wide = (speckle_snr(pixels, 15, dynamic_range_db=db) for db in (50.0, 60.0, 70.0))
    assert narrow.envelope > right.envelope > wide.envelope
    assert narrow.gray == right.gray == wide.gray


def test_gray_ratio_of_log_rayleigh():
    """ln of a unit Rayleigh variable: mean (ln 2 - gamma) / 2 with Euler's gamma, sd pi / sqrt(24), that is 5.57 dB."""
    pixels = rayleigh_gray(np.random.default_rng(4), top_db=45.0)
    mean_db = 45.0 + 20.0 * np.log10(np.sqrt(2.0) * np.exp(-0.5772 / 2.0))
    assert speckle_snr(pixels, 31).gray == pytest.approx(
        mean_db / (20.0 / np.log(10.0) * np.pi / np.sqrt(24.0)), rel=0.03
    )


def test_windows_stay_off_the_clipped_pixels():
    pixels = rayleigh_gray(np.random.default_rng(5), looks=3)
    spoiled = pixels.copy()
    spoiled[60:70, 60:70] = 0
    clean, found = speckle_snr(pixels, 9), speckle_snr(spoiled, 9)
    assert 0 < clean.windows - found.windows <= (10 + 8) ** 2
    assert found.envelope == pytest.approx(clean.envelope, rel=0.01)
    nothing = speckle_snr(np.zeros((40, 40), np.uint8), 9)
    assert nothing.windows == 0 and np.isnan(nothing.envelope)


@pytest.mark.parametrize(("window", "pixels"), [(4, np.ones((9, 9))), (1, np.ones((9, 9))), (3, np.full((9, 9), 300))])
def test_speckle_refuses_what_it_cannot_use(window, pixels):
    with pytest.raises(ValueError):
        speckle_snr(pixels, window)


# ------------------------------------------------------------------------------------------------------------ spectrum


@pytest.mark.parametrize("beta", [0.0, 1.5, 3.0])
def test_power_law_field_gives_back_its_exponent(beta):
    rng = np.random.default_rng(6)
    slopes = []
    for _ in range(3):
        field = power_law(beta, rng)
        slopes.append(spectral_slope(*radial_power_spectrum(field, (0.1, 0.1)), 0.2, 3.0))
    assert np.mean(slopes) == pytest.approx(beta, abs=0.12)


def test_white_noise_power_is_its_variance_times_the_pixel():
    rng = np.random.default_rng(7)
    frequencies, power = radial_power_spectrum(100.0 + 4.0 * rng.standard_normal((300, 201)), (0.2, 0.3))
    assert power[len(power) // 4 :].mean() == pytest.approx(16.0 * 0.06, rel=0.03)
    assert 0.0 < frequencies[0] < 2.0 / (201 * 0.3)
    assert frequencies[-1] <= 0.5 / 0.3
    assert (np.diff(frequencies) > 0).all()


def test_wave_stands_at_its_frequency_whatever_the_pixel_shape():
    """2 cycles/mm down the rows, seen with pixels of 0.1 x 0.2 mm."""
    rows = np.arange(160)[:, None] * 0.1
    image = np.sin(2.0 * np.pi * 2.0 * rows) * np.ones((1, 80))
    frequencies, power = radial_power_spectrum(image, (0.1, 0.2))
    assert frequencies[np.argmax(power)] == pytest.approx(2.0, abs=0.07)


def test_slope_ignores_units_of_the_image_and_of_the_pixel():
    field = power_law(2.5, np.random.default_rng(8))
    plain = spectral_slope(*radial_power_spectrum(field, (0.1, 0.1)), 0.2, 3.0)
    scaled = spectral_slope(*radial_power_spectrum(50.0 - 7.0 * field, (0.2, 0.2)), 0.1, 1.5)
    assert scaled == pytest.approx(plain, abs=1e-6)


def test_spectrum_refuses_what_it_cannot_use():
    with pytest.raises(ValueError, match="needs 16"):
        radial_power_spectrum(np.ones((8, 100)), (1.0, 1.0))
    with pytest.raises(ValueError, match="not finite"):
        radial_power_spectrum(np.full((20, 20), np.nan), (1.0, 1.0))
    with pytest.raises(ValueError, match="at least 3"):
        spectral_slope(np.arange(1.0, 9.0), np.ones(8), 2.5, 4.5)
    with pytest.raises(ValueError, match="positive"):
        spectral_slope(*radial_power_spectrum(np.zeros((20, 20)), (1.0, 1.0)), 0.1, 0.5)


# ------------------------------------------------------------------------------------------------- histogram and noise


def test_histogram_holds_every_pixel_once():
    image = np.array([[-5.0, 0.0, 10.0], [99.9, 100.0, 900.0]])
    assert gray_histogram(image, 0.0, 100.0, bins=10) == pytest.approx(np.array([2, 1, 0, 0, 0, 0, 0, 0, 0, 3]) / 6)


def test_distance_is_the_way_gray_levels_move():
    """Wasserstein-1: a shift by k of b bins is k / b; symmetric, and nothing for the same histogram."""
    base = np.zeros(20)
    base[4:8] = 0.25
    for bins in (0, 1, 5):
        assert histogram_distance(base, np.roll(base, bins)) == pytest.approx(bins / 20)
        assert histogram_distance(np.roll(base, bins), base) == pytest.approx(bins / 20)


def test_noise_is_found_under_shading_and_edges():
    rng = np.random.default_rng(9)
    row, column = np.mgrid[:200, :200]
    scene = 3.0 * row - 2.0 * column + 400.0 * (np.hypot(row - 90, column - 110) < 40)
    assert noise_sd(scene + 12.0 * rng.standard_normal(scene.shape)) == pytest.approx(12.0, rel=0.03)
    assert noise_sd(scene) < 1e-9


def test_grain_is_that_of_the_filter_in_mm():
    """Noise smoothed by a Gaussian of sigma s has a Gaussian autocovariance of sigma sqrt(2) s: width 3.33 s."""
    noise = np.random.default_rng(11).standard_normal((300, 300))
    axial, lateral = grain_width_mm(gaussian_filter(noise, (1.5, 3.0)), (0.1, 0.2), detrend_mm=6.0)
    assert axial == pytest.approx(3.33 * 0.15, rel=0.08)
    assert lateral == pytest.approx(3.33 * 0.60, rel=0.08)
    assert all(np.isnan(grain_width_mm(np.ones((30, 30)), (1.0, 1.0))))


def test_coherence_tells_strands_from_clouds():
    """Stripes have one direction, white noise none, a stretched field lies in between; turning the image changes nothing."""
    rng = np.random.default_rng(15)
    noise = rng.standard_normal((240, 240))
    row, column = np.mgrid[:240, :240]
    stripes = np.sin(0.25 * row + 0.15 * column)
    clouds, strands = gaussian_filter(noise, (4, 4)), gaussian_filter(noise, (4, 16))
    found = [line_coherence(image, (0.1, 0.1)) for image in (clouds, strands, stripes)]
    assert found[0] < 0.3 < 0.6 < found[1] < 0.99 < found[2] <= 1.0
    assert line_coherence(strands.T, (0.1, 0.1)) == pytest.approx(found[1], rel=1e-6)
    assert np.isnan(line_coherence(np.full((60, 60), 7.0), (0.1, 0.1)))
    with pytest.raises(ValueError, match="too small"):
        line_coherence(noise[:20, :20], (0.1, 0.1))


def test_coherence_goes_by_millimeters():
    """The same scene with pixels half as tall."""
    field = gaussian_filter(np.random.default_rng(16).standard_normal((300, 300)), (6, 6))
    assert line_coherence(field[::2], (0.2, 0.1)) == pytest.approx(line_coherence(field, (0.1, 0.1)), abs=0.02)


# ---------------------------------------------------------------------------------------------------------- comparison


def test_a_group_is_like_itself_and_unlike_another():
    rng = np.random.default_rng(12)
    groups = [[rayleigh_gray(rng, (96, 96), looks) for _ in range(12)] for looks in (1, 1, 4)]
    spacing = [(0.1, 0.1)] * 12
    options = {"scale": (0.0, 255.0), "band_cycles_per_mm": (0.5, 4.0), "speckle_window_mm": 1.5}
    alike = compare_images(groups[0], groups[1], spacing, spacing, **options).set_index("statistic")
    other = compare_images(groups[0], groups[2], spacing, spacing, **options).set_index("statistic")
    assert list(alike.reset_index().columns) == list(COMPARISON_COLUMNS)
    # 12 against 12 equal groups: the standard error of an AUC is 0.12
    assert alike["auc"].between(0.1, 0.9).all()
    assert other.loc["speckle_snr_envelope", "auc"] == 1.0
    assert other.loc["sd_gray", "auc"] == 0.0
    assert other.loc["histogram_distance", "auc"] == 1.0
    assert other.loc["spectral_slope", "auc"] == pytest.approx(0.5, abs=0.4)
    assert (alike[["n_real", "n_simulated"]] == 12).all(axis=None)


def test_statistics_refer_to_the_common_scale():
    """An 8-bit image and the same with 12 bits have the same statistics, each on its own scale."""
    image = rayleigh_gray(np.random.default_rng(13), (64, 64)).astype(float)
    first = image_statistics(image, (0.2, 0.2), (0.0, 255.0), (0.5, 2.0))
    second = image_statistics(image * 16.0, (0.2, 0.2), (0.0, 4080.0), (0.5, 2.0))
    assert first == pytest.approx(second, rel=1e-9)


def test_options_reach_their_statistics():
    """Each option changes what it is about and nothing else."""
    image = rayleigh_gray(np.random.default_rng(14), (120, 120), looks=3)
    options = {"scale": (0.0, 255.0), "band_cycles_per_mm": (0.5, 2.0), "speckle_window_mm": 1.8}
    base = image_statistics(gaussian_filter(image.astype(float), 2.0), (0.2, 0.2), **options)
    for option, value, changed in (
        ("dynamic_range_db", 40.0, {"speckle_snr_envelope"}),
        ("detrend_mm", 0.4, {"grain_axial_mm", "grain_lateral_mm"}),
        ("speckle_window_mm", 5.0, {"speckle_snr_envelope", "speckle_snr_gray"}),
        ("band_cycles_per_mm", (0.2, 1.0), {"spectral_slope"}),
    ):
        other = image_statistics(gaussian_filter(image.astype(float), 2.0), (0.2, 0.2), **(options | {option: value}))
        assert {name for name in base if other[name] != base[name]} == changed


def test_auc_counts_pairs_and_leaves_missing_values_out():
    real = pd.DataFrame({"a": [1.0, 2.0, np.nan], "b": [0.0, 0.0, 0.0]})
    simulated = pd.DataFrame({"a": [2.0, 3.0], "b": [np.nan, np.nan]})
    table = compare_statistics(real, simulated).set_index("statistic")
    assert table.loc["a", "auc"] == pytest.approx(3.5 / 4)
    assert (table.loc["a", "n_real"], table.loc["a", "real_median"]) == (2, 1.5)
    assert np.isnan(table.loc["b", "auc"]) and table.loc["b", "n_simulated"] == 0
    with pytest.raises(ValueError, match="different statistics"):
        compare_statistics(real, simulated[["a"]])


def test_comparison_needs_two_images_and_their_spacings():
    images = [np.arange(400.0).reshape(20, 20)] * 2
    with pytest.raises(ValueError, match="real: 1 images"):
        compare_images(images[:1], images, [(1, 1)], [(1, 1)] * 2, (0, 1), (0.1, 0.4))
    with pytest.raises(ValueError, match="simulated: 2 images and 1 spacings"):
        compare_images(images, images, [(1, 1)] * 2, [(1, 1)], (0, 1), (0.1, 0.4))


# -------------------------------------------------------------------------------------------------------- whole stills


def speckled_stills(seed: int, n: int = 6, looks: int = 1, spacing_mm=(0.1, 0.1)) -> list[Image2D]:
    """36 x 30 mm of speckle with grains of 0.4 mm."""
    rng = np.random.default_rng(seed)
    shape = tuple(round(extent / step) for extent, step in zip((36.0, 30.0), spacing_mm, strict=True))
    sigma = [0.2 / step for step in spacing_mm]
    stills = []
    for number in range(n):
        gray = gaussian_filter(rayleigh_gray(rng, shape, looks).astype(float), sigma)
        gray = np.clip(np.rint(128.0 + 30.0 * (gray - gray.mean()) / gray.std()), 0, 255).astype(np.float32)
        stills.append(Image2D(gray, spacing_mm, "US", Path(f"{number}.png")))
    return stills


def changed(stills: list[Image2D], **changes) -> list[Image2D]:
    return [Image2D(**({**vars(still), **changes})) for still in stills]


def test_only_the_tissue_of_a_still_counts():
    """Skin, far field and both edges, where text and rulers stand, are overwritten: the table stays the same."""
    real, simulated = speckled_stills(20), speckled_stills(21)
    table = compare_stills(real, simulated)
    assert list(table.columns) == ["modality", *COMPARISON_COLUMNS]
    assert (table["modality"] == "US").all() and (table[["n_real", "n_simulated"]] == 6).all(axis=None)
    labeled = []
    for still in real:
        pixels = np.full_like(still.pixels, 255.0)
        pixels[40:260, 30:270] = still.pixels[40:260, 30:270]
        labeled += changed([still], pixels=pixels)
    pd.testing.assert_frame_equal(compare_stills(labeled, simulated), table)


def test_sampling_of_a_still_hardly_matters():
    """The same speckle with every pixel four times, at half the spacing; and in 16 bits, each level 257 times as high."""
    real, simulated = speckled_stills(22), speckled_stills(23)
    table = compare_stills(real, simulated).set_index("statistic")
    finer = [Image2D(np.repeat(np.repeat(still.pixels, 2, 0), 2, 1), (0.05, 0.05), "US", still.path) for still in real]
    again = compare_stills(finer, simulated).set_index("statistic")
    for name in ("mean_gray", "sd_gray", "grain_axial_mm", "grain_lateral_mm", "speckle_snr_gray", "spectral_slope"):
        assert again.loc[name, "real_median"] == pytest.approx(table.loc[name, "real_median"], rel=0.12), name
    deeper = [Image2D(still.pixels * 257.0, still.spacing_mm, "US", still.path) for still in real]
    assert max(still.pixels.max() for still in deeper) > 2**15
    pd.testing.assert_frame_equal(compare_stills(deeper, simulated).set_index("statistic"), table)


def test_oblong_pixels_keep_their_grain():
    """Grains of 0.4 mm both ways (sigma 0.2 mm: 3.33 sigma = 0.67 mm, a little more by resampling, less by detrending)."""
    real = speckled_stills(24, spacing_mm=(0.06, 0.12))
    table = compare_stills(real, speckled_stills(25)).set_index("statistic")
    for name in ("grain_axial_mm", "grain_lateral_mm"):
        assert table.loc[name, "real_median"] == pytest.approx(table.loc[name, "simulated_median"], rel=0.1)
        assert 0.55 < table.loc[name, "real_median"] < 0.85


def test_stills_without_spacing_or_tissue_are_left_out_and_counted():
    real, simulated = speckled_stills(26), speckled_stills(27)
    small = Image2D(real[0].pixels[:200], (0.1, 0.1), "US", Path("small.png"))
    table = compare_stills([*real, *changed(real[:2], spacing_mm=None), small], simulated)
    pd.testing.assert_frame_equal(table, compare_stills(real, simulated))


def test_without_spacings_only_gray_levels_are_compared():
    real, brighter = speckled_stills(28), speckled_stills(29)
    brighter = [
        Image2D(np.minimum(still.pixels * 1.3, 255.0), still.spacing_mm, "US", still.path) for still in brighter
    ]
    table = compare_stills(changed(real, spacing_mm=None), brighter).set_index("statistic")
    assert list(table.index) == ["mean_gray", "sd_gray", "black_share", "white_share", "histogram_distance"]
    assert (table[["n_real", "n_simulated"]] == 6).all(axis=None)
    assert table.loc["mean_gray", "auc"] == 1.0
    assert table.loc["mean_gray", "real_median"] == pytest.approx(128.0 / 255.0, rel=0.02)
    assert table.loc["histogram_distance", "simulated_median"] == pytest.approx(0.3 * 128.0 / 255.0, rel=0.2)


def test_stills_that_cannot_be_compared_say_why():
    stills = speckled_stills(30, n=2)
    with pytest.raises(InputError, match="1 real ultrasound stills"):
        compare_stills(stills[:1], stills)
    below = [Image2D(still.pixels - 200.0, still.spacing_mm, "US", Path("below.png")) for still in stills]
    with pytest.raises(InputError, match="below.png: gray levels from -"):
        compare_stills(below, stills)
