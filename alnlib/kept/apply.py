"""A kept model on the patients of a cohort: who can be scored, their scores, and their evaluation where the outcome is known.

Nothing is fitted here. What a model is, is the business of `card` and of its kind.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from alneval.folder import RECORD, check_folder, file_names, write_evaluation
from alneval.folds import POPULATION
from alneval.tables import PREDICTION_COLUMNS
from alnlib.cohorts.manifest import check_cohort_files, cohort_rows
from alnlib.cohorts.schema import Cohort, Endpoint
from alnlib.cohorts.sources import PUBLIC, known_endpoint, read_source
from alnlib.errors import FIRST_SHOWN, InputError, Problem
from alnlib.files import write_csv
from alnlib.kept.card import CARD, KeptModel, digests, find_model, read_model
from alnlib.paths import results_folder
from alnlib.pipeline.runner import RunOptions, resolve_cohort

EVALUATION = "evaluation"


@dataclass(frozen=True)
class Applied:
    """What was written. scores: `PREDICTION_COLUMNS`, y_true <NA> where it is not known; not_scored: {patient: reason};
    notes: what a reader must know; warnings: of the cohort."""

    folder: Path
    scores: pd.DataFrame
    not_scored: Mapping[str, str]
    notes: tuple[str, ...]
    warnings: tuple[Problem, ...]
    evaluated: bool = False


def apply_model(
    named: str,
    cohort: str,
    data: str | None = None,
    endpoint: str = "",
    out: Path | None = None,
    device: str = "auto",
    force: bool = False,
) -> Applied:
    """Score a cohort with a kept model and write scores.csv, not_scored.csv and the card to a folder.

    named: as `find_model`; cohort, data: as of a run. endpoint: of the cohort, to judge by; "" is the model's own, if the
    cohort has it. With both classes among patients whom the model does not know, predictions.csv (those with a known outcome)
    is evaluated into evaluation/, at the model's threshold. The split is "external"; where the cohort has the name of the
    one that the model was fitted in, "train" for the patients fitted to, "test" or "external" by center for others. Files
    are equal from call to call. Raises InputError for what is missing, wrong or lacks what the model asks for.
    """
    kept = read_model(find_model(named))
    patients = _read_cohort(cohort, data)
    judged_by = known_endpoint(patients, endpoint) if endpoint else kept.card["endpoint"]["name"]
    name = "-".join(file_names([kept.card["run"], kept.card["model"], "on", patients.name]))
    folder = out or results_folder() / "applied" / name
    check_folder(folder, force)
    kept.model.check(patients)
    lacking = kept.model.lacking(patients)
    ids = [patient for patient in patients.patients["patient_id"] if patient not in lacking]
    if not ids:
        raise InputError(f"{kept.name} can score nobody of {patients.name}:\n" + "\n".join(_grouped(lacking)))
    trained = {patient for patient in ids if digests([patient]) <= kept.known}
    scored = _scored(kept, patients, ids, trained, device)
    scores = _rows(kept, patients, scored, judged_by, trained)
    notes = _notes(kept, patients, ids, judged_by, len(trained))
    applied = Applied(folder, scores, lacking, tuple(notes), patients.warnings)
    return _write(applied, kept, patients.provenance, force)


def _read_cohort(named: str, data: str | None) -> Cohort:
    source, _, folder, own = resolve_cohort(RunOptions(named, data), to_fit=False)
    if own is not None:
        return own
    if source in PUBLIC:
        check_cohort_files(cohort_rows(source), folder)
    return read_source(source, folder)


def _scored(kept: KeptModel, cohort: Cohort, ids: Sequence[str], trained: set[str], device: str) -> pd.DataFrame:
    """patient_id, unit_id, y_score, patients whose outcome is known first.

    A network works on several images at once, and the last digits of a score (some 1e-7) depend on which: so those whom a run
    scores, the patients of known outcome, pass apart from others, and their scores are the run's.
    """
    outcome = cohort.patients.set_index("patient_id").get(kept.card["endpoint"]["name"], pd.Series(dtype=object))
    has_outcome = set(outcome.dropna().index)
    same = cohort.name == kept.card["cohort"]["name"]
    groups = [[p for p in ids if p in has_outcome], [p for p in ids if p not in has_outcome]]
    made = [kept.model.score(cohort, g, [same and p in trained for p in g], device) for g in groups if g]
    return pd.concat(made, ignore_index=True)


def _rows(kept: KeptModel, cohort: Cohort, scored: pd.DataFrame, endpoint: str, known: set[str]) -> pd.DataFrame:
    """Of the contract's predictions, y_true <NA> where it is not known."""
    patients = cohort.patients.set_index("patient_id")
    own = patients.loc[scored["patient_id"]].reset_index()
    split = pd.Series("external", index=own.index)
    if cohort.name == kept.card["cohort"]["name"]:
        split = split.where(own["center"].isin(cohort.external_centers), "test")
        split = split.mask(own["patient_id"].isin(known), "train")
    if "split" in own:
        split = split.mask(own["split"] == POPULATION, POPULATION)
    label = own[endpoint] if endpoint in cohort.endpoints else pd.Series(pd.NA, own.index)
    if (scored["unit_id"] != scored["patient_id"]).any() and endpoint in cohort.endpoints:
        of_image = cohort.images.set_index("image_id")["unit_label"].reindex(scored["unit_id"]).reset_index(drop=True)
        label = of_image.fillna(label)
    named = {"study": kept.card["study"], "model": kept.card["model"], "role": "main"}
    rows = scored.reset_index(drop=True).assign(**named, split=split, y_true=label.astype("Int64"))
    return rows[list(PREDICTION_COLUMNS)]


def _notes(kept: KeptModel, cohort: Cohort, ids: list[str], endpoint: str, n_known: int) -> list[str]:
    asked, card, equation, notes = kept.card["endpoint"], kept.card, kept.model.equation, []
    if equation is not None and equation.variables:
        of_scored = cohort.patients.loc[cohort.patients["patient_id"].isin(ids), list(equation.variables)]
        unknown = of_scored.isna()
        if incomplete := int(unknown.any(axis=1).sum()):
            of_nothing = int(unknown.all(axis=1).sum())
            alike = f"; {of_nothing} of them lack all that it reads, and differ in nothing" if of_nothing else ""
            notes.append(f"{incomplete} patients lack a value, which counts as missing_as of its term{alike}")
    if endpoint in cohort.endpoints:
        meant = Endpoint(*(asked[key] for key in ("label", "positive", "negative")))
        given = cohort.endpoints[endpoint]
        if endpoint != asked["name"] or (given.positive, given.negative) != (meant.positive, meant.negative):
            notes.append(
                f"the model predicts {asked['name']} ({meant.positive} against {meant.negative}) and is judged by {endpoint} "
                f"({given.positive} against {given.negative})"
            )
    if n_known and cohort.name == card["cohort"]["name"]:
        notes.append(f"{n_known} patients trained the model: their rows have the split train, and are no test of it")
    elif n_known:
        notes.append(
            f"{n_known} patient ids are also ids of training patients, of {card['cohort']['name']}; if they are the same people, "
            "this is no external validation: give the cohort that name"
        )
    if cohort.provenance != card["cohort"]["provenance"]:
        notes.append(f"the model was fitted to {card['cohort']['provenance']} patients, these are {cohort.provenance}")
    return notes


def _write(applied: Applied, kept: KeptModel, provenance: str, force: bool) -> Applied:
    folder, scores, predictions = applied.folder, applied.scores, applied.folder / "predictions.csv"
    write_csv(scores, folder / "scores.csv")
    left_out = pd.DataFrame(applied.not_scored.items(), columns=["patient_id", "reason"])
    write_csv(left_out, folder / "not_scored.csv")
    shutil.copyfile(kept.folder / CARD, folder / CARD)
    known, threshold = scores[scores["y_true"].notna()], kept.card["threshold"]
    if known.loc[~known["split"].isin(["train", POPULATION]), "y_true"].nunique() == 2:
        write_csv(known, predictions)
        given = [] if threshold is None else [repr(threshold)]
        write_evaluation([predictions], folder / EVALUATION, provenance=provenance, thresholds=given, force=force)
        return replace(applied, evaluated=True)
    predictions.unlink(missing_ok=True)  # of an earlier call
    if (folder / EVALUATION / RECORD).is_file():
        shutil.rmtree(folder / EVALUATION)
    said = "nothing is evaluated: the outcome is not known in both classes of patients who did not train the model"
    return replace(applied, notes=(*applied.notes, said))


def _grouped(lacking: Mapping[str, str]) -> list[str]:
    """A line per reason: how many patients, and the first of them."""
    lines = []
    for reason, whose in pd.Series(lacking, dtype=object).groupby(lacking, sort=False):
        lines.append(f"  {len(whose)} with {reason}: {_first(list(whose.index))}")
    return lines


def _first(ids: list[str]) -> str:
    left = len(ids) - FIRST_SHOWN
    return ", ".join(ids[:FIRST_SHOWN]) + (f" and {left} more" if left > 0 else "")


def told(applied: Applied) -> list[str]:
    """What a user reads of it: counts, reasons, notes and where it is."""
    by_split = applied.scores.drop_duplicates("patient_id")["split"].value_counts(sort=False)
    counts = ", ".join(f"{n} {split}" for split, n in by_split.items())
    lines = [f"{applied.scores['patient_id'].nunique()} patients scored ({counts})"]
    lines[0] += f", {len(applied.not_scored)} not:" if applied.not_scored else ""
    lines += _grouped(applied.not_scored) + [f"note: {note}" for note in applied.notes]
    return [*lines, f"{applied.folder}: scores.csv{', evaluation/summary.md' * applied.evaluated}"]
