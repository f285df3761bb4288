"""Of what a file says about people, nothing gets into what is written: planted identities are searched for in every byte.

The folder is one that somebody wrote by hand, with headers as a hospital's archive sends them; how `new-cohort` replaces
identities is in test_cohorts_intake.py. Ids and paths of the tables are the contract's and go into results as they are given.
"""

from __future__ import annotations

import gzip
import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pydicom
import pytest
from matplotlib import pyplot as plt
from PIL import Image, PngImagePlugin

from alnlib.cohorts.folder import read_cohort
from alnlib.cohorts.schema import Cohort
from alnlib.errors import InputError
from alnlib.imaging import read
from alnlib.imaging.cache import cached_crops
from alnlib.imaging.clips import read_clip
from alnlib.imaging.examine import examine_images, header_contradictions
from alnlib.imaging.plates import draw_rows, plate_rows
from alnlib.imaging.read import read_image
from alnlib.imaging.spec import CropSpec
from alnlib.imaging.volumes import read_volume
from alnlib.models.frozen import FrozenSpec, frozen_features
from alnlib.paths import repository_root
from alnlib.pipeline.cli import main
from alnlib.pipeline.results import RunFolder
from alnlib.radiomics.extract import extract_cohort, settings_for
from tests.planted import PLANT, WORDS, contents, found, plant_cohort
from tests.test_kept import fitted_to

SIDE_PX = 32


@pytest.fixture(scope="module")
def cohort(small_cohort, tmp_path_factory) -> Cohort:
    """Every modality of a few simulated patients; stills in four formats, sweeps in two. Not to be written to."""
    root = tmp_path_factory.mktemp("planted") / "cohort"
    shutil.copytree(small_cohort.root, root)
    kinds = plant_cohort(root)
    assert {".dcm", ".jpg", ".mp4", ".png", ".tif"} <= set(kinds) and any(kind.startswith(".nii") for kind in kinds)
    return read_cohort(root)


def said(capsys) -> list[str]:
    """Planted texts of what was printed."""
    printed = capsys.readouterr()
    return [hit.group().decode("latin-1") for hit in WORDS.finditer((printed.out + printed.err).encode())]


def test_the_identities_are_there_in_every_kind_of_file(cohort):
    by_suffix: dict[str, set[str]] = {}
    for hit in found(cohort.root):
        name, _, text = hit.partition(": ")
        by_suffix.setdefault(Path(name).suffix, set()).add(text)
    assert {".dcm", ".jpg", ".mp4", ".png", ".tif"} < set(by_suffix)
    for part in ("NAME-1", "ACC-1", "CLINIC-1", "SERIAL-1", "NESTED-1", "PRIVATE-2", "COMMENT-2"):
        assert any(f"{PLANT}-{part}" in text for text in by_suffix[".dcm"])
    volumes = by_suffix.get(".gz", set()) | by_suffix.get(".nii", set())
    for part in ("NAME-1", "NAME-2", "FILE-1", "NAME-3", "EXTENSION-1"):
        assert any(f"{PLANT}-{part}" in text for text in volumes)
    assert any("CHUNK-2" in text for text in by_suffix[".png"]), "in a compressed chunk"
    assert any("CLINIC-1" in text for text in by_suffix[".mp4"])
    assert any("NAME-2" in text for text in by_suffix[".jpg"]) and any("NAME-2" in text for text in by_suffix[".tif"])


def test_what_is_cut_measured_drawn_and_kept_of_the_images_holds_none(cohort, tmp_path, capsys):
    assert main(["validate", str(cohort.root), "--images"]) == 0
    assert said(capsys) == []
    contradictions = header_contradictions(cohort)
    contradictions.to_csv(tmp_path / "headers.csv")
    examine_images(cohort).to_csv(tmp_path / "set_aside.csv")
    for modality in ("US", "USV", "CT", "MG"):
        crops = cached_crops(cohort.images, cohort.root, tmp_path / "crops", CropSpec(modality, SIDE_PX))
        assert len(crops)
    mri = cohort.images[cohort.images["modality"] == "MRI"]
    channel = "/".join([mri["timepoint"].iloc[0], mri["sequence_or_view"].iloc[0]])
    patients = mri.loc[(mri["timepoint"] + "/" + mri["sequence_or_view"]) == channel, "patient_id"].tolist()
    spec = CropSpec("MRI", SIDE_PX, channels=[channel])
    cached_crops(cohort.images, cohort.root, tmp_path / "crops", spec, patients)
    stills = cached_crops(cohort.images, cohort.root, tmp_path / "crops", CropSpec("US", SIDE_PX))
    frozen_features(np.asarray(stills), FrozenSpec(depths=(3,)), tmp_path / "features")
    of_one = cohort.images[cohort.images["modality"] == "MG"].head(1)
    extract_cohort(of_one, cohort.root, {"MG": settings_for("MG")}, folder=tmp_path / "radiomics")
    for modality in ("US", "MRI"):
        figure = draw_rows(plate_rows(cohort, modality, 2, np.random.default_rng(0)))
        figure.savefig(tmp_path / f"{modality}.png")
        plt.close(figure)
    assert sum(path.is_file() for path in tmp_path.rglob("*")) >= 10
    assert found(tmp_path) == []
    assert said(capsys) == []


def test_models_that_were_fitted_to_such_images_hold_none(tmp_path, monkeypatch):
    from alnsim import SimulationSpec, simulate_cohort

    few = {"n_mri": 0, "n_video_primary": 0, "n_video_external": 0, "n_ct": 0, "n_mammography": 0, "n_neoadjuvant": 0}
    spec = SimulationSpec(n_primary=56, n_external=14, image_rows=96, image_columns=96, **few)
    root = simulate_cohort(spec, tmp_path / "cohort", seed=5, truth_patients=2_000)
    table = pd.read_csv(root / "images.csv", dtype=str, keep_default_na=False)
    from tests.planted import plant_dicom

    for name in table["path"]:
        plant_dicom(root / name)
    monkeypatch.setenv("ALN_RESULTS", str(tmp_path / "results"))
    fitted_to(read_cohort(root), RunFolder("planted"))
    kept = [path for path in (tmp_path / "results").rglob("*") if path.is_file()]
    assert {"card.json", "parameters.pt", "parameters.json", "ultrasound.csv"} <= {path.name for path in kept}
    assert found(tmp_path / "results") == []


def test_a_run_writes_none_into_results_notebooks_or_logs(cohort, tmp_path):
    environment = os.environ | {"ALN_RESULTS": str(tmp_path / "results")}
    command = [sys.executable, "run_all.py", "--cohort", str(cohort.root), "--to", "11"]
    done = subprocess.run(command, cwd=repository_root(), env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert list((tmp_path / "results").rglob("01_sources.ipynb")) and list((tmp_path / "results").rglob("run_log.csv"))
    assert found(tmp_path / "results") == []
    assert WORDS.search((done.stdout + done.stderr).encode()) is None


# --------------------------------------------------------------------------------------------------- messages about damage

DAMAGED = {
    "a name where frames are counted": lambda dataset: dataset.add_new(0x00280008, "LO", f"{PLANT}-NAME-1"),
    "colors called by a name": lambda dataset: setattr(dataset, "PhotometricInterpretation", f"{PLANT}-NAME-1"),
    "no pixels": lambda dataset: delattr(dataset, "PixelData"),
    "half of the pixels": lambda dataset: setattr(
        dataset, "PixelData", dataset.PixelData[: len(dataset.PixelData) // 4 * 2]
    ),
    "no pixels and a modality called by a name": lambda dataset: (
        setattr(dataset, "Modality", f"{PLANT}-NAME-1"),
        delattr(dataset, "PixelData"),
    ),
}


def damaged(cohort: Cohort, how: str, tmp_path: Path) -> tuple[pd.Series, Path]:
    """A still with one damage, and its folder."""
    row = cohort.images[(cohort.images["modality"] == "US") & cohort.images["path"].str.endswith(".dcm")].iloc[0]
    dataset = pydicom.dcmread(cohort.root / row["path"])
    DAMAGED[how](dataset)
    path = tmp_path / row["path"]
    path.parent.mkdir(parents=True)
    dataset.save_as(path)
    return row, tmp_path


@pytest.mark.parametrize("how", DAMAGED)
def test_a_message_about_a_damaged_header_quotes_none_of_it(how, cohort, tmp_path):
    row, root = damaged(cohort, how, tmp_path)
    with pytest.raises(InputError) as raised:
        read_image(root / row["path"])
    assert WORDS.search(str(raised.value).encode()) is None, str(raised.value)


def test_a_message_quotes_it_where_the_guard_is_taken_away(cohort, tmp_path, monkeypatch):
    monkeypatch.setattr(read, "without_quotations", lambda text: text)
    row, root = damaged(cohort, "a name where frames are counted", tmp_path)
    with pytest.raises(InputError, match=f"{PLANT}-NAME-1"):
        read_image(root / row["path"])


def test_messages_about_cut_files_of_every_kind_quote_none(cohort, tmp_path):
    readers = {"US": read_image, "USV": read_clip, "MRI": read_volume, "CT": read_image, "MG": read_image}
    for modality, reader in readers.items():
        paths = cohort.images.loc[cohort.images["modality"] == modality, "path"]
        for path in paths.groupby(paths.str.extract(r"(\.\w+)$")[0]).first():
            content = (cohort.root / path).read_bytes()
            cut = tmp_path / Path(path).name
            cut.write_bytes(content[: int(0.8 * len(content))])
            with pytest.raises(InputError) as raised:
                reader(cut)
            assert WORDS.search(str(raised.value).encode()) is None, str(raised.value)


# ------------------------------------------------------------------------------------------------------- the search itself


def test_the_search_finds_what_is_packed(tmp_path):
    text = f"{PLANT}-NAME-9"
    (tmp_path / "plain.ipynb").write_text(json.dumps({"cells": [{"outputs": [{"text": [text]}]}]}))
    (tmp_path / "packed.csv.gz").write_bytes(gzip.compress(text.encode()))
    np.savez_compressed(tmp_path / "arrays.npz", a=np.array([text]))
    pd.DataFrame({"x": [text]}).to_parquet(tmp_path / "table.parquet")
    with zipfile.ZipFile(tmp_path / "book.xlsx", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("sheet.xml", text)
    info = PngImagePlugin.PngInfo()
    info.add_itxt("Comment", text, zip=True)
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(tmp_path / "figure.png", pnginfo=info)
    (tmp_path / f"{text}.txt").write_text("in a name")
    names = {hit.partition(": ")[0] for hit in found(tmp_path)}
    assert names == {path.name for path in tmp_path.iterdir()}
    assert all(next(contents(path)) == path.read_bytes() for path in tmp_path.iterdir())


def test_a_file_called_by_a_name_of_its_header_is_warned_of_without_saying_which(cohort, tmp_path, capsys):
    shutil.copytree(cohort.root, tmp_path / "cohort")
    table = pd.read_csv(tmp_path / "cohort" / "images.csv", dtype=str, keep_default_na=False)
    at = table.index[table["path"].str.endswith(".dcm")][0]
    named = f"{PLANT}-CLINIC-1.dcm"
    (tmp_path / "cohort" / table.loc[at, "path"]).rename(tmp_path / "cohort" / named)
    table.loc[at, "path"] = named
    table.to_csv(tmp_path / "cohort" / "images.csv", index=False)
    assert main(["validate", str(tmp_path / "cohort"), "--images"]) == 0
    warned = capsys.readouterr().err
    assert f"images.csv, row {at + 2}, column path: path or image_id tells a name or number of the header" in warned
    assert "new-cohort" in warned and PLANT not in warned
