"""A hospital's folder made into a cohort: what the readers read stays the same, whose it is cannot be told any more.

Truth: the readers of `alnlib.imaging` on the source files, outlines drawn by the test, and a search of every byte written for
planted identities, which finds them where the step that replaces them is switched off.
"""

from __future__ import annotations

import csv
import io
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import openpyxl
import pandas as pd
import pydicom
import pytest
from PIL import Image, ImageDraw, ImageFont, PngImagePlugin
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from alnlib.cohorts import intake
from alnlib.cohorts.folder import read_cohort
from alnlib.cohorts.intake import IntakeOptions, new_cohort, parse_options, patient_in_name
from alnlib.cohorts.scan import mask_base, proposed, sequence
from alnlib.cohorts.sheet import judged, numbers, read_sheet
from alnlib.errors import InputError
from alnlib.imaging.burned_in import text_boxes
from alnlib.imaging.clips import read_clip
from alnlib.imaging.read import read_image, read_mask
from alnlib.imaging.structures import structure_mask
from alnlib.imaging.volumes import Volume, VolumeGeometry, read_volume, read_volume_mask
from alnlib.paths import repository_root
from alnsim.dicom import Identity, ct_dataset, mammography_dataset, ultrasound_dataset, ultrasound_sweep_dataset
from alnsim.nifti import write_volume
from tests.real_data import real_data

PLANT = "Zzplant"
"""Every planted identity holds it, in some case."""

OPTIONS = IntakeOptions({"aln_metastasis": "pN"}, {"aln_metastasis": ("N+",)}, patient_column="Patient")
GRID = VolumeGeometry((3.0, 0.8, 0.7), (-20.0, 5.0, 11.0))
SHAPE = (6, 20, 24)


def planted(dataset: Dataset, patient: str) -> Dataset:
    """The same with identities wherever a scanner or an archive may write them."""
    dataset.PatientID, dataset.PatientName = patient, f"{PLANT}name^{patient}"
    dataset.PatientBirthDate, dataset.AccessionNumber = "19640229", f"{PLANT}acc"
    dataset.InstitutionName, dataset.ReferringPhysicianName = f"{PLANT} clinic", f"{PLANT}doctor^A"
    dataset.StudyDescription = f"Breast {PLANT}study"
    dataset.StudyDate, dataset.ContentDate = "20240229", "20240229"
    dataset.ImageComments = f"called {PLANT}comment"
    block = dataset.private_block(0x0043, f"{PLANT}creator", create=True)
    block.add_new(0x01, "LO", f"{PLANT}private")
    item = Dataset()
    item.PatientName, item.ReferencedSOPInstanceUID = f"{PLANT}nested", "1.2.840.113619.2.19640229"
    dataset.RequestAttributesSequence = Sequence([item])
    dataset.add_new(0x60000022, "LO", f"{PLANT}overlay")
    if "SequenceOfUltrasoundRegions" in dataset:
        dataset.SequenceOfUltrasoundRegions[0].add_new(0x00080080, "LO", f"{PLANT}region")
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = (
        f"1.2.840.113619.2.19640229.{patient[-1]}.{id(dataset)}"
    )
    dataset.SeriesInstanceUID = (
        f"1.2.840.113619.3.19640229.{patient[-1]}.{len(dataset.Modality)}{ord(dataset.Modality[0])}"
    )
    dataset.PixelData = dataset.PixelData + f"{PLANT}trailing ".encode() * 2
    return dataset


def save(dataset: Dataset, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset.save_as(path, enforce_file_format=True)
    return path


def slices(patient: str, modality: str, values: np.ndarray) -> list[Dataset]:
    """A series on GRID."""
    made = []
    for z, plane in enumerate(values):
        place = tuple(GRID.position_mm((z, 0, 0)))
        identity = Identity(patient, 50, "north", 1, "L")
        dataset = ct_dataset(plane, GRID.spacing_mm[1:], 3.0, place, identity, z + 1, 120.0, "B")
        dataset.Modality = modality
        dataset.SOPInstanceUID = f"1.2.3.{modality == 'MR'}.{z + 1}".replace("True", "7").replace("False", "8")
        made.append(planted(dataset, patient))
    return made


def segmentation(mask: np.ndarray, series: str, planes: list[int]) -> Dataset:
    """A SEG object of these slices of a mask on GRID, one bit per pixel."""
    dataset = pydicom.dcmread(pydicom.data.get_testdata_file("liver_1frame.dcm"))
    dataset.PatientID, dataset.SOPInstanceUID = "zz", "1.2.3.4.5"
    dataset.NumberOfFrames, dataset.Rows, dataset.Columns = len(planes), *mask.shape[1:]
    dataset.ReferencedSeriesSequence[0].SeriesInstanceUID = series
    packed = np.packbits(mask[planes].ravel(), bitorder="little").tobytes()
    dataset.PixelData = packed + b"\0" * (len(packed) % 2)
    orientation = Dataset()
    orientation.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    dataset.SharedFunctionalGroupsSequence[0].PlaneOrientationSequence = Sequence([orientation])
    dataset.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].PixelSpacing = list(GRID.spacing_mm[1:])
    frames = []
    for z in planes:
        frame, position = Dataset(), Dataset()
        position.ImagePositionPatient = list(GRID.position_mm((z, 0, 0)))
        frame.PlanePositionSequence = Sequence([position])
        frames.append(frame)
    dataset.PerFrameFunctionalGroupsSequence = Sequence(frames)
    return dataset


def structure_set(boxes: dict[str, list[tuple[int, ...]]], series: str) -> Dataset:
    """An RTSTRUCT object: for each name rectangles (z, row0, col0, row1, col1) of whole pixels on GRID."""
    dataset = segmentation(np.zeros(SHAPE, bool), series, [0])
    for keyword in ("PixelData", "Rows", "Columns", "ReferencedSeriesSequence", "NumberOfFrames"):
        delattr(dataset, keyword)
    dataset.Modality, dataset.SOPInstanceUID = "RTSTRUCT", "1.2.3.4.6"
    frame, study, its = Dataset(), Dataset(), Dataset()
    its.SeriesInstanceUID = series
    study.RTReferencedSeriesSequence = Sequence([its])
    frame.RTReferencedStudySequence = Sequence([study])
    dataset.ReferencedFrameOfReferenceSequence = Sequence([frame])
    names, drawn = [], []
    for number, (name, rectangles) in enumerate(boxes.items(), 1):
        roi, contours = Dataset(), Dataset()
        roi.ROINumber = contours.ReferencedROINumber = number
        roi.ROIName = name
        contours.ContourSequence = Sequence([])
        for z, top, left, bottom, right in rectangles:
            edges = [(top, left), (top, right), (bottom, right), (bottom, left)]
            corners = GRID.position_mm([(z, row - 0.5, column - 0.5) for row, column in edges])
            contour = Dataset()
            contour.ContourGeometricType, contour.ContourData = "CLOSED_PLANAR", [f"{x:.6f}" for x in corners.ravel()]
            contours.ContourSequence.append(contour)
        names.append(roi)
        drawn.append(contours)
    dataset.StructureSetROISequence, dataset.ROIContourSequence = Sequence(names), Sequence(drawn)
    return dataset


@pytest.fixture
def lesion() -> np.ndarray:
    mask = np.zeros(SHAPE, bool)
    mask[2, 5:9, 6:12] = mask[3, 4:11, 5:13] = True
    return mask


@pytest.fixture
def hospital(tmp_path, rng, lesion) -> Path:
    """DICOM, PNG, NIfTI, video and outlines of six patients with planted identities, and their sheet."""
    root = tmp_path / "export"
    ids = [f"{PLANT}{number}" for number in range(1, 7)]
    who = [Identity(patient, 50, "north", 1, "L") for patient in ids]
    still = rng.integers(0, 256, (40, 50)).astype(np.uint8)
    save(planted(ultrasound_dataset(still, (0.11, 0.12), who[0]), ids[0]), root / "a" / f"{PLANT}_us.dcm")
    frames = rng.integers(0, 256, (5, 30, 36)).astype(np.uint8)
    save(planted(ultrasound_sweep_dataset(frames, (0.2, 0.2), 40.0, 3, who[1]), ids[1]), root / "b" / "sweep.dcm")
    breast = rng.integers(0, 4096, (40, 30)).astype(np.uint16)
    save(planted(mammography_dataset(breast, (0.1, 0.1), who[2], "MLO", 50.0), ids[2]), root / "c" / "mg.dcm")
    values = rng.integers(-500, 900, SHAPE).astype(np.float32)
    for code, patient in (("MR", ids[3]), ("CT", ids[4])):
        series = slices(patient, code, values)
        for number, dataset in enumerate(reversed(series)):
            dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = (
                f"1.2.840.9.{code == 'MR':d}.{number + 1}"
            )
            dataset.SeriesDescription = f"T2 tra {PLANT}series post" if code == "MR" else ""
            save(dataset, root / "d" / code / f"IM{number}")
        outline = segmentation(lesion, series[0].SeriesInstanceUID, [2, 3])
        outline.SOPInstanceUID += f".{code == 'MR':d}"
        save(outline, root / "d" / f"{code}.seg")
    text = PngImagePlugin.PngInfo()
    text.add_text("Comment", f"{PLANT}chunk")
    folder = root / "e" / ids[5] / "ultrasound left"
    folder.mkdir(parents=True)
    Image.fromarray(still).save(folder / "first.png", pnginfo=text)
    Image.fromarray((255 * lesion[3]).astype(np.uint8)).resize((50, 40)).save(folder / "first_mask.png", pnginfo=text)
    volume = root / "e" / ids[5] / "mri pre" / "T2.nii.gz"
    write_volume(volume, values, GRID)
    write_volume(volume.with_name("mask.nii"), lesion, GRID)
    (root / "a" / "letter.txt").write_text(f"{PLANT}")
    (root / "a" / "cut.dcm").write_bytes((root / "a" / f"{PLANT}_us.dcm").read_bytes()[:900])
    head = ["Patient", "Name", "Birth date", "Accession", "Remarks", "Station", "Age", "ER", "pN", "Operated", "Code"]
    rows = [[p, f"{PLANT}n{i}", "29.02.1964", f"{PLANT}a{i}", f"{PLANT} told us {i}"] for i, p in enumerate(ids)]
    more = [
        [
            f"{PLANT} clinic",
            f"{61 + i},5",
            "pos" if i % 2 else "neg",
            ("N0", "N+")[i % 2],
            "01.03.2024",
            700_000 + 7 * i,
        ]
        for i in range(6)
    ]
    with (tmp_path / "sheet.csv").open("w", encoding="cp1252", newline="") as stream:
        csv.writer(stream, delimiter=";").writerows(
            [head, *(left + right for left, right in zip(rows, more, strict=True))]
        )
    return tmp_path


def held(folder: Path) -> dict[str, str]:
    """What can be found of planted identities: where, and the text."""
    hits = {}
    words = re.compile(
        rb"zzplant[ \w]*|19640229|1964-02-29|29\.02\.1964|20240229|1\.2\.840\.(113619|9\.)[\d.]*", re.IGNORECASE
    )
    for path in sorted(folder.rglob("*")):
        for content in (path.relative_to(folder).as_posix().encode(), path.read_bytes() if path.is_file() else b""):
            for hit in words.finditer(content):
                hits[f"{path.relative_to(folder)}: {hit.group().decode()}"] = hit.group().decode()
    return hits


def made(hospital: Path, options: IntakeOptions = OPTIONS, name: str = "cohort") -> intake.Intake:
    return new_cohort(hospital / name, hospital / "export", hospital / "sheet.csv", options)


def by_modality(result: intake.Intake) -> dict[str, pd.Series]:
    return {f"{row['modality']} {row['timepoint']}": row for _, row in result.cohort.images.iterrows()}


def test_every_image_is_read_as_before_and_its_outline_with_it(hospital, lesion):
    result = made(hospital, replace_key(hospital))
    rows, root = by_modality(result), hospital / "cohort"
    key = pd.read_csv(hospital / "key.csv").set_index("patient_id")["old_id"]
    assert len(result.cohort.images) == 7 and (root / "cohort.yaml").exists()
    source = {"US nan": f"a/{PLANT}_us.dcm", "MG nan": "c/mg.dcm"}
    stills = result.cohort.images[result.cohort.images["modality"].isin(["US", "MG"])]
    assert len(stills) == 3
    for _, row in stills.iterrows():
        old = key[row["patient_id"]]
        name = source["MG nan"] if row["modality"] == "MG" else source["US nan"]
        name = name if old != f"{PLANT}6" else f"e/{old}/ultrasound left/first.png"
        before, after = read_image(hospital / "export" / name), read_image(root / row["path"])
        np.testing.assert_array_equal(after.pixels, before.pixels)
        assert after.spacing_mm == pytest.approx(before.spacing_mm) and after.modality == before.modality
        assert row["laterality"] == "L"
        if old == f"{PLANT}6":
            drawn = read_mask(hospital / "export" / f"e/{old}/ultrasound left/first_mask.png")
            np.testing.assert_array_equal(read_mask(root / row["mask_path"]), drawn)
    sweep, clip = read_clip(hospital / "export" / "b" / "sweep.dcm"), read_clip(root / rows["USV nan"]["path"])
    np.testing.assert_array_equal(clip.frames, sweep.frames)
    assert (clip.spacing_mm, clip.frame_time_ms, clip.key_frame) == ((0.2, 0.2), 40.0, 3)
    assert rows["MG nan"]["sequence_or_view"] == "MLO"
    before = read_volume(hospital / "export" / "d" / "MR")
    for visit in ("pre", "post"):
        row = rows[f"MRI {visit}"]
        volume = read_volume(root / row["path"])
        assert row["sequence_or_view"] == "T2"
        np.testing.assert_array_equal(volume.values, before.values)
        np.testing.assert_allclose(volume.geometry.affine, before.geometry.affine, atol=1e-4)
        np.testing.assert_array_equal(read_volume_mask(root / row["mask_path"], volume), lesion)
    node = read_image(root / rows["CT nan"]["path"])
    np.testing.assert_array_equal(node.pixels, read_volume(hospital / "export" / "d" / "CT").values[3])
    assert node.spacing_mm == pytest.approx(GRID.spacing_mm[1:]) and node.modality == "CT"
    np.testing.assert_array_equal(read_mask(root / rows["CT nan"]["mask_path"]), lesion[3])


def replace_key(hospital: Path) -> IntakeOptions:
    return intake.replace(OPTIONS, key=hospital / "key.csv")


def test_no_planted_identity_is_left_in_the_cohort(hospital):
    before = held(hospital / "export")
    kinds = (
        "name",
        "acc",
        "clinic",
        "doctor",
        "private",
        "creator",
        "nested",
        "overlay",
        "region",
        "comment",
        "trailing",
        "chunk",
    )
    assert all(any(kind in text for text in before.values()) for kind in kinds)
    result = made(hospital)
    assert held(hospital / "cohort") == {}
    assert held(hospital / "export") == before
    assert result.cohort.clinical.keys() == {"age", "er"}
    assert result.cohort.patients["age"].tolist() != sorted(result.cohort.patients["age"])  # the order is new, too
    out = {name for what, name, _ in result.notes if what == "column"}
    assert out == {"Name", "Birth date", "Accession", "Remarks", "Station", "Operated", "Code"}
    assert {name for what, name, _ in result.notes if what == "image"} == {"a/cut.dcm", "a/letter.txt"}


def test_identities_are_found_where_the_step_is_switched_off(hospital, monkeypatch):
    class Same(intake.Pseudonyms):
        def __init__(self, patients, known):
            super().__init__(patients, {patient: (patient, 0) for patient in patients})

        def uid(self, *parts):
            return pydicom.uid.UID(parts[-1]) if re.fullmatch(r"[\d.]+", parts[-1]) else super().uid(*parts)

    monkeypatch.setattr(intake, "Pseudonyms", Same)
    made(hospital)
    found = " ".join(held(hospital / "cohort").values())
    assert all(text in found for text in (f"{PLANT}1", "20240229", "1.2.840.113619"))
    monkeypatch.setattr(intake, "write_dicom", lambda pixels, header, stem: copied(hospital, stem))
    made(hospital, name="copied")
    found = " ".join(held(hospital / "copied").values())
    assert all(f"{PLANT}{kind}" in found for kind in ("name", "acc", "private", "nested", "overlay", "comment"))


def copied(hospital: Path, stem: Path) -> Path:
    stem.parent.mkdir(parents=True, exist_ok=True)
    return Path(shutil.copy(hospital / "export" / "a" / f"{PLANT}_us.dcm", stem.with_suffix(".dcm")))


def test_a_run_of_the_cohort_holds_no_planted_identity(hospital):
    rng = np.random.default_rng(0)
    with (hospital / "sheet.csv").open("a", encoding="cp1252", newline="") as stream:
        for number in range(40):
            row = [
                f"{PLANT}x{number}",
                "",
                "29.02.1964",
                "",
                "",
                "",
                f"{rng.integers(30, 80)}",
                rng.choice(["pos", "neg"]),
            ]
            csv.writer(stream, delimiter=";").writerow([*row, ("N0", "N+")[number % 2], "", ""])
    made(hospital)
    run = [sys.executable, "run_all.py", "--cohort", str(hospital / "cohort"), "--to", "11"]
    environment = os.environ | {"ALN_RESULTS": str(hospital / "results")}
    done = subprocess.run(run, cwd=repository_root(), env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (hospital / "results" / "cohort-demo" / "cohort" / "patients.csv").exists()
    assert held(hospital / "results") == {}


def test_dates_keep_their_differences_and_uids_their_belonging(tmp_path, rng):
    visits = ("20230101", "20230410", "20240301")
    for number, (patient, date) in enumerate([("p1", visits[0]), ("p1", visits[1]), ("p2", visits[2]), ("p2", "")]):
        still = rng.integers(0, 256, (20, 20)).astype(np.uint8)
        dataset = planted(ultrasound_dataset(still, (0.1, 0.1), Identity(patient, 50, "n", number, "L")), patient)
        dataset.StudyDate, dataset.StudyInstanceUID = date, f"1.2.{patient[1]}"
        save(dataset, tmp_path / "export" / f"{number}.dcm")
    (tmp_path / "sheet.csv").write_text("Patient\tpN\np1\tN0\np2\tN+\n")
    result = made(tmp_path, replace_key(tmp_path))
    key = pd.read_csv(tmp_path / "key.csv").set_index("old_id")
    seen = [pydicom.dcmread(tmp_path / "cohort" / path) for path in result.cohort.images["path"]]
    studies = {
        old: {d.StudyInstanceUID for d in seen if d.PatientID == key.at[old, "patient_id"]} for old in ("p1", "p2")
    }
    assert [len(uids) for uids in studies.values()] == [1, 1] and studies["p1"] != studies["p2"]
    dates = {old: sorted(d.StudyDate for d in seen if d.PatientID == key.at[old, "patient_id"]) for old in ("p1", "p2")}
    first, second = pd.to_datetime(dates["p1"])
    assert (second - first).days == 99 and dates["p2"][0] == ""
    assert (first - pd.Timestamp(visits[0])).days == key.at["p1", "days_shifted"] <= -365
    assert len({d.SOPInstanceUID for d in seen}) == 4 and all(d.PatientIdentityRemoved == "YES" for d in seen)


def test_a_second_time_nothing_is_written_and_foreign_files_are_not_touched(hospital):
    first = made(hospital)
    stamps = {path: path.stat().st_mtime_ns for path in (hospital / "cohort").rglob("*")}
    again = made(hospital)
    assert again.unchanged and not first.unchanged and len(again.cohort.images) == 7
    assert {path: path.stat().st_mtime_ns for path in (hospital / "cohort").rglob("*")} == stamps
    leave = intake.replace(OPTIONS, leave_out=("ER",))
    (hospital / "cohort" / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match=r"notes.txt \(1 files\) were put there or changed"):
        made(hospital, leave)
    (hospital / "cohort" / "notes.txt").unlink()
    assert made(hospital, leave).cohort.clinical.keys() == {"age"}
    with (hospital / "cohort" / "cohort.yaml").open("a") as stream:
        stream.write("# my own\n")
    with pytest.raises(InputError, match="cohort.yaml"):
        made(hospital)
    (hospital / "foreign.intake.csv").write_text("my own table")
    with pytest.raises(InputError, match="is no report of new-cohort"):
        made(hospital, name="foreign")
    (hospital / "foreign.intake.csv").unlink()
    (hospital / "foreign").mkdir()
    (hospital / "foreign" / "thesis.docx").write_text("mine")
    with pytest.raises(InputError, match="holds 1 files not made by new-cohort"):
        made(hospital, name="foreign")
    assert [path.name for path in (hospital / "foreign").iterdir()] == ["thesis.docx"]


def test_a_key_is_kept_outside_and_taken_again(hospital):
    made(hospital, replace_key(hospital))
    first = pd.read_csv(hospital / "key.csv")
    assert len(first) == 6 and set(first["patient_id"]) == {f"P-000{n}" for n in range(1, 7)}
    text = (hospital / "sheet.csv").read_text(encoding="cp1252")
    (hospital / "sheet.csv").write_text(text + f"{PLANT}7;;;;;;50;pos;N0;;\n", encoding="cp1252")
    made(hospital, replace_key(hospital))
    second = pd.read_csv(hospital / "key.csv")
    assert second[:6].equals(first) and second["patient_id"][6] == "P-0007"
    for inside in ("cohort", "export"):
        with pytest.raises(InputError, match="--key holds names of the source"):
            made(hospital, intake.replace(OPTIONS, key=hospital / inside / "key.csv"))
    with pytest.raises(InputError, match="lie in each other"):
        new_cohort(hospital / "export" / "x", hospital / "export", hospital / "sheet.csv", OPTIONS)
    (hospital / "key.csv").unlink()  # nobody can tell the old ids any more, so there are new ones
    assert not made(hospital, replace_key(hospital)).unchanged and made(hospital, replace_key(hospital)).unchanged
    (hospital / "key.csv").write_text("old_id,patient_id\na,b\n")
    with pytest.raises(InputError, match="is no key of new-cohort"):
        made(hospital, replace_key(hospital))


def pictures(tmp_path: Path, *names: str) -> None:
    for number, name in enumerate(names):
        path = tmp_path / "export" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((8, 9), number, np.uint8)).save(path)


def test_ids_that_almost_meet_are_counted_on_both_sides_and_joined_only_when_asked(tmp_path):
    pictures(tmp_path, "us/007_1.png", "us/007_2.png", "us/AB-12.png", "us/stranger.png", "us/31.png")
    (tmp_path / "sheet.csv").write_text("Patient,pN\n7,N0\nab12,N+\n31,N+\n44,N0\n")
    result = made(tmp_path)
    notes = {(what, name): reason for what, name, reason in result.notes}
    assert len(result.cohort.images) == 1 and len(result.cohort.patients) == 4
    assert notes["id", "007"].startswith("in 2 images, '7' in the table") and ("id", "AB-12") in notes
    assert ("image", "us/stranger.png") in notes and ("image", "us/007_1.png") in notes
    assert notes["patient", "44"] == "no image: with endpoints and clinical variables only"
    joined = made(tmp_path, intake.replace(OPTIONS, accept_near=True))
    assert len(joined.cohort.images) == 4 and joined.counts() == {"image": 1, "id": 2, "patient": 1}


@pytest.mark.parametrize(
    ("name", "patient"),
    [
        ("12/a.png", "12"),
        ("x/12.png", "12"),
        ("x/12_1.png", "12"),
        ("frame_12.png", ""),  # a bare number in the middle may count anything
        ("US_ab-12_L.dcm", "ab-12"),
        ("12/ab-12.png", "ab-12"),
        ("12/13.png", ""),
        ("112.png", ""),
        ("scan 12 b/x.nii.gz", ""),
    ],
)
def test_a_patient_is_read_from_a_name_only_where_it_is_sure(name, patient):
    assert patient_in_name(name, {"12", "13", "ab-12"}) == patient


def test_what_names_and_descriptions_propose():
    assert [proposed("timepoint", t) for t in ("MRI pre", "post NAC", "pre and post", "express")] == [
        "pre",
        "post",
        "",
        "",
    ]
    assert [proposed("laterality", t) for t in ("us left", "7_R_2.png", "L and R")] == ["L", "R", ""]
    described = ("t2_tirm_tra", "ep2d_diff_b50_ADC", "DYN eTHRIVE", "ax T1 +C", "t1_fl3d", "localizer", "shift2")
    assert [sequence(text) for text in described] == ["T2", "ADC", "DCE", "DCE", "T1", "", ""]
    names = ("masks/a.png", "a_mask.nii.gz", "tumor.nii", "a_segmentation2.png", "unmasked.png", "a.png")
    assert [mask_base(Path("x", name)) for name in names] == ["a", "a", "", "a", None, None]


def test_files_of_a_simulated_cohort_are_told_apart_as_its_table_does(small_cohort, tmp_path):
    for name in ("images", "masks"):
        shutil.copytree(small_cohort.root / name, tmp_path / "export" / name)
    sheet, options = small_cohort.root / "patients.csv", parse_options(["aln=aln_metastasis"], [], [])
    options = intake.replace(options, patient_column="patient_id", key=tmp_path / "key.csv")
    images = new_cohort(tmp_path / "cohort", tmp_path / "export", sheet, options).cohort.images
    old = pd.read_csv(tmp_path / "key.csv").set_index("patient_id")["old_id"]
    columns = ["patient_id", "modality", "timepoint", "sequence", "laterality"]
    tables = []
    for table in (images.assign(patient_id=images["patient_id"].map(old)), small_cohort.images):
        sequences = table["sequence_or_view"].where(table["modality"].isin(["MG", "MRI"]))
        table = table.assign(
            sequence=sequences.str.replace("_b800", ""),
            laterality=table["laterality"].where(table["modality"] != "MRI"),
        )
        tables.append(table.fillna({"timepoint": ""}).sort_values(columns).reset_index(drop=True))
    pd.testing.assert_frame_equal(tables[0][columns], tables[1][columns])
    assert (images["mask_path"].notna().sum()) == small_cohort.images["mask_path"].notna().sum()


def test_a_dynamic_series_is_parted_by_phase(tmp_path, rng):
    volumes = rng.integers(0, 900, (3, *SHAPE)).astype(np.float32)
    for phase, values in enumerate(volumes, 1):
        for number, dataset in enumerate(slices("p1", "MR", values)):
            dataset.TemporalPositionIdentifier = phase
            dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = f"1.2.{phase}.{number + 1}"
            save(dataset, tmp_path / "export" / f"{phase}_{number}.dcm")
    (tmp_path / "sheet.csv").write_text("Patient|pN\np1|N0\np2|N+\n")
    images = made(tmp_path).cohort.images
    assert images["sequence_or_view"].tolist() == ["DCE_pre", "DCE_early", "DCE_late"]
    for path, values in zip(images["path"], volumes, strict=True):
        np.testing.assert_array_equal(read_volume(tmp_path / "cohort" / path).values, values)


def test_an_outline_lies_on_the_voxels_it_was_drawn_on(tmp_path, lesion):
    volume = Volume(np.zeros(SHAPE, np.float32), GRID, Path("volume"))
    path = save(segmentation(lesion, "1.2", [3, 2]), tmp_path / "seg.dcm")
    np.testing.assert_array_equal(structure_mask(path, volume), lesion)
    tumor = [(2, 5, 6, 9, 12), (3, 4, 5, 11, 13)]
    for boxes in ({"x": tumor}, {"heart": [(1, 0, 0, 5, 5)], "GTV": tumor}):
        path = save(structure_set(boxes, "1.2"), tmp_path / "rt.dcm")
        np.testing.assert_array_equal(structure_mask(path, volume), lesion)
    hollow = lesion.copy()
    hollow[3, 6:8, 7:9] = False
    path = save(structure_set({"x": [*tumor, (3, 6, 7, 8, 9)]}, "1.2"), tmp_path / "rt.dcm")
    np.testing.assert_array_equal(structure_mask(path, volume), hollow)
    for boxes, message in (
        ({"heart": tumor, "lung": tumor}, "of its 2 structures none can be the lesion"),
        ({"x": [(9, 1, 1, 5, 5)]}, "lies in no slice"),
    ):
        path = save(structure_set(boxes, "1.2"), tmp_path / "rt.dcm")
        with pytest.raises(InputError, match=message):
            structure_mask(path, volume)
    elsewhere = Volume(volume.values, VolumeGeometry(GRID.spacing_mm, (-19.0, 5.0, 11.0)), Path("volume"))
    path = save(segmentation(lesion, "1.2", [2, 3]), tmp_path / "seg.dcm")
    with pytest.raises(InputError, match="lies on other voxels"):
        structure_mask(path, elsewhere)
    with pytest.raises(InputError, match="20 x 24 pixels, its image 20 x 25"):
        structure_mask(path, Volume(np.zeros((6, 20, 25), np.float32), GRID, Path("volume")))


@pytest.mark.parametrize(("ground", "ink"), [(0, 220), (60, 250)])
def test_burnt_in_text_is_found_where_it_stands_and_not_on_tissue(ground, ink, rng):
    picture = np.zeros((300, 400), np.uint8)
    picture[:40] = ground
    picture[60:] = rng.gamma(2.0, 25.0, (240, 400)).clip(0, 255)
    assert text_boxes(picture.astype(np.float32)) == []
    canvas = Image.fromarray(picture)
    ImageDraw.Draw(canvas).text((30, 12), "MUSTER ANNA 1964", fill=ink, font=ImageFont.load_default(15))
    (box,) = text_boxes(np.array(canvas).astype(np.float32))
    marked = np.argwhere(np.array(canvas)[:40] != ground)
    assert np.abs(np.array(box) - [*marked.min(axis=0), *(marked.max(axis=0) + 1)]).max() <= 3
    assert text_boxes(np.zeros((5, 5), np.float32)) == []


def test_burnt_in_text_is_noted_with_its_place(tmp_path):
    canvas = Image.new("L", (200, 100))
    ImageDraw.Draw(canvas).text((20, 20), "MUSTER ANNA", fill=255, font=ImageFont.load_default(15))
    (tmp_path / "export" / "us").mkdir(parents=True)
    canvas.save(tmp_path / "export" / "us" / "a1.png")
    (tmp_path / "sheet.csv").write_text("Patient,pN\na1,N0\nb2,N+\n")
    ((what, place, reason),) = [note for note in made(tmp_path).notes if note[0] == "text"]
    assert place.endswith("_US_01.png") and "looks like burnt-in text at 2" in reason


# ------------------------------------------------------------------------------------------------------------ the table


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
def test_a_table_is_read_whatever_its_separator_and_encoding(separator, encoding, tmp_path):
    rows = [["Größe", "a,b"], ["3", "x;y"], ["", ""], ["n/a", 'q"'], ["5", "|\t"]]
    stream = io.StringIO()
    csv.writer(stream, delimiter=separator, quoting=csv.QUOTE_ALL).writerows(rows)
    text = stream.getvalue() if separator == "," else stream.getvalue().replace('"a,b"', '"ab"')
    (tmp_path / "t.csv").write_bytes(text.encode(encoding))
    sheet = read_sheet(tmp_path / "t.csv")
    assert sheet.cells.iloc[:, 0].to_dict() == {2: "3", 4: "", 5: "5"} and sheet.cells.columns[0] == "Größe"
    assert sheet.decimal_comma == (separator != ",")


def test_an_excel_workbook_is_read_as_it_shows(tmp_path):
    book = openpyxl.Workbook()
    for row in (["id", "age", "when"], [7, 51.5, pd.Timestamp("2024-02-29")], ["007", 40.0, None], [None, None, None]):
        book.active.append(row)
    book.save(tmp_path / "t.xlsx")
    cells = read_sheet(tmp_path / "t.xlsx").cells
    assert cells.to_numpy().tolist() == [["7", "51.5", "2024-02-29 00:00:00"], ["007", "40", ""]]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a,b\n", "no line of a patient"),
        (b"a,a\n1,2\n", "heading appears twice"),
        (b"a,b\n1,2,3\n", "line has 3 cells where the heading has 2"),
        (b'a,b\n"1,2\n', "row 2: broken quoting"),
        (b"PK\x03\x04 and more", "workbook of a kind"),
        (b"a,b\n1,\0\n", "no table of text"),
        (b"\xff\xfea", "no text in UTF-8"),
    ],
)
def test_a_table_that_cannot_be_read_is_one_message(content, message, tmp_path):
    (tmp_path / "t.csv").write_bytes(content)
    with pytest.raises(InputError) as raised:
        read_sheet(tmp_path / "t.csv")
    assert message in str(raised.value) and "t.csv" in str(raised.value)


def test_a_minus_beside_plus_is_a_value_and_alone_a_gap(tmp_path):
    (tmp_path / "t.csv").write_text("id,ER,grade\n1,+,-\n2,-,2\n3,unknown,n/a\n")
    cells = read_sheet(tmp_path / "t.csv").cells
    assert cells["ER"].tolist() == ["+", "-", ""] and cells["grade"].tolist() == ["", "2", ""]


def test_decimal_commas_are_understood_and_thousands_are_not_guessed():
    assert numbers(pd.Series(["3,5", "", "1,234"]), False).tolist()[::2] == [3.5, 1.234]
    assert numbers(pd.Series(["1,234"]), True).tolist() == [1.234]
    for cells, decimal_comma in ((["1,234"], False), (["1,5", "2.5"], True), (["1,234,567"], True), (["12 mm"], True)):
        with pytest.raises(ValueError):
            numbers(pd.Series(cells), decimal_comma)


@pytest.mark.parametrize(
    ("heading", "cells", "message"),
    [
        ("Surname", ["a", "b"] * 3, "heading"),
        ("PatientName", ["a", "b"] * 3, "heading"),
        ("date_of_birth", ["a", "b"] * 3, "heading"),
        ("x", ["a"] * 6, "fewer than two"),
        ("x", ["03.02.2020", "04.02.2020"] * 3, "dates"),
        ("x", ["2020-02-03 00:00:00", "2020-02-04"] * 3, "dates"),
        ("x", ["20200203", "19991231"] * 3, "dates"),
        ("x", [str(700_001 + i) for i in range(6)], "identifier"),
        ("x", list("34567"), "identifier"),
        ("x", ["by meier", "no"] * 3, "from the headers"),
        ("x", [f"word {i}" for i in range(20)], "free text"),
        ("x", ["a" * 41, "b"] * 3, "free text"),
        ("x", ["a", "a", "b"], "'b' stands in one patient only"),
    ],
)
def test_a_column_that_may_tell_who_somebody_is_stays_out(heading, cells, message):
    with pytest.raises(ValueError, match=message):
        judged(heading, pd.Series(cells), True, ["meier"])


def test_columns_that_stay_are_typed():
    few = judged("age_years", pd.Series(["93", "93", "51"]), False, [])
    assert few[0].kind == "continuous" and few[1].tolist() == [90, 90, 51]
    variable, values = judged("Age", pd.Series(["93", "51", "", *map(str, range(30, 40))]), False, [])
    assert variable.kind == "continuous" and values[0] == 90.0 and np.isnan(values[2])
    variable, values = judged("Grade", pd.Series(["2", "1", "2", "3", "", "1", "3", "2"]), False, [])
    assert (variable.kind, variable.levels) == ("nominal", ("2", "1", "3"))
    variable, values = judged("Shape", pd.Series(["oval", "round", "round", "oval", "round"]), False, [])
    assert variable.levels == ("round", "oval") and values[0] == "oval"
    for given, steps in (
        (["4a", "4a", "4a", "3", "3", "2", "2"], ("2", "3", "4a")),
        (["BI-RADS 5", "BI-RADS 4c", "BI-RADS 4b", "BI-RADS 4c", "BI-RADS 5", "BI-RADS 4b"], None),
        (["T2", "T2", "T1", "T1", "T2"], ("T1", "T2")),
    ):
        variable, _ = judged("assessment", pd.Series(given), False, [])
        assert (variable.kind, variable.levels) == ("ordinal", steps or ("BI-RADS 4b", "BI-RADS 4c", "BI-RADS 5"))
    assert judged("site", pd.Series(["T2", "T2", "G1", "G1"]), False, [])[0].kind == "nominal"


# ------------------------------------------------------------------------------------------------- options and mistakes


def test_endpoints_are_mapped_as_stated_and_the_rest_is_unknown(tmp_path):
    pictures(tmp_path, "us/a1.png")
    (tmp_path / "sheet.csv").write_text("Patient,pN,hospital\na1,n+,S\na2,N0,N\na3,NX,N\na1,,S\na4,,N\na5,itc,N\n")
    arguments = (["aln=pN"], ["aln=N+", "aln=itc"], ["aln=N0"])
    result = made(tmp_path, parse_options(*arguments, patient_column="Patient", center_column="hospital"))
    patients = result.cohort.patients
    assert sorted(patients["aln"].dropna()) == [0, 1, 1] and len(patients) == 5
    assert result.cohort.centers == ("center-1", "center-2") and (patients["center"] == "center-1").sum() == 4
    assert result.cohort.endpoints["aln"].positive == "n+ or itc"
    assert ("value", "nx") in {note[:2] for note in result.notes}
    assert read_cohort(tmp_path / "cohort").patients.equals(patients)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"patient_column": "Patent"}, "no column 'Patent' for --patient-column; its columns are 'Patient', 'pN'"),
        ({"patient_column": ""}, "Give --patient-column ('Patient' fits 2 images)"),
        ({"endpoints": {"aln_metastasis": "N"}}, "no column 'N' for --endpoint aln_metastasis="),
        ({"positive": {}}, "holds n0 (1), n+ (1); say which mean 1 with --positive aln_metastasis=VALUE"),
        ({"positive": {"aln_metastasis": ("N1",)}}, "n1 is not there"),
        ({"spacing": ("pN", "mm")}, "column 'pN' of --spacing: not all cells are numbers"),
        ({"leave_out": ("grade",)}, "no column 'grade' for --leave-out"),
        ({"center_column": "empty"}, "is empty, or differs between rows of a patient"),
    ],
)
def test_a_mistake_in_the_options_names_the_remedy(change, message, tmp_path):
    pictures(tmp_path, "us/a1.png", "us/a2.png")
    (tmp_path / "sheet.csv").write_text("Patient,pN,empty\na1,N0,\na2,N+,x\n")
    with pytest.raises(InputError, match=re.escape(message)):
        made(tmp_path, intake.replace(OPTIONS, **change))
    assert not (tmp_path / "cohort").exists() and not list(tmp_path.glob(".cohort*"))


def test_more_than_two_values_need_the_negative_ones_and_rows_must_agree(tmp_path):
    pictures(tmp_path, "us/a1.png")
    (tmp_path / "sheet.csv").write_text("Patient,pN\na1,N0\na2,N+\na3,NX\n")
    with pytest.raises(InputError, match="say which mean 0 with --negative"):
        made(tmp_path)
    (tmp_path / "sheet.csv").write_text("Patient,pN\na1,N0\na2,N+\na2,N0\n")
    with pytest.raises(InputError, match="row 3, column pN: rows of one patient differ"):
        made(tmp_path)
    (tmp_path / "sheet.csv").write_text("Patient,pN\na1,N+\na2,N+\n")
    with pytest.raises(InputError):
        made(tmp_path)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([], [], []), "no endpoint"),
        ((["a=x", "a=y"], [], []), "gives a name twice"),
        ((["aln"], [], []), "--endpoint aln: give NAME=COLUMN"),
        ((["patient_id=x"], [], []), "--endpoint patient_id"),
        ((["ALN meta=x"], [], []), "use lower-case letters"),
        ((["a=x"], ["b=1"], []), "no --endpoint is called b"),
        ((["a=x"], [], [], "Pixel=inch"), "give COLUMN=mm or COLUMN=cm"),
        ((["a=x"], [], [], "", "XR"), "--modality XR: choose US"),
    ],
)
def test_an_option_of_the_wrong_form_is_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        parse_options(*arguments)


def test_a_folder_of_which_nothing_can_be_used_makes_no_cohort_but_a_report(tmp_path):
    pictures(tmp_path, "us/007.png")
    (tmp_path / "sheet.csv").write_text("Patient,pN\n7,N0\n8,N+\n")
    with pytest.raises(InputError, match="no file becomes an image of a patient"):
        made(tmp_path)
    assert not (tmp_path / "cohort").exists()
    assert pd.read_csv(tmp_path / "cohort.intake.csv")["what"].tolist()[:2] == ["image", "id"]


def test_what_cannot_be_used_is_left_out_with_its_reason(tmp_path, lesion):
    pictures(tmp_path, "a1.png", "us/a2.png", "us/a2_mask.png", "mri/a3.png", "us/a4.png", "us/a4_mask.png")
    Image.new("L", (5, 5), 1).save(tmp_path / "export" / "us" / "a4_mask.png")
    Image.new("L", (9, 8), 0).save(tmp_path / "export" / "us" / "a2_mask.png")
    write_volume(tmp_path / "export" / "ct" / "a5.nii", lesion, GRID)
    (tmp_path / "sheet.csv").write_text("Patient,pN\n" + "".join(f"a{n},N{'0+'[n % 2]}\n" for n in range(1, 6)))
    result = made(tmp_path)
    reasons = {name: reason for what, name, reason in result.notes if what in ("image", "mask")}
    assert reasons["a1.png"].startswith("its modality is not told; give --modality")
    assert reasons["us/a2_mask.png"] == "it is empty" and "5 x 5 pixels" in reasons["us/a4_mask.png"]
    assert "a picture, but of modality MRI" in reasons["mri/a3.png"]
    assert "6 slices and no outline" in reasons["ct/a5.nii"]
    assert len(result.cohort.images) == 2 and result.cohort.images["mask_path"].isna().all()
    assert pd.read_csv(result.report).shape == (len(result.notes), 3)
    named = intake.replace(OPTIONS, modality="US")
    assert len(made(tmp_path, named).cohort.images) == 3


# ------------------------------------------------------------------------------------------------------------ real files


def run_all(*arguments: object) -> subprocess.CompletedProcess:
    command = [sys.executable, "run_all.py", *map(str, arguments)]
    return subprocess.run(command, cwd=repository_root(), capture_output=True, text=True)


def test_sixty_real_ultrasound_images_and_their_sheet_take_one_command(tmp_path):
    sheet = real_data("breast_lesions_usg", "BrEaST-Lesions-USG-clinical-data-Dec-15-2023.xlsx")
    (tmp_path / "export").mkdir()
    for path in sheet.parent.rglob("case0[0-5]*.png"):
        shutil.copy(path, tmp_path / "export")
    given = ["--dicom", tmp_path / "export", "--table", sheet, "--patient-column", "CaseID", "--modality", "US"]
    given += ["--endpoint", "malignant=Classification", "--positive", "malignant=malignant"]
    given += ["--negative", "malignant=benign", "--spacing", "Pixel_size=cm", "--key", tmp_path / "key.csv"]
    done = run_all("new-cohort", tmp_path / "cohort", *given)
    assert done.returncode == 0, done.stderr
    assert "59 images of 59 patients: US - B-mode -" in done.stdout
    assert run_all("validate", tmp_path / "cohort").returncode == 0
    cohort = read_cohort(tmp_path / "cohort")
    assert len(cohort.patients) == 256 and cohort.patients["malignant"].sum() == 98
    old = pd.read_csv(tmp_path / "key.csv").set_index("patient_id")["old_id"]
    for row in cohort.images[::10].itertuples():
        case = f"case{old[row.patient_id]:03d}"
        before = read_image(tmp_path / "export" / f"{case}.png").pixels
        np.testing.assert_array_equal(read_image(cohort.root / row.path).pixels, before)
        drawn = tmp_path / "export" / f"{case}_tumor.png"
        if drawn.exists():
            np.testing.assert_array_equal(read_mask(cohort.root / row.mask_path), read_mask(drawn))


def test_pydicoms_own_files_make_a_valid_cohort(tmp_path):
    source = Path(pydicom.data.__file__).parent / "test_files"
    ids = [
        "1CT1",
        "4MR1",
        "13US1",
        "021234567",
        "JXD191021006",
        "11-05-25-142825",
        "98890234",
        "77654033",
        "CQ500-CT-310",
        "204",
    ]
    rows = "".join(f"{patient};{number % 2};{50 + number},5\n" for number, patient in enumerate(ids))
    (tmp_path / "sheet.csv").write_text(f"Pat;pN;Alter\n{rows}")
    given = ["--dicom", source, "--table", tmp_path / "sheet.csv", "--endpoint", "aln=pN", "--patient-column", "Pat"]
    done = run_all("new-cohort", tmp_path / "cohort", *given)
    assert done.returncode == 0, done.stderr
    assert run_all("validate", tmp_path / "cohort").returncode == 0
    cohort = read_cohort(tmp_path / "cohort")
    assert set(cohort.images["modality"]) == {"US", "USV", "MRI", "CT"}
    for path in cohort.images["path"]:
        content = (cohort.root / path).read_bytes()
        assert (
            not any(patient.encode() in content for patient in ids if len(patient) > 5)
            and b"CompressedSamples" not in content
        )
    notes = pd.read_csv(tmp_path / "cohort.intake.csv")
    assert (notes["what"] == "text").sum() >= 2  # the two Philips pictures show name of hospital, date and number
    assert notes.loc[notes["name"] == "rtplan.dcm", "reason"].item().startswith("its modality (RTPLAN)")
    assert json.loads((tmp_path / "cohort" / "intake.json").read_text()).keys() == {"made_from", "files"}
