"""An evaluation as a folder: tables, figures and a summary of anybody's predictions.

What they hold is computed in `models`; the command line lives in `cli`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping, Sequence
from math import isfinite, nan
from pathlib import Path, PurePosixPath

import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from alneval.methods import INTERVALS, REFERENCES, USUAL, Methods
from alneval.models import CALIBRATION_SHARE, TABLES, Evaluation, evaluate_predictions
from alneval.panels import (
    auc_forest_figure,
    calibration_figure,
    decision_curve_figure,
    precision_recall_figure,
    roc_figure,
)
from alneval.rows import KEYS, estimate_text, probability_rows
from alneval.seeds import models_only
from alneval.site.evaluation import FOLDER, evaluation_pages
from alneval.style import SPLIT_NAMES, figure_files, use_style
from alneval.tables import GIVEN, read_predictions
from alneval.warnings import listed
from alnlib.errors import InputError, Problem
from alnlib.files import atomic_path, sha256_file, write_csv, write_json, write_text

PROVENANCES = ("real", "simulated", "not stated")


RECORD = "evaluation.json"
FIRST_PAGE = f"{FOLDER}/index.html"


def default_folder(paths: Sequence[str | Path]) -> Path:
    """evaluation-of-NAME in the working directory, after the first file, with the number of the others."""
    stem = Path(paths[0]).stem or "predictions"
    return Path(f"evaluation-of-{stem}" + (f"-and-{len(paths) - 1}-more" if len(paths) > 1 else ""))


def write_evaluation(
    paths: Sequence[str | Path],
    folder: str | Path,
    *,
    seed: int = 2026,
    n_bootstrap: int = 2000,
    provenance: str = "not stated",
    force: bool = False,
    scores: Sequence[str] = (),
    subgroups: Sequence[str] = (),
    readers: Sequence[str] = (),
    thresholds: Sequence[str] = (),
    sensitivity: float | None = None,
    specificity: float | None = None,
    interval: str = USUAL.interval,
    reference: str = USUAL.reference,
) -> tuple[Evaluation, list[str]]:
    """Evaluate predictions files into a folder; returns the evaluation and the names of the files written below it.

    provenance: one of PROVENANCES; it goes into every table, under every figure, and into the summary. force: write into
    a folder that is not empty; files of an earlier evaluation that are not written again are removed if they are
    unchanged, others stay. scores, subgroups, readers: columns of the files; thresholds: "0.3" for all models or "MODEL=0.3"; the
    others as `Methods`. Nothing is written before everything is computed. Equal files and options give equal bytes.
    Raises InputError for predictions at fault (every problem at once) and a folder that may not be written.
    """
    paths, folder = [Path(path) for path in paths], Path(folder)
    if provenance not in PROVENANCES:
        raise InputError(f"provenance {provenance!r}: choose one of {', '.join(PROVENANCES)}")
    for name, value, known in (("interval", interval, INTERVALS), ("reference", reference, REFERENCES)):
        if value not in known:
            raise InputError(f"--{name} {value!r}: choose one of {', '.join(known)}")
    if sum((bool(thresholds), sensitivity is not None, specificity is not None)) > 1:
        raise InputError(
            "a threshold has one origin: give --threshold, --sensitivity or --specificity, not two of them"
        )
    if set(subgroups) & set(readers) or set(scores) & {*subgroups, *readers}:
        raise InputError("a column is given twice, as --score, --subgroup or --reader; name it once")
    check_folder(folder, force)
    extra = tuple(dict.fromkeys((*subgroups, *readers)))
    predictions = read_predictions(paths, any_scale=True, scores=scores, extra=extra)
    fixed = fixed_thresholds(thresholds, predictions)
    methods = Methods(interval, reference, fixed, sensitivity, specificity)
    evaluation = evaluate_predictions(
        predictions, seed=seed, n_bootstrap=n_bootstrap, methods=methods, subgroups=subgroups, readers=readers
    )
    inputs = [{"file": path.name, "sha256": sha256_file(path)} for path in paths]
    files: dict[str, pd.DataFrame | bytes | str] = {
        f"{name}.csv": getattr(evaluation, name).assign(provenance=provenance) for name in TABLES
    }
    asked = (*(("subgroups",) if subgroups else ()), *(("readers", "models_against_readers") if readers else ()))
    files |= {f"{name}.csv": getattr(evaluation, name).assign(provenance=provenance) for name in asked}
    words = "provenance not stated" if provenance == "not stated" else f"{provenance} patients"
    with plt.rc_context():
        use_style()
        files |= _figures(evaluation, f"{listed([entry['file'] for entry in inputs])} ({words})")
    told = method_texts(methods, files)
    shown = {
        "Results": _results(evaluation),
        "Thresholds": _thresholds(evaluation.discrimination),
        "Rows and patients": _counts(evaluation.predictions),
    }
    report = evaluation_pages(evaluation, provenance, shown, files, told)
    files["summary.md"] = summary_text(evaluation, inputs, provenance, told, [*files, FIRST_PAGE, RECORD])
    files |= report
    overwritten = [path for path in paths if path.resolve() in {(folder / name).resolve() for name in files}]
    if overwritten:
        raise InputError(
            f"{overwritten[0]} would be overwritten by its own evaluation; choose another folder with --out"
        )
    try:
        options = {"interval": interval, "reference": reference, "sensitivity": sensitivity, "specificity": specificity}
        columns = {"scores": scores, "subgroups": subgroups, "readers": readers, "thresholds": thresholds}
        record = {"inputs": inputs, "provenance": provenance, "seed": seed, "n_bootstrap": n_bootstrap}
        _write(files, folder, record | options | {name: list(given) for name, given in columns.items()})
    except OSError as error:
        raise InputError(f"{folder} cannot be written ({error}); choose another folder with --out") from error
    return evaluation, [*files, RECORD]


def fixed_thresholds(given: Sequence[str], predictions: pd.DataFrame) -> dict[tuple[str, str], float]:
    """{(study, model): threshold} of "0.3", for all models, and of "MODEL=0.3", which goes before. Raises InputError."""
    named = models_only(predictions)[["study", "model"]].drop_duplicates()
    models = list(named.itertuples(index=False, name=None))
    by_model: dict[str, float] = {}
    problems = []
    for text in given:
        name, _, value = text.rpartition("=")
        if name and name not in {model for _, model in models}:
            message = f"no model {name!r}; there are {listed([model for _, model in models])}"
            problems.append(Problem("--threshold", None, None, text, message, "give MODEL=VALUE, or VALUE for all"))
            continue
        try:
            by_model[name] = float(value)
        except ValueError:
            by_model[name] = nan
        if not isfinite(by_model[name]):
            problems.append(
                Problem("--threshold", None, None, text, "no finite number", "give such as 0.3 or MODEL=0.3")
            )
    if problems:
        raise InputError("thresholds that cannot be used:", problems)
    chosen = {(study, model): by_model.get(model, by_model.get("")) for study, model in models}
    return {key: value for key, value in chosen.items() if value is not None}


def check_folder(folder: Path, force: bool) -> None:
    """Raise InputError for a folder that may not be written: a file, or one that is not empty unless force is given."""
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is a file; choose a folder with --out")
    if folder.is_dir() and not force and any(folder.iterdir()):
        raise InputError(f"{folder} exists and is not empty; choose another with --out, or write into it with --force")


def _write(files: Mapping[str, pd.DataFrame | bytes | str], folder: Path, record: dict[str, object]) -> None:
    for name, content in files.items():
        path = folder / name
        if isinstance(content, bytes):
            with atomic_path(path) as temporary:
                temporary.write_bytes(content)
        elif isinstance(content, str):
            write_text(content, path)
        else:
            write_csv(content, path)
    _remove_earlier(folder, keep=files)
    write_json(record | {"files": {name: sha256_file(folder / name) for name in files}}, folder / RECORD)


def _remove_earlier(folder: Path, keep: Mapping[str, object]) -> None:
    """Remove what an earlier evaluation wrote here and nobody changed since: a study of old beside new ones misleads."""
    try:
        earlier = dict(json.loads((folder / RECORD).read_text(encoding="utf-8"))["files"])
    except (OSError, ValueError, KeyError, TypeError):
        return
    for name, digest in earlier.items():
        path = folder / name
        inside = not PurePosixPath(name).is_absolute() and ".." not in PurePosixPath(name).parts
        if inside and name not in keep and path.is_file() and sha256_file(path) == digest:
            path.unlink()


def _figures(evaluation: Evaluation, label: str) -> dict[str, bytes]:
    """{path in the folder: PNG or SVG}, drawn and closed one by one."""
    made = {}

    def keep(figure: Figure | None, name: str) -> None:
        if figure is not None:
            files = figure_files(figure, label)
            made.update({f"figures/{name}{suffix}": content for suffix, content in files.items()})
            plt.close(figure)

    judged, discrimination = evaluation.judged, evaluation.discrimination
    by_study = dict(iter(judged.groupby("study", sort=False)))
    for name, (study, rows) in zip(file_names(by_study), by_study.items(), strict=True):
        read = evaluation.readers[evaluation.readers["study"] == study].drop_duplicates(["split", "reader"])
        keep(roc_figure(rows, discrimination, study, evaluation.bands, read), f"roc_{name}")
        keep(precision_recall_figure(rows, evaluation.curves, study, evaluation.bands), f"precision_recall_{name}")
        keep(
            calibration_figure(rows, evaluation.calibration, evaluation.calibration_curves, study),
            f"calibration_{name}",
        )
        probable = rows[rows.index.isin(probability_rows(evaluation.predictions).index)]
        keep(decision_curve_figure(probable, evaluation.decision_curves, study), f"decision_curves_{name}")
    keep(auc_forest_figure(discrimination.merge(judged[KEYS].drop_duplicates())), "auc_by_model")
    return made


def file_names(names: Sequence[str]) -> list[str]:
    """A file name per name: letters, digits and ._+- only, at most 60, unlike each other on every file system."""
    taken: list[str] = []
    for name in names:
        plain = re.sub(r"[^A-Za-z0-9._+-]+", "_", name)[:60].strip("._") or "study"
        number = 1
        while (candidate := plain if number == 1 else f"{plain}_{number}").lower() in map(str.lower, taken):
            number += 1
        taken.append(candidate)
    return taken


INTERVAL_WORDS = {
    "logit_t": "Intervals are on the log odds, with Student's t of one degree of freedom fewer than the smaller class has.",
    "logit": "Intervals are on the log odds, with the normal distribution.",
    "wald": "Intervals are Wald's (symmetric, with the normal distribution, cut to 0 and 1), as R pROC::ci.auc.",
}
REFERENCE_WORDS = {
    "t": "Tests refer to Student's t with one degree of freedom fewer than the smaller class has.",
    "normal": "Tests refer to the normal distribution, as R pROC::roc.test.",
}


METHODS = (
    "**AUC**: empirical, variance and paired test after DeLong 1988 (Biometrics 44:837) in the form of Sun & Xu 2014 (IEEE "
    "Signal Process Lett 21:1389); where a patient has several rows, by patient after Obuchowski 1997 (Biometrics 53:567). "
    "{intervals} {tests} "
    "Cross-validated AUCs pool out-of-fold scores, and their intervals do not know that the folds were fitted anew.",
    "**Spread over seeds**: where a file holds single fits of a model (role member), `auc_seed_sd` is the sample SD of their "
    "AUCs: the same patients, another fit. The intervals are about other patients and do not know of it.",
    "**Curves**: bands are percentiles over resampled patients, sensitivity at every specificity (vertical averaging) and "
    "precision at every recall, each point by itself. Partial AUC over specificities from 0.8, standardized after McClish "
    "1989 (Med Decis Making 9:190); sensitivity at 90 % specificity finds its cut-off anew in every resample; average "
    "precision without interpolation, of which a useless score has the share of positives.",
    "**Comparisons**: every pair of models of a study and split, on the rows that both scored; p corrected over these pairs "
    "after Holm 1979 (Scand J Stat 6:65). Beside them McNemar's tests (1947, Psychometrika 12:153) of the calls at the "
    "locked thresholds, among positives and among negatives, not corrected.",
    "**Reclassification**: category-free NRI in its two parts (Pencina 2011, Stat Med 30:11) and IDI (Pencina 2008, Stat Med "
    "27:157) against the clinical model, else the first one. Both can be positive for a useless marker when a model is "
    "miscalibrated (Hilden & Gerds 2014, Stat Med 33:3405): believe the difference in AUC and the net benefit first.",
    "**Operating points**: a row is called positive from the threshold on. {thresholds} Intervals after "
    "Wilson 1927 (J Am Stat Assoc 22:209), or percentiles over resampled patients where a patient has several rows. "
    "Predictive values hold at the prevalence of these rows.",
    "**Calibration**: intercept (slope held at 1) and slope on the log odds with Wald intervals (Cox 1958, Biometrika 45:562; "
    "Steyerberg 2019, Clinical Prediction Models, 15.3), by patient with the sandwich variance (Liang & Zeger 1986, "
    "Biometrika 73:13); Brier score (Brier 1950, Mon Weather Rev 78:1), its scaled form, "
    "observed/expected (O:E) and ICI (Austin & Steyerberg 2019, Stat Med 38:4051; Van Calster 2025, Lancet Digit Health "
    "7:100916) with percentile intervals over resampled patients; Hosmer-Lemeshow with as many degrees of freedom as groups. "
    "Curves, ICI, E50, E90 and Emax are by loess of degree 2 and span 0.75; the columns `_lowess` by lowess, as rms::val.prob.",
    "**Recalibration**: logistic (Platt) and isotonic, fitted on validation rows, else on cross-validated rows of other "
    "patients, and judged on test and external rows.",
    "**Net benefit**: Vickers & Elkin 2006 (Med Decis Making 26:565), standardized after Kerr 2016 (J Clin Oncol 34:2534), "
    "with score intervals, at the prevalence of these rows.",
    "**Other prevalences**: predictive values at the locked threshold by Bayes' rule with logit intervals (Mercaldo 2007, Stat "
    "Med 26:2170); net benefit with patients weighted to the prevalence and probabilities shifted to it from that of the "
    "training rows (King & Zeng 2001, Polit Anal 9:137). They assume that positives, and negatives, are alike there.",
)


METHODS_IF_ASKED = {
    "subgroups": "**Subgroups**: AUC by level, none below ten patients of either class; heterogeneity after Cochran 1954 "
    "(Biometrics 10:101), p corrected over the columns after Holm. A small p is a question for other patients, a large one no "
    "proof of equal performance.",
    "readers": "**Readers**: sensitivity and specificity of each, a read of 0 and 1 positive at 1, a grade from the one with the "
    "largest Youden index on validation or training rows; beside it the model at the lowest threshold that reaches the reader's "
    "specificity, p by McNemar's test. A model against all readers: Obuchowski & Rockette 1995 (Commun Stat Simul Comput "
    "24:285) for readers drawn at random; the columns with `fixed` are about these very readers.",
}


def method_texts(methods: Methods, files: Collection[str]) -> list[str]:
    """METHODS, and those of METHODS_IF_ASKED whose table is among the files, in the words of this evaluation."""
    asked = (text for name, text in METHODS_IF_ASKED.items() if f"{name}.csv" in files)
    words = method_words(methods)
    return [text.format(**words) for text in (*METHODS, *asked)]


def method_words(methods: Methods) -> dict[str, str]:
    """What METHODS say of the choices of this evaluation."""
    rule = "The threshold has the largest Youden index (Youden 1950, Cancer 3:32)"
    if methods.sensitivity is not None:
        rule = f"The threshold is the highest whose sensitivity is at least {methods.sensitivity:g}"
    if methods.specificity is not None:
        rule = f"The threshold is the lowest whose specificity is at least {methods.specificity:g}"
    rule += " on validation rows, else cross-validated, else training rows, and is applied to the others as it is."
    if methods.thresholds:
        rule = f"Thresholds that were given are taken as they are. For other models: {rule[0].lower()}{rule[1:]}"
    words = {"intervals": INTERVAL_WORDS[methods.interval], "tests": REFERENCE_WORDS[methods.reference]}
    return words | {"thresholds": rule}


def summary_text(
    evaluation: Evaluation,
    inputs: Sequence[Mapping[str, str]],
    provenance: str,
    methods: Sequence[str],
    files: Sequence[str],
) -> str:
    """The summary in Markdown: inputs, n, thresholds, main results, warnings, methods, files. It claims no compliance."""
    few = evaluation.n_bootstrap // CALIBRATION_SHARE
    warnings = [f"- {_plain(text)}" for text in evaluation.warnings] or ["None of those that are looked for was found."]
    parts = [
        "# Evaluation of predictions",
        "\n".join(f"- `{entry['file']}`, sha256 {entry['sha256']}" for entry in inputs),
        f"Provenance of the patients: **{provenance}**. {evaluation}. Intervals are 95 %; {evaluation.n_bootstrap} resamples, "
        f"{few} for calibration; seed {evaluation.seed}.",
        "These are calculations on the scores as given. How they were made, whether a patient was learned from under another "
        "name, and whether a reporting guideline is met, is not examined. Where a file has no such column, the study is called "
        "study, the split is test, a model has the name of its column of scores or of the file, and a unit is a patient.",
        "## Rows and patients",
        _markdown(_counts(evaluation.predictions)),
        "## Thresholds",
        _markdown(_thresholds(evaluation.discrimination)),
        "## Results",
        _markdown(_results(evaluation)),
        "## Warnings",
        "\n".join(warnings),
        "## Methods",
        "\n".join(f"- {method}" for method in methods),
        "## Files",
        "\n".join(f"- `{name}`" for name in files),
    ]
    return "\n\n".join(parts) + "\n"


def _counts(predictions: pd.DataFrame) -> pd.DataFrame:
    rows = []
    for (study, split), part in predictions.groupby(["study", "split"], sort=False):
        units = part.drop_duplicates(["patient_id", "unit_id"])
        row = {"study": study, "split": SPLIT_NAMES[split], "models": part["model"].nunique()}
        row |= {"different rows": len(units), "patients": units["patient_id"].nunique()}
        rows.append(row | {"positive rows": int(units["y_true"].sum()), "share": f"{units['y_true'].mean():.2f}"})
    return pd.DataFrame(rows)


def _thresholds(discrimination: pd.DataFrame) -> pd.DataFrame:
    rows = []
    for (study, model), part in discrimination.groupby(["study", "model"], sort=False):
        known = part[part["threshold"].notna()]
        origin = (
            (SPLIT_NAMES | {GIVEN: "given"})[known["threshold_from"].iloc[0]]
            if len(known)
            else "none: nothing to choose it on"
        )
        if not len(known) and (part["split"] == "cross_validation").all():
            origin = "none: cross-validated rows only"
        value = f"{known['threshold'].iloc[0]:.4g}" if len(known) else "-"
        rows.append({"study": study, "model": model, "threshold": value, "chosen on": origin})
    return pd.DataFrame(rows)


def _results(evaluation: Evaluation) -> pd.DataFrame:
    shown = evaluation.discrimination.merge(evaluation.judged[KEYS].drop_duplicates())
    slopes = evaluation.calibration[[*KEYS, "slope", "slope_low", "slope_high"]].astype(dict.fromkeys(KEYS, str))
    joined = slopes.merge(shown, on=KEYS, how="right")
    rows = [
        {name: row[name] for name in ("study", "model")}
        | {"split": SPLIT_NAMES[row["split"]], "n": row["n"], "positive": row["n_positive"]}
        | {"AUC": estimate_text(row, "auc", 3)}
        | {name: estimate_text(row, name) for name in ("sensitivity", "specificity")}
        | {"calibration slope": estimate_text(row, "slope"), "Brier": estimate_text(row, "brier", 3)}
        for row in joined.to_dict("records")
    ]
    return pd.DataFrame(rows)


def _markdown(table: pd.DataFrame) -> str:
    lines = [list(table), ["---"] * table.shape[1], *table.astype(str).to_numpy().tolist()]
    return "\n".join("| " + " | ".join(_plain(cell) for cell in line) + " |" for line in lines)


def _plain(text: str) -> str:
    """Text that breaks neither a table nor a line of Markdown, and is no HTML."""
    return re.sub(r"<(?=[a-zA-Z/!?])", "&lt;", " ".join(text.split())).replace("|", r"\|")
