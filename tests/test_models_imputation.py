"""Multiple imputation of clinical variables. Truth: mice 3.15.0 (references/imputation), data whose missing values are known, and
what must not matter: neighbors, order, the labels of whoever is scored."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from alnlib.cohorts.schema import ClinicalVariable
from alnlib.errors import InputError
from alnlib.models.clinical import (
    ImputingEncoder,
    UnivariableThenMultivariableLogistic,
    clinical_pipeline,
    cross_validated_scores,
    imputation_table,
    out_of_fold_by_imputation,
    penalized_clinical_pipeline,
    risk_equation,
    scores_by_imputation,
    univariable_table,
)
from alnlib.models.imputation import n_imputations_for
from alnlib.models.nomogram import nomogram_scales

REFERENCES = Path(__file__).parent / "references"
CLINICAL = {
    "age": ClinicalVariable("Age", "continuous", "year"),
    "size_cm": ClinicalVariable("Size", "continuous", "cm"),
    "er": ClinicalVariable("ER", "nominal", None, ("negative", "positive")),
    "stage": ClinicalVariable("Clinical T stage", "ordinal", None, ("T1", "T2", "T3")),
    "subtype": ClinicalVariable("Subtype", "nominal", None, ("luminal", "HER2", "triple negative")),
}
MARKER = {
    "marker": ClinicalVariable("Marker", "nominal", None, ("low", "high")),
    "size_cm": ClinicalVariable("Size", "continuous", "cm"),
}


@pytest.fixture
def patients() -> pd.DataFrame:
    """240 synthetic patients, 36 with a missing value: references/clinical/make_patients.py."""
    return pd.read_csv(REFERENCES / "clinical" / "clinical_reference.csv", dtype={"patient_id": str})


def fitted(patients: pd.DataFrame, clinical=CLINICAL, **settings):
    return clinical_pipeline(clinical, **{"n_imputations": 6, "seed": 1} | settings).fit(patients, patients["node"])


def test_odds_ratios_and_selection_over_imputations_agree_with_mice():
    """mice::pool of glm on the five imputations of imputed.csv, which mice made; D3 as Meng & Rubin 1992 write it, in R. That of
    mice fits the intercept anew beside the pooled slopes, and is a little off from both."""
    imputed = pd.read_csv(REFERENCES / "imputation" / "imputed.csv")
    expected = pd.read_csv(REFERENCES / "imputation" / "pooled.csv")
    features = {"age": imputed["age"], "size_cm": imputed["size_cm"], "er": imputed["er"] == "positive"}
    features |= {"stageT2": imputed["stage"] == "T2", "stageT3": imputed["stage"] == "T3"}
    coded = pd.DataFrame(features).astype(float).assign(imputation=imputed[".imp"], patient=imputed[".id"])
    X = (
        coded.pivot(index="patient", columns="imputation")
        .swaplevel(axis=1)
        .sort_index(axis=1, level=0, sort_remaining=False)
    )
    y = imputed.query("`.imp` == 1")["node"].to_numpy()
    groups = {"stageT2": "stage", "stageT3": "stage"}
    model = UnivariableThenMultivariableLogistic(p_enter=1.1, groups=groups).fit(X, y)
    tests = expected.query("kind == 'D3' and key == 'p'").set_index("name")["value"]
    ours = model.univariable_.set_index("variable")["p_likelihood_ratio"]
    for name, p in tests.items():
        assert ours[name] == pytest.approx(p, rel=1e-6)
    of_mice = expected.query("kind == 'D3 of mice' and key == 'p'").set_index("name")["value"]
    assert len(of_mice) == 3 and all(ours[name] == pytest.approx(p, rel=0.05) for name, p in of_mice.items())
    pooled = expected.query("kind == 'pool'").pivot(index="name", columns="key", values="value")
    pooled = pooled.rename({"erpositive": "er"})
    assert model.intercept_ == pytest.approx(pooled.loc["(Intercept)", "estimate"], rel=1e-6)
    for row in model.odds_ratios_.itertuples():
        mice = pooled.loc[row.feature]
        assert np.log(row.odds_ratio) == pytest.approx(mice["estimate"], rel=1e-6)
        assert row.missing_information == pytest.approx(mice["missing"], rel=1e-6)
        reach = stats.t.ppf(0.975, mice["degrees"]) * mice["standard_error"]
        assert np.log([row.low, row.high]) == pytest.approx(
            [mice["estimate"] - reach, mice["estimate"] + reach], rel=1e-6
        )
        p = 2 * stats.t.sf(abs(mice["estimate"] / mice["standard_error"]), mice["degrees"])
        assert row.p_wald == pytest.approx(p, rel=1e-5)


def test_a_test_that_is_done_in_one_group_does_not_predict_it():
    """A marker that says nothing, mostly not measured in patients without the outcome, as where surgery comes first. The most
    frequent level for whoever lacks it makes a predictor of it; draws leave it as far from one as complete cases are."""
    kept = {"single": 0, "drawn": 0, "complete": 0}
    for seed in range(40):
        rng = np.random.default_rng(seed)
        y = rng.permutation(np.arange(200) % 2)
        marker = pd.Series(rng.choice(["low", "high"], 200, p=[0.6, 0.4])).mask(
            rng.random(200) < np.where(y == 1, 0.05, 0.6)
        )
        frame = pd.DataFrame({"marker": marker, "size_cm": rng.normal(2, 0.5, 200), "node": y})
        kept["single"] += "Marker" in fitted(frame, MARKER, n_imputations=1)["model"].selected_variables_
        kept["drawn"] += "Marker" in fitted(frame, MARKER, n_imputations=10)["model"].selected_variables_
        kept["complete"] += univariable_table(frame, MARKER, "node")["p_likelihood_ratio"].iloc[0] < 0.05
    assert kept["single"] >= 20 and kept["drawn"] <= 6 and abs(kept["drawn"] - kept["complete"]) <= 4


def test_a_grade_that_other_scores_fix_is_drawn_as_it_is():
    """Grade is the sum of three scores; where it is missing they tell it, and its p is that of the patients as they are. With
    complete cases, or the most frequent grade, the Duke sheet loses it: p 0.13 and 0.12, where the sums give 0.024."""
    levels = ("1", "2", "3")
    rng = np.random.default_rng(8)
    n = 500
    scores = pd.DataFrame({name: rng.choice(levels, n, p=[0.2, 0.4, 0.4]) for name in ("tubule", "nuclear", "mitotic")})
    total = scores.astype(int).sum(axis=1)
    grade = pd.Series(np.select([total <= 5, total <= 7], ["1", "2"], "3"))
    y = rng.binomial(1, 1 / (1 + np.exp(0.2 - 0.2 * (total - 6))))
    clinical = {name: ClinicalVariable(name, "ordinal", None, levels) for name in (*scores, "grade")}
    gone = rng.random(n) < 0.35
    frame = scores.assign(grade=grade.mask(gone), node=y)
    codes = ImputingEncoder(clinical, 20, 1).fit_transform(frame, y)
    drawn = np.stack([codes[k][["grade: 2", "grade: 3"]].to_numpy()[gone] for k in range(20)])
    truth = np.column_stack([grade == "2", grade == "3"])[gone]
    assert (drawn == truth).all(axis=2).mean() > 0.9
    p = {m: fitted(frame, clinical, n_imputations=m)["model"].univariable_ for m in (1, 20)}
    p = {m: table.set_index("variable").loc["grade", "p_likelihood_ratio"] for m, table in p.items()}
    full = univariable_table(frame.assign(grade=grade), clinical, "node").query("variable == 'grade'")
    full = np.log(full["p_likelihood_ratio"].dropna().iloc[0])
    assert abs(np.log(p[20]) - full) < 0.5 * abs(np.log(p[1]) - full)


def test_intervals_cover_where_complete_cases_are_biased():
    """Missing at random given the outcome and the size: 95 % intervals hold the true coefficients, those of complete cases of
    an odds ratio of size do not. 100 cohorts; between 89 and 100 of them is what chance allows around 95."""
    covered, biased, truth = np.zeros(2), 0, {"Size": 0.8, "Marker: high": 0.7}
    for seed in range(100):
        rng = np.random.default_rng(1000 + seed)
        size, marker = rng.normal(0, 1, 400), rng.random(400) < 0.4
        y = rng.binomial(1, 1 / (1 + np.exp(0.5 - 0.8 * size - 0.7 * marker)))
        gone = rng.random(400) < np.where((y == 1) & (size > 0), 0.7, 0.1)
        frame = pd.DataFrame({"marker": np.where(marker, "high", "low"), "size_cm": size, "node": y})
        frame["marker"] = frame["marker"].mask(gone)
        model = fitted(frame, MARKER, p_enter=1.1, n_imputations=8)["model"].odds_ratios_.set_index("feature")
        covered += [model.loc[name, "low"] < np.exp(b) < model.loc[name, "high"] for name, b in truth.items()]
        complete = frame[~gone]
        alone = fitted(complete, MARKER, p_enter=1.1)["model"].odds_ratios_.set_index("feature")
        biased += not alone.loc["Size", "low"] < np.exp(0.8) < alone.loc["Size", "high"]
    assert (covered >= 89).all() and biased > 50


def test_drawn_values_are_values_that_somebody_has(patients):
    y = patients["node"].to_numpy()
    encoder = ImputingEncoder(CLINICAL, 8, 3)
    completed = encoder.fit_transform(patients, y)
    unknown = patients.head(30).assign(**dict.fromkeys(CLINICAL, np.nan))
    for table, frame in ((completed, patients), (encoder.transform(unknown), unknown)):
        assert table.columns.unique(0).tolist() == list(range(8))
        for k in range(8):
            assert set(table[k]["Age"]) <= set(patients["age"].dropna())
            levels = table[k].drop(columns=["Age", "Size"])
            assert set(np.unique(levels)) <= {0.0, 1.0}
            known = frame["age"].notna()
            assert (table[k].loc[known, "Age"] == frame.loc[known, "age"]).all()
    spread = np.stack([completed[k].loc[patients["age"].isna(), "Age"] for k in range(8)]).std(axis=0)
    assert (spread > 0).any()


def test_without_missing_values_nothing_changes(patients):
    complete = patients.dropna()
    drawn, single = fitted(complete), fitted(complete, n_imputations=1)
    pd.testing.assert_frame_equal(risk_equation(drawn), risk_equation(single))
    np.testing.assert_array_equal(drawn.predict_proba(complete), single.predict_proba(complete))
    assert scores_by_imputation(drawn, complete).shape == (len(complete), 1)


def test_a_score_depends_on_nobody_else_and_on_no_label(patients):
    model = fitted(patients.iloc[:160])
    rest = patients.iloc[160:]
    together = pd.Series(model.predict_proba(rest)[:, 1], rest["patient_id"])
    assert rest[list(CLINICAL)].isna().any(axis=1).sum() > 5
    shuffled = rest.sample(frac=1, random_state=0)
    np.testing.assert_allclose(model.predict_proba(shuffled)[:, 1], together[shuffled["patient_id"]], atol=1e-12)
    for place in range(0, len(rest), 7):
        alone = model.predict_proba(rest.iloc[[place]])[0, 1]
        assert alone == pytest.approx(together.iloc[place], abs=1e-12)
    other_label = rest.assign(node=1 - rest["node"])
    np.testing.assert_array_equal(model.predict_proba(other_label)[:, 1], together)


def test_folds_learn_nothing_from_held_out_patients(patients):
    y, held_out = patients["node"].to_numpy(), np.arange(len(patients)) % 5 == 0
    strange = patients.assign(age=patients["age"].where(~held_out | patients["age"].isna(), 500.0))
    pipeline = clinical_pipeline(CLINICAL, n_imputations=5, seed=1)
    score = out_of_fold_by_imputation(pipeline, strange, y, held_out.astype(int))
    alone = clinical_pipeline(CLINICAL, n_imputations=5, seed=1).fit(patients[~held_out], y[~held_out])
    np.testing.assert_array_equal(score[held_out], scores_by_imputation(alone, strange[held_out]))
    once = cross_validated_scores(pipeline, patients, y, np.random.default_rng(3), n_repeats=1)
    draws = out_of_fold_by_imputation(pipeline, patients, y, once["fold"].to_numpy())
    np.testing.assert_allclose(draws.mean(axis=1), once["y_score"], rtol=1e-12)


def test_the_written_equation_is_the_pooled_model(patients):
    """A patient without a missing value, by hand; and one of whom nothing is known stands for a mean over draws."""
    model = fitted(patients, p_enter=0.5)
    terms = risk_equation(model).set_index("feature")
    assert {"missing_as", "missing_information", "low", "high", "p_wald"} <= set(terms)
    complete = patients.dropna()
    encoded = ImputingEncoder(CLINICAL, 2).fit_transform(complete, complete["node"])[0]
    used = [name for name in terms.index if name in encoded]
    total = terms["coefficient"].iloc[0] + encoded[used].to_numpy() @ terms.loc[used, "coefficient"].to_numpy()
    np.testing.assert_allclose(model.predict_proba(complete)[:, 1], 1 / (1 + np.exp(-total)), rtol=1e-12)
    assert set(terms.loc[[n for n in used if ":" in n], "missing_as"]) <= {0.0, 1.0}
    assert terms.loc["Size", "missing_as"] == patients["size_cm"].median()
    unknown = patients.head(1).assign(**dict.fromkeys(CLINICAL, np.nan))
    each = scores_by_imputation(model, unknown)
    assert model.predict_proba(unknown)[0, 1] == pytest.approx(each.mean()) and each.std() > 0
    assert 1 / (1 + np.exp(-model.decision_function(unknown)[0])) == pytest.approx(each.mean())
    assert nomogram_scales(model)["axis"].isin(["Size"]).any()


@pytest.mark.parametrize("pipeline", [clinical_pipeline(CLINICAL, n_imputations=4), clinical_pipeline(CLINICAL)])
def test_a_variable_that_no_training_patient_of_a_fold_has_is_left_out_there(patients, pipeline):
    nobody = patients.assign(er=pd.Series(np.nan, index=patients.index, dtype=object), age=np.nan)
    nobody.loc[5, "er"], nobody.loc[5, "age"] = "positive", 63.0
    score = cross_validated_scores(pipeline, nobody, nobody["node"], np.random.default_rng(1), n_repeats=1)
    assert score["y_score"].between(0, 1).all()
    model = pipeline.fit(nobody.drop(index=5), nobody["node"].drop(index=5))
    assert not {"ER", "Age"} & set(model["model"].selected_variables_)
    known, unknown = (
        model.predict_proba(nobody.loc[[5]]),
        model.predict_proba(nobody.loc[[5]].assign(er=None, age=np.nan)),
    )
    assert known[0, 1] == pytest.approx(unknown[0, 1], abs=0.1)
    fold_without = penalized_clinical_pipeline(CLINICAL).fit(nobody.drop(index=5), nobody["node"].drop(index=5))
    assert 0 < fold_without.predict_proba(nobody.loc[[5]])[0, 1] < 1


def test_values_missing_or_levels_seen_only_among_those_scored(patients):
    complete = patients.dropna().query("stage != 'T3'")
    model = fitted(complete, p_enter=1.1)
    late = complete.head(4).assign(stage=["T3", "T3", "T1", None], age=[np.nan, 50, np.nan, 40])
    score = scores_by_imputation(model, late)
    assert score.shape == (4, 6) and ((score > 0) & (score < 1)).all()
    assert score[0].std() > 0 and np.ptp(score[1]) < 1e-15
    first = late.iloc[[1]]
    assert model.predict_proba(first)[0, 1] == pytest.approx(model.predict_proba(first.assign(stage="T1"))[0, 1])
    assert "Clinical T stage: T3" in model["model"].note_


def test_separation_in_an_imputation_is_said_and_has_finite_intervals(patients):
    separated = patients.assign(node=patients["node"].where(patients["stage"] != "T3", 1))
    model = fitted(separated)["model"]
    assert "separation by Clinical T stage: T3" in model.note_ and "Firth" in model.note_
    assert np.isfinite(model.odds_ratios_[["odds_ratio", "low", "high"]]).all(axis=None)
    stage = model.univariable_.set_index("variable").loc["Clinical T stage"]
    assert stage["p_likelihood_ratio"] < 1e-5 and "D2" in stage["note"]


def test_few_positives_a_constant_and_a_single_variable(patients):
    few = patients.head(40).assign(er="positive", node=0)
    few.loc[[3, 11, 29], "node"] = 1
    model = fitted(few, p_enter=1.1)
    assert np.isfinite(model.predict_proba(patients)).all() and "ER: positive" in model["model"].note_
    for column in ("age", "er", "stage", "subtype"):
        alone = fitted(patients, {column: CLINICAL[column]}, p_enter=1.1)
        assert alone["model"].selected_variables_ == (CLINICAL[column].label,)
        assert ((alone.predict_proba(patients) > 0) & (alone.predict_proba(patients) < 1)).all()
    tiny = patients.iloc[[0, 1, 2, 3, 4, 5]].assign(node=[0, 1, 0, 1, 0, 1], age=[50, np.nan, 61, 55, np.nan, 43.0])
    assert np.isfinite(fitted(tiny).predict_proba(tiny)).all()


def test_what_fixes_a_feature_in_truth_is_not_undone_by_draws(patients):
    """HER2 repeats a level of the subtype. Draws that contradict each other must not be what its coefficient rests on."""
    her2 = pd.Series(np.where(patients["subtype"] == "HER2", "yes", "no"), dtype=object)
    clinical = CLINICAL | {"her2": ClinicalVariable("HER2", "nominal", None, ("no", "yes"))}
    gone = np.random.default_rng(4).random((2, len(patients))) < 0.15
    frame = patients.assign(subtype=patients["subtype"].mask(gone[0]), her2=her2.mask(gone[1]))
    model = fitted(frame, clinical, p_enter=1.1)["model"]
    assert "no separate effect" in model.note_ and "HER2: yes" in model.note_
    assert model.odds_ratios_["high"].max() < 100


def test_the_table_of_what_missing_values_cost(patients):
    y = patients["node"].to_numpy()
    scores = scores_by_imputation(fitted(patients), patients)
    split = np.where(np.arange(len(y)) < 150, "train", "test")
    split[:5] = np.where(y[:5] == 1, "external", split[:5])
    table = imputation_table(split, y, scores).set_index("split")
    assert set(table.index) == {"train", "test"} and (table["m"] == 6).all()
    assert table["missing_information"].between(0, 1).all() and (table["auc_low"] < table["auc"]).all()
    single = imputation_table(split, y, scores[:, [0]])
    assert (single["missing_information"] == 0).all() and (single["m"] == 1).all()


@pytest.mark.parametrize("m", [1, 6])
def test_nobody_to_score_and_nothing_selected(patients, m):
    model = fitted(patients, n_imputations=m)
    assert model.predict_proba(patients.head(0)).shape == (0, 2)
    prevalence = fitted(patients, p_enter=0.0, n_imputations=m)
    np.testing.assert_allclose(prevalence.predict_proba(patients)[:, 1], patients["node"].mean(), atol=1e-9)
    assert risk_equation(prevalence)["feature"].tolist() == ["(Intercept)"]


def test_how_often_a_value_is_drawn():
    assert [n_imputations_for(0, simulated) for simulated in (True, False)] == [1, 20]
    assert n_imputations_for(1, False) == 1 and n_imputations_for(50, True) == 50
    with pytest.raises(InputError, match="n_imputations is -2"):
        n_imputations_for(-2, False)
