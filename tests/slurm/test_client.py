"""The way to SLURM's commands: a clean environment, and errors in one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from slurm.client import Silent, ask, environment
from suite.errors import SteppeError


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A `squeue` that comes before any other; tests write what it does."""
    path = tmp_path / "squeue"
    path.touch()
    path.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    return path


def script(program: Path, text: str) -> None:
    program.write_text(f"#!/bin/sh\n{text}\n")


def test_an_answer_is_what_the_command_prints(program: Path) -> None:
    script(program, 'echo "$1 and $2"')
    assert ask("squeue", "-h", "a b") == "-h and a b\n"


def test_variables_of_another_job_and_of_the_user_do_not_steer_it(
    program: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("SLURM_MEM_PER_CPU", "SBATCH_PARTITION", "SQUEUE_FORMAT", "SLURMD_NODENAME", "LOCAL_RANK"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("SLURM_CONF", "/etc/here.conf")
    script(program, "env")
    seen = dict(line.split("=", 1) for line in ask("squeue").splitlines() if "=" in line)
    steered = ("SLURM", "SBATCH", "SQUEUE", "LOCAL_RANK")
    assert {name: value for name, value in seen.items() if name.startswith(steered)} == {
        "SLURM_CONF": "/etc/here.conf"
    }
    assert seen["PATH"] == environment()["PATH"]


def test_a_refusal_is_told_in_the_commands_words_without_its_name(program: Path) -> None:
    script(program, "echo 'squeue: error: Invalid user: nobody' >&2; echo 'squeue: error: sorry' >&2; exit 1")
    with pytest.raises(SteppeError) as caught:
        ask("squeue")
    assert str(caught.value) == "`squeue` refused: Invalid user: nobody; sorry"
    assert not isinstance(caught.value, Silent)


def test_a_refusal_without_words_tells_the_exit_code(program: Path) -> None:
    script(program, "exit 3")
    with pytest.raises(SteppeError, match="refused: exit code 3"):
        ask("squeue")


@pytest.mark.parametrize(
    "words",
    [
        "slurm_load_jobs error: Unable to contact slurm controller (connect failure)",
        "Batch job submission failed: Socket timed out on send/recv operation",
    ],
)
def test_a_controller_that_does_not_answer_is_told_apart(program: Path, words: str) -> None:
    script(program, f"echo 'squeue: error: {words}' >&2; exit 1")
    with pytest.raises(Silent, match="SLURM does not answer"):
        ask("squeue")


def test_a_command_that_hangs_is_given_up(program: Path) -> None:
    script(program, "exec sleep 60")
    with pytest.raises(Silent, match=r"took over 0\.2 s"):
        ask("squeue", timeout_s=0.2)


def test_without_the_command_the_user_hears_where_to_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(SteppeError, match=r"no `sbatch` on PATH.*steppe run.*tests\.testbed up"):
        ask("sbatch", "x.sh")
