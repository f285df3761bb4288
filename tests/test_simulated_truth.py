"""What is known of the simulated patients: odds ratios, missing values, readers, and the attainable AUC of what images show.

Truth comes from the generative model itself: closed forms, numerical integrals, or a fresh Monte Carlo draw.
"""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from scipy.integrate import quad
from scipy.special import expit
from scipy.stats import multivariate_normal, norm, rankdata

from alnlib.errors import InputError
from alnlib.files import write_json
from alnsim import SimulationSpec, attainable_auc, oracle, read_truth, traits, truth
from alnsim import patients as model
from alnsim.build import draw_people


def oracle_score(latent, modality, spec):
    return truth.oracle_scores(latent, [modality], spec)[modality].to_numpy()


def at_signal(signal):
    return SimulationSpec(**dict.fromkeys(SimulationSpec.signals(), signal))


def auc(status: np.ndarray, score: np.ndarray) -> float:
    status = np.asarray(status) == 1
    ranks = rankdata(score)
    n_positive = status.sum()
    return float((ranks[status].sum() - n_positive * (n_positive + 1) / 2) / (n_positive * (~status).sum()))


def population(spec: SimulationSpec, n: int, seed: int, center: str = "primary") -> pd.DataFrame:
    drawn = truth.draw_population(n, center, model.nodal_intercept(spec), spec, np.random.default_rng(seed))
    flags = dict.fromkeys(("has_mri", "has_video", "has_mammography", "has_ct"), True)
    return pd.DataFrame({"patient_id": [str(i) for i in range(n)], "center": center, "group": center, **flags, **drawn})


def treated(spec: SimulationSpec, n: int, seed: int) -> pd.DataFrame:
    nodal = model.nodal_intercept(spec)
    intercept = model.response_intercept(spec, nodal)
    drawn = truth.draw_response_population(n, nodal, intercept, spec, np.random.default_rng(seed))
    return pd.DataFrame(
        {"patient_id": [str(i) for i in range(n)], "center": "primary", "group": "neoadjuvant", **drawn}
    )


def calibrated(status: pd.Series, score: np.ndarray) -> bool:
    """In each tenth of the scores the outcome is as frequent as said, within four standard errors."""
    bins = pd.qcut(score, 10, labels=False, duplicates="drop")
    rows = pd.DataFrame({"status": np.asarray(status), "score": score}).groupby(bins).mean()
    count = len(score) / 10
    spread = np.sqrt(rows["score"] * (1 - rows["score"]) / count)
    return bool((np.abs(rows["status"] - rows["score"]) < 4 * spread + 1e-3).all())


@pytest.fixture(scope="module")
def default_truth():
    return attainable_auc(SimulationSpec(), np.random.default_rng(1), 40_000)


def test_prevalence_is_as_intended():
    drawn = population(SimulationSpec(), 40_000, seed=11)
    assert drawn["aln_metastasis"].mean() == pytest.approx(model.TARGET_PREVALENCE, abs=0.01)
    assert ((drawn["positive_nodes"] > 0) == (drawn["aln_metastasis"] == 1)).all()


def test_the_written_odds_ratios_hold_in_the_patients():
    """Given everything in the model the log odds are linear: at the written values a Newton step is zero, within its error."""
    spec = SimulationSpec(missing_values=False)
    drawn = population(spec, 60_000, seed=12)
    terms = np.column_stack([*model.nodal_terms(drawn).values(), drawn["invasiveness"], np.ones(len(drawn))])
    probability = expit(drawn["nodal_log_odds"])
    score = terms.T @ (drawn["aln_metastasis"] - probability)
    information = terms.T @ (terms * (probability * (1 - probability)).to_numpy()[:, None])
    off_by = np.linalg.solve(information, score) / np.sqrt(np.diag(np.linalg.inv(information)))
    assert (np.abs(off_by) < 4).all()


def test_a_regression_that_cannot_see_the_hidden_state_finds_the_published_odds_ratios():
    """Newton's method on the seven published terms alone; Zeger 1988's attenuation is an approximation, hence 6 %."""
    drawn = population(SimulationSpec(missing_values=False), 200_000, seed=21)
    terms = np.column_stack([*model.nodal_terms(drawn).values(), np.ones(len(drawn))])
    found = logistic(terms, drawn["aln_metastasis"].to_numpy())
    for odds, value in zip(model.NODAL_ODDS, np.exp(found), strict=False):
        assert value == pytest.approx(odds.odds_ratio, rel=0.06), odds.term
    response = treated(SimulationSpec(), 120_000, seed=22)
    stage = model.t_stage(response["size_mm"]) - 2.0
    found = logistic(
        np.column_stack([response["er"], response["her2"], stage, np.ones(len(response))]), response["apcr"]
    )
    for odds, value in zip(model.RESPONSE_ODDS, np.exp(found), strict=False):
        assert value == pytest.approx(odds.odds_ratio, rel=0.08), odds.term


def logistic(design: np.ndarray, outcome: np.ndarray) -> np.ndarray:
    coefficients = np.zeros(design.shape[1])
    for _ in range(30):
        p = expit(design @ coefficients)
        coefficients += np.linalg.solve(design.T @ (design * (p * (1 - p))[:, None]), design.T @ (outcome - p))
    return coefficients


def test_patients_treated_first_are_node_positive_larger_and_more_often_her2_positive():
    first, all_patients = treated(SimulationSpec(), 20_000, seed=23), population(SimulationSpec(), 20_000, seed=24)
    assert (first["aln_metastasis"] == 1).all()
    assert first["apcr"].mean() == pytest.approx(model.TARGET_RESPONSE, abs=0.015)
    assert first["size_mm"].median() > all_patients["size_mm"].median() + 3
    assert first["her2"].mean() > all_patients["her2"].mean() + 0.05


def test_values_are_missing_but_not_completely_at_random():
    drawn = population(SimulationSpec(), 30_000, seed=13)
    external = population(SimulationSpec(), 30_000, seed=14, center="external")
    small_tumors, old = drawn["size_mm"] < 15, drawn["age"] > 65
    assert drawn["grade_missing"][small_tumors].mean() > 3 * drawn["grade_missing"][drawn["size_mm"] > 30].mean()
    assert drawn["ki67_missing"][old].mean() > 1.5 * drawn["ki67_missing"][drawn["age"] < 45].mean()
    assert external["ki67_missing"].mean() > 2 * drawn["ki67_missing"].mean()
    complete = population(SimulationSpec(missing_values=False), 2_000, seed=13)
    assert not complete.filter(like="_missing").to_numpy().any()


def test_defaults_stand_near_the_published_values(default_truth):
    """PAPERS.md: clinical variables 0.65-0.75; study A 0.819; B 0.939 and 0.968; C 0.856 and 0.914; D 0.846; E 0.856."""
    found = {name: centers["primary"].auc for name, centers in default_truth.items()}
    assert 0.65 < found["clinical"] < 0.75
    assert found["clinical_ultrasound_mri"] == pytest.approx(0.819, abs=0.05)
    assert found["ct_nodes"] == pytest.approx(0.968, abs=0.01)
    assert found["ct_nodes_adjustable_square"] == pytest.approx(0.939, abs=0.01)
    assert found["video_key_frame"] == pytest.approx(0.856, abs=0.02)
    assert found["video"] == pytest.approx(0.914, abs=0.02)
    assert found["mri_mammography"] == pytest.approx(0.846, abs=0.02)
    assert found["response_clinical_mri_longitudinal"] == pytest.approx(0.856, abs=0.02)
    assert all(known.monte_carlo_se < 0.005 for centers in default_truth.values() for known in centers.values())


def test_the_mechanisms_that_the_papers_claim_are_there(default_truth):
    """Video over still, both crops over one, two visits over either, each pair over its parts, all over every pair."""
    found = {name: centers["primary"].auc for name, centers in default_truth.items()}
    assert found["video"] > found["video_key_frame"] + 0.03 > found["ultrasound"] + 0.06
    assert found["ct_nodes_fixed_size"] > found["ct_nodes_adjustable_square"] + 0.02
    longitudinal = found["response_mri_longitudinal"]
    assert longitudinal > found["response_mri_post"] + 0.02 and found["response_mri_post"] > found["response_mri_pre"]
    for a, b in combinations(truth.SHOWN, 2):
        if (a, b) != ("ultrasound", "video"):
            assert found[f"{a}_{b}"] > max(found[a], found[b]) + 5e-4
            assert found["all"] >= found[f"{a}_{b}"]


@pytest.mark.parametrize("center", ["primary", "external"])
def test_oracles_reach_the_attainable_auc_on_fresh_patients(default_truth, center):
    """And are calibrated, which only the exact posterior is."""
    fresh = population(SimulationSpec(), 20_000, seed=15, center=center)
    scores = truth.oracle_scores(fresh, list(truth.METASTASIS), SimulationSpec())
    for modality, score in scores.items():
        known = default_truth[modality][center]
        error = known.monte_carlo_se * np.sqrt(1 + 2)  # 40,000 and 20,000 patients
        assert abs(auc(fresh["aln_metastasis"], score) - known.auc) < 3.5 * error, modality
        assert calibrated(fresh["aln_metastasis"], score), modality


def test_oracles_of_the_response_reach_the_attainable_auc_on_fresh_patients(default_truth):
    fresh = treated(SimulationSpec(), 20_000, seed=25)
    scores = truth.oracle_scores(fresh, list(truth.RESPONSE), SimulationSpec())
    for modality, score in scores.items():
        known = default_truth[modality]["primary"]
        assert abs(auc(fresh["apcr"], score) - known.auc) < 3.5 * known.monte_carlo_se * np.sqrt(2), modality
        assert calibrated(fresh["apcr"], score), modality


def test_the_oracle_of_one_node_reaches_its_closed_form():
    """Binormal traits: AUC = ndtr(d' / sqrt(2)) (Green & Swets 1966), d'^2 the sum of the squared separations."""
    rng = np.random.default_rng(26)
    labels = (rng.random(30_000) < 0.5).astype(int)
    pairs = [traits.draw_node_traits(part, SimulationSpec(), rng) for part in np.split(labels, 15_000)]
    drawn = pd.DataFrame({column: np.concatenate([pair[column] for pair in pairs]) for column in pairs[0]})
    for crop, lost in truth.NODES.items():
        score = truth.node_oracle_score(drawn, crop, SimulationSpec())
        apart = [d.strength for d in traits.NODE.drivers if d.trait not in lost]
        expected = norm.cdf(np.sqrt(np.sum(np.square(apart)) / 2))
        assert auc(labels, score) == pytest.approx(expected, abs=0.004)
    same = traits.draw_node_traits(np.zeros(2, int), SimulationSpec(), rng)
    many = np.array(
        [np.stack(list(traits.draw_node_traits(np.zeros(2, int), SimulationSpec(), rng).values())) for _ in range(2000)]
    )
    assert np.corrcoef(many[:, 0, 0], many[:, 0, 1])[0, 1] == pytest.approx(traits.NODE_ALIKE, abs=0.08)
    assert set(same) == set(traits.NODE.columns())


def test_the_likelihood_of_a_patients_nodes_is_the_sum_over_their_labels():
    """Multivariate normal densities of all traits of three nodes, written out, over the seven possible labelings."""
    spec = SimulationSpec()
    rng = np.random.default_rng(27)
    apart = np.array([driver.strength for driver in traits.NODE.drivers])
    covariance = (1 - traits.NODE_ALIKE) * np.eye(3) + traits.NODE_ALIKE
    drawn = traits.draw_node_traits(np.array([1, 0, 1]), spec, rng)
    values = np.stack([drawn[column] for column in traits.NODE.columns()], axis=1)
    q = traits.MALIGNANT_SHARE

    def density(labels):
        return np.prod(
            [multivariate_normal.pdf(values[:, j], apart[j] * labels, covariance) for j in range(len(apart))]
        )

    labelings = [np.array(labels) for labels in np.ndindex(2, 2, 2) if any(labels)]
    chances = [q ** labels.sum() * (1 - q) ** (3 - labels.sum()) / (1 - (1 - q) ** 3) for labels in labelings]
    positive = sum(chance * density(labels) for chance, labels in zip(chances, labelings, strict=True))
    counts = traits.NODE_COUNT_CHANCE[1][2] / traits.NODE_COUNT_CHANCE[0][2]
    expected = np.log(positive / density(np.zeros(3)) * counts)
    evidence = oracle.node_evidence({column: drawn[column][None, :] for column in drawn}, spec)
    assert oracle.nodes_log_likelihood_ratio(evidence, spec)[0] == pytest.approx(expected, rel=1e-9)


def test_evidence_is_what_a_joint_normal_distribution_says():
    """Conditional mean and variance of the hidden variable from the joint covariance, after mixing, for one draw."""
    spec = SimulationSpec()
    mixing = oracle.after_therapy_mixing()
    models = oracle.VISITS
    evidence = oracle.Evidence.of(models, spec, mixing)
    drivers = [driver for trait_model in models for driver in trait_model.drivers]
    columns = [column for trait_model in models for column in trait_model.columns()]
    hidden = np.array([0.0 if d.source == "size" else d.strength for d in drivers])
    size = np.array([d.strength if d.source == "size" else 0.0 for d in drivers])
    noise = np.diag(1 - hidden**2 - size**2)
    seen = mixing @ (np.outer(hidden, hidden) + noise) @ mixing.T
    rng = np.random.default_rng(28)
    x, u = rng.standard_normal(len(drivers)), 0.7
    inverse = np.linalg.inv(seen)
    mean = hidden @ mixing.T @ inverse @ (mixing @ x - mixing @ size * u)
    drawn = {column: np.array([value]) for column, value in zip(columns, x, strict=True)}
    assert evidence.hidden_mean(drawn)[0] + evidence.hidden_per_size * u == pytest.approx(mean)
    assert evidence.hidden_variance == pytest.approx(1 - hidden @ mixing.T @ inverse @ mixing @ hidden)


def test_without_signal_every_oracle_is_at_one_half():
    spec = at_signal(0.0)
    found = attainable_auc(spec, np.random.default_rng(2), 10_000)
    assert set(found) >= {*truth.METASTASIS, *truth.RESPONSE, *truth.NODES}
    for centers in found.values():
        for known in centers.values():
            assert known.auc == pytest.approx(0.5, abs=1e-9)


@pytest.mark.parametrize("modality", ["ultrasound", "video", "mri", "mammography", "ct"])
def test_a_modality_without_signal_adds_nothing(modality):
    field = f"signal_{modality}"
    spec = SimulationSpec(**{field: 0.0, **({"signal_ultrasound": 0.0} if modality == "video" else {})})
    fresh = population(spec, 3_000, seed=16)
    np.testing.assert_allclose(
        oracle_score(fresh, f"clinical_{modality}", spec), oracle_score(fresh, "clinical", spec), atol=1e-9
    )
    assert np.ptp(oracle_score(fresh, modality, spec)) < 1e-9


def test_images_without_signal_do_not_even_show_the_size():
    fresh = population(at_signal(0.0), 3_000, seed=16)
    for column in ("us_size", "mri_size", "mg_size"):
        assert abs(np.corrcoef(fresh[column], fresh["size_mm"])[0, 1]) < 0.06


def test_more_signal_is_more_attainable():
    specs = [at_signal(signal) for signal in (0.2, 0.5, 1.0)]
    found = [attainable_auc(spec, np.random.default_rng(3), 20_000) for spec in specs]
    for name in (*truth.METASTASIS, *truth.RESPONSE, *truth.NODES):
        values = [known[name]["primary"].auc for known in found]
        assert values == sorted(values) and values[-1] - values[0] > 0.05, name


def test_the_number_of_nodes_tells_what_is_said_of_it():
    """Counts drawn for 50,000 patients; without signal they say nothing."""
    status = (np.random.default_rng(30).random(50_000) < 0.35).astype(int)
    counts = traits.draw_node_counts(status, SimulationSpec(), np.random.default_rng(31))
    assert auc(status, counts) == pytest.approx(truth.node_count_auc(SimulationSpec()), abs=0.01)
    assert 0.6 < truth.node_count_auc(SimulationSpec()) < 0.75
    assert truth.node_count_auc(SimulationSpec(signal_ct=0.0)) == pytest.approx(0.5)
    assert counts.mean() == pytest.approx(1128 / 523, abs=0.03)


def test_after_therapy_alone_the_oracle_is_the_posterior_of_what_is_shown():
    """Importance sampling: what the second visit shows of one patient, weighed over 400,000 patients drawn anew."""
    spec = SimulationSpec()
    many, few = treated(spec, 400_000, seed=32), treated(spec, 6, seed=33)
    score = oracle_score(few, "response_mri_post", spec)
    mixing = oracle.after_therapy_mixing()
    columns = [column for trait_model in oracle.VISITS for column in trait_model.columns()]
    drivers = [driver for trait_model in oracle.VISITS for driver in trait_model.drivers]
    hidden = np.array([0.0 if d.source == "size" else d.strength for d in drivers])
    size = np.array([d.strength if d.source == "size" else 0.0 for d in drivers])
    noise = mixing @ np.diag(1 - hidden**2 - size**2) @ mixing.T
    u = model.standardized_log_size(many["size_mm"].to_numpy())
    mean = (np.outer(many["chemosensitivity"], hidden) + np.outer(u, size)) @ mixing.T
    for patient, said in zip(few[columns].to_numpy(), score, strict=True):
        weight = multivariate_normal.pdf(mixing @ patient - mean, cov=noise)
        effective = weight.sum() ** 2 / (weight**2).sum()
        found = np.average(many["apcr"], weights=weight)
        assert effective > 300 and abs(found - said) < 4 * np.sqrt(said * (1 - said) / effective) + 0.01


def test_no_group_no_truth():
    found = attainable_auc(SimulationSpec(n_external=0, n_neoadjuvant=0), np.random.default_rng(5), 2_000)
    assert not set(truth.RESPONSE) & set(found)
    assert all(set(centers) == {"primary"} for centers in found.values())


def test_jobs_do_not_change_the_truth():
    one, two = (attainable_auc(SimulationSpec(), np.random.default_rng(4), 2_000, n_jobs=jobs) for jobs in (1, 2))
    assert one == two


def test_the_averaged_sigmoid_is_the_integral_it_stands_for():
    marginal = oracle._MarginalSigmoid(0.4, 1.45)
    for log_odds in (-3.0, 0.3, 2.0):
        scale = 1.45 * np.sqrt(0.4)
        expected, _ = quad(lambda z, at, by: expit(at + by * z) * norm.pdf(z), -9, 9, args=(log_odds, scale))
        assert marginal(np.array([log_odds]))[0] == pytest.approx(expected, abs=1e-5)


def test_the_status_traits_add_their_log_likelihood_ratio():
    drawn = {"usv_lymphatics": np.array([0.4])}
    expected = norm.logpdf(0.4, 1.0) - norm.logpdf(0.4, 0.0)
    got = oracle.status_log_likelihood_ratio(drawn, [traits.KEY_FRAME], SimulationSpec())
    assert traits.KEY_FRAME.drivers[0].strength == 1.0 and got[0] == pytest.approx(expected)


def test_what_is_rendered_has_mean_zero_and_variance_one():
    """Physics maps +-2.5 sd, so traits are centered on the population before they become pixels."""
    drawn = population(SimulationSpec(), 30_000, seed=29)
    for trait_model in traits.IMAGES.values():
        shown = np.array(
            [traits.rendered(trait_model, row, SimulationSpec()) for row in drawn[:8000].to_dict("records")]
        )
        np.testing.assert_allclose(shown.mean(axis=0), 0.0, atol=0.06)
        np.testing.assert_allclose(shown.std(axis=0), 1.0, atol=0.05)


def test_readers_are_as_skilled_as_stated():
    spec = SimulationSpec()
    fresh = population(spec, 40_000, seed=17)
    axilla = {name: fresh[name].to_numpy() for name in ("aln_metastasis", "nodal_burden")}
    for skills in (model.READER_SKILL, model.MRI_READER_SKILL):
        grades = model.draw_readers(axilla, spec, np.random.default_rng(18), skills)
        for reader, skill in skills.items():
            assert set(grades[reader]) == {1, 2, 3, 4, 5}
            measured = auc(fresh["aln_metastasis"], grades[reader])
            assert measured == pytest.approx(truth.graded_reader_auc(skill, spec), abs=0.01)
            assert skill - 0.03 < measured < skill + 0.005, "five grades cost a reader a little"
        first, second, *_ = grades.values()
        assert np.corrcoef(first, second)[0, 1] > 0.3


def test_truth_is_read_back_as_a_table(default_truth, tmp_path):
    write_json(truth.truth_table(default_truth), tmp_path / truth.TRUTH_FILE)
    table = read_truth(tmp_path)
    assert list(table.columns) == truth.TRUTH_COLUMNS and set(table["modality"]) == set(default_truth)
    response = table[table["endpoint"] == "apcr"]
    assert set(response["modality"]) == set(truth.RESPONSE) and set(response["center"]) == {"primary"}
    assert set(table.loc[table["unit"] == "node", "modality"]) == set(truth.NODES)
    both = table[table["endpoint"] == "aln_metastasis"].groupby("modality")["center"].agg(set)
    assert both.map(lambda centers: centers == {"primary", "external"}).all()
    with pytest.raises(InputError, match="only a simulated cohort"):
        read_truth(tmp_path / "nowhere")


def test_a_cohort_scores_itself_only_where_images_are():
    spec = SimulationSpec(n_primary=30, n_external=10, n_neoadjuvant=8)
    people = draw_people(spec, seed=5)
    latent = pd.DataFrame([{"patient_id": p.patient_id, "center": p.center, **p.latent} for p in people])
    for modality, flag in (("video", "has_video"), ("mammography", "has_mammography"), ("ct", "has_ct")):
        assert (np.isfinite(oracle_score(latent, modality, spec)) == latent[flag]).all()
    operated = latent["group"] != "neoadjuvant"
    assert (np.isfinite(oracle_score(latent, "clinical", spec)) == operated).all()
    assert (np.isfinite(oracle_score(latent, "response_clinical", spec)) == ~operated).all()
    with pytest.raises(ValueError, match="expected one of"):
        oracle_score(latent, "smell", spec)


def test_oracles_of_one_cohort_reach_the_attainable_auc_within_their_interval(default_truth):
    """A cohort of the published size: the oracle's AUC, within 3.5 Hanley-McNeil standard errors (1982, Radiology 143:29)."""
    spec = SimulationSpec.full()
    people = draw_people(spec, seed=2026)
    latent = pd.DataFrame([{"patient_id": p.patient_id, "center": p.center, **p.latent} for p in people])
    for modality, score in truth.oracle_scores(latent, truth.KEPT_ORACLES, spec).items():
        outcome = "apcr" if modality in truth.RESPONSE else "aln_metastasis"
        seen = np.isfinite(score)
        status = latent.loc[seen, outcome]
        a, m, n = default_truth[modality]["primary"].auc, status.sum(), (1 - status).sum()
        variance = a * (1 - a) + (m - 1) * (a / (2 - a) - a**2) + (n - 1) * (2 * a**2 / (1 + a) - a**2)
        assert abs(auc(status, score[seen]) - a) < 3.5 * np.sqrt(variance / (m * n)), modality
