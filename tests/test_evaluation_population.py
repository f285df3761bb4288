"""What trained models are worth on the population. Truth: normal scores whose AUC is known in closed form."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from alneval.delong import auc, auc_interval
from alneval.folds import patient_level_splits, splits_digest, write_splits
from alneval.population import (
    COLUMNS,
    auc_beside_oracle,
    known_from_population,
    population_figure,
    population_table,
)
from alneval.rows import prediction_rows, seed_rows
from alneval.tables import discrimination_table
from alneval.units import Units
from alnlib.cohorts.folder import read_cohort, write_cohort
from alnlib.paths import repository_root
from alnlib.pipeline.results import RunFolder

NO_ORACLE = pd.DataFrame(columns=["patient_id", "unit_id", "modality", "probability"])
NO_TRUTH = pd.DataFrame(columns=["modality", "center", "attainable_auc", "monte_carlo_se"])
SEPARATION = 1.0
TRUE_AUC = float(stats.norm.cdf(SEPARATION / np.sqrt(2)))


def scored(split: str, n: int, rng: np.random.Generator, model: str = "m", role: str = "main") -> pd.DataFrame:
    y = (np.arange(n) % 3 == 0).astype(int)
    score = stats.norm.cdf(SEPARATION * y + rng.normal(size=n))
    return prediction_rows("s", model, split, pd.Series([f"{split}-{i}" for i in range(n)]), y, score, role=role)


def table_of(seed: int, n_test: int = 60, n_population: int = 4000) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    test, population = scored("test", n_test, rng), scored("population", n_population, rng)
    table = discrimination_table(pd.concat([test, population]), rng=rng, n_bootstrap=20)
    return population_table(table, population, NO_ORACLE, NO_TRUTH, {})


def test_the_populations_auc_is_the_true_one_and_test_intervals_hold_it_as_often_as_they_say():
    """200 studies: 95 % of their intervals should; the population's own error, of 4,000 patients, takes a little."""
    tables = pd.concat([table_of(seed, n_population=1500) for seed in range(200)])
    assert tuple(tables.columns) == COLUMNS
    np.testing.assert_allclose(tables["population_auc"].mean(), TRUE_AUC, atol=0.003)
    inside = tables["within_test_interval"].eq("yes").mean()
    assert 0.90 <= inside <= 0.99, inside
    assert (tables["test_minus_true"] == tables["auc"] - tables["population_auc"]).all(), "no oracle: its AUC as it is"
    assert (tables["true_auc"] == tables["population_auc"]).all() and tables["recovered_share"].isna().all()


@pytest.mark.parametrize("nodes", [1, 2])
def test_an_oracle_whose_auc_is_known_takes_the_luck_of_the_draw_out(nodes):
    """Over 1,000 draws: unbiased, intervals that keep their word, and an error smaller by what the correlation leaves."""
    rng, n = np.random.default_rng(11), 300
    best = float(stats.norm.cdf(1.5 / np.sqrt(2)))
    found, plain = [], []
    for _ in range(1000):
        y = np.repeat(rng.random(n // nodes) < 0.4, nodes)
        evidence = 1.5 * y + np.repeat(rng.normal(size=n // nodes), nodes) * 0.5 + rng.normal(size=n) * np.sqrt(0.75)
        score = evidence + 0.5 * rng.normal(size=n)
        units = Units.of(y, score, evidence, patient=np.repeat(np.arange(n // nodes), nodes))
        found.append(auc_beside_oracle(units, best))
        plain.append(auc_interval(units))
    true = float(stats.norm.cdf(1.5 / np.sqrt(2 * (1 + 0.5**2))))
    values = np.array([one.value for one in found])
    assert abs(values.mean() - true) < 0.004
    assert values.std() < 0.75 * np.std([one.value for one in plain])
    np.testing.assert_allclose(np.mean([one.standard_error for one in found]), values.std(), rtol=0.12)
    held = np.mean([one.low <= true <= one.high for one in found])
    assert 0.925 <= held <= 0.975, held


def test_where_the_oracle_says_nothing_new_the_auc_stays_or_becomes_the_attainable_one():
    rng = np.random.default_rng(12)
    y, score = np.arange(60) % 3 == 0, rng.normal(size=60)
    constant = auc_beside_oracle(Units.of(y, score, np.zeros(60)), 0.5)
    assert constant.value == auc(y, score)
    itself = auc_beside_oracle(Units.of(y, score, score), 0.8, 0.01)
    assert itself.value == pytest.approx(0.8) and itself.standard_error == pytest.approx(0.01)
    assert auc_beside_oracle(Units.of(y, y + 0.0, y + 0.0), 1.0).low == 1.0


def test_the_oracle_is_that_of_the_same_patients_and_sets_the_share():
    rng = np.random.default_rng(5)
    population = scored("population", 500, rng)
    table = discrimination_table(population, rng=rng, n_bootstrap=20)
    oracle = population[["patient_id", "unit_id"]].assign(modality="x", probability=population["y_score"])
    truth = pd.DataFrame({"modality": "x", "center": ["primary", "external"], "attainable_auc": [0.77, 0.6]})
    truth = truth.assign(monte_carlo_se=0.001)
    (row,) = population_table(table, population, oracle, truth, {"m": "x"}).to_dict("records")
    assert row["oracle_auc"] == row["population_auc"] and row["attainable_auc"] == 0.77
    assert row["true_auc"] == pytest.approx(0.77) and row["recovered_share"] == pytest.approx(1.0)
    assert row["within_test_interval"] == "" and np.isnan(row["auc"]), "it has no test patients"
    (row,) = population_table(table, population, oracle.iloc[1:], truth, {"m": "x"}).to_dict("records")
    assert np.isnan(row["oracle_auc"]) and row["true_auc"] == row["population_auc"], (
        "an oracle that lacks a patient is none"
    )


def test_the_ledger_reads_the_true_auc():
    rng = np.random.default_rng(13)
    rows = pd.concat([scored("test", 60, rng), scored("population", 300, rng)])
    table = discrimination_table(rows, rng=rng, n_bootstrap=20)
    beside = population_table(table, rows[rows["split"] == "population"], NO_ORACLE, NO_TRUTH, {})
    known = known_from_population(table, beside.assign(true_auc=0.71, true_auc_low=0.7, true_auc_high=0.72))
    assert list(known) == list(table) and known["split"].tolist() == ["population"]
    assert known[["auc", "auc_low", "auc_high"]].to_numpy().tolist() == [[0.71, 0.7, 0.72]]


def test_without_a_population_the_table_is_empty_and_has_its_columns():
    rng = np.random.default_rng(6)
    table = discrimination_table(scored("test", 60, rng), rng=rng, n_bootstrap=20)
    empty = scored("population", 60, rng).iloc[:0]
    assert tuple(population_table(table, empty, NO_ORACLE, NO_TRUTH, {}).columns) == COLUMNS


def test_the_figure_has_a_panel_per_study_and_shows_every_test_auc():
    table = pd.concat([table_of(1).assign(study=study, auc=auc) for study, auc in (("a", 0.31), ("b", 0.8))])
    figure = population_figure(table, {"a": "Study A"})
    first, second = figure.axes
    assert (first.get_title("left") or first.get_title()) == "Study A"
    assert second.get_xlim()[0] < 0.31, "a bad test AUC is not cut off"


@pytest.mark.parametrize("role", ["main", "companion", "candidate", "member"])
def test_of_the_population_only_main_models_and_companions_are_asked(role):
    rng = np.random.default_rng(7)
    kept = role in ("main", "companion")
    assert len(scored("population", 9, rng, role=role)) == (9 if kept else 0)
    assert len(scored("test", 9, rng, role=role)) == 9


def test_single_fits_have_no_rows_of_the_population():
    split = pd.Series(["test", "population"] * 4)
    logits = np.random.default_rng(8).normal(size=(8, 3))
    rows = seed_rows("s", "m", split, pd.Series([f"p{i}" for i in range(8)]), [0, 1] * 4, logits)
    assert rows.groupby(["role", "split"]).size().to_dict() == {
        ("main", "population"): 4,
        ("main", "test"): 4,
        ("member", "test"): 12,
    }


def test_a_run_gives_the_study_alone_unless_the_population_is_asked_for(tmp_path, monkeypatch):
    """The committed demo's cohort, the last thirty patients of the primary center called the population."""
    cohort = read_cohort(repository_root() / "results/simulated-demo/cohort", check_images=False)
    patients = cohort.patients.assign(split="")
    chosen = patients.index[(patients["center"] == "primary") & patients["aln_metastasis"].notna()][-30:]
    patients.loc[chosen, "split"] = "population"
    monkeypatch.setenv("ALN_RESULTS", str(tmp_path))
    folder = tmp_path / "r" / "cohort"
    write_cohort(replace(cohort, patients=patients), folder)
    known = replace(cohort, patients=patients).known("aln_metastasis")
    rng = np.random.default_rng(0)
    splits = patient_level_splits(known, "aln_metastasis", rng=rng, external_centers=cohort.external_centers)
    write_splits(splits, folder / "splits.csv")
    (folder / "study.json").write_text(
        json.dumps({"endpoint": "aln_metastasis", "digest": splits_digest(splits)}), encoding="utf-8"
    )
    run = RunFolder("r")
    study, everyone = run.read_study(), run.read_study(population=True)
    outside = set(patients.loc[chosen, "patient_id"])
    assert set(everyone.patients["patient_id"]) - set(study.patients["patient_id"]) == outside
    assert set(everyone.of("population")["patient_id"]) == outside
    for table in (study.cohort.patients, study.cohort.images, study.cohort.readers):
        assert not outside & set(table["patient_id"]) and len(table)
    predictions = tmp_path / "r" / "predictions"
    predictions.mkdir()
    made = pd.concat([scored("test", 9, rng), scored("population", 12, rng)])
    made.to_csv(predictions / "clinical.csv", index=False)
    assert set(run.read_predictions()["split"]) == {"test"}
    assert len(run.read_population_predictions()) == 12
