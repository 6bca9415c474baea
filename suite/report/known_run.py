"""Everything that a store and a scheduler know about one run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any

import msgspec

from suite.entries.registry import Registry
from suite.metric import Description
from suite.records.schema import Record
from suite.report.commands import run_command
from suite.spec import RunSpec
from suite.status.queue_poller import QueueState
from suite.status.scheduler import Placed
from suite.store.folders import RunFolder

Row = Mapping[str, Any]
"""A row of metrics.jsonl."""


@dataclass(frozen=True)
class KnownRun:
    """Everything that the store and the scheduler know about a run."""

    run_id: str
    path: str
    status: str
    spec: RunSpec
    command: str
    """The command that reproduces the run, or the reason why none does."""
    record: Record | None = None
    task: Description | None = None
    """The description of its task; None before the first attempt wrote it."""
    rows: Sequence[Row] = ()
    events: Sequence[Mapping[str, Any]] = ()
    run_error: Mapping[str, Any] = field(default_factory=dict)
    """Why it ended without a record; empty if it is running again or has a record."""
    placed: Placed | None = None
    silent: str = ""
    """Why its place in the queue is unknown; empty if the scheduler answered."""

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for --json; the record without its spec and the correctness of examples."""
        record: dict[str, Any] = {}
        if self.record is not None:
            replace = msgspec.structs.replace
            results = {split: replace(result, right={}) for split, result in self.record.results.items()}
            record = msgspec.to_builtins(replace(self.record, results=results))
            del record["spec"]
        return {
            **{name: getattr(self, name) for name in ("run_id", "path", "status", "command", "events")},
            "placed": asdict(self.placed) if self.placed else {},
            "scheduler_silent": self.silent,
            "error": self.run_error,
            "spec": self.spec.to_dict(),
            "task": msgspec.to_builtins(self.task),
            "record": record,
            "curve": self.rows,
        }


def gather(folder: RunFolder, registry: Registry, queue: QueueState) -> KnownRun:
    """Collect spec, status, record, curves, events, command and place in the queue of a run."""
    spec, record, status = folder.spec(), folder.record(), folder.status()
    return KnownRun(
        run_id=folder.run_id,
        path=str(folder.path),
        status=status,
        spec=spec,
        command=run_command(spec, registry),
        record=record,
        task=record.task if record else folder.description(),
        rows=folder.metrics(),
        events=list(folder.events()),
        run_error=_error_of(folder) if status == "error" else {},
        placed=queue.placed.get(folder.run_id),
        silent=queue.silent,
    )


def _error_of(folder: RunFolder) -> dict[str, Any]:
    run_error = folder.error()
    if run_error is None:
        return {}
    when = datetime.fromtimestamp(run_error.time).astimezone().isoformat(timespec="seconds")
    return {key: value for key, value in {**asdict(run_error), "time": when}.items() if value != ""}
