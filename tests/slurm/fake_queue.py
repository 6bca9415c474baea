"""SLURM's commands played from what a real one printed, and submissions that nobody submitted."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from slurm import client, cluster, executor
from slurm.client import Silent
from slurm.profiles import Profile
from slurm.submission import Batch, Submission, SubmissionConfig, create
from suite.errors import SteppeError
from suite.spec import RunSpec
from suite.store.folders import Store
from tests.suite.fake_records import make_run, make_spec

CONFIG = SubmissionConfig("steppe submit", Profile("test", time_min=10, workers=2))


@dataclass
class FakeQueue:
    """Answers SLURM's commands; `calls` are the commands that were asked.

    The cluster has one partition, and `sbatch` puts every task of an array into the queue, where it waits.
    """

    rows: list[str] = field(default_factory=list)
    accounting: list[str] | None = None
    """Lines of sacct; None where accounting is off."""
    silent: bool = False
    calls: list[tuple[str, ...]] = field(default_factory=list)
    waits: list[float] = field(default_factory=list)
    """How long whoever asked would have waited, for each of the calls."""

    def __call__(self, *command: str, timeout_s: float = 60) -> str:
        self.calls.append(command)
        self.waits.append(timeout_s)
        if self.silent:
            raise Silent("SLURM does not answer (`squeue`: Unable to contact slurm controller)")
        if command[0] == "scontrol":
            return "ClusterName = fake\n"
        if command[0] == "sinfo":
            return "low|low*|infinite|8|64000|(null)\n"
        if command[0] == "sbatch":
            return self._submit(Path(command[1]))
        if command[0] == "squeue" and "--format=%u %T" in command:
            return "".join(f"somebody {row.split('|')[2]}\n" for row in self.rows)
        if command[0] == "squeue":
            return "".join(f"{row}\n" for row in self.rows)
        if command[0] == "sacct" and self.accounting is None:
            raise SteppeError("`sacct` refused: Slurm accounting storage is disabled")
        return "".join(f"{row}\n" for row in self.accounting or ())

    def has(
        self,
        batch: Batch,
        task: int,
        state: str,
        reason: str = "None",
        *,
        job: int = 100,
        ended_s: float = 60,
    ) -> None:
        """Put a task into the queue; `ended_s` seconds ago it ended, if it did."""
        end = time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(time.time() - ended_s))
        node = "n1" if state in ("RUNNING", "COMPLETING") else ""
        self.rows.append(f"{job}_{task}|{batch.job_name}|{state}|{end}|{node}|{reason}")

    def _submit(self, script: Path) -> str:
        last = re.search(r"^#SBATCH --array=0-(\d+)", script.read_text(), re.MULTILINE)
        assert last is not None
        job = 1000 + self.asked.count("sbatch")
        for task in range(int(last[1]) + 1):
            self.has(Batch(script.parent), task, "PENDING", job=job)
        return f"Submitted batch job {job}\n"

    @property
    def asked(self) -> list[str]:
        """The names of the commands."""
        return [command[0] for command in self.calls]


def play(monkeypatch: pytest.MonkeyPatch) -> FakeQueue:
    """Put an empty queue in place of the cluster."""
    fake = FakeQueue()
    for module in (client, cluster, executor):
        monkeypatch.setattr(module, "ask", fake)
    return fake


def handed(
    store: Store, *batches: Sequence[Sequence[RunSpec]], config: SubmissionConfig = CONFIG
) -> Submission:
    """Write a submission of these packs, and the specs of their runs."""
    for specs in (pack for packs in batches for pack in packs):
        for spec in specs:
            make_run(store, spec)
    ids = [[tuple(spec.run_id for spec in pack) for pack in packs] for packs in batches]
    return create(store.root, config, ids)


def runs(*seeds: int) -> list[RunSpec]:
    """Specs that differ in their seeds."""
    return [make_spec(seed) for seed in seeds]
