"""Whether a run came out as the committed one, or as another: file by file, number by number, verdict by verdict.

What may differ, and how far, stands in tolerances.yaml beside this module.
"""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import yaml

from alnlib.arithmetic import arithmetic_line
from alnlib.errors import InputError
from alnlib.paths import repository_root, results_folder
from alnlib.pipeline.committed import committed_files, head
from alnlib.pipeline.stages import ARITHMETIC, NOT_COMMITTED, STAGES, STALE

CLAIMS, DISCRIMINATION = "report/claims.csv", "evaluation/discrimination.csv"
TESTED = {"test", "external"}
"""Splits whose AUCs are the results."""

MISSING = "missing in this run"
"""What is said of a file that the run does not have."""

SHOWN = 5
"""Values that are shown of a changed file, the worst first."""

AUCS_SHOWN = 12
"""AUCs that are shown of two runs side by side, those furthest apart first."""

NUMBER = re.compile(r"(?<![\w.-])-?\d+(?:\.\d+)?(?:e[-+]?\d+)?(?![\w-])")
"""A number inside of text: "0.726" in "0.726 (0.591 to 0.828)", but no part of SIM-0001 or 2D."""

Rows = dict[tuple[str, ...], dict[str, str]]
"""{what the key columns of a row hold: {column: text}}; a JSON file is one row, its columns are paths."""


@dataclass(frozen=True)
class Tolerance:
    """How far numbers may be from the committed ones. of: what they are; columns: pattern of what their columns are called."""

    of: str
    columns: str
    absolute: float
    relative: float

    def around(self, committed: float) -> float:
        """The largest difference that is allowed; a hair more, because the difference itself is rounded."""
        return (self.absolute + self.relative * abs(committed)) * (1 + 1e-9)

    def __str__(self) -> str:
        parts = [f"{self.absolute:g}"] * (self.absolute > 0)
        parts += [f"{100 * self.relative:g} % of the value"] * (self.relative > 0)
        return f"{self.of} {'by ' + ' plus '.join(parts) if parts else 'not at all'}"


@dataclass(frozen=True)
class Deviation:
    """One value that is not the committed one. difference, allowed: of a number; infinite and 0 where text or a row changed."""

    row: tuple[str, ...]
    column: str
    committed: str
    here: str
    difference: float
    allowed: float

    @property
    def beyond(self) -> bool:
        """Whether it is more than its tolerance."""
        return not self.difference <= self.allowed

    def __str__(self) -> str:
        amount = f", by {self.difference:.2g} (allowed {self.allowed:.2g})" if math.isfinite(self.difference) else ""
        return f"{' / '.join([*self.row, self.column])}: {self.committed} -> {self.here}{amount}"


@dataclass(frozen=True)
class Compared:
    """One file beside the committed one. values: how many were compared; said: what there is to say beside deviations."""

    file: str
    kind: str
    state: str
    values: int = 0
    deviations: tuple[Deviation, ...] = ()
    said: str = ""

    @property
    def worst(self) -> list[Deviation]:
        """Deviations, those furthest beyond their tolerance first."""
        return sorted(self.deviations, key=lambda one: (one.beyond, one.difference), reverse=True)

    def __str__(self) -> str:
        beyond = [one for one in self.worst if one.beyond]
        counts = f"{len(self.deviations)} of {self.values} values differ, {len(beyond)} beyond tolerance"
        lines = [f"{self.state:16s} {self.file} ({self.kind}): {self.said or counts}"]
        shown = beyond[:SHOWN] if self.state == "changed" else []
        return "\n".join(lines + [f"    {one}" for one in shown])


@cache
def classes() -> dict[str, dict[str, Any]]:
    """tolerances.yaml: {class: its files, what they are, and its numbers' tolerances}, in the order in which they are tried."""
    return yaml.safe_load(Path(__file__).with_name("tolerances.yaml").read_text(encoding="utf-8"))


def class_of(file: str) -> str:
    """The class of a file of a run, named as from the run's folder."""
    fits = (kind for kind, entry in classes().items() for words in entry["files"].split() if fnmatch(file, words))
    return next(fits)


def tolerance_of(kind: str, name: str) -> Tolerance:
    """Of the values of a column (or of an entry of a JSON file) in files of a class."""
    return next(entry for entry in tolerances(kind) if re.search(entry.columns, name))


def tolerances(kind: str) -> list[Tolerance]:
    """Of a class, in the order in which they are tried; empty if it is not compared."""
    return [Tolerance(**entry) for entry in classes()[kind].get("numbers", [])]


# --- files as rows -------------------------------------------------------------------------------------------------


def _rows_of(committed: bytes, here: bytes, suffix: str) -> tuple[Rows, Rows]:
    """The values of two versions of a file under the same names."""
    if suffix == ".csv":
        tables = [list(csv.DictReader(io.StringIO(content.decode("utf-8")))) for content in (committed, here)]
        keys = key_columns(tables[0])
        return _table_rows(tables[0], keys), _table_rows(tables[1], keys)
    if suffix == ".json":
        return {(): dict(_leaves(json.loads(committed)))}, {(): dict(_leaves(json.loads(here)))}
    return {(): {"content": "as committed"}}, {(): {"content": "another"}}


def key_columns(rows: list[dict[str, str]]) -> list[str]:
    """The columns that tell rows apart: text before whole numbers, never others, in their order and no more than it takes."""
    columns = {name: [row[name] for row in rows] for name in (rows[0] if rows else ())}
    text = [name for name, values in columns.items() if not all(_is_number(value) for value in values)]
    whole = [name for name, values in columns.items() if all(re.fullmatch(r"-?\d+", value) for value in values)]
    keys: list[str] = []
    told_apart = 1
    for name in text + whole:
        now = len(set(zip(*(columns[key] for key in [*keys, name]), strict=True)))
        if now > told_apart:
            keys, told_apart = [*keys, name], now
    return keys


def _is_number(text: str) -> bool:
    return text == "" or _number(text) is not None


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _table_rows(table: list[dict[str, str]], keys: list[str]) -> Rows:
    """Rows that no key tells apart are counted, so that they are compared in their order."""
    seen: Counter[tuple[str, ...]] = Counter()
    rows: Rows = {}
    for row in table:
        key = tuple(row.get(name, "") for name in keys)
        seen[key] += 1
        rows[key if seen[key] == 1 else (*key, f"#{seen[key]}")] = row
    return rows


def _leaves(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    if not isinstance(value, dict | list):
        yield path, str(value)
        return
    for name, child in value.items() if isinstance(value, dict) else enumerate(value):
        yield from _leaves(child, f"{path}.{name}" if path else str(name))


# --- comparing ------------------------------------------------------------------------------------------------------


def _deviation(kind: str, row: tuple[str, ...], column: str, old: str, new: str) -> Deviation:
    """Of two values that are not the same text: of their numbers, if the words around them are the same."""
    if NUMBER.sub("#", old) != NUMBER.sub("#", new):
        return Deviation(row, column, old, new, math.inf, 0.0)
    tolerance = tolerance_of(kind, column)
    pairs = zip(map(float, NUMBER.findall(old)), map(float, NUMBER.findall(new)), strict=True)
    moved = [(abs(b - a), tolerance.around(a)) for a, b in pairs]
    return Deviation(row, column, old, new, *max(moved, key=lambda pair: pair[0] - pair[1]))


def _deviations(kind: str, committed: Rows, here: Rows) -> Iterator[Deviation]:
    for row in [*committed, *(row for row in here if row not in committed)]:
        old, new = committed.get(row), here.get(row)
        if old is None or new is None:
            yield Deviation(row, "row", *("no" if values is None else "yes" for values in (old, new)), math.inf, 0.0)
            continue
        for column in [*old, *(column for column in new if column not in old)]:
            values = old.get(column, "no such value"), new.get(column, "no such value")
            if values[0] != values[1]:
                yield _deviation(kind, row, column, *values)


def compare_file(file: str, committed: bytes, here: bytes | None) -> Compared:
    """A file of a run beside the committed one; here: None if the run has no such file."""
    kind = class_of(file)
    if here is None:
        return Compared(file, kind, "changed", said=MISSING)
    if here == committed:
        return Compared(file, kind, "identical")
    old, new = _rows_of(committed, here, Path(file).suffix)
    deviations = tuple(_deviations(kind, old, new))
    bad = kind == "exact" or any(one.beyond for one in deviations)
    said = "" if deviations else "the values are the same, the order of rows or the spelling is not"
    return Compared(file, kind, "changed" if bad else "within tolerance", sum(map(len, old.values())), deviations, said)


def _counts(files: Sequence[Compared]) -> list[str]:
    """A line for each class: how many of these files are identical, within tolerance and changed."""
    counts = {kind: Counter(one.state for one in files if one.kind == kind) for kind in classes()}
    shown = {kind: ", ".join(f"{states[state]} {state}" for state in sorted(states)) for kind, states in counts.items()}
    return [f"{kind} files: {text}" for kind, text in shown.items() if text]


@dataclass(frozen=True)
class Comparison:
    """A run beside the committed one: {file: content} of both, by names as from the run's folder."""

    committed: Mapping[str, bytes]
    here: Mapping[str, bytes]

    @cached_property
    def files(self) -> list[Compared]:
        """Every committed file that is compared."""
        names = [name for name in self.committed if tolerances(class_of(name))]
        return [compare_file(name, self.committed[name], self.here.get(name)) for name in names]

    def _both(self, file: str, column: str) -> list[tuple[tuple[str, ...], str, str]]:
        """(row, committed, here) of a column of a table that both runs have."""
        if file not in self.committed or file not in self.here:
            return []
        old, new = _rows_of(self.committed[file], self.here[file], ".csv")
        return [(row, values[column], new.get(row, {}).get(column, "none")) for row, values in old.items()]

    @cached_property
    def verdicts(self) -> list[tuple[str, str, str]]:
        """(claim, committed verdict, verdict here)."""
        return [(" / ".join(row), old, new) for row, old, new in self._both(CLAIMS, "verdict")]

    @property
    def moved(self) -> list[tuple[str, str, str]]:
        """Verdicts that are others than the committed ones."""
        return [verdict for verdict in self.verdicts if verdict[1] != verdict[2]]

    @cached_property
    def _aucs(self) -> dict[str, tuple[float, float]]:
        """(committed, here) of every AUC of test patients, by what it is of."""
        tested = [both for both in self._both(DISCRIMINATION, "auc") if TESTED & set(both[0])]
        numbers = {" / ".join(row): (_number(old), _number(new)) for row, old, new in tested}
        return {row: both for row, both in numbers.items() if None not in both}

    @cached_property
    def auc_differences(self) -> dict[str, float]:
        """|difference| of every AUC of test patients, by what it is of."""
        return {row: abs(new - old) for row, (old, new) in self._aucs.items()}

    @property
    def same(self) -> bool:
        """Whether nothing is changed beyond its tolerance and no verdict moved."""
        return not self.moved and all(compared.state != "changed" for compared in self.files)

    def computed(self) -> tuple[dict[str, str], dict[str, str]]:
        """What computed the committed run and this one, as report/arithmetic.json of each says; empty if it has none."""
        return tuple(json.loads(run.get(ARITHMETIC, b"{}")) for run in (self.committed, self.here))

    def __str__(self) -> str:
        differing = [str(compared) for compared in self.files if compared.state != "identical"]
        return "\n".join([*differing, *_counts(self.files), *self._verdict_lines(), *self._auc_line()])

    def side_by_side(self) -> str:
        """What moved between two runs that were meant to differ: verdicts, AUCs, and in which files.

        Files that RUN does not have are counted by folder: one that went `--to` a stage lacks those of all later ones.
        """
        moved = sorted(self.auc_differences, key=self.auc_differences.get, reverse=True)
        moved = [row for row in moved if self.auc_differences[row]]
        aucs = [f"    {row}: {self._aucs[row][0]:.3f} -> {self._aucs[row][1]:.3f}" for row in moved[:AUCS_SHOWN]]
        aucs += [f"    and {len(moved) - AUCS_SHOWN} more"] if len(moved) > AUCS_SHOWN else []
        both = [one for one in self.files if one.said != MISSING]
        files = [str(one).partition("\n")[0] for one in both if one.state != "identical"]
        folders = Counter(one.file.partition("/")[0] for one in self.files if one.said == MISSING)
        counted = ", ".join(f"{folder} {count}" for folder, count in folders.items())
        missing = [f"missing in RUN: {folders.total()} files ({counted})"] if folders else []
        return "\n".join([*self._verdict_lines(), *self._auc_line(), *aucs, "", *_counts(both), *files, *missing])

    def _verdict_lines(self) -> list[str]:
        lines = [f"verdicts: {len(self.verdicts) - len(self.moved)} the same, {len(self.moved)} moved"]
        return lines + [f"    {claim}: {old} -> {new}" for claim, old, new in self.moved]

    def _auc_line(self) -> list[str]:
        found = self.auc_differences
        if not found:
            return []
        most, mean = max(found, key=found.get), sum(found.values()) / len(found)
        of = f" ({most})" if found[most] else ""
        return [f"AUCs of test patients: {len(found)}, mean |difference| {mean:.4f}, largest {found[most]:.4f}{of}"]

    def rows(self) -> list[dict[str, Any]]:
        """The comparison as a table: a row for each file, one for the verdicts, one for the AUCs of test patients."""
        committed, here = self.computed()
        runs, names = {"committed_": committed, "": here}, ("processor", "arithmetic", "accelerator")
        machines = {which + name: run.get(name, "not recorded") for which, run in runs.items() for name in names}
        rows = []
        for one in self.files:
            finite = [d.difference for d in one.deviations if math.isfinite(d.difference)]
            row = {"what": one.file, "class": one.kind, "state": one.state, "compared": one.values}
            row |= {"differing": len(one.deviations), "beyond": sum(d.beyond for d in one.deviations)}
            rows.append(row | {"mean_difference": "", "largest_difference": max(finite, default=0.0)})
        aucs = list(self.auc_differences.values())
        verdicts = {"what": "verdicts", "class": "learned", "state": "moved" if self.moved else "same"}
        verdicts |= {"compared": len(self.verdicts), "differing": len(self.moved), "beyond": len(self.moved)}
        tested = {"what": "AUC of test patients", "class": "learned", "compared": len(aucs)}
        tested |= {"differing": sum(auc > 0 for auc in aucs), "largest_difference": max(aucs, default=0.0)}
        tested |= {"mean_difference": sum(aucs) / max(len(aucs), 1)}
        return [row | machines for row in (*rows, verdicts, tested)]


def compare_runs(run: str, against: str) -> Comparison:
    """results/`run` as it stands beside results/`against` as it is committed; InputError if one of them is not there."""
    folder, place = _folder(run), f"results/{against}"
    committed = committed_files(repository_root(), place)
    if committed is None:
        raise InputError(
            f"{repository_root()} is no git checkout, so there is no committed run to compare {folder} with; clone the repository"
        )
    if not committed:
        raise InputError(
            f"{place} is not committed; name the committed run to compare with, as in --against simulated-demo"
        )
    names = {name.removeprefix(f"{place}/"): content for name, content in committed.items()}
    return Comparison(names, _files(folder, names))


def compare_folders(run: str, other: str) -> Comparison:
    """results/`run` beside results/`other`, both as they stand; InputError if one of them is not there."""
    old, new = _files(_folder(other)), _files(_folder(run))
    return Comparison({name: content for name, content in old.items() if not name.startswith(NOT_COMMITTED)}, new)


def _folder(run: str) -> Path:
    folder = results_folder() / run
    if not folder.is_dir():
        raise InputError(f"{folder} is not there; make it with python3 run_all.py, or name another run")
    return folder


def _files(folder: Path, names: Iterable[str] = ()) -> dict[str, bytes]:
    """{name: content} of a run's files that stages declare, and of those named, as far as they are there."""
    declared = {made for stage in STAGES for made in stage.makes}
    files = [(name, folder / name) for name in sorted({*names, *declared, ARITHMETIC})]
    return {name: path.read_bytes() for name, path in files if path.is_file()}


def report(run: str, against: str, comparison: Comparison) -> str:
    """The whole of what `run_all.py verify` prints."""
    extra = [name for name in comparison.here if name not in comparison.committed and name != ARITHMETIC]
    extra = [name for name in extra if not name.startswith(NOT_COMMITTED)]
    lines = [f"results/{run} against results/{against} as committed ({head(repository_root())})"]
    lines += [*_about(("committed run", "this run"), comparison), *_stale(run), "", str(comparison)]
    lines += [f"not committed, so not compared: {', '.join(extra)}"] if extra else []
    left_out = "; ".join(entry["means"] for kind, entry in classes().items() if not tolerances(kind))
    lines += [f"not compared, though committed: {left_out}. Numbers that figures show stand in tables."]
    lines += ["", "The same result." if comparison.same else "Changed beyond the stated tolerance."]
    return "\n".join(lines)


def report_folders(run: str, other: str, comparison: Comparison) -> str:
    """The whole of what `run_all.py verify RUN OTHER` prints."""
    lines = [f"results/{run} against results/{other}, both as they stand; OTHER -> RUN"]
    lines += [*_about((other, run), comparison), *_stale(run), *_stale(other), "", comparison.side_by_side(), ""]
    return "\n".join([*lines, "The same result." if comparison.same else "Not the same result."])


def _about(names: tuple[str, str], comparison: Comparison) -> list[str]:
    both = zip(names, comparison.computed(), strict=True)
    return [
        f"{name}: {arithmetic_line(computed) if computed else 'arithmetic and processor are not recorded'}"
        for name, computed in both
    ]


def _stale(run: str) -> list[str]:
    there = (results_folder() / run / STALE).exists()
    return [f"results/{run} holds files that do not belong together: its {STALE} says which"] * there
