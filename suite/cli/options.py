"""Options and printing functions shared by commands; an option has one name, default and meaning."""

from __future__ import annotations

import argparse
import json
import math
import sys
from pathlib import Path
from typing import Any, TextIO

from suite.entries.selection import VIEWS
from suite.spec import PRECISIONS
from suite.store.folders import STORE
from suite.store.lines import finite
from suite.terminal.table import clean


def add_selectors(parser: argparse.ArgumentParser) -> None:
    """Add -t, -o, -s and all other options that enter the spec of a run."""
    add = parser.add_argument_group("which runs").add_argument
    many: dict[str, Any] = {"action": "append", "required": True}
    add("-t", "--task", **many, metavar="TASK", help="tasks: NAME, glob, NAME[key=value|value]")
    every = "optimizers, likewise; '*' is every file of baselines/"
    add("-o", "--optimizer", **many, metavar="OPT", help=every)
    add("-s", "--seeds", default="0", metavar="SEEDS", help="seeds such as 0-9,12 (default: 0)")
    add("--budget", type=float, default=1.0, metavar="X", help="times the task's budget (default: 1)")
    equal = "what is equal between optimizers (default: epochs)"
    add("--view", choices=VIEWS, default="epochs", help=equal)
    stratum = "stratum of comparison (default: the task's own)"
    add("--precision", choices=PRECISIONS, default="", help=stratum)
    add("--device", choices=("auto", "cpu", "cuda"), default="auto", help="default: a GPU if there is one")
    one: dict[str, Any] = {"type": whole(1), "default": 1, "metavar": "N"}
    add("--threads", **one, help="CPU threads per process (default: 1)")
    add("--compile", action="store_true", help="compile the model; not bit-exact")
    add("--ranks", **one, help="processes that share each mini-batch (default: 1)")
    add_data(parser)
    add_plugins(parser)


def add_data(parser: argparse.ArgumentParser) -> None:
    """Add --data and --data-set: the folder of the data sets, and the choice among those of a task."""
    parser.add_argument(
        "--data", type=Path, metavar="DIR", help="folder of the data sets (default: $STEPPE_DATA)"
    )
    parser.add_argument(
        "--data-set", default="", metavar="NAME", help="a data set of the task (default: first found)"
    )


def add_plugins(parser: argparse.ArgumentParser) -> None:
    """Add --plugin: files with more tasks and optimizers."""
    parser.add_argument(
        "--plugin",
        action="append",
        default=[],
        type=Path,
        metavar="FILE",
        help="a Python file with TASKS or OPTIMIZERS",
    )


def add_store(parser: argparse.ArgumentParser) -> None:
    """Add --store: the folder of runs and records."""
    where = f"the store (default: $STEPPE_STORE, else ./{STORE})"
    parser.add_argument("--store", type=Path, dest="store_folder", metavar="DIR", help=where)


def add_workers(parser: argparse.ArgumentParser) -> None:
    """Add --workers: the number of worker processes."""
    number = "processes (default: one per core, one per GPU)"
    parser.add_argument("--workers", type=whole(1), metavar="N", help=number)


def add_records(parser: argparse.ArgumentParser) -> None:
    """Add --records: published records; their runs count as done."""
    parser.add_argument(
        "--records",
        nargs="+",
        action="extend",
        default=[],
        type=Path,
        metavar="FILE",
        help="published records: their runs count as done",
    )


def add_checkpoint_s(parser: argparse._ActionsContainer) -> None:
    """Add --checkpoint-s, the time between checkpoints, to a parser or a group of its options."""
    parser.add_argument(
        "--checkpoint-s",
        type=whole(0),
        default=60,
        metavar="S",
        help="seconds between checkpoints (default: 60)",
    )


def add_json(parser: argparse.ArgumentParser) -> None:
    """Add --json: output for programs."""
    parser.add_argument("--json", action="store_true", help="print JSON")


class whole:  # noqa: N801 - reads as a type in add_argument
    """An argparse type: an integer of at least `low`."""

    def __init__(self, low: int) -> None:
        self.low = low

    def __call__(self, text: str) -> int:
        """Parse the text; raise the error that argparse prints."""
        if not text.strip().isdecimal() or int(text) < self.low:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least {self.low}")
        return int(text)


def positive(text: str) -> float:
    """Parse a number above 0; an argparse type."""
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


def put(text: str, stream: TextIO | None = None) -> None:
    """Print lines with control characters, and characters that the encoding lacks, replaced."""
    stream = stream or sys.stdout
    for line in text.split("\n"):
        print(clean(line, stream.encoding or "utf-8"), file=stream)


def seconds(value: float) -> str:
    """Write a duration with its unit: `48 s`, `12 min`, `3.4 h`, `2.1 d`."""
    for limit, unit, name in ((120.0, 1.0, "s"), (7200.0, 60.0, "min"), (172_800.0, 3600.0, "h")):
        if value < limit:
            number = value / unit
            return f"{number:.1f} {name}" if number < 9.95 else f"{number:.0f} {name}"
    return f"{value / 86_400.0:.1f} d"
