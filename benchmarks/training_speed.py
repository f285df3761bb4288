"""Time of a training epoch of `alnlib.training.fit` against plain PyTorch + MONAI: `python benchmarks/training_speed.py`.

Arguments: cases (`CASES`), or one network of a case as ultrasound/resnet18; all if none is given. `--data` names the cohort,
`--rounds` the epochs measured, `--crops` how many are trained on, `--device` cpu or cuda. Needs the simulated demo cohort,
which `python run_all.py` makes, and writes training_speed.csv beside itself.

Engine: crops from `alnlib.imaging.cache`, held by the device, changed there in batches, weights averaged, one thread.
Plain: a MONAI `Dataset` that reads and crops the file of every sample in every epoch with the same functions, changes it
by MONAI's random transforms of the same kinds and amounts, one `DataLoader`, default memory format, `loss.item()` at each
step, two threads. Cached: the same over `CacheDataset`, which keeps the decoded crop. Both with 0 and with 2 worker processes. An
epoch is `--crops` crops forwards and backwards and a quarter as many forwards, with the same network, batch size, loss and
AdamW. Further rows take the engine apart, and time the network alone (no reading, no changes, default memory format).

"At once" is two fits side by side on the two cores, the way the pipeline runs its stages; its seconds are those of the round
over two, for each has made an epoch. The same is done with the plain loop, at one thread each, so that it is seen what comes
of running side by side and what of the engine. ratio_to_engine is to one fit alone, ratio_to_two_at_once to the pair.

Every loop has a process of its own, and all wait while one runs an epoch. Their epochs take turns, so that other work on
the machine meets all alike: seconds depend on the machine, the median ratio of an epoch to the engine's of the same round
hardly. The first round is not counted. Idle threads sleep (OMP_WAIT_POLICY=PASSIVE), in every loop, because threads that
spin for each other stall on cores that others use too.
"""

from __future__ import annotations

import argparse
import math
import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path

import monai
import numpy as np
import pandas as pd
import torch
from monai.data import CacheDataset, DataLoader, Dataset
from monai.transforms import (
    Compose,
    RandAffined,
    RandFlipd,
    RandGaussianNoised,
    Randomizable,
    RandScaleIntensityd,
    RandShiftIntensityd,
    Transform,
)
from torch import nn

from alnlib.imaging.cache import cached_crops
from alnlib.imaging.lesions import one_per_patient
from alnlib.imaging.spec import CropSpec
from alnlib.models.cnn2d import build_cnn2d
from alnlib.models.video import build_video_network
from alnlib.paths import resolve_data
from alnlib.training.augment import NO_AUGMENTATION
from alnlib.training.data import CropDataset, intensity_statistics
from alnlib.training.fit import FitSpec, fit_classifier

THREADS = 2
"""Of the plain loops that run alone; the engine, and loops that run side by side, have one."""
SIDE_PX = 64
FRAMES = 8
SEED = 2026

CASES = {
    "ultrasound": ("resnet18", "densenet121", "efficientnet_b0"),
    "mri": ("resnet18", "densenet121", "efficientnet_b0"),
    "sweeps": ("tin_resnet18",),
}
"""Stills of 64 pixels; three MRI slices (NIfTI) of 64 pixels; ultrasound sweeps (DICOM), 8 of 24 frames of 64 pixels."""

LOOPS = ("engine", "plain, 0 workers", "plain, 2 workers", "cached, 0 workers", "cached, 2 workers", "network alone")
PAIRS = {"engine, two at once": "engine", "plain, two at once": "plain, 0 workers"}
PARTS = ("engine, two threads", "engine, other memory format", "engine, no augmentation", "engine, bfloat16")
"""Of the engine, measured for the first network of the first case alone."""


@dataclass(frozen=True)
class Job:
    """One network on one kind of crops: everything that a process needs to run its epochs."""

    case: str
    network: str
    root: Path
    store: Path
    epochs: int
    device: str
    train: int

    @property
    def validation(self) -> int:
        return self.train // 4

    @property
    def frames(self) -> int:
        return FRAMES if self.case == "sweeps" else 0

    def rows(self) -> pd.DataFrame:
        """train + validation rows of the images table with a column y, classes mixed, one row per patient."""
        images = pd.read_csv(self.root / "images.csv", dtype={"patient_id": str, "box": str})
        labels = pd.read_csv(self.root / "patients.csv", dtype={"patient_id": str}).set_index("patient_id")[
            "aln_metastasis"
        ]
        rows = one_per_patient(images, self.crop_spec)
        rows = rows.assign(y=rows["patient_id"].map(labels)).dropna(subset="y")
        return rows.sample(frac=1, random_state=SEED).head(self.train + self.validation).reset_index(drop=True)

    def crops(self, rows: pd.DataFrame) -> np.ndarray:
        """(n, channels, height, width), for sweeps (n, 1, all frames, height, width); uint8, memory-mapped."""
        crops = cached_crops(rows, self.root, self.store, self.crop_spec)
        return crops if self.case == "mri" else crops[:, None]

    @property
    def crop_spec(self) -> CropSpec:
        modality = {"ultrasound": "US", "mri": "MRI", "sweeps": "USV"}[self.case]
        kind = "fixed_size" if modality == "US" else "adjustable_square"
        return CropSpec(modality, SIDE_PX, kind, 38.0, channels=["pre/DCE_early"] if modality == "MRI" else [])

    def spec(self) -> FitSpec:
        return FitSpec(
            self.network,
            SIDE_PX,
            frames=self.frames,
            epochs=self.epochs + 1,
            seed=SEED,
            device=self.device,
        )

    def build(self, in_channels: int) -> nn.Module:
        spec = self.spec()
        if self.frames:
            return build_video_network(self.network, in_channels, n_segments=FRAMES, dropout=spec.dropout, seed=SEED)
        return build_cnn2d(self.network, in_channels, dropout=spec.dropout, seed=SEED)


class ReadCrop(Transform):
    """Read the file of one row and crop it, as (channels, height, width) float32, standardized; frames are channels."""

    def __init__(self, job: Job, mean: float, sd: float) -> None:
        self.job, self.mean, self.sd = job, mean, sd

    def __call__(self, sample: dict) -> dict:
        crop = self.job.make(sample["image"], self.job.root, side_px=SIDE_PX)
        crop = crop.reshape(-1, SIDE_PX, SIDE_PX).astype(np.float32) / 255
        return {**sample, "image": torch.from_numpy((crop - np.float32(self.mean)) / np.float32(self.sd))}


class SampleFrames(Randomizable, Transform):
    """FRAMES channels of as many equal stretches: random ones in training, the middle ones in validation."""

    def __init__(self, training: bool) -> None:
        self.training = training

    def __call__(self, sample: dict) -> dict:
        frames = sample["image"]
        edges = np.arange(FRAMES + 1) * len(frames) // FRAMES
        chosen = self.R.randint(edges[:-1], edges[1:]) if self.training else (edges[:-1] + edges[1:] - 1) // 2
        return {**sample, "image": frames[chosen]}


def random_changes(spec: FitSpec) -> list[Transform]:
    """MONAI's transforms of the kinds and amounts of `spec.augment`; all geometry but the flip in one resampling, as ours."""
    changes = spec.augment
    shift_px = changes.translate * SIDE_PX
    return [
        RandFlipd("image", prob=changes.horizontal_flip, spatial_axis=1),
        RandAffined(
            "image",
            prob=1.0,
            rotate_range=math.radians(changes.rotate_degrees),
            translate_range=(shift_px, shift_px),
            scale_range=(changes.scale, changes.scale),
            mode="bilinear",
            padding_mode="reflection",
        ),
        RandScaleIntensityd("image", factors=changes.contrast, prob=1.0),
        RandShiftIntensityd("image", offsets=changes.brightness, prob=1.0),
        RandGaussianNoised("image", prob=1.0, std=changes.noise_sd),
    ]


def plain_epochs(job: Job, dataset: type[Dataset], workers: int) -> Iterator[float]:
    """Seconds of each epoch of the plain loop. dataset: MONAI's Dataset or CacheDataset."""
    spec, device = job.spec(), torch.device(job.device)
    table = job.rows()
    crops = job.crops(table)
    read = ReadCrop(job, *intensity_statistics(crops[: job.train]))
    samples = [{"image": table.iloc[[k]], "label": float(y)} for k, y in enumerate(table["y"])]
    options = {"progress": False} if dataset is CacheDataset else {}
    loaders = []
    for part, training in [(samples[: job.train], True), (samples[job.train :], False)]:
        frames = [SampleFrames(training)] if job.frames else []
        transform = Compose([read, *frames, *(random_changes(spec) if training else [])])
        loaders.append(
            DataLoader(
                dataset(part, transform, **options),
                batch_size=spec.batch_size,
                shuffle=training,
                num_workers=workers,
                persistent_workers=workers > 0,
            )
        )
    train, validation = loaders
    channels = 1 if job.frames else crops.shape[1]
    network = job.build(channels).to(device)
    optimizer = torch.optim.AdamW(network.parameters(), lr=spec.learning_rate, weight_decay=spec.weight_decay)
    loss_function = nn.BCEWithLogitsLoss(pos_weight=torch.tensor((1 - table["y"]).sum() / table["y"].sum()))
    loss_function = loss_function.to(device)

    def shaped(images: torch.Tensor) -> torch.Tensor:
        return images[:, None] if job.frames else images

    while True:
        start = time.perf_counter()
        network.train()
        total = 0.0
        for batch in train:
            images, y = shaped(batch["image"]).to(device), batch["label"].float().to(device)
            optimizer.zero_grad()
            loss = loss_function(network(images).squeeze(1), y)
            loss.backward()
            optimizer.step()
            total += loss.item()
        network.eval()
        with torch.no_grad():
            scores = [torch.sigmoid(network(shaped(batch["image"]).to(device))).cpu() for batch in validation]
        assert math.isfinite(total) and sum(map(len, scores)) == job.validation
        yield time.perf_counter() - start


def network_epochs(job: Job) -> Iterator[float]:
    """Seconds of the network and AdamW alone, on crops that lie ready: what no loop in this format can go below."""
    spec, device = job.spec(), torch.device(job.device)
    crops = job.crops(job.rows())
    pixels = torch.from_numpy(np.array(crops[:, :, :FRAMES] if job.frames else crops)).float().div(255).to(device)
    y = torch.arange(len(pixels), device=device).remainder(2).float()
    network = job.build(crops.shape[1]).to(device)
    optimizer = torch.optim.AdamW(network.parameters(), lr=spec.learning_rate, weight_decay=spec.weight_decay)
    while True:
        start = time.perf_counter()
        network.train()
        for images, labels in zip(
            pixels[: job.train].split(spec.batch_size), y[: job.train].split(spec.batch_size), strict=True
        ):
            optimizer.zero_grad()
            loss = nn.functional.binary_cross_entropy_with_logits(network(images).squeeze(1), labels)
            loss.backward()
            optimizer.step()
        network.eval()
        with torch.no_grad():
            network(pixels[job.train :]).sum().item()
        yield time.perf_counter() - start


def run_engine(job: Job, spec: FitSpec, turn: Callable[[float | None], None]) -> None:
    """Fit with the engine; `turn` is called with the seconds of each epoch and returns when the next may begin."""
    rows = job.rows()
    crops, y, patients = job.crops(rows), rows["y"].to_numpy(), list(rows["patient_id"])
    train = CropDataset(crops[: job.train], y[: job.train], patients[: job.train])
    validation = CropDataset(crops[job.train :], y[job.train :], patients[job.train :])
    turn(None)
    start = time.perf_counter()

    def progress(_: dict[str, float]) -> None:
        nonlocal start
        turn(time.perf_counter() - start)
        start = time.perf_counter()

    fit_classifier(spec, train, validation, progress=progress)


def serve(loop: str, pipe: Connection) -> None:
    """Body of a process: for each job, wait for the word, run an epoch, say how long it took."""
    pair, loop = loop in PAIRS, PAIRS.get(loop, loop)
    torch.set_num_threads(1 if pair else THREADS)
    while (job := pipe.recv()) is not None:
        left = job.epochs + 1

        def turn(seconds: float | None) -> None:
            nonlocal left
            pipe.send(seconds)
            left -= seconds is not None
            if left:
                pipe.recv()

        if loop.startswith("engine"):
            spec = job.spec()
            if loop.endswith("two threads"):
                spec = replace(spec, threads=THREADS)
            elif loop.endswith("other memory format"):
                spec = replace(spec, channels_last=not job.network.startswith(("densenet", "efficientnet")))
            elif loop.endswith("no augmentation"):
                spec = replace(spec, augment=NO_AUGMENTATION)
            elif loop.endswith("bfloat16"):
                spec = replace(spec, autocast=True)
            run_engine(job, spec, turn)
            continue
        monai.utils.set_determinism(SEED)
        torch.use_deterministic_algorithms(False)
        if loop == "network alone":
            epochs = network_epochs(job)
        else:
            epochs = plain_epochs(job, CacheDataset if loop.startswith("cached") else Dataset, int(loop.split()[-2]))
        turn(None)
        for _ in range(job.epochs + 1):
            turn(next(epochs))
        epochs.close()


def measure(job: Job, pipes: dict[str, list[Connection]]) -> pd.DataFrame:
    """Seconds, a row for each round and a column for each loop; the first round is left out."""
    for loop in pipes.values():
        for pipe in loop:
            pipe.send(job)
            pipe.recv()  # its crops and transforms are ready, and it waits
    rounds = []
    for _ in range(job.epochs + 1):
        seconds = {}
        for name, loop in pipes.items():
            start = time.perf_counter()
            for pipe in loop:
                pipe.send(True)
            own = [pipe.recv() for pipe in loop]
            seconds[name] = own[0] if len(loop) == 1 else (time.perf_counter() - start) / len(loop)
        rounds.append(seconds)
    return pd.DataFrame(rounds[1:])


def summarize(job: Job, seconds: pd.DataFrame) -> pd.DataFrame:
    """One row per loop. The ratios: median over rounds of its epoch over the engine's, alone and in a pair."""
    table = pd.DataFrame(
        {
            "case": job.case,
            "network": job.network,
            "loop": seconds.columns,
            "seconds_per_epoch": seconds.median().round(3).to_numpy(),
            "fastest": seconds.min().round(3).to_numpy(),
            "slowest": seconds.max().round(3).to_numpy(),
            "ratio_to_engine": seconds.div(seconds["engine"], axis=0).median().round(2).to_numpy(),
            "ratio_to_two_at_once": seconds.div(seconds["engine, two at once"], axis=0).median().round(2).to_numpy(),
        }
    )
    return table.assign(
        rounds=len(seconds),
        train_crops=job.train,
        validation_crops=job.validation,
        device=job.device,
        cores=len(os.sched_getaffinity(0)),
        torch=torch.__version__,
        monai=monai.__version__,
    )


def main() -> int:
    """Measure the cases named and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    known = [f"{case}/{network}" for case, networks in CASES.items() for network in networks]
    parser.add_argument(
        "cases", nargs="*", help=f"of {', '.join(CASES)}, or one network of a case; all if none is named"
    )
    parser.add_argument("--data", default="data/simulated-demo", help="folder of the cohort")
    parser.add_argument("--rounds", type=int, default=5, help="epochs that count")
    parser.add_argument("--crops", type=int, default=192, help="crops trained on, a multiple of the batch of 16")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".csv"))
    chosen = parser.parse_args()
    wanted = [name for name in known if not chosen.cases or {name, name.split("/")[0]} & set(chosen.cases)]
    if set(chosen.cases) - set(CASES) - set(known) or chosen.crops % 16:
        parser.error(f"cases are {', '.join([*CASES, *known])}; --crops is a multiple of 16")
    os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
    os.environ["OMP_NUM_THREADS"] = str(THREADS)
    context = multiprocessing.get_context("spawn")
    processes, pipes, tables = [], {}, []
    with tempfile.TemporaryDirectory() as store:
        for loop in (*LOOPS, *PAIRS, *PAIRS, *PARTS):
            ours, theirs = context.Pipe()
            pipes.setdefault(loop, []).append(ours)
            processes.append(context.Process(target=serve, args=(loop, theirs)))
            processes[-1].start()
            theirs.close()  # so that a process that dies is noticed
        try:
            for name in wanted:
                case, network = name.split("/")
                job = Job(
                    case, network, resolve_data(chosen.data), Path(store), chosen.rounds, chosen.device, chosen.crops
                )
                loops = (*LOOPS, *PAIRS, *(PARTS if name == known[0] else ()))
                tables.append(summarize(job, measure(job, {loop: pipes[loop] for loop in loops})))
                print(tables[-1].iloc[:, :8].to_string(index=False), flush=True)
                pd.concat(tables).to_csv(chosen.out, index=False)
        finally:
            for pipe in (pipe for loop in pipes.values() for pipe in loop):
                pipe.close()
            for process in processes:
                process.terminate()
                process.join()
    return 0


if __name__ == "__main__":
    sys.exit(main())
