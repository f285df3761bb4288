"""Who the simulated patients are: hidden biology, clinical variables, axillary status, response to therapy, readers.

What images show of them is drawn in `traits`, pixels are made in one module per modality, and the attainable AUC of
this model is computed in `truth`.

The model in words, with sources and what is unlike reality: MODEL.md in this folder.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.optimize import brentq
from scipy.special import expit, ndtr, ndtri

from alnsim.specification import SimulationSpec


@dataclass(frozen=True)
class OddsRatio:
    """One term of a logistic model: the odds ratio for `per`, and where it comes from."""

    term: str
    per: str
    odds_ratio: float
    source: str


NODAL_ODDS = (
    OddsRatio(
        "log2_size", "doubling of tumor size", 2.10, "Carter 1989, its table; 1.06 per mm, adjusted (Br J Cancer 2004)"
    ),
    OddsRatio("lvi", "lymphovascular invasion present", 3.27, "SpringerPlus 2016, adjusted 3.27 (1.85 to 5.68), n 345"),
    OddsRatio("grade", "one grade", 1.35, "Br J Cancer 2004: grade I against III 0.55, adjusted, two equal steps"),
    OddsRatio("age_decade", "ten years of age", 0.82, "Br J Cancer 2004: 0.98 (0.97 to 0.99) per year, adjusted"),
    OddsRatio("er", "estrogen receptor positive", 1.40, "direction: Bevilacqua 2007, Crabb 2008; value: our choice"),
    OddsRatio("her2", "HER2 positive", 1.47, "Duke sheet, multivariable 1.47 (0.94 to 2.32); direction: Chen 2020"),
    OddsRatio("log2_ki67", "doubling of Ki-67", 1.20, "direction: Chen 2020; value: our choice"),
)
"""Odds ratios of axillary metastasis as a multivariable regression finds them, which cannot see the hidden Z (MODEL.md)."""

INVASIVENESS_LOG_ODDS = 1.45
"""Log odds of metastasis for one standard deviation of the hidden invasiveness Z. Our choice: puts images near the
published values."""

TARGET_PREVALENCE = 0.35

RESPONSE_ODDS = (
    OddsRatio("er", "estrogen receptor positive", 0.31, "Samiei 2021: receptor-negative 3.2, from rates by subtype"),
    OddsRatio("her2", "HER2 positive", 2.55, "Samiei 2021: from its rates by subtype"),
    OddsRatio("ct", "one stage, T1 to T2 to T3", 0.80, "National Cancer Database: cT3 against cT1 0.64, adjusted"),
)
"""Odds ratios of axillary pathological complete response, as a multivariable regression finds them (MODEL.md)."""

CHEMOSENSITIVITY_LOG_ODDS = 2.2
"""Log odds of apCR for one standard deviation of the hidden chemosensitivity R. Our choice: see `truth`."""

TARGET_RESPONSE = 0.36
"""Share of apCR, near the 50 of 149 in the Duke sheet. Our choice."""

GROUP_CODES = {"primary": 0, "external": 1, "neoadjuvant": 2, "population": 3, "population, treated": 4}
"""{block of patients: its word in their random seeds}."""

DRAWN_AS = {"population": "primary", "population, treated": "neoadjuvant"}
"""{block of the population: the group that its patients are of}; every other block is a group."""

GROUP_CENTER = {"primary": "primary", "external": "external", "neoadjuvant": "primary"}
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


@dataclass(frozen=True)
class Variable:
    """A clinical variable as cohort.yaml describes it; kind: continuous, nominal or ordinal."""

    label: str
    kind: str
    unit: str | None = None
    levels: tuple[str, ...] = ()

    def described(self) -> dict[str, str | list[str]]:
        """What stands in cohort.yaml."""
        known = {"label": self.label, "kind": self.kind, "unit": self.unit, "levels": list(self.levels)}
        return {key: value for key, value in known.items() if value}


CLINICAL = {
    "age": Variable("Age", "continuous", "years"),
    "menopause": Variable("Menopausal status", "nominal", None, ("premenopausal", "postmenopausal")),
    "ct": Variable("Clinical T stage", "ordinal", None, ("T1", "T2", "T3")),
    "size_mm": Variable("Tumor size", "continuous", "mm"),
    "histology": Variable("Histologic type", "nominal", None, ("ductal", "lobular", "other")),
    "grade": Variable("Histologic grade", "ordinal", None, ("G1", "G2", "G3")),
    "er": Variable("Estrogen receptor", "nominal", None, ("negative", "positive")),
    "pr": Variable("Progesterone receptor", "nominal", None, ("negative", "positive")),
    "her2": Variable("HER2", "nominal", None, ("negative", "positive")),
    "ki67_percent": Variable("Ki-67", "continuous", "%"),
    "subtype": Variable(
        "Molecular subtype", "nominal", None, ("luminal A", "luminal B", "HER2-positive", "triple-negative")
    ),
    "lvi": Variable("Lymphovascular invasion (core biopsy)", "nominal", None, ("absent", "present")),
}

READER_SKILL = {"reader_a": 0.78, "reader_b": 0.73, "reader_c": 0.67}
"""AUC of each reader's impression of the axilla on ultrasound before it is rounded to five grades. Our choice; the five
readers in Zhou 2020 (Radiology 294:19) were near 0.7."""

MRI_READER_SKILL = {"mri_reader_a": 0.77, "mri_reader_b": 0.72}
"""The same on MRI. Our choice; the radiologist's MRI read of the Duke sheet (sensitivity 0.59, specificity 0.88) has an
AUC of 0.73 as a yes or no."""

READER_CASE_VARIANCE = 0.5
READER_CUTS = (0.0, 0.7, 1.3, 1.9)


def standardized_log_size(size_mm: np.ndarray) -> np.ndarray:
    """u: standard normal (at the primary center, apart from rounding)."""
    return np.log(size_mm / SIZE_MEDIAN_MM) / SIZE_LOG_SD


def log_size_given_proliferation(proliferation: np.ndarray, center: str) -> tuple[np.ndarray, float]:
    """Mean and standard deviation of the natural logarithm of the size in mm."""
    mean = np.log(SIZE_MEDIAN_MM) + SIZE_SHIFT[center] + SIZE_LOG_SD * SIZE_PROLIFERATION * proliferation
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
    """The centered predictors of the nodal model, one array per term.

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


def unattenuated(log_odds_ratio: float, hidden_log_odds: float) -> float:
    """The coefficient given a hidden standard normal variable, from the one that a regression without it finds.

    Odds ratios do not collapse: leaving out a variable with coefficient h divides the others by about
    sqrt(1 + c^2 h^2), c = 16 sqrt(3) / (15 pi) (Zeger, Liang & Albert 1988, Biometrics 44:1049).
    """
    return log_odds_ratio * float(np.sqrt(1.0 + (16.0 * np.sqrt(3.0) / (15.0 * np.pi) * hidden_log_odds) ** 2))


def nodal_coefficients(spec: SimulationSpec) -> dict[str, float]:
    """Log odds ratio given Z per unit of each term, scaled by `signal_clinical`."""
    return _coefficients(NODAL_ODDS, INVASIVENESS_LOG_ODDS, spec)


def response_coefficients(spec: SimulationSpec) -> dict[str, float]:
    """Log odds ratio of apCR given R per unit of each term, scaled by `signal_clinical`."""
    return _coefficients(RESPONSE_ODDS, CHEMOSENSITIVITY_LOG_ODDS, spec)


def _coefficients(table: Sequence[OddsRatio], hidden_log_odds: float, spec: SimulationSpec) -> dict[str, float]:
    return {o.term: spec.signal_clinical * unattenuated(float(np.log(o.odds_ratio)), hidden_log_odds) for o in table}


def nodal_log_odds(clinical: dict[str, np.ndarray] | pd.DataFrame, spec: SimulationSpec) -> np.ndarray:
    """Log odds of metastasis at Z = 0, without the intercept."""
    terms, coefficients = nodal_terms(clinical), nodal_coefficients(spec)
    return np.sum([coefficients[term] * terms[term] for term in NODAL_TERMS], axis=0)


def nodal_intercept(spec: SimulationSpec) -> float:
    """The intercept that gives the primary center the target prevalence (50,000 patients drawn with a fixed seed)."""
    rng = np.random.default_rng([20250101, 7])
    drawn = draw_clinical(50_000, "primary", rng)
    log_odds = nodal_log_odds(drawn, spec) + INVASIVENESS_LOG_ODDS * rng.standard_normal(50_000)
    return _intercept(log_odds, TARGET_PREVALENCE)


def _intercept(log_odds: np.ndarray, target: float) -> float:
    """What to add so that the mean probability is `target`; to six decimals, where every processor agrees."""
    return round(float(brentq(lambda value: expit(value + log_odds).mean() - target, -10.0, 10.0, xtol=1e-10)), 6)


def draw_clinical(n: int, center: str, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """n patients' clinical variables as they truly are, in numbers, with the hidden proliferation.

    age (years), menopause (1 = post), size_mm, histology (0 ductal, 1 lobular, 2 other), grade 1-3, er, pr, her2, ki67 (%), lvi.
    """
    proliferation = rng.standard_normal(n)
    mean_age, sd_age = AGE[center]
    age = np.clip(np.rint(mean_age + sd_age * rng.standard_normal(n)), *AGE_RANGE)
    menopause = (rng.random(n) < expit((age - 50.5) / 1.6)).astype(int)
    mean, sd = log_size_given_proliferation(proliferation, center)
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
    histology = np.where(lobular, 1, np.where(other, 2, 0))
    who = {"proliferation": proliferation, "age": age, "menopause": menopause, "size_mm": size_mm}
    return who | {"histology": histology, "grade": grade, "er": er, "pr": pr, "her2": her2, "ki67": ki67, "lvi": lvi}


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
    state = {"invasiveness": invasiveness, "nodal_log_odds": log_odds, "aln_metastasis": metastasis}
    return state | {"nodal_burden": burden, "positive_nodes": nodes}


def neoadjuvant_chance(clinical: dict[str, np.ndarray]) -> np.ndarray:
    """Probability that a node-positive patient is treated before surgery. Our choice; direction as in practice guidelines."""
    triple_negative = (clinical["er"] == 0) & (clinical["pr"] == 0) & (clinical["her2"] == 0)
    log2_size = np.log2(clinical["size_mm"] / SIZE_MEDIAN_MM)
    return expit(-1.2 + 1.4 * clinical["her2"] + 1.4 * triple_negative + 1.0 * log2_size)


def draw_neoadjuvant(
    n: int, intercept: float, spec: SimulationSpec, rng: np.random.Generator
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """n node-positive patients of the primary center who are treated first, as (clinical, axilla), by rejection."""
    kept: list[dict[str, np.ndarray]] = []
    found = 0
    while found < n:
        batch = max(32, 8 * (n - found))
        clinical = draw_clinical(batch, "primary", rng)
        axilla = draw_axilla(clinical, intercept, spec, rng)
        treated = (rng.random(batch) < neoadjuvant_chance(clinical)) & (axilla["aln_metastasis"] == 1)
        kept.append({name: values[treated] for name, values in {**clinical, **axilla}.items()})
        found += int(treated.sum())
    joined = {name: np.concatenate([part[name] for part in kept])[:n] for name in kept[0]}
    return {name: joined[name] for name in clinical}, {name: joined[name] for name in axilla}


def t_stage(size_mm: np.ndarray) -> np.ndarray:
    """Clinical T stage as 1, 2 or 3, by size alone (AJCC 8: up to 20 mm, up to 50 mm, above)."""
    return 1 + (np.asarray(size_mm) > 20).astype(int) + (np.asarray(size_mm) > 50)


def response_log_odds(clinical: dict[str, np.ndarray] | pd.DataFrame, spec: SimulationSpec) -> np.ndarray:
    """Log odds of apCR at R = 0, without the intercept."""
    terms = {
        "er": np.asarray(clinical["er"], dtype=float),
        "her2": np.asarray(clinical["her2"], dtype=float),
        "ct": t_stage(clinical["size_mm"]) - 2.0,
    }
    return np.sum([slope * terms[term] for term, slope in response_coefficients(spec).items()], axis=0)


def response_intercept(spec: SimulationSpec, nodal_intercept: float) -> float:
    """The intercept that gives patients treated first the target rate of apCR (20,000 patients drawn with a fixed seed)."""
    rng = np.random.default_rng([20250101, 8])
    clinical, _ = draw_neoadjuvant(20_000, nodal_intercept, spec, rng)
    log_odds = response_log_odds(clinical, spec) + CHEMOSENSITIVITY_LOG_ODDS * rng.standard_normal(20_000)
    return _intercept(log_odds, TARGET_RESPONSE)


def draw_response(
    clinical: dict[str, np.ndarray], intercept: float, spec: SimulationSpec, rng: np.random.Generator
) -> dict[str, np.ndarray]:
    """Hidden chemosensitivity and apcr (0/1) of patients treated first."""
    n = clinical["age"].size
    chemosensitivity = rng.standard_normal(n)
    log_odds = intercept + response_log_odds(clinical, spec) + CHEMOSENSITIVITY_LOG_ODDS * chemosensitivity
    return {"chemosensitivity": chemosensitivity, "apcr": (rng.random(n) < expit(log_odds)).astype(int)}


def draw_missing(
    clinical: dict[str, np.ndarray], center: str, spec: SimulationSpec, rng: np.random.Generator
) -> dict[str, np.ndarray]:
    """Which values are missing: <name>_missing, bool, for grade, ki67, lvi and menopause.

    Missing at random given what is always recorded (Rubin 1976, Biometrika 63:581): grade with small tumors (little
    tissue), Ki-67 at the external center and in older patients, vascular invasion in large tumors (core biopsy only)
    and at the external center, menopause around the age of fifty.
    """
    n = clinical["age"].size
    age, size_score = clinical["age"], standardized_log_size(clinical["size_mm"])
    external = float(center == "external")
    chances = {
        "grade_missing": expit(-3.0 - 1.1 * size_score),
        "ki67_missing": expit(-2.6 + 1.5 * external + 0.045 * (age - 55.0)),
        "lvi_missing": expit(-2.2 + 0.7 * external + 0.6 * size_score),
        "menopause_missing": np.where(np.abs(age - 50.5) < 5.0, 0.10, 0.01),
    }
    draws = rng.random((len(chances), n))
    return {name: spec.missing_values & (draw < p) for draw, (name, p) in zip(draws, chances.items(), strict=True)}


def draw_readers(
    axilla: dict[str, np.ndarray],
    spec: SimulationSpec,
    rng: np.random.Generator,
    skills: Mapping[str, float] = READER_SKILL,
) -> dict[str, np.ndarray]:
    """Grades 1-5 of suspicion of the axilla, one array per reader.

    Equal-variance binormal evidence: d' = sqrt(2) * probit(AUC); half of the variance belongs to the case and is shared
    by the readers. In positives that shared part is the nodal burden: many nodes are easier to see.
    """
    n = axilla["aln_metastasis"].size
    positive = axilla["aln_metastasis"]
    case = np.where(positive == 1, axilla["nodal_burden"], rng.standard_normal(n))
    grades = {}
    for reader, auc in skills.items():
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

    treated_first = latent["group"] == "neoadjuvant"
    size = latent["size_mm"]
    ct = [f"T{stage}" for stage in t_stage(size)]
    return pd.DataFrame(
        {
            "patient_id": latent["patient_id"].astype("str"),
            "center": latent["center"].astype("str"),
            "aln_metastasis": latent["aln_metastasis"].astype("Int64").mask(treated_first),
            "apcr": latent["apcr"].astype("Int64"),
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
