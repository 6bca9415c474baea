"""The far end of a worker: a process of this machine, or a connection to one of another.

Either takes lines of JSON and gives events, see `suite.workers.serve`.
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
"""Whoever kills a whole job may strike a worker first: only one who outlives it by so much can say why."""

HUGE_PAGES = {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}
"""Tensors in huge pages: without, 12 % of a ResNet's step on a CPU are page faults. The bits are the same."""


def visible_gpus() -> list[str]:
    """Return the GPUs as CUDA_VISIBLE_DEVICES names them: those it lists, else all that the driver lists."""
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
    """Return the environment of a worker; what the caller has set wins, but for the GPU and the code."""
    out = {**HUGE_PAGES, **network, **os.environ}
    out["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    if gpu is not None:
        out["CUDA_VISIBLE_DEVICES"] = gpu
    return out


def worker_command(plugins: Sequence[Path | str], data_root: Path | str | None) -> list[str]:
    """Return the command of a worker process, but for what concerns rank 0 alone."""
    command = [sys.executable, "-P", "-m", "suite.workers.serve"]
    command += [f"--plugin={plugin}" for plugin in plugins]
    return command + ([] if data_root is None else [f"--data={data_root}"])


class Worker:
    """What a pool knows of a worker: the run that it has in hand, and how to talk with it."""

    def __init__(self, channel: IO[bytes] | socket.socket) -> None:
        self.run_id: str | None = None
        self.channel = channel
        """What is to be watched for events."""
        self._events = Messages(channel)

    def give(self, run_id: str, message: Mapping[str, Any]) -> None:
        """Hand over a run; a worker that died meanwhile is noticed by the end of its events."""
        self.run_id = run_id
        with contextlib.suppress(OSError, ValueError):  # ValueError: it was told that nothing more comes
            self._write(json.dumps(message).encode() + b"\n")

    def read(self) -> list[Event] | None:
        """Return the events that have arrived, None at the end of the process."""
        return self._events.read()

    @abstractmethod
    def _write(self, line: bytes) -> None: ...

    @abstractmethod
    def release(self) -> None:
        """Tell the worker that nothing more comes."""

    @abstractmethod
    def signal(self, number: int) -> None:
        """Send it a signal, where it can be reached by one."""

    @abstractmethod
    def cause_of_death(self) -> str:
        """Describe its end in one line."""

    @abstractmethod
    def close(self) -> None:
        """End it, by force if it does not end by itself, and free what belongs to it."""


class Process(Worker):
    """A worker process of this machine, started by exec, never by fork."""

    def __init__(self, command: Sequence[str], env: Mapping[str, str]) -> None:
        # What is said outside a run, for instance by an import that fails.
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the worker
        with held():  # until it handles them
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
        """See `Worker`; waits for it."""
        code = self.process.wait()
        self._errors.seek(0)
        said = self._errors.read().decode(errors="replace").strip().splitlines()
        if code < 0:
            if code == -signal.SIGKILL:
                time.sleep(_SAME_KILL_S)
            hint = "; out of memory?" if code == -signal.SIGKILL else ""
            return f"its worker process was killed by {signal.Signals(-code).name}{hint}"
        return f"its worker process ended with exit code {code}" + (f": {said[-1]}" if said else "")

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
    """A worker process of another machine (`slurm.worker_rank`); it ends when its connection is cut."""

    def __init__(self, line: socket.socket) -> None:
        super().__init__(line)
        self._line = line

    def _write(self, line: bytes) -> None:
        self._line.sendall(line)

    def release(self) -> None:
        """See `Worker`."""
        with contextlib.suppress(OSError):
            self._line.shutdown(socket.SHUT_WR)

    def signal(self, number: int) -> None:
        """No signal reaches it, as it does what rank 0 of its run says; to kill it is to cut the line."""
        if number == signal.SIGKILL:
            with contextlib.suppress(OSError):
                self._line.shutdown(socket.SHUT_RDWR)

    def cause_of_death(self) -> str:
        """See `Worker`; waits a moment."""
        time.sleep(_SAME_KILL_S)
        return "its worker process ended, or cannot be reached"

    def close(self) -> None:
        """See `Worker`."""
        self._line.close()
