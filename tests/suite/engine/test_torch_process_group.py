"""Several processes that share every mini-batch take the steps that one process takes."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest
import torch

from suite.engine import torch_process_group as group
from suite.engine.torch_process_group import coordinate, join
from suite.errors import RankLostError
from suite.process_group import ProcessGroup
from tests.suite.ranked import OPTIMIZERS, N, free_port, steps, together


@pytest.fixture(scope="module")
def found() -> list[dict[str, Any]]:
    return together("steps")


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_three_processes_take_the_steps_of_one(found: list[dict[str, Any]], optimizer: str) -> None:
    """Mini-batches of 16, 7 and 2 examples, in float64: only the order of sums differs."""
    alone = steps(ProcessGroup())[optimizer]
    for one in found:
        # A sum of n terms in another order differs by up to n eps, here about 400 x 2e-16; Adam and AdaBelief
        # divide by the root of a small second moment, which multiplies that.
        np.testing.assert_allclose(one[optimizer]["weights"], alone["weights"], rtol=0, atol=1e-11)
        assert one[optimizer]["told"] == pytest.approx(alone["told"], rel=1e-12)
        assert one[optimizer]["meter"] == alone["meter"]


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_their_weights_stay_the_same_bit_for_bit(found: list[dict[str, Any]], optimizer: str) -> None:
    assert len(found) == N
    for one in found[1:]:
        assert np.array_equal(one[optimizer]["weights"], found[0][optimizer]["weights"])


def test_what_rank_0_says_all_know() -> None:
    for state, flags, nothing in together("shared", 2):
        assert (state, flags, nothing) == ({"w": [0, 1, 2, 3, 4], "n": 3, "name": "sgd"}, [True, False], None)


def test_weights_that_part_by_one_bit_are_noticed_by_all() -> None:
    assert all("came to different weights" in one for one in together("parts", 2))


def test_rank_0_has_an_example_wherever_there_is_one() -> None:
    several = object.__new__(group.TorchProcessGroup)
    several.n = 3
    slices = []
    for several.rank in range(3):
        slices.append(several.bounds(10, 12))
    assert slices == [(11, 12), (10, 11), (10, 10)]


def test_a_process_that_leaves_is_noticed() -> None:
    *stayed, left = together("leaves")
    assert left == "left"
    assert all(one.startswith("RankLostError: another process of this run ended") for one in stayed)


def test_rank_0_waits_until_it_is_asked_to_stop() -> None:
    ports: list[int] = []
    with coordinate(2, "cpu", "127.0.0.1", ports.append, lambda: bool(ports)) as ranks:
        assert ranks is None


def test_rank_0_does_not_wait_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(group, "JOIN_S", 0.2)
    waits = coordinate(2, "cpu", "127.0.0.1", lambda _: None, lambda: False)
    with pytest.raises(RankLostError, match="only 1 of 2 processes came within 0 s"):
        waits.__enter__()


def test_who_finds_nobody_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(group, "_STORE_S", 1.0)
    started = time.monotonic()
    calls = join(1, 2, "cpu", "127.0.0.1", free_port())
    with pytest.raises(RankLostError, match="another process of this run ended, or cannot be reached"):
        calls.__enter__()
    assert time.monotonic() - started < 60


def test_alone_nothing_is_shared() -> None:
    ranks = ProcessGroup()
    assert ranks.agreed(True)
    assert not ranks.agreed(False)
    assert ranks.bounds(3, 9) == (3, 9)
    assert ranks.share({"a": 1}) == {"a": 1}
    assert torch.equal(ranks.add_up([], torch.ones(2)), torch.ones(2))
