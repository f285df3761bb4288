"""Walls between the packages, read from the source: who may import what, and that alneval stands alone on its example."""

from __future__ import annotations

import ast
import doctest
import importlib
from pathlib import Path

import pandas as pd
import pytest

from alneval import EXAMPLE
from alnlib.paths import repository_root
from tools.example import example_table

OURS = ("alnlib", "alneval", "alnsim")
PIXELS_AND_NETWORKS = {"torch", "torchvision", "monai", "radiomics", "pydicom", "SimpleITK", "nibabel", "av", "pandera"}
SHARED = ("alnlib.errors", "alnlib.files", "alnlib.tasks")
"""What the two small packages may use of alnlib."""


def imported(path: Path) -> list[str]:
    """Full names that a file imports anywhere in it, in functions too: "alnlib.files.write_csv"."""
    names = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            start = "." * node.level + (node.module or "")
            names += [f"{start}.{alias.name}" for alias in node.names]
    return names


def breaches(root: Path) -> list[str]:
    """ "file: name" of every import below `root` that crosses a wall."""
    crossing = []
    for path in sorted(path for package in OURS for path in (root / package).rglob("*.py")):
        place = path.relative_to(root)
        package = place.parts[0]
        for name in imported(path):
            other = name.split(".")[0]
            foreign = other == "alnlib" and not f"{name}.".startswith(tuple(f"{module}." for module in SHARED))
            apart = {"alneval": {"alnsim"}, "alnsim": {"alneval"}}.get(package, set())
            outward = package != "alnlib" and (foreign or other in apart)
            heavy = package == "alneval" and other in PIXELS_AND_NETWORKS
            private = other in OURS and any(part.startswith("_") and part[-2:] != "__" for part in name.split("."))
            if outward or heavy or private or other == "":
                crossing.append(f"{place.as_posix()}: {name}")
    return crossing


def test_no_import_crosses_a_wall():
    assert breaches(repository_root()) == []


@pytest.mark.parametrize(
    ("file", "line"),
    [
        ("alneval/a.py", "from alnlib.paths import repository_root"),
        ("alneval/a.py", "import alnlib.imaging.read"),
        ("alneval/deep/a.py", "def late():\n    import torch"),
        ("alneval/a.py", "from pydicom.uid import UID"),
        ("alneval/a.py", "from alnsim import build"),
        ("alnsim/a.py", "from alnlib import imaging"),
        ("alnsim/a.py", "import alneval"),
        ("alnlib/a.py", "from alneval.tables import _read_raw"),
        ("alnlib/a.py", "from .files import write_csv"),
    ],
)
def test_a_wall_broken_on_purpose_is_seen(file, line, tmp_path):
    (tmp_path / file).parent.mkdir(parents=True)
    (tmp_path / file).write_text("from alnlib.files import write_csv\nimport numpy as np\n" + line)
    assert len(breaches(tmp_path)) == 1


MODULES = sorted(path.stem for path in (repository_root() / "alneval").glob("*.py"))


@pytest.mark.parametrize("module", MODULES)
def test_lines_of_docstrings_run(module):
    name = "alneval" if module == "__init__" else f"alneval.{module}"
    assert doctest.testmod(importlib.import_module(name)).failed == 0


def test_the_example_is_the_one_that_its_script_draws():
    pd.testing.assert_frame_equal(pd.read_csv(EXAMPLE), example_table(), check_dtype=False)
