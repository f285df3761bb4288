"""Grad-CAM for images, volumes and clips through one function, and the scales on which its maps are compared.

Whether a map is faithful to the network is tested in `alnlib.explain.faithfulness`, where its heat lies in
`alnlib.explain.regions`. Maps are (n, rows, columns), (n, z, y, x) or (n, frames, rows, columns).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from alnlib.models.cnn2d import evaluating

INTERPOLATION = {2: "bilinear", 3: "trilinear"}
LAST_STAGES = (("layer4", None), ("features", "classifier"), ("features", "class_layers"))
"""The last feature layer of a family, and the sibling that tells the family: ResNets of two and three dimensions from
torchvision and MONAI; DenseNet and EfficientNet of torchvision, and EfficientNet-Lite0 and frozen networks; DenseNet of
MONAI."""

FLAT = 1e-6
"""Relative spread of a frame profile below which it names no frame: rounding of the interpolation."""


def grad_cam(
    network: nn.Module, images: np.ndarray | torch.Tensor, layer: str | None = None, batch_size: int = 16
) -> np.ndarray:
    """Heat (n, *spatial) float32 of each image for the logit, not negative, on the grid of the input.

    The channels of `layer`, weighed by the gradient of the output averaged over space (and time), summed, negative sums
    set to 0, interpolated linearly. Raw scale: see `figures.scaled_heat`. Selvaraju et al. 2017 (ICCV).

    network: logits (n, 1) or (n,); it is put into evaluation mode for the call. The heat speaks for the positive class, and
    a confidently negative image may have none. images: (n, C, rows, columns), (n, C, z, y, x) or (n, C, T, rows, columns),
    scaled as in its training; moved to the network's device. layer: its name as in named_modules(), or None for
    `default_layer`. It may see frames as images, (n * T, F, h, w) with the frames of a clip in sequence (TIN): there is then
    one weight per channel and clip, as in a 3-D network. batch_size: images (clips) at once; the memory it takes.

    Mode, gradients, requires_grad and hooks of the network are as before, also after an error; no random number is drawn. The
    CPU gives the same bits for the same thread count and batch size. A DenseNet's features are taken behind the ReLU that
    follows them in place, where the pooling sees them. Raises ValueError for images of other dimensions, an unknown layer, one
    that is not passed exactly once or on which the logit does not depend, or for values that are not finite.
    """
    n_spatial = images.ndim - 2
    if n_spatial not in INTERPOLATION or len(images) == 0 or batch_size < 1:
        raise ValueError(
            f"images have shape {tuple(images.shape)}, batch_size is {batch_size}; expected at least one image, "
            "(n, C, rows, columns), (n, C, z, y, x) or (n, C, T, rows, columns), and batches of at least 1"
        )
    name, modules = layer or default_layer(network), dict(network.named_modules())
    if name not in modules:
        parts = ", ".join(dict(network.named_children()))
        raise ValueError(f"the network has no layer {name!r}; its parts are {parts}")
    heat = []
    with _explaining(network), torch.inference_mode(False), torch.enable_grad():
        for start in range(0, len(images), batch_size):
            batch = _on_device(images[start : start + batch_size], network)
            passed = _features_and_gradient(network, modules[name], batch)
            features, gradient = (_unfold_frames(values, batch) for values in passed)
            weights = gradient.flatten(2).mean(dim=2)
            coarse = torch.einsum("nf,nf...->n...", weights, features).clamp(min=0).unsqueeze(1)
            size = tuple(batch.shape[2:])
            fine = F.interpolate(coarse.float(), size=size, mode=INTERPOLATION[n_spatial], align_corners=False)
            heat.append(fine.squeeze(1).cpu().numpy())
    maps = np.concatenate(heat)
    if not np.isfinite(maps).all():
        raise ValueError("the heat is not finite; look for values that are not finite in the images or the weights")
    return maps


def explainer(images: np.ndarray, layer: str) -> Callable[[nn.Module], np.ndarray]:
    """`grad_cam` of these images at this layer, as a function of the network."""
    return partial(grad_cam, images=images, layer=layer)


def default_layer(network: nn.Module) -> str:
    """Name of the last convolutional feature layer: `layer4` of a ResNet (2-D, R3D, R(2+1)D, MONAI's, or one inside another
    network, as in TIN), `features` of a DenseNet or EfficientNet.

    The last layer of r3d_18 and r2plus1d_18 has an eighth of the frames of the clip: of 8 frames, one, and no frame profile.
    Give layer="layer2" (a half of the frames) or "layer1" (all) to tell frames apart. Raises ValueError for other networks.
    """
    for name, module in network.named_modules():
        children = dict(module.named_children())
        for stage, sibling in LAST_STAGES:
            if stage in children and (sibling is None or sibling in children):
                return f"{name}.{stage}" if name else stage
    convolutions = [name for name, module in network.named_modules() if isinstance(module, nn.Conv2d | nn.Conv3d)]
    raise ValueError(
        f"no default layer is known for {type(network).__name__}; give layer, for instance one of the last convolutions: "
        f"{', '.join(convolutions[-3:]) or 'there are none'}"
    )


def layer_with_cells(network: nn.Module, images: np.ndarray | torch.Tensor, at_least: int = 6) -> tuple[str, int]:
    """The deepest stage whose feature map is at least `at_least` cells along its shorter side in the plane, and that side.

    Stages are the siblings of `default_layer` (layer1 to layer4 of a ResNet, the parts of `features` of the others). The last
    one of a small crop has 2 x 2 cells and tells no region from another; an earlier one is finer and further from the
    decision, so say which was used. The finest stage if none has so many. A frozen network's head reads several stages: heat
    at one is evidence that passes through it, and not what the head reads before it. images: one is enough, (n, C, *spatial).
    """
    last = default_layer(network)
    if last.rpartition(".")[2] == "layer4":
        stages = [f"{last.removesuffix('4')}{place}" for place in (1, 2, 3, 4)]
    else:
        stages = [f"{last}.{name}" for name, _ in network.get_submodule(last).named_children()]
    sides: dict[str, int] = {}
    with ExitStack() as hooks, _explaining(network), torch.inference_mode():
        for name in {*stages, last}:
            measured = partial(lambda name, _, __, output: sides.update({name: min(output.shape[-2:])}), name)
            hooks.enter_context(network.get_submodule(name).register_forward_hook(measured))
        network(_on_device(images[:1], network))
    fine = [name for name in stages if sides[name] >= at_least]
    chosen = fine[-1] if fine else max(sides, key=lambda name: sides[name])
    # Behind the last part of a DenseNet follows the ReLU that only the whole stage holds; a frozen network passes the parts
    # of its `features` one by one, never the whole.
    return (last if chosen == stages[-1] and last in sides else chosen), sides[chosen]


class FrameProfile(NamedTuple):
    """Heat over the frames of clips.

    heat: (n, T) mean heat per frame, on the scale of the maps. key_frame: (n,) index of the hottest frame, the earliest of
    equals; -1 for a clip without heat or with the same heat in all frames, which names none.
    """

    heat: np.ndarray
    key_frame: np.ndarray


def frame_profile(maps: np.ndarray) -> FrameProfile:
    """Mean heat per frame of maps (n, T, rows, columns), and the key frame it names.

    Heat is interpolated between the time steps of the layer it was taken from: key frames are no finer than these (see
    `default_layer`), and with a single step the profile is flat. Raises ValueError for other shapes.
    """
    maps = np.asarray(maps)
    if maps.ndim != 4:
        raise ValueError(f"maps have shape {maps.shape}; expected (n, T, rows, columns)")
    heat = maps.mean(axis=(2, 3), dtype=np.float64)
    top = heat.max(axis=1)
    return FrameProfile(heat, np.where(top - heat.min(axis=1) > FLAT * top, heat.argmax(axis=1), -1))


def _on_device(images: np.ndarray | torch.Tensor, network: nn.Module) -> torch.Tensor:
    """A copy with the network's device and type: a memory-mapped array may not be writable, which torch warns of."""
    batch = torch.tensor(images) if isinstance(images, np.ndarray) else images.detach()
    return batch.to(next(network.parameters(), torch.empty(0)))


@contextmanager
def _explaining(network: nn.Module) -> Iterator[None]:
    """Evaluation mode, and no graph below the explained layer: parameters ask for no gradient meanwhile."""
    wanted = [(parameter, parameter.requires_grad) for parameter in network.parameters()]
    try:
        for parameter, _ in wanted:
            parameter.requires_grad_(False)
        with evaluating(network):
            yield
    finally:
        for parameter, requires_grad in wanted:
            parameter.requires_grad_(requires_grad)


def _features_and_gradient(
    network: nn.Module, module: nn.Module, batch: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    passed: list[torch.Tensor] = []

    def start_graph(_: nn.Module, __: tuple, output: torch.Tensor) -> torch.Tensor:
        if not isinstance(output, torch.Tensor) or output.ndim < 4:
            raise ValueError(f"the layer {type(module).__name__} does not return features (n, F, *spatial)")
        # A leaf may not be changed in place, its copy may: what follows in place (DenseNet's ReLU) is then part of `passed`.
        passed.append(output.detach().requires_grad_().clone())
        return passed[-1]

    with module.register_forward_hook(start_graph):
        outputs = network(batch)
    if len(passed) != 1:
        raise ValueError(f"the layer is passed {len(passed)} times in one image; give a layer that is passed once")
    if outputs.numel() != len(batch):
        raise ValueError(
            f"outputs have shape {tuple(outputs.shape)}; expected one logit for each of {len(batch)} images"
        )
    # Images do not meet in evaluation mode: the gradient of the sum holds that of each image.
    score = outputs.sum()
    gradient = torch.autograd.grad(score, passed[0], allow_unused=True)[0] if score.requires_grad else None
    if gradient is None:
        raise ValueError("the output does not depend on the layer; give a layer on the way to the output")
    return passed[0].detach(), gradient


def _unfold_frames(values: torch.Tensor, batch: torch.Tensor) -> torch.Tensor:
    """(n, F, *spatial) from (n, F, *spatial), or from (n * T, F, h, w) of clips whose frames lie in the batch."""
    n = len(batch)
    if batch.ndim == 5 and values.ndim == 4 and len(values) % n == 0:
        return values.unflatten(0, (n, -1)).movedim(1, 2)
    if len(values) != n or values.ndim != batch.ndim:
        raise ValueError(f"features {tuple(values.shape)} do not fit images {tuple(batch.shape)}; give another layer")
    return values
