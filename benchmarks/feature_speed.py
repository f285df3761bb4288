"""Frozen features against a plain loop over the same network: `python benchmarks/feature_speed.py [CROPS]`.

`alnlib.models.frozen.frozen_features` (batch norms folded in, channels last, a batch per core) against a `DataLoader` over the
same crops and `build_cnn2d` as it is, pooled at the same depths by hooks, with 0 and with 2 worker processes, both cores in
either. Crops are random; a crop costs the same whatever it shows. The three take turns, round by round, so that other work on
the machine meets all alike; the first round is not counted. Writes feature_speed.csv beside itself: crops per second (median
over rounds) and the median ratio of a round's seconds to ours.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch.utils.data import DataLoader, TensorDataset

from alnlib.files import write_csv
from alnlib.models.cnn2d import build_cnn2d
from alnlib.models.frozen import BATCH, FrozenSpec, frozen_features

ROUNDS = 5
SIDES = (96, 224)


def plain(crops: np.ndarray, spec: FrozenSpec, workers: int) -> np.ndarray:
    """Mean and spread at the depths of `spec`, (n, n_features), by a loop as one would write it."""
    network = build_cnn2d(spec.architecture, weights=spec.weights).eval()
    passed: dict[int, torch.Tensor] = {}
    for depth in spec.depths:
        network.features[depth].register_forward_hook(lambda _, __, output, at=depth: passed.__setitem__(at, output))
    rows = []
    with torch.no_grad():
        for (batch,) in DataLoader(TensorDataset(torch.from_numpy(crops)), batch_size=BATCH, num_workers=workers):
            network(((batch.float() - 127) / 128)[:, None])
            pooled = [torch.cat([maps.mean((2, 3)), maps.std((2, 3), correction=0)], 1) for maps in passed.values()]
            rows.append(torch.cat(pooled, 1).numpy())
    return np.concatenate(rows)


def main() -> None:
    """Measure both sides and write the table."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 256
    torch.set_num_threads(2)
    spec, tables = FrozenSpec(), []
    for side in SIDES:
        crops = np.random.default_rng(0).integers(0, 256, (count, side, side), np.uint8)
        loops: dict[str, Callable[[], np.ndarray]] = {
            "frozen_features": lambda crops=crops: frozen_features(crops, spec),
            "DataLoader, 0 workers": lambda crops=crops: plain(crops, spec, 0),
            "DataLoader, 2 workers": lambda crops=crops: plain(crops, spec, 2),
        }
        np.testing.assert_allclose(loops["frozen_features"](), loops["DataLoader, 0 workers"](), rtol=1e-3, atol=1e-3)
        seconds = pd.DataFrame([{name: timed(loop) for name, loop in loops.items()} for _ in range(ROUNDS + 1)][1:])
        ratio = seconds.div(seconds["frozen_features"], axis="index").median()
        table = pd.DataFrame({"crops_per_second": count / seconds.median(), "ratio_of_seconds": ratio})
        tables.append(table.round(2).rename_axis("loop").reset_index().assign(side_px=side, crops=count))
    made = pd.concat(tables)[["side_px", "loop", "crops", "crops_per_second", "ratio_of_seconds"]]
    write_csv(made, Path(__file__).with_suffix(".csv"))
    print(made.to_string(index=False))


def timed(loop: Callable[[], np.ndarray]) -> float:
    """Wall seconds of one call."""
    start = time.perf_counter()
    loop()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
