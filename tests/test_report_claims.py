"""The five studies' claims as data, and the ledger that sets them beside a run.

Truth: the abstracts for published facts, `alneval` (tested against R elsewhere) for differences, and verdicts
worked by hand from the rule.
"""

from __future__ import annotations

import matplotlib

matplotlib.use("Agg")

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt
from scipy import stats

from alneval.curves import weighted_auc
from alneval.delong import auc_difference
from alneval.estimate import difference
from alneval.multiplicity import holm
from alneval.rows import prediction_rows, recovered_share
from alneval.style import ATTAINABLE
from alneval.tables import discrimination_table
from alneval.units import Units
from alnlib.paths import repository_root
from alnlib.pipeline.stages import STAGES
from alnlib.report.claims import (
    LEDGER_COLUMNS,
    MARGIN,
    POPULATION_COLUMNS,
    RULES,
    VERDICTS,
    against_comparators,
    beside_population,
    claims_figure,
    claims_ledger,
    ledger_numbers,
    patients_needed,
    plot_claims,
    readable_claims,
    verdict_of,
)
from alnlib.report.facts import claim_verdicts
from alnlib.report.story import short_story, story
from alnlib.studies import (
    CLAIM_KINDS,
    METRIC_NAMES,
    SHOWN_TO,
    STUDIES,
    Claim,
    published_difference,
    published_value,
    shown_to,
)

HERE = {
    "tang": {"clinical": 0.6, "DL_US": 0.9, "DL_MRI": 0.9, "DL_MRI+US": 1.3, "DL_MRI+US+Clinical": 1.8},
    "park": {
        "CT_FSC": 1.6,
        "CT_ASC": 1.6,
        "CT_FSC+ASC": 2.0,
        **{
            f"CT_{crop}/{net}": 1.2 for crop in ("FSC", "ASC") for net in ("densenet121", "resnet18", "efficientnet_b0")
        },
    },
    "li_video": {"TIN": 1.8, "R(2+1)D": 1.5, "ResNet-3D": 1.5, "static image": 1.0},
    "guo": {"radiomics-LR": 1.0, "radiomics-MLP": 1.0, "DL-MLP": 0.9, "combined-MLP": 1.6, "radiomics/KNN": 0.9},
    "li_nat": {"clinical": 0.7, "radiomics": 1.5, "deep learning": 1.5, "DLR": 1.6},
}
"""{study: {model here: how far it tells the classes apart}}"""


def rows_of(study: str, models: dict[str, float], split: str, n: int, units: int = 1) -> pd.DataFrame:
    rng = np.random.default_rng([n, len(split), len(study)])
    patients = np.repeat([f"{study}-{split}-{i}" for i in range(n)], units)
    ids = [f"{patient}-{i % units}" for i, patient in enumerate(patients)]
    y = (rng.random(patients.size) < 0.4).astype(int)
    alike = np.repeat(rng.normal(size=n), units)
    parts = []
    for model, d in models.items():
        score = stats.norm.cdf(d * (y - 0.5) + 0.6 * alike + 0.8 * rng.normal(size=y.size))
        parts.append(prediction_rows(study, model, split, pd.Series(patients), y, score, unit_id=pd.Series(ids)))
    return pd.concat(parts, ignore_index=True)


@pytest.fixture(scope="module")
def predictions() -> pd.DataFrame:
    """Every model of every study on training, internal and external test; CT nodes come two per patient."""
    parts = [
        rows_of(study, models, split, n, units=2 if study == "park" else 1)
        for study, models in HERE.items()
        for split, n in (("train", 160), ("test", 90), ("external", 70))
        if not (study == "li_nat" and split == "external")
    ]
    return pd.concat(parts, ignore_index=True)


@pytest.fixture(scope="module")
def discrimination(predictions) -> pd.DataFrame:
    return discrimination_table(predictions, rng=np.random.default_rng(1), n_bootstrap=50)


TRUTH = pd.DataFrame(
    [
        ("ct_nodes", "primary", 0.97),
        ("ct_nodes_fixed_size", "primary", 0.97),
        ("ct_nodes_adjustable_square", "primary", 0.94),
        ("clinical", "external", 0.72),
        ("clinical_ultrasound_mri", "external", 0.85),
        ("response_clinical", "primary", 0.67),
        ("response_clinical_mri_longitudinal", "primary", 0.85),
        ("response_mri_longitudinal", "primary", 0.82),
    ],
    columns=["modality", "center", "attainable_auc"],
)


def ledger_of(predictions, discrimination, provenance="simulated", truth=TRUTH, **options) -> pd.DataFrame:
    return claims_ledger(
        predictions,
        discrimination,
        cohort="Patients of a test",
        provenance=provenance,
        rng=np.random.default_rng(3),
        truth=truth,
        n_bootstrap=200,
        **options,
    )


@pytest.fixture(scope="module")
def ledger(predictions, discrimination) -> pd.DataFrame:
    return ledger_of(predictions, discrimination)


def row_of(ledger: pd.DataFrame, study: str, claim: str, split: str = "test") -> pd.Series:
    found = ledger[(ledger["study"] == study) & (ledger["claim"] == claim) & (ledger["split"] == split)]
    assert len(found) == 1, f"{study}: {claim}, {split}"
    return found.iloc[0]


# --- the studies as data ------------------------------------------------------------------------------------------


def test_li_2026_calls_its_held_out_patients_validation_and_here_they_are_test():
    """Abstract of Li 2026: 144 training, 110 validation; DLR 0.939 (0.905-0.974), 0.856 (0.774-0.938); 0.083 (0.0019-0.1786)."""
    assert STUDIES["li_nat"].split_names["test"] == "validation"
    assert STUDIES["li_nat"].n == {"training": 144, "validation": 110}
    found = published_value("li_nat", "DLR", "test")
    assert (found.value, found.low, found.high) == (0.856, 0.774, 0.938)
    assert published_value("li_nat", "DLR", "validation") is None
    optimism = next(claim for claim in STUDIES["li_nat"].claims if claim.kind == "optimism")
    assert (optimism.difference, optimism.low, optimism.high, optimism.p) == (0.083, 0.0019, 0.1786, "0.043")
    held = {(claim.worse, claim.kind, claim.p) for claim in STUDIES["li_nat"].claims if claim.worse}
    assert held == {
        ("clinical", "better", "< 0.0001"),
        ("radiomics", "not different", None),
        ("deep learning", "not different", None),
    }
    assert STUDIES["li_video"].split_names["external"] == "test B" and not STUDIES["guo"].split_names


@pytest.mark.parametrize(
    ("study", "better", "worse", "difference"),
    [
        ("park", "DenseNet121 FSC+ASC", "DenseNet121 FSC", 0.968 - 0.934),
        ("li_video", "TIN", "static image", 0.914 - 0.856),
        ("guo", "combined-MLP", "radiomics-LR", 0.846 - 0.759),
        ("guo", "combined-MLP", "DL-MLP", 0.846 - 0.712),
        ("tang", "DL_MRI+US+Clinical", "DL_US", None),
        ("li_nat", "DLR", "clinical", None),
    ],
)
def test_a_published_difference_follows_from_published_values_or_is_not_available(study, better, worse, difference):
    claim = next(c for c in STUDIES[study].claims if (c.better, c.worse, c.split) == (better, worse, "test"))
    found = published_difference(study, claim)
    if difference is None:
        assert found is None
    else:
        assert found.value == pytest.approx(difference) and found.low is None, "no interval follows from two values"


def test_the_video_claim_stays_first_with_its_printed_p():
    """Notebook 23 prints the p of the first claim of this study beside its own difference."""
    first = STUDIES["li_video"].claims[0]
    assert (first.better, first.worse, first.p) == ("TIN", "static image", "< 0.05")


def test_every_claim_names_models_of_its_study_a_maker_a_kind_and_says_it_in_words():
    for study in STUDIES.values():
        assert len({(c.sides, c.metric, c.kind) for c in study.claims}) == len(study.claims), "twice"
        for claim in study.claims:
            assert all(study.model(name) for name, _ in claim.sides)
            assert claim.kind in CLAIM_KINDS and claim.metric in METRIC_NAMES and claim.sentence
        assert {c.kind == "level" for c in study.claims} == {True, False}
        assert {model.notebook for model in study.models} <= {stage.notebook for stage in STAGES}


def test_a_claim_that_makes_no_sense_is_refused():
    with pytest.raises(ValueError, match="kind"):
        Claim("a", "b", "test", kind="worse")
    with pytest.raises(ValueError, match="second model"):
        Claim("a", None, "test")
    with pytest.raises(ValueError, match="second model"):
        Claim("a", "b", "test", kind="optimism")


def test_what_a_clinical_model_is_shown_depends_on_its_study():
    assert shown_to("tang", "clinical") == "clinical"
    assert shown_to("li_nat", "clinical") == "response_clinical"
    assert shown_to("park", "CT_FSC/resnet18") == "ct_nodes_fixed_size"
    assert shown_to("guo", "radiomics/KNN") is None, "not the radiomics model of Li 2026"


def test_the_simulation_knows_the_best_auc_of_whatever_a_model_is_shown():
    truth = pd.read_csv(repository_root() / "results/simulated-demo/sources/truth.csv")
    assert set(SHOWN_TO.values()) <= set(truth["modality"])
    of_response = {what for (study, _), what in SHOWN_TO.items() if study == "li_nat"}
    assert set(truth.loc[truth["modality"].isin(of_response), "endpoint"]) == {"apcr"}


def test_recovered_share_holds_a_clinical_model_of_response_to_the_oracle_of_response():
    rows = rows_of("li_nat", {"clinical": 1.0}, "test", 60)
    oracle = rows[["patient_id", "unit_id"]].assign(modality="response_clinical", probability=rows["y_score"])
    known = {"clinical": "clinical", ("li_nat", "clinical"): "response_clinical"}
    found = recovered_share(rows, TRUTH, oracle, known)
    assert found["attainable_auc"].tolist() == [0.67] and found["behind_oracle"].tolist() == [0.0]


# --- the rule -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "low", "high", "published", "verdict"),
    [
        ("better", 0.01, 0.2, None, "supported"),
        ("better", 0.01, 0.02, 0.2, "supported"),  # in the claimed direction, however small
        ("better", -0.1, 0.1, 0.1, "inconclusive"),
        ("better", -0.1, 0.04, 0.1, "not supported"),  # 0.04 < 0.10 - 0.05
        ("better", -0.1, 0.06, 0.1, "inconclusive"),
        ("better", -0.2, -0.01, None, "not supported"),
        ("better", 0.0, 0.2, None, "inconclusive"),
        ("optimism", 0.01, 0.1, 0.083, "supported"),
        ("optimism", -0.05, 0.02, 0.083, "not supported"),
        ("not different", -0.04, 0.04, None, "supported"),
        ("not different", 0.01, 0.04, None, "supported"),  # told apart, by less than the margin
        ("not different", -0.3, 0.3, None, "inconclusive"),  # a large p, and no evidence at all
        ("not different", 0.01, 0.2, None, "not supported"),
        ("level", 0.81, 0.9, 0.85, "supported"),
        ("level", 0.7, 0.9, 0.85, "inconclusive"),
        ("level", 0.6, 0.79, 0.85, "not supported"),
        ("better", np.nan, np.nan, None, "cannot be tested here"),
    ],
)
def test_verdicts_worked_by_hand_with_a_margin_of_five_hundredths(kind, low, high, published, verdict):
    assert verdict_of(kind, low, high, published, margin=0.05).verdict == verdict


@pytest.mark.parametrize(
    ("kind", "low", "high", "published", "p_holm", "verdict"),
    [
        ("better", 0.01, 0.2, None, 0.049, "supported"),
        ("better", 0.01, 0.2, None, 0.051, "inconclusive"),
        ("better", -0.2, -0.01, None, 0.3, "inconclusive"),
        ("better", -0.2, -0.01, None, 0.01, "not supported"),
        ("better", -0.2, -0.01, 0.1, 0.3, "not supported"),  # too far below what was published, whatever p says of zero
        ("better", -0.1, 0.1, None, 0.9, "inconclusive"),
        ("optimism", 0.01, 0.1, 0.083, 0.2, "inconclusive"),
        ("not different", -0.04, 0.04, None, 0.2, "inconclusive"),
        ("not different", 0.01, 0.2, None, 0.2, "not supported"),  # p is that of equivalence
    ],
)
def test_what_rests_on_a_test_must_survive_holms_correction(kind, low, high, published, p_holm, verdict):
    found = verdict_of(kind, low, high, published, 0.05, p_holm)
    assert found.verdict == verdict
    alone = verdict_of(kind, low, high, published, 0.05)
    assert ("Holm" in found.why) == (found.verdict != alone.verdict)


def test_the_rule_covers_every_kind_and_refuses_nonsense():
    assert set(RULES) == set(CLAIM_KINDS)
    for call, words in (
        (("best", 0, 1), "kind"),
        (("better", 1, 0), "ends before"),
        (("level", 0, 1), "published"),
        (("better", 0, 1, None, 0), "margin"),
    ):
        with pytest.raises(ValueError, match=words):
            verdict_of(*call)


def test_patients_needed_give_the_power_asked_for():
    """Normal theory: at n patients with standard error SE(n) = 0.05 sqrt(60 / n), P(z > 1.96 | 0.06) is 0.8 (and 0.9)."""
    for power in (0.8, 0.9):
        n = patients_needed(60, 0.05, 0.06, power=power)
        error = 0.05 * np.sqrt(60 / n)
        assert stats.norm.sf(1.96 - 0.06 / error) == pytest.approx(power, abs=0.003)
    assert patients_needed(60, 0.05, 0.03) == pytest.approx(4 * patients_needed(60, 0.05, 0.06), rel=0.02)
    with pytest.raises(ValueError, match="difference"):
        patients_needed(60, 0.05, 0)


# --- the ledger ---------------------------------------------------------------------------------------------------


def test_with_all_models_there_every_claim_is_judged_and_carries_its_provenance(ledger):
    assert tuple(ledger.columns) == LEDGER_COLUMNS
    assert len(ledger) == sum(len(study.claims) for study in STUDIES.values())
    assert set(ledger["verdict"]) <= set(VERDICTS)
    assert set(ledger["unadjusted"]) <= set(VERDICTS) - {"cannot be tested here"}, "nothing is missing here"
    assert ledger["provenance"].eq("simulated").all() and ledger["cohort"].eq("Patients of a test").all()
    unknown = ledger["published_difference"].isna() & ledger["kind"].ne("level")
    assert ledger.loc[unknown, "published"].str.contains("not available").all() and unknown.sum() > 10
    assert ledger["margin"].eq(MARGIN).all() and ledger["why"].str.len().gt(5).all()
    for row in ledger[ledger["kind"] != "level"].itertuples():
        assert row.difference_low <= row.difference <= row.difference_high
        assert row.difference == pytest.approx(row.value - row.value_of_other)


def test_a_users_cohort_that_rebuilds_no_study_has_no_claim_and_says_so(predictions, discrimination):
    own = predictions[predictions["study"] == "tang"].assign(study="my-hospital")
    empty = ledger_of(own, discrimination, "real", None)
    assert empty.empty and list(empty.columns) == list(LEDGER_COLUMNS)
    assert readable_claims(empty).empty and against_comparators(empty).empty
    assert ledger_numbers(empty)["claims"] == 0
    assert "no claim to test" in claims_figure(empty).texts[0].get_text()
    assert story(empty, pd.DataFrame()) == "No published study is rebuilt on these patients.\n"
    assert claim_verdicts(empty) == ""


def test_a_users_cohort_has_the_claims_of_the_studies_that_it_rebuilds_and_only_those(predictions, discrimination):
    own = predictions[predictions["study"].isin(["tang", "li_video"])].replace({"study": {"tang": "my-hospital"}})
    found = ledger_of(own, discrimination, "real", None)
    assert list(found["study"].unique()) == ["li_video"]
    assert len(claims_figure(found).axes) == 1
    beside = pd.concat([predictions[predictions["study"] == "tang"], rows_of("mine", {"warmth": 1.0}, "test", 60)])
    everything = ledger_of(beside, discrimination, "real", None)
    assert list(everything["study"].unique()) == list(STUDIES), "a further study beside the five takes none away"


def test_a_contrast_is_delongs_paired_test_on_the_same_patients(ledger, predictions):
    rows = predictions.query("study == 'guo' and split == 'test'").set_index("model")
    found = auc_difference(Units.of_rows(rows.loc["combined-MLP"], rows.loc["DL-MLP"]))
    row = row_of(ledger, "guo", "combined-MLP beats DL-MLP")
    assert (row["difference"], row["difference_low"], row["difference_high"], row["p"]) == pytest.approx(
        (found.value, found.low, found.high, found.p)
    )
    assert (row["n"], row["n_patients"], row["published_difference"]) == (90, 90, pytest.approx(0.134))
    needed = patients_needed(90, found.standard_error, 0.134)
    assert row["patients_needed_approximate"] == needed


def test_nodes_of_one_patient_are_clustered_and_a_chosen_network_keeps_its_published_name(ledger, predictions):
    rows = predictions.query("study == 'park' and split == 'test'").set_index("model")
    units = Units.of_rows(rows.loc["CT_FSC+ASC"], rows.loc["CT_FSC"])
    assert units.clustered
    found = auc_difference(units)
    row = row_of(ledger, "park", "DenseNet121 FSC+ASC beats DenseNet121 FSC")
    assert (row["model"], row["other_model"]) == ("CT_FSC+ASC", "CT_FSC")
    assert (row["difference_low"], row["difference_high"]) == pytest.approx((found.low, found.high))
    assert (row["n"], row["n_patients"]) == (180, 90)
    network = row_of(ledger, "park", "DenseNet FSC beats ResNet FSC")
    assert (network["model"], network["other_model"]) == ("CT_FSC/densenet121", "CT_FSC/resnet18")


def test_optimism_is_an_unpaired_bootstrap_of_training_and_test(ledger, predictions):
    rows = predictions.query("study == 'li_nat' and model == 'DLR'").set_index("split")
    train, test = Units.of_rows(rows.loc["train"]), Units.of_rows(rows.loc["test"])
    found = difference(weighted_auc, train, test, np.random.default_rng(3), n=200)
    row = row_of(ledger, "li_nat", "DLR is better on training than on new patients")
    assert (row["difference_low"], row["difference_high"]) == pytest.approx((found.low, found.high)), "the only draw"
    assert (row["published_difference"], row["published_value"], row["published_value_of_other"]) == (
        0.083,
        0.939,
        0.856,
    )
    assert (row["n"], row["published_difference_from"], row["split_in_paper"]) == (250, "printed", "validation")


def test_holm_is_over_the_contrasts_that_can_be_tested_and_the_verdict_is_after_it(ledger):
    assert ledger["p"].notna().sum() == (ledger["kind"] != "level").sum() > 20
    testable = ledger["verdict"] != "cannot be tested here"
    np.testing.assert_allclose(ledger["p_holm"], holm(ledger["p"].astype(float).where(testable)))
    assert ledger["p_holm"].notna().sum() < ledger["p"].notna().sum()
    supported = ledger["kind"].isin(["better", "optimism"]) & ledger["verdict"].eq("supported")
    assert supported.any() and (ledger.loc[supported, "p_holm"] < 0.05).all()
    assert (ledger.loc[supported, "unadjusted"] == "supported").all()


def test_what_the_simulation_rules_out_has_its_numbers_but_no_verdict(ledger):
    """Two models of the same data, or of data with one limit, differ only in how well they learn."""
    ruled_out = ledger["verdict"] == "cannot be tested here"
    could = ledger["could_hold"]
    assert (ruled_out == (could.eq("no") | (could.eq("same data") & ledger["kind"].eq("better")))).all()
    assert ruled_out.sum() >= 5 and ledger.loc[ruled_out, "value"].notna().all()
    network = row_of(ledger, "park", "DenseNet FSC beats ResNet FSC")
    assert "shown the same data" in network["why"] and network["unadjusted"] in VERDICTS[:3]
    level = ledger[ledger["kind"].eq("level") & ledger["split"].eq("train")]
    assert level["could_hold"].eq("not known").all(), "what is attainable is no limit on patients that were learned"


def test_every_claim_is_said_in_words(ledger):
    for row in ledger.to_dict("records"):
        assert row["in_words"].startswith(row["verdict"].capitalize() + ": " + row["why"])
    row = row_of(ledger, "park", "DenseNet121 FSC+ASC beats DenseNet121 ASC")
    assert row["verdict"] == "inconclusive" and "The best possible models differ by 0.030" in row["in_words"]


def test_a_level_takes_its_interval_from_the_table_of_discrimination(ledger, discrimination):
    known = discrimination.query("study == 'li_video' and model == 'TIN' and split == 'test'").iloc[0]
    for metric in ("auc", "sensitivity", "specificity", "accuracy"):
        row = row_of(ledger, "li_video", f"TIN reaches the published {METRIC_NAMES[metric]}")
        assert (row["value"], row["value_low"]) == (known[metric], known[f"{metric}_low"])
        assert pd.isna(row["difference"]) and pd.isna(row["p"]), "ours and theirs are never subtracted"


def test_no_difference_is_only_accepted_within_the_margin(predictions, discrimination):
    """Two models with nearly the same scores are equivalent; at a hundredth of the margin the patients cannot tell."""
    near = predictions[~((predictions["study"] == "li_nat") & (predictions["model"] == "radiomics"))]
    twin = near[(near["study"] == "li_nat") & (near["model"] == "DLR")].assign(model="radiomics")
    moved = twin.assign(y_score=(twin["y_score"] + np.random.default_rng(0).normal(0, 0.02, len(twin))).clip(0, 1))
    with_twin = pd.concat([near, moved], ignore_index=True)
    for margin, verdict in ((0.05, "supported"), (0.0005, "inconclusive")):
        row = row_of(
            ledger_of(with_twin, discrimination, margin=margin, provenance="real"),
            "li_nat",
            "DLR is not told apart from radiomics",
        )
        assert row["verdict"] == verdict
        assert (row["p"] < 0.05) == (verdict == "supported"), "p goes with the interval"
    exact = pd.concat([near, twin], ignore_index=True)
    row = row_of(ledger_of(exact, discrimination), "li_nat", "DLR is not told apart from radiomics")
    assert (row["difference"], row["verdict"], row["p"]) == (0, "supported", 0)


def test_a_reversed_world_supports_nothing(predictions, discrimination):
    """With every score turned round the better models are the worse ones."""
    turned = predictions.assign(y_score=1 - predictions["y_score"])
    ledger = ledger_of(turned, discrimination, provenance="real")
    better = ledger[ledger["kind"] == "better"]
    assert not (better["verdict"] == "supported").any()
    assert (better["verdict"] == "not supported").sum() >= 5


@pytest.mark.parametrize(
    ("lost", "study", "claim", "split", "words"),
    [
        ("study == 'guo'", "guo", "combined-MLP beats DL-MLP", "test", "run 26"),
        ("study == 'li_nat'", "li_nat", "DLR beats clinical", "test", "run 27"),
        ("model == 'DL_MRI+US+Clinical'", "tang", "DL_MRI+US+Clinical beats DL_US", "test", "run 31"),
        ("model == 'DL_US'", "tang", "DL_MRI+US+Clinical beats DL_US", "external", "run 22"),
        ("split == 'external'", "tang", "DL_MRI+US+Clinical beats DL_US", "external", "has no external test patients"),
        (
            "study == 'li_nat' and split == 'train'",
            "li_nat",
            "DLR is better on training than on new patients",
            "test",
            "no training",
        ),
        ("split == 'test' and y_true == 1", "guo", "combined-MLP beats DL-MLP", "test", "one class only"),
        ("study == 'guo'", "guo", "combined-MLP reaches the published AUC", "test", "run 26"),
    ],
)
def test_what_is_not_there_cannot_be_tested_and_names_the_stage(
    predictions, discrimination, lost, study, claim, split, words
):
    left = predictions.drop(predictions.query(lost).index)
    row = row_of(ledger_of(left, discrimination), study, claim, split)
    assert row["verdict"] == "cannot be tested here" and words in row["why"]
    assert pd.isna(row["difference"]) and pd.isna(row["p"])


def test_a_missing_table_of_discrimination_leaves_the_levels_to_stage_41(predictions, discrimination):
    row = row_of(ledger_of(predictions, discrimination.iloc[:0]), "guo", "combined-MLP reaches the published AUC")
    assert (row["verdict"], row["why"]) == ("cannot be tested here", "no AUC of combined-MLP: run 41")


def test_models_of_another_endpoint_say_nothing_on_a_claim(predictions, discrimination):
    ledger = ledger_of(predictions, discrimination, endpoints={"guo": "malignant"})
    of_guo = ledger[ledger["study"] == "guo"]
    assert of_guo["verdict"].eq("cannot be tested here").all() and of_guo["difference"].isna().all()
    assert of_guo["why"].eq("the models here predict malignant, the study aln_metastasis").all()
    assert ledger.loc[ledger["study"] != "guo", "value"].notna().all()


def test_models_that_share_no_patient_or_disagree_on_one_are_not_compared(predictions, discrimination):
    other = predictions["study"].eq("guo") & predictions["model"].eq("DL-MLP")
    apart = predictions.assign(patient_id=predictions["patient_id"].where(~other, "x" + predictions["patient_id"]))
    row = row_of(ledger_of(apart, discrimination), "guo", "combined-MLP beats DL-MLP")
    assert row["verdict"] == "cannot be tested here" and pd.isna(row["p"])
    turned = predictions.assign(y_true=predictions["y_true"].where(~other, 1 - predictions["y_true"]))
    with pytest.raises(ValueError, match="disagree"):
        ledger_of(turned, discrimination)


def test_attainable_differences_say_whether_a_claim_could_hold(ledger):
    both = row_of(ledger, "park", "DenseNet121 FSC+ASC beats DenseNet121 FSC")
    assert (both["attainable_difference"], both["could_hold"]) == (0, "no")
    adjustable = row_of(ledger, "park", "DenseNet121 FSC+ASC beats DenseNet121 ASC")
    assert adjustable["attainable_difference"] == pytest.approx(0.03) and adjustable["could_hold"] == "yes"
    assert row_of(ledger, "park", "DenseNet FSC beats ResNet FSC")["could_hold"] == "same data"
    external = row_of(ledger, "tang", "DL_MRI+US+Clinical beats clinical", "external")
    assert external["attainable_difference"] == pytest.approx(0.13), "of the external center"
    assert row_of(ledger, "tang", "DL_MRI+US+Clinical beats clinical")["could_hold"] == "not known"
    response = row_of(ledger, "li_nat", "DLR beats clinical")
    assert response["attainable_of_other"] == 0.67, "of response, not of metastasis"
    assert row_of(ledger, "li_nat", "DLR is not told apart from radiomics")["could_hold"] == "yes", "0.03 < 0.05"


def test_nothing_is_attainable_in_real_patients_even_if_a_table_lies_there(predictions, discrimination):
    ledger = ledger_of(predictions, discrimination, provenance="real")
    assert ledger["could_hold"].eq("not known").all() and ledger["attainable"].isna().all()
    with pytest.raises(ValueError, match="provenance"):
        ledger_of(predictions, discrimination, provenance="synthetic")


# --- as readers see it --------------------------------------------------------------------------------------------


def test_readers_never_see_a_simulated_number_without_its_label(ledger):
    table = readable_claims(ledger)
    assert [name for name in table if "here" in name] == ["here (simulated)", "difference here (simulated)"]
    assert len(table) == len(ledger)
    shown = table.set_index(["study", "claim", "split"])
    row = shown.loc[("li_nat", "DLR beats clinical", 'internal test ("validation")')]
    assert row["published"] == "0.856 (0.774 to 0.938) against not available, difference not available"
    network = shown.loc[("park", "DenseNet FSC beats ResNet FSC", "internal test")]
    assert network["published"] == "difference not available"
    level = shown.loc[("li_nat", "DLR reaches the published AUC", "training")]
    assert level["published"] == "0.939 (0.905 to 0.974)" and level["p (Holm)"] == "-"


def test_the_figure_marks_here_published_and_attainable_and_writes_every_verdict(ledger):
    figure, ax = plt.subplots()
    part = ledger[ledger["study"] == "li_nat"]
    plot_claims(part, ax)
    contrasts = part[part["kind"] != "level"]
    written = [text.get_text() for text in ax.texts]
    assert [text for text in written if text in VERDICTS] == list(contrasts["verdict"])
    unprinted = contrasts["published_difference"].isna().sum()
    assert written.count("not printed") == unprinted == len(contrasts) - 1
    marks = {style: [line.get_xdata()[0] for line in ax.lines if line.get_marker() == style] for style in "sx"}
    attainable = [line.get_xdata()[0] for line in ax.lines if line.get_color() == ATTAINABLE]
    np.testing.assert_allclose(marks["s"], contrasts["difference"].clip(-0.4, 0.4))
    assert marks["x"] == [0.083]
    np.testing.assert_allclose(attainable, contrasts["attainable_difference"].dropna())
    assert len(ax.patches) == 2, "the margin, where no difference is claimed"
    plt.close(figure)


# --- another fit, and a fairer comparator -------------------------------------------------------------------------


def test_a_difference_says_how_far_it_moves_with_the_seed_and_nothing_else_changes(predictions, discrimination, ledger):
    of_dlr = predictions[(predictions["study"] == "li_nat") & (predictions["model"] == "DLR")]
    rng, fits = np.random.default_rng(1), []
    for k in range(3):
        score = stats.norm.cdf(stats.norm.ppf(of_dlr["y_score"].clip(0.001, 0.999)) + rng.normal(size=len(of_dlr)))
        fits.append(of_dlr.assign(model=f"DLR/seed {k}", role="member", y_score=score))
    found = ledger_of(pd.concat([predictions, *fits], ignore_index=True), discrimination)
    spread = ["auc_seed_sd", "delta_seed_sd"]
    pd.testing.assert_frame_equal(found.drop(columns=spread), ledger.drop(columns=spread))
    assert ledger[spread].isna().all(axis=None)
    tests = [Units.of_rows(fit[fit["split"] == "test"]) for fit in fits]
    aucs = [float(weighted_auc(units, np.ones((1, len(units))))[0]) for units in tests]
    expected = np.std(aucs, ddof=1)
    row = row_of(found, "li_nat", "DLR beats clinical")
    assert row["delta_seed_sd"] == pytest.approx(expected) and pd.isna(row["auc_seed_sd"]), "clinical has one fit only"
    level = row_of(found, "li_nat", "DLR reaches the published AUC")
    assert level["auc_seed_sd"] == pytest.approx(expected) and pd.isna(level["delta_seed_sd"])
    assert found["delta_seed_sd"].notna().sum() == 4, "three contrasts of DLR, and its optimism"
    shown = readable_claims(found).set_index("claim")["SD over seeds"]
    assert shown["DLR beats clinical"] == f"{expected:.3f}" and shown["combined-MLP beats DL-MLP"] == "-"


def test_better_than_clinical_is_held_to_a_fairer_clinical_model_too(predictions, discrimination, ledger):
    """Where the comparator is as good as the joint model, the published contrast stands as it was and that one falls."""
    parts = [predictions]
    for study, model in (("tang", "DL_MRI+US+Clinical"), ("li_nat", "DLR")):
        of_joint = predictions[(predictions["study"] == study) & (predictions["model"] == model)]
        parts.append(of_joint.assign(model="clinical (ridge)", role="companion"))
    found = ledger_of(pd.concat(parts, ignore_index=True), discrimination)
    own = [name for name in LEDGER_COLUMNS if "comparator" in name]
    pd.testing.assert_frame_equal(found.drop(columns=own), ledger.drop(columns=own))
    assert ledger[own].isna().all(axis=None)
    held = found[found["comparator"].notna()]
    assert held["claim"].tolist() == ["DL_MRI+US+Clinical beats clinical"] * 2 + ["DLR beats clinical"]
    assert held["comparator_difference"].eq(0).all() and held["comparator_verdict"].eq("inconclusive").all()
    assert row_of(found, "li_nat", "DLR beats clinical")["verdict"] == "supported"
    table = against_comparators(found)
    assert table["verdict against it"].tolist() == ["inconclusive"] * 3 and set(table["comparator"]) == {
        "clinical (ridge)"
    }
    assert ledger_numbers(found)["claim_li_nat_DLR_clinical (ridge)_test_difference"]["value"] == 0
    assert against_comparators(ledger).empty and list(against_comparators(ledger)) == list(table)


def test_a_comparator_of_other_patients_is_left_out(predictions, discrimination):
    others = predictions[(predictions["study"] == "li_nat") & (predictions["model"] == "DLR")]
    others = others.assign(model="clinical (ridge)", patient_id="x" + others["patient_id"])
    found = ledger_of(pd.concat([predictions, others], ignore_index=True), discrimination)
    assert found["comparator"].isna().all()


def test_a_comparator_is_shown_what_the_model_is_that_it_stands_beside():
    assert SHOWN_TO["tang", "clinical (ridge)"] == shown_to("tang", "clinical (ridge)") == "clinical"
    assert (
        shown_to("li_nat", "clinical (ridge)") == "response_clinical" and shown_to("park", "clinical (ridge)") is None
    )


# ------------------------------------------------------------------------------------------------------ the population


def on_population(predictions: pd.DataFrame) -> pd.DataFrame:
    """The ledger of 3,000 patients per study in the place of the test set."""
    fresh = pd.concat(
        rows_of(study, models, "population", 3000, units=2 if study == "park" else 1) for study, models in HERE.items()
    )
    there = pd.concat([fresh.assign(split="test"), predictions[predictions["split"] == "train"]])
    return ledger_of(there, discrimination_table(there, rng=np.random.default_rng(1), n_bootstrap=20))


@pytest.fixture(scope="module")
def beside(ledger, predictions) -> pd.DataFrame:
    return beside_population(ledger, on_population(predictions))


def test_the_ledger_beside_the_population_keeps_its_rows_and_verdicts(ledger, beside):
    assert tuple(beside.columns) == (*LEDGER_COLUMNS, *POPULATION_COLUMNS)
    unchanged = [name for name in LEDGER_COLUMNS if name != "in_words"]
    pd.testing.assert_frame_equal(beside[unchanged], ledger[unchanged])
    assert beside.loc[beside["split"] != "test", "population_verdict"].isna().all()


def test_thousands_of_patients_decide_what_a_small_test_set_left_open(ledger, beside):
    """TIN and the still differ by 0.8 standard deviations: 90 patients may not see it, 3,000 must."""
    row = row_of(beside, "li_video", "TIN beats static image")
    assert row["population_verdict"] == "supported" and row["population_n"] == 3000
    assert row["population_difference_low"] > 0
    assert row["in_words"].startswith(row_of(ledger, "li_video", "TIN beats static image")["in_words"])
    assert (
        f"3,000 units of the population the same models differ by {row['population_difference']:.3f}: supported"
        in row["in_words"]
    )
    judged = beside[beside["population_verdict"].isin(VERDICTS[:3]) & beside["kind"].ne("level")]
    widths = [judged[f"{name}_high"] - judged[f"{name}_low"] for name in ("population_difference", "difference")]
    assert (widths[0] < widths[1]).all()


def test_agreement_is_said_of_decided_claims_alone(beside):
    decided = beside["verdict"].isin(VERDICTS[:2]) & beside["population_verdict"].isin(VERDICTS[:2])
    assert (beside.loc[~decided, "population_agrees"] == "").all() and decided.any()
    same = beside["verdict"] == beside["population_verdict"]
    assert (beside.loc[decided, "population_agrees"] == np.where(same[decided], "yes", "no")).all()
    numbers = ledger_numbers(beside)
    assert numbers["claims_decided_and_on_population"] == decided.sum()
    assert numbers["claims_decided_as_on_population"] == (decided & same).sum()


def test_readers_see_the_population_in_words_and_in_the_picture(beside):
    readable = readable_claims(beside)
    shown = readable.loc[beside["population_verdict"].notna(), "population (simulated)"]
    assert shown.str.contains("supported|inconclusive|cannot").all()
    assert set(readable.loc[beside["population_verdict"].isna(), "population (simulated)"]) == {"-"}
    legend = [text.get_text() for text in claims_figure(beside).legends[0].get_texts()]
    assert any("population" in text for text in legend)


def test_the_story_has_a_paragraph_a_study_and_says_only_what_is_known(ledger, beside):
    design = pd.DataFrame(
        [("tang", "attainable", "test", 90, "this run", power, n) for power, n in ((0.3, 200), (0.5, 150))],
        columns=["study", "scenario", "split", "n_patients", "n_from", "power", "n_80"],
    )
    told = story(beside, design).strip().split("\n\n")
    assert [paragraph[:5] for paragraph in told] == [f"**{letter}. " for letter in "ABCDE"]
    level = row_of(beside, "tang", "DL_MRI+US+Clinical reaches the published AUC")
    inside = level["value_low"] <= level["population_value"] <= level["value_high"]
    assert f"{level['value']:.3f} (" in told[0] and f"{level['population_value']:.3f} (" in told[0]
    assert ("holds" if inside else "misses") in told[0]
    assert "finds the difference that is there in 40 of 100 studies" in told[0] and "for 80 it takes 175" in told[0]
    assert "a test set of 90 patients, the size here" in told[0].replace("A test", "a test")
    alone = story(ledger, design.iloc[:0])
    assert "population" not in alone and "of 100 studies" not in alone
    assert alone.count("*The paper:*") == 5


def test_the_short_story_has_the_same_paragraphs_and_numbers(beside):
    design = pd.DataFrame(
        [("tang", "attainable", "test", 90, 0.3), ("tang", "attainable", "test", 90, 0.5)],
        columns=["study", "scenario", "split", "n_patients", "power"],
    )
    told, long = (text.strip().split("\n\n") for text in (short_story(beside, design), story(beside, pd.DataFrame())))
    assert [paragraph[:5] for paragraph in told] == [f"**{letter}. " for letter in "ABCDE"]
    assert sum(map(len, told)) < 0.6 * sum(map(len, long))
    level = row_of(beside, "tang", "DL_MRI+US+Clinical reaches the published AUC")
    for name in ("published_value", "value", "population_value", "attainable"):
        assert f"{level[name]:.3f}" in told[0], name
    assert "A test set of 90 patients finds such a difference 40 of 100 times." in told[0]
    assert "of 100 times" not in told[1]


def test_of_real_patients_the_story_tells_no_truth(predictions, discrimination):
    told = story(ledger_of(predictions, discrimination, provenance="real", truth=None), pd.DataFrame())
    assert "real test patients" in told and "*The truth:*" not in told
    clinical = predictions[predictions["model"] == "clinical"]
    told = story(ledger_of(clinical, discrimination, provenance="real", truth=None), pd.DataFrame())
    assert told.count("*Here:* not scored.") == 5 and "same data" not in told
