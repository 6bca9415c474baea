"""Published records: trims records for publication, reads published files and validates them.

A published file has one record per line as canonical JSON, at most 10 kB each, sorted by run id. Every
reader checks the whole file: a leaderboard accepts and refuses exactly what `steppe validate` does. Loads
no torch.
"""

from __future__ import annotations

import math
import re
import zlib
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from suite.errors import SteppeError
from suite.metric import LOSS, PERCENT, Description, Metric
from suite.publishing.lineage import check_origin
from suite.records import schema
from suite.records.schema import Cost, Provenance, Record, SplitResult
from suite.sharpness.recorded import contradictions

MAX_BYTES = 10_000
_HINT = "restore the line, or run it again and publish that"
_COMMIT = "(?:[0-9a-f]{40}|[0-9a-f]{64})(?:-dirty)?"

_LARGEST = 1e100
"""Sums and squares of larger numbers overflow in a table."""
_ROUNDING = 1e-9
"""Tolerance of counts over examples and sums of costs: the rounding of a few float operations."""


def publishable(record: Record) -> Record:
    """Return the record for publication: if it is over 10 kB, without the largest evidence.

    Raises SteppeError if the record is still over 10 kB or is invalid.
    """
    while len(schema.to_line(record)) > MAX_BYTES:
        kept = [
            (len(bits), split, name)
            for split, result in record.results.items()
            for name, bits in result.right.items()
        ]
        if not kept:
            break
        _, split, name = max(kept)
        result = record.results[split]
        right = {other: bits for other, bits in result.right.items() if other != name}
        results = {**record.results, split: msgspec.structs.replace(result, right=right)}
        record = msgspec.structs.replace(record, results=results)
    if defect := _defect(record, len(schema.to_line(record))):
        raise SteppeError(f"the record of run {record.run_id} cannot be published: {defect}")
    return record


@dataclass(frozen=True)
class Examined:
    """A published file: its valid records, and one line per problem."""

    path: Path
    records: tuple[Record, ...]
    problems: tuple[str, ...]


def examine(path: Path) -> Examined:
    """Read a published file and check every line."""
    records: list[Record] = []
    problems: list[str] = []
    last, where = "", ""
    for where, line in _lines(path):
        try:
            record = schema.read(line, where, _HINT)
            if defect := _defect(record, len(line)) or _miswritten(record, line):
                raise SteppeError(f"{where}: {defect}: {_HINT}")
            if record.run_id <= last:
                twice = "stands twice" if record.run_id == last else f"does not come after {last}"
                raise SteppeError(f"{where}: run {record.run_id} {twice}: sort the lines by run, each once")
            last = record.run_id
        except SteppeError as error:
            problems.append(str(error))
        else:
            records.append(record)
    if not where:
        problems.append(f"{path} holds no record: delete it, or name a file that `steppe publish` wrote")
    return Examined(path, tuple(records), tuple(problems))


def read_records(path: Path) -> Iterator[Record]:
    """Read a published file; SteppeError with the first problem that `steppe validate` reports."""
    found = examine(path)
    if found.problems:
        more = len(found.problems) - 1
        also = f" (and {more} more: `steppe validate {path}` lists them)" if more else ""
        raise SteppeError(f"{found.problems[0]}{also}")
    return iter(found.records)


def _lines(path: Path) -> Iterator[tuple[str, bytes]]:
    """Yield the lines of a published file, each with its `file:number`."""
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                yield f"{path}:{number}", line
    except OSError as error:
        raise SteppeError(f"cannot read {path}: {error.strerror or error}") from error


# -- validation --------------------------------------------------------------------------------------


def _defect(record: Record, size: int) -> str:
    """Return the first error of a record that fits the schema; empty if the record is valid."""
    return schema.printable(next(_defects(record, size), ""))


def _defects(record: Record, size: int) -> Iterator[str]:
    """Yield validation errors. Later ones assume that earlier ones are fixed."""
    if size > MAX_BYTES:
        yield f"it has {size} bytes; {MAX_BYTES} may be published"
    for path, number in _numbers(msgspec.to_builtins(record)):
        if abs(number) > _LARGEST:
            yield f"{path.lstrip('.')} is {number!r:.30}; valid: no more than {_LARGEST:g} in size"
    for key in ("protocol", "engine"):
        mine, of_spec = getattr(record, key), getattr(record.spec, key)
        if mine != of_spec:
            yield f"{key} is {mine!r}, that of its spec is {of_spec!r}"
    yield from _false_task(record.task)
    if record.failed:
        full = [key for key in ("results", "facts", "profiles", "sharpness") if getattr(record, key)]
        yield from (f"{key} is not empty, but the run failed" for key in full)
    if record.failed != (record.failure is not None):
        yield f"failure does not fit its status, {record.status}"
    yield from _false_cost(record)
    if not record.failed:
        yield from _false_results(record)
    yield from _false_provenance(record.provenance)
    yield from _false_execution(record)
    yield from _false_sources(record)
    yield from check_origin(record)


def _miswritten(record: Record, line: bytes) -> str:
    """Return an error if a line is not its record's canonical JSON: other parsers may read it differently."""
    if line == schema.to_line(record):
        return ""
    return (
        "it is not written as `steppe publish` writes it: each key once and in order, every field of the "
        "spec and no other default, no spaces"
    )


def _numbers(value: Any, path: str = "") -> Iterator[tuple[str, float]]:
    """Yield every number of JSON data with its path."""
    if isinstance(value, int | float):
        yield path, value
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _numbers(inner, f"{path}.{key}")
    elif isinstance(value, list | tuple):
        for at, inner in enumerate(value):
            yield from _numbers(inner, f"{path}[{at}]")


def _false_task(task: Description) -> Iterator[str]:
    if not re.fullmatch("([a-z][a-z0-9_]*)?", task.validation):
        yield f"task.validation is {task.validation!r:.60}; valid: lower-case words joined by underscores"


def _false_provenance(found: Provenance) -> Iterator[str]:
    commit = found.origin.git_commit
    if commit is not None and not re.fullmatch(_COMMIT, commit):
        yield (
            f"provenance.origin.git_commit is {commit!r:.60}; valid: null, or the hash of a commit in full, "
            f"followed by -dirty where files differed from it"
        )
    several = found.fingerprints
    if several and (len(several) < 2 or found.origin.fingerprint not in several or found.bit_exact):
        yield (
            "provenance.fingerprints says that the run moved; valid: several, that of origin among them, and "
            "bit_exact false"
        )


def _false_execution(record: Record) -> Iterator[str]:
    """Yield contradictions between a run's provenance and its spec."""
    spec, provenance = record.spec, record.provenance
    gpu = provenance.hardware.get("gpu")
    if (gpu is not None) != (spec.device == "cuda"):
        yield f"provenance.hardware.gpu is {gpu!r:.60}, but spec.device is {spec.device!r}"
    if spec.precision == "tf32" and spec.device != "cuda":
        yield f"spec.precision is 'tf32', which {spec.device} does not have"
    if provenance.bit_exact and (spec.compile or (spec.device == "cuda" and spec.ranks > 1)):
        yield "provenance.bit_exact is true; valid: false for compiled runs and for those on several GPUs"
    for where, fingerprint in _fingerprints(record):
        for key, says in _said_by(fingerprint).items():
            if says != (asked := str(getattr(spec, key))):
                yield f"{where} is of {key} {says}, but spec.{key} is {asked}"


def _fingerprints(record: Record) -> Iterator[tuple[str, str]]:
    """Yield every fingerprint of a record with its path."""
    yield "provenance.origin.fingerprint", record.provenance.origin.fingerprint
    for at, fingerprint in enumerate(record.provenance.fingerprints):
        yield f"provenance.fingerprints[{at}]", fingerprint
    for name, estimate in record.sharpness.measures.items() if record.sharpness else ():
        if estimate.origin is not None:
            yield f"sharpness.measures.{name}.origin.fingerprint", estimate.origin.fingerprint


def _said_by(fingerprint: str) -> dict[str, str]:
    """Return the fields of a spec that a fingerprint states; CPUs and GPUs state different ones."""
    said = {}
    if start := re.match(r"(\w+): (?:(\d+) x )?", fingerprint):
        said = {"device": start[1], "ranks": start[2] or "1"}
    if threads := re.search(r", (\d+) of \d+ threads, torch ", fingerprint):
        said["threads"] = threads[1]
    return said


def _false_sources(record: Record) -> Iterator[str]:
    for kind in ("task", "optimizer"):
        plugin = getattr(record.spec, kind).plugin_source
        if plugin not in (None, getattr(record.sources, kind)):
            yield f"sources.{kind} is not the code of its plugin, spec.{kind}.plugin_source"


def _false_cost(record: Record) -> Iterator[str]:
    cost: Cost = record.cost
    total = cost.gradients + cost.losses / 3 + cost.function
    if not math.isclose(cost.sample_gradients, total, rel_tol=_ROUNDING):
        yield f"cost.sample_gradients is {cost.sample_gradients:g}, its parts add up to {total:g}"
    if record.failed:
        return
    fewest = max(1, math.floor(record.spec.epochs))  # an epoch has at least one step
    if cost.steps < fewest:
        yield f"cost.steps is {cost.steps}, but {record.spec.epochs:g} epochs have at least {fewest}"
        return
    epoch = cost.n_train * cost.declared
    planned = record.spec.epochs * epoch
    # A budget is a whole number of steps and the last batch of an epoch may be smaller: up to two steps; a
    # single step may be any part of an epoch. The cost of the loss as a function is counted in operations,
    # and the declared cost rounds it.
    slack = 2 * planned / cost.steps if cost.steps > 1 else epoch
    slack += 0.05 * planned if cost.function else 0.0
    if abs(cost.sample_gradients - planned) > slack + _ROUNDING * planned:
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
            where, values = f"results.{split}.{part}", getattr(result, part)
            if part == "metrics" or values:
                yield from _other_names(where, values, metrics)
            yield from _false_values(where, values, metrics)
            yield from _no_counts(where, values, counted, result.n)
        if result.as_trained and split not in task.tests:
            yield f"results.{split}.as_trained is not empty, but {split} is no test split"
        yield from _false_evidence(split, result, metrics)
    if record.score() is None:
        yield f"results.{task.scored}.metrics.{task.primary.name} is null, but the run completed"
    facts = {metric.name: metric for metric in task.facts}
    yield from _other_names("facts", record.facts, facts)
    yield from _false_values("facts", record.facts, facts)
    yield from _other_names("profiles", record.profiles, {profile.name for profile in task.profiles})
    for name, curve in record.profiles.items():
        if len(curve.x) != len(curve.y):
            yield f"profiles.{name} has {len(curve.x)} places for {len(curve.y)} values"
    for name, cosine in record.perturbation_cosine.items():
        if abs(cosine) > 1 + 1e-5:  # computed in single precision
            yield f"perturbation_cosine.{name} is {cosine:g}; valid: from -1 to 1"
    if (sharpness := record.sharpness) is not None:
        scores = {LOSS.name: LOSS, **metrics}
        # A metric that is not a mean over examples may be missing.
        given = {LOSS.name} | (sharpness.metrics.keys() & scores.keys())
        yield from _other_names("sharpness.metrics", sharpness.metrics, given)
        yield from _false_values("sharpness.metrics", sharpness.metrics, scores)
        yield from _no_counts("sharpness.metrics", sharpness.metrics, counted, sharpness.n)
        yield from contradictions(sharpness)


def _other_names(where: str, given: Iterable[str], declared: Collection[str]) -> Iterator[str]:
    for name in sorted(set(declared) ^ set(given)):
        if name in declared:
            yield f"{where}.{name} is missing: its task declares it"
        else:
            yield f"{where}.{name} is nothing that its task declares; valid: {', '.join(declared) or 'none'}"


def _false_values(
    where: str, values: Mapping[str, float | None], metrics: Mapping[str, Metric]
) -> Iterator[str]:
    for name, value in values.items():
        metric = metrics.get(name)
        if metric is None or value is None:
            continue
        if metric.unit == PERCENT and metric.scale == "linear" and not 0 <= value <= 1:
            yield f"{where}.{name} is {value:g}; valid: a fraction from 0 to 1"
        if metric.scale == "log" and value < 0:
            yield f"{where}.{name} is {value:g}; valid on its log scale: at least 0"


def _no_counts(where: str, values: Mapping[str, float | None], counted: set[str], n: int) -> Iterator[str]:
    """Yield fractions of right examples that are no whole number of examples."""
    for name in sorted(counted & values.keys()):
        value = values[name]
        if value is not None and abs(value * n - round(value * n)) > _ROUNDING * n:
            yield f"{where}.{name} is {value:g}, which is no whole number of {n} examples"


def _false_evidence(split: str, result: SplitResult, metrics: Mapping[str, Metric]) -> Iterator[str]:
    for name, bits in result.right.items():
        where = f"results.{split}.right.{name}"
        if name not in metrics:
            yield f"{where} is nothing that its task declares; valid: {', '.join(metrics)}"
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
    """Return the results that stored examples prove, and those that records only claim, as `split.metric`."""
    proven: set[str] = set()
    claimed: set[str] = set()
    for record in records:
        for split, result in record.results.items():
            for name in result.metrics:
                (proven if name in result.right else claimed).add(f"{split}.{name}")
    return proven - claimed, claimed
