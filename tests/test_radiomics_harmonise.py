"""ComBat: neuroCombat's values, planted centre effects, and what new patients, new centres and gaps do."""

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
from alnlib.radiomics.harmonise import ComBatHarmoniser

REFERENCES = Path(__file__).parent / "references" / "combat"


@pytest.fixture(scope="module")
def reference() -> pd.DataFrame:
    """60 made-up patients of three centres, age and eight features: tests/references/combat/make_references.py."""
    return pd.read_csv(REFERENCES / "features.csv")


def two_centres(n_per_centre: int, n_features: int, seed: int) -> tuple[pd.DataFrame, np.ndarray]:
    """Features as they were before the centres, (n, features), and the frame as it is measured: shift and scale per centre."""
    rng = np.random.default_rng(seed)
    truth = rng.normal(size=(2 * n_per_centre, n_features))
    code = np.repeat([0, 1], n_per_centre)
    shift, scale = rng.normal(0, 2, (2, n_features)), rng.uniform(0.5, 2, (2, n_features))
    frame = pd.DataFrame(shift[code] + scale[code] * truth, columns=[f"f{k}" for k in range(n_features)])
    frame["centre"] = np.array(["north", "south"])[code]
    return frame, truth


@pytest.mark.parametrize(("covariates", "file"), [((), "neurocombat.csv"), (("age",), "neurocombat_age.csv")])
def test_values_are_those_of_neurocombat(reference, covariates, file):
    """neuroCombat 0.2.12, with and without a covariate; ComBat moves these values by up to 9."""
    expected = pd.read_csv(REFERENCES / file)
    X = reference if covariates else reference.drop(columns="age")
    harmonised = ComBatHarmoniser(covariates=covariates).fit_transform(X)
    assert list(harmonised.columns) == list(expected.columns)
    np.testing.assert_allclose(harmonised, expected, atol=1e-6)
    assert np.abs(X[expected.columns] - expected).max(axis=None) > 5


def test_new_patients_are_those_of_neurocombat_and_do_not_shape_each_other(reference):
    """neuroCombat 0.2.12: neuroCombatFromTraining; and each new patient alone gets the value it gets among others."""
    expected = pd.read_csv(REFERENCES / "neurocombat_new_patients.csv")
    X = reference.drop(columns="age")
    fitted = ComBatHarmoniser().fit(X.drop(index=expected["row"]))
    harmonised = fitted.transform(X.loc[expected["row"]])
    np.testing.assert_allclose(harmonised, expected.drop(columns="row"), atol=1e-6)
    assert list(harmonised.index) == list(expected["row"])
    for row in expected["row"][:4]:
        pd.testing.assert_frame_equal(fitted.transform(X.loc[[row]]), harmonised.loc[[row]])


def test_planted_centre_effects_are_removed_and_the_patients_differences_kept():
    """Truth by construction: standard normal features before each centre's shift and scale."""
    frame, truth = two_centres(200, 30, seed=0)
    harmonised = ComBatHarmoniser().fit_transform(frame)
    north, south = harmonised[frame["centre"] == "north"], harmonised[frame["centre"] == "south"]
    groups = frame.groupby("centre")
    shift_before = groups.mean().diff().abs().iloc[1] / frame.drop(columns="centre").std()
    shift_after = (north.mean() - south.mean()).abs() / harmonised.std()
    assert shift_after.max() < 0.05 < 0.5 < shift_before.median()
    # the spread is shrunk towards that of the other features, so that a part of the difference stays
    scale_before, scale_after = np.log(groups.std()).diff().abs().iloc[1], np.log(north.std() / south.std()).abs()
    assert scale_after.max() < 0.15 < 0.3 < scale_before.median()
    correlation = [np.corrcoef(harmonised[f"f{k}"], truth[:, k])[0, 1] for k in range(30)]
    assert min(correlation) > 0.97


def test_the_order_of_rows_and_columns_does_not_matter(reference):
    X = reference.drop(columns="age")
    shuffled = X.sample(frac=1, random_state=0)[X.columns[::-1]]
    expected = ComBatHarmoniser().fit_transform(X)
    pd.testing.assert_frame_equal(ComBatHarmoniser().fit_transform(shuffled).loc[X.index, expected.columns], expected)


def test_a_covariate_keeps_its_effect():
    """Age differs between centres and drives the feature: without the covariate ComBat takes the age effect for the centre's."""
    rng = np.random.default_rng(1)
    age = np.r_[rng.normal(45, 6, 150), rng.normal(65, 6, 150)]
    features = {f"f{k}": 0.1 * age + rng.normal(size=300) for k in range(10)}
    frame = pd.DataFrame({"centre": np.repeat(["a", "b"], 150), "age": age, **features})
    kept = ComBatHarmoniser(covariates=("age",)).fit_transform(frame)
    lost = ComBatHarmoniser().fit_transform(frame.drop(columns="age"))
    slopes = [np.mean([np.polyfit(age, table[column], 1)[0] for column in kept]) for table in (kept, lost)]
    assert slopes[0] == pytest.approx(0.1, abs=0.01) and slopes[1] < 0.04
    assert "age" not in kept


def test_unseen_centre_is_an_error_or_passes_unchanged(reference):
    X = reference.drop(columns="age")
    training, test = X[X["centre"] != "Cork"], X[X["centre"] != "Aachen"]
    with pytest.raises(InputError, match=r"centre Cork was not among the training centres \(Aachen, Bergen\)"):
        ComBatHarmoniser().fit(training).transform(test)
    passed = ComBatHarmoniser(unseen="pass").fit(training).transform(test)
    strangers = test["centre"] == "Cork"
    pd.testing.assert_frame_equal(passed[strangers], test.loc[strangers, passed.columns])
    pd.testing.assert_frame_equal(passed[~strangers], ComBatHarmoniser().fit(training).transform(test[~strangers]))


def test_gaps_stay_gaps_and_hardly_move_the_rest():
    frame, _ = two_centres(100, 6, seed=2)
    gaps = frame.copy()
    gaps.loc[[3, 50, 120], "f1"] = np.nan
    complete, holed = ComBatHarmoniser().fit_transform(frame), ComBatHarmoniser().fit_transform(gaps)
    assert holed["f1"].isna().sum() == 3 and holed.drop(columns="f1").notna().all(axis=None)
    np.testing.assert_allclose(holed.dropna(), complete.loc[holed.dropna().index], atol=0.15)
    assert not np.array_equal(holed["f0"], gaps["f0"])


def test_features_without_spread_in_a_centre_pass_unchanged():
    frame, _ = two_centres(40, 4, seed=3)
    expected = ComBatHarmoniser().fit_transform(frame)
    frame["flat"], frame["flat_in_north"] = 7.0, np.where(frame["centre"] == "north", 1.0, frame["f0"])
    frame["unknown_in_south"] = frame["f1"].mask(frame["centre"] == "south")
    fitted = ComBatHarmoniser().fit(frame)
    harmonised = fitted.transform(frame)
    unchanged = ["flat", "flat_in_north", "unknown_in_south"]
    assert list(fitted.features_[~fitted.harmonised_]) == unchanged
    pd.testing.assert_frame_equal(harmonised[unchanged], frame[unchanged])
    pd.testing.assert_frame_equal(harmonised[expected.columns], expected)


def test_a_single_feature_gets_the_plain_estimate():
    """With nothing to borrow, every centre ends at the same mean and spread exactly."""
    frame, _ = two_centres(30, 1, seed=4)
    by_centre = ComBatHarmoniser().fit_transform(frame)["f0"].groupby(frame["centre"])
    assert by_centre.mean().diff().iloc[1] == pytest.approx(0, abs=1e-12)
    assert by_centre.std().diff().iloc[1] == pytest.approx(0, abs=1e-12)


def test_inside_a_pipeline_it_is_fitted_on_training_folds_only():
    seen = []

    class Spy(ComBatHarmoniser):
        def fit(self, X, y=None):
            seen.append(len(X))
            return super().fit(X, y)

    frame, truth = two_centres(60, 5, seed=5)
    y = (truth[:, 0] + np.random.default_rng(0).normal(size=120) > 0).astype(int)
    pipeline = make_pipeline(Spy(), LogisticRegression())
    scores = cross_validated_scores(pipeline, frame, y, np.random.default_rng(0), n_repeats=1, patient_ids=frame.index)
    assert seen == [96] * 5 and scores["y_score"].between(0, 1).all()
    assert clone(ComBatHarmoniser("hospital", ("age",), "pass")).get_params() == {
        "centre_column": "hospital",
        "covariates": ("age",),
        "unseen": "pass",
    }


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        (lambda X: X[X["centre"] == "Cork"], {}, "all training patients are from Cork"),
        (lambda X: X[(X["centre"] != "Cork") | (X.index > 57)], {}, "centre Cork has 2 training patients"),
        (lambda X: X.drop(columns="centre"), {}, "column centre is missing"),
        (lambda X: X.assign(centre=X["centre"].where(X.index != 4)), {}, "row 4 has no centre"),
        (lambda X: X.assign(feature_1="high"), {}, "not a number"),
        (lambda X: X.assign(age=X["centre"].eq("Cork") * 1.0), {"covariates": ("age",)}, "tied to the centres"),
        (lambda X: X.assign(age=np.nan), {"covariates": ("age",)}, "missing covariates"),
    ],
    ids=["one centre", "small centre", "no column", "no centre", "text", "confounded", "missing covariate"],
)
def test_mistakes_are_named_with_their_remedy(reference, change, options, message):
    with pytest.raises(InputError, match=message):
        ComBatHarmoniser(**options).fit(change(reference))
