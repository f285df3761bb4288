"""The Duke cohort. Truth: the counts stated in the data README and issue 2, and the workbook's own data dictionary.

Tests on the real workbook are skipped where it is absent; the others use a small workbook with the same headings.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import openpyxl
import pandas as pd
import pytest
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from alnlib.cohorts import duke
from alnlib.cohorts.duke import CLINICAL_SHEET, find_duke_series, read_duke
from alnlib.cohorts.folder import read_cohort, write_cohort
from alnlib.cohorts.schema import parse_box
from alnlib.errors import InputError
from tests.real_data import real_data

LATER_KNOWLEDGE = (
    "surg",
    "respon",
    "recurr",
    "death",
    "adjuvant",
    "therap",
    "oncotype",
    "following",
    "follow",
    "metast",
    "lymph",
)


# ------------------------------------------------------------------------------------------------------- real workbook


@pytest.fixture(scope="module")
def cohort():
    return read_duke(real_data("duke", CLINICAL_SHEET).parent)


def test_real_endpoints_have_the_stated_counts(cohort):
    """Data README: N stage known for 898 of 922, 529 N0 and 369 N+; 149 N+ with ypN known, 50 of them ypN0."""
    assert len(cohort.patients) == 922
    assert cohort.known("aln_metastasis")["aln_metastasis"].value_counts().to_dict() == {0: 529, 1: 369}
    assert cohort.known("apcr")["apcr"].value_counts().to_dict() == {0: 99, 1: 50}
    assert (cohort.known("apcr")["aln_metastasis"] == 1).all()
    assert not cohort.is_simulated


def test_real_radiologist_has_the_stated_sensitivity_and_specificity(cohort):
    """Data README: sensitivity 217/369 = 0.588 and specificity 464/529 = 0.877 against N+."""
    read = cohort.known("aln_metastasis").merge(cohort.readers, on="patient_id", validate="1:1")
    assert set(read["reader_id"]) == {"radiologist_mri"}
    assert int(((read["score"] == 1) & (read["aln_metastasis"] == 1)).sum()) == 217
    assert int(((read["score"] == 0) & (read["aln_metastasis"] == 0)).sum()) == 464


def test_real_predictors_are_decoded_by_name_and_known_before_surgery(cohort):
    patients = cohort.patients
    assert patients["age_years"].between(20, 95).all()
    assert patients["age_years"].iat[0] == pytest.approx(15209 / 365.25)  # first row of the sheet: -15209 days
    assert patients["er"].value_counts().to_dict() == {"positive": 686, "negative": 236}
    assert patients["menopausal_status"].isna().sum() == 16  # code 2, "N/A"
    for column, variable in cohort.clinical.items():
        if variable.kind != "continuous":
            assert set(patients[column].dropna()) <= set(variable.levels)
        described = f"{column} {variable.label}".lower()
        assert not [word for word in LATER_KNOWLEDGE if word in described]


def test_real_subtype_agrees_with_the_receptors(cohort):
    """Triple negative and HER2-enriched are defined by the receptors; the sheet says the subtype rests on them only."""
    patients = cohort.patients
    hormone = (patients["er"] == "positive") | (patients["pr"] == "positive")
    negative = ~hormone & (patients["her2"] == "negative")
    assert ((patients["molecular_subtype"] == "triple negative") == negative).mean() > 0.99
    assert (
        (patients["molecular_subtype"] == "HER2-enriched") == (~hormone & (patients["her2"] == "positive"))
    ).mean() > 0.99


def test_real_codes_are_those_of_the_workbooks_own_dictionary():
    """Sheet "Column Explanations": second row the heading, third row the codes."""
    workbook = openpyxl.load_workbook(real_data("duke", CLINICAL_SHEET), read_only=True)
    rows = list(workbook["Column Explanations"].iter_rows(values_only=True))
    explained = {str(name): str(text).lower() for name, text in zip(rows[1], rows[2], strict=True) if name and text}
    for heading, codes in {
        "Menopause (at diagnosis)": ("0 = pre", "1 = post", "2 = n/a"),
        "ER": ("0 = neg", "1 = pos"),
        "HER2": ("0 = neg", "1 = pos"),
        "Mol Subtype": ("0 = luminal-like", "1 = er/pr pos, her2 pos", "2 = her2", "3 = trip neg"),
        "Nottingham grade": ("1=low", "2=intermediate", "3=high"),
        "Histologic type": ("1=ductal", "2=lobular"),
        "Tumor Grade": ("tubule",),
        "Lymphadenopathy or Suspicious Nodes": ("0 = no", "1 = yes"),
    }.items():
        for code in codes:
            assert code in explained[heading], heading


def test_real_sample_series_becomes_an_image_without_a_box(cohort):
    """The three sample slices are T1; the published boxes belong to the dynamic series."""
    real_data("duke", "dicom_sample")
    image = cohort.images.set_index("image_id").loc["Breast_MRI_002_t1"]
    assert image[["patient_id", "modality", "timepoint", "laterality"]].tolist() == [
        "Breast_MRI_002",
        "MRI",
        "pre",
        "L",
    ]
    assert image["path"] == "dicom_sample"
    assert pd.isna(image["box"])


def test_real_cohort_survives_the_cohort_folder(cohort, tmp_path):
    write_cohort(cohort, tmp_path)
    copy = read_cohort(tmp_path, root=cohort.root)
    pd.testing.assert_frame_equal(copy.patients, cohort.patients, rtol=1e-7)
    pd.testing.assert_frame_equal(copy.images, cohort.images)
    pd.testing.assert_frame_equal(copy.readers, cohort.readers)


# ------------------------------------------------------------------------------------------------------ small workbook


def small_sheet(n: int = 4) -> pd.DataFrame:
    sheet = pd.DataFrame({"Patient ID": [f"Breast_MRI_{number:03d}" for number in range(1, n + 1)]})
    for coded in duke._CODED.values():
        sheet[coded.heading] = 1
    sheet[duke.NODE_STAGE] = [0, 1, 2, -1][:n]
    sheet[duke.NODE_STAGE_AFTER_THERAPY] = [0, 0, 2, 0][:n]
    sheet[duke.SUSPICIOUS_NODES] = [0, 1, 1, 0][:n]
    sheet[duke.BIRTH] = -18262.5 // 1
    sheet[duke.SIDE] = ["L", None, None, None][:n]
    sheet[duke.POSITION] = ["L 3", "R 12", "R 12, L", "R"][:n]
    return sheet


def write_sheet(folder: Path, sheet: pd.DataFrame) -> Path:
    path = folder / CLINICAL_SHEET
    sheet.to_excel(path, index=False)
    return path


def test_small_unknown_stages_and_sides_are_missing(tmp_path):
    write_sheet(tmp_path, small_sheet())
    patients = read_duke(tmp_path).patients
    assert patients["aln_metastasis"].tolist() == [0, 1, 1, pd.NA]
    assert patients["apcr"].tolist() == [pd.NA, 1, 0, pd.NA]  # N0 and NX have no axillary response
    assert patients["tumor_side"].fillna("-").tolist() == ["left", "right", "-", "right"]
    assert patients["age_years"].iat[0] == pytest.approx(50, abs=0.01)


def test_small_without_images_the_images_table_is_empty(tmp_path):
    write_sheet(tmp_path, small_sheet())
    cohort = read_duke(tmp_path)
    assert len(cohort.images) == 0
    assert len(find_duke_series(tmp_path)) == 0


@pytest.mark.parametrize("ids", [["Breast_MRI_001", "Breast_MRI_003"], [1, 3]])
def test_small_features_are_read_by_either_form_of_the_id_and_er_is_none(tmp_path, ids):
    """The archive's workbook and its copies; truth: three features in two rows, one cell empty."""
    write_sheet(tmp_path, small_sheet())
    table = pd.DataFrame({"Patient ID": ids, "Volume": [1.5, 2.5], "SER map, kurtosis": [None, -1e-3], "ER": [1, 0]})
    table.to_excel(tmp_path / duke.FEATURES_SHEET, index=False)
    wide = read_duke(tmp_path).feature_table()
    assert list(wide.columns) == ["MRI_pre_DCE__Volume", "MRI_pre_DCE__SER map, kurtosis"]
    assert wide["MRI_pre_DCE__Volume"].to_dict() == {"Breast_MRI_001": 1.5, "Breast_MRI_003": 2.5}
    assert wide.isna().sum().sum() == 1


def test_small_odd_features_are_named_with_patient_and_row(tmp_path):
    write_sheet(tmp_path, small_sheet())
    table = pd.DataFrame({"Patient ID": [1, 2, 2, 77], "Volume": [1.5, "large", 2.5, 3.5]})
    table.to_excel(tmp_path / duke.FEATURES_SHEET, index=False)
    with pytest.raises(InputError) as raised:
        read_duke(tmp_path)
    said = str(raised.value)
    assert "not a number" in said and "'large'" in said
    assert "patient is not in the clinical sheet, or here twice, 2 times" in said


def test_real_features_have_the_stated_size(tmp_path):
    """Data README: 529 features of all 922 patients, 547 empty cells; a copy, so under the archive's name."""
    copy = real_data("duke", "mri_features/dataset_MRI_ER_target.xlsx")
    for name, source in {CLINICAL_SHEET: real_data("duke", CLINICAL_SHEET), duke.FEATURES_SHEET: copy}.items():
        (tmp_path / name).symlink_to(source)
    wide = read_duke(tmp_path).feature_table()
    assert wide.shape == (922, 529)
    assert wide.isna().sum().sum() == 547


def test_a_missing_workbook_names_the_source_and_the_command(tmp_path):
    with pytest.raises(InputError) as error:
        read_duke(tmp_path)
    for part in (str(tmp_path), CLINICAL_SHEET, "10.7937/TCIA.e3sv-re93", "run_all.py download duke"):
        assert part in str(error.value)


def test_a_workbook_with_wrong_columns_names_the_missing_ones(tmp_path):
    path = write_sheet(tmp_path, small_sheet().drop(columns=["ER", duke.NODE_STAGE]))
    with pytest.raises(InputError) as error:
        read_duke(tmp_path)
    assert [problem.column for problem in error.value.problems] == [duke.NODE_STAGE, "ER"]
    assert f"{path}, row 1, column ER: column is missing" in str(error.value)


def test_unknown_codes_are_all_named_with_patient_and_row(tmp_path):
    sheet = small_sheet().astype(object)
    sheet.loc[1, "ER"] = 7
    sheet.loc[2, duke.BIRTH] = 12000
    path = write_sheet(tmp_path, sheet)
    with pytest.raises(InputError) as error:
        read_duke(tmp_path)
    assert {(problem.row, problem.column, problem.value) for problem in error.value.problems} == {
        (3, "ER", "7"),
        (4, duke.BIRTH, "12000"),
    }
    assert f"{path}, row 3" in str(error.value)
    assert "patient Breast_MRI_002" in str(error.value)


def test_a_repeated_patient_and_a_broken_workbook_are_named(tmp_path):
    sheet = small_sheet()
    sheet.loc[3, "Patient ID"] = "Breast_MRI_001"
    write_sheet(tmp_path, sheet)
    with pytest.raises(InputError, match="row 5.*Breast_MRI_001|Breast_MRI_001.*row 5"):
        read_duke(tmp_path)
    (tmp_path / CLINICAL_SHEET).write_bytes(b"no workbook")
    with pytest.raises(InputError, match="cannot be read as an Excel workbook"):
        read_duke(tmp_path)


# -------------------------------------------------------------------------------------------------------------- series


def write_series(
    folder: Path, patient: str, description: str, number: int, slices: int, *, rising: bool, uid: str | None = None
):
    """A series of slices 2 mm apart, as files named by nothing that tells their order (as idc-index does)."""
    folder.mkdir(parents=True, exist_ok=True)
    uid = uid or generate_uid(entropy_srcs=[str(folder)])
    for instance in range(1, slices + 1):
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.4"
        meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=[str(folder), str(instance)])
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        header = FileDataset(None, {}, file_meta=meta, preamble=b"\0" * 128)
        header.PatientID, header.Modality, header.SeriesDescription = patient, "MR", description
        header.SeriesNumber, header.SeriesInstanceUID, header.InstanceNumber = number, uid, instance
        header.ImagePositionPatient = [0.0, 0.0, 2.0 * (instance if rising else -instance)]
        header.save_as(folder / f"{(instance * 7) % 97:02d}.dcm", enforce_file_format=True)


def write_boxes(folder: Path, rows: list[list]) -> None:
    headings = ["Patient ID", "Start Row", "End Row", "Start Column", "End Column", "Start Slice", "End Slice"]
    pd.DataFrame(rows, columns=headings).to_excel(folder / duke.BOXES_SHEET, index=False)


def test_boxes_become_half_open_and_follow_the_slices_when_the_instances_run_downwards(tmp_path):
    """Published: 1-based, inclusive, by InstanceNumber. Slices 2-3 of 10 counted from the head are [7, 9) from below."""
    write_sheet(tmp_path, small_sheet())
    write_boxes(tmp_path, [["Breast_MRI_001", 11, 20, 31, 50, 2, 3], ["Breast_MRI_002", 11, 20, 31, 50, 2, 3]])
    top = tmp_path / "duke_breast_cancer_mri"
    write_series(top / "Breast_MRI_001" / "study" / "MR_1", "Breast_MRI_001", "ax dyn pre", 3, 10, rising=True)
    write_series(top / "Breast_MRI_001" / "study" / "MR_2", "Breast_MRI_001", "ax dyn 1st pass", 5, 10, rising=False)
    write_series(top / "Breast_MRI_001" / "study" / "MR_3", "Breast_MRI_001", "ax t1", 2, 10, rising=True)
    write_series(top / "Breast_MRI_002" / "study" / "MR_1", "Breast_MRI_002", "Ph1/ax 3d dyn", 5, 2, rising=True)
    cohort = read_duke(tmp_path)
    boxes = cohort.images.set_index("image_id")["box"]
    assert list(boxes.index) == [
        "Breast_MRI_001_t1",
        "Breast_MRI_001_dce_pre",
        "Breast_MRI_001_dce_post1",
        "Breast_MRI_002_dce_post1",
    ]
    assert parse_box(boxes["Breast_MRI_001_dce_pre"]) == (1, 10, 30, 3, 20, 50)
    assert parse_box(boxes["Breast_MRI_001_dce_post1"]) == (7, 10, 30, 9, 20, 50)
    assert pd.isna(boxes["Breast_MRI_001_t1"])
    assert pd.isna(boxes["Breast_MRI_002_dce_post1"])  # an incomplete download
    write_cohort(cohort, tmp_path)
    pd.testing.assert_frame_equal(read_cohort(tmp_path).images, cohort.images)


def test_reversing_the_slices_reverses_the_box_exactly(tmp_path):
    """Property: the voxels in the box have the same positions whichever way the instances were numbered."""
    row = pd.Series({"sequence": "dce_pre", "slices": 10, "ascending": True})
    up = parse_box(duke._series_box(row, (1, 5, 1, 5, 4, 6)))
    down = parse_box(duke._series_box(row.replace({True: False}), (1, 5, 1, 5, 4, 6)))
    inside = np.zeros(10, dtype=bool)
    inside[up[0] : up[3]] = True
    turned = np.zeros(10, dtype=bool)
    turned[down[0] : down[3]] = True
    assert np.array_equal(inside[::-1], turned)


def test_a_folder_that_mixes_series_and_a_file_that_is_no_dicom_are_named(tmp_path):
    mixed = tmp_path / "mixed"
    write_series(mixed, "Breast_MRI_001", "ax t1", 1, 2, rising=True, uid="1.2.3")
    write_series(mixed / "x", "Breast_MRI_001", "ax dyn pre", 2, 1, rising=True, uid="1.2.4")
    (mixed / "x" / "07.dcm").rename(mixed / "99.dcm")
    with pytest.raises(InputError, match="more than one DICOM series"):
        find_duke_series(tmp_path)
    (mixed / "99.dcm").write_bytes(b"html instead of DICOM")
    with pytest.raises(InputError, match=r"99\.dcm: not a readable DICOM file"):
        find_duke_series(tmp_path)


def test_the_order_of_acquisition_names_plain_series_and_no_phase_is_named_twice(tmp_path):
    """Breast_MRI_065: the plain name twice and no Ph1, so the later plain series is the first after contrast."""
    for number, description in (
        (3, "ax t1"),
        (600, "ax dynamic"),
        (700, "ax dynamic"),
        (702, "Ph2/ax dynamic"),
        (9, "LOC"),
    ):
        write_series(tmp_path / str(number), "Breast_MRI_065", description, number, 1, rising=True)
    series = find_duke_series(tmp_path).set_index("series_number")["sequence"]
    assert series.to_dict() == {3: "t1", 9: "loc", 600: "dce_pre", 700: "dce_post1", 702: "dce_post2"}
