"""Subgroups: intervals as on the subgroup alone, too few said, and heterogeneity found only where it was planted."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from alneval.delong import auc_interval
from alneval.subgroups import SUBGROUP_COLUMNS, subgroup_table
from alneval.units import Units


def patients(n: int, effects: dict[str, float], seed: int = 0) -> tuple[pd.DataFrame, pd.DataFrame]:
    """n patients per level; the score is shifted in positives by the level's effect."""
    rng = np.random.default_rng(seed)
    level = np.repeat(list(effects), n)
    y = rng.permutation(np.arange(level.size) % 5 < 2).astype(int)
    ids = [f"p{i}" for i in range(level.size)]
    score = y * pd.Series(level).map(effects).to_numpy() + rng.normal(size=level.size)
    rows = pd.DataFrame({"patient_id": ids, "y_true": y, "y_score": score})
    return rows, pd.DataFrame({"center": level}, index=ids)


def test_every_level_is_what_delong_gives_on_its_patients():
    rows, attributes = patients(80, {"a": 1.0, "b": 1.0})
    table = subgroup_table(rows, attributes)
    assert list(table.columns) == list(SUBGROUP_COLUMNS)
    for level, found in table.set_index("level").iterrows():
        part = rows[(attributes["center"] == level).to_numpy()]
        expected = auc_interval(Units.of_rows(part))
        assert (found["auc"], found["auc_low"], found["auc_high"]) == (expected.value, expected.low, expected.high)


def test_heterogeneity_by_hand():
    """Two levels: Q is the squared z of the difference of independent AUCs, chi-square with one degree of freedom."""
    rows, attributes = patients(80, {"a": 0.3, "b": 2.0})
    a, b = (auc_interval(Units.of_rows(rows[(attributes["center"] == level).to_numpy()])) for level in "ab")
    z = (a.value - b.value) / np.hypot(a.standard_error, b.standard_error)
    found = subgroup_table(rows, attributes)["p_heterogeneity"]
    assert found.to_list() == pytest.approx([2 * stats.norm.sf(abs(z))] * 2)
    assert found.iloc[0] < 0.001


def test_equal_performance_is_called_different_at_the_nominal_rate():
    """80 cohorts with three equal levels: p below 0.05 in 5 % of them; at most what a binomial exceeds in 1 of 1,000 runs."""
    p = [subgroup_table(*patients(60, {"a": 1, "b": 1, "c": 1}, seed))["p_heterogeneity"].iloc[0] for seed in range(80)]
    assert np.sum(np.array(p) < 0.05) <= stats.binom.ppf(0.999, 80, 0.05)
    assert 0.3 < np.mean(p) < 0.7


def test_holm_is_over_variables_and_too_few_are_said():
    rows, attributes = patients(80, {"a": 0.3, "b": 2.0})
    attributes["noise"] = np.resize(["x", "y"], len(attributes))
    attributes["rare"] = np.where(np.arange(len(attributes)) < 12, "yes", None)
    table = subgroup_table(rows, attributes).set_index("variable")
    assert table.loc["rare", "note"] == "too few"
    assert np.isnan(table.loc["rare", "auc"])
    assert np.isnan(table.loc["rare", "p_holm"])
    assert table.loc["rare", "n"] == 12
    p = table["p_heterogeneity"].groupby(level=0).first()
    assert table.loc["center", "p_holm"].iloc[0] == pytest.approx(min(1, 2 * p["center"]))


def test_several_rows_of_a_patient_give_clustered_intervals():
    rows, attributes = patients(60, {"a": 1.0, "b": 1.0})
    twice = pd.concat([rows, rows.assign(y_score=rows["y_score"] + 0.01)])
    found = subgroup_table(twice, attributes).iloc[0]
    part = twice[(attributes["center"].loc[twice["patient_id"]] == "a").to_numpy()]
    expected = auc_interval(Units.of_rows(part))
    assert (found["auc_low"], found["auc_high"]) == pytest.approx((expected.low, expected.high))
