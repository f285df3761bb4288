"""The one memory: what has changed is noticed by everything that remembers, and what is damaged is made anew."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from alnlib import memo
from alnlib.cohorts import manifest
from alnlib.cohorts.schema import IMAGE_COLUMNS
from alnlib.errors import InputError
from alnlib.imaging.cache import cached_crops
from alnlib.imaging.spec import CropSpec
from alnlib.memo import FileDigests, LibraryCode, Repeats, code_of, keep_within, sealed_length, write_sealed
from alnlib.paths import repository_root
from alnlib.pipeline.cache import why_stale
from alnlib.radiomics.extract import Settings, extract_cohort

LONG_AGO = 1_600_000_000


def picture(path: Path, seed: int) -> None:
    """A gray picture that takes as many bytes whatever it shows, of a time long ago."""
    pixels = np.random.default_rng(seed).integers(0, 256, (20, 24), dtype=np.uint8)
    Image.fromarray(pixels).save(path, compress_level=0)
    os.utime(path, (LONG_AGO, LONG_AGO))


@pytest.fixture
def still(tmp_path):
    """(path, images table): one still and its mask in data/."""
    path = tmp_path / "data" / "still.png"
    path.parent.mkdir()
    picture(path, 1)
    mask = np.zeros((20, 24), np.uint8)
    mask[5:15, 6:18] = 255
    Image.fromarray(mask).save(path.with_name("mask.png"))
    row = {"image_id": "1", "patient_id": "1", "modality": "US", "path": path.name, "box": "6 5 12 10"}
    row |= {"mask_path": "mask.png", "pixel_spacing_mm": "0.1 0.1"}
    return path, pd.DataFrame([row]).reindex(columns=list(IMAGE_COLUMNS))


def stage(path: Path, images: pd.DataFrame, folder: Path, monkeypatch) -> object:
    """Whether a stage whose output the file is stands, and what the folder as its data comes to."""
    digests = FileDigests(folder / "files.json")
    digest = folder / "output"
    if not digest.exists():
        digest.write_text(digests.of(path))
    stored = {"components": {}, "outputs": {path.name: digest.read_text()}}
    result = why_stale(stored, {}, digests, path.parent), digests.of_folder(path.parent)
    digests.save()
    return result


def crops(path: Path, images: pd.DataFrame, folder: Path, monkeypatch) -> object:
    return cached_crops(images, path.parent, folder, CropSpec("US", 8)).tobytes()


def download(path: Path, images: pd.DataFrame, folder: Path, monkeypatch) -> object:
    expected = folder / "expected"
    if not expected.exists():
        expected.write_text(memo.sha256_file(path))
    listed = pd.DataFrame([{"file": path.name, "need": "required", "sha256": expected.read_text(), "row": 0}])
    monkeypatch.setattr(manifest, "listed_files", lambda rows: listed)
    rows = manifest.read_manifest().query("cohort == 'duke'").iloc[:1]
    try:
        return manifest.verify_files(rows, path.parent).to_csv()
    except InputError as error:
        return str(error)


def features(path: Path, images: pd.DataFrame, folder: Path, monkeypatch) -> object:
    settings = Settings("quick", {"force2D": True}, {"Original": {}}, {"firstorder": ["Mean", "Entropy"]})
    return extract_cohort(images, path.parent, {"US": settings}, folder=folder).features.to_csv()


@pytest.mark.parametrize("remembering", [stage, crops, download, features])
def test_a_file_replaced_by_one_of_the_same_size_and_time_is_noticed(remembering, still, tmp_path, monkeypatch):
    """Its time of change is put back, as `cp -p`, `rsync -t` and `tar` do; only ctime and inode tell."""
    monkeypatch.setattr(memo, "UNSETTLED_S", -1.0)
    path, images = still
    folder = tmp_path / "kept"
    folder.mkdir()
    before = remembering(path, images, folder, monkeypatch)
    assert remembering(path, images, folder, monkeypatch) == before
    size = path.stat().st_size
    time.sleep(0.05)  # longer than the tick of the file system's clock
    picture(path, 2)
    assert (path.stat().st_size, path.stat().st_mtime) == (size, LONG_AGO)
    assert remembering(path, images, folder, monkeypatch) != before


def test_a_file_is_read_once_when_it_has_settled_and_again_while_it_has_not(tmp_path, monkeypatch):
    """UNSETTLED_S of -1 makes every file old, a day makes every file young; sha256_file is counted."""
    (tmp_path / "a").write_text("a")
    read, counts = [], []
    monkeypatch.setattr(memo, "sha256_file", lambda path: read.append(path) or "digest")
    for unsettled_s in (86400.0, 86400.0, -1.0, -1.0):
        monkeypatch.setattr(memo, "UNSETTLED_S", unsettled_s)
        digests = FileDigests(tmp_path / "memory.json")
        assert digests.of(tmp_path / "a") == "digest"
        digests.save()
        counts.append(len(read))
    assert counts == [1, 2, 3, 3]


@pytest.mark.parametrize("content", ["not json", "[1, 2]", '{"x": 3}'])
def test_a_damaged_memory_is_started_anew_and_what_is_not_there_has_no_digest(content, tmp_path):
    (tmp_path / "memory.json").write_text(content)
    (tmp_path / "a").write_text("a")
    digests = FileDigests(tmp_path / "memory.json")
    assert digests.of(tmp_path / "a") == memo.sha256_file(tmp_path / "a")
    assert digests.of(tmp_path / "absent") is None and digests.of_image(tmp_path / "absent") is None


def test_a_folder_is_its_names_and_contents_and_a_detached_header_its_folder(tmp_path, monkeypatch):
    scan = tmp_path / "scan"
    scan.mkdir()
    (scan / "a.nhdr").write_text("header")
    (scan / "a.raw").write_text("voxels")
    digests = FileDigests()
    assert set(digests.of_image(scan / "a.nhdr")) == {"a.nhdr", "a.raw"}
    whole = digests.of_folder(scan)
    (scan / ".hidden").write_text("not counted")
    assert digests.of_folder(scan) == whole
    monkeypatch.setattr(memo, "MAX_FILES_READ", 1)
    unread = digests.of_folder(scan)
    assert unread != whole
    time.sleep(0.05)
    status = (scan / "a.raw").stat()
    (scan / "a.raw").write_text("VOXELS")
    os.utime(scan / "a.raw", ns=(status.st_atime_ns, status.st_mtime_ns))
    assert digests.of_folder(scan) != unread


def test_library_code_follows_imports_but_not_beyond(tmp_path):
    package = tmp_path / "alnlib"
    for name, text in {
        "__init__.py": "",
        "one.py": "from alnlib.two import f",
        "two.py": "import numpy\nf = 1",
        "three.py": "",
        "sub/__init__.py": "",
        "sub/inner.py": "from .other import g\nfrom .. import three",
        "sub/other.py": "g = 1",
        "sub/table.csv": "a\n1\n",
    }.items():
        (package / name).parent.mkdir(exist_ok=True, parents=True)
        (package / name).write_text(text)
    code = LibraryCode(tmp_path)
    assert set(code.used_by("from alnlib.one import f")) == {"alnlib/__init__.py", "alnlib/one.py", "alnlib/two.py"}
    through_sub = set(code.used_by("import alnlib.sub.inner"))
    assert through_sub == {
        f"alnlib/{n}"
        for n in ("__init__.py", "sub/__init__.py", "sub/inner.py", "sub/other.py", "sub/table.csv", "three.py")
    }
    assert code.used_by("import numpy") == {}


@pytest.mark.parametrize(
    ("module", "has", "has_not"),
    [
        ("alnlib.models.clinical", "alnlib/models/clinical.py", ("alnlib/models/cnn", "alnlib/training/")),
        ("alnlib.training.fit", "alnlib/models/video.py", ("alnlib/imaging/", "alnlib/pipeline/", "alnlib/cohorts/")),
        (
            "alnlib.imaging.lesions",
            "alnlib/imaging/read.py",
            ("alnlib/models/", "alnlib/training/", "alneval/", "alnlib/memo"),
        ),
        ("alnlib.radiomics.extract", "alnlib/radiomics/settings/mri.yaml", ("alneval/", "alnlib/models/")),
    ],
)
def test_the_code_of_a_result_is_what_it_imports(module, has, has_not):
    """An edit of evaluation, or of another modality, is no reason to fit, crop or extract anew."""
    used = code_of(module, without=("alneval/",))
    assert has in used and not [name for name in used if name.startswith(has_not)]
    assert set(used) <= set(LibraryCode(repository_root()).used_by(f"import {module}"))


@pytest.mark.parametrize("at", [0, 3, 7, -1, -5])
def test_a_flipped_byte_anywhere_in_a_sealed_file_is_noticed(at, tmp_path):
    path = tmp_path / "a.bin"
    write_sealed(path, "key", lambda temporary: temporary.write_bytes(b"contents"), rows=3)
    assert sealed_length(path, "key") == 8
    assert json.loads(path.read_bytes()[9:])["rows"] == 3
    assert sealed_length(path, "other key") is None and sealed_length(tmp_path / "absent", "key") is None
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)
    assert sealed_length(path, "key") is None


def test_what_cannot_be_written_is_told_and_leaves_nothing(tmp_path):
    (tmp_path / "folder").write_text("a file, not a folder")
    with pytest.raises(InputError, match="name another folder"):
        write_sealed(tmp_path / "folder" / "a", "key", lambda temporary: temporary.write_bytes(b""))
    with pytest.raises(InputError, match="name another folder"):
        Repeats(tmp_path / "folder" / "a.jsonl")[0] = 1


def test_the_least_recently_used_go_and_the_spared_stays(tmp_path):
    for age, name in enumerate("abc"):
        (tmp_path / name).write_bytes(bytes(100))
        os.utime(tmp_path / name, (LONG_AGO - age, LONG_AGO - age))
    keep_within(tmp_path, "*", 250e-9)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]
    keep_within(tmp_path, "*", 50e-9, spare=tmp_path / "b")
    assert [path.name for path in tmp_path.iterdir()] == ["b"]


def test_finished_repeats_survive_and_a_changed_or_cut_line_does_not(tmp_path):
    path = tmp_path / "loop.jsonl"
    repeats = Repeats(path)
    for number in range(3):
        repeats[number] = [number, 0.1 * number]
    path.write_text(path.read_text().replace("[1, [1, 0.1", "[1, [1, 0.2") + "\n0123456789abcdef [3, [3, 0.")
    again = Repeats(path)
    assert again == {0: [0, 0.0], 2: [2, 0.2]}
    again[1] = repeats[1]
    assert Repeats(path) == repeats
