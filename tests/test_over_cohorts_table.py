"""benchmarks/over_cohorts.py and its tables. Truth: counts by hand, and the committed summaries made anew from their rows."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt

from alnlib.report.claims import VERDICTS

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture(scope="module")
def script():
    """The script as a module; benchmarks are no package."""
    found = importlib.util.spec_from_file_location("over_cohorts_benchmark", BENCHMARKS / "over_cohorts.py")
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


def claims(*verdicts: tuple[str, str], claim: str = "a beats b") -> pd.DataFrame:
    """Rows of one claim, (verdict of the study, of the population) of each cohort."""
    rows = pd.DataFrame(verdicts, columns=["verdict", "population_verdict"]).assign(seed=range(len(verdicts)))
    rows = rows.assign(study="tang", kind="better", claim=claim, metric="AUC", split="test")
    return rows.assign(difference=[0.1 * n for n in range(len(rows))], population_difference=0.05)


def test_verdicts_are_counted_and_compared_where_both_decided(script):
    yes, no, open_, cannot = VERDICTS
    table = script.by_claim(claims((yes, yes), (yes, no), (open_, yes), (no, no), (cannot, "")))
    (row,) = table.to_dict("records")
    assert [row[name] for name in ("cohorts", yes, no, open_, cannot)] == [5, 2, 1, 1, 1]
    assert [row[f"population: {name}"] for name in VERDICTS[:3]] == [2, 2, 0]
    assert (row["both_decided"], row["agreed"], row["found"]) == (3, 2, 1)
    assert row["mean_difference"] == pytest.approx(0.2) and row["sd_of_difference"] == pytest.approx(0.1581)


def test_coverage_counts_models_and_its_error_is_between_cohorts(script):
    rows = pd.DataFrame({"seed": [1, 1, 2, 2], "study": "tang", "model": ["a", "b"] * 2, "true_auc": 0.7})
    rows = rows.assign(share=[0.8, 0.4, 0.9, 0.6], share_of_oracle=0.5, recovered_share=0.7)
    rows = rows.assign(within_test_interval=["yes", "yes", "yes", "no"], test_minus_true=[0.1, -0.1, 0.3, -0.3])
    table = script.by_model(rows).set_index("model")
    assert table.loc["a", ["cohorts", "intervals", "held", "mean_share"]].tolist() == [2, 2, 2, 0.85]
    assert table.loc["b", "coverage"] == 0.5 and table.loc["b", "sd_of_share"] == pytest.approx(0.141)
    everyone = table.loc["all"]
    assert (everyone["intervals"], everyone["held"], everyone["coverage"]) == (4, 3, 0.75)
    assert everyone["se_of_coverage"] == 0.25 and everyone["mean_distance_of_test_auc"] == pytest.approx(0.2)


def test_rows_of_a_cohort_are_added_once_and_in_order(script, tmp_path):
    path = tmp_path / "rows.csv"
    for seed, value in ((102, 1), (101, 2), (102, 3)):
        script.add(pd.DataFrame({"seed": [seed], "x": [value], "verdict": [""]}), path)
    assert script.read(path).values.tolist() == [[101, 2, ""], [102, 3, ""]]


def test_the_figure_shows_what_could_be_tested(script):
    shown = claims(*[(VERDICTS[0], VERDICTS[0])] * 3)
    ruled_out = claims(*[(VERDICTS[3], "")] * 3, claim="c beats d")
    figure = script.draw(script.by_claim(pd.concat([shown, ruled_out])))
    assert [text.get_text() for text in figure.axes[0].get_yticklabels()] == ["a beats b,\ninternal test"]
    plt.close(figure)


def test_committed_summaries_are_those_of_the_committed_rows(script):
    models, rows = script.read(script.MODELS), script.read(script.CLAIMS)
    assert set(models["seed"]) == set(rows["seed"])
    for table in (models, rows):
        assert table.groupby("seed").size().nunique() == 1, "every cohort has every model and claim"
    for found, path in ((script.by_model(models), script.BY_MODEL), (script.by_claim(rows), script.BY_CLAIM)):
        committed = pd.read_csv(path)
        assert list(found) == list(committed) and len(found) == len(committed)
        for name in found:
            if found[name].dtype.kind == "f":
                np.testing.assert_allclose(found[name].astype(float), committed[name].astype(float), atol=2e-3)
            else:
                assert found[name].tolist() == committed[name].tolist(), name
