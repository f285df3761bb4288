"""Stability: ICC against Shrout & Fleiss' table and an ANOVA of statsmodels, perturbed contours, the filter in a pipeline."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import statsmodels.formula.api as smf
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from statsmodels.stats.anova import anova_lm

from alneval.agreement import intraclass_correlation
from alnlib.errors import InputError
from alnlib.radiomics.extract import Settings
from alnlib.radiomics.stability import (
    KINDS,
    MaskPerturbation,
    StabilityFilter,
    extract_repeated,
    icc_table,
)
from tests.test_radiomics_extract import faulty_cohort  # noqa: F401  (a fixture)

SHROUT_FLEISS = np.array(
    [[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]], dtype=float
)
"""Table 2 of Shrout & Fleiss 1979, Psychol Bull 86:420: six targets rated by four judges."""


def test_icc_of_the_published_example():
    """Estimate: Shrout & Fleiss 1979, Table 4. Interval: R's psych::ICC on the same table, as its manual shows it."""
    estimate, low, high = intraclass_correlation(SHROUT_FLEISS)
    assert estimate == pytest.approx(0.29, abs=0.005)
    assert (low, high) == pytest.approx((0.02, 0.76), abs=0.005)


def test_icc_from_an_analysis_of_variance():
    """Mean squares by statsmodels' two-way ANOVA, put into the definitions; features of very different size at once."""
    rng = np.random.default_rng(3)
    n, k = 15, 4
    values = rng.normal(size=(n, 1, 3)) + 0.7 * rng.normal(size=(n, k, 3)) + 0.5 * rng.normal(size=(1, k, 3))
    values *= [1.0, 1e-9, 1e9]
    values += [0.0, 0.0, 1e12]
    icc = intraclass_correlation(values)[0]
    for feature in range(2):
        long = pd.DataFrame({"y": (values[:, :, feature] / values[:, :, feature].std()).ravel()})
        long["s"], long["r"] = np.repeat(range(n), k), np.tile(range(k), n)
        ms = anova_lm(smf.ols("y ~ C(s) + C(r)", long).fit())["mean_sq"]
        between, repeats, error = ms["C(s)"], ms["C(r)"], ms["Residual"]
        agreement = (between - error) / (between + (k - 1) * error + k * (repeats - error) / n)
        assert icc[feature] == pytest.approx(agreement, rel=1e-9)
    shifted = intraclass_correlation(values[:, :, 2] - 1e12)[0]
    assert icc[2] == pytest.approx(shifted, rel=1e-3), "a large offset does not matter"


def test_what_a_constant_shift_does():
    base = np.arange(8.0)
    shifted = np.stack([base, base + 3], axis=1)
    estimate, low, high = intraclass_correlation(shifted)
    assert estimate == pytest.approx(6 / (6 + 4.5)), "variances: subjects 6, repeats 9 / 2"
    assert 0 <= low < estimate < high < 1, "two repeats say little about how far repeats lie apart"
    np.testing.assert_allclose(intraclass_correlation(np.stack([base, base], axis=1)), 1.0)
    for same in (1.0, 0.1, 1e9 / 3):
        assert np.isnan(intraclass_correlation(np.full((7, 3), same))).all()
    for wrong in (np.ones((1, 3)), np.ones((3, 1)), np.full((3, 3), np.nan)):
        with pytest.raises(ValueError, match="two or more|not all finite"):
            intraclass_correlation(wrong)


def ball(radius_mm=8.0, spacing_mm=(0.5, 0.5, 0.5), shape=(44, 48, 50)) -> np.ndarray:
    away = sum(
        ((axis - size // 2) * step) ** 2 for axis, size, step in zip(np.indices(shape), shape, spacing_mm, strict=True)
    )
    return away <= radius_mm**2


@pytest.mark.parametrize("kind", KINDS)
def test_a_perturbed_mask_is_near_the_one_drawn(kind):
    """A ball of 8 mm: radius 1.5 mm more or less changes the volume by (9.5 / 8)^3 and (6.5 / 8)^3, up to voxels."""
    mask, spacing = ball(), (0.5, 0.5, 0.5)
    drawn = mask.copy()
    found = MaskPerturbation(kind, seed=4)(mask, spacing, "p1")
    np.testing.assert_array_equal(mask, drawn)
    moved = MaskPerturbation(kind, seed=4).shift("p1")
    assert moved == MaskPerturbation(kind, seed=4).shift("p1")
    if kind == "grid":
        np.testing.assert_array_equal(found, mask)
        assert all(0 < abs(along) <= 0.5 for along in moved) and moved != MaskPerturbation(kind, seed=4).shift("p2")
        return
    assert moved == (0.0, 0.0, 0.0)
    assert found.dtype == bool and not np.array_equal(found, mask)
    share = found.sum() / mask.sum()
    if kind == "contour":
        assert 0.85 < share < 1.15 and 0.8 < 2 * (found & mask).sum() / (found.sum() + mask.sum()) < 0.97
        outer, inner = (MaskPerturbation(other, size_mm=1.75)(mask, spacing) for other in ("dilate", "erode"))
        assert not (found & ~outer).any() and not (inner & ~found).any(), "1.5 mm and half a voxel"
    else:
        expected = {"dilate": (9.5 / 8) ** 3, "erode": (6.5 / 8) ** 3}[kind]
        assert share == pytest.approx(expected, rel=0.06)
        assert (found | mask).sum() == max(found.sum(), mask.sum()), "one lies within the other"
    np.testing.assert_array_equal(found, MaskPerturbation(kind, seed=4)(mask, spacing, "p1"))
    if kind == "contour":
        others = [MaskPerturbation(kind, seed)(mask, spacing, who) for seed, who in ((5, "p1"), (4, "p2"))]
        assert not any(np.array_equal(found, other) for other in others)


def test_small_lesions_are_not_eroded_away():
    tiny = np.zeros((5, 9, 9), dtype=bool)
    tiny[2, 3:6, 3:6] = True
    for kind in KINDS:
        found = MaskPerturbation(kind, size_mm=3.0)(tiny, (3.0, 1.5, 1.5), "p")
        assert 2 * found.sum() >= tiny.sum()
        assert not MaskPerturbation(kind)(np.zeros_like(tiny), (3.0, 1.5, 1.5)).any()
    thick = MaskPerturbation("dilate", size_mm=1.5)(tiny, (3.0, 1.5, 1.5))
    assert thick.any(axis=(1, 2)).tolist() == [False, False, True, False, False] and thick.sum() == 9 + 12
    with pytest.raises(ValueError, match="expected one of erode"):
        MaskPerturbation("open")


def test_repeated_extraction_and_its_icc(faulty_cohort):  # noqa: F811
    images, root = faulty_cohort
    images = images[(images["timepoint"] == "pre") & images["patient_id"].isin(["drawn", "gone", "m255", "empty"])]
    setting = {"binWidth": 25, "resampledPixelSpacing": [1.5, 1.5, 1.5]}
    settings = Settings("quick", setting, {"Original": {}}, {"shape": None, "firstorder": ["Mean", "Minimum"]})
    repeated, failures = extract_repeated(
        images, root, [MaskPerturbation(kind, 1) for kind in KINDS], settings={"MRI": settings}
    )
    assert list(repeated["repeat"].unique()) == ["drawn", "erode-1", "dilate-1", "contour-1", "grid-1"]
    assert len(repeated) == 20 and set(failures["patient_id"]) == {"empty"} and len(failures) == 5
    volume = repeated.set_index(["patient_id", "repeat"])["MRI_pre_DCE__lesion_original_shape_VoxelVolume"]
    for patient in ("drawn", "gone", "m255"):
        assert volume[patient, "grid-1"] == volume[patient, "drawn"]
        assert volume[patient, "erode-1"] < volume[patient, "drawn"] < volume[patient, "dilate-1"]
    table = icc_table(repeated).set_index("feature")
    assert (table["n_patients"] == 3).all() and (table["n_repeats"] == 5).all()
    # The three lesions have the same size, so that their volume varies with the contour alone.
    assert table.loc["MRI_pre_DCE__lesion_original_shape_VoxelVolume", "icc"] < 0.2
    with pytest.raises(ValueError, match="expected each once"):
        extract_repeated(images, root, (MaskPerturbation("erode"), MaskPerturbation("erode")), settings={})


def repeats_of(
    n: int, rng: np.random.Generator, noise: dict[str, float], k: int = 4
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Features with a known share of noise, (features indexed by patient, repeated extractions)."""
    patients = [f"p{number}" for number in range(n)]
    true = pd.DataFrame(rng.normal(size=(n, len(noise))), index=patients, columns=list(noise))
    tables = []
    for repeat in range(k):
        one = true + rng.normal(size=true.shape) * np.array(list(noise.values()))
        tables.append(one.rename_axis("patient_id").reset_index().assign(repeat=f"r{repeat}"))
    return true, pd.concat(tables, ignore_index=True)


def test_icc_recovers_a_known_reliability():
    """Variance 1 between patients and s^2 within: ICC = 1 / (1 + s^2)."""
    _, repeated = repeats_of(4000, np.random.default_rng(0), {"a": 0.25, "b": 1.0, "c": 3.0})
    assert icc_table(repeated)["icc"].to_numpy() == pytest.approx([1 / 1.0625, 0.5, 0.1], abs=0.02)
    gaps = repeated.copy()
    gaps.loc[(gaps["patient_id"] == "p5") & (gaps["repeat"] == "r1"), "b"] = np.nan
    table = icc_table(gaps).set_index("feature")
    assert dict(table["n_patients"]) == {"a": 4000, "b": 3999, "c": 4000}
    assert table.loc["b", "icc"] == pytest.approx(
        icc_table(repeated[repeated["patient_id"] != "p5"])["icc"][1], rel=1e-12
    )


def test_the_filter_looks_at_training_patients_only():
    rng = np.random.default_rng(1)
    features, repeated = repeats_of(60, rng, {"stable": 0.1, "unstable": 3.0, "turned": 0.1})
    # Outside the training patients the third feature is noise, which must not be noticed.
    later = repeated["patient_id"].isin(features.index[40:])
    repeated.loc[later, "turned"] = rng.normal(size=later.sum()) * 50
    chosen = StabilityFilter(repeated).set_output(transform="pandas").fit(features.iloc[:40])
    assert list(chosen.get_feature_names_out()) == ["stable", "turned"]
    assert list(chosen.transform(features).columns) == ["stable", "turned"]
    assert list(StabilityFilter(repeated).fit(features).get_feature_names_out()) == ["stable"]
    assert (chosen.icc_["n_patients"] == 40).all()


def test_the_filter_is_a_step_of_a_pipeline():
    rng = np.random.default_rng(2)
    features, repeated = repeats_of(90, rng, {"stable": 0.1, "unstable": 3.0})
    labels = (features["stable"] + 0.3 * rng.normal(size=90) > 0).astype(int)
    pipeline = make_pipeline(StabilityFilter(repeated), LogisticRegression())
    assert cross_val_score(pipeline, features, labels, scoring="roc_auc", cv=3).min() > 0.9
    fitted = clone(pipeline).fit(features, labels)
    assert list(fitted[:-1].get_feature_names_out()) == ["stable"]


def test_mistakes_with_the_filter_are_named():
    features, repeated = repeats_of(30, np.random.default_rng(0), {"a": 0.1, "b": 3.0})
    wider = features.assign(age=50.0)
    assert list(StabilityFilter(repeated).fit(wider).get_feature_names_out()) == ["a", "age"]
    with pytest.raises(InputError, match="only 0 training patients have repeated extractions"):
        StabilityFilter(repeated).fit(features.reset_index(drop=True))
    with pytest.raises(InputError, match="no feature reaches an ICC of 0.75"):
        StabilityFilter(repeated).fit(features[["b"]])
    with pytest.raises(ValueError, match="feature names should match"):
        StabilityFilter(repeated).fit(features).transform(features[["b", "a"]])
