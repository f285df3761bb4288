"""Outlines of simulated lesions and nodes: volumes of spheres and ellipsoids, signs of distances, statistics of fields.

Truth comes from geometry (volume 4/3 pi r^3, area of an ellipse) and from the correlation of smoothed white noise.
"""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import kstest

from alnsim.shapes import LesionShape, NodeShape, draw_lesion, draw_node, smooth_field, white_noise

STEP_MM = 0.5
AXIS = np.arange(-21.0, 21.01, STEP_MM)
CUBE = AXIS[:, None, None], AXIS[None, :, None], AXIS[None, None, :]


def equivalent_diameter(inside: np.ndarray) -> float:
    return float(np.cbrt(6.0 / np.pi * inside.sum() * STEP_MM**3))


def test_a_plain_lesion_is_the_sphere_that_was_asked_for():
    lesion = draw_lesion(LesionShape(20.0), np.random.default_rng(0))
    distance = lesion.distance_mm(*CUBE)
    radius = np.sqrt(sum(axis**2 for axis in CUBE))
    assert distance.dtype == np.float64
    np.testing.assert_allclose(distance, radius - 10.0, atol=1e-3)
    assert lesion.reach_mm == pytest.approx(10.0, abs=1e-4)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("lobulation", "spiculation_mm"), [(0.0, 0.0), (0.2, 0.0), (0.1, 4.0)])
def test_every_lesion_has_the_volume_of_its_sphere(seed, lobulation, spiculation_mm):
    shape = LesionShape(18.0, (0.8, 1.0, 1.2), lobulation, spiculation_mm)
    lesion = draw_lesion(shape, np.random.default_rng(seed))
    assert equivalent_diameter(lesion.distance_mm(*CUBE) < 0) == pytest.approx(18.0, rel=0.01)


def test_axes_are_in_the_order_z_y_x():
    inside = draw_lesion(LesionShape(16.0, (0.7, 1.0, 1.4)), np.random.default_rng(0)).distance_mm(*CUBE) < 0
    extents = [STEP_MM * inside.any(axis=other).sum() for other in ((1, 2), (0, 2), (0, 1))]
    scale = 16.0 / np.cbrt(0.7 * 1.0 * 1.4)
    np.testing.assert_allclose(extents, [0.7 * scale, scale, 1.4 * scale], atol=2 * STEP_MM)


def test_a_spiky_or_lobulated_lesion_has_more_surface():
    """Isoperimetric inequality: of all bodies of one volume the sphere has the least surface."""

    def surface(lobulation, spiculation_mm):
        lesion = draw_lesion(LesionShape(20.0, (1, 1, 1), lobulation, spiculation_mm), np.random.default_rng(5))
        inside = lesion.distance_mm(*CUBE) < 0
        return sum(np.abs(np.diff(inside.astype(int), axis=axis)).sum() for axis in range(3))

    assert surface(0.0, 0.0) < surface(0.1, 0.0) < surface(0.2, 0.0)
    assert surface(0.0, 0.0) < surface(0.0, 2.0) < surface(0.0, 5.0)


def test_lobulation_is_the_standard_deviation_of_the_relative_radius():
    radii = [draw_lesion(LesionShape(20.0, (1, 1, 1), 0.1), np.random.default_rng(k)).radius_mm for k in range(5)]
    weight = np.broadcast_to(np.sin(np.linspace(0, np.pi, radii[0].shape[0]))[:, None], radii[0].shape)
    for radius in radii:
        mean = np.average(radius, weights=weight)
        sd = np.sqrt(np.average((radius / mean - 1.0) ** 2, weights=weight))
        assert sd == pytest.approx(0.1, rel=0.03)


def test_a_slice_of_a_lesion_is_the_lesion_at_that_height():
    lesion = draw_lesion(LesionShape(20.0, (1, 1, 1), 0.1, 2.0), np.random.default_rng(1))
    volume = lesion.distance_mm(*CUBE)
    index = 50
    np.testing.assert_array_equal(lesion.distance_mm(AXIS[index], AXIS[:, None], AXIS[None, :]), volume[index])


def test_a_plain_node_has_the_axes_that_were_asked_for():
    node = draw_node(NodeShape(16.0, 8.0, 0.0), np.random.default_rng(0), turn=0.0)
    off_center = AXIS + 0.17  # no sample on the capsule
    inside = node.distance_mm(0.0, off_center[:, None], off_center[None, :]) < 0
    assert inside.sum() * STEP_MM**2 == pytest.approx(np.pi / 4 * 16.0 * 8.0, rel=0.02)
    assert inside.any(axis=0).sum() > 1.8 * inside.any(axis=1).sum()  # the long axis lies along x
    turned = draw_node(NodeShape(16.0, 8.0, 0.0), np.random.default_rng(0), turn=np.pi / 2)
    across = turned.distance_mm(0.0, AXIS[:, None], AXIS[None, :]) < 0
    assert across.any(axis=1).sum() > 1.8 * across.any(axis=0).sum()


def test_the_largest_plane_of_a_node_is_the_middle_one():
    node = draw_node(NodeShape(14.0, 9.0, 0.3), np.random.default_rng(3))
    area = (node.distance_mm(*CUBE) < 0).sum(axis=(1, 2))
    assert abs(AXIS[np.argmax(area)]) <= STEP_MM


@pytest.mark.parametrize("seed", range(4))
def test_a_hilum_grows_with_its_fraction_and_opens_to_the_surface(seed):
    share = []
    for fraction in (0.0, 0.2, 0.4, 0.6, 0.8):
        node = draw_node(NodeShape(18.0, 10.0, fraction), np.random.default_rng(seed))
        inside = node.distance_mm(0.0, AXIS[:, None], AXIS[None, :]) < 0
        hilum = node.hilum_distance_mm(0.0, AXIS[:, None], AXIS[None, :]) < 0
        share.append((inside & hilum).sum() / inside.sum())
        if fraction >= 0.4:
            assert (hilum & ~inside).any()
    assert share[0] == 0.0 and (np.diff(share) > 0).all() and share[-1] < 0.75


def test_the_same_seed_gives_the_same_shape_family():
    one, other = (
        draw_lesion(LesionShape(diameter, (1, 1, 1), 0.15), np.random.default_rng(8)) for diameter in (10.0, 20.0)
    )
    np.testing.assert_allclose(2.0 * one.radius_mm, other.radius_mm, rtol=1e-5)


def test_white_noise_is_standard_normal_and_as_likely_on_either_side():
    """Kolmogorov-Smirnov against the normal distribution; its cut at the last of 65,536 quantiles takes 3e-5 of the values."""
    noise = white_noise((400, 500), np.random.default_rng(4))
    assert noise.shape == (400, 500) and 4.0 < np.abs(noise).max() < 4.4
    assert noise.mean() == pytest.approx(0.0, abs=0.01) and noise.std() == pytest.approx(1.0, abs=0.01)
    assert kstest(noise.ravel(), "norm").pvalue > 0.01


@pytest.mark.parametrize("sigma", [0.0, 0.4, 1.0, 2.5, 7.0, (1.0, 5.0)])
def test_a_field_has_mean_0_and_variance_1(sigma):
    field = smooth_field((500, 500), sigma, np.random.default_rng(2))
    assert field.dtype == np.float64 and field.shape == (500, 500)
    assert field.mean() == pytest.approx(0.0, abs=0.12)
    assert (field**2).mean() == pytest.approx(1.0, abs=0.12)


@pytest.mark.parametrize("sigma", [2.0, 6.0])
def test_a_field_has_the_correlation_of_smoothed_white_noise(sigma):
    """White noise through a Gaussian of sigma s: correlation exp(-d^2 / (4 s^2)); linear interpolation adds a little."""
    field = smooth_field((700, 700), sigma, np.random.default_rng(3))
    lag = int(2 * sigma)
    found = np.corrcoef(field[:, :-lag].ravel(), field[:, lag:].ravel())[0, 1]
    assert found == pytest.approx(np.exp(-(lag**2) / (4 * sigma**2)), abs=0.06)


def test_fields_of_one_and_three_dimensions_and_of_small_extent():
    assert smooth_field((40,), 5.0, np.random.default_rng(0)).shape == (40,)
    assert smooth_field((3, 20, 1), (9.0, 2.0, 4.0), np.random.default_rng(0)).shape == (3, 20, 1)


def test_impossible_shapes_are_refused():
    with pytest.raises(ValueError, match="positive"):
        LesionShape(0.0)
    with pytest.raises(ValueError, match="negative"):
        LesionShape(10.0, (1, 1, 1), -0.1)
    with pytest.raises(ValueError, match="no node"):
        NodeShape(8.0, 9.0)
    with pytest.raises(ValueError, match="hilum_fraction"):
        NodeShape(12.0, 9.0, 0.9)
    with pytest.raises(ValueError, match="sigma"):
        smooth_field((10, 10), -1.0, np.random.default_rng(0))
