"""Runs SLURM's commands with a clean environment, a time limit and one-line errors."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Mapping

from suite.errors import SteppeError

KEPT = frozenset({"SLURM_CONF", "SLURM_JWT"})
"""Variables that SLURM's commands need: the cluster's configuration and the user's token."""

_STEERING = ("SLURM", "SBATCH_", "SRUN_", "SQUEUE_", "SACCT_", "SINFO_", "SCANCEL_", "SALLOC_")
_RANKS = frozenset({"MASTER_ADDR", "MASTER_PORT", "RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE"})
_SILENT = re.compile(
    r"unable to contact slurm|socket timed out|connection refused|communication (connection )?failure"
    r"|zero bytes were transmitted|plugin initialization failed|authentication|munge"
    r"|message (send|receive) failure|unexpected message|transport endpoint|standby mode"
    r"|controller not available",
    re.IGNORECASE,
)
_NOISE = re.compile(r"^(sbatch|squeue|scancel|scontrol|sinfo|sacct|sacctmgr): (error: |fatal: )?")
_SHOWN = 300


class Silent(SteppeError):  # noqa: N818 - a state of the cluster, not a mistake
    """The scheduler did not answer; whether the request took effect is unknown."""


def environment(variables: Mapping[str, str] | None = None) -> dict[str, str]:
    """Copy this process's variables (or those given) without any that change what SLURM's commands do.

    Inside a job dozens of variables would override the options of a script, or pass into the new job; so
    would a user's SQUEUE_FORMAT or SBATCH_PARTITION.
    """
    given = os.environ if variables is None else variables
    return {
        key: value
        for key, value in given.items()
        if key in KEPT or not (key.startswith(_STEERING) or key in _RANKS)
    }


def ask(*command: str, timeout_s: float = 60) -> str:
    """Run one of SLURM's commands and return its standard output.

    Raises:
        SteppeError: the command is missing or failed; the message quotes it.
        Silent: the scheduler did not answer.

    """
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            env=environment(),
            timeout=timeout_s,
            check=False,
            close_fds=False,  # the command inherits the store's lock only, see `submission.exclusive`
        )
    except FileNotFoundError:
        raise absent(command[0]) from None
    except OSError as error:
        raise SteppeError(f"`{command[0]}` cannot be started: {error.strerror or error}") from error
    except subprocess.TimeoutExpired:
        raise Silent(
            f"SLURM does not answer: `{command[0]}` took over {timeout_s:g} s; give the command again later"
        ) from None
    if done.returncode == 0:
        return done.stdout
    message = _one_line(done.stderr or done.stdout) or f"exit code {done.returncode}"
    if _SILENT.search(message):
        raise Silent(f"SLURM does not answer (`{command[0]}`: {message}); give the command again later")
    raise SteppeError(f"`{command[0]}` refused: {message}")


def absent(program: str) -> SteppeError:
    """Return the error for a machine without SLURM."""
    return SteppeError(
        f"no `{program}` on PATH, so this is no machine of a SLURM cluster: run it here with `steppe run`, "
        f"log in where there is one, or in a clone bring up a cluster by `python -m tests.testbed up`"
    )


def _one_line(text: str) -> str:
    """Join the lines of an error message and strip the program's name from each."""
    lines = [_NOISE.sub("", line.strip()) for line in text.splitlines()]
    whole = "; ".join(dict.fromkeys(line for line in lines if line))
    return whole if len(whole) <= _SHOWN else whole[:_SHOWN] + "…"
