"""2.5-D MRI crops: volumes whose voxels tell where they are, so that every crop can be worked out by hand."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from alnlib.cohorts.folder import read_cohort
from alnlib.cohorts.schema import IMAGE_COLUMNS, parse_box
from alnlib.errors import InputError
from alnlib.imaging.lesions import crop as cut
from alnlib.imaging.mri import channel_before_therapy, mri_rows
from alnlib.imaging.spec import CropSpec
from alnlib.imaging.volumes import VolumeGeometry, read_volume_mask
from alnsim import SimulationSpec, simulate_cohort
from alnsim.nifti import write_volume

GEOMETRY = VolumeGeometry((3.0, 1.0, 1.0), origin_mm=(-30.0, -40.0, -12.0))
SHAPE = (10, 60, 80)
RANGE = (0.0, 255.0)
"""Stored numbers as they are, so that a crop without resampling holds the stored numbers."""


def address(z: np.ndarray, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """A number from 20 to 254 for every voxel, different from its neighbors' along each axis."""
    return 20 + (83 * z + 3 * y + 2 * x) % 235


VALUES = address(*np.ogrid[:10, :60, :80]).astype(np.int16)


def lesion_mask() -> np.ndarray:
    """Largest in slice 6 (10 x 20 voxels), smaller in 4, 5 and 7; its box is rows 25 to 35 and columns 30 to 50."""
    mask = np.zeros(SHAPE, np.uint8)
    mask[4:8, 28:32, 35:45] = 1
    mask[6, 25:35, 30:50] = 1
    return mask


@pytest.fixture
def folder(tmp_path):
    write_volume(tmp_path / "a.nii.gz", VALUES, GEOMETRY)
    write_volume(tmp_path / "mask.nii.gz", lesion_mask(), GEOMETRY)
    return tmp_path


def crop_mri(
    images, root, timepoint="pre", sequence="DCE_early", subtract="", patient_ids=None, **options
) -> np.ndarray:
    channel = f"{timepoint or ''}/{sequence}" + (f"-{subtract}" if subtract else "")
    return cut(images, root, CropSpec("MRI", **options, channels=[channel]), patient_ids)


def table(count: int = 1, **columns) -> pd.DataFrame:
    rows = {
        "image_id": [f"i{number}" for number in range(count)],
        "patient_id": [f"{7 + number:03d}" for number in range(count)],
        "modality": ["MRI"] * count,
        "timepoint": ["pre"] * count,
        "sequence_or_view": ["DCE_early"] * count,
        "path": ["a.nii.gz"] * count,
        "mask_path": ["mask.nii.gz"] * count,
    }
    return pd.DataFrame(rows | columns).reindex(columns=list(IMAGE_COLUMNS)).astype({"box": "str"})


def test_three_slices_round_the_largest_in_a_square_round_the_lesion(folder):
    """Square of 20 mm, 20 % margin: 24 pixels of 1 mm round row 30 and column 40, slices 5, 6 and 7."""
    crop = crop_mri(table(), folder, side_px=24, value_range=RANGE)
    assert crop.shape == (1, 3, 24, 24) and crop.dtype == np.uint8
    np.testing.assert_array_equal(crop[0], VALUES[5:8, 18:42, 28:52])
    fixed = crop_mri(table(), folder, side_px=30, kind="fixed_size", size_mm=30.0, value_range=RANGE)
    np.testing.assert_array_equal(fixed[0], VALUES[5:8, 15:45, 25:55])


def test_at_the_end_of_the_volume_the_last_slice_repeats(folder):
    crop = crop_mri(table(box=["9 25 30 10 35 50"], mask_path=[None]), folder, side_px=24, value_range=RANGE)
    np.testing.assert_array_equal(crop[0], VALUES[[8, 9, 9], 18:42, 28:52])


def test_a_box_alone_is_cut_in_its_middle_slice_and_moves_the_crop_of_a_mask(folder):
    boxed = crop_mri(table(box=["2 10 10 7 20 30"], mask_path=[None]), folder, side_px=24, value_range=RANGE)
    np.testing.assert_array_equal(boxed[0], VALUES[3:6, 3:27, 8:32])
    both = crop_mri(table(box=["2 20 18 7 40 38"]), folder, side_px=24, value_range=RANGE)
    np.testing.assert_array_equal(both[0], VALUES[5:8, 18:42, 16:40])
    other = crop_mri(table(box=["4 20 25 6 40 45"]), folder, side_px=24, value_range=RANGE)
    np.testing.assert_array_equal(
        other[0], VALUES[3:6, 18:42, 23:47]
    )  # the largest slice of the mask is not in this box
    with pytest.raises(InputError, match="box and mask of the image name different places"):
        crop_mri(table(box=["2 10 10 7 20 30"]), folder, side_px=24)


def test_of_equal_slices_the_one_nearest_to_the_middle(folder):
    mask = np.zeros(SHAPE, np.uint8)
    mask[2:7, 25:35, 30:50] = 1
    write_volume(folder / "mask.nii.gz", mask, GEOMETRY)
    crop = crop_mri(table(), folder, side_px=24, value_range=RANGE)
    np.testing.assert_array_equal(crop[0], VALUES[3:6, 18:42, 28:52])


@pytest.mark.parametrize(
    "axes", [(0, 1, 2), (2, 0, 1), (2, 1, 0), (1, 0, 2)], ids=["axial", "sagittal", "swapped", "coronal"]
)
@pytest.mark.parametrize("flipped", [(), (0,), (1, 2), (0, 1, 2)])
def test_the_order_of_voxels_in_the_file_does_not_matter(axes, flipped, folder):
    """The same patient stored along other axes, and counted from the other end: same head, back and left, same crop."""
    lesion = np.roll(lesion_mask(), (-7, 11), (1, 2))  # away from the middle of the image
    expected = VALUES[None, 5:8, 11:35, 39:63]
    affine = GEOMETRY.affine
    steps, origin = affine[:3, :3][:, ::-1], affine[:3, 3]  # columns: along z, y, x
    for axis in flipped:
        origin = origin + steps[:, axis] * (SHAPE[axis] - 1)
    sign = np.array([-1.0 if axis in flipped else 1.0 for axis in range(3)])
    steps = (steps * sign)[:, axes]
    spacing = np.linalg.norm(steps, axis=0)
    geometry = VolumeGeometry(tuple(spacing), tuple(origin), (steps / spacing)[:, ::-1])
    for name, values in [("a", VALUES), ("mask", lesion)]:
        write_volume(folder / f"{name}.nii.gz", np.flip(values, flipped).transpose(axes), geometry)
    np.testing.assert_array_equal(crop_mri(table(), folder, side_px=24, value_range=RANGE), expected)
    mask = np.flip(lesion, flipped).transpose(axes)
    edges = [np.flatnonzero(mask.any(axis=tuple({0, 1, 2} - {axis}))) for axis in range(3)]
    box = " ".join(str(value) for value in [*(edge[0] for edge in edges), *(edge[-1] + 1 for edge in edges)])
    np.testing.assert_array_equal(crop_mri(table(box=[box]), folder, side_px=24, value_range=RANGE), expected)


def test_a_square_is_square_in_mm_where_pixels_are_not(folder):
    """Rows of 2 mm: half as many of them, and a crop that is stretched back."""
    coarse = VolumeGeometry((3.0, 2.0, 1.0), origin_mm=GEOMETRY.origin_mm)
    ramp = np.broadcast_to(np.arange(60, dtype=np.int16)[:, None] * 4, SHAPE)
    write_volume(folder / "a.nii.gz", ramp, coarse)
    write_volume(folder / "mask.nii.gz", lesion_mask(), coarse)
    crop = crop_mri(table(), folder, side_px=24, value_range=RANGE)[0]
    rows = np.clip((np.arange(24) - 0.5) / 2 + 24, 24, 35)  # rows 24 to 35, drawn out to 24 pixels
    np.testing.assert_allclose(crop[1], np.broadcast_to(4 * rows[:, None], (24, 24)), atol=1.01)


def test_subtraction_is_voxel_by_voxel_on_the_same_grid_only(folder):
    before = (VALUES // 3).astype(np.int16)
    write_volume(folder / "b.nii.gz", before, GEOMETRY)
    rows = table(2, patient_id=["007"] * 2, path=["a.nii.gz", "b.nii.gz"], sequence_or_view=["DCE_early", "DCE_pre"])
    crop = crop_mri(rows, folder, side_px=24, value_range=RANGE, subtract="DCE_pre")
    np.testing.assert_array_equal(crop[0], (VALUES - before)[5:8, 18:42, 28:52])
    write_volume(folder / "b.nii.gz", before, VolumeGeometry((3.0, 1.0, 1.0), origin_mm=(-29.0, -40.0, -12.0)))
    with pytest.raises(InputError, match=r"^patient 007: image i0: .*b.nii.gz.*resample one to the other"):
        crop_mri(rows, folder, side_px=24, subtract="DCE_pre")
    with pytest.raises(InputError, match=r"^patient 007: images.csv has no MRI DCE_late at timepoint pre"):
        crop_mri(rows, folder, side_px=24, subtract="DCE_late")


def test_scaling_takes_out_the_units_of_the_scanner_and_the_border_is_black(folder):
    crop = crop_mri(table(), folder, side_px=24)
    write_volume(folder / "a.nii.gz", (VALUES * 7 + 90).astype(np.int16), GEOMETRY)
    np.testing.assert_allclose(crop_mri(table(), folder, side_px=24).astype(int), crop.astype(int), atol=1)
    corner = crop_mri(table(box=["6 0 0 7 10 20"], mask_path=[None]), folder, side_px=24, value_range=(-300.0, 300.0))[
        0
    ]
    assert (corner[:, :7] == 0).all() and (corner[:, :, :2] == 0).all() and (corner[:, 7:, 2:] > 0).all()
    with pytest.raises(ValueError, match="black below white"):
        crop_mri(table(), folder, side_px=24, value_range=(1.0, 1.0))


def test_a_lesion_that_has_gone_is_cut_where_it_was_in_scanner_coordinates(folder):
    """The later volume begins 5 voxels to the right, 4 in front and 1 slice below: indices are larger by as much."""
    moved = VolumeGeometry((3.0, 1.0, 1.0), origin_mm=(-35.0, -44.0, -15.0))
    write_volume(folder / "later.nii.gz", VALUES, moved)
    write_volume(folder / "gone.nii.gz", np.zeros(SHAPE, np.uint8), moved)
    rows = table(
        2, patient_id=["007"] * 2, timepoint=["pre", "post"], path=["a.nii.gz", "later.nii.gz"],
        mask_path=["mask.nii.gz", "gone.nii.gz"],
    )  # fmt: skip
    crop = crop_mri(rows, folder, "post", side_px=24, value_range=RANGE)
    np.testing.assert_array_equal(crop[0], VALUES[5:8, 22:46, 33:57])  # box 4 to 8 becomes 5 to 9, its middle slice 6
    with pytest.raises(InputError, match=r"^patient 007: image i1: later.nii.gz has neither a box nor a mask"):
        crop_mri(rows.tail(1), folder, "post", side_px=24)
    far = VolumeGeometry((3.0, 1.0, 1.0), origin_mm=(200.0, -44.0, -15.0))
    write_volume(folder / "later.nii.gz", VALUES, far)
    write_volume(folder / "gone.nii.gz", np.zeros(SHAPE, np.uint8), far)
    with pytest.raises(InputError, match=r"^patient 007: image i1: the lesion has gone, and its place .* lies outside"):
        crop_mri(rows, folder, "post", side_px=24)


@pytest.mark.parametrize(
    ("columns", "reason"),
    [
        ({"mask_path": [None]}, "neither a box nor a mask that is not empty"),
        ({"mask_path": ["empty.nii.gz"]}, "neither a box nor a mask that is not empty"),
        ({"mask_path": ["elsewhere.nii.gz"]}, "corners are .* mm apart"),
        ({"path": ["gone.nii.gz"]}, "gone.nii.gz: no such file"),
        ({"box": ["1 2 3 4"]}, "4 numbers where z0 row0 col0 z1 row1 col1 is expected"),
        ({"box": ["1 2 3 11 9 9"]}, "reaches outside the volume .* of 10 x 60 x 80"),
    ],
)
def test_what_is_wrong_is_named_with_patient_image_and_remedy(columns, reason, folder):
    write_volume(folder / "empty.nii.gz", np.zeros(SHAPE, np.uint8), GEOMETRY)
    write_volume(folder / "elsewhere.nii.gz", lesion_mask(), VolumeGeometry((3.0, 1.0, 1.0)))
    with pytest.raises(InputError, match=f"^patient 007: image i0: .*{reason}"):
        crop_mri(table(**columns), folder, side_px=24)


def test_one_row_per_patient_in_the_order_asked_for(folder):
    rows = table(
        4, sequence_or_view=["DCE_early", "T2", "DCE_early", "DCE_early"], timepoint=["pre", "pre", "pre", "post"]
    )
    assert mri_rows(rows, "pre", "DCE_early")["patient_id"].tolist() == ["007", "009"]
    assert mri_rows(rows, "pre", "DCE_early", patient_ids=["009", "007"])["image_id"].tolist() == ["i2", "i0"]
    assert mri_rows(rows, None, "DCE_early")["patient_id"].tolist() == ["007", "009", "010"]
    with pytest.raises(InputError, match=r"^patient 008: images.csv has no MRI DCE_early at timepoint pre \(2 such"):
        mri_rows(rows, "pre", "DCE_early", patient_ids=["007", "008", "010"])
    with pytest.raises(InputError, match="^patient 007: several images are MRI DCE_early"):
        mri_rows(pd.concat([rows, rows]), "pre", "DCE_early")
    with pytest.raises(InputError, match="choose one of fixed_size, adjustable_square"):
        crop_mri(rows, folder, side_px=8, kind="round")
    assert crop_mri(rows, folder, sequence="DWI", side_px=8).shape == (0, 3, 8, 8)


def test_a_sequence_before_therapy_is_named_as_the_table_has_it():
    rows = table(3, sequence_or_view=["DCE_early", "DCE_pre", "T2"], timepoint=["pre", "pre", None])
    assert channel_before_therapy(rows, "DCE_early", "DCE_pre") == "pre/DCE_early-DCE_pre"
    assert channel_before_therapy(rows, "DCE_early") == "pre/DCE_early"
    assert channel_before_therapy(rows, "T2", "DCE_late") == "/T2"
    with pytest.raises(InputError, match="nobody has ADC; .*one of DCE_early, DCE_pre, T2"):
        channel_before_therapy(rows, "ADC")


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    spec = SimulationSpec(
        n_primary=3, n_external=1, n_mri=3, n_video_primary=0, n_video_external=0, n_ct=0, n_ct_nodes=0,
        n_mammography=0, n_neoadjuvant=2, image_rows=96, image_columns=96,
    )  # fmt: skip
    return read_cohort(simulate_cohort(spec, tmp_path_factory.mktemp("mri") / "cohort", seed=5, truth_patients=1000))


@pytest.mark.parametrize("sequence", ["DCE_early", "T2", "ADC"])
@pytest.mark.parametrize("kind", ["adjustable_square", "fixed_size"])
def test_mri_of_a_simulated_cohort_oblique_as_it_is(sequence, kind, cohort):
    rows = mri_rows(cohort.images, "pre", sequence)
    crops = crop_mri(cohort.images, cohort.root, sequence=sequence, kind=kind, side_px=48, size_mm=60.0)
    assert crops.shape == (len(rows), 3, 48, 48) and len(rows) == 5
    assert np.mean(crops == 255) < 0.02  # little of the lesion is clipped
    later = crop_mri(cohort.images, cohort.root, "post", sequence, kind=kind, side_px=48, size_mm=60.0)
    assert later.shape == (2, 3, 48, 48)


def test_the_crop_shows_the_lesion_of_a_simulated_patient_in_its_place(cohort):
    """Truth: the simulator's masks, cropped as if they were images: middle, area and enhancement of the largest slice."""
    rows = mri_rows(cohort.images, "pre", "DCE_early")
    crops = crop_mri(cohort.images, cohort.root, side_px=48)[:, 1].astype(float)
    covered = crop_mri(rows.assign(path=rows["mask_path"]), cohort.root, side_px=48, value_range=(0.0, 1.0))
    assert (covered.mean(axis=(2, 3)).argmax(axis=1) == 1).all()
    for row, crop, inside in zip(rows.itertuples(), crops, covered[:, 1] / 255, strict=True):
        box = parse_box(row.box)
        side = 1.2 * max(box[4] - box[1], box[5] - box[2])
        mask = read_volume_mask(cohort.root / row.mask_path)
        largest = mask[mask.sum(axis=(1, 2)).argmax()]
        middle = np.argwhere(largest).mean(axis=0) + 0.5 - 0.5 * (np.array(box[1:3]) + box[4:])
        place = [np.average(np.arange(48), weights=inside.sum(axis=1 - axis)) - 23.5 for axis in range(2)]
        np.testing.assert_allclose(np.array(place) / 48, middle / side, atol=0.75 / side)
        assert inside.mean() == pytest.approx(largest.sum() / side**2, rel=0.15)
        assert crop[inside > 0.5].mean() > crop[inside <= 0.5].mean()


def test_enhancement_is_brighter_in_the_lesion_than_the_unenhanced_image(cohort):
    contrast = {}
    for name, options in {"peak": {}, "enhancement": {"subtract": "DCE_pre"}}.items():
        crops = crop_mri(cohort.images, cohort.root, side_px=48, kind="fixed_size", size_mm=60.0, **options)[
            :, 1
        ].astype(float)
        contrast[name] = crops[:, 20:28, 20:28].mean() / crops.mean()
    assert contrast["enhancement"] > contrast["peak"] > 1
