"""A fusion of kept networks with clinical variables: a risk equation for every pattern of what a patient has.

Its submodels come from `alnlib.models.fusion.PatternSubmodels`; the networks whose scores it reads are kept models of the run.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import expit

from alnlib.cohorts.schema import ClinicalVariable, Cohort
from alnlib.errors import InputError
from alnlib.files import CSV_FLOAT_FORMAT, sha256_file, write_json
from alnlib.kept.card import CARD, KeptModel, read_model
from alnlib.kept.equation import Equation, scored
from alnlib.models.clinical import INTERCEPT
from alnlib.models.fusion import CLINICAL, NOTHING, PatternSubmodels, ScoreFusion, logits


@dataclass(frozen=True, eq=False)
class Fusion:
    """submodels: {pattern: its equation, of "logit SCORE" and clinical variables}; answers: {pattern: the pattern that answers
    for it}; parts: {score: folder of the kept network, counted from models/}; sha256: {score: of the network's parameters};
    columns: of the clinical variables, one of which a patient must have for the pattern to say so; models: the folder models/
    in which the parts lie.
    """

    submodels: Mapping[str, Equation]
    answers: Mapping[str, str]
    prevalence: float
    parts: Mapping[str, str]
    sha256: Mapping[str, str]
    columns: Sequence[str]
    models: Path
    file = "parameters.json"

    @classmethod
    def of(cls, fitted: PatternSubmodels, parts: Mapping[str, str], models: Path) -> Fusion:
        """Of fitted submodels; parts: as above, of the same run. Raises InputError for a network that is not kept."""
        used = {score: parts[score] for score in fitted.scores}
        kept = {score: read_model(models / place) for score, place in used.items()}
        digests = {score: model.card["parameters"]["sha256"] for score, model in kept.items()}
        answers = dict(fitted.patterns_[["pattern", "answered_by"]].itertuples(index=False, name=None))
        equations = {pattern: _equation(model) for pattern, model in fitted.submodels_.items()}
        return cls(equations, answers, fitted.prevalence_, used, digests, list(fitted.clinical or {}), models)

    def save(self, path: Path) -> None:
        """Write parameters.json."""
        plain = {name: getattr(self, name) for name in ("answers", "prevalence", "sha256", "columns")}
        plain["parts"] = list(self.parts.items())  # in the order in which a pattern names them
        write_json(plain | {"submodels": {name: each.to_json() for name, each in self.submodels.items()}}, path)

    @classmethod
    def read(cls, path: Path) -> Fusion:
        """Raises InputError for a file that holds no fusion, and for parts that are missing or not those it was fitted on."""
        try:
            given = json.loads(path.read_text(encoding="utf-8"))
            submodels = {name: Equation.of_json(each) for name, each in given.pop("submodels").items()}
            fusion = cls(submodels, **given | {"parts": dict(given["parts"])}, models=path.parents[2])
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise InputError(f"{path} holds no fusion ({error!r}); run the stage that makes it again") from error
        for score, place in fusion.parts.items():
            card = fusion.models / place / CARD
            if not card.resolve().is_relative_to(fusion.models.resolve()):
                raise InputError(f"{path}: the fusion reads {score} from {place}, outside of models/; it is not read")
            if not card.is_file():
                raise InputError(f"{path}: the fusion reads {score}, and {card} is missing; copy models/ as a whole")
            part = read_model(card.parent)
            if sha256_file(part.folder / part.model.file) != fusion.sha256[score]:
                raise InputError(
                    f"{part.folder}: {score} was fitted again after the fusion that reads it; run stage 31 again"
                )
        return fusion

    def _parts(self) -> dict[str, KeptModel]:
        return {score: read_model(self.models / place) for score, place in self.parts.items()}

    @property
    def equation(self) -> Equation | None:
        """All clinical variables of the submodels in one, for what is asked of the cohort."""
        variables: dict[str, ClinicalVariable] = {}
        for equation in self.submodels.values():
            variables |= {name: each for name, each in equation.variables.items() if name not in self.parts}
        terms = pd.concat([equation.terms for equation in self.submodels.values()]) if variables else None
        return None if terms is None else Equation(terms, variables)

    def asks_for(self) -> list[str]:
        """What the parts ask for, and the clinical variables; what a patient lacks is left out, as its pattern says."""
        asked = [f"{score}: {words}" for score, part in self._parts().items() for words in part.model.asks_for()]
        return [*asked, *([] if self.equation is None else self.equation.asks_for())]

    def about(self) -> dict[str, Any]:
        """The networks and the patterns."""
        return {"parts": dict(self.parts), "answered_by": dict(self.answers)}

    def check(self, cohort: Cohort) -> None:
        """As the parts and `Equation.check`; a part whose images nobody has is told as well, though patterns without it exist."""
        for part in self._parts().values():
            part.model.check(cohort)
        if self.equation is not None:
            self.equation.check(cohort)

    def lacking(self, cohort: Cohort) -> dict[str, str]:
        """Those of whom nothing is known, whom the fusion would give the prevalence."""
        lacks = [part.model.lacking(cohort) for part in self._parts().values()]
        if self.columns:
            present = [name for name in self.columns if name in cohort.patients]
            unknown = cohort.patients[present].isna().all(axis=1)
            lacks.append(dict.fromkeys(cohort.patients.loc[unknown, "patient_id"], ""))
        nobody = set.intersection(*(set(each) for each in lacks))
        return {
            patient: "nothing that the model reads" for patient in cohort.patients["patient_id"] if patient in nobody
        }

    def score(self, cohort: Cohort, patient_ids: Sequence[str], known: Sequence[bool], device: str) -> pd.DataFrame:
        """patient_id, unit_id and y_score: the parts score whom they can, and the equation of the patient's pattern answers.

        It was fitted to scores as the tables of a run hold them, and reads them so."""
        patients = cohort.patients.set_index("patient_id").loc[list(patient_ids)]
        of_known, has = dict(zip(patient_ids, known, strict=True)), {}
        for score, part in self._parts().items():
            lacking = part.model.lacking(cohort)
            able = [patient for patient in patient_ids if patient not in lacking]
            patients[score] = np.nan
            if able:
                made = part.model.score(cohort, able, [of_known[patient] for patient in able], device)
                as_in_tables = [float(CSV_FLOAT_FORMAT % probability) for probability in made["y_score"]]
                patients.loc[made["patient_id"], score] = logits(as_in_tables)
            has[score] = patients[score].notna()
        if self.columns:
            has[CLINICAL] = patients[[name for name in self.columns if name in patients]].notna().any(axis=1)
        there = pd.DataFrame(has)
        pattern = pd.Series(["+".join(there.columns[row]) or NOTHING for row in there.to_numpy(bool)], patients.index)
        answered = pattern.map(self.answers)
        probability = pd.Series(self.prevalence, patients.index)
        for name in set(answered) - {NOTHING}:
            asked = answered == name
            probability[asked] = expit(self.submodels[name].logits(patients[asked]))
        return scored(patient_ids, probability.to_numpy())


def _equation(model: ScoreFusion) -> Equation:
    """Of a fitted fusion, terms of scores and selected clinical variables; an unknown score is none of its patterns."""
    scores = {name: ClinicalVariable(f"logit {name}", "continuous", "logit") for name in model.scores}
    terms = pd.DataFrame({"feature": [INTERCEPT, *model.model_.coef_.index]})
    terms["coefficient"] = [model.model_.intercept_, *model.model_.coef_]
    variable_of = {f"logit {name}": f"logit {name}" for name in model.scores} | dict(model.model_.groups or {})
    terms["variable"] = [variable_of.get(feature, INTERCEPT) for feature in terms["feature"]]
    typical = pd.Series(dtype=float)
    if model.clinical_:
        unknown = pd.DataFrame([dict.fromkeys(model.clinical_)], dtype=object)
        typical = model.encoder_.transform(unknown).iloc[0]
    terms["missing_as"] = terms["feature"].map(typical)
    return Equation(terms, scores | dict(model.clinical_))
