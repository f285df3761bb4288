"""3-D crops of MRI: volumes that are a linear function of scanner coordinates, so that every crop can be worked out."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from alnlib.cohorts.schema import IMAGE_COLUMNS
from alnlib.errors import InputError
from alnlib.imaging.cache import cached_crops
from alnlib.imaging.lesions import crop as cut
from alnlib.imaging.spec import CropSpec
from alnlib.imaging.volumes import VolumeGeometry
from alnsim.nifti import write_volume

FINE = VolumeGeometry((2.0, 1.0, 1.0), origin_mm=(-40.0, -40.0, -30.0))
COARSE_TURNED = VolumeGeometry((3.0, 1.6, 1.6), (40.0, 40.0, -30.0), ((-1.0, 0, 0), (0, -1.0, 0), (0, 0, 1.0)))
SLOPE = np.array([1.0, 2.0, 3.0])
"""Gray levels per mm along x, y and z."""

WHOLE = (0.0, 100.0)
CENTER_MM = np.array([3.0, -5.0, 4.0])


def box_of(channels, depth, side_px, size_mm=(40.0, 50.0), percentiles=None) -> CropSpec:
    depth_mm, size_mm = size_mm
    kind = "adjustable_square" if size_mm is None else "fixed_size"
    return CropSpec("MRI", side_px, kind, size_mm, 0.5, percentiles, channels=channels, depth=depth, depth_mm=depth_mm)


def crop_volumes(images, root, channels, patient_ids=None, **options) -> np.ndarray:
    return cut(images, root, box_of(channels, **options), patient_ids)


def ramp(geometry: VolumeGeometry, shape: tuple[int, int, int]) -> np.ndarray:
    index = np.stack(np.meshgrid(*(np.arange(n) for n in shape), indexing="ij"), axis=-1)
    return (geometry.position_mm(index) @ SLOPE).astype(np.float32)


def lesion(geometry: VolumeGeometry, shape: tuple[int, int, int], center: np.ndarray = CENTER_MM) -> np.ndarray:
    index = np.stack(np.meshgrid(*(np.arange(n) for n in shape), indexing="ij"), axis=-1)
    return (np.abs(geometry.position_mm(index) - center).max(axis=-1) <= 3.01).astype(np.uint8)


@pytest.fixture
def folder(tmp_path):
    for name, geometry, shape in (("fine", FINE, (31, 81, 81)), ("coarse", COARSE_TURNED, (21, 51, 51))):
        write_volume(tmp_path / f"{name}.nii.gz", ramp(geometry, shape), geometry)
        write_volume(tmp_path / f"{name}-mask.nii.gz", lesion(geometry, shape), geometry)
        write_volume(tmp_path / f"{name}-empty.nii.gz", np.zeros(shape, np.uint8), geometry)
        write_volume(tmp_path / f"{name}-half.nii.gz", ramp(geometry, shape) / 2, geometry)
    return tmp_path


def table(*rows: tuple[str, str, str, str | None], patient: str = "007") -> pd.DataFrame:
    """timepoint, sequence, file, mask."""
    made = [
        {"image_id": f"i{k}", "patient_id": patient, "modality": "MRI", "timepoint": time, "sequence_or_view": name}
        | {"path": f"{file}.nii.gz", "mask_path": mask and f"{mask}.nii.gz"}
        for k, (time, name, file, mask) in enumerate(rows)
    ]
    return pd.DataFrame(made).reindex(columns=list(IMAGE_COLUMNS)).astype({"box": "str"})


def expected(center: np.ndarray, depth: int, side: int, size_mm: tuple[float, float], volume: np.ndarray) -> np.ndarray:
    """The ramp at the places of the box, scaled from the smallest to the largest value of the volume to 0 to 255."""
    steps = size_mm[0] / depth, size_mm[1] / side, size_mm[1] / side
    z, y, x = (
        middle + step * (np.arange(n) - (n - 1) / 2)
        for middle, n, step in zip(center[::-1], (depth, side, side), steps, strict=True)
    )
    found = SLOPE[2] * z[:, None, None] + SLOPE[1] * y[:, None] + SLOPE[0] * x
    return 255 * (found - volume.min()) / (volume.max() - volume.min())


def test_the_box_lies_round_the_lesion_in_mm_whatever_the_grid_of_the_file(folder):
    """A linear volume is interpolated exactly, and averaging leaves it as it is; bytes round to half a level."""
    for name, geometry, shape in (("fine", FINE, (31, 81, 81)), ("coarse", COARSE_TURNED, (21, 51, 51))):
        crop = crop_volumes(
            table(("pre", "T2", name, f"{name}-mask")),
            folder,
            ["pre/T2"],
            depth=8,
            side_px=10,
            size_mm=(24.0, 20.0),
            percentiles=WHOLE,
        )
        assert crop.shape == (1, 1, 8, 10, 10) and crop.dtype == np.uint8
        center = geometry.position_mm(np.argwhere(lesion(geometry, shape)).mean(axis=0))
        wanted = expected(center, 8, 10, (24.0, 20.0), ramp(geometry, shape))
        assert np.abs(crop[0, 0] - wanted).max() <= 0.6


def test_visits_and_sequences_share_the_box_of_the_first_channel(folder):
    """The lesion has gone at the later visit, whose file has another grid: its channel is cut at the same coordinates."""
    images = table(("pre", "T2", "fine", "fine-mask"), ("post", "T2", "coarse", "coarse-empty"))
    options = {"depth": 6, "side_px": 9, "size_mm": (18.0, 18.0), "percentiles": WHOLE}
    crop = crop_volumes(images, folder, ["pre/T2", "post/T2"], **options)[0]
    center = FINE.position_mm(np.argwhere(lesion(FINE, (31, 81, 81))).mean(axis=0))
    for channel, geometry, shape in ((0, FINE, (31, 81, 81)), (1, COARSE_TURNED, (21, 51, 51))):
        wanted = expected(center, 6, 9, (18.0, 18.0), ramp(geometry, shape))
        assert np.abs(crop[channel] - wanted).max() <= 0.6
    alone = crop_volumes(images, folder, ["post/T2"], **options)
    assert np.abs(alone[0, 0].astype(int) - crop[1]).max() <= 12  # the box of the gone lesion, moved to whole voxels


@pytest.mark.parametrize("depth_mm", [None, 12.0])
def test_a_box_may_follow_the_size_of_the_lesion_at_the_first_visit(folder, depth_mm):
    """Side: the longer edge in the plane of the first channel's lesion, and half of it as margin; also of the visit without."""
    images = table(("pre", "T2", "fine", "fine-mask"), ("post", "T2", "coarse", "coarse-empty"))
    options = {"depth": 5, "side_px": 9, "size_mm": (depth_mm, None), "percentiles": WHOLE}
    crop = crop_volumes(images, folder, ["pre/T2", "post/T2"], **options)[0]
    voxels = np.argwhere(lesion(FINE, (31, 81, 81)))
    edges_mm = (np.ptp(voxels, axis=0) + 1) * FINE.spacing_mm
    side_mm = 1.5 * max(edges_mm[1:])
    center = FINE.position_mm(voxels.mean(axis=0))
    for channel, geometry, shape in ((0, FINE, (31, 81, 81)), (1, COARSE_TURNED, (21, 51, 51))):
        wanted = expected(center, 5, 9, (depth_mm or side_mm, side_mm), ramp(geometry, shape))
        assert np.abs(crop[channel] - wanted).max() <= 0.6


def test_a_sequence_is_subtracted_on_the_same_grid(folder):
    """Ramp less half the ramp is half the ramp, which scales to the same bytes."""
    images = table(("pre", "DCE_early", "fine", "fine-mask"), ("pre", "DCE_pre", "fine-half", "fine-mask"))
    options = {"depth": 4, "side_px": 8, "percentiles": WHOLE}
    whole, less = (
        crop_volumes(images, folder, [channel], **options) for channel in ("pre/DCE_early", "pre/DCE_early-DCE_pre")
    )
    assert np.abs(whole.astype(int) - less).max() <= 1


def test_outside_the_volume_is_black_and_a_box_does_for_a_mask(folder):
    images = table(("pre", "T2", "fine", None)).assign(box="0 0 0 3 5 5")
    crop = crop_volumes(images, folder, ["pre/T2"], depth=10, side_px=10, size_mm=(40.0, 40.0), percentiles=WHOLE)
    assert (crop[0, 0, :4] == 0).all() and (crop[0, 0, :, :4] == 0).all() and crop[0, 0, 6:, 6:, 6:].min() > 0


def test_patients_come_in_the_order_asked_for_and_are_kept(folder):
    images = pd.concat([table(("pre", "T2", name, f"{name}-mask"), patient=name) for name in ("fine", "coarse")])
    options = {"channels": ["pre/T2"], "depth": 4, "side_px": 6}
    both = crop_volumes(images, folder, **options)
    swapped = cached_crops(images, folder, folder / "kept", box_of(**options), ["coarse", "fine"])
    np.testing.assert_array_equal(both[::-1], swapped)
    again = cached_crops(images, folder, folder / "kept", box_of(**options), ["coarse", "fine"])
    np.testing.assert_array_equal(swapped, again)
    assert len(list((folder / "kept").glob("MRI-*.npy"))) == 1


@pytest.mark.parametrize(
    ("channels", "message"),
    [
        ([], "no channel"),
        (["T2"], "cannot be read"),
        (["pre/"], "cannot be read"),
        (["pre/DWI"], "patient 007: images.csv has no"),
    ],
)
def test_channels_that_cannot_be_had_are_named(channels, message, folder):
    with pytest.raises(InputError, match=message):
        crop_volumes(
            table(("pre", "T2", "fine", "fine-mask")), folder, channels, depth=4, side_px=4, patient_ids=["007"]
        )


def test_a_lesion_without_place_is_an_error_with_the_patient(folder):
    with pytest.raises(InputError, match="patient 007.*neither a box nor a mask"):
        crop_volumes(table(("pre", "T2", "fine", "fine-empty")), folder, ["pre/T2"], depth=4, side_px=4)
