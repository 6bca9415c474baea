"""Evaluation and BatchNorm re-estimation against closed forms."""

from __future__ import annotations

import re

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from suite.batch import Batch
from suite.engine.evaluate import evaluate, reestimate_batchnorm
from suite.errors import SteppeError
from suite.metric import LOSS, Metric
from suite.problem import Classification, Evaluation
from tests.suite.fake_problems import classification, make_problem, make_task


def batches(x: torch.Tensor, size: int) -> list[Batch]:
    return [Batch(inputs=part) for part in x.split(size)]


def forward(model: nn.Module, batch: Batch) -> torch.Tensor:
    found: torch.Tensor = model(batch.inputs)
    return found


def test_loss_and_accuracy_weigh_examples_not_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("suite.problem.EVAL_BATCH", 7)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Dropout(0.9), nn.Linear(5, 3))
    x, y = torch.randn(17, 5), torch.randint(0, 3, (17,))
    model.train()
    result = evaluate(classification(x, y), model, "train")
    assert model.training
    logits = model.eval()(x).detach()
    # float32 logits, sums in float64: agreement to float32 rounding.
    assert abs(result.metrics["loss"] - float(F.cross_entropy(logits, y))) < 1e-6
    assert torch.equal(result.right["accuracy"], logits.argmax(1) == y)
    assert result.metrics["accuracy"] == float((logits.argmax(1) == y).double().mean())
    assert result.n == 17


class Odd(Classification):
    """An evaluation that gives what the tests say."""

    found: dict[str, float]

    def evaluate(self, model: nn.Module, split: str) -> Evaluation:
        return Evaluation(3, self.found)


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (
            {"loss": 1.0},
            "its evaluation of split 'train' lacks the metric 'error' that it declares; it gives: loss",
        ),
        ({"loss": 1.0, "error": -0.5}, "task tests: error on split 'train' is -0.5, but its scale is log"),
        ({"loss": 1.0, "error": True}, "task tests: error on split 'train' is a bool; valid: a number"),
    ],
)
def test_an_evaluation_that_is_not_as_declared_is_refused(found: dict[str, float], said: str) -> None:
    metrics = (Metric("error", "lower", scale="log", floor=1e-9), LOSS)
    splits = {"train": Batch(inputs=torch.zeros(3, 2), targets=torch.zeros(3, dtype=torch.int64))}
    kind = type("Odd", (Odd,), {"found": found})
    problem = make_problem(make_task(splits, kind, metrics=metrics))
    with pytest.raises(SteppeError, match=re.escape(said)):
        evaluate(problem, nn.Linear(2, 2), "train")


def test_reestimated_statistics_are_the_data_s_own() -> None:
    torch.manual_seed(1)
    layer = nn.BatchNorm1d(4)
    model = nn.Sequential(layer, nn.Dropout(0.5), nn.Linear(4, 2))
    x = torch.randn(60, 4) * 3 + 2
    layer.running_mean += 5.0  # stale
    model.train()
    n = reestimate_batchnorm(model, batches(x, 20), forward)
    assert n == 60
    assert model.training
    assert layer.training
    assert layer.momentum == 0.1
    thirds = x.view(3, 20, 4)
    # One float32 average of three batch values each: rounding only.
    torch.testing.assert_close(layer.running_mean, thirds.mean(1).mean(0), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(layer.running_var, thirds.var(1).mean(0), rtol=1e-5, atol=1e-6)


def test_dropout_does_not_disturb_later_statistics() -> None:
    torch.manual_seed(2)
    last = nn.BatchNorm1d(4)
    model = nn.Sequential(nn.Dropout(0.5), last)
    x = torch.randn(40, 4)
    model.train()
    reestimate_batchnorm(model, batches(x, 40), forward)
    torch.testing.assert_close(last.running_mean, x.mean(0), rtol=1e-5, atol=1e-6)


def test_a_model_without_batchnorm_costs_nothing() -> None:
    def never():  # type: ignore[no-untyped-def]
        raise AssertionError("no pass is needed")
        yield

    assert reestimate_batchnorm(nn.Linear(2, 2), never(), forward) == 0
