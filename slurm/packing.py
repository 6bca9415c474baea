"""Assigns runs to packs (array tasks) and packs to batches (job arrays); pure arithmetic.

The runs of one task and seed form a block. Optimizers are compared within a block, so its runs share a pack,
and thus a machine, if they fit. Blocks keep the requested order, task by task and seed by seed: a sweep that
stops early has compared all optimizers on the seeds that it reached. Within a block the longest run comes
first. Packs are as even as whole blocks allow; a block too large for a pack is split.

Expected seconds come from similar runs. If some run has none, cost in sample-gradients replaces seconds, and
each run without a forecast gets its own task, as the number that fits a time limit is unknown. A task runs
its pack in order, `side` runs at a time.
"""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from slurm.profiles import Profile
from slurm.submission import Pack
from suite.errors import SteppeError
from suite.terminal.table import plural

CHUNK = 1000
"""Maximum tasks of a batch: one less than SLURM's default limit. A refused `sbatch` or a stray `scancel`
affects only part of a sweep, a folder of logs can be listed, and 100,000 tasks take 100 calls of `sbatch`."""


@dataclass(frozen=True)
class RunCost:
    """Expected cost of a run."""

    run_id: str
    cost: float
    """Sample-gradients of every run, or epochs of every run if some run's are unknown."""
    seconds: float | None = None
    """None if no similar run was measured."""
    block: str = ""
    """Identifies its task and seed."""


@dataclass(frozen=True)
class Packed:
    """Packs in the order of their start."""

    packs: tuple[Pack, ...]
    longest_s: float | None
    """Expected seconds of the longest pack; None if a run's time is unknown."""
    total_s: float | None
    """Expected seconds of all packs together; None if a run's time is unknown."""
    notes: tuple[str, ...] = ()
    """Lines for the user about the packing."""


def pack(runs: Sequence[RunCost], profile: Profile, room: int, why: str) -> Packed:
    """Pack runs into at most `room` array tasks; `why` names the limit on their number.

    Raises SteppeError if `room` is less than 1.
    """
    if room < 1:
        raise SteppeError(f"no room for another task: {why}; wait until some are over, then submit again")
    ordered = order(runs)
    if profile.pack:
        bins = _within(ordered, math.ceil(len(ordered) / profile.pack), profile.pack, profile)
    else:
        bins = _timed(ordered, profile)
    notes = []
    if len(bins) > room:
        wanted, bins = len(bins), _spread(ordered, room, len(ordered))
        notes.append(f"packs enlarged: {wanted} tasks would exceed {why}; {len(bins)} fit")
    notes += _warnings(ordered, bins, profile)
    packs = tuple(tuple(run.run_id for run in runs) for runs in bins)
    if not _all_timed(ordered):
        return Packed(packs, None, None, tuple(notes))
    spans = [_span(runs, profile) for runs in bins]
    return Packed(packs, max(spans), math.fsum(spans), tuple(notes))


def order(runs: Sequence[RunCost]) -> list[RunCost]:
    """Sort stably by block, in the order of first runs, and the longest run of a block first."""
    place: dict[str, int] = {}
    for run in runs:
        place.setdefault(run.block, len(place))
    weigh = _weight_of(runs)
    return sorted(runs, key=lambda run: (place[run.block], -weigh(run)))


def _all_timed(runs: Iterable[RunCost]) -> bool:
    return all(run.seconds is not None for run in runs)


def _weight_of(runs: Iterable[RunCost]) -> Callable[[RunCost], float]:
    """Return the weight of a run: its seconds if those of all runs are known, else its cost."""
    return _seconds if _all_timed(runs) else lambda run: run.cost


def _seconds(run: RunCost) -> float:
    return run.seconds or 0.0


def _span(pack: Sequence[RunCost], profile: Profile) -> float:
    """Return an upper bound on the seconds of a pack, for any order of its runs (Graham 1966)."""
    longest, side = max(map(_seconds, pack)), profile.side_by_side
    return longest + (math.fsum(map(_seconds, pack)) - longest) / side if len(pack) > side else longest


def _timed(ordered: Sequence[RunCost], profile: Profile) -> list[list[RunCost]]:
    """Fill packs to `profile.pack_min`; longer runs share a pack only with each other, one a worker."""
    target, side = min(60.0 * profile.pack_min, profile.usable_s), profile.side_by_side
    known = [run for run in ordered if run.seconds is not None]
    long = [run for run in known if _seconds(run) >= target]
    short = [run for run in known if _seconds(run) < target]
    bins = [[run] for run in ordered if run.seconds is None]
    bins += [long[i : i + side] for i in range(0, len(long), side)]
    if short:
        n = math.ceil(math.fsum(map(_seconds, short)) / (side * target)) or 1
        bins += _within(short, n, len(short), profile)
    place = {run.run_id: i for i, run in enumerate(ordered)}
    return sorted(bins, key=lambda runs: place[runs[0].run_id])


def _within(ordered: Sequence[RunCost], n: int, most: int, profile: Profile) -> list[list[RunCost]]:
    """Spread over n packs, or more while a pack with waiting runs exceeds the time limit."""
    while True:
        bins = _spread(ordered, n, most)
        excess = max(_cut(bins, profile, 0.0), default=0.0) / profile.usable_s
        if excess <= 1.0 or n >= len(ordered):
            return bins
        n = min(len(ordered), max(n + 1, int(n * min(excess, 1.25))))


def _cut(bins: Sequence[Sequence[RunCost]], profile: Profile, above_s: float) -> list[float]:
    """Return the spans over `above_s` of the packs whose runs do not all start at once."""
    spans = [_span(runs, profile) for runs in bins if len(runs) > profile.side_by_side]
    return [span for span in spans if span > above_s]


def _spread(ordered: Sequence[RunCost], n: int, most: int) -> list[list[RunCost]]:
    """Cut runs, in order, into about n packs of at most `most` runs; into more only if `most` requires it.

    A block stays whole unless it exceeds 1.5 times a pack's share, or has more than `most` runs.
    """
    if n >= len(ordered):
        return [[run] for run in ordered]
    weigh = _weight_of(ordered)
    share = math.fsum(map(weigh, ordered)) / n
    bins: list[list[RunCost]] = [[]]
    rest, inside = share * n, 0.0  # weights of all packs not yet closed, and of the current pack so far
    for _, group in itertools.groupby(ordered, key=lambda run: run.block):
        block = list(group)
        wanted = round(math.fsum(map(weigh, block)) / share) if share else 1
        for part in _parts(block, max(1, wanted, math.ceil(len(block) / most)), most, weigh):
            weight = math.fsum(map(weigh, part))
            left = n - len(bins) + 1
            enough = left > 1 and inside + weight / 2 > rest / left
            if bins[-1] and (enough or len(bins[-1]) + len(part) > most):
                rest, inside = rest - inside, 0.0
                bins.append([])
            bins[-1] += part
            inside += weight
    return bins


def _parts(
    block: Sequence[RunCost], n: int, most: int, weigh: Callable[[RunCost], float]
) -> list[list[RunCost]]:
    """Deal a block to n parts of at most `most` runs: each run, longest first, to the lightest part."""
    parts: list[list[RunCost]] = [[] for _ in range(min(n, len(block)))]
    heap = [(0.0, i) for i in range(len(parts))]
    for run in block:
        weight, i = heap[0]
        parts[i].append(run)
        if len(parts[i]) < most:
            heapq.heapreplace(heap, (weight + weigh(run), i))
        else:
            heapq.heappop(heap)
    return parts


def _warnings(
    ordered: Sequence[RunCost], bins: Sequence[Sequence[RunCost]], profile: Profile
) -> Iterator[str]:
    long = [run for run in ordered if _seconds(run) > profile.usable_s]
    if long:
        yield (
            f"{_count(long, 'run')} of up to {_hours(max(map(_seconds, long)))} exceed the "
            f"{profile.time_min} min of a task: saved and requeued at the limit, again and again"
        )
    if cut := _cut(bins, profile, profile.usable_s):
        yield (
            f"{_count(cut, 'task')} will be requeued at the limit: {_hours(max(cut))} expected, "
            f"{profile.time_min} min allowed"
        )
    unknown = [run for run in ordered if run.seconds is None]
    if unknown and not profile.pack:
        yield (
            f"{_count(unknown, 'run')} of unknown time, each in a task of its own: --pack N puts N together; "
            f"once some are done, times are known"
        )


def _count(items: Sequence[object], noun: str) -> str:
    return f"{len(items)} {plural(len(items), noun)}"


def _hours(seconds: float) -> str:
    return f"{seconds / 3600:.1f} h" if seconds >= 5400 else f"{seconds / 60:.0f} min"


@dataclass(frozen=True)
class ArrayJob:
    """One batch of a submission: its packs, how many run at a time, and the batch that must end first."""

    packs: tuple[Pack, ...]
    at_a_time: int
    after: int | None = None


def batches(packs: Sequence[Pack], max_array_size: int, max_running: int) -> list[ArrayJob]:
    """Cut packs into job arrays of which at most `max_running` tasks run at a time (0: no cap).

    SLURM caps an array, not a submission, so the arrays share the cap. Packs are dealt round-robin: they
    start in order, and the whole cap is in use until the end. If there are more arrays than `max_running`,
    they form `max_running` chains in which each array starts after the previous one.
    """
    chunk = max(1, min(max_array_size, CHUNK))
    n = math.ceil(len(packs) / chunk)
    if not max_running or n == 1:
        parts = (tuple(packs[i : i + chunk]) for i in range(0, len(packs), chunk))
        return [ArrayJob(part, min(max_running or chunk, len(part))) for part in parts]
    lanes = min(n, max_running)
    generations = math.ceil(n / lanes)
    arrays: list[ArrayJob] = []
    last: dict[int, int] = {}  # the newest batch of each chain
    for generation in range(generations):
        low, high = (len(packs) * step // generations for step in (generation, generation + 1))
        for lane in range(lanes):
            part = tuple(packs[low:high][lane::lanes])
            if part:
                cap = max_running // lanes + (lane < max_running % lanes)
                arrays.append(ArrayJob(part, min(cap, len(part)), last.get(lane)))
                last[lane] = len(arrays) - 1
    return arrays
