"""Reporting checklists filled from a run's files: what a file tells, what the authors must say, what was not done.

The items stand in `checklist_items/*.yaml`, in our own short words under their official numbers. Nothing here says that a
study complies with a checklist: whether what is filled in suffices, only a reader can judge.
"""

from __future__ import annotations

import html
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pyarrow.parquet
import yaml

from alneval.figures import SPLIT_NAMES
from alneval.tables import read_predictions
from alnlib.cohorts.table_one import OVERALL
from alnlib.errors import InputError
from alnlib.pipeline.results import RunFolder
from alnlib.pipeline.stages import STAGES, find_stage
from alnlib.studies import STUDIES

ITEMS = Path(__file__).parent / "checklist_items"
SETTINGS = Path(__file__).parent.parent / "radiomics" / "settings"
CHECKLISTS = ("tripod_ai", "claim", "clear", "metrics")

STATUSES = {
    "auto": "a file of this run holds it; the value and the file are given",
    "needs author": "only the authors can say it; what files hold on it is given",
    "not done": "no file of this run holds it; the remedy is given",
}
"""{status: what it means}"""

DISCLAIMER = (
    "This table does not say that a study complies with a checklist. It gathers what files tell about a run and names what "
    "they do not tell; whether that suffices, a reader must judge against the checklist itself. Items are paraphrased."
)

TABLE_COLUMNS = ("checklist", "number", "section", "topic", "status", "found", "files", "remaining")
ITEM_KEYS = {"number", "section", "topic", "facts", "author", "not_done"}
SHOWN_PARAMETERS = ("seed", "epochs", "learning_rate", "batch_size", "image_size", "n_folds", "n_repeats", "weights")


@dataclass(frozen=True)
class Fact:
    """What files of a run say on one matter: a short text, and the files it came from, relative to the run's folder."""

    text: str
    files: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.text} [{', '.join(self.files)}]"


@dataclass(frozen=True)
class Item:
    """One item of a checklist. facts: names in FACTS; author: what only the authors can say; not_done: why nothing is there."""

    number: str
    section: str
    topic: str
    facts: tuple[str, ...] = ()
    author: str = ""
    not_done: str = ""


@dataclass(frozen=True)
class Checklist:
    """A reporting checklist in our own words.

    about: what it is for; doi: of the paper that holds its wording; presumes: facts without which it is about nothing in a
    run (radiomics checklists presume features).
    """

    key: str
    title: str
    about: str
    version: str
    citation: str
    doi: str
    items: tuple[Item, ...]
    presumes: tuple[str, ...] = ()


def read_checklist(key: str) -> Checklist:
    """A checklist by its name in CHECKLISTS.

    Raises ValueError for a number that stands twice, a fact that nobody reads, or an item that says neither where it is
    filled from nor who fills it.
    """
    content = yaml.safe_load((ITEMS / f"{key}.yaml").read_text(encoding="utf-8"))
    items = []
    for entry in content.pop("items"):
        unknown = set(entry) - ITEM_KEYS | set(entry.get("facts", ())) - set(FACTS)
        if unknown:
            raise ValueError(f"{key}, item {entry['number']}: nobody knows {sorted(unknown)}")
        item = Item(**(entry | {"facts": tuple(entry.get("facts", ()))}))
        if bool(item.facts or item.author) == bool(item.not_done):
            raise ValueError(f"{key}, item {item.number}: give facts, author or both, or not_done alone")
        items.append(item)
    numbers = [item.number for item in items]
    if len(set(numbers)) < len(numbers):
        raise ValueError(f"{key}: a number stands twice")
    presumes = tuple(content.pop("presumes", ()))
    if unknown := set(presumes) - set(FACTS):
        raise ValueError(f"{key} presumes {sorted(unknown)}, which nobody reads")
    return Checklist(**content, items=tuple(items), presumes=presumes)


# --- filling ------------------------------------------------------------------------------------------------------


def read_facts(run: RunFolder) -> dict[str, Fact | str]:
    """Every fact of FACTS in this run; where a file is missing or has nothing on it, the remedy, without paths of a machine."""
    facts: dict[str, Fact | str] = {}
    for name, read in FACTS.items():
        try:
            facts[name] = read(run)
        except InputError as error:
            facts[name] = str(error).replace(f"{run.folder}/", "")
    return facts


def filled_checklist(checklist: Checklist, facts: Mapping[str, Fact | str]) -> pd.DataFrame:
    """One row per item, columns TABLE_COLUMNS.

    auto: all its facts are there and nothing is left to the authors; needs author: something is; not done: a fact is not
    there, no analysis is made, or nothing is there that the checklist presumes. remaining: what the authors add, or the
    remedy.
    """
    absent = [
        f"the checklist presumes it: {fact}" for name in checklist.presumes if isinstance(fact := facts[name], str)
    ]
    rows = []
    for item in checklist.items:
        found = [fact for name in item.facts if isinstance(fact := facts[name], Fact)]
        remedies = [fact for name in item.facts if isinstance(fact := facts[name], str)]
        if item.author:
            status, remaining = "needs author", [item.author, *remedies]
        elif item.not_done or remedies or absent:
            status, remaining = "not done", [item.not_done, *remedies, *absent]
        else:
            status, remaining = "auto", []
        rows.append(
            {
                "checklist": f"{checklist.title} ({checklist.version})",
                "number": item.number,
                "section": item.section,
                "topic": item.topic,
                "status": status,
                "found": "; ".join(fact.text for fact in found),
                "files": ", ".join(dict.fromkeys(file for fact in found for file in fact.files)),
                "remaining": "; ".join(dict.fromkeys(text for text in remaining if text)),
            }
        )
    return pd.DataFrame(rows, columns=list(TABLE_COLUMNS))


def status_counts(table: pd.DataFrame) -> pd.DataFrame:
    """Items by checklist and status, and in all; table: rows of `filled_checklist` of one or several checklists."""
    counts = pd.crosstab(table["checklist"], table["status"]).reindex(
        index=table["checklist"].unique(), columns=list(STATUSES), fill_value=0
    )
    return counts.assign(items=counts.sum(axis=1)).rename_axis(columns=None).reset_index()


# --- facts: one small function per matter -------------------------------------------------------------------------


def read_cohort_source(run: RunFolder) -> Fact:
    """Title, provenance, source, license and citation of the cohort."""
    cohort = _cohort(run)
    parts = [f"{cohort['title']}, {cohort['provenance']} patients"]
    parts += [
        f"{name} {cohort[key]}" for key, name in (("license", "license"), ("citation", "cite")) if cohort.get(key)
    ]
    return Fact("; ".join(parts), ("cohort/cohort.yaml",))


def read_centers(run: RunFolder) -> Fact:
    """Patients per center, and which centers are external."""
    external = _cohort(run).get("external_centers") or []
    counts = run.read_table("cohort/patients.csv")["center"].value_counts(sort=False)
    text = ", ".join(f"{name} {n}{' (external)' if name in external else ''}" for name, n in counts.items())
    return Fact(f"patients per center: {text}", ("cohort/cohort.yaml", "cohort/patients.csv"))


def read_inclusion_flow(run: RunFolder) -> Fact:
    """Every step of the inclusion with the patients that remain, and those with and without the outcome at the end."""
    flow = run.read_table("cohort/flow.csv")
    last = flow.iloc[-1]
    steps = ", ".join(f"{row.description}: {row.remaining}" for row in flow.itertuples())
    ends = f"{last['remaining_positive']} with and {last['remaining_negative']} without the outcome"
    return Fact(f"{steps}; {ends}", ("cohort/flow.csv",))


def read_endpoint(run: RunFolder) -> Fact:
    """The endpoint with the words for its two classes."""
    name = run.read_json("cohort/study.json")["endpoint"]
    outcome = _cohort(run)["endpoints"][name]
    text = f"{outcome['label']}: {outcome.get('positive', 'yes')} against {outcome.get('negative', 'no')}"
    return Fact(text, ("cohort/study.json", "cohort/cohort.yaml"))


def read_split_sizes(run: RunFolder) -> Fact:
    """Patients in every split."""
    counts = run.read_table("cohort/splits.csv")["split"].value_counts()
    ordered = [f"{SPLIT_NAMES[split]} {counts[split]}" for split in SPLIT_NAMES if split in counts]
    return Fact(f"patients: {', '.join(ordered)}", ("cohort/splits.csv",))


def read_split_method(run: RunFolder) -> Fact:
    """Shares and seed with which the splits were drawn, from the log of stage 11."""
    known = _parameters(run, "11_cohort")
    text = f"test share {known['test_fraction']}, validation share {known['validation_fraction']} of the rest, seed "
    return Fact(f"{text}{known['seed']}; splits and external centers of the cohort folder go before", ("run_log.csv",))


def read_patient_disjoint(run: RunFolder) -> Fact:
    """How many patients stand in several splits of splits.csv; predictions of one model that share patients are an error."""
    files = ["cohort/splits.csv"]
    twice = int(run.read_table("cohort/splits.csv")["patient_id"].duplicated().sum())
    text = f"by patient; {_count(twice, 'patient')} in several splits"
    if predictions := _prediction_files(run):
        models = _predictions(run).groupby(["study", "model"]).ngroups  # reading them refuses a patient in two splits
        text += f", none in several splits of the predictions of {_count(models, 'model')}"
        files += predictions
    return Fact(text, tuple(files))


def read_missing_values(run: RunFolder) -> Fact:
    """Missing values per clinical variable."""
    table = _table_one(run)
    lacking = table[table["missing"] > 0]
    named = ", ".join(f"{row.label} {row.missing} of {row.n_group}" for row in lacking.itertuples())
    text = f"missing: {named}" if named else f"nothing missing in {len(table)} clinical variables"
    return Fact(text, ("cohort/table_one.csv",))


def read_table_one(run: RunFolder) -> Fact:
    """How many variables Table 1 describes, in which groups."""
    table = run.read_table("cohort/table_one.csv")
    text = f"{table['variable'].nunique()} variables, overall and by outcome, with standardized differences"
    return Fact(text, ("cohort/table_one.csv",))


def read_class_balance(run: RunFolder) -> Fact:
    """Patients with and without the outcome, and their share."""
    last = run.read_table("cohort/flow.csv").iloc[-1]
    positive, negative = int(last["remaining_positive"]), int(last["remaining_negative"])
    share = positive / (positive + negative)
    return Fact(f"{positive} with, {negative} without the outcome (share {share:.2f})", ("cohort/flow.csv",))


def read_clinical_predictors(run: RunFolder) -> Fact:
    """The clinical variables with unit or levels. Raises InputError for a cohort without any."""
    known = _cohort(run).get("clinical") or {}
    if not known:
        raise InputError("cohort/cohort.yaml names no clinical variables; list them under `clinical`")
    named = [
        f"{v['label']} ({v.get('unit') or ', '.join(map(str, v.get('levels') or [v['kind']]))})" for v in known.values()
    ]
    return Fact("; ".join(named), ("cohort/cohort.yaml",))


def read_univariable_selection(run: RunFolder) -> Fact:
    """How many candidates were tested one by one, and which entered the clinical model."""
    tested = run.read_table("clinical/univariable.csv")["variable"].nunique()
    kept = run.read_table("clinical/model.csv")["variable"].unique()
    text = f"{tested} clinical candidates tested one by one; in the model: {', '.join(kept) or 'none'}"
    return Fact(text, ("clinical/univariable.csv", "clinical/model.csv"))


def read_image_inventory(run: RunFolder) -> Fact:
    """Images and patients per modality with their sequences or views. Raises InputError for a cohort without images."""
    images = run.read_table("cohort/images.csv")
    if images.empty:
        raise InputError("cohort/images.csv lists no image; only the clinical arms apply")
    parts = []
    for modality, rows in images.groupby("modality", sort=False):
        views = ", ".join(map(str, rows["sequence_or_view"].dropna().unique()))
        sizes = f"{_count(len(rows), 'image')} of {_count(rows['patient_id'].nunique(), 'patient')}"
        parts.append(f"{modality}: {sizes} ({views or 'one view'})")
    return Fact("; ".join(parts), ("cohort/images.csv",))


def read_masks(run: RunFolder) -> Fact:
    """Images with a mask. Raises InputError where none has one."""
    images = run.read_table("cohort/images.csv")
    drawn = images[images["mask_path"].notna()] if "mask_path" in images else images.iloc[:0]
    if drawn.empty:
        raise InputError("no image of cohort/images.csv has a mask; give mask_path where lesions are drawn")
    counts = ", ".join(f"{modality} {n}" for modality, n in drawn["modality"].value_counts(sort=False).items())
    return Fact(f"images with a mask: {counts}", ("cohort/images.csv",))


def read_models(run: RunFolder) -> Fact:
    """The models of every study, candidates counted."""
    parts = []
    for study, rows in _predictions(run).groupby("study", sort=False):
        names = list(rows["model"].unique())
        main = [name for name in names if "/" not in name]
        others = f" and {_count(len(names) - len(main), 'candidate')}" if len(names) > len(main) else ""
        parts.append(f"{study}: {', '.join(main)}{others}")
    return Fact("; ".join(parts), tuple(_prediction_files(run)))


def read_ensembles(run: RunFolder) -> Fact:
    """Models that join others, named with a plus; a reader's score is no model. Raises InputError where there is none."""
    names = _predictions(run)["model"].unique()
    joint = [
        name for name in names if "+" in name and not name.startswith(("clinical+", "R(2+1)D")) and "/" not in name
    ]
    if not joint:
        raise InputError("no model joins others in this run; run 25 or 31")
    return Fact(f"models that join others: {', '.join(joint)}", tuple(_prediction_files(run)))


def read_published_studies(run: RunFolder) -> Fact:
    """The published systems that the models of this run are rebuilt after."""
    known = [STUDIES[key].source for key in _predictions(run)["study"].unique() if key in STUDIES]
    if not known:
        raise InputError("the predictions belong to none of the five studies; cite the earlier work")
    return Fact(f"rebuilt after: {'; '.join(known)}", tuple(_prediction_files(run)))


def read_networks_chosen(run: RunFolder) -> Fact:
    """Networks tried and the one chosen on validation patients, with its number of parameters."""
    parts, files = [], []
    for name in _made(run, ".csv", "choice"):
        table = run.read_table(name)
        crops = table["crop"].unique() if "crop" in table else [""]
        for crop in crops:
            rows = table[table["crop"] == crop] if crop else table
            best = rows[rows["chosen"].astype(bool)].iloc[0]
            where = f"{name.split('/')[0]} {crop}".strip()
            parts.append(f"{where}: {best['architecture']} ({best['parameters'] / 1e6:.1f} million) of {len(rows)}")
        files.append(name)
    if not files:
        raise InputError("no network was trained; run 22, 24 or 25")
    return Fact(f"chosen on validation patients: {'; '.join(parts)}", tuple(files))


def read_training_history(run: RunFolder) -> Fact:
    """Networks whose loss was kept epoch by epoch."""
    files = _made(run, ".csv", "training_history")
    if not files:
        raise InputError("no training history; run 22, 23, 24 or 25")
    epochs = ", ".join(f"{name.split('/')[0]} {run.read_table(name)['epoch'].max()}" for name in files)
    return Fact(f"loss by epoch kept (last epoch: {epochs})", tuple(files))


def read_stage_parameters(run: RunFolder) -> Fact:
    """Parameters with which each model stage ran last, those of SHOWN_PARAMETERS."""
    parts = []
    for stage in STAGES:
        if stage.number[0] in "23" and (known := _parameters(run, stage.notebook, required=False)):
            shown = ", ".join(f"{name} {known[name]}" for name in SHOWN_PARAMETERS if name in known)
            parts.append(f"{stage.number}: {shown}")
    if not parts:
        raise InputError("run_log.csv has no finished model stage; run one: python3 run_all.py --from 21")
    return Fact("; ".join(parts), ("run_log.csv",))


def read_initial_weights(run: RunFolder) -> Fact:
    """Whether networks started from scratch or from given weights."""
    known = {stage.number: _parameters(run, stage.notebook, required=False).get("weights") for stage in STAGES}
    known = {number: weights for number, weights in known.items() if weights}
    if not known:
        raise InputError("run_log.csv has no finished network stage; run 22, 23, 24 or 25")
    words = {"none": "from scratch"}
    text = ", ".join(f"{number} {words.get(weights, weights)}" for number, weights in known.items())
    return Fact(f"initial weights by stage: {text}", ("run_log.csv",))


def read_software(run: RunFolder) -> Fact:
    """Versions of Python and of the packages that results depend on."""
    versions = run.read_json("provenance.json")["versions"]
    named = ", ".join(f"{name} {version}" for name, version in versions.items() if version != "absent")
    return Fact(named, ("provenance.json",))


def read_code_version(run: RunFolder) -> Fact:
    """That the commit of the code is recorded; the hash itself stays in its file, which results under git leave out."""
    if run.read_json("provenance.json")["commit"].startswith("no git"):
        raise InputError("provenance.json names no commit; run from a git checkout")
    return Fact("commit of the code recorded", ("provenance.json",))


def read_discrimination_measures(run: RunFolder) -> Fact:
    """AUCs, and operating points with intervals."""
    table = run.read_table("evaluation/discrimination.csv")
    text = f"{table['auc_low'].notna().sum()} AUCs with 95 % intervals (by study, model and split)"
    return Fact(text, ("evaluation/discrimination.csv",))


def read_operating_points(run: RunFolder) -> Fact:
    """On how many tested rows sensitivity, specificity, PPV, NPV and accuracy with intervals were computed."""
    rows = _tested(run.read_table("evaluation/discrimination.csv"))
    points = int(rows["sensitivity_low"].notna().sum())
    if not points:
        raise InputError("no tested model has a threshold; run 41 with validation or training rows")
    text = "sensitivity, specificity, PPV, NPV, accuracy with 95 % intervals on tested splits "
    return Fact(f"{text}({_count(points, 'model')} by split)", ("evaluation/discrimination.csv",))


def read_thresholds(run: RunFolder) -> Fact:
    """On which patients thresholds were chosen, for the tested rows."""
    rows = _tested(run.read_table("evaluation/discrimination.csv"))
    origins = rows["threshold_from"].dropna().value_counts()
    if origins.empty:
        raise InputError("no tested model has a threshold; run 41 with validation or training rows")
    named = ", ".join(f"{SPLIT_NAMES[split]} {n}" for split, n in origins.items())
    text = f"probability of the outcome; threshold of the largest Youden index, locked on: {named} (tested rows)"
    return Fact(text, ("evaluation/discrimination.csv",))


def read_calibration_measures(run: RunFolder) -> Fact:
    """How many models have intercept, slope, ICI and Brier score with intervals."""
    n = len(run.read_table("evaluation/calibration.csv"))
    text = f"intercept, slope, ICI, Brier, Hosmer-Lemeshow of {_count(n, 'model')} by split, with 95 % intervals and curves"
    return Fact(text, ("evaluation/calibration.csv",))


def read_utility_measures(run: RunFolder) -> Fact:
    """How many decision curves were computed, over which thresholds."""
    table = run.read_table("evaluation/net_benefit.csv")
    curves = table.groupby(["study", "model", "split"]).ngroups
    text = f"net benefit of {_count(curves, 'model')} by split at thresholds {table['threshold'].min():g} to "
    return Fact(f"{text}{table['threshold'].max():g}, with 95 % intervals", ("evaluation/net_benefit.csv",))


def read_model_comparisons(run: RunFolder) -> Fact:
    """How many pairs of models were compared, and by which tests."""
    table = run.read_table("evaluation/comparisons.csv")
    methods = ", ".join(name for name in table["method"].unique() if not name.startswith("not estimable"))
    if not methods:
        raise InputError("evaluation/comparisons.csv compares no two models; run a second model")
    return Fact(
        f"{_count(len(table), 'comparison')} of two models ({methods}), Holm's correction",
        ("evaluation/comparisons.csv",),
    )


def read_interval_methods(run: RunFolder) -> Fact:
    """Tests of differences and the resamples behind intervals."""
    n = _parameters(run, "41_discrimination", required=False).get("n_bootstrap")
    if n is None:
        raise InputError("run_log.csv has no finished stage 41; run it: python3 run_all.py --only 41")
    return Fact(
        f"95 % intervals of AUCs and differences after DeLong, others by {n} resamples of patients", ("run_log.csv",)
    )


def read_internal_performance(run: RunFolder) -> Fact:
    """AUCs of the models on internal test patients. Raises InputError where there are none."""
    return _performance(run, "test")


def read_external_performance(run: RunFolder) -> Fact:
    """AUCs of the models on patients of another center. Raises InputError where there are none."""
    return _performance(run, "external")


def read_analysis_sizes(run: RunFolder) -> Fact:
    """Patients and patients with the outcome in every split of every study's predictions."""
    parts = []
    for study, rows in _predictions(run).groupby("study", sort=False):
        by_split = rows.groupby(["split", "patient_id"])["y_true"].max().groupby("split").agg(["size", "sum"])
        named = [
            f"{SPLIT_NAMES[s]} {by_split.loc[s, 'size']} ({by_split.loc[s, 'sum']})"
            for s in SPLIT_NAMES
            if s in by_split.index
        ]
        parts.append(f"{study}: {', '.join(named)}")
    return Fact(f"patients (with the outcome): {'; '.join(parts)}", tuple(_prediction_files(run)))


def read_clinical_model_terms(run: RunFolder) -> Fact:
    """The terms of the clinical model with their odds ratios, and its nomogram."""
    table = run.read_table("clinical/model.csv")
    terms = ", ".join(f"{row.feature} OR {row.odds_ratio:.2f}" for row in table.itertuples())
    run.path("clinical/nomogram.csv")
    return Fact(
        f"clinical model: {terms or 'intercept only'}; nomogram", ("clinical/model.csv", "clinical/nomogram.csv")
    )


def read_saved_networks(run: RunFolder) -> Fact:
    """Network files of this run. Raises InputError where there are none."""
    files = _made(run, ".pt")
    if not files:
        raise InputError("no network file is kept; run 23 or 25")
    return Fact(f"{_count(len(files), 'trained network')} saved", tuple(files))


def read_validity_audit(run: RunFolder) -> Fact:
    """Tables of stage 44, and how many of its audits passed and failed. Raises InputError where it was not run."""
    fact = _tables_of(run, ("44",), "leakage and resampling audit")
    results = pd.concat([pd.DataFrame({"result": []}), *map(run.read_table, fact.files)])["result"].dropna()
    counts = ", ".join(f"{n} {result}" for result, n in results.value_counts().items())
    return Fact(fact.text + (f"; audits: {counts}" if counts else ""), fact.files)


def read_recalibration(run: RunFolder) -> Fact:
    """Models recalibrated, by which methods and on which patients. Raises InputError where none could be."""
    table = run.read_table("evaluation/recalibration.csv")
    fitted = table[table["n_fitted"].notna()]
    if fitted.empty:
        raise InputError("no model has patients apart to recalibrate on; give a validation split")
    models, methods = fitted.groupby(["study", "model"]).ngroups, ", ".join(fitted["method"].unique())
    text = f"{_count(models, 'model')} recalibrated ({methods}) on other patients, before and after on tested ones"
    return Fact(text, ("evaluation/recalibration.csv",))


def read_reader_comparisons(run: RunFolder) -> Fact:
    """Models compared with human readers. Raises InputError where there are no readers."""
    table = run.read_table("evaluation/models_against_readers.csv")
    if table.empty:
        raise InputError("no reader read these patients; give readers.csv")
    return Fact(
        f"{_count(len(table), 'comparison')} of a model with readers", ("evaluation/models_against_readers.csv",)
    )


def read_explanations(run: RunFolder) -> Fact:
    """Tables on where networks look and whether the maps can be trusted (stages 51, 52)."""
    return _tables_of(run, ("51", "52"), "Grad-CAM with faithfulness and randomization tests")


def read_radiomics_settings(run: RunFolder) -> Fact:
    """Resampling, gray levels, image types and feature classes of the extraction. Raises InputError before 26 and 27."""
    read_feature_counts(run)
    parts, files = [], []
    for path in sorted(SETTINGS.glob("*.yaml")):
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        setting = content["setting"]
        spacing = setting.get("resampledPixelSpacing")
        grid = f"resampled to {' x '.join(map(str, spacing))} mm" if spacing else "not resampled"
        level = f"bin width {setting['binWidth']}" if "binWidth" in setting else f"{setting.get('binCount')} bins"
        scaled = "z-scored image, " if setting.get("normalize") else ""
        images, classes = ", ".join(content["imageType"]), ", ".join(content["featureClass"])
        parts.append(f"{path.stem}: {scaled}{grid}, {level}; {images}; {classes}")
        files.append(f"alnlib/radiomics/settings/{path.name}")
    return Fact(" | ".join(parts), tuple(files))


def read_feature_counts(run: RunFolder) -> Fact:
    """Features and patients of every feature table. Raises InputError where there is none."""
    parts, files = [], _made(run, ".parquet")
    for name in files:
        schema = pyarrow.parquet.read_metadata(run.path(name))
        features = sum("__" in column for column in schema.schema.to_arrow_schema().names)
        parts.append(f"{Path(name).stem}: {_count(features, 'feature')} of {_count(schema.num_rows, 'patient')}")
    if not files:
        raise InputError("no feature table; run 26 or 27 if the cohort has what they need")
    return Fact("; ".join(parts), tuple(files))


def read_feature_selection(run: RunFolder) -> Fact:
    """Tables on which features were selected. Raises InputError where there are none."""
    return _named_tables(run, "selection", "selected features listed")


def read_feature_stability(run: RunFolder) -> Fact:
    """Tables on features under perturbed masks. Raises InputError where there are none."""
    return _named_tables(run, "stability", "ICC under perturbed masks listed")


def read_learners(run: RunFolder) -> Fact:
    """Tables of learners compared. Raises InputError where there are none."""
    return _named_tables(run, "learners", "learners compared under one tuning budget")


def read_claim_verdicts(run: RunFolder) -> Fact:
    """Verdicts on the published claims, counted."""
    table = run.read_table("report/claims.csv")
    counts = ", ".join(f"{n} {verdict}" for verdict, n in table["verdict"].value_counts().items())
    return Fact(
        f"{len(table)} published claims on {table['provenance'].iloc[0]} patients: {counts}", ("report/claims.csv",)
    )


FACTS: dict[str, Callable[[RunFolder], Fact]] = {
    "cohort_source": read_cohort_source,
    "centers": read_centers,
    "inclusion_flow": read_inclusion_flow,
    "endpoint": read_endpoint,
    "split_sizes": read_split_sizes,
    "split_method": read_split_method,
    "patient_disjoint": read_patient_disjoint,
    "missing_values": read_missing_values,
    "table_one": read_table_one,
    "class_balance": read_class_balance,
    "clinical_predictors": read_clinical_predictors,
    "univariable_selection": read_univariable_selection,
    "image_inventory": read_image_inventory,
    "masks": read_masks,
    "models": read_models,
    "ensembles": read_ensembles,
    "published_studies": read_published_studies,
    "networks_chosen": read_networks_chosen,
    "training_history": read_training_history,
    "stage_parameters": read_stage_parameters,
    "initial_weights": read_initial_weights,
    "software": read_software,
    "code_version": read_code_version,
    "discrimination_measures": read_discrimination_measures,
    "operating_points": read_operating_points,
    "thresholds": read_thresholds,
    "calibration_measures": read_calibration_measures,
    "utility_measures": read_utility_measures,
    "model_comparisons": read_model_comparisons,
    "interval_methods": read_interval_methods,
    "internal_performance": read_internal_performance,
    "external_performance": read_external_performance,
    "analysis_sizes": read_analysis_sizes,
    "clinical_model_terms": read_clinical_model_terms,
    "saved_networks": read_saved_networks,
    "validity_audit": read_validity_audit,
    "recalibration": read_recalibration,
    "reader_comparisons": read_reader_comparisons,
    "explanations": read_explanations,
    "radiomics_settings": read_radiomics_settings,
    "feature_counts": read_feature_counts,
    "feature_selection": read_feature_selection,
    "feature_stability": read_feature_stability,
    "learners": read_learners,
    "claim_verdicts": read_claim_verdicts,
}
"""{name in the item tables: function that reads it}; each raises InputError with the remedy where it finds nothing."""


def _count(n: int, noun: str) -> str:
    return f"{n} {noun}{'' if n == 1 else 's'}"


def _cohort(run: RunFolder) -> dict:
    return yaml.safe_load(run.path("cohort/cohort.yaml").read_text(encoding="utf-8"))


def _table_one(run: RunFolder) -> pd.DataFrame:
    """One overall row per variable."""
    table = run.read_table("cohort/table_one.csv")
    return table[table["group"] == OVERALL].drop_duplicates("variable")


def _prediction_files(run: RunFolder) -> list[str]:
    return _made(run, ".csv", folder="predictions/")


def _predictions(run: RunFolder) -> pd.DataFrame:
    return read_predictions(run.predictions())


def _made(run: RunFolder, suffix: str, stem: str = "", folder: str = "") -> list[str]:
    """Files that stages of the table make and that are there, by how they end, their stem and their folder."""
    names = [name for stage in STAGES for name in stage.makes if name.endswith(suffix) and name.startswith(folder)]
    return [name for name in names if run.has(name) and (not stem or Path(name).stem == stem)]


def _parameters(run: RunFolder, notebook: str, required: bool = True) -> dict:
    """Parameters of the last run of a stage that ended well."""
    log = run.read_table("run_log.csv")
    rows = log[(log["notebook"] == notebook) & (log["status"] == "done")]
    if rows.empty and required:
        raise InputError(f"run_log.csv has no finished {notebook}; run it: python3 run_all.py --only {notebook[:2]}")
    return {} if rows.empty else json.loads(rows["parameters"].iloc[-1])


def _tested(table: pd.DataFrame) -> pd.DataFrame:
    return table[table["split"].isin(("test", "external"))]


def _performance(run: RunFolder, split: str) -> Fact:
    table = run.read_table("evaluation/discrimination.csv")
    rows = table[(table["split"] == split) & ~table["model"].str.contains("/", regex=False) & table["auc"].notna()]
    if rows.empty:
        raise InputError(f"no model was evaluated on {SPLIT_NAMES[split]} patients; this cohort has none")
    text = f"{_count(len(rows), 'model')} on {SPLIT_NAMES[split]} patients ({run.provenance}), AUC {rows['auc'].min():.2f} to "
    return Fact(f"{text}{rows['auc'].max():.2f}, with intervals", ("evaluation/discrimination.csv",))


def _tables_of(run: RunFolder, numbers: Iterable[str], what: str) -> Fact:
    stages = [stage for number in numbers if (stage := find_stage(number))]
    files = [name for stage in stages for name in stage.makes if name.endswith(".csv") and run.has(name)]
    if not files:
        raise InputError(f"no table of it; run {' or '.join(numbers)} if the cohort has what it needs")
    return Fact(f"{what}: {_count(len(files), 'table')}", tuple(files))


def _named_tables(run: RunFolder, stem: str, what: str) -> Fact:
    files = _made(run, ".csv", stem)
    if not files:
        raise InputError("no table of it; run 26 or 27 if the cohort has what they need")
    return Fact(what, tuple(files))


# --- the page -----------------------------------------------------------------------------------------------------

STYLE = """
:root { color-scheme: light; --ink: #1f2933; --soft: #5b6770; --line: #d8dee4; }
body { font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, Arial, sans-serif; color: var(--ink); background: #fff;
  max-width: 76rem; margin: 2rem auto; padding: 0 1.2rem; }
h1 { font-size: 1.6rem; margin: 0 0 .2rem; } h2 { font-size: 1.25rem; margin: 2.4rem 0 .2rem; }
p.about, p.where { color: var(--soft); margin: .1rem 0 .8rem; }
p.note { border-left: 4px solid #c77700; background: #fff8ec; padding: .6rem .9rem; }
nav a { margin-right: 1.2rem; } a { color: #0b5cad; }
table { border-collapse: collapse; width: 100%; font-size: .86rem; } table.counts { width: auto; margin: .6rem 0; }
th, td { text-align: left; vertical-align: top; padding: .35rem .55rem; border-bottom: 1px solid var(--line);
  overflow-wrap: anywhere; }
th { border-bottom: 2px solid var(--ink); } table.counts td + td, table.counts th + th { text-align: right; }
tr.section td { font-weight: 600; background: #f4f6f8; }
col.number { width: 7%; } col.topic { width: 27%; } col.status { width: 9%; } col.found { width: 35%; }
table.items { table-layout: fixed; }
.status { display: inline-block; border-radius: .6rem; padding: 0 .55rem; white-space: nowrap; font-size: .82rem;
  border: 1px solid; }
.auto { background: #e6f4ea; border-color: #8fc9a0; } .needs-author { background: #fff4d6; border-color: #e0bd62; }
.not-done { background: #fbe9e7; border-color: #dfa39b; }
code { font-size: .92em; color: var(--soft); }
@media print { body { margin: 0; max-width: none; font-size: 10pt; } nav { display: none; } a { color: inherit; }
  thead { display: table-header-group; } tr { break-inside: avoid; } section + section { break-before: page; }
  .status, tr.section td, p.note { -webkit-print-color-adjust: exact; print-color-adjust: exact; } }
"""


def checklist_page(checklists: Iterable[Checklist], table: pd.DataFrame, patients: str) -> str:
    """A self-contained HTML page: a legend, counts, and one section with an anchor (its key) per checklist.

    table: rows of `filled_checklist` of all of them; patients: whose results they are, such as `RunFolder.label`.
    """
    checklists = list(checklists)
    titles = {checklist.key: f"{checklist.title} ({checklist.version})" for checklist in checklists}
    links = "".join(f'<a href="#{key}">{html.escape(title)}</a>' for key, title in titles.items())
    legend = "".join(f"<li>{_badge(status)} {html.escape(meaning)}</li>" for status, meaning in STATUSES.items())
    sections = "\n".join(_section(one, table[table["checklist"] == titles[one.key]]) for one in checklists)
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Reporting checklists: {html.escape(patients)}</title>
<style>{STYLE}</style>
</head>
<body>
<h1>Reporting checklists</h1>
<p class="about">{html.escape(patients)}. Every number on this page is of these patients.</p>
<p class="note">{html.escape(DISCLAIMER)}</p>
<ul>{legend}</ul>
{_counts(status_counts(table))}
<nav>{links}</nav>
{sections}
</body>
</html>
"""


def _badge(status: str) -> str:
    return f'<span class="status {status.replace(" ", "-")}">{html.escape(status)}</span>'


def _counts(counts: pd.DataFrame) -> str:
    head = "".join(f"<th>{html.escape(str(name))}</th>" for name in counts)
    rows = "".join(
        "<tr>" + "".join(f"<td>{html.escape(str(value))}</td>" for value in row) + "</tr>"
        for row in counts.itertuples(index=False)
    )
    return f'<table class="counts"><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>'


def _section(checklist: Checklist, table: pd.DataFrame) -> str:
    rows = []
    for section, items in table.groupby("section", sort=False):
        rows.append(f'<tr class="section"><td colspan="5">{html.escape(section)}</td></tr>')
        rows += [_row(item) for item in items.to_dict("records")]
    doi, about = html.escape(checklist.doi), html.escape(checklist.about[0].upper() + checklist.about[1:])
    return f"""<section id="{checklist.key}">
<h2>{html.escape(checklist.title)} ({html.escape(checklist.version)})</h2>
<p class="where">{about}. Wording and explanation: {html.escape(checklist.citation)},
<a href="https://doi.org/{doi}">doi:{doi}</a></p>
<table class="items">
<colgroup><col class="number"><col class="topic"><col class="status"><col class="found"><col></colgroup>
<thead><tr><th>Item</th><th>Topic</th><th>Status</th><th>From files of this run</th><th>Left to do</th></tr></thead>
<tbody>
{chr(10).join(rows)}
</tbody>
</table>
</section>"""


def _row(item: Mapping[str, str]) -> str:
    files = f"<br><code>{html.escape(item['files'])}</code>" if item["files"] else ""
    return (
        f'<tr><td class="number">{html.escape(item["number"])}</td><td>{html.escape(item["topic"])}</td>'
        f"<td>{_badge(item['status'])}</td><td>{html.escape(item['found'])}{files}</td>"
        f"<td>{html.escape(item['remaining'])}</td></tr>"
    )
