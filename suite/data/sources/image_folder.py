"""Images in one folder per class."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from suite.data.source import Arrays
from suite.data.sources.decode import stack_images
from suite.errors import SteppeError
from suite.files import file_digest

if TYPE_CHECKING:
    from torch import Tensor

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png"})


@dataclass(frozen=True)
class ImageFolderSource:
    """Images in `folder`/train/<class>/ and `folder`/val/<class>/; classes are numbered alphabetically.

    Each image is scaled so that it just covers the declared (H, W) and cropped at the centre.
    """

    folder: str
    shape: tuple[int, int, int]
    checksum: str
    """`folder_digest` of the two folders."""
    train: str = "train"
    test: str = "val"

    def available(self, root: Path | None) -> bool:
        """Whether both folders exist."""
        return root is not None and all(
            (root / self.folder / part).is_dir() for part in (self.train, self.test)
        )

    def verify(self, root: Path | None) -> None:
        """Check every image; SteppeError if the folder is missing or its images do not match the checksum."""
        self._verified(root)

    def load(self, root: Path | None) -> Arrays:
        """Verify and decode; SteppeError if the folder is missing or its images do not match the checksum."""
        base = self._verified(root)
        classes = sorted(path.name for path in (base / self.train).iterdir() if path.is_dir())
        train_x, train_y = self._decode(base / self.train, classes)
        test_x, test_y = self._decode(base / self.test, classes)
        return Arrays(train_x, train_y, test_x, test_y)

    def prepare(self, root: Path) -> None:
        """Verify; the user provides the image folder."""
        self.verify(root)

    def _verified(self, root: Path | None) -> Path:
        if root is None or not self.available(root):
            raise SteppeError(
                f"no image folder {self.folder} with {self.train}/ and {self.test}/ under {root}: "
                "set STEPPE_DATA or --data to the folder that holds it"
            )
        base = root / self.folder
        found = folder_digest(base, (self.train, self.test))
        if found != self.checksum:
            raise SteppeError(
                f"image folder {base} has checksum {found}, declared is {self.checksum}: "
                "restore its files, or declare the new checksum"
            )
        return base

    def _decode(self, base: Path, classes: list[str]) -> tuple[Tensor, Tensor]:
        import torch

        paths = _images(base)
        labels = []
        for path in paths:
            if path.parent.name not in classes:
                raise SteppeError(
                    f"class folder {path.parent} has no counterpart in {base.parent / self.train}"
                )
            labels.append(classes.index(path.parent.name))
        images = stack_images(paths, len(paths), self.shape, base, resize=True)
        return torch.from_numpy(images), torch.tensor(labels, dtype=torch.int64)


def folder_digest(base: Path, parts: Iterable[str] = ("train", "val")) -> str:
    """Return the SHA-256 over path and content of every image, the checksum of an `ImageFolderSource`."""
    total = hashlib.sha256()
    for part in parts:
        for path in _images(base / part):
            total.update(f"{path.relative_to(base).as_posix()} {file_digest(path)}\n".encode())
    return total.hexdigest()


def _images(base: Path) -> list[Path]:
    return sorted(path for path in base.glob("*/*") if path.suffix.lower() in IMAGE_SUFFIXES)
