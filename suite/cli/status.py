"""Show where the runs of the store are; --watch follows those in work.

A run in work tells of itself once an epoch. What is left is reckoned from the pace of its last epochs, and
for runs that wait from runs like them. Ctrl-C ends --watch and leaves the runs alone.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from typing import Any

from suite.cli import options
from suite.errors import SteppeError
from suite.local.screen import Screen
from suite.local.table import (
    duration,
    epoch,
    header,
    label,
    progress,
    run_line,
    text_of,
)
from suite.local.watch import Seen, Sight, Watch
from suite.store import STATUSES, Store

GRACE_S = 60.0
"""How long --watch waits for a queued run when nothing is in work: loading torch may take half."""

_NAMED = 5
"""How many runs that need somebody are named each."""


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


def execute(args: argparse.Namespace) -> int:
    """Print where the runs are; 1 if some run failed or could not be read, else 0."""
    if args.watch and (args.json or args.runs):
        raise SteppeError(
            "--watch is for people and takes neither --json nor --runs; a program asks `steppe status --json`"
        )
    store = Store(options.store_root(args))
    watch = Watch(store)
    if args.watch:
        return _code(follow(watch, Screen(sys.stdout), args.interval))
    sight = watch.look()
    if args.json:
        options.print_json({"runs": [_plain(run) for run in sight.runs], **_totals(sight)})
    elif not sight.runs:
        options.put(f"no runs in {store.root}: `steppe run` or `steppe demo` makes some")
    elif args.runs:
        options.put(_listing(sight))
    else:
        options.put(_overview(sight))
    for line in sight.damaged:
        options.put(f"steppe: {line}", sys.stderr)
    return _code(sight)


def _code(sight: Sight) -> int:
    return 1 if sight.damaged or sight.having("failed") else 0


def _plain(run: Seen) -> dict[str, Any]:
    row = run.row
    return {
        "run_id": run.run_id,
        "status": run.status,
        "task": run.spec["task"]["name"],
        "optimizer": run.spec["optimizer"]["name"],
        "seed": run.spec["seed"],
        "data": run.spec["data"],
        "precision": run.spec["precision"],
        "epoch": row.epoch,
        "epochs": run.spec["epochs"],
        "step": run.step,
        "steps": run.steps,
        "loss": row.loss,
        "validation_accuracy": row.accuracy,
        "sample_gradients": row.sample_gradients,
        "seconds_left": row.left_s,
        "failure": run.failure,
    }


def _totals(sight: Sight) -> dict[str, Any]:
    return {"damaged": sight.damaged, "seconds_left": sight.left_s}


# -- once --------------------------------------------------------------------------------------------


def _overview(sight: Sight) -> str:
    """Write counts by task and optimizer, the runs in work, and whatever needs somebody."""
    groups: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    for run in sight.runs:
        groups[run.row.task, run.row.optimizer][run.status] += 1
    rows = [["task", "optimizer", "runs", "", "state"]]
    for (task, optimizer), counts in sorted(groups.items()):
        done = (counts["done"] + counts["failed"]) / counts.total()
        names = [options.shorten(task), options.shorten(optimizer)]
        rows.append([*names, str(counts.total()), _bar(done), _words(counts)])
    parts = [options.table(rows)]
    if running := sight.having("running"):
        width = options.columns() - 1
        lines = [header(width), *(run_line(run.row, width, options.encoding()) for run in running)]
        parts.append("\n".join(map(text_of, lines)))
    parts.append("\n".join([*_summary(sight), *_troubles(sight)]))
    return "\n\n".join(parts)


def _bar(share: float, width: int = 10) -> str:
    full, empty = ("━", "·") if options.takes("━·") else ("#", ".")
    n = int(share * width)
    return full * n + empty * (width - n)


def _words(counts: Counter[str]) -> str:
    return ", ".join(f"{counts[status]} {status}" for status in STATUSES if counts[status])


def _summary(sight: Sight) -> list[str]:
    """Count the runs by state, and say when all of them are done."""
    counts = Counter(run.status for run in sight.runs)
    n = len(sight.runs)
    lines = [f"{n} run{'' if n == 1 else 's'}: {_words(counts)}"]
    if sight.left_s is not None:
        at_a_time = f", {counts['running']} at a time" if counts["running"] < n - counts["done"] else ""
        until = options.moment(sight.left_s)
        lines.append(f"about {duration(sight.left_s)} left{at_a_time}: until about {until}")
    elif counts["running"]:
        lines.append("time left unknown before an epoch of each kind is timed")
    return lines


def _troubles(sight: Sight) -> list[str]:
    """Name what stopped or failed, and the command that tells more."""
    lines = []
    failed, stopped = sight.having("failed"), sight.having("interrupted")
    for word, some in (("failed", failed), ("interrupted", stopped)):
        lines += [
            f"{word}: {label(run.row)}{_where(run)}, `steppe show {run.run_id}`" for run in some[:_NAMED]
        ]
        if len(some) > _NAMED:
            lines.append(f"{word}: and {len(some) - _NAMED} more, see `steppe status --runs`")
    if stopped:
        lines.append("interrupted runs go on with the `steppe run` that started them")
    return lines


def _where(run: Seen) -> str:
    if run.failure:
        return f" ({run.failure})"
    return f" (epoch {epoch(run.row)})" if run.row.epoch is not None else ""


def _listing(sight: Sight) -> str:
    rows = [["run", "state", "task", "optimizer", "seed", "epoch", "left"]]
    for run in sight.runs:
        row = run.row
        left = duration(row.left_s) if row.left_s is not None else ""
        reached = epoch(row) if row.epoch is not None else ""
        names = [options.shorten(row.task), options.shorten(row.optimizer)]
        rows.append([run.run_id, row.state, *names, str(row.seed), reached, left])
    return options.table(rows)


# -- again and again ---------------------------------------------------------------------------------


def follow(
    watch: Watch,
    screen: Screen,
    interval: float,
    grace_s: float = GRACE_S,
    clock: Callable[[], float] = time.monotonic,
) -> Sight:
    """Show the runs in work until none is, or until Ctrl-C; return what was seen last."""
    sight = watch.look()
    told: dict[str, Seen] = {run.run_id: run for run in sight.runs}
    last_busy = clock()
    with screen:
        if not screen.live:
            for line in _summary(sight):
                screen.say(line)
        try:
            while True:
                running = sight.having("running")
                last_busy = clock() if running else last_busy
                waiting = bool(sight.having("queued") or sight.having("interrupted"))
                if not running and (not waiting or clock() - last_busy >= grace_s):
                    break
                idle = [] if running else ["nothing is running; waiting a little for a run to start"]
                screen.show([run.row for run in running], [*_summary(sight), *idle])
                time.sleep(interval)
                sight = watch.look()
                for line in _changes(told, sight.runs, epochs=not screen.live):
                    screen.say(line)
        except KeyboardInterrupt:
            pass
        screen.show([], [])
        last = _summary(sight) if sight.runs else ["no runs here"]
        for line in [*last, *_troubles(sight), *(f"steppe: {line}" for line in sight.damaged)]:
            screen.say(line)
    return sight


def _changes(told: dict[str, Seen], runs: Iterable[Seen], *, epochs: bool) -> list[str]:
    """Say what became of each run since it was last told of; `epochs`: also how far the others are."""
    lines = []
    for run in runs:
        before = told.get(run.run_id)
        if before is not None and before.row.state == run.row.state and before.row.epoch == run.row.epoch:
            continue
        told[run.run_id] = run
        moved = before is None or before.status != run.status
        if run.status in ("done", "failed", "interrupted") and moved:
            lines.append(f"{label(run.row)}  {run.status}{_where(run)}")
        elif epochs and run.status == "running":
            state = progress(run.row) if run.row.epoch is not None else run.row.state
            left = f"  {duration(run.row.left_s)} left" if run.row.left_s is not None else ""
            lines.append(f"{label(run.row)}  {state}{left}")
    return lines
