"""Matrix sensing: a matrix of low rank from random measurements, by an overparametrised factor, in float64.

steppe run -t matrix-sensing -o 'sgd[lr=0.02],nso[lr=0.02]' -s 0-4 --plugin sensing.py
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from suite.batch import Batch
from suite.data.dataset import Generated
from suite.metric import LOSS, Metric
from suite.problem import Evaluation, InMemory
from suite.spec import Param
from suite.task import Task, TaskSpec

D, RANK, N = 12, 2, 150
RECOVERY = Metric("recovery_error", "lower", scale="log", margin=0.1, floor=1e-12)
"""||U U' - X||_F / ||X||_F."""


def truth() -> Tensor:
    u = torch.randn(D, RANK, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return u @ u.T / D


def measurements() -> dict[str, Batch]:
    generator = torch.Generator().manual_seed(1)
    a = torch.randn(N + 60, D, D, generator=generator, dtype=torch.float64)
    whole = Batch(inputs=a, targets=(a * truth()).sum((1, 2)))
    return {"train": whole[:N], "validation": whole[N : N + 30], "test": whole[N + 30 :]}


class Factor(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.u = nn.Parameter(torch.randn(D, D) * 0.1)

    def forward(self, a: Tensor) -> Tensor:
        return torch.einsum("nij,ij->n", a, self.u @ self.u.T)


class Sensing(InMemory):
    def model(self) -> nn.Module:
        return Factor()

    def losses(self, outputs: Tensor, batch: Batch) -> Tensor:
        return 0.5 * (outputs - batch.targets) ** 2

    def evaluate(self, model: nn.Module, split: str) -> Evaluation:
        found = super().evaluate(model, split)
        entries = torch.eye(D * D, dtype=torch.float64, device=self.device).view(-1, D, D)
        got = model(entries.to(self.setting.dtype)).view(D, D).double().cpu()
        error = float((got - truth()).norm() / truth().norm())
        return Evaluation(found.n, {**found.metrics, "recovery_error": error})


def make(epochs: int) -> Task:
    return Task(
        name="matrix-sensing", version="1", tier="smoke", summary=SUMMARY,
        data=(Generated("gaussian-12-2", measurements),), problem=Sensing, metrics=(RECOVERY, LOSS),
        epochs=epochs, batch_size=50, n_train=N, precisions=("fp64", "fp32"), measure_examples=N,
        measure_every=2,
    )  # fmt: skip


SUMMARY = f"symmetric matrix of rank {RANK} in dimension {D} from {N} measurements"
TASKS = [
    TaskSpec(
        name="matrix-sensing", version="1", tier="smoke", summary=SUMMARY, make=make,
        params={"epochs": Param(6, "passes over the measurements", low=1)},
    )
]  # fmt: skip
