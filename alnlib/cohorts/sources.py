"""Where a cohort comes from, by name: simulate it or verify its files, then read it into the one form of `schema.Cohort`.

What each source looks like inside is in its own module (`duke`, `breast_lesions_usg`, `ispy2`, `folder`), simulated patients
in `alnsim`.
"""

from __future__ import annotations

import hashlib
from dataclasses import asdict
from pathlib import Path

import pandas as pd

from alnlib.cohorts.breast_lesions_usg import read_breast_lesions_usg
from alnlib.cohorts.duke import read_duke
from alnlib.cohorts.folder import read_cohort
from alnlib.cohorts.ispy2 import read_ispy2
from alnlib.cohorts.manifest import check_cohort_files, cohort_rows
from alnlib.cohorts.schema import Cohort
from alnlib.errors import InputError
from alnlib.files import sha256_file
from alnlib.memo import FileDigests, code_of, key_of, versions
from alnsim import SimulationSpec, simulate_cohort

LIBRARIES = ("numpy", "scipy", "pandas", "pydicom", "nibabel", "pillow")
"""What draws and writes simulated patients: another version may give other bytes."""

PUBLIC = {"duke": read_duke, "breast-lesions-usg": read_breast_lesions_usg, "ispy2": read_ispy2}
"""Public cohorts by the name of the command line and of data_manifest.csv."""


def prepare_source(name: str, data: str | Path, spec: SimulationSpec, seed: int, n_jobs: int = 1) -> Cohort:
    """Make sure that the files of a cohort are there and right, and read it.

    name: "simulated" (written to `data` from spec and seed, unless it stands there as it was written), "folder" (a cohort
    folder in the contract's form) or a public cohort, whose files are compared with data_manifest.csv. Raises InputError for
    what is missing, wrong or unreadable.
    """
    if name == "simulated":
        _simulate_once(spec, Path(data), seed, n_jobs)
    elif name in PUBLIC:
        check_cohort_files(cohort_rows(name), data)
    return read_source(name, data)


def _simulate_once(spec: SimulationSpec, data: Path, seed: int, n_jobs: int) -> None:
    """Write the simulated cohort, unless the same code wrote it there from the same recipe and no byte has changed since."""
    made = data.with_name(f".{data.name}.made")
    recipe = {"spec": asdict(spec), "seed": seed, "code": code_of("alnsim"), "libraries": versions(*LIBRARIES)}
    key = key_of(**recipe)
    if made.is_file() and made.read_bytes() == _made(key, data):
        return
    made.unlink(missing_ok=True)
    simulate_cohort(spec, data, seed, n_jobs=n_jobs)
    made.write_bytes(_made(key, data))


def _made(key: str, data: Path) -> bytes:
    return f"{key}\n{FileDigests().of_folder(data)}\n".encode()


def read_source(name: str, data: str | Path) -> Cohort:
    """Read a cohort whose files are in place; images are counted from `data`."""
    if name in PUBLIC:
        return PUBLIC[name](data)
    if name not in ("simulated", "folder"):
        raise InputError(f"there is no cohort {name!r}; known are simulated, folder, {', '.join(PUBLIC)}")
    return read_cohort(data)


LISTED_ONE_BY_ONE = 1000
"""Files of a cohort up to which each has a row of its own in `list_files`."""


def list_files(cohort: Cohort) -> pd.DataFrame:
    """The files that stand behind a cohort: file (relative to its root), files, bytes, sha256; hidden ones are left out.

    One row per file; of more than `LISTED_ONE_BY_ONE`, one row per kind, numbers in their names written as #: how many,
    bytes together, and one SHA-256 over the lines "sha256  name" of all of them, as `sha256sum` prints them, sorted by name.
    """
    root = cohort.root
    found = sorted(
        path.relative_to(root).as_posix()
        for path in root.rglob("*")
        if path.is_file() and not any(part[0] == "." for part in path.relative_to(root).parts)
    )
    rows = [(name, 1, (root / name).stat().st_size, sha256_file(root / name)) for name in found]
    table = pd.DataFrame(rows, columns=["file", "files", "bytes", "sha256"])
    if len(table) <= LISTED_ONE_BY_ONE:
        return table
    lines = table.assign(line=table["sha256"] + "  " + table["file"] + "\n")
    kinds = lines.groupby(lines["file"].str.replace(r"\d+", "#", regex=True), sort=True)
    grouped = kinds.agg(files=("files", "sum"), bytes=("bytes", "sum"), sha256=("line", _digest_of_lines))
    return grouped.rename_axis("file").reset_index()


def _digest_of_lines(lines: pd.Series) -> str:
    return hashlib.sha256("".join(lines).encode("utf-8")).hexdigest()


def known_endpoint(cohort: Cohort, name: str) -> str:
    """`name`, or the cohort's primary endpoint if it is empty; InputError naming the endpoints if it is none of them."""
    endpoint = name or cohort.primary_endpoint
    if endpoint not in cohort.endpoints:
        raise InputError(
            f"endpoint {endpoint!r} is none of this cohort's: {', '.join(cohort.endpoints)}; mend the name"
        )
    return endpoint
