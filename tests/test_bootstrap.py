"""The environment's bootstrap: what it recognizes, what it repairs, and the paragraph for everything it cannot."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from alnlib.paths import repository_root
from alnlib.pipeline import bootstrap
from alnlib.pipeline.bootstrap import EnvironmentFault

LOCK = """\
numpy==2.0 \\
    --hash=sha256:aa
onlymac==1.0 ; sys_platform == 'darwin' \\
    --hash=sha256:bb
torch==2.0 \\
    --hash=sha256:cc
"""


@pytest.fixture
def clone(tmp_path):
    """A checkout of nothing but a lock."""
    (tmp_path / "requirements.lock").write_text(LOCK)
    return tmp_path


def test_only_the_standard_library_is_imported():
    """In an interpreter without site-packages all loads that run_all.py needs before the environment stands."""
    code = "import sys; sys.path.insert(0, '.'); import alnlib.pipeline.bootstrap, alnlib.arithmetic"
    subprocess.run([sys.executable, "-I", "-S", "-c", code], cwd=repository_root(), check=True)


def test_the_lock_decides_whether_an_environment_is_ready(clone):
    environment = clone / ".venv"
    python = bootstrap._python_of(environment)
    python.parent.mkdir(parents=True)
    python.touch()
    assert not bootstrap._is_ready(environment, clone)
    (environment / "aln-ready.json").write_text(json.dumps({"built_from": bootstrap._wanted(clone)}))
    assert bootstrap._is_ready(environment, clone)
    (clone / "requirements.lock").write_text(LOCK + "new==1\n")
    assert not bootstrap._is_ready(environment, clone)
    (environment / "aln-ready.json").write_text("half a fi")
    assert not bootstrap._is_ready(environment, clone)


def test_build_tools_are_taken_from_the_lock_with_their_hashes(clone):
    pins = bootstrap._pins(clone / "requirements.lock")
    assert set(pins) - {"onlymac"} == {"numpy", "torch"} and ("onlymac" in pins) == (sys.platform == "darwin")
    assert pins["numpy"] == "numpy==2.0 \\\n    --hash=sha256:aa"
    assert set(bootstrap.BUILD_PACKAGES) <= set(bootstrap._pins(repository_root() / "requirements.lock"))


def test_an_environment_of_someone_else_is_left_alone(clone):
    (clone / ".venv").mkdir()
    (clone / ".venv" / "precious").touch()
    with pytest.raises(EnvironmentFault, match="was not built by run_all.py, so it is left alone"):
        bootstrap._build(clone / ".venv", clone)
    assert (clone / ".venv" / "precious").exists()


def _touch_python(environment: Path) -> None:
    python = bootstrap._python_of(environment)
    python.parent.mkdir(parents=True, exist_ok=True)
    python.touch()


def installing(monkeypatch, steps: list) -> None:
    """Replace pip by a note of what would be installed, and venv by an empty one, so that the order can be seen."""
    monkeypatch.setattr(bootstrap, "_pip", lambda env, log, what, options, total=0: steps.append(what))
    monkeypatch.setattr(bootstrap, "_create", lambda env: (steps.append("venv"), _touch_python(env))[0])
    monkeypatch.setattr(bootstrap, "_check_machine", lambda root: None)


def test_a_build_is_finished_before_it_is_called_ready(clone, monkeypatch):
    steps: list[str] = []
    installing(monkeypatch, steps)
    bootstrap._build(clone / ".venv", clone)
    assert steps == ["venv", "build tools", "packages", "alnlib"]
    assert (clone / ".venv" / "aln-ready.json").exists()
    assert not (clone / ".venv" / "aln-building").exists()


def test_without_a_gpu_what_only_a_gpu_needs_is_not_asked_for(clone, monkeypatch):
    """The torch and xgboost of the lock were imported, trained and compared to the last bit without these packages."""
    (clone / "requirements.lock").write_text(LOCK + "triton==1 ; sys_platform == 'linux' \\\n    --hash=sha256:cc\n")
    given: dict[str, str] = {}
    installing(monkeypatch, [])
    monkeypatch.setattr(
        bootstrap,
        "_pip",
        lambda env, log, what, options, total=0: (
            given.update({what: Path(options[-1]).read_text()}) if "-r" in options else None
        ),
    )
    monkeypatch.setenv("ALN_GPU", "no")
    bootstrap._build(clone / ".venv", clone)
    assert "torch==" in given["packages"] and "--hash=sha256:" in given["packages"]
    assert not any(f"{name}==" in given["packages"] for name in bootstrap.GPU_ONLY)
    assert bootstrap._is_ready(clone / ".venv", clone)


def test_a_half_built_environment_is_built_anew(clone, monkeypatch, capsys):
    steps: list[str] = []
    installing(monkeypatch, steps)
    (clone / ".venv").mkdir()
    (clone / ".venv" / "aln-building").touch()
    (clone / ".venv" / "half").touch()
    bootstrap._build(clone / ".venv", clone)
    assert steps[0] == "venv"
    assert not (clone / ".venv" / "half").exists()
    assert "interrupted" in capsys.readouterr().out


def test_a_changed_lock_updates_what_is_there(clone, monkeypatch):
    steps: list[str] = []
    installing(monkeypatch, steps)
    bootstrap._build(clone / ".venv", clone)
    (clone / "requirements.lock").write_text(LOCK.replace("2.0", "2.1"))
    steps.clear()
    bootstrap._build(clone / ".venv", clone)
    assert steps == ["build tools", "packages", "alnlib"]


def test_an_interrupted_installation_is_not_called_ready(clone, monkeypatch):
    steps: list[str] = []
    installing(monkeypatch, steps)

    def cut(env, log, what, options, total=0):
        if what == "packages":
            raise KeyboardInterrupt

    monkeypatch.setattr(bootstrap, "_pip", cut)
    with pytest.raises(KeyboardInterrupt):
        bootstrap._build(clone / ".venv", clone)
    assert (clone / ".venv" / "aln-building").exists()
    assert not (clone / ".venv" / "aln-ready.json").exists()


def test_an_interrupt_while_venv_is_made_is_repaired_by_the_next_run(clone, monkeypatch):
    steps: list[str] = []
    installing(monkeypatch, steps)

    def cut(environment):
        raise KeyboardInterrupt

    monkeypatch.setattr(bootstrap, "_create", cut)
    with pytest.raises(KeyboardInterrupt):
        bootstrap._build(clone / ".venv", clone)
    installing(monkeypatch, steps)
    bootstrap._build(clone / ".venv", clone)
    assert bootstrap._is_ready(clone / ".venv", clone)


@pytest.mark.parametrize(
    ("output", "remedy"),
    [
        ("ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE", "does not have the checksum"),
        ("OSError: [Errno 28] No space left on device", "the disk is full"),
        ("NewConnectionError: Failed to establish a new connection", "package index cannot be reached"),
        ("ERROR: No matching distribution found for numpy==2.4.6", "package index cannot be reached"),
        ("radiomics/src/_cshape.c: error: command 'gcc' failed", "build-essential python3.11-dev"),
        ("something else\nlast words\n", "pip says: last words"),
    ],
)
def test_why_pip_failed_names_the_remedy(output, remedy):
    assert remedy in bootstrap._why_pip_failed(output, "packages", Path("install.log"))


def test_no_network_is_told_by_the_real_pip(tmp_path):
    """pip itself, with an index on a closed port: its words must be recognized."""
    venv.create(tmp_path / "env", with_pip=False, symlinks=True)
    requirements = tmp_path / "wanted.txt"
    requirements.write_text("no-such-package-of-ours==1.0\n")
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PIP_")}
    environment |= {"PIP_INDEX_URL": "http://127.0.0.1:9/simple", "PIP_RETRIES": "0", "PIP_CONFIG_FILE": os.devnull}
    command = [sys.executable, "-m", "pip", "install", "--disable-pip-version-check", "-r", str(requirements)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode != 0
    assert "package index cannot be reached" in bootstrap._why_pip_failed(done.stdout + done.stderr, "x", Path("log"))


def test_a_missing_compiler_names_the_packages(clone, monkeypatch):
    monkeypatch.setenv("CC", "no-such-compiler")
    with pytest.raises(EnvironmentFault, match="apt-get install build-essential python3.11-dev"):
        bootstrap._check_machine(clone)


def test_a_full_disk_is_told_before_anything_is_fetched(clone, monkeypatch):
    monkeypatch.setattr(bootstrap, "DISK_GIB", 10**9)
    with pytest.raises(EnvironmentFault, match="Make room"):
        bootstrap._check_machine(clone)


def test_a_wrong_python_goes_on_under_the_right_one_or_says_so(clone, monkeypatch):
    went = []
    monkeypatch.setattr(bootstrap, "PYTHON", (3, 99))
    monkeypatch.setattr(bootstrap, "_execute", lambda python, arguments: went.append(python))
    monkeypatch.setattr(bootstrap.shutil, "which", lambda name: None)
    with pytest.raises(EnvironmentFault, match="the compendium needs Python 3.11.*python3.11-venv"):
        bootstrap._ensure_right_python(clone)
    assert went == []


def test_a_given_environment_is_checked_for_what_it_lacks(monkeypatch):
    bootstrap._check_given_environment()  # the one that runs these tests is complete
    monkeypatch.setattr(bootstrap, "PROBES", (*bootstrap.PROBES, "no_such_module_of_ours"))
    with pytest.raises(EnvironmentFault, match="missing: no_such_module_of_ours"):
        bootstrap._check_given_environment()


def test_the_paragraph_reaches_the_user_with_status_2(clone):
    """The real command line, under another folder that holds a foreign .venv."""
    program = (
        "import sys; from pathlib import Path; from alnlib.pipeline import bootstrap; "
        "bootstrap.ensure_environment(['run'], root=Path(sys.argv[1]))"
    )
    (clone / ".venv").mkdir()
    done = subprocess.run(
        [sys.executable, "-c", program, str(clone)],
        capture_output=True,
        text=True,
        cwd=repository_root(),
        env={k: v for k, v in os.environ.items() if k != "ALN_ENVIRONMENT"},
    )
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert "left alone" in done.stderr
