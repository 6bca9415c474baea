"""Properties that determine the bits a CPU computes: its exact model, instruction set, and limits on its use.

Libraries choose their kernels by these, and kernels differ in the order of summation and in the rounding
between a product and a sum. The same spec thus gives other bytes on another CPU. Loads no torch.
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
C library's mathematical functions choose kernels. ATen itself reports the effect of ATEN_CPU_CAPABILITY;
MKL 2020.1 removed MKL_DEBUG_CPU_TYPE."""

_IDENTITY = {
    "cpu family": "family",
    "model": "model",
    "stepping": "stepping",
    "CPU implementer": "implementer",
    "CPU part": "part",
    "CPU variant": "variant",
    "CPU revision": "revision",
}
"""Lines of /proc/cpuinfo that distinguish processors of the same name, on x86 and on ARM."""

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
"""The instruction set levels of oneDNN, the best last, with the CPU flags that each requires."""

_MOST_CHARACTERS = 80


@dataclass(frozen=True)
class Cpu:
    """The properties of a processor that determine its bits."""

    model: str
    """Its name, and the numbers that distinguish it from others of the same name."""
    level: str
    """The best instruction set level that oneDNN uses without limits."""


@cache
def this_cpu() -> Cpu:
    """Describe the processor of this machine."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        text = ""
    return read_cpu(text, platform.machine(), platform.processor())


def read_cpu(cpuinfo: str, machine: str, processor: str = "") -> Cpu:
    """Parse the text of /proc/cpuinfo.

    `machine` is the architecture's name, used if the text has no model name (ARM); `processor` is the
    system's name of the processor, used if the text is empty. If cores differ, all models are listed.
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
    """Return the variables that are set, with values that fit on a line and contain no path."""
    return {name: value for name in names if (value := _value(name, environment.get(name, "")))}


def _value(name: str, text: str) -> str:
    if name == "GLIBC_TUNABLES":  # tunables of memory change no bits
        text = ":".join(part for part in text.split(":") if part.startswith("glibc.cpu."))
    value = ",".join(text.split())
    if len(value) > _MOST_CHARACTERS or re.search(r"[^\w.,:=+-]", value, re.ASCII):
        return f"sha256:{hashlib.sha256(value.encode()).hexdigest()[:12]}"
    return value
