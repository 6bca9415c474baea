"""Records grouped by stratum, each run and seed once, and sentences about those left out."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from suite import PROTOCOL
from suite.records import schema
from suite.records.schema import Record
from suite.report.runs import Run, runs_of
from suite.store.index import slim
from suite.terminal.table import plural


def once(records: Iterable[Record]) -> dict[str, Record]:
    """Return one record per run id, independent of their order; completed records take precedence."""
    return {run_id: some[0] for run_id, some in _by_run(records).items()}


def _by_run(records: Iterable[Record]) -> dict[str, list[Record]]:
    """Group records by run, the chosen one first; whole and slim records sort alike."""
    found: dict[str, list[Record]] = defaultdict(list)
    for record in records:
        found[record.run_id].append(record)
    for some in found.values():
        if len(some) > 1:
            some.sort(key=lambda record: (record.status, schema.to_line(slim(record))))
    return found


def _outcome(record: Record) -> tuple[object, ...]:
    """Return the results that all records of one run must share on one machine."""
    results = {split: (one.n, one.metrics, one.as_trained) for split, one in record.results.items()}
    return record.status, results, record.facts, record.profiles


def sift(records: Iterable[Record]) -> tuple[dict[bytes, list[Run]], list[str]]:
    """Group records by stratum, each run once, in a fixed order; and describe those left out."""
    mine: list[Record] = []
    others: dict[str, set[str]] = defaultdict(set)
    for record in records:
        if record.protocol == PROTOCOL:
            mine.append(record)
        else:
            others[record.protocol].add(record.run_id)
    found = _by_run(mine)
    unlike = [
        (first, other)
        for first, *further in found.values()
        for other in further
        if _outcome(other) != _outcome(first)
    ]
    set_ups: dict[tuple[bytes, bytes, float], dict[bytes, list[Run]]] = defaultdict(lambda: defaultdict(list))
    for run in runs_of([found[run_id][0] for run_id in sorted(found)]):
        keys = run.keys
        set_ups[keys.stratum, keys.optimizer, keys.epochs][keys.set_up].append(run)
    strata: dict[bytes, list[Run]] = defaultdict(list)
    repeats: list[Run] = []
    for (stratum, *_), some in set_ups.items():
        kept, left = _each_seed_once(some)
        strata[stratum] += kept
        repeats += left
    left_out = [
        f"{len(some)} {plural(len(some), 'record')} of protocol {name} left out: this is {PROTOCOL}."
        for name, some in sorted(others.items())
    ]
    if unlike:
        why = "left out: the same run with other results, from another source"
        origins = [(one.provenance.origin, other.provenance.origin) for one, other in unlike]
        alike = sum(one.fingerprint == other.fingerprint for one, other in origins)
        same = f"; {alike} of them from the same machine and software, which must not be" if alike else ""
        left_out.append(_left_out([other.failed for _, other in unlike], why, same))
    if repeats:
        why = "left out: the same seed again under another set-up"
        left_out.append(_left_out([run.failed for run in repeats], why))
    return strata, left_out


def _left_out(failed: Sequence[bool], why: str, more: str = "") -> str:
    lost = f"; {sum(failed)} of them failed" if any(failed) else ""
    return f"{len(failed)} {plural(len(failed), 'record')} {why}{lost}{more}."


def _each_seed_once(set_ups: Mapping[bytes, list[Run]]) -> tuple[list[Run], list[Run]]:
    """Choose a run for each seed, and return the other runs too.

    All runs of the set-up with most seeds are chosen, so that a row mixes as few machines as possible; other
    set-ups supply missing seeds.
    """
    chosen: dict[int, Run] = {}
    left: list[Run] = []
    for _, runs in sorted(set_ups.items(), key=lambda one: (-len(one[1]), one[0])):
        left += [run for run in runs if run.seed in chosen]
        chosen = {run.seed: run for run in runs} | chosen
    return [*chosen.values()], left
