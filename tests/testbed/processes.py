"""Finds the processes of a testbed in /proc, which unlike pid files cannot be stale."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
DAEMONS = {"munged", "mariadbd", "slurmdbd", "slurmctld", "slurmscriptd", "slurmd", "slurmstepd"}
KILL_S = 10
"""Seconds for a killed process to end."""

LISTEN = "0A"
"""State of a listening socket in /proc/net/tcp."""


@dataclass(frozen=True)
class Process:
    """A daemon's process; `log` is the stem of its open log, for example slurmd-n1."""

    pid: int
    command: str
    log: str


def _pids() -> Iterator[int]:
    for name in os.listdir(PROC):
        if name.isdigit():
            yield int(name)


def _stat(pid: int) -> tuple[str, str, int] | None:
    """Return name, state and parent of a process; None if it is gone."""
    try:
        text = (PROC / str(pid) / "stat").read_text(errors="replace")
    except OSError:
        return None
    start, end = text.index("("), text.rindex(")")
    state, parent = text[end + 2 :].split()[:2]
    return text[start + 1 : end], state, int(parent)


def alive(pid: int) -> bool:
    """Whether the process runs; a zombie does not."""
    stat = _stat(pid)
    return stat is not None and stat[1] not in "ZX"


def daemons(folder: Path) -> list[Process]:
    """Return every daemon of the testbed in `folder`, including the slurmstepd processes of jobs."""
    found = []
    for pid in _pids():
        stat = _stat(pid)
        if stat is None or stat[0] not in DAEMONS or stat[1] in "ZX":
            continue
        if log := _log(pid, stat[0], folder):
            found.append(Process(pid, stat[0], log))
    return sorted(found, key=lambda process: process.pid)


def _log(pid: int, command: str, folder: Path) -> str:
    """Return the stem of the log of a testbed's daemon, also before it is open; empty for other processes."""
    logs = f"{folder}/log/"
    for target in _open_files(pid):
        if target.startswith(logs):
            return target.removeprefix(logs).split(".")[0]
    if f"SLURM_CONF={folder}/slurm.conf" not in _words(pid, "environ"):
        return ""
    words = _words(pid, "cmdline")
    return f"{command}-{words[words.index('-N') + 1]}" if "-N" in words[:-1] else command


def _words(pid: int, name: str) -> list[str]:
    """Return the initial variables (`environ`) or arguments (`cmdline`) of a process."""
    try:
        return (PROC / str(pid) / name).read_text(errors="replace").split("\0")
    except OSError:
        return []


def _open_files(pid: int) -> Iterator[str]:
    folder = PROC / str(pid) / "fd"
    with contextlib.suppress(OSError):
        for name in os.listdir(folder):
            with contextlib.suppress(OSError):
                yield os.readlink(folder / name)


def below(roots: set[int]) -> set[int]:
    """Return these processes and all their descendants."""
    parents = {pid: stat[2] for pid in _pids() if (stat := _stat(pid)) and stat[1] not in "ZX"}
    found, generation = set(roots), set(roots)
    while generation:
        generation = {pid for pid, parent in parents.items() if parent in generation} - found
        found |= generation
    return found


def jobs(folder: Path, node: str = "") -> set[int]:
    """Return the processes of all jobs (of a node): slurmstepd, descendants, and detached ones."""
    shepherds = [each for each in daemons(folder) if each.command == "slurmstepd"]
    found = below({each.pid for each in shepherds if not node or each.log == f"slurmd-{node}"})
    marks = {f"SLURM_CONF={folder}/slurm.conf"} | ({f"SLURMD_NODENAME={node}"} if node else set())
    for pid in _pids():
        variables = set(_words(pid, "environ"))
        if marks <= variables and any(each.startswith("SLURM_JOB_ID=") for each in variables):
            found.add(pid)
    return {pid for pid in found if alive(pid)} - {os.getpid()}


def kill_jobs(folder: Path, node: str = "") -> None:
    """Kill all processes of jobs, including new ones; slurmstepd first, so that it reports no failure."""
    while found := jobs(folder, node):
        shepherds = found & {each.pid for each in daemons(folder)}
        for together in (shepherds, found - shepherds):
            signal_all(together, signal.SIGKILL)
            wait_gone(together, KILL_S)


def signal_all(pids: Iterable[int], number: signal.Signals) -> None:
    """Send a signal to each process that still exists."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def wait_gone(pids: Iterable[int], timeout_s: float) -> set[int]:
    """Wait until none runs; return those that still run after the timeout."""
    left = set(pids)
    end = time.monotonic() + timeout_s
    while left := {pid for pid in left if alive(pid)}:
        if time.monotonic() > end:
            break
        time.sleep(0.02)
    return left


def end(pids: Iterable[int], patience_s: float) -> None:
    """Send SIGTERM, and SIGKILL to those that still run after `patience_s`."""
    wanted = set(pids)
    signal_all(wanted, signal.SIGTERM)
    left = wait_gone(wanted, patience_s)
    signal_all(left, signal.SIGKILL)
    wait_gone(left, patience_s)


def listening() -> set[int]:
    """Return every TCP port on which a process of this machine listens."""
    ports = set()
    for table in ("tcp", "tcp6"):
        with contextlib.suppress(OSError):
            for line in (PROC / "net" / table).read_text().splitlines()[1:]:
                columns = line.split()
                if columns[3] == LISTEN:
                    ports.add(int(columns[1].rpartition(":")[2], 16))
    return ports
