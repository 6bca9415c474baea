"""What a promise is, and how the battery runs a list of them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from suite.errors import SteppeError


@dataclass(frozen=True)
class Check:
    """One promise, whether it was kept, and one line: the evidence, or what broke and the likely cause."""

    promise: str
    ok: bool
    message: str


class Broken(Exception):  # noqa: N818 - a verdict, not an error of the program
    """A promise is broken; the text says how and names a likely cause."""


LONGEST = 200
"""Characters of the text of an exception: one about a tensor may hold all of its numbers."""

Promise = tuple[str, Callable[[], str]]
"""Name of a promise, and the function that returns the evidence for it or raises `Broken`."""


def judge(promise: Promise) -> Check:
    """Run one promise; whatever the entry's own code raises breaks it."""
    name, test = promise
    try:
        return Check(name, True, test())
    except (Broken, SteppeError) as verdict:
        return Check(name, False, _line(str(verdict)))
    except Exception as error:  # noqa: BLE001 - an entry under test may raise anything
        return Check(name, False, _line(in_words(error)))


def judge_all(promises: Iterable[Promise], needed: int = 0) -> list[Check]:
    """Run promises in order; after one of the first `needed` is broken the rest cannot be judged."""
    checks: list[Check] = []
    for number, promise in enumerate(promises):
        checks.append(judge(promise))
        if number < needed and not checks[-1].ok:
            break
    return checks


def _line(text: str) -> str:
    return re.sub(r"\s+", " ", text).strip()


def in_words(error: BaseException) -> str:
    """Return the kind, text and place of an exception that an entry's code raised."""
    text = _line(str(error))
    short = text if len(text) <= LONGEST else f"{text[:LONGEST]} ..."
    return f"{type(error).__name__}: {short}{_place(error)}"


def _place(error: BaseException) -> str:
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None:
        return ""
    return f" ({Path(trace.tb_frame.f_code.co_filename).name}, line {trace.tb_lineno})"


def name_and_text(name: str, version: str, texts: dict[str, str]) -> None:
    """Raise `Broken` unless an entry is named, versioned and described as tables and commands need it."""
    if not re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", name):
        raise Broken(f"the name {name!r} is not lower-case words joined by hyphens, for instance my-method")
    if not re.fullmatch(r"\d+(\.\d+)*", version):
        raise Broken(f"the version {version!r} is not a number such as 1 or 1.2")
    for what, text in texts.items():
        if not text.strip():
            raise Broken(f"the entry's {what} is empty: say it in one line")
