"""What a data set is, and which of a task's data sets is at hand. Importing this loads no torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from suite.errors import SteppeError, unknown

if TYPE_CHECKING:
    from torch import Tensor

    from suite.spec import Task


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

    def load(self, root: Path | None) -> Arrays:
        """Verify checksums and decode; SteppeError names the file that is missing or corrupt."""
        ...

    def prepare(self, root: Path) -> None:
        """Download what is missing and verify it; nothing else in the suite downloads."""
        ...


@dataclass(frozen=True)
class Dataset:
    """A named data set with its normalisation: (x / 255 - mean) / std, one value a channel."""

    name: str
    source: Source
    n_classes: int
    shape: tuple[int, int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    n_train: int | None = None
    """Images of its training part, so that a plan can forecast the cost; None where it is not declared."""


def choose_dataset(task: Task, root: Path | None, name: str = "") -> Dataset:
    """Return the data set named, or the first of `task.data` that is available under `root`.

    Raises SteppeError for a name that the task does not list, and where nothing is available.
    """
    by_name = {dataset.name: dataset for dataset in task.data}
    if name and name not in by_name:
        raise unknown(f"data set of task {task.name}", name, by_name)
    wanted = [by_name[name]] if name else list(task.data)
    for dataset in wanted:
        if dataset.source.available(root):
            return dataset
    names = " or ".join(dataset.name for dataset in wanted)
    where = f"under {root}" if root is not None else "as no data folder is given"
    raise SteppeError(
        f"task {task.name}: data set {names} not found {where}: run `steppe prepare {task.name}`, "
        f"or point STEPPE_DATA (or --data) at the folder that holds it"
    )
