"""How an evaluation is done where there is a choice: one value that the tables are given."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from alneval.thresholds import threshold_at_sensitivity, threshold_at_specificity, youden_threshold
from alneval.units import Units

INTERVALS = ("logit_t", "logit", "wald")
REFERENCES = ("t", "normal")


@dataclass(frozen=True)
class Methods:
    """interval: of an AUC, of `delong.auc_interval`; reference: of a difference of two, of `delong.auc_difference`.

    thresholds: {(study, model): threshold} fixed beforehand. The others are chosen on rows that are not judged: the largest
    Youden index or, where one of them is given, the best that reaches this sensitivity or this specificity there.
    """

    interval: str = "logit_t"
    reference: str = "t"
    thresholds: Mapping[tuple[str, str], float] = field(default_factory=dict)
    sensitivity: float | None = None
    specificity: float | None = None

    def threshold(self, units: Units) -> float:
        """The threshold chosen on these units. Raises ValueError if a class is missing."""
        if self.sensitivity is not None:
            return threshold_at_sensitivity(units, self.sensitivity)
        if self.specificity is not None:
            return threshold_at_specificity(units, self.specificity)
        return youden_threshold(units)


USUAL = Methods()
"""As the notebooks do it."""
