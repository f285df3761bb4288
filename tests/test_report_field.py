"""The five beside their field: facts as they stand, errors from intervals and sizes, pooling as R's metafor."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt
from scipy import stats
from scipy.special import expit, logit

from alneval.delong import auc as auc_of
from alneval.sample_size import auc_validation_size, auc_variance
from alneval.style import PALETTE
from alnlib.paths import repository_root
from alnlib.report import field as literature
from alnlib.studies import SHORT_NAMES, STUDIES, published_value

REFERENCES = json.loads((repository_root() / "tests/references/field/expected.json").read_text())
LOGIT = logit(0.8)
SETS = [name for name in REFERENCES if name != "versions"]


@pytest.fixture(scope="module")
def field() -> pd.DataFrame:
    return literature.read_field()


@pytest.fixture(scope="module")
def values(field) -> pd.DataFrame:
    return literature.held_out(literature.one_per_patients(field))


def test_every_row_has_a_source_and_numbers_that_can_be(field):
    assert len(field) == 104 and field["paper"].nunique() == 95
    assert field["source"].str.len().gt(5).all() and field["unit"].isin(["patient", "node"]).all()
    assert set(field["kind"]) - set(literature.MODELS) == {"reader", "meta-analysis"}
    aucs = field[[name for name in field if name.startswith("auc_")]]
    assert (aucs.isna() | ((aucs >= 0.5) & (aucs <= 1))).all(axis=None)
    for tested in ("internal", "external"):
        low, value, high = (field[f"auc_{tested}{end}"] for end in ("_low", "", "_high"))
        assert (low.isna() | low.between(0.5, value)).all() and (high.isna() | high.between(value, 1)).all()
        assert (field[f"auc_{tested}"].notna() <= field["kind"].ne("")).all()


def test_the_five_stand_there_with_what_the_project_says_of_them(field):
    own = field[field["study"] != ""].set_index("study")
    assert set(own.index) == set(STUDIES)
    for study, row in own.iterrows():
        model = STUDIES[study].claims[0].better
        published = published_value(study, model, "test")
        assert row["auc_internal"] == published.value, study
        assert row["source"] == f"doi:{STUDIES[study].doi}"
        if published.low is not None:
            assert (row["auc_internal_low"], row["auc_internal_high"]) == (published.low, published.high)


def test_rows_of_the_same_patients_count_once_and_the_five_stay(field):
    kept = literature.one_per_patients(field)
    assert not kept.duplicated(["patients_of", "unit", "endpoint"]).any()
    assert set(kept["study"]) - {""} == set(STUDIES)
    assert kept["paper"].isin(["npjBC_2024_DLRN", "GCN_2025_US"]).sum() == 1, "most likely the same patients"


def one_row(**changes: object) -> pd.DataFrame:
    base = {"paper": "p", "study": "", "unit": "patient", "kind": "radiomics", "endpoint": "sln", "patients_of": "p"}
    base |= {"auc_internal": 0.8, "auc_internal_low": np.nan, "auc_internal_high": np.nan, "n_internal_test": pd.NA}
    base |= {f"auc_external{end}": np.nan for end in ("", "_low", "_high")}
    base |= {"n_external_test": pd.NA, "internal_is": "held out", "external_is": ""}
    return pd.DataFrame([base | changes]).astype({"n_internal_test": "Int64", "n_external_test": "Int64"})


@pytest.mark.parametrize(
    ("changes", "error", "source"),
    [
        ({"auc_internal_low": 0.7, "auc_internal_high": 0.9}, 0.1 / 1.959964 / 0.16, "interval"),
        ({"auc_internal_low": expit(LOGIT - 1), "auc_internal_high": expit(LOGIT + 1)}, 1 / 1.959964, "interval"),
        ({"auc_internal_low": 0.6, "auc_internal_high": 1.0}, 0.2 / 1.959964 / 0.16, "interval"),  # cut off at 1
        ({"auc_internal_low": 0.5, "auc_internal_high": 0.81}, np.nan, ""),  # the value is near its end: no interval of it
        ({"n_internal_test": 50}, np.sqrt(auc_variance(50, 0.4, 0.8)) / 0.16, "size"),
        ({"n_internal_test": 50, "unit": "node"}, np.nan, ""),
        ({}, np.nan, ""),
    ],
)  # fmt: skip
def test_standard_errors_come_from_the_interval_or_the_size(changes, error, source):
    row = literature.held_out(one_row(**changes), prevalence=0.4).iloc[0]
    assert row["error_from"] == source
    assert row["standard_error"] == pytest.approx(error, rel=1e-5, nan_ok=True)


def test_later_patients_of_the_same_hospital_are_internal_and_others_of_whom_nothing_is_known_are_left_out():
    assert literature.held_out(one_row(internal_is="later patients"))["tested"].tolist() == ["internal"]
    luo = one_row(internal_is="", auc_internal=np.nan, auc_external=0.91, external_is="later patients", auc_train=0.75)
    assert literature.held_out(luo)["tested"].tolist() == ["internal"]
    assert literature.falls(luo)[["internal", "external"]].isna().to_numpy().tolist() == [[False, True]]
    assert literature.held_out(luo.assign(external_is="unclear")).empty


def test_cross_validated_values_are_not_held_out():
    assert literature.held_out(one_row(internal_is="cross-validated")).empty
    assert literature.falls(one_row(internal_is="cross-validated", auc_train=0.9)).empty


@pytest.mark.parametrize("name", SETS)
def test_pooling_is_that_of_metafor(name):
    """Paule-Mandel and Hartung-Knapp, prediction interval, I2 and Egger's regression, to 1e-6."""
    expected = REFERENCES[name]
    found = literature.pooled(np.array(expected["y"]), np.array(expected["se"]))
    for key, theirs in (("auc", "mean"), *((end, end) for end in ("low", "high", "prediction_low", "prediction_high"))):
        assert logit(found[key]) == pytest.approx(expected[theirs], abs=1e-6), key
    assert found["tau"] ** 2 == pytest.approx(expected["tau2"], abs=1e-6)
    assert found["i_squared"] == pytest.approx(expected["i_squared"], abs=1e-6)
    asymmetry = literature.egger(np.array(expected["y"]), np.array(expected["se"]))
    assert [asymmetry[key] for key in ("slope", "t", "p")] == pytest.approx(
        [expected[key] for key in ("slope", "t", "p")], abs=1e-6
    )


def test_two_values_are_not_pooled():
    with pytest.raises(ValueError, match="at least 3"):
        literature.pooled(np.array([1.0, 2.0]), np.array([0.1, 0.1]))


def test_the_band_holds_95_of_100_test_sets_of_its_size():
    """Normal scores of a true AUC of 0.8, 24 positive of 60 patients."""
    rng = np.random.default_rng(0)
    y = np.repeat([1, 0], [24, 36])
    shift = np.sqrt(2) * stats.norm.ppf(0.8)
    drawn = np.array([auc_of(y, rng.normal(size=60) + shift * y) for _ in range(2000)])
    low, high = literature.band(np.array([60]), 0.4, 0.8)
    assert ((drawn >= low[0]) & (drawn <= high[0])).mean() == pytest.approx(0.95, abs=0.015)


def test_the_variance_is_the_one_that_sizes_are_planned_with():
    n = auc_validation_size(0.4, 0.8, 0.1)
    assert 2 * 1.96 * np.sqrt(auc_variance(n, 0.4, 0.8)) <= 0.1 < 2 * 1.96 * np.sqrt(auc_variance(n - 1, 0.4, 0.8))


def test_falls_are_counted_within_a_paper(field):
    table = literature.falls(literature.one_per_patients(field))
    li = table.set_index("study").loc["li_nat"]
    assert li["from_training"] == pytest.approx(0.083), "as the abstract has it"
    counts = literature.fall_table(table).set_index("step")
    both = table["internal"].notna() & table["external"].notna()
    assert counts.loc["internal_to_external", "papers"] == both.sum()
    assert counts.loc["internal_to_external", "fell"] == (table["internal"] > table["external"]).sum()
    moved = table.loc[both, "from_internal"]
    assert counts.loc["internal_to_external", "median_fall"] == moved.median()


def test_figures_mark_the_five_and_label_the_run(field, values):
    own = {"study": "tang", "model": "DL_MRI+US+Clinical", "n": 80, "auc": 0.75, "auc_low": 0.6, "auc_high": 0.9}
    discrimination = pd.DataFrame([own | {"split": split} for split in ("train", "test", "external")])
    here = literature.here_rows(discrimination)
    assert here["tested"].tolist() == ["internal", "external"]
    lines = literature.yardsticks(field)
    assert sorted(lines.loc[lines["what"] == "clinical variables alone", "auc"]) == [0.69, 0.74]
    figure = literature.sizes_figure(values, lines, here, "simulated", 0.4, 0.8)
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert "of the five studies, this run (simulated)" in legend
    patients = figure.axes[0]
    own = [line for line in patients.lines if line.get_color() == PALETTE[0] and len(line.get_xdata())]
    assert [(line.get_marker(), line.get_xdata()[0]) for line in own] == [("s", 80), ("^", 80)]
    named = {text.get_text() for axes in figure.axes for text in axes.texts}
    assert set(SHORT_NAMES.values()) <= named
    plt.close(figure)
    summary = literature.pooled_table(values)
    assert set(summary["tested"]) == {"internal", "external"} and summary["auc"].between(0.7, 0.9).all()
    figure = literature.pooled_figure(values, summary)
    shown = sum(len(axes.get_yticks()) - 1 for axes in figure.axes)
    assert shown == (values["standard_error"].notna() & values["unit"].eq("patient")).sum()
    plt.close(figure)
