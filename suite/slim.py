"""Slim records: what lists and tables need of a record, in some 500 bytes of memory each.

A record is taken apart into its shape, which it shares with others, and what is its own: run id, seed and
floating-point numbers. A shape has a part for each key of the record: the value of that key with holes where
the numbers were. So a hundred seeds of one setting hold its parameters, hashes and versions once.
"""

from __future__ import annotations

import contextlib
import gc
import json
import sys
from array import array
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any

_HOLE = "\0"
"""Stands where a number was; a text that begins so is written with one more of it."""

_WHOLE = ("run_id", "spec")
"""Keys whose parts have no holes: the run's own id and seed are known by their names."""

_FIXED = {"declared"}
"""Floating-point numbers that belong to the setting and not to the run."""

_PROVENANCE = ("fingerprint", "source_tree", "git_commit", "bit_exact", "attempts")

Path = tuple[str, ...]


def slim(record: Mapping[str, Any]) -> dict[str, Any]:
    """Keep the part of a record that lists and tables need."""
    out = {key: value for key, value in record.items() if key not in ("correct", "provenance")}
    provenance = record.get("provenance") or {}
    out["provenance"] = {key: provenance[key] for key in _PROVENANCE if key in provenance}
    return out


class Part:
    """The value of one key, with holes; equal ones are one object, so it may not be changed."""

    def __init__(self, text: str) -> None:
        """Read its JSON; ValueError where it is none."""
        self.value = json.loads(text)
        self.plain = "\\u0000" not in text

    @cached_property
    def places(self) -> dict[Path, int]:
        """Where the holes are: by the keys that lead there, their positions among the numbers."""
        return {path: at for at, path in enumerate(_holes(self.value, ()))}


class Shape:
    """What records have in common that differ only in run id, seed and floating-point numbers."""

    def __init__(self, parts: Mapping[str, Part]) -> None:
        self.parts = parts
        self.starts: dict[str, int] = {}
        self.n_floats = 0
        for key, part in parts.items():
            self.starts[key] = self.n_floats
            self.n_floats += 0 if key in _WHOLE or part.plain else len(part.places)

    def place(self, key: str, *path: str) -> int | None:
        """Return the position of a number among those of a record; None where all have the same value."""
        if key in _WHOLE or key not in self.parts:
            return None
        at = self.parts[key].places.get(path)
        return None if at is None else self.starts[key] + at


class Slim(Mapping[str, Any]):
    """A slim record, read like the dictionary that it was; what it gives may not be changed."""

    __slots__ = ("packed", "run_id", "seed", "shape")

    def __init__(self, shape: Shape, run_id: str, seed: int | None, packed: bytes) -> None:
        self.shape = shape
        self.run_id = run_id
        self.seed = seed
        self.packed = packed

    @property
    def numbers(self) -> array[float]:
        """Its floating-point numbers, in the order of the holes."""
        return unpacked(self.packed)

    def __getitem__(self, key: str) -> Any:
        """Return the value of a key, filled in."""
        part = self.shape.parts[key]
        if key == "run_id":
            return self.run_id
        if key == "spec" and self.seed is not None:
            return {**part.value, "seed": self.seed}
        if key == "spec" or part.plain:
            return part.value
        start = self.shape.starts[key]
        return _filled(part.value, iter(self.numbers[start:]))

    def __iter__(self) -> Iterator[str]:
        """Yield the keys."""
        return iter(self.shape.parts)

    def __len__(self) -> int:
        """Count the keys."""
        return len(self.shape.parts)


class Packer:
    """Takes records apart; parts and shapes that are equal become one."""

    def __init__(self) -> None:
        self._parts: dict[str, Part] = {}
        self._shapes: dict[tuple[tuple[str, int], ...], Shape] = {}

    def part(self, text: str) -> Part:
        """Return the part of this JSON."""
        found = self._parts.get(text)
        if found is None:
            found = self._parts[text] = Part(text)
        return found

    def shape(self, parts: Mapping[str, Part]) -> Shape:
        """Return the shape of these parts."""
        key = tuple((name, id(part)) for name, part in parts.items())
        found = self._shapes.get(key)
        if found is None:
            found = self._shapes[key] = Shape(parts)
        return found

    def pack(self, record: Mapping[str, Any]) -> Slim:
        """Take apart what JSON can write; TypeError for anything else."""
        numbers: list[float] = []
        parts: dict[str, Part] = {}
        run_id, seed = str(record.get("run_id", "")), None
        for key, value in record.items():
            if key == "run_id":
                hollow = None
            elif key != "spec":
                hollow = _hollow(value, numbers)
            elif isinstance(value, Mapping) and type(value.get("seed")) is int:
                hollow, seed = {**value, "seed": None}, value["seed"]
            else:
                hollow = value
            parts[key] = self.part(json.dumps(hollow, separators=(",", ":")))
        return Slim(self.shape(parts), run_id, seed, _swapped(array("d", numbers)).tobytes())


def _hollow(value: Any, numbers: list[float]) -> Any:
    """Copy JSON data with holes for its finite floating-point numbers, which are appended to `numbers`."""
    if type(value) is float and value - value == 0.0:
        numbers.append(value)
        return _HOLE
    if isinstance(value, Mapping):
        return {
            key: inner if key in _FIXED and type(inner) is float else _hollow(inner, numbers)
            for key, inner in value.items()
        }
    if isinstance(value, list | tuple):
        return [_hollow(inner, numbers) for inner in value]
    return _HOLE + value if isinstance(value, str) and value.startswith(_HOLE) else value


def _filled(hollow: Any, numbers: Iterator[float]) -> Any:
    if hollow == _HOLE:
        return next(numbers)
    if isinstance(hollow, dict):
        return {key: _filled(inner, numbers) for key, inner in hollow.items()}
    if isinstance(hollow, list):
        return [_filled(inner, numbers) for inner in hollow]
    return hollow[1:] if isinstance(hollow, str) and hollow.startswith(_HOLE) else hollow


def _holes(hollow: Any, path: Path) -> Iterator[Path]:
    if hollow == _HOLE:
        yield path
    elif isinstance(hollow, dict):
        for key, inner in hollow.items():
            yield from _holes(inner, (*path, key))
    elif isinstance(hollow, list):
        for at, inner in enumerate(hollow):
            yield from _holes(inner, (*path, str(at)))


def unpacked(packed: bytes) -> array[float]:
    """Read the numbers of a record, or of several of one shape after each other."""
    return _swapped(array("d", packed))


def _swapped(numbers: array[float]) -> array[float]:
    """Turn numbers between this machine's order of bytes and the one that they are kept in."""
    if sys.byteorder != "little":
        numbers.byteswap()
    return numbers


@contextlib.contextmanager
def no_collection() -> Iterator[None]:
    """Hold off the search for cycles: among 100,000 fresh records it takes half the time and finds none."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()
