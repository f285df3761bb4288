"""The grid laid from the lesion: the same features wherever the scan begins, and the volume that was drawn."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK

from alnlib.errors import InputError
from alnlib.imaging.volumes import Volume, VolumeGeometry, read_volume
from alnlib.radiomics.extract import Settings, extract_features, settings_for
from alnlib.radiomics.grid import lay_grid
from alnlib.radiomics.laplacian import laplacian_of_gaussian
from tests.real_data import real_data
from tests.test_radiomics_extract import ALL, phantom, plain_pyradiomics

SETTING = {"binWidth": 25, "interpolator": "sitkBSpline"}
"""Not normalized: a z-score over the whole image is another one where some of the image is cut off."""


def resampled(*spacing_mm: float, grid: str = "lesion", **setting: object) -> Settings:
    """Original features at a spacing (x, y, z)."""
    given = SETTING | {"resampledPixelSpacing": list(spacing_mm)} | setting
    return Settings("grid", given, {"Original": {}}, ALL, grid=grid)


def cut(image: Volume, mask: np.ndarray, start: tuple[int, int, int]) -> tuple[Volume, np.ndarray]:
    """Without the first slices, rows and columns."""
    window = tuple(slice(first, None) for first in start)
    geometry = replace(image.geometry, origin_mm=image.geometry.position_mm(start))
    return replace(image, values=image.values[window].copy(), geometry=geometry), mask[window].copy()


def moved_by_5_percent(found: dict[str, float], expected: dict[str, float]) -> list[str]:
    """Names of the features that differ by more than 5 %."""
    assert set(found) == set(expected)
    return [name for name, value in expected.items() if abs(found[name] - value) > 0.05 * abs(value) + 1e-9]


@pytest.mark.parametrize("case", ["breast1", "brain1", "brain2"])
def test_what_is_cut_off_a_real_scan_changes_nothing(case):
    """pyradiomics' own cases, 1 mm voxels; on the image's grid most features move by more than 5 %."""
    folder = real_data("pyradiomics")
    image = read_volume(folder / f"{case}_image.nrrd")
    mask = read_volume(folder / f"{case}_label.nrrd").values == 1
    drawn_mm3 = mask.sum() * np.prod(image.geometry.spacing_mm)
    moved = {}
    for grid in ("lesion", "image"):
        settings = resampled(1.0, 1.0, 1.0, grid=grid)
        whole = extract_features(image, mask, settings)
        parts = [extract_features(*cut(image, mask, start), settings) for start in ((1, 0, 0), (0, 1, 2), (1, 3, 1))]
        moved[grid] = {name for part in parts for name in moved_by_5_percent(part, whole)}
        if grid == "lesion":
            assert whole["original_shape_VoxelVolume"] == pytest.approx(drawn_mm3, rel=0.05)
            for part in parts:
                for name, value in whole.items():
                    assert part[name] == pytest.approx(value, rel=1e-3, abs=1e-6), name
    assert not moved["lesion"] and len(moved["image"]) > 20


def test_it_is_the_same_at_every_offset_of_a_phantom():
    image, mask = phantom(shape=(20, 70, 72), center=(10, 36, 33), radius_mm=6.3)
    settings = resampled(1.7, 1.7, 1.7)
    whole = extract_features(image, mask, settings)
    for start in ((0, 0, 1), (2, 5, 3), (3, 11, 7)):
        part = extract_features(*cut(image, mask, start), settings)
        assert part == pytest.approx(whole, rel=1e-4, abs=1e-9)


@pytest.mark.parametrize("radius_mm", [2.0, 3.1, 5.0, 9.0])
def test_the_mask_keeps_the_volume_that_was_drawn(radius_mm):
    """To half a voxel of the new grid, whatever the shift."""
    image, mask = phantom(radius_mm=radius_mm)
    drawn = float(mask.sum() * np.prod(image.geometry.spacing_mm))
    for shift in ((0.0, 0.0, 0.0), (0.3, -0.5, 0.2)):
        found = extract_features(image, mask, resampled(1.3, 1.3, 1.3), shift)
        assert abs(found["original_shape_VoxelVolume"] - drawn) <= 0.5 * 1.3**3 + 1e-6


def test_a_lesion_of_one_slice_is_resampled_like_others():
    """One slice of 5 mm and two of 2.5 mm with the same values are the same lesion."""
    rng = np.random.default_rng(1)
    plane = rng.normal(300, 60, (40, 40)).astype(np.float32)
    values = np.stack([np.full_like(plane, 200), plane, np.full_like(plane, 200)]).repeat(3, axis=0)
    thin = Volume(values, VolumeGeometry((2.5, 1.0, 1.0)), Path("thin.nii.gz"))
    mask = np.zeros(values.shape, dtype=bool)
    mask[4, 12:25, 14:26] = True
    found = extract_features(thin, mask, resampled(1.0, 1.0, 1.0))
    planes = found["original_shape_VoxelVolume"] / (13 * 12)
    assert planes == pytest.approx(2.5, abs=0.5 / 156 + 1e-9), "not one plane of 2.5 mm, called 3-D"
    assert found["original_shape_LeastAxisLength"] > 0


def test_gray_values_are_those_of_the_image_where_voxels_coincide():
    """At the spacing that the image has: every feature as without resampling."""
    image, mask = phantom(spacing_mm=(1.5, 1.5, 1.5))
    native = replace(resampled(), setting=SETTING)
    expected = extract_features(image, mask, native)
    assert extract_features(image, mask, resampled(1.5, 1.5, 1.5)) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("interpolator", ["sitkLinear", "sitkNearestNeighbor"])
def test_other_interpolators(interpolator):
    image, mask = phantom()
    found = extract_features(image, mask, resampled(1.0, 1.0, 1.0, interpolator=interpolator))
    smooth = extract_features(image, mask, resampled(1.0, 1.0, 1.0))
    assert found["original_firstorder_Mean"] == pytest.approx(smooth["original_firstorder_Mean"], rel=0.02)
    assert found["original_firstorder_Mean"] != smooth["original_firstorder_Mean"]
    with pytest.raises(InputError, match="'sitkMagic' is not one of SimpleITK's"):
        extract_features(image, mask, resampled(1.0, 1.0, 1.0, interpolator="sitkMagic"))


def test_whole_numbers_keep_what_stands_after_the_point():
    """ITK resamples an image of whole numbers to whole numbers and drops the rest; half a unit of HU is lost on average."""
    image, mask = phantom()
    rounded = replace(image, values=np.rint(image.values))
    name, lost = "original_firstorder_Mean", {}
    for grid in ("lesion", "image"):
        settings = resampled(1.0, 1.0, 1.0, grid=grid)
        exact, found = (extract_features(each, mask, settings)[name] for each in (image, rounded))
        lost[grid] = exact - found
    assert abs(lost["lesion"]) < 0.05 and 0.4 < lost["image"] < 0.6


@pytest.mark.parametrize("sigma_mm", [1.0, 2.5])
def test_the_laplacian_at_the_lesion_is_that_of_itk(sigma_mm):
    """ITK computes in 32 bits: to 1e-6 of the spread of the filtered image, and the same place on a turned grid."""
    image = SimpleITK.GetImageFromArray(np.random.default_rng(3).normal(0, 100, (24, 30, 40)).astype(np.float32))
    image.SetSpacing((1.1, 0.9, 1.6))
    image.SetOrigin((3.0, -4.0, 5.0))
    image.SetDirection((np.cos(0.2), -np.sin(0.2), 0.0, np.sin(0.2), np.cos(0.2), 0.0, 0.0, 0.0, 1.0))
    whole = SimpleITK.LaplacianRecursiveGaussianImageFilter()
    whole.SetNormalizeAcrossScale(True)
    whole.SetSigma(sigma_mm)
    first, size = np.array([5, 0, 20]), np.array([12, 7, 4])
    expected = SimpleITK.RegionOfInterest(whole.Execute(image), size.tolist(), first.tolist())
    found = laplacian_of_gaussian(image, sigma_mm, first, size)
    values, wanted = (SimpleITK.GetArrayFromImage(each) for each in (found, expected))
    np.testing.assert_allclose(values, wanted, rtol=0, atol=1e-6 * wanted.std())
    assert found.GetOrigin() == pytest.approx(expected.GetOrigin()) and found.GetDirection() == expected.GetDirection()


def test_log_features_at_the_lesion_are_those_of_pyradiomics():
    """Gray values to 1e-6 of their range, textures and the rest relative."""
    image, mask = phantom()
    settings = Settings("log", {"binWidth": 25}, {"LoG": {"sigma": [1.5, 3.0]}}, {"firstorder": None, "glcm": None})
    found, expected = extract_features(image, mask, settings), plain_pyradiomics(image, mask, settings)
    assert set(found) == set(expected)
    for name, value in expected.items():
        spread = expected[f"{name.split('_')[0]}_firstorder_Range"] if "firstorder" in name else 0.0
        assert found[name] == pytest.approx(value, rel=1e-5, abs=1e-6 * spread), name


def test_a_grid_at_the_border_stays_within_the_image():
    mask = np.zeros((6, 20, 20), np.uint8)
    mask[0:3, 0:5, 15:20] = 1
    roi = SimpleITK.GetImageFromArray(mask)
    roi.SetSpacing((1.0, 1.0, 2.0))
    grid = lay_grid(roi, (0.8, 0.8, 0.8), pad=50, shift=(0.5, -0.5, 0.5))
    size, spacing = np.array(grid.GetSize()), np.array(grid.GetSpacing())
    first = np.array(roi.TransformPhysicalPointToContinuousIndex(grid.GetOrigin()))
    last = first + (size - 1) * spacing / np.array(roi.GetSpacing())
    assert (first >= -0.5).all() and (last <= np.array(roi.GetSize()) - 0.5).all()
    assert SimpleITK.GetArrayViewFromImage(grid).sum() == round(mask.sum() * 2 / 0.8**3)


def test_a_plane_stays_one_and_a_shift_needs_a_grid_to_move():
    plane, mask = phantom(shape=(1, 60, 60), spacing_mm=(1.0, 0.5, 0.5), center=(0, 30, 30), radius_mm=5)
    settings = settings_for("MG").only("Original")
    still = extract_features(plane, mask, settings)
    moved = extract_features(plane, mask, settings, (0.4, 0.3, -0.2))
    assert still != moved and moved == pytest.approx(still, rel=0.5, abs=5)
    for without in (replace(settings, grid="image"), replace(settings, setting={"binWidth": 10, "force2D": True})):
        with pytest.raises(ValueError, match="laid from the lesion"):
            extract_features(plane, mask, without, (0.0, 0.3, 0.0))
    with pytest.raises(ValueError, match="expected lesion or image"):
        replace(settings, grid="scan")
