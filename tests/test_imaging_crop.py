"""Crops, resampling, scaling and plates: properties, and small arrays whose answer can be read off."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alnlib.errors import InputError
from alnlib.imaging.crop import (
    adjustable_square_crop,
    box_center_mm,
    box_from_mask,
    check_box,
    fixed_size_crop,
    resample_to_square,
)
from alnlib.imaging.montage import Panel, plot_panel
from alnlib.imaging.spec import percentile_scale, range_scale

IMAGE = np.arange(80.0).reshape(8, 10)


def test_box_is_half_open_and_tight():
    mask = np.zeros((6, 7), bool)
    mask[2:4, 5] = True
    assert box_from_mask(mask) == (2, 5, 4, 6)
    assert mask[2:4, 5:6].all()
    assert box_from_mask(mask.T) == (5, 2, 6, 4), "rows before columns"
    assert box_from_mask(np.stack([0 * mask, mask, mask])) == (1, 2, 5, 3, 4, 6), "of a volume slices come first"


def test_empty_mask_names_the_patient_and_the_remedy():
    with pytest.raises(InputError, match=r"patient 0173.*empty; draw the lesion"):
        box_from_mask(np.zeros((3, 3)), "patient 0173: masks/0173.png")


def test_adjustable_crop_without_margin_is_the_box_of_a_square():
    np.testing.assert_array_equal(adjustable_square_crop(IMAGE, (2, 3, 5, 6), 0.0), IMAGE[2:5, 3:6])


def test_adjustable_crop_shares_its_margin():
    np.testing.assert_array_equal(adjustable_square_crop(IMAGE, (3, 4, 5, 6), 1.0), IMAGE[2:6, 3:7])


@settings(max_examples=60, deadline=None)
@given(
    top=st.integers(0, 7),
    left=st.integers(0, 9),
    height=st.integers(1, 8),
    width=st.integers(1, 10),
    margin=st.floats(0, 2),
)
def test_adjustable_crop_is_square_and_holds_the_lesion_wherever_it_lies(top, left, height, width, margin):
    box = (top, left, min(top + height, 8), min(left + width, 10))
    lesion = np.zeros((8, 10), bool)
    lesion[box[0] : box[2], box[1] : box[3]] = True
    crop = adjustable_square_crop(lesion.astype(float), box, margin)
    longest = max(box[2] - box[0], box[3] - box[1])
    assert crop.shape[0] == crop.shape[1] >= longest
    assert crop.shape[0] <= np.ceil(longest * (1 + margin))
    assert crop.sum() == lesion.sum()


def test_adjustable_crop_takes_scale_away_and_fixed_crop_keeps_it():
    rows, columns = np.mgrid[:128, :128]

    def disc(radius):
        return (np.hypot(rows - 63.5, columns - 63.5) < radius).astype(float)

    adjusted = [resample_to_square(adjustable_square_crop(disc(r), box_from_mask(disc(r)), 0.2), 32) for r in (10, 40)]
    assert abs(adjusted[0].mean() - adjusted[1].mean()) < 0.02
    fixed = [fixed_size_crop(disc(r), (32.0, 32.0), 50.0, (0.5, 0.5)).mean() for r in (10, 40)]
    assert fixed[1] / fixed[0] == pytest.approx(16, rel=0.05)


def test_what_lies_beyond_the_border_is_filled():
    constant = adjustable_square_crop(IMAGE, (6, 8, 8, 10), 1.0, fill=-1)
    np.testing.assert_array_equal(constant, np.pad(IMAGE, 1, constant_values=-1)[-4:, -4:])


def test_a_crop_never_writes_into_its_image():
    image = IMAGE.copy()
    adjustable_square_crop(image, (0, 0, 2, 2), 1.0, fill=99.0)[:] = 5
    np.testing.assert_array_equal(image, IMAGE)


def test_fixed_crop_is_as_wide_in_millimeters_whatever_the_spacing():
    crop = fixed_size_crop(IMAGE, (4.0, 10.0), 4.0, (1.0, 2.0))
    np.testing.assert_array_equal(crop, IMAGE[2:6, 4:6])
    assert box_center_mm((2, 4, 6, 6), (1.0, 2.0)) == (4.0, 10.0)


@settings(max_examples=40, deadline=None)
@given(row=st.floats(0, 8), column=st.floats(0, 10), size=st.floats(0.5, 30))
def test_fixed_crop_keeps_its_shape_at_the_border(row, column, size):
    crop = fixed_size_crop(IMAGE, (row, column), size, (1.0, 1.0))
    assert crop.shape == (max(1, round(size)),) * 2
    assert set(np.unique(crop)) <= set(np.unique(IMAGE))  # which holds 0, the fill


@pytest.mark.parametrize("box", [(0, 0, 9, 3), (-1, 0, 3, 3), (0, 0, 3, 11)])
def test_a_box_outside_the_image_is_the_users_mistake(box):
    with pytest.raises(InputError, match="outside the image of 8 x 10"):
        check_box(box, IMAGE.shape, "the image")


@pytest.mark.parametrize(
    "call",
    [
        lambda: resample_to_square(IMAGE, 0),
        lambda: percentile_scale(IMAGE, 50, 50),
        lambda: percentile_scale(np.array([[1.0, np.nan]])),
        lambda: range_scale(IMAGE, 40, 40),
    ],
)
def test_programming_mistakes_are_value_errors(call):
    with pytest.raises(ValueError):
        call()


def test_resampling_keeps_size_range_and_constants():
    np.testing.assert_array_equal(resample_to_square(IMAGE[:8, :8], 8), IMAGE[:8, :8])
    np.testing.assert_allclose(resample_to_square(np.full((37, 37), 3.5), 16), 3.5, rtol=1e-6)
    assert resample_to_square(IMAGE, 224).shape == (224, 224)


def test_shrinking_is_antialiased():
    """A checkerboard of single pixels becomes its mean; picking every eighth pixel would give 0 or 1 everywhere."""
    board = np.indices((128, 128)).sum(axis=0) % 2
    assert np.abs(resample_to_square(board, 16)[2:-2, 2:-2] - 0.5).max() < 0.02


def test_percentile_scaling_takes_out_gain_and_offset():
    image = np.random.default_rng(0).gamma(2.0, 30.0, (50, 50))
    scaled = percentile_scale(image)
    assert scaled.min() == 0 and scaled.max() == 1 and scaled.dtype == np.float32
    np.testing.assert_allclose(percentile_scale(3 * image + 17), scaled, atol=1e-5)
    outlier = image.copy()
    outlier[0, 0] = 1e6
    assert np.abs(percentile_scale(outlier) - scaled).mean() < 0.01, "one bright pixel does not darken the rest"
    np.testing.assert_array_equal(percentile_scale(np.full((4, 4), 9.0)), 0.5)


def test_a_window_is_linear_between_its_edges():
    np.testing.assert_allclose(range_scale(np.array([-1000, -160, 40, 240, 3000]), -160, 240), [0, 0, 0.5, 1, 1])


def test_a_panel_has_its_outline_its_bar_and_its_true_aspect():
    mask = np.zeros((8, 10), bool)
    mask[2:5, 2:5] = True
    panels = [Panel(IMAGE, "SIM-0001, pN+ (simulated)", mask, (0.5, 1.0)), Panel(IMAGE, "no mask")]
    fig, axes = plt.subplots(1, 2)
    try:
        assert [plot_panel(ax, panel) is ax for ax, panel in zip(axes, panels, strict=True)] == [True, True]
        assert [ax.get_title() for ax in axes] == ["SIM-0001, pN+ (simulated)", "no mask"]
        assert len(axes[0].lines) == 1 and len(axes[1].lines) == 0
        assert axes[0].get_aspect() == 0.5
    finally:
        plt.close(fig)
