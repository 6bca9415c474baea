"""Run tasks x optimizers x seeds on this machine: several processes, live table, resume.

Finished runs, in the store or in published records (--records), are skipped; interrupted ones resume. Ctrl-C
checkpoints every run and stops; the same command resumes them. A diverged run has a record and is not
repeated. A separate process mirrors runs to Weights & Biases (--wandb); no run waits for it.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections import Counter
from collections.abc import Mapping, Sequence

from suite.cli import options, wandb
from suite.cli.arguments import Arguments
from suite.errors import SteppeError
from suite.publishing.recorded import IN_RECORDS, recorded
from suite.spec import RunSpec
from suite.status.snapshot import FINAL
from suite.store.folders import Store
from suite.terminal.display import Display
from suite.terminal.message import say
from suite.terminal.table import plural
from suite.track import launch, mode
from suite.workers.event_loop import PoolResult
from suite.workers.network import Place
from suite.workers.pool import run_pool
from suite.workers.process import Event, visible_gpus

INTERRUPTED = 130
"""Exit code after Ctrl-C, as in shells."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    options.add_selectors(parser)
    options.add_store(parser)
    options.add_workers(parser)
    options.add_records(parser)
    options.add_checkpoint_s(parser)
    wandb.add_mode(parser)
    options.add_json(parser)


def execute(args: Arguments) -> int:
    """Run the unfinished runs; 0 if every run has a completed record, here or published, else 1."""
    return run_selected(args, shlex.join(["steppe", *sys.argv[1:]]))


def run_selected(args: Arguments, resume_with: str) -> int:
    """Run every selected run until it has a record, and print a summary with the command `resume_with`."""
    target = mode.choose(args.wandb)
    registry, store = args.registry, args.store
    specs = args.selection.expand(registry)
    _check_gpus(specs, args.ranks)
    elsewhere = recorded(args.records, specs, store, registry)
    mine = [spec for spec in specs if spec.run_id not in elsewhere]
    for spec in mine:  # finished runs too: runs of an entry edited later must not count as done
        registry.pin(spec, store)
    before = {spec.run_id: prepare(store, spec) for spec in mine}
    todo = [spec for spec in mine if before[spec.run_id] not in FINAL]
    counts = Counter(elsewhere.get(spec.run_id) or before[spec.run_id] for spec in specs)
    say(
        f"{len(specs)} {plural(len(specs), 'run')} in {store.root}: "
        + ", ".join(f"{n} {word}" for word, n in sorted(counts.items()))
    )
    result, mirrored = PoolResult(), ""
    if todo:
        mirror = launch.start(store, target, todo, registry, args.plugin)
        try:
            result = run_todo([spec.run_id for spec in todo], args, args.n_workers(specs[0]), mirror)
        finally:
            mirrored = mirror.close() if mirror is not None else ""
    code = summarize(specs, elsewhere, result, args, resume_with)
    if mirrored:
        say(mirrored)
    return code


def _check_gpus(specs: Sequence[RunSpec], ranks: int) -> None:
    if not any(spec.device == "cuda" for spec in specs):
        return
    n = len(visible_gpus())
    if not n:
        raise SteppeError("no GPU is visible here: give --device cpu, or run where `nvidia-smi -L` lists one")
    if n < ranks:
        raise SteppeError(
            f"--ranks {ranks}, but {n} GPU{'s are' if n > 1 else ' is'} visible: one for each rank"
        )


def run_todo(todo: list[str], args: Arguments, n_workers: int, mirror: launch.Mirror | None) -> PoolResult:
    """Run the remaining runs under the live table; events also go to the mirror, if any."""
    with Display(len(todo)) as display:

        def on_event(event: Event) -> None:
            display(event)
            if mirror is not None:
                mirror(event)

        return run_pool(
            args.store.root,
            todo,
            workers=n_workers,
            plugins=args.plugin,
            data_root=args.data_root,
            checkpoint_s=args.checkpoint_s,
            on_event=on_event,
            place=Place(args.ranks),
        )


def prepare(store: Store, spec: RunSpec) -> str:
    """Write the run's spec and return its state."""
    folder = store.run(spec.run_id)
    folder.write_spec(spec)
    return folder.status()


def summarize(
    specs: list[RunSpec],
    elsewhere: Mapping[str, str],
    result: PoolResult,
    args: Arguments,
    resume_with: str,
) -> int:
    """Print the states, the errors and the command to resume; return the exit code.

    `elsewhere`: states of the runs in published records and not in the store, by run id.
    """
    states = {
        spec.run_id: elsewhere.get(spec.run_id) or args.store.run(spec.run_id).status() for spec in specs
    }
    counts = Counter(states.values())
    if args.json:
        options.print_json({"runs": states, "errors": result.errors})
    say(", ".join(f"{n} {word}" for word, n in sorted(counts.items())))
    for run_id, reason in result.errors.items():
        say(f"  {run_id}: {reason}")
    if result.interrupted:
        say(f"stopped; nothing is lost. To resume: {resume_with}")
        return INTERRUPTED
    return 0 if counts["done"] + counts[IN_RECORDS[False]] == len(specs) else 1
