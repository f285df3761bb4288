"""The five studies beside their field: published AUCs of axillary models, what falls from training to other patients, pooling.

The facts stand in alnlib/studies/field.csv, one row per model, reader or meta-analysis, each with where it was read: what open
pages held, mostly abstracts, and not a systematic review. Nothing published is averaged with anything made here.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import statsmodels.formula.api as smf
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy import optimize, stats
from scipy.special import expit, logit
from statsmodels.stats.meta_analysis import combine_effects

from alneval.sample_size import auc_variance
from alneval.style import GUIDE, INK, PALE, PALETTE, SPLIT_MARKS, head, name_points
from alnlib.studies import SHORT_NAMES, STUDIES

FIELD = Path(__file__).parents[1] / "studies/field.csv"
CAVEAT = "Published values as open pages gave them, not a systematic review"

MODELS = ("radiomics", "deep learning", "deep learning radiomics", "fusion", "clinical")
"""Kinds of rows that are models; the others are readers and meta-analyses."""

TESTED = {"held out": "internal", "later patients": "internal", "other hospital": "external"}
"""What patients that were tested are; cross-validated ones and those of whom it is unclear are neither."""

PREVALENCE = 0.4
"""Assumed where a test set's positives are not known: our choice, near the five studies'."""

CENTERED = (0.25, 0.75)
"""Where in its interval, from 0 to 1, an estimate must lie for the interval to give a standard error."""

YARDSTICK_LINES = {"clinical variables alone": ":", "reader without help": "-"}

_STEPS = ("training", "internal", "external")
_MARK = {"internal": SPLIT_MARKS["test"], "external": SPLIT_MARKS["external"]}
_Z = float(stats.norm.ppf(0.975))
_FIVE, _OTHERS, _HERE = PALETTE[3], "0.6", PALETTE[0]


def read_field(path: Path = FIELD) -> pd.DataFrame:
    """field.csv as it stands; `here` says which of the five studies a row is, sizes are Int64, missing numbers NaN."""
    texts = ["paper", "what", "journal", "source", "read_from", "modality", "kind", "endpoint", "unit"]
    texts += ["internal_is", "external_is", "patients_of", "study", "note"]
    table = pd.read_csv(path, dtype=dict.fromkeys(texts, str), keep_default_na=True)
    table[texts] = table[texts].fillna("")
    counts = ["year", "centers", *(name for name in table if name.startswith("n_"))]
    return table.astype(dict.fromkeys(counts, "Int64"))


def one_per_patients(field: pd.DataFrame) -> pd.DataFrame:
    """Models alone, and of rows on the same patients, unit and endpoint only one: one of the five, else the first."""
    models = field[field["kind"].isin(MODELS)]
    first = models.sort_values("study", key=lambda study: study == "", kind="stable")
    return models.loc[first.drop_duplicates(["patients_of", "unit", "endpoint"]).index.sort_values()]


def held_out(field: pd.DataFrame, prevalence: float = PREVALENCE) -> pd.DataFrame:
    """One row per AUC on patients that were not trained on: paper, study, unit, kind, endpoint, tested ("internal",
    "external"), auc, low, high, n, logit, standard_error (of the logit), error_from.

    External is another hospital; later patients of the same one are internal. Cross-validated and apparent values, and those
    of patients of whom it is not clear, are left out. Standard errors come from the printed interval, from its lower half
    where it ends at 1; without one, or where the estimate is near one of its ends (CENTERED), from the size of the test set
    and an assumed prevalence (`auc_variance`); else NaN.
    """
    parts = []
    for column in ("internal", "external"):
        own = field[field[f"auc_{column}"].notna() & field[f"{column}_is"].isin(TESTED)]
        names = {f"auc_{column}": "auc", f"auc_{column}_low": "low", f"auc_{column}_high": "high"}
        names |= {f"n_{column}_test": "n", f"{column}_is": "patients"}
        shared = ["paper", "study", "unit", "kind", "endpoint", "patients_of"]
        parts.append(own[[*shared, *names]].rename(columns=names))
    table = pd.concat(parts, ignore_index=True)
    table["tested"] = table["patients"].map(TESTED)
    table["logit"] = logit(table["auc"])
    by_interval = _error_of_interval(table)
    sized = table["n"].notna() & by_interval.isna() & table["unit"].eq("patient")
    by_size = pd.Series(np.nan, index=table.index)
    for row, auc, n in table.loc[sized, ["auc", "n"]].itertuples():
        by_size[row] = np.sqrt(auc_variance(n, prevalence, auc)) / (auc * (1 - auc))
    table["standard_error"] = by_interval.fillna(by_size)
    known = [by_interval.notna(), by_size.notna()]
    return table.assign(error_from=np.select(known, ["interval", "size"], default=""))


def _error_of_interval(table: pd.DataFrame) -> pd.Series:
    """On the scale, AUC or logit, on which the estimate lies nearer to the middle of its interval; by the delta method."""
    low, high = table["low"], table["high"].mask(table["high"] >= 1)
    slope = 1 / (table["auc"] * (1 - table["auc"]))
    plain = (table["auc"] - low) / (high - low), (high - low) / (2 * _Z) * slope
    logits = (table["logit"] - logit(low)) / (logit(high) - logit(low)), (logit(high) - logit(low)) / (2 * _Z)
    nearer = (plain[0] - 0.5).abs() <= (logits[0] - 0.5).abs()
    place, error = (one.where(nearer, other) for one, other in zip(plain, logits, strict=True))
    lower_half = (table["auc"] - low) / _Z * slope
    return error.where(place.between(*CENTERED), lower_half.where(table["high"] >= 1))


def falls(field: pd.DataFrame) -> pd.DataFrame:
    """AUC of training, internal and external patients side by side, of models of patients that have at least two of them.

    Columns: paper, study, training, internal, external, and the falls between neighbors: from_training (to internal, else
    external), from_internal. What counts as internal and external, `held_out` says.
    """
    own = field[field["unit"].eq("patient")]
    table = own[["paper", "study", "kind", "endpoint"]].assign(training=own["auc_train"])
    found = {column: own[f"{column}_is"].map(TESTED) for column in ("internal", "external")}
    for step in _STEPS[1:]:
        of_step = [own[f"auc_{column}"].where(is_of == step) for column, is_of in found.items()]
        table[step] = of_step[0].fillna(of_step[1])
    table = table[table[list(_STEPS)].notna().sum(axis=1) >= 2]
    new = table["internal"].fillna(table["external"])
    return table.assign(
        from_training=table["training"] - new, from_internal=table["internal"] - table["external"]
    ).reset_index(drop=True)


def fall_table(table: pd.DataFrame) -> pd.DataFrame:
    """Of both falls: papers that have it, in how many the AUC fell, the median fall, and the p of a sign test."""
    rows = []
    for name, words in (("from_training", "training_to_held_out"), ("from_internal", "internal_to_external")):
        fall = table[name].dropna()
        moved = fall[fall != 0]
        p = stats.binomtest(int((moved > 0).sum()), len(moved)).pvalue if len(moved) else np.nan
        rows.append(
            {"step": words, "papers": len(fall), "fell": int((fall > 0).sum()), "median_fall": fall.median(), "p": p}
        )
    return pd.DataFrame(rows)


def pooled(values: np.ndarray, errors: np.ndarray) -> dict[str, float]:
    """Random-effects mean of logits: Paule-Mandel variance between studies, Hartung-Knapp interval; AUCs.

    values, errors: (k,), at least 3. Returns k, auc, low, high, prediction_low, prediction_high (where a new study's own AUC
    would lie, t with k - 1 degrees of freedom, as R `metafor::predict`), tau (on the logit scale) and i_squared (Higgins &
    Thompson 2002, Stat Med 21:1539).
    Paule & Mandel 1982 (J Res Natl Bur Stand 87:377), Hartung & Knapp 2001 (Stat Med 20:3875).
    """
    values, variance = np.asarray(values, float), np.asarray(errors, float) ** 2
    if len(values) < 3:
        raise ValueError(f"{len(values)} values; pooling needs at least 3")
    tau2 = _paule_mandel(values, variance)
    result = combine_effects(values, variance + tau2, use_t=True)
    mean, error = float(result.mean_effect_fe), float(result.sd_eff_w_fe_hksj)
    t = float(stats.t.ppf(0.975, len(values) - 1))
    ends = mean + t * np.array([-error, error, -np.hypot(error, np.sqrt(tau2)), np.hypot(error, np.sqrt(tau2))])
    found = dict(zip(("low", "high", "prediction_low", "prediction_high"), expit(ends).tolist(), strict=True))
    weight = 1 / variance
    typical = (len(values) - 1) * weight.sum() / (weight.sum() ** 2 - (weight**2).sum())
    return (
        {"k": len(values), "auc": float(expit(mean))}
        | found
        | {
            "tau": float(np.sqrt(tau2)),
            "i_squared": tau2 / (tau2 + typical),
        }
    )


def _paule_mandel(values: np.ndarray, variance: np.ndarray) -> float:
    def excess(tau2: float) -> float:
        weight = 1 / (variance + tau2)
        return float((weight * (values - np.average(values, weights=weight)) ** 2).sum()) - (len(values) - 1)

    if excess(0.0) <= 0:
        return 0.0
    return float(optimize.brentq(excess, 0.0, 10.0 * np.var(values) + 1.0, xtol=1e-14))


def egger(values: np.ndarray, errors: np.ndarray) -> dict[str, float]:
    """Egger's regression of the logit on its standard error, weighted by its inverse square: slope, t and p (k - 2 df).

    Egger et al. 1997 (BMJ 315:629), as R `metafor::regtest(model = "lm")`. Of AUCs it is weak twice over: the error of a logit
    AUC depends on the AUC itself, so that the two are related without any bias, and few papers print an interval.
    """
    frame = pd.DataFrame({"y": values, "error": errors})
    fit = smf.wls("y ~ error", frame, weights=1 / frame["error"] ** 2).fit()
    return {"slope": fit.params["error"], "t": fit.tvalues["error"], "p": fit.pvalues["error"]}


def yardsticks(field: pd.DataFrame) -> pd.DataFrame:
    """What models are held to, of patients: what ("clinical variables alone", "reader without help"), auc. No image is behind the
    former; one of the two is cross-validated."""
    auc = field["auc_internal"].fillna(field["auc_external"])
    names = {
        "clinical variables alone": field["modality"].eq("clinical"),
        "reader without help": field["kind"].eq("reader"),
    }
    parts = [auc[own & field["unit"].eq("patient")].to_frame("auc").assign(what=what) for what, own in names.items()]
    return pd.concat(parts, ignore_index=True).dropna()


def pooled_table(values: pd.DataFrame) -> pd.DataFrame:
    """`pooled` and `egger` of held-out AUCs of patients: internal and external, with printed intervals alone and with errors
    from test sizes too. Columns: tested, errors, then theirs, Egger's as egger_slope and egger_p."""
    rows = []
    of_patients = values[values["unit"].eq("patient") & values["standard_error"].notna()]
    for tested, own in of_patients.groupby("tested", sort=False):
        for errors, part in (("printed", own[own["error_from"].eq("interval")]), ("printed or from size", own)):
            if len(part) >= 3:
                found = part["logit"].to_numpy(), part["standard_error"].to_numpy()
                asymmetry = {f"egger_{name}": value for name, value in egger(*found).items() if name != "t"}
                rows.append({"tested": tested, "errors": errors} | pooled(*found) | asymmetry)
    return pd.DataFrame(rows)


def published_number(value: int | dict[str, float]) -> dict[str, object]:
    """A number of this page as `RunFolder.save_numbers` takes it, labeled published and not as the run's patients."""
    return (value if isinstance(value, dict) else {"value": value}) | {"provenance": "published"}


def here_rows(discrimination: pd.DataFrame) -> pd.DataFrame:
    """The run's own AUCs of each study's first claimed model on test and external patients: study, tested, auc, n and ends."""
    parts = []
    for study in STUDIES.values():
        names = study.model(study.claims[0].better).here
        own = discrimination["study"].eq(study.key) & discrimination["model"].isin(names)
        parts.append(discrimination[own & discrimination["split"].isin(["test", "external"])])
    rows = pd.concat(parts, ignore_index=True)
    tested = rows["split"].map({"test": "internal", "external": "external"})
    return rows[["study", "model", "n", "auc", "auc_low", "auc_high"]].assign(tested=tested)


def band(n: np.ndarray, prevalence: float, true_auc: float) -> tuple[np.ndarray, np.ndarray]:
    """Where 95 % of test sets of n patients lie if the AUC is `true_auc`: lower and upper ends (n,), on the logit scale."""
    errors = np.array([np.sqrt(auc_variance(size, prevalence, true_auc)) for size in n]) / (true_auc * (1 - true_auc))
    return expit(logit(true_auc) - _Z * errors), expit(logit(true_auc) + _Z * errors)


def falls_figure(table: pd.DataFrame) -> Figure:
    """AUC from training over internal to external patients, a line per paper; the five in color, named at the last point."""
    figure, ax = plt.subplots(figsize=(7, 5.2))
    ends: list[tuple[float, float, str]] = []
    for row in table.to_dict("records"):
        steps = [(place, row[step]) for place, step in enumerate(_STEPS) if pd.notna(row[step])]
        x, y = zip(*steps, strict=True)
        five = bool(row["study"])
        ax.plot(
            x,
            y,
            "o-",
            color=_FIVE if five else _OTHERS,
            lw=2.2 if five else 0.9,
            ms=5 if five else 3,
            alpha=1 if five else 0.7,
        )
        if five:
            ends.append((x[-1], y[-1], SHORT_NAMES[row["study"]]))
    ax.set_xticks(range(3), [f"{step}\nn = {table[step].notna().sum()} models" for step in _STEPS])
    ax.set(ylabel="AUC as published", xlim=(-0.2, 2.6))
    what = "models with an AUC on at least two of: training, internal, external patients"
    head(ax, "From training to new patients", f"{len(table)} {what}; in color: of the five studies")
    name_points(figure, [(ax, *end, _FIVE) for end in ends])
    return figure


def sizes_figure(
    values: pd.DataFrame,
    lines: pd.DataFrame,
    here: pd.DataFrame,
    provenance: str,
    prevalence: float,
    true_auc: float,
) -> Figure:
    """Held-out AUCs against the size of the test set, of patients at the left, of nodes at the right, where few sizes are known.

    Filled: an interval is printed; open: none. Square: internal, triangle: external patients. `band`: where 95 %
    of test sets of that size would lie if the true AUC were `true_auc`. Values
    without a known size stand in the margin. `here`: `here_rows`, labeled with their provenance.
    """
    figure, (ax, nodes) = plt.subplots(1, 2, figsize=(10.5, 5), width_ratios=[3.4, 1], sharey=True)
    sizes = np.geomspace(20, 380, 60)
    ax.fill_between(sizes, *band(sizes, prevalence, true_auc), color="0.92", zorder=0)
    ax.axhline(true_auc, color=GUIDE, lw=1, ls="--", zorder=0)
    names = _scatter(ax, values[values["unit"].eq("patient")], margin=16)
    names += _scatter(nodes, values[values["unit"].eq("node")], margin=None)
    for row in here.to_dict("records"):
        axes, x = (nodes, 0.5) if row["study"] == "park" else (ax, row["n"])
        style = {"color": _HERE, "ms": 7, "mec": "white", "mew": 0.6, "zorder": 5}
        axes.plot(x, row["auc"], _MARK[row["tested"]], **style)
        names.append((axes, x, row["auc"], SHORT_NAMES[row["study"]], _HERE))
    for row in lines.itertuples():
        ax.plot([420, 560], [row.auc, row.auc], YARDSTICK_LINES[row.what], color=PALE, lw=1)
    ax.set(
        xscale="log",
        xlim=(14, 600),
        ylim=(0.5, 1.01),
        xlabel="patients in the test set",
        ylabel="AUC, patients not trained on",
    )
    ax.set_xticks([16, 25, 50, 100, 200, 490], ["not\nknown", "25", "50", "100", "200", "held\nagainst"])
    ax.minorticks_off()
    head(ax, "Patients", f"n = {values['unit'].eq('patient').sum()} published AUCs")
    nodes.set_xticks([0.5], ["sizes in nodes\nand images"])
    nodes.set(xlim=(0, 1))
    head(nodes, "Single nodes", f"n = {values['unit'].eq('node').sum()}")
    for tested, mark in _MARK.items():
        for face, interval in ((_OTHERS, "interval printed"), ("white", "no interval")):
            ax.plot([], [], mark, color=_OTHERS, mfc=face, ms=7, label=f"{tested}, {interval}")
    ax.plot([], [], _MARK["internal"], color=_FIVE, ms=7, label="of the five studies, published")
    ax.plot([], [], _MARK["internal"], color=_HERE, ms=7, label=f"of the five studies, this run ({provenance})")
    for what, style in YARDSTICK_LINES.items():
        ax.plot([], [], style, color=PALE, label=what)
    ax.fill_between([], [], [], color="0.92", label=f"95 % of test sets if the true AUC is {true_auc:.2f}")
    figure.legend(loc="outside lower left", ncols=3, fontsize=8)
    name_points(figure, names)
    return figure


def _scatter(ax: Axes, values: pd.DataFrame, margin: float | None) -> list[tuple[Axes, float, float, str, str]]:
    """Draw the values; returns the points of the five studies, to be named."""
    names = []
    for number, row in enumerate(values.to_dict("records")):
        color = _FIVE if row["study"] else _OTHERS
        spread = 1 + 0.09 * ((number * 0.618) % 1 - 0.5) * 2
        known = pd.notna(row["n"]) and margin is not None
        x = row["n"] if known else (margin * spread if margin is not None else 0.5 + 1.5 * (spread - 1))
        face = color if pd.notna(row["low"]) else "white"
        style = {"color": color, "mfc": face, "ms": 5.5, "zorder": 4 if row["study"] else 3}
        ax.plot(x, row["auc"], _MARK[row["tested"]], **style)
        if row["study"]:
            names.append((ax, x, row["auc"], SHORT_NAMES[row["study"]], color))
    return names


def pooled_figure(values: pd.DataFrame, summary: pd.DataFrame) -> Figure:
    """Held-out AUCs of patients with a standard error as a forest, sorted, with their pooled mean and prediction interval."""
    kinds = [tested for tested in ("internal", "external") if summary["tested"].eq(tested).any()]
    own = values[values["unit"].eq("patient") & values["standard_error"].notna()]
    counts = [own["tested"].eq(tested).sum() for tested in kinds]
    figure, axes = plt.subplots(1, len(kinds), figsize=(10.5, 1.6 + 0.2 * max(counts)), sharex=True, squeeze=False)
    for ax, tested in zip(axes[0], kinds, strict=True):
        part = own[own["tested"].eq(tested)].sort_values("auc")
        places = np.arange(len(part)) + 2
        for place, row in zip(places, part.to_dict("records"), strict=True):
            color = _FIVE if row["study"] else INK
            printed = row["error_from"] == "interval"
            ends = expit(row["logit"] + _Z * row["standard_error"] * np.array([-1, 1]))
            ends = (row["low"], row["high"]) if printed else ends
            ax.plot(ends, [place, place], color=color, lw=1.3, ls="-" if printed else ":")
            ax.plot(row["auc"], place, "s", color=color, ms=4)
        found = summary[summary["tested"].eq(tested)].iloc[-1]
        ax.plot([found["prediction_low"], found["prediction_high"]], [0, 0], color="0.7", lw=3)
        ax.plot([found["low"], found["high"]], [0, 0], color=INK, lw=3)
        ax.plot(found["auc"], 0, "D", color=INK, ms=6)
        ax.set_yticks([0, *places], ["pooled", *part["paper"].str.replace("_", " ")], fontsize=7)
        ax.tick_params(axis="y", length=0)
        ax.set_ylim(-1, max(counts) + 2)
        head(ax, f"{tested.capitalize()} patients", f"n = {len(part)} published AUCs")
        ax.set_xlabel("AUC (95 % interval)")
    ax, style = axes[0, 0], {"color": INK, "ms": 4}
    keys = ax.plot([], [], "s-", lw=1.3, label="interval as printed", **style)
    keys += ax.plot([], [], "s:", lw=1.3, label="interval from the size of the test set", **style)
    keys += ax.plot([], [], "s-", color=_FIVE, lw=1.3, ms=4, label="one of the five")
    keys += ax.plot([], [], "D-", color=INK, lw=3, ms=6, label="pooled mean and its interval")
    keys += ax.plot([], [], color="0.7", lw=3, label="where a new study would lie")
    figure.legend(handles=keys, loc="outside lower left", ncols=3)
    return figure
