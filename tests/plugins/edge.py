"""Gradient descent at the edge of stability: every example in every step, lr * lambda_max after each.

steppe run -t edge -o 'sgd[momentum=0,weight_decay=0,schedule=constant,warmup=0,lr=0.4]' --plugin edge.py
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from suite.batch import Batch
from suite.data.dataset import Generated
from suite.metric import LOSS, Metric, Profile
from suite.problem import Conclusion, Curve, InMemory
from suite.seeds import Streams
from suite.spec import Param
from suite.task import Task, TaskSpec

N, SUMMARY = 60, "full-batch descent of a tanh network, step by step"


def clouds() -> dict[str, Batch]:
    generator = torch.Generator().manual_seed(0)
    y = torch.arange(N) % 3
    x = torch.randn(3, 10, generator=generator)[y] + torch.randn(N, 10, generator=generator)
    return {"train": Batch(inputs=x, targets=y)}


class Edge(InMemory):
    def model(self) -> nn.Module:
        return nn.Sequential(nn.Linear(10, 16), nn.Tanh(), nn.Linear(16, 3))

    def losses(self, outputs: Tensor, batch: Batch) -> Tensor:
        return ((outputs - F.one_hot(batch.targets, 3)) ** 2).sum(1) / 2

    def watch(self, model: nn.Module, row: Mapping[str, Any]) -> dict[str, float]:
        return {"lr_sharpness": row["lr"] * row["lambda_max"]}

    def conclude(self, model: nn.Module, rows: Sequence[Mapping[str, Any]]) -> Conclusion:
        """Count the rises of the loss, and walk from the initial weights to the final ones."""
        loss = torch.tensor([row["train_loss"] for row in rows])
        Streams(self.setting.seed).seed_global("init")
        start, end = (
            self.model().to(self.device, self.setting.dtype),
            [p.detach() for p in model.parameters()],
        )
        along, heights = [i / 10 for i in range(11)], []
        with torch.no_grad():
            first = [p.clone() for p in start.parameters()]
            for t in along:
                for p, a, b in zip(start.parameters(), first, end, strict=True):
                    p.copy_(torch.lerp(a, b, t))
                heights.append(float(self.loss(start(self.train.inputs), self.train)))
        rises = float((loss.diff() > 0).sum())
        return Conclusion({"rises": rises}, {"interpolation": Curve(along, heights)})


def make(steps: int) -> Task:
    return Task(
        name="edge", version="1", tier="smoke", summary=SUMMARY, data=(Generated("clouds", clouds),),
        problem=Edge, metrics=(LOSS,), tests=(), validation="", epochs=steps, batch_size=0, n_train=N,
        precisions=("fp64",), columns=(Metric("lr_sharpness", "neither"),), facts=(Metric("rises", "lower"),),
        profiles=(Profile("interpolation", "way from initial to final weights", LOSS),),
        measures=("lambda_max",), measure_examples=N, measure_every=1,
    )  # fmt: skip


PARAMS = {"steps": Param(12, "steps of descent", low=1)}
TASKS = [TaskSpec(name="edge", version="1", tier="smoke", summary=SUMMARY, make=make, params=PARAMS)]
