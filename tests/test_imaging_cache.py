"""The store of crops: what comes back is what the function itself makes, and nothing else is ever found under its key."""

from __future__ import annotations

import json
import os
import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from alnlib.cohorts.schema import IMAGE_COLUMNS
from alnlib.errors import InputError
from alnlib.imaging import cache, rows
from alnlib.imaging.cache import cached_crops
from alnlib.imaging.lesions import crop
from alnlib.imaging.spec import KEY, CropSpec
from alnlib.imaging.volumes import VolumeGeometry
from alnlib.memo import MEMORY
from alnlib.training.data import CropDataset
from alnsim.nifti import write_volume

STILLS, SWEEPS = CropSpec("US", 8), CropSpec("USV", 8)
NODES = CropSpec("CT", 8, picture_rescale=(1.0, 0.0))
MRI = CropSpec("MRI", 8, channels=["pre/DCE_early-DCE_pre"])
TURNED = ["2", "1"]
CASES = [
    (STILLS, None),
    (SWEEPS, None),
    (replace(SWEEPS, frames=KEY), None),
    (NODES, None),
    (MRI, TURNED),
    (STILLS, TURNED),
]
LONG_AGO = 1_600_000_000


@pytest.fixture
def images(tmp_path) -> pd.DataFrame:
    """Two patients with a still, a sweep (folder of three frames), a CT slice and two MRI sequences each, in data/."""
    rng = np.random.default_rng(5)
    root = tmp_path / "data"
    geometry = VolumeGeometry((2.0, 1.0, 1.0), origin_mm=(0.0, 0.0, 0.0))
    rows = []

    def add(patient: str, modality: str, sequence: str | None, path: str, box: str, mask: str | None = None) -> None:
        row = {"image_id": path, "patient_id": patient, "modality": modality, "sequence_or_view": sequence}
        rows.append(row | {"path": path, "box": box, "mask_path": mask, "timepoint": "pre", "unit_label": 0})

    for patient in "12":
        names = [f"us{patient}.png", f"ct{patient}.png", *(f"usv{patient}/frame_{k}.png" for k in range(3))]
        for name in names:
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            write_picture(root / name, rng)
        add(patient, "US", None, names[0], "4 4 12 12")
        add(patient, "CT", None, names[1], "4 4 12 12")
        add(patient, "USV", None, f"usv{patient}", "4 4 12 12")
        mask = np.zeros((5, 20, 24), np.uint8)
        mask[1:4, 5:12, 6:15] = 1
        write_volume(root / f"mask{patient}.nii.gz", mask, geometry)
        for sequence in ("DCE_pre", "DCE_early", "T2"):
            write_volume(
                root / f"{sequence}{patient}.nii.gz", rng.integers(0, 999, (5, 20, 24)).astype(np.int16), geometry
            )
            add(patient, "MRI", sequence, f"{sequence}{patient}.nii.gz", "", f"mask{patient}.nii.gz")
    return pd.DataFrame(rows).reindex(columns=list(IMAGE_COLUMNS)).astype({"box": "str"})


def write_picture(path: Path, rng: np.random.Generator) -> None:
    Image.fromarray(rng.integers(0, 256, (20, 24), dtype=np.uint8)).save(path)


def of(images: pd.DataFrame, modality: str) -> pd.DataFrame:
    return images[images["modality"] == modality]


@pytest.fixture
def no_decoding(monkeypatch):
    """Called, it makes every reader fail: whatever is returned afterwards was not decoded."""

    def refuse(*arguments, **options):
        raise AssertionError("a file was decoded")

    def install():
        for module, reader in [(rows, "read_image"), (rows, "read_clip"), (rows, "read_volume")]:
            monkeypatch.setattr(module, reader, refuse)

    return install


def arrays(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.npy"))


@pytest.mark.parametrize(("spec", "patient_ids"), CASES)
def test_gives_what_the_function_makes_and_does_not_decode_twice(spec, patient_ids, images, tmp_path, no_decoding):
    """Truth: the function itself."""
    expected = crop(images, tmp_path / "data", spec, patient_ids)
    first = cached_crops(images, tmp_path / "data", tmp_path / "crops", spec, patient_ids)
    no_decoding()
    second = cached_crops(images, tmp_path / "data", tmp_path / "crops", spec, patient_ids)
    for crops in (first, second):
        np.testing.assert_array_equal(crops, expected)
        assert crops.dtype == expected.dtype
        assert isinstance(crops, np.memmap) and not crops.flags.writeable
    about = json.loads(arrays(tmp_path / "crops")[0].read_bytes().rpartition(b"\n")[2])
    assert CropSpec(**about["crop"]) == spec


@pytest.mark.parametrize(
    ("modality", "file"),
    [("US", "us2.png"), ("CT", "ct2.png"), ("USV", "usv2/frame_1.png")]
    + [("MRI", file) for file in ("DCE_early1.nii.gz", "DCE_pre1.nii.gz", "mask1.nii.gz")],
)
def test_every_file_that_a_crop_depends_on_is_in_its_key(modality, file, images, tmp_path):
    """One byte more; that a replacement of the same size and time is noticed too is shown in test_memo."""
    place = of(images, modality), tmp_path / "data", tmp_path / MEMORY
    before = cache._contents(*place)
    assert cache._contents(*place) == before
    path = tmp_path / "data" / file
    path.write_bytes(path.read_bytes() + b" ")
    assert cache._contents(*place) != before


def test_another_option_row_order_or_code_is_another_entry(images, tmp_path, monkeypatch):
    """Not another entry: labels, columns that no crop looks at, rows of other modalities, and a cohort that has moved."""
    folder, table = tmp_path / "crops", of(images, "US")

    def entries(table: pd.DataFrame = table, root: Path = tmp_path / "data", patient_ids=None, **settings) -> int:
        cached_crops(table, root, folder, replace(STILLS, **settings), patient_ids)
        return len(arrays(folder))

    assert entries() == entries(images) == entries(table.assign(unit_label=1, split="train")) == 1
    (tmp_path / "data").rename(tmp_path / "moved")
    root = tmp_path / "moved"
    assert entries(root=root) == 1
    assert entries(root=root, margin_fraction=0.3) == 2
    assert entries(table.iloc[::-1], root) == 3
    assert entries(table.assign(box="4 4 12 13"), root) == 4
    assert entries(root=root, patient_ids=TURNED) == entries(root=root, patient_ids=pd.Series(TURNED)) == 5
    monkeypatch.setattr(cache, "code_of", lambda module: {"lesions.py": "changed"})
    assert entries(root=root) == 6
    monkeypatch.setattr(cache, "versions", lambda *names: {"pillow": "0"})
    assert entries(root=root) == 7


@pytest.mark.parametrize("damage", ["truncated", "one bit", "emptied", "no array"])
def test_what_is_damaged_is_made_again(damage, images, tmp_path):
    """Truth: the array before the damage."""
    folder, table = tmp_path / "crops", of(images, "US")
    expected = np.array(cached_crops(table, tmp_path / "data", folder, STILLS))
    (path,) = arrays(folder)
    content = path.read_bytes()
    if damage == "truncated":
        path.write_bytes(content[:-40])
    elif damage == "one bit":
        path.write_bytes(content[:200] + bytes([content[200] ^ 1]) + content[201:])
    elif damage == "emptied":
        path.write_bytes(b"")
    else:
        path.unlink()
    (folder / MEMORY).write_text("{")  # the memory of hashes too
    np.testing.assert_array_equal(cached_crops(table, tmp_path / "data", folder, STILLS), expected)
    assert path.read_bytes() == content


def test_the_least_recently_used_go_and_the_one_asked_for_stays(images, tmp_path):
    """Room for two arrays; the first is used again before the third comes."""
    folder, table = tmp_path / "crops", of(images, "US")

    def ask(side_px: int, room: float = 2.5) -> np.ndarray:
        limit_gb = room * arrays(folder)[0].stat().st_size / 1e9 if arrays(folder) else 1.0
        return cached_crops(table, tmp_path / "data", folder, CropSpec("US", side_px), limit_gb=limit_gb)

    ask(8)
    first = arrays(folder)[0]
    ask(9)
    second = next(path for path in arrays(folder) if path != first)
    os.utime(first, (LONG_AGO, LONG_AGO))
    os.utime(second, (LONG_AGO + 60, LONG_AGO + 60))
    ask(8)
    kept = ask(10)
    assert first.exists() and not second.exists()
    assert len(arrays(folder)) == 2
    alone = ask(11, room=0.0)
    assert len(arrays(folder)) == 1
    assert alone.shape == (2, 11, 11)
    assert kept.shape == (2, 10, 10) and kept.sum() > 0  # an array in use outlives its removal


def test_writers_of_the_same_crops_at_once_all_get_them(images, tmp_path):
    """Truth: the function itself. Nothing half written stays behind."""
    folder, table = tmp_path / "crops", of(images, "US")
    expected = crop(table, tmp_path / "data", STILLS)
    with ThreadPoolExecutor(8) as pool:
        tasks = [pool.submit(cached_crops, table, tmp_path / "data", folder, STILLS) for _ in range(16)]
        for task in tasks:
            np.testing.assert_array_equal(task.result(), expected)
    assert len(arrays(folder)) == 1 and not list(folder.glob(".*"))


def test_errors_of_the_function_come_through_and_leave_nothing(images, tmp_path):
    table = of(images, "US")
    (tmp_path / "data" / "us2.png").unlink()
    with pytest.raises(InputError, match="us2.png"):
        cached_crops(table, tmp_path / "data", tmp_path / "crops", STILLS)
    assert not arrays(tmp_path / "crops")


def test_a_table_without_rows_gives_an_empty_array(images, tmp_path):
    table = of(images, "US").iloc[:0]
    crops = cached_crops(table, tmp_path / "data", tmp_path / "crops", STILLS)
    assert crops.shape == (0, 8, 8) and not arrays(tmp_path / "crops")


def test_a_folder_that_cannot_be_written_is_told(images, tmp_path):
    (tmp_path / "crops").write_text("a file, not a folder")
    with pytest.raises(InputError, match="name another folder"):
        cached_crops(of(images, "US"), tmp_path / "data", tmp_path / "crops", STILLS)


def test_a_data_set_takes_the_mapped_array_as_it_is(images, tmp_path):
    """No copy of the pixels is made on the way into a data set."""
    crops = cached_crops(of(images, "US"), tmp_path / "data", tmp_path / "crops", STILLS)
    data = CropDataset(crops, np.array([0, 1]), ("1", "2"))
    assert np.shares_memory(data.crops, crops)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's, of arrays that cannot be written to
        pixels, _ = data.tensors()
    np.testing.assert_array_equal(pixels.numpy()[:, 0], crops)
