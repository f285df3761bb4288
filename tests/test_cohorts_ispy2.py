"""I-SPY 2: the two workbooks as a cohort. Truth: the counts of the data README, and small workbooks with the same headings.

Tests on the real workbooks are skipped where they are absent.
"""

from __future__ import annotations

import pandas as pd
import pytest

from alnlib.cohorts.folder import read_cohort, write_cohort
from alnlib.cohorts.ispy2 import CLINICAL_SHEET, FEATURES_SHEET, MEASURED, PATIENT, SUBJECT, read_ispy2
from alnlib.errors import InputError
from alnlib.radiomics.extract import delta_features
from tests.real_data import real_data


def test_the_real_workbooks_have_the_stated_counts(tmp_path):
    """Data README: MRI at four visits of 384 patients, 113 of them with pCR, no empty cell."""
    folder = real_data("ispy2_longitudinal", CLINICAL_SHEET).parent
    cohort = read_ispy2(folder)
    assert len(cohort.patients) == 384
    assert int(cohort.patients["pcr"].sum()) == 113
    table = cohort.feature_table()
    assert table.shape == (384, 16)
    assert not table.isna().any().any()
    theirs = pd.read_excel(folder / FEATURES_SHEET).set_index(SUBJECT)["FTV_pch_T0_T3"]
    ours = 100 * delta_features(table)["MRI_delta_DCE__functional_tumor_volume_cc"]
    pd.testing.assert_series_equal(ours, theirs.set_axis(theirs.index.astype(str)), rtol=1e-4, check_names=False)
    write_cohort(cohort, tmp_path)
    assert str(read_cohort(tmp_path)) == str(cohort)


@pytest.fixture
def small(tmp_path):
    """Three patients of the clinical sheet, two of them measured."""
    clinical = {PATIENT: [100001, 100002, 100003], "pCR": [0, 1, 1], "Age_at_Screening": [46.0, 37.0, 51.0]}
    clinical |= {"HR": [1, 0, 1], "HER2": [0, 1, 0], "MP": [0, 1, 1]}
    clinical["menopausal_status"] = ["Premenopausal(<6 months)", None, "Above categories not applicable AND Age > 50"]
    measured = {SUBJECT: [100001, 100003]}
    measured |= {heading: [1.5, 2.5] for visits in MEASURED.values() for heading in visits.values()}

    def write(clinical=clinical, measured=measured):
        pd.DataFrame(clinical).to_excel(tmp_path / CLINICAL_SHEET, index=False)
        pd.DataFrame(measured).to_excel(tmp_path / FEATURES_SHEET, index=False)
        return tmp_path

    return write, clinical, measured


def test_patients_without_mri_are_not_in_it_and_codes_are_decoded(small):
    cohort = read_ispy2(small[0]())
    assert cohort.patients["patient_id"].tolist() == ["100001", "100003"]
    assert cohort.patients["hr"].tolist() == ["positive", "positive"]
    assert cohort.patients["menopausal_status"].tolist() == ["premenopausal", "not applicable, above 50"]
    assert sorted(cohort.features["timepoint"].unique()) == ["post", "pre", "week12", "week3"]


@pytest.mark.parametrize(
    ("table", "column", "value", "said"),
    [
        ("clinical", "pCR", [0, 2, 1], "row 3, column pCR: unknown entry (patient 100002)"),
        ("clinical", "HR", [0, 1, "x"], "row 4, column HR: unknown entry (patient 100003)"),
        ("measured", "LD_T0", [1.0, "big"], "row 3, column LD_T0: not a number"),
        ("measured", SUBJECT, [100001, 100001], "patient appears twice"),
        ("measured", SUBJECT, [100001, 999999], f"patient is not in {CLINICAL_SHEET}"),
    ],
)
def test_every_odd_cell_is_named(small, table, column, value, said):
    write, clinical, measured = small
    changed = {"clinical": clinical, "measured": measured}
    changed[table] = changed[table] | {column: value}
    with pytest.raises(InputError) as raised:
        read_ispy2(write(**changed))
    assert said in str(raised.value)


def test_a_missing_workbook_is_named_with_where_to_get_it(tmp_path):
    with pytest.raises(InputError, match="download ispy2"):
        read_ispy2(tmp_path)
