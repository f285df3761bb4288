"""The reference arithmetic: who gets it, what the libraries make of it, and that nothing computed otherwise is taken for it."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from alnlib import arithmetic as module
from alnlib.arithmetic import REFERENCE, arithmetic, arithmetic_line, reference_arithmetic, use_reference_arithmetic
from alnlib.memo import key_of
from alnlib.paths import repository_root
from alnlib.pipeline.execute import kernel_environment

NAMES = (*REFERENCE, "NPY_DISABLE_CPU_FEATURES")
ZEN_3 = "sse4_2 avx avx2 fma"
SAPPHIRE_RAPIDS = f"{ZEN_3} avx512f avx512dq avx512_vbmi2 avx512_fp16"


@pytest.fixture
def unset(monkeypatch):
    """A process in which nobody has set any of the variables."""
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


def have(monkeypatch, **cpuinfo: str) -> None:
    monkeypatch.setattr(module, "_cpuinfo", lambda: {name.replace("_", " "): text for name, text in cpuinfo.items()})


@pytest.mark.parametrize(
    ("flags", "unused"),
    [(ZEN_3, None), (f"{ZEN_3} avx512f avx512dq", "X86_V4"), (SAPPHIRE_RAPIDS, "X86_V4 AVX512_ICL AVX512_SPR")],
)
def test_numpy_is_told_to_leave_what_the_processor_has_beyond_avx2_and_nothing_else(flags, unused, unset):
    have(unset, flags=flags)
    found = reference_arithmetic()
    assert found.pop("NPY_DISABLE_CPU_FEATURES", None) == unused
    assert found == REFERENCE


@pytest.mark.parametrize("cpuinfo", [{"flags": "sse4_2 avx"}, {"Features": "asimd sve"}, {}])
def test_without_avx2_nothing_is_set_and_a_run_warns(cpuinfo, unset):
    """ATEN_CPU_CAPABILITY=avx2 there would end in an illegal instruction."""
    have(unset, **cpuinfo)
    use_reference_arithmetic()
    assert not set(NAMES) & set(os.environ)
    assert arithmetic_line(computed()).startswith("Warning: not the reference arithmetic but ")


def computed(accelerator: str = "cpu") -> dict[str, str]:
    return {"arithmetic": arithmetic(), "processor": module.processor(), "accelerator": accelerator}


def test_what_the_user_set_counts_and_is_told(unset):
    have(unset, flags=ZEN_3, model_name="Some CPU")
    unset.setenv("MKL_CBWR", "AUTO")
    for name in REFERENCE.keys() - {"MKL_CBWR"}:
        unset.setenv(name, "")  # so that what is set below is undone
        unset.delenv(name)
    use_reference_arithmetic()
    assert {name: os.environ[name] for name in REFERENCE} == REFERENCE | {"MKL_CBWR": "AUTO"}
    assert arithmetic().startswith("Some CPU's own, ") and "MKL_CBWR=AUTO" in arithmetic()
    assert kernel_environment()["MKL_CBWR"] == "AUTO"


def test_reference_is_one_word_on_every_processor_that_can(unset):
    """So that a cache of one is that of the other."""
    for flags in (ZEN_3, SAPPHIRE_RAPIDS):
        have(unset, flags=flags, model_name="Some CPU")
        for name, value in reference_arithmetic().items():
            unset.setenv(name, value)
        assert arithmetic() == "reference"
        unset.delenv("NPY_DISABLE_CPU_FEATURES", raising=False)
    assert arithmetic() != "reference", "numpy's AVX-512 is left on"


def test_the_start_line_names_the_processor_and_warns_on_a_gpu(unset):
    have(unset, flags=ZEN_3, model_name="Some CPU")
    for name, value in REFERENCE.items():
        unset.setenv(name, value)
    assert arithmetic_line(computed()) == "Reference arithmetic (AVX2) on Some CPU"
    assert arithmetic_line(computed("Some GPU")).startswith("Warning: networks run on a GPU (Some GPU)")


def test_a_key_knows_the_arithmetic(unset):
    keys = {key_of(a=1)}
    unset.setenv("ATEN_CPU_CAPABILITY", "default")
    keys.add(key_of(a=1))
    unset.setitem(REFERENCE, "A_NEW_VARIABLE", "1")
    keys.add(key_of(a=1))
    assert len(keys) == 3 and key_of(a=1) in keys


SEEN = """
import json, numpy, torch, threadpoolctl
from numpy._core._multiarray_umath import __cpu_features__ as has, __cpu_dispatch__ as groups
numpy.ones((9, 9)) @ numpy.ones((9, 9))
blas = {p["architecture"] for p in threadpoolctl.threadpool_info() if p["internal_api"] == "openblas"}
numpys = [group for group in groups if has[group]]
print(json.dumps([numpys, torch.backends.cpu.get_cpu_capability(), sorted(blas)]))
"""


@pytest.mark.skipif(not reference_arithmetic(), reason="this processor is not known to have AVX2")
def test_the_libraries_of_the_lock_obey(unset):
    """Asked of numpy, torch and OpenBLAS themselves; numpy, with warnings as errors, has nothing against the names."""
    command = [sys.executable, "-W", "error::ImportWarning", "-c", SEEN]
    environment = kernel_environment()
    done = subprocess.run(command, env=environment, cwd=repository_root(), capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == [["X86_V3"], "AVX2", ["Haswell"]]


def test_it_is_set_before_numpy_is_imported():
    """By run_all.py, whose own process computes what `evaluate` shows: the lines that stand before, and the order."""
    lines = (repository_root() / "run_all.py").read_text(encoding="utf-8").splitlines()
    order = [next(i for i, line in enumerate(lines) if line.strip().startswith(words)) for words in STARTS]
    assert order == sorted(order)
    code = "import alnlib.arithmetic, alnlib.pipeline.bootstrap, sys; sys.exit('numpy' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=repository_root(), check=True)


STARTS = ("ensure_environment(", "use_reference_arithmetic()", "from alnlib.pipeline.cli import main")
