"""Whether the engine still is the code that its number stands for.

`engine.lock` holds ENGINE with a hash of each module that can change what a run trains or scores, and for
each measure its VERSION with a hash of its code. A change of such code either is another engine, or another
version of a measure, or it is shown to change no number:

    python -m suite.engine_lock                    what differs from the lock; exit code 1 if anything does
    python -m suite.engine_lock --raise            write the lock after ENGINE or a VERSION was raised
    python -m suite.engine_lock --same-as COMMIT   write it if the battery of runs gives the same bits there

Comments, docstrings and layout do not count, nor where in a module an import stands; what is imported from
where does, so a module that moves is shown to change no number by the battery. Loads no torch.
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
"""Place of the lock, from the folder that holds the packages."""

UNLOCKED = {
    "suite": "names and numbers by which versions are known",
    "suite.code_hash": "names code",
    "suite.entries.select": "what it resolves stands in the run's spec",
    "suite.errors": "words of errors",
    "suite.files": "writes and reads bytes; rows of numbers are those of suite.store.lines",
    "suite.records.cpu": "names hardware",
    "suite.records.provenance": "names code and hardware",
    "suite.records.source_tree": "names code",
    "suite.space": "where values are searched; what was found stands in the run's spec",
    "suite.store.lease": "decides who may work on a run, not what the work is",
    "suite.store.heartbeat": "tells whether a process lives",
    "suite.store.index": "lists records",
    "suite.store.folders": "keeps files; the spec that it reads is held to the run's id",
}
"""Modules that a run loads and that cannot change a number, each with the reason. All others are locked."""

MEASURES = "suite.sharpness"
"""The package of the measures: each is locked with the modules of the package that it runs through."""

STARTS = ("suite.engine.train", "suite.engine.worker_rank", "suite.engine.remeasure", MEASURES)
"""Where a run starts. All that imports reach from here and from the files of tasks/ and baselines/ is locked,
but for what is part of the code of those files, which has a hash of its own.
What hosts a run is not here: `suite.engine.precision` states each setting that a host may have changed."""

_HEAD = "# The engine that ENGINE stands for. Written by `python -m suite.engine_lock`, never by hand.\n"


@dataclass(frozen=True)
class Estimator:
    """A module of measures: its version, the hash of its code, and the measures that it gives."""

    version: int
    code: str
    measures: tuple[str, ...]


@dataclass(frozen=True)
class Lock:
    """The number of an engine and the code that it stands for."""

    engine: int
    modules: Mapping[str, str]
    """Hash by module."""
    estimators: Mapping[str, Estimator]
    """By module of `MEASURES`."""

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
    """Read the content of an `engine.lock`; SteppeError where it is damaged."""
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
    """Return the lock that is written below `root`; SteppeError where it is missing or damaged."""
    try:
        return parse((root / NAME).read_bytes())
    except FileNotFoundError:
        raise SteppeError(f"no {root / NAME}: restore it with `git checkout {NAME}`") from None


def current(root: Path = ROOT) -> Lock:
    """Return the lock of the code as it is below `root`."""
    return _Tree(root).lock


def differences(root: Path = ROOT) -> list[str]:
    """Say in a line each what differs from the lock and what to do about it; none where nothing does."""
    return [one.line for one in _differences(_Tree(root), locked(root))]


# -- what code there is --------------------------------------------------------------------------------


class _Tree:
    """The modules of the suite below a folder. Reads files and executes none."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._imported: dict[Path, list[str]] = {}

    @cached_property
    def files(self) -> dict[str, Path]:
        """File of every module."""
        found: dict[str, Path] = {}
        for path in sorted((self.root / "suite").rglob("[!.]*.py")):
            parts = path.relative_to(self.root).with_suffix("").parts
            # Python takes a package before a module of that name, and so does the order here.
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
        """Modules that a run can load, without measures and what is part of the code of its entries alone."""
        entries = self._reached(name for path in self._entries for name in self._imports(path, ""))
        engine = self._reached([*STARTS, *self._measures])
        found = engine | {module for module in entries if not is_helper(module)}
        return {module for module in found if not _is_of_measures(module)}

    @cached_property
    def _measures(self) -> dict[str, tuple[str, ...]]:
        """Names of its measures by module."""
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
        """Modules that run when these are used, followed from import to import, lazy ones included."""
        found: set[str] = set()
        waiting = list(starts)
        while waiting:
            module = waiting.pop()
            if module in self.files and module not in found:
                found.add(module)
                waiting += self._imports(self.files[module], module)
        return found

    def _imports(self, path: Path, module: str) -> list[str]:
        """What a file's import statements name: modules, and names that may be modules."""
        if path not in self._imported:
            found = [one for one in imports(syntax_tree(path)) if one.runs]
            self._imported[path] = [
                module.rpartition(".")[0],  # importing a module runs its packages
                *(one.module for one in found),
                *(f"{one.module}.{one.name}" for one in found),
            ]
        return self._imported[path]


def _is_of_measures(module: str) -> bool:
    return module == MEASURES or module.startswith(f"{MEASURES}.")


def _literal(path: Path, name: str) -> Any:
    """The literal that a module assigns to a name at its top; None where it assigns none."""
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


# -- what differs --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Difference:
    line: str
    may_raise: bool = False
    """Whether a number has risen for it, so that `--raise` may write the lock."""
    may_be_same: bool = False
    """Whether the battery can show that it changes nothing."""


def _differences(tree: _Tree, then: Lock) -> Iterator[_Difference]:
    yield from _misplaced(tree)
    yield from _of_engine(tree.lock, then)
    yield from _of_measures(tree.lock, then)


def _misplaced(tree: _Tree) -> Iterator[_Difference]:
    """Names in the list of what is not locked that are no modules."""
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
        "nothing moved with `python -m suite.engine_lock --same-as COMMIT`"
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
                "`python -m suite.engine_lock --raise`, or show that nothing moved with "
                "`python -m suite.engine_lock --same-as COMMIT`",
                may_be_same=True,
            )


# -- writing the lock ----------------------------------------------------------------------------------


def write_raised(root: Path = ROOT) -> Lock:
    """Write the lock anew; SteppeError where no number rose for something that changed."""
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
    """Replace the file of the lock below `root`."""
    write_whole(root / NAME, lock.text().encode())


def write_same(commit: str, root: Path = ROOT, *, allow_new: bool = False) -> Lock:
    """Write the lock anew if the battery gives the same bits at a commit and here; prints how it went.

    The commit must be the code of the present lock, by its own account: else two commits of the same new
    code would agree. `allow_new` lets pass what one side alone runs.
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
    """Tell what differs from the lock, or write it; 0 if it agrees now, 1 if not."""
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


if __name__ == "__main__":
    sys.exit(main())
