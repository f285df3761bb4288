"""The shell of every page, tables and figures as pages show them. What is on a page is the business of who makes it.

All text goes through Jinja's escaping: what a file says is shown as text, whatever it looks like.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd
from markupsafe import Markup

HERE = Path(__file__).parent
STATIC = ("site.css", "site.js", "evaluator.js", "explorer.js")
MOST_ROWS = 200
"""Rows of a table that a page shows; the file beside it holds all."""


@dataclass(frozen=True)
class Site:
    """What all pages of a site share. provenance: simulated, real or not stated; whose: that in words; links: (address, words)
    of the menu; about: a sentence for the foot; templates: folders beside this one's."""

    name: str
    provenance: str
    whose: str
    links: Sequence[tuple[str, str]]
    about: str
    templates: tuple[Path, ...] = ()

    def page(self, address: str, template: str, title: str, **context: Any) -> str:
        """HTML of the page that stands at `address`, counted from the site's folder."""
        root = "../" * address.count("/")
        page = address.rpartition("/")[2].removesuffix(".html")
        shared = {"site": self, "root": root, "here": address, "page": page, "title": title}
        return _environment(self.templates).get_template(template).render(shared | context)


@cache
def _environment(templates: tuple[Path, ...]) -> jinja2.Environment:
    loader = jinja2.FileSystemLoader([*templates, HERE / "templates"])
    return jinja2.Environment(
        loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )


def static_files(names: Sequence[str] = STATIC, folder: Path = HERE / "static") -> dict[str, str]:
    """{name: text} of style and scripts."""
    return {name: (folder / name).read_text(encoding="utf-8") for name in names}


@dataclass(frozen=True)
class TableRows:
    """A table as text. n_rows: of the whole table, of which lines may be the first."""

    columns: Sequence[str]
    lines: Sequence[Sequence[str]]
    n_rows: int


def table_rows(table: pd.DataFrame, most: int = MOST_ROWS) -> TableRows:
    """The first rows of a table as text: numbers with four significant digits, nothing where a value is missing."""
    lines = [[_cell(value) for value in row] for row in table.head(most).itertuples(index=False, name=None)]
    return TableRows([str(name) for name in table], lines, len(table))


def _cell(value: Any) -> str:
    if pd.isna(value):
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


@dataclass(frozen=True)
class Figure:
    """A picture on a page. image: its address from that page; alt: what it shows, for who cannot see it; caption: what it says;
    tables: addresses of the numbers behind it; width, height: in pixels; vector: address of the same drawing as SVG."""

    image: str
    alt: str
    caption: str
    tables: Sequence[str] = ()
    width: int = 0
    height: int = 0
    vector: str = ""


def png_size(content: bytes) -> tuple[int, int]:
    """Width and height in pixels, from the header."""
    return struct.unpack(">II", content[16:24])


def as_script(value: Any) -> Markup:
    """JSON that may stand inside a script element, whatever text it holds."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return Markup(text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029"))
