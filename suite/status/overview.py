"""A snapshot of a store as text: counts, running runs, and commands that resume stopped runs."""

from __future__ import annotations

import shlex
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path

from suite.status.snapshot import FINAL, WORDS, RunStatus, Snapshot
from suite.terminal import output
from suite.terminal.table import clean, duration, epoch, fit, header, label, plural, run_line, text_of

Command = Callable[..., str]
"""Writes a `steppe` command from its words, with the --store in use."""

_MAX_NAMED = 5
"""Maximum number of runs listed for each problem."""

_MAX_RUNNING = 40
"""Maximum number of running runs listed."""

_RUN_AGAIN = {
    "interrupted": "interrupted runs resume with the `steppe run` that started them",
    "error": "runs in error are tried again by the `steppe run` that started them",
}
"""Hints for runs that were never submitted to a scheduler."""


def overview(snapshot: Snapshot, command: Command) -> str:
    """Write counts by task and optimizer, the running runs, and the problems."""
    groups: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    for run in snapshot.runs:
        groups[run.row.task, run.row.optimizer][run.status] += 1
    rows = [["task", "optimizer", "runs", "", "state"]]
    for (task, optimizer), counts in sorted(groups.items()):
        bar = _bar(sum(counts[status] for status in FINAL) / counts.total())
        names = [output.shorten(task), output.shorten(optimizer)]
        rows.append([*names, str(counts.total()), bar, _words(counts)])
    parts = [output.table(rows)]
    if running := snapshot.having("running"):
        parts.append("\n".join(_running(running, command)))
    parts.append("\n".join([*summary(snapshot), *problems(snapshot, command)]))
    return "\n\n".join(parts)


def _bar(share: float, width: int = 10) -> str:
    full, empty = ("━", "·") if clean("━·", output.encoding()) == "━·" else ("#", ".")
    n = int(share * width)
    return full * n + empty * (width - n)


def _words(counts: Counter[str]) -> str:
    return ", ".join(f"{counts[status]} {status}" for status in WORDS if counts[status])


def _running(running: list[RunStatus], command: Command) -> list[str]:
    """List the running runs; those in a scheduler's job with its node and id."""
    shown = running[:_MAX_RUNNING]
    places = [
        f"{run.placed.node} ({run.placed.job})" if run.placed and run.placed.state == "running" else ""
        for run in shown
    ]
    longest = max(map(len, places))
    width = max(1, output.columns() - 1 - (longest and longest + 2))
    lines = [text_of(header(width))]
    for run, place in zip(shown, places, strict=True):
        line = text_of(run_line(run.row, width, output.encoding()))
        lines.append(f"{fit(line, width)}  {place}".rstrip() if longest else line)
    return lines if len(running) <= len(shown) else [*lines, _more(len(running) - len(shown), command)]


def _more(n: int, command: Command) -> str:
    return f"and {n} more, see `{command('status', '--runs')}`"


def summary(snapshot: Snapshot) -> list[str]:
    """Count the runs by status and the scheduler's jobs by state, and forecast the end."""
    counts = Counter(run.status for run in snapshot.runs)
    n = len(snapshot.runs)
    lines = [f"{n} {plural(n, 'run')}: {_words(counts)}", *_queue(snapshot)]
    if snapshot.left_s is not None:
        at_a_time = f", {snapshot.side_by_side} at a time" if counts["running"] < n - counts["done"] else ""
        until = output.moment(snapshot.left_s)
        lines.append(f"about {duration(snapshot.left_s)} left{at_a_time}: until about {until}")
    elif counts["running"]:
        lines.append("time left unknown until an epoch of each kind of run is timed")
    return lines


def _queue(snapshot: Snapshot) -> list[str]:
    """Count the scheduler's jobs, with the commonest reasons of the pending ones."""
    jobs = Counter(job.state for job in snapshot.in_queue)
    if not jobs:
        return []
    reasons = Counter(job.reason for job in snapshot.in_queue if job.state == "pending" and job.reason)
    why = ", ".join(f"{reason} {n}" if len(reasons) > 1 else reason for reason, n in reasons.most_common(3))
    words = [f"{jobs[state]} {state}" for state in ("running", "pending") if jobs[state]]
    return [f"in the queue: {', '.join(words)}" + (f" ({why})" if why else "")]


def problems(snapshot: Snapshot, command: Command) -> list[str]:
    """List stopped, failed and held runs, each with its log or a command, then the commands for all."""
    lines = []
    held = [run for run in snapshot.runs if run.placed and run.placed.hint and run.status not in FINAL]
    kinds = [(word, snapshot.having(word)) for word in ("failed", "error", "lost", "interrupted")]
    for word, runs in (*kinds, ("held", held)):
        lines += [
            f"{word}: {label(run.row)}{reason_of(run)}, {_help(run, command)}" for run in runs[:_MAX_NAMED]
        ]
        if len(runs) > _MAX_NAMED:
            lines.append(f"{word}: {_more(len(runs) - _MAX_NAMED, command)}")
    return [*lines, *_hints(snapshot, command)]


def reason_of(run: RunStatus) -> str:
    """Write why and at which epoch a run stopped, in parentheses; empty if neither is known."""
    facts = [run.failure or run.reason]
    if not run.failure and run.row.epoch is not None:
        facts.append(f"epoch {epoch(run.row)}")
    known = ", ".join(filter(None, facts))
    return f" ({known})" if known else ""


def _help(run: RunStatus, command: Command) -> str:
    """Return the log of a run, or the command that helps or explains."""
    if run.placed and run.placed.hint:
        program, *words = shlex.split(run.placed.hint)  # the dispatcher's hint lacks the --store
        return f"`{command(*words) if program == 'steppe' else run.placed.hint}`"
    if run.log and run.status != "failed" and Path(run.log).exists():
        return f"log {run.log}"
    return f"`{command('show', run.run_id)}`"


def _hints(snapshot: Snapshot, command: Command) -> list[str]:
    """Return the commands that resume stopped runs."""
    lines = []
    for word, choice in (("error", ["--failed"]), ("lost", ["--lost"]), ("interrupted", [])):
        runs = snapshot.having(word)
        n_submitted = sum(run.placed is not None for run in runs)
        if n_submitted:
            lines.append(f"{word}: `{command('retry', *choice)}` submits them to the cluster again")
        if n_submitted < len(runs) and not snapshot.silent:  # a silent scheduler may still have the rest
            lines.append(_RUN_AGAIN[word])
    if snapshot.having("cancelled"):
        lines.append(f"cancelled runs resume with `{command('retry', '--cancelled')}`")
    if any(run.placed and run.placed.hint for run in snapshot.runs):
        lines.append(f"held jobs never start: `{command('cancel', 'RUN')}`, then `{command('retry', 'RUN')}`")
    return lines


def listing(snapshot: Snapshot) -> str:
    """Write a table with one line per run."""
    submitted = any(run.placed for run in snapshot.runs)
    rows = [["run", "state", "task", "optimizer", "seed", "epoch", "left", *["job", "log"] * submitted]]
    for run in snapshot.runs:
        row = run.row
        left = duration(row.left_s) if row.left_s is not None else ""
        reached = epoch(row) if row.epoch is not None else ""
        names = [output.shorten(row.task), output.shorten(row.optimizer)]
        place = [run.placed.job if run.placed else "", run.log] if submitted else []
        rows.append([run.run_id, state_of(run), *names, str(row.seed), reached, left, *place])
    return output.table(rows)


def state_of(run: RunStatus) -> str:
    """Return the state of a run, with the number of attempts of a preempted one."""
    return f"preempted x{run.attempts}" if run.status == "preempted" else run.row.state


def warnings(snapshot: Snapshot) -> list[str]:
    """Return the lines about damaged runs and a silent scheduler."""
    silent = [f"the state of the queue is unknown: {snapshot.silent}"] if snapshot.silent else []
    return [f"steppe: {line}" for line in (*snapshot.damaged, *silent)]
