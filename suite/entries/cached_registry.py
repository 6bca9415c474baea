"""Cache of the declarations of built-in optimizers: importing their files imports torch (seconds, 500 MB).

One file next to their bytecode holds the declarations, with the costs and needs that commands asked for. The
file starts with a hash of its content and of every source that it may depend on. If it is missing, old or
damaged, a command imports the optimizers and writes the file again; deleting the file is safe.
"""

from __future__ import annotations

import atexit
import hashlib
import sys
from collections.abc import Iterator, Mapping
from contextlib import redirect_stdout, suppress
from dataclasses import replace
from functools import cached_property, partial
from importlib.metadata import entry_points
from typing import Any

import msgspec

from suite import space
from suite.code_hash import ROOT
from suite.entries.registry import Found, Registry
from suite.errors import SteppeError
from suite.files import make_folder, write_whole
from suite.spec import OptimizerSpec, Param, cost_of, needs_of, resolve_params

CACHE = ROOT / "baselines" / "__pycache__" / f"declared.{sys.implementation.cache_tag}.msgpack"
FIGURES = {"cost": cost_of, "needs": needs_of}


class CachedRegistry(Registry):
    """Registry for commands that do not train. With plugins it imports every entry, as `Registry` does."""

    @cached_property
    def optimizers(self) -> dict[str, Found]:
        """Optimizer entries by name."""
        if self.plugins or entry_points(group="steppe.optimizers"):
            return super().optimizers
        self._sources = _hash_sources()
        self._figures: dict[tuple[str, str], dict[tuple[str, ...], dict[tuple[Any, ...], Any]]] = {}
        cache = _read(self._sources)
        if cache is not None:
            self._figures = cache["figures"]
            return {one["name"]: self._found(**one) for one in cache["optimizers"]}
        for name, found in self._loaded.items():
            with suppress(SteppeError):  # raised again when a command asks for the figure
                defaults = resolve_params(found.entry.params, {}, name)
                for what in FIGURES:
                    self._compute(what, name, defaults)
        return {
            name: replace(found, entry=replace(found.entry, **self._functions(name)))
            for name, found in self._loaded.items()
        }

    def _found(self, path: str, params: Mapping[str, Any], **declared: Any) -> Found:
        known = {key: _param(**param) for key, param in params.items()}
        functions = self._functions(declared["name"])
        return Found(OptimizerSpec(params=known, **functions, **declared), ROOT / path, plugin=False)

    def _functions(self, name: str) -> dict[str, Any]:
        figures = {what: partial(self._figure, what, name) for what in FIGURES}
        return {**figures, "build": lambda *arguments: self._entry(name).build(*arguments)}

    def _figure(self, what: str, name: str, hyper: Mapping[str, Any]) -> Any:
        for keys, known in self._figures.get((name, what), {}).items():
            figure = known.get(tuple(map(hyper.get, keys)))
            if figure is not None:
                return figure
        return self._compute(what, name, hyper)

    def _compute(self, what: str, name: str, hyper: Mapping[str, Any]) -> Any:
        """Call the entry's function and cache the result by the hyperparameters that the function read."""
        entry, recorder = self._entry(name), AccessRecorder(hyper)
        with redirect_stdout(sys.stderr):
            figure = FIGURES[what](entry, hyper)
            with suppress(SteppeError):  # the entry may accept only a dict
                if FIGURES[what](entry, recorder) == figure:
                    known = self._figures.setdefault((name, what), {}).setdefault(tuple(recorder.read), {})
                    known[tuple(recorder.read.values())] = figure
        return figure

    def _entry(self, name: str) -> OptimizerSpec:
        entry = self._loaded[name].entry
        assert isinstance(entry, OptimizerSpec)
        return entry

    @cached_property
    def _loaded(self) -> dict[str, Found]:
        """The imported entries by name. Output of their files goes to standard error."""
        is_first = "baselines" not in sys.modules  # otherwise the modules may be older than the hash
        with redirect_stdout(sys.stderr):
            loaded = Registry().optimizers
        if is_first:
            atexit.register(self._write)
        return loaded

    def _write(self) -> None:
        if _hash_sources() != self._sources:  # edited meanwhile: the imported version is unknown
            return
        try:
            declared = [_to_dict(found) for found in self._loaded.values()]
            content = msgspec.msgpack.encode({"optimizers": declared, "figures": self._figures})
            make_folder(CACHE.parent)
            write_whole(CACHE, hashlib.sha256(self._sources + content).digest() + content, flush=False)
        except (SteppeError, TypeError, ValueError, OverflowError):
            pass  # read-only folder, or not plain data: every command imports the entries


class AccessRecorder(Mapping[str, Any]):
    """Mapping of hyperparameters that records each one that is read; a missing one is recorded as None."""

    def __init__(self, hyper: Mapping[str, Any]) -> None:
        self._hyper = hyper
        self.read: dict[str, Any] = {}

    def __getitem__(self, key: str) -> Any:
        self.read[key] = self._hyper.get(key)
        return self._hyper[key]

    def __iter__(self) -> Iterator[str]:
        self.read.update(self._hyper)
        return iter(self._hyper)

    def __len__(self) -> int:
        return len(self._hyper)  # not recorded: all hyperparameter sets of an entry have one length


def _hash_sources() -> bytes:
    """Hash every file that the declarations may depend on."""
    digest = hashlib.sha256()
    for package in ("baselines", "suite"):
        for path in sorted((ROOT / package).rglob("[!.]*.py")):  # skips hidden lock files of editors
            digest.update(f"{path.relative_to(ROOT)}\n".encode())
            with suppress(OSError):  # deleted meanwhile
                digest.update(path.read_bytes())
    return digest.digest()


def _read(sources: bytes) -> dict[str, Any] | None:
    """Return the content of the cache; None if it is missing, damaged or of other sources."""
    try:
        data = CACHE.read_bytes()
    except OSError:
        return None
    digest, content = data[:32], data[32:]
    is_whole = digest == hashlib.sha256(sources + content).digest()
    return msgspec.msgpack.decode(content) if is_whole else None


def _to_dict(found: Found) -> dict[str, Any]:
    """Return the declarations of an entry, without its functions, as plain data."""
    declared = {key: value for key, value in vars(found.entry).items() if key not in (*FIGURES, "build")}
    params = {
        key: {**vars(param), "search": param.search and space.to_dict(param.search)}
        for key, param in found.entry.params.items()
    }
    return declared | {"params": params, "path": str(found.path.resolve().relative_to(ROOT))}


def _param(choices: list[Any], search: Mapping[str, Any] | None, **declared: Any) -> Param:
    return Param(choices=tuple(choices), search=space.from_dict(search) if search else None, **declared)
