"""Images in Hugging Face parquet files."""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from suite.data.source import Arrays
from suite.data.sources.decode import stack_images
from suite.errors import SteppeError
from suite.files import file_digest

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class DeclaredFile:
    """A file of a data set, identified by the SHA-256 of its content."""

    name: str
    sha256: str


@dataclass(frozen=True)
class ParquetSource:
    """Hugging Face image parquet: column `image` holds {bytes, path}, column `label` an integer."""

    folder: str
    train: DeclaredFile
    test: DeclaredFile
    shape: tuple[int, int, int]
    image: str = "img"
    label: str = "label"

    @property
    def checksum(self) -> str:
        """The SHA-256 over the declared checksums of the two files."""
        return hashlib.sha256(f"{self.train.sha256} {self.test.sha256}".encode()).hexdigest()

    def available(self, root: Path | None) -> bool:
        """Whether both files exist."""
        return root is not None and all(
            (root / self.folder / f.name).is_file() for f in (self.train, self.test)
        )

    def load(self, root: Path | None) -> Arrays:
        """Verify both files, then decode every image; SteppeError names a missing or corrupt file."""
        paths = [self._verified(root, declared) for declared in (self.train, self.test)]
        train_x, train_y = self._decode(paths[0])
        test_x, test_y = self._decode(paths[1])
        return Arrays(train_x, train_y, test_x, test_y)

    def verify(self, root: Path | None) -> None:
        """Check both files; SteppeError names a missing or corrupt one."""
        for declared in (self.train, self.test):
            self._verified(root, declared)

    def prepare(self, root: Path) -> None:
        """Verify; this source has no public address, so the user must copy missing files."""
        self.verify(root)

    def _verified(self, root: Path | None, declared: DeclaredFile) -> Path:
        if root is None:
            raise SteppeError(f"no data folder is given for {self.folder}: set STEPPE_DATA or --data")
        path = root / self.folder / declared.name
        if not path.is_file():
            raise SteppeError(f"missing data file {path}: it has no public download, copy it there")
        found = file_digest(path)
        if found != declared.sha256:
            raise SteppeError(
                f"corrupt data file {path}: its SHA-256 is {found[:12]}, declared is {declared.sha256[:12]}: "
                "replace it with a fresh copy"
            )
        return path

    def _decode(self, path: Path) -> tuple[Tensor, Tensor]:
        import pyarrow.parquet as pq
        import torch

        table = pq.read_table(path, columns=[self.image, self.label])
        encoded: list[dict[str, Any]] = table.column(self.image).to_pylist()
        files = (io.BytesIO(row["bytes"]) for row in encoded)
        images = stack_images(files, len(encoded), self.shape, path, resize=False)
        labels = table.column(self.label).to_numpy().astype(np.int64)
        return torch.from_numpy(images), torch.from_numpy(labels)
