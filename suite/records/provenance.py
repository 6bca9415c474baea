"""Provenance of a run's numbers: code, versions, hardware and numerical settings.

The full provenance (`attempt_provenance`, with the git diff) stays in the run's folder. The part in a record
(`record_provenance`) contains no path, host name or diff. Values that cannot change during the process are
cached.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import platform
import re
import subprocess
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
import torch

from suite import __version__
from suite.code_hash import ROOT
from suite.metric import Description
from suite.records import cpu
from suite.records.schema import Origin, Provenance
from suite.records.source_tree import DIRTY, SOURCE, tree_digest
from suite.spec import RunSpec

_PACKAGES = ("torch", "torchvision", "timm", "numpy", "scipy", "scikit-learn", "pyarrow", "pillow")
_GPU_VARIABLES = (
    "CUBLAS_WORKSPACE_CONFIG",
    "NVIDIA_TF32_OVERRIDE",
    "TORCH_BLAS_PREFER_CUBLASLT",
    "TORCH_CUDNN_USE_HEURISTIC_MODE_B",
    "TORCH_CUDNN_V8_API_DISABLED",
)
"""Environment variables by which cuBLAS and cuDNN, or torch on their behalf, choose kernels."""

_VARIABLES = (
    *cpu.VARIABLES,
    *_GPU_VARIABLES,
    "ATEN_CPU_CAPABILITY",
    "CUDA_VISIBLE_DEVICES",
    "MKL_NUM_THREADS",
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
)
_MAX_DIFF = 256 * 1024


def origin(spec: RunSpec) -> Origin:
    """Return the code and the machine of this process in the form of a record."""
    commit = git_commit()
    return Origin(
        source_tree=source_tree(),
        git_commit=None if commit is None else commit["commit"] + (DIRTY if commit["diff"] else ""),
        fingerprint=fingerprint(spec),
    )


def record_provenance(spec: RunSpec, attempts: int, fingerprints: Sequence[str]) -> Provenance:
    """Return the part of the provenance that a record holds and that may be published.

    `fingerprints` are those of the attempts whose steps are in the weights. `bit_exact` states whether the
    same spec must give the same bytes on the same fingerprint; it is false if the fingerprints differ.
    """
    several = tuple(fingerprints) if len(fingerprints) > 1 else ()
    return Provenance(
        origin=origin(spec),
        versions=versions(),
        hardware=hardware(spec.device),
        settings=settings(spec.device),
        bit_exact=_bit_exact(spec) and not several,
        attempts=attempts,
        fingerprints=several,
    )


def _bit_exact(spec: RunSpec) -> bool:
    """Whether the spec determines the bytes; sums over several GPUs depend on their interconnect."""
    several_gpus = spec.device == "cuda" and spec.ranks > 1
    return torch.are_deterministic_algorithms_enabled() and not spec.compile and not several_gpus


def attempt_provenance(spec: RunSpec, task: Description) -> dict[str, Any]:
    """Return the full provenance of this process and its task's results: the content of provenance.json."""
    return {
        "protocol": spec.protocol,
        "engine": spec.engine,
        "task": msgspec.to_builtins(task),
        "fingerprint": fingerprint(spec),
        "data": {"name": spec.data, "checksum": spec.data_checksum},
        "source_tree": source_tree(),
        "git": git_commit(),
        "versions": versions(),
        "hardware": hardware(spec.device),
        "settings": settings(spec.device),
        "torch": torch_flags(),
        "environment": {name: os.environ[name] for name in _VARIABLES if name in os.environ},
    }


def fingerprint(spec: RunSpec) -> str:
    """Describe in one line the hardware, software and settings that determine bits and wall-clock time.

    On another fingerprint the same spec may give other bytes, and times are not comparable (rule 5).
    """
    machine = hardware(spec.device)
    steered = "".join(f", {name}={value}" for name, value in settings(spec.device).items())
    kernels = f"ATen {machine['instructions']}, oneDNN {machine['onednn']}{steered}"
    processor = f"{machine['cpu']}, {kernels}, {spec.threads} of {machine['cores']} threads"
    place = f"{machine['gpu']} with {processor}" if machine["gpu"] else processor
    place = f"{spec.ranks} x {place}" if spec.ranks > 1 else place
    return f"{spec.device}: {place}, torch {torch.__version__}, python {platform.python_version()}"


@cache
def source_tree() -> str:
    """Return the SHA-256 of the Python files of suite, tasks and baselines: their names and lines."""
    paths = (path for package in SOURCE for path in (ROOT / package).rglob("*.py"))
    return tree_digest({path.relative_to(ROOT).as_posix(): path.read_bytes() for path in paths})


@cache
def git_commit() -> dict[str, str] | None:
    """Return commit and uncommitted changes of the code; None outside a clone. A large diff is truncated."""
    commit, top = _git("rev-parse", "HEAD"), _git("rev-parse", "--show-toplevel")
    if commit is None or top is None or Path(top.rstrip("\n")) != ROOT:  # installed inside another project
        return None
    diff = _git("diff", "HEAD", "--", *SOURCE) or ""
    new = _git("ls-files", "--others", "--exclude-standard", "--", *SOURCE) or ""
    diff += "".join(f"new file, not in git: {name}\n" for name in new.splitlines())
    if len(diff) > _MAX_DIFF:
        diff = f"{diff[:_MAX_DIFF]}\n[cut: {len(diff)} characters, SHA-256 {_sha256(diff)}]\n"
    return {"commit": commit.strip(), "diff": diff}


def _git(*arguments: str) -> str | None:
    command = ["git", "-C", str(ROOT), *arguments]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    try:
        answer = subprocess.run(command, capture_output=True, timeout=30, check=False, env=environment)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return answer.stdout.decode(errors="replace") if answer.returncode == 0 else None


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


@cache
def _installed(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def versions() -> dict[str, str]:
    """Return the versions of the suite, of Python and of every package that affects numbers."""
    found = {package: version for package in _PACKAGES if (version := _installed(package))}
    return {"steppe": __version__, "python": platform.python_version(), **found}


def hardware(device: str) -> dict[str, str | int | None]:
    """Return models, instruction sets and counts of the processors, without the name of the machine.

    `instructions` is the set that torch's own kernels use, `onednn` the best that oneDNN uses on the CPU.
    """
    this_cpu = cpu.this_cpu()
    return {
        "cpu": this_cpu.model,
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "onednn": this_cpu.level,
        "gpu": _gpu() if device == "cuda" and torch.cuda.is_available() else None,
        "system": f"{platform.system()} {platform.machine()}",
    }


def settings(device: str) -> dict[str, str]:
    """Return the settings that make a library, or torch on its behalf, choose other than default kernels."""
    names = (*cpu.VARIABLES, *(_GPU_VARIABLES if device == "cuda" else ()))
    return cpu.settings(os.environ, names) | _mkldnn_settings()


def _mkldnn_settings() -> dict[str, str]:
    """Return the settings of torch's oneDNN that differ from their defaults.

    The precision of matrix products is omitted: `suite.engine.precision` sets it from the run's precision.
    """
    mkldnn = torch.backends.mkldnn
    found = {
        "mkldnn.enabled": mkldnn.enabled,
        "mkldnn.deterministic": mkldnn.deterministic,
        "mkldnn.conv.fp32_precision": mkldnn.conv.fp32_precision,  # type: ignore[attr-defined]
        "mkldnn.rnn.fp32_precision": mkldnn.rnn.fp32_precision,  # type: ignore[attr-defined]
    }
    usual = {"mkldnn.enabled": (True,), "mkldnn.deterministic": (False,)}
    return {key: str(value) for key, value in found.items() if value not in usual.get(key, ("none", "ieee"))}


@cache
def _gpu() -> str:
    major, minor = torch.cuda.get_device_capability()
    cudnn = torch.backends.cudnn.version()  # type: ignore[no-untyped-call]
    versions = f"driver {_driver()} CUDA {torch.version.cuda} cuDNN {cudnn}"
    return f"{torch.cuda.get_device_name()} (sm_{major}{minor} {versions})"


def _driver() -> str:
    try:
        text = Path("/proc/driver/nvidia/version").read_text(encoding="utf-8", errors="replace")
    except OSError:
        text = ""
    return driver_version(text)


def driver_version(text: str) -> str:
    """Parse the version of NVIDIA's driver from the text of /proc/driver/nvidia/version."""
    found = re.search(r"^NVRM version:.*?\s(\d+(?:\.\d+)+)\s", text, re.MULTILINE)
    return found[1] if found else "unknown"


def torch_flags() -> dict[str, Any]:
    """Return the present settings of torch that change numbers or their order of summation."""
    return {
        "threads": torch.get_num_threads(),
        "deterministic_algorithms": torch.are_deterministic_algorithms_enabled(),
        "matmul_precision": torch.get_float32_matmul_precision(),
        "cudnn_allow_tf32": torch.backends.cudnn.allow_tf32,
        "cudnn_benchmark": torch.backends.cudnn.benchmark,
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version() if torch.cuda.is_available() else None,  # type: ignore[no-untyped-call]
    }
