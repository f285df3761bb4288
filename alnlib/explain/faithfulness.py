"""Whether a map tells what a network relies on: deletion and insertion curves, and maps of networks with random weights.

Maps come from `alnlib.explain.gradcam` or from anywhere else; nothing here knows how they were made.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from itertools import product

import numpy as np
import pandas as pd
import torch
from scipy.ndimage import gaussian_filter
from scipy.stats import spearmanr
from skimage.metrics import structural_similarity
from torch import nn

from alneval.estimate import mean_interval
from alnlib.models.cnn2d import evaluating

MODES = ("deletion", "insertion")
STAGE_SHARE = 0.9
"""A part that holds more than this share of all parameters is no stage but the whole in another wrapping."""

SSIM_WINDOW = 7

Predict = Callable[[np.ndarray], np.ndarray]


def network_probability(network: nn.Module, batch_size: int = 32) -> Predict:
    """Function from images (n, C, *spatial) to the sigmoid (n,) of the logit, in evaluation mode; modes are restored.

    For other scores (softmax, a mean of networks, a corrected prior) give a function of your own instead.
    """

    def predict(images: np.ndarray) -> np.ndarray:
        parameter = next(network.parameters())
        with evaluating(network), torch.inference_mode():
            pixels = torch.as_tensor(images).to(parameter.dtype)
            logits = [network(batch.to(parameter.device)) for batch in pixels.split(batch_size)]
        return torch.cat(logits).flatten(1)[:, 0].double().sigmoid().cpu().numpy()

    return predict


def perturbation_curve(
    predict: Predict,
    images: np.ndarray,
    maps: np.ndarray,
    mode: str,
    rng: np.random.Generator,
    fill: np.ndarray,
    steps: int = 20,
) -> np.ndarray:
    """The prediction (n, steps + 1) as the hottest pixels are replaced (deletion), or put onto a filled image (insertion).

    Petsiuk et al. 2018 (BMVC, RISE). predict: images (n, C, *spatial) float32 to scores (n,), `network_probability` for one.
    images: (n, C, *spatial); maps: (n, *spatial), whose order alone counts. Pixels of equal heat (Grad-CAM sets many to 0)
    come in random order from `rng`. fill: what replaces pixels, broadcast to the images. Costs steps + 1 predictions of
    every image, at equal steps of the share of pixels from 0 to 1.

    Both curves speak of the class that is predicted: where the score is near 0 to begin with, deletion has nothing to
    take, so report positives apart. Replaced pixels lie outside the training images, some more than others: compare with
    `random_maps` of the same grain. Raises ValueError for an unknown mode or shapes that differ.
    """
    images, maps, fill = np.asarray(images, np.float32), np.asarray(maps), np.asarray(fill, np.float32)
    if mode not in MODES:
        raise ValueError(f"unknown mode {mode!r}; one of {', '.join(MODES)}")
    if images.ndim < 3 or len(images) == 0 or maps.shape != images.shape[:1] + images.shape[2:]:
        raise ValueError(f"images {images.shape} and maps {maps.shape} do not fit: (n, C, *spatial) and (n, *spatial)")
    if steps < 1 or not np.isfinite(maps).all():
        raise ValueError("steps must be at least 1, and heat finite")
    rank = _rank_from_hottest(maps, rng)
    hot, cold = (fill, images) if mode == "deletion" else (images, fill)
    scores = []
    for share in np.linspace(0.0, 1.0, steps + 1):
        reached = (rank < round(share * maps[0].size)).reshape(maps.shape)[:, None]
        scores.append(np.asarray(predict(np.where(reached, hot, cold)), dtype=np.float64).reshape(len(images)))
    return np.stack(scores, axis=1)


def area_under(curve: np.ndarray) -> np.ndarray:
    """(n,) areas under `perturbation_curve` (trapezoids). A faithful map has a small one for deletion, a large for insertion."""
    return np.trapezoid(curve, np.linspace(0.0, 1.0, curve.shape[1]), axis=1)


def random_maps(shape: Sequence[int], rng: np.random.Generator, cell: int | Sequence[int] = 1) -> np.ndarray:
    """Maps (n, *spatial) float32 of uniform random heat, constant on cells of `cell` pixels: a baseline without knowledge.

    cell: edge in pixels, one for all or one per spatial axis. Scattered single pixels harm a network more than a
    patch of the same area does; give the cell of the feature map (image side / feature side) for a like baseline.
    """
    spatial = tuple(shape[1:])
    cells = (cell,) * len(spatial) if isinstance(cell, int) else tuple(cell)
    if len(cells) != len(spatial) or min(cells) < 1:
        raise ValueError(f"cell is {cell}; expected a positive number of pixels, one or one for each of {spatial}")
    heat = rng.random((shape[0], *(-(-side // edge) for side, edge in zip(spatial, cells, strict=True))))
    for axis, (side, edge) in enumerate(zip(spatial, cells, strict=True), start=1):
        heat = heat.repeat(edge, axis=axis).take(range(side), axis=axis)
    return heat.astype(np.float32)


def faithfulness_table(
    predict: Predict,
    images: np.ndarray,
    maps: np.ndarray,
    rng: np.random.Generator,
    cell: int | Sequence[int] = 1,
    repeats: int = 5,
    blur_sigma: float | Sequence[float] = 5.0,
    steps: int = 20,
    fill: np.ndarray | None = None,
) -> pd.DataFrame:
    """One row per image and mode: image (from 0), mode, score (whole image), filled_score (all replaced), auc, random_auc, gain.

    fill: what replaces pixels, broadcast to the images; None: the images blurred (Gaussian, the authors' for insertion).
    blur_sigma: in pixels, one for all or one per spatial axis; (0, s, s) keeps the frames of a clip apart. Look at
    filled_score first: a fill that the network already takes for the finding (the mean of an image with a bright lesion is
    brighter than its background) leaves insertion nothing to add and deletion nothing to take; fill otherwise.
    random_auc: mean over `repeats` draws of `random_maps` with this `cell`. gain: how much better than random the map is,
    random_auc - auc for deletion, auc - random_auc for insertion; positive is faithful. Others as `perturbation_curve`.
    """
    if repeats < 1:
        raise ValueError("repeats must be at least 1")
    images = np.asarray(images, dtype=np.float32)
    fill = _blurred(images, blur_sigma) if fill is None else fill
    rows = []
    for mode in MODES:
        curve = perturbation_curve(predict, images, maps, mode, rng, fill, steps)
        baselines = (random_maps(np.shape(maps), rng, cell) for _ in range(repeats))
        curves = [perturbation_curve(predict, images, baseline, mode, rng, fill, steps) for baseline in baselines]
        auc, at_random = area_under(curve), np.mean([area_under(baseline) for baseline in curves], axis=0)
        whole, replaced = curve.T[[0, -1] if mode == "deletion" else [-1, 0]]
        gain = at_random - auc if mode == "deletion" else auc - at_random
        columns = {"image": np.arange(len(images)), "mode": mode, "score": whole, "filled_score": replaced}
        rows.append(pd.DataFrame({**columns, "auc": auc, "random_auc": at_random, "gain": gain}))
    return pd.concat(rows, ignore_index=True)


def occlusion_drop(
    predict: Predict,
    images: np.ndarray,
    cell: int,
    blur_sigma: float | Sequence[float] = 5.0,
    fill: np.ndarray | None = None,
) -> np.ndarray:
    """How far the prediction falls when one square of each image is replaced: (n, rows / cell, columns / cell), by square.

    Zeiler & Fergus 2014 (ECCV). predict: as `perturbation_curve`; blur_sigma, fill: as `faithfulness_table`; images:
    (n, C, rows, columns); cell: side of a square in pixels, a smaller one at the far edges. Slow (a prediction of every
    image per square) and plain: it asks the network itself, where Grad-CAM reads it off an inner layer. Raises ValueError
    for other images or a cell below 1.
    """
    images = np.asarray(images, dtype=np.float32)
    if images.ndim != 4 or len(images) == 0 or cell < 1:
        raise ValueError(
            f"images have shape {images.shape}, cell is {cell}; expected (n, C, rows, columns) and at least 1"
        )
    filled = np.broadcast_to(_blurred(images, blur_sigma) if fill is None else fill, images.shape)
    whole = np.asarray(predict(images), dtype=np.float64)
    rows, columns = (range(0, side, cell) for side in images.shape[2:])
    drop = np.empty((len(images), len(rows), len(columns)))
    for (i, row), (j, column) in product(enumerate(rows), enumerate(columns)):
        shown = images.copy()
        place = (..., slice(row, row + cell), slice(column, column + cell))
        shown[place] = filled[place]
        drop[:, i, j] = whole - np.asarray(predict(shown), dtype=np.float64)
    return drop


def gain_summary(table: pd.DataFrame, patient_ids: np.ndarray, seed: int, n_bootstrap: int = 2000) -> pd.DataFrame:
    """Means over images of `faithfulness_table`, one row per mode, with the mean gain's interval (mean, mean_low, mean_high).

    patient_ids: (images,), whole patients are resampled, the same in both modes.
    """
    rows = []
    for mode, of_mode in table.groupby("mode", sort=False):
        rng = np.random.default_rng(seed)
        gain = mean_interval(of_mode["gain"], patient_ids[of_mode["image"]], rng, n_bootstrap).named("mean")
        rows.append({"mode": mode, "n": len(of_mode), **of_mode.mean(numeric_only=True).drop("image"), **gain})
    return pd.DataFrame(rows)


def gain_verdict(low: float, high: float) -> str:
    """What an interval of `faithfulness_table`'s gain says of the maps, in words."""
    if low > 0:
        return "better than random patches"
    return "worse than random patches" if high < 0 else "not told from random patches"


def map_similarity(maps: np.ndarray, others: np.ndarray) -> pd.DataFrame:
    """Columns spearman and ssim, one row per pair of maps of equal shape (n, *spatial).

    spearman: rank correlation of the pixels. ssim: structural similarity (Wang et al. 2004, IEEE Trans Image Process 13:600) of
    the maps, each divided by its maximum, in uniform windows of 7 pixels (less on a shorter side, axes of length 1 dropped; for
    clips and volumes in three dimensions). Both NaN where either map is flat: it orders nothing. Raises ValueError for shapes
    that differ or sides of two pixels.
    """
    maps, others = np.asarray(maps, dtype=np.float64), np.asarray(others, dtype=np.float64)
    if maps.shape != others.shape or maps.ndim < 2:
        raise ValueError(f"maps of shapes {maps.shape} and {others.shape} cannot be compared")
    rows = []
    for first, second in zip(maps, others, strict=True):
        first, second = first.squeeze(), second.squeeze()
        if np.ptp(first) == 0 or np.ptp(second) == 0:
            rows.append((np.nan, np.nan))
            continue
        window = min(SSIM_WINDOW, min(first.shape) - 1 + min(first.shape) % 2)
        if window < 3:
            raise ValueError(f"maps have a side of {min(first.shape)} pixels; SSIM needs at least 3")
        ssim = structural_similarity(first / first.max(), second / second.max(), win_size=window, data_range=1.0)
        rows.append((spearmanr(first.ravel(), second.ravel()).statistic, ssim))
    return pd.DataFrame(rows, columns=["spearman", "ssim"], dtype=float)


def randomization_stages(network: nn.Module) -> list[str]:
    """Names of the parts of a network that hold parameters, from the output down.

    The children in reverse order of registration; one with more than nine tenths of all parameters (the `features` of a
    DenseNet, a backbone in a wrapper) is replaced by its own children. A ResNet gives fc, layer4, ... layer1, bn1, conv1.
    """
    total = sum(parameter.numel() for parameter in network.parameters())

    def parts(module: nn.Module, prefix: str) -> list[str]:
        names = []
        for name, child in module.named_children():
            n_parameters = sum(parameter.numel() for parameter in child.parameters())
            if n_parameters > STAGE_SHARE * total and next(child.children(), None) is not None:
                names += parts(child, f"{prefix}{name}.")
            elif n_parameters:
                names.append(f"{prefix}{name}")
        return names

    return parts(network, "")[::-1]


def weight_randomization_table(
    network: nn.Module, explain: Callable[[nn.Module], np.ndarray], rng: np.random.Generator, draws: int = 5
) -> pd.DataFrame:
    """How alike maps stay as a network's weights are randomized from the output down (cascading).

    Adebayo et al. 2018 (NeurIPS): a map that survives shows the image, not what the network has learned. One row per step:
    step (0: nothing randomized), stage (the one randomized last, of `randomization_stages`), spearman and ssim
    (`map_similarity` to the maps of the intact network, mean over images and draws), spearman_sd and ssim_sd (between draws,
    NaN for one draw) and flat (share of comparisons in which a map is flat: a head of random sign leaves many Grad-CAM maps
    without heat; they are in no mean). Where an image holds a single structure, random filters respond to it too: judge
    similarity against other images of the study.

    explain: network to maps (n, *spatial), such as `explainer` gives. It is given copies; the network itself is not changed.
    Every parameter tensor is drawn anew from a normal distribution with its own mean and standard deviation, so that
    activations keep their scale without a new estimate of the normalization; a tensor of equal values, or of one, stays.
    draws: cascades from other random numbers; a single one may leave similarity anywhere between -1 and 1. Each explains
    once per stage.
    """
    if draws < 1:
        raise ValueError("draws must be at least 1")
    stages = randomization_stages(network)
    intact = np.asarray(explain(copy.deepcopy(network)))
    steps: list[list[pd.DataFrame]] = [[map_similarity(intact, intact)] * draws, *([] for _ in stages)]
    for seed in rng.integers(2**63, size=draws):
        generator = torch.Generator().manual_seed(int(seed))
        randomized = copy.deepcopy(network)
        for stage, similarities in zip(stages, steps[1:], strict=True):
            _randomize(randomized.get_submodule(stage), generator)
            similarities.append(map_similarity(intact, np.asarray(explain(randomized))))
    rows = []
    for step, (stage, similarities) in enumerate(zip(["", *stages], steps, strict=True)):
        by_draw = pd.DataFrame([similarity.mean() for similarity in similarities])
        pooled = pd.concat(similarities)
        row = {"step": step, "stage": stage}
        for measure in ("spearman", "ssim"):
            row |= {measure: pooled[measure].mean(), f"{measure}_sd": by_draw[measure].std()}
        rows.append(row | {"flat": float(pooled["ssim"].isna().mean())})
    return pd.DataFrame(rows)


def _randomize(module: nn.Module, generator: torch.Generator) -> None:
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.numel() > 1:
                drawn = torch.randn(parameter.shape, generator=generator).to(parameter)
                parameter.copy_(drawn * parameter.std(correction=0) + parameter.mean())


def _rank_from_hottest(maps: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(n, pixels) place of every pixel in the order of falling heat, 0 first, equals at random."""
    flat = maps.reshape(len(maps), -1)
    order = np.lexsort((rng.random(flat.shape), -flat), axis=1)
    rank = np.empty_like(order)
    np.put_along_axis(rank, order, np.arange(flat.shape[1])[None], axis=1)
    return rank


def _blurred(images: np.ndarray, sigma: float | Sequence[float]) -> np.ndarray:
    return gaussian_filter(images, sigma, axes=tuple(range(2, images.ndim)))
