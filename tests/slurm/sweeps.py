"""Small sweeps through `steppe submit` on the testbed, and what is asked of them afterwards."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from suite.cli import main
from suite.store.folders import Store
from tests.plugins.tiny import SLOW
from tests.slurm.campaign import done, processes
from tests.slurm.fates import Fate, compare, fate
from tests.slurm.queue import wait_until
from tests.suite.runner import PLUGIN
from tests.testbed.cluster import Testbed

PROFILE = {
    "partition": "low",
    "cpus": 1,
    "memory": "2G",
    "time_min": 30,
    "signal_s": 10,
    "max_running": 4,
    "pack": 2,
}

LIMIT_S = 240.0
"""Far longer than a sweep takes, also where other work has the cores."""

EPOCHS = 120
TASK = f"tiny[epochs={EPOCHS}]"
SMALL = ("-t", TASK, "-o", "sgd", "-o", "sam", "-s", "0-1", "--device", "cpu", "--checkpoint-s", "1")
"""Four runs of a few seconds each."""


@dataclass
class Sweep:
    """A store, the selectors of its runs, and the cluster that they are handed to."""

    testbed: Testbed
    store: Path
    selectors: Sequence[str]
    capsys: pytest.CaptureFixture[str]
    plugin: Path = PLUGIN
    slow: Path = field(init=False)
    """While this file is there, runs of the tiny task go slowly; a wait for their end removes it."""

    def __post_init__(self) -> None:
        self.slow = self.store.parent / "slow"

    def hold(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Let runs go slowly until their end is waited for: what strikes them does not come too late."""
        monkeypatch.setenv(SLOW, str(self.slow))  # jobs get the environment of who submits them
        self.slow.touch()

    def steppe(self, *command: str | Path, code: int | None = 0) -> str:
        """Give a command here; return what it printed for programs."""
        self.capsys.readouterr()
        got = main([*map(str, command), "--store", str(self.store)])
        told = self.capsys.readouterr()
        assert code in (None, got), told.err
        return told.out

    def submit(self, *options: str, **changes: Any) -> None:
        self.steppe("submit", *self.arguments(*options, **changes))

    def arguments(self, *options: str, **changes: Any) -> list[str]:
        profile = self.store.parent / "profile.toml"
        text = "".join(f"{key} = {json.dumps(value)}\n" for key, value in (PROFILE | changes).items())
        profile.write_text(text)
        return [*self.selectors, "--plugin", str(self.plugin), "--profile", str(profile), *options]

    def states(self) -> dict[str, str]:
        """What `steppe status` says of each run."""
        runs = json.loads(self.steppe("status", "--json", code=None))["runs"]
        return {run["run_id"]: run["status"] for run in runs}

    def done(self) -> list[str]:
        return done(self.store)

    def wait_working(self) -> None:
        """Wait until a run has saved something and is not done."""

        def working() -> bool:
            saved = {path.parents[2].name for path in self.store.glob("runs/*/attempts/*/checkpoint.pt")}
            return bool(saved - set(self.done())) and bool(list(processes("slurm.worker", self.store)))

        self._wait(working, "a run in the middle of its work")

    def wait_done(self, n_runs: int) -> None:
        """Wait until so many runs have records, and the queue is empty."""
        self.slow.unlink(missing_ok=True)
        self._wait(lambda: len(self.done()) == n_runs, f"{n_runs} runs done")
        self.wait_idle()

    def wait_idle(self) -> None:
        """Wait until the queue holds nothing more."""
        self.slow.unlink(missing_ok=True)
        self._wait(lambda: not self.testbed.ask("squeue", "--noheader", "--format=%i"), "an empty queue")

    def _wait(self, true: Callable[[], object], what: str) -> None:
        try:
            wait_until(true, what, LIMIT_S)
        except AssertionError as error:
            ends = {str(log): log.read_text().splitlines()[-4:] for log in self.store.glob("slurm/*/*/*.out")}
            raise AssertionError(f"{error}: {self.states()}, {json.dumps(ends, indent=1)}") from None

    def fates(self) -> dict[str, Fate]:
        store = Store(self.store)
        return {run_id: fate(store.run(run_id)) for run_id in store.run_ids()}

    def check(self, wanted: Mapping[str, Fate]) -> None:
        """All runs have one record, and all bytes are those of runs that nothing happened to."""
        assert compare(wanted, self.fates()) == {"lost": [], "duplicated": [], "differing": []}
