"""Where a cohort comes from: which files are listed with which checksum, and what the simulation's oracle says of whom.

Truth: `sha256sum` of the GNU core utilities where it is installed, hashlib otherwise; latent.csv, read a second time.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from alnlib.cohorts import sources
from alnlib.cohorts.sources import LISTED_ONE_BY_ONE, known_endpoint, list_files
from alnlib.errors import InputError
from alnsim import SimulationSpec
from alnsim.truth import ORACLE_COLUMNS, read_oracle

NODE_ORACLES = {"ct_nodes", "ct_nodes_fixed_size", "ct_nodes_adjustable_square"}


@pytest.fixture(scope="module")
def cohort(small_cohort):
    return small_cohort


@pytest.fixture(scope="module")
def oracle(cohort) -> pd.DataFrame:
    return read_oracle(cohort.root)


@pytest.fixture
def folder(cohort, tmp_path):
    """A cohort whose root holds a few small files of two kinds, one of them in a folder, and hidden ones."""
    for name, text in {
        "patients.csv": "patient_id\n",
        "images/P-0001-US.dcm": "one",
        "images/P-0002-US.dcm": "two",
        "images/P-0010-US.dcm": "ten",
        "images/P-0001-MG-CC.dcm": "another kind",
        ".hidden": "x",
        ".cache/images/P-0003-US.dcm": "x",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return replace(cohort, root=tmp_path)


@pytest.fixture
def grouped(monkeypatch):
    """Grouping from the third file on."""
    monkeypatch.setattr(sources, "LISTED_ONE_BY_ONE", 2)


def digest_of(cohort, names: list[str]) -> str:
    """SHA-256 of what `sha256sum NAMES` prints."""
    if shutil.which("sha256sum"):
        done = subprocess.run(["sha256sum", *names], cwd=cohort.root, capture_output=True, check=True)
        return hashlib.sha256(done.stdout).hexdigest()
    lines = [f"{hashlib.sha256((cohort.root / name).read_bytes()).hexdigest()}  {name}\n" for name in names]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def test_few_files_are_listed_one_by_one_with_size_and_checksum(folder):
    table = list_files(folder)
    assert list(table.columns) == ["file", "files", "bytes", "sha256"]
    names = ["P-0001-MG-CC.dcm", "P-0001-US.dcm", "P-0002-US.dcm", "P-0010-US.dcm"]
    assert table["file"].tolist() == [*(f"images/{name}" for name in names), "patients.csv"]
    assert (table["files"] == 1).all()
    one = table.set_index("file").loc["images/P-0001-US.dcm"]
    assert (one["bytes"], one["sha256"]) == (3, hashlib.sha256(b"one").hexdigest())


def test_exactly_the_limit_is_still_listed_one_by_one(folder, monkeypatch):
    for limit, rows in ((5, 5), (4, 3)):
        monkeypatch.setattr(sources, "LISTED_ONE_BY_ONE", limit)
        assert len(list_files(folder)) == rows
    assert LISTED_ONE_BY_ONE == 1000


def test_many_files_are_counted_by_kind_with_one_checksum_each(folder, grouped):
    table = list_files(folder)
    assert list(table.columns) == ["file", "files", "bytes", "sha256"]
    kinds = table.set_index("file")
    assert kinds["files"].to_dict() == {"images/P-#-MG-CC.dcm": 1, "images/P-#-US.dcm": 3, "patients.csv": 1}
    stills = [f"images/P-{number}-US.dcm" for number in ("0001", "0002", "0010")]
    assert kinds.loc["images/P-#-US.dcm", "bytes"] == 9
    assert kinds.loc["images/P-#-US.dcm", "sha256"] == digest_of(folder, stills)
    assert kinds.loc["patients.csv", "sha256"] == digest_of(folder, ["patients.csv"])


@pytest.mark.parametrize("change", ["content", "name", "one more", "two swapped"])
def test_a_change_shows_in_its_own_kind_and_in_no_other(change, folder, grouped):
    before = list_files(folder).set_index("file")["sha256"]
    images = folder.root / "images"
    if change == "content":
        (images / "P-0002-US.dcm").write_text("TWO")
    elif change == "name":
        (images / "P-0002-US.dcm").rename(images / "P-0003-US.dcm")
    elif change == "one more":
        (images / "P-0003-US.dcm").write_text("three")
    else:
        (images / "P-0001-US.dcm").write_text("two")
        (images / "P-0002-US.dcm").write_text("one")
    after = list_files(folder).set_index("file")["sha256"]
    assert list(after.index) == list(before.index)
    assert set(after.index[after != before]) == {"images/P-#-US.dcm"}


def test_a_simulated_cohort_grouped_counts_every_file_and_byte_once(cohort, monkeypatch):
    single = list_files(cohort)
    assert {"latent.csv", "truth.json", "patients.csv", "images/SIM-0001-US.dcm"} <= set(single["file"])
    monkeypatch.setattr(sources, "LISTED_ONE_BY_ONE", 100)
    kinds = list_files(cohort)
    assert len(kinds) < 40 < len(single)
    assert kinds[["files", "bytes"]].sum().equals(single[["files", "bytes"]].sum())
    assert kinds["file"].is_unique and kinds["file"].is_monotonic_increasing
    assert kinds.set_index("file").loc["images/SIM-#-US.dcm", "files"] == 11


def test_an_empty_folder_has_an_empty_list(cohort, tmp_path):
    table = list_files(replace(cohort, root=tmp_path))
    assert table.empty and list(table.columns) == ["file", "files", "bytes", "sha256"]


def test_the_oracle_is_a_long_table_of_probabilities(oracle):
    assert list(oracle.columns) == ORACLE_COLUMNS == ["patient_id", "unit_id", "modality", "probability"]
    assert oracle["probability"].between(0, 1).all()
    assert not oracle.duplicated(["unit_id", "modality"]).any()
    assert {"clinical", "ultrasound", "video", "mri", "mammography", "ct", "response_mri_pre"} < set(oracle["modality"])


def test_the_oracle_is_what_the_simulation_wrote(cohort, oracle):
    latent = pd.read_csv(cohort.root / "latent.csv", dtype={"patient_id": str}).set_index("patient_id")
    for modality in ("clinical", "ultrasound", "mri", "response_mri_longitudinal"):
        ours = oracle[oracle["modality"] == modality].set_index("patient_id")["probability"]
        pd.testing.assert_series_equal(ours, latent[f"oracle_{modality}"].dropna(), check_names=False)
    written = [column for column in latent if column.startswith("oracle_") and latent[column].notna().any()]
    patients = oracle[~oracle["modality"].isin(NODE_ORACLES)]
    assert set(patients["modality"]) == {column.removeprefix("oracle_") for column in written}
    assert (patients["unit_id"] == patients["patient_id"]).all()


def test_patients_without_the_images_are_absent(cohort, oracle):
    imaged = cohort.images.groupby("modality")["patient_id"].agg(set)
    shown = oracle.groupby("modality")["patient_id"].agg(set)
    treated = set(cohort.patients.loc[cohort.patients["apcr"].notna(), "patient_id"])
    for modality, kind in {"ultrasound": "US", "video": "USV", "mammography": "MG", "ct": "CT"}.items():
        assert shown[modality] == imaged[kind], modality
    assert shown["mri"] == imaged["MRI"] - treated
    assert shown["response_mri_post"] == treated
    assert shown["mri_mammography"] == imaged["MRI"] & imaged["MG"]


def test_a_node_is_a_unit_of_its_own(cohort, oracle):
    nodes = cohort.images[cohort.images["modality"] == "CT"].set_index("image_id")["patient_id"]
    assert len(nodes) == 8 > nodes.nunique()
    found = oracle[oracle["modality"].isin(NODE_ORACLES)]
    assert set(found["modality"]) == NODE_ORACLES
    for _, own in found.groupby("modality"):
        assert own.set_index("unit_id")["patient_id"].to_dict() == nodes.to_dict()


def test_a_cohort_of_stills_alone_has_no_node_and_no_treated_patient_in_its_oracle(cohort, tmp_path):
    """The tables as they are written for a cohort without CT: latent_nodes.csv has a head and no rows."""
    latent = pd.read_csv(cohort.root / "latent.csv", dtype=str)
    stills = latent[(latent["has_ct"] == "False") & (latent["group"] != "neoadjuvant")]
    stills.to_csv(tmp_path / "latent.csv", index=False)
    pd.read_csv(cohort.root / "latent_nodes.csv", dtype=str).head(0).to_csv(tmp_path / "latent_nodes.csv", index=False)
    table = read_oracle(tmp_path)
    assert list(table.columns) == ORACLE_COLUMNS
    assert set(table["patient_id"]) == set(stills["patient_id"])
    assert not set(table["modality"]) & ({"ct"} | NODE_ORACLES)
    assert not table["modality"].str.startswith("response").any()


def test_probabilities_are_numbers_also_where_no_node_was_imaged(cohort, tmp_path):
    (tmp_path / "latent.csv").write_bytes((cohort.root / "latent.csv").read_bytes())
    head = (cohort.root / "latent_nodes.csv").read_text().splitlines()[0]
    (tmp_path / "latent_nodes.csv").write_text(head + "\n")
    assert read_oracle(tmp_path)["probability"].dtype == float


def test_an_endpoint_is_named_or_the_primary_one(cohort):
    assert (known_endpoint(cohort, ""), known_endpoint(cohort, "apcr")) == ("aln_metastasis", "apcr")
    with pytest.raises(InputError, match="'survival' is none of this cohort's: aln_metastasis, apcr"):
        known_endpoint(cohort, "survival")


def test_simulated_patients_stand_until_recipe_code_or_a_byte_changes(cohort, tmp_path, monkeypatch):
    """Instead of being drawn, patients are copied; that drawing gives the same bytes is tested with the simulation."""
    spec, data, written = SimulationSpec.demo(), tmp_path / "data" / "made-up", []

    def copied(spec: SimulationSpec, folder: Path, seed: int, n_jobs: int) -> None:
        written.append(seed)
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(cohort.root, folder)

    monkeypatch.setattr(sources, "simulate_cohort", copied)

    def times(recipe: SimulationSpec = spec, seed: int = 3) -> int:
        written.clear()
        sources.prepare_source("simulated", data, recipe, seed)
        return len(written)

    assert (times(), times()) == (1, 0)
    assert (times(seed=4), times(replace(spec, signal_ultrasound=0.5), 4), times()) == (1, 1, 1)
    image = next((data / "images").iterdir())
    image.write_bytes(image.read_bytes()[:-1] + b"x")
    assert (times(), times()) == (1, 0)
    image.unlink()
    assert times() == 1
    monkeypatch.setattr(sources, "versions", lambda *names: {"numpy": "0"})
    assert times() == 1
