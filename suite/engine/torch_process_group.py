"""Process group of several ranks on torch.distributed, see `suite.process_group`.

NCCL reduces gradients between GPUs, gloo on CPUs; all other data uses gloo, without waiting for the GPU.
"""

from __future__ import annotations

import io
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from suite.errors import RankLostError, SteppeError
from suite.process_group import ProcessGroup, slice_bounds

JOIN_S = 900.0
"""Seconds within which all ranks of a run must join: they load torch, perhaps over a network."""

_SILENCE = timedelta(days=2)
"""Timeout of collectives while rank 0 evaluates or measures; the loss of a rank is detected at once."""

_STORE_S = 60.0
"""Timeout in seconds for an answer of rank 0, which listens before its port is announced."""

_TURN_S = 0.05
_JOINED = "joined"


class TorchProcessGroup(ProcessGroup):
    """One of several ranks.

    The content of `.grad` before an evaluation is equal in all ranks, so only rank 0 adds it to the sum. A
    parameter that no rank's loss reaches gets a gradient of zeros; a group of one leaves None.
    """

    def __init__(self, rank: int, n: int, store: dist.TCPStore, device: str) -> None:  # type: ignore[name-defined]
        """Initialise the group after all ranks joined `store`; a process has at most one group at a time."""
        self.rank, self.n = rank, n
        self._flag = torch.zeros(1, dtype=torch.uint8)
        self._flat: Tensor | None = None
        backend = "cpu:gloo,cuda:nccl" if device == "cuda" else "gloo"
        with _others():
            dist.init_process_group(backend, store=store, rank=rank, world_size=n, timeout=_SILENCE)

    def agreed(self, flag: bool = False) -> bool:
        """See `ProcessGroup`; broadcasts one byte from rank 0."""
        self._flag[0] = flag
        with _others():
            dist.broadcast(self._flag, src=0)
        return bool(self._flag[0])

    def share(self, state: dict[str, Any] | None = None) -> dict[str, Any] | None:
        """See `ProcessGroup`; the state is serialised by `torch.save` and loaded with `weights_only`."""
        buffer = io.BytesIO()
        if self.rank == 0:
            torch.save(state, buffer)
        size = torch.tensor([buffer.tell()])
        with _others():
            dist.broadcast(size, src=0)
            payload = torch.empty(int(size), dtype=torch.uint8)
            if self.rank == 0:
                payload.copy_(torch.frombuffer(buffer.getbuffer(), dtype=torch.uint8))
            dist.broadcast(payload, src=0)
        if self.rank == 0:
            return state
        shared: dict[str, Any] | None = torch.load(io.BytesIO(payload.numpy().tobytes()), weights_only=True)
        return shared

    def bounds(self, low: int, high: int) -> tuple[int, int]:
        """See `ProcessGroup`: one of `n` consecutive slices, whose sizes differ by at most one.

        Rank 0 gets the last slice, which has an example even if there are fewer examples than ranks: the
        running statistics of BatchNorm are those of rank 0.
        """
        first, last = slice_bounds(high - low, self.n - 1 - self.rank, self.n)
        return low + first, low + last

    def begin(self, params: Sequence[nn.Parameter]) -> None:
        """See `ProcessGroup`; ranks other than 0 drop their gradients, which rank 0 adds to the sum."""
        if self.rank:
            for p in params:
                p.grad = None

    def add_up(self, params: Sequence[nn.Parameter], numbers: Tensor) -> Tensor:
        """See `ProcessGroup`; one all-reduce of all gradients and `numbers` together."""
        if not params:
            with _others():
                dist.all_reduce(numbers)
            return numbers
        views, tail = self._views(params, len(numbers))
        # All ranks must reduce the same vector, also where this rank's examples reached no loss.
        for p in params:
            if p.grad is None:
                p.grad = torch.zeros_like(p)
        grads = [p.grad for p in params if p.grad is not None]
        with torch.no_grad():
            torch._foreach_copy_([*views, tail], [*grads, numbers])
            assert self._flat is not None
            with _others():
                dist.all_reduce(self._flat)
            # Copied out of the buffer, so that the next sum does not overwrite a gradient in use.
            torch._foreach_copy_(grads, views)
        return tail.clone()

    def check(self, params: Sequence[nn.Parameter]) -> None:
        """See `ProcessGroup`; compares sums of the weights' bit patterns."""
        bits = sum(p.detach().reshape(-1).view(torch.int32).sum(dtype=torch.int64) for p in params)
        found = int(bits)
        # One all-reduce by maximum gives both extremes: the sums are equal if the largest is the smallest.
        extremes = torch.tensor([found, -found])
        with _others():
            dist.all_reduce(extremes, op=dist.ReduceOp.MAX)
        if int(extremes[0]) != -int(extremes[1]):
            raise SteppeError(
                "the processes of this run came to different weights: their processors or GPUs are unlike; "
                "ask for one kind (gpu_type or constraint of the profile)"
            )

    def _views(self, params: Sequence[nn.Parameter], k: int) -> tuple[list[Tensor], Tensor]:
        """Return views of one vector: every gradient in its parameter's memory order, and k numbers."""
        size = sum(p.numel() for p in params)
        if self._flat is None or len(self._flat) != size + k:
            self._flat = params[0].new_empty(size + k, requires_grad=False)
        views, offset = [], 0
        for p in params:
            views.append(self._flat.as_strided(p.shape, p.stride(), offset))
            offset += p.numel()
        return views, self._flat[size:]


@contextmanager
def coordinate(
    n: int, device: str, address: str, announce: Callable[[int], None], stop: Callable[[], bool]
) -> Iterator[ProcessGroup | None]:
    """Act as rank 0 of `n` processes during the block; yields None if a stop is requested before all joined.

    `device` is the device kind of the run. `announce` receives the port at `address`, an address of this
    machine, at which the other ranks `join`. Raises RankLostError if they do not join within `JOIN_S`.
    """
    if n == 1:
        yield ProcessGroup()
        return
    listener = socket.create_server((address, 0))  # torch's own listener would bind to every network
    port = listener.getsockname()[1]
    store = _store(address, port, master=listener.detach())
    announce(port)
    deadline = time.monotonic() + JOIN_S
    while (joined := store.add(_JOINED, 0)) < n - 1:
        if stop():
            yield None
            return
        if time.monotonic() > deadline:
            raise RankLostError(f"only {joined + 1} of {n} processes came within {JOIN_S:.0f} s")
        time.sleep(_TURN_S)
    with _present(TorchProcessGroup(0, n, store, device)) as group:
        yield group


@contextmanager
def join(rank: int, n: int, device: str, address: str, port: int) -> Iterator[TorchProcessGroup]:
    """Act as rank `rank` of a run during the block; rank 0 listens at `address` and `port`."""
    with _others():
        store = _store(address, port)
        store.add(_JOINED, 1)
    with _present(TorchProcessGroup(rank, n, store, device)) as group:
        yield group


def _store(address: str, port: int, master: int | None = None) -> dist.TCPStore:  # type: ignore[name-defined]
    return dist.TCPStore(  # type: ignore[attr-defined]
        address,
        port,
        is_master=master is not None,
        wait_for_workers=False,
        timeout=timedelta(seconds=_STORE_S),
        master_listen_fd=master,
    )


@contextmanager
def _present(group: TorchProcessGroup) -> Iterator[TorchProcessGroup]:
    try:
        yield group
    except RankLostError:
        raise  # destroying the group would wait for the lost rank; the process ends instead
    except BaseException:
        dist.destroy_process_group()
        raise
    dist.destroy_process_group()


@contextmanager
def _others() -> Iterator[None]:
    """Convert torch's errors in the block to RankLostError: these calls fail if a rank does not answer."""
    try:
        yield
    except RuntimeError as error:
        raise RankLostError("another process of this run ended, or cannot be reached") from error
