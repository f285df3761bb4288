"""The first page: the verdict board, the story, the key figure, and how patients came into each study."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd

from alneval.figures import SPLIT_NAMES
from alneval.rows import estimate_text, judged_rows, main_rows
from alneval.site.pages import Site, TableRows, table_rows
from alneval.tables import SPLITS
from alnlib.pipeline.results import RunFolder
from alnlib.report.claims import VERDICTS, readable_claims
from alnlib.report.site.figures import KEY_FIGURES, ShownFigure
from alnlib.report.site.notebooks import rendered_markdown
from alnlib.studies import STUDIES, title_of

MARKS = dict(zip(VERDICTS, ("✓", "✕", "?", "–"), strict=True))
CLASSES = dict(zip(VERDICTS, ("supported", "not-supported", "inconclusive", "cannot"), strict=True))


@dataclass(frozen=True)
class Flow:
    """How patients came into a study: steps of (number, words), and the splits that they end in."""

    title: str
    steps: list[tuple[str, str]]
    splits: list[str]


def read_ledger(run: RunFolder) -> pd.DataFrame:
    """report/claims.csv, empty where the run has none."""
    return run.read_table("report/claims.csv") if run.has("report/claims.csv") else pd.DataFrame()


def pages(run: RunFolder, site: Site, ledger: pd.DataFrame, pictures: Mapping[str, ShownFigure]) -> dict[str, str]:
    """index.html."""
    claims = []
    if len(ledger):
        for row, words in zip(ledger.to_dict("records"), readable_claims(ledger).to_dict("records"), strict=True):
            told = {"study": title_of(row["study"]), "verdict": row["verdict"], "mark": MARKS[row["verdict"]]}
            told |= {"of": row["study"], "class": CLASSES[row["verdict"]], "number": len(claims) + 1}
            claims.append(told | {"words": words})
    story = run.path("report/summary.md").read_text(encoding="utf-8") if run.has("report/summary.md") else ""
    key = next((pictures[name].figure for name in KEY_FIGURES if name in pictures), None)
    counts = [(verdict, CLASSES[verdict], sum(claim["verdict"] == verdict for claim in claims)) for verdict in VERDICTS]
    context = {
        "run": run.name,
        "label": run.label,
        "claims": claims,
        "studies": [[claim for claim in claims if claim["of"] == study] for study in {c["of"]: 0 for c in claims}],
        "counts": counts,
        "marks": MARKS,
        "columns": [name for name in claims[0]["words"] if name not in ("study", "in words")] if claims else [],
        "story": rendered_markdown(story.partition("\n\n")[2]) if claims else "",
        "key": key,
        "results": _results(run),
        "flows": _flows(run),
    }
    return {"index.html": site.page("index.html", "index.html.j2", run.label, **context)}


def _results(run: RunFolder) -> TableRows | None:
    """AUC and operating point of the judged models."""
    if not run.has("evaluation/discrimination.csv") or not any((run.folder / "predictions").glob("*.csv")):
        return None
    judged = judged_rows(main_rows(run.read_predictions()))[["study", "model", "split"]].drop_duplicates()
    rows = run.read_table("evaluation/discrimination.csv").merge(judged)
    table = pd.DataFrame({"study": rows["study"].map(title_of), "model": rows["model"]})
    table["patients"] = rows["split"].map(SPLIT_NAMES)
    table[["n", "positive"]] = rows[["n", "n_positive"]]
    for name in ("auc", "sensitivity", "specificity"):
        words = "AUC" if name == "auc" else name
        table[f"{words} ({run.provenance})"] = [estimate_text(row, name, 3) for row in rows.to_dict("records")]
    return table_rows(table)


def _flows(run: RunFolder) -> list[Flow]:
    """Of every study that has predictions: patients of the cohort, with the endpoint known, scored, and by split."""
    if not run.has("cohort/splits.csv") or not any((run.folder / "predictions").glob("*.csv")):
        return []
    data, rows = run.read_study(), main_rows(run.read_predictions())
    endpoints = data.predicted_by(rows)
    patients = data.cohort.patients
    flows, order = [], {study: place for place, study in enumerate(STUDIES)}
    for study, of_study in rows.groupby("study", sort=False):
        endpoint = endpoints[study]
        label, known = data.cohort.endpoints[endpoint].label, patients[endpoint].notna()
        left = f"; {(~known).sum()} not known" if not known.all() else ""
        steps = [(f"{len(patients)}", "patients of the cohort"), (f"{known.sum()}", f"with {label} known{left}")]
        scored = of_study.drop_duplicates(["patient_id", "unit_id"])
        steps.append((f"{scored['patient_id'].nunique()}", "with what its models read"))
        parts = []
        for split in (split for split in SPLITS if split in set(of_study["split"])):
            units = of_study[of_study["split"] == split].drop_duplicates(["patient_id", "unit_id"])
            n = units["patient_id"].nunique()
            nodes = f", {len(units)} units" if len(units) > n else ""
            parts.append(f"{SPLIT_NAMES[split]} {n}{nodes} ({units['y_true'].sum()} positive)")
        flows.append((order.get(study, len(order)), Flow(title_of(study), steps, parts)))
    return [flow for _, flow in sorted(flows, key=lambda placed: placed[0])]
