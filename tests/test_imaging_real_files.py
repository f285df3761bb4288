"""Every image file of the real-data folder, and every DICOM file that comes with pydicom, through the reader it belongs to.

Truth: the publishers' own tables and documentation (data README), facts that hold for any such picture (air, depth of
bits, no two readings of one picture), and SimpleITK as a second reader. Skipped, with the reason, where the files are absent.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pydicom
import pytest
import SimpleITK
from PIL import Image

from alnlib.errors import InputError
from alnlib.imaging.clips import read_clip
from alnlib.imaging.read import read_image, read_mask
from alnlib.imaging.volumes import read_volume, read_volume_mask
from tests.real_data import real_data

PYDICOM = Path(pydicom.__file__).parent / "data" / "test_files"
READERS = (read_image, read_clip, read_volume)


def refusals(path: Path) -> list[str]:
    """What each reader says that does not read the file; anything but an InputError is let through."""
    messages = []
    for read in READERS:
        try:
            read(path)
        except InputError as error:
            messages.append(str(error))
    return messages


def test_no_file_at_all_gets_past_a_reader_with_anything_but_a_named_remedy():
    """Tables, texts, PDFs and one picture or volume of each kind: wrong readers refuse, naming the file; one reads pictures."""
    folder = real_data("README.md").parent
    first_of_kind: dict[tuple[str, str], Path] = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        first_of_kind.setdefault((path.relative_to(folder).parts[0], path.suffix), path)
    for (_, suffix), path in first_of_kind.items():
        messages = refusals(path)
        assert all(str(path) in message for message in messages)
        picture = suffix in (".png", ".jpg", ".dcm", ".nrrd", ".gz", ".mp4", ".avi")
        assert len(messages) == len(READERS) - picture, path


def test_breast_ultrasound_stills_and_masks():
    """Pawlowska 2024: 256 stills of 8 bits, saved in color; each mask on the grid of its still; spacing in the sheet in cm."""
    folder = real_data("breast_lesions_usg")
    sheet = pd.read_excel(next(folder.glob("*.xlsx")))
    pictures = folder / "BrEaST-Lesions_USG-images_and_masks"
    gray = 0
    for case in sheet.to_dict("records"):
        spacing_mm = 10 * case["Pixel_size"]
        image = read_image(pictures / case["Image_filename"], spacing_mm=(spacing_mm, spacing_mm))
        height_mm, width_mm = np.multiply(image.pixels.shape, image.spacing_mm)
        assert 14 < height_mm < 80 and 35 < width_mm < 90, "depth, and a linear probe's width"
        assert 0 <= image.pixels.min() < image.pixels.max() <= 255 and image.modality is None
        gray += np.array_equal(image.pixels, np.rint(image.pixels))
        if isinstance(case["Mask_tumor_filename"], str):
            mask = read_mask(pictures / case["Mask_tumor_filename"], image.pixels.shape)
            assert 0 < mask.mean() < 0.7
    assert len(sheet) == 256 and gray >= 93, "93 stills have three equal channels, which collapse to whole numbers"


def test_the_three_channels_of_an_ultrasound_still_hold_its_gray():
    """case001 of the same set: where red, green and blue agree, gray is that number; elsewhere it lies between them."""
    folder = real_data("breast_lesions_usg", "BrEaST-Lesions_USG-images_and_masks")
    for path in sorted(folder.glob("case???.png"))[:40]:
        with Image.open(path) as picture:
            channels = np.array(picture.convert("RGBA"))[..., :3].astype(float)
        pixels, low, high = read_image(path).pixels, channels.min(axis=-1), channels.max(axis=-1)
        np.testing.assert_allclose(pixels[low == high], low[low == high], atol=1e-4)
        assert ((low - 1e-3 <= pixels) & (pixels <= high + 1e-3)).all()


def test_ct_pictures_in_hounsfield_units():
    """Yan 2018: 8 bits over [-1024, 3071] HU. Air outside the body, soft tissue near 40 HU inside, the lesion box within."""
    folder = real_data("ct_deeplesion50")
    boxes = pd.read_csv(folder / "boxes.csv")
    for row in boxes.to_dict("records"):
        picture = read_image(next(folder.rglob(row["file"])))
        assert picture.pixels.max() <= 255
        hu = picture.pixels * (4095 / 255) - 1024
        assert -1024 <= hu.min() <= -950 and 100 < hu.max() <= 3071, "air, and bone or contrast"
        body = hu[hu > -200]
        assert -120 < np.median(body) < 120, "fat to muscle"
        assert (
            0 <= row["ymin_px"] < row["ymax_px"] <= hu.shape[0] and 0 <= row["xmin_px"] < row["xmax_px"] <= hu.shape[1]
        )
    assert len(boxes) == 50


def test_mammograms_keep_their_sixteen_bits():
    """Shen 2021 (GMIC): four 16-bit views of 2944 x 1920, all turned so that the chest wall is at the left edge."""
    folder = real_data("mammo_gmic")
    for path in sorted((folder / "cropped").glob("*.png")):
        image = read_image(path)
        assert image.pixels.shape == (2944, 1920) and image.pixels.max() == 65535 and image.pixels.min() == 0
        assert len(np.unique(image.pixels)) > 2000, "8 bits would leave 256 shades"
        assert image.pixels[:, :20].mean() > 5000 and (image.pixels[:, -20:] == 0).all(), "tissue left, air right"
    for path in sorted((folder / "segmentation").glob("*.png")):
        view = read_image(folder / "cropped" / path.name.replace("_benign", ""))
        mask = read_mask(path, view.pixels.shape)
        assert 0 < mask.mean() < 0.01 and (view.pixels[mask] > 0).all(), "the lesion lies in the breast"


def test_duke_slices_of_a_prone_patient():
    """Saha 2018: breast MRI is taken prone, so columns grow to the right and rows to the front of the patient."""
    folder = real_data("duke", "dicom_sample")
    volume = read_volume(folder)
    assert volume.shape == (3, 512, 512) and volume.geometry.spacing_mm == pytest.approx((3, 0.5859, 0.5859))
    np.testing.assert_allclose(np.array(volume.geometry.direction)[:, :2].T, [[-1, 0, 0], [0, -1, 0]])
    assert volume.values.min() >= 0 and 255 < volume.values.max() < 4096, "more than 8 bits, unsigned"
    for file in sorted(folder.glob("*.dcm")):
        image = read_image(file)
        assert image.modality == "MR" and any(np.array_equal(image.pixels, plane) for plane in volume.values)


@pytest.mark.parametrize("case", ["brain1", "brain2", "breast1"])
def test_pyradiomics_cases_have_their_published_extremes(case):
    """baseline_firstorder.csv: smallest, largest and mean gray value within the mask of the unchanged image."""
    folder = real_data("pyradiomics")
    baseline = pd.read_csv(folder / "baseline" / "baseline_firstorder.csv", index_col="featureName")[case]
    image = read_volume(folder / f"{case}_image.nrrd")
    inside = image.values[read_volume_mask(folder / f"{case}_label.nrrd", image)]
    for name, value in (("Minimum", inside.min()), ("Maximum", inside.max()), ("Mean", inside.mean(dtype=float))):
        assert value == pytest.approx(float(baseline[f"original_firstorder_{name}"]), rel=1e-6)


def pydicom_files() -> list[Path]:
    """Files with pixels, documents, plans, damaged ones; without downloading those that pydicom keeps elsewhere."""
    return sorted(
        path for path in PYDICOM.rglob("*") if path.is_file() and path.suffix in (".dcm", "") and path.name != "README"
    )


@pytest.mark.filterwarnings("ignore::UserWarning")  # what pydicom has to say about files that are damaged on purpose
def test_every_dicom_file_of_pydicom_is_read_or_refused_by_name():
    read, refused = 0, {}
    for path in pydicom_files():
        try:
            header = pydicom.dcmread(path, force=True, stop_before_pixels=True)
            several = str(header.get("NumberOfFrames", 1)).isdigit() and int(header.get("NumberOfFrames") or 1) > 1
            pixels = read_clip(path).frames if several else read_image(path).pixels
        except InputError as error:
            assert str(path) in str(error)
            refused[path.name] = str(error)
            continue
        read += 1
        assert np.isfinite(pixels).all() and min(pixels.shape) >= 1
        if header.get("Modality") == "CT":
            assert pixels.min() >= -1024 and pixels.max() <= 3071, path
    assert read >= 85
    kept_out = {name for name in refused if not name.startswith("DICOMDIR")}
    images = {"MR_truncated.dcm", "badVR.dcm", "JPEG2000-embedded-sequence-delimiter.dcm"}
    assert images <= kept_out, "truncated, damaged header, broken code stream"
    for name in kept_out - images:
        assert (
            "holds no pixels" in refused[name]
            or "header cannot be read" in refused[name]
            or "Missing required" in refused[name]
        )


@pytest.mark.parametrize("name", ["RLE", "bigendian", "expb", "implicit", "jp2klossless", "jpeg_ls_lossless", "padded"])
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_one_mri_slice_in_eight_encodings_is_one_picture(name):
    image, same = read_image(PYDICOM / "MR_small.dcm"), read_image(PYDICOM / f"MR_small_{name}.dcm")
    np.testing.assert_array_equal(image.pixels, same.pixels)
    assert image.spacing_mm == same.spacing_mm == (0.3125, 0.3125) and image.modality == "MR"


@pytest.mark.parametrize("name", ["dcmtk_+eb+cr", "dcmtk_+eb+cy+n1", "dcmtk_+eb+cy+s4", "gdcm_KY", "jpeg_gdcm", "rle"])
def test_one_color_picture_in_many_encodings_is_one_gray(name):
    """Ten horizontal stripes, pure colors and grays, in RGB, YBR, lossy and lossless: away from edges the luma agrees."""
    stripes = read_image(PYDICOM / "SC_rgb_rle.dcm").pixels[5::10, 50]
    expected = [0.299 * 255, 0.299 * 255 + 0.701 * 127.5, 0.587 * 255]
    assert stripes[[0, 2]] == pytest.approx([expected[0], expected[2]], abs=1), "red and green"
    np.testing.assert_allclose(read_image(PYDICOM / f"SC_rgb_{name}.dcm").pixels[5::10, 50], stripes, atol=3)


def test_a_ct_series_of_pydicom_lies_where_simpleitk_puts_it():
    folder = PYDICOM / "dicomdirtests" / "98892001" / "CT5N"
    volume = read_volume(folder)
    image = SimpleITK.ReadImage(SimpleITK.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder)))
    np.testing.assert_array_equal(SimpleITK.GetArrayFromImage(image), volume.values)
    assert image.GetOrigin() == pytest.approx(volume.geometry.origin_mm)
    assert image.GetSpacing() == pytest.approx(volume.geometry.spacing_mm[::-1])
    assert volume.values.min() >= -1024 and volume.values.max() <= 3071


def test_the_examples_of_pydicom_are_what_their_headers_promise():
    """Ultrasound with palette, in RGB and as a JPEG sweep; MRI with an overlay."""
    palette = read_image(PYDICOM / "examples_palette.dcm")
    assert palette.pixels.shape == (350, 800) and palette.pixels.max() <= 255 and palette.modality == "US"
    sweep = read_clip(PYDICOM / "examples_ybr_color.dcm")
    assert sweep.frames.shape == (30, 240, 320) and sweep.frame_time_ms == pytest.approx(1000 / 30, abs=0.01)
    overlay = read_image(PYDICOM / "examples_overlay.dcm")
    assert overlay.pixels.shape == (300, 484) and overlay.pixels.max() < 4096, "the overlay is not burnt in"
