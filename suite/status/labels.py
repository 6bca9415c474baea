"""Short names of tasks and optimizers that distinguish the runs of a table."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from suite.spec import EntryRef, RunSpec


def labels(specs: Iterable[RunSpec]) -> list[tuple[str, str]]:
    """Name task and optimizer of each spec, with the parameters that differ between specs of the same name.

    Defaults are not looked up, as loading an entry imports torch.
    """
    pairs = [(spec.task, spec.optimizer) for spec in specs]
    tasks, optimizers = (_labels(pair[i] for pair in pairs) for i in range(2))
    return list(zip(tasks, optimizers, strict=True))


def _labels(entries: Iterable[EntryRef]) -> list[str]:
    """Name each entry. Thousands of runs share a few entries, so each distinct entry is named once."""
    keys: list[tuple[str, str]] = []
    distinct: dict[tuple[str, str], EntryRef] = {}
    for entry in entries:
        keys.append((entry.name, repr(entry.params)))
        distinct.setdefault(keys[-1], entry)
    differing = _differing(distinct.values())
    named = {key: _label(entry, differing[entry.name]) for key, entry in distinct.items()}
    return [named[key] for key in keys]


def _differing(entries: Iterable[EntryRef]) -> dict[str, set[str]]:
    values: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for entry in entries:
        own = values[entry.name]
        for key, value in entry.params.items():
            own[key].add(repr(value))
    return {name: {key for key, some in own.items() if len(some) > 1} for name, own in values.items()}


def _label(entry: EntryRef, shown: set[str]) -> str:
    params = {key: value for key, value in entry.params.items() if key in shown}
    return EntryRef(entry.name, entry.version, params).label()
