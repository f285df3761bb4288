"""Clinical models and nomogram: R reference values, planted effects, separation, and what happens inside a fold."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from sklearn.base import BaseEstimator, ClassifierMixin

from alnlib.cohorts.schema import ClinicalVariable
from alnlib.errors import InputError
from alnlib.files import write_csv
from alnlib.models import clinical as clinical_module
from alnlib.models.clinical import (
    INTERCEPT,
    ClinicalEncoder,
    UnivariableThenMultivariableLogistic,
    clinical_pipeline,
    cross_validated_scores,
    multivariable_table,
    penalized_clinical_pipeline,
    risk_equation,
    univariable_table,
)
from alnlib.models.nomogram import nomogram_scales, plot_nomogram

REFERENCES = Path(__file__).parent / "references" / "clinical"
CLINICAL = {
    "age": ClinicalVariable("Age", "continuous", "year"),
    "size_cm": ClinicalVariable("Size", "continuous", "cm"),
    "er": ClinicalVariable("ER", "nominal", None, ("negative", "positive")),
    "stage": ClinicalVariable("Clinical T stage", "ordinal", None, ("T1", "T2", "T3")),
    "subtype": ClinicalVariable("Subtype", "nominal", None, ("luminal", "HER2", "triple negative")),
}


@pytest.fixture
def patients() -> pd.DataFrame:
    """240 synthetic patients, 36 with a missing value: tests/references/clinical/make_patients.py."""
    return pd.read_csv(REFERENCES / "clinical_reference.csv", dtype={"patient_id": str})


def auc(y, score) -> float:
    positive, negative = score[y == 1], score[y == 0]
    return float((positive[:, None] > negative).mean() + 0.5 * (positive[:, None] == negative).mean())


@pytest.mark.parametrize(
    ("model", "table"), [("univariable", univariable_table), ("multivariable", multivariable_table)]
)
def test_odds_ratios_agree_with_r(patients, model, table):
    """R 4.2.2: glm(binomial, epsilon = 1e-14), confint.default, anova and drop1(test = "Chisq"); clinical_reference.R."""
    reference = pd.read_csv(REFERENCES / "odds_ratios.csv", keep_default_na=False).query("model == @model")
    ours = table(patients, CLINICAL, "node")
    estimated = ours[ours["note"] == ""].reset_index(drop=True)
    assert len(estimated) == len(reference) == 7
    for column in ("odds_ratio", "low", "high", "p_wald"):
        np.testing.assert_allclose(estimated[column], reference[column], rtol=1e-6)
    label = {column: variable.label for column, variable in CLINICAL.items()}
    per_variable = ours.dropna(subset="p_likelihood_ratio").set_index("variable")["p_likelihood_ratio"]
    assert len(per_variable) == len(CLINICAL)
    for row in reference.itertuples():
        assert per_variable[label[row.variable]] == pytest.approx(row.p_likelihood_ratio, rel=1e-6)


def test_tables_use_complete_cases_and_say_how_many(patients):
    table = univariable_table(patients, CLINICAL, "node").set_index(["variable", "level"])
    known = patients.dropna(subset="er")
    assert table.loc["ER", "n"].sum() == len(known) == 225
    assert table.loc[("ER", "negative"), "events"] == known.loc[known["er"] == "negative", "node"].sum()
    assert table.loc[("ER", "negative"), "odds_ratio"] == 1 and table.loc[("ER", "negative"), "note"] == "reference"
    assert table.loc[("Age", "per unit (year)"), "n"] == 228
    joint = multivariable_table(patients, CLINICAL, "node").set_index(["variable", "level"])
    assert joint.loc[("Age", "per unit (year)"), "n"] == len(patients.dropna()) == joint.loc["ER", "n"].sum() == 206


def test_tables_leave_out_patients_without_the_endpoint(patients):
    unknown = patients.assign(node=patients["node"].astype("Int64").where(patients.index >= 40))
    pd.testing.assert_frame_equal(
        univariable_table(unknown, CLINICAL, "node"), univariable_table(patients.iloc[40:], CLINICAL, "node")
    )


def test_separation_is_reported_not_printed_as_a_huge_odds_ratio(patients):
    """All T3 patients positive: the likelihood has no maximum (Albert & Anderson 1984, Biometrika 71:1)."""
    separated = patients.assign(node=patients["node"].where(patients["stage"] != "T3", 1))
    for table in (univariable_table, multivariable_table):
        rows = table(separated, CLINICAL, "node").set_index(["variable", "level"])
        t3 = rows.loc[("Clinical T stage", "T3")]
        assert "separation" in t3["note"] and np.isnan(t3["odds_ratio"])
        assert np.isfinite(rows.loc[("Clinical T stage", "T2"), "odds_ratio"])
        assert rows["odds_ratio"].max() < 100
        assert rows.loc[("Clinical T stage", "T1"), "p_likelihood_ratio"] < 1e-6
    model = clinical_pipeline(CLINICAL).fit(separated, separated["node"]).named_steps["model"]
    assert "separation by Clinical T stage: T3" in model.note_ and "Firth" in model.note_
    odds = model.odds_ratios_.set_index("feature")
    assert 1 < odds.loc["Clinical T stage: T3", "low"] < odds.loc["Clinical T stage: T3", "odds_ratio"] < 10_000
    assert np.isfinite(odds[["odds_ratio", "low", "high"]]).all(axis=None)


def test_the_fallback_for_an_empty_cell_is_firths_closed_form():
    """In a 2 x 2 table Firth's estimate is the odds ratio with 0.5 added to every cell (Firth 1993, Biometrika 80:27)."""
    cells = {(1, 1): 9, (1, 0): 0, (0, 1): 14, (0, 0): 21}
    rows = [cell for cell, count in cells.items() for _ in range(count)]
    X, y = pd.DataFrame({"x": [float(x) for x, _ in rows]}), np.array([label for _, label in rows])
    model = UnivariableThenMultivariableLogistic().fit(X, y)
    row = model.odds_ratios_.iloc[0]
    assert row["odds_ratio"] == pytest.approx((9.5 * 21.5) / (0.5 * 14.5), rel=1e-7)
    # With 0.5 in every cell the fitted counts are the cells' own; the information weighs the patients there really are.
    p1, p0 = 9.5 / 10, 14.5 / 36
    error = np.sqrt(1 / (9 * p1 * (1 - p1)) + 1 / (35 * p0 * (1 - p0)))
    assert np.log(row["high"] / row["odds_ratio"]) == pytest.approx(1.959964 * error, rel=1e-5)


def test_complete_separation_still_gives_probabilities():
    X = pd.DataFrame({"x": np.arange(20.0), "noise": np.tile([0.0, 1.0], 10)})
    y = (X["x"] > 9).to_numpy(int)
    model = UnivariableThenMultivariableLogistic().fit(X, y)
    assert model.selected_variables_ == ("x",) and "separation" in model.note_
    assert np.isfinite(model.predict_proba(X)).all() and auc(y, model.predict_proba(X)[:, 1]) == 1


def test_the_multivariable_fit_is_the_table_when_all_variables_enter(patients):
    """Same model, two ways: pipeline without missing values against multivariable_table."""
    complete = patients.dropna()
    model = clinical_pipeline(CLINICAL, p_enter=1.1).fit(complete, complete["node"]).named_steps["model"]
    table = multivariable_table(complete, CLINICAL, "node")
    table = table[table["note"] == ""]
    np.testing.assert_allclose(model.odds_ratios_["odds_ratio"], table["odds_ratio"], rtol=1e-8)
    np.testing.assert_allclose(model.odds_ratios_[["low", "high"]], table[["low", "high"]], rtol=1e-8)
    assert model.selected_variables_ == tuple(variable.label for variable in CLINICAL.values())


def test_selection_keeps_planted_variables_whole_and_drops_noise():
    rng = np.random.default_rng(7)
    n = 1500
    frame = pd.DataFrame(
        {
            "age": rng.normal(55, 10, n),
            "size_cm": rng.normal(2.5, 1, n),
            "er": rng.choice(["negative", "positive"], n),
            "stage": rng.choice(["T1", "T2", "T3"], n),
            "subtype": rng.choice(["luminal", "HER2", "triple negative"], n),
        }
    )
    y = rng.binomial(1, 1 / (1 + np.exp(-(0.8 * (frame["size_cm"] - 2.5) + 1.2 * (frame["stage"] == "T3") - 0.5))))
    model = clinical_pipeline(CLINICAL, p_enter=0.001).fit(frame, y).named_steps["model"]
    assert model.selected_variables_ == ("Size", "Clinical T stage")
    assert set(model.coef_.index[model.coef_ != 0]) == {"Size", "Clinical T stage: T2", "Clinical T stage: T3"}


def test_nothing_selected_gives_the_prevalence_and_says_so(patients):
    model = clinical_pipeline(CLINICAL, p_enter=0.0).fit(patients, patients["node"])
    assert model.named_steps["model"].selected_variables_ == ()
    assert "intercept only" in model.named_steps["model"].note_
    np.testing.assert_allclose(model.predict_proba(patients)[:, 1], patients["node"].mean(), atol=1e-9)
    with pytest.raises(ValueError, match="no variables"):
        nomogram_scales(model)


def test_encoder_names_references_and_units(patients):
    encoded = ClinicalEncoder(CLINICAL).fit_transform(patients)
    assert list(encoded.columns) == [
        "Age",
        "Size",
        "ER: positive",
        "Clinical T stage: T2",
        "Clinical T stage: T3",
        "Subtype: HER2",
        "Subtype: triple negative",
    ]
    known = patients["age"].notna()
    assert encoded.loc[known, "Age"].equals(patients.loc[known, "age"].rename("Age"))
    assert not encoded.isna().any(axis=None)


def test_imputation_is_learned_from_the_training_fold(patients):
    train = patients.iloc[:100]
    test = pd.DataFrame(
        {"age": [np.nan, 200.0], "size_cm": [1.0, 1.0], "er": [None, "negative"], "stage": "T1", "subtype": "HER2"}
    )
    encoded = ClinicalEncoder(CLINICAL).fit(train).transform(test)
    assert encoded["Age"].tolist() == [train["age"].median(), 200.0]
    assert encoded["ER: positive"].tolist() == [float(train["er"].mode()[0] == "positive"), 0.0]


def test_unknown_level_and_text_name_the_patient_and_the_remedy(patients):
    broken = patients.assign(age=patients["age"].astype(object))
    broken.loc[3, "stage"], broken.loc[5, "age"] = "T9", "old"
    with pytest.raises(InputError) as error:
        ClinicalEncoder(CLINICAL).fit(broken)
    assert len(error.value.problems) == 2
    assert "patient 003" in str(error.value) and "'T9'" in str(error.value) and "T1, T2, T3" in str(error.value)
    assert "patient 005" in str(error.value) and "a number in year" in str(error.value)
    with pytest.raises(InputError, match="ER"):
        univariable_table(patients.drop(columns="er"), CLINICAL, "node")
    with pytest.raises(InputError, match="no column 'nodes'"):
        univariable_table(patients, CLINICAL, "nodes")


def test_constant_and_dependent_columns_do_not_break_the_fit(patients):
    X = patients[["size_cm"]].assign(twice=2 * patients["size_cm"], constant=1.0)
    model = UnivariableThenMultivariableLogistic(p_enter=1.1).fit(X, patients["node"])
    alone = UnivariableThenMultivariableLogistic(p_enter=1.1).fit(X[["size_cm"]], patients["node"])
    np.testing.assert_allclose(model.predict_proba(X), alone.predict_proba(X[["size_cm"]]), atol=1e-10)
    assert "twice" in model.note_ and "constant" in model.note_


class _Memory(ClassifierMixin, BaseEstimator):
    """Answers 1 for patients it was fitted on: any leak between folds shows as a score of 1."""

    def fit(self, X, y):
        self.classes_, self.seen_ = np.array([0, 1]), set(X["patient_id"])
        return self

    def predict_proba(self, X):
        seen = X["patient_id"].isin(self.seen_).to_numpy(float)
        return np.column_stack([1 - seen, seen])


def test_scores_come_from_models_that_never_saw_the_patient(patients):
    doubled = pd.concat([patients, patients], ignore_index=True)
    scores = cross_validated_scores(_Memory(), doubled, doubled["node"], np.random.default_rng(0), n_repeats=2)
    assert (scores["y_score"] == 0).all() and len(scores) == 4 * len(patients)


def test_cross_validation_is_repeatable_and_finds_signal_only_where_there_is_some(patients):
    pipeline = clinical_pipeline(CLINICAL)
    y = patients["node"].to_numpy()
    first = cross_validated_scores(pipeline, patients, y, np.random.default_rng(3), n_repeats=2)
    again = cross_validated_scores(pipeline, patients, y, np.random.default_rng(3), n_repeats=2)
    pd.testing.assert_frame_equal(first, again)
    mean = first.groupby("patient_id", sort=False)["y_score"].mean()
    assert mean.index.tolist() == patients["patient_id"].tolist()
    assert auc(y, mean.to_numpy()) > 0.68
    rng = np.random.default_rng(11)
    permuted = []
    for _ in range(6):
        shuffled = rng.permutation(y)
        score = cross_validated_scores(pipeline, patients, shuffled, rng, n_repeats=1)
        permuted.append(auc(shuffled, score["y_score"].to_numpy()))
    assert abs(np.mean(permuted) - 0.5) < 0.07


def test_penalized_comparator_recovers_the_signal(patients):
    pipeline = penalized_clinical_pipeline(CLINICAL)
    y = patients["node"].to_numpy()
    scores = cross_validated_scores(pipeline, patients, y, np.random.default_rng(3), n_repeats=1)
    assert auc(y, scores["y_score"].to_numpy()) > 0.68
    again = cross_validated_scores(pipeline, patients, y, np.random.default_rng(3), n_repeats=1)
    pd.testing.assert_frame_equal(scores, again)


def test_penalized_comparator_scores_a_patient_of_whom_nothing_is_known_as_the_typical_one(patients):
    fitted = penalized_clinical_pipeline(CLINICAL).fit(patients, patients["node"])
    unknown = patients.head(1).assign(**dict.fromkeys(CLINICAL, np.nan))
    typical = patients.head(1).assign(**fitted["encode"].fill_)
    assert fitted.predict_proba(unknown)[0, 1] == fitted.predict_proba(typical)[0, 1]


def test_penalized_comparator_does_not_mind_a_variable_that_is_constant_in_a_fold(patients):
    """A level that only the held-out patients have: no coefficient, and no division by its spread of zero."""
    constant = patients.assign(er="negative")
    fitted = penalized_clinical_pipeline(CLINICAL).fit(constant, constant["node"])
    assert risk_equation(fitted).set_index("feature").loc["ER: positive", "odds_ratio"] == 1
    one, other = (fitted.predict_proba(patients.assign(er=level))[:, 1] for level in ("negative", "positive"))
    np.testing.assert_array_equal(one, other)


def test_penalized_comparator_learns_nothing_from_held_out_patients_or_from_units(patients):
    """Imputation, spread and strength are those of the other folds; and age in months is age."""
    y, held_out = patients["node"].to_numpy(), np.arange(len(patients)) % 5 == 0
    pipeline = penalized_clinical_pipeline(CLINICAL)
    strange = patients.assign(age=patients["age"].where(~held_out, 500.0))
    score = clinical_module.out_of_fold_probabilities(pipeline, strange, y, held_out.astype(int))
    alone = penalized_clinical_pipeline(CLINICAL).fit(patients[~held_out], y[~held_out])
    np.testing.assert_array_equal(score[held_out], alone.predict_proba(strange[held_out])[:, 1])
    months = patients.assign(age=patients["age"] * 12)
    again = penalized_clinical_pipeline(CLINICAL).fit(months[~held_out], y[~held_out])
    np.testing.assert_allclose(again.predict_proba(months), alone.predict_proba(patients), atol=1e-6)


def test_shrunken_odds_ratios_are_those_between_two_patients_a_unit_apart(patients):
    """And they lie nearer to 1 than those of the unpenalized model."""
    fitted = penalized_clinical_pipeline(CLINICAL).fit(patients, patients["node"])
    ratios = risk_equation(fitted).set_index("feature")["odds_ratio"].dropna()
    first = patients.head(1).assign(age=50.0, er="negative")
    for feature, changed in (("Age", {"age": 51.0}), ("ER: positive", {"er": "positive"})):
        apart = fitted.decision_function(first.assign(**changed)) - fitted.decision_function(first)
        assert ratios[feature] == pytest.approx(np.exp(apart[0]))
    free = multivariable_table(patients, CLINICAL, "node").query("note == ''")["odds_ratio"]
    assert 0 < np.abs(np.log(ratios)).sum() < np.abs(np.log(free)).sum()


@pytest.mark.parametrize("kind", ["selected", "none selected", "ridge"])
def test_a_patients_risk_follows_from_the_written_terms(patients, kind, tmp_path):
    """By hand, from the file alone: a sum over its rows, missing values included."""
    pipelines = {
        "selected": clinical_pipeline(CLINICAL, p_enter=0.5),
        "none selected": clinical_pipeline(CLINICAL, p_enter=0.0),
        "ridge": penalized_clinical_pipeline(CLINICAL),
    }
    fitted = pipelines[kind].fit(patients, patients["node"])
    write_csv(risk_equation(fitted), tmp_path / "model.csv")
    terms = pd.read_csv(tmp_path / "model.csv")
    assert terms["feature"].iloc[0] == INTERCEPT and (len(terms) == 1) == (kind == "none selected")
    labels = {variable.label: column for column, variable in CLINICAL.items()}
    for (_, patient), risk in zip(patients.iterrows(), fitted.predict_proba(patients)[:, 1], strict=True):
        total = terms["coefficient"].iloc[0]
        for row in terms.iloc[1:].itertuples():
            value, level = patient[labels[row.variable]], row.feature.removeprefix(f"{row.variable}: ")
            known = value if level == row.feature else float(value == level)
            total += row.coefficient * (row.missing_as if pd.isna(value) else known)
        assert risk == pytest.approx(1 / (1 + np.exp(-total)), abs=1e-6)


@pytest.fixture
def four_variables(patients):
    complete = patients.dropna()
    clinical = {column: CLINICAL[column] for column in ("age", "size_cm", "er", "stage")}
    return complete, clinical_pipeline(clinical, p_enter=1.1).fit(complete, complete["node"])


def test_nomogram_points_agree_with_rms(four_variables):
    """R 4.2.2, rms 6.5.0: nomogram(lrm(...), age = c(30, ..., 80), size_cm = 1:6); clinical_reference.R."""
    reference = pd.read_csv(REFERENCES / "nomogram_points.csv", dtype={"label": str})
    values = {"Age": [30, 40, 50, 60, 70, 80], "Size": [1, 2, 3, 4, 5, 6]}
    scales = nomogram_scales(four_variables[1], values).set_index(["axis", "label"])["points"]
    names = {"age": "Age", "size_cm": "Size", "er": "ER", "stage": "Clinical T stage", "probability": "Probability"}
    for row in reference.itertuples():
        # rms finds the points of a probability by interpolating between 200 values of the link.
        tolerance = 1e-3 if row.axis == "probability" else 1e-8
        assert scales[(names[row.axis], row.label)] == pytest.approx(row.points, abs=tolerance)


def test_summed_points_give_the_probability_of_the_model(four_variables):
    patients, model = four_variables
    scales = nomogram_scales(model)
    assert scales.loc[~scales["axis"].isin(["Total points", "Probability"]), "points"].between(-1e-9, 100 + 1e-9).all()
    total = np.zeros(len(patients))
    for column, variable in model.named_steps["encode"].clinical.items():
        axis = scales[scales["axis"] == variable.label]
        if variable.kind == "continuous":
            slope, offset = np.polyfit(axis["value"], axis["points"], 1)
            total += slope * patients[column].to_numpy() + offset
        else:
            total += patients[column].map(axis.set_index("label")["points"]).to_numpy()
    probability = scales[scales["axis"] == "Probability"]
    slope, offset = np.polyfit(probability["points"], np.log(probability["value"] / (1 - probability["value"])), 1)
    np.testing.assert_allclose(
        1 / (1 + np.exp(-(slope * total + offset))), model.predict_proba(patients)[:, 1], atol=1e-9
    )


def test_nomogram_figure_names_every_axis_once(four_variables):
    figure = Figure(figsize=(8, 4.5))
    ax = figure.add_axes((0.25, 0.05, 0.7, 0.9))
    assert plot_nomogram(nomogram_scales(four_variables[1]), ax, "Probability of a positive node") is ax
    texts = [text.get_text() for text in ax.texts]
    for name in (
        "Points",
        "Age (year)",
        "Size (cm)",
        "ER",
        "Clinical T stage",
        "Total points",
        "Probability of a positive node",
    ):
        assert texts.count(name) == 1


def test_an_interval_without_information_is_left_empty_and_said(monkeypatch):
    """With the limit pulled in to log 3, an interval that reaches 4 is left out and one that does not is kept."""
    patients = pd.DataFrame(
        {"marker": (["a"] * 50 + ["b"] * 50) * 4, "outcome": ([0, 1] * 25 + [0, 1, 1, 1, 1] * 10) * 4}
    )
    clinical = {"marker": ClinicalVariable("Marker", "nominal", None, ("a", "b"))}
    usual = univariable_table(patients, clinical, "outcome").set_index("level")
    assert usual.loc["b", "odds_ratio"] == pytest.approx(4.0)
    monkeypatch.setattr(clinical_module, "LARGEST_LOG_ODDS", np.log(3))
    table = univariable_table(patients, clinical, "outcome").set_index("level")
    assert np.isnan(table.loc["b", "odds_ratio"])
    assert "not estimable" in table.loc["b", "note"]
    assert table.loc["a", "odds_ratio"] == 1.0


def test_a_score_that_runs_against_the_outcome_is_left_out_of_the_joint_model(patients):
    """Stacked scores have positive weights or none: turned round in the patients fitted on, they are noise."""
    frame, y = patients, patients["node"].to_numpy()
    rng = np.random.default_rng(0)
    with_score = CLINICAL | {"signature": ClinicalVariable("Signature", "continuous", "logit")}
    for sign in (1, -1):
        scored = frame.assign(signature=sign * y + rng.normal(size=len(frame)))
        model = clinical_pipeline(with_score, p_enter=0.0, always=["Signature"]).fit(scored, y)["model"]
        assert (model.selected_variables_ == ("Signature",)) == (sign > 0)
        assert (model.coef_["Signature"] > 0) == (sign > 0) and ("left out" in model.note_) == (sign < 0)
    assert model.predict_proba(pd.DataFrame(0.0, index=[0], columns=model.coef_.index))[0, 1] == pytest.approx(y.mean())


def test_a_variable_that_is_always_in_stays_whatever_its_p(patients):
    """The signature of a joint model: alone it is the unselected fit, beside others it changes only who else is in."""
    frame, y = patients, patients["node"].to_numpy()
    alone = clinical_pipeline(CLINICAL, p_enter=0.0, always=["Size"]).fit(frame, y)["model"]
    assert alone.selected_variables_ == ("Size",)
    unselected = clinical_pipeline({"size_cm": CLINICAL["size_cm"]}, p_enter=1.1).fit(frame, y)["model"]
    assert alone.coef_["Size"] == pytest.approx(unselected.coef_["Size"], rel=1e-6)
    with pytest.raises(ValueError, match="always names .*Aeg"):
        clinical_pipeline(CLINICAL, always=["Aeg"]).fit(frame, y)
