"""Fusion: plain references, planted truths, what a fold may know, and patients who lack something."""

from __future__ import annotations

import pickle

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from scipy import stats
from scipy.special import expit, logit
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression, LogisticRegressionCV
from sklearn.model_selection import StratifiedKFold
from sklearn.preprocessing import StandardScaler

from alneval.delong import auc
from alneval.folds import patient_level_folds
from alnlib.cohorts.schema import ClinicalVariable
from alnlib.errors import InputError
from alnlib.models.clinical import clinical_pipeline, out_of_fold_by_view, out_of_fold_probabilities
from alnlib.models.fusion import (
    CLIP,
    PatternSubmodels,
    ScoreFusion,
    WeightedVoting,
    by_seed,
    fused_name,
    logit_scale_table,
    logits,
    ridge_fusion,
    score_table,
    withhold,
)

SCORES = ["DL_US", "DL_MRI"]
CLINICAL = {
    "age": ClinicalVariable("Age", "continuous", "years"),
    "er": ClinicalVariable("ER", "nominal", None, ("negative", "positive")),
    "stage": ClinicalVariable("T stage", "ordinal", None, ("T1", "T2", "T3")),
}
TRUE = {"DL_US": 0.8, "DL_MRI": 0.5, "stage": 1.5}
INTERCEPT = -1.2


def made_up_patients(n: int, seed: int) -> tuple[pd.DataFrame, np.ndarray]:
    """Patients whose log odds are INTERCEPT + TRUE'logits (T2 and T3 alike); age and ER tell nothing."""
    rng = np.random.default_rng(seed)
    us = rng.normal(-0.3, 1.2, n)
    mri = 0.3 * us + rng.normal(-0.5, 1.5, n)
    stage = rng.choice(["T1", "T2", "T3"], n, p=[0.5, 0.4, 0.1])
    odds = INTERCEPT + TRUE["DL_US"] * us + TRUE["DL_MRI"] * mri + TRUE["stage"] * (stage != "T1")
    patients = pd.DataFrame(
        {
            "patient_id": [f"P{i:05d}" for i in range(n)],
            "DL_US": expit(us),
            "DL_MRI": expit(mri),
            "age": rng.normal(55, 12, n).round(),
            "er": rng.choice(["negative", "positive"], n),
            "stage": stage,
        }
    )
    return patients, (rng.random(n) < expit(odds)).astype(int)


def with_gaps(patients: pd.DataFrame, seed: int) -> pd.DataFrame:
    """A quarter without US, a quarter without MRI, a fifth without any clinical variable, each at random."""
    rng = np.random.default_rng([seed, 1])  # not the stream that drew the patients
    gaps = patients.copy()
    for columns, share in ((["DL_US"], 0.25), (["DL_MRI"], 0.25), (list(CLINICAL), 0.2)):
        gaps.loc[rng.random(len(gaps)) < share, columns] = np.nan
    return gaps


def plain_logistic(X: pd.DataFrame, y: np.ndarray, columns: list[str]) -> LogisticRegression:
    """scikit-learn's unpenalized logistic regression on the logits of these columns."""
    model = LogisticRegression(C=np.inf, tol=1e-12, max_iter=10_000, solver="newton-cholesky")
    return model.fit(logit(X[columns].to_numpy()), y)


def test_names_as_the_study_writes_them():
    assert fused_name(["DL_US", "DL_MRI"], False) == "DL_MRI+US"
    assert fused_name(["DL_US", "DL_MRI"], True) == "DL_MRI+US+Clinical"
    assert fused_name(["DL_MRI"], True) == "DL_MRI+Clinical"
    with pytest.raises(ValueError, match="at least one score"):
        fused_name([], True)


def test_logits_are_finite_and_refuse_what_is_no_probability():
    values = logits([0, 0.5, 1, np.nan])
    assert values[[0, 2]].tolist() == pytest.approx([np.log(CLIP / (1 - CLIP)), -np.log(CLIP / (1 - CLIP))])
    assert values[1] == 0 and np.isnan(values[3])
    for wrong in (-0.1, 1.5):
        with pytest.raises(ValueError, match="logits are taken here"):
            logits([0.5, wrong])


# score-level fusion against references


def test_score_fusion_is_a_plain_logistic_regression_on_logits():
    """statsmodels Logit (coefficients, Wald intervals) and scikit-learn without penalty, to 1e-6."""
    patients, y = made_up_patients(400, 1)
    ours = ScoreFusion(SCORES).fit(patients, y)
    design = sm.add_constant(logit(patients[SCORES].to_numpy()))
    reference = sm.Logit(y, design).fit(disp=0, tol=1e-12, method="newton")
    table = ours.odds_ratios_.set_index("feature")
    expected = np.exp(np.column_stack([reference.params[1:], reference.conf_int()[1:]]))
    np.testing.assert_allclose(table[["odds_ratio", "low", "high"]].to_numpy(), expected, rtol=1e-6)
    np.testing.assert_allclose(table["p_wald"], reference.pvalues[1:], rtol=1e-6)
    sklearn = plain_logistic(patients, y, SCORES).predict_proba(logit(patients[SCORES].to_numpy()))
    np.testing.assert_allclose(ours.predict_proba(patients), sklearn, atol=1e-6)
    np.testing.assert_allclose(ours.predict_proba(patients)[:, 1], reference.predict(design), atol=1e-8)
    assert (ours.predict(patients) == (sklearn[:, 1] > 0.5)).all()


def test_without_scores_it_is_the_clinical_pipeline():
    patients, y = made_up_patients(1000, 2)
    gaps = with_gaps(patients, 2)
    ours = ScoreFusion([], CLINICAL, p_enter=0.001).fit(gaps, y)
    pipeline = clinical_pipeline(CLINICAL, p_enter=0.001).fit(gaps, y)
    np.testing.assert_array_equal(ours.predict_proba(gaps), pipeline.predict_proba(gaps))
    assert ours.selected_variables_ == pipeline.named_steps["model"].selected_variables_ == ("T stage",)


def test_fusion_with_variables_is_one_logistic_regression_on_what_was_selected():
    """statsmodels Logit on logits and on the two columns of the one variable that passes."""
    patients, y = made_up_patients(500, 3)
    ours = ScoreFusion(SCORES, CLINICAL, p_enter=0.001).fit(patients, y)
    assert ours.selected_variables_ == ("T stage",)
    stage = pd.get_dummies(patients["stage"])[["T2", "T3"]].to_numpy(float)
    design = sm.add_constant(np.column_stack([logit(patients[SCORES].to_numpy()), stage]))
    reference = sm.Logit(y, design).fit(disp=0, tol=1e-12, method="newton")
    np.testing.assert_allclose(ours.odds_ratios_["odds_ratio"], np.exp(reference.params[1:]), rtol=1e-6)
    np.testing.assert_allclose(ours.predict_proba(patients)[:, 1], reference.predict(design), atol=1e-7)


def test_weights_of_a_known_truth_are_recovered():
    """20,000 patients drawn with known coefficients: every estimate within four standard errors, none of them wide."""
    patients, y = made_up_patients(20_000, 4)
    table = ScoreFusion(SCORES, CLINICAL).fit(patients, y).odds_ratios_.set_index("feature")
    truth = {"logit DL_US": 0.8, "logit DL_MRI": 0.5, "T stage: T2": 1.5, "T stage: T3": 1.5}
    for feature, value in truth.items():
        estimate, low, high = np.log(table.loc[feature, ["odds_ratio", "low", "high"]].to_numpy(float))
        error = (high - low) / (2 * stats.norm.ppf(0.975))
        assert abs(estimate - value) < 4 * error and error < 0.1


def test_the_fusion_ranks_better_than_its_parts_and_ignores_a_part_that_is_noise():
    patients, y = made_up_patients(4000, 5)
    unseen, outcome = made_up_patients(4000, 6)
    fused = ScoreFusion(SCORES, CLINICAL).fit(patients, y).predict_proba(unseen)[:, 1]
    truth = INTERCEPT + logit(unseen["DL_US"]) * 0.8 + logit(unseen["DL_MRI"]) * 0.5 + 1.5 * (unseen["stage"] != "T1")
    assert auc(outcome, fused) > max(auc(outcome, unseen[score]) for score in SCORES) + 0.02
    assert auc(outcome, fused) == pytest.approx(auc(outcome, truth), abs=0.005)
    noise = np.random.default_rng(7)
    loud, heard = (frame.assign(DL_MRI=noise.random(len(frame))) for frame in (patients, unseen))
    useless = ScoreFusion(SCORES).fit(loud, y)
    assert useless.odds_ratios_["odds_ratio"].iloc[1] == pytest.approx(1, abs=0.1)
    assert auc(outcome, useless.predict_proba(heard)[:, 1]) == pytest.approx(auc(outcome, unseen["DL_US"]), abs=0.01)


def test_separation_ends_in_finite_odds_ratios_and_a_note():
    patients, y = made_up_patients(60, 8)
    told = patients.assign(DL_US=np.where(y == 1, 0.9, 0.1))
    model = ScoreFusion(SCORES).fit(told, y)
    assert "separation" in model.note_
    assert np.isfinite(model.odds_ratios_[["odds_ratio", "low", "high"]]).all(axis=None)


# missing scores


def test_a_missing_score_is_named_unless_imputed():
    patients, y = made_up_patients(200, 9)
    model = ScoreFusion(SCORES).fit(patients, y)
    patients.loc[3, "DL_MRI"] = np.nan
    with pytest.raises(InputError, match="patient P00003 lacks DL_MRI"):
        model.predict_proba(patients)
    with pytest.raises(InputError, match="PatternSubmodels"):
        ScoreFusion(SCORES).fit(patients, y)
    with pytest.raises(InputError, match="nobody has DL_US"):
        ScoreFusion(SCORES, missing_scores="mean").fit(withhold(patients, ["DL_US"]), y)


def test_mean_imputation_puts_the_training_mean_of_the_logit():
    patients, y = made_up_patients(300, 10)
    gaps = patients.assign(DL_MRI=patients["DL_MRI"].where(patients.index % 3 > 0))
    mean = logit(gaps["DL_MRI"]).mean()
    ours = ScoreFusion(SCORES, missing_scores="mean").fit(gaps, y)
    filled = gaps.assign(DL_MRI=gaps["DL_MRI"].fillna(expit(mean)))
    plain = plain_logistic(filled, y, SCORES)
    elsewhere, _ = made_up_patients(50, 11)
    np.testing.assert_allclose(
        ours.predict_proba(withhold(elsewhere, ["DL_MRI"])),
        plain.predict_proba(np.column_stack([logit(elsewhere["DL_US"]), np.full(50, mean)])),
        atol=1e-6,
    )


@pytest.mark.parametrize("fit_on", ["available", "pattern"])
@pytest.mark.parametrize("parts", [["DL_US"], ["DL_MRI"], SCORES])
def test_a_pattern_is_answered_by_a_plain_logistic_regression_on_its_columns(fit_on, parts):
    """scikit-learn without penalty on the patients who have at least, or exactly, these scores."""
    patients, y = made_up_patients(600, 12)
    gaps = with_gaps(patients, 12)
    model = PatternSubmodels(SCORES, fit_on=fit_on).fit(gaps, y)
    used = gaps[parts].notna().all(axis=1)
    if fit_on == "pattern":
        used &= gaps[[score for score in SCORES if score not in parts]].isna().all(axis=1)
    reference = plain_logistic(gaps[used], y[used], parts)
    asked, _ = made_up_patients(40, 13)
    shown = withhold(asked, [score for score in SCORES if score not in parts])
    np.testing.assert_allclose(
        model.predict_proba(shown), reference.predict_proba(logit(asked[parts].to_numpy())), atol=1e-6
    )
    row = model.patterns_.set_index("pattern").loc["+".join(parts)]
    assert (row["n_fitted_on"], row["n_positive"]) == (used.sum(), y[used].sum())
    assert (row["fitted_on"], row["answered_by"]) == (fit_on, "+".join(parts))


def test_patterns_with_clinical_variables_are_score_fusions_of_those_who_have_them():
    patients, y = made_up_patients(500, 14)
    gaps = with_gaps(patients, 14)
    model = PatternSubmodels(SCORES, CLINICAL).fit(gaps, y)
    assert set(model.patterns_["pattern"]) >= set(model.pattern_of(gaps))
    used = gaps["DL_MRI"].notna() & gaps[list(CLINICAL)].notna().any(axis=1)
    reference = ScoreFusion(["DL_MRI"], CLINICAL).fit(gaps[used], y[used])
    shown = withhold(patients, ["DL_US"])
    np.testing.assert_array_equal(model.predict_proba(shown), reference.predict_proba(shown))
    counts = model.pattern_of(gaps).value_counts()
    own = model.patterns_.set_index("pattern")["n_with_pattern"]
    assert own.sum() == len(gaps)
    assert all(own[pattern] == n for pattern, n in counts.items())


def test_everybody_gets_a_prediction_and_nothing_known_is_the_prevalence():
    patients, y = made_up_patients(500, 15)
    gaps = with_gaps(patients, 15)
    model = PatternSubmodels(SCORES, CLINICAL).fit(gaps, y)
    assert np.isfinite(model.predict_proba(gaps)).all()
    empty = withhold(patients.iloc[:3], [*SCORES, *CLINICAL])
    assert model.predict_proba(empty)[:, 1].tolist() == [y.mean()] * 3
    assert model.pattern_of(empty).tolist() == ["nothing"] * 3


def test_a_pattern_that_training_never_showed_is_fitted_on_those_who_have_more():
    patients, y = made_up_patients(300, 16)
    model = PatternSubmodels(SCORES, fit_on="pattern").fit(patients, y)
    reference = plain_logistic(patients, y, ["DL_MRI"])
    shown = withhold(patients, ["DL_US"])
    expected = reference.predict_proba(logit(patients[["DL_MRI"]].to_numpy()))
    np.testing.assert_allclose(model.predict_proba(shown), expected, atol=1e-6)
    row = model.patterns_.set_index("pattern").loc["DL_MRI"]
    assert (row["n_with_pattern"], row["n_fitted_on"], row["fitted_on"]) == (0, 300, "available")


def test_a_part_that_nobody_had_in_training_is_left_aside():
    patients, y = made_up_patients(300, 17)
    model = PatternSubmodels(SCORES, CLINICAL).fit(withhold(patients, ["DL_MRI"]), y)
    answered = model.patterns_.set_index("pattern")["answered_by"]
    assert answered["DL_US+DL_MRI+clinical"] == "DL_US+clinical"
    assert answered["DL_MRI+clinical"] == "clinical"
    assert answered["DL_MRI"] == "nothing"
    np.testing.assert_array_equal(model.predict_proba(patients), model.predict_proba(withhold(patients, ["DL_MRI"])))
    only_mri = withhold(patients, ["DL_US", *CLINICAL])
    assert set(model.predict_proba(only_mri)[:, 1]) == {y.mean()}


def test_too_few_events_are_no_submodel():
    patients, y = made_up_patients(200, 18)
    rare = patients.copy()
    rare.loc[rare.index[12:], "DL_MRI"] = np.nan
    model = PatternSubmodels(SCORES, min_events=10).fit(rare, y)
    assert model.patterns_.set_index("pattern").loc["DL_US+DL_MRI", "answered_by"] == "DL_US"
    assert set(model.submodels_) == {"DL_US"}


def test_pattern_submodels_stay_right_where_being_missing_says_something():
    """Every second negative lost its MRI, as where only the suspicious are sent there (missing not at random).

    A logistic regression's mean prediction is its patients' event rate: that of the pattern for pattern submodels, which
    models of all who have the columns cannot know (Fletcher Mercaldo & Blume 2020).
    """
    patients, y = made_up_patients(4000, 19)
    lost = (y == 0) & (np.random.default_rng(19).random(4000) < 0.5)
    gaps = patients.assign(DL_MRI=patients["DL_MRI"].where(~lost))
    unseen, outcome = made_up_patients(4000, 20)
    gone = (outcome == 0) & (np.random.default_rng(20).random(4000) < 0.5)
    tested = unseen.assign(DL_MRI=unseen["DL_MRI"].where(~gone))
    risk = {}
    for fit_on in ("available", "pattern"):
        model = PatternSubmodels(SCORES, fit_on=fit_on, min_events=0).fit(gaps, y)
        risk[fit_on] = model.predict_proba(tested)[:, 1]
    # No positive lacks MRI, so nothing can be fitted on that pattern alone: both answer alike, and too high.
    np.testing.assert_allclose(risk["pattern"], risk["available"])
    some = lost | ((y == 1) & (np.random.default_rng(21).random(4000) < 0.1))
    gaps = patients.assign(DL_MRI=patients["DL_MRI"].where(~some))
    gone |= (outcome == 1) & (np.random.default_rng(22).random(4000) < 0.1)
    tested = unseen.assign(DL_MRI=unseen["DL_MRI"].where(~gone))
    for fit_on in ("available", "pattern"):
        risk[fit_on] = PatternSubmodels(SCORES, fit_on=fit_on).fit(gaps, y).predict_proba(tested)[:, 1]
    rate = outcome[gone].mean()
    assert risk["pattern"][gone].mean() == pytest.approx(rate, abs=0.03)
    assert risk["available"][gone].mean() > rate + 0.15


# voting


def test_voting_weights_are_in_proportion_to_auc_above_chance():
    patients, y = made_up_patients(400, 23)
    model = WeightedVoting(SCORES).fit(patients, y)
    above = np.array([auc(y, patients[score]) - 0.5 for score in SCORES])
    np.testing.assert_allclose(model.weights_, above / above.sum())
    np.testing.assert_allclose(model.predict_proba(patients)[:, 1], patients[SCORES].to_numpy() @ (above / above.sum()))
    upside_down = patients.assign(DL_MRI=1 - patients["DL_MRI"])
    assert WeightedVoting(SCORES).fit(upside_down, y).weights_.tolist() == [1, 0]
    hopeless = upside_down.assign(DL_US=0.5)
    assert WeightedVoting(SCORES).fit(hopeless, y).weights_.tolist() == [0.5, 0.5]


def test_votes_of_those_who_are_there():
    patients, y = made_up_patients(100, 24)
    shown = pd.DataFrame({"DL_US": [0.2, np.nan, 0.2, np.nan], "DL_MRI": [0.6, 0.6, np.nan, np.nan]})
    model = WeightedVoting(SCORES, weights="equal").fit(patients, y)
    np.testing.assert_allclose(model.predict_proba(shown)[:, 1], [0.4, 0.6, 0.2, y.mean()])
    np.testing.assert_allclose(model.predict_proba(patients)[:, 1], patients[SCORES].mean(axis=1))
    silent = WeightedVoting(SCORES).fit(patients.assign(DL_MRI=1 - patients["DL_MRI"]), y)
    np.testing.assert_allclose(silent.predict_proba(shown)[:, 1], [0.2, 0.6, 0.2, y.mean()])
    with pytest.raises(ValueError, match="weights"):
        WeightedVoting(SCORES, weights="some").fit(patients, y)


def test_the_clinical_vote_is_weighed_out_of_fold():
    """On 40 variables of pure noise the model fits its own patients well; in folds its AUC is near 0.5."""
    patients, y = made_up_patients(150, 25)
    rng = np.random.default_rng(125)
    noise = {f"x{i}": ClinicalVariable(f"X{i}", "continuous") for i in range(40)}
    loud = patients.assign(**{name: rng.normal(size=150) for name in noise})
    model = WeightedVoting(["DL_US"], noise, p_enter=1.1).fit(loud, y)
    fitted = auc(y, model.clinical_model_.predict_proba(loud)[:, 1])
    assert fitted > 0.75 and model.aucs_["clinical"] < 0.62
    assert model.weights_["clinical"] < 0.4
    reference = clinical_pipeline(noise, p_enter=1.1).fit(loud, y).predict_proba(loud)[:, 1]
    votes = np.column_stack([loud["DL_US"], reference]) @ model.weights_.to_numpy()
    np.testing.assert_allclose(model.predict_proba(loud)[:, 1], votes)


def test_ridge_is_scikit_learns_on_standardized_logits():
    patients, y = made_up_patients(240, 26)
    values = StandardScaler().fit_transform(logit(patients[SCORES].to_numpy()))
    reference = LogisticRegressionCV(
        Cs=np.logspace(-3, 2, 11),
        cv=StratifiedKFold(5, shuffle=True, random_state=3),
        l1_ratios=(0.0,),
        scoring="neg_log_loss",
        solver="newton-cholesky",
        max_iter=1000,
        use_legacy_attributes=False,
    ).fit(values, y)
    ours = ridge_fusion(SCORES, seed=3).fit(patients, y).predict_proba(patients)
    np.testing.assert_allclose(ours, reference.predict_proba(values), atol=1e-9)
    gaps = with_gaps(patients, 26)
    assert np.isfinite(ridge_fusion(SCORES, CLINICAL).fit(gaps, y).predict_proba(gaps)).all()


# folds and leaks


def every_fusion() -> dict[str, object]:
    return {
        "score": ScoreFusion(SCORES, CLINICAL),
        "patterns": PatternSubmodels(SCORES, CLINICAL),
        "voting": WeightedVoting(SCORES, CLINICAL, n_folds=3),
        "ridge": ridge_fusion(SCORES, CLINICAL, n_folds=3),
    }


@pytest.mark.parametrize("name", list(every_fusion()))
def test_a_patients_own_label_does_not_touch_the_patients_score(name):
    """Flip every label of one fold: that fold's scores stay, the other folds' move."""
    patients, y = made_up_patients(150, 27)
    fold = patient_level_folds(y, patients["patient_id"], 3, np.random.default_rng(0))
    flipped = np.where(fold == 1, 1 - y, y)
    model = every_fusion()[name]
    before, after = (out_of_fold_probabilities(model, patients, labels, fold) for labels in (y, flipped))
    np.testing.assert_array_equal(before[fold == 1], after[fold == 1])
    assert (before[fold != 1] != after[fold != 1]).all()


@pytest.mark.parametrize("name", list(every_fusion()))
def test_permuted_labels_give_chance_out_of_fold_and_not_in_sample(name):
    """Eight permutations: the mean AUC of pooled out-of-fold scores is near 0.5, or below it (pooling folds pulls it down,
    Parker et al. 2007, BMC Bioinformatics 8:326). In-sample AUCs are well above, which is what a leak would look like; voting
    fits next to nothing, so it has no such gap."""
    patients, y = made_up_patients(120, 28)
    rng = np.random.default_rng(128)
    model = every_fusion()[name]
    outside, inside = [], []
    for _ in range(8):
        labels = rng.permutation(y)
        fold = patient_level_folds(labels, patients["patient_id"], 3, rng)
        outside.append(auc(labels, out_of_fold_probabilities(model, patients, labels, fold)))
        inside.append(auc(labels, clone(model).fit(patients, labels).predict_proba(patients)[:, 1]))
    error = np.std(outside, ddof=1) / np.sqrt(len(outside))
    assert 0.35 < np.mean(outside) < 0.5 + 3 * error
    assert name == "voting" or np.mean(inside) > np.mean(outside) + 0.05


@pytest.mark.parametrize("name", ["score", "patterns", "voting"])
def test_the_order_of_patients_is_irrelevant(name):
    patients, y = made_up_patients(200, 29)
    patients = patients if name == "score" else with_gaps(patients, 29)
    shuffled = np.random.default_rng(29).permutation(len(patients))
    model = every_fusion()[name]
    one = clone(model).fit(patients, y).predict_proba(patients)
    other = clone(model).fit(patients.iloc[shuffled], y[shuffled]).predict_proba(patients)
    np.testing.assert_allclose(one, other, atol=1e-10)


@pytest.mark.parametrize("name", list(every_fusion()))
def test_a_fitted_fusion_survives_pickling_and_fits_the_same_twice(name):
    patients, y = made_up_patients(150, 30)
    fitted = clone(every_fusion()[name]).fit(patients, y)
    expected = fitted.predict_proba(patients)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(fitted)).predict_proba(patients), expected)
    np.testing.assert_array_equal(clone(fitted).fit(patients, y).predict_proba(patients), expected)
    np.testing.assert_allclose(expected.sum(axis=1), 1)


def test_views_are_fitted_once_on_everything_and_shown_less():
    patients, y = made_up_patients(200, 31)
    fold = patient_level_folds(y, patients["patient_id"], 4, np.random.default_rng(1))
    model = PatternSubmodels(SCORES)
    views = {"all": patients, "without MRI": withhold(patients, ["DL_MRI"])}
    scored = out_of_fold_by_view(model, patients, y, fold, views)
    np.testing.assert_array_equal(scored["all"], out_of_fold_probabilities(model, patients, y, fold))
    own = out_of_fold_probabilities(ScoreFusion(["DL_US"]), patients, y, fold)
    np.testing.assert_allclose(scored["without MRI"], own, atol=1e-12)
    with pytest.raises(ValueError, match="same order"):
        out_of_fold_by_view(model, patients, y, fold, {"all": patients.iloc[::-1]})


# the two kinds of score


def test_the_scale_table_describes_logits_by_score_and_split():
    rng = np.random.default_rng(36)
    parts = {"train": rng.normal(0, 9, 50), "cross_validation": rng.normal(-0.5, 1.6, 55), "test": rng.normal(0, 1, 20)}
    rows = [
        pd.DataFrame({"model": model, "split": split, "y_score": expit(factor * values)})
        for model, factor in {"DL_US": 1, "DL_MRI": 2, "clinical": 3}.items()
        for split, values in parts.items()
    ]
    table = logit_scale_table(pd.concat(rows), ["DL_US", "DL_MRI"]).set_index(["model", "split"])
    assert table.index.tolist() == [
        (model, split) for model in ("DL_US", "DL_MRI") for split in ("cross_validation", "test")
    ]
    held = parts["test"]
    assert table.loc[("DL_MRI", "test")].tolist() == pytest.approx([20, 2 * held.mean(), 2 * held.std(ddof=1)])


@pytest.fixture
def predictions() -> pd.DataFrame:
    """Rows of one model: 25 validation patients with both kinds of score, 30 others out of fold, 20 tested."""
    rng = np.random.default_rng(36)
    folds = rng.normal(-0.5, 1.6, 55)
    final = 0.6 * folds[:25] + rng.normal(0.3, 0.5, 25)
    parts = [("cross_validation", 0, folds), ("validation", 0, final), ("test", 100, rng.normal(0, 1, 20))]
    rows = [
        pd.DataFrame(
            {
                "study": "tang",
                "model": "DL_US",
                "split": split,
                "patient_id": [f"P{first + i:03d}" for i in range(len(values))],
                "unit_id": "",
                "y_true": 0,
                "y_score": expit(values),
            }
        )
        for split, first, values in parts
    ]
    return pd.concat(rows, ignore_index=True)


def test_score_table_is_by_patient_and_refuses_several_rows(predictions):
    table = score_table(predictions, SCORES, "validation", "test")
    assert table.shape == (45, 2) and table["DL_MRI"].isna().all()
    assert table.loc["P003", "DL_US"] == predictions.query("split == 'validation'")["y_score"].iloc[3]
    assert score_table(predictions, [], "test").shape[1] == 0
    with pytest.raises(ValueError, match="several rows"):
        score_table(predictions, ["DL_US"], "cross_validation", "validation")


def test_patients_with_the_scores_of_single_fits(predictions):
    """Seed 1 of both scores exists, seed 0 of one alone: only seed 1 is a fusion of its own."""
    rows = predictions.assign(role="main")
    parts = {"DL_US/seed 0": 0.1, "DL_US/seed 1": 0.2, "DL_MRI/seed 1": 0.3}
    fits = [rows.assign(model=name, role="member", y_score=value) for name, value in parts.items()]
    ids = sorted(rows.loc[rows["split"] == "test", "patient_id"])
    patients = pd.DataFrame({"patient_id": ids, "age": 50, "DL_US": 0.5, "DL_MRI": 0.5})
    found = by_seed(pd.concat([rows, *fits[:2], fits[2]]).query("split == 'test'"), SCORES, patients)
    assert list(found) == ["seed 1"]
    (seen,) = found["seed 1"]
    assert (seen["DL_US"] == 0.2).all() and (seen["DL_MRI"] == 0.3).all() and (seen["age"] == 50).all()
    assert by_seed(rows, SCORES, patients) == {}
