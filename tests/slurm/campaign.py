"""A campaign of random kills over a sweep on the testbed: nothing is lost, nothing twice, all as undisturbed.

    python -m tests.slurm.campaign --kills 200 --runs 60 --seed 0 --log results/slurm-campaign.jsonl

Trains the sweep once in peace and once while a seeded sequence of faults strikes it, then compares the runs:
weights, metrics and records must be the same. As root, with SLURM installed (`python -m tests.testbed`).
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from suite.errors import SteppeError
from suite.store.folders import RunFolder, Store
from tests.plugins.tiny import SLOW
from tests.slurm.fates import Fate, compare, fate
from tests.suite.runner import PLUGIN
from tests.testbed.cluster import Testbed

ROOT = Path(__file__).resolve().parents[2]
TASK, WORKER = "slurm.worker", "suite.workers.serve"
OPTIMIZERS = ("sgd", "sam", "nso")
PROFILE = """
partition = "low"
cpus = 1
memory = "2G"
time_min = 60
max_running = {running}
pack = {pack}
signal_s = 60
"""
CLUSTER = {"nodes": 4, "cpus": 4, "kill_wait": 2, "slurmd_timeout": 5, "grace": 0, "min_job_age": 20}
END_S = 3600.0
"""Longest time from the first submission to the last record."""

MISSED = (SteppeError, ProcessLookupError, subprocess.TimeoutExpired)
"""What it was aimed at ended just then, or is between two states, in which scancel tries for minutes."""

CALM_S = 8.0
"""Time between two looks for runs that the queue lost."""


@dataclass
class Campaign:
    """The sweep under fire, and what was done to it."""

    testbed: Testbed
    store: Path
    random: random.Random
    selectors: list[str]
    n_runs: int
    pause_s: float
    log: Callable[[dict[str, Any]], None]
    strikes: Counter[str] = field(default_factory=Counter)
    retries: int = 0
    started: float = field(default_factory=time.monotonic)

    @property
    def slow(self) -> Path:
        """A file; while it is there, runs go slowly: none is over before the kills are."""
        return self.store.parent / "slow"

    def steppe(self, *command: str) -> None:
        """Give a command of the suite; a scheduler that is silent at this moment is no fault of it."""
        done = subprocess.run(
            [sys.executable, "-c", "from suite.cli import main; import sys; sys.exit(main())", *command],
            env={**environment(self.testbed), SLOW: str(self.slow)},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode not in (0, 1):
            self.note("refused", said=done.stderr.strip().splitlines()[-1].replace(str(self.store), "STORE"))

    def note(self, kind: str, **more: object) -> None:
        self.log({"at_s": round(time.monotonic() - self.started, 1), "event": kind, **more})

    def run(self, kills: int) -> None:
        """Submit, strike so often, and see the sweep to its end."""
        self.slow.touch()
        self.steppe("submit", *self.selectors, "--profile", str(self.store.parent / "profile.toml"))
        end = time.monotonic() + END_S
        looked = time.monotonic()
        while (left := self.n_runs - len(done(self.store))) or self.strikes.total() < kills:
            assert time.monotonic() < end, f"{left} runs not done after {END_S:g} s"
            if not left:
                break
            if self.strikes.total() < kills:
                time.sleep(self.random.expovariate(1.0 / self.pause_s))
                self.strike()
            else:
                self.slow.unlink(missing_ok=True)
                time.sleep(0.5)
            if time.monotonic() - looked > CALM_S:
                self.release()
                self.steppe("retry", "--store", str(self.store))
                self.retries += 1
                looked = time.monotonic()

    def release(self) -> None:
        """Do what `steppe status` says of a task that SLURM holds after a launch that failed."""
        with contextlib.suppress(*MISSED):
            rows = self.testbed.ask("squeue", "-h", "--array", "--states=PD", "-o", "%i|%r").splitlines()
            for job, _, reason in (row.partition("|") for row in rows):
                if "held" in reason:
                    self.testbed.ask("scontrol", "release", job)
                    self.note("released", target=f"task {job.partition('_')[2]}", reason=reason)

    # -- faults ----------------------------------------------------------------------------------

    def strike(self) -> None:
        """Let one fault happen, chosen by the seed among those that are possible now."""
        kinds = [self.kill_worker] * 8 + [self.kill_task] * 4 + [self.requeue] * 3 + [self.user_signal] * 3
        kinds += [self.terminate] * 2 + [self.lose_node] + [self.kill_controller]
        kind = self.random.choice(kinds)
        with contextlib.suppress(*MISSED):
            target = kind()
            if target is not None:
                self.strikes[kind.__name__] += 1
                self.note(kind.__name__, n=self.strikes.total(), target=target, done=len(done(self.store)))

    def kill_worker(self) -> str | None:
        return self._kill(WORKER)

    def kill_task(self) -> str | None:
        return self._kill(TASK)

    def _kill(self, module: str) -> str | None:
        found = sorted(processes(module, self.store))
        if not found:
            return None
        pid = self.random.choice(found)
        os.kill(pid, signal.SIGKILL)
        return f"{found.index(pid) + 1} of {len(found)} processes"

    def requeue(self) -> str | None:
        return self._on_job("scontrol", "requeue")

    def user_signal(self) -> str | None:
        return self._on_job("scancel", "--signal=USR2")

    def terminate(self) -> str | None:
        return self._on_job("scancel", "--signal=TERM")

    def _on_job(self, *command: str) -> str | None:
        rows = self.testbed.ask("squeue", "-h", "--array", "--states=R", "-o", "%i").split()
        if not rows:
            return None
        job = self.random.choice(sorted(rows))
        self.testbed.ask(*command, job, timeout_s=10)
        return f"task {job.partition('_')[2]}"

    def lose_node(self) -> str | None:
        node = self.random.choice([f"n{i + 1}" for i in range(CLUSTER["nodes"])])
        self.testbed.kill(f"slurmd-{node}", with_jobs=True)
        self.testbed.ask("scontrol", "update", f"nodename={node}", "state=down", "reason=campaign")
        self.testbed.up(CLUSTER)
        return node

    def kill_controller(self) -> str | None:
        self.testbed.kill("slurmctld")
        time.sleep(self.random.uniform(0.0, 1.0))
        self.testbed.up(CLUSTER)
        return "slurmctld"


def environment(testbed: Testbed) -> dict[str, str]:
    return {**testbed.environment(), "PYTHONPATH": str(ROOT), "WANDB_MODE": "disabled"}


def processes(module: str, store: Path) -> Iterator[int]:
    """Every process of that module at work for the store: tasks, and workers by the task they belong to."""
    for name in os.listdir("/proc"):
        if name.isdigit() and runs(int(name), module):
            task = int(name) if module == TASK else parent(int(name))
            if runs(task, TASK) and any(word.startswith(str(store)) for word in arguments(task)):
                yield int(name)


def runs(pid: int, module: str) -> bool:
    """Whether the process is a Python that executes the module, and not its srun."""
    words = arguments(pid)
    return module in words and "python" in Path(words[0]).name


def arguments(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return []


def parent(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0


def done(store: Path) -> list[str]:
    """The runs that have records."""
    return [run_id for run_id in Store(store).run_ids() if Store(store).is_done(run_id)]


def folders(store: Path) -> list[RunFolder]:
    return [Store(store).run(run_id) for run_id in Store(store).run_ids()]


def undisturbed(store: Path, selectors: list[str]) -> dict[str, Fate]:
    """The same sweep on this machine, in peace."""
    subprocess.run(
        [sys.executable, "-c", "from suite.cli import main; import sys; sys.exit(main())", "run", *selectors],
        env={**os.environ, "PYTHONPATH": str(ROOT), "WANDB_MODE": "disabled"},
        check=True,
        capture_output=True,
    )
    return {folder.run_id: fate(folder) for folder in folders(store)}


def select(store: Path, n_runs: int, epochs: int) -> list[str]:
    seeds, rest = divmod(n_runs, len(OPTIMIZERS))
    assert not rest, f"runs: a multiple of {len(OPTIMIZERS)}"
    chosen = ["-t", f"tiny[epochs={epochs}]", *(w for name in OPTIMIZERS for w in ("-o", name))]
    chosen += ["-s", f"0-{seeds - 1}", "--plugin", str(PLUGIN), "--device", "cpu", "--checkpoint-s", "1"]
    return [*chosen, "--store", str(store)]


def campaign(
    folder: Path,
    *,
    kills: int,
    runs: int,
    seed: int,
    epochs: int,
    pause_s: float,
    log: Callable[[dict[str, Any]], None],
) -> dict[str, Any]:
    """Run the campaign in `folder` and return its summary; what was lost or differs is listed in it."""
    calm, struck = folder / "calm", folder / "struck"
    wanted = undisturbed(calm, select(calm, runs, epochs))
    (folder / "profile.toml").write_text(PROFILE.format(running=4, pack=max(1, runs // 12)))
    testbed = Testbed(folder / "t")
    try:
        testbed.up(CLUSTER)
        one = Campaign(testbed, struck, random.Random(seed), select(struck, runs, epochs), runs, pause_s, log)
        one.run(kills)
        found = {run.run_id: fate(run) for run in folders(struck)}
        took_s = time.monotonic() - one.started
    finally:
        testbed.down(purge=True)
    summary = {
        "event": "summary",
        "seed": seed,
        "kills": one.strikes.total(),
        "by_kind": dict(sorted(one.strikes.items())),
        "runs": len(wanted),
        "epochs": epochs,
        "attempts": sum(one.attempts for one in found.values()),
        "retries": one.retries,
        "took_s": round(took_s),
        **compare(wanted, found),
    }
    log(summary)
    return summary


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.slurm.campaign", description=__doc__)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--runs", type=int, default=60)
    parser.add_argument("--epochs", type=int, default=250, help="length of a run [250]")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--pause-s", type=float, default=1.0, help="mean time between two faults [1]")
    parser.add_argument("--log", type=Path, required=True)
    args = parser.parse_args()
    with args.log.open("w") as file, tempfile.TemporaryDirectory(prefix="c") as folder:

        def log(row: dict[str, Any]) -> None:
            file.write(json.dumps(row) + "\n")
            file.flush()
            print(row, file=sys.stderr)

        summary = campaign(
            Path(folder),
            kills=args.kills,
            runs=args.runs,
            seed=args.seed,
            epochs=args.epochs,
            pause_s=args.pause_s,
            log=log,
        )
    whole = summary["kills"] >= args.kills
    return 0 if whole and not any(summary[key] for key in ("lost", "duplicated", "differing")) else 1


if __name__ == "__main__":
    sys.exit(main())
