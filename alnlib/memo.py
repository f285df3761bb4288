"""One memory: what a thing was made from, as a key, and the thing kept under that key.

Stages, crops, features, fits, resamples and downloads remember through here: `FileDigests` knows what files hold, `LibraryCode`
which code of ours made a thing, and a sealed file whether it is whole. What a thing depends on, is said where it is made.
"""

from __future__ import annotations

import ast
import hashlib
import json
import mmap
import os
import pickle
import re
import time
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache, cached_property
from importlib.metadata import PackageNotFoundError, version
from importlib.util import resolve_name
from pathlib import Path
from typing import Any

from alnlib.arithmetic import REFERENCE, arithmetic
from alnlib.errors import InputError
from alnlib.files import atomic_path, sha256_file, write_json, write_text

PACKAGES = ("alnlib", "alneval", "alnsim")

MEMORY = "file-hashes.json"

UNSETTLED_S = 2.0
"""A file changed this recently is read again the next time: a second change could leave size and times as they are.
File systems keep times to 2 s or better (FAT is the coarsest)."""

TABLES = (".csv", ".json", ".yaml", ".yml")
TABLE_MB = 4
"""Tables up to this size hold the labels and are read whenever they are asked for, whatever the file system says."""

SEAL_BYTES = 65_536
"""No seal is longer."""

NOTES = ".notes"
"""File of a stage's staging folder in which its processes leave what the run tells of it."""

MAX_FILES_READ = 20_000
"""In a data folder with more files than this (downloaded MRI series) what the file system says stands for the content."""

NO_INFLUENCE = (
    "alnlib/pipeline/stages.py",
    "alnlib/pipeline/stages.yaml",
    "alnlib/pipeline/tolerances.yaml",
    "alnlib/paths.py",
)
"""Beside what notebooks import, but only to say which stage to run, where folders are and what to compare: no result changes."""

NO_VALUES = (
    "alnlib/memo.py",
    "alnlib/files.py",
    "alnlib/errors.py",
    "alnlib/arithmetic.py",
    "alnlib/tasks.py",
    "alnlib/cohorts/checksums/",
)
NO_VALUES += NO_INFLUENCE
"""They keep, check and report what others compute: an edit reruns stages, which then find their crops, features and fits."""

_DETACHED = (".nhdr", ".mhd")


class FileDigests:
    """SHA-256 of files, read again only where the file system says that anything about them has changed.

    A file is unchanged while its size, its time of change, the time at which the system last noted a change of any kind
    (ctime, on Linux and macOS: no tool puts it back) and its inode are. memory: JSON in which this is remembered between
    runs, None for the life of the object. An unreadable one is empty: it holds nothing that cannot be computed again.
    """

    def __init__(self, memory: Path | None = None) -> None:
        self.memory = memory
        self._known = self._stored()
        self._learned: dict[str, list] = {}

    def of(self, path: Path) -> str | None:
        """Hexadecimal digest, or None if there is no such file."""
        try:
            status = path.stat()
        except OSError:
            return None
        name, stamp = os.path.abspath(path), _stamp(status)
        entry = self._known.get(name)
        if isinstance(entry, list) and entry[:-1] == stamp and not _is_table(path, status):
            return entry[-1]
        try:
            digest = sha256_file(path)
        except OSError as error:
            raise InputError(
                f"{path} cannot be read ({error.strerror}); mend its permissions, or copy it there again"
            ) from error
        if time.time() - max(status.st_mtime, status.st_ctime) > UNSETTLED_S:
            self._known[name] = self._learned[name] = [*stamp, digest]
        return digest

    def of_image(self, path: Path) -> str | dict[str, str | None] | None:
        """Of an image file, or of each file directly in a folder of frames or slices; None if it is not there."""
        if path.suffix.lower() in _DETACHED:  # the voxels are in another file of the folder
            path = path.parent
        if not path.is_dir():
            return self.of(path)
        return {file.name: self.of(file) for file in sorted(path.iterdir()) if file.is_file()}

    def of_folder(self, folder: Path, named: Iterable[str] = ()) -> str:
        """Digest of names and contents of all files below a folder (none, if it does not exist).

        Hidden files, and those behind links to other folders, count only where `named` has them or the folder they lie in.
        """
        files = {
            path
            for path in folder.rglob("*")
            if path.is_file() and not any(name.startswith(".") for name in path.relative_to(folder).parts)
        }
        for path in {folder / name for name in named} - files:
            files |= {path} if path.is_file() else set(filter(Path.is_file, path.iterdir() if path.is_dir() else ()))
        read = len(files) <= MAX_FILES_READ
        digest = hashlib.sha256()
        for path in sorted(files):
            status = path.stat()
            content = self.of(path) if read or _is_table(path, status) else _stamp(status)
            digest.update(f"{path.relative_to(folder).as_posix()}\0{content}\n".encode())
        return digest.hexdigest()

    def save(self) -> None:
        """Keep what was learned for the next run; paths of this machine stay in this git-ignored file."""
        if self._learned and self.memory is not None:
            with suppress(OSError):  # a convenience, not a result
                # Read again, so that what other processes learned meanwhile is kept, as far as it can be.
                write_json({**self._stored(), **self._learned}, self.memory)
                self._learned = {}

    def _stored(self) -> dict[str, list]:
        try:
            content = json.loads(self.memory.read_text(encoding="utf-8")) if self.memory else {}
        except (OSError, ValueError):
            return {}
        return content if isinstance(content, dict) else {}


def _stamp(status: os.stat_result) -> list[int]:
    return [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino]


def _is_table(path: Path, status: os.stat_result) -> bool:
    return path.suffix.lower() in TABLES and status.st_size <= TABLE_MB * 1e6


def note(text: str) -> None:
    """Tell the user something that changes no result: through the run whose stage this is, else as a warning."""
    staging = os.environ.get("ALN_STAGING")
    if not staging:
        warnings.warn(text, stacklevel=3)
        return
    with suppress(OSError), open(Path(staging) / NOTES, "a", encoding="utf-8") as stream:
        stream.write(f"{text}\n")


class LibraryCode:
    """The code that made a thing: which modules of ours a piece of code imports, directly or not, and their digests."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._imports: dict[Path, frozenset[Path]] = {}

    @cached_property
    def _digests(self) -> dict[Path, str]:
        paths = (path for package in PACKAGES for path in (self.root / package).rglob("*"))
        return {path: sha256_file(path) for path in paths if path.is_file() and "__pycache__" not in path.parts}

    def used_by(self, source: str) -> dict[str, str]:
        """{path relative to the repository: digest} of every module that `source` imports and of the data beside it."""
        modules: set[Path] = set()
        waiting = set(self._imported(source, ""))
        while waiting:
            module = waiting.pop()
            modules.add(module)
            if module not in self._imports:
                package = ".".join(module.parent.relative_to(self.root).parts)
                self._imports[module] = self._imported(module.read_text(encoding="utf-8"), package)
            waiting |= self._imports[module] - modules
        packages = {module.parent for module in modules} - {self.root / "alnlib"}
        beside = {path for path in self._digests if path.suffix not in (".py", ".md") and packages & set(path.parents)}
        digests = {path.relative_to(self.root).as_posix(): self._digests[path] for path in sorted(modules | beside)}
        return {name: digest for name, digest in digests.items() if name not in NO_INFLUENCE}

    def _imported(self, source: str, package: str) -> frozenset[Path]:
        names: set[str] = set()
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.Import):
                names |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                base = resolve_name("." * node.level + (node.module or ""), package)
                names |= {base} | {f"{base}.{alias.name}" for alias in node.names}
        files: set[Path] = set()
        for parts in (name.split(".") for name in names if name.startswith(PACKAGES)):
            for length in range(1, len(parts) + 1):
                path = self.root.joinpath(*parts[:length])
                files |= {path / "__init__.py", path.with_suffix(".py")} & self._digests.keys()
        return frozenset(files)


@cache
def code_of(*modules: str, without: tuple[str, ...] = ()) -> dict[str, str]:
    """{file: digest} of modules of ours and of all that they import, less `NO_VALUES` and files that begin as `without`.

    Once per process, because the code that runs is the code that was there when it was imported.
    """
    used = _library().used_by("\n".join(f"import {module}" for module in modules))
    return {name: digest for name, digest in used.items() if not name.startswith((*NO_VALUES, *without))}


def _digest_of(entries: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(entries, sort_keys=True).encode()).hexdigest()[:16]


@cache
def _library() -> LibraryCode:
    return LibraryCode(Path(__file__).resolve().parents[1])


@cache
def versions(*distributions: str) -> dict[str, str]:
    """Versions of those of these distributions that are installed: another one may give other values. Once per process."""
    installed = {}
    for name in distributions:
        with suppress(PackageNotFoundError):
            installed[name] = version(name)
    return installed


def key_of(**parts: Any) -> str:
    """Hexadecimal SHA-256 of all that a thing depends on, as JSON holds it; TypeError for what JSON does not hold.

    The arithmetic of this process is always part of it: another one gives other last digits.
    """
    parts["arithmetic"] = [arithmetic(), REFERENCE]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def write_sealed(path: Path, key: str, save: Callable[[Path], object], **about: Any) -> None:
    """A file as `save` writes it, then one line of JSON: its key, the SHA-256 of what stands before, `about`, their own digest.

    Whole or not at all; formats that know their own length (npy, the archives of torch) are read as if the line were not
    there. Raises InputError if the file cannot be written.
    """
    try:
        with atomic_path(path) as temporary:
            save(temporary)
            seal = {"key": key, "sha256": sha256_file(temporary), **about}
            seal["seal"] = _digest_of(seal)
            with open(temporary, "ab") as stream:
                stream.write(b"\n" + json.dumps(seal).encode())
    except OSError as error:
        raise InputError(f"{path}: cannot be kept there ({error}); free space or name another folder") from error


def sealed_length(path: Path, key: str) -> int | None:
    """Bytes before the seal of a file of `write_sealed`; None if it is missing, damaged in any byte, or of another key.

    What is there and cannot be used is said (`note`): the caller makes it anew.
    """
    try:
        with open(path, "rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
            length = content.rfind(b"\n")
            seal = json.loads(content[length + 1 :])
            whole_seal = seal.pop("seal", None) in (None, _digest_of(seal))  # files of before have none
            with memoryview(content) as whole, whole[:length] as before:
                intact = seal["sha256"] == hashlib.sha256(before).hexdigest()
                if intact and whole_seal and seal["key"] == key:
                    return length
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):  # whatever a damaged seal may hold
        pass
    note(f"{path} is damaged; it is not used, and made anew")
    return None


def digest_of_code(code: Mapping[str, str]) -> str:
    """One digest of what `code_of` gives, for seals."""
    return _digest_of(code)


def drop_older(folder: Path, pattern: str, code: Mapping[str, str]) -> None:
    """Remove sealed files that other code made: their seals have another `code`, and no key of today's finds them again."""
    for path in folder.glob(pattern):
        with suppress(OSError):  # another process was faster
            if (seal := _seal_of(path)) and seal.get("code") != digest_of_code(code):
                path.unlink()


def _seal_of(path: Path) -> dict[str, Any]:
    """The last line of a file, if it is a seal; it is not looked at whether it fits what stands before."""
    with open(path, "rb") as stream:
        stream.seek(max(0, path.stat().st_size - SEAL_BYTES))
        line = stream.read().rpartition(b"\n")[2]
    with suppress(ValueError):
        seal = json.loads(line)
        return seal if isinstance(seal, dict) else {}
    return {}


def keep_within(folder: Path, pattern: str, limit_gb: float, spare: Path | None = None) -> None:
    """Remove files beyond limit_gb (10^9 bytes), those used longest ago first, never `spare`: they can be made again."""
    used = []
    for path in folder.glob(pattern):
        with suppress(OSError):  # another process was faster
            status = path.stat()
            used.append((path != spare, -status.st_mtime_ns, status.st_size, path))
    total = 0
    for removable, _, size, path in sorted(used):
        total += size
        if removable and total > limit_gb * 1e9:
            with suppress(OSError):  # Windows keeps a file that is mapped
                path.unlink()


class Repeats(dict):
    """Finished repeats of a loop, value by number; one that is set is on disk at once, as a line with its own digest.

    A line that a killed run left half written, or in which a byte has changed, is passed over.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        text = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
        lines = [line for line in text.splitlines() if line]
        whole = [line for line in lines if line.partition(" ")[0] == _line_digest(line.partition(" ")[2])]
        for line in whole:
            super().__setitem__(*json.loads(line.partition(" ")[2]))
        if len(whole) < len(lines):
            note(f"{path}: {len(lines) - len(whole)} of {len(lines)} lines are cut or damaged; they are made anew")
            with suppress(OSError):  # they are only passed over once more
                write_text("".join(f"\n{line}" for line in whole), path)

    def __setitem__(self, number: int, value: Any) -> None:
        repeat = json.dumps([number, value])
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with open(self.path, "a", encoding="utf-8") as stream:
                # the leading newline keeps a new line apart from one that was cut short
                stream.write(f"\n{_line_digest(repeat)} {repeat}")
                stream.flush()
                os.fsync(stream.fileno())
        except OSError as error:
            raise InputError(
                f"{self.path}: cannot keep finished repeats there ({error}); free space or name another folder"
            ) from error
        super().__setitem__(number, value)


def _line_digest(repeat: str) -> str:
    return hashlib.sha256(repeat.encode()).hexdigest()[:16]


@dataclass(frozen=True)
class LoopMemory:
    """The memory that loops of `alneval.resplit` take: finished repeats in `folder`, one file per loop, tasks and data."""

    folder: Path

    def __call__(self, work: Callable[..., Any], tasks: Sequence[Any], context: Iterable[Any]) -> Repeats:
        """Repeats of work(task, context) that are known. Both must be picklable, for the pickle is what they are known by."""
        import joblib  # stages are surveyed without it

        named = re.findall(rf"(?:{'|'.join(PACKAGES)})(?:\.\w+)+".encode(), pickle.dumps((work, context)))
        key = key_of(
            work=work.__qualname__,
            tasks=list(tasks),
            context=joblib.hash(context),
            code=code_of(*sorted({name.decode() for name in named})),
            libraries=versions("scikit-learn", "numpy"),
        )
        return Repeats(Path(self.folder) / f"{work.__name__.lstrip('_')}-{key[:16]}.jsonl")
