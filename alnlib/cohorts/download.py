"""Fetch a public cohort: its files by pooch, its DICOM series by idc-index, each checked before it gets its final name.

What is known of each file stands in the manifest (`alnlib.cohorts.manifest`); reading the pixels is `alnlib.imaging`'s work.
"""

from __future__ import annotations

import re
import shutil
import sys
import tempfile
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import pandas as pd

from alnlib.cohorts.manifest import (
    VerificationReport,
    cohort_rows,
    differing,
    listed_files,
    source_of,
    verify_files,
)
from alnlib.errors import InputError, Problem
from alnlib.files import sha256_file, write_csv

FILE_COLUMNS = ("file", "need", "access", "bytes", "license", "doi", "status")
SERIES_COLUMNS = (
    "patient_id",
    "phase",
    "description",
    "modality",
    "instances",
    "bytes",
    "license",
    "doi",
    "series_uid",
)
SERIES_COLUMNS += ("folder", "status")
FREE_SPACE_MARGIN = 1.05
CONNECT_TIMEOUT_SECONDS = 30
RETRIES = 2
INCOMING = ".incoming"

_INDEX_COLUMNS = ("PatientID", "SeriesInstanceUID", "SeriesDescription", "SeriesNumber", "Modality", "instanceCount")
_INDEX_COLUMNS += ("series_size_MB", "license_short_name", "source_DOI", "analysis_result_id", "collection_id")

Fetcher = Callable[[str, Path, str | None], None]
"""(address, file to make, SHA-256 or None): leaves the whole, checked file under that name, or raises and leaves none."""


class SeriesStore(Protocol):
    """The two methods of idc_index.IDCClient that are used here; anything that has them can stand in for it."""

    def sql_query(self, sql_query: str) -> pd.DataFrame: ...

    def download_from_selection(self, downloadDir: str, **selection: Any) -> None: ...


# --- which series -----------------------------------------------------------------------------------------------------

_NUMBERED_PHASE = (
    re.compile(r"^Ph(?P<phase>[1-9])/"),  # GE: Ph1/ax 3d dyn
    re.compile(
        r"(?P<phase>[1-9])(?:st|nd|rd|th) pass?\b", re.IGNORECASE
    ),  # Siemens, and 26 patients on GE: ax dyn 1st pass; "pas" once
    re.compile(r"^(?P<phase>[1-9])(?:st|nd|rd|th) ax dyn\b", re.IGNORECASE),  # ten patients on GE: 1st ax dyn
)
_BEFORE_CONTRAST = re.compile(r"(?:dyn\w*|ax 3d)\b.*\bpre$", re.IGNORECASE)
_DYNAMIC = re.compile(r"\bdyn|\bVibrant MultiPhase", re.IGNORECASE)


def dce_phases(description: pd.Series, series_number: pd.Series) -> pd.Series:
    """DCE phase of each series of one Duke patient: 0 before contrast, 1, 2, ... after it, NA for any other series.

    description, series_number: (n,) SeriesDescription and SeriesNumber. Three namings occur: `ax dynamic`,
    `Ph1/ax dynamic`, ... (GE), `ax dyn pre`, `ax dyn 1st pass`, ... (Siemens, some GE) and `ax 3d pre`, `1st ax dyn`, ... A
    dynamic series without a number takes the lowest free phase, in the order of SeriesNumber: the plain name is the
    pre-contrast phase on GE scanners, and four patients have several series with the same plain name.
    Rule found on the 922 patients of the index; T1 series outside the dynamic are left out.
    """
    phases = pd.Series(pd.NA, index=description.index, dtype="Int64")
    unnumbered = []
    for key, text in description.fillna("").items():
        numbered = next((match for match in (rule.search(text) for rule in _NUMBERED_PHASE) if match), None)
        if numbered:
            phases[key] = int(numbered["phase"])
        elif _BEFORE_CONTRAST.search(text):
            phases[key] = 0
        elif _DYNAMIC.search(text):
            unnumbered.append(key)
    number = pd.to_numeric(series_number)
    for key in sorted(unnumbered, key=lambda key: number[key]):
        taken = set(phases.dropna())
        phases[key] = next(phase for phase in range(len(description) + 1) if phase not in taken)
    return phases


def wanted_series(source: str, cohort: str, idc: SeriesStore | None = None) -> pd.DataFrame:
    """The series of a manifest source `idc:collection/MODALITY[+MODALITY][/analysis_result]`, without any network.

    cohort: `duke` narrows the MR series to the DCE phases. idc: None reads the index file that travels with idc-index;
    else the store is asked by SQL. Returns SERIES_COLUMNS less `status`, ordered by patient and phase; `bytes` Int64.
    """
    collection, modalities, analysis = _parse_source(source)
    index = _read_index(collection, idc)
    analyses = index["analysis_result_id"].astype("string").fillna("")  # empty: deposited with the images
    index = index[(analyses == analysis) & index["Modality"].isin(modalities)].reset_index(drop=True)
    if index.empty:
        raise InputError(
            f"The installed idc-index knows no {'+'.join(modalities)} series of collection {collection!r}."
        )
    index["phase"] = pd.array([pd.NA] * len(index), dtype="Int64")
    if cohort == "duke" and modalities == ["MR"]:
        for _, patient in index.groupby("PatientID"):
            index.loc[patient.index, "phase"] = dce_phases(patient["SeriesDescription"], patient["SeriesNumber"])
        index = index[index["phase"].notna()]
    renamed = {"PatientID": "patient_id", "SeriesDescription": "description", "Modality": "modality"}
    renamed |= {"instanceCount": "instances", "license_short_name": "license", "source_DOI": "doi"}
    sizes = (index["series_size_MB"] * 1e6).round().astype("Int64")
    series = index.rename(columns=renamed | {"SeriesInstanceUID": "series_uid"}).assign(bytes=sizes)
    series = series.astype({"instances": "Int64"}).fillna({"description": ""})[list(SERIES_COLUMNS[:-2])]
    named = series["phase"].notna()
    leaf = (series["modality"] + "_" + series["series_uid"]).where(~named, "dce_" + series["phase"].astype("string"))
    series["folder"] = series["patient_id"] + "/" + leaf.astype(series["patient_id"].dtype)
    return series.sort_values(["patient_id", "phase", "series_uid"]).reset_index(drop=True)


def _parse_source(source: str) -> tuple[str, list[str], str]:
    collection, modalities, analysis = (source.removeprefix("idc:").split("/") + [""])[:3]
    return collection, modalities.split("+"), analysis


def _read_index(collection: str, idc: SeriesStore | None) -> pd.DataFrame:
    if idc is not None:
        columns = ", ".join(_INDEX_COLUMNS)
        return idc.sql_query(f"SELECT {columns} FROM index WHERE collection_id = '{collection}'")
    from idc_index_data import IDC_INDEX_PARQUET_FILEPATH

    return pd.read_parquet(
        IDC_INDEX_PARQUET_FILEPATH, columns=list(_INDEX_COLUMNS), filters=[("collection_id", "==", collection)]
    )


def select_patients(patient_ids: pd.Series, wanted: Sequence[str]) -> list[str]:
    """Full patient identifiers for what a user typed: `Breast_MRI_007`, or just its number, `7` or `007`.

    Raises InputError that names those not found.
    """
    known = sorted(set(patient_ids))
    by_number: dict[int, list[str]] = {}
    for patient in known:
        number = re.search(r"(\d+)$", patient)
        if number:
            by_number.setdefault(int(number[1]), []).append(patient)
    chosen, unknown = [], []
    for text in (str(entry).strip() for entry in wanted):
        matches = [text] if text in known else by_number.get(int(text), []) if text.isdecimal() else []
        chosen += matches if len(matches) == 1 else []
        unknown += [text] if len(matches) != 1 else []
    if unknown:
        raise InputError(
            f"No patient {', '.join(unknown)} among the {len(known)} of this collection ({known[0]} ... {known[-1]}); "
            "give identifiers or numbers separated by commas."
        )
    return list(dict.fromkeys(chosen))


# --- the report -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class DownloadReport:
    """What a download did, or with dry_run would do.

    files: FILE_COLUMNS, one row per manifest row that is no series; status present, partly present, to fetch, fetched, by
    hand (no certain address) or on request. series: SERIES_COLUMNS; status present, to fetch, fetched or not asked for.
    citations: one per source, to be cited by whoever uses the data. notes: what the reader should know or do next.
    """

    cohort: str
    data_dir: Path
    dry_run: bool
    files: pd.DataFrame
    series: pd.DataFrame
    citations: tuple[str, ...]
    notes: tuple[str, ...] = ()

    @property
    def n_patients(self) -> int:
        """Patients with wanted series."""
        return int(self.series["patient_id"].nunique())

    @property
    def bytes_to_fetch(self) -> int:
        """Bytes that are still to be transferred."""
        return sum(
            int(frame.loc[frame["status"].isin(["to fetch", "partly present"]), "bytes"].sum())
            for frame in (self.files, self.series)
        )

    def __str__(self) -> str:
        return format_download_report(self)


def format_bytes(count: int) -> str:
    """Bytes in decimal units, as disks and IDC count them: 1 MB is a million bytes."""
    for unit, size in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count} bytes"


MAX_PATIENTS_BY_SERIES = 10


def format_download_report(report: DownloadReport) -> str:
    """The report as plain text: files, series (one line each for up to ten patients, else one line per patient), totals,
    licenses, citations and notes."""
    title = f"{report.cohort}: {'what a download would fetch' if report.dry_run else 'download'} ({report.data_dir})"
    lines = [title, ""]
    if len(report.files):
        lines += ["Files", *_text_table(_file_cells(report.files)), ""]
    if len(report.series):
        by_series = report.n_patients <= MAX_PATIENTS_BY_SERIES
        cells = _series_cells(report.series) if by_series else _patient_cells(report.series)
        lines += ["DICOM series", *_text_table(cells), ""]
        lines.append(
            f"In all: {report.n_patients} patients, {len(report.series)} series, {int(report.series['instances'].sum())} "
            f"instances, {format_bytes(int(report.series['bytes'].sum()))}; still to fetch "
            f"{format_bytes(report.bytes_to_fetch)}."
        )
    licenses = sorted(set(report.files["license"]) | set(report.series["license"]))
    lines += [f"License: {', '.join(licenses)}", "Cite:"]
    lines += [f"  {citation}" for citation in report.citations]
    lines += [f"Note: {note}" for note in report.notes]
    return "\n".join(lines)


def _file_cells(files: pd.DataFrame) -> list[list[str]]:
    sizes = ["" if pd.isna(size) else format_bytes(size) for size in files["bytes"]]
    shown = files.assign(size=sizes)[["file", "need", "status", "size", "license"]]
    return [list(shown.columns), *shown.to_numpy().tolist()]


def _series_cells(series: pd.DataFrame) -> list[list[str]]:
    shown = series.assign(
        patient=series["patient_id"],
        phase=series["phase"].astype("string").fillna(""),
        series=series["description"].where(series["description"] != "", series["modality"]),
        instances=series["instances"].astype("string"),
        size=series["bytes"].map(format_bytes),
        SeriesInstanceUID=series["series_uid"],
    )
    shown = shown[["patient", "phase", "series", "instances", "size", "license", "status", "SeriesInstanceUID"]]
    return [list(shown.columns), *shown.to_numpy().tolist()]


def _patient_cells(series: pd.DataFrame) -> list[list[str]]:
    cells = [["patient", "series", "instances", "size", "license", "to fetch", "descriptions"]]
    for patient, own in series.groupby("patient_id"):
        counts = [str(len(own)), str(own["instances"].sum()), format_bytes(own["bytes"].sum())]
        licenses, pending = ", ".join(sorted(set(own["license"]))), str((own["status"] == "to fetch").sum())
        cells.append([str(patient), *counts, licenses, pending, " | ".join(dict.fromkeys(own["description"]))])
    return cells


def _text_table(cells: list[list[str]]) -> list[str]:
    widths = [max(len(row[column]) for row in cells) for column in range(len(cells[0]))]
    return [
        "  " + "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in cells
    ]


# --- the download -----------------------------------------------------------------------------------------------------


def download_cohort(
    cohort: str,
    data_dir: str | Path,
    *,
    dry_run: bool = False,
    patients: Sequence[str] | Literal["all"] | None = None,
    masks: bool = False,
    fetcher: Fetcher | None = None,
    idc: SeriesStore | None = None,
    mirror: str | None = None,
    manifest: pd.DataFrame | None = None,
    progress: Callable[[str], None] | None = None,
) -> DownloadReport:
    """Bring `data_dir` to what the manifest says of a cohort: verify what is there, fetch what is missing.

    patients: whose DICOM series to fetch, as identifiers or their numbers, or "all"; None fetches the files alone, and with
    dry_run lists every patient's series. masks: fetch the segmentations of the series too. dry_run: list, transfer
    nothing, need no network and no existing folder. fetcher, idc: what transfers files and series (pooch and
    idc_index.IDCClient by default). mirror: address under which `<cohort>/<file>` lies, asked instead of the manifest's.
    progress: called with one line per file or patient.

    Writes files under their manifest names, series as `images/<patient_id>/dce_<phase>/` (0 is before contrast) or
    `images/<patient_id>/<modality>_<SeriesInstanceUID>/`, and `images/series.csv`. Everything is checked in the hidden
    folder `.incoming` first, so that a broken transfer leaves nothing under a final name; a rerun goes on from there.
    Raises InputError for a wrong checksum, a file that must be taken by hand, a refused or missing network, a full disk.
    """
    rows = cohort_rows(cohort, manifest)
    data_dir = Path(data_dir)
    tell = progress or (lambda line: None)
    verified = verify_files(rows, data_dir, may_be_absent=True)
    verified.raise_if_wrong()
    files = _file_status(rows, verified, mirror)
    if not dry_run:
        _refuse_closed(rows, files, data_dir)
        _fetch_files(rows, files, verified, data_dir, fetcher or fetch_file, mirror, tell)
        verified = verify_files(rows, data_dir, may_be_absent=True).raise_if_wrong()
        done = _file_status(rows, verified, mirror)
        fetched = (files["status"] != "present") & (done["status"] == "present")
        files = done.assign(status=done["status"].mask(fetched, "fetched"))
        _refuse_incomplete(rows, files, data_dir)
    series, notes = _plan_series(rows, data_dir, patients, masks, dry_run, idc)
    if not dry_run and (series["status"] == "to fetch").any():
        series = _fetch_series(series, data_dir, idc, tell, source_of(rows))
    notes += _hand_notes(rows, files)
    return DownloadReport(
        cohort, data_dir, dry_run, files, series, _citations(rows, series), tuple(dict.fromkeys(notes))
    )


def _file_status(rows: pd.DataFrame, verified: VerificationReport, mirror: str | None) -> pd.DataFrame:
    listed = listed_files(rows)
    status_of = dict(zip(verified.frame["file"], verified.frame["status"], strict=True))
    entries = []
    for position, row in enumerate(rows.to_dict("records")):
        if row["url_or_id"].startswith("idc:"):
            continue
        found = [status_of[name] for name in listed.loc[listed["row"] == position, "file"]]
        if found and all(status == "ok" for status in found):
            status = "present"
        elif row["access"] != "open":
            status = "on request"
        elif not (row["url_or_id"] or mirror):
            status = "by hand"
        else:
            status = "partly present" if "ok" in found else "to fetch"
        entries.append(row | {"status": status})
    return pd.DataFrame(entries, columns=list(FILE_COLUMNS)).astype({"bytes": "Int64"})


def _refuse_closed(rows: pd.DataFrame, files: pd.DataFrame, data_dir: Path) -> None:
    closed = files.loc[files["status"] == "on request", "file"]
    if not len(closed):
        return
    row = rows[rows["file"] == closed.iloc[0]].iloc[0]
    where = row["url_or_id"] or source_of(rows)
    then = (
        f"put {row['file']} into {data_dir} and run this command again to verify it"
        if row["sha256"]
        else "write it as a cohort folder and run `run_all.py --cohort PATH`"
    )
    raise InputError(
        f"{row['cohort']} cannot be fetched by a program: its access is {row['access']}. {row['note']} "
        f"Ask for it at {where}; once you have it, {then}."
    )


def _refuse_incomplete(rows: pd.DataFrame, files: pd.DataFrame, data_dir: Path) -> None:
    by_hand = files.loc[(files["status"] == "by hand") & (files["need"] == "required"), "file"]
    remedy = "take it from {}, from a copy with --mirror, or point --data at it"
    if len(by_hand):
        raise InputError(
            f"{len(by_hand)} file{'s' if len(by_hand) > 1 else ''} of this cohort must be fetched by hand: no address of "
            "theirs is certain. Put them into the data folder and run this command again; it verifies them and goes on.",
            [
                Problem.of(data_dir / name, "not found", remedy.format(source_of(rows[rows["file"] == name])))
                for name in by_hand
            ],
        )


def _hand_notes(rows: pd.DataFrame, files: pd.DataFrame) -> list[str]:
    notes = []
    for entry in files[files["status"].isin(["by hand", "on request"])].to_dict("records"):
        row = rows[rows["file"] == entry["file"]].iloc[0]
        where = row["url_or_id"] or source_of(rows[rows["file"] == entry["file"]])
        notes.append(f"{entry['file']} ({entry['need']}) is to be taken by hand from {where}. {row['note']}")
    return notes


def _citations(rows: pd.DataFrame, series: pd.DataFrame) -> tuple[str, ...]:
    if len(series):
        of_series = rows["doi"].str.lower().isin(series["doi"].str.lower())
        rows = rows[~rows["url_or_id"].str.startswith("idc:") | of_series]
    links = (" https://doi.org/" + rows["doi"]).where(rows["doi"] != "", "")
    return tuple(dict.fromkeys(rows["citation"] + "." + links))


# --- files ------------------------------------------------------------------------------------------------------------


def fetch_file(address: str, path: Path, sha256: str | None) -> None:
    """Fetch one file by pooch: to a temporary name, checked, then renamed; two retries. Raises InputError in one paragraph."""
    import pooch
    import requests

    downloader = pooch.HTTPDownloader(timeout=CONNECT_TIMEOUT_SECONDS, progressbar=sys.stderr.isatty())
    store = pooch.create(
        path=path.parent,
        base_url="",
        registry={path.name: f"sha256:{sha256}" if sha256 else None},
        urls={path.name: address},
        retry_if_failed=RETRIES,
    )
    try:
        store.fetch(path.name, downloader=downloader)
    except requests.HTTPError as error:
        code = error.response.status_code if error.response is not None else "an error"
        raise InputError(
            f"{address} answered {code}. The file may have moved: take {path.name} by hand from its DOI, put it into the data "
            "folder and run this command again, or name a mirror with --mirror."
        ) from error
    except requests.RequestException as error:
        raise InputError(
            f"{address} could not be reached or broke off ({type(error).__name__}). Check the network or the proxy variables "
            "and run this command again (what is complete is kept), name a mirror with --mirror, or take the file by hand "
            "from its DOI and point --data at the folder."
        ) from error
    except ValueError as error:  # pooch's word for a checksum that does not agree
        raise InputError(
            f"{address} sent other bytes than data_manifest.csv describes (expected sha256 {(sha256 or '')[:12]}...), and "
            "nothing was kept. Run this command again; if it repeats, the source has a new version: state it in "
            "data_manifest.csv, or take the described one from a mirror with --mirror."
        ) from error
    except OSError as error:
        raise InputError(
            f"{path} cannot be written ({error.strerror or error}); give --data a folder you can write to."
        ) from error


def _fetch_files(
    rows: pd.DataFrame,
    files: pd.DataFrame,
    verified: VerificationReport,
    data_dir: Path,
    fetcher: Fetcher,
    mirror: str | None,
    tell: Callable[[str], None],
) -> None:
    pending = files[files["status"].isin(["to fetch", "partly present"])]
    if pending.empty:
        return
    _need_space(data_dir, int(pending["bytes"].sum()))
    _make_folder(data_dir)
    listed = listed_files(rows)
    missing = set(verified.files("missing"))
    for name in pending["file"]:
        position = rows.index[rows["file"] == name][0]
        row = rows.loc[position]
        inside = listed[(listed["row"] == position) & listed["file"].isin(missing)]
        tell(f"{name}: fetching {format_bytes(int(row['bytes']))}")
        if mirror:
            for entry in inside.to_dict("records"):
                address = f"{mirror.rstrip('/')}/{row['cohort']}/{entry['file']}"
                _make_folder((data_dir / entry["file"]).parent)
                fetcher(address, data_dir / entry["file"], entry["sha256"])
        elif name.endswith("/"):
            _fetch_archive(row["url_or_id"], inside, data_dir, fetcher, source_of(rows.loc[[position]]))
        else:
            _make_folder((data_dir / name).parent)
            fetcher(row["url_or_id"], data_dir / name, row["sha256"])


def _fetch_archive(address: str, inside: pd.DataFrame, data_dir: Path, fetcher: Fetcher, source: str) -> None:
    """Fetch a zip archive and take out the listed files, all checked before the first gets its final name."""
    _make_folder(data_dir / INCOMING)
    with tempfile.TemporaryDirectory(dir=data_dir / INCOMING) as temporary:
        archive_path = Path(temporary) / "archive.zip"
        fetcher(address, archive_path, None)
        remedy = f"download it again, or take the files by hand from {source}"
        problems, moves = [], []
        try:
            with zipfile.ZipFile(archive_path) as archive:
                members = {name.rsplit("/", 1)[-1]: name for name in archive.namelist() if not name.endswith("/")}
                for number, entry in enumerate(inside.to_dict("records")):
                    member = members.get(entry["file"].rsplit("/", 1)[-1])
                    unpacked = Path(temporary) / str(number)
                    moves.append((unpacked, data_dir / entry["file"]))
                    if member is None:
                        problems.append(Problem.of(entry["file"], "not in it", remedy))
                        continue
                    with archive.open(member) as packed, open(unpacked, "wb") as target:
                        shutil.copyfileobj(packed, target)
                    found = sha256_file(unpacked)
                    if found != entry["sha256"]:
                        problems.append(Problem.of(entry["file"], differing(found, entry["sha256"]), remedy))
        except zipfile.BadZipFile as error:
            raise InputError(
                f"{address} sent no whole zip archive, and nothing was kept. Run this command again, or take the files by "
                f"hand from {source} and point --data at the folder."
            ) from error
        if problems:
            raise InputError(f"The archive at {address} is not the one that data_manifest.csv describes.", problems)
        for unpacked, final in moves:
            _make_folder(final.parent)
            unpacked.replace(final)
    _remove_if_empty(data_dir / INCOMING)


# --- series -----------------------------------------------------------------------------------------------------------


def _plan_series(
    rows: pd.DataFrame,
    data_dir: Path,
    patients: Sequence[str] | Literal["all"] | None,
    masks: bool,
    dry_run: bool,
    idc: SeriesStore | None,
) -> tuple[pd.DataFrame, list[str]]:
    """Series of the cohort with their status, and notes. Without `patients` a real download asks for none of them."""
    plans = []
    for row in rows[rows["url_or_id"].str.startswith("idc:")].to_dict("records"):
        if row["kind"] == "masks" and not masks:
            continue
        series = wanted_series(row["url_or_id"], row["cohort"], idc)
        plans.append(series.assign(folder=row["file"] + series["folder"]))
    if not plans:
        if patients is not None:
            cohort = rows["cohort"].iloc[0]
            raise InputError(f"{cohort} has no DICOM series to choose patients from; leave --patients out.")
        return pd.DataFrame(columns=list(SERIES_COLUMNS)), []
    series = pd.concat(plans, ignore_index=True)
    if patients is not None and patients != "all" and list(patients) != ["all"]:
        chosen = select_patients(series["patient_id"], patients)
        series = series[series["patient_id"].isin(chosen)].reset_index(drop=True)
    complete = [series_is_complete(data_dir / row.folder, row.instances, row.bytes) for row in series.itertuples()]
    series["status"] = ["present" if done else "to fetch" for done in complete]
    notes = []
    if patients is None and not dry_run and "to fetch" in set(series["status"]):
        pending = series[series["status"] == "to fetch"]
        notes.append(
            f"{len(pending)} DICOM series of {pending['patient_id'].nunique()} patients "
            f"({format_bytes(int(pending['bytes'].sum()))}) were not asked for: --patients 1,2 or --patients all fetches them."
        )
        series["status"] = series["status"].replace("to fetch", "not asked for")
    return series[list(SERIES_COLUMNS)], notes


def series_is_complete(folder: Path, instances: int, size_bytes: int) -> bool:
    """Whether a folder holds exactly this many DICOM files with exactly this many bytes in all."""
    if not folder.is_dir():
        return False
    sizes = [path.stat().st_size for path in folder.glob("*.dcm")]
    return len(sizes) == instances and sum(sizes) == size_bytes


def _fetch_series(
    series: pd.DataFrame, data_dir: Path, idc: SeriesStore | None, tell: Callable[[str], None], source: str
) -> pd.DataFrame:
    pending = series[series["status"] == "to fetch"]
    _need_space(data_dir, int(pending["bytes"].sum()))
    if idc is None:
        _need_store(source)
        from idc_index import IDCClient

        idc = IDCClient.client()
    incoming = data_dir / INCOMING
    _make_folder(incoming)
    series = series.copy()
    n_patients = pending["patient_id"].nunique()
    for number, (patient, own) in enumerate(pending.groupby("patient_id"), start=1):
        tell(f"{patient} ({number}/{n_patients}): {len(own)} series, {format_bytes(int(own['bytes'].sum()))}")
        _transfer(own, incoming, data_dir, idc, source)
        series.loc[own.index, "status"] = "fetched"
    _remove_if_empty(incoming)
    for top in sorted({folder.split("/")[0] for folder in series["folder"]}):
        _write_series_table(data_dir, top, series)
    return series


def _transfer(own: pd.DataFrame, incoming: Path, data_dir: Path, idc: SeriesStore, source: str) -> None:
    """Fetch one patient's series into `incoming`, check each, and move the whole ones to their final folders."""
    waiting = {row.series_uid: row for row in own.itertuples()}
    asked = [uid for uid, row in waiting.items() if not series_is_complete(incoming / uid, row.instances, row.bytes)]
    for uid in asked:
        shutil.rmtree(incoming / uid, ignore_errors=True)
    failure: Exception | None = None
    if asked:
        try:
            idc.download_from_selection(
                downloadDir=str(incoming),
                seriesInstanceUID=asked,
                dirTemplate="%SeriesInstanceUID",
                quiet=True,
                show_progress_bar=sys.stderr.isatty(),
            )
        except Exception as error:  # whatever the client raises, the files below say what has arrived
            failure = error
    broken = []
    for uid, row in waiting.items():
        if not series_is_complete(incoming / uid, row.instances, row.bytes):
            shutil.rmtree(incoming / uid, ignore_errors=True)
            broken.append(row)
            continue
        final = data_dir / row.folder
        if final.exists():
            shutil.rmtree(final)
        _make_folder(final.parent)
        (incoming / uid).replace(final)
    if broken:
        _remove_if_empty(incoming)
        cause = f" ({type(failure).__name__}: {failure})" if failure is not None else ""
        raise InputError(
            f"{len(broken)} of {len(own)} series of patient {broken[0].patient_id} did not arrive whole{cause}. Run this "
            f"command again: complete series are kept. If it repeats, check the network, or take the images from {source}.",
            [
                Problem.of(
                    data_dir / row.folder,
                    f"{row.description or row.modality}: expected {row.instances} instances with {row.bytes} bytes",
                    "run the command again",
                )
                for row in broken
            ],
        ) from failure


def _write_series_table(data_dir: Path, top: str, series: pd.DataFrame) -> None:
    """<top>/series.csv: what lies in which folder; rows of earlier downloads are kept as long as their folders exist."""
    path = data_dir / top / "series.csv"
    columns = [column for column in SERIES_COLUMNS if column != "status"]
    here = series[series["folder"].str.startswith(f"{top}/") & series["status"].isin(["present", "fetched"])][columns]
    here = here.astype({"instances": "int64", "bytes": "int64"})
    if path.is_file():
        earlier = pd.read_csv(
            path, dtype={"patient_id": str, "series_uid": str, "phase": "Int64"}, keep_default_na=False
        )
        kept = earlier[~earlier["series_uid"].isin(here["series_uid"])]
        kept = kept[[(data_dir / folder).is_dir() for folder in kept["folder"]]]
        here = pd.concat([here, kept], ignore_index=True)
    write_csv(here.sort_values(["patient_id", "phase", "series_uid"]), path)


def _need_store(source: str) -> None:
    """Fail at once, instead of after s5cmd's many retries, if the store of IDC cannot be reached."""
    import requests
    from idc_index import index as idc_settings

    address = idc_settings.aws_endpoint_url
    try:
        requests.head(address, timeout=CONNECT_TIMEOUT_SECONDS)
    except requests.RequestException as error:
        raise InputError(
            f"The public image store at {address} cannot be reached ({type(error).__name__}). Check the network or the proxy "
            f"variables; or take the images from {source} on another machine and point --data at the folder that holds them. "
            "`--dry-run` lists them without a network."
        ) from error


# --- disk -------------------------------------------------------------------------------------------------------------


def _need_space(data_dir: Path, needed_bytes: int) -> None:
    existing = next(folder for folder in (data_dir, *data_dir.absolute().parents) if folder.exists())
    free = shutil.disk_usage(existing).free
    if free < needed_bytes * FREE_SPACE_MARGIN:
        raise InputError(
            f"{data_dir}: {format_bytes(needed_bytes)} are to be fetched, but only {format_bytes(free)} are free there. Give "
            "--data a folder on a larger disk, or fewer --patients."
        )


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"{folder} cannot be made ({error.strerror or error}); give --data a folder you can write to."
        ) from error


def _remove_if_empty(folder: Path) -> None:
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()
