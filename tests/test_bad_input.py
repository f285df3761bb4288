"""Bad input of every verb: one message with its remedy and status 2, never a traceback, a hang or a number.

docs/bad_input.md holds the messages; each of its rows is a case here, and each case a row there.
"""

from __future__ import annotations

import gzip
import json
import os
import re
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import openpyxl
import pytest
from PIL import Image

from alnlib import files
from alnlib.errors import EXIT_INPUT_ERROR
from alnlib.kept.card import FORMAT, sealed
from alnlib.pipeline.cli import main
from alnlib.yaml_text import MOST_CHARACTERS
from tests.cohort_texts import write_cohort_texts
from tests.test_imaging_faults import dicom

PAGE = Path(__file__).parent.parent / "docs" / "bad_input.md"
ROW = re.compile(r"^\| `([\w-]+)` \| (.+?) \| `(.+)` \|$", re.MULTILINE)

Case = Callable[[Path], list[str]]
CASES: dict[tuple[str, str], Case] = {}
"""{(verb, what is wrong): makes the input in a folder and gives the arguments behind the verb}."""


def case(verb: str, what: str) -> Callable[[Case], Case]:
    def keep(make: Case) -> Case:
        CASES[verb, what] = make
        return make

    return keep


# ------------------------------------------------------------------------------------------------------------- validate


def of_cohort(what: str, name: str, old: str | None, new: str | bytes) -> None:
    """One thing changed in one file of a valid folder; without `old` the whole file."""

    @case("validate", what)
    def make(place: Path) -> list[str]:
        folder = write_cohort_texts(place / "cohort")
        if isinstance(new, bytes):
            (folder / name).write_bytes(new)
        else:
            text = (folder / name).read_text(encoding="utf-8") if (folder / name).exists() else ""
            assert old is None or text.count(old) == 1, (old, text)
            (folder / name).write_text(new if old is None else text.replace(old, new), encoding="utf-8")
        return ["cohort"]


def other_cohort(what: str) -> Callable[[Callable[[Path], None]], None]:
    """A valid folder, changed by a function of it."""

    def keep(change: Callable[[Path], None]) -> None:
        @case("validate", what)
        def make(place: Path) -> list[str]:
            change(write_cohort_texts(place / "cohort"))
            return ["cohort"]

    return keep


CASES["validate", "no such folder"] = lambda place: ["nowhere"]
CASES["validate", "no argument"] = lambda place: []
other_cohort("cohort.yaml is missing")(lambda folder: (folder / "cohort.yaml").unlink())
of_cohort("cohort.yaml is not UTF-8", "cohort.yaml", None, "title: Universitätsklinik".encode("cp1252"))
of_cohort("cohort.yaml: a tab as indentation", "cohort.yaml", "endpoints:\n  aln", "endpoints:\n\taln")
of_cohort("cohort.yaml: a list", "cohort.yaml", None, "- name\n- title\n")
of_cohort("cohort.yaml: lists in lists in lists", "cohort.yaml", "license: none", f"license: {'[' * 5000}")
of_cohort("cohort.yaml: an alias", "cohort.yaml", "readers: {r1: a radiologist}", "readers: &a [*a, *a]")
of_cohort(
    "cohort.yaml: an object of Python", "cohort.yaml", "license: none", "license: !!python/object/apply:os.getcwd []"
)
of_cohort("cohort.yaml: a date with a 13th month", "cohort.yaml", "license: none", "license: 2024-13-01")
of_cohort("cohort.yaml: a number of 5,000 digits", "cohort.yaml", "license: none", f"license: {'9' * 5000}")
of_cohort("cohort.yaml: a number beyond 64 bits", "cohort.yaml", "license: none", f"license: 0x{'f' * 17}")
of_cohort("cohort.yaml: a list as a key", "cohort.yaml", "license: none", "license: none\n? [a, b]\n: c")
of_cohort("cohort.yaml is very long", "cohort.yaml", "license: none", f"license: {'x' * MOST_CHARACTERS}")
of_cohort("cohort.yaml: a key mistyped", "cohort.yaml", "license:", "licence_:")
of_cohort("cohort.yaml: a key twice", "cohort.yaml", "license: none", "license: none\nlicense: CC BY")
of_cohort("cohort.yaml: a required key is missing", "cohort.yaml", "source: tests\n", "")
of_cohort("cohort.yaml: another provenance", "cohort.yaml", "provenance: simulated", "provenance: imagined")
of_cohort("cohort.yaml: a yes that YAML takes for true", "cohort.yaml", "positive: N+", "positive: yes")
of_cohort(
    "cohort.yaml: a primary endpoint that is none",
    "cohort.yaml",
    "primary_endpoint: aln_metastasis",
    "primary_endpoint: aln",
)
of_cohort("cohort.yaml: an unknown kind of variable", "cohort.yaml", "kind: continuous", "kind: number")
of_cohort("cohort.yaml: one level", "cohort.yaml", "levels: [negative, positive]", "levels: [negative]")
of_cohort("cohort.yaml: an inverted range", "cohort.yaml", "unit: years", "unit: years, range: [90, 20]")
of_cohort(
    "cohort.yaml: a range of one number too large", "cohort.yaml", "unit: years", "unit: years, range: [.inf, .inf]"
)
of_cohort(
    "cohort.yaml: the primary center is external",
    "cohort.yaml",
    "external_centers: [South]",
    "external_centers: [North]",
)
other_cohort("patients.csv is missing")(lambda folder: (folder / "patients.csv").unlink())
of_cohort("patients.csv is empty", "patients.csv", None, "")
of_cohort(
    "patients.csv: a heading only", "patients.csv", None, "patient_id,center,aln_metastasis,apcr,age_years,er,t_stage\n"
)
of_cohort("patients.csv in UTF-16", "patients.csv", None, "patient_id,center\n".encode("utf-16"))
of_cohort("patients.csv in Windows-1252", "patients.csv", None, "patient_id,center\n1,Zürich\n".encode("cp1252"))
of_cohort("patients.csv: semicolons", "patients.csv", None, "patient_id;center\n007;North\n")
of_cohort("patients.csv: a quotation mark that is not closed", "patients.csv", "007,North", '"007,North')
of_cohort("patients.csv: a cell too many", "patients.csv", "008,North,1,1,44", "008,North,1,1,4,4")
of_cohort(
    "patients.csv: a column is missing",
    "patients.csv",
    None,
    "patient_id,center,apcr,age_years,er,t_stage\n007,North,,,,\n",
)
of_cohort("patients.csv: a column twice", "patients.csv", "age_years,er", "age_years,age_years")
of_cohort("patients.csv: a column that is not described", "patients.csv", "t_stage\n", "tstage\n")
of_cohort("patients.csv: a column without a name", "patients.csv", "t_stage\n", "\n")
of_cohort("patients.csv: a patient twice", "patients.csv", "008,North", "007,North")
of_cohort("patients.csv: a patient without an id", "patients.csv", "008,North", ",North")
of_cohort("patients.csv: a label in words", "patients.csv", "008,North,1", "008,North,yes")
of_cohort("patients.csv: a decimal comma", "patients.csv", "51.5", '"51,5"')
of_cohort("patients.csv: a number with its unit", "patients.csv", "51.5", "51 years")
of_cohort("patients.csv: nan for a missing number", "patients.csv", "51.5", "nan")
of_cohort("patients.csv: an infinite number", "patients.csv", "51.5", "1e999")
of_cohort("patients.csv: a level in other capitals", "patients.csv", "44,negative", "44,Negative")
of_cohort("patients.csv: an unknown center", "patients.csv", "010,North", "010,West")
of_cohort("patients.csv: a cell that a spreadsheet computes", "patients.csv", "010,North", "=1+1,North")
of_cohort("patients.csv: one class only", "patients.csv", "007,North,0", "007,North,1")
of_cohort("patients.csv: more rows than are read", "patients.csv", None, "a\n" + "1\n" * (files.MOST_ROWS + 1))


@other_cohort("patients.csv: more bytes than are read")
def _(folder: Path) -> None:
    os.truncate(folder / "patients.csv", files.MOST_TABLE_BYTES + 1)


of_cohort("images.csv: a patient who is not there", "images.csv", "i1,007", "i1,7")
of_cohort("images.csv: an unknown modality", "images.csv", "007,US,", "007,PET,")
of_cohort("images.csv: an unknown timepoint", "images.csv", "MRI,post", "MRI,later")
of_cohort("images.csv: a file that is missing", "images.csv", "images/a.png", "images/A.png")
of_cohort("images.csv: an absolute path", "images.csv", "images/a.png", "/etc/passwd")
of_cohort("images.csv: a path out of the folder", "images.csv", "images/a.png", "../a.png")
of_cohort("images.csv: a path of Windows", "images.csv", "images/a.png", "images\\a.png")
of_cohort("images.csv: an image_id twice", "images.csv", "i2,008", "i1,008")
of_cohort("images.csv: an inverted box", "images.csv", "1 2 30 40", "30 2 1 40")
of_cohort("images.csv: a negative size of pixels", "images.csv", "0.1 0.1", "-0.1 0.1")
of_cohort("images.csv: a unit label of 2", "images.csv", "0 1 2 3 10 20,,1", "0 1 2 3 10 20,,2")
of_cohort("images.csv under another name", "Images.CSV", None, "image_id\n")
CASES["validate", "images.csv under another name"] = lambda place: [
    (write_cohort_texts(place / "cohort") / "images.csv").rename(place / "cohort" / "image.csv") and "cohort"
]
other_cohort("images.csv: a link out of the folder")(
    lambda folder: (
        (folder / "images" / "a.png").unlink(),
        (folder.parent / "other.png").write_bytes(b"of somebody else"),
        (folder / "images" / "a.png").symlink_to(folder.parent / "other.png"),
    )
)
of_cohort("readers.csv: a reader who is not described", "readers.csv", "007,r1", "007,r2")
of_cohort("readers.csv: a score in words", "readers.csv", "0.25", "high")
of_cohort("readers.csv: a score twice", "readers.csv", "008,r1", "007,r1")
of_cohort("features.csv: no feature", "features.csv", None, "patient_id,modality\n007,US\n")
of_cohort("features.csv: a feature in words", "features.csv", None, "patient_id,modality,area\n007,US,large\n")
of_cohort("features.csv: measured twice", "features.csv", None, "patient_id,modality,area\n007,US,1\n007,US,2\n")


def opened(what: str) -> Callable[[Callable[[Path], str]], None]:
    """A folder with one image, made by a function that gives its name and modality; it is opened."""

    def keep(make_image: Callable[[Path], tuple[str, str]]) -> None:
        @case("validate", what)
        def make(place: Path) -> list[str]:
            folder = write_cohort_texts(place / "cohort")
            name, modality = make_image(folder)
            (folder / "images.csv").write_text(
                f"image_id,patient_id,modality,path,sequence_or_view\ni1,007,{modality},{name},DCE\n"
            )
            return [str(folder), "--images"]  # the processes that open images stay where they were started

    return keep


@opened("an image that is none")
def _(folder: Path) -> tuple[str, str]:
    return "images/a.png", "US"


@opened("an image that is empty")
def _(folder: Path) -> tuple[str, str]:
    (folder / "images" / "a.png").write_bytes(b"")
    return "images/a.png", "US"


@opened("an image that is cut off")
def _(folder: Path) -> tuple[str, str]:
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64)).astype(np.uint8)).save(
        folder / "images" / "a.png"
    )
    os.truncate(folder / "images" / "a.png", 2000)
    return "images/a.png", "US"


@opened("a DICOM header that announces 4 billion pixels")
def _(folder: Path) -> tuple[str, str]:
    dicom(folder / "images" / "a.dcm", np.zeros((4, 4), np.uint8), "US", Rows=65535, Columns=65535)
    return "images/a.dcm", "US"


@opened("a PNG header that announces 4 billion pixels")
def _(folder: Path) -> tuple[str, str]:
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(folder / "images" / "a.png")
    content = bytearray((folder / "images" / "a.png").read_bytes())
    content[16:24] = struct.pack(">II", 65535, 65535)
    content[29:33] = struct.pack(">I", zlib.crc32(content[12:29]))
    (folder / "images" / "a.png").write_bytes(content)
    return "images/a.png", "US"


@opened("a NIfTI header that announces 27,000 billion voxels")
def _(folder: Path) -> tuple[str, str]:
    header = nibabel.Nifti1Header()
    header.set_data_shape((30000, 30000, 30000))
    (folder / "images" / "b.nii.gz").write_bytes(gzip.compress(header.binaryblock + bytes(4)))
    return "images/b.nii.gz", "MRI"


@opened("a NIfTI file that unpacks to a hundred times its size")
def _(folder: Path) -> tuple[str, str]:
    content = nibabel.Nifti1Image(np.zeros((4, 4, 4), np.uint8), np.eye(4)).to_bytes()
    (folder / "images" / "b.nii.gz").write_bytes(gzip.compress(content + bytes(2**24)))
    return "images/b.nii.gz", "MRI"


# ------------------------------------------------------------------------------------------------------------- evaluate

ROWS = ["patient_id,y_true,y_score,split", *(f"p{n},{n % 2},{(7 * n % 40) / 40},test" for n in range(40))]


def of_predictions(what: str, change: Callable[[list[str]], list[str]] = list, *options: str) -> None:
    @case("evaluate", what)
    def make(place: Path) -> list[str]:
        (place / "mine.csv").write_text("\n".join(change(ROWS)) + "\n", encoding="utf-8")
        return ["mine.csv", "--n-bootstrap", "40", *options]


def line(number: int, text: str) -> Callable[[list[str]], list[str]]:
    """Another line of that number, the heading being 1."""
    return lambda rows: [text if at == number - 1 else row for at, row in enumerate(rows)]


CASES["evaluate", "no such file"] = lambda place: ["nowhere.csv"]
CASES["evaluate", "a folder"] = lambda place: ["."]
CASES["evaluate", "no file"] = lambda place: []


def of_bytes(what: str, name: str, content: bytes) -> None:
    @case("evaluate", what)
    def make(place: Path) -> list[str]:
        (place / name).write_bytes(content)
        return [name]


of_bytes("not UTF-8", "mine.csv", "patient_id,y_true,y_score\nä,1,0.5\n".encode("cp1252"))
of_bytes("an empty file", "mine.csv", b"")
of_bytes("bytes that are no text", "mine.csv", bytes(range(256)))
of_bytes("a workbook of the old kind", "mine.xls", b"\xd0\xcf\x11\xe0")
of_bytes("a workbook that is none", "mine.xlsx", b"patient_id,y_true,y_score\n")


@case("evaluate", "a workbook that unpacks to more than is read")
def _(place: Path) -> list[str]:
    with zipfile.ZipFile(place / "mine.xlsx", "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.writestr("xl/worksheets/sheet1.xml", bytes(files.MOST_TABLE_BYTES + 1))
    return ["mine.xlsx"]


@case("evaluate", "a workbook of two sheets")
def _(place: Path) -> list[str]:
    book = openpyxl.Workbook()
    book.active.append(["patient_id", "y_true", "y_score"])
    book.create_sheet("notes").append(["a note"])
    book.save(place / "mine.xlsx")
    return ["mine.xlsx"]


of_predictions("a column is missing", line(1, "patient_id,label,y_score,split"))
of_predictions("a heading only", lambda rows: rows[:1])
of_predictions("a score in words", line(3, "p1,1,high,test"))
of_predictions("a score that is not finite", line(3, "p1,1,inf,test"))
of_predictions("a score that is missing", line(3, "p1,1,,test"))
of_predictions("a label of 2", line(3, "p1,2,0.5,test"))
of_predictions("a label in words", line(3, "p1,yes,0.5,test"))
of_predictions("an unknown split", line(3, "p1,1,0.5,testing"))
of_predictions("a patient without an id", line(3, ",1,0.5,test"))
of_predictions("the same row twice", lambda rows: [*rows, rows[1]])
of_predictions("a patient in two splits", lambda rows: [*rows, rows[1].replace("test", "external")])
of_predictions("a cell too few", line(3, "p1,1,0.5"))
of_predictions("a cell too many", line(3, "p1,1,0.5,test,more"))
of_predictions("a column twice", line(1, "patient_id,y_true,y_score,y_score"))
of_predictions("a threshold in words", list, "--threshold", "high")
of_predictions("a threshold of another model", list, "--threshold", "other=0.5")
of_predictions("two origins of the threshold", list, "--threshold", "0.5", "--sensitivity", "0.9")
of_predictions("a sensitivity above 1", list, "--sensitivity", "90")
of_predictions("a subgroup that is no column", list, "--subgroup", "age")
of_predictions("a reader who is no column", list, "--reader", "r1")
of_predictions("a score that is no column", list, "--score", "model_a")
of_predictions("an unknown interval", list, "--interval", "exact")
of_predictions("an unknown provenance", list, "--provenance", "imagined")
of_predictions("too few resamples", list, "--n-bootstrap", "5")
of_predictions("a seed below 0", list, "--seed", "-1")
of_predictions("an output folder that is a file", list, "--out", "mine.csv")
of_predictions("an output folder that is not empty", list, "--out", ".")
of_predictions("more rows than are read", lambda rows: [rows[0], *([rows[1]] * (files.MOST_ROWS + 1))])


# ------------------------------------------------------------------------------------------------------------------ run


def of_run(what: str, *arguments: str) -> None:
    CASES["run", what] = lambda place: [*arguments, "--list"]


of_run("a cohort that is neither known nor a folder", "--cohort", "nowhere")
of_run("a folder that is no cohort", "--cohort", ".")
of_run("data of a folder", "--cohort", ".", "--data", ".")
of_run("data that are not there", "--cohort", "duke", "--data", "nowhere")
of_run("an unknown profile", "--profile", "fast")
of_run("a profile that is a path", "--profile", "../../pyproject")
of_run("an unknown stage", "--only", "99")
of_run("a run that is a path", "--run", "../elsewhere")
of_run("an unknown device", "--device", "tpu")
of_run("no job", "--jobs", "0")
of_run("a job in words", "--jobs", "many")
of_run("an unknown option", "--fast")
of_run("a setting without a value", "--set", "22.epochs")
of_run("a setting of no notebook", "--set", "99.epochs=5")
of_run("a setting of no parameter", "--set", "22.epoch=5")
of_run("a shared setting of no parameter", "--set", "epoch=5")
of_run("a setting that runs code", "--set", "22.__import__('os')=5")
of_run("a setting of another type", "--set", "seed=many")
of_run("a setting that is reserved", "--set", "run=mine")
of_run("a setting that is no YAML", "--set", "seed=[1, 2")
of_run("a setting that is a date without a day", "--set", "seed=2024-02-31")
of_run("a setting with an alias", "--set", "seed=&a [*a]")
of_run("a setting of lists in lists", "--set", f"seed={'[' * 3000}")
of_run("no hour", "--time-limit", "0")
CASES["run", "a setting of a reference run"] = lambda place: ["--set", "22.epochs=5", "--to", "01"]


# ------------------------------------------------------------------------------ verify, report, clean, completion, apply

CASES["verify", "no such run"] = lambda place: ["nowhere"]
CASES["verify", "a run that is not committed"] = lambda place: [
    (place / "results" / "mine").mkdir(parents=True) or "mine"
]
CASES["verify", "two things to compare with"] = lambda place: ["mine", "try", "--against", "simulated-demo"]
CASES["report", "no such run"] = lambda place: ["nowhere"]
CASES["report", "a folder that is in use"] = lambda place: [
    *("simulated-demo", "--out", (place / "mine").touch() or "mine")
]
CASES["clean", "no such run"] = lambda place: ["nowhere"]
CASES["clean", "the whole of no run"] = lambda place: ["--whole"]
CASES["clean", "the whole of a reference run"] = lambda place: ["simulated-demo", "--whole"]
CASES["completion", "an unknown shell"] = lambda place: ["csh"]
CASES["apply", "no such model"] = lambda place: ["nowhere"]


def of_model(what: str, card: object, parameters: bytes = b"{}") -> None:
    @case("apply", what)
    def make(place: Path) -> list[str]:
        folder = place / "model"
        folder.mkdir()
        (folder / "card.json").write_text(card if isinstance(card, str) else json.dumps(sealed(card)), encoding="utf-8")
        (folder / "trained_on.txt").write_text("")
        (folder / "parameters.json").write_bytes(parameters)
        write_cohort_texts(place / "cohort")
        return ["model", "--cohort", "cohort"]


EMPTY_SHA256 = "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"
"""Of "{}"."""
NOTHING_SHA256 = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
"""Of an empty file."""
CARD = {"format": FORMAT, "kind": "equation", "parameters": {"file": "parameters.json", "sha256": EMPTY_SHA256}}
CARD |= {"trained_on": {"sha256": NOTHING_SHA256}}
of_model("a card that is no JSON", "{")
of_model("a card of lists in lists", "[" * 100_000)
of_model("a card that is a list", "[]")
of_model("a card of another format", CARD | {"format": 9})
of_model("a card of an unknown kind", CARD | {"kind": "os:system"})
of_model("parameters elsewhere", CARD | {"parameters": {"file": "../parameters.json", "sha256": EMPTY_SHA256}})
of_model("parameters that were changed", CARD, b"{ }")
of_model("parameters of another kind", CARD)


@case("apply", "a torch file that is none")
def _(place: Path) -> list[str]:
    folder = place / "model"
    folder.mkdir()
    card = CARD | {"kind": "network", "parameters": {"file": "parameters.pt", "sha256": NOTHING_SHA256}}
    (folder / "card.json").write_text(json.dumps(sealed(card)))
    (folder / "trained_on.txt").write_text("")
    (folder / "parameters.pt").write_bytes(b"")
    write_cohort_texts(place / "cohort")
    return ["model", "--cohort", "cohort"]


# ------------------------------------------------------------------------------------------------ new-cohort, download


def of_intake(what: str, sheet: str | bytes, *options: str, images: str = "export") -> None:
    @case("new-cohort", what)
    def make(place: Path) -> list[str]:
        (place / "export").mkdir()
        Image.fromarray(np.zeros((20, 20), np.uint8)).save(place / "export" / "A1_us.png")
        (place / "sheet.csv").write_bytes(sheet if isinstance(sheet, bytes) else sheet.encode())
        return ["made", "--dicom", images, "--table", "sheet.csv", *options]


SHEET = "id,pN\nA1,1\nA2,0\n"
GIVEN = ("--patient-column", "id", "--endpoint", "aln=pN")


@case("new-cohort", "no such table")
def _(place: Path) -> list[str]:
    (place / "export").mkdir()
    return ["made", "--dicom", "export", "--table", "nowhere.csv", *GIVEN]


@case("new-cohort", "a table under the name of a workbook")
def _(place: Path) -> list[str]:
    (place / "export").mkdir()
    (place / "sheet.xlsx").write_text(SHEET)
    return ["made", "--dicom", "export", "--table", "sheet.xlsx", *GIVEN]


of_intake("no such folder of images", SHEET, *GIVEN, images="nowhere")
of_intake("no endpoint", SHEET, "--patient-column", "id")
of_intake("an endpoint without a column", SHEET, "--patient-column", "id", "--endpoint", "aln")
of_intake("an endpoint of no column", SHEET, "--patient-column", "id", "--endpoint", "aln=pT")
of_intake("an endpoint with a reserved name", SHEET, "--patient-column", "id", "--endpoint", "split=pN")
of_intake("a patient column that is none", SHEET, "--patient-column", "name", "--endpoint", "aln=pN")
of_intake("no patient column", SHEET, "--endpoint", "aln=pN")
of_intake("an unknown modality", SHEET, *GIVEN, "--modality", "PET")
of_intake("a spacing without a unit", SHEET, *GIVEN, "--spacing", "px")
of_intake("a positive value that is not there", SHEET, *GIVEN, "--positive", "aln=N9")
of_intake("a positive value of no endpoint", SHEET, *GIVEN, "--positive", "apcr=1")
of_intake("a table of a heading", "id,pN\n", *GIVEN)
of_intake("a heading twice", "id,pN,pN\nA1,1,1\n", *GIVEN)
of_intake("bytes that are no text", b"id\0pN\n", *GIVEN)
of_intake("broken quoting", 'id,pN\n"A1,1\n', *GIVEN)
of_intake("a patient with two outcomes", SHEET + "A1,0\n", *GIVEN, "--modality", "US")
of_intake("a cohort folder among the sources", SHEET, *GIVEN, images=".")
of_intake("a report among the sources", SHEET, *GIVEN, "--report", "export/report.csv")
of_intake("nobody of the table has an image", "id,pN\nB1,1\nB2,0\n", *GIVEN, "--modality", "US")
CASES["download", "an unknown cohort"] = lambda place: ["nowhere"]
CASES["download", "patients of a cohort without series"] = lambda place: [
    "breast-lesions-usg",
    "--patients",
    "1",
    "--dry-run",
]
CASES["download", "an unknown patient"] = lambda place: ["duke", "--patients", "9999", "--dry-run"]


# ------------------------------------------------------------------------------------------------------------ the tests


def told(
    verb: str, what: str, place: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> tuple[int, str]:
    """Status and message of a case, places of this machine left out."""
    monkeypatch.chdir(place)
    monkeypatch.setenv("ALN_RESULTS", str(place / "results"))
    arguments = CASES[verb, what](place)
    status = main([verb, *arguments])
    printed = capsys.readouterr()
    return status, " ".join(printed.err.replace(f"{place.resolve()}/", "").replace(f"{place}/", "").split())


@pytest.mark.parametrize(("verb", "what"), CASES, ids=lambda text: text.replace(" ", "_")[:60])
def test_bad_input_is_one_message_with_status_2(verb, what, tmp_path, capsys, monkeypatch):
    rows = {(verb, what): message for verb, what, message in ROW.findall(PAGE.read_text(encoding="utf-8"))}
    status, message = told(verb, what, tmp_path, capsys, monkeypatch)
    assert status == EXIT_INPUT_ERROR
    assert "Traceback" not in message and len(message) < 3000
    pattern = ".*".join(re.escape(part) for part in re.split(r" ?\.\.\. ?", rows[verb, what].replace("\\|", "|")))
    assert re.search(pattern, message), message
    assert not list(tmp_path.glob("results/*/predictions")) and not list(tmp_path.glob("evaluation-of-*"))


def test_the_page_has_a_row_for_every_case_and_no_other():
    rows = ROW.findall(PAGE.read_text(encoding="utf-8"))
    assert {(verb, what) for verb, what, _ in rows} == set(CASES)
    assert len(rows) == len(CASES) >= 80
