"""Checkpoints come back as they were, or are recognised as damaged whichever byte is."""

from __future__ import annotations

import pickle
import random
from pathlib import Path
from typing import Any

import pytest
import torch

from suite.store import checkpoint
from suite.store.checkpoint import CorruptCheckpointError
from suite.store.folders import RunFolder, Store
from suite.store.lines import read_lines
from tests.suite.fake_records import make_run, make_spec


def state() -> dict[str, Any]:
    generator = torch.Generator().manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    model(torch.randn(2, 3, 5, 5, generator=generator)).sum().backward()
    optimizer.step()
    return {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": 7, "note": None}


def test_state_comes_back_bit_for_bit(tmp_path: Path) -> None:
    before = state()
    checkpoint.save(tmp_path / "c.pt", before)
    after = checkpoint.load(tmp_path / "c.pt")
    assert after.keys() == before.keys()
    assert after["optimizer"]["param_groups"] == before["optimizer"]["param_groups"]
    for name, tensor in before["model"].items():
        assert torch.equal(after["model"][name], tensor)
        assert after["model"][name].stride() == tensor.stride()
    buffers = [s["momentum_buffer"] for s in before["optimizer"]["state"].values()]
    again = [s["momentum_buffer"] for s in after["optimizer"]["state"].values()]
    assert all(torch.equal(a, b) for a, b in zip(buffers, again, strict=True))


def test_anybody_can_open_it_without_this_module(tmp_path: Path) -> None:
    checkpoint.save(tmp_path / "c.pt", {"step": 7})
    assert torch.load(tmp_path / "c.pt", weights_only=True) == {"step": 7}


def test_a_byte_changed_anywhere_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "c.pt"
    checkpoint.save(path, state())
    raw = path.read_bytes()
    chance = random.Random(0)
    # the archive's head, its directory and the digest byte by byte, and a byte of every 64 between
    places = {*range(64), *range(len(raw) - 200, len(raw))}
    places |= {low + chance.randrange(64) for low in range(0, len(raw) - 64, 64)}
    for place in sorted(places):
        damaged = bytearray(raw)
        damaged[place] ^= 1 << chance.randrange(8)
        path.write_bytes(damaged)
        with pytest.raises(CorruptCheckpointError):
            checkpoint.load(path)


@pytest.mark.parametrize("kept", [0, 1, 70, 78, 79, 80, 1000, -1, -64, -79, -1000])
def test_a_truncated_file_is_noticed(tmp_path: Path, kept: int) -> None:
    path = tmp_path / "c.pt"
    checkpoint.save(path, state())
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(CorruptCheckpointError):
        checkpoint.load(path)


class Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return print, ("a stranger's code ran",)


def test_nothing_but_tensors_and_plain_data_is_unpickled(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for stranger in ({"w": Evil()}, [1, 2]):
        checkpoint.save(tmp_path / "c.pt", stranger)  # type: ignore[arg-type]
        with pytest.raises(CorruptCheckpointError):
            checkpoint.load(tmp_path / "c.pt")
    (tmp_path / "raw.pt").write_bytes(pickle.dumps(Evil()))
    with pytest.raises(CorruptCheckpointError):
        checkpoint.load(tmp_path / "raw.pt")
    assert "ran" not in capsys.readouterr().out


def test_a_missing_checkpoint_is_not_a_damaged_one(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        checkpoint.load(tmp_path / "c.pt")


# -- what an attempt does about it -------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    """A run interrupted after checkpoints at steps 1 and 2."""
    folder = make_run(Store(tmp_path), make_spec())
    with folder.start() as attempt:
        for step in (1, 2):
            attempt.metrics({"step": step})
            attempt.checkpoint({"step": step})
    return folder


def damage(folder: RunFolder, *names: str) -> None:
    for name in names:
        path = folder.path / "attempts" / "1" / name
        raw = bytearray(path.read_bytes())
        raw[len(raw) // 2] ^= 1
        path.write_bytes(raw)


def resumed(folder: RunFolder) -> tuple[dict[str, Any] | None, list[dict[str, Any]]]:
    with folder.start() as attempt:
        return attempt.resume(), list(read_lines(attempt.path / "metrics.jsonl"))


def test_a_damaged_checkpoint_falls_back_to_the_one_before(
    folder: RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    damage(folder, "checkpoint.pt")
    assert resumed(folder) == ({"step": 1}, [{"step": 1}])
    said = capsys.readouterr().err
    assert "attempts/1/checkpoint.pt is damaged (its SHA-256 does not agree)" in said
    assert said.count("\n") == 1
    events = [event for event in folder.events() if event["event"] == "damaged checkpoint"]
    assert [event["checkpoint"] for event in events] == ["attempts/1/checkpoint.pt"]


def test_two_damaged_checkpoints_restart_the_run(
    folder: RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    damage(folder, "checkpoint.pt", "checkpoint.prev.pt")
    assert resumed(folder) == (None, [])
    assert capsys.readouterr().err.count("is damaged") == 2


def test_a_kill_between_the_two_renames_leaves_the_one_before(folder: RunFolder) -> None:
    (folder.path / "attempts" / "1" / "checkpoint.pt").unlink()
    assert resumed(folder) == ({"step": 1}, [{"step": 1}])


def test_metrics_that_lost_rows_of_the_checkpoint_disqualify_it(folder: RunFolder) -> None:
    path = folder.path / "attempts" / "1" / "metrics.jsonl"
    path.write_bytes(path.read_bytes()[:15])  # the first row and a torn second
    assert resumed(folder) == ({"step": 1}, [{"step": 1}])


def test_a_checkpoint_of_another_run_is_not_taken(folder: RunFolder, tmp_path: Path) -> None:
    other = make_run(Store(tmp_path), make_spec(seed=1))
    with other.start() as attempt:
        for name in ("checkpoint.pt", "metrics.jsonl"):
            (attempt.path / name).write_bytes((folder.path / "attempts" / "1" / name).read_bytes())
    assert resumed(other)[0] is None
