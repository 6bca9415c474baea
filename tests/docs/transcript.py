"""Executes the pages of docs/ as a reader would, and compares what is printed with what they show.

    ```console                   lines `$ command`, each followed by what it prints, standard error included;
                                 `...` stands for any text or lines, `[exit 2]` for the exit code if not 0.
    ```console no-run="why"      not executed; with instead="command" that command is.
    ```python                    executed; it prints nothing and raises nothing.
    ```python file=PATH          written to that file.
    ```diff file=PATH            applied to that file: each hunk's old lines stand there exactly once.
    ```text                      an illustration.

A page runs from top to bottom in one shell, in a copy of the tree of its own, without a network and without
the caller's environment.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.docs.markdown import ROOT, Block, blocks

LANGUAGES = {"console", "python", "diff", "text"}
OPTIONS = {"no-run", "instead", "file"}
LIMIT_S = 180
"""After this a command counts as hung; the longest takes about 15 s on two idle cores."""

_STEPPE = "import sys; from suite.cli import main; sys.exit(main())"
_MARK = "--the-command-ended--"
_EXIT = re.compile(r"\[exit (\d+)\]")


class Mismatch(AssertionError):  # noqa: N818 - a verdict
    """What a page shows is not what happens."""


@dataclass(frozen=True)
class Command:
    """One command of a console block and what the page says of it."""

    where: str
    line: str
    shown: str
    code: int


def commands(block: Block) -> Iterator[Command]:
    """Split a console block at its `$ ` lines; one that ends in a backslash goes on in the next line."""
    lines = block.text.splitlines()
    at = 0
    while at < len(lines):
        if not lines[at].startswith("$ "):
            raise Mismatch(f"{block.where}: a console block starts with `$ command`")
        start, line = at, lines[at][2:]
        while line.endswith("\\"):
            at += 1
            line += "\n" + lines[at]
        end = next((i for i in range(at + 1, len(lines)) if lines[i].startswith("$ ")), len(lines))
        shown = lines[at + 1 : end]
        code = _EXIT.fullmatch(shown[-1]) if shown else None
        yield Command(
            f"{block.page.name}:{block.line + 1 + start}",
            line,
            "\n".join(shown[:-1] if code else shown),
            int(code.group(1)) if code else 0,
        )
        at = end


def agrees(shown: str, printed: str) -> bool:
    """Whether an output is what a page shows; spaces at the ends of lines do not count.

    A line `...` stands for any lines, none included, and `...` inside a line for any text.
    """
    lines = [
        "(?:.*\n)?" if line == "..." else ".*?".join(map(re.escape, line.split("..."))) + "\n"
        for line in _trim(shown).splitlines()
    ]
    printed = _trim(printed)
    return re.fullmatch("".join(lines), f"{printed}\n" if printed else "", re.DOTALL) is not None


def _trim(text: str) -> str:
    return "\n".join(line.rstrip() for line in text.strip("\n").splitlines())


def apply_diff(diff: str, text: str, where: str) -> str:
    """Replace each hunk's old lines (blank, `-`) by its new ones (blank, `+`); `@@` separates hunks."""
    for hunk in re.split(r"(?m)^@@.*\n", diff):
        lines = [line or " " for line in hunk.splitlines()]
        if not lines:
            continue
        old = "".join(f"{line[1:]}\n" for line in lines if line[0] in " -")
        new = "".join(f"{line[1:]}\n" for line in lines if line[0] in " +")
        if text.count(old) != 1:
            raise Mismatch(f"{where}: these lines stand {text.count(old)} times in the file:\n{old}")
        text = text.replace(old, new)
    return text


class Desk:
    """A copy of the tree and a shell in it, with `steppe` and `python` on its PATH."""

    def __init__(self, folder: Path, variables: Mapping[str, str] | None = None) -> None:
        self.tree, home, programs = folder / "steppe", folder / "home", folder / "bin"
        for path in (home, programs):
            path.mkdir(parents=True)
        _copy_tree(self.tree)
        _program(programs / "python", sys.executable)
        _program(programs / "steppe", sys.executable, "-P", "-c", _STEPPE)
        nowhere = "http://127.0.0.1:9"
        self._environment = {
            "PATH": f"{programs}:/usr/local/bin:/usr/bin:/bin",
            "HOME": str(home),
            "LANG": "C.UTF-8",
            "TERM": "dumb",
            "PYTHONPATH": str(self.tree),
            "CUDA_VISIBLE_DEVICES": "",  # the pages show runs on a CPU, whose ids say so
            "WANDB_MODE": "disabled",
            **dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), nowhere),
            **(variables or {}),
        }
        self._shell = subprocess.Popen(
            ["bash", "--noprofile", "--norc"],
            cwd=self.tree,
            env=self._environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            start_new_session=True,
        )

    def __enter__(self) -> Desk:
        return self

    def __exit__(self, *_: object) -> None:
        self._kill()
        self._shell.communicate()

    def _kill(self) -> None:
        if self._shell.poll() is None:
            os.killpg(self._shell.pid, signal.SIGKILL)

    def type(self, line: str) -> tuple[str, int]:
        """Run a command line in the shell, whose folder and variables last; return its output and code."""
        assert self._shell.stdin is not None
        assert self._shell.stdout is not None
        watchdog = threading.Timer(LIMIT_S, self._kill)
        watchdog.start()
        try:
            self._shell.stdin.write(f"{{ {line}\n}} </dev/null\nprintf '\\n%s %d\\n' {_MARK} $?\n")
            self._shell.stdin.flush()
            printed: list[str] = []
            for text in self._shell.stdout:
                if text.startswith(_MARK):
                    return "".join(printed), int(text.split()[1])
                printed.append(text)
        finally:
            watchdog.cancel()
        raise Mismatch(f"`{line}` ended the shell, or took over {LIMIT_S} s:\n{''.join(printed)}")

    def expect(self, command: Command) -> None:
        """Run a command and hold its output and exit code to what the page shows."""
        printed, code = self.type(command.line)
        if code != command.code or not agrees(command.shown, printed):
            raise Mismatch(
                f"{command.where}: $ {command.line}\n--- the page shows (exit {command.code})\n"
                f"{command.shown}\n--- it prints (exit {code})\n{_trim(printed)}"
            )

    def follow(self, page: Path) -> None:
        """Do all that a page says."""
        for block in blocks(page):
            self.do(block)

    def do(self, block: Block) -> None:
        """Execute one block, write its file or apply its change."""
        if "no-run" in block.options:
            instead = block.options.get("instead")
            if instead:
                self.expect(Command(block.where, f"{instead} >/dev/null 2>&1", "", 0))
        elif block.language == "console":
            for command in commands(block):
                self.expect(command)
        elif "file" in block.options:
            path = self.tree / block.options["file"]
            old = path.read_text(encoding="utf-8") if block.language == "diff" else ""
            new = apply_diff(block.text, old, block.where) if block.language == "diff" else block.text
            path.write_text(new, encoding="utf-8")
        elif block.language == "python":
            script = self.tree.parent / "block.py"
            script.write_text(block.text, encoding="utf-8")
            self.expect(Command(block.where, shlex.join([sys.executable, str(script)]), "", 0))


def _program(path: Path, *command: str) -> None:
    path.write_text(f'#!/bin/sh\nexec {shlex.join(command)} "$@"\n')
    path.chmod(0o755)


def _copy_tree(to: Path) -> None:
    """Copy what git tracks, and what it would track, as it stands."""
    listed = subprocess.run(
        ["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        capture_output=True,
        check=True,
        text=True,
    )
    for name in filter(None, listed.stdout.split("\0")):
        source, target = ROOT / name, to / name
        if source.is_file():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)
