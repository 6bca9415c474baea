"""Finds runs in published records, so that a sweep need not repeat them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from suite.entries.registry import Registry
from suite.publishing.published import read_records
from suite.spec import RunSpec
from suite.store.folders import Store

IN_RECORDS = ("done in records", "failed in records")
"""States of runs that are in published records and need not be in the store."""


def recorded(
    files: Sequence[Path], wanted: Iterable[RunSpec], store: Store, registry: Registry
) -> dict[str, str]:
    """Return the state of each wanted run that the published files hold and that is not done in the store.

    A state is one of `IN_RECORDS`. A run that completed in one file is done, even if it failed in another.
    Raises SteppeError if other code of its entries made the record.
    """
    if not files:
        return {}
    run_ids = {spec.run_id for spec in wanted if not store.is_done(spec.run_id)}
    states: dict[str, str] = {}
    for path in files:
        for record in read_records(path):
            if record.run_id in run_ids:
                registry.hold(record, path)
                state = IN_RECORDS[record.failed]
                states[record.run_id] = min(state, states.get(record.run_id, state), key=IN_RECORDS.index)
    return states
