"""All pages of a run, written to site/ of its folder: which there are depends on what the run has made."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from alneval.rows import main_rows
from alneval.site.explorer import explorer_data
from alneval.site.pages import STATIC, Site, as_script, static_files
from alnlib.errors import InputError
from alnlib.files import atomic_path, write_text
from alnlib.pipeline.results import RunFolder
from alnlib.report.site import FIRST_PAGE, figures, front, models, notebooks, provenance, tables
from alnlib.studies import title_of

TEMPLATES = Path(__file__).parent / "templates"


def write_site(name: str, out: Path | None = None) -> Path:
    """Write the report of a run; returns its first page. What an earlier report left is removed.

    name: folder below results/; out: a new or empty folder to write it to instead, with the SVG of every figure, so that it
    can stand alone. Raises InputError for a run that is not there or whose cohort was not read yet, and an `out` in use.
    """
    if out is not None and out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"{out} exists and is not an empty folder; choose another with --out")
    run = RunFolder(name)
    if not run.has("cohort/cohort.yaml"):
        raise InputError(
            f"results/{name} holds no cohort, so there is nothing to report; run it: python3 run_all.py, with --run {name} "
            "for a run of that name"
        )
    files = site_files(run, alone=out is not None)
    target = (run.folder / FIRST_PAGE).parent if out is None else out.resolve()
    before = target.with_name(f".{target.name}") if out is None else target
    if out is None:
        shutil.rmtree(before, ignore_errors=True)
    for address, content in files.items():
        if isinstance(content, bytes):
            with atomic_path(before / address) as temporary:
                temporary.write_bytes(content)
        else:
            write_text(content, before / address)
    if out is None:
        shutil.rmtree(target, ignore_errors=True)
        before.rename(target)
    return target / Path(FIRST_PAGE).name


def site_files(run: RunFolder, alone: bool = False) -> dict[str, str | bytes]:
    """{address: content} of every file of the site; alone: none of its links leads out of it."""
    ledger = front.read_ledger(run)
    ids = tables.telling_ids(run)
    shown = tables.run_tables(run, ids)
    executed = sorted((run.folder / "notebooks").glob("*.ipynb"))
    cards = models.run_cards(run)
    risks = models.risk_models(run, cards)
    pictures = figures.run_figures(run, shown, models.nomogram_notes(risks), alone)
    data = _explorer(run)
    pages = {
        "index.html": ("Results", True),
        "explorer.html": ("Explorer", data is not None),
        "risk.html": ("Risk", bool(risks)),
        "models.html": ("Models", bool(cards)),
        "figures.html": ("Figures", bool(pictures)),
        "tables.html": ("Tables", bool(shown)),
        "notebooks.html": ("Notebooks", bool(executed)),
        "checklists.html": ("Checklists", run.has("report/checklists.csv")),
        "provenance.html": ("Provenance", True),
    }
    links = [(address, words) for address, (words, there) in pages.items() if there]
    about = f"Run {run.name}: {run.label}. Every number was written to a file by a notebook of this run."
    site = Site("ALN compendium", run.provenance, f"{run.provenance} patients", links, about, (TEMPLATES,))

    made: dict[str, str | bytes] = dict(static_files(STATIC))
    made |= front.pages(run, site, ledger, pictures)
    made |= figures.pages(site, pictures)
    made |= tables.pages(site, shown, {path.stem for path in executed})
    made |= notebooks.pages(site, executed, shown, pictures, ids)
    made |= models.pages(site, cards, risks)
    made |= provenance.pages(run, site)
    if data is not None:
        context = {
            "data": as_script(data),
            "lotteries": bool(data["lotteries"]),
            "what": "run",
            "left_out": data["left_out"],
        }
        made["explorer.html"] = site.page("explorer.html", "explorer.html.j2", "Explorer", **context)
    return made


def _explorer(run: RunFolder) -> dict[str, Any] | None:
    if not run.has("evaluation/discrimination.csv") or not any((run.folder / "predictions").glob("*.csv")):
        return None
    stage = next((path for path in (run.folder / "notebooks").glob("41_*.ipynb")), None)
    settings = {"seed": 2026, "n_bootstrap": 2000} | (notebooks.parameters(stage) if stage else {})
    files = {name: f"evaluation/{name}.csv" for name in ("calibration", "resplits")}
    rest: dict[str, Any] = {name: run.read_table(file) for name, file in files.items() if run.has(file)}
    main = main_rows(run.read_predictions())
    discrimination = run.read_table("evaluation/discrimination.csv")
    rest["titles"] = {study: title_of(study) for study in main["study"].unique()}
    rest |= {name: settings[name] for name in ("seed", "n_bootstrap")}
    made = explorer_data(main, discrimination, **rest)
    return made if made["sets"] else None
