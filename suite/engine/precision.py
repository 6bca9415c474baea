"""Numerical settings of a process, and the effect of low precision on perturbations (protocol rule 6)."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from suite.errors import SteppeError
from suite.objective import Objective, ObservedObjective
from suite.spec import RunSpec

_CHUNK = 1 << 15
"""Elements for which torch uses one more thread in an elementwise operation."""


def configure(spec: RunSpec) -> torch.device:
    """Set all of torch's numerical settings in this process from the spec; return the device.

    Defaults of torch are set explicitly too: the host of the run, earlier runs in the same process and the
    imports of entries may have changed them.
    """
    if spec.device == "cuda" and not torch.cuda.is_available():
        raise SteppeError("device cuda: torch sees no GPU here; use --device cpu, or see `steppe doctor`")
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.set_num_threads(spec.threads)
    torch.set_default_dtype(torch.float32)
    torch.set_default_device(None)
    torch.set_grad_enabled(True)
    torch.use_deterministic_algorithms(not spec.compile)
    # Filling fresh memory guards against reads of uninitialised memory; this code writes before it reads.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    _choose_kernels()
    _forget_precisions()
    tf32 = spec.precision == "tf32"
    torch.backends.cudnn.allow_tf32 = tf32
    torch.set_float32_matmul_precision("high" if tf32 else "highest")
    _keep_denormals(spec.threads)
    return torch.device(spec.device)


def _choose_kernels() -> None:
    """Let torch choose kernels by its defaults, without timing them."""
    backends: Any = torch.backends
    backends.cudnn.enabled = True
    backends.cudnn.benchmark = False
    backends.cudnn.deterministic = False  # use_deterministic_algorithms decides
    backends.mkldnn.enabled = True
    backends.mkldnn.deterministic = False
    backends.cuda.matmul.allow_fp16_reduced_precision_reduction = True
    backends.cuda.matmul.allow_bf16_reduced_precision_reduction = True
    backends.cuda.matmul.allow_fp16_accumulation = False
    backends.cuda.enable_flash_sdp(True)
    backends.cuda.enable_mem_efficient_sdp(True)
    backends.cuda.enable_cudnn_sdp(True)
    backends.cuda.enable_math_sdp(True)
    backends.mha.set_fastpath_enabled(True)


def _forget_precisions() -> None:
    """Reset the settings of torch's newer precision interface, which block the older interface.

    Only the older one sets convolutions and matrix products on every supported torch.
    """
    backends: Any = torch.backends
    for library in (backends, backends.cudnn, backends.mkldnn):
        library.fp32_precision = "none"
    for library in (backends.cudnn, backends.mkldnn):
        library.conv.fp32_precision = "none"
        library.rnn.fp32_precision = "none"


def _keep_denormals(threads: int) -> None:
    """Keep denormal numbers; SteppeError if a thread flushes them to zero.

    The setting belongs to a thread and is inherited by threads that it starts: torch may have started threads
    before this call.
    """
    torch.set_flush_denormal(False)
    bits = torch.ones(threads * _CHUNK, dtype=torch.int64)  # each is the smallest double above zero
    if not bool((bits.view(torch.float64) * 1.0).view(torch.int64).all()):
        raise SteppeError(
            "a thread of this process takes denormal numbers for zero: remove torch.set_flush_denormal(True) "
            "from the plugin, or from whatever else calls it here"
        )


def autocast_dtype(spec: RunSpec) -> torch.dtype | None:
    """Return the dtype of autocast, or None if the run computes in its storage precision."""
    return torch.bfloat16 if spec.precision == "bf16" else None


def dtype_of(spec: RunSpec) -> torch.dtype:
    """Return the dtype of weights and inputs."""
    return torch.float64 if spec.precision == "fp64" else torch.float32


def low_precision_cast(spec: RunSpec) -> Callable[[Tensor], Tensor] | None:
    """Return the rounding of a weight before a product in low precision, as float32; None in full precision.

    bf16 keeps 8 significant bits, tf32 keeps 11 (the upper 10 of the 23 stored bits of a float32).
    """
    if spec.precision == "bf16":
        return lambda w: w.to(torch.bfloat16).float()
    if spec.precision == "tf32":
        return lambda w: ((w.view(torch.int32) + 0x1000) & ~0x1FFF).view(torch.float32)
    return None


class PerturbationProbe(ObservedObjective):
    """An objective that observes one step and measures how much of a perturbation survives the cast.

    With e = w' - w the intended perturbation of the clean weights w and c(.) the cast to low precision,
    the realised perturbation is c(w + e) - c(w). `cosine` is the smallest cos(e, c(w + e) - c(w)) among the
    evaluations of the step, over the weights used in products (two dimensions or more); None if the step
    perturbed no weight.
    """

    def __init__(self, objective: Objective, model: nn.Module, cast: Callable[[Tensor], Tensor]) -> None:
        super().__init__(objective)
        self.cosine: float | None = None
        self._weights = [p for p in model.parameters() if p.dim() > 1]
        self._clean = [p.detach().clone() for p in self._weights]
        self._cast = cast

    def look(self) -> None:
        """Compare the intended perturbation of this evaluation with the realised one."""
        intended = self._flat(p.detach() - w for p, w in zip(self._weights, self._clean, strict=True))
        if bool(intended.any()):
            realised = self._flat(
                self._cast(p.detach()) - self._cast(w)
                for p, w in zip(self._weights, self._clean, strict=True)
            )
            cosine = float(torch.nn.functional.cosine_similarity(intended, realised, dim=0))
            self.cosine = cosine if self.cosine is None else min(self.cosine, cosine)

    @staticmethod
    def _flat(tensors: Iterable[Tensor]) -> Tensor:
        return torch.cat([t.reshape(-1) for t in tensors]).double()
