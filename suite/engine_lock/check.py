"""Check that the engine's code is the code that its number ENGINE stands for.

`engine.lock` holds ENGINE with a hash of each module that can change what a run trains or scores, and for
each measure its VERSION with a hash of its code. A change of this code needs a new ENGINE, a new VERSION of
the measure, or a proof by the battery of runs that it changes no number:

    python -m suite.engine_lock                    what differs from the lock; exit code 1 if anything does
    python -m suite.engine_lock --raise            write the lock after ENGINE or a VERSION was raised
    python -m suite.engine_lock --same-as COMMIT   write it if the battery of runs gives the same bits there

Comments, docstrings, layout and the position of an import within a module do not count. The module that a
name is imported from does, so moving a module needs the proof. Loads no torch.
"""

from __future__ import annotations

import argparse
import ast
import hashlib
import sys
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from suite.code_hash import ROOT, code_hash, imports, is_helper, syntax_tree
from suite.engine_lock.battery import battery, checkout, compare, run_module
from suite.engine_lock.differences import Difference, compare_locks
from suite.engine_lock.file import NAME, Estimator, Lock, parse
from suite.errors import SteppeError
from suite.files import write_whole

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
"""Package of the measures. Each measure is locked with the modules of this package that it imports."""

STARTS = ("suite.engine.train", "suite.engine.worker_rank", "suite.engine.remeasure", MEASURES)
"""Modules that start a run. They are locked, with all modules that they or the files of tasks/ and baselines/
import, except modules that are part of the code of those files, which has a separate hash.
The host of a run is not locked: `suite.engine.precision` sets each setting that a host may have changed."""


def locked(root: Path = ROOT) -> Lock:
    """Return the written lock below `root`; SteppeError if it is missing or damaged."""
    try:
        return parse((root / NAME).read_bytes())
    except FileNotFoundError:
        raise SteppeError(f"no {root / NAME}: restore it with `git checkout {NAME}`") from None


def current(root: Path = ROOT) -> Lock:
    """Return the lock of the code below `root`."""
    return _Tree(root).lock


def differences(root: Path = ROOT) -> list[str]:
    """Return one line per difference from the written lock, with advice."""
    return [one.line for one in _differences(_Tree(root), locked(root))]


# -- modules and hashes --------------------------------------------------------------------------------


class _Tree:
    """The modules of the suite below a folder. Reads files and executes none."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._imported: dict[Path, list[str]] = {}

    @cached_property
    def files(self) -> dict[str, Path]:
        """File of each module by name."""
        found: dict[str, Path] = {}
        for path in sorted((self.root / "suite").rglob("[!.]*.py")):
            parts = path.relative_to(self.root).with_suffix("").parts
            # Python prefers a package to a module of that name; the sorted order puts the package first.
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
        """Modules that a run can load, except measures and modules that only the code of entries contains."""
        entries = self._reached(name for path in self._entries for name in self._imports(path, ""))
        engine = self._reached([*STARTS, *self._measures])
        found = engine | {module for module in entries if not is_helper(module)}
        return {module for module in found if not _is_of_measures(module)}

    @cached_property
    def _measures(self) -> dict[str, tuple[str, ...]]:
        """Names of the measures by module."""
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
        """Return `starts` and the modules that they import, transitively; imports in functions count."""
        found: set[str] = set()
        waiting = list(starts)
        while waiting:
            module = waiting.pop()
            if module in self.files and module not in found:
                found.add(module)
                waiting += self._imports(self.files[module], module)
        return found

    def _imports(self, path: Path, module: str) -> list[str]:
        """Return the names in a file's import statements: modules, and names that may be modules."""
        if path not in self._imported:
            found = [one for one in imports(syntax_tree(path)) if one.runs]
            self._imported[path] = [
                module.rpartition(".")[0],  # importing a module runs its package
                *(one.module for one in found),
                *(f"{one.module}.{one.name}" for one in found),
            ]
        return self._imported[path]


def _is_of_measures(module: str) -> bool:
    return module == MEASURES or module.startswith(f"{MEASURES}.")


def _literal(path: Path, name: str) -> Any:
    """Return the literal that a module assigns to a name at top level; None if it assigns none."""
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


# -- comparing and writing -----------------------------------------------------------------------------


def _differences(tree: _Tree, then: Lock) -> Iterator[Difference]:
    for module in sorted(UNLOCKED.keys() - tree.files.keys()):
        yield Difference(f"{module} does not exist: take it out of UNLOCKED in suite/engine_lock/check.py")
    yield from compare_locks(tree.lock, then)


def write_raised(root: Path = ROOT) -> Lock:
    """Write the lock; SteppeError if code changed and its ENGINE or VERSION did not rise."""
    tree = _Tree(root)
    _refuse(one for one in _differences(tree, locked(root)) if not one.may_raise)
    write(tree.lock, root)
    return tree.lock


def _refuse(differences: Iterable[Difference]) -> None:
    found = [one.line for one in differences]
    if found:
        more = f" ({len(found) - 1} more like this)" if len(found) > 1 else ""
        raise SteppeError(f"not written: {found[0]}{more}")


def write(lock: Lock, root: Path = ROOT) -> None:
    """Replace the lock file below `root`."""
    write_whole(root / NAME, lock.text().encode())


def write_same(commit: str, root: Path = ROOT, *, allow_new: bool = False) -> Lock:
    """Write the lock if the battery gives the same bits at a commit and here; print the comparison.

    The commit's code must agree with the present lock: otherwise the new code could be compared with itself.
    `allow_new` accepts runs that only one side has.
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
        raise SteppeError(f"not written: one side alone has some or all of {what}; --allow-new lets it pass")
    write(tree.lock, root)
    return tree.lock


def main(argv: Sequence[str] | None = None) -> int:
    """Print the differences from the lock, or write it; return 0 if they agree, else 1."""
    parser = argparse.ArgumentParser(
        prog="python -m suite.engine_lock",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--raise", action="store_true", dest="raised", help="ENGINE or a VERSION was raised")
    how.add_argument("--same-as", metavar="COMMIT", help="show that the numbers are those of the commit")
    parser.add_argument(
        "--allow-new", action="store_true", help="with --same-as: runs that one side lacks pass"
    )
    args = parser.parse_args(argv)
    if args.allow_new and args.same_as is None:
        parser.error("--allow-new goes with --same-as COMMIT")
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
