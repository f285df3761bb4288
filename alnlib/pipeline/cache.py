"""What a stage's result depends on, as hashes, and whether a stored result is still that of today.

A stage is fresh if its cells, parameters, inputs, data, library code and the lock are those of its last good run and
its outputs are still the ones that run wrote. Size and time of a file spare reading it again.
"""

from __future__ import annotations

import ast
import hashlib
import json
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import Any

from alnlib.files import sha256_file, write_json
from alnlib.pipeline.parameters import cell_source

NO_INFLUENCE = ("alnlib/pipeline/stages.py", "alnlib/pipeline/offer.py", "alnlib/paths.py")
"""Imported by notebooks, but only to say which stage to run and where folders are: a change there changes no result."""

MAX_FILES_READ = 20_000
"""In a data folder with more files than this (downloaded MRI series) size and time stand for the content."""


class FileHashes:
    """SHA-256 of files, remembered by path, size and modification time so that an unchanged file is read once."""

    def __init__(self, memory: Path) -> None:
        self.memory = memory
        self.changed = False
        try:
            self.known: dict[str, list] = json.loads(memory.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            self.known = {}

    def of(self, path: Path) -> str | None:
        """Hexadecimal digest, or None if there is no such file."""
        try:
            status = path.stat()
        except FileNotFoundError:
            return None
        stamp = [status.st_size, status.st_mtime_ns]
        entry = self.known.get(str(path))
        if entry is None or entry[:2] != stamp:
            entry = self.known[str(path)] = [*stamp, sha256_file(path)]
            self.changed = True
        return entry[2]

    def of_folder(self, folder: Path) -> str:
        """Digest of the names and contents of all files below a folder (none, if it does not exist); hidden ones count not."""
        files = sorted(
            path
            for path in folder.rglob("*")
            if path.is_file() and not any(part.startswith(".") for part in path.relative_to(folder).parts)
        )
        read = len(files) <= MAX_FILES_READ
        digest = hashlib.sha256()
        for path in files:
            status = path.stat()
            content = self.of(path) if read else f"{status.st_size} {status.st_mtime_ns}"
            digest.update(f"{path.relative_to(folder).as_posix()}\0{content}\n".encode())
        return digest.hexdigest()

    def save(self) -> None:
        """Keep what was learned for the next run; paths of this machine stay in this git-ignored file."""
        if self.changed:
            write_json(self.known, self.memory)
            self.changed = False


PACKAGES = ("alnlib", "alneval", "alnsim")


class LibraryCode:
    """Which modules of ours a piece of code imports, directly or not, and their hashes."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._imports: dict[Path, frozenset[Path]] = {}

    @cached_property
    def _digests(self) -> dict[Path, str]:
        found = (path for package in PACKAGES for path in (self.root / package).rglob("*"))
        return {path: sha256_file(path) for path in found if path.is_file() and "__pycache__" not in path.parts}

    def used_by(self, source: str) -> dict[str, str]:
        """{path relative to the repository: digest} of every module that `source` imports and of the data beside it."""
        found: set[Path] = set()
        waiting = list(self._imported(ast.parse(source), package=()))
        while waiting:
            module = waiting.pop()
            if module in found:
                continue
            found.add(module)
            if module not in self._imports:
                package = module.parent.relative_to(self.root).parts
                self._imports[module] = self._imported(ast.parse(module.read_text(encoding="utf-8")), package)
            waiting.extend(self._imports[module])
        packages = {module.parent for module in found} - {self.root / "alnlib"}
        beside = {path for path in self._digests if path.suffix != ".py" and packages & set(path.parents)}
        digests = {path.relative_to(self.root).as_posix(): self._digests[path] for path in sorted(found | beside)}
        return {name: digest for name, digest in digests.items() if name not in NO_INFLUENCE}

    def _imported(self, tree: ast.AST, package: tuple[str, ...]) -> frozenset[Path]:
        names: set[tuple[str, ...]] = set()
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                names |= {tuple(alias.name.split(".")) for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                above = package[: len(package) - node.level + 1] if node.level else ()
                base = (*above, *(node.module.split(".") if node.module else ()))
                names |= {base} | {(*base, alias.name) for alias in node.names}
        files: set[Path] = set()
        for name in names:
            if name[0] in PACKAGES:
                for length in range(1, len(name) + 1):
                    path = self.root.joinpath(*name[:length])
                    candidates = (path / "__init__.py", path.with_suffix(".py"))
                    files |= {candidate for candidate in candidates if candidate in self._digests}
        return frozenset(files)


def notebook_code(notebook: dict) -> str:
    """All code of a notebook; lines of IPython magic are left out so that it parses."""
    cells = [cell_source(cell) for cell in notebook["cells"] if cell["cell_type"] == "code"]
    lines = "\n".join(cells).splitlines()
    return "\n".join(line for line in lines if not line.lstrip().startswith(("%", "!")))


def notebook_digest(notebook: dict) -> str:
    """Digest of every cell's kind, source and tags; outputs and other metadata do not count."""
    cells = [[c["cell_type"], cell_source(c), sorted(c.get("metadata", {}).get("tags", []))] for c in notebook["cells"]]
    return hashlib.sha256(json.dumps(cells).encode()).hexdigest()


def expand(names: Iterable[str], folder: Path) -> list[Path]:
    """The files that names stand for: a name ending in "/" is every file below that folder."""
    paths: list[Path] = []
    for name in names:
        path = folder / name
        paths.extend(sorted(p for p in path.rglob("*") if p.is_file()) if name.endswith("/") else [path])
    return paths


def why_stale(stored: dict[str, Any] | None, today: dict[str, Any], hashes: FileHashes, folder: Path) -> str | None:
    """The reason to run a stage again in a few words, or None if its stored result stands.

    stored: what `save_state` wrote; today: the components of now, of which each is a digest or {name: digest}.
    """
    if stored is None:
        return "never run here"
    for component, now in today.items():
        before = stored["components"].get(component)
        if before == now:
            continue
        if isinstance(now, dict) and isinstance(before, dict):
            # A need that is new in the table and whose file is not there yet is a name with no digest.
            changed = sorted(name for name in {*now, *before} if now.get(name, "") != before.get(name, ""))
            return f"{component} changed: {changed[0]}" + (f" and {len(changed) - 1} more" if len(changed) > 1 else "")
        return f"{component} changed"
    for name, digest in stored["outputs"].items():
        found = hashes.of(folder / name)
        if found != digest:
            return f"output {'missing' if found is None else 'edited'}: {name}"
    return None


def read_state(path: Path) -> dict[str, Any] | None:
    """What the last good run of a stage left, or None."""
    try:
        state = json.loads(path.read_text(encoding="utf-8"))
        return state if {"components", "outputs"} <= set(state) else None
    except (OSError, ValueError):
        return None
