"""The process that imports wandb and writes runs; it may be killed at any time.

Each line of stdin is a command; a report on stdout answers it before the next one arrives. After a failure of
wandb the process ends, because its state is then undefined.
"""

from __future__ import annotations

import os
import sys
import traceback
from dataclasses import asdict
from typing import Any

import msgspec

from suite.errors import SteppeError
from suite.store.folders import Store
from suite.track import content, leaderboard_table
from suite.track.content import Content, shorten
from suite.track.mirror_folder import MirrorBusy, MirrorFolder
from suite.track.mode import Target, without_secrets
from suite.track.wandb_process import Command, Outcome, Report, arguments
from suite.workers.pipe import Messages, reserve_stdout

_REFUSALS = ("error 401", "error 403", "AuthenticationError", "api_key not configured", "API key")


class _Run:
    """One run on W&B, written from its first step on."""

    def __init__(self, store: Store, command: Command, target: Target) -> None:
        self._stored, self._labels, self._target = store.run(command.run), command.labels, target
        self._folder = MirrorFolder(store.root, command.run)
        self.lock = self._folder.lock()
        self._run: Any = None
        self._last_step = -1

    def write(self, *, ended: bool) -> Outcome:
        """Write new rows; complete a run that ended, unless it is already mirrored."""
        now = content.read(self._stored)
        if now is None:
            return "nothing" if ended else "again"
        if not ended:
            if now.status != "completed":
                self._write(now)
            return "again"
        # An open run of wandb must be ended, even if its content is already mirrored.
        if self._run is not None or not self._folder.holds(self._target, now.digest):
            self._write(now)
            self._run.summary.update(now.summary)
            steps, code = [row["step"] for row in now.rows], 0 if now.status == "completed" else 1
            self._folder.end(self._run, self._target, now.digest, steps, code)
        return "done"

    def _write(self, now: Content) -> None:
        if self._run is None:
            self._run = self._folder.begin(self._target, content.settings_of(now.spec, self._labels))
            self._run.define_metric("step", hidden=True)
            self._run.define_metric("*", step_metric="step")
        for row in now.rows:
            if row["step"] > self._last_step:
                self._run.log(row, step=row["step"], commit=True)
                self._last_step = row["step"]


class _Session:
    """The open runs of this process."""

    def __init__(self, store: Store, target: Target) -> None:
        self._store, self._target = store, target
        self._open: dict[str, _Run] = {}

    def report(self, command: Command) -> Report:
        """Execute a command and return its report."""
        try:
            return Report(self._outcome(command))
        except MirrorBusy:
            return Report("again")
        except SteppeError as error:  # an error of the store or the disk; wandb's state is intact
            self._close(command)
            return Report("lost", shorten(str(error), 200))
        except Exception as error:  # noqa: BLE001 - wandb may raise anything
            print(without_secrets(traceback.format_exc()), file=sys.stderr, flush=True)
            return self._failure(error)

    def _outcome(self, command: Command) -> Outcome:
        import wandb  # noqa: F401

        if command.table:
            leaderboard_table.publish(self._store.root, command.run, command.table, self._target)
            return "done"
        if command.run not in self._open:
            self._open[command.run] = _Run(self._store, command, self._target)
        outcome = self._open[command.run].write(ended=command.ended)
        if command.ended:
            self._close(command)
        return outcome

    def _close(self, command: Command) -> None:
        if (run := self._open.pop(command.run, None)) is not None:
            run.lock.close()

    def _failure(self, error: Exception) -> Report:
        text, server = without_secrets(f"{type(error).__name__}: {error}"), self._target.server
        message = shorten(text, 160)
        if "wandb" not in sys.modules:
            return Report("hopeless", f"wandb cannot be imported ({message})")
        if any(words in text for words in _REFUSALS):
            return Report("hopeless", f"key refused by {server}")
        online = message.startswith(("CommError", "TimeoutError"))
        return Report("failed", f"{server} did not take a run ({message})" if online else message)


def main() -> None:
    """Execute commands for the store and target of the command line."""
    session, emit = _Session(*arguments()), reserve_stdout()
    for message in Messages(sys.stdin):
        report = session.report(msgspec.convert(message, Command))
        emit(asdict(report))
        if report.outcome in ("failed", "hopeless"):
            break
    os._exit(0)  # at a normal exit wandb would wait for its service process, which may be dead


if __name__ == "__main__":
    main()
