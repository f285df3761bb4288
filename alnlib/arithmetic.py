"""The reference arithmetic: settings under which processors of different makers compute the same bits, and what holds here.

Standard library alone, because the settings must stand before numpy or torch is imported.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from functools import cache
from pathlib import Path

REFERENCE = {
    "ONEDNN_MAX_CPU_ISA": "AVX2",  # torch's convolutions
    "ATEN_CPU_CAPABILITY": "avx2",  # torch's own loops
    "MKL_CBWR": "COMPATIBLE",  # torch's matrix products
    "OPENBLAS_CORETYPE": "Haswell",  # numpy's and scipy's
}
"""What makes torch and numpy on any x86-64 processor with AVX2 round as on any other."""

BEYOND_AVX2 = {"X86_V4": "avx512dq", "AVX512_ICL": "avx512_vbmi2", "AVX512_SPR": "avx512_fp16"}
"""{numpy's name of a group of instructions: the flag of a processor that has it}, of those to be left unused.

numpy warns of a name that the processor lacks, so only those that it has are named.
"""

MAY_DIFFER = "numbers of networks may differ from the committed ones (docs/reproducibility.md)"


@cache
def _cpuinfo() -> dict[str, str]:
    """The first processor as Linux describes it; empty elsewhere."""
    try:
        first = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").partition("\n\n")[0]
    except OSError:
        return {}
    pairs = (line.partition(":") for line in first.splitlines())
    return {name.strip(): value.strip() for name, _, value in pairs}


def processor() -> str:
    """Name of this machine's processor."""
    return _cpuinfo().get("model name") or platform.processor() or platform.machine()


def reference_arithmetic() -> dict[str, str]:
    """The environment variables of the reference arithmetic on this processor; empty if it is not known to have AVX2."""
    flags = _cpuinfo().get("flags", "").split()
    if "avx2" not in flags:
        return {}
    unused = [name for name, flag in BEYOND_AVX2.items() if flag in flags]
    return REFERENCE | ({"NPY_DISABLE_CPU_FEATURES": " ".join(unused)} if unused else {})


def use_reference_arithmetic() -> None:
    """Set what the user has not set. Call it before anything that computes is imported."""
    for name, value in reference_arithmetic().items():
        os.environ.setdefault(name, value)


def arithmetic() -> str:
    """How this process computes: "reference", or the processor and what is set of the reference's variables."""
    wanted = reference_arithmetic()
    names = [*REFERENCE, "NPY_DISABLE_CPU_FEATURES"]
    found = {name: os.environ[name] for name in names if name in os.environ}
    if wanted and found == wanted:
        return "reference"
    return ", ".join([f"{processor()}'s own", *(f"{name}={value}" for name, value in found.items())])


def arithmetic_line(computed: Mapping[str, str]) -> str:
    """What computed a run, for people; a warning where it is not the arithmetic of the committed results.

    computed: `arithmetic` and `processor` as the functions here tell them, `accelerator`: the GPU of networks, or "cpu".
    """
    if computed["accelerator"] != "cpu":
        return f"Warning: networks run on a GPU ({computed['accelerator']}): {MAY_DIFFER}"
    if computed["arithmetic"] != "reference":
        return f"Warning: not the reference arithmetic but {computed['arithmetic']}: {MAY_DIFFER}"
    return f"Reference arithmetic (AVX2) on {computed['processor']}"
