"""The 2-D networks of the studies: ResNet, DenseNet and EfficientNet for images with any number of channels.

Fitting them lives in `alnlib.training.fit`; networks for volumes and video have their own modules.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import nn

from alnlib.errors import InputError
from alnlib.models.lite import EfficientNetLite0, packaged_state
from alnlib.models.weights import (
    adapt_first_convolution,
    check_sizes,
    load_weights,
    read_weights,
    replace_head,
    torchvision_network,
    weights_url,
)

_PUBLISHED = {
    "resnet18": "IMAGENET1K_V1",
    "resnet50": "IMAGENET1K_V2",
    "densenet121": "IMAGENET1K_V1",
    "efficientnet_b0": "IMAGENET1K_V1",
}
"""torchvision's name of the weights that "imagenet" is."""
ARCHITECTURES = (*_PUBLISHED, "efficientnet_lite0")
STEMS = ("standard", "small")

_FIRST_CONVOLUTION = {"resnet": "conv1", "densenet": "features.conv0", "efficientnet": "features.0.0"}
_HEAD = {"resnet": "fc", "densenet": "classifier", "efficientnet": "classifier.1"}


def build_cnn2d(
    architecture: str,
    in_channels: int = 1,
    n_outputs: int = 1,
    weights: str | Path = "none",
    dropout: float = 0.0,
    stem: str = "standard",
    seed: int = 0,
) -> nn.Module:
    """A network that takes (n, in_channels, height, width) and returns logits (n, n_outputs).

    architecture: one of `ARCHITECTURES`. weights: "none" (random, from `seed` alone), "packaged" (ImageNet weights that the
    lock installs: efficientnet_lite0), "imagenet" (torchvision's file, from its cache or the network: the others), or the
    path of a state dictionary saved with torch.save (the network's names; its head is ignored when the number of outputs
    differs). Filters of the first convolution trained on RGB are summed for one channel,
    so that a gray image excites them as its three equal channels would; for other counts their mean is repeated and scaled.
    dropout: probability before the last layer. stem "small" halves the first reduction (the 3 x 3 pooling of ResNet and
    DenseNet is left out, the first convolution of EfficientNet has stride 1): the last feature map of a 64-pixel crop is
    then 4 x 4, not 2 x 2, at about three times the cost. Weight shapes are unchanged, so pretrained weights still fit.
    The caller's random state is neither read nor changed. He et al. 2016 (CVPR), Huang et al. 2017 (CVPR), Tan & Le 2019 (ICML).

    Raises ValueError for an unknown architecture or stem, InputError if weights cannot be had or do not fit.
    """
    if architecture not in ARCHITECTURES:
        raise ValueError(f"unknown architecture {architecture!r}; one of {', '.join(ARCHITECTURES)}")
    if stem not in STEMS:
        raise ValueError(f"unknown stem {stem!r}; one of {', '.join(STEMS)}")
    check_sizes(in_channels, n_outputs, dropout)
    family = architecture.split("_")[0].rstrip("0123456789")
    # Everything random in a constructor reads the global CPU generator; the fork gives it back as it was.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = torchvision_network(architecture) if architecture in _PUBLISHED else EfficientNetLite0()
        adapt_first_convolution(network, _FIRST_CONVOLUTION[family], in_channels)
        replace_head(network, _HEAD[family], n_outputs, dropout)
    if stem == "small":
        _keep_resolution(network, family)
    if str(weights) != "none":
        state = _pretrained(architecture, weights)
        load_weights(network, state, _FIRST_CONVOLUTION[family], _HEAD[family], in_channels, weights)
    return network


def _pretrained(architecture: str, weights: str | Path) -> dict[str, torch.Tensor]:
    if architecture not in _PUBLISHED:
        return packaged_state() if weights == "packaged" else read_weights(weights, architecture, packaged="")
    if weights == "packaged":
        raise InputError(
            f"no weights of {architecture} come with the environment; those of efficientnet_lite0 do. Give weights none, "
            "imagenet or a path, or that network."
        )
    return read_weights(weights, architecture, imagenet=weights_url(architecture, _PUBLISHED[architecture]))


@contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """Evaluation mode inside, without dropout and batch statistics; every module gets its own mode back, also after an error."""
    modes = [(module, module.training) for module in network.modules()]
    try:
        network.eval()
        yield
    finally:
        for module, training in modes:
            module.training = training


def parameter_count(network: nn.Module) -> int:
    """Number of trainable parameters."""
    return sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)


def _keep_resolution(network: nn.Module, family: str) -> None:
    if family == "resnet":
        network.maxpool = nn.Identity()
    elif family == "densenet":
        network.features.pool0 = nn.Identity()
    else:
        network.features[0][0].stride = (1, 1)
