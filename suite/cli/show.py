"""Show one run: spec, results, provenance, curves, and the exact command that gives it.

The curves are drawn a line each, epochs from left to right, from the least value to the most. --curve prints
the numbers of every epoch instead; --json has them, too.
"""

from __future__ import annotations

import argparse
import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

from suite.cli import options
from suite.declared import Declared
from suite.errors import SteppeError
from suite.local.asker import Answer, Asker, glance
from suite.local.table import clean
from suite.registry import Registry
from suite.report.sparkline import levels, sparkline
from suite.select import arguments
from suite.sharpness import MEASURES
from suite.spec import RunSpec
from suite.store import RunFolder, Store

CURVE = ("epoch", "step", "lr", "train_loss", "train_accuracy", "validation_loss", "validation_accuracy")
DRAWN = ("train_loss", "validation_loss", "train_accuracy", "validation_accuracy", "lr")
MEASURED = (*MEASURES, "sharpness_train_loss")
"""Columns that only the epochs have at which the task measures."""
_MIN_SPARK, _MAX_SPARK = 10, 100
"""Characters of a drawn curve: narrower, the line is let wrap; wider, the eye loses it."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("run", metavar="RUN", help="the run's id, or enough of its beginning")
    options.add_store(parser)
    options.add_plugins(parser)
    parser.add_argument("--curve", action="store_true", help="the numbers of every epoch")
    options.add_json(parser)


def execute(args: argparse.Namespace) -> int:
    """Print everything that the store knows about the run, and where the scheduler has it."""
    store = Store(options.store_root(args))
    folder = store.find(args.run)
    answer = Answer({}) if store.is_done(folder.run_id) else Asker(store.root, ask=glance)()
    known = gather(folder, Declared(args.plugin), answer)
    if args.json:
        options.print_json(known)
    else:
        options.put(render(known, numbers=args.curve))
    return 0


def gather(folder: RunFolder, registry: Registry, answer: Answer) -> dict[str, Any]:
    """Collect spec, state, record, curve, events and command as plain data; `answer` is the scheduler's."""
    spec = folder.spec()
    placed = answer.placed.get(folder.run_id)
    record = dict(folder.record() or {})
    record.pop("correct", None)
    record.pop("spec", None)
    return {
        "run_id": folder.run_id,
        "path": str(folder.path),
        "status": folder.status(),
        "placed": asdict(placed) if placed else {},
        "scheduler_silent": answer.silent,
        "trouble": _trouble(folder),
        "spec": spec.to_dict(),
        "command": command(spec, registry),
        "record": record,
        "curve": folder.metrics(),
        "events": list(folder.events()),
    }


def _trouble(folder: RunFolder) -> dict[str, Any]:
    """Tell why a run ended without a record; nothing while it is at work again, or has one."""
    trouble = folder.trouble() if folder.status() == "error" else None
    if trouble is None:
        return {}
    when = datetime.fromtimestamp(trouble.time).astimezone().isoformat(timespec="seconds")
    return {key: value for key, value in {**asdict(trouble), "time": when}.items() if value != ""}


def command(spec: RunSpec, registry: Registry) -> str:
    """Write the command that gives exactly this run, or why it cannot be given any more."""
    try:
        return shlex.join(["steppe", "run", *arguments(spec, registry)])
    except SteppeError as error:
        return f"none any more: {error}"


def render(known: Mapping[str, Any], *, numbers: bool = False) -> str:
    """Write the gathered facts for a person, section by section; `numbers`: the curves as a table."""
    spec, record = known["spec"], known["record"]
    lines = [f"run {known['run_id']}: {known['status']}", f"  folder   {known['path']}"]
    if queue := _queue(known["placed"], known["scheduler_silent"]):
        lines.append(f"  queue    {clean(queue)}")
    lines += [f"  command  {clean(known['command'])}", ""]
    if known["trouble"]:
        lines += ["trouble", *_tree(known["trouble"]), ""]
    lines += ["spec", *_tree({**spec, "task": _entry(spec["task"]), "optimizer": _entry(spec["optimizer"])})]
    for section in ("failure", "results", "sharpness", "cost", "entries", "data", "provenance"):
        if record.get(section):
            lines += ["", section, *_tree(record[section])]
    if known["curve"]:
        lines += ["", *(_table(known["curve"]) if numbers else _drawings(known["curve"]))]
    if known["events"]:
        lines += ["", "events", *(_event(event) for event in known["events"])]
    return "\n".join(lines)


def _queue(placed: Mapping[str, Any], silent: str) -> str:
    """Say where the scheduler has the run; nothing where it was never handed to one."""
    if silent:
        return f"not known now: {silent}"
    if not placed:
        return ""
    reason, node, job, log, mend = (placed[key] for key in ("reason", "node", "job", "log", "mend"))
    state = placed["state"] + (f" on {node}" if node else "") + (f" ({reason})" if reason else "")
    facts = [state, job and f"job {job}", log if Path(log).is_file() else "", mend and f"`{mend}`"]
    return ", ".join(filter(None, facts))


def _table(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    keys = [key for key in (*CURVE, *MEASURED) if any(key in row for row in rows)]
    return ["curve", options.table([keys, *([_number(row.get(key)) for key in keys] for row in rows)])]


def _drawings(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Draw each curve beside its least, greatest and last value."""
    shown = [key for key in (*DRAWN, *MEASURED) if any(key in row for row in rows)]
    curves = {key: [_point(row, key) for row in rows] for key in shown}
    facts = {key: _extremes(_taken(key, values)) for key, values in curves.items()}
    names = max(map(len, curves), default=0)
    widths = [max((len(fact[i]) for fact in facts.values()), default=0) for i in range(3)]
    room = options.columns() - 1 - (2 + names + 2 + 3 * 2 + sum(widths))
    width = max(_MIN_SPARK, min(_MAX_SPARK, room, len(rows)))
    marks = levels(options.encoding())
    first, last = rows[0].get("epoch"), rows[-1].get("epoch")
    head = "  ".join(word.rjust(w) for word, w in zip(("min", "max", "last"), widths, strict=True))
    lines = [f"{f'curves, epochs {first} to {last}':<{4 + names + width}}  {head}"]
    for key, values in curves.items():
        cells = "  ".join(text.rjust(w) for text, w in zip(facts[key], widths, strict=True))
        drawing = sparkline(values, width, marks, sparse=key in MEASURED)
        lines.append(f"  {key:<{names}}  {drawing:<{width}}  {cells}")
    return [*lines, "  (--curve prints the numbers of every epoch)"]


def _taken(key: str, values: Sequence[float | None]) -> Sequence[float | None]:
    """Leave out the epochs at which a measure was not taken."""
    return [value for value in values if value is not None] if key in MEASURED else values


def _extremes(values: Sequence[float | None]) -> tuple[str, str, str]:
    known = [value for value in values if value is not None and math.isfinite(value)]
    if not known:
        return "-", "-", "-"
    last = values[-1]
    shown = "-" if last is None or math.isnan(last) else f"{last:.4g}"
    return f"{min(known):.4g}", f"{max(known):.4g}", shown


def _point(row: Mapping[str, Any], key: str) -> float | None:
    """Return a value; of a measure NaN where it was taken and is not finite, as a file has no such number."""
    value = row.get(key)
    if isinstance(value, int | float) and math.isfinite(value):
        return float(value)
    return math.nan if key in MEASURED and key in row else None


def _entry(entry: Mapping[str, Any]) -> dict[str, Any]:
    source = {"plugin_source": entry["plugin_source"]} if entry.get("plugin_source") else {}
    return {"name": entry["name"], "version": entry["version"], **source, **entry["params"]}


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
