"""Every table of a run as a page, with its file beside it. Rows of patients stay in the run's folder."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import pandas as pd

from alneval.site.pages import MOST_ROWS, Site, TableRows, table_rows
from alnlib.pipeline.results import RunFolder
from alnlib.pipeline.stages import STAGES

OF_PATIENTS = ("patient_id", "image_id", "unit_id")
"""How columns begin of tables that have rows about single patients."""

NOT_SHOWN = ("report/checklists.csv", "run_log.csv")
"""Tables that have a page of their own."""


@dataclass(frozen=True)
class ShownTable:
    """file: in the run's folder; page: its address in the site; text: of the file; rows: the first ones; stage: its maker."""

    file: str
    page: str
    text: str
    rows: TableRows
    stage: str


def about_patients(columns: Iterable[str]) -> bool:
    """Whether a table with these columns has rows about single patients."""
    return any(column.startswith(OF_PATIENTS) for column in columns)


def run_tables(run: RunFolder) -> dict[str, ShownTable]:
    """{file: table} of the CSV files of a run that hold no rows of patients."""
    makers = {made: stage.notebook for stage in STAGES for made in stage.makes}
    found = {}
    for path in sorted(run.folder.glob("*/*.csv")):
        file = path.relative_to(run.folder).as_posix()
        if file in NOT_SHOWN or file.startswith((".", "site/", "crops/", "checkpoints/", "failed/")):
            continue
        text = path.read_text(encoding="utf-8")
        if about_patients(text.partition("\n")[0].split(",")):
            continue
        rows = table_rows(run.read_table(file)) if text.strip() else table_rows(pd.DataFrame())
        page = f"tables/{file.removesuffix('.csv').replace('/', '-')}.html"
        found[file] = ShownTable(file, page, text, rows, makers.get(file, ""))
    return found


def pages(site: Site, shown: Mapping[str, ShownTable]) -> dict[str, str]:
    """The list of tables, a page for each, and the files themselves."""
    if not shown:
        return {}
    made = {f"tables/{file}": table.text for file, table in shown.items()}
    for file, table in shown.items():
        context = {"table": table, "csv": file, "most": MOST_ROWS}
        made[table.page] = site.page(table.page, "table.html.j2", file, **context)
    folders: dict[str, list[ShownTable]] = {}
    for file, table in shown.items():
        folders.setdefault(file.partition("/")[0], []).append(table)
    made["tables.html"] = site.page("tables.html", "tables.html.j2", "Tables", folders=folders)
    return made
