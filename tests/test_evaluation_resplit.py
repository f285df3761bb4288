"""Resplits, learning curves and permuted-label twins, on tables whose truth is planted."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn.feature_selection import SelectKBest
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from alneval.delong import auc
from alneval.resplit import (
    CrossValidated,
    Loop,
    auc_within_folds,
    corrected_resampled_interval,
    learning_curve,
    learning_curve_bands,
    permuted_label_twin,
    permuted_labels,
    resplit_aucs,
    selection_inside_and_outside,
)
from alneval.units import Units
from alnlib.memo import LoopMemory

MODEL = make_pipeline(StandardScaler(), LogisticRegression())
SELECTOR = SelectKBest(k=10).set_output(transform="pandas")


@dataclass(frozen=True)
class SelectedOutside:
    """The error itself, as a `Scorer`: features are selected on all patients and their labels, then the model is validated."""

    n_folds: int

    def __call__(self, X, y, patient_ids, rng):
        return CrossValidated(MODEL, self.n_folds)(SELECTOR.fit(X, y).transform(X), y, patient_ids, rng)


def table(n: int = 120, n_features: int = 5, effect: float = 0.0, seed: int = 0) -> tuple[pd.DataFrame, np.ndarray]:
    """n patients, a third positive; the first feature is shifted by `effect` standard deviations, the others are noise."""
    rng = np.random.default_rng(seed)
    y = (np.arange(n) % 3 == 0).astype(int)
    X = rng.normal(size=(n, n_features))
    X[:, 0] += effect * y
    return pd.DataFrame(X, columns=[f"f{i}" for i in range(n_features)]), y


def test_auc_within_folds_by_hand():
    """Fold a: one of two pairs won. Fold b: both pairs. Fold c has one class. 3 of 4; pooled, 1 outranks across folds too."""
    y, fold = [1, 0, 0, 1, 1, 0, 0], ["a", "a", "a", "b", "b", "b", "c"]
    score = [0.5, 0.4, 0.6, 0.2, 0.3, 0.1, 0.9]
    assert auc_within_folds(Units.of(y, score), fold) == pytest.approx(3 / 4)
    assert auc_within_folds(Units.of(y, score), np.zeros(7)) == auc(y, score)
    with pytest.raises(ValueError, match="both classes"):
        auc_within_folds(Units.of([1, 1, 0], [1, 2, 3]), ["a", "a", "b"])


def test_the_corrected_interval_by_hand():
    """Nadeau & Bengio 2003: J = 4 values, s^2 = 0.02/3, n_test/n_train = 3/7; t(0.975, 3) = 3.182446."""
    values = [0.6, 0.7, 0.7, 0.8]
    found = corrected_resampled_interval(values, 70, 30)
    error = np.sqrt(0.02 / 3 * (1 / 4 + 3 / 7))
    assert found.standard_error == pytest.approx(error)
    assert (found.low, found.high) == pytest.approx((0.7 - 3.182446 * error, 0.7 + 3.182446 * error), abs=1e-6)
    many = corrected_resampled_interval(values * 250, 70, 30)
    assert many.standard_error > 0.9 * np.std(values) * np.sqrt(3 / 7)
    with pytest.raises(ValueError, match="two"):
        corrected_resampled_interval([0.7], 70, 30)


def test_the_corrected_interval_covers_where_the_naive_one_does_not():
    """40 cohorts of 100 patients; truth: the pipeline's expected AUC when 70 are learned from, on 3,000 fresh patients.

    The correction is a rule of thumb, so its bounds are wide: at least 85 % of cohorts, the naive interval below 70 %.
    """
    rng = np.random.default_rng(0)
    truth = []
    for seed in range(60):
        X, y = table(70, 3, 0.8, seed)
        fresh, labels = table(3000, 3, 0.8, 10_000 + seed)
        truth.append(auc(labels, MODEL.fit(X, y).predict_proba(fresh)[:, 1]))
    corrected, naive = [], []
    for seed in range(40):
        X, y = table(100, 3, 0.8, 500 + seed)
        found = resplit_aucs(MODEL, X, y, rng, n_resplits=15)
        whole = corrected_resampled_interval(found["auc"], 70, 30)
        corrected.append(whole.low <= np.mean(truth) <= whole.high)
        reach = stats.t.ppf(0.975, 14) * found["auc"].std() / np.sqrt(15)
        naive.append(abs(whole.value - np.mean(truth)) <= reach)
    assert np.mean(corrected) >= 0.85
    assert np.mean(naive) < 0.7


def test_same_seed_same_table_whatever_the_number_of_processes():
    X, y = table(90, 3, 1.0)
    one, two, other = (
        resplit_aucs(MODEL, X, y, np.random.default_rng(seed), n_resplits=6, loop=Loop(jobs))
        for seed, jobs in ((1, 1), (1, 2), (2, 1))
    )
    pd.testing.assert_frame_equal(one, two)
    assert (one["auc"] != other["auc"]).any()


class Killed(dict):
    """A memory that is interrupted when it holds three repeats."""

    def __setitem__(self, number, value):
        super().__setitem__(number, value)
        if len(self) == 3:
            raise KeyboardInterrupt


def test_a_killed_loop_resumes_to_the_same_table_and_refits_only_what_is_missing():
    X, y = table(90, 3, 1.0)
    whole = resplit_aucs(MODEL, X, y, np.random.default_rng(1), n_resplits=6)
    kept = Killed()
    with pytest.raises(KeyboardInterrupt):
        resplit_aucs(MODEL, X, y, np.random.default_rng(1), n_resplits=6, loop=Loop(memory=lambda *_: kept))
    kept = {**kept, 0: [1, 2, 0.25]}  # what is there is not made again, even if it is wrong
    again = resplit_aucs(MODEL, X, y, np.random.default_rng(1), n_resplits=6, loop=Loop(memory=lambda *_: kept))
    assert sorted(kept) == list(range(6)) and again["auc"].iloc[0] == 0.25
    pd.testing.assert_frame_equal(again[1:], whole[1:])


def test_finished_repeats_of_other_data_or_another_pipeline_are_not_taken(tmp_path):
    X, y = table(90, 3, 1.0)
    loop = Loop(memory=LoopMemory(tmp_path))
    for pipeline, frame in (
        (MODEL, X),
        (MODEL, X + 1e-9),
        (make_pipeline(StandardScaler(), LogisticRegression(C=2)), X),
    ):
        resplit_aucs(pipeline, frame, y, np.random.default_rng(1), n_resplits=2, loop=loop)
    for n_folds in (3, 4):
        permuted_label_twin(CrossValidated(MODEL, n_folds), X, y, np.random.default_rng(0), n_permutations=2, loop=loop)
    assert len(list(tmp_path.glob("*.jsonl"))) == 5


def test_the_learning_curve_rises_to_the_known_auc():
    """One informative feature of effect 1 among 30: its own AUC in these patients is the best that can be reached."""
    X, y = table(400, 30, 1.0)
    points = learning_curve(
        MODEL, X, y, np.random.default_rng(0), fractions=(0.15, 0.4, 1.0), n_repeats=15, loop=Loop(2)
    )
    bands = learning_curve_bands(points)
    assert bands["n_train"].is_monotonic_increasing
    assert bands["n_train"].iloc[-1] == 280
    assert bands["auc"].is_monotonic_increasing
    best = auc(y, X["f0"])
    assert best - 0.08 < bands["auc"].iloc[-1] < best + 0.01
    assert bands["auc"].iloc[0] < best - 0.08
    assert (bands["auc_low"] < bands["auc_q25"]).all()
    with pytest.raises(ValueError, match="fractions"):
        learning_curve(MODEL, X, y, np.random.default_rng(0), fractions=(0, 1), n_repeats=2)


def test_the_whole_training_part_gives_what_a_resplit_gives():
    X, y = table(90, 3, 1.0)
    points = learning_curve(MODEL, X, y, np.random.default_rng(3), fractions=(0.5, 1.0), n_repeats=4)
    resplits = resplit_aucs(MODEL, X, y, np.random.default_rng(3), n_resplits=4)
    np.testing.assert_allclose(points.loc[points["fraction"] == 1, "auc"], resplits["auc"])


def test_selection_outside_claims_much_on_noise_and_inside_nothing():
    """60 patients, 500 features of pure noise: Ambroise & McLachlan 2002 (PNAS 99:6562), the true AUC is 0.5."""
    X, y = table(60, 500)
    for permuted in (False, True):
        found = selection_inside_and_outside(
            SELECTOR, MODEL, X, y, np.random.default_rng(0), permuted=permuted, n_resplits=20
        )
        assert found["outside"].mean() > 0.8
        if permuted:
            inside = found["inside"]
            assert abs(inside.mean() - 0.5) < 3 * inside.std() / np.sqrt(20)


def test_the_twin_of_a_clean_pipeline_covers_chance_and_of_a_leaking_one_does_not():
    X, y = table(60, 500)
    clean = CrossValidated(make_pipeline(SELECTOR, MODEL), n_folds=4)
    twins = [
        permuted_label_twin(scorer, X, y, np.random.default_rng(0), n_permutations=20, loop=Loop(2))
        for scorer in (clean, SelectedOutside(4))
    ]
    assert twins[0].mean.low <= 0.5 <= twins[0].mean.high
    assert not twins[0].claims_too_much
    assert twins[1].claims_too_much
    assert twins[1].mean.value > 0.8


def test_a_real_effect_stands_out_from_its_twin():
    X, y = table(150, 5, 1.5)
    twin = permuted_label_twin(CrossValidated(MODEL), X, y, np.random.default_rng(0), n_permutations=19)
    assert twin.real_auc > 0.8
    assert twin.mean.low <= 0.5 <= twin.mean.high
    with pytest.raises(ValueError, match="at least 2"):
        permuted_label_twin(CrossValidated(MODEL), X, y, np.random.default_rng(0), n_permutations=1)


@dataclass(frozen=True)
class PatientsParted:
    """The error itself: folds are made of rows, so that the rows of a patient lie in several."""

    def __call__(self, X, y, patient_ids, rng):
        return CrossValidated(KNeighborsClassifier(1), 3)(X, y, np.arange(len(y)).astype(str), rng)


def test_a_twin_catches_folds_that_part_the_rows_of_a_patient():
    """Four equal rows per patient: the nearest neighbor knows the patient again, and with it any label that was dealt."""
    X, y = table(40, 5)
    patients = np.arange(40).repeat(4)
    X, y = X.loc[patients].reset_index(drop=True), np.asarray(y)[patients]
    parted, clean = (
        permuted_label_twin(scorer, X, y, np.random.default_rng(0), n_permutations=10, patient_ids=patients)
        for scorer in (PatientsParted(), CrossValidated(KNeighborsClassifier(1), 3))
    )
    assert parted.claims_too_much and parted.mean.value > 0.9
    assert clean.mean.low <= 0.5 <= clean.mean.high


@dataclass(frozen=True)
class Guessing:
    """A scorer that returns the training prevalence of the fold: it knows nothing."""

    n_folds: int = 5

    def __call__(self, X, y, patient_ids, rng):
        fold = rng.integers(0, self.n_folds, len(y))
        return np.array([y[fold != k].mean() for k in fold]), fold


def test_a_model_that_knows_nothing_has_exactly_half_within_folds_and_less_when_pooled():
    X, y = table(60)
    scores = [(Guessing()(X, y, None, np.random.default_rng(seed))) for seed in range(50)]
    assert all(auc_within_folds(Units.of(y, score), fold) == 0.5 for score, fold in scores)
    assert np.mean([auc(y, score) for score, _ in scores]) < 0.45
    twin = permuted_label_twin(Guessing(), X, y, np.random.default_rng(0), n_permutations=5)
    assert (twin.mean.value, twin.mean.low, twin.mean.high) == (0.5, 0.5, 0.5)


def test_permuted_labels_move_between_patients_with_all_their_rows():
    rng = np.random.default_rng(0)
    patients = np.repeat([f"p{i}" for i in range(40)], [1, 2] * 20)
    y = np.repeat(np.arange(40) % 3 == 0, [1, 2] * 20).astype(int)
    shuffled = permuted_labels(y, patients, rng)
    dealt = pd.Series(shuffled).groupby(patients)
    assert (dealt.nunique() == 1).all()
    assert dealt.first().sum() == pd.Series(y).groupby(patients).first().sum()
    assert (shuffled != y).any()
    mixed = np.array([1, 0, 0, 0, 1, 1])
    again = permuted_labels(mixed, ["a", "a", "b", "b", "c", "c"], rng)
    assert {tuple(pair) for pair in again.reshape(3, 2)} == {(1, 0), (0, 0), (1, 1)}


def test_the_number_of_rows_tells_nothing_about_permuted_labels():
    """Patients with four rows are positive, those with one negative: after shuffling as often the other way round."""
    patients = np.repeat([f"p{i}" for i in range(40)], [1, 4] * 20)
    y = np.repeat(np.arange(40) % 2, [1, 4] * 20)
    count = pd.Series(patients).groupby(patients).transform("size").to_numpy(float)
    rng = np.random.default_rng(0)
    aucs = [auc(permuted_labels(y, patients, rng), count) for _ in range(200)]
    assert auc(y, count) == 1 and abs(np.mean(aucs) - 0.5) < 4 * np.std(aucs) / np.sqrt(200)


@dataclass(frozen=True)
class LuckyAtFirst:
    """Knows the label in the first `lucky` calls and guesses afterwards: chance in a small twin, made certain."""

    calls: list
    lucky: int

    def __call__(self, X, y, patient_ids, rng):
        self.calls.append(1)
        return rng.normal(size=len(y)) + (2.0 * y if len(self.calls) <= self.lucky else 0), np.zeros(len(y))


def test_fresh_permutations_decide_where_the_first_ones_look_like_a_leak():
    X, y = table(60)
    for lucky, n_drawn, leaks in ((6, 15, False), (99, 15, True), (0, 6, False)):
        scorer = LuckyAtFirst([], lucky)
        twin = permuted_label_twin(scorer, X, y, np.random.default_rng(0), n_permutations=5, n_confirm=9)
        assert len(scorer.calls) == n_drawn
        assert len(twin.aucs) == (9 if n_drawn == 15 else 5)
        assert twin.claims_too_much == leaks
