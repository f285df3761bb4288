"""The same picture under two names: perceptual hashes and correlated thumbnails find copies, also changed ones.

What a copy between two splits means for a result is judged in `alneval.audit`.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
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


def thumbnails(images: pd.DataFrame, root: str | Path, *, n_jobs: int = 1) -> np.ndarray:
    """The rows of an images table as (n, 64, 64) float32: stills as they are, of sweeps (USV) the middle frame, of volumes (MRI)
    the middle slice, each stretched to a square.

    images: columns path (below root) and modality. n_jobs: threads that read files. Raises InputError, naming a file that
    cannot be read.
    """
    pictures = Parallel(n_jobs=n_jobs, prefer="threads")(
        delayed(_thumbnail)(Path(root) / row.path, row.modality) for row in images.itertuples()
    )
    return np.stack(pictures) if pictures else np.empty((0, THUMBNAIL_PX, THUMBNAIL_PX), dtype=np.float32)


def picture_detail(thumbs: np.ndarray) -> np.ndarray:
    """(n, 64, 64) float32 of mean 0 and length 1: the thumbnails without their coarse layout, contrast evened out.

    Ultrasound scanners, breasts and chests look alike at arm's length; speckle, vessels and texture do not. Brightness and
    contrast drop out. The product of two details, summed, is their correlation. A picture without detail is all 0.
    """
    starts = range(0, max(len(thumbs), 1), _CHUNK)
    return np.concatenate([_detail(thumbs[at : at + _CHUNK]) for at in starts])


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
    min_correlation: float = MIN_CORRELATION,
) -> pd.DataFrame:
    """Pairs of pictures that are the same one: PAIR_COLUMNS, the most alike first; first and second are positions.

    thumbs: (n, 64, 64). patient_ids: (n,); pairs of one patient are left out (a sequence and its neighbor, two views); None:
    all pairs count. mirrored: left-right. identical: the thumbnails are equal to the last bit, which copies of a file are,
    whatever their format. Found again after halving, enlarging, JPEG, contrast and gamma changes and moderate noise, alone or
    together; not after cropping, turning or shifting. Coarse pictures (80 pixels) shrunk to a third or with noise of 5 % of
    the range can be missed. Pictures without any detail are never paired. Hashes are compared in blocks: O(n^2) bit counts, of
    which 10,000 pictures take seconds.
    """
    thumbs = np.asarray(thumbs, dtype=np.float32)
    detail = picture_detail(thumbs)
    told = np.flatnonzero(detail.any(axis=(1, 2)))
    detail = detail[told]
    whose = np.arange(len(thumbs)) if patient_ids is None else pd.factorize(np.asarray(patient_ids, dtype=object))[0]
    whose = whose[told]
    hashes = perceptual_hashes(detail), perceptual_hashes(detail, mirrored=True)
    found = []
    for start, mirrored in product(range(0, max(len(told), 1), _CHUNK), (False, True)):
        here = slice(start, start + _CHUNK)
        distance = np.bitwise_count(hashes[0][here, None] ^ hashes[mirrored][None, start:])
        near = (distance <= MAX_HASH_DISTANCE) & (whose[here, None] != whose[None, start:])
        near = np.argwhere(np.triu(near, 1))
        correlation = _correlations(detail, *(near + start).T, mirrored)
        near, correlation = near[correlation >= min_correlation], correlation[correlation >= min_correlation]
        first, second = told[near + start].T
        same = (thumbs[first] == thumbs[second]).all(axis=(1, 2)) & (not mirrored)
        bits = distance[tuple(near.T)].astype(int)
        columns = first, second, np.full(len(near), mirrored), same, bits, correlation.astype(float)
        found.append(pd.DataFrame(dict(zip(PAIR_COLUMNS, columns, strict=True))))
    found = pd.concat(found).sort_values(["correlation", "first", "second"], ascending=[False, True, True])
    # a picture that is its own mirror image would be listed twice
    return found.drop_duplicates(["first", "second"], ignore_index=True)


def _thumbnail(path: Path, modality: str) -> np.ndarray:
    if modality == "USV":
        frames = read_clip(path).frames
        picture = frames[len(frames) // 2]
    elif modality == "MRI":
        values = read_volume(path).values
        picture = values[len(values) // 2]
    else:
        picture = read_image(path).pixels
    return resample_to_square(picture, THUMBNAIL_PX)


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
    """(pairs,) float32; detail: (n, 64, 64)."""
    result = np.empty(len(first), dtype=np.float32)
    for at in range(0, len(first), _CHUNK):
        part = slice(at, at + _CHUNK)
        one, other = detail[first[part]], detail[second[part]]
        other = other[:, :, ::-1] if mirrored else other
        result[part] = np.einsum("ij,ij->i", one.reshape(len(one), -1), other.reshape(len(one), -1))
    return result
