"""Random changes of a whole batch on the device it lies on, every sample with its own parameters.

Deterministic pixel work (windowing, resampling, cropping) lives in `alnlib.imaging`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from alnlib.training.data import send


@dataclass(frozen=True)
class AugmentSpec:
    """How far a crop may be changed while its label stays true.

    horizontal_flip, vertical_flip: probabilities. rotate_degrees: angle in ± this. scale: zoom factor in 1 ± this.
    translate: shift in ± this fraction of the side. brightness: added, in ± this many standard deviations of the training
    pixels. contrast: factor in 1 ± this, about the crop's own mean. noise_sd: standard deviation of added Gaussian noise, in
    standard deviations of the training pixels. The defaults suit ultrasound: mirrored left to right freely, never upside
    down, because shadow and enhancement lie below a lesion.
    Volumes turn about z; scale and translate hold for all three axes.
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
        if not all(0 <= flip <= 1 for flip in (self.horizontal_flip, self.vertical_flip)):
            raise ValueError("flips are probabilities in [0, 1]")
        if min(vars(self).values()) < 0 or self.scale >= 1 or self.contrast >= 1:
            raise ValueError("amounts must not be negative, scale and contrast must be below 1")


NO_AUGMENTATION = AugmentSpec(0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)


def augment_batch(
    images: torch.Tensor, spec: AugmentSpec, generator: torch.Generator, volumes: bool = False
) -> torch.Tensor:
    """Change standardized images (n, channels, height, width) float32, each by its own draw; same shape and device.

    Clips (n, channels, frames, height, width) are changed as a whole: every frame of one in the same way, noise apart.
    volumes: five axes are (n, channels, z, y, x), turned, zoomed, shifted and mirrored in space by one trilinear resampling.
    With nothing out of plane and no zoom, a volume is changed as a clip of the same draws is. generator: a CPU generator;
    its draws do not depend on the device of the images, noise apart. All geometry is one linear resampling with reflection
    at the border, so no sample shows a black wedge that its label could be read from. Raises ValueError for volumes without
    five axes.
    """
    if volumes and images.ndim != 5:
        raise ValueError(f"volumes must be (n, channels, z, y, x), not {tuple(images.shape)}")
    if images.ndim == 5 and not volumes:
        return augment_batch(images.flatten(1, 2), spec, generator).unflatten(1, images.shape[1:3])
    n = len(images)
    # Always the same number of draws: switching one change off leaves the others as they were.
    draws = torch.rand(n, 8, generator=generator)
    flips, symmetric = draws[:, :2], draws[:, 2:] * 2 - 1
    through_plane = torch.rand(n, 4, generator=generator) if volumes else None
    if any((spec.horizontal_flip, spec.vertical_flip, spec.rotate_degrees, spec.scale, spec.translate)):
        if through_plane is None:
            theta = affine_matrices(flips, symmetric, spec, images.shape[-2:])
        else:
            theta = affine_matrices_3d(flips, symmetric, through_plane, spec, images.shape[-3:])
        grid = F.affine_grid(send(theta, images.device), list(images.shape), align_corners=False)
        images = F.grid_sample(images, grid, mode="bilinear", padding_mode="reflection", align_corners=False)
    if spec.contrast or spec.brightness:
        per_sample = (n, *[1] * (images.ndim - 1))
        factor = send(1 + spec.contrast * symmetric[:, 4], images.device).view(per_sample)
        shift = send(spec.brightness * symmetric[:, 5], images.device).view(per_sample)
        mean = images.mean(dim=tuple(range(1, images.ndim)), keepdim=True)
        images = (images - mean) * factor + mean + shift
    if spec.noise_sd:
        images = images + spec.noise_sd * _noise(images, generator)
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


def affine_matrices_3d(
    flips: torch.Tensor,
    symmetric: torch.Tensor,
    through_plane: torch.Tensor,
    spec: AugmentSpec,
    size: tuple[int, int, int],
) -> torch.Tensor:
    """(n, 3, 4) matrices for affine_grid (order x, y, z, coordinates in [-1, 1]) from uniform draws.

    flips, symmetric: as `affine_matrices`. through_plane: (n, 4) in [0, 1), the last for the shift along z. size: (z, y, x) in
    voxels. The turn is about z; the zoom is the same along all axes.
    """
    angle = symmetric[:, 0] * math.radians(spec.rotate_degrees)
    turn = torch.eye(3).repeat(len(flips), 1, 1)
    turn[:, 0, 0] = turn[:, 1, 1] = torch.cos(angle)
    turn[:, 0, 1], turn[:, 1, 0] = -torch.sin(angle), torch.sin(angle)
    zoom = 1 + spec.scale * symmetric[:, 1]
    # From [-1, 1] along each axis to lengths in pixel sides and back.
    extent = torch.tensor(size[::-1], dtype=torch.float32)
    matrix = turn / zoom[:, None, None] * extent[None, None, :] / extent[None, :, None]
    mirrored = flips < torch.tensor((spec.horizontal_flip, spec.vertical_flip))
    matrix[:, :2] *= torch.where(mirrored, -1.0, 1.0)[:, :, None]
    shift = 2 * spec.translate * torch.cat([symmetric[:, 2:4], through_plane[:, 3:] * 2 - 1], dim=1)
    return torch.cat([matrix, shift[:, :, None]], dim=2)


def _noise(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Standard normal, like images; on a GPU drawn there, from a seed of the CPU generator's, for it is most of the numbers."""
    if images.device.type == "cpu":
        return torch.randn(images.shape, generator=generator)
    seed = int(torch.randint(2**62, (), generator=generator))
    own = torch.Generator(images.device).manual_seed(seed)
    return torch.randn(images.shape, generator=own, device=images.device)
