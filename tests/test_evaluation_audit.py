"""Every audit catches the leak that the test planted and passes the same pipeline without it, over seeds.

Truth is planted: the clean data come from the same generator as the leaking ones. Where an audit rests on a test, the number
of false alarms over seeds is held to what its confidence allows (binomial, 99.9 % bound).
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn.pipeline import make_pipeline

from alneval.audit import (
    Audit,
    accuracy_threshold,
    audit_attainable,
    audit_center_score,
    audit_duplicate_images,
    audit_duplicate_rows,
    audit_metadata,
    audit_out_of_fold,
    audit_patient_overlap,
    audit_permuted_labels,
    audit_predictions,
    audit_predictors,
    audit_table,
    audit_threshold,
    audit_trained_on_test,
    threshold_optimism,
    threshold_optimism_table,
)
from alneval.resplit import CrossValidated, permuted_label_twin
from alneval.thresholds import youden_threshold
from alneval.units import Units
from alnlib.imaging.crop import resample_to_square
from alnlib.imaging.duplicates import THUMBNAIL_PX, find_duplicates
from tests.test_evaluation_resplit import MODEL, SELECTOR, SelectedOutside, table
from tests.test_imaging_duplicates import jpeg, speckle

SEEDS = range(10)


def caught(audit: Audit, words: str) -> None:
    """The audit failed and says why."""
    assert audit.passed is False
    assert audit.result == "failed"
    assert words in audit.finding


def clean(audit: Audit) -> None:
    assert audit.passed is True, str(audit)


def most_false_alarms(n: int, rate: float) -> int:
    """How many of n clean runs may fail at this rate, but for 1 chance in 1,000."""
    return int(stats.binom.ppf(0.999, n, rate))


def scores(n: int, effect: float, rng: np.random.Generator) -> Units:
    y = rng.permutation(np.arange(n) < 0.4 * n).astype(int)
    return Units.of(y, 1 / (1 + np.exp(-(effect * (y - 0.5) + rng.normal(size=n)))))


# 1. patient overlap


@pytest.mark.parametrize("seed", SEEDS)
def test_a_patient_in_two_splits_is_caught(seed):
    rng = np.random.default_rng(seed)
    patients = np.repeat([f"p{i}" for i in range(100)], 2)
    by_patient = np.repeat(rng.choice(["train", "validation", "test"], 100), 2)
    rows = pd.DataFrame({"patient_id": patients, "split": by_patient})
    clean(audit_patient_overlap(rows))
    leaking = rows.copy()
    victim = int(rng.integers(200))
    leaking.loc[victim, "split"] = "test" if rows["split"][victim] != "test" else "train"
    caught(audit_patient_overlap(leaking), patients[victim])
    by_image = rows.assign(split=rng.permutation(by_patient))
    caught(audit_patient_overlap(by_image, "split by image"), "patients are in two splits")


def test_out_of_fold_rows_overlap_by_design_and_frozen_splits_count():
    rows = pd.DataFrame({"patient_id": ["a", "a", "b"], "split": ["train", "cross_validation", "test"]})
    frozen = pd.DataFrame({"patient_id": ["a", "b"], "split": ["train", "test"]})
    clean(audit_patient_overlap(rows, splits=frozen))
    caught(
        audit_patient_overlap(rows, splits=frozen.assign(split=["test", "test"])), "not in the split that was frozen"
    )
    assert audit_patient_overlap(rows[1:2]).result == "not applicable"


def test_a_patient_scored_out_of_fold_may_not_be_a_test_patient():
    """Models fitted to all development patients have cross_validation rows in place of training and validation."""
    rows = pd.DataFrame({"patient_id": ["a", "b", "c"], "split": ["cross_validation", "cross_validation", "test"]})
    frozen = pd.DataFrame({"patient_id": ["a", "b", "c"], "split": ["train", "validation", "test"]})
    clean(audit_patient_overlap(rows, splits=frozen))
    caught(audit_patient_overlap(rows.assign(patient_id=["a", "c", "c"])), "c")
    caught(audit_patient_overlap(rows, splits=frozen.assign(split=["test"] * 3)), "not in the split that was frozen")
    beside = pd.DataFrame(
        {"patient_id": ["a", "b", "c"] * 2, "split": ["train", "validation", "test"] + ["cross_validation"] * 3}
    )
    both = pd.concat([rows.assign(model="network"), beside.assign(model="clinical")], ignore_index=True)
    clean(audit_patient_overlap(both, splits=frozen))
    both.loc[0, "patient_id"] = "c"
    caught(audit_patient_overlap(both), "c")


# 2. duplicate images


def still_table(n: int, seed: int) -> tuple[list[np.ndarray], pd.DataFrame]:
    images = pd.DataFrame({"image_id": [f"i{at}" for at in range(n)], "patient_id": [f"p{at}" for at in range(n)]})
    return speckle(n, seed), images.assign(split=np.resize(["train", "test", "validation"], n))


@pytest.mark.parametrize("seed", range(3))
def test_a_duplicate_image_across_splits_is_caught(seed):
    """Patient 0 (train) comes again as patient 30 (test), resized, recompressed, mirrored and brighter."""
    pictures, images = still_table(31, seed)
    thumbs = np.stack([resample_to_square(picture, THUMBNAIL_PX) for picture in pictures])
    clean(audit_duplicate_images(find_duplicates(thumbs, images["patient_id"]), images))
    images.loc[30, "split"] = "test"
    thumbs[30] = resample_to_square(jpeg(0.8 * pictures[0][:, ::-1] + 30, 50), THUMBNAIL_PX)
    audit = audit_duplicate_images(find_duplicates(thumbs, images["patient_id"]), images)
    caught(audit, "i0 (train) and i30 (test)")
    assert bool(audit.evidence["mirrored"].iloc[0])


def test_a_patient_enrolled_twice_in_one_split_is_told_and_not_failed():
    pictures, images = still_table(10, 0)
    images.loc[9, "split"] = images["split"][0]
    thumbs = np.stack([resample_to_square(picture, THUMBNAIL_PX) for picture in [*pictures[:9], pictures[0]]])
    audit = audit_duplicate_images(find_duplicates(thumbs, images["patient_id"]), images)
    clean(audit)
    assert "1 within a split" in audit.finding
    images["patient_id"] = ["p0"] * 10
    clean(audit_duplicate_images(find_duplicates(thumbs), images))
    assert audit_duplicate_images(find_duplicates(thumbs[:0]), images[:0]).passed is None


def test_one_picture_with_two_outcomes_is_named_with_its_files_whatever_the_split():
    pictures, images = still_table(10, 0)
    images = images.assign(path="images/" + images["image_id"] + ".png", outcome=[0, 1] * 5, split="train")
    thumbs = np.stack([resample_to_square(picture, THUMBNAIL_PX) for picture in [*pictures[:9], pictures[0]]])
    pairs = find_duplicates(thumbs, images["patient_id"])
    audit = audit_duplicate_images(pairs, images)
    caught(audit, "with opposite outcomes, such as images/i0.png and images/i9.png")
    assert audit.evidence[["path_first", "path_second"]].to_numpy().tolist() == [["images/i0.png", "images/i9.png"]]
    clean(audit_duplicate_images(pairs, images.assign(outcome=0)))
    clean(audit_duplicate_images(pairs, images.assign(outcome=pd.array([None, 1] * 5, dtype="Int64"))))


# rows of tables that are there twice


def clinical_rows(n: int, rng: np.random.Generator) -> pd.DataFrame:
    """As a clinical table is: few levels, whole years and millimeters, one variable that follows another, some missing."""
    stage = rng.integers(1, 4, n)
    size = (12 * stage + rng.integers(0, 15, n)).astype(float)
    size[rng.random(n) < 0.1] = np.nan
    rows = {"age": rng.normal(55, 12, n).round(), "size_mm": size, "stage": stage.astype(str)}
    rows |= {"grade": rng.integers(1, 4, n), "ki67": rng.integers(0, 100, n), "er": rng.choice(["", "-", "+"], n)}
    rows |= {"patient_id": [f"p{at}" for at in range(n)], "split": np.resize(["train", "test", "train"], n)}
    return pd.DataFrame(rows).assign(y=rng.integers(0, 2, n))


COLUMNS = ["age", "size_mm", "stage", "grade", "ki67", "er"]


@pytest.mark.parametrize("seed", SEEDS)
def test_rows_that_are_in_two_splits_are_caught(seed):
    rows = clinical_rows(400, np.random.default_rng(seed))
    clean(audit_duplicate_rows(rows, COLUMNS))
    copied = rows.copy()
    copied.loc[390:, [*COLUMNS, "y"]] = copied.loc[:9, [*COLUMNS, "y"]].to_numpy()
    copied["split"] = np.where(copied.index < 390, "train", "test")
    audit = audit_duplicate_rows(copied, COLUMNS, outcome="y")
    caught(audit, "in two splits")
    pairs = set(zip(audit.evidence["patient_id_first"], audit.evidence["patient_id_second"], strict=True))
    assert len(pairs) >= 6 and pairs <= {(f"p{at}", f"p{390 + at}") for at in range(10)}
    assert "opposite" not in audit.finding
    told = audit_duplicate_rows(copied.assign(split="train"), COLUMNS)
    clean(told)
    assert "within a split" in told.finding
    unknown = copied.assign(y=np.nan)
    assert "opposite" not in audit_duplicate_rows(unknown, COLUMNS, outcome="y").finding
    copied.loc[390:, "y"] = 1 - copied.loc[390:, "y"]
    caught(audit_duplicate_rows(copied, COLUMNS, outcome="y"), "with opposite outcomes")


def test_a_row_that_differs_in_one_of_many_measurements_is_a_copy():
    rng = np.random.default_rng(0)
    features = pd.DataFrame(rng.normal(size=(120, 40))).add_prefix("f")
    rows = features.assign(patient_id=[f"p{at}" for at in range(120)], split=["train", "test"] * 60)
    clean(audit_duplicate_rows(rows, list(features)))
    rows.loc[7, list(features)] = rows.loc[2, list(features)]
    rows.loc[7, "f5"] += 1
    audit = audit_duplicate_rows(rows, list(features))
    caught(audit, "p2 and p7")
    assert audit.evidence["differs_in"].tolist() == ["f5"]


def test_rows_of_few_values_match_by_chance_and_nothing_is_told_of_them():
    rng = np.random.default_rng(0)
    rows = clinical_rows(400, rng)
    audit = audit_duplicate_rows(rows, ["stage", "er"])
    assert audit.result == "not enough power to tell"
    assert audit_duplicate_rows(rows[:1], COLUMNS).result == "not applicable"


# a predictor that is the outcome


@pytest.mark.parametrize("seed", SEEDS)
def test_a_predictor_measured_after_the_outcome_is_caught_whatever_its_kind(seed):
    """Positive nodes for a nodal outcome; a text that says it; a value that is there for positives alone."""
    rng = np.random.default_rng(seed)
    rows = clinical_rows(300, rng)
    y = rows["y"].to_numpy()
    clean(audit_predictors(y, rows[COLUMNS], rng))
    nodes = np.where(y == 1, rng.poisson(4, 300), rng.random(300) < 0.02).astype(float)
    stage = np.where(y == 1, "pN1", "pN0")
    weight = np.where(y == 1, rng.normal(size=300), np.nan)
    for name, values in {"nodes": nodes, "pn_stage": stage, "specimen_g": weight}.items():
        caught(audit_predictors(y, rows[COLUMNS].assign(**{name: values}), rng), name)


def test_few_patients_do_not_clear_their_predictors():
    rng = np.random.default_rng(0)
    rows = clinical_rows(16, rng)
    few = np.arange(16) % 4 == 0
    assert audit_predictors(few, rows[COLUMNS], rng).result == "not enough power to tell"
    assert audit_metadata(few, rows[["er"]], rng).result == "not enough power to tell"


def test_an_audit_that_could_not_have_seen_a_leak_does_not_pass():
    """Three permutations; a test set of twelve."""
    inside = CrossValidated(make_pipeline(SELECTOR, MODEL), n_folds=3)
    twin = permuted_label_twin(inside, *table(40, 20, 0, 1), np.random.default_rng(1), n_permutations=3)
    assert twin.mean.high > 0.6
    assert audit_permuted_labels(twin).result == "not enough power to tell"
    rng = np.random.default_rng(0)
    assert audit_trained_on_test(scores(60, 1.0, rng), scores(12, 1.0, rng)).result == "not enough power to tell"
    many = scores(3000, 1.0, rng), scores(3000, 1.0, rng)
    clean(audit_trained_on_test(*many))


# 3. selection outside the fold


def audited(scorer, X: pd.DataFrame, y: np.ndarray, seed: int) -> Audit:
    twin = permuted_label_twin(scorer, X, y, np.random.default_rng(seed), n_permutations=8, confidence=0.99)
    return audit_permuted_labels(twin)


@pytest.mark.parametrize("seed", range(3))
def test_selection_outside_the_fold_is_caught(seed):
    for effect in (0, 2):
        caught(audited(SelectedOutside(3), *table(60, 300, effect, seed), seed), "lies above 0.5")


def test_selection_inside_the_fold_passes_at_the_stated_rate():
    """20 clean pipelines on noise and on signal; 0.5 % of them may fail."""
    inside = CrossValidated(make_pipeline(SELECTOR, MODEL), n_folds=3)
    failed = sum(audited(inside, *table(60, 100, seed % 2 * 2, seed), seed).passed is False for seed in range(20))
    assert failed <= most_false_alarms(20, 0.005)


# 4. threshold chosen on test


def test_a_threshold_chosen_on_test_is_caught_and_a_locked_one_never():
    """100 models on 80 validation and 100 test patients; only where both optima call the same may the leak go unseen."""
    rng = np.random.default_rng(0)
    seen = []
    for _ in range(100):
        validation, test = scores(80, 1.2, rng), scores(100, 1.2, rng)
        clean(audit_threshold(validation, test, youden_threshold(validation)))
        clean(audit_threshold(validation, test, round(youden_threshold(validation), 5)))
        seen += [
            audit_threshold(validation, test, rule(test)).passed is False
            for rule in (youden_threshold, accuracy_threshold)
        ]
    assert np.mean(seen) > 0.9
    caught(audit_threshold(validation, test, youden_threshold(test)), "optimum of the test data (Youden")


def test_a_threshold_from_elsewhere_rarely_looks_like_one_of_the_test_data():
    """0.5, fixed before any data: alarms in about 1 of n test patients for each of two rules."""
    rng = np.random.default_rng(1)
    alarms = sum(not audit_threshold(scores(80, 1.2, rng), scores(100, 1.2, rng), 0.5).passed for _ in range(200))
    assert alarms <= most_false_alarms(200, 0.06)


def test_threshold_optimism_by_hand():
    """Locked at 0.45 (validation): sensitivity 1/2, specificity 2/2. Best on test at 0.25: 2/2 and 2/2."""
    optimism = threshold_optimism(Units.of([0, 1], [0.4, 0.5]), Units.of([0, 0, 1, 1], [0.1, 0.2, 0.3, 0.6]))
    assert (optimism.locked, optimism.best) == (pytest.approx(0.45), pytest.approx(0.25))
    assert (optimism.index_locked, optimism.index_best, optimism.optimism) == (0.5, 1.0, 0.5)
    rng = np.random.default_rng(0)
    assert np.mean([threshold_optimism(scores(60, 1, rng), scores(60, 1, rng)).optimism for _ in range(50)]) > 0.03


def test_accuracy_threshold_by_hand():
    """Two of three positives above 0.5, nothing negative: five right at 0.55; at 0.15 only four."""
    units = Units.of([0, 0, 0, 1, 1, 1], [0.2, 0.3, 0.5, 0.1, 0.6, 0.7])
    assert accuracy_threshold(units) == pytest.approx(0.55)


# 5. label-coded center


def centers(n: int, seed: int, coding: float) -> tuple[np.ndarray, np.ndarray]:
    """Labels and hospitals; at `coding` 0 prevalence is the same in both, at 1 hospital b has all the positives."""
    rng = np.random.default_rng(seed)
    y = rng.permutation(np.arange(n) < 0.4 * n).astype(int)
    return y, np.where(rng.random(n) < 0.5 + coding * (y - 0.5), "b", "a")


@pytest.mark.parametrize("seed", SEEDS)
def test_a_center_that_codes_the_label_is_caught(seed):
    rng = np.random.default_rng(1000 + seed)
    y, center = centers(150, seed, 0.7)
    cohort = audit_metadata(y, pd.DataFrame({"center": center}), rng)
    caught(cohort, "center alone")
    reads_center = np.where(center == "b", 0.8, 0.2) + rng.normal(0, 0.05, 150)
    caught(audit_center_score(Units.of(y, reads_center), center, rng, n_bootstrap=500), "which center")


def test_centers_that_do_not_code_the_label_pass_at_the_stated_rate():
    """40 cohorts, half with a modest true difference in prevalence, and an honest model on them: 1 % may fail."""
    cohort = model = 0
    for seed in range(40):
        rng = np.random.default_rng(1000 + seed)
        y, center = centers(150, seed, 0.1 * (seed % 2))
        honest = y + rng.normal(size=150)
        cohort += audit_metadata(y, pd.DataFrame({"center": center}), rng).passed is False
        model += audit_center_score(Units.of(y, honest), center, rng, n_bootstrap=500).passed is False
    assert cohort <= most_false_alarms(40, 0.01)
    assert model <= most_false_alarms(40, 0.01)


def test_acquisition_metadata_that_codes_the_label_is_caught_whatever_its_kind():
    rng = np.random.default_rng(1000)
    y, scanner = centers(150, 0, 0.7)
    spacing = np.where(scanner == "b", 0.30, 0.25) + rng.normal(0, 0.02, 150)
    noise_column = rng.normal(size=150)
    for column in ({"scanner": scanner}, {"spacing_mm": spacing}, {"n_images": (scanner == "b") * 2 + 1}):
        audit = audit_metadata(y, pd.DataFrame(column | {"other": noise_column}), np.random.default_rng(1))
        caught(audit, "alone")
        single = audit.evidence.set_index("metadata")["auc"]
        assert single[next(iter(column))] > single["other"]
    missing = pd.DataFrame({"spacing_mm": np.where(scanner == "b", np.nan, spacing), "model": "x"})
    caught(audit_metadata(y, missing, np.random.default_rng(1)), "spacing_mm alone")
    assert audit_metadata(y, pd.DataFrame({"model": ["x"] * 150}), rng).passed is None


def test_one_class_per_center_cannot_be_told_apart_and_one_center_has_nothing_to_explain():
    units, rng = scores(60, 1.5, np.random.default_rng(0)), np.random.default_rng(0)
    caught(audit_center_score(units, np.where(units.positive, "b", "a"), rng), "every center has one class")
    assert audit_center_score(units, np.full(60, "a"), rng).passed is None
    some = np.where(units.positive & (np.arange(60) < 20), "c", "a")
    some[:3] = "b"
    assert audit_center_score(units, some, rng, n_bootstrap=200).result != "not applicable"


def test_center_audit_draws_whole_patients_where_ids_are_given():
    y, center = centers(150, 0, 0.7)
    y, score, center = (np.repeat(values, 2) for values in (y, (center == "b").astype(float), center))
    units = Units.of(y, score, patient=np.repeat(np.arange(150), 2))
    caught(audit_center_score(units, center, np.random.default_rng(0), n_bootstrap=500), "which center")


# trained on test, in-sample "out-of-fold" scores


@pytest.mark.parametrize("seed", SEEDS)
def test_a_network_that_has_learned_its_test_patients_is_caught(seed):
    """Remembered: test patients are scored as training patients are (AUC about 0.98), others honestly (about 0.75)."""
    rng = np.random.default_rng(seed)
    validation, test = scores(150, 1.0, rng), scores(100, 3.5, rng)
    caught(audit_trained_on_test(validation, test), "above 0")
    oracle = scores(100, 1.0, rng).score
    caught(audit_attainable(Units.of(test.positive, test.score, oracle)), "oracle")
    caught(audit_out_of_fold(test, validation), "above 0")


def test_honest_scores_pass_at_the_stated_rate():
    """200 honest models: the three comparisons fail in 0.5 % each."""
    rng = np.random.default_rng(0)
    failed = np.zeros(3)
    for _ in range(200):
        validation, test = scores(60, 1.0, rng), scores(100, 1.0, rng)
        truth = 1.5 * test.positive + rng.normal(size=100)
        worse = truth + rng.normal(size=100)
        audits = (
            audit_trained_on_test(validation, test),
            audit_out_of_fold(validation, test),
            audit_attainable(Units.of(test.positive, worse, truth)),
        )
        failed += [audit.passed is False for audit in audits]
    assert (failed <= most_false_alarms(200, 0.0075)).all(), failed


def test_units_of_one_patient_do_not_count_as_independent():
    """Ten copies of each test patient: without ids the same difference would look certain."""
    rng = np.random.default_rng(3)
    validation, test = scores(40, 0.9, rng), scores(40, 1.6, rng)
    copies = [np.repeat(values, 10) for values in (test.positive, test.score)]
    apart = audit_trained_on_test(validation, Units.of(*copies))
    together = audit_trained_on_test(validation, Units.of(*copies, patient=np.repeat(np.arange(40), 10)))
    assert together.evidence.equals(apart.evidence)
    assert together.finding != apart.finding


def test_predictions_are_audited_model_by_model():
    rng = np.random.default_rng(0)
    parts = []
    for split, n in (("train", 80), ("validation", 60), ("test", 60), ("cross_validation", 140)):
        units = scores(n, 1.0, rng)
        ids = [f"{'train' if split == 'cross_validation' else split}{i}" for i in range(n)]
        parts.append(
            pd.DataFrame({"split": split, "patient_id": ids, "y_true": units.positive, "y_score": units.score})
        )
    rows = pd.concat(parts).assign(study="s", model="m")
    cut = youden_threshold(Units.of_rows(rows.query("split == 'validation'")))
    audits = audit_predictions(rows, thresholds={("s", "m"): cut})
    table = audit_table(audits)
    assert not table["result"].eq("failed").any()
    assert table["audit"].nunique() == len(table) == 4
    leaking = rows.assign(patient_id=rows["patient_id"].str.replace("test", "train"))
    failed = audit_table(audit_predictions(leaking)).query("result == 'failed'")
    assert list(failed["audit"]) == ["patient overlap between splits"]


def test_optimism_is_told_of_tested_splits_with_something_to_choose_on():
    rng = np.random.default_rng(0)
    parts = []
    for split, model in (("validation", "a"), ("test", "a"), ("external", "a"), ("test", "b")):
        units = scores(40, 1.0, rng)
        ids = [f"{split}{i}" for i in range(40)]
        rows = {"patient_id": ids, "split": split, "model": model, "y_true": units.positive, "y_score": units.score}
        parts.append(pd.DataFrame(rows))
    optimism = threshold_optimism_table(pd.concat(parts).assign(study="s"))
    assert optimism[["model", "split", "chosen_on"]].to_numpy().tolist() == [
        ["a", "test", "validation"],
        ["a", "external", "validation"],
    ]
    assert (optimism["optimism"] >= 0).all()
