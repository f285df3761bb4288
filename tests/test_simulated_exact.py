"""The simulated cohort is the same on every processor, byte for byte.

Truth: `references/cohort/hashes.csv`, made once. Beside the processor at hand, the images are made in processes whose
numpy, OpenBLAS and C library are told to leave instruction sets unused, or on an emulated one.
"""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys

import pandas as pd
import pytest
from numpy._core._multiarray_umath import __cpu_dispatch__, __cpu_features__

from alnlib.paths import repository_root
from alnsim import simulate_cohort
from tests.references.cohort.make_hashes import (
    HASHES,
    SEED,
    SPEC,
    TRUTH_PATIENTS,
    differences,
    hash_files,
    last_bits,
)

IMAGES = "import json; from tests.references.cohort.make_hashes import *; print(json.dumps(last_bits())); "
IMAGES += "print(hash_images().to_csv(index=False))"
KEPT = {"AVX2": ("X86_V3", "AVX2", "FMA3", "F16C", "AVX"), "SSE": ()}
"""{level: what numpy may use beyond its baseline}; names of both older and newer numpy."""

OPENBLAS = {"AVX2": "Haswell", "SSE": "Prescott"}
GLIBC = {"AVX2": "-AVX512F", "SSE": "-AVX512F,-AVX2,-AVX,-FMA,-FMA4,-AVX2_Usable,-AVX_Usable,-FMA_Usable"}


def environment(level: str) -> dict[str, str]:
    """Variables under which a new process computes as a processor of this level would."""
    unused = [name for name in __cpu_dispatch__ if __cpu_features__[name] and name not in KEPT[level]]
    own = {"NPY_DISABLE_CPU_FEATURES": " ".join(unused), "OPENBLAS_CORETYPE": OPENBLAS[level]}
    own |= {"GLIBC_TUNABLES": f"glibc.cpu.hwcaps={GLIBC[level]}", "OPENBLAS_NUM_THREADS": "1"}
    return {**os.environ, **own}


def test_every_file_of_the_cohort_is_the_committed_one(tmp_path):
    made = simulate_cohort(SPEC, tmp_path / "cohort", SEED, truth_patients=TRUTH_PATIENTS)
    said = differences(pd.read_csv(HASHES, dtype={"blocks": str}), hash_files(made))
    advice = "if the simulator was changed on purpose: python -m tests.references.cohort.make_hashes"
    assert not said, "\n".join([f"{len(said)} files are not the committed ones; {advice}", *said])


@pytest.mark.parametrize("level", KEPT)
def test_other_instruction_sets_make_the_same_images(level):
    said = subprocess.run(
        [sys.executable, "-c", IMAGES],
        env=environment(level), cwd=repository_root(), capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    bits, table = said.split("\n", 1)
    if json.loads(bits) == last_bits():
        pytest.skip(f"this processor computes exp, log, sin and products as one with {level} does: nothing to compare")
    expected = pd.read_csv(HASHES, dtype={"blocks": str})
    images = expected[expected["file"].str.contains("/")]
    said = differences(images, pd.read_csv(io.StringIO(table), dtype={"blocks": str}))
    assert not said, "\n".join([f"{len(said)} files depend on the instruction set", *said])


def test_a_difference_is_named_counted_and_placed(tmp_path):
    (tmp_path / "a.csv").write_text("x\n1\n2\n")
    before = hash_files(tmp_path)
    (tmp_path / "a.csv").write_text("x\n1\n3\n")
    assert differences(before, hash_files(tmp_path)) == ["a.csv: 1 of 3 values differ, the first in place 2 or after"]
    (tmp_path / "a.csv").rename(tmp_path / "b.csv")
    assert differences(before, hash_files(tmp_path)) == ["a.csv: not made any more", "b.csv: not in the table"]
    assert differences(before, before) == []
