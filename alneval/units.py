"""What was scored: labels, scores, and whose unit each is. Checked here, once; nothing behind it checks again."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike


@dataclass(frozen=True, eq=False)
class Units:
    """Scored units: patients, or several units of a patient, such as nodes.

    positive: (n,) bool; scores: (n, m), one column per model; patient: (n,) codes 0 .. k-1, all different where every unit
    is its own patient. A function that is given Units needs neither `cluster` nor a check.

    >>> from alneval import example
    >>> rows = example()
    >>> units = Units.of_rows(rows.query("model == 'image'"), rows.query("model == 'clinical'"))
    >>> len(units), units.n_positive, units.n_patients, units.scores.shape
    (60, 22, 60, (60, 2))
    """

    positive: np.ndarray
    scores: np.ndarray
    patient: np.ndarray

    @classmethod
    def of(cls, y_true: ArrayLike, *scores: ArrayLike, patient: ArrayLike | None = None) -> Units:
        """From labels (n,) of 0 and 1, scores (n,) or (n, m), and patient ids (n,).

        Raises ValueError for other labels, none at all, lengths that differ, scores that are not finite, missing ids.
        """
        positive = as_labels(y_true)
        columns = [np.asarray(score, dtype=float) for score in scores]
        if any(len(column) != positive.size for column in columns):
            raise ValueError(f"scores must have {positive.size} values like y_true, not {[len(c) for c in columns]}")
        table = np.column_stack(columns) if columns else np.empty((positive.size, 0))
        if not np.isfinite(table).all():
            raise ValueError(f"the scores hold {np.count_nonzero(~np.isfinite(table))} values that are not finite")
        if patient is None:
            return cls(positive, table, np.arange(positive.size))
        codes = _patient_codes(np.asarray(patient))
        if codes.size != positive.size or (codes < 0).any():
            raise ValueError(f"patient must name a patient for each of the {positive.size} units")
        return cls(positive, table, codes)

    @classmethod
    def of_rows(cls, rows: pd.DataFrame, *others: pd.DataFrame) -> Units:
        """From rows of the predictions contract; others: further models, on the units that all of them scored.

        Raises ValueError where models disagree on a label, or score a unit twice.
        """
        common = rows
        for number, other in enumerate(others):
            further = other[["patient_id", "unit_id", "y_true", "y_score"]]
            names = {"on": ["patient_id", "unit_id"], "suffixes": ("", f"_{number}"), "validate": "one_to_one"}
            common = common.merge(further, **names)
            disagreeing = common.loc[common["y_true"] != common[f"y_true_{number}"], "unit_id"]
            if len(disagreeing):
                raise ValueError(f"models disagree on y_true of units {list(disagreeing[:5])}")
        scores = [common["y_score"], *(common[f"y_score_{number}"] for number in range(len(others)))]
        return cls.of(common["y_true"], *scores, patient=common["patient_id"])

    def __len__(self) -> int:
        return self.positive.size

    @property
    def n_positive(self) -> int:
        """How many are positive."""
        return int(np.count_nonzero(self.positive))

    @property
    def n_patients(self) -> int:
        """How many patients they are of."""
        return int(self.patient.max()) + 1

    @property
    def clustered(self) -> bool:
        """Whether a patient has several units."""
        return self.n_patients < len(self)

    @property
    def has_both_classes(self) -> bool:
        """Whether there is anything to tell apart."""
        return 0 < self.n_positive < len(self)

    def require_both_classes(self) -> Units:
        """These units; ValueError if a class is missing."""
        if not self.has_both_classes:
            present = "positive" if self.positive.all() else "negative"
            raise ValueError(f"both classes are needed, but all {len(self)} labels are {present}")
        return self

    def holders(self) -> tuple[int, int]:
        """Patients that hold a positive unit, and patients that hold a negative one."""
        return np.unique(self.patient[self.positive]).size, np.unique(self.patient[~self.positive]).size

    @property
    def score(self) -> np.ndarray:
        """The first score (n,)."""
        return self.scores[:, 0]

    @property
    def probability(self) -> np.ndarray:
        """The first score (n,) as a probability. Raises ValueError if it leaves [0, 1]."""
        return as_probabilities(self.score)

    def where(self, members: np.ndarray) -> Units:
        """The units (bool, (n,)) that are wanted."""
        return Units(self.positive[members], self.scores[members], _patient_codes(self.patient[members]))

    def model(self, column: int) -> Units:
        """The same units with one of the scores."""
        return replace(self, scores=self.scores[:, [column]])


def _patient_codes(patient: np.ndarray) -> np.ndarray:
    """Numbers (n,) of patients by their sorted ids, -1 for a missing one; in the order of the rows where each has one unit.

    Resamples draw patients by these numbers, so that the rows of an unclustered table are drawn as they stand.
    """
    codes, ids = pd.factorize(patient, sort=True)
    return np.arange(codes.size) if len(ids) == codes.size else codes.astype(np.intp)


def as_labels(y_true: ArrayLike) -> np.ndarray:
    """Labels as booleans (n,). Raises ValueError if one is not 0 or 1, or if there are none."""
    labels = np.asarray(y_true)
    if labels.ndim != 1 or labels.size == 0:
        raise ValueError(f"y_true must be a non-empty one-dimensional array, not shape {labels.shape}")
    if labels.dtype != bool and not np.isin(labels := labels.astype(float), (0.0, 1.0)).all():
        raise ValueError("y_true must hold 0 and 1 only")
    return labels.astype(bool)


def as_probabilities(values: ArrayLike) -> np.ndarray:
    """Probabilities (n,). Raises ValueError unless they lie in [0, 1]."""
    probabilities = np.asarray(values, dtype=float)
    if probabilities.ndim != 1 or not ((probabilities >= 0) & (probabilities <= 1)).all():
        raise ValueError(
            "probabilities must be one-dimensional and lie in [0, 1]; turn scores or logits into them first"
        )
    return probabilities
