"""CIFAR as torchvision downloads it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from suite.data.source import Arrays
from suite.errors import SteppeError
from suite.files import file_digest

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class TorchvisionSource:
    """CIFAR-10 or CIFAR-100 as torchvision downloads it.

    The batches are pickles: every MD5 sum is checked before anything is unpickled.
    """

    dataset: str
    folder: str
    base_folder: str
    checksum: str
    """MD5 sum of the archive; torchvision knows those of its files."""

    def available(self, root: Path | None) -> bool:
        """Whether the extracted archive exists."""
        return root is not None and (root / self.folder / self.base_folder).is_dir()

    def verify(self, root: Path | None) -> None:
        """Check the MD5 sum of every batch; SteppeError names a missing or corrupt file."""
        from torchvision import datasets

        if root is None:
            raise SteppeError(f"no data folder is given for {self.folder}: set STEPPE_DATA or --data")
        kind = getattr(datasets, self.dataset)
        meta = [kind.meta["filename"], kind.meta["md5"]]
        for name, md5 in [*kind.train_list, *kind.test_list, meta]:
            path = root / self.folder / self.base_folder / name
            if not path.is_file() or file_digest(path, "md5") != md5:
                state = "corrupt" if path.is_file() else "missing"
                raise SteppeError(
                    f"{state} data file {path}: delete {path.parent} and run `steppe prepare` again"
                )

    def load(self, root: Path | None) -> Arrays:
        """Verify and read the batches; SteppeError names a missing or corrupt file."""
        import torch
        from torchvision import datasets

        self.verify(root)
        assert root is not None
        kind = getattr(datasets, self.dataset)
        parts: list[Tensor] = []
        for train in (True, False):
            data = kind(str(root / self.folder), train=train, download=False)
            parts.append(torch.from_numpy(data.data).permute(0, 3, 1, 2).contiguous())
            parts.append(torch.tensor(data.targets, dtype=torch.int64))
        return Arrays(*parts)

    def prepare(self, root: Path) -> None:
        """Download the archive unless its files are there, and verify them."""
        from torchvision import datasets

        try:
            getattr(datasets, self.dataset)(str(root / self.folder), download=True)
        except (OSError, RuntimeError) as error:
            raise SteppeError(f"cannot download {self.dataset} to {root / self.folder}: {error}") from error
