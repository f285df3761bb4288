"""The card of a kept model: written by the stage that fitted it, read and found again; the models of a run that are not kept.

What the parameters of a kind of model are, is the business of the kind.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import pandas as pd

from alneval.folder import file_names
from alneval.rows import main_rows
from alneval.tables import locked_thresholds
from alnlib import __version__
from alnlib.arithmetic import arithmetic
from alnlib.cohorts.schema import Cohort
from alnlib.errors import InputError
from alnlib.files import sha256_file, write_json, write_text
from alnlib.paths import repository_root, results_folder
from alnlib.pipeline.provenance import commit_of

if TYPE_CHECKING:
    from alnlib.kept.equation import Equation
    from alnlib.pipeline.results import RunFolder, StudyCohort

FORMAT = 2

CARD, KNOWN = "card.json", "trained_on.txt"
"""Files of every kept model; the third holds its parameters."""

KINDS = {
    "equation": "alnlib.kept.equation:Equation",
    "network": "alnlib.kept.network:Network",
    "features": "alnlib.kept.features:FeatureModel",
    "fusion": "alnlib.kept.fusion:Fusion",
}
"""{kind of a card: where its class is}, imported when one is read, so that an equation does not pay for torch."""

NOTICE = "For research. Not a medical device; no decision about a patient may rest on it."

LIMITS = (
    "It knows the patients and the hospital of its training, and ranks others worse or better by an amount that only an "
    "evaluation on them tells.",
    "Its probabilities answer to the prevalence of its training patients; judge calibration before reading them as risks.",
    "The threshold was chosen on out-of-fold scores of training patients and is applied as it is.",
)
SIMULATED = "It was fitted to simulated patients: it shows that the way works, and says nothing about real ones."

WHY_NOT_KEPT = (
    "forests, boosting, support vector machines, nearest neighbors and perceptrons have no plain form; votes, and rows with "
    "a part withheld, imputed or with a reader's score, are variants of a model"
)


class Kept(Protocol):
    """What a kind of model can do. file: of its parameters; equation: of the clinical variables that it reads, or None."""

    file: str
    equation: Equation | None

    def asks_for(self) -> list[str]:
        """What a patient must have, in words."""

    def about(self) -> dict[str, Any]:
        """What the card says of it beside that: crops, networks, weights and their license."""

    def save(self, path: Path) -> None:
        """Write the parameters."""

    @classmethod
    def read(cls, path: Path) -> Kept:
        """From the file of its parameters; InputError naming it if it holds something else."""

    def check(self, cohort: Cohort) -> None:
        """Raise InputError, with every problem, for a cohort whose columns cannot be what the model was fitted to."""

    def lacking(self, cohort: Cohort) -> dict[str, str]:
        """{patient: why no score is possible}."""

    def score(self, cohort: Cohort, patient_ids: Sequence[str], known: Sequence[bool], device: str) -> pd.DataFrame:
        """patient_id, unit_id, y_score of these patients, in this order; known: those that the model was fitted to."""


@dataclass(frozen=True)
class KeptModel:
    """A kept model as it was read. known: digests of the patients that it was fitted to."""

    folder: Path
    card: Mapping[str, Any]
    model: Kept
    known: frozenset[str]

    @property
    def name(self) -> str:
        """Such as "DL_US of simulated-demo"."""
        return f"{self.card['model']} of {self.card['run']}"


def keep_model(
    results: RunFolder,
    topic: str,
    name: str,
    model: Kept,
    data: StudyCohort,
    trained: pd.DataFrame,
    predictions: pd.DataFrame,
    label: str = "",
) -> None:
    """Write models/`topic`/`name`/ of a run: card, parameters and digests of the patients fitted to.

    name: as in the predictions, of which the threshold is chosen as the evaluation does. trained: the rows that it was
    fitted to, with patient_id, split and the endpoint, or a column `label` where rows have labels of their own. The card
    tells the commit, so the folder is made by every run and not committed.
    """
    place = f"models/{topic}/{file_names([name])[0]}"
    cohort, of_model = data.cohort, predictions[predictions["model"] == name]
    study = of_model["study"].iloc[0]
    threshold = locked_thresholds(of_model).get((study, name))
    parameters = results.output(f"{place}/{model.file}")
    model.save(parameters)
    labels = trained[label or data.endpoint]
    patients = trained["patient_id"].astype(str)
    known = "\n".join(sorted(digests(patients))) + "\n"
    card = {
        "format": FORMAT,
        "model": name,
        "study": study,
        "kind": next(kind for kind, where in KINDS.items() if where.endswith(f":{type(model).__name__}")),
        "run": results.name,
        "endpoint": {"name": data.endpoint} | asdict(cohort.endpoints[data.endpoint]),
        "cohort": {key: getattr(cohort, key) for key in ("name", "title", "provenance", "license", "citation")},
        "trained_on": {
            "splits": sorted(set(trained["split"])),
            "patients": int(patients.nunique()),
            "rows": len(trained),
            "positive_rows": int(labels.sum()),
            "sha256": hashlib.sha256(known.encode()).hexdigest(),
        },
        "threshold": threshold,
        "asks_for": model.asks_for(),
        "made_by": {
            "compendium": __version__,
            "commit": commit_of(repository_root()),
            "lock_sha256": sha256_file(repository_root() / "requirements.lock"),
            "arithmetic": arithmetic(),
        },
        "limits": [*LIMITS, *([SIMULATED] if cohort.is_simulated else [])],
        "notice": NOTICE,
        "parameters": {"file": model.file, "sha256": sha256_file(parameters)},
    }
    write_json(sealed(card | model.about()), results.output(f"{place}/{CARD}"))
    write_text(known, results.output(f"{place}/{KNOWN}"))


def sealed(card: Mapping[str, Any]) -> dict[str, Any]:
    """A card with the SHA-256 of its other entries, as JSON with sorted keys."""
    plain = json.loads(json.dumps({name: value for name, value in card.items() if name != "sha256"}))
    return plain | {"sha256": hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()}


def digests(patient_ids: Iterable[str]) -> set[str]:
    """SHA-256 of patient ids, so that a model that is passed on tells whom it knows to those who have the list, and no id."""
    return {hashlib.sha256(str(patient).encode()).hexdigest() for patient in patient_ids}


def read_model(folder: Path) -> KeptModel:
    """The kept model in a folder. Raises InputError for a file that is missing, damaged or of another format."""
    remedy = "run the stage that makes it again, or copy the whole folder"
    try:
        card = json.loads((folder / CARD).read_text(encoding="utf-8"))
        known = frozenset((folder / KNOWN).read_text(encoding="utf-8").split())
        file, digest, kind = card["parameters"]["file"], card["parameters"]["sha256"], card["kind"]
        if card["format"] != FORMAT or kind not in KINDS or file != Path(file).name:
            raise InputError(f"{folder / CARD} is of another format than this version reads ({FORMAT}); {remedy}")
        if sealed(card) != card:
            raise InputError(f"{folder / CARD} is damaged, or was edited (another SHA-256); {remedy}")
        for name, described in ((file, digest), (KNOWN, card["trained_on"]["sha256"])):
            if sha256_file(folder / name) != described:
                raise InputError(f"{folder / name} is not what its card describes (another SHA-256); {remedy}")
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise InputError(f"{folder}: no kept model can be read there ({error}); {remedy}") from error
    module, _, name = KINDS[kind].partition(":")
    return KeptModel(folder, card, getattr(import_module(module), name).read(folder / file), known)


def find_model(named: str) -> Path:
    """The folder that `named` means: a path with a card, or RUN/TOPIC/NAME or RUN/NAME below results/, NAME as the model is
    called or its folder.

    Raises InputError with the list of all kept models, and of those that runs have and do not keep, if there is none or more
    than one.
    """
    if (Path(named) / CARD).is_file():
        return Path(named)
    results = results_folder()
    fitting = []
    for card in sorted(results.glob(f"*/models/*/*/{CARD}")):
        topic, folder = card.parts[-3:-1]
        run, called = card.parents[3].name, _read_card(card).get("model")
        if named.strip("/") in {f"{run}/{name}" for name in (f"{topic}/{folder}", folder, called, f"{topic}/{called}")}:
            fitting.append(card.parent)
    if len(fitting) == 1:
        return fitting[0]
    found = f"{len(fitting)} kept models are" if fitting else "no kept model is"
    raise InputError(
        f"{named}: {found} called so; give a folder that holds {CARD}, or RUN/TOPIC/NAME of one of these:\n"
        + "\n".join(list_kept_models())
    )


def list_kept_models() -> list[str]:
    """Lines of all kept models below results/; where there is none, how to get one."""
    results = results_folder()
    return kept_models(results) or [f"  none in {results}; run a stage of models: python3 run_all.py --to 22"]


def kept_models(results: Path) -> list[str]:
    """Lines that say what the runs below `results` keep, and which of their models they do not."""
    lines: list[str] = []
    for run in sorted(path.parent for path in results.glob("*/models")):
        cards = {card: _read_card(card) for card in sorted(run.glob(f"models/*/*/{CARD}"))}
        kept = {(card.get("study"), card.get("model")) for card in cards.values()}
        for path, card in cards.items():
            endpoint, trained = card.get("endpoint", {}).get("name"), card.get("trained_on", {}).get("patients")
            name = path.parent.relative_to(run / "models").as_posix()
            lines.append(f"  {run.name}/{name}: {card.get('model')} for {endpoint}, {trained} training patients")
        tables = [pd.read_csv(file, usecols=["study", "model", "role"]) for file in (run / "predictions").glob("*.csv")]
        rows = main_rows(pd.concat(tables)) if tables else pd.DataFrame(columns=["study", "model"])
        rows = rows[["study", "model"]].drop_duplicates().sort_values(["study", "model"])
        others = dict.fromkeys(model for study, model in rows.itertuples(index=False) if (study, model) not in kept)
        if others:
            lines.append(f"  {run.name} does not keep {', '.join(others)}")
    return [*lines, f"  (nor any candidate; {WHY_NOT_KEPT})"] if lines else []


def _read_card(path: Path) -> dict[str, Any]:
    try:
        card = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return card if isinstance(card, dict) else {}
