"""What the studies' designs could have known: the claims of the ledger at published sizes of test sets, by simulated studies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from math import isnan, nan
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from scipy.special import logit

from alneval.design import Design, NodeDesign, spread_and_optimism, what_could_be_known, what_nodes_could_tell
from alneval.style import ATTAINABLE, GUIDE, INK, SPLIT_NAMES, head
from alnlib.report.claims import claim_words
from alnlib.studies import SHORT_NAMES, STUDIES, shown_to

_UNIT = ["patient_id", "unit_id"]
_MARKS = {"attainable": (ATTAINABLE, "D"), "as trained": (INK, "s")}
"""The scenarios: the best possible models of either's data; models like those of this run."""

_LABELS = {
    "attainable": "attainable: the best possible models",
    "as trained": "as trained: models like those of this run",
}


def design_table(
    ledger: pd.DataFrame,
    predictions: pd.DataFrame,
    oracle: pd.DataFrame,
    share: float,
    rng: np.random.Generator,
    n_studies: int = 2000,
) -> pd.DataFrame:
    """What studies of the published size find, of every contrast that can hold in the simulation.

    Columns: study, claim, split, n, n_positive, unit ("patient" or "node"), n_patients, n_from ("published", or "this run" where
    the size of the test set is not in the abstract), scenario, auc, auc_of_other, correlation, difference, power, width,
    type_s, type_m, n_80. Prevalence is this run's. Models "as trained" have the AUCs that the population gives them (columns of
    `claims.beside_population`, for claims of the test split); without one they recover `share` of AUC - 0.5. Correlation is
    that of two scores' logits within the classes: of the oracles over all patients (oracle: sources/oracle.csv), of models as
    trained over the population, or else over the patients that they were tested on here. predictions: with those of the
    population. Where patients have several nodes, as many patients as were tested are drawn from those of this run with their
    nodes, and the test is by patient; n_80 counts patients, everywhere.
    """
    rows = []
    could = ledger["kind"].eq("better") & ledger["could_hold"].eq("yes") & _testable(ledger)
    for row in ledger[could].to_dict("records"):
        known = _at_size(row)
        of_study = predictions[predictions["study"] == row["study"]]
        units = of_study.drop_duplicates(_UNIT).set_index(_UNIT)["y_true"]
        names = [row["model"], row["other_model"]]
        best = _side_by_side(oracle, "modality", [shown_to(row["study"], name) for name in names], "probability")
        aucs = np.array([row["attainable"], row["attainable_of_other"]])
        split, trained = row["split"], 0.5 + share * (aucs - 0.5)
        if pd.notna(row.get("population_difference")):
            split, reached = "population", row["population_value"]
            trained = np.array([reached, reached - row["population_difference"]])
        tested = _side_by_side(of_study[of_study["split"] == split], "model", names, "y_score")
        taken = {"attainable": (aucs, best), "as trained": (trained, tested)}
        for scenario, (true, scores) in taken.items():
            correlation, alike = within_class_correlation(scores, units), 0.0
            if isnan(correlation):
                continue
            if known["unit"] == "patient":
                design = Design(known["n_positive"], known["n"] - known["n_positive"], *true, correlation)
                found = asdict(what_could_be_known(design, rng, n_studies))
            else:
                alike = within_patient_correlation(scores, units)
                design = NodeDesign(known["n_patients"], _patterns(units), *true, correlation, alike)
                found = asdict(what_nodes_could_tell(design, rng, n_studies))
            truth = {"scenario": scenario, "auc": true[0], "auc_of_other": true[1], "correlation": correlation}
            rows.append(known | truth | {"difference": design.difference} | found)
    return pd.DataFrame(rows)


def _testable(ledger: pd.DataFrame) -> pd.Series:
    """Rows of tested units, of which each class has at least two."""
    return ledger[["n_positive"]].assign(negative=ledger["n"] - ledger["n_positive"]).min(axis=1).ge(2)


def _at_size(row: Mapping[str, Any]) -> dict[str, Any]:
    """study, claim, split, n, n_positive, unit, n_patients, n_from of a row of the ledger: the published size of its test set
    in patients, else its own."""
    published = STUDIES[row["study"]].tested.get(row["split"])
    patients = published or int(row["n_patients"])
    n = round(patients * row["n"] / row["n_patients"])
    known = {name: row[name] for name in ("study", "claim", "split")} | {"n": n}
    known["n_positive"] = round(n * row["n_positive"] / row["n"])
    known["unit"] = "patient" if row["n"] == row["n_patients"] else "node"
    return known | {"n_patients": patients, "n_from": "published" if published else "this run"}


def _side_by_side(rows: pd.DataFrame, column: str, names: Sequence[str], score: str) -> pd.DataFrame:
    """Scores of two models or modalities, a row per unit that has both, by patient_id and unit_id."""
    own = rows[rows[column].isin(names)]
    return own.pivot_table(index=_UNIT, columns=column, values=score)[list(names)].dropna()


def _patterns(units: pd.Series) -> np.ndarray:
    """(patients, 2) positive and negative units of every patient, from labels by patient_id and unit_id."""
    by_patient = units.groupby(level="patient_id").agg(["sum", "size"])
    return np.column_stack([by_patient["sum"], by_patient["size"] - by_patient["sum"]]).astype(int)


def within_class_correlation(scores: pd.DataFrame, labels: pd.Series) -> float:
    """Correlation of the logits of two scores (n, 2) once each class has its mean taken off, clipped to
    0.99; nan where one of them is constant. labels: by the index of scores."""
    centered = _centered(scores, labels)
    return float(centered.corr().iloc[0, 1].clip(-0.99, 0.99)) if len(centered) > 2 else nan


def within_patient_correlation(scores: pd.DataFrame, labels: pd.Series) -> float:
    """Correlation of logits, each class about its mean, between two units of a patient and class: the mean over pairs of
    such units over the variance, of both scores; 0 where that is negative or no patient has two."""
    centered = _centered(scores, labels)
    own = [centered.index.get_level_values("patient_id"), labels.reindex(centered.index).to_numpy()]
    sums, squares, sizes = centered.groupby(own).sum(), (centered**2).groupby(own).sum(), centered.groupby(own).size()
    pairs = float((sizes * (sizes - 1)).sum())
    if not pairs:
        return 0.0
    products = (sums**2 - squares).sum() / pairs
    return float((products / centered.var()).mean().clip(0.0, 1.0))


def _centered(scores: pd.DataFrame, labels: pd.Series) -> pd.DataFrame:
    logits = pd.DataFrame(logit(scores.clip(1e-6, 1 - 1e-6)))
    return logits - logits.groupby(labels.reindex(scores.index).to_numpy()).transform("mean")


def level_table(
    ledger: pd.DataFrame, rng: np.random.Generator, ks: Sequence[int], correlation: float, n_studies: int = 2000
) -> pd.DataFrame:
    """How far a test set of the published size lets an AUC wander whose true value is the published one, and what the best of k
    equally good models, chosen on it, gains. Columns: study, claim, split, n, n_positive, n_from, auc, low,
    high, optimism_of_K."""
    rows = []
    levels = ledger[ledger["kind"].eq("level") & ledger["metric"].eq("AUC") & _testable(ledger)]
    levels = levels[levels["n"].eq(levels["n_patients"])]  # of nodes no published size is known in patients
    for row in levels[levels["split"].ne("train")].to_dict("records"):
        known = _at_size(row) | {"auc": row["published_value"]}
        n_positive = known["n_positive"]
        for k in ks:
            found = spread_and_optimism(
                n_positive, known["n"] - n_positive, known["auc"], rng, k, correlation, n_studies
            )
            known |= {"low": found["low"], "high": found["high"], f"optimism_of_{k}": found["optimism"]}
        rows.append(known)
    return pd.DataFrame(rows)


def design_figure(table: pd.DataFrame) -> Figure:
    """Power of every contrast at its size, for either scenario, and by how much a significant difference exaggerates. A size
    with a star is this run's, as the abstract gives none."""
    names = table[["study", "claim", "split"]].drop_duplicates().reset_index(drop=True)
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 1.7 + 0.4 * len(names)), width_ratios=[2, 1], sharey=True)
    for ax, column in ((left, "power"), (right, "type_m")):
        for scenario, (color, mark) in _MARKS.items():
            own = table[table["scenario"] == scenario].merge(names.reset_index(), on=["study", "claim", "split"])
            ax.plot(own[column], len(names) - own["index"], mark, color=color, ms=5.5, label=_LABELS[scenario])
    left.axvline(0.8, color=GUIDE, lw=1, ls="--", zorder=0)
    right.axvline(1, color=GUIDE, lw=1, ls="--", zorder=0)
    labels = [
        f"{SHORT_NAMES[row.study]}: {claim_words(row.claim)}\n{SPLIT_NAMES[row.split]}, "
        f"n = {row.n}{'' if row.unit == 'patient' else ' nodes'}{'' if row.n_from == 'published' else '*'}"
        for row in table.drop_duplicates(["study", "claim", "split"]).itertuples()
    ]
    left.set_yticks(len(names) - np.arange(len(names)), labels, fontsize=7.5)
    left.set(xlim=(0, 1), xlabel="share of simulated studies")
    right.set(xscale="log", xlabel="times the true difference")
    head(left, "Power", "studies that find the difference; dashed: 80 %")
    head(right, "Exaggeration (type M)", "of differences that are found")
    ticks = [tick for tick in (1, 1.5, 2, 3, 5, 10, 20) if tick <= 1.1 * max(2, table["type_m"].max())]
    right.set_xticks(ticks, [str(tick) for tick in ticks])
    right.minorticks_off()
    for ax in (left, right):
        ax.tick_params(axis="y", length=0)
        ax.grid(axis="y", color="0.93")
    handles, words = left.get_legend_handles_labels()
    figure.legend(handles, words, loc="outside lower left", title="* size of this run's test set", alignment="left")
    return figure
