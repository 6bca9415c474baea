"""One run as text for `steppe show`, section by section."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from suite.metric import PERCENT, Description, Metric
from suite.records.schema import Record, Sharpness
from suite.report.known_run import KnownRun, Row
from suite.report.sparkline import draw
from suite.spec import EntryRef
from suite.status.scheduler import Placed
from suite.terminal import output
from suite.terminal.output import cell
from suite.terminal.table import clean

_PLACES = ("epoch", "step")
"""Columns that locate a row in training; all others are curves."""

ESTIMATE = ("value", "se_probes", "se_examples", "n", "probes", "version", "estimator")
"""Fields of an estimate that tables show."""


def render(known: KnownRun, *, numbers: bool = False) -> str:
    """Write the sections of a run; with `numbers`, the curves as a table."""
    lines = [f"run {known.run_id}: {known.status}", f"  folder   {known.path}"]
    if queue := _queue(known.placed, known.silent):
        lines.append(f"  queue    {clean(queue)}")
    lines += [f"  command  {clean(known.command)}", ""]
    if known.run_error:
        lines += ["error", *_tree(known.run_error), ""]
    entries = {kind: _entry(getattr(known.spec, kind)) for kind in ("task", "optimizer")}
    lines += ["spec", *_tree(known.spec.to_dict() | entries)]
    for heading, section in _sections(known.record) if known.record is not None else ():
        lines += ["", heading, *section]
    if known.rows:
        columns = _columns(known.rows, known.task)
        lines += ["", *(_table if numbers else _drawings)(known.rows, columns)]
    if known.events:
        lines += ["", "events", *map(_event, known.events)]
    return "\n".join(lines)


def _queue(placed: Placed | None, silent: str) -> str:
    """Describe the run's place in the queue; empty if it was never submitted."""
    if silent:
        return f"unknown: {silent}"
    if placed is None:
        return ""
    node, reason = placed.node and f" on {placed.node}", placed.reason and f" ({placed.reason})"
    log = placed.log if Path(placed.log).is_file() else ""
    facts = [placed.state + node + reason, placed.job and f"job {placed.job}", log]
    return ", ".join(filter(None, [*facts, placed.hint and f"`{placed.hint}`"]))


# -- the record --------------------------------------------------------------------------------------


def _sections(record: Record) -> Iterator[tuple[str, list[str]]]:
    """Yield heading and lines of each part of a record that is not empty."""
    plain = msgspec.to_builtins(record)
    if record.failure is not None:
        yield "failure", _tree(plain["failure"])
    if record.results:
        yield "results", _results(record)
    if record.facts:
        facts = [f"  {one.name}: {_measure(record.facts.get(one.name), one)}" for one in record.task.facts]
        yield "facts", facts
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
    """Write a row per split, and another if BatchNorm was also evaluated with its training statistics."""
    metrics = record.task.metrics
    rows = [["  split", "n", *(metric.name for metric in metrics)]]
    for split, result in record.results.items():
        for name, found in ((split, result.metrics), (f"{split}, as trained", result.as_trained)):
            if found:
                values = [_measure(found.get(metric.name), metric) for metric in metrics]
                rows.append([f"  {name}", str(result.n), *values])
    return output.table(rows).splitlines()


def _profiles(record: Record) -> list[str]:
    """Draw the profiles under a heading and describe their axes."""
    curves = {name: [math.nan if y is None else y for y in one.y] for name, one in record.profiles.items()}
    lines = draw(curves, "profiles")
    for one in record.task.profiles:
        x = record.profiles[one.name].x if one.name in record.profiles else ()
        if x:
            unit = f" ({one.metric.unit})" if one.metric.unit else ""
            ends = f"at {len(x)} places from {x[0]:.4g} to {x[-1]:.4g}"
            lines.append(clean(f"  {one.name}: {one.metric.name}{unit} along {one.along}, {ends}"))
    return lines


def _sharpness(found: Sharpness, task: Description) -> tuple[str, list[str]]:
    """Write heading and rows of the measures, with the origin of those that were measured again."""
    metrics = {metric.name: metric for metric in task.metrics}
    on = [f"{name} {_measure(value, metrics.get(name))}" for name, value in found.metrics.items()]
    rows = [["  measure", *(name.replace("_", " ") for name in ESTIMATE)]]
    notes = []
    for measure, estimate in found.measures.items():
        rows.append([f"  {measure}", *(cell(getattr(estimate, name)) for name in ESTIMATE)])
        if estimate.reason:
            notes.append(f"  {measure} has no value: {estimate.reason}")
        if (origin := estimate.origin) is not None:
            tree = f"{origin.source_tree[:12]} ({origin.git_commit or 'no commit'})"
            notes.append(f"  {measure} is of source tree {tree}, {origin.fingerprint}")
    heading = f"sharpness, on {found.n} training examples ({', '.join(on)})"
    return heading, [*output.table(rows).splitlines(), *map(clean, notes)]


def _measure(value: float | None, metric: Metric | None) -> str:
    """Write a value with the unit of its metric, a fraction as a percentage."""
    if value is None or metric is None:
        return cell(value)
    return f"{100 * value:.2f} %" if metric.unit == PERCENT else f"{cell(value)} {metric.unit}".rstrip()


# -- the curves --------------------------------------------------------------------------------------


def _columns(rows: Sequence[Row], task: Description | None) -> list[str]:
    """List the curves of the rows: first those that the task declares, then the others."""
    declared: list[str] = []
    if task is not None:
        splits = ("train", *([task.validation] if task.validation else []))
        declared += [f"{split}_{metric.name}" for metric in task.metrics for split in splits]
        declared += [column.name for column in task.columns]
    there = dict.fromkeys(key for row in rows for key in row if key not in _PLACES)
    return [*(key for key in declared if key in there), *(key for key in there if key not in declared)]


def _table(rows: Sequence[Row], columns: Sequence[str]) -> list[str]:
    keys = [*_PLACES, *columns]
    return ["curve", output.table([keys, *([cell(row.get(key)) for key in keys] for row in rows)])]


def _drawings(rows: Sequence[Row], columns: Sequence[str]) -> list[str]:
    heading = f"curves, epochs {rows[0].get('epoch')} to {rows[-1].get('epoch')}"
    curves = {key: [_point(row, key) for row in rows] for key in columns}
    return [*draw(curves, heading), "  (--curve prints the numbers of every epoch)"]


def _point(row: Row, key: str) -> float | None:
    """Return a value, or NaN for one that was not finite: a file stores it as null or text."""
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
        nested = isinstance(value, Mapping)
        lines.append(f"{'  ' * depth}{clean(key)}" + ("" if nested else f": {cell(value)}"))
        lines += _tree(value, depth + 1) if nested else []
    return lines


def _event(event: Mapping[str, Any]) -> str:
    rest = ", ".join(f"{k}={v}" for k, v in event.items() if k not in ("attempt", "event", "time"))
    return clean(f"  attempt {event.get('attempt')}: {event.get('event')}" + (f" ({rest})" if rest else ""))
