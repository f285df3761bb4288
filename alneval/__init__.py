"""Statistics of predictions: discrimination, calibration, clinical utility, comparisons, readers, audits, and their figures.

Everything here reads labels, scores and patients (`units.Units`) and gives values with intervals (`estimate.Estimate`);
patients are described by `table_one`, repeated measurements by `agreement`. Pixels and models live elsewhere, and neither
torch nor a reader of images is imported. Of `alnlib` only `errors` and `files` are. `example` gives a small table on which
the examples in the docstrings run; `tables` reads anybody's predictions, `folder` judges them in a folder of their own, and
`aln-evaluate` (`cli`) is the command for it; `site` makes pages of it.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

EXAMPLE = Path(__file__).with_name("example.csv")
"""Simulated predictions of two models on three splits, as `tools/example.py` draws them; nobody's patients."""


def example(split: str = "test") -> pd.DataFrame:
    """The bundled predictions of one split, a frame of the predictions contract.

    >>> example().groupby("model")["y_true"].agg(["size", "sum"]).to_dict("index")
    {'clinical': {'size': 60, 'sum': 22}, 'image': {'size': 60, 'sum': 22}}
    """
    from alneval.tables import read_predictions

    return read_predictions(EXAMPLE).query("split == @split").reset_index(drop=True)
