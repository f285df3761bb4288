"""What a run's files say on the matters that reporting checklists ask for: one small function per matter.

Each is called as the item tables call it, takes the run, and says what it found in a short text; where a file is missing
or has nothing on the matter it raises InputError with the remedy. Which item asks for what stands in `checklist_items/`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import wraps
from pathlib import Path

import pandas as pd
import pyarrow.parquet
import yaml

from alneval.figures import SPLIT_NAMES
from alneval.table_one import OVERALL
from alneval.tables import read_predictions
from alnlib.errors import InputError
from alnlib.pipeline.results import RunFolder
from alnlib.pipeline.stages import STAGES, find_stage
from alnlib.studies import STUDIES

SETTINGS = Path(__file__).parent.parent / "radiomics" / "settings"
SHOWN_PARAMETERS = ("seed", "epochs", "learning_rate", "batch_size", "image_size", "n_folds", "n_repeats", "weights")


@dataclass(frozen=True)
class Fact:
    """What files of a run say on one matter: a short text, and the files it came from, relative to the run's folder."""

    text: str
    files: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.text} [{', '.join(self.files)}]"


FACTS: dict[str, Callable[[RunFolder], Fact]] = {}
"""{name in the item tables: function that reads it}."""


def fact(*files: str) -> Callable[[Callable[[RunFolder], Fact | str]], Callable[[RunFolder], Fact]]:
    """Add a function to FACTS under its own name; where it returns a text, the fact is from `files`."""

    def added(read: Callable[[RunFolder], Fact | str]) -> Callable[[RunFolder], Fact]:
        @wraps(read)
        def told(run: RunFolder) -> Fact:
            said = read(run)
            return said if isinstance(said, Fact) else Fact(said, files)

        FACTS[read.__name__] = told
        return told

    return added


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
def cohort_source(run: RunFolder) -> str:
    """Title, provenance, source, license and citation of the cohort."""
    cohort = _cohort(run)
    words = [f"{cohort['title']}, {cohort['provenance']} patients"]
    words += [
        f"{word} {cohort[key]}" for key, word in (("license", "license"), ("citation", "cite")) if cohort.get(key)
    ]
    return "; ".join(words)


@fact("cohort/cohort.yaml", "cohort/patients.csv")
def centers(run: RunFolder) -> str:
    """Patients per center, and which centers are external."""
    external = _cohort(run).get("external_centers") or []
    counts = run.read_table("cohort/patients.csv")["center"].value_counts(sort=False)
    named = ", ".join(f"{name} {n}{' (external)' if name in external else ''}" for name, n in counts.items())
    return f"patients per center: {named}"


@fact("cohort/flow.csv")
def inclusion_flow(run: RunFolder) -> str:
    """Every step of the inclusion with the patients that remain, and those with and without the outcome at the end."""
    flow = run.read_table("cohort/flow.csv")
    last = flow.iloc[-1]
    steps = ", ".join(f"{row.description}: {row.remaining}" for row in flow.itertuples())
    return f"{steps}; {last['remaining_positive']} with and {last['remaining_negative']} without the outcome"


@fact("cohort/study.json", "cohort/cohort.yaml")
def endpoint(run: RunFolder) -> str:
    """The endpoint with the words for its two classes."""
    outcome = _cohort(run)["endpoints"][run.read_json("cohort/study.json")["endpoint"]]
    return f"{outcome['label']}: {outcome.get('positive', 'yes')} against {outcome.get('negative', 'no')}"


@fact("cohort/splits.csv")
def split_sizes(run: RunFolder) -> str:
    """Patients in every split."""
    counts = run.read_table("cohort/splits.csv")["split"].value_counts()
    return f"patients: {', '.join(f'{SPLIT_NAMES[split]} {counts[split]}' for split in SPLIT_NAMES if split in counts)}"


@fact("run_log.csv")
def split_method(run: RunFolder) -> str:
    """Shares and seed with which the splits were drawn, from the log of stage 11."""
    drawn = _parameters(run, "11_cohort")
    shares = f"test share {drawn['test_fraction']}, validation share {drawn['validation_fraction']} of the rest"
    return f"{shares}, seed {drawn['seed']}; splits and external centers of the cohort folder go before"


@fact()
def patient_disjoint(run: RunFolder) -> Fact:
    """How many patients stand in several splits of splits.csv; predictions of one model that share patients are an error."""
    files = ["cohort/splits.csv"]
    twice = int(run.read_table("cohort/splits.csv")["patient_id"].duplicated().sum())
    text = f"by patient; {_count(twice, 'patient')} in several splits"
    if predictions := _prediction_files(run):
        models = _predictions(run).groupby(["study", "model"]).ngroups  # reading them refuses a patient in two splits
        text += f", none in several splits of the predictions of {_count(models, 'model')}"
        files += predictions
    return Fact(text, tuple(files))


@fact("cohort/table_one.csv")
def missing_values(run: RunFolder) -> str:
    """Missing values per clinical variable."""
    table = run.read_table("cohort/table_one.csv")
    table = table[table["group"] == OVERALL].drop_duplicates("variable")
    lacking = table[table["missing"] > 0]
    named = ", ".join(f"{row.label} {row.missing} of {row.n_group}" for row in lacking.itertuples())
    return f"missing: {named}" if named else f"nothing missing in {len(table)} clinical variables"


@fact("cohort/table_one.csv")
def table_one(run: RunFolder) -> str:
    """How many variables Table 1 describes, in which groups."""
    variables = run.read_table("cohort/table_one.csv")["variable"].nunique()
    return f"{variables} variables, overall and by outcome, with standardized differences"


@fact("cohort/flow.csv")
def class_balance(run: RunFolder) -> str:
    """Patients with and without the outcome, and their share."""
    last = run.read_table("cohort/flow.csv").iloc[-1]
    positive, negative = int(last["remaining_positive"]), int(last["remaining_negative"])
    return f"{positive} with, {negative} without the outcome (share {positive / (positive + negative):.2f})"


@fact("cohort/cohort.yaml")
def clinical_predictors(run: RunFolder) -> str:
    """The clinical variables with unit or levels."""
    variables = _cohort(run).get("clinical") or {}
    if not variables:
        raise InputError("cohort/cohort.yaml names no clinical variables; list them under `clinical`")
    return "; ".join(
        f"{v['label']} ({v.get('unit') or ', '.join(map(str, v.get('levels') or [v['kind']]))})"
        for v in variables.values()
    )


@fact("cohort/images.csv")
def image_inventory(run: RunFolder) -> str:
    """Images and patients per modality with their sequences or views."""
    images = run.read_table("cohort/images.csv")
    if images.empty:
        raise InputError("cohort/images.csv lists no image; only the clinical arms apply")
    words = []
    for modality, of_it in images.groupby("modality", sort=False):
        views = ", ".join(map(str, of_it["sequence_or_view"].dropna().unique()))
        sizes = f"{_count(len(of_it), 'image')} of {_count(of_it['patient_id'].nunique(), 'patient')}"
        words.append(f"{modality}: {sizes} ({views or 'one view'})")
    return "; ".join(words)


@fact("cohort/images.csv")
def masks(run: RunFolder) -> str:
    """Images with a mask."""
    images = run.read_table("cohort/images.csv")
    drawn = images[images["mask_path"].notna()] if "mask_path" in images else images.iloc[:0]
    if drawn.empty:
        raise InputError("no image of cohort/images.csv has a mask; give mask_path where lesions are drawn")
    counts = drawn["modality"].value_counts(sort=False)
    return f"images with a mask: {', '.join(f'{modality} {n}' for modality, n in counts.items())}"


# --- the models ---------------------------------------------------------------------------------------------------


@fact("clinical/univariable.csv", "clinical/model.csv")
def univariable_selection(run: RunFolder) -> str:
    """How many candidates were tested one by one, and which entered the clinical model."""
    tested = run.read_table("clinical/univariable.csv")["variable"].nunique()
    kept = run.read_table("clinical/model.csv")["variable"].unique()
    return f"{tested} clinical candidates tested one by one; in the model: {', '.join(kept) or 'none'}"


@fact("clinical/model.csv", "clinical/nomogram.csv")
def clinical_model_terms(run: RunFolder) -> str:
    """The terms of the clinical model with their odds ratios, and its nomogram."""
    table = run.read_table("clinical/model.csv")
    run.path("clinical/nomogram.csv")
    terms = ", ".join(f"{row.feature} OR {row.odds_ratio:.2f}" for row in table.itertuples())
    return f"clinical model: {terms or 'intercept only'}; nomogram"


@fact()
def models(run: RunFolder) -> Fact:
    """The models of every study, candidates counted."""
    words = []
    for study, rows in _models(run).groupby("study", sort=False):
        shown = rows.loc[rows["role"] != "candidate", "model"]
        candidates = len(rows) - len(shown)
        words.append(f"{study}: {', '.join(shown)}" + (f" and {_count(candidates, 'candidate')}" if candidates else ""))
    return Fact("; ".join(words), tuple(_prediction_files(run)))


@fact()
def ensembles(run: RunFolder) -> Fact:
    """Models that join others, by `alnlib.studies`."""
    rows = [row for row in _models(run).itertuples() if row.study in STUDIES and row.role == "main"]
    published = [(row.model, STUDIES[row.study].model(row.model)) for row in rows]
    joint = [name for name, model in published if model is not None and model.joins]
    if not joint:
        raise InputError("no model joins others in this run; run 25 or 31")
    return Fact(f"models that join others: {', '.join(joint)}", tuple(_prediction_files(run)))


@fact()
def published_studies(run: RunFolder) -> Fact:
    """The published systems that the models of this run are rebuilt after."""
    sources = [STUDIES[key].source for key in _models(run)["study"].unique() if key in STUDIES]
    if not sources:
        raise InputError("the predictions belong to none of the five studies; cite the earlier work")
    return Fact(f"rebuilt after: {'; '.join(sources)}", tuple(_prediction_files(run)))


@fact()
def networks_chosen(run: RunFolder) -> Fact:
    """Networks tried and the one chosen on validation patients, with its number of parameters."""
    words, files = [], _made(run, ".csv", "choice")
    for name in files:
        table = run.read_table(name)
        for crop in table["crop"].unique() if "crop" in table else [""]:
            tried = table[table["crop"] == crop] if crop else table
            best = tried[tried["chosen"].astype(bool)].iloc[0]
            where = f"{name.split('/')[0]} {crop}".strip()
            words.append(f"{where}: {best['architecture']} ({best['parameters'] / 1e6:.1f} million) of {len(tried)}")
    if not files:
        raise InputError("no network was trained; run 22, 24 or 25")
    return Fact(f"chosen on validation patients: {'; '.join(words)}", tuple(files))


@fact()
def training_history(run: RunFolder) -> Fact:
    """Networks whose loss was kept epoch by epoch."""
    files = _made(run, ".csv", "training_history")
    if not files:
        raise InputError("no training history; run 22, 23, 24 or 25")
    epochs = ", ".join(f"{name.split('/')[0]} {run.read_table(name)['epoch'].max()}" for name in files)
    return Fact(f"loss by epoch kept (last epoch: {epochs})", tuple(files))


@fact("run_log.csv")
def stage_parameters(run: RunFolder) -> str:
    """Parameters with which each stage of models ran last, those of SHOWN_PARAMETERS."""
    words = []
    for stage in STAGES:
        if stage.predictions and (ran_with := _parameters(run, stage.notebook, required=False)):
            named = ", ".join(f"{name} {ran_with[name]}" for name in SHOWN_PARAMETERS if name in ran_with)
            words.append(f"{stage.number}: {named}")
    if not words:
        raise InputError("run_log.csv has no finished model stage; run one: python3 run_all.py --from 21")
    return "; ".join(words)


@fact("run_log.csv")
def initial_weights(run: RunFolder) -> str:
    """Whether networks started from scratch or from given weights."""
    by_stage = {stage.number: _parameters(run, stage.notebook, required=False).get("weights") for stage in STAGES}
    named = [
        f"{number} {'from scratch' if weights == 'none' else weights}"
        for number, weights in by_stage.items()
        if weights
    ]
    if not named:
        raise InputError("run_log.csv has no finished network stage; run 22, 23, 24 or 25")
    return f"initial weights by stage: {', '.join(named)}"


@fact()
def saved_networks(run: RunFolder) -> Fact:
    """Network files of this run."""
    files = _made(run, ".pt")
    if not files:
        raise InputError("no network file is kept; run 23 or 25")
    return Fact(f"{_count(len(files), 'trained network')} saved", tuple(files))


@fact()
def radiomics_settings(run: RunFolder) -> Fact:
    """Resampling, gray levels, image types and feature classes of the extraction."""
    feature_counts(run)
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


@fact()
def feature_counts(run: RunFolder) -> Fact:
    """Features and patients of every feature table."""
    words, files = [], _made(run, ".parquet")
    for name in files:
        schema = pyarrow.parquet.read_metadata(run.path(name))
        features = sum("__" in column for column in schema.schema.to_arrow_schema().names)
        words.append(f"{Path(name).stem}: {_count(features, 'feature')} of {_count(schema.num_rows, 'patient')}")
    if not files:
        raise InputError("no feature table; run 26 or 27 if the cohort has what they need")
    return Fact("; ".join(words), tuple(files))


@fact()
def feature_selection(run: RunFolder) -> Fact:
    """Tables on which features were selected."""
    return _named_tables(run, "selection", "selected features listed")


@fact()
def feature_stability(run: RunFolder) -> Fact:
    """Tables on features under perturbed masks."""
    return _named_tables(run, "stability", "ICC under perturbed masks listed")


@fact()
def learners(run: RunFolder) -> Fact:
    """Tables of learners compared."""
    return _named_tables(run, "learners", "learners compared under one tuning budget")


# --- the evaluation -----------------------------------------------------------------------------------------------


@fact("evaluation/discrimination.csv")
def discrimination_measures(run: RunFolder) -> str:
    """AUCs, and operating points with intervals."""
    table = run.read_table("evaluation/discrimination.csv")
    return f"{table['auc_low'].notna().sum()} AUCs with 95 % intervals (by study, model and split)"


@fact("evaluation/discrimination.csv")
def operating_points(run: RunFolder) -> str:
    """On how many tested rows sensitivity, specificity, PPV, NPV and accuracy with intervals were computed."""
    points = int(_tested(run)["sensitivity_low"].notna().sum())
    if not points:
        raise InputError("no tested model has a threshold; run 41 with validation or training rows")
    measures = "sensitivity, specificity, PPV, NPV, accuracy with 95 % intervals on tested splits"
    return f"{measures} ({_count(points, 'model')} by split)"


@fact("evaluation/discrimination.csv")
def thresholds(run: RunFolder) -> str:
    """On which patients thresholds were chosen, for the tested rows."""
    origins = _tested(run)["threshold_from"].dropna().value_counts()
    if origins.empty:
        raise InputError("no tested model has a threshold; run 41 with validation or training rows")
    named = ", ".join(f"{SPLIT_NAMES[split]} {n}" for split, n in origins.items())
    return f"probability of the outcome; threshold of the largest Youden index, locked on: {named} (tested rows)"


@fact("evaluation/calibration.csv")
def calibration_measures(run: RunFolder) -> str:
    """How many models have intercept, slope, ICI and Brier score with intervals."""
    n = _count(len(run.read_table("evaluation/calibration.csv")), "model")
    return f"intercept, slope, ICI, Brier, Hosmer-Lemeshow of {n} by split, with 95 % intervals and curves"


@fact("evaluation/net_benefit.csv")
def utility_measures(run: RunFolder) -> str:
    """How many decision curves were computed, over which thresholds."""
    table = run.read_table("evaluation/net_benefit.csv")
    curves = _count(table.groupby(["study", "model", "split"]).ngroups, "model")
    span = f"{table['threshold'].min():g} to {table['threshold'].max():g}"
    return f"net benefit of {curves} by split at thresholds {span}, with 95 % intervals"


@fact("evaluation/comparisons.csv")
def model_comparisons(run: RunFolder) -> str:
    """How many pairs of models were compared, and by which tests."""
    table = run.read_table("evaluation/comparisons.csv")
    methods = ", ".join(name for name in table["method"].unique() if not name.startswith("not estimable"))
    if not methods:
        raise InputError("evaluation/comparisons.csv compares no two models; run a second model")
    return f"{_count(len(table), 'comparison')} of two models ({methods}), Holm's correction"


@fact("run_log.csv")
def interval_methods(run: RunFolder) -> str:
    """Tests of differences and the resamples behind intervals."""
    n = _parameters(run, "41_discrimination", required=False).get("n_bootstrap")
    if n is None:
        raise InputError("run_log.csv has no finished stage 41; run it: python3 run_all.py --only 41")
    return f"95 % intervals of AUCs and differences after DeLong, others by {n} resamples of patients"


@fact("evaluation/discrimination.csv")
def internal_performance(run: RunFolder) -> str:
    """AUCs of the models on internal test patients."""
    return _performance(run, "test")


@fact("evaluation/discrimination.csv")
def external_performance(run: RunFolder) -> str:
    """AUCs of the models on patients of another center."""
    return _performance(run, "external")


@fact()
def analysis_sizes(run: RunFolder) -> Fact:
    """Patients and patients with the outcome in every split of every study's predictions."""
    words = []
    for study, rows in _predictions(run).groupby("study", sort=False):
        by_split = rows.groupby(["split", "patient_id"])["y_true"].max().groupby("split").agg(["size", "sum"])
        ordered = by_split.loc[[split for split in SPLIT_NAMES if split in by_split.index]]
        named = ", ".join(f"{SPLIT_NAMES[row.Index]} {row.size} ({row.sum})" for row in ordered.itertuples())
        words.append(f"{study}: {named}")
    return Fact(f"patients (with the outcome): {'; '.join(words)}", tuple(_prediction_files(run)))


@fact()
def validity_audit(run: RunFolder) -> Fact:
    """Tables on whether a result could be an artifact, and how many audits passed and failed."""
    audit = _tables_of(run, ("44", "45"), "leakage and resampling audit")
    files = tuple(sorted(audit.files, key=lambda name: not name.endswith("/validity.csv")))  # the audits go first
    results = pd.concat([pd.DataFrame({"result": []}), *map(run.read_table, files)])["result"].dropna()
    counts = ", ".join(f"{n} {result}" for result, n in results.value_counts().items())
    return Fact(audit.text + (f"; audits: {counts}" if counts else ""), files)


@fact("evaluation/recalibration.csv")
def recalibration(run: RunFolder) -> str:
    """Models recalibrated, by which methods and on which patients."""
    table = run.read_table("evaluation/recalibration.csv")
    fitted = table[table["n_fitted"].notna()]
    if fitted.empty:
        raise InputError("no model has patients apart to recalibrate on; give a validation split")
    n, methods = fitted.groupby(["study", "model"]).ngroups, ", ".join(fitted["method"].unique())
    return f"{_count(n, 'model')} recalibrated ({methods}) on other patients, before and after on tested ones"


@fact("evaluation/models_against_readers.csv")
def reader_comparisons(run: RunFolder) -> str:
    """Models compared with human readers."""
    table = run.read_table("evaluation/models_against_readers.csv")
    if table.empty:
        raise InputError("no reader read these patients; give readers.csv")
    return f"{_count(len(table), 'comparison')} of a model with readers"


@fact()
def explanations(run: RunFolder) -> Fact:
    """Tables on where networks look and whether the maps can be trusted."""
    return _tables_of(run, ("51", "52"), "Grad-CAM with faithfulness and randomization tests")


@fact("report/claims.csv")
def claim_verdicts(run: RunFolder) -> str:
    """Verdicts on the published claims, counted."""
    table = run.read_table("report/claims.csv")
    counts = ", ".join(f"{n} {verdict}" for verdict, n in table["verdict"].value_counts().items())
    return f"{len(table)} published claims on {table['provenance'].iloc[0]} patients: {counts}"


# --- the code -----------------------------------------------------------------------------------------------------


@fact("provenance.json")
def software(run: RunFolder) -> str:
    """Versions of Python and of the packages that results depend on."""
    versions = run.read_json("provenance.json")["versions"]
    return ", ".join(f"{name} {version}" for name, version in versions.items() if version != "absent")


@fact("provenance.json")
def code_version(run: RunFolder) -> str:
    """That the commit of the code is recorded; the hash itself stays in its file, which results under git leave out."""
    if run.read_json("provenance.json")["commit"].startswith("no git"):
        raise InputError("provenance.json names no commit; run from a git checkout")
    return "commit of the code recorded"


# --- what several of them read ------------------------------------------------------------------------------------


def _count(n: int, noun: str) -> str:
    return f"{n} {noun}{'' if n == 1 else 's'}"


def _cohort(run: RunFolder) -> dict:
    return yaml.safe_load(run.path("cohort/cohort.yaml").read_text(encoding="utf-8"))


def _prediction_files(run: RunFolder) -> list[str]:
    return [name for name in _made(run, ".csv") if name.startswith("predictions/")]


def _predictions(run: RunFolder) -> pd.DataFrame:
    return read_predictions(run.predictions())


def _models(run: RunFolder) -> pd.DataFrame:
    """study, model and role of every model of the run, in the order of the predictions."""
    return _predictions(run)[["study", "model", "role"]].drop_duplicates(["study", "model"])


def _made(run: RunFolder, suffix: str, stem: str = "") -> list[str]:
    """Files that stages of the table make and that are there, by how they end and their stem."""
    names = [name for stage in STAGES for name in stage.makes if name.endswith(suffix)]
    return [name for name in names if run.has(name) and (not stem or Path(name).stem == stem)]


def _parameters(run: RunFolder, notebook: str, required: bool = True) -> dict:
    """Parameters of the last run of a stage that ended well."""
    log = run.read_table("run_log.csv")
    ended = log[(log["notebook"] == notebook) & (log["status"] == "done")]
    if ended.empty and required:
        raise InputError(f"run_log.csv has no finished {notebook}; run it: python3 run_all.py --only {notebook[:2]}")
    return {} if ended.empty else json.loads(ended["parameters"].iloc[-1])


def _tested(run: RunFolder) -> pd.DataFrame:
    table = run.read_table("evaluation/discrimination.csv")
    return table[table["split"].isin(("test", "external"))]


def _performance(run: RunFolder, split: str) -> str:
    table = run.read_table("evaluation/discrimination.csv")
    judged = table[(table["split"] == split) & table["auc"].notna()]
    role = _models(run).set_index(["study", "model"])["role"]
    judged = judged[
        [role.get(key, "main") != "candidate" for key in zip(judged["study"], judged["model"], strict=True)]
    ]
    if judged.empty:
        raise InputError(f"no model was evaluated on {SPLIT_NAMES[split]} patients; this cohort has none")
    patients = f"{SPLIT_NAMES[split]} patients ({run.provenance})"
    span = f"{judged['auc'].min():.2f} to {judged['auc'].max():.2f}"
    return f"{_count(len(judged), 'model')} on {patients}, AUC {span}, with intervals"


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
