"""`steppe run` commands that reproduce given runs."""

from __future__ import annotations

import shlex
from collections import defaultdict
from collections.abc import Iterable, Sequence

from suite.entries.registry import Registry
from suite.entries.selection import arguments
from suite.errors import SteppeError
from suite.report.runs import set_ups
from suite.spec import RunSpec


def run_command(spec: RunSpec, registry: Registry) -> str:
    """Return the command that reproduces this run, or the reason why none does."""
    try:
        return shlex.join(["steppe", "run", *arguments(spec, registry)])
    except SteppeError as error:
        return f"no command: {error}"


def run_commands(specs: Sequence[RunSpec], registry: Registry) -> list[str]:
    """Return `steppe run` commands for the runs, and a comment per run whose entries are unknown."""
    settings: dict[bytes, tuple[RunSpec, set[int]]] = {}
    for spec, set_up in zip(specs, set_ups(specs), strict=True):
        settings.setdefault(set_up, (spec, set()))[1].add(spec.seed)
    return _commands(settings.values(), registry)


def _commands(settings: Iterable[tuple[RunSpec, set[int]]], registry: Registry) -> list[str]:
    seeds: dict[tuple[str, ...], dict[str, set[int]]] = defaultdict(lambda: defaultdict(set))
    missing = set()
    for spec, which in settings:
        try:
            given = arguments(spec, registry)
        except SteppeError as error:
            missing.add(f"# {spec.optimizer.label()} on {spec.task.label()}, seeds {ranges(which)}: {error}")
            continue
        optimizer = given[given.index("-o") + 1]
        left_out = _pair(given, "-o", "-s")
        rest = tuple(piece for at, piece in enumerate(given) if at not in left_out)
        seeds[rest][optimizer] |= which
    commands = []
    for rest, by_optimizer in sorted(seeds.items()):
        together: dict[str, list[str]] = defaultdict(list)
        for optimizer, which in sorted(by_optimizer.items()):
            together[ranges(which)].append(optimizer)
        for span, optimizers in together.items():
            given = [*rest[:2], "-o", ",".join(optimizers), "-s", span, *rest[2:]]
            commands.append(shlex.join(["steppe", "run", *given]))
    return [*commands, *sorted(missing)]


def _pair(given: Sequence[str], *flags: str) -> set[int]:
    return {at + shift for flag in flags for at in (given.index(flag),) for shift in (0, 1)}


def ranges(seeds: Iterable[int]) -> str:
    """Write seeds in the format of `parse_seeds`, for instance 0-9,12."""
    spans: list[list[int]] = []
    for seed in sorted(seeds):
        if spans and seed == spans[-1][1] + 1:
            spans[-1][1] = seed
        else:
            spans.append([seed, seed])
    return ",".join(f"{low}" if low == high else f"{low}-{high}" for low, high in spans)
