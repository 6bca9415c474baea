"""Write a leaderboard from the store or from published records, as Markdown or CSV.

A Markdown leaderboard ends with the command that writes it again and the one that makes its records.
"""

from __future__ import annotations

import argparse
import fnmatch
import shlex
import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from suite.cli import options
from suite.errors import SteppeError
from suite.files import write_whole
from suite.published import read_records
from suite.registry import Registry
from suite.select import VIEWS, arguments
from suite.spec import RunSpec, TaskSpec, Value, resolve_params
from suite.store import Store

FORMATS = ("md", "csv")


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument(
        "-t", "--task", action="append", metavar="GLOB", help="only these tasks (default: all)"
    )
    parser.add_argument("--optimizer", action="append", metavar="GLOB", help="only these optimizers")
    parser.add_argument("--view", choices=VIEWS, help="only this view (default: both)")
    parser.add_argument(
        "--records", nargs="+", type=Path, metavar="FILE", help="published records instead of the store"
    )
    parser.add_argument("--format", choices=FORMATS, help="default: the ending of -o, else md")
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="where to (default: the terminal)")
    options.add_store(parser)
    options.add_plugins(parser)


def execute(args: argparse.Namespace) -> int:
    """Write the tables of all records that the options let through."""
    registry = options.registry(args)
    records = [record for record in _records(args) if _wanted(record, args)]
    if not records:
        raise SteppeError("no finished run to show: `steppe status` lists the store, `steppe run` makes some")
    content = render(records, registry, args).encode()
    if args.output is None:
        sys.stdout.write(content.decode())
    else:
        write_whole(args.output, content)
    return 0


def _records(args: argparse.Namespace) -> list[dict[str, Any]]:
    if args.records:
        return [record for path in args.records for record in read_records(path)]
    found = Store(options.store_root(args)).index()
    for line in found.skipped:
        print(f"steppe: {line}", file=sys.stderr)
    return list(found)


def _wanted(record: Mapping[str, Any], args: argparse.Namespace) -> bool:
    spec = record["spec"]
    return all(
        globs is None or any(fnmatch.fnmatchcase(spec[part]["name"], glob) for glob in globs)
        for part, globs in (("task", args.task), ("optimizer", args.optimizer))
    )


def render(records: Sequence[Mapping[str, Any]], registry: Registry, args: argparse.Namespace) -> str:
    """Build the leaderboard and write it in the format asked for."""
    from suite.report import csv_, leaderboard, markdown

    tasks = {name: found.entry for name, found in registry.tasks.items()}
    infos = {name: _info(entry) for name, entry in tasks.items() if isinstance(entry, TaskSpec)}
    params = {name: found.entry.params for name, found in registry.optimizers.items()}
    board = leaderboard.build(records, infos, params, command(args))
    if args.view is not None:
        board = replace(board, tables=tuple(t for t in board.tables if t.view == args.view))
    if chosen_format(args) == "csv":
        return csv_.render(board)
    origin = run_commands((RunSpec.from_dict(record["spec"]) for record in records), registry)
    return markdown.render(board) + "".join(_fenced("Its records are made by", origin) if origin else ())


def _info(entry: TaskSpec) -> Any:
    from suite.report.runs import TaskInfo

    def epochs(params: Mapping[str, Value]) -> float:
        given = {name: value for name, value in params.items() if name in entry.params}
        return float(entry.make(**resolve_params(entry.params, given, entry.name)).epochs)

    return TaskInfo(entry.tier, epochs, entry.params)


def chosen_format(args: argparse.Namespace) -> str:
    """Return --format, else the ending of the output file, else md."""
    if args.format is not None:
        return str(args.format)
    return "csv" if args.output is not None and args.output.suffix == ".csv" else "md"


def command(args: argparse.Namespace) -> str:
    """Write the command line out again, as it gives this leaderboard."""
    out = ["steppe", "leaderboard"]
    for flag, values in (("-t", args.task), ("--optimizer", args.optimizer), ("--plugin", args.plugin)):
        out += [piece for value in values or () for piece in (flag, str(value))]
    out += ["--view", args.view] if args.view else []
    out += ["--records", *map(str, args.records)] if args.records else []
    out += ["--store", str(args.store)] if args.store and not args.records else []
    out += ["--format", args.format] if args.format else []
    return shlex.join([*out, "-o", str(args.output)] if args.output else out)


def run_commands(specs: Iterable[RunSpec], registry: Registry) -> list[str]:
    """Write `steppe run` commands that span the runs; those of entries that changed since are left out."""
    seeds: dict[tuple[str, ...], dict[str, set[int]]] = defaultdict(lambda: defaultdict(set))
    for spec in specs:
        try:
            given = arguments(spec, registry)
        except SteppeError:
            continue
        optimizer = given[given.index("-o") + 1]
        rest = tuple(piece for at, piece in enumerate(given) if at not in _pair(given, "-o", "-s"))
        seeds[rest][optimizer].add(spec.seed)
    commands = []
    for rest, by_optimizer in sorted(seeds.items()):
        together: dict[str, list[str]] = defaultdict(list)
        for optimizer, which in sorted(by_optimizer.items()):
            together[ranges(which)].append(optimizer)
        for span, optimizers in together.items():
            given = [*rest[:2], "-o", ",".join(optimizers), "-s", span, *rest[2:]]
            commands.append(shlex.join(["steppe", "run", *given]))
    return commands


def _pair(given: Sequence[str], *flags: str) -> set[int]:
    return {at + shift for flag in flags for at in (given.index(flag),) for shift in (0, 1)}


def ranges(seeds: Iterable[int]) -> str:
    """Write seeds as `parse_seeds` reads them, for instance 0-9,12."""
    spans: list[list[int]] = []
    for seed in sorted(seeds):
        if spans and seed == spans[-1][1] + 1:
            spans[-1][1] = seed
        else:
            spans.append([seed, seed])
    return ",".join(f"{low}" if low == high else f"{low}-{high}" for low, high in spans)


def _fenced(title: str, lines: Sequence[str]) -> list[str]:
    return [f"\n{title}\n\n```sh\n", *(f"{line}\n" for line in lines), "```\n"]
