"""Executed notebooks as pages: prose, figures and tables as they stand, code folded. Rows of patients are left out.

The renderers of nbconvert make HTML of prose and code. Nothing else of a notebook is taken for HTML: of the tables of pandas
the cells are read and written anew, and a patient's name is shown as text wherever it stands.
"""

from __future__ import annotations

import ast
import base64
import hashlib
import io
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bs4 import BeautifulSoup
from markupsafe import Markup
from nbconvert.filters import Highlight2HTML, strip_ansi
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath
from PIL import Image

from alneval.site.pages import Figure, Site, png_size
from alnlib.pipeline.parameters import cell_source, declared_parameters, read_notebook
from alnlib.pipeline.stages import find_stage
from alnlib.report.site.figures import ShownFigure, described
from alnlib.report.site.tables import ShownTable, about_patients

LEFT_OUT = "Rows of patients are left out of the report; they stand in the executed notebook of the run."
MACHINE_PATH = re.compile(r'^data = "(?:/|[A-Za-z]:).*"\n?', re.MULTILINE)
"""The parameter that says where the cohort's files lay on the machine that ran the notebook."""

LARGEST_PNG = 100_000
"""Bytes; beyond it a picture is one of images, whose noise a PNG holds grain by grain."""

SAVED = re.compile(r'"([\w{}.()]+\.png)"')
"""A figure's file name in the source of a cell; in braces what stands for a study or a modality."""
RELATIVE_LINK = re.compile(r'<a href="(?!https?://|#)[^"]*">(.*?)</a>', re.DOTALL)


@dataclass(frozen=True)
class Piece:
    """A part of a cell as the page shows it. kind: prose, code, text, table or figure; content: Markup, text, rows or Figure."""

    kind: str
    content: Any
    label: str = ""


def pages(
    site: Site,
    executed: Sequence[Path],
    tables: Mapping[str, ShownTable],
    figures: Mapping[str, ShownFigure],
    ids: re.Pattern[str] | None,
) -> dict[str, str | bytes]:
    """The list of notebooks, a page for each, and those of their pictures that are not among `figures`; ids: of `telling_ids`."""
    if not executed:
        return {}
    made: dict[str, str | bytes] = {}
    listed = []
    for path in executed:
        address = f"notebooks/{path.stem}.html"
        pieces, pictures = _pieces(read_notebook(path), tables, figures, ids)
        made |= pictures
        stage = find_stage(path.stem)
        files = [each for each in tables.values() if each.stage == path.stem]
        title = f"{path.stem[:2]} · {stage.title}" if stage else path.stem
        listed.append((address, title))
        made[address] = site.page(address, "notebook.html.j2", title, pieces=pieces, files=files)
    made["notebooks.html"] = site.page("notebooks.html", "notebooks.html.j2", "Notebooks", listed=listed)
    return made


def parameters(path: Path) -> dict[str, Any]:
    """Those that a notebook was executed with: its own and those that the runner put behind them."""
    notebook = read_notebook(path)
    found = declared_parameters(notebook, path.name)
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code" and cell_source(cell).startswith("# Parameters"):
            for statement in ast.parse(cell_source(cell)).body:
                found[statement.targets[0].id] = ast.literal_eval(statement.value)
    return found


def rendered_markdown(text: str) -> Markup:
    """HTML of Markdown, in which HTML is text and links to files are none."""
    made = MarkdownWithMath(renderer=IPythonRenderer(escape=True, exclude_anchor_links=True)).render(text)
    made = RELATIVE_LINK.sub(r"\1", made)  # files of the repository are not beside the page
    return Markup(made.replace("<th></th>", "<td></td>"))  # a head without words is none


def _pieces(
    notebook: Mapping[str, Any],
    tables: Collection[str],
    figures: Mapping[str, ShownFigure],
    ids: re.Pattern[str] | None,
) -> tuple[list[Piece], dict[str, bytes]]:
    pieces: list[Piece] = []
    pictures: dict[str, bytes] = {}
    said = ""
    for cell in notebook["cells"]:
        source = cell_source(cell)
        if cell["cell_type"] == "markdown":
            said = source
            pieces.append(Piece("prose", rendered_markdown(source)))
            continue
        if source.strip():
            pieces.append(Piece("code", Markup(Highlight2HTML()(MACHINE_PATH.sub("", source))), _first_line(source)))
        for output in cell["outputs"]:
            for piece in _shown(output, source, said, tables, figures, pictures):
                hidden = ids is not None and piece.kind == "text"
                pieces.append(Piece("text", ids.sub("[patient]", piece.content)) if hidden else piece)
    return pieces, pictures


def _first_line(source: str) -> str:
    lines = [line for line in source.splitlines() if line.strip()]
    return f"{len(lines)} line{'s' if len(lines) > 1 else ''} of code"


def _shown(
    output: Mapping[str, Any],
    source: str,
    said: str,
    tables: Collection[str],
    figures: Mapping[str, ShownFigure],
    pictures: dict[str, bytes],
) -> list[Piece]:
    data = output.get("data", {})
    if "image/png" in data:
        saved = SAVED.search(source[source.find("save_figure") :]) if "save_figure" in source else None
        file = re.sub(r"\{[^}]*\}", "*", saved[1]) if saved else "*.png"
        if file in figures:
            figure = figures[file].figure
            addresses = [f"../{address}" for address in figure.tables]
            places = {"image": f"../{figure.image}", "vector": figure.vector and f"../{figure.vector}"}
            return [Piece("figure", replace(figure, tables=addresses, **places))]
        content = base64.b64decode("".join(data["image/png"]))
        size, suffix = png_size(content), "png"
        if len(content) > LARGEST_PNG:
            content, suffix = _as_jpeg(content), "jpg"
        name = f"notebooks/pictures/{hashlib.sha256(content).hexdigest()[:16]}.{suffix}"
        pictures[name] = content
        caption, alt, linked = described(file, tables, "../")
        if "*" in file:  # one of several, or one that is in no file: the prose before it says what it is
            caption, alt = _sentence(said), f"Figure to: {_sentence(said)}"
        return [Piece("figure", Figure(f"../{name}", alt, caption, linked, *size))]
    if "text/html" in data:
        return [_table(BeautifulSoup("".join(data["text/html"]), "html.parser"), _sentence(said))]
    if "text/markdown" in data:
        return [Piece("prose", rendered_markdown("".join(data["text/markdown"])))]
    text = output.get("text") or data.get("text/plain") or output.get("traceback", "")
    return [Piece("text", strip_ansi("".join(text)).rstrip())] if "".join(text).strip() else []


def _as_jpeg(content: bytes) -> bytes:
    stream = io.BytesIO()
    with Image.open(io.BytesIO(content)) as picture:
        flat = Image.new("RGB", picture.size, "white")
        rgba = picture.convert("RGBA")
        flat.paste(rgba, mask=rgba.getchannel("A"))
    flat.save(stream, "JPEG", quality=88, optimize=True)
    return stream.getvalue()


def _table(soup: BeautifulSoup, caption: str) -> Piece:
    """Rows of (is a heading, text, columns, rows) of a table of pandas; text if there is none, or if it is about patients."""
    if soup.table is None:
        return Piece("text", soup.get_text())
    lines = [
        [
            (cell.name == "th", cell.get_text(), int(cell.get("colspan", 1)), int(cell.get("rowspan", 1)))
            for cell in line.find_all(["th", "td"])
        ]
        for line in soup.table.find_all("tr")
    ]
    if about_patients(text for line in lines for heading, text, *_ in line if heading):
        return Piece("text", LEFT_OUT)
    n_head = len(soup.table.thead.find_all("tr")) if soup.table.thead else 1
    head, body = lines[:n_head], lines[n_head:]
    numbered = [line[0][1] for line in body if line and line[0][0]] == [str(place) for place in range(len(body))]
    if numbered and n_head == 1:  # the index that pandas gives when there is none
        head, body = [line[1:] for line in head], [line[1:] for line in body]
    return Piece("table", (head, body), caption)


def _sentence(prose: str) -> str:
    """The first sentence of the last paragraph, without its marks."""
    paragraph = prose.strip().rpartition("\n\n")[2]
    plain = re.sub(r"[*`#|]|\[([^\]]*)\]\([^)]*\)", r"\1", paragraph).replace("\n", " ")
    return re.split(r"(?<=[.?]) ", plain.strip())[0].rstrip(":") or "output"
