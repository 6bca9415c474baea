"""Options whose defaults depend on the machine."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from msgspec.structs import replace

from suite.cli import arguments, parse
from tests.suite.fake_records import make_spec


@pytest.fixture
def trace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What the driver would leave; torch says that there is a GPU."""
    monkeypatch.setattr(arguments, "GPU_TRACES", (str(tmp_path / "nvidia*"),))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return tmp_path / "nvidia0"


def test_auto_is_what_torch_says_where_there_may_be_a_gpu(
    trace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trace.touch()
    assert arguments.device("auto") == "cuda"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert arguments.device("auto") == "cpu"


def test_the_programs_of_the_driver_are_a_trace(trace: Path) -> None:
    program = trace.with_name("nvidia-smi")
    program.touch(0o755)
    assert arguments.device("auto") == "cuda"


def test_torch_is_not_asked_where_no_gpu_can_be(trace: Path) -> None:
    assert arguments.device("auto") == "cpu"
    assert arguments.device("cuda") == "cuda"


@pytest.mark.parametrize(("listed", "device"), [("", "cpu"), ("-1", "cpu"), ("0", "cuda")])
def test_hidden_gpus_are_none(trace: Path, monkeypatch: pytest.MonkeyPatch, listed: str, device: str) -> None:
    trace.touch()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", listed)
    assert arguments.device("auto") == device


@pytest.mark.parametrize(("listed", "ranks", "runs"), [("", 1, 1), ("0,1,2,3", 1, 4), ("0,1,2,3", 2, 2)])
def test_as_many_runs_at_a_time_as_have_their_gpus(
    monkeypatch: pytest.MonkeyPatch, listed: str, ranks: int, runs: int
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", listed)
    args = parse("run", ["-t", "tiny", "-o", "sgd"])
    assert args.n_workers(replace(make_spec(), device="cuda", ranks=ranks)) == runs
