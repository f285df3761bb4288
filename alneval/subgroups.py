"""AUC by subgroup of patients, with intervals, a rule for groups that are too small, and a test of heterogeneity.

Discrimination of whole splits lives in `alneval.tables`.
"""

from __future__ import annotations

from math import nan

import numpy as np
import pandas as pd
from scipy import stats

from alneval.delong import auc_interval
from alneval.multiplicity import holm
from alneval.units import Units

SUBGROUP_COLUMNS = (
    *("variable", "level", "n", "n_positive", "auc", "auc_low", "auc_high", "note", "p_heterogeneity", "p_holm"),
)
FEWEST = 10
"""Patients of either class below which a subgroup gets no AUC: with 10 its 95 % interval is still about 0.35 wide."""


def subgroup_table(
    rows: pd.DataFrame,
    attributes: pd.DataFrame,
    *,
    fewest: int = FEWEST,
    confidence: float = 0.95,
    interval: str = "logit_t",
) -> pd.DataFrame:
    """AUC of one model in every level of every attribute: SUBGROUP_COLUMNS.

    rows: patient_id, y_true, y_score of one model on held-out patients; attributes: index patient_id, a column per variable
    with its levels as text, missing ones left out. Intervals are those of `delong.auc_interval`.
    Fewer than `fewest` patients of either class: no AUC, and note says so. p_heterogeneity: do the levels of a variable differ
    (Cochran 1954, Biometrics 10:101, Q of the AUCs, on levels with an AUC and a variance; nan for fewer than two); p_holm:
    over the variables. A small p is a question for other patients, a large one no proof of equal performance: with these
    numbers only large differences could be seen.
    """
    table = []
    for variable in attributes:
        level_of = rows["patient_id"].map(attributes[variable])
        estimates = []
        for level in sorted(level_of.dropna().unique(), key=str):
            # a patient is one row, or several nodes of which each counts
            units = Units.of_rows(rows[level_of == level])
            row = {"variable": variable, "level": str(level), "n": len(units), "n_positive": units.n_positive}
            if min(units.n_positive, len(units) - units.n_positive) < fewest:
                table.append(row | {"auc": nan, "auc_low": nan, "auc_high": nan, "note": "too few"})
                continue
            area = auc_interval(units, confidence=confidence, interval=interval)
            estimates.append((area.value, area.standard_error))
            table.append(row | area.named("auc") | {"note": ""})
        p = _heterogeneity_p(estimates)
        for row in table:
            if row["variable"] == variable:
                row["p_heterogeneity"] = p
    result = pd.DataFrame(table, columns=[name for name in SUBGROUP_COLUMNS if name != "p_holm"])
    by_variable = result.drop_duplicates("variable").set_index("variable")["p_heterogeneity"]
    adjusted = pd.Series(holm(by_variable.to_numpy(float)), index=by_variable.index, dtype=float)
    return result.assign(p_holm=result["variable"].map(adjusted))[list(SUBGROUP_COLUMNS)]


def _heterogeneity_p(estimates: list[tuple[float, float]]) -> float:
    known = np.array([pair for pair in estimates if pair[1] > 0], dtype=float).reshape(-1, 2)
    if len(known) < 2:
        return nan
    weight = known[:, 1] ** -2.0
    mean = (weight * known[:, 0]).sum() / weight.sum()
    return float(stats.chi2.sf((weight * (known[:, 0] - mean) ** 2).sum(), len(known) - 1))
