"""Write a one-file scaffold for a new optimizer or task.

steppe new optimizer mine                       writes baselines/mine.py
steppe new task my-images --file my_images.py   writes a plugin file

The file is complete except for the maths of the optimizer or the model of the task, and `steppe check` fails
until these are filled in. Existing files are never overwritten.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from suite.cli import options
from suite.cli.arguments import Arguments
from suite.entries.scaffold import scaffold, shown

TO_FILL = {"optimizer": "update", "task": "model"}


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("kind", choices=tuple(TO_FILL), help="what to write")
    parser.add_argument("name", metavar="NAME", help="name of the entry: lower-case words joined by hyphens")
    parser.add_argument(
        "--file", type=Path, metavar="PATH", help="file to write (default: in baselines/ or tasks/)"
    )
    options.add_plugins(parser)


def execute(args: Arguments) -> int:
    """Write the file and print the next step."""
    path = scaffold(args.kind, args.name, args.file, args.registry)
    plugin = f" --plugin {shown(path)}" if args.file is not None else ""
    print(f"wrote {shown(path)}")
    print(f"next: fill in `{TO_FILL[args.kind]}`, then run `steppe check {args.kind} {args.name}{plugin}`")
    return 0
