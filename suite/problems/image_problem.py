"""Classification of images that fit in memory: the problem of an `ImageTask`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol, cast

import torch
from torch import Tensor, nn

from suite.batch import Batch
from suite.data.batches import TrainingBatches, eval_batches
from suite.data.dataset import CLEAN, Dataset, Draw
from suite.data.splits import training_data
from suite.problem import EVAL_BATCH, ClassificationLoss, Problem, Setting
from suite.seeds import TASK_SEED, Streams


class Images(Draw, Protocol):
    """The fields of an `ImageTask` used here; a protocol because the file of `ImageTask` imports this one."""

    @property
    def data(self) -> tuple[Dataset, ...]:
        """The admissible data sets."""
        ...

    @property
    def model(self) -> Callable[[], nn.Module]:
        """The function that builds the network."""
        ...


class ImageClassification(ClassificationLoss, Problem):
    """Classification of uint8 images, which are cropped, flipped and normalised on the device."""

    memory_format = torch.channels_last

    def __init__(self, setting: Setting) -> None:
        super().__init__(setting)
        self._task = cast(Images, setting.task)
        self._dataset = next(one for one in self._task.data if one.name == setting.data.name)
        self.data = training_data(self._task, self._dataset.n_classes, *setting.splits["train"])
        self._train = TrainingBatches(self.data, self._task, self._dataset, setting.seed, setting.device)
        self.n_train = len(self.data.y)
        self.identity = {"split": self.data.split_checksum}
        if self._task.label_noise:
            self.identity["label_noise"] = self.data.noise_checksum

    def model(self) -> nn.Module:
        """See `Problem`."""
        return self._task.model()

    def batch(self, step: int) -> Batch:
        """See `Problem`."""
        inputs, targets = self._train.batch(step)
        return Batch(inputs=inputs, targets=targets)

    def batches(self, split: str) -> Iterator[Batch]:
        """See `Problem`."""
        data = self.data
        if split == "train":
            return self._of(data.x, data.y)
        if split == "validation":
            return self._of(data.val_x, data.val_y)
        if split == CLEAN:
            return self._of(data.val_x, data.val_y_clean)
        return self._of(*self.setting.splits[split])

    def measured(self, n: int) -> Batch:
        """See `Problem`."""
        x, y = self.data.x, self.data.y
        order = torch.randperm(len(y), generator=Streams(TASK_SEED).generator("measure"))
        chosen = order[: min(n, len(y))].sort().values.to(y.device)
        some = list(self._of(x[chosen], y[chosen]))
        return Batch(
            inputs=torch.cat([batch.inputs for batch in some]),
            targets=torch.cat([batch.targets for batch in some]),
        )

    def _of(self, x: Tensor, y: Tensor) -> Iterator[Batch]:
        for inputs, targets in eval_batches(x, y, self._dataset, self.device, EVAL_BATCH):
            yield Batch(inputs=inputs, targets=targets)
