"""Files that appear whole or not at all, and their checksums.

What the files mean is the business of the modules that write them.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

CSV_FLOAT_FORMAT = "%.8g"
COLORS, EXACT_COLORS = 256, 64

MOST_TABLE_BYTES, MOST_ROWS = 2**28, 1_000_000
"""Of a table that somebody sends, before it is read; a workbook counts unpacked."""

FORMULA = re.compile(r"[=@\t\r]|[+-].*(\w\(|[|!])", re.DOTALL)
"""How a cell begins that a spreadsheet would compute: = and @, and + and - where a call, a program or another sheet follows.
Signs alone, as of a receptor (+, -, +/-), and negative numbers are none."""


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yield a temporary sibling of `path`; rename it to `path` on success, remove it on failure. Makes parent folders."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}-{threading.get_ident()}.part{path.suffix}")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(text: str, path: str | Path) -> Path:
    """Write UTF-8 text with Unix newlines, whole or not at all."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")
    return Path(path)


def write_csv(frame: pd.DataFrame, path: str | Path) -> Path:
    """Write a frame without its index, floats to eight significant digits, whole or not at all.

    Text that a spreadsheet would compute (`FORMULA`) gets an apostrophe before it; tables that are read here refuse such text, so
    none of them changes by this.
    """
    texts = [place for place, dtype in enumerate(frame.dtypes) if dtype.kind not in "biufcmM"]
    frame = frame.rename(columns=_inert)
    for place in texts:
        frame.isetitem(place, frame.iloc[:, place].map(_inert))
    return write_text(frame.to_csv(index=False, float_format=CSV_FLOAT_FORMAT, lineterminator="\n"), path)


def _inert(cell: Any) -> Any:
    return f"'{cell}" if isinstance(cell, str) and FORMULA.match(cell) else cell


def write_json(value: Any, path: str | Path) -> Path:
    """Write JSON with sorted keys, indented, whole or not at all. NaN and infinity raise ValueError."""
    return write_text(json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n", path)


def too_large(path: Path) -> str:
    """What is wrong with a table that is larger than `MOST_TABLE_BYTES`, "" if it is not, is no file or no workbook."""
    size = path.stat().st_size if path.is_file() else 0
    if path.suffix.lower() in (".xlsx", ".xlsm") and zipfile.is_zipfile(path):
        with suppress(zipfile.BadZipFile), zipfile.ZipFile(path) as archive:
            size = max(size, sum(member.file_size for member in archive.infolist()))
    return f"{size:,} bytes, and {MOST_TABLE_BYTES:,} are read" if size > MOST_TABLE_BYTES else ""


def palette_png(content: bytes) -> bytes:
    """A PNG with at most 256 colors, which halves the size of a figure and can hardly be told from it; no metadata is kept.

    The 64 most frequent colors, those of lines, areas and letters among them, stay as they are to the bit; of the others,
    blends at edges and the shades of pictures, 192 are chosen by median cut (Heckbert 1982, Comput Graph 16:297) and every
    color gets the nearest of all. Transparency becomes white.
    """
    from PIL import Image  # only figures need them
    from scipy.spatial import KDTree

    with Image.open(io.BytesIO(content)) as picture:
        flat = Image.new("RGB", picture.size, "white")
        rgba = picture.convert("RGBA")
        flat.paste(rgba, mask=rgba.getchannel("A"))
    packed = _packed(np.asarray(flat))
    first = np.flatnonzero(np.diff(packed, prepend=~packed[:1]))  # of each run of one color, as most of a figure is
    colors, places = np.unique(packed[first], return_inverse=True)
    lengths, kept = np.diff(first, append=packed.size), _unpacked(colors)
    if len(colors) > COLORS:
        counts = np.bincount(places, lengths)
        order = np.argsort(-counts, kind="stable")
        rare = order[EXACT_COLORS:]
        repeats = np.ceil(np.sqrt(counts[rare])).astype(int)  # a frequent shade counts for more
        left = Image.fromarray(np.repeat(kept[rare], repeats, axis=0)[None])
        cut = left.quantize(COLORS - EXACT_COLORS, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
        shades = np.asarray(cut.getpalette(), np.uint8).reshape(-1, 3)[: COLORS - EXACT_COLORS]
        chosen = np.unique(np.concatenate([kept[order[:EXACT_COLORS]], shades]), axis=0)
        places, kept = KDTree(chosen).query(kept)[1][places], chosen
    pixels = np.repeat(places.astype(np.uint8), lengths).reshape(flat.height, flat.width)
    indexed = Image.fromarray(pixels, "P")
    indexed.putpalette(kept.astype(np.uint8).tobytes())
    stream = io.BytesIO()
    indexed.save(stream, "PNG", optimize=True)
    return stream.getvalue()


def _packed(pixels: np.ndarray) -> np.ndarray:
    """One integer per RGB pixel, in the order of rows."""
    red, green, blue = (pixels[..., channel].astype(np.uint32).ravel() for channel in range(3))
    return red << 16 | green << 8 | blue


def _unpacked(colors: np.ndarray) -> np.ndarray:
    """(n, 3) bytes of packed colors."""
    return (colors[:, None] >> [16, 8, 0] & 255).astype(np.uint8)


def sha256_file(path: str | Path) -> str:
    """Hexadecimal SHA-256 of a file's bytes."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
