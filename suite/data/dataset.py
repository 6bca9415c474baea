"""What a data set is. Importing this loads no torch."""

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
"""The validation images with their true labels, where a task's labels are noisy."""

Reader = Callable[[str], Any]
"""Reads a split of a data set by its name; what comes is what the task's problem understands."""


class Draw(Protocol):
    """What an `ImageTask`, whose file imports this one, says of the images that it draws."""

    @property
    def n_drawn(self) -> int | None:
        """Training images drawn from the set, validation included; None is all."""
        ...

    @property
    def n_validation(self) -> int:
        """Images of these that are held out."""
        ...

    @property
    def label_noise(self) -> float:
        """Share of the labels that are flipped."""
        ...

    @property
    def label_noise_kind(self) -> str:
        """How they are flipped."""
        ...

    @property
    def batch_size(self) -> int:
        """Images of a mini-batch."""
        ...

    @property
    def augment(self) -> tuple[str, ...]:
        """Augmentations of a mini-batch, in order."""
        ...


class Data(Protocol):
    """A named data set, as a task lists it."""

    @property
    def name(self) -> str:
        """Its name in tables; another content has another name."""
        ...

    @property
    def source(self) -> Source:
        """Where it comes from."""
        ...

    def open(self, root: Path | None, cache: Path | None) -> Reader:
        """Return what reads its splits; `root` holds the data sets, `cache` takes decoded copies."""
        ...


@dataclass(frozen=True)
class Generated:
    """A data set that a function makes on the spot: all its splits, each under its name.

    Its identity is its name and version: raise the version where `make` changes. The bytes may differ in the
    last digits from one kind of machine to another; a record holds the SHA-256 of what was made.
    """

    name: str
    make: Callable[[], Mapping[str, Batch]]
    version: str = "1"

    @property
    def source(self) -> Generated:
        """Itself: nothing lies on a disk."""
        return self

    @property
    def checksum(self) -> str:
        """SHA-256 of name and version."""
        return sha256_text(f"generated {self.name} {self.version}")

    def available(self, root: Path | None) -> bool:
        """Say yes: nothing is needed."""
        return True

    def verify(self, root: Path | None) -> None:
        """Check nothing."""

    def prepare(self, root: Path) -> None:
        """Fetch nothing."""

    def open(self, root: Path | None, cache: Path | None) -> Reader:
        """Make the splits."""
        made = self.make()

        def read(split: str) -> Batch:
            if split not in made:
                raise unknown(f"split of data set {self.name}", split, made)
            return made[split]

        return read


@dataclass(frozen=True)
class Dataset:
    """A named data set with its normalisation: (x / 255 - mean) / std, one value a channel."""

    name: str
    source: ImageSource
    n_classes: int
    shape: tuple[int, int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    n_train: int | None = None
    """Images of its training part, so that a plan can forecast the cost; None where it is not declared."""

    def open(self, root: Path | None, cache: Path | None) -> Reader:
        """Read `train` or `test`: images uint8 (N, C, H, W) and labels (N,)."""

        def read(split: str) -> tuple[Tensor, Tensor]:
            from suite.data.cache import load_cached

            if split not in ("train", "test"):
                raise unknown(f"split of data set {self.name}", split, ("train", "test"))
            return load_cached(self, split, root, cache)

        return read
