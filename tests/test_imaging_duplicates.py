"""Copies of a picture are found, changed or not; other patients' pictures are not, however alike at arm's length.

Truth is planted: a copy is a copy because the test made it; pictures drawn from different random streams are none.
"""

from __future__ import annotations

import io
import time

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy import ndimage

from alnlib.imaging.crop import resample_to_square
from alnlib.imaging.duplicates import (
    MIN_CORRELATION,
    PAIR_COLUMNS,
    THUMBNAIL_PX,
    find_duplicates,
    perceptual_hashes,
    picture_detail,
    thumbnails,
)
from alnlib.imaging.read import read_image
from tests.real_data import real_data

SIDE = 220


def speckle(n: int, seed: int = 0) -> list[np.ndarray]:
    """Pictures of different patients on one scanner: the same bright layers and dark tumor place, speckle of their own."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:SIDE, :SIDE] / SIDE
    layers = 60 + 50 * np.cos(9 * y) * np.exp(-2 * y) - 40 * (((x - 0.5) ** 2 + (y - 0.5) ** 2) < 0.03)
    pictures = []
    for _ in range(n):
        scatter = ndimage.gaussian_filter(rng.normal(size=(2, SIDE, SIDE)), (0, 1.2, 2.0))
        envelope = np.hypot(*scatter)
        pictures.append(np.clip(layers * (0.3 + envelope / envelope.mean()), 0, 255).round().astype(np.float32))
    return pictures


def jpeg(picture: np.ndarray, quality: int) -> np.ndarray:
    stream = io.BytesIO()
    Image.fromarray(picture.clip(0, 255).astype(np.uint8)).save(stream, "JPEG", quality=quality)
    return np.asarray(Image.open(stream), dtype=np.float32)


def resized(picture: np.ndarray, factor: float) -> np.ndarray:
    side = round(SIDE * factor)
    return np.asarray(Image.fromarray(picture).resize((side, side), Image.Resampling.BICUBIC))


CHANGES = {
    "halved": lambda p, rng: resized(p, 0.5),
    "enlarged": lambda p, rng: resized(p, 1.6),
    "JPEG": lambda p, rng: jpeg(p, 30),
    "noise": lambda p, rng: p + rng.normal(0, 0.03 * 255, p.shape),
    "dimmed": lambda p, rng: 0.5 * p + 70,
    "clipped": lambda p, rng: np.clip(1.3 * p - 20, 0, 255),
    "gamma": lambda p, rng: 255 * (p / 255) ** 0.7,
    "all at once": lambda p, rng: jpeg(
        255 * (resized(p, 0.6).clip(0, 255) / 255) ** 1.3 + rng.normal(0, 5, resized(p, 0.6).shape), 50
    ),
}


def stack(pictures: list[np.ndarray]) -> np.ndarray:
    return np.stack([resample_to_square(picture, THUMBNAIL_PX) for picture in pictures])


def pairs(found: pd.DataFrame) -> set[tuple[int, int]]:
    return set(found[["first", "second"]].itertuples(index=False, name=None))


@pytest.mark.parametrize("mirrored", [False, True], ids=["as it is", "mirrored"])
@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_copy_is_found_and_nothing_else(change, mirrored):
    """Ten patients; the copies of three of them stand under new names behind."""
    pictures, rng = speckle(10), np.random.default_rng(1)
    copies = [CHANGES[change](picture[:, ::-1] if mirrored else picture, rng) for picture in pictures[:3]]
    found = find_duplicates(stack(pictures + copies))
    assert pairs(found) == {(0, 10), (1, 11), (2, 12)}
    assert (found["mirrored"] == mirrored).all()
    assert not found["identical"].any()
    assert list(found.columns) == list(PAIR_COLUMNS)


def test_speckle_of_different_patients_on_one_scanner_never_collides():
    """300 patients, 44,850 pairs, whose layout correlates by 0.5 and more; the largest detail correlation stays far off."""
    thumbs = stack(speckle(300, seed=7))
    plain = (thumbs - thumbs.mean(axis=(1, 2), keepdims=True)).reshape(300, -1)
    plain /= np.linalg.norm(plain, axis=1, keepdims=True)
    assert np.median((plain @ plain.T)[np.triu_indices(300, 1)]) > 0.5
    assert find_duplicates(thumbs, min_correlation=MIN_CORRELATION - 0.4).empty


def test_identical_means_equal_to_the_last_bit():
    pictures = speckle(3)
    found = find_duplicates(stack([*pictures, pictures[1].copy(), pictures[2] + np.float32(0.5)]))
    assert dict(zip(found["second"], found["identical"], strict=True)) == {3: True, 4: False}
    assert found["correlation"].min() > 0.999


def test_pairs_of_one_patient_do_not_count():
    pictures = speckle(3)
    thumbs = stack([*pictures, pictures[0], pictures[1]])
    assert pairs(find_duplicates(thumbs, ["a", "b", "c", "a", "d"])) == {(1, 4)}
    assert pairs(find_duplicates(thumbs)) == {(0, 3), (1, 4)}


def test_a_picture_that_is_its_own_mirror_image_is_listed_once():
    picture = speckle(1)[0]
    picture = picture + picture[:, ::-1]
    found = find_duplicates(stack([picture, picture]))
    assert len(found) == 1
    assert found["identical"].all()


def test_blank_pictures_are_no_duplicates_of_each_other():
    blank = np.zeros((2, 64, 64), dtype=np.float32)
    assert find_duplicates(np.concatenate([blank, blank + 3, stack(speckle(1))])).empty
    assert find_duplicates(np.empty((0, 64, 64))).empty


def test_the_mirrored_hash_is_the_hash_of_the_mirror_image():
    detail = picture_detail(stack(speckle(40)))
    turned = np.ascontiguousarray(detail[:, :, ::-1])
    assert (perceptual_hashes(detail, mirrored=True) == perceptual_hashes(turned)).mean() > 0.9
    assert np.bitwise_count(perceptual_hashes(detail, mirrored=True) ^ perceptual_hashes(turned)).max() <= 2
    assert (perceptual_hashes(detail) != perceptual_hashes(turned)).all()


def test_ten_thousand_pictures_take_seconds_not_hours():
    """A loop over 50 million pairs would take hours; the limit leaves a slow machine ten times what was measured (5 s)."""
    rng = np.random.default_rng(0)
    thumbs = rng.normal(size=(10_000, 64, 64)).astype(np.float32)
    thumbs[9_999] = 2 * thumbs[17] + 1
    started = time.perf_counter()
    found = find_duplicates(thumbs)
    assert time.perf_counter() - started < 60
    assert pairs(found) == {(17, 9_999)}


def test_thumbnails_of_files_follow_the_rows(tmp_path):
    pictures = speckle(3)
    for at, picture in enumerate(pictures):
        Image.fromarray(picture.astype(np.uint8)).save(tmp_path / f"{at}.png")
    Image.fromarray(pictures[0].astype(np.uint8)).save(tmp_path / "again.jpg", quality=60)
    images = pd.DataFrame({"path": ["0.png", "1.png", "2.png", "again.jpg"], "modality": "US"})
    thumbs = thumbnails(images, tmp_path, n_jobs=2)
    np.testing.assert_array_equal(thumbs[:3], stack(pictures))
    assert pairs(find_duplicates(thumbs)) == {(0, 3)}
    assert thumbnails(images.iloc[:0], tmp_path).shape == (0, 64, 64)


def test_256_real_ultrasound_stills_hold_no_false_alarm_and_every_planted_copy():
    """One still per patient (Pawlowska et al. 2024), 32,640 pairs; 20 JPEG copies at half size are planted."""
    folder = real_data("breast_lesions_usg", "BrEaST-Lesions_USG-images_and_masks")
    files = sorted(path for path in folder.glob("case*.png") if "_" not in path.stem)
    assert len(files) > 200
    pictures = [read_image(path).pixels for path in files]
    thumbs = stack(pictures)
    assert find_duplicates(thumbs, min_correlation=MIN_CORRELATION - 0.3).empty
    copies = []
    for picture in pictures[:20]:
        span = picture.max() - picture.min()
        rows, columns = picture.shape
        small = Image.fromarray((255 * (picture - picture.min()) / span).astype(np.uint8)).resize(
            (columns // 2, rows // 2)
        )
        copies.append(jpeg(np.asarray(small, dtype=np.float32), 50))
    found = find_duplicates(np.concatenate([thumbs, stack(copies)]))
    assert pairs(found) == {(at, len(files) + at) for at in range(20)}
