"""BrEaST-Lesions-USG. Truth: the counts of the data README and of Pawlowska 2024, and the workbook's own cells.

Tests on the real data are skipped where they are absent; the others use a small copy of the layout made here.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from alnlib.cohorts import breast_lesions_usg as usg
from alnlib.cohorts.breast_lesions_usg import read_breast_lesions_usg
from alnlib.cohorts.folder import read_cohort, write_cohort
from alnlib.cohorts.schema import parse_pixel_spacing
from alnlib.errors import InputError
from tests.real_data import real_data

WORKBOOK = "BrEaST-Lesions-USG-clinical-data-Dec-15-2023.xlsx"


@pytest.fixture(scope="module")
def cohort():
    return read_breast_lesions_usg(real_data("breast_lesions_usg", WORKBOOK).parent)


def test_real_counts(cohort):
    """Data README: 154 benign, 98 malignant, 4 normal."""
    assert len(cohort.patients) == len(cohort.images) == 256
    assert cohort.patients["malignant"].value_counts(dropna=False).to_dict() == {0: 154, 1: 98, pd.NA: 4}
    assert cohort.images["mask_path"].notna().sum() == 252
    normal = cohort.patients.loc[cohort.patients["malignant"].isna(), "patient_id"]
    without_mask = cohort.images.loc[cohort.images["mask_path"].isna(), "patient_id"]
    assert set(normal) == set(without_mask)
    assert cohort.patients["age_years"].isna().sum() == 42
    assert cohort.patients["age_years"].dropna().between(18, 90).all()


def test_real_images_and_masks_fit_and_the_pixel_size_is_plausible(cohort):
    """Breast ultrasound has pixels of 0.04 to 0.14 mm; the workbook gives them in cm."""
    for image in cohort.images.dropna(subset=["mask_path"]).iloc[::40].itertuples():
        with Image.open(cohort.root / image.path) as picture, Image.open(cohort.root / image.mask_path) as mask:
            assert picture.size == mask.size
    spacing = np.array([parse_pixel_spacing(text) for text in cohort.images["pixel_spacing_mm"]])
    assert spacing.min() > 0.04 and spacing.max() < 0.14
    assert np.array_equal(spacing[:, 0], spacing[:, 1])
    assert cohort.images.loc[0, "pixel_spacing_mm"] == "0.078125 0.078125"  # first row of the sheet: 0.0078125 cm


def test_real_birads_is_an_ordered_reader_and_normal_images_have_category_1(cohort):
    scores = cohort.patients.merge(cohort.readers, on="patient_id", validate="1:1")
    assert scores["score"].value_counts().to_dict() == {1: 4, 2: 30, 3: 37, 4: 44, 5: 46, 6: 49, 7: 46}
    assert set(scores.loc[scores["malignant"].isna(), "score"]) == {1}
    malignant_share = scores.dropna().groupby("score")["malignant"].mean()
    assert malignant_share.is_monotonic_increasing


def test_real_leaking_columns_are_no_predictors(cohort):
    assert set(cohort.patients.columns) == {"patient_id", "center", "malignant", *cohort.clinical}
    words = " ".join(f"{name} {variable.label}" for name, variable in cohort.clinical.items()).lower()
    for leak in ("interpretation", "verification", "diagnosis", "classification", "bi-rads", "birads"):
        assert leak not in words
    for column, variable in cohort.clinical.items():
        if variable.levels:
            assert set(cohort.patients[column].dropna()) == set(variable.levels), column


def test_real_cells_with_several_findings(cohort):
    """Row counts of the workbook: 33 cells name "spiculated", 58 "palpable", 22 the family history."""
    sheet = pd.read_excel(real_data("breast_lesions_usg", WORKBOOK), dtype=str, keep_default_na=False)
    patients = cohort.patients
    assert (patients["margin"] == "spiculated").sum() == sheet["Margin"].str.contains("spiculated").sum() == 33
    assert (patients["palpable"] == "yes").sum() == sheet["Signs"].str.contains("palpable").sum() == 58
    assert (patients["family_history"] == "yes").sum() == sheet["Symptoms"].str.contains("family history").sum() == 22
    assert patients["palpable"].isna().sum() == (sheet["Signs"] == "not available").sum()


def test_real_cohort_survives_the_cohort_folder(cohort, tmp_path):
    write_cohort(cohort, tmp_path)
    copy = read_cohort(tmp_path, root=cohort.root)
    for table in ("patients", "images", "readers"):
        pd.testing.assert_frame_equal(getattr(copy, table), getattr(cohort, table))
    assert copy.clinical == cohort.clinical


# --------------------------------------------------------------------------------------------------------- small copy


def small_sheet() -> pd.DataFrame:
    sheet = pd.DataFrame(
        {
            "CaseID": [1, 2, 3],
            "Image_filename": ["case001.png", "case002.png", "case003.png"],
            "Mask_tumor_filename": ["case001_tumor.png", "case002_tumor.png", None],
            "Pixel_size": [0.01, 0.02, 0.01],
            "Age": [50, "not available", 60],
            "Tissue_composition": ["homogeneous: fat", "lactating&homogeneous: fibroglandular", "lactating"],
            "Signs": ["no", "palpable&breast scar", "not available"],
            "Symptoms": ["nipple discharge&breast injury", "no", "no"],
            "Margin": ["circumscribed", "not circumscribed - spiculated&angular&indistinct", "not applicable"],
            "Calcifications": ["no", "intraductal", "not applicable"],
            "BIRADS": [3, "4c", 1],
            "Classification": ["benign", "malignant", "normal"],
        }
    )
    for heading, _, levels in usg._SINGLE.values():
        sheet[heading] = [levels[0], levels[-1], "not applicable"]
    return sheet


@pytest.fixture
def folder(tmp_path) -> Path:
    images = tmp_path / "images"
    images.mkdir()
    for name in ("case001.png", "case001_tumor.png", "case002.png", "case002_tumor.png", "case003.png"):
        Image.new("L", (4, 4)).save(images / name)
    small_sheet().to_excel(tmp_path / WORKBOOK, index=False)
    return tmp_path


def test_small_several_findings_and_missing_words(folder):
    cohort = read_breast_lesions_usg(folder)
    patients = cohort.patients.set_index("patient_id")
    assert patients["malignant"].tolist() == [0, 1, pd.NA]
    assert patients.loc["case002", "margin"] == "spiculated"
    assert patients.loc["case002", ["palpable", "breast_scar", "skin_or_nipple_sign"]].tolist() == ["yes", "yes", "no"]
    assert patients.loc["case002", "tissue_composition"] == "fibroglandular"
    assert patients.loc["case003", ["margin", "palpable", "tissue_composition"]].isna().all()
    assert patients.loc["case001", "nipple_discharge"] == "yes"
    assert cohort.readers["score"].tolist() == [3, 6, 1]
    assert cohort.images["pixel_spacing_mm"].tolist() == ["0.1 0.1", "0.2 0.2", "0.1 0.1"]
    assert cohort.images["path"].iat[0] == "images/case001.png"


def test_a_missing_workbook_names_the_source_and_the_command(tmp_path):
    with pytest.raises(InputError) as error:
        read_breast_lesions_usg(tmp_path)
    for part in (str(tmp_path), "10.7937/9WKK-Q141", "run_all.py download breast-lesions-usg"):
        assert part in str(error.value)


def test_missing_images_unknown_words_and_classes_are_all_named_with_their_rows(folder):
    sheet = small_sheet().astype(object)
    sheet.loc[0, "Margin"] = "fuzzy"
    sheet.loc[1, "Classification"] = "maybe"
    sheet.loc[1, "Signs"] = "palpable&itching"
    sheet.loc[2, "BIRADS"] = "4d"
    sheet.loc[2, "Pixel_size"] = -1
    path = folder / WORKBOOK
    sheet.to_excel(path, index=False)
    (folder / "images" / "case001_tumor.png").unlink()
    with pytest.raises(InputError) as error:
        read_breast_lesions_usg(folder)
    assert {(problem.row, problem.column, problem.value) for problem in error.value.problems} == {
        (2, "Margin", "fuzzy"),
        (2, "Mask_tumor_filename", "case001_tumor.png"),
        (3, "Classification", "maybe"),
        (3, "Signs", "palpable&itching"),
        (4, "BIRADS", "4d"),
        (4, "Pixel_size", "-1"),
    }
    assert f"{path}, row 2, column Margin" in str(error.value)
    assert "case 2" in str(error.value)


def test_a_missing_column_and_a_repeated_case_are_named(folder):
    path = folder / WORKBOOK
    small_sheet().drop(columns="BIRADS").to_excel(path, index=False)
    with pytest.raises(InputError, match="column BIRADS: column is missing"):
        read_breast_lesions_usg(folder)
    small_sheet().assign(CaseID=[1, 2, 2]).to_excel(path, index=False)
    with pytest.raises(InputError, match="row 4, column CaseID: case number missing or repeated"):
        read_breast_lesions_usg(folder)
    path.write_bytes(b"no workbook")
    with pytest.raises(InputError, match="cannot be read as an Excel workbook"):
        read_breast_lesions_usg(folder)
