"""A testbed: start, stop, status, and faults for tests."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from suite.errors import SteppeError
from suite.files import make_folder, write_whole
from tests.testbed import configuration, daemons, packages, processes
from tests.testbed.settings import MARKER, Settings, checked_folder, load, refuse_strange, save, settle

FOLDERS = ("munge", "run", "log", "state", "spool", "dev", "mariadb")
SERVING = {"idle", "mixed", "allocated", "completing"}
"""States of a node that takes jobs. `sinfo` marks one that does not answer by `*`."""

STOP_S = 10
"""Seconds between SIGTERM and SIGKILL for a daemon."""

SLURMD_STOP_S = 1
"""The same for slurmd, which has nothing to save and may try for 10 s to reach the stopped slurmctld."""


@dataclass(frozen=True)
class Status:
    """The process of each daemon (None if it does not run) and the state of each node."""

    folder: Path
    settings: Settings | None
    daemons: Mapping[str, int | None]
    nodes: Mapping[str, str]

    @property
    def up(self) -> bool:
        """Whether every daemon runs and every node takes jobs."""
        return bool(self.daemons) and all(self.daemons.values()) and self.ready

    @property
    def ready(self) -> bool:
        """Whether every node takes jobs."""
        return bool(self.nodes) and all(state in SERVING for state in self.nodes.values())


class Testbed:
    """The one-machine SLURM in a folder, running or not."""

    __test__ = False  # pytest would collect a class of this name

    def __init__(self, folder: Path) -> None:
        self.folder = checked_folder(folder)

    @property
    def slurm_conf(self) -> Path:
        """Path for SLURM_CONF."""
        return self.folder / "slurm.conf"

    def environment(self) -> dict[str, str]:
        """This process's variables with the testbed's SLURM_CONF and without those of a SLURM job."""
        mine = {name: value for name, value in os.environ.items() if not name.startswith(("SLURM", "SBATCH"))}
        return mine | {"SLURM_CONF": str(self.slurm_conf)}

    def ask(self, *command: str, timeout_s: float = 60) -> str:
        """Run one of SLURM's commands on the testbed and return its output; SteppeError if it fails."""
        done = subprocess.run(
            [packages.program(command[0]), *command[1:]],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            env=self.environment(),
            timeout=timeout_s,
            check=False,
        )
        if done.returncode:
            told = done.stderr.strip() or done.stdout.strip()
            raise SteppeError(f"`{' '.join(command)}` ended with {done.returncode}: {told}")
        return done.stdout

    def up(
        self, chosen: Mapping[str, Any] | None = None, *, install: bool = False, timeout_s: float = 60
    ) -> Status:
        """Start missing daemons and wait until every node takes jobs; running daemons are not touched.

        `chosen` holds fields of `Settings`; if they differ from the stored ones, all daemons are restarted.
        Jobs that were killed, or lost by `down` or a reboot, run again.
        """
        if os.geteuid() != 0:
            raise SteppeError("the testbed's daemons run as root: give the command as root")
        known = load(self.folder)
        accounting = (chosen or {}).get("accounting", known is not None and known.accounting)
        packages.require(accounting=accounting, install=install)
        refuse_strange(self.folder)
        make_folder(self.folder)
        with self._lock():
            settings = settle(self.folder, chosen or {}, processes.listening())
            self._configure(settings)
            *before, nodes = daemons.plan(self.folder, settings)
            for group in before:
                daemons.start(self.folder, settings, group)
            self._give_up_lost_jobs([daemon.name for daemon in daemons.idle(self.folder, nodes)])
            daemons.start(self.folder, settings, nodes)
            self._wait_ready(settings, timeout_s)
        return self.status()

    def down(self, *, purge: bool = False) -> list[str]:
        """Stop every daemon, kill the processes of jobs and return the daemons' names.

        The queue is kept: at the next `up` pending jobs are pending and running jobs run again. `purge`
        removes the folder with the queue.
        """
        marked = (self.folder / MARKER).exists()
        if purge and self.folder.exists() and not marked:
            raise SteppeError(f"{self.folder} has no {MARKER}, so it is no testbed and is not removed")
        if not marked and not processes.daemons(self.folder):
            return []
        make_folder(self.folder)  # it may have been removed while daemons ran
        with self._lock():
            stopped = self._stop()
            if purge:
                shutil.rmtree(self.folder)
        return stopped

    def status(self) -> Status:
        """Return the states of daemons and nodes."""
        settings = load(self.folder)
        if settings is None:
            return Status(self.folder, None, {}, {})
        found = {each.log: each.pid for each in reversed(processes.daemons(self.folder)) if _is_main(each)}
        names = ["munged", *(["mariadbd"] if settings.accounting else []), *settings.ports]
        answers = "munged" in found and settings.base_port in processes.listening()
        nodes = self._nodes() if answers else {}  # without slurmctld, sinfo would try for 9 s
        return Status(self.folder, settings, {name: found.get(name) for name in names}, nodes)

    def kill(self, daemon: str, *, with_jobs: bool = False) -> None:
        """Send SIGKILL to a daemon of `status().daemons`; with `with_jobs` also to a slurmd's jobs."""
        struck = {
            each.pid for each in processes.daemons(self.folder) if each.log == daemon and _is_main(each)
        }
        if not struck:
            raise SteppeError(f"{daemon} does not run, so it cannot be killed")
        processes.signal_all(struck, signal.SIGKILL)
        processes.wait_gone(struck, STOP_S)
        if with_jobs:
            processes.kill_jobs(self.folder, daemon.removeprefix("slurmd-"))

    @contextlib.contextmanager
    def _lock(self) -> Iterator[None]:
        with (self.folder / "lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def _configure(self, settings: Settings) -> None:
        """Write the configuration; stop the daemons first if it changed."""
        texts = configuration.texts(self.folder, settings)
        if any(_content(self.folder / name) != text for name, text in texts.items()):
            self._stop()
        save(self.folder, settings)
        for name in FOLDERS:
            make_folder(self.folder / name)
        for name in settings.node_names:
            make_folder(self.folder / "spool" / name)
        (self.folder / "munge").chmod(0o755)
        for device in configuration.devices(self.folder, settings):
            if not device.is_symlink():
                device.symlink_to("/dev/null")
        daemons.make_key(self.folder / "munge" / "munge.key")
        if settings.accounting:
            (self.folder / "mariadb").chmod(0o700)
            daemons.make_database(self.folder)
        for name, text in texts.items():
            if _content(self.folder / name) != text:
                write_whole(self.folder / name, text.encode())
                (self.folder / name).chmod(0o600 if name == "slurmdbd.conf" else 0o644)

    def _give_up_lost_jobs(self, slurmds: list[str]) -> None:
        """Set nodes without slurmstepd processes to down, so that slurmctld requeues their jobs at once.

        A restarted slurmd does not report lost jobs: slurmctld would list them as running for minutes.
        """
        alive = {each.log for each in processes.daemons(self.folder) if each.command == "slurmstepd"}
        names = ",".join(name.removeprefix("slurmd-") for name in slurmds if name not in alive)
        if names and self.ask("squeue", "--noheader", "--states=R,S", f"--nodelist={names}", "--format=%i"):
            self.ask("scontrol", "update", f"nodename={names}", "state=down", "reason=lost its jobs")

    def _wait_ready(self, settings: Settings, timeout_s: float) -> None:
        end = time.monotonic() + timeout_s
        while True:
            status = self.status()
            if status.up:
                return
            for name, pid in status.daemons.items():
                if pid is None:
                    raise daemons.failure(self.folder, name, "ended soon after its start")
            for name, state in status.nodes.items():
                if state.startswith(("down", "drain")):
                    with contextlib.suppress(SteppeError):
                        self.ask("scontrol", "update", f"nodename={name}", "state=resume")
            if time.monotonic() > end:
                raise self._not_ready(status, timeout_s)
            time.sleep(0.05)

    def _not_ready(self, status: Status, timeout_s: float) -> SteppeError:
        for name, state in status.nodes.items():
            if state not in SERVING:
                return daemons.failure(self.folder, f"slurmd-{name}", f"is {state!r} after {timeout_s:g} s")
        return daemons.failure(self.folder, "slurmctld", f"lists no nodes after {timeout_s:g} s")

    def _nodes(self) -> dict[str, str]:
        try:
            text = self.ask("sinfo", "-h", "-N", "-o", "%N %T")
        except (SteppeError, subprocess.TimeoutExpired):
            return {}
        return dict(line.split(maxsplit=1) for line in text.splitlines())

    def _stop(self) -> list[str]:
        """Stop all daemons, slurmctld first, so that it does not record the others as failed."""
        found = processes.daemons(self.folder)

        def end(patience_s: float, *kinds: str) -> None:
            processes.end({each.pid for each in found if each.command in kinds}, patience_s)

        end(STOP_S, "slurmctld", "slurmscriptd")
        end(SLURMD_STOP_S, "slurmd")
        processes.kill_jobs(self.folder)
        end(STOP_S, "slurmdbd")
        end(STOP_S, "mariadbd", "munged")
        return [each.log for each in found if _is_main(each)]


def _is_main(process: processes.Process) -> bool:
    return process.command == process.log.partition("-")[0]


def _content(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
