"""The stage table, stages.yaml, as values: which notebook needs what and makes what.

Running the table is the business of `alnlib.pipeline.runner`; what a file means, that of the notebook that makes it.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

NOT_COMMITTED = ("networks/", "features/", "models/")
"""Folders of what stages make that is too large to be committed with the results of the simulated demo, or tells the commit."""

NUMBERS = "report/numbers.json"
"""Every number that prose shows, gathered by the runner from the stages' numbers/NN_topic.json."""

ARITHMETIC = "report/arithmetic.json"
"""Whose processor and which arithmetic a run was computed with, written by the runner."""

STALE = "STALE.txt"
"""File of a run folder that says which of its files do not belong to the others; there only while some do not."""

ABOUT = re.compile(
    r"\w+ images( with a mask or box of the lesion)?|mask or box of the lesion on every \w+ image"
    r"|endpoint \w+ with both classes|clinical variables|feature table"
)
"""What a stage may ask of a cohort, in the words of `alnlib.pipeline.offer`."""


@dataclass(frozen=True)
class Stage:
    """One executed notebook of the pipeline; stages.yaml says what each field is."""

    notebook: str
    title: str
    needs: tuple[str, ...] = ()
    makes: tuple[str, ...] = ()
    reads_data: bool = False
    about: tuple[str, ...] = ()
    source: str = ""
    preset: Mapping[str, Any] = field(default_factory=dict, hash=False)

    @property
    def number(self) -> str:
        """The two digits that begin the notebook's name."""
        return self.notebook[:2]

    @property
    def source_notebook(self) -> str:
        """Name of the file in notebooks/, without .ipynb."""
        return self.source or self.notebook

    @property
    def predictions(self) -> tuple[str, ...]:
        """The predictions that it makes; a stage that makes some is one of models."""
        return tuple(made for made in self.makes if made.startswith("predictions/"))

    def lacks(self, offer: Collection[str]) -> str | None:
        """What the stage is about and the cohort does not have; None if the stage applies."""
        return next((need for need in self.about if need not in offer), None)


def _files(words: str, groups: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
    """The files that words of the table stand for."""
    files: list[str] = []
    for word in words.split():
        before, _, rest = word.partition("{")
        choices, _, after = rest.partition("}")
        files += groups.get(word, [before + choice + after for choice in choices.split(",")])
    return tuple(files)


def _read_table(path: Path) -> tuple[Stage, ...]:
    table = yaml.safe_load(path.read_text(encoding="utf-8"))
    groups = {name: _files(words, {}) for name, words in table["groups"].items()} | {"predictions": ()}
    stages = []
    for entry in table["stages"]:
        entry["needs"] = _files(entry.get("needs", ""), groups)
        entry["makes"] = (*_files(entry["makes"], groups), f"numbers/{entry['notebook']}.json")
        stages.append(Stage(**entry | {"about": tuple(entry.get("about", ()))}))
        groups["predictions"] += stages[-1].predictions
    return tuple(stages)


STAGES = _read_table(Path(__file__).with_name("stages.yaml"))


def check_table(stages: Sequence[Stage] = STAGES) -> None:
    """Raise ValueError unless names are unique and in order, every need has one maker, and that maker stands earlier."""
    numbers = [stage.number for stage in stages]
    if numbers != sorted(set(numbers)):
        raise ValueError(f"stage numbers must be unique and ascending: {numbers}")
    maker: dict[str, Stage] = {}
    for stage in stages:
        for need in stage.needs:
            if need not in maker:
                raise ValueError(f"{stage.notebook} needs {need}, which no earlier stage makes")
        for made in stage.makes:
            if made in maker:
                raise ValueError(f"{made} is made by both {maker[made].notebook} and {stage.notebook}")
            maker[made] = stage
        for words in stage.about:
            if not ABOUT.fullmatch(words):
                raise ValueError(
                    f"{stage.notebook} is about {words!r}, which no cohort offers; write it as other stages do"
                )


def makers_of(stage: Stage, stages: Sequence[Stage] = STAGES) -> tuple[Stage, ...]:
    """The stages that make what `stage` needs, in table order."""
    return tuple(other for other in stages if set(other.makes) & set(stage.needs))


def find_stage(number_or_name: str, stages: Iterable[Stage] = STAGES) -> Stage | None:
    """The stage called "22" or "22_ultrasound", or None."""
    return next((stage for stage in stages if number_or_name in (stage.number, stage.notebook)), None)
