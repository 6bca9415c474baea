"""The process that imports wandb and writes runs to it; whoever started it may kill it at any time.

Each line of stdin is a command, which is answered by a report on stdout before the next one comes. After a
failure of wandb's the process ends, as its state is then anybody's guess.
"""

from __future__ import annotations

import contextlib
import os
import sys
import traceback

from suite.errors import SteppeError
from suite.store.store import Store
from suite.track import table
from suite.track.content import shorten
from suite.track.mode import Target, without_secrets
from suite.track.process import Command, Outcome, Report, arguments, decode, encode
from suite.track.run import RunMirror
from suite.track.state import MirrorBusy
from suite.workers.pipe import reserve_stdout

_REFUSALS = ("error 401", "error 403", "AuthenticationError", "api_key not configured", "API key")


class _Session:
    """The runs that are followed."""

    def __init__(self, store: Store, target: Target) -> None:
        self._store, self._target = store, target
        self._open: dict[str, RunMirror] = {}

    def report(self, command: Command) -> Report:
        """Carry a command out, and say what became of it."""
        try:
            return Report(self._outcome(command))
        except MirrorBusy:
            return Report("again")
        except SteppeError as error:  # the store's fault or the disk's: wandb can go on
            if command.run in self._open:
                self._open.pop(command.run).release()
            return Report("lost", shorten(str(error), 200))
        except Exception as error:  # noqa: BLE001 - wandb raises anything
            print(without_secrets(traceback.format_exc()), file=sys.stderr, flush=True)
            return self._failure(error)

    def _outcome(self, command: Command) -> Outcome:
        import wandb  # noqa: F401

        if command.table:
            table.publish(self._store.root, command.run, command.table, self._target)
            return "done"
        if command.run not in self._open:
            self._open[command.run] = RunMirror(self._store, command.run, command.labels, self._target)
        if not command.ended:
            self._open[command.run].feed()
            return "again"
        outcome = self._open[command.run].finish()
        del self._open[command.run]
        return outcome

    def _failure(self, error: Exception) -> Report:
        said, server = without_secrets(f"{type(error).__name__}: {error}"), self._target.server
        message = shorten(said, 160)
        if "wandb" not in sys.modules:
            return Report("hopeless", f"wandb cannot be imported ({message})")
        if any(word in said for word in _REFUSALS):
            return Report("hopeless", f"key refused by {server}")
        online = message.startswith(("CommError", "TimeoutError"))
        return Report("failed", f"{server} did not take a run ({message})" if online else message)


def main() -> None:
    """Serve the store and target of the arguments."""
    session, out = _Session(*arguments()), reserve_stdout()
    for line in sys.stdin.buffer:
        report = session.report(decode(line, Command))
        with contextlib.suppress(OSError):  # whoever started this was killed: stdin ends, too
            os.write(out, encode(report))
        if report.outcome in ("failed", "hopeless"):
            break
    os._exit(0)  # at the usual end wandb would wait for its process, which may be dead


if __name__ == "__main__":
    main()
