"""Figures of the models on features: what each learner reached, which features are kept, what the network was shown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from alneval.figures import plot_forest


def learners_figure(table: pd.DataFrame, n_test: int, names: Mapping[str, str] | None = None) -> Figure:
    """AUC of every learner on the internal test patients with its interval, and the mean of its inner folds as a tick.

    table: of `alnlib.models.learners.learner_aucs`, a panel per set of features. n_test: patients behind the AUCs.
    names: what a panel calls the learner "winner", by set of features.
    """
    sets = list(table.groupby("features", sort=False))
    fig, axes = plt.subplots(1, len(sets), figsize=(11, 3.9), sharex=True)
    for ax, (features, rows) in zip(np.atleast_1d(axes), sets, strict=True):
        called = rows["learner"].replace({"winner": (names or {}).get(features, "winner")})
        plot_forest(
            rows.assign(name=called), ax, "name", "test_auc", "test_auc_low", "test_auc_high", reference=0.5, log=False
        )
        ax.plot(rows["inner_auc"], np.arange(len(rows))[::-1], "|", color="crimson", ms=9, mew=2)
        ax.set(xlabel="AUC (95 % interval)", title=f"{features}, n = {n_test}", xlim=(0.2, 1))
    np.atleast_1d(axes)[0].plot([], [], "|", color="crimson", ms=9, mew=2, label="mean of the inner folds")
    fig.legend(loc="outside lower left")
    on = {1: "features", 2: "two sets of features", 3: "three sets of features"}.get(len(sets), "sets of features")
    fig.suptitle(f"Learners on {on}, internal test", x=0.01, ha="left", fontsize=9)
    return fig


def selection_figure(frequency: pd.DataFrame, most: int = 15) -> Figure:
    """How often the features at the top of a table of `alnlib.radiomics.select.selection_frequency` are kept."""
    often = frequency.head(most).iloc[::-1]
    gap = [often["frequency"] - often["frequency_low"], often["frequency_high"] - often["frequency"]]
    fig, ax = plt.subplots(figsize=(8.5, 4.2))
    ax.barh(often["feature"], often["frequency"], color="0.75", xerr=gap, ecolor="0.35")
    ax.tick_params(axis="y", labelsize=7)
    n_resamples = often["n_resamples"].max()
    ax.set(xlim=(0, 1), xlabel=f"Share of {n_resamples} subsamples of patients that keep it")
    ax.set_title("The features that are kept most often (radiomics)")
    return fig


def crops_figure(crops: Mapping[str, Sequence[np.ndarray]], names: Sequence[str], title: str) -> Figure:
    """Patients side by side, each a column of gray crops (rows, columns) from 0 to 255, with a name to every row."""
    size = (1.15 * len(crops), 1.15 * len(names) + 0.5)
    fig, axes = plt.subplots(len(names), len(crops), figsize=size, squeeze=False)
    for column, (patient, pictures) in zip(axes.T, crops.items(), strict=True):
        for ax, picture in zip(column, pictures, strict=True):
            ax.imshow(picture, cmap="gray", vmin=0, vmax=255)
            ax.set(xticks=[], yticks=[])
        column[0].set_title(patient, fontsize=7, fontweight="normal")
    for ax, name in zip(axes[:, 0], names, strict=True):
        ax.set_ylabel(name.replace("-", "\n-"), fontsize=6)
    fig.suptitle(title, fontsize=9, x=0.01, ha="left")
    return fig
