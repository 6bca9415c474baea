"""One run as data for its page: what may be shown of it, and nothing that names a machine or a path."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from suite.errors import SteppeError
from suite.published import FIELDS, PROVENANCE
from suite.spec import RunSpec
from suite.store import Store

_HIDDEN = {"correct", "run_id", "record_version"}
_EVENT = ("attempt", "event", "why", "status", "step")


@dataclass(frozen=True)
class Material:
    """What a site is made of beside the tables."""

    records: Mapping[str, Mapping[str, Any]]
    """By run id; of a store, the slim ones."""
    store: Store | None
    """Where curves, events and the rest of each record lie; None for published records."""
    command: Callable[[RunSpec], str]
    """Write the command that gives a run."""
    commands: Callable[[Sequence[RunSpec]], Sequence[str]]
    """Write the fewest commands that give these runs."""


@dataclass(frozen=True)
class RunData:
    """The record of a run and, where there is a store, its curve and events."""

    run_id: str
    record: Mapping[str, Any]
    rows: Sequence[Mapping[str, Any]]
    events: Sequence[Mapping[str, Any]]
    stored: bool
    """Whether it comes from a store; published records have neither curve nor events."""


def read(material: Material, run_id: str) -> RunData:
    """Read one run; a folder damaged or deleted since the listing leaves what the listing knew."""
    record = material.records[run_id]
    if material.store is None:
        return RunData(run_id, record, (), (), stored=False)
    folder = material.store.run(run_id)
    try:
        found = folder.record() or record
        return RunData(run_id, found, folder.metrics(), list(folder.events()), stored=True)
    except (SteppeError, OSError):
        return RunData(run_id, record, (), (), stored=True)


def shown(data: RunData, command: str) -> dict[str, Any]:
    """Pick what the page of a run shows, as JSON data; rows of the curve become columns."""
    record = data.record
    out = {key: record[key] for key in FIELDS if key in record and key not in _HIDDEN}
    provenance = record.get("provenance") or {}
    out["provenance"] = {key: provenance[key] for key in PROVENANCE if key in provenance}
    names = list(dict.fromkeys(name for row in data.rows for name in row))
    return out | {
        "id": data.run_id,
        "command": command,
        "curve": {name: [row.get(name) for row in data.rows] for name in names},
        "events": [_event(event) for event in data.events],
        "stored": data.stored,
    }


def _event(event: Mapping[str, Any]) -> dict[str, Any]:
    out = {key: event[key] for key in _EVENT if key in event}
    try:
        moment = datetime.fromtimestamp(float(event["time"]), UTC)
    except (KeyError, TypeError, ValueError, OverflowError, OSError):
        return out
    return out | {"time": moment.strftime("%Y-%m-%d %H:%M:%S UTC")}
