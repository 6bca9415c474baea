"""Parses the values of -t, -o and -s, and resolves selectors to entries.

A selector is a name or a glob, with overrides in brackets: `sam`, `sam[rho=0.1,adaptive=true]`,
`'*'`, `cifar10-resnet8-5k[width=4|16|64]`. Alternatives `a|b` span a grid. A bare `*`
selects only the built-in entries, so that a plugin never changes the meaning of `-o '*'`.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from suite.entries.registry import Registry, match
from suite.errors import SteppeError
from suite.spec import EntryRef

_SELECTOR = re.compile(r"([^\[\],=|]+)(?:\[([^\[\]]*)\])?")
_OUTSIDE_BRACKETS = re.compile(r",(?![^\[\]]*\])")


@dataclass(frozen=True)
class Selector:
    """A glob over entry names, and the alternative values of each overridden parameter."""

    pattern: str
    overrides: Mapping[str, tuple[str, ...]]

    def grid(self) -> Iterator[dict[str, str]]:
        """Yield every combination of alternatives, the last parameter fastest; {} without overrides."""
        for values in itertools.product(*self.overrides.values()):
            yield dict(zip(self.overrides, values, strict=True))


def parse_selector(text: str) -> Selector:
    """Parse one selector, for instance `sam[rho=0.05|0.1,adaptive=true]`; SteppeError if it is malformed."""
    found = _SELECTOR.fullmatch(text.strip())
    if found is None:
        raise SteppeError(f"not a selector: {text!r}; write NAME, a glob, or NAME[key=value,key=value|value]")
    pattern, inside = found.group(1).strip(), found.group(2) or ""
    overrides: dict[str, tuple[str, ...]] = {}
    for item in filter(None, (part.strip() for part in inside.split(","))):
        key, equals, value = (piece.strip() for piece in item.partition("="))
        alternatives = tuple(piece.strip() for piece in value.split("|"))
        if not key or not equals or not all(alternatives):
            raise SteppeError(f"not an override: {item!r} in {text!r}; write key=value or key=value|value")
        if key in overrides:
            raise SteppeError(f"{key} is given twice in {text!r}; write {key}=value|value for alternatives")
        overrides[key] = alternatives
    return Selector(pattern, overrides)


def parse_selectors(texts: Sequence[str]) -> list[Selector]:
    """Parse the values of a repeated option; commas outside brackets also separate selectors."""
    pieces = [piece for text in texts for piece in _OUTSIDE_BRACKETS.split(text)]
    return [parse_selector(piece) for piece in pieces if piece.strip()]


def parse_seeds(text: str) -> tuple[int, ...]:
    """Parse seeds, for instance `0-9,12`; return each once, in the order given."""
    seeds: dict[int, None] = {}
    for piece in text.split(","):
        found = re.fullmatch(r"\s*(\d{1,18})\s*(?:-\s*(\d{1,18})\s*)?", piece)
        if found is None:
            raise SteppeError(f"not seeds: {text!r}; write whole numbers and ranges, for instance 0-9,12")
        low, high = int(found.group(1)), int(found.group(2) or found.group(1))
        if high < low:
            raise SteppeError(f"not seeds: the range {piece.strip()} runs backwards; write {high}-{low}")
        if high - low >= 100_000:
            raise SteppeError(f"not seeds: the range {piece.strip()} is longer than 100000")
        seeds.update(dict.fromkeys(range(low, high + 1)))
    return tuple(seeds)


def select(registry: Registry, kind: str, texts: Sequence[str]) -> list[EntryRef]:
    """Resolve selectors of `kind` ("task" or "optimizer") to references, each once, in the order given."""
    entries = registry.tasks if kind == "task" else registry.optimizers
    references: dict[tuple[str, str], EntryRef] = {}
    for selector in parse_selectors(texts):
        if selector.pattern == "*":
            names = [name for name, found in entries.items() if not found.plugin]
        else:
            names = match(selector.pattern, entries, kind)
        for name, overrides in itertools.product(names, selector.grid()):
            reference = registry.reference(kind, name, overrides)
            references[name, repr(sorted(reference.params.items()))] = reference
    if not references:
        raise SteppeError(f"no {kind} is selected: name one or more; '*' is every built-in one")
    return list(references.values())
