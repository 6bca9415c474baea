"""Checks that the engine's code is the code locked under its version number.

`engine.lock` holds ENGINE with a hash of each module that can change the numbers of training or evaluation,
and for each measure its VERSION with a hash of its code. A change of locked code requires a new ENGINE, a new
VERSION of the measure, or a demonstration that no number changed:

    python -m suite.engine_lock                    list the differences; exit code 1 if there are any
    python -m suite.engine_lock --raise            write the lock after ENGINE or a VERSION was raised
    python -m suite.engine_lock --same-as COMMIT   write it if the battery of runs gives the same bits there

Comments, docstrings, layout and the position of an import in its module do not count. The module that a name
is imported from does: after a module moved, the battery has to show that no number changed. Loads no torch.
"""

from __future__ import annotations

import argparse
import ast
import hashlib
import json
import sys
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from suite.code_hash import ROOT, code_hash, imports, is_helper, syntax_tree
from suite.engine_battery import battery, checkout, compare, run_module
from suite.errors import SteppeError
from suite.files import write_whole

NAME = "suite/engine.lock"
"""Path of the lock, relative to the folder that holds the packages."""

UNLOCKED = {
    "suite": "names and numbers of versions",
    "suite.code_hash": "identifies code",
    "suite.entries.select": "the run's spec holds what it resolves",
    "suite.errors": "text of errors",
    "suite.files": "writes and reads bytes; suite.store.lines writes the rows of numbers",
    "suite.records.cpu": "identifies hardware",
    "suite.records.provenance": "identifies code and hardware",
    "suite.records.source_tree": "identifies code",
    "suite.space": "search spaces; the run's spec holds the value that was found",
    "suite.store.folders": "stores files; the spec that it reads is checked against the run's id",
    "suite.store.heartbeat": "detects whether a process is alive",
    "suite.store.index": "lists records",
    "suite.store.lease": "decides which process may work on a run, not what it computes",
}
"""Modules that a run loads and that cannot change a number, each with the reason. All others are locked."""

MEASURES = "suite.sharpness"
"""The package of the measures: each is locked together with the modules of this package that it imports."""

STARTS = ("suite.engine.train", "suite.engine.worker_rank", "suite.engine.remeasure", MEASURES)
"""Entry points of a run. All modules that imports reach from here and from the files of tasks/ and baselines/
are locked, except helpers of those files, which are part of the entries' own hashes.
Hosts of runs are not included: `suite.engine.precision` sets every setting that a host may have changed."""

_HEAD = "# The engine that ENGINE stands for. Written by `python -m suite.engine_lock`, never by hand.\n"


@dataclass(frozen=True)
class Estimator:
    """A module of measures: its version, the hash of its code, and the names of its measures."""

    version: int
    code: str
    measures: tuple[str, ...]


@dataclass(frozen=True)
class Lock:
    """The version of an engine and the hashes of its code."""

    engine: int
    modules: Mapping[str, str]
    """Hash by module."""
    estimators: Mapping[str, Estimator]
    """Estimator by module of the package `MEASURES`."""

    @property
    def measures(self) -> dict[str, int]:
        """Version of each measure by name."""
        return {name: one.version for one in self.estimators.values() for name in one.measures}

    def text(self) -> str:
        """The content of `engine.lock`."""
        modules = [f'"{name}" = "{code}"' for name, code in sorted(self.modules.items())]
        estimators = [
            f'"{name}" = {{ version = {one.version}, measures = {json.dumps(one.measures)}, '
            f'code = "{one.code}" }}'
            for name, one in sorted(self.estimators.items())
        ]
        parts = [f"engine = {self.engine}", "", "[modules]", *modules, "", "[estimators]", *estimators, ""]
        return _HEAD + "\n".join(parts)


def parse(raw: bytes) -> Lock:
    """Parse the content of an `engine.lock`; SteppeError if it is damaged."""
    try:
        found = tomllib.loads(raw.decode())
        estimators = {
            name: Estimator(int(one["version"]), str(one["code"]), tuple(one["measures"]))
            for name, one in found["estimators"].items()
        }
        return Lock(int(found["engine"]), dict(found["modules"]), estimators)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise SteppeError(f"{NAME} is damaged ({error}): restore it with `git checkout {NAME}`") from None


def locked(root: Path = ROOT) -> Lock:
    """Read the lock below `root`; SteppeError if it is missing or damaged."""
    try:
        return parse((root / NAME).read_bytes())
    except FileNotFoundError:
        raise SteppeError(f"no {root / NAME}: restore it with `git checkout {NAME}`") from None


def current(root: Path = ROOT) -> Lock:
    """Compute the lock of the present code below `root`."""
    return _Tree(root).lock


def differences(root: Path = ROOT) -> list[str]:
    """Return one line per difference from the lock, with the action to take."""
    return [one.line for one in _differences(_Tree(root), locked(root))]


# -- the present code ----------------------------------------------------------------------------------


class _Tree:
    """The modules of the suite below a folder. Files are parsed and never executed."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._imported: dict[Path, list[str]] = {}

    @cached_property
    def files(self) -> dict[str, Path]:
        """Path of every module."""
        found: dict[str, Path] = {}
        for path in sorted((self.root / "suite").rglob("[!.]*.py")):
            parts = path.relative_to(self.root).with_suffix("").parts
            # Python prefers a package to a module of the same name; so does the sort order here.
            found.setdefault(".".join(parts[:-1] if parts[-1] == "__init__" else parts), path)
        return found

    @property
    def _entries(self) -> list[Path]:
        """Files of tasks/ and baselines/."""
        return [path for folder in ("tasks", "baselines") for path in (self.root / folder).glob("[!.]*.py")]

    @cached_property
    def lock(self) -> Lock:
        """The lock of this code."""
        modules = {name: self._code(name) for name in self._reached_by_runs - UNLOCKED.keys()}
        estimators = {name: self._estimator(name, measures) for name, measures in self._measures.items()}
        return Lock(_whole(self.files["suite"], "ENGINE"), modules, estimators)

    @cached_property
    def _reached_by_runs(self) -> set[str]:
        """Modules that a run can load, except measures and helpers that only entries import."""
        entries = self._reached(name for path in self._entries for name in self._imports(path, ""))
        engine = self._reached([*STARTS, *self._measures])
        found = engine | {module for module in entries if not is_helper(module)}
        return {module for module in found if not _is_of_measures(module)}

    @cached_property
    def _measures(self) -> dict[str, tuple[str, ...]]:
        """Names of the measures in each module."""
        inside = {name: path for name, path in self.files.items() if name.startswith(f"{MEASURES}.")}
        found = {name: _literal(path, "MEASURES") for name, path in inside.items()}
        return {name: tuple(sorted(measures)) for name, measures in found.items() if measures is not None}

    def _estimator(self, module: str, measures: tuple[str, ...]) -> Estimator:
        through = sorted(self._code(name) for name in self._reached([module]) if _is_of_measures(name))
        code = hashlib.sha256("\n".join(through).encode()).hexdigest()
        return Estimator(_whole(self.files[module], "VERSION"), code, measures)

    def _code(self, module: str) -> str:
        return code_hash(self.files[module], places=True)

    def _reached(self, starts: Iterable[str]) -> set[str]:
        """Return the modules reachable from `starts` by imports, including imports inside functions."""
        found: set[str] = set()
        waiting = list(starts)
        while waiting:
            module = waiting.pop()
            if module in self.files and module not in found:
                found.add(module)
                waiting += self._imports(self.files[module], module)
        return found

    def _imports(self, path: Path, module: str) -> list[str]:
        """Return the dotted names in a file's import statements: modules, and names that may be modules."""
        if path not in self._imported:
            found = [one for one in imports(syntax_tree(path)) if one.runs]
            self._imported[path] = [
                module.rpartition(".")[0],  # importing a module runs its parent packages too
                *(one.module for one in found),
                *(f"{one.module}.{one.name}" for one in found),
            ]
        return self._imported[path]


def _is_of_measures(module: str) -> bool:
    return module == MEASURES or module.startswith(f"{MEASURES}.")


def _literal(path: Path, name: str) -> Any:
    """Return the literal that a module assigns to a top-level name, or None."""
    for node in syntax_tree(path).body:
        targets = [ast.unparse(target) for target in getattr(node, "targets", ())]
        if isinstance(node, ast.Assign) and targets == [name]:
            try:
                return ast.literal_eval(node.value)
            except ValueError:
                raise SteppeError(f"{path}: {name} is not a literal; write its value itself") from None
    return None


def _whole(path: Path, name: str) -> int:
    value = _literal(path, name)
    if type(value) is not int:
        raise SteppeError(f"{path}: {name} is {value!r}; assign a whole number, for instance `{name} = 1`")
    return value


# -- differences ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Difference:
    line: str
    may_raise: bool = False
    """Whether ENGINE or a VERSION was raised for it, so that `--raise` may write the lock."""
    may_be_same: bool = False
    """Whether the battery can show that it changes no number."""


def _differences(tree: _Tree, then: Lock) -> Iterator[_Difference]:
    yield from _misplaced(tree)
    yield from _of_engine(tree.lock, then)
    yield from _of_measures(tree.lock, then)


def _misplaced(tree: _Tree) -> Iterator[_Difference]:
    """Yield names in UNLOCKED that are not modules."""
    for module in sorted(UNLOCKED.keys() - tree.files.keys()):
        yield _Difference(f"{module} does not exist: take it out of UNLOCKED in suite/engine_lock.py")


def _of_engine(now: Lock, then: Lock) -> Iterator[_Difference]:
    rose = now.engine > then.engine
    if now.engine < then.engine:
        yield _Difference(f"ENGINE is {now.engine}, locked is {then.engine}: it never falls, set it back")
    if rose:
        yield _Difference(
            f"ENGINE rose from {then.engine} to {now.engine}: run `python -m suite.engine_lock --raise`",
            may_raise=True,
        )
    advice = (
        "run `python -m suite.engine_lock --raise`"
        if rose
        else "raise ENGINE in suite/__init__.py and run `python -m suite.engine_lock --raise`, or show that "
        "no number changed with `python -m suite.engine_lock --same-as COMMIT`"
    )
    for module in sorted(now.modules.keys() | then.modules.keys()):
        if module not in then.modules:
            what = (
                "can be reached by a run and is not locked (if it can change no number, add it to UNLOCKED)"
            )
        elif module not in now.modules:
            what = "is no longer in the lock"
        elif now.modules[module] != then.modules[module]:
            what = "changed"
        else:
            continue
        yield _Difference(f"{module} {what}: {advice}", may_raise=rose, may_be_same=True)


def _of_measures(now: Lock, then: Lock) -> Iterator[_Difference]:
    for module in sorted(now.estimators.keys() | then.estimators.keys()):
        new, old = now.estimators.get(module), then.estimators.get(module)
        if new == old:
            continue
        if new is None or old is None:
            what = "is a new measure" if old is None else "is no measure any more"
            advice = "run `python -m suite.engine_lock --raise`"
            yield _Difference(f"{module} {what}: {advice}", may_raise=True, may_be_same=True)
        elif new.version < old.version:
            line = f"{module}: VERSION is {new.version}, locked is {old.version}: it never falls, set it back"
            yield _Difference(line)
        elif new.version > old.version:
            line = f"{module}: VERSION rose from {old.version} to {new.version}"
            yield _Difference(f"{line}: run `python -m suite.engine_lock --raise`", may_raise=True)
        else:
            file = f"{module.replace('.', '/')}.py"
            yield _Difference(
                f"{module}, or what it uses of {MEASURES}, changed: raise VERSION in {file} and run "
                "`python -m suite.engine_lock --raise`, or show that no number changed with "
                "`python -m suite.engine_lock --same-as COMMIT`",
                may_be_same=True,
            )


# -- writing the lock ----------------------------------------------------------------------------------


def write_raised(root: Path = ROOT) -> Lock:
    """Rewrite the lock; SteppeError if code changed and its version number was not raised."""
    tree = _Tree(root)
    _refuse(one for one in _differences(tree, locked(root)) if not one.may_raise)
    write(tree.lock, root)
    return tree.lock


def _refuse(differences: Iterable[_Difference]) -> None:
    found = [one.line for one in differences]
    if found:
        more = f" ({len(found) - 1} more like this)" if len(found) > 1 else ""
        raise SteppeError(f"not written: {found[0]}{more}")


def write(lock: Lock, root: Path = ROOT) -> None:
    """Replace the lock file below `root`."""
    write_whole(root / NAME, lock.text().encode())


def write_same(commit: str, root: Path = ROOT, *, allow_new: bool = False) -> Lock:
    """Rewrite the lock if the battery gives the same bits at a commit and here; prints the comparison.

    The commit must agree with the present lock; otherwise two commits with the same new code would pass.
    `allow_new` permits runs that exist on one side only.
    """
    tree, then = _Tree(root), locked(root)
    _refuse(one for one in _differences(tree, then) if not one.may_be_same)
    with checkout(commit, root) as place:
        if run_module(place, "suite.engine_lock").returncode != 0 or locked(place) != then:
            raise SteppeError(
                f"{commit} is not the code that {NAME} was written for: name a commit from before the "
                f"change, for instance that of `git log -1 --format=%h -- {NAME}`"
            )
        there = battery(place, commit)
    comparison = compare(there, battery(root, "the code here"))
    print("\n".join(comparison.table))
    if comparison.differing or not comparison.n_same:
        raise SteppeError(f"not written: other bits in {', '.join(comparison.differing) or 'every run'}")
    if comparison.one_sided and not allow_new:
        what = ", ".join(comparison.one_sided)
        raise SteppeError(f"not written: one side alone has some or all of {what}; --allow-new permits that")
    write(tree.lock, root)
    return tree.lock


def main(argv: Sequence[str] | None = None) -> int:
    """Report differences from the lock, or write it; return 0 if it agrees in the end, else 1."""
    parser = argparse.ArgumentParser(
        prog="python -m suite.engine_lock",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--raise", action="store_true", dest="raised", help="ENGINE or a VERSION was raised")
    how.add_argument("--same-as", metavar="COMMIT", help="check that all numbers equal those of COMMIT")
    parser.add_argument(
        "--allow-new", action="store_true", help="with --same-as: permit runs that one side lacks"
    )
    args = parser.parse_args(argv)
    if args.allow_new and args.same_as is None:
        parser.error("--allow-new requires --same-as COMMIT")
    try:
        if args.raised:
            lock = write_raised()
        elif args.same_as is not None:
            lock = write_same(args.same_as, allow_new=args.allow_new)
        else:
            found = differences()
            print("\n".join(found or [f"{NAME} agrees with the code"]))
            return 1 if found else 0
    except SteppeError as error:
        print(f"engine_lock: error: {error}", file=sys.stderr)
        return 1
    print(
        f"{NAME} is written: engine {lock.engine}, {len(lock.modules)} modules, {len(lock.measures)} measures"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
