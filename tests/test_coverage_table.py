"""benchmarks/coverage.csv. Truth: numerical integration, a large sample, and cells simulated anew."""

import importlib.util
import sys
from math import sqrt
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import integrate, stats

from alneval.calibration import joint_calibration
from alneval.decision_curve import net_benefit, treat_all
from alneval.delong import auc
from alneval.estimate import once
from alneval.units import Units

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
KEYS = ["quantity", "method", "n", "prevalence", "auc", "nodes_per_patient"]


@pytest.fixture(scope="module")
def simulation():
    """The script as a module; benchmarks are no package."""
    name = "coverage_benchmark"
    found = importlib.util.spec_from_file_location(name, BENCHMARKS / "coverage.py")
    module = importlib.util.module_from_spec(found)
    sys.modules[name] = module  # dataclasses look their module up
    found.loader.exec_module(module)
    yield module
    del sys.modules[name]


@pytest.fixture(scope="module")
def table():
    return pd.read_csv(BENCHMARKS / "coverage.csv")


def test_defaults_cover_93_to_97_percent_wherever_five_patients_decide(simulation, table):
    low, high = simulation.RANGE
    judged = table[table["judged"]]
    outside = judged[~judged["coverage"].between(low, high)]
    assert outside.empty, outside[KEYS].to_string()
    asked = {(n, prevalence) for n in (100, 300, 1000) for prevalence in (0.1, 0.35)}
    kinds = {"AUC", "AUC difference", "calibration intercept", "calibration slope"}
    kinds |= {f"{name} at {threshold}" for name in ("net benefit", "gain") for threshold in simulation.THRESHOLDS}
    for nodes in (1, 2):
        cells = judged[judged["nodes_per_patient"] == nodes]
        assert set(cells["quantity"]) == kinds
        for quantity, part in cells.groupby("quantity"):
            assert set(zip(part["n"], part["prevalence"], strict=True)) == asked, (quantity, nodes)


def test_what_is_not_judged_is_decided_by_fewer_than_five(simulation, table):
    """And falls short of what its discreteness leaves attainable, if it does, by few percent."""
    left = table[table["default"] & ~table["judged"]]
    assert 0 < len(left) <= 0.05 * table["default"].sum()
    assert left["expected"].lt(simulation.FEW).all()
    assert left["quantity"].str.contains(" at ").all()  # AUC, its difference and calibration are judged everywhere
    assert (left["coverage"] >= left["attainable"] - 0.05).all(), left[KEYS].to_string()
    assert not table.loc[table["judged"], "default"].eq(False).any()
    assert table.loc[table["default"] & table["expected"].ge(simulation.FEW), "judged"].all()


@pytest.mark.parametrize(("quantity", "auc_level"), [("net benefit at 0.3", 0.65), ("gain at 0.1", 0.8)])
def test_attainable_coverage_is_that_of_the_exact_tails(simulation, quantity, auc_level):
    """Against a large sample of estimates: cut off the values whose tail holds at most 2.5 %."""
    cell = simulation.Cell(100, 0.1 if "net" in quantity else 0.35, auc_level, 1)
    name, threshold = quantity.split(" at ")
    threshold = float(threshold)
    odds, rng = threshold / (1 - threshold), np.random.default_rng(3)
    treated_positives, treated_negatives = cell.true_positives(threshold), cell.false_positives(threshold)
    shares = [treated_positives, treated_negatives, cell.prevalence - treated_positives]
    counts = rng.multinomial(100, [*shares, 1 - sum(shares)], size=400_000)
    estimates = counts[:, 0] - odds * counts[:, 1] if name == "net benefit" else odds * counts[:, 3] - counts[:, 2]
    values, frequency = np.unique(estimates.round(9), return_counts=True)
    frequency = frequency / frequency.sum()
    below, above = np.cumsum(frequency), np.cumsum(frequency[::-1])
    left = 1 - below[below <= 0.025].max(initial=0) - above[above <= 0.025].max(initial=0)
    assert simulation.attainable(cell, quantity) == pytest.approx(left, abs=0.002)
    few = sum(counts[:, 0]) if name == "net benefit" else sum(counts[:, 2] + counts[:, 3])
    assert simulation.deciding(cell, quantity) == pytest.approx(few / len(counts), rel=0.05)


def test_table_is_whole_and_its_columns_agree(simulation, table):
    expected = {
        (quantity, method.name, cell.n, cell.prevalence, cell.auc, cell.nodes_per_patient)
        for cell in simulation.cells()
        for method in simulation.methods(cell)
        for quantity in method.quantities
    }
    assert set(table[KEYS].itertuples(index=False, name=None)) == expected and len(table) == len(expected)
    np.testing.assert_allclose(table["coverage"] + table["below"] + table["above"], 1, atol=2e-4)
    error = np.sqrt(table["coverage"] * (1 - table["coverage"]) / (table["repetitions"] - table["failures"]))
    np.testing.assert_allclose(table["coverage_se"], error, atol=2e-4)
    assert table.loc[table["default"], "repetitions"].min() >= 2000
    assert (table["failures"] <= 0.01 * table["repetitions"]).all()


def test_what_the_defaults_replaced_covers_less(table):
    """As the docstrings of `roc` and `decision_curve` say."""
    worst = table.groupby(["quantity", "method"])["coverage"].min()
    assert worst["AUC", "DeLong, Wald"] < 0.85
    assert worst["AUC difference", "DeLong, normal"] < 0.93
    assert worst["gain at 0.3", "bootstrap, percentile"] < 0.93
    assert worst["net benefit at 0.3", "bootstrap, percentile"] < 0.93


@pytest.mark.parametrize(("n", "prevalence", "auc_level", "nodes"), [(100, 0.1, 0.9, 1), (100, 0.35, 0.8, 2)])
def test_a_cell_simulated_anew_agrees(simulation, table, n, prevalence, auc_level, nodes):
    """Another seed and fewer samples: within four Monte Carlo errors, by all methods and quantities."""
    again = simulation.coverage_table([simulation.Cell(n, prevalence, auc_level, nodes)], 150, seed=1)
    both = again.merge(table, on=KEYS, suffixes=("", "_committed"), validate="one_to_one")
    assert len(both) == len(again)
    assert (both["truth"] == both["truth_committed"]).all()
    committed = both["coverage_committed"]
    error = np.sqrt(committed * (1 - committed) / both["repetitions"] + both["coverage_se_committed"] ** 2)
    assert ((both["coverage"] - committed).abs() <= 4 * error + 1e-9).all(), both.to_string()
    np.testing.assert_allclose(both["mean_width"], both["mean_width_committed"], rtol=0.15)


def test_jobs_do_not_change_a_number(simulation):
    cell = simulation.Cell(100, 0.35, 0.65, 1)
    alone = simulation.coverage_table([cell], 9, seed=5)
    among = simulation.coverage_table([simulation.Cell(100, 0.35, 0.9, 1), cell], 9, seed=5)
    pd.testing.assert_frame_equal(among[among["auc"] == 0.65].reset_index(drop=True), alone)


@pytest.mark.parametrize("threshold", [0.1, 0.3])
def test_true_net_benefit_is_the_integral_over_scores(simulation, threshold):
    """Expected gain of treating where Bayes' rule gives a probability above the threshold, integrated numerically."""
    cell = simulation.Cell(300, 0.35, 0.8, 1)
    distance, odds = sqrt(2) * stats.norm.ppf(0.8), threshold / (1 - threshold)

    def treated(score):
        positive = 0.35 * stats.norm.pdf(score - distance)
        negative = 0.65 * stats.norm.pdf(score)
        return (positive - odds * negative) * (positive / (positive + negative) >= threshold)

    integral = integrate.trapezoid(treated(np.linspace(-9, 11, 2_000_001)), dx=1e-5)
    assert cell.net_benefit(threshold) == pytest.approx(integral, abs=1e-5)
    everybody = once(treat_all([threshold], 0.35), Units.of([0, 1], [0.1, 0.2]))[0]
    assert cell.gain(threshold) == pytest.approx(integral - max(everybody, 0), abs=1e-5)


@pytest.mark.parametrize("nodes", [1, 2])
def test_samples_have_the_stated_truth(simulation, nodes):
    cell = simulation.Cell(150_000 // nodes, 0.35, 0.8, nodes)
    sample = simulation.draw(cell, np.random.default_rng(7))
    assert sample.y.mean() == pytest.approx(0.35, abs=0.006)
    assert auc(sample.y, sample.score) == pytest.approx(0.8, abs=0.006)
    assert auc(sample.y, sample.other) == pytest.approx(0.75, abs=0.006)
    units = Units.of(sample.y, sample.probability)
    assert [estimate.value for estimate in joint_calibration(units)] == pytest.approx([0, 1], abs=0.04)
    assert once(net_benefit([0.3]), units)[0] == pytest.approx(cell.net_benefit(0.3), abs=0.008)
    error = sample.score - cell.separation * sample.y
    if nodes == 1:
        assert sample.patient is None
    else:
        assert np.corrcoef(error[::2], error[1::2])[0, 1] == pytest.approx(0.5, abs=0.02)
        assert np.corrcoef(sample.y[::2], sample.y[1::2])[0, 1] > 0.2
        assert (sample.patient[::2] == sample.patient[1::2]).all()
