"""List tasks, optimizers or measures; with a name, show all its declarations."""

from __future__ import annotations

import argparse
from typing import Any

import msgspec

from suite import space
from suite.cli import options
from suite.cli.arguments import Arguments
from suite.entries.registry import Found, Registry, match
from suite.metric import Description, Metric
from suite.spec import OptimizerSpec, Param, cost_of, needs_of, resolve_params
from suite.terminal import output

KINDS = ("tasks", "optimizers", "measures")

_DETAILS = {"params", "plugin", "source", "gives", *Description.__struct_fields__} - {"tier"}
"""Keys that the list of all entries leaves out."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("kind", choices=KINDS, help="what to list")
    parser.add_argument("name", nargs="?", metavar="NAME", help="a name or glob: show all its declarations")
    options.add_plugins(parser)
    options.add_json(parser)


def execute(args: Arguments) -> int:
    """Print a table of all entries, or the declarations of those that match the name."""
    rows = describe(args.cached_registry, args.kind)
    if args.name is not None:
        names = match(args.name, [row["name"] for row in rows], args.kind.removesuffix("s"))
        rows = [row for row in rows if row["name"] in names]
    if args.json:
        options.print_json(msgspec.to_builtins(rows))
        return 0
    for row in rows if args.name is not None and args.kind != "measures" else ():
        print(detail(row))
    if args.name is None or args.kind == "measures":
        keys = [key for key in rows[0] if key not in _DETAILS] if rows else ["name"]
        print(output.table([keys, *([_text(row[key]) for key in keys] for row in rows)]))
    return 0


def describe(registry: Registry, kind: str) -> list[dict[str, Any]]:
    """Return name, version, summary and parameters of every entry of one kind, as plain data."""
    if kind == "measures":
        from suite.sharpness import MEASURES

        return [{"name": name, "summary": line} for name, line in MEASURES.items()]
    entries = registry.tasks if kind == "tasks" else registry.optimizers
    return [_entry(found) for _, found in sorted(entries.items())]


def _entry(found: Found) -> dict[str, Any]:
    entry = found.entry
    row: dict[str, Any] = {"name": entry.name, "version": entry.version}
    defaults = resolve_params(entry.params, {}, entry.name)
    if isinstance(entry, OptimizerSpec):
        row |= {"cost": cost_of(entry, defaults), "needs": needs_of(entry, defaults), "source": entry.source}
    else:
        task = entry.make(**defaults)
        row |= {
            **msgspec.structs.asdict(task.description),
            "tier": entry.tier,
            "data": [data.name for data in task.data],
            "gives": sorted(task.gives),
        }
    row["summary"] = entry.summary
    row["plugin"] = found.plugin
    row["params"] = {
        name: {
            "default": defaults[name],
            "valid": valid(param),
            "search": None if param.search is None else space.to_dict(param.search),
            "help": param.help,
        }
        for name, param in entry.params.items()
    }
    return row


def valid(param: Param) -> str:
    """Describe the valid values of a parameter."""
    if param.choices:
        return "|".join(map(str, param.choices))
    return "true|false" if isinstance(param.default, bool) else param.range_text()


def detail(row: dict[str, Any]) -> str:
    """Describe an entry with all its parameters, as text."""
    lines = [f"{row['name']} (version {row['version']}): {row['summary']}", *_declared(row)]
    searched = any(p["search"] for p in row["params"].values())  # parameters of tasks are not tuned
    cells = [["  parameter", "default", "valid", *["search"] * searched, "meaning"]]
    for name, p in row["params"].items():
        search = str(space.from_dict(p["search"])) if p["search"] else ""
        cells.append([f"  {name}", _text(p["default"]), p["valid"], *[search] * searched, p["help"]])
    if len(cells) > 1:
        lines.append(output.table(cells))
    return "\n".join(lines)


def _declared(row: dict[str, Any]) -> list[str]:
    """Write the declarations of an entry other than its parameters, one per line."""
    if "gives" not in row:
        lines = [("source", row["source"]), ("needs", _text(row["needs"]))]
        return [f"  {name}: {text}" for name, text in lines if text]
    tests, validation = _text(row["tests"]), row["validation"]
    lines = [
        ("data", _text(row["data"])),
        ("metrics", ", ".join(map(_metric, row["metrics"]))),
        ("test splits", tests or "none"),
        ("validation split", validation or "none"),
        ("further splits", _text(row["extras"])),
        ("facts of a run", ", ".join(map(_metric, row["facts"]))),
        ("columns of an epoch", ", ".join(map(_metric, row["columns"]))),
        ("profiles", ", ".join(f"{one.name} along {one.along}" for one in row["profiles"])),
        ("gives", _text(row["gives"]) or "nothing that optimizers ask for"),
    ]
    return [f"  {name}: {text}" for name, text in lines if text]


def _metric(metric: Metric) -> str:
    """Write a metric with its unit, direction and scale: `accuracy (%, higher is better, log scale)`."""
    better = "" if metric.better == "neither" else f"{metric.better} is better"
    scale = "log scale" if metric.scale == "log" else ""
    facts = ", ".join(filter(None, (metric.unit, better, scale)))
    return f"{metric.name} ({facts})" if facts else metric.name


def _text(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else output.cell(value)
