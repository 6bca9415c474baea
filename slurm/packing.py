"""Runs into packs (array tasks), packs into batches (job arrays): pure arithmetic.

Runs are ordered by what they are expected to take, dearest first: what is long must start early. Seconds are
known where runs like them were measured; where not all of them are, cost in sample-gradients gives the order,
and a run of unknown time has a task of its own, as nobody knows how many of them a time limit holds.

A task works through its runs in their order, `side` of them at a time. The dearest run that is left goes to
the pack that has least (longest processing time first), so that no task is far longer than the others.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from slurm.profiles import Profile
from slurm.submission import Pack
from suite.errors import SteppeError

CHUNK = 1000
"""Most tasks of a batch: one less than SLURM's default allows, few enough that a refused `sbatch` and a stray
`scancel` concern a part of a sweep and that a folder of logs can be listed, many enough for 100 calls of
`sbatch` at 100,000 tasks."""


@dataclass(frozen=True)
class Load:
    """What a run is expected to take."""

    run_id: str
    cost: float
    """Sample-gradients, or epochs where those are known of no run."""
    seconds: float | None = None
    """None where nothing like it was measured."""


@dataclass(frozen=True)
class Packed:
    """Packs in the order in which they are to start."""

    packs: tuple[Pack, ...]
    longest_s: float | None
    """What the longest of them is expected to take; None where a run's time is unknown."""
    total_s: float | None
    """Of all tasks together."""
    notes: tuple[str, ...] = ()
    """What the user should know of the decisions made here, a line each."""


def pack(loads: Sequence[Load], profile: Profile, room: int, why: str) -> Packed:
    """Put runs into at most `room` array tasks; `why` names the limit on them.

    Raises SteppeError where there is no room at all.
    """
    if room < 1:
        raise SteppeError(f"no room for another task: {why}; wait until some are over, then submit again")
    ordered = order(loads)
    side = profile.side_by_side
    bins = _fixed(ordered, profile, side) if profile.pack else _timed(ordered, profile, side)
    notes = []
    if len(bins) > room:
        wanted, bins = len(bins), _spread(ordered, room, len(ordered))
        notes.append(f"packs enlarged: {wanted} tasks would exceed {why}; {len(bins)} fit")
    timed = all(load.seconds is not None for load in ordered)
    bins.sort(key=lambda one: _span(one, side) if timed else _cost(one), reverse=True)
    notes += _warnings(ordered, bins, profile, side)
    packed = Packed(tuple(tuple(load.run_id for load in one) for one in bins), None, None, tuple(notes))
    if not timed:
        return packed
    spans = [_span(one, side) for one in bins]
    return replace(packed, longest_s=max(spans), total_s=math.fsum(spans))


def order(loads: Sequence[Load]) -> list[Load]:
    """Sort by expected time where it is known of all, else by cost; equals keep their order."""
    if all(load.seconds is not None for load in loads):
        return sorted(loads, key=_seconds, reverse=True)
    return sorted(loads, key=lambda load: load.cost, reverse=True)


def _seconds(load: Load) -> float:
    return load.seconds or 0.0


def _cost(one: Sequence[Load]) -> float:
    return math.fsum(load.cost for load in one)


def _span(one: Sequence[Load], side: int) -> float:
    """Bound the seconds of a pack from above: whatever the order, no worker ends later (Graham 1966)."""
    longest = max(map(_seconds, one))
    return longest + (math.fsum(map(_seconds, one)) - longest) / side if len(one) > side else longest


def _fixed(ordered: Sequence[Load], profile: Profile, side: int) -> list[list[Load]]:
    """Put `profile.pack` runs into a pack, fewer where the time limit wants it."""
    return _within(ordered, math.ceil(len(ordered) / profile.pack), profile.pack, profile, side)


def _timed(ordered: Sequence[Load], profile: Profile, side: int) -> list[list[Load]]:
    """Fill packs to `profile.pack_min`; runs that are as long themselves stand only beside each other."""
    target = min(60.0 * profile.pack_min, profile.usable_s)
    alone = [[load] for load in ordered if load.seconds is None]
    known = [load for load in ordered if load.seconds is not None]
    long = [load for load in known if _seconds(load) >= target]
    short = [load for load in known if _seconds(load) < target]
    bins = alone + [long[i : i + side] for i in range(0, len(long), side)]
    if short:
        n = math.ceil(math.fsum(map(_seconds, short)) / (side * target)) or 1
        bins += _within(short, n, len(short), profile, side)
    return bins


def _within(ordered: Sequence[Load], n: int, most: int, profile: Profile, side: int) -> list[list[Load]]:
    """Spread over n packs, and over more while one of several runs would meet the time limit."""
    while True:
        bins = _spread(ordered, n, most)
        over = [_span(one, side) for one in bins if len(one) > side]
        excess = max(over, default=0.0) / profile.usable_s
        if excess <= 1.0 or n >= len(ordered):
            return bins
        n = min(len(ordered), max(n + 1, int(n * min(excess, 1.25))))


def _spread(ordered: Sequence[Load], n: int, most: int) -> list[list[Load]]:
    """Deal runs out to n packs of at most `most`, the dearest first, always to the one that has least."""
    bins: list[list[Load]] = [[] for _ in range(min(n, len(ordered)))]
    timed = all(load.seconds is not None for load in ordered)
    heap = [(0.0, i) for i in range(len(bins))]
    for load in ordered:
        weight, i = heap[0]
        bins[i].append(load)
        if len(bins[i]) < most:
            heapq.heapreplace(heap, (weight + (_seconds(load) if timed else load.cost), i))
        else:
            heapq.heappop(heap)
    return bins


def _warnings(
    ordered: Sequence[Load], bins: Sequence[Sequence[Load]], profile: Profile, side: int
) -> list[str]:
    notes = []
    longest = max(map(_seconds, ordered))
    n_long = sum(_seconds(load) > profile.usable_s for load in ordered)
    if n_long:
        notes.append(
            f"{n_long} run{'s' if n_long > 1 else ''} of up to {_hours(longest)} exceed the "
            f"{profile.time_min} min of a task: saved and requeued at the limit, again and again"
        )
    cut = [span for one in bins if len(one) > side and (span := _span(one, side)) > profile.usable_s]
    if cut:
        notes.append(
            f"{len(cut)} task{'s' if len(cut) > 1 else ''} will be requeued at the limit: {_hours(max(cut))} "
            f"expected, {profile.time_min} min allowed"
        )
    unknown = sum(load.seconds is None for load in ordered)
    if unknown and not profile.pack:
        notes.append(
            f"{unknown} run{'s' if unknown > 1 else ''} of unknown time, each in a task of its own: --pack N "
            f"puts N together; once some are done, times are known"
        )
    return notes


def _hours(seconds: float) -> str:
    return f"{seconds / 3600:.1f} h" if seconds >= 5400 else f"{seconds / 60:.0f} min"


@dataclass(frozen=True)
class Share:
    """One batch of a submission: its packs, how many run at a time, and the batch that must be over first."""

    packs: tuple[Pack, ...]
    at_a_time: int
    after: int | None = None


def batches(packs: Sequence[Pack], max_array_size: int, max_running: int) -> list[Share]:
    """Cut packs into job arrays so that together no more than `max_running` of them run (0: no cap).

    SLURM caps an array and not a submission, so the arrays share the cap; packs are dealt out so that each
    array has as much to do and none of the cap lies idle before the end. Where there are more arrays than the
    cap allows tasks, as many chains as that are made of them, a link of which starts after the one before.
    """
    chunk = max(1, min(max_array_size, CHUNK))
    n = math.ceil(len(packs) / chunk)
    if not max_running or n == 1:
        cap = max_running or chunk
        return [
            Share(tuple(part), min(cap, len(part)))
            for part in (packs[i : i + chunk] for i in range(0, len(packs), chunk))
        ]
    lanes = min(n, max_running)
    generations = math.ceil(n / lanes)
    shares: list[Share] = []
    last: dict[int, int] = {}  # the newest batch of each chain
    for generation in range(generations):
        low, high = (len(packs) * step // generations for step in (generation, generation + 1))
        for lane in range(lanes):
            part = tuple(packs[low:high][lane::lanes])
            if part:
                cap = max_running // lanes + (lane < max_running % lanes)
                shares.append(Share(part, min(cap, len(part)), last.get(lane)))
                last[lane] = len(shares) - 1
    return shares
