"""The 3-D networks of the studies: ResNet and DenseNet for volumes with any number of channels.

Fitting them lives in `alnlib.training.fit`; 2-D networks are in `cnn2d`, networks for clips in `video`.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from alnlib.errors import InputError
from alnlib.models.cnn2d import STEMS
from alnlib.models.weights import check_sizes, load_weights, read_weights, replace_head

ARCHITECTURES = ("resnet18_3d", "resnet50_3d", "densenet121_3d")

STEM_STRIDE = (1, 2, 2)
"""Stride (z, y, x) of the first convolution: slices of MRI are thicker than its pixels are wide, and there are fewer of them."""

_FIRST_CONVOLUTION = {"resnet": "conv1", "densenet": "features.conv0"}
_HEAD = {"resnet": "fc", "densenet": "class_layers.out"}
_SMALLEST_SIDES = {"standard": (16, 32, 32), "small": (8, 16, 16)}


def build_cnn3d(
    architecture: str,
    in_channels: int = 1,
    n_outputs: int = 1,
    weights: str | Path = "none",
    dropout: float = 0.0,
    stem: str = "standard",
    seed: int = 0,
) -> nn.Module:
    """A MONAI network that takes volumes (n, in_channels, z, y, x) and returns logits (n, n_outputs).

    architecture: one of `ARCHITECTURES`; the layers of its 2-D namesake with 3 x 3 x 3 and 7 x 7 x 7 filters, shortcuts
    without bias. The first convolution has stride (1, 2, 2) in (z, y, x), the pooling after it 2, each of three later stages
    2: the last feature map is smaller 16 times in z and 32 times in y and x. stem "small" leaves the first pooling out (8 and
    16 times), at about eight times the cost. A volume should have no side below `smallest_sides`. weights: "none" (random,
    from `seed` alone; no file is published for these stems) or the path of a state dictionary saved with torch.save, with
    MONAI's layer names (a head of another size is ignored); filters for another number of channels are summed, repeated
    and scaled, so that equal channels excite them as before. dropout: probability before the last layer. The caller's
    random state is neither read nor changed. He et al. 2016 (CVPR), Huang et al. 2017 (CVPR), Hara et al. 2018 (CVPR).

    Raises ValueError for an unknown architecture or stem or impossible sizes, InputError if weights cannot be had or do
    not fit.
    """
    if architecture not in ARCHITECTURES:
        raise ValueError(f"unknown architecture {architecture!r}; one of {', '.join(ARCHITECTURES)}")
    if stem not in STEMS:
        raise ValueError(f"unknown stem {stem!r}; one of {', '.join(STEMS)}")
    check_sizes(in_channels, n_outputs, dropout)
    if str(weights) in ("packaged", "imagenet", "kinetics"):
        raise InputError(
            f"there are no published weights {weights!r} for {architecture}; give 'none' or the path of a saved state "
            "dictionary."
        )
    family = "resnet" if architecture.startswith("resnet") else "densenet"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = _monai_network(architecture, in_channels)
        replace_head(network, _HEAD[family], n_outputs, dropout)
    if stem == "small":
        if family == "resnet":
            network.maxpool = nn.Identity()
        else:
            network.features.pool0 = nn.Identity()
    if str(weights) != "none":
        state = read_weights(weights, architecture)
        load_weights(network, state, _FIRST_CONVOLUTION[family], _HEAD[family], in_channels, weights)
    return network


def smallest_sides(stem: str = "standard") -> tuple[int, int, int]:
    """Sides (z, y, x), in voxels, of the smallest volume to be given: its last feature map has one element."""
    return _SMALLEST_SIDES[stem]


def _monai_network(architecture: str, in_channels: int) -> nn.Module:
    # Imported where it is used: MONAI takes seconds, which the 2-D notebooks need not pay.
    from monai.networks.nets import DenseNet121, resnet18, resnet50

    if architecture == "densenet121_3d":
        network = DenseNet121(spatial_dims=3, in_channels=in_channels, out_channels=1)
        network.features.conv0.stride = STEM_STRIDE
        return network
    builder = {"resnet18_3d": resnet18, "resnet50_3d": resnet50}[architecture]
    return builder(
        spatial_dims=3, n_input_channels=in_channels, conv1_t_stride=STEM_STRIDE, bias_downsample=False, num_classes=1
    )
