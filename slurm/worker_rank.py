"""Entry point of ranks 1 to n-1 of a SLURM task: starts a worker and connects it to rank 0's pool.

Rank 0 listens where SLURM's environment tells the others: on the node from which `srun` started them, at a
port that follows from the job's id, and accepts those that know the submission's key. What torch.distributed
says is open to the cluster's network.
"""

from __future__ import annotations

import os
import select
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from slurm.submission import Submission
from suite.errors import SteppeError
from suite.workers.network import connect, gloo_interface
from suite.workers.process import environment, visible_gpus, worker_command
from suite.workers.signals import held

ARRIVAL_S = 120.0
"""Seconds for rank 0 to appear."""

PATIENCE_S = 10.0
"""Seconds that a worker has to end after its connection was cut; then it is killed."""

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
        """Listen for the other ranks; None where there are none."""
        if self.n == 1:
            return None
        try:
            return socket.create_server((self.address, self.port), backlog=self.n)
        except OSError as error:
            raise SteppeError(
                f"cannot listen at {self.address}:{self.port}, where the other ranks of this task connect "
                f"({error.strerror or error}): `steppe retry` submits it as another job, with another port"
            ) from error


def serve(step: Step, submission: Submission, over: Callable[[], bool]) -> int:
    """Start workers for rank 0, one after the other, until it is gone.

    Returns 1 where it never came, though the work is not `over`.
    """
    config, key = submission.config, submission.key
    gpus = visible_gpus()
    env = environment(gpus[step.local % len(gpus)] if gpus else None, gloo_interface(step.address))
    command = worker_command(config.plugins, config.data)
    patience_s = ARRIVAL_S
    while (line := _reach(step, key, patience_s)) is not None:
        _work(line, command, env)
        patience_s = _GONE_S
    if patience_s == ARRIVAL_S and not over():
        where = f"{step.address}:{step.port}"
        print(f"rank {step.rank}: nobody answered at {where} within {ARRIVAL_S:.0f} s", file=sys.stderr)
        return 1
    return 0


def _reach(step: Step, key: str, patience_s: float) -> socket.socket | None:
    until = time.monotonic() + patience_s
    while True:
        try:
            return connect(step.address, step.port, step.rank, key)
        except OSError:
            if time.monotonic() > until:
                return None
            time.sleep(_TURN_S)


def _work(line: socket.socket, command: Sequence[str], env: dict[str, str]) -> None:
    """Have a worker process at this end of the line, until it ends or the line is cut."""
    cut = select.poll()
    cut.register(line, select.POLLRDHUP | select.POLLHUP | select.POLLERR)
    until: float | None = None
    with line:
        with held():  # until it handles them
            process = subprocess.Popen(command, stdin=line.fileno(), stdout=line.fileno(), env=env)
        while process.poll() is None:
            if until is None and cut.poll(1000 * _TURN_S):
                until = time.monotonic() + PATIENCE_S
            elif until is not None:
                time.sleep(_TURN_S)
                if time.monotonic() > until:  # it waits for a process that is gone
                    process.kill()
    time.sleep(_TURN_S)
