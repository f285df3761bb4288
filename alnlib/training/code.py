"""What code a fit depends on, told without importing torch: its checkpoints go by it."""

from __future__ import annotations

from alnlib.memo import code_of


def fit_code() -> dict[str, str]:
    """{file: digest} of all of ours that `alnlib.training.fit` imports, less the statistics of predictions."""
    return code_of("alnlib.training.fit", without=("alneval/",))
