"""Differences between the engine's code and its lock, each with advice."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from suite.engine_lock.file import Lock


@dataclass(frozen=True)
class Difference:
    """A difference from the lock."""

    line: str
    """The difference, with advice."""
    may_raise: bool = False
    """Whether ENGINE or a VERSION rose for it, so that `--raise` may write the lock."""
    may_be_same: bool = False
    """Whether the battery can show that it changes no number."""


def compare_locks(now: Lock, then: Lock) -> Iterator[Difference]:
    """Yield the differences between the code's lock `now` and the written lock `then`."""
    yield from _of_engine(now, then)
    yield from _of_measures(now, then)


def _of_engine(now: Lock, then: Lock) -> Iterator[Difference]:
    rose = now.engine > then.engine
    if now.engine < then.engine:
        yield Difference(f"ENGINE is {now.engine}, locked is {then.engine}: it never falls, set it back")
    if rose:
        yield Difference(
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
        yield Difference(f"{module} {what}: {advice}", may_raise=rose, may_be_same=True)


def _of_measures(now: Lock, then: Lock) -> Iterator[Difference]:
    for module in sorted(now.estimators.keys() | then.estimators.keys()):
        new, old = now.estimators.get(module), then.estimators.get(module)
        if new == old:
            continue
        if new is None or old is None:
            what = "is a new measure" if old is None else "is no measure any more"
            advice = "run `python -m suite.engine_lock --raise`"
            yield Difference(f"{module} {what}: {advice}", may_raise=True, may_be_same=True)
        elif new.version < old.version:
            line = f"{module}: VERSION is {new.version}, locked is {old.version}: it never falls, set it back"
            yield Difference(line)
        elif new.version > old.version:
            line = f"{module}: VERSION rose from {old.version} to {new.version}"
            yield Difference(f"{line}: run `python -m suite.engine_lock --raise`", may_raise=True)
        else:
            file = f"{module.replace('.', '/')}.py"
            yield Difference(
                f"{module}, or what it uses of suite.sharpness, changed: raise VERSION in {file} and run "
                "`python -m suite.engine_lock --raise`, or show that nothing moved with "
                "`python -m suite.engine_lock --same-as COMMIT`",
                may_be_same=True,
            )
