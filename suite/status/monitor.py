"""The loop behind `steppe status --watch`: follows the runs of a store on a screen until none is running."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from suite.status.overview import Command, problems, reason_of, state_of, summary, warnings
from suite.status.snapshot import RunStatus, Snapshot
from suite.status.watch import Watch
from suite.terminal.screen import Screen
from suite.terminal.table import duration, label, progress

GRACE_S = 60.0
"""Seconds to wait for a queued run while none is running: loading torch may take half of that."""

_WAITING = ("queued", "preempted", "interrupted")
"""Statuses of runs that may still start."""

_REPORTED = ("done", "failed", "error", "interrupted", "preempted", "lost", "cancelled")
"""Statuses that are reported when a run enters them."""


def follow(
    watch: Watch,
    screen: Screen,
    interval: float,
    command: Command,
    grace_s: float = GRACE_S,
    clock: Callable[[], float] = time.monotonic,
) -> Snapshot:
    """Show the running runs until none is running, or until Ctrl-C; return the last snapshot."""
    snapshot = watch.look()
    reported: dict[str, RunStatus] = {run.run_id: run for run in snapshot.runs}
    last_busy, silent = clock(), snapshot.silent
    with screen:
        if not screen.live:
            for line in [*summary(snapshot), *([silent] if silent else [])]:
                screen.say(line)
        try:
            while True:
                running = snapshot.having("running")
                last_busy = clock() if running or _may_start(snapshot) else last_busy
                waiting = any(run.status in _WAITING for run in snapshot.runs)
                if not running and (not waiting or clock() - last_busy >= grace_s):
                    break
                screen.show([run.row for run in running], [*summary(snapshot), *_idle(snapshot)])
                time.sleep(interval)
                snapshot = watch.look()
                changes = _changes(reported, snapshot.runs, epochs=not screen.live)
                if not screen.live and snapshot.silent != silent:
                    changes.append(snapshot.silent or "the scheduler answers again")
                silent = snapshot.silent
                for line in changes:
                    screen.say(line)
        except KeyboardInterrupt:
            pass
        screen.show([], [])
        last = summary(snapshot) if snapshot.runs else ["no runs here"]
        for line in [*last, *problems(snapshot, command), *warnings(snapshot)]:
            screen.say(line)
    return snapshot


def _may_start(snapshot: Snapshot) -> bool:
    """Whether the scheduler may still start a run; assumed while it does not answer."""
    return bool(snapshot.in_queue or snapshot.silent)


def _idle(snapshot: Snapshot) -> list[str]:
    """Return the lines below the table: a silent scheduler, and why no run is shown."""
    lines = [snapshot.silent] if snapshot.silent else []
    if snapshot.having("running"):
        return lines
    if _may_start(snapshot):
        return [*lines, "nothing is running yet; waiting for the queue"]
    return [*lines, "nothing is running; waiting briefly for a run to start"]


def _changes(reported: dict[str, RunStatus], runs: Iterable[RunStatus], *, epochs: bool) -> list[str]:
    """Report each run whose status changed; with `epochs`, also each new epoch of a running one."""
    lines = []
    for run in runs:
        before = reported.get(run.run_id)
        if before is not None and before.row.state == run.row.state and before.row.epoch == run.row.epoch:
            continue
        reported[run.run_id] = run
        if run.status in _REPORTED and (before is None or before.status != run.status):
            lines.append(f"{label(run.row)}  {state_of(run)}{reason_of(run)}")
        elif epochs and run.status == "running":
            state = progress(run.row) if run.row.epoch is not None else run.row.state
            left = f"  {duration(run.row.left_s)} left" if run.row.left_s is not None else ""
            lines.append(f"{label(run.row)}  {state}{left}")
    return lines
