"""The figures of a run with what they say, what they show, and the tables that hold their numbers (figures.yaml)."""

from __future__ import annotations

import io
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from PIL import Image

from alneval.site.pages import Figure, Site, png_size
from alnlib.pipeline.results import RunFolder
from alnlib.studies import STUDIES, title_of

KEY_FIGURES = ("claims.png", "auc_by_model.png")
"""The first of them that a run has stands on its front page."""


SCREEN_PX = 1300
"""Wider figures are halved."""


@dataclass(frozen=True)
class ShownFigure:
    """A figure with its file. vector: the SVG, where the site holds it too."""

    figure: Figure
    content: bytes
    vector: bytes = b""


@cache
def _described() -> dict[str, dict[str, Any]]:
    return yaml.safe_load(Path(__file__).with_name("figures.yaml").read_text(encoding="utf-8"))


def described(name: str, tables: Collection[str], root: str = "") -> tuple[str, str, list[str]]:
    """Caption, alt text and addresses of the tables (of those that there are) of a figure's file name, or a pattern of it."""
    pattern, entry = next((pattern, entry) for pattern, entry in _described().items() if fnmatch(name, pattern))
    before, _, after = pattern.partition("*")
    key = name.removesuffix(after).removeprefix(before).removesuffix(".png")
    words = title_of(key) if key in STUDIES else key.replace("_", " ").replace("mri", "MRI")
    files = [table.replace("{key}", key) for table in entry["tables"]]
    linked = [f"{root}tables/{table}" for table in files if table in tables]
    caption = entry["caption"].replace("{}", words)
    return caption[:1].upper() + caption[1:], entry["alt"].replace("{}", words), linked


def run_figures(
    run: RunFolder, tables: Collection[str], notes: Mapping[str, str], alone: bool = False
) -> dict[str, ShownFigure]:
    """{name: figure} of figures/ of a run, that tables lie behind, those of the front page first.

    notes: {name: what else its caption says}; alone: the site holds each SVG itself; else it leads to the run's figures/.
    """
    first = [run.folder / "figures" / name for name in KEY_FIGURES]
    paths = sorted((run.folder / "figures").glob("*.png"))
    paths = [path for path in first if path in paths] + [path for path in paths if path not in first]
    found = {}
    for path in paths:
        caption, alt, linked = described(path.name, tables)
        if not linked:
            continue
        content = _for_screen(path.read_bytes())
        origin = _described().get(path.name, {}).get("origin", run.label)
        caption = " ".join(filter(None, (caption, notes.get(path.name), f"{origin}.")))
        drawn = path.with_suffix(".svg")
        vector = f"{'' if alone else '../'}figures/{drawn.name}" if drawn.exists() else ""
        figure = Figure(f"figures/{path.name}", alt, caption, linked, *png_size(content), vector)
        found[path.name] = ShownFigure(figure, content, drawn.read_bytes() if alone and vector else b"")
    return found


def _for_screen(content: bytes) -> bytes:
    """A wide figure at half its dots per inch, as a screen shows it; that for print lies in the run's figures/."""
    if png_size(content)[0] <= SCREEN_PX:
        return content
    stream = io.BytesIO()
    with Image.open(io.BytesIO(content)) as picture:
        picture.convert("RGB").reduce(2).quantize(256, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE).save(
            stream, "PNG", optimize=True
        )
    return stream.getvalue()


def pages(site: Site, pictures: Mapping[str, ShownFigure]) -> dict[str, str | bytes]:
    """The page of all figures, and the files."""
    if not pictures:
        return {}
    made: dict[str, str | bytes] = {each.figure.image: each.content for each in pictures.values()}
    made |= {each.figure.vector: each.vector for each in pictures.values() if each.vector}
    shown = [each.figure for each in pictures.values()]
    return made | {"figures.html": site.page("figures.html", "figures.html.j2", "Figures", figures=shown)}
