"""Data sets: the interface, generated data, and images. Importing this loads no torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from suite.data.source import ImageSource, Source
from suite.errors import unknown
from suite.spec import sha256_text

if TYPE_CHECKING:
    from torch import Tensor

    from suite.batch import Batch

CLEAN = "validation_clean"
"""Split of the validation images with their true labels, in tasks with label noise."""

Reader = Callable[[str], Any]
"""Reads a split of a data set by its name, in the form that the task's problem expects."""


class Draw(Protocol):
    """The fields of an `ImageTask` used here; a protocol because the file of `ImageTask` imports this one."""

    @property
    def n_drawn(self) -> int | None:
        """Training images drawn from the set, validation included; None: all."""
        ...

    @property
    def n_validation(self) -> int:
        """Number of these images that are held out."""
        ...

    @property
    def label_noise(self) -> float:
        """Fraction of the labels that are corrupted."""
        ...

    @property
    def label_noise_kind(self) -> str:
        """Distribution of the corrupted labels, one of `suite.data.splits.NOISE_KINDS`."""
        ...

    @property
    def batch_size(self) -> int:
        """Images per mini-batch."""
        ...

    @property
    def augment(self) -> tuple[str, ...]:
        """Augmentations of a mini-batch, in order."""
        ...


class Data(Protocol):
    """A named data set in the list of a task."""

    @property
    def name(self) -> str:
        """Its name in tables; different content has a different name."""
        ...

    @property
    def source(self) -> Source:
        """The source of its content."""
        ...

    def open(self, root: Path | None, cache: Path | None) -> Reader:
        """Return a reader of its splits; `root` holds the data sets, `cache` receives decoded copies."""
        ...


@dataclass(frozen=True)
class Generated:
    """A data set that a function generates: all its splits by name.

    Its identity is its name and version: raise the version if `make` changes. The values may differ in the
    last digits between kinds of machines; a record holds the SHA-256 of the generated splits.
    """

    name: str
    make: Callable[[], Mapping[str, Batch]]
    version: str = "1"

    @property
    def source(self) -> Generated:
        """The data set itself, because it has no files."""
        return self

    @property
    def checksum(self) -> str:
        """SHA-256 of name and version."""
        return sha256_text(f"generated {self.name} {self.version}")

    def available(self, root: Path | None) -> bool:
        """Return True: no file is needed."""
        return True

    def verify(self, root: Path | None) -> None:
        """Do nothing: there is no file to check."""

    def prepare(self, root: Path) -> None:
        """Do nothing: there is no file to download."""

    def open(self, root: Path | None, cache: Path | None) -> Reader:
        """Generate the splits; return their reader."""
        made = self.make()

        def read(split: str) -> Batch:
            if split not in made:
                raise unknown(f"split of data set {self.name}", split, made)
            return made[split]

        return read


@dataclass(frozen=True)
class Dataset:
    """A named set of images with its normalisation: (x / 255 - mean) / std, one value per channel."""

    name: str
    source: ImageSource
    n_classes: int
    shape: tuple[int, int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    n_train: int | None = None
    """Images of its training part, from which a plan forecasts the cost; None if not declared."""

    def open(self, root: Path | None, cache: Path | None) -> Reader:
        """Return a reader of `train` and `test`: images uint8 (N, C, H, W) and labels (N,)."""

        def read(split: str) -> tuple[Tensor, Tensor]:
            from suite.data.cache import load_cached

            if split not in ("train", "test"):
                raise unknown(f"split of data set {self.name}", split, ("train", "test"))
            return load_cached(self, split, root, cache)

        return read
