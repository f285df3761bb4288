"""The data manifest: every public file the compendium knows, and whether the files in a folder are those files.

Nothing is fetched here (`alnlib.cohorts.download`) and no cohort is built here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
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
VERIFICATION_COLUMNS = ("file", "need", "expected_sha256", "found_sha256", "bytes", "status")

_SHA256 = re.compile(r"[0-9a-f]{64}")
_DOI = re.compile(r"10\.\d{4,9}/\S+")
_SOURCE = re.compile(r"(https://\S+|idc:[a-z0-9_]+/[A-Z+]+(/[a-z0-9_]+)?)")


def manifest_path() -> Path:
    """The manifest of this repository, data_manifest.csv."""
    return repository_root() / "data_manifest.csv"


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
    path = Path(path) if path is not None else manifest_path()
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


def known_cohorts(manifest: pd.DataFrame | None = None) -> tuple[str, ...]:
    """Names of the cohorts in the manifest, in its order."""
    manifest = read_manifest() if manifest is None else manifest
    return tuple(dict.fromkeys(manifest["cohort"]))


def cohort_rows(cohort: str, manifest: pd.DataFrame | None = None) -> pd.DataFrame:
    """The manifest's rows for one cohort. Raises InputError for a name that the manifest does not have."""
    manifest = read_manifest() if manifest is None else manifest
    rows = manifest[manifest["cohort"] == cohort].reset_index(drop=True)
    if rows.empty:
        raise InputError(f"There is no public cohort {cohort!r}; known are {', '.join(known_cohorts(manifest))}.")
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
    """Every single file behind a cohort's rows: file, need, sha256, bytes (NA inside a folder), row (position in `rows`).

    Folder rows are opened through the cohort's checksum list; rows without a checksum stand for no listed file.
    Raises InputError if a list is not the one whose digest the manifest gives.
    """
    files = []
    for position, row in enumerate(rows.to_dict("records")):
        if not row["sha256"]:
            continue
        if not row["file"].endswith("/"):
            files.append((row["file"], row["need"], row["sha256"], row["bytes"], position))
            continue
        list_path = checksum_list_path(row["cohort"])
        checksums = read_checksum_list(list_path)
        found = sha256_file(list_path)
        if found != row["sha256"]:
            raise InputError(
                f"{list_path}: its digest is {found[:12]}, but data_manifest.csv gives {row['sha256'][:12]}; "
                "restore both files from the repository."
            )
        folder = "" if row["file"] == "./" else row["file"]
        files += [
            (name, row["need"], digest, pd.NA, position)
            for name, digest in checksums.items()
            if name.startswith(folder)
        ]
    frame = pd.DataFrame(files, columns=["file", "need", "sha256", "bytes", "row"])
    return frame.astype({"bytes": "Int64"})


@dataclass(frozen=True)
class VerificationReport:
    """What a data folder holds, measured against the manifest.

    frame columns: file, need, expected_sha256, found_sha256 ("" if there is none), bytes, and status: ok, missing, wrong
    (other bytes than the manifest's) or unlisted (in the folder, but not in the manifest; not read).
    """

    cohort: str
    data_dir: Path
    source: str
    frame: pd.DataFrame

    def files(self, status: str) -> list[str]:
        """Names of the files with this status."""
        return self.frame.loc[self.frame["status"] == status, "file"].tolist()

    @property
    def missing_required(self) -> list[str]:
        frame = self.frame
        return frame.loc[(frame["status"] == "missing") & (frame["need"] == "required"), "file"].tolist()

    def raise_if_wrong(self) -> VerificationReport:
        """Raise InputError if a file has other bytes than the manifest says; else return the report."""
        wrong = self.frame[self.frame["status"] == "wrong"].to_dict("records")
        remedy = (
            f"delete it and download it again from {self.source}, or, if the source now offers another version, "
            "state that version in data_manifest.csv"
        )
        problems = [
            Problem.of(self.data_dir / row["file"], differing(row["found_sha256"], row["expected_sha256"]), remedy)
            for row in wrong
        ]
        if wrong:
            raise InputError(
                f"{len(wrong)} of the {self.cohort} files in {self.data_dir} {'is' if len(wrong) == 1 else 'are'} not the "
                "one that data_manifest.csv describes.",
                problems,
            )
        return self

    def raise_if_incomplete(self) -> VerificationReport:
        """Raise InputError if a file that a run needs is missing; else return the report."""
        missing = self.missing_required
        remedy = (
            f"run `run_all.py download {self.cohort} --data {self.data_dir}`, take it from {self.source}, "
            "or point --data at the folder that holds it"
        )
        if missing:
            raise InputError(
                f"{self.data_dir} lacks {len(missing)} file{'s' if len(missing) > 1 else ''} that cohort {self.cohort} needs.",
                [Problem.of(self.data_dir / name, "not found", remedy) for name in missing],
            )
        return self

    def __str__(self) -> str:
        counts = self.frame["status"].value_counts()
        parts = [f"{counts[status]} {status}" for status in ("ok", "missing", "wrong", "unlisted") if status in counts]
        return f"{self.cohort} in {self.data_dir}: {', '.join(parts) if parts else 'nothing to verify'}"


def differing(found: str, expected: str) -> str:
    """Two SHA-256 that should be one, as a message."""
    return f"sha256 is {found[:12]}..., expected {expected[:12]}..."


def verify_files(
    manifest_rows: pd.DataFrame, data_dir: str | Path, *, may_be_absent: bool = False
) -> VerificationReport:
    """Compare the files in `data_dir` with one cohort's manifest rows.

    A file is read once, and again when the file system says that anything about it changed (`alnlib.memo`); that is
    remembered in a hidden file of `data_dir`, if it can be written.

    A folder that holds only part of the files is a valid answer, not an error: see `raise_if_wrong` and
    `raise_if_incomplete`. Unlisted files are reported at the top of `data_dir` and inside the listed folders only, because
    the rest (fetched DICOM series) has no checksum. Raises InputError if `data_dir` is not a folder; `may_be_absent`: one
    that is not there yet counts as empty.
    """
    cohort = _single_cohort(manifest_rows)
    data_dir = Path(data_dir)
    if data_dir.exists() and not data_dir.is_dir():
        raise InputError(f"{data_dir} is a file, not a folder; give the folder for the data with --data.")
    if not data_dir.is_dir() and not may_be_absent:
        raise InputError(
            f"{data_dir}: this data folder does not exist; give the folder of cohort {cohort} with --data, or make it with "
            f"`run_all.py download {cohort} --data {data_dir}`."
        )
    digests = FileDigests(data_dir / f".{MEMORY}")
    listed = listed_files(manifest_rows)
    verified = []
    for entry in listed.to_dict("records"):
        path = data_dir / entry["file"]
        found, size, status = "", entry["bytes"], "missing"
        if path.is_file():
            found, size = digests.of(path), path.stat().st_size
            status = "ok" if found == entry["sha256"] else "wrong"
        verified.append((entry["file"], entry["need"], entry["sha256"], found, size, status))
    if data_dir.is_dir():
        digests.save()
    known = set(listed["file"])
    for name in sorted(_candidates(manifest_rows, data_dir) - known):
        verified.append((name, "", "", "", (data_dir / name).stat().st_size, "unlisted"))
    frame = pd.DataFrame(verified, columns=list(VERIFICATION_COLUMNS)).astype({"bytes": "Int64"})
    return VerificationReport(cohort, data_dir, source_of(manifest_rows), frame)


def check_cohort_files(
    cohort: str, data_dir: str | Path, *, manifest: pd.DataFrame | None = None
) -> VerificationReport:
    """Verify what is there and insist on what a run needs. Raises InputError for a wrong or a missing required file."""
    report = verify_files(cohort_rows(cohort, manifest), data_dir)
    return report.raise_if_wrong().raise_if_incomplete()


def source_of(rows: pd.DataFrame) -> str:
    """Where a person finds these files: the first DOI of the rows as an address, else the first https address."""
    dois = [doi for doi in rows["doi"] if doi]
    if dois:
        return f"https://doi.org/{dois[0]}"
    addresses = [address for address in rows["url_or_id"] if address.startswith("https://")]
    return addresses[0] if addresses else "its original source"


def _single_cohort(rows: pd.DataFrame) -> str:
    names = rows["cohort"].unique()
    if len(names) != 1:
        raise ValueError(f"manifest rows of one cohort are needed, found {len(names)}")
    return str(names[0])


def _candidates(rows: pd.DataFrame, data_dir: Path) -> set[str]:
    """Visible files at the top of the data folder and inside its listed folders, as relative POSIX paths."""
    folders = [data_dir]
    folders += [data_dir / name for name in rows["file"][rows["sha256"] != ""] if name.endswith("/") and name != "./"]
    found = (path for folder in folders if folder.is_dir() for path in folder.iterdir() if path.is_file())
    return {path.relative_to(data_dir).as_posix() for path in found if not path.name.startswith(".")}
