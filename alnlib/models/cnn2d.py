"""The 2-D networks of the studies: ResNet, DenseNet and EfficientNet for images with any number of channels.

Fitting them lives in `alnlib.training.fit`; networks for volumes and video have their own modules.
"""

from __future__ import annotations

import math
import pickle
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlparse

import torch
from torch import nn
from torchvision import models

from alnlib.errors import InputError

_BUILDERS: dict[str, tuple[Callable[..., nn.Module], models.WeightsEnum]] = {
    "resnet18": (models.resnet18, models.ResNet18_Weights.IMAGENET1K_V1),
    "resnet50": (models.resnet50, models.ResNet50_Weights.IMAGENET1K_V2),
    "densenet121": (models.densenet121, models.DenseNet121_Weights.IMAGENET1K_V1),
    "efficientnet_b0": (models.efficientnet_b0, models.EfficientNet_B0_Weights.IMAGENET1K_V1),
}
ARCHITECTURES = tuple(_BUILDERS)
STEMS = ("standard", "small")

_FIRST_CONVOLUTION = {"resnet": "conv1", "densenet": "features.conv0", "efficientnet": "features.0.0"}
_HEAD = {"resnet": "fc", "densenet": "classifier", "efficientnet": "classifier.1"}
_SMALLEST_SIDE = {"standard": 32, "small": 16}


def build_cnn2d(
    architecture: str,
    in_channels: int = 1,
    n_outputs: int = 1,
    weights: str | Path = "none",
    dropout: float = 0.0,
    stem: str = "standard",
    seed: int = 0,
) -> nn.Module:
    """A torchvision network that takes (n, in_channels, height, width) and returns logits (n, n_outputs).

    architecture: one of `ARCHITECTURES`. weights: "none" (random, from `seed` alone), "imagenet" (torchvision's file, from
    its cache or the network), or the path of a state dictionary saved with torch.save (torchvision's names; its head is
    ignored when the number of outputs differs). Filters of the first convolution trained on RGB are summed for one channel,
    so that a gray image excites them as its three equal channels would; for other counts their mean is repeated and scaled.
    dropout: probability before the last layer. stem "small" halves the first reduction (the 3 x 3 pooling of ResNet and
    DenseNet is left out, the first convolution of EfficientNet has stride 1): the last feature map of a 64-pixel crop is
    then 4 x 4, not 2 x 2, at about three times the cost. Weight shapes are unchanged, so pretrained weights still fit.
    The caller's random state is neither read nor changed. He et al. 2016 (CVPR), Huang et al. 2017 (CVPR), Tan & Le 2019 (ICML).

    Raises ValueError for an unknown architecture or stem, InputError if weights cannot be had or do not fit.
    """
    if architecture not in _BUILDERS:
        raise ValueError(f"unknown architecture {architecture!r}; one of {', '.join(ARCHITECTURES)}")
    if stem not in STEMS:
        raise ValueError(f"unknown stem {stem!r}; one of {', '.join(STEMS)}")
    if in_channels < 1 or n_outputs < 1 or not 0 <= dropout < 1:
        raise ValueError("in_channels and n_outputs must be at least 1, and dropout in [0, 1)")
    builder, _ = _BUILDERS[architecture]
    family = architecture.rstrip("0123456789").removesuffix("_b")
    # Everything random in a constructor reads the global CPU generator; the fork gives it back as it was.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = builder(weights=None)
        _adapt_first_convolution(network, _FIRST_CONVOLUTION[family], in_channels)
        _replace_head(network, _HEAD[family], n_outputs, dropout)
    if stem == "small":
        _keep_resolution(network, family)
    if str(weights) != "none":
        state = _read_weights(architecture, weights)
        _load_weights(network, state, _FIRST_CONVOLUTION[family], _HEAD[family], in_channels, weights)
    return network


def parameter_count(network: nn.Module) -> int:
    """Number of trainable parameters."""
    return sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)


def read_tensors(path: str | Path, remedy: str) -> object:
    """What torch.save wrote (tensors and plain Python values only), on the CPU; InputError with `remedy` if unreadable."""
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    # A damaged file makes the unpickler fail in any of these ways.
    except (OSError, RuntimeError, EOFError, LookupError, ValueError, TypeError, pickle.UnpicklingError) as error:
        raise InputError(f"{path} cannot be read as a torch file ({error}); {remedy}.") from error


def smallest_side(stem: str = "standard") -> int:
    """Smallest image side, in pixels, whose last feature map still has one element."""
    return _SMALLEST_SIDE[stem]


def _adapt_first_convolution(network: nn.Module, name: str, in_channels: int) -> None:
    old = network.get_submodule(name)
    if in_channels == old.in_channels:
        return
    new = nn.Conv2d(in_channels, old.out_channels, old.kernel_size, old.stride, old.padding, bias=old.bias is not None)
    nn.init.kaiming_normal_(new.weight, mode="fan_out", nonlinearity="relu")
    network.set_submodule(name, new)


def _replace_head(network: nn.Module, name: str, n_outputs: int, dropout: float) -> None:
    linear = nn.Linear(network.get_submodule(name).in_features, n_outputs)
    # A head near zero starts every patient at the prior, whatever the depth below it.
    nn.init.normal_(linear.weight, std=0.01)
    nn.init.zeros_(linear.bias)
    place = "classifier" if name == "classifier.1" else name
    network.set_submodule(place, nn.Sequential(nn.Dropout(dropout), linear))


def _keep_resolution(network: nn.Module, family: str) -> None:
    if family == "resnet":
        network.maxpool = nn.Identity()
    elif family == "densenet":
        network.features.pool0 = nn.Identity()
    else:
        network.features[0][0].stride = (1, 1)


def _read_weights(architecture: str, weights: str | Path) -> dict[str, torch.Tensor]:
    if str(weights) == "imagenet":
        return _read_published(architecture, "ImageNet", _BUILDERS[architecture][1].url)
    return _read_given(weights, "imagenet")


def _read_published(architecture: str, source: str, url: str) -> dict[str, torch.Tensor]:
    """The state dictionary at `url`, from torch's cache or the network."""
    cached = Path(torch.hub.get_dir()) / "checkpoints" / Path(urlparse(url).path).name
    if cached.is_file():
        return _read_state(cached)
    try:
        return torch.hub.load_state_dict_from_url(url, progress=False, map_location="cpu", check_hash=True)
    except (OSError, RuntimeError) as error:
        raise InputError(
            f"{source} weights for {architecture} are not on this machine and could not be fetched ({error}). Fetch {url} "
            f"where there is a network and put it at {cached}, give its path as weights, or train with weights: none."
        ) from error


def _read_given(weights: str | Path, *published: str) -> dict[str, torch.Tensor]:
    """The state dictionary in a user's file; `published`: the names that may stand in place of a path."""
    path = Path(weights)
    if not path.is_file():
        names = ", ".join(f"'{name}'" for name in ("none", *published))
        raise InputError(f"weights {path} do not exist; give {names} or the path of a saved state dictionary.")
    return _read_state(path)


def _read_state(path: Path) -> dict[str, torch.Tensor]:
    state = read_tensors(path, "save it again with torch.save")
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise InputError(
            f"{path} holds no flat state dictionary of tensors; save network.state_dict() with torch.save."
        )
    return state


def _load_weights(
    network: nn.Module, state: dict[str, torch.Tensor], first: str, head: str, in_channels: int, source: str | Path
) -> None:
    wanted = network.state_dict()
    family_head = head.split(".")[0]
    adapted = {}
    for name, value in state.items():
        if name == f"{first}.weight" and value.ndim == 4 and value.shape[1] != in_channels:
            if in_channels == 1:
                value = value.sum(dim=1, keepdim=True)
            else:
                value = value.mean(dim=1, keepdim=True).repeat(1, in_channels, 1, 1) * (value.shape[1] / in_channels)
        if name.split(".")[0] == family_head and (name not in wanted or wanted[name].shape != value.shape):
            continue
        # torchvision's DenseNet file was saved under older layer names: norm.1 for norm1.
        name = name.replace(".norm.", ".norm").replace(".conv.", ".conv") if ".denselayer" in name else name
        adapted[name] = value
    backbone = {name for name in wanted if name.split(".")[0] != family_head}
    missing = sorted(name for name in backbone - set(adapted) if not name.endswith("num_batches_tracked"))
    misfit = sorted(name for name, value in adapted.items() if name not in wanted or wanted[name].shape != value.shape)
    if missing or misfit:
        examples = ", ".join((missing + misfit)[:3])
        raise InputError(
            f"weights {source} do not fit this network: {len(missing)} layers missing, {len(misfit)} that do not match "
            f"({examples}); give weights of the same architecture."
        )
    network.load_state_dict(adapted, strict=False)


def feature_map_side(image_size: int, stem: str = "standard") -> int:
    """Side, in elements, of the last feature map for a square image of `image_size` pixels."""
    return math.ceil(image_size / _SMALLEST_SIDE[stem])
