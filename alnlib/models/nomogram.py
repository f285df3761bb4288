"""The nomogram of a fitted clinical model: its point scales, and the figure.

The model itself lives in `alnlib.models.clinical`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted

from alneval.style import PALETTE

TOTAL_AXIS = "Total points"
PROBABILITY_AXIS = "Probability"
PROBABILITIES = (0.01, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99)
SCALE_COLUMNS = ("axis", "unit", "value", "label", "points")


def nomogram_scales(model: Pipeline, axis_values: Mapping[str, Sequence[float]] | None = None) -> pd.DataFrame:
    """Point scales of a fitted `clinical_pipeline`: axis, unit, value, label, points.

    One axis per selected variable, in the order of the model: every level, or round values within the training range of a
    continuous variable (axis_values: {label: values} to choose others). The widest effect spans 0-100 points, the others in
    proportion, each from 0. Then "Total points" (points = value) and "Probability" (points = the total that gives it, within
    what can be reached). unit and value are empty for levels. Harrell 2015, Regression Modeling Strategies, 2nd ed., chapter
    11; the points are those of rms::nomogram. Raises ValueError if no variable was selected.
    """
    encoder, logistic = model.named_steps["encode"], model.named_steps["model"]
    check_is_fitted(logistic, "coef_")
    design = encoder.design_
    effects: list[tuple[str, str, list[float], list[str], np.ndarray]] = []
    for column, variable in encoder.clinical.items():
        features = design.loc[design["column"] == column]
        slopes = logistic.coef_[features["feature"]]
        if variable.label not in logistic.selected_variables_ or not slopes.any():
            continue
        if variable.kind == "continuous":
            low, high = encoder.ranges_[column]
            values = [float(v) for v in (axis_values or {}).get(variable.label, _round_values(low, high))]
            labels = [f"{value:g}" for value in values]
            effects.append((variable.label, variable.unit or "", values, labels, slopes.iloc[0] * np.asarray(values)))
        else:
            labels = [variable.levels[0], *features["level"]]
            effects.append((variable.label, "", [np.nan] * len(labels), labels, np.concatenate([[0.0], slopes])))
    if not effects:
        raise ValueError("the model has no variables: there is nothing to draw in a nomogram")

    points_per_logit = 100 / max(np.ptp(effect) for *_, effect in effects)
    rows = []
    for axis, unit, values, labels, effect in effects:
        points = (effect - effect.min()) * points_per_logit
        rows += [(axis, unit, *row) for row in zip(values, labels, points, strict=True)]
    largest = sum(np.ptp(effect) for *_, effect in effects) * points_per_logit
    # The linear predictor at zero points: every variable at its least harmful value.
    baseline = logistic.intercept_ + sum(effect.min() for *_, effect in effects)
    totals = _round_values(0, largest)
    rows += [(TOTAL_AXIS, "", float(total), f"{total:g}", float(total)) for total in totals]
    for probability in PROBABILITIES:
        points = (np.log(probability / (1 - probability)) - baseline) * points_per_logit
        if 0 <= points <= largest:
            rows.append((PROBABILITY_AXIS, "", probability, f"{probability:g}", points))
    return pd.DataFrame(rows, columns=list(SCALE_COLUMNS))


def plot_nomogram(scales: pd.DataFrame, ax: Axes, outcome: str = "Probability", color: str = PALETTE[0]) -> Axes:
    """Draw `nomogram_scales` on `ax`: points above, a line per variable, total points and probability below.

    outcome: name of the probability axis, such as "Probability of nodal metastasis". The caller sizes the figure: about 0.5
    inch per line and 8 inches of width keep labels apart. Crowded labels change to below their line, then a step higher.
    """
    variables = [axis for axis in scales["axis"].unique() if axis not in (TOTAL_AXIS, PROBABILITY_AXIS)]
    points_row = pd.DataFrame({"label": [f"{p}" for p in range(0, 101, 10)], "points": np.arange(0, 101, 10.0)})
    totals = scales[scales["axis"] == TOTAL_AXIS]
    probabilities = scales[scales["axis"] == PROBABILITY_AXIS]
    reach = max(float(totals["points"].max()), float(probabilities["points"].max()) if len(probabilities) else 0.0, 1.0)
    n_lines = len(variables) + 3
    names = [*variables, outcome]
    inches = ax.figure.get_figwidth() - 0.095 * max(map(len, names)) - 0.5  # what the names of the lines leave
    character = 0.08 / max(inches, 1.0)  # width of a 9-point character as a fraction of the axes

    for x in np.linspace(0, 1, 11):
        ax.plot([x, x], [n_lines - 1, 2], color="#e3e7ec", linewidth=0.8, zorder=0)
    lines = [("Points", points_row, 100.0, "#404040")]
    for axis in variables:
        rows = scales[scales["axis"] == axis]
        unit = rows["unit"].iloc[0]
        lines.append((f"{axis} ({unit})" if unit else axis, rows, 100.0, color))
    lines += [(TOTAL_AXIS, totals, reach, "#404040"), (outcome, probabilities, reach, PALETTE[3])]
    for position, (name, rows, full, line_color) in enumerate(lines):
        height = n_lines - 1 - position
        if len(rows):
            _draw_scale(ax, rows["points"].to_numpy() / full, list(rows["label"]), height, line_color, character)
        ax.text(-0.03, height, name, ha="right", va="center", fontsize=10, color=line_color, fontweight="bold")
    ax.axhline(1.52, color="#b8c0c8", linewidth=0.8, linestyle=(0, (3, 3)))
    ax.set_xlim(-0.005, 1.005)
    ax.set_ylim(-0.6, n_lines - 0.4)
    ax.set_axis_off()
    return ax


def _draw_scale(ax: Axes, x: np.ndarray, labels: list[str], height: float, color: str, character: float) -> None:
    """One line with ticks at x (fractions of the width); labels never overlap one another on the same side."""
    ax.plot([x.min(), x.max()], [height, height], color=color, linewidth=1.6, solid_capstyle="butt")
    places = ((0.2, "bottom", 0.13), (-0.2, "top", -0.13), (0.44, "bottom", 0.4))
    ends = [-np.inf] * len(places)
    for i in np.argsort(x, kind="stable"):
        half = (len(labels[i]) / 2 + 0.4) * character
        side = next((k for k in range(len(places)) if x[i] - half >= ends[k]), len(places) - 1)
        offset, alignment, tick = places[side]
        ax.plot([x[i], x[i]], [height, height + tick], color=color, linewidth=1.1)
        # A long label at the left end starts at its tick, clear of the name of the line.
        left = x[i] - half < -0.02
        place, align = (x[i] - 0.01, "left") if left else (x[i], "center")
        ends[side] = place + 2 * half if left else x[i] + half
        ax.text(place, height + offset * 0.9, labels[i], ha=align, va=alignment, fontsize=9, color="#222222")


def _round_values(low: float, high: float) -> list[float]:
    """Between four and nine round numbers inside [low, high]."""
    ticks = MaxNLocator(nbins=8, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high)
    tolerance = 1e-9 * max(abs(low), abs(high), 1.0)
    inside = [float(tick) for tick in ticks if low - tolerance <= tick <= high + tolerance]
    return inside if len(inside) > 1 else [low, high]
