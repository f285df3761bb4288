"""The data manifest: every public file the compendium knows, and whether the files in a folder are those files.

Nothing is fetched here (`alnlib.cohorts.download`) and no cohort is built here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

import pandas as pd

from alnlib.errors import InputError, Problem
from alnlib.files import sha256_file
from alnlib.memo import MEMORY, FileDigests
from alnlib.paths import repository_root

MANIFEST_COLUMNS = ("cohort", "file", "kind", "access", "need", "url_or_id", "doi", "license", "citation", "bytes")
MANIFEST_COLUMNS += ("sha256", "patients", "labels", "notebooks", "note")
KINDS = ("table", "images", "masks", "series")
ACCESS = ("open", "registration", "controlled", "not available")
NEEDS = ("required", "optional")

_SHA256 = re.compile(r"[0-9a-f]{64}")
_DOI = re.compile(r"10\.\d{4,9}/\S+")
_SOURCE = re.compile(r"(https://\S+|idc:[a-z0-9_]+/[A-Z+]+(/[a-z0-9_]+)?)")


def checksum_list_path(cohort: str) -> Path:
    """The committed list of SHA-256 digests, in the format of sha256sum, of the files in a cohort's folders."""
    return Path(__file__).resolve().parent / "checksums" / f"{cohort}.sha256"


def read_manifest(path: str | Path | None = None) -> pd.DataFrame:
    """Read and check a manifest; by default the repository's own.

    Returns one row per file, or per folder (`file` ends with "/"; its files are in `checksum_list_path(cohort)`, and
    `sha256` is the digest of that list). `file` is relative to the cohort's data folder. `bytes` and `patients` are Int64,
    all other columns strings, "" where unknown. `need` says whether a run of the cohort stops without the file.
    Raises InputError that lists every problem with its row.
    """
    path = repository_root() / "data_manifest.csv" if path is None else Path(path)
    if not path.is_file():
        raise InputError(f"{path}: there is no data manifest here; restore it from the repository.")
    frame = pd.read_csv(path, dtype=str, keep_default_na=False)
    if {"licence", "license"} <= set(frame.columns):
        raise InputError(f"{path}: columns licence and license are the same; keep one of the two.")
    frame = frame.rename(columns={"licence": "license"})  # its name in older manifests
    missing = [column for column in MANIFEST_COLUMNS if column not in frame.columns]
    if missing:
        raise InputError(f"{path}: column {', '.join(missing)} is missing; restore the file from the repository.")
    problems = list(_manifest_problems(frame, path))
    if problems:
        raise InputError(f"{path} cannot be used.", problems)
    for column in ("bytes", "patients"):
        frame[column] = pd.to_numeric(frame[column]).astype("Int64")
    return frame[list(MANIFEST_COLUMNS)]


def _manifest_problems(frame: pd.DataFrame, path: Path) -> Iterable[Problem]:
    def one_of(names: tuple[str, ...]):
        return names.__contains__, f"use one of {', '.join(names)}"

    def empty_or(pattern: re.Pattern[str] | str):
        return lambda text: not text or re.fullmatch(pattern, text)

    rules = {
        "cohort": (re.compile(r"[a-z0-9-]+").fullmatch, "use lower case, digits and hyphens"),
        "file": (_is_inside, "give a path relative to the cohort's data folder"),
        "kind": one_of(KINDS),
        "access": one_of(ACCESS),
        "need": one_of(NEEDS),
        "url_or_id": (empty_or(_SOURCE), "give an https address or idc:collection/MODALITY, or leave it empty"),
        "doi": (empty_or(_DOI), "give a bare DOI such as 10.7937/abcd"),
        "license": (bool, "name the license, or say that it is not available"),
        "citation": (bool, "say whom to cite"),
        "bytes": (empty_or(r"[0-9]+"), "give a whole number or leave it empty"),
        "patients": (empty_or(r"[0-9]+"), "give a whole number or leave it empty"),
        "sha256": (empty_or(_SHA256), "give 64 lower-case hex digits"),
    }
    seen: dict[tuple[str, str], int] = {}
    for row, entry in enumerate(frame.to_dict("records"), start=2):
        for column, (accepts, remedy) in rules.items():
            if not accepts(entry[column]):
                yield Problem(str(path), row, column, entry[column], "not a valid entry", remedy)
        if not (entry["sha256"] or entry["note"]):
            remedy = "say in the note why there is no checksum"
            yield Problem(str(path), row, "note", entry["note"], "not a valid entry", remedy)
        first = seen.setdefault((entry["cohort"], entry["file"]), row)
        if first != row:
            message = f"is already listed in row {first}"
            yield Problem(str(path), row, "file", entry["file"], message, "keep one of the two")


def _is_inside(path: str) -> bool:
    pure = PurePosixPath(path)
    return bool(path) and not pure.is_absolute() and ".." not in pure.parts and "\\" not in path


def cohort_rows(cohort: str) -> pd.DataFrame:
    """The manifest's rows for one cohort. Raises InputError for a name that the manifest does not have."""
    manifest = read_manifest()
    rows = manifest[manifest["cohort"] == cohort].reset_index(drop=True)
    if rows.empty:
        known = ", ".join(manifest["cohort"].unique())
        raise InputError(f"There is no public cohort {cohort!r}; known are {known}.")
    return rows


def read_checksum_list(path: str | Path) -> dict[str, str]:
    """Relative path to SHA-256, from a file in the format that sha256sum writes. Raises InputError with the line."""
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: this list of checksums is missing; restore it from the repository.")
    checksums: dict[str, str] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        digest, separator, name = line.partition("  ")
        name = name.removeprefix("./")
        if not separator or not _SHA256.fullmatch(digest) or not _is_inside(name):
            problem = Problem(str(path), number, None, line, "is not a checksum line", "restore it from the repository")
            raise InputError(f"{path} cannot be used.", [problem])
        checksums[name] = digest
    return checksums


def listed_files(rows: pd.DataFrame) -> pd.DataFrame:
    """Every single file behind a cohort's rows: file, need, sha256, row (position in `rows`).

    Folder rows are opened through the cohort's checksum list; rows without a checksum stand for no listed file.
    Raises InputError if a list is not the one whose digest the manifest gives.
    """
    files = []
    for position, row in enumerate(rows.to_dict("records")):
        if not row["sha256"]:
            continue
        own = {row["file"]: row["sha256"]}
        if row["file"].endswith("/"):
            path = checksum_list_path(row["cohort"])
            own, found = read_checksum_list(path), sha256_file(path)
            if found != row["sha256"]:
                raise InputError(
                    f"{path}: its digest is {found[:12]}, but data_manifest.csv gives {row['sha256'][:12]}; "
                    "restore both files from the repository."
                )
        folder = row["file"].removeprefix("./")
        files += [(name, row["need"], own[name], position) for name in own if name.startswith(folder)]
    return pd.DataFrame(files, columns=["file", "need", "sha256", "row"])


def verify_files(rows: pd.DataFrame, data_dir: str | Path, *, may_be_absent: bool = False) -> pd.DataFrame:
    """The listed files of one cohort's manifest rows (`listed_files`), each with its `status` in `data_dir`: ok or missing.

    A file is read once, and again when the file system says that anything about it changed (`alnlib.memo`); that is
    remembered in a hidden file of `data_dir`, if it can be written. Files that are not listed are passed over.

    A folder that holds only part of the files is a valid answer, see `check_cohort_files`. Raises InputError if a file has
    other bytes than the manifest says, or if `data_dir` is not a folder; `may_be_absent`: one that is not there yet counts
    as empty.
    """
    cohort, data_dir = rows["cohort"].iloc[0], Path(data_dir)
    if data_dir.exists() and not data_dir.is_dir():
        raise InputError(f"{data_dir} is a file, not a folder; give the folder for the data with --data.")
    if not data_dir.is_dir() and not may_be_absent:
        raise InputError(
            f"{data_dir}: this data folder does not exist; give the folder of cohort {cohort} with --data, or make it with "
            f"`run_all.py download {cohort} --data {data_dir}`."
        )
    remedy = (
        f"delete it and download it again from {source_of(rows)}, or, if the source now offers another version, "
        "state that version in data_manifest.csv"
    )
    digests = FileDigests(data_dir / f".{MEMORY}")
    listed = listed_files(rows)
    statuses, wrong = [], []
    for entry in listed.itertuples():
        path = data_dir / entry.file
        found = digests.of(path) if path.is_file() else None
        statuses.append("ok" if found else "missing")
        if found and found != entry.sha256:
            wrong.append(Problem.of(path, differing(found, entry.sha256), remedy))
    if data_dir.is_dir():
        digests.save()
    if wrong:
        raise InputError(
            f"{len(wrong)} of the {cohort} files in {data_dir} {'is' if len(wrong) == 1 else 'are'} not the one that "
            "data_manifest.csv describes.",
            wrong,
        )
    return listed.assign(status=statuses)


def check_cohort_files(rows: pd.DataFrame, data_dir: str | Path) -> None:
    """Raise InputError if a file in `data_dir` is not the manifest's (`verify_files`), or one that a run needs is missing."""
    cohort = rows["cohort"].iloc[0]
    files = verify_files(rows, data_dir)
    missing = files.loc[(files["status"] == "missing") & (files["need"] == "required"), "file"]
    remedy = (
        f"run `run_all.py download {cohort} --data {data_dir}`, take it from {source_of(rows)}, "
        "or point --data at the folder that holds it"
    )
    if len(missing):
        raise InputError(
            f"{data_dir} lacks {len(missing)} file{'s' if len(missing) > 1 else ''} that cohort {cohort} needs.",
            [Problem.of(Path(data_dir) / name, "not found", remedy) for name in missing],
        )


def differing(found: str, expected: str) -> str:
    """Two SHA-256 that should be one, as a message."""
    return f"sha256 is {found[:12]}..., expected {expected[:12]}..."


def source_of(rows: pd.DataFrame) -> str:
    """Where a person finds these files: the first DOI of the rows as an address, else the first https address."""
    dois = [f"https://doi.org/{doi}" for doi in rows["doi"] if doi]
    addresses = [address for address in rows["url_or_id"] if address.startswith("https://")]
    return [*dois, *addresses, "its original source"][0]
