"""Table 1. Truth: numpy by hand, the two-proportion formula of Austin 2009 for binary variables, and invariances."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from alneval.table_one import categorical_smd, continuous_smd, format_table_one, table_one
from alnlib.cohorts.schema import ClinicalVariable

CLINICAL = {
    "age_years": ClinicalVariable("Age", "continuous", "years"),
    "t_stage": ClinicalVariable("T stage", "ordinal", None, ("T1", "T2", "T3")),
    "er": ClinicalVariable("ER", "nominal", None, ("negative", "positive")),
}


@pytest.fixture
def patients() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "patient_id": list("abcdefgh"),
            "y": pd.array([0, 0, 0, 0, 1, 1, 1, None], dtype="Int64"),
            "age_years": [40, 50, 60, np.nan, 55, 65, 75, 90],
            "t_stage": ["T1", "T1", "T2", "T3", "T2", "T2", np.nan, "T1"],
            "er": ["positive", "negative", "positive", "positive", "negative", "negative", "positive", "positive"],
        }
    )


def cell(table: pd.DataFrame, variable: str, group: str, level: str = "") -> pd.Series:
    (row,) = table[(table["variable"] == variable) & (table["group"] == group) & (table["level"] == level)].to_dict(
        "records"
    )
    return pd.Series(row)


def test_numbers_by_hand(patients):
    table = table_one(patients, CLINICAL, "y")
    age = cell(table, "age_years", "0")
    assert (age["n_group"], age["n"], age["missing"]) == (4, 3, 1)
    assert (age["mean"], age["sd"], age["median"], age["q1"], age["q3"]) == (50, 10, 50, 45, 55)
    overall = cell(table, "age_years", "overall")
    assert (overall["n_group"], overall["missing"]) == (7, 1)  # the patient without an endpoint is left out
    assert overall["mean"] == pytest.approx(np.mean([40, 50, 60, 55, 65, 75]))
    stage = cell(table, "t_stage", "1", "T2")
    assert (stage["count"], stage["fraction"], stage["missing"]) == (2, 1.0, 1)
    assert cell(table, "t_stage", "0", "T1")["fraction"] == 0.5


def test_continuous_smd_by_hand(patients):
    table = table_one(patients, CLINICAL, "y")
    assert cell(table, "age_years", "1")["smd"] == pytest.approx(15 / 10)
    assert continuous_smd(pd.Series([1.0, 1.0]), pd.Series([2.0, 2.0])) == np.inf
    assert continuous_smd(pd.Series([1.0, 1.0]), pd.Series([1.0, 1.0])) == 0
    assert np.isnan(continuous_smd(pd.Series([1.0]), pd.Series([1.0, 2.0])))


@pytest.mark.parametrize(("p", "q"), [(0.1, 0.3), (0.5, 0.6), (0.05, 0.9)])
def test_binary_smd_is_the_two_proportion_formula(p, q):
    """Austin 2009, Commun Stat Simul Comput 38:1228: |p - q| / sqrt((p(1 - p) + q(1 - q)) / 2)."""
    a, b = (pd.Series(np.where(np.arange(1000) < share * 1000, "yes", "no")) for share in (p, q))
    expected = abs(p - q) / np.sqrt((p * (1 - p) + q * (1 - q)) / 2)
    assert categorical_smd(a, b, ("no", "yes")) == pytest.approx(expected)


def test_multinomial_smd_does_not_depend_on_the_reference_level_or_on_the_order_of_groups():
    rng = np.random.default_rng(0)
    levels = ("a", "b", "c", "d")
    a = pd.Series(rng.choice(levels, 200, p=[0.4, 0.3, 0.2, 0.1]))
    b = pd.Series(rng.choice(levels, 300, p=[0.1, 0.3, 0.3, 0.3]))
    value = categorical_smd(a, b, levels)
    assert value == pytest.approx(categorical_smd(b, a, levels[::-1]))
    assert value > 0.5
    assert categorical_smd(a, b, (*levels, "never seen")) == pytest.approx(value)
    assert categorical_smd(a, a, levels) == 0
    with_missing = pd.concat([a, pd.Series([np.nan] * 50)])
    assert categorical_smd(with_missing, b, levels) == pytest.approx(value)


def test_multinomial_smd_by_an_independent_calculation():
    """Yang & Dalton 2012: sqrt((T - C)' S^-1 (T - C)) with S written out cell by cell."""
    a = pd.Series(["a"] * 50 + ["b"] * 30 + ["c"] * 20)
    b = pd.Series(["a"] * 30 + ["b"] * 30 + ["c"] * 40)
    t, c = (0.3, 0.2), (0.3, 0.4)
    s11 = (t[0] * (1 - t[0]) + c[0] * (1 - c[0])) / 2
    s22 = (t[1] * (1 - t[1]) + c[1] * (1 - c[1])) / 2
    s12 = -(t[0] * t[1] + c[0] * c[1]) / 2
    d1, d2 = t[0] - c[0], t[1] - c[1]
    squared = (d1 * d1 * s22 - 2 * d1 * d2 * s12 + d2 * d2 * s11) / (s11 * s22 - s12**2)
    assert categorical_smd(a, b, ("a", "b", "c")) == pytest.approx(np.sqrt(squared))


def test_groups_that_share_no_level_are_infinitely_far_apart_and_an_empty_one_has_no_distance():
    a, b = pd.Series(["x"] * 5), pd.Series(["y"] * 5)
    assert categorical_smd(a, b, ("x", "y")) == np.inf
    assert np.isnan(categorical_smd(a, pd.Series([], dtype="str"), ("x", "y")))


def test_with_more_than_two_groups_the_largest_pairwise_difference_is_shown():
    frame = pd.DataFrame({"split": ["test", "train", "external"] * 20, "age_years": [1.0, 2, 5, 3, 4, 9] * 10})
    table = table_one(frame, {"age_years": CLINICAL["age_years"]}, "split")
    assert table["group"].tolist() == ["overall", "train", "test", "external"]
    parts = dict(tuple(frame.groupby("split")["age_years"]))
    assert table["smd"].iat[0] == pytest.approx(continuous_smd(parts["test"], parts["external"]))


def test_shuffling_the_rows_changes_nothing(patients):
    shuffled = patients.sample(frac=1, random_state=3)
    pd.testing.assert_frame_equal(table_one(patients, CLINICAL, "y"), table_one(shuffled, CLINICAL, "y"))


def test_a_value_that_is_no_level_is_an_error(patients):
    with pytest.raises(ValueError, match="t_stage has values that are no levels"):
        table_one(patients.assign(t_stage="T9"), CLINICAL, "y")


def test_a_variable_missing_throughout_a_group_is_shown_as_such(patients):
    patients.loc[patients["y"] == 1, ["age_years", "t_stage"]] = np.nan
    table = table_one(patients, CLINICAL, "y")
    assert np.isnan(cell(table, "age_years", "1")["mean"])
    assert table.loc[table["variable"] == "t_stage", "smd"].isna().all()
    shown = format_table_one(table)
    assert shown.loc[0, "1 (n = 3)"] == "-"


def test_the_table_for_reading(patients):
    shown = format_table_one(table_one(patients, CLINICAL, "y"), group_names={"0": "N0", "1": "N+"})
    assert list(shown.columns) == ["Characteristic", "Overall (n = 7)", "N0 (n = 4)", "N+ (n = 3)", "Missing", "SMD"]
    assert shown["Characteristic"].tolist()[:3] == ["Age (years), mean (SD)", "  median [IQR]", "T stage, n (%)"]
    assert shown.loc[0, "N0 (n = 4)"] == "50.0 (10.0)"
    assert shown.loc[1, "N0 (n = 4)"] == "50.0 [45.0, 55.0]"
    assert shown.loc[0, ["Missing", "SMD"]].tolist() == ["1", "1.500"]
    assert shown.loc[3, "N0 (n = 4)"] == "2 (50.0)"
