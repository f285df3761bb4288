"""Shares of heat per region on masks small enough to count by hand."""

from __future__ import annotations

import numpy as np
import pytest

from alnlib.errors import InputError
from alnlib.explain.regions import heat_by_region, heat_table, node_regions


def square(side, first, last):
    mask = np.zeros((side, side), np.uint8)
    mask[first : last + 1, first : last + 1] = 1
    return mask


@pytest.mark.parametrize(
    ("spacing_mm", "margin_mm", "n_margin"),
    [((1, 1), 1.0, 4), ((1, 1), 1.5, 8), ((1, 1), 2.0, 12), ((2, 1), 1.0, 2), ((1, 1), 0.0, 0), ((0.5, 0.5), 1.0, 12)],
)
def test_margin_of_one_pixel_counted_by_hand(spacing_mm, margin_mm, n_margin):
    """Neighbors of the middle of 5 x 5: 4 at 1 pixel, 4 at the root of 2, 4 at 2 pixels; rows of 2 mm leave the 2 beside."""
    regions = node_regions(square(5, 2, 2), spacing_mm, margin_mm, cortex_mm=2.0)
    assert list(regions) == ["core", "cortex", "margin", "surroundings"]
    assert [int(region.sum()) for region in regions.values()] == [0, 1, n_margin, 24 - n_margin]


def test_cortex_is_the_outer_shell_of_the_node():
    """A 5 x 5 node with a shell of one pixel has a core of 3 x 3."""
    regions = node_regions(square(9, 2, 6), (1.0, 1.0), margin_mm=1.0, cortex_mm=1.0)
    assert {name: int(region.sum()) for name, region in regions.items()} == {
        "core": 9,
        "cortex": 16,
        "margin": 20,
        "surroundings": 36,
    }
    np.testing.assert_array_equal(regions["core"], square(9, 3, 5) > 0)
    # The node fills the image: where it ends is not seen, so nothing is cortex.
    full = node_regions(np.ones((4, 4)), (1.0, 1.0), 1.0, cortex_mm=1.0)
    assert full["core"].all() and not full["margin"].any()


def test_regions_of_a_volume_use_the_distance_between_slices():
    mask = np.zeros((5, 5, 5))
    mask[2, 2, 2] = 1
    assert node_regions(mask, (3.0, 1.0, 1.0), 1.0, 1.0)["margin"].sum() == 4
    assert node_regions(mask, (1.0, 1.0, 1.0), 1.0, 1.0)["margin"].sum() == 6


def test_shares_worked_out_by_hand():
    """Heat 6 on the node, 3 on one margin pixel, 1 in a corner: 0.6, 0.3, 0.1 on areas of 1, 4 and 20 of 25 pixels."""
    heat = np.zeros((5, 5), np.float32)
    heat[2, 2], heat[2, 3], heat[0, 0] = 6, 3, 1
    table = heat_by_region(heat, node_regions(square(5, 2, 2), (1.0, 1.0), 1.0, 1.0)).drop("core")
    np.testing.assert_allclose(table["heat_share"], [0.6, 0.3, 0.1])
    np.testing.assert_allclose(table["area_share"], [0.04, 0.16, 0.8])
    np.testing.assert_allclose(table["concentration"], [15, 1.875, 0.125])


def test_shares_sum_to_one_and_do_not_depend_on_the_scale_of_the_map():
    rng = np.random.default_rng(0)
    for shape, spacing in (((20, 30), (0.4, 0.7)), ((6, 12, 12), (3.0, 0.7, 0.7))):
        mask = np.zeros(shape, bool)
        mask[tuple(slice(side // 3, 2 * side // 3) for side in shape)] = True
        regions = node_regions(mask, spacing, margin_mm=2.0, cortex_mm=1.0)
        assert (np.sum(list(regions.values()), axis=0) == 1).all()
        heat = rng.random(shape)
        share = heat_by_region(heat, regions)["heat_share"]
        assert share.sum() == pytest.approx(1.0, abs=1e-12)
        np.testing.assert_allclose(heat_by_region(1000 * heat, regions)["heat_share"], share)


def test_even_heat_is_concentrated_nowhere_whatever_the_crop():
    """Its share is the area's: 9/25 of a tight crop, 9/225 of a wide one. The concentration is 1 in both."""
    masks = [square(5, 1, 3), square(15, 6, 8)]
    maps = [np.full(mask.shape, 0.2) for mask in masks]
    table = heat_table(maps, masks, [(1.0, 1.0)] * 2, 1.0, 1.0, ["tight", "wide"])
    node = table[table["region"].isin(["core", "cortex"])].groupby("image_id")["heat_share"].sum()
    np.testing.assert_allclose(node, [9 / 25, 9 / 225])
    np.testing.assert_allclose(table["concentration"], 1.0)
    assert list(table.columns) == ["image_id", "region", "heat_share", "area_share", "concentration"]
    np.testing.assert_allclose(table.groupby("image_id")["heat_share"].sum(), 1.0)


def test_a_map_without_heat_has_no_shares_and_an_empty_region_no_concentration():
    regions = node_regions(square(5, 2, 2), (1.0, 1.0), 0.0, 1.0)
    assert heat_by_region(np.zeros((5, 5)), regions)["heat_share"].isna().all()
    table = heat_by_region(np.ones((5, 5)), regions)
    assert table.loc["margin", "heat_share"] == 0 and np.isnan(table.loc["margin", "concentration"])


def test_wrong_masks_and_maps_say_so():
    with pytest.raises(InputError, match="image SIM-7-CT-1: the mask is empty"):
        heat_table([np.ones((4, 4))], [np.zeros((4, 4))], [(1.0, 1.0)], 1.0, 1.0, ["SIM-7-CT-1"])
    with pytest.raises(ValueError, match="expected 2 positive"):
        node_regions(square(5, 2, 2), (1.0, 1.0, 1.0), 1.0, 1.0)
    regions = node_regions(square(5, 2, 2), (1.0, 1.0), 1.0, 1.0)
    with pytest.raises(ValueError, match="one grid"):
        heat_by_region(np.ones((6, 6)), regions)
    with pytest.raises(ValueError, match="negative"):
        heat_by_region(-np.ones((5, 5)), regions)
    with pytest.raises(ValueError, match="1 maps, 2 masks"):
        heat_table([np.ones((4, 4))], [np.ones((4, 4))] * 2, [(1.0, 1.0)], 1.0, 1.0, ["a"])
