"""With what a run was made, what comes out the same elsewhere, and the reporting checklists."""

from __future__ import annotations

from collections import Counter

import pandas as pd

from alneval.site.pages import Site, table_rows
from alnlib.pipeline.results import RunFolder
from alnlib.pipeline.verify import class_of, classes, tolerances
from alnlib.report.checklists import DISCLAIMER, STATUSES

MACHINE = "machine"
"""The class of files that no two machines share."""


def pages(run: RunFolder, site: Site) -> dict[str, str]:
    """provenance.html, and checklists.html where the run filled any."""
    made = run.read_json("provenance.json") if run.has("provenance.json") else {}
    facts = {"commit": made.get("commit"), "written": made.get("written"), "arithmetic": made.get("arithmetic")}
    facts |= made.get("machine", {})
    facts |= {name: value for name, value in made.get("settings", {}).items() if name != "data"}
    versions = pd.DataFrame(made.get("versions", {}).items(), columns=["package", "version"])
    stages = pd.DataFrame()
    if run.has("run_log.csv"):
        log = run.read_table("run_log.csv").drop_duplicates("notebook", keep="last").sort_values("notebook")
        stages = log[["notebook", "status", "seconds", "started", "device", "commit"]]
    files = [path.relative_to(run.folder).as_posix() for path in run.folder.glob("*/*") if path.is_file()]
    counts = Counter(class_of(file) for file in files if not file.startswith((".", "site/")))
    exactness = [
        (kind, entry["means"], counts[kind], [str(each) for each in tolerances(kind)])
        for kind, entry in classes().items()
        if counts[kind] and kind != MACHINE
    ]
    context = {"facts": {name: value for name, value in facts.items() if value is not None}, "exactness": exactness}
    context |= {"versions": table_rows(versions), "stages": table_rows(stages), "run": run.name}
    found = {"provenance.html": site.page("provenance.html", "provenance.html.j2", "Provenance", **context)}
    if run.has("report/checklists.csv"):
        table = run.read_table("report/checklists.csv").fillna("").drop(columns="provenance", errors="ignore")
        of = [
            (name, table_rows(rows.drop(columns="checklist"), len(rows)), dict(rows["status"].value_counts()))
            for name, rows in table.groupby("checklist", sort=False)
        ]
        words = {"checklists": of, "disclaimer": DISCLAIMER, "statuses": STATUSES}
        found["checklists.html"] = site.page("checklists.html", "checklists.html.j2", "Checklists", **words)
    return found
