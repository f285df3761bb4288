"""Which features survive another contour or grid: their intraclass correlations, and a filter as a pipeline step.

Extraction itself is in `extract`; other selection steps have modules of their own.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import ndimage
from sklearn.utils.validation import validate_data

from alneval.agreement import intraclass_correlation
from alnlib.errors import InputError
from alnlib.radiomics.extract import extract_cohort, mask_window
from alnlib.radiomics.select import FeatureSelector

KINDS = ("erode", "dilate", "contour", "grid")
GOOD_ICC = 0.75
"""From here on reliability is called good (Koo & Li 2016, J Chiropr Med 15:155)."""

_DRAWS = 20
_WINDOW = 4.0


@dataclass(frozen=True)
class MaskPerturbation:
    """Another contour of the same lesion, as another reader might draw it, or another place of the grid it is measured on; a
    function of (mask, spacing_mm, patient_id).

    kind: "erode" or "dilate", by size_mm (in the plane alone where slices are farther apart); "contour", the border moved
    in and out by a smooth random field that has mean 0 and a standard deviation of half of size_mm along it, stays within
    size_mm (and half a voxel), and changes over smooth_mm; "grid", the contour as drawn on a resampling grid that is moved by
    up to half of its voxel along each axis, as another position in the scanner would.
    seed: with kind and patient it fixes what is random, so that a patient's images are all measured in the same contour.
    An erosion that would leave less than half of the voxels is weakened until it does not. All sizes are our choice.
    """

    kind: str
    seed: int = 0
    size_mm: float = 1.5
    smooth_mm: float = 6.0

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"kind is {self.kind!r}; expected one of {', '.join(KINDS)}")
        if not (self.size_mm > 0 and self.smooth_mm > 0):
            raise ValueError(f"size_mm {self.size_mm} and smooth_mm {self.smooth_mm}: expected positive lengths in mm")

    def __call__(self, mask: np.ndarray, spacing_mm: Sequence[float], patient_id: str = "") -> np.ndarray:
        """(z, y, x) bool from mask (z, y, x) bool and its spacing in mm (z, y, x). An empty mask stays empty."""
        if self.kind == "grid" or not mask.any():
            return mask.copy()
        rng = self._rng(patient_id)
        window = mask_window(mask, [math.ceil(_WINDOW * self.size_mm / step) + 1 for step in spacing_mm])
        redrawn = np.zeros_like(mask)
        redrawn[window] = self._redrawn(mask[window], spacing_mm, rng)
        return redrawn

    def shift(self, patient_id: str = "") -> tuple[float, float, float]:
        """(z, y, x) of the resampling grid in its voxels, each within half of one; of other kinds 0."""
        if self.kind != "grid":
            return 0.0, 0.0, 0.0
        z, y, x = self._rng(patient_id).uniform(-0.5, 0.5, 3).tolist()
        return z, y, x

    def _rng(self, patient_id: str) -> np.random.Generator:
        drawn = hashlib.sha256(f"{self.kind} {patient_id}".encode()).digest()
        return np.random.default_rng([self.seed, *drawn[:8]])

    def _redrawn(self, mask: np.ndarray, spacing_mm: Sequence[float], rng: np.random.Generator) -> np.ndarray:
        depth = _signed_depth_mm(mask, spacing_mm)
        if self.kind == "dilate":
            return depth > -self.size_mm - 1e-6
        if self.kind == "erode":
            kept = depth > self.size_mm + 1e-6
            return kept if 2 * kept.sum() >= mask.sum() else depth >= np.median(depth[mask])
        # The border lies half a voxel outside the centers that distances are measured to.
        edge = depth - 0.5 * min(spacing_mm) * np.where(mask, 1.0, -1.0)
        border = np.abs(edge) <= max(self.size_mm, *spacing_mm)
        sigma = [self.smooth_mm / step if size > 1 else 0.0 for step, size in zip(spacing_mm, mask.shape, strict=True)]
        for _ in range(_DRAWS):
            noise = ndimage.gaussian_filter(rng.standard_normal(mask.shape), sigma, mode="wrap")
            noise = (noise - noise[border].mean()) / (noise[border].std() or 1.0)
            drawn = edge + self.size_mm * np.clip(0.5 * noise, -1.0, 1.0) > 0
            if 2 * (drawn & mask).sum() >= mask.sum():
                return drawn
        return mask.copy()


def extract_repeated(
    images: pd.DataFrame, root: str | Path, perturbations: Sequence[MaskPerturbation], **options: Any
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Features under the contour as drawn and under each perturbation, and what failed.

    First: patient_id, repeat ("drawn", or kind and seed), features as `extract_cohort` names them. Second: its failures with
    the same column repeat. options: of `extract_cohort`; all repeats may share a folder. Raises ValueError for equal
    perturbations.
    """
    names = [f"{contour.kind}-{contour.seed}" for contour in perturbations]
    if len(set(names)) < len(names):
        raise ValueError(f"perturbations are {names}; expected each once")
    tables, failures = [], []
    for name, contour in zip(("drawn", *names), (None, *perturbations), strict=True):
        extraction = extract_cohort(images, root, perturb=contour, **options)
        extraction.features.insert(1, "repeat", name)
        tables.append(extraction.features)
        failures.append(extraction.failures.assign(repeat=name))
    return pd.concat(tables, ignore_index=True), pd.concat(failures, ignore_index=True)


def icc_table(repeated: pd.DataFrame) -> pd.DataFrame:
    """Feature, icc, icc_low, icc_high, n_patients, n_repeats: one row per feature of a table of `extract_repeated`.

    A patient counts for a feature when every repeat has it. A feature with fewer than two such patients, or without any
    variation, has no ICC (NaN).
    """
    features = repeated.columns.drop(["patient_id", "repeat"])
    patients, names = repeated["patient_id"].unique(), repeated["repeat"].unique()
    every = pd.MultiIndex.from_product([patients, names], names=["patient_id", "repeat"])
    wide = repeated.set_index(["patient_id", "repeat"])[features].reindex(every)
    values = wide.to_numpy(dtype=float).reshape(len(patients), len(names), len(features))
    complete = np.isfinite(values).all(axis=1)
    estimates = np.full((3, len(features)), np.nan)
    for pattern in np.unique(complete.T, axis=0):  # features with the same gaps together
        these = (pattern == complete.T).all(axis=1)
        if pattern.sum() >= 2:
            estimates[:, these] = intraclass_correlation(values[pattern][:, :, these])
    table = pd.DataFrame(estimates.T, columns=["icc", "icc_low", "icc_high"])
    table.insert(0, "feature", features)
    return table.assign(n_patients=complete.sum(axis=0), n_repeats=len(names))


@dataclass(eq=False, repr=False)
class StabilityFilter(FeatureSelector):
    """Keep the features whose ICC over redrawn contours reaches a threshold.

    repeated: a table of `extract_repeated`; `fit` computes ICCs from those of its patients that are in the index of X, which
    must hold patient ids, so that no patient of a test fold has a say. A column of X that is not in the table is kept (deep
    features, clinical variables); a feature whose ICC is NaN is dropped.
    Fitted: icc_ (of `icc_table`), support_. Raises InputError for fewer than min_patients training patients with repeats, or
    if nothing is left.
    """

    repeated: pd.DataFrame
    threshold: float = GOOD_ICC
    min_patients: int = 10

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        return tags

    def fit(self, X: pd.DataFrame, y: object = None) -> StabilityFilter:
        """X: (n, features) with patient ids as its index. y is not looked at."""
        validate_data(self, X, skip_check_array=True)
        training = self.repeated[self.repeated["patient_id"].isin(X.index)]
        count = training["patient_id"].nunique()
        if count < self.min_patients:
            raise InputError(
                f"only {count} training patients have repeated extractions, {self.min_patients} are needed; index the features "
                "by patient_id, and repeat the extraction of more patients"
            )
        measured = training.columns.intersection(X.columns, sort=False)
        self.icc_ = icc_table(training[["patient_id", "repeat", *measured]])
        icc = self.icc_.set_index("feature")["icc"].reindex(X.columns).to_numpy(dtype=float)
        self.support_ = (icc >= self.threshold) | ~X.columns.isin(measured)
        if not self.support_.any():
            raise InputError(
                f"no feature reaches an ICC of {self.threshold:g} (best {np.nanmax(icc, initial=-np.inf):.2f}); lower "
                "the threshold or perturb the masks less"
            )
        return self


def _signed_depth_mm(mask: np.ndarray, spacing_mm: Sequence[float]) -> np.ndarray:
    """Distance to the nearest voxel of the other side, positive inside."""
    if mask.all():
        return np.full(mask.shape, np.inf)
    inside, outside = (ndimage.distance_transform_edt(side, spacing_mm) for side in (mask, ~mask))
    return np.where(mask, inside, -outside)
