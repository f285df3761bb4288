"""No file that a stranger could have written runs code here: read from the source, and tried with files that would.

What may not be called stands in REFUSED and `refusals`; every call in packages, notebooks and tools is looked at.
"""

from __future__ import annotations

import ast
import json
import os
import pickle
from pathlib import Path

import pandas as pd
import pytest
import torch

from alneval.folder import write_evaluation
from alnlib.cohorts.folder import read_cohort
from alnlib.errors import InputError
from alnlib.files import FORMULA, write_csv
from alnlib.imaging.volumes import read_volume
from alnlib.kept.fusion import Fusion
from alnlib.models.weights import read_tensors
from alnlib.paths import repository_root
from alnlib.pipeline.parameters import parse_setting, stage_parameters
from tests.cohort_texts import write_cohort_texts

ROOT = repository_root()
SOURCES = sorted(path for folder in ("alnlib", "alneval", "alnsim", "tools") for path in (ROOT / folder).rglob("*.py"))
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))

REFUSED = {
    "pickle": {"load", "loads", "Unpickler"},
    "joblib": {"load"},
    "cloudpickle": {"load", "loads"},
    "dill": {"load", "loads"},
    "marshal": {"load", "loads"},
    "shelve": {"open"},
    "yaml": {
        "load",
        "load_all",
        "full_load",
        "full_load_all",
        "unsafe_load",
        "unsafe_load_all",
        "Loader",
        "UnsafeLoader",
    },
    "os": {"system", "popen"},
    "pandas": {"read_pickle", "eval"},
    "torch": {"hub.load"},
    "runpy": {"run_path", "run_module"},
    "builtins": {"eval", "exec", "compile", "__import__"},
}
"""By module what is never called or passed on, whatever its arguments."""

NEEDS = {
    "torch.load": {"weights_only": True},
    "torch.hub.load_state_dict_from_url": {"weights_only": True, "check_hash": True},
    "numpy.load": {"allow_pickle": False},
    "jinja2.Environment": {"autoescape": True},
}
"""Calls that must say so."""

NEVER = {"shell": True, "allow_pickle": True, "escape": False}
"""Keywords of any call."""

ALLOWED = {
    "alnlib/kept/card.py: importlib.import_module",  # of KINDS, a table in the same file
    "alnlib/cohorts/download.py: archive.extract",  # under a name of data_manifest.csv, and checked before use
    "alnlib/report/checklists.py: markupsafe.Markup",  # of escaped text
    "alneval/site/pages.py: markupsafe.Markup",  # of JSON without a <
    "alnlib/report/site/notebooks.py: markupsafe.Markup",  # of Markdown whose HTML is escaped, and highlighted code
}


def refusals(tree: ast.AST, place: str) -> list[str]:
    """ "place: name" of every call, and every name passed on, that could run what a file says."""
    known: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                top = alias.name.split(".")[0]
                known[alias.asname or top] = alias.name if alias.asname else top
        elif isinstance(node, ast.ImportFrom):
            known |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
    refused = {f"{module}.{name}" for module, names in REFUSED.items() for name in names}
    found = []

    def full(node: ast.AST) -> str:
        if isinstance(node, ast.Attribute):
            return f"{full(node.value)}.{node.attr}"
        if isinstance(node, ast.Name):
            name = known.get(node.id, node.id)
            return f"builtins.{name}" if node.id not in known and name in REFUSED["builtins"] else name
        return "?"

    for node in ast.walk(tree):
        if isinstance(node, (ast.Attribute, ast.Name)) and full(node) in refused:
            found.append(f"{place}: {full(node)}")
        if not isinstance(node, ast.Call):
            continue
        name = full(node.func)
        given = {keyword.arg: getattr(keyword.value, "value", keyword.value) for keyword in node.keywords}
        if any(given.get(keyword, not value) is not value for keyword, value in NEEDS.get(name, {}).items()):
            found.append(f"{place}: {name}")
        if any(given.get(keyword, not value) is value for keyword, value in NEVER.items()):
            found.append(f"{place}: {name}")
        last = name.rpartition(".")[2]
        with_text = last in ("eval", "exec") and "." in name and (node.args or node.keywords)
        archived = last in ("extractall", "extract") and not name.endswith(".str.extract")
        if with_text or archived or last == "Markup" or name == "importlib.import_module":
            found.append(f"{place}: {name}")
    return found


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_nothing_in_the_packages_runs_what_a_file_says(path):
    place = path.relative_to(ROOT).as_posix()
    found = refusals(ast.parse(path.read_text(encoding="utf-8")), place)
    assert set(found) <= ALLOWED


@pytest.mark.parametrize("path", [*NOTEBOOKS, ROOT / "run_all.py"], ids=lambda path: path.name)
def test_nothing_in_the_notebooks_does(path):
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".ipynb":
        text = "\n\n".join("".join(cell["source"]) for cell in json.loads(text)["cells"] if cell["cell_type"] == "code")
    assert refusals(ast.parse(text), path.name) == []


@pytest.mark.parametrize(
    "line",
    [
        "import pickle\npickle.loads(content)",
        "from pickle import load as read\nread(stream)",
        "import joblib\nkept = map(joblib.load, paths)",
        "import torch\ntorch.load(path)",
        "import torch\ntorch.load(path, weights_only=False)",
        "import torch\ntorch.hub.load_state_dict_from_url(url, check_hash=True)",
        "import numpy as np\nnp.load(path)",
        "import numpy as np\nnp.load(path, allow_pickle=True)",
        "import yaml\nyaml.load(text, yaml.SafeLoader)",
        "import pandas as pd\npd.read_pickle(path)",
        "frame.eval(text)",
        "eval(text)",
        "exec(text)",
        "import os\nos.system(text)",
        "import subprocess\nsubprocess.run(text, shell=True)",
        "archive.extractall(folder)",
        "from importlib import import_module\nimport_module(card['kind'])",
        "import jinja2\njinja2.Environment()",
        "frame.to_html(escape=False)",
    ],
)
def test_a_call_put_in_on_purpose_is_seen(line):
    assert len(refusals(ast.parse(line), "here")) >= 1


def test_harmless_neighbors_are_let_through():
    code = "import numpy as np, yaml\nnetwork.eval()\nyaml.safe_load(text)\nnp.load(path, allow_pickle=False)\nre.compile(text)"
    assert refusals(ast.parse(code), "here") == []


# ------------------------------------------------------------------------------------------------------ files that would


class Planted:
    """Unpickled, it makes a file."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self):
        return os.mkdir, (str(self.mark),)


def test_a_torch_file_that_carries_code_is_refused_and_does_not_run(tmp_path):
    mark = tmp_path / "ran"
    torch.save({"state": Planted(mark)}, tmp_path / "parameters.pt")
    with pytest.raises(InputError, match="cannot be read as a torch file"):
        read_tensors(tmp_path / "parameters.pt", "fetch it again")
    (tmp_path / "plain.pt").write_bytes(pickle.dumps(Planted(mark)))
    with pytest.raises(InputError, match="cannot be read as a torch file"):
        read_tensors(tmp_path / "plain.pt", "fetch it again")
    assert not mark.exists()
    pickle.loads(pickle.dumps(Planted(mark)))
    assert mark.exists(), "it would have run"


@pytest.mark.parametrize("place", ["../../elsewhere", "/tmp/elsewhere", "ultrasound/../../../elsewhere"])
def test_a_fusion_reads_no_part_outside_of_its_models(place, tmp_path):
    path = tmp_path / "run" / "models" / "fusion" / "all" / "parameters.json"
    path.parent.mkdir(parents=True)
    outside = (path.parents[2] / place).resolve()
    if outside.is_relative_to(tmp_path):
        outside.mkdir()
        (outside / "card.json").write_text("{}")
    plain = {"submodels": {}, "answers": {}, "prevalence": 0.5, "sha256": {}, "columns": [], "parts": [["US", place]]}
    path.write_text(json.dumps(plain))
    with pytest.raises(InputError, match=r"outside of models/"):
        Fusion.read(path)


@pytest.mark.parametrize("suffix", [".mhd", ".mha", ".nhdr", ".nrrd"])
@pytest.mark.parametrize("place", ["../outside.raw", "{above}/outside.raw", "link.raw"])
def test_voxels_outside_of_the_folder_of_their_header_are_not_read(suffix, place, tmp_path):
    folder = tmp_path / "cohort"
    folder.mkdir()
    (tmp_path / "outside.raw").write_bytes(bytes(8))
    (folder / "link.raw").symlink_to(tmp_path / "outside.raw")
    (folder / "inside.raw").write_bytes(bytes(range(8)))
    meta = "ObjectType = Image\nNDims = 3\nDimSize = 2 2 2\nElementType = MET_UCHAR\nElementDataFile = {}\n"
    nrrd = "NRRD0004\ntype: uint8\ndimension: 3\nsizes: 2 2 2\nencoding: raw\ndata file: {}\n\n"
    header = meta if suffix.startswith(".m") else nrrd
    path = folder / f"scan{suffix}"
    path.write_text(header.format(place.format(above=tmp_path)))
    with pytest.raises(InputError, match="outside of its folder; put both files into one folder"):
        read_volume(path)
    path.write_text(header.format("inside.raw"))
    assert read_volume(path).values.ravel().tolist() == list(range(8))


def test_a_folder_of_frames_may_not_link_to_files_outside(tmp_path):
    folder = write_cohort_texts(tmp_path / "cohort")
    (tmp_path / "outside.dcm").write_bytes(b"another patient")
    (folder / "images" / "series" / "1.dcm").symlink_to(tmp_path / "outside.dcm")
    with pytest.raises(InputError, match="a file of this folder leaves the cohort folder through a link"):
        read_cohort(folder)


def test_yaml_that_asks_for_an_object_makes_none(tmp_path):
    described = write_cohort_texts(tmp_path / "cohort") / "cohort.yaml"
    mark = tmp_path / "ran"
    described.write_text(described.read_text() + f"\nnote: !!python/object/apply:os.mkdir ['{mark}']\n")
    with pytest.raises(InputError, match="not valid YAML"):
        read_cohort(tmp_path / "cohort", check_images=False)
    with pytest.raises(InputError, match="no YAML value"):
        parse_setting(f"22.epochs=!!python/object/apply:os.mkdir ['{mark}']")
    assert not mark.exists()


@pytest.mark.parametrize(
    "value",
    [
        "[!!binary IitfX2ltcG9ydF9fKCdvcycpKyI=]",  # "+__import__('os')+", in bytes, whose text papermill does not escape
        "[[!!binary Ig==]]",
        "[2024-01-01]",
        "[{a: 1}]",
        "!!set {a}",
    ],
)
def test_a_parameter_is_a_literal_down_to_its_elements(value):
    setting = parse_setting(f"22.sizes={value}")
    for default in ([1, 2], None):
        with pytest.raises(InputError, match=r"22_a: sizes \(--set\) must be"):
            stage_parameters("22_a", {"sizes": default}, {}, {}, {}, [setting])


@pytest.mark.parametrize("text", ['"; import os #', "a\\", 'a\\"; x=1', "a\nimport os", "{{x}}", "'''", "\u2028x"])
def test_text_of_a_parameter_stays_text_in_the_notebook(text):
    from papermill.translators import PythonTranslator

    code = PythonTranslator.codify({"name": text, "names": [text, [text]]}, "Parameters")
    held = {node.targets[0].id: ast.literal_eval(node.value) for node in ast.parse(code).body}
    assert held == {"name": text, "names": [text, [text]]}


# -------------------------------------------------------------------------------------------------- pages and spreadsheets


@pytest.mark.parametrize(
    "text", ["=1+1", "@SUM(A1)", "+cmd|' /C calc'!A0", "-2+3+SUM(1)", "\t=1", '=HYPERLINK("a","b")']
)
def test_text_that_a_spreadsheet_would_compute_is_written_as_text(text, tmp_path):
    frame = pd.DataFrame({"study": [text, "A"], text: ["B", text], "x": [-1.5, 2.0], "n": pd.array([1, None], "Int64")})
    write_csv(frame, tmp_path / "table.csv")
    read = pd.read_csv(tmp_path / "table.csv", dtype=str, keep_default_na=False)
    assert list(read) == ["study", f"'{text}", "x", "n"]
    assert read["study"].tolist() == [f"'{text}", "A"] and read["x"].tolist() == ["-1.5", "2"]
    assert not any(FORMULA.match(cell) for cell in read[["study", f"'{text}"]].to_numpy().ravel())
    assert list(frame) == ["study", text, "x", "n"], "the caller's frame stays as it is"


@pytest.mark.parametrize("text", ["+", "-", "+/-", "-0.5", "+1", "(+)", "-a", "N+", "a=b"])
def test_signs_and_numbers_are_none_of_it(text):
    assert not FORMULA.match(text)


def test_a_cohort_with_a_cell_that_would_be_computed_is_refused_with_its_row(tmp_path):
    folder = write_cohort_texts(tmp_path / "cohort")
    table = pd.read_csv(folder / "patients.csv", dtype=str, keep_default_na=False)
    table.loc[0, "patient_id"] = "=1+1"
    table.to_csv(folder / "patients.csv", index=False)
    with pytest.raises(
        InputError, match=r"patients.csv, row 2, column patient_id: a spreadsheet would compute this cell"
    ):
        read_cohort(folder, check_images=False)


def test_a_summary_of_names_that_are_html_holds_no_html(tmp_path):
    name = "<script>alert(1)</script>"
    rows = [{"patient_id": f"p{n}", "y_true": n % 2, "y_score": (n * 7 % 40) / 40, "model": name} for n in range(40)]
    pd.DataFrame(rows).to_csv(tmp_path / "mine.csv", index=False)
    write_evaluation([tmp_path / "mine.csv"], tmp_path / "out", n_bootstrap=40)
    summary = (tmp_path / "out" / "summary.md").read_text()
    assert "<script" not in summary and "&lt;script>alert(1)&lt;/script>" in summary
