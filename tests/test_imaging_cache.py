"""The store of crops: what comes back is what the function itself makes, and nothing else is ever found under its key."""

from __future__ import annotations

import json
import os
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from alnlib.cohorts.schema import IMAGE_COLUMNS
from alnlib.errors import InputError
from alnlib.imaging import cache, sampling, slices25d, stills
from alnlib.imaging.cache import cached_crops
from alnlib.imaging.nodes import crop_nodes
from alnlib.imaging.sampling import crop_sweeps, key_frame_crops
from alnlib.imaging.slices25d import crop_mri
from alnlib.imaging.stills import crop_stills
from alnlib.imaging.volumes import VolumeGeometry
from alnlib.memo import MEMORY
from alnlib.training.data import CropDataset
from alnsim.nifti import write_volume

STILLS = {"kind": "adjustable_square", "side_px": 8}
SWEEPS = {"kind": "adjustable_square", "side_px": 8}
NODES = {"kind": "adjustable_square", "side_px": 8, "picture_rescale": (1.0, 0.0)}
MRI = {"side_px": 8, "subtract": "DCE_pre", "patient_ids": ["2", "1"]}
CASES = [(crop_stills, "US", STILLS), (crop_sweeps, "USV", SWEEPS), (key_frame_crops, "USV", SWEEPS)]
CASES += [(crop_nodes, "CT", NODES), (crop_mri, "MRI", MRI)]
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
        for module, reader in [(stills, "read_image"), (sampling, "read_clip"), (slices25d, "read_volume")]:
            monkeypatch.setattr(module, reader, refuse)
        monkeypatch.setattr("alnlib.imaging.nodes.read_image", refuse)

    return install


def arrays(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.npy"))


@pytest.mark.parametrize(("make", "modality", "options"), CASES)
def test_gives_what_the_function_makes_and_does_not_decode_twice(
    make, modality, options, images, tmp_path, no_decoding
):
    """Truth: the function itself."""
    table = of(images, "US") if modality == "US" else images
    expected = make(table, tmp_path / "data", **options)
    first = cached_crops(make, table, tmp_path / "data", tmp_path / "crops", **options)
    no_decoding()
    second = cached_crops(make, table, tmp_path / "data", tmp_path / "crops", **options)
    for crops in (first, second):
        np.testing.assert_array_equal(crops, expected)
        assert crops.dtype == expected.dtype
        assert isinstance(crops, np.memmap) and not crops.flags.writeable
    described = json.loads(arrays(tmp_path / "crops")[0].read_bytes().rpartition(b"\n")[2])
    assert described["function"].endswith(make.__name__)


@pytest.mark.parametrize(
    ("make", "modality", "options", "file"),
    [
        (crop_stills, "US", STILLS, "us2.png"),
        (crop_nodes, "CT", NODES, "ct2.png"),
        (crop_sweeps, "USV", SWEEPS, "usv2/frame_1.png"),
        (crop_mri, "MRI", MRI, "DCE_early1.nii.gz"),
        (crop_mri, "MRI", MRI, "DCE_pre1.nii.gz"),
        (crop_mri, "MRI", MRI, "mask1.nii.gz"),
    ],
)
def test_every_file_that_a_crop_depends_on_is_in_its_key(make, modality, options, file, images, tmp_path):
    """One byte more; that a replacement of the same size and time is noticed too is shown in test_memo."""
    before = contents(make, of(images, modality), tmp_path, options)
    assert contents(make, of(images, modality), tmp_path, options) == before
    path = tmp_path / "data" / file
    path.write_bytes(path.read_bytes() + b" ")
    assert contents(make, of(images, modality), tmp_path, options) != before


def contents(make, table: pd.DataFrame, tmp_path: Path, options: dict) -> dict:
    rows = cache._rows_used(make, table, options.get("patient_ids"))
    return cache._contents(rows, tmp_path / "data", tmp_path / "crops" / MEMORY)


def test_another_option_row_order_or_code_is_another_entry_and_a_default_said_is_not(images, tmp_path, monkeypatch):
    """Also not another entry: labels, columns that no crop looks at, and a cohort that has moved."""
    folder, table = tmp_path / "crops", of(images, "US")

    def entries(table: pd.DataFrame = table, root: Path = tmp_path / "data", **options) -> int:
        cached_crops(crop_stills, table, root, folder, **(STILLS | options))
        return len(arrays(folder))

    assert entries() == 1
    assert entries(margin_fraction=0.2) == 1  # the default
    assert entries(table.assign(unit_label=1, split="train")) == 1
    (tmp_path / "data").rename(tmp_path / "moved")
    root = tmp_path / "moved"
    assert entries(root=root) == 1
    assert entries(root=root, margin_fraction=0.3) == 2
    assert entries(table.iloc[::-1], root) == 3
    assert entries(table.assign(box="4 4 12 13"), root) == 4
    monkeypatch.setattr(cache, "code_of", lambda module: {"stills.py": "changed"})
    assert entries(root=root) == 5
    monkeypatch.setattr(cache, "versions", lambda *names: {"pillow": "0"})
    assert entries(root=root) == 6


def test_rows_of_other_modalities_do_not_matter_and_patients_are_kept_in_order(images, tmp_path):
    """crop_nodes takes rows of modality CT alone; crop_mri takes patients in the order asked."""
    folder, root = tmp_path / "crops", tmp_path / "data"
    cached_crops(crop_nodes, images, root, folder, **NODES)
    cached_crops(crop_nodes, of(images, "CT"), root, folder, **NODES)
    assert len(arrays(folder)) == 1
    crops = cached_crops(crop_mri, images, root, folder, **MRI)
    turned = cached_crops(crop_mri, images, root, folder, **(MRI | {"patient_ids": pd.Series(["1", "2"])}))
    np.testing.assert_array_equal(turned, crops[::-1])


@pytest.mark.parametrize("damage", ["truncated", "one bit", "emptied", "no array"])
def test_what_is_damaged_is_made_again(damage, images, tmp_path):
    """Truth: the array before the damage."""
    folder, table = tmp_path / "crops", of(images, "US")
    expected = np.array(cached_crops(crop_stills, table, tmp_path / "data", folder, **STILLS))
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
    np.testing.assert_array_equal(cached_crops(crop_stills, table, tmp_path / "data", folder, **STILLS), expected)
    assert path.read_bytes() == content


def test_the_least_recently_used_go_and_the_one_asked_for_stays(images, tmp_path):
    """Room for two arrays; the first is used again before the third comes."""
    folder, table = tmp_path / "crops", of(images, "US")

    def ask(side_px: int, limit_gb: float = 2.5 * 700e-9) -> np.ndarray:
        return cached_crops(
            crop_stills, table, tmp_path / "data", folder, kind="adjustable_square", side_px=side_px, limit_gb=limit_gb
        )

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
    alone = ask(11, limit_gb=0.0)
    assert len(arrays(folder)) == 1
    assert alone.shape == (2, 11, 11)
    assert kept.shape == (2, 10, 10) and kept.sum() > 0  # an array in use outlives its removal


def test_writers_of_the_same_crops_at_once_all_get_them(images, tmp_path):
    """Truth: the function itself. Nothing half written stays behind."""
    folder, table = tmp_path / "crops", of(images, "US")
    expected = crop_stills(table, tmp_path / "data", **STILLS)
    with ThreadPoolExecutor(8) as pool:
        tasks = [pool.submit(cached_crops, crop_stills, table, tmp_path / "data", folder, **STILLS) for _ in range(16)]
        for task in tasks:
            np.testing.assert_array_equal(task.result(), expected)
    assert len(arrays(folder)) == 1 and not list(folder.glob(".*"))


def test_errors_of_the_function_come_through_and_leave_nothing(images, tmp_path):
    table = of(images, "US")
    (tmp_path / "data" / "us2.png").unlink()
    with pytest.raises(InputError, match="us2.png"):
        cached_crops(crop_stills, table, tmp_path / "data", tmp_path / "crops", **STILLS)
    assert not arrays(tmp_path / "crops")
    with pytest.raises(TypeError, match="unknown"):
        cached_crops(crop_stills, table, tmp_path / "data", tmp_path / "crops", **STILLS, unknown=1)
    with pytest.raises(ValueError, match="is none of crop_stills"):
        cached_crops(np.stack, table, tmp_path / "data", tmp_path / "crops")
    with pytest.raises(ValueError, match="no number, text or list"):
        cached_crops(crop_stills, table, tmp_path / "data", tmp_path / "crops", kind="fixed_size", side_px=object())


def test_a_table_without_rows_gives_an_empty_array(images, tmp_path):
    table = of(images, "US").iloc[:0]
    crops = cached_crops(crop_stills, table, tmp_path / "data", tmp_path / "crops", **STILLS)
    assert crops.shape == (0, 8, 8) and not arrays(tmp_path / "crops")


def test_a_folder_that_cannot_be_written_is_told(images, tmp_path):
    (tmp_path / "crops").write_text("a file, not a folder")
    with pytest.raises(InputError, match="name another folder"):
        cached_crops(crop_stills, of(images, "US"), tmp_path / "data", tmp_path / "crops", **STILLS)


def test_a_data_set_takes_the_mapped_array_as_it_is(images, tmp_path):
    """No copy of the pixels is made on the way into a data set."""
    crops = cached_crops(crop_stills, of(images, "US"), tmp_path / "data", tmp_path / "crops", **STILLS)
    data = CropDataset(crops, np.array([0, 1]), ("1", "2"))
    assert np.shares_memory(data.crops, crops)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's, of arrays that cannot be written to
        pixels, _ = data.tensors()
    np.testing.assert_array_equal(pixels.numpy()[:, 0], crops)
