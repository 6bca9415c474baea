"""Resubmit runs that ended on the cluster without a record.

By default these are the lost and interrupted runs and those that ended in an error; cancelled runs need
--cancelled. Each run is submitted with its last configuration, or with another profile, for instance one with
more memory or time, and resumes from its checkpoint. A diverged run has a record and is not repeated.
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
"""Options and the run status that each selects."""

_DEFAULT = ("error", "lost", "interrupted")


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument(
        "run", nargs="*", metavar="RUN", help="only these runs: ids, or unique prefixes of ids"
    )
    parser.add_argument("--failed", action="store_true", help="only runs that ended in an error")
    parser.add_argument("--lost", action="store_true", help="only runs that the cluster lost")
    parser.add_argument("--cancelled", action="store_true", help="only runs that were cancelled")
    parser.add_argument(
        "--profile", metavar="P", help="a cluster profile, name or file (default: the run's last profile)"
    )
    parser.add_argument("--dry-run", action="store_true", help="print the scripts and submit nothing")
    options.add_store(parser)


def execute(args: Arguments) -> int:
    """Resubmit the runs; return 0 even if there is nothing to retry."""
    wanted = {word for option, word in CHOICES.items() if getattr(args, option)}
    if args.run and wanted:
        raise SteppeError(
            "give either runs or --failed, --lost, --cancelled: named runs are retried in any state"
        )
    store = Store(args.store.root.absolute())  # paths of logs are absolute
    if not submissions(store.root):
        raise SteppeError(
            f"no run of the store {store.root} was ever handed to a cluster: submit runs by `steppe submit`, "
            f"or resume those of this machine by their `steppe run`"
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
    """Choose by status, and print why runs that the user might expect are left out."""
    n_failed, n_cancelled = len(sight.having("failed")), len(sight.having("cancelled"))
    runs = [run for run in sight.runs if run.status in wanted]
    n_queued = sum(run.placed is not None and run.placed.state != "left" for run in runs)
    n_elsewhere = sum(run.placed is None for run in runs)
    for n, why in (
        (n_failed * ("error" in wanted), "failed: that is in the records, and they are not repeated"),
        (n_queued, "in the queue still: their task ends first"),
        (n_elsewhere, "never handed to a cluster: `steppe submit`, or the `steppe run` that started them"),
        (n_cancelled * ("cancelled" not in wanted), "cancelled: --cancelled retries them"),
    ):
        if n:
            options.put(f"{n} {why}")
    return [run for run in runs if run.placed and run.placed.state == "left"]


def _named(store: Store, sight: Snapshot, args: Arguments) -> list[RunStatus]:
    """Choose by run id; print or raise the reason if a run cannot be retried."""
    readable = {run.run_id: run for run in sight.runs}
    chosen = []
    for run_id in dict.fromkeys(store.find(name).run_id for name in args.run):
        run = readable.get(run_id)
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
    """Group runs of equal configuration: that of their last submission, with the profile given now.

    `known` was listed after the runs were chosen, so it lacks submissions that were deleted in between.
    """
    changes = {"command": _command(args), **({"profile": load(args.profile)} if args.profile else {})}
    groups: dict[bytes, tuple[SubmissionConfig, list[str]]] = {}
    for run in chosen:
        assert run.placed is not None
        submission = known.get(run.placed.submission)
        if submission is None:
            options.put(f"left out: {run.run_id}, as submission {run.placed.submission} was just deleted")
            continue
        config = structs.replace(submission.config, **changes)
        groups.setdefault(msgspec.json.encode(config), (config, []))[1].append(run.run_id)
    return [Request(run_ids, config) for config, run_ids in groups.values()]


def _command(args: Arguments) -> str:
    words = ["retry", *args.run, *(f"--{option}" for option in CHOICES if getattr(args, option))]
    words += ["--profile", args.profile] if args.profile else []
    return args.command(*words)


def _submit(store: Store, requests: list[Request], *, dry_run: bool) -> None:
    """Submit the requests, after checking that the cluster accepts every profile."""
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
