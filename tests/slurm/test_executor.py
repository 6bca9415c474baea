"""The script that sbatch gets, against a golden file."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from slurm.executor import ROOT, script
from slurm.profiles import Profile
from slurm.submission import Batch
from suite.errors import SteppeError

GOLDEN = Path(__file__).parent / "golden" / "submission.sh"
NAME = "20260102-030405-ab12"

FULL = Profile(
    name="full",
    partition="gpu,preempt",
    account="flat",
    qos="long",
    constraint="nvlink&ib",
    gpus=2,
    gpu_type="a100",
    cpus=16,
    memory="64G",
    time_min=480,
    max_running=8,
    workers=4,
    pack_min=30,
    signal_s=180,
    setup=("module load cuda", "source /opt/env.sh"),
    extra={"nice": 100, "exclusive": True},
)


def batch(root: Path) -> Batch:
    return Batch(root / "slurm" / NAME / "1")


def test_the_script_of_a_full_profile_is_the_golden_one(tmp_path: Path) -> None:
    store = tmp_path / "my store"
    text = script(batch(store), FULL, 100, 8, after="4711")
    # The interpreter before the root, in which it may lie.
    for volatile, word in ((str(store), "/STORE"), (sys.executable, "/PYTHON"), (str(ROOT), "/ROOT")):
        assert volatile in text
        text = text.replace(volatile, word)
    assert text == GOLDEN.read_text(encoding="utf-8")


def test_a_bare_profile_asks_for_nothing_that_it_does_not_name(tmp_path: Path) -> None:
    lines = script(batch(tmp_path), Profile(name="bare"), 1, 1, after=None).splitlines()
    options = {line.split("=")[0].removeprefix("#SBATCH --") for line in lines if line.startswith("#SBATCH")}
    assert options == {
        "array", "cpus-per-task", "job-name", "nodes", "ntasks-per-node", "open-mode", "output", "requeue",
        "signal", "time",
    }  # fmt: skip
    assert "#SBATCH --array=0-0%1" in lines


def test_the_python_of_the_profile_is_a_command_of_the_shell(tmp_path: Path) -> None:
    profile = Profile(name="box", python="apptainer exec $HOME/a.sif python3")
    text = script(batch(tmp_path), profile, 1, 1, after=None)
    assert " apptainer exec $HOME/a.sif python3 -u -P -m slurm.worker " in text


def test_the_warning_does_not_depend_on_submitits_variables(tmp_path: Path) -> None:
    text = script(batch(tmp_path), FULL, 1, 1, after=None)
    assert "#SBATCH --signal=USR2@180" in text.splitlines()


def test_a_path_in_which_slurm_would_replace_something_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SteppeError, match="what follows % in a log's path"):
        script(batch(tmp_path / "100%a"), FULL, 1, 1, after=None)
