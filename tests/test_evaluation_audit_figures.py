"""Figures of audits and luck: they draw what they were given, also nothing."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt

from alneval.audit_figures import Mark, learning_curves_figure, resplits_figure, subgroups_figure, twins_figure
from alneval.estimate import Estimate
from alneval.resplit import CURVE_COLUMNS, summarize_twin
from alneval.subgroups import SUBGROUP_COLUMNS


def labels_of(ax) -> list[str]:
    return [text.get_text() for text in ax.get_legend().get_texts()]


def test_twins_and_selection_have_a_panel_each():
    twins = {"a": summarize_twin(0.8, [0.4, 0.5, 0.6]), "b": summarize_twin(0.6, [0.5, 0.55])}
    leaks = pd.DataFrame({"pipeline": "a", "labels": ["true", "permuted"] * 3, "inside": 0.5, "outside": 0.9})
    figure = twins_figure(twins, leaks)
    forest, selection = figure.axes
    assert [text.get_text() for text in forest.get_yticklabels()] == ["a", "b"]
    real = next(line for line in forest.lines if line.get_label() == "true labels")
    np.testing.assert_array_equal(real.get_xdata(), [0.8, 0.6])
    assert selection.get_title() == "a"
    assert len(twins_figure({}, leaks[:0]).axes) == 1
    plt.close("all")


def test_resplits_are_marked_and_what_is_not_published_is_said():
    resplits = pd.DataFrame({"pipeline": "a", "auc": np.linspace(0.5, 0.7, 20)})
    marks = {"a": [Mark(None, "published: not available", "crimson", "--"), Mark(0.66, "this run", "C0", ":")]}
    (ax, *_) = resplits_figure(resplits, {"a": Estimate(0.6)}, marks).axes
    assert labels_of(ax) == ["mean 0.60", "this run 0.66", "published: not available"]
    plt.close("all")


def test_learning_curves_and_subgroups_name_what_they_show():
    curves = pd.DataFrame([(10, 5, 0.6, 0.5, 0.7, 0.55, 0.65, "a")], columns=[*CURVE_COLUMNS, "pipeline"])
    curves["pipeline"] = "li_nat: radiomics"
    (ax,) = learning_curves_figure(curves, 5, {"li_nat": "Li 2026"}).axes
    assert labels_of(ax) == ["Li 2026: radiomics"] and ax.texts[0].get_text().startswith("5 resplits")
    row = dict.fromkeys(SUBGROUP_COLUMNS, np.nan) | {"variable": "ER", "level": "positive", "n": 9, "n_positive": 3}
    (ax,) = subgroups_figure(pd.DataFrame([row | {"auc": 0.7, "auc_low": 0.5, "auc_high": 0.9}]), "m").axes
    assert [text.get_text() for text in ax.get_yticklabels()] == ["ER: positive (3/9)"]
    plt.close("all")
