"""Submit tasks x optimizers x seeds to a SLURM cluster and return without waiting for the runs.

Takes the selectors of `steppe run`. Runs that are done, here or in published records (--records), running or
in the queue are left out, so repeating the command submits only what is missing. A profile lists the
resources of an array task: slurm/profiles/ has examples, $STEPPE_PROFILES names the folder of your own.
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from typing import Any

from slurm import dispatch, profiles
from slurm.dispatch import Plan, Request
from slurm.profiles import Profile
from slurm.submission import SubmissionConfig
from suite.cli import options
from suite.cli.arguments import Arguments
from suite.entries.registry import Registry
from suite.entries.selection import sample_gradients
from suite.errors import SteppeError
from suite.publishing.recorded import recorded
from suite.store.folders import Store
from suite.terminal.message import say
from suite.terminal.table import plural
from suite.track import mode


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    options.add_selectors(parser)
    parser.set_defaults(ranks=None)  # the profile's
    options.add_store(parser)
    options.add_records(parser)
    group = parser.add_argument_group("how it is submitted")
    group.add_argument(
        "--profile",
        required=True,
        metavar="P",
        help="resources of an array task: NAME, or the path of a TOML file",
    )
    group.add_argument(
        "--pack", type=options.whole(1), metavar="N", help="at most N runs a task (default: by expected time)"
    )
    group.add_argument(
        "--workers",
        type=options.whole(1),
        metavar="N",
        help="concurrent runs in a task (default: the profile's)",
    )
    options.add_checkpoint_s(group)
    group.add_argument(
        "--wandb",
        choices=mode.MODES,
        help="W&B mode on the nodes (default: offline, for `steppe wandb sync`; off if $WANDB_MODE is)",
    )
    group.add_argument(
        "--dry-run",
        action="store_true",
        help="print the scripts that sbatch would get; write and submit nothing",
    )
    options.add_json(parser)


def execute(args: Arguments) -> int:
    """Submit the runs that are not done; return 0 if all are in the queue or nothing is left to do."""
    given = {key: value for key in ("pack", "workers") if (value := getattr(args, key)) is not None}
    profile = profiles.load(args.profile, **given)
    config = _config(args, profile)
    cluster = dispatch.survey(profile)
    if args.device == "auto":  # the login node's GPUs say nothing about the nodes'
        args.device = profile.device
    args.ranks = _ranks(args.ranks, profile)
    registry = args.cached_registry
    specs = {spec.run_id: spec for spec in args.selection.expand(registry)}
    store = Store(args.store.root.absolute())
    request = Request(
        list(specs),
        config,
        specs,
        gradients=sample_gradients(registry, specs.values(), lambda _: None),
        recorded=recorded(args.records, specs.values(), store, registry),
    )
    if args.dry_run:
        return _show(dispatch.plan(store, request, cluster), store, as_json=args.json)
    _pin(store, request, registry)
    planned, submission = dispatch.submit(store, request, cluster, say)
    say(_summary(planned, store))
    jobs = [batch.job for batch in submission.batches] if submission else []
    if submission is not None:
        shown = ", ".join(map(str, jobs[:5])) + (", …" if len(jobs) > 5 else "")
        say(f"submitted as {submission.name}: {plural(len(jobs), 'job')} {shown}")
        say(f"follow them: {args.command('status', '--watch')}")
        say(f"stop them:   {args.command('cancel', submission.name)}")
    if args.json:
        options.print_json({**_figures(planned), "submission": submission and submission.name, "jobs": jobs})
    return 0


def _ranks(requested: int | None, profile: Profile) -> int:
    """Return the ranks of a run, which the profile decides."""
    if requested not in (None, profile.ranks):
        raise SteppeError(
            f"--ranks {requested}, but profile {profile.name} has nodes x processes = {profile.ranks}: leave "
            f"--ranks out, or choose another profile"
        )
    return profile.ranks


def _config(args: Arguments, profile: Profile) -> SubmissionConfig:
    data = args.data_root
    target = mode.choose(args.wandb)
    on_nodes = "offline" if target is None or not args.wandb else target.mode  # they rarely have a network
    return SubmissionConfig(
        command=shlex.join(["steppe", *sys.argv[1:]]),
        profile=profile,
        checkpoint_s=args.checkpoint_s,
        data=None if data is None else os.path.abspath(data),
        plugins=tuple(os.path.abspath(path) for path in args.plugin),
        wandb="off" if target is None else on_nodes,
    )


def _pin(store: Store, request: Request, registry: Registry) -> None:
    """Pin the code of each task and optimizer in the store; raise SteppeError if it changed."""
    specs = [spec for run_id, spec in request.specs.items() if run_id not in request.recorded]
    for spec in {(spec.task.name, spec.optimizer.name): spec for spec in specs}.values():
        registry.pin(spec, store)


def _figures(planned: Plan) -> dict[str, Any]:
    packed = planned.packed
    return {
        "runs": planned.n_runs,
        "tasks": planned.n_tasks,
        "batches": len(planned.arrays),
        "left_out": planned.left_out,
        "expected_s": packed.total_s if packed else 0.0,
        "longest_task_s": packed.longest_s if packed else 0.0,
        "notes": list(planned.notes),
    }


def _summary(planned: Plan, store: Store) -> str:
    """Describe in one line what is submitted and what is left out."""
    left = ", ".join(f"{n} {why}" for why, n in sorted(planned.left_out.items()))
    if not planned.arrays:
        return f"nothing to submit from {store.root}: {left or 'no runs'}"
    parts = [planned.size]
    if len(planned.arrays) > 1:
        parts.append(f"{len(planned.arrays)} job arrays")
    packed = planned.packed
    if packed and packed.total_s is not None and packed.longest_s is not None:
        longest = options.seconds(packed.longest_s)
        parts.append(f"expected {options.seconds(packed.total_s)} in all, {longest} the longest task")
    return "; ".join([*parts, *([f"left out: {left}"] if left else [])])


def _show(planned: Plan, store: Store, *, as_json: bool) -> int:
    """Print what would be submitted: scripts to standard output, notes to standard error."""
    for note in planned.notes:
        say(note)
    say(_summary(planned, store))
    texts = dispatch.scripts(planned, store.root)
    if as_json:
        options.print_json({**_figures(planned), "scripts": texts})
    else:
        options.put("\n".join(texts))
    return 0
