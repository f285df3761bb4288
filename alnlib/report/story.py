"""The five studies in five paragraphs, made from the ledger and the tables beside it: said, found, true, to take away.

`story` is the whole of it (report/summary.md of a run), `short_story` the same in a few sentences each (README).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd

from alneval.estimate import format_interval
from alnlib.report.claims import CANNOT, VERDICTS
from alnlib.studies import STUDIES, Study

FAR = 0.05
"""A model further than this below what its data allow has something left to learn. Our choice, as the margin of the ledger."""


def story(ledger: pd.DataFrame, design: pd.DataFrame) -> str:
    """Markdown, one paragraph per study of the ledger.

    ledger: report/claims.csv, with the columns of the population where there is one; design: report/design.csv (may be
    empty). A sentence stands only where its numbers are known; without claims one line says so.
    """
    if ledger.empty:
        return "No published study is rebuilt on these patients.\n"
    paragraphs = []
    for title, study, level, contrasts in _studies(ledger):
        parts = {
            "The paper": _said(study, level),
            "Here": _here(level, contrasts),
            "The truth": _true(level, contrasts),
            "To take away": _lesson(level, contrasts, _design_of(study, design)),
        }
        told = " ".join(f"*{name}:* {text}" for name, text in parts.items() if text)
        paragraphs.append(f"{title} {told}")
    return "\n\n".join(paragraphs) + "\n"


def short_story(ledger: pd.DataFrame, design: pd.DataFrame) -> str:
    """The same in short: published, found and true AUC of each study's own model, its verdicts, the power of its size.

    ledger, design: as in `story`; the ledger's main models are scored and judged on a population too.
    """
    paragraphs = []
    for title, study, level, contrasts in _studies(ledger):
        told = [f"The paper reports an AUC of {level['published_value']:.3f}. Here {_here(level, contrasts)}"]
        told.append(
            f"The model's true AUC is {level['population_value']:.3f}; its data allow {level['attainable']:.3f}."
        )
        told += [f"Of what was open, the population finds {_listed(found)}."] if (found := _decided(contrasts)) else []
        if len(asked := _design_of(study, design)):
            power = f"{100 * asked['power'].median():.0f} of 100"
            told.append(f"A test set of {asked['n_patients'].iloc[0]} patients finds such a difference {power} times.")
        paragraphs.append(f"{title} {' '.join(told)}")
    return "\n\n".join(paragraphs) + "\n"


def _studies(ledger: pd.DataFrame) -> Iterator[tuple[str, Study, dict[str, Any], pd.DataFrame]]:
    """Of each study of the ledger: its title in bold, itself, the row of its model's AUC, and its comparisons."""
    for letter, (key, of_study) in zip("ABCDE", ledger.groupby("study", sort=False), strict=False):
        study = STUDIES[key]
        levels = of_study.query("kind == 'level' and metric == 'AUC' and split == 'test'").to_dict("records")
        level = next((row for row in levels if row["claim"].startswith(f"{study.claims[0].better} ")), {})
        yield f"**{letter}. {study.title}** ({study.source}).", study, level, of_study[of_study["kind"] != "level"]


def _design_of(study: Study, design: pd.DataFrame) -> pd.DataFrame:
    """Rows on the study's test set with the best possible models."""
    if design.empty:
        return design
    return design[design["study"].eq(study.key) & design["scenario"].eq("attainable") & design["split"].eq("test")]


def _decided(contrasts: pd.DataFrame) -> list[str]:
    """What the population says of comparisons that the test set left open: "3 supported", ..."""
    judged = contrasts["population_verdict"].isin(VERDICTS[:3]) & contrasts["verdict"].eq("inconclusive")
    found = contrasts.loc[judged, "population_verdict"].value_counts()
    return [f"{found[verdict]} {verdict}" for verdict in VERDICTS[:3] if verdict in found]


def _known(row: Mapping[str, Any], name: str) -> bool:
    return bool(pd.notna(row.get(name)))


def _interval(row: Mapping[str, Any], name: str, ends: str = "") -> str:
    value, low, high = row[name], row.get(f"{ends or name}_low"), row.get(f"{ends or name}_high")
    return f"{value:.3f}" if pd.isna(low) else format_interval(value, low, high)


def _listed(words: list[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def _said(study: Study, level: Mapping[str, Any]) -> str:
    told = []
    if _known(level, "published_value"):
        reached = _interval(level, "published_value", "published")
        told = [f"{study.claims[0].better} reaches an AUC of {reached}."]
    for claim in study.claims:
        if claim.kind in ("better", "not different") and not any(claim.sentence.startswith(said[:-1]) for said in told):
            told.append(claim.sentence)
    return " ".join(told)


def _here(level: Mapping[str, Any], contrasts: pd.DataFrame) -> str:
    if not _known(level, "value"):
        return "not scored."
    who = f"{int(level['n_patients'])} {level['provenance']} test patients"
    reached = f"{_interval(level, 'value')} on {who}"
    counts = contrasts["verdict"].value_counts()
    told = [f"{counts[verdict]} {verdict}" for verdict in VERDICTS[:3] if verdict in counts]
    if not told:
        return f"{reached}; none of its {len(contrasts)} comparisons can be tested."
    left = [f"{counts[CANNOT]} cannot be tested"] if CANNOT in counts else []
    where = ", on internal and external patients," if contrasts["split"].nunique() > 1 else ""
    return f"{reached}; of {len(contrasts)} comparisons{where} {_listed(told + left)}."


def _true(level: Mapping[str, Any], contrasts: pd.DataFrame) -> str:
    told = [f"such data allow {level['attainable']:.3f} at best."] if _known(level, "attainable") else []
    if _known(level, "population_value") and _known(level, "value_low"):
        units = "patients" if level["n"] == level["n_patients"] else "nodes"
        inside = level["value_low"] <= level["population_value"] <= level["value_high"]
        told.append(
            f"The true AUC of this model, known from {int(level['population_n']):,} {units} of the population, is "
            f"{_interval(level, 'population_value')}, which the interval of its own test set {'holds' if inside else 'misses'}."
        )
        if found := _decided(contrasts):
            told.append(f"Of what its test set left open, the population finds {_listed(found)}.")
    return " ".join(told)


def _lesson(level: Mapping[str, Any], contrasts: pd.DataFrame, asked: pd.DataFrame) -> str:
    told = []
    if len(asked):
        size, several = asked.iloc[0], " (the median of its comparisons)" if len(asked) > 1 else ""
        origin = "the published size" if size["n_from"] == "published" else "the size here"
        told.append(
            f"a test set of {size['n_patients']} patients, {origin}, finds the difference that is there in "
            f"{100 * asked['power'].median():.0f} of 100 studies{several}, with the best possible models; for 80 it takes "
            f"{int(asked['n_80'].median()):,}."
        )
    elif len(contrasts) and contrasts["could_hold"].eq("same data").all():
        told.append(
            "both sides of its comparisons are shown the same data, so no cohort simulated here can tell them apart."
        )
    if _known(level, "population_value") and _known(level, "attainable"):
        left = level["attainable"] - level["population_value"]
        if left <= FAR:
            told.append("The model comes near to what its data hold.")
        elif level["population_value_high"] < level["attainable"]:
            told.append(f"The model stays {left:.3f} below what its data hold: so much is left to learn.")
    return " ".join(told)[:1].upper() + " ".join(told)[1:]
