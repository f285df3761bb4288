"""Tables and figures of the report: the contract's columns, names for readers, and figures that show what they were given."""

from __future__ import annotations

import matplotlib

matplotlib.use("Agg")

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt

from alnlib.cohorts.schema import ClinicalVariable
from alnlib.evaluation.calibration import calibration_summary, flexible_calibration_curve
from alnlib.evaluation.decision_curve import decision_curve
from alnlib.evaluation.roc import auc, delong_auc
from alnlib.evaluation.tables import PREDICTION_COLUMNS, validate_predictions
from alnlib.report import figures
from alnlib.report.tables import (
    calibration_row,
    estimate_text,
    number_of,
    odds_ratio_rows,
    prediction_rows,
    recovered_share,
)
from alnlib.studies import STUDIES, published_value


@pytest.fixture
def scored():
    rng = np.random.default_rng(3)
    y = np.repeat([0, 1], [60, 40])
    return y, 1 / (1 + np.exp(-(rng.normal(size=100) + 1.2 * y - 0.6)))


@pytest.fixture
def ax():
    figure, axes = plt.subplots()
    yield axes
    plt.close(figure)


def test_prediction_rows_are_a_valid_predictions_table(scored):
    y, score = scored
    ids = pd.Series([f"{i:03d}" for i in range(100)])
    table = prediction_rows("tang", "m", "test", ids, y, score)
    assert tuple(table.columns) == PREDICTION_COLUMNS
    assert validate_predictions(table) == []
    assert (table["unit_id"] == table["patient_id"]).all()


def test_odds_ratio_rows_name_level_and_reference_and_drop_references():
    stage = ClinicalVariable("T stage", "ordinal", None, ("T1", "T2"))
    age = ClinicalVariable("Age", "continuous", "years")
    table = pd.DataFrame(
        {
            "variable": ["T stage", "T stage", "Age"],
            "level": ["T1", "T2", ""],
            "odds_ratio": [1.0, 2.0, np.nan],
            "low": [np.nan, 1.1, np.nan],
            "high": [np.nan, 3.0, np.nan],
        }
    )
    assert odds_ratio_rows(table, {"t": stage, "age": age})["name"].tolist() == ["T stage: T2 vs T1", "Age (per year)"]


def test_recovered_share_holds_a_model_to_the_oracle_on_the_same_patients(scored):
    y, score = scored
    ids = pd.Series([f"{i:03d}" for i in range(100)])
    predictions = pd.concat(
        [prediction_rows("s", "m", split, ids, y, score) for split in ("train", "test", "external")]
    )
    truth = pd.DataFrame({"modality": ["us", "us"], "centre": ["primary", "external"], "attainable_auc": [0.9, 0.8]})
    oracle = pd.DataFrame({"patient_id": ids, "modality": "us", "probability": score})
    table = recovered_share(predictions, truth, oracle, {"m": "us"}).set_index("split")
    assert list(table.index) == ["test", "external"]
    assert table.loc["test", "recovered_share"] == pytest.approx((auc(y, score) - 0.5) / 0.4)
    assert table.loc["external", "recovered_share"] == pytest.approx((auc(y, score) - 0.5) / 0.3)
    assert (table["behind_oracle"] == 0).all()
    assert recovered_share(predictions, truth.head(0), oracle.head(0), {"m": "us"}).empty


def test_calibration_row_has_an_interval_for_every_estimate(scored):
    y, score = scored
    row = calibration_row("s", "m", "test", calibration_summary(y, score, rng=np.random.default_rng(0), n_bootstrap=30))
    for name in ("intercept", "slope", "brier", "scaled_brier", "ici", "expected_observed"):
        assert row[f"{name}_low"] <= row[name] <= row[f"{name}_high"], name
    assert number_of(row, "brier") == {
        "value": row["brier"],
        "low": row["brier_low"],
        "high": row["brier_high"],
        "n": 100,
    }
    assert estimate_text({"a": np.nan, "a_low": 0, "a_high": 1}, "a") == "-"


def test_roc_figure_shows_the_auc_and_the_area_under_its_line_is_it(scored, ax):
    y, score = scored
    figures.plot_roc(y, score, delong_auc(y, score), "model", ax)
    figures.finish_roc(ax, "Test", 100, 40)
    label = ax.get_legend().get_texts()[0].get_text()
    assert f"{auc(y, score):.3f}" in label
    x, height = ax.lines[0].get_data()
    assert np.trapezoid(height, x) == pytest.approx(auc(y, score))
    assert ax.get_title() == "Test (n = 100, 40 positive)"


def test_calibration_figure_counts_every_patient_once(scored, ax):
    y, score = scored
    curve = flexible_calibration_curve(y, score, rng=np.random.default_rng(0), n_bootstrap=10)
    figures.plot_calibration(curve, score, y, ax)
    drawn = [line for line in ax.lines if len(line.get_xdata()) == len(curve.predicted)]
    np.testing.assert_allclose(drawn[0].get_ydata(), np.clip(curve.observed, 0, 1))


def test_decision_curve_figure_has_both_simple_policies(scored, ax):
    y, score = scored
    table = decision_curve(y, score, rng=np.random.default_rng(0), n_bootstrap=10)
    figures.plot_decision_curves({"m": table}, ax, {"m": "C0"})
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["treat none", "treat all", "m"]


def test_forest_marks_intervals_that_leave_the_axis_and_says_what_is_not_estimable(ax):
    table = pd.DataFrame(
        {
            "name": ["a", "b", "c"],
            "or": [2.0, 400.0, np.nan],
            "low": [1.0, 100.0, np.nan],
            "high": [4.0, 1600.0, np.nan],
        }
    )
    figures.plot_forest(table, ax, "name", "or", "low", "high")
    assert [tick.get_text() for tick in ax.get_yticklabels()] == ["a", "b", "c"]
    assert any("not estimable" in text.get_text() for text in ax.texts)
    assert any(line.get_marker() == ">" for line in ax.lines)
    assert ax.get_xlim()[1] <= 50


def test_a_model_keeps_its_colour_whatever_else_is_shown():
    alone = figures.model_colours(["clinical", "DL_US"])
    among = figures.model_colours(["clinical", "clinical_ridge", "clinical+reader_b", "DL_US", "resnet18", "resnet50"])
    assert alone.items() <= among.items()
    assert len(set(among.values())) == 6


def test_published_numbers_are_those_of_the_abstracts():
    """PAPERS: Tang 2025, Park 2024, Li 2023, Guo 2024, Li 2026; what is not published has no value."""
    assert set(STUDIES) == {"tang", "park", "li_video", "guo", "li_nat"}
    fused = published_value("tang", "DL_MRI+US+Clinical", "external")
    assert (fused.value, fused.low, fused.high) == (0.809, 0.723, 0.895)
    assert published_value("tang", "DL_US", "test").value is None
    assert published_value("tang", "no such model", "test") is None
    assert published_value("park", "DenseNet121 FSC+ASC", "test", "sensitivity").value == 0.98
    assert published_value("li_video", "TIN", "test", "accuracy").value == 52 / 61
    for study in STUDIES.values():
        for claim in study.claims:
            assert {claim.better, claim.worse} <= set(study.models), study.key
