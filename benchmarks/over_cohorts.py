"""The five studies over many simulated cohorts: `python benchmarks/over_cohorts.py [SEED ...]`, seeds 101 to 120 unless named.

--cluster tcp://HOST:PORT sends the stages of two cohorts at a time, and their tasks, to the workers of a Dask cluster.

One cohort is one draw: what a claim's verdict was in it is luck in part. So the stages that train run, as they are in the demo,
on cohorts of other seeds, each with 300 more patients per study who train nothing (the population). One row per cohort and
model, and one per cohort and claim, are added to over_cohorts_models.csv and over_cohorts_claims.csv as soon as a cohort is
done; cohorts that stand there are not run again, and a stopped one goes on where it was. Run and data folders (results/cohort-N,
data/cohort-N, 2 GB) are removed when its rows are written. From these rows come, each time anew:

- models_over_cohorts.csv: mean recovered share (AUC - 0.5) / (attainable - 0.5) of test and external patients together, and of
  the oracle's AUC on the very same patients, which takes the luck of the draw out; true share; how often the 95 % interval of
  the study's test set holds the trained model's true AUC (`alneval.population.auc_beside_oracle`).
- claims_over_cohorts.csv: how often each claim is supported, not supported, inconclusive or not testable at the size of the
  study and on the population, and how often both agree.
- over_cohorts.png: the claims of one model over another that can be tested.

All numbers are of simulated patients. About the demo's time and half as much again for each seed.
"""

from __future__ import annotations

import argparse
import io
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from alneval.delong import auc
from alneval.models import locked_discrimination_table
from alneval.population import known_from_population, population_table
from alneval.rows import main_rows
from alneval.seeds import models_only
from alneval.style import DPI, SPLIT_NAMES, VERDICT_COLORS, head, use_style
from alnlib.files import palette_png, write_csv
from alnlib.paths import repository_root, resolve_data, results_folder
from alnlib.pipeline.results import RunFolder
from alnlib.report.claims import VERDICTS, beside_population, claim_words, claims_ledger
from alnlib.studies import SHOWN_TO, shown_to, title_of

SEEDS = range(101, 121)
TESTED = ["test", "external"]
LAST = "31"
POPULATION = 300
RESAMPLES = 200
"""Of patients, for training against test; nothing else here is resampled."""

HERE = Path(__file__).parent
MODELS, CLAIMS = HERE / "over_cohorts_models.csv", HERE / "over_cohorts_claims.csv"
BY_MODEL, BY_CLAIM, FIGURE = (
    HERE / "models_over_cohorts.csv",
    HERE / "claims_over_cohorts.csv",
    HERE / "over_cohorts.png",
)
MODEL, CLAIM = ["study", "model"], ["study", "kind", "claim", "metric", "split"]
KEPT = ["verdict", "unadjusted", "difference", "difference_low", "difference_high", "p_holm", "attainable_difference"]
KEPT += ["population_verdict", "population_difference", "population_difference_low", "population_difference_high"]
WORDS = ["within_test_interval", "verdict", "unadjusted", "population_verdict"]
"""Columns that are empty where a thing was not judged."""

COLORS = {verdict: VERDICT_COLORS[verdict] for verdict in (VERDICTS[0], VERDICTS[2], VERDICTS[1])}
COLORS[VERDICTS[2]] = "#d1d1d1"  # an area, not a word: paler


def run(seed: int, cluster: str | None) -> RunFolder:
    """The run of one cohort, made or finished."""
    name = f"cohort-{seed}"
    command = [sys.executable, "run_all.py", "--run", name, "--seed", str(seed), "--to", LAST]
    command += ["--set", f"01.n_population={POPULATION}"] + (["--cluster", cluster] if cluster else [])
    subprocess.run(command, cwd=repository_root(), check=True)
    return RunFolder(name, f"data/{name}")


def rows_of(results: RunFolder, seed: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Rows of over_cohorts_models.csv and of over_cohorts_claims.csv."""
    predictions, fresh = results.read_predictions(), results.read_population_predictions()
    truth, oracle = results.read_table("sources/truth.csv"), results.read_table("sources/oracle.csv")
    everybody = pd.concat([predictions, fresh], ignore_index=True)
    measured = locked_discrimination_table(models_only(everybody), seed=seed, n_bootstrap=RESAMPLES)
    given = {"cohort": results.label, "provenance": results.provenance, "truth": truth, "n_bootstrap": RESAMPLES}
    ledger = claims_ledger(predictions, measured, rng=np.random.default_rng(seed), **given)
    models = population_table(measured, fresh, oracle, truth, SHOWN_TO)
    there = pd.concat([fresh.assign(split="test"), predictions[predictions["split"] == "train"]])
    levels = known_from_population(measured, models).assign(split="test")
    ledger = beside_population(ledger, claims_ledger(there, levels, rng=np.random.default_rng(seed), **given))
    models = models.merge(shares(predictions, oracle, truth), on=MODEL, how="left")
    about = {"seed": seed, "commit": head_commit(), "provenance": results.provenance}
    return tuple(table.assign(**about) for table in (models, ledger[[*CLAIM, *KEPT]]))


def shares(predictions: pd.DataFrame, oracle: pd.DataFrame, truth: pd.DataFrame) -> pd.DataFrame:
    """By study and main model: share, of what is attainable, and share_of_oracle, of its AUC on the same units.

    The AUC of test and external patients together is the mean of the two weighed by their pairs.
    """
    rows = main_rows(models_only(predictions))
    rows = rows[rows["split"].isin(TESTED)]
    best = truth[truth["center"] == "primary"].set_index("modality")["attainable_auc"]
    found = []
    for (study, model), members in rows.groupby(MODEL, sort=False):
        modality = shown_to(study, model)
        if modality not in best.index:
            continue
        known = members.merge(
            oracle[oracle["modality"] == modality], on=["patient_id", "unit_id"], validate="one_to_one"
        )
        parts = [part for _, part in known.groupby("split") if part["y_true"].nunique() == 2]
        pairs = [int(part["y_true"].sum() * (1 - part["y_true"]).sum()) for part in parts]
        reached, ideal = (
            np.average([auc(part["y_true"], part[score]) for part in parts], weights=pairs)
            for score in ("y_score", "probability")
        )
        above = [(reached - 0.5) / (limit - 0.5) for limit in (best[modality], ideal)]
        found.append((study, model, *above))
    return pd.DataFrame(found, columns=[*MODEL, "share", "share_of_oracle"])


def by_model(rows: pd.DataFrame) -> pd.DataFrame:
    """models_over_cohorts.csv: one row per model, and one of all models, whose spread is that between cohorts."""
    held = rows[rows["within_test_interval"].ne("")].assign(held=rows["within_test_interval"].eq("yes"))
    everyone = held.groupby("seed")["held"].mean()
    tables = []
    for (study, model), part in rows.groupby(MODEL, sort=False):
        row = {"study": study, "model": model, "cohorts": part["seed"].nunique()}
        for name, column in {
            "share": "share",
            "share_of_oracle": "share_of_oracle",
            "true_share": "recovered_share",
        }.items():
            row |= {f"mean_{name}": part[column].mean(), f"sd_of_{name}": part[column].std()}
        row["mean_true_auc"] = part["true_auc"].mean()
        row["mean_distance_of_test_auc"] = part["test_minus_true"].abs().mean()
        tables.append(row | _coverage(held[(held[MODEL] == [study, model]).all(axis=1)]["held"]))
    last = {"study": "all", "model": "all", "cohorts": len(everyone)} | _coverage(held["held"])
    last["se_of_coverage"] = everyone.sem()
    last["mean_distance_of_test_auc"] = rows["test_minus_true"].abs().mean()
    return pd.DataFrame([*tables, last]).round(3).assign(provenance="simulated")


def _coverage(held: pd.Series) -> dict[str, float]:
    return {"intervals": len(held), "held": int(held.sum()), "coverage": held.mean()}


def by_claim(rows: pd.DataFrame) -> pd.DataFrame:
    """claims_over_cohorts.csv: one row per claim, counts of cohorts. agreed: of both_decided, those with the same verdict;
    found: of those that the population supports, the ones that the study supports too."""
    tables = []
    for key, part in rows.groupby(CLAIM, sort=False):
        row = dict(zip(CLAIM, key, strict=True)) | {"cohorts": part["seed"].nunique()}
        here, there = part["verdict"], part["population_verdict"].fillna("")
        row |= {verdict: int(here.eq(verdict).sum()) for verdict in VERDICTS}
        row |= {f"population: {verdict}": int(there.eq(verdict).sum()) for verdict in VERDICTS[:3]}
        both = here.isin(VERDICTS[:2]) & there.isin(VERDICTS[:2])
        row |= {"both_decided": int(both.sum()), "agreed": int((both & here.eq(there)).sum())}
        row["found"] = int((here.eq(VERDICTS[0]) & there.eq(VERDICTS[0])).sum())
        row |= {f"mean_{name}": part[name].mean() for name in ("difference", "population_difference")}
        tables.append(row | {"sd_of_difference": part["difference"].std()})
    return pd.DataFrame(tables).round(4).assign(provenance="simulated")


def draw(claims: pd.DataFrame) -> Figure:
    """Verdicts of the claims of one model over another that could be tested in most cohorts, as shares of cohorts."""
    tested = claims[claims["kind"].eq("better") & claims[VERDICTS[3]].lt(claims["cohorts"] / 2)]
    sizes = tested.groupby("study", sort=False).size()
    size = {"figsize": (8.6, 1.6 + 0.5 * len(sizes) + 0.44 * len(tested)), "height_ratios": sizes + 0.4}
    figure, axes = plt.subplots(len(sizes), 1, sharex=True, squeeze=False, **size)
    for ax, (study, rows) in zip(axes.flat, tested.groupby("study", sort=False), strict=True):
        places = np.arange(len(rows))[::-1]
        for lift, height, prefix in ((0.14, 0.42, ""), (-0.24, 0.2, "population: ")):
            left = np.zeros(len(rows))
            for verdict, color in COLORS.items():
                counts = rows[prefix + verdict].to_numpy(float)
                ax.barh(places + lift, counts, height, left, color=color, label=None if prefix else verdict)
                for place, count, start in zip(places, counts, left, strict=True):
                    if count and not prefix:
                        ink = "white" if color != COLORS[VERDICTS[2]] else "0.2"
                        ax.text(
                            start + count / 2, place + lift, f"{count:.0f}", ha="center", va="center", color=ink, size=8
                        )
                left += counts
        ax.set_yticks(places, [f"{claim_words(row.claim)},\n{SPLIT_NAMES[row.split]}" for row in rows.itertuples()])
        ax.tick_params(axis="y", length=0)
        head(ax, title_of(study), f"n = {rows['cohorts'].max()} simulated cohorts")
        ax.set(xlim=(0, rows["cohorts"].max()), ylim=(-0.5, len(rows) - 0.5))
    axes[-1, 0].xaxis.set_major_locator(MaxNLocator(integer=True))
    axes[-1, 0].set_xlabel("simulated cohorts")
    title = "thick: verdict at the study's size; thin: the same models on the population (none for external tests)"
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=3, title=title)
    return figure


def head_commit() -> str:
    """Of this checkout, shortened."""
    command = ["git", "rev-parse", "--short=7", "HEAD"]
    return subprocess.run(command, cwd=repository_root(), check=True, capture_output=True, text=True).stdout.strip()


def read(path: Path) -> pd.DataFrame:
    """Rows of all cohorts so far; none without the file."""
    if not path.exists():
        return pd.DataFrame({"seed": []})
    table = pd.read_csv(path, dtype=dict.fromkeys(WORDS, str))
    return table.fillna({name: "" for name in WORDS if name in table})


def add(rows: pd.DataFrame, path: Path) -> None:
    """Write the rows of one cohort among those of the others, by seed."""
    others = read(path)
    others = others[~others["seed"].isin(rows["seed"])]
    table = pd.concat([others, rows], ignore_index=True) if len(others) else rows
    write_csv(table.sort_values("seed", kind="stable"), path)


def summarize() -> None:
    """The two summaries and the figure, from the rows."""
    use_style()
    models, claims = by_model(read(MODELS)), by_claim(read(CLAIMS))
    write_csv(models, BY_MODEL)
    write_csv(claims, BY_CLAIM)
    stream = io.BytesIO()
    draw(claims).savefig(stream, dpi=DPI, format="png")
    FIGURE.write_bytes(palette_png(stream.getvalue()))
    print(models.to_string(index=False), claims.to_string(index=False), sep="\n\n")


def main() -> None:
    """Run what is missing, then summarize; without a cluster a cohort at a time."""
    parser = argparse.ArgumentParser()
    parser.add_argument("seeds", nargs="*", type=int, metavar="SEED", default=list(SEEDS))
    parser.add_argument("--cluster", metavar="tcp://HOST:PORT")
    asked = parser.parse_args()
    missing = [seed for seed in asked.seeds if seed not in set(read(CLAIMS)["seed"])]
    with ThreadPoolExecutor(2 if asked.cluster else 1) as side_by_side:
        runs = {side_by_side.submit(run, seed, asked.cluster): seed for seed in missing}
        try:
            for done in as_completed(runs):
                results = done.result()
                for rows, path in zip(rows_of(results, runs[done]), (MODELS, CLAIMS), strict=True):
                    add(rows, path)
                summarize()
                shutil.rmtree(results_folder() / results.name)
                shutil.rmtree(resolve_data(f"data/{results.name}"))
        except BaseException:
            side_by_side.shutdown(wait=False, cancel_futures=True)
            raise
    summarize()


if __name__ == "__main__":
    main()
