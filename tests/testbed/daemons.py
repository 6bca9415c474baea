"""Starts the daemons of a testbed in order, and waits until each serves."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from suite.errors import SteppeError
from suite.files import make_folder
from tests.testbed import processes
from tests.testbed.packages import PATH, program
from tests.testbed.settings import Settings

START_S = 30
"""Seconds for a started daemon to serve; each needs less than 3 on an idle machine."""

GONE_S = 2
"""Seconds without a process before a daemon counts as ended, as the log that identifies it opens late."""

SYSTEM_TABLES = ("mysql_system_tables.sql", "mysql_system_tables_data.sql")
SQL = Path("/usr/share/mysql")


@dataclass(frozen=True)
class Daemon:
    """One daemon: its command and the test of whether it serves. Its log is log/<name>.log."""

    name: str
    command: tuple[str, ...]
    serves: Callable[[], bool]
    forks: bool = True
    """Whether it daemonises itself."""

    @property
    def kind(self) -> str:
        """Name of its process."""
        return self.name.partition("-")[0]


def plan(folder: Path, settings: Settings) -> list[list[Daemon]]:
    """Return all daemons in groups: a group starts together, after the previous group serves."""
    socket = folder / "munge" / "munge.sock"
    munged = Daemon(
        "munged",
        (
            program("munged"),
            "--force",  # the folder may belong to a user, and munged requires root
            f"--socket={socket}",
            f"--key-file={folder}/munge/munge.key",
            f"--seed-file={folder}/munge/munge.seed",
            f"--pid-file={folder}/run/munged.pid",
            f"--log-file={folder}/log/munged.log",
            "--num-threads=2",
        ),
        socket.exists,
    )
    configuration = f"{folder}/slurm.conf"
    control = _on_port("slurmctld", settings, program("slurmctld"), "-f", configuration)
    nodes = [
        _on_port(f"slurmd-{name}", settings, program("slurmd"), "-N", name, "-f", configuration)
        for name in settings.node_names
    ]
    if not settings.accounting:
        return [[munged], [control], nodes]
    mariadbd = Daemon(
        "mariadbd",
        (program("mariadbd"), f"--defaults-file={folder}/mariadb/my.cnf"),
        (folder / "mariadb" / "mariadb.sock").exists,
        forks=False,
    )
    return [[munged, mariadbd], [_on_port("slurmdbd", settings, program("slurmdbd"))], [control], nodes]


def _on_port(name: str, settings: Settings, *command: str) -> Daemon:
    port = settings.ports[name]
    return Daemon(name, command, lambda: port in processes.listening())


def environment(folder: Path) -> dict[str, str]:
    """Return the environment of the testbed's programs, without the caller's variables."""
    return {
        "PATH": PATH,
        "HOME": "/root",
        "LANG": "C.UTF-8",
        "SLURM_CONF": f"{folder}/slurm.conf",
        "MYSQL_UNIX_PORT": f"{folder}/mariadb/mariadb.sock",
    }


def idle(folder: Path, group: list[Daemon]) -> list[Daemon]:
    """Return the daemons of the group that do not run."""
    running = {(process.log, process.command) for process in processes.daemons(folder)}
    return [daemon for daemon in group if (daemon.name, daemon.kind) not in running]


def start(folder: Path, settings: Settings, group: list[Daemon]) -> None:
    """Start the daemons of the group that do not run, and wait until they serve."""
    wanted = idle(folder, group)
    for daemon in wanted:
        _launch(folder, daemon, settings)
    for daemon in wanted:
        _wait(folder, daemon)


def _launch(folder: Path, daemon: Daemon, settings: Settings) -> None:
    port = settings.ports.get(daemon.name)
    if port in processes.listening():
        raise SteppeError(f"port {port} of {daemon.name} is taken by another program; choose a --base-port")
    if daemon.kind in ("munged", "mariadbd"):  # a socket left by a kill would look like one that serves
        (folder / daemon.kind.removesuffix("d") / f"{daemon.kind.removesuffix('d')}.sock").unlink(
            missing_ok=True
        )
    with (folder / "log" / f"{daemon.name}.{'out' if daemon.forks else 'log'}").open("ab") as output:
        process = subprocess.Popen(
            daemon.command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=environment(folder),
            cwd=folder,
            start_new_session=True,
        )
    if not daemon.forks:
        return
    try:
        code = process.wait(START_S)
    except subprocess.TimeoutExpired:
        process.kill()
        raise failure(folder, daemon.name, f"did not start within {START_S} s") from None
    if code:
        raise failure(folder, daemon.name, f"ended with {code}")


def _wait(folder: Path, daemon: Daemon) -> None:
    begin = seen = time.monotonic()
    while not daemon.serves():
        now = time.monotonic()
        if not idle(folder, [daemon]):
            seen = now
        if now - seen > GONE_S:
            raise failure(folder, daemon.name, "ended at once")
        if now - begin > START_S:
            raise failure(folder, daemon.name, f"does not serve after {START_S} s")
        time.sleep(0.03)


def failure(folder: Path, name: str, what: str) -> SteppeError:
    """Return an error about a daemon, followed by the last lines of its log."""
    lines = []
    for log in (folder / "log" / f"{name}.out", folder / "log" / f"{name}.log"):
        if log.exists():
            lines += [f"  {line}" for line in log.read_text(errors="replace").splitlines()[-8:]]
    return SteppeError("\n".join([f"{name} {what}; the end of {folder}/log/{name}.log:", *lines]))


def make_key(path: Path) -> None:
    """Write munge's key, once."""
    if path.exists() and path.stat().st_size >= 128:
        return
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(secrets.token_bytes(128))


def make_database(folder: Path) -> None:
    """Create MariaDB's system tables once, in a temporary folder first, as partial tables are useless."""
    data, growing = folder / "mariadb" / "data", folder / "mariadb" / "growing"
    if data.exists():
        return
    if growing.exists():
        shutil.rmtree(growing)
    make_folder(growing)
    text = "CREATE DATABASE mysql;\nUSE mysql;\nSET @auth_root_socket='root';\n"
    text += "".join((SQL / name).read_text() for name in SYSTEM_TABLES)
    done = subprocess.run(
        [
            program("mariadbd"),
            "--no-defaults",
            "--bootstrap",
            "--user=root",
            "--innodb-flush-method=nosync",
            f"--datadir={growing}",
        ],
        input=text,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment(folder),
        check=False,
    )
    if done.returncode:
        tail = "\n".join(done.stdout.splitlines()[-10:])
        raise SteppeError(f"mariadbd could not make its tables in {growing}:\n{tail}")
    growing.rename(data)
