"""A small repository with notebooks of a few lines, to run the pipeline on without the compendium's own notebooks."""

from __future__ import annotations

import hashlib
import json
import os
from importlib import import_module
from pathlib import Path

import nbformat

from alnlib.cohorts.manifest import MANIFEST_COLUMNS
from alnlib.files import write_json
from alnlib.pipeline import runner
from alnlib.pipeline.execute import Outcome, StageRun
from alnlib.pipeline.runner import Runner, RunOptions, make_plan
from alnlib.pipeline.stages import Stage

PARAMETERS = (
    'run = "simulated-demo"  # folder below results/\nseed = 1  # of everything random\nfactor = 2.0  # a number'
)

TOY_STAGES = (
    Stage("01_first", "writes the data and a number", makes=("a.csv", "cohort/cohort.yaml"), reads_data=True),
    Stage("02_second", "doubles it", needs=("a.csv", "cohort/cohort.yaml"), makes=("b.csv", "numbers/02_second.json")),
    Stage("03_aside", "independent of the second", needs=("a.csv",), makes=("c.csv",)),
)

TOY_CELLS = {
    "01_first": [
        "import pandas as pd\nfrom alnlib.pipeline.results import RunFolder",
        "results = RunFolder(run)",
        "results.output('cohort/cohort.yaml').write_text('title: Toy\\nprovenance: simulated\\n')",
        "results.save_table(pd.DataFrame({'x': [seed, seed + 1]}), 'a.csv')",
    ],
    "02_second": [
        "from alnlib.pipeline.results import RunFolder\nresults = RunFolder(run)",
        "table = results.read_table('a.csv')",
        "results.save_table(table * factor, 'b.csv')\nresults.save_numbers({'toy_sum': table['x'].sum()}, '02_second')",
    ],
    "03_aside": [
        "from alnlib.pipeline.results import RunFolder\nresults = RunFolder(run)",
        "results.save_table(results.read_table('a.csv') + 1, 'c.csv')",
    ],
}


def write_toy_notebook(folder: Path, name: str, cells: list[str], parameters: str = PARAMETERS) -> Path:
    """Write notebooks/`name`.ipynb with a tagged parameters cell and the given code cells."""
    notebook = nbformat.v4.new_notebook()
    notebook.cells = [nbformat.v4.new_code_cell(parameters, metadata={"tags": ["parameters"]})]
    notebook.cells += [nbformat.v4.new_code_cell(source) for source in cells]
    notebook.metadata["kernelspec"] = {"display_name": "Python 3", "language": "python", "name": "python3"}
    path = folder / "notebooks" / f"{name}.ipynb"
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, path)
    return path


def write_toy_repository(folder: Path) -> Path:
    """A repository with TOY_STAGES' notebooks, an empty demo profile, a lock and a data folder."""
    for name, cells in TOY_CELLS.items():
        write_toy_notebook(folder, name, cells)
    (folder / "notebooks" / "profiles").mkdir()
    (folder / "notebooks" / "profiles" / "demo.yaml").write_text("02_second:\n  factor: 3\n")
    (folder / "requirements.lock").write_text("numpy==0\n")
    data = folder / "data" / "simulated-demo"
    data.mkdir(parents=True)
    (data / "file.txt").write_text("one")
    return folder


TOY_ENTRY = dict.fromkeys(MANIFEST_COLUMNS, "") | {
    "cohort": "toy",
    "kind": "table",
    "access": "open",
    "need": "required",
}
TOY_ENTRY |= {"doi": "10.1234/toy", "license": "CC0", "citation": "Nobody 2020"}
"""A row of a data manifest, without a file."""


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


class Killed(Exception):
    """What stops a fit in the middle."""


def kill_after(epoch: int):
    """A `progress` of a fit that kills it when this epoch is done."""

    def kill(row):
        if row["epoch"] == epoch:
            raise Killed

    return kill


def run_toys(**options) -> Runner:
    """A run of TOY_STAGES in the repository at hand; `good`: whether none failed."""
    runner = Runner(make_plan(RunOptions(**options), TOY_STAGES))
    runner.good = runner.run()
    return runner


def _run_cells(spec: StageRun) -> None:
    """Run a stage's cells one after the other in this process and write what `alnlib.pipeline.execute` would."""
    os.environ |= {"ALN_ROOT": spec.root, "ALN_RESULTS": spec.results, "ALN_STAGING": spec.staging}
    notebook, names, error = json.loads(Path(spec.source).read_text()), {}, None
    for cell in notebook["cells"]:
        try:
            exec("".join(cell["source"]), names)
        except Exception as failure:
            error = {"name": type(failure).__name__, "message": str(failure), "cell": None}
            break
        if "parameters" in cell["metadata"].get("tags", []):
            names |= spec.parameters
    write_json(notebook, Path(spec.staging) / "notebooks" / f"{spec.notebook}.ipynb")
    write_json(error, Path(spec.staging) / ".error.json")


def forked_stage(spec: StageRun, started: list | None = None, hours: float = 1.0) -> Outcome:
    """`run_in_process` without papermill and a kernel, which take seconds: a toy notebook in a copy of this process."""
    import_module("alnlib.pipeline.results")  # once, not in every copy
    Path(spec.staging).mkdir(parents=True)
    pid = os.fork()
    if not pid:
        try:
            _run_cells(spec)
        finally:
            os._exit(0)
    os.waitpid(pid, 0)
    return Outcome(0.01, json.loads((Path(spec.staging) / ".error.json").read_text()))


def without_kernels(monkeypatch) -> None:
    """From here on stages are run by `forked_stage`."""
    monkeypatch.setattr(runner, "run_in_process", forked_stage)


def kinds(runner: Runner) -> list[str]:
    return [status.kind for status in runner.statuses.values()]
