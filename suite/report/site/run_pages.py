"""One run as data for its page, without host names and paths."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import msgspec

from suite.entries.registry import Registry
from suite.errors import SteppeError
from suite.records.schema import Record
from suite.report.columns import columns
from suite.report.commands import run_command
from suite.report.site.plots import kind
from suite.store.folders import Store
from suite.store.index import slim

_EVENT = ("attempt", "event", "why", "status", "step")


@dataclass(frozen=True)
class Material:
    """The data of a site besides the tables."""

    records: Mapping[str, Record]
    """By run id; slim if from a store."""
    store: Store | None
    """Source of curves, events and whole records; None for published records."""
    registry: Registry
    """The entries, for the commands that reproduce runs."""


@dataclass(frozen=True)
class RunData:
    """The record of a run and, from a store, its curve and events."""

    run_id: str
    record: Record
    rows: Sequence[Mapping[str, Any]]
    events: Sequence[Mapping[str, Any]]
    stored: bool
    """Whether it was read from a store; published records have neither curve nor events."""


def read(material: Material, run_id: str) -> RunData:
    """Read one run; only the listed record if its folder is damaged, missing or has another record."""
    record = material.records[run_id]
    if material.store is not None:
        folder = material.store.run(run_id)
        with contextlib.suppress(SteppeError, OSError):
            found = folder.record()
            if found is not None and slim(found) == slim(record):  # else the published record differs
                return RunData(run_id, found, folder.metrics(), list(folder.events()), stored=True)
    return RunData(run_id, record, (), (), stored=False)


def shown(data: RunData, registry: Registry) -> dict[str, Any]:
    """Return the JSON data of a run's page; rows of the curve become columns."""
    record = slim(data.record)
    kept = {"provenance": data.record.provenance, "sharpness": data.record.sharpness}
    whole: dict[str, Any] = msgspec.to_builtins(msgspec.structs.replace(record, **kept))
    names = list(dict.fromkeys(name for row in data.rows for name in row))
    hidden = ("run_id", "record_version", "task")
    return {key: value for key, value in whole.items() if key not in hidden} | {
        "id": data.run_id,
        "kind": kind(record.task),
        "shown": [list(pair) for pair in _shown(record)],
        "command": run_command(record.spec, registry),
        "curve": {name: [row.get(name) for row in data.rows] for name in names},
        "events": [_event(event) for event in data.events],
        "stored": data.stored,
    }


def _shown(record: Record) -> Iterator[tuple[str, str]]:
    """Yield title and formatted value of each result."""
    if record.failed:
        return
    for column in columns(record.task, [record]):
        value = column.read(record)
        shown = "-" if value is None else column.with_unit(column.value(column.metric.on_scale(value)))
        yield column.words, shown


def score_of(record: Record) -> str:
    """Return the formatted score of a run, with its unit."""
    return next((value for _, value in _shown(record)), "-")


def _event(event: Mapping[str, Any]) -> dict[str, Any]:
    out = {key: event[key] for key in _EVENT if key in event}
    try:
        moment = datetime.fromtimestamp(float(event["time"]), UTC)
    except (KeyError, TypeError, ValueError, OverflowError, OSError):
        return out
    return out | {"time": moment.strftime("%Y-%m-%d %H:%M:%S UTC")}
