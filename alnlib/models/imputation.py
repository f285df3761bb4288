"""Multiple imputation of clinical variables by chained equations, and logistic fits of all imputations at once.

What is selected and pooled lives in `alnlib.models.clinical`, Rubin's rules in `alneval.imputed`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.spatial import KDTree
from scipy.special import expit

from alnlib.cohorts.schema import ClinicalVariable
from alnlib.errors import InputError

IMPUTATIONS = 20
"""Draws of a missing value by default: about as many as patients of a hundred are incomplete (von Hippel 2009, Sociol Methodol
39:265; White, Royston & Wood 2011, Stat Med 30:377)."""

N_SWEEPS = 5
"""Rounds over the variables before values are taken, as many as in R's mice; van Buuren 2018 (Flexible Imputation of Missing
Data, 6.5.2) finds 5 to 20 enough."""

N_DONORS = 5
"""Nearest patients of whom one gives his value; van Buuren 2018, 3.4.3."""

_RIDGE = 1e-3
"""Added to the variance (1) of each standardized predictor: subtype repeats its receptors."""

_TIE = 1e-6
"""Spread of what parts equal predictions, in standard deviations."""


def n_imputations_for(asked: int, is_simulated: bool) -> int:
    """Draws of a missing value: as many as asked; for 0 `IMPUTATIONS`, or 1, a fixed value, of simulated patients.

    Raises InputError below 0.
    """
    if asked < 0:
        raise InputError(
            f"n_imputations is {asked}; it takes 0 (the default of the cohort), 1 (a fixed value) or more draws."
        )
    return asked or (1 if is_simulated else IMPUTATIONS)


@dataclass(frozen=True, eq=False)
class _Equation:
    """One variable's model in every imputation. coefficients (m, p, l) as drawn; donors (m, n, l): predictions of the training
    patients who have it, and values (n,) what they have."""

    coefficients: np.ndarray
    donors: np.ndarray
    values: np.ndarray


class ChainedEquations:
    """Draws of missing clinical values, from a chain per imputation that is fitted to training patients alone.

    Predictive mean matching (Little 1988, J Bus Econ Stat 6:287): a variable is regressed on all others and the outcome,
    coefficients are drawn from their posterior, and one of the `N_DONORS` training patients with the nearest predictions gives
    his value, so that only values occur that somebody has. Ordinal levels are regressed as their rank, nominal ones as a share
    of each level, matched together. Training patients are completed with their outcome as a predictor (Moons et al. 2006, J Clin
    Epidemiol 59:1092). Of other patients the outcome is taken as not known and drawn with the rest, and their draws depend on
    the fit and their own known values only: whoever is scored beside them, and the order, change nothing.

    clinical: {column: ClinicalVariable}; values are codes: numbers, or the place of the level. A variable that no training
    patient has is 0 in all, a constant.
    """

    def __init__(self, clinical: Mapping[str, ClinicalVariable], n_imputations: int, seed: int) -> None:
        self.clinical, self.n_imputations, self.seed = clinical, n_imputations, seed
        self._levels = [len(v.levels) if v.kind != "continuous" else 0 for v in clinical.values()] + [2]
        widths = [max(levels - 1, 1) for levels in self._levels]
        self._owner = np.repeat(np.arange(-1, len(widths)), [1, *widths])  # the first column is the intercept, 1
        nominal = [variable.kind == "nominal" for variable in clinical.values()] + [False]
        self._matched = [n if n > 2 and many else 1 for n, many in zip(self._levels, nominal, strict=True)]

    def fit(self, codes: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Complete the training patients: codes (n, v) with NaN, y (n,) 0/1; gives (m, n, v), m = 1 where nothing is missing."""
        rng = np.random.default_rng(self.seed)
        observed = np.column_stack([codes, y.astype(float)])
        missing, m = np.isnan(observed), self.n_imputations
        observed[:, missing.all(axis=0)] = 0.0
        self._learn_spread(observed)
        incomplete = [j for j in np.argsort(missing.sum(axis=0), kind="stable") if 0 < missing[:, j].sum() < len(y)]
        state = np.repeat(observed[None], m, axis=0)
        for j in incomplete:
            state[:, missing[:, j], j] = rng.choice(observed[~missing[:, j], j], (m, missing[:, j].sum()))
        predictors = self._predictors(state)
        for _ in range(N_SWEEPS if incomplete else 0):
            for j in incomplete:
                gone = missing[:, j]
                equation = self._equation(j, predictors, observed[:, j], ~gone, rng)
                uniform = rng.random((m, gone.sum(), self._matched[j] + 1))
                state[:, gone, j] = self._draw(equation, predictors[:, gone], uniform)
                predictors[..., self._owner == j] = self._standardized(state[..., j], j)
        known = ~missing | missing.all(axis=0)
        self._equations = [
            self._equation(j, predictors, observed[:, j], known[:, j], rng) for j in range(observed.shape[1])
        ]
        self._initial = [observed[known[:, j], j] for j in range(observed.shape[1])]
        return state[: m if incomplete else 1, :, :-1]

    def draw(self, codes: np.ndarray) -> np.ndarray:
        """Complete other patients: codes (n, v) with NaN; gives (m, n, v), m = 1 where nothing is missing."""
        incomplete = np.flatnonzero(np.isnan(codes).any(axis=1))
        if not incomplete.size:
            return codes[None].copy()
        m, v = self.n_imputations, codes.shape[1] + 1
        own = np.column_stack([codes[incomplete], np.full(incomplete.size, np.nan)])
        missing = np.isnan(own)
        width = sum(self._matched) + v
        uniform = np.stack([self._own_stream(row).random((N_SWEEPS + 1, m, width)) for row in own], axis=2)
        state = np.repeat(own[None], m, axis=0)
        for j in range(v):
            start = self._initial[j]
            drawn = start[(uniform[0, ..., j] * start.size).astype(int)]
            state[..., j] = np.where(missing[:, j], drawn, state[..., j])
        predictors = self._predictors(state)
        places = np.cumsum([0, *(matched + 1 for matched in self._matched)])
        for sweep in uniform[1:]:
            for j in np.flatnonzero(missing.any(axis=0)):
                gone = missing[:, j]
                chosen = sweep[:, gone, places[j] : places[j + 1]]
                state[:, gone, j] = self._draw(self._equations[j], predictors[:, gone], chosen)
                predictors[..., self._owner == j] = self._standardized(state[..., j], j)
        completed = np.repeat(codes[None], m, axis=0)
        completed[:, incomplete] = state[..., :-1]
        return completed

    def _own_stream(self, row: np.ndarray) -> np.random.Generator:
        """Random numbers of a patient, from the seed and what is known of him."""
        known = np.where(np.isnan(row), np.nan, row + 0.0)  # one way to write a zero, and one for nothing
        digest = hashlib.sha256(known.astype("<f8").tobytes()).digest()
        return np.random.default_rng([self.seed, int.from_bytes(digest[:16], "little")])

    def _indicators(self, values: np.ndarray, j: int) -> np.ndarray:
        """(..., w): the number itself, or 0/1 for each level after the first."""
        if self._levels[j] == 0:
            return values[..., None]
        return (values[..., None] == np.arange(1, max(self._levels[j], 2))).astype(float)

    def _learn_spread(self, observed: np.ndarray) -> None:
        """Mean and standard deviation of each predictor over those who have it; infinite where it is constant, as 1 is."""
        known = [self._indicators(column[~np.isnan(column)], j) for j, column in enumerate(observed.T)]
        self._centers = np.concatenate([[0.0], *(values.mean(axis=0) for values in known)])
        deviations = np.concatenate([[0.0], *(values.std(axis=0) for values in known)])
        self._scales = np.where(deviations > 1e-12 * np.abs(self._centers), deviations, np.inf)
        self._scales[0] = 1.0

    def _standardized(self, values: np.ndarray, j: int) -> np.ndarray:
        own = self._owner == j
        return (self._indicators(values, j) - self._centers[own]) / self._scales[own]

    def _predictors(self, state: np.ndarray) -> np.ndarray:
        every = (self._standardized(state[..., j], j) for j in range(state.shape[2]))
        return np.concatenate([np.ones((*state.shape[:2], 1)), *every], axis=2)

    def _equation(
        self, j: int, predictors: np.ndarray, values: np.ndarray, known: np.ndarray, rng: np.random.Generator
    ) -> _Equation:
        """Bayesian linear regression of variable j among the patients who have it: Rubin 1987, 5.3; van Buuren 2018, 3.2.1."""
        design, values = predictors[:, known], values[known]
        if self._matched[j] > 1:
            target = (values[:, None] == np.arange(self._levels[j])).astype(float)
        else:
            target = values[:, None] / (values.std() or 1.0)
        target = target - target.mean(axis=0)
        m, n, p = design.shape
        others = (self._scales < np.inf) & (self._owner != j)
        gram, moments = design.transpose(0, 2, 1) @ design, design.transpose(0, 2, 1) @ target
        gram = np.where(others[:, None] & others, gram, 0.0) + np.diag(np.where(others, _RIDGE * n, 1.0))
        estimate = np.linalg.solve(gram, np.where(others[:, None], moments, 0.0))
        fitted = design @ estimate
        free = max(n - np.count_nonzero(others), 1)
        variance = ((target - fitted) ** 2).sum(axis=1) / rng.chisquare(free, (m, target.shape[1]))
        root = np.linalg.cholesky(gram).transpose(0, 2, 1)
        noise = np.linalg.solve(root, rng.normal(size=(m, p, target.shape[1])))
        drawn = estimate + np.where(others[:, None], np.sqrt(variance)[:, None] * noise, 0.0)
        return _Equation(drawn, fitted + _TIE * (rng.random(fitted.shape) - 0.5), values)

    def _draw(self, equation: _Equation, predictors: np.ndarray, uniform: np.ndarray) -> np.ndarray:
        """Values (m, n) of the donors; uniform: (m, n, l + 1), what parts ties, then which of the nearest donors gives."""
        # einsum, not matmul: a patient's prediction may not depend on how many others are asked
        wanted = np.einsum("mnp,mpl->mnl", predictors, equation.coefficients)
        wanted += _TIE * (uniform[..., :-1] - 0.5)
        n_donors = min(N_DONORS, equation.values.size)
        rank = (uniform[..., -1] * n_donors).astype(int)
        nearest = _nearest_on_a_line if wanted.shape[2] == 1 else _nearest
        return equation.values[nearest(equation.donors, wanted, rank, n_donors)]


def _nearest(donors: np.ndarray, wanted: np.ndarray, rank: np.ndarray, k: int) -> np.ndarray:
    """Place (m, n) of the donor (m, d, l) that is the rank-th nearest, from 0, of the k nearest ones to wanted (m, n, l)."""
    found = np.empty(rank.shape, dtype=int)
    for chain, tree in enumerate(map(KDTree, donors)):
        near = tree.query(wanted[chain], k=range(1, k + 1))[1]
        found[chain] = np.take_along_axis(near, rank[chain][:, None], axis=1)[:, 0]
    return found


def _nearest_on_a_line(donors: np.ndarray, wanted: np.ndarray, rank: np.ndarray, k: int) -> np.ndarray:
    """`_nearest` of single predictions: sorted, the k nearest stand side by side. Imputations stand on one line, far apart."""
    points = donors[..., 0]
    reach = np.ptp(points) + 1
    start = 3 * reach * np.arange(len(points))[:, None]
    order = np.argsort(points, axis=1)
    line = np.concatenate([[-np.inf], (np.take_along_axis(points, order, axis=1) + start).ravel(), [np.inf]])
    # beyond the last donor the nearest ones are those of the last
    asked = np.clip(wanted[..., 0], points.min() - 1, points.max() + 1) + start
    right = np.searchsorted(line, asked)
    left, taken = right - 1, right
    for step in range(k):
        nearer_left = asked - line[left] <= line[right] - asked
        taken = np.where(rank == step, np.where(nearer_left, left, right), taken)
        left, right = left - nearer_left, right + ~nearer_left
    within = taken - 1 - points.shape[1] * np.arange(len(points))[:, None]
    return np.take_along_axis(order, within, axis=1)


@dataclass(frozen=True, eq=False)
class LogisticFits:
    """A logistic model in every imputation. intercepts (m,); coefficients and standard_errors (m, p); log_likelihoods (m,);
    certain (m,): whether a patient's probability is within 1e-6 of 0 or 1, as under separation, where log_likelihoods are those
    at the limit and the rest means nothing."""

    intercepts: np.ndarray
    coefficients: np.ndarray
    standard_errors: np.ndarray
    log_likelihoods: np.ndarray
    certain: np.ndarray


def fit_logistic(X: np.ndarray, y: np.ndarray, max_iterations: int = 40) -> LogisticFits:
    """Maximum likelihood by Newton's method, all imputations at once. X: (m, n, p), no column constant; y: (n,) 0/1."""
    center, scale = X.mean(axis=1, keepdims=True), X.std(axis=1, keepdims=True)
    design = np.concatenate([np.ones((*X.shape[:2], 1)), (X - center) / scale], axis=2)
    beta, reached_before = np.zeros((len(X), design.shape[2])), np.full(len(X), -np.inf)
    for _ in range(max_iterations):
        probability, information = _information(design, beta)
        gradient = np.einsum("mnp,mn->mp", design, y - probability)
        step = np.linalg.solve(information, gradient[..., None])[..., 0]
        step /= np.maximum(np.abs(step).max(axis=1, keepdims=True) / 2, 1.0)
        for _ in range(20):  # half steps where the likelihood falls
            reached = log_likelihoods(design, y, 0.0, beta + step)
            falls = reached < reached_before - 1e-9
            if not falls.any():
                break
            step[falls] /= 2
        beta, reached_before = beta + step, reached
        if np.abs(step).max() < 1e-9:
            break
    probability, information = _information(design, beta)
    errors = np.sqrt(np.einsum("mpp->mp", np.linalg.inv(information)))[:, 1:] / scale[:, 0]
    slopes = beta[:, 1:] / scale[:, 0]
    extreme = np.minimum(probability, 1 - probability).min(axis=1) < 1e-6
    return LogisticFits(
        beta[:, 0] - (slopes * center[:, 0]).sum(axis=1),
        slopes,
        errors,
        reached_before,
        extreme,
    )


def _information(design: np.ndarray, beta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities (m, n) and information (m, p, p), this a trace above singular."""
    probability = expit(np.einsum("mnp,mp->mn", design, beta))
    weighted = design * (probability * (1 - probability))[..., None]
    return probability, design.transpose(0, 2, 1) @ weighted + 1e-9 * np.eye(design.shape[2])


def log_likelihoods(X: np.ndarray, y: np.ndarray, intercept: ArrayLike, coefficients: np.ndarray) -> np.ndarray:
    """Log likelihood (m,) of a logistic model in every imputation. X: (m, n, p); coefficients: (m, p), or (p,) for all."""
    shared = np.broadcast_to(coefficients, (len(X), X.shape[2]))
    linear = np.einsum("mnp,mp->mn", X, shared) + np.broadcast_to(intercept, len(X))[:, None]
    return (y * linear - np.logaddexp(0, linear)).sum(axis=1)
