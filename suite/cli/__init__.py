"""The command line: one module per command, found by file name.

A command is a module of this package, or of the package `cli` in slurm/, that defines

    configure(parser: argparse.ArgumentParser) -> None     declares its arguments (shared ones: options.py)
    execute(args: Arguments) -> int                        runs the command and returns the exit code

The first line of its docstring is its help line, read from the source text: `steppe --help` imports no
command, and a call imports only its own. Exit codes: 0 success, 1 some runs failed, 2 usage error.
"""

from __future__ import annotations

import argparse
import importlib
import io
import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from suite import __version__
from suite.errors import SteppeError, unknown

if TYPE_CHECKING:
    from suite.cli.arguments import Arguments

HELPERS = frozenset({"__init__", "arguments", "options"})
"""Modules of this package that are not commands."""

PACKAGES = ("suite", "slurm")
"""Top-level packages whose folder `cli` holds commands."""

USAGE = 2


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one line, without the usage."""

    def error(self, message: str) -> NoReturn:
        """Raise SteppeError instead of printing the usage and exiting."""
        raise SteppeError(f"{message}; see `{self.prog} --help`")


def commands() -> dict[str, str]:
    """Return the help line of every command by name, without importing any."""
    return {name: _first_line(path) for name, path in _files().items()}


def modules() -> dict[str, str]:
    """Return the module of every command by name, without importing any."""
    return {name: f"{path.parts[-3]}.cli.{name}" for name, path in _files().items()}


def _files() -> dict[str, Path]:
    """Return the file of every command, sorted by name."""
    top = Path(__file__).parent.parent.parent
    found: dict[str, Path] = {}
    for path in (path for package in PACKAGES for path in (top / package / "cli").glob("*.py")):
        name = path.stem
        if name in HELPERS:
            continue
        if name in found:
            raise SteppeError(
                f"both {found[name]} and {path} define the command {name!r}: rename one of them"
            )
        found[name] = path
    return dict(sorted(found.items()))


def _first_line(path: Path) -> str:
    with path.open(encoding="utf-8") as source:
        return source.readline().strip().strip('"').rstrip(".")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; a user error prints one line on stderr and returns 2.

    Args:
        argv: the arguments after the program name; None for those of the process.

    Returns:
        The exit code.

    """
    if isinstance(sys.stdout, io.TextIOWrapper):  # characters that the encoding lacks become `?`
        sys.stdout.reconfigure(errors="replace")
    # Not `list(...)`: after import, that name is the command module `list` of this package.
    arguments = [*(sys.argv[1:] if argv is None else argv)]
    debug = "--debug" in arguments
    try:
        code = _dispatch(arguments)
        sys.stdout.flush()
        return code
    except BrokenPipeError:  # the reader closed the pipe, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        return _fail("interrupted", debug, 130)
    except SteppeError as error:
        return _fail(str(error), debug, USAGE)
    except OSError as error:
        where = f": {error.filename}" if error.filename else ""
        return _fail(f"{error.strerror or error}{where}", debug, USAGE)
    except Exception as error:  # noqa: BLE001 - a traceback is shown only with --debug
        line = " ".join(str(error).split())
        return _fail(f"{type(error).__name__}: {line} (a bug; --debug shows the traceback)", debug, 1)


def _fail(line: str, debug: bool, code: int) -> int:
    if debug:
        traceback.print_exc()
    print(f"steppe: error: {line}", file=sys.stderr)
    return code


def _dispatch(arguments: list[str]) -> int:
    available = commands()
    name = arguments[0] if arguments else "--help"
    if name in ("-h", "--help"):
        print(_help(available))
        return 0
    if name == "--version":
        print(f"steppe {__version__}")
        return 0
    if name not in available:
        kind = "option" if name.startswith("-") else "command"
        raise unknown(kind, name, available if kind == "command" else ("--help", "--version"))
    try:
        args = parse(name, arguments[1:])
    except SystemExit as exit_of_help:  # only --help exits
        return int(exit_of_help.code or 0)
    return int(importlib.import_module(modules()[name]).execute(args))


def parse(name: str, arguments: Sequence[str]) -> Arguments:
    """Parse the arguments of a command."""
    from suite.cli.arguments import Arguments

    module = importlib.import_module(modules()[name])
    parser = Parser(
        prog=f"steppe {name}",
        description=module.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    module.configure(parser)
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return parser.parse_args(arguments, namespace=Arguments())


def _help(available: dict[str, str]) -> str:
    width = max(map(len, available), default=0)
    lines = [f"  {name:<{width}}  {line}" for name, line in available.items()]
    return "\n".join(
        [
            "usage: steppe COMMAND [options]",
            "",
            "A reproducibility benchmark suite for deep-learning optimizers that seek flat minima.",
            "",
            "commands:",
            *lines,
            "",
            "`steppe COMMAND --help` describes one. Exit codes: 0 success, 1 some runs failed, 2 usage.",
        ]
    )
