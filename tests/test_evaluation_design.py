"""Simulated studies: their spread in closed form, power, errors of sign and size, and the claims at their published sizes."""

from __future__ import annotations

import json
from math import sqrt

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt
from scipy import stats
from scipy.special import expit

from alneval.delong import auc_difference
from alneval.design import (
    Design,
    NodeDesign,
    exact_error,
    simulated_aucs,
    spread_and_optimism,
    what_could_be_known,
    what_nodes_could_tell,
)
from alneval.sample_size import auc_variance
from alneval.units import Units
from alnlib.paths import repository_root
from alnlib.report import designs
from alnlib.studies import STUDIES

REFERENCES = json.loads((repository_root() / "tests/references/design/expected.json").read_text())["designs"]
LARGE = Design(120, 180, 0.82, 0.75, 0.6)


def of_reference(row: dict) -> Design:
    n_positive, n_negative, auc, other, correlation = row["design"]
    return Design(int(n_positive), int(n_negative), auc, other, correlation)


@pytest.mark.parametrize("row", REFERENCES, ids=lambda row: str(row["design"]))
def test_the_spread_of_simulated_differences_is_the_closed_form(row):
    """4,000 studies know a standard deviation to 1.1 %; the parametric AUC of Obuchowski & McClish varies a little less."""
    design = of_reference(row)
    true = np.array([design.auc, design.auc_of_other])
    sizes = design.n_positive, design.n_negative
    areas, _, _ = simulated_aucs(*sizes, true, design.correlation, 4000, np.random.default_rng(1))
    np.testing.assert_allclose(areas.mean(axis=0), true, atol=0.004)
    assert (areas[:, 0] - areas[:, 1]).std() == pytest.approx(exact_error(design), rel=0.04)
    assert 1.0 < exact_error(design) / row["error"] < 1.08


def test_one_auc_varies_as_hanley_and_mcneil_or_newcombe_say():
    areas, _, _ = simulated_aucs(60, 90, np.array([0.8]), 0.0, 4000, np.random.default_rng(2))
    assert areas.std() == pytest.approx(sqrt(auc_variance(150, 0.4, 0.8)), rel=0.06)


def test_two_copies_of_one_score_never_differ():
    assert exact_error(Design(40, 60, 0.8, 0.8, 0.999999)) == pytest.approx(0, abs=1e-3)


def test_power_is_that_of_a_normal_test_with_the_closed_form_where_patients_are_many():
    """The t of 119 degrees of freedom is nearly normal; 4,000 studies know a power of 0.6 to 0.008."""
    found = what_could_be_known(LARGE, np.random.default_rng(3), 4000)
    error, bar = exact_error(LARGE), stats.norm.ppf(0.975)
    expected = stats.norm.sf(bar - LARGE.difference / error)
    assert found.power == pytest.approx(expected, abs=0.03)
    assert found.width == pytest.approx(2 * bar * error, rel=0.03)
    assert found.n_80 == pytest.approx(300 * ((bar + stats.norm.ppf(0.8)) * error / LARGE.difference) ** 2, abs=1)


def test_every_simulated_study_is_tested_as_a_real_one_is():
    """The same draws through `delong.auc_difference`, one by one."""
    design = Design(15, 25, 0.85, 0.7, 0.5)
    found = what_could_be_known(design, np.random.default_rng(4), 60)
    shift = sqrt(2) * stats.norm.ppf([design.auc, design.auc_of_other])
    rng, root = np.random.default_rng(4), np.linalg.cholesky([[1, 0.5], [0.5, 1]])
    positive = rng.normal(size=(60, 15, 2)) @ root.T + shift
    negative = rng.normal(size=(60, 25, 2)) @ root.T
    y = np.repeat([1, 0], [15, 25])
    tested = [auc_difference(Units.of(y, *np.concatenate([p, n]).T)) for p, n in zip(positive, negative, strict=True)]
    assert found.power == pytest.approx(np.mean([one.p < 0.05 for one in tested]))
    assert found.width == pytest.approx(np.mean([one.high - one.low for one in tested]))


def test_one_node_per_patient_is_the_design_of_patients():
    """Within Monte Carlo error; the number of positives is not fixed there, which costs next to nothing."""
    patients = Design(40, 60, 0.85, 0.75, 0.6)
    single = NodeDesign(100, np.repeat([[1, 0], [0, 1]], [40, 60], axis=0), 0.85, 0.75, 0.6, 0.3)
    expected = what_could_be_known(patients, np.random.default_rng(14), 2000)
    found = what_nodes_could_tell(single, np.random.default_rng(15), 2000)
    assert found.power == pytest.approx(expected.power, abs=0.05)
    assert found.width == pytest.approx(expected.width, rel=0.04)
    assert found.n_80 == pytest.approx(expected.n_80, rel=0.1)


def test_nodes_of_one_patient_that_look_alike_tell_less_than_as_many_apart():
    """The spread is that of the simulated studies, and the clustered test keeps its level where nothing differs."""
    patterns = np.array([[2, 0], [3, 0], [0, 2], [1, 1], [0, 1], [0, 3]])
    apart, alike = (
        what_nodes_could_tell(NodeDesign(60, patterns, 0.88, 0.78, 0.5, value), np.random.default_rng(16), 600)
        for value in (0.0, 0.8)
    )
    assert alike.power < apart.power - 0.05 and alike.width > 1.15 * apart.width and alike.n_80 > 1.2 * apart.n_80
    nothing = what_nodes_could_tell(NodeDesign(60, patterns, 0.8, 0.8, 0.5, 0.5), np.random.default_rng(17), 1500)
    assert nothing.power == pytest.approx(0.05, abs=0.02) and np.isnan(nothing.n_80)
    study = NodeDesign(7, np.array([[1, 0], [0, 1], [0, 0]]), 0.8, 0.7, 0.5, 0.5).study(np.random.default_rng(18))
    assert min(study.holders()) >= 2, "drawn anew until it can be tested"


def test_what_is_significant_in_small_studies_is_exaggerated_and_may_point_the_wrong_way():
    small = what_could_be_known(Design(15, 25, 0.72, 0.70, 0.5), np.random.default_rng(5), 4000)
    large = what_could_be_known(Design(400, 600, 0.82, 0.70, 0.5), np.random.default_rng(5), 400)
    assert small.type_m > 5 and 0.05 < small.type_s < 0.5
    assert large.power > 0.99 and large.type_m == pytest.approx(1, abs=0.05) and large.type_s == 0
    nothing = what_could_be_known(Design(40, 60, 0.8, 0.8, 0.5), np.random.default_rng(6), 4000)
    assert nothing.power == pytest.approx(0.05, abs=0.015) and np.isnan([nothing.type_s, nothing.n_80]).all()


def test_choosing_the_best_on_the_test_set_gains_more_of_more_and_less_alike_models():
    gains = {
        (k, r): spread_and_optimism(20, 30, 0.8, np.random.default_rng(7), k, r)["optimism"]
        for k in (1, 3, 9)
        for r in (0.3, 0.9)
    }
    assert abs(gains[1, 0.3]) < 0.005
    assert gains[9, 0.3] > gains[3, 0.3] > gains[3, 0.9] > 0.005


@pytest.mark.parametrize("values", [(1, 9, 0.8, 0.7, 0.5), (9, 9, 1.0, 0.7, 0.5), (9, 9, 0.8, 0.7, 1.0)])
def test_impossible_designs_are_refused(values):
    with pytest.raises(ValueError, match="give at least 2|must lie between"):
        Design(*values)
    with pytest.raises(ValueError, match="give at least 2|must lie between"):
        NodeDesign(18, np.repeat([[1, 0], [0, 1]], values[:2], axis=0), *values[2:], 0.3)
    with pytest.raises(ValueError, match="correlate by 0 to 1"):
        NodeDesign(18, np.eye(2, dtype=int), 0.8, 0.7, 0.5, 1.2)


@pytest.fixture(scope="module")
def tables() -> dict[str, pd.DataFrame]:
    """A ledger of three claims, oracles and predictions of 400 patients whose scores correlate by 0.6 within a class."""
    rng = np.random.default_rng(8)
    y = np.arange(400) % 5 < 2
    common = {
        "kind": "better",
        "n": 100,
        "n_patients": 100,
        "n_positive": 40,
        "published_value": 0.819,
        "metric": "AUC",
    }
    beats = common | {"study": "tang", "claim": "c", "model": "DL_MRI+US+Clinical", "could_hold": "yes"}
    beats |= {"attainable": 0.86, "attainable_of_other": 0.78, "other_model": "DL_US"}
    ledger = [beats | {"split": "test"}, beats | {"split": "external"}, beats | {"split": "test", "could_hold": "no"}]
    ledger += [common | {"kind": "level", "study": "tang", "claim": "l", "split": "external"}]
    ids = [f"p{i}" for i in range(400)]
    drawn = rng.normal(size=(400, 2)) @ np.linalg.cholesky([[1, 0.6], [0.6, 1]]).T + 1.3 * y[:, None]
    oracle, predictions = [], []
    for column, (modality, model) in enumerate(
        [("clinical_ultrasound_mri", "DL_MRI+US+Clinical"), ("ultrasound", "DL_US")]
    ):
        score = expit(drawn[:, column])
        oracle.append(pd.DataFrame({"patient_id": ids, "unit_id": ids, "modality": modality, "probability": score}))
        own = pd.DataFrame(
            {
                "patient_id": ids,
                "unit_id": ids,
                "study": "tang",
                "model": model,
                "y_true": y.astype(int),
                "y_score": score,
            }
        )
        predictions += [own.assign(split=split) for split in ("test", "external")]
    return {"ledger": pd.DataFrame(ledger), "predictions": pd.concat(predictions), "oracle": pd.concat(oracle)}


def test_claims_are_simulated_at_the_published_size_or_at_this_runs(tables):
    found = designs.design_table(**tables, share=0.75, rng=np.random.default_rng(9), n_studies=200)
    assert found["scenario"].tolist() == ["attainable", "as trained"] * 2, "and not what the simulation rules out"
    assert found["n"].tolist() == [100, 100, 123, 123] and STUDIES["tang"].tested == {"external": 123}
    assert found["n_from"].tolist() == ["this run"] * 2 + ["published"] * 2
    assert found["n_positive"].tolist() == [40, 40, 49, 49], "the prevalence of this run"
    np.testing.assert_allclose(found["correlation"], 0.6, atol=0.08)
    np.testing.assert_allclose(found.loc[1, ["auc", "auc_of_other"]].astype(float), [0.77, 0.71])
    assert (found.loc[[1, 3], "power"].to_numpy() <= found.loc[[0, 2], "power"].to_numpy()).all()
    figure = designs.design_figure(found)
    assert [text.get_text() for text in figure.axes[0].get_yticklabels()] == [
        "Tang 2025: c\ninternal test, n = 100*",
        "Tang 2025: c\nexternal test, n = 123",
    ]
    plt.close(figure)
    assert designs.design_table(
        tables["ledger"].assign(could_hold="not known"),
        tables["predictions"],
        tables["oracle"],
        0.7,
        np.random.default_rng(),
    ).empty


def test_with_a_population_models_as_trained_are_what_they_are_there(tables):
    """Their AUCs, and the correlation of their scores on it: here 0, as the scores of one are shuffled within the classes."""
    rng = np.random.default_rng(12)
    fresh = tables["predictions"].query("split == 'test'").assign(split="population")
    other = fresh["model"].eq("DL_US")
    fresh.loc[other, "y_score"] = (
        fresh[other].groupby("y_true")["y_score"].transform(lambda s: rng.permutation(s.to_numpy()))
    )
    known = {"population_value": 0.83, "population_difference": 0.06}
    ledger = tables["ledger"].assign(**{name: [value, *[np.nan] * 3] for name, value in known.items()})
    predictions = pd.concat([tables["predictions"], fresh])
    options = {"share": 0.75, "rng": rng, "n_studies": 50}
    found = designs.design_table(ledger, predictions, tables["oracle"], **options)
    inside, external = found.loc[1], found.loc[3]
    assert inside["scenario"] == "as trained" and [inside["auc"], inside["auc_of_other"]] == pytest.approx([0.83, 0.77])
    assert abs(inside["correlation"]) < 0.15
    assert external["auc"] == pytest.approx(0.77) and external["correlation"] > 0.5, (
        "the population is of the other center"
    )


def test_nodes_are_drawn_with_their_patients_and_tested_by_patient(tables):
    """The same scores, two nodes to a patient whose logits share a part: 60 % of the variance."""
    ledger = tables["ledger"].head(1).assign(n=400, n_patients=200, n_positive=160)
    rng = np.random.default_rng(19)
    shared = dict(zip([f"p{i}" for i in range(200)], rng.normal(size=200), strict=True))

    def paired(rows: pd.DataFrame, score: str) -> pd.DataFrame:
        own = rows.assign(patient_id="p" + (rows["unit_id"].str[1:].astype(int) // 2).astype(str))
        drawn = np.sqrt(0.6) * own["patient_id"].map(shared) + np.sqrt(0.4) * rng.normal(size=len(own))
        column = "model" if score == "y_score" else "modality"
        label = own["unit_id"].str[1:].astype(int) % 5 < 2
        own[score] = expit(drawn + own[column].str.contains("linical") * 0.3 + 1.3 * label)
        return own

    predictions = paired(tables["predictions"].query("split == 'test'"), "y_score")
    oracle = paired(tables["oracle"], "probability")
    found = designs.design_table(ledger, predictions, oracle, 0.75, np.random.default_rng(20), n_studies=100)
    assert found[["unit", "n", "n_positive", "n_patients"]].values.tolist() == [["node", 400, 160, 200]] * 2
    scores = predictions.pivot_table(index=["patient_id", "unit_id"], columns="model", values="y_score")
    labels = predictions.drop_duplicates("unit_id").set_index(["patient_id", "unit_id"])["y_true"]
    assert designs.within_patient_correlation(scores, labels) == pytest.approx(0.6, abs=0.1)
    assert designs.within_patient_correlation(scores.groupby(level=0).head(1), labels) == 0
    assert found["power"].between(0, 1).all() and found["width"].gt(0).all()


def test_contrasts_without_patients_or_with_a_constant_score_are_left_out(tables):
    """A ledger of models that share nobody has n 0; a score that is the same for all correlates with nothing."""
    options = {"share": 0.7, "rng": np.random.default_rng(), "n_studies": 50}
    nobody = tables["ledger"].assign(n=0, n_patients=0, n_positive=0)
    assert designs.design_table(nobody, tables["predictions"], tables["oracle"], **options).empty
    assert designs.level_table(nobody, np.random.default_rng(), [3], 0.7, 50).empty
    constant = tables["predictions"].assign(y_score=0.3)
    found = designs.design_table(tables["ledger"], constant, tables["oracle"], **options)
    assert found["scenario"].unique().tolist() == ["attainable"]


def test_levels_wander_around_the_published_value(tables):
    row = designs.level_table(tables["ledger"], np.random.default_rng(10), [3, 9], 0.7, 500).iloc[0]
    assert (row["n"], row["n_from"], row["auc"]) == (123, "published", 0.819)
    assert row["low"] < 0.76 and row["high"] > 0.87 and 0 < row["optimism_of_3"] < row["optimism_of_9"]
