"""Sources of data sets. Importing this loads no torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Arrays:
    """A whole data set: images uint8 (N, C, H, W), labels int64 (N,) in [0, n_classes)."""

    train_x: Tensor
    train_y: Tensor
    test_x: Tensor
    test_y: Tensor


class Source(Protocol):
    """The source of a data set. Sources are frozen: their content is declared, not discovered."""

    @property
    def checksum(self) -> str:
        """Identity of the content, declared in advance, so that planning reads no data."""
        ...

    def available(self, root: Path | None) -> bool:
        """Whether the files exist; cheap, because it reads no file."""
        ...

    def verify(self, root: Path | None) -> None:
        """Check the files against their checksums; SteppeError names a missing or corrupt file."""
        ...

    def prepare(self, root: Path) -> None:
        """Download missing files and verify them; no other part of the suite downloads data."""
        ...


class ImageSource(Source, Protocol):
    """A source of images with one label each."""

    def load(self, root: Path | None) -> Arrays:
        """Verify checksums and decode; SteppeError names a missing or corrupt file."""
        ...


class Images(Protocol):
    """The fields of a data set that the cache of decoded images uses."""

    @property
    def name(self) -> str:
        """Its name."""
        ...

    @property
    def source(self) -> ImageSource:
        """Its source."""
        ...

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of an image (C, H, W)."""
        ...
