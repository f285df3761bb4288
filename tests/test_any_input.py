"""Whatever stands in a file or a setting, there is a right result or one message: drawn by hypothesis, 100 examples for each
reader, 5,000 with ALN_LONG=1.

Truth: the cells as they were written; a message is an InputError that can be printed.
"""

from __future__ import annotations

import ast
import csv
import io
import math
import os
from pathlib import Path

import pandas as pd
import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from papermill.translators import PythonTranslator

from alneval.folder import summary_text
from alneval.models import evaluate_predictions
from alneval.tables import read_predictions
from alnlib.cohorts.folder import read_cohort, write_cohort
from alnlib.cohorts.sheet import read_sheet
from alnlib.errors import InputError
from alnlib.pipeline.parameters import parse_setting, read_profile, stage_parameters
from alnlib.yaml_text import read_yaml
from tests.cohort_texts import IMAGES, PATIENTS, READERS, YAML, write_cohort_texts
from tests.strategies import odd_text

EXAMPLES = 5000 if os.environ.get("ALN_LONG") else 100
MANY = settings(
    max_examples=EXAMPLES,
    deadline=None,  # the first example imports pandera
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
FEATURES = "patient_id,modality,area\n007,US,1.5\n008,US,2\n"
TABLES = {"patients.csv": PATIENTS, "images.csv": IMAGES, "readers.csv": READERS, "features.csv": FEATURES}
PREDICTIONS = "patient_id,y_true,y_score,split\n" + "".join(
    f"p{n},{n % 2},{(7 * n % 40) / 40},test\n" for n in range(12)
)


@pytest.fixture
def folder(tmp_path) -> Path:
    return write_cohort_texts(tmp_path / "cohort")


def told(error: InputError) -> None:
    """The message can be printed and is not as long as the input."""
    assert 0 < len(str(error)) < 100_000


def cells_of(text: str) -> list[list[str]]:
    return list(csv.reader(io.StringIO(text, newline="")))


def as_csv(rows: list[list[str]]) -> str:
    stream = io.StringIO(newline="")
    csv.writer(stream, lineterminator="\n").writerows(rows)
    return stream.getvalue()


@st.composite
def changed_table(draw: st.DrawFn, text: str) -> str:
    """A table in which up to three cells, headings among them, hold something else, or a row is dropped or doubled."""
    rows = [list(row) for row in cells_of(text)]
    for _ in range(draw(st.integers(1, 3))):
        row = draw(st.integers(0, len(rows) - 1))
        column = draw(st.integers(0, len(rows[row]) - 1)) if rows[row] else 0
        how = draw(st.sampled_from(["cell", "cell", "cell", "drop", "double", "shorten"]))
        if how == "drop" and len(rows) > 1:
            del rows[row]
        elif how == "double":
            rows.insert(row, list(rows[row]))
        elif how == "shorten":
            rows[row] = rows[row][:column]
        elif rows[row]:
            rows[row][column] = draw(odd_text())
    return as_csv(rows)


@st.composite
def changed_yaml(draw: st.DrawFn) -> str:
    """A description in which a value or a key, at any depth, is another one, as a YAML library writes it."""
    described = yaml.safe_load(YAML)
    place = described
    while True:
        key = draw(st.sampled_from(sorted(place)))
        if not isinstance(place[key], dict) or draw(st.booleans()):
            break
        place = place[key]
    plain = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), odd_text(), st.dates())
    value = draw(
        st.recursive(plain, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(odd_text(), inner, max_size=3))
    )
    if draw(st.booleans()):
        place[key] = value
    else:
        place[draw(odd_text())] = place.pop(key)
    return yaml.dump(described, sort_keys=False, allow_unicode=draw(st.booleans()))


@st.composite
def broken_text(draw: st.DrawFn, text: str) -> bytes:
    """A text in which a piece is replaced by any bytes."""
    content = text.encode()
    start = draw(st.integers(0, len(content)))
    end = draw(st.integers(start, min(len(content), start + 30)))
    return content[:start] + draw(st.binary(max_size=20)) + content[end:]


def read_and_compared(folder: Path) -> None:
    """An accepted cohort has the numbers of its tables, and is the same when it is written and read again."""
    try:
        cohort = read_cohort(folder, check_images=False)
    except InputError as error:
        return told(error)
    rows = [
        row
        for row in cells_of((folder / "patients.csv").read_text(encoding="utf-8-sig"))
        if any(c.strip() for c in row)
    ]
    written = pd.DataFrame(rows[1:], columns=[name.strip() for name in rows[0]])
    assert cohort.patients["patient_id"].tolist() == [cell.strip() for cell in written["patient_id"]]
    for name in cohort.endpoints:
        expected = [cell.strip() for cell in written[name]]
        given = [("" if pd.isna(value) else f"{value}") for value in cohort.patients[name]]
        assert given == [{"0.0": "0", "1.0": "1"}.get(cell, cell) for cell in expected]
    for name, variable in cohort.clinical.items():
        for cell, value in zip(written[name], cohort.patients[name], strict=True):
            if variable.kind == "continuous" and cell.strip():
                assert value == float(cell) and math.isfinite(value)
            else:
                assert (cell.strip() == "" and pd.isna(value)) or value == cell.strip()
    again = folder.parent / "again"
    write_cohort(cohort, again)
    copy = read_cohort(again, root=folder, check_images=False)
    pd.testing.assert_frame_equal(copy.patients, cohort.patients, rtol=1e-7)
    pd.testing.assert_frame_equal(copy.images, cohort.images)


@MANY
@given(text=changed_yaml())
@example(text="? [a]\n: b\n")
@example(text="license: 2024-99-99\n")
@example(text=f"license: 0x{'f' * 5000}\n")
def test_any_description_is_read_or_refused(text, folder):
    (folder / "cohort.yaml").write_text(text, encoding="utf-8")
    read_and_compared(folder)


@MANY
@given(content=broken_text(YAML))
@example(content=b"a: &a [*a]")
@example(content=b"\xff\xfea")
def test_any_bytes_for_a_description_are_read_or_refused(content, folder):
    (folder / "cohort.yaml").write_bytes(content)
    read_and_compared(folder)


@pytest.mark.parametrize("name", TABLES)
@MANY
@given(data=st.data())
def test_any_cells_of_a_table_are_read_as_written_or_refused(name, data, folder):
    (folder / name).write_text(data.draw(changed_table(TABLES[name])), encoding="utf-8", newline="")
    read_and_compared(folder)


@MANY
@given(content=st.one_of(*(broken_text(text) for text in TABLES.values())), name=st.sampled_from(sorted(TABLES)))
def test_any_bytes_for_a_table_are_read_or_refused(content, name, folder):
    for other, text in TABLES.items():
        (folder / other).write_text(text)
    (folder / name).write_bytes(content)
    try:
        read_cohort(folder, check_images=False)
    except InputError as error:
        told(error)


@MANY
@given(text=changed_table(PREDICTIONS))
def test_any_predictions_are_read_as_written_or_refused(text, tmp_path):
    path = tmp_path / "mine.csv"
    path.write_text(text, encoding="utf-8", newline="")
    try:
        read = read_predictions([path], any_scale=True)
    except InputError as error:
        return told(error)
    rows = [row for row in cells_of(text) if any(cell.strip() for cell in row)]
    heading = [name.strip() for name in rows[0]]
    written = [dict(zip(heading, row, strict=True)) for row in rows[1:]]
    if "y_score" in heading:
        scores = [row["y_score"] for row in written]
    else:  # a column per model, and an empty cell where a model has no score
        (model,) = set(read["model"])
        scores = [row[model] for row in written if row[model].strip()]
    assert read["y_score"].tolist() == pytest.approx([float(cell) for cell in scores], rel=1e-15)
    assert set(read["y_true"]) <= {0, 1} and all(map(math.isfinite, read["y_score"]))


@MANY
@given(content=broken_text(PREDICTIONS))
def test_any_bytes_for_predictions_are_read_or_refused(content, tmp_path):
    (tmp_path / "mine.csv").write_bytes(content)
    try:
        read_predictions([tmp_path / "mine.csv"], any_scale=True)
    except InputError as error:
        told(error)


@MANY
@given(content=broken_text(PATIENTS))
def test_any_bytes_for_a_hospitals_sheet_are_read_or_refused(content, tmp_path):
    (tmp_path / "sheet.csv").write_bytes(content)
    try:
        sheet = read_sheet(tmp_path / "sheet.csv")
    except InputError as error:
        return told(error)
    assert len(sheet.cells) and sheet.cells.columns.is_unique


DEFAULTS = {"number": 3, "share": 0.5, "name": "a", "names": ["a"], "flag": True, "anything": None}


@MANY
@given(name=st.one_of(st.sampled_from(sorted(DEFAULTS)), odd_text()), value=st.one_of(odd_text(), st.text(max_size=20)))
@example(name="anything", value="[!!binary IitfX2ltcG9ydF9fKCdvcycpKyI=]")
@example(name="names", value="2024-13-13")
@example(name="anything", value="!!set {a}")
@example(name="number", value="[" * 2000)
def test_any_setting_is_a_literal_of_the_notebook_or_refused(name, value, tmp_path):
    try:
        section, parameter, given_value = parse_setting(f"{name}={value}")
        values = stage_parameters("22_a", DEFAULTS, {}, {}, {}, [(section, parameter, given_value)])
    except InputError as error:
        return told(error)
    code = ast.parse(PythonTranslator.codify(values, "Parameters"))
    if not any(isinstance(one, float) and not math.isfinite(one) for one in values.values()):
        for node in code.body:
            expected = values[node.targets[0].id]
            assert repr(ast.literal_eval(node.value)) == repr(expected)
    if section == "all" and parameter in DEFAULTS and DEFAULTS[parameter] is not None:
        assert type(values[parameter]) is type(DEFAULTS[parameter])


@MANY
@given(content=broken_text("all:\n  seed: 7\n22_ultrasound:\n  epochs: 5\n  sizes: [1, 2]\n"))
def test_any_profile_is_read_or_refused(content, tmp_path):
    (tmp_path / "mine.yaml").write_bytes(content)
    try:
        read = read_profile(tmp_path / "mine.yaml")
    except InputError as error:
        return told(error)
    assert all(isinstance(values, dict) for values in read.values())


@MANY
@given(text=st.one_of(st.text(max_size=60), st.text("[]{}&*!?:-, \n#|>'\"a1", max_size=60)))
def test_any_text_is_yaml_or_a_fault_of_it(text):
    try:
        read_yaml(text)
    except yaml.YAMLError as error:
        assert str(error)


NAMES = st.one_of(
    odd_text(), st.sampled_from(["$\\frac{$", "<script>", "a|b", "../../x", "=1+1", "x" * 200, "CON", "A\u202eB"])
)
SCORES = st.one_of(
    st.floats(0, 1), st.floats(allow_nan=False, allow_infinity=False), st.sampled_from([0.0, 1.0, 0.5, 1e-300])
)


@settings(MANY, max_examples=EXAMPLES if EXAMPLES > 100 else 20)  # an evaluation each
@given(
    scores=st.lists(SCORES, min_size=8, max_size=20),
    labels=st.lists(st.integers(0, 1), min_size=20, max_size=20),
    model=NAMES,
    patients=st.integers(1, 20),
    split=st.sampled_from(["test", "external", "validation", "cross_validation", "train"]),
)
def test_any_predictions_are_evaluated_or_refused(scores, labels, model, patients, split, tmp_path):
    """Tables of an evaluation hold estimates within their bounds, whatever the scores and names."""
    rows = {"patient_id": [f"p{k % patients}" for k in range(len(scores))], "unit_id": range(len(scores))}
    rows |= {
        "y_true": labels[: len(scores)],
        "y_score": [repr(score) for score in scores],
        "model": model,
        "split": split,
    }
    pd.DataFrame(rows).to_csv(tmp_path / "mine.csv", index=False)
    try:
        predictions = read_predictions([tmp_path / "mine.csv"], any_scale=True)
        evaluation = evaluate_predictions(predictions, seed=1, n_bootstrap=40)
        told_of = summary_text(evaluation, [], "not stated", [], [])
    except InputError as error:
        return told(error)
    assert "<script" not in told_of
    for name in ("auc", "sensitivity", "specificity"):
        table = evaluation.discrimination[[f"{name}_low", name, f"{name}_high"]].dropna()
        assert ((table >= 0) & (table <= 1)).all(axis=None)
        assert (table[name] >= table[f"{name}_low"] - 1e-9).all() and (
            table[name] <= table[f"{name}_high"] + 1e-9
        ).all()
