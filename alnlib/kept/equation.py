"""A risk equation: an intercept and coefficients of clinical variables, in their own units and levels.

Fitted equations come from `alnlib.models.clinical.risk_equation`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import expit

from alnlib.cohorts.schema import ClinicalVariable, Cohort
from alnlib.errors import InputError, Problem
from alnlib.files import write_json
from alnlib.models.clinical import INTERCEPT, design_columns


@dataclass(frozen=True, eq=False)
class Equation:
    """terms: variable, feature, coefficient, missing_as of `risk_equation`; variables: {column of patients: ClinicalVariable}.

    Of the variables those without a term are left out.
    """

    terms: pd.DataFrame
    variables: Mapping[str, ClinicalVariable]
    file = "parameters.json"

    def __post_init__(self) -> None:
        used = set(self.terms["variable"])
        object.__setattr__(self, "variables", {name: v for name, v in self.variables.items() if v.label in used})
        columns = ["variable", "feature", "coefficient", "missing_as"]
        object.__setattr__(self, "terms", self.terms[columns].reset_index(drop=True))

    @property
    def equation(self) -> Equation:
        """Itself, as the clinical part of a model."""
        return self

    def to_json(self) -> dict[str, Any]:
        """As JSON holds it, every digit of every number; `of_json` reads it back."""
        terms = self.terms.astype(object).where(self.terms.notna(), None)
        variables = {name: asdict(variable) for name, variable in self.variables.items()}
        return {"terms": terms.to_dict("records"), "variables": variables}

    @classmethod
    def of_json(cls, content: Mapping[str, Any]) -> Equation:
        """Raises KeyError, TypeError or ValueError for something else."""
        variables = {}
        for name, given in content["variables"].items():
            limits = None if given["range"] is None else tuple(given["range"])
            variables[name] = ClinicalVariable(**given | {"levels": tuple(given["levels"]), "range": limits})
        numbers = {"coefficient": float, "missing_as": float}
        equation = cls(pd.DataFrame(content["terms"]).astype(numbers), variables)
        known = {INTERCEPT, *design_columns(equation.variables)["feature"]}
        if equation.terms["feature"].iloc[0] != INTERCEPT or not set(equation.terms["feature"]) <= known:
            raise ValueError("terms that are of no variable")
        return equation

    def save(self, path: Path) -> None:
        """Write parameters.json."""
        write_json(self.to_json(), path)

    @classmethod
    def read(cls, path: Path) -> Equation:
        """Raises InputError for a file that holds no equation."""
        try:
            return cls.of_json(json.loads(path.read_text(encoding="utf-8")))
        except (ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError) as error:
            raise InputError(f"{path} holds no risk equation ({error!r}); run the stage that makes it again") from error

    def asks_for(self) -> list[str]:
        """The variables with kind, unit or levels."""
        return [f"{name}: {_described(variable)}" for name, variable in self.variables.items()]

    def about(self) -> dict[str, Any]:
        """That missing values are imputed, and how."""
        words = (
            "an unknown value counts as missing_as of its term; a run that draws missing values takes a mean over draws"
        )
        return {"missing_values": words}

    def check(self, cohort: Cohort) -> None:
        """Raise InputError for variables that are absent, of another kind or unit, or have levels that no coefficient knows."""
        problems = []
        for name, variable in self.variables.items():
            key, given = f"clinical.{name}", cohort.clinical.get(name)
            if given is None:
                message = f"the model asks for {_described(variable)}"
                remedy = "describe the column there and fill it in patients.csv, empty where it is not known"
                problems.append(Problem.of("cohort.yaml", message, remedy, column=key))
            elif given.kind != variable.kind or given.unit != variable.unit:
                message = f"the model was fitted to {_described(variable)}"
                remedy = "convert the values, and say so in cohort.yaml"
                problems.append(Problem.of("cohort.yaml", message, remedy, column=key, value=_described(given)))
            elif variable.kind != "continuous":
                values = cohort.patients[name]
                for row in np.flatnonzero(values.notna() & ~values.isin(variable.levels)):
                    message = f"the model knows {variable.label} as {', '.join(variable.levels)} only"
                    remedy = "give the level that it corresponds to, or leave the cell empty"
                    value = values.iloc[row]
                    problems.append(Problem.of("patients.csv", message, remedy, row + 2, name, value))
        if problems:
            raise InputError("the cohort does not have what the model asks for:", problems)

    def lacking(self, cohort: Cohort) -> dict[str, str]:
        """Nobody: a value that is not known counts as `missing_as`, as in the run."""
        return {}

    def logits(self, patients: pd.DataFrame) -> np.ndarray:
        """(n,) sums of coefficient x value over the terms; patients: a column per variable."""
        design = design_columns(self.variables).set_index("feature")
        values = []
        for term in self.terms.iloc[1:].itertuples():
            column, level = design.loc[term.feature, ["column", "level"]]
            known = patients[column]
            is_number = self.variables[column].kind == "continuous"
            coded = known.astype(float) if is_number else (known == level).astype(float)
            values.append(coded.where(known.notna(), term.missing_as).to_numpy(float))
        intercept, *coefficients = self.terms["coefficient"]
        return np.column_stack([np.zeros((len(patients), 0)), *values]) @ np.array(coefficients) + intercept

    def score(self, cohort: Cohort, patient_ids: Sequence[str], known: Sequence[bool], device: str) -> pd.DataFrame:
        """patient_id, unit_id and y_score, the probability; known and device have no part in it."""
        patients = cohort.patients.set_index("patient_id").loc[list(patient_ids)]
        return scored(patient_ids, expit(self.logits(patients)))


def scored(patient_ids: Sequence[str], probability: np.ndarray) -> pd.DataFrame:
    """patient_id, unit_id and y_score where the unit is the patient."""
    return pd.DataFrame({"patient_id": patient_ids, "unit_id": patient_ids, "y_score": probability})


def _described(variable: ClinicalVariable) -> str:
    what = f"in {variable.unit}" if variable.unit else ", ".join(variable.levels) or "without a unit"
    return f"{variable.label} ({variable.kind}; {what})"
