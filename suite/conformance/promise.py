"""Promises of an entry, their judgement, and helpers for messages."""

from __future__ import annotations

import random
import re
import traceback
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

import numpy as np
import torch
from torch import Tensor

from suite.errors import SteppeError
from suite.spec import OptimizerSpec
from suite.task import TaskSpec

Case = TypeVar("Case")
"""An optimizer entry or a task entry in one setting."""

Faults = Generator[object, None, str]
"""Yields a text per fault (the error and a likely cause), or a false value for a passed test; returns the
evidence that the promise is kept. The first fault ends the judgement."""

LONGEST = 200
"""Maximum characters of an exception's text, which may print all numbers of a tensor."""


class Broken(Exception):  # noqa: N818 - a verdict, not an error of the program
    """A fault raised by code that cannot yield it."""


@dataclass(frozen=True)
class Promise(Generic[Case]):
    """A property that an entry must have."""

    name: str
    faults: Callable[[Case], Faults]
    """Searches for faults. An exception from the entry's code is a fault, too."""
    needed: bool = False
    """Whether the following promises cannot be judged if this one is broken."""


@dataclass(frozen=True)
class Check:
    """Result for one promise. The message is the evidence, or the fault and its likely cause, in one line."""

    promise: str
    ok: bool
    message: str


def judge(case: Case, promises: Iterable[Promise[Case]]) -> list[Check]:
    """Judge promises in order, up to the first broken one that is needed.

    Computes on one CPU thread; restores the thread count and the global generators.
    """
    checks: list[Check] = []
    threads, of_python, of_numpy = torch.get_num_threads(), random.getstate(), np.random.get_state()
    torch.set_num_threads(1)
    try:
        with torch.random.fork_rng(devices=[]):
            for promise in promises:
                checks.append(_judge(case, promise))
                if promise.needed and not checks[-1].ok:
                    break
    finally:
        torch.set_num_threads(threads)
        random.setstate(of_python)
        np.random.set_state(of_numpy)
    return checks


def _judge(case: Case, promise: Promise[Case]) -> Check:
    try:
        return Check(promise.name, True, evidence(promise.faults(case)))
    except (Broken, SteppeError) as verdict:
        text = str(verdict)
    except Exception as error:  # noqa: BLE001 - an entry under test may raise anything
        cause = error.__cause__  # generators turn a StopIteration of the entry's code into a RuntimeError
        stopped = isinstance(error, RuntimeError) and isinstance(cause, StopIteration)
        text = in_words(cause if cause and stopped else error)
    return Check(promise.name, False, " ".join(text.split()))


def evidence(faults: Faults) -> str:
    """Return the evidence that a promise is kept; raises `Broken` at the first fault."""
    with closing(faults):
        while True:
            try:
                fault = next(faults)
            except StopIteration as end:
                return str(end.value)
            if fault:
                raise Broken(fault)


def in_words(error: BaseException) -> str:
    """Return type, text and source line of an exception."""
    text = " ".join(str(error).split())
    short = text if len(text) <= LONGEST else f"{text[:LONGEST]} ..."
    frames = traceback.extract_tb(error.__traceback__)
    place = f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {short}{place}"


def difference(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> str:
    """Describe the largest difference of two sets of named tensors; empty if they are bit-identical."""
    worst, where, count = -1.0, "", 0
    for name, value in one.items():
        if not torch.equal(value, other[name]):
            count += 1
            gap = float((value.double() - other[name].double()).abs().max())
            if not gap <= worst:
                worst, where = gap, name
    return f"{count} of {len(one)} tensors differ, most {where} (max |d| = {worst:.1e})" if count else ""


def listed(names: Iterable[str]) -> str:
    """Join names by commas; 'none' if there are no names."""
    return ", ".join(names) or "none"


def faults_in_texts(entry: OptimizerSpec | TaskSpec, **texts: str) -> Iterator[object]:
    """Yield faults in the name, version and descriptions of an entry."""
    if not re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", entry.name):
        yield f"the name {entry.name!r} is not lower-case words joined by hyphens, for instance my-method"
    if not re.fullmatch(r"\d+(\.\d+)*", entry.version):
        yield f"the version {entry.version!r} is not a number such as 1 or 1.2"
    for what, text in texts.items():
        yield not text.strip() and f"the entry's {what} is empty: say it in one line"


def faults_in_help(entry: OptimizerSpec | TaskSpec) -> Iterator[object]:
    """Yield a fault if a parameter has no help text."""
    silent = [name for name, param in entry.params.items() if not param.help]
    yield silent and f"no help text for {', '.join(silent)}: say what each parameter is"
