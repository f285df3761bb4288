"""What a stage's result depends on, as hashes, and whether a stored result is still that of today.

A stage is fresh if its cells, parameters, inputs, data, library code and the lock are those of its last good run and
its outputs are still the ones that run wrote. Files and code are recognized by `alnlib.memo`.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from alnlib.memo import FileDigests
from alnlib.pipeline.parameters import cell_source


def notebook_code(notebook: dict) -> str:
    """All code of a notebook; lines of IPython magic are left out so that it parses."""
    cells = [cell_source(cell) for cell in notebook["cells"] if cell["cell_type"] == "code"]
    lines = "\n".join(cells).splitlines()
    return "\n".join(line for line in lines if not line.lstrip().startswith(("%", "!")))


def notebook_digest(notebook: dict) -> str:
    """Digest of every cell's kind, source and tags; outputs and other metadata do not count."""
    cells = [[c["cell_type"], cell_source(c), sorted(c.get("metadata", {}).get("tags", []))] for c in notebook["cells"]]
    return hashlib.sha256(json.dumps(cells).encode()).hexdigest()


def why_stale(stored: dict[str, Any], today: dict[str, Any], digests: FileDigests, folder: Path) -> str | None:
    """The reason to run a stage again in a few words, or None if its stored result stands.

    stored: as `read_state` gives it; today: the components of now, of which each is a digest or {name: digest}.
    """
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
        found = digests.of(folder / name)
        if found != digest:
            return f"output {'missing' if found is None else 'edited'}: {name}"
    return None


def read_state(path: Path) -> dict[str, Any]:
    """What the last good run of a stage left: its components and outputs; no components if there was none."""
    try:
        state = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        state = {}
    parts = [state.get(name) for name in ("components", "outputs")] if isinstance(state, dict) else [None]
    return state if all(isinstance(part, dict) for part in parts) else {"components": {}, "outputs": {}}
