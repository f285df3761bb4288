"""The lock, environment.yml and pyproject.toml say the same."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from importlib import metadata

import yaml

from alnlib.paths import repository_root
from alnlib.pipeline.bootstrap import GPU_ONLY
from alnlib.pipeline.parameters import cell_source, read_notebook
from tools.lock import (
    COMPILED_AGAINST,
    LOCK,
    SMALL_LOCK,
    blocks_of,
    direct_dependencies,
    environment_text,
    normalized,
    read_pins,
)

REQUIRED = [
    "jupyterlab",
    "papermill",
    "torch",
    "torchvision",
    "monai",
    "pyradiomics",
    "scikit-learn",
    "seaborn",
    "pandas",
    "nbval",
]


def installed(package: str) -> bool:
    try:
        return bool(metadata.version(package))
    except metadata.PackageNotFoundError:
        return False


def conda_environment() -> dict:
    return yaml.safe_load((repository_root() / "environment.yml").read_text())


def test_every_package_is_pinned_with_hashes_and_no_index():
    text = (repository_root() / "requirements.lock").read_text()
    assert "://" not in text
    assert "--index" not in text
    blocks = re.split(r"\n(?=[A-Za-z0-9])", text.split("\n", 2)[2])
    assert len(blocks) == len(read_pins())
    for block in blocks:
        assert "==" in block, block
        assert re.search(r"--hash=sha256:[0-9a-f]{64}", block), block


def test_the_lock_holds_what_pyproject_asks_for():
    pins = read_pins()
    assert set(direct_dependencies()) <= set(pins)
    assert set(REQUIRED) <= set(pins)
    assert set(direct_dependencies("evaluate")) < set(direct_dependencies()), "alneval's are among the compendium's"


def test_conda_has_the_same_versions():
    """Every package of the lock stands in environment.yml at the same version, and nothing else does."""
    dependencies = conda_environment()["dependencies"]
    pip = next(entry["pip"] for entry in dependencies if isinstance(entry, dict))
    found = dict(entry.split("=") for entry in dependencies if isinstance(entry, str) and "=" in entry)
    assert found.pop("python") == "3.11"
    assert set(found) == set(COMPILED_AGAINST)
    for entry in pip:
        if entry != "--editable .":
            name, version = re.match(r"([^=\s]+)==([^\s;]+)", entry).groups()
            found[normalized(name)] = version
    assert found == {name: version for name, (version, _) in read_pins().items()}
    assert "--editable ." in pip


def test_environment_yml_is_the_one_that_the_script_writes():
    assert (repository_root() / "environment.yml").read_text() == environment_text(read_pins())


def test_this_environment_is_the_locked_one():
    """What runs these tests is what a user gets."""
    without_gpu = not any(installed(name) for name in GPU_ONLY)
    for name, (version, marker) in read_pins().items():
        if without_gpu and name in GPU_ONLY:
            continue
        if not marker or f"sys_platform == '{sys.platform}'" in marker:
            assert metadata.version(name) == version, name


def test_what_a_machine_without_a_gpu_may_leave_out_is_locked_for_linux_alone():
    pins = read_pins()
    assert all(pins[name][1] == "sys_platform == 'linux'" for name in GPU_ONLY)


def test_the_required_python_is_the_same_everywhere():
    pyproject = tomllib.loads((repository_root() / "pyproject.toml").read_text())
    assert pyproject["project"]["requires-python"] == ">=3.11,<3.12"


def test_the_small_lock_is_a_part_of_the_lock_line_for_line():
    """With all that the extras ask for, and without what makes the lock large."""
    whole, small = (blocks_of(lock.read_text(encoding="utf-8")) for lock in (LOCK, SMALL_LOCK))
    assert small and small.items() <= whole.items()
    assert set(direct_dependencies("evaluate")) | set(direct_dependencies("read")) <= set(small)
    assert not {"torch", "torchvision", "monai", "pyradiomics", "simpleitk", "pydicom"} & set(small)


OUT_OF_REACH = """
import sys
class OutOfReach:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {outside}:
            raise ModuleNotFoundError("not in the small environment: " + name)
sys.meta_path.insert(0, OutOfReach())
"""


def test_the_small_environment_is_enough_for_evaluation_and_lessons():
    """All that is imported there is imported where every other package of the lock is out of reach."""
    small = set(blocks_of(SMALL_LOCK.read_text(encoding="utf-8"))) | {"alnlib"}
    provided = metadata.packages_distributions()
    outside = {name for name, packages in provided.items() if not small & {normalized(package) for package in packages}}
    lessons = sorted((repository_root() / "notebooks" / "lessons").glob("*.ipynb"))
    code = [cell for path in lessons for cell in read_notebook(path)["cells"] if cell["cell_type"] == "code"]
    lines = {line for cell in code for line in cell_source(cell).splitlines() if re.match(r"(from|import) ", line)}
    blocked = OUT_OF_REACH.format(outside=sorted(outside))
    needed = "\n".join([*sorted(lines), "import alneval.cli, alneval.folder, alneval.models"])
    for program, status in ((needed, 0), ("import torch", 1)):
        command = [sys.executable, "-c", f"{blocked}\n{program}"]
        done = subprocess.run(command, cwd=repository_root(), capture_output=True, text=True)
        assert done.returncode == status, done.stderr[-3000:]
