"""What the explorer of thresholds holds: labels and scores without patients, and what the browser does not compute itself.

The page computes with `static/evaluator.js`; nothing here is shown before that.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import isfinite, isnan
from typing import Any

import numpy as np
import pandas as pd

from alneval.calibration import flexible_curve
from alneval.estimate import format_interval, resamples
from alneval.figures import SPLIT_NAMES
from alneval.rows import KEYS, judged_rows, probability_rows
from alneval.tables import row_stream
from alneval.thresholds import QUANTITIES, operating_points
from alneval.units import Units

CURVE_POINTS = 60
"""Places at which a calibration curve is drawn."""

MOST_UNITS, MOST_CLUSTERED = 5_000, 1_000
"""Larger sets are left out, and of units of patients, whose limits are made beforehand: a page has to open."""

MOST_SETS, MOST_CLUSTERED_TOGETHER = 200, 5_000
"""Sets, and units of patients in all sets: a thousand of them take some three seconds."""

TAILS = ((1 - 0.95) / 2, 1 - (1 - 0.95) / 2)


def explorer_data(
    predictions: pd.DataFrame,
    discrimination: pd.DataFrame,
    calibration: pd.DataFrame | None = None,
    *,
    seed: int,
    n_bootstrap: int,
    resplits: pd.DataFrame | None = None,
    titles: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """JSON of "sets", one per study, model and judged split, "lotteries", one per pipeline of resplits, "titles" of studies.

    predictions: of the models to show; discrimination, calibration: their tables, of which the latter may be missing; seed,
    n_bootstrap: with which the former was made, so that intervals over patients are the same at its thresholds. resplits:
    columns pipeline and auc. A set holds labels as a text of 0 and 1, scores in the same order, and no patient. Where a
    patient has several units it holds the limits of the five shares at every cut, k + 1 for k different scores, because
    Wilson's do not hold there, and what limits of predictive values at any prevalence are made of (`_ratios`). "left_out":
    how many sets are too large, or too many.
    """
    judged = judged_rows(predictions)
    probable = set(probability_rows(predictions)[KEYS[:2]].itertuples(index=False, name=None))
    cuts = discrimination.dropna(subset=["threshold"]).drop_duplicates(KEYS[:2]).set_index(KEYS[:2])["threshold"]
    rows = {tuple(row[name] for name in KEYS): row for row in discrimination.to_dict("records")}
    slopes = {
        tuple(row[name] for name in KEYS): row
        for row in ([] if calibration is None else calibration.to_dict("records"))
    }
    sets: list[dict[str, Any]] = []
    left_out = clustered = 0
    for key, part in judged.groupby(KEYS, sort=False):
        study, model, split = key
        # as the table of discrimination orders them, for the same resamples
        units = Units.of_rows(part.sort_values(["patient_id", "unit_id"]))
        if not units.has_both_classes:
            continue
        clustered += len(units) if units.clustered else 0
        too_large = len(units) > (MOST_CLUSTERED if units.clustered else MOST_UNITS)
        if too_large or len(sets) >= MOST_SETS or (units.clustered and clustered > MOST_CLUSTERED_TOGETHER):
            left_out += 1
            continue
        row = rows.get(key, {})
        made: dict[str, Any] = {"study": study, "model": model, "split": split, "split_name": SPLIT_NAMES[split]}
        made |= {"labels": "".join("1" if label else "0" for label in units.positive), "scores": units.score.tolist()}
        made |= {"patients": units.n_patients, "probability": (study, model) in probable}
        made |= {"threshold": float(cuts.get((study, model), np.median(units.score)))}
        made |= {"locked": (study, model) in cuts.index, "auc": _estimate(row, "auc")}
        if made["probability"]:
            made |= _calibration(units, slopes.get(key, {}))
        if units.clustered:
            made["limits"] = _limits(units, row_stream(seed, key), n_bootstrap)
            made["ratios"] = _ratios(units, np.random.default_rng(seed), n_bootstrap)
        sets.append(made)
    lotteries = []
    if resplits is not None:
        for pipeline, drawn in resplits.groupby("pipeline", sort=False):
            lotteries.append({"pipeline": pipeline, "aucs": drawn["auc"].tolist()})
    return {"sets": sets, "lotteries": lotteries, "left_out": left_out, "titles": dict(titles or {})}


def _estimate(row: Mapping[str, Any], name: str) -> str:
    values = [float(row.get(f"{name}{end}", np.nan)) for end in ("", "_low", "_high")]
    return "" if isnan(values[0]) else format_interval(*values)


def _calibration(units: Units, row: Mapping[str, Any]) -> dict[str, Any]:
    at = np.unique(np.quantile(units.probability, np.linspace(0, 1, CURVE_POINTS)))
    curve = flexible_curve(units, at)
    known = np.isfinite(curve)
    points = np.column_stack([at, curve])[known].round(4).tolist()
    return {"curve": points, "slope": _estimate(row, "slope"), "intercept": _estimate(row, "intercept")}


def _limits(units: Units, rng: np.random.Generator, n_bootstrap: int) -> list[list[float | None]]:
    """Low and high of QUANTITIES, by cut."""
    points = operating_points(units, _cuts(units), rng=rng, n_bootstrap=n_bootstrap)
    ends = [[getattr(getattr(point, name), end) for name in QUANTITIES for end in ("low", "high")] for point in points]
    return [_plain(line) for line in ends]


def _cuts(units: Units) -> np.ndarray:
    """Thresholds (k + 1,) for k different scores: all called, then from the second lowest score on, ..., none called."""
    values = np.unique(units.score)
    return np.append(values, values[-1] + max(1e-6, 1e-6 * abs(values[-1])))


def _ratios(units: Units, rng: np.random.Generator, n_bootstrap: int) -> list[list[list[float | None]]]:
    """By cut, for PPV and NPV: the resamples in which it exists, and four likelihood ratios of theirs.

    PPV is 1 / (1 + r (1 - prevalence) / prevalence) with r = (1 - specificity) / sensitivity, and NPV alike with (1 -
    sensitivity) / specificity and the odds turned round: the larger r, the smaller the value, whatever the prevalence. So the
    limits of `alneval.prevalence.predictive_values` lie between the values of the same two neighboring resamples at each.
    """
    weights = np.concatenate(list(resamples(units, n_bootstrap, rng)))
    called = (units.score[:, None] >= _cuts(units)).astype(float)
    shares = []
    for members in (units.positive, ~units.positive):
        of_class = weights[:, members]
        shares.append(of_class @ called[members] / of_class.sum(axis=1, keepdims=True))
    sensitivity, false_rate = shares
    found = []
    for top, bottom in ((false_rate, sensitivity), (1 - sensitivity, 1 - false_rate)):
        with np.errstate(divide="ignore", invalid="ignore"):
            ordered = -np.sort(-(top / bottom), axis=0)  # the largest first, what does not exist last
        n = (~np.isnan(ordered)).sum(axis=0)
        places = [np.floor(np.maximum(n - 1, 0) * tail).astype(int) for tail in TAILS]
        at = np.array([place + step for place in places for step in (0, 1)])
        values = np.take_along_axis(ordered, np.minimum(at, np.maximum(n - 1, 0)), axis=0)
        found.append(np.vstack([n, values]).T)
    return [[_plain(each) for each in cut] for cut in zip(*found, strict=True)]


def _plain(values: Iterable[float]) -> list[float | None]:
    """As JSON has them; None for what is not finite."""
    return [float(f"{value:.12g}") if isfinite(value) else None for value in values]
