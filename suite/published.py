"""Published records: what may be committed of a run's record, and what can be checked of it.

A published file holds one record a line as canonical JSON, at most 10 kB each, sorted by run id. Whoever
reads one checks all of it: a leaderboard accepts and refuses exactly what `steppe validate` does. Nothing
here loads torch.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec

from suite import schema
from suite.errors import SteppeError
from suite.lineage import check_origin
from suite.metric import PERCENT, Metric
from suite.schema import Cost, Record, SplitResult
from suite.sharpness.recorded import contradictions

MAX_BYTES = 10_000
_HINT = "restore the line, or publish the run again"

_ROUNDING = 1e-9
"""Counts over examples and sums of costs are exact up to the rounding of a few float operations."""


def publishable(record: Record) -> Record:
    """Return the record as it may be published: where it is over 10 kB, without the largest evidence.

    Raises SteppeError where that is not enough.
    """
    while (size := len(schema.to_line(record))) > MAX_BYTES:
        kept = [
            (len(bits), split, name)
            for split, result in record.results.items()
            for name, bits in result.right.items()
        ]
        if not kept:
            raise SteppeError(
                f"the record of run {record.run_id} has {size} bytes; {MAX_BYTES} may be published"
            )
        _, split, name = max(kept)
        result = record.results[split]
        right = {other: bits for other, bits in result.right.items() if other != name}
        results = {**record.results, split: msgspec.structs.replace(result, right=right)}
        record = msgspec.structs.replace(record, results=results)
    return record


@dataclass(frozen=True)
class Examined:
    """A published file: its sound records, and a line about everything that is wrong."""

    path: Path
    records: tuple[Record, ...]
    problems: tuple[str, ...]


def examine(path: Path) -> Examined:
    """Read a published file and check every line of it."""
    records: list[Record] = []
    problems: list[str] = []
    for where, line in _lines(path):
        try:
            record = schema.read(line, where, _HINT)
            defect = next(_defects(record, len(line) + 1), None)
            if defect is not None:
                raise SteppeError(f"{where}: {defect}: {_HINT}")
        except SteppeError as error:
            problems.append(str(error))
        else:
            records.append(record)
    ids = [record.run_id for record in records]
    if ids != sorted(set(ids)):
        problems.append(f"{path}: run ids are not in order or not unique; publish the runs again")
    return Examined(path, tuple(records), tuple(problems))


def read_records(path: Path) -> Iterator[Record]:
    """Read a published file; SteppeError names the first line that `steppe validate` would name."""
    found = examine(path)
    if found.problems:
        more = len(found.problems) - 1
        also = f" (and {more} more: `steppe validate {path}` lists them)" if more else ""
        raise SteppeError(f"{found.problems[0]}{also}")
    return iter(found.records)


def _lines(path: Path) -> Iterator[tuple[str, bytes]]:
    """Read the lines of a published file one by one, each with its `file:number`."""
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                yield f"{path}:{number}", line.rstrip(b"\n")
    except OSError as error:
        raise SteppeError(f"cannot read {path}: {error.strerror or error}") from error


# -- what can be checked -----------------------------------------------------------------------------


def _defects(record: Record, size: int) -> Iterator[str]:
    """Yield what is false in a record that fits the schema; later ones assume that the first is corrected."""
    if size > MAX_BYTES:
        yield f"it has {size} bytes; {MAX_BYTES} may be published"
    for key in ("protocol", "engine"):
        mine, of_spec = getattr(record, key), getattr(record.spec, key)
        if mine != of_spec:
            yield f"{key} is {mine!r}, that of its spec is {of_spec!r}"
    if record.failed:
        full = [key for key in ("results", "facts", "profiles", "sharpness") if getattr(record, key)]
        yield from (f"{key} is not empty, but the run failed" for key in full)
    if record.failed != (record.failure is not None):
        yield f"failure does not fit its status, {record.status}"
    yield from _false_cost(record)
    if not record.failed:
        yield from _false_results(record)
        if record.sharpness is not None:
            yield from contradictions(record.sharpness)
    yield from check_origin(record)


def _false_cost(record: Record) -> Iterator[str]:
    cost: Cost = record.cost
    total = cost.gradients + cost.losses / 3 + cost.function
    if not math.isclose(cost.sample_gradients, total, rel_tol=_ROUNDING):
        yield f"cost.sample_gradients is {cost.sample_gradients:g}, its parts add up to {total:g}"
    planned = record.spec.epochs * cost.n_train * cost.declared
    # A budget is a whole number of steps and the last batch of an epoch may be smaller: up to two steps. What
    # the loss as a function costs is counted in operations, of which a declaration is a round number.
    slack = 2 * cost.sample_gradients / max(1, cost.steps) + (0.05 * planned if cost.function else 0.0)
    if not record.failed and abs(cost.sample_gradients - planned) > slack + _ROUNDING * planned:
        yield (
            f"cost.sample_gradients is {cost.sample_gradients:g}, but {record.spec.epochs:g} epochs of "
            f"{cost.n_train} examples at {cost.declared:g} each are {planned:g}"
        )


def _false_results(record: Record) -> Iterator[str]:
    task = record.task
    if set(record.results) != set(task.evaluated):
        yield (
            f"results has the splits {', '.join(sorted(record.results)) or 'none'}; its task evaluates "
            f"{', '.join(task.evaluated)}"
        )
        return
    metrics = {metric.name: metric for metric in task.metrics}
    counted = {name for result in record.results.values() for name in result.right}
    for split, result in record.results.items():
        for part in ("metrics", "as_trained"):
            values: Mapping[str, float | None] = getattr(result, part)
            if values or part == "metrics":
                yield from _false_values(f"results.{split}.{part}", values, metrics)
            yield from _no_counts(f"results.{split}.{part}", values, counted, result.n)
        yield from _false_evidence(split, result, metrics)
    if record.score() is None:
        yield f"results.{task.scored}.metrics.{task.primary.name} is null, but the run completed"
    yield from _false_values("facts", record.facts, {metric.name: metric for metric in task.facts})
    declared = {profile.name for profile in task.profiles}
    if set(record.profiles) != declared:
        given = ", ".join(record.profiles) or "none"
        yield f"profiles has {given}; declared are {', '.join(declared) or 'none'}"
    for name, curve in record.profiles.items():
        if len(curve.x) != len(curve.y):
            yield f"profiles.{name} has {len(curve.x)} places for {len(curve.y)} values"
    if record.sharpness is not None:
        sharpness = record.sharpness
        yield from _no_counts("sharpness.metrics", sharpness.metrics, counted, sharpness.n)


def _false_values(
    where: str, values: Mapping[str, float | None], metrics: Mapping[str, Metric]
) -> Iterator[str]:
    missing, unknown = sorted(metrics.keys() - values.keys()), sorted(values.keys() - metrics.keys())
    yield from (f"{where}.{name} is missing: its task declares it" for name in missing)
    yield from (f"{where}.{name} is nothing that its task declares" for name in unknown)
    for name, value in values.items():
        metric = metrics.get(name)
        if metric is None or value is None:
            continue
        if metric.unit == PERCENT and metric.scale == "linear" and not 0 <= value <= 1:
            yield f"{where}.{name} is {value:g}; valid: a fraction from 0 to 1"
        if metric.scale == "log" and value < 0:
            yield f"{where}.{name} is {value:g}; valid on its log scale: at least 0"


def _no_counts(where: str, values: Mapping[str, float | None], counted: set[str], n: int) -> Iterator[str]:
    """Hold what is the share of right examples to being a whole number of them."""
    for name in sorted(counted & values.keys()):
        value = values[name]
        if value is not None and abs(value * n - round(value * n)) > _ROUNDING * n:
            yield f"{where}.{name} is {value:g}, which is no whole number of {n} examples"


def _false_evidence(split: str, result: SplitResult, metrics: Mapping[str, Metric]) -> Iterator[str]:
    for name, bits in result.right.items():
        where = f"results.{split}.right.{name}"
        if name not in metrics:
            yield f"{where} is of nothing that its task declares"
            continue
        try:
            n_right = int.from_bytes(schema.unpack_right(bits, result.n), "big").bit_count()
        except (ValueError, zlib.error) as error:
            yield f"{where} is damaged: {error}"
            continue
        claimed = result.metrics.get(name)
        if claimed is None or abs(claimed - n_right / result.n) > _ROUNDING:
            yield (
                f"results.{split}.metrics.{name} is {claimed}, but {n_right} of {result.n} stored examples "
                f"are right"
            )


def recounted(records: Iterable[Record]) -> tuple[set[str], set[str]]:
    """Return which results stored examples prove, and which the records only claim, as `split.metric`."""
    proven: set[str] = set()
    claimed: set[str] = set()
    for record in records:
        for split, result in record.results.items():
            for name in result.metrics:
                (proven if name in result.right else claimed).add(f"{split}.{name}")
    return proven - claimed, claimed
