"""The pages of an evaluation: what `summary.md` says, its tables and figures, and the explorer, in report/ of its folder.

They show what `folder` writes beside them and link to it; nothing is copied.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath

import pandas as pd

from alneval.models import Evaluation
from alneval.site.explorer import explorer_data
from alneval.site.pages import Figure, Site, as_script, png_size, static_files, table_rows

FOLDER = "report"

FIGURES = {
    "auc_by_model": ("AUC of every model with its 95 % interval.", "Forest plot of AUCs.", "discrimination"),
    "precision_recall_": ("Precision against recall: {}.", "Precision-recall curves of {}.", "curves"),
    "roc_": ("ROC curves: {}.", "ROC curves of {}, each with its AUC in the legend.", "curves"),
    "calibration_": ("Calibration: {}.", "Calibration curves of {} with bands, around the diagonal.", "calibration"),
    "decision_curves_": ("Decision curves: {}.", "Net benefit of the models of {} by threshold.", "net_benefit"),
}
"""{how a figure's file begins: caption, what it shows, the table with its numbers}; {} is the study."""


def evaluation_pages(
    evaluation: Evaluation,
    provenance: str,
    shown: Mapping[str, pd.DataFrame],
    files: Mapping[str, pd.DataFrame | bytes | str],
    methods: Sequence[str],
) -> dict[str, str]:
    """{address in the evaluation's folder: HTML, style or script}.

    shown: {caption: table} of the first page; files: {address: content} of the tables and figures; methods: Markdown of one
    paragraph each, that begins with what it is about in bold.
    """
    data = explorer_data(
        evaluation.predictions,
        evaluation.discrimination,
        evaluation.calibration,
        seed=evaluation.seed,
        n_bootstrap=evaluation.n_bootstrap,
    )
    explorer = [("explorer.html", "Explorer")] if data["sets"] else []
    links = [("index.html", "Results"), *explorer, ("tables.html", "Tables")]
    whose = "patients, provenance not stated" if provenance == "not stated" else f"{provenance} patients"
    about = "Calculations on scores as they were given; how they were made is not examined."
    site = Site("Evaluation of predictions", provenance.replace(" ", "-"), whose, links, about)
    pictures = [_figure(name, files) for name in files if name.endswith(".png")]
    context = {
        "told": str(evaluation),
        "seed": evaluation.seed,
        "n_bootstrap": evaluation.n_bootstrap,
        "shown": {caption: table_rows(table) for caption, table in shown.items()},
        "warnings": evaluation.warnings,
        "figures": pictures,
        "methods": [text.removeprefix("**").split("**: ", 1) for text in methods],
    }
    tables = {name: table_rows(table) for name, table in files.items() if isinstance(table, pd.DataFrame)}
    explored = {"data": as_script(data), "lotteries": False, "what": "evaluation", "left_out": data["left_out"]}
    pages = {
        "index.html": site.page("index.html", "evaluation.html.j2", "Evaluation of predictions", **context),
        "tables.html": site.page("tables.html", "evaluation_tables.html.j2", "Tables", tables=tables),
    }
    if data["sets"]:
        pages["explorer.html"] = site.page("explorer.html", "explorer.html.j2", "Explorer", **explored)
    return {f"{FOLDER}/{name}": text for name, text in (pages | static_files()).items()}


def _figure(path: str, files: Mapping[str, pd.DataFrame | bytes | str]) -> Figure:
    name, vector = PurePosixPath(path).stem, path.replace(".png", ".svg")
    begins = next(begin for begin in FIGURES if name.startswith(begin))
    caption, alt, table = FIGURES[begins]
    study = name.removeprefix(begins)
    alt, caption, tables = alt.replace("{}", study), caption.replace("{}", study), [f"../{table}.csv"]
    return Figure(f"../{path}", alt, caption, tables, *png_size(files[path]), f"../{vector}" if vector in files else "")
