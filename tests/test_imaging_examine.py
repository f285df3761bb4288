"""All faults of a cohort's images at once, before a run; what headers say otherwise; images set aside without ending a run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image

from alnlib.cohorts.folder import read_cohort
from alnlib.cohorts.schema import Cohort
from alnlib.errors import InputError, grouped
from alnlib.imaging import examine
from alnlib.imaging.rows import read_still
from alnlib.imaging.volumes import VolumeGeometry
from alnlib.pipeline.cli import main
from alnsim.nifti import write_volume
from tests.test_imaging_faults import dicom, speckle

LESION = (np.hypot(*np.mgrid[-30:30, -40:40]) < 12).astype(np.uint8)


@pytest.fixture
def folder(tmp_path) -> Path:
    """A valid folder of twelve patients with a still each."""
    folder = tmp_path / "cohort"
    (folder / "us").mkdir(parents=True)
    described = {"name": "made-up", "title": "Made up", "provenance": "simulated", "primary_endpoint": "aln"}
    described |= {"endpoints": {"aln": {"label": "ALN", "positive": "yes+", "negative": "no-"}}, "centers": ["A"]}
    described |= {"license": "none", "citation": "none", "source": "tests"}
    (folder / "cohort.yaml").write_text(yaml.safe_dump(described), encoding="utf-8")
    ids = [f"p{k:02d}" for k in range(12)]
    pd.DataFrame({"patient_id": ids, "center": "A", "aln": [0, 1] * 6}).to_csv(folder / "patients.csv", index=False)
    for k, patient in enumerate(ids):
        Image.fromarray(speckle(LESION.shape, k)).save(folder / f"us/{patient}.png")
        Image.fromarray(255 * LESION).save(folder / f"us/{patient}_mask.png")
    images = pd.DataFrame({"image_id": ids, "patient_id": ids, "modality": "US"})
    images["path"], images["mask_path"] = (
        "us/" + images["patient_id"] + ".png",
        "us/" + images["patient_id"] + "_mask.png",
    )
    images.assign(box="").to_csv(folder / "images.csv", index=False)
    return folder


def edited(folder: Path, **cells: tuple[int, str]) -> Path:
    """Cells as column=(row, text)."""
    table = pd.read_csv(folder / "images.csv", dtype=str, keep_default_na=False)
    for column, (row, text) in cells.items():
        if column not in table:
            table[column] = ""
        table.loc[row, column] = text
    table.to_csv(folder / "images.csv", index=False)
    return folder


@pytest.fixture
def faulty(folder) -> Path:
    """A truncated image, a mask of another size, an empty mask, a box outside, an image as its own mask."""
    broken = folder / "us/p02.png"
    broken.write_bytes(broken.read_bytes()[:900])
    Image.fromarray(255 * LESION[:40]).save(folder / "us/p04_mask.png")
    Image.fromarray(0 * LESION).save(folder / "us/p06_mask.png")
    edited(folder, box=(7, "50 50 300 300"))
    return edited(folder, mask_path=(8, "us/p08.png"))


def test_every_fault_is_named_at_once_with_patient_file_and_remedy(faulty, capsys):
    assert main(["validate", str(faulty)]) == 0, "the tables alone are valid"
    assert main(["validate", str(faulty), "--images"]) == 2
    said = capsys.readouterr().err
    assert "5 of 12 images cannot be used" in said
    for patient, what in {
        "p02": "may be truncated",
        "p04": "the mask has 40 x 80 pixels, its image 60 x 80",
        "p06": "the mask is empty",
        "p07": "reaches outside the image of 60 x 80",
        "p08": "is no mask",
    }.items():
        line = next(line for line in said.splitlines() if f"patient {patient}" in line)
        assert what in line and f"us/{patient}" in line and "images.csv, row" in line and ";" in line


def test_remedies_work_when_they_are_followed(faulty):
    Image.fromarray(speckle(LESION.shape, 2)).save(faulty / "us/p02.png")
    for patient in ("p04", "p06"):
        Image.fromarray(255 * LESION).save(faulty / f"us/{patient}_mask.png")
    edited(faulty, box=(7, "20 30 40 50"))
    edited(faulty, mask_path=(8, "us/p08_mask.png"))
    assert main(["validate", str(faulty), "--images"]) == 0


def test_alike_faults_share_a_line_and_processes_change_nothing(folder):
    for patient in ("p01", "p03", "p05"):
        Image.fromarray(0 * LESION).save(folder / f"us/{patient}_mask.png")
    cohort = read_cohort(folder)
    found = examine.examine_images(cohort, 2)
    pd.testing.assert_frame_equal(found, examine.examine_images(cohort))
    (line,) = grouped(examine.image_problems(cohort, found))
    assert "rows 3, 5, 7" in line and "3 times" in line


def test_a_run_goes_on_without_the_bad_images_up_to_a_share(faulty):
    cohort = read_cohort(faulty)
    found = examine.examine_images(cohort)
    kept = examine.set_aside(cohort, found, most=0.5)
    assert set(cohort.images["patient_id"]) - set(kept.images["patient_id"]) == {"p02", "p04", "p06", "p07", "p08"}
    assert len(kept.patients) == 12, "patients stay, for clinical variables and other images"
    with pytest.raises(InputError, match=r"5 of 12 images cannot be used, more than the share of 0.1") as raised:
        examine.set_aside(cohort, found, most=0.1)
    assert "patient p08" in str(raised.value)
    assert examine.set_aside(cohort, found.head(0)) is cohort


# headers


def with_headers(folder: Path, *, spacing: str = "", timepoints: bool = False, **of_image: dict) -> Cohort:
    """The images as DICOM objects; of_image: {patient: elements}."""
    table = pd.read_csv(folder / "images.csv", dtype=str, keep_default_na=False)
    for patient in table["patient_id"]:
        elements = {"PatientID": f"hospital {patient}", "StudyDate": "20200301"} | of_image.get(patient, {})
        dicom(folder / f"us/{patient}.dcm", speckle(LESION.shape), elements.pop("modality", "US"), **elements)
    table["path"] = "us/" + table["patient_id"] + ".dcm"
    table["laterality"], table["pixel_spacing_mm"] = "L", spacing
    table.to_csv(folder / "images.csv", index=False)
    return read_cohort(folder)


def told(cohort: Cohort) -> dict[str, set[str]]:
    found = examine.header_contradictions(cohort)
    assert not found.astype(str).apply(lambda column: column.str.contains("hospital")).any().any(), (
        "identities stay untold"
    )
    return found.groupby("what")["patient_id"].agg(set).to_dict()


def test_modality_side_and_size_are_compared(folder):
    cohort = with_headers(
        folder,
        spacing="0.2 0.2",
        p01={"modality": "MG", "ImageLaterality": "R", "PixelSpacing": [0.2, 0.2]},
        p02={"ImageLaterality": "L", "PixelSpacing": [0.1, 0.1]},
        p03={"modality": "OT", "PixelSpacing": [0.199, 0.2]},
    )
    assert told(cohort) == {"modality": {"p01"}, "laterality": {"p01"}, "pixel_spacing_mm": {"p02"}}


def test_whose_images_belong_together_is_compared_and_a_common_pseudonym_is_none(folder):
    swapped = with_headers(folder, p05={"PatientID": "hospital p06"})
    assert told(swapped) == {"patient_id": {"p06"}} or told(swapped) == {"patient_id": {"p05"}}
    for pseudonyms in (["ANONYMOUS"], ["ANON1", "ANON2"], ["study 7"]):
        same = {f"p{k:02d}": {"PatientID": pseudonyms[k % len(pseudonyms)]} for k in range(12)}
        assert told(with_headers(folder, **same)) == {}, pseudonyms


def test_a_picture_that_is_turned_with_a_mask_that_is_not_is_listed(folder):
    tags = Image.Exif()
    tags[274] = 3
    Image.fromarray(speckle(LESION.shape)).save(folder / "us/p03.png", exif=tags)
    assert told(read_cohort(folder)) == {"orientation": {"p03"}}


def test_visits_phases_and_intents_are_compared(folder):
    cohort = with_headers(folder, p01={"StudyDate": "20200101"})
    images = cohort.images.copy()
    images.loc[images.index[:2], ["patient_id", "timepoint"]] = [["p00", "pre"], ["p00", "post"]]
    dicom(folder / "us/p01.dcm", speckle(LESION.shape), "US", PatientID="hospital p00", StudyDate="20200101")
    found = examine.header_contradictions(replace(cohort, images=images))
    assert found[["what", "header"]].values.tolist() == [["timepoint", "60 days before the visit pre"]]
    times = {"DCE_pre": "1000", "DCE_early": "10:05:00", "DCE_late": "100200.5"}
    rows = images.head(3).assign(patient_id="p00", modality="MRI", sequence_or_view=list(times), timepoint="pre")
    for path, time in zip(rows["path"], times.values(), strict=True):
        dicom(folder / path, speckle(LESION.shape), "MR", AcquisitionTime=time, StudyDate="20200101")
    found = examine.header_contradictions(replace(cohort, images=rows))
    assert found[["what", "table"]].values.tolist() == [["sequence_or_view", "DCE_late"]]
    rows = images.head(3).assign(modality="MG", timepoint=None)
    for path, intent in zip(rows["path"], ("PRESENTATION", "PROCESSING", "PRESENTATION"), strict=True):
        dicom(folder / path, speckle(LESION.shape), "MG", PresentationIntentType=f"FOR {intent}")
    found = examine.header_contradictions(replace(cohort, images=rows))
    assert found[["what", "header"]].values.tolist() == [["intent", "for processing"]]


@pytest.mark.parametrize(("turned", "width_mm", "expected"), [(False, 1.6, "R"), (True, 1.6, "L"), (False, 0.8, None)])
def test_a_box_in_the_other_breast_is_listed(folder, turned, width_mm, expected):
    """320 mm show both breasts; columns grow to the patient's left, or, turned, to the right. 160 mm show one."""
    direction = ((-1, 0, 0), (0, -1, 0), (0, 0, 1)) if turned else ((1, 0, 0), (0, 1, 0), (0, 0, 1))
    geometry = VolumeGeometry((3.0, 1.6, width_mm), (-40.0, 30.0, 5.0), direction)
    values = np.random.default_rng(0).normal(100, 10, (6, 120, 200)).astype(np.float32)
    rows = pd.read_csv(folder / "images.csv", dtype=str, keep_default_na=False).head(4)
    rows["modality"], rows["sequence_or_view"], rows["mask_path"] = "MRI", "DCE_early", ""
    rows["path"], rows["laterality"] = rows["patient_id"] + ".nii.gz", ["L", "R", "", "L"]
    rows["box"] = ["2 30 20 4 50 40", "2 30 20 4 50 40", "2 30 20 4 50 40", "2 30 97 4 50 103"]
    for name in rows["path"]:
        write_volume(folder / name, values, geometry)
    rows.to_csv(folder / "images.csv", index=False)
    found = examine.header_contradictions(read_cohort(folder))
    assert found["header"].tolist() == ([] if expected is None else [f"the box in breast {expected}"])
    assert found["patient_id"].tolist() == {"R": ["p00"], "L": ["p01"], None: []}[expected]


def test_how_images_were_acquired_is_read_from_their_headers(folder):
    """Of DICOM, NIfTI and pictures; the table's size of pixels counts before the header's; a damaged file says nothing."""
    cohort = with_headers(
        folder,
        p01={"PixelSpacing": [0.1, 0.4], "Manufacturer": "Made", "ManufacturerModelName": "Up 2"},
        p02={"modality": "MR", "MagneticFieldStrength": "1.5"},
    )
    images = cohort.images.copy()
    write_volume(folder / "v.nii.gz", np.zeros((3, 20, 30), np.float32), VolumeGeometry((5.0, 0.5, 2.0)))
    (folder / "us/p05.dcm").write_bytes(b"nothing")
    images.loc[3, ["path", "modality"]] = ["v.nii.gz", "MRI"]
    images.loc[4, ["path", "pixel_spacing_mm"]] = ["us/p04.png", "0.3 0.3"]
    found = examine.acquisition(images, folder, n_jobs=2)
    assert list(found.index) == list(images.index) and list(found) == list(examine.ACQUISITION_COLUMNS)
    assert found.loc[1, "maker"] == "Made Up 2" and found.loc[1, "spacing_mm"] == pytest.approx(0.2)
    assert found.loc[2, "strength"] == 1.5 and found["strength"].notna().sum() == 1
    assert found.loc[3, "spacing_mm"] == pytest.approx(1.0) and found.loc[3, "pixels"] == 600
    assert found.loc[4, "spacing_mm"] == pytest.approx(0.3) and found.loc[4, "pixels"] == 60 * 80
    assert found.loc[5].isna().all() and found.loc[0, "pixels"] == 60 * 80 and np.isnan(found.loc[0, "spacing_mm"])


def test_of_two_lesions_in_a_mask_the_box_names_one(folder):
    both = np.zeros(LESION.shape, np.uint8)
    both[10:20, 10:22] = both[35:50, 50:66] = 255
    Image.fromarray(both).save(folder / "us/p00_mask.png")
    edited(folder, box=(0, "5 5 25 30"))
    row = read_cohort(folder).images.iloc[0]
    still = read_still(row, folder)
    assert still.mask.sum() == 10 * 12 and still.mask[10:20, 10:22].all() and still.box == (5, 5, 25, 30)
    beside = row.copy()
    beside["box"] = "0 40 8 60"
    with pytest.raises(InputError, match="box and mask of the image name different places"):
        read_still(beside, folder)


def test_headers_are_warned_of_by_validate(folder, capsys):
    with_headers(folder, p01={"ImageLaterality": "R"})
    assert main(["validate", str(folder), "--images"]) == 0
    said = capsys.readouterr()
    assert "the header says another laterality (R for L; patient p01" in said.err
    assert "headers contradict the table in 1 place." in said.out
