"""A plugin task for the tests: a conv net with BatchNorm, dropout and augmentation, trained in a second."""

from __future__ import annotations

import hashlib
import os
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from suite.data.dataset import Dataset
from suite.data.source import Arrays
from suite.problems.image_task import ImageTask
from suite.spec import Param
from suite.task import TaskSpec


@dataclass(frozen=True)
class Synthetic:
    """Images whose class is a brightness gradient under noise: learnable in a few epochs."""

    n_train: int = 106
    n_test: int = 50
    checksum: str = hashlib.sha256(b"synthetic 1").hexdigest()

    def available(self, root: Path | None) -> bool:
        return True

    def prepare(self, root: Path) -> None:
        """Nothing to fetch."""

    def verify(self, root: Path | None) -> None:
        """Nothing to check."""

    def load(self, root: Path | None) -> Arrays:
        generator = torch.Generator().manual_seed(7)
        n = self.n_train + self.n_test
        y = torch.arange(n) % 4
        ramp = torch.linspace(-1, 1, 8)
        shapes = torch.stack(
            [ramp.expand(8, 8), ramp.expand(8, 8).T, -ramp.expand(8, 8), -ramp.expand(8, 8).T]
        )
        x = 128 + 60 * shapes[y].unsqueeze(1) + 40 * torch.randn(n, 3, 8, 8, generator=generator)
        x = x.clamp(0, 255).to(torch.uint8)
        cut = self.n_train
        return Arrays(x[:cut], y[:cut], x[cut:], y[cut:])


SYNTHETIC = Dataset(
    name="synthetic", source=Synthetic(), n_classes=4, shape=(3, 8, 8), mean=(0.5,) * 3, std=(0.25,) * 3
)


SLOW = "STEPPE_TEST_SLOW"
"""A file: while it is there, training lasts long enough to be struck, however fast the machine."""

PACE_S = 0.03


def _linger(net: nn.Module, _: object) -> None:
    if net.training and Path(os.environ[SLOW]).exists():
        time.sleep(PACE_S)


def _net() -> nn.Module:
    net = nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1, bias=False),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.Dropout2d(0.1),
        nn.Conv2d(6, 8, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Dropout(0.2),
        nn.Linear(128, 4),
    )
    if SLOW in os.environ:
        net.register_forward_pre_hook(_linger)
    return net


def _make(epochs: int, measure_every: int) -> ImageTask:
    return ImageTask(
        name="tiny",
        version="1",
        tier="smoke",
        summary="tests",
        data=(SYNTHETIC,),
        model=_net,
        batch_size=16,
        epochs=epochs,
        n_validation=16,
        augment=("crop:1", "flip"),
        measure_examples=32,
        measure_every=measure_every,
    )


TASKS = [
    TaskSpec(
        name="tiny",
        version="1",
        tier="smoke",
        summary="conv net with BatchNorm, dropout and augmentation on synthetic images",
        make=_make,
        params={
            "epochs": Param(4, "epochs", low=1),
            "measure_every": Param(0, "epochs between measures along training", low=0),
        },
    )
]
