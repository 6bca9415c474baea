"""Where a data set comes from. Importing this loads no torch."""

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
    """Where a data set comes from. Sources are frozen: all that they know is declared, not found."""

    @property
    def checksum(self) -> str:
        """Identity of the content, known beforehand, so that planning reads no data."""
        ...

    def available(self, root: Path | None) -> bool:
        """Whether the files are there; cheap, nothing is read."""
        ...

    def verify(self, root: Path | None) -> None:
        """Check the files against their checksums; SteppeError names the one that is missing or corrupt."""
        ...

    def prepare(self, root: Path) -> None:
        """Download what is missing and verify it; nothing else in the suite downloads."""
        ...


class ImageSource(Source, Protocol):
    """A source of images with one label each."""

    def load(self, root: Path | None) -> Arrays:
        """Verify checksums and decode; SteppeError names the file that is missing or corrupt."""
        ...


class Images(Protocol):
    """What a cache of decoded images must know of their data set."""

    @property
    def name(self) -> str:
        """Its name."""
        ...

    @property
    def source(self) -> ImageSource:
        """Where it comes from."""
        ...

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of an image (C, H, W)."""
        ...
