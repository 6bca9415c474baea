"""What optimizers declare, known without loading them: their files import torch, seconds and 500 MB of it.

Parameters, versions, summaries, costs and needs of the built-in optimizers are kept in one file beside their
bytecode, under a hash of every source that they may depend on: like bytecode it is made when it is missing
or old, and nothing is lost by deleting it. What is not in it is asked of a process that loads the entries
and ends (`suite.entries.declaring`), so that this one never does; without an answer, they are loaded here.
With plugins, by option or entry point, everything is loaded here: their files are to be executed anyway.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Collection, Mapping, Sequence
from functools import cache, cached_property, partial
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, NamedTuple

from suite import space
from suite.code_hash import ROOT
from suite.entries.registry import Found, Registry
from suite.errors import SteppeError
from suite.files import make_folder, write_whole
from suite.spec import EntryRef, OptimizerSpec, Param, canonical_json

CACHE = ROOT / "baselines" / "__pycache__" / f"declared.{sys.implementation.cache_tag}.json"
SOURCES = ("baselines", "suite")
FUNCTIONS = ("cost", "needs", "build")
"""Fields of an entry that no file can keep."""

Answer = dict[str, Any]
"""What `suite.entries.declaring` says, the content of the file: `sources`, `optimizers`, `figures`."""
Pair = tuple[str, dict[str, Any]]
"""An optimizer by name, and hyperparameters."""


class Declared(Registry):
    """A registry for those who train nothing; with plugins it is the usual one, as they are to be loaded."""

    def __init__(self, plugins: Sequence[str | Path] = ()) -> None:
        super().__init__(plugins)
        self._named: list[EntryRef] = []

    @cached_property
    def optimizers(self) -> dict[str, Found]:
        """Optimizer entries by name."""
        if self.plugins or entry_points(group="steppe.optimizers"):
            return super().optimizers
        try:
            kept = json.loads(CACHE.read_bytes())
            if kept["sources"] == sources():
                return self._found(kept)
        except (OSError, ValueError, TypeError, LookupError, AttributeError, SteppeError):
            pass  # missing or damaged
        answer = _ask(())
        if answer is None:
            return super().optimizers
        _write(answer)
        return self._found(answer)

    def _found(self, answer: Answer) -> dict[str, Found]:
        figures = Figures(answer, self._named)
        return {one["name"]: _entry(one, figures) for one in answer["optimizers"]}

    def reference(self, kind: str, name: str, overrides: dict[str, str]) -> EntryRef:
        """Resolve a selector's name and overrides to a reference with every parameter filled in."""
        out = super().reference(kind, name, overrides)
        if kind == "optimizer":
            self._named.append(out)
        return out


class Figure(NamedTuple):
    """What an entry declares at some hyperparameters."""

    cost: float
    needs: tuple[str, ...]


class Figures:
    """Declared costs and needs, known by the hyperparameters that they follow from and by their values."""

    def __init__(self, answer: Answer, named: Collection[EntryRef]) -> None:
        """Start from an answer; the figures of the references in `named` are asked for together."""
        self._sources = answer["sources"]
        self._named = named
        self._asked: set[str] = set()
        self._known: dict[str, dict[tuple[str, ...], dict[tuple[Any, ...], Figure]]] = {}
        self._take(answer)

    def cost(self, optimizer: str, hyper: Mapping[str, Any]) -> float:
        """Return the cost at these hyperparameters; loads the entry if it is told nowhere."""
        figure = self._figure(optimizer, hyper)
        return float(_real(optimizer).cost(hyper)) if figure is None else figure.cost

    def needs(self, optimizer: str, hyper: Mapping[str, Any]) -> Collection[str]:
        """Return the needs at these hyperparameters; loads the entry if they are told nowhere."""
        figure = self._figure(optimizer, hyper)
        return _real(optimizer).needs(hyper) if figure is None else figure.needs

    def _figure(self, optimizer: str, hyper: Mapping[str, Any]) -> Figure | None:
        found = self._find(optimizer, hyper)
        if found is None:
            self._ask(optimizer, hyper)
            found = self._find(optimizer, hyper)
        return found

    def _find(self, optimizer: str, hyper: Mapping[str, Any]) -> Figure | None:
        for keys, figures in self._known.get(optimizer, {}).items():
            figure = figures.get(tuple(hyper.get(key) for key in keys))
            if figure is not None:
                return figure
        return None

    def _ask(self, optimizer: str, hyper: Mapping[str, Any]) -> None:
        """Ask for these figures and for those of all that was named, each once, and keep the answer."""
        wanted = [(optimizer, dict(hyper)), *((one.name, dict(one.params)) for one in self._named)]
        pairs = {canonical_json(pair): pair for pair in wanted if self._find(*pair) is None}
        new = [pair for text, pair in pairs.items() if text not in self._asked]
        self._asked |= pairs.keys()
        answer = _ask(new) if new else None
        if answer is None:
            return
        self._take(answer)
        if answer["sources"] == self._sources:  # else they were edited since: the next command asks anew
            _write({**answer, "figures": self._rows()})

    def _take(self, answer: Answer) -> None:
        for name, rows in answer["figures"].items():
            known = self._known.setdefault(name, {})
            for keys, values, cost, needs in rows:
                known.setdefault(tuple(keys), {})[tuple(values)] = Figure(
                    _number(cost), tuple(map(str, needs))
                )

    def _rows(self) -> dict[str, list[list[Any]]]:
        return {
            name: [[keys, values, *figure] for keys, some in known.items() for values, figure in some.items()]
            for name, known in self._known.items()
        }


def sources() -> str:
    """Return the hash of every file that the declarations may depend on."""
    digest = hashlib.sha256()
    for package in SOURCES:
        for path in sorted((ROOT / package).rglob("[!.]*.py")):  # editors keep hidden locks beside a file
            digest.update(f"{path.relative_to(ROOT)}\n".encode() + path.read_bytes())
    return digest.hexdigest()


def _ask(pairs: Sequence[Pair]) -> Answer | None:
    """Let a process load the entries; None where it cannot be started or breaks off.

    Raises SteppeError where it found that the entries cannot be loaded.
    """
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-m", "suite.entries.declaring"],
            input=json.dumps(pairs),
            capture_output=True,
            text=True,
            errors="replace",
            env={**os.environ, "PYTHONPATH": path},
            check=False,
        )
        answer: Answer = json.loads(done.stdout)
    except (OSError, ValueError):
        return None
    if "error" in answer:
        error = SteppeError(answer["error"])
        error.add_note(done.stderr)
        raise error
    return answer


def _write(answer: Answer) -> None:
    """Keep it for the next time, where that is allowed."""
    try:
        make_folder(CACHE.parent)
        write_whole(CACHE, json.dumps(answer).encode(), flush=False)
    except SteppeError:
        pass  # a read-only clone asks every time


def _entry(one: Mapping[str, Any], figures: Figures) -> Found:
    params = {name: _param(param) for name, param in one["params"].items()}
    name = one["name"]
    rest = {key: value for key, value in one.items() if key not in ("params", "path")}
    entry = OptimizerSpec(
        params=params,
        cost=partial(figures.cost, name),
        needs=partial(figures.needs, name),
        build=partial(_build, name),
        **rest,
    )
    return Found(entry, ROOT / one["path"], plugin=False)


def _param(param: Mapping[str, Any]) -> Param:
    return Param(
        **{
            **param,
            "choices": tuple(param["choices"]),
            "search": None if param["search"] is None else space.from_dict(param["search"]),
            "implies": dict(param["implies"]),
        }
    )


def _number(cost: object) -> float:
    if isinstance(cost, int | float):
        return cost
    raise ValueError(f"{cost!r} is no cost")


def _build(optimizer: str, *arguments: Any) -> Any:
    return _real(optimizer).build(*arguments)


def _real(optimizer: str) -> OptimizerSpec:
    entry = _loaded().optimizer(optimizer).entry
    assert isinstance(entry, OptimizerSpec)
    return entry


@cache
def _loaded() -> Registry:
    return Registry()
