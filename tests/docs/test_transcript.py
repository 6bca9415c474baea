"""The runner of the pages: it must see what a page gets wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.docs.markdown import ROOT, Block, anchors, blocks, links
from tests.docs.transcript import Command, Desk, Mismatch, agrees, apply_diff, commands

PAGE = ROOT / "docs" / "page.md"


def console(text: str, **options: str) -> Block:
    return Block(PAGE, 10, "console", options, text)


def test_blocks_with_their_options_and_lines() -> None:
    text = 'a\n\n```console no-run="needs SLURM" instead="steppe list"\n$ sbatch\n```\n```\nplain\n```\n'
    first, second = blocks(PAGE, text)
    assert (first.line, first.language, first.text) == (3, "console", "$ sbatch\n")
    assert first.options == {"no-run": "needs SLURM", "instead": "steppe list"}
    assert (second.language, second.text) == ("", "plain\n")
    with pytest.raises(ValueError, match="not closed"):
        blocks(PAGE, "```console\n$ a\n")


def test_commands_with_what_they_show() -> None:
    one, two, three = commands(console("$ a \\\n  b\nsaid\n\nmore\n$ c\n[exit 2]\n$ d\n"))
    assert (one.line, one.shown, one.code) == ("a \\\n  b", "said\n\nmore", 0)
    assert (two.line, two.shown, two.code) == ("c", "", 2)
    assert three.where == "page.md:18"
    with pytest.raises(Mismatch, match="starts with"):
        list(commands(console("said\n$ a\n")))


@pytest.mark.parametrize(
    ("shown", "printed", "same"),
    [
        ("a 1 b", "a 1 b  \n", True),
        ("a ... b", "a 12\n34 b", True),
        ("...\nlast", "one\ntwo\nlast", True),
        ("first\n...\nlast", "first\nlast", True),
        ("first\n...\nlast", "first\nmore last", False),
        ("a.c", "abc", False),
        ("a", "a\nb", False),
        ("", "x", False),
        ("(a|b)", "a", False),
    ],
)
def test_agreement(shown: str, printed: str, same: bool) -> None:
    assert agrees(shown, printed) is same


def test_a_change_applies_where_its_old_lines_stand_once() -> None:
    text = "a\nb\n\nc\na\n"
    assert apply_diff(" b\n\n-c\n+d\n+e\n@@\n-d\n+f\n", text, "here") == "a\nb\n\nf\ne\na\n"
    for wrong in ("-a\n+b\n", "-z\n+b\n"):
        with pytest.raises(Mismatch, match="times in the file"):
            apply_diff(wrong, text, "here")


def test_anchors_and_links() -> None:
    text = "# One `two`: 3\n## One\n## One\n[a](b.md#c) `[no](x)` ![i](p.png)\n```\n# no\n[no](y)\n```\n"
    assert anchors(text) == {"one-two-3", "one", "one-1"}
    assert [target for _, target in links(text)] == ["b.md#c", "p.png"]


def test_a_desk_keeps_its_state_and_finds_what_is_wrong(tmp_path: Path) -> None:
    with Desk(tmp_path) as desk:
        assert desk.tree != ROOT
        desk.expect(Command("here", "cd tasks && export WORD=x", "", 0))
        desk.expect(Command("here", 'basename "$PWD"; echo $WORD; echo err >&2', "tasks\nx\nerr", 0))
        desk.expect(Command("here", "steppe --version; cat", "steppe ...", 0))
        desk.expect(Command("here", "steppe rum", "steppe: error: unknown command 'rum'...", 2))
        for wrong in (Command("here", "echo a", "b", 0), Command("here", "false", "", 0)):
            with pytest.raises(Mismatch, match="here: "):
                desk.expect(wrong)
        desk.do(Block(PAGE, 1, "python", {"file": "new.py"}, "x = 1\n"))
        desk.do(Block(PAGE, 1, "diff", {"file": "new.py"}, "-x = 1\n+x = 2\n"))
        desk.do(Block(PAGE, 1, "python", {}, "import suite, new\nassert new.x == 2\n"))
        with pytest.raises(Mismatch, match="AssertionError"):
            desk.do(Block(PAGE, 1, "python", {}, "assert False\n"))
        desk.do(console("$ absent-program\n", **{"no-run": "no", "instead": "touch ../made"}))
        assert (desk.tree / "made").exists()
