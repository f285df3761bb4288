"""Sweeps: what a still cannot show is in the frames together, and only there.

Truth comes from the generative model (slide, elevation and masks are returned, sweeps of one generator differ in one
trait only) and from speckle statistics (Burckhardt 1978; Wagner et al. 1988). Motion is measured by block matching.
"""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest
from scipy.ndimage import binary_dilation, gaussian_filter

from alnsim import ultrasound
from alnsim.ultrasound import SCANNERS, TRAITS, Grid, appearance_from_traits
from alnsim.video import (
    SWEEP_TRAITS,
    Sweep,
    _Beam,
    _Plane,
    _Replay,
    _Scatterers,
    simulate_sweep,
    sweep_appearance_from_traits,
)

SIZE = 96
FRAMES = 24
SEEDS = range(8)


def sweep_of(
    seed: int, lymphatics=0.0, tethering=0.0, satellites=0.0, still=None, frames=FRAMES, size=SIZE, center="primary"
):
    appearance = appearance_from_traits(np.zeros(len(TRAITS)) if still is None else np.asarray(still))
    shown = sweep_appearance_from_traits(np.array([lymphatics, tethering, satellites]))
    return simulate_sweep(appearance, shown, SCANNERS[center], size, size, frames, np.random.default_rng(seed))


@pytest.fixture(scope="module")
def tethered():
    """Tethering score to the sweeps of the same generators."""
    return {score: [sweep_of(seed, tethering=score) for seed in SEEDS] for score in (-2.0, 0.0, 2.0)}


def lateral_shift(before: np.ndarray, after: np.ndarray, where: np.ndarray, reach: int = 14) -> int:
    """Block matching: the sideways shift in pixels with the largest correlation inside the region."""
    likeness = []
    for lag in range(-reach, reach + 1):
        low, high = max(lag, 0), before.shape[1] + min(lag, 0)
        both = where[:, low:high] & where[:, low - lag : high - lag]
        likeness.append(np.corrcoef(before[:, low - lag : high - lag][both], after[:, low:high][both])[0, 1])
    return int(np.argmax(likeness)) - reach


def measured_motion(sweep: Sweep, step: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """(T - step,) mm between frames `step` apart: shift of the surroundings, and of the lesion (NaN where it is small)."""
    smooth = np.stack([gaussian_filter(frame.astype(float), (1.0, 1.5)) for frame in sweep.frames])
    smooth -= smooth.mean(axis=2, keepdims=True)
    around, lesion = [], []
    for first in range(len(smooth) - step):
        pair = smooth[first], smooth[first + step]
        masks = sweep.masks[first], sweep.masks[first + step]
        around.append(lateral_shift(*pair, ~binary_dilation(masks[0] | masks[1], iterations=6)))
        whole = (masks[0] & masks[1]).sum() > 120
        near = binary_dilation(masks[0] | masks[1], iterations=3)
        lesion.append(lateral_shift(*pair, near) if whole else np.nan)
    return np.array(around) * sweep.spacing_mm[1], np.array(lesion) * sweep.spacing_mm[1]


def test_appearance_is_strictly_monotone_and_clipped():
    for index, trait in enumerate(SWEEP_TRAITS):
        shown = []
        for score in np.linspace(-2.5, 2.5, 21):
            traits = np.zeros(len(SWEEP_TRAITS))
            traits[index] = score
            values = sweep_appearance_from_traits(traits)
            shown.append([getattr(values, field.name) for field in fields(values)])
        moved = np.diff(np.array(shown), axis=0)
        assert (np.sign(moved[:, index]) == (-1 if trait == "tethering" else 1)).all()
        assert (np.delete(moved, index, axis=1) == 0).all()
    assert sweep_appearance_from_traits(np.full(3, 9.0)) == sweep_appearance_from_traits(np.full(3, 2.5))
    assert min(np.array(shown).min(axis=0)) > 0
    with pytest.raises(ValueError, match="shape"):
        sweep_appearance_from_traits(np.zeros(7))


@pytest.mark.parametrize(("center", "frames", "size"), [("primary", 16, 112), ("external", 31, 96)])
def test_a_sweep_enters_the_lesion_and_leaves_it(center, frames, size):
    sweep = sweep_of(3, frames=frames, size=size, center=center)
    assert sweep.frames.shape == sweep.masks.shape == (frames, size, size)
    assert sweep.frames.dtype == np.uint8 and sweep.masks.dtype == bool
    assert sweep.elevation_mm.shape == sweep.slip_mm.shape == (frames,)
    assert sweep.spacing_mm == pytest.approx((SCANNERS[center].depth_mm / size,) * 2)
    assert sweep.frame_time_ms * frames == pytest.approx(3000.0)
    area = sweep.masks.sum(axis=(1, 2))
    assert area[0] == area[-1] == 0 and sweep.key_frame == area.argmax()
    seen = np.flatnonzero(area)
    assert (np.diff(seen) == 1).all() and len(seen) > frames / 3
    border = np.concatenate([sweep.masks[:, [0, -1]].ravel(), sweep.masks[:, :, [0, -1]].ravel()])
    assert not border.any()
    diameter = appearance_from_traits(np.zeros(7)).diameter_mm
    assert 2 * np.sqrt(area.max() / np.pi) * sweep.spacing_mm[0] == pytest.approx(diameter, rel=0.35)
    travel = np.diff(sweep.elevation_mm)
    assert (travel * np.sign(travel.sum()) > -0.4).all() and travel.std() > 0


def test_wide_grids_and_the_largest_lesion_fit():
    still = np.zeros(7)
    still[[0, 6]] = 2.5
    appearance = appearance_from_traits(still)
    shown = sweep_appearance_from_traits(np.array([2.5, -2.5, 2.5]))
    sweep = simulate_sweep(appearance, shown, SCANNERS["external"], 96, 250, 8, np.random.default_rng(0))
    assert sweep.frames.shape == (8, 96, 250) and sweep.spacing_mm[0] == pytest.approx(54.0 / 96)


def test_the_same_generator_gives_the_same_bytes_and_another_does_not():
    first, again, other = sweep_of(5, frames=8), sweep_of(5, frames=8), sweep_of(6, frames=8)
    for field in fields(Sweep):
        assert np.asarray(getattr(first, field.name)).tobytes() == np.asarray(getattr(again, field.name)).tobytes()
    assert first.frames.tobytes() != other.frames.tobytes()


def test_grids_and_frame_numbers_out_of_range_are_errors():
    with pytest.raises(ValueError, match="96 x 96"):
        sweep_of(0, size=80)
    with pytest.raises(ValueError, match="4 frames"):
        sweep_of(0, frames=4)


def test_tethering_moves_nothing_but_the_surroundings(tethered):
    for mobile, fixed in zip(tethered[-2.0], tethered[2.0], strict=True):
        np.testing.assert_array_equal(mobile.masks, fixed.masks)
        np.testing.assert_array_equal(mobile.elevation_mm, fixed.elevation_mm)
        assert mobile.key_frame == fixed.key_frame
        ratio = sweep_appearance_from_traits(np.array([0, 2.0, 0])).slip_mm
        ratio /= sweep_appearance_from_traits(np.array([0, -2.0, 0])).slip_mm
        np.testing.assert_allclose(fixed.slip_mm, mobile.slip_mm * ratio)


def frame_statistics(sweep: Sweep) -> np.ndarray:
    """What one frame can show, averaged over frames: gray levels and edges, round the lesion, inside and elsewhere."""
    rows = []
    for frame, mask in zip(sweep.frames.astype(float), sweep.masks, strict=True):
        if mask.sum() < 100:
            continue
        ring = binary_dilation(mask, iterations=5) & ~mask
        down, across = np.gradient(gaussian_filter(frame, 1.0))
        rest = ~(ring | mask)
        values = [frame[part].mean() for part in (mask, ring, rest)] + [
            frame[part].std() for part in (mask, ring, rest)
        ]
        values += [(edge[part] ** 2).mean() for edge in (down, across) for part in (ring, rest)]
        rows.append([*values, np.quantile(frame, 0.02), np.quantile(frame, 0.98), *frame.mean(axis=0)[[2, SIZE // 2]]])
    return np.mean(rows, axis=0)


def test_no_single_frame_shows_tethering(tethered):
    """Paired over generators: 14 statistics of frames do not move with the trait, though the slide is 7 times larger."""
    change = np.array(
        [
            frame_statistics(fixed) - frame_statistics(mobile)
            for fixed, mobile in zip(tethered[2.0], tethered[-2.0], strict=True)
        ]
    )
    t = change.mean(axis=0) / (change.std(axis=0, ddof=1) / np.sqrt(len(change)))
    assert (np.abs(t) < 4.8).all()  # two-sided 5 % for 14 looks at t with 7 degrees of freedom is 4.7
    between = np.std([frame_statistics(sweep) for sweep in tethered[-2.0]], axis=0, ddof=1)
    assert (np.abs(change.mean(axis=0)) < 0.5 * between).all()


def test_random_fields_look_alike_wherever_they_are_cut():
    """The reason why a frame hides the slide: mean 0 and variance 1 at any displacement, and a slide is only a shift."""
    pixel = 0.4
    elevation = np.full((1, 150), 1.3, np.float32)
    pooled = {0.0: [], 3.3: []}
    for seed in range(60):
        for slip, values in pooled.items():
            plane = _Plane(100, 150, pixel, elevation, 0.0, 0.0, 8.0).displaced(slip)
            values.append(plane.field(0.8, 1.6, _Replay(np.random.default_rng(seed))))
    for values in pooled.values():
        assert np.mean(values) == pytest.approx(0.0, abs=0.05)
        assert np.var(values, axis=0).mean() == pytest.approx(1.0, abs=0.05)
    rest = _Plane(100, 150, pixel, elevation, 0.0, 0.0, 8.0)
    replay = _Replay(np.random.default_rng(1))
    still, slid = rest.field(0.8, 1.6, replay.again()), rest.displaced(5 * pixel).field(0.8, 1.6, replay.again())
    np.testing.assert_allclose(slid[:, 5:], still[:, :-5], atol=1e-4)


def test_speckle_at_the_border_does_not_tell_how_far_the_surroundings_slid():
    """Scatterers at either side of the border stay uncorrelated, at a slide of none, one or many pixels."""
    grid = Grid(200, 200, 0.2)
    beam = _Beam.of(SCANNERS["primary"], grid)
    scatterers = _Scatterers.draw(beam, grid, 3, 3.0, np.random.default_rng(2))
    plane = _Plane(200, 200, 0.2, np.zeros((1, 200), np.float32), 0.0, 0.0, 3.0)
    own = np.zeros((200, 200), bool)
    own[:, 60:120] = True
    for slip in (-2, -1, 0, 1, 2, 9):
        moved = scatterers.at(plane, slip * 0.2, own)
        assert moved.var() == pytest.approx(0.5, rel=0.03)
        for inside, outside in ((60, 59), (60, 58), (119, 120), (119, 121)):
            likeness = np.corrcoef(moved[:, :, inside].ravel(), moved[:, :, outside].ravel())[0, 1]
            assert abs(likeness) < 4.0 / np.sqrt(6 * 200)


def test_the_slide_is_measured_between_frames(tethered):
    """Block matching of the surroundings against the lesion, neighbors and three frames apart, as sampled clips see it."""
    spread = {}
    for score, sweeps in tethered.items():
        for step in (1, 3):
            relative = []
            for sweep in sweeps[:4]:
                around, lesion = measured_motion(sweep, step)
                relative.append(np.nanstd(around - lesion))
                if score == -2.0 and step == 1:
                    assert np.corrcoef(around, np.diff(sweep.slip_mm))[0, 1] > 0.9
            spread[score, step] = np.array(relative)
    for step in (1, 3):
        assert (spread[-2.0, step] > 1.8 * spread[2.0, step]).all()
        assert spread[-2.0, step].mean() > spread[0.0, step].mean() > spread[2.0, step].mean()
    pixels_at_64 = spread[-2.0, 3].mean() / (38.0 / 64)
    assert pixels_at_64 > 2.5


def test_speckle_of_one_look_is_rayleigh_and_decorrelates_with_the_elevational_beam():
    """Burckhardt 1978: mean / sd of the envelope is 1.91. Gaussian beam: correlation of echoes exp(-d^2 / 4 s^2)."""
    grid = Grid(220, 220, 0.2)
    beam = _Beam.of(SCANNERS["primary"], grid)
    scatterers = _Scatterers.draw(beam, grid, 1, 3.0, np.random.default_rng(0))
    ones, none = np.ones((220, 220), np.float32), np.zeros((220, 220), np.float32)

    def cut(elevation_mm: float) -> np.ndarray:
        plane = _Plane(220, 220, 0.2, np.full((1, 220), elevation_mm, np.float32), 0.0, 0.0, 3.0)
        return scatterers.at(plane, 0.0, none > 0)

    first = beam.envelope(ones, none, cut(-1.0), np.zeros((2, 220, 220), np.float32))
    assert first.mean() / first.std() == pytest.approx(np.sqrt(np.pi / (4 - np.pi)), rel=0.04)
    assert np.sqrt((first**2).mean()) == pytest.approx(1.0, rel=0.05)
    for apart in (0.4, 0.8, 1.6, 2.4):
        likeness = np.corrcoef(cut(-1.0).ravel(), cut(-1.0 + apart).ravel())[0, 1]
        assert likeness == pytest.approx(np.exp(-(apart**2) / (4 * beam.elevational_mm**2)), abs=0.05)


def test_satellites_show_off_the_key_plane_only():
    diameter = appearance_from_traits(np.zeros(7)).diameter_mm
    for seed in range(3):
        none, some, many = (sweep_of(seed, satellites=score) for score in (-2.5, 0.0, 2.5))
        np.testing.assert_array_equal(none.masks, many.masks)
        core = np.abs(none.elevation_mm) < 0.25 * 0.9 * diameter
        assert core[none.key_frame] and core.sum() >= 5
        np.testing.assert_array_equal(none.frames[core], many.frames[core])
        changed = [(none.frames.astype(int) - other.frames > 25).sum(axis=(1, 2)) for other in (some, many)]
        assert (changed[1] > 8).sum() >= 2 and changed[1].sum() > 1.3 * changed[0].sum() > 0
        assert not (changed[1][core]).any()


def ring_roughness(sweep: Sweep) -> tuple[float, float]:
    """Standard deviation of fine structure in the key frame: 1-5 mm round the lesion, and far from it."""
    frame = sweep.frames[sweep.key_frame].astype(float)
    mask = sweep.masks[sweep.key_frame]
    fine = gaussian_filter(frame, 1.0) - gaussian_filter(frame, 4.0)
    step = 1.0 / sweep.spacing_mm[0]
    near = binary_dilation(mask, iterations=round(5 * step)) & ~binary_dilation(mask, iterations=round(step))
    far = ~binary_dilation(mask, iterations=round(8 * step))
    return fine[near].std(), fine[far].std()


def test_lymphatics_are_measured_in_the_key_frame_and_only_round_the_lesion():
    rough, far = [], []
    for seed in range(5):
        sweeps = [sweep_of(seed, lymphatics=score, frames=9) for score in (-2.0, 0.0, 2.0)]
        values = [ring_roughness(sweep) for sweep in sweeps]
        rough.append([value[0] for value in values])
        far.append([value[1] for value in values])
        low, high = sweeps[0], sweeps[2]
        np.testing.assert_array_equal(low.masks, high.masks)
        inside = low.masks[low.key_frame]
        inside = ~binary_dilation(~inside, iterations=6)
        difference = low.frames[low.key_frame].astype(int) - high.frames[high.key_frame]
        assert np.abs(difference[inside]).max() <= 3
        assert np.abs(difference[:, :3]).mean() < 1.0
    rough = np.array(rough)
    assert (np.diff(rough, axis=1) > 0).all()
    assert rough[:, 2].mean() > 1.25 * rough[:, 0].mean()
    np.testing.assert_allclose(np.array(far)[:, 2], np.array(far)[:, 0], rtol=0.05)


def test_the_key_frame_looks_like_the_still():
    """Gray levels of tissue and lesion, and edges, as `simulate_bmode` draws them, within the scatter of ten of each."""
    appearance = appearance_from_traits(np.zeros(7))
    shown, stills = [], []

    def look(pixels: np.ndarray, mask: np.ndarray) -> list[float]:
        gray = pixels.astype(float)
        edges = [np.diff(gray, axis=axis).std() for axis in (0, 1)]
        return [gray[~mask].mean(), gray.std(), gray[mask].mean(), gray[mask].std(), *edges, np.sqrt(mask.mean())]

    for seed in range(10):
        still = ultrasound.simulate_bmode(appearance, SCANNERS["primary"], 128, 128, np.random.default_rng(seed))
        stills.append(look(still.pixels, still.mask))
        sweep = sweep_of(100 + seed, lymphatics=-2.5, frames=9, size=128)
        shown.append(look(sweep.frames[sweep.key_frame], sweep.masks[sweep.key_frame]))
    apart = np.mean(shown, axis=0) - np.mean(stills, axis=0)
    error = np.sqrt((np.var(shown, axis=0, ddof=1) + np.var(stills, axis=0, ddof=1)) / 10)
    assert (np.abs(apart) < 4.0 * error).all()
    np.testing.assert_allclose(np.mean(shown, axis=0)[3:], np.mean(stills, axis=0)[3:], rtol=0.12)


@pytest.mark.parametrize(
    ("trait", "measure"),
    [
        ("shadowing", lambda frame, mask: -frame[np.nonzero(mask)[0].max() + 4 :][:, mask.any(axis=0)].mean()),
        ("hypoechogenicity", lambda frame, mask: -frame[mask].mean()),
        ("heterogeneity", lambda frame, mask: gaussian_filter(frame, 1.5)[~binary_dilation(~mask, iterations=3)].std()),
        ("size", lambda frame, mask: mask.sum()),
        ("orientation", lambda frame, mask: np.ptp(np.nonzero(mask)[0]) / np.ptp(np.nonzero(mask)[1])),
        ("irregularity", lambda frame, mask: (binary_dilation(mask) & ~mask).sum() / np.sqrt(mask.sum())),
        ("halo", lambda frame, mask: (frame * (binary_dilation(mask, iterations=4) & ~mask)).sum() / mask.sum() ** 0.5),
    ],
)
def test_still_traits_are_measured_in_the_key_frame(trait, measure):
    shown = {-1.5: [], 1.5: []}
    for seed in range(4):
        for score, values in shown.items():
            still = np.zeros(len(TRAITS))
            still[TRAITS.index(trait)] = score
            sweep = sweep_of(seed, lymphatics=-2.5, still=still, frames=9)
            values.append(measure(sweep.frames[sweep.key_frame].astype(float), sweep.masks[sweep.key_frame]))
    assert np.mean(shown[1.5]) > np.mean(shown[-1.5]) + np.std(np.subtract(shown[1.5], shown[-1.5])) / 2
