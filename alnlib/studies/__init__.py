"""The five published systems as data: sizes, models, claims and published numbers, each with its source.

Published numbers stand in published.yaml alone. What is not in an abstract is None and shown as "not available"; how each
system is rebuilt, and what we chose where the abstract is silent, its notebook says.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import product
from pathlib import Path
from typing import Any

import yaml

ANY_COHORTS = "tang"
"""The study whose models (clinical, ultrasound, MRI, all fused) any cohort may have; of a user's own cohort they are filed
under the cohort's name instead."""

CLAIM_KINDS = ("better", "not different", "optimism", "level")
METRIC_NAMES = {"auc": "AUC", "accuracy": "accuracy", "sensitivity": "sensitivity", "specificity": "specificity"}


@dataclass(frozen=True)
class Published:
    """A published figure: value with its 95 % interval where one is given (None: not available), on a named split."""

    model: str
    split: str
    metric: str
    value: float | None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Claim:
    """A published statement that can be tested, in our words.

    kind, one of CLAIM_KINDS: "better": `better` exceeds `worse` in `metric` on `split`; "not different": the two were not
    told apart; "optimism": `better` is better on training than on `split`; "level": `better` reaches the published value.
    The last two have no `worse`. p: as printed, or None. difference, low, high: printed with the claim; None where the
    paper prints none (`published_difference` then takes it from the published values, if it follows from them).
    """

    better: str
    worse: str | None
    split: str
    metric: str = "auc"
    p: str | None = None
    kind: str = "better"
    sentence: str = ""
    difference: float | None = None
    low: float | None = None
    high: float | None = None

    def __post_init__(self) -> None:
        if self.kind not in CLAIM_KINDS:
            raise ValueError(f"kind must be one of {CLAIM_KINDS}, not {self.kind!r}")
        if (self.worse is None) != (self.kind in ("optimism", "level")):
            raise ValueError(f"a claim of kind {self.kind!r} {'has no' if self.worse else 'needs a'} second model")

    @property
    def sides(self) -> tuple[tuple[str, str], ...]:
        """(published model, split) of the one or two values that it is about."""
        if self.kind == "optimism":
            return (self.better, "train"), (self.better, self.split)
        return tuple((model, self.split) for model in (self.better, self.worse) if model)

    def __str__(self) -> str:
        if self.kind == "optimism":
            return f"{self.better} is better on training than on new patients"
        if self.kind == "level":
            return f"{self.better} reaches the published {METRIC_NAMES[self.metric]}"
        return f"{self.better} {'beats' if self.kind == 'better' else 'is not told apart from'} {self.worse}"


@dataclass(frozen=True)
class Model:
    """A published model and its rebuilt one.

    notebook: that rebuilds it; shown: what it sees, by the name under which a simulated cohort states the best AUC that
    could be reached; here: its names in our predictions, most likely first, because which network it is was chosen on our
    validation patients; role: in our predictions; joins: the published models whose scores it takes;
    comparator: our model of the same data that contrasts with this one are held to as well, none if empty.
    """

    name: str
    notebook: str
    shown: str
    here: tuple[str, ...]
    role: str = "main"
    joins: tuple[str, ...] = ()
    comparator: str = ""


@dataclass(frozen=True)
class Study:
    """One of the five systems.

    n: patients by cohort part as published; tested: {our split: patients that the paper tests}, where known; endpoint: column
    of patients.csv; contrasts: the published statements beside the levels that `published` gives; split_names: {our split:
    what the paper calls it}, where it differs.
    """

    key: str
    title: str
    source: str
    doi: str
    endpoint: str
    n: dict[str, int]
    models: tuple[Model, ...]
    published: tuple[Published, ...]
    contrasts: tuple[Claim, ...]
    split_names: dict[str, str] = field(default_factory=dict)
    tested: dict[str, int] = field(default_factory=dict)

    @property
    def claims(self) -> tuple[Claim, ...]:
        """The contrasts, and a claim of kind "level" for every published figure that has a value."""
        return self.contrasts + tuple(
            Claim(
                *(figure.model, None, figure.split, figure.metric),
                kind="level",
                sentence=f"The abstract gives this {METRIC_NAMES[figure.metric]}.",
            )
            for figure in self.published
            if figure.value is not None
        )

    def model(self, name: str) -> Model | None:
        """A model by its published name or by one that it has here; None if the study has no such model."""
        return next((model for model in self.models if name in (model.name, *model.here)), None)


def _study(
    key: str, models: list[dict], published: list[dict], contrasts: list[dict], **about: str | dict[str, Any]
) -> Study:
    """A study of published.yaml; a key that its class does not have is a TypeError."""
    return Study(
        key,
        models=tuple(
            Model(here=tuple(entry.pop("here", [entry["name"]])), joins=tuple(entry.pop("joins", ())), **entry)
            for entry in models
        ),
        published=tuple(
            Published(**entry | {"value": float(Fraction(str(entry["value"]))) if "value" in entry else None})
            for entry in published
        ),
        contrasts=tuple(
            Claim(worse=other, split=split, **entry)
            for entry in contrasts
            for split, other in product(entry.pop("splits", ["test"]), entry.pop("worse", [None]))
        ),
        **about,
    )


_CONTENT = yaml.safe_load(Path(__file__).with_name("published.yaml").read_text(encoding="utf-8"))

STUDIES: Mapping[str, Study] = {key: _study(key, **content) for key, content in _CONTENT.items()}

SHORT_NAMES = {study.key: study.source.split(",")[0] for study in STUDIES.values()}
"""First author and year, by study, such as "Tang 2025"."""

SHOWN_TO: dict[tuple[str, str], str] = {
    (study.key, name): model.shown
    for study in STUDIES.values()
    for model in study.models
    for name in (model.here[0], model.comparator)
    if model.role == "main" and name
}
"""{(study, main model or its comparator here): what it is shown}, by the names under which a simulated cohort states what can be
reached."""


def shown_to(study: str, model: str) -> str | None:
    """What a model of a study is shown, one of a candidate architecture too; None if that is not known."""
    known = STUDIES[study].model(model) if study in STUDIES else None
    return SHOWN_TO.get((study, model)) if known is None else known.shown


def general_study(studies: Iterable[str]) -> str:
    """Under which of the studies of predictions the models of ANY_COHORTS stand: its own, or the name of a user's cohort."""
    named = list(studies)
    return (
        ANY_COHORTS if ANY_COHORTS in named else next((study for study in named if study not in STUDIES), ANY_COHORTS)
    )


def title_of(study: str) -> str:
    """A study's subject and who published it, for headings; the key itself if it is none of the five."""
    known = STUDIES.get(study)
    return study if known is None else f"{known.title} (after {SHORT_NAMES[study]})"


def published_value(study: str, model: str, split: str, metric: str = "auc") -> Published | None:
    """The published figure of a model, ours or theirs by name.

    None if the study is silent on it, or unknown; an entry with value None is "not available" too.
    """
    if study not in STUDIES:
        return None
    named = STUDIES[study].model(model)
    wanted = (model if named is None else named.name, split, metric)
    return next((p for p in STUDIES[study].published if (p.model, p.split, p.metric) == wanted), None)


def published_difference(study: str, claim: Claim) -> Published | None:
    """The difference that a study published with a claim, or that follows from its published values; None if neither.

    A difference that only follows has no interval: the models were measured on the same patients, and how their errors go
    together is not published.
    """
    difference = claim.difference
    if difference is None:
        known = [published_value(study, *side, claim.metric) for side in claim.sides]
        if len(known) < 2 or any(figure is None or figure.value is None for figure in known):
            return None
        difference = round(known[0].value - known[1].value, 6)
    return Published(str(claim), claim.split, claim.metric, difference, claim.low, claim.high)
