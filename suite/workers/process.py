"""Handles to worker processes: a local process, or a connection to a process of another node.

Both take JSON lines and return events, see `suite.workers.serve`.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from suite.code_hash import ROOT
from suite.workers.pipe import Messages
from suite.workers.signals import held

Event = dict[str, Any]
_EXIT_S = 20.0
_SAME_KILL_S = 1.0
"""Seconds before a killed worker is reported: if the whole job is being killed, this process dies, too."""

HUGE_PAGES = {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}
"""Puts tensors in huge pages (page faults take 12 % of a ResNet's step on a CPU otherwise); same bits."""


def visible_gpus() -> list[str]:
    """Return the GPUs that CUDA_VISIBLE_DEVICES lists, or, if it is not set, the indices of all GPUs."""
    listed = os.environ.get("CUDA_VISIBLE_DEVICES")
    if listed is not None:
        return [name.strip() for name in listed.split(",") if name.strip()]
    if shutil.which("nvidia-smi") is None:
        return []
    try:
        answer = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return []
    return [str(i) for i, line in enumerate(x for x in answer.stdout.splitlines() if x.startswith("GPU "))]


def environment(gpu: str | None, network: Mapping[str, str]) -> dict[str, str]:
    """Return a worker's environment: the caller's, with defaults added, and the GPU and the code path set."""
    out = {**HUGE_PAGES, **network, **os.environ}
    out["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    if gpu is not None:
        out["CUDA_VISIBLE_DEVICES"] = gpu
    return out


def worker_command(plugins: Sequence[Path | str], data_root: Path | str | None) -> list[str]:
    """Return the command of a worker process, without the options that only rank 0 needs."""
    command = [sys.executable, "-P", "-m", "suite.workers.serve"]
    command += [f"--plugin={plugin}" for plugin in plugins]
    return command + ([] if data_root is None else [f"--data={data_root}"])


class Worker:
    """Handle to a worker process: the run that it executes, and the channel to it."""

    def __init__(self, channel: IO[bytes] | socket.socket) -> None:
        self.run_id: str | None = None
        self.channel = channel
        """Source of events, for `select`."""
        self._events = Messages(channel)

    def give(self, run_id: str, message: Mapping[str, Any]) -> None:
        """Send the worker a run. A dead worker raises nothing here: its events end."""
        self.run_id = run_id
        with contextlib.suppress(OSError, ValueError):  # ValueError: stdin is closed by `release`
            self._write(json.dumps(message).encode() + b"\n")

    def read(self) -> list[Event] | None:
        """Return the events that have arrived, None once the worker has ended."""
        return self._events.read()

    @abstractmethod
    def _write(self, line: bytes) -> None: ...

    @abstractmethod
    def release(self) -> None:
        """Close the worker's input: it ends after its run."""

    @abstractmethod
    def signal(self, number: int) -> None:
        """Send the worker a signal."""

    @abstractmethod
    def cause_of_death(self) -> str:
        """Return one line on how the worker ended."""

    @abstractmethod
    def close(self) -> None:
        """Wait for the worker to end, kill it after a timeout, and free its resources."""


class Process(Worker):
    """A local worker process, started by exec, never by fork."""

    def __init__(self, command: Sequence[str], env: Mapping[str, str]) -> None:
        # Output outside a run, for instance of a failing import.
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the worker
        with held():  # until the worker has its handlers
            self.process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors, env=env
            )
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        super().__init__(self.process.stdout)
        self._stdin = self.process.stdin

    def _write(self, line: bytes) -> None:
        self._stdin.write(line)
        self._stdin.flush()

    def release(self) -> None:
        """See `Worker`."""
        with contextlib.suppress(BrokenPipeError):
            self._stdin.close()

    def signal(self, number: int) -> None:
        """See `Worker`."""
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(number)

    def cause_of_death(self) -> str:
        """See `Worker`; waits for the end of the process."""
        code = self.process.wait()
        self._errors.seek(0)
        errors = self._errors.read().decode(errors="replace").strip().splitlines()
        if code < 0:
            if code == -signal.SIGKILL:
                time.sleep(_SAME_KILL_S)
            hint = "; out of memory?" if code == -signal.SIGKILL else ""
            return f"its worker process was killed by {signal.Signals(-code).name}{hint}"
        return f"its worker process ended with exit code {code}" + (f": {errors[-1]}" if errors else "")

    def close(self) -> None:
        """See `Worker`."""
        self.release()
        try:
            self.process.wait(_EXIT_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.channel.close()
        self._errors.close()


class RemoteWorker(Worker):
    """A worker process of another node (`slurm.worker_rank`); it ends when its connection is cut."""

    def __init__(self, connection: socket.socket) -> None:
        super().__init__(connection)
        self._connection = connection

    def _write(self, line: bytes) -> None:
        self._connection.sendall(line)

    def release(self) -> None:
        """See `Worker`."""
        with contextlib.suppress(OSError):
            self._connection.shutdown(socket.SHUT_WR)

    def signal(self, number: int) -> None:
        """Cut the connection on SIGKILL; ignore other signals, as the worker stops when rank 0 does."""
        if number == signal.SIGKILL:
            with contextlib.suppress(OSError):
                self._connection.shutdown(socket.SHUT_RDWR)

    def cause_of_death(self) -> str:
        """See `Worker`; waits `_SAME_KILL_S`."""
        time.sleep(_SAME_KILL_S)
        return "its worker process ended, or cannot be reached"

    def close(self) -> None:
        """See `Worker`."""
        self._connection.close()
