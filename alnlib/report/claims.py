"""The ledger of published claims: what a paper says, what the models of this run say, and one verdict by one rule.

Published facts come from `alnlib.studies` alone, tests from `alneval`. A verdict is about this cohort: on
simulated patients it says whether the pipeline could find such a difference, not whether the paper is right.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from math import ceil, isfinite, isnan, nan
from typing import NamedTuple

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.markers import CARETLEFTBASE, CARETRIGHTBASE
from scipy import stats

from alneval.curves import weighted_auc
from alneval.delong import auc_difference
from alneval.estimate import Estimate, difference, format_interval, format_p
from alneval.multiplicity import holm
from alneval.seeds import contrast_seed_sd
from alneval.style import (
    ATTAINABLE,
    ATTAINABLE_MARK,
    GUIDE,
    INK,
    PALE,
    PUBLISHED_MARK,
    SPLIT_COLORS,
    SPLIT_NAMES,
    VERDICT_COLORS,
    beside,
    folded,
    model_words,
)
from alneval.units import Units
from alnlib.pipeline.results import number_text
from alnlib.studies import (
    METRIC_NAMES,
    STUDIES,
    Claim,
    Study,
    general_study,
    published_difference,
    published_value,
    shown_to,
    title_of,
)

MARGIN = 0.05
"""The difference in AUC (or in a proportion) that counts as none. Our choice: no paper states one."""

VERDICTS = ("supported", "not supported", "inconclusive", "cannot be tested here")
CANNOT = VERDICTS[-1]

RULES = {
    "better": (
        "supported: the 95 % interval of the difference lies above zero, also after Holm's correction. Not supported: it "
        "lies below zero, also after the correction, or ends more than the margin below the published difference. "
        "Inconclusive: otherwise."
    ),
    "optimism": (
        "as for a better model, with the AUC on training minus that on test; the two groups of patients are resampled apart."
    ),
    "not different": (
        "supported: the whole 95 % interval lies within the margin on either side of zero, also after Holm's correction; a "
        "large p is no evidence for this. Not supported: it excludes zero and reaches beyond the margin. Inconclusive: "
        "otherwise."
    ),
    "level": (
        "supported: the 95 % interval of the value here lies above the published value less the margin. Not supported: it "
        "lies below that. Inconclusive: otherwise. The published value is taken as it stands, without its own interval."
    ),
}
"""How a verdict is reached, by kind of claim. The only place where it is written; `verdict_of` does as it says."""

RULED_OUT = (
    "cannot be tested here: models or patients are missing, or the simulation rules the claim out by construction, since the "
    "best possible models do not differ in the claimed direction, differ by more than the margin where they should not, or "
    "fall short of the level. Holm's correction is over the contrasts that are left."
)
"""The fourth verdict, whatever the kind."""

FOREST_LIMITS = (-0.4, 0.4)
MARGIN_COLOR = "0.9"
NO_SHARED = "not estimable: the models share no patients of either class"

LEDGER_COLUMNS = (
    *("study", "source", "kind", "claim", "sentence", "metric", "split", "split_in_paper", "published"),
    *("published_value", "published_low", "published_high", "published_value_of_other"),
    *("published_difference", "published_difference_low", "published_difference_high", "published_difference_from"),
    *("published_p", "cohort", "provenance", "model", "other_model", "n", "n_patients", "n_positive"),
    *("value", "value_low", "value_high", "value_of_other", "difference", "difference_low", "difference_high"),
    *("auc_seed_sd", "delta_seed_sd"),
    *("method", "p", "p_holm", "margin", "verdict", "unadjusted", "why", "in_words", "published_in_interval"),
    *("attainable", "attainable_of_other", "attainable_difference", "could_hold", "patients_needed_approximate"),
    *("comparator", "value_of_comparator", "comparator_difference", "comparator_difference_low"),
    *("comparator_difference_high", "comparator_verdict"),
)

POPULATION_COLUMNS = (
    *("population_n", "population_value", "population_value_low", "population_value_high"),
    *("population_difference", "population_difference_low", "population_difference_high"),
    *("population_verdict", "population_agrees"),
)
"""What `beside_population` adds."""


class Verdict(NamedTuple):
    """One of VERDICTS, and why in a few words."""

    verdict: str
    why: str


def verdict_of(
    kind: str,
    low: float,
    high: float,
    published: float | None = None,
    margin: float = MARGIN,
    p_holm: float | None = None,
) -> Verdict:
    """Judge a claim by RULES.

    low, high: 95 % interval here, of the difference (of the value for kind "level"); published: difference as published,
    or None (value for "level", where it must be given). p_holm: of the contrast, that of a difference or, for "not
    different", of equivalence; None: before Holm's correction. Raises ValueError for an unknown kind, a margin that is not
    positive, an interval that is turned round, or a level without a published value.
    """
    if kind not in RULES:
        raise ValueError(f"kind must be one of {tuple(RULES)}, not {kind!r}")
    if not margin > 0:
        raise ValueError(f"margin must be positive, not {margin}")
    if isnan(low) or isnan(high):
        return Verdict(CANNOT, "no interval can be computed")
    if low > high:
        raise ValueError(f"the interval ends before it begins: {low} to {high}")
    lost = "" if p_holm is None or p_holm < 0.05 else f", yet not after Holm's correction ({format_p(p_holm)})"
    if kind == "not different":
        if -margin < low and high < margin:
            verdict = "inconclusive" if lost else "supported"
            return Verdict(verdict, f"the interval lies within {margin:g} of zero{lost}")
        if low > 0 or high < 0:
            return Verdict("not supported", f"the interval excludes zero and reaches beyond {margin:g}")
        return Verdict("inconclusive", f"the interval contains zero and reaches beyond {margin:g}")
    if kind == "level" and published is None:
        raise ValueError("a level needs the published value")
    bar, named = (published - margin, f"the published value less {margin:g}") if kind == "level" else (0.0, "zero")
    if low > bar:
        return Verdict("inconclusive" if lost else "supported", f"the interval lies above {named}{lost}")
    if high < bar and not lost:
        return Verdict("not supported", f"the interval lies below {named}")
    if published is not None and high < published - margin:
        return Verdict("not supported", f"the interval ends more than {margin:g} below the published difference")
    if high < bar:
        return Verdict("inconclusive", f"the interval lies below {named}{lost}")
    return Verdict("inconclusive", f"the interval contains {named}")


def patients_needed(n: int, standard_error: float, difference: float, *, power: float = 0.8) -> int:
    """Patients at which a true difference would be told from zero (two-sided, 5 %) with this power; approximate.

    n: patients behind standard_error, that of the difference here (DeLong). The error is taken to fall with the square
    root of n, so prevalence, correlation and units per patient stay as here: n ((z_0.975 + z_power) SE / difference)^2.
    Raises ValueError unless n, standard_error and power are positive and difference is not zero.
    """
    if n < 1 or not standard_error > 0 or difference == 0 or not 0 < power < 1:
        raise ValueError("n and standard_error must be positive, difference not zero, power between 0 and 1")
    return ceil(n * ((stats.norm.ppf(0.975) + stats.norm.ppf(power)) * standard_error / difference) ** 2 - 1e-9)


def claims_ledger(
    predictions: pd.DataFrame,
    discrimination: pd.DataFrame,
    *,
    cohort: str,
    provenance: str,
    rng: np.random.Generator,
    truth: pd.DataFrame | None = None,
    endpoints: Mapping[str, str] | None = None,
    margin: float = MARGIN,
    n_bootstrap: int = 2000,
) -> pd.DataFrame:
    """Every claim of STUDIES beside what this run found: one row each, columns LEDGER_COLUMNS.

    Where a user's own cohort is predicted under a study of its own, only claims of studies that are predicted beside it; none
    is about a cohort that rebuilds no study.

    predictions: as `read_predictions` returns them; discrimination: evaluation/discrimination.csv, for levels; cohort,
    provenance ("simulated" or "real"): whose patients they are; truth: sources/truth.csv of a simulated cohort; endpoints:
    {study: endpoint that its models predict here}, the study's own where it is silent.
    Contrasts are paired (DeLong; Obuchowski's by patient where a patient has several units), training against test is an
    unpaired bootstrap. p_holm is Holm's over the contrasts that can be tested here, and the verdict is after it; unadjusted is
    the verdict of the interval alone, also of what the simulation rules out. p of "not different" is that of two one-sided
    tests against the margin, doubled to go with the 95 % interval (Schuirmann 1987, J Pharmacokinet Biopharm 15:657).
    auc_seed_sd (levels of AUC) and delta_seed_sd (contrasts, optimism too) are the spread over single fits
    (`contrast_seed_sd`), and no part of interval or verdict. The columns of a comparator (`Model.comparator`) hold the same
    contrast against a fairer model of the other one's data, judged by the same rule; p_holm does not know of it.
    What is not there "cannot be tested here", with the stage to run. Raises ValueError for a provenance that is neither,
    or if two models disagree on a label.
    """
    if provenance not in ("simulated", "real"):
        raise ValueError(f"provenance must be 'simulated' or 'real', not {provenance!r}")
    best = {}
    if truth is not None and provenance == "simulated":
        best = {(row.modality, row.center): row.attainable_auc for row in truth.itertuples()}
    rows, there = [], predictions["study"].unique()
    rebuilt = general_study(there) in STUDIES
    for study in [study for study in STUDIES.values() if rebuilt or study.key in there]:
        of_study = predictions[predictions["study"] == study.key]
        predicted = (endpoints or {}).get(study.key, study.endpoint)
        for claim in study.claims:
            names = {model: _name_here(study, model, of_study) for model, _ in claim.sides}
            sides = [_of(of_study, names[model], split) for model, split in claim.sides]
            level = _of(discrimination[discrimination["study"] == study.key], names[claim.better], claim.split)
            level = level.dropna(subset=claim.metric)
            row = dict.fromkeys(LEDGER_COLUMNS, nan) | _published_part(study, claim)
            row |= {"cohort": cohort, "provenance": provenance, "margin": margin}
            row |= dict(zip(("model", "other_model"), [*names.values(), ""], strict=False))
            if reason := _not_testable(study, claim, names, of_study, sides, level, predicted):
                row |= {"verdict": CANNOT, "why": reason, "unadjusted": ""}
            else:
                sizes, tested = _measured(claim, sides, level, rng, n_bootstrap)
                row |= sizes | _judged(study, claim, sizes["n_patients"], tested, margin)
                row |= _seed_part(claim, [(names[model], split) for model, split in claim.sides], of_study)
                row |= _comparator_part(study, claim, sides[0], of_study, margin)
            row |= _attainable_part(study, claim, list(names.values()), best, margin)
            rows.append(row | _ruled_out(row))
    tested = [row for row in rows if row["verdict"] != CANNOT]
    for row, p in zip(tested, holm([float(row["p"]) for row in tested]), strict=True):
        row["p_holm"] = p
        if not isnan(p):
            ends = row["difference_low"], row["difference_high"]
            published = None if isnan(row["published_difference"]) else row["published_difference"]
            row |= verdict_of(row["kind"], *ends, published, margin, p)._asdict()
    for row in rows:
        row["in_words"] = _in_words(row)
    counted = ["n", "n_patients", "n_positive", "patients_needed_approximate"]
    return pd.DataFrame(rows, columns=list(LEDGER_COLUMNS)).astype(dict.fromkeys(counted, "Int64"))


def beside_population(ledger: pd.DataFrame, on_population: pd.DataFrame) -> pd.DataFrame:
    """The ledger with POPULATION_COLUMNS: what the same trained models show on many patients whom no study has.

    on_population: `claims_ledger` of the population as the test split. Claims of other splits than test have none: the
    population is of the development center. population_n of optimism: with the training patients. population_agrees: "yes" or
    "no" where both are supported or not supported, else empty.
    """
    key = ["study", "claim", "split", "metric"]
    names = ["n", "value", *(f"value_{end}" for end in ("low", "high"))]
    names += ["difference", "difference_low", "difference_high", "verdict"]
    there = on_population.loc[on_population["split"].eq("test") & on_population["n"].notna(), key + names]
    table = ledger.merge(there.rename(columns={name: f"population_{name}" for name in names}), on=key, how="left")
    decided = table["verdict"].isin(VERDICTS[:2]) & table["population_verdict"].isin(VERDICTS[:2])
    same = np.where(table["verdict"] == table["population_verdict"], "yes", "no")
    table["population_agrees"] = np.where(decided, same, "")
    for row in table[table["population_verdict"].isin(VERDICTS[:3])].itertuples():
        where = f"{int(row.population_n):,} units of the population"
        found = f"On {where} the same models differ by {row.population_difference:.3f}"
        if row.kind == "level":
            found = f"The true value, known from {where}, is {row.population_value:.3f}"
        elif row.kind == "optimism":
            found = f"Between training and population the model differs by {row.population_difference:.3f}"
        table.loc[row.Index, "in_words"] += f" {found}: {row.population_verdict}."
    return table[[*LEDGER_COLUMNS, *POPULATION_COLUMNS]]


def _published_part(study: Study, claim: Claim) -> dict[str, object]:
    row = {"study": study.key, "source": study.source, "kind": claim.kind, "claim": str(claim)}
    row |= {"sentence": claim.sentence, "metric": METRIC_NAMES[claim.metric], "split": claim.split}
    row["split_in_paper"] = study.split_names.get(claim.split, claim.split)
    row["published_p"] = claim.p or "not available"
    figure, other = [*(published_value(study.key, *side, claim.metric) for side in claim.sides), None][:2]
    if figure is not None:
        row |= {"published_value": figure.value, "published_low": figure.low, "published_high": figure.high}
    row["published_value_of_other"] = nan if other is None else other.value
    difference = published_difference(study.key, claim)
    row["published_difference_from"] = "" if claim.kind == "level" else "not available"
    if difference is not None:
        row |= {"published_difference": difference.value, "published_difference_low": difference.low}
        row |= {"published_difference_high": difference.high}
        row["published_difference_from"] = "printed" if claim.difference is not None else "the published values"
    return row | {"published": _published_text(row)}


def _name_here(study: Study, model: str, of_study: pd.DataFrame) -> str:
    """The name that a published model has in these predictions; its likeliest name if it is not there."""
    names = study.model(model).here
    there = set(of_study["model"])
    return next((name for name in names if name in there), names[0])


def _of(rows: pd.DataFrame, model: str, split: str) -> pd.DataFrame:
    return rows[(rows["model"] == model) & (rows["split"] == split)]


def _not_testable(
    study: Study,
    claim: Claim,
    names: Mapping[str, str],
    of_study: pd.DataFrame,
    sides: Sequence[pd.DataFrame],
    level: pd.DataFrame,
    predicted: str,
) -> str:
    """Why a claim cannot be tested with these predictions; empty if it can."""
    missing = [model for model, name in names.items() if not of_study["model"].eq(name).any()]
    if missing:
        stages = sorted({study.model(model).notebook[:2] for model in missing})
        return f"no predictions of {' and '.join(missing)}: run {' and '.join(stages)} if the cohort has what it needs"
    for (model, split), rows in zip(claim.sides, sides, strict=True):
        if rows.empty:
            return f"{names[model]} has no {SPLIT_NAMES[split]} patients"
        if rows["y_true"].nunique() < 2:
            return f"{SPLIT_NAMES[split]}: one class only"
    if predicted != study.endpoint:
        return f"the models here predict {predicted}, the study {study.endpoint}"
    if claim.kind == "level" and level.empty:
        return f"no {METRIC_NAMES[claim.metric]} of {names[claim.better]}: run 41"
    return ""


def _measured(
    claim: Claim, sides: Sequence[pd.DataFrame], level: pd.DataFrame, rng: np.random.Generator, n_bootstrap: int
) -> tuple[dict[str, int], Estimate]:
    """How many units were scored (by both models, if it is about two), and the level or the difference here."""
    if claim.worse and sides[0].merge(sides[1], on=["patient_id", "unit_id"]).empty:
        return {"n": 0, "n_patients": 0, "n_positive": 0}, Estimate(nan, method=NO_SHARED)
    try:
        units = Units.of_rows(*sides) if claim.worse else Units.of_rows(pd.concat(sides))
    except ValueError as error:
        raise ValueError(f"{' and '.join(rows['model'].iloc[0] for rows in sides)}: {error}") from None
    sizes = {"n": len(units), "n_patients": units.n_patients, "n_positive": units.n_positive}
    if claim.kind == "level":
        row = level.iloc[0]
        locked = "" if claim.metric == "auc" else f"; threshold from {row['threshold_from']}"
        found = (float(row[f"{claim.metric}{end}"]) for end in ("", "_low", "_high"))
        return sizes, Estimate(*found, method=f"interval of evaluation/discrimination.csv{locked}")
    if claim.kind == "optimism":
        return sizes, difference(weighted_auc, *map(Units.of_rows, sides), rng, n=n_bootstrap)
    return sizes, auc_difference(units) if units.has_both_classes else Estimate(nan, method=NO_SHARED)


def _judged(study: Study, claim: Claim, n_patients: int, tested: Estimate, margin: float) -> dict[str, object]:
    level = claim.kind == "level"
    figure = (
        published_value(study.key, *claim.sides[0], claim.metric) if level else published_difference(study.key, claim)
    )
    published = None if figure is None else figure.value
    part = dict(zip(("value", "value_of_other"), tested.values, strict=False))
    part |= tested.named("value" if level else "difference") | {"method": tested.method}
    verdict, why = verdict_of(claim.kind, tested.low, tested.high, published, margin)
    part |= {"verdict": verdict, "unadjusted": verdict, "why": why}
    part["p"] = nan if tested.p is None else tested.p
    if published is not None and isfinite(tested.low):
        part["published_in_interval"] = "yes" if tested.low <= published <= tested.high else "no"
    if claim.kind == "not different":
        part["p"] = _equivalence_p(tested, margin)
    elif published is not None and tested.standard_error > 0:
        part["patients_needed_approximate"] = patients_needed(n_patients, tested.standard_error, published)
    return part


def _seed_part(claim: Claim, sides: Sequence[tuple[str, str]], of_study: pd.DataFrame) -> dict[str, float]:
    if claim.metric != "auc":
        return {}
    return {"auc_seed_sd" if claim.kind == "level" else "delta_seed_sd": contrast_seed_sd(of_study, sides)}


def _comparator_part(
    study: Study, claim: Claim, better: pd.DataFrame, of_study: pd.DataFrame, margin: float
) -> dict[str, object]:
    """The contrast against our comparator for the other model; empty if there is none, or it has too few patients."""
    name = study.model(claim.worse).comparator if claim.worse else ""
    rows = _of(of_study, name, claim.split)
    shared = rows.merge(better[["patient_id", "unit_id"]])
    if shared["y_true"].nunique() < 2:
        return {}
    tested = auc_difference(Units.of_rows(better, rows))
    part = {"comparator": name, "value_of_comparator": tested.values[1]} | tested.named("comparator_difference")
    return part | {"comparator_verdict": verdict_of(claim.kind, tested.low, tested.high, margin=margin).verdict}


def _equivalence_p(difference: Estimate, margin: float) -> float:
    """Twice the larger of the two one-sided p against the margin; a difference without variance is in or out."""
    room, error = margin - abs(difference.value), difference.standard_error
    if isnan(error) or error > 0:
        return float(np.minimum(1.0, 2 * stats.t.sf(room / error, difference.degrees_of_freedom or nan)))
    return 0.0 if room > 0 else 1.0


def _attainable_part(
    study: Study, claim: Claim, names: Sequence[str], best: Mapping[tuple[str, str], float], margin: float
) -> dict[str, object]:
    """The best AUCs that the simulation allows, and whether the claim could hold for models that reach them.

    could_hold "same data": both models are shown the same, so only how well they learn can tell them apart.
    """
    if not best or claim.metric != "auc" or claim.kind == "optimism" or claim.split == "train":
        return {"could_hold": "not known"}
    center = "external" if claim.split == "external" else "primary"
    shown = [shown_to(study.key, name) for name in names]
    limits = [best.get((what, center), nan) for what in shown]
    part = dict(zip(("attainable", "attainable_of_other"), limits, strict=False))
    if any(isnan(limit) for limit in limits):
        return part | {"could_hold": "not known"}
    if claim.kind == "level":
        could = limits[0] > published_value(study.key, claim.better, claim.split).value - margin
        return part | {"could_hold": "yes" if could else "no"}
    part["attainable_difference"] = limits[0] - limits[1]
    if shown[0] == shown[1]:
        return part | {"could_hold": "same data"}
    could = limits[0] > limits[1] if claim.kind == "better" else abs(limits[0] - limits[1]) < margin
    return part | {"could_hold": "yes" if could else "no"}


def _ruled_out(row: Mapping[str, object]) -> dict[str, str]:
    """Verdict and reason of a tested claim that the simulation rules out by construction; empty if it does not."""
    same, best, other = row["could_hold"] == "same data", row["attainable"], row["attainable_of_other"]
    if row["verdict"] == CANNOT or not (row["could_hold"] == "no" or (same and row["kind"] == "better")):
        return {}
    if same:
        why = f"both models are shown the same data, from which at best {best:.3f} is possible"
    elif row["kind"] == "level":
        why = f"at best {best:.3f} is possible, more than the margin below the published value"
    elif row["kind"] == "better" and best == other:
        why = f"at best {best:.3f} is possible with either model's data"
    else:
        why = f"at best {best:.3f} is possible with the one model's data and {other:.3f} with the other's"
    return {"verdict": CANNOT, "why": why}


def _in_words(row: Mapping[str, object]) -> str:
    """What the row says, in a sentence or two."""
    said = f"{row['verdict'].capitalize()}: {row['why']}."
    if row["verdict"] == "inconclusive" and row["kind"] == "better" and row["could_hold"] == "yes":
        said += (
            f" The best possible models differ by {row['attainable_difference']:.3f}; how often a study of this size would "
            "show that, notebook 93 says."
        )
    return said


def published_rows(study: str, metrics: Sequence[str]) -> pd.DataFrame:
    """What a study's abstract gives on these metrics, one row per model and split, as text; "not available" where silent.

    Columns: model, split, the metrics, origin ("published"). A study that is not known gives no rows.
    """
    rows: dict[tuple[str, str], dict[str, str]] = {}
    for figure in STUDIES[study].published if study in STUDIES else ():
        silent = {"model": figure.model, "split": figure.split} | dict.fromkeys(metrics, "not available")
        row = rows.setdefault((figure.model, figure.split), silent)
        if figure.metric in metrics:
            row[figure.metric] = number_text(figure.value, figure.low, figure.high)
    return pd.DataFrame(rows.values(), columns=["model", "split", *metrics]).assign(origin="published")


# --- as readers see it --------------------------------------------------------------------------------------------


def readable_claims(ledger: pd.DataFrame) -> pd.DataFrame:
    """The ledger in words, one row per claim; the columns of this run's numbers carry "simulated" or "real" in their names.

    Columns: study, claim, split, published, here (PROVENANCE), n, difference here (PROVENANCE), attainable (PROVENANCE), SD
    over seeds, p (Holm), population (PROVENANCE) where one was scored, in words, which begins with the verdict. What a paper
    does not print is "not available".
    """
    rows = []
    for row in ledger.to_dict("records"):
        provenance = row["provenance"]
        split, paper = SPLIT_NAMES[row["split"]], row["split_in_paper"]
        rows.append(
            {
                "study": row["study"],
                "claim": row["claim"],
                "split": split if paper in (row["split"], split) else f'{split} ("{paper}")',
                "published": row["published"],
                f"here ({provenance})": _here_text(row),
                "n": "-" if pd.isna(row["n"]) else str(row["n"]),
                f"difference here ({provenance})": _interval(row, "difference"),
                f"attainable ({provenance})": _interval(
                    row, "attainable" if row["kind"] == "level" else "attainable_difference"
                ),
                "SD over seeds": _interval(row, "auc_seed_sd" if row["kind"] == "level" else "delta_seed_sd"),
                "p (Holm)": "-" if pd.isna(row["p_holm"]) else format_p(row["p_holm"]),
                **_population_text(row, provenance),
                "in words": row["in_words"],
            }
        )
    return pd.DataFrame(rows)


def against_comparators(ledger: pd.DataFrame) -> pd.DataFrame:
    """The contrasts that a fairer comparator was there for, in words: difference and verdict against either, before Holm.

    Columns: study, claim, split, difference, verdict, comparator, difference to it, verdict against it.
    """
    held = ledger[ledger["comparator"].notna()]
    rows = held.to_dict("records")
    table = held[["study", "claim"]].assign(split=held["split"].map(SPLIT_NAMES))
    table["difference"], table["verdict"] = [_interval(row, "difference") for row in rows], held["unadjusted"]
    table["comparator"] = held["comparator"]
    table["difference to it"] = [_interval(row, "comparator_difference") for row in rows]
    return table.assign(**{"verdict against it": held["comparator_verdict"]}).reset_index(drop=True)


def _published_text(row: Mapping[str, object]) -> str:
    ends = {"low": "published_low", "high": "published_high"}
    value = _interval(row, "published_value", "not available", **ends)
    if row["kind"] == "level":
        return value
    difference = _interval(row, "published_difference", "not available")
    if pd.isna(row.get("published_value")) and pd.isna(row["published_value_of_other"]):
        return f"difference {difference}"
    return f"{value} against {_interval(row, 'published_value_of_other', 'not available')}, difference {difference}"


def _population_text(row: Mapping[str, object], provenance: str) -> dict[str, str]:
    if "population_verdict" not in row:
        return {}
    name = f"population_{'value' if row['kind'] == 'level' else 'difference'}"
    known = isinstance(row["population_verdict"], str)
    return {f"population ({provenance})": f"{_interval(row, name)}: {row['population_verdict']}" if known else "-"}


def _here_text(row: Mapping[str, object]) -> str:
    if row["kind"] == "level" or pd.isna(row["value"]):
        return _interval(row, "value")
    return f"{row['value']:.3f} against {row['value_of_other']:.3f}"


def _interval(row: Mapping[str, object], name: str, none: str = "-", low: str = "", high: str = "") -> str:
    low, high = row.get(low or f"{name}_low"), row.get(high or f"{name}_high")
    if pd.isna(row.get(name)):
        return none
    return f"{row[name]:.3f}" if pd.isna(low) else format_interval(row[name], low, high)


def plot_claims(ledger: pd.DataFrame, ax: Axes) -> Axes:
    """Differences of the contrasts of one study as a forest, with what was published and what is attainable.

    Square and line: here, with 95 % interval; below it in orange the same models on the population; cross (line): published,
    on other patients; green tick: attainable in the simulation; pale band: the margin, where the claim is that two models do
    not differ. An interval that leaves FOREST_LIMITS ends in an arrow. Columns at the right: n, the published difference,
    and the verdicts, in their color and in words.
    """
    contrasts = ledger[ledger["kind"] != "level"].to_dict("records")
    places, (left, right) = np.arange(len(contrasts))[::-1], FOREST_LIMITS
    ax.axvline(0, color=GUIDE, lw=1, ls="--", zorder=0)
    for place, row in zip(places, contrasts, strict=True):
        if row["kind"] == "not different":
            ax.barh(place, 2 * row["margin"], left=-row["margin"], height=0.8, color=MARGIN_COLOR, zorder=0)
        _published_mark(row, place + 0.27, ax)
        if pd.notna(row["attainable_difference"]):
            ends = [place - 0.38, place + 0.16]
            ax.plot([row["attainable_difference"]] * 2, ends, color=ATTAINABLE, lw=2.2, zorder=3)
        _columns(row, place, ax)
        if pd.notna(row.get("population_difference")):
            ends = np.clip([row["population_difference_low"], row["population_difference_high"]], left, right)
            ax.plot(ends, [place - 0.28] * 2, color=SPLIT_COLORS["population"], lw=3, solid_capstyle="butt", zorder=4)
        if pd.isna(row["difference"]):
            continue
        low, high = row["difference_low"], row["difference_high"]
        ax.plot(np.clip([low, high], left, right), [place, place], color=INK, lw=1.5, solid_capstyle="butt")
        ax.plot(np.clip(row["difference"], left, right), place, "s", color=INK, ms=5)
        for beyond, edge, arrow in ((low < left, left, CARETLEFTBASE), (high > right, right, CARETRIGHTBASE)):
            if beyond:
                ax.plot(edge, place, marker=arrow, color=INK, ms=5)
    ax.set_yticks(places, [_on_two_lines(row["claim"]) for row in contrasts])
    ax.tick_params(axis="y", length=0, labelsize=8.5)
    ax.spines["left"].set_visible(False)
    ax.set(xlim=FOREST_LIMITS, ylim=(-0.6, len(contrasts) - 0.4))
    return ax


COLUMNS_AT = {"n": 10, "published": 136, "verdict": 196}
"""Points from the axis to the columns of text at its right."""


def _columns(row: Mapping[str, object], place: float, ax: Axes) -> None:
    split = "training and test" if row["kind"] == "optimism" else SPLIT_NAMES[row["split"]]
    nodes = "" if pd.isna(row["n"]) or row["n"] == row["n_patients"] else " nodes"
    counted = "" if pd.isna(row["n"]) else f", n = {int(row['n'])}{nodes}"
    beside(ax, place, split + counted, COLUMNS_AT["n"])
    known = pd.notna(row["published_difference"])
    text = f"{row['published_difference']:+.2f}" if known else "not printed"
    beside(ax, place, text, COLUMNS_AT["published"], color=INK if known else PALE)
    _verdict(row["verdict"], place, ax)
    if row.get("population_verdict") in VERDICTS[:3]:
        _verdict(row["population_verdict"], place - 0.36, ax, "on the population: ", 6.5)


def _verdict(verdict: str, place: float, ax: Axes, before: str = "", size: float = 8) -> None:
    color, at = VERDICT_COLORS[verdict], COLUMNS_AT["verdict"]
    weight = "bold" if verdict in ("supported", "not supported") else "normal"
    beside(ax, place, before + verdict, at, fontsize=size, color=color, fontweight=weight)


def claims_figure(ledger: pd.DataFrame) -> Figure:
    """`plot_claims` of every study below one another, under one legend; of a ledger without claims a line that says so."""
    if ledger.empty:
        figure = plt.figure(figsize=(6, 0.6))
        figure.text(0.02, 0.5, "No published study is rebuilt here, so there is no claim to test.", va="center")
        return figure
    contrasts = ledger[ledger["kind"] != "level"]
    sizes = contrasts.groupby("study", sort=False).size()
    height = 1.5 + 0.6 * len(sizes) + (0.38 if "population_verdict" in ledger else 0.34) * sizes.sum()
    figure, axes = plt.subplots(len(sizes), 1, figsize=(10.5, height), height_ratios=sizes + 0.3, squeeze=False)
    axes = axes[:, 0]
    for ax, study in zip(axes, sizes.index, strict=True):
        plot_claims(ledger[ledger["study"] == study], ax)
        top = sizes[study] - 0.3  # the title ends where the axis begins, clear of the heads of the columns
        title = {"edge": 0, "va": "bottom", "ha": "right", "fontsize": 9.5, "fontweight": "bold"}
        beside(ax, top, folded(title_of(study), 36), -6, **title)
        for name, words in {"n": "patients", "published": "published", "verdict": "verdict here"}.items():
            beside(ax, top, words, COLUMNS_AT[name], va="bottom", color=PALE)
    axes[-1].set_xlabel("Difference in AUC (95 % interval); right of zero as claimed")
    ax = axes[0]
    handles = [ax.plot([], [], "s-", color=INK, ms=5, label=f"here, {ledger['provenance'].iloc[0]} patients")[0]]
    if "population_difference" in contrasts and contrasts["population_difference"].notna().any():
        style = {"color": SPLIT_COLORS["population"], "lw": 3, "label": "the same models on the population (interval)"}
        handles += ax.plot([], [], **style)
    handles += ax.plot([], [], label="published (other patients)", **PUBLISHED_MARK)
    if ledger["attainable_difference"].notna().any():
        handles += ax.plot([], [], label="attainable (simulation)", **ATTAINABLE_MARK)
    if contrasts["kind"].eq("not different").any():
        handles += [ax.bar([0], [0], color=MARGIN_COLOR, label="margin within which two models do not differ")]
    figure.legend(handles=handles, loc="outside upper left", ncols=3)
    return figure


def ledger_numbers(ledger: pd.DataFrame) -> dict[str, object]:
    """{key: number} of the verdicts, counted, and of every difference, as `RunFolder.save_numbers` takes them."""
    numbers: dict[str, object] = {
        f"claims_{verdict.replace(' ', '_')}": int((ledger["verdict"] == verdict).sum()) for verdict in VERDICTS
    }
    if "population_verdict" in ledger:
        decided = ledger["population_agrees"].ne("")
        numbers |= {"claims_decided_and_on_population": int(decided.sum())}
        numbers["claims_decided_as_on_population"] = int(ledger["population_agrees"].eq("yes").sum())
        judged = ledger["population_verdict"].isin(VERDICTS[:3])
        numbers["claims_judged_on_population"] = int(judged.sum())
        numbers["claims_inconclusive_on_population"] = int(ledger["population_verdict"].eq("inconclusive").sum())
    numbers |= {"claims_supported_unadjusted": int(ledger["unadjusted"].eq("supported").sum()), "claims": len(ledger)}
    for row in ledger[ledger["kind"].ne("level") & ledger["difference"].notna()].to_dict("records"):
        key = f"claim_{row['study']}_{row['model']}_{row['other_model'] or 'train'}_{row['split']}_difference"
        numbers[key] = {"value": row["difference"], "low": row["difference_low"], "high": row["difference_high"]}
        if pd.notna(row["comparator_difference"]):
            key = f"claim_{row['study']}_{row['model']}_{row['comparator']}_{row['split']}_difference"
            ends = {end: row[f"comparator_difference_{end}"] for end in ("low", "high")}
            numbers[key] = {"value": row["comparator_difference"]} | ends
    return numbers


def _published_mark(row: Mapping[str, object], place: float, ax: Axes) -> None:
    if pd.isna(row["published_difference"]):
        return
    if pd.notna(row["published_difference_low"]):
        ends = [row["published_difference_low"], row["published_difference_high"]]
        ax.plot(ends, [place, place], color=PALE, lw=1.2)
    ax.plot(row["published_difference"], place, **PUBLISHED_MARK)


def claim_words(claim: str) -> str:
    """A contrast as the ledger names it, its models in the words of figures."""
    return "".join(
        model_words(part) for part in re.split(r"( beats | is not told apart from | is better on .*)", claim)
    )


def _on_two_lines(claim: str) -> str:
    """The model that is said to be better, and below it what is said."""
    first, *rest = re.split(r" (?=beats |is )", claim_words(claim), maxsplit=1)
    return "\n".join([first, *rest])
