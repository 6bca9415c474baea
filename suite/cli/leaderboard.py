"""Write a leaderboard from the store or from published records: Markdown, CSV, LaTeX, HTML, figures.

A Markdown leaderboard ends with the command that writes it again and the one that makes its records. HTML is
a folder of pages that opens from a disk.
"""

from __future__ import annotations

import argparse
import fnmatch
import gc
import shlex
import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from suite.cli import options, show
from suite.entries.declared import Declared
from suite.entries.registry import Registry
from suite.entries.select import arguments
from suite.errors import SteppeError, unknown
from suite.files import write_whole
from suite.publishing.published import read_records
from suite.records.schema import Record
from suite.report.runs import set_ups
from suite.report.views import REPORT_VIEWS
from suite.spec import RunSpec
from suite.store.store import Store

if TYPE_CHECKING:
    from suite.report.leaderboard import Leaderboard
    from suite.report.site import Material

FORMATS = ("md", "csv", "tex", "html")

_WHY = {
    "epochs": "no run has the epochs of a task's budget.",
    "sample-gradients": "no run costs what a task's budget costs at one gradient a step.",
    "seconds": "no two rows have a median training time near each other on one machine, one of them with one "
    "gradient a step at the task's epochs.",
}
"""Why a view may have no table, though others have."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument(
        "-t", "--task", action="append", metavar="GLOB", help="only these tasks (default: all)"
    )
    parser.add_argument("--optimizer", action="append", metavar="GLOB", help="only these optimizers")
    parser.add_argument("--view", choices=REPORT_VIEWS, help="only this view (default: all)")
    parser.add_argument(
        "--records",
        nargs="+",
        type=Path,
        metavar="FILE",
        help="published records instead of the store; with --store, both",
    )
    parser.add_argument("--format", choices=FORMATS, help="default: the ending of -o, else md")
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="PATH",
        help="where to: a file (default: the terminal), or for html a folder (default: STORE/site)",
    )
    parser.add_argument(
        "--figures", type=Path, metavar="DIR", help="write the charts there, too, as SVG and PNG"
    )
    options.add_store(parser)
    options.add_plugins(parser)


def execute(args: argparse.Namespace) -> int:
    """Write the tables of all records that the options let through."""
    registry = Declared(args.plugin)
    records = chosen_records(args)
    gc.freeze()  # they live to the end: nothing to search for cycles, again and again
    try:
        return _write(records, registry, args)
    finally:
        gc.unfreeze()


def _write(records: list[Record], registry: Declared, args: argparse.Namespace) -> int:
    board = build(records, registry, args)
    if args.figures is not None:
        _figures(args.figures, board, _material(records, registry, args))
    if chosen_format(args) == "html":
        return _site(board, _material(records, registry, args), args)
    content = render(board, records, registry, args).encode()
    if args.output is None:
        sys.stdout.write(content.decode())
    else:
        write_whole(args.output, content)
    return 0


def _site(board: Leaderboard, material: Material, args: argparse.Namespace) -> int:
    from suite.report import site

    print(site.write(_site_folder(args), board, material))
    return 0


def _site_folder(args: argparse.Namespace) -> Path:
    """Return the folder of the site: -o, else `site` in the store that it shows."""
    if args.output is None and args.records:
        raise SteppeError("a site of published records needs a folder of its own: name one with -o")
    store = options.store_root(args)
    if args.output is not None and args.output.suffix == ".html":
        folder = args.output.with_suffix("")
        raise SteppeError(f"HTML is a folder of pages, not a file: give `--format html -o {folder}`")
    if args.output is not None and args.output.resolve().is_relative_to((store / "runs").resolve()):
        raise SteppeError(f"{args.output} is among the runs of the store: name another folder with -o")
    return args.output or store / "site"


def _figures(folder: Path, board: Leaderboard, material: Material) -> None:
    from suite.report import figures
    from suite.report.site.plots import table_curves
    from suite.report.site.runs import read

    def rows(run_id: str) -> Sequence[Mapping[str, Any]]:
        return read(material, run_id).rows

    written = figures.write(folder, board, [table_curves(table, rows) for table in board.tables])
    print(f"steppe: {len(written)} figures in {folder}", file=sys.stderr)


def _material(records: Sequence[Record], registry: Registry, args: argparse.Namespace) -> Material:
    from suite.report.site import Material
    from suite.report.strata import once

    return Material(
        records=once(records),
        store=Store(options.store_root(args)) if _has_store(args) else None,
        command=lambda spec: show.command(spec, registry),
        commands=lambda specs: run_commands(specs, registry),
    )


def chosen_records(args: argparse.Namespace) -> list[Record]:
    """Return the records that the options let through; SteppeError where there is none."""
    records = [record for record in _records(args) if _wanted(record, args)]
    if not records:
        if args.task or args.optimizer:
            raise SteppeError("no finished run is of these tasks and optimizers (-t, --optimizer)")
        raise SteppeError("no finished run to show: `steppe status` lists the store, `steppe run` makes some")
    return records


def _has_store(args: argparse.Namespace) -> bool:
    """Whether the store is shown: not where published records are, unless it is named beside them."""
    return not args.records or args.store is not None


def _records(args: argparse.Namespace) -> Iterable[Record]:
    published = [record for path in args.records or () for record in read_records(path)]
    if not _has_store(args):
        return published
    found = Store(options.store_root(args)).index()
    for line in found.skipped:
        print(f"steppe: {line}", file=sys.stderr)
    return [*found, *published]


def _wanted(record: Record, args: argparse.Namespace) -> bool:
    asked = ((record.spec.task, args.task), (record.spec.optimizer, args.optimizer))
    return all(any(fnmatch.fnmatchcase(ref.name, glob) for glob in globs) for ref, globs in asked if globs)


def build(records: Sequence[Record], registry: Registry, args: argparse.Namespace) -> Leaderboard:
    """Sort the records into the tables asked for."""
    from suite.report import leaderboard, text

    tasks = {name: found.entry.params for name, found in registry.tasks.items()}
    optimizers = {name: found.entry.params for name, found in registry.optimizers.items()}
    board = leaderboard.build(records, tasks, optimizers, command(args))
    if args.view is None:
        return board
    tables = tuple(table for table in board.tables if table.view == args.view)
    if tables or not board.tables:
        return replace(board, tables=tables)
    sentence = f"No table at {text.VIEW_TITLES[args.view]}: {_WHY[args.view]}"
    return replace(board, tables=tables, left_out=(*board.left_out, sentence))


def render(
    board: Leaderboard, records: Sequence[Record], registry: Registry, args: argparse.Namespace
) -> str:
    """Write the leaderboard as text in the format asked for."""
    from suite.report import csv_, latex, markdown

    if chosen_format(args) == "csv":
        return csv_.render(board)
    if chosen_format(args) == "tex":
        return latex.render(board)
    origin = run_commands([record.spec for record in records], registry)
    return markdown.render(board) + "".join(_fenced("Its records are made by", origin) if origin else ())


def chosen_format(args: argparse.Namespace) -> str:
    """Return --format, else the ending of the output file, else md."""
    if args.format is not None:
        return str(args.format)
    if args.output is None:
        return "md"
    ending = str(args.output.suffix.lstrip("."))
    if ending not in FORMATS:
        raise unknown(f"ending of -o {args.output}", ending, FORMATS, mend="or say --format")
    return ending


def command(args: argparse.Namespace) -> str:
    """Write the command line out again, as it gives this leaderboard.

    A site is for others to open: its command says nothing of where things lie on this machine.
    """
    public = chosen_format(args) == "html"
    plugins = [_name(path) if public else path for path in args.plugin or ()]
    out = ["steppe", "leaderboard"]
    for flag, values in (("-t", args.task), ("--optimizer", args.optimizer), ("--plugin", plugins)):
        out += [piece for value in values or () for piece in (flag, str(value))]
    out += ["--view", args.view] if args.view else []
    records = [_name(str(path)) if public else str(path) for path in args.records or ()]
    out += ["--records", *records] if records else []
    if public:
        return shlex.join([*out, "--format", "html"])
    out += ["--store", str(args.store)] if args.store else []
    out += ["--format", args.format] if args.format else []
    out += ["--figures", str(args.figures)] if args.figures else []
    return shlex.join([*out, "-o", str(args.output)] if args.output else out)


def _name(path: str) -> str:
    """Keep of a path what does not tell of the machine: relative ones whole, of others the last part."""
    return Path(path).name if Path(path).is_absolute() or ".." in Path(path).parts else str(path)


def run_commands(specs: Sequence[RunSpec], registry: Registry) -> list[str]:
    """Write `steppe run` commands that span the runs, and a comment on those whose entries are not known."""
    settings: dict[bytes, tuple[RunSpec, set[int]]] = {}
    for spec, set_up in zip(specs, set_ups(specs), strict=True):
        settings.setdefault(set_up, (spec, set()))[1].add(spec.seed)
    return _commands(settings.values(), registry)


def _commands(settings: Iterable[tuple[RunSpec, set[int]]], registry: Registry) -> list[str]:
    seeds: dict[tuple[str, ...], dict[str, set[int]]] = defaultdict(lambda: defaultdict(set))
    missing = set()
    for spec, which in settings:
        try:
            given = arguments(spec, registry)
        except SteppeError as error:
            missing.add(f"# {spec.optimizer.label()} on {spec.task.label()}, seeds {ranges(which)}: {error}")
            continue
        optimizer = given[given.index("-o") + 1]
        left_out = _pair(given, "-o", "-s")
        rest = tuple(piece for at, piece in enumerate(given) if at not in left_out)
        seeds[rest][optimizer] |= which
    commands = []
    for rest, by_optimizer in sorted(seeds.items()):
        together: dict[str, list[str]] = defaultdict(list)
        for optimizer, which in sorted(by_optimizer.items()):
            together[ranges(which)].append(optimizer)
        for span, optimizers in together.items():
            given = [*rest[:2], "-o", ",".join(optimizers), "-s", span, *rest[2:]]
            commands.append(shlex.join(["steppe", "run", *given]))
    return [*commands, *sorted(missing)]


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
