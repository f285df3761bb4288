"""What trained models are worth on many patients whom no study has, beside what their own test set said of them."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from alneval.delong import auc_difference
from alneval.figures import plot_forest
from alneval.folds import POPULATION
from alneval.panels import shown_name
from alneval.units import Units

COLUMNS = (
    *("study", "model", "n", "n_positive", "auc", "auc_low", "auc_high"),
    *("population_n", "population_n_positive", "population_auc", "population_auc_low", "population_auc_high"),
    *("test_minus_population", "within_test_interval", "oracle_auc", "recovered_share"),
)


def population_table(
    discrimination: pd.DataFrame, population: pd.DataFrame, oracle: pd.DataFrame, modality_of: dict
) -> pd.DataFrame:
    """One row per model that was scored on the population, columns `COLUMNS`: its test set first, then the population.

    discrimination: rows of `tables.discrimination_table` of the splits "test" and "population". population: predictions of
    that split. oracle: patient_id, unit_id, modality, probability (may be empty); modality_of: {model or (study, model):
    modality}. within_test_interval: whether the test set's 95 % interval holds the AUC of the population, which is taken as
    it stands. recovered_share: (AUC - 0.5) / (oracle's AUC - 0.5) on the population itself; NaN where no oracle knows it.
    """
    key = ["study", "model"]
    own = discrimination[discrimination["split"] == "test"].set_index(key)
    rows = []
    for known in discrimination[discrimination["split"] == POPULATION].to_dict("records"):
        row = {name: known[name] for name in key}
        tested = own.loc[(row["study"], row["model"])] if (row["study"], row["model"]) in own.index else None
        for name in COLUMNS[2:7]:
            row[name] = np.nan if tested is None else tested[name]
            row[f"population_{name}"] = known[name]
        row["test_minus_population"] = row["auc"] - known["auc"]
        inside = row["auc_low"] <= known["auc"] <= row["auc_high"]
        row["within_test_interval"] = (
            "" if np.isnan([row["auc_low"], known["auc"]]).any() else "yes" if inside else "no"
        )
        shown = population[(population[key] == [row["study"], row["model"]]).all(axis=1)]
        modality = modality_of.get((row["study"], row["model"]), modality_of.get(row["model"]))
        both = shown.merge(oracle[oracle["modality"] == modality], on=["patient_id", "unit_id"])
        if len(both) == len(shown) and both["y_true"].nunique() == 2:
            scores = (both["y_true"], both["probability"], both["y_score"])
            best, reached = auc_difference(Units.of(*scores, patient=both["patient_id"])).values
            row |= {"oracle_auc": best, "recovered_share": (reached - 0.5) / (best - 0.5) if best > 0.5 else np.nan}
        rows.append(row)
    return pd.DataFrame(rows, columns=list(COLUMNS))


def population_figure(table: pd.DataFrame, titles: dict[str, str]) -> Figure:
    """AUC of every test set with its interval, of the population and of the oracle there, a panel per study.

    table: as `population_table` returns it; titles: {study: title}.
    """
    rows = table.dropna(subset="auc").assign(name=table["model"].map(shown_name))
    counts = rows["study"].value_counts(sort=False)
    size = {"figsize": (6.8, 1.2 + len(counts) * 0.35 + 0.3 * len(rows)), "height_ratios": counts + 1}
    figure, axes = plt.subplots(len(counts), 1, squeeze=False, sharex=True, **size)
    for ax, (study, of_study) in zip(axes.flat, rows.groupby("study", sort=False), strict=True):
        plot_forest(of_study, ax, "name", "auc", "auc_low", "auc_high", reference=0.5, log=False)
        places = np.arange(len(of_study))[::-1]
        ends = of_study[["population_auc_low", "population_auc_high"]].to_numpy(float)
        ax.hlines(places - 0.22, *ends.T, color="C1", lw=3)
        marks = {"ls": "", "color": "C1", "label": "population"}
        ax.plot(of_study["population_auc"], places - 0.22, "D", ms=4.5, **marks)
        style = {"ls": "", "marker": "|", "color": "crimson", "ms": 11, "mew": 2, "label": "oracle, on the population"}
        ax.plot(of_study["oracle_auc"].to_numpy(float), places - 0.22, **style)
        ax.set(title=titles.get(study, study), ylim=(-0.7, len(of_study) - 0.4))
    axes[-1, 0].set(
        xlabel="AUC (95 % interval); black: the study's own test set", xlim=(min(0.4, rows["auc"].min() - 0.03), 1.0)
    )
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower left", ncols=2)
    return figure
