"""Debian's packages for a testbed: lists the missing ones and installs them on request."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from suite.errors import SteppeError

PATH = "/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin"
"""Search path for the daemons: a user's PATH often lacks the sbin folders."""

CORE = {"munged": "munge", "slurmctld": "slurmctld", "slurmd": "slurmd", "sinfo": "slurm-client"}
ACCOUNTING = {"slurmdbd": "slurmdbd", "mariadbd": "mariadb-server-core"}
"""Packages by a program that each of them contains."""

POLICY = Path("/usr/sbin/policy-rc.d")
NO_SERVICES = "#!/bin/sh\n# Made by Steppe's testbed while it installs packages; to be removed.\nexit 101\n"


def program(name: str) -> str:
    """Return the absolute path of a program of these packages."""
    found = shutil.which(name, path=PATH)
    if found is None:
        raise SteppeError(f"no {name} in {PATH}")
    return found


def missing(*, accounting: bool) -> list[str]:
    """Return the packages that are missing."""
    wanted = CORE | (ACCOUNTING if accounting else {})
    return [package for name, package in wanted.items() if shutil.which(name, path=PATH) is None]


def install_command(names: list[str]) -> str:
    """Return the command that installs the packages."""
    return f"apt-get update && apt-get install -y --no-install-recommends {' '.join(names)}"


def require(*, accounting: bool, install: bool) -> None:
    """Install missing packages if `install` is set, else raise SteppeError with the command to do so."""
    names = missing(accounting=accounting)
    if not names:
        return
    if not install:
        raise SteppeError(
            f"not installed: {', '.join(names)}; hint: add --install, or as root: {install_command(names)}"
        )
    if shutil.which("apt-get") is None:
        raise SteppeError(f"not installed: {', '.join(names)}; there is no apt-get here to install them with")
    with _no_services():
        _apt("update", "-qq")
        _apt("install", "-y", "-qq", "--no-install-recommends", *names)
    if still := missing(accounting=accounting):
        raise SteppeError(
            f"apt-get installed {', '.join(names)}, yet these lack a program: {', '.join(still)}"
        )


@contextlib.contextmanager
def _no_services() -> Iterator[None]:
    """Prevent the packages from starting the system's daemons."""
    ours = not POLICY.exists() or POLICY.read_text(errors="replace") == NO_SERVICES
    if ours:
        POLICY.write_text(NO_SERVICES)
        POLICY.chmod(0o755)
    try:
        yield
    finally:
        if ours:
            POLICY.unlink(missing_ok=True)


def _apt(*arguments: str) -> None:
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    done = subprocess.run(
        ["apt-get", *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment,
        check=False,
    )
    if done.returncode:
        tail = "\n".join(done.stdout.splitlines()[-10:])
        raise SteppeError(f"`apt-get {' '.join(arguments)}` ended with {done.returncode}:\n{tail}")
