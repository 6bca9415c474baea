"""What the tests read of a Markdown page: its fenced blocks, its headings' anchors, its links."""

from __future__ import annotations

import re
import shlex
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

_OPENING = re.compile(r"(`{3,}|~{3,})\s*(.*)")
_HEADING = re.compile(r"#{1,6}\s+(.*?)\s*#*")
_LINK = re.compile(r"\]\(\s*<?([^)\s>]+)>?(?:\s+\"[^\"]*\")?\s*\)")
_HTML_LINK = re.compile(r"<(?:img|a|source)\b[^>]*?\b(?:src|href|srcset)=\"([^\"]+)\"")
_CODE = re.compile(r"(`+)(.+?)\1")


@dataclass(frozen=True)
class Block:
    """A fenced block: where it begins, its language, the words of its info string, its text."""

    page: Path
    line: int
    language: str
    options: Mapping[str, str]
    """`no-run` (why it is not executed), `instead` (what is executed in its place), `file`."""
    text: str

    @property
    def where(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def pages() -> list[Path]:
    """README.md and every page of docs/."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(page: Path, text: str | None = None) -> list[Block]:
    """Every fenced block of a page, in order; ValueError where a fence is not closed."""
    found: list[Block] = []
    lines = enumerate((page.read_text(encoding="utf-8") if text is None else text).splitlines(), 1)
    for number, line in lines:
        opening = _OPENING.fullmatch(line)
        if opening is None:
            continue
        inside: list[str] = []
        for _, body in lines:
            if body.rstrip() == opening.group(1):
                break
            inside.append(body + "\n")
        else:
            raise ValueError(f"{page}:{number}: the fence is not closed")
        words = shlex.split(opening.group(2))
        options = dict(_option(word) for word in words[1:])
        found.append(Block(page, number, (words or [""])[0], options, "".join(inside)))
    return found


def _option(word: str) -> tuple[str, str]:
    key, _, value = word.partition("=")
    return key, value


def prose(text: str) -> Iterator[tuple[int, str]]:
    """The numbered lines outside fenced blocks."""
    fence = ""
    for number, line in enumerate(text.splitlines(), 1):
        opening = _OPENING.fullmatch(line)
        if fence:
            fence = "" if line.rstrip() == fence else fence
        elif opening:
            fence = opening.group(1)
        else:
            yield number, line


def links(text: str) -> Iterator[tuple[int, str]]:
    """Line and target of every link and image outside code."""
    for number, line in prose(text):
        bare = _CODE.sub("", line)
        for target in (*_LINK.findall(bare), *_HTML_LINK.findall(bare)):
            yield number, target


def anchors(text: str) -> set[str]:
    """The names by which a page's headings are linked: lower case, spaces to hyphens, repeats numbered."""
    seen: Counter[str] = Counter()
    out = set()
    for _, line in prose(text):
        heading = _HEADING.fullmatch(line)
        if heading is None:
            continue
        words = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading.group(1)).lower()
        slug = "".join(c for c in words if c.isalnum() or c in " -_").replace(" ", "-")
        out.add(f"{slug}-{seen[slug]}" if seen[slug] else slug)
        seen[slug] += 1
    return out


def spans(text: str) -> Iterator[tuple[int, str]]:
    """Line and content of every code span outside fenced blocks; one that breaks over a line is not seen."""
    for number, line in prose(text):
        for _, content in _CODE.findall(line):
            yield number, content
