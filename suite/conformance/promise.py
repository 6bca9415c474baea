"""What a promise of an entry is, how a list of them is judged, and the words for what is found."""

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
"""An entry in one setting: an optimizer's, or a task's."""

Faults = Generator[object, None, str]
"""Yields a text for a fault (what is broken, and a likely cause), and anything false where there is none.
It returns the evidence that the promise is kept. The first fault ends it."""

LONGEST = 200
"""Characters of the text of an exception: one about a tensor may hold all of its numbers."""


class Broken(Exception):  # noqa: N818 - a verdict, not an error of the program
    """A fault that is found where nothing can be yielded."""


@dataclass(frozen=True)
class Promise(Generic[Case]):
    """What an entry promises."""

    name: str
    faults: Callable[[Case], Faults]
    """What breaks it; so does whatever the entry's own code raises."""
    needed: bool = False
    """Whether the promises after it cannot be judged once it is broken."""


@dataclass(frozen=True)
class Check:
    """One promise, whether it was kept, and one line: the evidence, or what broke and the likely cause."""

    promise: str
    ok: bool
    message: str


def judge(case: Case, promises: Iterable[Promise[Case]]) -> list[Check]:
    """Judge promises in order, up to one that is needed and broken.

    Computes on one CPU thread; leaves the thread count and the global generators as they are.
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
        cause = error.__cause__  # a generator makes the StopIteration of an entry's code a RuntimeError
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
    """Return the kind, text and place of an exception that an entry's code raised."""
    text = " ".join(str(error).split())
    short = text if len(text) <= LONGEST else f"{text[:LONGEST]} ..."
    frames = traceback.extract_tb(error.__traceback__)
    place = f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {short}{place}"


def difference(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> str:
    """Where two sets of named tensors differ most, in words; empty if they are equal bit for bit."""
    worst, where, count = -1.0, "", 0
    for name, value in one.items():
        if not torch.equal(value, other[name]):
            count += 1
            gap = float((value.double() - other[name].double()).abs().max())
            if not gap <= worst:
                worst, where = gap, name
    return f"{count} of {len(one)} tensors differ, most {where} (max |d| = {worst:.1e})" if count else ""


def listed(names: Iterable[str]) -> str:
    """Join names by commas; 'none' where there is none."""
    return ", ".join(names) or "none"


def faults_in_texts(entry: OptimizerSpec | TaskSpec, **texts: str) -> Iterator[object]:
    """Yield faults unless an entry is named, versioned and described as tables and commands need it."""
    if not re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", entry.name):
        yield f"the name {entry.name!r} is not lower-case words joined by hyphens, for instance my-method"
    if not re.fullmatch(r"\d+(\.\d+)*", entry.version):
        yield f"the version {entry.version!r} is not a number such as 1 or 1.2"
    for what, text in texts.items():
        yield not text.strip() and f"the entry's {what} is empty: say it in one line"


def faults_in_help(entry: OptimizerSpec | TaskSpec) -> Iterator[object]:
    """Yield a fault unless each parameter says what it is."""
    silent = [name for name, param in entry.params.items() if not param.help]
    yield silent and f"no help text for {', '.join(silent)}: say what each parameter is"
