"""Identities planted in a cohort folder wherever files of each kind can hold them, and a search for them in what was written."""

from __future__ import annotations

import gzip
import io
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path

import av
import nibabel
import numpy as np
import pandas as pd
import pyarrow.parquet
import pydicom
from nibabel.nifti1 import Nifti1Extension
from PIL import Image, PngImagePlugin
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from alnlib.imaging.clips import read_clip
from alnlib.imaging.read import read_image

PLANT = "PLANTED"
"""Every planted text begins with it, as PLANTED-NAME-1."""

WORDS = re.compile(
    rb"P\0{0,3}L\0{0,3}A\0{0,3}N\0{0,3}T\0{0,3}E\0{0,3}D\0{0,3}-[ -~]*|19031224|1903[:-]12[:-]24", re.IGNORECASE
)
"""As UTF-8, UTF-16 and UTF-32; the planted date of birth and of the study."""

DAY = "19031224"

HEADER = {
    "PatientName": "NAME-1^A", "OtherPatientNames": "NAME-2", "PatientBirthName": "NAME-3", "PatientMotherBirthName": "NAME-4",
    "PatientID": "ID-1", "OtherPatientIDs": "ID-2", "AccessionNumber": "ACC-1", "StudyID": "STUDY-1",
    "InstitutionName": "CLINIC-1", "InstitutionAddress": "STREET-1", "InstitutionalDepartmentName": "WARD-1",
    "StationName": "STATION-1", "DeviceSerialNumber": "SERIAL-1", "OperatorsName": "NAME-5", "ReferringPhysicianName": "NAME-6",
    "PerformingPhysicianName": "NAME-7", "PatientAddress": "STREET-2", "PatientTelephoneNumbers": "PHONE-1",
    "StudyDescription": "STUDY-2", "SeriesDescription": "SERIES-1", "ImageComments": "COMMENT-1", "PatientComments": "COMMENT-2",
    "RequestedProcedureDescription": "REQUEST-1", "ProtocolName": "PROTOCOL-1",
}  # fmt: skip
DATES = ("PatientBirthDate", "StudyDate", "SeriesDate", "AcquisitionDate", "ContentDate")


def plant_dicom(path: Path) -> None:
    """Names, dates, ids, places and serial numbers in elements, sequences, private ones and behind the pixels."""
    dataset = pydicom.dcmread(path)
    for keyword, text in HEADER.items():
        setattr(dataset, keyword, f"{PLANT}-{text}")
    for keyword in DATES:
        setattr(dataset, keyword, DAY)
    item = Dataset()
    item.PatientName = f"{PLANT}-NESTED-1"
    dataset.RequestAttributesSequence = Sequence([item])
    dataset.private_block(0x0043, f"{PLANT}-PRIVATE-1", create=True).add_new(0x01, "LO", f"{PLANT}-PRIVATE-2")
    dataset.save_as(path)


def plant_nifti(path: Path) -> None:
    """In the texts of the header and in an extension."""
    image = nibabel.load(path, mmap=False)
    made = nibabel.Nifti1Image(np.asanyarray(image.dataobj), image.affine, image.header)
    for field, text in {
        "descrip": "NAME-1",
        "db_name": "NAME-2",
        "aux_file": "FILE-1",
        "intent_name": "NAME-3",
    }.items():
        made.header[field] = f"{PLANT}-{text}"
    made.header.extensions.append(Nifti1Extension("comment", f"{PLANT}-EXTENSION-1".encode()))
    nibabel.save(made, path)


def as_picture(path: Path, suffix: str) -> Path:
    """A still as PNG with text chunks, or as JPEG or TIFF with EXIF; the file beside it."""
    pixels = Image.fromarray(read_image(path).pixels.astype(np.uint8))
    exif = pixels.getexif()
    exif[0x010E], exif[0x013B], exif[0x0132] = f"{PLANT}-NAME-1", f"{PLANT}-NAME-2", "1903:12:24 10:00:00"
    texts = PngImagePlugin.PngInfo()
    texts.add_text("Author", f"{PLANT}-CHUNK-1")
    texts.add_itxt("Comment", f"{PLANT}-CHUNK-2", zip=True)
    more = {"pnginfo": texts} if suffix == ".png" else {"quality": 95} if suffix == ".jpg" else {}
    made = path.with_suffix(suffix)
    pixels.save(made, exif=exif, **more)
    return made


def as_video(path: Path) -> Path:
    """A sweep as MP4 with what a recorder writes about it; the file beside it."""
    frames = read_clip(path).frames.astype(np.uint8)
    made = path.with_suffix(".mp4")
    with av.open(str(made), "w") as container:
        container.metadata.update(title=f"{PLANT}-NAME-1", artist=f"{PLANT}-NAME-2", comment=f"{PLANT}-CLINIC-1")
        stream = container.add_stream("mpeg4", rate=25)
        stream.height, stream.width, stream.pix_fmt = *(side // 2 * 2 for side in frames.shape[1:]), "yuv420p"
        for frame in frames:
            picture = frame[: stream.height, : stream.width]
            container.mux(
                stream.encode(av.VideoFrame.from_ndarray(np.repeat(picture[..., None], 3, 2), format="rgb24"))
            )
        container.mux(stream.encode())
    return made


def plant_cohort(root: Path) -> list[str]:
    """Plant in every image of a folder, three stills and a sweep in other formats; the paths of the kinds that were planted."""
    table = pd.read_csv(root / "images.csv", dtype=str, keep_default_na=False)
    for path in sorted(root.rglob("*")):
        if path.suffix == ".dcm":
            plant_dicom(path)
        elif path.name.endswith((".nii", ".nii.gz")):
            plant_nifti(path)
    others = dict(zip(table.index[table["modality"] == "US"], (".png", ".jpg", ".tif"), strict=False))
    others[table.index[table["modality"] == "USV"][0]] = ".mp4"
    for at, suffix in others.items():
        old = root / table.loc[at, "path"]
        made = as_video(old) if suffix == ".mp4" else as_picture(old, suffix)
        old.unlink()
        table.loc[at, "path"] = made.relative_to(root).as_posix()
        spacing = table.loc[at, "pixel_spacing_mm"]
        table.loc[at, "pixel_spacing_mm"] = spacing or "0.2 0.2"
    table.to_csv(root / "images.csv", index=False)
    return sorted({"".join(Path(path).suffixes) for path in table["path"]})


def contents(path: Path) -> Iterator[bytes]:
    """The bytes of a file, and what is packed in it: gzip, zip (npz, torch, xlsx), parquet with its metadata."""
    content = path.read_bytes()
    yield content
    if content[:2] == b"\x1f\x8b":
        yield gzip.decompress(content)
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            for name in archive.namelist():
                yield name.encode() + b"\n" + archive.read(name)
    if path.suffix == ".parquet":
        table = pyarrow.parquet.read_table(path)
        yield table.to_pandas().to_csv().encode() + str(table.schema.metadata).encode()
    if path.suffix == ".png":
        with Image.open(path) as picture:
            yield repr(picture.info).encode()


def found(place: Path, words: re.Pattern[bytes] = WORDS) -> list[str]:
    """ "file: text" of every planted text in names and contents of all files below a folder."""
    hits = []
    for path in sorted(path for path in place.rglob("*") if path.is_file()):
        name = path.relative_to(place).as_posix()
        for content in (name.encode(), *contents(path)):
            hits += [f"{name}: {hit.group()[:60].decode('latin-1')}" for hit in words.finditer(content)]
    return hits
