"""Score the patients of a cohort by a model that was fitted and kept earlier, without fitting anything.

What is kept, and how it is read back, is in `alnlib.models.cards` and `alnlib.training.keeping`.
"""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import expit

from alneval.folder import write_evaluation
from alneval.rows import prediction_rows
from alnlib.cohorts.manifest import check_cohort_files, cohort_rows
from alnlib.cohorts.schema import Cohort
from alnlib.cohorts.sources import PUBLIC, known_endpoint, read_source
from alnlib.errors import InputError
from alnlib.files import write_csv
from alnlib.models import cards
from alnlib.paths import resolve_data, results_folder

NOT_KEPT = "video, CT, radiomics and fused models, which are not kept yet"


@dataclass(frozen=True)
class Applied:
    """scores: patient_id, y_score of everybody scored; predictions: rows of the contract, split "external", of those whose
    endpoint is known; images: the score of each, if the model sees any; left_out: patient_id, reason; endpoint: what they are
    held to, empty if nothing is known."""

    scores: pd.DataFrame
    predictions: pd.DataFrame
    images: pd.DataFrame
    left_out: pd.DataFrame
    endpoint: str


def kept_models() -> dict[str, Path]:
    """{"RUN/MODEL": folder} of the models that runs below results/ have kept."""
    cards_found = sorted(results_folder().glob(f"*/models/*/{cards.CARD}"))
    return {f"{path.parents[2].name}/{path.parent.name}": path.parent for path in cards_found}


def find_model(name: str) -> Path:
    """The folder of a kept model, by its path or as RUN/MODEL. Raises InputError that lists those there are."""
    known = kept_models()
    if name in known:
        return known[name]
    if (Path(name) / cards.CARD).is_file():
        return Path(name)
    listed = ", ".join(known) or "none yet: run a cohort first"
    raise InputError(
        f"{name}: neither a folder with a {cards.CARD} nor a kept model; there are {listed} (not {NOT_KEPT})"
    )


def cohort_to_score(name: str, data: str | None) -> Cohort:
    """A cohort folder, or a public cohort by its name, whose files are looked for in `data`. Raises InputError."""
    if name not in PUBLIC:
        if data is not None:
            raise InputError(f"--data {data}: a cohort folder brings its own files; leave --data out")
        return read_source("folder", Path(name).expanduser())
    folder = Path(data).expanduser() if data else resolve_data(f"data/{name}")
    check_cohort_files(cohort_rows(name), folder)
    return read_source(name, folder)


def apply_model(folder: Path, cohort: Cohort, endpoint: str = "") -> Applied:
    """Scores of a cohort's patients by the model in `folder`; those who trained it are left out.

    endpoint: column whose labels they are held to; empty: the model's own, if the cohort has it, else none. Raises InputError
    if the cohort lacks what the model asks for, or nobody is left.
    """
    card = cards.read_card(folder)
    cohort = cohort.without_population()
    everybody = cohort.patients["patient_id"]
    taught = cards.trained_with(card, cohort.name, everybody)
    new = everybody[~taught]
    images = pd.DataFrame(columns=["patient_id", "image_id", "y_score"])
    if card["kind"] == cards.EQUATION:
        logits = cards.equation_logits(card, cohort).loc[new]
    else:
        logits, images = _by_network(folder, card, cohort, set(new))
    scores = pd.DataFrame({"patient_id": logits.index, "y_score": expit(logits.to_numpy())})
    unseen = new[~new.isin(scores["patient_id"])]
    left_out = pd.concat(
        [
            pd.DataFrame({"patient_id": everybody[taught], "reason": "trained this model"}),
            pd.DataFrame({"patient_id": unseen, "reason": "no image that the model can read"}),
        ],
        ignore_index=True,
    )
    if scores.empty:
        reasons = left_out["reason"].value_counts().to_dict()
        raise InputError(f"no patient of {cohort.name} can be scored: {reasons}; {asks(card)}")
    own = card["endpoint"]["column"]
    endpoint = known_endpoint(cohort, endpoint) if endpoint else own if own in cohort.endpoints else ""
    labels = cohort.known(endpoint).set_index("patient_id")[endpoint] if endpoint else pd.Series(dtype="int64")
    known = scores[scores["patient_id"].isin(labels.index)]
    rows = (known["patient_id"], labels.loc[known["patient_id"]].to_numpy(int), known["y_score"].to_numpy())
    predictions = prediction_rows(card["study"], card["model"], "external", *rows)
    return Applied(scores, predictions, images, left_out, endpoint)


def _by_network(folder: Path, card: dict[str, Any], cohort: Cohort, new: set[str]) -> tuple[pd.Series, pd.DataFrame]:
    """Logits of patients, the mean over their images, and the score of every image."""
    from alnlib.training.keeping import read_kept  # torch, which an equation does without
    from alnlib.training.oof import mean_of_images

    network = read_kept(folder, card)
    images = cohort.images[cohort.images["patient_id"].isin(new)]
    if network.usable(images).empty:
        return pd.Series(dtype="float64"), pd.DataFrame(columns=["patient_id", "image_id", "y_score"])
    units, logits = network.logits(images, cohort.root)
    of_patients = mean_of_images(logits, units["patient_id"]).mean(axis=1)
    scored = units[["patient_id", "image_id"]].assign(y_score=expit(logits.mean(axis=1)))
    return pd.Series(of_patients, units["patient_id"].unique()), scored


def asks(card: dict[str, Any]) -> str:
    """What a model needs of a patient, in words."""
    if card["kind"] == cards.EQUATION:
        return f"the model asks for {', '.join(variable['label'] for variable in card['variables'].values())}"
    seen = [" ".join([crop["modality"], *crop["channels"]]) for crop in card["crops"]]
    return f"the model asks for {', '.join(seen)} with a mask or box of the lesion"


def write_applied(made: Applied, model: Path, folder: Path, provenance: str, *, force: bool = False) -> list[str]:
    """Write scores, predictions, images, left_out and the card into `folder`, and, where both classes are known, the
    evaluation at the card's threshold; returns lines that say what was done. Raises InputError for a folder that is not empty."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())) and not force:
        raise InputError(f"{folder} is there and not empty; choose another with --out, or give --force")
    card = cards.read_card(model)
    tables = {"scores": made.scores, "predictions": made.predictions, "left_out": made.left_out}
    tables |= {"images": made.images} if len(made.images) else {}
    for name, table in tables.items():
        write_csv(table, folder / f"{name}.csv")
    shutil.copyfile(model / cards.CARD, folder / cards.CARD)
    trained, reasons = card["trained_on"], made.left_out["reason"].value_counts()
    left_out = [f"{count} left out, because: {reason}" for reason, count in reasons.items()]
    lines = [
        f"{card['model']} ({card['kind']}), fitted to {trained['patients']} patients of {trained['title']} "
        f"({trained['provenance']}) for {card['endpoint']['label'].lower()}; nothing was fitted here.",
        f"{len(made.scores)} patients scored"
        + (f" from {len(made.images)} images" if len(made.images) else "")
        + "; "
        + (", ".join(left_out) or "nobody left out"),
    ]
    if made.endpoint and made.endpoint != card["endpoint"]["column"]:
        lines.append(f"They are held to {made.endpoint}, which is not what the model was fitted for.")
    if np.unique(made.predictions["y_true"]).size == 2:
        options = {"provenance": provenance, "thresholds": [str(card["threshold"])], "force": True}
        evaluation, _ = write_evaluation([folder / "predictions.csv"], folder / "evaluation", **options)
        row = evaluation.discrimination.iloc[0]
        lines.append(
            f"AUC {row.auc:.3f} ({row.auc_low:.3f} to {row.auc_high:.3f}), {row.n} patients, {row.n_positive} positive."
        )
    else:
        lines.append("Not evaluated: the cohort does not hold both classes of the endpoint; --endpoint names another.")
    return [*lines, f"written to {folder}"]


def default_folder(model: Path, cohort: Cohort) -> Path:
    """MODEL-applied-to-COHORT in the working directory."""
    return Path(re.sub(r"[^A-Za-z0-9_.-]+", "-", f"{model.name}-applied-to-{cohort.name}"))
