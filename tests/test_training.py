"""Training: augmentation, the fit as a function of specification and data, resuming, and learning what is there only."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.special import expit

from alnlib.errors import DoesNotApply, InputError
from alnlib.imaging.clips import segment_indices
from alnlib.models.cnn2d import build_cnn2d
from alnlib.training.augment import NO_AUGMENTATION, AugmentSpec, augment_batch
from alnlib.training.data import CropDataset, intensity_statistics, require_both_classes, sample_frames, standardize
from alnlib.training.fit import (
    FitSpec,
    _batches,
    fit_classifier,
    fit_fingerprint,
    fit_seeds,
    history_table,
    learning_rate_at,
    predict_logits,
    read_fitted,
    save_fitted,
)
from alnlib.training.oof import (
    choice_table,
    held_out_logits,
    linear_heads,
    mean_of_images,
    mean_of_models,
    networks,
    out_of_fold_logits,
)
from tests.toy import Killed, kill_after

SPEC = FitSpec("resnet18", 32, epochs=3, batch_size=16, learning_rate=1e-3, threads=1)


def stripes(n: int, seed: int, dtype: type = np.uint8, first_id: int = 0) -> CropDataset:
    """Noise with faint stripes: upright in positives, lying in negatives, at a random phase."""
    rng = np.random.default_rng(seed)
    y = np.arange(n) % 2
    position = np.arange(32)
    crops = rng.normal(110, 35, (n, 32, 32))
    for i in range(n):
        wave = 30 * np.sin(2 * np.pi * position / 6 + rng.uniform(0, 2 * np.pi))
        crops[i] += wave[None, :] if y[i] else wave[:, None]
    crops = crops.clip(0, 255).astype(np.uint8)
    ids = tuple(f"{first_id + i:04d}" for i in range(n))
    return CropDataset(crops if dtype is np.uint8 else crops.astype(dtype) / 255, y, ids)


def auc(y, score) -> float:
    return float((score[y == 1][:, None] > score[y == 0]).mean())


@pytest.fixture(scope="module")
def sets() -> tuple[CropDataset, CropDataset, CropDataset]:
    return stripes(64, 0), stripes(32, 1, first_id=1000), stripes(40, 2, first_id=2000)


@pytest.fixture(scope="module")
def fitted(sets):
    return fit_classifier(SPEC, sets[0])


def test_the_result_depends_on_specification_and_data_alone(sets, fitted):
    state, threads = torch.random.get_rng_state(), torch.get_num_threads()
    torch.manual_seed(12345)
    np.random.default_rng(9).random(10)
    torch.set_num_threads(1)
    torch.rand(7)
    before = torch.random.get_rng_state()
    try:
        again = fit_classifier(SPEC, sets[0])
        assert torch.equal(torch.random.get_rng_state(), before)
        assert torch.get_num_threads() == 1
        assert not torch.are_deterministic_algorithms_enabled()
    finally:
        torch.set_num_threads(threads)
        torch.random.set_rng_state(state)
    pd.testing.assert_frame_equal(again.history, fitted.history, check_exact=True)
    assert all(torch.equal(again.state[name], value) for name, value in fitted.state.items())
    assert np.array_equal(predict_logits(again, sets[2]), predict_logits(fitted, sets[2]))


@pytest.mark.parametrize("killed_after", [1, 2])
def test_a_killed_fit_resumes_to_the_same_bytes(sets, fitted, tmp_path, killed_after):
    with pytest.raises(Killed):
        fit_classifier(SPEC, sets[0], tmp_path, kill_after(killed_after))
    epochs = []
    resumed = fit_classifier(SPEC, sets[0], tmp_path, lambda row: epochs.append(row["epoch"]))
    assert epochs == list(range(killed_after + 1, SPEC.epochs + 1))
    assert predict_logits(resumed, sets[2]).tobytes() == predict_logits(fitted, sets[2]).tobytes()
    pd.testing.assert_frame_equal(resumed.history, fitted.history, check_exact=True)
    finished = fit_classifier(SPEC, sets[0], tmp_path, lambda row: pytest.fail("trained again"))
    assert predict_logits(finished, sets[2]).tobytes() == predict_logits(fitted, sets[2]).tobytes()
    assert [path.suffix for path in tmp_path.iterdir()] == [".pt"]


def test_a_checkpoint_of_other_data_or_settings_is_not_taken_up(sets):
    own = fit_fingerprint(SPEC, sets[0])
    assert own == fit_fingerprint(replace(SPEC), sets[0])
    others = [
        fit_fingerprint(replace(SPEC, seed=1), sets[0]),
        fit_fingerprint(replace(SPEC, augment=NO_AUGMENTATION), sets[0]),
        fit_fingerprint(SPEC, sets[0].subset(np.arange(63))),
    ]
    assert len({own, *others}) == 4


@pytest.mark.parametrize("at", [None, 100, 1_000_000, -10])
def test_a_damaged_checkpoint_is_made_anew(at, sets, tmp_path):
    """At None: half a file. Truth: a fit without checkpoints."""
    one = replace(SPEC, epochs=1)
    expected = fit_classifier(one, sets[0], tmp_path)
    (path,) = tmp_path.iterdir()
    content = bytearray(path.read_bytes())
    if at is not None:
        content[at] ^= 1
    path.write_bytes(content if at is not None else content[: len(content) // 2])
    epochs = []
    again = fit_classifier(one, sets[0], tmp_path, lambda row: epochs.append(row["epoch"]))
    assert epochs == [1]
    assert all(torch.equal(again.state[name], value) for name, value in expected.state.items())


@pytest.fixture(scope="module")
def learned(sets):
    return fit_classifier(replace(SPEC, epochs=8), sets[0])


def test_a_planted_pattern_is_learned(sets, learned):
    """Oriented stripes are seen by any working network: held-out AUC near 1."""
    assert auc(sets[2].y, predict_logits(learned, sets[2])) > 0.95
    assert learned.history["train_loss"].iloc[-1] < 0.5 * learned.history["train_loss"].iloc[0]


def test_permuted_labels_teach_nothing(sets):
    """Labels drawn anew: expected AUC 0.5; two fits on 200 test crops have a standard deviation of about 0.03."""
    test = stripes(200, 3, first_id=3000)
    found = []
    for seed in (0, 1):
        rng = np.random.default_rng(seed)
        shuffled = replace_labels(sets[0], rng.permutation(sets[0].y))
        model = fit_classifier(replace(SPEC, seed=seed), shuffled)
        labels = rng.permutation(test.y)
        found.append(auc(labels, predict_logits(model, test)))
    assert abs(np.mean(found) - 0.5) < 0.1


def replace_labels(data: CropDataset, y: np.ndarray) -> CropDataset:
    return CropDataset(data.crops, y, data.unit_ids, data.patient_ids)


def test_the_last_averaged_weights_are_the_network_whatever_went_before(learned):
    """All epochs are in the history, none is chosen; with no averaging the network is where the optimizer stopped."""
    assert learned.history["epoch"].tolist() == list(range(1, 9))
    assert list(learned.history) == ["epoch", "learning_rate", "train_loss"]
    assert "8 epochs" in repr(learned)


def test_several_seeds_are_single_fits(sets, fitted):
    members = fit_seeds(replace(SPEC, epochs=1), 2, sets[0])
    assert [each.spec.seed for each in members] == [0, 1]
    single = [predict_logits(each, sets[2]) for each in members]
    assert not np.allclose(*single)
    table = history_table({"net": members})
    assert table[["model", "seed", "epoch"]].to_numpy().tolist() == [["net", 0, 1], ["net", 1, 1]]
    assert history_table({}).columns.tolist() == table.columns.tolist()
    with pytest.raises(InputError, match="n_seeds is 0"):
        fit_seeds(SPEC, 0, sets[0])


def test_the_prior_is_put_back(sets):
    """8 of 40 positive: weighted training centers on 0.5, corrected probabilities on the prevalence 0.2."""
    rare = stripes(64, 5).subset(np.r_[np.arange(0, 64, 2), np.arange(1, 17, 2)])
    noise = CropDataset(np.random.default_rng(0).integers(0, 256, rare.crops.shape, np.uint8), rare.y, rare.unit_ids)
    model = fit_classifier(replace(SPEC, epochs=2, learning_rate=1e-5), noise)
    assert model.log_weight == pytest.approx(np.log(32 / 8))
    assert expit(predict_logits(model, noise)).mean() == pytest.approx(0.2, abs=0.05)


def test_prediction_does_not_depend_on_company(sets, fitted):
    scores = predict_logits(fitted, sets[2])
    assert scores.shape == (40,) and scores.dtype == np.float64 and np.isfinite(scores).all()
    alone = np.concatenate([predict_logits(fitted, sets[2].crops[i : i + 1]) for i in range(4)])
    np.testing.assert_allclose(alone, scores[:4], atol=1e-4)


def test_uint8_and_the_same_values_as_fractions_score_alike(sets, fitted):
    fractions = sets[2].crops.astype(np.float32) / 255
    np.testing.assert_allclose(predict_logits(fitted, fractions), predict_logits(fitted, sets[2]), atol=1e-4)


def test_a_saved_network_comes_back_whole(sets, fitted, tmp_path):
    read = read_fitted(save_fitted(fitted, tmp_path / "network.pt"))
    assert read.spec == fitted.spec
    pd.testing.assert_frame_equal(read.history, fitted.history)
    assert np.array_equal(predict_logits(read, sets[2]), predict_logits(fitted, sets[2]))
    (tmp_path / "broken.pt").write_text("no")
    with pytest.raises(InputError, match="broken.pt"):
        read_fitted(tmp_path / "broken.pt")


def test_mistakes_are_named(sets):
    with pytest.raises(InputError, match="training set cannot be used: 32 crops, 32 positive and 0 negative"):
        fit_classifier(SPEC, sets[0].subset(sets[0].y == 1))
    with pytest.raises(InputError, match="training set cannot be used: 1 crop, 0 positive and 1 negative"):
        fit_classifier(SPEC, sets[0].subset([0]))
    with pytest.raises(InputError, match="no crops in this set"):
        sets[0].subset(np.zeros(64, bool))
    with pytest.raises(ValueError, match="specification says"):
        fit_classifier(replace(SPEC, image_size=64), sets[0])
    with pytest.raises(ValueError, match="unique"):
        CropDataset(sets[0].crops[:2], np.array([0, 1]), ("a", "a"))
    with pytest.raises(ValueError, match="0 or 1"):
        CropDataset(sets[0].crops[:2], np.array([0, 2]), ("a", "b"))
    if not torch.cuda.is_available():
        with pytest.raises(InputError, match="no GPU"):
            fit_classifier(replace(SPEC, device="cuda"), sets[0])


def test_out_of_fold_logits_never_come_from_a_model_that_knows_the_patient():
    """Two units per patient, and units that take no part."""
    patients, y = np.repeat([f"p{i}" for i in range(16)], 2), np.repeat(np.arange(16) % 2, 2)
    among = np.arange(32) < 24
    made = []

    def recipe(known):
        assert not (known & ~among).any()
        made.append(set(patients[known]))

        own = len(made) - 1

        def score(others):
            assert not set(patients[others]) & made[own] and among[others].all()
            return np.column_stack([np.full(others.sum(), own), np.full(others.sum(), -own)])

        return score

    logits, fold = out_of_fold_logits(recipe, y, patients, 3, 0, among)
    assert (logits[among, 0] == fold[among]).all() and (logits[among, 1] == -fold[among]).all()
    assert np.isnan(logits[~among]).all() and (fold[~among] == -1).all()
    assert pd.Series(fold).groupby(patients).nunique().max() == 1
    with pytest.raises(ValueError, match="n_folds must be at least 2"):
        out_of_fold_logits(recipe, y, patients, 1, 0)


def test_a_small_class_makes_fewer_folds_and_one_too_small_ends_the_stage():
    """By patient: the eight images of two patients are no more than two patients."""
    patients, y = np.repeat(np.arange(12), 4), np.repeat(np.arange(12) < 3, 4).astype(int)

    def recipe(known):
        return lambda others: np.zeros((others.sum(), 1))

    assert set(out_of_fold_logits(recipe, y, patients, 5, 0)[1]) == {0, 1, 2}
    with pytest.raises(DoesNotApply, match="fewer than three of one class"):
        out_of_fold_logits(recipe, y, patients, 5, 0, among=patients > 0)


def test_units_that_take_no_part_in_the_folds_are_scored_by_one_more_model():
    patients, y, among = np.arange(12).astype(str), np.arange(12) % 2, np.arange(12) < 8

    def recipe(known):
        return lambda others: np.full((others.sum(), 2), float(known.sum()))

    logits, fold = held_out_logits(recipe, y, patients, 4, 0, among)
    assert (logits[among] == 6).all() and (logits[~among] == 8).all() and (fold[~among] == -1).all()


def test_a_patient_with_several_images_weighs_as_much_in_a_network_as_one_with_one():
    """Three images of one patient among 18: cross-entropy and class ratio by patient, by hand; one image each: as without."""
    data, plain = stripes(16, 3), replace(SPEC, epochs=1, batch_size=64, augment=NO_AUGMENTATION, dropout=0.0)
    equal = replace(plain, patients_equal=True)
    assert fit_classifier(equal, data).history.equals(fit_classifier(plain, data).history)

    rows = np.concatenate([np.arange(16), [0, 0]])
    ids = tuple(data.patient_ids[i] for i in rows)
    several = CropDataset(data.crops[rows], data.y[rows], tuple(f"image {i}" for i in range(18)), ids)
    fitted = fit_classifier(equal, several)
    assert fitted.log_weight == 0, "8 patients of 16 are positive"
    assert fit_classifier(plain, several).log_weight == pytest.approx(np.log(10 / 8))
    network = build_cnn2d("resnet18", 1, seed=equal.seed).train()
    logits = (
        network(standardize(several.tensors()[0], *intensity_statistics(several.crops))).squeeze(1).detach().numpy()
    )
    loss = np.logaddexp(0, np.where(several.y == 1, -logits, logits))
    weights = np.where(np.isin(rows, 0), 1 / 3, 1.0)
    assert fitted.history["train_loss"][0] == pytest.approx(np.average(loss, weights=weights), rel=1e-4)
    apart = CropDataset(several.crops, several.y, several.unit_ids)
    assert fit_fingerprint(equal, several) != fit_fingerprint(equal, apart)


def test_a_patient_has_the_mean_logit_of_her_images():
    """Images of a patient need not stand together; one image alone keeps its logits to the last bit."""
    rng = np.random.default_rng(0)
    logits, ids = rng.normal(size=(6, 3)), np.array(["b", "a", "b", "c", "b", "a"])
    means = mean_of_images(logits, ids)
    expected = [logits[[0, 2, 4]].mean(axis=0), logits[[1, 5]].mean(axis=0), logits[3]]
    np.testing.assert_allclose(means, expected, atol=1e-15)
    np.testing.assert_array_equal(means[2], logits[3])
    np.testing.assert_array_equal(mean_of_images(logits, np.arange(6)), logits)


def test_models_joined_have_the_mean_of_their_means():
    rng = np.random.default_rng(0)
    three, two = rng.normal(size=(5, 3)), rng.normal(size=(5, 2))
    both = mean_of_models(three, two)
    assert both.shape == (5, 6)
    np.testing.assert_allclose(both.mean(axis=1), (three.mean(axis=1) + two.mean(axis=1)) / 2)
    np.testing.assert_array_equal(both[:, 4], (three[:, 1] + two[:, 0]) / 2)


def test_recipes_fit_what_they_are_told_to(sets):
    """Networks and heads fitted by a recipe are those of `fit_seeds` and `LinearHead` on the same units."""
    data, known = sets[0], np.arange(64) < 48
    spec = replace(SPEC, epochs=1)
    logits = networks(spec, 2, data)(known)(~known)
    alone = [predict_logits(each, data.subset(~known)) for each in fit_seeds(spec, 2, data.subset(known))]
    np.testing.assert_array_equal(logits, np.column_stack(alone))

    rng = np.random.default_rng(0)
    features = rng.normal(size=(64, 5)) + 3 * data.y[:, None]
    found = linear_heads(features, data.y, np.asarray(data.patient_ids), 3, 7)(known)(~known)
    assert found.shape == (16, 3) and auc(data.y[~known], found.mean(axis=1)) > 0.95
    shifted = linear_heads(features, np.where(known, data.y, 1 - data.y), np.asarray(data.patient_ids), 3, 7)
    np.testing.assert_array_equal(shifted(known)(~known), found, "labels of the scored play no part")


def test_the_choice_is_by_auc_within_folds_of_the_mean_logit():
    """Fold 1's logits of `lifted` are shifted by 10: pooled its AUC falls, within folds it is 1."""
    y, fold = np.array([0, 1, 0, 1, 0, 1]), np.array([0, 0, 1, 1, -1, -1])
    lifted = np.array([0.0, 1, 10, 11, 9, -9])[:, None]
    plain = np.column_stack([[0.0, 1, 1, 0, 0, 0], [0.0, 1, 0.0, 2, 0, 0]])
    table = choice_table({"plain": plain, "lifted": lifted}, fold, y)
    assert table["model"].tolist() == ["plain", "lifted"] and table["chosen"].tolist() == [True, False]
    assert table["out_of_fold_auc"].tolist() == [1, 1], "a tie goes to the first given"
    assert table["seed_sd"][0] == pytest.approx(np.std([0.5, 1], ddof=1)) and np.isnan(table["seed_sd"][1])
    worse = choice_table({"plain": -plain, "lifted": lifted}, fold, y)
    assert worse["model"].tolist() == ["lifted", "plain"]


def test_augmentation_keeps_shape_and_is_the_identity_when_nothing_is_asked():
    images = torch.rand(6, 2, 20, 30, generator=torch.Generator().manual_seed(0))
    assert torch.equal(augment_batch(images, NO_AUGMENTATION, torch.Generator().manual_seed(1)), images)
    everything = AugmentSpec(0.5, 0.5, 15, 0.2, 0.1, 0.3, 0.3, 0.1)
    first = augment_batch(images, everything, torch.Generator().manual_seed(1))
    again = augment_batch(images, everything, torch.Generator().manual_seed(1))
    assert first.shape == images.shape and torch.equal(first, again) and torch.isfinite(first).all()


def test_flips_mirror_exactly():
    images = torch.rand(3, 1, 16, 24, generator=torch.Generator().manual_seed(0))
    horizontal = augment_batch(images, replace(NO_AUGMENTATION, horizontal_flip=1.0), torch.Generator())
    torch.testing.assert_close(horizontal, images.flip(-1), atol=1e-5, rtol=0)
    vertical = augment_batch(images, replace(NO_AUGMENTATION, vertical_flip=1.0), torch.Generator())
    torch.testing.assert_close(vertical, images.flip(-2), atol=1e-5, rtol=0)


def test_a_rotation_is_rigid_in_pixels_on_an_oblong_image():
    """A disc stays a disc: its second moments along rows and columns stay equal, also where height and width differ."""
    row, col = np.mgrid[:40, :80]
    disc = torch.from_numpy((np.hypot(row - 19.5, col - 39.5) < 8).astype(np.float32))[None, None].repeat(8, 1, 1, 1)
    spec = replace(NO_AUGMENTATION, rotate_degrees=80.0)
    turned = augment_batch(disc, spec, torch.Generator().manual_seed(3)).numpy()[:, 0]
    # Farther out, reflection at the border shows the disc a second time.
    row, col, turned = row[:, 20:60], col[:, 20:60], turned[:, :, 20:60]
    for image in turned:
        mass = image / image.sum()
        assert (mass * (row - 19.5) ** 2).sum() == pytest.approx((mass * (col - 39.5) ** 2).sum(), rel=0.03)
        assert image.sum() == pytest.approx(float(disc[0].sum()), rel=0.02)


def test_samples_of_a_batch_are_changed_each_in_its_own_way():
    images = torch.rand(1, 1, 16, 16, generator=torch.Generator().manual_seed(0)).repeat(5, 1, 1, 1)
    changed = augment_batch(images, replace(NO_AUGMENTATION, brightness=0.5), torch.Generator().manual_seed(1))
    shifts = (changed - images).mean(dim=(1, 2, 3))
    assert len(set(shifts.tolist())) == 5 and shifts.abs().max() <= 0.5
    torch.testing.assert_close(changed - images, shifts.view(5, 1, 1, 1).expand_as(images), atol=1e-6, rtol=0)


def test_standardized_training_pixels_have_mean_0_and_deviation_1():
    for data in (stripes(16, 0), stripes(16, 0, np.float32)):
        mean, sd = intensity_statistics(data.crops)
        pixels = standardize(data.tensors()[0], mean, sd)
        assert pixels.mean().item() == pytest.approx(0, abs=1e-5) and pixels.std().item() == pytest.approx(1, abs=1e-3)


def test_sixteen_bit_crops_are_read_as_fractions():
    crops = np.full((2, 8, 8), 65535, np.uint16)
    crops[0] = 0
    pixels, y = CropDataset(crops, np.array([0, 1]), ("a", "b")).tensors()
    assert pixels[:, 0, 0, 0].tolist() == [0.0, 1.0] and y.tolist() == [0.0, 1.0]
    assert intensity_statistics(crops) == (0.5, 0.5)


def test_learning_rate_rises_linearly_and_falls_to_near_zero():
    rates = [learning_rate_at(step, 100, 1.0, 0.2) for step in range(100)]
    assert max(rates) == 1.0 and rates.index(1.0) == 19
    np.testing.assert_allclose(np.diff(rates[:20]), 0.05)
    assert all(later <= earlier for earlier, later in zip(rates[19:], rates[20:], strict=False)) and rates[-1] < 0.001


def clips_of_motion(n: int, seed: int, frames: int = 9, side: int = 24) -> CropDataset:
    """A bright bar that moves to the right in positives and to the left in negatives; any frame alone says nothing."""
    rng = np.random.default_rng(seed)
    y = np.arange(n) % 2
    clips = rng.normal(60, 8, (n, 1, frames, side, side))
    for clip, label in zip(clips, y, strict=True):
        start, step = rng.uniform(0, side), (1.5 if label else -1.5)
        for t in range(frames):
            clip[0, t, :, int(start + step * t) % side] += 140
    units = tuple(f"{seed}-{i}" for i in range(n))
    return CropDataset(clips.clip(0, 255).astype(np.uint8), y, units)


def test_frames_are_one_of_each_segment_the_middle_one_when_nothing_is_drawn():
    """Nine frames in three segments: 0-2, 3-5, 6-8; the same middle frames as `imaging.clips`."""
    clips = torch.arange(9.0).view(1, 1, 9, 1, 1).repeat(200, 1, 1, 2, 2)
    assert sample_frames(clips, 3)[0, 0, :, 0, 0].tolist() == [1, 4, 7]
    drawn = sample_frames(clips, 3, torch.Generator().manual_seed(1))
    assert drawn.shape == (200, 1, 3, 2, 2)
    for segment in range(3):
        assert set(drawn[:, 0, segment, 0, 0].tolist()) == {3.0 * segment, 3.0 * segment + 1, 3.0 * segment + 2}
    for total, frames in ((24, 8), (17, 8), (5, 8), (40, 16)):
        numbered = torch.arange(float(total)).view(1, 1, total, 1, 1)
        np.testing.assert_array_equal(sample_frames(numbered, frames).flatten(), segment_indices(total, frames))


def test_every_frame_of_a_clip_is_changed_in_the_same_way():
    """A clip of equal frames stays one; two samples of a batch are changed differently."""
    spec = AugmentSpec(noise_sd=0.0)
    clips = torch.randn(2, 1, 1, 16, 16, generator=torch.Generator().manual_seed(2)).repeat(1, 1, 4, 1, 1)
    changed = augment_batch(clips, spec, torch.Generator().manual_seed(3))
    assert changed.shape == clips.shape
    torch.testing.assert_close(changed, changed[:, :, :1].expand_as(changed))
    assert not torch.allclose(changed[0], clips[0])


@pytest.mark.parametrize("architecture", ["tin_resnet18", "r2plus1d_18", "r3d_18"])
def test_clips_are_fitted_to_the_same_bits_and_a_killed_fit_resumes(architecture, tmp_path):
    train, others = clips_of_motion(12, 1, frames=6), clips_of_motion(6, 2, frames=6)
    spec = FitSpec(architecture, 24, frames=4, epochs=3, batch_size=6, augment=NO_AUGMENTATION, seed=5)
    whole = fit_classifier(spec, train)

    with pytest.raises(Killed):
        fit_classifier(spec, train, tmp_path, progress=kill_after(2))
    resumed = fit_classifier(spec, train, tmp_path)
    pd.testing.assert_frame_equal(whole.history, resumed.history)
    scores = predict_logits(whole, others)
    np.testing.assert_array_equal(scores, predict_logits(resumed, others))
    longer = clips_of_motion(3, 3, frames=11)
    assert predict_logits(whole, longer).shape == (3,), "clips of another length are sampled to as many frames"
    with pytest.raises(ValueError, match="as in the fit"):
        predict_logits(whole, others.crops[:, :, 0])


def test_clips_need_a_video_network_and_stills_none():
    with pytest.raises(InputError, match="clips need a video network"):
        FitSpec("resnet18", 24, frames=4)
    with pytest.raises(InputError, match="clips need a video network"):
        FitSpec("tin_resnet18", 24)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("learning_rate", -1e-3),
        ("learning_rate", float("nan")),
        ("weight_decay", -1.0),
        ("epochs", 0),
        ("batch_size", 1),
        ("image_size", 0),
        ("frames", -1),
        ("dropout", 1.0),
        ("warmup", 1.0),
        ("stem", "large"),
        ("architecture", "vgg16"),
    ],
)
def test_a_parameter_out_of_range_is_the_users_mistake_and_is_named(name, value):
    with pytest.raises(InputError, match=f"{name} .*give|{name} 'vgg16' .*one of resnet18"):
        replace(SPEC, **{name: value})


def test_autocast_on_a_cpu_trains_in_bfloat16_and_scores_in_single_precision(sets):
    """Bfloat16 has 8 significant bits: the loss agrees to about a percent, and its scores would often be tied."""
    assert SPEC.autocast is None
    short = replace(SPEC, epochs=1)
    plain, cast = (fit_classifier(replace(short, autocast=on), sets[0]) for on in (None, True))
    losses = [fitted.history["train_loss"].iloc[-1] for fitted in (plain, cast)]
    assert np.isfinite(losses[1]) and losses[0] != losses[1]
    assert losses[1] == pytest.approx(losses[0], rel=0.1)
    scores = predict_logits(cast, sets[2])
    assert scores.dtype == np.float64 and np.isfinite(scores).all()
    assert len(np.unique(scores)) == len(scores)


def test_a_fingerprint_counts_what_auto_comes_to(sets, monkeypatch):
    """A fit begun on a GPU, in bfloat16, must not be gone on with on a CPU."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    own = fit_fingerprint(SPEC, sets[0])
    assert own == fit_fingerprint(replace(SPEC, device="auto"), sets[0])
    assert own == fit_fingerprint(replace(SPEC, autocast=False), sets[0])
    assert own != fit_fingerprint(replace(SPEC, autocast=True), sets[0])
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: True)
    assert own != fit_fingerprint(replace(SPEC, device="auto"), sets[0])
    assert own == fit_fingerprint(SPEC, sets[0])


def test_no_batch_holds_a_single_crop():
    """Batch norm over one crop with a last feature map of one element is undefined."""
    for n in range(2, 12):
        for size in (2, 3, 4, 8):
            assert min(len(batch) for batch in _batches(torch.arange(n), size)) >= 2


@pytest.mark.parametrize("lost", ["train", "validation", "test"])
def test_a_split_with_one_class_is_no_stage_and_names_it(lost):
    split, y = np.repeat(["train", "validation", "test", "external"], 10), np.tile([0, 1], 20)
    require_both_classes(split, y, 5)
    require_both_classes(split, np.where(split == "external", 0, y))
    with pytest.raises(DoesNotApply, match=f"the {lost} split holds 0 positive"):
        require_both_classes(split, np.where(split == lost, 0, y))
    with pytest.raises(DoesNotApply, match="the train split holds 0 positive and 0 negative"):
        require_both_classes([], [])
