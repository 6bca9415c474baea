"""What optimizers declare, known without loading them: their files import torch, which takes seconds.

The parameters, versions and summaries of the built-in optimizers are kept in one file beside their bytecode,
under a hash of every source that they may depend on: like bytecode it is made when it is missing or old, and
nothing is lost by deleting it. The functions of an entry load the real one when they are called.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import fields
from functools import cache, cached_property
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from suite.errors import SteppeError
from suite.files import make_folder, write_whole
from suite.registry import Found, Registry
from suite.spec import OptimizerSpec, Param

ROOT = Path(__file__).resolve().parent.parent
CACHE = ROOT / "baselines" / "__pycache__" / f"declared.{sys.implementation.cache_tag}.json"
SOURCES = ("baselines", "suite")
_FUNCTIONS = ("cost", "build")


class Declared(Registry):
    """A registry for those who train nothing; with plugins it is the usual one, as they are to be loaded."""

    @cached_property
    def optimizers(self) -> dict[str, Found]:
        """Optimizer entries by name."""
        if self.plugins or entry_points(group="steppe.optimizers"):
            return super().optimizers
        try:
            sources = _sources()
        except OSError:  # a file went away between two looks
            return super().optimizers
        known = _read(sources)
        if known is None:
            found = super().optimizers
            _write(sources, found)
            return found
        return known


def _sources() -> str:
    digest = hashlib.sha256()
    for package in SOURCES:
        for path in sorted((ROOT / package).rglob("[!.]*.py")):  # editors keep hidden locks beside a file
            digest.update(f"{path.relative_to(ROOT)}\n".encode() + path.read_bytes())
    return digest.hexdigest()


def _read(sources: str) -> dict[str, Found] | None:
    try:
        kept = json.loads(CACHE.read_bytes())
        if kept["sources"] != sources:
            return None
        return {one["name"]: _found(one) for one in kept["optimizers"]}
    except (OSError, ValueError, TypeError, LookupError, AttributeError):
        return None


def _write(sources: str, found: Mapping[str, Found]) -> None:
    """Keep what was found for the next time."""
    try:
        content = {"sources": sources, "optimizers": [_plain(one) for one in found.values()]}
        make_folder(CACHE.parent)
        write_whole(CACHE, json.dumps(content, indent=1).encode(), flush=False)
    except (SteppeError, ValueError, TypeError):
        pass  # a read-only clone, or an entry that JSON cannot tell of, is loaded every time


def _plain(found: Found) -> dict[str, Any]:
    entry = found.entry
    out = {f.name: getattr(entry, f.name) for f in fields(entry) if f.name not in _FUNCTIONS}
    params = {name: _param(param) for name, param in entry.params.items()}
    return out | {
        "params": params,
        "zero": dict(out["zero"]),
        "path": str(found.path.resolve().relative_to(ROOT)),
    }


def _param(param: Param) -> dict[str, Any]:
    out = {f.name: getattr(param, f.name) for f in fields(param)}
    return out | {"implies": [[value, dict(implied)] for value, implied in param.implies.items()]}


def _found(one: dict[str, Any]) -> Found:
    path = ROOT / one.pop("path")
    params = {
        name: Param(**{**param, "choices": tuple(param["choices"]), "implies": dict(param["implies"])})
        for name, param in one.pop("params").items()
    }
    functions: dict[str, Any] = {name: _loading(one["name"], name) for name in _FUNCTIONS}
    return Found(OptimizerSpec(params=params, **one, **functions), path, plugin=False)


def _loading(optimizer: str, function: str) -> Callable[..., Any]:
    """Stand in for a function of an entry, which is loaded at the first call."""

    def call(*arguments: Any) -> Any:
        return getattr(_real().optimizer(optimizer).entry, function)(*arguments)

    return call


@cache
def _real() -> Registry:
    return Registry()
