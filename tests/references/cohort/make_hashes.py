"""Hashes of four simulated patients: `python -m tests.references.cohort.make_hashes` writes hashes.csv beside this file.

Every modality at each center that has it, both visits of MRI, and all tables. One row per file: how many `values` it
holds (gray levels, Hounsfield units, lines of a table), SHA-256 of them and of the file as written, and four hexadecimal
digits for each block of `BLOCK` values or line, so that a difference can be counted and placed without the files.
"""

from __future__ import annotations

import hashlib
import math
import sys
import tempfile
from pathlib import Path

import nibabel
import numpy as np
import pandas as pd
import pydicom
from PIL import Image

from alnlib.files import sha256_file, write_csv
from alnsim import SimulationSpec, simulate_cohort
from alnsim.build import draw_people
from alnsim.images import write_images

HASHES = Path(__file__).with_name("hashes.csv")
SEED = 2026
TRUTH_PATIENTS = 4_000
BLOCK = 1024
SPEC = SimulationSpec(
    n_primary=2, n_external=1, n_video_primary=1, n_video_external=1, n_ct=3, n_ct_nodes=6, n_mammography=1,
    n_neoadjuvant=1, image_rows=128, image_columns=128,
)  # fmt: skip


def read_pieces(path: Path) -> tuple[int, list[bytes]]:
    """Number of values in a file and what they are, in blocks of `BLOCK` values (images) or lines (tables)."""
    if path.suffix in (".csv", ".json", ".yaml"):
        lines = path.read_bytes().splitlines(keepends=True)
        return len(lines), lines
    values = _pixels(path)
    return values.size, [values[start : start + BLOCK].tobytes() for start in range(0, values.size, BLOCK)]


def _pixels(path: Path) -> np.ndarray:
    """(n,) the values stored, little-endian."""
    if path.suffix == ".dcm":
        values = pydicom.dcmread(path).pixel_array
    elif path.suffix == ".png":
        values = np.asarray(Image.open(path))
    else:
        values = np.asarray(nibabel.load(path).dataobj).T
    return values.astype(values.dtype.newbyteorder("<")).ravel()


def hash_files(folder: Path) -> pd.DataFrame:
    """One row per file below `folder`, the columns of hashes.csv."""
    rows = []
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        count, pieces = read_pieces(path)
        blocks = "".join(hashlib.sha256(piece).hexdigest()[:4] for piece in pieces)
        content = hashlib.sha256(b"".join(pieces)).hexdigest()
        rows.append((path.relative_to(folder).as_posix(), count, content, sha256_file(path), blocks))
    return pd.DataFrame(rows, columns=["file", "values", "sha256_values", "sha256_file", "blocks"])


def hash_images() -> pd.DataFrame:
    """`hash_files` of the same patients' images and masks, without tables: a few seconds."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for part in ("images", "masks"):
            (folder / part).mkdir()
        for person in draw_people(SPEC, SEED):
            write_images(person, SPEC, folder, SEED)
        return hash_files(folder)


def last_bits() -> list[str]:
    """Checksums of 20,000 values each of functions whose last bits follow the processor: what makes exactness a question."""
    x = np.random.default_rng(0).standard_normal(20_000)
    square = x[:10_000].reshape(100, 100)
    found = np.exp(x), np.log(np.abs(x)), np.sin(x), np.arctan2(x, x[::-1]), square @ square
    found = *found, np.array([math.exp(value) for value in x])
    return [hashlib.sha256(values.tobytes()).hexdigest()[:12] for values in found]


def differences(expected: pd.DataFrame, found: pd.DataFrame) -> list[str]:
    """One sentence per file that is missing, new or not the same, with how many of its blocks or lines differ.

    Compressed files (.png, .gz) are compared by what they hold: their bytes depend on the compressor as well.
    """
    both = expected.merge(found, on="file", how="outer", suffixes=("", "_now"), indicator=True)
    said = []
    for row in both.to_dict("records"):
        if row["_merge"] != "both":
            said.append(f"{row['file']}: {'not made any more' if row['_merge'] == 'left_only' else 'not in the table'}")
        elif row["sha256_values"] != row["sha256_values_now"]:
            said.append(f"{row['file']}: {_counted(row)}")
        elif row["sha256_file"] != row["sha256_file_now"] and not row["file"].endswith((".png", ".gz")):
            said.append(f"{row['file']}: the same {row['values']} values, another header")
    return said


def _counted(row: dict[str, str | int]) -> str:
    if row["values"] != row["values_now"]:
        return f"{row['values_now']} values, {row['values']} expected"
    was, now = (np.array(list(row[name])).reshape(-1, 4) for name in ("blocks", "blocks_now"))
    changed = np.flatnonzero((was != now).any(axis=1))
    size = BLOCK if len(was) < row["values"] else 1
    between = f"{changed.size} to {changed.size * size}" if size > 1 else f"{changed.size}"
    return f"{between} of {row['values']} values differ, the first in place {changed[0] * size} or after"


def main() -> int:
    """Make the patients and write the table."""
    with tempfile.TemporaryDirectory() as folder:
        table = hash_files(simulate_cohort(SPEC, Path(folder) / "cohort", SEED, truth_patients=TRUTH_PATIENTS))
    write_csv(table, HASHES)
    return 0


if __name__ == "__main__":
    sys.exit(main())
