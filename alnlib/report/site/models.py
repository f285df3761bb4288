"""Pages of the kept models, and the risk equations that a reader can put values into.

A model's card says what it is; the risk page computes with `static/risk.js` what `alnlib.kept` would, for equations and fusions.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isnan
from pathlib import Path
from typing import Any

import pandas as pd

from alneval.estimate import format_p
from alneval.figures import SPLIT_NAMES
from alneval.rows import estimate_text
from alneval.site.pages import Site, TableRows, as_script, static_files, table_rows
from alnlib.errors import InputError
from alnlib.kept.card import CARD
from alnlib.kept.equation import Equation
from alnlib.models.clinical import design_columns
from alnlib.models.fusion import CLIP, NOTHING
from alnlib.pipeline.results import RunFolder
from alnlib.studies import title_of

STATIC = Path(__file__).parent / "static"
NOMOGRAMS = {"models/clinical-clinical.html": "nomogram.png"}
"""{page of a kept equation: the figure that draws it}"""

NOT_TYPED = {
    "features": "Models on features of images, dozens of numbers that a program measures and nobody can type in",
    "network": "Networks, which read the pixels of images and have no variables at all",
}
"""{kind of a kept model: what it is, and so why it has no nomogram}"""

SCORE = "score"
"""Kind of an input that is a network's probability."""

SCORE_PREFIX = "logit "
"""How a fusion calls the variables that are scores."""


@dataclass(frozen=True)
class ShownCard:
    """A kept model. place: its folder, TOPIC/NAME; page: its address; results: how the run judged it, as text."""

    place: str
    page: str
    card: Mapping[str, Any]
    results: TableRows | None


def run_cards(run: RunFolder) -> list[ShownCard]:
    """The models that a run has kept. Raises InputError for a card that is damaged."""
    judged = None
    if run.has("evaluation/discrimination.csv"):
        judged = run.read_table("evaluation/discrimination.csv")
    found = []
    for path in sorted((run.folder / "models").glob(f"*/*/{CARD}")):
        try:
            card = json.loads(path.read_text(encoding="utf-8"))
            study, model = card["study"], card["model"]
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(f"{path} is no card of a kept model ({error!r}); run the stage that makes it") from error
        place = path.parent.relative_to(run.folder / "models").as_posix()
        found.append(ShownCard(place, f"models/{place.replace('/', '-')}.html", card, _results(judged, study, model)))
    return found


def _results(judged: pd.DataFrame | None, study: str, model: str) -> TableRows | None:
    rows = pd.DataFrame() if judged is None else judged[(judged["study"] == study) & (judged["model"] == model)]
    if rows.empty:
        return None
    table = pd.DataFrame({"patients": rows["split"].map(SPLIT_NAMES), "n": rows["n"], "positive": rows["n_positive"]})
    for name in ("auc", "sensitivity", "specificity", "ppv", "npv", "brier"):
        words = {"auc": "AUC", "ppv": "PPV", "npv": "NPV", "brier": "Brier score"}.get(name, name)
        table[words] = [estimate_text(row, name, 3) for row in rows.to_dict("records")]
    return table_rows(table)


def risk_models(run: RunFolder, cards: Sequence[ShownCard]) -> list[dict[str, Any]]:
    """What the risk page needs of every kept equation and fusion of equations, as JSON."""
    patients = run.read_table("cohort/patients.csv") if run.has("cohort/patients.csv") else pd.DataFrame()
    found = []
    for shown in cards:
        card = shown.card
        if card["kind"] not in ("equation", "fusion"):
            continue
        path = run.folder / "models" / shown.place / card["parameters"]["file"]
        given = json.loads(path.read_text(encoding="utf-8"))
        fused = card["kind"] == "fusion"
        equations = {name: Equation.of_json(each) for name, each in given["submodels"].items()} if fused else {}
        equations = equations or {"": Equation.of_json(given)}
        inputs: dict[str, dict[str, Any]] = {}
        for equation in equations.values():
            for name, variable in equation.variables.items():
                inputs[name] = _input(name, variable, patients)
        made: dict[str, Any] = {"name": card["model"], "study": title_of(card["study"]), "page": shown.page}
        made |= {"endpoint": card["endpoint"]["label"], "positive": card["endpoint"]["positive"]}
        made |= {"threshold": card["threshold"], "trained": card["trained_on"], "limits": card["limits"]}
        made |= {"inputs": list(inputs.values()), "clip": CLIP, "nothing": NOTHING}
        made |= {"equations": {name: _terms(each) for name, each in equations.items()}}
        made |= {"answers": given["answers"], "prevalence": given["prevalence"]} if fused else {}
        made |= {"why_one": {name: _why_one(run, shown.place, each) for name, each in equations.items()}}
        found.append(made)
    return found


def _input(name: str, variable: Any, patients: pd.DataFrame) -> dict[str, Any]:
    if variable.label == f"{SCORE_PREFIX}{name}":
        return {"key": name, "label": f"{name}: probability of the network", "kind": SCORE, "low": 0.01, "high": 0.99}
    made = {"key": name, "label": variable.label, "unit": variable.unit or "", "levels": list(variable.levels)}
    if variable.kind == "continuous":
        values = pd.to_numeric(patients[name], errors="coerce").dropna() if name in patients else pd.Series(dtype=float)
        low, high = variable.range or ((values.min(), values.max()) if len(values) else (0, 100))
        made |= {"low": float(low), "high": float(high)}
    return made | {"kind": variable.kind}


def _terms(equation: Equation) -> dict[str, Any]:
    design = design_columns(equation.variables).set_index("feature")
    intercept, *coefficients = equation.terms.to_dict("records")
    terms = []
    for term in coefficients:
        key, level = design.loc[term["feature"], ["column", "level"]]
        number = equation.variables[key].kind == "continuous"
        missing = None if isnan(term["missing_as"]) else term["missing_as"]
        terms.append({"key": key, "level": None if number else level, "coefficient": term["coefficient"]})
        terms[-1]["missing_as"] = missing
    return {"intercept": intercept["coefficient"], "terms": terms}


def _why_one(run: RunFolder, place: str, equation: Equation) -> str:
    """Why an equation has one variable, from the table of those that were tested; empty if it has several."""
    if len(equation.variables) != 1:
        return ""
    (name, variable), topic = next(iter(equation.variables.items())), place.partition("/")[0]
    if variable.label == f"{SCORE_PREFIX}{name}":
        return f"This answer has one variable because {name} is all that is known of such a patient."
    if not run.has(f"{topic}/univariable.csv"):
        return ""
    tested = run.read_table(f"{topic}/univariable.csv").dropna(subset="p_likelihood_ratio")
    tested = tested.drop_duplicates("variable").sort_values("p_likelihood_ratio").set_index("variable")
    ps = tested["p_likelihood_ratio"]
    if variable.label not in ps:
        return ""
    others = ps.drop(variable.label)
    following = f"; the next was {others.index[0]} ({format_p(others.iloc[0])})" if len(others) else ""
    return (
        f"This model has one variable: of {len(ps)} that were tested one by one on the training patients only "
        f"{variable.label} passed ({format_p(ps[variable.label])}){following}. So few patients show strong associations alone; "
        "that the others are not in the model does not say that they do not matter."
    )


def nomogram_notes(risks: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """{figure of a nomogram: why it has one variable}, of those that have one."""
    return {NOMOGRAMS[model["page"]]: model["why_one"][""] for model in risks if model["page"] in NOMOGRAMS}


def pages(site: Site, cards: Sequence[ShownCard], risks: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """models.html with a page per card, and risk.html where there is an equation."""
    made: dict[str, str] = {}
    if cards:
        made["models.html"] = site.page("models.html", "models.html.j2", "Models", cards=cards, title_of=title_of)
    for shown in cards:
        context = {"shown": shown, "card": shown.card, "study": title_of(shown.card["study"])}
        made[shown.page] = site.page(shown.page, "card.html.j2", shown.card["model"], **context)
    if risks:
        made |= static_files(("risk.js",), STATIC)
        others: dict[str, dict[str, list[ShownCard]]] = {}
        for shown in cards:
            if why := NOT_TYPED.get(shown.card["kind"]):
                others.setdefault(why, {}).setdefault(title_of(shown.card["study"]), []).append(shown)
        made["risk.html"] = site.page("risk.html", "risk.html.j2", "Risk", data=as_script(list(risks)), others=others)
    return made
