"""Stills of an images table: what is read, how it is cropped, and what is said when something is missing."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from alnlib.cohorts.schema import IMAGE_COLUMNS
from alnlib.errors import InputError
from alnlib.imaging.lesions import crop, left_out_images, usable_images
from alnlib.imaging.rows import read_still
from alnlib.imaging.spec import CropSpec


@pytest.fixture
def folder(tmp_path):
    """Two stills of 60 x 80 pixels on a gray ground, each with a bright lesion of 10 x 20 pixels and its mask."""
    for number, corner in enumerate([(20, 30), (0, 60)]):
        pixels = np.full((60, 80), 60, np.uint8)
        mask = np.zeros_like(pixels)
        at = (slice(corner[0], corner[0] + 10), slice(corner[1], corner[1] + 20))
        pixels[at], mask[at] = 200, 255
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
        Image.fromarray(mask).save(tmp_path / f"{number}_mask.png")
    return tmp_path


def crop_stills(images, root, **options) -> np.ndarray:
    return crop(images, root, CropSpec("US", **({"size_mm": 38.0} | options)))


def table(**columns) -> pd.DataFrame:
    rows = {
        "image_id": ["a", "b"],
        "patient_id": ["007", "008"],
        "modality": ["US", "US"],
        "path": ["0.png", "1.png"],
        "mask_path": ["0_mask.png", "1_mask.png"],
        "pixel_spacing_mm": ["0.5 0.5", "0.5 0.5"],
    }
    return pd.DataFrame(rows | columns).reindex(columns=list(IMAGE_COLUMNS)).astype({"box": "str"})


def test_the_box_comes_from_the_mask_unless_the_table_has_one(folder):
    assert read_still(table().iloc[0], folder).box == (20, 30, 30, 50)
    boxed = table(box=["1 2 3 4", "1 2 3 4"], mask_path=[None, None])
    assert read_still(boxed.iloc[0], folder).box == (1, 2, 3, 4)


def test_crops_keep_their_shape_even_at_the_border_and_their_order(folder):
    crops = crop_stills(table(), folder, kind="adjustable_square", side_px=32)
    assert crops.shape == (2, 32, 32)
    assert crops.dtype == np.uint8
    backwards = crop_stills(table().iloc[::-1], folder, kind="adjustable_square", side_px=32)
    np.testing.assert_array_equal(backwards[::-1], crops)


def test_the_adjustable_crop_scales_size_away_and_the_fixed_one_keeps_it(folder):
    """The same lesion in pixels of twice the size: twice as large in the fixed crop, alike in the adjustable one."""
    spacing = ["0.25 0.25", "0.5 0.5"]
    same = table(path=["0.png"] * 2, mask_path=["0_mask.png"] * 2, pixel_spacing_mm=spacing)
    adjustable = crop_stills(same, folder, kind="adjustable_square", side_px=64)
    np.testing.assert_array_equal(*adjustable)
    fixed = crop_stills(same, folder, kind="fixed_size", side_px=64, size_mm=12.0)
    bright = (fixed > 200).mean(axis=(1, 2))
    assert bright[1] == pytest.approx(4 * bright[0], rel=0.15)


def test_gain_does_not_change_a_crop(folder):
    before = crop_stills(table(), folder, kind="fixed_size", side_px=32, size_mm=20)
    for number in (0, 1):
        dimmed = np.asarray(Image.open(folder / f"{number}.png")) // 2
        Image.fromarray(dimmed).save(folder / f"{number}.png")
    after = crop_stills(table(), folder, kind="fixed_size", side_px=32, size_mm=20)
    np.testing.assert_allclose(after.astype(int), before.astype(int), atol=1)


def test_what_is_missing_is_named_with_patient_and_remedy(folder):
    without_box = table(mask_path=[None, None])
    with pytest.raises(InputError, match="patient 007: image a: .*0.png has neither box nor mask.*leave the image out"):
        crop_stills(without_box, folder, kind="adjustable_square", side_px=32)
    without_spacing = table(pixel_spacing_mm=[None, None])
    with pytest.raises(InputError, match="patient 007: image a: .*0.png has no pixel spacing.*pixel_spacing_mm"):
        crop_stills(without_spacing, folder, kind="fixed_size", side_px=32)
    with pytest.raises(InputError, match="choose one of fixed_size, adjustable_square"):
        crop_stills(table(), folder, kind="round", side_px=32)
    Image.fromarray(np.zeros((60, 80), np.uint8)).save(folder / "0_mask.png")
    with pytest.raises(InputError, match="patient 007: image a: 0_mask.png: the mask is empty"):
        crop_stills(table(), folder, kind="adjustable_square", side_px=32)


@pytest.mark.parametrize("kind", ["fixed_size", "adjustable_square"])
def test_no_crop_is_cut_where_the_place_of_the_lesion_is_not_known(folder, kind):
    """Neither kind takes the middle of the picture instead."""
    with pytest.raises(InputError, match="patient 007: image a: .*the lesion's place is unknown.*leave the image out"):
        crop_stills(table(mask_path=[None, None]), folder, kind=kind, side_px=16, size_mm=10)


def test_all_images_of_a_patient_are_cut_and_those_left_out_are_named_with_the_reason(folder):
    """Asked for p2 and p1, in this order: both of p1 with a box, in the order of the table, and none after therapy."""
    places = {"path": ["0.png", "1.png", "0.png"], "mask_path": ["0_mask.png", "1_mask.png", None]}
    columns = {"patient_id": ["p1"] * 3, "modality": ["US"] * 3, "pixel_spacing_mm": ["0.5 0.5"] * 3} | places
    images = table(image_id=["a", "b", "c"], **columns)
    after = table(image_id=["d", "e"], patient_id=["p2", "p2"], timepoint=["post", "pre"])
    images = pd.concat([images, after, table(image_id=["f", "g"], patient_id=["p3", "p4"])], ignore_index=True)
    images = pd.concat([images, table(image_id=["h", "i"], patient_id=["p5", "p5"], mask_path=[None, None])])
    view = CropSpec("US", 16, "fixed_size", 10)
    cut = crop(images, folder, view, ["p2", "p1"])
    np.testing.assert_array_equal(cut, crop(images.iloc[[4, 0, 1]], folder, view))
    assert usable_images(images, view)["image_id"].tolist() == ["a", "b", "e", "f", "g"]
    left_out = left_out_images(images, view, ["p1", "p2", "p3", "p5"])
    reasons = left_out.set_index("image_id")["left_out"].to_dict()
    nowhere, unknown = "neither box nor mask", "outcome of the patient not known"
    assert reasons == {"c": nowhere, "d": "after therapy", "g": unknown, "h": nowhere, "i": nowhere}
    with pytest.raises(
        InputError, match=r"patient p5: images.csv has no image of modality US with a box or mask \(1 such"
    ):
        crop(images, folder, view, ["p1", "p5"])
    assert usable_images(images.head(0), view).empty and left_out_images(images.head(0), view, []).empty


def test_no_rows_give_no_crops(folder):
    assert crop_stills(table().head(0), folder, side_px=8).shape == (0, 8, 8)
