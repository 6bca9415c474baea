"""Loads the built-in optimizers and tells what they declare: the process that `suite.entries.declared` asks.

Standard input is a JSON list of pairs [optimizer, hyperparameters]. Standard output is one JSON object: the
hash of the sources, the declarations, and for each optimizer cost and needs at its defaults and at the
hyperparameters asked for, or the `error` that keeps the entries from being loaded. Cost and needs come with
those hyperparameters that they follow from: they are the same for all that agree in them.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields
from typing import Any

from suite import space
from suite.code_hash import ROOT
from suite.entries.declared import FUNCTIONS, Answer, Pair, sources
from suite.entries.registry import Found, Registry
from suite.errors import SteppeError
from suite.spec import OptimizerSpec, Param, resolve_params


def main() -> int:
    """Answer one question; what the entries' files print goes to standard error."""
    pairs = json.load(sys.stdin)
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as answer:
        os.dup2(2, 1)
        try:
            told = tell(pairs)
        except SteppeError as error:
            traceback.print_exc()
            told = {"error": str(error)}
        json.dump(told, answer)
    return 0


def tell(pairs: Iterable[Pair]) -> Answer:
    """Load the optimizers and return what they declare; figures that cannot be told are left out."""
    digest = sources()  # before the loading: an edit meanwhile makes the answer old, and not wrong
    found = Registry().optimizers
    asked: dict[str, list[Mapping[str, Any]]] = {name: [] for name in found}
    for name, hyper in pairs:
        asked.get(name, []).append(hyper)
    figures = {name: list(_figures(_entry(one), asked[name])) for name, one in found.items()}
    return {"sources": digest, "optimizers": [_plain(one) for one in found.values()], "figures": figures}


def _entry(found: Found) -> OptimizerSpec:
    assert isinstance(found.entry, OptimizerSpec)
    return found.entry


def _figures(entry: OptimizerSpec, asked: Iterable[Mapping[str, Any]]) -> Iterator[list[Any]]:
    """Yield [names, values, cost, needs] for the defaults and each of `asked`, by what was read of them."""
    try:
        every = [resolve_params(entry.params, {}, entry.name), *asked]
    except SteppeError:  # a default out of its own range
        every = list(asked)
    for hyper in every:
        noting = Noting(hyper)
        try:
            cost, needs = entry.cost(noting), sorted(map(str, entry.needs(noting)))
        except Exception:  # noqa: BLE001 - a command that needs them loads the entry and says why
            continue
        if isinstance(cost, int | float):
            yield [list(noting.read), list(noting.read.values()), cost, needs]


class Noting(Mapping[str, Any]):
    """Hyperparameters that note which of them were read; None stands for one that is not there."""

    def __init__(self, hyper: Mapping[str, Any]) -> None:
        self._hyper = hyper
        self.read: dict[str, Any] = {}

    def __getitem__(self, key: str) -> Any:
        """Note the key, and return its value."""
        self.read[key] = self._hyper.get(key)
        return self._hyper[key]

    def __iter__(self) -> Iterator[str]:
        """Note all, and yield the keys."""
        self.read.update(self._hyper)
        return iter(self._hyper)

    def __len__(self) -> int:
        """Count them: the same for all hyperparameters of an entry."""
        return len(self._hyper)


def _plain(found: Found) -> dict[str, Any]:
    entry = _entry(found)
    out = {f.name: getattr(entry, f.name) for f in fields(entry) if f.name not in FUNCTIONS}
    params = {name: _param(param) for name, param in entry.params.items()}
    path = found.path.resolve().relative_to(ROOT)
    return out | {"params": params, "zero": dict(entry.zero), "path": str(path)}


def _param(param: Param) -> dict[str, Any]:
    out = {f.name: getattr(param, f.name) for f in fields(param)}
    implies = [[value, dict(implied)] for value, implied in param.implies.items()]
    return out | {"implies": implies, "search": param.search and space.to_dict(param.search)}


if __name__ == "__main__":
    sys.exit(main())
