"""Run the conformance checks on an optimizer or a task.

steppe check optimizer mine
steppe check optimizer 'sam[base=adam,rho=0.1]'
steppe check task digits-cnn --json

Prints a line per promise: a tick and the evidence, or a cross and the counterexample. Exit codes: 0 all kept,
1 some broken, 2 usage.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict

from suite.cli import options
from suite.cli.arguments import Arguments
from suite.entries.select import parse_selector
from suite.errors import SteppeError
from suite.spec import resolve_params
from suite.terminal.output import is_utf8


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("kind", choices=("optimizer", "task"), help="what to check")
    parser.add_argument("name", metavar="NAME", help="its name, or NAME[key=value,...]")
    options.add_data(parser)
    options.add_store(parser)
    options.add_plugins(parser)
    options.add_json(parser)


def execute(args: Arguments) -> int:
    """Run the checks, print the results and return the exit code."""
    name, overrides = _single(args.name)
    registry = args.registry
    found = registry.optimizer(name) if args.kind == "optimizer" else registry.task(name)
    resolve_params(found.entry.params, overrides, f"{args.kind} {name}")  # mistyped overrides exit with 2
    from suite.conformance import check_optimizer, check_task

    if args.kind == "optimizer":
        checks = check_optimizer(found, overrides)
    else:
        cache = args.store.root / "cache"
        checks = check_task(found, args.data_root, overrides, cache, args.data_set)
    broken = sum(not check.ok for check in checks)
    if args.json:
        options.print_json({"kind": args.kind, "name": args.name, "checks": [asdict(c) for c in checks]})
        return 1 if broken else 0
    tick, cross = ("✓", "✗") if is_utf8() else ("ok ", "NOT")
    width = max(len(check.promise) for check in checks)
    for check in checks:
        print(f"{tick if check.ok else cross} {check.promise:<{width}}  {check.message}")
    kept = f"{len(checks) - broken} of {len(checks)}" if broken else "all"
    print(f"{args.kind} {args.name}: {kept} promises kept")
    return 1 if broken else 0


def _single(text: str) -> tuple[str, dict[str, str]]:
    selector = parse_selector(text)
    grid = list(selector.grid())
    if len(grid) != 1:
        raise SteppeError(f"{text} stands for {len(grid)} entries: check them one at a time")
    return selector.pattern, grid[0]
