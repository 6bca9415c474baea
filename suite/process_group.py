"""The processes of one run: each takes its slice of every mini-batch, and they add up their gradients.

    grad L(w; B) = sum_r (n_r / n) grad L(w; B_r),     r = 0 .. ranks - 1,   sum_r n_r = n

All of them hold the same weights, draw the same noise and take the same step. Rank 0 leads: it alone owns the
attempt, evaluates, measures, saves and says before each step whether there is one. BatchNorm normalises the
slice of its own process (so that ranks are a stratum of comparison), and the running statistics are those of
rank 0. `suite.engine.torch_process_group` has the several, this file the one that is alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn


def slice_bounds(n: int, part: int, parts: int) -> tuple[int, int]:
    """Bounds [low, high) of one of `parts` consecutive slices of n examples; sizes differ by at most 1."""
    return part * n // parts, (part + 1) * n // parts


class ProcessGroup:
    """A process of a run and its dealings with the others; of its own class it is the only one."""

    rank = 0
    n = 1

    def agreed(self, flag: bool = False) -> bool:
        """Return rank 0's flag, in every process."""
        return flag

    def share(self, state: dict[str, Any] | None = None) -> dict[str, Any] | None:
        """Return rank 0's state (tensors and plain data, or None), in every process."""
        return state

    def bounds(self, low: int, high: int) -> tuple[int, int]:
        """Bounds of this process's slice of examples [low, high)."""
        return low, high

    def begin(self, params: Sequence[nn.Parameter]) -> None:
        """Prepare for an evaluation whose gradient `add_up` will add to what `.grad` holds."""

    def check(self, params: Sequence[nn.Parameter]) -> None:
        """Raise SteppeError where the processes do not hold the same weights, bit for bit."""

    def add_up(self, params: Sequence[nn.Parameter], numbers: Tensor) -> Tensor:
        """Leave in every process's `.grad` the sum over all of them, and return the sum of `numbers` (k,).

        Without `params`, gradients stay each process's own.
        """
        return numbers
