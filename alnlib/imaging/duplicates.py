"""The same picture under two names: perceptual hashes and correlated thumbnails find copies, also changed ones.

What a copy between two splits means for a result is judged in `alneval.audit`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from joblib import Parallel, delayed
from scipy import fft, ndimage

from alnlib.imaging.clips import read_clip
from alnlib.imaging.crop import resample_to_square
from alnlib.imaging.read import read_image
from alnlib.imaging.volumes import read_volume

THUMBNAIL_PX = 64
MAX_HASH_DISTANCE = 12
"""Bits of 64 in which the hashes of a copy may differ. Changed copies differed in at most 12 (tests), and that is only a
first sieve: hashes of mammograms and CT slices of different patients are this close in 1 to 2 of 100 pairs."""

MIN_CORRELATION = 0.93
"""Least correlation of the detail of a copy. False alarms: of 566,107 pairs of different patients within one kind of
picture (stills, sweeps, mammograms, CT nodes and three MRI sequences of the simulated demo, 256 real ultrasound stills), as
they are and mirrored, none reached it; the largest were 0.89 (CT), 0.76 (mammograms), 0.48 (real stills), 0.35 (speckle)."""

PAIR_COLUMNS = ("first", "second", "mirrored", "identical", "hash_distance", "correlation")

_DETAIL_PX = 4.0  # standard deviation of the blur that is taken off, in pixels of the thumbnail
_LOCAL_PX = 6.0  # of the window in which contrast is evened out
_FLOOR = 0.6  # of the overall contrast, added to the local one so that an empty background stays quiet
_CHUNK = 2048


def read_picture(path: str | Path, modality: str) -> np.ndarray:
    """One gray picture (rows, columns) float32 of a file: a still as it is, of a sweep (USV) the middle frame, of a volume
    (MRI) the middle slice. Raises InputError, naming the file, if it cannot be read."""
    if modality == "USV":
        frames = read_clip(path).frames
        return frames[len(frames) // 2].astype(np.float32)
    if modality == "MRI":
        values = read_volume(path).values
        return values[len(values) // 2]
    return read_image(path).pixels


def thumbnails(images: pd.DataFrame, root: str | Path, *, n_jobs: int = 1) -> np.ndarray:
    """Pictures of the rows of an images table as (n, 64, 64) float32, stretched to a square.

    images: columns path (below root) and modality. n_jobs: threads that read files.
    """
    picture = Parallel(n_jobs=n_jobs, prefer="threads")(
        delayed(_thumbnail)(Path(root) / row.path, row.modality) for row in images.itertuples()
    )
    return np.stack(picture) if picture else np.empty((0, THUMBNAIL_PX, THUMBNAIL_PX), dtype=np.float32)


def picture_thumbnail(pixels: np.ndarray) -> np.ndarray:
    """One picture (rows, columns) as (64, 64) float32, for pictures that are not files."""
    return resample_to_square(pixels, THUMBNAIL_PX)


def picture_detail(thumbs: np.ndarray) -> np.ndarray:
    """(n, 64, 64) float32 of mean 0 and length 1: the thumbnails without their coarse layout, contrast evened out.

    Ultrasound scanners, breasts and chests look alike at arm's length; speckle, vessels and texture do not. Brightness and
    contrast drop out. The product of two details, summed, is their correlation. A picture without detail is all 0.
    """
    parts = [_detail(thumbs[at : at + _CHUNK]) for at in range(0, len(thumbs), _CHUNK)]
    return np.concatenate(parts) if parts else np.empty(thumbs.shape, dtype=np.float32)


def perceptual_hashes(detail: np.ndarray, *, mirrored: bool = False) -> np.ndarray:
    """(n,) uint64: which of the 64 lowest cosine frequencies without the zeroth (1 to 8 each way) are above their median.

    detail: (n, 64, 64) of `picture_detail`. mirrored: the hash of the left-right mirror image, in which odd horizontal
    frequencies change sign. The hash of the discrete cosine transform ("pHash", Zauner 2010, Implementation and
    benchmarking of perceptual image hash functions), here on detail instead of gray values.
    """
    if not len(detail):
        return np.empty(0, dtype=np.uint64)
    waves = fft.dctn(detail, axes=(1, 2), norm="ortho")[:, 1:9, 1:9]
    if mirrored:
        waves = waves * np.where(np.arange(1, 9) % 2, -1.0, 1.0)
    flat = waves.reshape(len(detail), 64)
    above = flat > np.median(flat, axis=1, keepdims=True)
    return np.packbits(above, axis=1).view(">u8").ravel().astype(np.uint64)


def find_duplicates(
    thumbs: np.ndarray,
    patient_ids: Sequence[str] | None = None,
    *,
    mirror: bool = True,
    max_distance: int = MAX_HASH_DISTANCE,
    min_correlation: float = MIN_CORRELATION,
    on_block: Callable[[int, int], None] | None = None,
) -> pd.DataFrame:
    """Pairs of pictures that are the same one: PAIR_COLUMNS, the most alike first; first and second are positions.

    thumbs: (n, 64, 64). patient_ids: (n,); pairs of one patient are left out (a sequence and its neighbor, two views); None:
    all pairs count. mirror: also look for left-right mirror images. identical: the thumbnails are equal to the last bit,
    which copies of a file are, whatever their format. Found again after halving, enlarging, JPEG, contrast and gamma
    changes and moderate noise, alone or together; not after cropping, turning or shifting. Coarse pictures (80 pixels)
    shrunk to a third or with noise of 5 % of the range can be missed. Pictures without any detail are never paired.
    Hashes are compared in blocks: O(n^2) bit counts, of which 10,000 pictures take seconds. on_block(done, total).
    """
    detail = picture_detail(np.asarray(thumbs, dtype=np.float32))
    told = np.flatnonzero(np.abs(detail).max(axis=(1, 2), initial=0) > 0)
    detail = detail[told].reshape(len(told), THUMBNAIL_PX**2)
    whose = np.arange(len(thumbs)) if patient_ids is None else pd.factorize(np.asarray(patient_ids, dtype=object))[0]
    whose = whose[told]
    turned = detail.reshape(-1, THUMBNAIL_PX, THUMBNAIL_PX)
    hashes = [perceptual_hashes(turned)]
    hashes += [perceptual_hashes(turned, mirrored=True)] if mirror else []
    rows = []
    n_blocks = -(-len(told) // _CHUNK)
    for block in range(n_blocks):
        start = block * _CHUNK
        here = slice(start, min(start + _CHUNK, len(told)))
        for is_mirrored, other in enumerate(hashes):
            distance = np.bitwise_count(hashes[0][here, None] ^ other[None, start:])
            near = distance <= max_distance
            near &= whose[here, None] != whose[None, start:]
            near &= np.arange(here.stop - start)[:, None] < np.arange(len(told) - start)[None]
            first, second = np.nonzero(near)
            correlation = _correlations(detail, first + start, second + start, bool(is_mirrored))
            for at in np.flatnonzero(correlation >= min_correlation):
                a, b = int(told[first[at] + start]), int(told[second[at] + start])
                same = not is_mirrored and np.array_equal(thumbs[a], thumbs[b])
                bits = int(distance[first[at], second[at]])
                rows.append((a, b, bool(is_mirrored), same, bits, float(correlation[at])))
        if on_block is not None:
            on_block(block + 1, n_blocks)
    found = pd.DataFrame(rows, columns=list(PAIR_COLUMNS))
    # a picture that is its own mirror image would be listed twice
    found = found.sort_values(["correlation", "first", "second"], ascending=[False, True, True], ignore_index=True)
    return found.drop_duplicates(["first", "second"], ignore_index=True)


def _thumbnail(path: Path, modality: str) -> np.ndarray:
    return picture_thumbnail(read_picture(path, modality))


def _detail(thumbs: np.ndarray) -> np.ndarray:
    values = thumbs.astype(np.float64)
    span = np.ptp(values, axis=(1, 2), keepdims=True)
    values = (values - values.min(axis=(1, 2), keepdims=True)) / np.where(span > 0, span, 1.0)
    fine = values - ndimage.gaussian_filter(values, (0, _DETAIL_PX, _DETAIL_PX), mode="nearest")
    local = np.sqrt(ndimage.gaussian_filter(fine**2, (0, _LOCAL_PX, _LOCAL_PX), mode="nearest").clip(0))
    overall = np.sqrt((fine**2).mean(axis=(1, 2), keepdims=True))
    even = fine / np.maximum(local + _FLOOR * overall, 1e-12)
    even -= even.mean(axis=(1, 2), keepdims=True)
    length = np.sqrt((even**2).sum(axis=(1, 2), keepdims=True))
    return np.where(span > 0, even / np.where(length > 0, length, 1.0), 0.0).astype(np.float32)


def _correlations(detail: np.ndarray, first: np.ndarray, second: np.ndarray, mirrored: bool) -> np.ndarray:
    """(pairs,) float32; detail: (n, 64 * 64)."""
    result = np.empty(len(first), dtype=np.float32)
    for at in range(0, len(first), _CHUNK):
        part = slice(at, at + _CHUNK)
        other = detail[second[part]]
        if mirrored:
            other = other.reshape(-1, THUMBNAIL_PX, THUMBNAIL_PX)[:, :, ::-1].reshape(len(other), -1)
        result[part] = np.einsum("ij,ij->i", detail[first[part]], other)
    return result
