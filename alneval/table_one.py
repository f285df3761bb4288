"""Table 1: the characteristics of the patients overall and by group, with missing counts and standardized differences.

No p-values: differences between samples of one cohort are described, not tested. Missing values are counted, not imputed.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations
from typing import Protocol

import numpy as np
import pandas as pd

OVERALL = "overall"
TABLE_COLUMNS = ("variable", "label", "kind", "unit", "level", "group", "n_group", "n", "missing")
TABLE_COLUMNS += ("mean", "sd", "median", "q1", "q3", "count", "fraction", "smd")


class Variable(Protocol):
    """What is read of a clinical variable, such as `alnlib.cohorts.schema.ClinicalVariable`."""

    label: str
    kind: str
    unit: str | None
    levels: tuple[str, ...]


def table_one(patients: pd.DataFrame, clinical: Mapping[str, Variable], by: str) -> pd.DataFrame:
    """Describe each clinical variable overall and in each group of `by` (an endpoint, the split, the center).

    Returns a tidy frame, one row per variable, level (continuous variables have the empty level) and group ("overall", then
    the groups as text, in order): n_group patients in the group, n with a value, missing; mean, sd (n - 1), median, q1 and
    q3 of continuous variables; count and fraction (of those with a value) of each level; smd, the absolute standardized
    mean difference of the variable between the groups, the largest over pairs if there are more than two; NaN with one
    group or an empty one. Patients without a group are left out of the groups and of the overall column.

    Standardized differences, values missing left out: continuous |m1 - m2| / sqrt((s1^2 + s2^2) / 2); categorical the
    Mahalanobis distance of the level proportions, one level dropped (Yang & Dalton 2012, SAS Global Forum 335).
    """
    grouped = patients[patients[by].notna()]
    values = sorted(grouped[by].unique(), key=_group_order)
    groups = {OVERALL: grouped} | {_group_name(value): grouped[grouped[by] == value] for value in values}
    rows = []
    for column, variable in clinical.items():
        samples = [members[column] for name, members in groups.items() if name != OVERALL]
        if variable.kind == "continuous":
            smd = _largest(continuous_smd, samples)
            for name, members in groups.items():
                rows.append(_head(column, variable, "", name, members) | _continuous(members[column]) | {"smd": smd})
        else:
            smd = _largest(lambda a, b, levels=variable.levels: categorical_smd(a, b, levels), samples)
            unknown = set(grouped[column].dropna()) - set(variable.levels)
            if unknown:
                raise ValueError(f"{column} has values that are no levels: {sorted(unknown)}")
            for level in variable.levels:
                for name, members in groups.items():
                    count = int((members[column] == level).sum())
                    n = int(members[column].notna().sum())
                    share = {"count": count, "fraction": count / n if n else np.nan, "smd": smd}
                    rows.append(_head(column, variable, level, name, members) | share)
    return pd.DataFrame(rows).reindex(columns=list(TABLE_COLUMNS)).astype({"count": "Int64"})


def continuous_smd(a: pd.Series, b: pd.Series) -> float:
    """Absolute standardized mean difference of two samples, missing values left out; NaN if one has fewer than two values."""
    a, b = a.dropna().astype("float64"), b.dropna().astype("float64")
    if min(len(a), len(b)) < 2:
        return np.nan
    difference, spread = abs(a.mean() - b.mean()), np.sqrt((a.var() + b.var()) / 2)
    if spread == 0:
        return 0.0 if difference == 0 else np.inf
    return float(difference / spread)


def categorical_smd(a: pd.Series, b: pd.Series, levels: tuple[str, ...]) -> float:
    """Standardized difference of two samples of a categorical variable, missing values left out; NaN if one is empty.

    With T and C the proportions of all levels but the first, and S the mean of the two multinomial covariance matrices:
    sqrt((T - C)' S^-1 (T - C)). Levels that neither sample has are dropped; infinite if the samples share no level.
    Yang & Dalton 2012, SAS Global Forum 335, section "multinomial".
    """
    a, b = a.dropna(), b.dropna()
    if not len(a) or not len(b):
        return np.nan
    shares = np.array([[(sample == level).mean() for level in levels] for sample in (a, b)])
    shares = shares[:, shares.sum(axis=0) > 0]
    if np.allclose(shares[0], shares[1], atol=1e-12):
        return 0.0
    if not (shares[0] * shares[1]).any():
        return np.inf
    # dropping any one level gives the same distance; drop one that both samples have, so that S can be inverted
    dropped = int(np.argmax(shares.min(axis=0)))
    kept = np.delete(shares, dropped, axis=1)
    covariance = np.mean([np.diag(share) - np.outer(share, share) for share in kept], axis=0)
    difference = kept[0] - kept[1]
    return float(np.sqrt(difference @ np.linalg.solve(covariance, difference)))


def format_table_one(
    table: pd.DataFrame, *, group_names: Mapping[str, str] | None = None, decimals: int = 1
) -> pd.DataFrame:
    """Table 1 for reading: one row per statistic or level, one text column per group, then Missing and SMD.

    Continuous variables take two rows, mean (SD) and median [IQR]; others a heading row with the missing count and one row
    n (%) per level; percentages are of the patients with a value. group_names: what to call the groups, e.g. {"0": "N0"}.
    """
    names = dict(group_names or {})
    groups = list(dict.fromkeys(table["group"]))
    titles = {group: f"{names.get(group, group.capitalize() if group == OVERALL else group)}" for group in groups}
    sizes = table.drop_duplicates("group").set_index("group")["n_group"]
    columns = {group: f"{titles[group]} (n = {sizes[group]:,})" for group in groups}
    rows: list[dict[str, str]] = []
    for _, block in table.groupby("variable", sort=False):
        first = block.iloc[0]
        unit = f" ({first['unit']})" if isinstance(first["unit"], str) else ""
        smd = "" if pd.isna(first["smd"]) else f"{first['smd']:.3f}"
        tail = {"Missing": f"{int(block.loc[block['group'] == OVERALL, 'missing'].iat[0]):,}", "SMD": smd}
        if first["kind"] == "continuous":
            cells = block.set_index("group")
            mean = {columns[g]: _mean_sd(cells.loc[g], decimals) for g in groups}
            median = {columns[g]: _median_iqr(cells.loc[g], decimals) for g in groups}
            rows.append({"Characteristic": f"{first['label']}{unit}, mean (SD)"} | mean | tail)
            rows.append({"Characteristic": "  median [IQR]"} | median)
            continue
        rows.append({"Characteristic": f"{first['label']}, n (%)"} | tail)
        for level, cells in block.groupby("level", sort=False):
            shown = {columns[row["group"]]: _count_percent(row, decimals) for _, row in cells.iterrows()}
            rows.append({"Characteristic": f"  {level}"} | shown)
    ordered = ["Characteristic", *columns.values(), "Missing", "SMD"]
    return pd.DataFrame(rows, columns=ordered).fillna("")


def _head(column: str, variable: Variable, level: str, group: str, members: pd.DataFrame) -> dict[str, object]:
    n = int(members[column].notna().sum())
    described = {"variable": column, "label": variable.label, "kind": variable.kind, "unit": variable.unit}
    return described | {"level": level, "group": group, "n_group": len(members), "n": n, "missing": len(members) - n}


def _continuous(values: pd.Series) -> dict[str, float]:
    values = values.dropna().astype("float64")
    if not len(values):
        return {}
    q1, median, q3 = np.percentile(values, [25, 50, 75])
    spread = values.std() if len(values) > 1 else np.nan
    return {"mean": values.mean(), "sd": spread, "median": median, "q1": q1, "q3": q3}


def _largest(distance, samples: list[pd.Series]) -> float:
    found = [distance(a, b) for a, b in combinations(samples, 2)]
    found = [value for value in found if not np.isnan(value)]
    return max(found) if found else np.nan


def _group_order(value: object) -> tuple[int, str]:
    order = ("train", "validation", "test", "external")
    return (order.index(value), "") if value in order else (len(order), str(value))


def _group_name(value: object) -> str:
    return str(int(value)) if isinstance(value, (float, np.floating)) and float(value).is_integer() else str(value)


def _mean_sd(cell: pd.Series, decimals: int) -> str:
    return "-" if pd.isna(cell["mean"]) else f"{cell['mean']:.{decimals}f} ({cell['sd']:.{decimals}f})"


def _median_iqr(cell: pd.Series, decimals: int) -> str:
    if pd.isna(cell["median"]):
        return "-"
    return f"{cell['median']:.{decimals}f} [{cell['q1']:.{decimals}f}, {cell['q3']:.{decimals}f}]"


def _count_percent(cell: pd.Series, decimals: int) -> str:
    return (
        f"{int(cell['count']):,}"
        if pd.isna(cell["fraction"])
        else f"{int(cell['count']):,} ({100 * cell['fraction']:.{decimals}f})"
    )
