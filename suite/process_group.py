"""The processes of one run: each evaluates its slice of every mini-batch, and they sum their gradients.

    grad L(w; B) = sum_r (n_r / n) grad L(w; B_r),     r = 0 .. ranks - 1,   sum_r n_r = n

All ranks hold the same weights, draw the same noise and take the same step. Rank 0 coordinates: it alone owns
the attempt, evaluates, measures, writes checkpoints and announces before each step whether there is one.
BatchNorm normalises over the slice of its own rank (so the number of ranks is a stratum of comparison), and
the running statistics are those of rank 0. This module implements a group of one process;
`suite.engine.torch_process_group` implements several.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn


def slice_bounds(n: int, part: int, parts: int) -> tuple[int, int]:
    """Return [floor(part n / parts), floor((part + 1) n / parts)), the bounds of a slice of n examples.

    The `parts` slices are consecutive and their sizes differ by at most 1.

    >>> [slice_bounds(10, part, parts=4) for part in range(4)]
    [(0, 2), (2, 5), (5, 7), (7, 10)]
    """
    return part * n // parts, (part + 1) * n // parts


class ProcessGroup:
    """One rank of a run and its communication with the others; this base class is a group of one."""

    rank = 0
    n = 1

    def agreed(self, flag: bool = False) -> bool:
        """Return rank 0's flag, in every process."""
        return flag

    def share(self, state: dict[str, Any] | None = None) -> dict[str, Any] | None:
        """Return rank 0's state (tensors and plain data, or None), in every process."""
        return state

    def bounds(self, low: int, high: int) -> tuple[int, int]:
        """Return the bounds of this rank's slice of examples [low, high)."""
        return low, high

    def begin(self, params: Sequence[nn.Parameter]) -> None:
        """Prepare for an evaluation whose gradient `add_up` sums over ranks and adds to `.grad`."""

    def check(self, params: Sequence[nn.Parameter]) -> None:
        """Raise SteppeError unless all ranks hold the same weights, bit for bit."""

    def add_up(self, params: Sequence[nn.Parameter], numbers: Tensor) -> Tensor:
        """Replace `.grad` in every rank by the sum over ranks, and return the sum of `numbers` (k,).

        Without `params`, each rank keeps its own gradients.
        """
        return numbers
