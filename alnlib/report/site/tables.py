"""Every table of a run as a page, with its file beside it. Rows of patients stay in the run's folder."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

import pandas as pd

from alneval.site.pages import MOST_ROWS, Site, TableRows, table_rows
from alnlib.pipeline.results import RunFolder
from alnlib.pipeline.stages import STAGES

OF_PATIENTS = ("patient_id", "image_id", "unit_id")
"""How columns begin of tables that have rows about single patients."""

TELLING_ID = re.compile(r"(?=.*\d)(?=.*[A-Za-z_-]).{4,}")
"""Ids that cannot be meant otherwise; 7 or 0012 may be any number of a text."""

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


def telling_ids(run: RunFolder) -> re.Pattern[str] | None:
    """What finds the ids of a run's patients in a text; None where there are none that cannot be meant otherwise."""
    if not run.has("cohort/patients.csv"):
        return None
    ids = run.read_table("cohort/patients.csv")["patient_id"]
    telling = sorted((each for each in ids if TELLING_ID.fullmatch(each)), key=len, reverse=True)
    return re.compile("|".join(map(re.escape, telling))) if telling else None


def run_tables(run: RunFolder, ids: re.Pattern[str] | None = None) -> dict[str, ShownTable]:
    """{file: table} of the CSV files of a run that have no rows about patients, and name none; ids: of `telling_ids`."""
    makers = {made: stage.notebook for stage in STAGES for made in stage.makes}
    found = {}
    for path in sorted(run.folder.glob("*/*.csv")):
        file = path.relative_to(run.folder).as_posix()
        if file in NOT_SHOWN or file.startswith((".", "site/", "crops/", "checkpoints/", "failed/")):
            continue
        text = path.read_text(encoding="utf-8")
        if about_patients(text.partition("\n")[0].split(",")) or (ids is not None and ids.search(text)):
            continue
        rows = table_rows(run.read_table(file)) if text.strip() else table_rows(pd.DataFrame())
        page = f"tables/{file.removesuffix('.csv').replace('/', '-')}.html"
        found[file] = ShownTable(file, page, text, rows, makers.get(file, ""))
    return found


def pages(site: Site, shown: Mapping[str, ShownTable], notebooks: Collection[str]) -> dict[str, str]:
    """The list of tables, a page for each, and the files themselves; notebooks: that have a page."""
    if not shown:
        return {}
    made = {f"tables/{file}": table.text for file, table in shown.items()}
    for file, table in shown.items():
        context = {"table": table, "csv": file, "most": MOST_ROWS, "notebooks": notebooks}
        made[table.page] = site.page(table.page, "table.html.j2", file, **context)
    folders: dict[str, list[ShownTable]] = {}
    for file, table in shown.items():
        folders.setdefault(file.partition("/")[0], []).append(table)
    made["tables.html"] = site.page("tables.html", "tables.html.j2", "Tables", folders=folders)
    return made
