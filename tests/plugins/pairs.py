"""Contrastive pairs of a picture and a caption; retrieval at home and under two shifts.

steppe run -t pairs -o sgd,sam -s 0-2 --plugin pairs.py
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from suite.batch import Batch
from suite.data.dataset import Generated
from suite.metric import LOSS, Metric
from suite.problem import Evaluation, InMemory
from suite.spec import Param
from suite.task import Task, TaskSpec

RECALL = Metric("recall_1", "higher", "%", margin=0.01)
WORDS, LENGTH, TESTS, SUMMARY = 20, 4, ("test", "noisier", "mirrored"), "contrastive pairs"


def pairs() -> dict[str, Batch]:
    """A caption is a few words; its picture is their noisy sum of templates."""
    generator = torch.Generator().manual_seed(0)
    words = torch.randint(WORDS, (330, LENGTH), generator=generator)
    clean = torch.randn(WORDS, 3, 8, 8, generator=generator)[words].sum(1) / LENGTH**0.5
    noise = torch.randn(clean.shape, generator=generator)
    whole, test = Batch(picture=clean + 0.3 * noise, words=words), slice(270, 330)
    return {
        "train": whole[:210], "validation": whole[210:270], "test": whole[test],
        "noisier": Batch(picture=(clean + noise)[test], words=words[test]),
        "mirrored": Batch(picture=whole.picture[test].flip(3), words=words[test]),
    }  # fmt: skip


class TwoTowers(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        layers = nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(128, 16)
        self.picture = nn.Sequential(*layers)
        self.caption = nn.Embedding(WORDS, 16)
        self.scale = nn.Parameter(torch.tensor(2.0))

    def forward(self, picture: Tensor, words: Tensor) -> tuple[Tensor, Tensor]:
        ours = self.scale.exp() * F.normalize(self.picture(picture), dim=1)
        return ours, F.normalize(self.caption(words).mean(1), dim=1)


class Pairs(InMemory):
    def model(self) -> nn.Module:
        return TwoTowers()

    def forward(self, model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
        return model(batch.picture, batch.words)

    def loss(self, outputs: tuple[Tensor, Tensor], batch: Batch) -> Tensor:
        logits = outputs[0] @ outputs[1].T
        at = torch.arange(len(batch), device=logits.device)
        return (F.cross_entropy(logits, at) + F.cross_entropy(logits.T, at)) / 2

    def evaluate(self, model: nn.Module, split: str) -> Evaluation:
        found = super().evaluate(model, split)
        parts = [self.predict(model, batch) for batch in self.batches(split)]
        pictures, captions = (torch.cat(some) for some in zip(*parts, strict=True))
        right = ((pictures @ captions.T).argmax(1) == torch.arange(len(pictures), device=self.device)).cpu()
        metrics = {**found.metrics, "recall_1": float(right.double().mean())}
        return Evaluation(found.n, metrics, {"recall_1": right})


def make(epochs: int) -> Task:
    return Task(
        name="pairs", version="1", tier="smoke", summary=SUMMARY, data=(Generated("pairs", pairs),),
        problem=Pairs, metrics=(RECALL, LOSS), tests=TESTS, separable=False, epochs=epochs,
        batch_size=40, n_train=200, measure_examples=80, measures=("lambda_max", "lpf"),
    )  # fmt: skip


PARAMS = {"epochs": Param(4, "passes over the pairs", low=1)}
TASKS = [TaskSpec(name="pairs", version="1", tier="smoke", summary=SUMMARY, make=make, params=PARAMS)]
