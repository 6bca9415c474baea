"""Lease on a run: one attempt at a time may work on it, claimed by one rename.

A rename creates the folder attempts/N/ together with its heartbeat. While the newest attempt's owner is
alive, other processes get `RunBusy`; after that, one claims the next number and the older attempt is fenced.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from suite.errors import SteppeError
from suite.files import make_folder, storing
from suite.store.heartbeat import STALE_S, Lease, Owner, read_lease
from suite.store.lines import to_line


class RunDone(SteppeError):  # noqa: N818 - a state of the run, not a mistake
    """The run has a result: nothing is left to do."""


class RunBusy(SteppeError):  # noqa: N818 - a state of the run, not a mistake
    """Another live process works on the run."""


class RunFenced(SteppeError):  # noqa: N818 - a state of the run, not a mistake
    """A newer attempt owns the run: this one must stop and may not save."""


def attempt_numbers(run: Path) -> list[int]:
    """List the attempt numbers of a run folder in ascending order."""
    try:
        return sorted(int(name) for name in os.listdir(run / "attempts") if name.isdecimal())
    except (FileNotFoundError, NotADirectoryError):
        return []


def latest_lease(run: Path) -> Lease | None:
    """Read the lease of the newest attempt; None if no attempt holds the run."""
    numbers = attempt_numbers(run)
    return read_lease(run / "attempts" / str(numbers[-1]) / "heartbeat") if numbers else None


def acquire(run: Path, restart_count: int, job: str) -> int:
    """Claim the next attempt of `run` and return its number; RunBusy while the newest one's owner is alive.

    A scheduler that restarts a job has ended the earlier copy or lost contact with it, so a higher restart
    count of the same job takes over from a live owner.
    """
    attempts = run / "attempts"
    make_folder(attempts)
    owner = Owner.current(job, restart_count)
    while True:
        with storing(attempts):
            numbers = attempt_numbers(run)
            number = numbers[-1] + 1 if numbers else 1
            why = _may_start(run, number - 1, owner)
        event = {"event": "start", "attempt": number, "why": why, "job": job, "restart_count": restart_count}
        if _take(attempts, number, owner, event):
            _sweep(attempts)
            return number


def _may_start(run: Path, latest: int, owner: Owner) -> str:
    """Return why the run may start although attempt `latest` exists; RunBusy if it may not."""
    if latest == 0:
        return "new"
    lease = read_lease(run / "attempts" / str(latest) / "heartbeat")
    if lease is None:
        return "resumed"
    holder = lease.owner
    if not lease.alive:
        return "its process ended" if holder and holder.is_dead() else "its heartbeat stopped"
    if owner.job and holder and holder.job == owner.job and owner.restart_count > holder.restart_count:
        return "restarted by the scheduler"
    who = f"process {holder.pid} on {holder.host}" if holder else "an unknown process"
    raise RunBusy(
        f"run {run.name} is being worked on by {who} (attempt {latest}, last sign of life "
        f"{max(0.0, lease.age_s):.0f} s ago): wait for it, or stop it and start again"
    )


def _take(attempts: Path, number: int, owner: Owner, event: Mapping[str, Any]) -> bool:
    """Create attempts/N with its heartbeat by one rename: no attempt is ever visible without one.

    Return False if another process created it first.
    """
    fresh, target = attempts / f".new-{owner.token}", attempts / str(number)
    with storing(target):
        try:
            fresh.mkdir(exist_ok=True)
            (fresh / "heartbeat").write_bytes(owner.encode())
            (fresh / "events.jsonl").write_bytes(to_line({"time": time.time(), **event}))
            os.rename(fresh, target)  # fails if the target is a folder with content
        except OSError:
            # A network file system may report an error for a rename that succeeded.
            if not fresh.exists() and _token(target) == owner.token:
                return True
            shutil.rmtree(fresh, ignore_errors=True)
            if target.exists():
                return False  # another process was first
            raise
    return True


def _token(attempt: Path) -> str | None:
    lease = read_lease(attempt / "heartbeat")
    return lease.owner.token if lease and lease.owner else None


def _sweep(attempts: Path) -> None:
    """Delete temporary files of killed processes."""
    try:
        left = [*attempts.glob(".new-*"), *attempts.glob(".clock-*")]
    except OSError:  # the next claim tries again
        return
    for path in left:
        try:
            if time.time() - path.stat().st_mtime < 10 * STALE_S:
                continue
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()
        except OSError:  # another process may have deleted it
            continue
