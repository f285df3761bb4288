"""Random changes of a whole batch on the device it lies on, every sample with its own parameters.

Deterministic pixel work (windowing, resampling, cropping) lives in `alnlib.imaging`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F


@dataclass(frozen=True)
class AugmentSpec:
    """How far a crop may be changed while its label stays true.

    horizontal_flip, vertical_flip: probabilities. rotate_degrees: angle in ± this. scale: zoom factor in 1 ± this.
    translate: shift in ± this fraction of the side. brightness: added, in ± this many standard deviations of the training
    pixels. contrast: factor in 1 ± this, about the crop's own mean. noise_sd: standard deviation of added Gaussian noise, in
    standard deviations of the training pixels. The defaults suit ultrasound: mirrored left to right freely, never upside
    down, because shadow and enhancement lie below a lesion.
    """

    horizontal_flip: float = 0.5
    vertical_flip: float = 0.0
    rotate_degrees: float = 10.0
    scale: float = 0.1
    translate: float = 0.05
    brightness: float = 0.2
    contrast: float = 0.2
    noise_sd: float = 0.05

    def __post_init__(self) -> None:
        if not (0 <= self.horizontal_flip <= 1 and 0 <= self.vertical_flip <= 1):
            raise ValueError("flips are probabilities in [0, 1]")
        amounts = (self.rotate_degrees, self.scale, self.translate, self.brightness, self.contrast, self.noise_sd)
        if min(amounts) < 0 or self.scale >= 1 or self.contrast >= 1:
            raise ValueError("amounts must not be negative, and scale and contrast must be below 1")


NO_AUGMENTATION = AugmentSpec(0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)


def augment_batch(images: torch.Tensor, spec: AugmentSpec, generator: torch.Generator) -> torch.Tensor:
    """Change standardised images (n, channels, height, width) float32, each by its own draw; same shape and device.

    Clips (n, channels, frames, height, width) are changed as a whole: every frame of one in the same way, noise apart.
    generator: a CPU generator; its draws do not depend on the device of the images. All geometry is one bilinear resampling
    with reflection at the border, so no sample shows a black wedge that its label could be read from.
    """
    if images.ndim == 5:
        return augment_batch(images.flatten(1, 2), spec, generator).unflatten(1, images.shape[1:3])
    n = len(images)
    # Always the same number of draws: switching one change off leaves the others as they were.
    draws = torch.rand(n, 8, generator=generator)
    flips, symmetric = draws[:, :2], draws[:, 2:] * 2 - 1
    if _moves(spec):
        theta = affine_matrices(flips, symmetric, spec, images.shape[-2:]).to(images.device)
        grid = F.affine_grid(theta, list(images.shape), align_corners=False)
        images = F.grid_sample(images, grid, mode="bilinear", padding_mode="reflection", align_corners=False)
    if spec.contrast or spec.brightness:
        factor = (1 + spec.contrast * symmetric[:, 4]).to(images.device).view(n, 1, 1, 1)
        shift = (spec.brightness * symmetric[:, 5]).to(images.device).view(n, 1, 1, 1)
        mean = images.mean(dim=(1, 2, 3), keepdim=True)
        images = (images - mean) * factor + mean + shift
    if spec.noise_sd:
        images = images + spec.noise_sd * torch.randn(images.shape, generator=generator).to(images.device)
    return images


def affine_matrices(
    flips: torch.Tensor, symmetric: torch.Tensor, spec: AugmentSpec, size: tuple[int, int]
) -> torch.Tensor:
    """(n, 2, 3) matrices for affine_grid (x before y, coordinates in [-1, 1]) from uniform draws.

    flips: (n, 2) in [0, 1); symmetric: (n, at least 4) in [-1, 1): angle, zoom, shift along x, shift along y.
    size: (height, width) in pixels; a rotation is rigid in pixels also where the two differ.
    """
    height, width = size
    angle = symmetric[:, 0] * math.radians(spec.rotate_degrees)
    zoom = 1 + spec.scale * symmetric[:, 1]
    mirror_x = torch.where(flips[:, 0] < spec.horizontal_flip, -1.0, 1.0)
    mirror_y = torch.where(flips[:, 1] < spec.vertical_flip, -1.0, 1.0)
    cosine, sine = torch.cos(angle) / zoom, torch.sin(angle) / zoom
    theta = torch.zeros(len(flips), 2, 3)
    theta[:, 0, 0] = cosine * mirror_x
    theta[:, 0, 1] = -sine * (height / width) * mirror_x
    theta[:, 1, 0] = sine * (width / height) * mirror_y
    theta[:, 1, 1] = cosine * mirror_y
    theta[:, :, 2] = 2 * spec.translate * symmetric[:, 2:4]
    return theta


def _moves(spec: AugmentSpec) -> bool:
    geometry = (spec.horizontal_flip, spec.vertical_flip, spec.rotate_degrees, spec.scale, spec.translate)
    return any(amount > 0 for amount in geometry)
