"""Several processes of one run, see `suite.process_group`; what each of them does with the others.

Gradients travel by NCCL between GPUs, else by gloo; all else by gloo, without a wait for the GPU.
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
"""Seconds within which all processes of a run must have come: they load torch, perhaps over a network."""

_SILENCE = timedelta(days=2)
"""How long a process waits for the others while rank 0 evaluates or measures; a lost one is known at once."""

_STORE_S = 60.0
"""For an answer of rank 0's process, which listens before it is announced."""

_TURN_S = 0.05
_JOINED = "joined"


class TorchProcessGroup(ProcessGroup):
    """One of several processes.

    What `.grad` held before an evaluation is the same in all processes, so rank 0 alone carries it into the
    sum. A parameter that no process's loss reaches gets a gradient of zeros, where one process leaves None.
    """

    def __init__(self, rank: int, n: int, store: dist.TCPStore, device: str) -> None:  # type: ignore[name-defined]
        """Meet the others, all of whom have joined `store`; at most one group of a process at a time."""
        self.rank, self.n = rank, n
        self._flag = torch.zeros(1, dtype=torch.uint8)
        self._flat: Tensor | None = None
        backend = "cpu:gloo,cuda:nccl" if device == "cuda" else "gloo"
        with _others():
            dist.init_process_group(backend, store=store, rank=rank, world_size=n, timeout=_SILENCE)

    def agreed(self, flag: bool = False) -> bool:
        """See `ProcessGroup`; a byte from rank 0 to the others."""
        self._flag[0] = flag
        with _others():
            dist.broadcast(self._flag, src=0)
        return bool(self._flag[0])

    def share(self, state: dict[str, Any] | None = None) -> dict[str, Any] | None:
        """See `ProcessGroup`; the state travels as torch saves it and is read back as weights only."""
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
        """See `ProcessGroup`: one of `n` consecutive slices, whose sizes differ by one where they must.

        They are dealt out from the end: where there are too few examples, rank 0 has one, as the running
        statistics of BatchNorm are its own.
        """
        first, last = slice_bounds(high - low, self.n - 1 - self.rank, self.n)
        return low + first, low + last

    def begin(self, params: Sequence[nn.Parameter]) -> None:
        """See `ProcessGroup`."""
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
        for p in params:
            if p.grad is None:
                p.grad = torch.zeros_like(p)
        grads = [p.grad for p in params if p.grad is not None]
        with torch.no_grad():
            torch._foreach_copy_([*views, tail], [*grads, numbers])
            assert self._flat is not None
            with _others():
                dist.all_reduce(self._flat)
            torch._foreach_copy_(grads, views)  # whoever keeps a gradient keeps it from the next sum
        return tail.clone()

    def check(self, params: Sequence[nn.Parameter]) -> None:
        """See `ProcessGroup`; compares sums over the bits."""
        bits = sum(p.detach().reshape(-1).view(torch.int32).sum(dtype=torch.int64) for p in params)
        found = int(bits)
        extremes = torch.tensor([found, -found])
        with _others():
            dist.all_reduce(extremes, op=dist.ReduceOp.MAX)
        if int(extremes[0]) != -int(extremes[1]):
            raise SteppeError(
                "the processes of this run came to different weights: their processors or GPUs are unlike; "
                "ask for one kind (gpu_type or constraint of the profile)"
            )

    def _views(self, params: Sequence[nn.Parameter], k: int) -> tuple[list[Tensor], Tensor]:
        """One vector with room for every gradient, in its parameter's memory order, and k numbers."""
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
    """Be rank 0 of `n` processes while the block runs; None where a stop was asked for before all had come.

    `device` is the device kind of the run. `announce` is told the port at `address`, which is this machine's,
    on which the others `join` this process. Raises RankLostError where they do not come within `JOIN_S`.
    """
    if n == 1:
        yield ProcessGroup()
        return
    listener = socket.create_server((address, 0))  # torch's own would listen to every network
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
    """Be a further process of the run whose rank 0 is at this place, while the block runs."""
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
        raise  # an orderly end of the group would wait for who is lost; the process ends instead
    except BaseException:
        dist.destroy_process_group()
        raise
    dist.destroy_process_group()


@contextmanager
def _others() -> Iterator[None]:
    """Say of torch's errors here what they mean: these calls fail where another process does not answer."""
    try:
        yield
    except RuntimeError as error:
        raise RankLostError("another process of this run ended, or cannot be reached") from error
