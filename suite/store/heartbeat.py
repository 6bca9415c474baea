"""Heartbeat of an attempt: its owner, and whether the owner is alive.

The owner touches its heartbeat file every few seconds. Ages are differences between two times of the store's
file system, so the clocks of two machines need not agree. On the owner's machine a dead process is detected
at once.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
import time
import uuid
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

BEAT_S = 5.0
STALE_S = 60.0
"""Age in s at which a heartbeat counts as stopped: many beats, as networks and swapping delay them."""


@dataclass(frozen=True)
class Owner:
    """Owner of an attempt: a process on a machine, and the scheduler's job and restart count if any."""

    host: str
    machine: str
    """Identity of the running kernel and process namespace; empty if unknown."""
    pid: int
    started: str
    token: str
    job: str = ""
    restart_count: int = 0

    @classmethod
    def current(cls, job: str = "", restart_count: int = 0) -> Owner:
        """Describe this process, with a unique token."""
        pid = os.getpid()
        return cls(
            socket.gethostname(),
            _machine(),
            pid,
            _process_start(pid) or "",
            uuid.uuid4().hex,
            job,
            restart_count,
        )

    def is_dead(self) -> bool:
        """Return whether the process is known to have ended: it ran on this machine and is gone."""
        if not self.machine or self.machine != _machine():
            return False
        started = _process_start(self.pid)
        return started is None or (started != "" and started != self.started)

    def encode(self) -> bytes:
        """Return the content of the heartbeat file."""
        return json.dumps(asdict(self)).encode()


@dataclass(frozen=True)
class Lease:
    """A heartbeat file: its owner (None if unreadable) and its age in seconds."""

    owner: Owner | None
    age_s: float

    @property
    def alive(self) -> bool:
        """Whether the owner counts as alive."""
        return self.age_s < STALE_S and not (self.owner is not None and self.owner.is_dead())


def read_lease(path: Path) -> Lease | None:
    """Read a heartbeat file; None if it does not exist, because the attempt was closed."""
    try:
        with path.open("rb") as file:  # opening makes a network file system refresh the times
            touched = os.fstat(file.fileno()).st_mtime
            raw = file.read()
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        owner = Owner(**json.loads(raw))
    except (ValueError, TypeError):
        owner = None
    return Lease(owner, _file_system_time(path.parent.parent) - touched)


def _file_system_time(folder: Path) -> float:
    """Return the file system's current time in seconds; the local time if it is read-only."""
    probe = folder / f".clock-{uuid.uuid4().hex[:12]}"
    try:
        descriptor = os.open(probe, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    except OSError:
        return time.time()
    try:
        os.utime(probe)
        return os.fstat(descriptor).st_mtime
    finally:
        os.close(descriptor)
        with contextlib.suppress(OSError):
            probe.unlink()


@cache
def _machine() -> str:
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return (
            f"{boot} {os.readlink('/proc/self/ns/pid')}"  # containers share the boot id but not process ids
        )
    except OSError:
        return ""


def _process_start(pid: int) -> str | None:
    """Return the start time of a process in clock ticks since boot; None if it ended or is a zombie.

    Empty if the process is alive but /proc hides it, as it may for other users' processes.
    """
    try:
        fields = (
            Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        )
    except OSError:
        return "" if _exists(pid) else None
    return None if fields[0] in "ZX" else fields[19]


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):  # OverflowError: not a valid process id
        return False
    except PermissionError:  # it belongs to another user
        pass
    return True


class Heartbeat:
    """Touches a file every `BEAT_S` seconds from a background thread until stopped."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="steppe-heartbeat", daemon=True)
        self._thread.start()

    def _beat(self) -> None:
        while not self._stop.wait(BEAT_S):
            try:
                os.utime(self._path)  # without times, a network file system uses its server's clock
            except FileNotFoundError:
                return
            except OSError:
                continue  # a transient network error; the next beat may succeed

    def stop(self) -> None:
        """End the thread and delete the file, which releases the run for the next attempt."""
        self._stop.set()
        self._thread.join()
        with contextlib.suppress(OSError):
            self._path.unlink(missing_ok=True)
