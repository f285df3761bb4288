"""Segment sampling against its definition, sweep crops against squares cut by hand, and on a small simulated cohort."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from alnlib.cohorts.folder import read_cohort
from alnlib.cohorts.schema import IMAGE_COLUMNS, parse_box
from alnlib.errors import InputError
from alnlib.imaging.clips import key_frame, read_clip, segment_indices, segment_triples
from alnlib.imaging.lesions import crop
from alnlib.imaging.rows import key_frames
from alnlib.imaging.spec import KEY, CropSpec
from alnsim import SimulationSpec, simulate_cohort


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    spec = SimulationSpec(
        n_primary=4, n_external=2, n_mri=0, n_video_primary=2, n_video_external=1, n_ct=0, n_ct_nodes=0,
        n_mammography=0, n_neoadjuvant=0, image_rows=96, image_columns=96,
    )  # fmt: skip
    return read_cohort(simulate_cohort(spec, tmp_path_factory.mktemp("sweeps") / "cohort", seed=3, truth_patients=1000))


@pytest.fixture
def folder(tmp_path):
    """Sweeps as folders of frames of 40 x 60: six frames of random gray in a, nine in b."""
    for name, count in [("a", 6), ("b", 9)]:
        (tmp_path / name).mkdir()
        frames = np.random.default_rng(count).integers(0, 256, (count, 40, 60), dtype=np.uint8)
        for number, frame in enumerate(frames):
            Image.fromarray(frame).save(tmp_path / name / f"{number}.png")
    mask = np.zeros((40, 60), np.uint8)
    mask[10:20, 20:40] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    return tmp_path


def table(**columns) -> pd.DataFrame:
    rows = {
        "image_id": ["x", "y"],
        "patient_id": ["007", "008"],
        "modality": ["USV", "USV"],
        "path": ["a", "b"],
        "mask_path": ["mask.png", "mask.png"],
        "pixel_spacing_mm": ["0.5 0.5", "0.5 0.5"],
    }
    return pd.DataFrame(rows | columns).reindex(columns=list(IMAGE_COLUMNS)).astype({"box": "str"})


def crop_sweeps(images, root, n_frames=None, **options) -> np.ndarray:
    return crop(images, root, CropSpec("USV", **({"size_mm": 38.0, "frames": n_frames} | options)))


def key_frame_crops(images, root, **options) -> np.ndarray:
    return crop_sweeps(images, root, KEY, **options)


def cut(folder: Path, frames: np.ndarray, box: str, **options) -> np.ndarray:
    """The crops of one sweep of these frames."""
    (folder / "c").mkdir()
    for number, frame in enumerate(frames):
        Image.fromarray(frame).save(folder / "c" / f"{number}.png")
    return crop_sweeps(table(path=["c", "c"], box=[box, box], mask_path=[None, None]).head(1), folder, **options)[0]


def test_middle_frames_of_equal_segments():
    """By hand: 24 frames in 8 segments of 3, 16 in segments of 2 (the earlier of two), 10 in 4 of 2, 3, 2 and 3."""
    np.testing.assert_array_equal(segment_indices(24, 8), [1, 4, 7, 10, 13, 16, 19, 22])
    np.testing.assert_array_equal(segment_indices(16, 8), np.arange(0, 16, 2))
    np.testing.assert_array_equal(segment_indices(10, 4), [0, 3, 5, 8])
    np.testing.assert_array_equal(segment_indices(8, 8), np.arange(8))
    np.testing.assert_array_equal(segment_indices(9, 1), [4])


def test_each_middle_frame_stands_between_its_neighbors():
    """By hand: segments of 3 frames are the triples themselves; at the ends of a clip the frame stands for its neighbor."""
    np.testing.assert_array_equal(segment_triples(24, 8), np.arange(24).reshape(8, 3))
    np.testing.assert_array_equal(segment_triples(3, 3), [[0, 0, 1], [0, 1, 2], [1, 2, 2]])
    np.testing.assert_array_equal(segment_triples(10, 4)[:, 1], segment_indices(10, 4))


@pytest.mark.parametrize("n_segments", [1, 2, 7, 8, 16])
@pytest.mark.parametrize("n_frames", [1, 2, 5, 8, 13, 100])
def test_frames_are_in_order_exist_and_repeat_only_in_short_clips(n_frames, n_segments):
    chosen = segment_indices(n_frames, n_segments)
    assert chosen.shape == (n_segments,)
    assert chosen.min() >= 0 and chosen.max() < n_frames
    assert (np.diff(chosen) >= (1 if n_frames >= n_segments else 0)).all()
    if n_frames < n_segments:  # every frame is used, as evenly as can be
        counts = Counter(chosen.tolist())
        assert len(counts) == n_frames and max(counts.values()) - min(counts.values()) <= 1


def test_numbers_below_one_are_refused():
    for numbers in [(0, 8), (8, 0)]:
        with pytest.raises(ValueError, match="at least 1"):
            segment_indices(*numbers)


@pytest.mark.parametrize(
    ("box", "options", "rows"),
    [
        ("12 20 22 40", {"margin_fraction": 0.0}, slice(7, 27)),
        ("12 20 22 40", {"kind": "fixed_size", "size_mm": 10.0}, slice(7, 27)),
    ],
)
def test_a_crop_is_the_square_round_the_box_in_every_frame(box, options, rows, tmp_path):
    """Gray runs from 0 to 255 over the clip and 1 % of pixels at each end; no resampling: the crop is the frames' own pixels."""
    frames = np.full((3, 40, 60), 128, np.uint8)
    frames[:, :, :3], frames[:, :, -3:] = 0, 255
    frames[1, 10:30, 20:40] = 51
    np.testing.assert_array_equal(cut(tmp_path, frames, box, side_px=20, **options), frames[:, rows, 20:40])


def test_frames_keep_their_brightness_against_each_other_and_the_border_is_black(tmp_path):
    frames = np.stack([np.full((40, 60), gray, np.uint8) for gray in (50, 100, 150)])
    crops = cut(tmp_path, frames, "0 0 20 20", side_px=40, margin_fraction=1.0)
    np.testing.assert_array_equal(crops[:, 15, 15], [0, 128, 255])
    assert (crops[:, :10] == 0).all() and (crops[:, :, :10] == 0).all() and crops[1:, 10:, 10:].all()


def test_the_rows_are_cropped_in_their_order_from_box_or_mask(folder):
    crops = crop_sweeps(table(), folder, side_px=16, n_frames=4)
    assert crops.shape == (2, 4, 16, 16) and crops.dtype == np.uint8
    backwards = crop_sweeps(table().iloc[::-1], folder, side_px=16, n_frames=4)
    np.testing.assert_array_equal(backwards[::-1], crops)
    boxed = table(box=["10 20 20 40"] * 2, mask_path=[None, None])
    np.testing.assert_array_equal(crop_sweeps(boxed, folder, side_px=16, n_frames=4), crops)
    whole = crop_sweeps(table().tail(1), folder, side_px=16)[0]
    np.testing.assert_array_equal(crops[1], whole[[0, 2, 4, 7]])
    stills = table(modality=["US", "USV"])
    np.testing.assert_array_equal(crop_sweeps(stills, folder, side_px=16, n_frames=4), crops[1:])
    assert crop_sweeps(table(modality=["US", "CT"]), folder, side_px=16, n_frames=4).shape == (0, 4, 16, 16)


def test_key_frame_crops_know_nothing_of_other_frames(folder):
    """Without a named key frame the middle one: 2 of six frames (the earlier of two), 4 of nine."""
    crops = key_frame_crops(table(), folder, side_px=16)
    assert crops.shape == (2, 16, 16) and crops.dtype == np.uint8
    for name, key in [("a", 2), ("b", 4)]:
        for number in set(range(6)) - {key}:
            Image.fromarray(np.full((40, 60), 7 * number, np.uint8)).save(folder / name / f"{number}.png")
    np.testing.assert_array_equal(key_frame_crops(table(), folder, side_px=16), crops)
    Image.fromarray(np.eye(40, 60, dtype=np.uint8) * 255).save(folder / "b" / "4.png")
    changed = key_frame_crops(table(), folder, side_px=16)
    np.testing.assert_array_equal(changed[0], crops[0])
    assert not np.array_equal(changed[1], crops[1])
    assert key_frame_crops(table().head(0), folder, side_px=16).shape == (0, 16, 16)


@pytest.mark.parametrize(
    ("columns", "options", "reason"),
    [
        ({"mask_path": [None, None]}, {}, "neither box nor mask.*leave the image out"),
        ({"pixel_spacing_mm": [None, None]}, {"kind": "fixed_size"}, "no pixel spacing.*pixel_spacing_mm"),
        ({"box": ["1 2 3 99", ""]}, {}, "reaches outside the image"),
        ({"box": ["0 1 2 3 9 9", ""]}, {}, "6 numbers where row0 col0 row1 col1"),
        ({"path": ["missing.avi", "b"]}, {}, "missing.avi: no such file"),
    ],
)
@pytest.mark.parametrize("frames", [None, KEY])
def test_what_is_missing_is_named_with_patient_and_remedy(frames, columns, options, reason, folder):
    with pytest.raises(InputError, match=f"^patient 007: image x: .*{reason}"):
        crop_sweeps(table(**columns), folder, frames, side_px=16, **options)


def test_sweeps_of_different_length_need_a_number_of_frames(folder):
    with pytest.raises(InputError, match=r"^patient 008: image y: .*b has 9 frames, a 6; .*\(frames\)"):
        crop_sweeps(table(), folder, side_px=16)


@pytest.mark.parametrize("kind", ["fixed_size", "adjustable_square"])
def test_sweeps_of_a_simulated_cohort(kind, cohort):
    """Truth: the simulator's mask of the key frame; the lesion is darker than the tissue beside it."""
    rows = cohort.images.query("modality == 'USV'")
    crops = crop_sweeps(cohort.images, cohort.root, kind=kind, side_px=48)
    stills = key_frame_crops(cohort.images, cohort.root, kind=kind, side_px=48)
    assert crops.shape == (3, 24, 48, 48) and stills.shape == (3, 48, 48)
    assert crop_sweeps(cohort.images, cohort.root, kind=kind, side_px=48, n_frames=8).shape == (3, 8, 48, 48)
    for row, sweep, still in zip(rows.itertuples(), crops, stills, strict=True):
        clip = read_clip(cohort.root / row.path)
        box = parse_box(row.box)
        key = key_frame(clip)
        assert key == clip.key_frame
        assert np.corrcoef(sweep[key].ravel(), still.ravel())[0, 1] > 0.99
        share = [(high - low) / 2 for low, high in zip(box[:2], box[2:], strict=True)]
        assert min(share) > 5  # the middle eighth of the crop lies within the lesion
        assert still[21:27, 21:27].mean() < still[:, [0, 1, -2, -1]].mean()


def test_key_frames_are_those_of_the_files(cohort, folder):
    images = cohort.images[cohort.images["modality"] == "USV"]
    frames, lengths, named = key_frames(images, cohort.root)
    clips = [read_clip(cohort.root / path) for path in images["path"]]
    assert frames.tolist() == [clip.key_frame for clip in clips] and None not in frames.tolist()
    assert lengths.tolist() == [len(clip.frames) for clip in clips] and named.all()
    frames, lengths, named = key_frames(table(), folder)
    assert (frames.tolist(), lengths.tolist()) == ([2, 4], [6, 9]), "the middle where a file names none"
    assert not named.any()
