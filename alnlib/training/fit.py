"""Fitting one network to crops, clips or volumes: resumable to the byte, a function of specification and data alone.

The networks live in `alnlib.models.cnn2d`, `cnn3d` and `video`, augmentation in `alnlib.training.augment`, folds in
`alnlib.training.oof`.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import nn

from alneval.folds import patient_shares
from alnlib.errors import InputError
from alnlib.files import atomic_path, sha256_file
from alnlib.memo import digest_of_code, key_of, sealed_length, write_sealed
from alnlib.models import cnn2d, cnn3d, video
from alnlib.models.cnn2d import build_cnn2d, evaluating
from alnlib.models.cnn3d import build_cnn3d
from alnlib.models.frozen import FrozenClassifier, FrozenSpec
from alnlib.models.video import build_video_network
from alnlib.models.weights import read_tensors
from alnlib.tasks import ordered
from alnlib.training.augment import AugmentSpec, augment_batch
from alnlib.training.code import fit_code
from alnlib.training.data import (
    CropDataset,
    as_crops,
    crops_to_tensor,
    intensity_statistics,
    sample_frames,
    send,
    standardize,
)

CHECKPOINT_FORMAT = 4
PREDICTION_BATCH = 64
VOLUME_PREDICTION_BATCH = 8

_ARCHITECTURES = {
    "stills": cnn2d.ARCHITECTURES,
    "clips": video.ARCHITECTURES,
    "volumes": cnn3d.ARCHITECTURES,
}
_LEAST = {"image_size": 1, "frames": 0, "depth": 0, "epochs": 1, "batch_size": 2, "threads": 1}


@dataclass(frozen=True)
class FitSpec:
    """Everything that decides a fit, besides its data.

    Values come from the parameters of a notebook, so one out of range raises InputError. A budget that several fits share is
    stated once: `budget = {"epochs": 20, "batch_size": 16}`, then `FitSpec("resnet18", side_px, **budget)`.
    """

    architecture: str  # of `build_cnn2d`; of `build_video_network` for clips, of `build_cnn3d` for volumes
    image_size: int  # side of the square crops, pixels
    frames: int = 0  # of a clip, one from each equal segment: any in training, then the middle one; 0: no clips
    depth: int = 0  # slices of a volume, all seen; 0: no volumes
    epochs: int = 20
    batch_size: int = 16  # crops per step; a last batch of fewer than half as many joins the one before
    learning_rate: float = 1e-3  # the peak; from there along a cosine to zero
    weight_decay: float = 1e-2  # AdamW's, not on biases and norms
    warmup: float = 0.2  # fraction of all steps in which the rate rises linearly to its peak
    average_decay: float = 0.9  # per step, of the moving average of weights, whose last value is the network; 0: none
    balanced: bool = True  # weigh positives by negatives/positives; `predict_logits` puts the prior back
    patients_equal: bool = False  # crops are a patient's images, which together weigh as one; else each, as a node
    dropout: float = 0.2  # before the last layer
    stem: str = "standard"  # or "small", of clips "pooled": reductions at the entrance of the network
    weights: str = "none"  # to start from: "none", a published name or a path
    augment: AugmentSpec = field(default_factory=AugmentSpec)  # random changes of the training crops
    seed: int = 0  # of first weights, order, augmentation and dropout
    device: str = "cpu"  # or "cuda", or "auto"
    threads: int = 1  # of torch on a CPU; sums depend on it, and stages run side by side
    channels_last: bool | None = None  # pixels in memory; None: where faster, DenseNet, EfficientNet and 2-D on a GPU
    autocast: bool | None = None  # train in bfloat16; None: on a GPU that has it. Weights and scores stay float32

    def __post_init__(self) -> None:
        for name, least in _LEAST.items():
            if not getattr(self, name) >= least:
                raise InputError(f"{name} is {getattr(self, name)}; give a whole number of at least {least}.")
        if not 0 < self.learning_rate < math.inf:
            raise InputError(f"learning_rate is {self.learning_rate:g}; give a positive number, such as 0.001.")
        if not 0 <= self.weight_decay < math.inf:
            raise InputError(f"weight_decay is {self.weight_decay:g}; give 0 or a positive number, such as 0.01.")
        for name in ("warmup", "average_decay", "dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise InputError(f"{name} is {getattr(self, name):g}; give a number of at least 0 and below 1.")
        stems = video.stems(self.architecture) if self.architecture in video.ARCHITECTURES else cnn2d.STEMS
        if self.stem not in stems:
            raise InputError(f"stem of {self.architecture} is {self.stem!r}; give {' or '.join(stems)}.")
        self._check_architecture()

    @property
    def kind(self) -> str:
        """What the network takes: "stills", "clips" or "volumes"."""
        return "clips" if self.frames else "volumes" if self.depth else "stills"

    def _check_architecture(self) -> None:
        if self.frames and self.depth:
            raise InputError(
                f"frames = {self.frames} and depth = {self.depth}: give frames for clips or depth for volumes."
            )
        fitting = _ARCHITECTURES[self.kind]
        if self.architecture not in fitting:
            known = self.architecture in {name for names in _ARCHITECTURES.values() for name in names}
            what = "clips need a video network, volumes a 3-D one, stills a 2-D one" if known else "there is none such"
            raise InputError(
                f"architecture {self.architecture!r} for {self.kind} (frames = {self.frames}, depth = {self.depth}): "
                f"{what}; one of {', '.join(fitting)}."
            )
        if self.kind == "volumes":
            depth, side, _ = cnn3d.smallest_sides(self.stem)
            if self.depth < depth or self.image_size < side:
                raise InputError(
                    f"volumes of {self.depth} x {self.image_size} x {self.image_size} voxels are too small for "
                    f"{self.architecture} with stem {self.stem}: at least {depth} x {side} x {side}; give larger ones or, "
                    "if it is not so yet, stem small."
                )


@dataclass(frozen=True, eq=False)
class FittedClassifier:
    """A network after its last epoch.

    spec: as fitted. state: the moving average of its weights, on the CPU. history: epoch (from 1), learning_rate (at its
    end), train_loss. pixel_mean, pixel_sd: of the training crops, as fractions of the type's maximum. log_weight: logarithm
    of the weight of the positives, which `predict_logits` takes off.
    """

    spec: FitSpec
    in_channels: int
    state: dict[str, torch.Tensor]
    history: pd.DataFrame
    pixel_mean: float
    pixel_sd: float
    log_weight: float

    def __repr__(self) -> str:
        last = self.history.iloc[-1]
        return (
            f"FittedClassifier: {self.spec.architecture}, seed {self.spec.seed}, {len(self.history)} epochs, training loss "
            f"{last['train_loss']:.3f}"
        )

    def network(self, device: str | torch.device = "cpu") -> nn.Module:
        """The network with its fitted weights, in evaluation mode, on `device`."""
        network = _build(self.spec, self.in_channels)
        network.load_state_dict(self.state)
        return network.to(device, memory_format=_network_format(self.spec)).eval()


def fit_classifier(
    spec: FitSpec,
    train: CropDataset,
    checkpoint_dir: str | Path | None = None,
    progress: Callable[[dict[str, float]], None] | None = None,
    checkpoint_every: int = 1,
) -> FittedClassifier:
    """Fit a network to `train` for all of its epochs; the moving average of its weights is kept.

    AdamW (Loshchilov & Hutter 2019, ICLR) under a warm-up and a cosine, binary cross-entropy with positives weighed by
    negatives/positives of the training crops. No epoch is chosen: on the few patients that could choose it, the best of many
    is mostly the luckiest. The result depends on `spec` and the data alone: every epoch draws its order, augmentation and
    dropout from (seed, epoch), and the caller's random state, thread count and settings are given back. On the CPU it is
    equal to the last bit from run to run; on a GPU within rounding.

    checkpoint_dir: one file per specification and data set, replaced whole after every `checkpoint_every` epochs; a killed
    fit called again goes on from there to the same bytes, and a finished one, whose file keeps the averaged weights only, is
    read back; a damaged one is made anew. A checkpoint takes 16 bytes per weight (ResNet-18: 180 MB; in 3-D 530 MB).
    progress: called with the row of history after each epoch, once the checkpoint is safe. Raises InputError if a set is too
    small or of one class, for a missing device or unreadable weights; ValueError if sizes or kinds differ.
    """
    _check_set(spec, train)
    device = resolve_device(spec.device)
    checkpoint, key = None, ""
    if checkpoint_dir is not None:
        key = fit_fingerprint(spec, train)
        checkpoint = Path(checkpoint_dir) / f"{spec.architecture}-{key[:16]}.pt"
    with _reproducible(spec.threads, device):
        fit = _Fit(spec, train, device)
        if checkpoint and sealed_length(checkpoint, key) is not None:
            fit.resume(read_tensors(checkpoint, "delete it, and the fit starts again"))
        while not fit.finished:
            row = fit.epoch()
            if checkpoint and (fit.finished or row["epoch"] % checkpoint_every == 0):
                write_sealed(checkpoint, key, partial(torch.save, fit.checkpoint()), code=digest_of_code(fit_code()))
            if progress:
                progress(dict(row))
    return fit.result()


def fit_seeds(
    spec: FitSpec, n_seeds: int, train: CropDataset, checkpoint_dir: str | Path | None = None, checkpoint_every: int = 1
) -> list[FittedClassifier]:
    """The same fit from `n_seeds` seeds, spec.seed and those that follow it; the model is the mean of their logits.

    One network on some hundred patients is a draw: how far its AUC moves over seeds stands beside each interval in 41.
    """
    if n_seeds < 1:
        raise InputError(f"n_seeds is {n_seeds}; give at least 1.")
    specs = [replace(spec, seed=spec.seed + k) for k in range(n_seeds)]
    return ordered(_fit, specs, (train, checkpoint_dir, checkpoint_every))


def _fit(
    spec: FitSpec, train: CropDataset, checkpoint_dir: str | Path | None, checkpoint_every: int
) -> FittedClassifier:
    return fit_classifier(spec, train, checkpoint_dir, checkpoint_every=checkpoint_every)


def history_table(fitted: Mapping[str, Sequence[FittedClassifier]]) -> pd.DataFrame:
    """model, seed, epoch, learning_rate, train_loss of {model: its networks}."""
    columns = ["model", "seed", "epoch", "learning_rate", "train_loss"]
    tables = [each.history.assign(model=name, seed=each.spec.seed) for name, those in fitted.items() for each in those]
    return pd.concat(tables)[columns] if tables else pd.DataFrame(columns=columns)


def predict_logits(fitted: FittedClassifier, images: np.ndarray | CropDataset) -> np.ndarray:
    """Logit of the positive class (n,) float64 for crops as `CropDataset` takes them, of the kind and size fitted on.

    The weight of the positives is taken off, so that the mean probability answers to the training prevalence (King & Zeng
    2001, Polit Anal 9:137, prior correction).
    """
    crops = _crops_as_fitted(fitted, images)
    device = resolve_device(fitted.spec.device)
    with _reproducible(fitted.spec.threads, device):
        pixels = crops_to_tensor(crops).to(device)
        logits = _logits(fitted.network(device), pixels, fitted.pixel_mean, fitted.pixel_sd, fitted.spec)
    return logits.cpu().numpy().astype(np.float64) - fitted.log_weight


def save_fitted(fitted: FittedClassifier | FrozenClassifier, path: str | Path) -> Path:
    """Write a fitted network to one file, whole or not at all; `read_fitted` reads it back. Same network, same bytes.

    Of a frozen network the head alone is written: its weights come with the environment.
    """
    content = io.BytesIO()  # torch names the archive in a file after the file, which is temporary
    torch.save(as_plain(fitted), content)
    with atomic_path(path) as temporary:
        temporary.write_bytes(content.getvalue())
    return Path(path)


def read_fitted(path: str | Path) -> FittedClassifier | FrozenClassifier:
    """Read a network written by `save_fitted`. Raises InputError if the file is missing or something else."""
    content = read_tensors(path, "train the network again")
    try:
        return from_plain(content)
    except (KeyError, TypeError) as error:
        raise InputError(f"{path} holds no fitted network ({error!r}); train it again.") from error


def fit_fingerprint(spec: FitSpec, train: CropDataset) -> str:
    """Hexadecimal SHA-256 of everything a fit depends on.

    Specification, crops and labels, given weights, torch's version, and the code that this module imports: a
    checkpoint of older code is never taken for a fit of today's. Device "auto" and autocast None count as what they come to
    on this machine, so that a fit begun on a GPU is not gone on with on a CPU, and "auto" on a CPU is the same as "cpu".
    Raises InputError for a missing device.
    """
    device = resolve_device(spec.device)
    resolved = {"device": device.type, "autocast": _autocasts(spec, device)}
    weights = sha256_file(spec.weights) if Path(spec.weights).is_file() else spec.weights
    return key_of(
        format=CHECKPOINT_FORMAT,
        torch=torch.__version__,
        code=fit_code(),
        spec=asdict(spec) | {"weights": weights} | resolved,
        train=train.fingerprint(),
    )


def resolve_device(device: str) -> torch.device:
    """The torch device of "cpu", "cuda" or "auto" (a GPU if there is one). Raises InputError if it is not there."""
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device.split(":")[0] not in ("cpu", "cuda"):
        raise InputError(f"unknown device {device!r}; give cpu, cuda or auto.")
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise InputError("device cuda was asked for, but torch finds no GPU here; give cpu or auto.")
    return torch.device(device)


def learning_rate_at(step: int, n_steps: int, peak: float, warmup: float) -> float:
    """Learning rate of step 0 .. n_steps - 1: linear to `peak` over warmup * n_steps, then half a cosine towards zero."""
    n_warm = max(1, round(warmup * n_steps))
    if step < n_warm:
        return peak * (step + 1) / n_warm
    return peak * 0.5 * (1 + math.cos(math.pi * (step - n_warm) / max(1, n_steps - n_warm)))


class _Fit:
    """A fit under way: the network, the moving average of its weights, the optimizer and the history."""

    def __init__(self, spec: FitSpec, train: CropDataset, device: torch.device) -> None:
        self.spec, self.device = spec, device
        self.in_channels = train.crops.shape[1]
        self.mean, self.sd = intensity_statistics(train.crops)
        self.pixels, self.y = train.tensors(device)
        shares = patient_shares(train.patient_ids) if spec.patients_equal else None
        positive, total = (
            (int(train.y.sum()), len(train)) if shares is None else (float(shares @ train.y), float(shares.sum()))
        )
        self.weight = (total - positive) / positive if spec.balanced else 1.0
        self.shares = None if shares is None else torch.tensor(shares / shares.mean(), dtype=torch.float32).to(device)
        self.pos_weight = torch.tensor(self.weight, device=device)
        network = _build(spec, self.in_channels, weights=spec.weights, seed=spec.seed)
        self.network = network.to(device, memory_format=_network_format(spec))
        self.averaged = _build(spec, self.in_channels).to(device, memory_format=_network_format(spec)).eval()
        self.averaged.load_state_dict(self.network.state_dict())
        self.optimizer = _optimizer(self.network, spec)
        self.history: list[dict[str, float]] = []

    @property
    def finished(self) -> bool:
        return len(self.history) == self.spec.epochs

    def epoch(self) -> dict[str, float]:
        """Train for one more epoch; the new row of the history."""
        number = len(self.history) + 1
        rate, loss = self._train(number)
        if not math.isfinite(loss):
            raise InputError(
                f"{self.spec.architecture}: the training loss stopped being a number in epoch {number}; lower the learning "
                f"rate ({self.spec.learning_rate:g})."
            )
        self.history.append({"epoch": number, "learning_rate": rate, "train_loss": loss})
        return self.history[-1]

    def _train(self, epoch: int) -> tuple[float, float]:
        """One pass over the training crops in a random order: the last learning rate and the mean loss."""
        spec, n = self.spec, len(self.y)
        generator = _seed_epoch(spec.seed, epoch)
        self.network.train()
        batches = _batches(torch.randperm(n, generator=generator), spec.batch_size)
        summed_loss = torch.zeros((), device=self.device)
        for step, batch in enumerate(batches, start=(epoch - 1) * len(batches)):
            rate = learning_rate_at(step, spec.epochs * len(batches), spec.learning_rate, spec.warmup)
            for group in self.optimizer.param_groups:
                group["lr"] = rate
            loss = self._loss(send(batch, self.device), generator)
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            self.optimizer.step()
            _update_average(self.averaged, self.network, min(spec.average_decay, (1 + step) / (10 + step)))
            summed_loss += loss.detach() * len(batch)  # read once per epoch: no wait for the device at every step
        return rate, summed_loss.item() / n

    def _loss(self, batch: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Loss of the crops at these positions, changed at random."""
        spec = self.spec
        chosen = self.pixels[batch]
        if spec.frames:
            chosen = sample_frames(chosen, spec.frames, generator)
        images = standardize(chosen, self.mean, self.sd)
        images = augment_batch(images, spec.augment, generator, volumes=spec.kind == "volumes")
        images = images.contiguous(memory_format=_input_format(spec))
        with torch.autocast(self.device.type, torch.bfloat16, enabled=_autocasts(spec, self.device)):
            logits = self.network(images).squeeze(1)
        weight = None if self.shares is None else self.shares[batch]
        return F.binary_cross_entropy_with_logits(logits.float(), self.y[batch], weight, pos_weight=self.pos_weight)

    def checkpoint(self) -> dict:
        """All that `resume` needs; of a finished fit the history and the averaged weights alone."""
        parts = {"averaged": self.averaged} if self.finished else self._parts
        return {"history": self.history} | {name: part.state_dict() for name, part in parts.items()}

    def resume(self, content: dict) -> None:
        """Go on from what `checkpoint` gave."""
        self.history = content["history"]
        for name in {"averaged"} if self.finished else self._parts:
            self._parts[name].load_state_dict(content[name])

    @property
    def _parts(self) -> dict[str, nn.Module | torch.optim.Optimizer]:
        return {"network": self.network, "averaged": self.averaged, "optimizer": self.optimizer}

    def result(self) -> FittedClassifier:
        history = pd.DataFrame(self.history).astype({"epoch": np.int64})
        state = {name: value.detach().cpu().clone() for name, value in self.averaged.state_dict().items()}
        return FittedClassifier(self.spec, self.in_channels, state, history, self.mean, self.sd, math.log(self.weight))


def _check_set(spec: FitSpec, train: CropDataset) -> None:
    shape = _expected_shape(spec, train.crops, train.crops.shape[1])
    if train.kind != spec.kind:
        raise ValueError(f"the training set holds {train.kind}, the specification says {spec.kind} (frames, depth)")
    if train.crops.shape[1:] != shape:
        raise ValueError(f"training crops are {train.crops.shape[1:]}, the specification says {shape}")
    n_positive = int(train.y.sum())
    n_negative = len(train) - n_positive
    if not n_positive or not n_negative:
        raise InputError(
            f"the training set cannot be used: {len(train)} {'crop' if len(train) == 1 else 'crops'}, {n_positive} positive "
            f"and {n_negative} negative, and both classes are needed; give more patients or another split, or choose an "
            "endpoint that is less rare."
        )


def _crops_as_fitted(fitted: FittedClassifier, images: np.ndarray | CropDataset) -> np.ndarray:
    """Crops of the kind and size fitted on; a bare array of five axes is taken for what the network was fitted to."""
    if isinstance(images, CropDataset) and images.kind != fitted.spec.kind:
        raise ValueError(f"the network was fitted to {fitted.spec.kind}, not to {images.kind}")
    crops = images.crops if isinstance(images, CropDataset) else as_crops(images)
    expected = _expected_shape(fitted.spec, crops, fitted.in_channels)
    if crops.shape[1:] != expected:
        raise ValueError(f"crops must be {expected}, as in the fit, not {crops.shape[1:]}")
    return crops


def _build(spec: FitSpec, in_channels: int, weights: str = "none", seed: int = 0) -> nn.Module:
    if spec.frames:
        return build_video_network(
            spec.architecture,
            in_channels,
            n_segments=spec.frames,
            weights=weights,
            dropout=spec.dropout,
            seed=seed,
            stem=spec.stem,
        )
    build = build_cnn3d if spec.kind == "volumes" else build_cnn2d
    return build(spec.architecture, in_channels, weights=weights, dropout=spec.dropout, stem=spec.stem, seed=seed)


def _expected_shape(spec: FitSpec, crops: np.ndarray, in_channels: int) -> tuple[int, ...]:
    """Shape of one crop; clips may have any number of frames, all of a set the same, volumes have `spec.depth` slices."""
    if spec.kind == "volumes":
        return (in_channels, spec.depth, spec.image_size, spec.image_size)
    frames = (crops.shape[2],) if spec.frames and crops.ndim == 5 else ("frames",) if spec.frames else ()
    return (in_channels, *frames, spec.image_size, spec.image_size)


def _network_format(spec: FitSpec) -> torch.memory_format:
    """The weights of TIN are two-dimensional, those of the other video networks are not."""
    wanted = spec.channels_last
    if wanted is None:
        on_gpu = resolve_device(spec.device).type == "cuda"
        wanted = spec.architecture.startswith(("densenet", "efficientnet")) or (on_gpu and not _volumetric(spec))
    if not wanted:
        return torch.contiguous_format
    return torch.channels_last_3d if _volumetric(spec) else torch.channels_last


def _input_format(spec: FitSpec) -> torch.memory_format:
    if spec.frames and not _volumetric(spec):
        return torch.contiguous_format
    return _network_format(spec)


def _volumetric(spec: FitSpec) -> bool:
    """Whether the convolutions are three-dimensional."""
    return spec.kind == "volumes" or (spec.kind == "clips" and not spec.architecture.startswith("tin_"))


def _autocasts(spec: FitSpec, device: torch.device) -> bool:
    if spec.autocast is not None:
        return spec.autocast
    # GPUs before Ampere emulate bfloat16, at a loss.
    return device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)


def _prediction_batch(spec: FitSpec) -> int:
    return VOLUME_PREDICTION_BATCH if spec.kind == "volumes" else PREDICTION_BATCH


def _network_input(pixels: torch.Tensor, mean: float, sd: float, spec: FitSpec) -> torch.Tensor:
    """Standardized crops, unchanged; of clips the middle frame of each segment."""
    chosen = sample_frames(pixels, spec.frames) if spec.frames else pixels
    return standardize(chosen, mean, sd).contiguous(memory_format=_input_format(spec))


def _optimizer(network: nn.Module, spec: FitSpec) -> torch.optim.Optimizer:
    decayed = [parameter for parameter in network.parameters() if parameter.ndim > 1]
    plain = [parameter for parameter in network.parameters() if parameter.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": spec.weight_decay}, {"params": plain, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=spec.learning_rate, fused=True)


def _batches(order: torch.Tensor, batch_size: int) -> list[torch.Tensor]:
    """Consecutive pieces of `order`; a short last piece joins its neighbor, because batch norm cannot use one crop."""
    pieces = list(order.split(batch_size))
    if len(pieces) > 1 and len(pieces[-1]) < max(2, batch_size / 2):
        last = pieces.pop()
        pieces[-1] = torch.cat([pieces[-1], last])
    return pieces


def _seed_epoch(seed: int, epoch: int) -> torch.Generator:
    """Seed torch's own generators (dropout, stochastic depth) for this epoch; a new generator for order and augmentation."""
    own, shared = np.random.SeedSequence([seed, epoch]).generate_state(2)
    torch.manual_seed(int(shared))
    return torch.Generator().manual_seed(int(own))


@torch.no_grad()
def _update_average(averaged: nn.Module, network: nn.Module, decay: float) -> None:
    torch._foreach_lerp_(list(averaged.parameters()), list(network.parameters()), 1 - decay)
    for kept, current in zip(averaged.buffers(), network.buffers(), strict=True):
        if kept.is_floating_point():
            kept.lerp_(current, 1 - decay)
        else:
            kept.copy_(current)


def _logits(network: nn.Module, pixels: torch.Tensor, mean: float, sd: float, spec: FitSpec) -> torch.Tensor:
    with evaluating(network), torch.no_grad():
        batches = pixels.split(_prediction_batch(spec))
        return torch.cat([network(_network_input(batch, mean, sd, spec)).squeeze(1) for batch in batches])


@contextmanager
def _reproducible(threads: int, device: torch.device) -> Iterator[None]:
    """Fixed threads and deterministic kernels inside; the caller's random state and settings back afterwards."""
    threads_before = torch.get_num_threads()
    deterministic_before = torch.are_deterministic_algorithms_enabled()
    filled_before = torch.utils.deterministic.fill_uninitialized_memory
    warn_only_before = torch.is_deterministic_algorithms_warn_only_enabled()
    cudnn_before = torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark
    cuda = [torch.cuda.current_device()] if device.type == "cuda" else []
    try:
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(device.type == "cpu")
        # Filling fresh memory with NaN finds bugs of kernels, costs time, and changes no result of one that has none.
        torch.utils.deterministic.fill_uninitialized_memory = False
        torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = True, False
        with torch.random.fork_rng(devices=cuda):
            yield
    finally:
        torch.set_num_threads(threads_before)
        torch.use_deterministic_algorithms(deterministic_before, warn_only=warn_only_before)
        torch.utils.deterministic.fill_uninitialized_memory = filled_before
        torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = cudnn_before


def as_plain(fitted: FittedClassifier | FrozenClassifier) -> dict:
    """A fitted network as tensors and plain Python values, which torch reads without running code."""
    plain = {"spec": asdict(fitted.spec)}
    if isinstance(fitted, FittedClassifier):
        plain["history"] = fitted.history.to_dict("list")
    return {"format": CHECKPOINT_FORMAT} | {name: plain.get(name, value) for name, value in vars(fitted).items()}


def from_plain(content: dict) -> FittedClassifier | FrozenClassifier:
    """The network of `as_plain`. Raises KeyError or TypeError for something else."""
    given = {name: value for name, value in content.items() if name != "format"}
    if "history" not in content:
        return FrozenClassifier(**given | {"spec": FrozenSpec(**content["spec"])})
    spec = content["spec"] | {"augment": AugmentSpec(**content["spec"]["augment"])}
    return FittedClassifier(**given | {"spec": FitSpec(**spec), "history": pd.DataFrame(content["history"])})
