"""CT node crops: Hounsfield units are what the test wrote, squares are cut by hand; then simulated and real slices."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

from alnlib.cohorts.folder import read_cohort
from alnlib.cohorts.schema import IMAGE_COLUMNS, parse_box
from alnlib.errors import InputError
from alnlib.imaging.lesions import crop, crop_outlines
from alnlib.imaging.spec import CropSpec
from alnsim import SimulationSpec, simulate_cohort
from tests.real_data import real_data


def write_ct(path: Path, hounsfield: np.ndarray, **attributes: object) -> Path:
    """hounsfield: (rows, columns) whole numbers from -1024, stored with an offset as scanners do; 0.5 mm pixels."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = CTImageStorage
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID = "2.25.1"
    dataset.Modality = "CT"
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.Rows, dataset.Columns = hounsfield.shape
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 12, 11, 0
    dataset.RescaleSlope, dataset.RescaleIntercept = "1", "-1024"
    dataset.PixelSpacing = ["0.5", "0.5"]
    for name, value in attributes.items():
        setattr(dataset, name, value)
    dataset.PixelData = (hounsfield + 1024).astype(np.uint16).tobytes()
    dataset["PixelData"].VR = "OW"
    dataset.save_as(path, enforce_file_format=True)
    return path


@pytest.fixture
def slice_hu(tmp_path):
    """60 x 80 pixels of fat with a node of 80 HU in rows 20 to 30 and columns 30 to 50, as a.dcm; its mask as a.png."""
    hounsfield = np.full((60, 80), -100)
    hounsfield[20:30, 30:50] = 80
    write_ct(tmp_path / "a.dcm", hounsfield)
    Image.fromarray(((hounsfield > 0) * 255).astype(np.uint8)).save(tmp_path / "a.png")
    return hounsfield


def spec_of(kind, side_px, size_mm=45.0, margin_fraction=0.15, level=40.0, width=400.0, picture_rescale=None):
    window = level - width / 2, level + width / 2
    return CropSpec("CT", side_px, kind, size_mm, margin_fraction, None, window, picture_rescale)


def crop_nodes(images, root, *settings, **options) -> np.ndarray:
    return crop(images, root, spec_of(*settings, **options))


def table(count: int = 1, **columns) -> pd.DataFrame:
    rows = {
        "image_id": [f"n{number}" for number in range(count)],
        "patient_id": ["007"] * count,
        "modality": ["CT"] * count,
        "path": ["a.dcm"] * count,
        "mask_path": ["a.png"] * count,
    }
    return pd.DataFrame(rows | columns).reindex(columns=list(IMAGE_COLUMNS)).astype({"box": "str"})


def gray(hounsfield: np.ndarray, level: float = 40.0, width: float = 400.0) -> np.ndarray:
    return np.round(255 * np.clip((np.asarray(hounsfield) - level + width / 2) / width, 0, 1))


def test_the_fixed_crop_is_the_window_of_hounsfield_units_round_the_middle_of_the_box(slice_hu, tmp_path):
    """20 mm are 40 pixels of 0.5 mm: rows 5 to 45 and columns 20 to 60, and nothing is resampled."""
    cut = crop_nodes(table(), tmp_path, "fixed_size", 40, size_mm=20.0)
    assert cut.shape == (1, 40, 40) and cut.dtype == np.uint8
    np.testing.assert_array_equal(cut[0], gray(slice_hu[5:45, 20:60]))
    lung = crop_nodes(table(), tmp_path, "fixed_size", 40, size_mm=20.0, level=-600, width=1500)
    np.testing.assert_array_equal(lung[0], gray(slice_hu[5:45, 20:60], -600, 1500))


def test_the_adjustable_crop_is_the_longer_edge_and_margin(slice_hu, tmp_path):
    """20 pixels and 15 %: 23, from half a pixel before 30 - 1.5 and 25 - 11.5."""
    cut = crop_nodes(table(), tmp_path, "adjustable_square", 23)
    np.testing.assert_array_equal(cut[0], gray(slice_hu[13:36, 28:51]))


def test_beyond_the_border_lies_air(slice_hu, tmp_path):
    corner = table(box=["0 0 10 10"], mask_path=[""])
    cut = crop_nodes(corner, tmp_path, "fixed_size", 40, size_mm=20.0)[0]
    assert (cut[:15] == 0).all() and (cut[:, :15] == 0).all()
    np.testing.assert_array_equal(cut[15:, 15:], gray(slice_hu[:25, :25]))
    lung = crop_nodes(corner, tmp_path, "fixed_size", 40, size_mm=20.0, level=-600, width=1500)[0]
    assert (lung[:15] == gray(-1000, -600, 1500)).all() and gray(-1000, -600, 1500) == 60
    assert (crop_nodes(corner, tmp_path, "adjustable_square", 20, margin_fraction=1.0)[0][:5] == 0).all()


def test_the_box_of_the_table_comes_before_the_mask_and_rows_keep_their_order(slice_hu, tmp_path):
    rows = table(3, box=["", "22 44 32 54", "1 1 9 9"], modality=["CT", "CT", "US"])
    crops = crop_nodes(rows, tmp_path, "fixed_size", 16, size_mm=8.0)
    assert len(crops) == 2
    np.testing.assert_array_equal(crops[1], gray(slice_hu[19:35, 41:57]))
    np.testing.assert_array_equal(crop_nodes(rows.iloc[::-1], tmp_path, "fixed_size", 16, size_mm=8.0)[::-1], crops)
    assert crop_nodes(rows.head(0), tmp_path, "fixed_size", 16).shape == (0, 16, 16)


def test_twice_the_pixel_is_twice_as_small_in_the_fixed_crop_and_the_same_in_the_adjustable_one(slice_hu, tmp_path):
    rows = table(2, pixel_spacing_mm=["0.5 0.5", "0.25 0.25"])
    fixed = crop_nodes(rows, tmp_path, "fixed_size", 64, size_mm=14.0)
    bright = (fixed > 150).mean(axis=(1, 2))
    assert bright[0] == pytest.approx(4 * bright[1], rel=0.1)
    np.testing.assert_array_equal(*crop_nodes(rows, tmp_path, "adjustable_square", 64))


def test_a_picture_needs_its_slope_and_intercept(slice_hu, tmp_path):
    """8 bits over [-1024, 3071], as public slices come: right to half a step of 16 HU, a tenth of which the window shows."""
    slope = 4095 / 255
    Image.fromarray(np.rint((slice_hu + 1024) / slope).astype(np.uint8)).save(tmp_path / "b.png")
    rows = table(path=["b.png"], pixel_spacing_mm=["0.5 0.5"])
    cut = crop_nodes(rows, tmp_path, "fixed_size", 40, size_mm=20.0, picture_rescale=(slope, -1024))
    np.testing.assert_allclose(cut[0], gray(slice_hu[5:45, 20:60]), atol=255 * 0.5 * slope / 400 + 0.5)
    with pytest.raises(InputError, match=r"^patient 007: image n0: .*b.png is a picture.*picture_rescale"):
        crop_nodes(rows, tmp_path, "fixed_size", 40)


@pytest.mark.parametrize(
    ("columns", "kind", "reason"),
    [
        ({"mask_path": [None]}, "fixed_size", "a.dcm has neither box nor mask"),
        ({"mask_path": [None]}, "adjustable_square", "a.dcm has neither box nor mask"),
        ({"mask_path": ["empty.png"]}, "fixed_size", "empty.png: the mask is empty"),
        ({"mask_path": ["small.png"]}, "fixed_size", "the mask has 6 x 6 pixels"),
        ({"path": ["bare.dcm"]}, "fixed_size", "bare.dcm has no pixel spacing.*pixel_spacing_mm"),
        ({"path": ["mr.dcm"]}, "fixed_size", "mr.dcm is MR, not CT"),
        ({"path": ["gone.dcm"]}, "fixed_size", "gone.dcm: no such file"),
        ({"box": ["0 0 61 10"]}, "fixed_size", "reaches outside the image of 60 x 80"),
        ({"box": ["0 0 61 10"]}, "adjustable_square", "reaches outside the image of 60 x 80"),
        ({"box": ["70 0 90 10"]}, "fixed_size", "reaches outside the image of 60 x 80"),
    ],
)
def test_what_is_wrong_is_named_with_patient_image_and_remedy(columns, kind, reason, slice_hu, tmp_path):
    write_ct(tmp_path / "mr.dcm", slice_hu, Modality="MR")
    write_ct(tmp_path / "bare.dcm", slice_hu, PixelSpacing=None)
    Image.fromarray(np.zeros((60, 80), np.uint8)).save(tmp_path / "empty.png")
    Image.fromarray(np.eye(6, dtype=np.uint8)).save(tmp_path / "small.png")
    with pytest.raises(InputError, match=f"^patient 007: image n0: .*{reason}"):
        crop_nodes(table(**columns), tmp_path, kind, 16)


def test_nodes_of_a_simulated_cohort(tmp_path):
    """Truth: masks of the simulator. FSC keeps the node's size in mm; ASC fills the square; tissue is brighter than fat."""
    spec = SimulationSpec(
        n_primary=4, n_external=1, n_mri=0, n_video_primary=0, n_video_external=0, n_ct=4, n_ct_nodes=8,
        n_mammography=0, n_neoadjuvant=0, image_rows=96, image_columns=96,
    )  # fmt: skip
    cohort = read_cohort(simulate_cohort(spec, tmp_path / "cohort", seed=5, truth_patients=1000))
    rows = cohort.images.query("modality == 'CT'")
    fixed = crop_nodes(cohort.images, cohort.root, "fixed_size", 64)
    adjusted = crop_nodes(cohort.images, cohort.root, "adjustable_square", 64)
    assert fixed.shape == adjusted.shape == (8, 64, 64)
    for row, near in zip(rows.itertuples(), adjusted, strict=True):
        mask = np.asarray(Image.open(cohort.root / row.mask_path)) > 0
        row0, col0, row1, col1 = parse_box(row.box)
        aspect = min(row1 - row0, col1 - col0) / max(row1 - row0, col1 - col0)
        filled = mask[row0:row1, col0:col1].mean() * aspect / 1.15**2
        assert (near > 102).mean() == pytest.approx(filled, abs=0.25)  # 0 HU lies between fat and cortex
    assert fixed.mean() < adjusted.mean()


def test_public_ct_slices_with_their_boxes():
    """DeepLesion: 50 lesions of every kind on 8-bit slices; the pixel spacing is not in the sample, so 0.8 mm is assumed.

    Truth: pixels of the slice itself, windowed here by hand; the adjustable crop of a lesion is mostly neither air nor bone.
    """
    folder = real_data("ct_deeplesion50")
    boxes = pd.read_csv(folder / "boxes.csv", dtype={"patient": str})
    edges = np.c_[np.floor(boxes[["ymin_px", "xmin_px"]]), np.ceil(boxes[["ymax_px", "xmax_px"]])].astype(int)
    rows = pd.DataFrame(
        {
            "image_id": boxes["file"],
            "patient_id": boxes["patient"],
            "modality": "CT",
            "path": boxes["split"] + "/" + boxes["file"],
            "box": [" ".join(map(str, box)) for box in edges],
            "pixel_spacing_mm": "0.8 0.8",
        }
    ).reindex(columns=list(IMAGE_COLUMNS))
    slope = 4095 / 255
    fixed = crop_nodes(rows, folder, "fixed_size", 56, size_mm=44.8, picture_rescale=(slope, -1024))
    adjusted = crop_nodes(rows, folder, "adjustable_square", 56, picture_rescale=(slope, -1024))
    assert fixed.shape == adjusted.shape == (50, 56, 56)
    for row, box, near in zip(rows.itertuples(), edges, fixed, strict=True):
        picture = np.asarray(Image.open(folder / row.path).convert("L")).astype(float)
        first = [int(np.floor((low + high) / 2 - 28)) for low, high in zip(box[:2], box[2:], strict=True)]
        padded = np.pad(gray(picture * slope - 1024), 56)
        expected = padded[first[0] + 56 : first[0] + 112, first[1] + 56 : first[1] + 112]
        np.testing.assert_allclose(near, expected, atol=1)
    middle = adjusted[:, 20:36, 20:36].mean(axis=(1, 2))
    assert np.mean((middle > 30) & (middle < 225)) > 0.8


@pytest.mark.parametrize(("kind", "edge_mm"), [("fixed_size", 20.0), ("adjustable_square", 12.0)])
def test_outlines_lie_on_the_grid_of_the_crops(slice_hu, tmp_path, kind, edge_mm):
    """The node is 80 HU in fat of -100: with a window from -100 to 80, the crop is its own mask."""
    options = {"kind": kind, "side_px": 40, "size_mm": 20.0, "margin_fraction": 0.2}
    crops = crop_nodes(table(), tmp_path, level=-10, width=180, **options)
    masks, spacing = crop_outlines(table(), tmp_path, spec_of(**options))
    np.testing.assert_array_equal(masks, crops >= 128)
    assert 0 < masks.mean() < 1
    np.testing.assert_allclose(spacing, [[edge_mm / 40, edge_mm / 40]])


def test_a_node_without_a_mask_has_no_outline_and_no_spacing(slice_hu, tmp_path):
    masks, spacing = crop_outlines(table(mask_path=[None], box=["20 30 30 50"]), tmp_path, spec_of("fixed_size", 16))
    assert not masks.any() and np.isnan(spacing).all()
    assert crop_outlines(table().iloc[:0], tmp_path, spec_of("fixed_size", 16))[0].shape == (0, 16, 16)
