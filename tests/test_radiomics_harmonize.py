"""ComBat: neuroCombat's values, planted center effects, and what new patients, new centers and gaps do."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from alnlib.errors import InputError
from alnlib.models.clinical import cross_validated_scores
from alnlib.radiomics.harmonize import ComBatHarmonizer

REFERENCES = Path(__file__).parent / "references" / "combat"


@pytest.fixture(scope="module")
def reference() -> pd.DataFrame:
    """60 made-up patients of three centers, age and eight features: tests/references/combat/make_references.py."""
    return pd.read_csv(REFERENCES / "features.csv")


def two_centers(n_per_center: int, n_features: int, seed: int) -> tuple[pd.DataFrame, np.ndarray]:
    """Features as they were before the centers, (n, features), and the frame as it is measured: shift and scale per center."""
    rng = np.random.default_rng(seed)
    truth = rng.normal(size=(2 * n_per_center, n_features))
    code = np.repeat([0, 1], n_per_center)
    shift, scale = rng.normal(0, 2, (2, n_features)), rng.uniform(0.5, 2, (2, n_features))
    frame = pd.DataFrame(shift[code] + scale[code] * truth, columns=[f"f{k}" for k in range(n_features)])
    frame["center"] = np.array(["north", "south"])[code]
    return frame, truth


@pytest.mark.parametrize(("covariates", "file"), [((), "neurocombat.csv"), (("age",), "neurocombat_age.csv")])
def test_values_are_those_of_neurocombat(reference, covariates, file):
    """neuroCombat 0.2.12, with and without a covariate; ComBat moves these values by up to 9."""
    expected = pd.read_csv(REFERENCES / file)
    X = reference if covariates else reference.drop(columns="age")
    harmonized = ComBatHarmonizer(covariates=covariates).fit_transform(X)
    assert list(harmonized.columns) == list(expected.columns)
    np.testing.assert_allclose(harmonized, expected, atol=1e-6)
    assert np.abs(X[expected.columns] - expected).max(axis=None) > 5


def test_new_patients_are_those_of_neurocombat_and_do_not_shape_each_other(reference):
    """neuroCombat 0.2.12: neuroCombatFromTraining; and each new patient alone gets the value it gets among others."""
    expected = pd.read_csv(REFERENCES / "neurocombat_new_patients.csv")
    X = reference.drop(columns="age")
    fitted = ComBatHarmonizer().fit(X.drop(index=expected["row"]))
    harmonized = fitted.transform(X.loc[expected["row"]])
    np.testing.assert_allclose(harmonized, expected.drop(columns="row"), atol=1e-6)
    assert list(harmonized.index) == list(expected["row"])
    for row in expected["row"][:4]:
        pd.testing.assert_frame_equal(fitted.transform(X.loc[[row]]), harmonized.loc[[row]])


def test_planted_center_effects_are_removed_and_the_patients_differences_kept():
    """Truth by construction: standard normal features before each center's shift and scale."""
    frame, truth = two_centers(200, 30, seed=0)
    harmonized = ComBatHarmonizer().fit_transform(frame)
    north, south = harmonized[frame["center"] == "north"], harmonized[frame["center"] == "south"]
    groups = frame.groupby("center")
    shift_before = groups.mean().diff().abs().iloc[1] / frame.drop(columns="center").std()
    shift_after = (north.mean() - south.mean()).abs() / harmonized.std()
    assert shift_after.max() < 0.05 < 0.5 < shift_before.median()
    # the spread is shrunk towards that of the other features, so that a part of the difference stays
    scale_before, scale_after = np.log(groups.std()).diff().abs().iloc[1], np.log(north.std() / south.std()).abs()
    assert scale_after.max() < 0.15 < 0.3 < scale_before.median()
    correlation = [np.corrcoef(harmonized[f"f{k}"], truth[:, k])[0, 1] for k in range(30)]
    assert min(correlation) > 0.97


def test_the_order_of_rows_and_columns_does_not_matter(reference):
    X = reference.drop(columns="age")
    shuffled = X.sample(frac=1, random_state=0)[X.columns[::-1]]
    expected = ComBatHarmonizer().fit_transform(X)
    pd.testing.assert_frame_equal(ComBatHarmonizer().fit_transform(shuffled).loc[X.index, expected.columns], expected)


def test_a_covariate_keeps_its_effect():
    """Age differs between centers and drives the feature: without the covariate ComBat takes the age effect for the center's."""
    rng = np.random.default_rng(1)
    age = np.r_[rng.normal(45, 6, 150), rng.normal(65, 6, 150)]
    features = {f"f{k}": 0.1 * age + rng.normal(size=300) for k in range(10)}
    frame = pd.DataFrame({"center": np.repeat(["a", "b"], 150), "age": age, **features})
    kept = ComBatHarmonizer(covariates=("age",)).fit_transform(frame)
    lost = ComBatHarmonizer().fit_transform(frame.drop(columns="age"))
    slopes = [np.mean([np.polyfit(age, table[column], 1)[0] for column in kept]) for table in (kept, lost)]
    assert slopes[0] == pytest.approx(0.1, abs=0.01) and slopes[1] < 0.04
    assert "age" not in kept


def test_unseen_center_is_an_error_or_passes_unchanged(reference):
    X = reference.drop(columns="age")
    training, test = X[X["center"] != "Cork"], X[X["center"] != "Aachen"]
    with pytest.raises(InputError, match=r"center Cork was not among the training centers \(Aachen, Bergen\)"):
        ComBatHarmonizer().fit(training).transform(test)
    passed = ComBatHarmonizer(unseen="pass").fit(training).transform(test)
    strangers = test["center"] == "Cork"
    pd.testing.assert_frame_equal(passed[strangers], test.loc[strangers, passed.columns])
    pd.testing.assert_frame_equal(passed[~strangers], ComBatHarmonizer().fit(training).transform(test[~strangers]))


def test_gaps_stay_gaps_and_hardly_move_the_rest():
    frame, _ = two_centers(100, 6, seed=2)
    gaps = frame.copy()
    gaps.loc[[3, 50, 120], "f1"] = np.nan
    complete, holed = ComBatHarmonizer().fit_transform(frame), ComBatHarmonizer().fit_transform(gaps)
    assert holed["f1"].isna().sum() == 3 and holed.drop(columns="f1").notna().all(axis=None)
    np.testing.assert_allclose(holed.dropna(), complete.loc[holed.dropna().index], atol=0.15)
    assert not np.array_equal(holed["f0"], gaps["f0"])


def test_features_without_spread_in_a_center_pass_unchanged():
    frame, _ = two_centers(40, 4, seed=3)
    expected = ComBatHarmonizer().fit_transform(frame)
    frame["flat"], frame["flat_in_north"] = 7.0, np.where(frame["center"] == "north", 1.0, frame["f0"])
    frame["unknown_in_south"] = frame["f1"].mask(frame["center"] == "south")
    fitted = ComBatHarmonizer().fit(frame)
    harmonized = fitted.transform(frame)
    unchanged = ["flat", "flat_in_north", "unknown_in_south"]
    assert list(fitted.features_[~fitted.harmonized_]) == unchanged
    pd.testing.assert_frame_equal(harmonized[unchanged], frame[unchanged])
    pd.testing.assert_frame_equal(harmonized[expected.columns], expected)


def test_a_single_feature_gets_the_plain_estimate():
    """With nothing to borrow, every center ends at the same mean and spread exactly."""
    frame, _ = two_centers(30, 1, seed=4)
    by_center = ComBatHarmonizer().fit_transform(frame)["f0"].groupby(frame["center"])
    assert by_center.mean().diff().iloc[1] == pytest.approx(0, abs=1e-12)
    assert by_center.std().diff().iloc[1] == pytest.approx(0, abs=1e-12)


def test_inside_a_pipeline_it_is_fitted_on_training_folds_only():
    seen = []

    class Spy(ComBatHarmonizer):
        def fit(self, X, y=None):
            seen.append(len(X))
            return super().fit(X, y)

    frame, truth = two_centers(60, 5, seed=5)
    y = (truth[:, 0] + np.random.default_rng(0).normal(size=120) > 0).astype(int)
    pipeline = make_pipeline(Spy(), LogisticRegression())
    scores = cross_validated_scores(pipeline, frame, y, np.random.default_rng(0), n_repeats=1, patient_ids=frame.index)
    assert seen == [96] * 5 and scores["y_score"].between(0, 1).all()
    assert clone(ComBatHarmonizer("hospital", ("age",), "pass")).get_params() == {
        "center_column": "hospital",
        "covariates": ("age",),
        "unseen": "pass",
    }


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        (lambda X: X[X["center"] == "Cork"], {}, "all training patients are from Cork"),
        (lambda X: X[(X["center"] != "Cork") | (X.index > 57)], {}, "center Cork has 2 training patients"),
        (lambda X: X.drop(columns="center"), {}, "column center is missing"),
        (lambda X: X.assign(center=X["center"].where(X.index != 4)), {}, "row 4 has no center"),
        (lambda X: X.assign(feature_1="high"), {}, "not a number"),
        (lambda X: X.assign(age=X["center"].eq("Cork") * 1.0), {"covariates": ("age",)}, "tied to the centers"),
        (lambda X: X.assign(age=np.nan), {"covariates": ("age",)}, "missing covariates"),
    ],
    ids=["one center", "small center", "no column", "no center", "text", "confounded", "missing covariate"],
)
def test_mistakes_are_named_with_their_remedy(reference, change, options, message):
    with pytest.raises(InputError, match=message):
        ComBatHarmonizer(**options).fit(change(reference))
