"""Frozen features and their linear head: against the plain network and plain regression, and independent of threads."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from alneval.delong import auc
from alnlib.errors import InputError
from alnlib.models import frozen
from alnlib.models.cnn2d import build_cnn2d
from alnlib.models.frozen import FrozenNetwork, FrozenSpec, LinearHead, frozen_features


def _crops(n=5, channels=1, side=48, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, channels, side, side), dtype=np.uint8)


@pytest.mark.parametrize("channels", [1, 3])
def test_features_are_the_moments_of_the_plain_networks_maps(channels):
    """Folded batch norms, one gray channel and channels_last change the speed, not the features."""
    crops = _crops(channels=channels)
    found = frozen_features(crops, FrozenSpec(depths=(3, 9)))
    network = build_cnn2d("efficientnet_lite0", channels, weights="packaged").eval()
    maps = (torch.from_numpy(crops).float() - 127) / 128
    expected = []
    with torch.no_grad():
        for place, stage in enumerate(network.features):
            maps = stage(maps)
            if place in (3, 9):
                expected += [maps.mean(dim=(2, 3)), maps.std(dim=(2, 3), unbiased=False)]
    assert found.shape == (5, 2 * 24 + 2 * 112)
    np.testing.assert_allclose(found, torch.cat(expected, dim=1).numpy(), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("architecture", "depths", "channels"),
    [("resnet18", (1, 3), (64, 256)), ("densenet121", (4, 6), (256, 512)), ("efficientnet_b0", (1, 4), (16, 80))],
)
def test_other_networks_are_tapped_at_their_stages(architecture, depths, channels):
    found = frozen_features(_crops(), FrozenSpec(architecture, "none", depths))
    assert found.shape == (5, 2 * sum(channels)) and np.isfinite(found).all() and found.std(axis=0).max() > 0


def test_the_middle_of_a_map_is_pooled_beside_the_whole():
    """Side 6 at depth 9 of a crop of 96 px: its middle 30 % is 2 cells, of an odd side an odd number."""
    crops = _crops(side=96)
    found = frozen_features(crops, FrozenSpec(depths=(9,), pooled=(1.0, 0.3)))
    np.testing.assert_array_equal(found[:, :224], frozen_features(crops, FrozenSpec(depths=(9,))))
    network = FrozenNetwork(FrozenSpec(depths=(9,)))
    with torch.no_grad():
        maps = network.features((torch.from_numpy(crops).float() - 127) / 128)
    assert maps.shape[2:] == (6, 6)
    expected = maps[:, :, 2:4, 2:4]
    both = torch.cat([expected.mean(dim=(2, 3)), expected.std(dim=(2, 3), unbiased=False)], dim=1)
    np.testing.assert_allclose(found[:, 224:], both.numpy(), rtol=1e-3, atol=1e-4)
    assert frozen._middle(torch.zeros(1, 1, 7, 12), 0.3).shape == (1, 1, 3, 4)


def test_every_column_of_a_table_has_a_name():
    spec = FrozenSpec(depths=(1,), pooled=(1.0, 0.3))
    table = frozen.frozen_table({"CT": _crops(n=2)[:, 0]}, ["A", "B"], spec)
    assert table.shape == (2, 64) and table.columns.is_unique
    assert list(table.columns[[0, -1]]) == ["CT__deep_01_mean_0000", "CT__deep_01_middle30_sd_0015"]


def test_features_do_not_depend_on_threads_or_on_who_asks(tmp_path, monkeypatch):
    crops = _crops(n=70)
    whole = frozen_features(crops, FrozenSpec(), tmp_path)
    monkeypatch.setattr(frozen.os, "cpu_count", lambda: 1)
    assert frozen_features(crops, FrozenSpec()).tobytes() == whole.tobytes()
    kept = list(tmp_path.glob("frozen-*.npy"))
    assert len(kept) == 1
    monkeypatch.setattr(frozen, "_passed", lambda *arguments: pytest.fail("the crops passed the network again"))
    assert frozen_features(crops.copy(), FrozenSpec(), tmp_path).tobytes() == whole.tobytes()


def test_a_damaged_file_of_features_is_made_anew(tmp_path):
    crops = _crops()
    whole = frozen_features(crops, FrozenSpec(), tmp_path)
    (path,) = tmp_path.glob("frozen-*.npy")
    content = bytearray(path.read_bytes())
    content[200] ^= 1
    path.write_bytes(content)
    assert frozen_features(crops, FrozenSpec(), tmp_path).tobytes() == whole.tobytes()


def test_what_cannot_be_is_said():
    with pytest.raises(InputError, match="at least one"):
        FrozenSpec(depths=())
    with pytest.raises(InputError, match="pooled is"):
        FrozenSpec(pooled=(1.0, 0.0))
    with pytest.raises(InputError, match="stages 0 to 17"):
        FrozenNetwork(FrozenSpec(depths=(18,)))
    with pytest.raises(ValueError, match="uint8"):
        frozen_features(_crops().astype(np.float32), FrozenSpec())


def _cohort(n=120, features=200, signal=0.8, seed=1):
    rng = np.random.default_rng(seed)
    y = rng.permutation(np.arange(n) % 2)
    X = rng.normal(size=(n, features))
    X[:, :5] += signal * (y[:, None] - 0.5)
    return X, y


def test_the_head_is_the_regression_of_scikit_learn_at_the_strength_that_it_chose():
    X, y = _cohort()
    X[:, 7] = 3.25  # a constant column has no say
    head = LinearHead(seed=3).fit(X, y)
    plain = make_pipeline(StandardScaler(), LogisticRegression(C=head.strength_, tol=1e-10, max_iter=10_000)).fit(X, y)
    np.testing.assert_allclose(head.decision_function(X), plain.decision_function(X), atol=1e-4)
    np.testing.assert_allclose(head.predict_proba(X).sum(axis=1), 1)
    assert head.coef_[7] == 0


def test_the_head_finds_what_is_there_and_nothing_in_noise():
    X, y = _cohort(n=400)
    head = LinearHead().fit(X[:200], y[:200])
    assert auc(y[200:], head.decision_function(X[200:])) > 0.75
    noise = LinearHead().fit(X[:200], np.random.default_rng(0).permutation(y[:200]))
    assert abs(auc(y[200:], noise.decision_function(X[200:])) - 0.5) < 0.15  # four standard errors


def test_images_of_a_patient_weigh_as_much_as_the_one_of_another():
    """A patient whose image is there four times: equal patients give the head of each image once, plain rows do not."""
    X, y = _cohort(n=60)
    ids = np.array([f"P{k:02d}" for k in range(60)])
    again = np.concatenate([np.arange(60), np.repeat(np.arange(10), 3)])
    plain = LinearHead(seed=2).fit(pd.DataFrame(X, index=ids), y)
    several = pd.DataFrame(X[again], index=ids[again])
    equal = LinearHead(seed=2, patients_equal=True).fit(several, y[again])
    assert equal.strength_ == plain.strength_
    np.testing.assert_allclose(equal.decision_function(X), plain.decision_function(X), atol=1e-6)
    assert (
        np.abs(LinearHead(seed=2).fit(several, y[again]).decision_function(X) - plain.decision_function(X)).max() > 0.01
    )
    one_each = LinearHead(seed=2, patients_equal=True).fit(pd.DataFrame(X, index=ids), y)
    np.testing.assert_array_equal(one_each.coef_, plain.coef_)


def test_rows_of_a_patient_stay_in_one_fold():
    """A feature that names the patient, and nothing else, must not look useful because twins sit in other folds."""
    rng = np.random.default_rng(5)
    y = np.repeat(rng.permutation(np.arange(40) % 2), 3)
    patients = np.repeat([f"P{k}" for k in range(40)], 3)
    names = np.eye(40)[np.repeat(np.arange(40), 3)]
    known = LinearHead(seed=1).fit(pd.DataFrame(names, index=patients), y)
    assert known.strength_ == min(known.strengths)
    assert LinearHead(seed=1).fit(names, y).strength_ > known.strength_
