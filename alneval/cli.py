"""The command aln-evaluate, for an environment that holds alneval alone; `run_all.py evaluate` is the same verb."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from alnlib.errors import EXIT_INPUT_ERROR, InputError


def evaluate(
    predictions: Annotated[
        list[Path],
        typer.Argument(
            help="CSV or .xlsx: patient_id, y_true, y_score; or a column of scores per model; further study, model, role, "
            "split, unit_id"
        ),
    ],
    out: Annotated[Path | None, typer.Option(help="folder to write to (default ./evaluation-of-NAME)")] = None,
    score: Annotated[list[str] | None, typer.Option(help="a column of scores of a wide file; may be repeated")] = None,
    threshold: Annotated[
        list[str] | None, typer.Option(help="fixed beforehand: VALUE for all models, or MODEL=VALUE; may be repeated")
    ] = None,
    sensitivity: Annotated[
        float | None, typer.Option(min=0, max=1, help="that thresholds reach where they are chosen, not Youden's index")
    ] = None,
    specificity: Annotated[float | None, typer.Option(min=0, max=1, help="the same")] = None,
    subgroup: Annotated[list[str] | None, typer.Option(help="a column of levels; may be repeated")] = None,
    reader: Annotated[list[str] | None, typer.Option(help="a column of one reader's reads; may be repeated")] = None,
    interval: Annotated[str, typer.Option(metavar="logit_t|logit|wald", help="of an AUC; wald is pROC's")] = "logit_t",
    reference: Annotated[str, typer.Option(metavar="t|normal", help="of a difference; normal is pROC's")] = "t",
    seed: Annotated[int, typer.Option(min=0, help="seed of the resamples")] = 2026,
    n_bootstrap: Annotated[int, typer.Option(min=40, help="resamples of patients; a quarter for calibration")] = 2000,
    provenance: Annotated[str, typer.Option(metavar="real|simulated", help="whose patients")] = "not stated",
    force: Annotated[bool, typer.Option("--force", help="write into a folder that is not empty")] = False,
) -> int:
    """Discrimination, comparisons, calibration and net benefit of anybody's predictions."""
    begun = time.monotonic()
    os.environ["MPLBACKEND"] = "Agg"  # figures go to files only, whatever display or setting there is
    from alneval.folder import FIRST_PAGE, default_folder, write_evaluation

    folder = out if out is not None else default_folder(predictions)
    options = {"seed": seed, "n_bootstrap": n_bootstrap, "provenance": provenance, "force": force}
    options |= {"scores": score or (), "subgroups": subgroup or (), "readers": reader or ()}
    options |= {"thresholds": threshold or (), "sensitivity": sensitivity, "specificity": specificity}
    options |= {"interval": interval, "reference": reference}
    evaluation, files = write_evaluation(predictions, folder, **options)
    for warning in evaluation.warnings:
        print(f"note: {warning}")
    print(
        f"{folder}: {evaluation}; {len(files)} files in {time.monotonic() - begun:.0f} s; begin with {FIRST_PAGE} or summary.md"
    )
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Evaluate predictions files named on the command line; a user's mistake is one message and status 2."""
    app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
    app.command()(evaluate)
    try:
        return app(arguments, prog_name="aln-evaluate") or 0
    except InputError as error:
        print(error, file=sys.stderr)
        return EXIT_INPUT_ERROR
