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
from alnlib.pipeline.cli import main
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


def test_headers_are_warned_of_by_validate(folder, capsys):
    with_headers(folder, p01={"ImageLaterality": "R"})
    assert main(["validate", str(folder), "--images"]) == 0
    said = capsys.readouterr()
    assert "the header says another laterality (R for L; patient p01" in said.err
    assert "headers contradict the table in 1 place." in said.out
