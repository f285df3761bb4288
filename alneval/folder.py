"""An evaluation as a folder: tables, figures and a summary of anybody's predictions.

What they hold is computed in `models`; the command line lives in `cli`.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from alneval.figures import SPLIT_NAMES, use_style
from alneval.models import CALIBRATION_SHARE, TABLES, Evaluation, evaluate_predictions
from alneval.panels import (
    auc_forest_figure,
    calibration_figure,
    decision_curve_figure,
    precision_recall_figure,
    roc_figure,
    shown_name,
)
from alneval.rows import KEYS, estimate_text
from alneval.tables import read_predictions
from alneval.warnings import listed
from alnlib.errors import InputError
from alnlib.files import atomic_path, palette_png, sha256_file, write_csv, write_json, write_text

PROVENANCES = ("real", "simulated", "not stated")


RECORD = "evaluation.json"


FIGURE_DPI = 110


MAX_PIXELS = 60_000
"""A side of a figure: PNG writers stop at 65,536."""


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
) -> tuple[Evaluation, list[str]]:
    """Evaluate predictions files into a folder; returns the evaluation and the names of the files written below it.

    provenance: one of PROVENANCES; it goes into every table, under every figure, and into the summary. force: write into
    a folder that is not empty; files of an earlier evaluation that are not written again are removed if they are
    unchanged, others stay. Nothing is written before everything is computed. Equal files and options give equal bytes.
    Raises InputError for predictions at fault (every problem at once) and a folder that may not be written.
    """
    paths, folder = [Path(path) for path in paths], Path(folder)
    if provenance not in PROVENANCES:
        raise InputError(f"provenance {provenance!r}: choose one of {', '.join(PROVENANCES)}")
    _check_folder(folder, force)
    evaluation = evaluate_predictions(read_predictions(paths), seed=seed, n_bootstrap=n_bootstrap)
    inputs = [{"file": path.name, "sha256": sha256_file(path)} for path in paths]
    files: dict[str, pd.DataFrame | bytes | str] = {
        f"{name}.csv": getattr(evaluation, name).assign(provenance=provenance) for name in TABLES
    }
    words = "provenance not stated" if provenance == "not stated" else f"{provenance} patients"
    with plt.rc_context():
        use_style()
        files |= _figures(evaluation, f"{listed([entry['file'] for entry in inputs])} ({words})")
    files["summary.md"] = summary_text(evaluation, inputs, provenance, [*files, RECORD])
    overwritten = [path for path in paths if path.resolve() in {(folder / name).resolve() for name in files}]
    if overwritten:
        raise InputError(
            f"{overwritten[0]} would be overwritten by its own evaluation; choose another folder with --out"
        )
    try:
        _write(files, folder, {"inputs": inputs, "provenance": provenance, "seed": seed, "n_bootstrap": n_bootstrap})
    except OSError as error:
        raise InputError(f"{folder} cannot be written ({error}); choose another folder with --out") from error
    return evaluation, [*files, RECORD]


def _check_folder(folder: Path, force: bool) -> None:
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
    """{path in the folder: PNG}, drawn and closed one by one."""
    made = {}

    def keep(figure: Figure | None, name: str) -> None:
        if figure is not None:
            made[f"figures/{name}.png"] = _png(figure, label)

    judged, discrimination = evaluation.judged, evaluation.discrimination
    by_study = dict(iter(judged.groupby("study", sort=False)))
    for name, (study, rows) in zip(file_names(by_study), by_study.items(), strict=True):
        keep(roc_figure(rows, discrimination, study, evaluation.bands), f"roc_{name}")
        keep(precision_recall_figure(rows, evaluation.curves, study, evaluation.bands), f"precision_recall_{name}")
        keep(
            calibration_figure(rows, evaluation.calibration, evaluation.calibration_curves, study),
            f"calibration_{name}",
        )
        keep(decision_curve_figure(rows, evaluation.decision_curves, study), f"decision_curves_{name}")
    keep(auc_forest_figure(discrimination.merge(judged[KEYS].drop_duplicates())), "auc_by_model")
    return made


def _png(figure: Figure, label: str) -> bytes:
    figure.text(0.995, -0.01, shown_name(label), ha="right", va="top", fontsize=7.5, color="0.35")
    dpi = min(FIGURE_DPI, MAX_PIXELS / max(figure.get_size_inches()))
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=dpi, bbox_inches="tight")
    plt.close(figure)
    return palette_png(stream.getvalue())


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


METHODS = (
    "**AUC**: empirical, variance and paired test after DeLong 1988 (Biometrics 44:837) in the form of Sun & Xu 2014 (IEEE "
    "Signal Process Lett 21:1389); where a patient has several rows, by patient after Obuchowski 1997 (Biometrics 53:567). "
    "Intervals are on the log odds, and like the tests take Student's t with one degree of freedom fewer than the smaller "
    "class has. "
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
    "**Operating points**: a row is called positive from the threshold on. The threshold has the largest Youden index (Youden "
    "1950, Cancer 3:32) on validation rows, else cross-validated, else training rows, and is applied to the others as it "
    "is. Intervals after Wilson 1927 (J Am Stat Assoc 22:209), or percentiles over resampled patients where a patient has "
    "several rows. Predictive values hold at the prevalence of these rows.",
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


def summary_text(
    evaluation: Evaluation, inputs: Sequence[Mapping[str, str]], provenance: str, files: Sequence[str]
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
        "name, and whether a reporting guideline is met, is not examined.",
        "## Rows and patients",
        _markdown(_counts(evaluation.predictions)),
        "## Thresholds",
        _markdown(_thresholds(evaluation.discrimination)),
        "## Results",
        _markdown(_results(evaluation)),
        "## Warnings",
        "\n".join(warnings),
        "## Methods",
        "\n".join(f"- {method}" for method in METHODS),
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
        origin = SPLIT_NAMES[known["threshold_from"].iloc[0]] if len(known) else "none: nothing to choose it on"
        if not len(known) and (part["split"] == "cross_validation").all():
            origin = "none: cross-validated rows only"
        value = f"{known['threshold'].iloc[0]:.4g}" if len(known) else "-"
        rows.append({"study": study, "model": model, "threshold": value, "chosen on": origin})
    return pd.DataFrame(rows)


def _results(evaluation: Evaluation) -> pd.DataFrame:
    joined = evaluation.calibration[[*KEYS, "slope", "slope_low", "slope_high"]].merge(
        evaluation.discrimination, on=KEYS
    )
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
    """Text that breaks neither a table nor a line of Markdown."""
    return " ".join(text.split()).replace("|", r"\|")
