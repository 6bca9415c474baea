"""Entry point of ranks 1 to n-1 of a SLURM task: starts a worker and connects it to rank 0's pool.

SLURM's environment gives every rank the address: the node that ran `srun`, and a port derived from the job
id. Rank 0 accepts connections that present the submission's key. Traffic of torch.distributed is not
protected from the cluster's network.
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
"""Seconds to wait for rank 0 to listen."""

PATIENCE_S = 10.0
"""Seconds between the loss of a worker's connection and SIGKILL."""

_GONE_S = 5.0
_TURN_S = 0.5
_PORTS = range(10_000, 26_000)
"""Below Linux's ephemeral ports."""


@dataclass(frozen=True)
class Step:
    """Rank of this process and address of rank 0."""

    rank: int = 0
    n: int = 1
    local: int = 0
    """Local rank on the node."""
    address: str = "127.0.0.1"
    port: int = 0

    @classmethod
    def current(cls) -> Step:
        """Read the step from SLURM's environment."""
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
                "a task of several processes must be started by `srun`, which sets SLURM_PROCID, "
                "SLURM_LOCALID and SLURM_LAUNCH_NODE_IPADDR"
            ) from None

    def listen(self) -> socket.socket | None:
        """Listen for the other ranks; return None if this is the only one."""
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
    """Start workers for rank 0, one after another, until rank 0 stops listening.

    Returns 1 if rank 0 never listened although `over` says that runs are left, else 0.
    """
    config, key = submission.config, submission.key
    gpus = visible_gpus()
    env = environment(gpus[step.local % len(gpus)] if gpus else None, gloo_interface(step.address))
    command = worker_command(config.plugins, config.data)
    patience_s = ARRIVAL_S
    while (connection := _connect(step, key, patience_s)) is not None:
        _run_worker(connection, command, env)
        patience_s = _GONE_S
    if patience_s == ARRIVAL_S and not over():
        where = f"{step.address}:{step.port}"
        print(f"rank {step.rank}: nobody answered at {where} within {ARRIVAL_S:.0f} s", file=sys.stderr)
        return 1
    return 0


def _connect(step: Step, key: str, patience_s: float) -> socket.socket | None:
    until = time.monotonic() + patience_s
    while True:
        try:
            return connect(step.address, step.port, step.rank, key)
        except OSError:
            if time.monotonic() > until:
                return None
            time.sleep(_TURN_S)


def _run_worker(connection: socket.socket, command: Sequence[str], env: dict[str, str]) -> None:
    """Run a worker process on this connection until it ends or the connection is lost."""
    lost = select.poll()
    lost.register(connection, select.POLLRDHUP | select.POLLHUP | select.POLLERR)
    until: float | None = None
    with connection:
        pipe = connection.fileno()
        with held():  # signals wait until the worker has its handlers
            process = subprocess.Popen(command, stdin=pipe, stdout=pipe, env=env)
        while process.poll() is None:
            if until is None and lost.poll(1000 * _TURN_S):
                until = time.monotonic() + PATIENCE_S
            elif until is not None:
                time.sleep(_TURN_S)
                if time.monotonic() > until:  # it waits for a rank that is gone
                    process.kill()
    time.sleep(_TURN_S)
