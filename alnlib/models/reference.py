"""Clinical variables of the simulated patients beside those of the Duke sheet: prevalences and odds ratios, side by side.

`duke_reference.csv` beside `alnsim` holds the Duke aggregates, written by tools/duke_reference.py; no
patient of the sheet is in it.
"""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

import alnsim as simulated
from alneval.figures import plot_paired_forest
from alneval.style import head
from alnlib.cohorts.schema import ClinicalVariable, Cohort
from alnlib.models.clinical import multivariable_table, univariable_table
from alnsim import SimulationSpec
from alnsim import patients as model
from alnsim.truth import draw_population, draw_response_population

REFERENCE = Path(simulated.__file__).with_name("duke_reference.csv")
SMALLEST_CELL = 5
COLUMNS = (
    *("endpoint", "variable", "level_or_unit", "n", "n_level", "share"),
    *("or_univariable", "low", "high", "or_multivariable", "low_m", "high_m"),
)
_MEASURES = ("share", "odds_ratio", "low", "high", "adjusted", "adjusted_low", "adjusted_high")
BESIDE_COLUMNS = (
    "endpoint",
    "variable",
    "level_or_unit",
    *(f"{measure}_{whose}" for whose in ("simulated", "model", "duke") for measure in ("n", *_MEASURES)),
)
BESIDE_GROUPS = {"this cohort (simulated)": "_simulated", "the model (simulated)": "_model", "Duke (real)": "_duke"}
"""What the suffixes of BESIDE_COLUMNS mean."""
SUBTYPES = ("HR+/HER2-", "HR+/HER2+", "HR-/HER2+", "triple-negative")

MULTIVARIABLE = {
    "aln_metastasis": ("age_decade", "ct_step", "grade_step", "er", "pr", "her2", "histology"),
    "apcr": ("age_decade", "ct_step", "grade_step", "er", "pr", "her2"),
}
"""The one model per endpoint. Menopause is left out (it repeats age), subtype too (it repeats ER, PR and HER2)."""


MODEL_PATIENTS = 20_000
"""Patients operated at once from whom the model's own odds ratios are taken, and half as many treated first."""


def _model_patients(spec: SimulationSpec) -> pd.DataFrame:
    """patients.csv of MODEL_PATIENTS patients of the primary center, and of half as many treated first; fixed seed."""
    rng = np.random.default_rng([20250101, 12])
    nodal = model.nodal_intercept(spec)
    operated = draw_population(MODEL_PATIENTS, "primary", nodal, spec, rng)
    tables = [pd.DataFrame(operated).assign(group="primary", apcr=np.nan)]
    if spec.n_neoadjuvant:
        response = model.response_intercept(spec, nodal)
        treated = draw_response_population(MODEL_PATIENTS // 2, nodal, response, spec, rng)
        treated |= model.draw_missing(treated, "primary", spec, rng)
        tables.append(pd.DataFrame(treated).assign(group="neoadjuvant"))
    latent = pd.concat(tables, ignore_index=True).assign(center="primary")
    return model.recorded_patients(latent.assign(patient_id=latent.index.astype(str)))


def read_duke_reference() -> pd.DataFrame:
    """The committed aggregates of the Duke sheet, with `COLUMNS`."""
    return pd.read_csv(REFERENCE)


def simulated_reference_patients(patients: pd.DataFrame) -> pd.DataFrame:
    """Simulated patients.csv in the variables of `reference_variables`; apcr is missing where the cohort lacks it."""
    if "apcr" not in patients:
        patients = patients.assign(apcr=pd.array([pd.NA] * len(patients), dtype="Int64"))
    stage = patients["ct"].replace({"T3": "T3-T4"})
    hormone = (patients["er"] == "positive") | (patients["pr"] == "positive")
    her2 = patients["her2"] == "positive"
    subtype = hormone.map({True: "HR+", False: "HR-"}) + "/" + her2.map({True: "HER2+", False: "HER2-"})
    return pd.DataFrame(
        {
            **patients[["patient_id", "aln_metastasis", "apcr"]],
            "age_decade": patients["age"] / 10.0,
            **patients[["menopause", "er", "pr", "her2", "grade"]],
            "ct": stage,
            "ct_step": stage.map({"T1": 1.0, "T2": 2.0, "T3-T4": 3.0}),
            "grade_step": patients["grade"].map({"G1": 1.0, "G2": 2.0, "G3": 3.0}),
            "histology": patients["histology"].where(patients["histology"].isin(("ductal", "lobular"))),
            "subtype": subtype.replace({"HR-/HER2-": "triple-negative"}),
        }
    )


def reference_variables() -> dict[str, ClinicalVariable]:
    """What is tabulated; the first level is the reference."""
    signs = ("negative", "positive")
    return {
        "age_decade": ClinicalVariable("Age", "continuous", "10 years"),
        "menopause": ClinicalVariable("Menopause", "nominal", None, ("premenopausal", "postmenopausal")),
        "ct": ClinicalVariable("cT", "ordinal", None, ("T1", "T2", "T3-T4")),
        "ct_step": ClinicalVariable("cT step", "continuous", "one of T1, T2, T3-T4"),
        "grade": ClinicalVariable("Grade", "ordinal", None, ("G1", "G2", "G3")),
        "grade_step": ClinicalVariable("Grade step", "continuous", "one grade"),
        "er": ClinicalVariable("ER", "nominal", None, signs),
        "pr": ClinicalVariable("PR", "nominal", None, signs),
        "her2": ClinicalVariable("HER2", "nominal", None, signs),
        "histology": ClinicalVariable("Histology", "nominal", None, ("ductal", "lobular")),
        "subtype": ClinicalVariable("Subtype", "nominal", None, SUBTYPES),
    }


def reference_table(patients: pd.DataFrame, *, publish: bool = True) -> pd.DataFrame:
    """One row per endpoint and level (or unit, for age and steps), with `COLUMNS`; rounded to three decimals.

    patients: patient_id, the endpoints of `MULTIVARIABLE` and the variables of `reference_variables`.
    n: patients with the endpoint and the variable known; n_level: those at the level (empty for a unit). Odds ratios with
    95 % Wald intervals: univariable on n; multivariable in one model per endpoint (`MULTIVARIABLE`) on complete cases,
    whose number is the n_level of the row "multivariable model". The reference level has odds ratio 1 without interval. Odds
    ratios are left empty where the level, or its reference, has fewer than five patients with or without the outcome. Rows
    "prevalence" give the endpoint itself; apcr is known for node-positive patients with ypN only, and its histology is left
    out (too few lobular). An endpoint without both outcomes among the complete cases has no rows. publish: raise
    ValueError for a level of fewer than five patients, whose number may not be shown; False for simulated patients.
    """
    variables = reference_variables()
    estimable = [
        endpoint
        for endpoint, joint in MULTIVARIABLE.items()
        if patients.dropna(subset=list(joint))[endpoint].nunique() == 2
    ]
    tables = [_endpoint_rows(patients, variables, endpoint, publish) for endpoint in estimable]
    if not tables:
        return pd.DataFrame(columns=list(COLUMNS))
    table = pd.concat(tables, ignore_index=True)[list(COLUMNS)]
    measures = list(COLUMNS[COLUMNS.index("share") :])
    table[measures] = table[measures].astype(float).round(3)
    return table


def _endpoint_rows(
    patients: pd.DataFrame, variables: dict[str, ClinicalVariable], endpoint: str, publish: bool
) -> pd.DataFrame:
    known = patients[patients[endpoint].notna()]
    joint = {name: variables[name] for name in MULTIVARIABLE[endpoint]}
    if endpoint == "apcr":
        variables = {name: variable for name, variable in variables.items() if name != "histology"}
    single = univariable_table(known, variables, endpoint)
    adjusted = multivariable_table(known, joint, endpoint)
    adjusted = adjusted.set_index(["variable", "level"])[["odds_ratio", "low", "high"]]
    adjusted.columns = ["or_multivariable", "low_m", "high_m"]
    rows = []
    for name, variable in variables.items():
        own = single[single["variable"] == variable.label]
        n = int(known[name].notna().sum())
        for row in own.itertuples():
            measured = variable.kind == "continuous"
            enough = measured or _enough(own, row.n, row.events)
            cells = {"n_level": row.n, "share": row.n / n} if not measured else {}
            if publish and row.n < SMALLEST_CELL and not measured:
                raise ValueError(f"{variable.label} {row.level}: {row.n} patients, too few to publish")
            odds = {"or_univariable": row.odds_ratio, "low": row.low, "high": row.high} if enough else {}
            if enough and (variable.label, row.level) in adjusted.index:
                odds |= adjusted.loc[(variable.label, row.level)].to_dict()
            level = variable.unit if measured else row.level
            rows.append({"variable": variable.label, "level_or_unit": level, "n": n} | cells | odds)
    positive = int(known[endpoint].sum())
    complete = int(known[list(joint)].notna().all(axis=1).sum())
    ends = [
        {"variable": "prevalence", "level_or_unit": "positive", "n": len(known), "n_level": positive},
        {"variable": "multivariable model", "level_or_unit": "complete cases", "n": len(known), "n_level": complete},
    ]
    for end in ends:
        end["share"] = end["n_level"] / end["n"]
    table = pd.DataFrame([*ends, *rows], columns=list(COLUMNS)).assign(endpoint=endpoint)
    return table.astype({"n": "Int64", "n_level": "Int64"})


def _enough(own: pd.DataFrame, n: int, events: int) -> bool:
    """Whether no cell of the level against its reference is below the smallest one published."""
    reference = own.iloc[0]
    cells = (events, n - events, reference["events"], reference["n"] - reference["events"])
    return min(cells) >= SMALLEST_CELL


def beside_duke(cohort: Cohort, spec: SimulationSpec) -> pd.DataFrame:
    """Simulated patients, the model that made them, and the Duke sheet: a row per level or unit of the sheet.

    spec: of the cohort. Columns: `BESIDE_COLUMNS`, the share and the univariable and multivariable odds ratio of each; the
    model's are those of `MODEL_PATIENTS` patients drawn from it, so that chance in a small cohort is not taken for a
    difference. adjusted is the odds ratio of the multivariable model (`MULTIVARIABLE`).
    """
    names = ["endpoint", "variable", "level_or_unit"]
    short = {"or_univariable": "odds_ratio", "or_multivariable": "adjusted"}
    short |= {"low_m": "adjusted_low", "high_m": "adjusted_high"}
    groups = {
        "simulated": reference_table(simulated_reference_patients(cohort.patients), publish=False),
        "model": reference_table(simulated_reference_patients(_model_patients(spec)), publish=False),
    }
    joined = read_duke_reference().rename(columns=short)
    joined = joined.rename(columns={name: f"{name}_duke" for name in joined.columns if name not in names})
    for whose, table in groups.items():
        table = table.rename(columns=short)
        table = table.rename(columns={name: f"{name}_{whose}" for name in table.columns if name not in names})
        joined = joined.merge(table, on=names, how="left")
    return joined.loc[joined["variable"] != "multivariable model", list(BESIDE_COLUMNS)].reset_index(drop=True)


def plot_beside_duke(compared: pd.DataFrame, title: str) -> Figure:
    """Odds ratios of one endpoint, a row per variable, this cohort, the model and the sheet one below the other.

    compared: rows of `beside_duke` of one endpoint; those without an estimate in model or sheet are left out.
    """
    estimated = compared.dropna(subset=["low_model", "low_duke"])
    labels = estimated["variable"] + ": " + estimated["level_or_unit"]
    fig, ax = plt.subplots(figsize=(7.5, 1.6 + 0.42 * len(estimated)))
    plot_paired_forest(estimated.assign(label=labels), ax, "label", "odds_ratio", BESIDE_GROUPS)
    ax.set_xlabel("Odds ratio (95 % interval, log scale)")
    sizes = {name: estimated[f"n{suffix}"].max() for name, suffix in BESIDE_GROUPS.items()}
    head(ax, title, "; ".join(f"{name} n = {size:,.0f}" for name, size in sizes.items() if pd.notna(size)))
    return fig
