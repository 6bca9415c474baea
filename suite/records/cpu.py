"""What decides which bits a CPU computes: its exact model, its instruction set, and what limits their use.

Libraries choose their kernels by these, and kernels differ in the order in which they add and in whether they
round between a product and a sum. So the same spec gives other bytes elsewhere. Nothing here loads torch.
"""

from __future__ import annotations

import hashlib
import platform
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

VARIABLES = (
    "DNNL_CPU_ISA_HINTS",
    "DNNL_DEFAULT_FPMATH_MODE",
    "DNNL_MAX_CPU_ISA",
    "GLIBC_TUNABLES",
    "MKL_CBWR",
    "MKL_ENABLE_INSTRUCTIONS",
    "NPY_DISABLE_CPU_FEATURES",
    "NPY_ENABLE_CPU_FEATURES",
    "ONEDNN_CPU_ISA_HINTS",
    "ONEDNN_DEFAULT_FPMATH_MODE",
    "ONEDNN_MAX_CPU_ISA",
    "OPENBLAS_CORETYPE",
)
"""Environment variables by which oneDNN (which reads both of its prefixes), MKL, NumPy, its OpenBLAS and the
C library's mathematical functions choose kernels. ATEN_CPU_CAPABILITY shows in ATen's own answer;
MKL_DEBUG_CPU_TYPE is gone since MKL 2020.1."""

_IDENTITY = {
    "cpu family": "family",
    "model": "model",
    "stepping": "stepping",
    "CPU implementer": "implementer",
    "CPU part": "part",
    "CPU variant": "variant",
    "CPU revision": "revision",
}
"""Lines of /proc/cpuinfo that tell processors of one name apart, of x86 and of ARM."""

_AVX512 = ("avx512f", "avx512bw", "avx512dq", "avx512vl")
_LEVELS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("asimd", ("asimd",)),
    ("asimd+bf16", ("asimd", "bf16")),
    ("sve", ("sve",)),
    ("sve+bf16", ("sve", "bf16")),
    ("sse41", ("sse4_1",)),
    ("avx", ("avx",)),
    ("avx2", ("avx2",)),
    ("avx2+vnni", ("avx2", "avx_vnni")),
    ("avx2+vnni2", ("avx2", "avx_vnni", "avx_vnni_int8", "avx_ne_convert")),
    ("avx512", _AVX512),
    ("avx512+vnni", (*_AVX512, "avx512_vnni")),
    ("avx512+bf16", (*_AVX512, "avx512_vnni", "avx512_bf16")),
    ("avx512+fp16", (*_AVX512, "avx512_vnni", "avx512_bf16", "avx512_fp16")),
    ("avx512+amx", (*_AVX512, "amx_tile", "amx_int8", "amx_bf16")),
    ("avx512+amx+fp16", (*_AVX512, "amx_tile", "amx_int8", "amx_bf16", "amx_fp16")),
)
"""The levels between which oneDNN distinguishes, the best last, with the flags that each asks for."""

_MOST_CHARACTERS = 80


@dataclass(frozen=True)
class Cpu:
    """A processor as far as it decides about bits."""

    model: str
    """Its name, and the numbers that tell it from others of that name."""
    level: str
    """The best instruction set that oneDNN takes if nothing limits it."""


@cache
def this_cpu() -> Cpu:
    """Return the processor of this machine."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        text = ""
    return read_cpu(text, platform.machine(), platform.processor())


def read_cpu(cpuinfo: str, machine: str, processor: str = "") -> Cpu:
    """Read the text of /proc/cpuinfo.

    `machine` is the architecture's name, which stands for the model's where the text has none (ARM), and
    `processor` what the system calls it, where the text says nothing at all. Unlike cores are all named.
    """
    cores = [dict(_lines(block)) for block in re.split(r"\n\s*\n", cpuinfo)]
    models = dict.fromkeys(model for core in cores if (model := _model(core, machine)))
    flags = {
        flag for core in cores[:1] for key in ("flags", "Features") for flag in core.get(key, "").split()
    }
    levels = [name for name, needed in _LEVELS if flags.issuperset(needed)]
    return Cpu(" + ".join(models) or processor or machine, levels[-1] if levels else "none")


def _lines(block: str) -> Iterator[tuple[str, str]]:
    for line in block.splitlines():
        key, _, value = line.partition(":")
        yield key.strip(), " ".join(value.split())


def _model(core: Mapping[str, str], machine: str) -> str:
    numbers = " ".join(f"{short} {core[key]}" for key, short in _IDENTITY.items() if key in core)
    name = core.get("model name", "")
    return f"{name or machine} ({numbers})" if numbers else name


def settings(environment: Mapping[str, str], names: tuple[str, ...] = VARIABLES) -> dict[str, str]:
    """Those of the variables that are set, with values that fit on a line and name no place."""
    return {name: value for name in names if (value := _value(name, environment.get(name, "")))}


def _value(name: str, text: str) -> str:
    if name == "GLIBC_TUNABLES":  # what it says of memory changes no bits
        text = ":".join(part for part in text.split(":") if part.startswith("glibc.cpu."))
    value = ",".join(text.split())
    if len(value) > _MOST_CHARACTERS or re.search(r"[^\w.,:=+-]", value, re.ASCII):
        return f"sha256:{hashlib.sha256(value.encode()).hexdigest()[:12]}"
    return value
