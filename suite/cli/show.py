"""Show one run: spec, results, provenance, curves, and the exact command that gives it.

The curves are drawn a line each, epochs from left to right, from the least value to the most. --curve prints
the numbers of every epoch instead; --json has them, too.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec

from suite.cli import options
from suite.cli.arguments import Arguments
from suite.entries.registry import Registry
from suite.metric import PERCENT, Description, Metric
from suite.records.schema import Record, Sharpness
from suite.report.commands import run_command
from suite.report.sparkline import levels, sparkline
from suite.spec import EntryRef, RunSpec
from suite.status.queue_poller import QueuePoller, QueueState, glance
from suite.status.scheduler import Placed
from suite.store.folders import RunFolder
from suite.terminal.table import clean

Row = Mapping[str, Any]
"""A row of metrics.jsonl."""

_PLACES = ("epoch", "step")
"""Columns that say where a row stands; all others are curves."""

_MIN_SPARK, _MAX_SPARK = 10, 100
"""Characters of a drawn curve: narrower, the line is let wrap; wider, the eye loses it."""


@dataclass(frozen=True)
class Known:
    """What the store knows of a run, and where the scheduler has it."""

    run_id: str
    path: str
    status: str
    spec: RunSpec
    command: str
    """Gives exactly this run, or says why none does."""
    record: Record | None = None
    task: Description | None = None
    """What its task declares; None before an attempt wrote it."""
    rows: Sequence[Row] = ()
    events: Sequence[Mapping[str, Any]] = ()
    run_error: Mapping[str, Any] = field(default_factory=dict)
    """Why it ended without a record; empty while it is at work again, or has one."""
    placed: Placed | None = None
    silent: str = ""
    """Why the scheduler's place is not known; empty where it is."""

    def to_dict(self) -> dict[str, Any]:
        """Plain data for --json; of a record all but the evidence of single examples and the spec."""
        record: dict[str, Any] = {}
        if self.record is not None:
            replace = msgspec.structs.replace
            results = {split: replace(result, right={}) for split, result in self.record.results.items()}
            record = msgspec.to_builtins(replace(self.record, results=results))
            del record["spec"]
        return {
            "run_id": self.run_id,
            "path": self.path,
            "status": self.status,
            "placed": asdict(self.placed) if self.placed else {},
            "scheduler_silent": self.silent,
            "error": self.run_error,
            "spec": self.spec.to_dict(),
            "command": self.command,
            "task": msgspec.to_builtins(self.task),
            "record": record,
            "curve": self.rows,
            "events": self.events,
        }


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("run", metavar="RUN", help="the run's id, or enough of its beginning")
    options.add_store(parser)
    options.add_plugins(parser)
    parser.add_argument("--curve", action="store_true", help="the numbers of every epoch")
    options.add_json(parser)


def execute(args: Arguments) -> int:
    """Print everything that the store knows about the run, and where the scheduler has it."""
    store = args.store
    folder = store.find(args.run)
    answer = QueueState({}) if store.is_done(folder.run_id) else QueuePoller(store.root, ask=glance)()
    known = gather(folder, args.cached_registry, answer)
    if args.json:
        options.print_json(known.to_dict())
    else:
        options.put(render(known, numbers=args.curve))
    return 0


def gather(folder: RunFolder, registry: Registry, answer: QueueState) -> Known:
    """Collect spec, state, record, curves, events and command; `answer` is the scheduler's."""
    spec, record = folder.spec(), folder.record()
    return Known(
        run_id=folder.run_id,
        path=str(folder.path),
        status=folder.status(),
        spec=spec,
        command=run_command(spec, registry),
        record=record,
        task=record.task if record else folder.description(),
        rows=folder.metrics(),
        events=list(folder.events()),
        run_error=_error_of(folder),
        placed=answer.placed.get(folder.run_id),
        silent=answer.silent,
    )


def _error_of(folder: RunFolder) -> dict[str, Any]:
    run_error = folder.error() if folder.status() == "error" else None
    if run_error is None:
        return {}
    when = datetime.fromtimestamp(run_error.time).astimezone().isoformat(timespec="seconds")
    return {key: value for key, value in {**asdict(run_error), "time": when}.items() if value != ""}


def render(known: Known, *, numbers: bool = False) -> str:
    """Write what is known for a person, section by section; `numbers`: the curves as a table."""
    lines = [f"run {known.run_id}: {known.status}", f"  folder   {known.path}"]
    if queue := _queue(known.placed, known.silent):
        lines.append(f"  queue    {clean(queue)}")
    lines += [f"  command  {clean(known.command)}", ""]
    if known.run_error:
        lines += ["error", *_tree(known.run_error), ""]
    spec = known.spec.to_dict()
    lines += [
        "spec",
        *_tree(spec | {kind: _entry(getattr(known.spec, kind)) for kind in ("task", "optimizer")}),
    ]
    if known.record is not None:
        for name, section in _sections(known.record):
            lines += ["", name, *section]
    if known.rows:
        columns = _columns(known.rows, known.task)
        lines += ["", *(_table if numbers else _drawings)(known.rows, columns)]
    if known.events:
        lines += ["", "events", *(_event(event) for event in known.events)]
    return "\n".join(lines)


def _queue(placed: Placed | None, silent: str) -> str:
    """Say where the scheduler has the run; nothing where it was never handed to one."""
    if silent:
        return f"not known now: {silent}"
    if placed is None:
        return ""
    node, reason = placed.node and f" on {placed.node}", placed.reason and f" ({placed.reason})"
    log = placed.log if Path(placed.log).is_file() else ""
    facts = [placed.state + node + reason, placed.job and f"job {placed.job}", log]
    return ", ".join(filter(None, [*facts, placed.hint and f"`{placed.hint}`"]))


# -- the record --------------------------------------------------------------------------------------


def _sections(record: Record) -> Iterator[tuple[str, list[str]]]:
    """Yield the parts of a record that hold anything, each with its heading."""
    plain = msgspec.to_builtins(record)
    if record.failure is not None:
        yield "failure", _tree(plain["failure"])
    if record.results:
        yield "results", _results(record)
    if record.facts:
        yield (
            "facts",
            [f"  {one.name}: {_measure(record.facts.get(one.name), one)}" for one in record.task.facts],
        )
    if record.profiles:
        heading, *lines = _profiles(record)
        yield heading, lines
    if record.sharpness is not None:
        yield _sharpness(record.sharpness, record.task)
    yield "cost", _tree(plain["cost"])
    yield "origin", _tree(plain["provenance"].pop("origin"))
    for name in ("sources", "data", "digests", "perturbation_cosine", "provenance"):
        if plain.get(name):
            yield name.replace("_", " "), _tree(plain[name])


def _results(record: Record) -> list[str]:
    """Write a row a split, and one more where a model with BatchNorm was evaluated as it was trained."""
    metrics = record.task.metrics
    rows = [["  split", "n", *(metric.name for metric in metrics)]]
    for split, result in record.results.items():
        for name, found in ((split, result.metrics), (f"{split}, as trained", result.as_trained)):
            if found:
                values = [_measure(found.get(metric.name), metric) for metric in metrics]
                rows.append([f"  {name}", str(result.n), *values])
    return options.table(rows).splitlines()


def _profiles(record: Record) -> list[str]:
    """Draw the curves that are results, under a heading, and say what their axes are."""
    curves = {name: [math.nan if y is None else y for y in one.y] for name, one in record.profiles.items()}
    lines = _draw(curves, "profiles")
    for one in record.task.profiles:
        x = record.profiles[one.name].x if one.name in record.profiles else ()
        if x:
            unit = f" ({one.metric.unit})" if one.metric.unit else ""
            ends = f"at {len(x)} places from {x[0]:.4g} to {x[-1]:.4g}"
            lines.append(clean(f"  {one.name}: {one.metric.name}{unit} along {one.along}, {ends}"))
    return lines


def _sharpness(found: Sharpness, task: Description) -> tuple[str, list[str]]:
    """Write heading and rows of the measures; those that another code made say which."""
    metrics = {metric.name: metric for metric in task.metrics}
    on = [f"{name} {_measure(value, metrics.get(name))}" for name, value in found.metrics.items()]
    names = ["value", "se_probes", "se_examples", "n", "probes", "version", "estimator"]
    rows = [["  measure", *(name.replace("_", " ") for name in names)]]
    notes = []
    for measure, estimate in found.measures.items():
        rows.append([f"  {measure}", *(_number(getattr(estimate, name)) for name in names)])
        if estimate.reason:
            notes.append(f"  {measure} has no value: {estimate.reason}")
        if (origin := estimate.origin) is not None:
            commit = origin.git_commit or "no commit"
            tree = f"{origin.source_tree[:12]} ({commit})"
            notes.append(f"  {measure} is of source tree {tree}, {origin.fingerprint}")
    heading = f"sharpness, on {found.n} training examples ({', '.join(on)})"
    return heading, [*options.table(rows).splitlines(), *map(clean, notes)]


def _measure(value: float | None, metric: Metric | None) -> str:
    """Write a number with the unit of its metric, a fraction as percent."""
    unit = metric.unit if metric else ""
    if value is None:
        return "-"
    return f"{100 * value:.2f} %" if unit == PERCENT else f"{_number(value)} {unit}".rstrip()


# -- the curves --------------------------------------------------------------------------------------


def _columns(rows: Sequence[Row], task: Description | None) -> list[str]:
    """List the curves of the rows: metrics and the columns of the task as declared, then all others."""
    declared: list[str] = []
    if task is not None:
        splits = ("train", *([task.validation] if task.validation else []))
        declared += [f"{split}_{metric.name}" for metric in task.metrics for split in splits]
        declared += [column.name for column in task.columns]
    there = list(dict.fromkeys(key for row in rows for key in row if key not in _PLACES))
    return [*(key for key in declared if key in there), *(key for key in there if key not in declared)]


def _table(rows: Sequence[Row], columns: Sequence[str]) -> list[str]:
    keys = [*_PLACES, *columns]
    return ["curve", options.table([keys, *([_number(row.get(key)) for key in keys] for row in rows)])]


def _drawings(rows: Sequence[Row], columns: Sequence[str]) -> list[str]:
    heading = f"curves, epochs {rows[0].get('epoch')} to {rows[-1].get('epoch')}"
    curves = {key: [_point(row, key) for row in rows] for key in columns}
    return [*_draw(curves, heading), "  (--curve prints the numbers of every epoch)"]


def _draw(curves: Mapping[str, Sequence[float | None]], heading: str) -> list[str]:
    """Draw each curve next to its least, greatest and last value; None is where it has no point."""
    facts = {
        key: _extremes([value for value in values if value is not None]) for key, values in curves.items()
    }
    names = max(map(len, curves), default=0)
    widths = [max((len(fact[i]) for fact in facts.values()), default=0) for i in range(3)]
    room = options.columns() - 1 - (2 + names + 2 + 3 * 2 + sum(widths))
    n_points = max(map(len, curves.values()), default=0)
    width = max(_MIN_SPARK, min(_MAX_SPARK, room, n_points))
    marks = levels(options.encoding())
    head = "  ".join(word.rjust(w) for word, w in zip(("min", "max", "last"), widths, strict=True))
    lines = [f"{heading:<{4 + names + width}}  {head}"]
    for key, values in curves.items():
        cells = "  ".join(text.rjust(w) for text, w in zip(facts[key], widths, strict=True))
        drawing = sparkline(values, width, marks, sparse=True)
        lines.append(f"  {key:<{names}}  {drawing:<{width}}  {cells}")
    return lines


def _extremes(values: Sequence[float]) -> tuple[str, str, str]:
    """Write least, greatest and last value; a dash for one that is not finite."""
    known = [value for value in values if math.isfinite(value)]
    if not known:
        return "-", "-", "-"
    last = f"{values[-1]:.4g}" if math.isfinite(values[-1]) else "-"
    return f"{min(known):.4g}", f"{max(known):.4g}", last


def _point(row: Row, key: str) -> float | None:
    """Return a value; NaN where it was taken and is not finite, as a file has no such number."""
    value = row.get(key)
    if isinstance(value, int | float) and math.isfinite(value):
        return float(value)
    return math.nan if key in row else None


# -- plain data --------------------------------------------------------------------------------------


def _entry(entry: EntryRef) -> dict[str, Any]:
    source = {"plugin_source": entry.plugin_source} if entry.plugin_source else {}
    return {"name": entry.name, "version": entry.version, **source, **entry.params}


def _tree(values: Mapping[str, Any], depth: int = 1) -> list[str]:
    lines = []
    for key, value in values.items():
        if isinstance(value, Mapping):
            lines += [f"{'  ' * depth}{clean(key)}", *_tree(value, depth + 1)]
        else:
            lines.append(f"{'  ' * depth}{clean(key)}: {_number(value)}")
    return lines


def _event(event: Mapping[str, Any]) -> str:
    rest = ", ".join(f"{k}={v}" for k, v in event.items() if k not in ("attempt", "event", "time"))
    return clean(f"  attempt {event.get('attempt')}: {event.get('event')}" + (f" ({rest})" if rest else ""))


def _number(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:.6g}" if isinstance(value, float) else clean(str(value))
