"""Radiomics: agreement with pyradiomics' published baselines and its uncropped values, cohorts with faults, delta features."""

from __future__ import annotations

import ast
import logging
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pandas as pd
import pytest
import scipy.io
import SimpleITK
from PIL import Image
from radiomics.featureextractor import RadiomicsFeatureExtractor
from scipy import ndimage

from alnlib.errors import InputError
from alnlib.imaging.volumes import Volume, VolumeGeometry, read_volume
from alnlib.radiomics import extract
from alnlib.radiomics.extract import (
    SETTINGS,
    SETTINGS_OF,
    Settings,
    delta_features,
    extract_cohort,
    extract_features,
    moved_mask,
    read_settings,
    rim_mask,
    settings_for,
)
from alnlib.radiomics.grid import splined
from alnsim.nifti import write_volume
from tests.real_data import real_data

CLASSES = ("shape", "shape2D", "firstorder", "glcm", "glrlm", "glszm", "gldm", "ngtdm")
QUICK = Settings("quick", {"binWidth": 25}, {"Original": {}}, {"shape": None, "firstorder": None})


def baseline(folder: Path, feature_class: str, column: str) -> tuple[dict[str, float], dict]:
    """Features and settings of one column of a baseline table."""
    values = pd.read_csv(folder / "baseline" / f"baseline_{feature_class}.csv", index_col="featureName", dtype=str)[
        column
    ]
    setting = ast.literal_eval(values["diagnostics_Configuration_Settings"])
    given = {name: float(value) for name, value in values.items() if name.startswith("original_")}
    kept = (
        "normalize",
        "normalizeScale",
        "removeOutliers",
        "resampledPixelSpacing",
        "interpolator",
        "binWidth",
        "binCount",
    )
    kept += ("distances", "weightingNorm", "force2D", "force2Ddimension", "resegmentRange", "resegmentMode", "gldm_a")
    kept += ("voxelArrayShift", "minimumROIDimensions", "minimumROISize")
    return given, {name: value for name, value in setting.items() if name in kept and value is not None}


@pytest.mark.parametrize(
    "variant", ["", "_2d", "_FBN", "_combined", "_flatRegion", "_normalization", "_resampling", "_resegmentation"]
)
@pytest.mark.parametrize("case", ["brain1", "brain2", "breast1"])
def test_published_baselines_of_pyradiomics(case, variant):
    """Values and settings: data/baseline of the pyradiomics repository; its own tests ask for 3 %, this project for 1e-3."""
    folder = real_data("pyradiomics")
    image = read_volume(folder / f"{case}_image.nrrd")
    mask = read_volume(folder / f"{case}_label.nrrd").values == 1
    largest = np.arange(len(mask)) == mask.sum(axis=(1, 2)).argmax()
    compared = 0
    for feature_class in CLASSES:
        column = case + (variant if feature_class != "shape2D" else "_shape2D")
        try:
            expected, setting = baseline(folder, feature_class, column)
        except KeyError:
            continue
        if feature_class == "shape2D" and variant:
            continue
        settings = Settings("baseline", setting, {"Original": {}}, {feature_class: None}, grid="image")
        # The table of shape2D is of the largest slice alone, as its own diagnostics say.
        drawn = mask & largest[:, None, None] if feature_class == "shape2D" else mask
        found = extract_features(image, drawn, settings)
        for name, value in found.items():
            if name in expected:
                assert value == pytest.approx(expected[name], rel=1e-3, abs=1e-9), (feature_class, name)
                compared += 1
    least = 90 if variant == "" else 15
    assert compared >= least


def test_the_baseline_comes_out_of_a_cohort_table_too(tmp_path):
    folder = real_data("pyradiomics")
    rows = [
        image_row(case, path=f"{case}_image.nrrd", mask_path=f"{case}_label.nrrd")
        for case in ("brain1", "brain2", "breast1")
    ]
    expected = {row["patient_id"]: baseline(folder, "glcm", row["patient_id"]) for row in rows}
    settings = Settings("baseline", expected["brain1"][1], {"Original": {}}, {"glcm": None})
    found = extract_cohort(pd.DataFrame(rows), folder, {"MRI": settings})
    assert found.failures.empty and len(found.features) == 3
    for _, row in found.features.iterrows():
        published = expected[row["patient_id"]][0]
        names = [name for name in published if f"MRI_pre_DCE__lesion_{name}" in row.index]
        assert len(names) >= 20
        for name in names:
            assert row[f"MRI_pre_DCE__lesion_{name}"] == pytest.approx(published[name], rel=1e-3), name


def phantom(shape=(24, 90, 96), spacing_mm=(2.0, 1.0, 1.1), center=(11, 50, 40), radius_mm=8.0, seed=0):
    """A textured ball in textured tissue, values 0 to about 1500, with a gradient across the image."""
    rng = np.random.default_rng(seed)
    texture = ndimage.gaussian_filter(rng.standard_normal(shape), 1.2)
    values = 400 + 150 * texture / texture.std() + np.linspace(0, 300, shape[2])
    away = sum(
        ((axis - middle) * step) ** 2 for axis, middle, step in zip(np.indices(shape), center, spacing_mm, strict=True)
    )
    mask = away <= radius_mm**2
    values[mask] += 500
    geometry = VolumeGeometry(spacing_mm, (10.0, -20.0, 30.0))
    return Volume(values.astype(np.float32), geometry, Path("phantom.nii.gz")), mask


def plain_pyradiomics(image: Volume, mask: np.ndarray, settings: Settings) -> dict[str, float]:
    """The library on the whole image, in one go."""
    pair = []
    for values in (image.values, mask.astype(np.uint8)):
        one = SimpleITK.GetImageFromArray(values)
        one.SetSpacing(image.geometry.spacing_mm[::-1])
        one.SetOrigin(image.geometry.origin_mm)
        pair.append(one)
    parameters = settings.parameters()
    parameters["setting"]["padDistance"] = 10_000  # so that resampling cuts nothing off either
    logging.getLogger("radiomics").setLevel(logging.CRITICAL)
    found = RadiomicsFeatureExtractor(parameters).execute(*pair)
    return {name: float(value) for name, value in found.items() if not name.startswith("diagnostics")}


def assert_agree(found: dict[str, float], expected: dict[str, float], relative: float) -> None:
    assert set(found) == set(expected)
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, rel=relative, abs=1e-9 * max(1.0, abs(value)), nan_ok=True), name


FILTERS = {"Original": {}, "LoG": {"sigma": [1.5, 2.5]}, "Wavelet": {}}
ALL = {name: None for name in CLASSES if name != "shape2D"}


@pytest.mark.parametrize(
    ("center", "setting"),
    [
        ((11, 50, 40), {}),
        ((3, 9, 86), {}),  # at a corner, where the wavelet continues on the opposite side
        ((11, 50, 40), {"resampledPixelSpacing": [1.5, 1.5, 1.5], "interpolator": "sitkBSpline"}),
        ((4, 50, 86), {"resampledPixelSpacing": [1.3, 1.3, 0], "interpolator": "sitkBSpline"}),
        ((11, 50, 40), {"force2D": True, "force2Ddimension": 0}),
    ],
)
def test_a_crop_has_the_features_of_the_whole_image(center, setting):
    """Against the library run on the whole, normalized image: the issue asks for 1e-6 for original and LoG; wavelet too."""
    image, mask = phantom(center=center)
    normalized = {"normalize": True, "normalizeScale": 100, "binWidth": 10, "voxelArrayShift": 300}
    settings = Settings("crop", normalized | setting, FILTERS, ALL, grid="image")
    found = extract_features(image, mask, settings)
    assert {name.split("_")[0].split("-")[0] for name in found} == {"original", "log", "wavelet"}
    assert_agree(found, plain_pyradiomics(image, mask, settings), 1e-6)


def test_a_crop_agrees_on_a_real_image():
    folder = real_data("pyradiomics")
    image = read_volume(folder / "brain2_image.nrrd")
    mask = read_volume(folder / "brain2_label.nrrd").values == 1
    settings = settings_for("MRI", grid="image")
    assert_agree(extract_features(image, mask, settings), plain_pyradiomics(image, mask, settings), 1e-6)


def test_less_room_than_the_filter_needs_would_be_noticed(monkeypatch):
    """Twin of the tests above: with a LoG reach of 3 sigma instead of 14 they fail."""
    monkeypatch.setattr("alnlib.radiomics.extract.LOG_REACH", 3.0)
    image, mask = phantom()
    settings = Settings("crop", {"binWidth": 25}, {"LoG": {"sigma": [2.5]}}, {"firstorder": None})
    with pytest.raises(AssertionError):
        assert_agree(extract_features(image, mask, settings), plain_pyradiomics(image, mask, settings), 1e-6)


def test_a_filter_may_have_options_of_its_own(tmp_path):
    """Such as a bin width: LoG with its own is binned by it and Original is not, as pyradiomics does."""
    values = np.random.default_rng(4).normal(0, 30, (12, 24, 24)).cumsum(axis=2).astype(np.float32)
    mask = np.zeros(values.shape, dtype=bool)
    mask[3:9, 6:17, 7:18] = True
    image = Volume(values, VolumeGeometry((1.0, 1.0, 1.0)), tmp_path)
    path = tmp_path / "own.yaml"
    path.write_text(
        "setting: {binWidth: 20}\nimageType: {Original: {}, LoG: {sigma: [1.5], binWidth: 3}}\nfeatureClass: {glcm: }\n"
    )
    found = extract_features(image, mask, read_settings(path))
    picture, roi = (SimpleITK.GetImageFromArray(each) for each in (values, mask.astype(np.uint8)))
    expected = RadiomicsFeatureExtractor(str(path), additionalInfo=False).execute(picture, roi)
    named = {name: float(value) for name, value in expected.items()}
    assert set(found) == set(named) and any(name.startswith("log-") for name in named)
    np.testing.assert_allclose([found[name] for name in named], list(named.values()), rtol=1e-6)


@pytest.mark.parametrize("shape", [(16, 30, 40), (1, 30, 40), (5, 7, 3)])
def test_splines_by_axis_are_those_of_itk(shape):
    """`sitkBSpline` on a turned grid that begins and ends beyond the image; beyond its border both give 0."""
    image = SimpleITK.GetImageFromArray(np.random.default_rng(3).normal(0, 100, shape).astype(np.float32))
    image.SetSpacing((1.5, 1.4, 3.0))
    image.SetOrigin((3.0, -4.0, 5.0))
    image.SetDirection((np.cos(0.2), -np.sin(0.2), 0.0, np.sin(0.2), np.cos(0.2), 0.0, 0.0, 0.0, 1.0))
    spacing = (1.1, 1.3, 3.0 if shape[0] == 1 else 1.7)
    resample = SimpleITK.ResampleImageFilter()
    resample.SetOutputSpacing(spacing)
    resample.SetOutputDirection(image.GetDirection())
    lengths = zip(image.GetSize(), image.GetSpacing(), spacing, strict=True)
    resample.SetSize([round(n * old / new) + 3 * (n > 1) for n, old, new in lengths])
    resample.SetOutputOrigin(
        image.TransformContinuousIndexToPhysicalPoint((-0.8, -0.3, 0.0 if shape[0] == 1 else -0.4))
    )
    resample.SetInterpolator(SimpleITK.sitkBSpline)
    expected = resample.Execute(image)
    found = splined(image, expected)
    assert found.GetOrigin() == expected.GetOrigin() and found.GetSpacing() == expected.GetSpacing()
    values, wanted = (SimpleITK.GetArrayFromImage(each) for each in (found, expected))
    assert values.dtype == wanted.dtype and (wanted == 0).any() and np.abs(wanted).max() > 200
    np.testing.assert_allclose(values, wanted, atol=1e-4)


def test_log_of_a_single_plane_is_the_laplacian_in_it():
    """scipy 1.17 gaussian_laplace times sigma squared (scale-normalized); ITK's recursive filter approximates it."""
    image, mask = phantom(shape=(1, 120, 130), spacing_mm=(1.0, 0.5, 0.5), center=(0, 60, 60), radius_mm=8.0)
    settings = Settings(
        "plane", {"force2D": True, "force2Ddimension": 0}, {"LoG": {"sigma": [1.5]}}, {"firstorder": None}
    )
    found = extract_features(image, mask, settings)
    expected = 9 * ndimage.gaussian_laplace(image.values[0].astype(float), 3)[mask[0]]  # 3 pixels = 1.5 mm
    assert found["log-sigma-1-5-mm-3D_firstorder_Mean"] == pytest.approx(expected.mean(), rel=0.02)
    assert found["log-sigma-1-5-mm-3D_firstorder_Range"] == pytest.approx(np.ptp(expected), rel=0.02)


@pytest.mark.parametrize("name", sorted(file.stem for file in SETTINGS.glob("*.yaml")))
def test_every_settings_file_is_valid_and_used(name):
    settings = read_settings(SETTINGS / f"{name}.yaml")
    assert name in SETTINGS_OF.values() and {"Original", "LoG", "Wavelet"} <= set(settings.image_types)
    assert settings.setting["binWidth"] > 0 and settings.setting["resampledPixelSpacing"]
    assert settings.setting.get("normalize") is not (name in ("mri_adc", "ct")), "HU and ADC are quantities"
    assert (name in ("mammography", "ct", "ultrasound")) == settings.setting.get("force2D", False)


def test_settings_that_cannot_be_used_are_refused_by_name(tmp_path):
    assert settings_for("MRI", "ADC").name == "mri_adc" and settings_for("MRI", "T2").name == "mri"
    with pytest.raises(InputError, match="no radiomics settings for modality 'USV'"):
        settings_for("USV")
    path = tmp_path / "own.yaml"
    for content, message in (
        ("setting: {label: 1}\nfeatureClass: {glcm: }", "option label is not taken; leave it out"),
        ("setting: {binwidth: 5}\nfeatureClass: {glcm: }", "pyradiomics refuses it"),
        ("featureClass: {texture: }", "pyradiomics refuses it"),
        ("setting: [", "pyradiomics refuses it"),
        ("binWidth: 5", "pyradiomics refuses it"),
        ("setting: {binWidth: 5}", "expected a featureClass"),
    ):
        path.write_text(content)
        with pytest.raises(InputError, match=message):
            read_settings(path)
    with pytest.raises(ValueError, match="not \\['Square'\\]"):
        settings_for("MRI").only("Square")
    with pytest.raises(InputError, match="grid 'mask' is not known; give lesion or image"):
        settings_for("MRI", grid="mask")


def test_masks_that_cannot_be_measured_are_errors_with_a_remedy():
    image, mask = phantom(shape=(8, 20, 20), center=(4, 10, 10), radius_mm=4)
    one, line = np.zeros_like(mask), np.zeros_like(mask)
    one[4, 10, 10] = True
    line[4, 10, 5:15] = True
    for wrong, message in (
        (np.zeros_like(mask), "mask is empty; redraw"),
        (one, "single voxel"),
        (line, "too few dimensions"),
        (np.ones_like(mask), "fills the whole image"),
    ):
        with pytest.raises(InputError, match=message):
            extract_features(image, wrong, QUICK)
    thin = Volume(image.values[:3], image.geometry, image.path)
    with pytest.raises(InputError, match=r"3 x 20 x 20 voxels .* too thin for LoG with sigma 2 mm"):
        extract_features(thin, mask[3:6], Settings("log", {}, {"LoG": {"sigma": [2.0]}}, {"firstorder": None}))


def test_a_rim_is_a_shell_of_its_width_in_mm():
    mask = np.zeros((9, 21, 21), dtype=bool)
    mask[4, 10, 10] = True
    rim = rim_mask(mask, (3.0, 1.0, 1.5), 3.0)
    away = sum(
        ((axis - middle) * step) ** 2
        for axis, middle, step in zip(np.indices(mask.shape), (4, 10, 10), (3, 1, 1.5), strict=True)
    )
    np.testing.assert_array_equal(rim, (away <= 9) & (away > 0))
    assert not rim_mask(np.zeros_like(mask), (1, 1, 1), 3.0).any()


def test_a_mask_is_moved_by_scanner_coordinates():
    image, mask = phantom()
    shifted = VolumeGeometry(image.geometry.spacing_mm, image.geometry.position_mm((2, 3, -5)))
    target = Volume(np.zeros(image.shape, np.float32), shifted, Path("later.nii.gz"))
    moved = moved_mask(replace(image, values=mask), target)
    np.testing.assert_array_equal(moved, np.roll(mask, (-2, -3, 5), axis=(0, 1, 2)))


def image_row(patient: str, timepoint: str = "pre", sequence: str = "DCE", **cells: str) -> dict:
    name = f"{patient}-{timepoint}"
    row = {"image_id": f"{name}-{sequence}", "patient_id": patient, "modality": "MRI", "timepoint": timepoint}
    row |= {"sequence_or_view": sequence, "path": f"{name}.nii.gz", "mask_path": f"{name}-mask.nii.gz"}
    return row | {"pixel_spacing_mm": None, "unit_label": None} | cells


@pytest.fixture
def faulty_cohort(tmp_path):
    """Eight patients, two images each of the first two; all but three have something wrong with image or mask."""
    rows = []
    for number, patient in enumerate(("drawn", "gone", "m255", "empty", "voxel", "shape", "place", "nan")):
        image, mask = phantom(shape=(12, 32, 34), center=(6, 15, 16), radius_mm=6, seed=number)
        values, labels, geometry = image.values, mask.astype(np.uint8), image.geometry
        if patient == "m255":
            labels = 255 * labels
        if patient in ("empty", "voxel"):
            labels = np.zeros_like(labels)
            labels[6, 15, 16] = patient == "voxel"
        if patient == "shape":
            labels = labels[:-1]
        if patient == "place":
            geometry = replace(geometry, origin_mm=(0.0, 0.0, 0.0))
        write_volume(tmp_path / f"{patient}-pre.nii.gz", values, image.geometry)
        write_volume(tmp_path / f"{patient}-pre-mask.nii.gz", labels, geometry)
        if patient == "nan":
            values = values.transpose().copy()
            values[0, 0, 0] = np.nan
            header = nibabel.load(tmp_path / "nan-pre.nii.gz")
            nibabel.save(nibabel.Nifti1Image(values, header.affine), tmp_path / "nan-pre.nii.gz")
        rows.append(image_row(patient))
        if patient in ("drawn", "gone"):
            later, _ = phantom(shape=(12, 32, 34), center=(6, 15, 16), radius_mm=3, seed=number)
            there = labels if patient == "drawn" else 0 * labels
            write_volume(tmp_path / f"{patient}-post.nii.gz", later.values, later.geometry)
            write_volume(tmp_path / f"{patient}-post-mask.nii.gz", there, later.geometry)
            rows.append(image_row(patient, "post"))
    return pd.DataFrame(rows), tmp_path


def test_faults_are_told_and_the_rest_goes_on(faulty_cohort):
    images, root = faulty_cohort
    found = extract_cohort(images, root, {"MRI": QUICK}, rim=True)
    assert list(found.features["patient_id"]) == list(dict.fromkeys(images["patient_id"]))
    column = "MRI_pre_DCE__lesion_original_shape_MeshVolume"
    assert list(found.features.loc[found.features[column].notna(), "patient_id"]) == ["drawn", "gone", "m255"]
    problems = found.failures.set_index(["patient_id", "roi"])
    for patient, reason, remedy in (
        ("empty", "mask is empty", "draw the lesion"),
        ("voxel", "single voxel", "redraw the lesion"),
        ("shape", "mask has 11 x 32 x 34 voxels", "export the mask on the grid"),
        ("place", "corners are 37.4 mm apart", "export the mask on the grid"),
        ("nan", "1 of 13056 voxels are not numbers", "finite background"),
    ):
        told = problems.loc[(patient, "lesion")]
        assert reason in told["reason"] and remedy in told["remedy"]
        assert told["image_id"] == f"{patient}-pre-DCE"
    assert set(found.failures["patient_id"]) == {"empty", "voxel", "shape", "place", "nan"}
    assert ("voxel", "rim-3mm") not in problems.index, "the rim of a single voxel can be measured"


def test_where_the_lesion_has_gone_its_bed_is_measured(faulty_cohort):
    images, root = faulty_cohort
    images = images[images["patient_id"].isin(["drawn", "gone"])]
    found = extract_cohort(images, root, {"MRI": QUICK})
    assert found.failures.empty
    sources = found.rois.set_index("image_id")
    assert list(sources["source"]) == ["drawn", "drawn", "drawn", "pre-therapy bed"]
    assert sources.loc["gone-post-DCE", "n_voxels"] == sources.loc["gone-pre-DCE", "n_voxels"]
    row = found.features.set_index("patient_id").loc["gone"]
    inside = read_volume(root / "gone-pre-mask.nii.gz").values != 0
    later = read_volume(root / "gone-post.nii.gz").values[inside]
    assert row["MRI_post_DCE__lesion_original_firstorder_Mean"] == pytest.approx(later.mean(dtype=float), rel=1e-6)
    alone = extract_cohort(images[images["timepoint"] == "post"], root, {"MRI": QUICK})
    assert list(alone.failures["patient_id"]) == ["gone"], "without the earlier rows nothing says where it was"


def test_planes_with_a_mask_of_255(tmp_path):
    """PNG says no spacing: the table does, or a remedy is given. shape2D: 0.4 x 0.5 mm pixels have 0.2 mm2 each."""
    image, mask = phantom(shape=(1, 90, 100), spacing_mm=(1.0, 0.4, 0.5), center=(0, 40, 50), radius_mm=7)
    Image.fromarray(image.values[0].astype(np.uint16)).save(tmp_path / "m.png")
    Image.fromarray(mask[0].astype(np.uint8) * 255).save(tmp_path / "mask.png")
    row = image_row("m", sequence="CC", modality="MG", path="m.png", mask_path="mask.png") | {"timepoint": None}
    native = {name: value for name, value in settings_for("MG").setting.items() if "Spacing" not in name}
    settings = {"MG": replace(settings_for("MG"), setting=native)}
    found = extract_cohort(pd.DataFrame([row | {"pixel_spacing_mm": "0.4 0.5"}]), tmp_path, settings)
    assert found.failures.empty and found.rois["n_voxels"].item() == mask.sum()
    values = found.features.iloc[0]
    assert values["MG_pre_CC__lesion_original_shape2D_PixelSurface"] == pytest.approx(0.2 * mask.sum())
    kinds = {column.split("lesion_")[1].split("_")[0] for column in found.features.columns if "lesion" in column}
    assert kinds == {"original", "log-sigma-1-0-mm-3D", "log-sigma-3-0-mm-3D"} | {
        f"wavelet-{b}" for b in ("LL", "LH", "HL", "HH")
    }
    without = extract_cohort(pd.DataFrame([row]), tmp_path, settings)
    assert "no pixel spacing" in without.failures["reason"].item()
    assert without.failures["remedy"].item() == "give pixel_spacing_mm in images.csv"
    assert list(without.features.columns) == ["patient_id"] and len(without.features) == 1


def test_a_killed_run_resumes_to_the_same_table(faulty_cohort, tmp_path, monkeypatch):
    images, root = faulty_cohort
    whole, kept = extract_cohort(images, root, {"MRI": QUICK}, rim=True), tmp_path / "kept"
    measured, before = extract._measured, []

    def killed(case: extract._Case) -> tuple:
        before.append(case)
        if len(before) == 5:
            raise KeyboardInterrupt
        return measured(case)

    monkeypatch.setattr(extract, "_measured", killed)
    with pytest.raises(KeyboardInterrupt):
        extract_cohort(images, root, {"MRI": QUICK}, rim=True, folder=kept)
    monkeypatch.setattr(extract, "_measured", measured)
    times = {path: path.stat().st_mtime_ns for path in kept.glob("*-MRI_*.json")}
    assert len(times) == 4
    for n_jobs in (2, 1):
        resumed = extract_cohort(images, root, {"MRI": QUICK}, rim=True, folder=kept, n_jobs=n_jobs)
        for table in ("features", "failures", "rois"):
            pd.testing.assert_frame_equal(getattr(resumed, table), getattr(whole, table), check_exact=True)
        assert {path: path.stat().st_mtime_ns for path in times} == times, "what was kept is not made again"
        times = {path: path.stat().st_mtime_ns for path in kept.glob("*-MRI_*.json")}
    assert len(times) == len(images)


def test_what_is_kept_is_not_used_for_other_content(faulty_cohort, tmp_path, monkeypatch):
    images, root = faulty_cohort
    images, kept = images[images["patient_id"].isin(["drawn", "gone"])], tmp_path / "kept"
    measured, made = extract._measured, []
    monkeypatch.setattr(extract, "_measured", lambda case: made.append(case) or measured(case))

    def computed(settings: Settings = QUICK, **options) -> int:
        made.clear()
        extract_cohort(images, root, {"MRI": settings}, folder=kept, **options)
        return len(made)

    assert (computed(), computed()) == (4, 0)
    next(kept.glob("drawn-MRI_pre*")).write_text("{")
    for file in kept.glob("gone-MRI_pre*"):
        file.write_text(file.read_text().replace('"key": "', '"key": "0'))
    assert computed() == 2, "damaged and foreign files are made again"
    volume = read_volume(root / "gone-pre-mask.nii.gz")
    labels = volume.values.astype(np.uint8)
    write_volume(root / "gone-pre-mask.nii.gz", np.roll(labels, 1, axis=2), volume.geometry)
    assert computed() == 2, "the mask of the first visit is the bed of the second"
    assert computed(rim=True) == 4
    assert computed(replace(QUICK, setting={"binWidth": 26})) == 4


def test_a_kind_of_image_is_there_once_per_unit(faulty_cohort):
    images, root = faulty_cohort
    twice = pd.concat([images.head(1), images.head(1).assign(image_id="other")])
    with pytest.raises(InputError, match="patient drawn: several images are MRI_pre_DCE"):
        extract_cohort(twice, root, {"MRI": QUICK})
    with pytest.raises(InputError, match="no settings were given for MRI/DCE"):
        extract_cohort(images, root, {"MG": QUICK})


def test_delta_is_the_relative_change():
    """(post - pre) / (|pre| + eps): 4 to 6 is +0.5, -4 to -6 is -0.5, 0 to 1 is large but finite."""
    features = pd.DataFrame(
        {
            "patient_id": list("abcd"),
            "MRI_pre_DCE_early__lesion_x": [4.0, -4.0, 0.0, np.nan],
            "MRI_post_DCE_early__lesion_x": [6.0, -6.0, 1.0, 1.0],
            "MRI_pre_T2__lesion_x": [1.0, 1.0, 1.0, 1.0],
        }
    )
    delta = delta_features(features, eps=1e-3)
    assert list(delta.columns) == ["MRI_delta_DCE_early__lesion_x"]
    np.testing.assert_allclose(delta.iloc[:, 0], [2 / 4.001, -2 / 4.001, 1000, np.nan])
    with pytest.raises(InputError, match="both pre and post"):
        delta_features(features.drop(columns="MRI_post_DCE_early__lesion_x"))


def test_two_visits_of_a_real_patient(tmp_path):
    """Jarrett 2021, Nat Protoc 16:5309: 20.17 to 10.56 ml at 1.3 x 1.3 x 5 mm; .mat files say no spacing, so it is given."""
    folder = real_data("longitudinal_mri_demo")
    rows = []
    for visit, timepoint in ((1, "pre"), (2, "post")):
        arrays = scipy.io.loadmat(folder / f"NTC{visit}_testpatient.mat").values()
        cells = next(np.moveaxis(array, 2, 0) for array in arrays if getattr(array, "ndim", 0) == 3)
        write_volume(tmp_path / f"p-{timepoint}.nii.gz", np.float32(cells) / 1e3, VolumeGeometry((5, 1.3, 1.3)))
        write_volume(tmp_path / f"p-{timepoint}-mask.nii.gz", cells > 0, VolumeGeometry((5, 1.3, 1.3)))
        rows.append(image_row("p", timepoint, "cells"))
    settings = Settings("cells", {"binWidth": 25}, {"Original": {}}, {"shape": None, "firstorder": None, "glcm": None})
    found = extract_cohort(pd.DataFrame(rows), tmp_path, {"MRI": settings})
    assert found.failures.empty
    volume = "lesion_original_shape_VoxelVolume"
    milliliters = [found.features[f"MRI_{visit}_cells__{volume}"].item() / 1000 for visit in ("pre", "post")]
    assert milliliters == pytest.approx([20.17, 10.56], abs=0.005)
    delta = delta_features(found.features)
    assert delta[f"MRI_delta_cells__{volume}"].item() == pytest.approx(10.56 / 20.17 - 1, abs=1e-3)
    assert delta.shape[1] == (found.features.shape[1] - 1) / 2 and np.isfinite(delta.to_numpy()).all()
