"""The inclusion flow of a study: who was excluded, why and how many remained, as a table and as a STARD-style diagram.

The criteria themselves are written out in the cohort notebook; tables of characteristics are in `alneval.table_one`.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import pandas as pd
from matplotlib.patches import FancyBboxPatch

from alneval.style import SPLIT_NAMES, sentence
from alnlib.cohorts.schema import MODALITY_WORDS, Endpoint

COUNTS = ("remaining_positive", "remaining_negative", "remaining_unknown")
FLOW_COLUMNS = ("step", "description", "reason", "excluded", "remaining", *COUNTS)


@dataclass
class InclusionFlow:
    """Counts patients through the inclusion steps.

    endpoint: column whose 1 and 0 are counted at each step, if given. start: what the first box says.
    """

    endpoint: str | None = None
    start: str = "Patients in the source"
    _steps: list[dict] = field(default_factory=list, repr=False)
    _remaining: frozenset[str] | None = field(default=None, repr=False)

    def record(self, description: str, before: pd.DataFrame, after: pd.DataFrame, reason: str = "") -> InclusionFlow:
        """Note that the patients of `before` who meet `description` are those of `after`; return the flow.

        before, after: frames with patient_id (a patient with several rows counts once). reason: why the others were left
        out, for the box beside the arrow; "not: description" if empty. Raises ValueError if `after` holds patients that
        `before` does not, or if `before` is not what the previous step left.
        """
        ids_before, ids_after = frozenset(before["patient_id"]), frozenset(after["patient_id"])
        if not ids_after <= ids_before:
            raise ValueError(f"step {description!r} adds {len(ids_after - ids_before)} patients")
        if self._remaining is None:
            self._count(self.start, "", 0, before)
        elif ids_before != self._remaining:
            raise ValueError(
                f"step {description!r} starts with {len(ids_before)} patients; the last step left {len(self._remaining)}"
            )
        self._count(description, reason or f"not: {description}", len(ids_before) - len(ids_after), after)
        self._remaining = ids_after
        return self

    def to_frame(self) -> pd.DataFrame:
        """FLOW_COLUMNS, one row per step; the COUNTS are by endpoint, and <NA> where no endpoint was named."""
        frame = pd.DataFrame(self._steps, columns=list(FLOW_COLUMNS[1:]))
        frame.insert(0, "step", range(len(frame)))
        return frame.astype(dict.fromkeys(COUNTS, "Int64"))

    def _count(self, description: str, reason: str, excluded: int, patients: pd.DataFrame) -> None:
        patients = patients.drop_duplicates("patient_id")
        step = {"description": description, "reason": reason, "excluded": excluded, "remaining": len(patients)}
        if self.endpoint in patients.columns:
            labels = patients[self.endpoint]
            step |= dict(zip(COUNTS, [(labels == 1).sum(), (labels == 0).sum(), labels.isna().sum()], strict=True))
        self._steps.append(step)


def why_unknown(patients: pd.DataFrame, endpoints: Mapping[str, Endpoint], endpoint: str) -> str:
    """Why patients have no value of an endpoint: not known, and how many of them have another endpoint of the cohort.

    patients: with the endpoints' columns; endpoints: {column: what it is}.
    """
    without = patients[patients[endpoint].isna()]
    counts = {described.label.lower(): int(without[name].notna().sum()) for name, described in endpoints.items()}
    others = [f"of {count} another study's endpoint is known ({label})" for label, count in counts.items() if count]
    return "; ".join([f"{endpoints[endpoint].label} not known", *others])


def plot_flow(
    flow: InclusionFlow,
    ax,
    *,
    splits: pd.DataFrame | None = None,
    imaged: Mapping[str, int] = MappingProxyType({}),
    positive: str = "positive",
    negative: str = "negative",
):
    """Draw the flow as boxes from top to bottom, exclusions to the right, the splits (if given) side by side at the foot.

    splits: patient_id, split and, to show classes, the flow's endpoint. positive, negative: what 1 and 0 are called. imaged:
    {modality: patients with such images} of those who remain, in a last box: every study takes those who have what it reads.
    Draws on `ax`, whose frame it hides, and returns it; a figure of 8 x (0.6 + 1.3 per row of boxes) inches suits.
    """
    main_center, main_width = 3.1, 5.6
    side_left, side_width = 6.4, 3.6
    gap = 0.5
    ax.set_axis_off()
    ax.set_xlim(0, 10.1)

    top, bottoms = 0.0, []
    for step in flow.to_frame().itertuples():
        lines = _step_lines(step, positive, negative)
        side = textwrap.wrap(step.reason, 32)
        if step.step:
            top -= max(gap, (len(side) + 1) * _LINE + _PADDING + 0.12) if step.excluded else gap
            _arrow(ax, main_center, bottoms[-1], main_center, top)
            if step.excluded:
                middle = (bottoms[-1] + top) / 2
                _arrow(ax, main_center, middle, side_left, middle)
                height = (len(side) + 1) * _LINE + _PADDING
                side_lines = [f"Excluded: n = {step.excluded:,}", *side]
                _box(ax, side_left, middle + height / 2, side_width, height, side_lines, "#f6f1ea", "#a88a5a")
        height = len(lines) * _LINE + _PADDING
        _box(ax, main_center - main_width / 2, top, main_width, height, lines, "#e8f0f8", "#4a78a8")
        bottoms.append(top - height)
        top -= height

    if splits is not None:
        present = [split for split in SPLIT_NAMES if (splits["split"] == split).any()]
        texts = [
            _split_lines(sentence(SPLIT_NAMES[split]), splits[splits["split"] == split], flow, positive, negative)
            for split in present
        ]
        space = 0.25
        width = min(2.9, (10 - space * (len(present) - 1)) / len(present))
        span = width * len(present) + space * (len(present) - 1)
        left = max(0.05, min(main_center - span / 2, 10.05 - span))
        bar, top = top - gap / 2, top - gap
        centers = [left + width / 2 + at * (width + space) for at in range(len(present))]
        spread = [*centers, main_center]
        ax.plot([main_center, main_center], [bottoms[-1], bar], color=_INK, linewidth=1.1)
        ax.plot([min(spread), max(spread)], [bar, bar], color=_INK, linewidth=1.1, solid_capstyle="projecting")
        height = max(len(lines) for lines in texts) * _LINE + _PADDING
        for center, lines in zip(centers, texts, strict=True):
            _arrow(ax, center, bar, center, top)
            _box(ax, center - width / 2, top, width, height, lines, "#e9f3ea", "#5a9467")
        top -= height
    if imaged:
        known = [modality for modality in MODALITY_WORDS if modality in imaged]
        order = known + [modality for modality in imaged if modality not in known]
        counts = [f"{MODALITY_WORDS.get(name, name)} {imaged[name]:,}".replace(" ", "\xa0") for name in order]
        lines = [
            "Patients with images; a study takes those who have what it reads:",
            *textwrap.wrap("; ".join(counts), 92),
        ]
        top -= gap / 2
        _box(ax, 0.05, top, 10, len(lines) * _LINE + _PADDING, lines, "#f4f4f4", "#9a9a9a")
        top -= len(lines) * _LINE + _PADDING
    ax.set_ylim(top - 0.05, 0.05)
    return ax


_LINE = 0.24
_PADDING = 0.24
_INK = "#555555"


def _step_lines(step, positive: str, negative: str) -> list[str]:
    lines = [*textwrap.wrap(step.description[:1].upper() + step.description[1:], 48), f"n = {step.remaining:,}"]
    if pd.notna(step.remaining_positive):
        counts = f"{step.remaining_positive:,} {positive}, {step.remaining_negative:,} {negative}"
        unknown = step.remaining_unknown
        lines += textwrap.wrap(counts + (f", {unknown:,} unknown" if unknown else ""), 52)
    return lines


def _split_lines(name: str, members: pd.DataFrame, flow: InclusionFlow, positive: str, negative: str) -> list[str]:
    members = members.drop_duplicates("patient_id")
    lines = [name, f"n = {len(members):,}"]
    if flow.endpoint in members.columns:
        labels = members[flow.endpoint]
        lines += [f"{(labels == 1).sum():,} {positive}", f"{(labels == 0).sum():,} {negative}"]
    return lines


def _box(ax, left: float, top: float, width: float, height: float, lines: list[str], color: str, edge: str) -> None:
    style = {"boxstyle": "round,pad=0,rounding_size=0.06", "mutation_aspect": 0.5, "linewidth": 1.0}
    ax.add_patch(FancyBboxPatch((left, top - height), width, height, facecolor=color, edgecolor=edge, **style))
    place = {"ha": "center", "va": "center", "fontsize": 8.5, "linespacing": 1.3, "color": "#1a1a1a"}
    ax.text(left + width / 2, top - height / 2, "\n".join(lines), **place)


def _arrow(ax, x0: float, y0: float, x1: float, y1: float) -> None:
    style = {"arrowstyle": "-|>", "color": _INK, "linewidth": 1.1, "shrinkA": 0, "shrinkB": 0}
    ax.annotate("", xy=(x1, y1), xytext=(x0, y0), arrowprops=style)
