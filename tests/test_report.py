"""Tables and figures of the report: the contract's columns, names for readers, and figures that show what they were given."""

from __future__ import annotations

import io
from types import SimpleNamespace

import matplotlib

matplotlib.use("Agg")

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt
from PIL import Image

from alneval import figures, style
from alneval.calibration import calibration_summary
from alneval.curves import RECALLS, SPECIFICITIES, average_precision, precision_at, sensitivity_at
from alneval.decision_curve import decision_curve
from alneval.delong import auc, auc_difference, auc_interval
from alneval.estimate import interval, once
from alneval.models import calibration_row
from alneval.multireader import compare_model_with_readers
from alneval.readers import (
    MODEL_READER_COLUMNS,
    models_against_readers,
    reader_cuts,
    readers_beside_model,
)
from alneval.rows import estimate_text, number_of, prediction_rows, recovered_share
from alneval.tables import PREDICTION_COLUMNS, validate_predictions
from alneval.units import Units
from alnlib.cohorts.schema import ClinicalVariable
from alnlib.files import palette_png
from alnlib.models.clinical import odds_ratio_rows
from alnlib.pipeline.results import StudyCohort
from alnlib.report.claims import published_rows
from alnlib.studies import STUDIES, published_value, title_of


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
    table.loc[2, ["odds_ratio", "low", "high"]] = 1.02, 1.01, 1.03
    last = odds_ratio_rows(table, {"t": stage, "age": age}).iloc[1]
    assert last["name"] == "Age (per 10 years)" and last["odds_ratio"] == pytest.approx(1.02**10)


def test_recovered_share_holds_a_model_to_the_oracle_on_the_same_patients(scored):
    y, score = scored
    ids = pd.Series([f"{i:03d}" for i in range(100)])
    predictions = pd.concat(
        [prediction_rows("s", "m", split, ids, y, score) for split in ("train", "test", "external")]
    )
    truth = pd.DataFrame({"modality": ["us", "us"], "center": ["primary", "external"], "attainable_auc": [0.9, 0.8]})
    oracle = pd.DataFrame({"patient_id": ids, "unit_id": ids, "modality": "us", "probability": score})
    table = recovered_share(predictions, truth, oracle, {"m": "us"}).set_index("split")
    assert list(table.index) == ["test", "external"]
    assert table.loc["test", "recovered_share"] == pytest.approx((auc(y, score) - 0.5) / 0.4)
    assert table.loc["external", "recovered_share"] == pytest.approx((auc(y, score) - 0.5) / 0.3)
    assert (table["behind_oracle"] == 0).all()
    assert recovered_share(predictions, truth.head(0), oracle.head(0), {"m": "us"}).empty


def test_recovered_share_of_nodes_finds_each_in_the_oracle_and_takes_intervals_by_patient(scored):
    y, score = scored
    units = pd.Series([f"{i % 3}" for i in range(100)])
    ids = pd.Series([f"p{i // 3}" for i in range(100)])
    predictions = prediction_rows("s", "m", "test", ids, y, score, unit_id=units)
    truth = pd.DataFrame({"modality": ["ct"], "center": ["primary"], "attainable_auc": [0.9]})
    best = np.random.default_rng(0).permutation(score)
    oracle = pd.DataFrame({"patient_id": ids, "unit_id": units, "modality": "ct", "probability": best})
    row = recovered_share(predictions, truth, oracle.sample(frac=1, random_state=1), {"m": "ct"}).iloc[0]
    by_patient = auc_difference(Units.of(y, best, score, patient=ids))
    assert (row["oracle_auc"], row["behind_oracle"]) == pytest.approx((auc(y, best), by_patient.value))
    assert (row["behind_oracle_low"], row["behind_oracle_high"]) == pytest.approx((by_patient.low, by_patient.high))
    with pytest.raises(ValueError, match="cover"):
        recovered_share(predictions, truth, oracle.iloc[1:], {"m": "ct"})


def test_readers_are_held_to_cuts_from_other_patients():
    training = pd.Series([0, 0, 1, 1], index=["a", "b", "c", "d"])
    scores = pd.DataFrame(
        {"r": [1, 2, 3, 5, 4, 2, 3, 1], "one class": [1, 1, np.nan, np.nan, 1, 1, 1, 1]}, index=list("abcdwxyz")
    )
    cuts = reader_cuts(scores, training)
    assert cuts == {"r": 3}, "the grade from which Youden's index is largest; a reader of one class has none"
    rows = prediction_rows("s", "m", "test", pd.Series(list("wxyz")), [1, 0, 1, 0], [0.9, 0.2, 0.3, 0.4])
    table = readers_beside_model(rows, scores, cuts, rng=np.random.default_rng(0), n_bootstrap=50)
    row = table.iloc[0]
    assert (row["reader"], row["split"], row["n"], row["cut"]) == ("r", "test", 4, 3)
    assert (row["sensitivity"], row["specificity"], row["model_sensitivity"]) == (1.0, 1.0, 0.5)
    nobody = readers_beside_model(rows, scores, {}, rng=np.random.default_rng(0))
    assert nobody.empty and {"study", "split", "reader", "sensitivity"} <= set(nobody)


def test_what_an_abstract_does_not_give_is_not_available():
    table = published_rows("li_video", ("auc", "accuracy")).set_index(["model", "split"])
    assert table.loc[("TIN", "test"), "auc"] == "0.914 (0.843 to 0.985)"
    assert table.loc[("TIN", "test"), "accuracy"] == f"{52 / 61:.3f}"
    assert table.loc[("static image", "test"), "accuracy"] == "not available"
    assert (table["origin"] == "published").all()
    assert published_rows("nobody", ("auc",)).empty


def test_calibration_row_has_an_interval_for_every_estimate(scored):
    y, score = scored
    row = calibration_row(
        "s", "m", "test", calibration_summary(Units.of(y, score), np.random.default_rng(0), n_bootstrap=30)
    )
    for name in ("intercept", "slope", "brier", "scaled_brier", "ici", "observed_expected"):
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
    units = Units.of(y, score)
    figures.plot_roc(units, auc_interval(units), "model", ax)
    figures.finish_roc(ax, "Test", 100, 40)
    label = ax.get_legend().get_texts()[0].get_text()
    assert f"{auc(y, score):.3f}" in label
    x, height = ax.lines[0].get_data()
    assert np.trapezoid(height, x) == pytest.approx(auc(y, score))
    assert (ax.get_title(), ax.texts[0].get_text()) == ("Test", "n = 100, 40 positive")


def test_calibration_figure_counts_every_patient_once(scored, ax):
    y, score = scored
    curve = calibration_summary(Units.of(y, score), np.random.default_rng(0), n_bootstrap=10).curve
    figures.plot_calibration(curve, score, y, ax)
    drawn = [line for line in ax.lines if len(line.get_xdata()) == len(curve.predicted)]
    np.testing.assert_allclose(drawn[0].get_ydata(), np.clip(curve.observed, 0, 1))


def test_calibration_curve_is_dotted_where_nobody_was_predicted(ax):
    """Predictions near 0.2 and 0.8 and one at 0.5: two solid parts, one point, two dotted steps, no band across."""
    rng = np.random.default_rng(0)
    score = np.r_[rng.uniform(0.1, 0.3, 40), 0.5, rng.uniform(0.7, 0.9, 40)]
    y = rng.random(81) < score
    curve = calibration_summary(Units.of(y, score), rng, n_bootstrap=10).curve
    figures.plot_calibration(curve, score, y, ax)
    diagonal, *lines = [line for line in ax.lines if line.get_linestyle() != "None" or line.get_marker() == "o"][:-1]
    assert [(line.get_linestyle(), len(line.get_xdata())) for line in lines] == [
        ("-", 40),
        ("None", 1),
        ("-", 40),
        (":", 2),
        (":", 2),
    ]
    bands = [band.get_paths()[0].get_extents() for band in ax.collections if "PolyCollection" in type(band).__name__]
    assert len(bands) == 2 and all(band.width < 0.25 for band in bands)

    ax.clear()
    curve = calibration_summary(Units.of([0, 1, 0], [0.4] * 3), rng, n_bootstrap=10).curve
    figures.plot_calibration(curve, [0.4] * 3, [0, 1, 0], ax)  # one value


def test_decision_curve_figure_has_both_simple_policies(scored, ax):
    y, score = scored
    table = decision_curve(Units.of(y, score))
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


def test_a_forest_on_a_plain_axis_puts_each_estimate_on_its_row_from_the_top(ax):
    table = pd.DataFrame({"name": ["a", "b"], "difference": [0.1, -0.2], "low": [0.0, -0.3], "high": [0.2, -0.1]})
    figures.plot_forest(table, ax, "name", "difference", "low", "high", reference=0.0, log=False)
    squares = [(line.get_xdata()[0], line.get_ydata()[0]) for line in ax.lines if line.get_marker() == "s"]
    assert squares == [(0.1, 1), (-0.2, 0)]
    assert ax.get_xscale() == "linear" and not any(line.get_marker() in "<>" for line in ax.lines)
    assert list(ax.lines[0].get_xdata()) == [0.0, 0.0], "the line of no difference"


@pytest.fixture
def two_groups() -> pd.DataFrame:
    """Odds ratios of two groups; the second row of the first group reaches beyond what is drawn."""
    return pd.DataFrame(
        {
            "name": ["a", "b", "c"],
            "or_x": [2.0, 30.0, 0.5],
            "low_x": [1.0, 3.0, 0.25],
            "high_x": [4.0, 300.0, 1.0],
            "or_y": [1.5, 2.0, 0.8],
            "low_y": [1.2, 1.6, 0.4],
            "high_y": [1.9, 2.5, 1.6],
        }
    )


def test_a_paired_forest_sets_two_lines_on_each_row_the_first_group_above(two_groups, ax):
    drawn = figures.plot_paired_forest(two_groups, ax, "name", "or", {"simulated": "_x", "real": "_y"})
    assert drawn is ax
    assert [tick.get_text() for tick in ax.get_yticklabels()] == ["a", "b", "c"]
    assert list(ax.get_yticks()) == [2, 1, 0]
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["simulated", "real"]
    legend = {line.get_label(): line.get_color() for line in ax.get_legend().get_lines()}
    assert legend["simulated"] != legend["real"]
    for name, suffix in (("simulated", "_x"), ("real", "_y")):
        own = [line for line in ax.lines if line.get_color() == legend[name] and len(line.get_xdata())]
        squares = {round(line.get_ydata()[0]): line for line in own if line.get_marker() == "s"}
        assert [squares[row].get_xdata()[0] for row in (2, 1, 0)] == two_groups[f"or{suffix}"].tolist()
        for row, square in squares.items():
            shift = square.get_ydata()[0] - row
            assert (0 < shift < 0.5) if name == "simulated" else (-0.5 < shift < 0), "rows do not touch"
        spans = [tuple(line.get_xdata()) for line in own if line.get_marker() == "None"]
        asked = two_groups[[f"low{suffix}", f"high{suffix}"]].clip(upper=50).itertuples(index=False, name=None)
        assert spans == list(asked)


def test_a_paired_forest_fits_both_groups_and_marks_what_leaves_it(two_groups, ax):
    figures.plot_paired_forest(two_groups, ax, "name", "or", {"simulated": "_x", "real": "_y"})
    assert ax.get_xscale() == "log"
    low, high = ax.get_xlim()
    assert low < 0.25 and high == 50
    arrows = [line for line in ax.lines if line.get_marker() in ("<", ">")]
    assert [(line.get_marker(), line.get_xdata()[0], round(line.get_ydata()[0])) for line in arrows] == [(">", 50, 1)]
    only_real = two_groups.assign(high_x=2.0, or_x=1.5, low_x=1.2)
    ax.clear()
    figures.plot_paired_forest(only_real, ax, "name", "or", {"simulated": "_x", "real": "_y"})
    assert ax.get_xlim() == pytest.approx((0.4 / 1.15, 2.5 * 1.15))


def test_a_forest_and_a_paired_one_draw_the_same_estimates_alike(two_groups, ax):
    figure, other = plt.subplots()
    figures.plot_forest(two_groups, ax, "name", "or_y", "low_y", "high_y")
    figures.plot_paired_forest(two_groups, other, "name", "or", {"real": "_y"})
    assert other.get_xlim() == ax.get_xlim() and list(other.get_xticks()) == list(ax.get_xticks())
    squares = [
        [line.get_xdata()[0] for line in axes.lines if line.get_marker() == "s" and len(line.get_xdata())]
        for axes in (ax, other)
    ]
    assert squares[0] == squares[1] == two_groups["or_y"].tolist()
    plt.close(figure)


def png_of(pixels: np.ndarray, **options: object) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG", **options)
    return stream.getvalue()


def pixels_of(content: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(content)) as picture:
        return np.asarray(picture.convert("RGB")).astype(int)


@pytest.fixture(scope="module")
def colorful() -> bytes:
    """A figure with lines, letters and a color map: more than a thousand colors."""
    rng = np.random.default_rng(0)
    figure, axes = plt.subplots(1, 2, figsize=(6, 3))
    axes[0].plot(rng.normal(size=(30, 5)).cumsum(axis=0), label=list("abcde"))
    axes[0].legend()
    axes[1].imshow(rng.normal(size=(20, 30)), cmap="viridis", aspect="auto")
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=100)
    plt.close(figure)
    return stream.getvalue()


def test_a_figure_with_a_palette_can_hardly_be_told_from_the_whole_one(colorful):
    before, after = pixels_of(colorful), pixels_of(palette_png(colorful))
    assert len(np.unique(before.reshape(-1, 3), axis=0)) > 1000
    assert len(np.unique(after.reshape(-1, 3), axis=0)) <= 256
    assert after.shape == before.shape
    moved = np.abs(after - before)
    assert moved.mean() < 1.0, "of 255 gray values"
    assert np.percentile(moved, 98) <= 16
    assert (after[before.min(axis=2) == 255] == 255).all(), "white paper stays white"
    assert len(palette_png(colorful)) < 0.7 * len(colorful)


def test_few_colors_and_every_gray_are_kept_exactly():
    rng = np.random.default_rng(1)
    few = rng.integers(0, 256, (200, 3)).astype(np.uint8)[rng.integers(0, 200, (60, 80))]
    grays = np.tile(np.arange(256, dtype=np.uint8), (16, 1))
    np.testing.assert_array_equal(pixels_of(palette_png(png_of(few))), few)
    np.testing.assert_array_equal(pixels_of(palette_png(png_of(grays)))[..., 0], grays)


def test_a_palette_is_made_the_same_way_every_time_and_keeps_no_metadata(colorful):
    once = palette_png(colorful)
    assert palette_png(colorful) == once
    np.testing.assert_array_equal(pixels_of(palette_png(once)), pixels_of(once))
    with Image.open(io.BytesIO(colorful)) as before, Image.open(io.BytesIO(once)) as after:
        assert "Software" in before.info
        assert after.mode == "P" and not after.info
    assert b"matplotlib" not in once.lower()


def test_transparency_becomes_white():
    """Red at alpha 0, 128 and 255: white, halfway, red."""
    rgba = np.zeros((4, 3, 4), np.uint8)
    rgba[..., 0], rgba[..., 3] = 255, [0, 128, 255]
    shown = pixels_of(palette_png(png_of(rgba)))
    np.testing.assert_allclose(shown[0], [[255, 255, 255], [255, 127, 127], [255, 0, 0]], atol=1)


def test_a_model_keeps_its_color_whatever_else_is_shown():
    alone = style.model_colors(["clinical", "DL_US"])
    among = style.model_colors(["clinical", "clinical (ridge)", "clinical+reader_b", "DL_US", "resnet18", "resnet50"])
    assert alone.items() <= among.items()
    assert len(set(among.values())) == 6


def test_published_numbers_are_those_of_the_abstracts():
    """The abstracts: Tang 2025, Park 2024, Li 2023, Guo 2024, Li 2026; what is not published has no value."""
    assert set(STUDIES) == {"tang", "park", "li_video", "guo", "li_nat"}
    fused = published_value("tang", "DL_MRI+US+Clinical", "external")
    assert (fused.value, fused.low, fused.high) == (0.809, 0.723, 0.895)
    assert published_value("tang", "DL_US", "test").value is None
    assert published_value("tang", "no such model", "test") is None
    assert published_value("no such study", "DL_US", "test") is None
    assert published_value("park", "CT_FSC+ASC", "test").value == 0.968, (
        "a network chosen here, under its published name"
    )
    assert title_of("li_video") == "Ultrasound video (after Li 2023)" and title_of("mine") == "mine"
    assert published_value("park", "DenseNet121 FSC+ASC", "test", "sensitivity").value == 0.98
    assert published_value("li_video", "TIN", "test", "accuracy").value == 52 / 61
    for study in STUDIES.values():
        for claim in study.claims:
            assert {name for name, _ in claim.sides} <= {model.name for model in study.models}, study.key


def test_heat_is_drawn_on_the_scale_it_was_given(ax):
    image, heat = np.zeros((8, 8)), np.linspace(0, 0.5, 64).reshape(8, 8)
    outline = np.zeros((8, 8), bool)
    outline[2:5, 2:5] = True
    figures.plot_heat(image, heat, ax, outline)
    gray, drawn = ax.images
    np.testing.assert_array_equal(drawn.get_array(), heat)
    assert drawn.get_clim() == (0, 1), "not stretched to its own maximum"
    np.testing.assert_allclose(drawn.get_alpha(), 0.6 * heat)
    assert len(ax.collections) == 1, "the outline"


def test_paired_intervals_stand_in_the_row_of_their_label(ax):
    table = pd.DataFrame(
        {
            "region": ["a", "b", "a"],
            "crop": ["x", "x", "y"],
            "m": [1.0, 2.0, 3.0],
            "m_low": [0.5, 1, 2],
            "m_high": [2, 3, 4],
        }
    )
    figures.plot_paired_intervals(table, ax, "region", "crop", "m", {"x": 0, "y": 1})
    assert [text.get_text() for text in ax.get_yticklabels()] == ["b", "a"]
    points = {(line.get_xdata()[0], round(line.get_ydata()[0])) for line in ax.lines if len(line.get_xdata()) == 1}
    assert points == {(1.0, 1), (2.0, 0), (3.0, 1)}


def test_the_endpoint_of_a_study_is_the_one_whose_values_it_predicts():
    patients = pd.DataFrame({"patient_id": list("abcd"), "nodes": [1, 0, 1, 0], "response": [0, 1, None, 1]})
    patients = patients.astype({"nodes": "Int64", "response": "Int64"})
    data = StudyCohort(SimpleNamespace(patients=patients, endpoints=("nodes", "response")), "nodes", patients)
    response = prediction_rows("second", "m", "test", pd.Series(list("abd")), [0, 1, 1], [0.1, 0.8, 0.7])
    nodes = prediction_rows("first", "m", "test", pd.Series(list("abcd")), [1, 0, 1, 0], [0.1, 0.8, 0.7, 0.2])
    of_units = prediction_rows(
        "units", "m", "test", pd.Series(list("aab")), [1, 0, 0], [0.1, 0.8, 0.7], unit_id=pd.Series(list("xyz"))
    )
    found = data.predicted_by(pd.concat([response, nodes, of_units]))
    assert found == {"second": "response", "first": "nodes", "units": "nodes"}, "units have labels of their own"


def test_models_are_held_to_the_readers_of_the_same_patients(scored):
    y, score = scored
    ids = pd.Series([f"{i:03d}" for i in range(100)])
    rng = np.random.default_rng(5)
    scores = pd.DataFrame({name: np.round(y + rng.normal(size=100)) for name in ("a", "b", "c")}, index=ids)
    scores.loc["099", "a"] = np.nan
    patients = prediction_rows("s", "m", "test", ids, y, score)
    nodes = prediction_rows("s", "by node", "test", ids.str[:2], y, score, unit_id=ids)
    table = models_against_readers(pd.concat([patients, nodes]), scores, {"ultrasound": ["a", "b"], "MRI": ["c"]})
    assert tuple(table.columns) == MODEL_READER_COLUMNS and table["model"].tolist() == ["m", "m"]
    row, one = table.iloc[0], table.iloc[1]
    units = Units.of(y[:99], score[:99], scores[["a", "b"]].iloc[:99])
    expected, fixed = compare_model_with_readers(units), compare_model_with_readers(units, readers="fixed")
    assert (row["n"], row["delta_low"], row["p"]) == (99, pytest.approx(expected.low), pytest.approx(expected.p))
    assert (row["delta_fixed_low"], row["delta_fixed"]) == (pytest.approx(fixed.low), row["delta"])
    assert one["n"] == 100 and np.isnan(one["p"]) and np.isfinite(one["p_fixed"]), "one reader is no sample of readers"


def test_bands_and_curves_are_drawn_as_they_were_given(scored, ax):
    y, score = scored
    units = Units.of(y, score)
    band = interval(sensitivity_at(SPECIFICITIES), units, np.random.default_rng(0), n=30)
    figures.plot_roc(units, "0.8", "m", ax, "C0", "--", band)
    assert ax.lines[0].get_linestyle() == "--"
    corners = ax.collections[0].get_paths()[0].vertices
    assert (
        corners[:, 0].min() == 0
        and corners[:, 0].max() == 1
        and set(np.round(band.high, 9)) <= set(np.round(corners[:, 1], 9))
    )
    ax.clear()
    precision = interval(precision_at(RECALLS), units, np.random.default_rng(0), n=30)
    figures.plot_precision_recall(units, "0.7", "m", ax, "C0", band=precision)
    figures.finish_precision_recall(ax, "Test", 100, 40)
    recall, height = ax.lines[0].get_data()
    assert (np.diff(recall) * height[1:]).sum() == pytest.approx(once(average_precision, units)), (
        "the steps add up to it"
    )
    assert list(ax.lines[1].get_ydata()) == [0.4, 0.4], "what a useless score reaches"


def test_line_styles_come_in_when_colors_do_not_suffice():
    assert set(style.model_dashes(["a", "b", "c"]).values()) == {"-"}
    nine = [f"m{i}" for i in range(9)]
    dashes, colors = style.model_dashes(nine), style.model_colors(nine)
    assert len({(str(dashes[name]), colors[name]) for name in nine}) == 9
    assert style.model_dashes(["TIN", "DL_MRI"])["DL_MRI"] != "-", "both are fixed to one color"
    tang = ["clinical", "clinical+reader_a", "DL_US", "DL_MRI", "DL_MRI+US", "DL_MRI+US+Clinical"]
    assert len(set(style.model_colors(tang).values())) == 6
