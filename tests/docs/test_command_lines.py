"""Every `steppe` command line in README.md, CONTRIBUTING.md and docs/ is one that the CLI takes."""

from __future__ import annotations

import argparse
import importlib
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from suite.cli import Parser, commands, modules
from suite.errors import SteppeError
from tests.docs.markdown import ROOT, Block, blocks, pages, spans

PAGES = [ROOT / "CONTRIBUTING.md", *pages()]
FENCED = [block for page in PAGES for block in blocks(page) if "steppe " in block.text]

_COMMENT = re.compile(r"\s{2,}.*|\s+#.*")
"""What explains a command on its line: after two spaces, or a hash."""


def steppe_lines(text: str) -> Iterator[str]:
    """Every line that calls `steppe`, what stands before it and after it taken off."""
    for line in re.sub(r"\\\n\s*", "", text).splitlines():
        called = re.match(r"(?:\$ )?(?:[A-Z_]+=\S+ )*(?:python3 bootstrap\.py )?(steppe(?: .*|$))", line)
        if called:
            yield _COMMENT.sub("", called.group(1))


def parser_of(name: str) -> Parser:
    """The parser that the CLI makes for a command."""
    module = importlib.import_module(modules()[name])
    parser = Parser(prog=f"steppe {name}", allow_abbrev=False)
    module.configure(parser)
    parser.add_argument("--debug", action="store_true")
    return parser


def check_line(line: str) -> None:
    """Raise SteppeError unless the CLI takes the line."""
    _, *arguments = shlex.split(line)
    if arguments in (["--help"], ["--version"]):
        return
    name, *rest = arguments
    if name not in commands():
        raise SteppeError(f"no command {name}")
    if "--help" not in rest:
        parser_of(name).parse_args(rest)


@pytest.mark.parametrize("block", FENCED, ids=lambda block: block.where)
def test_fenced_lines_parse(block: Block) -> None:
    if block.language == "console" and "no-run" not in block.options:
        return  # executed, mistakes shown on purpose among them: test_pages.py
    for line in steppe_lines(block.text):
        check_line(line)


def spoken(page: Path) -> Iterator[tuple[int, str]]:
    """Code spans that name a command: `steppe run`, perhaps with some of its arguments."""
    for number, content in spans(page.read_text(encoding="utf-8")):
        if content.startswith("steppe "):
            yield number, content


def options_of(parser: argparse.ArgumentParser) -> set[str]:
    return {flag for action in parser._actions for flag in action.option_strings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_in_prose_exist_with_their_options(page: Path) -> None:
    wrong = []
    for number, content in spoken(page):
        name, *rest = content.split()[1:]
        if name in ("--help", "--version", "COMMAND"):
            continue
        known = options_of(parser_of(name)) if name in commands() else set()
        flags = {word.partition("=")[0] for word in rest if re.match(r"--?[a-z]", word)}
        if not known or not flags <= known:
            wrong.append(f"{page.name}:{number}: {content}")
    assert not wrong


def test_the_reader_of_lines_sees_them_and_what_is_wrong() -> None:
    text = "$ python3 bootstrap.py steppe demo\nsteppe plan -t a \\\n  -o b    what it costs\nls\n"
    assert list(steppe_lines(text)) == ["steppe demo", "steppe plan -t a -o b"]
    for line in ("steppe rum", "steppe plan -t a", "steppe list measure", "steppe demo --seeds 1"):
        with pytest.raises(SteppeError):
            check_line(line)
    assert sum(len(list(steppe_lines(block.text))) for block in FENCED) > 20
