"""Run the stage table: decide what is stale, run what is ready side by side, keep what ended well.

What stages there are stands in `alnlib.pipeline.stages`; how one notebook is executed in `alnlib.pipeline.execute`.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from alnlib.arithmetic import arithmetic, processor
from alnlib.errors import InputError, Problem
from alnlib.files import sha256_file, write_json, write_text
from alnlib.memo import NOTES, FileDigests, LibraryCode
from alnlib.paths import data_root, notebooks_folder, repository_root, resolve_data, results_folder
from alnlib.pipeline import execute, provenance
from alnlib.pipeline.cache import notebook_code, notebook_digest, read_state, why_stale
from alnlib.pipeline.cluster import cluster_executor, outcome_of, run_on_worker
from alnlib.pipeline.execute import HOURS, Outcome, StageRun, remedy_of, run_in_process
from alnlib.pipeline.offer import named_files, read_offer
from alnlib.pipeline.parameters import (
    check_names,
    declared_parameters,
    parse_setting,
    read_notebook,
    read_profile,
    stage_parameters,
)
from alnlib.pipeline.stages import ARITHMETIC, NUMBERS, STAGES, STALE, Stage, check_table, find_stage, makers_of
from alnlib.studies import ANY_COHORTS, STUDIES
from alnlib.tasks import environment

if TYPE_CHECKING:
    from alnlib.cohorts.schema import Cohort

NAMED_COHORTS = ("simulated", "duke", "breast-lesions-usg", "ispy2")
POLL_SECONDS = 0.4


@dataclass(frozen=True)
class RunOptions:
    """What the command line asks for. cohort: a name of NAMED_COHORTS or a cohort folder; settings: "NN.parameter=value"."""

    cohort: str = "simulated"
    data: str | None = None
    profile: str = "demo"
    only: str | None = None
    start: str | None = None
    force: bool = False
    device: str = "auto"
    jobs: int | None = None
    seed: int | None = None
    cluster: str | None = None
    settings: tuple[str, ...] = ()
    run: str | None = None  # name of the folder below results/; None: cohort and profile
    end: str | None = None  # number of the last stage
    time_limit: float = HOURS  # of a stage, in hours

    def command(self, run: str | None = None) -> str:
        """What to type for a whole run of these options, or for one named `run`."""
        default = RunOptions()
        words = ["python3", "run_all.py"]
        for option, name in (("--cohort", "cohort"), ("--data", "data"), ("--profile", "profile"), ("--seed", "seed")):
            value = getattr(self, name)
            words += [] if value == getattr(default, name) else [option, str(value)]
        named = run or self.run
        words += ["--run", named] if named else []
        return shlex.join([*words, *(word for setting in self.settings for word in ("--set", setting))])


@dataclass
class StageStatus:
    """Where a stage stands: kind is fresh, stale, waiting, running, done, failed, blocked, skipped or absent (does not apply)."""

    stage: Stage
    kind: str
    detail: str = ""
    seconds: float | None = None
    cells: str = ""
    begun: float = 0.0
    begun_at: str = ""
    components: dict[str, Any] = field(default_factory=dict)
    error: dict[str, Any] | None = None
    trail: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()  # what its processes had to say


@dataclass(frozen=True)
class Plan:
    """A checked request: the run's folder, and for each stage its notebook and parameters. Nothing has been touched yet."""

    options: RunOptions
    name: str
    folder: Path
    data: Path
    notebooks: dict[str, dict]
    parameters: dict[str, dict[str, Any]]
    chosen: tuple[Stage, ...]
    stages: tuple[Stage, ...]
    warnings: tuple[Problem, ...] = ()  # of a user's own cohort


def make_plan(options: RunOptions, stages: Sequence[Stage] = STAGES) -> Plan:
    """Check the stage table, the profile, every parameter and the cohort's name; InputError for what the user can mend."""
    check_table(stages)
    cohort, run, data, own = resolve_cohort(options)
    profile = read_profile(notebooks_folder() / "profiles" / f"{options.profile}.yaml")
    settings = [parse_setting(text) for text in options.settings]
    read = {stage.notebook: read_notebook(notebooks_folder() / f"{stage.source_notebook}.ipynb") for stage in stages}
    declared = {notebook: declared_parameters(content, notebook) for notebook, content in read.items()}
    check_names(profile, settings, declared, options.profile)
    inside = data.is_relative_to(data_root())
    common = {"run": run, "cohort": cohort, "device": options.device}
    common["data"] = data.relative_to(data_root()).as_posix() if inside else str(data)
    if options.seed is not None:
        common["seed"] = options.seed
    named = {} if own is None else {"study": _own_study(own.name)}
    parameters = {}
    for stage in stages:
        name, names = stage.notebook, declared[stage.notebook]
        shared = common | (named if names.get("study") == ANY_COHORTS else {})
        parameters[name] = stage_parameters(name, names, stage.preset, profile, shared, settings)
    chosen = _chosen_stages(options, stages)
    warnings = () if own is None else own.warnings
    return Plan(options, run, results_folder() / run, data, read, parameters, chosen, tuple(stages), warnings)


def refuse_reference(plan: Plan) -> None:
    """Raise InputError for other parameters than a profile's in the run that the simulated cohort has under its name."""
    options = plan.options
    given = ["--set"] * bool(options.settings) + ["--seed"] * (options.seed is not None)
    if given and is_reference(plan.name):
        chosen = [("--only", options.only), ("--from", options.start), ("--to", options.end)]
        rest = shlex.join(word for option, value in chosen if value for word in (option, value))
        raise InputError(
            f"{' and '.join(given)} would change results/{plan.name}, a reference run that others are compared with; make a "
            f"scratch run, in a folder of its own:\n    {options.command(run='try')}{rest and f' {rest}'}\n"
            f"and see what moved:\n    python3 run_all.py verify try {plan.name}"
        )


def is_reference(run: str) -> bool:
    """Whether a run is that of a profile and the simulated cohort, under its own name."""
    return run in {f"simulated-{path.stem}" for path in (notebooks_folder() / "profiles").glob("*.yaml")}


def _own_study(name: str) -> str:
    """What the models of a user's cohort are filed under: its name, as a file may have it, and no published study."""
    slug = _slug(name)
    return f"{slug}-cohort" if slug in STUDIES else slug


def _slug(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "cohort"


def resolve_cohort(options: RunOptions, to_fit: bool = True) -> tuple[str, str, Path, Cohort | None]:
    """(cohort parameter, name of the run folder, data folder, the cohort if it is a user's own folder) of a request.

    to_fit: as in `read_cohort`. Raises InputError for a cohort that is neither a known name nor a folder, and for missing data.
    """
    if options.run is not None and not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", options.run):
        raise InputError(
            f"--run {options.run}: give the name of a folder below results/, of letters, digits, . _ and -"
        )
    if options.cohort in NAMED_COHORTS:
        simulated = options.cohort == "simulated"
        run = options.run or f"{options.cohort}-{options.profile}"
        default = f"data/{run if simulated else options.cohort}"
        data = Path(options.data).expanduser() if options.data else resolve_data(default)
        if not simulated and not data.is_dir():
            raise InputError(
                f"{data}: no such folder; --data DIR names where the files of {options.cohort} are, and "
                f"`python3 run_all.py download {options.cohort} --data {data}` fetches them"
            )
        return options.cohort, run, data.resolve(), None
    if options.data is not None:
        raise InputError(f"--data {options.data}: a cohort folder brings its own files; leave --data out")
    folder = Path(options.cohort).expanduser()
    if not folder.is_dir():
        raise InputError(
            f"--cohort {options.cohort}: neither a known cohort ({', '.join(NAMED_COHORTS)}) nor a folder; "
            "mend the name, or give the path of a cohort folder"
        )
    from alnlib.cohorts.folder import read_cohort

    slug = _slug(folder.resolve().name)
    if slug in NAMED_COHORTS:
        slug += "-folder"
    return "folder", options.run or f"{slug}-{options.profile}", folder.resolve(), read_cohort(folder, to_fit=to_fit)


def _chosen_stages(options: RunOptions, stages: Sequence[Stage]) -> tuple[Stage, ...]:
    for option, value in (("--only", options.only), ("--from", options.start), ("--to", options.end)):
        if value is not None and find_stage(value, stages) is None:
            numbers = ", ".join(stage.number for stage in stages)
            raise InputError(f"{option} {value}: no such stage; there are {numbers}")
    if options.only is not None:
        return (find_stage(options.only, stages),)
    first = stages[0] if options.start is None else find_stage(options.start, stages)
    last = stages[-1] if options.end is None else find_stage(options.end, stages)
    return tuple(stage for stage in stages if first.number <= stage.number <= last.number)


class Runner:
    """Executes a plan. `statuses` tells at any moment where each stage stands; `on_change` is called when that changed.

    left_out: stages that found, when they ran on the cohort as it is, that they do not apply, and what they said. lost: stages
    about something that failed and have no files of an earlier run: those behind them go on as if they did not apply.
    """

    def __init__(self, plan: Plan, on_change: Callable[[Runner], None] | None = None) -> None:
        self.plan = plan
        self.on_change = on_change or (lambda runner: None)
        self.hashes = FileDigests(plan.folder / ".state" / "files.json")
        self.library = LibraryCode(repository_root())
        self.lock_digest = sha256_file(repository_root() / "requirements.lock")
        self.execution = sha256_file(Path(execute.__file__))
        self.jobs = plan.options.jobs or min(4, os.cpu_count() or 1)  # stages side by side on this machine
        self.started: list[subprocess.Popen] = []
        self.statuses: dict[str, StageStatus] = {}
        self.left_out: dict[str, str] = {}
        self.lost: set[str] = set()
        self._data_digest: str | None = None

    # what is fresh

    def survey(self) -> list[StageStatus]:
        """The state of every stage as files stand now, without running anything."""
        self.statuses, self.left_out, self.lost = {}, {}, set()
        for stage in self.plan.stages:
            self.statuses[stage.notebook] = StageStatus(stage, *self._surveyed(stage))
        self.hashes.save()
        return list(self.statuses.values())

    def _surveyed(self, stage: Stage) -> tuple[str, str]:
        if reason := self._does_not_apply(stage):
            return "absent", reason
        upstream = [self.statuses[maker.notebook] for maker in makers_of(stage, self.plan.stages)]
        stale = next((status.stage.number for status in upstream if status.kind in ("stale", "waiting")), None)
        why = self._why_stale(stage)
        if stale is not None:
            return "waiting", f"after {stale}" + (f"; {why}" if why and not why.startswith("inputs") else "")
        return self._standing(stage) if why is None else ("stale", why)

    def _standing(self, stage: Stage) -> tuple[str, str]:
        """Kind and detail of a stage that need not run: fresh, or absent for what it said of the cohort when it ran."""
        reason = self._state(stage).get("does_not_apply")
        if reason is None:
            return "fresh", ""
        self.left_out[stage.notebook] = reason
        return "absent", reason

    def _does_not_apply(self, stage: Stage) -> str | None:
        """Why the cohort, as stage 11 wrote it, has nothing for a stage."""
        try:
            offer = read_offer(self.plan.folder / "cohort")
        except (OSError, ValueError, LookupError, TypeError, AttributeError, yaml.YAMLError):
            offer = None  # a damaged copy of the cohort, which stage 11 then makes anew
        if offer is None:
            return None
        if missing := stage.lacks(offer):
            return f"the cohort has no {missing}"
        bound = [maker for maker in makers_of(stage, self.plan.stages) if maker.about]
        if bound and all(
            maker.lacks(offer) or maker.notebook in self.left_out or maker.notebook in self.lost for maker in bound
        ):
            lost = [maker.number for maker in bound if maker.notebook in self.lost]
            return f"stage {' and '.join(lost)} failed" if lost else "no model of the table applies to this cohort"
        return None

    def _inputs(self, stage: Stage) -> list[str]:
        """What the stage needs, less what only stages make that do not apply to this cohort, or are lost."""
        gone = {*self.left_out, *self.lost}
        out = [other for other in self.plan.stages if other.notebook in gone or self._does_not_apply(other)]
        absent = {made for other in out for made in other.makes}
        return [need for need in stage.needs if need not in absent]

    def _components(self, stage: Stage) -> dict[str, Any]:
        """All that the stage's result depends on, as digests."""
        notebook = self.plan.notebooks[stage.notebook]
        return {
            "notebook": notebook_digest(notebook),
            "parameters": {name: json.dumps(value) for name, value in self.plan.parameters[stage.notebook].items()},
            "inputs": {name: self.hashes.of(self.plan.folder / name) for name in self._inputs(stage)},
            "library": self.library.used_by(notebook_code(notebook)),
            "lock": self.lock_digest,
            "execution": self.execution,
            "arithmetic": arithmetic(),
            "files": self._named_files(stage),
            "data": self._data() if stage.reads_data else "",
        }

    def _named_files(self, stage: Stage) -> dict[str, str | None]:
        """Files that a stage reads beside its inputs: the manifest for the one that verifies, and whatever a parameter names."""
        root = repository_root()
        files = [root / "data_manifest.csv"] if stage is self.plan.stages[0] else []
        texts = [value for value in self.plan.parameters[stage.notebook].values() if isinstance(value, str) and value]
        files += [path for path in (notebooks_folder() / text for text in texts) if path.is_file()]
        return {path.name: self.hashes.of(path) for path in files}

    def _data(self) -> str:
        if self._data_digest is None:
            self._data_digest = self.hashes.of_folder(self.plan.data, named_files(self.plan.data))
        return self._data_digest

    def _state_file(self, stage: Stage) -> Path:
        return self.plan.folder / ".state" / f"{stage.notebook}.json"

    def _state(self, stage: Stage) -> dict[str, Any]:
        return read_state(self._state_file(stage))

    def _why_stale(self, stage: Stage) -> str | None:
        state = self._state(stage)
        if not state["components"]:
            return "never run here"
        return why_stale(state, self._components(stage), self.hashes, self.plan.folder)

    # running

    def run(self) -> bool:
        """Run what is stale among the chosen stages; True if none failed. Stages that were not chosen stay as they are."""
        try:
            self.plan.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"{self.plan.folder} cannot be written ({error.strerror}); mend its permissions") from None
        with one_run(self.plan.folder):
            self._keep_cohorts_apart()
            self._sweep()
            self._say_stale(self.survey())  # as it stays if this run is killed
            self._mark_choice()
            self.on_change(self)
            with self._executor() as (executor, room):
                self._loop(executor, room)
            self._say_stale(self._surveyed_anew())
            good = all(status.kind not in ("failed", "blocked") for status in self.statuses.values())
            if good:
                self._gather_numbers()
                self._say_what_computed()
            shutil.rmtree(self.plan.folder / ".staging", ignore_errors=True)
            self.hashes.save()
        return good

    def _surveyed_anew(self) -> list[StageStatus]:
        """How the stages stand after the run, which is known of those that ran or were found to be fresh."""
        if all(status.kind in ("done", "fresh", "absent") for status in self.statuses.values()):
            return list(self.statuses.values())
        after = Runner(self.plan)
        after.hashes, after.library, after._data_digest = self.hashes, self.library, self._data_digest
        return after.survey()

    def _say_stale(self, statuses: Sequence[StageStatus]) -> None:
        """Write STALE.txt if the folder holds files of stages that are stale, or of none of this machine; else remove it."""
        behind = [
            status for status in statuses if status.kind in ("stale", "waiting") and self._has_files(status.stage)
        ]
        if not behind:
            (self.plan.folder / STALE).unlink(missing_ok=True)
            return
        lines = [
            f"Not all files in results/{self.plan.name} belong together. Those of these stages are older than what they"
        ]
        lines += ["are made from, or were made with other parameters or by other code:", ""]
        lines += [f"  {status.stage.notebook:26s} {status.detail}" for status in behind]
        lines += ["", "This makes them anew:", "", f"  {self.plan.options.command()}"]
        write_text("\n".join(lines) + "\n", self.plan.folder / STALE)

    def _has_files(self, stage: Stage) -> bool:
        return any((self.plan.folder / made).exists() for made in stage.makes)

    def _sweep(self) -> None:
        """Remove what a run that was killed left: stages under way, and files that had not got their names yet."""
        shutil.rmtree(self.plan.folder / ".staging", ignore_errors=True)
        for path in self.plan.folder.rglob(".*.part*"):
            path.unlink(missing_ok=True)

    def _keep_cohorts_apart(self) -> None:
        """One results folder belongs to one cohort folder; another one of the same name would mix with it."""
        if self.plan.parameters[self.plan.stages[0].notebook].get("cohort") != "folder":
            return
        owner = self.plan.folder / ".state" / "cohort.txt"
        before = owner.read_text(encoding="utf-8", errors="replace") if owner.exists() else str(self.plan.data)
        if before != str(self.plan.data):
            raise InputError(
                f"results/{self.plan.name} holds the results of {before}, another cohort folder of the same name; "
                f"rename {self.plan.data}, or move those results away"
            )
        write_text(before, owner)

    def _mark_choice(self) -> None:
        for stage in self.plan.stages:
            status = self.statuses[stage.notebook]
            if stage in self.plan.chosen:  # one that did not apply may apply when the cohort has been read again
                status.kind, status.detail = "waiting", "forced" if self.plan.options.force else status.detail
            elif status.kind != "absent":
                status.detail = f"not chosen ({status.kind}{': ' + status.detail if status.detail else ''})"
                status.kind = "skipped"

    def _loop(self, executor: Executor, slots: int) -> None:
        running: dict[Future, Stage] = {}
        while True:
            for stage in self.plan.stages:
                if self.statuses[stage.notebook].kind == "waiting":
                    future = self._advance(stage, executor, room=len(running) < slots)
                    if future is not None:
                        running[future] = stage
            self.on_change(self)
            if not running:
                return
            finished, _ = wait(running, timeout=POLL_SECONDS, return_when=FIRST_COMPLETED)
            for future in finished:
                outcome = outcome_of(future) if self.plan.options.cluster else future.result()
                self._finish(running.pop(future), outcome)
            for stage in running.values():
                with contextlib.suppress(OSError):
                    progress = (self._staging(stage) / ".progress").read_text(encoding="utf-8")
                    self.statuses[stage.notebook].cells = progress

    def _advance(self, stage: Stage, executor: Executor, room: bool) -> Future | None:
        """Start a waiting stage if its makers are through and there is room; settle one that is not to run."""
        status = self.statuses[stage.notebook]
        makers = [self.statuses[maker.notebook] for maker in makers_of(stage, self.plan.stages)]
        if any(maker.kind in ("waiting", "running") for maker in makers):
            return None
        reason = self._does_not_apply(stage)
        if reason:  # no later stage reads what it left when it still applied
            self._retire(stage)
        held = [maker for maker in makers if maker.kind in ("failed", "blocked")]
        failed = next((maker.stage.number for maker in held if maker.stage.notebook not in self.lost), None)
        missing = next((need for need in self._inputs(stage) if not (self.plan.folder / need).exists()), None)
        if failed:
            status.kind, status.detail = "blocked", f"stage {failed} failed"
        elif reason:
            status.kind, status.detail = "absent", reason
        elif missing:
            maker = next(other for other in self.plan.stages if missing in other.makes)
            status.kind = "failed"
            status.detail = f"results/{self.plan.name}/{missing} is missing; run --from {maker.number} instead"
        elif edited := self._edited_input(stage):
            status.kind, status.detail = "failed", edited
        elif room:
            why = "forced" if self.plan.options.force else self._why_stale(stage)
            if why:
                status.detail = why
                return self._start(stage, status, executor)
            status.kind, status.detail = self._standing(stage)
        return None

    def _edited_input(self, stage: Stage) -> str | None:
        """What is wrong with a file that a stage, not chosen to run, made, and that is no longer what it made."""
        for maker in makers_of(stage, self.plan.stages):
            made = self._state(maker)["outputs"] if self.statuses[maker.notebook].kind == "skipped" else {}
            for name in (need for need in stage.needs if need in made):
                if self.hashes.of(self.plan.folder / name) != made[name]:
                    place = f"results/{self.plan.name}/{name}"
                    return f"{place} is not as stage {maker.number} wrote it; run --from {maker.number} instead"
        return None

    def _start(self, stage: Stage, status: StageStatus, executor: Executor) -> Future:
        self.left_out.pop(stage.notebook, None)
        self.lost.discard(stage.notebook)
        status.kind, status.begun, status.begun_at = "running", time.monotonic(), provenance.now()
        status.components = self._components(stage)
        spec = StageRun(
            stage.notebook,
            str(notebooks_folder() / f"{stage.source_notebook}.ipynb"),
            str(self._staging(stage)),
            self.plan.parameters[stage.notebook],
            str(repository_root()),
            str(results_folder()),
        )
        if self.plan.options.cluster:
            return executor.submit(run_on_worker, spec, environment(spec.root), self.plan.options.time_limit)
        return executor.submit(partial(run_in_process, hours=self.plan.options.time_limit, started=self.started), spec)

    def _retire(self, stage: Stage) -> None:
        """Remove what the stage left."""
        for name in self._state(stage)["outputs"]:
            (self.plan.folder / name).unlink(missing_ok=True)
        self._state_file(stage).unlink(missing_ok=True)

    def _staging(self, stage: Stage) -> Path:
        return self.plan.folder / ".staging" / str(os.getpid()) / stage.notebook

    def _finish(self, stage: Stage, outcome: Outcome) -> None:
        status, staging = self.statuses[stage.notebook], self._staging(stage)
        status.seconds = outcome.seconds
        with contextlib.suppress(OSError):
            noted = (staging / NOTES).read_text(encoding="utf-8", errors="replace").splitlines()
            status.notes = tuple(dict.fromkeys(noted))
        made = [path.relative_to(staging) for path in sorted(staging.rglob("*")) if path.is_file()]
        names = [path.as_posix() for path in made if not path.name.startswith(".")]
        error = outcome.error or self._contract_error(stage, names)
        failed = self.plan.folder / "failed" / f"{stage.notebook}.ipynb"
        failed.unlink(missing_ok=True)
        outputs: dict[str, str] = {}
        if error is None:
            outputs = self._install(stage, staging, names)
            if stage is self.plan.stages[0]:  # the first stage may have written the data (simulated cohort)
                self._data_digest = None
                status.components["data"] = self._data() if stage.reads_data else ""
            write_json({"components": status.components, "outputs": outputs}, self._state_file(stage))
            status.kind = "done"
        elif error["name"] == "DoesNotApply":
            self._retire(stage)
            status.kind, status.detail = "absent", error["message"]
            state = {"components": status.components, "outputs": {}, "does_not_apply": status.detail}
            write_json(state, self._state_file(stage))
            self.left_out[stage.notebook] = status.detail
        else:
            status.kind, status.error, status.trail = "failed", error, outcome.trail
            where = f", cell {error['cell']}" if error["cell"] else ""
            said_by = "" if error["name"] == "InputError" else f"{error['name']}{where}: "
            status.detail = said_by + error["message"]
            if error["name"] != "InputError":
                status.detail += remedy_of(status.detail)
            if stage.about and not self._state(stage)["outputs"]:
                self.lost.add(stage.notebook)
            if (executed := staging / "notebooks" / failed.name).exists():
                _move(executed, failed)
        shutil.rmtree(staging, ignore_errors=True)
        self._log(stage, status, outputs)

    def _contract_error(self, stage: Stage, names: list[str]) -> dict[str, Any] | None:
        """A stage that did not make what the table says, or made what belongs to another, is a failed stage."""
        missing = [f"the notebook did not write {name}" for name in stage.makes if name not in names]
        twice = [
            f"{name} is also written by {other.notebook}; every file has one writer"
            for other in self.plan.stages
            if other is not stage
            for name in sorted(set(names) & set(self._state(other)["outputs"]))
        ]
        return {"name": "Contract", "message": (missing + twice)[0], "cell": None} if missing + twice else None

    def _install(self, stage: Stage, staging: Path, names: list[str]) -> dict[str, str]:
        """Move a good stage's files in place and remove what its last run left that this one did not make again."""
        for name in names:
            _move(staging / name, self.plan.folder / name)
        for name in set(self._state(stage)["outputs"]) - set(names):
            (self.plan.folder / name).unlink(missing_ok=True)
        return {name: self.hashes.of(self.plan.folder / name) for name in names}

    def _gather_numbers(self) -> None:
        """Write report/numbers.json from the stages' numbers; a key that two stages claim is an error."""
        gathered: dict[str, Any] = {}
        for stage in self.plan.stages:
            path = self.plan.folder / "numbers" / f"{stage.notebook}.json"
            if path.exists() and self.statuses[stage.notebook].kind != "absent":
                numbers = json.loads(path.read_text(encoding="utf-8"))
                twice = sorted(set(numbers) & set(gathered))
                if twice:
                    raise ValueError(f"number {twice[0]} is written by {stage.notebook} and by an earlier stage")
                gathered |= numbers
        (self.plan.folder / NUMBERS).unlink(missing_ok=True)
        if gathered:
            write_json(gathered, self.plan.folder / NUMBERS)

    def _say_what_computed(self) -> None:
        """Write report/arithmetic.json if a stage ran, or if it cannot be read: it is committed, unlike provenance.json."""
        computed, said = self.computed(), None
        with contextlib.suppress(OSError, ValueError):
            said = json.loads((self.plan.folder / ARITHMETIC).read_text(encoding="utf-8"))
        readable = isinstance(said, dict) and said.keys() == computed.keys()
        if not readable or any(status.kind == "done" for status in self.statuses.values()):
            write_json(computed, self.plan.folder / ARITHMETIC)

    def computed(self) -> dict[str, str]:
        """What computes this run: the arithmetic, the processor, and the GPU of its networks or "cpu"."""
        accelerator = "cpu" if self.plan.options.device == "cpu" else provenance.accelerator()
        return {"arithmetic": arithmetic(), "processor": processor(), "accelerator": accelerator}

    def _log(self, stage: Stage, status: StageStatus, outputs: dict[str, str]) -> None:
        parameters, options = self.plan.parameters[stage.notebook], self.plan.options
        row = {
            "started": status.begun_at,
            "notebook": stage.notebook,
            "status": status.kind,
            "seconds": round(status.seconds or 0, 1),
            "parameters": parameters,
            "inputs_sha256": status.components["inputs"],
            "outputs_sha256": outputs,
        }
        settings = {"cohort": options.cohort, "profile": options.profile, "data": str(self.plan.data)}
        uses_gpu = parameters.get("device") in ("auto", "cuda")
        provenance.write_diary(self.plan.folder, repository_root(), row, uses_gpu, settings)

    @contextlib.contextmanager
    def _executor(self) -> Iterator[tuple[Executor, int]]:
        """Threads that wait for local processes, or the workers of an existing Dask cluster; and how many stages they take.

        On an interrupt or an error the kernels end too: each runs in a process group of its own.
        """
        if self.plan.options.cluster:
            with cluster_executor(self.plan.options.cluster, repository_root(), self.plan.folder) as workers:
                yield workers
            return
        executor = ThreadPoolExecutor(self.jobs)
        try:
            yield executor, self.jobs
        except BaseException:
            for process in [process for process in self.started if process.poll() is None]:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGTERM)
            raise
        finally:
            executor.shutdown(wait=True, cancel_futures=True)


def _move(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    os.replace(source, target)


@contextlib.contextmanager
def one_run(folder: Path) -> Iterator[None]:
    """Keep two runs out of one results folder; the system frees the lock when a run is killed."""
    try:
        import fcntl
    except ImportError:  # Windows has no such lock
        yield
        return
    with open(folder / ".lock", "a+", encoding="utf-8", errors="replace") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            stream.seek(0)
            holder = stream.read().strip() or "unknown"
            raise InputError(
                f"another run (process {holder}) is working in results/{folder.name}; wait for it, or stop it"
            ) from None
        stream.truncate(0)
        stream.write(str(os.getpid()))
        stream.flush()
        yield
