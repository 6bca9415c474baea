"""Options that commands share, each with one name, one default and one meaning."""

from __future__ import annotations

import argparse
import json
import math
import shutil
import sys
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, TextIO

from suite.entries.selection import VIEWS
from suite.spec import PRECISIONS
from suite.store.folders import STORE
from suite.store.lines import finite
from suite.terminal.table import clean, fit, width_of


def add_selectors(parser: argparse.ArgumentParser) -> None:
    """Add -t, -o, -s and everything else that enters a run's spec."""
    group = parser.add_argument_group("which runs")
    group.add_argument(
        "-t",
        "--task",
        action="append",
        required=True,
        metavar="TASK",
        help="tasks: NAME, glob, NAME[key=value|value]",
    )
    group.add_argument(
        "-o",
        "--optimizer",
        action="append",
        required=True,
        metavar="OPT",
        help="optimizers, likewise; '*' is every file of baselines/",
    )
    group.add_argument(
        "-s", "--seeds", default="0", metavar="SEEDS", help="seeds such as 0-9,12 (default: 0)"
    )
    group.add_argument(
        "--budget", type=float, default=1.0, metavar="X", help="times the task's budget (default: 1)"
    )
    group.add_argument(
        "--view", choices=VIEWS, default="epochs", help="what is equal between optimizers (default: epochs)"
    )
    group.add_argument(
        "--precision", choices=PRECISIONS, default="", help="stratum of comparison (default: the task's own)"
    )
    group.add_argument(
        "--device", choices=("auto", "cpu", "cuda"), default="auto", help="default: a GPU if there is one"
    )
    group.add_argument(
        "--threads", type=whole(1), default=1, metavar="N", help="CPU threads of a process (default: 1)"
    )
    group.add_argument("--compile", action="store_true", help="compile the model; not bit-exact")
    group.add_argument(
        "--ranks",
        type=whole(1),
        default=1,
        metavar="N",
        help="processes that share a mini-batch (default: 1)",
    )
    add_data(parser)
    add_plugins(parser)


def add_data(parser: argparse.ArgumentParser) -> None:
    """Add --data and --data-set: where the images lie and which of a task's data sets to use."""
    parser.add_argument(
        "--data", type=Path, metavar="DIR", help="folder of the data sets (default: $STEPPE_DATA)"
    )
    parser.add_argument(
        "--data-set", default="", metavar="NAME", help="a data set of the task (default: first found)"
    )


def add_plugins(parser: argparse.ArgumentParser) -> None:
    """Add --plugin: files that bring further tasks and optimizers."""
    parser.add_argument(
        "--plugin",
        action="append",
        default=[],
        type=Path,
        metavar="FILE",
        help="a Python file with TASKS or OPTIMIZERS",
    )


def add_store(parser: argparse.ArgumentParser) -> None:
    """Add --store: where runs and records lie."""
    parser.add_argument(
        "--store",
        type=Path,
        dest="store_folder",
        metavar="DIR",
        help=f"the store (default: $STEPPE_STORE, else ./{STORE})",
    )


def add_workers(parser: argparse.ArgumentParser) -> None:
    """Add --workers: processes per device."""
    parser.add_argument(
        "--workers", type=whole(1), metavar="N", help="processes (default: one a core, one a GPU)"
    )


def add_records(parser: argparse.ArgumentParser) -> None:
    """Add --records: published records, whose runs count as done."""
    parser.add_argument(
        "--records",
        nargs="+",
        action="extend",
        default=[],
        type=Path,
        metavar="FILE",
        help="published records: runs in them count as done here",
    )


def add_checkpoint_s(parser: argparse._ActionsContainer) -> None:
    """Add --checkpoint-s: how often runs save, to a parser or a group of its options."""
    parser.add_argument(
        "--checkpoint-s",
        type=whole(0),
        default=60,
        metavar="S",
        help="seconds between checkpoints (default: 60)",
    )


def add_json(parser: argparse.ArgumentParser) -> None:
    """Add --json: output for a program."""
    parser.add_argument("--json", action="store_true", help="print JSON")


class whole:  # noqa: N801 - reads as a type in add_argument
    """An argparse type: a whole number of at least `low`."""

    def __init__(self, low: int) -> None:
        self.low = low

    def __call__(self, text: str) -> int:
        """Parse the text, or let argparse say what is valid."""
        if not text.strip().isdecimal() or int(text) < self.low:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least {self.low}")
        return int(text)


def positive(text: str) -> float:
    """Parse a number above 0, an argparse type."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0.0 < value <= 1e6:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0 and up to a million")
    return value


def print_json(value: Any) -> None:
    """Print a value as indented JSON with sorted keys; numbers that are not finite become null."""
    print(json.dumps(finite(value), indent=2, sort_keys=True, allow_nan=False))


def seconds(value: float) -> str:
    """Write a duration for a person: `48 s`, `12 min`, `3.4 h`, `2.1 d`."""
    for limit, unit, name in ((120.0, 1.0, "s"), (7200.0, 60.0, "min"), (172_800.0, 3600.0, "h")):
        if value < limit:
            number = value / unit
            return f"{number:.1f} {name}" if number < 9.95 else f"{number:.0f} {name}"
    return f"{value / 86_400.0:.1f} d"


def table(rows: list[list[str]]) -> str:
    """Align columns to the left, two spaces apart, the first row being the header."""
    cells = [[clean(cell, encoding()) for cell in row] for row in rows]
    widths = [max(map(width_of, column)) for column in zip(*cells, strict=True)]
    return "\n".join(
        "  ".join(fit(cell, w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in cells
    )


def shorten(name: str, width: int = 32) -> str:
    """Cut a name that is too long for a table, with a mark that says so."""
    name = clean(name, encoding())
    return fit(name, width) if width_of(name) > width else name


def put(text: str, stream: TextIO | None = None) -> None:
    """Print lines for a person: nothing in them acts on the terminal, and any encoding takes them."""
    stream = stream or sys.stdout
    for line in text.split("\n"):
        print(clean(line, stream.encoding or "utf-8"), file=stream)


def encoding() -> str:
    """Return the encoding of standard output."""
    return sys.stdout.encoding or "utf-8"


def takes(text: str) -> bool:
    """Whether standard output can show the text."""
    return clean(text, encoding()) == text


def columns() -> int:
    """Return the width of the terminal; 80 where there is none."""
    return shutil.get_terminal_size((80, 24)).columns


def moment(seconds_from_now: float) -> str:
    """Write a time to come for a person: `14:32`, and the day unless it is today."""
    now = datetime.now().astimezone()
    then = now + timedelta(seconds=seconds_from_now)
    same_day = then.date() == now.date()
    return (
        f"{then:%H:%M}"
        if same_day
        else f"{then:%a %d %b %H:%M}" + (f" {then:%Y}" if then.year != now.year else "")
    )
