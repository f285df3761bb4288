"""Pooled features out of fold: by a network that never saw the patient, on one scale, and how far axes agree."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from alnlib.errors import InputError
from alnlib.training import oof
from alnlib.training.augment import NO_AUGMENTATION
from alnlib.training.data import CropDataset
from alnlib.training.fit import FitSpec, predict_features, read_fitted, save_fitted
from alnlib.training.oof import axis_agreement, out_of_fold_features

SPEC = FitSpec("resnet18", 16, epochs=1, batch_size=8, augment=NO_AUGMENTATION, seed=3, stem="small")


def crops(n: int, seed: int, views: int = 2) -> CropDataset:
    """`views` crops per patient; brighter in positives."""
    rng = np.random.default_rng(seed)
    y = np.repeat(np.arange(n) % 2, views)
    images = rng.normal(100, 30, (n * views, 16, 16)) + 40 * y[:, None, None]
    patients = np.repeat([f"p{seed}-{k}" for k in range(n)], views)
    units = [f"{patient}-{view}" for patient, view in zip(patients, np.tile(range(views), n), strict=True)]
    return CropDataset(images.clip(0, 255).astype(np.uint8), y, units, patients)


@pytest.fixture(scope="module")
def made():
    data = crops(18, 1)
    return data, out_of_fold_features(SPEC, data, np.random.default_rng(0), n_folds=3)


def test_no_network_gives_features_of_a_patient_it_was_fitted_to(monkeypatch):
    data, fitted_to = crops(12, 2), []
    real = oof.fit_classifier

    def watched(spec, train, validation, *arguments):
        fitted_to.append(set(train.patient_ids))
        assert spec.choose_from > (spec.epochs - 1) / spec.epochs  # the last epoch: the held-out fold chooses nothing
        return real(spec, train, validation, *arguments)

    monkeypatch.setattr(oof, "fit_classifier", watched)
    found = out_of_fold_features(replace(SPEC, epochs=2), data, np.random.default_rng(0), n_folds=3)
    for k, patients in enumerate(fitted_to):
        held_out = {patient for patient, fold in zip(data.patient_ids, found.fold, strict=True) if fold == k}
        assert not patients & held_out and patients | held_out == set(data.patient_ids)


def test_features_are_those_of_the_fold_s_network_as_z_scores(made):
    data, found = made
    for k, network in enumerate(found.networks):
        raw = predict_features(network, data.subset(found.fold == k))
        varies = raw.std(axis=0) > 0
        wanted = (raw - raw.mean(axis=0))[:, varies] / raw.std(axis=0)[varies]
        np.testing.assert_allclose(found.features[found.fold == k][:, varies], wanted, atol=1e-4)
        assert (found.features[found.fold == k][:, ~varies] == 0).all()


def test_new_patients_are_measured_by_every_network_on_the_same_scale(made):
    data, found = made
    fresh = crops(6, 9)
    versions = found.of(fresh)
    assert versions.shape == (3, 12, 512)
    k = 1
    raw = predict_features(found.networks[k], fresh)
    varies = found.sd[k] > 0
    np.testing.assert_allclose(
        versions[k][:, varies], (raw[:, varies] - found.mean[k][varies]) / found.sd[k][varies], atol=1e-4
    )


def test_the_same_seed_gives_the_same_features_and_resumes(made, tmp_path):
    data, found = made
    kept = out_of_fold_features(SPEC, data, np.random.default_rng(0), 3, tmp_path)
    again = out_of_fold_features(SPEC, data, np.random.default_rng(0), 3, tmp_path)
    np.testing.assert_array_equal(kept.features, found.features)
    np.testing.assert_array_equal(again.features, found.features)


def test_agreement_is_the_mean_correlation_over_pairs_of_networks():
    rng = np.random.default_rng(0)
    versions = rng.normal(size=(4, 30, 6))
    versions[:, :, 1] = versions[:1, :, 1] * np.array([1, 2, 0.5, 3])[:, None] + 7  # another scale, the same axis
    versions[2, :, 5] = 1.0
    found = axis_agreement(versions)
    for f in range(5):
        pairs = np.corrcoef(versions[:, :, f])[np.triu_indices(4, 1)]
        assert found[f] == pytest.approx(pairs.mean(), abs=1e-12)
    assert found[1] == pytest.approx(1) and abs(found[0]) < 0.3 and np.isnan(found[5])


def test_mistakes():
    with pytest.raises(InputError, match="at least 2"):
        out_of_fold_features(SPEC, crops(6, 0), np.random.default_rng(0), n_folds=1)


def test_a_network_is_the_same_bytes_under_any_name(made, tmp_path):
    """torch names the archive inside a file after the file; results must not change with a temporary name."""
    network = made[1].networks[0]
    first, second = (save_fitted(network, tmp_path / name).read_bytes() for name in ("a.pt", "another-name.pt"))
    assert first == second
    data = crops(4, 5)
    np.testing.assert_array_equal(
        predict_features(read_fitted(tmp_path / "a.pt"), data), predict_features(network, data)
    )
