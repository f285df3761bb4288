"""The card of a kept model: who trained it, on whom, for what, what it asks for; and risk equations, which are a card alone.

Networks are kept by `alnlib.training.keeping`; new patients are scored by `alnlib.pipeline.apply`. Cards are JSON, so that
nothing in them runs.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.pipeline import Pipeline

from alneval.thresholds import youden_threshold
from alneval.units import Units
from alnlib import __version__
from alnlib.cohorts.schema import ClinicalVariable, Cohort
from alnlib.errors import InputError, Problem, counted
from alnlib.models.clinical import INTERCEPT, design_columns, risk_equation

CARD = "card.json"
EQUATION, FROZEN, FINE_TUNED = "risk equation", "frozen network with linear heads", "fine-tuned network"
LIMITS = "For research. Fitted to few patients and to no standard of a medical device; it must not decide on anybody's treatment."


def model_card(
    cohort: Cohort, endpoint: str, trained: pd.DataFrame, unseen: pd.DataFrame, *, model: str, study: str
) -> dict[str, Any]:
    """What every kept model says of itself; `equation_card`, or its parameters (`alnlib.training.keeping`), say the rest.

    trained: patient_id, split and the endpoint of the patients fitted to, a row per patient; ids are kept as digests alone
    (`patient_digest`). unseen: y_true and y_score of these patients out of fold, whose Youden index sets the threshold.
    """
    patients = trained.drop_duplicates("patient_id")
    who = {key: getattr(cohort, key) for key in ("name", "title", "provenance", "license", "citation")}
    fitted_to = {"splits": list(dict.fromkeys(patients["split"])), "patients": len(patients)}
    fitted_to |= {"positive": int(patients[endpoint].sum())}
    return {
        "model": model,
        "study": study,
        "endpoint": {"column": endpoint} | asdict(cohort.endpoints[endpoint]),
        "trained_on": who | fitted_to,
        "threshold": float(youden_threshold(Units.of(unseen["y_true"], unseen["y_score"]))),
        "made_by": f"ALN compendium {__version__}",
        "limits": LIMITS,
        "patients": sorted(patient_digest(cohort.name, patient) for patient in patients["patient_id"]),
    }


def patient_digest(cohort: str, patient_id: str) -> str:
    """16 hexadecimal digits that stand for a patient of a cohort, by which those who trained a model are known again."""
    return hashlib.sha256(f"{cohort}/{patient_id}".encode()).hexdigest()[:16]


def equation_card(fitted: Pipeline, clinical: Mapping[str, ClinicalVariable]) -> dict[str, Any]:
    """The further entries of a card of a `clinical.clinical_pipeline`: terms, as `risk_equation`, and the variables in them."""
    design = design_columns(clinical).set_index("feature")
    terms = []
    for row in risk_equation(fitted).itertuples():
        named = {} if row.feature == INTERCEPT else design.loc[row.feature, ["column", "level"]].to_dict()
        missing = {} if row.feature == INTERCEPT else {"missing_as": float(row.missing_as)}
        terms.append({"feature": row.feature, "coefficient": float(row.coefficient)} | named | missing)
    used = {term["column"] for term in terms if "column" in term}
    return {
        "kind": EQUATION,
        "terms": terms,
        "variables": {name: asdict(each) for name, each in clinical.items() if name in used},
    }


def read_card(folder: str | Path) -> dict[str, Any]:
    """The card of a kept model. Raises InputError if there is none, or it is damaged."""
    path = Path(folder) / CARD
    try:
        card = json.loads(path.read_text(encoding="utf-8"))
        return {
            key: card[key] for key in ("model", "study", "kind", "endpoint", "trained_on", "threshold", "patients")
        } | card
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}); give the folder of a kept model") from error
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} is no card of a model ({error!r}); run the stage that keeps it again") from error


def equation_logits(card: Mapping[str, Any], cohort: Cohort) -> pd.Series:
    """Logits of the patients of a cohort (index patient_id) by the risk equation of a card.

    A missing value counts as its `missing_as`. Raises InputError for variables that the cohort lacks or that mean something
    else there: another kind, unit, or level that the model does not know, with its patients.
    """
    _check_variables(card["variables"], cohort)
    patients = cohort.patients.set_index("patient_id")
    logits = pd.Series(0.0, patients.index)
    for term in card["terms"]:
        if "column" not in term:
            logits += term["coefficient"]
            continue
        values = patients[term["column"]]
        if card["variables"][term["column"]]["kind"] == "continuous":
            numbers = values.astype("float64")
        else:
            numbers = (values == term["level"]).astype("float64").where(values.notna())
        logits += term["coefficient"] * numbers.fillna(term["missing_as"])
    return logits


def _check_variables(variables: Mapping[str, Mapping[str, Any]], cohort: Cohort) -> None:
    problems, file = [], f"{cohort.name}: cohort.yaml"
    for column, asked in variables.items():
        given = cohort.clinical.get(column)
        if given is None:
            has = ", ".join(cohort.clinical) or "none"
            message = f"the model asks for {asked['label']}, which this cohort has not (it has {has})"
            problems.append(
                Problem.of(file, message, f"add it to patients.csv and under clinical as {column}", column=column)
            )
            continue
        for what in ("kind", "unit"):
            mine, theirs = getattr(given, what), asked[what]
            if mine != theirs:
                remedy = f"convert it, so that its {what} is {theirs}"
                problems.append(Problem.of(file, f"the model knows another {what}", remedy, column=column, value=mine))
        for level in (level for level in given.levels if level not in asked["levels"]):
            whose = cohort.patients.loc[cohort.patients[column] == level, "patient_id"]
            if len(whose):
                message = f"no patient behind the model had this level; here {len(whose)}: {', '.join(whose[:5])}"
                remedy = f"the model knows {', '.join(asked['levels'])}; merge it, or leave it empty"
                problems.append(Problem.of(f"{cohort.name}: patients.csv", message, remedy, column=column, value=level))
    if problems:
        raise InputError(f"the model cannot be applied to {cohort.name}: {counted(problems)}", problems)


def trained_with(card: Mapping[str, Any], cohort: str, patient_ids: Iterable[str]) -> np.ndarray:
    """(n,) bool: which of these patients of a cohort the model was fitted to."""
    known = set(card["patients"])
    return np.array([patient_digest(cohort, patient) in known for patient in patient_ids], bool)
