"""The video networks: TIN's shift against its definition, sizes against formulas, and labels that lie in motion alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torchvision import models

from alneval.delong import auc_interval
from alneval.units import Units
from alnlib.errors import InputError
from alnlib.models.cnn2d import build_cnn2d, parameter_count
from alnlib.models.video import (
    ARCHITECTURES,
    TemporalInterlacing,
    build_video_network,
    interlace,
    shift_matrix,
)

T = 8
BLOCK_INPUTS = {
    "tin_resnet18": [64, 64, 64, 128, 128, 256, 256, 512],
    "tin_resnet50": [64, *[256] * 3, *[512] * 4, *[1024] * 6, *[2048] * 2],
}
"""Channels that enter each block; the first of a stage sees the width of the stage before."""


def noise(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def interlacing(network: nn.Module) -> list[TemporalInterlacing]:
    """The TIN layers of a network, from input to output."""
    return [module for module in network.modules() if isinstance(module, TemporalInterlacing)]


def both(value: float, n: int = 2) -> torch.Tensor:
    return torch.full((n, 2), value, dtype=torch.float64)


UNIT_WEIGHTS = torch.ones(2, 2, T, dtype=torch.float64)


def test_no_offset_and_unit_weights_are_the_identity():
    x = noise(2, T, 8, 3, 3, dtype=torch.float64)
    assert torch.equal(interlace(x, both(0.0), UNIT_WEIGHTS), x)


def test_an_offset_of_one_delays_by_a_frame_and_its_opposite_advances_with_zeros_at_the_ends():
    x = noise(2, T, 8, 3, 3, dtype=torch.float64)
    y = interlace(x, both(1.0), UNIT_WEIGHTS)
    zero = torch.zeros_like(x[:, :1])
    delayed, advanced = torch.cat([zero, x[:, :-1]], dim=1), torch.cat([x[:, 1:], zero], dim=1)
    assert torch.equal(y[:, :, :4], delayed[:, :, :4])
    assert torch.equal(y[:, :, 4:], advanced[:, :, 4:])


@pytest.mark.parametrize("offset", [-1.9, -0.3, 0.25, 0.5, 1.7])
def test_a_fractional_shift_is_linear_interpolation(offset):
    """numpy.interp over the clip, padded with zeros."""
    values = np.random.default_rng(0).normal(size=T)
    found = shift_matrix(torch.tensor(offset, dtype=torch.float64), T).numpy() @ values
    padded = np.concatenate([np.zeros(3), values, np.zeros(3)])
    np.testing.assert_allclose(found, np.interp(np.arange(T) - offset, np.arange(-3, T + 3), padded), atol=1e-12)


def test_gradients_of_the_shift_agree_with_finite_differences_off_the_kinks():
    x = noise(2, T, 4, 2, 2, seed=1, dtype=torch.float64).requires_grad_()
    offsets = torch.tensor([[0.4, -1.3], [1.6, 0.7]], dtype=torch.float64, requires_grad=True)
    frame_weights = (1 + 0.3 * noise(2, 2, T, seed=2, dtype=torch.float64)).requires_grad_()
    assert torch.autograd.gradcheck(interlace, (x, offsets, frame_weights))


def test_a_tin_layer_computes_what_its_description_says():
    """The steps of the TIN section in PAPERS, one loop per index, in numpy."""
    torch.manual_seed(3)
    layer = TemporalInterlacing(32, T).double()
    x = noise(2 * T, 32, 3, 2, seed=4, dtype=torch.float64)
    p = {name: value.detach().numpy() for name, value in layer.named_parameters()}
    clips = x.numpy().reshape(2, T, 32, 3, 2)
    expected = clips.copy()
    for n in range(2):
        z = np.zeros((8, T + 2))
        z[:, 1:-1] = clips[n, :, :8].mean(axis=(2, 3)).T

        def convolve(name, output, z=z):
            kernel, bias = p[f"{name}.weight"][output], p[f"{name}.bias"][output]
            return np.array([(kernel * z[:, t : t + 3]).sum() + bias for t in range(T)])

        hidden = p["offset_hidden.weight"] @ convolve("offset_convolution", 0) + p["offset_hidden.bias"]
        raw = p["offset_output.weight"] @ np.maximum(hidden, 0) + p["offset_output.bias"]
        o = 4 * (1 / (1 + np.exp(-raw)) - 0.5)
        w = [2 / (1 + np.exp(-convolve("weight_convolution", k))) for k in (0, 1)]
        for channel in range(8):
            group = channel // 2
            offset, weight = [o[0], o[1], -o[0], -o[1]][group], w[group % 2]
            for t in range(T):
                mixed = sum(max(0.0, 1 - abs(t - u - offset)) * clips[n, u, channel] for u in range(T))
                expected[n, t, channel] = weight[t] * mixed
    found = layer(x).detach().numpy().reshape(expected.shape)
    np.testing.assert_allclose(found, expected, atol=1e-12)
    assert np.array_equal(found[:, :, 8:], clips[:, :, 8:])
    assert np.abs(found[:, :, :8] - clips[:, :, :8]).mean() > 0.1


@pytest.mark.parametrize("architecture", ["tin_resnet18", "tin_resnet50"])
def test_offsets_start_around_half_a_frame_and_weights_around_one(architecture):
    """Last biases give exactly 0.5 and 1 where inputs are zero; random filters spread both round these on real inputs."""
    network = build_video_network(architecture).train()
    offsets, frame_weights = [], []

    def record(layer, inputs):
        o, w = layer.offsets_and_weights(inputs[0])
        offsets.append(o.flatten())
        frame_weights.append(w.flatten())
        zero_o = 4 * (torch.sigmoid(layer.offset_output.bias) - 0.5)
        torch.testing.assert_close(zero_o, torch.full((2,), 0.5), atol=1e-3, rtol=0)

    for layer in interlacing(network):
        layer.register_forward_pre_hook(record)
    with torch.no_grad():
        network(noise(4, 1, T, 32, 32))
    assert len(offsets) == len(BLOCK_INPUTS[architecture])
    assert abs(torch.cat(offsets).mean() - 0.5) < 0.1 and torch.cat(offsets).std() < 0.25
    assert abs(torch.cat(frame_weights).mean() - 1) < 0.15 and torch.cat(frame_weights).std() < 0.4


@pytest.mark.parametrize("architecture", ["tin_resnet18", "tin_resnet50"])
def test_only_the_first_convolution_of_a_block_sees_shifted_frames(architecture):
    block = build_video_network(architecture).frames.layer1[1].eval()
    layer, convolution = block.conv1
    assert isinstance(layer, TemporalInterlacing) and isinstance(convolution, nn.Conv2d)
    seen = {}
    layer.register_forward_pre_hook(lambda module, inputs: seen.update(unshifted=inputs[0]))
    convolution.register_forward_pre_hook(lambda module, inputs: seen.update(shifted=inputs[0]))
    x = noise(T, layer.shifted * 4, 4, 4)
    last = block.bn2 if architecture == "tin_resnet18" else block.bn3
    last.register_forward_hook(lambda module, inputs, output: seen.update(branch=output.clone()))
    with torch.no_grad():
        y = block(x)
    assert torch.equal(seen["unshifted"], x) and not torch.equal(seen["shifted"], x)
    torch.testing.assert_close(y, F.relu(seen["branch"] + x))


def test_tin_sees_the_order_of_frames_through_its_layers_alone():
    network = build_video_network("tin_resnet18").eval()
    clips = noise(2, 1, T, 32, 32)
    backwards = clips.flip(2)
    with torch.no_grad():
        assert (network(clips) - network(backwards)).abs().min() > 1e-6
        for block in (block for i in range(1, 5) for block in getattr(network.frames, f"layer{i}")):
            block.conv1 = block.conv1[1]
        per_frame = network.frames(clips.transpose(1, 2).flatten(0, 1)).view(2, T, 1)
        torch.testing.assert_close(network(clips), network(backwards))
        torch.testing.assert_close(network(clips), per_frame.mean(dim=1))


@pytest.mark.parametrize("architecture", ["r2plus1d_18", "r3d_18"])
def test_the_3d_networks_see_the_order_of_frames_and_take_clips_of_any_length(architecture):
    network = build_video_network(architecture, n_segments=4).eval()
    clips = noise(2, 1, 5, 16, 16)
    with torch.no_grad():
        assert network(clips).shape == (2, 1)
        assert (network(clips) - network(clips.flip(2))).abs().min() > 1e-6


@pytest.mark.parametrize("architecture", ["tin_resnet18", "tin_resnet50"])
@pytest.mark.parametrize("n_segments", [4, 8])
def test_parameter_counts_of_tin_follow_from_its_layers(architecture, n_segments):
    """torchvision documents ResNet-18 and -50 with 11,689,512 and 25,557,032, heads of 1,000 classes included."""
    documented, width = {"tin_resnet18": (11_689_512, 512), "tin_resnet50": (25_557_032, 2048)}[architecture]
    body = documented - 1000 * (width + 1)
    assert body == {"tin_resnet18": 11_176_512, "tin_resnet50": 23_508_032}[architecture]
    layers = 0
    for inputs in BLOCK_INPUTS[architecture]:
        moved = inputs // 4
        offset_net = (3 * moved + 1) + n_segments * (n_segments + 1) + 2 * (n_segments + 1)
        layers += offset_net + 2 * (3 * moved + 1)
    for in_channels, n_outputs in ((3, 1), (1, 2)):
        stem = 64 * 7 * 7 * (in_channels - 3)
        expected = body + stem + n_outputs * (width + 1) + layers
        assert parameter_count(build_video_network(architecture, in_channels, n_outputs, n_segments)) == expected


@pytest.mark.parametrize(
    ("architecture", "documented", "first_filters"), [("r2plus1d_18", 31_505_325, 45), ("r3d_18", 33_371_472, 64 * 3)]
)
def test_parameter_counts_of_the_3d_networks_are_torchvisions(architecture, documented, first_filters):
    """torchvision documents both with 3 channels and 400 classes; first filters are 7 x 7, over 1 or 3 frames."""
    one_output = documented - 399 * 513
    assert one_output == {"r2plus1d_18": 31_300_638, "r3d_18": 33_166_785}[architecture]
    assert parameter_count(build_video_network(architecture, 3)) == one_output
    gray_pair = one_output + 513 - 2 * first_filters * 49
    assert parameter_count(build_video_network(architecture, 1, 2)) == gray_pair


def test_a_build_depends_on_the_seed_alone():
    for architecture in ("tin_resnet18", "r3d_18"):
        torch.manual_seed(1)
        before = torch.random.get_rng_state()
        first = build_video_network(architecture, seed=5)
        assert torch.equal(torch.random.get_rng_state(), before)
        torch.manual_seed(99)
        again, other = build_video_network(architecture, seed=5), build_video_network(architecture, seed=6)
        assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True))
        differ = [not torch.equal(a, b) for a, b in zip(first.parameters(), other.parameters(), strict=True)]
        assert sum(differ) > len(differ) / 3  # scales and biases of batch norm do not


def test_tin_layers_do_not_repeat_the_numbers_of_the_first_convolution():
    network = build_video_network("tin_resnet18", seed=5)
    plain = build_cnn2d("resnet18", seed=5)
    assert torch.equal(network.frames.conv1.weight, plain.conv1.weight)
    first, second = (layer.offset_hidden.weight for layer in interlacing(network)[:2])
    assert not torch.equal(first, second)


@pytest.mark.parametrize(("architecture", "given_as"), [("r2plus1d_18", "path"), ("r3d_18", "kinetics")])
def test_a_gray_clip_excites_torchvisions_weights_as_three_equal_channels_would(
    architecture, given_as, tmp_path, monkeypatch
):
    """The logit of torchvision's own network on the clip in three channels, all under one head."""
    torch.manual_seed(0)
    rgb = getattr(models.video, architecture)(weights=None)
    rgb.stem[1].running_mean.normal_()  # as trained: not the initial zeros
    url = models.get_model_weights(architecture).DEFAULT.url
    path = tmp_path / "checkpoints" / Path(url).name
    path.parent.mkdir()
    torch.save(rgb.state_dict(), path)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    if given_as == "kinetics":
        with pytest.raises(InputError, match=r"is not the file that https.*delete it"):
            build_video_network(architecture, weights="kinetics")
        of_published = path.stem.rpartition("-")[2] + "0" * 56
        monkeypatch.setattr("alnlib.models.weights.sha256_file", lambda path: of_published)
    weights = path if given_as == "path" else "kinetics"
    gray, pair = (build_video_network(architecture, n, weights=weights).eval() for n in (1, 2))
    clip = noise(2, 1, 4, 16, 16)
    rgb.fc = pair.fc = gray.fc
    with torch.no_grad():
        expected = rgb.eval()(clip.expand(-1, 3, -1, -1, -1))
        torch.testing.assert_close(gray(clip), expected, rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(pair(clip.expand(-1, 2, -1, -1, -1)), expected, rtol=1e-3, atol=1e-4)


def test_tin_starts_from_a_saved_resnet_or_from_a_saved_tin(tmp_path):
    torch.manual_seed(0)
    plain = models.resnet18(weights=None)
    torch.save(plain.state_dict(), tmp_path / "resnet.pt")
    network = build_video_network("tin_resnet18", 3, weights=tmp_path / "resnet.pt", dropout=0.2)
    assert torch.equal(network.frames.layer3[0].conv1[1].weight, plain.layer3[0].conv1.weight)
    torch.save(network.state_dict(), tmp_path / "tin.pt")
    again = build_video_network("tin_resnet18", 3, weights=tmp_path / "tin.pt", seed=9)
    assert all(torch.equal(network.state_dict()[name], value) for name, value in again.state_dict().items())
    with pytest.raises(InputError, match="8 frames, and 4 are asked for"):
        build_video_network("tin_resnet18", 3, n_segments=4, weights=tmp_path / "tin.pt")
    with pytest.raises(InputError, match="same architecture"):
        build_video_network("tin_resnet50", 3, weights=tmp_path / "tin.pt")


def test_weights_that_are_absent_or_do_not_exist_say_what_to_do(tmp_path, monkeypatch):
    def no_network(*args, **kwargs):
        raise OSError("no route to host")

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", no_network)
    for architecture, weights in (("r3d_18", "kinetics"), ("tin_resnet18", "imagenet")):
        with pytest.raises(InputError, match=r"https://download\.pytorch\.org.*weights: none"):
            build_video_network(architecture, weights=weights)
    with pytest.raises(InputError, match="no Kinetics weights for tin_resnet18"):
        build_video_network("tin_resnet18", weights="kinetics")
    with pytest.raises(InputError, match="no ImageNet weights for r3d_18"):
        build_video_network("r3d_18", weights="imagenet")
    for architecture in ("tin_resnet18", "r3d_18"):
        with pytest.raises(InputError, match="do not exist"):
            build_video_network(architecture, weights=tmp_path / "absent.pt")
    (tmp_path / "text.pt").write_text("not weights")
    with pytest.raises(InputError, match="torch.save"):
        build_video_network("r3d_18", weights=tmp_path / "text.pt")
    torch.save(models.resnet18(weights=None).state_dict(), tmp_path / "resnet.pt")
    with pytest.raises(InputError, match="same architecture"):
        build_video_network("r3d_18", weights=tmp_path / "resnet.pt")


def test_impossible_requests_are_refused():
    with pytest.raises(ValueError, match="unknown architecture"):
        build_video_network("resnet18")
    with pytest.raises(ValueError, match="dropout"):
        build_video_network("r3d_18", dropout=1.0)
    with pytest.raises(ValueError, match="multiple of 16"):
        TemporalInterlacing(40, T)
    with pytest.raises(ValueError, match="at least 2"):
        build_video_network("tin_resnet18", n_segments=1)
    network = build_video_network("tin_resnet18")
    for clips in (noise(2, 1, 4, 32, 32), noise(16, 1, 32, 32)):
        with pytest.raises(ValueError, match=r"must be \(n, channels, 8, height, width\)"):
            network(clips)


def moving_blobs(n: int, seed: int, side: int = 16, pixels_per_frame: float = 2.0) -> tuple[torch.Tensor, np.ndarray]:
    """Noisy clips of a blob that runs right in positives and left in negatives, and re-enters at the other edge.

    Its column at the start is uniform over the circle, hence in every frame and in both classes: a single frame, and even
    the set of all frames without their order, says nothing of the label. Returns clips (n, 1, T, side, side) and labels.
    """
    rng = np.random.default_rng(seed)
    y = np.arange(n) % 2
    grid = np.arange(side)
    traveled = np.where(y, 1, -1)[:, None] * pixels_per_frame * np.arange(T)
    column = rng.uniform(0, side, (n, 1)) + traveled
    row = rng.uniform(0.25 * side, 0.75 * side, (n, 1))
    from_column = (grid - column[..., None] + side / 2) % side - side / 2
    across = np.exp(-(from_column**2) / (2 * 2.5**2))
    down = np.exp(-((grid - row) ** 2) / (2 * 2.5**2))
    clips = 3 * across[:, :, None, :] * down[:, None, :, None] + rng.normal(0, 0.3, (n, T, side, side))
    return torch.tensor(clips[:, None], dtype=torch.float32), y


def held_out_auc(network: nn.Module, train: tuple, test: tuple, steps: int):
    """Fit with AdamW at 2e-3, eight clips per step; the AUC, with its DeLong interval, on the clips held out."""
    optimizer = torch.optim.AdamW(network.parameters(), lr=2e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, steps)
    for module in network.modules():
        if isinstance(module, (nn.BatchNorm2d, nn.BatchNorm3d)):
            module.momentum = 0.3  # running statistics would lag behind so few steps
    generator = torch.Generator().manual_seed(0)
    target = torch.tensor(train[1], dtype=torch.float32)
    network.train()
    for _ in range(steps):
        batch = torch.randint(len(target), (8,), generator=generator)
        loss = F.binary_cross_entropy_with_logits(network(train[0][batch]).squeeze(1), target[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    with torch.no_grad():
        return auc_interval(Units.of(test[1], network.eval()(test[0]).squeeze(1).numpy()))


@pytest.fixture(scope="module")
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # the order of sums, and with it the fit, depends on their number
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize("architecture", [name for name in ARCHITECTURES if name != "tin_resnet50"])
def test_a_label_that_lies_in_motion_alone_is_learned_from_clips(architecture, one_thread):
    """Truth by construction; ResNet-50 differs from ResNet-18 in depth only."""
    found = held_out_auc(build_video_network(architecture), moving_blobs(128, 0), moving_blobs(80, 1), steps=16)
    assert found.value > 0.9 and found.low > 0.8


def test_a_label_that_lies_in_motion_alone_is_not_learned_from_the_key_frame(one_thread):
    """The same ResNet, three times the steps: the interval covers 0.5 and excludes what every video network reaches."""
    (train, y), (test, test_y) = moving_blobs(128, 0), moving_blobs(200, 1)
    found = held_out_auc(build_cnn2d("resnet18"), (train[:, :, T // 2], y), (test[:, :, T // 2], test_y), steps=48)
    assert found.low < 0.5 < found.high < 0.8


@pytest.mark.parametrize("architecture", ["r3d_18", "r2plus1d_18"])
def test_the_pooled_stem_halves_the_frame_and_keeps_weights_and_time(architecture):
    standard, pooled = (build_video_network(architecture, stem=stem) for stem in ("standard", "pooled"))
    assert [value.shape for value in standard.state_dict().values()] == [v.shape for v in pooled.state_dict().values()]
    clip = torch.zeros(1, 1, 4, 32, 32)
    assert standard.eval().stem(clip).shape == (1, 64, 4, 16, 16)
    assert pooled.eval().stem(clip).shape == (1, 64, 4, 8, 8)
    with pytest.raises(ValueError, match="stem"):
        build_video_network("tin_resnet18", stem="pooled")
