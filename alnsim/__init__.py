"""Simulated patients with known truth: `SimulationSpec` says what, `simulate_cohort` writes a cohort folder.

The model, the physics, what is unlike reality and why the bytes are the same on every processor: MODEL.md in this folder.
Real cohorts live in `alnlib.cohorts`, statistics of predictions in `alneval`; of `alnlib` only `errors` and `files` are
imported, of `alneval` nothing.
"""

from alnsim.build import read_specification, simulate_cohort
from alnsim.realism import read_realism, simulate_stills
from alnsim.specification import SimulationSpec
from alnsim.truth import attainable_auc, read_truth

__all__ = [
    "SimulationSpec",
    "attainable_auc",
    "read_realism",
    "read_specification",
    "read_truth",
    "simulate_cohort",
    "simulate_stills",
]
