"""Frozen features: what a pretrained 2-D network sees in a crop, pooled at several depths, and a linear head on them.

No weight of the network is fitted, so there is no epoch to choose and hardly any noise of a fit; the head is a penalized
logistic regression whose strength is chosen inside the patients that it is fitted on. Networks are in `cnn2d` and `lite`.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.linear_model import LogisticRegression
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from alneval.folds import patient_level_folds, patient_shares, possible_folds
from alnlib.errors import InputError
from alnlib.memo import code_of, keep_within, key_of, sealed_length, versions, write_sealed
from alnlib.models.cnn2d import build_cnn2d

BATCH = 16
"""Crops that pass the network at once; part of the arithmetic, so that the number of threads is not."""

STRENGTHS = tuple(10.0 ** (k / 2) for k in range(-10, 1))
"""Of the head: C, the inverse of the penalty, in half decades from 1e-5 to 1."""

_INPUT = {"packaged": (127 / 255, 128 / 255)}
_IMAGENET = (0.449, 0.226)
"""Mean and standard deviation of the gray values that a network was trained on: the packaged one, torchvision's."""


@dataclass(frozen=True)
class FrozenSpec:
    """Which network sees the crops and where it is tapped. Raises InputError for a depth that the network has not."""

    architecture: str = "efficientnet_lite0"  # of `build_cnn2d`
    weights: str = "packaged"  # as `build_cnn2d`
    depths: tuple[int, ...] = (3, 5, 9, 11, 15)  # places in `FrozenNetwork.features`; 0 is the stem
    pooled: tuple[float, ...] = (
        1.0,
    )  # over which share of a map's sides, round its middle; several: one after another

    def __post_init__(self) -> None:
        object.__setattr__(self, "depths", tuple(sorted(set(self.depths))))
        object.__setattr__(self, "pooled", tuple(self.pooled))
        if not self.pooled or not all(0 < share <= 1 for share in self.pooled):
            raise InputError(
                f"pooled is {list(self.pooled)}; give at least one share of a map's side, above 0, at most 1."
            )
        if not self.depths or self.depths[0] < 0:
            raise InputError(f"depths are {list(self.depths)}; give at least one, counted from 0, the stem.")


class FrozenNetwork(nn.Module):
    """A network cut into stages, `features`; forward gives mean and spread over space at every depth, or the head's logit.

    images: (n, 1 or 3, rows, columns), or clips (n, 1 or 3, frames, rows, columns), standardized by pixel_mean and pixel_sd.
    Output: (n, n_features), for each depth and share of the map the means of its channels, then their standard deviations,
    and of clips the mean over time of all these, then their spread (`over_time`); with a head, `classifier`, logits (n, 1).
    """

    def __init__(self, spec: FrozenSpec, in_channels: int = 1) -> None:
        super().__init__()
        network = build_cnn2d(spec.architecture, in_channels, weights=spec.weights).eval()
        stages = _stages(network)
        if spec.depths[-1] >= len(stages):
            raise InputError(
                f"depths are {list(spec.depths)}, and {spec.architecture} has stages 0 to {len(stages) - 1}; give others."
            )
        self.depths, self.pooled = spec.depths, spec.pooled
        self.features = nn.Sequential(*stages[: spec.depths[-1] + 1])
        self.classifier = nn.Identity()
        _fold_batch_norms(self.features)
        self.requires_grad_(False)
        self.to(memory_format=torch.channels_last)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        frames = images.transpose(1, 2).flatten(0, 1) if images.ndim == 5 else images
        pooled = []
        for mean, square in self.moments(frames):
            pooled += [mean, (square - mean**2).clamp(min=1e-12).sqrt()]
        features = torch.cat(pooled, dim=1)
        if images.ndim == 5:
            in_time = features.unflatten(0, (len(images), -1))
            spread = in_time.var(dim=1, unbiased=False).clamp(min=1e-12).sqrt()
            features = torch.cat([in_time.mean(dim=1), spread], dim=1)
        return self.classifier(features)

    def moments(self, images: torch.Tensor) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """At every depth and share of the map, means over space of the channels and of their squares, each (n, channels)."""
        found = []
        for place, stage in enumerate(self.features):
            images = stage(images)
            for share in self.pooled if place in self.depths else ():
                part = _middle(images, share)
                found.append((part.mean(dim=(2, 3)), part.square().mean(dim=(2, 3))))
        return found


def frozen_features(
    crops: np.ndarray, spec: FrozenSpec, folder: str | Path | None = None, device: str | torch.device = "cpu"
) -> np.ndarray:
    """Features (n, n_features) float32 of crops (n, rows, columns) or (n, 1 or 3, rows, columns) uint8.

    Each crop passes the network once; kept in `folder`, by the content of the crops, so that stages that read the same images
    share them. On the CPU batches are shared out over the cores and the result does not depend on their number. Three
    channels may be neighboring slices or frames. Raises ValueError for other shapes or types, InputError if the weights
    cannot be had.
    """
    crops = crops[:, None] if crops.ndim == 3 else crops
    if crops.ndim != 4 or crops.dtype != np.uint8 or crops.shape[1] not in (1, 3) or not len(crops):
        raise ValueError(f"crops must be (n, [1 or 3,] rows, columns) uint8, not {crops.shape} {crops.dtype}")
    crops = np.ascontiguousarray(crops)
    if folder is None:
        return _passed(crops, spec, torch.device(device))
    key = key_of(
        crops=hashlib.sha256(crops).hexdigest(),
        shape=crops.shape,
        device=torch.device(device).type,
        spec=asdict(spec),
        code=code_of("alnlib.models.frozen", without=("alneval/",)),
        libraries=versions("torch", "torchvision", "numpy"),
    )
    path = Path(folder) / f"frozen-{key[:16]}.npy"
    if sealed_length(path, key) is None:
        made = _passed(crops, spec, torch.device(device))
        write_sealed(path, key, lambda temporary: np.save(temporary, made, allow_pickle=False))
        keep_within(Path(folder), "frozen-*.npy", 4.0, spare=path)
        return made
    return np.load(path, allow_pickle=False)


def over_time(features: np.ndarray) -> np.ndarray:
    """(n, 2 F): mean over the frames of a clip, then standard deviation, of features (n, frames, F)."""
    return np.concatenate([features.mean(axis=1), features.std(axis=1)], axis=1)


def frozen_table(
    views: Mapping[str, np.ndarray], patient_ids: Sequence[str], spec: FrozenSpec, folder: str | Path | None = None
) -> pd.DataFrame:
    """Features of patients by name: a row per patient, columns `<view>__deep_<depth>_<mean or sd>_<channel>`; of the middle
    30 % of a map's sides `<view>__deep_<depth>_middle30_...`.

    views: {name, such as MRI_pre_T2: crops as `frozen_features` takes them, one per patient}.
    """
    columns = {}
    for view, crops in views.items():
        features = frozen_features(crops, spec, folder)
        columns[view] = pd.DataFrame(features, index=patient_ids, columns=feature_names(spec, view))
    return pd.concat(columns.values(), axis="columns")


def feature_names(spec: FrozenSpec, view: str) -> list[str]:
    """Of the columns of `frozen_features`, in their order."""
    stages = _stages(build_cnn2d(spec.architecture))
    with torch.inference_mode():
        images, counts = torch.zeros(1, 1, 64, 64), []
        for stage in stages[: spec.depths[-1] + 1]:
            images = stage.eval()(images)
            counts.append(images.shape[1])
    return [
        f"{view}__deep_{depth:02d}{'' if share == 1 else f'_middle{100 * share:.0f}'}_{what}_{channel:04d}"
        for depth in spec.depths
        for share in spec.pooled
        for what in ("mean", "sd")
        for channel in range(counts[depth])
    ]


@dataclass(frozen=True, eq=False)
class FrozenClassifier:
    """A frozen network with a fitted head: what an explanation looks into.

    weight: (1, n_features), bias: (1,), for features as the network gives them. in_channels: 1 or 3.
    """

    spec: FrozenSpec
    in_channels: int
    weight: torch.Tensor
    bias: torch.Tensor

    @classmethod
    def of(cls, spec: FrozenSpec, in_channels: int, heads: Sequence[LinearHead]) -> FrozenClassifier:
        """The mean of the heads' logits, each a linear function of the features, is one too."""
        weights = [head.coef_ / head.scale_ for head in heads]
        biases = [head.intercept_ - each @ head.mean_ for head, each in zip(heads, weights, strict=True)]
        weight = torch.tensor(np.mean(weights, axis=0), dtype=torch.float32)[None]
        return cls(spec, in_channels, weight, torch.tensor([np.mean(biases)], dtype=torch.float32))

    @property
    def pixel_mean(self) -> float:
        """Of the gray values that the network was trained on, as a fraction of the largest."""
        return _INPUT.get(self.spec.weights, _IMAGENET)[0]

    @property
    def pixel_sd(self) -> float:
        """As `pixel_mean`."""
        return _INPUT.get(self.spec.weights, _IMAGENET)[1]

    def network(self, device: str | torch.device = "cpu") -> nn.Module:
        """The network and its head, logits (n, 1), in evaluation mode, on `device`."""
        network = FrozenNetwork(self.spec, self.in_channels)
        network.classifier = nn.Linear(self.weight.shape[1], 1)
        network.classifier.load_state_dict({"weight": self.weight, "bias": self.bias})
        return network.to(device).eval()


def _passed(crops: np.ndarray, spec: FrozenSpec, device: torch.device) -> np.ndarray:
    network = FrozenNetwork(spec, crops.shape[1]).to(device)
    mean, sd = _INPUT.get(spec.weights, _IMAGENET)

    def one(start: int) -> np.ndarray:
        pixels = torch.tensor(crops[start : start + BATCH], device=device).float()
        pixels = ((pixels - 255 * mean) / (255 * sd)).contiguous(memory_format=torch.channels_last)
        with torch.inference_mode():
            found = [(first.cpu().numpy(), second.cpu().numpy()) for first, second in network.moments(pixels)]
        # numpy's square root is rounded correctly on every processor, torch's is not
        pooled = [(first, np.sqrt(np.maximum(second - first**2, 0))) for first, second in found]
        return np.concatenate([part for pair in pooled for part in pair], axis=1)

    starts = range(0, len(crops), BATCH)
    with _one_thread_per_batch(), ThreadPoolExecutor(os.cpu_count() if device.type == "cpu" else 1) as pool:
        return np.concatenate(list(pool.map(one, starts)))


@contextmanager
def _one_thread_per_batch():
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        yield
    finally:
        torch.set_num_threads(before)


class LinearHead(ClassifierMixin, BaseEstimator):
    """z-score and L2-penalized logistic regression; the strength has the smallest out-of-fold log loss of the patients given.

    A single strength is taken as it is. The rows of one patient (the index of X, else each row) stay in one fold; scaling is
    learned inside the fold. As the penalty does not change under rotation, the regression is solved in the space that the
    rows span. patients_equal: rows are images, and those of a patient together weigh as much as the one of another, in scaling,
    regression and choice; False: every row counts, as a node does.
    """

    def __init__(
        self, n_folds: int = 5, seed: int = 0, strengths: Sequence[float] = STRENGTHS, patients_equal: bool = False
    ) -> None:
        self.n_folds = n_folds
        self.seed = seed
        self.strengths = strengths
        self.patients_equal = patients_equal

    def fit(self, X: pd.DataFrame | np.ndarray, y: np.ndarray) -> LinearHead:
        """X: (n, features), finite; y: (n,) 0/1. Raises ValueError for one class, InputError for too few patients."""
        values, labels = np.asarray(X, dtype=np.float64), np.asarray(y).astype(int)
        patients = np.asarray(X.index if isinstance(X, pd.DataFrame) else np.arange(len(values))).astype(str)
        shares = patient_shares(patients) if self.patients_equal else None
        given = len(self.strengths) == 1
        self.strength_ = self.strengths[0] if given else self._chosen(values, labels, patients, shares)
        self.mean_, self.scale_, solved = _solve(values, labels, [self.strength_], shares)
        self.coef_, self.intercept_ = solved[0]
        self.classes_ = np.array([0, 1])
        return self

    def _chosen(self, values: np.ndarray, labels: np.ndarray, patients: np.ndarray, shares: np.ndarray | None) -> float:
        n_folds = possible_folds(labels, patients, self.n_folds)
        fold = patient_level_folds(labels, patients, n_folds, np.random.default_rng(self.seed))
        held = np.empty((len(labels), len(self.strengths)))
        for k in np.unique(fold):
            known = None if shares is None else shares[fold != k]
            mean, scale, solved = _solve(values[fold != k], labels[fold != k], self.strengths, known)
            for place, (weights, intercept) in enumerate(solved):
                held[fold == k, place] = (values[fold == k] - mean) / scale @ weights + intercept
        log_loss = np.logaddexp(0, held) - labels[:, None] * held
        log_loss = log_loss.mean(axis=0) if shares is None else np.average(log_loss, axis=0, weights=shares)
        return self.strengths[int(np.argmin(log_loss))]

    def decision_function(self, X: pd.DataFrame | np.ndarray) -> np.ndarray:
        """Logit (n,) of class 1."""
        return (np.asarray(X, dtype=np.float64) - self.mean_) / self.scale_ @ self.coef_ + self.intercept_

    def predict_proba(self, X: pd.DataFrame | np.ndarray) -> np.ndarray:
        """Probabilities (n, 2) of classes 0 and 1."""
        positive = 1 / (1 + np.exp(-self.decision_function(X)))
        return np.column_stack([1 - positive, positive])


def _solve(
    X: np.ndarray, y: np.ndarray, strengths: Sequence[float], shares: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray, list[tuple[np.ndarray, float]]]:
    """Mean and scale of the columns, and for each strength the weights of z-scored columns and the intercept.

    shares: (n,) weights of the rows; None: all count the same."""
    if shares is None:
        mean, scale = X.mean(axis=0), X.std(axis=0)
    else:
        mean = np.average(X, axis=0, weights=shares)
        scale = np.sqrt(np.average((X - mean) ** 2, axis=0, weights=shares))
    scale = np.where(scale > 1e-6 * np.maximum(1, np.abs(mean)), scale, np.inf)  # a constant column has no say
    z = (X - mean) / scale
    squared, left = np.linalg.eigh(z @ z.T)
    singular = np.sqrt(np.maximum(squared, 1e-12 * max(squared[-1], 1)))  # a direction that no row has gets no weight
    solved, model = [], LogisticRegression(solver="newton-cholesky", tol=1e-8, max_iter=100, warm_start=True)
    for strength in strengths:
        model.set_params(C=strength).fit(left * singular, y, sample_weight=shares)
        weights = z.T @ (left @ (model.coef_[0] / singular))
        solved.append((weights, float(model.intercept_[0])))
    return mean, scale, solved


def _middle(maps: torch.Tensor, share: float) -> torch.Tensor:
    """This share of both sides round the middle, (n, channels, rows, columns); as even or odd as the side, so that it can be."""
    for axis in (2, 3):
        side = maps.shape[axis]
        kept = max(1, round(side * share))
        kept += (side - kept) % 2
        maps = maps.narrow(axis, (side - kept) // 2, kept)
    return maps


def _stages(network: nn.Module) -> list[nn.Module]:
    if hasattr(network, "layer1"):
        stem = nn.Sequential(network.conv1, network.bn1, network.relu, network.maxpool)
        return [stem, network.layer1, network.layer2, network.layer3, network.layer4]
    return list(network.features)


def _fold_batch_norms(network: nn.Module) -> None:
    """Each batch norm that follows a convolution becomes part of it: the same function in evaluation mode, in less time."""
    for module in network.modules():
        if isinstance(module, nn.Sequential):
            for place in range(len(module) - 1):
                first, second = module[place], module[place + 1]
                if isinstance(first, nn.Conv2d) and isinstance(second, nn.BatchNorm2d):
                    fused = fuse_conv_bn_eval(first, second)
                    module[place], module[place + 1] = fused, nn.Identity()
