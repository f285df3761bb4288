"""Figures of the models on features: what each learner reached, which features are kept, what the network was shown."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from alneval.figures import plot_forest
from alneval.style import INK, PALE, head, headline


def learners_figure(table: pd.DataFrame, n_test: int, names: Mapping[str, str] | None = None) -> Figure:
    """AUC of every learner on the internal test patients with its interval, and the mean of its inner folds below it.

    table: of `alnlib.models.learners.learner_aucs`, a panel per set of features. n_test: patients behind the AUCs.
    names: what a panel calls the learner "winner", by set of features.
    """
    sets = list(table.groupby("features", sort=False))
    fig, axes = plt.subplots(1, len(sets), figsize=(4.2 * len(sets), 4.4), sharex=True, squeeze=False)
    for ax, (features, rows) in zip(axes[0], sets, strict=True):
        called = rows["learner"].replace({"winner": (names or {}).get(features, "winner")})
        plot_forest(
            rows.assign(name=called), ax, "name", "test_auc", "test_auc_low", "test_auc_high", reference=0.5, log=False
        )
        ax.plot(rows["inner_auc"], np.arange(len(rows))[::-1] - 0.28, "o", color=PALE, ms=4.5)
        ax.set(xlabel="AUC (95 % interval)", xlim=(0.2, 1), ylim=(-0.7, len(rows) - 0.4))
        head(ax, features, f"internal test, n = {n_test}")
    keys = axes[0, 0].plot([], [], "s-", color=INK, ms=5, lw=1.4, label="internal test")
    keys += axes[0, 0].plot([], [], "o", color=PALE, ms=4.5, label="mean of the inner folds")
    fig.legend(handles=keys, loc="outside lower left", ncols=2)
    on = {1: "features", 2: "two sets of features", 3: "three sets of features"}.get(len(sets), "sets of features")
    return headline(fig, f"Learners on {on}")


_FEATURE = re.compile(
    r"(?P<modality>[A-Z]+)_(?P<visit>[a-z]+)_(?P<sequence>.+?)__(?:(?P<region>\w+?)_)?(?P<filter>original|wavelet\S*?|log\S*?)"
    r"_(?P<family>[a-z0-9]+)_(?P<name>\w+)"
)
_SHORT_WORDS = {"firstorder": "first order", "pre": "before", "post": "after", "delta": "change"}
_FEATURE_NAMES = {
    **{"10Percentile": "10th percentile", "90Percentile": "90th percentile", "MCC": "maximal correlation coefficient"},
    **{"Id": "inverse difference", "Idm": "inverse difference moment", "Idn": "inverse difference, normalized"},
    **{"Idmn": "inverse difference moment, normalized"},
    **{f"Imc{number}": f"informational measure of correlation {number}" for number in (1, 2)},
}


def feature_words(name: str) -> str:
    """A feature's column name in words, on two lines: "MRI_pre_ADC__lesion_original_glcm_InverseVariance" is "inverse variance
    (GLCM)" over "MRI before, ADC"; another name stays as it is."""
    found = _FEATURE.fullmatch(name)
    if found is None:
        return name
    words = _FEATURE_NAMES.get(found["name"]) or re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", found["name"]).lower()
    family = _SHORT_WORDS.get(found["family"], found["family"].upper())
    family = family.lower() if family == "SHAPE" else family
    of = family if found["filter"] == "original" else f"{family}, {found['filter']}"
    where = (
        f"{found['modality']} {_SHORT_WORDS.get(found['visit'], found['visit'])}, {found['sequence'].replace('_', ' ')}"
    )
    return f"{words} ({of})\n{where}"


def selection_figure(frequency: pd.DataFrame, most: int = 12) -> Figure:
    """How often the features at the top of a table of `alnlib.radiomics.select.selection_frequency` are kept."""
    often = frequency.head(most).iloc[::-1]
    gap = [often["frequency"] - often["frequency_low"], often["frequency_high"] - often["frequency"]]
    fig, ax = plt.subplots(figsize=(8, 0.9 + 0.36 * len(often)))
    ax.barh(range(len(often)), often["frequency"], color="0.75", xerr=gap, ecolor=INK)
    ax.set_yticks(range(len(often)), often["feature"].map(feature_words), fontsize=7.5, linespacing=1.1)
    n_resamples = often["n_resamples"].max()
    ax.set(xlim=(0, 1), xlabel="Share of subsamples that keep the feature (95 % interval)")
    head(ax, "Radiomic features that are kept most often", f"{n_resamples} subsamples of the training patients")
    return fig


def crops_figure(crops: Mapping[str, Sequence[np.ndarray]], names: Sequence[str], title: str) -> Figure:
    """Patients side by side, each a column of gray crops (rows, columns) from 0 to 255, with a name to every row."""
    size = (1.15 * len(crops), 1.15 * len(names) + 0.5)
    fig, axes = plt.subplots(len(names), len(crops), figsize=size, squeeze=False)
    for column, (patient, pictures) in zip(axes.T, crops.items(), strict=True):
        for ax, picture in zip(column, pictures, strict=True):
            ax.imshow(picture, cmap="gray", vmin=0, vmax=255)
            ax.set(xticks=[], yticks=[])
        column[0].set_title(patient, fontsize=7.5, fontweight="normal")
    for ax, name in zip(axes[:, 0], names, strict=True):
        ax.set_ylabel(name.replace("_", " ").replace("-", "\n- "), fontsize=7)
    return headline(fig, title)
