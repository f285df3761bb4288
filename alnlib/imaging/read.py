"""One two-dimensional image or mask from a DICOM, PNG, JPEG or TIFF file, as grey values with their pixel spacing.

Nothing is windowed, scaled or cropped here; volumes and video are read elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pydicom
from PIL import Image, UnidentifiedImageError
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError
from pydicom.pixels import apply_color_lut, apply_rescale, pixel_array

from alnlib.errors import InputError

LUMA = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in grey (ITU-R BT.601)."""

CENTIMETRE = 3
"""Code of cm in Physical Units X/Y Direction (DICOM PS3.3 C.8.5.5)."""

DICOM_SUFFIXES = (".dcm", ".dicom", ".ima")


@dataclass(frozen=True)
class Image2D:
    """A grey image. pixels: (rows, columns) float32 in the file's own units (HU where the file rescales to HU).

    spacing_mm: (row, column) or None where the file does not say. modality: DICOM code (US, CT, MG, MR ...) or None.
    """

    pixels: np.ndarray
    spacing_mm: tuple[float, float] | None
    modality: str | None
    path: Path

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, columns)."""
        return self.pixels.shape

    def __repr__(self) -> str:
        spacing = "unknown spacing" if self.spacing_mm is None else "{:.4g} x {:.4g} mm".format(*self.spacing_mm)
        low, high = float(self.pixels.min()), float(self.pixels.max())
        rows, columns = self.shape
        return f"Image2D({self.path.name}: {rows} x {columns}, {spacing}, {self.modality}, {low:g} to {high:g})"


def read_image(path: str | Path, *, spacing_mm: tuple[float, float] | None = None, frame: int | None = None) -> Image2D:
    """Read one image as float32 grey values.

    DICOM: modality rescale applied; MONOCHROME1 inverted over the range of its stored bits, so that bright is always
    dense or echogenic; color turned to grey; spacing from Pixel Spacing, else the ultrasound region in cm, else Imager
    Pixel Spacing (at the detector, not corrected for magnification), else Nominal Scanned Pixel Spacing. PNG, JPEG,
    TIFF: 8 or 16 bits, alpha ignored, three equal channels collapsed, color turned to grey by BT.601 luma; no spacing.
    spacing_mm: (row, column); overrides the file's. frame: which frame of a multi-frame file, from 0; such a file
    without it is an error. Raises InputError, naming the file and the remedy, for a missing, empty, truncated or
    unreadable file or a wrong frame.
    """
    path = Path(path)
    if spacing_mm is not None:
        spacing_mm = _checked_spacing(spacing_mm)
    if _is_dicom(path):
        dataset = _read_dicom(path)
        pixels = _dicom_pixels(dataset, path, frame)
        return Image2D(pixels, spacing_mm or _dicom_spacing(dataset), dataset.get("Modality") or None, path)
    return Image2D(_grey(_read_picture(path, frame)), spacing_mm, None, path)


def read_mask(path: str | Path, shape: tuple[int, int] | None = None) -> np.ndarray:
    """(rows, columns) bool: any non-zero pixel of any color channel (alpha is ignored).

    shape: of the image it belongs to. Raises InputError if the sizes differ, or as `read_image` does. An empty mask is
    returned as it is; `crop.box_from_mask` refuses it.
    """
    path = Path(path)
    pixels = _dicom_pixels(_read_dicom(path), path, None) if _is_dicom(path) else _read_picture(path, None)
    mask = (pixels != 0).any(axis=-1) if pixels.ndim == 3 else pixels != 0
    if shape is not None and mask.shape != tuple(shape):
        raise InputError(
            f"{path}: the mask has {mask.shape[0]} x {mask.shape[1]} pixels, its image {shape[0]} x {shape[1]}; "
            "export the mask at the size of the image, or correct mask_path in images.csv"
        )
    return mask


def _checked_spacing(spacing_mm: tuple[float, float]) -> tuple[float, float]:
    row, column = (float(step) for step in spacing_mm)
    if not (np.isfinite([row, column]).all() and row > 0 and column > 0):
        raise InputError(f"pixel spacing {spacing_mm} is not two positive numbers in mm; give row and column spacing")
    return row, column


def _is_dicom(path: Path) -> bool:
    """By content where there is any; a DICOM file without preamble is known by its suffix. Checks that the file can be opened."""
    if not path.exists():
        raise InputError(f"{path}: no such file; correct the path in images.csv or put the file there")
    if not path.is_file():
        raise InputError(f"{path}: is a folder, not an image; name one file")
    try:
        with path.open("rb") as stream:
            start = stream.read(132)
    except OSError as error:
        raise InputError(f"{path}: cannot be opened ({error.strerror}); check its permissions") from error
    if not start:
        raise InputError(f"{path}: the file is empty; fetch or export it again")
    return start[128:] == b"DICM" or path.suffix.lower() in DICOM_SUFFIXES


def _decode(path: Path, what: str, decode: Callable[[], np.ndarray | Dataset]) -> np.ndarray | Dataset:
    """Run a decoder of other people's bytes; whatever it raises means that the file is at fault."""
    try:
        return decode()
    except InputError:
        raise
    except MemoryError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(
            f"{path}: {what} cannot be read ({reason[:200]}); the file may be truncated or of an unsupported kind: "
            "fetch or export it again, or leave the image out of images.csv"
        ) from error


def _read_dicom(path: Path) -> Dataset:
    def decode() -> Dataset:
        try:
            return pydicom.dcmread(path)
        except InvalidDicomError:
            dataset = pydicom.dcmread(path, force=True)
            if "Rows" not in dataset:
                raise
            dataset.file_meta.setdefault("TransferSyntaxUID", pydicom.uid.ImplicitVRLittleEndian)
            return dataset

    return _decode(path, "the DICOM header", decode)


def _dicom_pixels(dataset: Dataset, path: Path, frame: int | None) -> np.ndarray:
    """(rows, columns) float32."""
    if "PixelData" not in dataset:
        raise InputError(
            f"{path}: this DICOM object holds no pixels ({dataset.get('Modality', 'unknown modality')}); "
            "name an image object, not a report or presentation state"
        )
    frames = int(dataset.get("NumberOfFrames") or 1)
    index = _checked_frame(path, frame, frames)
    photometric = dataset.get("PhotometricInterpretation", "")

    def decode() -> np.ndarray:
        stored = pixel_array(dataset, index=index)
        if photometric == "PALETTE COLOR":
            return apply_color_lut(stored, dataset)
        if photometric == "MONOCHROME1":
            bits = int(dataset.BitsStored)
            top = 2 ** (bits - 1) - 1 if dataset.PixelRepresentation else 2**bits - 1
            bottom = -(2 ** (bits - 1)) if dataset.PixelRepresentation else 0
            stored = top + bottom - stored.astype(np.int64)
        return apply_rescale(stored, dataset) if stored.ndim == 2 else stored

    return _grey(_decode(path, "the DICOM image", decode))


def _checked_frame(path: Path, frame: int | None, frames: int) -> int:
    if frame is None and frames > 1:
        raise InputError(f"{path}: holds {frames} frames where one image is expected; say which (frame=0 is the first)")
    index = 0 if frame is None else frame
    if not 0 <= index < frames:
        raise InputError(f"{path}: has no frame {index}; it holds {frames}, counted from 0")
    return index


def _dicom_spacing(dataset: Dataset) -> tuple[float, float] | None:
    spacing = _usable(dataset.get("PixelSpacing"))
    if spacing is None:
        spacing = _region_spacing(dataset)
    for keyword in ("ImagerPixelSpacing", "NominalScannedPixelSpacing"):
        spacing = spacing or _usable(dataset.get(keyword))
    return spacing


def _usable(value: object) -> tuple[float, float] | None:
    try:
        row, column = (abs(float(step)) for step in value)
    except (TypeError, ValueError):
        return None
    return (row, column) if np.isfinite([row, column]).all() and row > 0 and column > 0 else None


def _region_spacing(dataset: Dataset) -> tuple[float, float] | None:
    """From the largest two-dimensional ultrasound region calibrated in cm (others are traces, in seconds or cm/s)."""
    best, best_area = None, 0
    for region in dataset.get("SequenceOfUltrasoundRegions") or ():
        units = region.get("PhysicalUnitsXDirection"), region.get("PhysicalUnitsYDirection")
        if units != (CENTIMETRE, CENTIMETRE):
            continue
        spacing = _usable((region.get("PhysicalDeltaY"), region.get("PhysicalDeltaX")))
        width = int(region.get("RegionLocationMaxX1", 0)) - int(region.get("RegionLocationMinX0", 0))
        height = int(region.get("RegionLocationMaxY1", 0)) - int(region.get("RegionLocationMinY0", 0))
        if spacing and (best is None or width * height > best_area):
            best, best_area = (10.0 * spacing[0], 10.0 * spacing[1]), width * height
    return best


def _read_picture(path: Path, frame: int | None) -> np.ndarray:
    """(rows, columns) or (rows, columns, 3), alpha dropped, in the file's own integer type."""

    def decode() -> np.ndarray:
        with Image.open(path) as picture:
            picture.seek(_checked_frame(path, frame, getattr(picture, "n_frames", 1)))
            if picture.mode in ("1", "LA", "La"):
                picture = picture.convert("L")
            elif picture.mode in ("P", "PA", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "LAB", "HSV"):
                picture = picture.convert("RGB")
            return np.array(picture)

    try:
        return _decode(path, "the picture", decode)
    except InputError as error:
        if isinstance(error.__cause__, UnidentifiedImageError):
            raise InputError(
                f"{path}: is neither DICOM nor a PNG, JPEG or TIFF picture; export it as one of these"
            ) from error
        raise


def _grey(pixels: np.ndarray) -> np.ndarray:
    """(rows, columns) float32; equal channels collapse, others are weighted by BT.601 luma."""
    if pixels.ndim == 2:
        return pixels.astype(np.float32)
    red, green, blue = (pixels[..., channel] for channel in range(3))
    if np.array_equal(red, green) and np.array_equal(red, blue):
        return red.astype(np.float32)
    return (LUMA[0] * red + LUMA[1] * green + LUMA[2] * blue).astype(np.float32)
