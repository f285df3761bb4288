"""Cohort folders: what is written is read back the same, and every mistake of a user is named with file, row and remedy.

Truth: the data contract of docs/your_cohort.md; each bad case changes one thing in a folder that is accepted.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from alnlib.cohorts.folder import read_cohort, write_cohort
from alnlib.errors import InputError, Problem
from tests.cohort_texts import IMAGES, PATIENTS, write_cohort_texts


@pytest.fixture
def folder(tmp_path) -> Path:
    return write_cohort_texts(tmp_path / "cohort")


def change(folder: Path, name: str, old: str, new: str) -> None:
    text = (folder / name).read_text(encoding="utf-8")
    assert text.count(old) == 1, f"{old!r} must stand once in {name}"
    (folder / name).write_text(text.replace(old, new), encoding="utf-8")


def validate_cohort_folder(folder: Path) -> list[Problem]:
    try:
        read_cohort(folder)
    except InputError as error:
        return list(error.problems)
    return []


def only_problem(folder: Path):
    problems = validate_cohort_folder(folder)
    assert len(problems) == 1, [str(problem) for problem in problems]
    return problems[0]


# ------------------------------------------------------------------------------------------------------- good folders


def test_a_good_folder_is_read_with_ids_as_text_and_missing_as_missing(folder):
    assert validate_cohort_folder(folder) == []
    cohort = read_cohort(folder)
    assert cohort.patients["patient_id"].tolist() == ["007", "008", "009", "010"]
    assert cohort.patients["aln_metastasis"].tolist() == [0, 1, 1, pd.NA]
    assert cohort.patients["age_years"].isna().tolist() == [False, False, True, False]
    assert cohort.patients["t_stage"].dropna().tolist() == ["T1", "T3", "T2"]
    assert cohort.images["unit_label"].tolist() == [pd.NA, 1, pd.NA]
    assert cohort.images.loc[0, "box"] == "1 2 30 40"
    assert cohort.readers["score"].tolist() == [0.25, 1.0]
    assert cohort.root == folder
    assert cohort.clinical["t_stage"].levels == ("T1", "T2", "T3")
    assert "split" not in cohort.patients


def test_writing_and_reading_give_the_same_cohort_and_the_same_bytes(folder, tmp_path):
    cohort = read_cohort(folder)
    written = write_cohort(cohort, tmp_path / "copy")
    names = ["cohort.yaml", "patients.csv", "images.csv", "readers.csv", "features.csv"]
    assert [path.name for path in written] == names
    copy = read_cohort(tmp_path / "copy", root=folder)
    for table in ("patients", "images", "readers"):
        pd.testing.assert_frame_equal(getattr(copy, table), getattr(cohort, table))
    settings = "name endpoints clinical centers external_centers readers_described primary_endpoint"
    for field in settings.split():
        assert getattr(copy, field) == getattr(cohort, field)
    again = write_cohort(copy, tmp_path / "again")
    assert [path.read_bytes() for path in again] == [path.read_bytes() for path in written]


def test_readers_csv_may_be_absent_and_is_written_without_rows_where_there_are_no_scores(folder, tmp_path):
    write_cohort(read_cohort(folder), tmp_path / "copy")
    (folder / "readers.csv").unlink()
    cohort = read_cohort(folder)
    assert list(cohort.readers.columns) == ["patient_id", "reader_id", "score"]
    assert len(cohort.readers) == 0
    write_cohort(cohort, tmp_path / "copy")
    assert (tmp_path / "copy" / "readers.csv").read_text() == "patient_id,reader_id,score\n"
    assert len(read_cohort(tmp_path / "copy", root=folder).readers) == 0


@pytest.mark.parametrize("content", [None, IMAGES.splitlines()[0] + "\n", "image_id,patient_id,modality,path\n"])
def test_a_clinical_cohort_has_no_images_csv_or_one_without_rows(folder, tmp_path, content):
    (folder / "images.csv").unlink()
    if content is not None:
        (folder / "images.csv").write_text(content)
    cohort = read_cohort(folder)
    assert len(cohort.images) == 0
    assert list(cohort.images.columns) == [*IMAGES.splitlines()[0].split(","), "frame", "mask_label"]
    write_cohort(cohort, tmp_path / "copy")
    copy = read_cohort(tmp_path / "copy", root=folder).without_population()
    pd.testing.assert_frame_equal(copy.images, cohort.images)


def test_a_table_of_almost_the_right_name_is_not_taken_for_none(folder):
    (folder / "images.csv").rename(folder / "Image.csv")
    (folder / "readers.csv").rename(folder / "readers.xlsx")
    problems = validate_cohort_folder(folder)
    assert [problem.message for problem in problems] == [
        "file is missing, and Image.csv is there",
        "file is missing, and readers.xlsx is there",
    ]
    assert "save it as images.csv" in problems[0].remedy


def test_a_stage_that_reads_only_tables_needs_no_images(folder, tmp_path):
    write_cohort(read_cohort(folder), tmp_path / "tables")
    with pytest.raises(InputError, match="file is missing"):
        read_cohort(tmp_path / "tables")
    assert len(read_cohort(tmp_path / "tables", check_images=False).images) > 0


def test_levels_named_yes_and_no_survive_yaml(folder, tmp_path):
    change(folder, "cohort.yaml", "levels: [negative, positive]", 'levels: ["no", "yes"]')
    text = (folder / "patients.csv").read_text().replace("positive", "yes").replace("negative", "no")
    (folder / "patients.csv").write_text(text)
    cohort = read_cohort(folder)
    write_cohort(cohort, tmp_path / "copy")
    assert read_cohort(tmp_path / "copy", root=folder).clinical["er"].levels == ("no", "yes")


def test_a_byte_order_mark_blank_lines_spaces_and_windows_line_ends_do_no_harm(folder):
    text = PATIENTS.replace("009,South", "009 , South") + "\n\n"
    (folder / "patients.csv").write_bytes(b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode())
    assert read_cohort(folder).patients["patient_id"].tolist() == ["007", "008", "009", "010"]


def test_a_split_column_is_kept(folder):
    lines = PATIENTS.splitlines()
    splits = ["split", "train", "test", "external", "validation"]
    text = "\n".join(f"{line},{split}" for line, split in zip(lines, splits, strict=True))
    (folder / "patients.csv").write_text(text + "\n")
    assert read_cohort(folder).patients["split"].tolist() == splits[1:]


def test_the_population_may_be_the_only_split_that_is_given(folder):
    splits = ["split", "", "population", "population", ""]
    text = "\n".join(f"{line},{split}" for line, split in zip(PATIENTS.splitlines(), splits, strict=True))
    (folder / "patients.csv").write_text(text + "\n")
    cohort = read_cohort(folder)
    assert cohort.patients["split"].tolist() == splits[1:]
    study = cohort.without_population()
    assert study.patients["patient_id"].tolist() == ["007", "010"]
    assert set(study.images["patient_id"]) | set(study.readers["patient_id"]) <= {"007", "010"}
    assert set(cohort.images["patient_id"]) - {"007", "010"}, "somebody's images must go with the patient"


# -------------------------------------------------------------------------------------------------- one mistake each


def _cases(table: str) -> dict[str, list[str]]:
    """The cells of each line below the header, by the first of them."""
    lines = [[cell.strip() for cell in line.split("|")] for line in table.strip().splitlines()[1:]]
    return {name: cells for name, *cells in lines}


BAD_CELLS = _cases(r"""
case | table | old | new | row | column | value | message | remedy
label | patients | 8,North,1,1 | 8,North,2,1 | 3 | aln_metastasis | 2 | label is not 0, 1 or empty | leave the cell empty
label NA | patients | 010,North,,,60 | 010,North,NA,,60 | 5 | aln_metastasis | NA | label is not 0, 1 or empty | not "NA"
repeated | patients | 009,South | 008,North | 4 | patient_id | 008 | more than once (first at row 3) | one line per patient
no id | patients | 010,North | ,North | 5 | patient_id |  | patient_id is empty | give every patient an id
center | patients | 007,North | 007,West | 2 | center | West | unknown center | North, South
number | patients | 51.5 | "51,5" | 2 | age_years | 51,5 | not a number | decimal point
number NA | patients | ,44, | ,NA, | 3 | age_years | NA | not a number | leave the cell empty
infinite | patients | ,44, | ,inf, | 3 | age_years | inf | not a number | leave the cell empty
level | patients | 44,negative | 44,neg | 3 | er | neg | unknown level | negative, positive
level NA | patients | 60,,T2 | 60,nan,T2 | 5 | er | nan | unknown level | leave the cell empty
ordinal | patients | negative,T3 | negative,T4 | 3 | t_stage | T4 | unknown level | T1, T2, T3
image of unknown patient | images | i1,007 | i1,999 | 2 | patient_id | 999 | patient is not in patients.csv | remove this row
image twice | images | i2,008 | i1,008 | 3 | image_id | i1 | image_id appears more than once (first at row 2) | id of its own
modality | images | 007,US | 007,PET | 2 | modality | PET | unknown modality | US, USV, MRI, CT, MG
timepoint | images | MRI,post | MRI,after | 3 | timepoint | after | unknown timepoint | pre, post
laterality | images | DCE,R | DCE,right | 3 | laterality | right | unknown laterality | use L, R
absolute | images | images/a.png | /etc/hostname | 2 | path | /etc/hostname | path is absolute | relative
windows | images | images/a.png | C:/images/a.png | 2 | path | C:/images/a.png | path is absolute | relative
backslash | images | images/a.png | images\a.png | 2 | path | images\a.png | backslash | with "/"
leaves | images | images/a.png | ../cohort/images/a.png | 2 | path | ../cohort/images/a.png | leaves the cohort | not allowed
no image | images | images/a.png | images/z.png | 2 | path | images/z.png | file is missing | correct the path
no path | images | images/a.png |  | 2 | path |  | path is empty | relative to the cohort folder
no mask | images | images/a_mask.png | images/z.png | 2 | mask_path | images/z.png | file is missing | correct the path
box | images | 1 2 30 40 | 1 2 30 | 2 | box | 1 2 30 | malformed or inverted box | row0 col0 row1 col1
inverted | images | 1 2 30 40 | 30 2 1 40 | 2 | box | 30 2 1 40 | malformed or inverted box | lower edges first
spacing | images | 0.1 0.1 | 0.1 | 2 | pixel_spacing_mm | 0.1 | malformed pixel spacing | mm
unit label | images | 10 20,,1 | 10 20,,x | 3 | unit_label | x | label is not 0, 1 or empty | write 0, 1
score | readers | 0.25 | high | 2 | score | high | reader score is not a number | decimal point
no score | readers | 0.25 |  | 2 | score |  | reader score is not a number | remove the row
unknown reader | readers | 007,r1 | 007,r2 | 2 | reader_id | r2 | reader is not described in cohort.yaml | described now: r1
reader of unknown patient | readers | 007,r1 | 7,r1 | 2 | patient_id | 7 | patient is not in patients.csv | remove this row
reader twice | readers | 008,r1 | 007,r1 | 3 | reader_id | 007 r1 | more than once (first at row 2) | keep one score
""")


@pytest.mark.parametrize("case", BAD_CELLS)
def test_a_bad_cell_gives_one_problem_with_file_row_value_and_remedy(folder, case):
    table, old, new, row, column, value, message, remedy = BAD_CELLS[case]
    name = f"{table}.csv"
    change(folder, name, old, new)
    if case == "repeated":  # the image and reader rows still point at a known patient
        assert "009" not in (folder / "images.csv").read_text()
    problem = only_problem(folder)
    assert problem.file == str(folder / name)
    assert (problem.row, problem.column, problem.value) == (int(row), column, value or None)
    assert message in problem.message
    assert remedy in problem.remedy
    with pytest.raises(InputError) as error:
        read_cohort(folder)
    shown = str(error.value)
    assert f"{folder / name}, row {row}" in shown
    assert remedy in shown


def test_a_link_that_leads_out_of_the_folder_is_refused(folder, tmp_path):
    (tmp_path / "elsewhere.png").write_bytes(b"private")
    (folder / "images" / "a.png").unlink()
    (folder / "images" / "a.png").symlink_to(tmp_path / "elsewhere.png")
    problem = only_problem(folder)
    assert "through a link" in problem.message
    assert problem.row == 2


def test_a_patient_in_two_splits_has_a_message_of_its_own(folder):
    lines = [*PATIENTS.splitlines(), "007,North,0,,51.5,positive,T1"]
    splits = ["split", "train", "test", "external", "validation", "test"]
    text = "\n".join(f"{line},{split}" for line, split in zip(lines, splits, strict=True))
    (folder / "patients.csv").write_text(text + "\n")
    problem = only_problem(folder)
    assert problem.message == "patient is in two splits (train at row 2, test at row 6)"
    assert (problem.row, problem.value) == (6, "007")
    assert "one split" in problem.remedy


@pytest.mark.parametrize(
    ("splits", "row", "message"),
    [
        (["train", "testing", "external", "test"], 3, "unknown split"),
        (["train", "", "external", "test"], 3, "split is empty"),
        (["train", "test", "test", "validation"], 4, "the center, which is external"),
        (["train", "external", "external", "test"], 3, "the center, which is not external"),
    ],
)
def test_a_bad_split_column_is_named(folder, splits, row, message):
    lines = PATIENTS.splitlines()
    text = "\n".join(f"{line},{split}" for line, split in zip(lines, ["split", *splits], strict=True))
    (folder / "patients.csv").write_text(text + "\n")
    problem = only_problem(folder)
    assert problem.row == row
    assert problem.column == "split"
    assert message in problem.message


@pytest.mark.parametrize("name", ["cohort.yaml", "patients.csv"])
def test_a_missing_file_is_named(folder, name):
    (folder / name).unlink()
    problems = [problem for problem in validate_cohort_folder(folder) if problem.file == str(folder / name)]
    assert [problem.message for problem in problems] == ["file is missing"]


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(InputError, match="no such cohort folder"):
        read_cohort(tmp_path / "nowhere")


def test_an_empty_cohort_is_refused(folder):
    (folder / "patients.csv").write_text(PATIENTS.splitlines()[0] + "\n")
    messages = [problem.message for problem in validate_cohort_folder(folder)]
    assert messages[0] == "no patient in this cohort"
    assert messages.count("patient is not in patients.csv") == 5


def test_one_class_matters_only_for_the_primary_endpoint(folder):
    """In the good folder apcr has positives only, which is accepted."""
    change(folder, "patients.csv", "007,North,0", "007,North,1")
    problem = only_problem(folder)
    assert problem.message == "primary endpoint has no patient with label 0"
    assert problem.column == "aln_metastasis"


# --------------------------------------------------------------------------------------------------- broken CSV files


def test_a_ragged_line_is_named_by_its_number(folder):
    change(folder, "patients.csv", "009,South,1,,,positive,", "009,South,1,,,positive,,,")
    problem = only_problem(folder)
    assert problem.row == 4
    assert problem.message == "line has 9 cells where the header has 7"


def test_line_numbers_count_lines_of_the_file_not_records(folder):
    text = PATIENTS.replace("007,North", '\n"007",North').replace("44,negative", "44,bad")
    (folder / "patients.csv").write_text(text)
    assert only_problem(folder).row == 4


def test_semicolons_from_excel_are_recognized(folder):
    (folder / "patients.csv").write_text(PATIENTS.replace(",", ";"))
    problem = validate_cohort_folder(folder)[0]
    assert "separated by semicolons" in problem.message
    assert "CSV UTF-8 (comma delimited)" in problem.remedy


def test_another_encoding_is_named_with_its_line(folder):
    (folder / "patients.csv").write_bytes(PATIENTS.replace("009,South", "009,Süd").encode("latin-1"))
    problem = validate_cohort_folder(folder)[0]
    assert problem.message == "not UTF-8 text"
    assert problem.row == 4
    assert "CSV UTF-8" in problem.remedy


def test_utf16_an_empty_file_and_an_open_quotation_are_named(folder):
    (folder / "patients.csv").write_bytes(PATIENTS.encode("utf-16"))
    assert "UTF-16" in validate_cohort_folder(folder)[0].message
    (folder / "patients.csv").write_text("")
    assert validate_cohort_folder(folder)[0].message == "file is empty"
    (folder / "patients.csv").write_text(PATIENTS.replace("009,South", '009,"South'))
    problem = validate_cohort_folder(folder)[0]
    assert "broken quoting" in problem.message
    assert problem.row == 4


def test_missing_unknown_and_repeated_columns_are_named_with_the_likely_name(folder):
    change(folder, "patients.csv", "age_years,er", "age_year,er")
    change(folder, "images.csv", "mask_path,box", "mask_path,mask_path")
    problems = validate_cohort_folder(folder)
    by_message = {(problem.message, problem.column): problem for problem in problems}
    assert "rename 'age_year'" in by_message["column is missing", "age_years"].remedy
    assert "did you mean 'age_years'" in by_message["unknown column", "age_year"].remedy
    assert ("column appears twice", "mask_path") in by_message


# -------------------------------------------------------------------------------------------------------- cohort.yaml

BAD_YAML = {
    "missing key": ("license: none\n", "", "license", "key is missing or empty", "who may use the data"),
    "unknown key": ("title: A toy", "titel: x\ntitle: A toy", "titel", "unknown key", "did you mean title?"),
    "key twice": ("license: none\n", "license: none\nlicense: CC0\n", "license", "key appears twice", "keep one"),
    "provenance": (
        "provenance: simulated",
        "provenance: fake",
        "provenance",
        "unknown provenance",
        "real or simulated",
    ),
    "primary": (
        "primary_endpoint: aln_metastasis",
        "primary_endpoint: aln",
        "primary_endpoint",
        "not among the endpoints",
        "aln_metastasis, apcr",
    ),
    "centers": ("centers: [North, South]", "centers: North", "centers", "not a list of names", "as a list"),
    "primary external": (
        "external_centers: [South]",
        "external_centers: [North, South]",
        "external_centers",
        "primary center",
        "development center first",
    ),
    "kind": ("kind: ordinal", "kind: ordered", "clinical.t_stage.kind", "unknown kind", "continuous, ordinal, nominal"),
    "no levels": (", levels: [T1, T2, T3]", "", "clinical.t_stage.levels", "fewer than two levels", "reference first"),
    "yes and no": (
        "levels: [negative, positive]",
        "levels: [no, yes]",
        "clinical.er.levels",
        "not a list of names",
        "in quotes",
    ),
    "level twice": ("[T1, T2, T3]", "[T1, T2, T3, T3]", "clinical.t_stage.levels", "a level is listed twice", "once"),
    "endpoint text": (
        "positive: ypN0",
        "positive: yes",
        "endpoints.apcr.positive",
        "missing, or not text",
        "in quotes",
    ),
    "endpoint key": (
        "label: Axillary response,",
        "label: Axillary response, cutoff: 1,",
        "endpoints.apcr.cutoff",
        "unknown key",
        "label, positive, negative",
    ),
    "reserved": ("apcr: {label", "split: {label", "endpoints.split", "used twice", "reserved"),
    "near kind": ("kind: nominal", "kind: categorical", "clinical.er.kind", "unknown kind", "did you mean nominal?"),
    "range": ("unit: years", "range: [90, 18]", "clinical.age_years.range", "not two numbers", "[lowest, highest]"),
    "range of levels": (
        "kind: nominal",
        "range: [0, 1], kind: nominal",
        "clinical.er.range",
        "nominal variables have levels",
        "call it continuous",
    ),
    "at most": (
        "unit: years",
        "at_most: er",
        "clinical.age_years.at_most",
        "not a continuous variable",
        "another continuous",
    ),
    "reader's modality": (
        "r1: a radiologist",
        "r1: {modality: ultrasound}",
        "readers.r1.modality",
        "unknown modality",
        "did you mean US?",
    ),
    "reader's key": (
        "r1: a radiologist",
        "r1: {modalty: US}",
        "readers.r1.modalty",
        "unknown key",
        "did you mean modality?",
    ),
}


@pytest.mark.parametrize("case", BAD_YAML)
def test_a_bad_description_is_named_by_key_and_line(folder, case):
    old, new, key, message, remedy = BAD_YAML[case]
    change(folder, "cohort.yaml", old, new)
    problems = [problem for problem in validate_cohort_folder(folder) if problem.file == str(folder / "cohort.yaml")]
    assert [problem.column for problem in problems] == [key], [str(problem) for problem in problems]
    assert message in problems[0].message
    assert remedy in problems[0].remedy
    if case != "missing key":
        lines = (folder / "cohort.yaml").read_text().splitlines()
        assert lines[problems[0].row - 1].startswith(key.split(".")[0])


def test_broken_yaml_is_named_by_line_and_the_tables_are_still_checked(folder):
    change(folder, "cohort.yaml", "primary_endpoint: aln_metastasis", "primary_endpoint: [aln_metastasis")
    change(folder, "patients.csv", "009,South", "008,South")
    change(folder, "images.csv", "007,US", "007,PET")
    problems = validate_cohort_folder(folder)
    assert [Path(problem.file).name for problem in problems] == ["cohort.yaml", "patients.csv", "images.csv"]
    assert "not valid YAML" in problems[0].message
    assert problems[0].row is not None
    (folder / "cohort.yaml").write_text("just a sentence\n")
    assert "not a mapping" in validate_cohort_folder(folder)[0].message


def test_sixty_rows_with_one_mistake_are_one_line_and_hide_no_other(folder):
    """A column of the wrong code; one more mistake stands in the last row."""
    lines = [f"p{i:02d},North,{i % 2},,50,positive,T1" for i in range(60)]
    (folder / "patients.csv").write_text("\n".join([PATIENTS.strip(), *lines]) + "\n")
    rows = [f"x{i:02d},p{i:02d},ultrasound,,,,images/a.png,,,," for i in range(60)]
    (folder / "images.csv").write_text("\n".join([IMAGES.strip(), *rows]).replace("images/b.nii.gz", "images/z.nii.gz"))
    with pytest.raises(InputError) as error:
        read_cohort(folder)
    heading, *shown = str(error.value).splitlines()
    assert heading == f"{folder}: 61 problems of 2 kinds in this cohort folder"
    assert len(shown) == 2
    assert "images.csv, rows 5, 6, 7, 8, 9 and 55 more, column modality: unknown modality, 60 times" in shown[0]
    assert "(found 'ultrasound'); did you mean US?" in shown[0]
    assert "row 3, column path: file is missing (found 'images/z.nii.gz')" in shown[1]
    assert len(error.value.problems) == 61, "each row can still be asked for"


def test_the_row_of_a_first_entry_does_not_make_a_kind(folder):
    doubled = [*PATIENTS.splitlines(), *PATIENTS.splitlines()[1:]]
    (folder / "patients.csv").write_text("\n".join(doubled) + "\n")
    with pytest.raises(InputError) as error:
        read_cohort(folder)
    (shown,) = str(error.value).splitlines()[1:]
    assert "rows 6, 7, 8, 9, column patient_id: patient appears more than once, 4 times" in shown


NEAR = _cases("""
case | table | old | new | suggestion
word | images | 007,US | 007,Ultrasound | US
capitals | images | 007,US | 007,us | US
side | images | DCE,R | DCE,right | R
beginning | patients | 44,negative | 44,neg | negative
slip | patients | 44,negative | 44,negatve | negative
center | patients | 007,North | 007,north | North
zeros | readers | 007,r1 | 7,r1 | 007
yes | patients | 8,North,1,1 | 8,North,yes,1 | 1
words of the endpoint | patients | 8,North,1,1 | 8,North,n+,1 | 1
nothing near | images | 007,US | 007,PET |
another id | readers | 007,r1 | 006,r1 |
""")


@pytest.mark.parametrize("case", NEAR)
def test_a_near_miss_gets_a_suggestion_and_nothing_else_does(folder, case):
    table, old, new, suggestion = NEAR[case]
    change(folder, f"{table}.csv", old, new)
    remedy = only_problem(folder).remedy
    assert remedy.startswith(f"did you mean {suggestion}? Otherwise ") if suggestion else "did you mean" not in remedy


def test_all_problems_come_at_once_in_file_and_row_order(folder):
    change(folder, "cohort.yaml", "provenance: simulated", "provenance: fake")
    change(folder, "patients.csv", "007,North,0", "007,North,5")
    change(folder, "patients.csv", "44,negative", "x,bad")
    change(folder, "images.csv", "images/b.nii.gz", "images/none.nii.gz")
    change(folder, "readers.csv", "0.25", "?")
    with pytest.raises(InputError) as error:
        read_cohort(folder)
    found = [(Path(problem.file).name, problem.row, problem.column) for problem in error.value.problems]
    assert found == [
        ("cohort.yaml", 3, "provenance"),
        ("patients.csv", 2, "aln_metastasis"),
        ("patients.csv", 3, "age_years"),
        ("patients.csv", 3, "er"),
        ("images.csv", 3, "path"),
        ("readers.csv", 2, "score"),
    ]
    assert "6 problems" in str(error.value)


def test_a_folder_with_older_names_is_read_the_same(folder):
    before = read_cohort(folder)
    described, patients = folder / "cohort.yaml", folder / "patients.csv"
    older = described.read_text().replace("centers:", "centres:").replace("license:", "licence:")
    described.write_text(older.replace("external_centers", "external_centres"))
    patients.write_text(patients.read_text().replace("center", "centre", 1))
    assert "centres: [North, South]" in described.read_text()
    after = read_cohort(folder)
    assert (after.centers, after.external_centers, after.license) == (
        before.centers,
        before.external_centers,
        before.license,
    )
    pd.testing.assert_frame_equal(after.patients, before.patients)


def test_an_older_name_beside_todays_is_an_error_that_names_both(folder):
    change(folder, "cohort.yaml", "centers: [North, South]\n", "centers: [North, South]\ncentres: [North]\n")
    change(folder, "patients.csv", "patient_id,center,", "patient_id,center,centre,")
    found = [(Path(problem.file).name, problem.row, problem.message) for problem in validate_cohort_folder(folder)[:2]]
    assert found == [
        ("cohort.yaml", 9, "key appears twice, as centers and as centres"),
        ("patients.csv", 1, "column appears twice, as center and as centre"),
    ]


def test_a_clinical_variable_may_have_the_older_name_of_a_key(folder):
    change(folder, "cohort.yaml", "  er: {label: ER", "  licence: {label: ER")
    change(folder, "patients.csv", "age_years,er", "age_years,licence")
    assert "licence" in read_cohort(folder).clinical


def test_older_names_are_written_as_todays(folder, tmp_path):
    change(folder, "cohort.yaml", "license:", "licence:")
    write_cohort(read_cohort(folder), tmp_path / "copy")
    assert "license: none" in (tmp_path / "copy" / "cohort.yaml").read_text()


# ------------------------------------------------------------------------------------------- readers and implausible values


def test_readers_are_grouped_by_their_modality_and_not_by_words_of_their_description(folder, tmp_path):
    """ "Ultrasound" stands in the description of one who read MRI, and not in that of one who read sweeps."""
    described = """
  a: {description: Knew the ultrasound report, modality: MRI}
  b: {description: Read the sweeps, modality: USV}
  c: {description: Read the stills, modality: US}
  d: Radiologist with ultrasound
  e: {modality: CT}"""
    change(folder, "cohort.yaml", "readers: {r1: a radiologist}", f"readers:{described}")
    (folder / "readers.csv").write_text("patient_id,reader_id,score\n" + "".join(f"007,{name},1\n" for name in "dcba"))
    cohort = read_cohort(folder)
    assert cohort.reader_groups() == {"MRI": ["a"], "ultrasound": ["b", "c"], "unspecified": ["d"]}
    assert "ultrasound" in cohort.readers_described["b"]
    write_cohort(cohort, tmp_path / "copy")
    copy = read_cohort(tmp_path / "copy", root=folder)
    assert (copy.readers_described, copy.reader_modality) == (cohort.readers_described, cohort.reader_modality)
    (warning,) = cohort.warnings
    assert (warning.value, warning.column) == ("d", "reader_id")
    assert "modality: one of US" in warning.remedy


NODES = """\
  size_mm: {label: Size, kind: continuous, unit: mm}
  nodes_positive: {label: Positive nodes, kind: continuous}
  nodes_examined: {label: Examined nodes, kind: continuous}
readers:"""


@pytest.fixture
def counted(folder) -> Path:
    """The good folder with sizes and counts of nodes, all plausible."""
    change(folder, "cohort.yaml", "readers: {r1: a radiologist}", f"{NODES} {{r1: {{modality: MRI}}}}")
    cells = ["size_mm,nodes_positive,nodes_examined", "18,0,2", "25.5,3,11", ",,", "42,1,1"]
    lines = [f"{line},{more}" for line, more in zip(PATIENTS.splitlines(), cells, strict=True)]
    (folder / "patients.csv").write_text("\n".join(lines) + "\n")
    return folder


def test_plausible_values_are_not_warned_of(counted):
    assert read_cohort(counted).warnings == ()


@pytest.mark.parametrize(
    ("old", "new", "column", "message"),
    [
        ("18,0,2", "4200,0,2", "size_mm", "outside the plausible range, 0 to 200 mm"),
        ("18,0,2", "-18,0,2", "size_mm", "outside the plausible range, 0 to 200 mm"),
        (",51.5,", ",102,", "age_years", "outside the plausible range, 18 to 100 years"),
        (",51.5,", ",5.5,", "age_years", "outside the plausible range, 18 to 100 years"),
        ("18,0,2", "18,3,2", "nodes_positive", "more than nodes_examined (which is 2)"),
    ],
)
def test_an_implausible_value_is_warned_of_with_its_row_and_kept(counted, old, new, column, message):
    change(counted, "patients.csv", old, new)
    cohort = read_cohort(counted)
    (warning,) = cohort.warnings
    assert (warning.row, warning.column, warning.message) == (2, column, message)
    assert str(cohort.patients[column].iloc[0]).removesuffix(".0") == warning.value


def test_sizes_in_centimeters_are_warned_of_once(counted):
    for old, new in (("18,0,2", "1.8,0,2"), ("25.5,", "2.6,"), ("42,1", "4.2,1")):
        change(counted, "patients.csv", old, new)
    (warning,) = read_cohort(counted).warnings
    assert (warning.row, warning.column, warning.value) == (None, "size_mm", "median 2.6")
    assert "unit: cm" in warning.remedy
    change(counted, "cohort.yaml", "unit: mm", "unit: mm, range: [0, 10]")
    assert read_cohort(counted).warnings == ()


def test_ranges_and_limits_of_cohort_yaml_come_first_and_are_kept(counted, tmp_path):
    change(counted, "cohort.yaml", "unit: mm", "unit: mm, range: [20, 40]")
    change(counted, "cohort.yaml", "{label: Examined nodes", "{at_most: age_years, label: Examined nodes")
    change(counted, "patients.csv", "25.5,3,11", "25.5,3,45")
    cohort = read_cohort(counted)
    found = [(warning.row, warning.column, warning.message) for warning in cohort.warnings]
    assert found == [
        (2, "size_mm", "outside the plausible range, 20 to 40 mm"),
        (5, "size_mm", "outside the plausible range, 20 to 40 mm"),
        (3, "nodes_examined", "more than age_years (which is 44)"),
    ]
    write_cohort(cohort, tmp_path / "copy")
    copy = read_cohort(tmp_path / "copy", root=counted)
    assert copy.clinical == cohort.clinical
    assert [warning.message for warning in copy.warnings] == [message for _, _, message in found]


# ----------------------------------------------------------------------------------------------------------- features

FEATURES = """\
patient_id,timepoint,modality,sequence_or_view,volume,texture
007,pre,MRI,DCE_early,1.5,0.25
007,post,MRI,DCE_early,0.5,
008,pre,MRI,DCE_early,2,-1e-3
008,pre,MG,,3,
"""


def test_a_table_of_features_becomes_one_row_per_patient(folder):
    """DESIGN 4: columns <modality>_<timepoint>_<sequence>__<feature>; what a visit or sequence never has is no column."""
    (folder / "features.csv").write_text(FEATURES, encoding="utf-8")
    cohort = read_cohort(folder)
    wide = cohort.feature_table()
    assert list(wide.columns) == [
        "MRI_pre_DCE_early__volume",
        "MRI_pre_DCE_early__texture",
        "MRI_post_DCE_early__volume",
        "MG_pre_all__volume",
    ]
    assert wide.loc["007"].tolist()[:3] == [1.5, 0.25, 0.5]
    assert wide.loc["008"].isna().tolist() == [False, False, True, False]
    write_cohort(cohort, folder / "copy")
    copy = read_cohort(folder / "copy", root=folder)
    pd.testing.assert_frame_equal(copy.features, cohort.features)
    assert read_cohort(folder, features=False).feature_table().shape == (0, 0)


@pytest.mark.parametrize(
    ("old", "new", "column", "message", "remedy"),
    [
        ("008,pre,MG", "099,pre,MG", "patient_id", "patient is not in patients.csv", "add the patient"),
        ("008,pre,MG", "008,baseline,MG", "timepoint", "unknown timepoint", "did you mean pre?"),
        ("008,pre,MG", "008,delta,MG", "timepoint", "unknown timepoint", "not delta"),
        ("008,pre,MG", "008,pre,mammography", "modality", "unknown modality", "did you mean MG?"),
        ("008,pre,MG,", "008,pre,MG,a__b", "sequence_or_view", "malformed", "single underscores"),
        ("007,post,MRI", "007,pre,MRI", "sequence_or_view", "measured more than once", "one row per patient"),
        ("-1e-3", "n/a", "texture", "not a number", "leave the cell empty"),
        ("-1e-3", "inf", "texture", "not a number", "leave the cell empty"),
        ("0.5,", "nan,", "volume", "not a number", "leave the cell empty"),
        (
            "modality,sequence_or_view",
            "modaliti,sequence_or_view",
            "modality",
            "column is missing",
            "rename 'modaliti'",
        ),
    ],
)
def test_every_mistake_in_features_is_named(folder, old, new, column, message, remedy):
    (folder / "features.csv").write_text(FEATURES, encoding="utf-8")
    change(folder, "features.csv", old, new)
    problems = [each for each in validate_cohort_folder(folder) if each.column == column]
    assert len(problems) == 1, [str(each) for each in problems]
    assert message in problems[0].message
    assert remedy in problems[0].remedy


def test_a_table_without_a_feature_is_no_table(folder):
    (folder / "features.csv").write_text("patient_id,modality\n007,MRI\n", encoding="utf-8")
    assert "no column of features" in only_problem(folder).message


def test_a_feature_without_a_number_is_warned_of_and_left_out(folder):
    (folder / "features.csv").write_text("patient_id,modality,a,b\n007,MRI,1,\n008,MRI,2,\n", encoding="utf-8")
    cohort = read_cohort(folder)
    assert list(cohort.feature_table().columns) == ["MRI_pre_all__a"]
    assert [(each.column, each.message) for each in cohort.warnings if "features" in each.file] == [
        ("b", "feature without a single number")
    ]


def test_a_misspelled_table_of_features_is_not_passed_over(folder):
    (folder / "feature.csv").write_text(FEATURES, encoding="utf-8")
    assert "feature.csv is there" in only_problem(folder).message
