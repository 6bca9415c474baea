"""Job arrays through submitit, which writes the script (options, log paths, `srun`).

submitit's public interface submits pickled functions. Array tasks here read their runs from a batch folder
instead, so this module uses only submitit's private function that writes scripts, whose behaviour
tests/slurm/test_executor.py pins. `sbatch` is called here, once per batch.
"""

from __future__ import annotations

import os
import re
import shlex
import sys
from typing import Any

from submitit.slurm.slurm import _make_sbatch_string

from slurm.client import Silent, ask
from slurm.profiles import Profile
from slurm.submission import Batch
from suite.code_hash import ROOT
from suite.errors import SteppeError
from suite.files import write_whole

SCRIPT = "submission.sh"


def script(batch: Batch, profile: Profile, n_tasks: int, at_a_time: int, after: str | None) -> str:
    """Return the script for `sbatch`; `after` is the id of the job that must end first."""
    if "%" in str(batch.folder):
        raise SteppeError(
            f"{batch.folder}: SLURM would replace what follows % in a log's path; choose another --store"
        )
    python = profile.python or shlex.quote(sys.executable)
    return _make_sbatch_string(
        # -P: the working directory may hold another package named `slurm` or `suite`.
        command=f"{python} -u -P -m slurm.worker {shlex.quote(str(batch.folder))}",
        folder=batch.folder,
        map_count=n_tasks,
        array_parallelism=at_a_time,
        dependency=f"afterany:{after}" if after else None,
        **options(batch, profile),
    )


def options(batch: Batch, profile: Profile) -> dict[str, Any]:
    """Translate a profile into submitit's options."""
    gpus = f"gpu:{profile.gpu_type}:{profile.gpus}" if profile.gpu_type else f"gpu:{profile.gpus}"
    extra = {key: True if value == "" else value for key, value in profile.extra.items()}
    return {
        "job_name": batch.job_name,
        "partition": profile.partition or None,
        "account": profile.account or None,
        "qos": profile.qos or None,
        "constraint": profile.constraint or None,
        "gres": gpus if profile.gpus else None,
        "nodes": profile.nodes,
        "ntasks_per_node": profile.processes,
        "cpus_per_task": profile.cpus,
        "mem": profile.memory or None,
        "time": profile.time_min,
        "wckey": None,  # clusters that control such keys refuse submitit's default
        "stderr_to_stdout": True,
        # Newer versions of srun do not take the number of CPUs from the job. A failing process ends the task,
        # as the other ranks would wait for it forever.
        "srun_args": [
            f"--cpus-per-task={profile.cpus}",
            *(["--kill-on-bad-exit=1"] if profile.ranks > 1 else []),
        ],
        # Prepended after the set-up lines, which may change PYTHONPATH.
        "setup": [
            *profile.setup,
            f"export PYTHONPATH={shlex.quote(str(ROOT))}${{PYTHONPATH:+{os.pathsep}$PYTHONPATH}}",
        ],
        "additional_parameters": {"requeue": True, "signal": f"USR2@{profile.signal_s}", **extra},
    }


def submit(batch: Batch, text: str) -> str:
    """Submit a batch with this script and return the job id.

    Raises SteppeError if the cluster refuses it, and `Silent` if the outcome is unknown.
    """
    path = batch.folder / SCRIPT
    write_whole(path, text.encode(), flush=False)
    answer = ask("sbatch", str(path))
    job = re.search(r"job (\d+)", answer)
    if job is None:  # sbatch succeeded, so the job exists and will be recognised by its name
        raise Silent(f"`sbatch` gave no job id but {answer.strip()!r}")
    return job[1]
