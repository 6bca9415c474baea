"""Handle to the W&B sidecar. Events go through a non-blocking pipe; only `close` waits, with a time limit.

A pool's parent process makes one for its sweep, as does the first process of an array task. Failures of W&B,
the sidecar or the disk raise no exception here.
"""

from __future__ import annotations

import contextlib
import os
import select
import shlex
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from suite.entries.labels import entry_label
from suite.entries.registry import Registry
from suite.errors import SteppeError
from suite.spec import RunSpec
from suite.store.folders import STORE, Store
from suite.task import TaskSpec
from suite.terminal.table import plural
from suite.track.content import Labels
from suite.track.mirror_folder import FOLDER, LOG, open_log
from suite.track.mode import Target, has_key, login
from suite.track.wandb_process import Child, Command, State, encode

WAIT_S = 0.5
"""Default seconds that `close` waits for the sidecar."""


class Mirror:
    """Mirrors the runs of one sweep through a sidecar process.

    Args:
        store_root: the store.
        target: the target, from `suite.track.mode.choose`.
        labels: labels by run id; names of other runs show all parameters.
        sync: the command that completes a mirror, for the message of `close`.

    """

    def __init__(
        self, store_root: Path, target: Target, labels: Mapping[str, Labels], sync: str = "steppe wandb sync"
    ) -> None:
        self._target, self._labels, self._sync = target, labels, sync
        self._folder = store_root / FOLDER
        self._problem = ""
        self._sent: set[str] = set()
        self._process: Child | None = None
        try:
            with open_log(store_root) as log:
                env = target.environment()
                self._process = Child(
                    "sidecar", store_root, target, stderr=log, env=env, start_new_session=True
                )
            os.set_blocking(self._process.stdin.fileno(), False)
        except (OSError, SteppeError) as error:
            self._problem = str(error)

    def __call__(self, event: Mapping[str, Any]) -> None:
        """Handle an event of `suite.workers.pool.run_pool`; starts and ends of runs are sent."""
        if event["event"] in ("started", "ended"):
            self.send(event["run_id"], ended=event["event"] == "ended")

    def send(self, run_id: str, *, ended: bool) -> None:
        """Tell the sidecar that a run started or ended."""
        if self._process is None or self._process.stdin.closed:
            return
        line = encode(Command(run_id, self._labels.get(run_id), ended))
        try:
            # Writes below PIPE_BUF are atomic, so a full pipe loses a whole line and never part of one.
            os.write(self._process.stdin.fileno(), line)
            self._sent.add(run_id)
        except OSError as error:
            self._problem = f"its sidecar does not listen ({error.strerror}): see {self._folder / LOG}"

    def close(self, wait_s: float = WAIT_S) -> str:
        """Close the pipe, wait up to `wait_s` for outstanding runs, and return a summary for the user."""
        state = State(left=len(self._sent))
        if self._process is not None:
            self._process.stdin.close()
            until = time.monotonic() + wait_s
            states = self._process.messages
            while (left := until - time.monotonic()) > 0 and select.select([states], [], [], left)[0]:
                arrived = states.read()
                if arrived is None:
                    break
                state = State(**arrived[-1]) if arrived else state
            self._process.stdout.close()
            with contextlib.suppress(subprocess.TimeoutExpired):  # reap it if it ended, else it continues
                self._process.wait(max(0.0, until - time.monotonic()))
        return self._sentence(state)

    def _sentence(self, state: State) -> str:
        n = len(self._sent)
        problem, missing = self._problem or state.problem, state.left + state.lost
        if problem and (missing or not n):
            what = f"{missing} of {_runs(n)} not mirrored" if n else "nothing is mirrored"
            return f"W&B: {problem}: {what}; see {self._folder / LOG}, then `{self._sync}`"
        if not n:
            return ""
        if self._target.mode == "online":
            rest = f", {state.left} more on the way" if state.left else ""
            where = f"{self._target.server}, project {self._target.project}"
            return f"W&B: {_runs(state.done)} mirrored to {where}{rest}"
        what = f"{_runs(n)} go to" if state.left else f"{_runs(state.done)} in"
        first = "" if has_key(self._target.server) else f"{login(self._target.server)}, then "
        return f"W&B: offline files of {what} {self._folder}; {first}`{self._sync}` uploads them"


def start(
    store: Store, target: Target | None, specs: Iterable[RunSpec], registry: Registry, plugins: Sequence[Path]
) -> Mirror | None:
    """Start the mirror of a sweep; None without a target."""
    if target is None:
        return None
    labels = {spec.run_id: labels_of(spec, registry) for spec in specs}
    options = ["--store", str(store.root)] if str(store.root) != STORE else []
    options += [word for plugin in plugins for word in ("--plugin", str(plugin))]
    return Mirror(store.root, target, labels, shlex.join(["steppe", "wandb", "sync", *options]))


def labels_of(spec: RunSpec, registry: Registry) -> Labels:
    """Return the labels that leaderboards use; those of unknown entries show all parameters."""
    task, optimizer = registry.tasks.get(spec.task.name), registry.optimizers.get(spec.optimizer.name)
    return Labels(
        entry_label(spec.task, task.entry.params if task else None),
        entry_label(spec.optimizer, optimizer.entry.params if optimizer else None),
        task.entry.tier if task and isinstance(task.entry, TaskSpec) else "",
    )


def _runs(n: int) -> str:
    return f"{n} {plural(n, 'run')}"
