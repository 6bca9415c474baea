"""Counter of the floating-point operations of matrix products and convolutions."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry


class Flops(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts within its block by torch's own formulas, including derivatives of every order and mode.

    It counts as `torch.utils.flop_counter.FlopCounterMode` does, but not by module, which would more than
    double the time of a Hessian product of a small network. A product (m, k) (k, n) has 2 m k n operations:

    >>> import torch
    >>> with Flops() as counted:
    ...     product = torch.ones(2, 3) @ torch.ones(3, 4)
    >>> counted.total
    48
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
        """Suspend counting inside the block."""
        before, self._paused = self._paused, True
        try:
            yield
        finally:
            self._paused = before
