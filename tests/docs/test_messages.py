"""The error lines that the tables of troubleshooting.md name are lines that some code raises or reports."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache

import pytest

from tests.docs.markdown import ROOT, prose

PAGE = ROOT / "docs" / "troubleshooting.md"
OF_THE_SHELL = {"steppe: command not found"}
WORDS = 3
"""A piece between two `...` is looked for if it has as many words; shorter ones stand anywhere."""

REPORTED = {
    "Python 3.11 or newer is needed",  # bootstrap.py exits with it
    "stopped; nothing is lost. To resume: ...",  # the end of `steppe run`
    "its worker process was killed by ...; out of memory?",  # the message of a run's end
    "... left out: the same seed again under another set-up",  # a note below a leaderboard
    "... left out: the same run with other results, from another source",
}
"""Lines that are no exceptions. All others are raised."""

Function = ast.FunctionDef | ast.AsyncFunctionDef


def messages(text: str) -> list[str]:
    """The code span that each row of a table begins with."""
    rows = (re.match(r"\| `([^`]+)`", line) for _, line in prose(text))
    return [row.group(1) for row in rows if row and row.group(1) not in OF_THE_SHELL]


def pieces(message: str) -> list[str]:
    return [piece.strip() for piece in message.split("...") if len(piece.split()) >= WORDS]


@dataclass
class Texts:
    """The texts of the code, one a line; `{}` stands for what a format string inserts."""

    raised: list[str] = field(default_factory=list)
    """Of functions that raise, and of the calls that build what is raised elsewhere."""
    other: list[str] = field(default_factory=list)

    def lacking(self, message: str) -> list[str]:
        """The pieces of a message that no raise, or for lines that are reported no other code, holds."""
        lines = self.other if message in REPORTED else self.raised
        return [piece for piece in pieces(message) if not any(piece in line for line in lines)]


def texts(sources: Iterable[str]) -> Texts:
    """Sort the texts of sources; docstrings, and functions that nothing mentions, have none."""
    trees = [ast.parse(source) for source in sources]
    raises = [
        node.exc for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Raise) and node.exc
    ]
    builders = {called(exc) for exc in raises} - {""}
    helpers = {called(node) for exc in raises for node in ast.walk(exc)}
    mentioned = {name for tree in trees for node in ast.walk(tree) for name in names(node)}
    found = Texts()
    for tree in trees:
        _sort(tree, builders, helpers, mentioned, found, raised=False)
    return found


def _sort(
    node: ast.AST, builders: set[str], helpers: set[str], mentioned: set[str], found: Texts, *, raised: bool
) -> None:
    """Add the texts below a node."""
    if isinstance(node, Function):
        if node.name not in mentioned and not node.decorator_list:
            return
        raised = node.name in helpers or any(isinstance(inner, ast.Raise) for inner in ast.walk(node))
    raised = raised or called(node) in builders
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
        return
    if (text := text_of(node)) is not None:
        (found.raised if raised else found.other).append(text)
    for child in ast.iter_child_nodes(node):
        _sort(child, builders, helpers, mentioned, found, raised=raised)


def text_of(node: ast.AST) -> str | None:
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else None
    if isinstance(node, ast.JoinedStr):
        return "".join(str(one.value) if isinstance(one, ast.Constant) else "{}" for one in node.values)
    return None


def called(node: ast.AST | None) -> str:
    """The name of the function or class that a call calls; empty where the node is no call."""
    return ast.unparse(node.func).rpartition(".")[2] if isinstance(node, ast.Call) else ""


def names(node: ast.AST) -> Iterator[str]:
    """The names that a node mentions; the definition of a function does not mention it."""
    if isinstance(node, ast.Name):
        yield node.id
    elif isinstance(node, ast.Attribute):
        yield node.attr


@cache
def of_the_code() -> Texts:
    paths = [
        ROOT / "bootstrap.py",
        *sorted((ROOT / "suite").rglob("*.py")),
        *sorted((ROOT / "slurm").rglob("*.py")),
    ]
    return texts(path.read_text(encoding="utf-8") for path in paths)


@pytest.mark.parametrize("message", messages(PAGE.read_text(encoding="utf-8")))
def test_message_is_raised_or_reported(message: str) -> None:
    assert not of_the_code().lacking(message)


def test_lines_that_are_reported_are_on_the_page() -> None:
    assert set(messages(PAGE.read_text(encoding="utf-8"))) >= REPORTED


def test_messages_are_seen() -> None:
    assert messages("| line | do |\n|---|---|\n| `a ... b` | c `d` |\n") == ["a ... b"]
    assert len([m for m in messages(PAGE.read_text(encoding="utf-8")) if pieces(m)]) > 15


CODE = '''
"""a docstring of words"""  # a comment of words
UNUSED = "a constant of words"
def used(x):
    why = "a reason of words"
    raise Wrong(f"{x}: a text " f"of {explained(why)} words")
def explained(why):
    return "an explanation of words"
def built():
    return Wrong("a built text of words")
def unused():
    raise Wrong("a dead text of words")
used(built())
'''


@pytest.mark.parametrize(
    ("message", "is_raised"),
    [
        ("... a text of ... words", True),
        ("a reason of words", True),
        ("a built text of words", True),
        ("an explanation of words", True),
        ("a docstring of words", False),
        ("a comment of words", False),
        ("a constant of words", False),
        ("a dead text of words", False),
    ],
)
def test_only_what_is_raised_counts(message: str, is_raised: bool) -> None:
    assert (texts([CODE]).lacking(message) == []) is is_raised
