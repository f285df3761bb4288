"""Single fits of a model, rows of role member. Truth: SDs worked by hand, and that nothing else hears of them."""

from __future__ import annotations

from math import isnan

import numpy as np
import pandas as pd
import pytest
from scipy.special import logit

from alneval.audit import audit_predictions, threshold_optimism_table
from alneval.models import evaluate_predictions
from alneval.rows import main_rows, prediction_rows, seed_rows
from alneval.seeds import contrast_seed_sd, models_only, seed_spread, single_fits
from alneval.tables import ROLES, discrimination_table, read_predictions, validate_predictions
from alnlib.errors import InputError

LABELS = [0, 0, 1, 1]
AREAS = {1.0: [0.1, 0.2, 0.3, 0.4], 0.75: [0.1, 0.3, 0.2, 0.4], 0.5: [0.2, 0.3, 0.1, 0.4], 0.0: [0.4, 0.3, 0.2, 0.1]}
"""Scores of four patients, by the AUC that they have: pairs won of four."""


def rows_of(model: str, area: float, role: str = "main", split: str = "test", study: str = "mine") -> pd.DataFrame:
    patients = [f"{split}-{i}" for i in range(4)]
    return prediction_rows(study, model, split, patients, LABELS, AREAS[area], role=role)


def fits_of(model: str, *areas: float, split: str = "test") -> list[pd.DataFrame]:
    return [rows_of(f"{model}/seed {k}", area, "member", split) for k, area in enumerate(areas)]


def joined(*parts: pd.DataFrame) -> pd.DataFrame:
    return pd.concat(parts, ignore_index=True)


def test_the_spread_of_a_model_is_the_sample_sd_of_the_aucs_of_its_fits():
    """1, 0.75 and 0.5: mean 0.75, squared deviations 0.0625 + 0 + 0.0625, over 2: SD 0.25."""
    rows = joined(rows_of("net", 0.75), *fits_of("net", 1.0, 0.75, 0.5), rows_of("linear", 0.5))
    spread = seed_spread(rows)
    assert spread.to_dict("records") == [
        {"study": "mine", "model": "net", "split": "test", "auc_seed_sd": pytest.approx(0.25), "n_seeds": 3}
    ]
    table = discrimination_table(rows, rng=np.random.default_rng(0), n_bootstrap=40).set_index("model")
    assert list(table.index) == ["net", "linear"], "single fits are no models"
    assert (table.loc["net", "auc_seed_sd"], table.loc["net", "n_seeds"]) == (pytest.approx(0.25), 3)
    assert pd.isna(table.loc["linear", "auc_seed_sd"]) and pd.isna(table.loc["linear", "n_seeds"])


def test_one_fit_or_one_class_has_no_spread():
    alone = seed_spread(joined(rows_of("net", 0.75), *fits_of("net", 1.0))).iloc[0]
    assert isnan(alone["auc_seed_sd"]) and alone["n_seeds"] == 1
    rows = joined(rows_of("net", 0.75), *fits_of("net", 1.0, 0.5))
    single = seed_spread(rows[rows["y_true"] == 1]).iloc[0]
    assert isnan(single["auc_seed_sd"]) and single["n_seeds"] == 2
    assert seed_spread(rows_of("net", 0.75)).empty
    assert seed_spread(rows_of("net", 0.75).drop(columns="role")).empty, "a file without the column holds models only"


def test_the_rows_that_notebooks_write_keep_the_contract():
    """`seed_rows`: the main model is the mean logit of three fits, which stand beside it; one fit alone has none beside it."""
    logits, patients = np.random.default_rng(3).normal(size=(4, 3)), ["a", "b", "c", "d"]
    rows = seed_rows("mine", "net", "test", patients, LABELS, logits)
    assert validate_predictions(rows) == [] and seed_spread(rows)["n_seeds"].tolist() == [3]
    fits = logit(single_fits(rows).pivot(index="patient_id", columns="seed", values="y_score"))
    np.testing.assert_allclose(logit(models_only(rows)["y_score"]), fits.mean(axis=1))
    assert seed_spread(seed_rows("mine", "net", "test", patients, LABELS, logits[:, :1])).empty


def test_a_model_whose_name_looks_like_a_fit_is_one_only_by_its_role():
    rows = joined(rows_of("net", 0.75), rows_of("net/seed 1", 1.0, "candidate"))
    assert seed_spread(rows).empty and len(models_only(rows)) == 8 and single_fits(rows).empty


def test_a_contrast_pairs_seed_with_seed():
    """Seeds 0, 1 and 2: 1 - 0.5, 0.5 - 1 and 0.75 - 0.75, SD 0.5; were they sorted apart, it would be 0."""
    rows = joined(
        *(rows_of("a", 1.0), rows_of("b", 0.75)), *fits_of("a", 1.0, 0.5, 0.75), *fits_of("b", 0.5, 1.0, 0.75)
    )
    assert contrast_seed_sd(rows, [("a", "test"), ("b", "test")]) == pytest.approx(0.5)
    assert contrast_seed_sd(rows, [("a", "test")]) == pytest.approx(0.25)


def test_a_side_without_fits_stays_as_it_is_and_no_common_seed_is_no_spread():
    rows = joined(rows_of("a", 1.0), rows_of("b", 0.75), *fits_of("a", 1.0, 0.5))
    apart = joined(rows, rows_of("b/seed 7", 1.0, "member"), rows_of("b/seed 8", 0.5, "member"))
    sides = [("a", "test"), ("b", "test")]
    assert (
        contrast_seed_sd(rows, sides) == contrast_seed_sd(rows, sides[::-1]) == pytest.approx(np.std([1, 0.5], ddof=1))
    )
    assert isnan(contrast_seed_sd(apart, sides)), "seed 0 of one was never paired with seed 7 of the other"
    assert isnan(contrast_seed_sd(rows, [("b", "test")]))


def test_a_contrast_counts_the_units_that_both_scored():
    """Without the fourth patient 1, 0.75 and 0.5 become 2, 1 and 0 of the two pairs left: SD 0.5."""
    rows = joined(rows_of("a", 1.0), rows_of("b", 0.75).iloc[:3], *fits_of("a", 1.0, 0.75, 0.5))
    assert contrast_seed_sd(rows, [("a", "test"), ("b", "test")]) == pytest.approx(0.5)


def test_training_less_test_is_of_one_fit_on_other_patients():
    rows = joined(
        *(rows_of("a", 1.0, split="train"), rows_of("a", 0.5)),
        *fits_of("a", 1.0, 0.75, split="train"),
        *fits_of("a", 0.5, 0.75),
    )
    assert contrast_seed_sd(rows, [("a", "train"), ("a", "test")]) == pytest.approx(np.std([0.5, 0.0], ddof=1))


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ([rows_of("net", 0.75), rows_of("net seed 0", 1.0, "member")], "no model and seed"),
        ([rows_of("net", 0.75), rows_of("net/seed one", 1.0, "member")], "no model and seed"),
        ([rows_of("net", 0.75), *fits_of("other", 1.0)], "no main model"),
        ([rows_of("net", 0.75, "candidate"), *fits_of("net", 1.0)], "no main model"),
        ([rows_of("net", 0.75, study="yours"), *fits_of("net", 1.0)], "no main model"),
        (fits_of("net", 1.0), "no main model"),
        ([rows_of("net", 0.75), *fits_of("net", 1.0, split="external")], "not by its main model"),
    ],
)
def test_a_member_belongs_to_a_main_model_of_its_study(parts, message):
    found = validate_predictions(joined(*parts))
    assert {problem.message for problem in found} == {p.message for p in found if message in p.message} and found


def test_files_with_members_are_read_and_an_orphan_is_told_once_with_its_row(tmp_path):
    assert "member" in ROLES
    good = joined(rows_of("net", 0.75), *fits_of("net", 1.0, 0.5))
    good[good["role"] == "main"].to_csv(tmp_path / "main.csv", index=False)
    good[good["role"] == "member"].to_csv(tmp_path / "fits.csv", index=False)
    assert len(read_predictions([tmp_path / "fits.csv", tmp_path / "main.csv"])) == 12
    with pytest.raises(InputError) as caught:
        read_predictions(tmp_path / "fits.csv")
    assert [(problem.row, problem.column) for problem in caught.value.problems] == [(2, "model"), (6, "model")]


@pytest.fixture(scope="module")
def with_and_without() -> tuple[pd.DataFrame, pd.DataFrame]:
    """Two models on validation and test; one has three fits, of which one is far better, so that it would be noticed."""
    rng, parts = np.random.default_rng(5), []
    for split in ("validation", "test"):
        patients, y = [f"{split}-{i}" for i in range(60)], (rng.random(60) < 0.4).astype(int)
        models = {"clinical": ("main", 0.5), "net": ("main", 1.0)}
        models |= {f"net/seed {k}": ("member", d) for k, d in enumerate((0.8, 1.0, 6.0))}
        for name, (role, d) in models.items():
            score = 1 / (1 + np.exp(-d * (y - 0.5) - rng.normal(size=60)))
            parts.append(prediction_rows("mine", name, split, patients, y, score, role=role))
    rows = pd.concat(parts, ignore_index=True)
    return rows, models_only(rows).reset_index(drop=True)


def test_an_evaluation_differs_by_the_spread_alone(with_and_without):
    """Every table, curve and warning, whoever made the file."""
    rows, without = with_and_without
    ours, theirs = (evaluate_predictions(each, n_bootstrap=40) for each in (rows, without))
    for name in ("judged", "curves", "comparisons", "reclassification", "calibration", "recalibration", "prevalence"):
        pd.testing.assert_frame_equal(getattr(ours, name), getattr(theirs, name))
    assert ours.warnings == theirs.warnings and str(ours) == str(theirs)
    assert list(ours.bands) == list(theirs.bands) and list(ours.decision_curves) == list(theirs.decision_curves)
    spread = ["auc_seed_sd", "n_seeds"]
    pd.testing.assert_frame_equal(ours.discrimination.drop(columns=spread), theirs.discrimination.drop(columns=spread))
    assert ours.discrimination.query("model == 'net'")["n_seeds"].tolist() == [3, 3]
    assert theirs.discrimination[spread].isna().all(axis=None)


def test_audits_and_main_rows_know_models_alone(with_and_without):
    rows, without = with_and_without
    assert set(main_rows(rows)["model"]) == {"clinical", "net"}
    for made in (audit_predictions, threshold_optimism_table):
        assert len(made(rows)) == len(made(without)) > 0
