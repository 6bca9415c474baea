"""Signs of life of an attempt: who owns it, and whether that owner still works.

The owner touches its heartbeat file every few seconds. Ages are differences between times given by the file
system that holds the store, so that the clocks of two machines need not agree. On the owner's own machine
a dead process is seen at once.
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
"""Age at which a heartbeat counts as stopped: many beats, as networks and swapping delay them."""


@dataclass(frozen=True)
class Owner:
    """Who started an attempt: a process on a machine, and the scheduler's job and restart count if any."""

    host: str
    machine: str
    """Identity of the running kernel and process namespace; empty where the system does not tell."""
    pid: int
    started: str
    token: str
    job: str = ""
    restart_count: int = 0

    @classmethod
    def current(cls, job: str = "", restart_count: int = 0) -> Owner:
        """Describe this process, with a token that no other attempt has."""
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
        """Whether the process is known to have ended: it ran on this very machine and is no more."""
        if not self.machine or self.machine != _machine():
            return False
        started = _process_start(self.pid)
        return started is None or (started != "" and started != self.started)

    def encode(self) -> bytes:
        """Return the content of the heartbeat file."""
        return json.dumps(asdict(self)).encode()


@dataclass(frozen=True)
class Lease:
    """What a heartbeat file tells: its owner (None if unreadable) and its age in seconds."""

    owner: Owner | None
    age_s: float

    @property
    def alive(self) -> bool:
        """Whether a newcomer has to leave the run alone."""
        return self.age_s < STALE_S and not (self.owner is not None and self.owner.is_dead())


def read_lease(path: Path) -> Lease | None:
    """Read a heartbeat file; None where there is none, because the attempt was closed."""
    try:
        with path.open("rb") as file:  # opening makes network file systems ask for fresh times
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
    """Return the time by the file system's clock, in seconds; by our own where it is read-only."""
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
            f"{boot} {os.readlink('/proc/self/ns/pid')}"  # containers share the boot but not the process ids
        )
    except OSError:
        return ""


def _process_start(pid: int) -> str | None:
    """Return the start time of a process in clock ticks since the boot; None if it ended (a zombie did).

    Empty where the process lives and nothing more is to be known: /proc may hide those of other users.
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
    except (ProcessLookupError, OverflowError):  # no machine has such a number
        return False
    except PermissionError:  # it is another user's
        pass
    return True


class Heartbeat:
    """Touches a file every `BEAT_S` seconds from a thread of its own until stopped."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="steppe-heartbeat", daemon=True)
        self._thread.start()

    def _beat(self) -> None:
        while not self._stop.wait(BEAT_S):
            try:
                os.utime(self._path)  # without times: a network file system takes its server's clock
            except FileNotFoundError:
                return
            except OSError:
                continue  # a passing fault of the network; the next beat may come through

    def stop(self) -> None:
        """End the thread and remove the file, which frees the run for the next attempt."""
        self._stop.set()
        self._thread.join()
        with contextlib.suppress(OSError):
            self._path.unlink(missing_ok=True)
