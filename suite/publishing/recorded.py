"""Runs that published records hold, so that a sweep need not repeat them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from suite.entries.registry import Registry
from suite.publishing.published import read_records
from suite.spec import RunSpec
from suite.store.folders import Store

IN_RECORDS = ("done in records", "failed in records")
"""States of runs that published records hold, and that the store need not hold too."""


def recorded(
    files: Sequence[Path], wanted: Iterable[RunSpec], store: Store, registry: Registry
) -> dict[str, str]:
    """Return the runs that the published files hold and the store does not, each with its state.

    A state is one of `IN_RECORDS`. A run that completed in one of the files is done, whatever others say.
    Raises SteppeError where the code of its entries is not that which made the record.
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
