"""Evaluation and BatchNorm re-estimation against closed forms."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from suite.evaluate import evaluate, reestimate_batchnorm


def batches(x: torch.Tensor, y: torch.Tensor, size: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    return list(zip(x.split(size), y.split(size), strict=True))


def test_loss_and_accuracy_weigh_examples_not_batches() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Dropout(0.9), nn.Linear(5, 3))
    x, y = torch.randn(17, 5), torch.randint(0, 3, (17,))
    model.train()
    result = evaluate(model, F.cross_entropy, batches(x, y, 7))
    assert model.training
    logits = model.eval()(x).detach()
    # float32 logits, sums in float64: agreement to float32 rounding.
    assert abs(result.loss - float(F.cross_entropy(logits, y))) < 1e-6
    assert torch.equal(result.correct, logits.argmax(1) == y)
    assert result.accuracy == float((logits.argmax(1) == y).double().mean())


def test_reestimated_statistics_are_the_data_s_own() -> None:
    torch.manual_seed(1)
    layer = nn.BatchNorm1d(4)
    model = nn.Sequential(layer, nn.Dropout(0.5), nn.Linear(4, 2))
    x = torch.randn(60, 4) * 3 + 2
    layer.running_mean += 5.0  # stale
    model.train()
    n = reestimate_batchnorm(model, batches(x, torch.zeros(60), 20))
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
    reestimate_batchnorm(model, batches(x, torch.zeros(40), 40))
    torch.testing.assert_close(last.running_mean, x.mean(0), rtol=1e-5, atol=1e-6)


def test_a_model_without_batchnorm_costs_nothing() -> None:
    def never():  # type: ignore[no-untyped-def]
        raise AssertionError("no pass is needed")
        yield

    assert reestimate_batchnorm(nn.Linear(2, 2), never()) == 0
