"""A language of brackets: the next token, sentences of several lengths with padding, perplexity.

steppe run -t tokens -o adam,sgd -s 0-2 --plugin tokens.py
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from suite.batch import Batch
from suite.data.dataset import Generated
from suite.metric import Metric
from suite.problem import InMemory
from suite.spec import Param
from suite.task import Task, TaskSpec

TOKENS, LENGTH, PAD = 6, 12, 0
PERPLEXITY = Metric("perplexity", "lower", scale="log", margin=0.02, floor=1e-3)
HITS = Metric("token_accuracy", "higher", "%")


def sentences() -> dict[str, Batch]:
    """Token t is followed by t + 1 three times in four; the rest of a sentence is padding."""
    generator = torch.Generator().manual_seed(0)
    words = torch.randint(1, TOKENS, (300, LENGTH + 1), generator=generator)
    follows = torch.rand(300, LENGTH + 1, generator=generator) < 0.75
    for at in range(1, LENGTH + 1):
        words[:, at] = torch.where(follows[:, at], words[:, at - 1] % (TOKENS - 1) + 1, words[:, at])
    n = torch.randint(3, LENGTH + 1, (300,), generator=generator)
    words[torch.arange(LENGTH + 1) > n[:, None]] = PAD
    whole = Batch(inputs=words[:, :-1], targets=words[:, 1:], weight=n)
    return {"train": whole[:200], "validation": whole[200:250], "test": whole[250:]}


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(TOKENS, 16)
        self.hidden, self.norm, self.head = nn.Linear(16, 32), nn.LayerNorm(32), nn.Linear(32, TOKENS)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.head(F.gelu(self.norm(self.hidden(self.embedding(tokens)))))


class Language(InMemory):
    score_names = ("token_accuracy",)

    def model(self) -> nn.Module:
        return Net()

    def losses(self, outputs: Tensor, batch: Batch) -> Tensor:
        return F.cross_entropy(
            outputs.transpose(1, 2), batch.targets, ignore_index=PAD, reduction="none"
        ).sum(1)

    def scores(self, outputs: Tensor, batch: Batch) -> dict[str, Tensor]:
        hits = (outputs.argmax(2) == batch.targets) & (batch.targets != PAD)
        return {"token_accuracy": hits.sum(1)}

    def metrics(self, means: Mapping[str, float]) -> dict[str, float]:
        return {**means, "perplexity": math.exp(means["loss"])}


def make(epochs: int) -> Task:
    return Task(
        name="tokens", version="1", tier="smoke", summary="a language of brackets",
        data=(Generated("brackets", sentences),), problem=Language, metrics=(PERPLEXITY, HITS),
        epochs=epochs, batch_size=32, n_train=200, measure_examples=100,
    )  # fmt: skip


PARAMS = {"epochs": Param(3, "passes over the sentences", low=1)}
TASKS = [TaskSpec(name="tokens", version="1", tier="smoke", summary="brackets", make=make, params=PARAMS)]
