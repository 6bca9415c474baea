"""A process of a task beside its first one: lends a worker process to the pool of that one.

The first process listens where SLURM's environment tells the others: on the node from which `srun` started
them, at a port that the job's id gives. What they say to each other is as open to the cluster's network as
what torch.distributed says.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass

from slurm.submission import Order
from suite.errors import SteppeError
from suite.local.network import call, towards
from suite.local.process import environment, visible_gpus, worker_command
from suite.local.signals import held

ARRIVAL_S = 120.0
"""Seconds for the first process to appear; if it had nothing to do, it may be gone by now."""

_GONE_S = 5.0
_TURN_S = 0.5
_PORTS = range(10_000, 26_000)
"""Below those that Linux gives out by itself."""


@dataclass(frozen=True)
class Step:
    """This process's place among those of its task."""

    rank: int = 0
    n: int = 1
    local: int = 0
    """Its number on its node."""
    address: str = "127.0.0.1"
    port: int = 0

    @classmethod
    def current(cls) -> Step:
        """Read it from SLURM's environment."""
        n = int(os.environ.get("SLURM_NTASKS") or 1)
        if n == 1:
            return cls()
        try:
            job = int(os.environ["SLURM_JOB_ID"])
            return cls(
                int(os.environ["SLURM_PROCID"]),
                n,
                int(os.environ["SLURM_LOCALID"]),
                os.environ["SLURM_LAUNCH_NODE_IPADDR"],
                _PORTS[job % len(_PORTS)],
            )
        except (KeyError, ValueError):
            raise SteppeError(
                "a task of several processes is to be started by `srun`, which tells each its place: "
                "SLURM_PROCID, SLURM_LOCALID, SLURM_LAUNCH_NODE_IPADDR"
            ) from None

    def listen(self) -> socket.socket | None:
        """Await the calls of the other processes; None where there are none."""
        if self.n == 1:
            return None
        try:
            return socket.create_server((self.address, self.port), backlog=self.n)
        except OSError as error:
            raise SteppeError(
                f"cannot listen at {self.address}:{self.port}, where the other processes of this task call "
                f"({error.strerror or error}): `steppe retry` submits it as another job, with another port"
            ) from error


def lend(step: Step, order: Order) -> int:
    """Lend worker processes, one after the other, until the first process of the task is gone."""
    gpus = visible_gpus()
    env = environment(gpus[step.local % len(gpus)] if gpus else None, towards(step.address))
    command = worker_command(order.plugins, order.data)
    patience_s = ARRIVAL_S
    while (line := _reach(step, patience_s)) is not None:
        _work(line, command, env)
        patience_s = _GONE_S
    if patience_s == ARRIVAL_S:
        where = f"{step.address}:{step.port}"
        print(f"rank {step.rank}: nobody answered at {where} within {ARRIVAL_S:.0f} s", file=sys.stderr)
    return 0


def _reach(step: Step, patience_s: float) -> socket.socket | None:
    until = time.monotonic() + patience_s
    while True:
        try:
            return call(step.address, step.port, step.rank)
        except OSError:
            if time.monotonic() > until:
                return None
            time.sleep(_TURN_S)


def _work(line: socket.socket, command: Sequence[str], env: dict[str, str]) -> None:
    with line, held():  # held: until the worker handles signals
        process = subprocess.Popen(command, stdin=line.fileno(), stdout=line.fileno(), env=env)
    process.wait()
