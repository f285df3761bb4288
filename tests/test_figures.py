"""Every figure at the size in which it is printed: no two texts touch, nothing is cut off, no legend lies on data, and the
colors that were drawn are those in the file. Truth: the layout that matplotlib itself measures; faults are planted first."""

from __future__ import annotations

import importlib.util
import io
import json
from itertools import combinations
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt
from matplotlib.colors import to_hex
from matplotlib.container import BarContainer
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox
from PIL import Image
from scipy.special import expit

from alneval import audit_figures, figures, panels, style
from alneval.decision_curve import decision_curve
from alneval.estimate import Estimate
from alneval.models import calibration_tables, curve_bands
from alneval.population import population_figure
from alneval.resplit import CURVE_COLUMNS, summarize_twin
from alneval.rows import KEYS
from alneval.tables import curve_table, discrimination_table
from alneval.units import Units
from alnlib.cohorts import flow
from alnlib.cohorts.schema import Endpoint
from alnlib.explain import figures as explain
from alnlib.imaging import plates
from alnlib.imaging.montage import Panel
from alnlib.models import fusion, nomogram, reference
from alnlib.paths import repository_root
from alnlib.radiomics import figures as radiomics
from alnlib.report import claims, designs, field
from alnlib.studies import SHORT_NAMES, title_of

PUBLISHED = repository_root() / "results" / "simulated-published"
MODELS = ("clinical", "DL_US", "DL_MRI", "DL_MRI+US", "DL_MRI+US+Clinical")
SPLITS = {"test": 84, "external": 90, "cross_validation": 196}
TITLES = {study: title_of(study) for study in SHORT_NAMES}
TITLE = f"{title_of('tang')}: Axillary lymph node metastasis"


# --- what is looked for ---------------------------------------------------------------------------------------------


def texts_of(figure: Figure) -> list[Text]:
    """Every text that a reader sees; ticks beyond the ends of their axis are made but not drawn."""
    found = [*figure.texts, *[t for t in (figure._suptitle,) if t is not None and t not in figure.texts]]
    legends = list(figure.legends)
    for ax in figure.axes:
        legends += [ax.get_legend()] if ax.get_legend() else []
        found += [*ax.texts, ax.title, ax._left_title, ax._right_title] if ax.axison or ax.texts else []
        for axis in (ax.xaxis, ax.yaxis) if ax.axison else ():
            low, high = sorted(axis.get_view_interval())
            ticks = [tick for tick in axis.get_major_ticks() if low <= tick.get_loc() <= high]
            found += [axis.label, axis.offsetText]
            found += [label for tick in ticks for label in (tick.label1, tick.label2)]
    for legend in legends:
        found += [*legend.get_texts(), legend.get_title()]
    return [text for text in found if text.get_visible() and text.get_text().strip()]


def curves_of(ax) -> np.ndarray:
    """Points along the lines of a panel that have more than four vertices, in pixels."""
    lines = [line for line in ax.lines if line.get_transform() == ax.transData and len(line.get_xdata()) > 4]
    own = [ax.transData.transform(line.get_xydata()) for line in lines if line.get_linestyle() != "None"]
    return np.concatenate([np.empty((0, 2)), *(np.linspace(o[:-1], o[1:], 20).reshape(-1, 2) for o in own)])


def drawn(figure: Figure) -> tuple[np.ndarray, list[Bbox]]:
    """What shows data, in pixels: points along lines and bands, and boxes of bars and pictures; lines of reference not."""
    points, boxes = [np.empty((0, 2))], []
    for ax in figure.axes:
        paths = []
        for line in (line for line in ax.lines if line.get_transform() == ax.transData and len(line.get_xdata())):
            own = ax.transData.transform(np.asarray(line.get_xydata(), float))
            joined = line.get_linestyle() != "None" and len(own) > 1
            paths.append(np.linspace(own[:-1], own[1:], 20).reshape(-1, 2) if joined else own)
        paths += [s.get_transform().transform(path.vertices) for s in ax.collections for path in s.get_paths()]
        points += [own[((own >= ax.bbox.min - 1) & (own <= ax.bbox.max + 1)).all(axis=1)] for own in paths]
        boxes += [bar.get_window_extent() for bars in ax.containers if isinstance(bars, BarContainer) for bar in bars]
        boxes += [picture.get_window_extent() for picture in ax.images]
    return np.concatenate(points), boxes


def faults(figure: Figure) -> list[str]:
    """Texts that touch or leave the page, and legends that lie on data, as a reader would name them."""
    figure.draw_without_rendering()
    texts = [(text.get_text(), Text.get_window_extent(text)) for text in texts_of(figure)]
    found = []
    for (one, a), (other, b) in combinations(texts, 2):
        if a.padded(-1).overlaps(b.padded(-1)):
            found.append(f"{one!r} touches {other!r}")
    page = figure.bbox.padded(2)
    found += [
        f"{name!r} leaves the page" for name, box in texts if not (page.contains(*box.min) and page.contains(*box.max))
    ]
    for ax in figure.axes:
        own = [text for text in ax.texts if text.get_text().strip()]
        covering = [text.get_text() for text in own if Text.get_window_extent(text).count_contains(curves_of(ax))]
        found += [f"{words!r} lies on a curve" for words in covering]
    shown = [ax.get_legend() for ax in figure.axes if ax.get_legend()] + figure.legends
    points, boxes = drawn(figure)
    for legend in shown:
        own = legend.get_window_extent()
        if own.count_contains(points) or any(own.overlaps(box) for box in boxes):
            found.append(f"the legend of {[text.get_text() for text in legend.get_texts()]} lies on data")
    return found


def missing_colors(figure: Figure) -> set[str]:
    """Colors of opaque lines and markers that the saved PNG does not hold to the bit."""
    wanted = set()
    for line in (line for ax in figure.axes for line in ax.lines):
        inside = len(line.get_xdata()) and np.isfinite(np.asarray(line.get_xydata(), float)).all(axis=1).any()
        if inside and line.get_alpha() in (None, 1) and line.get_linewidth() >= 1.2 and line.get_linestyle() == "-":
            wanted.add(to_hex(line.get_color()))
    with Image.open(io.BytesIO(style.figure_files(figure, "simulated patients")[".png"])) as picture:
        assert picture.mode == "P"
        there = {to_hex(np.array(color) / 255) for _, color in picture.convert("RGB").getcolors(1 << 24)}
    return wanted - there


# --- small made-up tables -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def scored() -> pd.DataFrame:
    """Predictions of study A's models: the longest names there are, three splits, and one model with few patients."""
    rng, parts = np.random.default_rng(0), []
    for split, n in SPLITS.items():
        ids, y = np.arange(n).astype(str), (np.arange(n) % 3 == 0).astype(int)
        for strength, model in enumerate(MODELS):
            score = expit(rng.normal(size=n) + (0.3 + 0.3 * strength) * y - 0.8)
            rows = pd.DataFrame({"patient_id": split + ids, "unit_id": split + ids, "y_true": y, "y_score": score})
            kept = 120 if split == "cross_validation" and model == "DL_US" else n
            parts.append(rows.head(kept).assign(study="tang", model=model, split=split, role="main"))
    return pd.concat(parts, ignore_index=True)


@pytest.fixture(scope="module")
def measured(scored) -> pd.DataFrame:
    return discrimination_table(scored, rng=np.random.default_rng(1), n_bootstrap=20)


def readers() -> pd.DataFrame:
    names = [*(f"reader_{letter}" for letter in "abc"), "mri_reader_a", "mri_reader_b"]
    rows = pd.DataFrame(
        {"reader": names, "sensitivity": np.linspace(0.5, 0.8, 5), "specificity": np.linspace(0.8, 0.5, 5)}
    )
    return rows.assign(study="tang", split="cross_validation", n=123)


def forest_rows(names) -> dict[str, np.ndarray]:
    center = np.linspace(0.55, 0.85, len(names))
    return {"auc": center, "auc_low": center - 0.1, "auc_high": center + 0.09}


def draw_roc(scored, measured):
    bands = curve_bands(scored, seed=1, n_bootstrap=10, named=["DL_MRI+US+Clinical"])
    return panels.roc_figure(scored, measured, TITLE, bands, readers())


def draw_precision_recall(scored, measured):
    curves = curve_table(scored, rng=np.random.default_rng(1), n_bootstrap=10)
    return panels.precision_recall_figure(scored, curves, TITLE, curve_bands(scored, seed=1, n_bootstrap=10))


def draw_calibration(scored, measured):
    rows = scored[scored["model"].isin(MODELS[3:]) & scored["split"].ne("cross_validation")]
    return panels.calibration_figure(rows, *calibration_tables(rows, seed=1, n_bootstrap=5), TITLE)


def draw_decision_curves(scored, measured):
    curves = {key: decision_curve(Units.of_rows(part), intervals=True) for key, part in scored.groupby(KEYS)}
    return panels.decision_curve_figure(scored, curves, TITLE)


def draw_calibration_and_benefit(scored, measured):
    return panels.calibration_and_benefit_figure(scored[scored["split"] == "test"], 1)


def draw_auc_by_model(scored, measured):
    here = measured.assign(attainable_auc=0.86, published_auc=np.where(measured["split"] == "test", 0.82, np.nan))
    return panels.auc_forest_figure(
        pd.concat([here, here.assign(study="guo")]), {study: title_of(study) for study in SHORT_NAMES}
    )


def draw_readers(scored, measured):
    rows = measured[measured["split"] == "test"].assign(delta=0.05, delta_low=-0.2, delta_high=0.3)
    rows = rows.assign(delta_fixed_low=-0.1, delta_fixed_high=0.2, n_readers=3)
    both = pd.concat([rows.assign(readers="ultrasound"), rows.assign(readers="MRI")])
    return panels.readers_figure(both, SHORT_NAMES)


def draw_prevalences(scored, measured):
    shares = pd.DataFrame({"prevalence": [0.1, 0.2, 0.3, 0.4, 0.5], "gain": [0.0, 0.08, -0.05, 0.02, 0.0]})
    moved = pd.DataFrame({"study": ["tang"] * len(MODELS), "model": MODELS}).merge(shares, how="cross")
    moved = pd.concat([moved, moved.assign(study="guo")]).assign(split="test", prevalence_here=0.33)
    judged = pd.concat([scored, scored.assign(study="guo")])
    return panels.prevalence_figure(moved, judged, TITLES, 0.2)


def draw_population(scored, measured):
    return population_figure(
        table := pd.read_csv(PUBLISHED / "evaluation/population.csv"), {s: title_of(s) for s in table["study"]}
    )


def draw_claims(scored, measured):
    return claims.claims_figure(pd.read_csv(PUBLISHED / "report/claims.csv"))


def draw_design(scored, measured):
    return designs.design_figure(pd.read_csv(PUBLISHED / "report/design.csv"))


def published_field() -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    facts = field.read_field()
    models = field.one_per_patients(facts)
    return facts, models, field.held_out(models)


def draw_field_falls(scored, measured):
    return field.falls_figure(field.falls(published_field()[1]))


def draw_field_sizes(scored, measured):
    facts, _, values = published_field()
    here = field.here_rows(pd.read_csv(PUBLISHED / "evaluation/discrimination.csv"))
    return field.sizes_figure(values, field.yardsticks(facts), here, "simulated", 0.4, 0.8)


def draw_field_pooled(scored, measured):
    values = published_field()[2]
    return field.pooled_figure(values, field.pooled_table(values))


def draw_over_cohorts(scored, measured):
    path = Path(__file__).parents[1] / "benchmarks" / "over_cohorts.py"
    found = importlib.util.spec_from_file_location("over_cohorts_drawn", path)
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module.draw(pd.read_csv(module.BY_CLAIM))


PIPELINES = ("tang: clinical", "guo: radiomics", "li_nat: radiomics")


def draw_twins(scored, measured):
    names = (*PIPELINES, "DL_US: frozen", "CT_FSC: frozen", "CT_ASC: frozen")
    twins = {name: summarize_twin(0.8, [0.44, 0.5, 0.52, 0.57]) for name in names}
    rows = [(name, labels, 0.6, 0.7) for name in PIPELINES[1:] for labels in ("true", "permuted") for _ in range(4)]
    leaks = pd.DataFrame(rows, columns=["pipeline", "labels", "inside", "outside"])
    return audit_figures.twins_figure(twins, leaks, SHORT_NAMES)


def draw_resplits(scored, measured):
    aucs = np.random.default_rng(1).normal(0.7, 0.07, 100)
    table = pd.concat([pd.DataFrame({"pipeline": name, "auc": aucs, "n_test": 84}) for name in PIPELINES])
    marks = [
        audit_figures.Mark(0.76, "published", style.PUBLISHED, "--"),
        audit_figures.Mark(None, "published: not available", style.PUBLISHED, "--"),
        audit_figures.Mark(0.71, "the split of this run", style.PALETTE[0], ":"),
    ]
    means = dict.fromkeys(PIPELINES, Estimate(0.7))
    return audit_figures.resplits_figure(table, means, dict.fromkeys(PIPELINES, marks), SHORT_NAMES)


def draw_learning_curves(scored, measured):
    rows = [
        (n, 6, a, a - 0.1, a + 0.1, a - 0.05, a + 0.05, name) for name in PIPELINES for n, a in ((50, 0.6), (100, 0.7))
    ]
    curves = pd.DataFrame(rows, columns=[*CURVE_COLUMNS, "pipeline"])
    return audit_figures.learning_curves_figure(curves, 6, SHORT_NAMES)


def draw_subgroups(scored, measured):
    levels = ["HER2-positive", "luminal A", "triple-negative", "50 or more"]
    table = pd.DataFrame(
        {"variable": "Molecular subtype", "level": levels, "n": 40, "n_positive": 12} | forest_rows(levels)
    )
    table.loc[0, ["auc", "auc_low", "auc_high"]] = np.nan
    return audit_figures.subgroups_figure(table, "DL_MRI+US+Clinical")


def draw_split_designs(scored, measured):
    names = ["CT_FSC", "CT_ASC", "CT_FSC+ASC"]
    parts = [
        pd.DataFrame({"model": names, "split": split, "split_made": made, "n": 94} | forest_rows(names))
        for split in ("test", "external")
        for made in ("by patient", "by image")
    ]
    extra = {"by patient": (0.5, 0.5, 0.5), "by image": (0.88, 0.79, 0.94)}
    return figures.split_designs_figure(pd.concat(parts), names, extra)


def draw_withheld(scored, measured):
    shown = ["everything", "without US", "without MRI", "without US and MRI"]
    parts = [
        pd.DataFrame({"shown": shown, "split": split, "method": method, "n": 84} | forest_rows(shown))
        for split in ("test", "external")
        for method in fusion.METHOD_WORDS
    ]
    return fusion.withheld_figure(pd.concat(parts), "DL_MRI+US+Clinical")


def draw_learners(scored, measured):
    names = ["logistic regression", "support vector machine", "k-nearest neighbors", "multilayer perceptron", "winner"]
    table = pd.DataFrame({"learner": names, "inner_auc": 0.7} | {f"test_{k}": v for k, v in forest_rows(names).items()})
    sets = ("radiomics", "DL", "combined")
    drawn = pd.concat([table.assign(features=name) for name in sets])
    return radiomics.learners_figure(drawn, 45, {"DL": "winner: support vector machine"})


def draw_selection(scored, measured):
    names = ["gldm_SmallDependenceLowGrayLevelEmphasis", "glszm_SmallAreaLowGrayLevelEmphasis", "glcm_Id", "glcm_Imc1"]
    columns = [f"MRI_delta_DCE_early__lesion_original_{name}" for name in names]
    table = pd.DataFrame({"feature": columns, "frequency": 0.4, "frequency_low": 0.2, "frequency_high": 0.6})
    return radiomics.selection_figure(table.assign(n_resamples=40))


def draw_crops(scored, measured):
    crops = {f"SIM-{number:04d}": [np.eye(24) * 255] * 3 for number in range(8)}
    names = ["pre:DCE_early-DCE_pre", "pre:ADC", "pre:T2"]
    return radiomics.crops_figure(crops, names, "Middle slices: metastasis on the left, no metastasis on the right")


def draw_plate(scored, measured):
    pixels = np.random.default_rng(2).random((40, 40))
    rows = [[Panel(pixels, f"SIM-{n:04d}, {sign}: T2", spacing_mm=(0.5, 0.5)) for n in range(6)] for sign in "+-"]
    return plates.draw_rows(rows, "MRI: the slice in which the lesion is largest. Above, +: pN+. Below, -: pN0.")


def draw_flow(scored, measured):
    splits = ["train"] * 20 + ["validation"] * 6 + ["test"] * 8 + ["external"] * 6
    patients = pd.DataFrame({"patient_id": np.arange(50).astype(str), "y": [1.0, 0.0] * 20 + [np.nan] * 10})
    patients = patients.assign(apcr=np.where(patients["y"].isna(), 1.0, np.nan))
    labels = {"y": "Axillary lymph node metastasis", "apcr": "Axillary pathological complete response"}
    endpoints = {name: Endpoint(label, "pN+", "pN0") for name, label in labels.items()}
    known, counted = patients.dropna(subset="y"), flow.InclusionFlow("y")
    reason = flow.why_unknown(patients, endpoints, "y")
    assert "of 10 another study's endpoint is known (axillary pathological complete response)" in reason
    counted.record("endpoint known", before=patients, after=known, reason=reason)
    figure, ax = plt.subplots(figsize=(8, 6))
    imaged = {"MRI": 370, "CT": 200, "US": 370, "USV": 200, "MG": 150}
    flow.plot_flow(counted, ax, splits=known.assign(split=splits), positive="pN+", negative="pN0", imaged=imaged)
    return figure


def draw_nomogram(scored, measured):
    chances = nomogram.PROBABILITIES
    points = 60 + 12 * np.log(np.array(chances) / (1 - np.array(chances)))
    parts = [
        ("HER2", "", ["negative", "positive"], [0, 37]),
        ("Radiomics-deep signature", "logit", ["-2", "-1", "0", "1", "2"], [0, 25, 50, 75, 100]),
        (nomogram.TOTAL_AXIS, "", ["0", "20", "40", "60", "80", "100", "120"], [0, 20, 40, 60, 80, 100, 120]),
        (nomogram.PROBABILITY_AXIS, "", [f"{chance:g}" for chance in chances], points),
    ]
    rows = [(axis, unit, np.nan, *pair) for axis, unit, *pairs in parts for pair in zip(*pairs, strict=True)]
    scales = pd.DataFrame(rows, columns=list(nomogram.SCALE_COLUMNS))
    figure, ax = plt.subplots(figsize=(9, 0.9 + 0.52 * 5))
    nomogram.plot_nomogram(scales, ax, outcome="Probability: Axillary pathological complete response")
    return figure


def draw_odds_ratios(scored, measured):
    names = [
        "Age (per 10 years)",
        "Lymphovascular invasion (core biopsy): present vs absent",
        "Molecular subtype: HER2-positive",
    ]
    table = pd.DataFrame(
        {"name": names, "odds_ratio": [0.8, 3.0, np.nan], "low": [0.5, 1.4, np.nan], "high": [1.2, 70, np.nan]}
    )
    figure, ax = plt.subplots(figsize=(7.5, 0.9 + 0.27 * 17))
    figures.plot_forest(table, ax, "name", "odds_ratio", "low", "high").set_xlabel(
        "Odds ratio (95 % interval, log scale)"
    )
    style.head(ax, "Univariable odds ratios", "n = 157 training patients, 58 positive")
    return figure


def draw_beside_duke(scored, measured):
    levels = ["10 years", "postmenopausal", "T3-T4", "one of T1, T2, T3-T4"]
    table = pd.DataFrame({"variable": ["Age", "Menopause", "cT", "cT step"], "level_or_unit": levels})
    for shift, suffix in enumerate(("_simulated", "_model", "_duke")):
        table = table.assign(**{f"n{suffix}": 10**shift * 149, f"odds_ratio{suffix}": 1.0 + shift})
        table = table.assign(**{f"low{suffix}": 0.5 + shift, f"high{suffix}": 2.0 + 2 * shift})
    return reference.plot_beside_duke(table, "Univariable odds ratios, axillary pathological complete response")


def draw_training(scored, measured):
    rows = [
        (name, seed, epoch, 0.7 - 0.02 * epoch)
        for name in ("DL_US", "resnet18")
        for seed in (0, 1)
        for epoch in range(5)
    ]
    history = pd.DataFrame(rows, columns=["model", "seed", "epoch", "train_loss"])
    figure, ax = plt.subplots(figsize=(5, 3.2))
    figures.plot_training(history, ax, figures.model_colors(history["model"]))
    return figure


def draw_cascades(scored, measured):
    table = pd.DataFrame({"crop": ["FSC"] * 5 + ["ASC"] * 5, "step": [*range(5)] * 2, "ssim": 0.2, "spearman": 0.1})
    maps = {crop: np.random.default_rng(3).random((4, 16, 16)) for crop in ("FSC", "ASC")}
    figure, ax = plt.subplots(figsize=(6, 3.2))
    explain.plot_cascades(table, maps, ax, dict(zip(maps, style.PALETTE, strict=False)))
    return figure


def draw_frame_profile(scored, measured):
    offset = np.tile(np.arange(-12, 13, 3), (6, 1))
    figure, ax = plt.subplots(figsize=(5.5, 3.2))
    names = {1: "pN+", 0: "pN0"}
    explain.plot_frame_profile(offset, np.abs(12.0 - abs(offset)), np.arange(6) % 2 == 0, names, 3, ax)
    return figure


def draw_heat(scored, measured):
    figure, axes = plt.subplots(2, 6, figsize=(9.5, 3.7))
    images = np.random.default_rng(4).random((6, 20, 20))
    for row, name in zip(axes, ("trained with marks", "trained without"), strict=True):
        explain.plot_heat_row(row[:5], images, images, name, [f"SIM-{number:04d}-CT-1" for number in range(5)])
        explain.plot_drop(images[0], row[5], 1.0)
    return style.headline(figure, "Test nodes that carry the mark: Grad-CAM, and the fall when a square is blurred")


DRAWN = {name.removeprefix("draw_"): made for name, made in list(globals().items()) if name.startswith("draw_")}

COLORED = ("roc", "auc_by_model", "twins", "field_sizes")
"""Figures whose file is read again, one of each way to use colors."""


@pytest.fixture(autouse=True)
def house_style():
    style.use_style()
    yield
    plt.close("all")
    matplotlib.rcdefaults()
    matplotlib.use("Agg")


@pytest.mark.parametrize("name", list(DRAWN))
def test_every_figure_is_legible_at_its_size(name, scored, measured):
    figure = DRAWN[name](scored, measured)
    assert faults(figure) == []
    if name in COLORED:
        assert missing_colors(figure) == set()


def test_a_strangers_long_names_take_several_lines(scored):
    names = {
        model: f"our network number {number} with clinical variables and a long name"
        for number, model in enumerate(MODELS)
    }
    rows = scored.replace({"model": names}).assign(
        study="A hospital with a very long name, retrospective cohort of 2019 to 2024"
    )
    table = discrimination_table(rows, rng=np.random.default_rng(1), n_bootstrap=5)
    for figure in (panels.roc_figure(rows, table, rows["study"].iloc[0]), panels.auc_forest_figure(table)):
        assert faults(figure) == []


# --- faults that are planted must be found ----------------------------------------------------------------------------


@pytest.fixture
def plain():
    figure, ax = plt.subplots(figsize=(4, 3))
    ax.plot([0, 1], [0, 1], color=style.PALETTE[0], label="model")
    ax.set_title("title")
    assert faults(figure) == []
    return figure, ax


def test_a_text_on_another_and_one_beyond_the_page_are_found(plain):
    figure, ax = plain
    for place, words in (((0.5, 0.4), "first"), ((0.52, 0.4), "second"), ((0.9, 0.8), "this runs out of the figure")):
        ax.text(*place, words).set_in_layout(False)
    assert [fault.split("'")[1] for fault in faults(figure)] == ["first", "this runs out of the figure"]


def test_tick_labels_that_run_into_each_other_are_found(plain):
    figure, ax = plain
    ax.set_xticks([0.4, 0.5], ["true labels", "permuted labels"])
    assert "'true labels' touches 'permuted labels'" in faults(figure)


def test_a_legend_on_a_line_or_a_bar_is_found(plain):
    figure, ax = plain
    ax.legend(loc="upper right")
    assert any("lies on data" in fault for fault in faults(figure))
    ax.clear()
    ax.bar([0, 1], [1, 1], label="bars")
    ax.legend(loc="center")
    assert any("lies on data" in fault for fault in faults(figure))
    style.legend_below(ax)
    assert faults(figure) == []


def test_numbers_printed_over_a_curve_are_found(plain):
    figure, ax = plain
    ax.plot(np.linspace(0, 1, 9), np.full(9, 0.6))
    ax.text(0.3, 0.6, "slope 0.9", va="center")
    assert faults(figure) == ["'slope 0.9' lies on a curve"]


def test_a_color_that_changes_on_the_way_to_the_file_is_found(plain, monkeypatch):
    """As median cut alone did it: beside a colorful picture a thin line takes a color of the picture."""
    figure, ax = plain
    ax.imshow(np.random.default_rng(0).random((60, 60)), cmap="hsv", extent=(0, 1, 0, 1), aspect="auto")

    def cut(content: bytes) -> bytes:
        with Image.open(io.BytesIO(content)) as picture:
            few = picture.convert("RGB").quantize(64, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
        few.save(stream := io.BytesIO(), "PNG")
        return stream.getvalue()

    assert missing_colors(figure) == set()
    monkeypatch.setattr(style, "palette_png", cut)
    assert missing_colors(figure) == {style.PALETTE[0]}


# --- names and files ------------------------------------------------------------------------------------------------


def test_names_are_words():
    assert style.model_words("clinical+reader_a") == "clinical + reader A"
    assert style.model_words("mri_reader_b") == "MRI reader B"
    assert style.pipeline_words("li_nat: radiomics", SHORT_NAMES) == "Li 2026: radiomics"
    assert style.pipeline_words("DL_US: frozen", SHORT_NAMES) == "DL ultrasound: frozen"
    assert radiomics.feature_words("MRI_pre_ADC__lesion_original_glcm_Idmn").split("\n") == [
        "inverse difference moment, normalized (GLCM)",
        "MRI before, ADC",
    ]
    assert radiomics.feature_words("age") == "age"
    assert claims.claim_words("DL_MRI+US+Clinical beats DL_US") == "DL MRI + ultrasound + clinical beats DL ultrasound"


def test_every_model_that_a_study_names_is_drawn_in_words_without_underscores():
    for path in (PUBLISHED / "evaluation").glob("discrimination.csv"):
        for model in pd.read_csv(path)["model"].unique():
            assert "_" not in style.model_words(model.split("/")[0]), model


def test_a_model_has_one_color_and_marks_of_splits_differ():
    assert style.model_colors(["TIN", "DL_US"])["DL_US"] == style.model_colors(MODELS)["DL_US"]
    assert set(style.model_dashes(MODELS).values()) == {"-"}
    many = style.model_dashes([f"model {number}" for number in range(14)])
    assert len({(style.model_colors(many)[name], str(dash)) for name, dash in many.items()}) == 14
    assert len(set(style.SPLIT_MARKS.values())) == len(style.SPLIT_NAMES)


def test_files_are_the_same_twice_and_hold_no_date(plain):
    figure, _ = plain
    once = style.figure_files(figure, "simulated patients")
    figure.texts[-1].remove()
    assert style.figure_files(figure, "simulated patients") == once
    text = once[".svg"].decode()
    assert "<dc:date>" not in text and "Matplotlib v" not in text
    with Image.open(io.BytesIO(once[".png"])) as picture:
        assert picture.width > 3.5 * style.DPI and not picture.info


def test_figures_in_notebooks_are_drawn_by_the_library():
    """A suptitle of a notebook's own would not be in the house style."""
    for path in sorted((repository_root() / "notebooks").glob("*.ipynb")):
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        source = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
        assert ".suptitle(" not in source and "crimson" not in source, path.name
