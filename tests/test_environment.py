"""The lock, environment.yml and pyproject.toml say the same."""

from __future__ import annotations

import re
import tomllib
from importlib import metadata

import yaml

from alnlib.paths import repository_root
from alnlib.pipeline.bootstrap import GPU_ONLY
from tools.lock import COMPILED_AGAINST, direct_dependencies, environment_text, normalized, read_pins

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
    import sys

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
