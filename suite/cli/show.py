"""Show one run: spec, results, provenance, curve, and the exact command that gives it."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Mapping
from typing import Any

from suite.cli import options
from suite.errors import SteppeError
from suite.registry import Registry
from suite.select import arguments
from suite.spec import RunSpec
from suite.store import RunFolder, Store

CURVE = ("epoch", "step", "lr", "train_loss", "train_accuracy", "validation_loss", "validation_accuracy")


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("run", metavar="RUN", help="the run's id, or enough of its beginning")
    options.add_store(parser)
    options.add_plugins(parser)
    options.add_json(parser)


def execute(args: argparse.Namespace) -> int:
    """Print everything that the store knows about the run."""
    folder = Store(options.store_root(args)).find(args.run)
    known = gather(folder, options.registry(args))
    if args.json:
        options.print_json(known)
    else:
        print(render(known))
    return 0


def gather(folder: RunFolder, registry: Registry) -> dict[str, Any]:
    """Collect spec, state, record, curve, events and command as plain data."""
    spec = folder.spec()
    record = dict(folder.result() or {})
    record.pop("correct", None)
    record.pop("spec", None)
    return {
        "run_id": folder.run_id,
        "path": str(folder.path),
        "status": folder.status(),
        "spec": spec.to_dict(),
        "command": command(spec, registry),
        "record": record,
        "curve": folder.metrics(),
        "events": list(folder.events()),
    }


def command(spec: RunSpec, registry: Registry) -> str:
    """Write the command that gives exactly this run, or why it cannot be given any more."""
    try:
        return shlex.join(["steppe", "run", *arguments(spec, registry)])
    except SteppeError as error:
        return f"none any more: {error}"


def render(known: Mapping[str, Any]) -> str:
    """Write the gathered facts for a person, section by section."""
    spec, record = known["spec"], known["record"]
    lines = [f"run {known['run_id']}: {known['status']}", f"  folder   {known['path']}"]
    lines += [f"  command  {known['command']}", ""]
    lines += ["spec", *_tree({**spec, "task": _entry(spec["task"]), "optimizer": _entry(spec["optimizer"])})]
    for section in ("failure", "results", "sharpness", "cost", "entries", "data", "provenance"):
        if record.get(section):
            lines += ["", section, *_tree(record[section])]
    if known["curve"]:
        keys = [key for key in CURVE if any(key in row for row in known["curve"])]
        rows = [[_number(row.get(key)) for key in keys] for row in known["curve"]]
        lines += ["", "curve", options.table([keys, *rows])]
    if known["events"]:
        lines += ["", "events", *(_event(event) for event in known["events"])]
    return "\n".join(lines)


def _entry(entry: Mapping[str, Any]) -> dict[str, Any]:
    source = {"plugin_source": entry["plugin_source"]} if entry.get("plugin_source") else {}
    return {"name": entry["name"], "version": entry["version"], **source, **entry["params"]}


def _tree(values: Mapping[str, Any], depth: int = 1) -> list[str]:
    lines = []
    for key, value in values.items():
        if isinstance(value, Mapping):
            lines += [f"{'  ' * depth}{key}", *_tree(value, depth + 1)]
        else:
            lines.append(f"{'  ' * depth}{key}: {_number(value)}")
    return lines


def _event(event: Mapping[str, Any]) -> str:
    rest = ", ".join(f"{k}={v}" for k, v in event.items() if k not in ("attempt", "event", "time"))
    return f"  attempt {event.get('attempt')}: {event.get('event')}" + (f" ({rest})" if rest else "")


def _number(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:.6g}" if isinstance(value, float) else str(value)
