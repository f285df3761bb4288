"""Deletion and insertion against areas worked out by hand; maps that survive random weights, and maps that do not."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from torch import nn

from alnlib.explain.faithfulness import (
    area_under,
    faithfulness_table,
    gain_verdict,
    map_similarity,
    network_probability,
    occlusion_drop,
    perturbation_curve,
    random_maps,
    randomization_stages,
    weight_randomization_table,
)
from alnlib.explain.gradcam import grad_cam
from alnlib.models.cnn2d import build_cnn2d

SIDE = 10
PATCH = (slice(2, 6), slice(3, 8))
N_PATCH, N_PIXELS = 20, 100


def patch_mean(images):
    return images[(slice(None), 0, *PATCH)].mean(axis=(1, 2))


def patch_map(n=2):
    maps = np.zeros((n, SIDE, SIDE))
    maps[(slice(None), *PATCH)] = 1
    return maps


def test_areas_of_a_score_that_is_the_mean_of_a_patch():
    """By hand, ones deleted to zeros one by one: 1 - k/20 down to 0 at k = 20, a triangle of area 20/200; insertion, its
    mirror image, 1 - 20/200."""
    ones, zeros = np.ones((2, 1, SIDE, SIDE), np.float32), np.zeros(1)
    curves = {
        mode: perturbation_curve(patch_mean, ones, patch_map(), mode, np.random.default_rng(0), zeros, N_PIXELS)
        for mode in ("deletion", "insertion")
    }
    share = np.minimum(np.arange(N_PIXELS + 1) / N_PATCH, 1)
    np.testing.assert_allclose(curves["deletion"], np.tile(1 - share, (2, 1)), atol=1e-6)
    np.testing.assert_allclose(curves["insertion"], np.tile(share, (2, 1)), atol=1e-6)
    np.testing.assert_allclose(area_under(curves["deletion"]), 0.1, atol=1e-6)
    np.testing.assert_allclose(area_under(curves["insertion"]), 0.9, atol=1e-6)


def test_random_order_has_half_the_area_and_equal_heat_is_in_random_order():
    """A pixel in random order is gone at a uniform fraction: the mean area is 1/2; raster order would give 0.395 here."""
    ones, rng = np.ones((300, 1, SIDE, SIDE), np.float32), np.random.default_rng(1)
    for maps in (random_maps((300, SIDE, SIDE), rng), np.zeros((300, SIDE, SIDE))):
        areas = area_under(perturbation_curve(patch_mean, ones, maps, "deletion", rng, np.zeros(1), steps=20))
        assert abs(areas.mean() - 0.5) < 0.02 and areas.std() > 0.01


@pytest.mark.parametrize("spatial", [(SIDE, SIDE), (4, 8, 8)])
def test_both_curves_start_and_end_where_they_must(spatial):
    rng = np.random.default_rng(0)
    images = rng.normal(size=(3, 2, *spatial)).astype(np.float32)
    sigma = (0,) + (2,) * (len(spatial) - 1)

    def weighted_sum(pixels):
        return (pixels * np.linspace(0, 1, images[0].size).reshape(images[0].shape)).sum(
            axis=tuple(range(1, pixels.ndim))
        )

    blurred = np.stack([[gaussian_filter(channel, sigma) for channel in image] for image in images])
    ends = weighted_sum(images), weighted_sum(blurred)
    maps = rng.random((3, *spatial))
    for mode, (start, end) in {"deletion": ends, "insertion": ends[::-1]}.items():
        curve = perturbation_curve(weighted_sum, images, maps, mode, rng, blurred, steps=3)
        np.testing.assert_allclose(curve[:, 0], start, rtol=1e-3, atol=1e-3)
        np.testing.assert_allclose(curve[:, -1], end, rtol=1e-3, atol=1e-3)
    table = faithfulness_table(weighted_sum, images, maps, rng, repeats=1, blur_sigma=sigma, steps=2)
    np.testing.assert_allclose(table["filled_score"], np.tile(ends[1], 2), rtol=1e-3, atol=1e-3)


def test_random_maps_are_constant_on_cells_of_the_asked_size():
    maps = random_maps((2, 7, 6), np.random.default_rng(0), cell=(3, 2))
    assert maps.shape == (2, 7, 6) and len(np.unique(maps)) == 2 * 3 * 3
    for rows in (slice(0, 3), slice(3, 6), slice(6, 7)):
        for columns in (slice(0, 2), slice(2, 4), slice(4, 6)):
            assert np.ptp(maps[0, rows, columns]) == 0
    with pytest.raises(ValueError, match="cell"):
        random_maps((2, 7, 6), np.random.default_rng(0), cell=(3, 2, 1))


def detector() -> nn.Module:
    """A small network that has learned, in a second, whether a bright blob is somewhere in noise."""
    torch.manual_seed(0)
    network = nn.Sequential()
    network.add_module(
        "features",
        nn.Sequential(
            nn.Conv2d(1, 8, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(8, 16, 5, padding=2), nn.ReLU()
        ),
    )
    network.add_module("pool", nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()))
    network.add_module("classifier", nn.Linear(16, 1))
    images, y, _ = blobs(64, np.random.default_rng(0))
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-2)
    for _ in range(60):
        optimizer.zero_grad()
        loss = nn.functional.binary_cross_entropy_with_logits(
            network(torch.from_numpy(images))[:, 0], torch.from_numpy(y)
        )
        loss.backward()
        optimizer.step()
    return network.eval()


def blobs(n, rng):
    images = rng.normal(0, 0.3, (n, 1, 24, 24)).astype(np.float32)
    y = (np.arange(n) % 2).astype(np.float32)
    truth = np.zeros((n, 24, 24), bool)
    for i in range(1, n, 2):
        row, column = rng.integers(2, 16, 2)
        truth[i, row : row + 6, column : column + 6] = True
    images[:, 0][truth] += 1.5
    return images, y, truth


@pytest.fixture(scope="module")
def trained():
    network = detector()
    images, y, truth = blobs(16, np.random.default_rng(9))
    images, truth = images[y == 1], truth[y == 1]
    assert (network_probability(network)(images) > 0.8).all()
    return network, images, truth


def test_deleting_what_grad_cam_shows_harms_more_than_deleting_at_random(trained):
    network, images, truth = trained
    maps = grad_cam(network, images)
    assert maps[truth].mean() > 5 * maps[~truth].mean()
    table = faithfulness_table(
        network_probability(network), images, maps, np.random.default_rng(0), cell=2, repeats=2, fill=np.zeros(1)
    )
    assert list(table.columns) == ["image", "mode", "score", "filled_score", "auc", "random_auc", "gain"]
    assert table.groupby("mode").size().to_dict() == {"deletion": 8, "insertion": 8}
    assert (table.groupby("mode")["gain"].mean() > 0.3).all() and (table["filled_score"] < 0.01).all()
    np.testing.assert_allclose(table["score"], np.tile(network_probability(network)(images), 2), rtol=1e-6)
    # The mean of an image with a bright blob is brighter than its background, and the network takes it for the blob.
    mean = images.mean(axis=(2, 3), keepdims=True)
    bright = faithfulness_table(
        network_probability(network), images, maps, np.random.default_rng(0), repeats=1, fill=mean
    )
    assert (bright["filled_score"] > 0.9).all()
    # The map turned upside down in heat is worse than random: the sign of the gain is not given away.
    upside_down = faithfulness_table(
        network_probability(network), images, -maps, np.random.default_rng(0), cell=2, repeats=2, fill=np.zeros(1)
    )
    assert (upside_down.groupby("mode")["gain"].mean() < 0).all()


def test_the_same_seed_gives_the_same_table(trained):
    network, images, _ = trained
    maps = grad_cam(network, images)
    predict = network_probability(network)
    tables = [faithfulness_table(predict, images, maps, np.random.default_rng(4), steps=5, repeats=1) for _ in range(2)]
    assert tables[0].equals(tables[1])
    cascades = [
        weight_randomization_table(network, lambda one: grad_cam(one, images), np.random.default_rng(seed), draws=2)
        for seed in (4, 4, 5)
    ]
    assert cascades[0].equals(cascades[1]) and not cascades[0].equals(cascades[2])


def test_grad_cam_does_not_survive_random_weights_but_a_map_of_the_image_does(trained):
    """Adebayo et al. 2018: what ignores the weights (an edge detector; here the image itself) stays as it was."""
    network, images, _ = trained
    before = {name: value.clone() for name, value in network.state_dict().items()}
    stages = ["classifier", "features.3", "features.0"]
    assert randomization_stages(network) == stages
    table = weight_randomization_table(network, lambda one: grad_cam(one, images), np.random.default_rng(0), draws=8)
    assert list(table.columns) == ["step", "stage", "spearman", "spearman_sd", "ssim", "ssim_sd", "flat"]
    assert list(table["stage"]) == ["", *stages] and list(table["step"]) == [0, 1, 2, 3]
    assert table.loc[0, ["spearman", "spearman_sd", "ssim", "ssim_sd", "flat"]].tolist() == [1.0, 0.0, 1.0, 0.0, 0.0]
    assert table.loc[3, "spearman"] < 0.8 and table.loc[3, "ssim"] < 0.5
    blind = weight_randomization_table(network, lambda one: np.abs(images[:, 0]), np.random.default_rng(0), draws=1)
    np.testing.assert_allclose(blind[["spearman", "ssim"]], 1.0)
    nothing = weight_randomization_table(
        network,
        lambda one: grad_cam(one, images) * float(one[2].weight.equal(network[2].weight)),
        np.random.default_rng(0),
    )
    assert nothing["flat"].tolist() == [0, 1, 1, 1] and nothing["spearman"].isna().tolist() == [False, True, True, True]
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())


def test_stages_run_from_the_head_down_and_every_weight_is_in_one():
    resnet = randomization_stages(build_cnn2d("resnet18"))
    assert resnet == ["fc", "layer4", "layer3", "layer2", "layer1", "bn1", "conv1"]
    wrapped = nn.ModuleDict({"backbone": build_cnn2d("resnet18")})
    assert randomization_stages(wrapped) == [f"backbone.{name}" for name in resnet]
    for architecture in ("densenet121", "efficientnet_b0"):
        network = build_cnn2d(architecture)
        stages = randomization_stages(network)
        assert stages[0] == "classifier" and stages[-1] in ("features.conv0", "features.0")
        counts = [sum(p.numel() for p in network.get_submodule(stage).parameters()) for stage in stages]
        assert sum(counts) == sum(p.numel() for p in network.parameters())


def test_similarity_of_maps():
    """By definition: equal maps 1; reversed order -1; a scale changes neither; a flat map has no order."""
    rng = np.random.default_rng(0)
    maps = rng.random((2, 9, 9))
    same = map_similarity(maps, 3 * maps)
    np.testing.assert_allclose(same, 1.0)
    reversed_order = map_similarity(maps, 1 - maps)
    np.testing.assert_allclose(reversed_order["spearman"], -1.0)
    assert (reversed_order["ssim"] < 0.2).all()
    assert map_similarity(maps, np.zeros_like(maps)).isna().all(axis=None)
    assert (map_similarity(rng.random((1, 5, 9, 9)), rng.random((1, 5, 9, 9))).abs() < 0.3).all(axis=None)
    with pytest.raises(ValueError, match="cannot be compared"):
        map_similarity(maps, maps[:, :5])
    with pytest.raises(ValueError, match="at least 3"):
        map_similarity(maps[:, :2], maps[:, :2])


def test_wrong_arguments_say_so():
    rng, images = np.random.default_rng(0), np.ones((2, 1, SIDE, SIDE), np.float32)
    with pytest.raises(ValueError, match="unknown mode"):
        perturbation_curve(patch_mean, images, patch_map(), "erasure", rng, np.zeros(1))
    with pytest.raises(ValueError, match="do not fit"):
        perturbation_curve(patch_mean, images, patch_map(3), "deletion", rng, np.zeros(1))


def test_probability_is_the_sigmoid_in_evaluation_mode_and_the_mode_comes_back():
    network = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(4, 1)).train()
    network[1].eval()
    images = np.random.default_rng(0).normal(size=(5, 1, 2, 2)).astype(np.float32)
    weights, bias = network[2].weight[0].detach().numpy(), network[2].bias.item()
    network[1].train()
    expected = 1 / (1 + np.exp(-(images.reshape(5, 4) @ weights + bias)))
    np.testing.assert_allclose(network_probability(network, batch_size=2)(images), expected, rtol=1e-5)
    assert all(module.training for module in network.modules())


@pytest.mark.parametrize(
    ("low", "high", "words"),
    [
        (0.01, 0.1, "better than random patches"),
        (-0.1, 0.1, "not told from random patches"),
        (-0.2, -0.1, "worse than random patches"),
    ],
)
def test_the_verdict_on_a_map_follows_its_interval(low, high, words):
    assert gain_verdict(low, high) == words


def test_occlusion_finds_the_only_square_that_matters():
    """The prediction is the mean of one square: replacing it by zeros takes all of it, replacing any other takes nothing."""
    images = np.random.default_rng(0).random((3, 1, 8, 10)).astype(np.float32)
    drop = occlusion_drop(lambda x: x[:, 0, 4:8, 0:4].mean(axis=(1, 2)), images, 4, fill=np.zeros(1))
    assert drop.shape == (3, 2, 3)
    np.testing.assert_allclose(drop[:, 1, 0], images[:, 0, 4:8, 0:4].mean(axis=(1, 2)), rtol=1e-6)
    drop[:, 1, 0] = 0
    assert not drop.any()
    with pytest.raises(ValueError, match="rows, columns"):
        occlusion_drop(lambda x: x, images[0], 4)
