"""Mini-batches made on the device from a uint8 training set: gathered, cropped, flipped, normalised.

`batch(step)` is a pure function of (seed, step): the order of an epoch comes from the run's `order` stream,
the augmentation of a step from its `augment` stream. Random numbers are always drawn on the CPU, so that
every device and every optimizer gets the same batches.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from suite.errors import SteppeError
from suite.seeds import Streams

if TYPE_CHECKING:
    from suite.data.dataset import Dataset, Draw
    from suite.data.splits import TrainingData


@dataclass(frozen=True)
class Augmentation:
    """`crop:p` pads p zero pixels on each side and crops at random; `flip` mirrors half of the images.

    >>> Augmentation.parse(("crop:4", "flip"))
    Augmentation(padding=4, flip=True)
    """

    padding: int = 0
    flip: bool = False

    @classmethod
    def parse(cls, names: tuple[str, ...]) -> Augmentation:
        """Parse a task's `augment`; raises SteppeError for names other than `crop:N` and `flip`."""
        padding, flip = 0, False
        for name in names:
            kind, _, amount = name.partition(":")
            if name == "flip":
                flip = True
            elif kind == "crop" and amount.isdecimal():
                padding = int(amount)
            else:
                raise SteppeError(f"unknown augmentation {name!r}; valid: crop:N (N pixels of padding), flip")
        return cls(padding, flip)


class Normalize:
    """uint8 images (n, H, W, C) to float32 (n, C, H, W): (x / 255 - mean) / std as one multiply and add.

    Works on rows of W * C values, with mean and std repeated over the row: a broadcast over three channels
    takes four times as long as the arithmetic.
    """

    def __init__(self, dataset: Dataset, device: torch.device | str, channels_last: bool) -> None:
        width = dataset.shape[2]
        mean, std = (torch.tensor(v, dtype=torch.float64) for v in (dataset.mean, dataset.std))
        self._scale = (1.0 / (255.0 * std)).repeat(width).float().to(device)
        self._shift = (-mean / std).repeat(width).float().to(device)
        self._channels_last = channels_last

    def __call__(self, images: Tensor) -> Tensor:
        """Normalise contiguous uint8 images (n, H, W, C)."""
        n, height, width, channels = images.shape
        rows = torch.addcmul(self._shift, images.view(n, height, width * channels).float(), self._scale)
        out = rows.view(n, height, width, channels).permute(0, 3, 1, 2)
        return out if self._channels_last else out.contiguous()


class TrainingBatches:
    """The training set on the device, and its augmented mini-batches in the order of the run's streams."""

    def __init__(
        self,
        data: TrainingData,
        task: Draw,
        dataset: Dataset,
        streams_seed: int,
        device: torch.device | str,
        channels_last: bool = True,
    ) -> None:
        self.n = len(data.y)
        self.batch_size = task.batch_size
        self.steps_per_epoch = -(-self.n // task.batch_size)
        """Steps in one pass over the training set; the last mini-batch may be smaller."""
        self._device = torch.device(device)
        self._streams = Streams(streams_seed)
        self._epoch = -1
        self._augment = Augmentation.parse(task.augment)
        self._normalize = Normalize(dataset, device, channels_last)
        self._targets = data.y.to(device)
        self._shape = dataset.shape
        self._windows = _windows(data.x.to(device), self._augment.padding)

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        """Return the batch of a 0-based step: normalised float32 inputs (n, C, H, W), targets int64 (n,)."""
        epoch, position = divmod(step, self.steps_per_epoch)
        if epoch != self._epoch:
            self._order = torch.randperm(self.n, generator=self._streams.generator("order", epoch))
            self._epoch = epoch
        chosen = self._order[position * self.batch_size : (position + 1) * self.batch_size]
        n = len(chosen)
        generator = self._streams.generator("augment", step)
        padding = self._augment.padding
        corner = torch.randint(2 * padding + 1, (2, n), generator=generator)
        where = torch.cat((chosen[None], corner)).to(self._device, non_blocking=True)
        channels, height, width = self._shape
        # Indexing the view by (image, y, x) gathers only the chosen crops, in one kernel.
        images = self._windows[where[0], where[1], where[2]].view(n, height, width, channels)
        if self._augment.flip:
            mirrored = torch.randint(2, (n,), generator=generator).nonzero().squeeze(1)
            mirrored = mirrored.to(self._device, non_blocking=True)
            images.index_copy_(0, mirrored, images.index_select(0, mirrored).flip(2))
        return self._normalize(images), self._targets.index_select(0, where[0])


def _windows(images: Tensor, padding: int) -> Tensor:
    """Return all crops of all zero-padded images: a view (N, 2p + 1, 2p + 1, H, W * C) of one NHWC buffer."""
    n, channels, height, width = images.shape
    wide, high = width + 2 * padding, height + 2 * padding
    padded = images.new_zeros((n, high, wide, channels))
    padded[:, padding : padding + height, padding : padding + width] = images.permute(0, 2, 3, 1)
    row = wide * channels
    offsets = 2 * padding + 1
    return padded.as_strided(
        (n, offsets, offsets, height, width * channels), (high * row, row, channels, row, 1)
    )


def eval_batches(
    x: Tensor,
    y: Tensor,
    dataset: Dataset,
    device: torch.device | str,
    batch_size: int = 500,
    channels_last: bool = True,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield normalised batches of images uint8 (N, C, H, W) in their own order, without augmentation."""
    normalize = Normalize(dataset, device, channels_last)
    for low in range(0, len(y), batch_size):
        images = x[low : low + batch_size].to(device).permute(0, 2, 3, 1).contiguous()
        yield normalize(images), y[low : low + batch_size].to(device)
