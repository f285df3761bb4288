"""What trained models are worth on many patients whom no study has, beside what their own test set said of them."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from scipy import stats
from scipy.special import expit, logit

from alneval.delong import covariance
from alneval.estimate import Estimate
from alneval.figures import plot_forest
from alneval.folds import POPULATION
from alneval.style import ATTAINABLE, ATTAINABLE_MARK, INK, SPLIT_COLORS, SPLIT_MARKS, folded, head, model_words, span
from alneval.units import Units

COLUMNS = (
    *("study", "model", "n", "n_positive", "auc", "auc_low", "auc_high"),
    *("population_n", "population_n_positive", "population_auc", "population_auc_low", "population_auc_high"),
    *("true_auc", "true_auc_low", "true_auc_high"),
    *("test_minus_true", "within_test_interval", "oracle_auc", "attainable_auc", "recovered_share"),
)


def auc_beside_oracle(
    units: Units, attainable: float, standard_error: float = 0.0, confidence: float = 0.95
) -> Estimate:
    """True AUC of the first score, from the second's, an oracle's whose true AUC is known: a control variate.

    units: of two scores. attainable, standard_error: the oracle's AUC over endless patients, and how exactly it is known.
    A draw of patients that is easy for the oracle is easy for the model too. So A - b (A_oracle - attainable) is kept, with
    b = cov / var of DeLong (Obuchowski where patients have several units), which leaves 1 - r^2 of the variance, r being the
    correlation of both AUCs; with b estimated from the n units, it is unbiased up to 1 / n (Glasserman 2003, Monte Carlo
    Methods in Financial Engineering, section 4.1). The interval is symmetric in log odds. An oracle without variance changes
    nothing. Raises ValueError if a class is missing.
    """
    (area, oracle), cov = covariance(units)
    slope = cov[0, 1] / cov[1, 1] if cov[1, 1] > 0 else 0.0
    value = float(np.clip(area - slope * (oracle - attainable), 0.0, 1.0))
    error = float(np.sqrt(max(cov[0, 0] - slope * cov[0, 1], 0.0) + (slope * standard_error) ** 2))
    low = high = value
    if 0 < value < 1:
        half = stats.norm.ppf(0.5 + confidence / 2) * error / (value * (1 - value))
        low, high = expit([logit(value) - half, logit(value) + half])
    return Estimate(value, float(low), float(high), error, n=len(units), n_positive=units.n_positive)


def population_table(
    discrimination: pd.DataFrame, population: pd.DataFrame, oracle: pd.DataFrame, truth: pd.DataFrame, modality_of: dict
) -> pd.DataFrame:
    """One row per model that was scored on the population, columns `COLUMNS`: its test set first, then the population.

    discrimination: rows of `tables.discrimination_table` of the splits "test" and "population". population: predictions of
    that split. oracle: patient_id, unit_id, modality, probability (may be empty); truth: modality, center, attainable_auc,
    monte_carlo_se (may be empty), of which the primary center's counts; modality_of: {model or (study, model): modality}.
    true_auc is `auc_beside_oracle`, the population's AUC itself where no oracle knows it. within_test_interval: whether the
    test set's 95 % interval holds true_auc, which is taken as it stands. recovered_share: (true_auc - 0.5) / (attainable_auc -
    0.5).
    """
    key = ["study", "model"]
    own = discrimination[discrimination["split"] == "test"].set_index(key)
    best = truth[truth["center"] == "primary"].set_index("modality") if len(truth) else truth
    rows = []
    for known in discrimination[discrimination["split"] == POPULATION].to_dict("records"):
        row = {name: known[name] for name in key}
        tested = own.loc[(row["study"], row["model"])] if (row["study"], row["model"]) in own.index else None
        for name in COLUMNS[2:7]:
            row[name] = np.nan if tested is None else tested[name]
            row[f"population_{name}"] = known[name]
        row |= {f"true_{name}": row[f"population_{name}"] for name in COLUMNS[4:7]}
        shown = population[(population[key] == [row["study"], row["model"]]).all(axis=1)]
        modality = modality_of.get((row["study"], row["model"]), modality_of.get(row["model"]))
        both = shown.merge(oracle[oracle["modality"] == modality], on=["patient_id", "unit_id"])
        if len(both) == len(shown) and both["y_true"].nunique() == 2 and modality in best.index:
            known_best = best.loc[modality]
            units = Units.of(both["y_true"], both["y_score"], both["probability"], patient=both["patient_id"])
            found = auc_beside_oracle(units, known_best["attainable_auc"], known_best["monte_carlo_se"])
            row |= found.named("true_auc") | {"attainable_auc": known_best["attainable_auc"]}
            row["oracle_auc"] = covariance(units)[0][1]
            row["recovered_share"] = (found.value - 0.5) / (row["attainable_auc"] - 0.5)
        row["test_minus_true"] = row["auc"] - row["true_auc"]
        inside = row["auc_low"] <= row["true_auc"] <= row["auc_high"]
        nobody = np.isnan([row["auc_low"], row["true_auc"]]).any()
        row["within_test_interval"] = "" if nobody else "yes" if inside else "no"
        rows.append(row)
    return pd.DataFrame(rows, columns=list(COLUMNS))


def known_from_population(discrimination: pd.DataFrame, table: pd.DataFrame) -> pd.DataFrame:
    """The rows of the split "population" of a `tables.discrimination_table`, with the true AUCs of `population_table`."""
    rows = discrimination[discrimination["split"] == POPULATION]
    names = {f"true_{name}": name for name in COLUMNS[4:7]}
    known = table[["study", "model", *names]].rename(columns=names)
    return rows.drop(columns=list(names.values())).merge(known, on=["study", "model"])[discrimination.columns]


def population_figure(table: pd.DataFrame, titles: dict[str, str]) -> Figure:
    """AUC of every test set with its interval, the true AUC and what is attainable, a panel per study.

    table: as `population_table` returns it; titles: {study: title}.
    """
    rows = table.dropna(subset="auc").assign(name=table["model"].map(model_words))
    counts = rows["study"].value_counts(sort=False)
    size = {"figsize": (8.6, 1.2 + len(counts) * 0.5 + 0.31 * len(rows)), "height_ratios": counts + 0.6}
    figure, axes = plt.subplots(len(counts), 1, squeeze=False, sharex=True, **size)
    for ax, (study, of_study) in zip(axes.flat, rows.groupby("study", sort=False), strict=True):
        plot_forest(of_study, ax, "name", "auc", "auc_low", "auc_high", reference=0.5, log=False)
        places = np.arange(len(of_study))[::-1]
        ends = of_study[["true_auc_low", "true_auc_high"]].to_numpy(float)
        ax.hlines(places - 0.28, *ends.T, color=SPLIT_COLORS[POPULATION], lw=3)
        ax.plot(of_study["true_auc"], places - 0.28, SPLIT_MARKS[POPULATION], ms=4.5, color=SPLIT_COLORS[POPULATION])
        ax.vlines(of_study["attainable_auc"].astype(float), places - 0.48, places + 0.2, color=ATTAINABLE, lw=2.2)
        ax.set(ylim=(-0.7, len(of_study) - 0.5))
        ax.tick_params(labelbottom=True)
        ax.grid(axis="x", color="0.93")
        ax.set_axisbelow(True)
        counts = f"n = {span(of_study['n'])} tested, {span(of_study['population_n'])} of the population"
        head(ax, folded(model_words(titles.get(study, study)), 70), counts)
    axes[-1, 0].set(xlabel="AUC (95 % interval)", xlim=(min(0.4, rows[["auc", "auc_low"]].min(axis=None) - 0.02), 1.0))
    style = {"color": SPLIT_COLORS[POPULATION], "ms": 4.5, "lw": 3, "label": "true AUC, from the population"}
    handles = axes[0, 0].plot([], [], "s-", color=INK, ms=5, lw=1.4, label="the study's own internal test")
    handles += axes[0, 0].plot([], [], f"{SPLIT_MARKS[POPULATION]}-", **style)
    handles += axes[0, 0].plot([], [], label="attainable (simulation)", **ATTAINABLE_MARK)
    figure.legend(handles=handles, loc="outside upper left", ncols=3)
    return figure
