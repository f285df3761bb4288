"""What was scored: labels, scores, and whose unit each is. Checked here, once; nothing behind it checks again."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike


@dataclass(frozen=True, eq=False)
class Units:
    """positive: (n,) bool; scores: (n, m), one column per model; patient: (n,) codes 0 .. k-1, all different where every
    unit is its own patient. A statistic that is given Units needs neither `cluster` nor a check."""

    positive: np.ndarray
    scores: np.ndarray
    patient: np.ndarray

    @classmethod
    def of(cls, y_true: ArrayLike, *scores: ArrayLike, patient: ArrayLike | None = None) -> Units:
        """From arrays. Raises ValueError for labels other than 0 and 1, other lengths, scores that are not finite, missing ids."""
        labels = np.asarray(y_true)
        known = labels.ndim == 1 and labels.size and np.isin(labels.astype(float), (0.0, 1.0)).all()
        if not known:
            raise ValueError("y_true must be a non-empty array (n,) of 0 and 1")
        columns = np.column_stack([np.asarray(score, dtype=float) for score in scores])
        if len(columns) != labels.size:
            raise ValueError(f"scores must have {labels.size} rows like y_true, not {len(columns)}")
        if not np.isfinite(columns).all():
            raise ValueError(f"{np.count_nonzero(~np.isfinite(columns))} scores are not finite")
        codes = np.arange(labels.size) if patient is None else pd.factorize(np.asarray(patient), sort=True)[0]
        if codes.size != labels.size or (codes < 0).any():
            raise ValueError("patient must name one patient for every unit")
        return cls(labels.astype(bool), columns, codes.astype(np.intp))

    @classmethod
    def of_rows(cls, rows: pd.DataFrame, *others: pd.DataFrame) -> Units:
        """From rows of the predictions contract; others: further models, on the units that all scored, with equal labels."""
        common = rows
        for number, other in enumerate(others):
            known = other[["patient_id", "unit_id", "y_true", "y_score"]]
            common = common.merge(
                known, on=["patient_id", "unit_id"], suffixes=("", f"_{number}"), validate="one_to_one"
            )
            if (common["y_true"] != common[f"y_true_{number}"]).any():
                raise ValueError("models disagree on y_true")
        scores = [common["y_score"], *(common[f"y_score_{number}"] for number in range(len(others)))]
        return cls.of(common["y_true"], *scores, patient=common["patient_id"])

    def __len__(self) -> int:
        return self.positive.size

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
        return bool(self.positive.any() and not self.positive.all())

    def holders(self) -> tuple[int, int]:
        """Patients that hold a positive unit, and patients that hold a negative one."""
        return np.unique(self.patient[self.positive]).size, np.unique(self.patient[~self.positive]).size

    def model(self, column: int) -> Units:
        """The same units with one of the scores."""
        return replace(self, scores=self.scores[:, [column]])
