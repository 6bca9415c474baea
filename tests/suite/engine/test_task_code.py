"""What a task's own code can do to a run: nothing to its training, and no record that nobody can read."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from suite.engine.host import Host
from suite.engine.train import run_one
from suite.entries.registry import Registry
from suite.entries.selection import Selection
from suite.entries.stored_run import StoredRun
from suite.errors import SteppeError
from suite.records.schema import Record
from tests.suite.runner import make_run

TASK = """\
import numpy as np
import torch
from torch import nn

from suite.batch import Batch
from suite.data.dataset import Generated
from suite.metric import LOSS, Metric
from suite.problem import Conclusion, Evaluation, InMemory
from suite.task import Task, TaskSpec


def draw(n, seed, weight=None):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, 2, generator=generator)
    return Batch(inputs=x, targets=x.sum(1, keepdim=True), weight=weight)


def splits():
    return {"train": draw(26, 0), "validation": draw(8, 1), "test": draw(12, 2)}


class Sums(InMemory):
    def model(self):
        return nn.Sequential(nn.Linear(2, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Dropout(0.5), nn.Linear(4, 1))

    def losses(self, outputs, batch):
        return (outputs - batch.targets).square().squeeze(1)

    def metrics(self, means):
        return {**means, "rmse": means["loss"] ** 0.5}

    def watch(self, model, row):
        return {"seen": 1.0}

    def conclude(self, model, rows):
        return Conclusion({"norm": float(sum(p.detach().norm() for p in model.parameters()))})


def tasks(problem=Sums, splits=splits, **changes):
    fields = {
        "data": (Generated("sums", splits),), "problem": problem, "metrics": (Metric("rmse", "lower"), LOSS),
        "columns": (Metric("seen", "neither"),), "facts": (Metric("norm", "neither"),), "epochs": 3,
        "batch_size": 8, "measures": ("lambda_max",), "measure_examples": 16,
    }
    task = Task(name="sums", version="1", tier="smoke", summary="sums", **fields | changes)
    return [TaskSpec(name="sums", version="1", tier="smoke", summary="sums", make=lambda: task)]


"""
OWN = """
class Own(Sums):
    {}


TASKS = tasks(Own)
"""
EMA = Path(__file__).parents[2] / "plugins" / "ema.py"


def run(
    root: Path, code: str, optimizer: str = "sgd", plugins: tuple[Path, ...] = ()
) -> tuple[Record, list[Any]]:
    """Train a task of that code; return its record and its rows."""
    root.mkdir()
    path = root / "sums.py"
    path.write_text(TASK + code, encoding="utf-8")
    registry = Registry([path, *plugins])
    (spec,) = Selection(["sums"], [optimizer], [0]).expand(registry)
    folder = make_run(root / "store", spec)
    assert run_one(StoredRun(folder, registry), Host()) == "done"
    record = folder.record()
    assert record is not None
    metrics = folder.path / "attempts" / "1" / "metrics.jsonl"
    return record, [json.loads(line) for line in metrics.read_text().splitlines()]


def method(text: str) -> str:
    return OWN.format(text.replace("\n", "\n    "))


WATCH = "def watch(self, model, row):\n    {}\n    return {{'seen': 1.0}}"


@pytest.mark.parametrize(
    "does",
    [
        "model.eval()",
        "model.train(); model[1].eval()",
        "model(self.train.inputs)",
        "row['train_loss'] = -1.0",
        "self.loss(model(self.train.inputs), self.train).backward()",
    ],
)
def test_watching_changes_nothing(does: str, tmp_path: Path) -> None:
    plain, rows = run(tmp_path / "plain", "TASKS = tasks()")
    seen, seen_rows = run(tmp_path / "seen", method(WATCH.format(does)))
    assert seen_rows == rows
    assert seen.results == plain.results
    assert seen.sharpness == plain.sharpness


def test_what_is_watched_is_in_eval_mode_and_training_goes_on_in_its_own(tmp_path: Path) -> None:
    look = "return {'seen': float(any(m.training for m in model.modules()))}"
    _, rows = run(tmp_path / "run", method(f"def watch(self, model, row):\n    {look}"))
    assert [row["seen"] for row in rows] == [0.0] * 3


def test_an_average_that_is_watched_has_statistics_of_its_own(tmp_path: Path) -> None:
    look = "def watch(self, model, row):\n    return {'seen': float(model[1].num_batches_tracked)}"
    code = method(look).replace("tasks(Own)", "tasks(Own, evaluate_every=3)")
    _, rows = run(tmp_path / "run", code, "ema", (EMA,))
    assert [row["seen"] for row in rows] == [3.0] * 3  # whole batches of the pass, not the steps so far


def test_conclusions_cannot_change_what_is_measured(tmp_path: Path) -> None:
    plain, _ = run(tmp_path / "plain", "TASKS = tasks()")
    zeroed, _ = run(
        tmp_path / "zeroed",
        method(
            "def conclude(self, model, rows):\n    found = super().conclude(model, rows)\n"
            "    for p in model.parameters():\n        p.data.zero_()\n    return found"
        ),
    )
    assert zeroed.sharpness == plain.sharpness
    assert zeroed.results == plain.results
    assert zeroed.facts == plain.facts


@pytest.mark.parametrize("kind", ["np.float64", "np.float32"])
def test_numbers_of_numpy_are_numbers(kind: str, tmp_path: Path) -> None:
    record, rows = run(
        tmp_path / "run",
        method(
            f"def metrics(self, means):\n    return {{**means, 'rmse': {kind}(0.5)}}\n\n"
            f"def watch(self, model, row):\n    return {{'seen': {kind}(0.25)}}\n\n"
            f"def conclude(self, model, rows):\n    return Conclusion({{'norm': {kind}(2.0)}})"
        ),
    )
    assert record.score() == 0.5
    assert record.facts == {"norm": 2.0}
    assert record.sharpness is not None
    assert record.sharpness.metrics["rmse"] == 0.5
    assert [(row["train_rmse"], row["seen"]) for row in rows] == [(0.5, 0.25)] * 3


SCORED = "def scores(self, outputs, batch):\n    return {{{}: outputs.squeeze(1) > 0}}"


@pytest.mark.parametrize(
    ("code", "says"),
    [
        (
            method("score_names = ('loss',)\n\n" + SCORED.format("'loss'")),
            "task sums: score_names: 'loss' is the name of the loss that is trained; choose another one",
        ),
        (
            method("score_names = ('up', 'up')\n\n" + SCORED.format("'up'")),
            "task sums: score_names: 'up' stands twice; name each score once",
        ),
        (method("score_names = 'up'"), "task sums: score_names is a text; valid: a tuple of names, ('up',)"),
        (method(SCORED.format("'loss'")), "'loss' is the name of the loss that is trained"),
        (
            method("def metrics(self, means):\n    return {**means, 'rmse': None}"),
            "task sums: train_rmse is a NoneType; valid: a number (float(...))",
        ),
        *(
            (
                method(
                    "def evaluate(self, model, split):\n"
                    f"    return Evaluation({n}, {{'rmse': 1.0, 'loss': 1.0}})"
                ),
                f"task sums: its evaluation of split 'validation' counts {n} examples; valid: a",
            )
            for n in ("0", "-3", "3.0")
        ),
        (
            method(
                "def model(self):\n    return super().model().requires_grad_(False)",
            ),
            "task sums: its model has nothing to train",
        ),
        (
            "def some():\n    return {**splits(), 'train': draw(0, 0)}\n\n\nTASKS = tasks(splits=some)",
            "task sums: split 'train' is empty",
        ),
        (
            "def some():\n    return {**splits(), 'train': draw(26, 0, torch.zeros(26))}\n\n\n"
            "TASKS = tasks(splits=some)",
            "task sums: the 8 examples of the mini-batch of step 0 have no units; valid: a weight",
        ),
        (
            "def some():\n    return {**splits(), 'validation': draw(8, 1, torch.zeros(8))}\n\n\n"
            "TASKS = tasks(splits=some)",
            "task sums: the examples of split 'validation' have no units",
        ),
    ],
)
def test_a_mistake_is_one_line(code: str, says: str, tmp_path: Path) -> None:
    with pytest.raises(SteppeError, match=re.escape(says)) as error:
        run(tmp_path / "run", code)
    assert "\n" not in str(error.value)


FROZEN = method(
    "def model(self):\n    model = super().model()\n    model[0].requires_grad_(False)\n    return model"
)


def test_an_average_of_the_trained_weights_leaves_the_frozen_ones(tmp_path: Path) -> None:
    record, _ = run(tmp_path / "run", FROZEN, "ema", (EMA,))
    assert record.score() is not None


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ("(one for one in self.average)", "evaluation_weights gives a generator: return a list of tensors"),
        (
            "dict(enumerate(self.average))",
            "evaluation_weights gives a dict: return a list of tensors, or None",
        ),
        ("self.average[1:]", "evaluation_weights gives 5 tensors, which are not those of the 6 trained"),
    ],
)
def test_other_evaluation_weights_are_one_line(given: str, says: str, tmp_path: Path) -> None:
    path = tmp_path / "ema.py"
    text = EMA.read_text(encoding="utf-8")
    assert text.count("return self.average\n") == 1
    path.write_text(text.replace("return self.average\n", f"return {given}\n"), encoding="utf-8")
    with pytest.raises(SteppeError, match=re.escape(says)):
        run(tmp_path / "run", "TASKS = tasks()", "ema", (path,))
