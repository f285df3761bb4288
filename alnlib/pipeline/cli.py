"""The command line behind run_all.py: verbs, their options, and how a run is shown.

Every user's mistake ends with one message and status 2; a stage that failed otherwise with status 1.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.live import Live
from rich.progress import Progress as Bar

from alneval.cli import evaluate
from alnlib.arithmetic import arithmetic_line
from alnlib.errors import EXIT_INPUT_ERROR, InputError, Problem, counted, grouped
from alnlib.files import write_csv
from alnlib.paths import repository_root
from alnlib.pipeline import usage
from alnlib.pipeline.execute import FIXED_SETTINGS, HOURS, remedy_of
from alnlib.pipeline.progress import Progress, chosen, stage_list, stage_table, width
from alnlib.pipeline.runner import Plan, Runner, RunOptions, make_plan, refuse_reference
from alnlib.pipeline.stages import STALE
from alnlib.report.site import FIRST_PAGE

if TYPE_CHECKING:
    from alnlib.cohorts.intake import Intake
    from alnlib.cohorts.schema import Cohort

KERNEL_SETTINGS = {name: value for name, value in FIXED_SETTINGS.items() if name != "MPLBACKEND"}
"""What JupyterLab and the tests get of the stages' fixed environment: the same threads, so the same last digits."""

VERBS = (
    "run",
    "test",
    "verify",
    "clean",
    "report",
    "apply",
    "new-cohort",
    "validate",
    "evaluate",
    "download",
    "lab",
    "completion",
)
EXIT_INTERRUPTED = 130
PASSED_ON = {"allow_extra_args": True, "ignore_unknown_options": True}
"""Of the verbs that give further arguments to another program."""
INTAKE_WORDS = {
    "image": "files left out",
    "mask": "masks left out",
    "column": "columns of the table left out",
    "patient": "patients without images, or rows without a patient",
    "id": "ids that almost meet one of the table",
    "value": "values taken as unknown",
    "text": "images with places that look like burnt-in text",
}

app = typer.Typer(add_completion=False, no_args_is_help=False, rich_markup_mode=None, pretty_exceptions_enable=False)
app.command(epilog="Example: python3 run_all.py evaluate predictions.csv --out evaluated")(evaluate)


def main(arguments: list[str]) -> int:
    """Run the command line and return the exit status. Without a verb, `run` is meant."""
    if not arguments or (arguments[0] not in VERBS and arguments[0] not in ("-h", "--help")):
        arguments = ["run", *arguments]
    console = Console(stderr=True, soft_wrap=True, highlight=False)
    for name in ("SIGTERM", "SIGHUP"):  # end the stages' processes too, as an interrupt does
        number = getattr(signal, name, None)
        if (
            number is not None and signal.getsignal(number) is not signal.SIG_IGN
        ):  # which nohup sets, to outlive a logout
            signal.signal(number, signal.default_int_handler)
    try:
        result = app(["--help" if argument == "-h" else argument for argument in arguments], standalone_mode=False)
        if result == EXIT_INTERRUPTED:  # which typer makes of an interrupt
            raise KeyboardInterrupt
        return int(result or 0)
    except InputError as error:
        console.print(str(error), markup=False)
        return EXIT_INPUT_ERROR
    except typer.Exit as leaving:
        return leaving.exit_code
    except KeyboardInterrupt:
        console.print("\nInterrupted. What had ended well is kept; the same command goes on from there.")
        return EXIT_INTERRUPTED
    except (OSError, MemoryError) as error:
        if not (remedy := remedy_of(f"{type(error).__name__} {error}")):
            raise
        console.print(f"{error or 'no memory'}{remedy}. What had ended well is kept.", markup=False)
        return EXIT_INPUT_ERROR
    except Exception as error:
        if type(error).__module__.startswith(("click", "typer")) and hasattr(error, "format_message"):
            console.print(f"{error.format_message()} (`run_all.py --help` lists the options)", markup=False)
            return EXIT_INPUT_ERROR
        raise


@app.command(epilog="Example: python3 run_all.py --run try --seed 7 --to 22")
def run(
    cohort: Annotated[
        str, typer.Option(help="simulated, duke, breast-lesions-usg, ispy2, or a cohort folder")
    ] = "simulated",
    data: Annotated[str | None, typer.Option(help="folder with the cohort's files (default data/COHORT)")] = None,
    profile: Annotated[str, typer.Option(help="a file of notebooks/profiles: demo, published, full")] = "demo",
    only: Annotated[str | None, typer.Option(metavar="NN", help="run this stage alone")] = None,
    start: Annotated[str | None, typer.Option("--from", metavar="NN", help="run this stage and the later ones")] = None,
    end: Annotated[str | None, typer.Option("--to", metavar="NN", help="run no stage after this one")] = None,
    name: Annotated[str | None, typer.Option("--run", metavar="NAME", help="folder below results/ of its own")] = None,
    force: Annotated[bool, typer.Option("--force", help="run the chosen stages even if they are fresh")] = False,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda")] = "auto",
    jobs: Annotated[int | None, typer.Option(min=1, help="stages side by side (default: cores, at most 4)")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="seed of everything random; needs --run if simulated")] = None,
    cluster: Annotated[str | None, typer.Option(metavar="tcp://HOST:PORT", help="a running Dask cluster")] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="NN.parameter=value",
            help="override a notebook's parameter; needs --run if simulated; may be repeated",
        ),
    ] = None,
    time_limit: Annotated[
        float, typer.Option(metavar="HOURS", help="end a stage that takes longer (default: 24)")
    ] = HOURS,
    show: Annotated[
        bool, typer.Option("--list", help="show the stages, fresh or stale and why, and run nothing")
    ] = False,
) -> int:
    """Reproduce the results of a cohort: run every stage that is not fresh."""
    if device not in ("auto", "cpu", "cuda"):
        raise InputError(f"--device {device}: choose auto, cpu or cuda")
    asked = (cohort, data, profile, only, start, force, device, jobs, seed, cluster, tuple(settings or ()))
    if not time_limit > 0:
        raise InputError(f"--time-limit {time_limit:g}: give hours above 0")
    options = RunOptions(*asked, run=name, end=end, time_limit=time_limit)
    plan = make_plan(options)
    if show:
        runner = Runner(plan)
        runner.survey()
        Console(width=width(), highlight=False).print(stage_list(runner))
        return 0
    refuse_reference(plan)
    _warn(plan.warnings)
    return _run_and_show(plan)


@app.command(
    epilog="Example: python3 run_all.py test tests/test_verify.py -k verdict",
    context_settings=PASSED_ON,
)
def test(context: typer.Context) -> int:
    """Every test, the same that continuous integration runs, file by file on two processes. Further arguments go to pytest."""
    command = [sys.executable, "-m", "pytest", "-n", "2", "--dist", "loadfile", *context.args]
    return subprocess.call(command, cwd=repository_root(), env=os.environ | KERNEL_SETTINGS)


@app.command(epilog="Example: python3 run_all.py verify try simulated-demo")
def verify(
    name: Annotated[str, typer.Argument(metavar="[RUN]", help="folder below results/")] = "simulated-demo",
    other: Annotated[
        str, typer.Argument(metavar="[OTHER]", help="another such folder: compare the two as they stand")
    ] = "",
    against: Annotated[
        str | None, typer.Option(metavar="RUN", help="the committed run to compare with (default: the same name)")
    ] = None,
    table: Annotated[Path | None, typer.Option(metavar="PATH", help="also write the comparison as CSV")] = None,
) -> int:
    """Compare a run with the committed one, or with another run: files and verdicts that are the same or moved."""
    from alnlib.pipeline.verify import compare_folders, compare_runs, report, report_folders

    if other and against:
        raise InputError(f"verify {name} {other} --against {against}: give OTHER or --against, not both")
    comparison = compare_folders(name, other) if other else compare_runs(name, against or name)
    print(report_folders(name, other, comparison) if other else report(name, against or name, comparison))
    if table is not None:
        import pandas as pd

        write_csv(pd.DataFrame(comparison.rows()), table)
    return 0 if comparison.same else 1


@app.command(epilog="Example: python3 run_all.py report simulated-demo")
def report(
    name: Annotated[str, typer.Argument(metavar="[RUN]", help="folder below results/")] = "simulated-demo",
    out: Annotated[Path | None, typer.Option(help="a folder to publish: the same pages, every SVG among them")] = None,
) -> int:
    """Write a run's report anew: pages that open from disk, in site/ of its folder. Every run ends with it."""
    from alnlib.report.site.build import write_site

    print(write_site(name, out))
    return 0


@app.command(epilog="Example: python3 run_all.py clean simulated-demo")
def clean(
    name: Annotated[str, typer.Argument(metavar="[RUN]", help="folder below results/ (default: every one)")] = "",
    yes: Annotated[bool, typer.Option("--yes", help="do not ask")] = False,
    whole: Annotated[
        bool, typer.Option("--whole", help="the whole of a scratch run, its simulated patients too")
    ] = False,
) -> int:
    """Free space: list checkpoints, crops and leftovers of runs with their sizes, and remove them when told to."""
    from alnlib.pipeline.clean import removable, remove

    things = removable(name or None, whole)
    if not things:
        print("Nothing may go.")
        return 0
    print("\n".join([*map(str, things), f"{sum(one.size for one in things) / 1e6:9.1f} MB  together"]))
    if not yes and not sys.stdin.isatty():
        print("Nothing was removed; --yes removes all of it.")
    elif yes or typer.confirm("Remove all of it?"):
        remove(things)
        print("Removed.")
    return 0


@app.command(epilog="Example: python3 run_all.py apply simulated-demo/clinical --cohort PATH")
def apply(
    model: Annotated[
        str,
        typer.Argument(metavar="[MODEL]", help="a kept model: its folder, RUN/TOPIC/NAME or RUN/NAME; none: list them"),
    ] = "",
    cohort: Annotated[str, typer.Option(help="a cohort folder, or a public cohort's name")] = "",
    data: Annotated[str | None, typer.Option(help="folder with a public cohort's files (default data/COHORT)")] = None,
    endpoint: Annotated[
        str, typer.Option(metavar="NAME", help="of the cohort, to judge by (default: the model's own)")
    ] = "",
    out: Annotated[Path | None, typer.Option(help="folder to write to (default results/applied/...)")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda")] = "auto",
    force: Annotated[bool, typer.Option("--force", help="write into a folder that is not empty")] = False,
) -> int:
    """Score new patients with a model that a run fitted and kept, fit nothing, and evaluate it where the outcome is known."""
    os.environ["MPLBACKEND"] = "Agg"  # figures go to files only
    from alnlib.kept.apply import apply_model, told
    from alnlib.kept.card import find_model, list_kept_models

    if not model:
        print("\n".join(list_kept_models()))
        return 0
    find_model(model)
    if not cohort:
        raise InputError("give the patients to score: --cohort PATH, or the name of a public cohort")
    applied = apply_model(model, cohort, data, endpoint, out, device, force)
    print("\n".join(told(applied)))
    _warn(applied.warnings)
    return 0


@app.command(epilog="Example: python3 run_all.py new-cohort PATH --dicom DIR --table patients.xlsx")
def new_cohort(
    folder: Annotated[Path, typer.Argument(metavar="PATH", help="the cohort folder to write")],
    images: Annotated[Path, typer.Option("--dicom", metavar="DIR", help="DICOM, PNG, NIfTI, video, at any depth")],
    table: Annotated[Path, typer.Option(metavar="SHEET", help="patients: Excel, or CSV with any separator")],
    endpoints: Annotated[
        list[str] | None,
        typer.Option(
            "--endpoint", metavar="NAME=COLUMN", help="the first is the primary one (a terminal asks); may be repeated"
        ),
    ] = None,
    positive: Annotated[
        list[str] | None, typer.Option(metavar="NAME=VALUE", help="means 1 (default: 1); may be repeated")
    ] = None,
    negative: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="means 0 (default: the only other value); may be repeated"),
    ] = None,
    patient_column: Annotated[str, typer.Option(metavar="COLUMN", help="names the patient (a terminal asks)")] = "",
    modality: Annotated[
        str, typer.Option(help="of pictures and volumes whose names do not tell: US, MG, CT, MRI")
    ] = "",
    spacing: Annotated[str, typer.Option(metavar="COLUMN=mm", help="edge of a pixel, in mm or cm")] = "",
    center_column: Annotated[str, typer.Option(metavar="COLUMN", help="centers, of which only a number is kept")] = "",
    leave_out: Annotated[
        list[str] | None,
        typer.Option(metavar="COLUMN", help="no predictor, such as one known after surgery only; may be repeated"),
    ] = None,
    key: Annotated[Path | None, typer.Option(metavar="FILE", help="write old and new ids there, or reuse them")] = None,
    report: Annotated[
        Path | None, typer.Option(metavar="FILE", help="what was left out (default PATH.intake.csv)")
    ] = None,
    accept_near: Annotated[
        bool, typer.Option("--accept-near", help="ids that differ in zeros, case or separators are one")
    ] = False,
) -> int:
    """Turn a folder of images and a table into a cohort folder, without identities. The sources stay as they are."""
    from alnlib.cohorts.intake import fitting_columns, new_cohort, parse_options
    from alnlib.cohorts.sheet import read_sheet

    if sys.stdin.isatty() and not (patient_column and endpoints):
        sheet = read_sheet(table)
        print(f"Columns of {table}: {', '.join(sheet.cells)}")
        if not patient_column:
            fitting = next(iter(fitting_columns(images, sheet, modality)), None)
            patient_column = typer.prompt("Column that names the patient", default=fitting)
        endpoints = endpoints or [typer.prompt("Endpoint, as NAME=COLUMN (aln_metastasis=pN)")]
    places = {"center_column": center_column, "key": key, "report": report, "accept_near": accept_near}
    places["leave_out"] = tuple(leave_out or ())
    options = parse_options(
        endpoints or (), positive or (), negative or (), spacing, modality, patient_column=patient_column, **places
    )
    made = new_cohort(folder, images, table, options)
    _show_intake(folder, made)
    return 0


@app.command(epilog="Example: python3 run_all.py validate PATH --images")
def validate(
    folder: Annotated[Path, typer.Argument(help="cohort folder: cohort.yaml, patients.csv, images.csv")],
    images: Annotated[bool, typer.Option("--images", help="open and cut every image too, and compare headers")] = False,
) -> int:
    """Check a cohort folder: every problem at once, with file, row and remedy, and which stages have how many patients."""
    from alnlib.cohorts.folder import read_cohort
    from alnlib.pipeline.offer import applicable_stages, read_offer

    cohort = read_cohort(folder)
    print(
        f"{folder} is a valid cohort folder: {len(cohort.patients)} patients, {len(cohort.images)} images, "
        f"{len(cohort.readers)} reader scores, {cohort.feature_table().shape[1]} features, {cohort.provenance}."
    )
    for stage, told in applicable_stages(read_offer(folder)):
        print(f"  {stage.notebook:22s} {told}")
    _warn(cohort.warnings)
    if images:
        _examine(cohort)
    return 0


def _examine(cohort: Cohort) -> None:
    """Open, cut and compare every image on all cores. Raises InputError for those that cannot be used."""
    from alnlib.imaging import examine

    n_jobs = os.cpu_count() or 1
    with Bar(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("images", total=len(cohort.images))
        found = examine.examine_images(cohort, n_jobs, lambda done, _: progress.update(task, completed=done))
    contradictions = examine.header_contradictions(cohort, n_jobs)
    _warn(examine.contradiction_problems(cohort, contradictions))
    if len(found):
        problems = examine.image_problems(cohort, found)
        raise InputError(f"{len(found)} of {len(cohort.images)} images cannot be used: {counted(problems)}", problems)
    where = f"{len(contradictions)} place{'s' * (len(contradictions) != 1)}"
    print(f"{len(cohort.images)} images were opened and cut; headers contradict the table in {where}.")


def _warn(warnings: Sequence[Problem]) -> None:
    """Say on stderr what is readable in a cohort and hardly true."""
    if warnings:
        lines = [
            f"{counted(warnings, 'warning')}, and nothing is changed:",
            *(f"  {line}" for line in grouped(warnings)),
        ]
        Console(stderr=True, soft_wrap=True, highlight=False).print("\n".join(lines), markup=False)


@app.command(epilog="Example: python3 run_all.py download duke --data data/duke --dry-run")
def download(
    cohort: Annotated[str, typer.Argument(help="a cohort of data_manifest.csv")],
    data: Annotated[Path | None, typer.Option(help="where to put the files (default data/COHORT)")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="say what would be fetched, fetch nothing")] = False,
    patients: Annotated[
        str | None, typer.Option(help="image series of these patients, separated by commas, or all")
    ] = None,
    masks: Annotated[bool, typer.Option("--masks", help="also the published segmentations")] = False,
    mirror: Annotated[
        str | None, typer.Option(metavar="URL", help="fetch from this copy instead of the source")
    ] = None,
) -> int:
    """Fetch a public cohort and verify it against data_manifest.csv; files already there are verified and kept."""
    from alnlib.cohorts.download import download_cohort
    from alnlib.cohorts.manifest import cohort_rows

    chosen = None if patients is None else [name.strip() for name in patients.split(",") if name.strip()]
    folder = data or repository_root() / "data" / cohort
    print(download_cohort(cohort_rows(cohort), folder, dry_run=dry_run, patients=chosen, masks=masks, mirror=mirror))
    return 0


@app.command(
    epilog="Example: python3 run_all.py lab --port 8890",
    context_settings=PASSED_ON,
)
def lab(context: typer.Context) -> int:
    """Open JupyterLab on the notebooks. Further arguments go to JupyterLab."""
    command = [sys.executable, "-m", "jupyterlab", "--notebook-dir", str(repository_root()), *context.args]
    return subprocess.call(command, env=os.environ | KERNEL_SETTINGS | {"JUPYTER_PREFER_ENV_PATH": "1"})


@app.command(epilog="Example: source <(./run_all.py completion bash), then ./run_all.py ver<Tab>")
def completion(
    shell: Annotated[str, typer.Argument(help="bash, zsh or fish")],
) -> int:
    """Print a script that lets a shell complete verbs, options, stages, profiles and runs of ./run_all.py."""
    if shell not in usage.SHELLS:
        raise InputError(f"completion {shell}: give one of {', '.join(usage.SHELLS)}")
    print(usage.completion(shell))
    return 0


# --- showing an intake --------------------------------------------------------------------------------------------


def _show_intake(folder: Path, made: Intake) -> None:
    cohort = made.cohort
    print(f"{folder}: {cohort!r}")
    if made.unchanged:
        print("Made of the same files and options before; nothing was written.")
        return
    proposed = ["modality", "timepoint", "sequence_or_view", "laterality"]
    for values, rows in cohort.images[[*proposed, "patient_id", "mask_path"]].fillna("-").groupby(proposed, sort=True):
        masks = (rows["mask_path"] != "-").sum()
        print(f"  {len(rows)} images of {rows['patient_id'].nunique()} patients: {' '.join(values)}; {masks} masks")
    print(f"  clinical variables: {', '.join(cohort.clinical) or 'none'}")
    for what, count in made.counts().items():
        print(f"  {count} {INTAKE_WORDS[what]}")
    print(
        f"{made.report} says which and why; it holds names of the source. Look at images and cohort.yaml before you share them."
    )


# --- showing a run ------------------------------------------------------------------------------------------------


def _run_and_show(plan: Plan) -> int:
    console = Console(highlight=False, width=width())
    runner = Runner(plan)
    progress = Progress(runner)
    console.print(arithmetic_line(runner.computed()), markup=False, soft_wrap=True)
    with Live(console=console, refresh_per_second=4, transient=True) if console.is_terminal else nullcontext() as live:
        runner.on_change = (lambda r: live.update(progress.table(r))) if live else progress.lines(console)
        good = runner.run()
    if live:
        console.print(stage_table(chosen(runner)))
    counts = Counter(status.kind for status in runner.statuses.values())
    seconds = f"{time.monotonic() - progress.begun:.0f} s"
    console.print(f"results/{plan.name}: {counts['done']} stages run, {counts['fresh']} fresh, {seconds}", markup=False)
    failed = [status for status in runner.statuses.values() if status.kind == "failed"]
    errors = Console(stderr=True, soft_wrap=True, highlight=False)
    for status in runner.statuses.values():
        for note in status.notes:
            errors.print(f"note: {status.stage.notebook}: {note}", markup=False)
    if (plan.folder / STALE).exists():
        told = "Its files do not all belong together: "
        errors.print(f"{told}{plan.folder / STALE} says which are stale and what makes them anew.", markup=False)
    for status in failed:
        errors.print(f"\n{status.stage.notebook} failed. {status.detail}", markup=False)
        kept = plan.folder / "failed" / f"{status.stage.notebook}.ipynb"
        if kept.exists():
            errors.print(f"Its notebook, up to the error, is in {kept}; earlier results are untouched.", markup=False)
        for line in status.trail:
            errors.print(f"    {line}", markup=False)
    _report(plan, console, counts["done"] > 0, good)
    users = all(status.error is None or status.error["name"] == "InputError" for status in failed)
    return 0 if good else EXIT_INPUT_ERROR if users else 1


def _report(plan: Plan, console: Console, changed: bool, good: bool) -> None:
    """Write the report of what the run holds, unless it stands there already; of a run that is not good, as far as it can be."""
    stands = (plan.folder / FIRST_PAGE).exists() and not changed
    if stands or not (plan.folder / "cohort" / "cohort.yaml").exists():
        return
    from alnlib.report.site.build import write_site

    try:
        write_site(plan.name)
    except (InputError, LookupError, ValueError, TypeError, AttributeError) as error:
        if good:
            raise
        why = next(iter(str(error).splitlines()), type(error).__name__)
        console.print(f"report: not written, as a file of the run cannot be read ({why})", markup=False, soft_wrap=True)
        return
    console.print(f"report: results/{plan.name}/{FIRST_PAGE}", markup=False, soft_wrap=True)
