"""The pages of an evaluation, and the explorer's arithmetic. Truth: alneval itself, run on the same labels and scores; the
JavaScript is run by Node, which CI may lack (then the reason is said), everything else is read from the HTML."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from alneval import EXAMPLE, example
from alneval.curves import roc_curve
from alneval.decision_curve import net_benefit, treat_all
from alneval.estimate import Estimate, once
from alneval.folder import FIRST_PAGE, write_evaluation
from alneval.intervals import wilson_interval
from alneval.models import evaluate_predictions
from alneval.prevalence import predictive_values
from alneval.rows import KEYS, judged_rows
from alneval.site.explorer import explorer_data
from alneval.site.pages import HERE, as_script
from alneval.tables import row_stream
from alneval.thresholds import QUANTITIES, operating_point, operating_points
from alneval.units import Units
from tests.pages import Page, faults

FEW = 40


def node(script: str, given: object) -> object:
    """What a script prints as JSON; `given` is its value of that name. Skips where there is no Node."""
    if shutil.which("node") is None:
        pytest.skip("the pages' arithmetic is JavaScript, and there is no Node here to run it")
    source = f"const given = JSON.parse(require('fs').readFileSync(0, 'utf8'));\n{script}"
    told = subprocess.run(["node", "-e", source], input=json.dumps(given), capture_output=True, text=True)
    assert told.returncode == 0, told.stderr
    return json.loads(told.stdout)


def evaluator(script: str, given: object) -> object:
    return node(f"const E = require({json.dumps(str(HERE / 'static/evaluator.js'))});\n{script}", given)


def text(estimate: Estimate) -> str:
    return f"{estimate:3}"


def cases() -> list[tuple[Units, float]]:
    """Two models of the example at 60 thresholds each: at scores, between them, beyond both ends."""
    found = []
    for _, rows in example().groupby("model"):
        units = Units.of_rows(rows)
        cuts = [*np.linspace(-0.01, 1.01, 30), *np.quantile(units.score, np.linspace(0, 1, 30))]
        found += [(units, float(cut)) for cut in cuts]
    return found


def given(units: Units, threshold: float, **more: object) -> dict[str, object]:
    return {"labels": units.positive.astype(int).tolist(), "scores": units.score.tolist(), "t": threshold} | more


def test_operating_points_are_those_of_alneval_to_the_printed_digit():
    asked = cases()
    script = """console.log(JSON.stringify(given.map(({labels, scores, t}) => {
        const counts = E.counts(labels, scores, t), point = E.operatingPoint(counts);
        return [counts.tp, counts.fp, counts.tn, counts.fn, ...Object.values(point).map((e) => E.estimateText(e))];
    })))"""
    told = evaluator(script, [given(*case) for case in asked])
    for (units, threshold), line in zip(asked, told, strict=True):
        point = operating_point(units, threshold)
        counts = [point.true_positives, point.false_positives, point.true_negatives, point.false_negatives]
        assert line == [*counts, *(text(getattr(point, name)) for name in QUANTITIES)], threshold


def test_predictive_values_and_net_benefit_at_any_prevalence():
    asked = [(units, cut, share) for units, cut in cases() if 0 <= cut < 1 for share in (0.02, 0.1, 0.37, 0.8)]
    script = """console.log(JSON.stringify(given.map(({labels, scores, t, share}) => {
        const counts = E.counts(labels, scores, t), values = E.predictiveValues(counts, share);
        const own = (counts.tp + counts.fn) / labels.length;
        return [E.estimateText(values.ppv), E.estimateText(values.npv), E.text(E.netBenefit(counts, t, share)),
                E.text(E.netBenefit(counts, t)), E.text(E.treatAll(t, share)), E.text(E.treatAll(t, own))];
    })))"""
    told = evaluator(script, [given(units, cut, share=share) for units, cut, share in asked])
    for (units, cut, share), line in zip(asked, told, strict=True):
        values = [text(value) for value in predictive_values(units, cut, share)]
        curves = net_benefit([cut], share), net_benefit([cut]), treat_all([cut], share), treat_all([cut])
        numbers = [f"{once(curve, units)[0]:.3f}" for curve in curves]
        # what is zero but for its last bit may have either sign
        line, expected = ([cell.replace("-0.000", "0.000") for cell in cells] for cells in (line, values + numbers))
        assert line == expected, (cut, share)


def test_roc_curve_and_split_lottery():
    units = Units.of_rows(example().query("model == 'clinical'"))
    points = evaluator("console.log(JSON.stringify(E.rocCurve(given.labels, given.scores)))", given(units, 0))
    false_rate, true_rate, _ = roc_curve(units)
    assert {tuple(np.round(point, 12)) for point in points} >= set(
        zip(np.round(false_rate, 12), np.round(true_rate, 12), strict=True)
    )
    aucs = [0.7, 0.6, 0.9, 0.6]
    drawn = evaluator("console.log(JSON.stringify([0, 1, 2, 3].map((i) => E.lottery(given, i))))", aucs)
    assert [each["rank"] for each in drawn] == [3, 1, 4, 1]
    assert [each["best"] for each in drawn] == [0.7, 0.7, 0.9, 0.9]
    assert drawn[0]["mean"] == pytest.approx(0.7) and (drawn[0]["lowest"], drawn[0]["highest"]) == (0.6, 0.9)


def test_numbers_are_written_as_python_writes_them():
    """Ties are where the two differ by themselves: 0.0625 is 0.062 here and 0.063 to toFixed."""
    numbers = [*(k / 16 for k in range(-16, 17)), *np.random.default_rng(3).normal(size=200), 1e-9, 0.0005]
    assert evaluator("console.log(JSON.stringify(given.map((x) => E.text(x))))", [float(x) for x in numbers]) == [
        f"{x:.3f}" for x in numbers
    ]
    pairs = [(k, n) for n in range(0, 33) for k in range(n + 1)]
    shares = evaluator("console.log(JSON.stringify(given.map(([k, n]) => E.estimateText(E.wilson(k, n)))))", pairs)
    assert shares == [text(wilson_interval(k, n)) for k, n in pairs]


def nodes() -> pd.DataFrame:
    """Two or three units per patient, with training and test patients."""
    rng = np.random.default_rng(5)
    patients = [f"p{i:02d}" for i in range(40) for _ in range(2 + i % 2)]
    rows = pd.DataFrame({"study": "s", "model": "m", "role": "main", "patient_id": patients})
    rows["split"] = np.where(rows["patient_id"] < "p15", "train", "test")
    rows["unit_id"] = [f"u{i}" for i in range(len(rows))]
    rows["y_true"] = rng.integers(0, 2, len(rows))
    rows["y_score"] = (0.3 * rows["y_true"] + 0.7 * rng.random(len(rows))).round(2)
    return rows


def test_units_of_patients_have_the_intervals_of_the_tables():
    evaluation = evaluate_predictions(nodes(), n_bootstrap=FEW)
    tables = evaluation.discrimination, evaluation.calibration
    data = explorer_data(evaluation.predictions, *tables, seed=evaluation.seed, n_bootstrap=FEW)
    (made,) = data["sets"]
    row = evaluation.discrimination.query("split == 'test'").iloc[0]
    cut = len({score for score in made["scores"] if score < row["threshold"]})
    for place, name in enumerate(QUANTITIES):
        assert made["limits"][cut][2 * place] == pytest.approx(row[f"{name}_low"], rel=1e-7)
        assert made["limits"][cut][2 * place + 1] == pytest.approx(row[f"{name}_high"], rel=1e-7)
    assert len(made["limits"]) == len(set(made["scores"])) + 1


def test_units_of_patients_at_another_prevalence():
    evaluation = evaluate_predictions(nodes(), n_bootstrap=FEW)
    data = explorer_data(evaluation.predictions, evaluation.discrimination, seed=3, n_bootstrap=FEW)
    (made,) = data["sets"]
    units = Units.of(list(map(int, made["labels"])), made["scores"], patient=_patients_of_test())
    asked = [(cut, share) for cut in np.linspace(0, 1, 23) for share in (0.03, 0.3, 0.9)]
    cuts = [len({score for score in made["scores"] if score < cut}) for cut, _ in asked]
    script = """console.log(JSON.stringify(given.map(({labels, scores, t, share, ratios}) => {
        const values = E.resampledPredictiveValues(E.counts(labels, scores, t), share, ratios);
        return [E.estimateText(values.ppv), E.estimateText(values.npv)];
    })))"""
    more = [{"share": share, "ratios": made["ratios"][at]} for (_, share), at in zip(asked, cuts, strict=True)]
    told = evaluator(script, [given(units, cut) | each for (cut, _), each in zip(asked, more, strict=True)])
    for (cut, share), line in zip(asked, told, strict=True):
        values = predictive_values(units, cut, share, rng=np.random.default_rng(3), n_bootstrap=FEW)
        assert line == [text(value) for value in values], (cut, share)


def _patients_of_test() -> list[str]:
    return nodes().query("split == 'test'").sort_values(["patient_id", "unit_id"])["patient_id"].tolist()


def test_several_thresholds_share_their_resamples():
    units = Units.of_rows(nodes().query("split == 'test'").sort_values(["patient_id", "unit_id"]))
    together = operating_points(units, [0.2, 0.5], rng=row_stream(1, ("s",)), n_bootstrap=FEW)
    for point in together:
        assert point == operating_point(units, point.threshold, rng=row_stream(1, ("s",)), n_bootstrap=FEW)


def test_the_explorer_holds_labels_and_scores_and_no_patient():
    predictions = nodes()
    evaluation = evaluate_predictions(predictions, n_bootstrap=FEW)
    tables = evaluation.discrimination, evaluation.calibration
    data = explorer_data(evaluation.predictions, *tables, seed=1, n_bootstrap=FEW)
    held = json.dumps(data)
    assert not any(f'"{name}"' in held for name in {*predictions["patient_id"], *predictions["unit_id"]})
    judged = judged_rows(evaluation.predictions).sort_values(["patient_id", "unit_id"])
    for made in data["sets"]:
        rows = judged[(judged[KEYS] == [made["study"], made["model"], made["split"]]).all(axis=1)]
        assert made["labels"] == "".join(map(str, rows["y_true"])) and made["scores"] == rows["y_score"].tolist()


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """The example, with a model whose name is a script and a patient whose name is markup."""
    place = tmp_path_factory.mktemp("evaluated")
    rows = pd.read_csv(EXAMPLE, dtype=str)
    rows.loc[rows["model"] == "image", "model"] = "<script>alert(1)</script>"
    rows.loc[rows["patient_id"] == rows["patient_id"].iloc[0], "patient_id"] = "<b>x</b>"
    rows.to_csv(place / "a.csv", index=False)
    write_evaluation([place / "a.csv"], place / "out", n_bootstrap=FEW, provenance="simulated")
    return place / "out"


def test_every_link_of_an_evaluation_resolves_and_nothing_is_loaded_from_outside(folder):
    assert faults(folder) == []


def test_a_figure_is_shown_once_and_leads_to_its_svg_and_its_table(folder):
    page = Page((folder / FIRST_PAGE).read_text(encoding="utf-8"))
    drawn = sorted(f"../figures/{path.stem}" for path in folder.glob("figures/*.png"))
    assert page.tags.count("figure") == len(drawn) > 3
    for suffix in (".png", ".svg"):
        assert sorted({link.removesuffix(suffix) for link in page.links if link.endswith(suffix)}) == drawn
    assert sum(link.endswith(".csv") for link in page.links) >= len(drawn)


def test_names_are_shown_as_text(folder):
    for path in folder.glob("report/*.html"):
        page = path.read_text(encoding="utf-8")
        assert "<b>x</b>" not in page and "<script>alert" not in page, path
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in (folder / FIRST_PAGE).read_text(encoding="utf-8")
    explorer = (folder / "report/explorer.html").read_text(encoding="utf-8")
    held = json.loads(explorer.partition('id="data">')[2].partition("</script>")[0])
    assert "<script>alert(1)</script>" in {each["model"] for each in held["sets"]}
    assert "</script>" not in as_script({"x": "</script>"})


def test_every_table_can_be_sorted_and_saved(folder):
    """A head, in one row, as many cells as columns: what site.js asks for; and a file or a button for each."""
    page = Page((folder / "report/tables.html").read_text(encoding="utf-8"))
    assert page.tags.count("table") == page.tags.count("thead") == page.tags.count("tbody") > 5
    files = [link for link in page.links if link.endswith(".csv")]
    assert len(files) == page.tags.count("table") and len(set(files)) == len(files)
    script = f"const T = require({json.dumps(str(HERE / 'static/site.js'))});\n"
    script += "console.log(JSON.stringify([T.order(given, false), T.order(given, true), T.csv([given])]))"
    up, down, csv = node(script, ["0.9 (0.8 to 1.0)", "", "-0.10", "1,128", "0.85"])
    assert (up, down) == ([2, 4, 0, 3, 1], [3, 0, 4, 2, 1])
    assert csv == '0.9 (0.8 to 1.0),,-0.10,"1,128",0.85\n'


def test_an_evaluation_is_told_as_simulated_on_every_page(folder):
    for path in folder.glob("report/*.html"):
        assert '<span class="origin simulated">simulated patients</span>' in path.read_text(encoding="utf-8")


def test_a_page_has_to_open(monkeypatch):
    """Sets that are too large are left out, and counted."""
    evaluation = evaluate_predictions(nodes(), n_bootstrap=FEW)
    monkeypatch.setattr("alneval.site.explorer.MOST_CLUSTERED", 10)
    data = explorer_data(evaluation.predictions, evaluation.discrimination, seed=1, n_bootstrap=FEW)
    assert (data["sets"], data["left_out"]) == ([], 1)
