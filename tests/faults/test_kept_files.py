"""Every kind of file that is kept between stages or runs, truncated and with one bit turned: made anew with a note, or named."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from alnlib import memo
from alnlib.cohorts.schema import IMAGE_COLUMNS
from alnlib.errors import InputError
from alnlib.imaging.cache import cached_crops
from alnlib.imaging.spec import CropSpec
from alnlib.memo import NOTES, LoopMemory, drop_older, write_sealed
from alnlib.models.frozen import FrozenSpec, frozen_features
from alnlib.pipeline.results import RunFolder
from alnlib.radiomics.extract import Settings, extract_cohort
from alnlib.training.augment import NO_AUGMENTATION
from alnlib.training.code import fit_code
from alnlib.training.data import CropDataset
from alnlib.training.fit import FitSpec, fit_classifier, predict_logits, read_fitted, save_fitted

SPEC = FitSpec("resnet18", 32, epochs=1, batch_size=8, augment=NO_AUGMENTATION)


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> pd.DataFrame:
    """One ultrasound still with its mask; `attrs` has the folder."""
    folder = tmp_path_factory.mktemp("images")
    pixels = np.random.default_rng(1).integers(0, 256, (40, 48), dtype=np.uint8)
    mask = np.zeros_like(pixels)
    mask[10:30, 12:36] = 255
    Image.fromarray(pixels).save(folder / "still.png")
    Image.fromarray(mask).save(folder / "mask.png")
    row = {"image_id": "1", "patient_id": "1", "modality": "US", "path": "still.png", "box": "12 10 24 20"}
    row |= {"mask_path": "mask.png", "pixel_spacing_mm": "0.1 0.1"}
    table = pd.DataFrame([row]).reindex(columns=list(IMAGE_COLUMNS))
    table.attrs["root"] = folder
    return table


@pytest.fixture(scope="module")
def stills() -> CropDataset:
    rng = np.random.default_rng(3)
    return CropDataset(
        rng.integers(0, 256, (16, 32, 32), dtype=np.uint8), np.arange(16) % 2, tuple(map(str, range(16)))
    )


def _squared(task: int, context: tuple) -> int:
    return task * task


def crop(folder: Path, images: pd.DataFrame, stills: CropDataset) -> bytes:
    return cached_crops(images, images.attrs["root"], folder, CropSpec("US", 8)).tobytes()


def radiomics(folder: Path, images: pd.DataFrame, stills: CropDataset) -> bytes:
    settings = Settings("quick", {"force2D": True}, {"Original": {}}, {"firstorder": ["Mean", "Entropy"]})
    made = extract_cohort(images, images.attrs["root"], {"US": settings}, folder=folder)
    return made.features.to_csv().encode()


def frozen(folder: Path, images: pd.DataFrame, stills: CropDataset) -> bytes:
    return frozen_features(stills.crops[:2, 0], FrozenSpec(depths=(1,)), folder).tobytes()


def checkpoint(folder: Path, images: pd.DataFrame, stills: CropDataset) -> bytes:
    return predict_logits(fit_classifier(SPEC, stills, folder), stills).tobytes()


def repeats(folder: Path, images: pd.DataFrame, stills: CropDataset) -> bytes:
    known = LoopMemory(folder)(_squared, [1, 2, 3], ())
    for number in {0, 1, 2} - known.keys():
        known[number] = _squared(number, ())
    return json.dumps(sorted(known.items())).encode()


KINDS = {
    "crop": (crop, "US-*.npy"),
    "radiomics": (radiomics, "1-*.json"),
    "frozen features": (frozen, "frozen-*.npy"),
    "checkpoint": (checkpoint, "*.pt"),
    "repeats of a loop": (repeats, "*.jsonl"),
}

DAMAGE = {
    "truncated": lambda content: content[: len(content) // 2],
    "bit of the first byte": lambda content: bytes([content[0] ^ 1]) + content[1:],
    "bit in the middle": lambda content: _turned(content, len(content) // 2),
    "bit of the last bytes": lambda content: _turned(content, len(content) - 3),
}


def _turned(content: bytes, at: int) -> bytes:
    return content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_kept_and_damaged_is_made_anew_with_a_note(kind, damage, images, stills, tmp_path):
    """Truth: what was made first, of the same inputs."""
    make, pattern = KINDS[kind]
    make = partial(make, tmp_path, images, stills)
    first = make()
    (kept,) = tmp_path.glob(pattern)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        assert make() == first, "read back without a word"
    if kind == "repeats of a loop" and damage == "bit of the first byte":
        kept.write_bytes(_turned(kept.read_bytes(), 1))  # the first byte is the end of a line before
    else:
        kept.write_bytes(DAMAGE[damage](kept.read_bytes()))
    with pytest.warns(UserWarning, match=rf"{kept.name}.*anew"):
        assert make() == first
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        assert make() == first


def test_within_a_stage_the_note_goes_to_the_run_that_shows_it(tmp_path, monkeypatch):
    monkeypatch.setenv("ALN_STAGING", str(tmp_path))
    memo.note("crops/a.npy is damaged")
    assert (tmp_path / NOTES).read_text() == "crops/a.npy is damaged\n"


@pytest.mark.parametrize("damage", ["truncated", "bit of the first byte"])
def test_a_network_file_that_is_damaged_is_named_in_a_line(stills, tmp_path, damage):
    """Between stages its digest is compared (`test_an_input_that_was_damaged_is_named_and_never_used`)."""
    path = save_fitted(fit_classifier(SPEC, stills), tmp_path / "ct.pt")
    path.write_bytes(DAMAGE[damage](path.read_bytes()))
    with pytest.raises(InputError, match=r"ct.pt cannot be read as a torch file .*train the network again") as error:
        read_fitted(path)
    assert "\n" not in str(error.value) and len(str(error.value)) < 500


def test_checkpoints_of_older_code_go_by_themselves(stills, tmp_path, monkeypatch):
    """Those of today's code, damaged ones, which are made anew with a note, and other files stay."""
    monkeypatch.setenv("ALN_RESULTS", str(tmp_path))
    folder = tmp_path / "a-run" / "checkpoints"
    fit_classifier(SPEC, stills, folder)
    (today,) = folder.glob("*.pt")
    save: Callable[[Path], object] = partial(torch.save, {"x": torch.ones(1)})
    write_sealed(folder / "older.pt", "key", save, code=hashlib.sha256(b"older").hexdigest())
    write_sealed(folder / "of-before.pt", "key", save)
    (folder / "damaged.pt").write_bytes(today.read_bytes()[:-9])
    (folder / "loop.jsonl").touch()
    assert RunFolder("a-run").checkpoints() == folder
    assert {path.name for path in folder.iterdir()} == {today.name, "damaged.pt", "loop.jsonl"}
    drop_older(folder, "*.pt", fit_code() | {"alnlib/training/fit.py": "edited"})
    assert {path.name for path in folder.iterdir()} == {"damaged.pt", "loop.jsonl"}
