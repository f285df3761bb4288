"""Simulated patients with known truth: `SimulationSpec` says what, `simulate_cohort` writes a cohort folder.

Real cohorts live beside this package, in `alnlib.cohorts`.
"""

from alnlib.cohorts.simulated.build import read_specification, simulate_cohort
from alnlib.cohorts.simulated.realism import read_realism, simulate_stills
from alnlib.cohorts.simulated.specification import SimulationSpec
from alnlib.cohorts.simulated.truth import attainable_auc, oracle_score, read_truth

__all__ = [
    "SimulationSpec",
    "attainable_auc",
    "oracle_score",
    "read_realism",
    "read_specification",
    "read_truth",
    "simulate_cohort",
    "simulate_stills",
]
