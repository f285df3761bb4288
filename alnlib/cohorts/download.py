"""Fetch a public cohort: its files by pooch, its DICOM series by idc-index, each checked before it gets its final name.

What is known of each file stands in the manifest (`alnlib.cohorts.manifest`); reading the pixels is `alnlib.imaging`'s work.
"""

from __future__ import annotations

import re
import shutil
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import pandas as pd

from alnlib.cohorts.manifest import differing, source_of, verify_files
from alnlib.errors import InputError, Problem
from alnlib.files import sha256_file, write_csv

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
MAX_PATIENTS_BY_SERIES = 10
FREE_SPACE_MARGIN = 1.05
CONNECT_TIMEOUT_SECONDS = 30
RETRIES = 2
INCOMING = ".incoming"

_NAMES_IN_INDEX = {
    "PatientID": "patient_id",
    "SeriesDescription": "description",
    "Modality": "modality",
    "instanceCount": "instances",
    "license_short_name": "license",
    "source_DOI": "doi",
    "SeriesInstanceUID": "series_uid",
}
"""Columns of the index that travels with idc-index, by our names."""


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


def wanted_series(source: str, cohort: str) -> pd.DataFrame:
    """The series of a manifest source `idc:collection/MODALITY[+MODALITY][/analysis_result]`, without any network.

    cohort: `duke` narrows the MR series to the DCE phases. Returns SERIES_COLUMNS less `status`, ordered by patient and
    phase; `bytes` Int64.
    """
    from idc_index_data import IDC_INDEX_PARQUET_FILEPATH

    collection, modalities, analysis = (source.removeprefix("idc:").split("/") + [""])[:3]
    columns = [*_NAMES_IN_INDEX, "SeriesNumber", "series_size_MB", "analysis_result_id"]
    filters = [("collection_id", "==", collection), ("Modality", "in", modalities.split("+"))]
    index = pd.read_parquet(IDC_INDEX_PARQUET_FILEPATH, columns=columns, filters=filters)
    index = index[index["analysis_result_id"].fillna("") == analysis]  # empty: deposited with the images
    if index.empty:
        raise InputError(f"The installed idc-index knows no {modalities} series of collection {collection!r}.")
    series = index.rename(columns=_NAMES_IN_INDEX).astype({"instances": "Int64"}).fillna({"description": ""})
    series["bytes"] = (series["series_size_MB"] * 1e6).round().astype("Int64")
    series["phase"] = pd.Series(pd.NA, index=series.index, dtype="Int64")
    if cohort == "duke" and modalities == "MR":
        patients = series.groupby("patient_id")
        series["phase"] = pd.concat([dce_phases(own["description"], own["SeriesNumber"]) for _, own in patients])
        series = series[series["phase"].notna()]
    series["folder"] = [
        f"{row.patient_id}/" + (f"{row.modality}_{row.series_uid}" if pd.isna(row.phase) else f"dce_{row.phase}")
        for row in series.itertuples()
    ]
    return series[list(SERIES_COLUMNS[:-1])].sort_values(["patient_id", "phase", "series_uid"], ignore_index=True)


def select_patients(patient_ids: pd.Series, wanted: Sequence[str]) -> list[str]:
    """Full patient identifiers for what a user typed: `Breast_MRI_007`, or just its number, `7` or `007`.

    Raises InputError that names those not found.
    """
    known = sorted(set(patient_ids))
    chosen, unknown = [], []
    for text in wanted:
        matches = [text] if text in known else []
        if text.isdecimal() and not matches:
            matches = [patient for patient in known if re.search(rf"(?<!\d)0*{int(text)}$", patient)]
        if len(matches) == 1:
            chosen += matches
        else:
            unknown.append(text)
    if unknown:
        raise InputError(
            f"No patient {', '.join(unknown)} among the {len(known)} of this collection ({known[0]} ... {known[-1]}); "
            "give identifiers or numbers separated by commas."
        )
    return list(dict.fromkeys(chosen))


# --- the report -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class DownloadReport:
    """What a download did, or with dry_run would do; printed as a table of files and one of series.

    files: the manifest's rows that are no series, with a status: present, partly present, to fetch, fetched, by hand (no
    certain address) or on request. series: SERIES_COLUMNS; status present, to fetch, fetched or not asked for.
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
        return self.series["patient_id"].nunique()

    @property
    def bytes_to_fetch(self) -> int:
        """Bytes that are still to be transferred."""
        either = pd.concat([self.files, self.series])
        return int(either.loc[either["status"].isin(["to fetch", "partly present"]), "bytes"].sum())

    def __str__(self) -> str:
        what = "what a download would fetch" if self.dry_run else "download"
        lines = [f"{self.cohort}: {what} ({self.data_dir})", ""]
        if len(self.files):
            sizes = ["" if pd.isna(size) else format_bytes(size) for size in self.files["bytes"]]
            shown = self.files.assign(size=sizes)[["file", "need", "status", "size", "license"]]
            lines += ["Files", *_text_table(shown), ""]
        if len(self.series):
            shown = _series_shown if self.n_patients <= MAX_PATIENTS_BY_SERIES else _patients_shown
            lines += ["DICOM series", *_text_table(shown(self.series)), ""]
            lines.append(
                f"In all: {self.n_patients} patients, {len(self.series)} series, {self.series['instances'].sum()} "
                f"instances, {format_bytes(self.series['bytes'].sum())}; still to fetch {format_bytes(self.bytes_to_fetch)}."
            )
        licenses = sorted({*self.files["license"], *self.series["license"]})
        lines += [f"License: {', '.join(licenses)}", "Cite:", *(f"  {citation}" for citation in self.citations)]
        return "\n".join([*lines, *(f"Note: {note}" for note in self.notes)])


def format_bytes(count: int) -> str:
    """Bytes in decimal units, as disks and IDC count them: 1 MB is a million bytes."""
    for unit, size in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count} bytes"


def _series_shown(series: pd.DataFrame) -> pd.DataFrame:
    names = series["description"].where(series["description"] != "", series["modality"])
    phases = series["phase"].astype("string").fillna("")
    shown = series.assign(series=names, phase=phases, size=series["bytes"].map(format_bytes))
    shown = shown.rename(columns={"patient_id": "patient", "series_uid": "SeriesInstanceUID"})
    return shown[["patient", "phase", "series", "instances", "size", "license", "status", "SeriesInstanceUID"]]


def _patients_shown(series: pd.DataFrame) -> pd.DataFrame:
    patients = series.groupby("patient_id")
    shown = {
        "series": patients.size(),
        "instances": patients["instances"].sum(),
        "size": patients["bytes"].sum().map(format_bytes),
        "license": patients["license"].agg(lambda names: ", ".join(sorted(set(names)))),
        "to fetch": patients["status"].agg(lambda status: (status == "to fetch").sum()),
        "descriptions": patients["description"].agg(lambda texts: " | ".join(dict.fromkeys(texts))),
    }
    return pd.DataFrame(shown).rename_axis("patient").reset_index()


def _text_table(shown: pd.DataFrame) -> list[str]:
    cells = [list(shown.columns), *shown.astype(str).to_numpy().tolist()]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return ["  " + "  ".join(map(str.ljust, row, widths)).rstrip() for row in cells]


# --- the download -----------------------------------------------------------------------------------------------------


def download_cohort(
    rows: pd.DataFrame,
    data_dir: str | Path,
    *,
    dry_run: bool = False,
    patients: Sequence[str] | None = None,
    masks: bool = False,
    mirror: str | None = None,
) -> DownloadReport:
    """Bring `data_dir` to what the manifest says of a cohort: verify what is there, fetch what is missing.

    rows: the cohort's (`manifest.cohort_rows`). patients: whose DICOM series to fetch, as identifiers or their numbers, or
    ["all"]; None fetches the files alone, and with dry_run lists every patient's series. masks: fetch the segmentations of
    the series too. dry_run: list, transfer nothing, need no network and no existing folder. mirror: address under which
    `<cohort>/<file>` lies, asked instead of the manifest's.

    Writes files under their manifest names, series as `images/<patient_id>/dce_<phase>/` (0 is before contrast) or
    `images/<patient_id>/<modality>_<SeriesInstanceUID>/`, and `images/series.csv`. Everything is checked in the hidden
    folder `.incoming` first, so that a broken transfer leaves nothing under a final name; a rerun goes on from there.
    Raises InputError for a wrong checksum, a file that must be taken by hand, a refused or missing network, a full disk.
    """
    rows, data_dir = rows.reset_index(drop=True), Path(data_dir)
    verified = verify_files(rows, data_dir, may_be_absent=True)
    files = _file_status(rows, verified, mirror)
    if not dry_run:
        _refuse_closed(files, data_dir)
        _fetch_files(files, verified, data_dir, mirror)
        done = _file_status(rows, verify_files(rows, data_dir, may_be_absent=True), mirror)
        fetched = (files["status"] != "present") & (done["status"] == "present")
        files = done.assign(status=done["status"].mask(fetched, "fetched"))
        _refuse_incomplete(files, data_dir)
    series = _series_status(rows, data_dir, patients, masks)
    if not dry_run and patients is None:
        series["status"] = series["status"].replace("to fetch", "not asked for")
    if not dry_run and (series["status"] == "to fetch").any():
        series = _fetch_series(series, data_dir, source_of(rows))
    notes, citations = _notes(files, series), _citations(rows, series)
    return DownloadReport(rows["cohort"].iloc[0], data_dir, dry_run, files, series, citations, notes)


def _file_status(rows: pd.DataFrame, verified: pd.DataFrame, mirror: str | None) -> pd.DataFrame:
    """The rows that are no series, with their status as in DownloadReport."""
    statuses = []
    for position, row in rows.iterrows():
        found = verified.loc[verified["row"] == position, "status"] == "ok"
        if len(found) and found.all():
            statuses.append("present")
        elif row["access"] != "open":
            statuses.append("on request")
        elif not (row["url_or_id"] or mirror):
            statuses.append("by hand")
        else:
            statuses.append("partly present" if found.any() else "to fetch")
    return rows.assign(status=statuses)[~rows["url_or_id"].str.startswith("idc:")]


def _refuse_closed(files: pd.DataFrame, data_dir: Path) -> None:
    for row in files[files["status"] == "on request"].to_dict("records"):
        then = f"put {row['file']} into {data_dir} and run this command again to verify it"
        if not row["sha256"]:
            then = "write it as a cohort folder and run `run_all.py --cohort PATH`"
        raise InputError(
            f"{row['cohort']} cannot be fetched by a program: its access is {row['access']}. {row['note']} "
            f"Ask for it at {row['url_or_id'] or source_of(files)}; once you have it, {then}."
        )


def _refuse_incomplete(files: pd.DataFrame, data_dir: Path) -> None:
    by_hand = files[(files["status"] == "by hand") & (files["need"] == "required")]
    remedy = "take it from {}, from a copy with --mirror, or point --data at it"
    if len(by_hand):
        raise InputError(
            f"{len(by_hand)} file{'s' if len(by_hand) > 1 else ''} of this cohort must be fetched by hand: no address of "
            "theirs is certain. Put them into the data folder and run this command again; it verifies them and goes on.",
            [
                Problem.of(data_dir / name, "not found", remedy.format(source_of(own)))
                for name, own in by_hand.groupby("file", sort=False)
            ],
        )


def _notes(files: pd.DataFrame, series: pd.DataFrame) -> tuple[str, ...]:
    notes = []
    pending = series[series["status"] == "not asked for"]
    if len(pending):
        notes.append(
            f"{len(pending)} DICOM series of {pending['patient_id'].nunique()} patients "
            f"({format_bytes(pending['bytes'].sum())}) were not asked for: --patients 1,2 or --patients all fetches them."
        )
    for name, own in files[files["status"].isin(["by hand", "on request"])].groupby("file", sort=False):
        row = own.iloc[0]
        where = row["url_or_id"] or source_of(own)
        notes.append(f"{name} ({row['need']}) is to be taken by hand from {where}. {row['note']}")
    return tuple(notes)


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

    _make_folder(path.parent)
    downloader = pooch.HTTPDownloader(timeout=CONNECT_TIMEOUT_SECONDS, progressbar=sys.stderr.isatty())
    known = {path.name: f"sha256:{sha256}" if sha256 else None}
    store = pooch.create(path.parent, "", registry=known, urls={path.name: address}, retry_if_failed=RETRIES)
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


def _fetch_files(files: pd.DataFrame, verified: pd.DataFrame, data_dir: Path, mirror: str | None) -> None:
    pending = files[files["status"].isin(["to fetch", "partly present"])]
    if len(pending):
        _need_space(data_dir, int(pending["bytes"].sum()))
    for position, row in pending.iterrows():
        inside = verified[(verified["row"] == position) & (verified["status"] == "missing")]
        if mirror:
            for entry in inside.itertuples():
                address = f"{mirror.rstrip('/')}/{row['cohort']}/{entry.file}"
                fetch_file(address, data_dir / entry.file, entry.sha256)
        elif row["file"].endswith("/"):
            _fetch_archive(row["url_or_id"], inside, data_dir, source_of(pending.loc[[position]]))
        else:
            fetch_file(row["url_or_id"], data_dir / row["file"], row["sha256"])


def _fetch_archive(address: str, inside: pd.DataFrame, data_dir: Path, source: str) -> None:
    """Fetch a zip archive and take out the listed files, all checked before the first gets its final name."""
    _make_folder(data_dir / INCOMING)
    with tempfile.TemporaryDirectory(dir=data_dir / INCOMING) as temporary:
        path = Path(temporary) / "archive.zip"
        fetch_file(address, path, None)
        wanted = {PurePosixPath(name).name: name for name in inside["file"]}
        try:
            with zipfile.ZipFile(path) as archive:
                for member in archive.infolist():
                    name = PurePosixPath(member.filename).name
                    if name in wanted and not member.is_dir():
                        member.filename = wanted[name]
                        archive.extract(member, temporary)
        except zipfile.BadZipFile as error:
            raise InputError(
                f"{address} sent no whole zip archive, and nothing was kept. Run this command again, or take the files by "
                f"hand from {source} and point --data at the folder."
            ) from error
        problems = []
        for entry in inside.itertuples():
            unpacked = Path(temporary) / entry.file
            found = sha256_file(unpacked) if unpacked.is_file() else None
            if found != entry.sha256:
                remedy = f"download it again, or take the files by hand from {source}"
                message = differing(found, entry.sha256) if found else "not in it"
                problems.append(Problem.of(entry.file, message, remedy))
        if problems:
            raise InputError(f"The archive at {address} is not the one that data_manifest.csv describes.", problems)
        for name in inside["file"]:
            _make_folder((data_dir / name).parent)
            (Path(temporary) / name).replace(data_dir / name)
    _remove_if_empty(data_dir / INCOMING)


# --- series -----------------------------------------------------------------------------------------------------------


def _series_status(rows: pd.DataFrame, data_dir: Path, patients: Sequence[str] | None, masks: bool) -> pd.DataFrame:
    """SERIES_COLUMNS of the wanted series of these patients (None: of all), each present or to fetch."""
    plans = []
    for row in rows[rows["url_or_id"].str.startswith("idc:")].to_dict("records"):
        if masks or row["kind"] != "masks":
            series = wanted_series(row["url_or_id"], row["cohort"])
            plans.append(series.assign(folder=row["file"] + series["folder"]))
    if not plans and patients is not None:
        cohort = rows["cohort"].iloc[0]
        raise InputError(f"{cohort} has no DICOM series to choose patients from; leave --patients out.")
    if not plans:
        return pd.DataFrame(columns=list(SERIES_COLUMNS))
    series = pd.concat(plans, ignore_index=True)
    if patients is not None and list(patients) != ["all"]:
        chosen = select_patients(series["patient_id"], patients)
        series = series[series["patient_id"].isin(chosen)].reset_index(drop=True)
    complete = [_is_complete(data_dir / row.folder, row) for row in series.itertuples()]
    return series.assign(status=["present" if done else "to fetch" for done in complete])


def _is_complete(folder: Path, row) -> bool:
    """Whether a folder holds exactly the DICOM files, and in all the bytes, of a row of SERIES_COLUMNS."""
    sizes = [path.stat().st_size for path in folder.glob("*.dcm")]
    return (len(sizes), sum(sizes)) == (row.instances, row.bytes)


def _fetch_series(series: pd.DataFrame, data_dir: Path, source: str) -> pd.DataFrame:
    pending = series[series["status"] == "to fetch"]
    _need_space(data_dir, int(pending["bytes"].sum()))
    _need_store(source)
    from idc_index import IDCClient

    client = IDCClient.client()
    incoming = data_dir / INCOMING
    _make_folder(incoming)
    for _, own in pending.groupby("patient_id"):
        _transfer(own, incoming, data_dir, client, source)
    _remove_if_empty(incoming)
    for top, own in series.groupby(series["folder"].str.split("/").str[0]):
        _write_series_table(data_dir, data_dir / top / "series.csv", own.drop(columns="status"))
    return series.assign(status=series["status"].replace("to fetch", "fetched"))


def _transfer(own: pd.DataFrame, incoming: Path, data_dir: Path, client, source: str) -> None:
    """Fetch one patient's series into `incoming`, check each, and move the whole ones to their final folders."""
    asked = [row.series_uid for row in own.itertuples() if not _is_complete(incoming / row.series_uid, row)]
    for uid in asked:
        shutil.rmtree(incoming / uid, ignore_errors=True)
    failure: Exception | None = None
    try:
        if asked:
            client.download_from_selection(
                downloadDir=str(incoming),
                seriesInstanceUID=asked,
                dirTemplate="%SeriesInstanceUID",
                quiet=True,
                show_progress_bar=sys.stderr.isatty(),
            )
    except Exception as error:  # whatever the client raises, the files below say what has arrived
        failure = error
    broken = []
    for row in own.itertuples():
        arrived, final = incoming / row.series_uid, data_dir / row.folder
        if _is_complete(arrived, row):
            shutil.rmtree(final, ignore_errors=True)
            _make_folder(final.parent)
            arrived.replace(final)
        else:
            shutil.rmtree(arrived, ignore_errors=True)
            what = f"{row.description or row.modality}: expected {row.instances} instances with {row.bytes} bytes"
            broken.append(Problem.of(final, what, "run the command again"))
    if broken:
        _remove_if_empty(incoming)
        cause = f" ({type(failure).__name__}: {failure})" if failure is not None else ""
        raise InputError(
            f"{len(broken)} of {len(own)} series of patient {own['patient_id'].iloc[0]} did not arrive whole{cause}. Run this "
            f"command again: complete series are kept. If it repeats, check the network, or take the images from {source}.",
            broken,
        ) from failure


def _write_series_table(data_dir: Path, path: Path, series: pd.DataFrame) -> None:
    """What lies in which folder; rows of earlier downloads are kept as long as their folders exist."""
    if path.is_file():
        types = {"patient_id": str, "series_uid": str, "phase": "Int64"}
        earlier = pd.read_csv(path, dtype=types, keep_default_na=False)
        kept = earlier[~earlier["series_uid"].isin(series["series_uid"])]
        kept = kept[[(data_dir / folder).is_dir() for folder in kept["folder"]]]
        series = pd.concat([series, kept], ignore_index=True)
    write_csv(series.sort_values(["patient_id", "phase", "series_uid"]), path)


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
