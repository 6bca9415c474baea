"""Which processes belong to a testbed, read from /proc: no stale pid file can lead astray."""

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
"""Seconds that a process may take to be gone once killed."""

LISTEN = "0A"
"""State of a listening socket in /proc/net/tcp."""


@dataclass(frozen=True)
class Process:
    """One daemon's process: `log` is the stem of the log that it holds open, `n1`'s slurmd has slurmd-n1."""

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
    """Whether the process runs; a zombie does not, it only waits for its parent to look."""
    stat = _stat(pid)
    return stat is not None and stat[1] not in "ZX"


def daemons(folder: Path) -> list[Process]:
    """Every daemon of the testbed in `folder`, the shepherds of its jobs (slurmstepd) included."""
    found = []
    for pid in _pids():
        stat = _stat(pid)
        if stat is None or stat[0] not in DAEMONS or stat[1] in "ZX":
            continue
        if log := _log(pid, stat[0], folder):
            found.append(Process(pid, stat[0], log))
    return sorted(found, key=lambda process: process.pid)


def _log(pid: int, command: str, folder: Path) -> str:
    """Stem of the log that a daemon of the testbed has or, at its start, will have; empty for others."""
    logs = f"{folder}/log/"
    for target in _open_files(pid):
        if target.startswith(logs):
            return target.removeprefix(logs).split(".")[0]
    if f"SLURM_CONF={folder}/slurm.conf" not in _words(pid, "environ"):
        return ""
    words = _words(pid, "cmdline")
    return f"{command}-{words[words.index('-N') + 1]}" if "-N" in words[:-1] else command


def _words(pid: int, name: str) -> list[str]:
    """The variables (`environ`) or arguments (`cmdline`) that a process was started with."""
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
    """These processes and all that they started, and those started in turn."""
    parents = {pid: stat[2] for pid in _pids() if (stat := _stat(pid)) and stat[1] not in "ZX"}
    found, generation = set(roots), set(roots)
    while generation:
        generation = {pid for pid, parent in parents.items() if parent in generation} - found
        found |= generation
    return found


def jobs(folder: Path, node: str = "") -> set[int]:
    """Every process of the jobs (of a node's): shepherds, what they started, what left them with its mark."""
    shepherds = [each for each in daemons(folder) if each.command == "slurmstepd"]
    found = below({each.pid for each in shepherds if not node or each.log == f"slurmd-{node}"})
    marks = {f"SLURM_CONF={folder}/slurm.conf"} | ({f"SLURMD_NODENAME={node}"} if node else set())
    for pid in _pids():
        variables = set(_words(pid, "environ"))
        if marks <= variables and any(each.startswith("SLURM_JOB_ID=") for each in variables):
            found.add(pid)
    return {pid for pid in found if alive(pid)} - {os.getpid()}


def kill_jobs(folder: Path, node: str = "") -> None:
    """Kill them all, those too that are started meanwhile; shepherds first, lest they report a failure."""
    while found := jobs(folder, node):
        shepherds = found & {each.pid for each in daemons(folder)}
        for together in (shepherds, found - shepherds):
            signal_all(together, signal.SIGKILL)
            wait_gone(together, KILL_S)


def signal_all(pids: Iterable[int], number: signal.Signals) -> None:
    """Send a signal to each; those that are gone do not matter."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def wait_gone(pids: Iterable[int], timeout_s: float) -> set[int]:
    """Wait until none runs any more; return those that still do after the time."""
    left = set(pids)
    end = time.monotonic() + timeout_s
    while left := {pid for pid in left if alive(pid)}:
        if time.monotonic() > end:
            break
        time.sleep(0.02)
    return left


def end(pids: Iterable[int], patience_s: float) -> None:
    """Ask them to end, and kill those that have not after `patience_s`."""
    wanted = set(pids)
    signal_all(wanted, signal.SIGTERM)
    left = wait_gone(wanted, patience_s)
    signal_all(left, signal.SIGKILL)
    wait_gone(left, patience_s)


def listening() -> set[int]:
    """Every TCP port that some process of this machine listens on."""
    ports = set()
    for table in ("tcp", "tcp6"):
        with contextlib.suppress(OSError):
            for line in (PROC / "net" / table).read_text().splitlines()[1:]:
                columns = line.split()
                if columns[3] == LISTEN:
                    ports.add(int(columns[1].rpartition(":")[2], 16))
    return ports
