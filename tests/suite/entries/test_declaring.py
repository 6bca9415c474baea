"""What the process says that loads the optimizers: which hyperparameters a cost was reckoned from."""

from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch

from suite.entries.declared import ROOT
from suite.entries.declaring import Noting, main, tell
from suite.entries.registry import Found, Registry
from suite.errors import SteppeError
from suite.spec import OptimizerSpec, Param

HYPER = {"a": 1, "b": 2.5, "c": True}
ALL = ["a", "b", "c"]
PATH = ROOT / "baselines" / "mine.py"


def spread(a: int, b: float, c: bool) -> float:
    return a + b + c


@pytest.mark.parametrize(
    ("cost", "read"),
    [
        (lambda h: 1, []),
        (lambda h: h["a"], ["a"]),
        (lambda h: h["a"] if h["c"] else h["b"], ["c", "a"]),
        (lambda h: 2 if "b" in h else 1, ["b"]),
        (lambda h: h.get("z", 3), ["z"]),
        (lambda h: spread(**h), ALL),
        (lambda h: sum(dict(h).values()), ALL),
        (lambda h: sum(h.values()), ALL),
        (lambda h: max(v for _, v in h.items()), ALL),
    ],
)
def test_what_is_read_is_noted(cost: Callable[[Mapping[str, Any]], float], read: list[str]) -> None:
    noting = Noting(HYPER)
    assert cost(noting) == cost(HYPER)
    assert list(noting.read) == read
    assert noting.read == {key: HYPER.get(key) for key in read}


def entries(monkeypatch: pytest.MonkeyPatch, cost: Callable[[Mapping[str, Any]], Any], **other: Any) -> None:
    """Let there be one optimizer."""
    params = {name: Param(default) for name, default in HYPER.items()}
    needs = other.get("needs", lambda h: ())
    one = OptimizerSpec("mine", "1", "", "", other.get("params", params), cost, torch.optim.SGD, needs=needs)
    found = {"mine": Found(one, PATH, plugin=False)}
    monkeypatch.setattr(Registry, "optimizers", property(lambda self: other.get("of", lambda: found)()))


def test_costs_come_with_what_they_depend_on(monkeypatch: pytest.MonkeyPatch) -> None:
    entries(monkeypatch, lambda h: h["a"] * 2)
    told = tell([("mine", {**HYPER, "a": 4}), ("unknown", {})])
    assert told["figures"] == {"mine": [[["a"], [1], 2, []], [["a"], [4], 8, []]]}


def test_needs_come_with_what_they_depend_on(monkeypatch: pytest.MonkeyPatch) -> None:
    entries(monkeypatch, lambda h: h["a"], needs=lambda h: {"parts", "function"} if h["c"] else ())
    told = tell([("mine", {**HYPER, "c": False})])
    rows = [[["a", "c"], [1, True], 1, ["function", "parts"]], [["a", "c"], [1, False], 1, []]]
    assert told["figures"] == {"mine": rows}


def test_needs_that_cannot_be_told_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    entries(monkeypatch, lambda h: 1, needs=lambda h: h["none"])
    assert tell([])["figures"] == {"mine": []}


@pytest.mark.parametrize("cost", [lambda h: 1 / (h["a"] - 1), lambda h: "many", lambda h: None])
def test_a_cost_that_cannot_be_told_is_left_out(
    monkeypatch: pytest.MonkeyPatch, cost: Callable[[Mapping[str, Any]], Any]
) -> None:
    entries(monkeypatch, cost)
    told = tell([])
    assert told["figures"] == {"mine": []}
    assert [one["name"] for one in told["optimizers"]] == ["mine"]


def test_a_default_out_of_range_leaves_the_others_their_costs(monkeypatch: pytest.MonkeyPatch) -> None:
    entries(monkeypatch, lambda h: h["a"], params={"a": Param(0, low=1)})
    assert tell([("mine", {"a": 4})])["figures"] == {"mine": [[["a"], [4], 4, []]]}


def test_the_answer_is_all_of_standard_output(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    entries(monkeypatch, lambda h: os.write(1, b"!"))
    monkeypatch.setattr(sys, "stdin", io.StringIO('[["mine", {"a": 4}]]'))
    assert main() == 0
    assert json.loads(capfd.readouterr().out)["figures"]["mine"] == [[[], [], 1, []]] * 2


def test_entries_that_cannot_be_loaded_are_an_error_and_its_traceback(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def broken() -> Any:
        raise SteppeError("mine.py is broken")

    entries(monkeypatch, lambda h: 1, of=broken)
    monkeypatch.setattr(sys, "stdin", io.StringIO("[]"))
    assert main() == 0
    said = capfd.readouterr()
    assert json.loads(said.out) == {"error": "mine.py is broken"}
    assert "Traceback" in said.err
