"""Write a leaderboard from the store or from published records: Markdown, CSV, LaTeX, HTML, figures.

A Markdown leaderboard ends with the commands that reproduce it and its records. HTML is a folder of pages
that opens without a server.
"""

from __future__ import annotations

import argparse
import gc
import shlex
import sys
from pathlib import Path

from suite.cli import options
from suite.cli.arguments import Arguments
from suite.errors import SteppeError, unknown
from suite.files import write_whole
from suite.records.schema import Record
from suite.report import boards
from suite.report.views import REPORT_VIEWS
from suite.store.folders import Store

FORMATS = (*boards.TEXT_FORMATS, "html")


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    add = parser.add_argument
    add("-t", "--task", action="append", metavar="GLOB", help="only these tasks (default: all)")
    add("--optimizer", action="append", metavar="GLOB", help="only these optimizers")
    add("--view", choices=REPORT_VIEWS, help="only this view (default: all)")
    records = "published records instead of the store; with --store, both"
    add("--records", nargs="+", type=Path, metavar="FILE", help=records)
    add("--format", choices=FORMATS, help="default: the suffix of -o, else md")
    output = "the file to write (default: standard output), or for html the folder (default: STORE/site)"
    add("-o", "--output", type=Path, metavar="PATH", help=output)
    add("--figures", type=Path, metavar="DIR", help="also write the charts to DIR, as SVG and PNG")
    options.add_store(parser)
    options.add_plugins(parser)


def execute(args: Arguments) -> int:
    """Write the leaderboard of the selected records."""
    records = chosen_records(args)
    gc.freeze()  # the records live until exit: spare the collector from traversing them again and again
    try:
        return write(records, args)
    finally:
        gc.unfreeze()


def write(records: list[Record], args: Arguments) -> int:
    """Write the leaderboard of these records in the selected format."""
    registry = args.cached_registry
    board = boards.leaderboard(records, registry, command=command(args), view=args.view)
    chosen = chosen_format(args)
    if args.figures is not None or chosen == "html":
        material = boards.material(records, registry, _store(args))
    if args.figures is not None:
        written = boards.write_figures(args.figures, board, material)
        print(f"steppe: {len(written)} figures in {args.figures}", file=sys.stderr)
    if chosen == "html":
        print(boards.write_site(_site_folder(args), board, material))
        return 0
    content = boards.render(board, chosen, records, registry).encode()
    if args.output is None:
        sys.stdout.write(content.decode())
    else:
        write_whole(args.output, content)
    return 0


def _site_folder(args: Arguments) -> Path:
    """Return the folder of the site: -o, else `site` in the store."""
    output: Path | None = args.output
    root = args.store.root
    if output is None and args.records:
        raise SteppeError("a site of published records needs a folder: name one with -o")
    if output is not None and output.suffix == ".html":
        folder = output.with_suffix("")
        raise SteppeError(f"HTML is a folder of pages, not a file: give `--format html -o {folder}`")
    if output is not None and output.resolve().is_relative_to((root / "runs").resolve()):
        raise SteppeError(f"{output} is among the runs of the store: name another folder with -o")
    return output or root / "site"


def chosen_records(args: Arguments) -> list[Record]:
    """Return the records that match the options; SteppeError if there are none."""
    records = boards.load_records(
        args.records or (),
        store=_store(args),
        tasks=args.task or (),
        optimizers=args.optimizer or (),
        say=lambda line: print(f"steppe: {line}", file=sys.stderr),
    )
    if not records:
        if args.task or args.optimizer:
            raise SteppeError("no finished run matches these tasks and optimizers (-t, --optimizer)")
        raise SteppeError(
            "no finished run to show: `steppe status` lists the store, `steppe run` starts runs"
        )
    return records


def _store(args: Arguments) -> Store | None:
    """Return the store to read; None with --records, unless --store is given too."""
    return args.store if not args.records or args.store_folder is not None else None


def chosen_format(args: Arguments) -> str:
    """Return --format, else the suffix of the output file, else md."""
    if args.format is not None:
        return str(args.format)
    if args.output is None:
        return "md"
    ending = str(args.output.suffix.lstrip("."))
    if ending not in FORMATS:
        raise unknown(f"ending of -o {args.output}", ending, FORMATS, hint="or give --format")
    return ending


def command(args: Arguments) -> str:
    """Return the command that reproduces this leaderboard.

    A site may be published, so its command contains no path of this machine.
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
    out += args.store_option
    out += ["--format", args.format] if args.format else []
    out += ["--figures", str(args.figures)] if args.figures else []
    return shlex.join([*out, "-o", str(args.output)] if args.output else out)


def _name(path: str) -> str:
    """Return a relative path unchanged; only the last part of an absolute path or of one with `..`."""
    return Path(path).name if Path(path).is_absolute() or ".." in Path(path).parts else str(path)
