"""Hand runs to the cluster again that it did not bring to a record.

Without a choice these are all that were submitted and are neither done nor at work nor in the queue: lost,
interrupted, or ended by an error. What was cancelled has to be asked for. Each run is submitted as it was the
last time, or with another profile, which may ask for more memory or time; it resumes from its checkpoint.
Runs that diverged have their records, which say so, and are not repeated.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterable

import msgspec
from msgspec import structs

from slurm import dispatch
from slurm.dispatch import Request
from slurm.profiles import load
from slurm.submission import Submission, SubmissionConfig, submissions
from suite.cli import options
from suite.cli.arguments import Arguments
from suite.errors import SteppeError
from suite.status.queue_poller import QueuePoller
from suite.status.snapshot import RunStatus, Snapshot
from suite.status.watch import Watch
from suite.store.folders import Store

CHOICES = {"failed": "error", "lost": "lost", "cancelled": "cancelled"}
"""The state of a run that each option names."""

_DEFAULT = ("error", "lost", "interrupted")


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument(
        "run", nargs="*", metavar="RUN", help="only these: ids, or enough of their beginnings"
    )
    parser.add_argument("--failed", action="store_true", help="only runs that ended by an error")
    parser.add_argument("--lost", action="store_true", help="only runs that the cluster lost")
    parser.add_argument("--cancelled", action="store_true", help="only runs that were cancelled")
    parser.add_argument(
        "--profile", metavar="P", help="a cluster profile, name or file (default: that of the last time)"
    )
    parser.add_argument("--dry-run", action="store_true", help="print the scripts and submit nothing")
    options.add_store(parser)


def execute(args: Arguments) -> int:
    """Submit the runs; 0 also where there is nothing to retry."""
    wanted = {word for option, word in CHOICES.items() if getattr(args, option)}
    if args.run and wanted:
        raise SteppeError(
            "give either runs or --failed, --lost, --cancelled: runs are taken whatever they are"
        )
    store = Store(args.store.root.absolute())  # logs are named by whole paths
    if not submissions(store.root):
        raise SteppeError(
            f"nothing of the store {store.root} was ever handed to a cluster: `steppe submit` does that, and "
            f"what was started here goes on with its `steppe run`"
        )
    sight = Watch(store, QueuePoller(store.root)).look()
    if sight.silent:
        raise SteppeError(sight.silent)
    for line in sight.damaged:
        options.put(f"left out: {line}")
    chosen = _named(store, sight, args) if args.run else _in_state(sight, wanted or set(_DEFAULT))
    requests = _requests(chosen, {one.name: one for one in submissions(store.root)}, args)
    if not requests:
        options.put("nothing to retry")
        return 0
    _submit(store, requests, dry_run=args.dry_run)
    if not args.dry_run:
        options.put(f"`{args.command('status', '--watch')}` follows them")
    return 0


def _in_state(sight: Snapshot, wanted: set[str]) -> list[RunStatus]:
    """Choose by state, and say what is left alone although one might expect otherwise."""
    n_failed, n_cancelled = len(sight.having("failed")), len(sight.having("cancelled"))
    some = [run for run in sight.runs if run.status in wanted]
    n_queued = sum(run.placed is not None and run.placed.state != "left" for run in some)
    n_elsewhere = sum(run.placed is None for run in some)
    for n, why in (
        (n_failed * ("error" in wanted), "failed: that is in the records, and they are not repeated"),
        (n_queued, "in the queue still: their task ends first"),
        (n_elsewhere, "never handed to a cluster: `steppe submit`, or the `steppe run` that started them"),
        (n_cancelled * ("cancelled" not in wanted), "cancelled: --cancelled retries them"),
    ):
        if n:
            options.put(f"{n} {why}")
    return [run for run in some if run.placed and run.placed.state == "left"]


def _named(store: Store, sight: Snapshot, args: Arguments) -> list[RunStatus]:
    """Choose by name, and say why not where a run cannot be retried."""
    seen = {run.run_id: run for run in sight.runs}
    chosen = []
    for run_id in dict.fromkeys(store.find(name).run_id for name in args.run):
        run = seen.get(run_id)
        if run is None:
            show = args.command("show", run_id)
            raise SteppeError(f"run {run_id} cannot be read: `{show}` says why")
        if run.status in ("done", "failed"):
            options.put(f"{run_id} is {run.status}: it has its record and is not repeated")
        elif run.placed is None:
            raise SteppeError(
                f"run {run_id} was never handed to a cluster: use `steppe submit` or `steppe run`"
            )
        elif run.status == "running" or run.placed.state != "left":
            where = f" ({run.placed.job})" if run.placed.job else ""
            cancel = args.command("cancel", run_id)
            options.put(f"{run_id} is {run.status} and stays where it is{where}; `{cancel}` takes it back")
        else:
            chosen.append(run)
    return chosen


def _requests(chosen: Iterable[RunStatus], known: dict[str, Submission], args: Arguments) -> list[Request]:
    """Put together what is submitted alike: as the last time, but for a profile given now.

    `known` is listed after the look that chose them: what is not there was taken back in between.
    """
    changes = {"command": _command(args), **({"profile": load(args.profile)} if args.profile else {})}
    members: dict[bytes, tuple[SubmissionConfig, list[str]]] = {}
    for run in chosen:
        assert run.placed is not None
        submission = known.get(run.placed.submission)
        if submission is None:
            options.put(f"left out: {run.run_id}, as submission {run.placed.submission} was just taken back")
            continue
        config = structs.replace(submission.config, **changes)
        members.setdefault(msgspec.json.encode(config), (config, []))[1].append(run.run_id)
    return [Request(run_ids, config) for config, run_ids in members.values()]


def _command(args: Arguments) -> str:
    words = ["retry", *args.run, *(f"--{option}" for option in CHOICES if getattr(args, option))]
    words += ["--profile", args.profile] if args.profile else []
    return args.command(*words)


def _submit(store: Store, requests: list[Request], *, dry_run: bool) -> None:
    """Hand the requests over, once it is known that the cluster can take each."""
    clusters = [dispatch.survey(request.config.profile) for request in requests]
    left_out: Counter[str] = Counter()
    for request, cluster in zip(requests, clusters, strict=True):
        if dry_run:
            for text in dispatch.scripts(dispatch.plan(store, request, cluster), store.root):
                options.put(text)
            continue
        plan, submission = dispatch.submit(store, request, cluster, options.put)
        left_out.update(plan.left_out)
        if submission is not None:
            options.put(f"submitted {plan.size} with profile {plan.config.profile.name}: {submission.name}")
    for why, n in left_out.items():
        options.put(f"{n} left out: {why} by now")
