"""Volumes in training: augmentation in space, never taken for clips, resumable, and learning what lies in depth only."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from alnlib.errors import InputError
from alnlib.training.augment import NO_AUGMENTATION, AugmentSpec, augment_batch
from alnlib.training.data import CropDataset
from alnlib.training.fit import FitSpec, fit_classifier, predict_logits
from tests.toy import Killed, kill_after

SPEC = FitSpec(
    "resnet18_3d", 16, depth=8, epochs=3, batch_size=6, stem="small", augment=NO_AUGMENTATION, seed=5, threads=1
)


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def ordered_in_depth(n: int, seed: int, depth: int = 8, side: int = 16) -> CropDataset:
    """A bright blob two slices above a dark one in positives and below it in negatives, cyclically, at a random depth.

    Each blob lies in every slice equally often in both classes, never both in one slice: no slice alone, and no set of
    slices without their order, says anything of the label.
    """
    rng = np.random.default_rng(seed)
    y = np.arange(n) % 2
    volumes = rng.normal(120, 6, (n, 1, depth, side, side))
    for volume, label in zip(volumes, y, strict=True):
        z, (row, col) = rng.integers(depth), rng.integers(0, side - 7, 2)
        volume[0, z, row : row + 8, col : col + 8] += 100
        volume[0, (z + (2 if label else -2)) % depth, row : row + 8, col : col + 8] -= 100
    units = tuple(f"{seed}-{i}" for i in range(n))
    return CropDataset(volumes.clip(0, 255).astype(np.uint8), y, units, kind="volumes")


def auc(y, score) -> float:
    return float((score[y == 1][:, None] > score[y == 0]).mean())


def test_a_label_that_lies_in_the_order_of_slices_only_is_learned():
    """Turned over in depth, the classes change places and so must the scores; with shuffled slices nothing is left."""
    train, test = ordered_in_depth(48, 1), ordered_in_depth(40, 3)
    fitted = fit_classifier(replace(SPEC, batch_size=8), train)
    assert auc(test.y, predict_logits(fitted, test)) > 0.75
    assert auc(test.y, predict_logits(fitted, test.crops[:, :, ::-1].copy())) < 0.3
    shuffled = np.random.default_rng(0).permuted(np.arange(8)[None].repeat(40, 0), axis=1)
    mixed = np.stack([volume[:, order] for volume, order in zip(test.crops, shuffled, strict=True)])
    assert 0.25 < auc(test.y, predict_logits(fitted, mixed)) < 0.75


def test_volumes_are_fitted_to_the_same_bytes_and_a_killed_fit_resumes(tmp_path):
    train, others = ordered_in_depth(12, 1), ordered_in_depth(6, 2)
    spec = replace(SPEC, epochs=2, augment=AugmentSpec(vertical_flip=0.5))
    whole = fit_classifier(spec, train)
    again = fit_classifier(spec, train)
    assert all(torch.equal(again.state[name], value) for name, value in whole.state.items())

    with pytest.raises(Killed):
        fit_classifier(spec, train, tmp_path, progress=kill_after(1))
    epochs = []
    resumed = fit_classifier(spec, train, tmp_path, lambda row: epochs.append(row["epoch"]))
    assert epochs == [2]
    pd.testing.assert_frame_equal(whole.history, resumed.history, check_exact=True)
    scores = predict_logits(whole, others)
    assert scores.tobytes() == predict_logits(again, others).tobytes()
    assert scores.tobytes() == predict_logits(resumed, others).tobytes()
    with pytest.raises(ValueError, match="as in the fit"):
        predict_logits(whole, others.crops[:, :, :7])
    clips = CropDataset(others.crops, others.y, others.unit_ids)
    with pytest.raises(ValueError, match="fitted to volumes, not to clips"):
        predict_logits(whole, clips)


def test_clips_and_volumes_are_never_taken_for_each_other():
    volumes = ordered_in_depth(12, 1)
    clips = CropDataset(volumes.crops, volumes.y, volumes.unit_ids)
    assert clips.kind == "clips" and volumes.subset([0, 1]).kind == "volumes" and "12 volumes of" in repr(volumes)
    assert clips.fingerprint() != volumes.fingerprint()
    with pytest.raises(ValueError, match="training set holds clips, the specification says volumes"):
        fit_classifier(SPEC, clips)
    with pytest.raises(ValueError, match="training set holds volumes, the specification says clips"):
        fit_classifier(FitSpec("r3d_18", 16, frames=8), volumes)
    with pytest.raises(ValueError, match="does not fit 4 axes"):
        CropDataset(volumes.crops[:, :, 0], volumes.y, volumes.unit_ids, kind="volumes")
    for architecture, sizes in (("resnet18", {"depth": 8}), ("resnet18_3d", {"frames": 8}), ("resnet18_3d", {})):
        with pytest.raises(InputError, match="volumes a 3-D one"):
            FitSpec(architecture, 32, **sizes)
    with pytest.raises(InputError, match="frames for clips or depth for volumes"):
        FitSpec("resnet18_3d", 32, frames=8, depth=16)
    with pytest.raises(InputError, match="too small for resnet18_3d.*16 x 32 x 32"):
        FitSpec("resnet18_3d", 32, depth=15)


def test_volumes_flip_exactly_along_x_and_y():
    volumes = torch.rand(3, 2, 6, 10, 14, generator=generator(0))
    assert torch.equal(augment_batch(volumes, NO_AUGMENTATION, generator(1), volumes=True), volumes)
    for name, axis in (("horizontal_flip", -1), ("vertical_flip", -2)):
        flipped = augment_batch(volumes, replace(NO_AUGMENTATION, **{name: 1.0}), generator(1), volumes=True)
        torch.testing.assert_close(flipped, volumes.flip(axis), atol=1e-5, rtol=0)
    with pytest.raises(ValueError, match="volumes must be"):
        augment_batch(volumes[:, 0], NO_AUGMENTATION, generator(1), volumes=True)


def test_a_volume_changed_in_the_plane_is_changed_as_its_slices_are():
    """The same draws without zoom and shift: the 2-D code, slice by slice, is the reference."""
    volumes = torch.rand(4, 1, 5, 12, 16, generator=generator(0))
    spec = AugmentSpec(0.5, 0.5, 25.0, 0.0, 0.0, 0.3, 0.2, 0.0)
    in_space = augment_batch(volumes, spec, generator(3), volumes=True)
    torch.testing.assert_close(in_space, augment_batch(volumes, spec, generator(3)), atol=1e-4, rtol=0)


def test_zoom_and_shift_hold_for_all_axes():
    """The center of mass moves along z too, each volume by its own draw; the extent along z grows with that along x."""
    z, y, x = np.mgrid[:24, :24, :24] - 11.5
    ball = torch.from_numpy(np.exp(-(z**2 + y**2 + x**2) / 18).astype(np.float32))[None, None].repeat(4, 1, 1, 1, 1)
    moved = augment_batch(ball, replace(NO_AUGMENTATION, translate=0.1), generator(1), volumes=True).numpy()[:, 0]
    shifts = [(volume * z).sum() / volume.sum() for volume in moved]
    assert len(set(np.round(shifts, 3))) == 4 and 0.3 < np.abs(shifts).max() <= 2.4 + 0.1
    zoomed = augment_batch(ball, replace(NO_AUGMENTATION, scale=0.3), generator(1), volumes=True).numpy()[:, 0]
    extents = np.array([[(volume * axis**2).sum() / volume.sum() for axis in (z, y, x)] for volume in zoomed])
    np.testing.assert_allclose(extents, extents.mean(axis=1, keepdims=True).repeat(3, 1), rtol=0.01)
    assert np.ptp(extents[:, 0]) > 1
