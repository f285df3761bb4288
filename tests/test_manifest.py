"""The data manifest and the verification of files against it.

Truth: SHA-256 computed here with hashlib; the real files of `shared/data` where they are present.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from alnlib.cohorts import manifest as manifest_module
from alnlib.cohorts.manifest import (
    check_cohort_files,
    checksum_list_path,
    cohort_rows,
    read_checksum_list,
    read_manifest,
    verify_files,
)
from alnlib.errors import InputError
from tests.real_data import real_data
from tests.toy import TOY_ENTRY, sha256

COHORTS_WITH_FILES = (
    "duke",
    "breast-lesions-usg",
    "mamamia",
    "ispy1",
    "ispy2-masks",
    "longitudinal-mri-demo",
    "mammo-gmic",
    "pyradiomics",
    "ct-deeplesion50",
)


def entry(**given: str) -> dict[str, str]:
    return TOY_ENTRY | {"file": "table.csv", "bytes": "3", "sha256": sha256(b"abc")} | given


def toy_manifest(folder: Path, *entries: dict[str, str]) -> pd.DataFrame:
    path = folder / "manifest.csv"
    pd.DataFrame(entries).to_csv(path, index=False)
    return read_manifest(path)


@pytest.fixture
def toy(tmp_path):
    """A manifest of a required table and an optional one, and a data folder that holds the first."""
    manifest = toy_manifest(tmp_path, entry(), entry(file="extra.csv", need="optional", sha256=sha256(b"xyz")))
    data = tmp_path / "data"
    data.mkdir()
    (data / "table.csv").write_bytes(b"abc")
    return manifest, data


def test_repository_manifest_is_valid_and_names_every_source_of_the_data_readme():
    manifest = read_manifest()
    sources = {
        "breast-mri-nact-pilot",
        "ispy2",
        "acrin-6698",
        "tcga-brca",
        "cmmd",
        "cbis-ddsm",
        "ct-lymph-nodes",
        "lnq2023",
    }
    assert sources | {"aln-ultra"} | set(COHORTS_WITH_FILES) == set(manifest["cohort"])
    assert manifest.loc[manifest["cohort"] == "aln-ultra", "access"].tolist() == ["controlled"]
    assert manifest.loc[manifest["sha256"] == "", "note"].str.len().min() > 0
    assert not manifest["url_or_id"].str.contains("pypi|conda|registry").any()


def test_required_files_of_the_two_real_cohorts():
    needed = read_manifest().query("need == 'required' and cohort in ('duke', 'breast-lesions-usg')")
    assert sorted(needed["file"]) == [
        "BrEaST-Lesions-USG-clinical-data-Dec-15-2023.xlsx",
        "BrEaST-Lesions_USG-images_and_masks/",
        "Clinical_and_Other_Features.xlsx",
    ]


def test_notebooks_named_in_the_manifest_follow_the_numbering():
    named = {name for text in read_manifest()["notebooks"] for name in text.split()}
    assert named and all(name[:2].isdecimal() and name[2] == "_" for name in named)


def test_series_rows_carry_the_size_license_and_patients_of_the_installed_index():
    """Truth: the index that travels with idc-index (idc-index-data 25)."""
    from alnlib.cohorts.download import wanted_series

    rows = read_manifest()
    for row in rows[rows["cohort"].isin(["duke", "cmmd", "ct-lymph-nodes"]) & (rows["bytes"] > 0)].to_dict("records"):
        if row["url_or_id"].startswith("idc:"):
            series = wanted_series(row["url_or_id"], row["cohort"])
            assert series["bytes"].sum() == row["bytes"], row["file"]
            assert series["patient_id"].nunique() == row["patients"]
            assert set(series["license"]) == {row["license"]}
            assert set(series["doi"]) == {row["doi"].lower()}


@pytest.mark.parametrize("cohort", COHORTS_WITH_FILES)
def test_real_files_are_the_ones_of_the_manifest(cohort):
    folder = real_data(cohort.replace("-", "_"))
    rows = cohort_rows(cohort)
    listed = verify_files(rows, folder)
    assert set(listed["status"]) == {"ok"}, listed[listed["status"] != "ok"]
    for position, row in enumerate(rows.to_dict("records")):
        names = listed.loc[listed["row"] == position, "file"]
        if row["sha256"]:
            assert sum((folder / name).stat().st_size for name in names) == row["bytes"], row["file"]


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("kind", "picture"),
        ("access", "free"),
        ("need", "maybe"),
        ("file", "../table.csv"),
        ("file", "/etc/table.csv"),
        ("sha256", "abc"),
        ("bytes", "3.5"),
        ("patients", "many"),
        ("doi", "https://doi.org/10.1234/toy"),
        ("url_or_id", "ftp://example.org/table.csv"),
        ("license", ""),
        ("citation", ""),
    ],
)
def test_bad_manifest_entry_is_named_with_its_row(tmp_path, column, value):
    with pytest.raises(InputError) as caught:
        toy_manifest(tmp_path, entry(file="good.csv"), entry(**{column: value}))
    (problem,) = caught.value.problems
    assert (problem.row, problem.column, problem.value) == (3, column, value)


def test_all_manifest_problems_are_listed_at_once(tmp_path):
    with pytest.raises(InputError) as caught:
        toy_manifest(tmp_path, entry(kind="picture"), entry(sha256="", note=""), entry(access="free"))
    assert [problem.row for problem in caught.value.problems] == [2, 3, 3, 4, 4]  # rows 3 and 4 repeat the file too


def test_manifest_without_a_column_or_absent_is_an_input_error(tmp_path):
    pd.DataFrame([entry()]).drop(columns="license").to_csv(tmp_path / "manifest.csv", index=False)
    with pytest.raises(InputError, match="license"):
        read_manifest(tmp_path / "manifest.csv")
    with pytest.raises(InputError, match="restore it"):
        read_manifest(tmp_path / "nothing.csv")


def test_older_name_of_the_license_is_read_and_not_beside_the_new_one(tmp_path):
    path = tmp_path / "data_manifest.csv"
    frame = pd.DataFrame([entry()])
    frame.rename(columns={"license": "licence"}).to_csv(path, index=False)
    assert read_manifest(path)["license"].tolist() == ["CC0"]
    frame.assign(licence="CC0").to_csv(path, index=False)
    with pytest.raises(InputError, match="licence and license are the same"):
        read_manifest(path)


def test_unknown_cohort_is_answered_with_the_known_ones():
    with pytest.raises(InputError, match="duke.*breast-lesions-usg"):
        cohort_rows("duck")


def test_partial_folder_is_no_error_and_a_stranger_is_passed_over(toy):
    manifest, data = toy
    (data / "notes.txt").write_text("mine")
    assert verify_files(manifest, data)[["file", "status"]].to_numpy().tolist() == [
        ["table.csv", "ok"],
        ["extra.csv", "missing"],
    ]
    check_cohort_files(manifest, data)


def test_wrong_bytes_are_refused_with_both_digests_and_a_remedy(toy):
    manifest, data = toy
    (data / "table.csv").write_bytes(b"abd")
    with pytest.raises(InputError) as caught:
        verify_files(manifest, data)
    text = str(caught.value)
    assert str(data / "table.csv") in text
    assert sha256(b"abd")[:12] in text and sha256(b"abc")[:12] in text
    assert "download it again" in text and "https://doi.org/10.1234/toy" in text


def test_missing_required_file_is_named_with_a_remedy(toy):
    manifest, data = toy
    (data / "table.csv").unlink()
    with pytest.raises(InputError, match="table.csv.*run_all.py download toy") as caught:
        check_cohort_files(manifest, data)
    assert len(caught.value.problems) == 1  # the optional one is not asked for


def test_missing_folder_is_an_input_error(toy, tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        verify_files(toy[0], tmp_path / "nowhere")


@pytest.fixture
def toy_folder(tmp_path, monkeypatch):
    """A manifest with one folder row: two images, listed in a checksum list of the test's own."""
    checksums = tmp_path / "toy.sha256"
    checksums.write_text(f"{sha256(b'one')}  ./images/1.png\n{sha256(b'two')}  ./images/2.png\n")
    monkeypatch.setattr(manifest_module, "checksum_list_path", lambda cohort: checksums)
    manifest = toy_manifest(
        tmp_path, entry(file="images/", kind="images", bytes="6", sha256=sha256(checksums.read_bytes()))
    )
    data = tmp_path / "data"
    (data / "images").mkdir(parents=True)
    (data / "images" / "1.png").write_bytes(b"one")
    return manifest, data, checksums


def test_every_file_of_a_listed_folder_is_verified(toy_folder):
    manifest, data, _ = toy_folder
    files = verify_files(manifest, data)
    assert dict(zip(files["file"], files["status"], strict=True)) == {"images/1.png": "ok", "images/2.png": "missing"}


def test_a_changed_checksum_list_is_refused(toy_folder):
    manifest, data, checksums = toy_folder
    checksums.write_text(checksums.read_text().replace(sha256(b"one"), sha256(b"two")))
    with pytest.raises(InputError, match="restore both"):
        verify_files(manifest, data)


@pytest.mark.parametrize("line", ["abc  ./file", f"{'0' * 64}  ../file", f"{'0' * 64} file"])
def test_bad_checksum_line_is_named(tmp_path, line):
    path = tmp_path / "list.sha256"
    path.write_text(f"{'0' * 64}  ./good\n{line}\n")
    with pytest.raises(InputError) as caught:
        read_checksum_list(path)
    assert caught.value.problems[0].row == 2


def test_committed_checksum_lists_are_the_ones_the_manifest_names():
    folders = read_manifest().query("file.str.endswith('/') and sha256 != ''")
    assert len(folders)
    for row in folders.to_dict("records"):
        path = checksum_list_path(row["cohort"])
        assert sha256(path.read_bytes()) == row["sha256"], path.name
        prefix = "" if row["file"] == "./" else row["file"]
        assert any(name.startswith(prefix) for name in read_checksum_list(path)), row["file"]
