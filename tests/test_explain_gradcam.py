"""Grad-CAM: heat where hand-made networks look, the closed form of pooled heads, and a network left as it was."""

from __future__ import annotations

import monai.networks.nets
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torchvision.models import resnet18
from torchvision.models.video import r2plus1d_18, r3d_18

from alnlib.explain.figures import scaled_heat
from alnlib.explain.gradcam import (
    default_layer,
    frame_profile,
    grad_cam,
    layer_with_cells,
)
from alnlib.models.cnn2d import build_cnn2d
from alnlib.models.frozen import FrozenClassifier, FrozenSpec


class Gated(nn.Module):
    """Sees nothing but the pixels of `gate`: two channels, the gated gray value and its negative; the logit pools the first."""

    def __init__(self, gate: np.ndarray):
        super().__init__()
        self.register_buffer("gate", torch.as_tensor(gate, dtype=torch.float32))
        self.layer4 = nn.Sequential((nn.Conv2d, nn.Conv3d)[gate.ndim - 2](1, 2, 1, bias=False), nn.ReLU())
        self.layer4[0].weight.data = torch.tensor([1.0, -1.0]).reshape(2, 1, *[1] * gate.ndim)
        self.fc = nn.Linear(2, 1)
        self.fc.weight.data = torch.tensor([[1.0, 0.0]])

    def forward(self, images):
        return self.fc(self.layer4(images * self.gate).flatten(2).mean(2))


class FramesInBatch(nn.Module):
    """As TIN does: the frames of (n, C, T, H, W) become images (n * T, C, H, W), and logits of frames are averaged."""

    def __init__(self, gate: np.ndarray):
        super().__init__()
        self.register_buffer("gate", torch.as_tensor(gate, dtype=torch.float32))
        self.backbone = Gated(np.ones(gate.shape[1:]))

    def forward(self, clips):
        frames = (clips * self.gate).transpose(1, 2).flatten(0, 1)
        return self.backbone(frames).unflatten(0, (len(clips), -1)).mean(1)


def gate(shape, *region):
    mask = np.zeros(shape, bool)
    mask[region] = True
    return mask


GATES = {
    "image": gate((12, 10), slice(2, 5), slice(6, 9)),
    "volume": gate((6, 8, 9), slice(1, 3), slice(4, 7), slice(2, 4)),
    "clip": gate((8, 7, 7), 5, slice(3, 6), slice(0, 2)),
}


def positive_images(shape, n=3, seed=0):
    return np.random.default_rng(seed).uniform(0.5, 1.0, (n, 1, *shape)).astype(np.float32)


@pytest.mark.parametrize("kind", GATES)
def test_heat_lies_on_the_only_pixels_the_answer_depends_on(kind):
    """By hand: one weight 1 / pixels for the channel that shows the gray value, so the map is gray value / pixels in the gate."""
    region = GATES[kind]
    images = positive_images(region.shape)
    maps = grad_cam(Gated(region), images)
    assert maps.shape == (3, *region.shape) and maps.dtype == np.float32
    np.testing.assert_allclose(maps, images[:, 0] * region / region.size, rtol=1e-5)


def test_frames_that_lie_in_the_batch_come_back_as_clips():
    """The same answer as the network of volumes, which sees the same pixels with the same weights."""
    clips = positive_images(GATES["clip"].shape)
    network = FramesInBatch(GATES["clip"])
    assert default_layer(network) == "backbone.layer4"
    maps = grad_cam(network, clips)
    np.testing.assert_allclose(maps, grad_cam(Gated(GATES["clip"]), clips), rtol=1e-5)
    assert (frame_profile(maps).key_frame == 5).all()


def test_evidence_against_the_positive_class_is_no_heat():
    network, images = Gated(GATES["image"]), positive_images(GATES["image"].shape)
    for weights, sign, warm in (
        ((1.0, 0.0), 1, True),
        ((-1.0, 0.0), 1, False),
        ((0.0, 1.0), 1, False),
        ((0.0, 1.0), -1, True),
    ):
        network.fc.weight.data = torch.tensor([weights])
        assert grad_cam(network, sign * images).any() == warm


def features_of(network, images):
    """The features that each family pools, from its own parts."""
    if hasattr(network, "class_layers"):
        return F.relu(network.features(images))
    if hasattr(network, "features"):
        features = network.features(images)
        return F.relu(features) if hasattr(network.features, "denseblock1") else features
    if hasattr(network, "stem"):
        images = network.stem(images)
    else:
        images = network.maxpool(network.relu(network.bn1(network.conv1(images))))
    return network.layer4(network.layer3(network.layer2(network.layer1(images))))


def last_linear(network):
    return [module for module in network.modules() if isinstance(module, nn.Linear)][-1]


FAMILIES = {
    "resnet18": (lambda: build_cnn2d("resnet18", stem="small"), (1, 32, 32), "layer4"),
    "densenet121": (lambda: build_cnn2d("densenet121", stem="small"), (1, 32, 32), "features"),
    "efficientnet_b0": (lambda: build_cnn2d("efficientnet_b0"), (1, 64, 64), "features"),
    "r3d_18": (lambda: r3d_18(num_classes=1), (3, 16, 32, 32), "layer4"),
    "r2plus1d_18": (lambda: r2plus1d_18(num_classes=1), (3, 16, 32, 32), "layer4"),
    "monai_densenet": (
        lambda: monai.networks.nets.DenseNet(3, 1, 1, init_features=8, growth_rate=4, block_config=(2, 2)),
        (1, 16, 16, 16),
        "features",
    ),
}


@pytest.mark.parametrize("family", FAMILIES)
def test_a_pooled_linear_head_has_the_closed_form(family):
    """d logit / d A_k = w_k / cells everywhere: the map is ReLU(sum_k w_k A_k) / cells, as in CAM (Zhou et al. 2016, CVPR)."""
    build, shape, layer = FAMILIES[family]
    torch.manual_seed(3)
    network = build().eval()
    head = last_linear(network)
    nn.init.normal_(head.weight)
    images = torch.randn(2, *shape)
    assert default_layer(network) == layer
    with torch.no_grad():
        features = features_of(network, images)
    mode, hottest = "bilinear" if images.ndim == 4 else "trilinear", 0.0
    # Untrained features hardly differ in space: one sign of the head leaves them all cold, the other one warms them.
    for sign in (1, -1):
        head.weight.data *= sign
        with torch.no_grad():
            coarse = torch.einsum("f,nf...->n...", head.weight[0], features).clamp(min=0) / features[0, 0].numel()
        expected = F.interpolate(coarse[:, None], size=images.shape[2:], mode=mode)[:, 0]
        maps = grad_cam(network, images)
        hottest = max(hottest, float(expected.max()))
        torch.testing.assert_close(torch.from_numpy(maps), expected, rtol=1e-3, atol=1e-4 * hottest)
    assert hottest > 0


def test_a_layer_further_down_agrees_with_gradients_taken_by_hand():
    """Gradient of the logit by autograd of the upper half, without hooks."""
    torch.manual_seed(0)
    network = build_cnn2d("resnet18", stem="small").eval()
    images = torch.randn(2, 1, 32, 32)
    below = network.layer2(network.layer1(network.relu(network.bn1(network.conv1(images))))).detach().requires_grad_()
    logits = network.fc(network.layer4(network.layer3(below)).mean((2, 3)))
    gradient = torch.autograd.grad(logits.sum(), below)[0]
    coarse = (gradient.mean((2, 3), keepdim=True) * below).sum(1, keepdim=True).clamp(min=0)
    expected = F.interpolate(coarse, size=(32, 32), mode="bilinear")[:, 0].detach()
    torch.testing.assert_close(
        torch.from_numpy(grad_cam(network, images, "layer2")), expected, rtol=1e-4, atol=1e-4 * float(expected.max())
    )


def test_monai_networks_have_a_default_or_take_a_named_layer():
    resnet = monai.networks.nets.ResNet(
        "basic", [1, 1, 1, 1], [4, 8, 8, 16], spatial_dims=3, n_input_channels=1, num_classes=1
    )
    volumes = torch.randn(1, 1, 16, 32, 32)
    assert default_layer(resnet) == "layer4" and grad_cam(resnet, volumes).shape == (1, 16, 32, 32)
    plain = nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(2 * 64, 1))
    with pytest.raises(ValueError, match="last convolutions: 0"):
        grad_cam(plain, torch.zeros(1, 1, 8, 8))
    # The ReLU works on a copy of the layer's output, or in place.
    for plain[1] in (nn.ReLU(), nn.ReLU(inplace=True)):
        assert grad_cam(plain, torch.randn(1, 1, 8, 8), layer="1").shape == (1, 8, 8)


def state_of(network):
    return (
        [module.training for module in network.modules()],
        [parameter.requires_grad for parameter in network.parameters()],
        [parameter.grad for parameter in network.parameters()],
        [len(module._forward_hooks) + len(module._backward_hooks) for module in network.modules()],
        {name: value.clone() for name, value in network.state_dict().items()},
    )


@pytest.mark.parametrize("layer", ["layer4", "fc"])
def test_the_network_is_left_as_it_was_even_after_an_error(layer):
    network = build_cnn2d("resnet18", dropout=0.5, stem="small").train()
    network.bn1.eval()
    network.conv1.weight.requires_grad_(False)
    network.layer3[0].conv1.weight.grad = torch.ones_like(network.layer3[0].conv1.weight)
    before, random_state = state_of(network), torch.random.get_rng_state()
    images = torch.randn(2, 1, 32, 32, generator=torch.Generator().manual_seed(1))
    if layer == "fc":
        with pytest.raises(ValueError, match="does not return features"):
            grad_cam(network, images, layer)
    else:
        with torch.inference_mode():
            grad_cam(network, images)
    after = state_of(network)
    assert before[:2] == after[:2] and before[3] == after[3] and not any(after[3])
    assert all(a is b for a, b in zip(before[2], after[2], strict=True))
    assert all(torch.equal(before[4][name], after[4][name]) for name in before[4])
    assert torch.equal(random_state, torch.random.get_rng_state())


def test_the_same_bits_twice_and_the_same_map_in_any_company():
    network = build_cnn2d("resnet18", dropout=0.5, stem="small").train()
    images = np.random.default_rng(0).normal(size=(5, 1, 32, 32)).astype(np.float32)
    images.flags.writeable = False
    first = grad_cam(network, images)
    assert np.array_equal(first, grad_cam(network, images))
    np.testing.assert_allclose(first, grad_cam(network, images, batch_size=2), rtol=1e-3, atol=1e-5 * first.max())


def test_what_cannot_be_explained_says_why():
    network, images = Gated(GATES["image"]), positive_images((12, 10))
    with pytest.raises(ValueError, match="no layer 'layer9'"):
        grad_cam(network, images, layer="layer9")
    with pytest.raises(ValueError, match="does not return features"):
        grad_cam(network, images, layer="fc")
    with pytest.raises(ValueError, match="expected at least one image"):
        grad_cam(network, images[:0])
    with pytest.raises(ValueError, match="not finite"):
        grad_cam(network, np.full_like(images, np.nan))
    network.unused = nn.Conv2d(1, 1, 1)
    with pytest.raises(ValueError, match="passed 0 times"):
        grad_cam(network, images, layer="unused")
    with pytest.raises(ValueError, match="expected one logit"):
        grad_cam(resnet18(num_classes=2), torch.randn(1, 3, 32, 32))
    wide = resnet18(num_classes=1)
    with pytest.raises(ValueError, match="passed 2 times"):
        grad_cam(wide, torch.randn(1, 3, 32, 32), layer="layer1.0.relu")


@pytest.mark.parametrize(
    ("architecture", "stage"),
    [("resnet18", "layer2"), ("densenet121", "features.denseblock2"), ("efficientnet_b0", "features.3")],
)
def test_the_deepest_stage_with_enough_cells_is_found(architecture, stage):
    """Strides by hand: the second stage of each family has an eighth of the side of the image."""
    network = build_cnn2d(architecture)
    image = torch.zeros(1, 1, 64, 64)
    assert layer_with_cells(network, image, 8) == (stage, 8)
    deepest, side = layer_with_cells(network, image, 2)
    assert (deepest, side) == (default_layer(network), 2)
    assert layer_with_cells(network, image, 1000)[1] == (16 if architecture == "resnet18" else 32), "the finest"
    assert grad_cam(network, image, stage).shape == (1, 64, 64)


def test_a_frozen_network_is_explained_at_the_stages_that_its_head_reads():
    """A head that reads one channel of the last depth alone: the map of that depth is the rectified channel."""
    spec = FrozenSpec(weights="none", depths=(3, 5))
    weight = torch.zeros(1, 2 * 24 + 2 * 40)
    weight[0, 2 * 24] = 1.0  # the first mean at depth 5
    network = FrozenClassifier(spec, 1, weight, torch.zeros(1)).network()
    images = torch.randn(2, 1, 64, 64, generator=torch.Generator().manual_seed(0))
    assert layer_with_cells(network, images, 16) == ("features.3", 16)
    assert layer_with_cells(network, images, 8) == ("features.5", 8), "the whole of `features` is never passed"
    with torch.no_grad():
        channel = network.features(images)[:, :1].clamp(min=0) / 64
    expected = F.interpolate(channel, size=(64, 64), mode="bilinear", align_corners=False)[:, 0]
    np.testing.assert_allclose(grad_cam(network, images, "features.5"), expected, atol=1e-6)
    assert (grad_cam(network, images, "features.3") > 0).any(), "what depth 5 reads comes from depth 3"


def test_a_frozen_networks_clips_are_explained_at_any_of_its_stages():
    """Frames lie in the batch; a head that reads the mean over time of one stage weighs its maps by its own weights."""
    classifier = FrozenClassifier(FrozenSpec(weights="none", depths=(3,)), 3, torch.zeros(1, 4 * 24), torch.zeros(1))
    classifier.weight[0, 5] = 1.0  # the mean over space and time of the sixth channel
    network, clips = classifier.network(), torch.randn(2, 3, 4, 64, 64)
    assert layer_with_cells(network, clips, 1) == ("features.3", 16)
    assert layer_with_cells(network, clips, 32) == ("features.1", 32)
    with torch.no_grad():
        stage = network.features(clips.transpose(1, 2).flatten(0, 1))[:, 5].unflatten(0, (2, 4)) / (4 * 16 * 16)
    expected = F.interpolate(stage.clamp(min=0)[:, None], size=(4, 64, 64), mode="trilinear", align_corners=False)
    maps = grad_cam(network, clips, "features.3")
    np.testing.assert_allclose(maps, expected[:, 0].numpy(), rtol=1e-4, atol=1e-4 * maps.max())


def test_one_scale_keeps_a_weak_map_weak():
    """By hand: the 99th percentile of positive heat of 2, 4 and 8 is 7.92, so 2 becomes a quarter and not 1."""
    maps = np.zeros((3, 2, 2), np.float32)
    maps[0, 0], maps[1, 1] = (8, 4), (2, 0)
    shown = [[1, 4 / 7.92, 0, 0], [0, 0, 2 / 7.92, 0], [0, 0, 0, 0]]
    np.testing.assert_allclose(scaled_heat(maps).reshape(3, 4), shown, rtol=1e-6)
    assert not scaled_heat(np.zeros((2, 3, 3))).any()
    with pytest.raises(ValueError, match="negative"):
        scaled_heat(-maps)


def test_frame_profile_is_the_mean_heat_and_names_no_frame_without_a_difference():
    maps = np.zeros((3, 4, 2, 2), np.float32)
    maps[0, 2, 0, 1], maps[0, 3] = 8, 1
    maps[1] = 5
    profile = frame_profile(maps)
    np.testing.assert_array_equal(profile.heat, [[0, 0, 2, 1], [5, 5, 5, 5], [0, 0, 0, 0]])
    np.testing.assert_array_equal(profile.key_frame, [2, -1, -1])


def test_the_last_layer_of_r3d_cannot_tell_eight_frames_apart():
    """Three temporal strides of 2 (torchvision's VideoResNet) leave one time step of 8 frames, four in layer2."""
    torch.manual_seed(0)
    network, clips = r3d_18(num_classes=1), torch.randn(2, 3, 8, 32, 32)
    nn.init.uniform_(network.fc.weight)
    last, second = grad_cam(network, clips), grad_cam(network, clips, layer="layer2")
    assert last.any() and (frame_profile(last).key_frame == -1).all()
    assert (frame_profile(second).key_frame >= 0).all()
