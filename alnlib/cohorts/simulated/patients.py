"""Who the simulated patients are: hidden biology, clinical variables, axillary status, what images will show, what readers say.

Pixels are made in `ultrasound`; the attainable AUC of this model is computed in `truth`.

The model, in the order in which a patient is drawn (every N is standard normal and independent unless said otherwise):

    proliferation P ~ N    hidden; drives grade, Ki-67, receptors, histology, a little of size and vascular invasion
    invasiveness  Z ~ N    hidden; raises nodal risk beyond everything clinical, and shapes what images show
    clinical x | P         see `draw_clinical`
    aln_metastasis         Bernoulli(sigmoid(intercept + signal_clinical * sum(log odds ratio * x) + zeta * Z))
    nodal burden g ~ N     given the status: number of positive nodes, and half of the variance of what readers see
    trait t                s w Z + sqrt(1 - s^2 w^2) N, per image trait: w its loading, s the modality's signal
    shown size v           s w u + sqrt(1 - s^2 w^2) N, u = standardized log tumor size

With s = 0 images are unrelated to the patient, their lesion's size included. A further modality adds its own loadings
on Z (and hidden variables of its own); as long as its traits are linear in Z, `truth` needs no new mathematics.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.optimize import brentq
from scipy.special import expit, ndtr, ndtri

from alnlib.cohorts.schema import ClinicalVariable
from alnlib.cohorts.simulated.specification import SimulationSpec
from alnlib.cohorts.simulated.ultrasound import TRAITS


@dataclass(frozen=True)
class NodalOdds:
    """One term of the nodal logistic model: the odds ratio for `per`, and where it comes from."""

    term: str
    per: str
    odds_ratio: float
    source: str


NODAL_ODDS = (
    NodalOdds(
        "log2_size", "doubling of tumour size", 2.10, "Carter 1989: 2.1 for each doubling, from its table, unadjusted"
    ),
    NodalOdds(
        "lvi", "lymphovascular invasion present", 3.40, "direction: Viale 2005, Bevilacqua 2007; value: our choice"
    ),
    NodalOdds("grade", "one grade", 1.35, "direction: Ningbo series; value: our choice"),
    NodalOdds("age_decade", "ten years of age", 0.80, "direction: Bevilacqua 2007; value: our choice"),
    NodalOdds("er", "estrogen receptor positive", 1.40, "direction: Bevilacqua 2007; value: our choice"),
    NodalOdds("her2", "HER2 positive", 1.35, "direction: Chen 2020; value: our choice"),
    NodalOdds("log2_ki67", "doubling of Ki-67", 1.20, "direction: Chen 2020; value: our choice"),
)
"""Odds ratios of axillary metastasis, each given all other terms and the hidden Z.

A regression that cannot see Z finds them nearer 1 (odds ratios do not collapse): by its logarithm about three quarters.

Carter, Allen & Henson 1989, Cancer 63:181: node-positive 33.2 % at 1.0-1.9 cm, 44.9 % at 2.0-2.9 cm and 55.2 % at
3.0-3.9 cm, that is an odds ratio of about 2.1 for each doubling. Viale et al. 2005, Cancer 103:492 (4,351 patients)
and Bevilacqua et al. 2007, J Clin Oncol 25:3670 (3,786 patients, AUC 0.754 on validation) have size, vascular
invasion, receptors and (Bevilacqua) age as independent predictors; a series from Ningbo (417 patients, PMC5584843) has
age, size and grade; Chen et al. 2020, Cancer Manag Res 12:10439 (2,705 patients) also HER2 and Ki-67.
"""

INVASIVENESS_LOG_ODDS = 1.45
"""Log odds of metastasis for one standard deviation of the hidden invasiveness Z. Our choice: puts ultrasound near AUC 0.78."""

TARGET_PREVALENCE = 0.35

ULTRASOUND_LOADINGS = {
    "irregularity": 0.80,
    "shadowing": 0.80,
    "hypoechogenicity": 0.75,
    "halo": 0.60,
    "heterogeneity": 0.55,
    "orientation": 0.50,
    "size": 0.90,
}
"""Correlation of each trait with Z (size: with standardized log tumour size) at signal 1. Our choice: a few strongly coupled
traits, so that a small network has something to find, and none perfect. Irregular margin, shadow, halo and a tall
shape are
malignant features in BI-RADS; that they also mark nodal risk this strongly is an assumption of the simulation."""

CENTRE_CODES = {"primary": 0, "external": 1}
SIZE_MEDIAN_MM = 20.0
SIZE_LOG_SD = 0.42
SIZE_RANGE_MM = (4, 90)
SIZE_SHIFT = {"primary": 0.0, "external": 0.10}
SIZE_PROLIFERATION = 0.25
AGE = {"primary": (55.0, 11.5), "external": (58.0, 11.0)}
AGE_RANGE = (25, 88)
GRADE_LOADING = 0.75
GRADE_CUTS = (float(ndtri(0.22)), float(ndtri(0.70)))
KI67_MEDIAN = 20.0
KI67_LOG_SD = 0.75
KI67_LOADING = 0.80
KI67_RANGE = (1, 95)
LUMINAL_B_KI67 = 20

CLINICAL = {
    "age": ClinicalVariable("Age", "continuous", "years"),
    "menopause": ClinicalVariable("Menopausal status", "nominal", None, ("premenopausal", "postmenopausal")),
    "ct": ClinicalVariable("Clinical T stage", "ordinal", None, ("T1", "T2", "T3")),
    "size_mm": ClinicalVariable("Tumor size", "continuous", "mm"),
    "histology": ClinicalVariable("Histologic type", "nominal", None, ("ductal", "lobular", "other")),
    "grade": ClinicalVariable("Histologic grade", "ordinal", None, ("G1", "G2", "G3")),
    "er": ClinicalVariable("Estrogen receptor", "nominal", None, ("negative", "positive")),
    "pr": ClinicalVariable("Progesterone receptor", "nominal", None, ("negative", "positive")),
    "her2": ClinicalVariable("HER2", "nominal", None, ("negative", "positive")),
    "ki67_percent": ClinicalVariable("Ki-67", "continuous", "%"),
    "subtype": ClinicalVariable(
        "Molecular subtype", "nominal", None, ("luminal A", "luminal B", "HER2-positive", "triple-negative")
    ),
    "lvi": ClinicalVariable("Lymphovascular invasion (core biopsy)", "nominal", None, ("absent", "present")),
}

READER_SKILL = {"reader_a": 0.78, "reader_b": 0.73, "reader_c": 0.67}
"""AUC of each reader's impression of the axilla before it is rounded to five grades. Our choice; the five readers in
Zhou 2020 (Radiology 294:19) were near 0.7."""

READER_CASE_VARIANCE = 0.5
READER_CUTS = (0.0, 0.7, 1.3, 1.9)


def standardized_log_size(size_mm: np.ndarray) -> np.ndarray:
    """u: standard normal (at the primary centre, apart from rounding)."""
    return np.log(size_mm / SIZE_MEDIAN_MM) / SIZE_LOG_SD


def log_size_given_proliferation(proliferation: np.ndarray, centre: str) -> tuple[np.ndarray, float]:
    """Mean and standard deviation of the natural logarithm of the size in mm."""
    mean = np.log(SIZE_MEDIAN_MM) + SIZE_SHIFT[centre] + SIZE_LOG_SD * SIZE_PROLIFERATION * proliferation
    return mean, SIZE_LOG_SD * float(np.sqrt(1.0 - SIZE_PROLIFERATION**2))


def log_ki67_given_proliferation(proliferation: np.ndarray) -> tuple[np.ndarray, float]:
    """Mean and standard deviation of the natural logarithm of Ki-67 in percent."""
    mean = np.log(KI67_MEDIAN) + KI67_LOG_SD * KI67_LOADING * proliferation
    return mean, KI67_LOG_SD * float(np.sqrt(1.0 - KI67_LOADING**2))


def er_probability(proliferation: np.ndarray, age: np.ndarray) -> np.ndarray:
    """Probability that the estrogen receptor is positive."""
    return expit(1.6 - 1.0 * proliferation + 0.02 * (age - 55.0))


def pr_probability(proliferation: np.ndarray, er: np.ndarray) -> np.ndarray:
    """Probability that the progesterone receptor is positive."""
    return np.where(er == 1, expit(1.7 - 0.4 * proliferation), 0.05)


def her2_probability(proliferation: np.ndarray) -> np.ndarray:
    """Probability that HER2 is positive."""
    return expit(-1.9 + 0.45 * proliferation)


def lobular_probability(proliferation: np.ndarray) -> np.ndarray:
    """Probability of lobular type."""
    return expit(-2.0 - 0.5 * proliferation)


def lvi_probability(proliferation: np.ndarray, size_score: np.ndarray) -> np.ndarray:
    """Probability of lymphovascular invasion; size_score as from `standardized_log_size`."""
    return expit(-1.0 + 0.4 * proliferation + 0.5 * size_score)


def grade_probabilities(proliferation: np.ndarray) -> np.ndarray:
    """(..., 3) probabilities of grades 1, 2, 3."""
    spread = np.sqrt(1.0 - GRADE_LOADING**2)
    low, high = (ndtr((cut - GRADE_LOADING * np.asarray(proliferation)) / spread) for cut in GRADE_CUTS)
    return np.stack([low, high - low, 1.0 - high], axis=-1)


NODAL_TERMS = tuple(odds.term for odds in NODAL_ODDS)


def nodal_terms(clinical: dict[str, np.ndarray] | pd.DataFrame) -> dict[str, np.ndarray]:
    """The centred predictors of the nodal model, one array per term.

    clinical: age, size_mm, ki67 (numbers), grade (1-3), lvi, er, her2 (0/1), complete.
    """
    return {
        "log2_size": np.log2(np.asarray(clinical["size_mm"], dtype=float) / SIZE_MEDIAN_MM),
        "lvi": np.asarray(clinical["lvi"], dtype=float),
        "grade": np.asarray(clinical["grade"], dtype=float) - 2.0,
        "age_decade": (np.asarray(clinical["age"], dtype=float) - 55.0) / 10.0,
        "er": np.asarray(clinical["er"], dtype=float),
        "her2": np.asarray(clinical["her2"], dtype=float),
        "log2_ki67": np.log2(np.asarray(clinical["ki67"], dtype=float) / KI67_MEDIAN),
    }


def nodal_coefficients(spec: SimulationSpec) -> dict[str, float]:
    """Log odds ratio per unit of each term, scaled by `signal_clinical`."""
    return {odds.term: spec.signal_clinical * float(np.log(odds.odds_ratio)) for odds in NODAL_ODDS}


def nodal_log_odds(clinical: dict[str, np.ndarray] | pd.DataFrame, spec: SimulationSpec) -> np.ndarray:
    """Log odds of metastasis at Z = 0, without the intercept."""
    terms, coefficients = nodal_terms(clinical), nodal_coefficients(spec)
    return np.sum([coefficients[term] * terms[term] for term in NODAL_TERMS], axis=0)


def nodal_intercept(spec: SimulationSpec) -> float:
    """The intercept that gives the primary centre the target prevalence (50,000 patients drawn with a fixed seed)."""
    rng = np.random.default_rng([20250101, 7])
    drawn = draw_clinical(50_000, "primary", rng)
    log_odds = nodal_log_odds(drawn, spec) + INVASIVENESS_LOG_ODDS * rng.standard_normal(50_000)
    return float(brentq(lambda value: expit(value + log_odds).mean() - TARGET_PREVALENCE, -10.0, 10.0, xtol=1e-10))


def draw_clinical(n: int, centre: str, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """n patients' clinical variables as they truly are, in numbers, with the hidden proliferation.

    age (years), menopause (1 = post), size_mm, histology (0 ductal, 1 lobular, 2 other), grade 1-3, er, pr, her2, ki67 (%), lvi.
    """
    proliferation = rng.standard_normal(n)
    mean_age, sd_age = AGE[centre]
    age = np.clip(np.rint(mean_age + sd_age * rng.standard_normal(n)), *AGE_RANGE)
    menopause = (rng.random(n) < expit((age - 50.5) / 1.6)).astype(int)
    mean, sd = log_size_given_proliferation(proliferation, centre)
    size_mm = np.clip(np.rint(np.exp(mean + sd * rng.standard_normal(n))), *SIZE_RANGE_MM)
    grade = 1 + (rng.random(n)[:, None] > np.cumsum(grade_probabilities(proliferation), axis=1)[:, :2]).sum(axis=1)
    er = (rng.random(n) < er_probability(proliferation, age)).astype(int)
    pr = (rng.random(n) < pr_probability(proliferation, er)).astype(int)
    her2 = (rng.random(n) < her2_probability(proliferation)).astype(int)
    mean, sd = log_ki67_given_proliferation(proliferation)
    ki67 = np.clip(np.rint(np.exp(mean + sd * rng.standard_normal(n))), *KI67_RANGE)
    lvi = (rng.random(n) < lvi_probability(proliferation, standardized_log_size(size_mm))).astype(int)
    lobular = rng.random(n) < lobular_probability(proliferation)
    other = rng.random(n) < 0.07
    return {
        "proliferation": proliferation,
        "age": age,
        "menopause": menopause,
        "size_mm": size_mm,
        "histology": np.where(lobular, 1, np.where(other, 2, 0)),
        "grade": grade,
        "er": er,
        "pr": pr,
        "her2": her2,
        "ki67": ki67,
        "lvi": lvi,
    }


def draw_axilla(
    clinical: dict[str, np.ndarray], intercept: float, spec: SimulationSpec, rng: np.random.Generator
) -> dict[str, np.ndarray]:
    """Hidden invasiveness, log odds, aln_metastasis (0/1), and how much disease the axilla holds.

    nodal_burden is standard normal and means something in positives only; positive_nodes is 0 in negatives.
    """
    n = clinical["age"].size
    invasiveness = rng.standard_normal(n)
    log_odds = intercept + nodal_log_odds(clinical, spec) + INVASIVENESS_LOG_ODDS * invasiveness
    metastasis = (rng.random(n) < expit(log_odds)).astype(int)
    burden = rng.standard_normal(n)
    nodes = metastasis * np.clip(1 + np.floor(np.exp(0.2 + 0.9 * burden)), 1, 30).astype(int)
    return {
        "invasiveness": invasiveness,
        "nodal_log_odds": log_odds,
        "aln_metastasis": metastasis,
        "nodal_burden": burden,
        "positive_nodes": nodes,
    }


def draw_missing(
    clinical: dict[str, np.ndarray], centre: str, spec: SimulationSpec, rng: np.random.Generator
) -> dict[str, np.ndarray]:
    """Which values are missing: <name>_missing, bool, for grade, ki67, lvi and menopause.

    Missing at random given what is always recorded (Rubin 1976, Biometrika 63:581): grade with small tumours (little
    tissue), Ki-67 at the external centre and in older patients, vascular invasion in large tumours (core biopsy only)
    and at the external centre, menopause around the age of fifty.
    """
    n = clinical["age"].size
    age, size_score = clinical["age"], standardized_log_size(clinical["size_mm"])
    external = float(centre == "external")
    chances = {
        "grade_missing": expit(-3.0 - 1.1 * size_score),
        "ki67_missing": expit(-2.6 + 1.5 * external + 0.045 * (age - 55.0)),
        "lvi_missing": expit(-2.2 + 0.7 * external + 0.6 * size_score),
        "menopause_missing": np.where(np.abs(age - 50.5) < 5.0, 0.10, 0.01),
    }
    draws = rng.random((len(chances), n))
    return {name: spec.missing_values & (draw < p) for draw, (name, p) in zip(draws, chances.items(), strict=True)}


def draw_ultrasound_traits(
    clinical: dict[str, np.ndarray], axilla: dict[str, np.ndarray], spec: SimulationSpec, rng: np.random.Generator
) -> dict[str, np.ndarray]:
    """Standard normal traits of the still, one array per name of `ultrasound.TRAITS`, prefixed `us_`."""
    n = clinical["age"].size
    drawn = {}
    for trait in TRAITS:
        shown = standardized_log_size(clinical["size_mm"]) if trait == "size" else axilla["invasiveness"]
        loading = spec.signal_ultrasound * ULTRASOUND_LOADINGS[trait]
        drawn[f"us_{trait}"] = loading * shown + np.sqrt(1.0 - loading**2) * rng.standard_normal(n)
    return drawn


def draw_readers(
    axilla: dict[str, np.ndarray], spec: SimulationSpec, rng: np.random.Generator
) -> dict[str, np.ndarray]:
    """Grades 1-5 of suspicion on axillary ultrasound, one array per reader.

    Equal-variance binormal evidence: d' = sqrt(2) * probit(AUC); half of the variance belongs to the case and is
    shared by the readers. In
    positives that shared part is the nodal burden: many nodes are easier to see.
    """
    n = axilla["aln_metastasis"].size
    positive = axilla["aln_metastasis"]
    case = np.where(positive == 1, axilla["nodal_burden"], rng.standard_normal(n))
    grades = {}
    for reader, auc in READER_SKILL.items():
        own = rng.standard_normal(n)
        evidence = reader_separation(auc, spec) * positive
        evidence = evidence + np.sqrt(READER_CASE_VARIANCE) * case + np.sqrt(1.0 - READER_CASE_VARIANCE) * own
        grades[reader] = 1 + np.searchsorted(READER_CUTS, evidence)
    return grades


def reader_separation(auc: float, spec: SimulationSpec) -> float:
    """d' of a reader whose ungraded impression has this AUC at signal 1."""
    return spec.signal_readers * float(np.sqrt(2.0) * ndtri(auc))


def recorded_patients(latent: pd.DataFrame) -> pd.DataFrame:
    """patients.csv from the latent table: level names for categories, missing where `<name>_missing`."""

    def named(column: str, first: int = 0) -> pd.Series:
        levels = CLINICAL[column].levels
        names = pd.Series([levels[int(code) - first] for code in latent[column]], index=latent.index, dtype="str")
        return names.mask(latent[f"{column}_missing"]) if f"{column}_missing" in latent else names

    size = latent["size_mm"]
    ct = np.select([size <= 20, size <= 50], ["T1", "T2"], "T3")
    return pd.DataFrame(
        {
            "patient_id": latent["patient_id"].astype("str"),
            "centre": latent["centre"].astype("str"),
            "aln_metastasis": latent["aln_metastasis"].astype("Int64"),
            "age": latent["age"].astype(float),
            "menopause": named("menopause"),
            "ct": pd.Series(ct, index=latent.index, dtype="str"),
            "size_mm": size.astype(float),
            "histology": named("histology"),
            "grade": named("grade", first=1),
            "er": named("er"),
            "pr": named("pr"),
            "her2": named("her2"),
            "ki67_percent": latent["ki67"].astype(float).mask(latent["ki67_missing"]),
            "subtype": _subtype(latent),
            "lvi": named("lvi"),
        }
    )


def _subtype(latent: pd.DataFrame) -> pd.Series:
    """St Gallen surrogate (Goldhirsch 2013, Ann Oncol 24:2206), Ki-67 cut at 20 %; missing where it hangs on a missing Ki-67."""
    hormone = (latent["er"] == 1) | (latent["pr"] == 1)
    her2 = latent["her2"] == 1
    low = latent["ki67"] < LUMINAL_B_KI67
    names = np.select(
        [hormone & ~her2 & low, hormone, her2], ["luminal A", "luminal B", "HER2-positive"], "triple-negative"
    )
    unknown = hormone & ~her2 & latent["ki67_missing"].astype(bool)
    return pd.Series(names, index=latent.index, dtype="str").mask(unknown)
