"""The networks for ultrasound video: TIN on 2-D ResNets, R(2+1)D and ResNet-3D, with any number of channels.

The still-image baseline is `cnn2d`; frames are chosen in `alnlib.imaging.clips`, fits are made in `alnlib.training`.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from alnlib.errors import InputError
from alnlib.models.cnn2d import build_cnn2d
from alnlib.models.weights import (
    adapt_first_convolution,
    check_sizes,
    load_weights,
    read_weights,
    replace_head,
    torchvision_network,
    weights_url,
)

_TIN_BACKBONES = {"tin_resnet18": "resnet18", "tin_resnet50": "resnet50"}
_ARCHITECTURES_3D = ("r2plus1d_18", "r3d_18")
ARCHITECTURES = (*_TIN_BACKBONES, *_ARCHITECTURES_3D)

SHIFTED_FRACTION = 4
"""One channel in this many is shifted by a TIN layer."""
SHIFT_GROUPS = 4
"""Groups of shifted channels: two learned offsets and their opposites."""
LARGEST_OFFSET = 2.0
"""Bound of a learned offset, in frames to either side."""

_INITIAL_OFFSET_BIAS = 0.5108  # its logistic is 0.625: an offset of half a frame
_FIRST_CONVOLUTION_3D = "stem.0"


def build_video_network(
    architecture: str,
    in_channels: int = 1,
    n_outputs: int = 1,
    n_segments: int = 8,
    weights: str | Path = "none",
    dropout: float = 0.0,
    seed: int = 0,
    stem: str = "standard",
) -> nn.Module:
    """A network that takes clips (n, in_channels, T, height, width) and returns logits (n, n_outputs).

    architecture: one of `ARCHITECTURES`. n_segments: T, in frames; it sets layer sizes of TIN, while R(2+1)D and ResNet-3D
    take clips of any length and ignore it. weights: "none" (random, from `seed` alone), "kinetics" (R(2+1)D, ResNet-3D) or
    "imagenet" (the ResNet below TIN), each torchvision's file from its cache or the network, or the path of a state
    dictionary saved with torch.save: this network's own, torchvision's for the same architecture or, for TIN, torchvision's
    2-D ResNet; a head of another size is ignored. RGB filters become filters for other channel counts as in `build_cnn2d`.
    dropout: probability before the last layer. stem "pooled" adds to R(2+1)D and ResNet-3D the pooling (3 x 3, stride 2, in
    the frame only) that a 2-D ResNet has after its first convolution and these two lack: a quarter of the cost, and the
    reach of TIN; weights and their shapes are unchanged. TIN shrinks height and width 32 times, the other two 16 times, 32
    with the pooling (and 8 times in T). The caller's random state is neither read nor changed. Shao et al. 2020 (AAAI; built
    from its description, see `TemporalInterlacing`), Tran et al. 2018 (CVPR; R(2+1)D and ResNet-3D).

    Raises ValueError for an unknown architecture or impossible sizes, InputError if weights cannot be had or do not fit.
    """
    if architecture not in ARCHITECTURES:
        raise ValueError(f"unknown architecture {architecture!r}; one of {', '.join(ARCHITECTURES)}")
    if stem not in stems(architecture):
        raise ValueError(f"unknown stem {stem!r} of {architecture}; one of {', '.join(stems(architecture))}")
    check_sizes(in_channels, n_outputs, dropout)
    if architecture in _TIN_BACKBONES:
        return _build_tin(architecture, in_channels, n_outputs, n_segments, weights, dropout, seed)
    network = _build_3d(architecture, in_channels, n_outputs, weights, dropout, seed)
    if stem == "pooled":
        network.stem.append(nn.MaxPool3d((1, 3, 3), stride=(1, 2, 2), padding=(0, 1, 1)))
    return network


def stems(architecture: str) -> tuple[str, ...]:
    """The stems that `build_video_network` offers for an architecture."""
    return ("standard", "pooled") if architecture in _ARCHITECTURES_3D else ("standard",)


def shift_matrix(offsets: torch.Tensor, n_frames: int) -> torch.Tensor:
    """S[..., t, u] = max(0, 1 - |t - u - offset|): frame t of the result reads frames u around t - offset.

    offsets: (...), in frames; a positive one delays. Returns (..., n_frames, n_frames). Linear interpolation between frames,
    zeros beyond the ends of the clip. Differentiable but for the kinks at whole numbers.
    """
    frame = torch.arange(n_frames, device=offsets.device, dtype=offsets.dtype)
    lag = frame[:, None] - frame[None, :]
    return F.relu(1 - (lag - offsets[..., None, None]).abs())


def interlace(x: torch.Tensor, offsets: torch.Tensor, frame_weights: torch.Tensor) -> torch.Tensor:
    """Shift four groups of channels in time by +o1, +o2, -o1, -o2 and weigh their frames by w1, w2, w1, w2.

    x: (n, T, channels, height, width), channels a multiple of `SHIFT_GROUPS`; groups are contiguous and equal. offsets:
    (n, 2), in frames. frame_weights: (n, 2, T), by frame of the result. Returns the shape of x. O(n T^2 channels height width).
    """
    n_frames = x.shape[1]
    by_group = torch.cat([offsets, -offsets], dim=1)
    mixing = shift_matrix(by_group, n_frames) * frame_weights.repeat(1, 2, 1)[..., None]
    groups = x.unflatten(2, (SHIFT_GROUPS, -1))
    return torch.einsum("ngtu,nugchw->ntgchw", mixing, groups).flatten(2, 3)


class TemporalInterlacing(nn.Module):
    """One TIN layer: the first quarter of the channels, moved in time by offsets learned from the clip itself.

    Takes and returns frames (n * n_segments, channels, height, width), the frames of a clip in a row. A small network
    sees the spatial mean of the moved channels and states two offsets per clip, in (-2, 2) frames and near 0.5 before
    training; another states two weights per frame, in (0, 2) and near 1. Shao et al. 2020, AAAI 34:11966.

    Raises ValueError if channels is no multiple of 16 or n_segments below 2.
    """

    def __init__(self, channels: int, n_segments: int):
        super().__init__()
        if channels % (SHIFTED_FRACTION * SHIFT_GROUPS):
            raise ValueError(f"channels must be a multiple of {SHIFTED_FRACTION * SHIFT_GROUPS}, not {channels}")
        if n_segments < 2:
            raise ValueError(f"n_segments must be at least 2 to shift frames in time, not {n_segments}")
        self.n_segments = n_segments
        self.shifted = channels // SHIFTED_FRACTION
        self.offset_convolution = nn.Conv1d(self.shifted, 1, 3, padding=1)
        self.offset_hidden = nn.Linear(n_segments, n_segments)
        self.offset_output = nn.Linear(n_segments, 2)
        nn.init.constant_(self.offset_output.bias, _INITIAL_OFFSET_BIAS)
        self.weight_convolution = nn.Conv1d(self.shifted, 2, 3, padding=1)
        nn.init.zeros_(self.weight_convolution.bias)

    def offsets_and_weights(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Offsets (n, 2), in frames, and frame weights (n, 2, n_segments) for frames as `forward` takes them."""
        means = x[:, : self.shifted].mean(dim=(2, 3))
        means = means.unflatten(0, (-1, self.n_segments)).transpose(1, 2)
        hidden = F.relu(self.offset_hidden(self.offset_convolution(means).squeeze(1)))
        offsets = 2 * LARGEST_OFFSET * (torch.sigmoid(self.offset_output(hidden)) - 0.5)
        return offsets, 2 * torch.sigmoid(self.weight_convolution(means))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Frames (n * n_segments, channels, height, width) with the first quarter of their channels interlaced."""
        offsets, frame_weights = self.offsets_and_weights(x)
        clips = x[:, : self.shifted].unflatten(0, (-1, self.n_segments))
        moved = interlace(clips, offsets, frame_weights).flatten(0, 1)
        return torch.cat([moved, x[:, self.shifted :]], dim=1)


class TinResNet(nn.Module):
    """A 2-D ResNet over the frames of clips, with a TIN layer before the first convolution of every residual block.

    Takes clips (n, channels, n_segments, height, width); returns the mean over frames of the logits of each frame,
    (n, outputs). The shortcuts see unshifted frames. `frames` is the ResNet itself, under torchvision's layer names.
    """

    def __init__(self, frames: nn.Module, n_segments: int):
        super().__init__()
        self.n_segments = n_segments
        self.frames = frames

    def forward(self, clips: torch.Tensor) -> torch.Tensor:
        """Logits (n, outputs) of clips (n, channels, n_segments, height, width); ValueError for another length."""
        if clips.ndim != 5 or clips.shape[2] != self.n_segments:
            raise ValueError(f"clips must be (n, channels, {self.n_segments}, height, width), not {tuple(clips.shape)}")
        logits = self.frames(clips.transpose(1, 2).flatten(0, 1))
        return logits.unflatten(0, (-1, self.n_segments)).mean(dim=1)


def _build_tin(
    architecture: str,
    in_channels: int,
    n_outputs: int,
    n_segments: int,
    weights: str | Path,
    dropout: float,
    seed: int,
) -> TinResNet:
    if str(weights) == "kinetics":
        raise InputError(
            f"there are no Kinetics weights for {architecture}; give 'none', 'imagenet' (for the ResNet below it) or the "
            "path of a saved state dictionary."
        )
    state = None if str(weights) in ("none", "imagenet") else read_weights(weights, architecture, imagenet="")
    frames = build_cnn2d(
        _TIN_BACKBONES[architecture],
        in_channels,
        n_outputs,
        weights="imagenet" if str(weights) == "imagenet" else "none",
        dropout=dropout,
        seed=seed,
    )
    own = state is not None and any(name.startswith("frames.") for name in state)
    if state is not None and not own:
        load_weights(frames, state, "conv1", "fc", in_channels, weights)
    with torch.random.fork_rng(devices=[]):
        # A stream of their own: not the numbers that already filled the first convolution.
        torch.manual_seed(int(np.random.SeedSequence([seed, 1]).generate_state(1)[0]))
        for stage in (frames.layer1, frames.layer2, frames.layer3, frames.layer4):
            for block in stage:
                block.conv1 = nn.Sequential(TemporalInterlacing(block.conv1.in_channels, n_segments), block.conv1)
    if own:
        state = {name.removeprefix("frames."): value for name, value in state.items()}
        _check_segments(state, n_segments, weights)
        load_weights(frames, state, "conv1", "fc", in_channels, weights)
    return TinResNet(frames, n_segments)


def _build_3d(
    architecture: str, in_channels: int, n_outputs: int, weights: str | Path, dropout: float, seed: int
) -> nn.Module:
    if str(weights) == "imagenet":
        raise InputError(
            f"there are no ImageNet weights for {architecture}, whose filters extend in time; give 'none', 'kinetics' or "
            "the path of a saved state dictionary."
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = torchvision_network(architecture)
        adapt_first_convolution(network, _FIRST_CONVOLUTION_3D, in_channels)
        replace_head(network, "fc", n_outputs, dropout)
    if str(weights) != "none":
        state = read_weights(weights, architecture, kinetics=weights_url(architecture, "KINETICS400_V1"))
        load_weights(network, state, _FIRST_CONVOLUTION_3D, "fc", in_channels, weights)
    return network


def _check_segments(state: dict[str, torch.Tensor], n_segments: int, source: str | Path) -> None:
    found = {value.shape[0] for name, value in state.items() if name.endswith("offset_hidden.weight")}
    if found - {n_segments}:
        raise InputError(
            f"weights {source} are of a TIN for clips of {min(found)} frames, and {n_segments} are asked for; sample "
            f"{min(found)} segments or give other weights."
        )
