"""Options that commands share, each with one name, one default and one meaning."""

from __future__ import annotations

import argparse
import glob
import json
import math
import os
import shlex
import shutil
import sys
from collections.abc import Iterable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, TextIO

from suite.entries.registry import Registry
from suite.entries.select import VIEWS, expand, parse_seeds
from suite.errors import SteppeError
from suite.spec import PRECISIONS, RunSpec
from suite.store.lines import finite
from suite.store.store import STORE, Store
from suite.terminal.table import clean, fit, width_of

IN_RECORDS = ("done in records", "failed in records")
"""States of runs that published records hold, and that the store need not hold too."""

GPU_TRACES = ("/dev/nvidia*", "/dev/nvhost*", "/dev/dxg", "/dev/kfd", "/proc/driver/nvidia")
"""What drivers of GPUs leave where torch could use one: Linux, Jetson, WSL, ROCm."""


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
        "--store", type=Path, metavar="DIR", help=f"the store (default: $STEPPE_STORE, else ./{STORE})"
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


def selector_arguments(args: argparse.Namespace) -> list[str]:
    """Write the options of the commands that run selected runs out again, defaults left out."""
    out = [piece for task in args.task for piece in ("-t", task)]
    out += [piece for optimizer in args.optimizer for piece in ("-o", optimizer)]
    out += ["-s", args.seeds]
    defaults = {
        "budget": 1.0,
        "view": "epochs",
        "precision": "",
        "device": "auto",
        "threads": 1,
        "ranks": 1,
        "data": None,
        "data_set": "",
        "store": None,
        "workers": None,
    }
    for name, default in defaults.items():
        value = getattr(args, name)
        if value != default:
            out += [f"--{name.replace('_', '-')}", str(value)]
    out += ["--compile"] if args.compile else []
    out += ["--records", *map(str, args.records)] if args.records else []
    return out + [piece for plugin in args.plugin for piece in ("--plugin", str(plugin))]


def default_workers(spec: RunSpec) -> int:
    """Count runs at a time: as many as have a core for each thread, or a GPU for each process."""
    if spec.device == "cuda":
        from suite.workers.process import visible_gpus

        return max(1, len(visible_gpus()) // spec.ranks)
    return max(1, len(os.sched_getaffinity(0)) // (spec.threads * spec.ranks))


def registry(args: argparse.Namespace) -> Registry:
    """Return the entries, plugins of the command line included."""
    return Registry(args.plugin)


def store_root(args: argparse.Namespace) -> Path:
    """Return the folder of the store: --store, STEPPE_STORE, or ./runs."""
    given: Path | None = args.store
    return given or Path(os.environ.get("STEPPE_STORE") or STORE)


def command(store: Path | None, *words: str) -> str:
    """Write a command of `steppe` for a message; it takes along the --store that was given, if one was."""
    return shlex.join(["steppe", *words, *(["--store", str(store)] if store else [])])


def data_root(args: argparse.Namespace) -> Path | None:
    """Return the folder of the data sets: --data, STEPPE_DATA, or None; it must exist."""
    text = args.data or os.environ.get("STEPPE_DATA") or None
    if text is None:
        return None
    root = Path(text)
    if not root.is_dir():
        named_by = "--data" if args.data else "STEPPE_DATA"
        raise SteppeError(f"no folder {root}, which {named_by} names; create it, then `steppe prepare TASK`")
    return root


def device(args: argparse.Namespace) -> str:
    """Return the device kind of the runs; `auto` asks torch, where there may be a GPU, whether it sees it."""
    chosen = str(args.device)
    if chosen != "auto":
        return chosen
    if not _gpu_possible():
        return "cpu"
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def _gpu_possible() -> bool:
    """Whether there are traces of a driver and GPUs are not hidden: no torch sees one elsewhere."""
    if os.environ.get("CUDA_VISIBLE_DEVICES", "0").strip() in ("", "-1"):
        return False
    traces = (path for pattern in GPU_TRACES for path in glob.iglob(pattern))
    return any(traces) or shutil.which("nvidia-smi") is not None


def specs(args: argparse.Namespace, entries: Registry) -> list[RunSpec]:
    """Return the runs that the options of `add_selectors` span."""
    return expand(
        entries,
        args.task,
        args.optimizer,
        parse_seeds(args.seeds),
        data_root=data_root(args),
        data_name=args.data_set,
        budget=args.budget,
        view=args.view,
        precision=args.precision,
        device=device(args),
        threads=args.threads,
        compile=args.compile,
        ranks=args.ranks,
    )


def recorded(
    args: argparse.Namespace, wanted: Iterable[RunSpec], store: Store, entries: Registry
) -> dict[str, str]:
    """Return the runs that the files of --records hold and the store does not, each with its state.

    A state is one of `IN_RECORDS`. A run that completed in one of the files is done, whatever others say.
    Raises SteppeError where the code of its entries is not that which made the record.
    """
    if not args.records:
        return {}
    from suite.publishing.published import read_records

    run_ids = {spec.run_id for spec in wanted if not store.is_done(spec.run_id)}
    states: dict[str, str] = {}
    for path in args.records:
        for record in read_records(path):
            if record.run_id in run_ids:
                entries.hold(record, path)
                state = IN_RECORDS[record.failed]
                states[record.run_id] = min(state, states.get(record.run_id, state), key=IN_RECORDS.index)
    return states


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
