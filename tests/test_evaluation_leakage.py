"""Splits by image: what stays the same, how much leaks, and what leakage claims where the truth is planted."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from alneval.curves import weighted_auc
from alneval.delong import auc
from alneval.estimate import difference
from alneval.leakage import (
    auc_difference_of_test_sets,
    image_level_splits,
    remembered_label_score,
    shared_patient_share,
)
from alneval.units import Units


def nodes(n_patients: int = 200, of_each: int = 3, seed: int = 0) -> pd.DataFrame:
    """Patients with `of_each` images and one label; one in ten has an image of the other class. Split by patient, 5:2:2:1."""
    rng = np.random.default_rng(seed)
    patients = [f"p{i:03d}" for i in range(n_patients)]
    split = rng.permuted(np.resize(["train"] * 5 + ["validation"] * 2 + ["test"] * 2 + ["external"], n_patients))
    frame = pd.DataFrame({"patient_id": np.repeat(patients, of_each), "split": np.repeat(split, of_each)})
    label = rng.integers(0, 2, n_patients)
    frame["y"] = np.repeat(label, of_each)
    mixed = rng.random(n_patients) < 0.1
    frame.loc[np.flatnonzero(mixed) * of_each, "y"] = 1 - label[mixed]
    frame["image_id"] = frame["patient_id"] + "-" + frame.groupby("patient_id").cumcount().astype(str)
    return frame


def drawn(frame: pd.DataFrame, seed: int = 1) -> np.ndarray:
    return image_level_splits(frame["split"], frame["y"], frame["image_id"], rng=np.random.default_rng(seed))


def test_a_split_by_image_changes_only_who_shares_a_patient_with_whom():
    frame = nodes()
    frame["image_split"] = drawn(frame)
    counts = [frame.groupby([column, "y"]).size().to_list() for column in ("split", "image_split")]
    assert counts[0] == counts[1]
    external = frame["split"] == "external"
    assert (frame.loc[external, "image_split"] == "external").all()
    assert not (frame.loc[~external, "image_split"] == "external").any()
    assert (frame["split"] != frame["image_split"]).mean() > 0.3


def test_a_split_by_image_depends_on_the_seed_and_not_on_the_order_of_rows():
    frame = nodes()
    frame["image_split"] = drawn(frame)
    shuffled = frame.sample(frac=1, random_state=3)
    assert (drawn(shuffled) == shuffled["image_split"]).all()
    assert (drawn(frame, seed=2) != frame["image_split"]).any()


def test_repeated_images_are_refused():
    frame = nodes(20)
    with pytest.raises(ValueError, match="unique"):
        image_level_splits(frame["split"], frame["y"], frame["patient_id"], rng=np.random.default_rng(0))


def test_the_share_of_shared_patients_by_hand():
    """Three tested images: b and c have training images of their patient, d has a validation image only."""
    split = ["train", "train", "test", "test", "test", "validation", "external"]
    patients = ["b", "c", "b", "c", "d", "d", "b"]
    share = shared_patient_share(split, patients)
    assert (share.n_positive, share.n) == (2, 3)
    assert shared_patient_share(split, patients, learned="validation").n_positive == 1
    assert shared_patient_share(split, patients, tested="external").value == 1
    assert shared_patient_share(nodes()["split"], nodes()["patient_id"]).n_positive == 0


def test_remembering_patients_is_worth_nothing_by_patient_and_much_by_image():
    """Three images of 200 patients, nine in ten of one label: a recognized patient's other images give it away."""
    frame = nodes()
    frame["image_split"] = drawn(frame)
    by_patient, by_image = (
        auc(
            frame.loc[frame[column] == "test", "y"],
            remembered_label_score(frame[column], frame["patient_id"], frame["y"])[frame[column] == "test"],
        )
        for column in ("split", "image_split")
    )
    assert by_patient == 0.5
    assert by_image > 0.75


def test_remembered_labels_by_hand():
    split = np.array(["train", "train", "train", "test", "test"])
    score = remembered_label_score(split, ["a", "a", "b", "a", "c"], [1, 0, 0, 0, 1])
    np.testing.assert_allclose(score, [0.5, 0.5, 0, 0.5, 1 / 3])
    with pytest.raises(ValueError, match="no image"):
        remembered_label_score(split, ["a", "a", "b", "a", "c"], [1, 0, 0, 0, 1], learned="validation")


def scored(n_patients: int, prefix: str, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Two images per patient whose scores share a patient effect: labels, scores, patient ids."""
    rng = np.random.default_rng(seed)
    y = np.repeat(np.arange(n_patients) % 2, 2)
    score = y + np.repeat(rng.normal(size=n_patients), 2) + 0.5 * rng.normal(size=2 * n_patients)
    return y, score, np.repeat([f"{prefix}{i}" for i in range(n_patients)], 2)


def difference_of(first: tuple, second: tuple, n_bootstrap: int):
    y, score, patients = (np.concatenate(both) for both in zip(first, second, strict=True))
    in_first = np.arange(len(y)) < len(first[0])
    units = Units.of(y, score, patient=patients)
    return auc_difference_of_test_sets(units, in_first, np.random.default_rng(0), n_bootstrap=n_bootstrap)


def test_the_same_test_set_twice_differs_by_nothing():
    a = scored(30, "a", 0)
    same = difference_of(a, a, n_bootstrap=200)
    assert (same.value, same.low, same.high, same.p) == (0, 0, 0, 1)


def test_test_sets_without_common_patients_are_resampled_as_two_cohorts():
    """The bootstrap of two cohorts resampled apart, up to its own scatter."""
    a, b = scored(40, "a", 0), scored(60, "b", 1)
    ours = difference_of(a, b, n_bootstrap=4000)
    cohorts = (Units.of(y, score, patient=patients) for y, score, patients in (a, b))
    apart = difference(weighted_auc, *cohorts, np.random.default_rng(1), n=4000)
    assert ours.value == pytest.approx(apart.value, abs=1e-12)
    assert ours.standard_error == pytest.approx(apart.standard_error, rel=0.06)
    assert (ours.low, ours.high) == pytest.approx((apart.low, apart.high), abs=0.02)


def test_common_patients_are_drawn_together():
    """Image 1 of every patient against image 2: their patient effect cancels, so the interval is much narrower."""
    y, score, patients = scored(60, "a", 2)
    first, second = ((y[at::2], score[at::2], patients[at::2]) for at in (0, 1))
    renamed = (*second[:2], np.char.add("other", second[2]))
    together, apart = (difference_of(first, other, n_bootstrap=1000) for other in (second, renamed))
    assert together.value == apart.value
    assert together.standard_error < 0.75 * apart.standard_error
