"""Show where the runs of the store are; --watch follows those in work.

A run in work tells of itself once an epoch. What is left is reckoned from the pace of its last epochs, and
for runs that wait from runs like them. Of runs that were handed to a cluster, its queue is asked once, by
--watch every ten seconds or so. Ctrl-C ends --watch and leaves the runs alone.
"""

from __future__ import annotations

import argparse
import shlex
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from suite.cli import options
from suite.cli.arguments import Arguments, command
from suite.errors import SteppeError
from suite.report.text import plural
from suite.status.queue_poller import QueuePoller, glance
from suite.status.snapshot import FINAL, WORDS, RunStatus, Snapshot
from suite.status.watch import Watch
from suite.terminal.screen import Screen
from suite.terminal.table import (
    duration,
    epoch,
    fit,
    header,
    label,
    progress,
    run_line,
    text_of,
)

GRACE_S = 60.0
"""How long --watch waits for a queued run when nothing is in work: loading torch may take half."""

_NAMED = 5
"""How many runs that need somebody are named each."""

_AT_WORK = 40
"""How many runs in work are listed."""

_BAD = ("failed", "error", "lost")
"""What sets the exit code."""

_STARTED_HERE = {
    "interrupted": "interrupted runs go on with the `steppe run` that started them",
    "error": "the `steppe run` that started them tries runs in error again",
}

_WAITING = ("queued", "preempted", "interrupted")
"""What --watch waits for where nothing is in work."""

_TOLD = ("done", "failed", "error", "interrupted", "preempted", "lost", "cancelled")
"""What --watch tells of when it comes."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    options.add_store(parser)
    parser.add_argument("--runs", action="store_true", help="a line a run instead of counts")
    parser.add_argument(
        "--watch", action="store_true", help="follow the runs in work until there are none; Ctrl-C leaves"
    )
    parser.add_argument(
        "--interval",
        type=options.positive,
        default=2.0,
        metavar="S",
        help="seconds between two looks of --watch (default: 2)",
    )
    options.add_json(parser)


def execute(args: Arguments) -> int:
    """Print where the runs are; 1 if some run failed, is lost, or could not be read, else 0."""
    if args.watch and (args.json or args.runs):
        raise SteppeError(
            "--watch is for people and takes neither --json nor --runs; a program asks "
            f"`{args.command('status', '--json')}`"
        )
    store = args.store
    if args.watch:
        return _code(
            follow(
                Watch(store, QueuePoller(store.root)), Screen(sys.stdout), args.interval, args.store_folder
            )
        )
    sight = Watch(store, QueuePoller(store.root, ask=glance)).look()
    if args.json:
        options.print_json({"runs": [_plain(run) for run in sight.runs], **_totals(sight)})
    elif not sight.runs:
        options.put(f"no runs in {store.root}: `steppe run` or `steppe demo` makes some")
    elif args.runs:
        options.put(_listing(sight))
    else:
        options.put(_overview(sight, args.store_folder))
    for line in _warnings(sight):
        options.put(line, sys.stderr)
    return _code(sight)


def _code(sight: Snapshot) -> int:
    return 1 if sight.damaged or any(run.status in _BAD for run in sight.runs) else 0


def _warnings(sight: Snapshot) -> list[str]:
    lines = [*sight.damaged, *([f"the queue is not known now: {sight.silent}"] if sight.silent else [])]
    return [f"steppe: {line}" for line in lines]


def _plain(run: RunStatus) -> dict[str, Any]:
    row, placed = run.row, run.placed
    return {
        "run_id": run.run_id,
        "status": run.status,
        "task": run.spec.task.name,
        "optimizer": run.spec.optimizer.name,
        "seed": run.spec.seed,
        "data": run.spec.data,
        "precision": run.spec.precision,
        "epoch": row.epoch,
        "epochs": run.spec.epochs,
        "step": run.step,
        "steps": run.steps,
        "loss": row.loss,
        "score": row.score,
        "metric": row.metric,
        "unit": row.unit,
        "sample_gradients": row.sample_gradients,
        "seconds_left": row.left_s,
        "failure": run.failure,
        "reason": run.reason,
        "log": run.log,
        "attempts": run.attempts,
        "submission": placed.submission if placed else "",
        "job": placed.job if placed else "",
        "node": placed.node if placed else "",
    }


def _totals(sight: Snapshot) -> dict[str, Any]:
    return {"damaged": sight.damaged, "seconds_left": sight.left_s, "scheduler_silent": sight.silent}


# -- once --------------------------------------------------------------------------------------------


def _overview(sight: Snapshot, given: Path | None) -> str:
    """Write counts by task and optimizer, the runs in work, and whatever needs somebody.

    `given` is the --store, here and below, which the commands that are named take along.
    """
    groups: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    for run in sight.runs:
        groups[run.row.task, run.row.optimizer][run.status] += 1
    rows = [["task", "optimizer", "runs", "", "state"]]
    for (task, optimizer), counts in sorted(groups.items()):
        done = sum(counts[status] for status in FINAL) / counts.total()
        names = [options.shorten(task), options.shorten(optimizer)]
        rows.append([*names, str(counts.total()), _bar(done), _words(counts)])
    parts = [options.table(rows)]
    if running := sight.having("running"):
        parts.append("\n".join(_at_work(running, given)))
    parts.append("\n".join([*_summary(sight), *_needing_help(sight, given)]))
    return "\n\n".join(parts)


def _at_work(running: list[RunStatus], given: Path | None) -> list[str]:
    """List the runs in work; where one is in a scheduler's job, with the node and the job of each."""
    shown = running[:_AT_WORK]
    places = [_place(run) for run in shown]
    margin = max(map(len, places)) and max(map(len, places)) + 2
    width = max(1, options.columns() - 1 - margin)
    lines = [text_of(header(width))]
    for run, place in zip(shown, places, strict=True):
        line = text_of(run_line(run.row, width, options.encoding()))
        lines.append(f"{fit(line, width)}  {place}".rstrip() if margin else line)
    if len(running) > len(shown):
        lines.append(_more(len(running) - len(shown), given))
    return lines


def _more(n: int, given: Path | None) -> str:
    return f"and {n} more, see `{command(given, 'status', '--runs')}`"


def _place(run: RunStatus) -> str:
    if run.placed is None or run.placed.state != "running":
        return ""
    return f"{run.placed.node} ({run.placed.job})"


def _bar(share: float, width: int = 10) -> str:
    full, empty = ("━", "·") if options.takes("━·") else ("#", ".")
    n = int(share * width)
    return full * n + empty * (width - n)


def _words(counts: Counter[str]) -> str:
    return ", ".join(f"{counts[status]} {status}" for status in WORDS if counts[status])


def _summary(sight: Snapshot) -> list[str]:
    """Count the runs by state, and say when all of them are done."""
    counts = Counter(run.status for run in sight.runs)
    n = len(sight.runs)
    lines = [f"{n} {plural(n, 'run')}: {_words(counts)}", *_queue(sight)]
    if sight.left_s is not None:
        at_a_time = f", {sight.side_by_side} at a time" if counts["running"] < n - counts["done"] else ""
        until = options.moment(sight.left_s)
        lines.append(f"about {duration(sight.left_s)} left{at_a_time}: until about {until}")
    elif counts["running"]:
        lines.append("time left unknown before an epoch of each kind is timed")
    return lines


def _queue(sight: Snapshot) -> list[str]:
    """Count the scheduler's jobs, and say what those that wait are waiting for."""
    jobs = Counter(job.state for job in sight.in_queue)
    if not jobs:
        return []
    reasons = Counter(job.reason for job in sight.in_queue if job.state == "pending" and job.reason)
    why = ", ".join(f"{reason} {n}" if len(reasons) > 1 else reason for reason, n in reasons.most_common(3))
    words = [f"{jobs[state]} {state}" for state in ("running", "pending") if jobs[state]]
    return [f"in the queue: {', '.join(words)}" + (f" ({why})" if why else "")]


def _needing_help(sight: Snapshot, given: Path | None) -> list[str]:
    """Name what stopped or failed, where it says more, and the command that helps."""
    lines = []
    held = [run for run in sight.runs if run.placed and run.placed.hint and run.status not in FINAL]
    kinds = [(word, sight.having(word)) for word in ("failed", "error", "lost", "interrupted")]
    for word, some in (*kinds, ("held", held)):
        lines += [f"{word}: {label(run.row)}{_where(run)}, {_further(run, given)}" for run in some[:_NAMED]]
        if len(some) > _NAMED:
            lines.append(f"{word}: {_more(len(some) - _NAMED, given)}")
    return [*lines, *_hints(sight, given)]


def _where(run: RunStatus) -> str:
    facts = [run.failure or run.reason]
    if not run.failure and run.row.epoch is not None:
        facts.append(f"epoch {epoch(run.row)}")
    known = ", ".join(filter(None, facts))
    return f" ({known})" if known else ""


def _further(run: RunStatus, given: Path | None) -> str:
    """Say where more is told, or what helps this very run."""
    if run.placed and run.placed.hint:
        program, *words = shlex.split(run.placed.hint)  # its dispatcher does not know how the store is named
        return f"`{command(given, *words) if program == 'steppe' else run.placed.hint}`"
    if run.log and run.status != "failed" and Path(run.log).exists():
        return f"log {run.log}"
    return f"`{command(given, 'show', run.run_id)}`"


def _hints(sight: Snapshot, given: Path | None) -> list[str]:
    """Say which command makes runs go on that stopped."""
    lines = []
    for word, choice in (("error", ["--failed"]), ("lost", ["--lost"]), ("interrupted", [])):
        some = sight.having(word)
        n_handed = sum(run.placed is not None for run in some)
        if n_handed:
            retry = command(given, "retry", *choice)
            lines.append(f"{word}: `{retry}` hands them to the cluster again")
        if n_handed < len(some) and not sight.silent:  # else they may be the cluster's to go on with
            lines.append(_STARTED_HERE[word])
    if sight.having("cancelled"):
        lines.append(f"cancelled runs go on with `{command(given, 'retry', '--cancelled')}`")
    if any(run.placed and run.placed.hint for run in sight.runs):
        cancel, retry = (command(given, word, "RUN") for word in ("cancel", "retry"))
        lines.append(f"what is held for ever: `{cancel}`, then `{retry}`")
    return lines


def _listing(sight: Snapshot) -> str:
    handed = any(run.placed for run in sight.runs)
    rows = [
        ["run", "state", "task", "optimizer", "seed", "epoch", "left", *(["job", "log"] if handed else [])]
    ]
    for run in sight.runs:
        row = run.row
        left = duration(row.left_s) if row.left_s is not None else ""
        reached = epoch(row) if row.epoch is not None else ""
        names = [options.shorten(row.task), options.shorten(row.optimizer)]
        place = [run.placed.job if run.placed else "", run.log] if handed else []
        rows.append([run.run_id, _state(run), *names, str(row.seed), reached, left, *place])
    return options.table(rows)


def _state(run: RunStatus) -> str:
    return f"preempted x{run.attempts}" if run.status == "preempted" else run.row.state


# -- again and again ---------------------------------------------------------------------------------


def follow(
    watch: Watch,
    screen: Screen,
    interval: float,
    given: Path | None = None,
    grace_s: float = GRACE_S,
    clock: Callable[[], float] = time.monotonic,
) -> Snapshot:
    """Show the runs in work until none is, or until Ctrl-C; return what was seen last.

    `given` is the --store.
    """
    sight = watch.look()
    told: dict[str, RunStatus] = {run.run_id: run for run in sight.runs}
    last_busy, silent = clock(), sight.silent
    with screen:
        if not screen.live:
            for line in [*_summary(sight), *([silent] if silent else [])]:
                screen.say(line)
        try:
            while True:
                running = sight.having("running")
                last_busy = clock() if running or _may_begin(sight) else last_busy
                waiting = any(run.status in _WAITING for run in sight.runs)
                if not running and (not waiting or clock() - last_busy >= grace_s):
                    break
                screen.show([run.row for run in running], [*_summary(sight), *_idle(sight)])
                time.sleep(interval)
                sight = watch.look()
                changes = _changes(told, sight.runs, epochs=not screen.live)
                if not screen.live and sight.silent != silent:
                    changes.append(sight.silent or "the scheduler answers again")
                silent = sight.silent
                for line in changes:
                    screen.say(line)
        except KeyboardInterrupt:
            pass
        screen.show([], [])
        last = _summary(sight) if sight.runs else ["no runs here"]
        for line in [*last, *_needing_help(sight, given), *_warnings(sight)]:
            screen.say(line)
    return sight


def _may_begin(sight: Snapshot) -> bool:
    """Whether the scheduler has something to begin, for all that is known."""
    return bool(sight.in_queue or sight.silent)


def _idle(sight: Snapshot) -> list[str]:
    """Say why there may be nothing to see."""
    lines = [sight.silent] if sight.silent else []
    if sight.having("running"):
        return lines
    if _may_begin(sight):
        return [*lines, "nothing is running yet; waiting for the queue"]
    return [*lines, "nothing is running; waiting a little for a run to start"]


def _changes(told: dict[str, RunStatus], runs: Iterable[RunStatus], *, epochs: bool) -> list[str]:
    """Say what became of each run since it was last told of; `epochs`: also how far the others are."""
    lines = []
    for run in runs:
        before = told.get(run.run_id)
        if before is not None and before.row.state == run.row.state and before.row.epoch == run.row.epoch:
            continue
        told[run.run_id] = run
        moved = before is None or before.status != run.status
        if run.status in _TOLD and moved:
            lines.append(f"{label(run.row)}  {_state(run)}{_where(run)}")
        elif epochs and run.status == "running":
            state = progress(run.row) if run.row.epoch is not None else run.row.state
            left = f"  {duration(run.row.left_s)} left" if run.row.left_s is not None else ""
            lines.append(f"{label(run.row)}  {state}{left}")
    return lines
