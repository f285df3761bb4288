"""How a run is shown: its stages as a table or as lines, how many are through, and how long the rest may take.

What a stage's state is, is the business of `alnlib.pipeline.runner`.
"""

from __future__ import annotations

import csv
import heapq
import os
import shutil
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from statistics import median

from rich.console import Console, Group
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from alnlib.paths import repository_root
from alnlib.pipeline.runner import Runner, StageStatus
from alnlib.pipeline.stages import makers_of

WORDS = {"absent": "does not apply", "waiting": "waits"}
COLORS = {"fresh": "green", "done": "green", "running": "cyan", "failed": "red", "blocked": "red", "stale": "yellow"}

UNDER_WAY = ("waiting", "running", "stale")
WIDE, TITLE = 118, 44
"""Columns from which there is room for the titles of stages too, and for their part of it."""

MEASURED = {"demo": "stage_times.csv", "published": "published_times.csv"}
"""{profile: table below benchmarks/ of how long the stages of the simulated cohort took}."""


def width() -> int | None:
    """A terminal's own width or that of COLUMNS; wide enough for whole reasons where the output goes to a file."""
    given = os.environ.get("COLUMNS", "")
    return int(given) if given.isdigit() and int(given) else None if sys.stdout.isatty() else 160


# --- time --------------------------------------------------------------------------------------------------------


def expected_seconds(folder: Path, profile: str) -> dict[str, float]:
    """{stage: how long it last took in a run folder, or before it first ran there in the benchmark of the profile}."""
    measured = repository_root() / "benchmarks" / MEASURED.get(profile, "none")
    return _seconds(measured, "stage") | _seconds(folder / "run_log.csv", "notebook")


def _seconds(path: Path, name: str) -> dict[str, float]:
    """The last good time of each stage in a table; what cannot be read is passed over."""
    found: dict[str, float] = {}
    with suppress(OSError, ValueError, csv.Error), open(path, encoding="utf-8", errors="replace", newline="") as stream:
        for row in csv.DictReader(stream):
            if row.get("status", "done") == "done":
                with suppress(TypeError, ValueError):
                    found[row.get(name) or ""] = float(row["seconds"])
    return found


def seconds_left(runner: Runner, expected: Mapping[str, float]) -> float | None:
    """How long until the last stage ends, each taking what it is expected to, as many side by side as the run has jobs.

    Stages that were fresh before a run take no time, one of unknown length that of a typical stage; None if fewer than half
    are known.
    """
    left = {}
    known = [seconds for name, seconds in expected.items() if name in runner.statuses]
    if 2 * len(known) < len(runner.statuses):
        return None
    for name, status in runner.statuses.items():
        if status.kind in ("running", "stale") or (status.kind == "waiting" and status.detail):
            # one that takes longer than it did is taken to need a tenth more
            passed = time.monotonic() - status.begun if status.kind == "running" else 0.0
            left[name] = max(expected.get(name, median(known)) - passed, passed / 10)
    under_way = [(left[name], name) for name in left if runner.statuses[name].kind == "running"]
    heapq.heapify(under_way)
    waiting = left.keys() - {name for _, name in under_way}
    now = 0.0
    while waiting or under_way:
        for name in sorted(waiting):
            makers = {maker.notebook for maker in makers_of(runner.statuses[name].stage, runner.plan.stages)}
            if len(under_way) < runner.jobs and not makers & (waiting | {other for _, other in under_way}):
                waiting.discard(name)
                heapq.heappush(under_way, (now + left[name], name))
        now, _ = heapq.heappop(under_way)
    return now


def clock(seconds: float) -> str:
    """Minutes and seconds, "3:07", or hours too, "1:02:05"."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}" if minutes >= 60 else f"{minutes}:{rest:02d}"


def chosen(runner: Runner) -> list[StageStatus]:
    """The stages that the run is about."""
    return [status for status in runner.statuses.values() if status.kind != "skipped"]


class Progress:
    """A run as it goes: `line` says how far it is, `table` and `lines` show it."""

    def __init__(self, runner: Runner) -> None:
        self.begun = time.monotonic()
        self.expected = expected_seconds(runner.plan.folder, runner.plan.options.profile)

    def line(self, runner: Runner) -> str:
        """Such as "7 of 17 stages, 3:12 elapsed, about 6:40 left"."""
        kinds = [status.kind for status in chosen(runner) if status.kind != "absent"]
        through = sum(kind not in UNDER_WAY for kind in kinds)
        parts = [f"{through} of {len(kinds)} stages", f"{clock(time.monotonic() - self.begun)} elapsed"]
        left = seconds_left(runner, self.expected) if through < len(kinds) else 0.0
        parts += [f"about {clock(left)} left"] if left else []
        return ", ".join(parts)

    def table(self, runner: Runner) -> Group:
        """The stages of a run under way, of which those that are through give way where a terminal is low."""
        room = max(1, shutil.get_terminal_size().lines - 4)
        shown = chosen(runner)
        settled = [status for status in shown if status.kind not in ("running", "waiting", "failed")]
        for status in settled[: max(0, len(shown) - room)]:
            shown.remove(status)
        return Group(Text(f"results/{runner.plan.name}: {self.line(runner)}"), stage_table(shown, one_line=True))

    def lines(self, console: Console) -> Callable[[Runner], None]:
        """Plain progress for logs: one line when a stage starts and one, with how far the run is, when it ends."""
        seen: dict[str, str] = {}

        def show(runner: Runner) -> None:
            if "" not in seen:
                seen[""] = "begun"
                if left_out := len(runner.statuses) - len(chosen(runner)):
                    console.print(f"not chosen, and left as they are: {left_out} of {len(runner.statuses)} stages")
            for name, status in runner.statuses.items():
                if status.kind in ("waiting", "skipped", seen.get(name)):
                    continue
                seen[name] = status.kind
                seconds = f" {status.seconds:.0f} s" if status.seconds is not None else ""
                detail = f" ({status.detail.splitlines()[0]})" if status.detail else ""
                far = f"; {self.line(runner)}" if status.kind in ("done", "failed") else ""
                line = f"{name:22s} {WORDS.get(status.kind, status.kind)}{seconds}{detail}{far}"
                console.print(line, markup=False, soft_wrap=True)

        return show


# --- the table ---------------------------------------------------------------------------------------------------


def stage_list(runner: Runner) -> Group:
    """The stages of a run as they stand before it, with how long each took, and how long those to run may take."""
    expected = expected_seconds(runner.plan.folder, runner.plan.options.profile)
    left = seconds_left(runner, expected)
    needed = sum(status.kind in UNDER_WAY for status in runner.statuses.values())
    said = f"{needed} stages to run" + (f", about {clock(left)} with {runner.jobs} side by side" if left else "")
    table = stage_table(list(runner.statuses.values()), expected)
    return Group(Text(f"results/{runner.plan.name}: {said if needed else 'everything is fresh'}"), table)


def stage_table(
    statuses: list[StageStatus], expected: Mapping[str, float] | None = None, one_line: bool = False
) -> Table:
    """Stage, state, reason and seconds, of which state and seconds are whole at any width; titles where there is room.

    expected: seconds of stages that did not run (`expected_seconds`). one_line: reasons are cut at the end of their line, as
    in a table that is drawn again and again.
    """
    columns = width() or shutil.get_terminal_size().columns
    wide = columns >= WIDE
    rows = []
    for status in statuses:
        running = status.kind == "running"
        seconds = time.monotonic() - status.begun if running else status.seconds
        if seconds is None and status.kind != "absent":
            seconds = (expected or {}).get(status.stage.notebook)
        cells = f"cell {status.cells}; " if running and status.cells else ""
        why = (cells + status.detail).partition("\n")[0]
        rows.append((status, WORDS.get(status.kind, status.kind), why, "" if seconds is None else f"{seconds:.0f}"))
    stage, state, last = (
        max(map(len, cells)) for cells in zip(*((s.stage.notebook, word, s_) for s, word, _, s_ in rows), strict=True)
    )
    room = columns - (stage + max(state, 5) + max(last, 1) + 6 + (TITLE + 2) * wide)
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("stage", min_width=stage, no_wrap=True)
    if wide:
        table.add_column("what", max_width=TITLE, no_wrap=True, overflow="ellipsis")
    table.add_column("state", min_width=state, no_wrap=True)
    table.add_column("why", max_width=room, no_wrap=one_line, overflow="ellipsis" if one_line else "fold")
    table.add_column("s", min_width=last, justify="right", no_wrap=True)
    for status, word, why, seconds in rows:
        shown = f"[{COLORS.get(status.kind, 'dim')}]{word}[/]"
        table.add_row(status.stage.notebook, *[status.stage.title] * wide, shown, escape(why), seconds)
    return table
