"""One two-dimensional image or mask from a DICOM, PNG, JPEG or TIFF file, as gray values with their pixel spacing.

Nothing is windowed, scaled or cropped here; volumes and video are read elsewhere.
"""

from __future__ import annotations

import math
import re
import zlib  # noqa: F401  before GDCM, whose own copy of zlib would else serve Pillow too and end the process over a PNG
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import gdcm
import numpy as np
import pydicom
import SimpleITK
from PIL import Image, TiffImagePlugin, UnidentifiedImageError
from pydicom import uid
from pydicom.dataset import Dataset
from pydicom.encaps import get_frame
from pydicom.errors import InvalidDicomError
from pydicom.pixels import apply_color_lut, apply_rescale, convert_color_space, pixel_array

from alnlib.errors import InputError
from alnlib.imaging.masks import EDGE_PX, JPEG_EDGE_PX, MAX_LABELS, drawn_lesion, without_specks

LUMA = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in gray (ITU-R BT.601)."""

CENTIMETER = 3
"""Code of cm in Physical Units X/Y Direction (DICOM PS3.3 C.8.5.5)."""

DICOM_SUFFIXES = (".dcm", ".dicom", ".ima")
JPEG_SUFFIXES = (".jpg", ".jpeg")

LOWEST_HU = -1024.0
"""Air of CT scanners with 12 bits. What lies below is filling around the field of view, not a measurement."""

AIR_HU = (LOWEST_HU, -200.0)
"""Between these lies what is seen of air, outside and in the lung; what is lowest of all may be filling."""

MOST_VALUES = 2**30
"""Of one file, as its header announces them: 4 GiB as float32, twice the largest CT of a whole body."""

PIXEL_ELEMENTS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")

# its warnings quote values, which may be names; what matters here of a header is checked here
pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE

MODALITIES = (
    "AU",
    "CR",
    "CT",
    "DX",
    "ES",
    "IO",
    "IVUS",
    "KO",
    "MG",
    "MR",
    "NM",
    "OP",
    "OPT",
    "OT",
    "PR",
    "PT",
    "REG",
    "RF",
)
MODALITIES += ("RTDOSE", "RTIMAGE", "RTPLAN", "RTSTRUCT", "SC", "SEG", "SM", "SR", "US", "XA", "XC")
COLORS = (
    "MONOCHROME1",
    "MONOCHROME2",
    "PALETTE COLOR",
    "RGB",
    "ARGB",
    "HSV",
    "CMYK",
    "XYB",
    "YBR_FULL",
    "YBR_FULL_422",
)
COLORS += ("YBR_PARTIAL_422", "YBR_PARTIAL_420", "YBR_ICT", "YBR_RCT")
"""What messages name of a header; any other text there may be one that tells who somebody is."""

READABLE_COLORS = ("MONOCHROME1", "MONOCHROME2", "PALETTE COLOR", "RGB", "YBR_FULL", "YBR_FULL_422")
JPEG_2000_COLORS = ("YBR_ICT", "YBR_RCT")
"""Exist in JPEG 2000 alone; the others are read under any transfer syntax (DICOM PS3.3 C.7.6.3.1.2)."""

WHITE_IS_ZERO, ONE_PLANE_PER_COLOR, SIGNED = 0, 2, 2
"""Photometric interpretation, planar configuration and sample format of TIFF (TIFF 6.0, sections 8 and 19)."""

INTEGER_ELEMENTS = ("NumberOfFrames", "Rows", "Columns", "BitsStored", "HighBit")
TEXT_ELEMENTS = ("Modality", "PhotometricInterpretation")

ADOBE_TRANSFORM = re.compile(rb"\xff\xee\x00\x0eAdobe.{6}([^\x00-\x02])", re.DOTALL)
"""Application segment of a JPEG stream with a color transform that does not exist; GDCM ends the process over it."""


EXIF_ORIENTATION = 274
"""Tag of EXIF and TIFF that says how a viewer turns a picture: 1 as it is stored, up to 8."""

QUARTER_TURNS = (5, 6, 7, 8)
RAW_STRIPS = 1
"""Compression of TIFF: none."""

JPEG_RGB_COMPONENTS = (b"RGB", b"rgb")
"""Component identifiers by which libjpeg knows that a stream without a color marker is RGB; others are YCbCr."""

CHROMA_OF_GRAY = 8
"""How far from 128 the middle of both chroma channels may be in a picture that is mostly gray."""


@dataclass(frozen=True)
class Image2D:
    """A gray image. pixels: (rows, columns) float32 in the file's own units.

    spacing_mm: (row, column) or None where the file does not say. modality: DICOM code (US, CT, MG, MR ...) or None.
    in_hu: whether the file is a CT whose rescale makes Hounsfield units. several_regions: whether the spacing is that of one of
    several calibrated ultrasound regions.
    """

    pixels: np.ndarray
    spacing_mm: tuple[float, float] | None
    modality: str | None
    path: Path
    in_hu: bool = False
    several_regions: bool = False


def read_image(
    path: str | Path,
    spacing_mm: tuple[float, float] | None = None,
    frame: int | None = None,
    near: tuple[float, float] | None = None,
) -> Image2D:
    """Read one image as float32 gray values.

    DICOM, with or without preamble, uncompressed, deflated, JPEG (baseline, extended, lossless), JPEG-LS, JPEG 2000 or RLE:
    modality rescale or lookup table applied; MONOCHROME1 inverted over the range of its stored bits, so that bright is
    always dense or echogenic, but in CT, whose rescale counts from the stored values; pixel padding becomes the smallest of
    the other values, in CT -1024 HU, below which no CT value goes; overlays in bits or elements of their own left out;
    spacing from Pixel Spacing, else the ultrasound region in cm, else Imager Pixel Spacing (at the detector, not corrected
    for magnification), else Nominal Scanned Pixel Spacing.
    PNG, JPEG, TIFF: 8 or 16 bits per channel or floating point, alpha ignored, white where the file says that 0 is white,
    turned as EXIF says and viewers do, no spacing. Color: three equal channels collapse to gray; others (color Doppler,
    calipers and labels burnt into the picture) turn to BT.601 luma, so that colored pixels stay where they are and lose their
    meaning as velocity; crop them away. A palette of 8-bit colors in 16-bit entries is read in 8 bits.
    spacing_mm: (row, column); overrides the file's. frame: which of several, from 0. near: (row, column) of the lesion, which
    tells of two calibrated ultrasound regions the one that counts; by default the largest. Raises InputError, naming the file
    and the remedy, for a missing, empty, truncated or unreadable file, several frames of which none is named, or values that
    are not numbers.
    """
    path = Path(path)
    if is_dicom(path):
        dataset = read_dicom(path)
        frame = chosen_frame(path, frame_count(dataset), frame)
        pixels = dicom_pixels(dataset, path, frame)
        several = spacing_mm is None and has_several_spacings(dataset)
        spacing_mm = spacing_mm or dicom_spacing(dataset, frame, near)
        modality = str(dataset.get("Modality") or "") or None
        in_hu = in_hounsfield(dataset, frame, holds_air(pixels))
    else:
        pixels, modality, in_hu, several = to_gray(_read_picture(path, frame)), None, False, False
    check_finite(pixels, path)
    return Image2D(pixels, spacing_mm, modality, path, in_hu, several)


def read_mask(
    path: str | Path, shape: tuple[int, int] | None = None, label: int | None = None, frame: int | None = None
) -> np.ndarray:
    """(rows, columns) bool from a DICOM object or a picture: the lesion, without specks (`drawn_lesion`).

    Of DICOM the stored values, of a palette of few colors its indices, of other color its luma; alpha is ignored. shape: of the
    image it belongs to; label: the value of the lesion, see `drawn_lesion`; frame: which of several, from 0. An empty mask is
    returned as it is; `crop.box_from_mask` refuses it. Raises InputError if the sizes differ, for what is no mask, or as
    `read_image`.
    """
    path = Path(path)
    values = _mask_values(path, frame)
    check_finite(values, path)
    if shape is not None and values.shape != tuple(shape):
        raise InputError(
            f"{path}: the mask has {values.shape[0]} x {values.shape[1]} pixels, its image {shape[0]} x {shape[1]}; "
            "export the mask at the size of the image, or correct mask_path in images.csv"
        )
    edge_px = JPEG_EDGE_PX if path.suffix.lower() in JPEG_SUFFIXES else EDGE_PX
    return without_specks(drawn_lesion(values, path, label, edge_px))


def _mask_values(path: Path, frame: int | None) -> np.ndarray:
    """(rows, columns) of a picture or DICOM object that is a mask; a frame is taken of a file that has several."""
    if is_dicom(path):
        dataset = read_dicom(path)
        return stored_pixels(dataset, path, frame if frame_count(dataset) > 1 else None)
    values, colors = _picture_indices(path, frame)
    return to_gray(values) if values.ndim == 3 and not colors else values


def stored_pixels(dataset: Dataset, path: Path, frame: int | None = None) -> np.ndarray:
    """(rows, columns) of a DICOM object as it stores them: nothing is rescaled, padded or inverted; color becomes luma."""
    index = chosen_frame(path, frame_count(dataset), frame)
    with _checked(dataset, path):
        values = _stored_pixels(dataset, index)
    return to_gray(values) if values.ndim == 3 else values


def _picture_indices(path: Path, frame: int | None = None) -> tuple[np.ndarray, bool]:
    """The pixels of a picture, and whether they are indices into a palette of few colors: the labels of a mask. More colors are
    the edge of a drawing, whose indices have no order."""
    with decoding(path, "the picture"), _opened_picture(path) as picture:
        if picture.mode == "P":
            colors = np.array(picture.getpalette("RGB")).reshape(-1, 3)
            indices = np.array(picture)
            used = np.unique(indices)
            if len(used) <= MAX_LABELS and (np.ptp(colors[used], axis=1) > 0).any():
                return _turned(indices, picture), True
        several = getattr(picture, "n_frames", 1) > 1
    return _read_picture(path, frame if several else None), False


def check_finite(values: np.ndarray, path: Path) -> None:
    """Raise InputError for gray values that are not numbers."""
    wrong = int(values.size - np.isfinite(values).sum())
    if wrong:
        raise InputError(
            f"{path}: {wrong} of {values.size} {'voxels' if values.ndim == 3 else 'pixels'} are not numbers (NaN or infinite); "
            "export it again with a finite background value"
        )


def first_bytes(path: Path, count: int = 132) -> bytes:
    """The start of a file. Raises InputError, naming the remedy, for one that is missing, a folder, locked or empty."""
    if not path.exists():
        raise InputError(f"{path}: no such file; correct the path in images.csv or put the file there")
    if not path.is_file():
        raise InputError(f"{path}: is a folder, not an image; name one file")
    try:
        with path.open("rb") as stream:
            start = stream.read(count)
    except OSError as error:
        raise InputError(f"{path}: cannot be opened ({error.strerror}); check its permissions") from error
    if not start:
        raise InputError(f"{path}: the file is empty; fetch or export it again")
    return start


def is_dicom(path: Path) -> bool:
    """By its preamble, else its first element, else its suffix. Raises InputError as `first_bytes`."""
    start = first_bytes(path)
    return start[128:] == b"DICM" or _starts_with_element(start) or path.suffix.lower() in DICOM_SUFFIXES


def is_dicom_image(path: Path) -> bool:
    """Whether an entry of a folder is a DICOM file with content, and neither the directory of a medium nor hidden."""
    named = path.name != "DICOMDIR" and not path.name.startswith(".")  # such as what macOS keeps beside a file
    return named and path.is_file() and path.stat().st_size > 0 and is_dicom(path)


def _starts_with_element(start: bytes) -> bool:
    """Old files and exports without preamble begin with an element of group 2 or 8, in either byte order."""
    return any(
        int.from_bytes(start[:2], order) in (2, 8)
        and int.from_bytes(start[2:4], order) <= 0x20
        and (re.fullmatch(rb"[A-Z]{2}", start[4:6]) or int.from_bytes(start[4:8], order) <= 64)
        for order in ("little", "big")
    )


@contextmanager
def decoding(path: Path, what: str) -> Iterator[None]:
    """Around a decoder of other people's bytes; whatever it raises means that the file is at fault."""
    try:
        yield
    except (InputError, MemoryError):
        raise
    except BaseException as error:
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":  # of pylibjpeg-rle, in Rust
            raise
        reason = without_quotations(" ".join(str(error).split())) or type(error).__name__
        raise InputError(
            f"{path}: {what} cannot be read ({reason[:200]}); the file may be truncated or of an unsupported kind: "
            "fetch or export it again, or leave the image out of images.csv"
        ) from error


def check_declared(path: Path, *sides: int) -> None:
    """Raise InputError for a header that announces more values than `MOST_VALUES`, before memory is spent on them."""
    if math.prod(sides) > MOST_VALUES:
        raise InputError(
            f"{path}: its header announces {' x '.join(map(str, sides))} values, more than the {MOST_VALUES:,} that are read; "
            "if that is true, export the part with the lesion, else fetch the file again"
        )


def shown(code: object, known: tuple[str, ...]) -> str:
    """A code of a header as messages name it: of another value only that it is one."""
    return str(code) if code in known else "another value" if code else "not stated"


def without_quotations(message: str) -> str:
    """A decoder's message without what it quotes of the file, which may be a name put into the wrong element."""
    return re.sub(r"""(?<!\w)(['"]).*\1""", "...", message)


def read_dicom(path: Path) -> Dataset:
    with decoding(path, "the DICOM header"):
        try:
            dataset = pydicom.dcmread(path)
        except InvalidDicomError:
            dataset = pydicom.dcmread(path, force=True)
            if "Rows" not in dataset:
                raise
        if "TransferSyntaxUID" not in dataset.file_meta:
            implicit, little = dataset.original_encoding
            explicit = uid.ExplicitVRLittleEndian if little else uid.ExplicitVRBigEndian
            dataset.file_meta.TransferSyntaxUID = uid.ImplicitVRLittleEndian if implicit else explicit
        for keyword in INTEGER_ELEMENTS:  # pydicom finds a damaged value only when it is asked for
            int(dataset.get(keyword) or 0)
        sides = (int(dataset.get(keyword) or 1) for keyword in ("NumberOfFrames", "Rows", "Columns", "SamplesPerPixel"))
        check_declared(path, *sides)
        for keyword in TEXT_ELEMENTS:
            str(dataset.get(keyword))
        dicom_spacing(dataset)
    return dataset


def dicom_pixels(dataset: Dataset, path: Path, frame: int | None = None, padding: float | None = None) -> np.ndarray:
    """(rows, columns) float32 of the only frame, or of this one, from 0. padding: what padded pixels become; see `read_image`."""
    index = chosen_frame(path, frame_count(dataset), frame)
    photometric = str(dataset.get("PhotometricInterpretation") or "MONOCHROME2")
    with _checked(dataset, path):
        stored = _stored_pixels(dataset, index)
        if photometric == "PALETTE COLOR":
            return to_gray(_in_8_bits_if_exact(apply_color_lut(stored, dataset)))
        if stored.ndim == 3:
            return to_gray(stored)
        values = stored
        if photometric == "MONOCHROME1" and dataset.get("Modality") != "CT":
            lowest_plus_highest = -1 if dataset.PixelRepresentation else 2 ** int(dataset.BitsStored) - 1
            values = lowest_plus_highest - stored.astype(np.int64)
        values = _rescaled(values, dataset, index, path)
        return to_gray(_without_padding(values, stored, dataset, padding))


@contextmanager
def _checked(dataset: Dataset, path: Path) -> Iterator[None]:
    """Around the decoding of a frame, for what is not read; raises InputError."""
    if not any(keyword in dataset for keyword in PIXEL_ELEMENTS):
        raise InputError(
            f"{path}: this DICOM object holds no pixels ({shown(dataset.get('Modality'), MODALITIES)}); name an image "
            "object, not a report or presentation state; if it is one, it is truncated: fetch or export it again"
        )
    photometric = str(dataset.get("PhotometricInterpretation") or "MONOCHROME2")
    syntax = dataset.file_meta.TransferSyntaxUID
    if photometric not in READABLE_COLORS + JPEG_2000_COLORS * (syntax in uid.JPEG2000TransferSyntaxes):
        raise InputError(
            f"{path}: its colors are {shown(photometric, COLORS)} in {syntax.name}, which is not read; convert it to RGB or "
            "MONOCHROME2"
        )
    if "BitsStored" in dataset and int(dataset.get("HighBit") or 0) >= int(dataset.BitsStored or 1):
        raise InputError(
            f"{path}: its {dataset.BitsStored} bits end at bit {dataset.HighBit}, which DICOM no longer allows; convert it "
            "with a current tool (gdcmconv --raw)"
        )
    with decoding(path, f"the DICOM image ({syntax.name})"):
        yield


def frame_count(dataset: Dataset) -> int:
    return int(dataset.get("NumberOfFrames") or 1)


def _stored_pixels(dataset: Dataset, index: int) -> np.ndarray:
    """(rows, columns) or (rows, columns, 3) of one frame, YBR turned to RGB."""
    syntax = dataset.file_meta.TransferSyntaxUID
    if syntax in uid.JPEGTransferSyntaxes:
        frame = get_frame(dataset.PixelData, index, number_of_frames=frame_count(dataset))
        if ADOBE_TRANSFORM.search(frame[:4096]):
            raise ValueError("unknown color transform in the JPEG stream")
    if syntax == uid.JPEGExtended12Bit and int(dataset.BitsStored) > 8:
        return _jpeg_extended_12_bits(dataset, frame)
    pixels = pixel_array(dataset, index=index)
    if (
        syntax in (uid.JPEGBaseline8Bit, uid.JPEGExtended12Bit)
        and dataset.PhotometricInterpretation == "RGB"
        and _is_ycbcr(frame, pixels)
    ):
        return convert_color_space(pixels, "YBR_FULL", "RGB")
    return pixels


def _is_ycbcr(stream: bytes, decoded: np.ndarray) -> bool:
    """Whether a JPEG stream that its DICOM header calls RGB holds luma and chroma, as most encoders write it.

    A JFIF or Adobe marker is heeded by the decoder. Without one, components called R, G and B are these, chroma that is
    subsampled is no color, and else the decoded values tell: of a picture that is mostly gray, chroma lies round 128.
    """
    frame = re.search(rb"\xff[\xc0-\xc2]..\x08....\x03(.{9})", stream, re.DOTALL)
    marked = re.search(rb"\xff\xe0..JFIF\0|\xff\xee..Adobe", stream[:4096], re.DOTALL)
    if frame is None or marked is not None:
        return False
    names, sampling = frame[1][::3], frame[1][1::3]
    if names in JPEG_RGB_COMPONENTS:
        return False
    luma, chroma = decoded[..., 0], np.median(decoded[..., 1:].astype(np.float64), axis=(0, 1))
    return len(set(sampling)) > 1 or bool(
        np.abs(chroma - 128).max() <= CHROMA_OF_GRAY and np.ptp(luma) > CHROMA_OF_GRAY
    )


def _jpeg_extended_12_bits(dataset: Dataset, frame: bytes) -> np.ndarray:
    """Decoded by GDCM, to which pydicom 3.0 does not hand more than 8 bits. It says on stderr that it tries twice."""
    fragment = gdcm.Fragment()
    fragment.SetByteStringValue(frame)
    fragments = gdcm.SequenceOfFragments.New()
    fragments.AddFragment(fragment)
    element = gdcm.DataElement(gdcm.Tag(0x7FE0, 0x0010))
    element.SetValue(fragments.__ref__())
    rows, columns, bits = int(dataset.Rows), int(dataset.Columns), int(dataset.BitsStored)
    image = gdcm.Image()
    image.SetNumberOfDimensions(2)
    image.SetDimensions((columns, rows, 1))
    image.SetDataElement(element)
    kind = gdcm.PhotometricInterpretation.GetPIType(str(dataset.PhotometricInterpretation))
    image.SetPhotometricInterpretation(gdcm.PhotometricInterpretation(kind))
    image.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.JPEGExtendedProcess2_4))
    image.SetPixelFormat(
        gdcm.PixelFormat(int(dataset.SamplesPerPixel), 16, bits, bits - 1, int(dataset.PixelRepresentation))
    )
    decoded = image.GetBuffer().encode("utf-8", "surrogateescape")  # GDCM hands bytes over as text
    return np.frombuffer(decoded, np.int16 if dataset.PixelRepresentation else np.uint16).reshape(rows, columns)


def _in_8_bits_if_exact(colors: np.ndarray) -> np.ndarray:
    """Palettes of 8-bit colors are stored in 16-bit entries as k * 256 or k * 257 (PS3.3 C.7.6.3.1.5)."""
    if colors.dtype.itemsize == 2 and colors.max() > 255:
        high, low = colors >> 8, colors & 255
        if not low.any() or np.array_equal(high, low):
            return high.astype(np.uint8)
    return colors


def _rescale(dataset: Dataset, index: int) -> tuple[float, float] | None:
    """Slope and intercept, which enhanced multi-frame objects state per frame or for all; one alone counts too."""
    own = frame_item(dataset, index, "PixelValueTransformationSequence")
    stated = dataset if own is None or "RescaleSlope" not in own else own
    if "RescaleSlope" not in stated and "RescaleIntercept" not in stated:
        return None
    slope, intercept = stated.get("RescaleSlope"), stated.get("RescaleIntercept")
    return 1.0 if slope is None else float(slope), float(intercept or 0.0)


def _rescaled(values: np.ndarray, dataset: Dataset, index: int, path: Path) -> np.ndarray:
    """By the modality lookup table, or slope and intercept. Raises InputError for a slope that makes all pixels one."""
    line = _rescale(dataset, index)
    if line is None or dataset.get("ModalityLUTSequence"):
        return apply_rescale(values, dataset)
    slope, intercept = line
    if slope == 0 or not np.isfinite(line).all():
        raise InputError(
            f"{path}: its Rescale Slope is {slope:g}, which makes all pixels one value; export it again with the true slope, "
            "or remove the element (0028,1053) where the stored values are meant"
        )
    return values * slope + intercept


def holds_air(values: np.ndarray) -> bool:
    """Whether values can be HU of a body with air in or round it."""
    return bool(((values > AIR_HU[0]) & (values < AIR_HU[1])).any())


def in_hounsfield(dataset: Dataset, index: int, has_air: bool) -> bool:
    """Whether a CT image can be in HU: gray, more than a window of 8 bits, rescaled, and to values below 0, as air is.

    has_air: `holds_air` of its values, which decides where slope and intercept change nothing and no type is told.
    """
    if dataset.get("Modality") != "CT" or int(dataset.get("SamplesPerPixel") or 1) > 1:
        return False
    if dataset.get("ModalityLUTSequence"):
        return str(dataset.ModalityLUTSequence[0].get("ModalityLUTType", "")) == "HU"
    own = frame_item(dataset, index, "PixelValueTransformationSequence")
    kind = str((own or dataset).get("RescaleType") or "HU").upper()
    line = _rescale(dataset, index)
    if line is None or kind not in ("HU", "HU_MOD"):
        return False
    slope, intercept = line
    if "RescaleType" not in (own or dataset) and intercept == 0:
        return has_air and slope > 0  # nobody calls them HU
    bits, signed = int(dataset.get("BitsStored") or 16), bool(dataset.get("PixelRepresentation"))
    signed = signed or "PixelData" not in dataset  # floating point
    least = (-(2 ** (bits - 1)) if signed else 0) * slope + intercept
    return least < 0 and not (bits <= 8 and slope == 1)


def is_padded(dataset: Dataset) -> bool:
    """Whether an object of whole numbers says which of them stand for no measurement."""
    return isinstance(dataset.get("PixelPaddingValue"), int) and "PixelData" in dataset


def _without_padding(values: np.ndarray, stored: np.ndarray, dataset: Dataset, padding: float | None) -> np.ndarray:
    """values, with those of padded pixels replaced, as `read_image` says."""
    hounsfield = dataset.get("Modality") == "CT" and values is not stored
    if is_padded(dataset):
        first = dataset.PixelPaddingValue
        last = dataset.get("PixelPaddingRangeLimit", first)
        kind = np.dtype(f"{stored.dtype.kind}{stored.dtype.itemsize}")
        low, high = sorted(int(np.array(edge).astype(kind)) for edge in (first, last))  # US read as SS, or the reverse
        padded = (stored >= low) & (stored <= high)
        if padding is not None and not hounsfield:
            values = np.where(padded, padding, values)
        elif padded.any() and not padded.all():
            values = np.where(padded, LOWEST_HU if hounsfield else values[~padded].min(), values)
    return np.maximum(values, LOWEST_HU) if hounsfield else values


def dicom_time(date: object, time: object) -> float | None:
    """Seconds of a date (DA, or a DT that holds both) and a time (TM, with or without colons, shortened or not); None where it
    cannot be read. Without a date, of the day."""
    day, clock = str(date or "").strip(), str(time or "").replace(":", "").strip()
    if len(day) > 8:  # a DT
        day, clock = day[:8], re.split("[+-]", day[8:])[0]
    whole, _, fraction = clock.partition(".")
    written = whole.ljust(6, "0") + (f".{fraction}" if fraction.isdigit() else "")
    for text, form in ((f"{day} {written}", "%Y%m%d %H%M%S"), (written, "%H%M%S")):
        with suppress(ValueError):
            form += ".%f" if "." in text else ""
            return (datetime.strptime(text[:22], form) - datetime(1900, 1, 1)).total_seconds()
    return None


def frame_item(dataset: Dataset, index: int, keyword: str) -> Dataset | None:
    """The item of a functional group of enhanced multi-frame objects: of this frame, else shared, else None."""
    frames, shared = (dataset.get(f"{which}FunctionalGroupsSequence") or () for which in ("PerFrame", "Shared"))
    for group in (*frames[index : index + 1], *shared[:1]):
        if group.get(keyword):
            return group[keyword].value[0]
    return None


def chosen_frame(path: Path, frames: int, frame: int | None) -> int:
    """Which of the frames of a file is meant, from 0. Raises InputError if that is not clear, or there is none such."""
    if frame is None and frames > 1:
        raise InputError(
            f"{path}: holds {frames} frames where one image is expected; name it in a column frame of images.csv (0 is the "
            "first), export one, or list the file as a sweep (USV)"
        )
    if (frame or 0) >= frames:
        raise InputError(
            f"{path}: holds {frames} frame{'s' * (frames > 1)}, and images.csv asks for frame {frame} (0 is the first); "
            "correct it"
        )
    return frame or 0


def dicom_spacing(
    dataset: Dataset, index: int = 0, near: tuple[float, float] | None = None
) -> tuple[float, float] | None:
    """(row, column) in mm, see `read_image`."""
    own = frame_item(dataset, index, "PixelMeasuresSequence")
    spacing = _usable(dataset.get("PixelSpacing")) or (own and _usable(own.get("PixelSpacing")))
    if spacing is None:
        spacing = _region_spacing(dataset, near)
    for keyword in ("ImagerPixelSpacing", "NominalScannedPixelSpacing"):
        spacing = spacing or _usable(dataset.get(keyword))
    return spacing


def _usable(value: object) -> tuple[float, float] | None:
    try:
        row, column = (abs(float(step)) for step in value)
    except (TypeError, ValueError):
        return None
    return (row, column) if np.isfinite([row, column]).all() and row > 0 and column > 0 else None


def has_several_spacings(dataset: Dataset) -> bool:
    """Whether it depends on the place what a pixel measures, as in a split screen of two depths."""
    return _usable(dataset.get("PixelSpacing")) is None and len({spacing for _, _, spacing in _regions(dataset)}) > 1


def _region_spacing(dataset: Dataset, near: tuple[float, float] | None) -> tuple[float, float] | None:
    """Of the smallest region in which a point lies, which is drawn over others; else of the largest."""
    regions = sorted(_regions(dataset), key=lambda region: region[1])
    inside = [region for region in regions if near is not None and _holds(region[0], near)]
    chosen = inside[:1] or regions[-1:]
    return chosen[0][2] if chosen else None


def _holds(edges: tuple[int, ...], point: tuple[float, float]) -> bool:
    left, top, right, bottom = edges
    return top <= point[0] <= bottom and left <= point[1] <= right


def _regions(dataset: Dataset) -> list[tuple[tuple[int, ...], int, tuple[float, float]]]:
    """Edges (left, top, right, bottom), area and spacing in mm of the two-dimensional ultrasound regions calibrated in cm;
    others are traces, in seconds or cm/s."""
    usable = []
    for region in dataset.get("SequenceOfUltrasoundRegions") or ():
        units = region.get("PhysicalUnitsXDirection"), region.get("PhysicalUnitsYDirection")
        spacing = _usable((region.get("PhysicalDeltaY"), region.get("PhysicalDeltaX")))
        if spacing and units == (CENTIMETER, CENTIMETER):
            edges = tuple(int(region.get(f"RegionLocation{edge}", 0)) for edge in ("MinX0", "MinY0", "MaxX1", "MaxY1"))
            left, top, right, bottom = edges
            usable.append((edges, (right - left) * (bottom - top), (10.0 * spacing[0], 10.0 * spacing[1])))
    return usable


def orientation(path: Path) -> int:
    """Of EXIF or TIFF, how a viewer turns a picture: 1 as it is stored, also where the file cannot be read."""
    try:
        with Image.open(path) as picture:
            return int(picture.getexif().get(EXIF_ORIENTATION, 1))
    except (OSError, ValueError, SyntaxError):
        return 1


def picture_pages(path: Path) -> list[np.ndarray]:
    """(rows, columns) float32 of every page of a TIFF file."""
    with decoding(path, "the picture"), _opened_picture(path) as picture:
        count = getattr(picture, "n_frames", 1)
    return [to_gray(_read_picture(path, page)) for page in range(count)]


def _read_picture(path: Path, frame: int | None = None) -> np.ndarray:
    """(rows, columns) or (rows, columns, 3), alpha dropped, in the file's own integer type, turned as a viewer shows it."""
    with decoding(path, "the picture"), _opened_picture(path) as picture:
        picture.seek(chosen_frame(path, getattr(picture, "n_frames", 1), frame))
        return _turned(_picture_values(path, picture), picture)


def _turned(values: np.ndarray, picture: Image.Image) -> np.ndarray:
    """By the orientation of EXIF or TIFF."""
    orientation = picture.getexif().get(EXIF_ORIENTATION, 1)
    if orientation in QUARTER_TURNS:
        values = values.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        values = values[::-1]
    return values[:, ::-1] if orientation in (2, 3, 6, 7) else values


def _picture_values(path: Path, picture: Image.Image) -> np.ndarray:
    tags = getattr(picture, "tag_v2", {})
    turn = tags.get(EXIF_ORIENTATION, 1)  # of TIFF; asking for EXIF would load a PNG
    if turn in QUARTER_TURNS and tags.get(TiffImagePlugin.COMPRESSION) == RAW_STRIPS:
        raise InputError(
            f"{path}: is an uncompressed TIFF to be shown turned by a quarter, which Pillow 13.0 scrambles; export it "
            "upright, or compressed, or as PNG"
        )
    bits = max(tags.get(TiffImagePlugin.BITSPERSAMPLE, (8,)))
    if (bits == 16 or any(";16" in str(tile) for tile in picture.tile)) and not picture.mode.startswith("I"):
        if turn != 1:
            raise InputError(
                f"{path}: holds 16-bit colors to be turned when they are shown; export it turned, or as PNG"
            )
        picture.load()  # notices a truncated file
        if tags.get(TiffImagePlugin.PLANAR_CONFIGURATION) == ONE_PLANE_PER_COLOR:
            raise InputError(f"{path}: holds 16-bit colors plane by plane; export it pixel by pixel or as PNG")
        return _many_bit_channels(path)
    if picture.mode in ("1", "LA", "La"):
        picture = picture.convert("L")
    elif picture.mode in ("P", "PA", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "LAB", "HSV"):
        picture = picture.convert("RGB")
    values = np.array(picture)
    if picture.mode == "L" and tags.get(TiffImagePlugin.SAMPLEFORMAT) == (SIGNED,):
        return values.view(np.int8)
    if picture.mode.startswith("I;16") and tags.get(TiffImagePlugin.PHOTOMETRIC_INTERPRETATION) == WHITE_IS_ZERO:
        return 65535 - values  # Pillow turns over 8 bits alone
    return values


def _opened_picture(path: Path) -> Image.Image:
    try:
        picture = Image.open(path)
        check_declared(path, getattr(picture, "n_frames", 1), picture.height, picture.width)
        return picture
    except UnidentifiedImageError as error:
        if first_bytes(path, 4) in (b"II*\0", b"MM\0*"):
            raise InputError(
                f"{path}: is a TIFF picture that is truncated or of a kind that is not read; export it again, with 8 or 16 bits "
                "or 32-bit floating point"
            ) from error
        raise InputError(
            f"{path}: is neither DICOM nor a PNG, JPEG or TIFF picture; export it as one of these"
        ) from error


def _many_bit_channels(path: Path) -> np.ndarray:
    """(rows, columns) or (rows, columns, 3) of 16 bits per channel, of which Pillow keeps 8; alpha dropped."""
    try:
        values = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(path)))
    except RuntimeError as error:
        raise InputError(
            f"{path}: is no 16-bit color picture that is read (gray with transparency?); export it as 16-bit gray"
        ) from error
    return values[..., :3] if values.shape[-1] > 2 else values[..., 0]


def to_gray(pixels: np.ndarray) -> np.ndarray:
    """(rows, columns) float32; equal channels collapse, others are weighted by BT.601 luma."""
    if pixels.ndim == 2:
        return pixels.astype(np.float32)
    red, green, blue = (pixels[..., channel] for channel in range(3))
    if np.array_equal(red, green) and np.array_equal(red, blue):
        return red.astype(np.float32)
    return (LUMA[0] * red + LUMA[1] * green + LUMA[2] * blue).astype(np.float32)
