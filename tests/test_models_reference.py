"""Simulated patients beside the Duke sheet. Truth: tables made to counts, 2 x 2 arithmetic (Woolf 1955), a planted model.

The committed aggregates themselves are tested in `test_duke_reference`.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from alnlib.cohorts.schema import Cohort, Endpoint, empty_readers, images_table
from alnlib.models.reference import (
    BESIDE_COLUMNS,
    COLUMNS,
    MULTIVARIABLE,
    beside_duke,
    read_duke_reference,
    reference_table,
    reference_variables,
    simulated_reference_patients,
)
from alnsim import SimulationSpec
from alnsim.build import draw_people
from alnsim.patients import CLINICAL, recorded_patients

NAMES = ["endpoint", "variable", "level_or_unit"]
BARE = {"n_mri": 0, "n_video_primary": 0, "n_video_external": 0, "n_ct": 0, "n_ct_nodes": 0, "n_mammography": 0}
SPEC = SimulationSpec(n_primary=1200, n_external=0, n_neoadjuvant=300, **BARE)


@pytest.fixture(scope="module")
def cohort() -> Cohort:
    """1,200 simulated patients operated at once and 300 treated first, without a pixel."""
    people = draw_people(SPEC, seed=5)
    latent = pd.DataFrame([{"patient_id": p.patient_id, "center": p.center, **p.latent} for p in people])
    return cohort_of(recorded_patients(latent))


def cohort_of(patients: pd.DataFrame) -> Cohort:
    return Cohort(
        name="simulated",
        title="Simulated",
        provenance="simulated",
        endpoints={name: Endpoint(name, "yes", "no") for name in ("aln_metastasis", "apcr")},
        primary_endpoint="aln_metastasis",
        centers=("primary",),
        external_centers=(),
        clinical=dict(CLINICAL),
        readers_described={},
        license="",
        citation="",
        source="",
        patients=patients,
        images=images_table({}),
        readers=empty_readers(),
        root=Path("."),
    )


@pytest.fixture(scope="module")
def beside(cohort) -> pd.DataFrame:
    return beside_duke(cohort, SPEC)


def row(table: pd.DataFrame, endpoint: str, variable: str, level: str) -> pd.Series:
    found = table.query("endpoint == @endpoint and variable == @variable and level_or_unit == @level")
    assert len(found) == 1
    return found.iloc[0]


def made_patients(n: int = 400, seed: int = 0) -> pd.DataFrame:
    """Patients of `reference_table`, every variable independent of every other and of both endpoints."""
    rng = np.random.default_rng(seed)
    signs = ["negative", "positive"]
    stage, grade = rng.integers(0, 3, n), rng.integers(0, 3, n)
    return pd.DataFrame(
        {
            "patient_id": [f"{number:04d}" for number in range(n)],
            "aln_metastasis": pd.array(rng.integers(0, 2, n), dtype="Int64"),
            "apcr": pd.array(rng.integers(0, 2, n), dtype="Int64"),
            "age_decade": rng.normal(5.5, 1.2, n),
            "menopause": rng.choice(["premenopausal", "postmenopausal"], n),
            **{name: rng.choice(signs, n) for name in ("er", "pr", "her2")},
            "grade": np.array(["G1", "G2", "G3"])[grade],
            "ct": np.array(["T1", "T2", "T3-T4"])[stage],
            "ct_step": stage + 1.0,
            "grade_step": grade + 1.0,
            "histology": rng.choice(["ductal", "lobular"], n),
            "subtype": rng.choice(["HR+/HER2-", "HR+/HER2+", "HR-/HER2+", "triple-negative"], n),
        }
    )


def with_her2(positive: tuple[int, int], negative: tuple[int, int]) -> pd.DataFrame:
    """Patients with HER2 set to given (node-positive, node-negative) counts."""
    counts = {("positive", 1): positive[0], ("positive", 0): positive[1]}
    counts |= {("negative", 1): negative[0], ("negative", 0): negative[1]}
    pairs = [pair for pair, count in counts.items() for _ in range(count)]
    patients = made_patients(len(pairs))
    patients["her2"] = [her2 for her2, _ in pairs]
    patients["aln_metastasis"] = pd.array([outcome for _, outcome in pairs], dtype="Int64")
    return patients


def test_univariable_odds_ratio_is_the_cross_product_with_woolf_interval():
    """a d / (b c) and exp(log OR -+ 1.96 sqrt(1/a + 1/b + 1/c + 1/d)); Woolf 1955, Ann Hum Genet 19:251."""
    a, b, c, d = 40, 20, 80, 160
    found = row(reference_table(with_her2((a, b), (c, d))), "aln_metastasis", "HER2", "positive")
    middle, error = np.log(a * d / (b * c)), np.sqrt(1 / a + 1 / b + 1 / c + 1 / d)
    expected = np.exp(middle + 1.959964 * error * np.array([0, -1, 1]))
    np.testing.assert_allclose(found[["or_univariable", "low", "high"]].astype(float), expected, atol=6e-4)
    assert (found["n"], found["n_level"], found["share"]) == (300, 60, 0.2)


def test_rows_columns_and_counts_are_those_of_the_patients():
    patients = made_patients()
    patients.loc[:49, "grade"] = None
    patients.loc[:49, "grade_step"] = np.nan
    patients["apcr"] = patients["apcr"].where(patients.index < 150)
    table = reference_table(patients)
    assert tuple(table.columns) == COLUMNS
    assert not table.duplicated(NAMES).any()
    assert table.groupby("endpoint").size().to_dict() == {"aln_metastasis": 25, "apcr": 23}, "apcr without histology"
    prevalence = row(table, "aln_metastasis", "prevalence", "positive")
    assert (prevalence["n"], prevalence["n_level"]) == (400, patients["aln_metastasis"].sum())
    assert row(table, "apcr", "prevalence", "positive")["n"] == 150
    assert row(table, "aln_metastasis", "Grade", "G2")["n"] == 350
    assert row(table, "aln_metastasis", "multivariable model", "complete cases")["n_level"] == 350
    assert row(table, "apcr", "multivariable model", "complete cases")["n_level"] == 100
    levels = table[table["n_level"].notna() & ~table["variable"].isin(["prevalence", "multivariable model"])]
    shares = levels.groupby(["endpoint", "variable"])["share"].sum()
    np.testing.assert_allclose(shares, 1.0, atol=2e-3)
    assert table["share"].equals(table["share"].round(3))


def test_a_planted_model_is_found_and_adjustment_takes_away_what_is_borrowed():
    """Logit = 0.9 (grade - 2); ER follows grade and adds nothing: its odds ratio is below 1 alone and 1 adjusted."""
    rng = np.random.default_rng(1)
    patients = made_patients(8_000, seed=1)
    logit = 0.9 * (patients["grade_step"] - 2.0)
    patients["aln_metastasis"] = pd.array(rng.random(8_000) < 1 / (1 + np.exp(-logit)), dtype="Int64")
    patients["er"] = np.where(rng.random(8_000) < 0.95 - 0.2 * patients["grade_step"], "positive", "negative")
    table = reference_table(patients)
    step = row(table, "aln_metastasis", "Grade step", "one grade")
    er = row(table, "aln_metastasis", "ER", "positive")
    assert step["low_m"] < np.exp(0.9) < step["high_m"]
    assert er["high"] < 1.0
    assert er["low_m"] < 1.0 < er["high_m"]
    assert abs(np.log(er["or_multivariable"])) < 0.5 * abs(np.log(er["or_univariable"]))


def test_only_what_is_in_the_model_is_adjusted():
    table = reference_table(made_patients())
    labels = {name: variable.label for name, variable in reference_variables().items()}
    for endpoint, joint in MULTIVARIABLE.items():
        adjusted = table[(table["endpoint"] == endpoint) & table["or_multivariable"].notna()]
        assert set(adjusted["variable"]) == {labels[name] for name in joint}


@pytest.mark.parametrize(("her2", "shown"), [((5, 6), True), ((4, 7), False), ((7, 4), False)])
def test_a_cell_below_five_hides_its_odds_ratio_but_not_its_share(her2, shown):
    patients = with_her2(her2, (60, 60))
    found = row(reference_table(patients), "aln_metastasis", "HER2", "positive")
    assert found["n_level"] == 11 and found["share"] == pytest.approx(11 / 131, abs=5e-4)
    assert found[["or_univariable", "low", "high", "or_multivariable"]].notna().all() == shown
    assert found[["or_univariable", "low", "high", "or_multivariable"]].isna().all() != shown
    if shown:
        assert found["or_univariable"] == pytest.approx(her2[0] / her2[1], abs=6e-4)


def test_a_level_of_fewer_than_five_patients_is_not_published():
    patients = with_her2((2, 2), (60, 60))
    with pytest.raises(ValueError, match="HER2 positive: 4 patients, too few to publish"):
        reference_table(patients)
    assert row(reference_table(patients, publish=False), "aln_metastasis", "HER2", "positive")["n_level"] == 4


def test_simulated_patients_are_described_in_the_words_of_the_sheet(cohort):
    table = simulated_reference_patients(cohort.patients)
    assert {"patient_id", *MULTIVARIABLE, *reference_variables()} == set(table.columns)
    assert len(table) == len(cohort.patients)
    for name, variable in reference_variables().items():
        if variable.kind != "continuous":
            assert set(table[name].dropna()) == set(variable.levels), name
    assert table["age_decade"].between(1.8, 10.5).all()
    stage = cohort.patients["ct"].map({"T1": 1, "T2": 2, "T3": 3})
    assert (table["ct_step"] == stage).all()
    assert (table["grade_step"].isna() == cohort.patients["grade"].isna()).all()


@pytest.mark.parametrize(
    ("er", "pr", "her2", "subtype"),
    [
        ("positive", "negative", "negative", "HR+/HER2-"),
        ("negative", "positive", "negative", "HR+/HER2-"),
        ("positive", "positive", "positive", "HR+/HER2+"),
        ("negative", "negative", "positive", "HR-/HER2+"),
        ("negative", "negative", "negative", "triple-negative"),
    ],
)
def test_subtype_follows_from_the_receptors(er, pr, her2, subtype, cohort):
    patients = cohort.patients.head(1).assign(er=er, pr=pr, her2=her2)
    assert simulated_reference_patients(patients)["subtype"].tolist() == [subtype]


def test_other_histology_is_left_out_of_ductal_against_lobular(cohort):
    patients = cohort.patients.head(3).assign(histology=["ductal", "lobular", "other"])
    told = simulated_reference_patients(patients)["histology"]
    assert told[:2].tolist() == ["ductal", "lobular"] and told.isna()[2]


def test_every_row_of_the_sheet_has_its_simulated_one_beside_it(beside):
    reference = read_duke_reference()
    assert tuple(beside.columns) == BESIDE_COLUMNS
    known = reference[reference["variable"] != "multivariable model"].reset_index(drop=True)
    pd.testing.assert_frame_equal(beside[NAMES], known[NAMES])
    assert (beside["n_simulated"] > 0).all()
    for theirs, ours in {"share": "share", "or_univariable": "odds_ratio", "or_multivariable": "adjusted"}.items():
        np.testing.assert_array_equal(beside[f"{ours}_duke"], known[theirs])
    np.testing.assert_array_equal(beside["adjusted_low_duke"], known["low_m"])
    np.testing.assert_array_equal(beside["high_duke"], known["high"])


def test_the_simulated_side_is_counted_in_the_patients(beside, cohort):
    operated = cohort.known("aln_metastasis")
    prevalence = row(beside, "aln_metastasis", "prevalence", "positive")
    assert prevalence["n_simulated"] == len(operated) == 1200
    assert prevalence["share_simulated"] == pytest.approx(operated["aln_metastasis"].mean(), abs=6e-4)
    assert row(beside, "apcr", "prevalence", "positive")["n_simulated"] == 300
    a, b = ((operated["her2"] == "positive") & (operated["aln_metastasis"] == value) for value in (1, 0))
    c, d = ((operated["her2"] == "negative") & (operated["aln_metastasis"] == value) for value in (1, 0))
    found = row(beside, "aln_metastasis", "HER2", "positive")
    assert found["odds_ratio_simulated"] == pytest.approx(a.sum() * d.sum() / (b.sum() * c.sum()), abs=6e-4)
    for whose in ("simulated", "duke"):
        for middle, low, high in (("odds_ratio", "low", "high"), ("adjusted", "adjusted_low", "adjusted_high")):
            three = beside[[f"{name}_{whose}" for name in (low, middle, high)]].dropna().to_numpy()
            assert len(three) >= 10
            assert (np.diff(three, axis=1) > 0).all()


def test_a_cohort_where_a_level_does_not_occur_keeps_the_row(cohort):
    """Nobody at cT3: the level has share 0 and no odds ratio, and every other row stands."""
    patients = cohort.patients.assign(ct=cohort.patients["ct"].replace({"T3": "T2"}))
    table = beside_duke(replace(cohort, patients=patients), SPEC)
    largest = row(table, "aln_metastasis", "cT", "T3-T4")
    assert largest["share_simulated"] == 0 and np.isnan(largest["odds_ratio_simulated"])
    assert len(table) == len(beside_duke(cohort, SPEC))


def test_a_cohort_without_treated_patients_leaves_their_rows_empty(cohort):
    """n_neoadjuvant = 0 is a recipe that `SimulationSpec` accepts."""
    table = beside_duke(replace(cohort, patients=cohort.patients[cohort.patients["apcr"].isna()]), SPEC)
    treated = table[table["endpoint"] == "apcr"]
    assert len(treated) and treated["odds_ratio_simulated"].isna().all()
    assert table.loc[table["endpoint"] == "aln_metastasis", "odds_ratio_simulated"].notna().any()


def test_the_model_is_shown_beside_its_cohort(beside):
    """The model's own odds ratios stand for any cohort drawn from it: within four standard errors of this one's."""
    both = beside.dropna(subset=["low_simulated", "low_model"])
    error = np.log(both["high_simulated"] / both["low_simulated"]) / 3.92
    off_by = np.log(both["odds_ratio_simulated"] / both["odds_ratio_model"]) / error
    assert len(both) > 20 and (off_by.abs() < 4).all()
    assert (both["n_model"] > 5 * both["n_simulated"]).all()
