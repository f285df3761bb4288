"""Reporting checklists filled from a run's files: what a file tells, what the authors must say, what was not done.

The items stand in `checklist_items/*.yaml`, in our own short words under their official numbers; what files tell is read
in `alnlib.report.facts`. Nothing here says that a study complies with a checklist: whether what is filled in suffices, only
a reader can judge.
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path

import jinja2
import pandas as pd
import yaml
from markupsafe import Markup

from alnlib.report.facts import FACTS, Fact

ITEMS = Path(__file__).parent / "checklist_items"
PAGE = Path(__file__).with_suffix(".html.jinja")
CHECKLISTS = ("tripod_ai", "claim", "clear", "metrics")

STATUSES = {
    "auto": "a file of this run holds it; the value and the file are given",
    "needs author": "only the authors can say it; what files hold on it is given",
    "not done": "no file of this run holds it; the remedy is given",
}
"""{status: what it means}"""

DISCLAIMER = (
    "This table does not say that a study complies with a checklist. It gathers what files tell about a run and names what "
    "they do not tell; whether that suffices, a reader must judge against the checklist itself. Items are paraphrased."
)

TABLE_COLUMNS = ("checklist", "number", "section", "topic", "status", "found", "files", "remaining")


@dataclass(frozen=True)
class Item:
    """One item of a checklist. facts: names in FACTS; author: what only the authors can say; not_done: why nothing is there."""

    number: str
    section: str
    topic: str
    facts: tuple[str, ...] = ()
    author: str = ""
    not_done: str = ""


@dataclass(frozen=True)
class Checklist:
    """A reporting checklist in our own words.

    about: what it is for; doi: of the paper that holds its wording; presumes: facts without which it is about nothing in a
    run (radiomics checklists presume features).
    """

    key: str
    title: str
    about: str
    version: str
    citation: str
    doi: str
    items: tuple[Item, ...]
    presumes: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.title} ({self.version})"


def read_checklist(key: str) -> Checklist:
    """A checklist by its name in CHECKLISTS.

    Raises ValueError for a number that stands twice, a fact that nobody reads, or an item that says neither where it is
    filled from nor who fills it.
    """
    content = yaml.safe_load((ITEMS / f"{key}.yaml").read_text(encoding="utf-8"))
    items = []
    for entry in content.pop("items"):
        unknown = set(entry) - {name.name for name in fields(Item)} | set(entry.get("facts", ())) - set(FACTS)
        if unknown:
            raise ValueError(f"{key}, item {entry['number']}: nobody knows {sorted(unknown)}")
        item = Item(**(entry | {"facts": tuple(entry.get("facts", ()))}))
        if bool(item.facts or item.author) == bool(item.not_done):
            raise ValueError(f"{key}, item {item.number}: give facts, author or both, or not_done alone")
        items.append(item)
    if len({item.number for item in items}) < len(items):
        raise ValueError(f"{key}: a number stands twice")
    presumes = tuple(content.pop("presumes", ()))
    if unknown := set(presumes) - set(FACTS):
        raise ValueError(f"{key} presumes {sorted(unknown)}, which nobody reads")
    return Checklist(**content, items=tuple(items), presumes=presumes)


def filled_checklist(checklist: Checklist, facts: Mapping[str, Fact | str]) -> pd.DataFrame:
    """One row per item, columns TABLE_COLUMNS.

    auto: all its facts are there and nothing is left to the authors; needs author: something is; not done: a fact is not
    there, no analysis is made, or nothing is there that the checklist presumes. remaining: what the authors add, or the
    remedy.
    """
    absent = [
        f"the checklist presumes it: {fact}" for name in checklist.presumes if isinstance(fact := facts[name], str)
    ]
    rows = []
    for item in checklist.items:
        found = [fact for name in item.facts if isinstance(fact := facts[name], Fact)]
        remedies = [fact for name in item.facts if isinstance(fact := facts[name], str)]
        if item.author:
            status, remaining = "needs author", [item.author, *remedies]
        elif item.not_done or remedies or absent:
            status, remaining = "not done", [item.not_done, *remedies, *absent]
        else:
            status, remaining = "auto", []
        what = (str(checklist), item.number, item.section, item.topic, status, "; ".join(fact.text for fact in found))
        files = ", ".join(dict.fromkeys(file for fact in found for file in fact.files))
        rows.append((*what, files, "; ".join(dict.fromkeys(text for text in remaining if text))))
    return pd.DataFrame(rows, columns=list(TABLE_COLUMNS))


def status_counts(table: pd.DataFrame) -> pd.DataFrame:
    """Items by checklist and status, and in all; table: rows of `filled_checklist` of one or several checklists."""
    counts = pd.crosstab(table["checklist"], table["status"]).reindex(
        index=table["checklist"].unique(), columns=list(STATUSES), fill_value=0
    )
    return counts.assign(items=counts.sum(axis=1)).rename_axis(columns=None).reset_index()


def checklist_page(checklists: Iterable[Checklist], table: pd.DataFrame, patients: str) -> str:
    """A self-contained HTML page: a legend, counts, and one section with an anchor (its key) per checklist.

    table: rows of `filled_checklist` of all of them; patients: whose results they are, such as `RunFolder.label`.
    """
    checklists = list(checklists)
    items = {
        checklist.key: [
            (section, rows.to_dict("records"))
            for section, rows in table[table["checklist"] == str(checklist)].groupby("section", sort=False)
        ]
        for checklist in checklists
    }
    page = jinja2.Environment(autoescape=True, finalize=_escaped, keep_trailing_newline=True)
    return page.from_string(PAGE.read_text(encoding="utf-8")).render(
        checklists=checklists,
        counts=status_counts(table),
        disclaimer=DISCLAIMER,
        items_of=items,
        patients=patients,
        statuses=STATUSES,
    )


def _escaped(value: object) -> Markup:
    return value if isinstance(value, Markup) else Markup(html.escape(str(value)))
