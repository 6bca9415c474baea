"""Counts the floating-point operations of matrix products and convolutions, whoever computes them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry


class Flops(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts while its block runs, derivatives of every order and mode included, by torch's own formulas.

    This is the counting of `torch.utils.flop_counter.FlopCounterMode` without its account by module, which
    would more than double the time of a Hessian product of a small network.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.total = 0
        self._paused = False

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        formula: Callable[..., int] | None = flop_registry.get(func._overloadpacket)
        if formula is not None and not self._paused:
            self.total += formula(*args, **kwargs, out_val=out)
        return out

    @contextmanager
    def pause(self) -> Iterator[None]:
        """Count nothing inside the block."""
        before, self._paused = self._paused, True
        try:
            yield
        finally:
            self._paused = before
