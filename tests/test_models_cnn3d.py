"""The 3-D networks: sizes against the layer tables of their papers, seeds, given weights."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from alnlib.errors import InputError
from alnlib.models.cnn2d import parameter_count
from alnlib.models.cnn3d import ARCHITECTURES, build_cnn3d, smallest_sides

FEATURES = {"resnet18_3d": 512, "resnet50_3d": 2048, "densenet121_3d": 1024}


def resnet_parameters(blocks: tuple[int, ...], bottleneck: bool, channels: int) -> int:
    """He et al. 2016, table 1, with cubic filters: convolutions without bias, two numbers per normalized channel."""

    def convolution(a, b, side):
        return a * b * side**3 + 2 * b

    total, before = convolution(channels, 64, 7), 64
    for stage, n in enumerate(blocks):
        width = 64 * 2**stage
        after = 4 * width if bottleneck else width
        for block in range(n):
            if bottleneck:
                total += convolution(before, width, 1) + convolution(width, width, 3) + convolution(width, after, 1)
            else:
                total += convolution(before, width, 3) + convolution(width, width, 3)
            if block == 0 and before != after:
                total += convolution(before, after, 1)
            before = after
    return total + before + 1


def densenet121_parameters(channels: int) -> int:
    """Huang et al. 2017, table 1, growth 32, with cubic filters: norms come before the convolutions they feed."""
    total, width = channels * 64 * 7**3 + 2 * 64, 64
    for stage, n in enumerate((6, 12, 24, 16)):
        for _ in range(n):
            total += 2 * width + width * 128 + 2 * 128 + 128 * 32 * 3**3
            width += 32
        if stage < 3:
            total += 2 * width + width * (width // 2)
            width //= 2
    return total + 2 * width + width + 1


def test_parameter_counts_follow_the_layer_tables():
    assert parameter_count(build_cnn3d("resnet18_3d", 2)) == resnet_parameters((2, 2, 2, 2), False, 2)
    assert parameter_count(build_cnn3d("resnet50_3d", 1)) == resnet_parameters((3, 4, 6, 3), True, 1)
    assert parameter_count(build_cnn3d("densenet121_3d", 3)) == densenet121_parameters(3)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_logits_and_last_feature_map_of_the_smallest_and_of_twice_its_size(architecture):
    for stem, factor in (("standard", 1), ("small", 2)):
        network = build_cnn3d(architecture, 2, 3, stem=stem, dropout=0.5).eval()
        seen = []
        inner = network.features if architecture.startswith("dense") else network.layer4
        inner.register_forward_hook(lambda module, inputs, output, seen=seen: seen.append(output.shape))
        sides = tuple(factor * side for side in smallest_sides(stem))
        with torch.no_grad():
            assert network(torch.zeros(1, 2, *sides)).shape == (1, 3)
        assert tuple(seen[0]) == (1, FEATURES[architecture], factor, factor, factor)


def test_weights_depend_on_the_seed_alone():
    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    first = build_cnn3d("densenet121_3d", seed=5).state_dict()
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.manual_seed(99)
    again = build_cnn3d("densenet121_3d", seed=5).state_dict()
    other = build_cnn3d("densenet121_3d", seed=6).state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["features.conv0.weight"], other["features.conv0.weight"])


def test_the_head_starts_near_zero():
    """A logit near 0 for every patient: the prior, whatever the depth below the head."""
    network = build_cnn3d("resnet18_3d", seed=3)
    assert network.fc[-1].bias.abs().max() == 0 and network.fc[-1].weight.std().item() == pytest.approx(0.01, rel=0.2)


def test_given_weights_come_back_and_equal_channels_excite_them_as_one(tmp_path):
    saved = build_cnn3d("densenet121_3d", 1, 5, seed=1)
    torch.save(saved.state_dict(), tmp_path / "weights.pt")
    volumes = torch.randn(2, 1, 16, 32, 32, generator=torch.Generator().manual_seed(0))

    def maps(network, volumes):
        with torch.inference_mode():
            return network.eval().features(volumes).numpy()

    features = maps(saved, volumes)
    same = build_cnn3d("densenet121_3d", 1, 1, weights=tmp_path / "weights.pt", seed=2)
    np.testing.assert_array_equal(maps(same, volumes), features)
    three = build_cnn3d("densenet121_3d", 3, 1, weights=tmp_path / "weights.pt", seed=2)
    np.testing.assert_allclose(maps(three, volumes.repeat(1, 3, 1, 1, 1)), features, rtol=1e-3, atol=1e-5)


def test_mistakes_are_named(tmp_path):
    with pytest.raises(ValueError, match="unknown architecture"):
        build_cnn3d("resnet18")
    with pytest.raises(ValueError, match="unknown stem"):
        build_cnn3d("resnet18_3d", stem="large")
    with pytest.raises(ValueError, match="dropout"):
        build_cnn3d("resnet18_3d", dropout=1.0)
    with pytest.raises(InputError, match="no published weights 'kinetics'.*give 'none'"):
        build_cnn3d("resnet18_3d", weights="kinetics")
    with pytest.raises(InputError, match="do not exist; give 'none' or the path"):
        build_cnn3d("densenet121_3d", weights=tmp_path / "absent.pt")
    torch.save({"state_dict": {"a": torch.zeros(1)}}, tmp_path / "nested.pt")
    with pytest.raises(InputError, match="no flat state dictionary"):
        build_cnn3d("densenet121_3d", weights=tmp_path / "nested.pt")
    torch.save({"conv1.weight": torch.zeros(64, 1, 7, 7, 7)}, tmp_path / "other.pt")
    with pytest.raises(InputError, match="same architecture"):
        build_cnn3d("densenet121_3d", weights=tmp_path / "other.pt")
