"""Simulated breast MRI: physics that can be checked by hand, and traits that can be measured in the volumes.

Truth comes from closed forms (Rician moments, the Tofts integral by quadrature, the signal of a spoiled gradient echo), and
from what was asked for: diameter, diffusion coefficient, kinetics.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.ndimage import binary_dilation, binary_erosion
from scipy.stats import norm

from alnsim.mri import (
    COMPLETE_RESPONSE_SCORE,
    EARLY_MIN,
    GAINS,
    LATE_MIN,
    PLASMA_MMOL,
    PLASMA_PER_MIN,
    RESPONSE_TRAITS,
    SCANNERS,
    SEQUENCES,
    TRAITS,
    MRISession,
    VolumeGrid,
    after_therapy,
    appearance_from_traits,
    draw_breast,
    rician,
    simulate_session,
    spoiled_gradient_echo,
    tofts_unit_response,
)

GRID = VolumeGrid((16, 80, 80), (3.0, 1.5, 1.5))
QUIET = replace(SCANNERS["primary"], t2_noise=1e-4, dwi_noise=1e-4, dce_noise=1e-4)


def late_to_early(kep_per_min: float) -> float:
    """Concentration in the late phase relative to the early one: above 1 persistent, below 1 washout."""
    return tofts_unit_response(LATE_MIN, kep_per_min) / tofts_unit_response(EARLY_MIN, kep_per_min)


def traits(**scores: float) -> np.ndarray:
    return np.array([scores.get(name, 0.0) for name in TRAITS])


def response(**scores: float) -> np.ndarray:
    return np.array([scores.get(name, 0.0) for name in RESPONSE_TRAITS])


def session(seed: int = 0, scanner=SCANNERS["primary"], grid: VolumeGrid = GRID, **scores: float) -> MRISession:
    breast = draw_breast(grid, np.random.default_rng(seed))
    return simulate_session(appearance_from_traits(traits(**scores)), breast, scanner, np.random.default_rng([seed, 1]))


def follow_up(seed: int = 0, scanner=SCANNERS["primary"], **scores: float) -> MRISession:
    breast = draw_breast(GRID, np.random.default_rng(seed))
    before = appearance_from_traits(traits())
    after = after_therapy(before, response(**scores))
    return simulate_session(after, breast, scanner, np.random.default_rng([seed, 2]), before=before)


def enhancement(visit: MRISession, phase: str) -> np.ndarray:
    return visit.volumes[phase].astype(float) - visit.volumes["DCE_pre"]


def core(mask: np.ndarray) -> np.ndarray:
    inner = binary_erosion(mask, np.ones((1, 3, 3)))
    return inner if inner.any() else mask.astype(bool)


def shell(mask: np.ndarray, near: int, far: int) -> np.ndarray:
    flat = np.zeros((3, 3, 3), bool)
    flat[1] = True
    return binary_dilation(mask, flat, iterations=far) & ~binary_dilation(mask, flat, iterations=near)


def mean_over(measure, values, seeds=range(4)) -> list[float]:
    return [float(np.mean([measure(seed, value) for seed in seeds])) for value in values]


def test_a_session_has_every_sequence_on_the_grid_and_whole_numbers():
    visit = session()
    assert tuple(visit.volumes) == SEQUENCES
    for volume in visit.volumes.values():
        assert volume.shape == GRID.shape and volume.dtype == np.int16 and volume.min() >= 0
    assert visit.mask.dtype == visit.bed.dtype == np.uint8 and visit.mask.shape == GRID.shape
    np.testing.assert_array_equal(visit.mask, visit.bed)
    assert visit.spacing_mm == GRID.spacing_mm


def test_the_same_seed_gives_the_same_bytes_and_another_seed_other_noise():
    one, same, other = session(3), session(3), session(4)
    for name in SEQUENCES:
        assert one.volumes[name].tobytes() == same.volumes[name].tobytes() != other.volumes[name].tobytes()


def test_the_magnitude_of_noise_is_rayleigh_and_rician():
    """Gudbjartsson & Patz 1995: without signal mean = sigma sqrt(pi/2); always E[M^2] = A^2 + 2 sigma^2."""
    rng = np.random.default_rng(0)
    none = rician(np.zeros(200_000, np.float32), 3.0, rng)
    assert none.mean() == pytest.approx(3.0 * np.sqrt(np.pi / 2), rel=0.01)
    assert none.std() == pytest.approx(3.0 * np.sqrt(2 - np.pi / 2), rel=0.01)
    some = rician(np.full(200_000, 5.0, np.float32), 3.0, rng)
    assert (some.astype(float) ** 2).mean() == pytest.approx(25.0 + 18.0, rel=0.01)


def test_air_in_front_of_the_breast_is_rayleigh():
    """mean / sd of a Rayleigh variate is sqrt(pi / (4 - pi)) = 1.913; the coil's sensitivity does not touch noise."""
    for name, scanner in SCANNERS.items():
        corner = session(1, scanner).volumes["DCE_late"][:, :8, :8].astype(float)
        assert corner.mean() / corner.std() == pytest.approx(np.sqrt(np.pi / (4 - np.pi)), rel=0.08), name


@pytest.mark.parametrize("kep", [0.0111, 0.15, 0.55, 2.5])
def test_the_tofts_response_is_the_convolution_it_stands_for(kep):
    """The Tofts model (no plasma term) by numerical quadrature."""

    def plasma(t):
        return sum(a * np.exp(-m * t) for a, m in zip(PLASMA_MMOL, PLASMA_PER_MIN, strict=True))

    for minutes in (EARLY_MIN, LATE_MIN):
        expected, _ = quad(lambda u, t=minutes: plasma(u) * np.exp(-kep * (t - u)), 0.0, minutes)
        assert tofts_unit_response(minutes, kep) == pytest.approx(expected, rel=1e-6)


def test_slow_efflux_persists_and_fast_efflux_washes_out():
    ratios = [late_to_early(appearance_from_traits(traits(washout=t)).kep_per_min) for t in (-2, -1, 0, 1, 2)]
    assert (np.diff(ratios) < 0).all() and ratios[0] > 1.5 and ratios[-1] < 0.9


def test_the_gradient_echo_has_its_limits():
    """Full relaxation gives sin(a); at the Ernst angle cos(a) = E1 the signal is largest; more agent is brighter."""
    assert spoiled_gradient_echo(10.0, 0.0, 1000.0, 30.0) == pytest.approx(0.5, rel=1e-5)
    ernst = np.rad2deg(np.arccos(np.exp(-5.0 / 1400.0)))
    at = spoiled_gradient_echo(1400.0, 0.0, 5.0, ernst)
    assert at > spoiled_gradient_echo(1400.0, 0.0, 5.0, ernst + 2)
    assert at > spoiled_gradient_echo(1400.0, 0.0, 5.0, ernst - 2)
    assert (np.diff(spoiled_gradient_echo(1400.0, np.linspace(0, 2, 20), 5.0, 12.0)) > 0).all()


def test_the_mask_has_the_volume_that_was_asked_for():
    fine = VolumeGrid((24, 128, 128), (2.0, 1.1, 1.1))
    for seed, size in ((0, -1.5), (1, 0.0), (2, 1.5)):
        visit = session(seed, grid=fine, size=size)
        diameter = np.cbrt(6.0 / np.pi * visit.mask.sum() * np.prod(fine.spacing_mm))
        assert diameter == pytest.approx(appearance_from_traits(traits(size=size)).diameter_mm, rel=0.03)


@pytest.mark.parametrize("seed", range(8))
def test_even_the_largest_and_most_irregular_tumor_lies_wholly_inside(seed):
    mask = session(seed, size=2.5, irregularity=2.5).mask.astype(bool)
    assert not mask[[0, -1]].any() and not mask[:, [0, -1]].any() and not mask[:, :, [0, -1]].any()
    volume = np.pi / 6 * appearance_from_traits(traits(size=2.5)).diameter_mm ** 3
    assert mask.sum() * np.prod(GRID.spacing_mm) == pytest.approx(volume, rel=0.10)


def test_adc_is_recovered_in_the_lesion():
    """Inside, away from the blur of the margin, the mean over patients is what was asked; noise does not bias it much."""
    for score in (-2.0, 0.0, 2.0):
        found = []
        for seed in range(6):
            visit = session(seed, QUIET, size=1.5, low_adc=score, heterogeneity=-2.5)
            inner = binary_erosion(visit.mask, np.ones((3, 3, 3)), iterations=2)
            found.append(visit.volumes["ADC"][inner].mean())
        asked = 1000.0 * appearance_from_traits(traits(low_adc=score)).adc_um2_per_ms
        assert np.mean(found) == pytest.approx(asked, rel=0.03)
    noisy = session(2, SCANNERS["external"], size=1.5)
    lesion = np.median(noisy.volumes["ADC"][core(noisy.mask)])
    assert lesion == pytest.approx(1000.0, rel=0.12)


def test_raising_a_trait_raises_what_it_stands_for():
    """Each measurable strictly monotone from -2 to +2 standard deviations, everything else seeded equal."""
    scores = (-2.0, 0.0, 2.0)

    def size(seed, t):
        return session(seed, size=t).mask.sum()

    def irregularity(seed, t):
        mask = session(seed, size=1.0, irregularity=t).mask.astype(int)
        return sum(np.abs(np.diff(mask, axis=axis)).sum() for axis in (1, 2)) / mask.sum() ** (2 / 3)

    def rim(seed, t):
        visit = session(seed, QUIET, size=1.0, rim_enhancement=t)
        middle = binary_erosion(visit.mask, np.ones((3, 3, 3)), iterations=2)
        gain = enhancement(visit, "DCE_early")
        return gain[visit.mask.astype(bool) & ~middle].mean() / gain[middle].mean()

    def washout(seed, t):
        visit = session(seed, washout=t)
        inner = core(visit.mask)
        return 1.0 - enhancement(visit, "DCE_late")[inner].mean() / enhancement(visit, "DCE_early")[inner].mean()

    def low_adc(seed, t):
        visit = session(seed, low_adc=t)
        return -np.median(visit.volumes["ADC"][core(visit.mask)])

    def heterogeneity(seed, t):
        visit = session(seed, QUIET, size=1.0, rim_enhancement=-2.5, heterogeneity=t)
        gain = enhancement(visit, "DCE_early")[core(visit.mask)]
        return gain.std() / gain.mean()

    def edema(seed, t):
        visit = session(seed, edema=t)
        return visit.volumes["T2"][shell(visit.mask, 1, 6)].mean()

    for measure in (size, irregularity, rim, washout, low_adc, heterogeneity, edema):
        found = mean_over(measure, scores)
        assert (np.diff(found) > 0).all(), (measure.__name__, found)


def test_a_trait_leaves_alone_what_it_does_not_stand_for():
    plain = session(5)
    for name in ("rim_enhancement", "washout", "low_adc", "heterogeneity", "edema"):
        np.testing.assert_array_equal(session(5, **{name: 2.0}).mask, plain.mask)
    for name in ("T2", "ADC", "DCE_pre", "DCE_early"):
        np.testing.assert_array_equal(session(5, washout=2.0).volumes[name], plain.volumes[name])
    for name in ("T2", "DCE_pre", "DCE_early", "DCE_late"):
        np.testing.assert_array_equal(session(5, low_adc=2.0).volumes[name], plain.volumes[name])
    for name in ("T2", "ADC", "DCE_pre"):
        np.testing.assert_array_equal(session(5, rim_enhancement=2.0).volumes[name], plain.volumes[name])
    inside = core(plain.mask)
    rimmed, dotted = session(5, QUIET, rim_enhancement=2.0), session(5, QUIET, heterogeneity=2.0)
    for other in (rimmed, dotted):
        mean = enhancement(other, "DCE_early")[plain.mask > 0].mean()
        assert mean == pytest.approx(enhancement(session(5, QUIET), "DCE_early")[plain.mask > 0].mean(), rel=0.08)
    edema = session(5, QUIET, edema=2.0)
    assert edema.volumes["ADC"][inside].mean() == pytest.approx(
        session(5, QUIET).volumes["ADC"][inside].mean(), rel=0.05
    )


def test_maps_are_monotone_within_the_range_and_constant_beyond():
    fields = {
        "size": ("diameter_mm", 1),
        "irregularity": ("lobulation", 1),
        "rim_enhancement": ("rim_contrast", 1),
        "washout": ("kep_per_min", 1),
        "low_adc": ("adc_um2_per_ms", -1),
        "heterogeneity": ("heterogeneity", 1),
        "edema": ("edema_water", 1),
    }
    for name, (field, sign) in fields.items():
        values = [getattr(appearance_from_traits(traits(**{name: t})), field) for t in np.linspace(-2.5, 2.5, 11)]
        assert (sign * np.diff(values) > 0).all()
        assert appearance_from_traits(traits(**{name: 9.0})) == appearance_from_traits(traits(**{name: 2.5}))
    before = appearance_from_traits(traits())
    ratios = [after_therapy(before, response(shrinkage=t)).diameter_mm for t in np.linspace(-2.5, 1.15, 9)]
    assert (np.diff(ratios) < 0).all() and min(ratios) > 0.0
    assert after_therapy(before, response()).diameter_mm == pytest.approx(0.52 * before.diameter_mm)
    for name, field, sign in (
        ("adc_rise", "adc_um2_per_ms", 1),
        ("enhancement_drop", "early_mmol", -1),
        ("edema_resolution", "edema_water", -1),
        ("edema_resolution", "edema_extent_mm", -1),
    ):
        values = [getattr(after_therapy(before, response(**{name: t})), field) for t in np.linspace(-2.5, 2.5, 9)]
        assert (sign * np.diff(values) > 0).all()


@pytest.mark.parametrize(
    ("trait", "field"), [("size", "diameter_mm"), ("low_adc", "adc_um2_per_ms"), ("edema", "edema_extent_mm")]
)
def test_after_therapy_a_trait_and_its_change_are_mixed_as_the_gains_say(trait, field):
    """Trait t with response r looks, after therapy, exactly like trait t + g r with no response; the oracle relies on it."""
    name, gain = GAINS[trait]
    one = after_therapy(appearance_from_traits(traits(**{trait: 0.7})), response(**{name: 0.9}))
    other = after_therapy(appearance_from_traits(traits(**{trait: 0.7 + gain * 0.9})), response())
    assert getattr(one, field) == pytest.approx(getattr(other, field), rel=1e-9)


def test_about_an_eighth_of_the_lesions_vanish():
    assert norm.sf(COMPLETE_RESPONSE_SCORE) == pytest.approx(0.12)
    before = appearance_from_traits(traits())
    assert after_therapy(before, response(shrinkage=COMPLETE_RESPONSE_SCORE + 1e-6)).diameter_mm == 0.0
    assert after_therapy(before, response(shrinkage=COMPLETE_RESPONSE_SCORE - 1e-6)).diameter_mm > 0.0


def test_after_a_complete_response_there_is_a_bed_but_no_mass():
    for seed in range(3):
        first, gone = session(seed), follow_up(seed, shrinkage=2.0)
        assert gone.mask.sum() == 0
        assert int(gone.bed.sum()) == pytest.approx(int(first.mask.sum()), rel=0.12)
        bed = gone.bed.astype(bool)
        before = enhancement(first, "DCE_early")[first.mask > 0].mean()
        assert enhancement(gone, "DCE_early")[bed].mean() < 0.5 * before


def test_response_traits_can_be_measured():
    scores = (-2.0, 0.0, 1.0)
    shrunk = mean_over(lambda seed, t: follow_up(seed, shrinkage=t).mask.sum(), scores)
    assert (np.diff(shrunk) < 0).all()

    def adc(seed, t):
        visit = follow_up(seed, shrinkage=-0.5, adc_rise=t)
        return np.median(visit.volumes["ADC"][core(visit.mask)])

    def drop(seed, t):
        visit = follow_up(seed, shrinkage=-0.5, enhancement_drop=t)
        return -enhancement(visit, "DCE_early")[core(visit.mask)].mean()

    def resolution(seed, t):
        visit = follow_up(seed, shrinkage=-0.5, edema_resolution=t)
        return -visit.volumes["T2"][shell(visit.mask, 1, 4)].mean()

    for measure in (adc, drop, resolution):
        assert (np.diff(mean_over(measure, scores)) > 0).all(), measure.__name__


def test_two_visits_show_the_same_breast_about_a_millimeter_apart():
    """Cross-correlation of the visits, both quiet: highest near no shift, and higher than with another patient."""
    breast = draw_breast(GRID, np.random.default_rng(0))
    look = appearance_from_traits(traits())
    first = simulate_session(look, breast, QUIET, np.random.default_rng(1))
    later = [simulate_session(look, breast, QUIET, np.random.default_rng(k), before=look) for k in range(2, 8)]
    other = session(9, QUIET)

    def alike(a, b):
        return np.corrcoef(np.log1p(a.volumes["T2"].ravel()), np.log1p(b.volumes["T2"].ravel()))[0, 1]

    assert min(alike(first, visit) for visit in later) > alike(first, other)
    center = np.argwhere(first.mask).mean(axis=0) * GRID.spacing_mm
    moved = [np.linalg.norm(np.argwhere(visit.mask).mean(axis=0) * GRID.spacing_mm - center) for visit in later]
    assert 0.3 < np.mean(moved) < 2.0 and max(moved) < 4.0


def test_the_external_machine_is_noisier():
    noise = {
        name: session(6, scanner).volumes["T2"][:, :8, :8].mean() / scanner.gain for name, scanner in SCANNERS.items()
    }
    assert noise["external"] > 1.3 * noise["primary"]


def test_right_and_left_breasts_have_their_chest_wall_mirrored():
    for laterality, outer in (("L", -1), ("R", 0)):
        breasts = [draw_breast(GRID, np.random.default_rng(k), laterality=laterality) for k in range(3)]
        visits = [
            simulate_session(appearance_from_traits(traits()), breast, QUIET, np.random.default_rng(0))
            for breast in breasts
        ]
        air = np.mean([(visit.volumes["DCE_pre"] < 20).sum(axis=1).mean(axis=0) for visit in visits], axis=0)
        assert air[outer] > air[-1 - outer]


def test_wrong_arguments_are_refused():
    with pytest.raises(ValueError, match="7 finite"):
        appearance_from_traits(np.zeros(6))
    with pytest.raises(ValueError, match="4 finite"):
        after_therapy(appearance_from_traits(traits()), np.full(4, np.nan))
    with pytest.raises(ValueError, match="44 x 110"):
        VolumeGrid((16, 40, 40), (3.0, 1.5, 1.5))
    with pytest.raises(ValueError, match="laterality"):
        draw_breast(GRID, np.random.default_rng(0), laterality="left")
    gone = after_therapy(appearance_from_traits(traits()), response(shrinkage=2.0))
    with pytest.raises(ValueError, match="before"):
        simulate_session(gone, draw_breast(GRID, np.random.default_rng(0)), QUIET, np.random.default_rng(0))
