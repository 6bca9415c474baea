"""A stand-in for a task's data: every image carries its own position, so that splits can be read off."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from suite.data.dataset import Dataset
from suite.data.source import Arrays

MARKED = (1, 2, 4)
"""Shape of a marked image: three bytes of position, one that is 255 in the test set, four of nothing."""


@dataclass(frozen=True)
class StandIn:
    """A source of n_train + n_test images of one shape; those of shape `MARKED` carry their position."""

    n_train: int
    n_test: int
    n_classes: int
    shape: tuple[int, int, int] = MARKED
    seed: int = 0
    """Seed of the content of the test set, and of the images that are not marked."""
    checksum: str = "stand-in"

    def available(self, root: Path | None) -> bool:
        """Say yes: nothing is needed."""
        return True

    def verify(self, root: Path | None) -> None:
        """Check nothing: the images are made on the spot."""

    def prepare(self, root: Path) -> None:
        """Nothing to fetch."""

    def load(self, root: Path | None) -> Arrays:
        """Make the images; labels cycle through the classes (in the test set from `seed` on)."""
        train_y = torch.arange(self.n_train) % self.n_classes
        test_y = (torch.arange(self.n_test) + self.seed) % self.n_classes
        if self.shape == MARKED:
            return Arrays(_mark(self.n_train, 0), train_y, _mark(self.n_test, 255), test_y)
        generator = torch.Generator().manual_seed(self.seed)
        images = torch.randint(
            256, (self.n_train + self.n_test, *self.shape), dtype=torch.uint8, generator=generator
        )
        return Arrays(images[: self.n_train], train_y, images[self.n_train :], test_y)


def stand_in(dataset: Dataset, n_train: int, *, marked: bool, seed: int = 0) -> Dataset:
    """Return the data set with its source replaced by a `StandIn`, in a tiny marked shape or in its own."""
    shape = MARKED if marked else dataset.shape
    channels = shape[0]
    source = StandIn(n_train, 4 * dataset.n_classes, dataset.n_classes, shape, seed)
    return dataclasses.replace(
        dataset, source=source, shape=shape, mean=dataset.mean[:channels], std=dataset.std[:channels]
    )


def positions(images: Tensor) -> Tensor:
    """Positions (n,) of marked images in their source; -1 for an image of the test set."""
    head = images.flatten(1)[:, :4].to(torch.int64)
    place = head[:, 0] + 256 * head[:, 1] + 65536 * head[:, 2]
    return torch.where(head[:, 3] == 0, place, -1)


def _mark(n: int, test: int) -> Tensor:
    place = torch.arange(n)
    head = torch.stack([place % 256, place // 256 % 256, place // 65536, torch.full((n,), test)], 1)
    return torch.cat([head, torch.zeros(n, 4, dtype=torch.int64)], 1).to(torch.uint8).view(n, *MARKED)
