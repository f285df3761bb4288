"""What a run's files say on the matters that reporting checklists ask for: one small function per matter.

Each is called as the item tables call it, is given what its files hold, and says what it found in a short text. Where a
file is missing or has nothing on the matter, FACTS raises InputError with the remedy. Which item asks for what stands in
`checklist_items/`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from fnmatch import fnmatch
from itertools import chain
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet
import yaml

from alneval.figures import SPLIT_NAMES
from alneval.folds import POPULATION
from alneval.seeds import models_only
from alneval.table_one import OVERALL
from alnlib.errors import InputError
from alnlib.pipeline.results import RunFolder
from alnlib.pipeline.stages import STAGES, find_stage
from alnlib.studies import STUDIES

SETTINGS = Path(__file__).parent.parent / "radiomics" / "settings"
SHOWN_PARAMETERS = ("seed", "epochs", "learning_rate", "batch_size", "image_size", "n_folds", "n_repeats", "weights")

PREDICTIONS = "predictions/*.csv"
NO_THRESHOLD = "no tested model has a threshold; run 41 with validation or training rows"
NO_FEATURES = "no feature table; run 26 or 27 if the cohort has what they need"
NO_RADIOMICS = "no table of it; run 26 or 27 if the cohort has what they need"


@dataclass(frozen=True)
class Fact:
    """What files of a run say on one matter: a short text, and the files it came from, relative to the run's folder."""

    text: str
    files: tuple[str, ...]


FACTS: dict[str, Callable[[RunFolder], Fact]] = {}
"""{name in the item tables: function that reads it}."""


def fact(*files: str, remedy: str = "") -> Callable[[Callable[..., str | Fact]], Callable[..., str | Fact]]:
    """Add a function to FACTS under its own name; it is given the content of `files`, or the run where it names none.

    A name with "*" stands for all such files that stages make and that are there, and is given as {file: content};
    PREDICTIONS as one table. Where no such file is there, or the function has nothing to say, `remedy` is the error.
    """

    def added(say: Callable[..., str | Fact]) -> Callable[..., str | Fact]:
        def read(run: RunFolder) -> Fact:
            found = {name: _made(run, name) if "*" in name else [name] for name in files}
            contents = [_content(run, name, found[name]) for name in files] or [run]
            said = say(*contents) if all(found.values()) else ""
            if not said:
                raise InputError(remedy)
            return said if isinstance(said, Fact) else Fact(said, tuple(chain.from_iterable(found.values())))

        FACTS[say.__name__] = read
        return say

    return added


def _made(run: RunFolder, pattern: str) -> list[str]:
    return [name for stage in STAGES for name in stage.makes if fnmatch(name, pattern) and run.has(name)]


def _content(run: RunFolder, name: str, files: Iterable[str]) -> Any:
    if name == PREDICTIONS:
        return run.read_predictions()
    if "*" in name:
        return {file: _content(run, file, ()) for file in files}
    if name.endswith(".csv"):
        table = run.read_table(name)
        of_patients = name.startswith("cohort/") and "patient_id" in table
        return table[~table["patient_id"].isin(_population(run))] if of_patients else table
    if name.endswith(".json"):
        return run.read_json(name)
    path = run.path(name)
    return yaml.safe_load(path.read_text(encoding="utf-8")) if name.endswith(".yaml") else path


def _population(run: RunFolder) -> set[str]:
    """Patients whom no study has."""
    patients = run.read_table("cohort/patients.csv")
    return set(patients.loc[patients["split"] == POPULATION, "patient_id"]) if "split" in patients else set()


def read_facts(run: RunFolder) -> dict[str, Fact | str]:
    """Every fact of FACTS in this run; where a file is missing or has nothing on it, the remedy, without paths of a machine."""
    facts: dict[str, Fact | str] = {}
    for name, read in FACTS.items():
        try:
            facts[name] = read(run)
        except InputError as error:
            facts[name] = str(error).replace(f"{run.folder}/", "")
    return facts


# --- the cohort ---------------------------------------------------------------------------------------------------


@fact("cohort/cohort.yaml")
def cohort_source(cohort: dict) -> str:
    more = [f"{word} {cohort[key]}" for key, word in (("license", "license"), ("citation", "cite")) if cohort.get(key)]
    return "; ".join([f"{cohort['title']}, {cohort['provenance']} patients", *more])


@fact("cohort/cohort.yaml", "cohort/patients.csv")
def centers(cohort: dict, patients: pd.DataFrame) -> str:
    external = cohort.get("external_centers") or []
    counts = patients["center"].value_counts(sort=False)
    named = ", ".join(f"{name} {n}{' (external)' if name in external else ''}" for name, n in counts.items())
    return f"patients per center: {named}"


@fact("cohort/flow.csv")
def inclusion_flow(flow: pd.DataFrame) -> str:
    last = flow.iloc[-1]
    steps = ", ".join(f"{row.description}: {row.remaining}" for row in flow.itertuples())
    return f"{steps}; {last['remaining_positive']} with and {last['remaining_negative']} without the outcome"


@fact("cohort/study.json", "cohort/cohort.yaml")
def endpoint(study: dict, cohort: dict) -> str:
    outcome = cohort["endpoints"][study["endpoint"]]
    return f"{outcome['label']}: {outcome.get('positive', 'yes')} against {outcome.get('negative', 'no')}"


@fact("cohort/splits.csv")
def split_sizes(splits: pd.DataFrame) -> str:
    counts = splits["split"].value_counts()
    return f"patients: {', '.join(f'{SPLIT_NAMES[split]} {counts[split]}' for split in SPLIT_NAMES if split in counts)}"


@fact("run_log.csv", remedy="run_log.csv has no finished 11_cohort; run it: python3 run_all.py --only 11")
def split_method(log: pd.DataFrame) -> str:
    drawn = _parameters(log, "11_cohort")
    if not drawn:
        return ""
    shares = f"test share {drawn['test_fraction']}, validation share {drawn['validation_fraction']} of the rest"
    return f"{shares}, seed {drawn['seed']}; splits and external centers of the cohort folder go before"


@fact()
def patient_disjoint(run: RunFolder) -> Fact:
    """Predictions of one model that share patients are an error, which reading them raises."""
    twice = int(run.read_table("cohort/splits.csv")["patient_id"].duplicated().sum())
    text = f"by patient; {_count(twice, 'patient')} in several splits"
    if predictions := _made(run, PREDICTIONS):
        models = len(_models(run.read_predictions()))
        text += f", none in several splits of the predictions of {_count(models, 'model')}"
    return Fact(text, ("cohort/splits.csv", *predictions))


@fact("cohort/table_one.csv")
def missing_values(table: pd.DataFrame) -> str:
    table = table[table["group"] == OVERALL].drop_duplicates("variable")
    lacking = table[table["missing"] > 0]
    named = ", ".join(f"{row.label} {row.missing} of {row.n_group}" for row in lacking.itertuples())
    return f"missing: {named}" if named else f"nothing missing in {len(table)} clinical variables"


@fact("cohort/table_one.csv")
def table_one(table: pd.DataFrame) -> str:
    return f"{table['variable'].nunique()} variables, overall and by outcome, with standardized differences"


@fact("cohort/flow.csv")
def class_balance(flow: pd.DataFrame) -> str:
    positive, negative = (int(flow.iloc[-1][f"remaining_{outcome}"]) for outcome in ("positive", "negative"))
    return f"{positive} with, {negative} without the outcome (share {positive / (positive + negative):.2f})"


@fact("cohort/cohort.yaml", remedy="cohort/cohort.yaml names no clinical variables; list them under `clinical`")
def clinical_predictors(cohort: dict) -> str:
    return "; ".join(
        f"{v['label']} ({v.get('unit') or ', '.join(map(str, v.get('levels') or [v['kind']]))})"
        for v in (cohort.get("clinical") or {}).values()
    )


@fact("cohort/images.csv", remedy="cohort/images.csv lists no image; only the clinical arms apply")
def image_inventory(images: pd.DataFrame) -> str:
    words = []
    for modality, of_it in images.groupby("modality", sort=False):
        views = ", ".join(map(str, of_it["sequence_or_view"].dropna().unique()))
        sizes = f"{_count(len(of_it), 'image')} of {_count(of_it['patient_id'].nunique(), 'patient')}"
        words.append(f"{modality}: {sizes} ({views or 'one view'})")
    return "; ".join(words)


@fact("cohort/images.csv", remedy="no image of cohort/images.csv has a mask; give mask_path where lesions are drawn")
def masks(images: pd.DataFrame) -> str:
    if "mask_path" not in images or images["mask_path"].isna().all():
        return ""
    counts = images.loc[images["mask_path"].notna(), "modality"].value_counts(sort=False)
    return f"images with a mask: {', '.join(f'{modality} {n}' for modality, n in counts.items())}"


# --- the models ---------------------------------------------------------------------------------------------------


@fact("clinical/univariable.csv", "clinical/model.csv")
def univariable_selection(tested: pd.DataFrame, model: pd.DataFrame) -> str:
    kept = ", ".join(model.dropna(subset="odds_ratio")["variable"].unique()) or "none"
    return f"{tested['variable'].nunique()} clinical candidates tested one by one; in the model: {kept}"


@fact("clinical/model.csv", "clinical/nomogram.csv")
def clinical_model_terms(model: pd.DataFrame, _: pd.DataFrame) -> str:
    terms = ", ".join(
        f"{row.feature} OR {row.odds_ratio:.2f}" for row in model.dropna(subset="odds_ratio").itertuples()
    )
    return f"clinical model: {terms or 'intercept only'}; nomogram"


@fact(PREDICTIONS)
def models(predictions: pd.DataFrame) -> str:
    words = []
    for study, rows in _models(predictions).groupby("study", sort=False):
        shown = rows.loc[rows["role"] != "candidate", "model"]
        candidates = len(rows) - len(shown)
        words.append(f"{study}: {', '.join(shown)}" + (f" and {_count(candidates, 'candidate')}" if candidates else ""))
    return "; ".join(words)


@fact(PREDICTIONS, remedy="no model joins others in this run; run 25 or 31")
def ensembles(predictions: pd.DataFrame) -> str:
    rows = [row for row in _models(predictions).itertuples() if row.study in STUDIES and row.role == "main"]
    published = [(row.model, STUDIES[row.study].model(row.model)) for row in rows]
    joint = ", ".join(name for name, model in published if model is not None and model.joins)
    return f"models that join others: {joint}" if joint else ""


@fact(PREDICTIONS, remedy="the predictions belong to none of the five studies; cite the earlier work")
def published_studies(predictions: pd.DataFrame) -> str:
    sources = "; ".join(STUDIES[key].source for key in predictions["study"].unique() if key in STUDIES)
    return f"rebuilt after: {sources}" if sources else ""


@fact("*/choice.csv", remedy="no network was chosen; run 22, 23, 24 or 25")
def networks_chosen(choices: dict[str, pd.DataFrame]) -> str:
    words = []
    for name, table in choices.items():
        parts = [column for column in ("crop", "arm") if column in table]
        for part, tried in table.groupby(parts[0], sort=False) if parts else [("", table)]:
            best = tried[tried["chosen"].astype(bool)].iloc[0]
            where = f"{name.split('/')[0]} {part}".strip()
            how = f"{best['model']} {best['architecture']}" if best["model"] == "frozen" else best["model"]
            words.append(f"{where}: {how} ({best['weights']}) of {len(tried)}, AUC {best['out_of_fold_auc']:.2f}")
    return f"chosen out of fold among the development patients: {'; '.join(words)}"


@fact("*/training_history.csv", remedy="no training history; run 22, 23, 24 or 25")
def training_history(histories: dict[str, pd.DataFrame]) -> str:
    epochs = ", ".join(f"{name.split('/')[0]} {table['epoch'].max()}" for name, table in histories.items())
    return f"loss by epoch kept (last epoch: {epochs})"


@fact("run_log.csv", remedy="run_log.csv has no finished model stage; run one: python3 run_all.py --from 21")
def stage_parameters(log: pd.DataFrame) -> str:
    words = []
    for stage in STAGES:
        if stage.predictions and (ran_with := _parameters(log, stage.notebook)):
            named = ", ".join(f"{name} {ran_with[name]}" for name in SHOWN_PARAMETERS if name in ran_with)
            words.append(f"{stage.number}: {named}")
    return "; ".join(words)


@fact("run_log.csv", remedy="run_log.csv has no finished network stage; run 22, 23, 24 or 25")
def initial_weights(log: pd.DataFrame) -> str:
    by_stage = {stage.number: _parameters(log, stage.notebook).get("weights") for stage in STAGES}
    started = {number: "from scratch" if how == "none" else how for number, how in by_stage.items() if how}
    named = ", ".join(f"{number} {how}" for number, how in started.items())
    return f"initial weights by stage: {named}" if named else ""


@fact("*.pt", remedy="no network file is kept; run 23 or 25")
def saved_networks(files: dict[str, Path]) -> str:
    return f"{_count(len(files), 'trained network')} saved"


@fact("*.parquet", remedy=NO_FEATURES)
def radiomics_settings(_: dict[str, Path]) -> Fact:
    """Of the settings of the library, in a run that has features."""
    words, files = [], []
    for path in sorted(SETTINGS.glob("*.yaml")):
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        setting = content["setting"]
        spacing = setting.get("resampledPixelSpacing")
        grid = f"resampled to {' x '.join(map(str, spacing))} mm" if spacing else "not resampled"
        level = f"bin width {setting['binWidth']}" if "binWidth" in setting else f"{setting.get('binCount')} bins"
        scaled = "z-scored image, " if setting.get("normalize") else ""
        images, classes = ", ".join(content["imageType"]), ", ".join(content["featureClass"])
        words.append(f"{path.stem}: {scaled}{grid}, {level}; {images}; {classes}")
        files.append(f"alnlib/radiomics/settings/{path.name}")
    return Fact(" | ".join(words), tuple(files))


@fact("*.parquet", remedy=NO_FEATURES)
def feature_counts(tables: dict[str, Path]) -> str:
    words = []
    for path in tables.values():
        schema = pyarrow.parquet.read_metadata(path)
        features = sum("__" in column for column in schema.schema.to_arrow_schema().names)
        words.append(f"{path.stem}: {_count(features, 'feature')} of {_count(schema.num_rows, 'patient')}")
    return "; ".join(words)


@fact("*/selection.csv", remedy=NO_RADIOMICS)
def feature_selection(_: dict[str, pd.DataFrame]) -> str:
    return "selected features listed"


@fact("*/stability.csv", remedy=NO_RADIOMICS)
def feature_stability(_: dict[str, pd.DataFrame]) -> str:
    return "ICC under perturbed masks listed"


@fact("*/learners.csv", remedy=NO_RADIOMICS)
def learners(_: dict[str, pd.DataFrame]) -> str:
    return "learners compared under one tuning budget"


# --- the evaluation -----------------------------------------------------------------------------------------------


@fact("evaluation/discrimination.csv")
def discrimination_measures(table: pd.DataFrame) -> str:
    return f"{table['auc_low'].notna().sum()} AUCs with 95 % intervals (by study, model and split)"


@fact("evaluation/discrimination.csv", remedy=NO_THRESHOLD)
def operating_points(table: pd.DataFrame) -> str:
    points = int(_tested(table)["sensitivity_low"].notna().sum())
    measures = "sensitivity, specificity, PPV, NPV, accuracy with 95 % intervals on tested splits"
    return f"{measures} ({_count(points, 'model')} by split)" if points else ""


@fact("evaluation/discrimination.csv", remedy=NO_THRESHOLD)
def thresholds(table: pd.DataFrame) -> str:
    origins = _tested(table)["threshold_from"].dropna().value_counts()
    named = ", ".join(f"{SPLIT_NAMES[split]} {n}" for split, n in origins.items())
    how = "probability of the outcome; threshold of the largest Youden index, locked on"
    return f"{how}: {named} (tested rows)" if named else ""


@fact("evaluation/calibration.csv")
def calibration_measures(table: pd.DataFrame) -> str:
    n = _count(len(table), "model")
    return f"intercept, slope, ICI, Brier, Hosmer-Lemeshow of {n} by split, with 95 % intervals and curves"


@fact("evaluation/net_benefit.csv")
def utility_measures(table: pd.DataFrame) -> str:
    curves = _count(table.groupby(["study", "model", "split"]).ngroups, "model")
    span = f"{table['threshold'].min():g} to {table['threshold'].max():g}"
    return f"net benefit of {curves} by split at thresholds {span}, with 95 % intervals"


@fact("evaluation/comparisons.csv", remedy="evaluation/comparisons.csv compares no two models; run a second model")
def model_comparisons(table: pd.DataFrame) -> str:
    methods = ", ".join(name for name in table["method"].unique() if not name.startswith("not estimable"))
    return f"{_count(len(table), 'comparison')} of two models ({methods}), Holm's correction" if methods else ""


@fact("run_log.csv", remedy="run_log.csv has no finished stage 41; run it: python3 run_all.py --only 41")
def interval_methods(log: pd.DataFrame) -> str:
    n = _parameters(log, "41_discrimination").get("n_bootstrap")
    how = f"95 % intervals of AUCs and differences after DeLong, others by {n} resamples of patients"
    return "" if n is None else how


@fact()
def internal_performance(run: RunFolder) -> Fact:
    return _performance(run, "test")


@fact()
def external_performance(run: RunFolder) -> Fact:
    return _performance(run, "external")


@fact(PREDICTIONS)
def analysis_sizes(predictions: pd.DataFrame) -> str:
    words = []
    for study, rows in predictions.groupby("study", sort=False):
        by_split = rows.groupby(["split", "patient_id"])["y_true"].max().groupby("split").agg(["size", "sum"])
        ordered = by_split.loc[[split for split in SPLIT_NAMES if split in by_split.index]]
        named = ", ".join(f"{SPLIT_NAMES[row.Index]} {row.size} ({row.sum})" for row in ordered.itertuples())
        words.append(f"{study}: {named}")
    return f"patients (with the outcome): {'; '.join(words)}"


@fact(remedy="no table of it; run 44 or 45 if the cohort has what it needs")
def validity_audit(run: RunFolder) -> Fact | str:
    made = [name for number in ("44", "45") for name in find_stage(number).makes if name.endswith(".csv")]
    files = sorted(filter(run.has, made), key=lambda name: not name.endswith("/validity.csv"))  # the audits go first
    if not files:
        return ""
    results = pd.concat([pd.DataFrame({"result": []}), *map(run.read_table, files)])["result"].dropna()
    counts = ", ".join(f"{n} {result}" for result, n in results.value_counts().items())
    text = f"leakage and resampling audit: {_count(len(files), 'table')}"
    return Fact(text + (f"; audits: {counts}" if counts else ""), tuple(files))


@fact("evaluation/recalibration.csv", remedy="no model has patients apart to recalibrate on; give a validation split")
def recalibration(table: pd.DataFrame) -> str:
    fitted = table[table["n_fitted"].notna()]
    n, methods = fitted.groupby(["study", "model"]).ngroups, ", ".join(fitted["method"].unique())
    how = f"{_count(n, 'model')} recalibrated ({methods}) on other patients, before and after on tested ones"
    return how if n else ""


@fact("evaluation/models_against_readers.csv", remedy="no reader read these patients; give readers.csv")
def reader_comparisons(table: pd.DataFrame) -> str:
    return f"{_count(len(table), 'comparison')} of a model with readers" if len(table) else ""


@fact("explanations/*.csv", remedy="no table of it; run 51 or 52 if the cohort has what it needs")
def explanations(tables: dict[str, pd.DataFrame]) -> str:
    return f"Grad-CAM with faithfulness and randomization tests: {_count(len(tables), 'table')}"


@fact("report/claims.csv", remedy="no published study is rebuilt on these patients")
def claim_verdicts(table: pd.DataFrame) -> str:
    if table.empty:
        return ""
    counts = ", ".join(f"{n} {verdict}" for verdict, n in table["verdict"].value_counts().items())
    return f"{len(table)} published claims on {table['provenance'].iloc[0]} patients: {counts}"


# --- the code -----------------------------------------------------------------------------------------------------


@fact("provenance.json")
def software(provenance: dict) -> str:
    """Versions of Python and of the packages that results depend on."""
    return ", ".join(f"{name} {version}" for name, version in provenance["versions"].items() if version != "absent")


@fact("provenance.json", remedy="provenance.json names no commit; run from a git checkout")
def code_version(provenance: dict) -> str:
    """That the commit of the code is recorded; the hash itself stays in its file, which results under git leave out."""
    return "" if provenance["commit"].startswith("no git") else "commit of the code recorded"


# --- what several of them read ------------------------------------------------------------------------------------


def _count(n: int, noun: str) -> str:
    return f"{n} {noun}{'' if n == 1 else 's'}"


def _models(predictions: pd.DataFrame) -> pd.DataFrame:
    """study, model and role of every model, in the order of the predictions; single fits are none."""
    return models_only(predictions)[["study", "model", "role"]].drop_duplicates(["study", "model"])


def _parameters(log: pd.DataFrame, notebook: str) -> dict:
    """Parameters of the last run of a stage that ended well; empty if none did."""
    ended = log[(log["notebook"] == notebook) & (log["status"] == "done")]
    return {} if ended.empty else json.loads(ended["parameters"].iloc[-1])


def _tested(table: pd.DataFrame) -> pd.DataFrame:
    return table[table["split"].isin(("test", "external"))]


def _performance(run: RunFolder, split: str) -> Fact:
    table = run.read_table("evaluation/discrimination.csv")
    judged = table[(table["split"] == split) & table["auc"].notna()]
    roles = _models(run.read_predictions())
    judged = judged.merge(roles, on=["study", "model"], how="left").query("role != 'candidate'")
    if judged.empty:
        raise InputError(f"no model was evaluated on {SPLIT_NAMES[split]} patients; this cohort has none")
    patients = f"{SPLIT_NAMES[split]} patients ({run.provenance})"
    span = f"{judged['auc'].min():.2f} to {judged['auc'].max():.2f}"
    text = f"{_count(len(judged), 'model')} on {patients}, AUC {span}, with intervals"
    return Fact(text, ("evaluation/discrimination.csv",))
