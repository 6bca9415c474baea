"""The processes of the mirror: their start and their messages.

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
"""again: the run is live or locked; nothing: the store has no data of it; lost: it is damaged or the disk is
full; failed: wandb raised an exception; hopeless: wandb will fail for every run."""


@dataclass(frozen=True)
class Command:
    """Request to write the current rows of a run, a run that ended to its end, or a table."""

    run: str
    labels: Labels | None = None
    """Without labels, names show all parameters."""
    ended: bool = True
    table: str = ""
    """The file of a leaderboard, see `suite.track.leaderboard_table`."""


@dataclass(frozen=True)
class Report:
    """Outcome of a command."""

    outcome: Outcome
    message: str = ""


@dataclass(frozen=True)
class State:
    """Numbers of runs mirrored, outstanding and given up, and the reason of the last failure."""

    done: int = 0
    left: int = 0
    lost: int = 0
    problem: str = ""


def encode(message: Command | State) -> bytes:
    """Encode a message as a line of JSON."""
    return json.dumps(asdict(message)).encode() + b"\n"


class Child(subprocess.Popen[bytes]):
    """A process that runs a module of `suite.track`; `options` are those of `Popen`."""

    stdin: IO[bytes]
    stdout: IO[bytes]

    def __init__(self, module: str, root: Path, target: Target, **options: Any) -> None:
        command = [sys.executable, "-P", "-m", f"suite.track.{module}", str(root), json.dumps(asdict(target))]
        super().__init__(command, bufsize=0, stdin=subprocess.PIPE, stdout=subprocess.PIPE, **options)
        self.messages = Messages(self.stdout)


def arguments() -> tuple[Store, Target]:
    """Return the store and the target that `Child` passes on the command line."""
    root, target = sys.argv[1:]
    return Store(root), msgspec.convert(json.loads(target), Target)
