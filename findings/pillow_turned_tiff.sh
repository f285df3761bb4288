#!/usr/bin/env bash
# One would guess that a TIFF whose Orientation tag (274) asks for a quarter turn is opened upright, as Pillow has done since it
# turns TIFF files while loading them, and that compression plays no part. With compressed strips that is so. With uncompressed
# strips the size is exchanged before the pixels are read: rows of the file are laid into rows of another length, and what comes
# out is a picture of the right number of pixels in which nothing is where it was. No warning, no error.
# Why it matters here: scanned films, exported stills and masks are often uncompressed TIFF, phones and scanners write tag 274,
# and a mask and its image fall apart if only one of the two is compressed.
# Version: Pillow 13.0.0. Orientation 3 (half a turn) is right in both forms.
# Seen: tiff_lzw as expected, raw not, for orientations 6 and 8.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet pillow==13.0.0 numpy==2.3.5
cd "$work"
"$work/venv/bin/python" - <<'PYTHON'
import numpy as np
import PIL
from PIL import Image

stored = np.arange(60, dtype=np.uint8).reshape(6, 10)
upright = {3: stored[::-1, ::-1], 6: np.rot90(stored, -1), 8: np.rot90(stored)}
seen = {}
for orientation, expected in upright.items():
    for compression in ("tiff_lzw", "raw"):
        tags = Image.Exif()
        tags[274] = orientation
        Image.fromarray(stored).save("a.tif", exif=tags, compression=compression)
        with Image.open("a.tif") as picture:
            opened = np.array(picture)
        right = opened.shape == expected.shape and np.array_equal(opened, expected)
        seen[orientation, compression] = right
        print(f"Pillow {PIL.__version__}, orientation {orientation}, {compression}: {'as expected' if right else 'not'}")
        assert opened.size == stored.size
wrong = sorted(key for key, right in seen.items() if not right)
assert wrong == [(6, "raw"), (8, "raw")], wrong
PYTHON
echo "As described: uncompressed TIFF to be turned by a quarter comes out scrambled."
