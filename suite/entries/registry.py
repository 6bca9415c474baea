"""Finds entries in tasks/ and baselines/ next to this package, in entry points, and in plugin files.

A module of tasks/ lists its entries in `TASKS`, a module of baselines/ in `OPTIMIZERS`; a module without the
list has no entries. A built-in entry is identified by its version: the store pins the hash of its code and
refuses a change under the same version. A plugin is identified by the hash of its code, which enters the
run's id. The code of an entry is its file and the entry's own modules that it imports, see `suite.code_hash`.
"""

from __future__ import annotations

import fnmatch
import importlib
import importlib.util
import pkgutil
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.machinery import SourceFileLoader
from importlib.metadata import entry_points
from pathlib import Path
from types import CodeType, ModuleType
from typing import TYPE_CHECKING

import msgspec

from suite.code_hash import source_hash
from suite.errors import SteppeError, unknown
from suite.spec import EntryName, EntryRef, OptimizerSpec, RunSpec, check_params, resolve_params
from suite.task import TaskSpec

if TYPE_CHECKING:
    from suite.records.schema import Record
    from suite.store.folders import Store
    from suite.task import Task

Entry = TaskSpec | OptimizerSpec


@dataclass(frozen=True)
class Found:
    """An entry and its file. The source hash of a `plugin` entry enters the run's id."""

    entry: Entry
    path: Path
    plugin: bool

    @cached_property
    def source_hash(self) -> str:
        """SHA-256 of the code of the entry's file and of the entry's own modules that it imports."""
        return source_hash(self.path)


class Registry:
    """All tasks and optimizers, found once at first access."""

    def __init__(self, plugins: Sequence[str | Path] = ()) -> None:
        self.plugins = tuple(dict.fromkeys(Path(p).resolve() for p in plugins))

    @cached_property
    def tasks(self) -> dict[str, Found]:
        """Task entries by name."""
        return self._find("tasks", "TASKS", "steppe.tasks", TaskSpec)

    @cached_property
    def optimizers(self) -> dict[str, Found]:
        """Optimizer entries by name."""
        return self._find("baselines", "OPTIMIZERS", "steppe.optimizers", OptimizerSpec)

    @cached_property
    def _plugin_modules(self) -> list[tuple[ModuleType, Path]]:
        modules = [(load_file(path), path) for path in self.plugins]
        for module, path in modules:
            if not (hasattr(module, "TASKS") or hasattr(module, "OPTIMIZERS")):
                raise SteppeError(f"{path}: it has neither TASKS nor OPTIMIZERS, a list of entries")
        return modules

    def _find(self, package: str, attribute: str, group: str, kind: type[Entry]) -> dict[str, Found]:
        found: dict[str, Found] = {}
        for module, path in _package_modules(package):
            self._add(found, module, path, attribute, kind, plugin=False)
        for point in entry_points(group=group):
            module = importlib.import_module(point.module)
            self._add(found, module, Path(str(module.__file__)), attribute, kind, plugin=True)
        for module, path in self._plugin_modules:
            self._add(found, module, path, attribute, kind, plugin=True)
        return found

    @staticmethod
    def _add(
        found: dict[str, Found],
        module: ModuleType,
        path: Path,
        attribute: str,
        kind: type[Entry],
        *,
        plugin: bool,
    ) -> None:
        entries = getattr(module, attribute, ())
        if not isinstance(entries, list | tuple):
            raise SteppeError(f"{path}: {attribute} is a {type(entries).__name__}; valid: a list of entries")
        for entry in entries:
            if not isinstance(entry, kind):
                raise SteppeError(
                    f"{path}: {attribute} holds a {type(entry).__name__}, not a {kind.__name__}"
                )
            _check_name(entry.name, path)
            if entry.name in found:
                raise SteppeError(
                    f"{path}: the name {entry.name!r} is taken by {found[entry.name].path}; choose another"
                )
            check_params(entry.params, f"{path}: {entry.name}")
            found[entry.name] = Found(entry, path, plugin)

    def task(self, name: str) -> Found:
        """Return a task entry by name; SteppeError with the nearest match if the name is unknown."""
        return _get(self.tasks, "task", name)

    def optimizer(self, name: str) -> Found:
        """Return an optimizer entry by name; SteppeError with the nearest match if the name is unknown."""
        return _get(self.optimizers, "optimizer", name)

    def resolve_task(self, ref: EntryRef) -> Task:
        """Build the task of a resolved reference; SteppeError if version, source or parameters changed."""
        found = self.task(ref.name)
        entry = found.entry
        assert isinstance(entry, TaskSpec)
        _check_same("task", ref, found)
        return entry.make(**ref.params)

    def resolve_optimizer(self, ref: EntryRef) -> OptimizerSpec:
        """Return the optimizer entry of a reference; SteppeError if version, source or parameters changed."""
        found = self.optimizer(ref.name)
        entry = found.entry
        assert isinstance(entry, OptimizerSpec)
        _check_same("optimizer", ref, found)
        return entry

    def pin(self, spec: RunSpec, store: Store) -> dict[str, str]:
        """Pin the code of a run's built-in entries in the store; return the source hash of each kind.

        Raises SteppeError if the code of an entry changed under the same version.
        """
        found = self._entries(spec)
        for kind, one in found.items():
            if not one.plugin:
                store.pin_entry(kind, one.entry.name, one.entry.version, one.source_hash)
        return {kind: one.source_hash for kind, one in found.items()}

    def hold(self, record: Record, path: Path) -> None:
        """Check that a record of the file at `path` was made by the present code of its entries.

        Raises SteppeError if other code made the record: its run cannot count as done.
        """
        for kind, one in self._entries(record.spec).items():
            if getattr(record.sources, kind) != one.source_hash:
                raise SteppeError(
                    f"{kind} {one.entry.name} changed under version {one.entry.version} (other code made run "
                    f"{record.run_id} of {path}): raise its version, or leave the file out"
                )

    def _entries(self, spec: RunSpec) -> dict[str, Found]:
        """Return the entries of a run by kind."""
        return {"task": self.task(spec.task.name), "optimizer": self.optimizer(spec.optimizer.name)}

    def reference(self, kind: str, name: str, overrides: dict[str, str]) -> EntryRef:
        """Resolve a selector's name and overrides to a reference with every parameter filled in."""
        found = self.task(name) if kind == "task" else self.optimizer(name)
        params = resolve_params(found.entry.params, overrides, f"{kind} {name}")
        return EntryRef(
            name, found.entry.version, params, plugin_source=found.source_hash if found.plugin else None
        )


def _check_name(name: object, path: Path) -> None:
    try:
        msgspec.convert(name, EntryName)
    except msgspec.ValidationError:
        raise SteppeError(
            f"{path}: {name!r:.60} is no name of an entry; valid: lower-case letters, digits, '-', '_' and "
            f"'.', a letter or a digit first"
        ) from None


def _check_same(kind: str, ref: EntryRef, found: Found) -> None:
    """Raise SteppeError if an entry's version, source or parameters changed since `ref` was resolved."""
    if found.entry.version != ref.version:
        raise SteppeError(
            f"{kind} {ref.name} is at version {found.entry.version}, but the run was specified at "
            f"version {ref.version}: specify the run again"
        )
    if ref.plugin_source is not None and ref.plugin_source != found.source_hash:
        raise SteppeError(
            f"{kind} {ref.name}: {found.path} changed since the run was specified: specify it again"
        )
    owner = f"{kind} {ref.name}"
    missing = [name for name in found.entry.params if name not in ref.params]
    if missing:
        raise SteppeError(f"{owner} takes {missing[0]}, which the run does not say: specify the run again")
    resolve_params(found.entry.params, ref.params, owner)  # raises if a parameter is unknown or out of range


def _hint(kind: str) -> str:
    return f"`steppe list {kind}s` describes them; --plugin FILE adds those of a file of yours"


def _get(entries: dict[str, Found], kind: str, name: str) -> Found:
    if name not in entries:
        raise unknown(kind, name, entries, hint=_hint(kind))
    return entries[name]


def match(pattern: str, names: Iterable[str], kind: str) -> list[str]:
    """Return the names that match a glob, in order; SteppeError with the nearest match if there are none."""
    valid = list(names)
    hits = [name for name in valid if fnmatch.fnmatchcase(name, pattern)]
    if not hits:
        raise unknown(kind, pattern, valid, hint=_hint(kind))
    return hits


def _package_modules(package: str) -> list[tuple[ModuleType, Path]]:
    root = importlib.import_module(package)
    modules = []
    for info in sorted(pkgutil.iter_modules(root.__path__), key=lambda info: info.name):
        path = Path(root.__path__[0]) / f"{info.name}.py"
        try:
            modules.append((importlib.import_module(f"{package}.{info.name}"), path))
        except Exception as error:
            raise SteppeError(
                f"{path} cannot be imported: {_reason(error)}; correct or remove the file"
            ) from error
    return modules


def _reason(error: Exception) -> str:
    kind = "" if isinstance(error, SteppeError) else f"{type(error).__name__}: "
    return " ".join(f"{kind}{error}".split())


class _Uncached(SourceFileLoader):
    """Loader that ignores cached bytecode: Python misses an edit within one second at equal size."""

    def get_code(self, fullname: str) -> CodeType:
        return compile(self.get_data(self.path), self.path, "exec", dont_inherit=True)


def load_file(path: Path) -> ModuleType:
    """Import a plugin file as `steppe_plugin_<stem>`; SteppeError if it is missing or broken."""
    if not path.is_file():
        raise SteppeError(f"no plugin file {path}: give --plugin the path of a Python file")
    if path.suffix != ".py":
        raise SteppeError(f"plugin {path} is not a Python file: its name must end in .py")
    name = f"steppe_plugin_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path, loader=_Uncached(name, str(path)))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look up their module by name
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[spec.name]
        raise SteppeError(f"plugin {path} cannot be imported: {_reason(error)}") from error
    return module
