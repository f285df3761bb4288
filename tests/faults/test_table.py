"""docs/faults.md is about tests that are there, and no test of faults is left out of it."""

from __future__ import annotations

import re
from pathlib import Path

TESTS = Path(__file__).parents[1]


def test_the_table_of_faults_names_tests_that_are_there_and_all_of_this_folder():
    page = (TESTS.parent / "docs" / "faults.md").read_text(encoding="utf-8")
    named = re.findall(r"\| `(test_\w+)` \|$", page, re.MULTILINE)
    everywhere = re.findall(r"^def (test_\w+)", "\n".join(path.read_text() for path in TESTS.rglob("test_*.py")), re.M)
    here = re.findall(
        r"^def (test_\w+)",
        "\n".join((TESTS / f"faults/test_{name}.py").read_text() for name in ("runs", "kept_files")),
        re.M,
    )
    assert len(named) == len(set(named)) >= 25
    assert set(named) - set(everywhere) == set() and set(here) - set(named) == set()
