"""Fetching public cohorts: which series are wanted, and transfers from a stand-in on 127.0.0.1.

Truth: the index that travels with idc-index (v25) for what is wanted, bytes made here for what arrives. The series transfer
runs the real IDCClient and the real s5cmd against the stand-in; no test needs a network.
"""

from __future__ import annotations

import io
import re
import shutil
import socket
import sys
import zipfile
from collections import namedtuple
from pathlib import Path

import duckdb
import pandas as pd
import pytest

from alnlib.cohorts import download, manifest
from alnlib.cohorts.download import (
    dce_phases,
    download_cohort,
    fetch_file,
    format_bytes,
    select_patients,
    wanted_series,
)
from alnlib.cohorts.manifest import cohort_rows, read_manifest
from alnlib.errors import InputError
from tests.local_store import local_store
from tests.real_data import real_data
from tests.toy import TOY_ENTRY, sha256

DUKE = "idc:duke_breast_cancer_mri/MR"
COLLECTION = "toy_mri"
BUCKET = "toy-bucket"


def toy_rows(*entries: dict[str, str]) -> pd.DataFrame:
    """A manifest of cohort `toy`, one row per entry."""
    frame = pd.DataFrame([TOY_ENTRY | {"note": "made by the test"} | given for given in entries])
    return frame.assign(**{name: pd.to_numeric(frame[name]).astype("Int64") for name in ("bytes", "patients")})


def visible_files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch):
    """pooch waits a second before its first retry; the tests of failure do without the retries."""
    monkeypatch.setattr(download, "RETRIES", 0)


@pytest.fixture(scope="module")
def duke_series() -> pd.DataFrame:
    return wanted_series(DUKE, "duke")


@pytest.fixture(scope="module")
def duke_index() -> pd.DataFrame:
    from idc_index_data import IDC_INDEX_PARQUET_FILEPATH

    return pd.read_parquet(
        IDC_INDEX_PARQUET_FILEPATH,
        columns=["SeriesInstanceUID", "SeriesDescription", "SeriesNumber"],
        filters=[("collection_id", "==", "duke_breast_cancer_mri"), ("Modality", "==", "MR")],
    )


@pytest.fixture
def no_network(monkeypatch):
    def refuse(*arguments, **options):
        raise OSError("the test allows no network")

    monkeypatch.setattr(socket.socket, "connect", refuse)


# --- which series -----------------------------------------------------------------------------------------------------


def test_every_duke_patient_has_a_dce_series_before_and_after_contrast(duke_series):
    phases = duke_series.groupby("patient_id")["phase"].apply(list)
    assert len(phases) == 922
    assert all(own[0] == 0 and len(own) >= 3 and len(set(own)) == len(own) for own in phases)
    assert phases.str.len().value_counts().to_dict() == {4: 480, 5: 433, 3: 9}
    assert set(duke_series["license"]) == {"CC BY-NC 4.0"}
    assert set(duke_series["modality"]) == {"MR"}


def test_duke_phases_follow_the_order_of_acquisition(duke_index, duke_series):
    """The scanner's own SeriesNumber, which the rule uses for a few patients only, must rise with the phase in all."""
    numbered = duke_series.merge(duke_index, left_on="series_uid", right_on="SeriesInstanceUID", validate="1:1")
    numbered["number"] = pd.to_numeric(numbered["SeriesNumber"])
    in_order = numbered.sort_values(["patient_id", "phase"]).groupby("patient_id")["number"]
    rising = in_order.agg(lambda numbers: numbers.is_monotonic_increasing)
    assert rising.all(), rising[~rising].index.tolist()


def test_series_left_out_of_the_duke_dce_are_t1_and_ideal(duke_index, duke_series):
    left_out = duke_index[~duke_index["SeriesInstanceUID"].isin(duke_series["series_uid"])]
    assert len(left_out) == 922  # one each: the T1 series, or IDEAL where there is none
    assert left_out["SeriesDescription"].str.contains(r"\bt1\b|IDEAL", case=False).all()


@pytest.mark.parametrize(
    ("descriptions", "phases"),
    [
        (["ax t1", "ax dynamic", "Ph1/ax dynamic", "Ph2/ax dynamic"], [None, 0, 1, 2]),
        (["ax dyn 2nd pass", "ax t1 tse +c", "ax dyn pre", "ax dyn 1st pas"], [2, None, 0, 1]),
        (["1st ax dyn", "ax 3d pre", "AX IDEAL Breast", "2nd ax dyn"], [1, 0, None, 2]),
        (["t1_fl3d_tra_dynVIEWS_spair_ pre", "t1_fl3d_tra_dynVIEWS_spair_4th pass"], [0, 4]),
        (["Ax 3D T1 NON FS", "Ax Vibrant MultiPhase", "Ph3/Ax Vibrant MultiPhase", "ax t1 pre"], [None, 0, 3, None]),
        (["ax dyn", "ax dyn", "ax dyn"], [0, 1, 2]),
        (["ax dynamic", "ax dynamic", "Ph2/ax dynamic"], [0, 1, 2]),
    ],
)
def test_dce_phase_by_name(descriptions, phases):
    """Names as they occur in the collection; series numbered in the order given."""
    found = dce_phases(pd.Series(descriptions), pd.Series([str(number) for number in range(7, 7 + len(descriptions))]))
    assert [None if pd.isna(phase) else phase for phase in found] == phases


def test_patients_are_chosen_by_identifier_or_number():
    known = pd.Series(["Breast_MRI_001", "Breast_MRI_012", "Breast_MRI_012"])
    assert select_patients(known, ["12", "Breast_MRI_001", "012"]) == ["Breast_MRI_012", "Breast_MRI_001"]
    with pytest.raises(InputError, match="No patient 2, nobody among the 2"):
        select_patients(known, ["2", "1", "nobody"])


def test_a_number_that_two_patients_share_is_refused():
    with pytest.raises(InputError, match="No patient 7"):
        select_patients(pd.Series(["A-007", "B-007"]), ["7"])


def test_unknown_collection_is_an_input_error():
    with pytest.raises(InputError, match="no_such_collection"):
        wanted_series("idc:no_such_collection/MR", "toy")


# --- dry run ----------------------------------------------------------------------------------------------------------


def test_duke_dry_run_needs_no_network_and_writes_nothing(tmp_path, no_network):
    report = download_cohort(cohort_rows("duke"), tmp_path / "duke", dry_run=True)
    assert report.n_patients == 922 and len(report.series) == 4112
    assert report.bytes_to_fetch == report.series["bytes"].sum()
    assert set(report.series["status"]) == {"to fetch"}
    assert any("10.7937/TCIA.e3sv-re93" in citation for citation in report.citations)
    assert not (tmp_path / "duke").exists()
    text = str(report)
    assert "[data set]" in text  # square brackets are no markup
    assert len(re.findall(r"^  Breast_MRI_\d+ ", text, re.MULTILINE)) == 922
    assert "CC BY-NC 4.0" in text and "337.6 GB" in text and "Saha" in text
    assert "Clinical_and_Other_Features.xlsx (required) is to be taken by hand" in text


def test_dry_run_of_two_patients_lists_each_series_and_mask_with_its_license(tmp_path):
    report = download_cohort(cohort_rows("duke"), tmp_path, dry_run=True, patients=["1", "Breast_MRI_120"], masks=True)
    text = str(report)
    assert set(report.series["patient_id"]) == {"Breast_MRI_001", "Breast_MRI_120"}
    assert all(uid in text for uid in report.series["series_uid"])
    assert "ax dyn 1st pass" in text and "64.6 MB" in text
    by_modality = report.series.groupby("modality")["license"].agg(set).to_dict()
    assert by_modality == {"MR": {"CC BY-NC 4.0"}, "SEG": {"CC BY 4.0"}}
    assert any("zenodo.8345959" in citation for citation in report.citations)


@pytest.mark.parametrize(("cohort", "word"), [("aln-ultra", "controlled"), ("mamamia", "registration")])
def test_closed_cohorts_say_how_to_obtain_them(tmp_path, cohort, word):
    rows = cohort_rows(cohort)
    with pytest.raises(InputError, match=f"access is {word}.*https://"):
        download_cohort(rows, tmp_path)
    assert "on request" in str(download_cohort(rows, tmp_path, dry_run=True))


def test_unknown_cohort_is_an_input_error():
    with pytest.raises(InputError, match="no public cohort 'duck'"):
        cohort_rows("duck")


def test_real_duke_folder_is_verified_and_nothing_is_fetched(no_network):
    """Truth: the checksums of shared/data. Needs no write access and no network."""
    report = download_cohort(cohort_rows("duke"), real_data("duke"))
    statuses = report.files.set_index("file")["status"].to_dict()
    # TCIA's workbook of features is fetched by hand from the cohort's page: the shared folder has its values elsewhere
    assert statuses.pop("Imaging_Features.xlsx") == "by hand"
    assert statuses and set(statuses.values()) == {"present"}
    assert any("--patients all" in note for note in report.notes)


# --- files ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def store():
    with local_store({"toy/table.csv": b"a,b\n1,2\n", "toy/extra.csv": b"extra"}) as running:
        yield running


def file_rows(store, **given: str) -> pd.DataFrame:
    content = store.objects["toy/table.csv"]
    row = {"file": "table.csv", "url_or_id": f"{store.address}/toy/table.csv", "bytes": str(len(content))}
    return toy_rows(row | {"sha256": sha256(content)} | given)


def test_missing_file_is_fetched_then_only_verified(tmp_path, store):
    rows = file_rows(store)
    first = download_cohort(rows, tmp_path / "new")
    assert (tmp_path / "new" / "table.csv").read_bytes() == b"a,b\n1,2\n"
    assert first.files["status"].tolist() == ["fetched"]
    second = download_cohort(rows, tmp_path / "new")
    assert second.files["status"].tolist() == ["present"]
    assert store.asked_for("toy/table.csv") == 1
    assert visible_files(tmp_path / "new") == ["table.csv"]


def test_wrong_bytes_from_the_source_leave_no_file(tmp_path, store):
    rows = file_rows(store)
    store.objects["toy/table.csv"] = b"a,b\n1,3\n"
    with pytest.raises(InputError, match="other bytes.*nothing was kept"):
        download_cohort(rows, tmp_path)
    assert visible_files(tmp_path) == []


def test_broken_transfer_leaves_no_file_and_a_rerun_completes_it(tmp_path, store):
    rows = file_rows(store)
    store.broken["toy/table.csv"] = 1
    with pytest.raises(InputError, match="broke off.*run this command again"):
        download_cohort(rows, tmp_path)
    assert visible_files(tmp_path) == []
    download_cohort(rows, tmp_path)
    assert visible_files(tmp_path) == ["table.csv"]


def test_a_transfer_is_tried_again_before_it_fails(tmp_path, store, monkeypatch):
    monkeypatch.setattr(download, "RETRIES", 1)
    monkeypatch.setattr("pooch.core.time.sleep", lambda seconds: None)
    store.broken["toy/table.csv"] = 1
    fetch_file(f"{store.address}/toy/table.csv", tmp_path / "table.csv", sha256(b"a,b\n1,2\n"))
    assert store.asked_for("toy/table.csv") == 2
    assert visible_files(tmp_path) == ["table.csv"]


def test_moved_file_is_reported_with_a_remedy(tmp_path, store):
    rows = file_rows(store, url_or_id=f"{store.address}/elsewhere.csv")
    with pytest.raises(InputError, match="answered 404.*by hand from its DOI.*--mirror"):
        download_cohort(rows, tmp_path)
    assert visible_files(tmp_path) == []


def test_unreachable_source_is_reported_with_a_remedy(tmp_path, store):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))  # bound but not listening: refused at once
        address = f"http://127.0.0.1:{free.getsockname()[1]}/table.csv"
        with pytest.raises(InputError, match="could not be reached.*proxy.*--mirror"):
            download_cohort(file_rows(store, url_or_id=address), tmp_path)


def test_wrong_file_already_there_is_not_overwritten(tmp_path, store):
    (tmp_path / "table.csv").write_bytes(b"my own notes")
    with pytest.raises(InputError, match="not the one that data_manifest.csv describes"):
        download_cohort(file_rows(store), tmp_path)
    assert (tmp_path / "table.csv").read_bytes() == b"my own notes"
    assert store.requests == []


def test_file_without_a_certain_address_is_asked_of_the_user_then_verified(tmp_path, store):
    rows = file_rows(store, url_or_id="")
    with pytest.raises(InputError, match="by hand.*\n.*https://doi.org/10.1234/toy"):
        download_cohort(rows, tmp_path)
    (tmp_path / "table.csv").write_bytes(b"a,b\n1,2\n")
    assert download_cohort(rows, tmp_path).files["status"].tolist() == ["present"]


def test_mirror_replaces_the_address(tmp_path, store):
    rows = file_rows(store, url_or_id="")
    report = download_cohort(rows, tmp_path, mirror=f"{store.address}/")
    assert report.files["status"].tolist() == ["fetched"]


def test_optional_file_that_is_missing_is_a_note(tmp_path, store):
    rows = file_rows(store, url_or_id="", need="optional")
    report = download_cohort(rows, tmp_path)
    assert report.files["status"].tolist() == ["by hand"]
    assert "table.csv (optional)" in report.notes[0]


def test_small_disk_is_noticed_before_anything_is_fetched(tmp_path, store, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(download.shutil, "disk_usage", lambda path: usage(10, 3, 7))
    with pytest.raises(InputError, match="8 bytes are to be fetched, but only 7 bytes"):
        download_cohort(file_rows(store), tmp_path)
    assert store.requests == []


def test_data_folder_that_is_a_file_is_an_input_error(tmp_path, store):
    (tmp_path / "data").write_text("")
    with pytest.raises(InputError, match="is a file"):
        download_cohort(file_rows(store), tmp_path / "data")


def test_patients_of_a_cohort_without_series_are_an_input_error(tmp_path, store):
    with pytest.raises(InputError, match="no DICOM series"):
        download_cohort(file_rows(store), tmp_path, patients=["1"])


# --- archives ---------------------------------------------------------------------------------------------------------

IMAGES = {"images/1.png": b"first image", "images/2.png": b"second image"}


@pytest.fixture
def archive(tmp_path, monkeypatch):
    """A store with a zip archive of two images (and a stranger), and the manifest row of their folder."""
    checksums = tmp_path / "toy.sha256"
    checksums.write_text("".join(f"{sha256(content)}  ./{name}\n" for name, content in IMAGES.items()))
    monkeypatch.setattr(manifest, "checksum_list_path", lambda cohort: checksums)
    with local_store({"images.zip": zipped(IMAGES | {"images/thumbs.db": b"?"})}) as running:
        yield (
            running,
            toy_rows(
                {
                    "file": "images/",
                    "kind": "images",
                    "bytes": "23",
                    "sha256": sha256(checksums.read_bytes()),
                    "url_or_id": f"{running.address}/images.zip",
                }
            ),
        )


def zipped(members: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as target:
        for name, content in members.items():
            target.writestr(f"BrEaST/{name}", content)
    return stream.getvalue()


def test_archive_gives_the_listed_files_and_nothing_else(tmp_path, archive):
    _, rows = archive
    data = tmp_path / "data"
    report = download_cohort(rows, data)
    assert visible_files(data) == ["images/1.png", "images/2.png"]
    assert report.files["status"].tolist() == ["fetched"]


def test_archive_fills_only_the_gap(tmp_path, archive):
    _, rows = archive
    data = tmp_path / "data"
    (data / "images").mkdir(parents=True)
    present = data / "images" / "1.png"
    present.write_bytes(b"first image")
    before = present.stat().st_mtime_ns
    download_cohort(rows, data)
    assert (data / "images" / "2.png").read_bytes() == b"second image"
    assert present.stat().st_mtime_ns == before


@pytest.mark.parametrize("members", [IMAGES | {"images/2.png": b"another"}, {"images/1.png": b"first image"}])
def test_archive_with_a_wrong_or_missing_member_leaves_no_file(tmp_path, archive, members):
    running, rows = archive
    running.objects["images.zip"] = zipped(members)
    with pytest.raises(InputError, match="images/2.png"):
        download_cohort(rows, tmp_path / "data")
    assert visible_files(tmp_path / "data") == []


def test_page_instead_of_an_archive_leaves_no_file(tmp_path, archive):
    running, rows = archive
    running.objects["images.zip"] = b"<html>please sign in</html>"
    with pytest.raises(InputError, match="no whole zip archive"):
        download_cohort(rows, tmp_path / "data")
    assert visible_files(tmp_path / "data") == []


# --- series -----------------------------------------------------------------------------------------------------------


def toy_index(objects: dict[str, bytes]) -> pd.DataFrame:
    """Rows of the IDC index for the series in the bucket: objects "<bucket>/<series uuid>/<instance>.dcm"."""
    patients = {
        "uuid-a": ("Toy_001", "ax dyn pre"),
        "uuid-b": ("Toy_001", "ax dyn 1st pass"),
        "uuid-c": ("Toy_002", ""),
    }
    rows = []
    for number, (uuid, (patient, description)) in enumerate(patients.items(), start=1):
        own = [content for path, content in objects.items() if path.startswith(f"{BUCKET}/{uuid}/")]
        rows.append(
            {
                "collection_id": COLLECTION,
                "analysis_result_id": None,
                "PatientID": patient,
                "StudyInstanceUID": f"1.2.{patient[-1]}",
                "SeriesInstanceUID": f"1.2.3.{number}",
                "SeriesDescription": description,
                "SeriesNumber": str(number),
                "Modality": "MR",
                "instanceCount": len(own),
                "series_size_MB": sum(map(len, own)) / 1e6,
                "license_short_name": "CC BY 4.0",
                "source_DOI": "10.1234/toy",
                "aws_bucket": BUCKET,
                "crdc_series_uuid": uuid,
            }
        )
    return pd.DataFrame(rows)


@pytest.fixture
def series_store(monkeypatch, tmp_path_factory):
    """The stand-in for the object store, and a real IDCClient whose index holds just the three series in it."""
    import idc_index_data
    from idc_index import IDCClient
    from idc_index import index as idc_settings

    objects = {
        f"{BUCKET}/{uuid}/{number}.dcm": f"{uuid} instance {number} ".encode() * (50 + number)
        for uuid, count in (("uuid-a", 3), ("uuid-b", 2), ("uuid-c", 2))
        for number in range(count)
    }
    client = IDCClient.__new__(IDCClient)  # without __init__, which loads the index of the whole archive
    client.index = toy_index(objects)
    client.indices_overview = {"index": {}}
    client.s5cmdPath = shutil.which("s5cmd", path=str(Path(sys.executable).parent))
    client._duckdb_conn = duckdb.connect()
    with local_store(objects) as running:
        index = tmp_path_factory.mktemp("index") / "idc_index.parquet"
        client.index.to_parquet(index)
        monkeypatch.setattr(idc_index_data, "IDC_INDEX_PARQUET_FILEPATH", index)
        monkeypatch.setattr(IDCClient, "client", lambda: client)
        monkeypatch.setattr(idc_settings, "aws_endpoint_url", running.address)
        yield running, client


@pytest.fixture
def series_rows():
    return toy_rows({"file": "images/", "kind": "series", "need": "optional", "url_or_id": f"idc:{COLLECTION}/MR"})


def test_series_arrive_whole_and_a_second_run_fetches_nothing(tmp_path, series_store, series_rows):
    running, client = series_store
    report = download_cohort(series_rows, tmp_path, patients=["all"])
    assert report.series["status"].tolist() == ["fetched"] * 3
    assert visible_files(tmp_path) == [
        "images/Toy_001/MR_1.2.3.1/0.dcm",
        "images/Toy_001/MR_1.2.3.1/1.dcm",
        "images/Toy_001/MR_1.2.3.1/2.dcm",
        "images/Toy_001/MR_1.2.3.2/0.dcm",
        "images/Toy_001/MR_1.2.3.2/1.dcm",
        "images/Toy_002/MR_1.2.3.3/0.dcm",
        "images/Toy_002/MR_1.2.3.3/1.dcm",
        "images/series.csv",
    ]
    fetched = tmp_path / "images/Toy_001/MR_1.2.3.2/1.dcm"
    assert fetched.read_bytes() == running.objects[f"{BUCKET}/uuid-b/1.dcm"]
    running.requests.clear()
    again = download_cohort(series_rows, tmp_path, patients=["all"])
    assert again.series["status"].tolist() == ["present"] * 3
    assert running.requests == []


def test_series_table_grows_with_later_patients(tmp_path, series_store, series_rows):
    _, client = series_store
    download_cohort(series_rows, tmp_path, patients=["2"])
    table = pd.read_csv(tmp_path / "images" / "series.csv", dtype=str)
    assert table["folder"].tolist() == ["images/Toy_002/MR_1.2.3.3"]
    download_cohort(series_rows, tmp_path, patients=["1"])
    table = pd.read_csv(tmp_path / "images" / "series.csv", dtype=str)
    assert table["patient_id"].tolist() == ["Toy_001", "Toy_001", "Toy_002"]
    assert all((tmp_path / folder).is_dir() for folder in table["folder"])


def test_without_patients_no_series_is_fetched_and_a_note_says_so(tmp_path, series_store, series_rows):
    running, client = series_store
    report = download_cohort(series_rows, tmp_path)
    assert set(report.series["status"]) == {"not asked for"}
    assert "--patients 1,2 or --patients all" in report.notes[0]
    assert running.requests == [] and visible_files(tmp_path) == []


def test_incomplete_series_gets_no_final_name_and_a_rerun_resumes(tmp_path, series_store, series_rows):
    running, client = series_store
    lost = running.objects.pop(f"{BUCKET}/uuid-b/1.dcm")
    with pytest.raises(InputError, match="patient Toy_001 did not arrive whole") as caught:
        download_cohort(series_rows, tmp_path, patients=["all"])
    assert "expected 2 instances" in str(caught.value)
    assert visible_files(tmp_path) == [f"images/Toy_001/MR_1.2.3.1/{number}.dcm" for number in range(3)]
    running.objects[f"{BUCKET}/uuid-b/1.dcm"] = lost
    running.requests.clear()
    report = download_cohort(series_rows, tmp_path, patients=["all"])
    assert report.series["status"].tolist() == ["present", "fetched", "fetched"]
    assert not any("uuid-a" in request for request in running.requests)
    assert not (tmp_path / download.INCOMING).exists()


def test_series_with_other_bytes_gets_no_final_name(tmp_path, series_store, series_rows):
    running, client = series_store
    running.objects[f"{BUCKET}/uuid-c/0.dcm"] += b"more"
    with pytest.raises(InputError, match="Toy_002"):
        download_cohort(series_rows, tmp_path, patients=["2"])
    assert not (tmp_path / "images" / "Toy_002").exists()


def test_transfer_that_always_breaks_off_leaves_nothing_behind(tmp_path, series_store, series_rows):
    running, client = series_store
    running.broken[f"{BUCKET}/uuid-c/1.dcm"] = -1
    with pytest.raises(InputError, match="Toy_002 did not arrive whole"):
        download_cohort(series_rows, tmp_path, patients=["2"])
    assert visible_files(tmp_path) == []


def test_series_left_waiting_by_a_killed_run_is_used(tmp_path, series_store, series_rows):
    """A run killed between transfer and renaming leaves the series in the hidden folder, one whole and one not."""
    running, client = series_store
    for uid, uuid, count in (("1.2.3.1", "uuid-a", 3), ("1.2.3.2", "uuid-b", 1)):
        (tmp_path / download.INCOMING / uid).mkdir(parents=True)
        for number in range(count):
            content = running.objects[f"{BUCKET}/{uuid}/{number}.dcm"]
            (tmp_path / download.INCOMING / uid / f"{number}.dcm").write_bytes(content)
    report = download_cohort(series_rows, tmp_path, patients=["Toy_001"])
    assert report.series["status"].tolist() == ["fetched"] * 2
    assert not any("uuid-a" in request for request in running.requests)
    assert not (tmp_path / download.INCOMING).exists()


def test_client_that_fails_is_reported_with_its_reason(tmp_path, series_store, series_rows, monkeypatch):
    _, client = series_store

    def fail(**selection):
        raise RuntimeError("no route")

    monkeypatch.setattr(client, "download_from_selection", fail)
    with pytest.raises(InputError, match="RuntimeError: no route.*https://doi.org/10.1234/toy"):
        download_cohort(series_rows, tmp_path, patients=["1"])


def test_unreachable_store_is_noticed_at_once(tmp_path, monkeypatch):
    from idc_index import index as idc_settings

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        monkeypatch.setattr(idc_settings, "aws_endpoint_url", f"http://127.0.0.1:{free.getsockname()[1]}")
        duke_images = read_manifest().query("cohort == 'duke' and kind == 'series'")
        with pytest.raises(InputError, match="image store.*cannot be reached.*https://doi.org/10.7937/TCIA.e3sv-re93"):
            download_cohort(duke_images, tmp_path, patients=["1"])
    assert not (tmp_path / "images").exists()


def test_toy_series_are_described_by_the_index(series_store):
    running, _ = series_store
    series = wanted_series(f"idc:{COLLECTION}/MR", "toy")
    assert series["description"].tolist() == ["ax dyn pre", "ax dyn 1st pass", ""]
    arrived = pd.Series({path: len(content) for path, content in running.objects.items()})
    assert series["bytes"].tolist() == arrived.groupby(arrived.index.str.split("/").str[1]).sum().tolist()


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 bytes"), (999, "999 bytes"), (1000, "1.0 kB"), (337561406580, "337.6 GB")]
)
def test_bytes_in_words(count, text):
    assert format_bytes(count) == text
