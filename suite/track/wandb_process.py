"""The processes of the mirror: how one starts the next, and what they say to each other.

    a sweep  -- Command ->  sidecar.py  -- Command ->  mirror.py, which imports wandb
             <-- State ---              <-- Report --

A message is a line of JSON in a pipe.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any, Literal

import msgspec

from suite.store.folders import Store
from suite.track.content import Labels
from suite.track.mode import Target
from suite.workers.pipe import Messages

Outcome = Literal["again", "done", "nothing", "lost", "failed", "hopeless"]
"""again: it is followed, or another process mirrors it; nothing: the store has none of it; lost: it is
damaged, or its disk is full; failed: wandb raised; hopeless: so it will for every run."""


@dataclass(frozen=True)
class Command:
    """Write what there is of a run; if it ended, write it to its end; with a table, write that instead."""

    run: str
    labels: Labels | None = None
    """Without them, all parameters are shown."""
    ended: bool = True
    table: str = ""
    """The file of a leaderboard, see `suite.track.leaderboard_table`."""


@dataclass(frozen=True)
class Report:
    """What became of a command."""

    outcome: Outcome
    message: str = ""


@dataclass(frozen=True)
class State:
    """How many runs are mirrored, outstanding and given up, and why the last failure failed."""

    done: int = 0
    left: int = 0
    lost: int = 0
    problem: str = ""


def encode(message: Command | State) -> bytes:
    """Return a message as a line."""
    return json.dumps(asdict(message)).encode() + b"\n"


class Child(subprocess.Popen[bytes]):
    """A process of a module of `suite.track`, started with these options of `Popen`."""

    stdin: IO[bytes]
    stdout: IO[bytes]

    def __init__(self, module: str, root: Path, target: Target, **options: Any) -> None:
        command = [sys.executable, "-P", "-m", f"suite.track.{module}", str(root), json.dumps(asdict(target))]
        super().__init__(command, bufsize=0, stdin=subprocess.PIPE, stdout=subprocess.PIPE, **options)
        self.messages = Messages(self.stdout)


def arguments() -> tuple[Store, Target]:
    """Return the store and the target that `Child` gives its module."""
    root, target = sys.argv[1:]
    return Store(root), msgspec.convert(json.loads(target), Target)
