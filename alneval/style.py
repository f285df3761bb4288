"""The house style of every figure: palette, marks of splits, words for models and readers, headings, and how it is written.

What is drawn stands in the modules beside this one; nothing here knows of a number.
"""

from __future__ import annotations

import io
import re
import textwrap
from collections.abc import Iterable, Sequence

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.transforms import Bbox, ScaledTranslation

from alnlib.files import palette_png

PALETTE = tuple(sns.color_palette("colorblind", 10).as_hex())
"""Told apart under the common color vision deficiencies (after Wong 2011, Nat Methods 8:441)."""

INK, PALE, GUIDE = "#404040", "#8c8c8c", "#b3b3b3"
"""What was measured here; what stands back; lines of reference."""

PUBLISHED, POPULATION, ATTAINABLE, WARNING = PALETTE[4], PALETTE[1], PALETTE[2], PALETTE[3]
"""In every figure: published values (pink cross), the population (orange), the simulation's best (green), a leak (vermilion)."""

PUBLISHED_MARK = {"marker": "x", "color": PUBLISHED, "ms": 6, "mew": 2, "ls": "", "zorder": 5}
ATTAINABLE_MARK = {"marker": "|", "color": ATTAINABLE, "ms": 9, "mew": 2.2, "ls": "", "zorder": 3}

VERDICT_COLORS = {
    **{"supported": PALETTE[0], "inconclusive": "#737373", "not supported": PALETTE[3]},
    "cannot be tested here": "#9e9e9e",
}
"""Every verdict is written out as well."""

SPLIT_NAMES = {
    "train": "training",
    "validation": "validation",
    "test": "internal test",
    "external": "external test",
    "cross_validation": "cross-validation",
    "population": "population",
}
"""Splits as figures name them, in the order in which they are drawn."""

SPLIT_MARKS = {
    "train": "v",
    "validation": "P",
    "test": "s",
    "external": "^",
    "cross_validation": "o",
    "population": "D",
}
"""One mark per split in every figure; a cross is a published value."""

SPLIT_COLORS = {"test": INK, "external": PALETTE[0], "cross_validation": PALE, "population": POPULATION}
"""Where splits stand side by side in one panel; the marks say the same."""

FIXED_COLORS = {
    **{"clinical": 0, "clinical+": 1, "DL_US": 2, "DL_MRI": 3, "clinical (ridge)": 7},
    **{"DL_MRI+US": 9, "DL_MRI+US+Clinical": 4},
    **{"radiomics-LR": 0, "radiomics-MLP": 1, "DL-MLP": 2, "combined-MLP": 3},
    **{"radiomics": 1, "deep learning": 2, "DLR": 3},
    **{"TIN": 3, "R(2+1)D": 0, "ResNet-3D": 2, "static image": 7},
    **{"CT_FSC": 0, "CT_ASC": 1, "CT_FSC+ASC": 3},
}
"""Places in the palette that belong to a model wherever it is drawn, one line per study. Places repeat because models of
different studies never share axes."""

NETWORK_COLORS = {"resnet18": 0, "resnet50": 0, "densenet121": 1, "efficientnet_b0": 2}
"""Places that networks have where no model beside them has it."""

_FREE_PLACES = (0, 1, 2, 3, 9, 5, 4, 7, 8, 6)
"""The palette from its most distinct colors on: 4 and 6 are both pink, 8 is pale."""

MODEL_WORDS = {
    "clinical (ridge)": "clinical, ridge",
    "DL_US": "DL ultrasound",
    "DL_MRI": "DL MRI",
    "DL_MRI+US": "DL MRI + ultrasound",
    "DL_MRI+US+Clinical": "DL MRI + ultrasound + clinical",
    "radiomics-LR": "radiomics, logistic regression",
    "radiomics-MLP": "radiomics, MLP",
    "DL-MLP": "deep features, MLP",
    "combined-MLP": "radiomics + deep features, MLP",
    "DLR": "deep learning radiomics (DLR)",
    "CT_FSC": "fixed-size crop (FSC)",
    "CT_ASC": "adjustable square crop (ASC)",
    "CT_FSC+ASC": "both crops (FSC + ASC)",
    "DenseNet121 FSC+ASC": "DenseNet-121 on both crops",
    "DenseNet121 FSC": "DenseNet-121 on FSC",
    "DenseNet121 ASC": "DenseNet-121 on ASC",
    "DenseNet FSC": "DenseNet on FSC",
    "DenseNet ASC": "DenseNet on ASC",
    "ResNet FSC": "ResNet on FSC",
    "ResNet ASC": "ResNet on ASC",
    "EfficientNet FSC": "EfficientNet on FSC",
    "EfficientNet ASC": "EfficientNet on ASC",
    "resnet18": "ResNet-18",
    "resnet50": "ResNet-50",
    "densenet121": "DenseNet-121",
    "efficientnet_b0": "EfficientNet-B0",
}
"""Models whose names in tables are no words."""

_READER = re.compile(r"(?:(?P<of>[A-Za-z]+)_)?reader_(?P<who>[A-Za-z0-9]+)")

DASHES = ("-", (0, (5, 1.6)), (0, (1.2, 1.2)), (0, (6, 1.5, 1.5, 1.5)))
"""Line styles in the order in which models take them: solid, dashed, dotted, dash-dotted."""

DPI = 200
MAX_PIXELS = 60_000
"""A side of a figure: PNG writers stop at 65,536."""


def use_style() -> None:
    """Set the compendium's figure style; called in the second cell of every notebook that draws."""
    sns.set_theme(context="notebook", style="ticks", palette="colorblind", font_scale=0.82)
    plt.rcParams.update(
        {
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.titlelocation": "left",
            "axes.titlesize": "medium",
            "axes.titleweight": "bold",
            "legend.frameon": False,
            "legend.fontsize": "small",
            "figure.dpi": 80,
            "figure.constrained_layout.use": True,
            "svg.hashsalt": "alneval",  # the same identifiers in every run
        }
    )


def model_colors(models: Iterable[str]) -> dict[str, str]:
    """One color of PALETTE per name: that of FIXED_COLORS in every figure, then of NETWORK_COLORS if free, then what is left."""
    names = list(dict.fromkeys(models))
    places = {name: FIXED_COLORS[_family(name)] for name in names if _family(name) in FIXED_COLORS}
    for name in names:
        wanted = NETWORK_COLORS.get(name)
        if name not in places and wanted is not None and wanted not in places.values():
            places[name] = wanted
    free = [place for place in _FREE_PLACES if place not in places.values()] or list(_FREE_PLACES)
    others = [name for name in names if name not in places]
    places |= {name: free[order % len(free)] for order, name in enumerate(others)}
    return {name: PALETTE[places[name]] for name in names}


def model_dashes(models: Iterable[str]) -> dict[str, object]:
    """One line style per name: solid where colors tell all apart; a name whose color was taken before has the next of DASHES."""
    colors = model_colors(models)
    order = list(colors.values())
    return {name: DASHES[order[:at].count(color) % len(DASHES)] for at, (name, color) in enumerate(colors.items())}


def _family(model: str) -> str:
    """ "clinical+" for a clinical model with a reader, else the model's own name."""
    return model.split("+")[0] + "+" if model.startswith("clinical+") else model


def model_words(name: str) -> str:
    """A model or reader as figures name it: "DL_US" is "DL ultrasound", "clinical+reader_a" is "clinical + reader A".

    A stranger's name stays as it is, but dollars are no mathematics and a leading underscore hides no legend.
    """
    if name.startswith("clinical+") and _READER.fullmatch(name.removeprefix("clinical+")):
        return f"clinical + {model_words(name.removeprefix('clinical+'))}"
    if reader := _READER.fullmatch(name):
        of = reader["of"]
        return f"{of.upper() + ' ' if of else ''}reader {reader['who'].upper()}"
    escaped = MODEL_WORDS.get(name, name).replace("$", r"\$")
    return f" {escaped}" if escaped.startswith("_") else escaped


def pipeline_words(name: str, studies: dict[str, str]) -> str:
    """ "li_nat: radiomics" as "Li 2026: radiomics"; studies: {study: its short name}."""
    what, _, kind = name.partition(": ")
    return ": ".join(part for part in (studies.get(what, model_words(what)), model_words(kind)) if part)


def sentence(text: str) -> str:
    """With a capital letter, the rest as it is."""
    return text[:1].upper() + text[1:]


def head(ax: Axes, title: str, counts: str = "") -> Axes:
    """A bold title at the left and who stands behind the panel under it, so that neither runs into a neighbor."""
    lines = counts.count("\n") + 1 if counts else 0
    ax.set_title(title, pad=6 + 11.5 * lines)
    if counts:
        place = {"xycoords": "axes fraction", "textcoords": "offset points", "annotation_clip": False}
        ax.annotate(counts, (0, 1), (0, 5), fontsize=8, color=INK, va="bottom", ha="left", linespacing=1.2, **place)
    return ax


def legend_below(ax: Axes, title: str = "", points: float = 40) -> Axes:
    """The legend under the axes, `points` below them, where it covers nothing; long names take several lines."""
    spec = ax.get_subplotspec()
    inches = ax.figure.get_figwidth() / (spec.get_gridspec().ncols if spec else 1)
    handles, labels = ax.get_legend_handles_labels()
    labels = [folded(label, int((inches * 72 - 35) / 4.5)) for label in labels]
    below = ax.transAxes + ScaledTranslation(-34 / 72, -points / 72, ax.figure.dpi_scale_trans)
    place = {"loc": "upper left", "bbox_to_anchor": (0, 0), "bbox_transform": below, "borderaxespad": 0}
    style = {"title": title or None, "title_fontsize": "small", "handlelength": 2.0, "alignment": "left"}
    ax.legend(handles, labels, **place, **style)
    return ax


def folded(text: str, characters: int) -> str:
    """The text in lines of at most so many characters; breaks that it has stay."""
    lines = [part for line in text.splitlines() for part in textwrap.wrap(line, max(characters, 16)) or [""]]
    return "\n".join(lines)


def headline(figure: Figure, text: str) -> Figure:
    """The figure's own title, bold at the upper left, in as many lines as its width asks for.

    Called last: the figure grows by the lines that legends below the panels take beyond one a name.
    """
    legends = [ax.get_legend() for ax in figure.axes if ax.get_legend()]
    more = max((sum(t.get_text().count("\n") for t in legend.get_texts()) for legend in legends), default=0)
    rows = max((ax.get_subplotspec().get_gridspec().nrows for ax in figure.axes if ax.get_subplotspec()), default=1)
    figure.set_figheight(figure.get_figheight() + 0.15 * more * rows)
    words = folded(model_words(text), int(figure.get_figwidth() * 72 / 7.2))
    figure.suptitle(words, x=0.01, ha="left", fontsize=10.5, fontweight="bold")
    return figure


def beside(ax: Axes, place: float, text: str, points: float, *, edge: float = 1, **style: object) -> None:
    """A cell of a column of text beside a forest at the height `place`, points from an edge of the axes, 1 right and 0 left."""
    where = {"xycoords": ("axes fraction", "data"), "textcoords": "offset points", "annotation_clip": False}
    usual = {"va": "center", "ha": "left", "fontsize": 7.5, "color": INK}
    ax.annotate(text, (edge, place), (points, 0), **where, **usual | style)


def name_points(figure: Figure, names: Sequence[tuple[Axes, float, float, str, str]]) -> None:
    """Write a name beside each point (axes, x, y, name, color) where it covers no other name and, as far as can be, no point.

    Called when everything else is drawn: the figure is laid out, and each name takes the first free of the places about its
    point, from the nearest on, with a thin line where it stands far off.
    """
    figure.draw_without_rendering()
    marks: dict[Axes, np.ndarray] = {}
    taken: list[Bbox] = []
    for ax, x, y, name, color in names:
        if ax not in marks:
            spots = [line.get_xydata() for line in ax.lines if line.get_marker() not in ("None", None, "")]
            marks[ax] = ax.transData.transform(np.concatenate(spots))
        halo = [withStroke(linewidth=2.5, foreground="white")]
        style = {"fontsize": 7, "color": color, "zorder": 6, "textcoords": "offset points", "path_effects": halo}
        text = ax.annotate(name, (x, y), (0, 0), **style)
        best = None
        for far in (7, 14, 22, 30):
            for dx, dy, ha in _AROUND:
                text.set(ha=ha, va="center", position=(dx * far, dy * far))
                box = text.get_window_extent().expanded(1.02, 1.1)
                covered = 100 * sum(box.overlaps(other) for other in taken) + box.count_contains(marks[ax]) + far / 100
                covered += 100 * (not ax.bbox.padded(20).contains(*box.max) or not ax.bbox.padded(4).contains(*box.min))
                if best is None or covered < best[0]:
                    best = covered, dx * far, dy * far, ha
        _, dx, dy, ha = best
        text.set(ha=ha, position=(dx, dy))
        taken.append(text.get_window_extent())
        if max(abs(dx), abs(dy)) > 10:
            line = {"arrowstyle": "-", "color": color, "lw": 0.6, "shrinkA": 0, "shrinkB": 3}
            ax.annotate("", (x, y), (dx, dy), textcoords="offset points", arrowprops=line, zorder=5)


_AROUND = ((1, 0, "left"), (-1, 0, "right"), (1, 1, "left"), (-1, 1, "right"), (1, -1, "left"), (-1, -1, "right"))
_AROUND += ((0, 1.1, "center"), (0, -1.1, "center"))


def span(counts: Iterable[float]) -> str:
    """ "140", or "82 to 140" where they differ."""
    low, high = min(counts := list(counts)), max(counts)
    return f"{low:,.0f}" if low == high else f"{low:,.0f} to {high:,.0f}"


def figure_files(figure: Figure, label: str) -> dict[str, bytes]:
    """{suffix: bytes} of a finished figure, PNG at DPI dots an inch and SVG, `label` (whose patients) at the lower right.

    Neither holds a date or a version, so the same figure gives the same bytes.
    """
    figure.text(0.995, -0.01, model_words(label), ha="right", va="top", fontsize=7.5, color="0.35")
    dpi, written = min(DPI, MAX_PIXELS / max(figure.get_size_inches())), {}
    pixels = {"dpi": dpi, "pil_kwargs": {"compress_level": 1}}  # packed well once it has its palette
    for suffix, options in ((".png", pixels), (".svg", {"metadata": {"Date": None, "Creator": None}})):
        stream = io.BytesIO()
        figure.savefig(stream, format=suffix[1:], bbox_inches="tight", **options)
        figure.set_layout_engine("none")  # it is laid out; where it is drawn again, that is a third of the time
        written[suffix] = stream.getvalue()
    return written | {".png": palette_png(written[".png"])}
