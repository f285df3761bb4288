"""Splits and folds: by patient, stratified, exact, frozen. Truth: the properties themselves, and counts by hand."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alneval.folds import (
    attach_splits,
    patient_level_folds,
    patient_level_splits,
    read_splits,
    splits_digest,
    write_splits,
)
from alnlib.errors import InputError


def patients(n: int, positives: int, **columns) -> pd.DataFrame:
    labels = np.r_[np.ones(positives, dtype=int), np.zeros(n - positives, dtype=int)]
    ids = [f"p{number:04d}" for number in range(n)]
    return pd.DataFrame({"patient_id": ids, "center": "A", "y": labels} | columns)


def folds_of(frame: pd.DataFrame, n_folds: int, rng: np.random.Generator) -> pd.Series:
    folds = patient_level_folds(frame["y"].to_numpy(), frame["patient_id"], n_folds, rng)
    return pd.Series(folds, index=frame["patient_id"])


def counts(frame: pd.DataFrame, splits: pd.DataFrame) -> dict[str, tuple[int, int]]:
    merged = frame.merge(splits[["patient_id", "split"]], on="patient_id", validate="1:1")
    return {split: (len(part), int(part["y"].sum())) for split, part in merged.groupby("split")}


@settings(max_examples=40, deadline=None)
@given(n=st.integers(12, 300), share=st.floats(0.3, 0.7), seed=st.integers(0, 2**32 - 1))
def test_every_patient_has_one_split_the_totals_are_exact_and_the_classes_balanced(n, share, seed):
    frame = patients(n, max(4, int(share * n)))
    splits = patient_level_splits(frame, "y", rng=np.random.default_rng(seed))
    assert splits["patient_id"].tolist() == sorted(frame["patient_id"])
    found = counts(frame, splits)
    n_test = int(0.30 * n + 0.5)
    n_validation = int(0.20 * (n - n_test) + 0.5)
    assert found["test"][0] == n_test
    assert found["validation"][0] == n_validation
    for size, positive in found.values():
        assert abs(positive - size * frame["y"].mean()) <= 1.5


def test_counts_of_tangs_primary_cohort_by_hand():
    """465 patients, 0.35 positive: 139.5 rounds up to 140 tested, 65 validate of the 325 that are left."""
    frame = patients(465, 163)
    assert counts(frame, patient_level_splits(frame, "y", rng=np.random.default_rng(0))) == {
        "test": (140, 49),
        "train": (260, 91),
        "validation": (65, 23),
    }


def test_the_order_of_rows_does_not_matter_and_the_seed_does():
    frame = patients(100, 40)
    shuffled = frame.sample(frac=1, random_state=1)
    first = patient_level_splits(frame, "y", rng=np.random.default_rng(7))
    pd.testing.assert_frame_equal(first, patient_level_splits(shuffled, "y", rng=np.random.default_rng(7)))
    other = patient_level_splits(frame, "y", rng=np.random.default_rng(8))
    assert splits_digest(first) != splits_digest(other)
    folds = folds_of(frame, 5, np.random.default_rng(7))
    assert folds.to_dict() == folds_of(shuffled, 5, np.random.default_rng(7)).to_dict()


def test_external_centers_are_external_and_take_no_part_in_the_fractions():
    frame = patients(120, 60)
    frame.loc[::6, "center"] = "B"
    splits = patient_level_splits(frame, "y", rng=np.random.default_rng(0), external_centers=["B"])
    merged = frame.merge(splits)
    assert set(merged.loc[merged["center"] == "B", "split"]) == {"external"}
    assert counts(frame, splits)["test"][0] == 30
    assert (merged.loc[merged["center"] == "A", "split"] != "external").all()


def test_the_population_is_in_no_split_of_the_study_and_changes_none():
    frame = patients(120, 60)
    frame.loc[::6, "center"] = "B"
    more = frame.assign(patient_id="q" + frame["patient_id"], split="population")
    options = {"external_centers": ["B"]}
    alone = patient_level_splits(frame, "y", rng=np.random.default_rng(0), **options)
    both = pd.concat([frame.assign(split=""), more], ignore_index=True)
    splits = patient_level_splits(both, "y", rng=np.random.default_rng(0), **options)
    pd.testing.assert_frame_equal(splits.iloc[: len(frame)], alone)
    assert set(splits["split"].iloc[len(frame) :]) == {"population"}


def test_a_given_split_is_kept_and_validation_drawn_from_training_only_where_it_is_missing():
    frame = patients(100, 50, split=["train", "test", "external", "validation"] * 25)
    splits = patient_level_splits(frame, "y", rng=np.random.default_rng(0))
    assert splits["split"].tolist() == frame["split"].tolist()
    without = frame.assign(split=frame["split"].replace("validation", "train"))
    drawn = patient_level_splits(without, "y", rng=np.random.default_rng(0))
    given_test = without.loc[without["split"] != "train", "split"].tolist()
    assert drawn.loc[without["split"] != "train", "split"].tolist() == given_test
    assert (drawn["split"] == "validation").sum() == 10


@pytest.mark.parametrize(
    ("given_split", "message"),
    [
        (["train", None], "patient p0001: no split"),
        (["train", "dev"], "patient p0001"),
        (["train", "train"], "no test patients"),
    ],
)
def test_an_incomplete_given_split_is_refused(given_split, message):
    frame = patients(20, 10, split=given_split * 10)
    with pytest.raises(InputError, match=message):
        patient_level_splits(frame, "y", rng=np.random.default_rng(0))


def test_too_few_of_a_class_repeated_patients_and_unknown_labels_are_refused():
    rng = np.random.default_rng(0)
    with pytest.raises(InputError, match="2 development patients with label 1, at least 3"):
        patient_level_splits(patients(20, 2), "y", rng=rng)
    with pytest.raises(InputError, match="at least 5"):
        folds_of(patients(20, 4), 5, rng)
    frame = patients(20, 10)
    with pytest.raises(ValueError, match="repeated"):
        patient_level_splits(pd.concat([frame, frame.head(1)]), "y", rng=rng)
    with pytest.raises(ValueError, match="Cohort.known"):
        patient_level_splits(frame.assign(y=frame["y"].astype("Int64").where(frame.index > 0)), "y", rng=rng)
    with pytest.raises(ValueError, match="test_fraction"):
        patient_level_splits(frame, "y", rng=rng, test_fraction=1.0)


def test_each_class_is_in_each_split_even_of_a_small_cohort():
    frame = patients(30, 3)
    for seed in range(5):
        found = counts(frame, patient_level_splits(frame, "y", rng=np.random.default_rng(seed)))
        assert {split: positive for split, (_, positive) in found.items()} == {"train": 1, "validation": 1, "test": 1}


@settings(max_examples=25, deadline=None)
@given(n=st.integers(20, 200), n_folds=st.integers(2, 8))
def test_folds_are_of_equal_size_and_equal_prevalence_to_within_one_patient(n, n_folds):
    frame = patients(n, n // 2)
    folds = frame.assign(fold=folds_of(frame, n_folds, np.random.default_rng(n)).to_numpy())
    sizes = folds.groupby("fold")["y"].agg(["size", "sum"])
    assert sorted(sizes.index) == list(range(n_folds))
    assert sizes["size"].max() - sizes["size"].min() <= 1
    assert sizes["sum"].max() - sizes["sum"].min() <= 1


def test_splits_are_frozen_to_a_file_and_an_altered_file_is_noticed(tmp_path):
    frame = patients(50, 20)
    frame["patient_id"] = [f"{number:03d}" for number in range(50)]
    splits = patient_level_splits(frame, "y", rng=np.random.default_rng(0))
    path = write_splits(splits.sample(frac=1, random_state=0), tmp_path / "splits.csv")
    digest = splits_digest(splits)
    pd.testing.assert_frame_equal(read_splits(path, digest), splits)
    assert len(digest) == 64
    text = path.read_text()
    path.write_text(text.replace(",train", ",test", 1))
    with pytest.raises(InputError, match="sha256 differs"):
        read_splits(path, digest)


def test_a_bad_splits_file_is_refused_with_patient_row_and_remedy(tmp_path):
    path = tmp_path / "splits.csv"
    with pytest.raises(InputError, match="no frozen splits there"):
        read_splits(path)
    path.write_text("patient_id,split\n007,train\n008,test\n007,test\n009,dev\n008,test\n")
    with pytest.raises(InputError) as error:
        read_splits(path)
    shown = str(error.value)
    assert f"{path}, row 4" in shown
    assert "patient is in two splits (train at row 2, test at row 4)" in shown
    assert "keep each patient in one split" in shown
    assert "unknown split of patient 009" in shown
    assert "patient appears more than once (first at row 3)" in shown
    path.write_text("patient,split\n1,train\n")
    with pytest.raises(InputError, match="column patient_id missing"):
        read_splits(path)
    path.write_text("")
    with pytest.raises(InputError, match="not a CSV table"):
        read_splits(path)


def test_writing_refuses_a_patient_in_two_splits(tmp_path):
    twice = pd.DataFrame({"patient_id": ["a", "a"], "split": ["train", "test"]})
    with pytest.raises(ValueError, match="two splits"):
        write_splits(twice, tmp_path / "splits.csv")
    with pytest.raises(ValueError, match="unknown splits"):
        write_splits(pd.DataFrame({"patient_id": ["a"], "split": ["dev"]}), tmp_path / "splits.csv")
    assert not (tmp_path / "splits.csv").exists()


def test_patients_without_a_frozen_split_are_named():
    splits = pd.DataFrame({"patient_id": ["a", "b"], "split": ["train", "test"]})
    attached = attach_splits(pd.DataFrame({"patient_id": ["b", "a"]}), splits)
    assert attached["split"].tolist() == ["test", "train"]
    with pytest.raises(InputError, match=r"no split for 1 patients of this cohort \(c\)"):
        attach_splits(pd.DataFrame({"patient_id": ["a", "c"]}), splits)


def test_folds_keep_patients_together_and_prevalence_even():
    rng = np.random.default_rng(1)
    patient_ids = np.repeat([f"{i:03d}" for i in range(70)], 2)
    y = np.repeat((np.arange(70) % 3 == 0).astype(int), 2)
    fold = patient_level_folds(y, patient_ids, 5, rng)
    per_patient = pd.DataFrame({"patient": patient_ids, "fold": fold, "y": y}).groupby("patient").agg(["min", "max"])
    assert (per_patient["fold"]["min"] == per_patient["fold"]["max"]).all()
    assert np.ptp(np.bincount(fold) // 2) <= 1
    assert np.ptp(np.bincount(fold, weights=y) / 2) <= 1
    with pytest.raises(InputError, match="at least 30"):
        patient_level_folds(y, patient_ids, 30, rng)
