"""Pretrained weights of the networks: where they come from, and how they fit other numbers of channels and outputs.

The networks themselves are in `cnn2d`, `cnn3d` and `video`.
"""

from __future__ import annotations

import pickle
from pathlib import Path
from urllib.parse import urlparse

import torch
from torch import nn

from alnlib.errors import InputError
from alnlib.files import sha256_file

_SOURCES = {"imagenet": "ImageNet", "kinetics": "Kinetics"}


def check_sizes(in_channels: int, n_outputs: int, dropout: float) -> None:
    """Raise ValueError for sizes that no network has."""
    if in_channels < 1 or n_outputs < 1 or not 0 <= dropout < 1:
        raise ValueError("in_channels and n_outputs must be at least 1, and dropout in [0, 1)")


def adapt_first_convolution(network: nn.Module, name: str, in_channels: int) -> None:
    """A new first convolution for another number of channels, drawn from torch's global generator."""
    old = network.get_submodule(name)
    if in_channels == old.in_channels:
        return
    build = type(old)  # Conv2d or Conv3d
    new = build(in_channels, old.out_channels, old.kernel_size, old.stride, old.padding, bias=old.bias is not None)
    nn.init.kaiming_normal_(new.weight, mode="fan_out", nonlinearity="relu")
    network.set_submodule(name, new)


def replace_head(network: nn.Module, name: str, n_outputs: int, dropout: float) -> None:
    """A last layer for n_outputs behind dropout, drawn from torch's global generator."""
    linear = nn.Linear(network.get_submodule(name).in_features, n_outputs)
    # A head near zero starts every patient at the prior, whatever the depth below it.
    nn.init.normal_(linear.weight, std=0.01)
    nn.init.zeros_(linear.bias)
    place = "classifier" if name == "classifier.1" else name
    network.set_submodule(place, nn.Sequential(nn.Dropout(dropout), linear))


def read_tensors(path: str | Path, remedy: str) -> object:
    """What torch.save wrote (tensors and plain Python values only), on the CPU; InputError with `remedy` if unreadable."""
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    # A damaged file makes the unpickler fail in any of these ways.
    except (OSError, RuntimeError, EOFError, LookupError, ValueError, TypeError, pickle.UnpicklingError) as error:
        why = next(iter(str(error).splitlines()), type(error).__name__)[:200]  # torch adds a page of its own code
        raise InputError(f"{path} cannot be read as a torch file ({why}); {remedy}.") from error


def read_weights(weights: str | Path, architecture: str, **published: str) -> dict[str, torch.Tensor]:
    """The state dictionary that `weights` names: a key of `published` (imagenet=URL, kinetics=URL) or a user's file.

    Published ones come from torch's cache or the network. Raises InputError if they cannot be had.
    """
    if str(weights) not in published:
        path = Path(weights)
        if not path.is_file():
            names = ", ".join(f"'{name}'" for name in ("none", *published))
            raise InputError(f"weights {path} do not exist; give {names} or the path of a saved state dictionary.")
        return _read_state(path)
    url = published[str(weights)]
    cached = Path(torch.hub.get_dir()) / "checkpoints" / Path(urlparse(url).path).name
    if cached.is_file():
        # torch names such files after the first digits of their SHA-256, and looks at them only while it fetches
        if not sha256_file(cached).startswith(cached.stem.rpartition("-")[2]):
            raise InputError(
                f"{cached} is not the file that {url} gives (another SHA-256); delete it, and it is fetched again."
            )
        return _read_state(cached)
    try:
        return torch.hub.load_state_dict_from_url(
            url, progress=False, map_location="cpu", check_hash=True, weights_only=True
        )
    except (OSError, RuntimeError) as error:
        raise InputError(
            f"{_SOURCES[str(weights)]} weights for {architecture} are not on this machine and could not be fetched "
            f"({error}). Fetch {url} where there is a network and put it at {cached}, give its path as weights, or train "
            "with weights: none."
        ) from error


def torchvision_network(architecture: str) -> nn.Module:
    """torchvision's network of that name, its weights random."""
    from torchvision.models import get_model  # half a second with all that it imports; most stages run without

    return get_model(architecture, weights=None)


def weights_url(architecture: str, name: str) -> str:
    """Where torchvision keeps these weights of the architecture, such as IMAGENET1K_V1."""
    from torchvision.models import get_model_weights

    return get_model_weights(architecture)[name].url


def _read_state(path: Path) -> dict[str, torch.Tensor]:
    state = read_tensors(path, "save it again with torch.save")
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise InputError(
            f"{path} holds no flat state dictionary of tensors; save network.state_dict() with torch.save."
        )
    return state


def load_weights(
    network: nn.Module, state: dict[str, torch.Tensor], first: str, head: str, in_channels: int, source: str | Path
) -> None:
    """Fill a network of the same architecture from a state dictionary of another number of channels or outputs.

    first, head: names of the first convolution and the last layer, which is left as it is where its shape differs. source:
    what errors call the weights. Raises InputError if they do not fit.
    """
    wanted = network.state_dict()
    family_head = head.split(".")[0]
    adapted = {}
    for name, value in state.items():
        if name == f"{first}.weight":
            value = _filters_for(value, in_channels)
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


def _filters_for(filters: torch.Tensor, in_channels: int) -> torch.Tensor:
    """Filters (out, channels, [t,] y, x) for another number of channels, excited by gray images as the given ones."""
    if filters.ndim < 4 or filters.shape[1] == in_channels:
        return filters
    if filters.ndim == 5:
        return filters.sum(dim=1, keepdim=True).expand(-1, in_channels, -1, -1, -1) / in_channels
    if in_channels == 1:
        return filters.sum(dim=1, keepdim=True)
    return filters.mean(dim=1, keepdim=True).repeat(1, in_channels, 1, 1) * (filters.shape[1] / in_channels)
