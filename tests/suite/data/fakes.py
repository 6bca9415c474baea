"""A data set made on the spot, whose labels and images identify the example, and a task on it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from suite.data.dataset import Dataset
from suite.data.source import Arrays
from suite.data.splits import TrainingData
from suite.problems.image_task import ImageTask


@dataclass(frozen=True)
class FakeSource:
    """Random images (N, C, H, W), so that no two crops look the same, with labels i % n_classes."""

    n_train: int = 200
    n_test: int = 40
    n_classes: int = 4
    shape: tuple[int, int, int] = (3, 8, 8)
    checksum: str = "fake-1"
    there: bool = True

    def available(self, root: Path | None) -> bool:
        return self.there

    def prepare(self, root: Path) -> None:
        """Nothing to fetch."""

    def verify(self, root: Path | None) -> None:
        """Nothing to check."""

    def load(self, root: Path | None) -> Arrays:
        generator = torch.Generator().manual_seed(1)
        n = self.n_train + self.n_test
        x = torch.randint(256, (n, *self.shape), dtype=torch.uint8, generator=generator)
        y = torch.arange(n) % self.n_classes
        return Arrays(x[: self.n_train], y[: self.n_train], x[self.n_train :], y[self.n_train :])


def fake_dataset(name: str = "fake", **source: Any) -> Dataset:
    made = FakeSource(**source)
    channels = made.shape[0]
    mean, std = (0.4, 0.5, 0.6)[:channels], (0.2, 0.25, 0.3)[:channels]
    return Dataset(name, made, made.n_classes, made.shape, mean, std)


def fake_task(dataset: Dataset, **changes: Any) -> ImageTask:
    fields: dict[str, Any] = {
        "name": "fake-task",
        "version": "1",
        "tier": "smoke",
        "summary": "tests",
        "data": (dataset,),
        "model": nn.Identity,
        "batch_size": 16,
        "epochs": 1,
        "n_validation": 20,
    }
    return ImageTask(**{**fields, **changes})


def numbered(x: Tensor) -> TrainingData:
    """Training data whose target is the example's number."""
    y = torch.arange(len(x))
    return TrainingData(x, y, x[:0], y[:0], y[:0], "", "")
