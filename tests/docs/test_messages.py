"""The error lines that the tables of troubleshooting.md name are lines that the sources hold."""

from __future__ import annotations

import re

import pytest

from tests.docs.markdown import ROOT, prose

PAGE = ROOT / "docs" / "troubleshooting.md"
OF_THE_SHELL = {"steppe: command not found"}
WORDS = 3
"""A piece between two `...` is looked for if it has as many words; shorter ones stand anywhere."""


def messages(text: str) -> list[str]:
    """The code span that each row of a table begins with."""
    rows = (re.match(r"\| `([^`]+)`", line) for _, line in prose(text))
    return [row.group(1) for row in rows if row and row.group(1) not in OF_THE_SHELL]


def source() -> str:
    """The sources as one text, in which a string that goes on in the next line is whole."""
    paths = [ROOT / "bootstrap.py", *sorted((ROOT / "suite").rglob("*.py"))]
    text = "\n".join(path.read_text(encoding="utf-8") for path in paths)
    return re.sub(r'"\s*\n\s*f?"', "", text)


def pieces(message: str) -> list[str]:
    return [piece.strip() for piece in message.split("...") if len(piece.split()) >= WORDS]


@pytest.mark.parametrize("message", messages(PAGE.read_text(encoding="utf-8")))
def test_message_is_in_the_sources(message: str) -> None:
    assert not [piece for piece in pieces(message) if piece not in source()]


def test_messages_are_seen() -> None:
    assert messages("| line | do |\n|---|---|\n| `a ... b` | c `d` |\n") == ["a ... b"]
    assert len([m for m in messages(PAGE.read_text(encoding="utf-8")) if pieces(m)]) > 15
    assert "this line is nowhere" not in source()
