"""Substitutes for a task's data: fake images, and data sets that record or alter their splits."""

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
"""Shape of a marked image: three bytes of position, one that is 255 in the test set, four zero bytes."""


@dataclass(frozen=True)
class FakeImages:
    """A source of n_train + n_test images of one shape; images of shape `MARKED` encode their position."""

    n_train: int
    n_test: int
    n_classes: int
    shape: tuple[int, int, int]
    checksum: str = "fake"

    def available(self, root: Path | None) -> bool:
        """Return True: the images are synthetic."""
        return True

    def verify(self, root: Path | None) -> None:
        """Do nothing: the images are synthetic."""

    def prepare(self, root: Path) -> None:
        """Do nothing: the images are synthetic."""

    def load(self, root: Path | None) -> Arrays:
        """Generate the images; labels cycle through the classes."""
        cut, n = self.n_train, self.n_train + self.n_test
        labels = torch.cat([torch.arange(cut), torch.arange(self.n_test)]) % self.n_classes
        if self.shape == MARKED:
            images = torch.cat([_mark(cut, 0), _mark(self.n_test, 255)])
        else:
            generator = torch.Generator().manual_seed(0)
            images = torch.randint(256, (n, *self.shape), dtype=torch.uint8, generator=generator)
        return Arrays(images[:cut], labels[:cut], images[cut:], labels[cut:])


def with_fake_images(dataset: Dataset, n_train: int, marked: bool = False) -> Dataset:
    """Replace a data set's source by `FakeImages`, in its own shape or in that of marked images."""
    shape = MARKED if marked else dataset.shape
    source = FakeImages(n_train, 4 * dataset.n_classes, dataset.n_classes, shape)
    mean, std = dataset.mean[: shape[0]], dataset.std[: shape[0]]
    return dataclasses.replace(dataset, source=source, shape=shape, mean=mean, std=std)


def positions(images: Tensor) -> Tensor:
    """Return the positions (n,) of marked images in their source; -1 for an image of the test set."""
    head = images.flatten(1)[:, :4].to(torch.int64)
    position = head[:, 0] + 256 * head[:, 1] + 65536 * head[:, 2]
    return torch.where(head[:, 3] == 0, position, -1)


def _mark(n: int, test: int) -> Tensor:
    images, position = torch.zeros(n, 8, dtype=torch.uint8), torch.arange(n)
    images[:, :3] = torch.stack([position % 256, position // 256 % 256, position // 65536], 1)
    images[:, 3] = test
    return images.view(n, *MARKED)


class ObservedData:
    """A data set that records which splits are read, and alters the content of those in `changed`."""

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
            return self._content(split, reader(split))

        return read

    def make(self) -> Mapping[str, Any]:
        """See `Generated`."""
        made: Mapping[str, Any] = self._data.make()  # type: ignore[attr-defined]
        return _Recorded({split: self._content(split, one) for split, one in made.items()}, self.read)

    def _content(self, split: str, content: Any) -> Any:
        return _altered(content) if split in self._changed else content


class _Recorded(dict[str, Any]):
    """Generated splits; a lookup adds the split's name to a set."""

    def __init__(self, made: Mapping[str, Any], read: set[str]) -> None:
        super().__init__(made)
        self._read = read

    def __getitem__(self, split: str) -> Any:
        self._read.add(split)
        return super().__getitem__(split)


def _altered(content: Any) -> Any:
    """Return tensors, or containers of them, of the same form with other numbers in the same range."""
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
    return content.max() + content.min() - content  # keeps the range, so that indices stay valid
