"""Data in place of a task's own: fake images, and data sets whose splits are observed or altered."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from suite.batch import Batch
from suite.data.dataset import Data, Dataset, Reader
from suite.data.source import Arrays

MARKED = (1, 2, 4)
"""Shape of a marked image: three bytes of position, one that is 255 in the test set, four of nothing."""


@dataclass(frozen=True)
class FakeImages:
    """A source of n_train + n_test images of one shape; those of shape `MARKED` carry their position."""

    n_train: int
    n_test: int
    n_classes: int
    shape: tuple[int, int, int]
    checksum: str = "fake"

    def available(self, root: Path | None) -> bool:
        """Say yes: nothing is needed."""
        return True

    def verify(self, root: Path | None) -> None:
        """Check nothing: the images are made on the spot."""

    def prepare(self, root: Path) -> None:
        """Nothing to fetch."""

    def load(self, root: Path | None) -> Arrays:
        """Make the images; labels cycle through the classes."""
        cut, n = self.n_train, self.n_train + self.n_test
        labels = torch.cat([torch.arange(cut), torch.arange(self.n_test)]) % self.n_classes
        if self.shape == MARKED:
            images = torch.cat([_mark(cut, 0), _mark(self.n_test, 255)])
        else:
            generator = torch.Generator().manual_seed(0)
            images = torch.randint(256, (n, *self.shape), dtype=torch.uint8, generator=generator)
        return Arrays(images[:cut], labels[:cut], images[cut:], labels[cut:])


def with_fake_images(dataset: Dataset, n_train: int, marked: bool = False) -> Dataset:
    """Give a data set `FakeImages` as its source, in its own shape or in the tiny one of marked images."""
    shape = MARKED if marked else dataset.shape
    source = FakeImages(n_train, 4 * dataset.n_classes, dataset.n_classes, shape)
    mean, std = dataset.mean[: shape[0]], dataset.std[: shape[0]]
    return dataclasses.replace(dataset, source=source, shape=shape, mean=mean, std=std)


def positions(images: Tensor) -> Tensor:
    """Positions (n,) of marked images in their source; -1 for an image of the test set."""
    head = images.flatten(1)[:, :4].to(torch.int64)
    place = head[:, 0] + 256 * head[:, 1] + 65536 * head[:, 2]
    return torch.where(head[:, 3] == 0, place, -1)


def _mark(n: int, test: int) -> Tensor:
    images, place = torch.zeros(n, 8, dtype=torch.uint8), torch.arange(n)
    images[:, :3] = torch.stack([place % 256, place // 256 % 256, place // 65536], 1)
    images[:, 3] = test
    return images.view(n, *MARKED)


class ObservedData:
    """A data set that notes which of its splits are read, and hands some of them out with other numbers."""

    def __init__(self, data: Data, changed: Collection[str] = ()) -> None:
        self._data, self._changed = data, changed
        self.read: set[str] = set()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._data, name)

    def open(self, root: Path | None, cache: Path | None) -> Reader:
        """See `Data`."""
        reader = self._data.open(root, cache)

        def read(split: str) -> Any:
            self.read.add(split)
            return self._handed_out(split, reader(split))

        return read

    def make(self) -> Mapping[str, Any]:
        """See `Generated`."""
        made: Mapping[str, Any] = self._data.make()  # type: ignore[attr-defined]
        return _Noted({split: self._handed_out(split, one) for split, one in made.items()}, self.read)

    def _handed_out(self, split: str, content: Any) -> Any:
        return _altered(content) if split in self._changed else content


class _Noted(dict[str, Any]):
    """Splits that were made; those that are looked up are noted in a set."""

    def __init__(self, made: Mapping[str, Any], read: set[str]) -> None:
        super().__init__(made)
        self._read = read

    def __getitem__(self, split: str) -> Any:
        self._read.add(split)
        return super().__getitem__(split)


def _altered(content: Any) -> Any:
    """Return tensors, or containers of them, with other numbers in the same range, in the same form."""
    if isinstance(content, Batch):
        whole = content.part(0, len(content))
        return Batch(weight=whole.weight, **{name: _altered(field) for name, field in whole.fields.items()})
    if isinstance(content, Mapping):
        return {key: _altered(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return type(content)(_altered(value) for value in content)
    if not isinstance(content, Tensor) or not content.numel():
        return content
    if content.dtype == torch.bool:
        return ~content
    return content.max() + content.min() - content  # whole numbers stay within what they are indices of
